"""When a change may be made: not before the resource has been quiet for a while. Pure.

Whoever builds a network with a pipeline or a console creates the endpoint minutes after the VPC; a change made at once
would make theirs fail. The window restarts with each of their calls, up to a longest time after it opened. It is
at least two minutes long (see the policy's schema), so that tags that arrive late are there when the change is decided.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from portcullis.ledger import Window
from portcullis.model import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from portcullis.model import Cause, Resource
    from portcullis.policy import Settings


def digest(resource: Resource | None) -> str:
    """Return what changes whenever something that was observed of a resource changes."""
    return hashlib.sha256(repr(resource).encode()).hexdigest()[:16]


STALE = timedelta(hours=1)
"""So long after the longest time of a window another call opens a new one; before, it does not put the change off."""


def window_of(
    window: Window | None, causes: Iterable[Cause], settings: Sequence[Settings], seen: str, now: datetime
) -> Window:
    """Open a window, or restart the one that is open.

    Args:
        window: The one that is open, if any.
        causes: Why the resource is looked at. A call that named it restarts the window; one that did not, when the
            resource is not as it was at the last look.
        settings: What the policy says about each change that waits; the longest time of each kind counts.
        seen: The resource's digest.
        now: The time.
    """
    is_changed = window is None or window.seen != seen
    causes = list(causes)
    triggers = {one.caller: one.trigger for one in causes if one.caller and (is_changed or not one.indirect)}
    longest = max(one.longest for one in settings)
    if window and triggers and now > window.opened_at + longest + STALE:
        window = None
    if window and (not triggers or now >= window.opened_at + longest):
        return replace(window, seen=seen)
    settle = {caller: max(one.settle[caller] for one in settings) for caller in Caller}
    slowest = max(triggers or {Caller.OTHER}, key=lambda caller: (settle[caller], caller))
    due_at = now + settle[slowest]
    trigger = triggers.get(slowest) or next((one.trigger for one in causes), "")
    if window is None:
        return Window(now, min(due_at, now + longest), slowest, seen, trigger)
    if due_at <= window.due_at:
        return replace(window, seen=seen)
    return Window(window.opened_at, min(due_at, window.opened_at + longest), slowest, seen, trigger)
