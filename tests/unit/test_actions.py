"""Actions as values: written down and read again, turned around, and recognised in what is there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from portcullis.actions import (
    ACTIONS,
    Action,
    AddRouteTables,
    AdmitInstanceConnect,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    CreateInstanceConnectEndpoint,
    CreateInterfaceEndpoint,
    DeleteEndpoint,
    DeleteInstanceConnectEndpoint,
    DeleteSecurityGroup,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
    RestoreEndpointPolicy,
    SetEndpointPolicy,
    StopAdmitting,
    decode,
    encode,
)
from portcullis.endpoint_policies import FULL_ACCESS, digest
from portcullis.model import (
    CHANGE_TAG,
    CONTROL_TAG,
    OWNERSHIP_TAG,
    GroupRule,
    Instance,
    InstanceConnectEndpoint,
    InstanceProfile,
    Made,
    Resource,
    SecurityGroup,
    Vpc,
    VpcEndpoint,
)

CHANGE = "20260302T090000Z-0123456789"
MINE = {OWNERSHIP_TAG: "true", CHANGE_TAG: CHANGE}
TIGHT = '{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}]}'
CIDRS = ("10.0.0.0/16",)
CREATE = CreateGatewayEndpoint("VPCE.1", "vpc-0", "s3", ("rtb-0", "rtb-1"))
INTERFACE = CreateInterfaceEndpoint("VPCE.3", "vpc-0", "ssm", ("subnet-0", "subnet-1"), CIDRS)
CONNECT = CreateInstanceConnectEndpoint("VPCE.4", "vpc-0", "subnet-0", CIDRS, (22,))
ADD = AddRouteTables("VPCE.1", "vpc-0", "vpce-0", "s3", ("rtb-1",))
REMOVE = RemoveFromEndpoint("VPCE.1", "vpc-0", "vpce-0", "s3", ("rtb-1",))
REMOVE_SUBNET = RemoveFromEndpoint("VPCE.3", "vpc-0", "vpce-1", "ssm", (), ("subnet-1",))
DELETE = DeleteEndpoint("VPCE.1", "vpc-0", "vpce-0", "s3")
DELETE_BOTH = DeleteEndpoint("VPCE.3", "vpc-0", "vpce-1", "ssm", "sg-3")
DELETE_CONNECT = DeleteInstanceConnectEndpoint("VPCE.4", "vpc-0", "eice-0", "sg-4")
DELETE_GROUP = DeleteSecurityGroup("VPCE.3", "vpc-0", "sg-3")
SET = SetEndpointPolicy("VPCE.5", "vpc-0", "vpce-0", "s3", "tight", TIGHT)
RESTORE = RestoreEndpointPolicy("VPCE.5", "vpc-0", "vpce-0", "s3", "tight", FULL_ACCESS)
ADMIT = AdmitInstanceConnect("VPCE.4", "vpc-0", "sg-9", "sg-4", (22, 3389))
STOP = StopAdmitting("VPCE.4", "vpc-0", "sg-9", "sg-4", (22, 3389))
ASSOCIATE = AssociateInstanceProfile("ROLE.1", "i-0", "default")
DISASSOCIATE = DisassociateInstanceProfile("ROLE.1", "i-0", "default", "assoc-0")
ALL: tuple[Action, ...] = (
    *(CREATE, INTERFACE, CONNECT, ADD, REMOVE, REMOVE_SUBNET, DELETE, DELETE_BOTH, DELETE_CONNECT, DELETE_GROUP),
    *(SET, RESTORE, ADMIT, STOP, ASSOCIATE, DISASSOCIATE),
)

OURS = VpcEndpoint("vpce-0", "vpc-0", "Gateway", "s3", "available", ("rtb-0",), policy_document=FULL_ACCESS, tags=MINE)
SSM = VpcEndpoint(
    *("vpce-1", "vpc-0", "Interface", "ssm", "available"),
    subnet_ids=("subnet-0", "subnet-1"),
    group_ids=("sg-3",),
    tags=MINE,
)
EICE = InstanceConnectEndpoint("eice-0", "subnet-0", "create-complete", group_ids=("sg-4",), tags=MINE)
PROFILE = InstanceProfile("default", "arn", ("role",))
BARE, HAS = Instance("i-0", "running"), Instance("i-0", "running", profile=PROFILE, association_id="assoc-0")


def vpc(*endpoints: VpcEndpoint) -> Vpc:
    """Return a VPC with some endpoints."""
    return Vpc("vpc-0", "1", endpoints=endpoints)


def wide(*more: VpcEndpoint, eice: InstanceConnectEndpoint | None = EICE, **groups: tuple[GroupRule, ...]) -> Vpc:
    """Return a VPC with an interface endpoint, an Instance Connect Endpoint, their groups and others with rules."""
    held = {
        f"sg-{number}": SecurityGroup(
            f"sg-{number}", f"portcullis-VPCE.{number}", tags=MINE | {CONTROL_TAG: f"VPCE.{number}"}
        )
        for number in (3, 4)
    }
    held |= {f"sg-{key[2:]}": SecurityGroup(f"sg-{key[2:]}", ingress=rules) for key, rules in groups.items()}
    return Vpc("vpc-0", "1", endpoints=(SSM, *more), groups=held, instance_connect=(eice,) if eice else ())


def admitting(*ports: int) -> tuple[GroupRule, ...]:
    """Return the rules by which a group admits the Instance Connect Endpoint's."""
    return tuple(GroupRule("tcp", (port, port), group_ids=("sg-4",)) for port in ports)


