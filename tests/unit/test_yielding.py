"""Making way: what of ours stands in somebody's way is withdrawn, and nothing else; then the resource is left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from portcullis.actions import (
    DeleteEndpoint,
    DeleteInstanceConnectEndpoint,
    DeleteSecurityGroup,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
)
from portcullis.errors import TransientError
from portcullis.ledger import EVERYTHING, Hold
from portcullis.model import (
    CHANGE_TAG,
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Caller,
    Cause,
    Conflict,
    Instance,
    InstanceConnectEndpoint,
    InstanceProfile,
    Made,
    SecurityGroup,
    Subnet,
    Vpc,
    VpcEndpoint,
)
from portcullis.policy import Mode
from portcullis.ports import Changes
from portcullis.surroundings import NetworkInterface, Surroundings
from portcullis.yielding import concerns, differences, obstacles

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
    "vpce-0", "vpc-0", "Gateway", "s3", "available", ("rtb-0", "rtb-1"), policy_digest="policy", tags=TAGS
)
THEIRS = replace(OURS, endpoint_id="vpce-1", route_table_ids=("rtb-2",), tags={})
MADE = {"vpce-0": Made("c-0", ("rtb-0", "rtb-1"), policy_digest="policy")}
DELETE = DeleteEndpoint("VPCE.1", "vpc-0", "vpce-0", "s3")
INTERFACE = VpcEndpoint(
    endpoint_id="vpce-5",
    vpc_id="vpc-0",
    endpoint_type="Interface",
    service_name="ssm",
    state="available",
    subnet_ids=("subnet-0", "subnet-1"),
    group_ids=("sg-3",),
    private_dns=True,
    policy_digest="policy",
    tags=TAGS | {CONTROL_TAG: "VPCE.3"},
)
CONNECT = InstanceConnectEndpoint(
    "eice-0", "subnet-0", "create-complete", group_ids=("sg-4",), tags=TAGS | {CONTROL_TAG: "VPCE.4"}
)
GROUPS = {
    f"sg-{number}": SecurityGroup(
        f"sg-{number}", f"portcullis-VPCE.{number}", tags=TAGS | {CONTROL_TAG: f"VPCE.{number}"}
    )
    for number in (3, 4)
}
MADE_THERE = {"vpce-5": Made("c-0", (), ("subnet-0", "subnet-1"), "policy"), "eice-0": Made("c-0")}
DELETE_INTERFACE = DeleteEndpoint("VPCE.3", "vpc-0", "vpce-5", "ssm", "sg-3")
DELETE_CONNECT = DeleteInstanceConnectEndpoint("VPCE.4", "vpc-0", "eice-0", "sg-4")
QUIET = Surroundings()
CREATE = Conflict("CreateVpcEndpoint", PAT, "s3", ("rtb-0", "rtb-1"))
MODIFY = Conflict("ModifyVpcEndpoint", PAT, "", ("rtb-0",), "vpce-1")


def remove(*table_ids: str) -> RemoveFromEndpoint:
    """Return the action that takes tables off our endpoint."""
    return RemoveFromEndpoint("VPCE.1", "vpc-0", "vpce-0", "s3", table_ids)


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
        ("conflict", "expected"),
        [
            (Conflict("CreateVpcEndpoint", service_name="ssm"), [DELETE_INTERFACE]),
            (Conflict("ModifyVpcEndpoint", endpoint_id="vpce-6"), [DELETE_INTERFACE]),
            (Conflict("ModifyVpcEndpoint", endpoint_id="vpce-5"), []),
            (Conflict("CreateVpcEndpoint", service_name="kms"), []),
            (Conflict("CreateVpcEndpoint", service_name="ssm", route_table_ids=("rtb-0",)), []),
            (
                Conflict("DeleteSubnet", subnet_id="subnet-1"),
                [RemoveFromEndpoint("VPCE.3", "vpc-0", "vpce-5", "ssm", (), ("subnet-1",))],
            ),
            (
                Conflict("DeleteSubnet", subnet_id="subnet-0"),
                [RemoveFromEndpoint("VPCE.3", "vpc-0", "vpce-5", "ssm", (), ("subnet-0",)), DELETE_CONNECT],
            ),
            (Conflict("DeleteSubnet", subnet_id="subnet-2"), []),
            (Conflict("CreateInstanceConnectEndpoint", subnet_id="subnet-1"), [DELETE_CONNECT]),
            (Conflict("DeleteVpc"), [DELETE_INTERFACE, DELETE_CONNECT]),
        ],
    )
    def test_what_is_in_a_subnet_or_has_a_private_name_makes_way(
        self, conflict: Conflict, expected: list[object]
    ) -> None:
        """An endpoint loses the subnet, or goes with its group; a VPC has one EC2 Instance Connect Endpoint.

        A call that names tables is for a gateway endpoint, though the service has the same name.
        """
        theirs = replace(INTERFACE, endpoint_id="vpce-6", private_dns=False, group_ids=(), tags={})
        there = replace(seen(INTERFACE, theirs), instance_connect=(CONNECT,), groups=GROUPS)
        found = list(obstacles(conflict, there, MADE_THERE, QUIET))
        assert [action for action, _, _ in found] == expected
        assert [differing for _, _, differing in found] == [[]] * len(expected)

    def test_an_endpoint_goes_when_its_last_subnet_does(self) -> None:
        """AWS lets none be without."""
        conflict, there = Conflict("DeleteSubnet", subnet_id="subnet-0"), replace(INTERFACE, subnet_ids=("subnet-0",))
        ((action, _, found),) = obstacles(conflict, replace(seen(there), groups=GROUPS), MADE_THERE, QUIET)
        assert (action, found) == (DELETE_INTERFACE, [])

    def test_one_without_a_private_name_stands_in_nobodys_way(self) -> None:
        """There may be several."""
        conflict = Conflict("CreateVpcEndpoint", service_name="ssm")
        assert list(obstacles(conflict, seen(replace(INTERFACE, private_dns=False)), MADE_THERE, QUIET)) == []

    def test_a_group_that_another_endpoint_has_stays(self) -> None:
        """The last of our endpoints takes it along."""
        other = replace(INTERFACE, endpoint_id="vpce-6", service_name="kms")
        conflict, there = (
            Conflict("CreateVpcEndpoint", service_name="ssm"),
            replace(seen(INTERFACE, other), groups=GROUPS),
        )
        ((action, _, _),) = obstacles(conflict, there, MADE_THERE, QUIET)
        assert action == replace(DELETE_INTERFACE, group_id="")

    @pytest.mark.parametrize("endpoint", [replace(CONNECT, tags={}), replace(CONNECT, state="delete-in-progress")])
    def test_an_instance_connect_endpoint_of_others_stays_and_one_that_goes_needs_no_push(
        self, endpoint: InstanceConnectEndpoint
    ) -> None:
        """The same as for other endpoints."""
        there = replace(seen(), instance_connect=(endpoint,))
        assert list(obstacles(Conflict("CreateInstanceConnectEndpoint"), there, MADE_THERE, QUIET)) == []

    def test_what_is_not_as_we_left_it_is_named_of_these_too(self) -> None:
        """A subnet that somebody gave ours; an endpoint that is not in the ledger."""
        more = replace(INTERFACE, subnet_ids=("subnet-0", "subnet-1", "subnet-9"))
        there = replace(seen(more), instance_connect=(CONNECT,))
        found = list(obstacles(Conflict("DeleteVpc"), there, {"vpce-5": MADE_THERE["vpce-5"]}, QUIET))
        assert [differing for _, _, differing in found] == [
            ["vpce-5 was given subnet-9"],
            ["eice-0 is not in the ledger"],
        ]

    def test_what_has_lost_its_tag_is_said_to(self) -> None:
        """Asked for by a person's undo; who takes the tag off has taken it over."""
        said = ["eice-0 has lost the tag that marks it as Portcullis's"]
        assert differences(Made("c-0"), replace(CONNECT, tags={})) == said
        assert differences(Made("c-0"), CONNECT) == []

    @pytest.mark.parametrize(
        ("there", "around", "expected"),
        [
            (seen(), QUIET, ["sg-3", "sg-4"]),
            (seen(), Surroundings({"subnet-0": "acl-0"}), []),
            (seen(THEIRS), QUIET, []),
        ],
    )
    def test_groups_of_ours_that_are_left_make_way_for_the_deletion_of_a_vpc(
        self, there: Vpc, around: Surroundings, expected: list[str]
    ) -> None:
        """They keep it, as every group but the default one does; somebody else's are somebody else's."""
        groups = {**GROUPS, "sg-9": SecurityGroup("sg-9")}
        found = list(obstacles(Conflict("DeleteVpc"), replace(there, groups=groups), {}, around))
        assert [(name, differing) for _, name, differing in found] == [(name, []) for name in expected]
        assert all(isinstance(action, DeleteSecurityGroup) for action, _, _ in found)
        assert [action.control_id for action, _, _ in found] == [f"VPCE.{name[3:]}" for name in expected]

    @pytest.mark.parametrize(
        ("conflict", "concerned"),
        [
            (MODIFY, True),
            (replace(MODIFY, endpoint_id="vpce-9"), False),
            (Conflict("DeleteSubnet", subnet_id="subnet-1"), True),
            (Conflict("CreateInstanceConnectEndpoint", subnet_id="subnet-1"), True),
            (Conflict("DeleteSubnet", subnet_id="subnet-5"), True),
            (Conflict("DeleteSubnet", subnet_id="subnet-7"), True),
            (Conflict("DeleteSubnet", subnet_id="subnet-9"), False),
            (Conflict("DeleteVpc"), False),
        ],
    )
    def test_whether_a_call_that_named_no_vpc_is_about_one_is_seen_from_its_endpoints(
        self, conflict: Conflict, *, concerned: bool
    ) -> None:
        """By the endpoint that it named, or by the subnet: its own, or one where an endpoint is."""
        there = replace(
            seen(OURS, THEIRS, replace(INTERFACE, subnet_ids=("subnet-5",))),
            subnets=(Subnet("subnet-1", "a"),),
            instance_connect=(replace(CONNECT, subnet_id="subnet-7"),),
        )
        assert concerns(conflict, there) is concerned


