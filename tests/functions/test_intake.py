"""The intake function, end to end: events from its queue become targets on the work queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import bootstrap
from portcullis.errors import PortcullisError
from portcullis.model import Kind, Target

from tests.functions.conftest import NOTHING_FAILED, REGION, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functions.conftest import Function, Hub, Output


def sample(name: str) -> str:
    """Return a sample event as text."""
    return (ROOT / "events" / f"{name}.json").read_text(encoding="utf-8")


def made(vpc_id: str, **more: Any) -> str:
    """Return the event of a VPC that was made."""
    event = json.loads(sample("CreateVpc"))
    event["detail"]["responseElements"]["vpc"]["vpcId"] = vpc_id
    return json.dumps(event | more)


def vpc(vpc_id: str) -> Target:
    """Return a VPC of the sample's account."""
    return Target("111122223333", REGION, Kind.VPC, vpc_id)


def test_an_event_becomes_a_message_in_the_group_of_its_vpc(hub: Hub, intake: Function) -> None:
    """One event in, one target out: in a group of its own, so that looks at one VPC never race."""
    answer = intake(hub.deliver("IntakeQueue", made("vpc-1")))

    (message,) = hub.messages("WorkQueue")
    assert answer == NOTHING_FAILED
    assert json.loads(message["Body"]) == {
        "version": 2,
        "account_id": "111122223333",
        "region": REGION,
        "kind": "vpc",
        "resource_id": "vpc-1",
        "cause": {
            "trigger": f"CreateVpc/{json.loads(sample('CreateVpc'))['detail']['eventID']}",
            "caller": "terraform",
            "indirect": False,
            "conflict": None,
            "request": None,
            "at": None,
        },
    }
    assert message["Attributes"]["MessageGroupId"] == f"111122223333/{REGION}/vpc/vpc-1"


def test_events_about_one_vpc_are_one_message(hub: Hub, intake: Function) -> None:
    """A stack makes many calls about one VPC within seconds: one look is enough for a batch of them."""
    bodies = [made("vpc-1", time=f"2026-03-02T09:14:0{n}Z") for n in range(8)]

    answer = intake(hub.deliver("IntakeQueue", *bodies, made("vpc-2")))

    assert answer == NOTHING_FAILED
    assert len(messages := hub.messages("WorkQueue")) == 2
    assert {json.loads(message["Body"])["resource_id"] for message in messages} == {"vpc-1", "vpc-2"}


