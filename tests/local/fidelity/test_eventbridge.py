"""EventBridge delivery: from PutEvents or an AWS service to queues and other accounts' buses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.fidelity import eventbridge

from .conftest import HUB, MEMBER, ORGANISATION_ID, OTHER, REGION, Aws

ENTRY = {"Source": "example.shop", "DetailType": "Sold", "Detail": json.dumps({"items": [{"sku": "a"}]})}
PATTERN = {"source": ["example.shop"]}
TRUST_EVENTBRIDGE = {
    "Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"},
    "Action": "sts:AssumeRole",
}


def _rule(aws: Aws, target: dict[str, Any], *, account_id: str = MEMBER, bus: str = "default", **rule: Any) -> None:
    events = aws.client("events", account_id)
    events.put_rule(Name="rule", EventBusName=bus, EventPattern=json.dumps(PATTERN), **rule)
    events.put_targets(Rule="rule", EventBusName=bus, Targets=[{"Id": "target", **target}])


def _bus(aws: Aws, account_id: str, condition: dict[str, Any]) -> str:
    """Create a bus that everybody may use who meets the condition; returns its ARN."""
    events = aws.client("events", account_id)
    arn = str(events.create_event_bus(Name="hub")["EventBusArn"])
    statement = {
        "Sid": "members",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": arn,
        "Condition": condition,
    }
    events.put_permission(EventBusName="hub", Policy=json.dumps({"Statement": [statement]}))
    return arn


def _organisation(organisation_id: str = ORGANISATION_ID) -> dict[str, Any]:
    return {"StringEquals": {"aws:PrincipalOrgID": organisation_id}}


def _sender(aws: Aws, bus_arn: str, account_id: str = MEMBER) -> str:
    allow = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": bus_arn}
    return aws.role("sender", account_id, trust=TRUST_EVENTBRIDGE, allow=allow)


def _put(aws: Aws, account_id: str = MEMBER, **entry: Any) -> dict[str, Any]:
    answer = aws.client("events", account_id).put_events(Entries=[{**ENTRY, **entry}])
    return dict(answer["Entries"][0])


def test_the_envelope_is_the_callers(aws: Aws) -> None:
    """PutEvents sets account, Region, id, version and time; moto leaves some out."""
    url, arn = aws.queue("target")
    _rule(aws, {"Arn": arn})
    event_id = _put(aws, Resources=["arn:one"])["EventId"]
    (event,) = aws.received(url)
    assert event.pop("time").endswith("Z")
    assert event == {
        "version": "0",
        "id": event_id,
        "detail-type": "Sold",
        "source": "example.shop",
        "account": MEMBER,
        "region": REGION,
        "resources": ["arn:one"],
        "detail": {"items": [{"sku": "a"}]},
    }


def test_a_disabled_rule_delivers_nothing(aws: Aws) -> None:
    """Moto delivers through disabled rules."""
    url, arn = aws.queue("target")
    _rule(aws, {"Arn": arn}, State="DISABLED")
    _put(aws)
    assert aws.received(url) == []


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"Source": "aws.ec2"}, "NotAuthorizedForSourceException"),
        ({"Source": ""}, "InvalidArgument"),
        ({"Detail": "{"}, "MalformedDetail"),
        ({"Detail": "[]"}, "MalformedDetail"),
    ],
)
def test_bad_entries_fail_one_by_one(aws: Aws, entry: dict[str, Any], code: str) -> None:
    """PutEvents answers per entry; sources of AWS itself are refused."""
    answer = aws.client("events").put_events(Entries=[{**ENTRY, **entry}, ENTRY])
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"] == code
    assert "EventId" in answer["Entries"][1]


def test_a_fifo_queue_gets_the_group_of_the_target(aws: Aws) -> None:
    """SqsParameters.MessageGroupId is passed on."""
    url, arn = aws.queue("target.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    _rule(aws, {"Arn": arn, "SqsParameters": {"MessageGroupId": "one"}})
    _put(aws)
    sqs = aws.client("sqs")
    (message,) = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["MessageGroupId"])["Messages"]
    assert message["Attributes"]["MessageGroupId"] == "one"


def test_a_queue_without_a_policy_for_eventbridge_gets_nothing(aws: Aws) -> None:
    """The queue's policy must let events.amazonaws.com send; moto does not look."""
    url, arn = aws.queue("target", Policy="")
    _rule(aws, {"Arn": arn})
    _put(aws)
    assert aws.received(url) == []
    (failure,) = aws.failures
    assert (failure.error_code, failure.target_arn, failure.dead_lettered) == ("NO_PERMISSIONS", arn, False)


@pytest.mark.parametrize(
    ("condition", "delivered"),
    [
        ({"ArnEquals": {"aws:SourceArn": f"arn:aws:events:{REGION}:{MEMBER}:rule/rule"}}, True),
        ({"ArnLike": {"aws:SourceArn": f"arn:aws:events:*:{MEMBER}:rule/*"}}, True),
        ({"StringEquals": {"aws:SourceAccount": MEMBER}}, True),
        ({"ArnEquals": {"aws:SourceArn": f"arn:aws:events:{REGION}:{MEMBER}:rule/other"}}, False),
        ({"StringEquals": {"aws:SourceAccount": OTHER}}, False),
    ],
)
def test_conditions_of_a_queue_policy_are_evaluated(aws: Aws, condition: dict[str, Any], *, delivered: bool) -> None:
    """aws:SourceArn is the rule's ARN, aws:SourceAccount its account."""
    url, arn = aws.queue("target")
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:*"}
    policy = {"Statement": [{**statement, "Resource": arn, "Condition": condition}]}
    aws.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    _rule(aws, {"Arn": arn})
    _put(aws)
    assert (len(aws.received(url)) == 1) is delivered


