"""``portcullis policy explain``: which line decided what, and what it overruled."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws
from portcullis.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNT, REGION, VPC = "111122223333", "eu-west-1", "vpc-0123"
MOTO_ACCOUNT = "123456789012"
PLAIN = "version: 1\ncontrols: {VPCE.1: {mode: detect}}\n"
POLICY = """\
version: 1
settle:
  other: 4m
controls:
  VPCE.1:
    mode: remediate
    services: [s3]
    change_windows: [{cron: "0 2 * * SUN", time_zone: Europe/Zurich, length: 4h}]
scopes:
  - name: sandbox
    where: {tags: {env: dev}}
    controls:
      VPCE.1: {mode: approve}
  - name: europe
    where: {regions: [eu-west-1]}
    leave_alone: 1h
    controls:
      VPCE.1: {mode: detect, services: [s3, s3express]}
  - name: team
    where: {units: [ou-abcd-11111111]}
    settle: {other: 3m}
exemptions:
  - name: legacy
    where: {resources: [vpc-0123]}
    controls: [VPCE.1]
    owner: network@example.com
    reason: migrated
    expires: 2999-12-31
  - name: older
    where: {accounts: ["111122223333"]}
    owner: me@example.com
    reason: once
    expires: 2000-01-01
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return the file of a policy with scopes and exemptions."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def run(path: Path, *arguments: str, about: tuple[str, ...] = (ACCOUNT, REGION, VPC)) -> Result:
    """Ask the command line."""
    return CliRunner().invoke(main, ["policy", "explain", *about, "--file", str(path), *arguments])


