"""The queues: targets in groups, each once a window; messages put aside with the reason beside them."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from portcullis import work
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.queues import SqsDeadLetters, SqsWorkQueue
from portcullis.errors import TransientError
from portcullis.model import Caller, Cause, Kind, Target

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, REGION, SetClock, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

DELAY = 30
URL = f"https://sqs.{REGION}.amazonaws.com/123456789012/work.fifo"


def target(number: int = 0) -> Target:
    """Return a VPC to look at."""
    return Target(ACCOUNT, REGION, Kind.VPC, f"vpc-{number:03}")


@pytest.fixture
def sqs(aws: None, session: boto3.Session) -> Any:  # noqa: ARG001 - it has to run inside moto
    """Return an SQS client inside moto."""
    return session.client("sqs", config=CONFIG)


@pytest.fixture
def url(sqs: Any) -> str:
    """Make a FIFO queue like the work queue, without its delay."""
    attributes = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    return str(sqs.create_queue(QueueName="work.fifo", Attributes=attributes)["QueueUrl"])


@pytest.fixture
def queue(sqs: Any, url: str, clock: SetClock) -> SqsWorkQueue:
    """Return a work queue inside moto."""
    return SqsWorkQueue(sqs, url, DELAY, clock)


@pytest.fixture
def scripted(script: Callable[[str], Script]) -> Script:
    """Return a scripted SQS."""
    return script("sqs")


def receive(sqs: Any, url: str) -> list[dict[str, Any]]:
    """Receive everything that is visible."""
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
    ).get("Messages"):
        found += messages
    return found


# ---- The work queue ------------------------------------------------------------------------------------------------


def test_targets_are_sent_ten_at_a_time(queue: SqsWorkQueue, sqs: Any, url: str) -> None:
    """23 targets take three calls and arrive as they were, each in the group of its own resource."""
    sizes: list[int] = []
    sqs.meta.events.register(
        "before-parameter-build.sqs.SendMessageBatch", lambda params, **_: sizes.append(len(params["Entries"]))
    )
    sent = [(target(n), Cause(f"CreateVpc/{n}", Caller.CDK)) for n in range(23)]

    queue.send(sent)

    messages = receive(sqs, url)
    assert sizes == [10, 10, 3]
    received = [work.decode(message["Body"], message["MessageId"]) for message in messages]
    assert {each.target: each.cause for each in received} == dict(sent)
    assert len(messages) == 23
    for message, each in zip(messages, received, strict=True):
        assert message["Attributes"]["MessageGroupId"] == each.target.key


def test_the_request_for_a_message(scripted: Script, clock: SetClock) -> None:
    """Body, group and deduplication id of a target, word for word; no delay, which FIFO queues refuse."""
    whole = Target(ACCOUNT, REGION, Kind.ACCOUNT_REGION)
    cause = Cause("sweep/one")
    slot = int(clock.now().timestamp() / 20)
    entry = {
        "Id": "0",
        "MessageBody": work.encode(whole, cause),
        "MessageGroupId": f"{ACCOUNT}/{REGION}/account-region/*",
        "MessageDeduplicationId": hashlib.sha256(f"{whole.key}|[null, false, null]|{slot}".encode()).hexdigest(),
    }
    scripted.expect("send_message_batch", {"Successful": [], "Failed": []}, {"QueueUrl": URL, "Entries": [entry]})

    SqsWorkQueue(scripted.client, URL, DELAY, clock).send([(whole, cause)])

    assert scripted.calls == ["SendMessageBatch"]


def test_nothing_to_send_is_no_call(scripted: Script, clock: SetClock) -> None:
    """SQS refuses an empty batch, so none is sent."""
    SqsWorkQueue(scripted.client, URL, DELAY, clock).send([])

    assert scripted.calls == []


def test_a_burst_about_one_resource_is_one_message(queue: SqsWorkQueue, sqs: Any, url: str, clock: SetClock) -> None:
    """Within a window of two thirds of the delay it is sent once; the next window sends it again."""
    for number in range(5):
        queue.send([(target(), Cause(f"CreateSubnet/{number}"))])
    clock.time += timedelta(seconds=19)
    queue.send([(target(), Cause("RunInstances/1"))])
    burst = receive(sqs, url)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=burst[0]["ReceiptHandle"])

    clock.time += timedelta(seconds=1)
    queue.send([(target(), Cause("RunInstances/1"))])

    assert len(burst) == 1
    assert len(receive(sqs, url)) == 1


def test_two_resources_do_not_hide_each_other(queue: SqsWorkQueue, sqs: Any, url: str) -> None:
    """The same id in two accounts is two resources."""
    sent = [target(), Target(OTHER_ACCOUNT, REGION, Kind.VPC, "vpc-000"), Target(ACCOUNT, REGION, Kind.INSTANCE, "i-1")]

    queue.send([(each, Cause("CreateVpc/1")) for each in sent])

    assert {work.decode(message["Body"], "m").target for message in receive(sqs, url)} == set(sent)


def test_two_kinds_of_callers_do_not_hide_each_other(queue: SqsWorkQueue, sqs: Any, url: str) -> None:
    """How long Portcullis waits depends on them: both messages arrive, in order, in the group of the resource."""
    sent = [Cause("CreateVpc/1", Caller.CONSOLE), Cause("CreateSubnet/1", Caller.TERRAFORM)]

    queue.send([(target(), cause) for cause in sent])

    assert [work.decode(message["Body"], "m").cause for message in receive(sqs, url)] == sent


def test_entries_that_sqs_refuses_are_transient(scripted: Script, clock: SetClock) -> None:
    """An HTTP success may hide refused entries: then the whole set has to be sent again."""
    failed = [{"Id": "1", "SenderFault": False, "Code": "InternalError"}]
    taken = [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "d"}]
    scripted.expect("send_message_batch", {"Successful": taken, "Failed": failed})

    with pytest.raises(TransientError, match="refused 1 messages: InternalError"):
        SqsWorkQueue(scripted.client, URL, DELAY, clock).send([(target(0), Cause()), (target(1), Cause())])


@pytest.mark.parametrize(
    "code", ["RequestThrottled", "ServiceUnavailable", "AccessDenied", "AWS.SimpleQueueService.NonExistentQueue"]
)
def test_whatever_is_wrong_with_the_work_queue_is_worth_a_retry(scripted: Script, clock: SetClock, code: str) -> None:
    """A missing queue or permission is a fault of the deployment, not of the targets: none is given up for it."""
    scripted.refuse("send_message_batch", code)

    with pytest.raises(TransientError, match=f"^sending to the work queue: {code}"):
        SqsWorkQueue(scripted.client, URL, DELAY, clock).send([(target(), Cause("RunInstances/1"))])


def test_an_unreachable_work_queue_is_transient(session: boto3.Session, clock: SetClock, naps: list[float]) -> None:
    """After botocore's attempts."""
    client = session.client("sqs", config=CONFIG)
    Wire(client, EndpointConnectionError(endpoint_url="https://sqs"))

    with pytest.raises(TransientError, match="EndpointConnectionError"):
        SqsWorkQueue(client, URL, DELAY, clock).send([(target(), Cause("RunInstances/1"))])

    assert len(naps) == 2


