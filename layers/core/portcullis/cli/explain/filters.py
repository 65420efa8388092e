"""What network ACLs and security groups let through on the way. Pure; IPv4 only, which the services' names give.

Network ACLs have no memory: they have to let the answers through as well. They do not apply within a subnet, and
security groups remember ("Network ACLs", "Security groups", VPC user guide).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from portcullis.actions import listed
from portcullis.cli.explain.answer import Status, Step, Via
from portcullis.cli.explain.facts import Unread
from portcullis.cli.explain.ways import not_read
from portcullis.impact import ANSWERS, HTTPS, passes, spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portcullis.cli.explain.facts import Acl, Endpoint, Machine, Network, Place
    from portcullis.cli.explain.ways import Way
    from portcullis.model import GroupRule, SecurityGroup

ACL, GROUP = "network-acl", "security-group"
_EVERYWHERE = "0.0.0.0/0"
_LOWEST = 100  # of the numbers that the console gives to entries
_LAST = 32767  # the entry that denies the rest


class _Reach(Enum):
    ALL = auto()
    PART = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class _Targets:
    """The addresses to reach. ``is_exact``: just these; otherwise the service's are somewhere among them.

    ``crossing`` are those outside the caller's subnet, in the subnets ``far``.
    """

    cidrs: tuple[str, ...]
    what: str
    is_exact: bool = False
    prefix_list_id: str = ""
    group_ids: tuple[str, ...] = ()
    crossing: tuple[str, ...] = ()
    far: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    acl: Acl
    egress: bool
    ports: tuple[int, int]
    cidrs: tuple[str, ...]
    what: str

    def reach(self) -> _Reach:
        entries = sorted(self.acl.entries, key=lambda entry: entry.number)
        return _reach(
            self.cidrs,
            [
                (entry.allow, entry.cidr)
                for entry in entries
                if entry.egress is self.egress and spans(entry.protocol, entry.ports, self.ports)
            ],
        )

    def __str__(self) -> str:
        first, last = self.ports
        ports = str(first) if first == last else f"{first}-{last}"
        return f"{self.acl.acl_id} {'out' if self.egress else 'in'}, port {ports} {self.what}"

    def remedy(self, network: Network, block: str, position: int) -> str:
        """Return the command that adds an entry for some addresses before all others."""
        numbers = [entry.number for entry in self.acl.entries if entry.egress is self.egress and entry.number < _LAST]
        number = min(numbers, default=_LOWEST + 1) - 1 - position
        side = "--egress" if self.egress else "--ingress"
        first, last = self.ports
        return (
            f"aws ec2 create-network-acl-entry --region {network.region} --network-acl-id {self.acl.acl_id} {side} "
            f"--rule-number {number if number > 0 else 'NUMBER'} --rule-action allow --protocol tcp "
            f"--port-range From={first},To={last} --cidr-block {block}"
        )


def network_acl(place: Place, way: Way) -> Step:
    """Judge the network ACL of the subnet, and those of the endpoint's subnets."""
    acls, targets = place.network.acls, _targets(place, way)
    if isinstance(acls, Unread):
        return Step(ACL, Status.UNKNOWN, not_read(acls))
    by_subnet = {subnet_id: acl for acl in acls for subnet_id in acl.subnet_ids}
    near = by_subnet.get(place.subnet_ids[0])
    if near is None:
        return Step(ACL, Status.UNKNOWN, f"no network ACL of {place.subnet_ids[0]} is visible")
    if not targets.crossing:
        return Step(ACL, Status.PASSED, f"{targets.what} is in the same subnet, where {near.acl_id} does not apply")
    checks = [
        _Check(acl=near, egress=True, ports=HTTPS, cidrs=targets.crossing, what=f"to {targets.what}"),
        _Check(acl=near, egress=False, ports=ANSWERS, cidrs=targets.crossing, what=f"from {targets.what}"),
    ]
    for far in sorted({by_subnet[name].acl_id for name in targets.far if name in by_subnet}):
        acl = next(acl for acl in acls if acl.acl_id == far)
        checks.append(_Check(acl=acl, egress=False, ports=HTTPS, cidrs=place.sources, what="from the subnet"))
        checks.append(_Check(acl=acl, egress=True, ports=ANSWERS, cidrs=place.sources, what="to the subnet"))
    reached = {check: check.reach() for check in checks}
    blocked = [
        check for check, reach in reached.items() if reach is _Reach.NONE or (reach is _Reach.PART and targets.is_exact)
    ]
    if blocked:
        lacking = [(check, block) for check in blocked for block in _around(place.network, check.cidrs)]
        remedy = " && ".join(check.remedy(place.network, block, at) for at, (check, block) in enumerate(lacking))
        return Step(ACL, Status.FAILED, f"not let through, or not all: {'; '.join(map(str, blocked))}", remedy)
    if partly := [check for check, reach in reached.items() if reach is _Reach.PART]:
        return Step(ACL, Status.UNKNOWN, f"let through in part: {'; '.join(map(str, partly))}")
    return Step(ACL, Status.PASSED, f"{near.acl_id} lets port 443 out to {targets.what}, and the answers in")


