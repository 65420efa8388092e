"""Describe calls page, filter, and show edge associations and shared VPCs."""

from __future__ import annotations

from typing import Any

import pytest

from local.fidelity.ec2 import share_vpc

from .conftest import MEMBER, OTHER, REGION, Aws, error_of

S3 = f"com.amazonaws.{REGION}.s3"


def _endpoints(ec2: Any, name: str, *values: str) -> list[str]:
    found = ec2.describe_vpc_endpoints(Filters=[{"Name": name, "Values": list(values)}])
    return [endpoint["VpcEndpointId"] for endpoint in found["VpcEndpoints"]]


@pytest.mark.parametrize("operation", ["describe_vpcs", "describe_subnets", "describe_route_tables"])
def test_describe_calls_page(ec2: Any, vpc_id: str, operation: str) -> None:
    """MaxResults and NextToken are honoured; moto returns everything at once."""
    for number in range(6):
        ec2.create_vpc(CidrBlock="10.0.0.0/16")
        ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{number}.0/24")
    pages = list(ec2.get_paginator(operation).paginate(PaginationConfig={"PageSize": 5}))
    key = {"describe_vpcs": "Vpcs", "describe_subnets": "Subnets", "describe_route_tables": "RouteTables"}[operation]
    sizes = [len(page[key]) for page in pages]
    assert len(sizes) > 1
    assert sizes[:-1] == [5] * (len(sizes) - 1)
    assert sum(sizes) == len(getattr(ec2, operation)()[key])


def test_vpc_endpoints_and_associations_page(aws: Aws, ec2: Any, vpc_id: str) -> None:
    """The other two lists that a sweep reads."""
    for _ in range(3):
        ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3)
    first = ec2.describe_vpc_endpoints(MaxResults=2)
    rest = ec2.describe_vpc_endpoints(MaxResults=2, NextToken=first["NextToken"])
    assert (len(first["VpcEndpoints"]), len(rest["VpcEndpoints"])) == (2, 1)
    assert "NextToken" not in rest
    aws.client("iam").create_instance_profile(InstanceProfileName="app")
    ec2.run_instances(ImageId="ami-1", MinCount=6, MaxCount=6, IamInstanceProfile={"Name": "app"})
    paginator = ec2.get_paginator("describe_iam_instance_profile_associations")
    pages = list(paginator.paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page["IamInstanceProfileAssociations"]) for page in pages] == [5, 1]


def test_page_sizes_have_a_maximum(ec2: Any) -> None:
    """DescribeRouteTables takes 100 at most, DescribeVpcs 1,000."""
    assert error_of(ec2.describe_route_tables, MaxResults=101)[0] == "InvalidParameterValue"
    assert len(ec2.describe_route_tables(MaxResults=100)["RouteTables"]) == 1
    assert error_of(ec2.describe_vpcs, MaxResults=1001)[0] == "InvalidParameterValue"
    assert error_of(ec2.describe_vpcs, NextToken="!")[0] == "InvalidPaginationToken"


def test_filters_of_vpc_endpoints(ec2: Any, vpc_id: str) -> None:
    """All documented ones that a control may use; some crash moto."""
    tags = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "owner", "Value": "portcullis"}]}]
    created = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3, TagSpecifications=tags)
    endpoint_id = created["VpcEndpoint"]["VpcEndpointId"]
    other = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3, VpcEndpointType="Interface")
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
    """S3 and DynamoDB as gateways, S3 as an interface, too; the filters crash moto."""
    ec2 = aws.client("ec2", MEMBER, region)

    def found(**values: str) -> set[tuple[str, str]]:
        filters = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in values.items()]
        details = ec2.describe_vpc_endpoint_services(Filters=filters)["ServiceDetails"]
        return {(detail["ServiceName"], detail["ServiceType"][0]["ServiceType"]) for detail in details}

    s3, dynamodb = f"com.amazonaws.{region}.s3", f"com.amazonaws.{region}.dynamodb"
    assert found(service_type="Gateway") == {(s3, "Gateway"), (dynamodb, "Gateway")}
    assert found(service_name=s3) == {(s3, "Gateway"), (s3, "Interface")}
    assert found(service_name=s3, service_type="Gateway") == {(s3, "Gateway")}


def test_a_filter_matches_any_of_its_values(ec2: Any, vpc_id: str) -> None:
    """A table with one of the subnets is found; moto wants all on either side."""
    table = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"] for number in range(3)
    ]
    for subnet in subnets[:2]:
        ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    wanted = [{"Name": "association.subnet-id", "Values": subnets[1:]}]
    (found,) = ec2.describe_route_tables(Filters=wanted)["RouteTables"]
    assert found["RouteTableId"] == table


def _associations(ec2: Any, table_id: str) -> list[dict[str, Any]]:
    (table,) = ec2.describe_route_tables(RouteTableIds=[table_id])["RouteTables"]
    return list(table["Associations"])


@pytest.mark.parametrize("kind", ["igw", "vgw"])
def test_edge_associations_are_shown(ec2: Any, vpc_id: str, kind: str) -> None:
    """Tables of internet and of virtual private gateways, and the filter for them."""
    table = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    if kind == "igw":
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    else:
        gateway = ec2.create_vpn_gateway(Type="ipsec.1")["VpnGateway"]["VpnGatewayId"]
    ec2.associate_route_table(RouteTableId=table, GatewayId=gateway)
    (association,) = _associations(ec2, table)
    assert (association["GatewayId"], association["Main"]) == (gateway, False)
    wanted = [{"Name": "association.gateway-id", "Values": [gateway]}]
    assert len(ec2.describe_route_tables(Filters=wanted)["RouteTables"]) == 1
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


def test_a_participant_sees_a_shared_vpc_but_not_its_endpoints(aws: Aws, ec2: Any, vpc_id: str) -> None:
    """VPC and tables are listed as the owner's; endpoints can be neither described nor created."""
    ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3)
    share_vpc(MEMBER, OTHER, REGION, vpc_id)
    participant = aws.client("ec2", OTHER)
    owners = {vpc["VpcId"]: vpc["OwnerId"] for vpc in participant.describe_vpcs()["Vpcs"]}
    assert owners[vpc_id] == MEMBER
    assert sorted(owners.values()) == [MEMBER, OTHER]
    assert [vpc["VpcId"] for vpc in participant.describe_vpcs(VpcIds=[vpc_id])["Vpcs"]] == [vpc_id]
    wanted = [{"Name": "vpc-id", "Values": [vpc_id]}]
    (table,) = participant.describe_route_tables(Filters=wanted)["RouteTables"]
    assert table["OwnerId"] == MEMBER
    by_id = participant.describe_route_tables(RouteTableIds=[table["RouteTableId"]])
    assert len(by_id["RouteTables"]) == 1
    assert participant.describe_vpc_endpoints(Filters=wanted)["VpcEndpoints"] == []
    refused = error_of(participant.create_vpc_endpoint, VpcId=vpc_id, ServiceName=S3)
    assert refused == ("UnauthorizedOperation", "This operation does not support shared VPCs.")
    assert len(ec2.describe_vpc_endpoints()["VpcEndpoints"]) == 1