def test_a_postponed_message_is_invisible(queue: SqsWorkQueue, sqs: Any, url: str) -> None:
    """Zero seconds make it visible at once; more keep it, and its group, away."""
    queue.send([(target(), Cause("RunInstances/1"))])
    (message,) = receive(sqs, url)

    queue.postpone(message["ReceiptHandle"], 0)
    (again,) = sqs.receive_message(QueueUrl=url)["Messages"]
    queue.postpone(again["ReceiptHandle"], 300)

    assert again["MessageId"] == message["MessageId"]
    assert receive(sqs, url) == []


def test_postponing_asks_for_so_many_seconds(scripted: Script, clock: SetClock) -> None:
    """The request names the queue, the message and the seconds."""
    request = {"QueueUrl": URL, "ReceiptHandle": "handle", "VisibilityTimeout": 40}
    scripted.expect("change_message_visibility", {}, request)

    SqsWorkQueue(scripted.client, URL, DELAY, clock).postpone("handle", 40)

    assert scripted.calls == ["ChangeMessageVisibility"]


def test_a_message_that_cannot_be_postponed_raises(scripted: Script, clock: SetClock) -> None:
    """A throttled call is transient; the message then comes back after the queue's own timeout."""
    scripted.refuse("change_message_visibility", "RequestThrottled")

    with pytest.raises(TransientError, match=r"^postponing a message: RequestThrottled"):
        SqsWorkQueue(scripted.client, URL, DELAY, clock).postpone("handle", 40)


# ---- Dead letters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "attributes"),
    [("dead", {}), ("dead.fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true"})],
    ids=["standard", "fifo"],
)
def test_a_buried_message_is_kept_with_its_reason(sqs: Any, name: str, attributes: dict[str, str]) -> None:
    """The body as it came, the reason as an attribute, in either kind of queue."""
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    SqsDeadLetters(sqs, url).bury('{"not": "an event"}', "source is missing, expected text")

    (message,) = receive(sqs, url)
    assert message["Body"] == '{"not": "an event"}'
    reason = message["MessageAttributes"]["reason"]
    assert (reason["DataType"], reason["StringValue"]) == ("String", "source is missing, expected text")


def test_only_a_fifo_queue_gets_a_group(scripted: Script) -> None:
    """A standard queue is sent no group; a FIFO one the target's, so that a redrive keeps the order."""
    request = {
        "MessageBody": "body",
        "MessageAttributes": {"reason": {"DataType": "String", "StringValue": "why"}},
    }
    scripted.expect("send_message", {}, {"QueueUrl": "https://sqs/dead", **request})
    fifo = {"QueueUrl": "https://sqs/dead.fifo", **request, "MessageGroupId": "a group"}
    scripted.expect("send_message", {}, fifo)

    SqsDeadLetters(scripted.client, "https://sqs/dead").bury("body", "why", "a group")
    SqsDeadLetters(scripted.client, "https://sqs/dead.fifo").bury("body", "why", "a group")

    assert scripted.calls == ["SendMessage", "SendMessage"]


@pytest.mark.parametrize(("reason", "kept"), [("x" * 5000, "x" * 1024), ("", "unknown")])
def test_a_reason_is_never_too_long_nor_empty(scripted: Script, reason: str, kept: str) -> None:
    """SQS refuses an empty attribute, and a long one eats into the message's size."""
    attributes = {"reason": {"DataType": "String", "StringValue": kept}}
    request = {"QueueUrl": "https://sqs/dead", "MessageBody": "body", "MessageAttributes": attributes}
    scripted.expect("send_message", {}, request)

    SqsDeadLetters(scripted.client, "https://sqs/dead").bury("body", reason)

    assert scripted.calls == ["SendMessage"]


@pytest.mark.parametrize("code", ["RequestThrottled", "AccessDenied"])
def test_a_message_that_cannot_be_buried_raises(scripted: Script, code: str) -> None:
    """Then it stays where it is, and comes again: nothing is lost."""
    scripted.refuse("send_message", code)

    with pytest.raises(TransientError, match=f"^sending to the dead-letter queue: {code}"):
        SqsDeadLetters(scripted.client, "https://sqs/dead").bury("body", "why")
