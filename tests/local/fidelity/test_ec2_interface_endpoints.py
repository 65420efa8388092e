"""Interface endpoints: where they may be, whose names they answer to, and what they leave in a VPC."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import HUB, MEMBER, REGION, Aws, error_of

ALL = (
    *("ec2", "ssm", "ssmmessages", "ec2messages", "secretsmanager", "logs", "monitoring", "sts", "kms"),
    *("ecr.api", "ecr.dkr", "s3", "dynamodb", "execute-api"),
)
ALLOW = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
PREFIX = f"com.amazonaws.{REGION}."
ONLY_INBOUND = "PrivateDnsOnlyForInboundResolverEndpoint"


@pytest.fixture
def vpc_id(ec2: Any) -> str:
    """Create a VPC that does DNS."""
    made = str(ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])
    ec2.modify_vpc_attribute(VpcId=made, EnableDnsHostnames={"Value": True})
    return made


@pytest.fixture
def subnets(ec2: Any, vpc_id: str) -> list[str]:
    """Create three subnets in three zones."""
    return [_subnet(ec2, vpc_id, number, f"{REGION}{zone}") for number, zone in enumerate("abc")]


def _subnet(ec2: Any, vpc_id: str, number: int, zone: str) -> str:
    wanted = {"VpcId": vpc_id, "CidrBlock": f"10.0.{number}.0/24", "AvailabilityZone": zone}
    return str(ec2.create_subnet(**wanted)["Subnet"]["SubnetId"])


def _wanted(vpc_id: str, service: str, *subnets: str, **more: Any) -> dict[str, Any]:
    about = {"VpcId": vpc_id, "ServiceName": f"{PREFIX}{service}", "VpcEndpointType": "Interface"}
    return {**about, "SubnetIds": list(subnets), **more}


def _create(ec2: Any, vpc_id: str, service: str, *subnets: str, **more: Any) -> dict[str, Any]:
    return dict(ec2.create_vpc_endpoint(**_wanted(vpc_id, service, *subnets, **more))["VpcEndpoint"])


def _shown(ec2: Any, endpoint_id: str) -> dict[str, Any]:
    (endpoint,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint_id])["VpcEndpoints"]
    return dict(endpoint)


def _interfaces(ec2: Any, vpc_id: str) -> list[dict[str, Any]]:
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}]
    return list(ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"])


def test_an_endpoint_has_an_interface_in_each_subnet(ec2: Any, vpc_id: str, subnets: list[str]) -> None:
    """In its groups, with an address of the subnet; all of it is shown, and gone with the endpoint."""
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc_id)["GroupId"]
    created = _create(ec2, vpc_id, "ssm", *subnets[:2], SecurityGroupIds=[group])
    shown = _shown(ec2, created["VpcEndpointId"])
    assert (shown["State"], shown["SubnetIds"], shown["PrivateDnsEnabled"]) == ("available", subnets[:2], True)
    assert shown["Groups"] == [{"GroupId": group, "GroupName": "g"}]
    interfaces = {one["NetworkInterfaceId"]: one for one in _interfaces(ec2, vpc_id)}
    assert list(interfaces) == shown["NetworkInterfaceIds"] == created["NetworkInterfaceIds"]
    for number, one in enumerate(interfaces.values()):
        assert (one["InterfaceType"], one["Status"], one["RequesterManaged"]) == ("vpc_endpoint", "in-use", True)
        assert one["PrivateIpAddress"].startswith(f"10.0.{number}.")
        assert [group["GroupId"] for group in one["Groups"]] == [group]
    names = [one["DnsName"] for one in shown["DnsEntries"]]
    assert len(names) == 4
    assert f"ssm.{REGION}.amazonaws.com" in names
    ec2.delete_vpc_endpoints(VpcEndpointIds=[created["VpcEndpointId"]])
    assert _interfaces(ec2, vpc_id) == []


def test_without_groups_it_is_in_the_default_one(ec2: Any, vpc_id: str, subnets: list[str]) -> None:
    """Which often does not admit what the endpoint is for."""
    (group,) = _create(ec2, vpc_id, "ssm", subnets[0])["Groups"]
    assert group["GroupName"] == "default"


def test_subnets_are_checked_before_anything_is_made(ec2: Any, vpc_id: str, subnets: list[str]) -> None:
    """One for each zone, of this VPC, where the service is."""
    twin = _subnet(ec2, vpc_id, 9, f"{REGION}a")
    other_vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    foreign = _subnet(ec2, other_vpc, 0, f"{REGION}a")
    for service, wanted, code, text in (
        ("ssm", [subnets[0], twin], "DuplicateSubnetsInSameZone", f"in the availability zone of {twin}"),
        ("ssm", ["subnet-0a"], "InvalidSubnetId.NotFound", "subnet-0a"),
        ("ssm", [foreign], "InvalidParameter", foreign),
        ("monitoring", subnets, "InvalidParameter", f"the availability zone of the subnet: {subnets[2]}."),
        ("nothing", subnets, "InvalidServiceName", f"'{PREFIX}nothing' does not exist"),
    ):
        refused = error_of(ec2.create_vpc_endpoint, **_wanted(vpc_id, service, *wanted))
        assert refused[0] == code
        assert text in refused[1]
    wanted_groups = _wanted(vpc_id, "ssm", subnets[0], SecurityGroupIds=["sg-0a"])
    assert error_of(ec2.create_vpc_endpoint, **wanted_groups)[0] == "InvalidGroup.NotFound"
    assert (ec2.describe_vpc_endpoints()["VpcEndpoints"], _interfaces(ec2, vpc_id)) == ([], [])


@pytest.mark.parametrize("attribute", ["EnableDnsSupport", "EnableDnsHostnames"])
def test_private_dns_needs_both_attributes_of_the_vpc(ec2: Any, vpc_id: str, attribute: str) -> None:
    """They can be read, and are the first thing to look at."""
    ec2.modify_vpc_attribute(VpcId=vpc_id, **{attribute: {"Value": False}})
    name = attribute[0].lower() + attribute[1:]
    assert ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=name)[attribute] == {"Value": False}
    code, message = error_of(ec2.create_vpc_endpoint, **_wanted(vpc_id, "ssm"))
    attributes = "enableDnsSupport and enableDnsHostnames VPC attributes set to true"
    assert (code, message) == ("InvalidParameter", f"Enabling private DNS requires both {attributes} for {vpc_id}")
    _create(ec2, vpc_id, "ssm", PrivateDnsEnabled=False)
    assert error_of(ec2.create_vpc_endpoint, **_wanted(vpc_id, "dynamodb"))[0] == "InvalidParameter"


def test_a_second_endpoint_cannot_answer_to_the_same_name(ec2: Any, vpc_id: str) -> None:
    """Without private DNS, it can be there."""
    _create(ec2, vpc_id, "ssm")
    code, message = error_of(ec2.create_vpc_endpoint, **_wanted(vpc_id, "ssm"))
    assert code == "InvalidParameter"
    conflict = "private-dns-enabled cannot be set because there is already a conflicting DNS domain for"
    assert message == f"{conflict} ssm.{REGION}.amazonaws.com in the VPC {vpc_id}"
    second = _create(ec2, vpc_id, "ssm", PrivateDnsEnabled=False)["VpcEndpointId"]
    refused = error_of(ec2.modify_vpc_endpoint, VpcEndpointId=second, PrivateDnsEnabled=True)
    assert refused == (code, message)


@pytest.mark.parametrize(("service", "zone"), [("ssm", "ssm"), ("ecr.dkr", "dkr.ecr")])
def test_a_private_zone_is_in_the_way_whoever_owns_it(aws: Aws, ec2: Any, vpc_id: str, service: str, zone: str) -> None:
    """A centralised endpoint; ListHostedZonesByVPC says whose it is, from any Region's client."""
    for owner, name in ((HUB, f"{zone}.{REGION}.amazonaws.com"), (MEMBER, "example.com")):
        aws.client("route53", owner).create_hosted_zone(
            Name=name,
            CallerReference=name,
            HostedZoneConfig={"PrivateZone": True},
            VPC={"VPCRegion": REGION, "VPCId": vpc_id},
        )
    route53 = aws.client("route53", MEMBER, "us-east-1")
    found = route53.list_hosted_zones_by_vpc(VPCId=vpc_id, VPCRegion=REGION)["HostedZoneSummaries"]
    owners = {one["Name"]: one["Owner"]["OwningAccount"] for one in found}
    assert owners == {f"{zone}.{REGION}.amazonaws.com.": HUB, "example.com.": MEMBER}
    assert not any(one["HostedZoneId"].startswith("/") for one in found)
    assert route53.list_hosted_zones_by_vpc(VPCId=vpc_id, VPCRegion="us-east-1")["HostedZoneSummaries"] == []
    page = route53.list_hosted_zones_by_vpc(VPCId=vpc_id, VPCRegion=REGION, MaxItems="1")
    rest = route53.list_hosted_zones_by_vpc(VPCId=vpc_id, VPCRegion=REGION, NextToken=page["NextToken"])
    assert page["HostedZoneSummaries"] + rest["HostedZoneSummaries"] == found
    assert "conflicting DNS domain" in error_of(ec2.create_vpc_endpoint, **_wanted(vpc_id, service))[1]
    _create(ec2, vpc_id, "ec2")


