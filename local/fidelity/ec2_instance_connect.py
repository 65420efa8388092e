"""EC2 Instance Connect Endpoints, which moto does not have.

Source: the botocore EC2 model; EC2 User Guide, "Connect to your instances using EC2 Instance Connect Endpoint" and its
pages on quotas, permissions and the service-linked role; EC2 API Reference, its list of error codes. No public source
names the code of an exceeded quota; this one is documented for resources of EC2 in general. Unlike AWS, an endpoint
is complete at the next look, and gone at once after its deletion.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, EC2_RESOURCE_TO_PREFIX
from moto.iam.models import SERVICE_NAME_CONVERSION, iam_backends

from . import calls, hooks
from .ec2_endpoints import once
from .ec2_interface_endpoints import groups_of, network_interface

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "ec2-instance-connect.amazonaws.com"
ROLE_NAME = "AWSServiceRoleForEc2InstanceConnect"
"""The documentation writes it in another way, too."""

_KIND, _PREFIX = "instance-connect-endpoint", "eice"
_MOST_OF_ACCOUNT, _MOST_OF_PAGE = 5, 50
_FILTERS = {"vpc-id": "VpcId", "subnet-id": "SubnetId", "state": "State", f"{_KIND}-id": "InstanceConnectEndpointId"}


def needs_role(account_id: str) -> bool:
    """Return whether the account's first endpoint is still to come, with which the service-linked role is created."""
    return all(role.name != ROLE_NAME for role in list(iam_backends[account_id]["aws"].roles.values()))


def _endpoints(backend: Any) -> dict[str, dict[str, Any]]:
    endpoints: dict[str, dict[str, Any]] = vars(backend).setdefault("instance_connect_endpoints", {})
    return endpoints


def _find(http: Any) -> dict[str, Any]:
    endpoint_id = calls.Call(http).request["InstanceConnectEndpointId"]
    if endpoint_id not in _endpoints(http.ec2_backend):
        message = f"The instance connect endpoint ID '{endpoint_id}' does not exist"
        raise EC2ClientError("InvalidInstanceConnectEndpointId.NotFound", message)
    return _endpoints(http.ec2_backend)[endpoint_id]


