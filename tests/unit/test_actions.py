"""Actions as values: written down and read again, turned around, and recognised in what is there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from portcullis.actions import (
    Action,
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    DeleteEndpoint,
    DisassociateInstanceProfile,
    RemoveRouteTables,
    accomplished,
    decode,
    encode,
    inverse,
    state_of,
    takes_back,
)
from portcullis.model import CHANGE_TAG, OWNERSHIP_TAG, Instance, InstanceProfile, Resource, Vpc, VpcEndpoint

CHANGE = "20260302T090000Z-0123456789"
CREATE = CreateGatewayEndpoint("VPCE.1", "vpc-0", "s3", ("rtb-0", "rtb-1"))
ADD = AddRouteTables("VPCE.1", "vpc-0", "vpce-0", "s3", ("rtb-1",))
REMOVE = RemoveRouteTables("VPCE.1", "vpc-0", "vpce-0", "s3", ("rtb-1",))
DELETE = DeleteEndpoint("VPCE.1", "vpc-0", "vpce-0", "s3")
ASSOCIATE = AssociateInstanceProfile("ROLE.1", "i-0", "default")
DISASSOCIATE = DisassociateInstanceProfile("ROLE.1", "i-0", "default", "assoc-0")
ALL: tuple[Action, ...] = (CREATE, ADD, REMOVE, DELETE, ASSOCIATE, DISASSOCIATE)

OURS = VpcEndpoint(
    "vpce-0", "vpc-0", "Gateway", "s3", "available", ("rtb-0",), tags={OWNERSHIP_TAG: "true", CHANGE_TAG: CHANGE}
)
PROFILE = InstanceProfile("default", "arn", ("role",))
BARE, HAS = Instance("i-0", "running"), Instance("i-0", "running", profile=PROFILE, association_id="assoc-0")


def vpc(*endpoints: VpcEndpoint) -> Vpc:
    """Return a VPC with some endpoints."""
    return Vpc("vpc-0", "1", endpoints=endpoints)


each = pytest.mark.parametrize("action", ALL, ids=lambda action: type(action).__name__)


def test_these_are_all_there_are() -> None:
    """A new action has to be thought about in each of the tests below."""
    assert {type(action) for action in ALL} == set(Action.__args__)


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
    name = action.instance_id if isinstance(action, AssociateInstanceProfile | DisassociateInstanceProfile) else "s3"
    assert name in str(action)
    assert str(action)[0].islower()


@pytest.mark.parametrize(
    ("action", "back"),
    [
        (CREATE, DELETE),
        (ADD, REMOVE),
        (ASSOCIATE, replace(DISASSOCIATE, association_id="vpce-0")),
        (REMOVE, None),
        (DELETE, None),
        (DISASSOCIATE, None),
    ],
)
def test_what_makes_something_is_undone_by_what_takes_it_back(action: Action, back: Action | None) -> None:
    """What takes something back is not undone: it is approved anew."""
    assert inverse(action, "vpce-0") == back
    assert takes_back(action) is (back is None)
    assert back is None or takes_back(back)


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
    assert accomplished(action, resource, CHANGE) == made


@pytest.mark.parametrize(
    ("action", "resource", "state"),
    [
        (CREATE, vpc(OURS), {"endpoints": {"vpce-0": ["rtb-0"]}}),
        (CREATE, vpc(replace(OURS, service_name="dynamodb")), {"endpoints": {}}),
        (ADD, vpc(OURS), {"route_table_ids": ["rtb-0"]}),
        (REMOVE, vpc(OURS), {"route_table_ids": ["rtb-0"]}),
        (DELETE, vpc(OURS), {"route_table_ids": ["rtb-0"]}),
        (DELETE, vpc(), {}),
        (ASSOCIATE, BARE, {"profile": None}),
        (DISASSOCIATE, HAS, {"profile": "default"}),
        (CREATE, None, {}),
        (ASSOCIATE, None, {}),
    ],
)
def test_the_state_before_is_what_it_is_about_to_change(
    action: Action, resource: Resource | None, state: dict[str, Any]
) -> None:
    """As JSON values, for the ledger."""
    assert state_of(action, resource) == json.loads(json.dumps(state))
