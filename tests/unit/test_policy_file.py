"""The policy file: every fault at once, each with its line."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.cli import policy_doubts, policy_file
from portcullis.controls import CONTROLS
from portcullis.endpoint_policies import render
from portcullis.errors import PolicyError
from portcullis.policy import parse

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "layers" / "policy" / "policy.yaml"

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


@pytest.mark.parametrize("path", [SHIPPED, ROOT / "local" / "policy.yaml"], ids=["shipped", "local"])
def test_the_shipped_policy_is_valid(path: Path) -> None:
    """It names every control of the registry, and its data is a policy."""
    data = policy_file.read(path)
    assert set(data["controls"]) == {control.id for control in CONTROLS}
    assert parse(data).enabled("VPCE.1")


def test_the_examples_in_the_shipped_policy_are_valid(read: Read) -> None:
    """Whoever takes the comment signs off gets a policy that works."""
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    example = re.compile(r"( *)# ( *(- |(?!mode:)[\w.-]+:( |$)).*)")  # "mode: off ..." explains
    taken = [line if not (found := example.fullmatch(line)) else found[1] + found[2] for line in lines]
    assert taken != lines
    data = read("\n".join(taken))
    assert [scope["name"] for scope in data["scopes"]] == ["sandbox"]
    assert [exemption["name"] for exemption in data["exemptions"]] == ["legacy-vpc"]
    assert parse(data).needs_units
    assert data["prices"].keys() == {"eu-west-1", "default"}
    assert data["endpoint_policies"].keys() == set(data["controls"]["VPCE.5"]["policies"].values())
    assert data["controls"]["VPCE.1"]["change_windows"]


def test_off_is_a_word(read: Read) -> None:
    """YAML 1.1 reads off, no and yes as booleans; a policy does not."""
    assert read("version: 1\ncontrols: {VPCE.1: {mode: off}}\n")["controls"]["VPCE.1"] == {"mode": "off"}


def test_an_alias_is_refused(faults: Callable[[str], list[str]]) -> None:
    """A line of a policy says what it says: nothing from elsewhere, and no few lines that stand for gigabytes."""
    assert faults("version: 1\ncontrols:\n  VPCE.1: &x {mode: detect}\n  VPCE.2: *x\n  ROLE.1: *x\n") == [
        "line 4: *x: write out what it stands for",
        "line 5: *x: write out what it stands for",
    ]
    bomb = "\n".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]" for n in range(1, 30))
    assert len(faults(f"k0: &k0 x\n{bomb}\n")) == 29 * 9


def test_an_anchor_alone_does_no_harm(read: Read) -> None:
    """It is a name that nobody uses."""
    assert read("version: 1\ncontrols: {VPCE.1: &x {mode: detect}}\n")["controls"] == {"VPCE.1": {"mode": "detect"}}


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
        (
            "owner is unknown; known here: controls, endpoint_policies, exemptions, leave_alone, limits, prices, "
            "scopes, settle, version"
        ),
        "controls > VPCE.1 > mode: 'fix' is not one of ['off', 'detect', 'approve', 'remediate']",
        "controls > VPCE.1 > services[1]: 'dynamodb' is not one of ['s3', 's3express']",
        (
            "controls > VPCE.1 > service is unknown; known here: change_windows, check_bucket_policies, mode, "
            "running_workloads, services, unassociated_route_tables"
        ),
        "controls > VPCE.2 is given twice",
        "controls > ROLE.1 > mode: True is not one of ['off', 'detect', 'approve', 'remediate']",
        "controls > ROLE.1 > default_profile: 'role/with/path' does not match ^[A-Za-z0-9_+=,.@-]{1,128}$",
        "controls > ROLE.9 is unknown; known here: ROLE.1, ROLE.2, VPCE.1, VPCE.2, VPCE.3, VPCE.4, VPCE.5",
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
        ("version: 1.5\ncontrols: {ROLE.1: {mode: off}}\n", "line 1: version: 1.5 is not 1"),
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
    assert faults("version: 1\ncontrols: &c\n  VPCE.1: *c\n") == ["line 3: *c: write out what it stands for"]


def test_a_policy_nested_without_end_is_refused(faults: Callable[[str], list[str]]) -> None:
    """Not a crash."""
    assert len(faults("[" * 800 + "]" * 800)) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The system's own words say why."""
    with pytest.raises(PolicyError, match=r"it cannot be read: .*No such file"):
        policy_file.read(tmp_path / "none.yaml")


