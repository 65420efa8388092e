"""The process dies before and after every call, and nothing is made twice, forgotten or told untruly.

Each story is one remediation, from the message that brings it to its end. It is told once to count its calls; then
again for every one of them, dying right before the call takes effect and right after. The message is then delivered
again, as SQS does. In the end there is exactly one change in the world, one entry for it in the ledger, and a
finding that is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.ledger import Progress
from portcullis.model import Ask, Caller, Cause, Conflict, InterfaceService, Request, Target
from portcullis.policy import Mode

from tests.fakes import REGION, CrashError, Trouble, World, instance, policy_of, vpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.policy import Policy

APPROVE = {"VPCE_1": Mode.APPROVE, "VPCE_2": Mode.OFF}
S3_ONLY = {"VPCE_2": Mode.OFF}
CRASH = Trouble(CrashError("at the outcome"))
PAT = "arn:aws:iam::111122223333:user/pat"

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class Story:
    """A remediation.

    ``begin`` prepares the world and says what is looked at, and why; ``modes`` (or ``entries``) are those of the
    policy; ``ends`` is the finding's state and what the ledger lists as applied, by type, the first first.
    """

    begin: Callable[[World], tuple[Target, Cause]]
    control_id: str
    ends: str
    applied: tuple[str, ...]
    modes: dict[str, Mode]
    entries: dict[str, Any] | None = None

    @property
    def policy(self) -> Policy:
        """What is wanted: ``entries`` instead of the modes, where there are some."""
        return policy_of({"controls": self.entries, **TIGHT} if self.entries else None, **self.modes)


def bare_vpc(world: World) -> tuple[Target, Cause]:
    """Somebody creates a VPC."""
    return vpc(world.aws.region().create_vpc()), Cause("CreateVpc/e-1", Caller.OTHER)


def covered_vpc(world: World) -> str:
    """Return a VPC for which we have made an endpoint."""
    target, cause = bare_vpc(world)
    world.enqueue(target, cause=cause)
    world.drain()
    return str(target.resource_id)


def another_table(world: World) -> tuple[Target, Cause]:
    """Somebody adds a route table with a subnet to it."""
    vpc_id = covered_vpc(world)
    world.aws.region().add_route_table(vpc_id, subnet=True)
    return vpc(vpc_id), Cause("CreateSubnet/e-2", Caller.OTHER)


def bare_instance(world: World) -> tuple[Target, Cause]:
    """Somebody launches an instance."""
    return instance(world.aws.region().launch_instance()), Cause("RunInstances/e-1", Caller.OTHER)


def approved_vpc(world: World) -> tuple[Target, Cause]:
    """A person approves what the finding proposes."""
    target, cause = bare_vpc(world)
    world.enqueue(target, cause=cause)
    world.drain()
    return target, Cause("approval/e-2", request=Request(Ask.REMEDIATE, "VPCE.1", PAT))


def their_endpoint_failed(world: World) -> tuple[Target, Cause]:
    """Their pipeline creates the endpoint that we have."""
    vpc_id = covered_vpc(world)
    place = world.aws.region()
    service_name = place.gateway_services["s3"]
    conflict = Conflict("CreateVpcEndpoint", PAT, service_name, (place.main_table(vpc_id),))
    return vpc(vpc_id), Cause("CreateVpcEndpoint/e-2", Caller.TERRAFORM, conflict=conflict)


def their_endpoint_failed_on_one_table(world: World) -> tuple[Target, Cause]:
    """Their pipeline creates an endpoint on one of the tables that ours has."""
    target, cause = another_table(world)
    world.enqueue(target, cause=cause)
    world.drain()
    place = world.aws.region()
    table_id = next(one.route_table_id for one in place.tables_of(str(target.resource_id)) if not one.is_main)
    conflict = Conflict("CreateVpcEndpoint", PAT, place.gateway_services["s3"], (table_id,))
    return target, Cause("CreateVpcEndpoint/e-3", Caller.TERRAFORM, conflict=conflict)


def their_deletion_failed(world: World) -> tuple[Target, Cause]:
    """Their pipeline deletes the VPC, in which our endpoint is what is left."""
    return vpc(covered_vpc(world)), Cause("DeleteVpc/e-2", Caller.TERRAFORM, conflict=Conflict("DeleteVpc", PAT))


def undone_endpoint(world: World) -> tuple[Target, Cause]:
    """A person takes our endpoint back."""
    return vpc(covered_vpc(world)), Cause("approval/e-2", request=Request(Ask.UNDO, "VPCE.1", PAT))


def undone_tables(world: World) -> tuple[Target, Cause]:
    """A person takes the route tables back that we added."""
    target, cause = another_table(world)
    world.enqueue(target, cause=cause)
    world.drain()
    return target, Cause("approval/e-3", request=Request(Ask.UNDO, "VPCE.1", PAT))


def undone_profile(world: World) -> tuple[Target, Cause]:
    """A person takes the instance profile back."""
    target, cause = bare_instance(world)
    world.enqueue(target, cause=cause)
    world.drain()
    return target, Cause("approval/e-2", request=Request(Ask.UNDO, "ROLE.1", PAT))


def private_vpc(world: World) -> tuple[Target, Cause]:
    """Somebody creates a VPC with a subnet in each of two zones, and a group that its instances have."""
    target, cause = bare_vpc(world)
    vpc_id, link = str(target.resource_id), world.aws.region().link
    for zone in "ab":
        link.add_subnet(vpc_id, f"{REGION}{zone}")
    for name in ("ssm", "ssmmessages"):
        link.services[name] = InterfaceService(f"com.amazonaws.{REGION}.{name}", (), (f"{name}.amazonaws.com",))
        link.services[link.services[name].service_name] = link.services[name]
    link.instance_groups[vpc_id] = ((link.add_group(vpc_id),),)
    return target, cause


def after_it(ask: str) -> Callable[[World], tuple[Target, Cause]]:
    """Let the policy bring a private VPC to where it wants it, then a person undo something, or delete a subnet."""

    def begin(world: World) -> tuple[Target, Cause]:
        target, cause = private_vpc(world)
        world.enqueue(target, cause=cause)
        world.drain()
        if ask != "DeleteSubnet":
            return target, Cause("approval/e-2", request=Request(Ask.UNDO, ask, PAT))
        subnet_id = next(iter(world.aws.region().link.subnets))
        return target, Cause("DeleteSubnet/e-2", Caller.OTHER, conflict=Conflict(ask, PAT, subnet_id=subnet_id))

    return begin


CREATE, ADD = "CreateGatewayEndpoint", "AddRouteTables"
INTERFACE, CONNECT, ADMIT = "CreateInterfaceEndpoint", "CreateInstanceConnectEndpoint", "AdmitInstanceConnect"
TIGHT = {
    "endpoint_policies": {"tight": {"document": {"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*"}]}}}
}
TWO_SERVICES: dict[str, Any] = {"VPCE.3": {"mode": "remediate", "services": ["ssm", "ssmmessages"]}}
ONE_SERVICE: dict[str, Any] = {"VPCE.3": {"mode": "remediate", "services": ["ssm"]}}
SSH: dict[str, Any] = {"VPCE.4": {"mode": "remediate", "open_instances": True}}
PERIMETER: dict[str, Any] = {
    "VPCE.1": {"mode": "remediate"},
    "VPCE.5": {"mode": "remediate", "policies": {"s3": "tight"}},
}
STORIES = {
    "create an endpoint": Story(bare_vpc, "VPCE.1", "PASSED", (CREATE,), S3_ONLY),
    "create two endpoints": Story(bare_vpc, "VPCE.2", "PASSED", (CREATE, CREATE), {}),
    "add route tables": Story(another_table, "VPCE.1", "PASSED", (CREATE, ADD), S3_ONLY),
    "associate a profile": Story(bare_instance, "ROLE.1", "PASSED", ("AssociateInstanceProfile",), {}),
    "approve": Story(approved_vpc, "VPCE.1", "PASSED", (CREATE,), APPROVE),
    "make way": Story(their_endpoint_failed, "VPCE.1", "FAILED", (CREATE, "DeleteEndpoint"), S3_ONLY),
    "make way on one table": Story(
        their_endpoint_failed_on_one_table, "VPCE.1", "FAILED", (CREATE, ADD, "RemoveFromEndpoint"), S3_ONLY
    ),
    "make way for a deletion": Story(their_deletion_failed, "VPCE.1", "FAILED", (CREATE, "DeleteEndpoint"), S3_ONLY),
    "undo an endpoint": Story(undone_endpoint, "VPCE.1", "FAILED", (CREATE, "DeleteEndpoint"), S3_ONLY),
    "undo route tables": Story(undone_tables, "VPCE.1", "FAILED", (CREATE, ADD, "RemoveFromEndpoint"), S3_ONLY),
    "undo a profile": Story(
        undone_profile, "ROLE.1", "FAILED", ("AssociateInstanceProfile", "DisassociateInstanceProfile"), {}
    ),
    "interface endpoints": Story(private_vpc, "VPCE.3", "PASSED", (INTERFACE,) * 2, {}, TWO_SERVICES),
    "undo an interface endpoint": Story(
        after_it("VPCE.3"), "VPCE.3", "FAILED", (INTERFACE, "DeleteEndpoint"), {}, ONE_SERVICE
    ),
    "make way in one subnet": Story(
        after_it("DeleteSubnet"), "VPCE.3", "PASSED", (INTERFACE, "RemoveFromEndpoint"), {}, ONE_SERVICE
    ),
    "instance connect": Story(private_vpc, "VPCE.4", "PASSED", (CONNECT, ADMIT), {}, SSH),
    "undo instance connect": Story(after_it("VPCE.4"), "VPCE.4", "FAILED", (CONNECT, ADMIT, "StopAdmitting"), {}, SSH),
    "an endpoint policy": Story(private_vpc, "VPCE.5", "PASSED", (CREATE, "SetEndpointPolicy"), {}, PERIMETER),
    "undo an endpoint policy": Story(
        *(after_it("VPCE.5"), "VPCE.5", "FAILED"),
        (CREATE, "SetEndpointPolicy", "RestoreEndpointPolicy"),
        *({}, PERIMETER),
    ),
}


def prepared(story: Story) -> tuple[World, Target]:
    """Return a world in which the story's message is about to be delivered."""
    world = World(story.policy)
    target, cause = story.begin(world)
    world.enqueue(target, cause=cause)
    return world, target


