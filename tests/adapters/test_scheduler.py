"""One-time looks: one schedule a target, at its time and never before, whatever happens meanwhile."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ConnectTimeoutError
from portcullis import work
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.scheduler import GROUP, EventBridgeScheduler
from portcullis.errors import TransientError
from portcullis.model import Cause, Kind, Target

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, SetClock, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

QUEUE = f"arn:aws:sqs:{REGION}:123456789012:portcullis-work.fifo"
ROLE = "arn:aws:iam::123456789012:role/portcullis-looks"
TARGET = Target(ACCOUNT, REGION, Kind.VPC, "vpc-0123456789abcdef0")
TEN = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)  # the clock stands at nine
MADE = {"ScheduleArn": f"arn:aws:scheduler:{REGION}:123456789012:schedule/{GROUP}/any"}


class Scheduled:
    """Scheduler in moto, and the adapter over it."""

    def __init__(self, client: Any, clock: SetClock) -> None:
        self.client = client
        self.scheduler = EventBridgeScheduler(client, QUEUE, ROLE, clock)

    def all(self) -> list[dict[str, Any]]:
        """Return the schedules that there are."""
        names = [found["Name"] for found in self.client.list_schedules(GroupName=GROUP)["Schedules"]]
        return [self.client.get_schedule(GroupName=GROUP, Name=name) for name in names]

    def times(self) -> list[str]:
        """Return the times of the schedules that there are."""
        return [found["ScheduleExpression"] for found in self.all()]


@pytest.fixture
def scheduled(aws: None, session: boto3.Session, clock: SetClock) -> Scheduled:  # noqa: ARG001 - it has to run in moto
    """Return Scheduler in moto. It is nine o'clock."""
    client: Any = session.client("scheduler")
    client.create_schedule_group(Name=GROUP)
    return Scheduled(client, clock)


@pytest.fixture
def scripted(script: Callable[[str], Script]) -> Script:
    """Return a scripted Scheduler."""
    return script("scheduler")


def over(script: Script) -> EventBridgeScheduler:
    """Return the adapter over a scripted Scheduler."""
    return EventBridgeScheduler(script.client, QUEUE, ROLE, SetClock())


def test_the_schedule_puts_the_target_on_the_work_queue_once(scripted: Script) -> None:
    """The request word for word: at a time in UTC, exactly then, deleted afterwards, in the target's message group."""
    scripted.expect("create_schedule", MADE)

    over(scripted).look_at(TARGET, TEN)

    ((_, request),) = scripted.requests
    body, token = request["Target"].pop("Input"), request.pop("ClientToken", None)
    assert token is None or token
    assert re.fullmatch(r"[0-9a-zA-Z_.-]{1,64}", request["Name"])
    assert request["Name"].startswith(f"vpc-0123456789abcdef0.{ACCOUNT}.{REGION}"[:47])
    del request["Name"]
    assert request == {
        "GroupName": "portcullis-looks",
        "State": "ENABLED",
        "ScheduleExpression": "at(2026-03-02T10:00:00)",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {"Arn": QUEUE, "RoleArn": ROLE, "SqsParameters": {"MessageGroupId": TARGET.key}},
    }
    read = work.decode(body, "message-1")
    assert (read.target, read.cause) == (TARGET, Cause("schedule/2026-03-02T10:00:00Z"))


def test_looks_at_different_times_are_different_messages(scheduled: Scheduled) -> None:
    """The queue drops a message whose body it has seen in the last five minutes."""
    bodies = set()
    for minutes in (2, 3):
        scheduled.scheduler.look_at(TARGET, TEN + timedelta(minutes=minutes))
        bodies |= {found["Target"]["Input"] for found in scheduled.all()}

    assert len(bodies) == 2


def test_a_target_has_one_schedule_which_is_moved(scheduled: Scheduled) -> None:
    """Later or sooner; everything else stays as it was."""
    scheduled.scheduler.look_at(TARGET, TEN)
    (first,) = scheduled.all()

    for moment in (TEN + timedelta(hours=1), TEN - timedelta(minutes=30)):
        scheduled.scheduler.look_at(TARGET, moment)

    (moved,) = scheduled.all()
    assert moved["ScheduleExpression"] == "at(2026-03-02T09:30:00)"
    assert "schedule/2026-03-02T09:30:00Z" in moved["Target"].pop("Input")
    del first["Target"]["Input"]
    for name in ("Name", "GroupName", "FlexibleTimeWindow", "ActionAfterCompletion", "State", "Target"):
        assert moved[name] == first[name]


