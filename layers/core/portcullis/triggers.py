"""Which events concern Portcullis, what to look at when one arrives, and why. Pure.

An EventBridge event becomes Targets, identities only, and a Cause: what kind of client made the call, and what it
failed over. The event itself is discarded. EC2 writes its CloudTrail records in two JSON dialects (flat camelCase with
``items`` lists; ``<Action>Request`` and ``<Action>Response`` wrappers with PascalCase requests and ``item`` or
``tag``/``content`` lists). The readers below accept either for every call, so a call that changes dialect changes
nothing here.

Account and Region come from the envelope only: ``detail`` is data that a caller can influence. What it says of the
caller decides only how long Portcullis waits, and is quoted to people.
Sources: "CloudTrail record contents" (CloudTrail user guide), "AWS service events delivered via CloudTrail"
(EventBridge user guide) and published captures of each call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from portcullis.errors import UnreadableEventError, is_dns_conflict, is_in_use, is_quota, is_route_conflict
from portcullis.model import Ask, Caller, Cause, Conflict, Kind, Target, trigger

API_CALL = "AWS API Call via CloudTrail"
STATE_CHANGE = "EC2 Instance State-change Notification"
HEARTBEAT = "Portcullis Heartbeat"
EC2_SOURCE = "aws.ec2"
OWN_SOURCE = "portcullis"
EC2_EVENT_SOURCE = "ec2.amazonaws.com"
CUSTOM_ACTION = "Security Hub Findings - Custom Action"
SECURITY_HUB_SOURCE = "aws.securityhub"
ACTION_IDS = {Ask.REMEDIATE: "PortcullisRemediate", Ask.UNDO: "PortcullisUndo"}
"""The ids of the custom actions with which people ask for something in Security Hub."""

_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z0-9-]+")
_SHOWN = 60  # characters of a wrong value, in an error
# No wildcard may pass: these ids end in the filters of Describe calls, where `*` matches everything.
_RESOURCE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_SERVICE_NAME = re.compile(r"[A-Za-z0-9.-]{1,128}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.:/=+@,-]")  # what neither ARNs nor names of IAM's hold
_LONGEST_NAME = 128
_MOST_TABLES = 300  # far more than one call names, and few enough for ten of them to fit into one request to SQS


class _Call:
    """One EC2 API call out of a CloudTrail record, in either dialect."""

    def __init__(self, name: str, detail: Mapping[str, Any]) -> None:
        self.name = name
        self.request = _unwrap(detail.get("requestParameters"), f"{name}Request")
        self.response = _unwrap(detail.get("responseElements"), f"{name}Response")


_Finder = Callable[[_Call], list[Any]]


def _unwrap(node: Any, wrapper: str) -> Any:
    return node[wrapper] if isinstance(node, Mapping) and wrapper in node else node


def _get(node: Any, *path: str) -> Any:
    """Follow a path of camelCase names; PascalCase keys match too. None where the path ends early."""
    for name in path:
        if not isinstance(node, Mapping):
            return None
        node = _content(node.get(name, node.get(name[0].upper() + name[1:])))
    return node


def _content(node: Any) -> Any:
    return node["content"] if isinstance(node, Mapping) and node.keys() == {"tag", "content"} else node


def _list(node: Any) -> list[Any]:
    """Read a list in any of its spellings: ``items``, ``item`` (one or many), ``tag``/``content``, plain."""
    while isinstance(node, Mapping) and ("items" in node or "item" in node):
        node = node.get("items", node.get("item"))
    if node is None or node == "":
        return []
    if isinstance(node, Mapping):
        return [_content(node)] if node else []
    return [_content(element) for element in node] if isinstance(node, list) else [node]


def _nothing(_: _Call) -> list[Any]:
    return []


def _vpc_of(*path: str) -> _Finder:
    """Find the VPC in the response under ``path``, else in the request."""

    def find(call: _Call) -> list[Any]:
        return [_get(call.response, *path, "vpcId") or _get(call.request, "vpcId")]

    return find


def _instances(call: _Call) -> list[Any]:
    listed = _list(_get(call.response, "instancesSet")) or _list(_get(call.request, "instancesSet"))
    return [_get(item, "instanceId") for item in listed]


def _fleet_instances(call: _Call) -> list[Any]:
    # Only a fleet of type `instant` answers with its instances; the others launch them by RunInstances.
    sets = _list(_get(call.response, "fleetInstanceSet"))
    return [instance_id for item in sets for instance_id in _list(_get(item, "instanceIds"))]


def _profile_instance(call: _Call) -> list[Any]:
    # Some captures of Replace show the instance id without the association around it.
    return [
        _get(call.response, "iamInstanceProfileAssociation", "instanceId")
        or _get(call.response, "instanceId")
        or _get(call.request, "instanceId")
    ]


_CALLS: dict[str, tuple[Kind, _Finder]] = {
    "AssociateIamInstanceProfile": (Kind.INSTANCE, _profile_instance),
    "AssociateRouteTable": (Kind.VPC, _nothing),
    "AssociateVpcCidrBlock": (Kind.VPC, _vpc_of()),
    "CreateDefaultVpc": (Kind.VPC, _vpc_of("vpc")),
    "CreateFleet": (Kind.INSTANCE, _fleet_instances),
    "CreateInstanceConnectEndpoint": (Kind.VPC, _vpc_of("instanceConnectEndpoint")),
    "CreateRouteTable": (Kind.VPC, _vpc_of("routeTable")),
    "CreateSubnet": (Kind.VPC, _vpc_of("subnet")),
    "CreateVpc": (Kind.VPC, _vpc_of("vpc")),
    "CreateVpcEndpoint": (Kind.VPC, _vpc_of("vpcEndpoint")),
    "DeleteInstanceConnectEndpoint": (Kind.VPC, _vpc_of("instanceConnectEndpoint")),
    "DeleteRouteTable": (Kind.VPC, _nothing),
    "DeleteSubnet": (Kind.VPC, _nothing),
    "DeleteVpc": (Kind.VPC, _vpc_of()),
    "DeleteVpcEndpoints": (Kind.VPC, _nothing),
    "DisassociateIamInstanceProfile": (Kind.INSTANCE, _profile_instance),
    "DisassociateRouteTable": (Kind.VPC, _nothing),
    "DisassociateVpcCidrBlock": (Kind.VPC, _vpc_of()),
    "ModifyInstanceConnectEndpoint": (Kind.VPC, _nothing),
    "ModifyVpcAttribute": (Kind.VPC, _vpc_of()),
    "ModifyVpcEndpoint": (Kind.VPC, _nothing),
    "ReplaceIamInstanceProfileAssociation": (Kind.INSTANCE, _profile_instance),
    "ReplaceRouteTableAssociation": (Kind.VPC, _nothing),
    "RunInstances": (Kind.INSTANCE, _instances),
    "StartInstances": (Kind.INSTANCE, _instances),
    "TerminateInstances": (Kind.INSTANCE, _instances),
}

# Failed calls that concern us all the same: something that exists, perhaps ours, stood in the caller's way.
_CONFLICT_CODES = (
    "Client.DependencyViolation",
    "Client.IncorrectState",
    "Client.InvalidParameter",
    "Client.RouteAlreadyExists",
    {"suffix": "LimitExceeded"},  # a VPC has one EC2 Instance Connect Endpoint; no public source names the code
)
_CONFLICT_CALLS = (
    "AssociateIamInstanceProfile",
    "CreateInstanceConnectEndpoint",
    "CreateVpcEndpoint",
    "DeleteSubnet",
    "DeleteVpc",
    "ModifyVpcEndpoint",
)
_NAMING_A_SUBNET = ("CreateInstanceConnectEndpoint", "DeleteSubnet")
_ASSOCIATED = "existing association"

# Who made a call (see caller_of).
_PULUMI = re.compile(r"\bpulumi[a-z-]*/", re.IGNORECASE)
_TERRAFORM = re.compile(r"\b(terraform|opentofu|terraform-provider-[a-z]+)/", re.IGNORECASE)
_CDK = re.compile(r"\baws-cdk/")
_CDK_ROLE = re.compile(r"cdk-.+-cfn-exec-role-.+")
_CLOUDFORMATION = re.compile(r"cloudformation\.amazonaws\.com(\.|$)")
_CONSOLE = re.compile(r"(console\.([a-z0-9-]+\.)?|signin\.)amazonaws\.com|Mozilla/")
_INTERNAL = "AWS Internal"

CALL_NAMES = tuple(sorted(_CALLS))
"""The EC2 calls that can make something non-compliant, compliant, or gone."""

PATTERNS: dict[str, dict[str, Any]] = {
    "changes": {
        "source": [EC2_SOURCE],
        "detail-type": [API_CALL],
        "detail": {
            "eventSource": [EC2_EVENT_SOURCE],
            "eventName": list(CALL_NAMES),
            "errorCode": [{"exists": False}],
        },
    },
    "conflicts": {
        "source": [EC2_SOURCE],
        "detail-type": [API_CALL],
        "detail": {
            "eventSource": [EC2_EVENT_SOURCE],
            "eventName": list(_CONFLICT_CALLS),
            "errorCode": list(_CONFLICT_CODES),
        },
    },
    "states": {"source": [EC2_SOURCE], "detail-type": [STATE_CHANGE]},
    "heartbeats": {"source": [OWN_SOURCE], "detail-type": [HEARTBEAT]},
}
"""The EventBridge patterns of the rules that feed Portcullis. The templates hold these, word for word."""


def heartbeat_of(event: object) -> tuple[str, str] | None:
    """Tell from which account and Region a heartbeat comes; None for an event that is none.

    Raises:
        UnreadableEventError: When this is not an EventBridge event.
    """
    envelope, account_id, region = _envelope(event)
    is_heartbeat = (envelope["source"], envelope["detail-type"]) == (OWN_SOURCE, HEARTBEAT)
    return (account_id, region) if is_heartbeat else None


def trigger_of(event: Mapping[str, Any]) -> str:
    """Name a readable event, for those who look for it in CloudTrail: ``CreateVpc/<CloudTrail's event id>``."""
    # Only AWS writes events of its own sources; what others put into `detail` names nothing.
    detail = event["detail"] if event["source"] == EC2_SOURCE else {}
    return trigger(detail.get("eventName") or event["detail-type"], detail.get("eventID") or event.get("id"))