def test_s3_for_inbound_resolvers_needs_the_gateway(ec2: Any, vpc_id: str) -> None:
    """That is the default of S3 with private DNS; and the gateway cannot go first."""
    for more in ({}, {"DnsOptions": {ONLY_INBOUND: True}}):
        code, message = error_of(ec2.create_vpc_endpoint, **_wanted(vpc_id, "s3", **more))
        wanted = f"To set {ONLY_INBOUND} to true, the VPC {vpc_id} must have a Gateway endpoint for the service."
        assert (code, message) == ("InvalidParameter", wanted)
    gateway = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=f"{PREFIX}s3")["VpcEndpoint"]["VpcEndpointId"]
    interface = _create(ec2, vpc_id, "s3")["VpcEndpointId"]
    assert _shown(ec2, interface)["DnsOptions"][ONLY_INBOUND] is True
    (failed,) = ec2.delete_vpc_endpoints(VpcEndpointIds=[gateway])["Unsuccessful"]
    assert failed["Error"]["Code"] == "InvalidParameter"
    assert interface in failed["Error"]["Message"]
    ec2.modify_vpc_endpoint(VpcEndpointId=interface, DnsOptions={ONLY_INBOUND: False})
    assert ec2.delete_vpc_endpoints(VpcEndpointIds=[gateway])["Unsuccessful"] == []
    options = {"DnsOptions": {ONLY_INBOUND: True}}
    assert error_of(ec2.modify_vpc_endpoint, VpcEndpointId=interface, **options)[1].startswith(f"To set {ONLY_INBOUND}")
    gateway_with = {"VpcId": vpc_id, "ServiceName": f"{PREFIX}s3", **options}
    assert error_of(ec2.create_vpc_endpoint, **gateway_with)[0] == "InvalidParameter"


