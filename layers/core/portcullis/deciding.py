"""From a scope to decisions: what every look, near or wide, does alike. Reads only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from portcullis import prices
from portcullis.impact import assess, priced
from portcullis.ledger import ResourceState
from portcullis.model import Kind, Needs, Scope
from portcullis.plan import Circumstances, Judge, answered, respond
from portcullis.policy import Mode
from portcullis.ports import Changes
from portcullis.settling import digest, window_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portcullis.controls import Control
    from portcullis.findings import Place
    from portcullis.model import Cause, RecordKey, Snapshot
    from portcullis.plan import Decision
    from portcullis.policy import Policy
    from portcullis.ports import Ports
    from portcullis.surroundings import Surroundings


OF_OURS = Needs(instance_connect=True)
"""What shows all that Portcullis can have made in a VPC, also after the policy has switched a control off."""


def needs_of(policy: Policy, controls: Sequence[Control]) -> Needs:
    """Return what a look has to observe for some controls, as far as the policy switches them on anywhere."""
    return reduce(or_, (one.needs(policy) for one in controls if policy.enabled(one.id)), Needs())


def _merged(first: Snapshot, more: Snapshot) -> Snapshot:
    """Put what a closer observation of some resources saw in the place of what was seen of them first."""
    kept_vpcs = {name: one for name, one in first.vpcs.items() if name not in more.scope.vpc_ids}
    kept_instances = {name: one for name, one in first.instances.items() if name not in more.scope.instance_ids}
    return replace(
        first,
        vpcs={**kept_vpcs, **more.vpcs},
        instances={**kept_instances, **more.instances},
        profiles={**first.profiles, **more.profiles},
        interface_services={**first.interface_services, **more.interface_services},
        permissions={**first.permissions, **more.permissions},
        host_management=first.host_management if more.host_management is None else more.host_management,
    )


class Decider:
    """Observes, and decides by the policy.

    Args:
        ports: The world.
        policy: What is wanted.
        controls: The registry.
    """

    def __init__(self, ports: Ports, policy: Policy, controls: Sequence[Control]) -> None:
        self._ports = ports
        self._policy = policy
        self.controls = controls
        self.needs = needs_of(policy, controls)
        everywhere = [one for one in controls if policy.enabled_everywhere(one.id)]
        self._needs_everywhere = needs_of(policy, everywhere)
        self._elsewhere = [one for one in controls if one not in everywhere and needs_of(policy, [one]) != Needs()]
        self.followed = {name for one in controls if policy.enabled(one.id) for name in one.follows}

    def judge(self, place: Place) -> Judge:
        """Return who judges the resources of an account and Region; raises what Directory.units_of raises."""
        return self._judge(place.account_id, place.region, self.controls)

    def _judge(self, account_id: str, region: str, controls: Sequence[Control]) -> Judge:
        units = self._ports.directory.units_of(account_id) if self._policy.needs_units else ()
        return Judge(self._policy, account_id, region, units, controls)

    def observe(self, scope: Scope, *, wholly: bool = False) -> Snapshot:
        """Observe a scope; raises what Observer.observe and Directory.units_of raise.

        What only some scopes of the policy need is looked for where they match: tags are known by then. ``wholly``
        looks for all that can be Portcullis's, whatever the policy says by now.
        """
        if wholly:
            return self._ports.observer.observe(scope, self.needs | OF_OURS)
        snapshot = self._ports.observer.observe(scope, self._needs_everywhere)
        if not self._elsewhere:
            return snapshot
        judge = self._judge(scope.account_id, scope.region, self._elsewhere)
        ids = {
            kind: frozenset(
                name
                for name, resource in snapshot.resources(kind).items()
                if any(one.mode is not Mode.OFF for one in judge.settings(resource, (kind, name)))
            )
            for kind in (Kind.VPC, Kind.INSTANCE)
        }
        if not any(ids.values()):
            return snapshot
        narrow = Scope(scope.account_id, scope.region, ids[Kind.VPC], ids[Kind.INSTANCE])
        return _merged(snapshot, self._ports.observer.observe(narrow, self.needs))

    def open_windows(
        self,
        judged: Sequence[Decision],
        snapshot: Snapshot,
        states: Mapping[tuple[Kind, str], ResourceState],
        causes: Mapping[tuple[Kind, str], Sequence[Cause]],
    ) -> dict[tuple[Kind, str], ResourceState]:
        """Let what the policy would change without asking wait until it is quiet; close the windows of the rest.

        Args:
            judged: What is wrong, and what the policy wants.
            snapshot: What was observed.
            states: What is remembered of each resource.
            causes: Why each resource is looked at.

        Returns:
            The states with their windows.
        """
        now, opened = self._ports.clock.now(), dict(states)
        by_resource = defaultdict(list)
        for one in judged:
            by_resource[one.resource].append(one)
        for key, state in states.items():
            free = [one for one in by_resource[key] if not state.hold_on(one.control.id, now)]
            settings = [
                one.settings
                for one in free
                if one.settings and one.is_automatic and not all(answered(each, state, now) for each in one.possible)
            ]
            window = None
            if settings:
                window = window_of(state.window, causes[key], settings, digest(snapshot.get(*key)), now)
            opened[key] = replace(state, window=window)
        return opened

    def respond(
        self,
        place: Place,
        snapshot: Snapshot,
        judged: Sequence[Decision],
        states: Mapping[tuple[Kind, str], ResourceState],
        approvals: Mapping[RecordKey, str] | None = None,
    ) -> list[Decision]:
        """Decide what is done about what is wrong, having looked at what a change would touch.

        Args:
            place: The account and Region.
            snapshot: What was observed.
            judged: What is wrong, and what the policy wants.
            states: What is remembered of the resources that may be changed.
            approvals: Who asked for a change, by the finding's record key.

        Raises:
            TransientError, ObservationError: What might be touched cannot be seen, so nothing is decided.
        """
        around = self._surroundings(place, [one for one in judged if one.possible and one.kind is Kind.VPC])
        now, limit = self._ports.clock.now(), self._policy.limits.per_resource_per_day
        price = prices.price(place.region, self._policy.prices)
        switch = self._ports.switch.position() if any(one.possible for one in judged) else Changes.ENABLED
        stopped = "" if switch is Changes.ENABLED else str(switch)
        decisions = []
        for one in judged:
            impact = None
            if one.evaluation and one.settings and one.settings.mode is Mode.DETECT:
                impact = priced(one.evaluation.actions, price)
            if one.possible:
                impact = assess(one.possible, snapshot.vpcs.get(one.resource_id), around.get(one.resource_id), price)
            state = states.get(one.resource, ResourceState(*one.resource))
            approved_by = (approvals or {}).get(one.record_key, "")
            decisions.append(respond(one, Circumstances(now, state, limit, impact, approved_by, stopped)))
        held_back = [decision for decision in decisions if decision.stopped]
        if held_back:
            text = f"{len(held_back)} changes are not made: the kill switch is {switch}"
            self._ports.journal.problem("stopped", text, account_id=place.account_id, region=place.region)
        return decisions

    def _surroundings(self, place: Place, changing: Sequence[Decision]) -> Mapping[str, Surroundings]:
        if not changing:
            return {}
        wanted = [one.settings.parameter("check_bucket_policies", default=False) for one in changing if one.settings]
        vpc_ids = sorted({one.resource_id for one in changing})
        return self._ports.observer.surroundings(place.account_id, place.region, vpc_ids, buckets=any(wanted))
