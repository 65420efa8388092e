"""Gateway endpoints: their routes, checks, idempotency, deletion and filters.

Source: AWS PrivateLink Guide, "Gateway endpoints"; EC2 API Reference, its list of error codes, and "Ensuring
idempotency". moto lets a second endpoint take over a route, leaves routes alone on modification, keeps deleted
endpoints for ever, checks neither service nor token, knows no addresses of prefix lists, and crashes on some filters.

What a token does whose endpoint has been deleted is documented for instances only. Here it is the same: a repeated
request does nothing further, and so creates nothing.
"""

from __future__ import annotations

import threading
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.route_tables import RouteBackend
from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.models.vpcs import VPCBackend, VPCEndPoint
from moto.ec2.responses.vpcs import VPCs

# The same in every Region; on AWS each has its own.
_CIDRS = {"s3": ["3.5.0.0/19", "52.216.0.0/15", "54.231.0.0/16"], "dynamodb": ["3.218.180.0/22", "52.94.0.0/22"]}
# Checking route tables and writing their routes must be one step, as it is in AWS.
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


def _wrap_create() -> None:
    original = VPCBackend.create_vpc_endpoint

    def create_vpc_endpoint(backend: Any, *, client_token: str | None = None, **parameters: Any) -> Any:
        parameters["endpoint_type"] = parameters.get("endpoint_type") or "Gateway"
        # Kept on the backend, so that a reset of moto forgets them too.
        tokens = vars(backend).setdefault("endpoint_client_tokens", {})
        with _lock:
            wanted, known = tokens.get(client_token, (parameters, None))
            if wanted != parameters:
                raise EC2ClientError("IdempotentParameterMismatch", f"{client_token} was used with other parameters")
            if known is not None:
                return known
            arguments = dict(parameters)
            if parameters["endpoint_type"] == "Gateway":
                prefix_list_id = _prefix_list_id(backend, parameters["service_name"])
                _check_tables(backend, parameters["vpc_id"], prefix_list_id, parameters["route_table_ids"])
                # A copy, which modifications change; and no private DNS, which moto takes for the default.
                tables = list(dict.fromkeys(parameters["route_table_ids"]))
                arguments |= {"route_table_ids": tables, "private_dns_enabled": False}
            endpoint = original(backend, client_token=client_token, **arguments)
            if client_token is not None:
                tokens[client_token] = (parameters, endpoint)
            for interface in (backend.enis[one] for one in endpoint.network_interface_ids):
                interface.interface_type, interface.requester_managed = "vpc_endpoint", True
                interface.description, interface.status = f"VPC Endpoint Interface {endpoint.id}", "in-use"
            return endpoint

    VPCBackend.create_vpc_endpoint = create_vpc_endpoint


def _wrap_modify() -> None:
    original = VPCBackend.modify_vpc_endpoint

    def modify_vpc_endpoint(backend: Any, vpc_id: str, policy_doc: str | None = None, **changes: Any) -> None:
        with _lock:
            # moto calls the endpoint's id vpc_id here.
            (endpoint,) = backend.describe_vpc_endpoints([vpc_id])
            prefix_list_id = endpoint.destination_prefix_list_id
            if prefix_list_id:
                added = [t for t in changes.get("add_route_tables") or [] if t not in endpoint.route_table_ids]
                _check_tables(backend, endpoint.vpc_id, prefix_list_id, added)
                for table_id in added:
                    route = {"gateway_id": endpoint.id, "destination_prefix_list_id": prefix_list_id}
                    backend.create_route(table_id, None, **route)
                for table_id in set(changes.get("remove_route_tables") or ()) & set(endpoint.route_table_ids):
                    backend.delete_route(table_id, prefix_list_id)
            original(backend, vpc_id, policy_doc, **changes)

    VPCBackend.modify_vpc_endpoint = modify_vpc_endpoint


def _wrap_delete() -> None:
    original = VPCBackend.delete_vpc_endpoints

    def delete_vpc_endpoints(backend: Any, vpce_ids: list[str] | None = None) -> None:
        with _lock:
            original(backend, vpce_ids)
            for endpoint_id in vpce_ids or []:
                backend.vpc_end_points.pop(endpoint_id, None)

    def answer(http: Any) -> Any:
        wanted = http._get_param("VpcEndpointIds", [])
        unknown = [endpoint_id for endpoint_id in wanted if endpoint_id not in http.ec2_backend.vpc_end_points]
        http.ec2_backend.delete_vpc_endpoints(wanted)
        error = {"Code": "InvalidVpcEndpointId.NotFound", "Message": "The Vpc Endpoint Id does not exist"}
        return ActionResult({"Unsuccessful": [{"ResourceId": one, "Error": error} for one in unknown]})

    VPCBackend.delete_vpc_endpoints = delete_vpc_endpoints
    VPCs.delete_vpc_endpoints = answer


def _wrap_deletion_of_what_they_hang_on() -> None:
    """A deleted route table leaves its endpoint; a VPC with an endpoint, and a subnet in use, cannot be deleted."""
    original_delete_table = RouteBackend.delete_route_table
    original_delete_vpc = VPCBackend.delete_vpc
    original_delete_subnet = SubnetBackend.delete_subnet

    def delete_route_table(backend: Any, route_table_id: str) -> None:
        with _lock:
            original_delete_table(backend, route_table_id)
            for endpoint in backend.vpc_end_points.values():
                endpoint.route_table_ids = [t for t in endpoint.route_table_ids if t != route_table_id]

    def delete_vpc(backend: Any, vpc_id: str) -> Any:
        if any(endpoint.vpc_id == vpc_id for endpoint in backend.vpc_end_points.values()):
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
    _wrap_modify()
    _wrap_delete()
    _wrap_deletion_of_what_they_hang_on()
    _wrap_filters()
    _wrap_prefix_lists()
