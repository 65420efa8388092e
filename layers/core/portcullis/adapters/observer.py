"""Reads VPCs and instances in bulk: calls grow with pages, not with resources.

Page sizes are the largest that the EC2 service model allows.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import translated
from portcullis.adapters.endpoint_policies import digest
from portcullis.adapters.pages import hidden_too, read
from portcullis.adapters.surroundings import AwsSurroundings
from portcullis.errors import TransientError
from portcullis.model import Instance, InstanceProfile, RouteTable, Scope, Snapshot, Vpc, VpcEndpoint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from portcullis.adapters.accounts import Accounts
    from portcullis.ports import Clock
    from portcullis.surroundings import Surroundings

PERMISSIONS = (
    "ec2:DescribeIamInstanceProfileAssociations",
    "ec2:DescribeInstances",
    "ec2:DescribeRegions",
    "ec2:DescribeRouteTables",
    "ec2:DescribeVpcEndpointServices",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs",
    "iam:GetInstanceProfile",
    "iam:ListInstanceProfiles",
)
"""The IAM actions that this module uses, with the observer role."""

_FEWER = {"PaginationConfig": {"PageSize": 100}}  # the largest pages of route tables
_FEW_PROFILES = 5
_PROFILES = 1000
_KEPT = ("InstanceId", "State", "VpcId", "IamInstanceProfile", "Operator", "Tags")  # of some ten kilobytes each
_LIVING = ("pending", "running", "stopping", "stopped")


class Ec2Observer:
    """The Observer port over EC2 and IAM.

    Args:
        accounts: The way into the members.
        home_region: The function's own Region, which every account has switched on.
        clock: The time.
    """

    def __init__(self, accounts: Accounts, home_region: str, clock: Clock) -> None:
        self._accounts = accounts
        self._home_region = home_region
        self._surroundings = AwsSurroundings(accounts, clock)
        # Which services a Region offers does not change within the life of a function.
        self._gateway_services: dict[str, dict[str, str]] = {}

    def observe(self, scope: Scope, profiles: Collection[str]) -> Snapshot:
        """Read what the scope names. See ports.Observer."""
        with translated(f"observing {scope.account_id} {scope.region}"):
            ec2 = self._accounts.observer("ec2", scope.account_id, scope.region)
            vpcs = self._vpcs(ec2, scope) if scope.everything or scope.vpc_ids else {}
            services = self._services(ec2, scope.region) if vpcs else {}
            instances: dict[str, Instance] = {}
            given: dict[str, InstanceProfile] = {}
            if scope.everything or scope.instance_ids:
                iam = self._accounts.observer("iam", scope.account_id, scope.region)
                instances = _instances(ec2, iam, scope)
                if any(instance.profile is None for instance in instances.values()):
                    given = {name: found for name in sorted(profiles) if (found := _profile(iam, name))}
        return Snapshot(scope, vpcs, instances, services, given)

    def surroundings(
        self, account_id: str, region: str, vpc_ids: Collection[str], *, buckets: bool
    ) -> dict[str, Surroundings]:
        """Read what runs in some VPCs. See ports.Observer."""
        return self._surroundings.read(account_id, region, vpc_ids, buckets=buckets)

    def region_enabled(self, account_id: str, region: str) -> bool:
        """Ask whether an account has a Region switched on. See ports.Observer.

        A Region that is off answers nothing, so one that is on is asked: the function's own.
        """
        with translated(f"asking for the Regions of {account_id}"):
            ec2 = self._accounts.observer("ec2", account_id, region, at=self._home_region)
            answer = ec2.describe_regions(RegionNames=[region], AllRegions=True)
        return bool(answer["Regions"][0]["OptInStatus"] != "not-opted-in")

    def _vpcs(self, ec2: Any, scope: Scope) -> dict[str, Vpc]:
        def found(operation: str, key: str, **paging: Any) -> Iterator[dict[str, Any]]:
            wanted = {} if scope.everything else {"vpc-id": scope.vpc_ids}
            return read(ec2, operation, key, wanted, **paging)

        tables: dict[str, list[RouteTable]] = defaultdict(list)
        for item in found("describe_route_tables", "RouteTables", **_FEWER):
            tables[item["VpcId"]].append(_route_table(item))
        endpoints: dict[str, list[VpcEndpoint]] = defaultdict(list)
        for item in found("describe_vpc_endpoints", "VpcEndpoints"):
            endpoints[item["VpcId"]].append(_endpoint(item))
        # The VPCs last: one that is deleted meanwhile is gone, not without route tables.
        vpcs = {
            item["VpcId"]: Vpc(
                vpc_id=item["VpcId"],
                owner_id=item["OwnerId"],
                is_default=item.get("IsDefault", False),
                tags=_tags(item),
                route_tables=tuple(tables[item["VpcId"]]),
                endpoints=tuple(endpoints[item["VpcId"]]),
            )
            for item in found("describe_vpcs", "Vpcs")
        }
        for vpc in vpcs.values():
            # Every VPC has a main table. One that seems to lack it is so new that the answers do not agree yet.
            if vpc.owner_id == scope.account_id and not any(table.is_main for table in vpc.route_tables):
                raise TransientError(f"{vpc.vpc_id} has no main route table yet")
        return vpcs

    def _services(self, ec2: Any, region: str) -> dict[str, str]:
        """Ask for the names: they cannot be built from the Region's (China and others differ)."""
        if region not in self._gateway_services:
            gateways = {"service-type": ["Gateway"]}
            found = read(ec2, "describe_vpc_endpoint_services", "ServiceDetails", gateways, PaginationConfig={})
            names = [item["ServiceName"] for item in found]
            if not names:
                # Every Region has some; believing this would archive every open finding.
                raise TransientError(f"{region} lists no gateway endpoint services")
            self._gateway_services[region] = {name.rsplit(".", 1)[-1]: name for name in names}
        return self._gateway_services[region]


