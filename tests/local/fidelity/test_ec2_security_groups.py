"""Security groups: rules all or none, tags of rules, and what keeps a group and its VPC."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import error_of

TAGS = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "team", "Value": "net"}]}]
ANY = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


@pytest.fixture
def group_id(ec2: Any, vpc_id: str) -> str:
    """Create a security group."""
    return _group(ec2, vpc_id, "web")


def _group(ec2: Any, vpc_id: str, name: str) -> str:
    return str(ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc_id)["GroupId"])


def _tcp(port: int, **peer: Any) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **(peer or {"IpRanges": [{"CidrIp": "10.0.0.0/8"}]})}


def _ports(ec2: Any, group_id: str, kind: str = "IpPermissions") -> list[int]:
    (group,) = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    return [one.get("FromPort", -1) for one in group[kind]]


def test_all_rules_of_a_call_are_answered_with_their_tags(ec2: Any, group_id: str) -> None:
    """Moto answers with the last one."""
    made = ec2.authorize_security_group_ingress(
        GroupId=group_id, IpPermissions=[_tcp(443), _tcp(22)], TagSpecifications=TAGS
    )
    rules = made["SecurityGroupRules"]
    assert [(one["FromPort"], one["Tags"]) for one in rules] == [(443, TAGS[0]["Tags"]), (22, TAGS[0]["Tags"])]
    ids = [one["SecurityGroupRuleId"] for one in rules]
    filters = [{"Name": "group-id", "Values": [group_id]}, {"Name": "tag:team", "Values": ["net"]}]
    found = ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
    assert [one["SecurityGroupRuleId"] for one in found] == ids
    ec2.revoke_security_group_ingress(GroupId=group_id, SecurityGroupRuleIds=ids)
    assert _ports(ec2, group_id) == []


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_refused_call_changes_no_rule(ec2: Any, group_id: str, direction: str) -> None:
    """Moto keeps what came before the one that is refused."""
    kind = "IpPermissions" if direction == "ingress" else "IpPermissionsEgress"
    authorize = getattr(ec2, f"authorize_security_group_{direction}")
    authorize(GroupId=group_id, IpPermissions=[_tcp(22)])
    before = _ports(ec2, group_id, kind)
    same = _tcp(22, IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "other words"}])
    for twice in (_tcp(22), same):
        refused = error_of(authorize, GroupId=group_id, IpPermissions=[_tcp(80), twice])
        assert refused[0] == "InvalidPermission.Duplicate"
    revoke = getattr(ec2, f"revoke_security_group_{direction}")
    refused = error_of(revoke, GroupId=group_id, IpPermissions=[_tcp(22), _tcp(80)])
    assert refused[0] == "InvalidPermission.NotFound"
    assert _ports(ec2, group_id, kind) == before


def test_a_rule_about_a_group_is_the_same_with_another_description(ec2: Any, vpc_id: str, group_id: str) -> None:
    """So it is found again when it is taken back."""
    other = _group(ec2, vpc_id, "client")
    plain, described = (_tcp(22, UserIdGroupPairs=[{"GroupId": other, **one}]) for one in ({}, {"Description": "why"}))
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[described])
    refused = error_of(ec2.authorize_security_group_ingress, GroupId=group_id, IpPermissions=[plain])
    assert refused[0] == "InvalidPermission.Duplicate"
    ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=[plain])
    assert _ports(ec2, group_id) == []


def test_the_first_rule_lets_everything_out_and_can_be_revoked(ec2: Any, group_id: str) -> None:
    """Once."""
    assert _ports(ec2, group_id, "IpPermissionsEgress") == [-1]
    ec2.revoke_security_group_egress(GroupId=group_id, IpPermissions=[ANY])
    assert _ports(ec2, group_id, "IpPermissionsEgress") == []
    refused = error_of(ec2.revoke_security_group_egress, GroupId=group_id, IpPermissions=[ANY])
    assert refused[0] == "InvalidPermission.NotFound"


def test_a_name_is_unique_in_a_vpc(ec2: Any, vpc_id: str, group_id: str) -> None:
    """And may be there again in another one."""
    wanted = {"GroupName": "web", "Description": "web"}
    assert error_of(ec2.create_security_group, **wanted, VpcId=vpc_id)[0] == "InvalidGroup.Duplicate"
    other = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    assert _group(ec2, other, "web") != group_id


def test_a_group_in_use_cannot_be_deleted(ec2: Any, vpc_id: str, group_id: str) -> None:
    """By a network interface, or by a rule of another group; a rule of its own does not count."""
    refused = ("DependencyViolation", f"resource {group_id} has a dependent object")
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    interface = ec2.create_network_interface(SubnetId=subnet, Groups=[group_id])["NetworkInterface"]
    assert error_of(ec2.delete_security_group, GroupId=group_id) == refused
    ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
    rule = _tcp(22, UserIdGroupPairs=[{"GroupId": group_id}])
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule])
    other = _group(ec2, vpc_id, "other")
    ec2.authorize_security_group_egress(GroupId=other, IpPermissions=[rule])
    assert error_of(ec2.delete_security_group, GroupId=group_id) == refused
    ec2.revoke_security_group_egress(GroupId=other, IpPermissions=[rule])
    ec2.delete_security_group(GroupId=group_id)
    assert error_of(ec2.delete_security_group, GroupId=group_id)[0] == "InvalidGroup.NotFound"


def test_a_group_of_a_running_instance_cannot_be_deleted(ec2: Any, vpc_id: str, group_id: str) -> None:
    """It can when the instance is gone."""
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    wanted = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1, "SubnetId": subnet}
    launched = ec2.run_instances(**wanted, SecurityGroupIds=[group_id])["Instances"][0]["InstanceId"]
    assert error_of(ec2.delete_security_group, GroupId=group_id)[0] == "DependencyViolation"
    ec2.terminate_instances(InstanceIds=[launched])
    ec2.delete_security_group(GroupId=group_id)


def test_the_default_group_goes_with_its_vpc_only(ec2: Any, vpc_id: str) -> None:
    """As the only group."""
    filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "group-name", "Values": ["default"]}]
    (default,) = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    assert error_of(ec2.delete_security_group, GroupId=default["GroupId"])[0] == "CannotDelete"
    other = _group(ec2, vpc_id, "web")
    assert error_of(ec2.delete_vpc, VpcId=vpc_id)[0] == "DependencyViolation"
    ec2.delete_security_group(GroupId=other)
    ec2.delete_vpc(VpcId=vpc_id)
