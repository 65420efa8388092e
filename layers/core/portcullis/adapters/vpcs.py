"""Reads VPCs in bulk: calls grow with pages, not with VPCs. Only what has no bulk form costs calls for a VPC each.

Page sizes are the largest that the EC2 and Route 53 service models allow.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from portcullis.adapters.calls import AWS_ERRORS, fault_of
from portcullis.adapters.pages import read
from portcullis.adapters.surroundings import group_rule
from portcullis.endpoint_policies import digest
from portcullis.errors import Fault, TransientError
from portcullis.model import (
    Dns,
    InstanceConnectEndpoint,
    InterfaceService,
    RouteTable,
    SecurityGroup,
    Subnet,
    Vpc,
    VpcEndpoint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portcullis.adapters.accounts import Accounts
    from portcullis.model import Needs, Scope

PERMISSIONS = (
    "ec2:DescribeInstanceConnectEndpoints",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcAttribute",
    "ec2:DescribeVpcEndpointServices",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs",
    "route53:ListHostedZonesByVPC",
)
"""The IAM actions that this module uses, with the observer role."""

_FEWER = {"PaginationConfig": {"PageSize": 100}}  # the largest pages of route tables
_FEWEST = {"PaginationConfig": {"PageSize": 50}}  # and of Instance Connect Endpoints
_ZONES = "100"
_ANSWERING = ("available", "pending")
# An interface takes one address. The others are left to those who live in the subnet: the smallest one has eleven.
_ROOM = 8

_T = TypeVar("_T")


class AwsVpcs:
    """VPCs with what is in them, from EC2 and Route 53, and the services of a Region.

    Args:
        accounts: The way into the members.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        # Which services a Region offers does not change within the life of a function.
        self._gateways: dict[str, dict[str, str]] = {}
        # The names of zones and the private services of others differ between accounts; so only what is needed is kept.
        self._interfaces: dict[tuple[str, str, frozenset[str]], dict[str, InterfaceService]] = {}

    def read(self, scope: Scope, needs: Needs) -> dict[str, Vpc]:
        """Read the VPCs of a scope with their tables and endpoints, and what is needed beside them."""
        ec2 = self._accounts.observer("ec2", scope.account_id, scope.region)
        wanted = {} if scope.everything else {"vpc-id": scope.vpc_ids}

        def listed(operation: str, key: str, make: Callable[[Any], _T], **paging: Any) -> dict[str, list[_T]]:
            found: dict[str, list[_T]] = defaultdict(list)
            for item in read(ec2, operation, key, wanted, **paging):
                found[item["VpcId"]].append(make(item))
            return found

        tables = listed("describe_route_tables", "RouteTables", _route_table, **_FEWER)
        endpoints = listed("describe_vpc_endpoints", "VpcEndpoints", _endpoint)
        subnets: dict[str, list[Subnet | None]] = {}
        groups: dict[str, list[SecurityGroup]] = {}
        connect: dict[str, list[InstanceConnectEndpoint]] = {}
        if needs.interface_services or needs.instance_connect:
            subnets = listed("describe_subnets", "Subnets", partial(_subnet, scope.region))
            groups = listed("describe_security_groups", "SecurityGroups", _group)
        if needs.instance_connect:
            operation, key = "describe_instance_connect_endpoints", "InstanceConnectEndpoints"
            connect = listed(operation, key, _connect, **_FEWEST)
        # The VPCs last: one that is deleted meanwhile is gone, not without route tables.
        vpcs = {
            (vpc_id := item["VpcId"]): Vpc(
                vpc_id=vpc_id,
                owner_id=item["OwnerId"],
                is_default=item.get("IsDefault", False),
                tags=tags_of(item),
                route_tables=tuple(tables.get(vpc_id, ())),
                endpoints=tuple(endpoints.get(vpc_id, ())),
                cidrs=_cidrs(item),
                subnets=tuple(subnet for subnet in subnets.get(vpc_id, ()) if subnet),
                groups={group.group_id: group for group in groups.get(vpc_id, ())},
                instance_connect=tuple(connect.get(vpc_id, ())),
            )
            for item in read(ec2, "describe_vpcs", "Vpcs", wanted)
        }
        for vpc in vpcs.values():
            # Every VPC has a main table. One that seems to lack it is so new that the answers do not agree yet.
            if vpc.owner_id == scope.account_id and not any(table.is_main for table in vpc.route_tables):
                raise TransientError(f"{vpc.vpc_id} has no main route table yet")
        return vpcs

    def with_names(self, scope: Scope, vpcs: Mapping[str, Vpc], services: Mapping[str, InterfaceService]) -> list[Vpc]:
        """Return those VPCs of the account that lack some of the services, with how they resolve names.

        Neither DNS attributes nor hosted zones have a bulk form: this costs three calls a VPC.
        """
        wanted = {service.service_name for service in services.values()}
        lacking = [vpc for vpc in vpcs.values() if vpc.owner_id == scope.account_id and wanted - _answered(vpc)]
        if not lacking:
            return []
        ec2 = self._accounts.observer("ec2", scope.account_id, scope.region)
        # A global service: botocore finds its endpoint, and the Region to sign for, from any Region of the partition.
        route53 = self._accounts.observer("route53", scope.account_id, scope.region)
        return [
            replace(vpc, dns=_dns(ec2, vpc.vpc_id), hosted_zones=_hosted_zones(route53, vpc.vpc_id, scope.region))
            for vpc in lacking
        ]

    def gateway_services(self, account_id: str, region: str) -> dict[str, str]:
        """Return service names by short name: they cannot be built from the Region's (China and others differ)."""
        if region not in self._gateways:
            names = [item["ServiceName"] for item in self._services(account_id, region, "Gateway")]
            self._gateways[region] = {name.rsplit(".", 1)[-1]: name for name in names}
        return self._gateways[region]

    def interface_services(
        self, account_id: str, region: str, wanted: frozenset[str]
    ) -> Mapping[str, InterfaceService]:
        """Return those of some services that have interface endpoints, by full and by short name.

        The short name is what follows the Region (``ecr.api``). A name without the Region in it, and one of somebody's
        own service, has none. Where two have the same, the one under the domain ``amazonaws`` is meant.
        """
        key = (account_id, region, wanted)
        if key not in self._interfaces:
            listed = [_interface_service(item) for item in self._services(account_id, region, "Interface")]
            by_name = {service.service_name: service for service in listed}
            named = {}
            for name in sorted(by_name, key=lambda name: ("amazonaws" in name.split("."), name)):
                _, found, short = name.partition(f".{region}.")
                if found and not short.startswith("vpce-svc-"):
                    named[short] = by_name[name]
            named |= by_name
            meant = {named[name].service_name for name in wanted if name in named}
            self._interfaces[key] = {name: each for name, each in named.items() if each.service_name in meant}
        return self._interfaces[key]

    def _services(self, account_id: str, region: str, kind: str) -> list[dict[str, Any]]:
        ec2 = self._accounts.observer("ec2", account_id, region)
        wanted = {"service-type": [kind]}
        found = list(read(ec2, "describe_vpc_endpoint_services", "ServiceDetails", wanted, PaginationConfig={}))
        if not found:
            # Every Region has some; believing this would archive every open finding.
            raise TransientError(f"{region} lists no {kind.lower()} endpoint services")
        return found


