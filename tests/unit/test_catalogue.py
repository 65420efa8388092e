"""The controls of the catalogue in the loop: several changes to one VPC, each undone, none in the way of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from portcullis.endpoint_policies import FULL_ACCESS, digest
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Ask,
    Caller,
    Cause,
    Conflict,
    InterfaceService,
    Needs,
    Request,
    Target,
)
from portcullis.ports import Changes
from portcullis.surroundings import NetworkInterface, Surroundings

from tests.fakes import REGION, AwsRefusedError, Trouble, World, careful_policy, vpc
from tests.fakes.private_link import DNS_CONFLICT
from tests.unit.stories import actions, approve, changes, note_of, state_of, text_of, undo

SSM, SSMMESSAGES, S3 = (f"com.amazonaws.{REGION}.{name}" for name in ("ssm", "ssmmessages", "s3"))
SERVICES = {
    key: InterfaceService(f"com.amazonaws.{REGION}.{name}", (), (f"{name}.{REGION}.amazonaws.com",))
    for name in ("ssm", "ssmmessages", "s3")
    for key in (name, f"com.amazonaws.{REGION}.{name}")
}
TIGHT = {"document": {"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}]}}
HOUR = 3600


def catalogue(**controls: dict[str, Any]) -> World:
    """Return a world with interface services, and a policy with just these controls (``VPCE_3={...}``)."""
    entries = {name.replace("_", "."): entry for name, entry in controls.items()}
    more = {"controls": entries, "endpoint_policies": {"tight": TIGHT}}
    world = World(careful_policy(more))
    world.aws.region().link.services.update(SERVICES)
    return world


def private(world: World) -> Target:
    """Create a VPC with a subnet in each of two zones."""
    place = world.aws.region()
    vpc_id = place.create_vpc()
    for zone in "ab":
        place.link.add_subnet(vpc_id, f"{REGION}{zone}")
    return vpc(vpc_id)


def look(world: World, target: Target, seconds: int = HOUR) -> None:
    """Let an event about the VPC arrive, and time pass."""
    world.enqueue(target, cause=Cause("CreateSubnet/e-1", Caller.OTHER))
    world.process(seconds)


def status(world: World, target: Target, control_id: str) -> str:
    """Return a finding's compliance, nothing when there is none."""
    finding = world.hub.find(str(target.resource_id), control_id)
    return str(finding["Compliance"]["Status"]) if finding else ""


APPROVED = {"mode": "approve", "services": ["ssm", "ssmmessages"]}


