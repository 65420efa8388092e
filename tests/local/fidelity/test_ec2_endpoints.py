"""Gateway endpoints own their routes, and are checked as in AWS."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from .conftest import REGION, error_of

S3 = f"com.amazonaws.{REGION}.s3"
DYNAMODB = f"com.amazonaws.{REGION}.dynamodb"


def _table(ec2: Any, vpc_id: str) -> str:
    return str(ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"])


def _create(ec2: Any, vpc_id: str, *tables: str, **parameters: Any) -> str:
    wanted = {"VpcId": vpc_id, "ServiceName": S3, "RouteTableIds": list(tables), **parameters}
    return str(ec2.create_vpc_endpoint(**wanted)["VpcEndpoint"]["VpcEndpointId"])


def _owners(ec2: Any, table_id: str) -> list[str]:
    """Return the endpoints that have a route in a table."""
    (table,) = ec2.describe_route_tables(RouteTableIds=[table_id])["RouteTables"]
    return [route["GatewayId"] for route in table["Routes"] if "DestinationPrefixListId" in route]


def _ids(ec2: Any) -> list[str]:
    return [endpoint["VpcEndpointId"] for endpoint in ec2.describe_vpc_endpoints()["VpcEndpoints"]]


def test_the_type_defaults_to_gateway(ec2: Any, vpc_id: str) -> None:
    """Moto leaves the type out, and cannot delete such an endpoint."""
    endpoint_id = _create(ec2, vpc_id)
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert (endpoint["VpcEndpointType"], endpoint["State"]) == ("Gateway", "available")
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])
    assert _ids(ec2) == []


def test_a_covered_route_table_is_refused(ec2: Any, vpc_id: str) -> None:
    """A table holds one endpoint route for each service; moto lets the newcomer take it over."""
    table = _table(ec2, vpc_id)
    first = _create(ec2, vpc_id, table)
    code, message = error_of(ec2.create_vpc_endpoint, VpcId=vpc_id, ServiceName=S3, RouteTableIds=[table])
    assert code == "RouteAlreadyExists"
    assert message.startswith(f"route table {table} already has a route with destination-prefix-list-id pl-")
    assert _owners(ec2, table) == [first]
    # Another service has another prefix list.
    second = _create(ec2, vpc_id, table, ServiceName=DYNAMODB)
    assert _owners(ec2, table) == [first, second]


@pytest.mark.parametrize("missing", [True, False])
def test_a_refused_creation_leaves_nothing_behind(ec2: Any, vpc_id: str, *, missing: bool) -> None:
    """All or nothing, when one of several tables conflicts or does not exist."""
    free, covered = _table(ec2, vpc_id), _table(ec2, vpc_id)
    first = _create(ec2, vpc_id, covered)
    tables = [free, "rtb-0a" if missing else covered]
    code, _ = error_of(ec2.create_vpc_endpoint, VpcId=vpc_id, ServiceName=S3, RouteTableIds=tables)
    assert code == ("InvalidRouteTableId.NotFound" if missing else "RouteAlreadyExists")
    assert _ids(ec2) == [first]
    assert _owners(ec2, free) == []


def test_an_unknown_service_is_refused(ec2: Any, vpc_id: str) -> None:
    """Moto makes endpoints for anything."""
    service = f"com.amazonaws.{REGION}.s4"
    code, message = error_of(ec2.create_vpc_endpoint, VpcId=vpc_id, ServiceName=service)
    assert (code, message) == ("InvalidServiceName", f"The Vpc Endpoint Service '{service}' does not exist")


def test_tables_of_another_vpc_are_refused(ec2: Any, vpc_id: str) -> None:
    """An endpoint and its tables are in one VPC."""
    other = _table(ec2, ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"])
    wanted = {"VpcId": vpc_id, "ServiceName": S3, "RouteTableIds": [other]}
    assert error_of(ec2.create_vpc_endpoint, **wanted)[0] == "InvalidParameter"


def test_edge_route_tables_are_refused(ec2: Any, vpc_id: str) -> None:
    """A gateway route table cannot hold a prefix list as destination."""
    edge = _table(ec2, vpc_id)
    gateway_id = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.associate_route_table(RouteTableId=edge, GatewayId=gateway_id)
    wanted = {"VpcId": vpc_id, "ServiceName": S3, "RouteTableIds": [edge]}
    assert error_of(ec2.create_vpc_endpoint, **wanted)[0] == "InvalidParameter"


def test_dry_runs_change_nothing(ec2: Any, vpc_id: str) -> None:
    """Create, modify and delete answer DryRunOperation; moto does it for real."""
    table = _table(ec2, vpc_id)
    create = {"VpcId": vpc_id, "ServiceName": S3, "DryRun": True}
    assert error_of(ec2.create_vpc_endpoint, **create)[0] == "DryRunOperation"
    assert _ids(ec2) == []
    endpoint_id = _create(ec2, vpc_id)
    modify = {"VpcEndpointId": endpoint_id, "AddRouteTableIds": [table], "DryRun": True}
    assert error_of(ec2.modify_vpc_endpoint, **modify)[0] == "DryRunOperation"
    assert _owners(ec2, table) == []
    delete = {"VpcEndpointIds": [endpoint_id], "DryRun": True}
    assert error_of(ec2.delete_vpc_endpoints, **delete)[0] == "DryRunOperation"
    assert _ids(ec2) == [endpoint_id]


def test_a_client_token_makes_creation_idempotent(ec2: Any, vpc_id: str) -> None:
    """The same request again returns the same endpoint; another request with that token is an error."""
    table = _table(ec2, vpc_id)
    first = _create(ec2, vpc_id, table, ClientToken="t")
    assert _create(ec2, vpc_id, table, ClientToken="t") == first
    changed = {"VpcId": vpc_id, "ServiceName": DYNAMODB, "ClientToken": "t"}
    assert error_of(ec2.create_vpc_endpoint, **changed)[0] == "IdempotentParameterMismatch"


def test_a_token_of_a_deleted_endpoint_creates_nothing(ec2: Any, vpc_id: str) -> None:
    """Whoever wants another endpoint needs another token; documented for instances, believed for endpoints."""
    table = _table(ec2, vpc_id)
    first = _create(ec2, vpc_id, table, ClientToken="t")
    ec2.delete_vpc_endpoints(VpcEndpointIds=[first])
    assert _create(ec2, vpc_id, table, ClientToken="t") == first
    assert (_ids(ec2), _owners(ec2, table)) == ([], [])
    assert _create(ec2, vpc_id, table, ClientToken="u") != first


def test_an_endpoint_says_its_policy(ec2: Any, vpc_id: str) -> None:
    """The full access policy, or the one that was given."""
    policy = '{"Version":"2012-10-17","Statement":[]}'
    for wanted, service in (({}, S3), ({"PolicyDocument": policy}, DYNAMODB)):
        created = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=service, **wanted)["VpcEndpoint"]
        (shown,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[created["VpcEndpointId"]])["VpcEndpoints"]
        assert created["PolicyDocument"] == shown["PolicyDocument"]
        assert (shown["PolicyDocument"] == policy) == bool(wanted)


def test_gateway_services_have_addresses(ec2: Any) -> None:
    """DescribePrefixLists says which, so that network ACLs and security groups can be compared with them."""
    lists = {one["PrefixListName"]: one["Cidrs"] for one in ec2.describe_prefix_lists()["PrefixLists"]}
    for service in (S3, DYNAMODB):
        assert all(ipaddress.ip_network(cidr) for cidr in lists[service])
        assert lists[service]


def test_a_failed_creation_does_not_use_up_its_token(ec2: Any, vpc_id: str) -> None:
    """A retry after the cause is gone creates the endpoint."""
    table = _table(ec2, vpc_id)
    first = _create(ec2, vpc_id, table)
    wanted = {"VpcId": vpc_id, "ServiceName": S3, "RouteTableIds": [table], "ClientToken": "t"}
    assert error_of(ec2.create_vpc_endpoint, **wanted)[0] == "RouteAlreadyExists"
    ec2.delete_vpc_endpoints(VpcEndpointIds=[first])
    assert _create(ec2, vpc_id, table, ClientToken="t") != first


def test_modifying_moves_the_routes(ec2: Any, vpc_id: str) -> None:
    """Moto edits the list of tables and leaves the routes alone."""
    before, after = _table(ec2, vpc_id), _table(ec2, vpc_id)
    endpoint_id = _create(ec2, vpc_id, before)
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, AddRouteTableIds=[after], RemoveRouteTableIds=[before])
    assert (_owners(ec2, before), _owners(ec2, after)) == ([], [endpoint_id])
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["RouteTableIds"] == [after]


def test_a_refused_modification_changes_nothing(ec2: Any, vpc_id: str) -> None:
    """All or nothing: one of the tables is another endpoint's."""
    free, covered, own = (_table(ec2, vpc_id) for _ in range(3))
    _create(ec2, vpc_id, covered)
    endpoint_id = _create(ec2, vpc_id, own)
    change = {"VpcEndpointId": endpoint_id, "AddRouteTableIds": [free, covered], "RemoveRouteTableIds": [own]}
    assert error_of(ec2.modify_vpc_endpoint, **change)[0] == "RouteAlreadyExists"
    assert (_owners(ec2, free), _owners(ec2, own)) == ([], [endpoint_id])


