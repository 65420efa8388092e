"""Who may do what: IAM's policy language, trust for everybody, permissions for the project's own roles.

Source: IAM User Guide, "Policy evaluation logic"; the Service Authorization Reference; EC2 User Guide, "Grant
permission to tag resources during creation". moto lets anybody assume roles that do not exist, and knows no
conditions. Sessions of roles called `portcullis*` are held to their policies; all others may do everything.
What is not understood here is an error: an unknown part of a policy must never read as permission.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from . import calls, ec2_instance_connect, hooks, regions

Statement = Mapping[str, Any]
Decision = Literal["allowed", "denied", "not allowed"]

ENFORCED_PREFIX = "portcullis"
SESSION_SECONDS = 3600
"""How long a session that a service starts lives."""

_AWS_KEYS = r"aws:(PrincipalOrgID|PrincipalArn|ResourceOrgID|SourceArn|SourceAccount|TagKeys|(Request|Resource)Tag/.+)"
_EC2_KEYS = r"ec2:(CreateAction|InstanceProfile|NewInstanceProfile|VpceServiceName|VpceServiceOwner)"
_IAM_KEYS = r"iam:(AWSServiceName|PassedToService)|sts:RoleSessionName"
_OTHER_KEYS = r"dynamodb:LeadingKeys|securityhub:ASFFSyntaxPath/.+"
_KEYS = re.compile(rf"{_AWS_KEYS}|{_EC2_KEYS}|{_IAM_KEYS}|{_OTHER_KEYS}", re.IGNORECASE)
# Keys with several values, the one set operator that is known for each, and the keys of a context that end in the
# values; and the operators for the others.
_SETS = {
    "aws:tagkeys": ("ForAllValues:StringEquals", "aws:requesttag/"),
    "dynamodb:leadingkeys": ("ForAllValues:StringLike", "dynamodb:leadingkeys/"),
}
_OPERATORS = {"StringEquals", "StringLike", "ArnEquals", "ArnLike", "Null"}
_SAY_ACCESS_DENIED = ("cloudformation", "cloudwatch", "iam", "route53", "s3", "sns", "sqs", "sts")
# Where an action is not called as the operation is, or its prefix as boto3 calls the service.
_ACTIONS = {("lambda", "Invoke"): "InvokeFunction"}
_PREFIXES = {"stepfunctions": "states"}
_TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
_TRANSACTED |= {"ConditionCheck": "ConditionCheckItem", "Get": "GetItem"}
# The parameter that names a resource, and the resource's ARN.
_NAMING = {
    "iam": ("InstanceProfileName", "arn:aws:iam::{account}:instance-profile/{name}"),
    "lambda": ("FunctionName", "arn:aws:lambda:{place}:function:{name}"),
    "s3": ("Bucket", "arn:aws:s3:::{name}"),
    "scheduler": ("Name", "arn:aws:scheduler:{place}:schedule/{group}/{name}"),
    "sqs": ("QueueUrl", "arn:aws:sqs:{region}:{name}"),
    "ssm": ("Name", "arn:aws:ssm:{place}:parameter/{name}"),
    "sts": ("RoleArn", "{name}"),
}
_EC2_KINDS = {"vpce": "vpc-endpoint", "vpc": "vpc", "rtb": "route-table", "subnet": "subnet", "i": "instance"}
_EC2_KINDS |= {"sg": "security-group", "eice": "instance-connect-endpoint"}
# What a call creates, which is a resource of its own to be allowed, always or if it gets tags.
_EC2_CREATED = {
    "CreateVpcEndpoint": "vpc-endpoint",
    "CreateSecurityGroup": "security-group",
    "CreateInstanceConnectEndpoint": "instance-connect-endpoint",
}
_EC2_TAGGED = {f"AuthorizeSecurityGroup{one}": "security-group-rule" for one in ("Ingress", "Egress")}


class UnsupportedPolicyError(Exception):
    """A policy says something that this evaluation does not know; nothing may be concluded from it."""


class AssumeRoleDeniedError(Exception):
    """A service may not assume a role."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: an action on a resource (None: not evident, so not compared), and the known condition keys.

    Keys are lower case: IAM's are case-insensitive, except for the tag after the slash. A simulation has a set for the
    keys that are `missing` in it; otherwise there must be none.
    """

    action: str
    resource: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    missing: set[str] | None = None


def context_of(key: str, value: str) -> dict[str, str]:
    """Return a value of a condition key as the context of a request has it."""
    head, slash, tag = key.partition("/")
    set_prefix = _SETS.get(key.lower(), ("", ""))[1]
    return {f"{set_prefix}{value}": ""} if set_prefix else {head.lower() + slash + tag: value}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@functools.lru_cache(maxsize=1024)
def statements(document: str) -> tuple[Statement, ...]:
    """Return the statements of a policy."""
    return tuple(_as_list(json.loads(document)["Statement"]))


def decide(all_statements: Iterable[Statement], request: Request, callers: Collection[str] | None = None) -> Decision:
    """Return IAM's verdict; for a resource policy, `callers` are the names of the caller (see `names_of`)."""
    effects = {one["Effect"] for one in all_statements if applies(one, request, callers)}
    return "denied" if "Deny" in effects else "allowed" if effects else "not allowed"


