"""What changes would touch: table by table, subnet by subnet, packet by packet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import impact as module
from portcullis.actions import (
    ACTIONS,
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    CreateInterfaceEndpoint,
    DeleteEndpoint,
    SetEndpointPolicy,
)
from portcullis.impact import Impact, assess
from portcullis.model import GroupRule, RouteTable, Vpc, VpcEndpoint
from portcullis.prices import price
from portcullis.surroundings import AclEntry, NetworkInterface, PrefixList, Surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence

S3 = "com.amazonaws.eu-west-1.s3"
DYNAMODB = "com.amazonaws.eu-west-1.dynamodb"
ANYWHERE = "0.0.0.0/0"
TWO_RANGES = PrefixList("pl-s3", ("192.0.2.0/24", "198.51.100.0/24"))
PREFIX_LISTS = {S3: TWO_RANGES, DYNAMODB: PrefixList("pl-dynamodb", ("203.0.113.0/24",))}
PRICE = price("eu-west-1", {})
DROPPED = ("their open connections to S3 are dropped once",)
VPC = Vpc(
    "vpc-1",
    "111122223333",
    route_tables=(
        RouteTable("rtb-main", is_main=True),
        RouteTable("rtb-a", subnet_ids=("subnet-a1", "subnet-a2")),
        RouteTable("rtb-b", subnet_ids=("subnet-b",)),
        RouteTable("rtb-none"),
    ),
)
SUBNETS = dict.fromkeys(("subnet-a1", "subnet-a2", "subnet-b", "subnet-m1", "subnet-m2"), "acl-1")


def create(*route_table_ids: str, service_name: str = S3) -> CreateGatewayEndpoint:
    """Return the creation of an endpoint."""
    return CreateGatewayEndpoint("VPCE.1", "vpc-1", service_name, route_table_ids)


def add(*route_table_ids: str) -> AddRouteTables:
    """Return the addition of tables to an endpoint."""
    return AddRouteTables("VPCE.1", "vpc-1", "vpce-1", S3, route_table_ids)


def allow(number: int, cidr: str = ANYWHERE, *, egress: bool, ports: Any = None, protocol: str = "-1") -> AclEntry:
    """Return an entry that lets something through."""
    return AclEntry(number, egress, True, protocol, cidr, ports)  # noqa: FBT003 - the one that says what it does


def deny(number: int, cidr: str = ANYWHERE, *, egress: bool, ports: Any = None, protocol: str = "-1") -> AclEntry:
    """Return an entry that stops something."""
    return AclEntry(number, egress, False, protocol, cidr, ports)  # noqa: FBT003 - the one that says what it does


OUT, IN = allow(100, egress=True), allow(100, egress=False)
LAST = (deny(32767, egress=True), deny(32767, egress=False))


def around(*interfaces: NetworkInterface, entries: Sequence[AclEntry] = (OUT, IN, *LAST), **more: Any) -> Surroundings:
    """Return surroundings in which nothing blocks anything."""
    base: dict[str, Any] = {"subnets": SUBNETS, "acls": {"acl-1": tuple(entries)}, "prefix_lists": PREFIX_LISTS}
    return Surroundings(interfaces=interfaces, **(base | more))


def interface(name: str, subnet_id: str, instance_id: str = "", *group_ids: str) -> NetworkInterface:
    """Return an interface in use."""
    return NetworkInterface(name, subnet_id, group_ids, instance_id)


# ---- Which subnets, and what runs there ----------------------------------------------------------------------------

EVERYWHERE = [interface(f"eni-{subnet_id[7:]}", subnet_id, f"i-{subnet_id[7:]}") for subnet_id in SUBNETS]


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        pytest.param([create("rtb-b")], ["b"], id="one subnet"),
        pytest.param([create("rtb-a")], ["a1", "a2"], id="each subnet of the table"),
        pytest.param([add("rtb-a")], ["a1", "a2"], id="the same when tables are added"),
        pytest.param([create("rtb-main")], ["m1", "m2"], id="the main table serves those without a table of their own"),
        pytest.param([create("rtb-main", "rtb-b")], ["b", "m1", "m2"], id="several tables"),
        pytest.param([create("rtb-a"), create("rtb-b", service_name=DYNAMODB)], ["a1", "a2", "b"], id="two actions"),
        pytest.param([create("rtb-none")], [], id="a table without subnets"),
        pytest.param([create("rtb-gone")], [], id="a table that is gone"),
    ],
)
def test_what_runs_where_a_route_changes_is_touched(actions: list[Any], expected: list[str]) -> None:
    """An instance in every subnet: those whose route table is named are touched, and no others."""
    impact = assess(actions, VPC, around(*EVERYWHERE), PRICE)

    assert impact.instance_ids == tuple(f"i-{name}" for name in expected)
    assert impact.subnet_ids == tuple(f"subnet-{name}" for name in expected)
    assert impact.interface_ids == ()
    assert impact.busy is bool(expected)
    assert impact.blocked_by == ()


def test_a_main_table_with_associations_of_its_own_serves_both() -> None:
    """Those that name it, and those that name none."""
    vpc = Vpc("vpc-1", "111122223333", route_tables=(RouteTable("rtb-1", is_main=True, subnet_ids=("subnet-a1",)),))

    assert assess([create("rtb-1")], vpc, around(*EVERYWHERE), PRICE).subnet_ids == tuple(SUBNETS)


@pytest.mark.parametrize(
    ("interfaces", "instances", "others", "busy"),
    [
        pytest.param([], (), (), False, id="nothing"),
        pytest.param([interface("eni-1", "subnet-a1")], (), (), False, id="elsewhere"),
        pytest.param([interface("eni-1", "subnet-b", "i-1")], ("i-1",), (), True, id="an instance"),
        pytest.param([interface("eni-1", "subnet-b")], (), ("eni-1",), True, id="a service"),
        pytest.param(
            [interface("eni-1", "subnet-b", "i-1"), interface("eni-2", "subnet-b", "i-1")],
            ("i-1",),
            (),
            True,
            id="an instance with two interfaces",
        ),
        pytest.param(
            [interface("eni-1", "subnet-a1", "i-1"), interface("eni-2", "subnet-b", "i-1")],
            ("i-1",),
            (),
            True,
            id="an instance with one interface elsewhere",
        ),
        pytest.param(
            [interface("eni-2", "subnet-b"), interface("eni-1", "subnet-b"), interface("eni-3", "subnet-b", "i-1")],
            ("i-1",),
            ("eni-1", "eni-2"),
            True,
            id="both",
        ),
    ],
)
def test_instances_and_what_services_run_make_it_busy(
    interfaces: list[NetworkInterface], instances: tuple[str, ...], others: tuple[str, ...], *, busy: bool
) -> None:
    """Instances are named as such, once; interfaces of services by themselves."""
    impact = assess([create("rtb-b")], VPC, around(*interfaces), PRICE)

    assert (impact.instance_ids, impact.interface_ids, impact.busy) == (instances, others, busy)


# ---- Network ACLs --------------------------------------------------------------------------------------------------

ANSWERS = (32768, 65535)


@pytest.mark.parametrize(
    ("entries", "blocks"),
    [
        pytest.param([OUT, IN, *LAST], False, id="the default: everything"),
        pytest.param([*LAST], True, id="a new one of one's own: nothing"),
        pytest.param([], True, id="what no entry matches is denied"),
        pytest.param([OUT, *LAST], True, id="no answers come in"),
        pytest.param([IN, *LAST], True, id="no calls go out"),
        pytest.param(
            [
                allow(100, egress=True, ports=(443, 443), protocol="6"),
                allow(100, egress=False, ports=ANSWERS, protocol="6"),
            ],
            False,
            id="exactly what is needed, as in the example of the VPC user guide",
        ),
        pytest.param([allow(100, egress=True, ports=(80, 80), protocol="6"), IN], True, id="HTTP alone"),
        pytest.param([allow(100, egress=True, protocol="17"), IN], True, id="UDP alone"),
        pytest.param([allow(100, egress=True, ports=(0, 65535), protocol="6"), IN], False, id="a range with the port"),
        pytest.param([OUT, allow(100, egress=False, ports=(32768, 60999), protocol="6")], False, id="Linux's ports"),
        pytest.param([OUT, allow(100, egress=False, ports=(1024, 65535), protocol="6")], False, id="all high ports"),
        pytest.param([OUT, allow(100, egress=False, ports=(1024, 5000), protocol="6")], True, id="too few high ports"),
        pytest.param([OUT, allow(100, egress=False, ports=(49152, 65535), protocol="6")], True, id="Windows's alone"),
        pytest.param(
            [OUT, deny(90, egress=False, ports=(3389, 3389), protocol="6"), IN],
            False,
            id="a closed port, as EC2.21 asks",
        ),
        pytest.param([OUT, deny(90, egress=False, ports=ANSWERS, protocol="6"), IN], True, id="answers denied first"),
        pytest.param([OUT, IN, deny(110, egress=False, ports=ANSWERS)], False, id="answers denied too late"),
        pytest.param([IN, OUT, deny(90, egress=True)], True, id="in the order of numbers, not of the list"),
        pytest.param([deny(90, "10.0.0.0/8", egress=True), OUT, IN], False, id="a denial of other addresses"),
        pytest.param([deny(90, "192.0.2.0/24", egress=True), OUT, IN], True, id="a denial of one range"),
        pytest.param([deny(90, "192.0.2.128/25", egress=True), OUT, IN], True, id="a denial of half a range"),
        pytest.param([deny(90, "192.0.0.0/16", egress=True), OUT, IN], True, id="a denial of more than a range"),
        pytest.param([allow(100, "192.0.2.0/24", egress=True), IN], True, id="one range of two"),
        pytest.param(
            [allow(100, "192.0.2.0/24", egress=True), allow(110, "198.51.100.0/24", egress=True), IN],
            False,
            id="each range by itself",
        ),
        pytest.param(
            [
                allow(100, "192.0.2.0/25", egress=True),
                allow(110, "192.0.2.128/25", egress=True),
                allow(120, "198.51.0.0/16", egress=True),
                IN,
            ],
            False,
            id="a range in two halves",
        ),
        pytest.param(
            [allow(100, "192.0.2.0/25", egress=True), allow(110, "198.51.0.0/16", egress=True), IN],
            True,
            id="half a range is not all of it",
        ),
        pytest.param(
            [
                allow(100, "192.0.2.64/26", egress=True),
                deny(110, "192.0.2.64/26", egress=True),
                allow(120, egress=True),
                IN,
            ],
            False,
            id="a denial of what was let through before",
        ),
        pytest.param(
            [allow(80, "192.0.2.64/26", egress=True), deny(90, "192.0.2.0/24", egress=True), OUT, IN],
            True,
            id="a denial of the rest",
        ),
    ],
)
def test_a_network_acl_blocks_what_it_does_not_let_through_wholly(entries: list[AclEntry], *, blocks: bool) -> None:
    """Calls to port 443 of all addresses of the service, and the answers from there."""
    impact = assess([create("rtb-b")], VPC, around(entries=entries), PRICE)

    assert impact.blocked_by == (("acl-1",) if blocks else ())
    assert not impact.busy


def test_only_the_acls_of_the_affected_subnets_count() -> None:
    """Each subnet has one; one that is not listed yet is not blamed on any."""
    subnets = {"subnet-a1": "acl-closed", "subnet-b": "acl-2", "subnet-m1": "acl-1"}
    acls: dict[str, Any] = {"acl-closed": (), "acl-2": (), "acl-1": (OUT, IN)}

    def blocked_by(*tables: str) -> tuple[str, ...]:
        return assess([create(*tables)], VPC, around(subnets=subnets, acls=acls), PRICE).blocked_by

    assert blocked_by("rtb-b") == ("acl-2",)
    assert blocked_by("rtb-main") == ()
    assert blocked_by("rtb-a") == ("acl-closed",)
    assert blocked_by("rtb-main", "rtb-b", "rtb-a") == ("acl-2", "acl-closed")


def test_every_service_has_its_own_addresses() -> None:
    """What lets S3 through may stop DynamoDB."""
    closed = [allow(100, "203.0.113.0/24", egress=True), IN]

    def blocked_by(service_name: str) -> tuple[str, ...]:
        return assess([create("rtb-b", service_name=service_name)], VPC, around(entries=closed), PRICE).blocked_by

    assert blocked_by(DYNAMODB) == ()
    assert blocked_by(S3) == ("acl-1",)


# ---- Security groups -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Groups:
    """The egress rules of two groups; None for one that is not seen."""

    one: tuple[GroupRule, ...] | None = ()
    two: tuple[GroupRule, ...] | None = ()


HTTPS = (443, 443)


@pytest.mark.parametrize(
    ("groups", "attached", "blocks"),
    [
        pytest.param(Groups((GroupRule("-1", None, (ANYWHERE,)),)), 1, False, id="the default: everything"),
        pytest.param(Groups(), 1, True, id="no rules"),
        pytest.param(Groups((GroupRule("tcp", HTTPS, (ANYWHERE,)),)), 1, False, id="HTTPS to anywhere"),
        pytest.param(Groups((GroupRule("6", (0, 65535), (ANYWHERE,)),)), 1, False, id="the protocol as a number"),
        pytest.param(Groups((GroupRule("tcp", (80, 80), (ANYWHERE,)),)), 1, True, id="HTTP alone"),
        pytest.param(Groups((GroupRule("udp", None, (ANYWHERE,)),)), 1, True, id="UDP alone"),
        pytest.param(Groups((GroupRule("tcp", HTTPS, ("10.0.0.0/8",)),)), 1, True, id="HTTPS inside alone"),
        pytest.param(Groups((GroupRule("tcp", HTTPS, ("192.0.2.0/24",)),)), 1, True, id="one range of two"),
        pytest.param(Groups((GroupRule("tcp", HTTPS, TWO_RANGES.cidrs),)), 1, False, id="both ranges"),
        pytest.param(Groups((GroupRule("tcp", HTTPS, (), ("pl-s3",)),)), 1, False, id="the service's prefix list"),
        pytest.param(
            Groups((GroupRule("tcp", (80, 80), (), ("pl-s3",)),)), 1, True, id="the prefix list, with another port"
        ),
        pytest.param(Groups((GroupRule("tcp", HTTPS, (), ("pl-dynamodb",)),)), 1, True, id="another service's list"),
        pytest.param(Groups((GroupRule("tcp", HTTPS, (), ("pl-own",)),)), 1, False, id="a list of somebody's own"),
        pytest.param(Groups(two=(GroupRule("-1", None, (ANYWHERE,)),)), 2, False, id="another group lets it pass"),
        pytest.param(
            Groups((GroupRule("-1", None, ("192.0.2.0/24",)),), (GroupRule("-1", None, ("198.51.100.0/24",)),)),
            2,
            False,
            id="the groups let it pass together",
        ),
        pytest.param(Groups(), 0, False, id="an interface without groups"),
        pytest.param(Groups(None), 1, False, id="a group that is not seen"),
        pytest.param(Groups((), None), 2, False, id="one of two that is not seen"),
    ],
)
def test_an_interface_is_blocked_when_none_of_its_groups_lets_it_reach_the_service(
    groups: Groups, attached: int, *, blocks: bool
) -> None:
    """Rules add up; what cannot be told is not blamed."""
    seen = {name: rules for name, rules in (("sg-1", groups.one), ("sg-2", groups.two)) if rules is not None}
    used = interface("eni-1", "subnet-b", "i-1", *("sg-1", "sg-2")[:attached])

    impact = assess([create("rtb-b")], VPC, around(used, groups=seen), PRICE)

    assert impact.blocked_by == (("sg-1", "sg-2")[:attached] if blocks else ())


def test_only_groups_of_affected_interfaces_count() -> None:
    """Who is not affected may be as closed as he likes."""
    here, there = interface("eni-1", "subnet-b", "", "sg-1"), interface("eni-2", "subnet-a1", "", "sg-2")
    impact = assess([create("rtb-b")], VPC, around(here, there, groups={"sg-1": (), "sg-2": ()}), PRICE)

    assert impact.blocked_by == ("sg-1",)


def test_without_the_service_s_addresses_nothing_is_said_to_block() -> None:
    """It is said that this was not checked."""
    used = interface("eni-1", "subnet-b", "i-1", "sg-1")
    impact = assess([create("rtb-b")], VPC, around(used, entries=[], groups={"sg-1": ()}, prefix_lists={}), PRICE)

    assert (impact.blocked_by, impact.unchecked) == ((), ("S3",))
    assert impact.busy


# ---- Buckets, price, other changes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service_names", "expected"),
    [([S3], (("shop", "logs"), 3)), ([DYNAMODB], (None, 0)), ([DYNAMODB, S3], (("shop", "logs"), 3))],
)
def test_buckets_matter_to_s3_alone(service_names: list[str], expected: tuple[tuple[str, ...] | None, int]) -> None:
    """A route to DynamoDB changes nothing about the address that S3 sees."""
    seen = around(buckets=("shop", "logs"), unread_buckets=3)
    impact = assess([create("rtb-b", service_name=name) for name in service_names], VPC, seen, PRICE)

    assert (impact.buckets, impact.unread_buckets) == expected


def test_an_instance_profile_interrupts_nothing() -> None:
    """Whatever runs; it needs no surroundings."""
    impact = assess([AssociateInstanceProfile("ROLE.1", "i-1", "portcullis-default")], None, None, PRICE)

    assert impact == Impact()
    assert not impact.busy
    assert str(impact) == "Nothing that runs is interrupted. It costs nothing."


@pytest.mark.parametrize(("vpc", "seen"), [(None, around()), (VPC, None), (None, None)])
def test_routes_are_not_judged_without_their_surroundings(vpc: Vpc | None, seen: Surroundings | None) -> None:
    """Not having looked is not the same as nothing being there."""
    with pytest.raises(ValueError, match="vpc-1"):
        assess([create("rtb-b")], vpc, seen, PRICE)


def test_a_change_without_a_price_is_not_free() -> None:
    """Each kind is known; taking back is not assessed."""
    with pytest.raises(ValueError, match="delete vpce-1"):
        assess([DeleteEndpoint("VPCE.1", "vpc-1", "vpce-1", S3)], VPC, around(), PRICE)


# ---- What is billed, renamed or refused ----------------------------------------------------------------------------

SSM = "com.amazonaws.eu-west-1.ssm"
PAID = CreateInterfaceEndpoint("VPCE.3", "vpc-1", SSM, ("subnet-a1", "subnet-b", "subnet-m1"), ("10.0.0.0/16",))


def test_an_interface_endpoint_is_billed_in_each_zone_and_takes_connections_over() -> None:
    """Of everything in the VPC: the name resolves differently then."""
    impact = assess([PAID], VPC, around(*EVERYWHERE), PRICE)

    assert impact.dollars_a_month == pytest.approx(3 * 730 * PRICE.interface_endpoint_hour)
    assert impact.subnet_ids == tuple(SUBNETS)
    assert impact.effects == ("their new connections to ssm go through it",)
    price = "It costs about $24.09 a month ($8.03 for each endpoint in each zone), and $0.01 for each GB."
    assert str(impact).startswith(price)


@pytest.mark.parametrize("paid", [replace(PAID, private_dns=False), replace(PAID, resolver_only=True)])
def test_an_interface_endpoint_without_the_name_takes_nothing_over(paid: CreateInterfaceEndpoint) -> None:
    """It is billed all the same."""
    impact = assess([paid], VPC, around(*EVERYWHERE), PRICE)

    assert not impact.busy
    assert impact.dollars_a_month > 0


def test_groups_that_keep_instances_from_the_endpoint_are_named() -> None:
    """HTTPS to the VPC's own addresses must get out of them."""
    used, closed = interface("eni-1", "subnet-b", "i-1", "sg-1"), GroupRule("tcp", (443, 443), ("192.0.2.0/24",))

    assert assess([PAID], VPC, around(used, groups={"sg-1": (closed,)}), PRICE).blocked_by == ("sg-1",)


