"""VPCs, and the endpoints that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import Stage

    from .scene import Check


def _bare_vpc(stage: Stage) -> Iterator[Check]:
    vpc_id = stage.props["vpc"] = stage.create_vpc("10.0.0.0/16")
    main = stage.main_table(vpc_id)
    stage.settle()
    stage.read("VPCE.1", vpc_id)
    yield "the finding says when", bool(stage.planned("VPCE.1", vpc_id)), True
    yield "routes, at once", stage.endpoints(vpc_id), {}
    stage.later(minutes=6)
    stage.read("VPCE.1", vpc_id)
    yield "routes", sorted(stage.endpoints(vpc_id)), [f"{main} dynamodb", f"{main} s3"]
    for control_id in ("VPCE.1", "VPCE.2"):
        yield f"{control_id} finding", stage.finding(control_id, vpc_id), "PASSED"


def _deleted_endpoint(stage: Stage) -> Iterator[Check]:
    vpc_id = stage.props["vpc"]
    key = f"{stage.main_table(vpc_id)} s3"
    old = stage.endpoints(vpc_id)[key]
    stage.ec2.delete_vpc_endpoints(VpcEndpointIds=[old])
    stage.settle()
    yield "VPCE.1 finding, at once", stage.finding("VPCE.1", vpc_id), "FAILED"
    stage.later(minutes=6)
    new = stage.endpoints(vpc_id).get(key)
    yield "S3 route leads to a new endpoint", bool(new) and new != old, True
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"


def _second_table(stage: Stage) -> Iterator[Check]:
    stage.move("222233334444", "us-east-1")
    ec2 = stage.ec2
    vpc_id = stage.props["vpc with two tables"] = stage.create_vpc("10.1.0.0/16")
    main = stage.main_table(vpc_id)
    theirs = ec2.create_vpc_endpoint(
        VpcId=vpc_id, ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway", RouteTableIds=[main]
    )["VpcEndpoint"]["VpcEndpointId"]
    second = stage.create_table(vpc_id, stage.create_subnet(vpc_id, "10.1.1.0/24"))
    spare = stage.create_table(vpc_id)
    stage.settle()
    stage.read("VPCE.1", vpc_id)
    stage.later(minutes=6)
    found = stage.endpoints(vpc_id)
    wanted = [f"{table} {service}" for table in (main, second) for service in ("dynamodb", "s3")]
    yield "routes", sorted(found), sorted(wanted)
    yield "their endpoint still serves the main table", found.get(f"{main} s3"), theirs
    yield "their endpoint was not extended", found.get(f"{second} s3") != theirs, True
    yield "the table without a subnet was left alone", any(key.startswith(spare) for key in found), False
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"


SCENES = (
    Scene(
        "A bare VPC",
        "Somebody creates a VPC and nothing else. The finding opens at once and says when the change will come; that "
        "is when nobody has called anything about the VPC for five minutes.",
        _bare_vpc,
    ),
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
)
