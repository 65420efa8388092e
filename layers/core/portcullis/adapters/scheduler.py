"""One-time looks, over EventBridge Scheduler: a schedule per target, which puts the target on the work queue.

The work queue is FIFO, and such a target of Scheduler needs content-based deduplication on the queue (SqsParameters in
the Scheduler API reference). The message names its time, so that looks at different times are different messages;
senders that give ids of their own are not affected.

A schedule fires within the minute that begins at its time ("Schedule types", Scheduler user guide). What happens to
a time in the past is not documented, and people report that it is refused: none is ever sent. Scheduler deletes a
schedule after it has fired; should that ever hit one that was set anew at that moment, the sweep looks all the same.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis import work
from portcullis.adapters.calls import translated
from portcullis.errors import TransientError
from portcullis.model import Cause, trigger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from portcullis.model import Target
    from portcullis.ports import Clock

PERMISSIONS = (
    "iam:PassRole",
    "scheduler:CreateSchedule",
    "scheduler:DeleteSchedule",
    "scheduler:UpdateSchedule",
)
"""The IAM actions that this module uses, with the function's own role; it passes the role that sends the messages."""

GROUP = "portcullis-looks"
"""The schedule group. Deleting it deletes every look that is scheduled."""

_SOONEST = timedelta(minutes=1)
_UNSAFE = re.compile(r"[^0-9a-zA-Z_.-]")
_READABLE = 47
_HASH = 16  # with a dash between, 64 characters, the most that a name may have


class EventBridgeScheduler:
    """The Scheduler port over EventBridge Scheduler.

    Args:
        client: A Scheduler client of the hub.
        queue_arn: The work queue.
        role_arn: The role with which Scheduler sends to it.
        clock: The time.
    """

    def __init__(self, client: Any, queue_arn: str, role_arn: str, clock: Clock) -> None:
        self._client = client
        self._queue_arn = queue_arn
        self._role_arn = role_arn
        self._clock = clock

    def look_at(self, target: Target, when: datetime) -> None:
        """Schedule a look, or move it. See ports.Scheduler."""
        schedule = self._schedule(target, when)
        with translated(f"scheduling a look at {target.key}", TransientError):
            if _unless("ConflictException", self._client.create_schedule, schedule):
                return
            # It fires, and is gone, while we move it: then it is created after all.
            if not _unless("ResourceNotFoundException", self._client.update_schedule, schedule):
                self._client.create_schedule(**schedule)

    def cancel(self, target: Target) -> None:
        """Drop a look. See ports.Scheduler."""
        with translated(f"cancelling the look at {target.key}", TransientError):
            named = {"Name": _name(target), "GroupName": GROUP}
            _unless("ResourceNotFoundException", self._client.delete_schedule, named)

    def _schedule(self, target: Target, when: datetime) -> dict[str, Any]:
        moment = max(when, self._clock.now() + _SOONEST).astimezone(UTC)
        if moment.microsecond:
            moment = moment.replace(microsecond=0) + timedelta(seconds=1)  # never a moment too early
        cause = Cause(trigger=trigger("schedule", f"{moment:%Y-%m-%dT%H:%M:%SZ}"))
        return {
            "Name": _name(target),
            "GroupName": GROUP,
            "State": "ENABLED",
            "ScheduleExpression": f"at({moment:%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "Target": {
                "Arn": self._queue_arn,
                "RoleArn": self._role_arn,
                "Input": work.encode(target, cause),
                "SqsParameters": {"MessageGroupId": target.key},
            },
        }


def _name(target: Target) -> str:
    """Return a schedule's name: readable, and different for different targets."""
    readable = _UNSAFE.sub("-", f"{target.resource_id or target.kind}.{target.account_id}.{target.region}")
    return f"{readable[:_READABLE]}-{hashlib.sha256(target.key.encode()).hexdigest()[:_HASH]}"


def _unless(code: str, call: Callable[..., object], request: dict[str, Any]) -> bool:
    """Call, and tell whether that went well; False for one error."""
    try:
        call(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise
        return False
    return True
