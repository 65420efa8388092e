"""``portcullis replay``: a recorded event, and what was recorded around it, decided offline."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from portcullis.cli import main, recording
from portcullis.controls import CONTROLS
from portcullis.deciding import OF_OURS, needs_of
from portcullis.model import GroupRule, InstanceConnectEndpoint, InterfaceService, Needs, Scope, VpcEndpoint
from portcullis.policy import parse
from portcullis.surroundings import Surroundings

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION, REMEDIATOR_ROLE, World
from tests.unit.stories import WORKLOAD

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes import FakeRegion

MODES = {name: {"mode": "remediate"} for name in ("VPCE.1", "VPCE.2", "ROLE.1")}
POLICY: dict[str, Any] = {"version": 1, "controls": MODES}
AT = "2026-03-02T09:00:00Z"
TERRAFORM = "APN/1.0 HashiCorp/1.0 Terraform/1.9.5 (+https://www.terraform.io) terraform-provider-aws/5.65.0"
OURS = {"portcullis:managed": "true", "portcullis:control": "VPCE.4", "portcullis:change": "c-4"}
CONNECT = InstanceConnectEndpoint("eice-1", "sub-1", "create-complete", tags=OURS)


class Desk:
    """Files, and the command line to read them with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World()
        self.place: FakeRegion = self.world.aws.region()
        self.write("policy.yaml", POLICY)

    def write(self, name: str, content: object) -> None:
        """Write a file as JSON, which YAML is as well, or as it is."""
        text = content if isinstance(content, str) else json.dumps(content)
        (self.folder / name).write_text(text, encoding="utf-8")

    def record(self, *, units: tuple[str, ...] = ()) -> None:
        """Record the world, as far as the policy looks at it."""
        policy = parse(json.loads((self.folder / "policy.yaml").read_text(encoding="utf-8")))
        recorder = recording.Recorder(self.world.aws, needs_of(policy, CONTROLS) | OF_OURS, buckets=False)
        recorder.observe(Scope(ACCOUNT, REGION, everything=True), Needs())
        seen = tuple(replace(one, units=units) for one in recorder.seen)
        self.write("seen.json", recording.write(recording.Recording(AT, seen)))

    def event(self, number: int = -1, **detail: Any) -> dict[str, Any]:
        """Return an event of the world, as Terraform's call at AT; with other details."""
        event = self.world.aws.events[number]
        return event | {"detail": event["detail"] | {"userAgent": TERRAFORM, "eventTime": AT} | detail}

    def failed(self, call: str, code: str, request: dict[str, Any], message: str = "no") -> dict[str, Any]:
        """Return the event of a call that failed."""
        more: dict[str, Any] = {
            "requestParameters": request,
            "responseElements": None,
            "errorCode": code,
            "errorMessage": message,
        }
        return self.event(eventName=call, userIdentity={"arn": f"arn:aws:iam::{ACCOUNT}:user/pat"}, **more)

    def run(self, event: object, *arguments: str, snapshot: bool = True, stdin: str | None = None) -> Result:
        """Replay an event."""
        self.write("event.json", event)
        files = ["event.json", *(["seen.json"] if snapshot else [])] if stdin is None else ["-"]
        paths = [name if name == "-" else str(self.folder / name) for name in files]
        policy = str(self.folder / "policy.yaml")
        return CliRunner().invoke(main, ["replay", *paths, "--policy", policy, *arguments], input=stdin)

    def told(self, event: object, *arguments: str, snapshot: bool = True) -> dict[str, Any]:
        """Return the answer to an event as data."""
        result = self.run(event, *arguments, "--output", "json", snapshot=snapshot)
        assert result.exit_code == 0, result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with a policy that mends, and a world to record."""
    return Desk(tmp_path)


def found(answer: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str, str | None]]:
    """Return status, what would be done and when, by resource and control."""
    return {
        (one["resource_id"], one["control_id"]): (one["status"], one["would"], one["due_at"])
        for one in answer["findings"]
    }


class TestWithoutASnapshot:
    """What an event leads to, and why."""

    def test_a_call(self, desk: Desk) -> None:
        """Its targets, and whose kind of client made it."""
        desk.place.create_vpc()
        event = desk.event(eventID="e-1")

        result = desk.run(event, snapshot=False)

        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "CreateVpc/e-1, by terraform, looked at 2026-03-02 09:00 UTC",
            "Portcullis looks at:",
            f"  {ACCOUNT} {REGION} vpc vpc-0001",
        ]
        assert desk.told(event, snapshot=False) == {
            "at": "2026-03-02T09:00:00+00:00",
            "cause": {
                "trigger": "CreateVpc/e-1",
                "caller": "terraform",
                "indirect": False,
                "conflict": None,
                "request": None,
                "at": None,
            },
            "own": False,
            "targets": [{"account_id": ACCOUNT, "region": REGION, "kind": "vpc", "resource_id": "vpc-0001"}],
        }

    def test_standard_input_and_another_time(self, desk: Desk) -> None:
        """A state change is nobody's call. Without a time of its own, an event is looked at now."""
        instance_id = desk.place.launch_instance()
        desk.place.set_state(instance_id, "stopped")
        event = desk.world.aws.events[-1]
        result = desk.run(event, "--at", "2026-04-01T10:00", stdin=json.dumps(event))
        assert result.stdout.splitlines()[0].endswith("looked at 2026-04-01 10:00 UTC")
        assert desk.told(event, snapshot=False)["at"] > "2026-04"
        assert desk.told(event | {"time": AT}, snapshot=False)["at"] == "2026-03-02T09:00:00+00:00"

    def test_what_leads_to_nothing(self, desk: Desk) -> None:
        """Somebody else's event, or a call of Portcullis's own; a snapshot is not even read then."""
        desk.place.create_vpc()
        other = desk.event() | {"source": "aws.s3"}
        assert desk.run(other).stdout.splitlines()[-1] == "This event does not concern Portcullis."
        issuer = {"type": "Role", "userName": REMEDIATOR_ROLE}
        own = desk.event(userIdentity={"type": "AssumedRole", "sessionContext": {"sessionIssuer": issuer}})
        assert desk.run(own).stdout.splitlines()[-1] == "Portcullis made this call itself."
        assert (desk.told(own)["own"], desk.told(own)["targets"]) == (True, [])


