"""What the loop needs from the world, as small protocols. The adapters implement them; tests fake them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from portcullis.coverage import Answer, Coverage
    from portcullis.model import Action, FindingRecord, Outcome, RecordKey, Scope, Snapshot, Target, Work


class Observer(Protocol):
    """Reads, in bulk. With credentials that can change nothing."""

    def observe(self, scope: Scope, default_profile: str) -> Snapshot:
        """Return what is there now, read afresh.

        Raises:
            TransientError: The read may succeed later.
            NotAdmittedError: The account does not let us in.
            ObservationError: The read is refused; waiting does not help.
        """

    def region_enabled(self, account_id: str, region: str) -> bool:
        """Tell whether an account has a Region switched on; raises what ``observe`` raises."""


class Remediator(Protocol):
    """Writes, one action at a time. With credentials of its own, asked for only now."""

    def perform(self, work: Work, action: Action) -> Outcome:
        """Perform an action in the account and Region of ``work``, whose message id makes it idempotent.

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
            SecurityHubOffError: Security Hub is off there.
            ObservationError: The whole call is refused; waiting does not help.
        """

    def is_enabled(self, account_id: str, region: str) -> bool:
        """Tell whether Security Hub is switched on there; raises what ``import_findings`` raises."""


class FindingStore(Protocol):
    """The memory of what was filed."""

    def load(self, account_id: str, region: str, keys: Collection[RecordKey]) -> Mapping[RecordKey, FindingRecord]:
        """Return the records of some findings, without those that do not exist."""

    def open_records(self, account_id: str, region: str) -> Iterable[FindingRecord]:
        """Return every record of an account and Region that is not archived."""

    def save(
        self, account_id: str, region: str, changes: Sequence[tuple[FindingRecord, FindingRecord | None]]
    ) -> set[RecordKey]:
        """Write each record if the one beside it (None: nothing) is still what is stored.

        Returns:
            The keys of those that were not written, since somebody else has written them meanwhile.
        """


class CoverageStore(Protocol):
    """The memory of which accounts and Regions take part, and when each last showed that it does."""

    def all(self) -> list[Coverage]:
        """Return what is known of every account and Region."""

    def heard(self, account_id: str, region: str) -> Coverage:
        """Note a heartbeat, now. Returns what is known then."""

    def answered(self, account_id: str, region: str, answer: Answer) -> None:
        """Note how a look of a sweep ended, now."""

    def list_place(self, account_id: str, region: str) -> None:
        """Note that an account and Region is one that must be covered."""

    def forget(self, account_id: str, region: str) -> None:
        """Drop an account and Region that is no longer governed."""


class Directory(Protocol):
    """The organisation."""

    def active_accounts(self) -> frozenset[str]:
        """Return the ids of the active accounts below the target organisational units, at any depth.

        Raises:
            TransientError: AWS Organizations did not answer, or refused.
        """

    def management_account_id(self) -> str:
        """Return the id of the management account; raises what ``active_accounts`` raises."""


class WorkQueue(Protocol):
    """The queue of targets. Equal targets are delivered in order, one at a time."""

    def send(self, triggers: Mapping[Target, str]) -> None:
        """Enqueue targets, each with what set it off.

        One that already waits, and will be looked at later than now, is not added again.

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


@dataclass(frozen=True, slots=True)
class SurveyPorts:
    """Everything that a survey reaches the world through."""

    directory: Directory
    coverage: CoverageStore
    sink: FindingSink
    store: FindingStore
    journal: Journal
    clock: Clock
