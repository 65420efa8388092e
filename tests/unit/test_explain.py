"""Why a service does not answer: the diagnosis, step by step, from facts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import pytest
from portcullis.cli.explain import printing
from portcullis.cli.explain.answer import Answer, Status, Step, Via
from portcullis.cli.explain.conditions import settled
from portcullis.cli.explain.diagnosis import diagnose, diagnose_each
from portcullis.cli.explain.facts import (
    Acl,
    Endpoint,
    Machine,
    Nat,
    Network,
    Place,
    Profile,
    Question,
    Role,
    Route,
    Service,
    Table,
    Unread,
    Zone,
)
from portcullis.endpoint_policies import allows
from portcullis.model import Denial, Dns, GroupRule, Permissions, SecurityGroup
from portcullis.surroundings import AclEntry, PrefixList

if TYPE_CHECKING:
    from collections.abc import Mapping

ANYWHERE = "0.0.0.0/0"
BUCKETS = Question("s3", "s3:ListAllMyBuckets")
S3 = Service("com.amazonaws.eu-west-1.s3", has_gateway=True)
SSM = Service("com.amazonaws.eu-west-1.ssm")
MANAGE = Question("ssm", "ssm:UpdateInstanceInformation")
LISTED = PrefixList("pl-s3", ("192.0.2.0/24", "198.51.100.0/24"))
LOCAL = Route("10.0.0.0/16", "local")
TO_S3 = Route("pl-s3", "vpce-s3")
TO_NAT, TO_INTERNET = Route(ANYWHERE, "nat-1"), Route(ANYWHERE, "igw-1")
MAIN = Table("rtb-main", is_main=True, routes=(LOCAL, TO_S3))
PUBLIC = Table("rtb-public", subnet_ids=("subnet-nat",), routes=(LOCAL, TO_INTERNET))
GATEWAY = Endpoint("vpce-s3", is_gateway=True)
INTERFACE = Endpoint(
    "vpce-ssm", is_gateway=False, private_dns=True, group_ids=("sg-e",), addresses=(("subnet-2", "10.0.2.7"),)
)
ROLE = Role("worker", Permissions())
ALL_OUT, ALL_IN = GroupRule("-1", cidrs=(ANYWHERE,)), GroupRule("tcp", (443, 443), ("10.0.0.0/16",))
NOT_READ = Unread("service:Operation")


def entry(number: int, cidr: str = ANYWHERE, *, egress: bool, allow: bool = True, ports: Any = None) -> AclEntry:
    """Return an entry of a network ACL for TCP."""
    return AclEntry(number, egress, allow, "6", cidr, ports)


OPEN = (entry(100, egress=True), entry(100, egress=False))
SHUT = (entry(32767, egress=True, allow=False), entry(32767, egress=False, allow=False))


def acl(*entries: AclEntry, name: str = "acl-1", subnets: tuple[str, ...] = ("subnet-1", "subnet-2")) -> Acl:
    """Return a network ACL."""
    return Acl(name, subnets, entries)


def group(name: str = "sg-1", *, egress: tuple[GroupRule, ...] = (), ingress: tuple[GroupRule, ...] = ()) -> Any:
    """Return a security group by its id."""
    return {name: SecurityGroup(name, ingress=ingress, egress=egress)}


GROUPS = group(egress=(ALL_OUT,)) | group("sg-e", ingress=(ALL_IN,))
NETWORK = Network(
    vpc_id="vpc-1",
    region="eu-west-1",
    cidrs=("10.0.0.0/16",),
    service=S3,
    dns=Dns(support=True, hostnames=True),
    tables=(MAIN, PUBLIC),
    endpoints=(GATEWAY,),
    nats={"nat-1": Nat("available", "subnet-nat")},
    acls=(acl(*OPEN, *SHUT),),
    groups=GROUPS,
    prefix_list=LISTED,
    service_lists=frozenset({"pl-s3", "pl-dynamodb"}),
)
MACHINE = Machine("i-1", "running", "10.0.1.5", group_ids=("sg-1",), profile=Profile("worker-profile", ROLE))
HEALTHY = Place(NETWORK, ("subnet-1",), machine=MACHINE)


def on(machine: Mapping[str, Any] | None = None, **network: Any) -> Place:
    """Return the healthy place with some facts of its instance and network replaced."""
    return replace(HEALTHY, network=replace(NETWORK, **network), machine=replace(MACHINE, **(machine or {})))


def routed(*routes: Route, **network: Any) -> Place:
    """Return the healthy place with other routes, and without an endpoint unless one is given."""
    tables = (Table("rtb-main", is_main=True, routes=(LOCAL, *routes)), PUBLIC)
    return on(**({"endpoints": (), "tables": tables} | network))


def ssm(*endpoints: Endpoint, routes: tuple[Route, ...] = (), **network: Any) -> Place:
    """Return the place for a service that has interface endpoints only."""
    base = {"service": SSM, "prefix_list": None, "endpoints": endpoints}
    return routed(*routes, **(base | network))


def role(**permissions: Any) -> dict[str, Any]:
    """Return the replacement that changes what the role may do."""
    return {"profile": Profile("worker-profile", Role("worker", Permissions(**permissions)))}


def denied(by: str) -> dict[str, Any]:
    """Return the replacement by which the role may not."""
    return role(denials=(Denial("s3:ListAllMyBuckets", by),))


def denied_to(by: str, *actions: str) -> dict[str, Any]:
    """Return the replacement by which the agent may not do some actions, by default the first that it needs."""
    return role(denials=tuple(Denial(action, by) for action in actions or (MANAGE.action,)))


def agent(machine: dict[str, Any], *, is_managed: bool | Unread = True) -> Place:
    """Return a place from which the agent calls, where Systems Manager manages hosts."""
    return replace(ssm(INTERFACE), machine=replace(MACHINE, is_managed=is_managed, **machine))


def asked(place: Place) -> Question:
    """Return the question for the place's service."""
    return BUCKETS if place.network.service is S3 else MANAGE