@pytest.mark.parametrize(
    ("tables", "touched"), [(("rtb-b",), ("subnet-b",)), ((), tuple(SUBNETS))], ids=["gateway", "interface"]
)
def test_an_endpoint_policy_touches_those_who_use_the_endpoint(
    tables: tuple[str, ...], touched: tuple[str, ...]
) -> None:
    """By route, or by name; what it does not allow is refused from then on."""
    vpc = replace(VPC, endpoints=(VpcEndpoint("vpce-1", "vpc-1", "Gateway", S3, "available", tables),))
    action = SetEndpointPolicy("VPCE.5", "vpc-1", "vpce-1", S3, "perimeter", "{}")
    impact = assess([action], vpc, around(*EVERYWHERE), PRICE)

    assert impact.subnet_ids == touched
    assert impact.effects == ("what perimeter does not allow them on S3 is refused",)
    assert impact.dollars_a_month == 0


def test_whatever_can_be_done_has_an_impact() -> None:
    """Every action that takes nothing back is of a kind that is known."""
    assert {one for one in ACTIONS if not one.takes_back} == {*module._Free.__args__, *module._Touching.__args__}


# ---- What the finding says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("impact", "expected"),
    [
        (Impact(effects=DROPPED), "Nothing runs in the affected subnets. It costs nothing."),
        (
            Impact(effects=DROPPED, instance_ids=("i-1",), subnet_ids=("subnet-a",)),
            (
                "It touches 1 running instance (i-1) in subnet-a: their open connections to S3 are dropped once. "
                "It costs nothing."
            ),
        ),
        (
            Impact(
                effects=("their open connections to S3 and DynamoDB are dropped once",),
                instance_ids=("i-1", "i-2", "i-3"),
                interface_ids=("eni-1",),
                subnet_ids=("subnet-a", "subnet-b"),
            ),
            (
                "It touches 3 running instances (i-1, i-2, i-3) and 1 other network interface in subnet-a, "
                "subnet-b: their open connections to S3 and DynamoDB are dropped once. It costs nothing."
            ),
        ),
        (
            Impact(effects=DROPPED, interface_ids=("eni-1", "eni-2"), subnet_ids=("subnet-a",)),
            (
                "It touches 2 network interfaces (eni-1, eni-2) in subnet-a: their open connections to S3 are dropped "
                "once. It costs nothing."
            ),
        ),
        (
            Impact(effects=DROPPED, instance_ids=tuple(f"i-{number}" for number in range(6)), subnet_ids=("subnet-a",)),
            (
                "It touches 6 running instances (i-0, i-1, i-2, i-3 and 2 more) in subnet-a: their open connections to "
                "S3 are dropped once. It costs nothing."
            ),
        ),
        (
            Impact(effects=DROPPED, blocked_by=("acl-1", "sg-1")),
            (
                "Nothing runs in the affected subnets. Would block at least a part of the new path: acl-1, sg-1. "
                "It costs nothing."
            ),
        ),
        (
            Impact(effects=DROPPED, unchecked=("S3",)),
            (
                "Nothing runs in the affected subnets. What may block the path was not checked: the addresses of S3 "
                "are not known. It costs nothing."
            ),
        ),
        (
            Impact(effects=DROPPED, buckets=("logs", "shop", "web")),
            (
                "Nothing runs in the affected subnets. Bucket policies that depend on the source address, which "
                "changes: logs, shop and 1 more. It costs nothing."
            ),
        ),
        (
            Impact(effects=DROPPED, buckets=(), unread_buckets=2),
            "Nothing runs in the affected subnets. Bucket policies that could not be read: 2. It costs nothing.",
        ),
        (
            Impact(effects=DROPPED, buckets=()),
            (
                "Nothing runs in the affected subnets. No bucket policy of this account and Region depends on the "
                "source address, which changes. It costs nothing."
            ),
        ),
        (
            Impact(dollars_a_month=21.9, per_zone=7.3, per_gigabyte=0.01),
            (
                "It costs about $21.90 a month ($7.30 for each endpoint in each zone), and $0.01 for each GB. "
                "Nothing that runs is interrupted."
            ),
        ),
        (
            Impact(effects=DROPPED, saved_per_gigabyte=0.048),
            (
                "Nothing runs in the affected subnets. It costs nothing; for traffic that a NAT gateway carries today, "
                "it saves about $0.048 for each GB."
            ),
        ),
    ],
)
def test_the_finding_says_it_in_a_few_sentences(impact: Impact, expected: str) -> None:
    """What is touched, what would block it, which buckets, the price."""
    assert str(impact) == expected


def test_what_the_finding_says_stays_short() -> None:
    """A busy VPC in 400 characters; everything at once, with the longest names, still leaves room in a finding."""

    def many(prefix: str) -> tuple[str, ...]:
        return tuple(f"{prefix}-{number:017}" for number in range(100))

    busy: dict[str, Any] = {"effects": DROPPED, "instance_ids": many("i"), "subnet_ids": many("subnet")}
    buckets = tuple(f"{number:063}" for number in range(100))
    worst = {**busy, "interface_ids": many("eni"), "blocked_by": many("acl"), "buckets": buckets, "unread_buckets": 9}

    assert len(str(Impact(**busy))) <= 400
    assert len(str(Impact(**worst))) <= 760
