"""The security groups of our endpoints: one for each control in a VPC, found again by name, gone with the last of them.

Sources: CreateSecurityGroup, AuthorizeSecurityGroupIngress, RevokeSecurityGroupEgress and DeleteSecurityGroup (EC2 API
reference); "Default security groups for your VPCs" (VPC user guide) for the rules of a new group.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.actions import DeleteSecurityGroup
from portcullis.adapters.calls import AWS_ERRORS, fault_of
from portcullis.adapters.remediator.ec2 import code_of, tagged, unless
from portcullis.errors import Fault, PortcullisError, TransientError, is_gone, is_in_use, is_there
from portcullis.model import CHANGE_TAG, OWNERSHIP_TAG, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from portcullis.actions import (
        CreateInstanceConnectEndpoint,
        CreateInterfaceEndpoint,
        DeleteEndpoint,
        DeleteInstanceConnectEndpoint,
    )

PERMISSIONS = (
    "ec2:AuthorizeSecurityGroupEgress",
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateSecurityGroup",
    "ec2:CreateTags",
    "ec2:DeleteSecurityGroup",
    "ec2:DescribeSecurityGroups",
    "ec2:RevokeSecurityGroupEgress",
)
"""The IAM actions that this module uses, with the remediator role."""

_ANYWHERE = ("0.0.0.0/0", "::/0")


@contextmanager
def own_group(
    ec2: Any, action: CreateInterfaceEndpoint | CreateInstanceConnectEndpoint, change_id: str, purpose: str
) -> Iterator[tuple[str, bool]]:
    """Provide the id of our security group for a new endpoint: the one that the action names, or by its name.

    With it comes whether this very change made it: then it is deleted again when AWS refuses the endpoint for good.

    Raises:
        PortcullisError: A group of somebody else has the name.
        TransientError: The group is there, and AWS does not show it yet.
    """
    group_id, is_new = (action.group_id, False) if action.group_id else _made_or_found(ec2, action, change_id, purpose)
    try:
        yield group_id, is_new
    except ClientError as error:
        if is_new and fault_of(error)[0] is Fault.TERMINAL:
            with suppress(*AWS_ERRORS):
                ec2.delete_security_group(GroupId=group_id)
        raise


def _made_or_found(ec2: Any, action: Any, change_id: str, purpose: str) -> tuple[str, bool]:
    name = f"portcullis-{action.control_id}"
    try:
        made = ec2.create_security_group(
            GroupName=name,
            Description=f"Made by Portcullis for {action.control_id}: {purpose}",
            VpcId=action.vpc_id,
            TagSpecifications=tagged("security-group", action, change_id),
        )
    except ClientError as error:
        if not is_there(code_of(error)):
            raise
        return _found(ec2, action.vpc_id, name, change_id)
    return made["GroupId"], True


def _found(ec2: Any, vpc_id: str, name: str, change_id: str) -> tuple[str, bool]:
    groups = _described(ec2, {"vpc-id": vpc_id, "group-name": name})
    if not groups:
        raise TransientError(f"AWS does not show the security group {name} of {vpc_id} yet")
    group_id: str = groups[0]["GroupId"]
    tags = groups[0].get("Tags", [])
    if {"Key": OWNERSHIP_TAG, "Value": "true"} not in tags:
        raise PortcullisError(
            f"{group_id} in {vpc_id} is called {name} and is not Portcullis's, by its tags: delete it, or put the tag "
            f"{OWNERSHIP_TAG} back if somebody took it off"
        )
    return group_id, {"Key": CHANGE_TAG, "Value": change_id} in tags


def _described(ec2: Any, filters: dict[str, str]) -> list[dict[str, Any]]:
    wanted = [{"Name": name, "Values": [value]} for name, value in filters.items()]
    groups: list[dict[str, Any]] = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
    return groups


def admit(ec2: Any, group_id: str, ports: Iterable[int], cidrs: Iterable[str]) -> None:
    """Let a group of ours admit TCP ports from address blocks, of IPv4 and IPv6; what it admits already is fine.

    One rule a call: AWS takes none of several when it has one of them.
    """
    _authorize(ec2.authorize_security_group_ingress, group_id, ports, cidrs)


def let_out(ec2: Any, group_id: str, ports: Iterable[int], cidrs: Iterable[str], *, is_new: bool) -> None:
    """Let a group of ours out to TCP ports of address blocks; a new one no longer everywhere, as AWS makes it.

    From a group that was there nothing is taken: whatever else uses it might need that.
    """
    _authorize(ec2.authorize_security_group_egress, group_id, ports, cidrs)
    for cidr in _ANYWHERE if is_new else ():
        rule = {"IpProtocol": "-1", **_range(cidr)}
        unless(is_gone, ec2.revoke_security_group_egress, GroupId=group_id, IpPermissions=[rule])


def _authorize(call: Callable[..., Any], group_id: str, ports: Iterable[int], cidrs: Iterable[str]) -> None:
    for rule in [{**tcp(port), **_range(cidr)} for port in ports for cidr in cidrs]:
        unless(is_there, call, GroupId=group_id, IpPermissions=[rule])


def tcp(port: int) -> dict[str, Any]:
    """Return the beginning of an IpPermission: one TCP port."""
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}


def _range(cidr: str) -> dict[str, Any]:
    return {"Ipv6Ranges": [{"CidrIpv6": cidr}]} if ":" in cidr else {"IpRanges": [{"CidrIp": cidr}]}


def after_its_endpoint(ec2: Any, action: DeleteEndpoint | DeleteInstanceConnectEndpoint, what: str) -> Outcome:
    """Delete the security group of an endpoint that was just deleted, if the action names one.

    RETRY while the endpoint's network interfaces go. A group that rules of other groups name cannot go: it stays, to be
    found again by name.
    """
    if not action.group_id:
        return Outcome(action, Result.APPLIED, action.endpoint_id, f"Portcullis deleted {what}.")
    if _is_deleted(ec2, action.group_id):
        detail = f"Portcullis deleted {what} and its security group {action.group_id}."
        return Outcome(action, Result.APPLIED, action.endpoint_id, detail)
    if naming := _naming(ec2, action.group_id):
        detail = f"Portcullis deleted {what}; its security group {action.group_id} stays, named in rules of {naming}."
        return Outcome(action, Result.APPLIED, action.endpoint_id, detail)
    detail = (
        f"Portcullis deleted {what}, but not yet its security group {action.group_id}: AWS takes a minute or more to "
        "remove the network interfaces."
    )
    return Outcome(action, Result.RETRY, detail=detail)


def _delete(ec2: Any, action: DeleteSecurityGroup, _: str) -> Outcome:
    """Delete a group of ours that is in the way; RETRY while network interfaces have it."""
    if _is_deleted(ec2, action.group_id):
        return Outcome(action, Result.APPLIED, action.group_id, f"Portcullis deleted {action.group_id}.")
    if naming := _naming(ec2, action.group_id):
        detail = f"Portcullis could not {action}: rules of {naming} name it."
        return Outcome(action, Result.FAILED, detail=detail)
    detail = f"Portcullis could not {action} yet: a network interface still has it."
    return Outcome(action, Result.RETRY, detail=detail)


def _is_deleted(ec2: Any, group_id: str) -> bool:
    """Delete a group, gone is fine; False when AWS says that something depends on it."""
    try:
        unless(is_gone, ec2.delete_security_group, GroupId=group_id)
    except ClientError as error:
        if not is_in_use(code_of(error)):
            raise
        return False
    return True


def _naming(ec2: Any, group_id: str) -> str:
    """List the other groups whose rules name a group."""
    filters = ("ip-permission.group-id", "egress.ip-permission.group-id")
    found = {one["GroupId"] for name in filters for one in _described(ec2, {name: group_id})}
    return ", ".join(sorted(found - {group_id}))


PERFORMERS: dict[type, Callable[[Any, Any, str], Outcome]] = {DeleteSecurityGroup: _delete}
"""What performs each kind of action."""
