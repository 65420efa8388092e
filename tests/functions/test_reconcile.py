"""The reconcile function, end to end: targets from its queue become endpoints, profiles and findings."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from portcullis import bootstrap, work
from portcullis.adapters.clock import SystemClock
from portcullis.batch import ATTEMPTS
from portcullis.errors import PolicyError, PortcullisError
from portcullis.model import CHANGE_TAG, OWNERSHIP_TAG, Cause, Kind, Target

from tests.functions.conftest import ACCOUNT, ASSUME_DENIED, DENIED, NOTHING_FAILED, REGION, THROTTLED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.functions.conftest import Clock, Function, Hub, Member, Output, Settle

S3, DYNAMODB = f"com.amazonaws.{REGION}.s3", f"com.amazonaws.{REGION}.dynamodb"


def test_a_change_waits_until_it_is_quiet(hub: Hub, first: Member, reconcile: Function) -> None:
    """The finding opens at once and says when; until then there is one look on the schedule, and no change."""
    hub.turn("enabled")
    vpc_id = first.make_vpc()

    answer = reconcile(hub.deliver("WorkQueue", first.target(vpc_id)))

    ((body, when),) = hub.looks().items()
    assert answer == NOTHING_FAILED
    assert work.decode(body, "m-1").target == Target(ACCOUNT, REGION, Kind.VPC, vpc_id)
    assert first.endpoints(vpc_id) == {}
    for finding in first.findings().values():
        assert (finding["Compliance"]["Status"], finding["RecordState"]) == ("FAILED", "ACTIVE")
        assert f"{when:%Y-%m-%d}" in finding["Description"]
    assert len(first.findings()) == 2


def test_a_vpc_is_mended_and_reported(hub: Hub, first: Member, settle: Settle) -> None:
    """A target in; both endpoints with their routes, a finding per control, and the memory of it, out."""
    vpc_id = first.make_vpc()

    answer = settle(first.target(vpc_id))

    endpoints = first.endpoints(vpc_id)
    assert answer == NOTHING_FAILED
    assert set(endpoints) == {S3, DYNAMODB}
    assert {item["VpcEndpointId"] for item in endpoints.values()} <= first.routes(vpc_id)
    tags = [{tag["Key"]: tag["Value"] for tag in item["Tags"]} for item in endpoints.values()]
    assert {each[OWNERSHIP_TAG] for each in tags} == {"true"}
    findings = first.findings()
    assert set(findings) == {f"VPCE.1 {vpc_id}", f"VPCE.2 {vpc_id}"}
    for finding in findings.values():
        assert finding["Compliance"]["Status"] == "PASSED"
        assert finding["AwsAccountId"] == ACCOUNT
        assert finding["Resources"][0]["Id"] == f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/{vpc_id}"
    assert endpoints[S3]["VpcEndpointId"] in findings[f"VPCE.1 {vpc_id}"]["Description"]
    records = {record["sk"]: record for record in hub.records()}
    here = {name: record["status"] for name, record in records.items() if name.startswith("finding#")}
    assert here == {f"finding#vpc#{vpc_id}#{control}": "PASSED" for control in ("VPCE.1", "VPCE.2")}
    changes = {name: record["progress"] for name, record in records.items() if record["pk"].startswith("changes#")}
    assert changes == {each[CHANGE_TAG]: "applied" for each in tags}
    state = json.loads(records[f"state#vpc#{vpc_id}"]["state"])
    assert set(state["made"]) == {item["VpcEndpointId"] for item in endpoints.values()}
    assert (state["pending"], state["window"]) == ("", None)
    assert (hub.looks(), hub.messages("WorkDeadLetters")) == ({}, [])


@pytest.mark.parametrize("position", ["stopped", "undo-only", "on"], ids=["as deployed", "undo-only", "unknown"])
def test_the_kill_switch_stops_changes_and_findings_go_on(
    hub: Hub, first: Member, reconcile: Function, clock: Clock, *, position: str
) -> None:
    """What the parameter does not allow in so many words is not done, and the finding says so."""
    vpc_id = first.make_vpc()
    reconcile(hub.deliver("WorkQueue", first.target(vpc_id)))
    clock.ahead += timedelta(hours=1)
    if position != "stopped":
        hub.turn(position)

    answer = reconcile(hub.deliver("WorkQueue", first.target(vpc_id)))

    assert answer == NOTHING_FAILED
    assert first.endpoints(vpc_id) == {}
    assert all("Changes are stopped" in finding["Description"] for finding in first.findings().values())
    assert len(first.findings()) == 2


def test_the_second_time_nothing_is_done(
    hub: Hub,
    first: Member,
    reconcile: Function,
    settle: Settle,
    output: Callable[[], Output],
) -> None:
    """Events are doubled and late: what is right already is neither changed nor reported again."""
    vpc_id = first.make_vpc()
    settle(first.target(vpc_id))
    before = (first.endpoints(vpc_id), first.findings(), hub.records())
    output()

    answer = reconcile(hub.deliver("WorkQueue", first.target(vpc_id)))

    assert answer == NOTHING_FAILED
    assert (first.endpoints(vpc_id), first.findings(), hub.records()) == before
    assert output().counts == {"Messages": 1, "Evaluated": 2}


def test_an_instance_is_given_the_default_profile(first: Member, settle: Settle) -> None:
    """A running instance without a profile gets the one of the member stack."""
    profile = first.make_default_profile()
    launched = first.launch()

    answer = settle(first.target(launched, Kind.INSTANCE))

    (held,) = first.ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    assert answer == NOTHING_FAILED
    assert (held["InstanceId"], held["IamInstanceProfile"]["Arn"]) == (launched, profile)
    assert first.findings()[f"ROLE.1 {launched}"]["Compliance"]["Status"] == "PASSED"


def test_an_account_and_region_become_targets(
    hub: Hub, first: Member, reconcile: Function, output: Callable[[], Output]
) -> None:
    """A wide look changes nothing itself: what needs something is queued, under its own group, with its trigger."""
    vpc_id = first.make_vpc()
    hub.turn("enabled")
    whole = work.encode(Target(ACCOUNT, REGION, Kind.ACCOUNT_REGION), Cause("DeleteVpcEndpoints/e-1"))

    answer = reconcile(hub.deliver("WorkQueue", whole))

    assert answer == NOTHING_FAILED
    assert hub.causes()[Target(ACCOUNT, REGION, Kind.VPC, vpc_id)] == Cause("DeleteVpcEndpoints/e-1", indirect=True)
    assert first.endpoints(vpc_id) == {}
    assert first.findings() == {}
    (line,) = output().steps("swept")
    assert vpc_id in line["resource_ids"]


def test_a_vpc_that_is_gone_has_its_findings_archived(
    hub: Hub, first: Member, reconcile: Function, settle: Settle
) -> None:
    """The finding does not stay behind, its record is kept for a while only, and of its state nothing is left."""
    vpc_id = first.make_vpc()
    settle(first.target(vpc_id))
    made = [item["VpcEndpointId"] for item in first.endpoints(vpc_id).values()]
    first.ec2.delete_vpc_endpoints(VpcEndpointIds=made)
    first.ec2.delete_vpc(VpcId=vpc_id)

    answer = reconcile(hub.deliver("WorkQueue", first.target(vpc_id)))

    assert answer == NOTHING_FAILED
    assert {finding["RecordState"] for finding in first.findings().values()} == {"ARCHIVED"}
    kept = {record["sk"]: record for record in hub.records()}
    assert all("expires_at" in record for name, record in kept.items() if name.startswith("finding#"))
    assert f"state#vpc#{vpc_id}" not in kept


def test_a_batch_spans_accounts(first: Member, second: Member, settle: Settle) -> None:
    """Each account's VPC is mended in that account, and reported there."""
    bodies = {member: member.make_vpc() for member in (first, second)}

    answer = settle(*(member.target(vpc_id) for member, vpc_id in bodies.items()))

    assert answer == NOTHING_FAILED
    for member, vpc_id in bodies.items():
        assert set(member.endpoints(vpc_id)) == {S3, DYNAMODB}
        assert set(member.findings()) == {f"VPCE.1 {vpc_id}", f"VPCE.2 {vpc_id}"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{not json", "not a target of version 2"),
        ('{"version": 3, "account_id": "1", "region": "r", "kind": "vpc", "resource_id": "vpc-1"}', "version 3"),
        ('{"version": 2, "account_id": "1", "region": "r", "kind": "vpc", "resource_id": "vpc-1"}', "'cause'"),
        ('{"version": 1, "account_id": "1", "region": "r", "kind": "subnet", "resource_id": "s"}', "'subnet'"),
        ('{"version": 1, "account_id": "1", "region": "r", "kind": "vpc", "resource_id": null}', "do not agree"),
    ],
    ids=["no JSON", "another version", "no cause", "another kind", "no id"],
)
def test_a_message_that_cannot_be_read_is_put_aside(
    hub: Hub, first: Member, reconcile: Function, output: Callable[[], Output], *, body: str, reason: str
) -> None:
    """It goes to the FIFO dead-letter queue as it came, with the reason; the rest of the batch goes on."""
    vpc_id = first.make_vpc()

    answer = reconcile(hub.deliver("WorkQueue", body, first.target(vpc_id)))

    buried = hub.buried("WorkDeadLetters")
    assert answer == NOTHING_FAILED
    assert list(buried) == [body]
    assert reason in buried[body]
    assert set(first.findings()) == {f"VPCE.1 {vpc_id}", f"VPCE.2 {vpc_id}"}
    assert output().counts["ProblemBuried"] == 1


