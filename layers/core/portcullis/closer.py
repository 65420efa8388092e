"""A closer look, at some VPCs and instances: the only one that changes anything.

Looks at one resource never run at once, so what is remembered of it has one writer. The order of the steps lets the
process die at any of them, and the next look, of the same message or of another, go on from what is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from portcullis.actions import fingerprint
from portcullis.changing import Changer, Wish
from portcullis.errors import ObservationError, TransientError
from portcullis.findings import finding_id
from portcullis.ledger import EVERYTHING, ResourceState
from portcullis.model import Ask, Cause, Kind, Result, Scope, Snapshot, Status, Target
from portcullis.plan import BY_POLICY, exempted
from portcullis.withdrawing import Withdrawer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from portcullis.deciding import Decider
    from portcullis.filing import Filer, Refusal
    from portcullis.findings import Place
    from portcullis.ledger import Window
    from portcullis.model import FindingRecord, Outcome, RecordKey, Resource, Work
    from portcullis.plan import Decision, Judge
    from portcullis.policy import Policy
    from portcullis.ports import Ports


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


DONE = Answer(Verdict.DONE)

UNFINISHED_AGAIN = timedelta(minutes=15)
"""When it is looked at again whether what was begun to be taken back can go on."""

UP_TO_DATE = timedelta(hours=1)
"""How old a conflict or a request may be to be acted on."""

_OUTDATED = (
    "It was not done: what is to be changed is not what the finding proposed when this was asked for. The finding says "
    "it anew; read it, and ask again."
)
_ResourceKey = tuple[Kind, str]
_Acted = list[tuple["Decision", "list[Outcome]"]]


@dataclass(slots=True)
class _Looking:
    """What one look has found and done so far."""

    place: Place
    work: Mapping[Target, Sequence[Work]]
    snapshot: Snapshot
    states: dict[_ResourceKey, ResourceState]
    stored: dict[_ResourceKey, ResourceState]
    answers: dict[Target, Answer]
    told: dict[str, str] = field(default_factory=dict)  # what to tell, by the id of the message that asked
    suppressed: set[RecordKey] = field(default_factory=set)
    unfinished: set[_ResourceKey] = field(default_factory=set)  # with a change of which nobody knows how it ends

    def target(self, key: _ResourceKey) -> Target:
        return Target(self.place.account_id, self.place.region, *key)

    def items(self, key: _ResourceKey) -> Sequence[Work]:
        return self.work[self.target(key)]

    def resource(self, key: _ResourceKey) -> Resource | None:
        return self.snapshot.get(*key)

    def retry(self, target: Target, reason: str) -> None:
        """A retry outweighs a burial: what is buried is not tried again."""
        self.answers[target] = Answer(Verdict.RETRY, reason)

    def leave(self, target: Target, reason: str) -> None:
        """Change nothing more of a resource in this look; the next one sees how its change ended."""
        self.unfinished.add((target.kind, str(target.resource_id)))
        self.retry(target, reason)

    def merge(self, refusals: Mapping[RecordKey, Refusal]) -> None:
        """Answer for what was not filed."""
        for (kind, resource_id, _), refusal in refusals.items():
            target = self.target((kind, resource_id))
            if refusal.transient:
                self.retry(target, refusal.reason)
            elif self.answers[target].verdict is not Verdict.RETRY:
                self.answers[target] = Answer(Verdict.BURY, refusal.reason)


class CloserLook:
    """Looks at resources one by one, and brings them to where the policy wants them."""

    def __init__(self, ports: Ports, policy: Policy, decider: Decider, filer: Filer) -> None:
        self._ports = ports
        self._decider = decider
        self._filer = filer
        self._changer = Changer(ports, policy.limits, partial(decider.observe, wholly=True))
        self._withdrawer = Withdrawer(ports, self._changer)

    def look(self, place: Place, work: Mapping[Target, Sequence[Work]]) -> dict[Target, Answer]:
        """Look at VPCs and instances of one account and Region.

        Returns:
            An answer for each target.

        Raises:
            TransientError, ObservationError: What cannot be read or written; nothing may be known of any target.
        """
        resources = [(target.kind, str(target.resource_id)) for target in work]
        controls = self._decider.controls
        keys = [(kind, name, control.id) for kind, name in resources for control in controls if control.kind is kind]
        records = dict(self._ports.store.load(place.account_id, place.region, keys))
        states = dict(self._ports.ledger.states(place.account_id, place.region, resources))
        ids = {kind: frozenset(name for one, name in resources if one is kind) for kind in Kind}
        scope = Scope(place.account_id, place.region, ids[Kind.VPC], ids[Kind.INSTANCE])
        judge = self._decider.judge(place)
        observe = partial(self._decider.observe, scope, wholly=_needs_all(states.values(), work.values()))
        looking = _Looking(place, work, observe(), states, dict(states), dict.fromkeys(work, DONE))
        self._take_back(judge, observe, looking)
        judged = judge.judge(looking.snapshot, resources, self._ports.clock.now())
        self._open_windows(judged, looking)
        approvals = self._approved(looking, judged, records)
        decisions = self._decider.respond(place, looking.snapshot, judged, states, approvals)
        for decision in decisions:
            if decision.evaluation or looking.resource(decision.resource) is None:
                self._note_evaluation(place, decision)
        # The finding opens before anything is changed, so that a crash in between leaves it open; where
        # Security Hub did not take it, nothing is changed.
        _, refusals = self._filer.file(place, [(decision, ()) for decision in decisions], records)
        looking.merge(refusals)
        ready = [
            decision
            for decision in decisions
            if decision.actions
            and decision.record_key not in refusals
            and records[decision.record_key].status in ("FAILED", "WARNING")
        ]
        acted = [(decision, self._act(looking, decision)) for decision in self._unsuppressed(looking, ready)]
        _, refusals = self._filer.file(place, acted, records)
        looking.merge(refusals)
        for key in resources:
            self._remember(looking, key, [one for one in decisions if one.resource == key], acted)
        self._follow(looking, acted)
        self._reply(looking, decisions, acted)
        return looking.answers

    def _take_back(self, judge: Judge, observe: Callable[[], Snapshot], looking: _Looking) -> None:
        """Finish what a look before began, make way for others, undo what people ask to, and see what is left."""
        for target, items in looking.work.items():
            key = (target.kind, str(target.resource_id))
            leave_alone = max(one.leave_alone for one in judge.settings(looking.resource(key), key))
            looking.states[key] = self._changer.recover(looking.states[key], looking.resource(key), leave_alone)
            self._resume(looking, target, observe, leave_alone)
            for item in () if key in looking.unfinished else items:
                if item.message_id in looking.told or self._turns_down(looking, item):
                    continue
                tried = self._take_back_for(looking, item, key, leave_alone)
                if tried:
                    looking.snapshot = observe()
                if tried and tried[-1].result is Result.RETRY:
                    looking.leave(target, tried[-1].detail)
                    break
            looking.stored[key] = looking.states[key]

    def _resume(
        self, looking: _Looking, target: Target, observe: Callable[[], Snapshot], leave_alone: timedelta
    ) -> None:
        """Go on with what a look before began to take back, and tell who asked for that."""
        key, items = (target.kind, str(target.resource_id)), looking.work[target]
        pending = looking.states[key].pending
        resumed = self._changer.resume(items[0], looking.resource(key), looking.states[key], leave_alone)
        if resumed is None:
            return
        outcome, looking.states[key] = resumed
        looking.snapshot = observe()
        if outcome.result is Result.RETRY:
            looking.leave(target, outcome.detail)
            return
        change = self._ports.ledger.get(pending)
        for item in items:
            request = item.cause.request
            if request and change and change.undoes == request.change_id:
                hold = looking.states[key].holds.get(EVERYTHING)
                looking.told[item.message_id] = " ".join(filter(None, (outcome.detail, hold.reason if hold else "")))

    def _take_back_for(
        self, looking: _Looking, item: Work, key: _ResourceKey, leave_alone: timedelta
    ) -> Sequence[Outcome]:
        """Make way for a conflict, or undo for a request; returns how each change that was tried ended."""
        request, resource, state = item.cause.request, looking.resource(key), looking.states[key]
        outcomes: list[Outcome] = []
        if conflict := item.cause.conflict:
            outcomes, state = self._withdrawer.make_way(item, conflict, resource, state, leave_alone)
        if request and request.ask is Ask.UNDO:
            outcome, state, text = self._withdrawer.undo(item, resource, state, leave_alone)
            outcomes = [outcome] if outcome else []
            looking.told[item.message_id] = text
        looking.states[key] = state
        return [outcome for outcome in outcomes if outcome.result is not Result.REFUSED]

    def _turns_down(self, looking: _Looking, item: Work) -> bool:
        """Turn down a conflict or a request that is out of date (a dead letter, put back days later), and tell so."""
        cause, now = item.cause, self._ports.clock.now()
        if not (cause.conflict or cause.request) or (cause.at and now - cause.at <= UP_TO_DATE):
            return False
        text = "It was not done: it was asked for too long ago. Ask again, if it is still wanted."
        looking.told[item.message_id] = text
        target = item.target
        fields = {"account_id": target.account_id, "region": target.region, "resource_id": target.resource_id}
        self._ports.journal.step("outdated", f"{cause.trigger} is too old to be acted on", **fields)
        return True

    def _approved(
        self, looking: _Looking, judged: Sequence[Decision], records: Mapping[RecordKey, FindingRecord]
    ) -> dict[RecordKey, str]:
        """Return who approved what, by the key of the finding's record: no more than the finding proposed."""
        approvals: dict[RecordKey, str] = {}
        wanted = {one.record_key: set(map(fingerprint, one.possible)) for one in judged}
        for target, items in looking.work.items():
            for item in items:
                request = item.cause.request
                if request is None or not _approves(item, request.control_id) or item.message_id in looking.told:
                    continue
                key = (target.kind, str(target.resource_id), request.control_id)
                record = records.get(key)
                proposed = set((record.proposed or "").split()) if record else set()
                if wanted.get(key, set()) <= proposed:
                    approvals[key] = request.by
                else:
                    looking.told[item.message_id] = _OUTDATED
        return approvals

    def _open_windows(self, judged: Sequence[Decision], looking: _Looking) -> None:
        causes = {key: [item.cause for item in looking.items(key)] for key in looking.states}
        looking.states.update(self._decider.open_windows(judged, looking.snapshot, looking.states, causes))

    def _unsuppressed(self, looking: _Looking, ready: Sequence[Decision]) -> list[Decision]:
        """Leave out what an analyst has suppressed. Raises SecurityHubOffError where there is nobody to ask."""
        if not ready:
            return []
        place = looking.place
        ids = {finding_id(place, one.control.id, one.kind, one.resource_id): one for one in ready}
        suppressed = self._ports.sink.suppressed(place.account_id, place.region, sorted(ids))
        for name in suppressed:
            fields = ids[name].fields(place.account_id, place.region)
            self._ports.journal.step("suppressed", "nothing is changed: the finding is suppressed", **fields)
            looking.suppressed.add(ids[name].record_key)
        return [one for name, one in ids.items() if name not in suppressed]

    def _act(self, looking: _Looking, decision: Decision) -> list[Outcome]:
        key = decision.resource
        outcomes: list[Outcome] = []
        if key in looking.unfinished:
            return outcomes  # another change would give that one up, though it may have been made
        items = looking.items(key)
        item = next((one for one in items if _approves(one, decision.control.id)), items[0])
        if decision.by == BY_POLICY and (window := looking.states[key].window):
            item = replace(item, cause=replace(item.cause, trigger=window.trigger or item.cause.trigger))
        for action in decision.actions:
            outcome, looking.states[key] = self._changer.make(
                item, action, looking.resource(key), looking.states[key], Wish(decision.by)
            )
            outcomes.append(outcome)
            if outcome.result is not Result.REFUSED:
                looking.stored[key] = looking.states[key]
            note = self._ports.journal.step if outcome.result is Result.APPLIED else self._ports.journal.problem
            note(
                "acted",
                outcome.detail,
                **decision.fields(looking.place.account_id, looking.place.region),
                action=type(action).__name__,
                result=str(outcome.result),
                made=outcome.resource_id,
            )
            if outcome.result is Result.RETRY:
                looking.leave(looking.target(key), outcome.detail)
            if outcome.result in (Result.RETRY, Result.REFUSED):
                break
        return outcomes

    def _remember(self, looking: _Looking, key: _ResourceKey, decisions: Sequence[Decision], acted: _Acted) -> None:
        """Store what the next look has to know, and schedule it."""
        target, state, now = looking.target(key), looking.states[key], self._ports.clock.now()
        outcomes = [outcome for decision, done in acted if decision.resource == key for outcome in done]
        results = {outcome.result for outcome in outcomes}
        if state.pending and Result.RETRY not in results and looking.answers[target].verdict is not Verdict.RETRY:
            state = self._changer.abandon(state)
        if looking.resource(key) is None:
            state = ResourceState(*key, version=state.version, again_at=state.again_at)
        if state.window and _has_served(state.window, decisions, results, now):
            state = replace(state, window=None)
        holds, answered = (
            {name: hold for name, hold in held.items() if hold.until > now} for held in (state.holds, state.answered)
        )
        state = replace(state, holds=holds, answered=answered)
        times = [*(decision.again_at for decision in decisions), *(outcome.again_at for outcome in outcomes)]
        times += [now + UNFINISHED_AGAIN] if state.pending and key not in looking.unfinished else []
        again_at = min(filter(None, times), default=None)
        if again_at and again_at != state.again_at:
            self._ports.scheduler.look_at(target, again_at)
        elif again_at is None and state.again_at and state.again_at > now:
            self._ports.scheduler.cancel(target)
        state = replace(state, again_at=again_at)
        if state != looking.stored[key]:
            self._ports.ledger.keep(target.account_id, target.region, state)
        if wait := next((one.wait for one in decisions if one.wait), None):
            self._wait(looking, target, wait)

    def _follow(self, looking: _Looking, acted: _Acted) -> None:
        """Look again at what controls say that build on what was just changed: our own calls cause no look."""
        following: dict[Target, str] = {}
        for decision, outcomes in acted:
            changed = any(outcome.result is Result.APPLIED for outcome in outcomes)
            if changed and decision.control.id in self._decider.followed:
                target = looking.target(decision.resource)
                following[target] = looking.work[target][0].cause.trigger
        self._ports.queue.send([(target, Cause(trigger)) for target, trigger in following.items()])

    def _wait(self, looking: _Looking, target: Target, wait: str) -> None:
        """Look again soon. A retry would block the very event that is waited for, so the target is enqueued anew.

        But for a request, which must not be lost.
        """
        items = looking.work[target]
        if any(item.cause.request for item in items):
            looking.retry(target, wait)
        else:
            self._ports.queue.send([(target, Cause(items[0].cause.trigger))])

    def _reply(self, looking: _Looking, decisions: Sequence[Decision], acted: _Acted) -> None:
        """Tell those who asked what became of it, as a note on the finding."""
        place, done = looking.place, {decision.record_key: outcomes for decision, outcomes in acted}
        by_key = {decision.record_key: decision for decision in decisions}
        for target, items in looking.work.items():
            if looking.answers[target].verdict is Verdict.RETRY:
                continue  # then there is no result yet
            for item in items:
                request = item.cause.request
                if request is None:
                    continue
                key = (target.kind, str(target.resource_id), request.control_id)
                result = looking.told.get(item.message_id)
                if result is None and key in looking.suppressed:
                    result = "It was not done: this finding is suppressed."
                if result is None:
                    result = _result(by_key.get(key), done.get(key, []))
                text = f"{request.ask.capitalize()}, asked for by {request.by}: {result}"
                name = finding_id(place, request.control_id, key[0], key[1])
                fields = {"account_id": place.account_id, "region": place.region, "resource_id": key[1]}
                try:
                    self._ports.sink.note(place.account_id, place.region, name, text)
                except TransientError as error:
                    looking.retry(target, str(error))
                except ObservationError as error:
                    looking.answers[target] = Answer(Verdict.BURY, str(error))
                else:
                    self._ports.journal.step("answered", text, **fields)

    def _note_evaluation(self, place: Place, decision: Decision) -> None:
        evaluation = decision.evaluation
        self._ports.journal.step(
            "evaluated",
            f"{decision.control.id} {evaluation.status}: {evaluation.reason}" if evaluation else decision.note,
            **decision.fields(place.account_id, place.region),
            status=str(evaluation.status) if evaluation else "GONE",
            planned=[str(action) for action in decision.actions],
            wait=decision.wait,
            note=decision.note,
        )
        if decision.flapping:
            self._ports.journal.problem("flapping", decision.note, **decision.fields(place.account_id, place.region))


