"""The work queue's messages: written and read back, and deduplicated without ever losing the last one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from portcullis import work
from portcullis.errors import UnreadableEventError
from portcullis.model import Ask, Caller, Cause, Conflict, Kind, Request, Target, Work

from tests.fakes import ACCOUNT, REGION, START, Calls, FakeClock, FakeQueue

SETTINGS = settings(deadline=None, derandomize=True, database=None)
TARGETS = st.builds(
    Target,
    st.from_regex(r"[0-9]{12}", fullmatch=True),
    st.sampled_from([REGION, "cn-north-1", "us-gov-west-1"]),
    st.sampled_from([Kind.VPC, Kind.INSTANCE]),
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
) | st.builds(Target, st.just(ACCOUNT), st.just(REGION), st.just(Kind.ACCOUNT_REGION))
CONFLICTS = st.builds(
    Conflict,
    st.text(),
    st.text(),
    st.text(),
    st.lists(st.text()).map(tuple),
    endpoint_id=st.text(),
    subnet_id=st.text(),
)
REQUESTS = st.builds(Request, st.sampled_from(Ask), st.text(), st.text(), st.text())
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=12))])
CAUSES = st.builds(
    Cause,
    st.text(),
    st.none() | st.sampled_from(Caller),
    st.booleans(),
    st.none() | CONFLICTS,
    st.none() | REQUESTS,
    st.none() | st.datetimes(timezones=ZONES),
)
VPC = Target(ACCOUNT, REGION, Kind.VPC, "vpc-0")
CAUSE = Cause("CreateSubnet/e-1", Caller.TERRAFORM)
CONFLICT = replace(CAUSE, conflict=Conflict("CreateVpcEndpoint", "arn:jane", "s3", ("rtb-0",)), at=START)
REQUEST = Cause("approval/e-1", request=Request(Ask.REMEDIATE, "VPCE.1", "jane"), at=START)


@settings(SETTINGS)
@given(target=TARGETS, cause=CAUSES)
def test_what_is_written_is_read_back(target: Target, cause: Cause) -> None:
    """Encoding loses nothing; the message's id comes from the queue."""
    assert work.decode(work.encode(target, cause), "m-1") == Work(target, "m-1", cause)