def test_an_account_that_cannot_be_read_is_put_aside(
    hub: Hub, first: Member, reconcile: Function, refuse: Callable[..., None]
) -> None:
    """What cannot be seen is not changed and not reported; a person has to look."""
    refuse("ec2.DescribeVpcs", 403, DENIED)
    body = first.target(first.make_vpc())

    answer = reconcile(hub.deliver("WorkQueue", body))

    expected = f"observing {ACCOUNT} {REGION}: UnauthorizedOperation: You are not authorized."
    assert answer == NOTHING_FAILED
    assert hub.buried("WorkDeadLetters") == {body: expected}
    assert (first.findings(), hub.records()) == ({}, [])


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov"])
def test_the_roles_of_the_partition_are_assumed(
    hub: Hub, reconcile: Function, refuse: Callable[..., None], monkeypatch: pytest.MonkeyPatch, partition: str
) -> None:
    """Partition and names come from the environment; a role that is missing is waited for, and named to the reader."""
    monkeypatch.setenv("PARTITION", partition)
    refuse("sts.AssumeRole", 403, ASSUME_DENIED)
    body = work.encode(Target(ACCOUNT, REGION, Kind.VPC, "vpc-1"), Cause("test"))
    event = hub.deliver("WorkQueue", body)

    early_answer = reconcile(event)
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = str(ATTEMPTS)
    last_answer = reconcile(event)

    role = f"arn:{partition}:iam::{ACCOUNT}:role/portcullis-observer"
    assert early_answer == {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]}
    assert last_answer == NOTHING_FAILED
    assert hub.buried("WorkDeadLetters") == {body: f"{role} cannot be assumed: it is missing or does not trust us"}


