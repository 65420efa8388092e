"""The loop: observe, evaluate, plan, act, report. Events, retries and sweeps all come through here.

Level-triggered: a target says what to look at. Everything is read afresh, decided without side effects, and
only what differs is done, so any event may be lost, doubled or late. A target that names an account and
Region is only looked at, and what needs something is put on the work queue: everything that is changed or
filed about a VPC or an instance happens under that resource's own message group, one at a time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from portcullis import findings
from portcullis.controls import CONTROLS, Control
from portcullis.controls.role_1 import DEFAULT_PROFILE, ROLE_1
from portcullis.errors import ObservationError, TransientError
from portcullis.model import Kind, Outcome, Result, Scope, Snapshot, Target
from portcullis.plan import Decision, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from portcullis.model import FindingRecord
    from portcullis.policy import Policy
    from portcullis.ports import Ports

_RecordKey = tuple[Kind, str, str]


@dataclass(frozen=True, slots=True)
class Work:
    """A target and what caused it: an id that stays the same when the message is delivered again."""

    target: Target
    cause: str


class Verdict(StrEnum):
    """What becomes of the message that brought a target."""

    DONE = "done"
    RETRY = "retry"
    BURY = "bury"


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on a target. RETRY: deliver it again soon. BURY: to the DLQ now. ``reason`` says why."""

    verdict: Verdict
    reason: str = ""


_DONE = Answer(Verdict.DONE)


