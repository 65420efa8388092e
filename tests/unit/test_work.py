"""The work queue's messages: written and read back, and deduplicated without ever losing the last one."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from portcullis import work
from portcullis.errors import UnreadableEventError
from portcullis.model import Kind, Target, Work

from tests.fakes import ACCOUNT, REGION, START, Calls, FakeClock, FakeQueue

SETTINGS = settings(deadline=None, derandomize=True, database=None)
TARGETS = st.builds(
    Target,
    st.from_regex(r"[0-9]{12}", fullmatch=True),
    st.sampled_from([REGION, "cn-north-1", "us-gov-west-1"]),
    st.sampled_from([Kind.VPC, Kind.INSTANCE]),
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
) | st.builds(Target, st.just(ACCOUNT), st.just(REGION), st.just(Kind.ACCOUNT_REGION))
VPC = Target(ACCOUNT, REGION, Kind.VPC, "vpc-0")


@settings(SETTINGS)
@given(target=TARGETS, trigger=st.text())
def test_what_is_written_is_read_back(target: Target, trigger: str) -> None:
    """Encoding loses nothing; the message's id comes from the queue."""
    assert work.decode(work.encode(target, trigger), "m-1") == Work(target, "m-1", trigger)


@settings(SETTINGS)
@given(body=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_else_is_refused(body: str) -> None:
    """Never another exception than the one that buries the message."""
    with pytest.raises(UnreadableEventError, match="not a target of version 1"):
        work.decode(body, "m-1")


def test_a_body_nested_without_end_is_refused() -> None:
    """It would crash the whole batch otherwise."""
    with pytest.raises(UnreadableEventError):
        work.decode("[" * 100_000, "m-1")


GOOD = json.loads(work.encode(VPC))


@pytest.mark.parametrize(
    "fault",
    [
        {"version": 2},
        {"version": None},
        {"kind": "subnet"},
        {"kind": []},
        {"kind": "account-region"},
        {"resource_id": None},
        {"resource_id": ""},
        {"resource_id": 7},
        {"account_id": 111122223333},
        {"account_id": None},
        {"region": None},
        {"trigger": None},
        {"trigger": ["CreateVpc"]},
    ],
)
def test_a_target_with_a_fault_is_refused(fault: dict[str, object]) -> None:
    """Each field is checked, and the kind has to agree with the id."""
    with pytest.raises(UnreadableEventError):
        work.decode(json.dumps(GOOD | fault), "m-1")


@pytest.mark.parametrize("field", [name for name in GOOD if name != "trigger"])
def test_a_target_that_lacks_a_field_is_refused(field: str) -> None:
    """A message of another version of Portcullis is not guessed at."""
    with pytest.raises(UnreadableEventError):
        work.decode(json.dumps({name: value for name, value in GOOD.items() if name != field}), "m-1")


def test_a_message_from_before_triggers_is_read() -> None:
    """Dead letters are redriven after an upgrade: what set them off is not known then, and nothing else changes."""
    old = json.dumps({name: value for name, value in GOOD.items() if name != "trigger"})
    assert work.decode(old, "m-1") == Work(VPC, "m-1", "")


@settings(SETTINGS, max_examples=300)
@given(
    gaps=st.lists(st.floats(0, 400, allow_nan=False), min_size=1, max_size=40),
    delay=st.floats(0.1, 900, allow_nan=False),
    start=st.floats(0, 1e9, allow_nan=False),
)
def test_every_send_is_followed_by_a_delivery_at_or_after_it(gaps: list[float], delay: float, start: float) -> None:
    """However sends are spaced, whatever the delay: what is dropped was sent before the look of its twin."""
    clock = FakeClock(START + timedelta(seconds=start))
    queue = FakeQueue(Calls(), clock, delay)
    for gap in gaps:
        clock.advance(gap)
        sent_at = clock.now()

        queue.send({VPC: "test"})

        assert any(message.visible_at >= sent_at for message in queue.waiting)
        assert queue.waiting[-1].visible_at <= sent_at + timedelta(seconds=delay)


@settings(SETTINGS)
@given(delay=st.floats(3, 900, allow_nan=False), lag=st.floats(0, 1, exclude_max=True))
def test_a_slow_sender_has_a_third_of_the_delay(delay: float, lag: float) -> None:
    """The id may be computed up to a third of the delay before the queue gets the message, and nothing is lost."""
    clock = FakeClock()
    queue = FakeQueue(Calls(), clock, delay)
    queue.send({VPC: "test"})
    window = work.window_seconds(delay)
    rest = window - clock.now().timestamp() % window
    last_moment = clock.now() + timedelta(seconds=rest) - timedelta(milliseconds=1)

    arrives_at = last_moment + timedelta(seconds=lag * (delay - window))

    assume(work.deduplication_id(VPC, last_moment, delay) == work.deduplication_id(VPC, START, delay))
    assert queue.waiting[0].visible_at >= arrives_at


@settings(SETTINGS)
@given(delay=st.floats(0.1, 900, allow_nan=False), since=st.floats(0, 900, allow_nan=False))
def test_no_look_begins_within_the_slack_after_its_event(delay: float, since: float) -> None:
    """Whenever an equal target was sent before: the look that an event causes comes later than a quick sweep ends."""
    clock = FakeClock()
    queue = FakeQueue(Calls(), clock, delay)
    queue.send({VPC: "test"})
    clock.advance(since)

    queue.send({VPC: "test"})

    earliest = clock.now() + timedelta(seconds=work.slack_seconds(delay))
    assert queue.waiting[-1].visible_at >= earliest - timedelta(milliseconds=1)


def test_a_burst_costs_few_looks() -> None:
    """A hundred events in half the window are at most two messages."""
    clock = FakeClock()
    queue = FakeQueue(Calls(), clock, 30)
    for _ in range(100):
        clock.advance(0.1)
        queue.send({VPC: "test"})
    assert len(queue.waiting) <= 2


def test_different_targets_are_never_one() -> None:
    """The id names the target."""
    others = [VPC, Target(ACCOUNT, REGION, Kind.INSTANCE, "vpc-0"), Target(ACCOUNT, REGION, Kind.ACCOUNT_REGION)]
    assert len({work.deduplication_id(target, START, 30) for target in others}) == 3


def test_without_a_delay_only_the_same_moment_is_one() -> None:
    """There is no window then in which a twin could be dropped unseen."""
    later = START + timedelta(microseconds=1)
    assert work.deduplication_id(VPC, START, 0) == work.deduplication_id(VPC, START, 0)
    assert work.deduplication_id(VPC, START, 0) != work.deduplication_id(VPC, later, 0)
