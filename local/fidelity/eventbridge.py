"""EventBridge delivery: rules, targets, other accounts' buses, and what happens when a delivery fails.

Source: EventBridge User Guide ("Sending and receiving events between AWS accounts", "Using dead-letter
queues", "Using resource-based policies") and the PutEvents API reference. moto delivers disabled rules,
checks no policy, rewrites account, Region and id on the way to another bus, and accepts `aws.*` sources.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.events.models import EventsBackend, events_backends
from moto.sqs.models import sqs_backends

from . import hooks, policies
from .event_patterns import InvalidPatternError, matches
from .roles import RoleNotFoundError, decide_for_role, role_by_arn, trusts_service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "InvalidPatternError",
    "UnsupportedTargetError",
    "deliver",
    "envelope",
    "install",
    "matches",
    "publish",
    "settle",
]

_log = logging.getLogger(__name__)
_INPUT_KEYS = ("Input", "InputPath", "InputTransformer")
_ENTRIES_AT_MOST = 10


class UnsupportedTargetError(NotImplementedError):
    """A rule's target is of a kind that nothing here delivers to."""


class _FailedDeliveryError(Exception):
    """AWS would give up on this target, with `code` in the dead letter."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Arn:
    service: str
    region: str
    account_id: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> _Arn:
        _, _, service, region, account_id, resource = text.split(":", 5)
        return cls(service, region, account_id, resource)


def envelope(
    account_id: str,
    region: str,
    source: str,
    detail_type: str,
    detail: Mapping[str, Any],
    *,
    resources: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return a new event as AWS wraps it: version "0", a fresh id, and the time to the second in UTC."""
    now = datetime.fromtimestamp(hooks.current().clock(), UTC)
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": account_id,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": list(resources),
        "detail": dict(detail),
    }


def deliver(account_id: str, region: str, bus_name: str, event: Mapping[str, Any], *, forwarded: bool = False) -> None:
    """Hand an event to every target of the bus's enabled rules that match it.

    Args:
        account_id: the owner of the bus, not necessarily the event's `account`.
        region: the bus's Region.
        bus_name: the bus's name; nothing happens when there is none.
        event: the whole event; targets receive it unchanged.
        forwarded: whether the event has already crossed from one account to another; AWS forwards no further.

    Raises:
        UnsupportedTargetError: a matching rule has a target other than a queue or a bus, or transforms its
            input. The other targets are served first.
    """
    bus = events_backends[account_id][region].event_buses.get(bus_name)
    unsupported: list[str] = []
    for rule in list(bus.rules.values()) if bus is not None else ():
        pattern = rule.event_pattern.get_pattern()
        if rule.state != "ENABLED" or not pattern or not matches(pattern, event):
            continue
        for target in list(rule.targets):
            try:
                _send(rule, target, event, forwarded=forwarded)
            except _FailedDeliveryError as failure:
                _fail(rule, target, event, failure)
            except UnsupportedTargetError as error:
                unsupported.append(str(error))
    if unsupported:
        raise UnsupportedTargetError("; ".join(unsupported))


def _send(rule: Any, target: Mapping[str, Any], event: Mapping[str, Any], *, forwarded: bool) -> None:
    if transformed := [key for key in _INPUT_KEYS if target.get(key)]:
        raise UnsupportedTargetError(f"{rule.arn}: {', '.join(transformed)} is not handled")
    arn = _Arn.parse(target["Arn"])
    if arn.service == "sqs":
        group_id = target.get("SqsParameters", {}).get("MessageGroupId")
        _send_to_queue(rule, arn, target["Arn"], json.dumps(event), group_id=group_id)
    elif arn.service == "events" and arn.resource.startswith("event-bus/"):
        _send_to_bus(rule, target, arn, event, forwarded=forwarded)
    else:
        raise UnsupportedTargetError(f"{rule.arn}: nothing delivers to {target['Arn']}")


