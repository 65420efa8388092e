"""The generated organisation made anew in moto, behind boto3's clients, whose calls are counted too."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import boto3
from botocore import xform_name
from moto import mock_aws

from tests.bench.organisation import HOME, PROFILES, ROLELESS, TABLES, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator


class MotoAws:
    """A boto3 session that counts what its clients call, by service and operation, as ``organisation.Aws`` does."""

    def __init__(self, shape: Shape, session: boto3.Session, root: str) -> None:
        self.shape = shape
        self.root = root
        self.calls: Counter[str] = Counter()
        self.cpu = 0.0  # moto's work cannot be told from boto3's
        self.filed = self.enqueued = 0
        self.client: Any = session.client
        session.events.register("before-call", self._count)

    def _count(self, model: Any, **_: Any) -> None:
        self.calls[f"{model.service_model.service_name} {xform_name(model.name)}"] += 1


@contextmanager
def organisation(shape: Shape) -> Iterator[MotoAws]:
    """Make an organisation of this shape in moto; its management account is one of the accounts."""
    # Clients of one session share the service models, which are large; those made before the counting do not count.
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=HOME)
    with patch.dict(os.environ, MOTO_EC2_LOAD_DEFAULT_AMIS="false"), mock_aws():
        organizations: Any = session.client("organizations")
        organizations.create_organization(FeatureSet="ALL")
        for number in range(1, shape.accounts):
            organizations.create_account(AccountName=f"member {number}", Email=f"{number}@example.com")
        session.client("sqs").create_queue(QueueName="work.fifo", Attributes={"FifoQueue": "true"})
        keys = {"pk": "HASH", "sk": "RANGE"}
        session.client("ssm").put_parameter(Name="/portcullis/changes", Value="enabled", Type="String")
        dynamodb: Any = session.client("dynamodb")
        dynamodb.create_table(
            TableName="portcullis",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
        )
        for account in organizations.list_accounts()["Accounts"]:
            _make_account(session, account["Id"], shape)
        yield MotoAws(shape, session, organizations.list_roots()["Roots"][0]["Id"])


def _make_account(session: Any, account_id: str, shape: Shape) -> None:
    role = f"arn:aws:iam::{account_id}:role/somebody"
    given = session.client("sts").assume_role(RoleArn=role, RoleSessionName="somebody")["Credentials"]
    names = {"access_key_id": "AccessKeyId", "secret_access_key": "SecretAccessKey", "session_token": "SessionToken"}
    keys = {f"aws_{name}": given[key] for name, key in names.items()}
    iam = session.client("iam", **keys)
    for name in PROFILES:
        iam.create_instance_profile(InstanceProfileName=name)
        if name != ROLELESS:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    for region in shape.regions:
        session.client("securityhub", region_name=region, **keys).enable_security_hub()
        _make_region(session.client("ec2", region_name=region, **keys), shape)


def _make_region(ec2: Any, shape: Shape) -> None:
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    for default in ec2.describe_vpcs()["Vpcs"]:
        ec2.delete_vpc(VpcId=default["VpcId"])
    vpcs = [ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"] for _ in range(shape.vpcs)]
    tables = {item["VpcId"]: [item["RouteTableId"]] for item in ec2.describe_route_tables()["RouteTables"]}
    subnets = []
    for vpc_id in vpcs:
        for number in range(1, TABLES):
            table_id = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
            subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"]
            ec2.associate_route_table(RouteTableId=table_id, SubnetId=subnet)
            tables[vpc_id].append(table_id)
            subnets.append(subnet)
    for k, service, covered in shape.endpoints():
        ec2.create_vpc_endpoint(
            VpcEndpointType="Gateway",
            VpcId=vpcs[k],
            ServiceName=f"com.amazonaws.{ec2.meta.region_name}.{service}",
            RouteTableIds=[tables[vpcs[k]][number] for number in covered],
        )
    for k in range(shape.instances):
        profile = shape.profile(k)
        ec2.run_instances(
            ImageId="ami-0123456789abcdef0",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnets[(TABLES - 1) * shape.home(k)],
            TagSpecifications=[{"ResourceType": "instance", "Tags": shape.tags(k)}],
            **({"IamInstanceProfile": {"Name": profile}} if profile else {}),
        )