class TestInterfaceEndpoints:
    """VPCE.3: proposed with its price, made on a wish, undone with its group."""

    def test_a_proposal_names_the_price_and_is_made_when_approved(self) -> None:
        """Two services in two zones, one security group for both."""
        world = catalogue(VPCE_3=APPROVED)
        target = private(world)
        look(world, target)
        assert actions(world) == []
        assert "proposes to create interface endpoints for ssm, ssmmessages in" in text_of(world, target, "VPCE.3")
        assert "It costs about $32.12 a month, and $0.01 for each GB." in text_of(world, target, "VPCE.3")

        approve(world, target, "VPCE.3")

        assert actions(world) == ["CreateInterfaceEndpoint"] * 2
        link = world.aws.region().link
        assert [group.name for _, group in link.groups.values()] == ["portcullis-VPCE.3"]
        assert status(world, target, "VPCE.3") == "PASSED"

    def test_undoing_all_removes_the_group_with_the_last(self) -> None:
        """One click each, the latest first; each change once."""
        world = catalogue(VPCE_3=APPROVED)
        target = private(world)
        look(world, target)
        approve(world, target, "VPCE.3")
        undo(world, target, "VPCE.3")
        assert (len(world.aws.region().endpoints), len(world.aws.region().link.groups)) == (1, 1)
        undo(world, target, "VPCE.3")
        assert (world.aws.region().endpoints, world.aws.region().link.groups) == ({}, {})
        assert state_of(world, target).made == {}
        assert status(world, target, "VPCE.3") == "FAILED"
        assert "leaves" in note_of(world, target, "VPCE.3")

    def test_a_name_that_resolves_elsewhere_is_no_failure(self) -> None:
        """AWS refuses a conflicting private name: a warning, which nobody is asked to approve again."""
        world = catalogue(VPCE_3={"mode": "remediate", "services": ["ssm"]})
        target = private(world)
        world.calls.plan("perform", Trouble(AwsRefusedError("InvalidParameter", DNS_CONFLICT)))
        look(world, target)
        assert status(world, target, "VPCE.3") == "WARNING"
        look(world, target)
        assert status(world, target, "VPCE.3") == "WARNING"
        assert [change.progress for change in changes(world)] == ["failed"]

    def test_what_one_control_is_refused_does_not_keep_another_waiting(self) -> None:
        """A quota of interface endpoints says nothing of gateway endpoints."""
        world = catalogue(VPCE_3={"mode": "remediate", "services": ["ssm"]})
        target = private(world)
        world.calls.plan("perform", Trouble(AwsRefusedError("VpcEndpointLimitExceeded", "50 in a VPC")))
        look(world, target)
        assert status(world, target, "VPCE.3") == "FAILED"
        controls = {"VPCE.1": {"mode": "remediate"}, "VPCE.3": {"mode": "remediate", "services": ["ssm"]}}
        world.set_policy(careful_policy({"controls": controls}))
        look(world, target)
        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_the_s3_interface_follows_the_gateway(self) -> None:
        """No event tells of our own gateway: the look that follows a change does."""
        world = catalogue(VPCE_1={"mode": "remediate"}, VPCE_3={"mode": "remediate", "services": ["s3"]})
        target = private(world)
        look(world, target)
        assert actions(world) == ["CreateGatewayEndpoint", "CreateInterfaceEndpoint"]

    def test_somebody_who_wants_the_name_gets_it(self) -> None:
        """Their own CreateVpcEndpoint failed over our private name: ours goes, with its group."""
        world = catalogue(VPCE_3={"mode": "remediate", "services": ["ssm"]})
        target = private(world)
        look(world, target)
        conflict = Conflict("CreateVpcEndpoint", "arn:aws:iam::111122223333:role/ci", SSM)
        world.enqueue(target, cause=Cause("CreateVpcEndpoint/e-2", Caller.TERRAFORM, conflict=conflict))
        world.process(HOUR)
        assert actions(world) == ["CreateInterfaceEndpoint", "DeleteEndpoint"]
        assert world.aws.region().link.groups == {}
        assert "made way" in text_of(world, target, "VPCE.3")

    def test_a_subnet_that_somebody_deletes_is_given_up_alone(self) -> None:
        """The endpoint goes on in the other zone; with the last subnet it goes."""
        world = catalogue(VPCE_3={"mode": "remediate", "services": ["ssm"]})
        target = private(world)
        look(world, target)
        for subnet_id in list(world.aws.region().link.subnets):
            conflict = Conflict("DeleteSubnet", "them", subnet_id=subnet_id)
            world.enqueue(target, cause=Cause("DeleteSubnet/e-3", Caller.OTHER, conflict=conflict))
            world.process(60)
        assert actions(world) == ["CreateInterfaceEndpoint", "RemoveFromEndpoint", "DeleteEndpoint"]