class TestWithASnapshot:
    """What would be found and done, and when."""

    @pytest.mark.parametrize(
        ("agent", "due"), [(TERRAFORM, "09:30"), ("console.amazonaws.com", "09:10"), ("aws-cli/2.17", "09:05")]
    )
    def test_a_change_is_due_when_it_was_quiet(self, desk: Desk, agent: str, due: str) -> None:
        """For so long as the policy says about that kind of caller."""
        vpc_id = desk.place.create_vpc()
        desk.place.create_vpc()
        desk.record()

        answer = desk.told(desk.event(0, userAgent=agent))

        assert found(answer) == {
            (vpc_id, name): ("FAILED", "change", f"2026-03-02T{due}:00+00:00") for name in ("VPCE.1", "VPCE.2")
        }
        assert answer["withdrawn"] == []

    def test_a_table(self, desk: Desk) -> None:
        """As a plan writes it."""
        busy = desk.place.create_vpc()
        desk.place.surroundings[busy] = WORKLOAD
        desk.record()

        lines = desk.run(desk.event(eventID="e-1")).stdout.splitlines()

        assert lines[:5] == [
            "CreateVpc/e-1, by terraform, looked at 2026-03-02 09:00 UTC",
            "Portcullis looks at:",
            f"  {ACCOUNT} {REGION} vpc {busy}",
            "",
            f"  VPCE.1  {busy}  FAILED  propose",
        ]
        assert "Portcullis proposes to create a" in lines[6]
        assert "It touches 1 running instance (i-busy)" in lines[7]

    def test_what_was_not_recorded(self, desk: Desk) -> None:
        """A VPC that the snapshot lacks: whether it is gone, or came later, nobody can tell. The table says it once."""
        desk.place.create_vpc()
        desk.world.aws.region().delete_vpc("vpc-0001")
        desk.record()
        answer = desk.told(desk.event(0))
        assert found(answer) == {
            ("vpc-0001", one.id): ("NOT_RECORDED", "nothing", None) for one in CONTROLS if one.kind == "vpc"
        }
        note = "vpc-0001 is not in the recording: it was not there when that was made."
        assert {one["note"] for one in answer["findings"]} == {note}
        assert desk.run(desk.event(0)).stdout.splitlines()[-2:] == ["", f"  {note}"]

    def test_an_event_that_names_nothing_is_about_everything(self, desk: Desk) -> None:
        """Its caller counts for all that is wrong; what is right is only in the JSON."""
        first, second = desk.place.create_vpc(), desk.place.create_vpc()
        desk.place.launch_instance()
        for name in desk.place.gateway_services.values():
            desk.place.create_endpoint(second, name, [desk.place.main_table(second)])
        desk.record()
        desk.place.associate(desk.place.main_table(first))
        event = desk.event()

        shown = [line.split()[:2] for line in desk.run(event).stdout.splitlines() if line.endswith("change")]
        assert shown == [["VPCE.1", first], ["VPCE.2", first], ["ROLE.1", "i-0001"]]
        answer = desk.told(event)
        assert answer["cause"]["indirect"] is True
        assert found(answer)[first, "VPCE.1"] == ("FAILED", "change", "2026-03-02T09:30:00+00:00")
        assert found(answer)[second, "VPCE.1"] == ("PASSED", "nothing", None)

    def test_nothing_to_be_done(self, desk: Desk) -> None:
        """Is said, where everything was looked at."""
        desk.place.disassociate(desk.place.add_route_table(desk.place.create_vpc()))
        desk.world.aws.region().delete_vpc("vpc-0001")
        desk.record()
        assert desk.run(desk.event(2)).stdout.splitlines()[-1] == "  Nothing is to be done."

    def test_the_units_of_the_recording_count(self, desk: Desk) -> None:
        """A scope of the policy may name one."""
        desk.write(
            "policy.yaml",
            POLICY
            | {
                "scopes": [
                    {"name": "x", "where": {"units": ["ou-ab12-12345678"]}, "controls": {"VPCE.1": {"mode": "detect"}}}
                ]
            },
        )
        desk.place.create_vpc()
        desk.record(units=("r-ab12", "ou-ab12-12345678"))
        answer = desk.told(desk.event())
        assert found(answer)["vpc-0001", "VPCE.1"] == ("FAILED", "report", None)
        assert found(answer)["vpc-0001", "VPCE.2"][1] == "change"


