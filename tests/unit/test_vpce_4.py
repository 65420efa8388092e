"""VPCE.4: a table of VPCs, what the policy wants of them, and their verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from portcullis.actions import Action, AdmitInstanceConnect, CreateInstanceConnectEndpoint
from portcullis.controls.vpce_4 import VPCE_4
from portcullis.findings import MAX_DESCRIPTION
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Evaluation,
    GroupRule,
    InstanceConnectEndpoint,
    Kind,
    Needs,
    Scope,
    SecurityGroup,
    Snapshot,
    Status,
    Subnet,
    Vpc,
)
from portcullis.policy import Subject, parse

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION

PASSED, FAILED, NOT_APPLICABLE = Status.PASSED, Status.FAILED, Status.NOT_APPLICABLE
OURS = {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE.4"}
CIDRS = ("10.0.0.0/16", "2001:db8::/56")
A, B = f"{REGION}a", f"{REGION}b"
ONE, TWO = Subnet("subnet-1", A), Subnet("subnet-2", B)
PUBLIC = Subnet("subnet-0", A, is_public=True)
FULL = Subnet("subnet-3", A, has_room=False)


def group(name: str, *ingress: GroupRule, egress: GroupRule | None = None) -> SecurityGroup:
    """Return a group; the endpoint's are those that let something out."""
    return SecurityGroup(name, ingress=ingress, egress=(egress,) if egress else ())


def ssh(**peers: Any) -> GroupRule:
    """Return a rule about SSH."""
    return GroupRule("tcp", (22, 22), **peers)


OUT = group("sg-e", egress=ssh(cidrs=("10.0.0.0/16",)))
GROUPS = {
    one.group_id: one
    for one in (
        OUT,
        group("sg-all", egress=GroupRule("-1", cidrs=("0.0.0.0/0",))),
        group("sg-v6", egress=ssh(cidrs=("2001:db8::/64",))),
        group("sg-elsewhere", egress=ssh(cidrs=("192.168.0.0/16",))),
        group("sg-https", egress=GroupRule("tcp", (443, 443), cidrs=("0.0.0.0/0",))),
        group("sg-to-open", egress=ssh(group_ids=("sg-open",))),
        group("sg-to-list", egress=ssh(prefix_list_ids=("pl-1",))),
        group("sg-none"),
        group("sg-open", ssh(group_ids=("sg-e",))),
        group("sg-vpc", ssh(cidrs=("10.0.0.0/16",))),
        group("sg-world", GroupRule("-1", cidrs=("0.0.0.0/0",))),
        group("sg-subnet", ssh(cidrs=("10.0.1.0/28",))),
        group("sg-host", ssh(cidrs=("10.0.1.5/32",))),
        group("sg-office", ssh(cidrs=("203.0.113.0/24",))),
        group("sg-list", ssh(prefix_list_ids=("pl-1",))),
        group("sg-web", GroupRule("tcp", (443, 443), cidrs=("0.0.0.0/0",)), GroupRule("udp", (22, 22))),
        group("sg-bastion", ssh(group_ids=("sg-other",))),
        group("sg-rdp", GroupRule("tcp", (3389, 3389), group_ids=("sg-e",))),
    )
}


def endpoint(name: str = "eice-1", *, ours: bool = False, **others: Any) -> InstanceConnectEndpoint:
    """Return a working endpoint whose group lets SSH out to the VPC."""
    fields: dict[str, Any] = {"state": "create-complete", "group_ids": ("sg-e",), "tags": OURS if ours else {}}
    return InstanceConnectEndpoint(name, "subnet-1", **(fields | others))


def create(
    subnet_id: str = "subnet-1", ports: tuple[int, ...] = (22,), group_id: str = "", *, preserve: bool = False
) -> CreateInstanceConnectEndpoint:
    """Return the expected creation."""
    return CreateInstanceConnectEndpoint(
        "VPCE.4", "vpc-0", subnet_id, CIDRS, ports, group_id, preserve_client_ip=preserve
    )