def _shown(backend: Any, endpoint: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    tags = backend.tags.get(endpoint["InstanceConnectEndpointId"], {})
    return {**endpoint, **changes, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _check_quotas(backend: Any, subnet: Any) -> None:
    existing = list(_endpoints(backend).values())
    if any(one["VpcId"] == subnet.vpc_id for one in existing):
        message = f"There is already an EC2 Instance Connect Endpoint in VPC {subnet.vpc_id}"
    elif len(existing) >= _MOST_OF_ACCOUNT:
        message = f"There are already {_MOST_OF_ACCOUNT} EC2 Instance Connect Endpoints in this Region"
    else:
        return
    raise EC2ClientError("ResourceLimitExceeded", message)


def _check_addresses(endpoint: Mapping[str, Any]) -> None:
    if endpoint["PreserveClientIp"] and endpoint["IpAddressType"] != "ipv4":
        raise EC2ClientError("InvalidParameterCombination", "PreserveClientIp needs the IpAddressType ipv4")


def _make(backend: Any, request: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    subnet = backend.get_subnet(request["SubnetId"])
    _check_quotas(backend, subnet)
    made_id, account_id, region = f"{_PREFIX}-{uuid.uuid4().hex[:17]}", backend.account_id, backend.region_name
    endpoint = {
        "OwnerId": account_id,
        "InstanceConnectEndpointId": made_id,
        "InstanceConnectEndpointArn": f"arn:aws:ec2:{region}:{account_id}:{_KIND}/{made_id}",
        "State": "create-complete",
        "StateMessage": "",
        "DnsName": f"{made_id}.{made_id[-8:]}.{_KIND}.{region}.amazonaws.com",
        "VpcId": subnet.vpc_id,
        "AvailabilityZone": subnet.availability_zone,
        "CreatedAt": datetime.fromtimestamp(hooks.installed.clock(), UTC),
        "SubnetId": subnet.id,
        "PreserveClientIp": request.get("PreserveClientIp", False),
        "SecurityGroupIds": groups_of(backend, subnet.vpc_id, request.get("SecurityGroupIds", ())),
        "IpAddressType": "dualstack" if subnet.ipv6_cidr_block_associations else "ipv4",
    }
    endpoint["IpAddressType"] = request.get("IpAddressType", endpoint["IpAddressType"])
    _check_addresses(endpoint)
    about = ("ec2_instance_connect_endpoint", f"EC2 Instance Connect Endpoint {made_id}")
    endpoint["NetworkInterfaceIds"] = [network_interface(backend, subnet.id, endpoint["SecurityGroupIds"], *about)]
    if needs_role(account_id):
        iam_backends[account_id]["aws"].create_service_linked_role(SERVICE, "", "")
    backend.create_tags([made_id], tags)
    _endpoints(backend)[made_id] = endpoint
    return endpoint


def _create(http: Any) -> ActionResult:
    request, backend = dict(calls.Call(http).request), http.ec2_backend
    token, tags = request.pop("ClientToken", None), http._parse_tag_specification().get(_KIND, {})
    endpoint = once(backend, _PREFIX, token, request, partial(_make, backend, request, tags))
    shown = _shown(backend, endpoint, State="create-in-progress")
    return ActionResult({"InstanceConnectEndpoint": shown, "ClientToken": token})


def _passes(endpoint: Mapping[str, Any], name: str, wanted: list[str]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in endpoint["Tags"]}
    if name in _FILTERS:
        values = [endpoint[_FILTERS[name]]]
    elif name.startswith("tag:"):
        values = [value for key, value in tags.items() if key == name.removeprefix("tag:")]
    elif name in {"tag-key", "tag-value"}:
        values = list(tags if name == "tag-key" else tags.values())
    else:
        raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")
    return any(fnmatchcase(value, pattern) for value in values for pattern in wanted)


def _describe(http: Any) -> ActionResult:
    request, backend = calls.Call(http).request, http.ec2_backend
    known = _endpoints(backend)
    if unknown := set(request.get("InstanceConnectEndpointIds", ())) - set(known):
        message = f"The instance connect endpoint IDs '{', '.join(sorted(unknown))}' do not exist"
        raise EC2ClientError("InvalidInstanceConnectEndpointId.NotFound", message)
    ids = request.get("InstanceConnectEndpointIds") or list(known)
    filters = [(one["Name"], one["Values"]) for one in request.get("Filters", ())]
    found = [_shown(backend, known[one]) for one in ids]
    found = [one for one in found if all(_passes(one, *filter_) for filter_ in filters)]
    start, most = int(request.get("NextToken", 0)), min(request.get("MaxResults", _MOST_OF_PAGE), _MOST_OF_PAGE)
    more = {"NextToken": str(start + most)} if start + most < len(found) else {}
    return ActionResult({"InstanceConnectEndpoints": found[start : start + most], **more})


def _modify(http: Any) -> ActionResult:
    endpoint, request, backend = _find(http), calls.Call(http).request, http.ec2_backend
    changes = {name: request[name] for name in ("IpAddressType", "PreserveClientIp") if name in request}
    if "SecurityGroupIds" in request:
        changes["SecurityGroupIds"] = groups_of(backend, endpoint["VpcId"], request["SecurityGroupIds"])
    _check_addresses({**endpoint, **changes})
    endpoint.update(changes, State="update-complete")
    for interface_id in endpoint["NetworkInterfaceIds"]:
        backend.modify_network_interface_attribute(interface_id, endpoint["SecurityGroupIds"])
    return ActionResult({"Return": True})


def _delete(http: Any) -> ActionResult:
    endpoint, backend = _find(http), http.ec2_backend
    for interface_id in endpoint["NetworkInterfaceIds"]:
        backend.delete_network_interface(interface_id)
    _endpoints(backend).pop(endpoint["InstanceConnectEndpointId"])
    return ActionResult({"InstanceConnectEndpoint": _shown(backend, endpoint, State="delete-in-progress")})


def install() -> None:
    """Add the calls to moto's EC2 (once: the caller sees to that)."""
    SERVICE_NAME_CONVERSION[SERVICE.partition(".")[0]] = ROLE_NAME.removeprefix("AWSServiceRoleFor")
    EC2_RESOURCE_TO_PREFIX[_KIND], EC2_PREFIX_TO_RESOURCE[_PREFIX] = _PREFIX, _KIND
    EC2Response.create_instance_connect_endpoint = _create
    EC2Response.describe_instance_connect_endpoints = _describe
    EC2Response.modify_instance_connect_endpoint = _modify
    EC2Response.delete_instance_connect_endpoint = _delete
