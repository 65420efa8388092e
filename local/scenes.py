"""The scenes of the demo: each makes the calls that people make, and says what AWS should show in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.clients import ACCOUNT_IDS, HOME_REGION, HUB_ACCOUNT_ID, REGIONS
from local.stage import PATIENCE, SERVICES, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEWCOMER = "666677778888"
"""The account that joins during the demo."""

Check = tuple[str, Any, Any]
"""What was looked at, what AWS shows, and what it should show."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene: ``act`` makes the calls and returns a function that yields the checks once all has settled."""

    title: str
    tells: str
    act: Callable[[Stage], Callable[[], Iterator[Check]]]


def _deployment(stage: Stage) -> Callable[[], Iterator[Check]]:
    def checks() -> Iterator[Check]:
        for account_id in ACCOUNT_IDS:
            yield f"account {account_id} takes part", stage.coverage(account_id), ["ok"] * len(REGIONS)
            yield f"VPCs of {account_id} without endpoints", stage.uncovered_vpcs(account_id), []

    return checks


def _bare_vpc(stage: Stage) -> Callable[[], Iterator[Check]]:
    vpc_id = stage.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    stage.props["vpc"] = vpc_id
    main = stage.main_table(vpc_id)

    def checks() -> Iterator[Check]:
        yield "routes", sorted(stage.endpoints(vpc_id)), [f"{main} dynamodb", f"{main} s3"]
        for control_id in ("VPCE.1", "VPCE.2"):
            yield f"{control_id} finding", stage.finding(control_id, vpc_id), "PASSED"

    return checks


def _deleted_endpoint(stage: Stage) -> Callable[[], Iterator[Check]]:
    vpc_id = stage.props["vpc"]
    key = f"{stage.main_table(vpc_id)} s3"
    old = stage.endpoints(vpc_id)[key]
    stage.ec2.delete_vpc_endpoints(VpcEndpointIds=[old])

    def checks() -> Iterator[Check]:
        new = stage.endpoints(vpc_id).get(key)
        yield "S3 route leads to a new endpoint", bool(new) and new != old, True
        yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"

    return checks


def _second_table(stage: Stage) -> Callable[[], Iterator[Check]]:
    stage.move("222233334444", "us-east-1")
    ec2 = stage.ec2
    vpc_id = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    main = stage.main_table(vpc_id)
    theirs = ec2.create_vpc_endpoint(
        VpcId=vpc_id, ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway", RouteTableIds=[main]
    )["VpcEndpoint"]["VpcEndpointId"]
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.1.1.0/24")["Subnet"]["SubnetId"]
    second = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=second, SubnetId=subnet)
    spare = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]

    def checks() -> Iterator[Check]:
        found = stage.endpoints(vpc_id)
        wanted = [f"{table} {service}" for table in (main, second) for service in ("dynamodb", "s3")]
        yield "routes", sorted(found), sorted(wanted)
        yield "their endpoint still serves the main table", found.get(f"{main} s3"), theirs
        yield "their endpoint was not extended", found.get(f"{second} s3") != theirs, True
        yield "the table without a subnet was left alone", any(key.startswith(spare) for key in found), False
        yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"

    return checks


def _terraform_apply(stage: Stage) -> Callable[[], Iterator[Check]]:
    start = len(stage.organisation.journal.since(0))
    vpc_id = stage.ec2.create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
    for number in range(19):
        stage.ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.2.{number}.0/24")

    def checks() -> Iterator[Check]:
        steps = [step.data for step in stage.organisation.journal.since(start)]
        looks = [
            s for s in steps if s.get("step") == "evaluated" and s["resource_id"] == vpc_id and s["control"] == "VPCE.1"
        ]
        yield "twenty events cost one look, or two", len(looks) in (1, 2), True
        yield "routes", len(stage.endpoints(vpc_id)), 2

    return checks


def _instance_without_role(stage: Stage) -> Callable[[], Iterator[Check]]:
    stage.move("333344445555", "ap-northeast-1")
    instance_id = stage.launch({"Name": "batch-worker"})

    def checks() -> Iterator[Check]:
        yield "instance profile", stage.profile(instance_id), "portcullis-default"
        yield "ROLE.1 finding", stage.finding("ROLE.1", instance_id), "PASSED"

    return checks


def _not_to_be_touched(stage: Stage) -> Callable[[], Iterator[Check]]:
    iam = stage.organisation.client("iam", stage.account_id)
    iam.create_instance_profile(InstanceProfileName="empty-profile")
    node = stage.launch({"eks:nodegroup-name": "workers", "kubernetes.io/cluster/shop": "owned"})
    theirs = stage.launch({"Name": "legacy"}, IamInstanceProfile={"Name": "empty-profile"})

    def checks() -> Iterator[Check]:
        yield "the EKS node has no profile", stage.profile(node), None
        yield "ROLE.1 finding on the node", stage.finding("ROLE.1", node), "FAILED"
        yield "the profile without a role was not replaced", stage.profile(theirs), "empty-profile"
        yield "ROLE.1 finding on it", stage.finding("ROLE.1", theirs), "FAILED"

    return checks