def test_deleting_takes_routes_and_endpoint_away(ec2: Any, vpc_id: str) -> None:
    """Moto lists deleted endpoints for ever; afterwards the table is free for another."""
    table = _table(ec2, vpc_id)
    endpoint_id = _create(ec2, vpc_id, table)
    assert ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])["Unsuccessful"] == []
    assert (_ids(ec2), _owners(ec2, table)) == ([], [])
    assert error_of(ec2.describe_vpc_endpoints, VpcEndpointIds=[endpoint_id])[0] == "InvalidVpcEndpointId.NotFound"
    _create(ec2, vpc_id, table)


def test_unknown_endpoints_come_back_as_unsuccessful(ec2: Any, vpc_id: str) -> None:
    """DeleteVpcEndpoints succeeds as a call, and says per id what failed."""
    endpoint_id = _create(ec2, vpc_id)
    (failed,) = ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id, "vpce-0a"])["Unsuccessful"]
    assert (failed["ResourceId"], failed["Error"]["Code"]) == ("vpce-0a", "InvalidVpcEndpointId.NotFound")
    assert _ids(ec2) == []


def test_a_deleted_route_table_leaves_its_endpoint(ec2: Any, vpc_id: str) -> None:
    """No endpoint lists a table that is gone, and it can still be deleted."""
    table = _table(ec2, vpc_id)
    endpoint_id = _create(ec2, vpc_id, table)
    ec2.delete_route_table(RouteTableId=table)
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["RouteTableIds"] == []
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])