def covered(**modes: Mode) -> tuple[World, Target]:
    """Return a world with a VPC for whose S3 traffic we have made an endpoint."""
    world = World(careful_policy(**({"VPCE_2": Mode.OFF} | modes)))
    target = vpc(world.aws.region().create_vpc())
    tell(world, target)
    world.process(HOUR)
    assert len(tables_of(world, target)) == 1 + ("VPCE_2" in modes)
    return world, target


def hold_of(world: World, target: Target) -> Hold | None:
    """Return why a resource is left alone altogether, if it is."""
    return state_of(world, target).holds.get(EVERYTHING)


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
        assert state_of(world, target).latest("VPCE.1") is None

    def test_after_that_time_it_is_mended_again(self) -> None:
        """Nobody made anything meanwhile: a schedule looks, a window settles, an endpoint comes."""
        world, target = covered()
        collide(world, target, creation(world, str(target.resource_id)))
        hold = hold_of(world, target)
        assert hold

        world.process(DAY - 5 * MINUTE)
        assert tables_of(world, target) == []
        world.process(HOUR)

        assert changes(world)[-1].begun_at >= hold.until + timedelta(minutes=5), "it settles first"

        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint", "CreateGatewayEndpoint"]
        assert hold_of(world, target) is None
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
        assert hold_of(world, target) is not None
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
        assert actions(world)[-1] == "RemoveFromEndpoint"
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
        assert hold_of(world, target) is None

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
        # As one that is in a subnet would be seen; a gateway endpoint is in none.
        place.endpoints[ours.endpoint_id] = replace(ours, subnet_ids=("subnet-x",))
        state = state_of(world, target)
        made = {name: replace(one, subnet_ids=("subnet-x",)) for name, one in state.made.items()}
        world.ledger.kept[target.account_id, target.region, target.kind, vpc_id] = replace(state, made=made)

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
        assert (hold_of(world, target) is not None) is goes
        told = [entry.message for entry in world.journal.entries if entry.step == "stopped"]
        assert any("would delete" in text for text in told) is not goes

    def test_one_that_aws_does_not_let_us_take_back_is_not_said_to_have_made_way(self) -> None:
        """Refused for good: nothing is held, the entry says so, and the journal tells."""
        world, target = covered()
        world.calls.plan("perform", Trouble(AwsRefusedError("UnauthorizedOperation", "an SCP says no")))

        collide(world, target, creation(world, str(target.resource_id)))

        assert hold_of(world, target) is None
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