def _deleted_vpc(stage: Stage) -> Callable[[], Iterator[Check]]:
    stage.move("111122223333", "eu-west-1")
    vpc_id = stage.props["vpc"]
    stage.ec2.delete_vpc_endpoints(VpcEndpointIds=sorted(set(stage.endpoints(vpc_id).values())))
    stage.ec2.delete_vpc(VpcId=vpc_id)

    def checks() -> Iterator[Check]:
        for control_id in ("VPCE.1", "VPCE.2"):
            yield f"{control_id} finding", stage.finding(control_id, vpc_id), "ARCHIVED"

    return checks


def _lost_event(stage: Stage) -> Callable[[], Iterator[Check]]:
    stage.move("444455556666", "eu-west-1")
    events = stage.organisation.client("events", stage.account_id, stage.region)
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])
    vpc_id = stage.ec2.create_vpc(CidrBlock="10.3.0.0/16")["Vpc"]["VpcId"]
    stage.organisation.settled(PATIENCE)
    unseen = stage.endpoints(vpc_id)
    stage.sweep()

    def checks() -> Iterator[Check]:
        yield "nothing happened before the sweep", unseen, {}
        yield "routes after the sweep", len(stage.endpoints(vpc_id)), SERVICES
        yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"

    return checks


def _no_security_hub(stage: Stage) -> Callable[[], Iterator[Check]]:
    stage.move("222233334444", "eu-west-1")
    place = "222233334444/eu-west-1"
    client = stage.organisation.client("securityhub", stage.account_id, stage.region)
    client.disable_security_hub()
    stage.sweep()
    seen = [Stage(stage.organisation, HUB_ACCOUNT_ID, HOME_REGION).finding("COVERAGE.1", place)]
    words = stage.coverage(stage.account_id)
    client.enable_security_hub()
    stage.sweep()
    seen.append(Stage(stage.organisation, HUB_ACCOUNT_ID, HOME_REGION).finding("COVERAGE.1", place))

    def checks() -> Iterator[Check]:
        yield "portcullis coverage said so", words.count("no hub"), 1
        yield "COVERAGE.1 finding in the hub's account", seen, ["FAILED", "PASSED"]
        yield "all is well again", stage.coverage(stage.account_id), ["ok"] * len(REGIONS)

    return checks


def _newcomer(stage: Stage) -> Callable[[], Iterator[Check]]:
    stage.organisation.join(NEWCOMER, "newcomer")
    stage.organisation.settled(PATIENCE)
    uncovered = stage.uncovered_vpcs(NEWCOMER)
    stage.move(NEWCOMER, "eu-west-1")
    instance_id = stage.launch({"Name": "first-instance"})
    stage.sweep()

    def checks() -> Iterator[Check]:
        yield "its VPCs without endpoints, before any sweep", uncovered, []
        yield "instance profile of its first instance", stage.profile(instance_id), "portcullis-default"
        yield "it takes part", stage.coverage(NEWCOMER), ["ok"] * len(REGIONS)

    return checks


SCENES = (
    Scene(
        "The organisation",
        "One stack in the hub: its StackSets bring the member stacks to the hub and four members; the management "
        "account has them by hand. Each Region sends its first heartbeat, the hub looks, and mends the default VPCs.",
        _deployment,
    ),
    Scene("A bare VPC", "Somebody creates a VPC and nothing else.", _bare_vpc),
    Scene(
        "A deleted endpoint",
        "Somebody deletes the S3 endpoint of that VPC. The event names no VPC, so Portcullis looks at the whole "
        "account and Region.",
        _deleted_endpoint,
    ),
    Scene(
        "A second route table",
        "A team brings its own S3 endpoint for the main route table, then adds a second table with a subnet, and "
        "a third one without.",
        _second_table,
    ),
    Scene("A burst", "A pipeline creates a VPC and nineteen subnets at once: twenty events.", _terraform_apply),
    Scene(
        "An instance without a role",
        "Somebody launches an instance without an instance profile.",
        _instance_without_role,
    ),
    Scene(
        "Instances not to be touched",
        "EKS launches a node; somebody launches an instance whose profile holds no role.",
        _not_to_be_touched,
    ),
    Scene("A deleted VPC", "The first VPC is taken down: its endpoints, then the VPC.", _deleted_vpc),
    Scene(
        "Lost events",
        "Somebody disables the rules in a member's Region. A new VPC goes unseen, until the next sweep.",
        _lost_event,
    ),
    Scene(
        "An account without Security Hub",
        "Security Hub is switched off in a member's Region. The next sweep files that in the hub's account, and closes "
        "it when Security Hub is back.",
        _no_security_hub,
    ),
    Scene(
        "An account joins",
        "A new account joins the organisation during the run. StackSets deploy to it, its first heartbeat makes the "
        "hub look, and nobody has to do anything.",
        _newcomer,
    ),
)