@pytest.mark.parametrize("kind", ["Gateway", "Interface"])
def test_a_vpc_with_an_endpoint_cannot_be_deleted(ec2: Any, vpc_id: str, kind: str) -> None:
    """DependencyViolation, and the VPC stays whole; moto leaves the endpoint without its VPC."""
    wanted = {"ServiceName": S3, "VpcEndpointType": kind, "PrivateDnsEnabled": False}
    created = ec2.create_vpc_endpoint(VpcId=vpc_id, **wanted)
    code, message = error_of(ec2.delete_vpc, VpcId=vpc_id)
    assert (code, message) == (
        "DependencyViolation",
        f"The vpc '{vpc_id}' has dependencies and cannot be deleted.",
    )
    ec2.delete_vpc_endpoints(VpcEndpointIds=[created["VpcEndpoint"]["VpcEndpointId"]])
    ec2.delete_vpc(VpcId=vpc_id)


def test_a_subnet_in_use_cannot_be_deleted(ec2: Any, vpc_id: str) -> None:
    """Neither with an instance nor with an interface endpoint in it; both leave nothing behind."""
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    launched = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]
    in_subnet = [{"Name": "subnet-id", "Values": [subnet]}]
    (interface,) = ec2.describe_network_interfaces(Filters=in_subnet)["NetworkInterfaces"]
    assert interface["Attachment"]["InstanceId"] == launched["InstanceId"]
    assert interface["Status"] == "in-use"
    refused = ("DependencyViolation", f"The subnet '{subnet}' has dependencies and cannot be deleted.")
    assert error_of(ec2.delete_subnet, SubnetId=subnet) == refused
    ec2.terminate_instances(InstanceIds=[launched["InstanceId"]])
    wanted = {"VpcEndpointType": "Interface", "SubnetIds": [subnet], "PrivateDnsEnabled": False}
    service = f"com.amazonaws.{REGION}.ssm"
    created = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=service, **wanted)["VpcEndpoint"]["VpcEndpointId"]
    (interface,) = ec2.describe_network_interfaces(Filters=in_subnet)["NetworkInterfaces"]
    assert (interface["InterfaceType"], interface["RequesterManaged"]) == ("vpc_endpoint", True)
    assert created in interface["Description"]
    assert error_of(ec2.delete_subnet, SubnetId=subnet) == refused
    assert error_of(ec2.delete_vpc, VpcId=vpc_id)[0] == "DependencyViolation"
    ec2.delete_vpc_endpoints(VpcEndpointIds=[created])
    ec2.delete_subnet(SubnetId=subnet)
    acls = ec2.describe_network_acls(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["NetworkAcls"]
    assert [one["Associations"] for one in acls] == [[]], "a network ACL lists no subnet that is gone"
    ec2.delete_vpc(VpcId=vpc_id)


def test_an_interface_that_was_there_before_its_instance_stays(ec2: Any, vpc_id: str) -> None:
    """AWS deletes with an instance what it created with it."""
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    own = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    interfaces = [{"DeviceIndex": 0, "NetworkInterfaceId": own}]
    launched = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, NetworkInterfaces=interfaces)
    ec2.terminate_instances(InstanceIds=[launched["Instances"][0]["InstanceId"]])
    assert ec2.describe_network_interfaces(NetworkInterfaceIds=[own])["NetworkInterfaces"]


def test_a_default_vpc_can_be_created_again(ec2: Any) -> None:
    """CreateDefaultVpc works once the one that came with the account is gone."""
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    of_vpc = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    for subnet in ec2.describe_subnets(Filters=of_vpc)["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    created = ec2.create_default_vpc()["Vpc"]
    assert created["IsDefault"]
    assert _create(ec2, created["VpcId"])
