"""Subnets, groups, interface endpoints and Instance Connect Endpoints, with those of AWS's rules that matter."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from portcullis.actions import (
    Action,
    AdmitInstanceConnect,
    CreateInstanceConnectEndpoint,
    CreateInterfaceEndpoint,
    DeleteInstanceConnectEndpoint,
    DeleteSecurityGroup,
    RemoveFromEndpoint,
    SetEndpointPolicy,
    StopAdmitting,
)
from portcullis.endpoint_policies import FULL_ACCESS, digest
from portcullis.errors import TransientError
from portcullis.model import (
    CHANGE_TAG,
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Dns,
    GroupRule,
    InstanceConnectEndpoint,
    InterfaceService,
    Needs,
    SecurityGroup,
    Subnet,
    Vpc,
    VpcEndpoint,
)

from tests.fakes.calls import AwsRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

DNS_CONFLICT = "private-dns-enabled cannot be set because there is already a conflicting DNS domain"


@dataclass
class FakePrivateLink:
    """What is in the VPCs of an account and Region beside their routes. ``endpoints`` are those of both kinds."""

    new_id: Callable[[str], str]
    endpoints: dict[str, VpcEndpoint]
    services: dict[str, InterfaceService] = field(default_factory=dict)
    subnets: dict[str, tuple[str, Subnet]] = field(default_factory=dict)
    groups: dict[str, tuple[str, SecurityGroup]] = field(default_factory=dict)
    connect: dict[str, tuple[str, InstanceConnectEndpoint]] = field(default_factory=dict)
    instance_groups: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    hosted_zones: dict[str, dict[str, str] | None] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    lingering: int = 0
    """How often the interfaces of an endpoint that was deleted still keep its group from being deleted."""

    def drop_group(self, group_id: str) -> None:
        """Delete a group, unless interfaces are still in it."""
        if group_id in self.groups and self.lingering:
            self.lingering -= 1
            raise TransientError(f"interfaces are still in {group_id}")
        self.groups.pop(group_id, None)

    def add_subnet(self, vpc_id: str, zone: str) -> str:
        """Create a subnet."""
        subnet_id = self.new_id("subnet")
        self.subnets[subnet_id] = (vpc_id, Subnet(subnet_id, zone))
        return subnet_id

    def add_group(self, vpc_id: str, *, ingress: tuple[GroupRule, ...] = (), **tags: str) -> str:
        """Create a security group."""
        group_id = self.new_id("sg")
        self.groups[group_id] = (vpc_id, SecurityGroup(group_id, group_id, ingress, tags=tags))
        return group_id

    def seen(self, vpc: Vpc) -> Vpc:
        """Return a VPC with what is in it."""
        return replace(
            vpc,
            cidrs=("10.0.0.0/16",),
            subnets=tuple(one for holder, one in self.subnets.values() if holder == vpc.vpc_id),
            groups={key: one for key, (holder, one) in self.groups.items() if holder == vpc.vpc_id},
            instance_groups=self.instance_groups.get(vpc.vpc_id, ()),
            instance_connect=tuple(one for holder, one in self.connect.values() if holder == vpc.vpc_id),
            dns=Dns(support=True, hostnames=True),
            hosted_zones=self.hosted_zones.get(vpc.vpc_id, {}),
        )

    def perform(self, action: Action, change_id: str) -> str:  # noqa: PLR0911 -- a case for each action
        """Do what the remediator asks for."""
        match action:
            case CreateInterfaceEndpoint():
                return self._once(change_id, lambda: self._create_interface(action, change_id))
            case CreateInstanceConnectEndpoint():
                return self._once(change_id, lambda: self._create_connect(action, change_id))
            case DeleteInstanceConnectEndpoint():
                self.connect.pop(action.endpoint_id, None)
                self.drop_group(action.group_id)
                return action.endpoint_id
            case DeleteSecurityGroup():
                self.groups.pop(action.group_id, None)
                return action.group_id
            case SetEndpointPolicy():
                endpoint = self._endpoint(action.endpoint_id)
                fields: dict[str, Any] = {
                    "policy_document": action.document,
                    "policy_digest": digest(action.document),
                }
                self.endpoints[action.endpoint_id] = replace(endpoint, **fields)
                return action.endpoint_id
            case StopAdmitting():
                return self._rules(action, admit=False)
            case AdmitInstanceConnect():
                return self._rules(action, admit=True)
            case RemoveFromEndpoint():
                endpoint = self._endpoint(action.endpoint_id)
                left = tuple(name for name in endpoint.subnet_ids if name not in action.subnet_ids)
                self.endpoints[action.endpoint_id] = replace(endpoint, subnet_ids=left)
                return action.endpoint_id
        raise AssertionError(f"nobody performs {action}")

    def _once(self, token: str, create: Callable[[], str]) -> str:
        """Create something. With the token of an earlier call it is that one, even if it is gone."""
        if token not in self.tokens:
            self.tokens[token] = create()
        return self.tokens[token]

    def _create_interface(self, action: CreateInterfaceEndpoint, change_id: str) -> str:
        same = [one for one in self.endpoints.values() if one.vpc_id == action.vpc_id and one.private_dns]
        service = next(one for one in self.services.values() if one.service_name == action.service_name)
        taken = set(service.private_dns_names) & (self.hosted_zones.get(action.vpc_id) or {}).keys()
        if action.private_dns and (taken or any(one.service_name == action.service_name for one in same)):
            raise AwsRefusedError("InvalidParameter", DNS_CONFLICT)
        for subnet_id in action.subnet_ids:
            if subnet_id not in self.subnets:
                raise AwsRefusedError("InvalidSubnetId.NotFound", f"{subnet_id} does not exist")
        tags = _tags(action.control_id, change_id)
        rule = GroupRule("tcp", (443, 443), action.cidrs)
        group_id = action.group_id or self._group(action.vpc_id, action.control_id, change_id, ingress=(rule,))
        endpoint_id = self.new_id("vpce")
        self.endpoints[endpoint_id] = VpcEndpoint(
            endpoint_id,
            action.vpc_id,
            "Interface",
            action.service_name,
            "available",
            subnet_ids=action.subnet_ids,
            group_ids=(group_id,),
            private_dns=action.private_dns,
            policy_document=FULL_ACCESS,
            policy_digest=digest(FULL_ACCESS),
            tags=tags,
        )
        return endpoint_id

    def _create_connect(self, action: CreateInstanceConnectEndpoint, change_id: str) -> str:
        if any(holder == action.vpc_id for holder, _ in self.connect.values()):
            raise AwsRefusedError("LimitExceeded", "one in a VPC")
        rule = GroupRule("tcp", (action.ports[0], action.ports[0]), action.cidrs)
        group_id = action.group_id or self._group(action.vpc_id, action.control_id, change_id, egress=(rule,))
        endpoint_id = self.new_id("eice")
        tags = _tags(action.control_id, change_id)
        one = InstanceConnectEndpoint(
            endpoint_id, action.subnet_id, "create-complete", group_ids=(group_id,), tags=tags
        )
        self.connect[endpoint_id] = (action.vpc_id, one)
        return endpoint_id

    def _group(self, vpc_id: str, control_id: str, change_id: str, **rules: tuple[GroupRule, ...]) -> str:
        name = f"portcullis-{control_id}"
        for group_id, (holder, group) in self.groups.items():
            if (holder, group.name) == (vpc_id, name):
                return group_id
        group_id = self.new_id("sg")
        self.groups[group_id] = (vpc_id, SecurityGroup(group_id, name, tags=_tags(control_id, change_id), **rules))
        return group_id

    def _rules(self, action: AdmitInstanceConnect, *, admit: bool) -> str:
        vpc_id, group = self.groups[action.group_id]
        rules = {GroupRule("tcp", (port, port), group_ids=(action.source_group_id,)) for port in action.ports}
        kept = tuple(rule for rule in group.ingress if rule not in rules)
        self.groups[action.group_id] = (vpc_id, replace(group, ingress=(*kept, *(rules if admit else ()))))
        return action.group_id

    def _endpoint(self, endpoint_id: str) -> VpcEndpoint:
        if endpoint_id not in self.endpoints:
            raise AwsRefusedError("InvalidVpcEndpointId.NotFound", f"{endpoint_id} does not exist")
        return self.endpoints[endpoint_id]


def as_asked(vpc: Vpc, needs: Needs) -> Vpc:
    """Return a VPC as the observer shows it: without what nobody asked for."""
    hidden: dict[str, Any] = {}
    if not needs.interface_services:
        hidden |= {"dns": None, "hosted_zones": {}}
    if not needs.instance_connect:
        hidden |= {"instance_connect": (), "instance_groups": ()}
    if not (needs.interface_services or needs.instance_connect):
        hidden |= {"subnets": (), "groups": {}}
    return replace(vpc, **hidden)


def _tags(control_id: str, change_id: str) -> dict[str, str]:
    return {OWNERSHIP_TAG: "true", CONTROL_TAG: control_id, CHANGE_TAG: change_id}