def cause_of(event: Mapping[str, Any]) -> Cause:
    """Tell why the targets of an event are looked at.

    Returns:
        The event's name; for a call also what kind of client made it, whether it named what there is to look at, and
        what it failed over. A conflict has the time of its call, by CloudTrail or else by EventBridge; None when
        neither can be read: it then counts as old, and nothing is made way for.
    """
    if not _is_call(event):
        return Cause(trigger_of(event))
    indirect = any(target.kind is Kind.ACCOUNT_REGION for target in targets_of(event))
    conflict = conflict_of(event)
    at = moment_of(event["detail"].get("eventTime")) or moment_of(event.get("time")) if conflict else None
    return Cause(trigger_of(event), caller_of(event["detail"]), indirect, conflict, at=at)


def caller_of(detail: Mapping[str, Any]) -> Caller:
    """Tell what kind of client made a call, by the fields of its CloudTrail record.

    Pulumi comes before Terraform, whose providers it uses, and CloudFormation before the console, in which people start
    stacks. Sources: "CloudTrail record contents" (``userAgent``, ``sourceIPAddress``, ``invokedBy``,
    ``sessionCredentialFromConsole``); the providers' user agents (``APN/1.0 HashiCorp/1.0 Terraform/1.1.2 ...
    terraform-provider-aws/3.76.1``, ``APN/1.0 Pulumi/1.0 Pulumi-Aws/...``, ``PulumiAwsNative/...``); "Bootstrap your
    environment" (AWS CDK) for the role with which CloudFormation runs its stacks; captures for the console's agents.
    """
    agent, address = str(detail.get("userAgent")), detail.get("sourceIPAddress")
    if _PULUMI.search(agent):
        return Caller.PULUMI
    if _TERRAFORM.search(agent):
        return Caller.TERRAFORM
    if any(_CLOUDFORMATION.match(str(name)) for name in (agent, address, _get(detail, "userIdentity", "invokedBy"))):
        return Caller.CDK if _CDK_ROLE.fullmatch(_role(detail) or "") else Caller.CLOUDFORMATION
    if _CDK.search(agent):
        return Caller.CDK
    # Services call each other as "AWS Internal", too, but never from an address.
    proxied = agent == _INTERNAL and address != _INTERNAL
    if proxied or str(detail.get("sessionCredentialFromConsole")).lower() == "true" or _CONSOLE.match(agent):
        return Caller.CONSOLE
    return Caller.OTHER


