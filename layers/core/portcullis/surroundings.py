"""What runs around a VPC's route tables, seen before a change to them. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.model import GroupRule


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """A network interface through which something runs now.

    ``instance_id`` names an instance that is not stopped; it is empty for one of a service (Lambda, RDS, ...).
    """

    interface_id: str
    subnet_id: str
    group_ids: tuple[str, ...] = ()
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class AclEntry:
    """An IPv4 entry of a network ACL; ``ports`` is None for all, ``protocol`` as EC2 writes it (``-1``, ``6``)."""

    number: int
    egress: bool
    allow: bool
    protocol: str
    cidr: str
    ports: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class PrefixList:
    """The addresses of a service, as DescribePrefixLists names them."""

    prefix_list_id: str
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a VPC's route tables.

    ``subnets`` maps every subnet of the VPC to its network ACL's id; ``prefix_lists`` maps service names to their
    addresses; ``groups`` holds what lets IPv4 out, and lacks those that the account cannot see. ``buckets`` names those
    of the account's buckets in this Region whose policies depend on the source address, ``unread_buckets`` counts those
    whose policies could not be read; ``buckets`` is None when the policy does not ask for that.
    """

    subnets: Mapping[str, str] = field(default_factory=dict)
    interfaces: tuple[NetworkInterface, ...] = ()
    acls: Mapping[str, tuple[AclEntry, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[GroupRule, ...]] = field(default_factory=dict)
    prefix_lists: Mapping[str, PrefixList] = field(default_factory=dict)
    buckets: tuple[str, ...] | None = None
    unread_buckets: int = 0

    @property
    def running(self) -> frozenset[str]:
        """The ids of the running instances."""
        return frozenset(each.instance_id for each in self.interfaces if each.instance_id)
