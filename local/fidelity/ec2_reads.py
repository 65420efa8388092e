"""Describe calls: pages, filters and edge associations.

Source: the botocore EC2 model for page sizes (a value above the maximum is InvalidParameterValue, a broken
token InvalidPaginationToken in EC2's list of error codes); EC2 API Reference for the filters; VPC User
Guide, "Gateway route tables". moto returns everything at once, and several documented filters crash it.
"""

from __future__ import annotations

import base64
import fnmatch
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2 import utils as ec2_utils
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend
from moto.ec2.models.route_tables import RouteTable
from moto.ec2.models.vpcs import VPCBackend, VPCEndPoint
from moto.ec2.responses import EC2Response

_PAGED = {
    # method: (name of the list in the response, MaxResults at least, at most)
    "describe_vpcs": ("Vpcs", 5, 1000),
    "describe_subnets": ("Subnets", 5, 1000),
    "describe_route_tables": ("RouteTables", 5, 100),
    "describe_vpc_endpoints": ("VpcEndpoints", 1, 1000),
    "describe_iam_instance_profile_associations": ("IamInstanceProfileAssociations", 5, 1000),
}
_ALL = 1_000_000


def _start_of(token: str | None) -> int:
    """Read a page token; it is opaque to callers, as AWS's are."""
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token).decode())
    except ValueError:
        raise EC2ClientError("InvalidPaginationToken", "The specified pagination token is not valid.") from None


def _wrap_paging(method_name: str, list_name: str, at_least: int, at_most: int) -> None:
    original = getattr(EC2Response, method_name)

    def describe(http: Any) -> Any:
        limit = http._get_int_param("MaxResults")
        if limit is not None and not at_least <= limit <= at_most:
            message = f"Value ( {limit} ) for parameter maxResults is invalid. Expecting {at_least} to {at_most}"
            raise EC2ClientError("InvalidParameterValue", message)
        result = dict(original(http).result)
        items = list(result[list_name])
        start = _start_of(http._get_param("NextToken"))
        end = len(items) if limit is None else start + limit
        token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else None
        return ActionResult({**result, list_name: items[start:end], "NextToken": token})

    setattr(EC2Response, method_name, describe)


def _unlimited_associations() -> None:
    """Undo the cut: moto stops at 100 associations and reads the token itself; the pages above are enough."""
    original = IamInstanceProfileAssociationBackend.describe_iam_instance_profile_associations

    def describe(backend: Any, association_ids: list[str], filters: Any = None, *_: Any) -> Any:
        return original(backend, association_ids, filters, _ALL, None)

    IamInstanceProfileAssociationBackend.describe_iam_instance_profile_associations = describe


def _wrap_filter_matching() -> None:
    """A filter matches when any of its values matches any of the resource's, not all of one side."""
    original = ec2_utils.is_filter_matching

    def is_filter_matching(resource: Any, name: str, wanted: Any) -> bool:
        value = resource.get_filter_value(name)
        if wanted is None or value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
            return bool(original(resource, name, wanted))
        patterns = [pattern for pattern in wanted if pattern is not None]
        return any(fnmatch.fnmatchcase(str(one), pattern) for one in value for pattern in patterns)

    ec2_utils.is_filter_matching = is_filter_matching


def _wrap_filter_names() -> None:
    """Add the documented filters that moto does not know."""
    endpoint_value = VPCEndPoint.get_filter_value
    table_value = RouteTable.get_filter_value

    def endpoint_filter_value(endpoint: Any, filter_name: str, method_name: str | None = None) -> Any:
        return endpoint.id if filter_name == "vpc-endpoint-id" else endpoint_value(endpoint, filter_name, method_name)

    def table_filter_value(table: Any, filter_name: str, method_name: str | None = None) -> Any:
        if filter_name == "association.gateway-id":
            return [association["GatewayId"] for association in table.associations if "GatewayId" in association]
        if filter_name == "route.destination-prefix-list-id":
            return [route.destination_prefix_list_id for route in table.routes if route.destination_prefix_list_id]
        return table_value(table, filter_name, method_name)

    VPCEndPoint.get_filter_value = endpoint_filter_value
    RouteTable.get_filter_value = table_filter_value


def _wrap_service_filters() -> None:
    """Filters of DescribeVpcEndpointServices carry `Values`; moto reads `Value` and crashes."""
    original = VPCBackend._filter_endpoint_services

    def filter_services(names: list[str], filters: list[dict[str, Any]], services: list[Any]) -> Any:
        renamed = [{"Name": item["Name"], "Value": list(item.get("Values", []))} for item in filters]
        return original(names, renamed, services)

    VPCBackend._filter_endpoint_services = staticmethod(filter_services)


def _show_virtual_private_gateways() -> None:
    """List the gateway of an edge association whatever its kind; moto shows internet gateways only."""
    original = RouteTable.associations.fget

    def associations(table: Any) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = original(table)
        for association in shown:
            target = table._associations.get(association["RouteTableAssociationId"], "")
            if target.startswith("vgw-"):
                association["GatewayId"] = target
        return shown

    RouteTable.associations = property(associations)


def install() -> None:
    """Patch moto's describe calls (once: the caller sees to that)."""
    for method_name, (list_name, at_least, at_most) in _PAGED.items():
        _wrap_paging(method_name, list_name, at_least, at_most)
    _unlimited_associations()
    _wrap_filter_matching()
    _wrap_filter_names()
    _wrap_service_filters()
    _show_virtual_private_gateways()
