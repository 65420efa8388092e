"""What the two functions do with a batch of SQS messages. Nothing that arrives is ever lost.

A message is answered, delivered again, or put into the dead-letter queue with the reason beside it. The
work queue's groups stay in order: all messages of a group are about one target and share its answer.
Source: "Implementing partial batch responses" (Lambda developer guide).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from portcullis import work
from portcullis.closer import Verdict
from portcullis.errors import TransientError, UnreadableEventError
from portcullis.model import Cause, Kind, Target
from portcullis.triggers import cause_of, heartbeat_of, is_own, targets_of, trigger_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from portcullis.loop import Loop
    from portcullis.model import Work
    from portcullis.ports import CoverageStore, DeadLetters, Journal, WorkQueue

_FIRST_BACKOFF = 5
_LONGEST_BACKOFF = 900

ATTEMPTS = 8
"""How often a target is tried, over about ten minutes. The queue itself gives up one later, without a reason."""

Message = dict[str, Any]
"""A record of a Lambda event from SQS: messageId, receiptHandle, body, attributes."""


def backoff_seconds(receive_count: int) -> int:
    """Return how long a message stays invisible after its n-th failure: 5 s, doubling, at most 15 minutes."""
    return int(min(_FIRST_BACKOFF * 2 ** (receive_count - 1), _LONGEST_BACKOFF))


class Intake:
    """Turns EventBridge events into targets on the work queue, but for the events of Portcullis's own calls."""

    def __init__(
        self,
        queue: WorkQueue,
        dead_letters: DeadLetters,
        coverage: CoverageStore,
        journal: Journal,
        own_role_names: Collection[str] = (),
    ) -> None:
        self._own_role_names = own_role_names
        self._coverage = coverage
        self._queue = queue
        self._dead_letters = dead_letters
        self._journal = journal

    def handle(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Enqueue the targets of every event in the batch.

        Returns:
            A partial batch response. All readable events when the work queue cannot be reached; an event that
            cannot be read goes to the dead-letter queue at once, and only once.
        """
        causes: dict[tuple[Target, str], Cause] = {}
        readable: list[str] = []
        again: list[str] = []
        for message in messages:
            try:
                causes |= self._causes(_json(message["body"]))
            except UnreadableEventError as error:
                again += bury(self._dead_letters, self._journal, message, f"an event could not be read: {error}")
            except TransientError as error:
                self._journal.problem("retry", f"a heartbeat could not be noted: {error}")
                again.append(message["messageId"])
            else:
                readable.append(message["messageId"])
        try:
            self._queue.send([(target, cause) for (target, _), cause in causes.items()])
        except TransientError as error:
            self._journal.problem("retry", f"the work queue did not take {len(causes)} targets: {error}")
            return failures([*again, *readable])
        for (target, _), cause in causes.items():
            what = f"look at {target.kind} {target.resource_id or ''}".rstrip()
            failed = cause.conflict.call if cause.conflict else None
            told = {"trigger": cause.trigger, "caller": cause.caller, "failed": failed}
            self._journal.step("queued", what, **_fields(target), **told)
        return failures(again)

    def _causes(self, event: Any) -> dict[tuple[Target, str], Cause]:
        """Return the targets of an event with its cause, by what makes two of them one."""
        targets = targets_of(event, self._own_role_names)
        if is_own(event, self._own_role_names):
            # Counted: every change makes a few, a loop of reactions to ourselves would make many, and an alarm tells.
            own = {"account_id": event["account"], "region": event["region"], "trigger": trigger_of(event)}
            self._journal.step("own", "a call of Portcullis itself", **own)
        if place := heartbeat_of(event):
            coverage = self._coverage.heard(*place)
            self._journal.step("heard", "a heartbeat", account_id=place[0], region=place[1])
            # Somebody has just joined, or nobody has looked yet: do not wait for the next sweep.
            targets = [] if coverage.swept_at else [Target(*place, Kind.ACCOUNT_REGION)]
        cause = cause_of(event) if targets else Cause()
        return {(target, work.sameness(cause)): cause for target in targets}


class Reconcile:
    """Runs the loop on the targets of a batch."""

    def __init__(self, loop: Loop, queue: WorkQueue, dead_letters: DeadLetters, journal: Journal) -> None:
        self._loop = loop
        self._queue = queue
        self._dead_letters = dead_letters
        self._journal = journal

    def handle(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Bring the targets of the batch to where the policy wants them.

        Returns:
            A partial batch response with the messages to deliver again; each is invisible for its backoff.
        """
        readable: dict[str, Work] = {}
        again: list[str] = []
        for message in messages:
            try:
                readable[message["messageId"]] = work.decode(message["body"], message["messageId"])
            except UnreadableEventError as error:
                again += bury(self._dead_letters, self._journal, message, str(error))
        answers = self._loop.run(readable.values())
        for message in messages:
            if message["messageId"] not in readable:
                continue
            target = readable[message["messageId"]].target
            answer = answers[target]
            tries = int(message["attributes"]["ApproximateReceiveCount"])
            if answer.verdict is Verdict.BURY or (answer.verdict is Verdict.RETRY and tries >= ATTEMPTS):
                again += bury(self._dead_letters, self._journal, message, answer.reason, target)
            elif answer.verdict is Verdict.RETRY:
                self._postpone(message, backoff_seconds(tries), answer.reason, _fields(target))
                again.append(message["messageId"])
        return failures(again)

    def _postpone(self, message: Message, seconds: int, reason: str, fields: Mapping[str, object]) -> None:
        try:
            self._queue.postpone(message["receiptHandle"], seconds)
        except TransientError as error:
            # It comes back all the same, when the queue's own visibility timeout ends.
            reason = f"{reason}; {error}"
        self._journal.problem("retry", f"{reason.rstrip('.')}; again in {seconds} s", **fields)


def bury(
    dead_letters: DeadLetters, journal: Journal, message: Message, reason: str, target: Target | None = None
) -> list[str]:
    """Move a message to the dead letters; returns its id when that failed and it must be delivered again."""
    fields = {"message_id": message["messageId"], **(_fields(target) if target else {})}
    try:
        dead_letters.bury(message["body"], reason, *([target.key] if target else []))
    except TransientError as error:
        journal.problem("retry", f"{reason}; {error}", **fields)
        return [message["messageId"]]
    journal.problem("buried", reason, **fields)
    return []


def _json(body: str) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableEventError(f"the event is not JSON: {error}") from error


def _fields(target: Target) -> dict[str, object]:
    return {
        "account_id": target.account_id,
        "region": target.region,
        "kind": str(target.kind),
        "resource_id": target.resource_id,
    }


def failures(message_ids: Sequence[str]) -> dict[str, Any]:
    """Return the partial batch response that has some messages delivered again."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in message_ids]}
