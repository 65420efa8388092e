"""VPCE.3: a table of VPCs, what the policy wants of them, and their verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from portcullis.actions import Action, CreateInterfaceEndpoint
from portcullis.controls.vpce_3 import VPCE_3
from portcullis.findings import MAX_DESCRIPTION
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Dns,
    Evaluation,
    GroupRule,
    InterfaceService,
    Kind,
    Needs,
    Scope,
    SecurityGroup,
    Snapshot,
    Status,
    Subnet,
    Vpc,
    VpcEndpoint,
)
from portcullis.policy import Subject, parse

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION

PASSED, FAILED, NOT_APPLICABLE, UNKNOWN = Status.PASSED, Status.FAILED, Status.NOT_APPLICABLE, Status.UNKNOWN
A, B, C = (f"{REGION}{letter}" for letter in "abc")
OURS = {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE.3"}
THEIRS = f"account {OTHER_ACCOUNT}"
CIDRS = ("10.0.0.0/16", "2001:db8::/56")

SSM = InterfaceService(f"com.amazonaws.{REGION}.ssm", (A, B), (f"ssm.{REGION}.amazonaws.com",))
STS = InterfaceService(f"com.amazonaws.{REGION}.sts", (), (f"sts.{REGION}.amazonaws.com",))
DKR = InterfaceService(f"com.amazonaws.{REGION}.ecr.dkr", (A, B, C), (f"*.dkr.ecr.{REGION}.amazonaws.com",))
S3 = InterfaceService(
    f"com.amazonaws.{REGION}.s3", (A, B), (f"s3.{REGION}.amazonaws.com", f"*.s3.{REGION}.amazonaws.com")
)
DYNAMODB = InterfaceService(f"com.amazonaws.{REGION}.dynamodb", (A, B))
SERVICES = {"ssm": SSM, "sts": STS, "ecr.dkr": DKR, "s3": S3, "dynamodb": DYNAMODB}
BOTH_NAMES = SERVICES | {service.service_name: service for service in SERVICES.values()}

ONE, TWO = Subnet("subnet-1", A), Subnet("subnet-2", B)
PUBLIC = Subnet("subnet-0", A, is_public=True)
FULL = Subnet("subnet-3", B, has_room=False)

OPEN = SecurityGroup("sg-1", ingress=(GroupRule("tcp", (443, 443), cidrs=("10.0.0.0/8",)),))
SHUT = SecurityGroup("sg-2", ingress=(GroupRule("tcp", (22, 22), cidrs=("0.0.0.0/0",)), GroupRule("udp", None)))
BY_GROUP = SecurityGroup("sg-3", ingress=(GroupRule("-1", group_ids=("sg-9",)),))
BY_LIST = SecurityGroup("sg-4", ingress=(GroupRule("6", (400, 500), prefix_list_ids=("pl-1",)),))
MADE = SecurityGroup("sg-5", "portcullis-VPCE.3", (GroupRule("tcp", (443, 443), CIDRS),), tags=OURS)
COPIED = replace(MADE, group_id="sg-6", name="database", ingress=OPEN.ingress)
WITH_MADE = {"sg-0": COPIED, "sg-1": OPEN, "sg-5": MADE, "sg-6": COPIED}
MINE: dict[str, Any] = {"group_ids": ("sg-5",), "ours": True}
GROUPS = {group.group_id: group for group in (OPEN, SHUT, BY_GROUP, BY_LIST)}


def endpoint(
    service: InterfaceService = SSM, *, name: str = "vpce-1", ours: bool = False, **others: Any
) -> VpcEndpoint:
    """Return an available interface endpoint with private DNS, in a subnet and with a group that admits HTTPS."""
    fields: dict[str, Any] = {
        "endpoint_type": "Interface",
        "state": "available",
        "subnet_ids": ("subnet-1",),
        "group_ids": ("sg-1",),
        "private_dns": True,
        "tags": OURS if ours else {},
    }
    return VpcEndpoint(name, "vpc-0", service_name=service.service_name, **(fields | others))


def gateway(**others: Any) -> VpcEndpoint:
    """Return an S3 gateway endpoint."""
    return endpoint(
        S3, endpoint_type="Gateway", name="vpce-9", subnet_ids=(), group_ids=(), private_dns=False, **others
    )


def create(
    *subnets: str, service: InterfaceService = SSM, group_id: str = "", dns: bool = True, resolver_only: bool = False
) -> CreateInterfaceEndpoint:
    """Return the expected creation."""
    return CreateInterfaceEndpoint(
        "VPCE.3", "vpc-0", service.service_name, subnets, CIDRS, group_id, private_dns=dns, resolver_only=resolver_only
    )


@dataclass(frozen=True)
class Row:
    """One VPC, what the policy says, and what the control has to say."""

    name: str
    status: Status
    endpoints: tuple[VpcEndpoint, ...] = ()
    actions: tuple[Action, ...] = ()
    words: tuple[str, ...] = ()
    services: tuple[str, ...] = ("ssm",)
    parameters: dict[str, Any] = field(default_factory=dict)
    vpc: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""


NO_DNS = {"private_dns": False}
CREATED = (create("subnet-1", "subnet-2"),)
COMMAND = "aws ec2 modify-vpc-attribute --vpc-id vpc-0"
INGRESS = "aws ec2 authorize-security-group-ingress --group-id"
ADDED = "100.64.0.0/16"
WIDER: dict[str, Any] = {"cidrs": (*CIDRS, ADDED), "groups": WITH_MADE}

ROWS = (
    Row("nothing there: one subnet for each zone", FAILED, (), CREATED, ("vpc-0: no interface endpoint for ssm.",),
        remedy="billed by the hour"),
    Row("an endpoint answers", PASSED, (endpoint(),), words=("vpc-0 reaches ssm through interface endpoints.",)),
    Row("it is pending", PASSED, (endpoint(state="pending"),)),
    Row("the type in lower case", PASSED, (endpoint(endpoint_type="interface"),)),
    Row("the full name does as well", PASSED, (endpoint(),), services=(SSM.service_name,)),
    Row("both names are one service", FAILED, (), CREATED, services=("ssm", SSM.service_name)),
    *(Row(f"state {state} does not answer", FAILED, (endpoint(state=state),), CREATED)
      for state in ("deleting", "deleted", "failed", "rejected", "expired")),
    Row("acceptance is awaited: nothing is created", FAILED, (endpoint(state="pendingacceptance"),), (),
        ("vpce-1 for ssm waits until the service's owner accepts it",), remedy="accept vpce-1"),
    Row("a gateway endpoint is none", FAILED, (endpoint(endpoint_type="Gateway"),), CREATED),
    Row("another service's is none", FAILED, (endpoint(STS),), CREATED),
    Row("any group may be admitted", PASSED, (endpoint(group_ids=("sg-3",)),)),
    Row("any prefix list may be admitted", PASSED, (endpoint(group_ids=("sg-4",)),)),
    Row("one of its groups is enough", PASSED, (endpoint(group_ids=("sg-2", "sg-1")),)),
    Row("an unknown group is not blamed", PASSED, (endpoint(group_ids=("sg-2", "sg-8")),)),
    Row("no group at all is not blamed", PASSED, (endpoint(group_ids=()),)),
    Row("its groups admit no HTTPS: theirs is not changed", FAILED, (endpoint(group_ids=("sg-2",)),), (),
        ("no security group of vpce-1 for ssm (sg-2) admits TCP 443",),
        remedy="authorize-security-group-ingress --group-id sg-2 --protocol tcp --port 443 --cidr 10.0.0.0/16"),
    Row("nor is ours", FAILED, (endpoint(group_ids=("sg-2",), ours=True),), (), ("vpce-1", "sg-2")),
    Row("ours admits the whole VPC", PASSED, (endpoint(**MINE),), vpc={"groups": WITH_MADE}),
    Row("a block that the VPC got since is shut out of ours", FAILED, (endpoint(**MINE),), (),
        (f"vpc-0: sg-5 does not admit TCP 443 from {ADDED} to ssm.",), vpc=WIDER,
        remedy=f"Admit it: {INGRESS} sg-5 --protocol tcp --port 443 --cidr {ADDED}"),
    Row("one sentence and one command for all that ours serves", FAILED,
        (endpoint(**MINE), endpoint(STS, name="vpce-2", **MINE)), (), ("vpc-0: sg-5 does not admit", "to ssm, sts."),
        ("ssm", "sts"), vpc=WIDER, remedy=f"--cidr {ADDED}"),
    Row("a block of IPv6 is admitted in its own way", FAILED, (endpoint(**MINE),), (), ("from 2001:db8::/56 to ssm",),
        vpc={"groups": {"sg-5": replace(MADE, ingress=OPEN.ingress)}},
        remedy="sg-5 --ip-permissions 'IpProtocol=tcp,FromPort=443,ToPort=443,Ipv6Ranges=[{CidrIpv6=2001:db8::/56}]'"),
    Row("another group of our endpoint admits it", PASSED, (endpoint(group_ids=("sg-5", "sg-8"), ours=True),),
        vpc=WIDER | {"groups": WITH_MADE | {"sg-8": replace(OPEN, ingress=(GroupRule("-1", cidrs=(ADDED,)),))}}),
    Row("a prefix list may admit it", PASSED, (endpoint(**MINE),),
        vpc=WIDER | {"groups": {"sg-5": replace(MADE, ingress=BY_LIST.ingress)}}),
    Row("a group of others need not admit all", PASSED, (endpoint(group_ids=("sg-6",)),), vpc=WIDER),
    Row("the zones are not known, and it answers", PASSED, (endpoint(),), vpc={"hosted_zones": None}),
    Row("the zones are not known, and nothing else answers", UNKNOWN, (), (),
        ("Route 53 did not tell the hosted zones of vpc-0 this time.",), vpc={"hosted_zones": None}),
    Row("another one answers", PASSED, (endpoint(group_ids=("sg-2",)), endpoint(name="vpce-2"))),
    Row("it is in no subnet", FAILED, (endpoint(subnet_ids=()),), (), ("vpce-1 for ssm is in no subnet",),
        remedy="--add-subnet-ids"),
    Row("theirs has no private DNS: ours gets it", FAILED, (endpoint(private_dns=False),), CREATED,
        ("no interface endpoint for ssm with private DNS (vpce-1 without)",)),
    Row("ours has none: a person switches it on", FAILED, (endpoint(private_dns=False, ours=True),), (),
        ("vpce-1 for ssm has no private DNS",), remedy="modify-vpc-endpoint --vpc-endpoint-id vpce-1 --private-dns-en"),
    Row("the policy does without private DNS", PASSED, (endpoint(private_dns=False),), parameters=NO_DNS),
    Row("and creates without", FAILED, (), (create("subnet-1", "subnet-2", dns=False),), parameters=NO_DNS),
    Row("a service without private names", PASSED, (endpoint(DYNAMODB, private_dns=False),), services=("dynamodb",)),
    Row("is created without private DNS, gateway or not", FAILED, (),
        (create("subnet-1", "subnet-2", service=DYNAMODB, dns=False),), services=("dynamodb",),
        vpc={"dns": Dns(support=False, hostnames=False)}),
    Row("a hosted zone of another account answers", PASSED, words=(
        f"centralised endpoint answers for ssm (private hosted zone ssm.{REGION}.amazonaws.com. of {THEIRS}).",),
        vpc={"hosted_zones": {f"ssm.{REGION}.amazonaws.com.": THEIRS}}),
    Row("without its last dot", PASSED, vpc={"hosted_zones": {f"ssm.{REGION}.amazonaws.com": THEIRS}}),
    Row("a hosted zone for a wildcard", PASSED, services=("ecr.dkr",),
        vpc={"hosted_zones": {f"dkr.ecr.{REGION}.amazonaws.com.": f"account {ACCOUNT}"}}),
    Row("which Route 53 writes in its way", PASSED, services=("ecr.dkr",),
        vpc={"hosted_zones": {f"\\052.dkr.ecr.{REGION}.amazonaws.com.": f"account {ACCOUNT}"}}),
    Row("it answers where theirs has no private DNS", PASSED, (endpoint(private_dns=False),),
        vpc={"hosted_zones": {f"ssm.{REGION}.amazonaws.com.": f"account {ACCOUNT}"}}, words=("centralised",)),
    Row("the zone above is another one", FAILED, (), CREATED, vpc={"hosted_zones": {"amazonaws.com": THEIRS}}),
    Row("the zone of an endpoint's own is none", FAILED, (endpoint(group_ids=("sg-2",)),), (), ("sg-2",),
        vpc={"hosted_zones": {f"ssm.{REGION}.amazonaws.com.": "vpce.amazonaws.com"}}),
    Row("DNS support is off", FAILED, (), (), ("private DNS needs enableDnsSupport, off in this VPC",),
        vpc={"dns": Dns(support=False, hostnames=True)}, remedy=f"{COMMAND} --enable-dns-support"),
    Row("both attributes are off", FAILED, (), (), ("enableDnsSupport and enableDnsHostnames, off",),
        vpc={"dns": Dns(support=False, hostnames=False)},
        remedy=f"{COMMAND} --enable-dns-support; {COMMAND} --enable-dns-hostnames"),
    Row("both are on", FAILED, (), CREATED, vpc={"dns": Dns(support=True, hostnames=True)}),
    Row("they do not matter without private DNS", FAILED, (), (create("subnet-1", "subnet-2", dns=False),),
        vpc={"dns": Dns(support=False, hostnames=False)}, parameters=NO_DNS),
    Row("S3 waits for its gateway endpoint", FAILED, (), (), ("no interface endpoint for s3 yet: VPCE.1 comes first",),
        services=("s3",), remedy="VPCE.1"),
    Row("until that is available", FAILED, (gateway(state="pending"),), (), ("VPCE.1",), services=("s3",)),
    Row("S3 after its gateway: for the inbound resolver only", FAILED, (gateway(),),
        (create("subnet-1", "subnet-2", service=S3, resolver_only=True),), services=("s3",)),
    Row("S3 without private DNS needs no gateway", FAILED, (), (create("subnet-1", "subnet-2", service=S3, dns=False),),
        services=("s3",), parameters=NO_DNS),
    Row("S3 is answered", PASSED, (endpoint(S3),), services=("s3",)),
    Row("a private subnet first, then the lowest id", FAILED, (), CREATED,
        vpc={"subnets": (Subnet("subnet-7", A), PUBLIC, TWO, ONE)}),
    Row("a public one where there is no other", FAILED, (), (create("subnet-0", "subnet-2"),),
        vpc={"subnets": (PUBLIC, TWO)}),
    Row("never a full one", FAILED, (), (create("subnet-1"),), vpc={"subnets": (ONE, FULL)}),
    Row("all are full", FAILED, (), (), ("no interface endpoint for ssm: no room in subnet-3",),
        vpc={"subnets": (FULL,)}, remedy="subnet-3"),
    Row("the service lacks a zone", FAILED, (), (create("subnet-1"),), vpc={"subnets": (ONE, Subnet("subnet-4", C))}),
    Row("the service has none of the zones", FAILED, (), (),
        (f"the service is in {A}, {B}, and no subnet of the VPC is",), vpc={"subnets": (Subnet("subnet-4", C),)},
        remedy=f"{A}, {B}"),
    Row("a service whose zones are not known", FAILED, (), (create("subnet-4", service=STS),), services=("sts",),
        vpc={"subnets": (Subnet("subnet-4", C),)}),
    Row("our group is there already", FAILED, (), (create("subnet-1", "subnet-2", group_id="sg-5"),),
        vpc={"groups": WITH_MADE}),
    Row("one answered, one created, one waiting", FAILED, (endpoint(),),
        (create("subnet-1", "subnet-2", service=STS),),
        ("vpc-0: no interface endpoint for sts; no interface endpoint for s3 yet",), ("ssm", "sts", "s3")),
    Row("two of a kind are one sentence", FAILED, (),
        (create("subnet-1", "subnet-2"), create("subnet-1", "subnet-2", service=DKR)),
        ("vpc-0: no interface endpoint for ssm, ecr.dkr.",), ("ssm", "ecr.dkr")),
    Row("what the Region lacks is said", PASSED, (endpoint(),), (), (f"{REGION} offers none for qldb.",),
        ("ssm", "qldb")),
    Row("the Region has none of them", NOT_APPLICABLE, words=(REGION, "qldb, chime"), services=("qldb", "chime")),
    Row("shared by another account", NOT_APPLICABLE, words=(OTHER_ACCOUNT,), vpc={"owner_id": OTHER_ACCOUNT}),
    Row("without subnets nothing is there yet", NOT_APPLICABLE, words=("no subnet yet",), vpc={"subnets": ()}),
    Row("the policy names nothing", NOT_APPLICABLE, words=("names no service",), services=()),
)  # fmt: skip


def judge(row: Row) -> Evaluation:
    """Evaluate a row's VPC."""
    vpc = Vpc("vpc-0", ACCOUNT, endpoints=row.endpoints, cidrs=CIDRS, subnets=(TWO, ONE), groups=GROUPS)
    vpc = replace(vpc, **row.vpc)
    snapshot = Snapshot(Scope(ACCOUNT, REGION), vpcs={"vpc-0": vpc}, interface_services=BOTH_NAMES)
    entry = {"mode": "remediate", "services": list(row.services), **row.parameters}
    policy = parse({"version": 1, "controls": {"VPCE.3": entry}})
    return VPCE_3.evaluate(snapshot, vpc, policy.settings(Subject(ACCOUNT, (), REGION, Kind.VPC, "vpc-0"), "VPCE.3"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdict_and_actions(row: Row) -> None:
    """Each VPC gets its verdict, exactly the actions that would make it right, and a sentence that says why."""
    evaluation = judge(row)

    assert evaluation.status is row.status
    assert [repr(action) for action in evaluation.actions] == [repr(action) for action in row.actions]
    assert (evaluation.control_id, evaluation.kind, evaluation.resource_id) == ("VPCE.3", Kind.VPC, "vpc-0")
    assert [word for word in row.words if word not in evaluation.reason] == []
    assert evaluation.reason.endswith(".")
    assert row.remedy in evaluation.remedy
    assert bool(evaluation.remedy) is (row.status is FAILED)
    assert evaluation.wait is None


@pytest.mark.parametrize("row", [row for row in ROWS if row.actions], ids=lambda row: row.name)
def test_what_is_created_answers(row: Row) -> None:
    """Once its actions are carried out, a VPC has nothing left that would be created: no second round."""
    made = tuple(
        endpoint(BOTH_NAMES[action.service_name], name=f"vpce-new-{number}", ours=True, private_dns=action.private_dns)
        for number, action in enumerate(row.actions)
        if isinstance(action, CreateInterfaceEndpoint)
    )
    assert judge(replace(row, endpoints=(*row.endpoints, *made))).actions == ()


def test_what_has_to_be_seen_is_all_that_is_asked_for_anywhere() -> None:
    """A scope may ask for other services than the top level does."""
    scope = {"name": "s", "where": {"accounts": [ACCOUNT]}, "controls": {"VPCE.3": {"services": ["sts", "ssm"]}}}
    policy = parse({"version": 1, "controls": {"VPCE.3": {"services": ["ssm", "kms"]}}, "scopes": [scope]})
    assert VPCE_3.needs(policy) == Needs(interface_services=frozenset({"ssm", "sts", "kms"}))


def test_a_policy_that_does_not_name_it_asks_for_nothing() -> None:
    """Nobody pays for observing what nobody wants."""
    assert VPCE_3.needs(parse({"version": 1, "controls": {}})) == Needs()


def test_many_services_fit_into_a_finding() -> None:
    """Ten services that all lack the same leave room for what Portcullis does about it."""
    assert len(judge(Row("", FAILED, services=tuple(SERVICES) * 2)).reason) < MAX_DESCRIPTION / 2
