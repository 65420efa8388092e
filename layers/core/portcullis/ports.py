"""What the loop needs from the world, as small protocols. The adapters implement them; tests fake them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from portcullis.actions import Action
    from portcullis.coverage import Answer, Coverage
    from portcullis.ledger import Breach, Change, ResourceState
    from portcullis.model import Cause, FindingRecord, Kind, Needs, Outcome, RecordKey, Scope, Snapshot, Target, Work
    from portcullis.policy import Limits
    from portcullis.surroundings import Surroundings


class Changes(StrEnum):
    """The positions of the kill switch: everything goes, only taking back what is ours, or nothing."""

    ENABLED = "enabled"
    UNDO_ONLY = "undo-only"
    STOPPED = "stopped"


class Observer(Protocol):
    """Reads, in bulk. With credentials that can change nothing."""

    def observe(self, scope: Scope, needs: Needs) -> Snapshot:
        """Return what is there now, read afresh.

        Raises:
            TransientError: The read may succeed later.
            NotAdmittedError: The account does not let us in.
            ObservationError: The read is refused; waiting does not help.
        """

    def surroundings(
        self, account_id: str, region: str, vpc_ids: Collection[str], *, buckets: bool
    ) -> Mapping[str, Surroundings]:
        """Return what runs in some VPCs; raises what ``observe`` raises. Costs calls per page, not per VPC.

        ``buckets`` asks for the bucket policies of the account, too, at a call per bucket.
        """

    def region_enabled(self, account_id: str, region: str) -> bool:
        """Tell whether an account has a Region switched on; raises what ``observe`` raises."""


class Remediator(Protocol):
    """Writes, one action at a time. With credentials of its own, asked for only now."""

    def perform(self, work: Work, action: Action, change_id: str) -> Outcome:
        """Perform an action in the account and Region of ``work``; ``change_id`` makes it idempotent.

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

    def suppressed(self, account_id: str, region: str, finding_ids: Collection[str]) -> frozenset[str]:
        """Return which of some findings an analyst has suppressed; raises what ``import_findings`` raises."""

    def note(self, account_id: str, region: str, finding_id: str, text: str) -> None:
        """Replace the note on a finding; raises what ``import_findings`` raises."""


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


class Ledger(Protocol):
    """The write-ahead ledger of changes, and the state of the resources that they concern."""

    def states(
        self, account_id: str, region: str, resources: Collection[tuple[Kind, str]]
    ) -> Mapping[tuple[Kind, str], ResourceState]:
        """Return the state of each resource, an empty one where none is stored. Reads the latest.

        Raises:
            TransientError: The table did not answer, or holds something unreadable: nothing may be changed then.
        """

    def keep(self, account_id: str, region: str, state: ResourceState) -> ResourceState:
        """Write a state, or delete it when it says nothing. Returns it with its new version.

        Raises:
            TransientError: It was not written; perhaps somebody else has written it meanwhile.
        """

    def begin(self, change: Change, state: ResourceState, limits: Limits | None) -> ResourceState | Breach:
        """Write an intent: all at once the change, the state with it as ``pending``, and its count.

        Args:
            change: What is about to be done.
            state: The state as it was read or last written.
            limits: What it counts against; None for what only takes something of ours back.

        Returns:
            The state with its new version, or the limit that forbids the change, of which nothing is written then.

        Raises:
            TransientError: Nothing was written.
        """

    def end(self, change: Change, state: ResourceState) -> ResourceState:
        """Write an outcome: all at once the change, and the state without ``pending``.

        When the change was applied and takes another one back, ``undone_by`` of that one, too.

        Returns:
            The state with its new version.

        Raises:
            TransientError: Nothing was written.
        """

    def get(self, change_id: str) -> Change | None:
        """Return a change, or None. Raises what ``states`` raises."""

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        """Return the changes that began in [since, until), the latest first. Raises what ``states`` raises."""


class Scheduler(Protocol):
    """One-time looks, at most one for each target. They outlive a deployment and a crash."""

    def look_at(self, target: Target, when: datetime) -> None:
        """Put a target on the work queue at a time, instead of any time scheduled before.

        Raises:
            TransientError: It was not scheduled.
        """

    def cancel(self, target: Target) -> None:
        """Drop the look that is scheduled, if there is one; raises what ``look_at`` raises."""


class Switch(Protocol):
    """The kill switch."""

    def position(self) -> Changes:
        """Return what may be changed now, read afresh; STOPPED when that cannot be read."""


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

    def units_of(self, account_id: str) -> tuple[str, ...]:
        """Return the ids of the root and the organisational units above an account, the root first.

        Raises what ``active_accounts`` raises. What it returns may be a quarter of an hour old.
        """


class WorkQueue(Protocol):
    """The queue of targets. Equal targets are delivered in order, one at a time."""

    def send(self, causes: Sequence[tuple[Target, Cause]]) -> None:
        """Enqueue targets, each with its cause.

        One that already waits, and will be looked at later than now, is not added again for the same cause (see
        ``work.sameness``); a request is always added.

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
    ledger: Ledger
    queue: WorkQueue
    scheduler: Scheduler
    switch: Switch
    directory: Directory
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
