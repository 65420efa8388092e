"""The words of Portcullis: targets, snapshots, evaluations, actions, outcomes.

Everything here is a frozen value. Nothing here calls AWS, reads a clock or the environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
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
    (CreateVpcEndpoint, ModifyVpcEndpoint with ``endpoint_id``), a subnet (DeleteSubnet), or nothing (DeleteVpc).
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
class VpcEndpoint:
    """A VPC endpoint as DescribeVpcEndpoints lists it; ``state`` in lower case, its policy as a digest."""

    endpoint_id: str
    vpc_id: str
    endpoint_type: str
    service_name: str
    state: str
    route_table_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
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
    """A VPC with its route tables and endpoints."""

    vpc_id: str
    owner_id: str
    is_default: bool = False
    tags: Tags = field(default_factory=dict)
    route_tables: tuple[RouteTable, ...] = ()
    endpoints: tuple[VpcEndpoint, ...] = ()

    def endpoint(self, endpoint_id: str) -> VpcEndpoint | None:
        """Return one of its endpoints, or None when it is gone or going."""
        alive = (one for one in self.endpoints if one.state not in ("deleting", "deleted"))
        return next((one for one in alive if one.endpoint_id == endpoint_id), None)


@dataclass(frozen=True, slots=True)
class InstanceProfile:
    """An instance profile; ``role_names`` is empty when it holds no role, or when it is gone."""

    name: str
    arn: str
    role_names: tuple[str, ...] = ()


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
    """

    scope: Scope
    vpcs: Mapping[str, Vpc] = field(default_factory=dict)
    instances: Mapping[str, Instance] = field(default_factory=dict)
    gateway_services: Mapping[str, str] = field(default_factory=dict)
    profiles: Mapping[str, InstanceProfile] = field(default_factory=dict)

    def get(self, kind: Kind, resource_id: str) -> Resource | None:
        """Return the resource, or None when it is gone."""
        found: Mapping[str, Resource] = self.vpcs if kind is Kind.VPC else self.instances
        return found.get(resource_id)

    def resources(self, kind: Kind) -> Mapping[str, Resource]:
        """Return all seen resources of one kind by id."""
        return self.vpcs if kind is Kind.VPC else self.instances


class Status(StrEnum):
    """Verdict of a control on one resource."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    NOT_APPLICABLE = "NOT_APPLICABLE"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a control says about one resource.

    ``reason`` is a sentence about what is wrong (or right), ``remedy`` one about what a person can do.
    ``actions`` would make it right; empty when only a person can. ``wait`` says what has to happen
    before the actions are possible (the instance is still pending, say).
    """

    control_id: str
    kind: Kind
    resource_id: str
    status: Status
    reason: str
    remedy: str = ""
    actions: tuple[Action, ...] = ()
    wait: str | None = None


class Result(StrEnum):
    """How an action ended."""

    APPLIED = "applied"
    FAILED = "failed"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one action ended.

    ``resource_id`` is what was made or changed (an endpoint or association id). ``detail`` is a sentence.
    RETRY means: look again soon, the cause passes by itself or the world has changed meanwhile; with a
    ``resource_id``, this change once made that, and it is gone. REFUSED: Portcullis
    itself did not let it happen, and looks again at ``again_at``. ``after`` is what was left, as JSON values: the
    ``route_table_ids`` and the ``policy_digest`` of an endpoint. ``is_refuted``: AWS said that nothing was made, though
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
class FindingRecord:
    """What Portcullis remembers of a finding that it files: the memory behind FAILED, PASSED, ARCHIVED.

    Times are ISO 8601 in UTC with milliseconds. ``status``, ``record_state`` and ``digest`` (of the text
    filed) are None while it is not known whether Security Hub has taken the last import.
    """

    control_id: str
    kind: Kind
    resource_id: str
    created_at: str
    updated_at: str
    status: str | None = None
    record_state: str | None = None
    digest: str | None = None

    @property
    def key(self) -> RecordKey:
        """Identity within an account and Region."""
        return (self.kind, self.resource_id, self.control_id)