def admit(group_id: str, *ports: int) -> AdmitInstanceConnect:
    """Return the expected opening of a group of instances."""
    return AdmitInstanceConnect("VPCE.4", "vpc-0", group_id, "sg-e", ports or (22,))


@dataclass(frozen=True)
class Row:
    """One VPC, what the policy says, and what the control has to say."""

    name: str
    status: Status
    endpoints: tuple[InstanceConnectEndpoint, ...] = (endpoint(),)
    instances: tuple[tuple[str, ...], ...] = ()
    actions: tuple[Action, ...] = ()
    words: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    vpc: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""
    wait: str | None = None


ADDED = "100.64.0.0/16"
RULES = (ssh(cidrs=CIDRS), GroupRule("tcp", (3389, 3389), (*CIDRS, ADDED)))
MADE = SecurityGroup("sg-5", "portcullis-VPCE.4", egress=RULES, tags=OURS)
WITH_MADE = {"sg-0": replace(MADE, group_id="sg-0", name="database"), "sg-5": MADE}
MINE = (endpoint(ours=True, group_ids=("sg-5",)),)
OPEN = {"open_instances": True}
RDP = {"ports": [22, 3389]}
INGRESS = "aws ec2 authorize-security-group-ingress --group-id"
EGRESS = "aws ec2 authorize-security-group-egress --group-id"

