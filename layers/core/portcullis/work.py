"""Messages of the work queue: how a target and its cause are written and read, and when two are one. Pure.

A burst of events about one resource must cost few looks and never lose the last one. The queue delays every
message by ``delay`` seconds and drops a message whose deduplication id was sent before. The id here names the
target, what of the cause the look has to know (see ``sameness``), and a window of time that is shorter than the delay:
the first message of a window is delivered only after the window has ended, so what is dropped was always sent before
the look that its twin causes, and would have told that look nothing else. The rest of the delay covers senders that are
slow or whose clocks differ.

A person's request is one message whenever it is sent again: its trigger and what is asked for name it. The looks that
EventBridge Scheduler sends have no id: the queue takes a digest of their body, in which the trigger holds the time for
which the look was scheduled. Scheduler never sends before that time, so of one that it sends twice the first is early
enough.
Source: "Exactly-once processing" and "Delay queues" in the Amazon SQS developer guide (ids are remembered for
5 minutes; FIFO queues have one delay for all messages; content-based deduplication, which an explicit id overrides).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from portcullis.errors import UnreadableEventError
from portcullis.model import Ask, Caller, Cause, Conflict, Kind, Request, Target, Work
from portcullis.triggers import moment_of

if TYPE_CHECKING:
    from datetime import datetime

_VERSION = 2
_BEFORE = 1  # without a cause, but for its trigger; such messages are in flight while an upgrade is deployed
_WINDOW_SHARE = 2 / 3


def window_seconds(delay: float) -> float:
    """Return the length of the deduplication window for a queue that delays messages by ``delay`` seconds."""
    return delay * _WINDOW_SHARE


def slack_seconds(delay: float) -> float:
    """Return how long after a change, at least, the look that its event causes begins."""
    return delay - window_seconds(delay)


def sameness(cause: Cause) -> str:
    """Return what two causes share when one message about a target does for both of them.

    That is everything that a look has to know, but for the trigger's name, which only people read: whose call it was
    and whether it named the target; what the call failed over. Not when: a pipeline repeats a call that fails. Of
    requests each is its own, also of several by one event, which may have findings of several controls.
    """
    if request := cause.request:
        return json.dumps(["request", cause.trigger, request.ask, request.control_id, request.change_id])
    return json.dumps([cause.caller, cause.indirect, asdict(cause.conflict) if cause.conflict else None])


def deduplication_id(target: Target, cause: Cause, now: datetime, delay: float) -> str:
    """Return the id under which messages about one target, sent in one window for the same cause, are one message."""
    window = window_seconds(delay)
    slot = int(now.timestamp() / window) if window > 0 else now.timestamp()
    when = "" if cause.request else f"|{slot}"
    return hashlib.sha256(f"{target.key}|{sameness(cause)}{when}".encode()).hexdigest()


def encode(target: Target, cause: Cause) -> str:
    """Write a target, and why to look at it, as a message body."""
    at = cause.at.isoformat() if cause.at else None
    return json.dumps({"version": _VERSION, **asdict(target), "cause": asdict(cause) | {"at": at}})


def decode(body: str, message_id: str) -> Work:
    """Read a message body.

    Raises:
        UnreadableEventError: When it is not a target of this version or the one before.
    """
    try:
        data = json.loads(body)
        version = data["version"]
        target = Target(
            _text(data["account_id"]), _text(data["region"]), Kind(data["kind"]), _text_or_none(data["resource_id"])
        )
        # A dead letter of the version before may be older than its trigger.
        cause = _cause(data["cause"]) if version == _VERSION else Cause(_text(data.get("trigger", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableEventError(f"not a target of version {_VERSION}: {error!r}") from error
    if version not in (_VERSION, _BEFORE):
        raise UnreadableEventError(f"not a target of version {_VERSION}: version {version!r}")
    if (target.kind is Kind.ACCOUNT_REGION) == bool(target.resource_id):
        raise UnreadableEventError(f"not a target of version {_VERSION}: the kind and the resource id do not agree")
    return Work(target, message_id, cause)


def _cause(data: Any) -> Cause:
    caller, indirect, conflict, request = (data[name] for name in ("caller", "indirect", "conflict", "request"))
    if not isinstance(indirect, bool):
        raise TypeError(f"indirect is {indirect!r}")
    return Cause(
        trigger=_text(data["trigger"]),
        caller=None if caller is None else Caller(caller),
        indirect=indirect,
        conflict=None if conflict is None else _conflict(conflict),
        request=None if request is None else _request(request),
        # Messages from before it was written are in flight while an upgrade is deployed.
        at=None if data.get("at") is None else _moment(data["at"]),
    )


def _conflict(data: Any) -> Conflict:
    tables = data["route_table_ids"]
    if not isinstance(tables, list):
        raise TypeError(f"route_table_ids is {tables!r}")
    names = ("call", "principal", "service_name", "endpoint_id", "subnet_id")
    return Conflict(**{name: _text(data[name]) for name in names}, route_table_ids=tuple(map(_text, tables)))


def _request(data: Any) -> Request:
    names = ("control_id", "by", "change_id")
    return Request(ask=Ask(data["ask"]), **{name: _text(data[name]) for name in names})


def _moment(value: Any) -> datetime:
    moment = moment_of(value)
    if moment is None:
        raise ValueError(f"{value!r} is no time with a zone")
    return moment


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)
