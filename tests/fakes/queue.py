"""The queues, the scheduler, the kill switch and the journal of the small world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from portcullis import work
from portcullis.model import Cause, Target, trigger
from portcullis.ports import Changes

from tests.fakes.names import DELAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.fakes.calls import Calls, FakeClock

_DEDUPLICATION = timedelta(minutes=5)
_VISIBILITY = timedelta(seconds=720)
_MAX_RECEIVE_COUNT = 8


@dataclass
class _Queued:
    message_id: str
    body: str
    group: str
    visible_at: datetime
    receive_count: int = 0


class FakeQueue:
    """The WorkQueue port with SQS's FIFO semantics: groups, one delay, deduplication for five minutes."""

    def __init__(self, calls: Calls, clock: FakeClock, delay: float = DELAY) -> None:
        self.calls = calls
        self.clock = clock
        self.delay = delay
        self.waiting: list[_Queued] = []
        self.sent: list[Target] = []
        self.triggers: list[str] = []
        self.postponed: list[int] = []
        self.given_up: list[str] = []
        self._ids: dict[tuple[str, str], datetime] = {}
        self._count = 0

    def send(self, causes: Sequence[tuple[Target, Cause]]) -> None:
        """Enqueue targets; none costs no call. See ports.WorkQueue."""
        if not causes:
            return
        with self.calls.making("send"):
            for target, cause in causes:
                self.sent.append(target)
                self.triggers.append(cause.trigger)
                self.put(target, cause, work.deduplication_id(target, cause, self.clock.now(), self.delay))

    def put(self, target: Target, cause: Cause, deduplication_id: str) -> None:
        """Take a message, as SQS does."""
        now, identity = self.clock.now(), (target.key, deduplication_id)
        if identity in self._ids and now - self._ids[identity] < _DEDUPLICATION:
            return
        self._ids[identity] = now
        self._count += 1
        visible_at = now + timedelta(seconds=self.delay)
        self.waiting.append(_Queued(f"m-{self._count}", work.encode(target, cause), target.key, visible_at))

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Keep a message invisible. See ports.WorkQueue."""
        with self.calls.making("postpone"):
            self.postponed.append(seconds)
            for message in self.waiting:
                if message.message_id == receipt_handle:
                    message.visible_at = self.clock.now() + timedelta(seconds=seconds)

    def receive(self, most: int = 10) -> list[dict[str, Any]]:
        """Hand out a batch as Lambda does: in order within a group, and no group that is under way."""
        batch: list[dict[str, Any]] = []
        blocked: set[str] = set()
        for message in list(self.waiting):
            if message.group in blocked or message.visible_at > self.clock.now():
                blocked.add(message.group)
            elif message.receive_count == _MAX_RECEIVE_COUNT:
                self.waiting.remove(message)
                self.given_up.append(message.body)
            elif len(batch) < most:
                message.receive_count += 1
                message.visible_at = self.clock.now() + _VISIBILITY
                batch.append(
                    {
                        "messageId": message.message_id,
                        "receiptHandle": message.message_id,
                        "body": message.body,
                        "attributes": {"ApproximateReceiveCount": str(message.receive_count)},
                    }
                )
        return batch

    def settle(self, batch: Sequence[dict[str, Any]], response: dict[str, Any]) -> None:
        """Delete what the function did not report as failed."""
        failed = {failure["itemIdentifier"] for failure in response["batchItemFailures"]}
        done = {message["messageId"] for message in batch} - failed
        self.waiting = [message for message in self.waiting if message.message_id not in done]

    def next_at(self) -> datetime:
        """Return when the next message can be received: the first of some group."""
        heads: dict[str, _Queued] = {}
        for message in self.waiting:
            heads.setdefault(message.group, message)
        return min(message.visible_at for message in heads.values())


class FakeDeadLetters:
    """The DeadLetters port over a list of (body, reason)."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.buried: list[tuple[str, str]] = []
        self.groups: list[str] = []

    def bury(self, body: str, reason: str, group: str = "unreadable") -> None:
        """Keep a message. See ports.DeadLetters."""
        with self.calls.making("bury"):
            self.buried.append((body, reason))
            self.groups.append(group)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal."""

    step: str
    message: str
    fields: Mapping[str, object]
    is_problem: bool = False


class FakeJournal:
    """The Journal port over a list."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def step(self, step: str, message: str, /, **fields: object) -> None:
        """Record a step. See ports.Journal."""
        self.entries.append(Entry(step, message, fields))

    def problem(self, step: str, message: str, /, **fields: object) -> None:
        """Record a problem. See ports.Journal."""
        self.entries.append(Entry(step, message, fields, is_problem=True))

    def steps(self) -> list[str]:
        """Return the names of all steps."""
        return [entry.step for entry in self.entries]


class FakeScheduler:
    """The Scheduler port: at most one look for each target, put on the work queue when its time has come."""

    def __init__(self, calls: Calls, clock: FakeClock, queue: FakeQueue) -> None:
        self.calls = calls
        self.clock = clock
        self.queue = queue
        self.looks: dict[Target, datetime] = {}

    def look_at(self, target: Target, when: datetime) -> None:
        """Schedule a look. See ports.Scheduler."""
        with self.calls.making("look_at"):
            self.looks[target] = when

    def cancel(self, target: Target) -> None:
        """Drop a look. See ports.Scheduler."""
        with self.calls.making("cancel"):
            self.looks.pop(target, None)

    def next_at(self) -> datetime | None:
        """Return when the next look is due."""
        return min(self.looks.values(), default=None)

    def fire(self) -> None:
        """Put on the work queue what is due. SQS tells two messages of one target apart by their content."""
        for target, when in list(self.looks.items()):
            if when <= self.clock.now():
                del self.looks[target]
                cause = Cause(trigger("schedule", when.isoformat()))
                self.queue.put(target, cause, work.encode(target, cause))


class FakeSwitch:
    """The Switch port."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.set_to = Changes.ENABLED

    def position(self) -> Changes:
        """Return its position. See ports.Switch."""
        with self.calls.making("position"):
            return self.set_to