ROWS = (
    Row("none: it is created", FAILED, (), (), (create(),), ("vpc-0 has no EC2 Instance Connect Endpoint.",)),
    Row("for the policy's ports", FAILED, (), (), (create(ports=(22, 3389)),), parameters=RDP),
    Row("preserving the client's address", FAILED, (), (), (create(preserve=True),),
        parameters={"preserve_client_ip": True}),
    Row("with our group, if it is there", FAILED, (), (), (create(group_id="sg-5"),),
        vpc={"groups": WITH_MADE}),
    Row("a private subnet first", FAILED, (), (), (create("subnet-2"),), vpc={"subnets": (PUBLIC, TWO)}),
    Row("the first zone, then the lowest id", FAILED, (), (), (create(),),
        vpc={"subnets": (TWO, Subnet("subnet-9", A), ONE)}),
    Row("a public one where there is no other", FAILED, (), (), (create("subnet-0"),), vpc={"subnets": (PUBLIC,)}),
    Row("never a full one", FAILED, (), (), (create("subnet-2"),), vpc={"subnets": (FULL, TWO)}),
    Row("all are full", FAILED, (), (), (), ("no room for one in subnet-3",), vpc={"subnets": (FULL,)},
        remedy="subnet-3"),
    *(Row(f"state {state} is one", PASSED, (endpoint(state=state),), words=("eice-1 leads to", "vpc-0", "TCP 22"))
      for state in ("create-complete", "create-in-progress", "update-in-progress", "update-complete", "update-failed")),
    Row("its creation failed: that is in the way", FAILED, (endpoint(state="create-failed", message="No addresses."),),
        (), (), ("eice-1 is create-failed: No addresses.",), remedy="--instance-connect-endpoint-id eice-1"),
    Row("ours, too, and can be undone", FAILED, (endpoint(state="create-failed", ours=True),), (), (),
        ("eice-1 is create-failed: AWS says no more.",), remedy="portcullis undo"),
    Row("its deletion failed", FAILED, (endpoint(state="delete-failed", message="In use"),), (), (),
        ("eice-1 is delete-failed: In use.",), remedy="delete-instance-connect-endpoint"),
    Row("a failed one beside one that works", PASSED, (endpoint("eice-0", state="create-failed"), endpoint())),
    Row("its deletion is awaited", FAILED, (endpoint(state="delete-in-progress"),), (), (create(),),
        wait="eice-1 is being deleted"),
    Row("it is deleted", FAILED, (endpoint(state="delete-complete"),), (), (create(),)),
    *(Row(f"out by {name}", PASSED, (endpoint(group_ids=(name,)),)) for name in ("sg-all", "sg-v6", "sg-to-list")),
    Row("out by one of two groups", PASSED, (endpoint(group_ids=("sg-none", "sg-all")),)),
    Row("an unknown group of it is not blamed", PASSED, (endpoint(group_ids=("sg-none", "sg-x")),)),
    Row("no group of it is not blamed", PASSED, (endpoint(group_ids=()),), (("sg-web",),)),
    Row("out to the group of instances", PASSED, (endpoint(group_ids=("sg-to-open", "sg-e")),), (("sg-open",),)),
    Row("out to a group, and no instance yet", PASSED, (endpoint(group_ids=("sg-to-open",)),)),
    Row("out to a group that no instance has", FAILED, (endpoint(group_ids=("sg-to-open",)),), (("sg-vpc",),), (),
        ("eice-1, but its security groups (sg-to-open) let no TCP 22 out to instances",),
        remedy=f"{EGRESS} sg-to-open --protocol tcp --port 22 --cidr 10.0.0.0/16"),
    *(Row(f"not out by {name}", FAILED, (endpoint(group_ids=(name,)),), (), (), (name, "TCP 22 out"), remedy=EGRESS)
      for name in ("sg-none", "sg-elsewhere", "sg-https")),
    Row("ours lets out to the whole VPC", PASSED, MINE, vpc={"groups": WITH_MADE}),
    Row("a block that the VPC got since is not reached by ours", FAILED, MINE, (), (),
        (f"its security groups (sg-5) let no TCP 22 out to instances in {ADDED}.",), RDP,
        {"groups": WITH_MADE, "cidrs": (*CIDRS, ADDED)},
        remedy=f"Open the way: {EGRESS} sg-5 --protocol tcp --port 22 --cidr {ADDED}"),
    Row("nor one of IPv6, which has its own command", FAILED, MINE, (), (), ("out to instances in 2001:db8::/56.",),
        vpc={"groups": {"sg-5": replace(MADE, egress=OUT.egress)}},
        remedy="sg-5 --ip-permissions 'IpProtocol=tcp,FromPort=22,ToPort=22,Ipv6Ranges=[{CidrIpv6=2001:db8::/56}]'"),
    Row("not out on one of the ports", FAILED, (), (), (), ("let no TCP 3389 out",), parameters=RDP,
        vpc={"instance_connect": (endpoint(ours=True),)}, remedy=f"{EGRESS} sg-e --protocol tcp --port 3389"),
    *(Row(f"admitted by {name}", PASSED, instances=((name,),))
      for name in ("sg-open", "sg-vpc", "sg-world", "sg-subnet", "sg-list")),
    Row("one group of a set is enough", PASSED, instances=(("sg-open", "sg-web"),)),
    Row("an unknown group of instances is not blamed", PASSED, instances=(("sg-web", "sg-x"),)),
    *(Row(f"not admitted by {name}", FAILED, instances=((name,),), words=(name, "do not admit it on TCP 22"),
          remedy=f"{INGRESS} {name} --protocol tcp --port 22 --source-group sg-e")
      for name in ("sg-web", "sg-host", "sg-office", "sg-bastion", "sg-rdp")),
    Row("one set of two", FAILED, instances=(("sg-open",), ("sg-bastion", "sg-web")), words=("sg-bastion+sg-web",)),
    Row("it is opened if the policy says so", FAILED, instances=(("sg-web",),), actions=(admit("sg-web"),),
        parameters=OPEN),
    Row("the first group of each set", FAILED, instances=(("sg-bastion", "sg-web"), ("sg-host",), ("sg-open",)),
        actions=(admit("sg-bastion"), admit("sg-host")), parameters=OPEN),
    Row("a group that opens two sets is opened once", FAILED, instances=(("sg-bastion", "sg-web"), ("sg-web",)),
        actions=(admit("sg-web"),), parameters=OPEN),
    Row("only the ports that lack", FAILED, (endpoint(group_ids=("sg-e", "sg-all")),), (("sg-rdp",), ("sg-web",)),
        (admit("sg-rdp"), admit("sg-web", 22, 3389)), ("on TCP 22, 3389",), OPEN | RDP),
    Row("both ends", FAILED, (endpoint(group_ids=("sg-none",)),), (("sg-web",),), (),
        ("sg-none", "and instances with the security groups sg-web"), remedy=INGRESS),
    Row("the client's address is not judged", PASSED, (endpoint(preserve_client_ip=True),), (("sg-web",),),
        words=("the client's address, which it preserves, is not judged.",)),
    Row("the way out is, even then", FAILED, (endpoint(preserve_client_ip=True, group_ids=("sg-none",)),),
        words=("sg-none",)),
    Row("shared by another account", NOT_APPLICABLE, (), words=(OTHER_ACCOUNT,), vpc={"owner_id": OTHER_ACCOUNT}),
    Row("without subnets there is no instance", NOT_APPLICABLE, (), words=("no subnet",), vpc={"subnets": ()}),
)  # fmt: skip


