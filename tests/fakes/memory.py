"""What the hub remembers, over dictionaries."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from portcullis.coverage import Coverage, Problem
from portcullis.errors import TransientError
from portcullis.ledger import Breach, Change, Progress, ResourceState

from tests.fakes.names import MANAGEMENT_ACCOUNT, PlaceKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from portcullis.coverage import Answer
    from portcullis.model import FindingRecord, Kind, RecordKey
    from portcullis.policy import Limits

    from tests.fakes.calls import Calls, FakeClock

_HOUR = timedelta(hours=1)


class FakeStore:
    """The FindingStore port over a dictionary: what was written since it was loaded is not written over."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.records: defaultdict[PlaceKey, dict[RecordKey, FindingRecord]] = defaultdict(dict)

    def load(self, account_id: str, region: str, keys: Collection[RecordKey]) -> Mapping[RecordKey, FindingRecord]:
        """Return records. See ports.FindingStore."""
        with self.calls.making("load"):
            held = self.records[account_id, region]
            return {key: held[key] for key in keys if key in held}

    def open_records(self, account_id: str, region: str) -> Iterable[FindingRecord]:
        """Return what is not archived. See ports.FindingStore."""
        with self.calls.making("open_records"):
            return [r for r in self.records[account_id, region].values() if r.record_state != "ARCHIVED"]

    def save(
        self, account_id: str, region: str, changes: Sequence[tuple[FindingRecord, FindingRecord | None]]
    ) -> set[RecordKey]:
        """Write what nobody else has written; nothing to write costs no call. See ports.FindingStore."""
        if not changes:
            return set()
        with self.calls.making("save"):
            held = self.records[account_id, region]
            for record, before in changes:
                # The table's condition looks at two attributes: they must stand for the whole record.
                assert (held.get(record.key) == before) is (_version(held.get(record.key)) == _version(before))
            lost = {record.key for record, before in changes if held.get(record.key) != before}
            held |= {record.key: record for record, _ in changes if record.key not in lost}
            return lost


def _version(record: FindingRecord | None) -> tuple[str, str | None] | None:
    return (record.updated_at, record.status) if record else None


class FakeCoverageStore:
    """The CoverageStore port over a dictionary."""

    def __init__(self, calls: Calls, clock: FakeClock) -> None:
        self.calls = calls
        self.clock = clock
        self.known: dict[PlaceKey, Coverage] = {}

    def all(self) -> list[Coverage]:
        """Return everything. See ports.CoverageStore."""
        with self.calls.making("coverage"):
            return list(self.known.values())

    def heard(self, account_id: str, region: str) -> Coverage:
        """Note a heartbeat. See ports.CoverageStore."""
        with self.calls.making("heard"):
            return self._update(account_id, region, heartbeat_at=self._now())

    def answered(self, account_id: str, region: str, answer: Answer) -> None:
        """Note how a look ended. See ports.CoverageStore."""
        seen = {"swept_at": self._now()} if answer.problem in (None, Problem.REFUSED) else {}
        with self.calls.making("answered"):
            self._update(account_id, region, answer=answer, **seen)

    def list_place(self, account_id: str, region: str) -> None:
        """Note who must take part. See ports.CoverageStore."""
        with self.calls.making("list_place"):
            self._update(account_id, region, listed=True)

    def forget(self, account_id: str, region: str) -> None:
        """Drop one. See ports.CoverageStore."""
        with self.calls.making("forget"):
            del self.known[account_id, region]

    def _update(self, account_id: str, region: str, **values: Any) -> Coverage:
        known = self.known.get((account_id, region)) or Coverage(account_id, region, self._now())
        self.known[account_id, region] = replace(known, **values)
        return self.known[account_id, region]

    def _now(self) -> str:
        return self.clock.now().isoformat(timespec="seconds")


