"""CloudTrail's `AWS API Call via CloudTrail` events for EC2, which moto never emits.

Source: public captures of real records. EC2 writes two dialects: most calls are flat camel case with
`{"items": [...]}` lists; newer ones are the request and response XML turned to JSON, nested under
`<Action>Request` and `<Action>Response`. Names and types come from the botocore model. Unlike AWS, an event
arrives at once, none is lost, and only EC2 is covered.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import xmltodict
from moto.core.utils import get_service_model

from . import calls, eventbridge, hooks
from .roles import RoleNotFoundError, role_by_arn

_NEW_DIALECT = re.compile(r"CreateDefaultVpc|CreateFleet|.*(VpcEndpoint|IamInstanceProfile|InstanceConnectEndpoint).*")
_XML_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
# In the old dialect these lists are not simply called after their parameter: (name, name in an element).
_OLD_LIST_NAMES = {
    "InstanceId": ("instancesSet", "instanceId"),
    "ResourceId": ("resourcesSet", "resourceId"),
    "SecurityGroupId": ("groupSet", "groupId"),
    "SecurityGroup": ("groupSet", "groupName"),
    "BlockDeviceMapping": ("blockDeviceMapping", ""),
}


def _wire_name(member: str, shape: Any) -> str:
    return str(shape.serialization.get("name", member))


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]


def _upper_first(name: str) -> str:
    return name[:1].upper() + name[1:]


def _scalar(value: Any) -> Any:
    """Return a value as JSON; CloudTrail writes EC2's times as epoch milliseconds."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1000)
    return value.decode() if isinstance(value, bytes) else value


def _old_request(shape: Any, value: Any) -> Any:
    """Write a request in the old dialect."""
    if shape.type_name == "list":
        return [_old_request(shape.member, element) for element in value]
    if shape.type_name != "structure":
        return _scalar(value)
    written: dict[str, Any] = {}
    for member, content in value.items():
        member_shape = shape.members[member]
        name = _wire_name(member, member_shape)
        if name.lower() == "dryrun":
            continue
        written_content = _old_request(member_shape, content)
        if member_shape.type_name != "list":
            written[_lower_first(name)] = written_content
        elif shape.name == "TagSpecification":
            # The one list that is a plain one: the tags inside tagSpecificationSet.
            written["tags"] = written_content
        else:
            set_name, element_name = _OLD_LIST_NAMES.get(name, (_lower_first(name) + "Set", _lower_first(name)))
            items = [item if isinstance(item, dict) else {element_name: item} for item in written_content]
            written[set_name] = {"items": items} if items else {}
    return written


def _old_run_instances(parameters: dict[str, Any]) -> dict[str, Any]:
    """Move what RunInstances says about the instances to where its captures have it."""
    moved = {name: parameters.pop(name) for name in ("imageId", "minCount", "maxCount") if name in parameters}
    return {"instancesSet": {"items": [moved]}, **parameters}


def _old_response(shape: Any, value: Any) -> Any:
    """Write a response in the old dialect."""
    if shape.type_name == "list":
        items = [_old_response(shape.member, element) for element in value]
        return {"items": items} if items else {}
    if shape.type_name != "structure":
        return _scalar(value)
    written = {}
    for member, content in value.items():
        if member in shape.members:
            name = _lower_first(_wire_name(member, shape.members[member]))
            written["_return" if name == "return" else name] = _old_response(shape.members[member], content)
    return written


def _xml_scalar(text: Any) -> Any:
    """Read text as the XML conversion does: booleans and numbers lose their quotes (and leading zeros)."""
    if text is None:
        return ""
    if isinstance(text, bool) or not isinstance(text, (str, bytes)):
        return _scalar(text)
    text = _scalar(text)
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text


def _new_request(shape: Any, value: Any) -> Any:
    """Write a request in the new dialect: numbered list elements, a single one without its list."""
    if shape.type_name == "list":
        elements = []
        for tag, element in enumerate(value, start=1):
            content = _new_request(shape.member, element)
            elements.append({**content, "tag": tag} if isinstance(content, dict) else {"tag": tag, "content": content})
        return elements[0] if len(elements) == 1 else elements
    if shape.type_name != "structure":
        return _xml_scalar(value)
    return {
        _upper_first(_wire_name(member, shape.members[member])): _new_request(shape.members[member], content)
        for member, content in value.items()
    }