def judge(row: Row) -> Evaluation:
    """Evaluate a row's VPC."""
    vpc = Vpc(
        "vpc-0",
        ACCOUNT,
        cidrs=CIDRS,
        subnets=(TWO, ONE),
        groups=GROUPS,
        instance_groups=row.instances,
        instance_connect=row.endpoints,
    )
    vpc = replace(vpc, **row.vpc)
    policy = parse({"version": 1, "controls": {"VPCE.4": {"mode": "remediate", **row.parameters}}})
    settings = policy.settings(Subject(ACCOUNT, (), REGION, Kind.VPC, "vpc-0"), "VPCE.4")
    return VPCE_4.evaluate(Snapshot(Scope(ACCOUNT, REGION), vpcs={"vpc-0": vpc}), vpc, settings)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdict_and_actions(row: Row) -> None:
    """Each VPC gets its verdict, exactly the actions that would make it right, and a sentence that says why."""
    evaluation = judge(row)

    assert evaluation.status is row.status
    assert [repr(action) for action in evaluation.actions] == [repr(action) for action in row.actions]
    assert (evaluation.control_id, evaluation.kind, evaluation.resource_id) == ("VPCE.4", Kind.VPC, "vpc-0")
    assert [word for word in row.words if word not in evaluation.reason] == []
    assert evaluation.reason.endswith(".")
    assert row.remedy in evaluation.remedy
    assert bool(evaluation.remedy) is (row.status is FAILED)
    assert evaluation.wait == row.wait


@pytest.mark.parametrize("row", [row for row in ROWS if "open_instances" in row.parameters], ids=lambda row: row.name)
def test_what_is_opened_lets_the_endpoint_in(row: Row) -> None:
    """Once its actions are carried out, every instance admits the endpoint: no second round."""
    groups = dict(GROUPS)
    for action in row.actions:
        assert isinstance(action, AdmitInstanceConnect)
        rules = tuple(GroupRule("tcp", (port, port), group_ids=(action.source_group_id,)) for port in action.ports)
        old = groups[action.group_id]
        groups[action.group_id] = replace(old, ingress=(*old.ingress, *rules))
    assert judge(replace(row, vpc={"groups": groups})).status is PASSED


def test_it_asks_for_these_endpoints_to_be_seen() -> None:
    """With them come subnets and security groups."""
    assert VPCE_4.needs(parse({"version": 1, "controls": {"VPCE.4": {"mode": "detect"}}})) == Needs(
        instance_connect=True
    )


def test_many_sets_of_groups_fit_into_a_finding() -> None:
    """200 sets with ids as long as AWS's are named or counted."""
    groups = {f"sg-{number:017x}": group(f"sg-{number:017x}") for number in range(200)}
    row = Row("", FAILED, instances=tuple((name,) for name in groups), vpc={"groups": GROUPS | groups})
    evaluation = judge(row)
    assert "and 196 more do not admit it" in evaluation.reason
    assert len(evaluation.reason) + len(evaluation.remedy) < MAX_DESCRIPTION