LEFT: dict[str, Any] = {"route_table_ids": ["rtb-0"], "subnet_ids": [], "policy_digest": ""}

each = pytest.mark.parametrize("action", ALL, ids=lambda action: type(action).__name__)


def test_these_are_all_there_are() -> None:
    """A new action has to be thought about in each of the tests below."""
    assert {type(action) for action in ALL} == set(ACTIONS)


@each
def test_what_is_written_is_read_as_the_same(action: Action) -> None:
    """By way of JSON."""
    assert decode(json.loads(json.dumps(encode(action)))) == action


@pytest.mark.parametrize("data", [{}, {"type": "Nothing"}, {"type": "DeleteEndpoint"}])
def test_anything_else_is_refused(data: dict[str, Any]) -> None:
    """It is not guessed at."""
    with pytest.raises(KeyError):
        decode(data)


@each
def test_each_says_what_it_does_to_what(action: Action) -> None:
    """As a phrase after 'will'."""
    names = [value for name in ("endpoint_id", "instance_id", "group_id") if (value := getattr(action, name, ""))]
    assert all(name in str(action) for name in names or ["subnet-0" if action is CONNECT else "endpoint"])
    assert str(action)[0].islower()


@pytest.mark.parametrize(
    ("action", "made", "resource", "back"),
    [
        (CREATE, "vpce-0", vpc(OURS), DELETE),
        (INTERFACE, "vpce-1", wide(), DELETE_BOTH),
        (INTERFACE, "vpce-1", wide(replace(SSM, endpoint_id="vpce-2")), replace(DELETE_BOTH, group_id="")),
        (INTERFACE, "vpce-1", vpc(SSM), replace(DELETE_BOTH, group_id="")),
        (INTERFACE, "vpce-1", None, replace(DELETE_BOTH, group_id="")),
        (CONNECT, "eice-0", wide(), DELETE_CONNECT),
        (CONNECT, "eice-0", None, replace(DELETE_CONNECT, group_id="")),
        (ADD, "vpce-0", vpc(OURS), REMOVE),
        (SET, "vpce-0", vpc(OURS), RESTORE),
        (ADMIT, "sg-9", wide(), STOP),
        (ASSOCIATE, "assoc-0", HAS, DISASSOCIATE),
        *((action, "it", wide(), None) for action in ALL if action.takes_back),
    ],
)
def test_what_makes_something_is_undone_by_what_takes_it_back(
    action: Action, made: str, resource: Resource | None, back: Action | None
) -> None:
    """With the group that no other endpoint has. What takes something back is not undone: it is approved anew."""
    assert action.inverse(made, {"policy": FULL_ACCESS}, resource) == back
    assert action.takes_back is (back is None)
    assert back is None or back.takes_back


