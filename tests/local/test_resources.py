"""Every type and property is either created as AWS would, or refused by name."""

from __future__ import annotations

import itertools
import json
import urllib.request
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from local.clients import DeploymentClients
from local.fidelity.authorization import AssumeRoleDeniedError
from local.functions import Answer
from local.organisation import deploy_hub
from local.resources import HANDLERS, Stack, deploy
from local.template import TemplateError, load

if TYPE_CHECKING:
    from pathlib import Path

    from local.organisation import LocalOrganisation

REGION = "us-east-1"
CUSTOM = "AWS::CloudFormation::CustomResource"
"""Takes what its function takes."""

_numbers = itertools.count(1)

HUB_PARAMETERS = {
    "OrganizationId": "o-a1b2c3d4e5",
    "TargetOrganizationalUnitIds": "r-a1b2",
    "GovernedRegions": "us-east-1",
}


def respond(_: Any, event: dict[str, Any]) -> Answer:
    """Answer for a custom resource as its function would."""
    same = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    answer = json.dumps({**same, "Status": "SUCCESS", "PhysicalResourceId": "p", "Data": {"Name": "n"}})
    request = urllib.request.Request(event["ResponseURL"], answer.encode(), method="PUT")  # noqa: S310 - our own server
    request.add_header("Content-Type", "")
    urllib.request.urlopen(request).close()  # noqa: S310 - our own server
    return Answer()


NOBODY: Any = SimpleNamespace(accounts_below=lambda _: [], run=respond)
QUEUE = """AWS::SQS::Queue
  Forwarder2:
    Type: AWS::IAM::Role
    Properties:
      RoleName: example-f"""
UNTRUSTED = """\
      CodeUri: functions/perform
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: sts:AssumeRole}]
"""


def deploy_text(organisation: LocalOrganisation, folder: Path, text: str) -> Stack:
    """Deploy a template given as text, under a name of its own, to the hub account."""
    (folder / "some.yaml").write_text(text, encoding="utf-8")
    template = load(folder / "some.yaml")
    stack = Stack(f"stack{next(_numbers)}", "123456789012", REGION, template, organisation.clients)
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
            "template.yaml: Bus: AWS::Events::EventBus with KmsKeyIdentifier: teach local/resources.py",
        ),
        (
            "- Id: intake",
            "- Id: intake\n          Input: x",
            "template.yaml: Rule: a rule target with Input: teach local/resources.py",
        ),
        ("Runtime: python3.13", "Runtime: nodejs22.x", "only Python functions run here"),
        ("{Name: bus}", "{Name: a/b}", "template.yaml: Bus: .*must not contain '/'"),
        (
            "      CodeUri: functions/perform",
            "      CodeUri: functions/perform\n      Role: !Sub arn:aws:iam::${AWS::AccountId}:role/none",
            "there is no role",
        ),
        ("      CodeUri: functions/perform", UNTRUSTED, "does not trust lambda"),
        ("FunctionResponseTypes: [ReportBatchItemFailures]", "Enabled: true", "teach local/resources.py"),
        ("            FunctionResponseTypes: [ReportBatchItemFailures]\n", "", "only FunctionResponseTypes "),
        ("{PerformArn: !GetAtt Perform.Arn}", "{}", r"Machine: the definition needs .* for \${PerformArn}"),
        ("{Service: states.amazonaws.com}", "{Service: lambda.amazonaws.com}", "does not trust states.amazonaws.com"),
        ("rate(2 hours)", "cron(0 12 * * ? *)", r"Timer: .*not known here: cron\(0 12 \* \* \? \*\)"),
        ("Layers: [!Ref CoreLayer, ", "Layers: [arn:aws:lambda:x, ", "layers of other stacks are not available here"),
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
    with pytest.raises((TemplateError, AssumeRoleDeniedError), match=complaint):
        deploy_hub(organisation.clients, checkout, HUB_PARAMETERS, name=name, organisation=NOBODY)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("{ParameterKey: BusArn,", "{ParameterKey: Bus,", "member-account.yaml: there is no parameter Bus"),
        ("TemplateURL: infra/member-account.yaml", "TemplateURL: https://x/y.yaml", "there is no https://x/y.yaml"),
        ("PermissionModel: SERVICE_MANAGED", "PermissionModel: SELF_MANAGED", "only service-managed StackSets"),
        ("{Enabled: true, ", "{Enabled: false, ", "only service-managed StackSets"),
        (
            "{OrganizationalUnitIds: !Ref",
            "{AccountFilterType: NONE, OrganizationalUnitIds: !Ref",
            "only service-managed",
        ),
        ("Capabilities: [CAPABILITY_NAMED_IAM]", "Capabilities: [CAPABILITY_IAM]", "it needs CAPABILITY_NAMED_IAM"),
        ("CallAs: DELEGATED_ADMIN", "CallAs: DELEGATED_ADMIN\n      Tags: []", "StackSet with Tags: teach"),
        ("AWS::IAM::Role\n    Properties:\n      RoleName: example-f", QUEUE, "only the hub's functions and queues"),
    ],
)
def test_a_stack_set_that_would_not_reach_the_members_as_on_aws_is_refused(
    organisation: LocalOrganisation, checkout: Path, old: str, new: str, complaint: str
) -> None:
    """By the stack that holds it, while it is created."""
    name = f"stack{next(_numbers)}"
    for file in (checkout / "template.yaml", checkout / "infra/member-account.yaml"):
        file.write_text(file.read_text().replace(old, new, 1).replace("{Name: example}", f"{{Name: {name}}}"))
    nobody = SimpleNamespace(**vars(NOBODY), is_enabled=lambda *_: True, tell=lambda *_: None)
    nobody.accounts_below = lambda _: [f"{next(_numbers):012}"]
    with (
        closing(DeploymentClients(organisation.clients.endpoint_url)) as clients,
        pytest.raises(TemplateError, match=complaint),
    ):
        deploy_hub(clients, checkout, HUB_PARAMETERS, name=name, organisation=nobody)


