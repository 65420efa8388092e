"""The demo: people work in an organisation on this machine, and Portcullis reacts. Nothing in it is scripted output.

Each scene makes the calls that people make, waits until everything has settled, and then asks AWS (the local one)
what holds: routes, associations, findings. What Portcullis saw and did is read from its own log.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from portcullis.cli.organisation import Hub, as_json, matrix

from local import story
from local.clients import ACCOUNT_IDS, HOME_REGION, HUB_ACCOUNT_ID, REGIONS
from local.organisation import LocalOrganisation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.journal import Step

PARAMETERS = {"QueueDelaySeconds": "2"}
"""The hub's parameters in the demo: a real deployment waits 30 seconds for a burst to end, this one two."""

NEWCOMER = "666677778888"
"""The account that joins during the demo."""

ENVIRONMENT = {"POLICY": str(Path(__file__).with_name("policy.yaml"))}
"""What building the policy layer is told: the demo's own policy, all in mode remediate, and not the reader's."""

_PATIENCE = 60.0
_POLL = 0.2
_SERVICES = 2
_IMAGE = "ami-0123456789abcdef0"

Check = tuple[str, Any, Any]
"""What was looked at, what AWS shows, and what it should show."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene: ``act`` makes the calls and returns a function that yields the checks once all has settled."""

    title: str
    tells: str
    act: Callable[[Stage], Callable[[], Iterator[Check]]]


@dataclass
class Stage:
    """One account and Region, as a person with administrator rights sees it, and what earlier scenes left."""

    organisation: LocalOrganisation
    account_id: str = "111122223333"
    region: str = "eu-west-1"
    props: dict[str, str] = field(default_factory=dict)

    def sweep(self) -> None:
        """Start a sweep as `portcullis sweep` does, and wait for its end and for what it set off."""
        arn = self.hub.start_sweep()
        status = list(self.hub.follow(arn, lambda _: time.sleep(_POLL)))[-1][-1]
        if status != "SUCCEEDED" or not self.organisation.settled(_PATIENCE):
            raise RuntimeError(f"the sweep {arn} ended as {status}, or what it set off did not")

    @property
    def hub(self) -> Hub:
        """The deployed hub, as the command line sees it."""
        return Hub(SimpleNamespace(client=self.organisation.client, region_name=HOME_REGION))

    def coverage(self, account_id: str) -> list[str]:
        """Return the words of `portcullis coverage` for one account, by Region."""
        return [state.word for one, state in self.hub.coverage() if one.account_id == account_id]

    def uncovered_vpcs(self, account_id: str) -> list[str]:
        """Return the VPCs of an account without two endpoint routes, in every Region."""
        found = []
        for region in REGIONS:
            place = Stage(self.organisation, account_id, region)
            vpcs = place.ec2.describe_vpcs()["Vpcs"]
            found += [f"{region} {vpc['VpcId']}" for vpc in vpcs if len(place.endpoints(vpc["VpcId"])) != _SERVICES]
        return found

    @property
    def ec2(self) -> Any:
        """An EC2 client."""
        return self.organisation.client("ec2", self.account_id, self.region)

    def move(self, account_id: str, region: str) -> None:
        """Go to another account and Region."""
        self.account_id, self.region = account_id, region

    def endpoints(self, vpc_id: str) -> dict[str, str]:
        """Return, per route table and service (``rtb-1 s3``), the endpoint that the table's route leads to."""
        listed = self.ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["VpcEndpoints"]
        services = {e["VpcEndpointId"]: e["ServiceName"].rsplit(".", 1)[-1] for e in listed}
        return {
            f"{table['RouteTableId']} {services[route['GatewayId']]}": route["GatewayId"]
            for table in self.route_tables(vpc_id)
            for route in table["Routes"]
            if route.get("GatewayId") in services
        }

    def route_tables(self, vpc_id: str) -> list[dict[str, Any]]:
        """Return the route tables of a VPC."""
        found: list[dict[str, Any]] = self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])[
            "RouteTables"
        ]
        return found

    def main_table(self, vpc_id: str) -> str:
        """Return the id of a VPC's main route table."""
        tables = self.route_tables(vpc_id)
        return str(next(t["RouteTableId"] for t in tables if any(a.get("Main") for a in t["Associations"])))

    def profile(self, instance_id: str) -> str | None:
        """Return the name of the instance profile that is associated with an instance."""
        found = self.ec2.describe_iam_instance_profile_associations(
            Filters=[{"Name": "instance-id", "Values": [instance_id]}]
        )["IamInstanceProfileAssociations"]
        return found[0]["IamInstanceProfile"]["Arn"].rsplit("/", 1)[-1] if found else None

    def finding(self, control_id: str, resource_id: str) -> str:
        """Return a finding's state: compliance, or ARCHIVED, or "none"."""
        for finding in self.findings():
            if finding["Id"].startswith(f"portcullis/{control_id}/") and finding["Id"].endswith(resource_id):
                archived = finding["RecordState"] == "ARCHIVED"
                return "ARCHIVED" if archived else str(finding["Compliance"]["Status"])
        return "none"

    def findings(self) -> list[dict[str, Any]]:
        """Return every finding of this account and Region."""
        client = self.organisation.client("securityhub", self.account_id, self.region)
        pages = client.get_paginator("get_findings").paginate()
        return [finding for page in pages for finding in page["Findings"]]

    def launch(self, tags: dict[str, str], **arguments: Any) -> str:
        """Launch an instance, as people do, and return its id."""
        tagging = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
        answer = self.ec2.run_instances(
            ImageId=_IMAGE, InstanceType="t4g.micro", MinCount=1, MaxCount=1, TagSpecifications=tagging, **arguments
        )
        return str(answer["Instances"][0]["InstanceId"])


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
    stage.organisation.settled(_PATIENCE)
    unseen = stage.endpoints(vpc_id)
    stage.sweep()

    def checks() -> Iterator[Check]:
        yield "nothing happened before the sweep", unseen, {}
        yield "routes after the sweep", len(stage.endpoints(vpc_id)), _SERVICES
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
    stage.organisation.settled(_PATIENCE)
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