def asked(path: Path, *arguments: str, about: tuple[str, ...] = (ACCOUNT, REGION, VPC)) -> dict[str, Any]:
    """Return the answer as data."""
    result = run(path, *arguments, "--output", "json", about=about)
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def setting(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one setting of the first control."""
    (found,) = (one for one in answer["controls"][0]["settings"] if one["setting"] == name)
    return {key: value for key, value in found.items() if key != "setting"}


def test_the_table_names_file_line_and_scope(policy: Path) -> None:
    """Every setting of the control, what it overrules, and the exemptions, also the one that has ended."""
    result = run(policy, "--tag", "env=dev", "--unit", "ou-abcd-11111111", "--control", "VPCE.1")
    assert result.exit_code == 0
    shown = result.stdout.replace(str(policy), "FILE")
    assert shown == dedent(
        """\
        vpc-0123 in account 111122223333, eu-west-1
        tags: env=dev; units: ou-abcd-11111111

        VPCE.1 (scopes that match, most specific first: sandbox, team, europe)
          mode                       approve                                                      FILE:13 (scope sandbox), not FILE:18 (scope europe), FILE:6
          running_workloads          approve                                                      default
          change_windows             [{cron: 0 2 * * SUN, time_zone: Europe/Zurich, length: 4h}]  FILE:8
          services                   [s3, s3express]                                              FILE:18 (scope europe), not FILE:7
          settle terraform           30m                                                          default
          settle cloudformation      30m                                                          default
          settle cdk                 30m                                                          default
          settle pulumi              30m                                                          default
          settle console             10m                                                          default
          settle other               3m                                                           FILE:21 (scope team), not FILE:3
          settle longest             2h                                                           default
          leave_alone                1h                                                           FILE:16 (scope europe)
          unassociated_route_tables  ignore                                                       default
          check_bucket_policies      false                                                        default
          exempt until 2999-12-31T23:59:59Z, FILE:23 (legacy, owner network@example.com): migrated
          expired: exempt until 2000-01-01T23:59:59Z, FILE:29 (older, owner me@example.com): once
        """  # noqa: E501 -- a table is as wide as it is
    )


def test_json_says_the_same(policy: Path) -> None:
    """For every control of the resource's kind."""
    answer = asked(policy, "--tag", "env=dev", "--unit", "r-abcd", "--unit", "ou-abcd-11111111")
    assert [one["control_id"] for one in answer["controls"]] == [f"VPCE.{number}" for number in range(1, 6)]
    assert (answer["tags"], answer["units"]) == ({"env": "dev"}, ["r-abcd", "ou-abcd-11111111"])
    assert setting(answer, "mode") == {
        "value": "approve",
        "decided_by": {"line": 13, "scope": "sandbox"},
        "overruled": [{"line": 18, "scope": "europe"}, {"line": 6, "scope": None}],
    }
    assert setting(answer, "settle longest") == {"value": "2h", "decided_by": None, "overruled": []}
    assert answer["controls"][0]["exemptions"] == [
        {
            "name": "legacy",
            "line": 23,
            "owner": "network@example.com",
            "reason": "migrated",
            "expires_at": "2999-12-31T23:59:59Z",
            "expired": False,
        },
        {
            "name": "older",
            "line": 29,
            "owner": "me@example.com",
            "reason": "once",
            "expires_at": "2000-01-01T23:59:59Z",
            "expired": True,
        },
    ]
    assert [one["name"] for one in answer["controls"][1]["exemptions"]] == ["older"]


def test_what_was_not_given_is_said_to_be_assumed(policy: Path, tmp_path: Path) -> None:
    """But only where the policy depends on it."""
    assert asked(policy)["assumed_empty"] == ["tags", "units"]
    assert asked(policy, "--tag", "a=b")["assumed_empty"] == ["units"]
    told = run(policy).stdout
    assert (
        "The policy depends on tags, and none are given: it is assumed that there are none (--tag, or --live)." in told
    )
    assert "The policy depends on units, and none are given" in told
    plain = tmp_path / "plain.yaml"
    plain.write_text(PLAIN, encoding="utf-8")
    assert asked(plain)["assumed_empty"] == []
    assert "tags: none; units: none\n\nVPCE.1 (scopes that match, most specific first: none)" in run(plain).stdout


def test_an_instance_is_judged_by_the_controls_of_instances(policy: Path) -> None:
    """A control that the policy does not name is off; its parameters have their defaults."""
    answer = asked(policy, about=(ACCOUNT, REGION, "i-0123"))
    assert [one["control_id"] for one in answer["controls"]] == ["ROLE.1", "ROLE.2"]
    assert setting(answer, "mode") == {"value": "off", "decided_by": None, "overruled": []}
    assert setting(answer, "default_profile")["value"] == "portcullis-default"


@pytest.mark.parametrize(
    ("arguments", "about", "why"),
    [
        ((), ("1", REGION, VPC), "'1' is not the id of an account"),
        (
            (),
            (ACCOUNT, REGION, "subnet-1"),
            "no control judges 'subnet-1'; name a VPC (vpc-...) or an instance (i-...)",
        ),
        (("--control", "ROLE.1"), (ACCOUNT, REGION, VPC), "ROLE.1 does not judge 'vpc-0123'"),
        (("--control", "ROLE.9"), (ACCOUNT, REGION, VPC), "'ROLE.9' is not one of"),
        (("--tag", "env"), (ACCOUNT, REGION, VPC), "'env' is not KEY=VALUE"),
        (("--tag", "=dev"), (ACCOUNT, REGION, VPC), "'=dev' is not KEY=VALUE"),
    ],
)
def test_a_question_that_makes_no_sense_is_exit_2(
    policy: Path, arguments: tuple[str, ...], about: tuple[str, ...], why: str
) -> None:
    """With the reason."""
    result = run(policy, *arguments, about=about)
    assert result.exit_code == 2
    assert why in result.stderr


def test_the_value_of_a_tag_may_hold_anything(policy: Path) -> None:
    """Also nothing, and an equals sign."""
    assert asked(policy, "--tag", "a=b=c", "--tag", "empty=")["tags"] == {"a": "b=c", "empty": ""}


def test_a_policy_with_a_fault_is_exit_2(policy: Path) -> None:
    """Its faults are printed as the check prints them."""
    policy.write_text("version: 2\n", encoding="utf-8")
    result = run(policy)
    assert result.exit_code == 2
    assert f"{policy}: line 1: version: 2 is not 1" in result.stderr


def test_the_check_names_exemptions_that_have_ended(policy: Path) -> None:
    """And passes."""
    result = CliRunner().invoke(main, ["policy", "check", str(policy)])
    assert result.exit_code == 0
    assert result.stdout == (
        f"{policy}: valid (VPCE.1 remediate)\n{policy}: line 29: the exemption older of me@example.com ended at "
        "2000-01-01T23:59:59Z; it can be removed\n"
    )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS account to look into, without the organisation's other accounts."""
    for name, value in (("AWS_ACCESS_KEY_ID", "any"), ("AWS_SECRET_ACCESS_KEY", "any"), ("AWS_REGION", REGION)):
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield


@pytest.mark.usefixtures("aws")
class TestLive:
    """Tags and units looked up with the caller's own rights."""

    def test_tags_and_units_are_those_of_aws(self, policy: Path) -> None:
        """Units from the root down; nothing is said to be assumed."""
        organizations = boto3.client("organizations", region_name="us-east-1")
        organizations.create_organization(FeatureSet="ALL")
        (root,) = organizations.list_roots()["Roots"]
        ec2 = boto3.client("ec2", region_name=REGION)
        vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        ec2.create_tags(Resources=[vpc_id], Tags=[{"Key": "env", "Value": "dev"}])
        about = (MOTO_ACCOUNT, REGION, vpc_id)

        answer = asked(policy, "--live", "--tag", "by=hand", about=about)

        assert answer["tags"] == {"by": "hand", "env": "dev"}
        assert (answer["units"], answer["assumed_empty"]) == ([root["Id"]], [])
        assert setting(answer, "mode")["decided_by"] == {"line": 13, "scope": "sandbox"}

    def test_nothing_is_looked_up_that_the_policy_does_not_use(self, policy: Path) -> None:
        """Neither credentials nor rights are needed then."""
        policy.write_text(PLAIN, encoding="utf-8")
        assert asked(policy, "--live")["units"] == []

    def test_credentials_of_another_account_are_refused(self, policy: Path) -> None:
        """There the resource would have no tags, which would not be true."""
        result = run(policy, "--live")
        assert result.exit_code == 2
        assert f"these are credentials of account {MOTO_ACCOUNT}, not of {ACCOUNT}" in result.stderr