def test_s3_for_everybody_needs_no_gateway(ec2: Any, vpc_id: str) -> None:
    """When the option is switched off."""
    endpoint_id = _create(ec2, vpc_id, "s3", DnsOptions={ONLY_INBOUND: False})["VpcEndpointId"]
    assert _shown(ec2, endpoint_id)["PrivateDnsEnabled"] is True


def test_an_endpoint_can_be_changed(ec2: Any, vpc_id: str, subnets: list[str]) -> None:
    """Subnets come and go with their network interfaces; groups are those of all interfaces."""
    first, second = (
        ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc_id)["GroupId"] for name in "ab"
    )
    endpoint_id = _create(ec2, vpc_id, "ssm", *subnets[:2], SecurityGroupIds=[first])["VpcEndpointId"]
    kept = {one["SubnetId"]: one["NetworkInterfaceId"] for one in _interfaces(ec2, vpc_id)}
    moved = {"AddSubnetIds": [subnets[2]], "RemoveSubnetIds": [subnets[0]]}
    groups = {"AddSecurityGroupIds": [second], "RemoveSecurityGroupIds": [first]}
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, **moved, **groups, PrivateDnsEnabled=False)
    shown = _shown(ec2, endpoint_id)
    assert (shown["SubnetIds"], shown["PrivateDnsEnabled"]) == (subnets[1:], False)
    assert [one["GroupId"] for one in shown["Groups"]] == [second]
    interfaces = {one["SubnetId"]: one for one in _interfaces(ec2, vpc_id)}
    assert set(interfaces) == set(subnets[1:])
    assert interfaces[subnets[1]]["NetworkInterfaceId"] == kept[subnets[1]]
    assert all([group["GroupId"] for group in one["Groups"]] == [second] for one in interfaces.values())
    assert not any(one["DnsName"] == f"ssm.{REGION}.amazonaws.com" for one in shown["DnsEntries"])
    twin = _subnet(ec2, vpc_id, 9, f"{REGION}b")
    refused = error_of(ec2.modify_vpc_endpoint, VpcEndpointId=endpoint_id, AddSubnetIds=[twin])
    assert refused[0] == "DuplicateSubnetsInSameZone"
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, PrivateDnsEnabled=True)
    assert _shown(ec2, endpoint_id)["PrivateDnsEnabled"] is True


