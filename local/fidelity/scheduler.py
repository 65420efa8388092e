"""EventBridge Scheduler: moto keeps schedules, and a `Scheduler` invokes their targets.

Source: EventBridge Scheduler User Guide, "Schedule types" (a rate-based schedule without a start date invokes its
target at once; a one-time schedule invokes it once), "Deletion after schedule completion" and "Confused deputy
prevention" (aws:SourceAccount). Only what is understood can be created. That a one-time schedule in the past is refused
is what people report; the API reference does not say. Unlike on AWS, what failed is not tried again.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from moto.scheduler.exceptions import ScheduleGroupNotFound, ValidationException
from moto.scheduler.models import EventBridgeSchedulerBackend, scheduler_backends
from moto.scheduler.responses import EventBridgeSchedulerResponse
from moto.sqs.models import sqs_backends
from moto.utilities.arns import parse_arn

from . import eventbridge, hooks, stepfunctions
from .authorization import AssumeRoleDeniedError, Request, decide_for_role, role_trusting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    OnFailure = Callable[[str, str, str], None]

_LOOK_SECONDS = 0.05
_UNITS = {"minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"rate\(([1-9][0-9]*) (minute|hour|day)s?\)")
_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
_UNKNOWN = ("end_date", "start_date", "kms_key_arn")
# By a target's service: the action that its role needs, and the parameters that are for it alone.
_TARGETS = {
    "events": ("events:PutEvents", {"EventBridgeParameters"}),
    "sqs": ("sqs:SendMessage", {"SqsParameters"}),
    "states": ("states:StartExecution", set()),
}


class InvocationError(Exception):
    """A schedule's target could not be invoked."""


def _check(schedule: Mapping[str, Any]) -> None:
    """Refuse what `Scheduler` would not do, and what AWS refuses."""
    target, expression = schedule["target"], schedule["schedule_expression"]
    _, parameters = _TARGETS.get(parse_arn(target["Arn"]).service, ("", None))
    complaints = [name for name in _UNKNOWN if schedule.get(name)]
    if parameters is None or (parameters == {"EventBridgeParameters"} and not parameters & set(target)):
        complaints.append(f"the target {target['Arn']}")
    given = set(target) - {"Arn", "RoleArn", "Input", "RetryPolicy", "DeadLetterConfig"} - (parameters or set())
    complaints += [f"target with {key}" for key in sorted(given)]
    if not _RATE.fullmatch(expression) and not _AT.fullmatch(expression):
        complaints.append(expression)
    if schedule["flexible_time_window"] != {"Mode": "OFF"}:
        complaints.append("a flexible time window")
    if complaints:
        raise ValidationException(f"not known here: {', '.join(complaints)}; teach local/fidelity/scheduler.py")
    when = _time_of(expression, schedule.get("schedule_expression_timezone"))
    if when is not None and when <= hooks.installed.clock():
        raise ValidationException(f"Invalid Schedule Expression {expression}: it is in the past.")


def _time_of(expression: str, zone: str | None) -> float | None:
    """Return when a one-time schedule is due, or None for a rate; ValidationException for what is no time or zone."""
    found = _AT.fullmatch(expression)
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=ZoneInfo(zone or "UTC")).timestamp() if found else None
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise ValidationException(f"Invalid Schedule Expression {expression} in {zone}: {error}") from error


def _wrap() -> None:
    create, update = EventBridgeSchedulerBackend.create_schedule, EventBridgeSchedulerBackend.update_schedule
    answer_update = EventBridgeSchedulerResponse.update_schedule

    def create_schedule(backend: Any, **schedule: Any) -> Any:
        _check(schedule)
        if (schedule.get("group_name") or "default") not in backend.schedule_groups:
            raise ScheduleGroupNotFound(schedule["group_name"])
        return create(backend, **schedule)

    def update_schedule(backend: Any, **schedule: Any) -> Any:
        known = backend.get_schedule(group_name=schedule["group_name"], name=schedule["name"])
        _check(schedule)
        # What an update does not say is as if it had never been said.
        known.action_after_completion, schedule["state"] = None, schedule["state"] or "ENABLED"
        return update(backend, **schedule)

    def answer(http: Any) -> Any:
        answered = answer_update(http)
        group, name = http._get_param("GroupName"), http.uri.split("?")[0].split("/")[-1]
        schedule = http.scheduler_backend.get_schedule(group_name=group, name=name)
        schedule.action_after_completion = http._get_param("ActionAfterCompletion")
        return answered

    EventBridgeSchedulerBackend.create_schedule = create_schedule
    EventBridgeSchedulerBackend.update_schedule = update_schedule
    EventBridgeSchedulerResponse.update_schedule = answer


def install() -> None:
    """Patch moto's Scheduler (once: the caller sees to that)."""
    _wrap()