@pytest.mark.parametrize(
    ("action", "resource", "made"),
    [
        (CREATE, vpc(OURS), "vpce-0"),
        (CREATE, vpc(replace(OURS, state="pending")), "vpce-0"),
        (CREATE, vpc(replace(OURS, state="deleting")), None),
        (CREATE, vpc(replace(OURS, tags={OWNERSHIP_TAG: "true", CHANGE_TAG: "another"})), None),
        (CREATE, vpc(replace(OURS, tags={CHANGE_TAG: CHANGE})), None),
        (CREATE, vpc(), None),
        (CREATE, None, None),
        (CREATE, BARE, None),
        (INTERFACE, wide(), "vpce-1"),
        (INTERFACE, BARE, None),
        (CONNECT, wide(), "eice-0"),
        (CONNECT, wide(eice=replace(EICE, state="create-failed")), None),
        (CONNECT, wide(eice=replace(EICE, tags={})), None),
        (CONNECT, None, None),
        (REMOVE_SUBNET, wide(), None),
        (REMOVE_SUBNET, vpc(replace(SSM, subnet_ids=("subnet-0",))), "vpce-1"),
        (DELETE_BOTH, wide(), None),
        (DELETE_BOTH, Vpc("vpc-0", "1", groups={"sg-3": SecurityGroup("sg-3")}), None),
        (DELETE_BOTH, vpc(), "vpce-1"),
        (DELETE_CONNECT, wide(), None),
        (DELETE_CONNECT, wide(eice=None), None),
        (DELETE_CONNECT, vpc(), "eice-0"),
        (DELETE_CONNECT, None, "eice-0"),
        (DELETE_GROUP, wide(), None),
        (DELETE_GROUP, vpc(), "sg-3"),
        (SET, vpc(OURS), None),
        (SET, vpc(replace(OURS, policy_digest=digest(TIGHT))), "vpce-0"),
        (SET, None, None),
        (RESTORE, vpc(replace(OURS, policy_digest=digest(FULL_ACCESS))), "vpce-0"),
        (ADMIT, wide(sg9=admitting(22, 3389)), "sg-9"),
        (ADMIT, wide(sg9=admitting(22)), None),
        (ADMIT, wide(sg9=(GroupRule("tcp", (22, 22), CIDRS),)), None),
        (ADMIT, None, None),
        (STOP, wide(sg9=admitting(22)), None),
        (STOP, wide(sg9=()), "sg-9"),
        (STOP, None, "sg-9"),
        (ADD, vpc(replace(OURS, route_table_ids=("rtb-0", "rtb-1"))), "vpce-0"),
        (ADD, vpc(OURS), None),
        (ADD, vpc(), None),
        (REMOVE, vpc(OURS), "vpce-0"),
        (REMOVE, vpc(replace(OURS, route_table_ids=("rtb-0", "rtb-1"))), None),
        (REMOVE, vpc(), "vpce-0"),
        (DELETE, vpc(OURS), None),
        (DELETE, vpc(replace(OURS, state="deleting")), "vpce-0"),
        (DELETE, vpc(), "vpce-0"),
        (ASSOCIATE, HAS, "assoc-0"),
        (ASSOCIATE, replace(HAS, profile=replace(PROFILE, name="theirs")), None),
        (ASSOCIATE, BARE, None),
        (ASSOCIATE, vpc(), None),
        (DISASSOCIATE, BARE, "assoc-0"),
        (DISASSOCIATE, replace(HAS, association_id="assoc-1"), "assoc-0"),
        (DISASSOCIATE, HAS, None),
        (DISASSOCIATE, None, "assoc-0"),
        (DELETE, None, "vpce-0"),
    ],
)
def test_whether_it_was_performed_is_seen_from_what_is_there(
    action: Action, resource: Resource | None, made: str | None
) -> None:
    """A creation by its change's tag, so that an endpoint of an earlier change is not taken for it."""
    assert action.made_in(resource, CHANGE) == made


