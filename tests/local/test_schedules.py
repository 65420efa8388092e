"""Schedules invoke buses and state machines, as their roles may; what goes wrong is an error in the journal."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from local import fidelity
from local.fidelity import hooks

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

MEMBER = "111122223333"
BUS = f"arn:aws:events:us-east-1:{MEMBER}:event-bus/default"
BEAT_ROLE = f"arn:aws:iam::{MEMBER}:role/example-beat-us-east-1"
TARGET = {
    "Arn": BUS,
    "RoleArn": BEAT_ROLE,
    "EventBridgeParameters": {"Source": "beat", "DetailType": "Beat"},
    "Input": "{}",
}
SCHEDULE = {"ScheduleExpression": "rate(5 minutes)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": TARGET}


def performed(organisation: LocalOrganisation, start: int = 0) -> list[dict[str, Any]]:
    """Return the events that went all the way to the example's last function."""
    return [step.data["performed"] for step in organisation.journal.since(start) if "performed" in step.data]


def beats(organisation: LocalOrganisation, start: int = 0) -> list[tuple[str, str]]:
    """Return account and Region of the heartbeats that arrived."""
    events = [event for event in performed(organisation, start) if event["source"] == "beat"]
    return sorted((event["account"], event["region"]) for event in events)


def errors(organisation: LocalOrganisation, start: int) -> list[str]:
    """Return the errors since a step."""
    return [step.text for step in organisation.journal.since(start) if step.kind == "error"]


def test_an_event_of_a_schedule_is_its_accounts(organisation: LocalOrganisation) -> None:
    """With source, detail type and detail from the target; it passes the account's rules to the hub."""
    start = len(organisation.journal.since(0))
    organisation.run_schedule("beat", MEMBER, "eu-west-1")
    assert organisation.settled(20)
    (event,) = performed(organisation, start)
    assert (event["account"], event["region"]) == (MEMBER, "eu-west-1")
    assert (event["source"], event["detail-type"], event["detail"]) == ("beat", "Beat", {"version": 1})


def test_a_schedule_starts_a_state_machine(organisation: LocalOrganisation) -> None:
    """With its input, under a name of its own; nothing else was started."""
    organisation.run_schedule("portcullis-Timer")
    assert organisation.settled(20)
    machine = "arn:aws:states:us-east-1:123456789012:stateMachine:portcullis-Machine"
    client = organisation.client("stepfunctions")
    (execution,) = client.list_executions(stateMachineArn=machine)["executions"]
    assert execution["status"] == "SUCCEEDED"
    assert client.describe_execution(executionArn=execution["executionArn"])["input"] == '{"do": "nothing"}'


def test_an_unknown_schedule_is_an_error(organisation: LocalOrganisation) -> None:
    """Not a silent no."""
    with pytest.raises(KeyError):
        organisation.run_schedule("none")


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ({"RoleArn": f"arn:aws:iam::{MEMBER}:role/none"}, "there is no role"),
        ({"RoleArn": f"arn:aws:iam::{MEMBER}:role/example-forwarder"}, "does not trust scheduler.amazonaws.com"),
        ({"Arn": BUS.replace("default", "other")}, "is not authorized to perform: events:PutEvents on resource"),
        ({"Arn": BUS.replace("us-east-1", "eu-west-1")}, "is not authorized to perform: events:PutEvents"),
        (
            {"Arn": "arn:aws:states:us-east-1:123456789012:stateMachine:x", "EventBridgeParameters": None},
            "is not authorized to perform: states:StartExecution",
        ),
        ({"Input": "no json"}, "Expecting value"),
    ],
)
def test_an_invocation_that_fails_is_an_error(
    organisation: LocalOrganisation, target: dict[str, Any], complaint: str
) -> None:
    """Once, with the schedule's name and place."""
    client = organisation.client("scheduler", MEMBER)
    wanted = {key: value for key, value in {**TARGET, **target}.items() if value is not None}
    client.create_schedule(**{**SCHEDULE, "Target": wanted}, Name="broken")
    start = len(organisation.journal.since(0))
    organisation.run_schedule("broken", MEMBER)
    client.delete_schedule(Name="broken")
    assert organisation.settled(20)
    (error,) = errors(organisation, start)
    assert error.startswith("schedule broken could not invoke its target: ")
    assert complaint in error