EVERY_KIND = """\
version: 1
controls:
  VPCE.1:
    mode: remediate
    change_windows:
      - cron: "0 2 * *"
        time_zone: Mars/Base
        length: 4 hours
        weekday: SUN
      - {cron: "0 2 * * SUN", time_zone: Europe/Zurich}
    running_workloads: ask
    check_bucket_policies: 1
limits:
  changes_per_hour:
    account: 0
    region: 5
  changes_per_resource_per_day: many
settle:
  terraform: 119s
  pulumi: 30
  ansible: 30m
leave_alone: 0h
scopes:
  - where: {accounts: ["111122223333"]}
  - name: b
  - name: c
    where: {}
  - name: d
    where:
      accounts: [111122223333]
      units: [sandbox]
      regions: [eu-west1]
      vpcs: [vpc-0123]
      tags: {build: 7, env: [], team: [1]}
    settle: {other: 1m}
    controls:
      VPCE.9: {mode: off}
      VPCE.2: {}
  - name: e
    where: {accounts: [], regions: [eu-west-1, eu-west-1]}
exemptions:
  - name: a
    where: {resources: [eni-0123]}
    controls: [VPCE.7]
    owner: ""
    reason: ~
    expires: 2026-02-30
    since: 2026-01-01
  - name: b
    where: {}
    owner: me
    reason: because
    expires: next year
"""


def test_every_kind_of_fault_is_told_with_its_line(faults: Callable[[str], list[str]]) -> None:
    """All of them at once."""
    expected = {
        6: ["'0 2 * *' is not a cron expression of five fields"],
        7: ["'Mars/Base' is not a time zone such as Europe/Zurich"],
        8: ["'4 hours' is not a duration such as 90s, 30m, 2h or 1d"],
        9: ["weekday is unknown; known here: cron, length, time_zone"],
        10: ["'length' is a required property"],
        11: ["'ask' is not one of ['approve', 'remediate']"],
        12: ["1 is not of type 'boolean'"],
        15: ["0 is less than the minimum of 1"],
        16: ["region is unknown; known here: account, organisation"],
        17: ["'many' is not of type 'integer'"],
        19: ["119s is too short: tags arrive late, so a change waits at least two minutes"],
        20: ["30 is not of type 'string'; put it in quotes if it is text"],
        21: ["ansible is unknown; known here: cdk, cloudformation, console, longest, other, pulumi, terraform"],
        22: ["'0h' is not a duration such as 90s, 30m, 2h or 1d"],
        24: ["'name' is a required property"],
        25: ["'where' is a required property"],
        27: ["{} should be non-empty"],
        30: ["111122223333 is not of type 'string'; put it in quotes if it is text"],
        31: ["'sandbox' does not match ^(r-[0-9a-z]{4,32}|ou-[0-9a-z]{4,32}-[0-9a-z]{8,32})$"],
        32: ["'eu-west1' does not match ^[a-z]+(-[a-z]+)+-[0-9]+$"],
        33: ["vpcs is unknown; known here: accounts, regions, tags, units"],
        34: ["7 is not of type 'string', 'array'", "[] should be non-empty", "1 is not of type 'string'"],
        35: ["1m is too short: tags arrive late, so a change waits at least two minutes"],
        37: ["VPCE.9 is unknown; known here: ROLE.1, ROLE.2, VPCE.1, VPCE.2, VPCE.3, VPCE.4, VPCE.5"],
        38: ["{} should be non-empty"],
        40: ["[] should be non-empty", "['eu-west-1', 'eu-west-1'] has non-unique elements"],
        43: ["'eni-0123' does not match ^(vpc|i)-[0-9a-f]+$"],
        44: ["'VPCE.7' is not one of ['VPCE.1', "],
        45: ["'' does not match \\S"],
        46: ["None is not of type 'string'"],
        47: ["'2026-02-30' does not exist: day is out of range for month"],
        48: ["since is unknown; known here: controls, expires, name, owner, reason, where"],
        50: ["{} should be non-empty"],
        53: ["'next year' is not a date (2026-12-31) or an instant (2026-12-31T12:00:00Z)"],
    }
    found = faults(EVERY_KIND)
    assert [int(fault.split(":")[0].removeprefix("line ")) for fault in found] == [
        line for line, texts in expected.items() for _ in texts
    ]
    for line, texts in expected.items():
        told = [fault for fault in found if fault.startswith(f"line {line}: ")]
        assert all(any(text in fault for fault in told) for text in texts), told


