"""Changes for EC2 Instance Connect Endpoints.

Sources: CreateInstanceConnectEndpoint (EC2 API reference); "Grant permissions to use EC2 Instance Connect Endpoint" and
"Security groups for EC2 Instance Connect Endpoint" (EC2 user guide).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.actions import (
    AdmitInstanceConnect,
    CreateInstanceConnectEndpoint,
    DeleteInstanceConnectEndpoint,
    StopAdmitting,
)
from portcullis.adapters.calls import fault_of
from portcullis.adapters.remediator.ec2 import code_of, tagged, unless
from portcullis.adapters.remediator.groups import after_its_endpoint, let_out, own_group, tcp
from portcullis.errors import Fault, is_gone, is_there
from portcullis.model import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PERMISSIONS = (
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateInstanceConnectEndpoint",
    "ec2:CreateNetworkInterface",
    "ec2:CreateTags",
    "ec2:DeleteInstanceConnectEndpoint",
    "ec2:DescribeSecurityGroups",
    "ec2:RevokeSecurityGroupIngress",
    "iam:CreateServiceLinkedRole",
)
"""The IAM actions that this module uses, with the remediator role; creating an endpoint asks for four of them."""

_PURPOSE = "lets the EC2 Instance Connect Endpoint out to this VPC"
_ALIVE = ("create-complete", "create-in-progress", "update-complete", "update-in-progress")


def _create(ec2: Any, action: CreateInstanceConnectEndpoint, change_id: str) -> Outcome:
    # Only an endpoint of IPv4 alone can preserve the client's address; AWS's default is that of the subnet.
    options = {"IpAddressType": "ipv4"} if action.preserve_client_ip else {}
    with own_group(ec2, action, change_id, _PURPOSE) as (group_id, is_new):
        let_out(ec2, group_id, action.ports, action.cidrs, is_new=is_new)
        endpoint = ec2.create_instance_connect_endpoint(
            SubnetId=action.subnet_id,
            SecurityGroupIds=[group_id],
            PreserveClientIp=action.preserve_client_ip,
            ClientToken=change_id,
            TagSpecifications=tagged("instance-connect-endpoint", action, change_id),
            **options,
        )["InstanceConnectEndpoint"]
    made = endpoint["InstanceConnectEndpointId"]
    if (state := endpoint.get("State", "").lower()) not in _ALIVE:
        why = f" ({endpoint['StateMessage']})" if endpoint.get("StateMessage") else ""
        detail = f"{made}, which this change had created, is {state or 'gone'}{why}; Portcullis tries again."
        return Outcome(action, Result.RETRY, made, detail)
    detail = f"Portcullis created {made} in {action.subnet_id}; it takes AWS some minutes to complete it."
    return Outcome(action, Result.APPLIED, made, detail)


def _delete(ec2: Any, action: DeleteInstanceConnectEndpoint, _: str) -> Outcome:
    try:
        ec2.delete_instance_connect_endpoint(InstanceConnectEndpointId=action.endpoint_id)
    except ClientError as error:
        if not (action.group_id and is_gone(code_of(error))):
            raise
    return after_its_endpoint(ec2, action, action.endpoint_id)


def _admit(ec2: Any, action: AdmitInstanceConnect, change_id: str) -> Outcome:
    """Make the rules, or none of them: what is not of this change, undoing it must not revoke."""
    mark = f"Made by Portcullis for {action.control_id}: {change_id}"
    source = {"GroupId": action.source_group_id, "Description": mark}
    made: list[int] = []
    for port in action.ports:
        try:
            ec2.authorize_security_group_ingress(
                GroupId=action.group_id,
                IpPermissions=[{**tcp(port), "UserIdGroupPairs": [source]}],
                TagSpecifications=tagged("security-group-rule", action, change_id),
            )
        except ClientError as error:
            is_taken = is_there(code_of(error))
            if not (is_taken and _is_made(ec2, action, port, mark)):
                if fault_of(error)[0] is Fault.TERMINAL:
                    _revoke(ec2, action, made)
                if not is_taken:
                    raise
                detail = f"Somebody else let {action.group_id} admit {action.source_group_id} on TCP {port} meanwhile."
                return Outcome(action, Result.RETRY, detail=f"{detail} Portcullis looks again.", is_refuted=True)
        made.append(port)
    detail = f"Portcullis lets {action.group_id} admit {action.source_group_id} on TCP {_ports(action)}."
    return Outcome(action, Result.APPLIED, action.group_id, detail)


def _is_made(ec2: Any, action: AdmitInstanceConnect, port: int, mark: str) -> bool:
    """Tell whether the rule that is there is of an earlier try of the same change."""
    groups = ec2.describe_security_groups(GroupIds=[action.group_id])["SecurityGroups"]
    return any(
        (pair["GroupId"], pair.get("Description")) == (action.source_group_id, mark)
        for group in groups
        for rule in group["IpPermissions"]
        if tcp(port).items() <= rule.items()
        for pair in rule["UserIdGroupPairs"]
    )


def _stop_admitting(ec2: Any, action: StopAdmitting, _: str) -> Outcome:
    _revoke(ec2, action, action.ports)
    detail = f"Portcullis no longer lets {action.group_id} admit {action.source_group_id} on TCP {_ports(action)}."
    return Outcome(action, Result.APPLIED, action.group_id, detail)


def _revoke(ec2: Any, action: AdmitInstanceConnect, ports: Iterable[int]) -> None:
    for port in ports:
        rule = {**tcp(port), "UserIdGroupPairs": [{"GroupId": action.source_group_id}]}
        unless(is_gone, ec2.revoke_security_group_ingress, GroupId=action.group_id, IpPermissions=[rule])


def _ports(action: AdmitInstanceConnect) -> str:
    return ", ".join(map(str, action.ports))


PERFORMERS: dict[type, Callable[[Any, Any, str], Outcome]] = {
    AdmitInstanceConnect: _admit,
    CreateInstanceConnectEndpoint: _create,
    DeleteInstanceConnectEndpoint: _delete,
    StopAdmitting: _stop_admitting,
}
"""What performs each kind of action."""
