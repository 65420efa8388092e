"""Gateway endpoints: their routes, checks, idempotency and deletion.

Source: AWS PrivateLink Guide, "Gateway endpoints"; EC2 API Reference for Create-, Modify- and
DeleteVpcEndpoint(s) and its list of error codes. moto lets a second endpoint take over a route, leaves routes
alone on modification, keeps deleted endpoints for ever, and checks neither service, policy, token nor quota.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.route_tables import RouteBackend
from moto.ec2.models.vpcs import VPCBackend, VPCEndPoint
from moto.ec2.responses.vpcs import VPCs

from .ec2_sharing import is_shared

if TYPE_CHECKING:
    from collections.abc import Iterable

GATEWAY_ENDPOINTS_PER_REGION = 20
_GATEWAY_SERVICES = ("s3", "dynamodb")
# Checking route tables and writing their routes must be one step, as it is in AWS.
_lock = threading.RLock()


def _prefix_list_id(backend: Any, service_name: str) -> str:
    """Return the prefix list of a gateway service of the Region."""
    if service_name in {f"com.amazonaws.{backend.region_name}.{service}" for service in _GATEWAY_SERVICES}:
        for prefix_list in backend.managed_prefix_lists.values():
            if prefix_list.prefix_list_name == service_name:
                return str(prefix_list.id)
    raise EC2ClientError("InvalidServiceName", f"The Vpc Endpoint Service '{service_name}' does not exist")


def _check_policy(document: str | None) -> None:
    try:
        well_formed = document is None or isinstance(json.loads(document), dict)
    except ValueError:
        well_formed = False
    if not well_formed:
        raise EC2ClientError("InvalidPolicyDocument", "The Policy Document is not valid.")


def _check_tables(backend: Any, vpc_id: str, prefix_list_id: str, table_ids: Iterable[str]) -> None:
    """Refuse tables that cannot take the endpoint's route, before any of them gets it."""
    for table_id in table_ids:
        table = backend.route_tables.get(table_id)
        if table is None:
            # Endpoint calls spell this code differently from route table calls.
            raise EC2ClientError("InvalidRouteTableId.NotFound", f"The routeTable ID '{table_id}' does not exist")
        if table.vpc_id != vpc_id:
            message = f"Route table {table_id} and the endpoint belong to different networks"
            raise EC2ClientError("InvalidParameter", message)
        if any("GatewayId" in association for association in table.associations):
            message = f"Route table {table_id} is associated with a gateway and cannot hold an endpoint route"
            raise EC2ClientError("InvalidParameter", message)
        if any(route.destination_prefix_list_id == prefix_list_id for route in table.routes):
            message = f"route table {table_id} already has a route with destination-prefix-list-id {prefix_list_id}"
            raise EC2ClientError("RouteAlreadyExists", message)


def _gateways(backend: Any) -> list[Any]:
    return [endpoint for endpoint in backend.vpc_end_points.values() if endpoint.vpc_endpoint_type == "Gateway"]


def _check_gateway(backend: Any, parameters: dict[str, Any]) -> None:
    prefix_list_id = _prefix_list_id(backend, parameters["service_name"])
    if parameters.get("subnet_ids") or parameters.get("security_group_ids"):
        message = "Subnet IDs and security groups are not supported for Gateway type VPC Endpoints."
        raise EC2ClientError("InvalidParameter", message)
    if len(_gateways(backend)) >= GATEWAY_ENDPOINTS_PER_REGION:
        raise EC2ClientError("VpcEndpointLimitExceeded", "The maximum number of VPC endpoints has been reached.")
    _check_tables(backend, parameters["vpc_id"], prefix_list_id, parameters["route_table_ids"])


def _remembered(backend: Any, token: str | None, parameters: dict[str, Any]) -> Any:
    """Return the endpoint that this client token has made already, or None."""
    # Kept on the backend, so that a reset of moto forgets them too.
    tokens = vars(backend).setdefault("endpoint_client_tokens", {})
    if token is None or token not in tokens:
        return None
    earlier, endpoint_id = tokens[token]
    if earlier != parameters:
        message = f"The client token {token} was used before with other parameters"
        raise EC2ClientError("IdempotentParameterMismatch", message)
    return backend.vpc_end_points.get(endpoint_id)


def _wrap_create() -> None:
    original = VPCBackend.create_vpc_endpoint

    def create_vpc_endpoint(backend: Any, *, client_token: str | None = None, **given: Any) -> Any:
        parameters = {
            **given,
            "endpoint_type": given.get("endpoint_type") or "Gateway",
            "route_table_ids": list(dict.fromkeys(given.get("route_table_ids") or [])),
        }
        vpc_id = parameters["vpc_id"]
        if is_shared(backend, vpc_id):
            raise EC2ClientError("UnauthorizedOperation", "This operation does not support shared VPCs.")
        with _lock:
            known = _remembered(backend, client_token, parameters)
            if known is not None:
                return known
            backend.get_vpc(vpc_id)
            _check_policy(parameters.get("policy_document"))
            arguments = dict(parameters)
            if parameters["endpoint_type"] == "Gateway":
                _check_gateway(backend, parameters)
                # A gateway endpoint has no private DNS; moto's default is that of interface endpoints.
                arguments["private_dns_enabled"] = False
            endpoint = original(backend, client_token=client_token, **arguments)
            if client_token is not None:
                backend.endpoint_client_tokens[client_token] = (parameters, endpoint.id)
            return endpoint

    VPCBackend.create_vpc_endpoint = create_vpc_endpoint