def tags_of(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of anything that EC2 lists."""
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def _cidrs(item: Mapping[str, Any]) -> tuple[str, ...]:
    blocks = [
        (each[f"{family}CidrBlock"], each[f"{family}CidrBlockState"]["State"])
        for family in ("", "Ipv6")
        for each in item.get(f"{family}CidrBlockAssociationSet", [])
    ] or [(item.get("CidrBlock"), "associated")]
    return tuple(cidr for cidr, state in blocks if cidr and state == "associated")


def _route_table(item: Mapping[str, Any]) -> RouteTable:
    """A subnet without an association of its own uses the main table."""
    live = [
        association
        for association in item.get("Associations", [])
        if association.get("AssociationState", {}).get("State", "associated") in ("associating", "associated")
    ]
    return RouteTable(
        route_table_id=item["RouteTableId"],
        is_main=any(association.get("Main") for association in live),
        subnet_ids=tuple(sorted(a["SubnetId"] for a in live if a.get("SubnetId"))),
        gateway_ids=tuple(sorted(a["GatewayId"] for a in live if a.get("GatewayId"))),
    )


def _endpoint(item: Mapping[str, Any]) -> VpcEndpoint:
    """State strings differ in case between the service model and the wire."""
    return VpcEndpoint(
        endpoint_id=item["VpcEndpointId"],
        vpc_id=item["VpcId"],
        endpoint_type=item.get("VpcEndpointType", "Gateway"),
        service_name=item["ServiceName"],
        state=item.get("State", "").lower(),
        route_table_ids=tuple(sorted(item.get("RouteTableIds", []))),
        subnet_ids=tuple(sorted(item.get("SubnetIds", []))),
        group_ids=tuple(sorted(group["GroupId"] for group in item.get("Groups", []))),
        private_dns=item.get("VpcEndpointType") == "Interface" and item.get("PrivateDnsEnabled", False),
        policy_document=item.get("PolicyDocument", ""),
        policy_digest=digest(item.get("PolicyDocument")),
        requester_managed=item.get("RequesterManaged", False),
        tags=tags_of(item),
    )


def _subnet(region: str, item: Mapping[str, Any]) -> Subnet | None:
    """Return a subnet; None for one of a Local or Wavelength Zone (they have longer names) or of an Outpost."""
    zone = item["AvailabilityZone"]
    if zone[:-1] != region or item.get("OutpostArn"):
        return None
    return Subnet(
        subnet_id=item["SubnetId"],
        zone=zone,
        is_public=item.get("MapPublicIpOnLaunch", False),
        has_room=item["AvailableIpAddressCount"] >= _ROOM,
    )


def _group(item: Mapping[str, Any]) -> SecurityGroup:
    return SecurityGroup(
        group_id=item["GroupId"],
        name=item["GroupName"],
        ingress=tuple(group_rule(each) for each in item.get("IpPermissions", [])),
        egress=tuple(group_rule(each) for each in item.get("IpPermissionsEgress", [])),
        tags=tags_of(item),
    )


def _connect(item: Mapping[str, Any]) -> InstanceConnectEndpoint:
    return InstanceConnectEndpoint(
        endpoint_id=item["InstanceConnectEndpointId"],
        subnet_id=item["SubnetId"],
        state=item["State"],
        message=item.get("StateMessage", ""),
        group_ids=tuple(sorted(item.get("SecurityGroupIds", []))),
        preserve_client_ip=item.get("PreserveClientIp", False),
        tags=tags_of(item),
    )


def _interface_service(item: Mapping[str, Any]) -> InterfaceService:
    names = {each["PrivateDnsName"] for each in item.get("PrivateDnsNames", [])}
    names |= {item["PrivateDnsName"]} if item.get("PrivateDnsName") else set()
    return InterfaceService(item["ServiceName"], tuple(sorted(item.get("AvailabilityZones", []))), tuple(sorted(names)))


def _answered(vpc: Vpc) -> set[str]:
    """Return the services whose usual names lead to an interface endpoint of the VPC, or soon will."""
    return {
        each.service_name
        for each in vpc.endpoints
        if each.endpoint_type == "Interface" and each.private_dns and each.state in _ANSWERING
    }


def _dns(ec2: Any, vpc_id: str) -> Dns:
    def is_on(attribute: str) -> bool:
        answer = ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=f"enable{attribute}")
        return bool(answer[f"Enable{attribute}"]["Value"])

    return Dns(support=is_on("DnsSupport"), hostnames=is_on("DnsHostnames"))


def _hosted_zones(route53: Any, vpc_id: str, region: str) -> dict[str, str] | None:
    """Return whose the private zones are that are associated with a VPC, by name.

    Zones of Route 53 Profiles are not among them ("ListHostedZonesByVPC", Route 53 API reference). None when Route 53
    does not answer now: it does so five times a second for an account, and the rest of what is seen is worth no less.
    When it refuses, there seem to be none, which costs an attempt at most: EC2 does not enable a private name twice.
    """
    found: dict[str, str] = {}
    more: dict[str, str] = {}
    while True:
        try:
            answer = route53.list_hosted_zones_by_vpc(VPCId=vpc_id, VPCRegion=region, MaxItems=_ZONES, **more)
        except AWS_ERRORS as error:
            return None if fault_of(error)[0] is Fault.TRANSIENT else {}
        for item in answer["HostedZoneSummaries"]:
            owner = item["Owner"]
            account = f"account {owner['OwningAccount']}" if "OwningAccount" in owner else ""
            found[item["Name"].rstrip(".")] = account or owner.get("OwningService", "")
        if not answer.get("NextToken"):
            return found
        more = {"NextToken": answer["NextToken"]}