def facts(world: World, target: Target, story: Story) -> Facts:
    """Return what must be the same wherever the process died, without ids and times."""
    place, resource_id = world.aws.region(), str(target.resource_id)
    held = place.instances.get(resource_id)
    finding = world.hub.find(resource_id, story.control_id)
    state = next((one for key, one in world.ledger.kept.items() if key[3] == resource_id), None)
    entries = sorted(world.ledger.entries.values(), key=lambda change: change.begun_at)
    return {
        "endpoints": sorted(
            (one.service_name, one.route_table_ids, one.subnet_ids, one.policy_digest)
            for one in place.endpoints_of(resource_id)
        ),
        "groups": sorted((group.name, group.ingress) for _, group in place.link.groups.values()),
        "connect": len(place.link.connect),
        "profile": held.profile.name if held and held.profile else None,
        "finding": world.hub.state(resource_id, story.control_id),
        "applied": tuple(type(one.action).__name__ for one in entries if one.progress is Progress.APPLIED),
        "entries": len(entries),
        "undone": [bool(one.undone_by) for one in entries],
        "ours": len(state.made) if state else 0,
        "held": bool(state and state.holds),
        "open": bool(state and (state.pending or state.window)),
        "answered": bool(finding and finding.get("Note")),
        "buried": world.dead_letters.buried,
    }