def _send_to_queue(
    rule: Any, arn: _Arn, queue_arn: str, body: str, *, group_id: str | None = None, attributes: Any = None
) -> None:
    """Send to a queue whose policy lets the rule do so; it must be in the rule's Region."""
    backend = sqs_backends[arn.account_id][arn.region]
    target_queue = backend.queues.get(arn.resource)
    if target_queue is None or arn.region != rule.region_name:
        raise _FailedDeliveryError("NO_RESOURCE", f"no queue {queue_arn} in {rule.region_name}")
    statements = policies.statements(target_queue.policy) if target_queue.policy else ()
    context = {"aws:sourcearn": [rule.arn], "aws:sourceaccount": [rule.account_id]}
    request = policies.Request("sqs:SendMessage", queue_arn, context)
    if policies.decide_for_principal(statements, request, service="events.amazonaws.com") != "allowed":
        raise _FailedDeliveryError("NO_PERMISSIONS", f"the policy of {queue_arn} does not let {rule.arn} send")
    try:
        backend.send_message(arn.resource, body, message_attributes=attributes, group_id=group_id)
    except Exception as error:
        # moto raises many kinds here: a FIFO queue without a group or content-based deduplication, a size.
        raise _FailedDeliveryError("SDK_CLIENT_ERROR", f"{queue_arn}: {error}") from error


def _send_to_bus(rule: Any, target: Mapping[str, Any], arn: _Arn, event: Mapping[str, Any], *, forwarded: bool) -> None:
    """Pass an event on to another bus, unchanged, if role, bus policy and the one-hop rule allow it."""
    name = arn.resource.removeprefix("event-bus/")
    bus = events_backends[arn.account_id][arn.region].event_buses.get(name)
    if bus is None:
        raise _FailedDeliveryError("NO_RESOURCE", f"no bus {target['Arn']}")
    crosses = arn.account_id != rule.account_id
    if crosses and forwarded:
        raise _FailedDeliveryError("THIRD_ACCOUNT_HOP_DETECTED", "an event is not forwarded to a third account")
    if crosses and not target.get("RoleArn"):
        raise _FailedDeliveryError("NO_PERMISSIONS", f"a bus of another account needs a RoleArn: {target['Arn']}")
    if target.get("RoleArn"):
        _check_role(target["RoleArn"], target["Arn"])
    if crosses and not bus_admits(bus, rule.account_id, role_arn=target["RoleArn"]):
        raise _FailedDeliveryError("NO_PERMISSIONS", f"the policy of {target['Arn']} does not admit {rule.account_id}")
    deliver(arn.account_id, arn.region, name, event, forwarded=forwarded or crosses)


def _check_role(role_arn: str, bus_arn: str) -> None:
    """Fail unless EventBridge may assume the target's role and the role may put events on the bus."""
    try:
        role = role_by_arn(role_arn)
    except RoleNotFoundError as error:
        raise _FailedDeliveryError("FAILED_TO_ASSUME_ROLE", str(error)) from error
    if not trusts_service(role, "events.amazonaws.com"):
        raise _FailedDeliveryError("FAILED_TO_ASSUME_ROLE", f"{role_arn} does not trust events.amazonaws.com")
    if decide_for_role(role, policies.Request("events:PutEvents", bus_arn)) != "allowed":
        raise _FailedDeliveryError("NO_PERMISSIONS", f"{role_arn} may not put events on {bus_arn}")


def bus_admits(bus: Any, account_id: str, *, role_arn: str | None = None) -> bool:
    """Return whether a bus's policy lets an account (through a role of it, if given) put events on it."""
    if not bus.policy:
        return False
    organisation_id = hooks.current().organisation_of(account_id)
    context = {
        "aws:principalorgid": [organisation_id] if organisation_id else [],
        "aws:principalaccount": [account_id],
        "aws:principalarn": [role_arn] if role_arn else [],
    }
    request = policies.Request("events:PutEvents", bus.arn, context)
    arns = [role_arn] if role_arn else []
    statements = policies.statements(bus.policy)
    return policies.decide_for_principal(statements, request, account_id=account_id, arns=arns) == "allowed"


def _fail(rule: Any, target: Mapping[str, Any], event: Mapping[str, Any], failure: _FailedDeliveryError) -> None:
    """Put the event on the target's dead-letter queue, if it has one that takes it, and report the failure."""
    dead_letter_arn = target.get("DeadLetterConfig", {}).get("Arn")
    message = str(failure)
    dead_lettered = False
    if dead_letter_arn:
        values = {
            "RULE_ARN": rule.arn,
            "TARGET_ARN": target["Arn"],
            "ERROR_CODE": failure.code,
            "ERROR_MESSAGE": message,
        }
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}
        try:
            arn = _Arn.parse(dead_letter_arn)
            _send_to_queue(rule, arn, dead_letter_arn, json.dumps(event), attributes=attributes)
            dead_lettered = True
        except _FailedDeliveryError as second:
            message = f"{message}; the dead-letter queue failed too: {second}"
    _log.warning("%s: %s", rule.arn, message)
    report = hooks.DeliveryFailure(rule.arn, target["Arn"], failure.code, message, event, dead_lettered)
    hooks.current().on_delivery_failure(report)