class TestTheGroupGoesLater:
    """An endpoint's interfaces take a minute or more to go, and its group cannot go before them."""

    @pytest.mark.parametrize("mode", ["approve", "remediate"])
    def test_an_undo_goes_on_until_the_group_is_gone(self, mode: str) -> None:
        """One change, which ends once; nothing is made again meanwhile."""
        world = catalogue(VPCE_3={"mode": mode, "services": ["ssm"]})
        target = private(world)
        look(world, target)
        approve(world, target, "VPCE.3")
        world.aws.region().link.lingering = 3
        undo(world, target, "VPCE.3")
        world.process(HOUR)
        assert actions(world) == ["CreateInterfaceEndpoint", "DeleteEndpoint"]
        assert [change.progress for change in changes(world)] == ["applied"] * 2
        assert world.aws.region().link.groups == {}
        assert "leaves" in note_of(world, target, "VPCE.3")

    def test_so_does_making_way(self) -> None:
        """It is ours that stands in the way, to the last interface."""
        world = catalogue(VPCE_3={"mode": "remediate", "services": ["ssm"]})
        target = private(world)
        look(world, target)
        world.aws.region().link.lingering = 2
        conflict = Conflict("CreateVpcEndpoint", "them", SSM)
        world.enqueue(target, cause=Cause("CreateVpcEndpoint/e-2", Caller.TERRAFORM, conflict=conflict))
        world.process(HOUR)
        assert actions(world) == ["CreateInterfaceEndpoint", "DeleteEndpoint"]
        assert world.aws.region().link.groups == {}

    @pytest.mark.parametrize("control", ["VPCE_3", "VPCE_4"])
    def test_a_group_that_never_goes_is_told_and_the_change_counts(self, control: str) -> None:
        """The endpoint is gone, which is what mattered; the person learns what is left."""
        world = catalogue(**{control: {"mode": "remediate"} | ({"services": ["ssm"]} if control == "VPCE_3" else {})})
        target, control_id = private(world), control.replace("_", ".")
        look(world, target)
        world.aws.region().link.lingering = 10**6
        undo(world, target, control_id)
        world.process(HOUR)
        assert [change.progress for change in changes(world)] == ["applied"] * 2
        (group_id,) = world.aws.region().link.groups
        assert group_id in changes(world)[1].detail
        assert group_id in note_of(world, target, control_id)
        assert world.dead_letters.buried == []

    def test_while_changes_are_stopped_nothing_goes_on(self) -> None:
        """The kill switch counts for what was begun, too."""
        world = catalogue(VPCE_3={"mode": "remediate", "services": ["ssm"]})
        target = private(world)
        look(world, target)
        world.aws.region().link.lingering = 10**6
        world.enqueue(target, cause=Cause("a", request=Request(Ask.UNDO, "VPCE.3", "pat")))
        world.process(40)
        made = len(world.aws.performed)
        world.switch.set_to = Changes.STOPPED
        world.process(HOUR)
        assert len(world.aws.performed) == made


class TestEndpointPolicies:
    """VPCE.5: set on what is ours, put back on a wish."""

    def test_it_is_set_after_the_endpoint_was_created_and_put_back(self) -> None:
        """The looks that follow changes bring it about; undoing leaves the endpoint."""
        world = catalogue(VPCE_1={"mode": "remediate"}, VPCE_5={"mode": "remediate", "policies": {"s3": "tight"}})
        target = private(world)
        look(world, target)
        (endpoint,) = world.aws.region().endpoints.values()
        assert actions(world) == ["CreateGatewayEndpoint", "SetEndpointPolicy"]
        assert '"Deny"' in endpoint.policy_document
        assert state_of(world, target).made[endpoint.endpoint_id].policy_digest == endpoint.policy_digest

        undo(world, target, "VPCE.5")
        (endpoint,) = world.aws.region().endpoints.values()
        assert actions(world)[2:] == ["RestoreEndpointPolicy"]
        assert endpoint.policy_digest in (digest(FULL_ACCESS), digest(""))

    def test_where_something_runs_it_is_proposed(self) -> None:
        """A tight policy cuts off what it does not allow."""
        world = catalogue(VPCE_5={"mode": "remediate", "policies": {"s3": "tight"}})
        target = private(world)
        place = world.aws.region()
        place.create_endpoint(str(target.resource_id), S3, [place.main_table(str(target.resource_id))], change_id="x")
        (subnet_id, _) = place.link.subnets
        place.surroundings[str(target.resource_id)] = Surroundings(
            subnets={subnet_id: "acl-1"}, interfaces=(NetworkInterface("eni-1", subnet_id, (), "i-1"),)
        )
        look(world, target)
        assert actions(world) == []
        assert "what tight does not allow them on S3 is refused" in text_of(world, target, "VPCE.5")


