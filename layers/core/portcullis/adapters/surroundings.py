"""Reads what runs around route tables, in bulk: calls grow with pages; only bucket policies cost a call each.

What cannot be told is never taken for idle: an interface counts unless it is free, or of an instance that is stopped,
or of a kind that opens no connections of its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import fault_of, translated
from portcullis.adapters.pages import hidden_too, read
from portcullis.errors import Fault
from portcullis.model import GroupRule
from portcullis.surroundings import AclEntry, NetworkInterface, PrefixList, Surroundings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from portcullis.adapters.accounts import Accounts
    from portcullis.ports import Clock

PERMISSIONS = (
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkAcls",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribePrefixLists",
    "ec2:DescribeSecurityGroups",
    "s3:GetBucketPolicy",
    "s3:ListAllMyBuckets",
)
"""The IAM actions that this module uses, with the observer role; ListBuckets needs ``s3:ListAllMyBuckets``."""

# These open no connections to a service of their own: they answer, send to private addresses, or pass on what comes
# from subnets of the VPC that lack the route as well, and so are in the same change. What comes through a transit
# gateway's attachment is of elsewhere, so that counts.
_SILENT = (
    "ec2_instance_connect_endpoint",
    "gateway_load_balancer",
    "gateway_load_balancer_endpoint",
    "load_balancer",
    "natGateway",  # in the service model
    "nat_gateway",  # on the wire
    "network_load_balancer",
    "vpc_endpoint",
)
_KEPT_FOR = timedelta(hours=1)
_MOST_BUCKETS = 500  # whose policies are read, a call each, so that a look ends in time
_BUCKETS_PAGE = 1000
_NO_POLICY = ("NoSuchBucket", "NoSuchBucketPolicy")


class AwsSurroundings:
    """What the Observer port returns of surroundings, from EC2 and S3.

    Args:
        accounts: The way into the members.
        clock: The time, by which what was read of buckets and of the services' addresses grows old.
    """

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._prefix_lists: dict[str, tuple[datetime, dict[str, PrefixList]]] = {}
        self._buckets: dict[tuple[str, str], tuple[datetime, tuple[str, ...], int]] = {}

    def read(self, account_id: str, region: str, vpc_ids: Collection[str], *, buckets: bool) -> dict[str, Surroundings]:
        """Read what is around the route tables of some VPCs. See ports.Observer."""
        with translated(f"looking at what runs in {account_id} {region}"):
            ec2 = self._accounts.observer("ec2", account_id, region)
            interfaces = _interfaces(ec2, vpc_ids)
            group_ids = {group_id for found in interfaces.values() for each in found for group_id in each.group_ids}
            groups = _groups(ec2, group_ids)
            subnets: dict[str, dict[str, str]] = defaultdict(dict)
            acls: dict[str, dict[str, tuple[AclEntry, ...]]] = defaultdict(dict)
            # Every subnet has exactly one network ACL, the default one where none was chosen: these list the subnets.
            for item in read(ec2, "describe_network_acls", "NetworkAcls", {"vpc-id": vpc_ids}):
                acls[item["VpcId"]][item["NetworkAclId"]] = entries(item)
                subnets[item["VpcId"]] |= {each["SubnetId"]: item["NetworkAclId"] for each in item["Associations"]}
            prefix_lists = self._addresses(ec2, region)
            named, unread = self._dependent_buckets(account_id, region) if buckets else (None, 0)
        return {
            vpc_id: Surroundings(
                subnets=subnets[vpc_id],
                interfaces=tuple(interfaces[vpc_id]),
                acls=acls[vpc_id],
                groups=groups,
                prefix_lists=prefix_lists,
                buckets=named,
                unread_buckets=unread,
            )
            for vpc_id in vpc_ids
        }

    def _addresses(self, ec2: Any, region: str) -> dict[str, PrefixList]:
        """Look the services' addresses up: AWS adds some now and then."""
        now = self._clock.now()
        read_at, found = self._prefix_lists.get(region, (None, {}))
        if read_at is None or now - read_at >= _KEPT_FOR:
            found = {
                item["PrefixListName"]: PrefixList(item["PrefixListId"], cidrs)
                for item in read(ec2, "describe_prefix_lists", "PrefixLists", {}, PaginationConfig={})
                if (cidrs := tuple(cidr for cidr in item.get("Cidrs", []) if ":" not in cidr))  # IPv4
            }
            self._prefix_lists[region] = (now, found)
        return found

    def _dependent_buckets(self, account_id: str, region: str) -> tuple[tuple[str, ...], int]:
        """Return the buckets whose policies depend on the source address, and how many policies were not read."""
        now = self._clock.now()
        read_at, dependent, unread = self._buckets.get((account_id, region), (None, (), 0))
        if read_at is None or now - read_at >= _KEPT_FOR:
            s3 = self._accounts.observer("s3", account_id, region)
            pages = s3.get_paginator("list_buckets").paginate(
                BucketRegion=region, PaginationConfig={"PageSize": _BUCKETS_PAGE}
            )
            names = sorted(bucket["Name"] for page in pages for bucket in page.get("Buckets", []))
            verdicts = {name: _depends(s3, name) for name in names[:_MOST_BUCKETS]}
            dependent = tuple(name for name, verdict in verdicts.items() if verdict)
            unread = len(names) - sum(verdict is not None for verdict in verdicts.values())
            self._buckets[account_id, region] = (now, dependent, unread)
        return dependent, unread


