"""A small checkout for the tests: a hub template, member templates, a state machine, two layers, three functions."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PARAMETERS = {"GovernedRegions": "us-east-1,eu-west-1"}
"""Two Regions are enough, and quicker than three."""

HUB = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  OrganizationId: {Type: String}
  TargetOrganizationalUnitIds: {Type: CommaDelimitedList}
  GovernedRegions: {Type: CommaDelimitedList}
  Delay: {Type: Number, Default: 0, MinValue: 0, MaxValue: 900}
Globals:
  Function:
    Runtime: python3.13
    Handler: handler.handle
    Timeout: 5
    Layers: [!Ref CoreLayer, !Ref PolicyLayer]
    Environment:
      Variables:
        POLICY_FILE: /opt/policy.json
        GREETING: !Sub "hello from ${AWS::Region}"
Resources:
  Bus:
    Type: AWS::Events::EventBus
    Properties: {Name: example}
  BusPolicy:
    Type: AWS::Events::EventBusPolicy
    Properties:
      EventBusName: !Ref Bus
      StatementId: Organisation
      Statement:
        Effect: Allow
        Principal: "*"
        Action: events:PutEvents
        Resource: !GetAtt Bus.Arn
        Condition: {StringEquals: {aws:PrincipalOrgID: !Ref OrganizationId}}
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: !Ref Bus
      EventPattern:
        source: [aws.ec2, example, beat]
      Targets:
        - Id: intake
          Arn: !GetAtt Intake.Arn
  ActionRule:
    Type: AWS::Events::Rule
    Properties:
      EventPattern:
        source: [aws.securityhub]
        detail-type: [Security Hub Findings - Custom Action]
        resources: [!Ref Action]
      Targets:
        - Id: intake
          Arn: !GetAtt Intake.Arn
  Action:
    Type: Custom::Action
    Properties:
      ServiceToken: !GetAtt Actions.Arn
      Name: Mend
      Number: 3
  Actions:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/actions
      Policies:
        - Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Action: securityhub:*ActionTarget
              Resource: !Sub arn:aws:securityhub:${AWS::Region}:${AWS::AccountId}:hub/default
  IntakeDeadLetters:
    Type: AWS::SQS::Queue
  Intake:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 1
      SqsManagedSseEnabled: true
      RedrivePolicy: {deadLetterTargetArn: !GetAtt IntakeDeadLetters.Arn, maxReceiveCount: 2}
  IntakePolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref Intake]
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {Service: events.amazonaws.com}
            Action: sqs:SendMessage
            Resource: !GetAtt Intake.Arn
            Condition: {ArnEquals: {aws:SourceArn: [!GetAtt Rule.Arn, !GetAtt ActionRule.Arn]}}
  Work:
    Type: AWS::SQS::Queue
    Properties:
      FifoQueue: true
      ContentBasedDeduplication: true
      VisibilityTimeout: 1
      DelaySeconds: !Ref Delay
      RedrivePolicy: {deadLetterTargetArn: !GetAtt WorkDeadLetters.Arn, maxReceiveCount: 2}
  WorkDeadLetters:
    Type: AWS::SQS::Queue
    Properties: {FifoQueue: true}
  CoreLayer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/core, RetentionPolicy: Delete}
  PolicyLayer:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/policy, RetentionPolicy: Delete}
  Dispatch:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/dispatch
      Environment:
        Variables:
          WORK_QUEUE_URL: !Ref Work
      Policies:
        - Version: "2012-10-17"
          Statement:
            - {Effect: Allow, Action: sqs:SendMessage, Resource: !GetAtt Work.Arn}
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt Intake.Arn
            BatchSize: 5
            FunctionResponseTypes: [ReportBatchItemFailures]
  Perform:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/perform
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt Work.Arn
            BatchSize: 1
            ScalingConfig: {MaximumConcurrency: 3}
            FunctionResponseTypes: [ReportBatchItemFailures]
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: infra/machine.asl.json
      DefinitionSubstitutions: {PerformArn: !GetAtt Perform.Arn}
      Role: !GetAtt MachineRole.Arn
  MachineRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {Service: states.amazonaws.com}
            Action: sts:AssumeRole
            Condition: {StringEquals: {aws:SourceAccount: !Ref AWS::AccountId}}
      Policies:
        - PolicyName: run
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - {Effect: Allow, Action: lambda:InvokeFunction, Resource: !GetAtt Perform.Arn}
              - {Effect: Allow, Action: states:StartExecution, Resource: "*"}
  Timer:
    Type: AWS::Scheduler::Schedule
    DependsOn: MemberRegions
    Properties:
      ScheduleExpression: rate(2 hours)
      FlexibleTimeWindow: {Mode: "OFF"}
      Target: {Arn: !Ref Machine, RoleArn: !GetAtt TimerRole.Arn, Input: '{"do": "nothing"}'}
  TimerRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {Service: scheduler.amazonaws.com}
            Action: sts:AssumeRole
            Condition:
              StringEquals: {aws:SourceAccount: !Ref AWS::AccountId}
              ArnLike: {aws:SourceArn: arn:aws:scheduler:us-east-1:*:schedule-group/default}
      Policies:
        - PolicyName: start
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - {Effect: Allow, Action: states:StartExecution, Resource: !Ref Machine}
              - {Effect: Allow, Action: sqs:SendMessage, Resource: !GetAtt Work.Arn}
  MemberAccounts:
    Type: AWS::CloudFormation::StackSet
    Properties: &StackSet
      StackSetName: example-account
      PermissionModel: SERVICE_MANAGED
      CallAs: DELEGATED_ADMIN
      Capabilities: [CAPABILITY_NAMED_IAM]
      TemplateURL: infra/member-account.yaml
      Parameters: [{ParameterKey: BusArn, ParameterValue: !GetAtt Bus.Arn}]
      AutoDeployment: {Enabled: true, RetainStacksOnAccountRemoval: false}
      StackInstancesGroup:
        - DeploymentTargets: {OrganizationalUnitIds: !Ref TargetOrganizationalUnitIds}
          Regions: [!Ref AWS::Region]
  MemberRegions:
    Type: AWS::CloudFormation::StackSet
    DependsOn: [MemberAccounts]
    Properties:
      <<: *StackSet
      StackSetName: example-region
      TemplateURL: infra/member-region.yaml
      StackInstancesGroup:
        - DeploymentTargets: {OrganizationalUnitIds: !Ref TargetOrganizationalUnitIds}
          Regions: !Ref GovernedRegions
Outputs:
  BusArn: {Value: !GetAtt Bus.Arn}
  ActionName: {Value: !GetAtt Action.Name}
"""

