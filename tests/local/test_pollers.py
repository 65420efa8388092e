"""The poller reads answers, deletes, retries and redrives exactly as Lambda's does."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from moto.sqs import sqs_backends

from local import queues
from local.functions import Answer
from local.journal import Journal
from local.queues import EventSource, MalformedAnswerError, Poller, failed_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCOUNT_ID = "888877776666"  # nobody else's, so that no running organisation is disturbed
IDS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        (None, set()),
        ({}, set()),
        ("", set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "b"}]}, {"b"}),
    ],
)
def test_answers_that_lambda_understands(result: object, failed: set[str]) -> None:
    """An empty answer is a success of all."""
    assert failed_items(Answer(result), IDS) == failed


@pytest.mark.parametrize(
    "result",
    [
        "done",
        ["a"],
        {"batchItemFailures": "a"},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemidentifier": "a"}]},
        {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "unknown"}]},
    ],
)
def test_malformed_answers_fail_the_whole_batch(result: object) -> None:
    """Whatever names no message of the batch."""
    with pytest.raises(MalformedAnswerError):
        failed_items(Answer(result), IDS)


def test_errors_fail_all() -> None:
    """Whatever the error is."""
    error = Answer(error={"errorType": "ValueError", "errorMessage": "no"})
    assert failed_items(error, IDS) == set(IDS)


class Bench:
    """A queue with a dead-letter queue, a poller, and a function that the test gives."""

    def __init__(
        self, handle: Callable[[dict[str, Any]], Answer], *, fifo: bool, batch_size: int = 10, concurrency: int = 3
    ) -> None:
        queues.install()
        self.backend = sqs_backends[ACCOUNT_ID]["us-east-1"]
        self.journal = Journal()
        self.handle = handle
        self.events: list[dict[str, Any]] = []
        suffix, kind = (".fifo", {"FifoQueue": "true"}) if fifo else ("", {})
        self.name, self.dead = (f"q-{uuid.uuid4().hex}{suffix}" for _ in range(2))
        dead = self.backend.create_queue(self.dead, **kind)
        redrive = json.dumps({"deadLetterTargetArn": dead.queue_arn, "maxReceiveCount": 2})
        queue = self.backend.create_queue(self.name, VisibilityTimeout="1", RedrivePolicy=redrive, **kind)
        self.source = EventSource(queue.queue_arn, "f", batch_size, concurrency)

    def invoke(self, event: dict[str, Any]) -> Answer:
        """Stand for the function."""
        self.events.append(event)
        return self.handle(event)

    def send(self, body: str, group: str | None = None, **options: Any) -> str:
        """Send one message and return its id."""
        deduplication_id = uuid.uuid4().hex if group else None
        message = self.backend.send_message(
            self.name, body, group_id=group, deduplication_id=deduplication_id, **options
        )
        return str(message.id)

    def bodies(self, name: str) -> list[str]:
        """Return what is in a queue."""
        return [message.body for message in self.backend.get_queue(name)._messages]

    def run(self, until: Callable[[], bool], seconds: float = 8) -> None:
        """Poll until something is true, and then stop."""
        poller = Poller(self.source, self.invoke, self.journal)
        try:
            deadline = time.monotonic() + seconds
            while not until():
                assert time.monotonic() < deadline, "it did not happen in time"
                time.sleep(0.01)
        finally:
            poller.stop()


def _succeed(_: dict[str, Any]) -> Answer:
    return Answer()


def test_the_event_is_lambdas() -> None:
    """Every field that Lambda's SQS event has, as text where it is text there."""
    bench = Bench(_succeed, fifo=True)
    message_id = bench.send("body", "group")
    bench.run(lambda: not bench.bodies(bench.name))
    (record,) = bench.events[0]["Records"]
    assert record["messageId"] == message_id
    assert record["body"] == "body"
    assert record["md5OfBody"] == "841a2d689ad86bd1611447453c22c6fc"
    assert record["receiptHandle"]
    assert record["eventSource"] == "aws:sqs"
    assert record["eventSourceARN"] == bench.source.queue_arn
    assert record["awsRegion"] == "us-east-1"
    assert record["messageAttributes"] == {}
    assert set(record["attributes"]) == {
        *("ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"),
        *("SequenceNumber", "MessageGroupId", "MessageDeduplicationId"),
    }
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["attributes"]["MessageGroupId"] == "group"


