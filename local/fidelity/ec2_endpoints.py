"""VPC endpoints: creation, modification and deletion, and what concerns gateway endpoints: routes and checks.

Source: AWS PrivateLink Guide, "Gateway endpoints" and "Endpoint policies"; EC2 API Reference, its list of error codes,
and "Ensuring idempotency"; error texts from public issue threads. moto lets a second
endpoint take over a route, leaves routes alone on modification, keeps deleted endpoints for ever, checks neither
service, policy nor token, knows no addresses of prefix lists, and crashes on some filters.

What a token does whose endpoint has been deleted is documented for instances only. Here it is the same: a repeated
request does nothing further, and so creates nothing.
"""

from __future__ import annotations

import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.route_tables import RouteBackend
from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.models.vpcs import VPCBackend, VPCEndPoint
from moto.ec2.responses.vpcs import VPCs

from . import calls
from . import ec2_interface_endpoints as interface_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST_POLICY = 20_480
# The same in every Region; on AWS each has its own.
_CIDRS = {"s3": ["3.5.0.0/19", "52.216.0.0/15", "54.231.0.0/16"], "dynamodb": ["3.218.180.0/22", "52.94.0.0/22"]}
# Checking what is there and making what is wanted must be one step, as it is in AWS.
_lock = threading.RLock()


def _prefix_list_id(backend: Any, service_name: str) -> str:
    """Return the prefix list of a gateway service of the Region; moto has some for other things, too."""
    for prefix_list in backend.managed_prefix_lists.values():
        if prefix_list.prefix_list_name == service_name and service_name.endswith((".s3", ".dynamodb")):
            return str(prefix_list.id)
    raise EC2ClientError("InvalidServiceName", f"The Vpc Endpoint Service '{service_name}' does not exist")


def _check_tables(backend: Any, vpc_id: str, prefix_list_id: str, table_ids: list[str]) -> None:
    """Refuse tables that cannot take the endpoint's route, before any of them gets it."""
    for table_id in table_ids:
        table = backend.route_tables.get(table_id)
        if table is None:
            # Endpoint calls spell this code differently from route table calls.
            raise EC2ClientError("InvalidRouteTableId.NotFound", f"The routeTable ID '{table_id}' does not exist")
        if table.vpc_id != vpc_id:
            raise EC2ClientError("InvalidParameter", f"Route table {table_id} belongs to a different network")
        if any("GatewayId" in association for association in table.associations):
            raise EC2ClientError("InvalidParameter", f"Gateway route table {table_id} cannot hold an endpoint route")
        if any(route.destination_prefix_list_id == prefix_list_id for route in table.routes):
            message = f"route table {table_id} already has a route with destination-prefix-list-id {prefix_list_id}"
            raise EC2ClientError("RouteAlreadyExists", message)


def once(backend: Any, kind: str, token: str | None, wanted: Any, make: Callable[[], Any]) -> Any:
    """Return what `make` makes, or what it made when the same token came with the same request before."""
    # Kept on the backend, so that a reset of moto forgets them too.
    tokens = vars(backend).setdefault(f"{kind}_client_tokens", {})
    with _lock:
        given, known = tokens.get(token, (wanted, None))
        if given != wanted:
            raise EC2ClientError("IdempotentParameterMismatch", f"{token} was used with other parameters")
        made = make() if known is None else known
        if token is not None:
            tokens[token] = (wanted, made)
        return made


def _checked_policy(document: str | None) -> str | None:
    """Return an endpoint policy, or None for the default one; it is refused if it is not one or is too long."""
    if not document:
        return None
    problem = f"It has more than {_LONGEST_POLICY} characters." if len(document) > _LONGEST_POLICY else ""
    try:
        statements = json.loads(document)["Statement"]
        complete = all({"Effect", "Principal"} < set(one) for one in statements)
    except (ValueError, TypeError, KeyError):
        complete = False
    if problem or not complete:
        message = f"The Policy Document is not valid. {problem or 'Syntax error at position (1,1)'}"
        raise EC2ClientError("InvalidPolicyDocument", message)
    return document