def allows(policy: str | None, request: Request, callers: Collection[str]) -> bool:
    """Return whether a resource policy, or a role's trust policy, lets a caller do something."""
    return decide(statements(policy) if policy else (), request, callers) == "allowed"


def names_of(account_id: str, *arns: str | None) -> set[str]:
    """Return the names for a caller of an account: the account, its root, and the ARNs of session, role or user."""
    return {account_id, f"arn:aws:iam::{account_id}:root", *filter(None, arns)}


def applies(statement: Statement, request: Request, callers: Collection[str] | None = None) -> bool:
    """Return whether a statement is about a request, so that its effect counts."""
    if "NotPrincipal" in statement or ("NotResource" in statement and request.resource is None):
        raise UnsupportedPolicyError("NotPrincipal, and NotResource without a resource, are not evaluated here")
    if callers is not None and not _names(statement.get("Principal", {}), callers):
        return False
    actions = _as_list(statement.get("Action") or statement["NotAction"])
    named = any(_like(pattern.lower(), request.action.lower()) for pattern in actions)
    # A trust policy has no Resource: it is about the role that carries it.
    resources = _as_list(statement.get("Resource") or statement.get("NotResource", "*"))
    on_it = request.resource is None or any(_like(pattern, request.resource) for pattern in resources)
    if named == ("NotAction" in statement) or on_it == ("NotResource" in statement):
        return False
    # All of them, so that an unknown one is found even if another decides.
    conditions = [(op, *item) for op, block in statement.get("Condition", {}).items() for item in block.items()]
    verdicts = [_holds(operator, key, _as_list(expected), request) for operator, key, expected in conditions]
    return all(verdicts)


def _names(principal: Any, callers: Collection[str]) -> bool:
    """Return whether a Principal names a caller; as in AWS, wildcards inside an ARN do not count."""
    if principal == "*":
        return True
    if unknown := set(principal) - {"AWS", "Service"}:
        raise UnsupportedPolicyError(f"principals of kind {sorted(unknown)} are not evaluated here")
    return any(name == "*" or name in callers for names in principal.values() for name in _as_list(names))


def _holds(operator: str, key: str, expected: list[str], request: Request) -> bool:
    """Evaluate one line of a Condition block; unless it is negated, it fails when the request does not have the key."""
    of_all, values_after = _SETS.get(key.lower(), (None, ""))
    values = [name.removeprefix(values_after) for name in request.context if of_all and name.startswith(values_after)]
    head, slash, tag = key.partition("/")
    actual = request.context.get(head.lower() + slash + tag)
    plain = operator.removesuffix("IfExists").replace("Not", "", 1)
    if request.missing is not None and actual is None and not values:
        request.missing.add(key)
        if plain == "Null":
            return "true" in expected
        return operator.startswith("ForAllValues:") or (plain != operator and not operator.startswith("ForAnyValue:"))
    known = request.missing is not None or _KEYS.fullmatch(key)
    if not known or (operator != of_all if of_all else plain not in _OPERATORS):
        raise UnsupportedPolicyError(f"the condition {operator} on {key} is not evaluated here")
    if of_all:  # as in AWS, it holds where there are no values
        compare = _like if of_all.endswith("Like") else str.__eq__
        return all(any(compare(one, value) for one in expected) for value in values)
    if plain == "Null":
        return [str(actual is None).lower()] == expected
    if actual is None:
        return plain != operator
    equal = actual in expected if plain == "StringEquals" else any(_like(value, actual) for value in expected)
    return equal != ("Not" in operator)


