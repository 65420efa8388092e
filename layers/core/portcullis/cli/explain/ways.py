"""Which way requests to a service go: by its name, else by the subnet's route table. Pure.

A private DNS name decides before any route does. Of the routes the most specific one applies: that of a gateway
endpoint before the default route ("Route priority", VPC user guide). A gateway that is gone leaves a blackhole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portcullis.cli.explain.answer import Status, Via
from portcullis.cli.explain.facts import Unread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.cli.explain.facts import Endpoint, Machine, Nat, Network, Place, Route, Table

_EVERYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True)
class Way:
    """A way: how sure it is (``status``), and what shows it. ``endpoint`` is the one on it, as far as it is seen.

    ``table_id`` is that of the subnet; empty when it does not matter, or is not known.
    """

    via: Via
    status: Status
    evidence: str
    endpoint: Endpoint | None = None
    table_id: str = ""


def find(place: Place) -> Way:
    """Find the way from a place to the service."""
    return _by_name(place.network) or _by_table(place)


def _by_name(network: Network) -> Way | None:
    for endpoint in _seen(network):
        if endpoint.private_dns and endpoint.is_available:
            evidence = f"the service's name leads to {endpoint.endpoint_id} within the VPC; every table has that route"
            return Way(Via.INTERFACE, Status.PASSED, evidence, endpoint)
    if isinstance(network.endpoints, Unread) and not network.service.has_gateway:
        return _unknown(f"whether the service's name leads to an endpoint: {not_read(network.endpoints)}")
    if isinstance(network.zone, str):
        evidence = f"the private hosted zone {network.zone} gives the addresses; the way to them was not checked"
        return Way(Via.ZONE, Status.UNKNOWN, evidence)
    return None


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
    return _by_default(place, network.tables, table)


def not_read(what: Unread) -> str:
    """Say that the caller lacks a permission."""
    return f"you may not read that: {what.permission} is missing"


def _prefix_list_id(network: Network) -> str | None:
    return None if isinstance(network.prefix_list, Unread | None) else network.prefix_list.prefix_list_id


def _table(tables: tuple[Table, ...], subnet_id: str) -> Table | None:
    own = (table for table in tables if subnet_id in table.subnet_ids)
    return next(own, None) or next((table for table in tables if table.is_main), None)


def _by_default(place: Place, tables: tuple[Table, ...], table: Table) -> Way:
    network, route = place.network, _default(table)
    if route is None:
        evidence = f"{table.table_id} has no route to the service, and no default route"
        if isinstance(network.zone, Unread) and not network.service.has_gateway:
            return _unknown(f"{evidence}; whether a private hosted zone leads on: {not_read(network.zone)}", table)
        return Way(Via.NONE, Status.FAILED, evidence, table_id=table.table_id)
    status, about = _beyond(route, place, tables)
    via = {Status.PASSED: Via.PUBLIC, Status.FAILED: Via.NONE}.get(status, Via.UNKNOWN)
    evidence = f"the default route of {table.table_id} goes to {route.target}{about}"
    return Way(via, status, evidence, table_id=table.table_id)


def _default(table: Table) -> Route | None:
    return next((route for route in table.routes if route.destination == _EVERYWHERE), None)


def _beyond(route: Route, place: Place, tables: tuple[Table, ...]) -> tuple[Status, str]:
    """Tell whether the target of a default route is a way to the internet, and why."""
    if not route.is_active:
        return Status.FAILED, ", which is gone (blackhole)"
    match route.target.partition("-")[0]:
        case "igw":
            return _through_internet_gateway(place.machine)
        case "nat":
            return _through_nat(route.target, place.network.nats, tables)
    return Status.UNKNOWN, ", and what is behind that was not checked"


def _through_internet_gateway(machine: Machine | None) -> tuple[Status, str]:
    if machine is None:
        return Status.UNKNOWN, ": a way for those instances only that have a public address"
    if machine.is_public:
        return Status.PASSED, ", and the instance has a public address: the public way"
    return Status.FAILED, ", but the instance has no public address"


def _through_nat(nat_id: str, nats: Mapping[str, Nat] | Unread, tables: tuple[Table, ...]) -> tuple[Status, str]:
    if isinstance(nats, Unread):
        return Status.UNKNOWN, f"; {not_read(nats)}"
    nat = nats.get(nat_id)
    if nat is None or not nat.is_public:
        return Status.UNKNOWN, f", {'a private NAT gateway' if nat else 'which is not visible'}"
    if nat.state != "available":
        return Status.FAILED, f", which is {nat.state}"
    table = _table(tables, nat.subnet_id) if nat.subnet_id else None
    onward = _default(table) if table else None
    if nat.subnet_id and (onward is None or not onward.is_active):
        return Status.FAILED, f", which has no default route that works, in {nat.subnet_id}"
    if onward and not onward.target.startswith("igw-"):
        return Status.UNKNOWN, f" and on to {onward.target}; what is behind that was not checked"
    return Status.PASSED, ": the public way"


def _seen(network: Network) -> tuple[Endpoint, ...]:
    return () if isinstance(network.endpoints, Unread) else network.endpoints


def _unknown(evidence: str, table: Table | None = None) -> Way:
    return Way(Via.UNKNOWN, Status.UNKNOWN, evidence, table_id=table.table_id if table else "")
