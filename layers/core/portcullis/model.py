"""The words of Portcullis: targets, snapshots, evaluations, actions, outcomes.

Everything here is a frozen value. Nothing here calls AWS, reads a clock or the environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from enum import StrEnum
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from portcullis.actions import Action

OWNERSHIP_TAG = "portcullis:managed"
"""Published tag key. Everything that Portcullis creates carries it with the value ``true``."""

CONTROL_TAG = "portcullis:control"
"""Tag key that names the control for which Portcullis created something."""

CHANGE_TAG = "portcullis:change"
"""Tag key that names the change, in the ledger, that created something."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:/=+@-]")
_LONGEST_TRIGGER = 128

Tags = dict[str, str]
RecordKey = tuple["Kind", str, str]
"""Kind and id of a resource, and a control's id: what a finding is about, within an account and Region."""


class Kind(StrEnum):
    """What a target names."""

    VPC = "vpc"
    INSTANCE = "instance"
    ACCOUNT_REGION = "account-region"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What to look at. Never what happened: the event that led here is gone."""

    account_id: str
    region: str
    kind: Kind
    resource_id: str | None = None

    @property
    def key(self) -> str:
        """Identity as text, used as the work queue's message group: equal targets never run at once."""
        return f"{self.account_id}/{self.region}/{self.kind}/{self.resource_id or '*'}"


class Caller(StrEnum):
    """What kind of client made a call, as far as CloudTrail's fields tell."""

    TERRAFORM = "terraform"
    CLOUDFORMATION = "cloudformation"
    CDK = "cdk"
    PULUMI = "pulumi"
    CONSOLE = "console"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A call of somebody else that failed over something that exists, perhaps ours.

    ``principal`` is the caller's ARN, for people. The rest is what the call named: a service and route tables
    (CreateVpcEndpoint, ModifyVpcEndpoint with ``endpoint_id``), a subnet (DeleteSubnet,
    CreateInstanceConnectEndpoint), or nothing (DeleteVpc).
    """

    call: str
    principal: str = ""
    service_name: str = ""
    route_table_ids: tuple[str, ...] = ()
    endpoint_id: str = ""
    subnet_id: str = ""


class Ask(StrEnum):
    """What a person may ask for."""

    REMEDIATE = "remediate"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks for about the target. ``change_id`` names what is to be undone; it is empty for REMEDIATE.

    ``by`` says who, as far as that is known: a custom action of Security Hub does not tell.
    """

    ask: Ask
    control_id: str
    by: str
    change_id: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a target is looked at.

    ``trigger`` names what set it off (see ``trigger``). ``caller`` is set when that was somebody's call;
    ``indirect`` when the call did not name this target, so that only a look tells whether it concerns it. ``at`` is
    when a conflict or a request came about: an old one, out of the dead letters, is not made up for.
    """

    trigger: str = ""
    caller: Caller | None = None
    indirect: bool = False
    conflict: Conflict | None = None
    request: Request | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A target, and why it is looked at. ``message_id`` stays the same when the message is delivered again."""

    target: Target
    message_id: str
    cause: Cause = field(default_factory=Cause)


def trigger(kind: object, name: object) -> str:
    """Name what set a look off, for people who read CloudTrail: ``CreateVpc/<event id>``, ``sweep/<execution>``.

    Returns:
        At most 128 characters, none that a session tag may not hold (``tagValueType`` in the STS model).
    """
    return _UNSAFE.sub("-", f"{kind}/{name}")[:_LONGEST_TRIGGER]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A route table, reduced to what decides whether it needs a gateway endpoint's route."""

    route_table_id: str
    is_main: bool = False
    subnet_ids: tuple[str, ...] = ()
    gateway_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet; ``zone`` is its Availability Zone's name, ``has_room`` whether an interface more fits into it."""

    subnet_id: str
    zone: str
    is_public: bool = False
    has_room: bool = True