def test_a_failed_delivery_goes_to_the_dead_letter_queue(aws: Aws) -> None:
    """The event and why it failed, as message attributes; the hook is told, too."""
    dead_url, dead_arn = aws.queue("dead")
    missing = f"arn:aws:sqs:{REGION}:{MEMBER}:missing"
    _rule(aws, {"Arn": missing, "DeadLetterConfig": {"Arn": dead_arn}})
    event_id = _put(aws)["EventId"]
    sqs = aws.client("sqs")
    (message,) = sqs.receive_message(QueueUrl=dead_url, MessageAttributeNames=["All"])["Messages"]
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert json.loads(message["Body"])["id"] == event_id
    assert attributes["ERROR_CODE"] == "NO_RESOURCE"
    assert attributes["TARGET_ARN"] == missing
    assert attributes["RULE_ARN"].endswith(":rule/rule")
    assert aws.failures[0].dead_lettered


def test_an_event_reaches_another_accounts_bus_unchanged(aws: Aws) -> None:
    """Account, Region, id and time stay the originator's; moto rewrites them."""
    bus_arn = _bus(aws, HUB, _organisation())
    _rule(aws, {"Arn": bus_arn, "RoleArn": _sender(aws, bus_arn)})
    url, arn = aws.queue("hub", HUB)
    _rule(aws, {"Arn": arn}, account_id=HUB, bus="hub")
    event_id = _put(aws)["EventId"]
    (event,) = aws.received(url, HUB)
    assert (event["account"], event["region"], event["id"]) == (MEMBER, REGION, event_id)


def test_another_accounts_bus_needs_a_role(aws: Aws) -> None:
    """A cross-account target without RoleArn cannot be delivered to."""
    _rule(aws, {"Arn": _bus(aws, HUB, _organisation())})
    _put(aws)
    assert [failure.error_code for failure in aws.failures] == ["NO_PERMISSIONS"]


@pytest.mark.parametrize(
    ("trust", "resource", "code"),
    [
        ({**TRUST_EVENTBRIDGE, "Principal": {"Service": "lambda.amazonaws.com"}}, "*", "FAILED_TO_ASSUME_ROLE"),
        (TRUST_EVENTBRIDGE, "arn:aws:events:*:*:event-bus/other", "NO_PERMISSIONS"),
    ],
)
def test_the_targets_role_must_fit(aws: Aws, trust: dict[str, Any], resource: str, code: str) -> None:
    """EventBridge must be able to assume it, and it must be allowed events:PutEvents on the bus."""
    allow = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": resource}
    role = aws.role("sender", trust=trust, allow=allow)
    _rule(aws, {"Arn": _bus(aws, HUB, _organisation()), "RoleArn": role})
    _put(aws)
    assert [failure.error_code for failure in aws.failures] == [code]


def test_a_bus_admits_its_organisation_only(aws: Aws) -> None:
    """aws:PrincipalOrgID in the bus policy is compared with the caller's organisation."""
    bus_arn = _bus(aws, HUB, _organisation("o-another"))
    _rule(aws, {"Arn": bus_arn, "RoleArn": _sender(aws, bus_arn)})
    _put(aws)
    assert [failure.error_code for failure in aws.failures] == ["NO_PERMISSIONS"]


def test_an_account_outside_the_organisation_is_not_admitted(aws: Aws) -> None:
    """Its calls carry no such organisation id."""
    stranger = "999999999999"
    bus_arn = _bus(aws, HUB, _organisation())
    assert "EventId" in _put(aws, EventBusName=bus_arn)
    assert _put(aws, stranger, EventBusName=bus_arn)["ErrorCode"] == "AccessDeniedException"


def test_a_bus_of_the_same_account_needs_neither_role_nor_policy(aws: Aws) -> None:
    """Inside an account, a rule may pass events from bus to bus, and from Region to Region."""
    frankfurt = aws.client("events", MEMBER, "eu-central-1")
    bus_arn = frankfurt.create_event_bus(Name="inner")["EventBusArn"]
    _rule(aws, {"Arn": bus_arn})
    url, arn = aws.queue("target", MEMBER, "eu-central-1")
    frankfurt.put_rule(Name="inner", EventBusName="inner", EventPattern=json.dumps(PATTERN))
    frankfurt.put_targets(Rule="inner", EventBusName="inner", Targets=[{"Id": "1", "Arn": arn}])
    _put(aws)
    assert [event["region"] for event in aws.received(url, MEMBER, "eu-central-1")] == [REGION]


@pytest.mark.parametrize(
    "target",
    [
        {"Arn": f"arn:aws:lambda:{REGION}:{MEMBER}:function:f"},
        {"Arn": f"arn:aws:sqs:{REGION}:{MEMBER}:target", "InputPath": "$.detail"},
        {"Arn": f"arn:aws:sqs:{REGION}:{MEMBER}:target", "Input": "{}"},
    ],
)
def test_what_is_not_delivered_here_is_an_error(aws: Aws, target: dict[str, Any]) -> None:
    """A target that nothing serves must never look like a delivery; other targets are still served."""
    url, arn = aws.queue("other")
    _rule(aws, target)
    aws.client("events").put_targets(Rule="rule", Targets=[{"Id": "other", "Arn": arn}])
    event = eventbridge.envelope(MEMBER, REGION, "example.shop", "Sold", {})
    with pytest.raises(eventbridge.UnsupportedTargetError):
        eventbridge.deliver(MEMBER, REGION, "default", event)
    eventbridge.publish(MEMBER, REGION, lambda: event)
    with pytest.raises(eventbridge.UnsupportedTargetError):
        eventbridge.settle()
    assert len(aws.received(url)) == 2