def security_group(place: Place, machine: Machine, way: Way) -> Step:
    """Judge the instance's security groups, all of them together."""
    targets, rules = _targets(place, way), _rules(machine.group_ids, place.network.groups, egress=True)
    named = listed(machine.group_ids)
    if isinstance(rules, str):
        return Step(GROUP, Status.UNKNOWN, rules)
    listing = {prefix_list_id for rule in rules for prefix_list_id in rule.prefix_list_ids}
    own = sorted(listing - place.network.service_lists)
    verdicts = [(True, cidr) for rule in rules for cidr in rule.cidrs]
    reach = _reach(targets.cidrs, verdicts)
    if (
        reach is _Reach.ALL
        or targets.prefix_list_id in listing
        or any(set(rule.group_ids) & set(targets.group_ids) for rule in rules)
    ):
        return Step(GROUP, Status.PASSED, f"{named}: port 443 out to {targets.what} is let through")
    evidence = f"{named}: port 443 out to {targets.what} is not let through, or not to all"
    if own:
        return Step(GROUP, Status.UNKNOWN, f"{evidence}, unless {listed(own)} name it")
    if reach is _Reach.PART and not targets.is_exact:
        return Step(GROUP, Status.UNKNOWN, f"{named}: port 443 out to {targets.what} is let through in part")
    where = f"PrefixListIds=[{{PrefixListId={targets.prefix_list_id}}}]"
    if not targets.prefix_list_id:
        lacking = [cidr for cidr in targets.cidrs if _reach([cidr], verdicts) is not _Reach.ALL]
        where = _ranges(_around(place.network, lacking))
    return Step(GROUP, Status.FAILED, evidence, _authorize("egress", machine.group_ids[0], place.network, where))


def admission(place: Place, endpoint: Endpoint) -> tuple[Status, str, str]:
    """Tell whether an interface endpoint's security groups let the caller in: status, evidence, remedy."""
    rules = _rules(endpoint.group_ids, place.network.groups, egress=False)
    if isinstance(rules, str):
        return Status.UNKNOWN, rules, ""
    named = listed(endpoint.group_ids)
    callers = set(place.machine.group_ids) if place.machine else set()
    groups = {group_id for rule in rules for group_id in rule.group_ids}
    verdicts = [(True, cidr) for rule in rules for cidr in rule.cidrs]
    reach = _reach(place.sources, verdicts)
    if reach is _Reach.ALL or groups & callers:
        return Status.PASSED, f"its {named}: port 443 is let in", ""
    listing = sorted({name for rule in rules for name in rule.prefix_list_ids} | (set() if callers else groups))
    if listing:
        return Status.UNKNOWN, f"its {named}: port 443 is let in from {listed(listing)} only, not checked", ""
    lacking = [cidr for cidr in place.sources if _reach([cidr], verdicts) is not _Reach.ALL]
    remedy = _authorize("ingress", endpoint.group_ids[0], place.network, _ranges(lacking))
    extent = " from all of the subnet" if reach is _Reach.PART else ""
    return Status.FAILED, f"its {named}: port 443 is not let in{extent}", remedy


