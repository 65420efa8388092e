"""The deployed shape: every account and Region, the sweep, coverage, and who may make the hub act where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from portcullis.cli import main

from local.clients import HOME_REGION, HUB_ACCOUNT_ID, MANAGEMENT_ACCOUNT_ID, REGIONS
from local.demo import PARAMETERS
from local.organisation import LocalOrganisation
from local.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60
_SUSPENDED = "777788889999"


@pytest.fixture(scope="module")
def organisation() -> Iterator[LocalOrganisation]:
    """An organisation whose management account must take part and has no member stacks.

    One Region of one account is off, one account is suspended.
    """
    parameters = {**PARAMETERS, "AdditionalAccountIds": MANAGEMENT_ACCOUNT_ID}
    with LocalOrganisation(parameters=parameters, management_stacks=False, schedules_at_once=False) as running:
        running.disable_region("333344445555", "ap-northeast-1")
        running.join(_SUSPENDED, "suspended")
        assert running.settled(_PATIENCE)
        running.client("organizations", MANAGEMENT_ACCOUNT_ID).close_account(AccountId=_SUSPENDED)
        yield running


def _run(organisation: LocalOrganisation, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """Run the command line against the endpoint, as a person in the hub's account does."""
    for name, value in {
        "AWS_ENDPOINT_URL": organisation.clients.endpoint_url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": HOME_REGION,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(main, list(arguments))


def _words(organisation: LocalOrganisation, account_id: str) -> dict[str, str]:
    stage = Stage(organisation)
    return {one.region: state.word for one, state in stage.hub.coverage() if one.account_id == account_id}


def _coverage_finding(organisation: LocalOrganisation, account_id: str, region: str) -> dict[str, Any]:
    findings = Stage(organisation, HUB_ACCOUNT_ID, HOME_REGION).findings()
    found: dict[str, Any]
    (found,) = [f for f in findings if f["Id"].endswith(f":{account_id}/{region}")]
    return found


def test_the_command_sweeps_and_shows_what_is_not_covered(
    organisation: LocalOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`portcullis sweep` goes through the real state machine to its end, and mends what no event told of."""
    result = _run(organisation, monkeypatch, "sweep")
    assert organisation.settled(_PATIENCE)
    assert "succeeded" in result.stderr.splitlines()[-1]
    assert "account-Regions looked at" in result.stderr
    Stage(organisation).later(minutes=6)
    # No heartbeat yet, and no stack in the management account: all of it has just joined.
    assert _words(organisation, MANAGEMENT_ACCOUNT_ID) == dict.fromkeys(REGIONS, "new")
    assert result.exit_code == 0
    for region in REGIONS:
        assert Stage(organisation).uncovered_vpcs("111122223333") == []
        assert _words(organisation, "111122223333")[region] == "ok"


def test_the_matrix_is_the_same_for_machines(organisation: LocalOrganisation, monkeypatch: pytest.MonkeyPatch) -> None:
    """`portcullis coverage --output json` names every governed account and Region."""
    result = _run(organisation, monkeypatch, "coverage", "--output", "json")
    places = {(one["account_id"], one["region"]) for one in json.loads(result.stdout)}
    assert len(places) == len(REGIONS) * 6
    assert _SUSPENDED not in {account_id for account_id, _ in places}


def test_a_region_that_is_off_and_an_account_that_is_suspended_are_left_out(organisation: LocalOrganisation) -> None:
    """The Region is shown as off and is nobody's finding; the suspended account is not even listed."""
    assert _words(organisation, "333344445555") == {"us-east-1": "ok", "eu-west-1": "ok", "ap-northeast-1": "off"}
    assert _words(organisation, _SUSPENDED) == {}


def test_a_heartbeat_takes_the_way_of_every_event(organisation: LocalOrganisation) -> None:
    """The schedule's event passes the member's rule, its forwarder role and the hub's bus, and is remembered."""
    organisation.run_schedule("portcullis-heartbeat", "222233334444", "eu-west-1")
    assert organisation.settled(_PATIENCE)
    hearts = {
        (one.account_id, one.region): one.heartbeat_at
        for one, _ in Stage(organisation).hub.coverage()
        if one.account_id == "222233334444"
    }
    assert hearts["222233334444", "eu-west-1"]
    assert hearts["222233334444", "us-east-1"] is None


def test_an_account_without_a_usable_role_is_reported_and_nothing_is_archived(organisation: LocalOrganisation) -> None:
    """A look that is refused files nothing about the account; COVERAGE.1 in the hub's says why, until it heals."""
    stage = Stage(organisation, "444455556666", "eu-west-1")
    vpc_id = stage.create_vpc("10.7.0.0/16")
    stage.later(minutes=6)
    events = organisation.client("events", stage.account_id, stage.region)
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])
    iam = organisation.client("iam", stage.account_id)
    policy = iam.get_role_policy(RoleName="portcullis-observer", PolicyName="observe")["PolicyDocument"]
    iam.delete_role_policy(RoleName="portcullis-observer", PolicyName="observe")
    stage.ec2.delete_vpc_endpoints(VpcEndpointIds=sorted(set(stage.endpoints(vpc_id).values())))
    stage.ec2.delete_vpc(VpcId=vpc_id)

    stage.sweep()

    assert stage.finding("VPCE.1", vpc_id) == "PASSED", "a look that saw nothing must not archive"
    assert _words(organisation, stage.account_id)["eu-west-1"] == "denied"
    finding = _coverage_finding(organisation, stage.account_id, stage.region)
    assert finding["Compliance"]["Status"] == "FAILED"
    assert "UnauthorizedOperation" in finding["Description"]
    assert "service control policy" in finding["Remediation"]["Recommendation"]["Text"]

    iam.put_role_policy(RoleName="portcullis-observer", PolicyName="observe", PolicyDocument=json.dumps(policy))
    stage.sweep()

    assert stage.finding("VPCE.1", vpc_id) == "ARCHIVED"
    assert _words(organisation, stage.account_id)["eu-west-1"] == "ok"
    finding = _coverage_finding(organisation, stage.account_id, stage.region)
    assert finding["Compliance"]["Status"] == "PASSED"


