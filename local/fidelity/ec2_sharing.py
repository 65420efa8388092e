"""A shared VPC as its participant sees it.

Source: VPC User Guide, "Share your VPC subnets with other accounts"; AWS PrivateLink Guide, "Shared subnets"
(a participant cannot create, describe, modify or delete VPC endpoints). moto knows no sharing.
"""

from __future__ import annotations

from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.route_tables import RouteBackend
from moto.ec2.models.vpcs import VPCBackend


def share_vpc(owner_account_id: str, participant_account_id: str, region: str, vpc_id: str) -> None:
    """Let a participant account see a VPC, with its route tables, as owned by another account.

    Raises:
        EC2ClientError: the owner has no such VPC in the Region.
    """
    owner = ec2_backends[owner_account_id][region]
    owner.get_vpc(vpc_id)
    _shared(ec2_backends[participant_account_id][region])[vpc_id] = owner


def _shared(backend: Any) -> dict[str, Any]:
    """Return the owners' backends by the ids of the VPCs that are shared with this account and Region."""
    # Kept on the backend, so that a reset of moto forgets them too.
    shared: dict[str, Any] = vars(backend).setdefault("shared_vpcs", {})
    return shared


def is_shared(backend: Any, vpc_id: str) -> bool:
    """Return whether a VPC belongs to another account that shares it with this one."""
    return vpc_id in _shared(backend)


def install() -> None:
    """Patch moto's DescribeVpcs and DescribeRouteTables (once: the caller sees to that)."""
    own_vpcs = VPCBackend.describe_vpcs
    own_tables = RouteBackend.describe_route_tables

    def describe_vpcs(backend: Any, vpc_ids: list[str] | None = None, filters: Any = None) -> list[Any]:
        shared = _shared(backend)
        own_ids = [vpc_id for vpc_id in vpc_ids or [] if vpc_id not in shared]
        found = own_vpcs(backend, own_ids, filters) if own_ids or not vpc_ids else []
        for vpc_id, owner in shared.items():
            if not vpc_ids or vpc_id in vpc_ids:
                found = [*found, *own_vpcs(owner, [vpc_id], filters)]
        return list(found)

    def describe_route_tables(backend: Any, route_table_ids: list[str] | None = None, filters: Any = None) -> list[Any]:
        shared_tables = {
            table.id: owner
            for vpc_id, owner in _shared(backend).items()
            for table in own_tables(owner, None, {"vpc-id": [vpc_id]})
        }
        own_ids = [table_id for table_id in route_table_ids or [] if table_id not in shared_tables]
        found = own_tables(backend, own_ids, filters) if own_ids or not route_table_ids else []
        for table_id, owner in shared_tables.items():
            if not route_table_ids or table_id in route_table_ids:
                found = [*found, *own_tables(owner, [table_id], filters)]
        return list(found)

    VPCBackend.describe_vpcs = describe_vpcs
    RouteBackend.describe_route_tables = describe_route_tables