class Scheduler:
    """Invokes the targets of every enabled schedule of every account and Region, on a thread of its own."""

    def __init__(self, on_failure: OnFailure, *, at_once: bool = True) -> None:
        """Begin; `on_failure` is told account, Region and reason; without `at_once` a whole period passes first."""
        self._on_failure = on_failure
        self._at_once = at_once
        self._due: dict[Any, float] = {}  # by schedule and version of it
        self._lock = threading.RLock()  # held while a target is invoked
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler")
        self._thread.start()

    def stop(self) -> None:
        """Invoke nothing more."""
        self._stopping.set()
        self._thread.join()

    def idle(self) -> bool:
        """Return whether nothing is due or being invoked."""
        with self._lock:
            now = hooks.installed.clock()
            return all(self._due_at(one, now) > now for one in _schedules() if one.state == "ENABLED")

    def invoke(self, name: str, account_id: str, region: str, group: str = "default") -> None:
        """Invoke the target of one schedule now, whatever its time; LookupError if there is no such schedule."""
        with self._lock:
            self._invoke(scheduler_backends[account_id][region].schedule_groups[group].schedules[name])

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            with self._lock:
                schedules = _schedules()
                for schedule in schedules:
                    self._look(schedule)
                known = {_key(schedule) for schedule in schedules}
                self._due = {key: due for key, due in self._due.items() if key in known}

    def _due_at(self, schedule: Any, now: float) -> float:
        when = _time_of(schedule.schedule_expression, schedule.schedule_expression_timezone)
        if when is None:
            when = now if self._at_once else now + _period(schedule.schedule_expression)
        return self._due.setdefault(_key(schedule), when)

    def _look(self, schedule: Any) -> None:
        now = hooks.installed.clock()
        if self._due_at(schedule, now) > now or schedule.state != "ENABLED":
            return
        once = _AT.fullmatch(schedule.schedule_expression)
        self._due[_key(schedule)] = float("inf") if once else now + _period(schedule.schedule_expression)
        if once and schedule.action_after_completion == "DELETE":
            # Before its message is there, so that whoever gets that can make the next one.
            arn = parse_arn(schedule.arn)
            group = scheduler_backends[arn.account][arn.region].schedule_groups[schedule.group_name]
            group.schedules.pop(schedule.name, None)
        self._invoke(schedule)

    def _invoke(self, schedule: Any) -> None:
        arn = parse_arn(schedule.arn)
        try:
            _send(schedule.target, arn)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other schedules go on
            self._on_failure(arn.account, arn.region, f"schedule {schedule.name} could not invoke its target: {error}")
            if dead := schedule.target.get("DeadLetterConfig", {}).get("Arn"):
                with contextlib.suppress(InvocationError, AssumeRoleDeniedError):
                    _send({**schedule.target, "Arn": dead}, arn)


def _schedules() -> list[Any]:
    backends = [backend for regions in list(scheduler_backends.values()) for backend in list(regions.values())]
    groups = [group for backend in backends for group in list(backend.schedule_groups.values())]
    return [schedule for group in groups for schedule in list(group.schedules.values())]


def _key(schedule: Any) -> tuple[str, float]:
    """Return what changes with each update, and when a schedule is made anew."""
    return (schedule.arn, schedule.last_modified_date)


def _period(expression: str) -> int:
    ((number, unit),) = _RATE.findall(expression)
    return int(number) * _UNITS[unit]


def _send(target: Mapping[str, Any], source: Any) -> None:
    """Invoke the target of a schedule (its ARN) as its role may, or raise InvocationError or AssumeRoleDeniedError."""
    arn, account_id, region = parse_arn(target["Arn"]), source.account, source.region
    # It names the group, and nothing narrower.
    group_arn = f"arn:aws:scheduler:{region}:{account_id}:schedule-group/{source.resource_id.split('/')[0]}"
    role = role_trusting(target["RoleArn"], "scheduler.amazonaws.com", account_id, group_arn)
    action, _ = _TARGETS[arn.service]
    if decide_for_role(role, Request(action, target["Arn"])) != "allowed":
        raise InvocationError(f"{role.arn} is not authorized to perform: {action} on resource: {target['Arn']}")
    if arn.service == "states":
        stepfunctions.start(target["Arn"], str(uuid.uuid4()), target.get("Input", "{}"))
        return
    if (arn.account, arn.region) != (account_id, region):
        raise InvocationError(f"{target['Arn']} is not in {account_id} {region}")
    if arn.service == "sqs":
        _send_to_queue(target, arn)
        return
    if not eventbridge.exists(target["Arn"]):
        raise InvocationError(f"there is no bus {target['Arn']}")
    about, detail = target["EventBridgeParameters"], json.loads(target.get("Input", "{}"))
    event = eventbridge.envelope(account_id, region, about["Source"], about["DetailType"], detail)
    eventbridge.publish(account_id, region, lambda: event, bus_name=arn.resource_id)


def _send_to_queue(target: Mapping[str, Any], arn: Any) -> None:
    """Send the input to a queue: to a FIFO one with a message group, and only if it deduplicates by content."""
    backend = sqs_backends[arn.account][arn.region]
    queue, group_id = backend.queues.get(arn.resource_id), target.get("SqsParameters", {}).get("MessageGroupId")
    if queue is None:
        raise InvocationError(f"there is no queue {target['Arn']}")
    if queue.fifo_queue and (group_id is None or queue.attributes.get("ContentBasedDeduplication") != "true"):
        raise InvocationError(f"{target['Arn']} needs a MessageGroupId and ContentBasedDeduplication")
    backend.send_message(arn.resource_id, target.get("Input", "{}"), group_id=group_id)
