"""EventBridge Scheduler: moto keeps schedules, and a `Scheduler` invokes their targets.

Source: EventBridge Scheduler User Guide, "Schedule types" (a rate-based schedule without a start date invokes its
target at once) and "Confused deputy prevention" (aws:SourceAccount). Only what is understood can be created.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from typing import TYPE_CHECKING, Any

from moto.scheduler.exceptions import ValidationException
from moto.scheduler.models import EventBridgeSchedulerBackend, scheduler_backends
from moto.utilities.arns import parse_arn

from . import eventbridge, hooks, stepfunctions
from .authorization import Request, decide_for_role, role_trusting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    OnFailure = Callable[[str, str, str], None]

_LOOK_SECONDS = 0.05
_BUS_PARAMETERS = "EventBridgeParameters"
_UNITS = {"minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"rate\(([1-9][0-9]*) (minute|hour|day)s?\)")
_UNKNOWN = ("end_date", "start_date", "kms_key_arn", "action_after_completion", "schedule_expression_timezone")


class InvocationError(Exception):
    """A schedule's target could not be invoked."""


def _check(schedule: Mapping[str, Any]) -> None:
    """Refuse what `Scheduler` would not do."""
    target = schedule["target"]
    complaints = [name for name in _UNKNOWN if schedule.get(name)]
    complaints += [f"target with {key}" for key in sorted(set(target) - {"Arn", "RoleArn", "Input", _BUS_PARAMETERS})]
    if not _RATE.fullmatch(schedule["schedule_expression"]):
        complaints.append(schedule["schedule_expression"])
    if schedule["flexible_time_window"] != {"Mode": "OFF"}:
        complaints.append("a flexible time window")
    is_bus = parse_arn(target["Arn"]).service == "events"
    if is_bus != (_BUS_PARAMETERS in target) or parse_arn(target["Arn"]).service not in ("events", "states"):
        complaints.append(f"the target {target['Arn']}")
    if complaints:
        raise ValidationException(f"not known here: {', '.join(complaints)}; teach local/fidelity/scheduler.py")


def _wrap(method_name: str) -> None:
    original = getattr(EventBridgeSchedulerBackend, method_name)

    def checked(backend: Any, **schedule: Any) -> Any:
        _check(schedule)
        return original(backend, **schedule)

    setattr(EventBridgeSchedulerBackend, method_name, checked)


def install() -> None:
    """Patch moto's Scheduler (once: the caller sees to that)."""
    _wrap("create_schedule")
    _wrap("update_schedule")


class Scheduler:
    """Invokes the targets of every enabled schedule of every account and Region, on a thread of its own."""

    def __init__(self, on_failure: OnFailure, *, at_once: bool = True) -> None:
        """Begin; `on_failure` is told account, Region and reason; without `at_once` a whole period passes first."""
        self._on_failure = on_failure
        self._at_once = at_once
        self._due: dict[str, float] = {}
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
            return all(self._due.get(one.arn, now) > now for one in _schedules() if one.state == "ENABLED")

    def invoke(self, name: str, account_id: str, region: str) -> None:
        """Invoke the target of one schedule now, whatever its rate; LookupError if there is no such schedule."""
        with self._lock:
            self._invoke(scheduler_backends[account_id][region].schedule_groups["default"].schedules[name])

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            with self._lock:
                for schedule in _schedules():
                    self._look(schedule)

    def _look(self, schedule: Any) -> None:
        now, period = hooks.installed.clock(), _period(schedule.schedule_expression)
        due = self._due.setdefault(schedule.arn, now if self._at_once else now + period)
        if due <= now and schedule.state == "ENABLED":
            self._due[schedule.arn] = now + period
            self._invoke(schedule)

    def _invoke(self, schedule: Any) -> None:
        arn = parse_arn(schedule.arn)
        try:
            _send(schedule.target, arn.account, arn.region)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other schedules go on
            self._on_failure(arn.account, arn.region, f"schedule {schedule.name} could not invoke its target: {error}")


def _schedules() -> list[Any]:
    backends = [backend for regions in list(scheduler_backends.values()) for backend in list(regions.values())]
    groups = [group for backend in backends for group in list(backend.schedule_groups.values())]
    return [schedule for group in groups for schedule in list(group.schedules.values())]


def _period(expression: str) -> int:
    ((number, unit),) = _RATE.findall(expression)
    return int(number) * _UNITS[unit]


def _send(target: Mapping[str, Any], account_id: str, region: str) -> None:
    """Invoke a target as its role may, or raise InvocationError or AssumeRoleDeniedError."""
    arn = parse_arn(target["Arn"])
    role = role_trusting(target["RoleArn"], "scheduler.amazonaws.com", account_id)
    action = "events:PutEvents" if arn.service == "events" else "states:StartExecution"
    if decide_for_role(role, Request(action, target["Arn"])) != "allowed":
        raise InvocationError(f"{role.arn} is not authorized to perform: {action} on resource: {target['Arn']}")
    if arn.service == "states":
        stepfunctions.start(target["Arn"], str(uuid.uuid4()), target.get("Input", "{}"))
        return
    if (arn.account, arn.region) != (account_id, region) or not eventbridge.exists(target["Arn"]):
        raise InvocationError(f"there is no bus {target['Arn']} in {account_id} {region}")
    about, detail = target[_BUS_PARAMETERS], json.loads(target.get("Input", "{}"))
    event = eventbridge.envelope(account_id, region, about["Source"], about["DetailType"], detail)
    eventbridge.publish(account_id, region, lambda: event, bus_name=arn.resource_id)
