"""The work queue and the dead-letter queues, over SQS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis import work
from portcullis.adapters.calls import translated
from portcullis.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portcullis.model import Cause, Target
    from portcullis.ports import Clock

PERMISSIONS = ("sqs:ChangeMessageVisibility", "sqs:SendMessage")
"""The IAM actions that this module uses, with the function's own role (only reconcile postpones)."""

_BATCH = 10
_REASON = 1024


class SqsWorkQueue:
    """The WorkQueue port over a FIFO queue.

    Args:
        client: An SQS client of the hub, whose timeouts are much shorter than the queue's delay.
        url: The queue.
        delay: The queue's own delay in seconds, from which the deduplication window follows.
        clock: The time.
    """

    def __init__(self, client: Any, url: str, delay: float, clock: Clock) -> None:
        self._client = client
        self._url = url
        self._delay = delay
        self._clock = clock

    def send(self, causes: Sequence[tuple[Target, Cause]]) -> None:
        """Enqueue targets. See ports.WorkQueue."""
        for start in range(0, len(causes), _BATCH):
            entries = [
                {
                    "Id": str(index),
                    "MessageBody": work.encode(target, cause),
                    "MessageGroupId": target.key,
                    "MessageDeduplicationId": work.deduplication_id(target, cause, self._clock.now(), self._delay),
                }
                for index, (target, cause) in enumerate(causes[start : start + _BATCH])
            ]
            with translated("sending to the work queue", TransientError):
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
            if failed := answer.get("Failed"):
                raise TransientError(f"the work queue refused {len(failed)} messages: {failed[0].get('Code')}")

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Keep a message invisible. See ports.WorkQueue."""
        with translated("postponing a message", TransientError):
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )


class SqsDeadLetters:
    """The DeadLetters port over the dead-letter queue of a queue.

    Args:
        client: An SQS client of the hub.
        url: The dead-letter queue; FIFO when its name says so.
    """

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def bury(self, body: str, reason: str, group: str = "unreadable") -> None:
        """Keep a message for people. See ports.DeadLetters."""
        ordering = {}
        if self._url.endswith(".fifo"):
            # A redrive keeps the group, and so the order among the messages about one target.
            ordering = {"MessageGroupId": group}
        with translated("sending to the dead-letter queue", TransientError):
            # SQS refuses control characters in attributes, and the reason may quote what could not be read.
            printable = "".join(character if character.isprintable() else " " for character in reason)
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=body,
                MessageAttributes={"reason": {"DataType": "String", "StringValue": printable[:_REASON] or "unknown"}},
                **ordering,
            )