def _targets(place: Place, way: Way) -> _Targets:
    network, endpoint = place.network, way.endpoint
    if way.via is Via.INTERFACE and endpoint:
        if isinstance(endpoint.addresses, Unread) or not endpoint.addresses:
            return _somewhere(network.cidrs, endpoint.endpoint_id, endpoint.group_ids)
        outside = [each for each in endpoint.addresses if place.subnet_ids != each[:1]]
        return _Targets(
            cidrs=tuple(f"{address}/32" for _, address in endpoint.addresses),
            what=endpoint.endpoint_id,
            is_exact=True,
            group_ids=endpoint.group_ids,
            crossing=tuple(f"{address}/32" for _, address in outside),
            far=tuple(subnet_id for subnet_id, _ in outside),
        )
    if way.via is Via.ZONE:
        return _somewhere((_EVERYWHERE,), "the zone's addresses, which are not known")
    listing = network.prefix_list
    if listing and not isinstance(listing, Unread):
        what = f"the service's addresses ({listing.prefix_list_id})"
        cidrs = listing.cidrs or (_EVERYWHERE,)
        return _Targets(cidrs, what, bool(listing.cidrs), listing.prefix_list_id, crossing=cidrs)
    if way.via is Via.PUBLIC or network.service.has_gateway:
        return _somewhere((_EVERYWHERE,), "the service's addresses, which are not known")
    return _somewhere(network.cidrs, "the VPC, where an endpoint would be")


def _somewhere(cidrs: tuple[str, ...], what: str, group_ids: tuple[str, ...] = ()) -> _Targets:
    return _Targets(cidrs, what, group_ids=group_ids, crossing=cidrs)


def _rules(
    group_ids: Sequence[str], groups: Mapping[str, SecurityGroup] | Unread, *, egress: bool
) -> list[GroupRule] | str:
    """Return the rules for port 443 of some groups, on one side; a sentence when they are not known."""
    if isinstance(groups, Unread):
        return not_read(groups)
    if not group_ids:
        return "no security groups are seen"
    if missing := [group_id for group_id in group_ids if group_id not in groups]:
        return f"{listed(missing)} cannot be seen"
    seen = [groups[group_id] for group_id in group_ids]
    rules = [rule for group in seen for rule in (group.egress if egress else group.ingress)]
    return [rule for rule in rules if spans(rule.protocol, rule.ports, HTTPS)]


def _reach(cidrs: Sequence[str], verdicts: Sequence[tuple[bool, str]]) -> _Reach:
    if passes(cidrs, verdicts):
        return _Reach.ALL
    wanted = [IPv4Network(cidr) for cidr in cidrs]
    allowed = [IPv4Network(cidr, strict=False) for allow, cidr in verdicts if allow]
    return _Reach.PART if any(one.overlaps(other) for one in wanted for other in allowed) else _Reach.NONE


def _ranges(cidrs: Sequence[str]) -> str:
    return f"IpRanges=[{','.join(f'{{CidrIp={cidr}}}' for cidr in cidrs)}]"


def _authorize(side: str, group_id: str, network: Network, where: str) -> str:
    return (
        f"aws ec2 authorize-security-group-{side} --region {network.region} --group-id {group_id} "
        f"--ip-permissions 'IpProtocol=tcp,FromPort=443,ToPort=443,{where}'"
    )


def _around(network: Network, cidrs: Sequence[str]) -> list[str]:
    """Return the blocks of the VPC that some addresses are in; everything for those outside."""
    blocks = [IPv4Network(block) for block in network.cidrs]
    around = [[str(block) for block in blocks if IPv4Network(cidr).subnet_of(block)] for cidr in cidrs]
    return list(dict.fromkeys(found[0] if found else _EVERYWHERE for found in around))