EVERY_PARAMETER = """\
version: 1
prices:
  default: {nat_gigabyte: 0}
  eu-west-1: {interface_endpoint_hour: 0.011, interface_endpoint_gigabyte: 1.0}
endpoint_policies:
  ours: {perimeter: {organisation: o-exampleorgid, buckets: ["data-${Region}-*"]}}
  mine:
    document:
      Version: 2012-10-17
      Statement:
        - Sid: Mine
          Effect: Allow
          Principal: {AWS: "*"}
          Action: [s3:GetObject]
          Resource: arn:${Partition}:s3:::*
          Condition: {StringEquals: {aws:PrincipalAccount: "${AccountId}", aws:username: ["${aws:username}"]}}
controls:
  VPCE.3: {mode: approve, services: [ecr.api, com.amazonaws.vpce.eu-west-1.vpce-svc-0123], private_dns: false}
  VPCE.4: {mode: approve, ports: [22, 3389], preserve_client_ip: true, open_instances: false}
  VPCE.5: {mode: detect, policies: {s3: ours}}
  ROLE.2:
    mode: detect
    actions: [s3:ListAllMyBuckets, execute-api:Invoke]
    method: simulate
    managed_policies: [AmazonSSMManagedInstanceCore]
    default_host_management: accept
scopes:
  - name: mine
    where: {accounts: ["111122223333"]}
    controls:
      VPCE.3: {services: [ssm]}
      VPCE.5: {policies: {s3: mine, dynamodb: mine}}
      ROLE.2: {actions: [kms:Decrypt]}
exemptions:
  - name: later
    where: {resources: [vpc-0123, i-0123]}
    controls: [VPCE.3, VPCE.4, VPCE.5, ROLE.2]
    owner: o
    reason: r
    expires: 2999-01-01
"""


def test_every_parameter_has_a_form(read: Read) -> None:
    """Numbers, decimals too; lists; mappings of text; documents of IAM as they are."""
    data = read(EVERY_PARAMETER)
    assert data["prices"]["eu-west-1"] == {"interface_endpoint_hour": 0.011, "interface_endpoint_gigabyte": 1}
    assert data["controls"]["VPCE.4"]["ports"] == [22, 3389]
    assert data["endpoint_policies"]["mine"]["document"]["Version"] == "2012-10-17"
    assert parse(data).enabled("VPCE.5")


