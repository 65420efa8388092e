"""SQS as AWS runs it: what moto's queues lack, and the pollers that feed functions from them.

- moto forgets a deduplication id when its message is deleted, and ignores DeduplicationScope; SQS remembers
  it for five minutes.
- moto invokes functions inside SendMessage; here a `Poller` does, as Lambda's do.
- Sequence numbers are random, or missing; here they grow.
- After a batch of one message group has timed out, moto may hand out its second message before its first.
- A message that arrives while another is being deleted can get lost: nothing holds the queue's lock.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.sqs import models
from moto.sqs.exceptions import ReceiptHandleIsInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .functions import Answer
    from .journal import Journal

_IDLE_SECONDS = 0.05
_MOST_BATCHES = 1000
_batches = threading.Semaphore(_MOST_BATCHES)  # one of it is held by each batch that is being processed
_sequence = itertools.count(1)
_moto_delete_message = models.Queue.delete_message
_moto_receive_message = models.SQSBackend.receive_message


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up: the dead-letter queue's name, the body, and its string attributes."""

    queue: str
    body: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EventSource:
    """An SQS queue that feeds a function, and reports item failures."""

    queue_arn: str
    function_name: str
    batch_size: int
    concurrency: int


class MalformedAnswerError(Exception):
    """The answer names what was not in the batch, or is no answer: a failure of all."""


def depth(queue_arn: str) -> int:
    """Return how many messages a queue holds: visible, delayed or in flight."""
    return len(_queue(queue_arn)._messages)


def dead_letters(name: str, queue_arn: str) -> list[DeadLetter]:
    """Return what is in a dead-letter queue, without receiving it."""
    return [
        DeadLetter(name, message.body, {k: v.get("StringValue", "") for k, v in message.message_attributes.items()})
        for message in list(_queue(queue_arn)._messages)
    ]


@contextlib.contextmanager
def between_batches() -> Iterator[None]:
    """Wait for the batches in progress, and hold up new ones: no message may time out while somebody works on it."""
    with contextlib.ExitStack() as held:
        for _ in range(_MOST_BATCHES):
            held.enter_context(_batches)
        yield


def _queue(queue_arn: str) -> Any:
    *_, region, account_id, name = queue_arn.split(":")
    return models.sqs_backends[account_id][region].get_queue(name)


def install() -> None:
    """Patch moto's SQS; further calls change nothing."""
    models.Queue.add_message = _add_message
    models.Queue.delete_message = _delete_message
    models.SQSBackend.receive_message = _receive_message


def _add_message(queue: Any, message: Any) -> None:
    """Put a message into a queue, unless its deduplication id was sent within the last five minutes."""
    with queue._messages_lock:
        # A message that has been received is redriven: its id may well repeat one that is remembered.
        if queue.fifo_queue and not message.approximate_receive_count:
            scope = message.group_id if queue.deduplication_scope == "messageGroup" else None
            remembered: dict[Any, int] = queue.__dict__.setdefault("portcullis_sent", {})
            key = (scope, message.deduplication_id)
            horizon = message.sent_timestamp - models.DEDUPLICATION_TIME_IN_SECONDS * 1000
            if remembered.get(key, horizon) > horizon:
                return
            remembered[key] = message.sent_timestamp
            message.sequence_number = f"{next(_sequence):020d}"
        queue._messages.append(message)
        queue._messages_lock.notify_all()


def _delete_message(queue: Any, *args: Any) -> Any:
    with queue._messages_lock:
        return _moto_delete_message(queue, *args)


def _receive_message(backend: Any, queue_name: str, *args: Any, **options: Any) -> Any:
    queue = backend.get_queue(queue_name)
    # A condition's lock is released while moto waits for messages inside.
    with queue._messages_lock:
        queue.pending_messages.difference_update([m for m in queue.pending_messages if m.visible])
        return _moto_receive_message(backend, queue_name, *args, **options)


class Poller:
    """One event source mapping: as many threads as its concurrency, each of which receives, invokes and deletes.

    They are the only receivers of their queue, and SQS hands out nothing of a message group of which something
    is in flight: so groups run in parallel, and the messages of one group in order.
    """

    def __init__(self, source: EventSource, invoke: Callable[[Any], Answer], journal: Journal) -> None:
        """Begin to poll."""
        self.source = source
        self._invoke = invoke
        self._journal = journal
        *_, self._region, self._account_id, self._name = source.queue_arn.split(":")
        self._backend = models.sqs_backends[self._account_id][self._region]
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"poll {self._name}") for _ in range(source.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop polling and wait for batches in progress; stop their function first to cut them short."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            batch = []
            try:
                timeout = _queue(self.source.queue_arn).visibility_timeout
                with _batches:
                    batch = self._backend.receive_message(self._name, self.source.batch_size, 0, timeout, ["All"])
                    if batch:
                        self._process(batch)
            except Exception as error:  # noqa: BLE001 - a thread that ends here would do so silently
                text = f"a batch from {self._name} failed as a whole: {error!r}"
                self._journal.record("error", text, account_id=self._account_id, region=self._region)
            if not batch:
                self._stopping.wait(_IDLE_SECONDS)

    def _process(self, batch: Sequence[Any]) -> None:
        answer = self._invoke({"Records": [_record(message, self.source.queue_arn) for message in batch]})
        failed = failed_items(answer, [message.id for message in batch])
        # What failed stays invisible until its visibility timeout; then the queue counts and redrives.
        for message in batch:
            if message.id not in failed:
                with contextlib.suppress(ReceiptHandleIsInvalid):  # somebody purged the queue meanwhile
                    self._backend.delete_message(self._name, message.receipt_handle)


def failed_items(answer: Answer, message_ids: Sequence[str]) -> set[str]:
    """Return the ids of the messages that failed, exactly as Lambda reads an answer; may raise MalformedAnswerError."""
    if answer.error:
        return set(message_ids)  # the function has recorded the error itself
    failures = answer.result or {}
    failures = failures.get("batchItemFailures") or [] if isinstance(failures, dict) else None
    if not isinstance(failures, list):
        raise MalformedAnswerError(f"{answer.result!r} is no object with a list batchItemFailures")
    named: set[Any] = {item.get("itemIdentifier") if isinstance(item, dict) else None for item in failures}
    if unknown := named.difference(message_ids):
        raise MalformedAnswerError(f"batchItemFailures names {unknown}, which are not in the batch")
    return named


def _record(message: Any, queue_arn: str) -> dict[str, Any]:
    """Return one record of Lambda's SQS event for a message that moto's queue has handed out."""
    attributes = {
        "ApproximateReceiveCount": message.approximate_receive_count,
        "SentTimestamp": message.sent_timestamp,
        "SenderId": message.sender_id,
        "ApproximateFirstReceiveTimestamp": message.approximate_first_receive_timestamp,
        "SequenceNumber": message.sequence_number,
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
    }
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": {key: str(value) for key, value in attributes.items() if value is not None},
        "messageAttributes": {},  # no sender gives any that a function reads
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