class TestInstanceConnect:
    """VPCE.4: an endpoint, then the instances' side."""

    @pytest.mark.parametrize(
        ("may_open", "made"),
        [
            (False, ["CreateInstanceConnectEndpoint"]),
            (True, ["CreateInstanceConnectEndpoint", "AdmitInstanceConnect"]),
        ],
    )
    def test_the_instances_side_is_changed_where_that_is_allowed(self, *, may_open: bool, made: list[str]) -> None:
        """Otherwise the finding names the groups, and stays."""
        world = catalogue(VPCE_4={"mode": "remediate", "open_instances": may_open})
        target = private(world)
        link = world.aws.region().link
        group_id = link.add_group(str(target.resource_id))
        link.instance_groups[str(target.resource_id)] = ((group_id,),)
        look(world, target)
        assert actions(world) == made
        assert status(world, target, "VPCE.4") == ("PASSED" if may_open else "FAILED")
        assert may_open or group_id in text_of(world, target, "VPCE.4")

    def test_all_of_it_is_undone_in_its_order(self) -> None:
        """The rule on their group first, then the endpoint with its group."""
        world = catalogue(VPCE_4={"mode": "remediate", "open_instances": True})
        target = private(world)
        link = world.aws.region().link
        group_id = link.add_group(str(target.resource_id))
        link.instance_groups[str(target.resource_id)] = ((group_id,),)
        look(world, target)
        undo(world, target, "VPCE.4")
        undo(world, target, "VPCE.4")
        assert actions(world)[2:] == ["StopAdmitting", "DeleteInstanceConnectEndpoint"]
        assert list(link.groups) == [group_id]
        assert link.groups[group_id][1].ingress == ()

    def test_somebody_who_creates_one_gets_their_own(self) -> None:
        """There can be only one in a VPC."""
        world = catalogue(VPCE_4={"mode": "remediate"})
        target = private(world)
        look(world, target)
        conflict = Conflict(
            "CreateInstanceConnectEndpoint", "them", subnet_id=next(iter(world.aws.region().link.subnets))
        )
        world.enqueue(target, cause=Cause("CreateInstanceConnectEndpoint/e-4", Caller.CDK, conflict=conflict))
        world.process(HOUR)
        assert actions(world) == ["CreateInstanceConnectEndpoint", "DeleteInstanceConnectEndpoint"]


def test_a_group_that_was_left_behind_does_not_keep_a_vpc_from_being_deleted() -> None:
    """Ours, and nothing has it any more."""
    world = catalogue(VPCE_3=APPROVED)
    target = private(world)
    place = world.aws.region()
    tags = {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE.3"}
    group_id = place.link.add_group(str(target.resource_id))
    place.link.groups[group_id] = (str(target.resource_id), replace(place.link.groups[group_id][1], tags=tags))
    place.link.subnets.clear()
    conflict = Conflict("DeleteVpc", "them")
    world.enqueue(target, cause=Cause("DeleteVpc/e-5", Caller.OTHER, conflict=conflict))
    world.process(60)
    assert actions(world) == ["DeleteSecurityGroup"]
    assert place.link.groups == {}


class TestWhatIsObserved:
    """What only some scopes need is looked for where they match."""

    SCOPED: ClassVar[dict[str, Any]] = {
        "controls": {"VPCE.1": {"mode": "remediate"}},
        "scopes": [
            {
                "name": "private",
                "where": {"tags": {"network": "private"}},
                "controls": {"VPCE.3": {"mode": "approve", "services": ["ssm"]}},
            },
            {
                "name": "workers",
                "where": {"tags": {"role": "worker"}},
                "controls": {"ROLE.2": {"mode": "detect", "actions": ["s3:ListAllMyBuckets"]}},
            },
        ],
    }

    def looked(self, *tagged: str) -> World:
        """Sweep two VPCs and two instances, of which some have the tags of the scopes."""
        world = World(careful_policy(self.SCOPED))
        place = world.aws.region()
        place.link.services.update(SERVICES)
        for _ in range(2):
            vpc_id, instance_id = place.create_vpc(), place.launch_instance()
            place.link.add_subnet(vpc_id, f"{REGION}a")
            if vpc_id in tagged:
                place.vpcs[vpc_id] = replace(place.vpcs[vpc_id], tags={"network": "private"})
            if instance_id in tagged:
                place.tag_instance(instance_id, role="worker")
        world.sweep()
        return world

    def test_where_none_matches_nothing_more_is_read(self) -> None:
        """One observation, of what is needed everywhere."""
        world = self.looked()
        assert [(scope.everything, needs) for scope, needs in world.aws.observed] == [(True, Needs())]

    def test_where_one_matches_that_one_is_observed_closer(self) -> None:
        """The VPC and the instance, and not their neighbours; both verdicts are there."""
        world = self.looked("vpc-0001", "i-0001")
        (_, first), (scope, second) = world.aws.observed
        assert first == Needs()
        assert (set(scope.vpc_ids), set(scope.instance_ids)) == ({"vpc-0001"}, {"i-0001"})
        assert second.interface_services == {"ssm"}
        assert "s3:ListAllMyBuckets" in second.role_actions
        assert world.hub.state("vpc-0001", "VPCE.3") == "FAILED"
        assert world.hub.find("vpc-0002", "VPCE.3") is None
