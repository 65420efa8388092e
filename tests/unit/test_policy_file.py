"""The policy file: every fault at once, each with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.cli import policy_file
from portcullis.controls import CONTROLS
from portcullis.errors import PolicyError
from portcullis.policy import Mode, parse

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = Path(__file__).resolve().parents[2] / "layers" / "policy" / "policy.yaml"

Read = Any


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str | bytes], dict[str, Any]]:
    """Return a function that reads a policy from text."""

    def reader(content: str | bytes) -> dict[str, Any]:
        path = tmp_path / "policy.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return policy_file.read(path)

    return reader


@pytest.fixture
def faults(read: Callable[[str | bytes], dict[str, Any]]) -> Callable[[str | bytes], list[str]]:
    """Return a function that gives the faults of a policy that has some."""

    def finder(content: str | bytes) -> list[str]:
        with pytest.raises(PolicyError) as caught:
            read(content)
        return caught.value.faults

    return finder


def test_the_shipped_policy_is_valid() -> None:
    """It names every control of the registry, and its data is a policy."""
    data = policy_file.read(SHIPPED)
    assert set(data["controls"]) == {control.id for control in CONTROLS}
    assert parse(data).mode("VPCE.1") in Mode


def test_off_is_a_word(read: Read) -> None:
    """YAML 1.1 reads off, no and yes as booleans; a policy does not."""
    assert read("version: 1\ncontrols: {VPCE.1: {mode: off}}\n")["controls"]["VPCE.1"] == {"mode": "off"}


def test_an_alias_is_what_it_names(read: Read) -> None:
    """Anchors may be used to say a thing once."""
    data = read("version: 1\ncontrols:\n  VPCE.1: &x {mode: detect}\n  VPCE.2: *x\n")
    assert data["controls"]["VPCE.1"] == data["controls"]["VPCE.2"] == {"mode": "detect"}


def test_quotes_and_comments_change_nothing(read: Read) -> None:
    """It is YAML."""
    assert read("# a comment\nversion: 1\ncontrols:\n  'ROLE.1': {mode: \"detect\"}\n")["version"] == 1


ALL_AT_ONCE = """\
version: 2
owner: me
controls:
  VPCE.1:
    mode: fix
    services: [s3, dynamodb]
    service: s3
  VPCE.2:
    services: []
  VPCE.2:
    mode: detect
  ROLE.1:
    mode: true
    default_profile: role/with/path
  ROLE.9:
    mode: off
"""


def test_all_faults_are_told_at_once_in_the_order_of_their_lines(faults: Callable[[str], list[str]]) -> None:
    """One run of the check is enough to mend the file."""
    found = faults(ALL_AT_ONCE)
    assert [fault.split(":")[0] for fault in found] == [f"line {number}" for number in (1, 2, 5, 6, 7, 10, 13, 14, 15)]
    expected = (
        "version: 2 is not 1",
        "owner is unknown; known here: controls, version",
        "controls > VPCE.1 > mode: 'fix' is not one of ['off', 'detect', 'remediate']",
        "controls > VPCE.1 > services[1]: 'dynamodb' is not one of ['s3', 's3express']",
        "controls > VPCE.1 > service is unknown; known here: mode, services, unassociated_route_tables",
        "controls > VPCE.2 is given twice",
        "controls > ROLE.1 > mode: True is not one of ['off', 'detect', 'remediate']",
        "controls > ROLE.1 > default_profile: 'role/with/path' does not match ^[A-Za-z0-9_+=,.@-]{1,128}$",
        "controls > ROLE.9 is unknown; known here: ROLE.1, VPCE.1, VPCE.2",
    )
    assert tuple(fault.split(": ", 1)[1] for fault in found) == expected


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("version: 1\n", "the policy: 'controls' is a required property"),
        ("version: 1\ncontrols: {}\n", "line 2: controls: {} should be non-empty"),
        ("version: 1\ncontrols:\n  VPCE.1: {}\n", "line 3: controls > VPCE.1: 'mode' is a required property"),
        ("version: 1\ncontrols:\n", "line 2: controls: None is not of type 'object'"),
        ("version: '1'\ncontrols: {ROLE.1: {mode: off}}\n", "line 1: version: '1' is not 1"),
        ("version: 1.0\ncontrols: {ROLE.1: {mode: off}}\n", "line 1: version: '1.0' is not 1"),
        ("version: --1\ncontrols: {ROLE.1: {mode: off}}\n", "line 1: version: '--1' is not 1"),
        ("version: -1\ncontrols: {ROLE.1: {mode: off}}\n", "line 1: version: -1 is not 1"),
        ("version: ~\ncontrols: {ROLE.1: {mode: off}}\n", "line 1: version: None is not 1"),
        ("- a\n- b\n", "the policy: ['a', 'b'] is not of type 'object'"),
        ("version: 1\nversion: 1\ncontrols: {ROLE.1: {mode: off}}\n", "line 2: version is given twice"),
        ("", "it is empty"),
        ("# only a comment\n", "it is empty"),
    ],
)
def test_each_fault_reads_well(content: str, fault: str, faults: Callable[[str], list[str]]) -> None:
    """A sentence that names the place."""
    assert faults(content) == [fault]


def test_a_number_too_long_for_a_number_is_a_fault(faults: Callable[[str], list[str]]) -> None:
    """Not a crash."""
    (fault,) = faults(f"version: {'9' * 5000}\ncontrols: {{ROLE.1: {{mode: off}}}}\n")
    assert fault.startswith("line 1: version: ")


def test_what_is_not_yaml_is_told_with_its_line(faults: Callable[[str], list[str]]) -> None:
    """The line of the trouble, in YAML's words."""
    (fault,) = faults("version: 1\ncontrols: [\n")
    assert fault.startswith("line 3: not YAML: ")
    (tab,) = faults("version: 1\ncontrols:\n\tVPCE.1: x\n")
    assert tab.startswith("line 3: not YAML: ")


def test_two_documents_are_refused(faults: Callable[[str], list[str]]) -> None:
    """Which of the two would count?"""
    (fault,) = faults("version: 1\n---\nversion: 1\n")
    assert "not YAML: but found another document" in fault


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"version: \x00"])
def test_what_is_not_text_is_refused(content: bytes, faults: Callable[[bytes], list[str]]) -> None:
    """Binary data is told as such."""
    assert len(faults(content)) == 1


def test_a_policy_that_contains_itself_is_refused(faults: Callable[[str], list[str]]) -> None:
    """An alias inside its own anchor has no end."""
    found = faults("version: 1\ncontrols: &c\n  VPCE.1: *c\n")
    assert found == ["it contains itself (an alias inside its own anchor) or is nested too deeply"]


def test_a_policy_nested_without_end_is_refused(faults: Callable[[str], list[str]]) -> None:
    """Not a crash."""
    assert len(faults("[" * 3000 + "]" * 3000)) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The system's own words say why."""
    with pytest.raises(PolicyError, match=r"it cannot be read: .*No such file"):
        policy_file.read(tmp_path / "none.yaml")