def _wrap_create() -> None:
    original = VPCBackend.create_vpc_endpoint

    def make(backend: Any, request: Mapping[str, Any], tags: Any) -> Any:
        kind, service_name = request.get("VpcEndpointType", "Gateway"), request["ServiceName"]
        about = {"vpc_id": request["VpcId"], "service_name": service_name, "endpoint_type": kind, "tags": tags}
        about["subnet_ids"] = []
        about["policy_document"] = _checked_policy(request.get("PolicyDocument"))
        backend.get_vpc(request["VpcId"])
        if kind != "Gateway":
            return interface_endpoints.create(backend, request, partial(original, backend, **about))
        if "DnsOptions" in request or "SubnetIds" in request:
            what = "DnsOptions are" if "DnsOptions" in request else "Subnet IDs are"
            raise EC2ClientError("InvalidParameter", f"{what} only supported for Interface type VPC Endpoints.")
        tables = list(dict.fromkeys(request.get("RouteTableIds", ())))
        _check_tables(backend, request["VpcId"], _prefix_list_id(backend, service_name), tables)
        # Said, because moto takes private DNS for the default.
        return original(backend, route_table_ids=tables, private_dns_enabled=False, **about)

    def create_vpc_endpoint(http: Any) -> Any:
        request, backend = dict(calls.Call(http).request), http.ec2_backend
        token, tags = request.pop("ClientToken", None), http._parse_tag_specification().get("vpc-endpoint", {})
        endpoint = once(backend, "endpoint", token, request, partial(make, backend, request, tags))
        return ActionResult({"VpcEndpoint": endpoint})

    VPCs.create_vpc_endpoint = create_vpc_endpoint


def _modify(http: Any) -> Any:
    """Serve ModifyVpcEndpoint: all of it, or nothing."""
    request, backend = calls.Call(http).request, http.ec2_backend
    added, removed = request.get("AddRouteTableIds", ()), request.get("RemoveRouteTableIds", ())
    policy = _checked_policy(request.get("PolicyDocument"))
    with _lock:
        (endpoint,) = backend.describe_vpc_endpoints([request["VpcEndpointId"]])
        if prefix_list_id := endpoint.destination_prefix_list_id:
            added = [table_id for table_id in added if table_id not in endpoint.route_table_ids]
            _check_tables(backend, endpoint.vpc_id, prefix_list_id, added)
            for table_id in added:
                route = {"gateway_id": endpoint.id, "destination_prefix_list_id": prefix_list_id}
                backend.create_route(table_id, None, **route)
            for table_id in set(removed) & set(endpoint.route_table_ids):
                backend.delete_route(table_id, prefix_list_id)
            kept = [table_id for table_id in endpoint.route_table_ids if table_id not in removed]
            endpoint.route_table_ids = [*kept, *added]
        else:
            interface_endpoints.modify(backend, endpoint, request)
        if policy or request.get("ResetPolicy"):
            endpoint.policy_document = policy or json.dumps(VPCEndPoint.DEFAULT_POLICY)
    return ActionResult({"Return": True})


def _wrap_delete() -> None:
    original = VPCBackend.delete_vpc_endpoints

    def refusal(backend: Any, endpoint_id: str) -> tuple[str, str] | None:
        endpoint = backend.vpc_end_points.get(endpoint_id)
        if endpoint is None:
            return "InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id does not exist"
        for other in backend.vpc_end_points.values() if endpoint.vpc_endpoint_type == "Gateway" else ():
            same = (other.vpc_id, other.service_name) == (endpoint.vpc_id, endpoint.service_name)
            if same and interface_endpoints.is_for_resolver_only(other):
                message = f"Gateway endpoint cannot be deleted while Interface endpoint {other.id} for the service has "
                return "InvalidParameter", f"{message}PrivateDnsOnlyForInboundResolverEndpoint set to true."
        return None

    def delete_vpc_endpoints(http: Any) -> Any:
        failed = []
        with _lock:
            for endpoint_id in calls.Call(http).request["VpcEndpointIds"]:
                if reason := refusal(http.ec2_backend, endpoint_id):
                    error = dict(zip(("Code", "Message"), reason, strict=True))
                    failed.append({"ResourceId": endpoint_id, "Error": error})
                else:
                    original(http.ec2_backend, [endpoint_id])
                    http.ec2_backend.vpc_end_points.pop(endpoint_id)
        return ActionResult({"Unsuccessful": failed})

    VPCs.delete_vpc_endpoints = delete_vpc_endpoints