class TestConflicts:
    """A call that failed over something of ours."""

    def vpc_with_ours(self, desk: Desk, *, change_id: str = "c-1") -> str:
        """Create a VPC with an S3 endpoint."""
        vpc_id = desk.place.create_vpc()
        desk.place.create_endpoint(
            vpc_id, desk.place.gateway_services["s3"], [desk.place.main_table(vpc_id)], change_id=change_id
        )
        return vpc_id

    def creation(self, desk: Desk, vpc_id: str) -> dict[str, Any]:
        """Return the failed creation of somebody's endpoint on the main table."""
        request = {
            "CreateVpcEndpointRequest": {
                "VpcId": vpc_id,
                "ServiceName": desk.place.gateway_services["s3"],
                "RouteTableId": {"tag": 1, "content": desk.place.main_table(vpc_id)},
            }
        }
        return desk.failed("CreateVpcEndpoint", "Client.RouteAlreadyExists", request)

    def test_portcullis_makes_way(self, desk: Desk) -> None:
        """What is tagged as ours goes, and the VPC is left alone for as long as the policy says."""
        vpc_id = self.vpc_with_ours(desk)
        desk.record()
        event = self.creation(desk, vpc_id)

        answer = desk.told(event)

        assert answer["findings"] == []
        (withdrawn,) = answer["withdrawn"]
        assert withdrawn["action"]["type"] == "DeleteEndpoint"
        assert withdrawn["action"]["endpoint_id"] == "vpce-0001"
        assert withdrawn["resource_id"] == vpc_id
        assert withdrawn["left_alone_until"] == "2026-03-03T09:00:00+00:00"
        assert answer["cause"]["conflict"]["call"] == "CreateVpcEndpoint"
        lines = desk.run(event).stdout.splitlines()
        assert lines[1] == f"CreateVpcEndpoint of arn:aws:iam::{ACCOUNT}:user/pat failed over something that exists."
        assert lines[-2] == f"  {vpc_id}  Portcullis makes way: it will {withdrawn['what']},"
        assert lines[-1] == f"      and leave {vpc_id} alone until 2026-03-03 09:00 UTC."

    def test_not_for_what_is_somebody_elses(self, desk: Desk) -> None:
        """Then it is judged as ever."""
        vpc_id = self.vpc_with_ours(desk, change_id="")
        desk.record()
        answer = desk.told(self.creation(desk, vpc_id))
        assert answer["withdrawn"] == []
        assert found(answer)[vpc_id, "VPCE.1"][0] == "PASSED"

    def test_not_for_an_old_one(self, desk: Desk) -> None:
        """An hour later nobody waits for it any more."""
        vpc_id = self.vpc_with_ours(desk)
        desk.record()
        later = ("--at", "2026-03-02T10:00:01")
        assert desk.told(self.creation(desk, vpc_id), *later)["withdrawn"] == []
        assert "too long ago" in desk.run(self.creation(desk, vpc_id), *later).stdout

    def test_a_vpc_is_to_be_deleted(self, desk: Desk) -> None:
        """Our endpoints go only when nothing else is in it."""
        empty, used = self.vpc_with_ours(desk), self.vpc_with_ours(desk)
        desk.place.surroundings[used] = Surroundings({"subnet-1": "acl-1"})
        desk.place.link.connect["eice-1"] = (empty, CONNECT)
        desk.record()

        def withdrawn(vpc_id: str) -> list[str]:
            event = desk.failed("DeleteVpc", "Client.DependencyViolation", {"vpcId": vpc_id})
            return [one["action"]["endpoint_id"] for one in desk.told(event)["withdrawn"]]

        assert withdrawn(empty) == ["vpce-0001", "eice-1"]
        assert withdrawn(used) == []

    def test_a_call_that_names_no_vpc_is_about_the_one_that_it_concerns(self, desk: Desk) -> None:
        """By the endpoint or subnet in it; the others are looked at as ever."""
        mine, other = self.vpc_with_ours(desk), desk.place.create_vpc()
        desk.place.link.connect["eice-1"] = (mine, CONNECT)
        desk.record()
        event = desk.failed("DeleteSubnet", "Client.DependencyViolation", {"subnetId": "sub-1"})
        answer = desk.told(event)
        assert [one["resource_id"] for one in answer["withdrawn"]] == [mine]
        assert {resource_id for resource_id, _ in found(answer)} == {other}

    @pytest.mark.parametrize(("profile", "makes_way"), [("portcullis-default", True), ("theirs", False)])
    def test_an_association(self, desk: Desk, profile: str, *, makes_way: bool) -> None:
        """Ours is that of a profile which the policy gives."""
        instance_id = desk.place.launch_instance()
        desk.place.attach_profile(instance_id, desk.world.aws.add_profile(ACCOUNT, profile, "r"))
        bare = desk.place.launch_instance()
        desk.record()

        def withdrawn(instance_id: str) -> list[str]:
            request = {"AssociateIamInstanceProfileRequest": {"InstanceId": instance_id}}
            message = f"There is an existing association for instance {instance_id}"
            event = desk.failed("AssociateIamInstanceProfile", "Client.IncorrectState", request, message)
            return [one["action"]["type"] for one in desk.told(event)["withdrawn"]]

        assert withdrawn(instance_id) == (["DisassociateInstanceProfile"] if makes_way else [])
        assert withdrawn(bare) == withdrawn("i-gone") == []


