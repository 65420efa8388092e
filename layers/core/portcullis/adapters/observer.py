"""What was asked for of an account and Region, read afresh: VPCs (see vpcs.py), instances and their roles.

In bulk: calls grow with pages, not with resources. Page sizes are the largest that the service models allow.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import translated
from portcullis.adapters.pages import hidden_too, read
from portcullis.adapters.permissions import RolePermissions
from portcullis.adapters.surroundings import AwsSurroundings
from portcullis.adapters.vpcs import AwsVpcs, tags_of
from portcullis.model import Instance, InstanceProfile, Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from portcullis.adapters.accounts import Accounts
    from portcullis.model import InterfaceService, Needs, Scope, Vpc
    from portcullis.ports import Clock
    from portcullis.surroundings import Surroundings

PERMISSIONS = (
    "ec2:DescribeIamInstanceProfileAssociations",
    "ec2:DescribeInstances",
    "ec2:DescribeRegions",
    "iam:GetInstanceProfile",
    "iam:ListInstanceProfiles",
)
"""The IAM actions that this module uses, with the observer role."""

_FEW_PROFILES = 5
_PROFILES = 1000
# Of some ten kilobytes each.
_KEPT = ("InstanceId", "State", "VpcId", "IamInstanceProfile", "Operator", "SecurityGroups", "Tags")
_LIVING = ("pending", "running", "stopping", "stopped")


class Ec2Observer:
    """The Observer port over EC2, IAM, Route 53 and Systems Manager.

    Args:
        accounts: The way into the members.
        home_region: The function's own Region, which every account has switched on.
        clock: The time.
    """

    def __init__(self, accounts: Accounts, home_region: str, clock: Clock) -> None:
        self._accounts = accounts
        self._home_region = home_region
        self._vpcs = AwsVpcs(accounts)
        self._permissions = RolePermissions(accounts, clock)
        self._surroundings = AwsSurroundings(accounts, clock)

    def observe(self, scope: Scope, needs: Needs) -> Snapshot:
        """Read what the scope names, and what is needed of it. See ports.Observer."""
        snapshot = Snapshot(scope, partition=self._accounts.partition)
        with translated(f"observing {scope.account_id} {scope.region}"):
            ec2 = self._accounts.observer("ec2", scope.account_id, scope.region)
            if scope.everything or scope.vpc_ids:
                snapshot = self._with_vpcs(snapshot, needs)
            items: list[dict[str, Any]] = []
            if scope.everything or scope.instance_ids:
                items = _living(ec2, {} if scope.everything else {"instance-id": scope.instance_ids})
                snapshot = self._with_instances(snapshot, items, needs)
            if needs.instance_connect and snapshot.vpcs:
                there = items if scope.everything else _living(ec2, {"vpc-id": snapshot.vpcs})
                snapshot = replace(snapshot, vpcs=_with_instance_groups(snapshot.vpcs, there))
        return snapshot

    def _with_vpcs(self, snapshot: Snapshot, needs: Needs) -> Snapshot:
        scope = snapshot.scope
        vpcs = self._vpcs.read(scope, needs)
        if not vpcs:
            return snapshot
        gateways = self._vpcs.gateway_services(scope.account_id, scope.region)
        interfaces: Mapping[str, InterfaceService] = {}
        if needs.interface_services:
            interfaces = self._vpcs.interface_services(scope.account_id, scope.region, needs.interface_services)
            vpcs |= {vpc.vpc_id: vpc for vpc in self._vpcs.with_names(scope, vpcs, interfaces)}
        return replace(snapshot, vpcs=vpcs, gateway_services=gateways, interface_services=interfaces)

    def _with_instances(self, snapshot: Snapshot, items: Collection[dict[str, Any]], needs: Needs) -> Snapshot:
        account_id, region = snapshot.scope.account_id, snapshot.scope.region
        ec2, iam = (self._accounts.observer(service, account_id, region) for service in ("ec2", "iam"))
        instances = _instances(ec2, iam, snapshot.scope, items)
        given: dict[str, InstanceProfile] = {}
        if any(instance.profile is None for instance in instances.values()):
            given = {name: found for name in sorted(needs.profiles) if (found := _profile(iam, name))}
        held = [instance.profile for instance in instances.values() if instance.profile]
        roles = {profile.role_names[0]: profile.role_arn for profile in held if profile.role_names}
        asks = instances and needs.host_management
        return replace(
            snapshot,
            instances=instances,
            profiles=given,
            permissions=self._permissions.read(account_id, region, roles, needs),
            host_management=self._permissions.host_management(account_id, region) if asks else None,
        )

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


def _living(ec2: Any, wanted: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    hidden = hidden_too(ec2, "DescribeInstances")
    return [
        {name: item[name] for name in _KEPT if name in item}
        for reservation in read(ec2, "describe_instances", "Reservations", wanted, **hidden)
        for item in reservation["Instances"]
        if item["State"]["Name"] in _LIVING
    ]


def _with_instance_groups(vpcs: Mapping[str, Vpc], items: Collection[dict[str, Any]]) -> dict[str, Vpc]:
    found: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for item in items:
        # Those of the first interface: an endpoint connects to its address.
        group_ids = {group["GroupId"] for group in item.get("SecurityGroups", [])}
        found[item.get("VpcId", "")].add(tuple(sorted(group_ids)))
    return {vpc_id: replace(vpc, instance_groups=tuple(sorted(found[vpc_id]))) for vpc_id, vpc in vpcs.items()}


def _instances(ec2: Any, iam: Any, scope: Scope, found: Collection[dict[str, Any]]) -> dict[str, Instance]:
    wanted = {} if scope.everything else {"instance-id": scope.instance_ids}
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
            tags=tags_of(item),
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
    """A profile holds one role at most."""
    names = tuple(role["RoleName"] for role in item["Roles"])
    role_arn = next((role["Arn"] for role in item["Roles"]), "")
    return InstanceProfile(item["InstanceProfileName"], item["Arn"], names, role_arn)


def _empty(arn: str) -> InstanceProfile:
    """A profile that an instance still names, and that was deleted, gives no credentials either."""
    return InstanceProfile(_name(arn), arn)


def _name(arn: str) -> str:
    """A profile's ARN may hold a path; its name is the last part."""
    return arn.rsplit("/", 1)[-1]
