"""What a diagnosis rests on. Values only; what the caller may not read is ``Unread``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.model import Dns, Permissions, SecurityGroup
    from portcullis.surroundings import AclEntry, PrefixList


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that the caller may not read: the permission that is missing, as IAM writes it."""

    permission: str


@dataclass(frozen=True, slots=True)
class Question:
    """What shall get through: an action on a resource (``*`` for any) of a service, by its short name.

    ``action`` is as IAM writes it (``s3:ListAllMyBuckets``); empty when none is known for the service.
    """

    service: str
    action: str
    resource: str = "*"


@dataclass(frozen=True, slots=True)
class Service:
    """A service in a Region: its full name, and whether it has gateway endpoints. Others have interface endpoints."""

    name: str
    has_gateway: bool = False
    private_dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A route: ``destination`` is an IPv4 range or a prefix list, ``target`` an id or ``local``."""

    destination: str
    target: str
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A route table; the main one serves the subnets that have none of their own."""

    table_id: str
    is_main: bool = False
    subnet_ids: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of the service. ``private_dns``: the service's usual name leads to it, from within the VPC.

    ``addresses`` are those of its interfaces, each with its subnet.
    """

    endpoint_id: str
    is_gateway: bool
    state: str = "available"
    private_dns: bool = False
    group_ids: tuple[str, ...] = ()
    policy: str = ""
    addresses: tuple[tuple[str, str], ...] | Unread = ()

    @property
    def is_available(self) -> bool:
        """Whether it works."""
        return self.state == "available"


@dataclass(frozen=True, slots=True)
class Nat:
    """A NAT gateway; ``subnet_id`` is empty for a regional one, which has no subnet."""

    state: str
    subnet_id: str
    is_public: bool = True


@dataclass(frozen=True, slots=True)
class Acl:
    """A network ACL with the subnets that it filters."""

    acl_id: str
    subnet_ids: tuple[str, ...] = ()
    entries: tuple[AclEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Zone:
    """A private hosted zone that the service's name, ``service_name``, is looked up in; ``answers``: it has a record.

    It may be that of a parent domain.
    """

    zone_id: str
    name: str
    service_name: str
    answers: bool | Unread


@dataclass(frozen=True, slots=True)
class Network:
    """A VPC, as far as it matters for one service.

    ``endpoints`` are those of the service that are not deleted; ``prefix_list`` has its addresses, None when it has
    none, and ``service_lists`` are the ids of the prefix lists of all AWS services. ``zone`` is the most specific
    associated private hosted zone for the service's name, None when there is none. ``context`` holds the condition
    keys, in lower case, whose values are known of every request that is asked about; empty where a request has none.
    """

    vpc_id: str
    region: str
    cidrs: tuple[str, ...]
    service: Service
    dns: Dns | Unread
    tables: tuple[Table, ...] | Unread = ()
    endpoints: tuple[Endpoint, ...] | Unread = ()
    nats: Mapping[str, Nat] | Unread = field(default_factory=dict)
    acls: tuple[Acl, ...] | Unread = ()
    groups: Mapping[str, SecurityGroup] | Unread = field(default_factory=dict)
    prefix_list: PrefixList | Unread | None = None
    service_lists: frozenset[str] = frozenset()
    zone: Zone | Unread | None = None
    context: Mapping[str, str] | Unread = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Role:
    """A role, and what it may do of what is asked."""

    name: str
    permissions: Permissions | Unread


@dataclass(frozen=True, slots=True)
class Profile:
    """An instance profile; it holds no role, or one."""

    name: str
    role: Role | Unread | None


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance. ``has_metadata``: its metadata service, which hands out the credentials, is on.

    ``is_managed``: Default Host Management of Systems Manager is on, and allows what is asked about.
    """

    instance_id: str
    state: str
    address: str
    is_public: bool = False
    has_metadata: bool = True
    is_managed: bool | Unread = False
    group_ids: tuple[str, ...] = ()
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the question is asked: on an instance in its subnet, or in subnets, with their ``cidrs``."""

    network: Network
    subnet_ids: tuple[str, ...]
    cidrs: tuple[str, ...] = ()
    machine: Machine | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses that call."""
        return (f"{self.machine.address}/32",) if self.machine else self.cidrs
