"""The loop: observe, evaluate, plan, act, report. Events, retries and sweeps all come through here.

Level-triggered: a target says what to look at. Everything is read afresh, decided without side effects, and
only what differs is done, so any event may be lost, doubled or late. A look at a whole account and Region files
what needs no change, and puts what needs one on the work queue: every change is made under the message group of
its own VPC or instance, one at a time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from portcullis import findings
from portcullis.controls import CONTROLS, Control
from portcullis.controls.role_1 import DEFAULT_PROFILE, ROLE_1
from portcullis.errors import ObservationError, SecurityHubOffError, TransientError
from portcullis.filing import Filer, Refusal
from portcullis.model import Kind, Outcome, RecordKey, Result, Scope, Snapshot, Target, Work
from portcullis.plan import Decision, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from portcullis.policy import Policy
    from portcullis.ports import Ports


_LOGGED = 100  # ids in one log line, which has a limit


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
        slack: Seconds between a change and, at the earliest, the look that its event causes (see ``work``).
    """

    def __init__(
        self,
        ports: Ports,
        policy: Policy,
        *,
        partition: str = "aws",
        controls: Sequence[Control] = CONTROLS,
        slack: float = 10,
    ) -> None:
        self._ports = ports
        self._policy = policy
        self._partition = partition
        self._controls = controls
        self._slack = timedelta(seconds=slack)
        self._filer = Filer(ports.sink, ports.store, ports.journal, ports.clock)

    def run(self, work: Iterable[Work]) -> dict[Target, Answer]:
        """Bring every target to where the policy wants it, or say why not yet.

        Targets of one account and Region are observed together; equal targets are looked at once. An
        account and Region that cannot be read does not hold up the others.

        Returns:
            An answer for each distinct target; none is ever without one.
        """
        places: dict[tuple[str, str], dict[Target, Work]] = defaultdict(dict)
        for item in work:
            places[item.target.account_id, item.target.region].setdefault(item.target, item)
        answers: dict[Target, Answer] = {}
        for (account_id, region), group in places.items():
            place = findings.Place(self._partition, account_id, region)
            wide = {target: item for target, item in group.items() if target.kind is Kind.ACCOUNT_REGION}
            narrow = {target: item for target, item in group.items() if target.kind is not Kind.ACCOUNT_REGION}
            for part, look in ((narrow, self._reconcile), (wide, self._expand)):
                try:
                    answers |= look(place, part) if part else {}
                except SecurityHubOffError as error:
                    # Not a dead letter for each event: COVERAGE.1 tells, and a sweep looks once it is on.
                    self._ports.journal.problem("unfiled", str(error), account_id=account_id, region=region)
                    answers |= dict.fromkeys(part, _DONE)
                except (TransientError, ObservationError) as error:
                    verdict = Verdict.RETRY if isinstance(error, TransientError) else Verdict.BURY
                    answers |= dict.fromkeys(part, Answer(verdict, str(error)))
        return answers

    def sweep(self, account_id: str, region: str, trigger: str) -> list[str]:
        """Look at everything in an account and Region: file what needs no change, enqueue what needs one.

        A finding is archived only when everything was seen and its resource was not among it: a look that could
        not be completed raises, and files nothing.

        Returns:
            Why findings were refused for good, a sentence each; empty when all went well.

        Raises:
            TransientError, ObservationError: What could not be read or filed, and why.
        """
        place, began = findings.Place(self._partition, account_id, region), self._ports.clock.now()
        records = {record.key: record for record in self._ports.store.open_records(account_id, region)}
        snapshot = self._observe(Scope(account_id, region, everything=True))
        seen = {(kind, resource_id) for kind in (Kind.VPC, Kind.INSTANCE) for resource_id in snapshot.resources(kind)}
        resources = sorted(seen | {(kind, resource_id) for kind, resource_id, _ in records})
        decisions = decide(snapshot, resources, self._policy, self._controls)
        waiting = {_target(place, decision) for decision in decisions if decision.actions or decision.wait}
        settled = [(decision, ()) for decision in decisions if not (decision.actions or decision.wait)]
        taken, refusals = self._filer.file(place, settled, records)
        # What another look is at, or Security Hub did not take this time, deserves a closer one.
        closer = {key for key, why in refusals.items() if why.transient}
        if self._ports.clock.now() - began > self._slack:
            # What was filed may have changed since it was seen, and the look that its event caused be over.
            closer |= taken
        waiting |= {Target(account_id, region, kind, resource_id) for kind, resource_id, _ in closer}
        self._ports.queue.send(dict.fromkeys(sorted(waiting), trigger))
        self._ports.journal.step(
            "swept",
            f"looked at {len(snapshot.vpcs)} VPCs and {len(snapshot.instances)} instances: "
            f"{len(taken)} findings filed, {len(waiting)} need a closer look",
            account_id=account_id,
            region=region,
            resource_ids=sorted(str(target.resource_id) for target in waiting)[:_LOGGED],
        )
        return sorted(why.reason for why in refusals.values() if not why.transient)

    def _observe(self, scope: Scope) -> Snapshot:
        profile = self._policy.parameter(ROLE_1.id, "default_profile", DEFAULT_PROFILE)
        return self._ports.observer.observe(scope, profile)

    def _expand(self, place: findings.Place, work: Mapping[Target, Work]) -> dict[Target, Answer]:
        refused = self.sweep(place.account_id, place.region, next(iter(work.values())).trigger)
        answer = Answer(Verdict.BURY, refused[0]) if refused else _DONE
        return dict.fromkeys(work, answer)

    def _reconcile(self, place: findings.Place, work: Mapping[Target, Work]) -> dict[Target, Answer]:
        resources = [(target.kind, str(target.resource_id)) for target in work]
        keys = [(kind, resource_id, c.id) for kind, resource_id in resources for c in self._controls if c.kind is kind]
        records = dict(self._ports.store.load(place.account_id, place.region, keys))
        ids = {kind: frozenset(str(t.resource_id) for t in work if t.kind is kind) for kind in Kind}
        snapshot = self._observe(Scope(place.account_id, place.region, ids[Kind.VPC], ids[Kind.INSTANCE]))
        decisions = decide(snapshot, resources, self._policy, self._controls)
        for decision in decisions:
            self._note_evaluation(place, decision)
        answers = dict.fromkeys(work, _DONE)
        # The finding opens before anything is changed, so that a crash in between leaves it open; where
        # Security Hub did not take it, nothing is changed.
        taken, refusals = self._filer.file(place, [(decision, ()) for decision in decisions], records)
        _merge(answers, place, refusals)
        ready = [
            decision
            for decision in decisions
            if decision.actions
            and decision.record_key not in refusals
            and records[decision.record_key].status == "FAILED"
        ]
        # Findings that were open already did not show whether Security Hub is still on.
        if ready and not taken and not self._ports.sink.is_enabled(place.account_id, place.region):
            raise SecurityHubOffError(f"Security Hub is switched off in {place.account_id} {place.region}")
        acted = [(decision, self._act(place, decision, work)) for decision in ready]
        _, refusals = self._filer.file(place, acted, records)
        _merge(answers, place, refusals)
        for decision, outcomes in acted:
            if again := [outcome.detail for outcome in outcomes if outcome.result is Result.RETRY]:
                answers[_target(place, decision)] = Answer(Verdict.RETRY, " ".join(again))
        # What waits for the world to change is enqueued anew: a retry would block the very event it waits for.
        waiting = {_target(place, decision) for decision in decisions if decision.wait}
        self._ports.queue.send({target: work[target].trigger for target in sorted(waiting)})
        return answers

    def _act(self, place: findings.Place, decision: Decision, work: Mapping[Target, Work]) -> list[Outcome]:
        outcomes = []
        for action in decision.actions:
            outcome = self._ports.remediator.perform(work[_target(place, decision)], action)
            outcomes.append(outcome)
            note = self._ports.journal.step if outcome.result is Result.APPLIED else self._ports.journal.problem
            note(
                "acted",
                outcome.detail,
                **decision.fields(place.account_id, place.region),
                action=type(action).__name__,
                result=str(outcome.result),
                made=outcome.resource_id,
            )
        return outcomes

    def _note_evaluation(self, place: findings.Place, decision: Decision) -> None:
        evaluation = decision.evaluation
        self._ports.journal.step(
            "evaluated",
            f"{decision.control.id} {evaluation.status}: {evaluation.reason}" if evaluation else decision.note,
            **decision.fields(place.account_id, place.region),
            status=str(evaluation.status) if evaluation else "GONE",
            planned=[str(action) for action in decision.actions],
            wait=decision.wait,
        )


def _merge(answers: dict[Target, Answer], place: findings.Place, refusals: Mapping[RecordKey, Refusal]) -> None:
    """Answer for what was not filed. A retry outweighs a burial: what is buried is not tried again."""
    for (kind, resource_id, _), refusal in refusals.items():
        target = Target(place.account_id, place.region, kind, resource_id)
        if answers[target].verdict is not Verdict.RETRY:
            answers[target] = Answer(Verdict.RETRY if refusal.transient else Verdict.BURY, refusal.reason)


def _target(place: findings.Place, decision: Decision) -> Target:
    return Target(place.account_id, place.region, decision.kind, decision.resource_id)