def _wrap_modify() -> None:
    original = VPCBackend.modify_vpc_endpoint

    def modify_vpc_endpoint(backend: Any, vpc_id: str, policy_doc: str | None = None, **changes: Any) -> None:
        with _lock:
            # moto calls the endpoint's id vpc_id here.
            (endpoint,) = backend.describe_vpc_endpoints([vpc_id])
            _check_policy(policy_doc)
            added = [t for t in changes.get("add_route_tables") or [] if t not in endpoint.route_table_ids]
            removed = [t for t in changes.get("remove_route_tables") or [] if t in endpoint.route_table_ids]
            prefix_list_id = endpoint.destination_prefix_list_id
            if prefix_list_id:
                _check_tables(backend, endpoint.vpc_id, prefix_list_id, added)
                for table_id in added:
                    backend.create_route(
                        table_id, None, gateway_id=endpoint.id, destination_prefix_list_id=prefix_list_id
                    )
                for table_id in removed:
                    backend.delete_route(table_id, prefix_list_id)
            original(backend, vpc_id, policy_doc, **changes)

    original_answer = VPCs.modify_vpc_endpoint

    def answer(http: Any) -> Any:
        result = original_answer(http)
        if http._get_param("ResetPolicy"):
            endpoint = http.ec2_backend.vpc_end_points[http._get_param("VpcEndpointId")]
            endpoint.policy_document = json.dumps(VPCEndPoint.DEFAULT_POLICY)
        return result

    VPCBackend.modify_vpc_endpoint = modify_vpc_endpoint
    VPCs.modify_vpc_endpoint = answer


def _wrap_delete() -> None:
    original = VPCBackend.delete_vpc_endpoints

    def delete_vpc_endpoints(backend: Any, vpce_ids: list[str] | None = None) -> None:
        with _lock:
            original(backend, vpce_ids)
            for endpoint_id in vpce_ids or []:
                backend.vpc_end_points.pop(endpoint_id, None)

    def answer(http: Any) -> Any:
        known, unsuccessful = [], []
        for endpoint_id in http._get_param("VpcEndpointIds", []):
            if endpoint_id in http.ec2_backend.vpc_end_points:
                known.append(endpoint_id)
            else:
                message = f"The Vpc Endpoint Id '{endpoint_id}' does not exist"
                error = {"Code": "InvalidVpcEndpointId.NotFound", "Message": message}
                unsuccessful.append({"ResourceId": endpoint_id, "Error": error})
        http.ec2_backend.delete_vpc_endpoints(known)
        return ActionResult({"Unsuccessful": unsuccessful})

    VPCBackend.delete_vpc_endpoints = delete_vpc_endpoints
    VPCs.delete_vpc_endpoints = answer


def _wrap_deletion_of_what_they_hang_on() -> None:
    """A deleted route table leaves its endpoint; a VPC with an endpoint cannot be deleted."""
    original_delete_table = RouteBackend.delete_route_table
    original_delete_vpc = VPCBackend.delete_vpc

    def delete_route_table(backend: Any, route_table_id: str) -> None:
        with _lock:
            original_delete_table(backend, route_table_id)
            for endpoint in _gateways(backend):
                endpoint.route_table_ids = [t for t in endpoint.route_table_ids if t != route_table_id]

    def delete_vpc(backend: Any, vpc_id: str) -> Any:
        if any(endpoint.vpc_id == vpc_id for endpoint in backend.vpc_end_points.values()):
            message = f"The vpc '{vpc_id}' has dependencies and cannot be deleted."
            raise EC2ClientError("DependencyViolation", message)
        return original_delete_vpc(backend, vpc_id)

    RouteBackend.delete_route_table = delete_route_table
    VPCBackend.delete_vpc = delete_vpc


def _wrap_dry_run(name: str) -> None:
    """Let an endpoint call with DryRun end in DryRunOperation and nothing else."""
    original = getattr(VPCs, name)

    def call(http: Any) -> Any:
        http.error_on_dryrun()
        return original(http)

    setattr(VPCs, name, call)


def install() -> None:
    """Patch moto's endpoint calls (once: the caller sees to that)."""
    _wrap_create()
    _wrap_modify()
    _wrap_delete()
    _wrap_deletion_of_what_they_hang_on()
    for name in ("create_vpc_endpoint", "modify_vpc_endpoint", "delete_vpc_endpoints"):
        _wrap_dry_run(name)
