"""The rule patterns in the templates and the triggers module agree."""

from __future__ import annotations

import copy
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from portcullis.coverage import SILENT_AFTER
from portcullis.errors import UnreadableEventError
from portcullis.triggers import CALL_NAMES, PATTERNS, heartbeat_of, targets_of

from local.fidelity.event_patterns import matches
from tests.contract import templates

EVENTS = sorted(path for path in (templates.ROOT / "events").glob("*.json") if path.name != "targets.json")
_RULES = {f"{key.capitalize()}Rule": key for key in PATTERNS}


def _event(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((templates.ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    return event


def _passes(event: dict[str, Any]) -> bool:
    return any(matches(pattern, event) for pattern in PATTERNS.values())


def _heartbeat() -> dict[str, Any]:
    """Return a heartbeat as EventBridge hands it on: what the schedule puts, in the envelope of its account."""
    (schedule,) = templates.resources(templates.MEMBER_REGION, "AWS::Scheduler::Schedule").values()
    sent = schedule["Target"]["EventBridgeParameters"]
    envelope = {"version": "0", "id": "1", "time": "2026-03-02T09:00:00Z", "resources": []}
    place = {"account": "111122223333", "region": "eu-central-1"}
    detail = json.loads(schedule["Target"]["Input"])
    return {**envelope, **place, "source": sent["Source"], "detail-type": sent["DetailType"], "detail": detail}


def test_there_are_four_patterns() -> None:
    """Calls that matter, calls that failed over something of ours, instances that come and go, signs of life."""
    assert _RULES.keys() == {"ChangesRule", "ConflictsRule", "StatesRule", "HeartbeatsRule"}


@pytest.mark.parametrize("path", [templates.HUB, templates.MEMBER_REGION], ids=lambda path: path.name)
def test_a_template_holds_the_patterns_word_for_word(path: Any) -> None:
    """A letter changed in a rule's pattern, a rule removed, renamed or disabled is a failing build."""
    rules = templates.resources(path, "AWS::Events::Rule")
    rules.pop("RequestsRule", None)  # of another bus: see test_requests.py
    assert {name: rule["EventPattern"] for name, rule in rules.items()} == {
        name: PATTERNS[key] for name, key in _RULES.items()
    }
    assert all(rule.get("State", "ENABLED") == "ENABLED" for rule in rules.values())


def test_rules_are_where_events_are() -> None:
    """In the hub on its own bus; in a member on the default bus, to the hub's, once per Region, not per account."""
    hub = templates.resources(templates.HUB, "AWS::Events::Rule")
    member = templates.resources(templates.MEMBER_REGION, "AWS::Events::Rule").values()
    assert [hub[name]["EventBusName"] for name in _RULES] == [{"Ref": "Bus"}] * 4
    assert [rule.get("EventBusName", "default") for rule in member] == ["default"] * 4
    to_the_hub = {"Id": "hub", "Arn": {"Ref": "HubBusArn"}, "RoleArn": {"Fn::GetAtt": ["ForwarderRole", "Arn"]}}
    assert [rule["Targets"] for rule in member] == [[to_the_hub]] * 4
    assert templates.resources(templates.MEMBER_ACCOUNT, "AWS::Events::Rule") == {}


def test_what_the_schedule_puts_is_a_heartbeat() -> None:
    """It takes the way of every other event: the default bus, the member's rule, the hub's rule, the intake."""
    event = _heartbeat()
    assert [key for key, pattern in PATTERNS.items() if matches(pattern, event)] == ["heartbeats"]
    assert heartbeat_of(event) == ("111122223333", "eu-central-1")
    assert targets_of(event) == []


def test_the_schedule_puts_heartbeats_on_the_default_bus_often_enough() -> None:
    """One lost heartbeat is no silence: two intervals, and an hour for the way, fit into the time of silence."""
    (schedule,) = templates.resources(templates.MEMBER_REGION, "AWS::Scheduler::Schedule").values()
    hours = re.fullmatch(r"rate\((\d+) hours\)", schedule["ScheduleExpression"])
    assert hours
    assert 2 * timedelta(hours=int(hours[1])) + timedelta(hours=1) <= SILENT_AFTER
    assert schedule.get("State", "ENABLED") == "ENABLED"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    bus = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default"
    assert schedule["Target"]["Arn"] == {"Fn::Sub": bus}
    assert schedule["Target"]["RoleArn"] == {"Fn::GetAtt": ["HeartbeatRole", "Arn"]}


@pytest.mark.parametrize(("key", "value"), [("source", "aws.ec2"), ("source", "my.app"), ("detail-type", "Heartbeat")])
def test_only_a_heartbeat_is_a_heartbeat(key: str, value: str) -> None:
    """Rules and triggers both let nothing else pass for one."""
    event = {**_heartbeat(), key: value}
    assert not _passes(event)
    assert heartbeat_of(event) is None


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_the_rules_let_an_event_through_exactly_when_it_has_targets(path: Any) -> None:
    """No event that concerns us is filtered out, and no function runs for one that does not."""
    event = json.loads(path.read_text(encoding="utf-8"))
    assert _passes(event) == bool(targets_of(event))


def test_every_call_of_the_triggers_has_a_sample_event() -> None:
    """The agreement is shown for every call, not for some."""
    assert set(CALL_NAMES) <= {path.stem for path in EVENTS}


@pytest.mark.parametrize("name", CALL_NAMES)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("source",), "aws.s3"),
        (("detail-type",), "AWS Console Sign In via CloudTrail"),
        (("detail", "eventSource"), "apigateway.amazonaws.com"),
        (("detail", "eventName"), "DescribeVpcs"),
        (("detail", "errorCode"), "Client.UnauthorizedOperation"),
        (("detail", "errorCode"), "Client.DryRunOperation"),
    ],
)
def test_rules_and_triggers_both_ignore_an_event_altered_in_one_place(
    name: str, place: tuple[str, ...], value: str
) -> None:
    """Another source, another service with the same call name, or a failed call: both say no."""
    event = copy.deepcopy(_event(name))
    holder: dict[str, Any] = event
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    assert not _passes(event)
    assert targets_of(event) == []


def test_a_conflict_of_another_kind_passes_the_rule_and_has_no_target() -> None:
    """The one place where the rule is wider: InvalidParameter needs a look at the message, which rules cannot take."""
    event = _event("CreateVpcEndpoint-RouteAlreadyExists")
    event["detail"] |= {"errorCode": "Client.InvalidParameter", "errorMessage": "The policy is malformed."}
    assert _passes(event)
    assert targets_of(event) == []


def test_what_the_rules_let_through_is_readable_or_refused_with_a_reason() -> None:
    """An event without a usable detail that passes a rule ends in the dead-letter queue, not in silence."""
    event = _event("InstanceStateChange")
    event["detail"] = {"state": "running"}
    assert _passes(event)
    with pytest.raises(UnreadableEventError, match="instance-id"):
        targets_of(event)