def test_a_permission_for_a_bus_that_is_missing_is_an_error_too(organisation: LocalOrganisation) -> None:
    """The bus must exist."""
    policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "events:*", "Resource": "*"}}
    iam, client = organisation.client("iam", MEMBER), organisation.client("scheduler", MEMBER)
    iam.put_role_policy(RoleName="example-beat-us-east-1", PolicyName="all", PolicyDocument=json.dumps(policy))
    target = {**TARGET, "Arn": BUS.replace("default", "other")}
    client.create_schedule(**{**SCHEDULE, "Target": target}, Name="broken")
    start = len(organisation.journal.since(0))
    organisation.run_schedule("broken", MEMBER)
    client.delete_schedule(Name="broken")
    iam.delete_role_policy(RoleName="example-beat-us-east-1", PolicyName="all")
    assert "there is no bus" in errors(organisation, start)[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ScheduleExpression": "cron(0 0 * * ? *)"}, r"cron\(0 0"),
        ({"ScheduleExpression": "rate(0 minutes)"}, r"rate\(0"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}}, "a flexible time window"),
        ({"StartDate": "2030-01-01T00:00:00Z"}, "start_date"),
        ({"Target": {**TARGET, "KinesisParameters": {"PartitionKey": "k"}}}, "target with KinesisParameters"),
        ({"Target": {**TARGET, "Arn": "arn:aws:sqs:us-east-1:111122223333:q"}}, "target with EventBridgeParameters"),
        ({"Target": {**TARGET, "Arn": "arn:aws:sns:us-east-1:111122223333:t"}}, "the target arn:aws:sns"),
        ({"Target": {"Arn": BUS, "RoleArn": BEAT_ROLE}}, "the target arn:aws:events"),
    ],
)
def test_what_would_not_happen_is_refused(
    organisation: LocalOrganisation, change: dict[str, Any], complaint: str
) -> None:
    """When a schedule is created, and when it is changed."""
    client = organisation.client("scheduler", MEMBER)
    with pytest.raises(Exception, match=f"ValidationException.*not known here: .*{complaint}"):
        client.create_schedule(**{**SCHEDULE, **change}, Name="refused")
    with pytest.raises(Exception, match="not known here: "):
        client.update_schedule(**{**SCHEDULE, **change}, Name="beat")


def test_a_schedule_comes_again_at_its_rate(organisation: LocalOrganisation, request: pytest.FixtureRequest) -> None:
    """By the clock that the hooks lend; a disabled one does not."""
    installed = hooks.installed
    request.addfinalizer(lambda: fidelity.install(installed))
    client = organisation.client("scheduler", MEMBER)
    client.create_schedule(**SCHEDULE, Name="often")
    client.create_schedule(**SCHEDULE, Name="never", State="DISABLED")
    start = len(organisation.journal.since(0))
    time.sleep(0.2)  # until they have been seen
    now = time.time()
    for minutes, times in ((4, 0), (6, 1), (10, 1), (12, 2)):
        fidelity.install(replace(installed, clock=partial(float, now + minutes * 60)))
        assert organisation.settled(20)
        assert len(beats(organisation, start)) == times
    client.delete_schedule(Name="often")
    client.delete_schedule(Name="never")


HUB_ROLE = "arn:aws:iam::123456789012:role/portcullis-TimerRole"
WORK = "arn:aws:sqs:us-east-1:123456789012:portcullis-Work.fifo"


