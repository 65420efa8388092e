"""What changes would touch: what runs where a route changes, what would block the new path, and the price. Pure.

A gateway endpoint drops open connections to its service and costs nothing ("Gateway endpoints", AWS PrivateLink guide);
an interface endpoint with private DNS takes new connections over, and is billed by the hour in each zone
(see ``prices``). The entries of a network ACL apply in the order of their numbers, the first that matches decides
("Network ACL rules", VPC user guide). docs/decisions/0015-impact.md says what counts as running, and which ports.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from portcullis.actions import (
    AddRouteTables,
    AdmitInstanceConnect,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    CreateInstanceConnectEndpoint,
    CreateInterfaceEndpoint,
    SetEndpointPolicy,
    listed,
    short_name,
)
from portcullis.prices import interface_endpoint_month
from portcullis.surroundings import PrefixList

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from portcullis.actions import Action
    from portcullis.model import Vpc
    from portcullis.prices import Price
    from portcullis.surroundings import Surroundings

HTTPS = (443, 443)
"""The port of a service."""

ANSWERS = (32768, 60999)
"""The ports from which Linux calls: what comes back goes to them."""

_SERVICES = {"s3": "S3", "dynamodb": "DynamoDB"}
_TCP = ("tcp", "6", "-1")
_SHOWN_BUCKETS = 2  # their names are long


@dataclass(frozen=True, slots=True)
class Impact:
    """What some changes would touch.

    ``effects`` say, a clause each, what happens to what runs. ``instance_ids`` run in the affected subnets,
    ``interface_ids`` are in use there by something else, and ``subnet_ids`` are the subnets of both. ``blocked_by``
    names network ACLs and security groups that do not let all of the new path through; ``unchecked`` the services
    whose addresses are not known. ``buckets`` and ``unread_buckets`` are as in Surroundings, for S3. ``per_zone`` and
    ``per_gigabyte`` are what an interface endpoint costs in a zone a month, and for each GB, ``saved_per_gigabyte``
    what a NAT gateway does.
    """

    dollars_a_month: float = 0
    per_zone: float = 0
    per_gigabyte: float = 0
    saved_per_gigabyte: float = 0
    effects: tuple[str, ...] = ()
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
        if self.dollars_a_month:
            yield self.cost  # first: of a long text, the end is cut
        if not self.effects:
            yield "Nothing that runs is interrupted."
        elif not self.busy:
            yield "Nothing runs in the affected subnets."
        else:
            what = _counted(self.instance_ids, "running instance") or _counted(self.interface_ids, "network interface")
            if self.instance_ids and self.interface_ids:
                what += f" and {len(self.interface_ids)} other network interface{_s(self.interface_ids)}"
            yield f"It touches {what} in {listed(self.subnet_ids)}: {'; '.join(self.effects)}."
        if self.blocked_by:
            yield f"Would block at least a part of the new path: {listed(self.blocked_by)}."
        if self.unchecked:
            unknown = " and ".join(self.unchecked)
            yield f"What may block the path was not checked: the addresses of {unknown} are not known."
        yield from self._of_buckets()
        if not self.dollars_a_month:
            yield self.cost

    def _of_buckets(self) -> Iterator[str]:
        if self.buckets:
            names = listed(self.buckets, _SHOWN_BUCKETS)
            yield f"Bucket policies that depend on the source address, which changes: {names}."
        if self.unread_buckets:
            yield f"Bucket policies that could not be read: {self.unread_buckets}."
        if self.buckets == () and not self.unread_buckets:
            yield "No bucket policy of this account and Region depends on the source address, which changes."

    @property
    def cost(self) -> str:
        """What it costs, as a sentence."""
        if self.dollars_a_month:
            month = f"${self.dollars_a_month:.2f} a month (${self.per_zone:.2f} for each endpoint in each zone)"
            return f"It costs about {month}, and ${self.per_gigabyte:.3g} for each GB."
        if self.saved_per_gigabyte:
            return (
                f"It costs nothing; for traffic that a NAT gateway carries today, it saves "
                f"about ${self.saved_per_gigabyte:.3g} for each GB."
            )
        return "It costs nothing."


@dataclass(slots=True)
class _Touched:
    """What the changes so far would touch."""

    instance_ids: set[str] = field(default_factory=set)
    interface_ids: set[str] = field(default_factory=set)
    subnet_ids: set[str] = field(default_factory=set)
    blocked_by: set[str] = field(default_factory=set)
    unchecked: set[str] = field(default_factory=set)

    def add(self, subnet_ids: set[str], addresses: PrefixList | None, around: Surroundings) -> None:
        """Add what runs in some subnets, and what there would block the way to some addresses, where one changes."""
        interfaces = [each for each in around.interfaces if each.subnet_id in subnet_ids]
        self.instance_ids |= {each.instance_id for each in interfaces if each.instance_id}
        self.interface_ids |= {each.interface_id for each in interfaces if not each.instance_id}
        self.subnet_ids |= {each.subnet_id for each in interfaces}
        if addresses is not None:
            self.blocked_by |= _blocking_acls(subnet_ids, addresses, around)
            self.blocked_by |= _blocking_groups({each.group_ids for each in interfaces}, addresses, around)


def priced(actions: Sequence[Action], price: Price) -> Impact:
    """Say what changes cost, and nothing of what they touch."""
    paid = [one for one in actions if isinstance(one, CreateInterfaceEndpoint)]
    routes = [one for one in actions if isinstance(one, CreateGatewayEndpoint | AddRouteTables)]
    return Impact(
        dollars_a_month=sum(interface_endpoint_month(price, len(one.subnet_ids)) for one in paid),
        per_zone=interface_endpoint_month(price, 1) if paid else 0,
        per_gigabyte=price.interface_endpoint_gigabyte if paid else 0,
        saved_per_gigabyte=price.nat_gigabyte if routes else 0,
    )


def assess(actions: Sequence[Action], vpc: Vpc | None, around: Surroundings | None, price: Price) -> Impact:
    """Say what changes would touch, all of them together.

    Args:
        actions: What would be done to one resource. None of those that only take something of ours back.
        vpc: The VPC that is changed; None for changes to an instance.
        around: What is around it; None for changes to an instance.
        price: What is charged in the Region.

    Raises:
        ValueError: A VPC would be changed, and what is around it is not given; or an action is of no known kind.
    """
    if strange := [one for one in actions if not isinstance(one, _Touching | _Free)]:
        raise ValueError(f"nobody knows what it touches and costs to {strange[0]}")
    touching = [one for one in actions if isinstance(one, _Touching)]
    if not touching:
        return Impact()
    if vpc is None or around is None:
        raise ValueError(f"what is around {touching[0].vpc_id} has to be known before it is changed")
    touched = _Touched()
    routes = [one for one in touching if isinstance(one, CreateGatewayEndpoint | AddRouteTables)]
    paid = [one for one in touching if isinstance(one, CreateInterfaceEndpoint)]
    policies = [one for one in touching if isinstance(one, SetEndpointPolicy)]
    for route in routes:
        addresses = around.prefix_lists.get(route.service_name)
        touched.add(_affected(route.route_table_ids, vpc, around), addresses, around)
        touched.unchecked |= set() if addresses else {_short(route.service_name)}
    answering = [one for one in paid if one.private_dns and not one.resolver_only]
    for one in answering:
        touched.add(set(around.subnets), PrefixList("", tuple(cidr for cidr in one.cidrs if ":" not in cidr)), around)
    for policy in policies:
        endpoint = vpc.endpoint(policy.endpoint_id)
        tables = endpoint.route_table_ids if endpoint else ()
        touched.add(_affected(tables, vpc, around) if tables else set(around.subnets), None, around)
    effects = (
        f"their open connections to {_named(routes)} are dropped once" if routes else "",
        f"their new connections to {_named(answering)} go through it" if answering else "",
        f"what {listed(sorted({one.name for one in policies}))} does not allow them on {_named(policies)} is refused"
        if policies
        else "",
    )
    is_s3 = "S3" in {_short(one.service_name) for one in routes}
    named: dict[str, Any] = {one.name: tuple(sorted(getattr(touched, one.name))) for one in fields(touched)}
    return replace(
        priced(actions, price),
        effects=tuple(filter(None, effects)),
        buckets=around.buckets if is_s3 else None,
        unread_buckets=around.unread_buckets if is_s3 else 0,
        **named,
    )


_Free = AdmitInstanceConnect | AssociateInstanceProfile | CreateInstanceConnectEndpoint
_Touching = CreateGatewayEndpoint | AddRouteTables | CreateInterfaceEndpoint | SetEndpointPolicy


def _named(actions: Iterable[_Touching]) -> str:
    return " and ".join(dict.fromkeys(_short(one.service_name) for one in actions))


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
        for egress, ports in ((True, HTTPS), (False, ANSWERS)):
            verdicts = [
                (entry.allow, entry.cidr)
                for entry in entries
                if entry.egress is egress and spans(entry.protocol, entry.ports, ports)
            ]
            if not passes(addresses.cidrs, verdicts):
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
            if spans(rule.protocol, rule.ports, HTTPS)
        ]
        may_be_listed = any(set(rule.prefix_list_ids) - of_other_services for rule in rules)
        if not may_be_listed and not passes(addresses.cidrs, [(True, cidr) for rule in rules for cidr in rule.cidrs]):
            found.update(group_ids)
    return found


def spans(protocol: str, ports: tuple[int, int] | None, wanted: tuple[int, int]) -> bool:
    """Tell whether a rule is about all of some TCP ports; ``ports`` is None for all, ``protocol`` as EC2 writes it."""
    return protocol in _TCP and (ports is None or (ports[0] <= wanted[0] and wanted[1] <= ports[1]))


def passes(cidrs: Iterable[str], verdicts: Iterable[tuple[bool, str]]) -> bool:
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
    short = short_name(service_name)
    return _SERVICES.get(short, short)


def _counted(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{_s(names)} ({listed(names)})" if names else ""


def _s(names: Sequence[str]) -> str:
    return "s" if len(names) > 1 else ""
