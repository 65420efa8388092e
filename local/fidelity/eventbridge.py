"""EventBridge delivery: rules, targets, other accounts' buses, and what happens when a delivery fails.

Source: EventBridge User Guide ("Sending and receiving events between AWS accounts", "Using dead-letter
queues", "Using resource-based policies") and the PutEvents API reference. moto delivers disabled rules,
checks no policy, rewrites account, Region and id on the way to another bus, and accepts `aws.*` sources.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from moto.events.models import EventsBackend, events_backends
from moto.sqs.models import sqs_backends
from moto.utilities.arns import parse_arn

from . import hooks
from .authorization import AssumeRoleDeniedError, Request, allows, decide_for_role, names_of, role_trusting
from .event_patterns import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)


class UnsupportedTargetError(NotImplementedError):
    """A rule's target is of a kind that nothing here delivers to.

    Not implemented, like what moto lacks: so PutEvents answers with InvalidAction (see `calls`).
    """


class _FailedDeliveryError(Exception):
    """AWS would give up on this target; its arguments are the code and the message in the dead letter."""


def envelope(
    account_id: str, region: str, source: str, detail_type: str, detail: Any, *, resources: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a new event as AWS wraps it: version "0", a fresh id, and the time to the second in UTC."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": account_id,
        "time": hooks.installed.now(),
        "region": region,
        "resources": list(resources),
        "detail": detail,
    }


def deliver(account_id: str, region: str, bus_name: str, event: Mapping[str, Any]) -> None:
    """Hand an event, unchanged, to every target of the enabled rules of one account's bus that match it.

    Raises:
        UnsupportedTargetError: a target is no queue or bus, or transforms its input; the others are served first.
    """
    bus = events_backends[account_id][region].event_buses.get(bus_name)
    unsupported: list[str] = []
    for rule in list(bus.rules.values()) if bus is not None else ():
        pattern = rule.event_pattern.get_pattern()
        matching = rule.state == "ENABLED" and pattern and matches(pattern, event)
        for target in list(rule.targets) if matching else ():
            try:
                _send(rule, target, event)
            except _FailedDeliveryError as failure:
                _fail(rule, target, event, *failure.args)
            except UnsupportedTargetError as error:
                unsupported.append(str(error))
    if unsupported:
        raise UnsupportedTargetError("; ".join(unsupported))


def _send(rule: Any, target: Mapping[str, Any], event: Mapping[str, Any]) -> None:
    service = parse_arn(target["Arn"]).service
    if any(key.startswith("Input") for key in target):
        raise UnsupportedTargetError(f"{rule.arn}: nothing transforms the input of {target['Arn']}")
    if service == "sqs":
        _send_to_queue(rule, target["Arn"], event, group_id=target.get("SqsParameters", {}).get("MessageGroupId"))
    elif service == "events":
        _send_to_bus(rule, target, event)
    else:
        raise UnsupportedTargetError(f"{rule.arn}: nothing delivers to {target['Arn']}")


def _send_to_queue(
    rule: Any, queue_arn: str, event: Mapping[str, Any], *, group_id: str | None = None, attributes: Any = None
) -> None:
    """Send to a queue whose policy lets the rule do so; it must be in the rule's Region."""
    arn = parse_arn(queue_arn)
    backend = sqs_backends[arn.account][arn.region]
    target_queue = backend.queues.get(arn.resource_id)
    if target_queue is None or arn.region != rule.region_name:
        raise _FailedDeliveryError("NO_RESOURCE", f"no queue {queue_arn} in {rule.region_name}")
    context = {"aws:sourcearn": rule.arn, "aws:sourceaccount": rule.account_id}
    request = Request("sqs:SendMessage", queue_arn, context)
    if not allows(target_queue.policy, request, ["events.amazonaws.com"]):
        raise _FailedDeliveryError("NO_PERMISSIONS", f"the policy of {queue_arn} does not let {rule.arn} send")
    backend.send_message(arn.resource_id, json.dumps(event), message_attributes=attributes, group_id=group_id)


def _send_to_bus(rule: Any, target: Mapping[str, Any], event: Mapping[str, Any]) -> None:
    """Pass an event on to another bus, unchanged, if the target's role and the bus's policy allow it."""
    bus_arn, role_arn = target["Arn"], target.get("RoleArn")
    arn = parse_arn(bus_arn)
    bus = events_backends[arn.account][arn.region].event_buses.get(arn.resource_id)
    if bus is None:
        raise _FailedDeliveryError("NO_RESOURCE", f"no bus {bus_arn}")
    if role_arn:
        try:
            role = role_trusting(role_arn, "events.amazonaws.com")
        except AssumeRoleDeniedError as error:
            raise _FailedDeliveryError("FAILED_TO_ASSUME_ROLE", str(error)) from error
        if decide_for_role(role, Request("events:PutEvents", bus_arn)) != "allowed":
            raise _FailedDeliveryError("NO_PERMISSIONS", f"{role_arn} may not put events on {bus_arn}")
    if arn.account != rule.account_id and not (role_arn and _admits(bus, rule.account_id, role_arn)):
        message = f"a bus of another account needs a RoleArn and a policy that admits {rule.account_id}: {bus_arn}"
        raise _FailedDeliveryError("NO_PERMISSIONS", message)
    deliver(arn.account, arn.region, arn.resource_id, event)