class Loop:
    """The loop over its ports, with one policy.

    Args:
        ports: The world.
        policy: What is wanted.
        partition: The AWS partition of the organisation (``aws``, ``aws-cn``, ...).
        controls: The registry; tests may pass their own.
    """

    def __init__(
        self, ports: Ports, policy: Policy, *, partition: str = "aws", controls: Sequence[Control] = CONTROLS
    ) -> None:
        self._ports = ports
        self._policy = policy
        self._partition = partition
        self._controls = controls

    def run(self, work: Iterable[Work]) -> dict[Target, Answer]:
        """Bring every target to where the policy wants it, or say why not yet.

        Targets of one account and Region are observed together; equal targets are looked at once. An
        account and Region that cannot be read does not hold up the others.

        Returns:
            An answer for each distinct target; none is ever without one.
        """
        causes: dict[tuple[str, str], dict[Target, str]] = defaultdict(dict)
        for item in work:
            causes[item.target.account_id, item.target.region].setdefault(item.target, item.cause)
        answers: dict[Target, Answer] = {}
        for (account_id, region), group in causes.items():
            place = findings.Place(self._partition, account_id, region)
            wide = {target: cause for target, cause in group.items() if target.kind is Kind.ACCOUNT_REGION}
            narrow = {target: cause for target, cause in group.items() if target.kind is not Kind.ACCOUNT_REGION}
            for part, look in ((narrow, self._reconcile), (wide, self._expand)):
                try:
                    answers |= look(place, part) if part else {}
                except (TransientError, ObservationError) as error:
                    verdict = Verdict.RETRY if isinstance(error, TransientError) else Verdict.BURY
                    answers |= dict.fromkeys(part, Answer(verdict, str(error)))
        return answers

    def _observe(self, scope: Scope) -> Snapshot:
        profile = self._policy.parameter(ROLE_1.id, "default_profile", DEFAULT_PROFILE)
        return self._ports.observer.observe(scope, profile)

    def _expand(self, place: findings.Place, wide: Mapping[Target, str]) -> dict[Target, Answer]:
        """Look at a whole account and Region, and enqueue what needs something done or filed."""
        snapshot = self._observe(Scope(place.account_id, place.region, everything=True))
        records = {record.key: record for record in self._ports.store.open_records(place.account_id, place.region)}
        seen = {(kind, resource_id) for kind in (Kind.VPC, Kind.INSTANCE) for resource_id in snapshot.resources(kind)}
        resources = sorted(seen | {(kind, resource_id) for kind, resource_id, _ in records})
        now = self._ports.clock.now()
        needing = {
            Target(place.account_id, place.region, decision.kind, decision.resource_id)
            for decision in decide(snapshot, resources, self._policy, self._controls)
            if decision.actions
            or decision.wait
            or findings.file_for(place, decision, (), records.get(_record_key(decision)), now)
        }
        self._ports.queue.send(sorted(needing))
        self._ports.journal.step(
            "expanded",
            f"looked at {len(snapshot.vpcs)} VPCs and {len(snapshot.instances)} instances; "
            f"{len(needing)} of them need a closer look",
            account_id=place.account_id,
            region=place.region,
            resource_ids=sorted(str(target.resource_id) for target in needing),
        )
        return dict.fromkeys(wide, _DONE)

    def _reconcile(self, place: findings.Place, work: Mapping[Target, str]) -> dict[Target, Answer]:
        ids = {kind: frozenset(str(t.resource_id) for t in work if t.kind is kind) for kind in Kind}
        snapshot = self._observe(Scope(place.account_id, place.region, ids[Kind.VPC], ids[Kind.INSTANCE]))
        resources = [(target.kind, str(target.resource_id)) for target in work]
        decisions = decide(snapshot, resources, self._policy, self._controls)
        keys = [_record_key(decision) for decision in decisions]
        records = dict(self._ports.store.load(place.account_id, place.region, keys))
        for decision in decisions:
            self._note_evaluation(place, decision)
        answers = dict.fromkeys(work, _DONE)
        # The finding opens before anything is changed, so that a crash in between leaves it open; where
        # Security Hub did not take it, nothing is changed.
        _merge(answers, self._file(place, [(decision, ()) for decision in decisions], records))
        acted = [
            (decision, self._act(place, decision, work))
            for decision in decisions
            if decision.actions and records[_record_key(decision)].status == "FAILED"
        ]
        _merge(answers, self._file(place, acted, records))
        for decision, outcomes in acted:
            if again := [outcome.detail for outcome in outcomes if outcome.result is Result.RETRY]:
                answers[_target(place, decision)] = Answer(Verdict.RETRY, " ".join(again))
        # What waits for the world to change is enqueued anew: a retry would block the very event it waits for.
        self._ports.queue.send(sorted({_target(place, decision) for decision in decisions if decision.wait}))
        return answers

    def _act(self, place: findings.Place, decision: Decision, work: Mapping[Target, str]) -> list[Outcome]:
        cause = work[_target(place, decision)]
        outcomes = []
        for action in decision.actions:
            outcome = self._ports.remediator.perform(place.account_id, place.region, action, cause)
            outcomes.append(outcome)
            note = self._ports.journal.step if outcome.result is Result.APPLIED else self._ports.journal.problem
            note(
                "acted",
                outcome.detail,
                **_fields(place, decision),
                action=type(action).__name__,
                result=str(outcome.result),
                made=outcome.resource_id,
            )
        return outcomes

    def _file(
        self,
        place: findings.Place,
        decided: Sequence[tuple[Decision, Sequence[Outcome]]],
        records: dict[_RecordKey, FindingRecord],
    ) -> dict[Target, Answer]:
        """File what is new. Returns an answer for each target whose finding Security Hub refused for good."""
        now = self._ports.clock.now()
        filings = [
            filing
            for decision, outcomes in decided
            if (filing := findings.file_for(place, decision, outcomes, records.get(_record_key(decision)), now))
        ]
        if not filings:
            return {}
        store, (account_id, region) = self._ports.store, (place.account_id, place.region)
        # Written ahead: should we die here, the next look knows CreatedAt, and files again to be sure.
        doubts = [findings.in_doubt(filing.record) for filing in filings]
        store.save(account_id, region, doubts)
        records.update({record.key: record for record in doubts})
        rejections = {
            rejection.finding_id: rejection
            for rejection in self._ports.sink.import_findings(account_id, region, [f.finding for f in filings])
        }
        taken = [filing for filing in filings if filing.finding["Id"] not in rejections]
        store.save(account_id, region, [filing.record for filing in taken])
        records.update({filing.record.key: filing.record for filing in taken})
        for filing in taken:
            self._note_filing(place, filing)
        refused: dict[Target, Answer] = {}
        for filing in filings:
            rejection = rejections.get(filing.finding["Id"])
            if rejection:
                reason = f"Security Hub refused {rejection.finding_id}: {rejection.code} {rejection.message}"
                self._ports.journal.problem("refused", reason, **_fields(place, filing.decision))
                verdict = Verdict.RETRY if rejection.transient else Verdict.BURY
                _merge(refused, {_target(place, filing.decision): Answer(verdict, reason)})
        return refused

    def _note_evaluation(self, place: findings.Place, decision: Decision) -> None:
        evaluation = decision.evaluation
        self._ports.journal.step(
            "evaluated",
            f"{decision.control.id} {evaluation.status}: {evaluation.reason}" if evaluation else decision.note,
            **_fields(place, decision),
            status=str(evaluation.status) if evaluation else "GONE",
            planned=[str(action) for action in decision.actions],
            wait=decision.wait,
        )

    def _note_filing(self, place: findings.Place, filing: findings.Filing) -> None:
        finding = filing.finding
        status, state = finding["Compliance"]["Status"], finding["RecordState"]
        self._ports.journal.step(
            "filed",
            f"{filing.decision.control.id} finding on {filing.decision.resource_id} is now "
            f"{'ARCHIVED' if state == 'ARCHIVED' else status}",
            **_fields(place, filing.decision),
            finding_id=finding["Id"],
            compliance=status,
            record_state=state,
        )


def _merge(answers: dict[Target, Answer], more: Mapping[Target, Answer]) -> None:
    """Add answers. A retry outweighs a burial: what is buried is not tried again."""
    retried = {target for target, answer in answers.items() if answer.verdict is Verdict.RETRY}
    answers.update({target: answer for target, answer in more.items() if target not in retried})


def _target(place: findings.Place, decision: Decision) -> Target:
    return Target(place.account_id, place.region, decision.kind, decision.resource_id)


def _record_key(decision: Decision) -> _RecordKey:
    return (decision.kind, decision.resource_id, decision.control.id)


def _fields(place: findings.Place, decision: Decision) -> dict[str, object]:
    return {
        "account_id": place.account_id,
        "region": place.region,
        "resource_id": decision.resource_id,
        "control": decision.control.id,
    }
