"""Looks into moto's queues, and restores what SQS promises and they lack.

- moto forgets a deduplication id when its message is deleted, and ignores DeduplicationScope; SQS remembers
  it for five minutes.
- moto invokes functions inside SendMessage; here the pollers of `event_sources` do.
- Sequence numbers are random, or missing; here they grow.
- After a batch of one message group has timed out, moto may hand out its second message before its first.
- A message that arrives while another is being deleted can get lost: nothing holds the queue's lock.
"""

from __future__ import annotations

import functools
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.sqs import models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_sequence = itertools.count(1)
_installing = threading.Lock()


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages of a queue can be received, are delayed, or are being processed."""

    visible: int
    delayed: int
    in_flight: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.visible + self.delayed + self.in_flight


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up: the dead-letter queue's name, the body, and its string attributes."""

    queue: str
    body: str
    attributes: Mapping[str, str]


def depth(queue_arn: str) -> QueueDepth:
    """Return how many messages a queue holds."""
    messages = list(_queue(queue_arn)._messages)
    in_flight = sum(not message.visible for message in messages)
    delayed = sum(message.delayed for message in messages)
    return QueueDepth(len(messages) - in_flight - delayed, delayed, in_flight)


def dead_letters(name: str, queue_arn: str) -> list[DeadLetter]:
    """Return what is in a dead-letter queue, without receiving it."""
    return [
        DeadLetter(name, message.body, {k: v.get("StringValue", "") for k, v in message.message_attributes.items()})
        for message in list(_queue(queue_arn)._messages)
    ]


def _queue(queue_arn: str) -> Any:
    *_, region, account_id, name = queue_arn.split(":")
    return models.sqs_backends[account_id][region].get_queue(name)


def install() -> None:
    """Patch moto's SQS once; further calls change nothing."""
    with _installing:
        if not hasattr(models.Queue, "portcullis_restored"):
            models.Queue.portcullis_restored = True
            models.Queue.add_message = _add_message
            models.Queue.delete_message = _locked(models.Queue.delete_message)
            models.SQSBackend.receive_message = _receive_message(models.SQSBackend.receive_message)


def _locked(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(queue: Any, *args: Any, **options: Any) -> Any:
        with queue._messages_lock:
            return original(queue, *args, **options)

    return wrapper


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


def _receive_message(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(backend: Any, queue_name: str, *args: Any, **options: Any) -> Any:
        queue = backend.get_queue(queue_name)
        # A condition's lock is released while moto waits for messages inside.
        with queue._messages_lock:
            queue.pending_messages.difference_update([m for m in queue.pending_messages if m.visible])
            return original(backend, queue_name, *args, **options)

    return wrapper