def _interfaces(ec2: Any, vpc_ids: Collection[str]) -> dict[str, list[NetworkInterface]]:
    """Find the interfaces through which something runs, by VPC.

    Stopped instances are asked for, not running ones: they are fewer, and one that starts meanwhile, that is of
    another account (in a shared subnet), or whose first interface is in another VPC counts.
    """
    wanted: dict[str, Collection[str]] = {"vpc-id": vpc_ids}
    hidden = hidden_too(ec2, "DescribeNetworkInterfaces")
    listed = list(read(ec2, "describe_network_interfaces", "NetworkInterfaces", wanted, **hidden))
    hidden = hidden_too(ec2, "DescribeInstances")
    asleep = wanted | {"instance-state-name": ["stopped"]}
    reservations = read(ec2, "describe_instances", "Reservations", asleep, **hidden)
    stopped = {item["InstanceId"] for reservation in reservations for item in reservation["Instances"]}
    found: dict[str, list[NetworkInterface]] = defaultdict(list)
    for item in listed:
        instance_id = item.get("Attachment", {}).get("InstanceId", "")
        if item["Status"] != "available" and item.get("InterfaceType") not in _SILENT and instance_id not in stopped:
            group_ids = tuple(sorted(group["GroupId"] for group in item.get("Groups", [])))
            interface = NetworkInterface(item["NetworkInterfaceId"], item["SubnetId"], group_ids, instance_id)
            found[item["VpcId"]].append(interface)
    return found


def _groups(ec2: Any, group_ids: Collection[str]) -> dict[str, tuple[GroupRule, ...]]:
    """Read groups by id, not by VPC: one may be of another VPC ("Associate security groups with multiple VPCs")."""
    found = read(ec2, "describe_security_groups", "SecurityGroups", {"group-id": group_ids})
    return {
        item["GroupId"]: tuple(group_rule({**each, "Ipv6Ranges": []}) for each in item.get("IpPermissionsEgress", []))
        for item in found
    }


def group_rule(item: Mapping[str, Any]) -> GroupRule:
    """Return a security group's rule, with the addresses of both families."""
    protocol = item["IpProtocol"]
    return GroupRule(
        protocol=protocol,
        ports=None if protocol == "-1" or "FromPort" not in item else (item["FromPort"], item["ToPort"]),
        cidrs=(
            *(each["CidrIp"] for each in item.get("IpRanges", [])),
            *(each["CidrIpv6"] for each in item.get("Ipv6Ranges", [])),
        ),
        prefix_list_ids=tuple(each["PrefixListId"] for each in item.get("PrefixListIds", [])),
        group_ids=tuple(each["GroupId"] for each in item.get("UserIdGroupPairs", [])),
    )


def entries(acl: Mapping[str, Any]) -> tuple[AclEntry, ...]:
    """Return a network ACL's entries; those for IPv6 do not apply to IPv4."""
    return tuple(
        AclEntry(
            number=item["RuleNumber"],
            egress=item["Egress"],
            allow=item["RuleAction"] == "allow",
            protocol=item["Protocol"],
            cidr=item["CidrBlock"],
            ports=(item["PortRange"]["From"], item["PortRange"]["To"]) if item.get("PortRange") else None,
        )
        for item in acl["Entries"]
        if item.get("CidrBlock")
    )


def _depends(s3: Any, name: str) -> bool | None:
    """Tell whether a bucket's policy depends on the source address; None when that cannot be read."""
    try:
        document = s3.get_bucket_policy(Bucket=name)["Policy"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _NO_POLICY:
            return False
        if fault_of(error)[0] is Fault.TRANSIENT:
            raise
        return None
    return depends_on_source_address(document)


def depends_on_source_address(document: str) -> bool:
    """Tell whether any statement of a policy has a condition on ``aws:SourceIp``.

    Names of condition keys are not case-sensitive ("IAM JSON policy elements: Condition", IAM user guide).
    """
    statements = json.loads(document)["Statement"]
    return any(
        key.lower() == "aws:sourceip"
        for statement in (statements if isinstance(statements, list) else [statements])
        for keys in statement.get("Condition", {}).values()
        for key in keys
    )
