"""Which permissions an API call needs: IAM actions, resources and condition keys.

Source: the Service Authorization Reference ("Actions, resources, and condition keys" of each service) and the
EC2 User Guide, "Grant permission to tag Amazon EC2 resources during creation". Resources are named where the
request makes them evident; otherwise they are left open and `Resource` is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from . import hooks
from .policies import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .calls import Call

Context = dict[str, list[str]]

_PREFIXES = {"stepfunctions": "states"}
_RENAMED = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
_FREE = {"sts:GetCallerIdentity", "sts:GetAccessKeyInfo"}
_TRANSACT_ACTIONS = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
    "Get": "dynamodb:GetItem",
}
_EC2_KINDS = {
    "vpce": "vpc-endpoint",
    "vpc": "vpc",
    "rtb": "route-table",
    "subnet": "subnet",
    "sg": "security-group",
    "i": "instance",
}
# Parameters of EC2 calls that name resources which must be allowed one by one.
_EC2_RESOURCES = {
    "CreateVpcEndpoint": ("VpcId", "RouteTableIds", "SubnetIds", "SecurityGroupIds"),
    "ModifyVpcEndpoint": (
        "VpcEndpointId",
        "AddRouteTableIds",
        "RemoveRouteTableIds",
        "AddSubnetIds",
        "RemoveSubnetIds",
        "AddSecurityGroupIds",
        "RemoveSecurityGroupIds",
    ),
    "DeleteVpcEndpoints": ("VpcEndpointIds",),
    "CreateTags": ("Resources",),
    "DeleteTags": ("Resources",),
    "AssociateIamInstanceProfile": ("InstanceId",),
    "ReplaceIamInstanceProfileAssociation": ("AssociationId",),
    "DisassociateIamInstanceProfile": ("AssociationId",),
}
_PASSES_A_PROFILE = {"AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation", "RunInstances"}


def action_of(call: Call) -> str:
    """Return the IAM action of a call; it differs from the API's name here and there."""
    action = f"{_PREFIXES.get(call.service, call.service)}:{call.action}"
    return _RENAMED.get(action, action)


def caller_context(call: Call) -> Context:
    """Return the condition keys about the caller, whatever the call."""
    principal = call.principal
    organisation_id = hooks.current().organisation_of(principal.account_id)
    return {
        "aws:principalarn": [principal.role_arn or principal.arn],
        "aws:principalaccount": [principal.account_id],
        "aws:principalorgid": [organisation_id] if organisation_id else [],
        "aws:requestedregion": [call.region],
    }


def permissions(call: Call) -> list[Request]:
    """Return everything that must be allowed for a call to pass; dependent permissions come last."""
    action = action_of(call)
    if action in _FREE:
        return []
    return [
        Request(request.action, request.resource, {**caller_context(call), **request.context})
        for request in _BY_SERVICE.get(call.service, _without_resource)(call, action)
    ]


def _without_resource(_: Call, action: str) -> list[Request]:
    return [Request(action)]


def _arn(call: Call, service: str, resource: str, *, account_id: str | None = None, region: str | None = None) -> str:
    place = f"{call.region if region is None else region}:{account_id or call.account_id}"
    return f"arn:{call.http.partition}:{service}:{place}:{resource}"


def _request_tags(tags: list[Mapping[str, str]]) -> Context:
    context = {f"aws:requesttag/{tag['Key']}": [tag.get("Value", "")] for tag in tags}
    return {**context, "aws:tagkeys": [tag["Key"] for tag in tags]} if tags else {}


def _ec2_ids(call: Call, backend: Any) -> list[str]:
    """Return the ids of the resources that a call names."""
    ids = []
    for name in _EC2_RESOURCES[call.action]:
        value = call.request.get(name) or []
        ids += [value] if isinstance(value, str) else list(value)
    instances = {a.association_id: a.instance_id for a in backend.iam_instance_profile_associations.values()}
    return [instances.get(resource_id, resource_id) for resource_id in ids]


def _ec2_resource(call: Call, backend: Any, resource_id: str, context: Context) -> Request:
    """Return the request about one existing resource, with its tags."""
    kind = _EC2_KINDS.get(resource_id.split("-", 1)[0], "*")
    tags = dict(backend.tags.get(resource_id, {}))
    own: Context = {}
    for key, value in tags.items():
        own |= {f"aws:resourcetag/{key}": [value], f"ec2:resourcetag/{key}": [value]}
    endpoint = backend.vpc_end_points.get(resource_id)
    if endpoint is not None:
        own["ec2:vpceservicename"] = [endpoint.service_name]
    return Request(action_of(call), _arn(call, "ec2", f"{kind}/{resource_id}"), {**own, **context})


