"""EC2 Instance Connect Endpoints, from creation to deletion."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import MEMBER, REGION, Aws, error_of

TAGS = [{"ResourceType": "instance-connect-endpoint", "Tags": [{"Key": "team", "Value": "net"}]}]
NOT_FOUND = "InvalidInstanceConnectEndpointId.NotFound"


@pytest.fixture
def subnet_id(ec2: Any, vpc_id: str) -> str:
    """Create a subnet."""
    return _subnet(ec2, vpc_id)


def _subnet(ec2: Any, vpc_id: str, number: int = 0) -> str:
    return str(ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"])


def _create(ec2: Any, subnet_id: str, **more: Any) -> dict[str, Any]:
    return dict(ec2.create_instance_connect_endpoint(SubnetId=subnet_id, **more)["InstanceConnectEndpoint"])


def _found(ec2: Any, **request: Any) -> list[str]:
    answer = ec2.describe_instance_connect_endpoints(**request)["InstanceConnectEndpoints"]
    return [one["InstanceConnectEndpointId"] for one in answer]


def test_an_endpoint_is_made_and_shown(ec2: Any, vpc_id: str, subnet_id: str) -> None:
    """In progress in the answer, complete at the next look."""
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc_id)["GroupId"]
    made = _create(ec2, subnet_id, SecurityGroupIds=[group], PreserveClientIp=True, TagSpecifications=TAGS)
    assert (made["State"], made["OwnerId"], made["VpcId"]) == ("create-in-progress", MEMBER, vpc_id)
    (shown,) = ec2.describe_instance_connect_endpoints()["InstanceConnectEndpoints"]
    assert shown == {**made, "State": "create-complete"}
    assert (shown["SubnetId"], shown["SecurityGroupIds"]) == (subnet_id, [group])
    assert (shown["PreserveClientIp"], shown["IpAddressType"], shown["Tags"]) == (True, "ipv4", TAGS[0]["Tags"])
    ids = shown["NetworkInterfaceIds"]
    (interface,) = ec2.describe_network_interfaces(NetworkInterfaceIds=ids)["NetworkInterfaces"]
    assert (interface["InterfaceType"], interface["Status"]) == ("ec2_instance_connect_endpoint", "in-use")
    assert [one["GroupId"] for one in interface["Groups"]] == [group]


def test_an_endpoint_keeps_its_subnet_group_and_vpc(ec2: Any, vpc_id: str, subnet_id: str) -> None:
    """Until it is deleted, with its network interface."""
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc_id)["GroupId"]
    made = _create(ec2, subnet_id, SecurityGroupIds=[group])["InstanceConnectEndpointId"]
    deletions = (
        (ec2.delete_security_group, {"GroupId": group}),
        (ec2.delete_subnet, {"SubnetId": subnet_id}),
        (ec2.delete_vpc, {"VpcId": vpc_id}),
    )
    for delete, what in deletions:
        assert error_of(delete, **what)[0] == "DependencyViolation"
    gone = ec2.delete_instance_connect_endpoint(InstanceConnectEndpointId=made)["InstanceConnectEndpoint"]
    assert gone["State"] == "delete-in-progress"
    assert _found(ec2) == []
    for delete, what in deletions:
        delete(**what)


def test_without_groups_it_is_in_the_default_one(ec2: Any, vpc_id: str, subnet_id: str) -> None:
    """And groups of other VPCs are refused."""
    other = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    foreign = ec2.create_security_group(GroupName="g", Description="g", VpcId=other)["GroupId"]
    wanted = {"SubnetId": subnet_id, "SecurityGroupIds": [foreign]}
    assert error_of(ec2.create_instance_connect_endpoint, **wanted)[0] == "InvalidGroup.NotFound"
    made = _create(ec2, subnet_id)["SecurityGroupIds"]
    (group,) = ec2.describe_security_groups(GroupIds=made)["SecurityGroups"]
    assert (group["GroupName"], group["VpcId"]) == ("default", vpc_id)


def test_a_vpc_has_one_at_most(ec2: Any, vpc_id: str, subnet_id: str) -> None:
    """In whatever subnet; a failed creation leaves nothing."""
    first = _create(ec2, subnet_id)["InstanceConnectEndpointId"]
    for subnet in (subnet_id, _subnet(ec2, vpc_id, 1)):
        refused = error_of(ec2.create_instance_connect_endpoint, SubnetId=subnet)
        assert refused[0] == "ResourceLimitExceeded"
        assert vpc_id in refused[1]
    assert _found(ec2) == [first]


def test_an_account_has_five_in_a_region(ec2: Any) -> None:
    """The default quota; pages and filters are for those who have more."""
    vpcs = [ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"] for _ in range(6)]
    subnets = [_subnet(ec2, one) for one in vpcs]
    made = [_create(ec2, one)["InstanceConnectEndpointId"] for one in subnets[:5]]
    assert error_of(ec2.create_instance_connect_endpoint, SubnetId=subnets[5])[0] == "ResourceLimitExceeded"
    pages = list(ec2.get_paginator("describe_instance_connect_endpoints").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(one["InstanceConnectEndpoints"]) for one in pages] == [2, 2, 1]
    ec2.create_tags(Resources=[made[3]], Tags=[{"Key": "team", "Value": "net"}])
    for name, value, expected in (
        ("vpc-id", vpcs[1], made[1]),
        ("subnet-id", subnets[2], made[2]),
        ("instance-connect-endpoint-id", made[4], made[4]),
        ("tag:team", "n*", made[3]),
        ("tag-key", "team", made[3]),
        ("tag-value", "net", made[3]),
    ):
        assert _found(ec2, Filters=[{"Name": name, "Values": [value, "x"]}]) == [expected]
    assert _found(ec2, Filters=[{"Name": "state", "Values": ["create-complete"]}]) == made
    unknown = [{"Name": "owner-id", "Values": ["x"]}]
    assert error_of(ec2.describe_instance_connect_endpoints, Filters=unknown)[0] == "InvalidParameterValue"
    (tag,) = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [made[3]]}])["Tags"]
    assert tag["ResourceType"] == "instance-connect-endpoint"


def test_what_is_not_there_is_an_error(ec2: Any) -> None:
    """For each of the calls."""
    known = {"InstanceConnectEndpointId": "eice-0a"}
    assert error_of(ec2.describe_instance_connect_endpoints, InstanceConnectEndpointIds=["eice-0a"])[0] == NOT_FOUND
    assert error_of(ec2.delete_instance_connect_endpoint, **known)[0] == NOT_FOUND
    assert error_of(ec2.modify_instance_connect_endpoint, **known)[0] == NOT_FOUND
    assert error_of(ec2.create_instance_connect_endpoint, SubnetId="subnet-0a")[0] == "InvalidSubnetID.NotFound"


def test_an_endpoint_can_be_changed(ec2: Any, vpc_id: str, subnet_id: str) -> None:
    """Its groups, also those of its interface, and whether the client's address is kept."""
    made = _create(ec2, subnet_id)
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc_id)["GroupId"]
    known = {"InstanceConnectEndpointId": made["InstanceConnectEndpointId"]}
    ec2.modify_instance_connect_endpoint(**known, SecurityGroupIds=[group], PreserveClientIp=True)
    (shown,) = ec2.describe_instance_connect_endpoints()["InstanceConnectEndpoints"]
    assert (shown["State"], shown["PreserveClientIp"]) == ("update-complete", True)
    ids = made["NetworkInterfaceIds"]
    (interface,) = ec2.describe_network_interfaces(NetworkInterfaceIds=ids)["NetworkInterfaces"]
    assert [one["GroupId"] for one in interface["Groups"]] == shown["SecurityGroupIds"] == [group]
    refused = error_of(ec2.modify_instance_connect_endpoint, **known, IpAddressType="dualstack")
    assert refused[0] == "InvalidParameterCombination"


