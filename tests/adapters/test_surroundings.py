"""What is read around route tables: who runs there, what filters there, and which buckets look at addresses."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.adapters.accounts import Role
from portcullis.adapters.observer import Ec2Observer
from portcullis.adapters.surroundings import AwsSurroundings, depends_on_source_address
from portcullis.errors import ObservationError, TransientError
from portcullis.model import GroupRule
from portcullis.surroundings import AclEntry, NetworkInterface, PrefixList, Surroundings

from tests.adapters.doubles import ACCOUNT, HOME_REGION, OTHER_ACCOUNT, OTHER_REGION, REGION, PreparedAccounts, SetClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from portcullis.adapters.accounts import Accounts

    from tests.adapters.doubles import Script

S3 = f"com.amazonaws.{REGION}.s3"
RANGES = [{"PrefixListId": "pl-1", "PrefixListName": S3, "Cidrs": ["192.0.2.0/24"]}]
LOOKS = ["DescribeNetworkInterfaces", "DescribeInstances", "DescribeNetworkAcls"]
NARROW = json.dumps(
    {"Statement": [{"Effect": "Deny", "Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}]}
)
OPEN = json.dumps({"Statement": [{"Effect": "Allow", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}]})


def interface(interface_id: str = "eni-1", **more: Any) -> dict[str, Any]:
    """Return an interface in use, without groups and of no instance, as DescribeNetworkInterfaces lists it."""
    place = {"VpcId": "vpc-1", "SubnetId": "subnet-1"}
    return {"NetworkInterfaceId": interface_id, "Status": "in-use", "InterfaceType": "interface", **place, **more}


def attached(instance_id: str, owner_id: str = ACCOUNT) -> dict[str, Any]:
    """Return what says that an interface is an instance's."""
    return {"Attachment": {"InstanceId": instance_id, "InstanceOwnerId": owner_id, "Status": "attached"}}


def acl(*entries: dict[str, Any], subnets: Sequence[str] = ("subnet-1",), **more: Any) -> dict[str, Any]:
    """Return a network ACL as DescribeNetworkAcls lists it."""
    associations = [{"NetworkAclAssociationId": f"aclassoc-{name}", "SubnetId": name} for name in subnets]
    base = {"NetworkAclId": "acl-1", "VpcId": "vpc-1", "Associations": associations, "Entries": list(entries)}
    return base | more


def entry(number: int = 100, **more: Any) -> dict[str, Any]:
    """Return an entry that lets everything out."""
    base = {"RuleNumber": number, "Egress": True, "RuleAction": "allow", "Protocol": "-1", "CidrBlock": "0.0.0.0/0"}
    return base | more