MACHINE = """
{
  "StartAt": "Do",
  "States": {
    "Do": {
      "Type": "Task",
      "Resource": "arn:aws:states:::lambda:invoke",
      "Parameters": {"FunctionName": "${PerformArn}", "Payload.$": "$"},
      "OutputPath": "$.Payload",
      "End": true
    }
  }
}
"""

MEMBER_ACCOUNT = """
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  BusArn: {Type: String}
Resources:
  Forwarder:
    Type: AWS::IAM::Role
    Properties:
      RoleName: example-forwarder
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: sts:AssumeRole}
      Policies:
        - PolicyName: forward
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - {Effect: Allow, Action: events:PutEvents, Resource: !Ref BusArn}
"""

MEMBER_REGION = """
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  BusArn: {Type: String}
Resources:
  Forward:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {$or: [{source: [aws.ec2], detail: {eventName: [CreateVpc]}}, {source: [beat]}]}
      Targets:
        - Id: hub
          Arn: !Ref BusArn
          RoleArn: !Sub arn:${AWS::Partition}:iam::${AWS::AccountId}:role/example-forwarder
  Beat:
    Type: AWS::Scheduler::Schedule
    DependsOn: Forward
    Properties:
      Name: beat
      ScheduleExpression: rate(1 day)
      FlexibleTimeWindow: {Mode: "OFF"}
      Target:
        Arn: !Sub arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default
        RoleArn: !GetAtt BeatRole.Arn
        EventBridgeParameters: {Source: beat, DetailType: Beat}
        Input: '{"version": 1}'
  BeatRole:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Sub example-beat-${AWS::Region}
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: {Service: scheduler.amazonaws.com}, Action: sts:AssumeRole}
      Policies:
        - PolicyName: beat
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - Effect: Allow
                Action: events:PutEvents
                Resource: !Sub arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default
"""