def look(what: str, group: str | None = "g", **target: Any) -> dict[str, Any]:
    """Return the parameters of a one-time schedule, but for its time, that puts a message on the example's queue."""
    parameters = {"SqsParameters": {"MessageGroupId": group}} if group else {}
    about = {"Arn": WORK, "RoleArn": HUB_ROLE, "Input": json.dumps({"what": what}), **parameters, **target}
    return {"Name": "look", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": about}


def at(minutes: float, zone: str = "UTC") -> dict[str, str]:
    """Return the expression of a time from now, as a clock shows it somewhere."""
    when = datetime.now(ZoneInfo(zone)) + timedelta(minutes=minutes)
    return {"ScheduleExpression": f"at({when:%Y-%m-%dT%H:%M:%S})", "ScheduleExpressionTimezone": zone}


@pytest.mark.parametrize("completion", ["DELETE", "NONE"])
def test_a_one_time_schedule_comes_once(organisation: LocalOrganisation, completion: str) -> None:
    """Then it is deleted if it says so; an update sets it anew, with all that it says and nothing else."""
    client, start = organisation.client("scheduler"), len(organisation.journal.since(0))
    client.create_schedule(**look(f"first {completion}"), **at(10), ActionAfterCompletion=completion)
    organisation.move_time(timedelta(minutes=9))
    assert organisation.settled(20)
    assert performed(organisation, start) == []
    client.update_schedule(**look(f"second {completion}"), **at(10, "Asia/Tokyo"), ActionAfterCompletion=completion)
    for minutes, times in ((9, 0), (2, 1), (60, 1)):
        organisation.move_time(timedelta(minutes=minutes))
        assert organisation.settled(20)
        assert [one["what"] for one in performed(organisation, start)] == [f"second {completion}"] * times
    if completion == "DELETE":
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_schedule(Name="look")
    else:
        client.update_schedule(**look("third"), **at(1))
        assert client.get_schedule(Name="look").get("ActionAfterCompletion", "NONE") == "NONE"
        client.delete_schedule(Name="look")


def test_what_aws_refuses_about_schedules_is_refused(organisation: LocalOrganisation) -> None:
    """Names that exist, or do not; groups that do not; times that are past, or none; unknown zones."""
    client = organisation.client("scheduler")
    client.create_schedule(**look("x"), **at(5))
    with pytest.raises(client.exceptions.ConflictException):
        client.create_schedule(**look("x"), **at(5))
    client.delete_schedule(Name="look")
    for call in (client.get_schedule, client.delete_schedule, partial(client.update_schedule, **at(5))):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            call(**(look("x") if isinstance(call, partial) else {"Name": "look"}))
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.create_schedule(**look("x"), **at(5), GroupName="none")
    no_time = {"ScheduleExpression": "at(2099-02-30T00:00:00)"}
    for wrong in (at(-1), no_time, {**at(5), "ScheduleExpressionTimezone": "X"}):
        with pytest.raises(client.exceptions.ValidationException, match="Invalid Schedule Expression"):
            client.create_schedule(**look("x"), **wrong)


@pytest.mark.parametrize(
    ("attributes", "group", "complaint"),
    [
        (None, "g", "there is no queue"),
        ({"FifoQueue": "true"}, "g", "needs a MessageGroupId and ContentBasedDeduplication"),
        ({"FifoQueue": "true", "ContentBasedDeduplication": "true"}, None, "needs a MessageGroupId and"),
    ],
)
def test_a_queue_that_cannot_take_the_message_is_an_error(
    organisation: LocalOrganisation, attributes: dict[str, str] | None, group: str | None, complaint: str
) -> None:
    """Of the invocation, not of the creation; the message goes to the target's dead-letter queue."""
    client, sqs, iam = (organisation.client(name) for name in ("scheduler", "sqs", "iam"))
    policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}}
    role = HUB_ROLE.rsplit("/", 1)[-1]
    iam.put_role_policy(RoleName=role, PolicyName="all", PolicyDocument=json.dumps(policy))
    url = sqs.create_queue(QueueName="q.fifo", Attributes=attributes)["QueueUrl"] if attributes else None
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    place = WORK.rpartition(":")[0]
    arns = {"Arn": f"{place}:q.fifo", "DeadLetterConfig": {"Arn": f"{place}:dead"}}
    client.create_schedule(**look("lost", group, **arns), **at(5))
    start = len(organisation.journal.since(0))
    organisation.run_schedule("look")
    client.delete_schedule(Name="look")
    (error,) = errors(organisation, start)
    assert complaint in error
    assert [one["Body"] for one in sqs.receive_message(QueueUrl=dead)["Messages"]] == ['{"what": "lost"}']
    for one in filter(None, (url, dead)):
        sqs.delete_queue(QueueUrl=one)
    iam.delete_role_policy(RoleName=role, PolicyName="all")
