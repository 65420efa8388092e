"""What the loop needs from the world, as small protocols. The adapters implement them; tests fake them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from portcullis.model import Action, FindingRecord, Kind, Outcome, Scope, Snapshot, Target


class Observer(Protocol):
    """Reads, in bulk. With credentials that can change nothing."""

    def observe(self, scope: Scope, default_profile: str) -> Snapshot:
        """Return what is there now, read afresh.

        Raises:
            TransientError: The read may succeed later.
            ObservationError: The read is refused; waiting does not help.
        """


class Remediator(Protocol):
    """Writes, one action at a time. With credentials of its own, asked for only now."""

    def perform(self, account_id: str, region: str, action: Action, cause: str) -> Outcome:
        """Perform an action. ``cause`` (the same on every redelivery of a message) makes it idempotent.

        Never raises for an error of AWS: the outcome says FAILED or RETRY, and why.
        """


@dataclass(frozen=True, slots=True)
class Rejection:
    """A finding that Security Hub did not take. ``transient`` when trying again may help."""

    finding_id: str
    code: str
    message: str
    transient: bool


class FindingSink(Protocol):
    """Security Hub of one account and Region."""

    def import_findings(self, account_id: str, region: str, findings: Sequence[dict[str, Any]]) -> list[Rejection]:
        """Import findings, in batches. Returns those that were not taken; retries the transient ones once.

        Raises:
            TransientError: The whole call failed and may succeed later.
            ObservationError: The whole call is refused; waiting does not help.
        """


class FindingStore(Protocol):
    """The memory of what was filed."""

    def load(
        self, account_id: str, region: str, keys: Collection[tuple[Kind, str, str]]
    ) -> Mapping[tuple[Kind, str, str], FindingRecord]:
        """Return the records of (kind, resource id, control id), without those that do not exist."""

    def open_records(self, account_id: str, region: str) -> Iterable[FindingRecord]:
        """Return every record of an account and Region that is not archived."""

    def save(self, account_id: str, region: str, records: Sequence[FindingRecord]) -> None:
        """Write records, replacing older ones."""


class WorkQueue(Protocol):
    """The queue of targets. Equal targets are delivered in order, one at a time."""

    def send(self, targets: Collection[Target]) -> None:
        """Enqueue targets. One that already waits, and will be looked at later than now, is not added again.

        Raises:
            TransientError: Some of them could not be enqueued; sending all of them again is harmless.
        """

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Keep a received message invisible for so many seconds."""


class DeadLetters(Protocol):
    """Where messages go that nobody can handle, with the reason."""

    def bury(self, body: str, reason: str, group: str = "unreadable") -> None:
        """Put a message into the dead-letter queue; ``group`` is its target's key.

        Raises:
            TransientError: The queue did not take it.
        """


class Journal(Protocol):
    """What happened, a step at a time, for people and machines to read."""

    def step(self, step: str, message: str, /, **fields: object) -> None:
        """Record a step: its name, a sentence, and its data."""

    def problem(self, step: str, message: str, /, **fields: object) -> None:
        """Record a step that somebody should look at."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the time, with its zone."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that the loop reaches the world through."""

    observer: Observer
    remediator: Remediator
    sink: FindingSink
    store: FindingStore
    queue: WorkQueue
    journal: Journal
    clock: Clock
