"""Every type and property is either created as AWS would, or refused by name."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from local.deployment import deploy_hub, deploy_members
from local.resources import HANDLERS, deploy
from local.stacks import Stack
from local.template import TemplateError, load

if TYPE_CHECKING:
    from pathlib import Path

    from local.organisation import LocalOrganisation

REGION = "us-east-1"
_numbers = itertools.count(1)

UNTRUSTED = """\
      CodeUri: functions/perform
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: sts:AssumeRole}]
"""


def deploy_text(organisation: LocalOrganisation, folder: Path, text: str) -> Stack:
    """Deploy a template given as text, under a name of its own, to the hub account."""
    (folder / "some.yaml").write_text(text, encoding="utf-8")
    template = load(folder / "some.yaml")
    stack = Stack(f"stack{next(_numbers)}", "123456789012", REGION, template, organisation._running)
    deploy(stack, {})
    return stack


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "Type: AWS::Events::EventBus\n",
            "Type: AWS::Pipes::Pipe\n",
            "template.yaml: Bus: nobody handles AWS::Pipes::Pipe; teach local/resources.py",
        ),
        (
            "{Name: bus}",
            "{Name: bus, KmsKeyIdentifier: k}",
            "template.yaml: Bus: AWS::Events::EventBus with KmsKeyIdentifier is not handled",
        ),
        (
            "- Id: intake",
            "- Id: intake\n          Input: x",
            "template.yaml: Rule: a rule target with Input is not handled",
        ),
        ("Runtime: python3.13", "Runtime: nodejs22.x", "only Python functions run here"),
        ("{Name: bus}", "{Name: a/b}", "template.yaml: Bus: .*must not contain '/'"),
        (
            "      CodeUri: functions/perform",
            "      CodeUri: functions/perform\n      Role: !Sub arn:aws:iam::${AWS::AccountId}:role/none",
            "Perform: there is no role",
        ),
        ("      CodeUri: functions/perform", UNTRUSTED, "its role does not trust lambda"),
        ("Queue: !GetAtt Work.Arn", "Queue: arn:aws:kinesis:x", "only SQS queues feed functions"),
    ],
)
def test_what_aws_would_not_run_is_refused(
    organisation: LocalOrganisation, checkout: Path, old: str, new: str, complaint: str
) -> None:
    """Never a silent skip: the error names the place."""
    name = f"stack{next(_numbers)}"
    file = checkout / "template.yaml"
    text = file.read_text().replace("Name: example", "Name: bus")
    assert old in text
    file.write_text(text.replace(old, new, 1).replace("Name: bus", f"Name: {name}"))
    with pytest.raises(TemplateError, match=complaint):
        deploy_hub(organisation._running, checkout, {"OrganizationId": "o-a1b2c3d4e5"}, name=name)


def test_a_member_parameter_that_the_hub_does_not_put_out_is_refused(
    organisation: LocalOrganisation, checkout: Path
) -> None:
    """Parameters of member templates are filled by name."""
    with pytest.raises(TemplateError, match=r"member-account.yaml: parameter BusArn has no default"):
        deploy_members(organisation._running, checkout, {"OtherOutput": "x"})


def test_a_member_template_may_hold_no_functions(organisation: LocalOrganisation, checkout: Path) -> None:
    """They would not run: only the hub's do."""
    (checkout / "infra/fn").mkdir()
    (checkout / "infra/fn/handler.py").touch()
    (checkout / "infra/member-account.yaml").write_text("""
Transform: AWS::Serverless-2016-10-31
Resources:
  F: {Type: AWS::Serverless::Function, Properties: {CodeUri: fn, Handler: handler.h, Runtime: python3.13}}
""")
    with pytest.raises(
        TemplateError, match=r"infra/member-account.yaml: only the hub's functions and queues are served here"
    ):
        deploy_members(organisation._running, checkout, {})


@pytest.mark.parametrize("type_name", sorted(HANDLERS))
def test_every_handler_refuses_properties_that_it_does_not_know(
    organisation: LocalOrganisation, tmp_path: Path, type_name: str
) -> None:
    """Before anything is created."""
    text = f"Resources: {{Thing: {{Type: '{type_name}', Properties: {{Unheard: 1}}}}}}"
    with pytest.raises(TemplateError, match=f"some.yaml: Thing: {type_name} with Unheard is not handled; teach"):
        deploy_text(organisation, tmp_path, text)