@settings(SETTINGS)
@given(body=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_else_is_refused(body: str) -> None:
    """Never another exception than the one that buries the message."""
    with pytest.raises(UnreadableEventError, match="not a target of version 2"):
        work.decode(body, "m-1")


def test_a_body_nested_without_end_is_refused() -> None:
    """It would crash the whole batch otherwise."""
    with pytest.raises(UnreadableEventError):
        work.decode("[" * 100_000, "m-1")


GOOD = json.loads(work.encode(VPC, CAUSE))
GOOD_CONFLICT = json.loads(work.encode(VPC, CONFLICT))["cause"]["conflict"]
GOOD_REQUEST = json.loads(work.encode(VPC, REQUEST))["cause"]["request"]
OLD = {name: value for name, value in GOOD.items() if name != "cause"} | {"version": 1, "trigger": "CreateVpc/e-1"}


def test_a_message_in_full() -> None:
    """As people find it in a dead-letter queue."""
    assert json.loads(work.encode(VPC, CONFLICT)) == {
        "version": 2,
        "account_id": ACCOUNT,
        "region": REGION,
        "kind": "vpc",
        "resource_id": "vpc-0",
        "cause": {
            "trigger": "CreateSubnet/e-1",
            "caller": "terraform",
            "indirect": False,
            "conflict": {
                "call": "CreateVpcEndpoint",
                "principal": "arn:jane",
                "service_name": "s3",
                "route_table_ids": ["rtb-0"],
                "endpoint_id": "",
                "subnet_id": "",
            },
            "request": None,
            "at": "2026-03-02T09:00:00+00:00",
        },
    }


@pytest.mark.parametrize("good", [GOOD, OLD], ids=["this version", "the one before"])
@pytest.mark.parametrize(
    "fault",
    [
        {"version": 3},
        {"version": None},
        {"version": "2"},
        {"version": []},
        {"kind": "subnet"},
        {"kind": []},
        {"kind": "account-region"},
        {"resource_id": None},
        {"resource_id": ""},
        {"resource_id": 7},
        {"account_id": 111122223333},
        {"account_id": None},
        {"region": None},
    ],
)
def test_a_target_with_a_fault_is_refused(good: dict[str, object], fault: dict[str, object]) -> None:
    """Each field is checked, and the kind has to agree with the id."""
    with pytest.raises(UnreadableEventError):
        work.decode(json.dumps(good | fault), "m-1")


@pytest.mark.parametrize(
    "fault",
    [
        {"trigger": None},
        {"trigger": ["CreateVpc"]},
        {"caller": "somebody"},
        {"caller": []},
        {"indirect": None},
        {"indirect": "false"},
        {"conflict": {}},
        {"conflict": []},
        {"conflict": "DeleteVpc"},
        *({"conflict": GOOD_CONFLICT | {name: None}} for name in GOOD_CONFLICT),
        {"conflict": GOOD_CONFLICT | {"route_table_ids": "rtb-0"}},
        {"conflict": GOOD_CONFLICT | {"route_table_ids": [7]}},
        {"request": {}},
        {"request": GOOD_REQUEST | {"ask": "destroy"}},
        *({"request": GOOD_REQUEST | {name: None}} for name in GOOD_REQUEST),
        {"at": ""},
        {"at": "yesterday"},
        {"at": "2026-03-02T09:00:00"},
        {"at": 1_772_442_000},
        {"at": ["2026-03-02T09:00:00Z"]},
    ],
)
def test_a_cause_with_a_fault_is_refused(fault: dict[str, object]) -> None:
    """It may ask for a change: nothing in it is guessed at."""
    with pytest.raises(UnreadableEventError):
        work.decode(json.dumps(GOOD | {"cause": GOOD["cause"] | fault}), "m-1")


@pytest.mark.parametrize("field", [*GOOD, *(f"cause {name}" for name in GOOD["cause"] if name != "at")])
def test_a_target_that_lacks_a_field_is_refused(field: str) -> None:
    """A message of another version of Portcullis is not guessed at."""
    body = json.loads(json.dumps(GOOD))
    holder, name = (body["cause"], field.removeprefix("cause ")) if " " in field else (body, field)
    del holder[name]
    with pytest.raises(UnreadableEventError):
        work.decode(json.dumps(body), "m-1")


def test_a_message_of_the_version_before_is_read() -> None:
    """Messages in flight survive an upgrade; who made the call is not known then, and nothing else changes."""
    assert work.decode(json.dumps(OLD), "m-1") == Work(VPC, "m-1", Cause("CreateVpc/e-1"))


def test_a_message_from_before_times_is_read() -> None:
    """It has version 2, too; when it came about is not known then."""
    body = json.loads(work.encode(VPC, CONFLICT))
    del body["cause"]["at"]
    assert work.decode(json.dumps(body), "m-1").cause == replace(CONFLICT, at=None)


def test_a_time_in_any_zone_is_the_same_moment() -> None:
    """As AWS writes it, and as we do."""
    body = GOOD | {"cause": GOOD["cause"] | {"at": "2026-03-02T10:00:00+01:00"}}
    zulu = GOOD | {"cause": GOOD["cause"] | {"at": "2026-03-02T09:00:00Z"}}
    read = [work.decode(json.dumps(each), "m-1").cause.at for each in (body, zulu)]
    assert read == [datetime(2026, 3, 2, 9, tzinfo=UTC)] * 2


def test_a_message_from_before_triggers_is_read() -> None:
    """Dead letters are redriven after an upgrade, whatever their age."""
    old = json.dumps({name: value for name, value in OLD.items() if name != "trigger"})
    assert work.decode(old, "m-1") == Work(VPC, "m-1", Cause())


@pytest.mark.parametrize("fault", [{"trigger": None}, {"trigger": ["CreateVpc"]}])
def test_an_old_message_with_a_faulty_trigger_is_refused(fault: dict[str, object]) -> None:
    """What is there is checked."""
    with pytest.raises(UnreadableEventError):
        work.decode(json.dumps(OLD | fault), "m-1")


@settings(SETTINGS, max_examples=300)
@given(
    sends=st.lists(
        st.tuples(st.floats(0, 400, allow_nan=False), st.sampled_from([CAUSE, Cause("sweep/1"), CONFLICT])),
        min_size=1,
        max_size=40,
    ),
    delay=st.floats(0.1, 900, allow_nan=False),
    start=st.floats(0, 1e9, allow_nan=False),
)
def test_every_send_is_followed_by_a_delivery_at_or_after_it(
    sends: list[tuple[float, Cause]], delay: float, start: float
) -> None:
    """However sends are spaced, whatever the delay: what is dropped was sent before the look of its cause's twin."""
    clock = FakeClock(START + timedelta(seconds=start))
    queue = FakeQueue(Calls(), clock, delay)
    for gap, cause in sends:
        clock.advance(gap)
        sent_at = clock.now()

        queue.send([(VPC, cause)])

        twins = [message for message in queue.waiting if work.decode(message.body, "m").cause == cause]
        assert any(message.visible_at >= sent_at for message in twins)
        assert twins[-1].visible_at <= sent_at + timedelta(seconds=delay)


@settings(SETTINGS)
@given(delay=st.floats(3, 900, allow_nan=False), lag=st.floats(0, 1, exclude_max=True))
def test_a_slow_sender_has_a_third_of_the_delay(delay: float, lag: float) -> None:
    """The id may be computed up to a third of the delay before the queue gets the message, and nothing is lost."""
    clock = FakeClock()
    queue = FakeQueue(Calls(), clock, delay)
    queue.send([(VPC, CAUSE)])
    window = work.window_seconds(delay)
    rest = window - clock.now().timestamp() % window
    last_moment = clock.now() + timedelta(seconds=rest) - timedelta(milliseconds=1)

    arrives_at = last_moment + timedelta(seconds=lag * (delay - window))

    assume(work.deduplication_id(VPC, CAUSE, last_moment, delay) == work.deduplication_id(VPC, CAUSE, START, delay))
    assert queue.waiting[0].visible_at >= arrives_at


@settings(SETTINGS)
@given(delay=st.floats(0.1, 900, allow_nan=False), since=st.floats(0, 900, allow_nan=False))
def test_no_look_begins_within_the_slack_after_its_event(delay: float, since: float) -> None:
    """Whenever an equal target was sent before: the look that an event causes comes later than a quick sweep ends."""
    clock = FakeClock()
    queue = FakeQueue(Calls(), clock, delay)
    queue.send([(VPC, CAUSE)])
    clock.advance(since)

    queue.send([(VPC, CAUSE)])

    earliest = clock.now() + timedelta(seconds=work.slack_seconds(delay))
    assert queue.waiting[-1].visible_at >= earliest - timedelta(milliseconds=1)


def test_a_burst_costs_few_looks() -> None:
    """A hundred events in half the window are at most two messages."""
    clock = FakeClock()
    queue = FakeQueue(Calls(), clock, 30)
    for _ in range(100):
        clock.advance(0.1)
        queue.send([(VPC, CAUSE)])
    assert len(queue.waiting) <= 2


def test_different_targets_are_never_one() -> None:
    """The id names the target."""
    others = [VPC, Target(ACCOUNT, REGION, Kind.INSTANCE, "vpc-0"), Target(ACCOUNT, REGION, Kind.ACCOUNT_REGION)]
    assert len({work.deduplication_id(target, CAUSE, START, 30) for target in others}) == 3


def test_without_a_delay_only_the_same_moment_is_one() -> None:
    """There is no window then in which a twin could be dropped unseen."""
    later = START + timedelta(microseconds=1)
    assert work.deduplication_id(VPC, CAUSE, START, 0) == work.deduplication_id(VPC, CAUSE, START, 0)
    assert work.deduplication_id(VPC, CAUSE, START, 0) != work.deduplication_id(VPC, CAUSE, later, 0)


class TestSameness:
    """What is dropped as a duplicate would have told the look nothing new."""

    def test_what_people_only_read_makes_no_difference(self) -> None:
        """Twenty calls of one pipeline are one cause."""
        again = replace(CAUSE, trigger="CreateRouteTable/e-2")
        assert work.deduplication_id(VPC, CAUSE, START, 30) == work.deduplication_id(VPC, again, START, 30)

    @pytest.mark.parametrize("cause", [CAUSE, CONFLICT])
    @pytest.mark.parametrize(
        "change",
        [{"caller": None}, {"caller": Caller.CONSOLE}, {"indirect": True}, {"conflict": Conflict("DeleteVpc")}],
    )
    def test_what_a_look_has_to_know_does(self, cause: Cause, change: dict[str, object]) -> None:
        """Whose call it was, whether it named the target, and what it failed over."""
        other = replace(cause, **change)  # type: ignore[arg-type]  # each is of its field's type
        assert work.deduplication_id(VPC, cause, START, 30) != work.deduplication_id(VPC, other, START, 30)

    def test_a_pipeline_that_keeps_trying_costs_a_look_a_window(self) -> None:
        """Terraform repeats a DeleteSubnet that fails for twenty minutes."""
        failed = [
            replace(CONFLICT, trigger=f"DeleteSubnet/e-{number}", at=START + timedelta(seconds=number))
            for number in range(10)
        ]
        assert len({work.deduplication_id(VPC, each, START, 30) for each in failed}) == 1

    def test_every_request_is_its_own(self) -> None:
        """What a person asks for is never dropped for what another one asked for."""
        other = replace(REQUEST, trigger="approval/e-2")
        assert work.deduplication_id(VPC, REQUEST, START, 30) != work.deduplication_id(VPC, other, START, 30)

    @pytest.mark.parametrize(
        "change", [{"ask": Ask.UNDO}, {"control_id": "VPCE.2"}, {"change_id": "20260302T090000Z-0a1b2c3d4e"}]
    )
    def test_two_requests_of_one_event_are_two(self, change: dict[str, object]) -> None:
        """An event may have two findings about one VPC, each of another control."""
        assert REQUEST.request is not None
        other = replace(REQUEST, request=replace(REQUEST.request, **change))  # type: ignore[arg-type]  # of their types
        assert work.deduplication_id(VPC, REQUEST, START, 30) != work.deduplication_id(VPC, other, START, 30)

    def test_no_two_requests_are_one_by_how_they_are_written(self) -> None:
        """Where one part ends is certain."""
        one, other = (
            Cause(name, request=Request(Ask.REMEDIATE, control_id, "jane"))
            for name, control_id in (("a remediate", "b"), ("a", "remediate b"))
        )
        assert work.sameness(one) != work.sameness(other)

    def test_a_request_that_is_sent_again_is_one(self) -> None:
        """Its message may be delivered twice, minutes apart."""
        later = START + timedelta(minutes=4)
        assert work.deduplication_id(VPC, REQUEST, START, 30) == work.deduplication_id(VPC, REQUEST, later, 30)
