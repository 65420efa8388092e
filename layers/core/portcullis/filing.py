"""Findings into Security Hub and into our memory of them, in an order that survives a crash at any point.

Several looks may concern one finding at once (an event's, a sweep's). Each loads what is remembered *before* it
observes, and writes only if that is still what is remembered: a look never overwrites a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portcullis import findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portcullis.model import FindingRecord, Outcome, RecordKey
    from portcullis.plan import Decision
    from portcullis.ports import Clock, FindingSink, FindingStore, Journal


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a finding was not filed; ``transient`` when another look may file it."""

    reason: str
    transient: bool


class Filer:
    """Files what is new.

    Args:
        sink: Security Hub.
        store: The memory of what was filed.
        journal: Told about each finding that was filed or refused.
        clock: The time.
    """

    def __init__(self, sink: FindingSink, store: FindingStore, journal: Journal, clock: Clock) -> None:
        self._sink = sink
        self._store = store
        self._journal = journal
        self._clock = clock

    def file(
        self,
        place: findings.Place,
        decided: Sequence[tuple[Decision, Sequence[Outcome]]],
        records: dict[RecordKey, FindingRecord],
    ) -> tuple[set[RecordKey], dict[RecordKey, Refusal]]:
        """File the findings that decisions call for, where they are new.

        Args:
            place: Where Security Hub is.
            decided: Decisions, and how their actions ended (nothing before they are performed).
            records: What was remembered before the observation; brought up to date here.

        Returns:
            The record keys of the findings that Security Hub took, and why others were not filed.
        """
        now = self._clock.now()
        filings = [
            filing
            for decision, outcomes in decided
            if (filing := findings.file_for(place, decision, outcomes, records.get(decision.record_key), now))
        ]
        # Written ahead: should we die here, the next look knows CreatedAt, and files again to be sure.
        doubts = [findings.in_doubt(filing.record) for filing in filings]
        refusals = self._save(place, doubts, records)
        filings = [filing for filing in filings if filing.record.key not in refusals]
        rejections = self._sink.import_findings(place.account_id, place.region, [f.finding for f in filings])
        by_id = {rejection.finding_id: rejection for rejection in rejections}
        for filing in filings:
            if rejection := by_id.get(filing.finding["Id"]):
                reason = f"Security Hub refused {rejection.finding_id}: {rejection.code} {rejection.message}"
                self._journal.problem("refused", reason, **filing.decision.fields(place.account_id, place.region))
                refusals[filing.record.key] = Refusal(reason, rejection.transient)
        taken = [filing for filing in filings if filing.finding["Id"] not in by_id]
        refusals |= self._save(place, [filing.record for filing in taken], records)
        for filing in taken:
            self._note(place, filing)
        return {filing.record.key for filing in taken}, refusals

    def _save(
        self, place: findings.Place, fresh: Sequence[FindingRecord], records: dict[RecordKey, FindingRecord]
    ) -> dict[RecordKey, Refusal]:
        """Save records; a refusal for each that somebody else has written since it was loaded."""
        changes = [(record, records.get(record.key)) for record in fresh]
        lost = self._store.save(place.account_id, place.region, changes)
        records.update({record.key: record for record in fresh if record.key not in lost})
        reason = "another look is filing the same finding"
        return {key: Refusal(f"{reason} ({key[2]} {key[1]})", transient=True) for key in lost}

    def _note(self, place: findings.Place, filing: findings.Filing) -> None:
        finding = filing.finding
        status, state = finding["Compliance"]["Status"], finding["RecordState"]
        self._journal.step(
            "filed",
            f"{filing.decision.control.id} finding on {filing.decision.resource_id} is now "
            f"{'ARCHIVED' if state == 'ARCHIVED' else status}",
            **filing.decision.fields(place.account_id, place.region),
            finding_id=finding["Id"],
            compliance=status,
            record_state=state,
        )
