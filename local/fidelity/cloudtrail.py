"""CloudTrail's `AWS API Call via CloudTrail` events for EC2, which moto never emits.

Source: public captures of real records. EC2 writes two dialects: most calls are flat camel case with
`{"items": [...]}` lists; newer ones are the request and response XML turned to JSON, nested under
`<Action>Request` and `<Action>Response`. Unlike AWS, an event arrives at once, and none is lost.
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

INVOKED_BY, FROM_CONSOLE = "x-local-invoked-by", "x-local-from-console"
"""Headers by which a caller says that it is a service of AWS, or somebody in a browser."""

_NEW_DIALECT = re.compile(
    # No capture of those of VpcCidrBlock is public: they are as old as those that write like this.
    r"CreateDefaultVpc|CreateFleet|.*(VpcEndpoint|VpcCidrBlock|IamInstanceProfile|InstanceConnectEndpoint).*"
)
# In the old dialect these lists are not simply called after their parameter: (name, name in an element).
_OLD_LIST_NAMES = {
    "instanceId": ("instancesSet", "instanceId"),
    "resourceId": ("resourcesSet", "resourceId"),
    "securityGroupId": ("groupSet", "groupId"),
    **{name: (name, "") for name in ("groups", "ipPermissions", "ipRanges", "ipv6Ranges", "prefixListIds")},
}


def _name(member: str, shape: Any) -> str:
    """Return the name of a member on the wire, which starts with a small letter here and there, with one."""
    name = str(shape.serialization.get("name", member))
    return name[:1].lower() + name[1:]


def _scalar(value: Any) -> Any:
    """Return a value as JSON; CloudTrail writes EC2's times as epoch milliseconds."""
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
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
        name, written_content = _name(member, member_shape), _old_request(member_shape, content)
        if member_shape.type_name != "list":
            written[name] = written_content
        elif shape.name == "TagSpecification":
            # The one list that is a plain one: the tags inside tagSpecificationSet.
            written["tags"] = written_content
        else:
            set_name, element_name = _OLD_LIST_NAMES.get(name, (f"{name}Set", name))
            items = [item if isinstance(item, dict) else {element_name: item} for item in written_content]
            written[set_name] = {"items": items} if items else {}
    return written


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
            name = _name(member, shape.members[member])
            written["_return" if name == "return" else name] = _old_response(shape.members[member], content)
    return written


def _xml_scalar(text: Any) -> Any:
    """Read text as the XML conversion does: booleans and numbers lose their quotes (and leading zeros)."""
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if isinstance(text, str) and re.fullmatch(r"-?\d{1,18}", text) else _scalar(text)


def _new_request(shape: Any, value: Any) -> Any:
    """Write a request in the new dialect: numbered list elements, a single one without its list."""
    if shape.type_name == "list":
        contents = [_new_request(shape.member, element) for element in value]
        items = [one if isinstance(one, dict) else {"content": one} for one in contents]
        numbered = [{"tag": tag, **item} for tag, item in enumerate(items, start=1)]
        return numbered[0] if len(numbered) == 1 else numbered
    if shape.type_name != "structure":
        return _xml_scalar(value)
    written = {}
    for member, content in value.items():
        name = _name(member, shape.members[member])
        written[name[:1].upper() + name[1:]] = _new_request(shape.members[member], content)
    return written


def _new_response(node: Any) -> Any:
    """Write parsed response XML in the new dialect."""
    if isinstance(node, Mapping):
        return {name: _new_response(child) for name, child in node.items() if not name.startswith("@")}
    if isinstance(node, list):
        return [_new_response(child) for child in node]
    return "" if node is None else _xml_scalar(node)


def _parameters(call: calls.Call) -> dict[str, Any] | None:
    """Return `requestParameters`."""
    shape = get_service_model("ec2").operation_model(call.action).input_shape
    if _NEW_DIALECT.fullmatch(call.action):
        return {f"{call.action}Request": _new_request(shape, call.request) if call.request else ""}
    written = _old_request(shape, {name: value for name, value in call.request.items() if name != "DryRun"})
    if call.action == "RunInstances":
        # What it says about the instances is one item of a list.
        moved = {name: written.pop(name) for name in ("imageId", "minCount", "maxCount") if name in written}
        written = {"instancesSet": {"items": [moved]}, **written}
    return written or None


def _elements(call: calls.Call, outcome: calls.Outcome) -> dict[str, Any] | None:
    """Return `responseElements`, which are null for a failed call."""
    if outcome.error_code:
        return None
    if _NEW_DIALECT.fullmatch(call.action):
        root = next(iter(xmltodict.parse(outcome.body).values())) or {}
        content = {name: child for name, child in _new_response(root).items() if name.lower() != "requestid"}
        prefix = {"xmlns": "http://ec2.amazonaws.com/doc/2016-11-15/", "requestId": outcome.request_id}
        return {f"{call.action}Response": {**prefix, **content}}
    shape = get_service_model("ec2").operation_model(call.action).output_shape
    written = _old_response(shape, outcome.response) if shape is not None else {"_return": True}
    return {"requestId": outcome.request_id, **written}


def _user_identity(principal: calls.Principal, account_id: str, at: str) -> dict[str, Any]:
    """Return `userIdentity` for a role session or a user."""
    identity = {"arn": principal.arn, "accountId": account_id, "accessKeyId": principal.access_key_id}
    if principal.role_arn is None:
        return {"type": "IAMUser", "principalId": "AIDAEXAMPLE", **identity, "userName": principal.name}
    role = {"type": "Role", "principalId": "AROAEXAMPLE", "arn": principal.role_arn, "userName": principal.role_name}
    issuer, attributes = {**role, "accountId": account_id}, {"creationDate": at, "mfaAuthenticated": "false"}
    about = {"type": "AssumedRole", "principalId": f"AROAEXAMPLE:{principal.name}"}
    return {**about, **identity, "sessionContext": {"sessionIssuer": issuer, "attributes": attributes}}


def _record(call: calls.Call, outcome: calls.Outcome) -> dict[str, Any]:
    at = hooks.installed.now()
    error, headers = outcome.response.get("Error"), call.http.headers
    # A service that calls on somebody's behalf shows its own name everywhere.
    service, from_console = headers.get(INVOKED_BY), {"sessionCredentialFromConsole": "true"}
    identity = _user_identity(call.principal, call.account_id, at)
    failure = {"errorCode": f"Client.{error['Code']}", "errorMessage": error["Message"]} if error else {}
    return {
        "eventVersion": "1.10",
        "userIdentity": {**identity, "invokedBy": service} if service else identity,
        "eventTime": at,
        "eventSource": "ec2.amazonaws.com",
        "eventName": call.action,
        "awsRegion": call.region,
        "sourceIPAddress": service or "127.0.0.1",
        "userAgent": service or str(headers.get("User-Agent", "")),
        "requestParameters": _parameters(call),
        "responseElements": _elements(call, outcome),
        "requestID": outcome.request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": call.account_id,
        "eventCategory": "Management",
        **(from_console if FROM_CONSOLE in headers else {}),
        **failure,
    }


def publish(call: calls.Call, outcome: calls.Outcome) -> None:
    """Send the event of an EC2 call, even of a failed one, to the caller's default bus in the call's Region."""
    if call.service != "ec2":
        return
    # What belongs to the HTTP request is read now; the event itself is written on the delivering thread.
    _ = (call.request, call.principal)
    place, kind = (call.account_id, call.region), "AWS API Call via CloudTrail"
    eventbridge.publish(*place, lambda: eventbridge.envelope(*place, "aws.ec2", kind, _record(call, outcome)))