def test_targets_have_schedules_of_their_own(scheduled: Scheduled) -> None:
    """What differs in anything has another name, however long it is; every name is one that Scheduler takes."""
    targets = [
        Target(ACCOUNT, REGION, Kind.VPC, "vpc-1"),
        Target(OTHER_ACCOUNT, REGION, Kind.VPC, "vpc-1"),
        Target(ACCOUNT, OTHER_REGION, Kind.VPC, "vpc-1"),
        Target(ACCOUNT, REGION, Kind.INSTANCE, "vpc-1"),
        Target(ACCOUNT, REGION, Kind.ACCOUNT_REGION),
        Target(ACCOUNT, "ap-southeast-2", Kind.VPC, "vpc-0123456789abcdef0"),
        Target(ACCOUNT, "ap-southeast-1", Kind.VPC, "vpc-0123456789abcdef0"),
    ]
    for target in targets:
        scheduled.scheduler.look_at(target, TEN)

    names = {found["Name"] for found in scheduled.all()}
    assert len(names) == len(targets)
    assert all(re.fullmatch(r"[0-9a-zA-Z_.-]{1,64}", name) for name in names)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (TEN + timedelta(microseconds=1), "at(2026-03-02T10:00:01)"),
        (TEN + timedelta(seconds=59, microseconds=999_999), "at(2026-03-02T10:01:00)"),
        (TEN.astimezone(timezone(timedelta(hours=5, minutes=30))), "at(2026-03-02T10:00:00)"),
        (TEN - timedelta(hours=1), "at(2026-03-02T09:01:00)"),
        (TEN - timedelta(days=400), "at(2026-03-02T09:01:00)"),
        (TEN - timedelta(minutes=59), "at(2026-03-02T09:01:00)"),
    ],
    ids=["rounded up", "over the minute", "another zone", "now", "long ago", "in a minute"],
)
def test_a_look_is_never_too_early_and_never_in_the_past(scheduled: Scheduled, when: datetime, expected: str) -> None:
    """Rounded up to a second, in UTC, a minute from now at the soonest."""
    scheduled.scheduler.look_at(TARGET, when)

    assert scheduled.times() == [expected]


def test_a_schedule_that_fires_while_it_is_moved_is_created_anew(scripted: Script) -> None:
    """There, so it is not created; gone, so it is not updated: then it can be created after all."""
    scripted.refuse("create_schedule", "ConflictException", status=409, Message="it is there")
    scripted.refuse("update_schedule", "ResourceNotFoundException", status=404, Message="it is gone")
    scripted.expect("create_schedule", MADE)

    over(scripted).look_at(TARGET, TEN)

    assert scripted.calls == ["CreateSchedule", "UpdateSchedule", "CreateSchedule"]
    assert len({request["ScheduleExpression"] for _, request in scripted.requests}) == 1


@pytest.mark.parametrize(
    "refusals",
    [
        ["ValidationException"],
        ["ResourceNotFoundException"],
        ["ServiceQuotaExceededException"],
        ["ThrottlingException"],
        ["ConflictException", "ConflictException"],
        ["ConflictException", "InternalServerException"],
        ["ConflictException", "ResourceNotFoundException", "ConflictException"],
    ],
)
def test_what_was_not_scheduled_is_transient(scripted: Script, refusals: list[str]) -> None:
    """The message goes back to the queue, and the next look schedules."""
    for operation, code in zip(("create_schedule", "update_schedule", "create_schedule"), refusals, strict=False):
        scripted.refuse(operation, code, Message="no")

    with pytest.raises(TransientError, match=f"^scheduling a look at {TARGET.key}: {refusals[-1]}"):
        over(scripted).look_at(TARGET, TEN)


def test_a_look_is_cancelled(scheduled: Scheduled) -> None:
    """That of this target only; none is there to cancel the second time."""
    other = Target(ACCOUNT, REGION, Kind.VPC, "vpc-2")
    scheduled.scheduler.look_at(TARGET, TEN)
    scheduled.scheduler.look_at(other, TEN + timedelta(hours=1))

    scheduled.scheduler.cancel(TARGET)
    scheduled.scheduler.cancel(TARGET)

    assert scheduled.times() == ["at(2026-03-02T11:00:00)"]


@pytest.mark.usefixtures("naps")
def test_what_was_not_cancelled_is_transient(session: boto3.Session) -> None:
    """No answer says nothing about the schedule."""
    client: Any = session.client("scheduler", config=CONFIG)
    Wire(client, ConnectTimeoutError(endpoint_url="https://scheduler"))

    with pytest.raises(TransientError, match=f"^cancelling the look at {TARGET.key}: ConnectTimeoutError"):
        EventBridgeScheduler(client, QUEUE, ROLE, SetClock()).cancel(TARGET)