def _like(pattern: str, value: str) -> bool:
    """Compare as IAM does: `*` is any run of characters, `?` one; there are no character classes."""
    return fnmatchcase(value, pattern.replace("[", "[[]"))


def role_by_arn(role_arn: str) -> Any:
    """Return moto's role with an ARN, or None."""
    account_id = role_arn.split(":")[4] if role_arn.startswith("arn:aws:iam::") else "000000000000"
    return next((role for role in list(iam_backends[account_id]["aws"].roles.values()) if role.arn == role_arn), None)


def policies_of(role: Any) -> dict[str, str]:
    """Return a role's inline and attached policies, by the id that the policy simulator gives them."""
    inline = {f"role_{role.name}_{name}": str(document) for name, document in role.policies.items()}
    attached = [(policy.name, one) for policy in role.managed_policies.values() for one in policy.versions]
    return inline | {name: str(version.document) for name, version in attached if version.is_default}


def decide_for_role(role: Any, request: Request) -> Decision:
    """Return what a role's inline and attached policies say about a request."""
    return decide([one for document in policies_of(role).values() for one in statements(document)], request)


def role_trusting(role_arn: str, service: str, account_id: str | None = None, source_arn: str | None = None) -> Any:
    """Return moto's role with an ARN, for an AWS service such as `lambda.amazonaws.com` that assumes it.

    `account_id` and `source_arn` are for services that say on whose behalf they come, as aws:SourceAccount and
    aws:SourceArn.

    Raises:
        AssumeRoleDeniedError: there is none, or its trust policy does not let the service assume it.
    """
    role = role_by_arn(role_arn)
    if role is None:
        raise AssumeRoleDeniedError(f"there is no role {role_arn}")
    sources = {"aws:sourceaccount": account_id, "aws:sourcearn": source_arn}
    context = {key: value for key, value in sources.items() if value}
    if not allows(role.assume_role_policy_document, Request("sts:AssumeRole", None, context), [service]):
        raise AssumeRoleDeniedError(f"{role_arn} does not trust {service}")
    return role


def assume_role_as_service(role_arn: str, session_name: str, *, service: str, region: str) -> dict[str, str]:
    """Return the access key, secret and token of a session that a service starts (see `role_trusting`)."""
    role = role_trusting(role_arn, service)
    session = sts_backends[role.account_id]["aws"].assume_role(
        region, session_name, role_arn, None, SESSION_SECONDS, None
    )
    keys = {"AccessKeyId": session.access_key_id, "SecretAccessKey": session.secret_access_key}
    return {**keys, "SessionToken": session.session_token}


def _permissions(call: calls.Call) -> list[Request]:
    """Return everything that must be allowed for a call to pass; dependent permissions come last."""
    if call.service == "ec2" and call.mutating:
        needed = _ec2(call)
    elif call.service == "dynamodb" and call.action.startswith("Transact"):
        # A transaction needs what its parts need.
        parts = [part for item in call.request["TransactItems"] for part in item.items()]
        place = f"arn:aws:dynamodb:{call.region}:{call.account_id}:table"
        needed = [
            Request(f"dynamodb:{_TRANSACTED[kind]}", f"{place}/{part['TableName']}", _leading(part))
            for kind, part in parts
        ]
    else:
        action = call.action.removesuffix("Batch") if call.service == "sqs" else call.action
        action = _ACTIONS.get((call.service, action), action)
        prefix = _PREFIXES.get(call.service, call.service)
        about = {**_updated(call), **(_leading(call.request) if call.service == "dynamodb" else {})}
        needed = [Request(f"{prefix}:{action}", resource, about) for resource in _resources(call)]
        needed += _session_tags(call)
        if call.service == "scheduler" and "Target" in call.request:
            passed = {"iam:passedtoservice": "scheduler.amazonaws.com"}
            needed.append(Request("iam:PassRole", call.request["Target"]["RoleArn"], passed))
        if call.action == "ListHostedZonesByVPC":
            needed.append(Request("ec2:DescribeVpcs"))
    about_caller = _about_caller(call)
    return [
        Request(one.action, one.resource, {**about_caller, **_about_resource(one.resource), **one.context})
        for one in needed
    ]