class Place:
    """A scripted EC2 and S3; the pages follow the order in which they are read."""

    def __init__(self, ec2: Script, s3: Script) -> None:
        self.ec2 = ec2
        self.s3 = s3
        self.clock = SetClock()
        self.accounts = PreparedAccounts(ec2=ec2.client, s3=s3.client)
        self.reader = AwsSurroundings(self.accounts, self.clock)

    def holds(
        self,
        interfaces: Sequence[dict[str, Any]] = (),
        *,
        stopped: Sequence[str] = (),
        groups: Sequence[dict[str, Any]] = (),
        acls: Sequence[dict[str, Any]] = (),
        ranges: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """Expect one look, one page each; ``groups`` empty or ``ranges`` None: not asked for."""
        self.ec2.expect("describe_network_interfaces", {"NetworkInterfaces": list(interfaces)})
        reservations = [{"Instances": [{"InstanceId": instance_id}]} for instance_id in stopped]
        self.ec2.expect("describe_instances", {"Reservations": reservations})
        if groups:
            self.ec2.expect("describe_security_groups", {"SecurityGroups": list(groups)})
        self.ec2.expect("describe_network_acls", {"NetworkAcls": list(acls)})
        if ranges is not None:
            self.ec2.expect("describe_prefix_lists", {"PrefixLists": list(ranges)}, {})

    def lists(self, *names: str) -> None:
        """Expect the buckets of the Region to be listed."""
        request = {"BucketRegion": REGION, "MaxBuckets": 1000}
        self.s3.expect("list_buckets", {"Buckets": [{"Name": name} for name in names]}, request)

    def answers(self, name: str, policy: str) -> None:
        """Expect a bucket's policy to be asked for."""
        self.s3.expect("get_bucket_policy", {"Policy": policy}, {"Bucket": name})

    def look(self, *, buckets: bool = False) -> Surroundings:
        """Read what is around the route tables of one VPC."""
        return self.reader.read(ACCOUNT, REGION, ["vpc-1"], buckets=buckets)["vpc-1"]


@pytest.fixture
def place(script: Callable[[str], Script]) -> Place:
    """Return a scripted account and Region."""
    return Place(script("ec2"), script("s3"))


# ---- Against moto --------------------------------------------------------------------------------------------------


def test_what_runs_in_a_vpc_is_seen(accounts: Accounts, member: Callable[..., Any]) -> None:
    """Through the port: one instance runs, one is stopped, one interface is free; buckets by their policies."""
    ec2, s3 = member("ec2", ACCOUNT), member("s3", ACCOUNT)
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    idle = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.2.0/24")["Subnet"]["SubnetId"]
    launched = ec2.run_instances(ImageId="ami-12345678", MinCount=2, MaxCount=2, SubnetId=subnet_id)["Instances"]
    runs, sleeps = (each["InstanceId"] for each in launched)
    ec2.stop_instances(InstanceIds=[sleeps])
    ec2.create_network_interface(SubnetId=idle)
    for name, policy in (("narrow", NARROW), ("open", OPEN), ("bare", "")):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if policy:
            s3.put_bucket_policy(Bucket=name, Policy=policy)

    observer = Ec2Observer(accounts, HOME_REGION, SetClock())
    around = observer.surroundings(ACCOUNT, REGION, [vpc_id], buckets=True)[vpc_id]

    (used,) = around.interfaces
    assert (used.instance_id, used.subnet_id) == (runs, subnet_id)
    assert around.running == {runs}
    assert around.groups == {used.group_ids[0]: (GroupRule("-1", None, ("0.0.0.0/0",)),)}
    ((acl_id, entries),) = around.acls.items()
    assert around.subnets == {subnet_id: acl_id, idle: acl_id}
    assert AclEntry(100, egress=True, allow=True, protocol="-1", cidr="0.0.0.0/0") in entries
    assert (around.buckets, around.unread_buckets) == (("narrow",), 0)


# ---- Pages and filters ---------------------------------------------------------------------------------------------


def test_every_page_is_read_and_the_largest_is_asked_for(place: Place) -> None:
    """All by filter; stopped instances only, and what managed services hide; groups by id, each once."""
    ec2 = place.ec2
    vpcs: dict[str, Any] = {"Name": "vpc-id", "Values": ["vpc-1", "vpc-2"]}
    of_vpcs: dict[str, Any] = {"Filters": [vpcs], "MaxResults": 1000}
    hidden = {**of_vpcs, "IncludeManagedResources": True}
    first = interface("eni-1", Groups=[{"GroupId": "sg-2"}, {"GroupId": "sg-1"}])
    second = interface("eni-2", VpcId="vpc-2", SubnetId="subnet-2", Groups=[{"GroupId": "sg-1"}], **attached("i-1"))
    third = interface("eni-3", VpcId="vpc-2", SubnetId="subnet-2", **attached("i-2"))
    fourth = interface("eni-4", VpcId="vpc-2", SubnetId="subnet-2", **attached("i-3"))
    name = "describe_network_interfaces"
    ec2.expect(name, {"NetworkInterfaces": [first, second], "NextToken": "n1"}, hidden)
    ec2.expect(name, {"NetworkInterfaces": [third, fourth]}, {**hidden, "NextToken": "n1"})
    stopped = {**hidden, "Filters": [vpcs, {"Name": "instance-state-name", "Values": ["stopped"]}]}
    page: dict[str, Any] = {"Reservations": [{"Instances": [{"InstanceId": "i-2"}]}], "NextToken": "i1"}
    ec2.expect("describe_instances", page, stopped)
    page = {"Reservations": [{"Instances": [{"InstanceId": "i-3"}]}]}
    ec2.expect("describe_instances", page, {**stopped, "NextToken": "i1"})
    of_groups = {"Filters": [{"Name": "group-id", "Values": ["sg-1", "sg-2"]}], "MaxResults": 1000}
    name = "describe_security_groups"
    ec2.expect(name, {"SecurityGroups": [{"GroupId": "sg-1"}], "NextToken": "g1"}, of_groups)
    ec2.expect(name, {"SecurityGroups": [{"GroupId": "sg-2"}]}, {**of_groups, "NextToken": "g1"})
    ec2.expect("describe_network_acls", {"NetworkAcls": [acl()], "NextToken": "a1"}, of_vpcs)
    other = acl(subnets=["subnet-2", "subnet-3"], NetworkAclId="acl-2", VpcId="vpc-2")
    ec2.expect("describe_network_acls", {"NetworkAcls": [other]}, {**of_vpcs, "NextToken": "a1"})
    ec2.expect("describe_prefix_lists", {"PrefixLists": RANGES, "NextToken": "p1"}, {})
    more = [{"PrefixListId": "pl-2", "PrefixListName": "other", "Cidrs": ["198.51.100.0/24"]}]
    ec2.expect("describe_prefix_lists", {"PrefixLists": more}, {"NextToken": "p1"})

    found = place.reader.read(ACCOUNT, REGION, ["vpc-2", "vpc-1"], buckets=False)

    shared: dict[str, Any] = {
        "groups": {"sg-1": (), "sg-2": ()},
        "prefix_lists": {S3: PrefixList("pl-1", ("192.0.2.0/24",)), "other": PrefixList("pl-2", ("198.51.100.0/24",))},
    }
    one = NetworkInterface("eni-1", "subnet-1", ("sg-1", "sg-2"))
    two = NetworkInterface("eni-2", "subnet-2", ("sg-1",), "i-1")
    assert found == {
        "vpc-1": Surroundings({"subnet-1": "acl-1"}, (one,), {"acl-1": ()}, **shared),
        "vpc-2": Surroundings({"subnet-2": "acl-2", "subnet-3": "acl-2"}, (two,), {"acl-2": ()}, **shared),
    }
    assert found["vpc-2"].running == {"i-1"}


def test_a_request_holds_200_filter_values_in_all(place: Place) -> None:
    """Of 400 VPCs, 200 go into a call; where the state is a value too, 199 do."""
    ids = sorted(f"vpc-{number:03}" for number in range(400))
    for chunk in (ids[:200], ids[200:]):
        filters = {"Filters": [{"Name": "vpc-id", "Values": chunk}], "MaxResults": 1000}
        request = {**filters, "IncludeManagedResources": True}
        place.ec2.expect("describe_network_interfaces", {"NetworkInterfaces": []}, request)
    for chunk in (ids[:199], ids[199:398], ids[398:]):
        vpcs: dict[str, Any] = {"Name": "vpc-id", "Values": chunk}
        state: dict[str, Any] = {"Name": "instance-state-name", "Values": ["stopped"]}
        request = {"Filters": [vpcs, state], "MaxResults": 1000}
        place.ec2.expect("describe_instances", {"Reservations": []}, {**request, "IncludeManagedResources": True})
    for chunk in (ids[:200], ids[200:]):
        filters = {"Filters": [{"Name": "vpc-id", "Values": chunk}], "MaxResults": 1000}
        place.ec2.expect("describe_network_acls", {"NetworkAcls": []}, filters)
    place.ec2.expect("describe_prefix_lists", {"PrefixLists": []})

    found = place.reader.read(ACCOUNT, REGION, ids, buckets=False)

    assert found == dict.fromkeys(ids, Surroundings())


def test_one_vpc_costs_five_calls_and_four_from_then_on(place: Place) -> None:
    """The addresses of services are asked for once per Region and hour."""
    used = interface(Groups=[{"GroupId": "sg-1"}])
    looks = ["DescribeNetworkInterfaces", "DescribeInstances", "DescribeSecurityGroups", "DescribeNetworkAcls"]
    group = {"GroupId": "sg-1"}
    place.holds([used], groups=[group], ranges=RANGES)
    place.holds([used], groups=[group])
    place.look()
    place.clock.time += timedelta(minutes=59)
    assert place.look().prefix_lists == {S3: PrefixList("pl-1", ("192.0.2.0/24",))}
    assert place.ec2.calls == [*looks, "DescribePrefixLists", *looks]

    place.clock.time += timedelta(minutes=1)
    place.holds([], ranges=[])
    assert place.look().prefix_lists == {}

    place.holds([], ranges=RANGES)
    assert place.reader.read(ACCOUNT, OTHER_REGION, ["vpc-1"], buckets=False)["vpc-1"].prefix_lists


def test_reads_use_the_observer_role_in_the_account_and_region(place: Place) -> None:
    """EC2, and S3 only when buckets are asked for."""
    place.holds(ranges=[])
    place.holds()
    place.lists()

    assert place.look().buckets is None
    assert place.look(buckets=True).buckets == ()

    ec2, s3 = ((service, ACCOUNT, REGION, Role.OBSERVER) for service in ("ec2", "s3"))
    assert place.accounts.asked == [ec2, ec2, s3]


# ---- What counts as running ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "counts"),
    [
        ({}, True),
        ({"Status": "available"}, False),
        ({"Status": "attaching"}, True),
        ({"Status": "associated", "InterfaceType": "branch"}, True),
        (attached("i-running"), True),
        (attached("i-stopped"), False),
        (attached("i-elsewhere", OTHER_ACCOUNT), True),
        ({"Attachment": {"InstanceOwnerId": "amazon-aws", "Status": "attached"}}, True),
        ({"InterfaceType": "lambda"}, True),
        ({"InterfaceType": "transit_gateway"}, True),
        ({"InterfaceType": "a_kind_of_tomorrow"}, True),
        ({"InterfaceType": "nat_gateway"}, False),
        ({"InterfaceType": "natGateway"}, False),
        ({"InterfaceType": "gateway_load_balancer_endpoint"}, False),
        ({"InterfaceType": "vpc_endpoint"}, False),
        ({"InterfaceType": "ec2_instance_connect_endpoint"}, False),
        ({"InterfaceType": "load_balancer"}, False),
        ({"InterfaceType": "network_load_balancer"}, False),
        ({"InterfaceType": "gateway_load_balancer"}, False),
    ],
)
def test_what_may_send_to_a_service_counts(place: Place, what: dict[str, Any], *, counts: bool) -> None:
    """Whatever is not known to be idle or silent does: a stopped instance is asked for, a running one is assumed."""
    place.holds([interface(**what)], stopped=["i-stopped"], ranges=[])

    assert [each.interface_id for each in place.look().interfaces] == (["eni-1"] if counts else [])


