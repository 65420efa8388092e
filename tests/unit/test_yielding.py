"""Making way: what of ours stands in somebody's way is withdrawn, and nothing else; then the resource is left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from portcullis.actions import DeleteEndpoint, DisassociateInstanceProfile, RemoveRouteTables
from portcullis.errors import TransientError
from portcullis.ledger import Made
from portcullis.model import (
    CHANGE_TAG,
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Caller,
    Cause,
    Conflict,
    Instance,
    InstanceProfile,
    Vpc,
    VpcEndpoint,
)
from portcullis.policy import Mode
from portcullis.ports import Changes
from portcullis.surroundings import NetworkInterface, Surroundings
from portcullis.yielding import concerns, obstacles

from tests.fakes import DELAY, AwsRefusedError, Trouble, World, careful_policy, instance, policy_of, vpc, whole
from tests.unit.stories import (
    DAY,
    HOUR,
    MINUTE,
    PAT,
    actions,
    approve,
    changes,
    collide,
    creation,
    note_of,
    problems,
    state_of,
    tables_of,
    tell,
    text_of,
)

if TYPE_CHECKING:
    from portcullis.model import Target

TAGS = {OWNERSHIP_TAG: "true", CHANGE_TAG: "c-0", CONTROL_TAG: "VPCE.1"}
OURS = VpcEndpoint(
    "vpce-0", "vpc-0", "Gateway", "s3", "available", ("rtb-0", "rtb-1"), ("subnet-0",), "policy", tags=TAGS
)
THEIRS = replace(OURS, endpoint_id="vpce-1", route_table_ids=("rtb-2",), tags={})
MADE = {"vpce-0": Made("c-0", ("rtb-0", "rtb-1"), "policy")}
DELETE = DeleteEndpoint("VPCE.1", "vpc-0", "vpce-0", "s3")
QUIET = Surroundings()
CREATE = Conflict("CreateVpcEndpoint", PAT, "s3", ("rtb-0", "rtb-1"))
MODIFY = Conflict("ModifyVpcEndpoint", PAT, "", ("rtb-0",), "vpce-1")


def remove(*table_ids: str) -> RemoveRouteTables:
    """Return the action that takes tables off our endpoint."""
    return RemoveRouteTables("VPCE.1", "vpc-0", "vpce-0", "s3", table_ids)


def seen(*endpoints: VpcEndpoint) -> Vpc:
    """Return a VPC with some endpoints."""
    return Vpc("vpc-0", "1", endpoints=endpoints)


class TestObstacles:
    """Exactly what stands in the way, and whether it is as we left it. Pure."""

    @pytest.mark.parametrize(
        ("conflict", "action"),
        [
            (CREATE, DELETE),
            (replace(CREATE, route_table_ids=("rtb-0", "rtb-1", "rtb-2")), DELETE),
            (replace(CREATE, route_table_ids=("rtb-1", "rtb-2")), remove("rtb-1")),
            (MODIFY, remove("rtb-0")),
            (replace(MODIFY, route_table_ids=("rtb-1", "rtb-0")), DELETE),
            (Conflict("DeleteSubnet", subnet_id="subnet-0"), DELETE),
            (Conflict("DeleteVpc"), DELETE),
        ],
    )
    def test_what_stands_in_the_way_goes(self, conflict: Conflict, action: object) -> None:
        """Of an endpoint only the tables that somebody wants, unless none would be left."""
        assert list(obstacles(conflict, seen(OURS, THEIRS), MADE, QUIET)) == [(action, "vpce-0", [])]

    @pytest.mark.parametrize(
        "conflict",
        [
            replace(CREATE, service_name="dynamodb"),
            replace(CREATE, route_table_ids=("rtb-2",)),
            replace(CREATE, route_table_ids=()),
            replace(MODIFY, endpoint_id="vpce-0"),
            replace(MODIFY, endpoint_id="vpce-gone"),
            Conflict("DeleteSubnet", subnet_id="subnet-1"),
            Conflict("DeleteRouteTable"),
        ],
    )
    def test_what_does_not_stand_in_the_way_stays(self, conflict: Conflict) -> None:
        """Another service, another table, our own endpoint, another subnet, a call that we cannot have broken."""
        assert list(obstacles(conflict, seen(OURS, THEIRS), MADE, QUIET)) == []

    @pytest.mark.parametrize("around", [None, Surroundings(interfaces=(NetworkInterface("eni-0", "subnet-0"),))])
    def test_while_something_runs_in_a_vpc_it_is_not_ours_that_keeps_it(self, around: Surroundings | None) -> None:
        """DeleteVpc fails over whatever is in it; ours goes when it is the last."""
        assert list(obstacles(Conflict("DeleteVpc"), seen(OURS), MADE, around)) == []

    @pytest.mark.parametrize("endpoint", [replace(OURS, tags={}), replace(OURS, requester_managed=True)])
    def test_what_is_not_ours_stays(self, endpoint: VpcEndpoint) -> None:
        """Whatever stands in the ledger: the tag is published, and who takes it off has taken it over."""
        assert list(obstacles(CREATE, seen(endpoint), MADE, QUIET)) == []

    def test_what_goes_already_needs_no_push(self) -> None:
        """It is being deleted."""
        assert list(obstacles(CREATE, seen(replace(OURS, state="deleting")), MADE, QUIET)) == []

    @pytest.mark.parametrize(
        ("endpoint", "made", "differing"),
        [
            (OURS, {}, "vpce-0 is not in the ledger"),
            (replace(OURS, route_table_ids=("rtb-0", "rtb-1", "rtb-9")), MADE, "vpce-0 was given rtb-9"),
            (replace(OURS, policy_digest="other"), MADE, "the policy of vpce-0 was changed"),
        ],
    )
    def test_what_is_not_as_we_left_it_is_named(
        self, endpoint: VpcEndpoint, made: dict[str, Made], differing: str
    ) -> None:
        """Somebody may count on it by now."""
        ((_, name, found),) = obstacles(replace(CREATE, route_table_ids=("rtb-0",)), seen(endpoint), made, QUIET)
        assert (name, found) == ("vpce-0", [differing])

    def test_fewer_tables_are_no_reason_to_stay(self) -> None:
        """Somebody made way by hand."""
        ((action, _, found),) = obstacles(CREATE, seen(replace(OURS, route_table_ids=("rtb-0",))), MADE, QUIET)
        assert (action, found) == (DELETE, [])

    def test_a_profile_goes_when_it_is_the_association_that_we_made(self) -> None:
        """One that somebody else associated stays, and a gone instance has none."""
        profile = InstanceProfile("default", "arn", ("role",))
        conflict = Conflict("AssociateIamInstanceProfile", PAT)
        has = Instance("i-0", "running", profile=profile, association_id="a-0")
        action = DisassociateInstanceProfile("ROLE.1", "i-0", "default", "a-0")
        assert list(obstacles(conflict, has, {"a-0": Made("c-0")}, None)) == [(action, "a-0", [])]
        assert list(obstacles(conflict, has, {"a-1": Made("c-0")}, None)) == []
        assert list(obstacles(conflict, Instance("i-0", "running"), {"a-0": Made("c-0")}, None)) == []
        assert list(obstacles(conflict, None, {"a-0": Made("c-0")}, None)) == []
        assert list(obstacles(CREATE, has, {"a-0": Made("c-0")}, None)) == []

    @pytest.mark.parametrize(
        ("conflict", "concerned"),
        [
            (MODIFY, True),
            (replace(MODIFY, endpoint_id="vpce-9"), False),
            (Conflict("DeleteSubnet", subnet_id="subnet-0"), True),
            (Conflict("DeleteSubnet", subnet_id="subnet-9"), False),
            (Conflict("DeleteVpc"), False),
        ],
    )
    def test_whether_a_call_that_named_no_vpc_is_about_one_is_seen_from_its_endpoints(
        self, conflict: Conflict, *, concerned: bool
    ) -> None:
        """By the endpoint that it named, or by the subnet."""
        assert concerns(conflict, seen(OURS, THEIRS)) is concerned


def covered(**modes: Mode) -> tuple[World, Target]:
    """Return a world with a VPC for whose S3 traffic we have made an endpoint."""
    world = World(careful_policy(**({"VPCE_2": Mode.OFF} | modes)))
    target = vpc(world.aws.region().create_vpc())
    tell(world, target)
    world.process(HOUR)
    assert len(tables_of(world, target)) == 1 + ("VPCE_2" in modes)
    return world, target


class TestMakingWay:
    """The same, end to end: their call fails, ours goes, their retry succeeds, and ours stays away."""

    def test_their_retry_succeeds_and_the_finding_is_passed(self) -> None:
        """Terraform's CreateVpcEndpoint fails once, and its next attempt makes the endpoint that stays."""
        world, target = covered()
        place, vpc_id = world.aws.region(), str(target.resource_id)

        collide(world, target, creation(world, vpc_id))
        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint"]
        theirs = place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
        tell(world, target, Caller.TERRAFORM)
        world.process(2 * DAY)

        assert [one.endpoint_id for one in place.endpoints_of(vpc_id)] == [theirs]
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"
        assert len(changes(world)) == 2

    def test_the_finding_says_who_failed_and_until_when_it_is_left_alone(self) -> None:
        """Should they not retry, a person knows why it is open; the ledger says on whose account it was."""
        world, target = covered()

        collide(world, target, creation(world, str(target.resource_id)))

        assert world.hub.state(str(target.resource_id), "VPCE.1") == "FAILED"
        assert (
            f"CreateVpcEndpoint of {PAT} failed over vpce-0001, so Portcullis made way and leaves vpc-0001 alone until "
            "2026-03-03 10:01 UTC. "
            "It would create a com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001."
        ) in text_of(world, target)
        first, second = changes(world)
        assert (second.by, second.undoes) == (f"CreateVpcEndpoint of {PAT} failed", first.change_id)
        assert world.ledger.entries[first.change_id].undone_by == second.change_id
        assert "VPCE.1" not in state_of(world, target).latest

    def test_after_that_time_it_is_mended_again(self) -> None:
        """Nobody made anything meanwhile: a schedule looks, a window settles, an endpoint comes."""
        world, target = covered()
        collide(world, target, creation(world, str(target.resource_id)))
        hold = state_of(world, target).hold
        assert hold

        world.process(DAY - 5 * MINUTE)
        assert tables_of(world, target) == []
        world.process(HOUR)

        assert changes(world)[-1].begun_at >= hold.until + timedelta(minutes=5), "it settles first"

        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint", "CreateGatewayEndpoint"]
        assert state_of(world, target).hold is None
        assert world.scheduler.looks == {}

    def test_neither_events_nor_sweeps_end_that_time(self) -> None:
        """It is the resource that is left alone, whoever looks at it."""
        world, target = covered()
        collide(world, target, creation(world, str(target.resource_id)))

        for _ in range(20):
            tell(world, target, Caller.TERRAFORM)
            world.sweep()
            world.process(HOUR)

        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint"]
        assert len(world.scheduler.looks) == 1

    def test_an_approval_does(self) -> None:
        """A person has looked at it. What else is left alone on the resource goes on being so."""
        world, target = covered()
        collide(world, target, creation(world, str(target.resource_id)))

        approve(world, target)

        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint", "CreateGatewayEndpoint"]
        assert state_of(world, target).hold is not None
        assert world.scheduler.looks == {}
        assert note_of(world, target).startswith(f"Remediate, asked for by {PAT}: ")

    def test_only_the_tables_that_they_want_are_taken_off(self) -> None:
        """The rest of the endpoint goes on; and can still be undone, since it was not all taken back."""
        world, target = covered()
        place, vpc_id = world.aws.region(), str(target.resource_id)
        table_id = place.add_route_table(vpc_id, subnet=True)
        tell(world, target)
        world.process(HOUR)
        assert actions(world) == ["CreateGatewayEndpoint", "AddRouteTables"]

        collide(world, target, creation(world, vpc_id, table_id))

        assert tables_of(world, target) == [(place.main_table(vpc_id),)]
        assert actions(world)[-1] == "RemoveRouteTables"
        assert not any(change.undone_by for change in changes(world))
        (made,) = state_of(world, target).made.values()
        assert made.route_table_ids == (place.main_table(vpc_id),)

    def test_what_somebody_gave_it_is_not_taken_away(self) -> None:
        """A person put a table on our endpoint: it stays, and somebody should look at it."""
        world, target = covered()
        place, vpc_id = world.aws.region(), str(target.resource_id)
        (endpoint,) = place.endpoints_of(vpc_id)
        given, table_id = place.add_route_table(vpc_id), place.add_route_table(vpc_id, subnet=True)
        tables = (*endpoint.route_table_ids, given)
        place.endpoints[endpoint.endpoint_id] = replace(endpoint, route_table_ids=tables)
        tell(world, target)
        world.process(HOUR)
        assert set(tables_of(world, target)[0]) == {*tables, table_id}, "ours was added beside it"

        collide(world, target, creation(world, vpc_id))

        assert set(tables_of(world, target)[0]) == {*tables, table_id}
        assert problems(world) == ["obstructed"]
        told = next(entry.message for entry in world.journal.entries if entry.is_problem)
        assert told == (
            f"CreateVpcEndpoint failed over vpce-0001, which Portcullis leaves: vpce-0001 was given {given}"
        )
        assert state_of(world, target).hold is None

    def test_the_same_failure_in_two_messages_of_a_batch_is_one(self) -> None:
        """Their tool tries again before we have made way: nothing is taken back twice, and nobody is alarmed."""
        world, target = covered()
        conflict = creation(world, str(target.resource_id))
        for number in (1, 2):
            collide_later(world, target, conflict, number)

        world.process(MINUTE)

        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint"]
        assert problems(world) == []

    def test_two_services_make_way_each_for_its_own(self) -> None:
        """Terraform creates both endpoints at once; both fail, both retries succeed."""
        world, target = covered(VPCE_2=Mode.REMEDIATE)
        for number, service in enumerate(("s3", "dynamodb")):
            collide_later(world, target, creation(world, str(target.resource_id), service=service), number)

        world.process(MINUTE)

        assert tables_of(world, target) == []
        assert sorted(actions(world)) == ["CreateGatewayEndpoint"] * 2 + ["DeleteEndpoint"] * 2

    def test_a_vpc_that_is_deleted_loses_ours_when_nothing_else_is_in_it(self) -> None:
        """DeleteVpc fails over what is in it: while something runs, that is not ours."""
        world, target = covered()
        place, vpc_id = world.aws.region(), str(target.resource_id)
        place.surroundings[vpc_id] = Surroundings(interfaces=(NetworkInterface("eni-0", "subnet-0"),))
        collide(world, target, Conflict("DeleteVpc", PAT))
        assert actions(world) == ["CreateGatewayEndpoint"]

        place.surroundings.clear()
        collide(world, target, Conflict("DeleteVpc", PAT))
        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint"]
        place.delete_vpc(vpc_id)
        tell(world, target, Caller.TERRAFORM)

        assert (world.ledger.kept, world.scheduler.looks) == ({}, {})
        assert world.hub.state(vpc_id, "VPCE.1") == "ARCHIVED"

    @pytest.mark.parametrize("call", ["ModifyVpcEndpoint", "DeleteSubnet"])
    def test_a_call_that_named_no_vpc_finds_its_way(self, call: str) -> None:
        """The wide look passes the conflict on to the VPC that it is about, and only to that."""
        world, target = covered()
        place, vpc_id = world.aws.region(), str(target.resource_id)
        other = place.create_vpc()
        place.create_endpoint(other, place.gateway_services["s3"], [place.main_table(other)])
        table_id = place.add_route_table(vpc_id)
        theirs = place.create_endpoint(vpc_id, place.gateway_services["s3"], [table_id])
        (ours,) = (one for one in place.endpoints_of(vpc_id) if one.is_ours)
        conflicts = {
            "ModifyVpcEndpoint": Conflict(call, PAT, "", (place.main_table(vpc_id),), theirs),
            "DeleteSubnet": Conflict(call, PAT, subnet_id="subnet-x"),
        }
        # A gateway endpoint is in no subnet; those that are will be ours one day.
        place.endpoints[ours.endpoint_id] = replace(ours, subnet_ids=("subnet-x",))

        collide(world, whole(), conflicts[call])
        world.process(DELAY)

        assert [one.endpoint_id for one in place.endpoints_of(vpc_id)] == [theirs]
        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint"]
        assert changes(world)[-1].by == f"{call} of {PAT} failed"
        assert vpc(other) not in world.queue.sent

    def test_a_profile_makes_way_too(self) -> None:
        """A stack associates its own: ours goes, and the instance is left alone."""
        world = World(careful_policy())
        place = world.aws.region()
        target = instance(place.launch_instance())
        tell(world, target)
        world.process(HOUR)
        assert actions(world) == ["AssociateInstanceProfile"]

        collide(world, target, Conflict("AssociateIamInstanceProfile", PAT))
        world.process(HOUR)

        assert place.instances[str(target.resource_id)].profile is None
        assert "made way" in text_of(world, target, "ROLE.1")
        assert state_of(world, target).made == {}

    def test_what_is_gone_needs_not_make_way(self) -> None:
        """Neither a VPC nor an instance."""
        world = World(careful_policy())
        collide(world, vpc("vpc-gone"), Conflict("DeleteVpc", PAT))
        collide(world, instance("i-gone"), Conflict("AssociateIamInstanceProfile", PAT))
        assert (world.ledger.kept, world.aws.performed, world.dead_letters.buried) == ({}, [], [])

    @pytest.mark.parametrize(("position", "goes"), [(Changes.UNDO_ONLY, True), (Changes.STOPPED, False)])
    def test_the_kill_switch_is_obeyed(self, position: Changes, *, goes: bool) -> None:
        """Undo-only is meant for this; stopped is stopped, and leaves no trace of a hold."""
        world, target = covered()
        world.switch.set_to = position

        collide(world, target, creation(world, str(target.resource_id)))

        assert ("DeleteEndpoint" in actions(world)) is goes
        assert (state_of(world, target).hold is not None) is goes
        told = [entry.message for entry in world.journal.entries if entry.step == "stopped"]
        assert any("would delete" in text for text in told) is not goes

    def test_one_that_aws_does_not_let_us_take_back_is_not_said_to_have_made_way(self) -> None:
        """Refused for good: nothing is held, the entry says so, and the journal tells."""
        world, target = covered()
        world.calls.plan("perform", Trouble(AwsRefusedError("UnauthorizedOperation", "an SCP says no")))

        collide(world, target, creation(world, str(target.resource_id)))

        assert state_of(world, target).hold is None
        assert state_of(world, target).made.keys() == {"vpce-0001"}
        assert changes(world)[-1].progress == "failed"
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "PASSED"
        assert changes(world)[0].undone_by == ""

    def test_one_that_could_not_be_taken_back_yet_is_tried_again(self) -> None:
        """The message comes again; what comes after it waits."""
        world, target = covered(VPCE_2=Mode.REMEDIATE)
        world.calls.plan("perform", Trouble(TransientError("RequestLimitExceeded")))

        collide(world, target, Conflict("DeleteVpc", PAT))
        assert len(tables_of(world, target)) == 2
        world.process(MINUTE)

        assert tables_of(world, target) == []
        assert len(changes(world)) == 4

    def test_their_failure_at_what_is_none_of_ours_is_a_look_like_any_other(self) -> None:
        """Nothing is withdrawn; the caller's window counts."""
        world = World(policy_of())
        place = world.aws.region()
        target = vpc(place.create_vpc())
        place.create_endpoint(
            str(target.resource_id), place.gateway_services["s3"], [place.main_table(str(target.resource_id))]
        )
        collide(world, target, creation(world, str(target.resource_id)))
        assert actions(world) == ["CreateGatewayEndpoint"], "for DynamoDB"

    def test_without_a_name_it_was_somebody(self) -> None:
        """The event may not tell who called."""
        world, target = covered()
        collide(world, target, replace(creation(world, str(target.resource_id)), principal=""))
        assert changes(world)[-1].by == "CreateVpcEndpoint of somebody failed"


def collide_later(world: World, target: Target, conflict: Conflict, number: int) -> None:
    """Let somebody's failed call arrive; its message may share a batch with others."""
    cause = Cause(f"{conflict.call}/{number}", Caller.TERRAFORM, conflict=conflict, at=world.clock.now())
    world.queue.put(target, cause, f"{number}")