def _needs_all(states: Collection[ResourceState], work: Iterable[Sequence[Work]]) -> bool:
    """Tell whether a look has to see all that can be ours: what it does not see, it takes for gone."""
    causes = [item.cause for items in work for item in items]
    is_asked = any(cause.conflict or (cause.request and cause.request.ask is Ask.UNDO) for cause in causes)
    beside_gateways = any(not one.route_table_ids for state in states for one in state.made.values())
    return is_asked or beside_gateways or any(state.pending for state in states)


def _has_served(window: Window, decisions: Sequence[Decision], results: set[Result], now: datetime) -> bool:
    """Tell whether nothing of a resource waits for a window any more, and what it was for is done or not to be done."""
    if any(one.again_at == window.due_at for one in decisions):
        return False
    tried = bool(results & {Result.APPLIED, Result.FAILED})
    return tried or (window.due_at <= now and not any(map(_is_open, decisions)))


def _is_open(decision: Decision) -> bool:
    return bool(decision.actions or decision.wait or decision.stopped)


def _approves(item: Work, control_id: str) -> bool:
    request = item.cause.request
    return request is not None and request.ask is Ask.REMEDIATE and request.control_id == control_id


def _result(decision: Decision | None, outcomes: Sequence[Outcome]) -> str:
    """Say what became of a request, from what was decided about its control."""
    if outcomes:
        return " ".join(outcome.detail for outcome in outcomes)
    if decision is None:
        return "There is no such control."
    if decision.exemption:
        return f"It was not done. {exempted(decision.exemption)}"
    evaluation = decision.evaluation
    if evaluation and evaluation.status is Status.UNKNOWN:
        return f"It was not done: {evaluation.reason} Ask again in a few minutes."
    if evaluation and evaluation.status is not Status.FAILED:
        return f"Nothing is left to do. {evaluation.reason}"
    return decision.note
