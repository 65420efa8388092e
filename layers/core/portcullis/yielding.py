"""Making way: which endpoints of ours stand in somebody's way, and whether they are still as we left them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.actions import DeleteEndpoint, DisassociateInstanceProfile, RemoveRouteTables
from portcullis.controls.role_1 import ROLE_1
from portcullis.model import CONTROL_TAG, Instance, Vpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from portcullis.ledger import Made
    from portcullis.model import Conflict, Resource, VpcEndpoint
    from portcullis.surroundings import Surroundings


Withdrawal = RemoveRouteTables | DeleteEndpoint | DisassociateInstanceProfile


def concerns(conflict: Conflict, vpc: Vpc) -> bool:
    """Tell whether a conflict that named no VPC is about this one."""
    return any(
        endpoint.endpoint_id == conflict.endpoint_id or conflict.subnet_id in endpoint.subnet_ids
        for endpoint in vpc.endpoints
    )


def obstacles(
    conflict: Conflict, resource: Resource | None, made: Mapping[str, Made], around: Surroundings | None
) -> Iterator[tuple[Withdrawal, str, list[str]]]:
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
    for endpoint in resource.endpoints:
        action: Withdrawal | None = None
        match conflict.call:
            case "CreateVpcEndpoint" | "ModifyVpcEndpoint":
                action = _without(endpoint, conflict, resource)
            case "DeleteSubnet" if conflict.subnet_id in endpoint.subnet_ids:
                action = _delete(endpoint)
            case "DeleteVpc" if around is not None and not around.subnets and not around.interfaces:
                action = _delete(endpoint)
        if action and endpoint.is_ours and resource.endpoint(endpoint.endpoint_id):
            yield action, endpoint.endpoint_id, differences(made.get(endpoint.endpoint_id), endpoint)


def differences(made: Made | None, endpoint: VpcEndpoint) -> list[str]:
    """Say how an endpoint differs from what we left, a clause each. Fewer route tables are no reason to keep it."""
    if made is None:
        return [f"{endpoint.endpoint_id} is not in the ledger"]
    found = []
    if not endpoint.is_ours:
        found.append(f"{endpoint.endpoint_id} has lost the tag that marks it as Portcullis's")
    if added := sorted(set(endpoint.route_table_ids) - set(made.route_table_ids)):
        found.append(f"{endpoint.endpoint_id} was given {', '.join(added)}")
    if endpoint.policy_digest != made.policy_digest:
        found.append(f"the policy of {endpoint.endpoint_id} was changed")
    return found


def _without(endpoint: VpcEndpoint, conflict: Conflict, vpc: Vpc) -> Withdrawal | None:
    """Take the tables off that the caller wants for its own endpoint of the same service."""
    theirs = vpc.endpoint(conflict.endpoint_id)
    service_name = theirs.service_name if theirs else conflict.service_name
    wanted = set(conflict.route_table_ids)
    in_the_way = tuple(sorted(set(endpoint.route_table_ids) & wanted))
    if endpoint.endpoint_id == conflict.endpoint_id or endpoint.service_name != service_name or not in_the_way:
        return None
    if set(endpoint.route_table_ids) <= wanted:
        return _delete(endpoint)
    control_id = endpoint.tags.get(CONTROL_TAG, "")
    return RemoveRouteTables(control_id, endpoint.vpc_id, endpoint.endpoint_id, endpoint.service_name, in_the_way)


def _delete(endpoint: VpcEndpoint) -> Withdrawal:
    control_id = endpoint.tags.get(CONTROL_TAG, "")
    return DeleteEndpoint(control_id, endpoint.vpc_id, endpoint.endpoint_id, endpoint.service_name)