def conflict_of(event: Mapping[str, Any]) -> Conflict | None:
    """Tell what a call in a readable event failed over, if that is something that may be ours; None otherwise."""
    detail = event["detail"]
    if not _is_call(event) or not _failed_over_something(_text(detail, "eventName"), detail):
        return None
    name = detail["eventName"]
    request = _Call(name, detail).request
    tables = _list(_get(request, "routeTableId")) + _list(_get(request, "addRouteTableId"))
    return Conflict(
        call=name,
        principal=shown_name(_get(detail, "userIdentity", "arn") or ""),
        service_name=_matching(_SERVICE_NAME, _get(request, "serviceName")),
        route_table_ids=tuple(filter(None, (_matching(_RESOURCE_ID, each) for each in tables[:_MOST_TABLES]))),
        endpoint_id=_matching(_RESOURCE_ID, _get(request, "vpcEndpointId")),
        subnet_id=_matching(_RESOURCE_ID, _get(request, "subnetId")) if name in _NAMING_A_SUBNET else "",
    )


def moment_of(value: object) -> datetime | None:
    """Read a time as AWS and ``work.encode`` write it; None for anything that is not one certain moment."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None


def shown_name(value: object) -> str:
    """Return the ARN or name of who did something, as it may be shown: at most 128 characters, none out of place."""
    return _NOT_IN_NAMES.sub("-", str(value))[:_LONGEST_NAME]


def is_own(event: Mapping[str, Any], own_role_names: Collection[str]) -> bool:
    """Tell whether a readable event is a call that Portcullis itself made."""
    return _is_call(event) and _role(event["detail"]) in own_role_names


def targets_of(event: object, own_role_names: Collection[str] = ()) -> list[Target]:
    """Tell what to look at because of an event.

    Args:
        event: A whole EventBridge event, as parsed from JSON.
        own_role_names: Names of the roles with which Portcullis itself makes changes. Their calls have no
            Targets: what they did is known, and a reaction to ourselves could go on for ever.

    Returns:
        Distinct Targets, sorted; empty for an event that does not concern Portcullis. Where the event
        names neither a VPC nor an instance (or its fields were truncated), the account and Region.

    Raises:
        UnreadableEventError: When this is not an EventBridge event, or an id in it is not an id.
    """
    envelope, account_id, region = _envelope(event)
    detail, detail_type = envelope["detail"], envelope["detail-type"]
    if envelope["source"] != EC2_SOURCE:
        return []
    if detail_type == STATE_CHANGE:
        instance_id = _id(_text(detail, "instance-id"), Kind.INSTANCE)
        return [Target(account_id, region, Kind.INSTANCE, instance_id)]
    if detail_type != API_CALL or _text(detail, "eventSource") != EC2_EVENT_SOURCE:
        return []
    name = _text(detail, "eventName")
    concerns_us = _changed_something(name, detail) or _failed_over_something(name, detail)
    if not concerns_us or is_own(envelope, own_role_names):
        return []
    kind, find = _CALLS.get(name, (Kind.VPC, _nothing))
    ids = {_id(found, kind) for found in find(_Call(name, detail)) if found}
    if not ids:
        return [Target(account_id, region, Kind.ACCOUNT_REGION)]
    return sorted(Target(account_id, region, kind, resource_id) for resource_id in ids)


def _envelope(event: object) -> tuple[Mapping[str, Any], str, str]:
    """Check the envelope; returns the event, its account and its Region."""
    envelope = _mapping(event, "the event")
    for name in ("source", "detail-type"):
        _text(envelope, name)
    _mapping(envelope.get("detail"), "detail")
    account_id = _text(envelope, "account", _ACCOUNT_ID, "12 digits")
    return envelope, account_id, _text(envelope, "region", _REGION, "a Region name")


def _is_call(event: Mapping[str, Any]) -> bool:
    """Tell whether a readable event is a call of EC2."""
    kind = (event["source"], event["detail-type"], event["detail"].get("eventSource"))
    return kind == (EC2_SOURCE, API_CALL, EC2_EVENT_SOURCE)


def _changed_something(name: str, detail: Mapping[str, Any]) -> bool:
    return name in _CALLS and not detail.get("errorCode") and not _is_dry_run(name, detail)


def _failed_over_something(name: str, detail: Mapping[str, Any]) -> bool:
    """Tell whether a call failed over something that exists and may be ours."""
    side, _, bare = str(detail.get("errorCode")).partition(".")
    message = str(detail.get("errorMessage", ""))
    if name not in _CONFLICT_CALLS or side != "Client" or _is_dry_run(name, detail):
        return False
    if name == "CreateInstanceConnectEndpoint":
        return is_quota(bare)
    if bare == "IncorrectState":
        return name == "AssociateIamInstanceProfile" and _ASSOCIATED in message
    return is_in_use(bare) or is_route_conflict(bare, message) or is_dns_conflict(bare, message)


def _is_dry_run(name: str, detail: Mapping[str, Any]) -> bool:
    return str(_get(_Call(name, detail).request, "dryRun")).lower() == "true"


def _role(detail: Mapping[str, Any]) -> str | None:
    """Return the name of the role whose session made the call; None for other kinds of callers."""
    issuer = _get(detail, "userIdentity", "sessionContext", "sessionIssuer")
    name = _get(issuer, "userName") if _get(issuer, "type") == "Role" else None
    return name if isinstance(name, str) else None


def _matching(shape: re.Pattern[str], value: object) -> str:
    """Return a text of a shape; empty for anything else."""
    return value if isinstance(value, str) and shape.fullmatch(value) else ""


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UnreadableEventError(
            f"{name} is {_shown(value)}, not a JSON object; pass a whole EventBridge event "
            "(version, source, detail-type, account, region, detail)"
        )
    return value


def _text(holder: Mapping[str, Any], name: str, shape: re.Pattern[str] | None = None, what: str = "text") -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not value or (shape and not shape.fullmatch(value)):
        raise UnreadableEventError(f"{name} is {_shown(value)}, expected {what}; pass a whole EventBridge event")
    return value


def _id(value: object, kind: Kind) -> str:
    if not isinstance(value, str) or not _RESOURCE_ID.fullmatch(value):
        raise UnreadableEventError(
            f"the {kind} id is {_shown(value)}, expected letters, digits and hyphens, at most 64"
        )
    return value


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