def run(output: Path) -> int:
    """Play every scene, print the story, and write the same as data.

    Returns:
        0 when every outcome is what AWS would show, else 1.
    """
    began = time.monotonic()
    story.opening()
    records = []
    with patch.dict(os.environ, ENVIRONMENT), LocalOrganisation(parameters=PARAMETERS) as organisation:
        story.ready(time.monotonic() - began)
        stage = Stage(organisation)
        for number, scene in enumerate(SCENES, start=1):
            record = _play(number, scene, stage)
            story.scene(record)
            records.append(record)
        covered = stage.hub.coverage()
        findings = _all_findings(stage, sorted({one.account_id for one, _ in covered}))
        buried = [asdict(letter) for letter in organisation.dead_letters()]
    ok = all(record["ok"] for record in records) and not buried
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        json.dumps(
            {
                "ok": ok,
                "scenes": records,
                "findings": findings,
                "coverage": json.loads(as_json(covered)),
                "dead_letters": buried,
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    story.coverage(matrix(covered))
    story.ending(findings, buried, ok=ok, seconds=time.monotonic() - began, output=output)
    return 0 if ok else 1


def _play(number: int, scene: Scene, stage: Stage) -> dict[str, Any]:
    journal = stage.organisation.journal
    start, began = len(journal.since(0)), time.time()
    results = []
    try:
        checks = scene.act(stage)
        settled = stage.organisation.settled(_PATIENCE)
        results = [{"what": what, "found": found, "expected": expected} for what, found, expected in checks()]
        results.append({"what": "everything settled", "found": settled, "expected": True})
        broken = []
    except Exception as error:  # noqa: BLE001 - a scene that breaks is a wrong outcome, and told like one
        broken = [f"the scene broke off: {error!r}"]
    steps = journal.since(start)
    errors = [step.text for step in steps if step.kind == "error"] + broken
    done = [step.at for step in steps if step.data.get("step") in ("acted", "filed")]
    return {
        "number": number,
        "title": scene.title,
        "tells": scene.tells,
        "calls": [_call(step) for step in steps if step.kind == "call"],
        "targets": _fields(steps, "queued", "account_id", "region", "kind", "resource_id"),
        "sweeps": _sweeps(steps),
        "evaluations": _fields(steps, "evaluated", "control", "resource_id", "status", "message", "wait"),
        "actions": _fields(steps, "acted", "control", "resource_id", "action", "result", "made", "message"),
        "findings": _fields(steps, "filed", "finding_id", "control", "resource_id", "compliance", "record_state"),
        "seconds": round((max(done) if done else time.time()) - began, 2),
        "checks": results,
        "errors": errors,
        "ok": not errors and all(result["found"] == result["expected"] for result in results),
    }


def _call(step: Step) -> dict[str, Any]:
    data = step.data
    return {
        "account_id": step.account_id,
        "region": step.region,
        "service": data["service"],
        "action": data["action"],
        "error_code": data["error_code"],
    }


def _fields(steps: list[Step], name: str, *fields: str) -> list[dict[str, Any]]:
    """Return some fields of every log record of one step of the loop."""
    records = [step.data for step in steps if step.kind == "log" and step.data.get("step") == name]
    return [{field: record.get(field) for field in fields} for record in records]


def _sweeps(steps: list[Step]) -> dict[str, Any]:
    """Return how many looks the sweeps took, and what they could not cover."""
    records = [step.data for step in steps if step.kind == "log"]
    looks = [r for r in records if r.get("step") == "swept" and r["function"] == "SweepFunction"]
    wanting = [r for r in records if r.get("step") == "uncovered" and r["function"] == "SurveyFunction"]
    return {"looks": len(looks), "uncovered": [str(r["message"]) for r in wanting]}


def _all_findings(stage: Stage, account_ids: list[str]) -> list[dict[str, Any]]:
    """Return the findings of all accounts and Regions, without those on default VPCs, which are all alike."""
    found = []
    for account_id, region in itertools.product(account_ids, REGIONS):
        stage.move(account_id, region)
        defaults = {vpc["VpcId"] for vpc in stage.ec2.describe_vpcs()["Vpcs"] if vpc["IsDefault"]}
        found += [
            {
                "id": finding["Id"],
                "account_id": account_id,
                "region": region,
                "control": finding["GeneratorId"].split("/")[-1],
                "resource_id": finding["Id"].split(":")[-1].removeprefix("vpc/").removeprefix("instance/"),
                "compliance": finding["Compliance"]["Status"],
                "record_state": finding["RecordState"],
                "description": finding["Description"],
                "remediation": finding["Remediation"]["Recommendation"]["Text"],
            }
            for finding in stage.findings()
            if finding["Resources"][0]["Id"].rsplit("/", 1)[-1] not in defaults
        ]
    return found