@dataclass(frozen=True, slots=True)
class GroupRule:
    """What a security group lets through, on one side: ``ports`` is None for all, ``protocol`` as EC2 writes it."""

    protocol: str
    ports: tuple[int, int] | None = None
    cidrs: tuple[str, ...] = ()
    prefix_list_ids: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()

    def spans(self, port: int) -> bool:
        """Whether it is about a TCP port."""
        return self.protocol in ("tcp", "6", "-1") and (self.ports is None or self.ports[0] <= port <= self.ports[1])

    def covers(self, cidr: str) -> bool:
        """Whether it is about all of an address block, or may be: what a prefix list holds is not known."""
        block, own = ip_network(cidr), [ip_network(one, strict=False) for one in self.cidrs]
        return bool(self.prefix_list_ids) or any(block[0] in one and block[-1] in one for one in own)


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A security group with its rules."""

    group_id: str
    name: str = ""
    ingress: tuple[GroupRule, ...] = ()
    egress: tuple[GroupRule, ...] = ()
    tags: Tags = field(default_factory=dict)

    def is_ours(self, control_id: str = "") -> bool:
        """Whether Portcullis created it, for this control if one is given.

        Its published tags say so, and its name: tags may be copied, a name is given to one group in a VPC, for ever.
        """
        made_for = self.tags.get(CONTROL_TAG, "")
        is_ours = self.tags.get(OWNERSHIP_TAG) == "true" and self.name == f"portcullis-{made_for}"
        return is_ours and control_id in ("", made_for)


@dataclass(frozen=True, slots=True)
class InstanceConnectEndpoint:
    """An EC2 Instance Connect Endpoint; ``state`` as AWS writes it (``create-complete``), ``message`` says more."""

    endpoint_id: str
    subnet_id: str
    state: str
    message: str = ""
    group_ids: tuple[str, ...] = ()
    preserve_client_ip: bool = False
    tags: Tags = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether Portcullis created it, by its published tag."""
        return self.tags.get(OWNERSHIP_TAG) == "true"

    @property
    def change_id(self) -> str:
        """The change that created it; empty when that was not Portcullis."""
        return self.tags.get(CHANGE_TAG, "") if self.is_ours else ""

    @property
    def is_gone(self) -> bool:
        """Whether it is being deleted, or was."""
        return self.state.startswith("delete-") and self.state != "delete-failed"


@dataclass(frozen=True, slots=True)
class Dns:
    """The DNS attributes of a VPC (``enableDnsSupport``, ``enableDnsHostnames``)."""

    support: bool
    hostnames: bool


