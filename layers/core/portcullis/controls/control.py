"""What a control is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.model import Evaluation, Kind, Snapshot
    from portcullis.policy import Policy


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding says of the rule that was broken. ``docs`` is a page of AWS about the matter."""

    id: str
    title: str
    severity: str
    kind: Kind
    docs: str


@dataclass(frozen=True, slots=True)
class Control(Rule):
    """A rule about resources: its metadata, what it needs to see and do, and its verdict.

    ``observes`` and ``remediates`` are the IAM actions that the observer and the remediator need for it.
    ``evaluate`` takes (snapshot, resource, policy); it is pure. ``parameters`` documents what the
    policy may set for it, by name. ``related`` names controls of AWS that ask for something similar.
    """

    why: str
    fix: str
    risk: str
    observes: tuple[str, ...]
    remediates: tuple[str, ...]
    evaluate: Callable[[Snapshot, Any, Policy], Evaluation]
    parameters: tuple[tuple[str, str], ...] = ()
    related: str = ""