def told(place: Place) -> dict[str, str]:
    """Diagnose a place; returns the status of every step that did not simply pass, and the way."""
    answer = diagnose(place, asked(place))
    return {step.name: str(step.status) for step in answer.steps if step.status is not Status.PASSED} | {
        "via": str(answer.via)
    }


G, E, P, N, U, Z = map(str, (Via.GATEWAY, Via.INTERFACE, Via.PUBLIC, Via.NONE, Via.UNKNOWN, Via.ZONE))
FAILED, UNKNOWN, NO_NEED = "failed", "unknown", "not-needed"
NEEDS_NONE = {"endpoint": NO_NEED, "endpoint-policy": NO_NEED}
NO_WAY = {"route": FAILED, "endpoint": FAILED, "endpoint-policy": NO_NEED}
DARK = {"route": UNKNOWN, "endpoint": UNKNOWN, "endpoint-policy": NO_NEED}
DENY_S3 = '{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}]}'
ALLOW_S3 = '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}]}'
ORG_S3 = (
    '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", '
    '"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}]}'
)
BARE = on(
    {"profile": None},
    dns=Dns(support=False, hostnames=False),
    tables=(Table("rtb-main", is_main=True, routes=(LOCAL,)),),
    endpoints=(),
    acls=(acl(*SHUT),),
    groups=group(),
)
HALVES = (Route("0.0.0.0/1", "nat-1"), Route("128.0.0.0/1", "nat-1"))
PUBLIC_HALVES = tuple(replace(half, target="igw-1") for half in HALVES)
TO_LISTED = tuple(Route(cidr, "nat-1") for cidr in LISTED.cidrs)
TO_HUB = Route("10.9.0.0/16", "tgw-1")
HUB = Table("rtb-main", is_main=True, routes=(LOCAL, TO_HUB))
ZONE = Zone("Z1", "eu-west-1.amazonaws.com.", "ssm.eu-west-1.amazonaws.com", answers=True)
CENTRAL = replace(INTERFACE, private_dns=False)
ELSEWHERE = {"route": UNKNOWN, "endpoint": UNKNOWN, "endpoint-policy": UNKNOWN}
EMPTY = {"route": FAILED} | NEEDS_NONE
BY_SSM: dict[str, Any] = {"profile": None, "is_managed": True}
SUBNET_9 = Nat("available", "subnet-9")
ALONE = Table("rtb-1", subnet_ids=("subnet-1",), routes=(TO_NAT,))
BARE_FAILS = ("profile", "permissions", "dns", "route", "endpoint", "network-acl", "security-group")

