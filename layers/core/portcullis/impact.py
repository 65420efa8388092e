"""What changes would touch: what runs where a route changes, what would block the new path, and the price. Pure.

A gateway endpoint drops open connections to its service and costs nothing ("Gateway endpoints", AWS PrivateLink guide).
The entries of a network ACL apply in the order of their numbers, the first that matches decides ("Network ACL rules",
VPC user guide). docs/decisions/0015-impact.md says what counts as running, and which ports matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from portcullis.actions import AddRouteTables, AssociateInstanceProfile, CreateGatewayEndpoint, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from portcullis.actions import Action
    from portcullis.model import Vpc
    from portcullis.surroundings import PrefixList, Surroundings

_DOLLARS_A_MONTH: dict[type[Action], float] = {
    CreateGatewayEndpoint: 0,
    AddRouteTables: 0,
    AssociateInstanceProfile: 0,
}

_SERVICES = {"s3": "S3", "dynamodb": "DynamoDB"}
_TCP = ("tcp", "6", "-1")
_HTTPS = (443, 443)
_ANSWERS = (32768, 60999)  # the ports from which Linux calls
_SHOWN_BUCKETS = 2  # their names are long


@dataclass(frozen=True, slots=True)
class Impact:
    """What some changes would touch.

    ``services`` (for people) are those to which a route changes. ``instance_ids`` run in the affected subnets,
    ``interface_ids`` are in use there by something else, and ``subnet_ids`` are the subnets of both. ``blocked_by``
    names network ACLs and security groups that do not let all of the new path through; ``unchecked`` the services
    whose addresses are not known. ``buckets`` and ``unread_buckets`` are as in Surroundings, for S3.
    """

    dollars_a_month: float = 0
    services: tuple[str, ...] = ()
    instance_ids: tuple[str, ...] = ()
    interface_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    buckets: tuple[str, ...] | None = None
    unread_buckets: int = 0

    @property
    def busy(self) -> bool:
        """Whether something runs there."""
        return bool(self.instance_ids or self.interface_ids)

    def __str__(self) -> str:
        """Say it in a few sentences, for a finding."""
        return " ".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        if not self.services:
            yield "Nothing that runs is interrupted."
        elif not self.busy:
            yield "Nothing runs in the affected subnets."
        else:
            what = _counted(self.instance_ids, "running instance") or _counted(self.interface_ids, "network interface")
            if self.instance_ids and self.interface_ids:
                what += f" and {len(self.interface_ids)} other network interface{_s(self.interface_ids)}"
            yield (
                f"It touches {what} in {listed(self.subnet_ids)}: their open connections "
                f"to {' and '.join(self.services)} are dropped once."
            )
        if self.blocked_by:
            yield f"Would block at least a part of the new path: {listed(self.blocked_by)}."
        if self.unchecked:
            unknown = " and ".join(self.unchecked)
            yield f"What may block the path was not checked: the addresses of {unknown} are not known."
        if self.buckets:
            names = listed(self.buckets, _SHOWN_BUCKETS)
            yield f"Bucket policies that depend on the source address, which changes: {names}."
        if self.unread_buckets:
            yield f"Bucket policies that could not be read: {self.unread_buckets}."
        if self.buckets == () and not self.unread_buckets:
            yield "No bucket policy of this account and Region depends on the source address, which changes."
        yield f"It costs about ${self.dollars_a_month:.2f} a month." if self.dollars_a_month else "It costs nothing."


def assess(actions: Sequence[Action], vpc: Vpc | None, around: Surroundings | None) -> Impact:
    """Say what changes would touch, all of them together.

    Args:
        actions: What would be done to one resource. None of those that only take something of ours back.
        vpc: The VPC whose routes change; None for other changes.
        around: What is around its route tables; None for other changes.

    Raises:
        ValueError: Routes would change, and what is around them is not given.
    """
    dollars = sum(_DOLLARS_A_MONTH[type(action)] for action in actions)
    routes = [action for action in actions if isinstance(action, CreateGatewayEndpoint | AddRouteTables)]
    if not routes:
        return Impact(dollars)
    if vpc is None or around is None:
        raise ValueError(f"what is around {routes[0].vpc_id} has to be known before its routes change")
    instance_ids, others, subnet_ids, blocked_by, unchecked = (set[str]() for _ in range(5))
    names = {action.service_name: _short(action.service_name) for action in routes}
    for action in routes:
        affected = _affected(action.route_table_ids, vpc, around)
        interfaces = [each for each in around.interfaces if each.subnet_id in affected]
        instance_ids |= {each.instance_id for each in interfaces if each.instance_id}
        others |= {each.interface_id for each in interfaces if not each.instance_id}
        subnet_ids |= {each.subnet_id for each in interfaces}
        if addresses := around.prefix_lists.get(action.service_name):
            blocked_by |= _blocking_acls(affected, addresses, around)
            blocked_by |= _blocking_groups({each.group_ids for each in interfaces}, addresses, around)
        else:
            unchecked.add(names[action.service_name])
    is_s3 = "S3" in names.values()
    return Impact(
        dollars_a_month=dollars,
        services=tuple(names.values()),
        instance_ids=tuple(sorted(instance_ids)),
        interface_ids=tuple(sorted(others)),
        subnet_ids=tuple(sorted(subnet_ids)),
        blocked_by=tuple(sorted(blocked_by)),
        unchecked=tuple(sorted(unchecked)),
        buckets=around.buckets if is_s3 else None,
        unread_buckets=around.unread_buckets if is_s3 else 0,
    )


def _affected(route_table_ids: Sequence[str], vpc: Vpc, around: Surroundings) -> set[str]:
    """Return the subnets that use some tables; the main table serves all that have no association of their own."""
    elsewhere = {subnet_id for table in vpc.route_tables for subnet_id in table.subnet_ids}
    found: set[str] = set()
    for table in vpc.route_tables:
        if table.route_table_id in route_table_ids:
            found |= set(table.subnet_ids) | (around.subnets.keys() - elsewhere if table.is_main else set())
    return found


def _blocking_acls(subnet_ids: Iterable[str], addresses: PrefixList, around: Surroundings) -> set[str]:
    found = set()
    for acl_id in {around.subnets[subnet_id] for subnet_id in subnet_ids if subnet_id in around.subnets}:
        entries = sorted(around.acls[acl_id], key=lambda entry: entry.number)
        for egress, ports in ((True, _HTTPS), (False, _ANSWERS)):
            verdicts = [
                (entry.allow, entry.cidr)
                for entry in entries
                if entry.egress is egress and _spans(entry.protocol, entry.ports, ports)
            ]
            if not _passes(addresses.cidrs, verdicts):
                found.add(acl_id)
    return found


def _blocking_groups(
    groups_of_interfaces: Iterable[tuple[str, ...]], addresses: PrefixList, around: Surroundings
) -> set[str]:
    """Find groups that, with the others of an interface, do not let it reach the service.

    What cannot be told is not blamed: a group that is not seen, or a rule to a prefix list of somebody's own.
    """
    of_other_services = {each.prefix_list_id for each in around.prefix_lists.values()} - {addresses.prefix_list_id}
    found: set[str] = set()
    for group_ids in groups_of_interfaces:
        if not all(group_id in around.groups for group_id in group_ids):
            continue
        rules = [
            rule
            for group_id in group_ids
            for rule in around.groups[group_id]
            if _spans(rule.protocol, rule.ports, _HTTPS)
        ]
        may_be_listed = any(set(rule.prefix_list_ids) - of_other_services for rule in rules)
        if not may_be_listed and not _passes(addresses.cidrs, [(True, cidr) for rule in rules for cidr in rule.cidrs]):
            found.update(group_ids)
    return found


def _spans(protocol: str, ports: tuple[int, int] | None, wanted: tuple[int, int]) -> bool:
    return protocol in _TCP and (ports is None or (ports[0] <= wanted[0] and wanted[1] <= ports[1]))


def _passes(cidrs: Iterable[str], verdicts: Iterable[tuple[bool, str]]) -> bool:
    """Tell whether all of some addresses are let through. The first verdict on an address decides; none denies."""
    undecided = [IPv4Network(cidr) for cidr in cidrs]
    for allow, cidr in verdicts:
        decided, left = IPv4Network(cidr, strict=False), []
        for network in undecided:
            if not network.overlaps(decided):
                left.append(network)
            elif not allow:
                return False
            elif not network.subnet_of(decided):
                left.extend(network.address_exclude(decided))
        undecided = left
    return not undecided


def _short(service_name: str) -> str:
    last = service_name.rsplit(".", 1)[-1]
    return _SERVICES.get(last, last)


def _counted(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{_s(names)} ({listed(names)})" if names else ""


def _s(names: Sequence[str]) -> str:
    return "s" if len(names) > 1 else ""