@pytest.mark.parametrize("type_name", sorted(set(HANDLERS) - {CUSTOM}))
def test_every_handler_refuses_properties_that_it_does_not_know(
    organisation: LocalOrganisation, tmp_path: Path, type_name: str
) -> None:
    """Before anything is created."""
    text = f"Resources: {{Thing: {{Type: '{type_name}', Properties: {{Unheard: 1}}}}}}"
    with pytest.raises(TemplateError, match=f"some.yaml: Thing: {type_name} with Unheard: teach"):
        deploy_text(organisation, tmp_path, text)


def test_attributes_of_resources_that_are_not_handled_are_refused(
    organisation: LocalOrganisation, tmp_path: Path
) -> None:
    """Condition would need work."""
    text = "Resources: {Queue: {Type: AWS::SQS::Queue, Condition: Never}}"
    with pytest.raises(TemplateError, match=r"some.yaml: Queue: AWS::SQS::Queue with Condition: teach"):
        deploy_text(organisation, tmp_path, text)


EVERYTHING_ELSE = """
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}
      PointInTimeRecoverySpecification: {PointInTimeRecoveryEnabled: true}
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
  Group:
    Type: AWS::Scheduler::ScheduleGroup
    Properties: {Name: looks}
  Later:
    Type: AWS::Scheduler::Schedule
    Properties:
      GroupName: !Ref Group
      ScheduleExpression: at(2099-01-01T00:00:00)
      FlexibleTimeWindow: {Mode: "OFF"}
      Target: {Arn: !GetAtt Queue.Arn, RoleArn: !GetAtt Role.Arn, Input: "{}", SqsParameters: {MessageGroupId: g}}
  People:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      ManagedPolicyName: people
      PolicyDocument: {Version: "2012-10-17", Statement: [{Effect: Allow, Action: s3:Get*, Resource: "*"}]}
  Switch:
    Type: AWS::SSM::Parameter
    Properties: {Name: /example/switch, Type: String, Value: "on", AllowedPattern: "on|off"}
  Logs:
    Type: AWS::Logs::LogGroup
    Properties: {LogGroupName: /example, RetentionInDays: 7}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: sts:AssumeRole}]
      ManagedPolicyArns: [arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore]
      Policies:
        - PolicyName: inline
          PolicyDocument: {Version: "2012-10-17", Statement: [{Effect: Allow, Action: s3:Get*, Resource: "*"}]}
  Profile:
    Type: AWS::IAM::InstanceProfile
    Properties: {Roles: [!Ref Role]}
Outputs:
  Role: {Value: !Ref Role}
  Profile: {Value: !GetAtt Profile.Arn}
  Logs: {Value: !GetAtt Logs.Arn}
  Table: {Value: !Ref Table}
  QueueUrl: {Value: !Ref Queue}
  Alarm: {Value: !Ref Alarm}
  Switch: {Value: !Ref Switch}
  People: {Value: !Ref People}
  Group: {Value: !GetAtt Group.Arn}
"""


def test_what_is_created_is_what_the_template_says(organisation: LocalOrganisation, tmp_path: Path) -> None:
    """Read back through the services themselves."""
    outputs = deploy_text(organisation, tmp_path, EVERYTHING_ELSE).outputs
    client: Any = organisation.client
    table = client("dynamodb").describe_table(TableName=outputs["Table"])["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    expiry = client("dynamodb").describe_time_to_live(TableName=outputs["Table"])["TimeToLiveDescription"]
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    backups = client("dynamodb").describe_continuous_backups(TableName=outputs["Table"])
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"
    (alarm,) = client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert alarm["AlarmName"] == outputs["Alarm"]
    assert alarm["Dimensions"][0]["Value"].endswith("-Queue.fifo")
    attributes = client("sqs").get_queue_attributes(QueueUrl=outputs["QueueUrl"], AttributeNames=["All"])["Attributes"]
    assert (attributes["DelaySeconds"], attributes["ContentBasedDeduplication"]) == ("7", "true")
    (schedule,) = client("scheduler").list_schedules(GroupName="looks")["Schedules"]
    assert outputs["Group"] in schedule["Arn"].replace(":schedule/", ":schedule-group/")
    assert client("ssm").get_parameter(Name=outputs["Switch"])["Parameter"]["Value"] == "on"
    (group,) = client("logs").describe_log_groups(logGroupNamePrefix="/example")["logGroups"]
    assert (group["arn"], group["retentionInDays"]) == (outputs["Logs"], 7)
    attached = client("iam").list_attached_role_policies(RoleName=outputs["Role"])["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["AmazonSSMManagedInstanceCore"]
    assert client("iam").list_role_policies(RoleName=outputs["Role"])["PolicyNames"] == ["inline"]
    assert client("iam").get_policy(PolicyArn=outputs["People"])["Policy"]["PolicyName"] == "people"
    (profile,) = client("iam").list_instance_profiles_for_role(RoleName=outputs["Role"])["InstanceProfiles"]
    assert (profile["Arn"], profile["Roles"][0]["RoleName"]) == (outputs["Profile"], outputs["Role"])