def test_the_clients_address_can_be_kept_with_ipv4_only(ec2: Any) -> None:
    """A subnet with IPv6 makes the endpoint a dual-stack one, unless the caller says otherwise."""
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    block = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].replace("/56", "/64")
    subnet = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="10.0.0.0/24", Ipv6CidrBlock=block)["Subnet"]["SubnetId"]
    wanted = {"SubnetId": subnet, "PreserveClientIp": True}
    assert error_of(ec2.create_instance_connect_endpoint, **wanted)[0] == "InvalidParameterCombination"
    assert _create(ec2, subnet, PreserveClientIp=True, IpAddressType="ipv4")["IpAddressType"] == "ipv4"


def test_a_client_token_makes_creation_idempotent(ec2: Any, vpc_id: str, subnet_id: str) -> None:
    """No quota stands in the way of a repeated request."""
    first = _create(ec2, subnet_id, ClientToken="t")
    assert _create(ec2, subnet_id, ClientToken="t") == first
    changed = {"SubnetId": _subnet(ec2, vpc_id, 1), "ClientToken": "t"}
    assert error_of(ec2.create_instance_connect_endpoint, **changed)[0] == "IdempotentParameterMismatch"


def test_the_first_one_brings_the_service_linked_role(aws: Aws, ec2: Any, subnet_id: str) -> None:
    """Once for the account."""
    _create(ec2, subnet_id)
    other = aws.client("ec2", MEMBER, "us-east-1")
    _create(other, _subnet(other, other.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]))
    role = aws.client("iam").get_role(RoleName="AWSServiceRoleForEc2InstanceConnect")["Role"]
    assert role["Path"] == "/aws-service-role/ec2-instance-connect.amazonaws.com/"


def test_cloudtrail_writes_the_new_dialect(aws: Aws, ec2: Any, subnet_id: str) -> None:
    """Request and response with their wrappers; a single element without its list."""
    url = aws.watch({"source": ["aws.ec2"], "detail-type": ["AWS API Call via CloudTrail"]})
    made = _create(ec2, subnet_id, ClientToken="t")
    known = {"InstanceConnectEndpointId": made["InstanceConnectEndpointId"]}
    ec2.modify_instance_connect_endpoint(**known, PreserveClientIp=True)
    ec2.delete_instance_connect_endpoint(**known)
    records = [event["detail"] for event in aws.received(url)]
    names = [f"{verb}InstanceConnectEndpoint" for verb in ("Create", "Modify", "Delete")]
    assert [one["eventName"] for one in records] == names
    requests = [one["requestParameters"][f"{one['eventName']}Request"] for one in records]
    assert requests == [{"SubnetId": subnet_id, "ClientToken": "t"}, {**known, "PreserveClientIp": True}, known]
    answer = records[0]["responseElements"][f"{names[0]}Response"]["instanceConnectEndpoint"]
    assert (answer["state"], answer["ownerId"], answer["vpcId"]) == ("create-in-progress", int(MEMBER), made["VpcId"])
    assert answer["instanceConnectEndpointId"] == known["InstanceConnectEndpointId"]
    assert answer["availabilityZone"].startswith(REGION)