class _Outbox:
    """Events on their way, handed over one after the other by a thread of its own."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Callable[[], None]] = queue.Queue()
        self._errors: list[Exception] = []
        threading.Thread(target=self._work, name="event-delivery", daemon=True).start()

    def put(self, send: Callable[[], None]) -> None:
        self._waiting.put(send)

    def _work(self) -> None:
        while True:
            send = self._waiting.get()
            try:
                send()
            except Exception as error:  # noqa: BLE001 - the thread outlives a bad rule, `settle` raises this
                _log.exception("an event could not be delivered")
                self._errors.append(error)
            finally:
                self._waiting.task_done()

    def settle(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.002)
        if self._errors:
            raise self._errors.pop(0)
        return not self._waiting.unfinished_tasks


_outbox = _Outbox()


def publish(account_id: str, region: str, make_event: Callable[[], Mapping[str, Any]]) -> None:
    """Deliver an AWS service's event to the default bus of an account and Region, soon and in order.

    `make_event` runs on the delivering thread, so an API call waits for neither the making nor the delivery.
    """
    _outbox.put(lambda: deliver(account_id, region, "default", make_event()))


def settle(timeout: float = 5.0) -> bool:
    """Wait until every published event is delivered; return whether that happened in time.

    Raises:
        Exception: whatever a delivery raised since the last call (see `deliver`), the oldest first.
    """
    return _outbox.settle(timeout)


def _refusal_of_entry(entry: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the error that PutEvents answers for one entry, or None."""
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            reason = f"Parameter {name} is not valid. Reason: {name} is a required argument."
            return {"ErrorCode": "InvalidArgument", "ErrorMessage": reason}
    if entry["Source"].startswith("aws."):
        return {"ErrorCode": "NotAuthorizedForSourceException", "ErrorMessage": "Not authorized for the source."}
    try:
        well_formed = isinstance(json.loads(entry["Detail"]), dict)
    except ValueError:
        well_formed = False
    return None if well_formed else {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}


def _event_time(value: Any) -> datetime | None:
    """Read PutEvents' optional Time, which arrives as epoch seconds or as text."""
    if value is None or value == "":
        return None
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    return datetime.fromisoformat(str(value)).astimezone(UTC)


def _put_entry(backend: Any, entry: Mapping[str, Any]) -> dict[str, str]:
    """Accept one entry of PutEvents: the envelope is the caller's, whosever bus it goes to."""
    if refusal := _refusal_of_entry(entry):
        return refusal
    name = entry.get("EventBusName") or "default"
    account_id, region = backend.account_id, backend.region_name
    if name.startswith("arn:"):
        arn = _Arn.parse(name)
        account_id, region, name = arn.account_id, arn.region, arn.resource.removeprefix("event-bus/")
    bus = events_backends[account_id][region].describe_event_bus(name)
    crosses = account_id != backend.account_id
    if crosses and not bus_admits(bus, backend.account_id):
        return {"ErrorCode": "AccessDeniedException", "ErrorMessage": f"Not authorized to put events on {bus.arn}."}
    resources = tuple(entry.get("Resources") or ())
    detail = json.loads(entry["Detail"])
    event = envelope(
        backend.account_id, backend.region_name, entry["Source"], entry["DetailType"], detail, resources=resources
    )
    if (given := _event_time(entry.get("Time"))) is not None:
        event["time"] = given.strftime("%Y-%m-%dT%H:%M:%SZ")
    deliver(account_id, region, name, event, forwarded=crosses)
    return {"EventId": event["id"]}


def install() -> None:
    """Replace moto's `put_events` (once: the caller sees to that)."""
    original = EventsBackend.put_events

    def put_events(backend: Any, events: list[dict[str, Any]]) -> list[dict[str, str]]:
        if len(events) > _ENTRIES_AT_MOST:
            # moto refuses the whole call, correctly.
            return list(original(backend, events))
        return [_put_entry(backend, entry) for entry in events]

    EventsBackend.put_events = put_events