def _ec2(call: Call, action: str) -> list[Request]:
    needed: list[Request] = []
    backend = ec2_backends[call.account_id][call.region]
    tags = call.request.get("Tags") or []
    if call.action == "CreateVpcEndpoint":
        specifications = call.request.get("TagSpecifications") or []
        tags = [tag for specification in specifications for tag in specification.get("Tags") or []]
        new_endpoint = _arn(call, "ec2", "vpc-endpoint/*")
        service_name = {"ec2:vpceservicename": [str(call.request.get("ServiceName", ""))]}
        needed.append(Request(action, new_endpoint, {**_request_tags(tags), **service_name}))
        needed += [_ec2_resource(call, backend, resource_id, {}) for resource_id in _ec2_ids(call, backend)]
        if tags:
            tagging = {**_request_tags(tags), "ec2:createaction": [call.action]}
            needed.append(Request("ec2:CreateTags", new_endpoint, tagging))
    elif call.action in _EC2_RESOURCES:
        context = _request_tags(tags)
        needed += [_ec2_resource(call, backend, resource_id, context) for resource_id in _ec2_ids(call, backend)]
    if call.action in _PASSES_A_PROFILE:
        needed += _passed_roles(call)
    return needed or [Request(action)]


def _passed_roles(call: Call) -> list[Request]:
    """Return iam:PassRole for the role in the instance profile that a call hands to EC2."""
    wanted = call.request.get("IamInstanceProfile") or {}
    own_request = [] if call.action != "RunInstances" else [Request(action_of(call))]
    profiles = list(iam_backends[call.account_id][call.http.partition].instance_profiles.values())
    context = {"iam:passedtoservice": ["ec2.amazonaws.com"]}
    return own_request + [
        Request("iam:PassRole", role.arn, context)
        for profile in profiles
        if profile.name == wanted.get("Name") or profile.arn == wanted.get("Arn")
        for role in profile.roles
    ]


def _iam(call: Call, action: str) -> list[Request]:
    backend = iam_backends[call.account_id][call.http.partition]
    arn = call.request.get("PolicyArn") or call.request.get("PolicySourceArn")
    # Attaching is a permission on the role; there the policy's ARN is only a condition key.
    if arn and "RoleName" not in call.request:
        return [Request(action, str(arn))]
    named = (
        ("RoleName", "role", backend.roles),
        ("InstanceProfileName", "instance-profile", backend.instance_profiles),
    )
    for parameter, kind, known in named:
        if parameter in call.request and not (kind == "role" and "InstanceProfileName" in call.request):
            name = str(call.request[parameter])
            # A path is part of the ARN, so an existing resource is asked for its own.
            arns = [one.arn for one in known.values() if one.name == name]
            return [Request(action, arns[0] if arns else _arn(call, "iam", f"{kind}/{name}", region=""))]
    return [Request(action)]


def _sts(call: Call, action: str) -> list[Request]:
    external_id = call.request.get("ExternalId")
    context = {"sts:externalid": [external_id]} if external_id else {}
    return [Request(action, call.request.get("RoleArn"), context)]


def _sqs(call: Call, action: str) -> list[Request]:
    url = call.request.get("QueueUrl")
    if url:
        account_id, name = str(url).rstrip("/").split("/")[-2:]
        return [Request(action, _arn(call, "sqs", name, account_id=account_id))]
    named = call.request.get("QueueName")
    owner = call.request.get("QueueOwnerAWSAccountId")
    return [Request(action, _arn(call, "sqs", named, account_id=owner) if named else None)]


def _table_arn(call: Call, table: str, index: str | None = None) -> str:
    arn = table if table.startswith("arn:") else _arn(call, "dynamodb", f"table/{table}")
    return f"{arn}/index/{index}" if index else arn


def _dynamodb(call: Call, action: str) -> list[Request]:
    request = call.request
    if "TransactItems" in request:
        operations = [pair for item in request["TransactItems"] for pair in item.items()]
        return [Request(_TRANSACT_ACTIONS[kind], _table_arn(call, body["TableName"])) for kind, body in operations]
    if "RequestItems" in request:
        return [Request(action, _table_arn(call, table)) for table in request["RequestItems"]]
    table = request.get("TableName")
    return [Request(action, _table_arn(call, table, request.get("IndexName")) if table else None)]


def _lambda(call: Call, action: str) -> list[Request]:
    name = call.request.get("FunctionName")
    if not name:
        return [Request(action)]
    return [Request(action, name if name.startswith("arn:") else _arn(call, "lambda", f"function:{name}"))]


def _events(call: Call, action: str) -> list[Request]:
    if call.action != "PutEvents":
        return [Request(action)]
    buses = {entry.get("EventBusName") or "default" for entry in call.request.get("Entries", [])}
    return [
        Request(action, bus if bus.startswith("arn:") else _arn(call, "events", f"event-bus/{bus}"))
        for bus in sorted(buses)
    ]


_BY_SERVICE: dict[str, Callable[[Call, str], list[Request]]] = {
    "dynamodb": _dynamodb,
    "ec2": _ec2,
    "events": _events,
    "iam": _iam,
    "lambda": _lambda,
    "sqs": _sqs,
    "sts": _sts,
}
