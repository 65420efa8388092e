"""A generated organisation behind clients that look like boto3's: real page sizes, every call counted, nothing kept.

A resource follows from its number alone, so a page is made when it is asked for and forgotten with the answer: what
a benchmark then measures is the program's memory. The table of findings grows with the organisation; in AWS it lies
in DynamoDB, here in a database on disk, outside of what tracemalloc sees.

What making the answers takes is measured apart (``Aws.cpu``), so that the CPU seconds of a sweep without it are
Portcullis's own: real answers are parsed by boto3 instead, which takes more.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import process_time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Listing = tuple[str, Sequence[Any], Callable[[Any], dict[str, Any]]]
    """The key under which a listing gives its items, the numbers of all, and what makes one from its number."""

HUB = "123456789012"
HOME = "eu-central-1"
TABLES = 3
ROLELESS, DEFAULT = "empty", "portcullis-default"
PROFILES = ("web", "batch", ROLELESS, DEFAULT)
_SHARED_BY = "999999999999"
_SERVICES = ("s3", "dynamodb")
_QUERY_BYTES = 1024 * 1024
# The largest pages that AWS gives, and the largest batches that it takes.
_PAGE = {"describe_route_tables": 100, "list_accounts_for_parent": 20, "list_organizational_units_for_parent": 20}
_OTHER_PAGE = 1000
_BATCH = {"TransactItems": 100, "Findings": 100, "Entries": 10}
# So that an instance weighs what DescribeInstances gives of one: 10 KB; and an interface a third of that.
_FIELDS = {f"Field{number}": {"Value": f"value {number} of it"} for number in range(30)}
_BALLAST, _LESS_BALLAST = json.dumps(_FIELDS), json.dumps(dict(list(_FIELDS.items())[:10]))


@dataclass(frozen=True)
class Shape:
    """How large the organisation is, and how much of it is wrong.

    ``state``: in ``new``, half of the VPCs lack endpoints, a tenth of the instances a profile, and another tenth a role
    in theirs; ``mended`` leaves what only people can mend, ``clean`` nothing.
    """

    accounts: int = 40
    regions: tuple[str, ...] = (HOME, "eu-west-1", "us-east-1", "us-west-2", "ap-southeast-2")
    vpcs: int = 25
    instances: int = 100
    state: Literal["new", "mended", "clean"] = "new"
    sharing: bool = True

    @property
    def places(self) -> int:
        """How many account-Regions there are."""
        return self.accounts * len(self.regions)

    def own_vpcs(self) -> list[int]:
        """List the VPCs of an account-Region that no other account shares with it: 19 of 20."""
        return [k for k in range(self.vpcs) if not (self.sharing and k % 20 == 19)]

    def endpoints(self) -> list[tuple[int, str, range]]:
        """List gateway endpoints: VPC, service, and which of its route tables they cover."""
        both, part = [(service, range(TABLES)) for service in _SERVICES], [("s3", range(1))]
        variants = (both, both, [], part) if self.state == "new" else (both,)
        return [(k, service, tables) for k in self.own_vpcs() for service, tables in variants[k % len(variants)]]

    def profile(self, k: int) -> str | None:
        """Name the profile of an instance."""
        if self.state != "clean" and k % 10 == 5:
            return ROLELESS
        if self.state != "clean" and k % 10 == 0:
            # What belongs to an Auto Scaling group is not mended; the others are given the default profile.
            return DEFAULT if self.state == "mended" and k % 20 else None
        return PROFILES[k % 2]

    def home(self, k: int) -> int:
        """Give the VPC of an instance: those of the second half have none, and are changed without asking."""
        return k % ((self.vpcs + 1) // 2)

    def tags(self, k: int) -> list[dict[str, str]]:
        """Give the tags of an instance: every twentieth belongs to an Auto Scaling group."""
        return [{"Key": "team" if k % 20 else "aws:autoscaling:groupName", "Value": "web"}]


class Aws:
    """All of AWS behind a boto3 session. A member's access key is its account id, as AssumeRole gives it here."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.calls: Counter[str] = Counter()
        self.cpu = 0.0
        self.filed = self.enqueued = 0
        self.table = sqlite3.connect("", isolation_level=None)  # "": a private file on disk
        self.table.execute("CREATE TABLE items (pk TEXT, sk TEXT, item TEXT, PRIMARY KEY (pk, sk))")
        self.table.execute("BEGIN")

    def client(self, service: str, *, region_name: str = HOME, aws_access_key_id: str = HUB, **_: Any) -> Client:
        """Make a client, as boto3's sessions do."""
        return Client(self, service, aws_access_key_id, region_name)


