"""The most frequent complaint about tools that change networks: they make somebody's pipeline fail.

The calls are those of terraform-provider-aws (internal/service/ec2: vpc_.go, vpc_subnet.go, vpc_route_table.go,
vpc_route_table_association.go, vpc_endpoint.go), without reads that only fill in attributes. aws_vpc is CreateVpc,
DescribeVpcs until it is available, and ModifyVpcAttribute for each attribute that differs. aws_vpc_endpoint is
CreateVpcEndpoint with a ClientToken of its own, and RouteAlreadyExists ends the apply. DeleteVpc is tried again for
five minutes while it answers DependencyViolation.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.stage import Stage

    from .scene import Check

_PLACE = ("111122223333", "us-east-1")
_SERVICE = "com.amazonaws.us-east-1.s3"


class _Terraform:
    """Terraform, with what it has in its state file."""

    def __init__(self, stage: Stage) -> None:
        self._ec2: Any = stage.organisation.client("ec2", *_PLACE, as_="terraform")

    def vpc(self, cidr: str) -> str:
        """Apply an aws_vpc with enable_dns_hostnames."""
        tags = [{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "shop"}]}]
        vpc = self._ec2.create_vpc(CidrBlock=cidr, InstanceTenancy="default", TagSpecifications=tags)["Vpc"]
        self._ec2.describe_vpcs(VpcIds=[vpc["VpcId"]])
        self._ec2.modify_vpc_attribute(VpcId=vpc["VpcId"], EnableDnsHostnames={"Value": True})
        self._ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute="enableDnsHostnames")
        return str(vpc["VpcId"])

    def route_table(self, vpc_id: str) -> str:
        """Apply an aws_route_table."""
        table = self._ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
        self._ec2.describe_route_tables(RouteTableIds=[table])
        return str(table)

    def subnet(self, vpc_id: str, cidr: str, table: str) -> str:
        """Apply an aws_subnet and its aws_route_table_association; returns the id of that."""
        subnet = self._ec2.create_subnet(VpcId=vpc_id, CidrBlock=cidr)["Subnet"]["SubnetId"]
        self._ec2.describe_subnets(SubnetIds=[subnet])
        return str(self._ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)["AssociationId"])

    def endpoint(self, vpc_id: str, table: str) -> str:
        """Apply an aws_vpc_endpoint for S3; returns its id, or the code of the error that ends the apply."""
        return self._tried(
            lambda: self._ec2.create_vpc_endpoint(
                ClientToken=f"terraform-{uuid.uuid4().hex}",  # a new one with each apply
                PrivateDnsEnabled=False,
                RouteTableIds=[table],
                ServiceName=_SERVICE,
                VpcEndpointType="Gateway",
                VpcId=vpc_id,
            )["VpcEndpoint"]["VpcEndpointId"]
        )

    def destroy_all_but_the_vpc(self, vpc_id: str, endpoint_id: str, table: str) -> None:
        """Destroy what hangs on the VPC, the last things first."""
        ec2, mine = self._ec2, [{"Name": "vpc-id", "Values": [vpc_id]}]
        ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])
        (found,) = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
        for association in found["Associations"]:
            ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
        ec2.delete_route_table(RouteTableId=table)
        for subnet in ec2.describe_subnets(Filters=mine)["Subnets"]:
            ec2.delete_subnet(SubnetId=subnet["SubnetId"])

    def destroy_vpc(self, vpc_id: str) -> str:
        """Try to destroy the VPC; returns the code of the error over which it is tried again."""
        return self._tried(lambda: self._ec2.delete_vpc(VpcId=vpc_id) and "gone")

    def _tried(self, call: Callable[[], str]) -> str:
        try:
            return call()
        except ClientError as error:
            return str(error.response["Error"]["Code"])


def _conflict(stage: Stage) -> Iterator[Check]:
    stage.move(*_PLACE)
    terraform, start = _Terraform(stage), len(stage.organisation.journal.since(0))
    vpc_id = stage.props["shop"] = terraform.vpc("10.2.0.0/16")
    table = stage.props["shop table"] = terraform.route_table(vpc_id)
    for number in range(8):
        terraform.subnet(vpc_id, f"10.2.{number}.0/24", table)
    stage.settle()
    # One, and one or two for AssociateRouteTable, which names no VPC.
    yield "twenty calls cost few looks", stage.looks(start, vpc_id) in (1, 2, 3), True
    stage.read("VPCE.1", vpc_id)
    first = stage.planned("VPCE.1", vpc_id)

    stage.later(minutes=20)
    terraform.subnet(vpc_id, "10.2.20.0/24", table)
    stage.settle()
    yield "the change is put off", stage.planned("VPCE.1", vpc_id) > first, True
    stage.later(minutes=15)
    yield "endpoints at the first time", stage.endpoints(vpc_id), {}
    stage.later(minutes=16)
    ours = stage.endpoints(vpc_id)
    main = stage.main_table(vpc_id)
    yield "tables with an S3 route, after half an hour", (f"{main} s3" in ours, f"{table} s3" in ours), (True, True)

    stage.later(days=1)
    yield "the next day: CreateVpcEndpoint", terraform.endpoint(vpc_id, table), "RouteAlreadyExists"
    stage.settle()
    stage.read("VPCE.1", vpc_id)
    left = stage.endpoints(vpc_id)
    yield "only that route is gone", sorted(set(ours) - set(left)), [f"{table} s3"]
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "FAILED"
    yield "it is left alone", f"leaves {vpc_id} alone until" in stage.description("VPCE.1", vpc_id), True

    theirs = stage.props["shop endpoint"] = terraform.endpoint(vpc_id, table)
    stage.settle()
    stage.read("VPCE.1", vpc_id)
    yield "the retry succeeds, and theirs serves", stage.endpoints(vpc_id).get(f"{table} s3"), theirs
    yield "VPCE.1 finding at the end", stage.finding("VPCE.1", vpc_id), "PASSED"


def _destroy(stage: Stage) -> Iterator[Check]:
    terraform, vpc_id = _Terraform(stage), stage.props["shop"]
    terraform.destroy_all_but_the_vpc(vpc_id, stage.props["shop endpoint"], stage.props["shop table"])
    yield "DeleteVpc", terraform.destroy_vpc(vpc_id), "DependencyViolation"
    stage.settle()
    yield "our endpoints", stage.endpoints(vpc_id), {}
    stage.read("VPCE.2", vpc_id)
    yield "the retry", terraform.destroy_vpc(vpc_id), "gone"
    stage.settle()
    for control_id in ("VPCE.1", "VPCE.2"):
        yield f"{control_id} finding", stage.finding(control_id, vpc_id), "ARCHIVED"


SCENES = (
    Scene(
        "Terraform comes second",
        "Terraform builds a VPC with eight subnets, and goes on 20 minutes later; each call puts the change off. "
        "After half an hour of quiet Portcullis creates the endpoints. The next day Terraform wants an S3 endpoint on "
        "its own route table, and fails: Portcullis makes way, and the retry succeeds.",
        _conflict,
    ),
    Scene(
        "Terraform destroys",
        "terraform destroy deletes what it made; the VPC cannot be deleted while our endpoints are in it. Portcullis "
        "withdraws them, and the deletion, which Terraform tries again for five minutes, succeeds.",
        _destroy,
    ),
)
