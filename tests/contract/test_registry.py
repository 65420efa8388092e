"""The registry of controls, the policy's schema and the pages agree."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from portcullis.cli import controls_page
from portcullis.cli.policy_file import SCHEMA
from portcullis.controls import CONTROLS, Control
from portcullis.policy import Mode

from tests.contract import templates
from tests.fakes import asff

_SCHEMA: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
_PLACES: list[dict[str, Any]] = [
    part["properties"]["controls"]["properties"] for part in (_SCHEMA, _SCHEMA["$defs"]["scope"])
]
"""What may stand under `controls`, at the top level and in a scope."""


def test_ids_are_distinct_and_well_formed() -> None:
    """An id is a family and a number; findings are told apart by it."""
    ids = [control.id for control in CONTROLS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Z]+\.\d+", control_id) for control_id in ids)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_a_control_fits_into_a_finding(control: Control) -> None:
    """Title and severity are what the finding format allows."""
    assert len(f"{control.id} {control.title}") <= asff.MAX_TITLE
    assert control.severity in ("LOW", "MEDIUM", "HIGH", "CRITICAL")


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_a_control_has_a_file_of_its_own(control: Control) -> None:
    """One control, one file, named after it."""
    name = control.id.lower().replace(".", "_")
    assert (templates.ROOT / "layers" / "core" / "portcullis" / "controls" / f"{name}.py").is_file()


def test_the_schema_knows_the_controls_of_the_registry_and_no_others() -> None:
    """A policy can name every control, in a scope and in an exemption, too, and none that does not exist."""
    ids = [control.id for control in CONTROLS]
    for place in _PLACES:
        assert {name: entry["$ref"] for name, entry in place.items()} == {name: f"#/$defs/{name}" for name in ids}
    assert _SCHEMA["$defs"]["exemption"]["properties"]["controls"]["items"] == {"enum": ids}


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_the_schema_knows_the_parameters_that_a_control_documents(control: Control) -> None:
    """What the page says can be set can be set, and the other way round."""
    documented = {one.name for one in (*controls_page.OF_EVERY_CONTROL, *control.parameters)}
    assert _SCHEMA["$defs"][control.id]["properties"].keys() == documented


def test_the_schema_knows_the_modes() -> None:
    """The schema's modes are those that the code understands."""
    assert _SCHEMA["$defs"]["mode"]["enum"] == [mode.value for mode in Mode]


def test_the_controls_page_is_the_one_that_the_registry_generates() -> None:
    """docs/controls.md never drifts; `make docs` writes it."""
    page = (templates.ROOT / "docs" / "controls.md").read_text(encoding="utf-8")
    assert page == controls_page.render(CONTROLS)