@dataclass(frozen=True, slots=True)
class VpcEndpoint:
    """A VPC endpoint as DescribeVpcEndpoints lists it; ``state`` in lower case.

    ``policy_digest`` is that of what its policy means, so that two policies can be compared by it.
    """

    endpoint_id: str
    vpc_id: str
    endpoint_type: str
    service_name: str
    state: str
    route_table_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()
    private_dns: bool = False
    policy_document: str = ""
    policy_digest: str = ""
    requester_managed: bool = False
    tags: Tags = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether Portcullis created it, by its published tag."""
        return self.tags.get(OWNERSHIP_TAG) == "true" and not self.requester_managed

    @property
    def change_id(self) -> str:
        """The change that created it; empty when that was not Portcullis."""
        return self.tags.get(CHANGE_TAG, "") if self.is_ours else ""


@dataclass(frozen=True, slots=True)
class Vpc:
    """A VPC with its route tables and endpoints, and what ``Needs`` asks for beside them.

    ``cidrs`` are its address blocks, of IPv4 and IPv6. ``groups`` are its security groups by id, ``instance_groups``
    the distinct sets of them, by sorted ids, that interfaces of living instances have. ``dns`` is None where it was not
    asked for; ``hosted_zones`` maps the names of the private hosted zones that are associated with it to whose they
    are: ``account 111122223333``, or the name of an AWS service. They are None when Route 53 did not tell this time.
    """

    vpc_id: str
    owner_id: str
    is_default: bool = False
    tags: Tags = field(default_factory=dict)
    route_tables: tuple[RouteTable, ...] = ()
    endpoints: tuple[VpcEndpoint, ...] = ()
    cidrs: tuple[str, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    groups: Mapping[str, SecurityGroup] = field(default_factory=dict)
    instance_groups: tuple[tuple[str, ...], ...] = ()
    instance_connect: tuple[InstanceConnectEndpoint, ...] = ()
    dns: Dns | None = None
    hosted_zones: Mapping[str, str] | None = field(default_factory=dict)

    def endpoint(self, endpoint_id: str) -> VpcEndpoint | None:
        """Return one of its endpoints, or None when it is gone or going."""
        alive = (one for one in self.endpoints if one.state not in ("deleting", "deleted"))
        return next((one for one in alive if one.endpoint_id == endpoint_id), None)

    def connect_endpoint(self, endpoint_id: str) -> InstanceConnectEndpoint | None:
        """Return one of its Instance Connect Endpoints, or None when it is gone or going."""
        alive = (one for one in self.instance_connect if not one.is_gone)
        return next((one for one in alive if one.endpoint_id == endpoint_id), None)

    def endpoint_of_any_kind(self, endpoint_id: str) -> VpcEndpoint | InstanceConnectEndpoint | None:
        """Return one of its endpoints or Instance Connect Endpoints, or None when it is gone or going."""
        return self.endpoint(endpoint_id) or self.connect_endpoint(endpoint_id)

    def seen_groups(self, group_ids: tuple[str, ...]) -> list[SecurityGroup] | None:
        """Return security groups by id, or None when not all of them were seen: what is not known is not blamed."""
        seen = [self.groups[group_id] for group_id in group_ids if group_id in self.groups]
        return seen if seen and len(seen) == len(group_ids) else None

    def group_of_ours(self, control_id: str) -> str:
        """Return the id of the security group that Portcullis made here for a control, empty when there is none."""
        ours = sorted(group_id for group_id, group in self.groups.items() if group.is_ours(control_id))
        return ours[0] if ours else ""

    def group_only_of(self, endpoint_id: str) -> str:
        """Return the id of the group of ours that an endpoint has and no other one; empty when there is none."""
        holders: list[VpcEndpoint | InstanceConnectEndpoint] = [*self.endpoints, *self.instance_connect]
        alone = next((set(one.group_ids) for one in holders if one.endpoint_id == endpoint_id), set())
        for one in holders:
            if one.endpoint_id != endpoint_id:
                alone -= set(one.group_ids)
        ours = sorted(name for name in alone if name in self.groups and self.groups[name].is_ours())
        return ours[0] if ours else ""


@dataclass(frozen=True, slots=True)
class InstanceProfile:
    """An instance profile; ``role_names`` is empty when it holds no role, or when it is gone."""

    name: str
    arn: str
    role_names: tuple[str, ...] = ()
    role_arn: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance that still exists (never one that is shutting down or terminated)."""

    instance_id: str
    state: str
    vpc_id: str | None = None
    profile: InstanceProfile | None = None
    association_id: str = ""
    operator: str | None = None
    tags: Tags = field(default_factory=dict)


Resource = Vpc | Instance


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a role may not do something: ``by`` is ``role``, ``scp``, ``boundary`` or ``explicit``."""

    action: str
    by: str


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a role may do, of what was asked.

    ``denials`` are from the IAM simulator, which was not given the context keys in ``missing_context``;
    ``policy_names`` those of the managed policies that are attached. ``unread`` says why nothing is known of it.
    """

    denials: tuple[Denial, ...] = ()
    missing_context: tuple[str, ...] = ()
    policy_names: tuple[str, ...] = ()
    unread: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceService:
    """A service with interface endpoints in a Region: the names of the zones that have it, and its private names."""

    service_name: str
    zones: tuple[str, ...] = ()
    private_dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Needs:
    """What the policy makes a look observe, beside VPCs with their tables and endpoints, and instances.

    ``profiles`` names those that instances may be given. ``interface_services`` are asked for somewhere: then VPCs are
    seen with their subnets and groups, and with DNS attributes and hosted zones where one of these lacks.
    ``instance_connect``: VPCs are seen with these endpoints, their subnets and groups. ``role_actions`` are asked of
    the IAM simulator, for the role of each instance; ``role_policies``: the attached policies are listed;
    ``host_management``: whether Systems Manager manages hosts by default is looked up.
    """

    profiles: frozenset[str] = frozenset()
    interface_services: frozenset[str] = frozenset()
    instance_connect: bool = False
    role_actions: frozenset[str] = frozenset()
    role_policies: bool = False
    host_management: bool = False

    def __or__(self, other: Needs) -> Needs:
        """Return what both need."""
        both = {one.name: getattr(self, one.name) | getattr(other, one.name) for one in fields(self)}
        return Needs(**both)


