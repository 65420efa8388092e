"""Describe calls take page sizes, filter, and show edge associations."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import MEMBER, REGION, Aws, error_of

S3 = f"com.amazonaws.{REGION}.s3"


def _endpoints(ec2: Any, name: str, *values: str) -> list[str]:
    found = ec2.describe_vpc_endpoints(Filters=[{"Name": name, "Values": list(values)}])
    return [endpoint["VpcEndpointId"] for endpoint in found["VpcEndpoints"]]


@pytest.mark.parametrize(
    ("operation", "at_most"),
    [
        ("describe_vpcs", 1000),
        ("describe_route_tables", 100),
        ("describe_vpc_endpoints", 1000),
        ("describe_instances", 1000),
        ("describe_iam_instance_profile_associations", 1000),
    ],
)
def test_page_sizes_are_accepted(ec2: Any, operation: str, at_most: int) -> None:
    """The calls of a sweep, at the largest page that AWS allows."""
    assert list(ec2.get_paginator(operation).paginate(PaginationConfig={"PageSize": at_most}))


def test_a_call_that_moto_does_not_know_is_an_error_of_aws(ec2: Any) -> None:
    """And not a page of HTML with status 500."""
    assert error_of(ec2.describe_byoip_cidrs, MaxResults=5)[0] == "InvalidAction"


def test_filters_of_vpc_endpoints(ec2: Any, vpc_id: str) -> None:
    """All documented ones that a control may use; some crash moto."""
    tags = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "owner", "Value": "portcullis"}]}]
    created = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3, TagSpecifications=tags)
    endpoint_id = created["VpcEndpoint"]["VpcEndpointId"]
    interface = {"VpcEndpointType": "Interface", "PrivateDnsEnabled": False}
    other = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3, **interface)
    both = [endpoint_id, other["VpcEndpoint"]["VpcEndpointId"]]
    assert _endpoints(ec2, "vpc-endpoint-id", endpoint_id, "vpce-0a") == [endpoint_id]
    assert _endpoints(ec2, "vpc-endpoint-type", "Gateway") == [endpoint_id]
    assert _endpoints(ec2, "service-name", S3) == both
    assert _endpoints(ec2, "vpc-id", vpc_id) == both
    assert _endpoints(ec2, "vpc-endpoint-state", "available") == both
    assert _endpoints(ec2, "tag:owner", "portcullis") == [endpoint_id]
    assert _endpoints(ec2, "tag-key", "owner") == [endpoint_id]
    assert _endpoints(ec2, "vpc-id", "vpc-0a") == []


@pytest.mark.parametrize("region", [REGION, "us-east-1", "ap-southeast-2"])
def test_endpoint_services_can_be_filtered_in_every_region(aws: Aws, region: str) -> None:
    """S3 and DynamoDB, both as gateway and as interface; the filters crash moto."""
    ec2 = aws.client("ec2", MEMBER, region)

    def found(**values: str) -> set[tuple[str, str]]:
        filters = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in values.items()]
        details = ec2.describe_vpc_endpoint_services(Filters=filters)["ServiceDetails"]
        return {(detail["ServiceName"], detail["ServiceType"][0]["ServiceType"]) for detail in details}

    s3, dynamodb = f"com.amazonaws.{region}.s3", f"com.amazonaws.{region}.dynamodb"
    assert found(service_type="Gateway") == {(s3, "Gateway"), (dynamodb, "Gateway")}
    assert found(service_name=s3) == {(s3, "Gateway"), (s3, "Interface")}
    assert found(service_name=s3, service_type="Gateway") == {(s3, "Gateway")}


def _associations(ec2: Any, table_id: str) -> list[dict[str, Any]]:
    (table,) = ec2.describe_route_tables(RouteTableIds=[table_id])["RouteTables"]
    return list(table["Associations"])


def test_edge_associations_are_shown(ec2: Any, vpc_id: str) -> None:
    """The route table of an internet gateway."""
    table = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.associate_route_table(RouteTableId=table, GatewayId=gateway)
    (association,) = _associations(ec2, table)
    assert (association["GatewayId"], association["Main"]) == (gateway, False)
    ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
    assert _associations(ec2, table) == []


def test_an_association_can_move_to_another_table(ec2: Any, vpc_id: str) -> None:
    """ReplaceRouteTableAssociation, for a subnet and for the main table."""
    first, second = (ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"] for _ in range(2))
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    association = ec2.associate_route_table(RouteTableId=first, SubnetId=subnet)["AssociationId"]
    moved = ec2.replace_route_table_association(AssociationId=association, RouteTableId=second)
    assert _associations(ec2, first) == []
    assert [one["SubnetId"] for one in _associations(ec2, second)] == [subnet]
    assert moved["NewAssociationId"] == _associations(ec2, second)[0]["RouteTableAssociationId"]
    main_filter = [{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [vpc_id]}]
    (main,) = ec2.describe_route_tables(Filters=main_filter)["RouteTables"]
    (association,) = [one["RouteTableAssociationId"] for one in main["Associations"]]
    ec2.replace_route_table_association(AssociationId=association, RouteTableId=first)
    (main,) = ec2.describe_route_tables(Filters=main_filter)["RouteTables"]
    assert main["RouteTableId"] == first


def test_regions_that_need_opting_in_are_off(aws: Aws, ec2: Any) -> None:
    """Listed only on request, and no call is served there."""
    assert "me-south-1" not in {region["RegionName"] for region in ec2.describe_regions()["Regions"]}
    every = ec2.describe_regions(AllRegions=True)["Regions"]
    assert {region["RegionName"]: region["OptInStatus"] for region in every}["me-south-1"] == "not-opted-in"
    assert error_of(aws.client("ec2", MEMBER, "me-south-1").describe_vpcs)[0] == "AuthFailure"


def test_unknown_regions_and_filters_of_regions_are_refused(ec2: Any) -> None:
    """Rather than answered wrongly."""
    assert error_of(ec2.describe_regions, RegionNames=["mars-1"])[0] == "InvalidParameterValue"
    filters = [{"Name": "opt-in-status", "Values": ["opted-in"]}]
    assert error_of(ec2.describe_regions, Filters=filters)[0] == "InvalidAction"
