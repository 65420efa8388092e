"""Taking back what is ours: because it stands in somebody's way, or because a person asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.actions import (
    AddRouteTables,
    AdmitInstanceConnect,
    DeleteSecurityGroup,
    RemoveFromEndpoint,
    SetEndpointPolicy,
)
from portcullis.changing import UNDONE, Wish
from portcullis.ledger import EVERYTHING, Progress
from portcullis.model import Instance, Result, Vpc, VpcEndpoint
from portcullis.yielding import differences, obstacles

if TYPE_CHECKING:
    from datetime import timedelta

    from portcullis.changing import Changer
    from portcullis.ledger import Change, ResourceState
    from portcullis.model import Conflict, Outcome, Resource, Work
    from portcullis.ports import Ports


class Withdrawer:
    """Takes back changes. What it has taken back, the resource's state tells the next look to leave alone."""

    def __init__(self, ports: Ports, changer: Changer) -> None:
        self._ports = ports
        self._changer = changer

    def make_way(
        self, work: Work, conflict: Conflict, resource: Resource | None, state: ResourceState, leave_alone: timedelta
    ) -> tuple[list[Outcome], ResourceState]:
        """Withdraw exactly what stands in the way of a call that failed.

        Returns:
            How that ended, nothing when none of ours stands in the way; and the state as it is stored then.
        """
        target, around = work.target, None
        if conflict.call == "DeleteVpc":
            vpc_ids = [str(target.resource_id)]
            around = self._ports.observer.surroundings(target.account_id, target.region, vpc_ids, buckets=False)
        outcomes = []
        nearby = around.get(str(target.resource_id)) if around else None
        for action, name, differing in obstacles(conflict, resource, state.made, nearby):
            fields = {"account_id": target.account_id, "region": target.region, "resource_id": target.resource_id}
            if differing:
                why = f"{conflict.call} failed over {name}, which Portcullis leaves: {'; '.join(differing)}"
                self._ports.journal.problem("obstructed", why, **fields)
                continue
            whose = f"{conflict.call} of {conflict.principal or 'somebody'}"
            # Of a part of what was made, the rest can still be undone; a group is left over from what was taken back.
            is_part = isinstance(action, RemoveFromEndpoint | DeleteSecurityGroup)
            undoes = "" if is_part else state.made[name].change_id
            wish = Wish(f"{whose} failed", undoes, leave_alone)
            outcome, state = self._changer.make(work, action, resource, state, wish)
            outcomes.append(outcome)
            self._ports.journal.step("yielded", outcome.detail, **fields, result=str(outcome.result))
            if outcome.result is Result.RETRY:
                break
        return outcomes, state

    def undo(
        self, work: Work, resource: Resource | None, state: ResourceState, leave_alone: timedelta
    ) -> tuple[Outcome | None, ResourceState, str]:
        """Take a change back on a person's wish (``work.cause.request``), while its result is as we left it.

        Returns:
            How that ended, None when nothing was done; the state as it is stored then; and what to tell the person.
        """
        request = work.cause.request
        change_id = request.change_id if request else ""
        change = self._ports.ledger.get(change_id) if change_id else None
        if request is None or change is None or not _is_about(change, work):
            return None, state, f"There is no change of Portcullis to undo on {work.target.resource_id}."
        action = change.action.inverse(change.made, change.before, resource)
        if change.undone_by:
            return None, state, f"{change_id} has been taken back by {change.undone_by}."
        if action is None or change.progress is not Progress.APPLIED:
            why = f"it is {change.progress}" if action else "it took something back itself"
            return None, state, f"{change_id} cannot be undone: {why}."
        if differing := _differing(change, resource, state):
            return None, state, f"{change_id} was not undone, since things are not as it left them: {differing}."
        wish = Wish(f"{UNDONE} {request.by}", change_id, leave_alone)
        outcome, state = self._changer.make(work, action, resource, state, wish)
        hold = state.holds.get(EVERYTHING)
        then = f" {hold.reason}" if outcome.result is Result.APPLIED and hold else ""
        return outcome, state, f"{outcome.detail}{then}"


def _is_about(change: Change, work: Work) -> bool:
    target = work.target
    return (change.account_id, change.region, change.kind, change.resource_id) == (
        target.account_id,
        target.region,
        target.kind,
        target.resource_id,
    )


def _differing(change: Change, resource: Resource | None, state: ResourceState) -> str:
    """Say what is not as a change left it, or nothing."""
    if isinstance(resource, Instance):
        same = resource.association_id == change.made
        return "" if same else f"{resource.instance_id} does not have the association {change.made} any more"
    if isinstance(change.action, AdmitInstanceConnect):
        as_made = change.action.made_in(resource, change.change_id)
        return "" if as_made else f"{change.made} does not admit {change.action.source_group_id} as it did"
    endpoint = resource.endpoint_of_any_kind(change.made) if isinstance(resource, Vpc) else None
    if endpoint is None:
        return f"{change.made} no longer exists"
    found = differences(state.made.get(change.made), endpoint)
    if isinstance(change.action, SetEndpointPolicy) and change.action.made_in(resource, change.change_id) is None:
        found.append(f"the policy of {endpoint.endpoint_id} is not the one that it set")
    if isinstance(change.action, AddRouteTables) and isinstance(endpoint, VpcEndpoint):
        gone = sorted(set(change.action.route_table_ids) - set(endpoint.route_table_ids))
        found += [f"{', '.join(gone)} is no longer on it"] if gone else []
    return "; ".join(found)