ROWS: list[tuple[str, Place, dict[str, str], str]] = [
    ("all is well, by a gateway endpoint", HEALTHY, {}, G),
    (
        "the bare instance in a private subnet",
        BARE,
        dict.fromkeys(BARE_FAILS, FAILED) | {"role": NO_NEED, "endpoint-policy": NO_NEED},
        N,
    ),
    # Credentials
    ("a stopped instance", on({"state": "stopped"}), {"instance": FAILED}, G),
    ("an instance that starts", on({"state": "pending"}), {"instance": UNKNOWN}, G),
    ("no profile", on({"profile": None}), {"profile": FAILED, "role": NO_NEED, "permissions": FAILED}, G),
    ("a profile without a role", on({"profile": Profile("p", None)}), {"role": FAILED, "permissions": FAILED}, G),
    (
        "a profile that may not be read",
        on({"profile": Profile("p", NOT_READ)}),
        {"role": UNKNOWN, "permissions": UNKNOWN},
        G,
    ),
    ("no metadata service", on({"has_metadata": False}), {"role": FAILED}, G),
    ("a role without the permission", on(denied("role")), {"permissions": FAILED}, G),
    ("a service control policy denies", on(denied("scp")), {"permissions": FAILED}, G),
    ("a boundary denies", on(denied("boundary")), {"permissions": FAILED}, G),
    ("a policy denies", on(denied("explicit")), {"permissions": FAILED}, G),
    ("conditions decide", on(role(missing_context=("aws:SourceVpce",))), {"permissions": UNKNOWN}, G),
    ("the simulator may not be asked", on({"profile": Profile("p", Role("r", NOT_READ))}), {"permissions": UNKNOWN}, G),
    # Default Host Management
    ("hosts are managed", on(BY_SSM), {"profile": NO_NEED, "role": NO_NEED}, G),
    ("hosts are managed, and the profile is empty", on(BY_SSM | {"profile": Profile("p", None)}), {"role": NO_NEED}, G),
    (
        "hosts are managed, and no metadata service says so",
        on(BY_SSM | {"has_metadata": False}),
        {"profile": NO_NEED, "role": FAILED},
        G,
    ),
    ("hosts are managed, and the role fails the agent", agent(denied_to("role")), {}, E),
    ("a service control policy binds all roles", agent(denied_to("scp")), {"permissions": FAILED}, E),
    (
        "whether hosts are managed may not be read",
        on({"is_managed": NOT_READ, "profile": None}),
        {"profile": UNKNOWN, "role": NO_NEED, "permissions": UNKNOWN},
        G,
    ),
    (
        "the same with an empty profile",
        on({"is_managed": NOT_READ, "profile": Profile("p", None)}),
        {"role": UNKNOWN, "permissions": UNKNOWN},
        G,
    ),
    ("the same with a role that fails", agent(denied_to("role"), is_managed=NOT_READ), {"permissions": UNKNOWN}, E),
    # DNS
    ("names are not resolved", on(dns=Dns(support=False, hostnames=True)), {"dns": FAILED}, G),
    ("a gateway needs no host names", on(dns=Dns(support=True, hostnames=False)), {}, G),
    ("DNS attributes that may not be read", on(dns=NOT_READ), {"dns": UNKNOWN}, G),
    ("private names need both", ssm(INTERFACE, dns=Dns(support=True, hostnames=False)), {"dns": FAILED}, E),
    # Routes
    ("no way at all", routed(), NO_WAY, N),
    ("an endpoint on other tables only", routed(endpoints=(GATEWAY,)), {"route": FAILED}, N),
    (
        "an endpoint that is not ready",
        routed(endpoints=(replace(GATEWAY, state="pending"),)),
        {"route": FAILED, "endpoint": FAILED},
        N,
    ),
    (
        "a route to an endpoint that is not ready",
        on(endpoints=(replace(GATEWAY, state="failed"),)),
        {"endpoint": FAILED},
        G,
    ),
    ("a route of an endpoint that is gone", routed(replace(TO_S3, is_active=False)), NO_WAY, N),
    ("the route is there, the endpoint unseen", on(endpoints=()), {"endpoint": UNKNOWN, "endpoint-policy": UNKNOWN}, G),
    (
        "the route is there, endpoints may not be read",
        on(endpoints=NOT_READ),
        {"endpoint": UNKNOWN, "endpoint-policy": UNKNOWN},
        G,
    ),
    (
        "endpoints may not be read, and no way",
        routed(endpoints=NOT_READ),
        {"route": FAILED, "endpoint": UNKNOWN, "endpoint-policy": UNKNOWN},
        N,
    ),
    ("the endpoint's route by its id", on(prefix_list=NOT_READ), {}, G),
    ("route tables may not be read", on(tables=NOT_READ), {"route": UNKNOWN}, U),
    ("no route table is visible", on(tables=()), {"route": UNKNOWN}, U),
    (
        "the subnet's own table",
        on(tables=(MAIN, Table("rtb-own", subnet_ids=("subnet-1",))), endpoints=()),
        NO_WAY,
        N,
    ),
    ("a NAT gateway", routed(TO_NAT), NEEDS_NONE, P),
    ("a NAT gateway beside an endpoint of other tables", routed(TO_NAT, endpoints=(GATEWAY,)), NEEDS_NONE, P),
    ("a NAT gateway, endpoints unread", routed(TO_NAT, endpoints=NOT_READ), NEEDS_NONE, P),
    ("a NAT gateway that is gone", routed(replace(TO_NAT, is_active=False)), NO_WAY, N),
    ("a NAT gateway that failed", routed(TO_NAT, nats={"nat-1": Nat("failed", "subnet-nat")}), NO_WAY, N),
    (
        "a NAT gateway in a private subnet",
        routed(
            TO_NAT,
            nats={"nat-1": Nat("available", "subnet-1")},
            tables=(Table("rtb-main", is_main=True, routes=(TO_NAT,)),),
        ),
        DARK,
        U,
    ),
    (
        "a NAT gateway in a subnet without a way",
        routed(
            TO_NAT,
            nats={"nat-1": SUBNET_9},
            tables=(ALONE,),
        ),
        NO_WAY,
        N,
    ),
    ("a regional NAT gateway", routed(TO_NAT, nats={"nat-1": Nat("available", "")}), NEEDS_NONE, P),
    ("a private NAT gateway", routed(TO_NAT, nats={"nat-1": Nat("available", "subnet-nat", is_public=False)}), DARK, U),
    ("a NAT gateway that is not visible", routed(TO_NAT, nats={}), DARK, U),
    ("NAT gateways may not be read", routed(TO_NAT, nats=NOT_READ), DARK, U),
    ("an internet gateway, without an address", routed(TO_INTERNET), NO_WAY, N),
    ("a transit gateway", routed(Route(ANYWHERE, "tgw-1")), DARK, U),
    ("two halves of the internet", routed(*HALVES), NEEDS_NONE, P),
    ("two halves, addresses unknown", ssm(routes=HALVES), NEEDS_NONE, P),
    ("one half, addresses unknown", ssm(routes=HALVES[:1]), DARK, U),
    ("the half without the service", routed(HALVES[0]), NO_WAY, N),
    ("routes to the service's addresses only", routed(*TO_LISTED), NEEDS_NONE, P),
    ("a route to some of them", routed(TO_LISTED[0]), NO_WAY, N),
    ("a more specific one leads nowhere", routed(TO_NAT, replace(TO_LISTED[0], is_active=False)), NO_WAY, N),
    ("a more specific one leads elsewhere", routed(TO_NAT, Route("192.0.2.0/24", "tgw-1")), DARK, U),
    ("private addresses elsewhere do not matter", ssm(routes=(TO_NAT, Route("10.0.0.0/8", "tgw-1"))), NEEDS_NONE, P),
    ("some public ones may", ssm(routes=(TO_NAT, Route("192.0.2.0/24", "tgw-1"))), DARK, U),
    ("a list of one's own", routed(Route("pl-own", "nat-1")), DARK, U),
    (
        "a NAT gateway whose subnet has the halves",
        routed(
            TO_NAT,
            tables=(
                Table("rtb-main", is_main=True, routes=(TO_NAT,)),
                Table("rtb-nat", subnet_ids=("subnet-nat",), routes=PUBLIC_HALVES),
            ),
        ),
        NEEDS_NONE,
        P,
    ),
    (
        "a NAT gateway whose way is gone",
        routed(
            TO_NAT,
            tables=(
                Table("rtb-main", is_main=True, routes=(TO_NAT,)),
                Table("rtb-nat", subnet_ids=("subnet-nat",), routes=(replace(TO_INTERNET, is_active=False),)),
            ),
        ),
        NO_WAY,
        N,
    ),
    # Endpoints of interface services
    ("an interface endpoint", ssm(INTERFACE), {}, E),
    (
        "an interface endpoint admits the group",
        ssm(
            INTERFACE,
            groups=group(egress=(ALL_OUT,))
            | group("sg-e", ingress=(GroupRule("tcp", (443, 443), group_ids=("sg-1",)),)),
        ),
        {},
        E,
    ),
    (
        "an interface endpoint that admits nobody",
        ssm(INTERFACE, groups=group(egress=(ALL_OUT,)) | group("sg-e")),
        {"endpoint": FAILED},
        E,
    ),
    (
        "an interface endpoint that admits a list",
        ssm(
            INTERFACE,
            groups=group(egress=(ALL_OUT,)) | group("sg-e", ingress=(GroupRule("-1", prefix_list_ids=("pl-own",)),)),
        ),
        {"endpoint": UNKNOWN},
        E,
    ),
    (
        "an interface endpoint's group is not seen",
        ssm(INTERFACE, groups=group(egress=(ALL_OUT,))),
        {"endpoint": UNKNOWN},
        E,
    ),
    ("groups may not be read", ssm(INTERFACE, groups=NOT_READ), {"endpoint": UNKNOWN, "security-group": UNKNOWN}, E),
    (
        "an interface endpoint without a private name",
        ssm(replace(INTERFACE, private_dns=False)),
        {"route": FAILED, "endpoint": FAILED},
        N,
    ),
    ("the same beside a NAT gateway", ssm(replace(INTERFACE, private_dns=False), routes=(TO_NAT,)), NEEDS_NONE, P),
    (
        "an interface endpoint that is not ready",
        ssm(replace(INTERFACE, state="pendingacceptance")),
        {"route": FAILED, "endpoint": FAILED},
        N,
    ),
    ("no interface endpoint", ssm(), NO_WAY, N),
    (
        "a centralised endpoint",
        ssm(zone=ZONE, routes=(TO_HUB,)),
        {"endpoint-policy": NO_NEED},
        Z,
    ),
    ("a zone for an endpoint here, without a private name", ssm(CENTRAL, zone=ZONE), {"endpoint-policy": NO_NEED}, Z),
    ("a centralised endpoint, and no way out of the VPC", ssm(zone=ZONE), ELSEWHERE, Z),
    ("the same with a way to the internet only", ssm(zone=ZONE, routes=(TO_NAT,)), ELSEWHERE, Z),
    ("a centralised endpoint, routes unread", ssm(zone=ZONE, tables=NOT_READ), ELSEWHERE, Z),
    ("a zone whose records may not be read", ssm(zone=replace(ZONE, answers=NOT_READ), routes=(TO_HUB,)), ELSEWHERE, Z),
    (
        "an empty zone hides the public name",
        ssm(zone=replace(ZONE, answers=False), routes=(TO_NAT,)),
        {"route": FAILED} | NEEDS_NONE,
        Z,
    ),
    ("an empty zone hides it from a gateway's route, too", on(zone=replace(ZONE, answers=False)), EMPTY, Z),
    (
        "a zone's addresses are not the service's public ones",
        on(zone=ZONE, groups=group(egress=(GroupRule("-1", prefix_list_ids=("pl-s3",)),)), tables=(HUB,)),
        {"endpoint-policy": NO_NEED, "security-group": FAILED},
        Z,
    ),
    ("zones may not be read", ssm(zone=NOT_READ), DARK, U),
    ("zones may not be read, and need not", ssm(routes=(TO_NAT,), zone=NOT_READ), NEEDS_NONE, P),
    ("S3 by an interface endpoint's private name", on(endpoints=(GATEWAY, INTERFACE)), {}, E),
    (
        "endpoints may not be read: a name may lead to one",
        ssm(routes=(TO_NAT,), endpoints=NOT_READ),
        {"route": UNKNOWN, "endpoint": UNKNOWN, "endpoint-policy": UNKNOWN},
        U,
    ),
    (
        "endpoints and prefix lists may not be read: a route may be theirs",
        on(endpoints=NOT_READ, prefix_list=NOT_READ),
        {"route": UNKNOWN, "endpoint": UNKNOWN, "endpoint-policy": UNKNOWN},
        U,
    ),
    (
        "an interface endpoint's groups are not listed",
        ssm(replace(INTERFACE, group_ids=())),
        {"endpoint": UNKNOWN},
        E,
    ),
    # Endpoint policies
    ("a policy that allows", on(endpoints=(replace(GATEWAY, policy=ALLOW_S3),)), {}, G),
    ("a policy that denies", on(endpoints=(replace(GATEWAY, policy=DENY_S3),)), {"endpoint-policy": FAILED}, G),
    ("a policy that depends", on(endpoints=(replace(GATEWAY, policy=ORG_S3),)), {"endpoint-policy": UNKNOWN}, G),
    # Network ACLs
    ("ACLs may not be read", on(acls=NOT_READ), {"network-acl": UNKNOWN}, G),
    ("no ACL is visible", on(acls=()), {"network-acl": UNKNOWN}, G),
    ("nothing out", on(acls=(acl(OPEN[1], *SHUT),)), {"network-acl": FAILED}, G),
    (
        "no answers in",
        on(acls=(acl(OPEN[0], entry(90, egress=False, ports=(443, 443)), *SHUT),)),
        {"network-acl": FAILED},
        G,
    ),
    (
        "out to a part of the service",
        on(acls=(acl(entry(10, "192.0.2.0/24", egress=True), OPEN[1], *SHUT),)),
        {"network-acl": FAILED},
        G,
    ),
    (
        "out to a part, addresses unknown",
        on(acls=(acl(entry(10, "192.0.2.0/24", egress=True), OPEN[1], *SHUT),), prefix_list=NOT_READ),
        {"network-acl": UNKNOWN},
        G,
    ),
    (
        "nothing out, addresses unknown",
        on(acls=(acl(OPEN[1], *SHUT),), prefix_list=PrefixList("pl-s3")),
        {"network-acl": FAILED},
        G,
    ),
    (
        "an ACL does not apply within a subnet",
        ssm(replace(INTERFACE, addresses=(("subnet-1", "10.0.1.7"),)), acls=(acl(*SHUT),)),
        {},
        E,
    ),
    (
        "the ACL of the endpoint's subnet",
        ssm(INTERFACE, acls=(acl(*OPEN, subnets=("subnet-1",)), acl(*SHUT, name="acl-2", subnets=("subnet-2",)))),
        {"network-acl": FAILED},
        E,
    ),
    ("the endpoint's subnet has no visible ACL", ssm(INTERFACE, acls=(acl(*OPEN, subnets=("subnet-1",)),)), {}, E),
    (
        "the endpoint's addresses may not be read",
        ssm(replace(INTERFACE, addresses=NOT_READ), acls=(acl(entry(10, "10.0.2.0/24", egress=True), OPEN[1], *SHUT),)),
        {"network-acl": UNKNOWN},
        E,
    ),
    # Security groups
    ("nothing out of the group", on(groups=group()), {"security-group": FAILED}, G),
    (
        "out to the prefix list",
        on(groups=group(egress=(GroupRule("tcp", (443, 443), prefix_list_ids=("pl-s3",)),))),
        {},
        G,
    ),
    (
        "out to another service's list",
        on(groups=group(egress=(GroupRule("-1", prefix_list_ids=("pl-dynamodb",)),))),
        {"security-group": FAILED},
        G,
    ),
    (
        "out to a list of one's own",
        on(groups=group(egress=(GroupRule("-1", prefix_list_ids=("pl-own",)),))),
        {"security-group": UNKNOWN},
        G,
    ),
    (
        "out by another port",
        on(groups=group(egress=(GroupRule("tcp", (80, 80), (ANYWHERE,)),))),
        {"security-group": FAILED},
        G,
    ),
    (
        "out to a part",
        on(groups=group(egress=(GroupRule("-1", cidrs=("192.0.2.0/24",)),))),
        {"security-group": FAILED},
        G,
    ),
    (
        "out to a part of who knows what",
        ssm(routes=(TO_NAT,), groups=group(egress=(GroupRule("-1", cidrs=("192.0.2.0/24",)),))),
        {**NEEDS_NONE, "security-group": UNKNOWN},
        P,
    ),
    (
        "out to the endpoint's group",
        ssm(INTERFACE, groups=group(egress=(GroupRule("-1", group_ids=("sg-e",)),)) | group("sg-e", ingress=(ALL_IN,))),
        {},
        E,
    ),
    (
        "out to elsewhere only",
        ssm(
            INTERFACE,
            groups=group(egress=(GroupRule("-1", cidrs=("192.0.2.0/24",)),)) | group("sg-e", ingress=(ALL_IN,)),
        ),
        {"security-group": FAILED},
        E,
    ),
]


