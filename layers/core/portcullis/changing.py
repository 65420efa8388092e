"""Making a change: the only way to the remediator. Written down before, written down after, within the limits.

The order of steps lets the process die at any of them. The intent is stored together with the resource's state, so the
next look at the resource finds a change that was begun and not ended. It then sees from what is there whether the
change was made (``recover``), or makes the same change again with the same idempotency token.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from portcullis.actions import encode, left_by
from portcullis.ledger import EVERYTHING, Breach, Change, Hold, Progress
from portcullis.model import Kind, Made, Outcome, Result, Scope
from portcullis.plan import BY_POLICY, DAY, moment, while_stopped
from portcullis.ports import Changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from portcullis.actions import Action
    from portcullis.ledger import ResourceState
    from portcullis.model import Resource, Snapshot, Work
    from portcullis.policy import Limits
    from portcullis.ports import Ports

RESUMED_FOR = timedelta(minutes=15)
"""For so long a change that was begun is made under its own token; a message is tried again for a shorter time.

After that it is given up for a new one: AWS may remember a token of something that was deleted meanwhile.
"""

TRIED_FOR = timedelta(minutes=5)
"""For so long a change is tried again when AWS refuses it for a cause that may pass."""

TAKEN_BACK_FOR = timedelta(minutes=10)
"""For so long what is taken back is tried: the network interfaces of an endpoint take their time to go."""

ANSWERED_FOR = timedelta(days=30)
"""For so long it is believed that another endpoint has the private name of a service, once AWS has said so."""

AGAIN_AFTER = timedelta(hours=1)
"""After that the finding says what AWS says, and the next try is so much later."""

_SEEN = "It was made; how it ended was seen at a later look."
SPREAD = 1800
"""Seconds over which the looks of those are spread that a limit kept waiting."""

UNDONE = "undone by"
"""How ``Change.by`` begins when a person asked for a change to be taken back."""

_MOST_APPLIED = 50
_ONE_LOOK = timedelta(minutes=1)  # what is changed within it counts once: a VPC may lack ten endpoints
_PROGRESS = {Result.APPLIED: Progress.APPLIED, Result.FAILED: Progress.FAILED, Result.NEEDLESS: Progress.FAILED}


@dataclass(frozen=True, slots=True)
class Wish:
    """On whose wish a change is made.

    For what is taken back: the change that made it, and for how long the resource is left alone then.
    """

    by: str
    undoes: str = ""
    leave_alone: timedelta = timedelta()


class Changer:
    """Makes changes, one at a time for each resource.

    Args:
        ports: The world.
        limits: How many changes the policy admits.
        observe: Observes a scope, with all in it that can be ours.
    """

    def __init__(self, ports: Ports, limits: Limits, observe: Callable[[Scope], Snapshot]) -> None:
        self._ports = ports
        self._limits = limits
        self._observe = observe

    def recover(self, state: ResourceState, resource: Resource | None, leave_alone: timedelta) -> ResourceState:
        """Bring a change that was begun and not ended to its end, if what is there tells how it ended.

        ``leave_alone`` is for how long a resource is, of which something was taken back.
        """
        change = self._ports.ledger.get(state.pending) if state.pending else None
        if change is None:
            return state
        made = change.action.made_in(resource, change.change_id)
        is_recent = self._ports.clock.now() - change.begun_at < RESUMED_FOR
        if made is None and resource is not None and (is_recent or change.action.takes_back):
            return state  # what is taken back is never given up half-way: see resume
        progress = Progress.ABANDONED if made is None else Progress.APPLIED
        detail = "It was not made." if made is None else _SEEN
        after = left_by(resource, made) if made else {}
        self._ports.journal.step("recovered", f"{change.change_id}: {detail}", resource_id=state.resource_id)
        return self._end(
            replace(change, progress=progress, detail=detail, made=made or "", after=after), state, leave_alone
        )

    def resume(
        self, work: Work, resource: Resource | None, state: ResourceState, leave_alone: timedelta
    ) -> tuple[Outcome, ResourceState] | None:
        """Go on with what was begun to be taken back: nobody may ask for it again, since a part of it is gone.

        Returns:
            As ``make``; None when there is nothing to go on with, or changes are stopped.
        """
        change = self._ports.ledger.get(state.pending) if state.pending else None
        if change is None or not change.action.takes_back or self._ports.switch.position() is Changes.STOPPED:
            return None
        return self._perform(work, resource, change, state, Wish(change.by, change.undoes, leave_alone))

    def abandon(self, state: ResourceState) -> ResourceState:
        """End a change that was begun and is not wanted any more; what is taken back goes on at another look."""
        change = self._ports.ledger.get(state.pending)
        if change is None:
            return replace(state, pending="")
        if change.action.takes_back:
            return state
        return self._end(replace(change, progress=Progress.ABANDONED, detail="It was not needed any more."), state)

    def make(
        self,
        work: Work,
        action: Action,
        resource: Resource | None,
        state: ResourceState,
        wish: Wish,
    ) -> tuple[Outcome, ResourceState]:
        """Make a change, if the kill switch and the limits let it.

        Args:
            work: What led here; names the target.
            action: What to do.
            resource: What it is done to, as it was observed.
            state: What is remembered of the resource; written together with the intent.
            wish: On whose wish, and what this change takes back.

        Returns:
            How it ended, and the state as it is stored then.

        Raises:
            TransientError: The ledger did not take the intent (nothing was changed) or the outcome (the next
                look finds out).
        """
        position = self._ports.switch.position()
        if position is Changes.STOPPED or (position is Changes.UNDO_ONLY and not action.takes_back):
            detail = while_stopped(position, str(action), asked=wish.by != BY_POLICY)
            self._ports.journal.problem("stopped", detail, **_fields(work))
            return Outcome(action, Result.REFUSED, detail=detail), state
        change = self._ports.ledger.get(state.pending) if state.pending else None
        if state.pending and (change is None or change.action != action):
            change, state = None, self.abandon(state)
        begun = (change, state) if change else self._begin(work, action, resource, state, wish)
        if isinstance(begun, Breach):
            return self._limited(work, action, begun, by_policy=wish.by == BY_POLICY), state
        return self._perform(work, resource, *begun, wish)

    def _limited(self, work: Work, action: Action, breach: Breach, *, by_policy: bool) -> Outcome:
        """Tell that a limit is reached. Not all that wait come at once when a place is free: each has its turn."""
        number = int(hashlib.sha256(str(work.target.resource_id).encode()).hexdigest(), 16)
        until = breach.until + timedelta(seconds=number % SPREAD if by_policy else 0)
        then = "Portcullis looks again then" if by_policy else "ask again then"
        detail = (
            f"The limit of {breach.limit} changes an hour for {breach.whose} is reached until {moment(until)}; "
            f"{then}. It would {action}."
        )
        self._ports.journal.problem("limited", detail, **_fields(work))
        return Outcome(action, Result.REFUSED, detail=detail, again_at=until)

    def _perform(
        self, work: Work, resource: Resource | None, change: Change, state: ResourceState, wish: Wish
    ) -> tuple[Outcome, ResourceState]:
        """Make the call of a change that was begun, and write down how it ended."""
        action = change.action
        outcome, now = self._ports.remediator.perform(work, action, change.change_id), self._ports.clock.now()
        if outcome.result is Result.RETRY and (outcome.resource_id or outcome.is_refuted):
            # AWS remembers the token of what is gone: the next try is a change of its own, with another token.
            made = outcome.resource_id or ""
            gone = replace(change, progress=Progress.ABANDONED, made=made, detail=outcome.detail)
            return outcome, self._end(gone, state)
        patience = TAKEN_BACK_FOR if action.takes_back else TRIED_FOR
        if outcome.result is Result.RETRY and now - change.begun_at < patience:
            return outcome, state  # it stays begun: the next look goes on with it
        if outcome.result is Result.RETRY:
            outcome = self._given_up(work, change, outcome)
        made = outcome.resource_id or ""
        after = outcome.after or (action.expected(resource) if made else {})
        ended = replace(change, progress=_PROGRESS[outcome.result], made=made, detail=outcome.detail, after=after)
        if outcome.result is Result.NEEDLESS:
            held = Hold(now + ANSWERED_FOR, outcome.detail)
            state = replace(state, answered={**state.answered, getattr(action, "service_name", ""): held})
        if outcome.result is Result.FAILED and wish.by == BY_POLICY:
            # Neither every look nor every sweep tries in vain again, and counts against the limits.
            until = now + (AGAIN_AFTER if outcome.again_at else DAY)
            held = Hold(until, f"{outcome.detail} It tries again at {moment(until)}.")
            state = replace(state, holds={**state.holds, action.control_id: held})
        return outcome, self._end(ended, state, wish.leave_alone)

    def _given_up(self, work: Work, change: Change, outcome: Outcome) -> Outcome:
        """Tell how a change ended that is not tried again; an error may have come after it was made."""
        target, ids = work.target, {work.target.kind: frozenset({str(work.target.resource_id)})}
        none = frozenset[str]()
        scope = Scope(target.account_id, target.region, ids.get(Kind.VPC, none), ids.get(Kind.INSTANCE, none))
        resource = self._observe(scope).get(target.kind, str(target.resource_id))
        if made := change.action.made_in(resource, change.change_id):
            return Outcome(change.action, Result.APPLIED, made, _SEEN, left_by(resource, made))
        if made := change.action.essence().made_in(resource, change.change_id):
            return replace(outcome, result=Result.APPLIED, resource_id=made)
        return replace(outcome, result=Result.FAILED, again_at=self._ports.clock.now() + AGAIN_AFTER)

    def _begin(
        self, work: Work, action: Action, resource: Resource | None, state: ResourceState, wish: Wish
    ) -> tuple[Change, ResourceState] | Breach:
        target, now = work.target, self._ports.clock.now()
        name = hashlib.sha256(f"{work.message_id}|{encode(action)}|{now}".encode()).hexdigest()[:10]
        change = Change(
            change_id=f"{now:%Y%m%dT%H%M%SZ}-{name}",
            account_id=target.account_id,
            region=target.region,
            kind=target.kind,
            resource_id=state.resource_id,
            action=action,
            begun_at=now,
            trigger=work.cause.trigger,
            by=wish.by,
            before=action.before(resource),
            undoes=wish.undoes,
        )
        limits = None if action.takes_back else self._limits
        begun = self._ports.ledger.begin(change, replace(state, pending=change.change_id), limits)
        return begun if isinstance(begun, Breach) else (change, begun)

    def _end(self, change: Change, state: ResourceState, leave_alone: timedelta = timedelta()) -> ResourceState:
        now = self._ports.clock.now()
        state = replace(state, pending="")
        if change.progress is Progress.APPLIED:
            state = _applied(change, state)
            if change.action.takes_back:
                state = replace(state, holds={**state.holds, EVERYTHING: _hold(change, now + leave_alone)})
        state = replace(state, changed_at=tuple(when for when in state.changed_at if when > now - DAY))
        return self._ports.ledger.end(replace(change, ended_at=now), state)


def _applied(change: Change, state: ResourceState) -> ResourceState:
    """Note what is ours now. What the policy changed by itself counts: a resource may never come to rest."""
    action, made, applied = change.action, dict(state.made), dict(state.applied)
    after = change.after
    left = Made(
        change.change_id,
        tuple(after.get("route_table_ids", ())),
        tuple(after.get("subnet_ids", ())),
        after.get("policy_digest", ""),
    )
    owned = action.own(made.pop(change.made, None), left)
    if owned is None:
        applied = {name: one for name, one in applied.items() if one[1] != change.made}
    else:
        made[change.made] = owned
    if action.takes_back:
        applied.pop(change.undoes, None)
    else:
        applied[change.change_id] = (action.control_id, change.made)
    applied = dict(list(applied.items())[-_MOST_APPLIED:])
    changed_at = state.changed_at
    if change.by == BY_POLICY and all(change.begun_at - when >= _ONE_LOOK for when in changed_at):
        changed_at = (*changed_at, change.begun_at)
    return replace(state, made=made, applied=applied, changed_at=changed_at)


def _hold(change: Change, until: datetime) -> Hold:
    """Leave a resource alone, and say why."""
    alone = f"leaves {change.resource_id} alone until {moment(until)}."
    if change.by.startswith(UNDONE):
        return Hold(until, f"{change.undoes} was {change.by}, and Portcullis {alone}")
    return Hold(until, f"{change.by} over {change.made}, so Portcullis made way and {alone}")


def _fields(work: Work) -> dict[str, object]:
    target = work.target
    return {"account_id": target.account_id, "region": target.region, "resource_id": target.resource_id}