@pytest.mark.parametrize(
    ("action", "resource", "state"),
    [
        (CREATE, vpc(OURS), {"endpoints": {"vpce-0": ["rtb-0"]}}),
        (CREATE, vpc(replace(OURS, service_name="dynamodb")), {"endpoints": {}}),
        (ADD, vpc(OURS), LEFT),
        (REMOVE, vpc(OURS), LEFT),
        (DELETE, vpc(OURS), LEFT),
        (DELETE, vpc(), {}),
        (INTERFACE, wide(), {"endpoints": {"vpce-1": ["subnet-0", "subnet-1"]}}),
        (CONNECT, wide(), {"instance_connect_endpoints": {"eice-0": "create-complete"}}),
        (CONNECT, None, {"instance_connect_endpoints": {}}),
        (SET, vpc(OURS), LEFT | {"policy": FULL_ACCESS}),
        (SET, None, {"policy": ""}),
        (DELETE_CONNECT, wide(), {}),
        (ASSOCIATE, BARE, {"profile": None}),
        (DISASSOCIATE, HAS, {"profile": "default"}),
        (CREATE, None, {"endpoints": {}}),
        (ASSOCIATE, None, {"profile": None}),
    ],
)
def test_the_state_before_is_what_it_is_about_to_change(
    action: Action, resource: Resource | None, state: dict[str, Any]
) -> None:
    """As JSON values, for the ledger."""
    assert json.loads(json.dumps(action.before(resource))) == state


@pytest.mark.parametrize(
    ("action", "resource", "left"),
    [
        (ADD, vpc(OURS), LEFT | {"route_table_ids": ["rtb-0", "rtb-1"]}),
        (ADD, None, {"route_table_ids": ["rtb-1"]}),
        (REMOVE, vpc(replace(OURS, route_table_ids=("rtb-0", "rtb-1"))), LEFT),
        (REMOVE_SUBNET, wide(), LEFT | {"route_table_ids": [], "subnet_ids": ["subnet-0"]}),
        (SET, vpc(OURS), LEFT | {"policy_digest": digest(TIGHT)}),
        (DELETE, vpc(OURS), {}),
    ],
)
def test_what_a_modification_leaves_is_told_where_aws_does_not(
    action: Action, resource: Resource | None, left: dict[str, Any]
) -> None:
    """From what was there before it, as JSON values."""
    assert action.expected(resource) == left


@pytest.mark.parametrize(
    ("action", "known", "owned"),
    [
        (CREATE, None, Made("new", ("rtb-0", "rtb-9"), (), "d")),
        (ADD, None, Made("new", ("rtb-1",), (), "d")),
        (ADD, Made("old", ("rtb-0",), (), "d"), Made("old", ("rtb-0", "rtb-1"), (), "d")),
        (REMOVE, Made("old", ("rtb-0", "rtb-1")), Made("old", ("rtb-0",))),
        (REMOVE_SUBNET, Made("old", (), ("subnet-0", "subnet-1")), Made("old", (), ("subnet-0",))),
        (REMOVE, None, Made("new", ("rtb-0", "rtb-9"), (), "d")),
        (SET, Made("old", ("rtb-0",), (), "d"), Made("old", ("rtb-0",), (), digest(TIGHT))),
        (SET, None, Made("new", (), (), digest(TIGHT))),
        (DELETE, Made("old"), None),
        (DELETE_CONNECT, Made("old"), None),
        (DELETE_GROUP, None, None),
        (STOP, Made("old"), None),
        (DISASSOCIATE, Made("old"), None),
    ],
)
def test_what_is_ours_afterwards(action: Action, known: Made | None, owned: Made | None) -> None:
    """What others gave an endpoint does not become ours by our changing it; what was deleted is nobody's."""
    assert action.own(known, Made("new", ("rtb-0", "rtb-9"), (), "d")) == owned
