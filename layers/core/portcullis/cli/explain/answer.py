"""What a diagnosis says: steps, and a sentence. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_NEEDED = "not-needed"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a diagnosis.

    ``evidence`` is what was seen. ``remedy`` is a command, or a sentence where none would do; ``control`` the id of
    the control that covers it. Both are empty where there is none.
    """

    name: str
    status: Status
    evidence: str
    remedy: str = ""
    control: str = ""


class Via(StrEnum):
    """How a request leaves for the service."""

    INTERFACE = "interface endpoint"
    ZONE = "private hosted zone"
    GATEWAY = "gateway endpoint"
    PUBLIC = "public way"
    UNKNOWN = "unknown"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether it works in one place, by which way, and why."""

    where: str
    via: Via
    steps: tuple[Step, ...]

    @property
    def works(self) -> bool:
        """Whether every step was seen to pass."""
        return not self._named(Status.FAILED) and not self._named(Status.UNKNOWN)

    @property
    def verdict(self) -> str:
        """Say it in a sentence or two."""
        failed, unknown = self._named(Status.FAILED), self._named(Status.UNKNOWN)
        if failed:
            more = f" Not known: {', '.join(unknown)}." if unknown else ""
            return f"No: {len(failed)} of {len(self.steps)} steps failed ({', '.join(failed)}).{more}"
        if unknown:
            return f"Perhaps: nothing that was seen stops it, but this is not known: {', '.join(unknown)}."
        if self.via is Via.PUBLIC:
            return "Yes, the public way: it works, but it leaves the network, and NAT gateways bill what they process."
        if self.via is Via.ZONE:
            return "Yes, as far as it is seen from here, privately: an endpoint elsewhere, by a private hosted zone."
        return f"Yes, privately: {self.via}."

    def _named(self, status: Status) -> list[str]:
        return [step.name for step in self.steps if step.status is status]
