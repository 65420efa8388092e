"""Making way: which endpoints of ours stand in somebody's way, and whether they are still as we left them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.actions import (
    DeleteEndpoint,
    DeleteInstanceConnectEndpoint,
    DeleteSecurityGroup,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
)
from portcullis.controls.role_1 import ROLE_1
from portcullis.model import CONTROL_TAG, Instance, Vpc, VpcEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from portcullis.actions import Action
    from portcullis.model import Conflict, InstanceConnectEndpoint, Made, Resource
    from portcullis.surroundings import Surroundings


def concerns(conflict: Conflict, vpc: Vpc) -> bool:
    """Tell whether a conflict that named no VPC is about this one."""
    subnet_ids = {one.subnet_id for one in vpc.subnets} | {one.subnet_id for one in vpc.instance_connect}
    return conflict.subnet_id in subnet_ids or any(
        endpoint.endpoint_id == conflict.endpoint_id or conflict.subnet_id in endpoint.subnet_ids
        for endpoint in vpc.endpoints
    )


def obstacles(
    conflict: Conflict, resource: Resource | None, made: Mapping[str, Made], around: Surroundings | None
) -> Iterator[tuple[Action, str, list[str]]]:
    """Find what makes way for a call that failed: exactly what stands in its way, and nothing of others.

    Args:
        conflict: The call.
        resource: The VPC or instance as it is now.
        made: What of it is ours, as we left it.
        around: What runs in the VPC; asked for when the VPC was to be deleted. While it has subnets, or something
            runs there, our endpoints are not what keeps it.

    Returns:
        For each thing of ours that stands in the way: the action that makes way, the thing's id, and what about it is
        not as we left it. With any of that, it must stay.
    """
    if isinstance(resource, Instance) and conflict.call == "AssociateIamInstanceProfile" and resource.profile:
        name = resource.association_id
        if name in made:
            yield DisassociateInstanceProfile(ROLE_1.id, resource.instance_id, resource.profile.name, name), name, []
    if not isinstance(resource, Vpc):
        return
    is_empty = around is not None and not around.subnets and not around.interfaces
    endpoints: list[VpcEndpoint | InstanceConnectEndpoint] = [*resource.endpoints, *resource.instance_connect]
    for endpoint in endpoints:
        action = _making_way(conflict, endpoint, resource, is_empty=is_empty)
        if action and endpoint.is_ours and resource.endpoint_of_any_kind(endpoint.endpoint_id):
            yield action, endpoint.endpoint_id, differences(made.get(endpoint.endpoint_id), endpoint)
    if conflict.call == "DeleteVpc" and is_empty and not endpoints:
        for group in resource.groups.values():
            if group.is_ours():
                control_id = group.tags.get(CONTROL_TAG, "")
                yield DeleteSecurityGroup(control_id, resource.vpc_id, group.group_id), group.group_id, []


def _making_way(
    conflict: Conflict, endpoint: VpcEndpoint | InstanceConnectEndpoint, vpc: Vpc, *, is_empty: bool
) -> Action | None:
    """Return what makes way for a call, if an endpoint stands in its way."""
    if not isinstance(endpoint, VpcEndpoint):
        # There can be only one in a VPC.
        is_wanted = conflict.call == "CreateInstanceConnectEndpoint"
        is_in_it = conflict.call == "DeleteSubnet" and conflict.subnet_id == endpoint.subnet_id
        return _delete(endpoint, vpc) if is_wanted or is_in_it or (conflict.call == "DeleteVpc" and is_empty) else None
    match conflict.call:
        case "CreateVpcEndpoint" | "ModifyVpcEndpoint":
            return _for_their_endpoint(endpoint, conflict, vpc)
        case "DeleteSubnet" if conflict.subnet_id in endpoint.subnet_ids:
            return (
                _delete(endpoint, vpc) if len(endpoint.subnet_ids) == 1 else _less(endpoint, (), (conflict.subnet_id,))
            )
        case "DeleteVpc" if is_empty:
            return _delete(endpoint, vpc)
    return None


def differences(made: Made | None, endpoint: VpcEndpoint | InstanceConnectEndpoint) -> list[str]:
    """Say how an endpoint differs from what we left, a clause each. Less of it is no reason to keep it."""
    if made is None:
        return [f"{endpoint.endpoint_id} is not in the ledger"]
    found = []
    if not endpoint.is_ours:
        found.append(f"{endpoint.endpoint_id} has lost the tag that marks it as Portcullis's")
    if not isinstance(endpoint, VpcEndpoint):
        return found
    added = {*endpoint.route_table_ids, *endpoint.subnet_ids} - {*made.route_table_ids, *made.subnet_ids}
    if added:
        found.append(f"{endpoint.endpoint_id} was given {', '.join(sorted(added))}")
    if endpoint.policy_digest != made.policy_digest:
        found.append(f"the policy of {endpoint.endpoint_id} was changed")
    return found


def _for_their_endpoint(endpoint: VpcEndpoint, conflict: Conflict, vpc: Vpc) -> Action | None:
    """Take the tables off that the caller wants for its own endpoint of the service, or leave it the private name.

    A call that names tables is for a gateway endpoint and fails over their routes; one that names none, over the name.
    """
    theirs = vpc.endpoint(conflict.endpoint_id)
    service_name = theirs.service_name if theirs else conflict.service_name
    if endpoint.endpoint_id == conflict.endpoint_id or endpoint.service_name != service_name:
        return None
    wanted = set(conflict.route_table_ids)
    in_the_way = tuple(sorted(set(endpoint.route_table_ids) & wanted))
    if (endpoint.private_dns and not wanted) or (in_the_way and set(endpoint.route_table_ids) <= wanted):
        return _delete(endpoint, vpc)
    return _less(endpoint, in_the_way, ()) if in_the_way else None


def _less(endpoint: VpcEndpoint, route_table_ids: tuple[str, ...], subnet_ids: tuple[str, ...]) -> Action:
    control_id = endpoint.tags.get(CONTROL_TAG, "")
    return RemoveFromEndpoint(
        control_id, endpoint.vpc_id, endpoint.endpoint_id, endpoint.service_name, route_table_ids, subnet_ids
    )


def _delete(endpoint: VpcEndpoint | InstanceConnectEndpoint, vpc: Vpc) -> Action:
    control_id, group_id = endpoint.tags.get(CONTROL_TAG, ""), vpc.group_only_of(endpoint.endpoint_id)
    if isinstance(endpoint, VpcEndpoint):
        return DeleteEndpoint(control_id, vpc.vpc_id, endpoint.endpoint_id, endpoint.service_name, group_id)
    return DeleteInstanceConnectEndpoint(control_id, vpc.vpc_id, endpoint.endpoint_id, group_id)
