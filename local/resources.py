"""Creates the resources of a template: one small handler for each type, and an error for everything else.

moto accepts more than it acts on, so every handler names the properties that it uses and those that mean
nothing on one machine. Anything else stops the deployment: a demo must not show what AWS would not do.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ParamValidationError

from .custom_resources import CustomResource
from .functions import FunctionSpec
from .queues import EventSource
from .stack_sets import StackSet
from .template import Created, Scope, Source, Template, TemplateError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .clients import Clients
    from .stack_sets import Organisation

_CUSTOM = "AWS::CloudFormation::CustomResource"
_DEFAULT_CONCURRENCY = 4
# Nothing is updated or deleted here, and the order is the template's business.
_IGNORED_ATTRIBUTES = {"Metadata", "DeletionPolicy", "UpdateReplacePolicy", "DependsOn"}

Properties = dict[str, Any]


@dataclass
class Stack:
    """One deployed template, and what must run for it. `queues` has ARNs by logical id, `layers` folders by ARN.

    StackSets can be created by a stack that knows its organisation.
    """

    name: str
    account_id: str
    region: str
    template: Template
    clients: Clients
    organisation: Organisation | None = None
    stack_sets: list[StackSet] = field(default_factory=list)
    functions: list[FunctionSpec] = field(default_factory=list)
    event_sources: list[EventSource] = field(default_factory=list)
    queues: dict[str, str] = field(default_factory=dict)
    layers: dict[str, Source] = field(default_factory=dict)
    custom_resources: list[CustomResource] = field(default_factory=list)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """Return a client of the stack's account and Region."""
        return self.clients.client(service, self.account_id, self.region)

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in the stack's account and Region."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"

    def take_name(self, properties: Properties, key: str, logical_id: str, suffix: str = "") -> str:
        """Remove and return the name in `properties`, or the one that CloudFormation would make up."""
        return str(properties.pop(key, f"{self.name}-{logical_id}{suffix}"))


def deploy(stack: Stack, parameters: Mapping[str, str]) -> None:
    """Create every resource of the stack's template, and fill in the rest of `stack`; may raise TemplateError."""

    def create(logical_id: str, resource: Mapping[str, Any], scope: Scope) -> Created:
        place, kind = f"{stack.template.path.name}: {logical_id}", resource["Type"]
        kind = _CUSTOM if kind.startswith("Custom::") else kind
        if kind not in HANDLERS:
            raise TemplateError(f"{place}: nobody handles {kind}; teach local/resources.py")
        handler, properties = HANDLERS[kind], resource.get("Properties", {})
        # What a custom resource takes is its function's business.
        known = properties if kind == _CUSTOM else {*handler.uses.split(), *handler.ignores.split()}
        unknown = set(properties) - set(known)
        unknown |= set(resource) - _IGNORED_ATTRIBUTES - {"Type", "Properties"}
        if unknown:
            raise TemplateError(f"{place}: {kind} with {', '.join(sorted(unknown))}: teach local/resources.py")
        ignored = handler.ignores.split()
        used = scope.resolve({key: properties[key] for key in properties if key not in ignored}, place)
        try:
            return handler.create(stack, logical_id, used)
        except (ClientError, ParamValidationError, TemplateError) as error:
            raise TemplateError(f"{place}: {error}") from error

    pseudo = {"AccountId": stack.account_id, "Region": stack.region, "Partition": "aws"}
    stack.outputs = Scope(stack.template, parameters, create, **pseudo).create_all()


