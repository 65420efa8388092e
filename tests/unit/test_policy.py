"""The compiled policy: what it says, and that anything else is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portcullis.errors import PolicyError
from portcullis.policy import Mode, load, parse

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {
    "version": 1,
    "controls": {"VPCE.1": {"mode": "remediate", "services": ["s3"]}, "ROLE.1": {"mode": "off"}},
}


def test_modes_and_parameters_are_kept() -> None:
    """A parameter that is not given has the caller's default; the mode is no parameter."""
    policy = parse(GOOD)
    assert policy.mode("VPCE.1") is Mode.REMEDIATE
    assert policy.mode("ROLE.1") is Mode.OFF
    assert policy.parameter("VPCE.1", "services", ["x"]) == ["s3"]
    assert policy.parameter("ROLE.1", "default_profile", "p") == "p"
    assert policy.parameter("VPCE.1", "mode", None) is None


def test_a_control_that_is_not_named_is_off() -> None:
    """A new control does nothing until somebody wants it."""
    policy = parse(GOOD)
    assert policy.mode("VPCE.2") is Mode.OFF
    assert policy.parameter("VPCE.2", "services", ["dynamodb"]) == ["dynamodb"]


@pytest.mark.parametrize("data", [None, [], "x", {}, {"version": 2, "controls": {}}, {"controls": {}}])
def test_another_version_is_refused(data: object) -> None:
    """The text says what to do."""
    with pytest.raises(PolicyError, match="not of version 1; run 'portcullis policy check'"):
        parse(data)


@pytest.mark.parametrize(
    "controls", [None, [], "x", {"VPCE.1": None}, {"VPCE.1": {}}, {"VPCE.1": {"mode": "approve"}}, {"VPCE.1": "off"}]
)
def test_a_damaged_policy_is_refused(controls: object) -> None:
    """Fail closed: no policy is better than half of one."""
    with pytest.raises(PolicyError, match="damaged"):
        parse({"version": 1, "controls": controls})


@settings(deadline=None, derandomize=True, database=None)
@given(
    controls=st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["off", "detect", "mode"]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["mode", "VPCE.1"]), inner),
        max_leaves=5,
    )
)
def test_any_data_gives_a_policy_or_a_refusal(controls: object) -> None:
    """Never another exception."""
    try:
        policy = parse({"version": 1, "controls": controls})
    except PolicyError:
        return
    assert all(isinstance(entry.mode, Mode) for entry in policy.controls.values())


def test_a_compiled_policy_is_loaded(tmp_path: Path) -> None:
    """From JSON, as the build writes it."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert load(path) == parse(GOOD)


@pytest.mark.parametrize("content", [b"", b"version: 1", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty, YAML or not text: the error names the file and the way out."""
    path = tmp_path / "policy.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match=r"policy\.json cannot be read: .*; build it with 'make build'"):
        load(path)