def test_only_what_may_pass_is_delivered_again(
    hub: Hub,
    first: Member,
    reconcile: Function,
    output: Callable[[], Output],
    refuse: Callable[..., None],
) -> None:
    """The partial batch response names exactly the throttled messages, and they stay invisible meanwhile."""
    refuse("ec2.DescribeVpcs", 503, THROTTLED)
    event = hub.deliver("WorkQueue", "nonsense", first.target("vpc-1"), first.target("vpc-2"))

    answer = reconcile(event)

    _, one, two = (record["messageId"] for record in event["Records"])
    assert answer == {"batchItemFailures": [{"itemIdentifier": one}, {"itemIdentifier": two}]}
    assert list(hub.buried("WorkDeadLetters")) == ["nonsense"]
    assert hub.messages("WorkQueue") == []
    lines = output().steps("retry")
    assert [line["resource_id"] for line in lines] == ["vpc-1", "vpc-2"]
    assert all("RequestLimitExceeded" in line["message"] for line in lines)
    assert all(line["message"].endswith("; again in 5 s") for line in lines)


def test_a_change_that_is_refused_stays_a_finding(
    hub: Hub, first: Member, settle: Settle, refuse: Callable[..., None]
) -> None:
    """A denial is no matter of waiting: the finding is FAILED and says what AWS said."""
    refuse("ec2.CreateVpcEndpoint", 403, DENIED)
    vpc_id = first.make_vpc()

    answer = settle(first.target(vpc_id))

    finding = first.findings()[f"VPCE.1 {vpc_id}"]
    assert answer == NOTHING_FAILED
    assert finding["Compliance"]["Status"] == "FAILED"
    assert "UnauthorizedOperation: You are not authorized." in finding["Description"]
    assert first.endpoints(vpc_id) == {}
    changes = [record["progress"] for record in hub.records() if record["pk"].startswith("changes#")]
    assert changes == ["failed", "failed"]


def test_a_policy_that_only_detects_changes_nothing(hub: Hub, first: Member, reconcile: Function) -> None:
    """The function follows the policy that it was deployed with."""
    policy = json.loads(hub.policy_path.read_text(encoding="utf-8"))
    policy["controls"]["VPCE.1"]["mode"], policy["controls"]["VPCE.2"]["mode"] = "detect", "off"
    hub.policy_path.write_text(json.dumps(policy), encoding="utf-8")
    vpc_id = first.make_vpc()

    reconcile(hub.deliver("WorkQueue", first.target(vpc_id)))

    assert first.endpoints(vpc_id) == {}
    findings = {name: item["Compliance"]["Status"] for name, item in first.findings().items()}
    assert findings == {f"VPCE.1 {vpc_id}": "FAILED"}


# ---- Logs and metrics ----------------------------------------------------------------------------------------------


