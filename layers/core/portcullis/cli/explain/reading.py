"""Reads what a diagnosis rests on, with the caller's own credentials. Nothing is changed.

What the caller may not read becomes ``Unread``; only what is asked about itself has to be readable. ``PERMISSIONS``
are all that helps. The Region's services are asked for, not built from its name (China and others differ).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from portcullis.actions import short_name
from portcullis.adapters.pages import hidden_too, read
from portcullis.adapters.permissions import NOT_EVALUATED, host_management, simulated
from portcullis.adapters.surroundings import entries, group_rule
from portcullis.cli.explain.facts import (
    Acl,
    Endpoint,
    Machine,
    Nat,
    Network,
    Place,
    Profile,
    Question,
    Role,
    Route,
    Service,
    Table,
    Unread,
    Zone,
)
from portcullis.controls.role_2 import REGISTERS, is_for_the_agent
from portcullis.errors import PortcullisError
from portcullis.model import Dns, GroupRule, Permissions, SecurityGroup
from portcullis.surroundings import PrefixList

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

PERMISSIONS = (
    "ec2:DescribeIamInstanceProfileAssociations",
    "ec2:DescribeInstances",
    "ec2:DescribeNatGateways",
    "ec2:DescribeNetworkAcls",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribePrefixLists",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcAttribute",
    "ec2:DescribeVpcEndpointServices",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs",
    "iam:GetInstanceProfile",
    "iam:SimulatePrincipalPolicy",
    "organizations:DescribeOrganization",
    "route53:ListHostedZonesByVPC",
    "route53:ListResourceRecordSets",
    "ssm:GetServiceSetting",
)
"""The IAM actions that this module uses."""

# What docker asks of ecr.dkr is no API, and IAM judges it by the image. Before that comes the token, from ecr.api.
DEFAULT_ACTIONS = {
    "dynamodb": "dynamodb:ListTables",
    "ec2": "ec2:DescribeInstances",
    "ecr.api": "ecr:GetAuthorizationToken",
    "ecr.dkr": "ecr:GetAuthorizationToken",
    "kms": "kms:ListKeys",
    "logs": "logs:DescribeLogGroups",
    "monitoring": "cloudwatch:ListMetrics",
    "s3": "s3:ListAllMyBuckets",
    "secretsmanager": "secretsmanager:ListSecrets",
    "ssm": "ssm:UpdateInstanceInformation",
    "ssmmessages": "ssmmessages:CreateControlChannel",
    "sts": "sts:GetCallerIdentity",
}
"""What is asked of a service, by its short name, when nothing else is: what people try first, or agents need."""

# That action is on all buckets, and policies may say so ("Actions, resources, and condition keys for Amazon S3").
_ALL_BUCKETS = "arn:%s:s3:::*"

_REFUSED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_GATEWAYS = ("s3", "dynamodb")  # known where the Region's services may not be listed
_ASSOCIATED = ("associating", "associated")
_GONE = ("shutting-down", "terminated")
_FEWER = {"PaginationConfig": {"PageSize": 100}}  # the largest pages of route tables
_TARGETS = (
    "GatewayId",
    "NatGatewayId",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
    "NetworkInterfaceId",
    "LocalGatewayId",
    "CarrierGatewayId",
    "CoreNetworkArn",
    "InstanceId",
)
_ADDRESSES = ("A", "AAAA", "CNAME")  # aliases are of these types, too

_T = TypeVar("_T")


class NothingToExplainError(PortcullisError):
    """What is asked about is not there."""


class Reader:
    """Reads one account and Region; ``question`` is what shall get through.

    Args:
        session: The caller's boto3 session.
        service: The service, by its short or full name.
        action: What is tried; None for the default.
        resource: The ARN on which it is tried; None for any.

    Raises:
        BotoCoreError: There are no credentials, or no Region.
        ClientError: The credentials are not valid.
    """

    def __init__(self, session: Any, service: str, action: str | None, resource: str | None) -> None:
        identity = session.client("sts").get_caller_identity()
        self._region, self._account_id = str(session.region_name), identity["Account"]
        self._where = f"account {self._account_id}, {self._region}"
        self._asked, short = service, short_name(service)
        anything = _ALL_BUCKETS % identity["Arn"].split(":")[1] if short == "s3" else "*"
        self.question = Question(short, action or DEFAULT_ACTIONS.get(short, ""), resource or anything)
        self._is_own = resource is None or f":{self._account_id}:" in resource
        self._client = session.client
        self._ec2, self._iam, self._route53 = map(session.client, ("ec2", "iam", "route53"))

    def instance(self, instance_id: str) -> Place:
        """Read an instance and its network.

        Raises:
            NothingToExplainError: There is no such instance, or no such service.
            BotoCoreError: AWS cannot be reached, or there are no credentials.
            ClientError: AWS refuses to show the instance, or cannot answer.
        """
        hidden = hidden_too(self._ec2, "DescribeInstances")
        reservations = read(self._ec2, "describe_instances", "Reservations", {"instance-id": [instance_id]}, **hidden)
        found = [item for each in reservations for item in each["Instances"] if item["State"]["Name"] not in _GONE]
        if not found:
            raise NothingToExplainError(f"there is no instance {instance_id} in {self._where}")
        (item,) = found
        if "PrivateIpAddress" not in item:
            raise NothingToExplainError(f"{instance_id} has no IPv4 address; the way of IPv6 cannot be explained yet")
        primary = next(one for one in item["NetworkInterfaces"] if one["Attachment"]["DeviceIndex"] == 0)
        machine = Machine(
            instance_id=instance_id,
            state=item["State"]["Name"],
            address=item["PrivateIpAddress"],
            is_public=bool(item.get("PublicIpAddress")),
            has_metadata=item.get("MetadataOptions", {}).get("HttpEndpoint") != "disabled",
            group_ids=tuple(group["GroupId"] for group in primary["Groups"]),
            profile=self._profile(item),
            is_managed=is_for_the_agent([self.question.action])
            and _seen("ssm", lambda: host_management(self._client("ssm"))),
        )
        network = self._network(item["VpcId"], machine.group_ids)
        return Place(network, (item["SubnetId"],), machine=machine)

    def vpc(self, vpc_id: str) -> Place:
        """Read a VPC with its subnets; raises as ``instance``."""
        network = self._network(vpc_id)
        listed = self._of_vpc("describe_subnets", "Subnets", vpc_id)
        subnets = {item["SubnetId"]: item["CidrBlock"] for item in listed if item.get("CidrBlock")}  # not IPv6 only
        if not subnets:
            raise NothingToExplainError(f"{vpc_id} has no subnets with IPv4")
        return Place(network, tuple(subnets), tuple(subnets.values()))

    def _network(self, vpc_id: str, group_ids: Iterable[str] = ()) -> Network:
        vpcs = list(self._of_vpc("describe_vpcs", "Vpcs", vpc_id))
        if not vpcs:
            raise NothingToExplainError(f"there is no VPC {vpc_id} in {self._where}")
        found = _seen("ec2", self._service)
        service = Service("SERVICE-NAME", self.question.service in _GATEWAYS) if isinstance(found, Unread) else found
        endpoints = _seen("ec2", lambda: self._endpoints(vpc_id))
        of_endpoints = () if isinstance(endpoints, Unread) else (name for one in endpoints for name in one.group_ids)
        lists = _seen("ec2", self._prefix_lists)
        named = {} if isinstance(lists, Unread) else lists
        own = (each for name, each in named.items() if self._is_asked_for(name))
        return Network(
            vpc_id=vpc_id,
            region=self._region,
            cidrs=tuple(one["CidrBlock"] for one in vpcs[0]["CidrBlockAssociationSet"] if _is_associated(one)),
            service=service,
            dns=_seen("ec2", lambda: self._dns(vpc_id)),
            tables=_seen("ec2", lambda: self._tables(vpc_id)),
            endpoints=endpoints,
            nats=_seen("ec2", lambda: self._nats(vpc_id)),
            acls=_seen("ec2", lambda: self._acls(vpc_id)),
            groups=_seen("ec2", lambda: self._groups({*group_ids, *of_endpoints})),
            prefix_list=lists if isinstance(lists, Unread) else next(own, None),
            service_lists=frozenset(each.prefix_list_id for each in named.values()),
            zone=found if isinstance(found, Unread) else _seen("route53", lambda: self._zone(vpc_id, service)),
            context=self._context(endpoints),
        )

    def _of_vpc(self, operation: str, key: str, vpc_id: str, **paging: Any) -> Iterator[dict[str, Any]]:
        return read(self._ec2, operation, key, {"vpc-id": [vpc_id]}, **paging)

    def _is_asked_for(self, name: str) -> bool:
        """Tell whether a full name is that of the service, which may be asked for by its short one."""
        return self._asked in (name, short_name(name))

    def _service(self) -> Service:
        listed = read(self._ec2, "describe_vpc_endpoint_services", "ServiceDetails", {}, PaginationConfig={})
        found = [item for item in listed if self._is_asked_for(item["ServiceName"])]
        if not found:
            raise NothingToExplainError(f"{self._region} has no endpoints for a service named {self._asked}")
        # The usual one comes first; S3 has names of other purposes as well.
        first = [item["PrivateDnsName"] for item in found if item.get("PrivateDnsName")]
        names = first + [each["PrivateDnsName"] for item in found for each in item.get("PrivateDnsNames", [])]
        return Service(
            found[0]["ServiceName"],
            has_gateway=any(kind["ServiceType"] == "Gateway" for item in found for kind in item["ServiceType"]),
            private_dns_names=tuple(name for name in names if _bare(name) == _bare(names[0])),
        )

    def _endpoints(self, vpc_id: str) -> tuple[Endpoint, ...]:
        return tuple(
            self._endpoint(item)
            for item in self._of_vpc("describe_vpc_endpoints", "VpcEndpoints", vpc_id)
            if self._is_asked_for(item["ServiceName"]) and item["State"].lower() not in ("deleting", "deleted")
        )

    def _endpoint(self, item: dict[str, Any]) -> Endpoint:
        is_gateway = item.get("VpcEndpointType", "Gateway") == "Gateway"
        only_inbound = item.get("DnsOptions", {}).get("PrivateDnsOnlyForInboundResolverEndpoint", False)
        return Endpoint(
            endpoint_id=item["VpcEndpointId"],
            is_gateway=is_gateway,
            state=item["State"].lower(),
            private_dns=not is_gateway and item.get("PrivateDnsEnabled", False) and not only_inbound,
            group_ids=tuple(group["GroupId"] for group in item.get("Groups", [])),
            policy=item.get("PolicyDocument", ""),
            addresses=_seen("ec2", lambda: self._addresses(item.get("NetworkInterfaceIds", []))),
        )

    def _addresses(self, interface_ids: Sequence[str]) -> tuple[tuple[str, str], ...]:
        wanted = {"network-interface-id": interface_ids}
        found = read(self._ec2, "describe_network_interfaces", "NetworkInterfaces", wanted)
        return tuple((item["SubnetId"], item["PrivateIpAddress"]) for item in found)

    def _prefix_lists(self) -> dict[str, PrefixList]:
        return {
            item["PrefixListName"]: PrefixList(item["PrefixListId"], _ipv4(item.get("Cidrs", [])))
            for item in read(self._ec2, "describe_prefix_lists", "PrefixLists", {}, PaginationConfig={})
        }

    def _dns(self, vpc_id: str) -> Dns:
        def is_on(name: str) -> bool:
            answer = self._ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=name)
            return bool(answer[name[0].upper() + name[1:]]["Value"])

        return Dns(support=is_on("enableDnsSupport"), hostnames=is_on("enableDnsHostnames"))

    def _tables(self, vpc_id: str) -> tuple[Table, ...]:
        listed = self._of_vpc("describe_route_tables", "RouteTables", vpc_id, **_FEWER)
        return tuple(
            Table(
                table_id=item["RouteTableId"],
                is_main=any(one.get("Main") for one in item["Associations"]),
                subnet_ids=tuple(one["SubnetId"] for one in item["Associations"] if one.get("SubnetId")),
                routes=tuple(_route(each) for each in item["Routes"]),
            )
            for item in listed
        )

    def _nats(self, vpc_id: str) -> dict[str, Nat]:
        return {
            item["NatGatewayId"]: Nat(
                item["State"], item.get("SubnetId", ""), is_public=item.get("ConnectivityType") != "private"
            )
            for item in self._of_vpc("describe_nat_gateways", "NatGateways", vpc_id)
        }

    def _acls(self, vpc_id: str) -> tuple[Acl, ...]:
        listed = self._of_vpc("describe_network_acls", "NetworkAcls", vpc_id)
        return tuple(
            Acl(item["NetworkAclId"], tuple(one["SubnetId"] for one in item["Associations"]), entries(item))
            for item in listed
        )

    def _groups(self, group_ids: Collection[str]) -> dict[str, SecurityGroup]:
        found = read(self._ec2, "describe_security_groups", "SecurityGroups", {"group-id": group_ids})
        return {
            item["GroupId"]: SecurityGroup(
                item["GroupId"],
                item["GroupName"],
                ingress=_rules(item["IpPermissions"]),
                egress=_rules(item["IpPermissionsEgress"]),
            )
            for item in found
        }

    def _zone(self, vpc_id: str, service: Service) -> Zone | None:
        found: list[tuple[int, bool, str, dict[str, Any]]] = []
        more: dict[str, str] = {}
        while True:
            answer = self._route53.list_hosted_zones_by_vpc(VPCId=vpc_id, VPCRegion=self._region, **more)
            for item in answer["HostedZoneSummaries"]:
                found += [
                    (len(item["Name"]), "OwningAccount" in item["Owner"], name, item)
                    for name in service.private_dns_names
                    if f".{_bare(name)}.".endswith(f".{item['Name']}")
                ]
            if "NextToken" not in answer:
                break
            more = {"NextToken": answer["NextToken"]}
        _, is_of_account, name, item = max(found, key=lambda each: each[:2], default=(0, False, "", {}))
        # AWS associates a zone of its own for an interface endpoint's private DNS name: that is the endpoint.
        if not is_of_account:
            return None
        zone_id, owner = item["HostedZoneId"], item["Owner"]["OwningAccount"]
        answers: bool | Unread = Unread(f"route53:ListResourceRecordSets in account {owner}")
        if owner == self._account_id:
            answers = _seen("route53", lambda: self._has_record(zone_id, service))
        return Zone(zone_id, item["Name"], name, answers)

    def _has_record(self, zone_id: str, service: Service) -> bool:
        pages = self._route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone_id)
        return any(
            fnmatchcase(name, record["Name"].replace("\\052", "*").rstrip("."))
            for page in pages
            for record in page["ResourceRecordSets"]
            for name in service.private_dns_names
            if record["Type"] in _ADDRESSES
        )

    def _context(self, endpoints: tuple[Endpoint, ...] | Unread) -> dict[str, str] | Unread:
        """Return what policies may ask of the organisation; without a call where none does."""
        if isinstance(endpoints, Unread) or not any("orgid" in one.policy.lower() for one in endpoints):
            return {}
        found = _seen("organizations", self._organisation)
        if isinstance(found, Unread):
            return found
        return {"aws:principalorgid": found} | ({"aws:resourceorgid": found} if self._is_own else {})

    def _organisation(self) -> str:
        try:
            return str(self._client("organizations").describe_organization()["Organization"]["Id"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "AWSOrganizationsNotInUseException":
                return ""
            raise

    def _profile(self, item: dict[str, Any]) -> Profile | None:
        """Associations, not DescribeInstances, say what holds right after a profile was replaced."""
        wanted = {"instance-id": [item["InstanceId"]]}
        operation, key = "describe_iam_instance_profile_associations", "IamInstanceProfileAssociations"
        listed = _seen("ec2", lambda: list(read(self._ec2, operation, key, wanted)))
        associated = [] if isinstance(listed, Unread) else [one for one in listed if one["State"] in _ASSOCIATED]
        held = (associated[0] if associated else item).get("IamInstanceProfile")
        if not held:
            return None
        name = held["Arn"].rsplit("/", 1)[-1]
        return Profile(name, _seen("iam", lambda: self._role(name)))

    def _role(self, profile_name: str) -> Role | None:
        try:
            found = self._iam.get_instance_profile(InstanceProfileName=profile_name)["InstanceProfile"]["Roles"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchEntity":
                return None
            raise
        if not found:
            return None
        return Role(found[0]["RoleName"], _seen("iam", lambda: self._permissions(found[0]["Arn"])))

    def _permissions(self, role_arn: str) -> Permissions:
        if not self.question.action:
            return Permissions()
        action, resource = self.question.action, self.question.resource
        # For the agent, it matters whether the role lets it register: else it turns to Default Host Management.
        actions = {action, REGISTERS} if is_for_the_agent([action]) else {action}
        try:
            return simulated(self._iam, self._region, role_arn, actions, resource)
        except ClientError as error:
            if error.response["Error"]["Code"] == NOT_EVALUATED:
                return Permissions(unread=error.response["Error"]["Message"])
            raise


def _seen(service: str, ask: Callable[[], _T]) -> _T | Unread:
    """Ask, and note the permission that is missing when AWS refuses."""
    try:
        return ask()
    except ClientError as error:
        if error.response["Error"]["Code"] in _REFUSED:
            return Unread(f"{service}:{error.operation_name}")
        raise


def _is_associated(block: dict[str, Any]) -> bool:
    return bool(block["CidrBlockState"]["State"] == "associated")


def _route(item: dict[str, Any]) -> Route:
    destination = item.get("DestinationCidrBlock") or item.get("DestinationPrefixListId", "")
    target = next((item[name] for name in _TARGETS if item.get(name)), "an unknown target")
    return Route(destination, target, is_active=item.get("State") != "blackhole")


def _bare(name: str) -> str:
    return name.removeprefix("*.")


def _rules(items: Iterable[dict[str, Any]]) -> tuple[GroupRule, ...]:
    return tuple(group_rule({**each, "Ipv6Ranges": []}) for each in items)


def _ipv4(cidrs: Iterable[str]) -> tuple[str, ...]:
    return tuple(cidr for cidr in cidrs if ":" not in cidr)
