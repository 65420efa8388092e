"""Changes to VPC endpoints. Source: CreateVpcEndpoint and ModifyVpcEndpoint (EC2 API reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.actions import (
    AddRouteTables,
    CreateGatewayEndpoint,
    CreateInterfaceEndpoint,
    DeleteEndpoint,
    RemoveFromEndpoint,
    RestoreEndpointPolicy,
    SetEndpointPolicy,
)
from portcullis.adapters.remediator.ec2 import code_of, tagged
from portcullis.adapters.remediator.groups import admit, after_its_endpoint, own_group
from portcullis.endpoint_policies import FULL_ACCESS, digest
from portcullis.errors import TransientError, is_dns_conflict, is_gone
from portcullis.model import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The last three are asked of whoever creates an interface endpoint, and uses them on the caller's behalf ("Actions,
# resources, and condition keys for Amazon EC2", Service Authorization Reference: dependent actions).
PERMISSIONS = (
    "ec2:CreateTags",
    "ec2:CreateVpcEndpoint",
    "ec2:DeleteVpcEndpoints",
    "ec2:ModifyVpcEndpoint",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "route53:AssociateVPCWithHostedZone",
)
"""The IAM actions that this module uses, with the remediator role."""

_HTTPS = (443,)
_PURPOSE = "admits HTTPS from this VPC to its interface endpoints"
_ALIVE = ("available", "pending", "pendingacceptance")


def _create_gateway(ec2: Any, action: CreateGatewayEndpoint, change_id: str) -> Outcome:
    # botocore does not fill in ClientToken for this call; the type is AWS's default, but not everyone's.
    endpoint = ec2.create_vpc_endpoint(
        VpcId=action.vpc_id,
        ServiceName=action.service_name,
        VpcEndpointType="Gateway",
        RouteTableIds=list(action.route_table_ids),
        ClientToken=change_id,
        TagSpecifications=tagged("vpc-endpoint", action, change_id),
    )["VpcEndpoint"]
    return _created(action, endpoint, action.route_table_ids, "on")


def _create_interface(ec2: Any, action: CreateInterfaceEndpoint, change_id: str) -> Outcome:
    options = {"DnsOptions": {"PrivateDnsOnlyForInboundResolverEndpoint": True}} if action.resolver_only else {}
    try:
        with own_group(ec2, action, change_id, _PURPOSE) as (group_id, _):
            admit(ec2, group_id, _HTTPS, action.cidrs)
            endpoint = ec2.create_vpc_endpoint(
                VpcId=action.vpc_id,
                ServiceName=action.service_name,
                VpcEndpointType="Interface",
                SubnetIds=list(action.subnet_ids),
                SecurityGroupIds=[group_id],
                PrivateDnsEnabled=action.private_dns,
                ClientToken=change_id,
                TagSpecifications=tagged("vpc-endpoint", action, change_id),
                **options,
            )["VpcEndpoint"]
    except ClientError as error:
        if not is_dns_conflict(code_of(error), error.response["Error"].get("Message", "")):
            raise
        detail = (
            f"The private name of {action.service_name} already resolves in {action.vpc_id} to another endpoint, "
            "typically a centralised one whose hosted zone is associated with the VPC: Portcullis has nothing to mend. "
            f"Exempt the VPC from {action.control_id}, or set private_dns: false for an endpoint of its own."
        )
        return Outcome(action, Result.NEEDLESS, detail=detail)
    return _created(action, endpoint, action.subnet_ids, "in")


def _created(
    action: CreateGatewayEndpoint | CreateInterfaceEndpoint,
    endpoint: Mapping[str, Any],
    wanted: Sequence[str],
    where: str,
) -> Outcome:
    """Return the outcome of a creation from AWS's answer. A token may be answered with what was deleted since."""
    made, tables, subnets = endpoint["VpcEndpointId"], endpoint.get("RouteTableIds", []), endpoint.get("SubnetIds", [])
    if (state := endpoint.get("State", "").lower()) not in _ALIVE:
        detail = f"{made}, which this change had created, is {state or 'gone'}; Portcullis tries again."
        return Outcome(action, Result.RETRY, made, detail)
    if missing := set(wanted) - {*tables, *subnets}:
        raise TransientError(f"AWS created {made} without {sorted(missing)}")
    waits = " It serves once the owner of the service has accepted it." if state == "pendingacceptance" else ""
    detail = f"Portcullis created {made} ({action.service_name}) {where} {', '.join(wanted)}.{waits}"
    after = {
        "route_table_ids": sorted(tables),
        "subnet_ids": sorted(subnets),
        "policy_digest": digest(endpoint.get("PolicyDocument")),
    }
    return Outcome(action, Result.APPLIED, made, detail, after)


def _add(ec2: Any, action: AddRouteTables, _: str) -> Outcome:
    ec2.modify_vpc_endpoint(VpcEndpointId=action.endpoint_id, AddRouteTableIds=list(action.route_table_ids))
    tables = ", ".join(action.route_table_ids)
    detail = f"Portcullis added {tables} to {action.endpoint_id} ({action.service_name})."
    return Outcome(action, Result.APPLIED, action.endpoint_id, detail)


def _remove(ec2: Any, action: RemoveFromEndpoint, _: str) -> Outcome:
    parts = {"RemoveRouteTableIds": list(action.route_table_ids), "RemoveSubnetIds": list(action.subnet_ids)}
    ec2.modify_vpc_endpoint(
        VpcEndpointId=action.endpoint_id, **{name: values for name, values in parts.items() if values}
    )
    removed = ", ".join((*action.route_table_ids, *action.subnet_ids))
    detail = f"Portcullis took {removed} off {action.endpoint_id} ({action.service_name})."
    return Outcome(action, Result.APPLIED, action.endpoint_id, detail)


def _delete(ec2: Any, action: DeleteEndpoint, _: str) -> Outcome:
    try:
        _delete_only(ec2, action.endpoint_id)
    except ClientError as error:
        if not (action.group_id and is_gone(code_of(error))):
            raise
    return after_its_endpoint(ec2, action, f"{action.endpoint_id} ({action.service_name})")


def _delete_only(ec2: Any, endpoint_id: str) -> None:
    answer = ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])
    # An HTTP success says nothing yet: the error of each endpoint is only told here.
    for item in answer.get("Unsuccessful", []):
        raise ClientError({"Error": item["Error"]}, "DeleteVpcEndpoints")


def _set_policy(ec2: Any, action: SetEndpointPolicy, _: str) -> Outcome:
    # ResetPolicy is for gateway endpoints only; this is what it sets.
    ec2.modify_vpc_endpoint(VpcEndpointId=action.endpoint_id, PolicyDocument=action.document or FULL_ACCESS)
    done = f"put back what {action.name} replaced as" if action.takes_back else f"set {action.name} as"
    detail = f"Portcullis {done} the policy of {action.endpoint_id} ({action.service_name})."
    return Outcome(action, Result.APPLIED, action.endpoint_id, detail)


PERFORMERS: dict[type, Callable[[Any, Any, str], Outcome]] = {
    AddRouteTables: _add,
    CreateGatewayEndpoint: _create_gateway,
    CreateInterfaceEndpoint: _create_interface,
    DeleteEndpoint: _delete,
    RemoveFromEndpoint: _remove,
    RestoreEndpointPolicy: _set_policy,
    SetEndpointPolicy: _set_policy,
}
"""What performs each kind of action."""