def test_every_ignored_property_has_a_reason() -> None:
    """And none is both used and ignored."""
    for type_name, handler in HANDLERS.items():
        assert not set(handler.uses) & set(handler.ignores), type_name
        assert all(handler.ignores.values()), type_name


EVERYTHING_ELSE = """
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
      SSESpecification: {SSEEnabled: true}
      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}
      PointInTimeRecoverySpecification: {PointInTimeRecoveryEnabled: true}
      Tags: [{Key: a, Value: b}]
  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      Namespace: AWS/SQS
      MetricName: ApproximateNumberOfMessagesVisible
      Statistic: Maximum
      Period: 60
      EvaluationPeriods: 1
      Threshold: 0
      ComparisonOperator: GreaterThanThreshold
      Dimensions: [{Name: QueueName, Value: !GetAtt Queue.QueueName}]
  Queue:
    Type: AWS::SQS::Queue
    Properties: {DelaySeconds: 7, FifoQueue: true, ContentBasedDeduplication: true}
  Switch:
    Type: AWS::SSM::Parameter
    Properties: {Name: /example/switch, Type: String, Value: !Ref Table}
  Logs:
    Type: AWS::Logs::LogGroup
    Properties: {LogGroupName: /example, RetentionInDays: 7}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: [{Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: sts:AssumeRole}]
      ManagedPolicyArns: [arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore]
      MaxSessionDuration: 7200
  Managed:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Roles: [!Ref Role]
      PolicyDocument: &Document
        Version: 2012-10-17
        Statement: [{Effect: Allow, Action: s3:ListAllMyBuckets, Resource: "*"}]
  Inline:
    Type: AWS::IAM::Policy
    Properties: {PolicyName: inline, Roles: [!Ref Role], PolicyDocument: *Document}
  Profile:
    Type: AWS::IAM::InstanceProfile
    Properties: {Roles: [!Ref Role], Path: /example/}
Outputs:
  Role: {Value: !Ref Role}
  Profile: {Value: !GetAtt Profile.Arn}
  Logs: {Value: !GetAtt Logs.Arn}
  Table: {Value: !Ref Table}
  QueueUrl: {Value: !Ref Queue}
  AlarmArn: {Value: !GetAtt Alarm.Arn}
"""


def test_what_is_created_is_what_the_template_says(organisation: LocalOrganisation, tmp_path: Path) -> None:
    """Read back through the services themselves."""
    outputs = deploy_text(organisation, tmp_path, EVERYTHING_ELSE).outputs
    client: Any = organisation.client
    table = client("dynamodb").describe_table(TableName=outputs["Table"])["Table"]
    assert table["SSEDescription"]["Status"] == "ENABLED"
    expiry = client("dynamodb").describe_time_to_live(TableName=outputs["Table"])["TimeToLiveDescription"]
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    backups = client("dynamodb").describe_continuous_backups(TableName=outputs["Table"])
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"
    (alarm,) = client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert alarm["AlarmArn"] == outputs["AlarmArn"]
    assert alarm["Dimensions"][0]["Value"].endswith("-Queue.fifo")
    attributes = client("sqs").get_queue_attributes(QueueUrl=outputs["QueueUrl"], AttributeNames=["All"])["Attributes"]
    assert (attributes["DelaySeconds"], attributes["ContentBasedDeduplication"]) == ("7", "true")
    parameter = client("ssm").get_parameter(Name="/example/switch")["Parameter"]
    assert parameter["Value"] == outputs["Table"]
    (group,) = client("logs").describe_log_groups(logGroupNamePrefix="/example")["logGroups"]
    assert (group["arn"], group["retentionInDays"]) == (outputs["Logs"], 7)
    role = client("iam").get_role(RoleName=outputs["Role"])["Role"]
    assert role["MaxSessionDuration"] == 7200
    attached = client("iam").list_attached_role_policies(RoleName=outputs["Role"])["AttachedPolicies"]
    assert len(attached) == 2
    assert client("iam").list_role_policies(RoleName=outputs["Role"])["PolicyNames"] == ["inline"]
    (profile,) = client("iam").list_instance_profiles(PathPrefix="/example/")["InstanceProfiles"]
    assert (profile["Arn"], profile["Roles"][0]["RoleName"]) == (outputs["Profile"], outputs["Role"])
