"""The rest of the catalogue, and the terminal that explains: interface endpoints, endpoint policies, permissions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local.organisation import CHECKOUT

from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import Stage

    from .scene import Check

SEVEN = ["profile", "permissions", "dns", "route", "endpoint", "network-acl", "security-group"]
"""The steps of `portcullis explain` that fail where nothing was thought of."""

_EVERYTHING = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
_SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}


def _failed(answer: dict[str, Any]) -> list[str]:
    return [step["name"] for one in answer["answers"] for step in one["steps"] if step["status"] == "failed"]


def _nothing(stage: Stage) -> Iterator[Check]:
    stage.move("333344445555", "eu-west-1")
    vpc_id = stage.create_vpc("10.20.0.0/16")
    subnet_id = stage.create_subnet(vpc_id, "10.20.1.0/24")
    stage.ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsSupport={"Value": False})
    group_id = stage.create_group(vpc_id, "reports")
    stage.ec2.revoke_security_group_egress(GroupId=group_id, IpPermissions=_EVERYTHING)
    acl_id, association_id = stage.default_acl(vpc_id)
    closed = stage.ec2.create_network_acl(VpcId=vpc_id)["NetworkAcl"]["NetworkAclId"]
    answer = stage.ec2.replace_network_acl_association(AssociationId=association_id, NetworkAclId=closed)
    instance_id = stage.launch({"Name": "reports"}, SubnetId=subnet_id, SecurityGroupIds=[group_id])
    stage.await_running(instance_id)
    stage.settle()
    yield "what fails", _failed(stage.ask("explain", instance_id)), SEVEN

    stage.ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsSupport={"Value": True})
    stage.ec2.authorize_security_group_egress(GroupId=group_id, IpPermissions=_EVERYTHING)
    stage.ec2.replace_network_acl_association(AssociationId=answer["NewAssociationId"], NetworkAclId=acl_id)
    stage.later(minutes=6)
    stage.read("VPCE.1", vpc_id)
    stage.press("Remediate", "VPCE.1", vpc_id)
    stage.settle()
    yield "what fails afterwards", _failed(stage.ask("explain", instance_id)), []


def _interface(stage: Stage) -> Iterator[Check]:
    stage.move("444455556666", "eu-west-1")
    vpc_id = stage.create_vpc("10.21.0.0/16", {"network": "private"})
    for number, zone in enumerate("ab"):
        stage.create_subnet(vpc_id, f"10.21.{number}.0/24", f"{stage.region}{zone}")
    stage.props["private vpc"] = vpc_id
    stage.settle()
    stage.read("VPCE.3", vpc_id)
    yield "what is in the way", "enableDnsHostnames" in stage.description("VPCE.3", vpc_id), True

    stage.ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    stage.settle()
    wanted = ("--policy", stage.props["policy"], "--control", "VPCE.3")
    plan = stage.ask("plan", *wanted)
    (planned,) = [one for one in plan["findings"] if one["resource_id"] == vpc_id]
    yield "what the plan would do", (planned["would"], len(planned["actions"])), ("propose", 2)
    replayed = stage.ask("replay", str(CHECKOUT / "events" / "CreateVpc.json"))
    yield "what a recorded event would set off", [one["kind"] for one in replayed["targets"]], ["vpc"]
    stage.read("VPCE.3", vpc_id)
    stage.portcullis("approve", stage.finding_id("VPCE.3", vpc_id), "--yes")
    stage.settle()
    stage.read("VPCE.3", vpc_id)
    yield "interface endpoints", stage.interface_endpoints(vpc_id), {"ssm": 2, "ssmmessages": 2}
    yield "VPCE.3 finding", stage.finding("VPCE.3", vpc_id), "PASSED"
    yield "what fails for ssm", _failed(stage.ask("explain", vpc_id, "--service", "ssm")), []


def _centralised(stage: Stage) -> Iterator[Check]:
    stage.move("222233334444", "ap-northeast-1")
    vpc_id = stage.create_vpc("10.22.0.0/16", {"network": "private"})
    stage.create_subnet(vpc_id, "10.22.0.0/24")
    stage.ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    stage.settle()
    stage.read("VPCE.3", vpc_id)
    route53 = stage.organisation.client("route53", stage.account_id, stage.region)
    for service in ("ssm", "ssmmessages"):
        route53.create_hosted_zone(
            Name=f"{service}.{stage.region}.amazonaws.com",
            CallerReference=service,
            VPC={"VPCId": vpc_id, "VPCRegion": stage.region},
            HostedZoneConfig={"PrivateZone": True},
        )
    stage.sweep()
    stage.read("VPCE.3", vpc_id)
    yield "VPCE.3 finding", stage.finding("VPCE.3", vpc_id), "PASSED"
    yield "what answers", "A centralised endpoint answers for" in stage.description("VPCE.3", vpc_id), True
    yield "interface endpoints", stage.interface_endpoints(vpc_id), {}


def _policy(stage: Stage) -> Iterator[Check]:
    stage.move("444455556666", "eu-west-1")
    vpc_id = stage.props["private vpc"]
    stage.later(minutes=6)
    stage.read("VPCE.5", vpc_id)
    stage.portcullis("approve", stage.finding_id("VPCE.5", vpc_id), "--yes")
    stage.settle()
    stage.read("VPCE.5", vpc_id)
    yield "the perimeter", "aws:PrincipalOrgID" in stage.endpoint_policy(vpc_id, "s3"), True
    yield "VPCE.5 finding", stage.finding("VPCE.5", vpc_id), "PASSED"

    undone = {c["control_id"]: c["change_id"] for c in reversed(stage.history("--resource", vpc_id))}
    interface = [c["change_id"] for c in stage.history("--resource", vpc_id) if c["control_id"] == "VPCE.3"]
    for change_id in (undone["VPCE.5"], *interface):
        stage.portcullis("undo", change_id, "--yes")
        stage.settle()
    stage.read("VPCE.3", vpc_id)
    yield "the policy, undone", "aws:PrincipalOrgID" in stage.endpoint_policy(vpc_id, "s3"), False
    yield "interface endpoints, undone", stage.interface_endpoints(vpc_id), {}
    yield "their security group", stage.groups(vpc_id, "portcullis-VPCE.3"), []


def _connect(stage: Stage) -> Iterator[Check]:
    stage.move("222233334444", "eu-west-1")
    vpc_id = stage.create_vpc("10.23.0.0/16", {"connect": "ssh"})
    subnet_id = stage.create_subnet(vpc_id, "10.23.0.0/24")
    group_id = stage.create_group(vpc_id, "application")
    instance_id = stage.launch({"Name": "app"}, SubnetId=subnet_id, SecurityGroupIds=[group_id])
    stage.await_running(instance_id)
    stage.later(minutes=6)
    stage.read("VPCE.4", vpc_id)
    ours = stage.groups(vpc_id, "portcullis-VPCE.4")
    yield "Instance Connect Endpoints", stage.connect_endpoints(vpc_id), 1
    yield "VPCE.4 finding", stage.finding("VPCE.4", vpc_id), "FAILED"
    yield "it names the group", group_id in stage.description("VPCE.4", vpc_id), True

    rule = {**_SSH, "UserIdGroupPairs": [{"GroupId": ours[0]}]}
    stage.ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule])
    stage.sweep()
    stage.read("VPCE.4", vpc_id)
    yield "VPCE.4 finding, once they admit it", stage.finding("VPCE.4", vpc_id), "PASSED"


def _permissions(stage: Stage) -> Iterator[Check]:
    stage.move("333344445555", "us-east-1")
    iam = stage.organisation.client("iam", stage.account_id)
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="reports", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    iam.create_instance_profile(InstanceProfileName="reports")
    iam.add_role_to_instance_profile(InstanceProfileName="reports", RoleName="reports")
    instance_id = stage.launch({"Name": "reports"}, IamInstanceProfile={"Name": "reports"})
    stage.await_running(instance_id)
    stage.settle()
    stage.read("ROLE.2", instance_id)
    yield "ROLE.2 finding", stage.finding("ROLE.2", instance_id), "FAILED"
    yield "what is missing", "s3:ListAllMyBuckets" in stage.description("ROLE.2", instance_id), True

    allowed = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName="reports", PolicyName="list", PolicyDocument=document)
    stage.later(minutes=20)
    stage.sweep()
    stage.read("ROLE.2", instance_id)
    yield "ROLE.2 finding, once it is allowed", stage.finding("ROLE.2", instance_id), "PASSED"


SCENES = (
    Scene(
        "`aws s3 ls` prints nothing",
        "On an instance in a private subnet. `portcullis explain` says why, step by step. People mend what is theirs; "
        "Portcullis associates the profile, and creates the endpoint once that is approved: an instance runs there.",
        _nothing,
    ),
    Scene(
        "Interface endpoints",
        "The policy asks private VPCs for Systems Manager. First DNS is in the way; then `portcullis plan` and the "
        "finding say what it would cost, `portcullis replay` what an event would set off, and somebody approves it.",
        _interface,
    ),
    Scene(
        "A centralised design",
        "In another private VPC, the names of the services resolve to endpoints elsewhere. That is as good.",
        _centralised,
    ),
    Scene(
        "An endpoint policy",
        "The S3 endpoint of the private VPC shall serve this organisation only. It is approved; then that and the "
        "interface endpoints are undone, with their security group.",
        _policy,
    ),
    Scene(
        "EC2 Instance Connect",
        "A private VPC gets its endpoint. The group of an instance does not admit it: that is proposed, not changed.",
        _connect,
    ),
    Scene(
        "A role that allows too little",
        "An instance has a role, but the role may not list buckets: the finding names what is missing.",
        _permissions,
    ),
)