def _new_response(node: Any) -> Any:
    """Write parsed response XML in the new dialect."""
    if isinstance(node, Mapping):
        return {name: _new_response(child) for name, child in node.items() if not name.startswith("@")}
    if isinstance(node, list):
        return [_new_response(child) for child in node]
    return _xml_scalar(node)


def _parameters(call: calls.Call) -> dict[str, Any] | None:
    """Return `requestParameters`."""
    shape = get_service_model("ec2").operation_model(call.action).input_shape
    if _NEW_DIALECT.fullmatch(call.action):
        return {f"{call.action}Request": _new_request(shape, call.request) if call.request else ""}
    written = _old_request(shape, call.request) if call.request else {}
    return _old_run_instances(written) if call.action == "RunInstances" else written or None


def _elements(call: calls.Call, outcome: calls.Outcome) -> dict[str, Any] | None:
    """Return `responseElements`, which are null for a failed call."""
    if outcome.error_code:
        return None
    if _NEW_DIALECT.fullmatch(call.action):
        root = next(iter(xmltodict.parse(outcome.body).values())) or {}
        content = {name: child for name, child in _new_response(root).items() if name.lower() != "requestid"}
        response = {"xmlns": _XML_NAMESPACE, "requestId": outcome.request_id, **content}
        return {f"{call.action}Response": response}
    shape = get_service_model("ec2").operation_model(call.action).output_shape
    written = _old_response(shape, outcome.response) if shape is not None else {"_return": True}
    return {"requestId": outcome.request_id, **written}


def _user_identity(principal: calls.Principal, at: str) -> dict[str, Any]:
    """Return `userIdentity` for a role session or a user."""
    identity = {
        "type": "AssumedRole" if principal.role_arn else "IAMUser",
        "principalId": principal.access_key_id,
        "arn": principal.arn,
        "accountId": principal.account_id,
        "accessKeyId": principal.access_key_id,
    }
    if principal.role_arn is None:
        return {**identity, "userName": principal.user_name}
    try:
        role_id = role_by_arn(principal.role_arn).id
    except RoleNotFoundError:
        # The role may be gone while its session lives on.
        role_id = "AROAEXAMPLE"
    issuer = {
        "type": "Role",
        "principalId": role_id,
        "arn": principal.role_arn,
        "accountId": principal.account_id,
        "userName": principal.role_name,
    }
    attributes = {"creationDate": at, "mfaAuthenticated": "false"}
    session = {"sessionIssuer": issuer, "webIdFederationData": {}, "attributes": attributes}
    return {**identity, "principalId": f"{role_id}:{principal.session_name}", "sessionContext": session}


def record(call: calls.Call, outcome: calls.Outcome) -> dict[str, Any]:
    """Return the CloudTrail record of an EC2 call, as the `detail` of an event carries it."""
    at = datetime.fromtimestamp(hooks.current().clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    written = {
        "eventVersion": "1.10",
        "userIdentity": _user_identity(call.principal, at),
        "eventTime": at,
        "eventSource": "ec2.amazonaws.com",
        "eventName": call.action,
        "awsRegion": call.region,
        "sourceIPAddress": call.source_address,
        "userAgent": call.user_agent,
        "requestParameters": _parameters(call),
        "responseElements": _elements(call, outcome),
        "requestID": outcome.request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": call.account_id,
        "eventCategory": "Management",
    }
    if outcome.error_code:
        written["errorCode"] = f"Client.{outcome.error_code}"
        written["errorMessage"] = outcome.response["Error"]["Message"]
    return written


def _publish(call: calls.Call, outcome: calls.Outcome) -> None:
    """Send the event of one EC2 call to the caller's default bus in the call's Region."""
    if call.service != "ec2":
        return
    # What belongs to the HTTP request is read now; the event itself is written on the delivering thread.
    _ = (call.request, call.principal)

    def make_event() -> dict[str, Any]:
        detail = record(call, outcome)
        return eventbridge.envelope(call.account_id, call.region, "aws.ec2", "AWS API Call via CloudTrail", detail)

    eventbridge.publish(call.account_id, call.region, make_event)


def install() -> None:
    """Emit an event for every mutating EC2 call, failed and dry-run ones included."""
    calls.add_observer(_publish)
