"""Which way requests to a service go: by its name, else by the subnet's route table. Pure.

A private DNS name decides before any route does. Of the routes the most specific one applies: that of a gateway
endpoint before the default route ("Route priority", VPC user guide). A gateway that is gone leaves a blackhole.
A private hosted zone answers for all of its domain: a name that it lacks does not exist, though it does publicly; of
zones the most specific one counts ("Considerations when working with a private hosted zone", Route 53 guide).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from portcullis.actions import listed
from portcullis.cli.explain.answer import Status, Via
from portcullis.cli.explain.facts import Table, Unread, Zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.cli.explain.facts import Endpoint, Machine, Network, Place, Route

_EVERYWHERE = "0.0.0.0/0"
# Where no public address is ("IANA IPv4 Special-Purpose Address Registry", and multicast): routes there do not matter.
_NOT_PUBLIC = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
)
_NOT_TO_VPCS = ("local", "igw-", "nat-", "vpce-")


@dataclass(frozen=True, slots=True)
class Way:
    """A way: how sure it is (``status``), and what shows it. ``endpoint`` is the one on it, as far as it is seen.

    ``table_id`` is that of the subnet; empty when it does not matter, or is not known. ``remedy`` is for what is not
    mended by an endpoint.
    """

    via: Via
    status: Status
    evidence: str
    endpoint: Endpoint | None = None
    table_id: str = ""
    remedy: str = ""


def find(place: Place) -> Way:
    """Find the way from a place to the service."""
    return _by_name(place) or _by_table(place)


def _by_name(place: Place) -> Way | None:
    network = place.network
    for endpoint in _seen(network):
        if endpoint.private_dns and endpoint.is_available:
            evidence = f"the service's name leads to {endpoint.endpoint_id} within the VPC; every table has that route"
            return Way(Via.INTERFACE, Status.PASSED, evidence, endpoint)
    if isinstance(network.endpoints, Unread) and not network.service.has_gateway:
        return _unknown(f"whether the service's name leads to an endpoint: {not_read(network.endpoints)}")
    return _by_zone(place, network.zone) if isinstance(network.zone, Zone) else None


def _by_zone(place: Place, zone: Zone) -> Way:
    network, what = place.network, f"the private hosted zone {zone.name}"
    if isinstance(zone.answers, Unread):
        evidence = f"{what} hides the public name; whether it has {zone.service_name}: {not_read(zone.answers)}"
        return Way(Via.ZONE, Status.UNKNOWN, evidence)
    if not zone.answers:
        evidence = f"{what} hides the public name, and has no address of {zone.service_name}: so that does not exist"
        remedy = (
            f"add a record of an endpoint to it, or: aws route53 disassociate-vpc-from-hosted-zone "
            f"--hosted-zone-id {zone.zone_id} --vpc VPCRegion={network.region},VPCId={network.vpc_id}"
        )
        return Way(Via.ZONE, Status.FAILED, evidence, remedy=remedy)
    evidence = f"{what} has the address of {zone.service_name}, of an endpoint elsewhere"
    if why := _enclosed(place):
        return Way(Via.ZONE, Status.UNKNOWN, f"{evidence}; whether there is a way to it: {why}")
    return Way(Via.ZONE, Status.PASSED, f"{evidence}; its way and its filters beyond this VPC are not seen from here")


def _enclosed(place: Place) -> str:
    """Say why private addresses elsewhere may be out of reach; nothing when a route, or an endpoint here, may serve."""
    tables = place.network.tables
    if isinstance(tables, Unread):
        return not_read(tables)
    if any(not endpoint.is_gateway for endpoint in _seen(place.network)):
        return ""
    table = _table(tables, place.subnet_ids[0])
    leads = table and any(route.is_active and not route.target.startswith(_NOT_TO_VPCS) for route in table.routes)
    return "" if leads else "no route of the subnet to other networks is seen"


def _by_table(place: Place) -> Way:
    network = place.network
    if isinstance(network.tables, Unread):
        return _unknown(not_read(network.tables))
    table = _table(network.tables, place.subnet_ids[0])
    if table is None:
        return _unknown(f"no route table of {place.subnet_ids[0]} is visible")
    unseen = isinstance(network.endpoints, Unread) and isinstance(network.prefix_list, Unread)
    if unseen and any(route.destination.startswith("pl-") for route in table.routes):
        return _unknown(f"{table.table_id} has routes of endpoints; for which service cannot be seen", table)
    by_id = {endpoint.endpoint_id: endpoint for endpoint in _seen(network)}
    for route in table.routes:
        if route.target in by_id or route.destination == _prefix_list_id(network):
            evidence = f"{table.table_id} has {route.destination} to {route.target}"
            if not route.is_active:
                gone = f"{evidence}, which is gone (blackhole)"
                return Way(Via.NONE, Status.FAILED, gone, table_id=table.table_id)
            return Way(Via.GATEWAY, Status.PASSED, evidence, by_id.get(route.target), table.table_id)
    return _by_range(place, network.tables, table)


def not_read(what: Unread) -> str:
    """Say that the caller lacks a permission."""
    return f"you may not read that: {what.permission} is missing"


def _prefix_list_id(network: Network) -> str | None:
    return None if isinstance(network.prefix_list, Unread | None) else network.prefix_list.prefix_list_id


def _table(tables: tuple[Table, ...], subnet_id: str) -> Table | None:
    own = (table for table in tables if subnet_id in table.subnet_ids)
    return next(own, None) or next((table for table in tables if table.is_main), None)


def _by_range(place: Place, tables: tuple[Table, ...], table: Table) -> Way:
    network = place.network
    status, evidence = _over(table, network, lambda route: _beyond(route, place, tables))
    if not evidence:
        evidence = f"{table.table_id} has no route to the service, and no default route"
        if isinstance(network.zone, Unread) and not network.service.has_gateway:
            return _unknown(f"{evidence}; whether a private hosted zone leads on: {not_read(network.zone)}", table)
    own = {route.destination for route in table.routes if route.destination.startswith("pl-")} - network.service_lists
    if status is Status.FAILED and own:
        return _unknown(f"{evidence}; whether {listed(sorted(own))} names its addresses was not checked", table)
    via = {Status.PASSED: Via.PUBLIC, Status.FAILED: Via.NONE}.get(status, Via.UNKNOWN)
    return Way(via, status, evidence, table_id=table.table_id)


def _over(table: Table, network: Network, judge: Callable[[Route], tuple[Status, str]]) -> tuple[Status, str]:
    """Judge the routes that apply to the service's addresses; the evidence is empty when none does.

    Where the addresses are not known, they are somewhere on the internet.
    """
    listing = network.prefix_list
    known = () if isinstance(listing, Unread | None) else listing.cidrs
    left = [IPv4Network(cidr) for cidr in known or (_EVERYWHERE,)]
    for cidr in () if known else _NOT_PUBLIC:
        left = _without(left, IPv4Network(cidr))
    ranges = [
        (IPv4Network(route.destination, strict=False), route) for route in table.routes if "/" in route.destination
    ]
    said: dict[tuple[Status, str], list[str]] = {}
    for taken, route in sorted(ranges, key=lambda each: -each[0].prefixlen):
        rest = _without(left, taken)
        if rest != left and route.target != "local":
            status, about = judge(route)
            said.setdefault((status, f"{route.target}{about}"), []).append(route.destination)
        left = rest
    statuses = {status for status, _ in said}
    evidence = "; ".join(f"{listed(names)} of {table.table_id} goes to {about}" for (_, about), names in said.items())
    if not said or statuses == {Status.FAILED}:
        return Status.FAILED, evidence
    if left:
        evidence += "; there is no route for the other addresses"
        return Status.FAILED if known else Status.UNKNOWN, evidence
    if len(statuses) > 1:
        return Status.FAILED if known and Status.FAILED in statuses else Status.UNKNOWN, evidence
    return statuses.pop(), evidence


def _without(networks: list[IPv4Network], taken: IPv4Network) -> list[IPv4Network]:
    left: list[IPv4Network] = []
    for network in networks:
        if not network.overlaps(taken):
            left.append(network)
        elif not network.subnet_of(taken):
            left.extend(network.address_exclude(taken))
    return left


def _beyond(route: Route, place: Place, tables: tuple[Table, ...]) -> tuple[Status, str]:
    """Tell whether the target of a route is a way to the internet, and why."""
    if not route.is_active:
        return Status.FAILED, ", which is gone (blackhole)"
    match route.target.partition("-")[0]:
        case "igw":
            return _through_internet_gateway(place.machine)
        case "nat":
            return _through_nat(route.target, place.network, tables)
    return Status.UNKNOWN, ", and what is behind that was not checked"


def _through_internet_gateway(machine: Machine | None) -> tuple[Status, str]:
    if machine is None:
        return Status.UNKNOWN, ": a way for those instances only that have a public address"
    if machine.is_public:
        return Status.PASSED, ", and the instance has a public address: the public way"
    return Status.FAILED, ", but the instance has no public address"


def _through_nat(nat_id: str, network: Network, tables: tuple[Table, ...]) -> tuple[Status, str]:
    nats = network.nats
    if isinstance(nats, Unread):
        return Status.UNKNOWN, f"; {not_read(nats)}"
    nat = nats.get(nat_id)
    if nat is None or not nat.is_public:
        return Status.UNKNOWN, f", {'a private NAT gateway' if nat else 'which is not visible'}"
    if nat.state != "available":
        return Status.FAILED, f", which is {nat.state}"
    if nat.subnet_id:
        status, _ = _over(_table(tables, nat.subnet_id) or Table(""), network, _to_internet)
        if status is Status.FAILED:
            return status, f", which has no route to the internet that works, in {nat.subnet_id}"
        if status is Status.UNKNOWN:
            return status, f", whose own routes, in {nat.subnet_id}, lead elsewhere; what is there was not checked"
    return Status.PASSED, ": the public way"


def _to_internet(route: Route) -> tuple[Status, str]:
    if not route.is_active:
        return Status.FAILED, ""
    return Status.PASSED if route.target.startswith("igw-") else Status.UNKNOWN, ""


def _seen(network: Network) -> tuple[Endpoint, ...]:
    return () if isinstance(network.endpoints, Unread) else network.endpoints


def _unknown(evidence: str, table: Table | None = None) -> Way:
    return Way(Via.UNKNOWN, Status.UNKNOWN, evidence, table_id=table.table_id if table else "")