def calls_of(story: Story) -> list[str]:
    """Tell a story without trouble; returns the calls of its last message."""
    world, _ = prepared(story)
    before = len(world.calls.made)
    world.drain()
    return world.calls.made[before:]


POINTS = [
    pytest.param(name, number, after, id=f"{name}-{number}-{'after' if after else 'before'} {call}")
    for name, story in STORIES.items()
    for number, call in enumerate(calls_of(story))
    for after in (False, True)
]


@pytest.mark.parametrize("name", STORIES)
def test_a_story_ends_as_it_says(name: str) -> None:
    """Without trouble: the changes that are expected, each once in the ledger, and the finding that is true."""
    story = STORIES[name]
    world, target = prepared(story)
    world.drain()
    found = facts(world, target, story)
    assert (found["finding"], found["applied"]) == (story.ends, story.applied)
    assert found["entries"] == len(story.applied)
    assert (found["open"], found["buried"]) == (False, [])


@pytest.mark.parametrize(("name", "number", "after"), POINTS)
def test_a_crash_neither_doubles_nor_forgets_a_change(name: str, number: int, after: bool) -> None:  # noqa: FBT001 - pytest names it
    """Wherever the process dies, the next delivery ends where the first would have."""
    story = STORIES[name]
    calm, target = prepared(story)
    calm.drain()
    world, same = prepared(story)
    world.calls.crash_at(number, after=after)
    world.drain()
    assert same == target
    assert facts(world, same, story) == facts(calm, target, story)


def test_a_deleted_endpoint_is_created_anew() -> None:
    """A token never swallows a re-creation: what was deleted is made again, as a change of its own."""
    world = World(policy_of(**S3_ONLY))
    vpc_id = covered_vpc(world)
    place = world.aws.region()
    place.delete_endpoint(place.endpoints_of(vpc_id)[0].endpoint_id)
    world.enqueue(vpc(vpc_id), cause=Cause("DeleteVpcEndpoints/e-2", Caller.OTHER))
    world.drain()
    assert len(place.endpoints_of(vpc_id)) == 1
    assert len(world.ledger.entries) == 2


def test_an_endpoint_that_is_deleted_between_a_crash_and_the_next_delivery_is_created_anew() -> None:
    """AWS answers the old token with what is gone; the change is given up for another one, with another token."""
    world = World(policy_of(**S3_ONLY))
    target, cause = bare_vpc(world)
    world.enqueue(target, cause=cause)
    world.calls.plan("end", CRASH)
    world.process(60)
    place = world.aws.region()
    place.delete_endpoint(place.endpoints_of(str(target.resource_id))[0].endpoint_id)
    world.drain()
    assert len(place.endpoints_of(str(target.resource_id))) == 1
    assert sorted(change.progress for change in world.ledger.entries.values()) == ["abandoned", "applied"]
