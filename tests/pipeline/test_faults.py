"""A fault in a template or a missing permission shows in what happens: the pipeline runs the deployed thing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from local.demo import PARAMETERS
from local.organisation import CHECKOUT, LocalOrganisation
from local.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path


def _checkout(folder: Path, file: str, old: str, new: str) -> Path:
    """Copy what is deployed, with one text replaced in one template, wherever it stands."""
    for name in ("functions", "layers", "infra"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "template.yaml", folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    return folder


def test_a_letter_missing_in_a_rule_means_that_nothing_happens(tmp_path: Path) -> None:
    """The events really pass the rules of the template."""
    checkout = _checkout(tmp_path, "template.yaml", "            - CreateVpc\n", "            - CreateVp\n")
    with LocalOrganisation(parameters=PARAMETERS, checkout=checkout, schedules_at_once=False) as organisation:
        stage = Stage(organisation)
        vpc_id = stage.create_vpc("10.0.0.0/16")
        stage.settle()
        assert stage.endpoints(vpc_id) == {}


def test_an_action_missing_in_the_remediator_is_a_finding_that_says_so(tmp_path: Path) -> None:
    """The functions really act with the roles of the templates, and a refusal ends in the finding."""
    checkout = _checkout(
        tmp_path, "infra/member-account.yaml", "Action: ec2:CreateVpcEndpoint", "Action: ec2:DescribeVpcs"
    )
    with LocalOrganisation(parameters=PARAMETERS, checkout=checkout, schedules_at_once=False) as organisation:
        stage = Stage(organisation)
        vpc_id = stage.create_vpc("10.0.0.0/16")
        stage.later(minutes=6)
        assert stage.endpoints(vpc_id) == {}
        assert stage.finding("VPCE.1", vpc_id) == "FAILED"
        assert "UnauthorizedOperation" in stage.description("VPCE.1", vpc_id)


def test_a_kill_switch_that_cannot_be_read_stops_all_changes(tmp_path: Path) -> None:
    """It fails closed: the finding says that changes are stopped."""
    checkout = _checkout(tmp_path, "template.yaml", "Action: ssm:GetParameter\n", "Action: ssm:GetParameters\n")
    with LocalOrganisation(parameters=PARAMETERS, checkout=checkout, schedules_at_once=False) as organisation:
        stage = Stage(organisation)
        vpc_id = stage.create_vpc("10.0.0.0/16")
        stage.later(minutes=6)
        assert stage.endpoints(vpc_id) == {}
        assert stage.finding("VPCE.1", vpc_id) == "FAILED"
        assert "Changes are stopped" in stage.description("VPCE.1", vpc_id)


def test_an_action_missing_in_the_observer_leaves_everything_as_it_is_and_is_reported(tmp_path: Path) -> None:
    """What cannot be seen is not judged: no change, no finding, and the target is a dead letter with the reason."""
    checkout = _checkout(tmp_path, "infra/member-account.yaml", "                  - ec2:DescribeVpcs\n", "")
    with LocalOrganisation(parameters=PARAMETERS, checkout=checkout, schedules_at_once=False) as organisation:
        stage = Stage(organisation)
        vpc_id = stage.create_vpc("10.0.0.0/16")
        stage.settle()
        assert stage.endpoints(vpc_id) == {}
        assert stage.findings() == []
        (letter,) = organisation.dead_letters()
        assert vpc_id in letter.body
        assert "UnauthorizedOperation" in letter.attributes["reason"]