DISPATCH = """
import json, os
import boto3
import portcullis

def handle(event, context):
    failures = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        if body.get("detail", {}).get("poison"):
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        print(json.dumps({"level": "INFO", "step": "dispatch", "message": f"saw {body['detail-type']}"}))
        boto3.client("sqs").send_message(
            QueueUrl=os.environ["WORK_QUEUE_URL"], MessageBody=record["body"],
            MessageGroupId=body["account"], MessageDeduplicationId=body["id"])
    return {"batchItemFailures": failures}
"""

PERFORM = """
import datetime, importlib, json, os, sys, time

failures = {}

def handle(event, context):
    for record in event.get("Records", []):
        body = json.loads(record["body"])
        print(json.dumps({"level": "INFO", "performed": body, "message": "performed", "record": record}))
        time.sleep(body.get("seconds", 0))
        if body.get("fails"):
            return {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
        if "answer" in body:
            return body["answer"]
    do = event.get("do")
    if do == "raise":
        raise ValueError("no such thing")
    if do == "flake":
        failures[event["key"]] = failures.get(event["key"], 0) + 1
        if failures[event["key"]] <= event["times"]:
            raise TimeoutError("not yet")
    if do == "echo":
        time.sleep(event.get("seconds", 0))
        return event
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(60)
    if do == "unserialisable":
        return {"a": object()}
    if do == "import":
        importlib.import_module(event["module"])
    if do == "look":
        return {
            "pid": os.getpid(),
            "time": time.time(),
            "now": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "cwd": os.getcwd(),
            "environment": dict(os.environ),
            "policy": json.load(open(os.environ["POLICY_FILE"])),
            "remaining": context.get_remaining_time_in_millis(),
            "arn": context.invoked_function_arn,
            "request_id": context.aws_request_id,
        }
    if do == "print":
        print("plain line")
        print("to standard error", file=sys.stderr)
        print("x" * 200_000)
        print(json.dumps({"level": "WARNING", "message": "structured", "account_id": "111122223333"}))
"""

ACTIONS = """
import json, urllib.request
import boto3

def handle(event, context):
    client, arn = boto3.client("securityhub"), event.get("PhysicalResourceId")
    print(json.dumps({"custom": event}))
    properties = event["ResourceProperties"]
    if properties["Name"] == "Nothing":
        return
    if event["RequestType"] == "Create":
        arn = client.create_action_target(Name=properties["Name"], Description="Mends", Id="mend")["ActionTargetArn"]
    if event["RequestType"] == "Update":
        arn += properties.get("Suffix", "")
    if event["RequestType"] == "Delete":
        client.delete_action_target(ActionTargetArn=arn)
    answer = {
        "Status": properties.get("Status", "SUCCESS"), "Reason": "because", "PhysicalResourceId": arn,
        "StackId": event["StackId"], "RequestId": event["RequestId"], "LogicalResourceId": event["LogicalResourceId"],
        "Data": {"Name": properties["Name"]},
    }
    request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT")
    request.add_header("Content-Type", "")
    urllib.request.urlopen(request).close()
"""

FILES = {
    "template.yaml": HUB,
    "infra/member-account.yaml": MEMBER_ACCOUNT,
    "infra/member-region.yaml": MEMBER_REGION,
    "infra/machine.asl.json": MACHINE,
    "functions/actions/handler.py": ACTIONS,
    "functions/dispatch/handler.py": DISPATCH,
    "functions/perform/handler.py": PERFORM,
    "layers/core/portcullis/__init__.py": '"""Stands for the package."""\n',
    "layers/core/requirements.txt": "aws-lambda-powertools==3.37.0 \\\n    --hash=sha256:0\ntyping-extensions==4\n",
    "layers/policy/Makefile": "build-PolicyLayer:\n\tcp policy.json $(ARTIFACTS_DIR)/policy.json\n",
    "layers/policy/policy.json": '{"version": 1}',
}


def write_checkout(folder: Path) -> Path:
    """Write the example below `folder` and return it."""
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
    return folder