def test_every_step_is_logged_as_json(first: Member, settle: Settle, output: Callable[[], Output]) -> None:
    """The lines tell the story in order: seen, reported; then seen, changed, reported; each with its resource."""
    vpc_id = first.make_vpc()

    settle(first.target(vpc_id))

    written = output()
    steps = [line["step"] for line in written.logged]
    assert steps == ["evaluated"] * 2 + ["filed"] * 2 + ["evaluated"] * 2 + ["acted"] * 2 + ["filed"] * 2
    for line in written.logged:
        assert (line["account_id"], line["region"], line["resource_id"]) == (ACCOUNT, REGION, vpc_id)
        assert line["control"] in ("VPCE.1", "VPCE.2")
        assert line["level"] == "INFO"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["timestamp"])
    (acted,) = (line for line in written.steps("acted") if line["control"] == "VPCE.1")
    assert acted["made"] == first.endpoints(vpc_id)[S3]["VpcEndpointId"]
    assert (acted["action"], acted["result"]) == ("CreateGatewayEndpoint", "applied")


def test_steps_are_counted(first: Member, settle: Settle, output: Callable[[], Output]) -> None:
    """Every step is a metric in CloudWatch's embedded format, in our namespace."""
    settle(first.target(first.make_vpc()))

    written = output()
    assert written.counts == {"Messages": 2, "Evaluated": 4, "Filed": 4, "Acted": 2}
    for emitted in written.emitted:
        assert emitted["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Portcullis"
        assert emitted["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    assert len(written.emitted) == 2


# ---- Wiring --------------------------------------------------------------------------------------------------------


def test_the_function_is_wired_once(hub: Hub, first: Member, reconcile: Function) -> None:
    """A warm invocation reuses clients, credentials and policy."""
    reconcile(hub.deliver("WorkQueue", first.target("vpc-1")))
    wired = bootstrap.reconcile()

    reconcile(hub.deliver("WorkQueue", first.target("vpc-2")))

    assert bootstrap.reconcile() is wired


NEEDED = (
    "WORK_QUEUE_URL",
    "QUEUE_DELAY_SECONDS",
    "DEAD_LETTER_QUEUE_URL",
    "PARTITION",
    "OBSERVER_ROLE_NAME",
    "REMEDIATOR_ROLE_NAME",
    "TABLE_NAME",
    "POLICY_PATH",
    "KILL_SWITCH_NAME",
    "WORK_QUEUE_ARN",
    "LOOKS_ROLE_ARN",
)


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_variable_is_named(
    hub: Hub, first: Member, reconcile: Function, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The invocation fails with a sentence that says which, before anything is changed; the messages come again."""
    vpc_id = first.make_vpc()
    event = hub.deliver("WorkQueue", first.target(vpc_id))
    monkeypatch.delenv(name)

    with pytest.raises(PortcullisError, match=rf"^the environment variable {name} is not set; template\.yaml sets it$"):
        reconcile(event)

    assert first.endpoints(vpc_id) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: .*; build it with 'make build'"),
        ("version: 1", "cannot be read: .*; build it with 'make build'"),
        ('{"version": 99, "controls": {}}', "the policy is not of version 1; run 'portcullis policy check'"),
        ('{"version": 1, "controls": {"VPCE.1": {"mode": "destroy"}}}', "the policy is damaged .*destroy"),
    ],
    ids=["missing", "not compiled", "another version", "an unknown mode"],
)
def test_a_policy_that_cannot_be_used_stops_everything(
    hub: Hub, first: Member, reconcile: Function, policy_path: Path, *, text: str | None, told: str
) -> None:
    """Without a policy there is no change and no finding: the invocation fails and says what to do."""
    if text is None:
        policy_path.unlink()
    else:
        policy_path.write_text(text, encoding="utf-8")
    vpc_id = first.make_vpc()

    with pytest.raises(PolicyError, match=told):
        reconcile(hub.deliver("WorkQueue", first.target(vpc_id)))

    assert (first.endpoints(vpc_id), first.findings(), hub.records()) == ({}, {}, [])


def test_a_policy_that_is_mended_works_at_the_next_invocation(
    hub: Hub, first: Member, reconcile: Function, policy_path: Path
) -> None:
    """A failed start is not remembered."""
    good = policy_path.read_text(encoding="utf-8")
    policy_path.write_text("{}", encoding="utf-8")
    event = hub.deliver("WorkQueue", first.target("vpc-1"))
    with pytest.raises(PolicyError):
        reconcile(event)

    policy_path.write_text(good, encoding="utf-8")

    assert reconcile(event) == NOTHING_FAILED


def test_the_clock_is_in_utc() -> None:
    """Times are compared and written with their zone."""
    offset = SystemClock().now().utcoffset()

    assert offset is not None
    assert offset.total_seconds() == 0