@pytest.mark.parametrize(("place", "expected", "via"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_step_is_judged(place: Place, expected: dict[str, str], via: str) -> None:
    """A table: which steps do not pass, and by which way requests go; all others pass."""
    assert told(place) == expected | {"via": via}


def test_the_steps_and_who_covers_them() -> None:
    """In the order of the way, each with the control that covers it; S3, DynamoDB and the others differ."""
    controls = {step.name: step.control for step in diagnose(HEALTHY, BUCKETS).steps}

    assert controls == {
        "instance": "",
        "profile": "ROLE.1",
        "role": "ROLE.1",
        "permissions": "ROLE.2",
        "dns": "",
        "route": "VPCE.1",
        "endpoint": "VPCE.1",
        "endpoint-policy": "VPCE.5",
        "network-acl": "",
        "security-group": "",
    }
    assert {step.name: step.control for step in diagnose(ssm(), MANAGE).steps}["dns"] == "VPCE.3"
    tables = diagnose(HEALTHY, Question("dynamodb", "dynamodb:ListTables")).steps
    assert [step.control for step in tables if step.name == "endpoint"] == ["VPCE.2"]


def remedies(place: Place, question: Question | None = None) -> dict[str, str]:
    """Return what is to be done, by step."""
    return {step.name: step.remedy for step in diagnose(place, question or asked(place)).steps if step.remedy}


def test_the_bare_instance_is_told_what_to_type() -> None:
    """Every failed step has a command; where another step's does it, it says so."""
    assert remedies(BARE) == {
        "profile": (
            "aws ec2 associate-iam-instance-profile --region eu-west-1 --instance-id i-1 "
            "--iam-instance-profile Name=portcullis-default"
        ),
        "permissions": "give it a role that allows s3:ListAllMyBuckets",
        "dns": "aws ec2 modify-vpc-attribute --region eu-west-1 --vpc-id vpc-1 --enable-dns-support",
        "route": "the endpoint of the next step brings a way",
        "endpoint": (
            "aws ec2 create-vpc-endpoint --region eu-west-1 --vpc-id vpc-1 --service-name com.amazonaws.eu-west-1.s3 "
            "--vpc-endpoint-type Gateway --route-table-ids rtb-main"
        ),
        "network-acl": (
            "aws ec2 create-network-acl-entry --region eu-west-1 --network-acl-id acl-1 --egress --rule-number 100 "
            "--rule-action allow --protocol tcp --port-range From=443,To=443 --cidr-block 0.0.0.0/0 && "
            "aws ec2 create-network-acl-entry --region eu-west-1 --network-acl-id acl-1 --ingress --rule-number 99 "
            "--rule-action allow --protocol tcp --port-range From=32768,To=60999 --cidr-block 0.0.0.0/0"
        ),
        "security-group": (
            "aws ec2 authorize-security-group-egress --region eu-west-1 --group-id sg-1 "
            "--ip-permissions 'IpProtocol=tcp,FromPort=443,ToPort=443,PrefixListIds=[{PrefixListId=pl-s3}]'"
        ),
    }


@pytest.mark.parametrize(
    ("place", "step", "command"),
    [
        (on({"state": "stopped"}), "instance", "start-instances --region eu-west-1 --instance-ids i-1"),
        (on({"state": "pending"}), "instance", "wait instance-running --region eu-west-1 --instance-ids i-1"),
        (on({"has_metadata": False}), "role", "modify-instance-metadata-options --region eu-west-1"),
        (on({"profile": Profile("p", None)}), "role", "add-role-to-instance-profile --instance-profile-name p"),
        (on(denied("role")), "permissions", "put-role-policy --role-name worker --policy-name s3-ListAllMyBuckets"),
        (on(denied("scp")), "permissions", "ask those who wrote that policy"),
        (routed(endpoints=(GATEWAY,)), "route", "--vpc-endpoint-id vpce-s3 --add-route-table-ids rtb-main"),
        (routed(TO_NAT, endpoints=(GATEWAY,)), "endpoint", "--vpc-endpoint-id vpce-s3 --add-route-table-ids rtb-main"),
        (on(endpoints=(replace(GATEWAY, state="failed"),)), "endpoint", "describe-vpc-endpoints --region eu-west-1"),
        (ssm(replace(INTERFACE, private_dns=False)), "endpoint", "--vpc-endpoint-id vpce-ssm --private-dns-enabled"),
        (ssm(), "endpoint", "--vpc-endpoint-type Interface --subnet-ids subnet-1 --security-group-ids GROUP"),
        (ssm(dns=Dns(support=False, hostnames=False)), "dns", "--enable-dns-support && aws ec2 modify-vpc-attribute"),
        (
            ssm(INTERFACE, groups=group(egress=(ALL_OUT,)) | group("sg-e")),
            "endpoint",
            "ingress --region eu-west-1 --group-id sg-e",
        ),
        (on(endpoints=(replace(GATEWAY, policy=DENY_S3),)), "endpoint-policy", "--policy-document file://policy.json"),
        (on(acls=(acl(entry(1, egress=True, allow=False), OPEN[1]),)), "network-acl", "--egress --rule-number NUMBER"),
    ],
)
def test_a_failed_step_says_what_to_do(place: Place, step: str, command: str) -> None:
    """The command names what there is; "NUMBER" where no entry fits before the first."""
    assert command in remedies(place)[step]


def test_an_endpoint_is_opened_to_the_caller() -> None:
    """Not to everybody, nor to the rest of the VPC, which may be let in already."""
    some = group("sg-e", ingress=(GroupRule("-1", cidrs=("10.0.0.0/24",)),))
    remedy = remedies(ssm(INTERFACE, groups=group(egress=(ALL_OUT,)) | some))["endpoint"]
    assert "'IpProtocol=tcp,FromPort=443,ToPort=443,IpRanges=[{CidrIp=10.0.1.5/32}]'" in remedy


def test_a_remedy_names_all_blocks() -> None:
    """The endpoint's addresses are in blocks of the VPC; for a group, only those that are not let through."""
    place = ssm(
        replace(INTERFACE, addresses=(("subnet-2", "10.0.2.7"), ("subnet-3", "10.1.3.7"), ("subnet-4", "10.2.4.7"))),
        cidrs=("10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16"),
        groups=group(egress=(GroupRule("-1", cidrs=("10.0.0.0/16",)),)) | group("sg-e", ingress=(ALL_IN,)),
        acls=(acl(OPEN[1], *SHUT),),
    )

    assert "IpRanges=[{CidrIp=10.1.0.0/16},{CidrIp=10.2.0.0/16}]" in remedies(place)["security-group"]
    entries = [command.split() for command in remedies(place)["network-acl"].split(" && ")]
    assert [(each[each.index("--rule-number") + 1], each[-1]) for each in entries] == [
        ("100", "10.0.0.0/16"),
        ("99", "10.1.0.0/16"),
        ("98", "10.2.0.0/16"),
        ("97", "10.0.0.0/16"),
    ]


def test_an_action_that_nobody_named() -> None:
    """Without an action, neither the role nor the endpoint's policy can be judged; everything else is."""
    place = ssm(replace(INTERFACE, policy=ALLOW_S3))
    steps = {step.name: step for step in diagnose(place, Question("example", "")).steps}

    assert [name for name, step in steps.items() if step.status is Status.UNKNOWN] == ["permissions", "endpoint-policy"]
    assert steps["permissions"].remedy == "name one with --action"


def test_who_one_is_needs_no_permission() -> None:
    """STS answers that to everybody, whatever the role's policies say."""
    (step,) = (
        step
        for step in diagnose(on(denied("role")), Question("sts", "sts:GetCallerIdentity")).steps
        if step.name == "permissions"
    )
    assert (step.status, step.evidence) == (Status.PASSED, "sts:GetCallerIdentity needs no permission")


@pytest.mark.parametrize(
    ("condition", "organisation", "answer"),
    [
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, "o-1", True),
        ({"StringEquals": {"aws:principalorgid": ["o-0", "o-1"], "AWS:ResourceOrgID": "o-1"}}, "o-1", True),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, "o-2", False),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, "", False),
        ({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}, "", True),
        ({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}, "o-2", False),
        ({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}, "o-2", True),
        ({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}, "", True),
        ({"Bool": {"aws:PrincipalIsAWSService": "True"}}, "o-1", False),
        ({"BoolIfExists": {"aws:PrincipalIsAWSService": False}}, "o-1", True),
        ({"StringLike": {"aws:PrincipalOrgID": "o-1"}}, "o-1", None),
        ({"StringEquals": {"aws:PrincipalOrgID": "${aws:ResourceOrgID}"}}, "o-1", None),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1", "aws:PrincipalTag/team": "a"}}, "o-1", None),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}, "IpAddress": {"aws:VpcSourceIp": "10.0.0.0/8"}}, "o-2", False),
    ],
)
def test_conditions_that_the_organisation_settles(condition: Any, organisation: str, answer: bool | None) -> None:  # noqa: FBT001 - of a table
    """What is known of a request is decided, and what is not stays open; a key that is absent is no match."""
    statement = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": condition}
    context = {"aws:principalorgid": organisation, "aws:resourceorgid": organisation}
    for statements in (statement, [statement]):
        document = settled(json.dumps({"Version": "2012-10-17", "Statement": statements}), context)
        assert allows(document, "s3:ListAllMyBuckets", "*") is answer


