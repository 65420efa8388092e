"""The controls of the catalogue in the loop: several changes to one VPC, each undone, none in the way of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from portcullis.endpoint_policies import FULL_ACCESS, digest
from portcullis.errors import TransientError
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Ask,
    Caller,
    Cause,
    Conflict,
    InterfaceService,
    Kind,
    Needs,
    Request,
    Target,
    VpcEndpoint,
)
from portcullis.ports import Changes
from portcullis.surroundings import NetworkInterface, Surroundings

from tests.fakes import REGION, AwsRefusedError, CrashError, Trouble, World, careful_policy, vpc
from tests.fakes.private_link import DNS_CONFLICT
from tests.unit.stories import actions, approve, changes, note_of, state_of, text_of, undo

SSM, SSMMESSAGES, S3 = (f"com.amazonaws.{REGION}.{name}" for name in ("ssm", "ssmmessages", "s3"))
SERVICES = {
    key: InterfaceService(f"com.amazonaws.{REGION}.{name}", (), (f"{name}.{REGION}.amazonaws.com",))
    for name in ("ssm", "ssmmessages", "s3")
    for key in (name, f"com.amazonaws.{REGION}.{name}")
}
TIGHT = {"document": {"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}]}}
READ_ONLY = {"document": {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:Get*", "Resource": "*"}]}}
NEWER = {
    "controls": {"VPCE.1": {"mode": "remediate"}, "VPCE.5": {"mode": "remediate", "policies": {"s3": "newer"}}},
    "endpoint_policies": {"newer": READ_ONLY},
}
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
        price = "It costs about $32.12 a month ($8.03 for each endpoint in each zone), and $0.01 for each GB."
        assert price in text_of(world, target, "VPCE.3")

        approve(world, target, "VPCE.3")

        assert actions(world) == ["CreateInterfaceEndpoint"] * 2
        link = world.aws.region().link
        assert [group.name for _, group in link.groups.values()] == ["portcullis-VPCE.3"]
        assert status(world, target, "VPCE.3") == "PASSED"

    def test_an_approval_is_of_what_the_finding_proposed(self) -> None:
        """Somebody adds a zone between the proposal and the approval: what costs more is proposed anew."""
        world = catalogue(VPCE_3=APPROVED)
        target = private(world)
        look(world, target)
        world.aws.region().link.add_subnet(str(target.resource_id), f"{REGION}c")
        approve(world, target, "VPCE.3")
        assert actions(world) == []
        assert "not what the finding proposed" in note_of(world, target, "VPCE.3")
        assert "about $48.18 a month" in text_of(world, target, "VPCE.3")
        approve(world, target, "VPCE.3")
        assert actions(world) == ["CreateInterfaceEndpoint"] * 2

    def test_an_approval_of_more_than_is_left_is_one_of_the_rest(self) -> None:
        """Somebody has created one of two meanwhile: the other is made."""
        world = catalogue(VPCE_3=APPROVED)
        target = private(world)
        look(world, target)
        theirs = VpcEndpoint(
            *("vpce-theirs", str(target.resource_id), "Interface", SSM, "available"),
            subnet_ids=("subnet-0001",),
            private_dns=True,
        )
        world.aws.region().endpoints["vpce-theirs"] = theirs
        approve(world, target, "VPCE.3")
        assert {one.service_name for one in world.aws.region().endpoints.values()} == {SSM, SSMMESSAGES}
        assert actions(world) == ["CreateInterfaceEndpoint"]

    def test_where_nothing_is_proposed_the_finding_names_the_price_too(self) -> None:
        """In mode detect: who reads it has to know what it would cost."""
        world = catalogue(VPCE_3=APPROVED | {"mode": "detect"})
        target = private(world)
        look(world, target)
        assert "It costs about $32.12 a month" in text_of(world, target, "VPCE.3")

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
        world.process(31 * 24 * HOUR)
        assert [change.progress for change in changes(world)] == ["failed", "applied"], "it is tried once a month"

    @pytest.mark.parametrize("mode", ["approve", "remediate"])
    def test_a_name_that_resolves_elsewhere_hides_no_other_service(self, mode: str) -> None:
        """What is missing beside it is a failure, is proposed, and is made."""
        world = catalogue(VPCE_3={"mode": mode, "services": ["ssm"]})
        target = private(world)
        world.calls.plan("perform", Trouble(AwsRefusedError("InvalidParameter", DNS_CONFLICT)))
        look(world, target)
        if mode == "approve":
            approve(world, target, "VPCE.3")
        assert status(world, target, "VPCE.3") == "WARNING"
        world.set_policy(careful_policy({"controls": {"VPCE.3": {"mode": mode, "services": ["ssm", "ssmmessages"]}}}))
        look(world, target)
        if mode == "approve":
            assert status(world, target, "VPCE.3") == "FAILED"
            assert "proposes to create interface endpoints for ssmmessages in" in text_of(world, target, "VPCE.3")
        else:
            assert [one.service_name for one in world.aws.region().endpoints.values()] == [SSMMESSAGES]
            look(world, target)
            assert status(world, target, "VPCE.3") == "WARNING"

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


class TestHostedZonesThatAreNotKnown:
    """Route 53 is throttled: VPCE.3 is not told, and nothing else suffers."""

    def test_an_open_finding_stays_as_it_is(self) -> None:
        """It is neither closed nor renewed; the gateway endpoint is created all the same."""
        world = catalogue(VPCE_1={"mode": "remediate"}, VPCE_3=APPROVED)
        target = private(world)
        world.enqueue(target, cause=Cause("CreateSubnet/e-1", Caller.OTHER))
        world.process(60)
        before = text_of(world, target, "VPCE.3")
        world.aws.region().link.hosted_zones[str(target.resource_id)] = None
        look(world, target)
        assert (status(world, target, "VPCE.3"), text_of(world, target, "VPCE.3")) == ("FAILED", before)
        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_an_approval_is_told_to_ask_again(self) -> None:
        """Nothing is done on what is not known."""
        world = catalogue(VPCE_3=APPROVED)
        target = private(world)
        look(world, target)
        world.aws.region().link.hosted_zones[str(target.resource_id)] = None
        approve(world, target, "VPCE.3")
        assert actions(world) == []
        assert "Ask again" in note_of(world, target, "VPCE.3")


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
        world.aws.region().link.lingering = 0
        world.switch.set_to = Changes.ENABLED
        world.process(HOUR)
        assert actions(world) == ["CreateInterfaceEndpoint", "DeleteEndpoint"], "it goes on, and nothing comes back"
        assert world.aws.region().link.groups == {}


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

    def test_an_older_policy_is_not_undone_under_a_newer_one(self) -> None:
        """What stood before the older one would replace the newer one."""
        world = catalogue(VPCE_1={"mode": "remediate"}, VPCE_5={"mode": "remediate", "policies": {"s3": "tight"}})
        target = private(world)
        look(world, target)
        older = state_of(world, target).latest("VPCE.5") or ""
        world.set_policy(careful_policy(NEWER))
        look(world, target)
        undo(world, target, "VPCE.5", change_id=older)
        assert actions(world) == ["CreateGatewayEndpoint", "SetEndpointPolicy", "SetEndpointPolicy"]
        assert "is not the one that it set" in note_of(world, target, "VPCE.5")

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
    place.link.groups[group_id] = (
        str(target.resource_id),
        replace(place.link.groups[group_id][1], name="portcullis-VPCE.3", tags=tags),
    )
    place.link.subnets.clear()
    conflict = Conflict("DeleteVpc", "them")
    world.enqueue(target, cause=Cause("DeleteVpc/e-5", Caller.OTHER, conflict=conflict))
    world.process(60)
    assert actions(world) == ["DeleteSecurityGroup"]
    assert place.link.groups == {}


class TestWhatIsSwitchedOff:
    """What is ours stays ours, and can be taken back, once the policy does not ask for it any more."""

    def made(self, control: str, **entry: Any) -> tuple[World, Target]:
        """Let a control make what it makes, then switch it off."""
        world = catalogue(**{control: {"mode": "remediate"} | entry})
        target = private(world)
        link = world.aws.region().link
        link.instance_groups[str(target.resource_id)] = ((link.add_group(str(target.resource_id)),),)
        look(world, target)
        world.set_policy(careful_policy({"controls": {control.replace("_", "."): {"mode": "off"}}}))
        return world, target

    def test_it_is_undone_as_before(self) -> None:
        """The rule, the endpoint, and the group with it."""
        world, target = self.made("VPCE_4", open_instances=True)
        undo(world, target, "VPCE.4")
        undo(world, target, "VPCE.4")
        assert actions(world)[2:] == ["StopAdmitting", "DeleteInstanceConnectEndpoint"]
        link = world.aws.region().link
        assert (link.connect, len(link.groups)) == ({}, 1)
        assert [group.ingress for _, group in link.groups.values()] == [()]

    def test_the_group_goes_with_the_last_interface_endpoint(self) -> None:
        """As it does while the control is on."""
        world, target = self.made("VPCE_3", services=["ssm"])
        undo(world, target, "VPCE.3")
        assert [name for name, (_, one) in world.aws.region().link.groups.items() if one.is_ours()] == []

    def test_an_undo_that_was_under_way_is_not_taken_for_done(self) -> None:
        """Throttled once, then switched off: the rule that opens SSH is not forgotten."""
        world, target = self.made("VPCE_4", open_instances=True)
        world.calls.plan("perform", Trouble(TransientError("busy")))
        undo(world, target, "VPCE.4")
        world.process(HOUR)
        assert actions(world)[2:] == ["StopAdmitting"]
        assert [group.ingress for _, group in world.aws.region().link.groups.values() if not group.is_ours()] == [()]

    def test_a_creation_of_which_nobody_heard_is_found(self) -> None:
        """The answer was lost, then the control was switched off: it is ours, and can be undone."""
        world = catalogue(VPCE_4={"mode": "remediate"})
        target = private(world)
        world.calls.plan("end", Trouble(CrashError("at the outcome")))
        world.enqueue(target, cause=Cause("CreateSubnet/e-1", Caller.OTHER))
        world.process(400)
        world.set_policy(careful_policy({"controls": {"VPCE.4": {"mode": "off"}}}))
        look(world, target)
        assert actions(world) == ["CreateInstanceConnectEndpoint"]
        assert list(state_of(world, target).made) == list(world.aws.region().link.connect)

    def test_it_makes_way_for_a_subnet_that_is_deleted(self) -> None:
        """The call names no VPC: a look at everything finds whose subnet it is."""
        world, target = self.made("VPCE_4")
        subnet_id = next(one.subnet_id for _, one in world.aws.region().link.connect.values())
        conflict = Conflict("DeleteSubnet", "them", subnet_id=subnet_id)
        place = replace(target, kind=Kind.ACCOUNT_REGION, resource_id=None)
        world.enqueue(place, cause=Cause("DeleteSubnet/e-6", Caller.OTHER, conflict=conflict))
        world.process(HOUR)
        assert actions(world)[1:] == ["DeleteInstanceConnectEndpoint"]


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
