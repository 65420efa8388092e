"""What Portcullis remembers of its changes, and of the resources that it may change. Values only.

A change is written down before it is made (the intent) and after (the outcome). The state of a resource is what
the next look at it has to know: a change that was begun, a window that is open, a time to leave it alone, what on it
is ours. One writer: looks at one resource never run at once (see ``work``), and a version guards that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from portcullis.actions import Action
    from portcullis.model import Kind, Made


class Progress(StrEnum):
    """How far a change has come. ABANDONED: it was begun and then not needed, or not possible, any more."""

    BEGUN = "begun"
    APPLIED = "applied"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the ledger.

    ``change_id`` begins with the time of the intent (``20261123T121530Z-`` and ten hexadecimal digits), is the
    idempotency token of the call, and is on what the call made as the tag ``portcullis:change``. ``trigger`` names the
    event or sweep, ``by`` says on whose wish ("the policy", "approved by ...", "CreateVpcEndpoint of ... failed").
    ``before`` and ``after`` are what was there, as JSON values. ``undoes`` is the change that this one takes back,
    ``undone_by`` the one that took this one back.
    """

    change_id: str
    account_id: str
    region: str
    kind: Kind
    resource_id: str
    action: Action
    begun_at: datetime
    trigger: str
    by: str
    before: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = Progress.BEGUN
    ended_at: datetime | None = None
    made: str = ""
    detail: str = ""
    after: Mapping[str, Any] = field(default_factory=dict)
    undoes: str = ""
    undone_by: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which a resource has to be quiet before it is changed.

    ``seen`` is a digest of the resource at the last look, which tells whether an indirect event concerned it.
    ``trigger`` names the event that opened or restarted it: the cause of the change that is made when it is over.
    """

    opened_at: datetime
    due_at: datetime
    caller: str
    seen: str = ""
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A time during which a resource is left alone, and why, as a sentence for the finding."""

    until: datetime
    reason: str


EVERYTHING = ""
"""Among the holds of a resource: for all controls."""


@dataclass(frozen=True, slots=True)
class ResourceState:
    """What the next look at a resource has to know. ``version`` is 0 for a state that is not stored.

    ``pending`` is the change that was begun and not ended. ``holds`` are by control id, or EVERYTHING;
    ``answered`` by the service for which AWS has shown that another endpoint answers. ``made`` maps
    ids of endpoints, associations and groups to how we left them; ``applied`` maps the changes that were applied and
    not taken back, in their order, to their control and what each made; ``changed_at`` lists when the policy changed it
    within the last day; ``again_at`` is the time for which a look is scheduled.
    """

    kind: Kind
    resource_id: str
    version: int = 0
    pending: str = ""
    window: Window | None = None
    holds: Mapping[str, Hold] = field(default_factory=dict)
    answered: Mapping[str, Hold] = field(default_factory=dict)
    made: Mapping[str, Made] = field(default_factory=dict)
    applied: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    changed_at: tuple[datetime, ...] = ()
    again_at: datetime | None = None

    def hold_on(self, control_id: str, now: datetime) -> Hold | None:
        """Return what makes a control leave the resource alone now, the longer one of two."""
        found = [hold for key in (EVERYTHING, control_id) if (hold := self.holds.get(key)) and hold.until > now]
        return max(found, key=lambda hold: hold.until, default=None)

    def latest(self, control_id: str) -> str | None:
        """Return the last change that was applied for a control and not taken back."""
        return next((name for name in reversed([*self.applied]) if self.applied[name][0] == control_id), None)


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that a change would exceed: whose it is, how much it admits in an hour, and when again."""

    whose: str
    limit: int
    until: datetime