@pytest.mark.parametrize(("denied_too", "status"), [((), Status.FAILED), ((MANAGE.action,), Status.PASSED)])
def test_an_agent_that_may_register_uses_the_role(denied_too: tuple[str, ...], status: Status) -> None:
    """It turns to Default Host Management only where the role does not let it register."""
    channel = Question("ssmmessages", "ssmmessages:CreateControlChannel")
    steps = diagnose(agent(denied_to("role", channel.action, *denied_too)), channel).steps
    assert [each.status for each in steps if each.name == "permissions"] == [status]


def test_what_is_no_policy_is_left_as_it_is() -> None:
    """It is for others to say so."""
    assert settled("[]", {}) == "[]"


def test_a_policy_that_asks_for_an_organisation_that_may_not_be_read() -> None:
    """The permission that is missing is named."""
    place = on(endpoints=(replace(GATEWAY, policy=ORG_S3),), context=NOT_READ)
    (found,) = (each for each in diagnose(place, BUCKETS).steps if each.name == "endpoint-policy")
    assert (found.status, found.evidence.rsplit("; ", 1)[-1]) == (
        Status.UNKNOWN,
        "you may not read that: service:Operation is missing",
    )


def test_a_zone_that_hides_the_public_name_is_named() -> None:
    """With what takes it away."""
    (found,) = (
        each for each in diagnose(ssm(zone=replace(ZONE, answers=False)), MANAGE).steps if each.status is Status.FAILED
    )
    assert found.evidence == (
        "the private hosted zone eu-west-1.amazonaws.com. hides the public name, and has no address of "
        "ssm.eu-west-1.amazonaws.com: so that does not exist"
    )
    assert found.remedy.endswith("--hosted-zone-id Z1 --vpc VPCRegion=eu-west-1,VPCId=vpc-1")