FAULTY_PARAMETERS = """\
version: 1
prices:
  europe: {nat_gigabyte: 1}
  eu-west-1:
    nat_gigabyte: -0.1
    interface_endpoint_hour: true
    interface_endpoint_month: 7
endpoint_policies:
  both: {perimeter: {organisation: o-exampleorgid}, document: {Statement: []}}
  neither: {}
  nobody: {perimeter: {buckets: [x]}}
  open: {perimeter: {organisation: exampleorgid, buckets: ["*"]}}
  document:
    document:
      Version: 2020-01-01
      Statement:
        - Effect: Maybe
          Resources: "*"
          Principal: {AWS: 111122223333}
          Condition: {Bool: {aws:SecureTransport: true}}
controls:
  VPCE.3: {mode: approve, services: [ECR]}
  VPCE.4:
    mode: approve
    ports: [0, ssh]
    preserve_client_ip: maybe
  VPCE.5:
    mode: detect
    policies: {S3: document, s3: 7}
  ROLE.2:
    mode: detect
    actions: ["s3:*", ListAllMyBuckets]
    method: guess
    managed_policies: [arn:aws:iam::aws:policy/ReadOnlyAccess]
    default_host_management: true
"""


def test_every_fault_in_a_parameter_is_told_with_its_line(faults: Callable[[str], list[str]]) -> None:
    """An entry that has a fault is not judged any further."""
    expected = {
        3: ["'europe' does not match"],
        5: ["-0.1 is less than the minimum of 0"],
        6: ["True is not of type 'number'"],
        7: ["interface_endpoint_month is unknown"],
        9: ["[] should be non-empty", "has too many properties"],
        10: ["{} should be non-empty"],
        11: ["'organisation' is a required property", "'x' does not match"],
        12: ["'exampleorgid' does not match", "'*' does not match"],
        15: ["'2020-01-01' is not one of"],
        17: ["'Maybe' is not one of"],
        18: ["Resources is unknown"],
        19: ["111122223333 is not of type 'string', 'array'; put it in quotes if it is text"],
        20: ["True is not of type 'string', 'array'; put it in quotes if it is text"],
        22: ["'ECR' does not match"],
        25: ["0 is not one of [22, 3389]", "'ssh' is not one of [22, 3389]"],
        26: ["'maybe' is not of type 'boolean'"],
        29: ["'S3' does not match", "7 is not of type 'string'"],
        32: ["'ListAllMyBuckets' does not match", "'s3:*' does not match"],
        33: ["'guess' is not one of"],
        34: ["'arn:aws:iam::aws:policy/ReadOnlyAccess' does not match"],
        35: ["True is not one of"],
    }
    found = faults(FAULTY_PARAMETERS)
    assert [int(fault.split(":")[0].removeprefix("line ")) for fault in found] == [
        line for line, texts in expected.items() for _ in texts
    ]
    for line, texts in expected.items():
        told = [fault for fault in found if fault.startswith(f"line {line}: ")]
        assert all(any(text in fault for fault in told) for text in texts), told


