"""What people decide: approve a change, undo one, stop them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stage import SERVICES

from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import Stage

    from .scene import Check


def _approval(stage: Stage) -> Iterator[Check]:
    stage.move("444455556666", "us-east-1")
    vpc_id = stage.create_vpc("10.5.0.0/16")
    subnet = stage.create_subnet(vpc_id, "10.5.1.0/24")
    profile = {"Name": "portcullis-default"}
    running = [stage.launch({"Name": name}, SubnetId=subnet, IamInstanceProfile=profile) for name in ("web", "worker")]
    stage.await_running(*running)
    stage.later(minutes=6)
    stage.read("VPCE.1", vpc_id)
    yield "endpoints, without anybody's approval", stage.endpoints(vpc_id), {}

    stage.press("Remediate", "VPCE.1", vpc_id)
    stage.suppress("VPCE.2", vpc_id)
    stage.portcullis("approve", stage.finding_id("VPCE.2", vpc_id), "--yes")
    stage.settle()
    for control_id in ("VPCE.1", "VPCE.2"):
        stage.read(control_id, vpc_id)
    yield "routes", [key.split()[1] for key in stage.endpoints(vpc_id)], ["s3"]
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"
    yield "VPCE.2 finding", stage.finding("VPCE.2", vpc_id), "FAILED"
    yield "it was refused", "suppressed" in stage.answer("VPCE.2", vpc_id), True


def _undo(stage: Stage) -> Iterator[Check]:
    stage.move("111122223333", "eu-west-1")
    vpc_id = stage.props["vpc"]
    main = stage.main_table(vpc_id)
    dynamodb = stage.endpoints(vpc_id)[f"{main} dynamodb"]
    stage.ec2.modify_vpc_endpoint(VpcEndpointId=dynamodb, PolicyDocument='{"Statement": []}')
    stage.settle()
    latest = {change["control_id"]: change["change_id"] for change in reversed(stage.history("--resource", vpc_id))}
    for control_id in ("VPCE.1", "VPCE.2"):
        stage.portcullis("undo", latest[control_id], "--yes")
    stage.later(minutes=6)
    for control_id in ("VPCE.1", "VPCE.2"):
        stage.read(control_id, vpc_id)
    yield "routes", stage.endpoints(vpc_id), {f"{main} dynamodb": dynamodb}
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "FAILED"
    yield "it is left alone", "leaves" in stage.description("VPCE.1", vpc_id), True
    yield "what differs", "the policy of" in stage.answer("VPCE.2", vpc_id), True


def _switch(stage: Stage) -> Iterator[Check]:
    vpc_id = _vpc_while_stopped(stage)
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "FAILED"
    yield "it says so", "Changes are stopped" in stage.description("VPCE.1", vpc_id), True

    stage.turn("undo-only")
    other = stage.props["vpc with two tables"]
    (change,) = [c for c in stage.history("--resource", other) if c["control_id"] == "VPCE.2"]
    stage.portcullis("undo", change["change_id"], "--yes")
    stage.create_subnet(vpc_id, "10.6.1.0/24")
    stage.settle()
    stage.move("222233334444", "us-east-1")
    stage.read("VPCE.2", other)
    yield "what was undone", [key for key in stage.endpoints(other) if key.endswith("dynamodb")], []
    stage.move("222233334444", "ap-northeast-1")
    yield "VPCE.1 finding, looked at again", "kill switch: undo-only" in stage.description("VPCE.1", vpc_id), True
    yield "what waits", stage.endpoints(vpc_id), {}

    stage.turn("enabled")
    stage.sweep()
    stage.later(minutes=6)
    yield "routes once changes go on", len(stage.endpoints(vpc_id)), SERVICES
    yield "VPCE.1 finding at the end", stage.finding("VPCE.1", vpc_id), "PASSED"


def _vpc_while_stopped(stage: Stage) -> str:
    stage.move("222233334444", "ap-northeast-1")
    stage.turn("stopped")
    vpc_id = stage.create_vpc("10.6.0.0/16")
    stage.later(minutes=6)
    stage.read("VPCE.1", vpc_id)
    return vpc_id


SCENES = (
    Scene(
        "An approval",
        "Instances run in a VPC, so Portcullis proposes and says what the change would touch. An analyst chooses the "
        "custom action Remediate for S3; the finding on DynamoDB is suppressed, and approving it is refused.",
        _approval,
    ),
    Scene(
        "An undo",
        "Somebody has the first VPC's changes taken back. Somebody else has changed the policy of the DynamoDB "
        "endpoint meanwhile, so that one stays.",
        _undo,
    ),
    Scene(
        "The kill switch",
        "Changes are stopped, without a deployment; findings go on. Then undoing alone is let through, while somebody "
        "adds a subnet; then everything again, from the next sweep on.",
        _switch,
    ),
)
