"""CloudTrail's events about EC2 calls: who, where, and in which of the two dialects."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import MEMBER, REGION, Aws


@pytest.fixture
def trail(aws: Aws) -> str:
    """Watch everything that CloudTrail says about EC2 in the member account; the queue's URL."""
    return aws.watch({"source": ["aws.ec2"], "detail-type": ["AWS API Call via CloudTrail"]})


def _details(aws: Aws, trail: str) -> dict[str, dict[str, Any]]:
    return {event["detail"]["eventName"]: event["detail"] for event in aws.received(trail)}


def test_the_envelope_and_the_record_name_the_caller(aws: Aws, trail: str, ec2: Any) -> None:
    """Everything that a rule or a program may look at is there."""
    ec2.create_vpc(CidrBlock="10.0.0.0/16")
    (event,) = aws.received(trail)
    record = event["detail"]
    assert (event["account"], event["region"], event["source"]) == (MEMBER, REGION, "aws.ec2")
    assert (record["eventSource"], record["awsRegion"]) == ("ec2.amazonaws.com", REGION)
    assert (record["recipientAccountId"], record["eventCategory"]) == (MEMBER, "Management")
    assert (record["managementEvent"], record["readOnly"], record["eventType"]) == (True, False, "AwsApiCall")
    assert record["userIdentity"]["type"] == "IAMUser"
    assert record["userIdentity"]["accountId"] == MEMBER
    assert record["sourceIPAddress"] == "127.0.0.1"
    assert "Boto3" in record["userAgent"]
    assert record["eventID"] != record["requestID"]


def test_a_role_session_is_an_assumed_role(aws: Aws, trail: str) -> None:
    """The session's ARN, and the role behind it as sessionIssuer."""
    role_arn = aws.role("Admin")
    aws.as_role("ec2", role_arn).create_vpc(CidrBlock="10.0.0.0/16")
    (event,) = aws.received(trail)
    identity = event["detail"]["userIdentity"]
    assert identity["type"] == "AssumedRole"
    assert identity["arn"] == f"arn:aws:sts::{MEMBER}:assumed-role/Admin/session"
    assert identity["principalId"].endswith(":session")
    issuer = identity["sessionContext"]["sessionIssuer"]
    assert (issuer["type"], issuer["arn"], issuer["userName"]) == ("Role", role_arn, "Admin")


def test_the_old_dialect_is_flat_camel_case_with_items(aws: Aws, trail: str, ec2: Any) -> None:
    """CreateVpc, CreateSubnet and their like."""
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "blue"}]}]
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
    record = _details(aws, trail)["CreateVpc"]
    assert record["requestParameters"] == {
        "cidrBlock": "10.0.0.0/16",
        "tagSpecificationSet": {"items": [{"resourceType": "vpc", "tags": [{"key": "Name", "value": "blue"}]}]},
    }
    response = record["responseElements"]
    assert response["requestId"] == record["requestID"]
    assert response["vpc"]["vpcId"] == vpc_id
    # A string here, and an integer in the other dialect.
    assert response["vpc"]["ownerId"] == MEMBER
    assert response["vpc"]["isDefault"] is False
    assert response["vpc"]["tagSet"] == {"items": [{"key": "Name", "value": "blue"}]}
    assert response["vpc"]["ipv6CidrBlockAssociationSet"] == {}


def test_a_bare_success_is_return_true_in_the_old_dialect(aws: Aws, trail: str, ec2: Any, vpc_id: str) -> None:
    """DeleteVpc and most other deletions answer nothing but success."""
    ec2.delete_vpc(VpcId=vpc_id)
    record = _details(aws, trail)["DeleteVpc"]
    assert record["requestParameters"] == {"vpcId": vpc_id}
    assert record["responseElements"] == {"requestId": record["requestID"], "_return": True}


def test_run_instances_has_its_own_instances_set(aws: Aws, trail: str, ec2: Any) -> None:
    """Image and counts are one element of instancesSet; times are epoch milliseconds."""
    ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=2, InstanceType="t3.micro")
    record = _details(aws, trail)["RunInstances"]
    request = record["requestParameters"]
    assert request["instancesSet"] == {"items": [{"imageId": "ami-12345678", "minCount": 1, "maxCount": 2}]}
    assert request["instanceType"] == "t3.micro"
    launched = record["responseElements"]["instancesSet"]["items"][0]
    assert launched["instanceState"] == {"code": 0, "name": "pending"}
    assert launched["vpcId"].startswith("vpc-")
    assert isinstance(launched["launchTime"], int)