@dataclass(frozen=True, slots=True)
class Scope:
    """What to observe in one account and Region: some VPCs and instances, or everything."""

    account_id: str
    region: str
    vpc_ids: frozenset[str] = frozenset()
    instance_ids: frozenset[str] = frozenset()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen of a scope. A resource that the scope names and the snapshot lacks is gone.

    ``gateway_services`` maps the short name (``s3``) to the service name in this Region.
    ``profiles`` holds those, by name, that the policy may give to instances and that the account has.
    ``interface_services`` are by full name, and by short name (``ecr.api``). ``permissions`` are by the role's name.
    ``host_management`` is whether Systems Manager manages hosts by default there; None when that was not asked for.
    """

    scope: Scope
    vpcs: Mapping[str, Vpc] = field(default_factory=dict)
    instances: Mapping[str, Instance] = field(default_factory=dict)
    gateway_services: Mapping[str, str] = field(default_factory=dict)
    profiles: Mapping[str, InstanceProfile] = field(default_factory=dict)
    interface_services: Mapping[str, InterfaceService] = field(default_factory=dict)
    permissions: Mapping[str, Permissions] = field(default_factory=dict)
    host_management: bool | None = None
    partition: str = "aws"

    def get(self, kind: Kind, resource_id: str) -> Resource | None:
        """Return the resource, or None when it is gone."""
        found: Mapping[str, Resource] = self.vpcs if kind is Kind.VPC else self.instances
        return found.get(resource_id)

    def resources(self, kind: Kind) -> Mapping[str, Resource]:
        """Return all seen resources of one kind by id."""
        return self.vpcs if kind is Kind.VPC else self.instances


class Status(StrEnum):
    """Verdict of a control on one resource.

    UNKNOWN: it could not be told this time. Nothing is filed and nothing done; the next look tells.
    """

    PASSED = "PASSED"
    FAILED = "FAILED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a control says about one resource.

    ``reason`` is a sentence about what is wrong (or right), ``remedy`` one about what a person can do.
    ``actions`` would make it right; empty when only a person can. ``wait`` says what has to happen
    before the actions are possible (the instance is still pending, say). ``remains``: once they are done, something is
    or may be wrong all the same.
    """

    control_id: str
    kind: Kind
    resource_id: str
    status: Status
    reason: str
    remedy: str = ""
    actions: tuple[Action, ...] = ()
    wait: str | None = None
    remains: bool = False


class Result(StrEnum):
    """How an action ended."""

    APPLIED = "applied"
    FAILED = "failed"
    NEEDLESS = "needless"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one action ended.

    ``resource_id`` is what was made or changed (an endpoint or association id). ``detail`` is a sentence.
    RETRY means: look again soon, the cause passes by itself or the world has changed meanwhile; with a
    ``resource_id``, this change once made that, and it is gone. REFUSED: Portcullis
    itself did not let it happen, and looks again at ``again_at``. NEEDLESS: what AWS refuses shows that another answers
    already. ``after`` is what was left, as JSON values: ``route_table_ids``, ``subnet_ids`` and ``policy_digest`` of an
    endpoint. ``is_refuted``: AWS said that nothing was made, though
    what is there may look as if it was.
    """

    action: Action
    result: Result
    resource_id: str | None = None
    detail: str = ""
    after: Mapping[str, Any] = field(default_factory=dict)
    again_at: datetime | None = None
    is_refuted: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """Something of ours on a resource, as we left it. ``change_id`` is the change that created it."""

    change_id: str
    route_table_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    policy_digest: str = ""


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """What Portcullis remembers of a finding that it files: the memory behind FAILED, PASSED, ARCHIVED.

    Times are ISO 8601 in UTC with milliseconds. ``status``, ``record_state`` and ``digest`` (of the text
    filed) are None while it is not known whether Security Hub has taken the last import. ``proposed`` are the
    fingerprints of the actions that it names, separated by spaces: what a person approves is these.
    """

    control_id: str
    kind: Kind
    resource_id: str
    created_at: str
    updated_at: str
    status: str | None = None
    record_state: str | None = None
    digest: str | None = None
    proposed: str | None = None

    @property
    def key(self) -> RecordKey:
        """Identity within an account and Region."""
        return (self.kind, self.resource_id, self.control_id)