class FakeDirectory:
    """The Directory port over a set of account ids."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.accounts: set[str] = set()
        self.units: dict[str, tuple[str, ...]] = {}

    def active_accounts(self) -> frozenset[str]:
        """Return the accounts. See ports.Directory."""
        with self.calls.making("active_accounts"):
            return frozenset(self.accounts)

    def management_account_id(self) -> str:
        """Return the management account. See ports.Directory."""
        with self.calls.making("management_account_id"):
            return MANAGEMENT_ACCOUNT

    def units_of(self, account_id: str) -> tuple[str, ...]:
        """Return the units above an account. See ports.Directory."""
        with self.calls.making("units_of"):
            return self.units[account_id]


class FakeLedger:
    """The Ledger port: one writer for each state, and a rolling hour for each limit."""

    def __init__(self, calls: Calls, clock: FakeClock) -> None:
        self.calls = calls
        self.clock = clock
        self.entries: dict[str, Change] = {}
        self.kept: dict[tuple[str, str, Kind, str], ResourceState] = {}
        self.counted: defaultdict[str, list[datetime]] = defaultdict(list)

    def states(
        self, account_id: str, region: str, resources: Collection[tuple[Kind, str]]
    ) -> Mapping[tuple[Kind, str], ResourceState]:
        """Return states; none costs no call. See ports.Ledger."""
        if not resources:
            return {}
        with self.calls.making("states"):
            return {key: self.kept.get((account_id, region, *key), ResourceState(*key)) for key in resources}

    def keep(self, account_id: str, region: str, state: ResourceState) -> ResourceState:
        """Write a state. See ports.Ledger."""
        with self.calls.making("keep"):
            return self._write(account_id, region, state)

    def begin(self, change: Change, state: ResourceState, limits: Limits | None) -> ResourceState | Breach:
        """Write an intent. See ports.Ledger."""
        with self.calls.making("begin"):
            assert state.pending == change.change_id
            now = self.clock.now()
            counts: dict[str, int] = {}
            if limits:
                whose = f"account {change.account_id}"
                counts = {whose: limits.per_account, "the organisation": limits.per_organisation}
            for name, limit in counts.items():
                recent = [when for when in self.counted[name] if when > now - _HOUR]
                if len(recent) >= limit:
                    return Breach(name, limit, recent[-limit] + _HOUR)
            assert change.change_id not in self.entries, "a change is begun once"
            written = self._write(change.account_id, change.region, state)
            self.entries[change.change_id] = change
            for name in counts:
                self.counted[name].append(now)
            return written

    def end(self, change: Change, state: ResourceState) -> ResourceState:
        """Write an outcome. See ports.Ledger."""
        with self.calls.making("end"):
            assert self.entries[change.change_id].progress is Progress.BEGUN
            assert change.progress is not Progress.BEGUN
            assert not state.pending
            written = self._write(change.account_id, change.region, state)
            self.entries[change.change_id] = change
            if change.undoes and change.progress is Progress.APPLIED:
                undone = self.entries[change.undoes]
                self.entries[change.undoes] = replace(undone, undone_by=change.change_id)
            return written

    def get(self, change_id: str) -> Change | None:
        """Return a change. See ports.Ledger."""
        with self.calls.making("get"):
            return self.entries.get(change_id)

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        """Return changes. See ports.Ledger."""
        found = [change for change in self.entries.values() if since <= change.begun_at < until]
        return iter(sorted(found, key=lambda change: change.change_id, reverse=True))

    def _write(self, account_id: str, region: str, state: ResourceState) -> ResourceState:
        key = (account_id, region, state.kind, state.resource_id)
        stored = self.kept.get(key)
        if (stored.version if stored else 0) != state.version:
            raise TransientError(f"{state.resource_id} was written by somebody else")
        if state == ResourceState(state.kind, state.resource_id, state.version):
            self.kept.pop(key, None)
            return ResourceState(state.kind, state.resource_id)
        self.kept[key] = replace(state, version=state.version + 1)
        return self.kept[key]