def test_start_stop_and_terminate_name_instances_in_a_set(aws: Aws, trail: str, ec2: Any) -> None:
    """Not a list of ids but items with an instanceId."""
    launched = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
    instance_id = launched["Instances"][0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    record = _details(aws, trail)["TerminateInstances"]
    assert record["requestParameters"] == {"instancesSet": {"items": [{"instanceId": instance_id}]}}
    state = record["responseElements"]["instancesSet"]["items"][0]["currentState"]
    assert state == {"code": 32, "name": "shutting-down"}


def test_the_new_dialect_nests_and_collapses_single_elements(aws: Aws, trail: str, ec2: Any, vpc_id: str) -> None:
    """CreateVpcEndpoint: the request's and the response's XML, turned to JSON."""
    table_id = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    tags = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "team", "Value": "net"}]}]
    service = f"com.amazonaws.{REGION}.s3"
    ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=service, RouteTableIds=[table_id], TagSpecifications=tags)
    record = _details(aws, trail)["CreateVpcEndpoint"]
    assert record["requestParameters"] == {
        "CreateVpcEndpointRequest": {
            "VpcId": vpc_id,
            "ServiceName": service,
            "RouteTableId": {"tag": 1, "content": table_id},
            "TagSpecification": {
                "tag": 1,
                "ResourceType": "vpc-endpoint",
                "Tag": {"tag": 1, "Key": "team", "Value": "net"},
            },
        }
    }
    response = record["responseElements"]["CreateVpcEndpointResponse"]
    assert response["xmlns"] == "http://ec2.amazonaws.com/doc/2016-11-15/"
    endpoint = response["vpcEndpoint"]
    assert endpoint["ownerId"] == int(MEMBER)
    assert endpoint["routeTableIdSet"] == {"item": table_id}
    assert endpoint["subnetIdSet"] == ""
    assert endpoint["privateDnsEnabled"] is False
    assert endpoint["state"] == "available"


def test_several_elements_stay_a_list_in_the_new_dialect(aws: Aws, trail: str, ec2: Any, vpc_id: str) -> None:
    """ModifyVpcEndpoint with two tables, and the response's two items on creation."""
    tables = [ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"] for _ in range(2)]
    service = f"com.amazonaws.{REGION}.s3"
    created = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=service, RouteTableIds=tables)
    endpoint_id = created["VpcEndpoint"]["VpcEndpointId"]
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, RemoveRouteTableIds=tables)
    details = _details(aws, trail)
    elements = details["CreateVpcEndpoint"]["responseElements"]["CreateVpcEndpointResponse"]
    assert elements["vpcEndpoint"]["routeTableIdSet"] == {"item": tables}
    assert details["ModifyVpcEndpoint"]["requestParameters"]["ModifyVpcEndpointRequest"] == {
        "VpcEndpointId": endpoint_id,
        "RemoveRouteTableId": [{"tag": 1, "content": tables[0]}, {"tag": 2, "content": tables[1]}],
    }
    modified = details["ModifyVpcEndpoint"]["responseElements"]["ModifyVpcEndpointResponse"]
    assert modified["return"] is True


def test_delete_vpc_endpoints_has_an_empty_unsuccessful(aws: Aws, trail: str, ec2: Any, vpc_id: str) -> None:
    """An empty element is an empty string."""
    created = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=f"com.amazonaws.{REGION}.s3")
    ec2.delete_vpc_endpoints(VpcEndpointIds=[created["VpcEndpoint"]["VpcEndpointId"]])
    elements = _details(aws, trail)["DeleteVpcEndpoints"]["responseElements"]
    assert elements["DeleteVpcEndpointsResponse"]["unsuccessful"] == ""


def test_an_empty_request_of_the_new_dialect_is_an_empty_string(aws: Aws, trail: str, ec2: Any) -> None:
    """CreateDefaultVpc has no parameters."""
    with pytest.raises(ClientError):
        ec2.create_default_vpc()
    record = _details(aws, trail)["CreateDefaultVpc"]
    assert record["requestParameters"] == {"CreateDefaultVpcRequest": ""}
    assert record["errorCode"] == "Client.DefaultVpcAlreadyExists"


def test_instance_profile_calls_use_the_new_dialect(aws: Aws, trail: str, ec2: Any) -> None:
    """AssociateIamInstanceProfile names the instance in the request."""
    with pytest.raises(ClientError):
        ec2.associate_iam_instance_profile(InstanceId="i-0a", IamInstanceProfile={"Name": "app"})
    record = _details(aws, trail)["AssociateIamInstanceProfile"]
    request = {"InstanceId": "i-0a", "IamInstanceProfile": {"Name": "app"}}
    assert record["requestParameters"] == {"AssociateIamInstanceProfileRequest": request}


