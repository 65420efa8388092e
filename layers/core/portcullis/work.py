"""Messages of the work queue: how a target is written and read, and when two of them are one. Pure.

A burst of events about one resource must cost few looks and never lose the last one. The queue delays every
message by ``delay`` seconds and drops a message whose deduplication id was sent before. The id here names the
target and a window of time that is shorter than the delay: the first message of a window is delivered only
after the window has ended, so what is dropped was always sent before the look that its twin causes. The
rest of the delay covers senders that are slow or whose clocks differ.
Source: "Exactly-once processing" and "Delay queues" in the Amazon SQS developer guide (ids are remembered for
5 minutes; FIFO queues have one delay for all messages).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from portcullis.errors import UnreadableEventError
from portcullis.model import Kind, Target, Work

if TYPE_CHECKING:
    from datetime import datetime

_VERSION = 1
_WINDOW_SHARE = 2 / 3


def window_seconds(delay: float) -> float:
    """Return the length of the deduplication window for a queue that delays messages by ``delay`` seconds."""
    return delay * _WINDOW_SHARE


def slack_seconds(delay: float) -> float:
    """Return how long after a change, at least, the look that its event causes begins."""
    return delay - window_seconds(delay)


def deduplication_id(target: Target, now: datetime, delay: float) -> str:
    """Return the id under which messages about one target, sent in one window, are one message."""
    window = window_seconds(delay)
    slot = int(now.timestamp() / window) if window > 0 else now.timestamp()
    return hashlib.sha256(f"{target.key}|{slot}".encode()).hexdigest()


def encode(target: Target, trigger: str = "") -> str:
    """Write a target, and what set it off, as a message body."""
    return json.dumps(
        {
            "version": _VERSION,
            "account_id": target.account_id,
            "region": target.region,
            "kind": target.kind.value,
            "resource_id": target.resource_id,
            "trigger": trigger,
        }
    )


def decode(body: str, message_id: str) -> Work:
    """Read a message body.

    Raises:
        UnreadableEventError: When it is not a target of this version.
    """
    try:
        data = json.loads(body)
        version = data["version"]
        target = Target(data["account_id"], data["region"], Kind(data["kind"]), data["resource_id"])
        trigger = data.get("trigger", "")  # a dead letter may be older than this field
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableEventError(f"not a target of version {_VERSION}: {error}") from error
    texts = (target.account_id, target.region, target.resource_id or "", trigger)
    if version != _VERSION or not all(isinstance(text, str) for text in texts):
        raise UnreadableEventError(f"not a target of version {_VERSION}: version {version!r}, or a field is no text")
    if (target.kind is Kind.ACCOUNT_REGION) == bool(target.resource_id):
        raise UnreadableEventError(f"not a target of version {_VERSION}: the kind and the resource id do not agree")
    return Work(target, message_id, trigger)