# ---- What is made of the answers -----------------------------------------------------------------------------------


def test_rules_of_groups_keep_what_lets_ipv4_out(place: Place) -> None:
    """Ports or all of them; ranges, prefix lists and groups; no IPv6, to which no gateway endpoint answers."""
    rules = [
        {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-1"}]},
        {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]},
        {"IpProtocol": "-1", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
        {"IpProtocol": "47", "Ipv6Ranges": [{"CidrIpv6": "::/0"}], "UserIdGroupPairs": [{"GroupId": "sg-2"}]},
    ]
    inwards = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    group = {"GroupId": "sg-1", "IpPermissionsEgress": rules, "IpPermissions": inwards}
    place.holds([interface(Groups=[{"GroupId": "sg-1"}])], groups=[group], ranges=[])

    assert place.look().groups["sg-1"] == (
        GroupRule("tcp", (443, 443), prefix_list_ids=("pl-1",)),
        GroupRule("tcp", (0, 65535), ("192.0.2.0/24",)),
        GroupRule("-1", None, ("10.0.0.0/8",)),
        GroupRule("47", group_ids=("sg-2",)),
    )


def test_entries_of_acls_keep_what_concerns_ipv4(place: Place) -> None:
    """An entry for IPv6 says nothing about IPv4."""
    ports = {"From": 1024, "To": 65535}
    inwards = entry(200, Egress=False, Protocol="6", RuleAction="deny", PortRange=ports, CidrBlock="192.0.2.0/24")
    of_ipv6 = {name: value for name, value in entry(300).items() if name != "CidrBlock"} | {"Ipv6CidrBlock": "::/0"}
    place.holds(acls=[acl(entry(), inwards, of_ipv6)], ranges=[])

    assert place.look().acls == {
        "acl-1": (
            AclEntry(100, egress=True, allow=True, protocol="-1", cidr="0.0.0.0/0"),
            AclEntry(200, egress=False, allow=False, protocol="6", cidr="192.0.2.0/24", ports=(1024, 65535)),
        )
    }


def test_prefix_lists_without_ipv4_addresses_are_left_out(place: Place) -> None:
    """One without addresses tells nothing, and one of IPv6 is another list."""
    others: list[dict[str, Any]] = [
        {"PrefixListId": "pl-2", "PrefixListName": "bare"},
        {"PrefixListId": "pl-3", "PrefixListName": f"com.amazonaws.{REGION}.ipv6.s3", "Cidrs": ["2001:db8::/32"]},
    ]
    place.holds(ranges=[*RANGES, *others])

    assert place.look().prefix_lists == {S3: PrefixList("pl-1", ("192.0.2.0/24",))}


# ---- Buckets -------------------------------------------------------------------------------------------------------


def test_buckets_are_listed_in_pages_and_asked_one_by_one(place: Place) -> None:
    """Only those of the Region; one without policy, or deleted meanwhile, depends on nothing."""
    place.holds(ranges=[])
    request = {"BucketRegion": REGION, "MaxBuckets": 1000}
    place.s3.expect("list_buckets", {"Buckets": [{"Name": "d"}, {"Name": "b"}], "ContinuationToken": "c1"}, request)
    rest = {"Buckets": [{"Name": "a"}, {"Name": "c"}]}
    place.s3.expect("list_buckets", rest, {**request, "ContinuationToken": "c1"})
    place.answers("a", NARROW)
    place.answers("b", OPEN)
    place.s3.refuse("get_bucket_policy", "NoSuchBucketPolicy", status=404)
    place.s3.refuse("get_bucket_policy", "NoSuchBucket", status=404)

    around = place.look(buckets=True)

    assert (around.buckets, around.unread_buckets) == (("a",), 0)


def test_a_policy_that_may_not_be_read_is_counted(place: Place) -> None:
    """A bucket may deny its own account's readers; the others are read."""
    place.holds(ranges=[])
    place.lists("a", "b", "c")
    place.s3.refuse("get_bucket_policy", "AccessDenied", status=403)
    place.answers("b", NARROW)
    place.s3.refuse("get_bucket_policy", "MethodNotAllowed", status=405)

    around = place.look(buckets=True)

    assert (around.buckets, around.unread_buckets) == (("b",), 2)


def test_more_buckets_than_a_look_has_time_for_are_counted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call each: beyond the limit they are not asked, and said to be unread."""
    monkeypatch.setattr("portcullis.adapters.surroundings._MOST_BUCKETS", 2)
    place.holds(ranges=[])
    place.lists("a", "b", "c", "d", "e")
    place.answers("a", OPEN)
    place.answers("b", NARROW)

    around = place.look(buckets=True)

    assert (around.buckets, around.unread_buckets) == (("b",), 3)


def test_what_is_known_of_buckets_is_kept_for_an_hour(place: Place) -> None:
    """Per account and Region; a failure is not kept."""
    place.holds(ranges=[])
    place.lists("a")
    place.s3.refuse("get_bucket_policy", "SlowDown", status=503)
    with pytest.raises(TransientError):
        place.look(buckets=True)

    place.holds()
    place.lists("a")
    place.answers("a", NARROW)
    assert place.look(buckets=True).buckets == ("a",)
    place.clock.time += timedelta(minutes=59)
    place.holds(ranges=None)
    assert place.look(buckets=True).buckets == ("a",)

    place.holds(ranges=None)
    place.lists()
    other = place.reader.read(OTHER_ACCOUNT, REGION, ["vpc-1"], buckets=True)
    assert other["vpc-1"].buckets == ()

    place.clock.time += timedelta(minutes=1)
    place.holds(ranges=[])
    place.lists("a")
    place.answers("a", OPEN)
    assert place.look(buckets=True).buckets == ()


def condition(operator: str, key: str) -> dict[str, Any]:
    """Return a statement with one condition."""
    return {"Effect": "Allow", "Condition": {"Bool": {"aws:SecureTransport": "true"}, operator: {key: "192.0.2.0/24"}}}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], False),
        ([{"Effect": "Allow"}], False),
        ({"Effect": "Allow"}, False),
        (condition("IpAddress", "aws:SourceIp"), True),
        ([{"Effect": "Allow"}, condition("NotIpAddress", "aws:SourceIp")], True),
        ([condition("NotIpAddressIfExists", "AWS:sourceip")], True),
        ([condition("Null", "aws:SourceIp")], True),
        ([condition("IpAddress", "aws:VpcSourceIp")], False),
        ([condition("StringEquals", "aws:SourceVpce")], False),
        ([{"Effect": "Allow", "Resource": "arn:aws:s3:::aws:SourceIp"}], False),
    ],
)
def test_a_policy_depends_on_the_source_address_when_a_condition_names_it(statements: Any, *, expected: bool) -> None:
    """In whatever letter case, with any operator; a policy may hold one statement without a list."""
    assert depends_on_source_address(json.dumps({"Statement": statements})) is expected


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"), [("RequestLimitExceeded", TransientError), ("UnauthorizedOperation", ObservationError)]
)
@pytest.mark.parametrize(
    "operation",
    [
        "describe_network_interfaces",
        "describe_instances",
        "describe_security_groups",
        "describe_network_acls",
        "describe_prefix_lists",
    ],
)
def test_a_read_that_fails_leaves_nothing_to_believe(
    place: Place, operation: str, code: str, expected: type[Exception]
) -> None:
    """Whichever it is: what was not seen is not taken for idle or open."""
    answers: dict[str, dict[str, Any]] = {
        "describe_network_interfaces": {"NetworkInterfaces": [interface(Groups=[{"GroupId": "sg-1"}])]},
        "describe_instances": {"Reservations": []},
        "describe_security_groups": {"SecurityGroups": []},
        "describe_network_acls": {"NetworkAcls": []},
    }
    for name, answer in answers.items():
        if name == operation:
            break
        place.ec2.expect(name, answer)
    place.ec2.refuse(operation, code)

    with pytest.raises(expected, match=f"^looking at what runs in {ACCOUNT} {REGION}: {code}"):
        place.look()


def test_buckets_that_may_not_be_listed_are_not_no_buckets(place: Place) -> None:
    """The policy asks for the check, so a look without it is none."""
    place.holds(ranges=[])
    place.s3.refuse("list_buckets", "AccessDenied", status=403)

    with pytest.raises(ObservationError, match="AccessDenied"):
        place.look(buckets=True)


def test_a_boto3_that_is_older_than_the_parameter_is_not_given_it(place: Place) -> None:
    """The runtime brings its own boto3, which may not know IncludeManagedResources yet and would refuse it."""
    model = place.ec2.client.meta.service_model
    for operation in ("DescribeNetworkInterfaces", "DescribeInstances"):
        model.operation_model(operation).input_shape.members.pop("IncludeManagedResources")
    place.holds(ranges=[])

    assert place.look() == Surroundings()
    assert not any("IncludeManagedResources" in request for _, request in place.ec2.requests)
    assert [name for name, _ in place.ec2.requests] == [*LOOKS, "DescribePrefixLists"]