def _admits(bus: Any, account_id: str, *role_arns: str) -> bool:
    """Return whether a bus's policy lets an account, through a role of it if given, put events on it."""
    request = Request("events:PutEvents", bus.arn, hooks.installed.context_of(account_id))
    return allows(bus.policy, request, names_of(account_id, *role_arns))


def _fail(rule: Any, target: Mapping[str, Any], event: Mapping[str, Any], code: str, message: str) -> None:
    """Put the event on the target's dead-letter queue, if it has one that takes it, and report the failure."""
    dead_letter_arn = target.get("DeadLetterConfig", {}).get("Arn")
    dead_lettered = False
    if dead_letter_arn:
        values = {"RULE_ARN": rule.arn, "TARGET_ARN": target["Arn"], "ERROR_CODE": code, "ERROR_MESSAGE": message}
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}
        with contextlib.suppress(_FailedDeliveryError):
            _send_to_queue(rule, dead_letter_arn, event, attributes=attributes)
            dead_lettered = True
    report = hooks.DeliveryFailure(rule.arn, target["Arn"], code, message, event, dead_lettered)
    hooks.installed.on_delivery_failure(report)


_outbox: queue.Queue[Callable[[], None]] = queue.Queue()
_errors: list[Exception] = []


def _empty_outbox() -> None:
    """Hand over what is published, one after the other, for ever."""
    while True:
        send = _outbox.get()
        try:
            send()
        except Exception as error:  # noqa: BLE001 - the thread outlives a bad rule, `settle` raises this
            _log.exception("an event could not be delivered")
            _errors.append(error)
        finally:
            _outbox.task_done()


threading.Thread(target=_empty_outbox, name="event-delivery", daemon=True).start()


def publish(
    account_id: str, region: str, make_event: Callable[[], Mapping[str, Any]], *, bus_name: str = "default"
) -> None:
    """Make an AWS service's event and deliver it to a bus, in order; the caller waits for neither."""
    _outbox.put(lambda: deliver(account_id, region, bus_name, make_event()))


def exists(bus_arn: str) -> bool:
    """Return whether there is a bus with an ARN."""
    arn = parse_arn(bus_arn)
    return arn.resource_id in events_backends[arn.account][arn.region].event_buses


def settle(timeout: float = 5.0) -> bool:
    """Wait until every published event is delivered; return whether that happened in time.

    Raises:
        Exception: whatever a delivery raised since the last call (see `deliver`), the oldest first.
    """
    deadline = time.monotonic() + timeout
    while _outbox.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(0.002)
    if _errors:
        raise _errors.pop(0)
    return not _outbox.unfinished_tasks


def _put_entry(backend: Any, entry: Mapping[str, Any]) -> dict[str, str]:
    """Accept one entry of PutEvents: the envelope is the caller's, whosever bus it goes to."""
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            return {"ErrorCode": "InvalidArgument", "ErrorMessage": f"Parameter {name} is a required argument."}
    if entry["Source"].startswith("aws."):
        return {"ErrorCode": "NotAuthorizedForSourceException", "ErrorMessage": "Not authorized for the source."}
    try:
        detail = dict(json.loads(entry["Detail"]).items())
    except (AttributeError, ValueError):
        return {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
    name, account_id, region = entry.get("EventBusName") or "default", backend.account_id, backend.region_name
    if name.startswith("arn:"):
        arn = parse_arn(name)
        name, account_id, region = arn.resource_id, arn.account, arn.region
    bus = events_backends[account_id][region].describe_event_bus(name)
    if account_id != backend.account_id and not _admits(bus, backend.account_id):
        return {"ErrorCode": "AccessDeniedException", "ErrorMessage": f"Not authorized to put events on {bus.arn}."}
    place, resources = (backend.account_id, backend.region_name), tuple(entry.get("Resources") or ())
    event = envelope(*place, entry["Source"], entry["DetailType"], detail, resources=resources)
    deliver(account_id, region, name, event)
    return {"EventId": event["id"]}


def install() -> None:
    """Replace moto's `put_events` (once: the caller sees to that)."""
    EventsBackend.put_events = lambda backend, events: [_put_entry(backend, entry) for entry in events]