def test_only_what_failed_is_retried_and_then_redriven() -> None:
    """The rest of the batch is deleted; after maxReceiveCount the poison is in the dead-letter queue."""

    def handle(event: dict[str, Any]) -> Answer:
        bad = [{"itemIdentifier": r["messageId"]} for r in event["Records"] if r["body"] == "bad"]
        return Answer({"batchItemFailures": bad})

    bench = Bench(handle, fifo=False)
    for body in ("good", "bad", "fine"):
        bench.send(body)
    bench.run(lambda: bool(bench.bodies(bench.dead)))
    assert bench.bodies(bench.dead) == ["bad"]
    assert bench.bodies(bench.name) == []
    counts = [
        record["attributes"]["ApproximateReceiveCount"]
        for event in bench.events
        for record in event["Records"]
        if record["body"] == "bad"
    ]
    assert counts == ["1", "2"]
    assert sum(record["body"] == "good" for event in bench.events for record in event["Records"]) == 1
    assert bench.journal.since(0) == []


def test_a_malformed_answer_fails_the_batch_loudly() -> None:
    """All messages are retried, and the journal says why."""
    bench = Bench(lambda _: Answer({"batchItemFailures": [{"itemIdentifier": "nobody"}]}), fifo=False)
    bench.send("one")
    bench.send("two")
    bench.run(lambda: len(bench.bodies(bench.dead)) == 2)
    step = bench.journal.since(0)[0]
    assert step.kind == "error"
    assert "failed as a whole" in step.text
    assert "batchItemFailures names {'nobody'}" in step.text
    assert (step.account_id, step.region) == (ACCOUNT_ID, "us-east-1")


def test_a_poller_survives_what_goes_wrong_inside_it() -> None:
    """A broken function object is an error in the journal, not the end of polling."""
    calls = iter([ZeroDivisionError("oops")])

    def handle(_: dict[str, Any]) -> Answer:
        for error in calls:
            raise error
        return Answer()

    bench = Bench(handle, fifo=False)
    bench.send("one")
    bench.run(lambda: not bench.bodies(bench.name))
    assert "oops" in bench.journal.since(0)[0].text


def test_groups_run_in_parallel_and_each_in_order() -> None:
    """The messages of one group never overlap; those of others do; concurrency is the limit."""
    lock = threading.Lock()
    running: list[str] = []
    done: list[str] = []
    most = 0

    def handle(event: dict[str, Any]) -> Answer:
        nonlocal most
        (record,) = event["Records"]
        group = record["attributes"]["MessageGroupId"]
        with lock:
            assert group not in running
            running.append(group)
            most = max(most, len(running))
        time.sleep(0.03)
        with lock:
            running.remove(group)
            done.append(record["body"])
        return Answer()

    bench = Bench(handle, fifo=True, batch_size=1, concurrency=3)
    for number in range(4):
        for group in "abcde":
            bench.send(f"{group}{number}", group)
    bench.run(lambda: len(done) == 20)
    assert most == 3
    for group in "abcde":
        assert [body for body in done if body[0] == group] == [f"{group}{number}" for number in range(4)]
    assert bench.journal.since(0) == []


def test_a_failed_message_holds_its_group_back() -> None:
    """Until it succeeds, or is given up; then the group goes on."""
    done: list[str] = []

    def handle(event: dict[str, Any]) -> Answer:
        (record,) = event["Records"]
        done.append(record["body"])
        bad = [{"itemIdentifier": record["messageId"]}] if record["body"] == "bad" else []
        return Answer({"batchItemFailures": bad})

    bench = Bench(handle, fifo=True, batch_size=1)
    for body in ("first", "bad", "last"):
        bench.send(body, "g")
    bench.run(lambda: not bench.bodies(bench.name))
    assert done == ["first", "bad", "bad", "last"]
    assert bench.bodies(bench.dead) == ["bad"]


@pytest.fixture(autouse=True)
def _no_threads_are_left() -> Iterator[None]:
    """Stopping ends every thread."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("poll q-")] == []