@pytest.mark.parametrize("name", ["CreateVpcEndpoint", "DeleteVpcEndpoints", "CreateVpcEndpoint-RouteAlreadyExists"])
def test_an_event_of_our_own_call_is_dropped_and_counted(
    hub: Hub, intake: Function, output: Callable[[], Output], name: str
) -> None:
    """What the remediator role does must not make Portcullis look again, for ever; an alarm counts."""
    event = json.loads(sample(name))
    issuer = event["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]
    issuer["userName"] = hub.environment("IntakeFunction")["REMEDIATOR_ROLE_NAME"]

    answer = intake(hub.deliver("IntakeQueue", json.dumps(event)))

    assert answer == NOTHING_FAILED
    assert hub.queued() == set()
    assert hub.messages("IntakeDeadLetters") == []
    assert output().counts == {"Messages": 1, "Own": 1}


def test_a_call_that_failed_is_told_with_what_it_named(hub: Hub, intake: Function) -> None:
    """So that the look can make way, and only where something of ours stands in the way."""
    intake(hub.deliver("IntakeQueue", sample("CreateVpcEndpoint-RouteAlreadyExists"), sample("CreateVpc")))

    causes = [json.loads(message["Body"])["cause"] for message in hub.messages("WorkQueue")]
    conflicts = [cause["conflict"] for cause in causes if cause["conflict"]]
    assert len(causes) == 2, "the plain call about the same VPC is another message"
    assert conflicts == [
        {
            "call": "CreateVpcEndpoint",
            "principal": "arn:aws:sts::111122223333:assumed-role/deployment/terraform-run-4711",
            "service_name": "com.amazonaws.eu-central-1.s3",
            "route_table_ids": ["rtb-05bf3fd01f637d6e8"],
            "endpoint_id": "",
            "subnet_id": "",
        }
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{not json", "the event is not JSON"),
        ("[" * 50_000, "the event is not JSON"),
        ('"a text"', "the event is 'a text', not a JSON object"),
        ("{}", "source is missing"),
        (made("vpc-1", account="1234"), "account is '1234', expected 12 digits"),
        (made("*"), "the vpc id is '*', expected letters, digits and hyphens"),
    ],
    ids=["no JSON", "too deep", "no object", "no event", "no account", "a wildcard"],
)
def test_an_event_that_cannot_be_read_is_put_aside(
    hub: Hub, intake: Function, output: Callable[[], Output], body: str, reason: str
) -> None:
    """It goes to the dead-letter queue as it came, with the reason; the rest of the batch goes on."""
    event = hub.deliver("IntakeQueue", made("vpc-2"), body)

    answer = intake(event)

    buried = hub.buried("IntakeDeadLetters")
    assert answer == NOTHING_FAILED
    assert list(buried) == [body]
    assert reason in buried[body]
    assert hub.queued() == {vpc("vpc-2")}
    (line,) = output().steps("buried")
    assert line["level"] == "WARNING"
    assert reason in line["message"]
    assert line["message_id"] == event["Records"][1]["messageId"]


def heartbeat(account_id: str = "111122223333") -> str:
    """Return the event that a member's schedule sends."""
    envelope = {"version": "0", "id": "beat-1", "time": "2026-03-02T09:14:00Z", "region": REGION, "resources": []}
    kind = {"source": "portcullis", "detail-type": "Portcullis Heartbeat", "account": account_id}
    return json.dumps(envelope | kind | {"detail": {"account": "222233334444"}})


def test_a_heartbeat_is_noted(hub: Hub, intake: Function, output: Callable[[], Output]) -> None:
    """In the table that the survey reads; a place that nobody has looked at yet is queued as a whole."""
    assert intake(hub.deliver("IntakeQueue", heartbeat())) == NOTHING_FAILED

    (known,) = hub.records()
    assert (known["pk"], known["sk"]) == ("coverage", f"111122223333#{REGION}")
    assert known["heartbeat_at"] == known["since"]
    assert hub.triggers() == {Target("111122223333", REGION, Kind.ACCOUNT_REGION): "Portcullis-Heartbeat/beat-1"}
    assert output().counts == {"Messages": 1, "Heard": 1, "Queued": 1}


def test_a_heartbeat_that_cannot_be_noted_comes_again_alone(
    hub: Hub, intake: Function, refuse: Callable[..., None], output: Callable[[], Output]
) -> None:
    """The table throttles: the other messages of the batch are handled."""
    throttled = {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": "x"}
    refuse("dynamodb.UpdateItem", 400, json.dumps(throttled))
    event = hub.deliver("IntakeQueue", heartbeat(), made("vpc-1"), "nonsense")

    answer = intake(event)

    assert answer == {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]}
    assert hub.queued() == {vpc("vpc-1")}
    assert list(hub.buried("IntakeDeadLetters")) == ["nonsense"]
    (line,) = output().steps("retry")
    assert "a heartbeat could not be noted" in line["message"]


def test_a_throttled_work_queue_gives_the_batch_back(
    hub: Hub, intake: Function, output: Callable[[], Output], refuse: Callable[..., None]
) -> None:
    """All that could be read is delivered again: sending a target twice is harmless, losing one is not."""
    refuse("sqs.SendMessageBatch", 400, '{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow down"}')
    event = hub.deliver("IntakeQueue", made("vpc-1"), made("vpc-2"), "nonsense")

    answer = intake(event)

    again = [{"itemIdentifier": record["messageId"]} for record in event["Records"][:2]]
    assert answer == {"batchItemFailures": again}
    assert list(hub.buried("IntakeDeadLetters")) == ["nonsense"]
    assert hub.queued() == set()
    (line,) = output().steps("retry")
    assert "RequestThrottled: slow down" in line["message"]


def test_a_work_queue_that_refuses_keeps_the_events(
    hub: Hub, intake: Function, refuse: Callable[..., None], output: Callable[[], Output]
) -> None:
    """A missing permission is a fault of the deployment: the events come again, and the log says why."""
    refuse("sqs.SendMessageBatch", 403, '{"__type": "com.amazonaws.sqs#AccessDenied", "message": "no"}')

    answer = intake(hub.deliver("IntakeQueue", made("vpc-1")))

    assert len(answer["batchItemFailures"]) == 1
    assert "sending to the work queue: AccessDenied: no" in output().steps("retry")[0]["message"]


def test_what_happens_is_logged_as_json(hub: Hub, intake: Function, output: Callable[[], Output]) -> None:
    """A line per target, with the step, the target, and the invocation."""
    intake(hub.deliver("IntakeQueue", made("vpc-1")))

    (line,) = output().steps("queued")
    assert line["message"] == "look at vpc vpc-1"
    assert line["level"] == "INFO"
    assert line["service"] == "portcullis"
    assert (line["account_id"], line["region"]) == ("111122223333", REGION)
    assert (line["kind"], line["resource_id"]) == ("vpc", "vpc-1")
    assert line["function_request_id"] == "8e1b2c3d-0000-4000-8000-000000000001"
    assert line["function_name"] == "IntakeFunction"
    assert line["timestamp"].endswith(("Z", "+00:00"))


def test_metrics_are_emitted(hub: Hub, intake: Function, output: Callable[[], Output]) -> None:
    """Messages, targets and problems are counted, in CloudWatch's embedded format, in our namespace."""
    intake(hub.deliver("IntakeQueue", sample("RunInstances"), sample("CreateVpc"), "nonsense"))

    written = output()
    assert written.counts == {"Messages": 3, "Queued": 3, "ProblemBuried": 1}
    (emitted,) = written.emitted
    assert emitted["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Portcullis"
    assert emitted["service"] == "portcullis"


def test_the_function_is_wired_once(hub: Hub, intake: Function) -> None:
    """A warm invocation reuses the clients of the first."""
    intake(hub.deliver("IntakeQueue", made("vpc-1")))
    wired = bootstrap.intake()

    intake(hub.deliver("IntakeQueue", made("vpc-2")))

    assert bootstrap.intake() is wired
    assert hub.queued() == {vpc("vpc-1"), vpc("vpc-2")}


@pytest.mark.parametrize(
    "name", ["WORK_QUEUE_URL", "QUEUE_DELAY_SECONDS", "DEAD_LETTER_QUEUE_URL", "REMEDIATOR_ROLE_NAME", "TABLE_NAME"]
)
def test_a_missing_variable_is_named(
    hub: Hub, intake: Function, monkeypatch: pytest.MonkeyPatch, output: Callable[[], Output], name: str
) -> None:
    """The invocation fails with a sentence that says which, and the messages come again."""
    event = hub.deliver("IntakeQueue", made("vpc-1"))
    monkeypatch.delenv(name)

    with pytest.raises(PortcullisError, match=rf"^the environment variable {name} is not set; template\.yaml sets it$"):
        intake(event)

    assert hub.queued() == set()
    assert output().counts == {"Messages": 1}