def _queue(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name = stack.take_name(properties, "QueueName", logical_id, ".fifo" if properties.get("FifoQueue") else "")
    attributes = {key: value if isinstance(value, str) else json.dumps(value) for key, value in properties.items()}
    url = stack.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    stack.queues[logical_id] = arn = stack.arn("sqs", name)
    return Created(url, {"Arn": arn, "QueueName": name})


def _queue_policy(stack: Stack, logical_id: str, properties: Properties) -> Created:
    for url in properties["Queues"]:
        policy = json.dumps(properties["PolicyDocument"])
        stack.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return Created(logical_id)


def _event_bus(stack: Stack, _: str, properties: Properties) -> Created:
    arn = stack.client("events").create_event_bus(**properties)["EventBusArn"]
    return Created(properties["Name"], {"Arn": arn})


def _event_bus_policy(stack: Stack, logical_id: str, properties: Properties) -> Created:
    statement = {**properties["Statement"], "Sid": properties["StatementId"]}
    # The whole policy: the API's short form knows no conditions but one.
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stack.client("events").put_permission(EventBusName=properties["EventBusName"], Policy=policy)
    return Created(logical_id)


def _rule(stack: Stack, logical_id: str, properties: Properties) -> Created:
    events, name = stack.client("events"), f"{stack.name}-{logical_id}"
    targets, pattern = properties.pop("Targets"), json.dumps(properties.pop("EventPattern"))
    arn = events.put_rule(Name=name, EventPattern=pattern, **properties)["RuleArn"]
    for target in targets:
        if unknown := sorted(set(target) - {"Arn", "DeadLetterConfig", "Id", "RoleArn", "SqsParameters"}):
            raise TemplateError(f"a rule target with {', '.join(unknown)}: teach local/resources.py")
    events.put_targets(Rule=name, EventBusName=properties.get("EventBusName", "default"), Targets=targets)
    return Created(name, {"Arn": arn})


def _function(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name, layers = stack.take_name(properties, "FunctionName", logical_id), properties.get("Layers", [])
    if not properties["Runtime"].startswith("python"):
        raise TemplateError(f"only Python functions run here, not {properties['Runtime']}")
    if unknown := sorted(set(layers) - set(stack.layers)):
        raise TemplateError(f"layers of other stacks are not available here: {', '.join(unknown)}")
    arn, code = stack.arn("lambda", f"function:{name}"), stack.template.source(properties["Code"])
    folders = tuple(stack.layers[layer] for layer in layers)
    stack.functions.append(FunctionSpec(logical_id, name, arn, properties, code, folders))
    return Created(name, {"Arn": arn})


def _layer_version(stack: Stack, logical_id: str, properties: Properties) -> Created:
    arn = stack.arn("lambda", f"layer:{stack.take_name(properties, 'LayerName', logical_id)}:1")
    stack.layers[arn] = stack.template.source(properties["Content"])
    return Created(arn)


def _event_source_mapping(stack: Stack, logical_id: str, properties: Properties) -> Created:
    if properties.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
        raise TemplateError("only FunctionResponseTypes [ReportBatchItemFailures] is handled; teach local/queues.py")
    size, scaling = int(properties.get("BatchSize", 10)), properties.get("ScalingConfig", {})
    concurrency = int(scaling.get("MaximumConcurrency", _DEFAULT_CONCURRENCY))
    stack.event_sources.append(EventSource(properties["EventSourceArn"], properties["FunctionName"], size, concurrency))
    return Created(logical_id)


def _role(stack: Stack, logical_id: str, properties: Properties) -> Created:
    iam, name = stack.client("iam"), stack.take_name(properties, "RoleName", logical_id)
    policies, managed = properties.pop("Policies", []), properties.pop("ManagedPolicyArns", [])
    trust = json.dumps(properties.pop("AssumeRolePolicyDocument"))
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **properties)["Role"]["Arn"]
    for policy_arn in managed:
        iam.attach_role_policy(RoleName=name, PolicyArn=policy_arn)
    for policy in policies:
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
    return Created(name, {"Arn": arn})


def _managed_policy(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name, document = stack.take_name(properties, "ManagedPolicyName", logical_id), properties.pop("PolicyDocument")
    created = stack.client("iam").create_policy(PolicyName=name, PolicyDocument=json.dumps(document), **properties)
    return Created(created["Policy"]["Arn"])


def _instance_profile(stack: Stack, logical_id: str, properties: Properties) -> Created:
    iam, name = stack.client("iam"), stack.take_name(properties, "InstanceProfileName", logical_id)
    arn = iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]
    for role in properties["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
    return Created(name, {"Arn": arn})


def _log_group(stack: Stack, logical_id: str, properties: Properties) -> Created:
    logs, name = stack.client("logs"), stack.take_name(properties, "LogGroupName", logical_id)
    logs.create_log_group(logGroupName=name)
    logs.put_retention_policy(logGroupName=name, retentionInDays=int(properties["RetentionInDays"]))
    return Created(name, {"Arn": stack.arn("logs", f"log-group:{name}:*")})


def _table(stack: Stack, logical_id: str, properties: Properties) -> Created:
    dynamodb, name = stack.client("dynamodb"), stack.take_name(properties, "TableName", logical_id)
    expiry, recovery = (properties.pop(f"{key}Specification") for key in ("TimeToLive", "PointInTimeRecovery"))
    arn = dynamodb.create_table(TableName=name, **properties)["TableDescription"]["TableArn"]
    dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)
    dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    return Created(name, {"Arn": arn})


def _alarm(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name = f"{stack.name}-{logical_id}"
    stack.client("cloudwatch").put_metric_alarm(AlarmName=name, **properties)
    return Created(name)


def _state_machine(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name = stack.take_name(properties, "StateMachineName", logical_id)
    definition = stack.template.source(properties["DefinitionS3Location"]).path.read_text(encoding="utf-8")
    for key, value in properties.get("DefinitionSubstitutions", {}).items():
        definition = definition.replace(f"${{{key}}}", str(value))
    if left := re.findall(r"\$\{[^}]*\}", definition):
        raise TemplateError(f"the definition needs DefinitionSubstitutions for {', '.join(sorted(set(left)))}")
    kind = properties.get("StateMachineType", "STANDARD")
    machine = {"name": name, "definition": definition, "roleArn": properties["RoleArn"], "type": kind}
    arn = stack.client("stepfunctions").create_state_machine(**machine)["stateMachineArn"]
    return Created(arn, {"Arn": arn, "Name": name})


def _schedule(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name = stack.take_name(properties, "Name", logical_id)
    arn = stack.client("scheduler").create_schedule(Name=name, **properties)["ScheduleArn"]
    return Created(name, {"Arn": arn})


def _schedule_group(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name = stack.take_name(properties, "Name", logical_id)
    return Created(name, {"Arn": stack.client("scheduler").create_schedule_group(Name=name)["ScheduleGroupArn"]})


def _parameter(stack: Stack, logical_id: str, properties: Properties) -> Created:
    name = stack.take_name(properties, "Name", logical_id)
    stack.client("ssm").put_parameter(Name=name, **properties)
    return Created(name, {"Type": properties["Type"], "Value": properties["Value"]})


def _custom(stack: Stack, logical_id: str, properties: Properties) -> Created:
    if stack.organisation is None:
        raise TemplateError("a custom resource can only be in the hub's template")
    resource = CustomResource(stack, logical_id, properties)
    data = resource.send("Create")
    stack.custom_resources.append(resource)
    return Created(resource.physical_id, data)


def _stack_set(stack: Stack, logical_id: str, properties: Properties) -> Created:
    """Deploy a service-managed StackSet; the stack waits for it, as CloudFormation does."""
    name, groups = stack.take_name(properties, "StackSetName", logical_id), properties["StackInstancesGroup"]
    about = (properties["PermissionModel"], properties["CallAs"], properties["AutoDeployment"]["Enabled"])
    shapes = [{**group, "DeploymentTargets": set(group["DeploymentTargets"])} for group in groups]
    targets = {"OrganizationalUnitIds"}
    if about != ("SERVICE_MANAGED", "DELEGATED_ADMIN", True) or any(
        set(shape) != {"DeploymentTargets", "Regions"} or shape["DeploymentTargets"] != targets for shape in shapes
    ):
        raise TemplateError("only service-managed StackSets of a delegated administrator that deploy themselves to OUs")
    if stack.organisation is None:
        raise TemplateError("a StackSet can only be in the hub's template")
    template = load(stack.template.file(properties["TemplateURL"]))
    roles = [one for one in template.section("Resources").values() if one["Type"] == "AWS::IAM::Role"]
    if (
        any("RoleName" in role["Properties"] for role in roles)
        and "CAPABILITY_NAMED_IAM" not in properties["Capabilities"]
    ):
        raise TemplateError(f"{template.path.name} names roles: it needs CAPABILITY_NAMED_IAM")
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in properties["Parameters"]}

    def deploy_one(account_id: str, region: str) -> None:
        deploy_member(Stack(name, account_id, region, template, stack.clients), parameters)

    places = tuple((tuple(one["DeploymentTargets"]["OrganizationalUnitIds"]), tuple(one["Regions"])) for one in groups)
    stack_set = StackSet(name, places, stack.organisation, deploy_one)
    stack.stack_sets.append(stack_set)
    stack_set.deploy()
    return Created(f"{name}:{uuid.uuid4()}")


def deploy_member(stack: Stack, parameters: Mapping[str, str]) -> None:
    """Deploy a member template, which may hold nothing that would have to run here."""
    deploy(stack, parameters)
    if stack.functions or stack.queues:
        raise TemplateError(f"infra/{stack.template.path.name}: only the hub's functions and queues are served here")


@dataclass(frozen=True, slots=True)
class Handler:
    """How a type is created, the names of the properties that are used, and of those that mean nothing here."""

    create: Callable[[Stack, str, Properties], Created]
    uses: str
    ignores: str = ""


# Ignored: there is no X-Ray here, functions run on this machine's Python and processor, nobody reads tags.
HANDLERS = {
    _CUSTOM: Handler(_custom, "ServiceToken"),
    "AWS::CloudFormation::StackSet": Handler(
        _stack_set,
        "AutoDeployment CallAs Capabilities Parameters PermissionModel StackInstancesGroup StackSetName TemplateURL",
        "Description ManagedExecution OperationPreferences",
    ),
    "AWS::CloudWatch::Alarm": Handler(
        _alarm,
        "AlarmActions AlarmDescription ComparisonOperator Dimensions EvaluationPeriods MetricName Namespace Period "
        "Statistic Threshold TreatMissingData",
    ),
    "AWS::DynamoDB::Table": Handler(
        _table,
        "AttributeDefinitions BillingMode KeySchema PointInTimeRecoverySpecification TableName TimeToLiveSpecification",
    ),
    "AWS::Events::EventBus": Handler(_event_bus, "Description Name"),
    "AWS::Events::EventBusPolicy": Handler(_event_bus_policy, "EventBusName Statement StatementId"),
    "AWS::Events::Rule": Handler(_rule, "Description EventBusName EventPattern Targets"),
    "AWS::IAM::InstanceProfile": Handler(_instance_profile, "InstanceProfileName Roles"),
    "AWS::IAM::ManagedPolicy": Handler(_managed_policy, "Description ManagedPolicyName PolicyDocument"),
    "AWS::IAM::Role": Handler(
        _role, "AssumeRolePolicyDocument Description ManagedPolicyArns Policies RoleName", "Tags"
    ),
    "AWS::Lambda::EventSourceMapping": Handler(
        _event_source_mapping, "BatchSize EventSourceArn FunctionName FunctionResponseTypes ScalingConfig"
    ),
    "AWS::Lambda::Function": Handler(
        _function,
        "Code Environment FunctionName Handler Layers MemorySize Role Runtime Timeout",
        "Architectures Description Tags TracingConfig",
    ),
    "AWS::Lambda::LayerVersion": Handler(
        _layer_version, "Content LayerName", "CompatibleArchitectures CompatibleRuntimes Description"
    ),
    "AWS::Logs::LogGroup": Handler(_log_group, "LogGroupName RetentionInDays"),
    "AWS::Scheduler::Schedule": Handler(
        _schedule,
        "ActionAfterCompletion Description EndDate FlexibleTimeWindow GroupName KmsKeyArn Name ScheduleExpression "
        "ScheduleExpressionTimezone StartDate State Target",
    ),
    "AWS::Scheduler::ScheduleGroup": Handler(_schedule_group, "Name", "Tags"),
    "AWS::SSM::Parameter": Handler(_parameter, "AllowedPattern Description Name Tier Type Value", "Tags"),
    "AWS::SQS::Queue": Handler(
        _queue,
        "ContentBasedDeduplication DeduplicationScope DelaySeconds FifoQueue FifoThroughputLimit "
        "MessageRetentionPeriod QueueName RedrivePolicy SqsManagedSseEnabled VisibilityTimeout",
    ),
    "AWS::SQS::QueuePolicy": Handler(_queue_policy, "PolicyDocument Queues"),
    "AWS::StepFunctions::StateMachine": Handler(
        _state_machine, "DefinitionS3Location DefinitionSubstitutions RoleArn StateMachineName StateMachineType", "Tags"
    ),
}
