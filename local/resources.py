"""Creates the resources of a template: one small handler for each type, and an error for everything else.

moto accepts more than it acts on, so every handler names the properties that it uses and those that it
knowingly ignores. Anything else stops the deployment: a demo must not show what AWS would not do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ParamValidationError

from .intrinsics import Scope
from .stacks import DEFAULT_CONCURRENCY, EventSourceSpec, FunctionSpec, Handler, QueueSpec, Stack, Wanted
from .template import Created, TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def deploy(stack: Stack, parameters: Mapping[str, str]) -> None:
    """Create every resource of the stack's template, and fill in the rest of `stack`.

    Raises:
        TemplateError: a type or a property that no handler knows, or a value that cannot be resolved.
    """
    pseudo_parameters = {
        "AWS::AccountId": stack.account_id,
        "AWS::Region": stack.region,
        "AWS::Partition": "aws",
        "AWS::URLSuffix": "amazonaws.com",
        "AWS::StackName": stack.name,
        "AWS::StackId": f"arn:aws:cloudformation:{stack.region}:{stack.account_id}:stack/{stack.name}/local",
    }
    scope = Scope(stack.template, parameters, pseudo_parameters)
    for resource, place in scope.resources():
        handler = HANDLERS.get(resource.type)
        if handler is None:
            raise TemplateError(f"{place}: nobody handles {resource.type}; teach local/resources.py")
        known = {*handler.uses, *handler.ignores}
        if unknown := sorted(set(resource.properties) - known):
            raise TemplateError(
                f"{place}: {resource.type} with {', '.join(unknown)} is not handled; teach local/resources.py"
            )
        properties = scope.resolve(
            {key: value for key, value in resource.properties.items() if key in handler.uses}, place
        )
        wanted = Wanted(resource.logical_id, place, properties, stack)
        try:
            scope.created[resource.logical_id] = handler.create(wanted)
        except (ClientError, ParamValidationError) as error:
            raise TemplateError(f"{place}: {error}") from error
    stack.outputs = scope.outputs()


# --- SQS ---------------------------------------------------------------------------------------------------

_QUEUE_ATTRIBUTES = (
    "ContentBasedDeduplication DeduplicationScope DelaySeconds FifoQueue FifoThroughputLimit "
    "MaximumMessageSize MessageRetentionPeriod ReceiveMessageWaitTimeSeconds RedrivePolicy "
    "SqsManagedSseEnabled VisibilityTimeout"
)


def _queue(wanted: Wanted) -> Created:
    fifo = wanted.properties.get("FifoQueue", False)
    name = wanted.name("QueueName", ".fifo" if fifo else "")
    attributes = {key: _attribute(value) for key, value in wanted.pick(*_QUEUE_ATTRIBUTES.split()).items()}
    url = wanted.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn = wanted.arn("sqs", name)
    dead_letter_arn = wanted.properties.get("RedrivePolicy", {}).get("deadLetterTargetArn")
    if dead_letter_arn:
        wanted.stack.dead_letter_arns.add(dead_letter_arn)
    wanted.stack.queues.append(QueueSpec(wanted.logical_id, arn))
    return Created(url, {"Arn": arn, "QueueName": name, "QueueUrl": url})


def _attribute(value: Any) -> str:
    """Return a queue attribute as the SQS API takes it: always text."""
    return value if isinstance(value, str) else json.dumps(value)


def _queue_policy(wanted: Wanted) -> Created:
    policy = json.dumps(wanted.properties["PolicyDocument"])
    for url in wanted.properties["Queues"]:
        wanted.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return Created(wanted.logical_id)


# --- EventBridge -------------------------------------------------------------------------------------------

# RetryPolicy is ignored: a delivery fails here only for reasons that no retry would mend.
_TARGET_KEYS = {"Arn", "DeadLetterConfig", "Id", "RetryPolicy", "RoleArn", "SqsParameters"}


def _event_bus(wanted: Wanted) -> Created:
    name = wanted.name("Name")
    arn = wanted.client("events").create_event_bus(**{"Name": name, **wanted.pick("Description")})["EventBusArn"]
    return Created(name, {"Arn": arn, "Name": name})


def _event_bus_policy(wanted: Wanted) -> Created:
    events, bus = wanted.client("events"), wanted.properties.get("EventBusName", "default")
    statement = {**wanted.properties["Statement"], "Sid": wanted.properties["StatementId"]}
    policy = json.loads(
        events.describe_event_bus(Name=bus).get("Policy") or '{"Version": "2012-10-17", "Statement": []}'
    )
    policy["Statement"].append(statement)
    # The whole policy: the API's short form knows no conditions but one.
    events.put_permission(EventBusName=bus, Policy=json.dumps(policy))
    return Created(f"{bus}|{wanted.properties['StatementId']}")


def _rule(wanted: Wanted) -> Created:
    events, name = wanted.client("events"), wanted.name("Name")
    bus = wanted.properties.get("EventBusName", "default")
    pattern = json.dumps(wanted.properties["EventPattern"])
    settings = {"EventBusName": bus, "EventPattern": pattern, **wanted.pick("Description", "State", "RoleArn")}
    arn = events.put_rule(Name=name, **settings)["RuleArn"]
    targets = wanted.properties.get("Targets", [])
    for target in targets:
        if unknown := sorted(set(target) - _TARGET_KEYS):
            raise wanted.refuse(f"a rule target with {', '.join(unknown)} is not handled")
        if "DeadLetterConfig" in target:
            wanted.stack.dead_letter_arns.add(target["DeadLetterConfig"]["Arn"])
    answer = events.put_targets(Rule=name, EventBusName=bus, Targets=targets)
    if answer["FailedEntryCount"]:
        raise wanted.refuse(f"targets were refused: {answer['FailedEntries']}")
    bus_name = bus.rsplit("/", 1)[-1]
    return Created(name if bus_name == "default" else f"{bus_name}|{name}", {"Arn": arn})


# --- Lambda ------------------------------------------------------------------------------------------------


def _function(wanted: Wanted) -> Created:
    properties, stack, name = wanted.properties, wanted.stack, wanted.name("FunctionName")
    if not str(properties.get("Runtime")).startswith("python"):
        raise wanted.refuse(f"only Python functions run here, not {properties.get('Runtime')}")
    arn = wanted.arn("lambda", f"function:{name}")
    if ignored := sorted(set(properties.get("LoggingConfig", {})) - {"LogGroup"}):
        raise wanted.refuse(f"LoggingConfig with {', '.join(ignored)} is not handled")
    unknown = [layer for layer in properties.get("Layers", []) if layer not in stack.layers]
    if unknown:
        raise wanted.refuse(f"layers of other stacks are not available here: {', '.join(unknown)}")
    stack.functions.append(
        FunctionSpec(
            logical_id=wanted.logical_id,
            name=name,
            arn=arn,
            account_id=stack.account_id,
            region=stack.region,
            runtime=properties["Runtime"],
            handler=properties["Handler"],
            role_arn=properties["Role"],
            timeout=int(properties.get("Timeout", 3)),
            memory_size=int(properties.get("MemorySize", 128)),
            log_group=properties.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{name}"),
            variables={
                key: _attribute(value) for key, value in properties.get("Environment", {}).get("Variables", {}).items()
            },
            code=stack.template.source(properties["Code"], wanted.place),
            layers=tuple(stack.layers[layer] for layer in properties.get("Layers", [])),
            reserved_concurrency=int(properties.get("ReservedConcurrentExecutions", 0)) or None,
        )
    )
    return Created(name, {"Arn": arn})


def _layer_version(wanted: Wanted) -> Created:
    arn = wanted.arn("lambda", f"layer:{wanted.name('LayerName')}:1")
    wanted.stack.layers[arn] = wanted.stack.template.source(wanted.properties["Content"], wanted.place)
    return Created(arn, {"LayerVersionArn": arn})


def _event_source_mapping(wanted: Wanted) -> Created:
    properties = wanted.properties
    queue_arn = properties.get("EventSourceArn", "")
    if ":sqs:" not in queue_arn:
        raise wanted.refuse(f"only SQS queues feed functions here, not {queue_arn or 'this source'}")
    if str(properties.get("Enabled", True)).lower() == "true":
        spec = EventSourceSpec(
            queue_arn=queue_arn,
            function_name=properties["FunctionName"].rsplit(":", 1)[-1],
            batch_size=int(properties.get("BatchSize", 10)),
            batching_window=int(properties.get("MaximumBatchingWindowInSeconds", 0)),
            concurrency=int(properties.get("ScalingConfig", {}).get("MaximumConcurrency", DEFAULT_CONCURRENCY)),
            reports_item_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
        )
        wanted.stack.event_sources.append(spec)
    return Created(wanted.logical_id)


def _recorded(wanted: Wanted) -> Created:
    return Created(f"{wanted.stack.name}-{wanted.logical_id}")


# --- IAM ---------------------------------------------------------------------------------------------------


def _role(wanted: Wanted) -> Created:
    iam, name = wanted.client("iam"), wanted.name("RoleName")
    settings = wanted.pick("Description", "MaxSessionDuration", "Path", "PermissionsBoundary")
    trust = json.dumps(wanted.properties["AssumeRolePolicyDocument"])
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **settings)["Role"]
    for arn in wanted.properties.get("ManagedPolicyArns", []):
        iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    for policy in wanted.properties.get("Policies", []):
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
    wanted.stack.role_names.add(name)
    return Created(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})


def _managed_policy(wanted: Wanted) -> Created:
    iam, document = wanted.client("iam"), json.dumps(wanted.properties["PolicyDocument"])
    settings = wanted.pick("Description", "Path")
    answer = iam.create_policy(PolicyName=wanted.name("ManagedPolicyName"), PolicyDocument=document, **settings)
    arn = answer["Policy"]["Arn"]
    for role in wanted.properties.get("Roles", []):
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    return Created(arn, {"PolicyArn": arn})


def _policy(wanted: Wanted) -> Created:
    name, document = wanted.properties["PolicyName"], json.dumps(wanted.properties["PolicyDocument"])
    for role in wanted.properties["Roles"]:
        wanted.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=document)
    return Created(name)


def _instance_profile(wanted: Wanted) -> Created:
    iam, name = wanted.client("iam"), wanted.name("InstanceProfileName")
    profile = iam.create_instance_profile(InstanceProfileName=name, **wanted.pick("Path"))["InstanceProfile"]
    for role in wanted.properties["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
    return Created(name, {"Arn": profile["Arn"]})


# --- The rest ----------------------------------------------------------------------------------------------


def _log_group(wanted: Wanted) -> Created:
    logs, name = wanted.client("logs"), wanted.name("LogGroupName")
    logs.create_log_group(logGroupName=name)
    if "RetentionInDays" in wanted.properties:
        logs.put_retention_policy(logGroupName=name, retentionInDays=int(wanted.properties["RetentionInDays"]))
    return Created(name, {"Arn": wanted.arn("logs", f"log-group:{name}:*")})


def _table(wanted: Wanted) -> Created:
    dynamodb, name = wanted.client("dynamodb"), wanted.name("TableName")
    settings = wanted.pick("AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema")
    if "SSESpecification" in wanted.properties:
        encryption = dict(wanted.properties["SSESpecification"])
        settings["SSESpecification"] = {"Enabled": encryption.pop("SSEEnabled"), **encryption}
    table = dynamodb.create_table(TableName=name, **settings)["TableDescription"]
    if "TimeToLiveSpecification" in wanted.properties:
        expiry = wanted.properties["TimeToLiveSpecification"]
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)
    if "PointInTimeRecoverySpecification" in wanted.properties:
        recovery = wanted.properties["PointInTimeRecoverySpecification"]
        dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    return Created(name, {"Arn": table["TableArn"]})


_ALARM_SETTINGS = (
    "ActionsEnabled AlarmActions AlarmDescription ComparisonOperator DatapointsToAlarm Dimensions "
    "EvaluationPeriods ExtendedStatistic InsufficientDataActions MetricName Metrics Namespace OKActions "
    "Period Statistic Threshold TreatMissingData Unit"
)


def _alarm(wanted: Wanted) -> Created:
    name = wanted.name("AlarmName")
    wanted.client("cloudwatch").put_metric_alarm(AlarmName=name, **wanted.pick(*_ALARM_SETTINGS.split()))
    return Created(name, {"Arn": wanted.arn("cloudwatch", f"alarm:{name}")})


def _parameter(wanted: Wanted) -> Created:
    name = wanted.name("Name")
    settings = wanted.pick("AllowedPattern", "Description", "Tier", "Type", "Value")
    wanted.client("ssm").put_parameter(Name=name, **settings)
    return Created(name, {"Type": wanted.properties["Type"], "Value": wanted.properties["Value"]})


_TAGS = {"Tags": "no policy here looks at the tags of Portcullis's own resources"}
_UNREAD = {"Description": "nobody reads it here"}


def _handler(create: Callable[[Wanted], Created], uses: str, ignores: Mapping[str, str] = _TAGS) -> Handler:
    return Handler(create, tuple(uses.split()), ignores)


HANDLERS: dict[str, Handler] = {
    "AWS::CloudWatch::Alarm": _handler(_alarm, f"AlarmName {_ALARM_SETTINGS}"),
    "AWS::DynamoDB::Table": _handler(
        _table,
        "AttributeDefinitions BillingMode GlobalSecondaryIndexes KeySchema PointInTimeRecoverySpecification "
        "SSESpecification TableName TimeToLiveSpecification",
        {**_TAGS, "DeletionProtectionEnabled": "nothing deletes the stack here"},
    ),
    "AWS::Events::EventBus": _handler(_event_bus, "Description Name"),
    "AWS::Events::EventBusPolicy": _handler(_event_bus_policy, "EventBusName Statement StatementId"),
    "AWS::Events::Rule": _handler(_rule, "Description EventBusName EventPattern Name RoleArn State Targets"),
    "AWS::IAM::InstanceProfile": _handler(_instance_profile, "InstanceProfileName Path Roles"),
    "AWS::IAM::ManagedPolicy": _handler(_managed_policy, "Description ManagedPolicyName Path PolicyDocument Roles"),
    "AWS::IAM::Policy": _handler(_policy, "PolicyDocument PolicyName Roles"),
    "AWS::IAM::Role": _handler(
        _role,
        "AssumeRolePolicyDocument Description ManagedPolicyArns MaxSessionDuration Path PermissionsBoundary "
        "Policies RoleName",
    ),
    "AWS::Lambda::EventSourceMapping": _handler(
        _event_source_mapping,
        "BatchSize Enabled EventSourceArn FunctionName FunctionResponseTypes MaximumBatchingWindowInSeconds "
        "ScalingConfig",
    ),
    "AWS::Lambda::Function": _handler(
        _function,
        "Code Environment FunctionName Handler Layers LoggingConfig MemorySize ReservedConcurrentExecutions "
        "Role Runtime Timeout",
        {
            **_TAGS,
            **_UNREAD,
            "Architectures": "functions run on this machine's processor",
            "PackageType": "Zip is the only one with a local folder",
            "RecursiveLoop": "AWS's loop detection is not restored",
            "TracingConfig": "there is no X-Ray here",
        },
    ),
    "AWS::Lambda::LayerVersion": _handler(
        _layer_version,
        "Content LayerName",
        {
            **_UNREAD,
            "CompatibleArchitectures": "functions run on this machine's processor",
            "CompatibleRuntimes": "functions run on this Python",
            "LicenseInfo": "nobody reads it here",
        },
    ),
    "AWS::Lambda::Permission": _handler(
        _recorded,
        "",
        dict.fromkeys(
            ("Action", "FunctionName", "Principal", "SourceAccount", "SourceArn"),
            "only queues invoke functions here, and they need none",
        ),
    ),
    "AWS::Logs::LogGroup": _handler(
        _log_group,
        "LogGroupName RetentionInDays",
        {**_TAGS, "LogGroupClass": "log lines go to the journal"},
    ),
    "AWS::SQS::Queue": _handler(
        _queue,
        f"QueueName {_QUEUE_ATTRIBUTES}",
        {**_TAGS, "RedriveAllowPolicy": "queues of other owners do not exist here"},
    ),
    "AWS::SQS::QueuePolicy": _handler(_queue_policy, "PolicyDocument Queues"),
    "AWS::SSM::Parameter": _handler(_parameter, "AllowedPattern Description Name Tier Type Value"),
}