def test_who_refuses_is_said() -> None:
    """Somebody who wonders why a fine role policy does not help reads of the organisation's."""
    (step,) = (step for step in diagnose(on(denied("scp")), BUCKETS).steps if step.name == "permissions")
    assert step.evidence == (
        "worker may not s3:ListAllMyBuckets on *: a service control policy of the organisation does not allow it"
    )


ELSEWHERE_IN_VPC = replace(INTERFACE, addresses=(("subnet-9", "10.0.9.7"),))
SUBNETS = Place(NETWORK, ("subnet-1", "subnet-2"), ("10.0.1.0/24", "10.0.2.0/24"))


class TestSubnetsAlone:
    """A VPC without an instance."""

    def test_each_block_is_judged_by_itself(self) -> None:
        """The group admits one subnet of four; the others share an answer, whose remedy names their blocks."""
        group_of_one = group("sg-e", ingress=(GroupRule("tcp", (443, 443), ("10.0.1.0/24",)),))
        subnet_ids = tuple(f"subnet-{number}" for number in range(1, 5))
        place = replace(
            SUBNETS,
            network=ssm(ELSEWHERE_IN_VPC, groups=group_of_one, acls=(acl(*OPEN, subnets=subnet_ids),)).network,
            subnet_ids=subnet_ids,
            cidrs=tuple(f"10.0.{number}.0/24" for number in range(1, 5)),
        )

        one, three = diagnose_each(place, MANAGE)

        assert (one.where, one.works) == ("subnet-1", True)
        assert three.where == "subnet-2, subnet-3, subnet-4"
        (endpoint,) = (each for each in three.steps if each.status is Status.FAILED)
        assert "[{CidrIp=10.0.2.0/24},{CidrIp=10.0.3.0/24},{CidrIp=10.0.4.0/24}]" in endpoint.remedy

    def test_a_part_of_a_subnet(self) -> None:
        """It is said that some are let in."""
        half = group("sg-e", ingress=(GroupRule("tcp", (443, 443), ("10.0.1.0/25", "10.0.2.0/25")),))
        (answer,) = diagnose_each(replace(SUBNETS, network=ssm(ELSEWHERE_IN_VPC, groups=half).network), MANAGE)
        (endpoint,) = (each for each in answer.steps if each.status is Status.FAILED)
        assert endpoint.evidence.endswith("port 443 is not let in from all of the subnet")

    def test_only_the_network_is_judged(self) -> None:
        """No credentials, no security group."""
        answer = diagnose(SUBNETS, BUCKETS)

        assert answer.where == "subnet-1, subnet-2"
        assert [step.name for step in answer.steps] == ["dns", "route", "endpoint", "endpoint-policy", "network-acl"]
        assert answer.works

    def test_an_internet_gateway_serves_some(self) -> None:
        """Whether it does depends on the instance."""
        place = replace(SUBNETS, network=routed(TO_INTERNET).network)
        assert told(place) == DARK | {"via": U}

    def test_a_public_instance_is_served(self) -> None:
        """The same with an instance that has a public address."""
        assert told(
            replace(SUBNETS, network=routed(TO_INTERNET).network, machine=replace(MACHINE, is_public=True))
        ) == (NEEDS_NONE | {"via": P})

    def test_an_endpoint_in_one_of_them(self) -> None:
        """The other subnet's requests cross the network ACL."""
        place = replace(SUBNETS, network=ssm(INTERFACE, acls=(acl(*SHUT),)).network)
        assert told(place) == {"network-acl": FAILED, "via": E}

    def test_an_endpoint_that_admits_groups(self) -> None:
        """Whether an instance there has that group is not known."""
        rule = GroupRule("tcp", (443, 443), group_ids=("sg-1",))
        place = replace(SUBNETS, network=ssm(INTERFACE, groups=group("sg-e", ingress=(rule,))).network)
        assert told(place) == {"endpoint": UNKNOWN, "via": E}