HEAD = "version: 1\ncontrols: {VPCE.1: {mode: remediate}}\n"
CLASHES = (
    (
        """\
scopes:
  - name: sandbox
    where: {accounts: ["111122223333"], tags: {env: [dev, test]}}
    controls:
      VPCE.1:
        mode: approve
        services: [s3]
  - name: web
    where: {accounts: ["111122223333", "444455556666"], tags: {team: web}}
    controls:
      VPCE.1: {services: [s3], mode: detect}
""",
        [
            ("line 13: scopes[1] > controls > VPCE.1 > mode: 'detect' in the scope web and 'approve' in sandbox may be "
            "about the same resource, and neither scope is more specific (line 8)")
        ],
    ),
    (
        """\
scopes:
  - {name: a, where: {units: [ou-abcd-11111111]}, leave_alone: 1h}
  - {name: b, where: {units: [ou-abcd-22222222]}, leave_alone: 2h}
  - {name: c, where: {units: [ou-abcd-33333333, ou-abcd-22222222]}, leave_alone: 3h}
""",
        [
            ("line 6: scopes[2] > leave_alone: '3h' in the scope c and '2h' in b may be about the same resource, and "
            "neither scope is more specific (line 5)")
        ],
    ),
    (
        """\
scopes:
  - {name: a, where: {regions: [eu-west-1]}, leave_alone: 1h}
  - {name: a, where: {regions: [eu-west-2]}, leave_alone: 2h}
exemptions:
  - {name: a, where: {accounts: ["111122223333"]}, owner: o, reason: r, expires: 2999-01-01}
  - {name: a, where: {accounts: ["111122223333"]}, owner: o, reason: r, expires: soon}
""",
        [
            "line 5: scopes[1] > name: 'a' is given twice (line 4)",
            "line 8: exemptions[1] > expires: 'soon' is not a date (2026-12-31) or an instant (2026-12-31T12:00:00Z)",
            "line 8: exemptions[1] > name: 'a' is given twice (line 7)",
        ],
    ),
    (
        "settle: {longest: 8m}\n",
        [
            f"line 3: settle > longest: {caller} waits for {window}, and the longest wait is 0:08:00"
            for caller, window in (
                ("cdk", "0:30:00"),
                ("cloudformation", "0:30:00"),
                ("console", "0:10:00"),
                ("pulumi", "0:30:00"),
                ("terraform", "0:30:00"),
            )
        ],
    ),
    (
        """\
settle:
  other: 45m
  longest: 1h
scopes:
  - name: a
    where: {regions: [eu-west-1]}
    settle:
      longest: 40m
  - name: b
    where: {regions: [eu-west-2]}
    settle: {cdk: 3h}
  - name: c
    where: {regions: [eu-west-3]}
    settle: {cdk: 3h, longest: 2h}
""",
        [
            "line 10: scopes[0] > settle > longest: other waits for 0:45:00, and the longest wait is 0:40:00 (line 4)",
            "line 13: scopes[1] > settle > cdk: cdk waits for 3:00:00, and the longest wait is 1:00:00 (line 5)",
            "line 16: scopes[2] > settle > cdk: cdk waits for 3:00:00, and the longest wait is 2:00:00 (line 16)",
        ],
    ),
    (
        # What has a fault of its own is left out of the comparison, and the others are compared all the same.
        """\
settle: {other: 1m}
scopes:
  - {name: a, where: {regions: [eu-west-1]}, leave_alone: 1 hour}
  - {name: b, where: {regions: [eu-west-1]}, leave_alone: 1h}
  - {name: c, where: {regions: [eu-west-1]}, leave_alone: 2h}
  - x
  - {name: 1, where: {regions: [eu-west-1]}, leave_alone: 2h}
""",
        [
            "line 3: settle > other: 1m is too short: tags arrive late, so a change waits at least two minutes",
            "line 5: scopes[0] > leave_alone: '1 hour' is not a duration such as 90s, 30m, 2h or 1d",
            ("line 7: scopes[2] > leave_alone: '2h' in the scope c and '1h' in b may be about the same resource, and "
            "neither scope is more specific (line 6)"),
            "line 8: scopes[3]: 'x' is not of type 'object'",
            "line 9: scopes[4] > name: 1 is not of type 'string'; put it in quotes if it is text",
        ],
    ),
    (
        """\
exemptions:
  - name: a
    where: {resources: [vpc-1]}
    controls: [ROLE.1]
    owner: o
    reason: r
    expires: 2999-01-01
  - {name: b, where: {resources: [i-2, i-1]}, controls: [VPCE.1, VPCE.2], owner: o, reason: r, expires: 2999-01-01}
  - {name: c, where: {resources: [i-2, vpc-1]}, controls: [VPCE.1], owner: o, reason: r, expires: 2999-01-01}
  - {name: d, where: {accounts: ["111122223333"]}, controls: [VPCE.1], owner: o, reason: r, expires: 2999-01-01}
  - {name: e, where: {resources: [vpc-1]}, owner: o, reason: r, expires: 2999-01-01}
""",
        [
            "line 6: exemptions[0] > controls: none of them judges vpc-1 (line 5)",
            "line 10: exemptions[1] > controls: none of them judges i-1, i-2 (line 10)",
        ],
    ),
    (
        """\
endpoint_policies:
  ours: {perimeter: {organisation: o-exampleorgid}}
  open: {document: {Statement: [{Effect: Allow, Action: "*", Resource: "*"}]}}
  faulty: {document: {}}
scopes:
  - name: a
    where: {regions: [eu-west-1]}
    controls:
      VPCE.5:
        policies:
          s3: ours
          dynamodb: theirs
          ssm: ours
          logs: open
          monitoring: faulty
""",
        [
            ("line 5: endpoint_policies > open: A statement has no principal, which AWS requires of an endpoint: add "
            '`Principal: "*"`.'),
            "line 6: endpoint_policies > faulty > document: 'Statement' is a required property",
            "line 14: scopes[0] > controls > VPCE.5 > policies > dynamodb: 'theirs' is not among endpoint_policies",
            ("line 15: scopes[0] > controls > VPCE.5 > policies > ssm: The perimeter would cut off what ssm needs of "
            "AWS: give a `document` for it. (line 4)"),
        ],
    ),
    ("endpoint_policies: none\n", ["line 3: endpoint_policies: 'none' is not of type 'object'"]),
    ("scopes: {}\nexemptions: none\n", [
        "line 3: scopes: {} is not of type 'array'", "line 4: exemptions: 'none' is not of type 'array'",
    ]),
)  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), CLASHES)
def test_what_does_not_go_together_is_told_with_both_lines(
    content: str, expected: list[str], faults: Callable[[str], list[str]]
) -> None:
    """Ties of scopes, equal names, and settle windows that are longer than the longest wait."""
    assert faults(HEAD + content) == expected


