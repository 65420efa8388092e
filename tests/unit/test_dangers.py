"""What a hostile reader would try: nothing of others is taken for ours, nothing old is acted on, no window is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from portcullis.model import Ask, Caller, Cause, Conflict, Request
from portcullis.policy import Mode
from portcullis.surroundings import Surroundings

from tests.fakes import ACCOUNT, DEFAULT_PROFILE, World, careful_policy, instance, policy_of, vpc, whole

S3_ONLY = {"VPCE_2": Mode.OFF}
MINUTE = 60
HOUR = 3600
CALLS_BEFORE_THE_CHANGE = len(
    ["load", "states", "observe", "position", "save", "import", "save", "suppressed", "position", "begin"]
)


def actions(world: World) -> list[str]:
    """Return what was changed, by the names of the actions."""
    return [type(action).__name__ for _, action in world.aws.performed]


def test_an_endpoint_that_only_carries_our_tag_is_extended_and_never_deleted() -> None:
    """Its tables were not given by us: it is not as we left it."""
    world = World(policy_of(**S3_ONLY))
    place = world.aws.region()
    vpc_id = place.create_vpc()
    theirs = place.add_route_table(vpc_id, subnet=True)
    service = place.gateway_services["s3"]
    place.create_endpoint(vpc_id, service, [theirs], change_id="copied")
    world.enqueue(vpc(vpc_id))
    world.drain()
    main = place.main_table(vpc_id)
    for conflict in (
        Conflict("CreateVpcEndpoint", service_name=service, route_table_ids=(main, theirs)),
        Conflict("DeleteVpc"),
    ):
        world.enqueue(vpc(vpc_id), cause=Cause(conflict.call, Caller.TERRAFORM, conflict=conflict))
        world.process(5 * MINUTE)
    assert actions(world) == ["AddRouteTables"]
    assert len(place.endpoints_of(vpc_id)) == 1


def test_a_vpc_with_subnets_keeps_our_endpoints_when_its_deletion_fails() -> None:
    """Something else keeps it: stopped instances, say, that want S3 in the morning."""
    world = World(policy_of(**S3_ONLY))
    place = world.aws.region()
    vpc_id = place.create_vpc()
    world.enqueue(vpc(vpc_id))
    world.drain()
    place.surroundings[vpc_id] = Surroundings(subnets={"subnet-0": "acl-0"})
    world.enqueue(vpc(vpc_id), cause=Cause("DeleteVpc/1", Caller.OTHER, conflict=Conflict("DeleteVpc")))
    world.process(5 * MINUTE)
    assert actions(world) == ["CreateGatewayEndpoint"]


@pytest.mark.parametrize("ask", [*Ask, None])
def test_what_is_old_is_not_acted_on(ask: Ask | None) -> None:
    """A conflict, an approval or an undo out of the dead letters, days later; whoever asked is told."""
    world = World(policy_of(VPCE_1=Mode.APPROVE if ask is Ask.REMEDIATE else Mode.REMEDIATE, **S3_ONLY))
    place = world.aws.region()
    vpc_id = place.create_vpc()
    world.enqueue(vpc(vpc_id))
    world.drain()
    before = actions(world)
    request = Request(ask, "VPCE.1", "pat") if ask else None
    conflict = None if ask else Conflict("DeleteVpc")
    then = world.clock.now()
    world.clock.advance(timedelta(days=3).total_seconds())
    world.enqueue(vpc(vpc_id), cause=Cause("old/1", conflict=conflict, request=request, at=then))
    world.process(5 * MINUTE)
    assert actions(world) == before
    finding = world.hub.find(vpc_id, "VPCE.1")
    assert finding
    assert ("asked for too long ago" in str(finding.get("Note"))) is (ask is not None)


def test_a_call_that_names_no_vpc_restarts_the_window_of_the_one_that_it_changed() -> None:
    """AssociateRouteTable, twenty minutes into Terraform's run; the other VPC goes on waiting as before."""
    world = World(careful_policy(**S3_ONLY))
    place = world.aws.region()
    changed, other = (vpc(place.create_vpc()) for _ in range(2))
    for target in (changed, other):
        world.enqueue(target, cause=Cause("CreateVpc/1", Caller.TERRAFORM))
    world.process(20 * MINUTE)
    place.add_route_table(str(changed.resource_id), subnet=True)
    world.enqueue(whole(), cause=Cause("AssociateRouteTable/1", Caller.TERRAFORM))
    world.process(20 * MINUTE)
    assert place.endpoints_of(str(changed.resource_id)) == ()
    assert len(place.endpoints_of(str(other.resource_id))) == 1
    world.process(HOUR)
    assert len(place.endpoints_of(str(changed.resource_id))) == 1


def test_an_approval_leaves_the_other_controls_window_as_it_is() -> None:
    """Terraform's half hour goes on for DynamoDB when a person approves S3."""
    world = World(careful_policy())
    place = world.aws.region()
    target = vpc(place.create_vpc())
    world.enqueue(target, cause=Cause("CreateVpc/1", Caller.TERRAFORM))
    world.process(MINUTE)
    world.enqueue(target, cause=Cause("ask/1", request=Request(Ask.REMEDIATE, "VPCE.1", "pat")))
    world.process(MINUTE)
    assert len(place.endpoints_of(str(target.resource_id))) == 1
    world.sweep()
    world.process(20 * MINUTE)
    assert len(place.endpoints_of(str(target.resource_id))) == 1
    world.process(20 * MINUTE)
    assert len(place.endpoints_of(str(target.resource_id))) == 2


def test_many_tables_do_not_push_the_impact_off_the_finding() -> None:
    """A VPC with sixty tables: the text names the first few, and still says what to do."""
    world = World(policy_of(VPCE_1=Mode.APPROVE, **S3_ONLY))
    place = world.aws.region()
    vpc_id = place.create_vpc()
    for _ in range(60):
        place.add_route_table(vpc_id, subnet=True)
    world.enqueue(vpc(vpc_id))
    world.drain()
    finding = world.hub.find(vpc_id, "VPCE.1")
    assert finding
    assert "choose the custom action Remediate" in finding["Description"]
    assert finding["Description"].endswith("saves about $0.048 for each GB.")


def test_the_same_profile_that_somebody_else_associates_meanwhile_is_theirs() -> None:
    """It is not in the ledger as made, and not taken off for the next one who fails over it."""
    world = World(policy_of())
    place = world.aws.region()
    instance_id = place.launch_instance()
    profile = world.aws.profiles[ACCOUNT, DEFAULT_PROFILE]
    world.enqueue(instance(instance_id))
    world.calls.meanwhile(CALLS_BEFORE_THE_CHANGE, lambda: place.attach_profile(instance_id, profile))
    world.drain()
    assert [change.progress for change in world.ledger.entries.values()] == ["abandoned"]
    conflict = Conflict("AssociateIamInstanceProfile")
    world.enqueue(instance(instance_id), cause=Cause("Associate/1", Caller.TERRAFORM, conflict=conflict))
    world.process(5 * MINUTE)
    assert actions(world) == ["AssociateInstanceProfile"]
    assert place.instances[instance_id].profile == profile