def _tags(item: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def _route_table(item: dict[str, Any]) -> RouteTable:
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


def _endpoint(item: dict[str, Any]) -> VpcEndpoint:
    """State strings differ in case between the service model and the wire."""
    return VpcEndpoint(
        endpoint_id=item["VpcEndpointId"],
        vpc_id=item["VpcId"],
        endpoint_type=item.get("VpcEndpointType", "Gateway"),
        service_name=item["ServiceName"],
        state=item.get("State", "").lower(),
        route_table_ids=tuple(sorted(item.get("RouteTableIds", []))),
        subnet_ids=tuple(sorted(item.get("SubnetIds", []))),
        policy_digest=digest(item.get("PolicyDocument")),
        requester_managed=item.get("RequesterManaged", False),
        tags=_tags(item),
    )


def _instances(ec2: Any, iam: Any, scope: Scope) -> dict[str, Instance]:
    wanted = {} if scope.everything else {"instance-id": scope.instance_ids}
    hidden = hidden_too(ec2, "DescribeInstances")
    reservations = read(ec2, "describe_instances", "Reservations", wanted, **hidden)
    found = [
        {name: item[name] for name in _KEPT if name in item}
        for reservation in reservations
        for item in reservation["Instances"]
        if item["State"]["Name"] in _LIVING
    ]
    # Associations, not DescribeInstances, say what holds right after a profile was replaced.
    operation = "describe_iam_instance_profile_associations"
    listed = read(ec2, operation, "IamInstanceProfileAssociations", wanted)
    associations = {item["InstanceId"]: item for item in listed if item["State"] in ("associating", "associated")}
    arns = {
        item["InstanceId"]: associations.get(item["InstanceId"], item).get("IamInstanceProfile", {}).get("Arn")
        for item in found
    }
    profiles = _profiles(iam, {arn for arn in arns.values() if arn})
    return {
        item["InstanceId"]: Instance(
            instance_id=item["InstanceId"],
            state=item["State"]["Name"],
            vpc_id=item.get("VpcId"),
            profile=profiles[arn] if (arn := arns[item["InstanceId"]]) else None,
            association_id=associations.get(item["InstanceId"], {}).get("AssociationId", ""),
            operator=_operator(item),
            tags=_tags(item),
        )
        for item in found
    }


def _operator(item: dict[str, Any]) -> str | None:
    operator = item.get("Operator", {})
    return str(operator.get("Principal") or "an AWS service") if operator.get("Managed") else None


def _profiles(iam: Any, arns: set[str]) -> dict[str, InstanceProfile]:
    """Look profiles up: one call each while they are few, pages of all of them otherwise."""
    if len(arns) <= _FEW_PROFILES:
        return {arn: _profile(iam, _name(arn)) or _empty(arn) for arn in arns}
    pages = iam.get_paginator("list_instance_profiles").paginate(PaginationConfig={"PageSize": _PROFILES})
    listed = {item["Arn"]: _parsed(item) for page in pages for item in page["InstanceProfiles"]}
    return {arn: listed.get(arn) or _empty(arn) for arn in arns}


def _profile(iam: Any, name: str) -> InstanceProfile | None:
    try:
        return _parsed(iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchEntity":
            return None
        raise


def _parsed(item: dict[str, Any]) -> InstanceProfile:
    roles = tuple(role["RoleName"] for role in item["Roles"])
    return InstanceProfile(item["InstanceProfileName"], item["Arn"], roles)


def _empty(arn: str) -> InstanceProfile:
    """A profile that an instance still names, and that was deleted, gives no credentials either."""
    return InstanceProfile(_name(arn), arn)


def _name(arn: str) -> str:
    """A profile's ARN may hold a path; its name is the last part."""
    return arn.rsplit("/", 1)[-1]