def test_an_endpoint_policy_has_to_fit_in_every_region(faults: Callable[[str], list[str]]) -> None:
    """The names of Regions have different lengths: the longest of each partition counts."""
    resources = [f"arn:aws:s3:::${{Region}}-{number:03}" for number in range(690)]
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resources}
    document = {"Statement": [statement]}
    render({"document": document}, "aws", "us-east-1", "111122223333")  # fits
    (fault,) = faults(f"{HEAD}endpoint_policies:\n  long: {{document: {json.dumps(document)}}}\n")
    assert fault.startswith("line 4: endpoint_policies > long: The policy has 2")


def test_scopes_that_cannot_meet_or_agree_are_no_tie(read: Read) -> None:
    """Other accounts, other Regions, contradicting tags, another number of tags, or the same value."""
    data = read(
        HEAD
        + """\
scopes:
  - {name: a, where: {accounts: ["111122223333"], regions: [eu-west-1]}, leave_alone: 1h}
  - {name: b, where: {accounts: ["444455556666"], regions: [eu-west-1]}, leave_alone: 2h}
  - {name: c, where: {accounts: ["111122223333"], regions: [eu-west-2]}, leave_alone: 3h}
  - {name: d, where: {tags: {env: dev}}, leave_alone: 4h}
  - {name: e, where: {tags: {env: [test, prod]}}, leave_alone: 5h}
  - {name: f, where: {tags: {env: dev, team: web}}, leave_alone: 6h}
  - {name: g, where: {tags: {team: db}}, settle: {other: 9m}}
  - {name: h, where: {tags: {team: [db, app]}}, settle: {other: 9m}}
"""
    )
    assert len(data["scopes"]) == 8


def test_a_service_has_one_policy_by_one_name(faults: Callable[[str], list[str]]) -> None:
    """VPCE.5 takes short names only: rules for a service would not find it by another name of it."""
    policies = "".join(f"      {name}: ours\n" for name in ("com.amazonaws.eu-west-1.s3", "com.amazonaws.iam", "s3"))
    content = f"version: 1\ncontrols:\n  VPCE.5:\n    mode: detect\n    policies:\n{policies}"
    at = "controls > VPCE.5 > policies >"
    assert faults(content) == [
        f"line 6: {at} com.amazonaws.eu-west-1.s3: write the short name, s3",
        f"line 7: {at} com.amazonaws.iam: write the short name, iam",
    ]