def step(name: str, status: Status, **more: str) -> Step:
    """Return a step."""
    return Step(name, status, "seen", **more)


@pytest.mark.parametrize(
    ("via", "statuses", "verdict", "works"),
    [
        (Via.GATEWAY, [Status.PASSED, Status.NOT_NEEDED], "Yes, privately: gateway endpoint.", True),
        (Via.ZONE, [Status.PASSED], "Yes, as far as it is seen from here, privately: an endpoint elsewhere", True),
        (Via.PUBLIC, [Status.PASSED], "Yes, the public way: it works, but it leaves the network,", True),
        (Via.UNKNOWN, [Status.PASSED, Status.UNKNOWN], "Perhaps: nothing that was seen stops it, but", False),
        (Via.NONE, [Status.FAILED, Status.PASSED], "No: 1 of 2 steps failed (step-0).", False),
        (Via.NONE, [Status.FAILED, Status.UNKNOWN], "No: 1 of 2 steps failed (step-0). Not known: step-1.", False),
    ],
)
def test_the_verdict_is_a_sentence(via: Via, statuses: list[Status], verdict: str, *, works: bool) -> None:
    """What failed before what is not known; the public way is said as such."""
    answer = Answer("here", via, tuple(step(f"step-{number}", status) for number, status in enumerate(statuses)))

    assert answer.verdict.startswith(verdict)
    assert answer.works is works