@pytest.mark.parametrize("kind", ["Interface", "Gateway"])
def test_policies_are_checked_changed_and_reset(ec2: Any, vpc_id: str, kind: str) -> None:
    """JSON with statements about somebody, of 20,480 characters at most; full access is the default."""
    wanted: dict[str, Any] = {"VpcId": vpc_id, "ServiceName": f"{PREFIX}s3", "VpcEndpointType": kind}
    wanted |= {"PrivateDnsEnabled": False} if kind == "Interface" else {}
    endpoint_id = ec2.create_vpc_endpoint(**wanted)["VpcEndpoint"]["VpcEndpointId"]
    default = json.loads(_shown(ec2, endpoint_id)["PolicyDocument"])
    assert default["Statement"] == [ALLOW]
    good = json.dumps({"Version": "2012-10-17", "Statement": [{**ALLOW, "Action": "s3:GetObject"}]})
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, PolicyDocument=good)
    nobody = json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    for bad in ("{not json", "[]", "{}", nobody, good + " " * 20_480):
        for call, request in (
            (ec2.modify_vpc_endpoint, {"VpcEndpointId": endpoint_id}),
            (ec2.create_vpc_endpoint, wanted),
        ):
            code, message = error_of(call, **request, PolicyDocument=bad)
            assert code == "InvalidPolicyDocument"
            assert message.startswith("The Policy Document is not valid.")
    assert _shown(ec2, endpoint_id)["PolicyDocument"] == good
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, ResetPolicy=True)
    assert json.loads(_shown(ec2, endpoint_id)["PolicyDocument"])["Statement"] == [ALLOW]


def test_a_client_token_makes_creation_idempotent(ec2: Any, vpc_id: str, subnets: list[str]) -> None:
    """As for gateways: nothing is made twice, no conflict with itself, other parameters are an error."""
    first = _create(ec2, vpc_id, "ssm", subnets[0], ClientToken="t")
    assert _create(ec2, vpc_id, "ssm", subnets[0], ClientToken="t")["VpcEndpointId"] == first["VpcEndpointId"]
    assert len(_interfaces(ec2, vpc_id)) == 1
    changed = _wanted(vpc_id, "ssm", subnets[1], ClientToken="t")
    assert error_of(ec2.create_vpc_endpoint, **changed)[0] == "IdempotentParameterMismatch"


def test_a_vpc_has_fifty_at_most(ec2: Any, vpc_id: str) -> None:
    """The default quota."""
    for _ in range(50):
        _create(ec2, vpc_id, "ssm", PrivateDnsEnabled=False)
    refused = error_of(ec2.create_vpc_endpoint, **_wanted(vpc_id, "ssm", PrivateDnsEnabled=False))
    assert refused[0] == "VpcEndpointLimitExceeded"


def test_services_say_their_zones_and_names(ec2: Any) -> None:
    """One of them is not in every zone."""
    filters = [{"Name": "service-type", "Values": ["Interface"]}]
    details = ec2.describe_vpc_endpoint_services(Filters=filters)["ServiceDetails"]
    services = {one["ServiceName"].removeprefix(PREFIX): one for one in details}
    zones = [f"{REGION}{zone}" for zone in "abc"]
    assert {name: services[name]["AvailabilityZones"] for name in ALL} == {
        name: zones[:2] if name == "monitoring" else zones for name in ALL
    }
    names = {name: [one["PrivateDnsName"] for one in services[name].get("PrivateDnsNames", [])] for name in ALL}
    assert names.pop("dynamodb") == []
    assert names["ecr.api"] == [f"api.ecr.{REGION}.amazonaws.com"]
    assert names["execute-api"] == [f"*.execute-api.{REGION}.amazonaws.com"]
    assert all(names.values())