DOUBTFUL = """\
version: 1
controls:
  VPCE.3:
    mode: approve
    services: [ecr.api, com.amazonaws.eu-west-1.ssm, com.amazonaws.vpce.eu-west-1.vpce-svc-0123]
  VPCE.5:
    mode: approve
    policies:
      dynamo: open
      s3: open
  ROLE.2: {mode: remediate, actions: [s3:ListAllMyBuckets]}
endpoint_policies:
  open: {document: {Statement: [{Effect: Allow, Principal: "*", Action: "*", Resource: "*"}]}}
scopes:
  - name: ireland
    where: {regions: [eu-west-1]}
    controls:
      VPCE.3: {services: [com.amazonaws.eu-west-1.ssm, com.amazonaws.vpce.eu-west-1.vpce-svc-0123]}
      VPCE.5: {policies: {vpce-svc-0123: open, parameter-store: open}}
      ROLE.2: {mode: detect}
"""


def test_what_is_probably_not_meant_is_told_and_no_fault(tmp_path: Path) -> None:
    """Full names where they name a Region that others than it will see, names of no service, modes that do nothing."""
    path = tmp_path / "policy.yaml"
    path.write_text(DOUBTFUL, encoding="utf-8")
    of_ireland, service = "is of eu-west-1, and in another Region there is no such service;", "VPCE.3 > services"
    private = "com.amazonaws.vpce.eu-west-1.vpce-svc-0123"
    unknown = "no such service is known here, so it has no endpoint"
    assert policy_file.load(path).doubts() == [
        f"line 5: controls > {service}[1]: com.amazonaws.eu-west-1.ssm {of_ireland} write ssm",
        f"line 5: controls > {service}[2]: {private} {of_ireland} name it in a scope of that Region",
        f"line 9: controls > VPCE.5 > policies > dynamo: {unknown}",
        "line 11: controls > ROLE.2 > mode: remediate does what detect does: ROLE.2 changes nothing",
        f"line 19: scopes[0] > controls > VPCE.5 > policies > parameter-store: {unknown}",
    ]


@pytest.mark.parametrize("path", [SHIPPED, ROOT / "local" / "policy.yaml"], ids=["shipped", "local"])
def test_nothing_is_doubtful_about_our_own(path: Path) -> None:
    """The shipped policy, and the demo's."""
    assert policy_file.load(path).doubts() == []


@pytest.mark.parametrize(
    "service",
    [
        *(
            "s3",
            "dynamodb",
            "s3express",
            "ecr.api",
            "ecr.dkr",
            "ssm",
            "ssmmessages",
            "ec2messages",
            "logs",
            "monitoring",
        ),
        *("kinesis-streams", "execute-api", "git-codecommit", "sagemaker.runtime", "kms-fips", "s3-global.accesspoint"),
        *(
            "elasticfilesystem",
            "email-smtp",
            "models-v2-lex",
            "aps-workspaces",
            "secretsmanager",
            "monitoring",
            "studio",
        ),
    ],
)
def test_services_are_known_by_what_their_endpoints_are_called(service: str) -> None:
    """Which is not what their clients are called."""
    entry = {"mode": "detect", "policies": {service: "open"}}
    assert policy_doubts.find({"version": 1, "controls": {"VPCE.5": entry}}) == []


def test_exemptions_that_have_ended_are_no_fault_and_are_named(tmp_path: Path) -> None:
    """An exemption that ends must not stop a deployment."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        HEAD
        + """\
exemptions:
  - {name: a, where: {accounts: ["111122223333"]}, owner: o@example.com, reason: r, expires: 2026-11-22}
  - {name: b, where: {accounts: ["111122223333"]}, owner: o@example.com, reason: r, expires: 2026-11-23}
""",
        encoding="utf-8",
    )
    assert policy_file.load(path).ended(datetime(2026, 11, 23, 12, 0, tzinfo=UTC)) == [
        "line 4: the exemption a of o@example.com ended at 2026-11-22T23:59:59Z; it can be removed"
    ]
