"""SQS keeps the promises that Portcullis builds on, in moto too."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from moto.sqs import sqs_backends

from local import queues

ACCOUNT_ID = "999988887777"  # nobody else's, so that no running organisation is disturbed


@pytest.fixture
def backend() -> Any:
    """SQS of one account, restored."""
    queues.install()
    queues.install()  # a second time changes nothing
    return sqs_backends[ACCOUNT_ID]["us-east-1"]


def create(backend: Any, **attributes: str) -> str:
    """Create a FIFO queue and return its name."""
    name = f"q-{uuid.uuid4().hex}.fifo"
    backend.create_queue(name, FifoQueue="true", **attributes)
    return name


def send(backend: Any, queue: str, body: str, group: str, deduplication_id: str | None = None) -> None:
    """Send one message."""
    backend.send_message(queue, body, group_id=group, deduplication_id=deduplication_id or uuid.uuid4().hex)


def receive(backend: Any, queue: str, count: int = 10, visibility: int = 30) -> list[Any]:
    """Receive what is there."""
    return list(backend.receive_message(queue, count, 0, visibility))


def test_a_deleted_message_still_deduplicates(backend: Any) -> None:
    """For five minutes, as the API reference says: what is sent meanwhile with its id is lost."""
    queue = create(backend)
    send(backend, queue, "first", "g", "same")
    (message,) = receive(backend, queue)
    backend.delete_message(queue, message.receipt_handle)
    send(backend, queue, "second", "g", "same")
    assert receive(backend, queue) == []
    send(backend, queue, "third", "g", "other")
    assert [message.body for message in receive(backend, queue)] == ["third"]


def test_deduplication_may_be_per_group(backend: Any) -> None:
    """With DeduplicationScope messageGroup the same id in another group is another message."""
    queue = create(backend, DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    send(backend, queue, "a", "g1", "same")
    send(backend, queue, "b", "g2", "same")
    send(backend, queue, "c", "g2", "same")
    assert [message.body for message in receive(backend, queue)] == ["a", "b"]


def test_sequence_numbers_grow(backend: Any) -> None:
    """Twenty digits, in the order of sending."""
    queue = create(backend, ContentBasedDeduplication="true")
    for body in "abc":
        backend.send_message(queue, body, group_id="g")
    numbers = [message.sequence_number for message in receive(backend, queue)]
    assert numbers == sorted(numbers)
    assert all(len(number) == 20 for number in numbers)


def test_a_group_is_locked_while_one_of_it_is_in_flight(backend: Any) -> None:
    """Other groups are not."""
    queue = create(backend)
    for body, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        send(backend, queue, body, group)
    assert [message.body for message in receive(backend, queue, 1)] == ["a1"]
    assert [message.body for message in receive(backend, queue)] == ["b1"]


def test_order_holds_after_a_batch_has_timed_out(backend: Any) -> None:
    """The first message of the group comes first again."""
    queue = create(backend)
    send(backend, queue, "1", "g")
    send(backend, queue, "2", "g")
    assert len(receive(backend, queue, 10, visibility=1)) == 2
    time.sleep(1.05)
    assert [message.body for message in receive(backend, queue)] == ["1", "2"]


def test_the_delay_of_a_queue_holds(backend: Any) -> None:
    """A message is invisible for DelaySeconds after it was sent."""
    queue = create(backend, DelaySeconds="1")
    send(backend, queue, "later", "g")
    assert receive(backend, queue) == []
    time.sleep(1.05)
    assert [message.body for message in receive(backend, queue)] == ["later"]


def test_a_redriven_message_arrives_even_if_its_id_repeats(backend: Any) -> None:
    """Deduplication is for senders, not for the dead-letter queue."""
    dead = create(backend)
    arn = backend.get_queue(dead).queue_arn
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 1}}'
    queue = create(backend, RedrivePolicy=policy)
    send(backend, dead, "sent here", "g", "same")
    send(backend, queue, "poison", "h", "other")
    assert len(receive(backend, queue, visibility=0)) == 1
    assert receive(backend, queue) == []
    assert {message.body for message in receive(backend, dead)} == {"sent here", "poison"}
