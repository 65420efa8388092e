"""What people who run such tools complain about in public, each as a test that it does not happen here."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portcullis.actions import ACTIONS
from portcullis.cli.policy_file import load as read_policy
from portcullis.errors import TransientError
from portcullis.model import Caller, Cause, Conflict
from portcullis.policy import Mode
from portcullis.surroundings import AclEntry, NetworkInterface, PrefixList, Surroundings

from tests.contract.templates import load
from tests.fakes import (
    ACCOUNT,
    REMEDIATOR_ROLE,
    World,
    careful_policy,
    instance,
    policy_of,
    vpc,
)

if TYPE_CHECKING:
    from portcullis.model import Target

HOUR = 3600
ROOT = Path(__file__).parents[2]
EXEMPT = {
    "exemptions": [
        {"name": "x", "where": {"tags": {"keep": "yes"}}, "owner": "o", "reason": "r", "expires": "2027-01-01"}
    ]
}


def told(world: World, target: Target, caller: Caller, call: str) -> None:
    """Let an event about a target arrive."""
    world.enqueue(target, cause=Cause(f"{call}/e-{len(world.queue.sent)}", caller))


def finding_of(world: World, resource_id: str, control_id: str) -> dict[str, Any]:
    """Return the finding about a resource, which must exist."""
    finding = world.hub.find(resource_id, control_id)
    assert finding
    return finding


class TestAnEndpointThatPolicyCreatedMadePipelinesFail:
    """eksctl, Terraform and CloudFormation failed, and rolled back, over an endpoint that a policy had created."""

    def test_a_pipeline_that_creates_its_own_within_the_window_never_meets_ours(self) -> None:
        """The change waits for half an hour of quiet after Terraform's last call, then finds nothing left to do."""
        world = World(careful_policy(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        told(world, vpc(vpc_id), Caller.TERRAFORM, "CreateVpc")
        world.process(20 * 60)
        told(world, vpc(vpc_id), Caller.TERRAFORM, "CreateSubnet")
        world.process(20 * 60)
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
        told(world, vpc(vpc_id), Caller.TERRAFORM, "CreateVpcEndpoint")
        world.process(3 * HOUR)
        assert world.aws.performed == []
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"
        assert world.scheduler.looks == {}

    def test_a_pipeline_that_comes_later_fails_once_and_its_retry_succeeds(self) -> None:
        """Ours is withdrawn, their retry goes through, and nothing of ours comes back while theirs is there."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        world.enqueue(vpc(vpc_id))
        world.drain()
        main, service = place.main_table(vpc_id), place.gateway_services["s3"]
        conflict = Conflict("CreateVpcEndpoint", "arn:aws:iam::111122223333:role/eksctl", service, (main,))
        world.enqueue(vpc(vpc_id), cause=Cause("CreateVpcEndpoint/e-9", Caller.CLOUDFORMATION, conflict=conflict))
        world.process(5 * 60)
        assert place.endpoints_of(vpc_id) == ()
        assert "made way" in finding_of(world, vpc_id, "VPCE.1")["Description"]
        theirs = place.create_endpoint(vpc_id, service, [main])
        told(world, vpc(vpc_id), Caller.CLOUDFORMATION, "CreateVpcEndpoint")
        world.process(30 * HOUR)
        assert [one.endpoint_id for one in place.endpoints_of(vpc_id)] == [theirs]
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"


class TestAProfileAttachedByARuleBrokeAStackThatAttachesItsOwn:
    """A stack that launches an instance, and associates a profile later, found another profile there."""

    def test_the_stack_associates_its_own_within_the_window(self) -> None:
        """Nothing of ours is ever attached."""
        world = World(careful_policy())
        place = world.aws.region()
        instance_id = place.launch_instance()
        told(world, instance(instance_id), Caller.CLOUDFORMATION, "RunInstances")
        world.process(25 * 60)
        place.attach_profile(instance_id, world.aws.add_profile(ACCOUNT, "theirs", "their-role"))
        told(world, instance(instance_id), Caller.CLOUDFORMATION, "AssociateIamInstanceProfile")
        world.process(3 * HOUR)
        assert world.aws.performed == []

    def test_the_stack_comes_later_fails_once_and_its_retry_succeeds(self) -> None:
        """Ours is taken off, and the instance left alone."""
        world = World(policy_of())
        place = world.aws.region()
        instance_id = place.launch_instance()
        world.enqueue(instance(instance_id))
        world.drain()
        assert place.instances[instance_id].profile
        conflict = Conflict("AssociateIamInstanceProfile", "arn:aws:iam::111122223333:role/stack")
        cause = Cause("AssociateIamInstanceProfile/e-9", Caller.CLOUDFORMATION, conflict=conflict)
        world.enqueue(instance(instance_id), cause=cause)
        world.process(5 * 60)
        assert place.instances[instance_id].profile is None
        assert "made way" in finding_of(world, instance_id, "ROLE.1")["Description"]


class TestTagsThatArriveLateExemptAllTheSame:
    """Tags arrive 30 to 60 seconds after RunInstances; a policy that ran first acted on an exempt instance."""

    def test_an_instance_that_is_tagged_a_minute_after_its_launch_is_never_changed(self) -> None:
        """The change waits, and the look before it reads the tags afresh."""
        world = World(careful_policy(EXEMPT))
        place = world.aws.region()
        instance_id = place.launch_instance()
        told(world, instance(instance_id), Caller.OTHER, "RunInstances")
        world.process(60)
        assert world.hub.state(instance_id, "ROLE.1") == "FAILED"
        place.tag_instance(instance_id, keep="yes")
        world.process(3 * HOUR)
        assert world.aws.performed == []
        assert finding_of(world, instance_id, "ROLE.1")["Description"].startswith("Exempt until")


def test_a_tool_replaced_a_different_existing_profile_silently() -> None:
    """An instance with a profile, even one without a role, is never touched; a finding says what to do."""
    world = World(policy_of())
    place = world.aws.region()
    theirs = world.aws.add_profile(ACCOUNT, "theirs")
    instance_id = place.launch_instance(profile=theirs)
    world.enqueue(instance(instance_id))
    world.drain()
    assert place.instances[instance_id].profile == theirs
    assert world.aws.performed == []
    assert (
        "Portcullis never replaces" in finding_of(world, instance_id, "ROLE.1")["Remediation"]["Recommendation"]["Text"]
    )


class TestAddingAnEndpointBrokeConnections:
    """Open connections were dropped, network ACLs blocked the new path, a tight policy hid package repositories."""

    def test_with_something_running_the_change_is_only_proposed_and_names_what_it_touches(self) -> None:
        """The finding lists the instances, the connections and the network ACL; nothing is changed for ever."""
        world = World(careful_policy(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        place.surroundings[vpc_id] = Surroundings(
            subnets={"subnet-1": "acl-1"},
            interfaces=(NetworkInterface("eni-1", "subnet-1", (), "i-1"),),
            acls={"acl-1": (AclEntry(100, egress=True, allow=True, protocol="-1", cidr="10.0.0.0/8"),)},
            prefix_lists={place.gateway_services["s3"]: PrefixList("pl-1", ("52.218.0.0/17",))},
        )
        told(world, vpc(vpc_id), Caller.CONSOLE, "CreateVpc")
        world.process(30 * HOUR)
        text = finding_of(world, vpc_id, "VPCE.1")["Description"]
        assert world.aws.performed == []
        assert all(word in text for word in ("proposes to create", "i-1", "connections", "acl-1")), text

    def test_our_endpoints_restrict_nothing_unless_the_policy_names_how(self) -> None:
        """No creation names an endpoint policy, so it is full access; VPCE.5 sets one, where it is switched on."""
        creations = [kind for kind in ACTIONS if kind.__name__.startswith("Create")]
        assert creations
        assert not {one.name for kind in creations for one in fields(kind)} & {"document", "policy"}
        shipped = read_policy(ROOT / "layers/policy/policy.yaml").data
        assert shipped["controls"]["VPCE.5"]["mode"] == "off"


def test_a_recursive_policy_reacted_to_its_own_changes_millions_of_times() -> None:
    """The events of our own calls make no targets at all."""
    world = World(policy_of())
    place = world.aws.region()
    vpc_id = place.create_vpc()
    world.enqueue(vpc(vpc_id))
    world.drain()
    ours = [e for e in world.aws.events if REMEDIATOR_ROLE in str(e["detail"].get("userIdentity"))]
    assert len(ours) == 2
    world.intake.handle([{"messageId": str(n), "body": json.dumps(event)} for n, event in enumerate(ours)])
    assert world.queue.waiting == []


def test_something_that_takes_our_changes_back_again_and_again_is_not_fought_for_ever() -> None:
    """After as many changes of one resource in a day as the policy admits Portcullis stops, and says so."""
    world = World(careful_policy({"limits": {"changes_per_resource_per_day": 3}}, VPCE_2=Mode.OFF))
    place = world.aws.region()
    vpc_id = place.create_vpc()
    for _ in range(6):
        told(world, vpc(vpc_id), Caller.OTHER, "DeleteVpcEndpoints")
        world.process(HOUR)
        for endpoint in place.endpoints_of(vpc_id):
            place.delete_endpoint(endpoint.endpoint_id)
    assert len(world.aws.performed) == 3
    assert "3 times within a day" in finding_of(world, vpc_id, "VPCE.1")["Description"]


class TestFindingsThatNeverCloseAreArchivedByAPartialScanOrShareOneId:
    """Findings stayed open for ever, vanished with half a scan, or one stood for several resources."""

    def test_a_finding_closes_when_it_is_right_again(self) -> None:
        """Without any event of that: the sweep sees it."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        world.sweep()
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
        world.sweep()
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"

    def test_a_look_that_could_not_be_completed_archives_nothing(self) -> None:
        """The account shuts us out: its open findings stay open."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        world.sweep()
        world.aws.shut.add(ACCOUNT)
        world.sweep()
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"

    def test_every_resource_and_control_has_a_finding_of_its_own(self) -> None:
        """Two VPCs and two controls make four ids."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.DETECT))
        for _ in range(2):
            world.aws.region().create_vpc()
        world.sweep()
        assert len(world.hub.findings) == 4


class TestAFilterErrorLetTheRemediationProceedAndSuppressedFindingsWereRemediated:
    """What could not be read was taken for consent, and so was what an analyst had suppressed."""

    def test_whatever_cannot_be_read_stops_the_change(self) -> None:
        """Whichever read fails, for as long as it fails, nothing is changed."""
        for read in ("load", "states", "observe", "surroundings", "suppressed", "begin"):
            world = World(policy_of(VPCE_2=Mode.OFF))
            vpc_id = world.aws.region().create_vpc()
            world.enqueue(vpc(vpc_id))
            world.calls.fail_always(read, TransientError(f"{read} fails"))
            world.process(HOUR)
            assert world.aws.performed == [], read

    def test_a_suppressed_finding_is_never_remediated(self) -> None:
        """However often it is looked at."""
        world = World(careful_policy(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        told(world, vpc(vpc_id), Caller.OTHER, "CreateVpc")
        world.process(60)
        name = finding_of(world, vpc_id, "VPCE.1")["Id"]
        world.hub.analyst_sets(name, workflow="SUPPRESSED", note="ours")
        for _ in range(3):
            world.sweep()
            world.process(HOUR)
        assert world.aws.performed == []


def test_ninety_rules_meant_ninety_functions_and_kms_keys_cost_ten_times_everything_else() -> None:
    """A handful of functions whatever the number of controls, and no key of our own."""
    types = [resource["Type"] for resource in load(ROOT / "template.yaml")["Resources"].values()]
    assert types.count("AWS::Serverless::Function") <= 8
    assert not any("KMS" in kind for kind in types)