class TestFaults:
    """What cannot be used is one line, with the file, and exit status 2."""

    @pytest.mark.parametrize(
        ("event", "message"),
        [
            ("no JSON", "it is not JSON ("),
            ({"version": 1}, "source is missing, expected text; pass a whole EventBridge event"),
        ],
    )
    def test_no_event(self, desk: Desk, event: object, message: str) -> None:
        """The message names the event's file."""
        result = desk.run(event)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"portcullis: {desk.folder / 'event.json'}: {message}")
        assert len(result.stderr.splitlines()) == 1

    def test_a_snapshot_of_elsewhere(self, desk: Desk) -> None:
        """Or that is none, or lacks what another policy looks at."""
        desk.place.create_vpc()
        desk.record()
        path = desk.folder / "seen.json"

        def fault(event: dict[str, Any]) -> str:
            result = desk.run(event)
            assert (result.exit_code, result.stdout) == (2, "")
            return result.stderr.rstrip()

        elsewhere = desk.event() | {"account": OTHER_ACCOUNT}
        assert fault(elsewhere) == (
            f"portcullis: {path}: the recording is not of {OTHER_ACCOUNT} {REGION}; it is of {ACCOUNT} {REGION}"
        )
        desk.write("policy.yaml", {"version": 1, "controls": {"VPCE.3": {"mode": "detect", "services": ["ssm"]}}})
        assert "lacks what this policy looks at (interface_services)" in fault(desk.event())
        desk.write("seen.json", "[]")
        assert fault(desk.event()).startswith(f"portcullis: {path}: it is no recording")
        path.unlink()
        assert fault(desk.event()).startswith(f"portcullis: {path}: it cannot be read")

    def test_a_snapshot_whose_values_make_no_sense(self, desk: Desk) -> None:
        """Every value is of the right type, and one is no address."""
        desk.write("policy.yaml", {"version": 1, "controls": {"VPCE.3": {"mode": "detect", "services": ["ssm"]}}})
        name = f"com.amazonaws.{REGION}.ssm"
        desk.place.link.services |= dict.fromkeys(("ssm", name), InterfaceService(name, ("a",)))
        vpc_id = desk.place.create_vpc()
        subnet_id = desk.place.link.add_subnet(vpc_id, "a")
        group_id = desk.place.link.add_group(vpc_id, ingress=(GroupRule("tcp", (443, 443), ("10.0.0.0/16",)),))
        where: dict[str, Any] = {"subnet_ids": (subnet_id,), "group_ids": (group_id,), "private_dns": True}
        desk.place.link.endpoints["vpce-9"] = VpcEndpoint("vpce-9", vpc_id, "Interface", name, "available", **where)
        desk.record()
        path = desk.folder / "seen.json"
        seen = json.loads(path.read_text(encoding="utf-8"))
        seen["places"][0]["snapshot"]["vpcs"][vpc_id]["cidrs"] = ["nonsense"]
        desk.write("seen.json", seen)
        result = desk.run(desk.event())
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"portcullis: {path}: what it says makes no sense (ValueError: 'nonsense' does")
        assert len(result.stderr.splitlines()) == 1

    def test_a_policy_with_faults(self, desk: Desk) -> None:
        """Every fault of it is told."""
        desk.place.create_vpc()
        desk.record()
        desk.write("policy.yaml", {"version": 1})
        result = desk.run(desk.event())
        assert result.exit_code == 2
        assert "1 fault(s) in" in result.stderr