def _wrap_deletion_of_what_they_hang_on() -> None:
    """A deleted route table leaves its endpoint; a VPC with an endpoint or group, and a subnet in use, stay."""
    original_delete_table = RouteBackend.delete_route_table
    original_delete_vpc = VPCBackend.delete_vpc
    original_delete_subnet = SubnetBackend.delete_subnet

    def delete_route_table(backend: Any, route_table_id: str) -> None:
        with _lock:
            original_delete_table(backend, route_table_id)
            for endpoint in backend.vpc_end_points.values():
                endpoint.route_table_ids = [t for t in endpoint.route_table_ids if t != route_table_id]

    def delete_vpc(backend: Any, vpc_id: str) -> Any:
        groups = backend.groups.get(vpc_id, {}).values()
        has_groups = any(not group.is_default for group in groups)
        if has_groups or any(endpoint.vpc_id == vpc_id for endpoint in backend.vpc_end_points.values()):
            raise EC2ClientError("DependencyViolation", f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
        return original_delete_vpc(backend, vpc_id)

    def delete_subnet(backend: Any, subnet_id: str) -> Any:
        if any(interface.subnet.id == subnet_id for interface in list(backend.enis.values())):
            message = f"The subnet '{subnet_id}' has dependencies and cannot be deleted."
            raise EC2ClientError("DependencyViolation", message)
        for acl in backend.network_acls.values():  # with the subnet goes its association
            kept = {key: one for key, one in acl._associations.items() if one.subnet_id != subnet_id}
            acl._associations = kept
        return original_delete_subnet(backend, subnet_id)

    SubnetBackend.delete_subnet = delete_subnet
    RouteBackend.delete_route_table = delete_route_table
    VPCBackend.delete_vpc = delete_vpc


def _wrap_filters() -> None:
    endpoint_value = VPCEndPoint.get_filter_value
    filter_services = VPCBackend._filter_endpoint_services

    def get_filter_value(endpoint: Any, filter_name: str, method_name: str | None = None) -> Any:
        return endpoint.id if filter_name == "vpc-endpoint-id" else endpoint_value(endpoint, filter_name, method_name)

    def filter_endpoint_services(names: list[str], filters: list[dict[str, Any]], services: list[Any]) -> Any:
        # A filter carries `Values`; moto reads `Value`.
        return filter_services(names, [{**one, "Value": list(one["Values"])} for one in filters], services)

    VPCEndPoint.get_filter_value = get_filter_value
    VPCBackend._filter_endpoint_services = staticmethod(filter_endpoint_services)


def _wrap_prefix_lists() -> None:
    describe = VPCs.describe_prefix_lists

    def cidrs(prefix_list: Any) -> list[str]:
        return _CIDRS.get(prefix_list.prefix_list_name.rsplit(".", 1)[-1], [])

    def describe_prefix_lists(http: Any) -> Any:
        lists = describe(http).result["PrefixLists"]
        names = ("PrefixListId", "PrefixListName", "Cidrs")
        found = [(one.id, one.prefix_list_name, cidrs(one)) for one in lists]
        return ActionResult({"PrefixLists": [dict(zip(names, one, strict=True)) for one in found]})

    VPCs.describe_prefix_lists = describe_prefix_lists


def install() -> None:
    """Patch moto's endpoints and route tables (once: the caller sees to that)."""
    _wrap_create()
    VPCs.modify_vpc_endpoint = _modify
    _wrap_delete()
    _wrap_deletion_of_what_they_hang_on()
    _wrap_filters()
    _wrap_prefix_lists()
