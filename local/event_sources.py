"""Feeds functions from SQS queues the way Lambda's pollers do."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from moto.sqs import sqs_backends
from moto.sqs.exceptions import ReceiptHandleIsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .functions import Answer
    from .journal import Journal
    from .stacks import EventSourceSpec

_RECEIVE_AT_MOST = 10
_IDLE_SECONDS = 0.02


class Invocable(Protocol):
    """What a poller needs of a function."""

    def invoke(self, event: Any) -> Answer:
        """Run the function and return its answer."""


class MalformedAnswerError(Exception):
    """The answer reports item failures in a way that Lambda does not understand."""


class Poller:
    """One event source mapping: a thread that receives batches, and threads that invoke the function.

    It is the only receiver of its queue, and SQS hands out nothing of a message group of which something is
    in flight: so groups run in parallel, and the messages of one group in order.
    """

    def __init__(self, spec: EventSourceSpec, function: Invocable, journal: Journal) -> None:
        """Prepare to poll; nothing happens before `start`."""
        self.spec = spec
        self._function = function
        self._journal = journal
        *_, self._region, self._account_id, self._queue_name = spec.queue_arn.split(":")
        self._stopping = threading.Event()
        self._slots = threading.Semaphore(spec.concurrency)
        self._workers = ThreadPoolExecutor(spec.concurrency, thread_name_prefix=self._queue_name)
        self._thread = threading.Thread(target=self._run, name=f"poll {self._queue_name}")

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling and wait for batches in progress; stop their function first to cut them short."""
        self._stopping.set()
        self._thread.join()
        self._workers.shutdown(cancel_futures=True)

    @property
    def _backend(self) -> Any:
        return sqs_backends[self._account_id][self._region]

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._slots.acquire(timeout=0.1):
                continue
            try:
                batch = self._receive_batch()
            except Exception as error:  # noqa: BLE001 - a thread that ends here would do so silently
                self._report(f"cannot receive from {self._queue_name}: {error!r}")
                batch = []
            if batch:
                self._workers.submit(self._process, batch)
            else:
                self._slots.release()
                self._stopping.wait(_IDLE_SECONDS)

    def _receive_batch(self) -> list[Any]:
        batch: list[Any] = []
        closes = None
        while len(batch) < self.spec.batch_size and not self._stopping.is_set():
            batch += self._receive(min(_RECEIVE_AT_MOST, self.spec.batch_size - len(batch)))
            if not batch:
                break
            closes = closes or time.monotonic() + self.spec.batching_window
            if time.monotonic() >= closes:
                break
            self._stopping.wait(_IDLE_SECONDS)
        return batch

    def _receive(self, count: int) -> list[Any]:
        queue = self._backend.get_queue(self._queue_name)
        received: list[Any] = self._backend.receive_message(
            self._queue_name, count, 0, queue.visibility_timeout, ["All"]
        )
        return received

    def _process(self, batch: Sequence[Any]) -> None:
        try:
            records = [sqs_record(message, self.spec.queue_arn, self._region) for message in batch]
            failed = failed_items(
                self._function.invoke({"Records": records}),
                [message.id for message in batch],
                reports_item_failures=self.spec.reports_item_failures,
            )
            # What failed stays invisible until its visibility timeout; then the queue counts and redrives.
            self._delete([message for message in batch if message.id not in failed])
        except MalformedAnswerError as error:
            self._report(f"the whole batch of {len(batch)} will be retried: {error}")
        except Exception as error:  # noqa: BLE001 - the pool would swallow it
            self._report(f"a batch from {self._queue_name} failed: {error!r}")
        finally:
            self._slots.release()

    def _delete(self, messages: Sequence[Any]) -> None:
        for message in messages:
            try:
                self._backend.delete_message(self._queue_name, message.receipt_handle)
            except ReceiptHandleIsInvalid:
                continue  # somebody purged the queue meanwhile

    def _report(self, text: str) -> None:
        self._journal.record(
            "error", text, account_id=self._account_id, region=self._region, data={"queue": self.spec.queue_arn}
        )


def failed_items(answer: Answer, message_ids: Sequence[str], *, reports_item_failures: bool) -> set[str]:
    """Return the ids of the messages that failed.

    Exactly as Lambda reads an answer: with ReportBatchItemFailures an empty answer is a success of all, and
    an answer that names something it was not given is a failure of all.

    Raises:
        MalformedAnswerError: the whole batch failed because of how the answer is written.
    """
    if answer.error:
        return set(message_ids)  # the function has recorded the error itself
    if not reports_item_failures or not answer.result:
        return set()
    if not isinstance(answer.result, dict):
        raise MalformedAnswerError(f"the answer is not an object but {answer.result!r}")
    failures = answer.result.get("batchItemFailures") or []
    if not isinstance(failures, list):
        raise MalformedAnswerError(f"batchItemFailures is not a list but {failures!r}")
    named: set[Any] = {item.get("itemIdentifier") if isinstance(item, dict) else None for item in failures}
    if unknown := named.difference(message_ids):
        raise MalformedAnswerError(f"batchItemFailures names {unknown}, which are not in the batch")
    return named


def sqs_record(message: Any, queue_arn: str, region: str) -> dict[str, Any]:
    """Return one record of Lambda's SQS event for a message that moto's queue has handed out."""
    attributes = {
        "ApproximateReceiveCount": message.approximate_receive_count,
        "SentTimestamp": message.sent_timestamp,
        "SenderId": message.sender_id,
        "ApproximateFirstReceiveTimestamp": message.approximate_first_receive_timestamp,
        "SequenceNumber": message.sequence_number,
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
        "AWSTraceHeader": message.system_attributes.get("AWSTraceHeader", {}).get("StringValue"),
    }
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": {key: str(value) for key, value in attributes.items() if value is not None},
        "messageAttributes": {name: _message_attribute(value) for name, value in message.message_attributes.items()},
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": region,
    }


def _message_attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    attribute: dict[str, Any] = {"dataType": value["DataType"], "stringListValues": [], "binaryListValues": []}
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        binary = value["BinaryValue"]
        attribute["binaryValue"] = base64.b64encode(binary).decode() if isinstance(binary, bytes) else binary
    return attribute