class TestPrinting:
    """What people and machines read."""

    ANSWER = Answer(
        "i-1 in subnet-1",
        Via.NONE,
        (step("profile", Status.FAILED, remedy="aws do", control="ROLE.1"), step("endpoint-policy", Status.NOT_NEEDED)),
    )

    def test_a_table(self) -> None:
        """Words say it, colours only help; what is to be done stands below."""
        assert click.unstyle(printing.table("i-1", BUCKETS, [self.ANSWER])).splitlines() == [
            "Does s3 answer to i-1? (s3:ListAllMyBuckets on *)",
            "",
            "i-1 in subnet-1",
            "  1  FAILED   profile          seen [ROLE.1]",
            "     to do: aws do",
            "  2  -        endpoint-policy  seen",
            "",
            "No: 1 of 2 steps failed (profile).",
        ]

    def test_a_long_text_goes_on_in_its_column(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As wide as the terminal; what is to be done stays in one line, to be copied."""
        monkeypatch.setenv("COLUMNS", "70")
        long = replace(self.ANSWER.steps[0], evidence="word " * 20, remedy="aws " * 40)
        lines = click.unstyle(printing.table("i-1", BUCKETS, [replace(self.ANSWER, steps=(long,))])).splitlines()
        assert [len(line) <= 70 for line in lines].count(False) == 1
        assert lines[4].startswith(" " * 31 + "word")

    def test_a_table_for_a_vpc(self) -> None:
        """It says that only the network is judged."""
        lines = printing.table("vpc-1", Question("example", ""), []).splitlines()
        assert lines == [
            "Does example answer to vpc-1? (any action)",
            "Only the network is judged; name an instance for its credentials and security groups.",
        ]

    def test_json(self) -> None:
        """The same for machines."""
        assert json.loads(printing.as_json("i-1", BUCKETS, [self.ANSWER])) == {
            "resource_id": "i-1",
            "service": "s3",
            "action": "s3:ListAllMyBuckets",
            "resource": "*",
            "works": False,
            "answers": [
                {
                    "where": "i-1 in subnet-1",
                    "works": False,
                    "verdict": "No: 1 of 2 steps failed (profile).",
                    "way": "none",
                    "steps": [
                        {
                            "name": "profile",
                            "status": "failed",
                            "evidence": "seen",
                            "remedy": "aws do",
                            "control": "ROLE.1",
                        },
                        {
                            "name": "endpoint-policy",
                            "status": "not-needed",
                            "evidence": "seen",
                            "remedy": "",
                            "control": "",
                        },
                    ],
                }
            ],
        }