class Client:
    """A client of any service: it answers what has a ``_do_`` below, and lists what has a ``_list_``."""

    meta = SimpleNamespace(
        service_model=SimpleNamespace(
            operation_model=lambda _: SimpleNamespace(input_shape=SimpleNamespace(members=("IncludeManagedResources",)))
        )
    )

    def __init__(self, aws: Aws, service: str, account_id: str, region: str) -> None:
        self._aws = aws
        self._service = service
        self._account_id = account_id
        self._region = region
        self._stem = f"{crc32(f'{account_id}{region}'.encode()):08x}"

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        answer = vars(Client)[f"_do_{operation}"]  # getattr would keep the names that are made here

        def call(**asked: Any) -> dict[str, Any]:
            if any(len(asked.get(name, ())) > most for name, most in _BATCH.items()):
                raise ValueError(f"{operation} takes no batch as large as this")
            with self._call(operation):
                made: dict[str, Any] = answer(self, asked)
            return made

        return call

    def get_paginator(self, operation: str) -> SimpleNamespace:
        """Make a paginator, as boto3's clients do."""
        return SimpleNamespace(paginate=self._query if operation == "query" else partial(self._pages, operation))

    @contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        """Count a call, and the CPU seconds that it takes to make the answer."""
        self._aws.calls[f"{self._service} {operation}"] += 1
        started = process_time()
        yield
        self._aws.cpu += process_time() - started

    def _pages(self, operation: str, **asked: Any) -> Iterator[dict[str, Any]]:
        key, numbers, make = self._listing(operation, asked.get("Filters", []))
        most = _PAGE.get(operation, _OTHER_PAGE)
        size = asked.get("PaginationConfig", {}).get("PageSize", most)
        if size > most:
            raise ValueError(f"{operation} gives no pages of {size}")
        for start in range(0, max(1, len(numbers)), size):
            with self._call(operation):
                answer = {key: [make(number) for number in numbers[start : start + size]]}
            yield answer

    def _listing(self, operation: str, filters: Sequence[dict[str, Any]]) -> Listing:
        """Return a listing: of everything, or of what is around the VPCs that a filter names."""
        wanted = {one["Name"]: one["Values"] for one in filters}
        if "vpc-id" in wanted:
            numbers = [int(vpc_id[-9:], 16) for vpc_id in wanted["vpc-id"]]
            listing: Listing = vars(Client)[f"_around_{operation}"](self, numbers)
        else:
            listing = vars(Client)[f"_list_{operation}"](self, *wanted.get("group-id", ()))
        return listing

    def _query(self, **asked: Any) -> Iterator[dict[str, Any]]:
        """Read a partition in pages of a megabyte, which are filtered only after they were read."""
        values, last, more = asked["ExpressionAttributeValues"], "", True
        rows = "SELECT sk, item FROM items WHERE pk = ? AND sk > ? ORDER BY sk"
        while more:
            items, read, more = [], 0, False
            with self._call("query"):
                for sort_key, text in self._aws.table.execute(rows, (values[":pk"]["S"], last)):
                    if more := read > _QUERY_BYTES:
                        break
                    last, read, item = sort_key, read + len(text), json.loads(text)
                    if item.get("record_state", {}).get("S") != "ARCHIVED":
                        items.append(item)
            yield {"Items": items}

    def _id(self, prefix: str, number: int) -> str:
        return f"{prefix}-{self._stem}{number:09x}"

    def _arn(self, profile: str | None) -> str:
        return f"arn:aws:iam::{self._account_id}:instance-profile/{profile}"

    def _list_describe_vpcs(self) -> Listing:
        own = set(self._aws.shape.own_vpcs())

        def make(k: int) -> dict[str, Any]:
            owner = self._account_id if k in own else _SHARED_BY
            tags = [{"Key": "Name", "Value": f"network {k}"}]
            return {"VpcId": self._id("vpc", k), "OwnerId": owner, "IsDefault": False, "Tags": tags}

        return "Vpcs", range(self._aws.shape.vpcs), make

    def _list_describe_route_tables(self) -> Listing:
        """The main table of a VPC has no subnets of its own, the others have one and two."""

        def make(number: tuple[int, int]) -> dict[str, Any]:
            k, table = number
            return {
                "RouteTableId": self._id("rtb", TABLES * k + table),
                "VpcId": self._id("vpc", k),
                "Associations": [{"SubnetId": self._id("subnet", 100 * k + 10 * table + n)} for n in range(table)]
                or [{"Main": True, "AssociationState": {"State": "associated"}}],
                "Routes": [{"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local", "State": "active"}],
            }

        return "RouteTables", [(k, table) for k in self._aws.shape.own_vpcs() for table in range(TABLES)], make

    def _list_describe_vpc_endpoints(self) -> Listing:
        def make(number: tuple[int, str, range]) -> dict[str, Any]:
            k, service, tables = number
            return {
                "VpcEndpointId": self._id("vpce", 2 * k + _SERVICES.index(service)),
                "VpcId": self._id("vpc", k),
                "ServiceName": f"com.amazonaws.{self._region}.{service}",
                "State": "available",
                "PolicyDocument": '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*"}]}',
                "RouteTableIds": [self._id("rtb", TABLES * k + table) for table in tables],
            }

        return "VpcEndpoints", self._aws.shape.endpoints(), make

    def _list_describe_vpc_endpoint_services(self) -> Listing:
        return "ServiceDetails", _SERVICES, lambda name: {"ServiceName": f"com.amazonaws.{self._region}.{name}"}

    def _list_describe_instances(self) -> Listing:
        def make(k: int) -> dict[str, Any]:
            instance = json.loads(_BALLAST) | {
                "InstanceId": self._id("i", k),
                "State": {"Name": "running"},
                "VpcId": self._id("vpc", self._aws.shape.home(k)),
                "Tags": self._aws.shape.tags(k),
            }
            if profile := self._aws.shape.profile(k):
                instance["IamInstanceProfile"] = {"Arn": self._arn(profile)}
            return {"Instances": [instance]}

        return "Reservations", range(self._aws.shape.instances), make

    def _list_describe_iam_instance_profile_associations(self) -> Listing:
        shape = self._aws.shape

        def make(k: int) -> dict[str, Any]:
            profile = {"Arn": self._arn(shape.profile(k))}
            return {"InstanceId": self._id("i", k), "IamInstanceProfile": profile, "State": "associated"}

        return "IamInstanceProfileAssociations", [k for k in range(shape.instances) if shape.profile(k)], make

    def _around_describe_instances(self, _: Sequence[int]) -> Listing:
        """None is stopped, and nobody asks for others by their VPC."""
        return "Reservations", (), dict

    def _around_describe_network_interfaces(self, vpcs: Sequence[int]) -> Listing:
        shape = self._aws.shape

        def make(k: int) -> dict[str, Any]:
            vpc = shape.home(k)
            return {
                **json.loads(_LESS_BALLAST),
                "NetworkInterfaceId": self._id("eni", k),
                "VpcId": self._id("vpc", vpc),
                "SubnetId": self._id("subnet", 100 * vpc + 10),
                "Status": "in-use",
                "InterfaceType": "interface",
                "Groups": [{"GroupId": self._id("sg", vpc)}],
                "Attachment": {"InstanceId": self._id("i", k)},
            }

        wanted = set(vpcs)
        return "NetworkInterfaces", [k for k in range(shape.instances) if shape.home(k) in wanted], make

    def _around_describe_network_acls(self, vpcs: Sequence[int]) -> Listing:
        """Every VPC has its default one, which lets everything through."""

        def make(k: int) -> dict[str, Any]:
            rule = {"RuleNumber": 100, "Protocol": "-1", "RuleAction": "allow", "CidrBlock": "0.0.0.0/0"}
            subnets = [100 * k + 10 * table + n for table in range(TABLES) for n in range(table)]
            return {
                "NetworkAclId": self._id("acl", k),
                "VpcId": self._id("vpc", k),
                "Associations": [{"SubnetId": self._id("subnet", number)} for number in subnets],
                "Entries": [{**rule, "Egress": egress} for egress in (False, True)],
            }

        return "NetworkAcls", vpcs, make

    def _list_describe_security_groups(self, *group_ids: str) -> Listing:
        out = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        return "SecurityGroups", group_ids, lambda group_id: {"GroupId": group_id, "IpPermissionsEgress": [out]}

    def _list_describe_prefix_lists(self) -> Listing:
        def make(number: int) -> dict[str, Any]:
            name = f"com.amazonaws.{self._region}.{_SERVICES[number]}"
            return {"PrefixListId": self._id("pl", number), "PrefixListName": name, "Cidrs": ["192.0.2.0/24"]}

        return "PrefixLists", range(len(_SERVICES)), make

    def _list_list_instance_profiles(self) -> Listing:
        return "InstanceProfiles", PROFILES, self._profile

    def _list_list_accounts_for_parent(self) -> Listing:
        return "Accounts", range(self._aws.shape.accounts), lambda k: {"Id": f"{k:012d}", "State": "ACTIVE"}

    def _list_list_organizational_units_for_parent(self) -> Listing:
        return "OrganizationalUnits", (), dict

    def _do_describe_organization(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"Organization": {"MasterAccountId": HUB}}

    def _do_assume_role(self, asked: dict[str, Any]) -> dict[str, Any]:
        keys = {"AccessKeyId": asked["RoleArn"].split(":")[4], "SecretAccessKey": "secret", "SessionToken": "token"}
        return {"Credentials": {**keys, "Expiration": datetime.now(UTC) + timedelta(hours=1)}}

    def _do_describe_regions(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"Regions": [{"OptInStatus": "opt-in-not-required"}]}

    def _do_get_instance_profile(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"InstanceProfile": self._profile(asked["InstanceProfileName"])}

    def _profile(self, name: str) -> dict[str, Any]:
        roles = [] if name == ROLELESS else [{"RoleName": name, "Arn": f"arn:aws:iam::{self._account_id}:role/{name}"}]
        return {"InstanceProfileName": name, "Arn": self._arn(name), "Roles": roles}

    def _do_describe_hub(self, _: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _do_get_parameter(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"Parameter": {"Value": "enabled"}}

    def _do_batch_import_findings(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._aws.filed += len(asked["Findings"])
        return {"FailedFindings": []}

    def _do_send_message_batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._aws.enqueued += len(asked["Entries"])
        return {}

    def _do_transact_write_items(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Write; nobody else does here, so every condition holds."""
        for each in asked["TransactItems"]:
            self._write(each["Put"]["Item"])
        return {}

    def _do_batch_get_item(self, asked: dict[str, Any]) -> dict[str, Any]:
        ((table, wanted),) = asked["RequestItems"].items()
        keys = [(key["pk"]["S"], key["sk"]["S"]) for key in wanted["Keys"]]
        rows = [
            self._aws.table.execute("SELECT item FROM items WHERE pk = ? AND sk = ?", key).fetchone() for key in keys
        ]
        return {"Responses": {table: [json.loads(row[0]) for row in rows if row]}}

    def _do_update_item(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Set attributes, but ``since`` only where there is none."""
        where = tuple(asked["Key"][name]["S"] for name in ("pk", "sk"))
        row = self._aws.table.execute("SELECT item FROM items WHERE pk = ? AND sk = ?", where).fetchone()
        before = json.loads(row[0]) if row else {}
        values = {name[1:]: value for name, value in asked["ExpressionAttributeValues"].items()}
        item = {**before, **values, **asked["Key"], "since": before.get("since", values["since"])}
        self._write(item)
        return {"Attributes": item}

    def _write(self, item: dict[str, Any]) -> None:
        row = (item["pk"]["S"], item["sk"]["S"], json.dumps(item))
        self._aws.table.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", row)