def _about_caller(call: calls.Call) -> dict[str, str]:
    """Return the condition keys about the caller, whatever the call."""
    arn = call.principal.role_arn or call.principal.arn
    return {"aws:principalarn": arn, **hooks.installed.context_of(call.account_id)}


def _about_resource(arn: str | None) -> dict[str, str]:
    """Return the condition key about the organisation of a resource's account; nothing where the ARN names none."""
    account_id = arn.split(":")[4] if arn else ""
    organisation_id = hooks.installed.context_of(account_id).get("aws:principalorgid") if account_id else None
    return {"aws:resourceorgid": organisation_id} if organisation_id else {}


def _updated(call: calls.Call) -> dict[str, str]:
    """Return the condition keys about the fields of findings that BatchUpdateFindings sets."""
    fields = {key: value for key, value in call.request.items() if call.action == "BatchUpdateFindings"}
    fields.pop("FindingIdentifiers", None)
    if "UserDefinedFields" in fields:
        fields["UserDefinedFields"] = {"key": "", "value": ""}
    paths = [f"{key}.{part}" if part else key for key, one in fields.items() for part in _parts(one)]
    return {f"securityhub:asffsyntaxpath/{path}": "set" for path in paths}


def _leading(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the condition key about the partitions that a request to DynamoDB names, or a part of a transaction.

    The partition key here is always `pk`.
    """
    items = [request[name] for name in ("Key", "Item") if name in request]
    for asked in request.get("RequestItems", {}).values():
        # A table's keys to read; or its writes, each a request with an item or a key.
        writes = [] if "Keys" in asked else [part for write in asked for part in write.values()]
        items += asked["Keys"] if "Keys" in asked else [item for part in writes for item in part.values()]
    values = [item["pk"] for item in items if "pk" in item]
    if found := re.search(r"\bpk = (:\w+)", request.get("KeyConditionExpression", "")):
        values.append(request["ExpressionAttributeValues"][found[1]])
    return {f"dynamodb:leadingkeys/{value['S']}": "" for value in values}


def _parts(value: Any) -> list[str]:
    return list(value) if isinstance(value, Mapping) else [""]


def _session_tags(call: calls.Call) -> list[Request]:
    """Return sts:TagSession for a call that passes session tags."""
    tags = call.request.get("Tags") if call.service == "sts" else None
    return [Request("sts:TagSession", call.request["RoleArn"], _requested(tags))] if tags else []


def _resources(call: calls.Call) -> Sequence[str | None]:
    """Return the ARNs of the resources that a call names, but for EC2's; None for one that is not evident."""
    request, place, named = call.request, f"{call.region}:{call.account_id}", list[str]()
    match call.service:
        case "dynamodb":
            tables = request.get("RequestItems") or [request[key] for key in ("TableName",) if key in request]
            named = [f"arn:aws:dynamodb:{place}:table/{table}" for table in tables]
        case "securityhub" if call.action == "BatchImportFindings":
            named = sorted({finding["ProductArn"] for finding in request["Findings"]})
        case "securityhub":
            named = [f"arn:aws:securityhub:{place}:hub/default"]
        case "events" if call.action == "PutEvents":
            buses = {entry.get("EventBusName", "default").rsplit("/", 1)[-1] for entry in request["Entries"]}
            named = [f"arn:aws:events:{place}:event-bus/{bus}" for bus in sorted(buses)]
        case "organizations" if "ChildId" in request:
            kind = "ou" if request["ChildId"].startswith("ou-") else "account"
            organisation = hooks.installed.context_of(call.account_id).get("aws:principalorgid", "*")
            named = [f"arn:aws:organizations::{call.account_id}:{kind}/{organisation}/{request['ChildId']}"]
        case "stepfunctions":
            named = [request[key] for key in ("stateMachineArn", "executionArn", "mapRunArn") if key in request]
        case "iam" if _NAMING["iam"][0] not in request:
            named = _roles_named(call)
        case "ssm" if "SettingId" in request:
            named = [f"arn:aws:ssm:{place}:servicesetting{request['SettingId']}"]
        case service if service in _NAMING and _NAMING[service][0] in request:
            parameter, arn = _NAMING[service]
            name = re.sub(r"^(/|https?://[^/]+/|arn:aws:lambda:.*:)", "", request[parameter])
            about = {"group": request.get("GroupName", "default"), "account": call.account_id, "region": call.region}
            named = [arn.format(name=name.replace("/", ":") if service == "sqs" else name, place=place, **about)]
    return named or [None]


def _roles_named(call: calls.Call) -> list[str]:
    """Return the ARN of the role that a call to IAM names, by name or ARN; nothing where it names none."""
    if "RoleName" not in call.request:
        return [call.request[name] for name in ("PolicySourceArn",) if name in call.request]
    name, roles = call.request["RoleName"], list(iam_backends[call.account_id]["aws"].roles.values())
    return [one.arn for one in roles if one.name == name] or [f"arn:aws:iam::{call.account_id}:role/{name}"]


def _ec2(call: calls.Call) -> list[Request]:
    """Return what a changing EC2 call needs: the action on each resource, CreateTags and PassRole."""
    tags_of = ec2_backends[call.account_id][call.region].tags
    action, place = f"ec2:{call.action}", f"arn:aws:ec2:{call.region}:{call.account_id}"
    requested = _requested(call.request.get("Tags", ()))
    needed = []
    associations = list(ec2_backends[call.account_id][call.region].iam_instance_profile_associations.values())
    instances = {one.association_id: one.instance.id for one in associations}
    profiles = {one.instance.id: {"ec2:instanceprofile": one.iam_instance_profile.arn} for one in associations}
    given = [one for value in call.request.values() for one in _as_list(value) if isinstance(one, str)]
    for value in (instances.get(one, one) for one in given):
        if kind := _EC2_KINDS.get(value.partition("-")[0]):
            own = {f"aws:resourcetag/{key}": tag for key, tag in tags_of.get(value, {}).items()}
            about = {**own, **requested, **profiles.get(value, {}), **_new_profile(call)}
            needed.append(Request(action, f"{place}:{kind}/{value}", about))
    tags = _requested(tag for one in call.request.get("TagSpecifications", ()) for tag in one["Tags"])
    created = _EC2_CREATED.get(call.action) or (_EC2_TAGGED.get(call.action) if tags else None)
    if created:
        # Every service that there is here is one of AWS.
        named = {"ec2:vpceservicename": call.request.get("ServiceName", ""), "ec2:vpceserviceowner": "amazon"}
        service = named if created == "vpc-endpoint" else {}
        needed.append(Request(action, f"{place}:{created}/*", {**tags, **service}))
        if tags:
            needed.append(Request("ec2:CreateTags", f"{place}:{created}/*", {**tags, "ec2:createaction": call.action}))
    return (needed or [Request(action)]) + _passed_roles(call) + _dependent(call, needed)


def _dependent(call: calls.Call, needed: list[Request]) -> list[Request]:
    """Return what else the caller of EC2 must be allowed, for what EC2 does on the caller's behalf."""
    request = call.request
    if call.action == "CreateVpcEndpoint" and request.get("VpcEndpointType") == "Interface":
        private_dns = request.get("PrivateDnsEnabled", True)
        return [Request("route53:AssociateVPCWithHostedZone")] if private_dns else []
    if call.action != "CreateInstanceConnectEndpoint":
        return []
    also = [
        replace(one, action="ec2:CreateNetworkInterface")
        for one in needed
        if one.resource and re.search(":(subnet|security-group)/", one.resource)
    ]
    created = f"arn:aws:ec2:{call.region}:{call.account_id}:network-interface/*"
    also.append(Request("ec2:CreateNetworkInterface", created))
    if ec2_instance_connect.needs_role(call.account_id):
        service, name = ec2_instance_connect.SERVICE, ec2_instance_connect.ROLE_NAME
        role = f"arn:aws:iam::{call.account_id}:role/aws-service-role/{service}/{name}"
        also.append(Request("iam:CreateServiceLinkedRole", role, {"iam:awsservicename": service}))
    return also


def _requested(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {f"aws:requesttag/{tag['Key']}": tag["Value"] for tag in tags}


def _passed_roles(call: calls.Call) -> list[Request]:
    """Return iam:PassRole for the role in the instance profile that a call hands to EC2."""
    passed = {"iam:passedtoservice": "ec2.amazonaws.com"}
    return [Request("iam:PassRole", role.arn, passed) for one in _passed_profiles(call) for role in one.roles]


def _new_profile(call: calls.Call) -> dict[str, str]:
    """Return the condition key about the instance profile that a call hands to EC2."""
    profile = next(iter(_passed_profiles(call)), None)
    return {"ec2:newinstanceprofile": profile.arn} if profile else {}


def _passed_profiles(call: calls.Call) -> list[Any]:
    """Return the instance profile that a call hands to EC2, by name or ARN; nothing where there is none."""
    wanted = call.request.get("IamInstanceProfile", {})
    profiles = list(iam_backends[call.account_id]["aws"].instance_profiles.values())
    return [one for one in profiles if one.name == wanted.get("Name") or one.arn == wanted.get("Arn")]


def _refusal(call: calls.Call, request: Request, reason: str) -> calls.Refusal:
    """Word a refusal as the service does; every text names the principal, the action and the resource."""
    on_resource = f" on resource: {request.resource}" if request.resource else ""
    message = f"User: {call.principal.arn} is not authorized to perform: {request.action}{on_resource} {reason}"
    if call.service == "ec2":
        return calls.Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {message}")
    return calls.Refusal("AccessDenied" if call.service in _SAY_ACCESS_DENIED else "AccessDeniedException", message)


def _check_identity(call: calls.Call) -> None:
    """Refuse a call of an enforced session that the role's own policies do not allow."""
    role = role_by_arn(str(call.principal.role_arn))
    if role is None:
        raise calls.Refusal("AccessDenied", f"there is no role {call.principal.role_arn}")
    if call.principal.expires_at <= hooks.installed.clock():
        code = "ExpiredToken" if call.service in _SAY_ACCESS_DENIED else "ExpiredTokenException"
        message = "The security token included in the request is expired"
        raise calls.Refusal("RequestExpired" if call.service == "ec2" else code, message)
    for request in _permissions(call) if call.action != "GetCallerIdentity" else ():
        decision = decide_for_role(role, request)
        if decision != "allowed":
            why = "with an explicit deny in an" if decision == "denied" else "because it is not allowed by any"
            raise _refusal(call, request, f"{why} identity-based policy")


def _check_trust(call: calls.Call) -> None:
    """Refuse AssumeRole when the role is missing, or its trust policy does not let the caller do all that it asks."""
    role = role_by_arn(str(call.request.get("RoleArn")))
    callers = names_of(call.account_id, call.principal.arn, call.principal.role_arn)
    about = {**_about_caller(call), **_about_resource(call.request.get("RoleArn"))}
    about["sts:rolesessionname"] = call.request["RoleSessionName"]
    for one in [Request("sts:AssumeRole", str(call.request.get("RoleArn"))), *_session_tags(call)]:
        request = Request(one.action, one.resource, {**about, **_requested(call.request.get("Tags", ()))})
        if role is None or not allows(role.assume_role_policy_document, request, callers):
            raise _refusal(call, request, "")


def check(call: calls.Call) -> None:
    """Refuse a call that AWS would not authorise."""
    regions.check(call)
    try:
        if call.principal.role_name.startswith(ENFORCED_PREFIX):
            _check_identity(call)
        if (call.service, call.action) == ("sts", "AssumeRole"):
            _check_trust(call)
    except UnsupportedPolicyError as error:
        raise calls.Refusal("UnsupportedPolicy", f"{call.action} cannot be authorised here: {error}") from error