def test_cloudtrail_shows_for_which_target_and_look_a_change_was_made(organisation: LocalOrganisation) -> None:
    """The change carries the VPC and the message in its session's name; the session's tags name target and look."""
    stage = Stage(organisation, "222233334444", "us-east-1")
    start = len(organisation.api_calls)
    vpc_id = stage.create_vpc("10.8.0.0/16")
    stage.later(minutes=6)
    calls = organisation.api_calls[start:]
    (made, _) = [call for call in calls if call.action == "CreateVpcEndpoint"]
    session = made.principal_arn.rsplit("/", 1)[-1]
    assert made.principal_arn.split("/")[1] == "portcullis-remediator"
    assert session.startswith(f"{vpc_id}@")
    (assumed,) = [c for c in calls if c.action == "AssumeRole" and c.request["RoleSessionName"] == session]
    tags = {tag["Key"]: tag["Value"] for tag in assumed.request["Tags"]}
    assert tags["portcullis:target"] == f"222233334444/us-east-1/vpc/{vpc_id}"
    assert tags["portcullis:trigger"].startswith("CreateVpc/")  # not the schedule after which it was made


def test_a_member_cannot_make_the_hub_act_elsewhere(organisation: LocalOrganisation) -> None:
    """Account and Region come from the envelope: events that a member forges are about the member, or about nothing."""
    victim = Stage(organisation, "111122223333", "us-east-1")
    vpc_id = victim.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    forged = {
        "account": "111122223333",
        "awsRegion": "us-east-1",
        "recipientAccountId": "111122223333",
        "eventSource": "ec2.amazonaws.com",
        "eventName": "CreateVpc",
        "userIdentity": {"accountId": "111122223333"},
        "responseElements": {"vpc": {"vpcId": vpc_id, "ownerId": "111122223333"}},
    }
    before = {(one.account_id, one.region): one.heartbeat_at for one, _ in victim.hub.coverage()}
    bus = f"arn:aws:events:{HOME_REGION}:{HUB_ACCOUNT_ID}:event-bus/portcullis"
    attacker = organisation.client("events", "333344445555", "eu-west-1")
    entries = [
        {"Source": source, "DetailType": detail_type, "Detail": json.dumps(forged), "EventBusName": bus}
        for source, detail_type in (
            ("aws.ec2", "AWS API Call via CloudTrail"),
            ("portcullis", "Portcullis Heartbeat"),
            ("portcullis", "AWS API Call via CloudTrail"),
        )
    ]
    start = len(organisation.journal.since(0))

    answer = attacker.put_events(Entries=entries)
    assert organisation.settled(_PATIENCE)

    assert [entry.get("ErrorCode") for entry in answer["Entries"]] == ["NotAuthorizedForSourceException", None, None]
    after = {(one.account_id, one.region): one.heartbeat_at for one, _ in victim.hub.coverage()}
    assert {place for place in after if after[place] != before[place]} <= {("333344445555", "eu-west-1")}
    seen = [step.data for step in organisation.journal.since(start) if step.data.get("step") in ("queued", "evaluated")]
    assert {data["account_id"] for data in seen} <= {"333344445555"}


def test_an_account_outside_the_organisation_reaches_nothing(organisation: LocalOrganisation) -> None:
    """The hub's bus takes events of this organisation's accounts only."""
    bus = f"arn:aws:events:{HOME_REGION}:{HUB_ACCOUNT_ID}:event-bus/portcullis"
    stranger = organisation.client("events", _SUSPENDED, "eu-west-1")
    entry = {"Source": "portcullis", "DetailType": "Portcullis Heartbeat", "Detail": "{}", "EventBusName": bus}
    assert stranger.put_events(Entries=[entry])["Entries"][0]["ErrorCode"] == "AccessDeniedException"


def test_nothing_failed_unseen(organisation: LocalOrganisation) -> None:
    """In all of this module no function crashed, no delivery failed, and nothing is a dead letter."""
    errors: list[Any] = [step.text for step in organisation.journal.since(0) if step.kind == "error"]
    assert (errors, organisation.dead_letters()) == ([], [])