def test_a_failed_call_has_a_prefixed_code_and_no_response(aws: Aws, trail: str, ec2: Any) -> None:
    """Rules that watch for other people's failures match `Client.` codes."""
    with pytest.raises(ClientError):
        ec2.delete_vpc(VpcId="vpc-0a")
    record = _details(aws, trail)["DeleteVpc"]
    assert record["errorCode"] == "Client.InvalidVpcID.NotFound"
    assert record["responseElements"] is None
    assert "vpc-0a" in record["errorMessage"]


def test_a_dry_run_arrives_as_a_failure(aws: Aws, trail: str, ec2: Any) -> None:
    """EKS and AWS itself make dry runs, so they are seen in practice."""
    with pytest.raises(ClientError):
        ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, DryRun=True)
    assert _details(aws, trail)["RunInstances"]["errorCode"] == "Client.DryRunOperation"


def test_reads_and_other_regions_do_not_arrive(aws: Aws, trail: str, ec2: Any) -> None:
    """Only write events, and only in the Region of the call."""
    ec2.describe_vpcs()
    aws.client("ec2", MEMBER, "eu-central-1").create_vpc(CidrBlock="10.0.0.0/16")
    assert aws.received(trail) == []


def test_events_arrive_in_the_order_of_the_calls(aws: Aws, trail: str, ec2: Any) -> None:
    """Not promised by AWS, but a local story must be readable."""
    names = ["CreateVpc", "DeleteVpc", "CreateVpc"]
    first = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.delete_vpc(VpcId=first)
    ec2.create_vpc(CidrBlock="10.1.0.0/16")
    assert [event["detail"]["eventName"] for event in aws.received(trail)] == names


def test_what_is_in_the_way_of_a_deletion_leaves_an_event(aws: Aws, trail: str, ec2: Any, vpc_id: str) -> None:
    """With the code, the message and what was asked for."""
    ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=f"com.amazonaws.{REGION}.s3")
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    ec2.create_network_interface(SubnetId=subnet)
    for call, wanted in ((ec2.delete_vpc, {"VpcId": vpc_id}), (ec2.delete_subnet, {"SubnetId": subnet})):
        with pytest.raises(ClientError):
            call(**wanted)
    details = _details(aws, trail)
    for name, parameters in (("DeleteVpc", {"vpcId": vpc_id}), ("DeleteSubnet", {"subnetId": subnet})):
        assert details[name]["errorCode"] == "Client.DependencyViolation"
        assert details[name]["errorMessage"].endswith("has dependencies and cannot be deleted.")
        assert details[name]["requestParameters"] == parameters


def test_changes_of_a_vpc_leave_events(aws: Aws, trail: str, ec2: Any, vpc_id: str) -> None:
    """DNS attributes, address blocks, and rules of its groups."""
    ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    made = ec2.associate_vpc_cidr_block(VpcId=vpc_id, CidrBlock="10.1.0.0/16")["CidrBlockAssociation"]
    ec2.disassociate_vpc_cidr_block(AssociationId=made["AssociationId"])
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc_id)["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    details = _details(aws, trail)
    requests = {name: one["requestParameters"] for name, one in details.items()}
    assert requests["ModifyVpcAttribute"] == {"vpcId": vpc_id, "enableDnsHostnames": {"value": True}}
    assert details["ModifyVpcAttribute"]["responseElements"]["_return"] is True
    block = {"VpcId": vpc_id, "CidrBlock": "10.1.0.0/16"}
    assert requests["AssociateVpcCidrBlock"] == {"AssociateVpcCidrBlockRequest": block}
    request = {"AssociationId": made["AssociationId"]}
    assert requests["DisassociateVpcCidrBlock"] == {"DisassociateVpcCidrBlockRequest": request}
    answer = details["DisassociateVpcCidrBlock"]["responseElements"]["DisassociateVpcCidrBlockResponse"]
    assert answer["vpcId"] == vpc_id
    ranges = {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22, "ipRanges": {"items": [{"cidrIp": "10.0.0.0/8"}]}}
    assert requests["AuthorizeSecurityGroupIngress"] == {"groupId": group, "ipPermissions": {"items": [ranges]}}
    (made_rule,) = details["AuthorizeSecurityGroupIngress"]["responseElements"]["securityGroupRuleSet"]["items"]
    assert made_rule["groupId"] == group
