"""What is read of VPCs: their route tables and endpoints, in bulk, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from portcullis.adapters.accounts import Role
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.observer import Ec2Observer
from portcullis.endpoint_policies import digest
from portcullis.errors import NotAdmittedError, ObservationError, TransientError
from portcullis.model import CONTROL_TAG, OWNERSHIP_TAG, Needs, RouteTable, Scope, Vpc, VpcEndpoint

from tests.adapters.doubles import (
    ACCOUNT,
    HOME_REGION,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    PreparedAccounts,
    SetClock,
    Wire,
    ec2_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3
    from portcullis.adapters.accounts import Accounts

    from tests.adapters.doubles import Script

PROFILE = "portcullis-default"
NEEDS = Needs(profiles=frozenset({PROFILE}))
S3 = f"com.amazonaws.{REGION}.s3"
DYNAMODB = f"com.amazonaws.{REGION}.dynamodb"
ENDING = {"AssociationState": {"State": "disassociating"}}
SERVICES = [{"ServiceName": S3}, {"ServiceName": DYNAMODB}]


def one(*vpc_ids: str, region: str = REGION) -> Scope:
    """Return a scope of some VPCs."""
    return Scope(ACCOUNT, region, vpc_ids=frozenset(vpc_ids))


def everything() -> Scope:
    """Return the scope of a sweep."""
    return Scope(ACCOUNT, REGION, everything=True)


def vpc(vpc_id: str, **more: Any) -> dict[str, Any]:
    """Return a VPC as DescribeVpcs lists it."""
    return {"VpcId": vpc_id, "OwnerId": ACCOUNT, "IsDefault": False, "State": "available", **more}


def table(vpc_id: str, *associations: dict[str, Any], name: str = "rtb-1") -> dict[str, Any]:
    """Return a route table as DescribeRouteTables lists it."""
    return {"RouteTableId": name, "VpcId": vpc_id, "Associations": list(associations)}


def endpoint(vpc_id: str, **more: Any) -> dict[str, Any]:
    """Return an endpoint as DescribeVpcEndpoints lists it."""
    return {"VpcEndpointId": "vpce-1", "VpcId": vpc_id, "ServiceName": S3, "State": "available", **more}


class Region:
    """A scripted EC2 that holds some VPCs; the pages follow the order in which the observer reads them."""

    def __init__(self, ec2: Script) -> None:
        self.ec2 = ec2
        self.observer = Ec2Observer(PreparedAccounts(ec2=ec2.client), HOME_REGION, SetClock())

    def holds(
        self,
        vpcs: list[dict[str, Any]],
        tables: list[dict[str, Any]] | None = None,
        endpoints: list[dict[str, Any]] | None = None,
        services: list[dict[str, Any]] | None = SERVICES,
    ) -> None:
        """Expect one look, one page each. Each VPC has a main table unless ``tables`` says otherwise.

        ``services`` None: not asked for.
        """
        mains = [table(each["VpcId"], {"Main": True}) for each in vpcs]
        self.ec2.expect("describe_route_tables", {"RouteTables": mains if tables is None else tables})
        self.ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": endpoints or []})
        self.ec2.expect("describe_vpcs", {"Vpcs": vpcs})
        if services is not None:
            self.ec2.expect("describe_vpc_endpoint_services", {"ServiceDetails": services})


@pytest.fixture
def region(script: Callable[[str], Script]) -> Region:
    """Return a scripted Region."""
    return Region(script("ec2"))


# ---- Against moto --------------------------------------------------------------------------------------------------


def test_a_vpc_is_seen_with_its_tables_and_endpoints(accounts: Accounts, member: Callable[..., Any]) -> None:
    """One VPC: owner, tags, the main and the associated tables, our endpoint with its tags, the service names."""
    ec2 = member("ec2", ACCOUNT)
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc_id], Tags=[{"Key": "team", "Value": "shop"}])
    subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    private = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=private, SubnetId=subnet_id)
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"]
    main = next(item["RouteTableId"] for item in tables if item["RouteTableId"] != private)
    tags = {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE.1"}
    made = ec2.create_vpc_endpoint(
        VpcId=vpc_id,
        ServiceName=S3,
        VpcEndpointType="Gateway",
        RouteTableIds=[private],
        TagSpecifications=[
            {"ResourceType": "vpc-endpoint", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )["VpcEndpoint"]

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(one(vpc_id), NEEDS)

    found = seen.vpcs[vpc_id]
    assert found == Vpc(
        vpc_id=vpc_id,
        owner_id=ACCOUNT,
        tags={"team": "shop"},
        route_tables=found.route_tables,
        endpoints=(
            VpcEndpoint(
                endpoint_id=made["VpcEndpointId"],
                vpc_id=vpc_id,
                endpoint_type="Gateway",
                service_name=S3,
                state="available",
                route_table_ids=(private,),
                policy_document=made["PolicyDocument"],
                policy_digest=digest(made["PolicyDocument"]),
                tags=tags,
            ),
        ),
        cidrs=("10.0.0.0/16",),
    )
    assert set(found.route_tables) == {RouteTable(main, is_main=True), RouteTable(private, subnet_ids=(subnet_id,))}
    assert found.endpoints[0].is_ours
    assert seen.gateway_services["s3"] == S3
    assert seen.gateway_services["dynamodb"] == DYNAMODB
    assert seen.instances == {}
    assert seen.profiles == {}


def test_a_vpc_that_is_gone_does_not_hide_the_others(accounts: Accounts, member: Callable[..., Any]) -> None:
    """An id that no longer exists is missing from the snapshot; it does not fail the whole look."""
    kept = member("ec2", ACCOUNT).create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(one(kept, "vpc-0123456789abcdef0"), NEEDS)

    assert set(seen.vpcs) == {kept}


def test_a_sweep_sees_the_whole_account_and_region_and_no_other(accounts: Accounts, member: Callable[..., Any]) -> None:
    """Everything here, the default VPC included; nothing of another account or Region."""
    made = member("ec2", ACCOUNT).create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    elsewhere = {
        member("ec2", OTHER_ACCOUNT).create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"],
        member("ec2", ACCOUNT, OTHER_REGION).create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"],
    }

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(everything(), NEEDS)

    assert made in seen.vpcs
    assert not elsewhere & set(seen.vpcs)
    assert [each.is_default for each in seen.vpcs.values() if each.vpc_id != made] == [True]
    assert {each.owner_id for each in seen.vpcs.values()} == {ACCOUNT}
    assert all(any(table.is_main for table in each.route_tables) for each in seen.vpcs.values())


# ---- Pages and filters ---------------------------------------------------------------------------------------------


def test_every_page_is_read_and_the_largest_is_asked_for(region: Region) -> None:
    """Route tables come 100 at a time, the rest 1,000; each page is asked for with the token of the last."""
    ec2 = region.ec2
    tables = [
        table("vpc-1", {"Main": True}, name="rtb-1"),
        table("vpc-2", {"Main": True}, name="rtb-2"),
        table("vpc-2", name="rtb-3"),
    ]
    page = {"MaxResults": 100}
    ec2.expect("describe_route_tables", {"RouteTables": tables[:1], "NextToken": "t1"}, page)
    ec2.expect("describe_route_tables", {"RouteTables": [], "NextToken": "t2"}, {**page, "NextToken": "t1"})
    ec2.expect("describe_route_tables", {"RouteTables": tables[1:]}, {**page, "NextToken": "t2"})
    page = {"MaxResults": 1000}
    first, second = endpoint("vpc-1"), endpoint("vpc-2", VpcEndpointId="vpce-2")
    ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": [first], "NextToken": "e1"}, page)
    ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": [second]}, {**page, "NextToken": "e1"})
    ec2.expect("describe_vpcs", {"Vpcs": [vpc("vpc-1")], "NextToken": "v1"}, page)
    ec2.expect("describe_vpcs", {"Vpcs": [vpc("vpc-2")]}, {**page, "NextToken": "v1"})
    gateways = {"Filters": [{"Name": "service-type", "Values": ["Gateway"]}]}
    ec2.expect("describe_vpc_endpoint_services", {"ServiceDetails": SERVICES[:1], "NextToken": "s1"}, gateways)
    ec2.expect("describe_vpc_endpoint_services", {"ServiceDetails": SERVICES[1:]}, {**gateways, "NextToken": "s1"})
    ec2.expect("describe_instances", {"Reservations": []})
    ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})

    seen = Ec2Observer(PreparedAccounts(ec2=ec2.client, iam=None), HOME_REGION, SetClock()).observe(everything(), NEEDS)

    assert [item.route_table_id for item in seen.vpcs["vpc-1"].route_tables] == ["rtb-1"]
    assert [item.route_table_id for item in seen.vpcs["vpc-2"].route_tables] == ["rtb-2", "rtb-3"]
    assert [item.endpoint_id for item in seen.vpcs["vpc-2"].endpoints] == ["vpce-2"]
    assert seen.gateway_services == {"s3": S3, "dynamodb": DYNAMODB}


def test_calls_grow_with_pages_not_with_vpcs(region: Region) -> None:
    """A thousand VPCs cost a page of VPCs, a page of endpoints, and ten pages of route tables."""
    ec2, count = region.ec2, 1000
    tables = [table(f"vpc-{n}", {"Main": True}, name=f"rtb-{n}") for n in range(count)]
    for start in range(0, count, 100):
        more = {"NextToken": str(start)} if start < count - 100 else {}
        ec2.expect("describe_route_tables", {"RouteTables": tables[start : start + 100], **more})
    ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": [endpoint(f"vpc-{n}") for n in range(count)]})
    ec2.expect("describe_vpcs", {"Vpcs": [vpc(f"vpc-{n}") for n in range(count)]})
    ec2.expect("describe_vpc_endpoint_services", {"ServiceDetails": SERVICES})
    ec2.expect("describe_instances", {"Reservations": []})
    ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})

    seen = Ec2Observer(PreparedAccounts(ec2=ec2.client, iam=None), HOME_REGION, SetClock()).observe(everything(), NEEDS)

    assert len(seen.vpcs) == count
    assert all(len(each.route_tables) == len(each.endpoints) == 1 for each in seen.vpcs.values())
    assert len(ec2.calls) == 15


def test_many_ids_are_asked_for_in_filters_of_200(region: Region) -> None:
    """A filter holds at most 200 values: 450 VPCs are asked for in three calls of each kind, each id once."""
    ec2, ids = region.ec2, sorted(f"vpc-{n:03}" for n in range(450))
    for operation, key, size in (
        ("describe_route_tables", "RouteTables", 100),
        ("describe_vpc_endpoints", "VpcEndpoints", 1000),
        ("describe_vpcs", "Vpcs", 1000),
    ):
        for chunk in (ids[:200], ids[200:400], ids[400:]):
            found = {
                "RouteTables": [table(vpc_id, {"Main": True}) for vpc_id in chunk],
                "VpcEndpoints": [],
                "Vpcs": [vpc(vpc_id) for vpc_id in chunk],
            }
            request = {"Filters": [{"Name": "vpc-id", "Values": chunk}], "MaxResults": size}
            ec2.expect(operation, {key: found[key]}, request)
    ec2.expect("describe_vpc_endpoint_services", {"ServiceDetails": SERVICES})

    seen = region.observer.observe(one(*ids), NEEDS)

    assert sorted(seen.vpcs) == ids


def test_a_scope_of_vpcs_reads_no_instances(region: Region) -> None:
    """An event about a VPC costs four reads the first time and three from then on, none about instances or IAM."""
    region.holds([vpc("vpc-1")])
    region.holds([vpc("vpc-1")], services=None)

    region.observer.observe(one("vpc-1"), NEEDS)
    region.observer.observe(one("vpc-1"), NEEDS)

    looked = ["DescribeRouteTables", "DescribeVpcEndpoints", "DescribeVpcs"]
    assert region.ec2.calls == [*looked, "DescribeVpcEndpointServices", *looked]


def test_reads_use_the_observer_role_in_the_account_and_region(script: Callable[[str], Script]) -> None:
    """What only looks has credentials that can only look."""
    region = Region(script("ec2"))
    region.holds([vpc("vpc-1")])
    accounts = PreparedAccounts(ec2=region.ec2.client)

    Ec2Observer(accounts, HOME_REGION, SetClock()).observe(one("vpc-1"), NEEDS)

    assert set(accounts.asked) == {("ec2", ACCOUNT, REGION, Role.OBSERVER)}


# ---- What is made of the answers -----------------------------------------------------------------------------------


def test_a_vpc_deleted_between_two_reads_is_gone(region: Region) -> None:
    """The VPCs are read last: tables and endpoints of one that vanished meanwhile do not bring it back."""
    region.holds([], tables=[table("vpc-1", {"Main": True})], endpoints=[endpoint("vpc-1")], services=None)

    seen = region.observer.observe(one("vpc-1"), NEEDS)

    assert seen.vpcs == {}
    assert seen.gateway_services == {}


def test_associations_make_a_table_main_used_or_edge(region: Region) -> None:
    """Main, with subnets, with a gateway (an edge table), without anything: four different tables."""
    tables = [
        table("vpc-1", {"Main": True, "RouteTableAssociationId": "rtbassoc-1"}, name="rtb-main"),
        table("vpc-1", {"Main": False, "SubnetId": "subnet-b"}, {"SubnetId": "subnet-a"}, name="rtb-used"),
        table("vpc-1", {"Main": False, "GatewayId": "igw-1"}, name="rtb-edge"),
        {"RouteTableId": "rtb-unused", "VpcId": "vpc-1"},
    ]
    region.holds([vpc("vpc-1")], tables)

    seen = region.observer.observe(one("vpc-1"), NEEDS)

    assert seen.vpcs["vpc-1"].route_tables == (
        RouteTable("rtb-main", is_main=True),
        RouteTable("rtb-used", subnet_ids=("subnet-a", "subnet-b")),
        RouteTable("rtb-edge", gateway_ids=("igw-1",)),
        RouteTable("rtb-unused"),
    )


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        ("associating", True),
        ("associated", True),
        ("disassociating", False),
        ("disassociated", False),
        ("failed", False),
    ],
)
def test_only_live_associations_count(region: Region, state: str, *, counts: bool) -> None:
    """An association that ends, ended or failed makes no table main, used or edge."""
    now = {"AssociationState": {"State": state}}
    associations = ({"Main": True, **now}, {"SubnetId": "subnet-1", **now}, {"GatewayId": "igw-1", **now})
    main = table("vpc-1", {"Main": True}, name="rtb-main")
    region.holds([vpc("vpc-1")], [main, table("vpc-1", *associations)])

    seen = region.observer.observe(one("vpc-1"), NEEDS)

    live = RouteTable("rtb-1", is_main=True, subnet_ids=("subnet-1",), gateway_ids=("igw-1",))
    assert seen.vpcs["vpc-1"].route_tables[1] == (live if counts else RouteTable("rtb-1"))


@pytest.mark.parametrize("state", ["available", "Available", "AVAILABLE"])
def test_states_are_read_in_any_letter_case(region: Region, state: str) -> None:
    """The service model writes `Available`, the wire `available`."""
    region.holds([vpc("vpc-1")], endpoints=[endpoint("vpc-1", State=state)])

    seen = region.observer.observe(one("vpc-1"), NEEDS)

    assert [item.state for item in seen.vpcs["vpc-1"].endpoints] == ["available"]


def test_an_endpoint_that_a_service_manages_is_not_ours(region: Region) -> None:
    """A requester-managed endpoint cannot be changed, whatever its tags say."""
    tags = [{"Key": OWNERSHIP_TAG, "Value": "true"}]
    region.holds([vpc("vpc-1")], endpoints=[endpoint("vpc-1", RequesterManaged=True, Tags=tags)])

    (found,) = region.observer.observe(one("vpc-1"), NEEDS).vpcs["vpc-1"].endpoints

    assert found.requester_managed
    assert not found.is_ours


def test_what_an_endpoint_s_description_leaves_out_has_defaults(region: Region) -> None:
    """Without a type it is a gateway, as when CreateVpcEndpoint leaves it out; lists are empty."""
    bare = {"VpcEndpointId": "vpce-1", "VpcId": "vpc-1", "ServiceName": S3}
    region.holds([vpc("vpc-1")], endpoints=[bare])

    (found,) = region.observer.observe(one("vpc-1"), NEEDS).vpcs["vpc-1"].endpoints

    assert found == VpcEndpoint("vpce-1", "vpc-1", "Gateway", S3, state="")


def test_an_interface_endpoint_keeps_its_type(region: Region) -> None:
    """S3 exists as both types under one service name; only the type tells them apart. It stands in subnets."""
    interface = endpoint("vpc-1", VpcEndpointType="Interface", SubnetIds=["subnet-2", "subnet-1"])
    region.holds([vpc("vpc-1")], endpoints=[interface])

    (found,) = region.observer.observe(one("vpc-1"), NEEDS).vpcs["vpc-1"].endpoints

    assert (found.endpoint_type, found.service_name) == ("Interface", S3)
    assert found.subnet_ids == ("subnet-1", "subnet-2")


@pytest.mark.parametrize(
    "tables",
    [[], [table("vpc-1", {"SubnetId": "subnet-1"})], [table("vpc-1", {"Main": True, **ENDING})]],
    ids=["no table", "no main table", "one that is none any more"],
)
def test_a_vpc_whose_main_table_is_not_listed_yet_is_looked_at_again(
    region: Region, tables: list[dict[str, Any]]
) -> None:
    """Every VPC has one. Reads that do not agree yet must not make a new VPC look compliant."""
    region.holds([vpc("vpc-1")], tables, services=None)

    with pytest.raises(TransientError, match="vpc-1 has no main route table yet"):
        region.observer.observe(one("vpc-1"), NEEDS)


def test_a_shared_vpc_names_its_owner(region: Region) -> None:
    """A participant sees the VPC but not its tables; that it cannot create endpoints follows from the owner."""
    region.holds([vpc("vpc-1", OwnerId=OTHER_ACCOUNT)], tables=[])

    assert region.observer.observe(one("vpc-1"), NEEDS).vpcs["vpc-1"].owner_id == OTHER_ACCOUNT


# ---- Service names -------------------------------------------------------------------------------------------------


def test_service_names_are_asked_for_once_per_region(region: Region) -> None:
    """They do not change while a function lives: another account asks no more, another Region does."""
    region.holds([vpc("vpc-1")])
    region.holds([vpc("vpc-1")], services=None)
    region.holds([vpc("vpc-1")], services=[{"ServiceName": "com.amazonaws.us-east-1.s3"}])

    first = region.observer.observe(one("vpc-1"), NEEDS)
    again = region.observer.observe(Scope(OTHER_ACCOUNT, REGION, vpc_ids=frozenset(["vpc-1"])), NEEDS)
    other = region.observer.observe(one("vpc-1", region=OTHER_REGION), NEEDS)

    assert first.gateway_services == again.gateway_services == {"s3": S3, "dynamodb": DYNAMODB}
    assert other.gateway_services == {"s3": "com.amazonaws.us-east-1.s3"}


def test_a_region_without_any_service_is_an_answer_not_to_be_believed(region: Region) -> None:
    """Believing it would make every control inapplicable and archive what is open; the next look asks again."""
    region.holds([vpc("vpc-1")], services=[])
    region.holds([vpc("vpc-1")])

    with pytest.raises(TransientError, match="lists no gateway endpoint services"):
        region.observer.observe(one("vpc-1"), NEEDS)
    assert region.observer.observe(one("vpc-1"), NEEDS).gateway_services["s3"] == S3


def test_service_names_of_other_partitions_are_taken_as_they_are(region: Region) -> None:
    """In China some names begin with `cn.com`; the last part is what the policy calls them."""
    names = [
        "cn.com.amazonaws.cn-north-1.s3",
        "com.amazonaws.cn-north-1.dynamodb",
        "com.amazonaws.cn-north-1.s3express",
    ]
    region.holds([vpc("vpc-1")], services=[{"ServiceName": name} for name in names])

    seen = region.observer.observe(one("vpc-1"), NEEDS)

    assert seen.gateway_services == dict(zip(("s3", "dynamodb", "s3express"), names, strict=True))


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ec2_error("RequestLimitExceeded", status=503), "RequestLimitExceeded"),
        (EndpointConnectionError(endpoint_url="https://ec2"), "EndpointConnectionError"),
        (ReadTimeoutError(endpoint_url="https://ec2"), "ReadTimeoutError"),
    ],
    ids=["throttled", "unreachable", "slow"],
)
def test_what_passes_by_itself_is_transient(
    session: boto3.Session, naps: list[float], answer: Exception | tuple[int, str], expected: str
) -> None:
    """Throttling and network errors outlive botocore's three attempts as TransientError, naming the place."""
    ec2 = session.client("ec2", config=CONFIG)
    wire = Wire(ec2, answer)

    with pytest.raises(TransientError, match=f"^observing {ACCOUNT} {REGION}: {expected}"):
        Ec2Observer(PreparedAccounts(ec2=ec2), HOME_REGION, SetClock()).observe(one("vpc-1"), NEEDS)

    assert wire.attempts == 3
    assert len(naps) == 2


def test_a_short_throttling_is_mended_by_botocore(session: boto3.Session, naps: list[float]) -> None:
    """One refused attempt costs a pause, not the look."""
    nothing = "<Response><routeTableSet/><vpcEndpointSet/><vpcSet/></Response>"
    ec2 = session.client("ec2", config=CONFIG)
    Wire(ec2, ec2_error("RequestLimitExceeded", status=503), (200, nothing))

    assert Ec2Observer(PreparedAccounts(ec2=ec2), HOME_REGION, SetClock()).observe(one("vpc-1"), NEEDS).vpcs == {}
    assert len(naps) == 1


@pytest.mark.parametrize(
    "operation", ["describe_route_tables", "describe_vpc_endpoints", "describe_vpcs", "describe_vpc_endpoint_services"]
)
def test_a_refused_read_fails_closed(region: Region, operation: str) -> None:
    """Whichever read is denied, there is no snapshot: what was not seen is not taken for absent."""
    answers: dict[str, dict[str, Any]] = {
        "describe_route_tables": {"RouteTables": [table("vpc-1", {"Main": True})]},
        "describe_vpc_endpoints": {"VpcEndpoints": []},
        "describe_vpcs": {"Vpcs": [vpc("vpc-1")]},
        "describe_vpc_endpoint_services": {},
    }
    for name, answer in answers.items():
        if name == operation:
            region.ec2.refuse(name, "UnauthorizedOperation", "You are not authorized", status=403)
            break
        region.ec2.expect(name, answer)

    with pytest.raises(ObservationError, match="UnauthorizedOperation: You are not authorized"):
        region.observer.observe(one("vpc-1"), NEEDS)


def test_a_page_that_fails_spoils_the_look(region: Region) -> None:
    """Half a listing is no listing: an error on the second page is not taken for the end of the pages."""
    region.ec2.expect("describe_route_tables", {"RouteTables": [table("vpc-1")], "NextToken": "t1"})
    region.ec2.refuse("describe_route_tables", "RequestLimitExceeded", status=503)

    with pytest.raises(TransientError):
        region.observer.observe(one("vpc-1"), NEEDS)


def test_a_role_that_cannot_be_assumed_is_told_as_it_is() -> None:
    """The error of assuming the role passes through unchanged."""
    denied = ObservationError("assuming arn:aws:iam::111122223333:role/observer: AccessDenied: no")

    with pytest.raises(ObservationError) as caught:
        Ec2Observer(PreparedAccounts(ec2=denied), HOME_REGION, SetClock()).observe(one("vpc-1"), NEEDS)

    assert caught.value is denied


# ---- Whether a Region is switched on -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "enabled"), [("opt-in-not-required", True), ("opted-in", True), ("not-opted-in", False)]
)
def test_a_region_is_on_unless_it_was_never_opted_into(
    script: Callable[[str], Script], status: str, *, enabled: bool
) -> None:
    """One that is off answers nothing: the home Region is asked about it, as the observer."""
    ec2 = script("ec2")
    answer = {"Regions": [{"RegionName": OTHER_REGION, "OptInStatus": status}]}
    ec2.expect("describe_regions", answer, {"RegionNames": [OTHER_REGION], "AllRegions": True})
    accounts = PreparedAccounts(ec2=ec2.client)

    assert Ec2Observer(accounts, HOME_REGION, SetClock()).region_enabled(ACCOUNT, OTHER_REGION) is enabled
    assert accounts.asked == [("ec2", ACCOUNT, HOME_REGION, Role.OBSERVER)]


def test_a_region_of_a_member_account_is_asked_for_in_that_account(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real clients: the call goes to the home Region's endpoint, with the member's credentials."""
    asked: list[tuple[str, str]] = []
    ec2 = accounts.observer("ec2", ACCOUNT, OTHER_REGION, at=HOME_REGION)
    ec2.meta.events.register("before-send", lambda request, **_: asked.append((request.url, ec2.meta.region_name)))
    monkeypatch.delenv("AWS_DEFAULT_REGION")

    assert Ec2Observer(accounts, HOME_REGION, SetClock()).region_enabled(ACCOUNT, OTHER_REGION) is True
    assert asked == [(f"https://ec2.{HOME_REGION}.amazonaws.com/", HOME_REGION)]


@pytest.mark.parametrize(
    ("code", "expected"), [("RequestLimitExceeded", TransientError), ("UnauthorizedOperation", ObservationError)]
)
def test_a_region_that_cannot_be_asked_for_is_neither_on_nor_off(
    region: Region, code: str, expected: type[Exception]
) -> None:
    """An error is no answer: it is told like that of any other look."""
    region.ec2.refuse("describe_regions", code)

    with pytest.raises(expected, match=f"^asking for the Regions of {ACCOUNT}: {code}"):
        region.observer.region_enabled(ACCOUNT, OTHER_REGION)


def test_an_account_that_does_not_admit_us_is_told_apart() -> None:
    """A sweep reports a missing role as such, so the kind of the error survives."""
    missing = NotAdmittedError("the role cannot be assumed")

    with pytest.raises(NotAdmittedError) as caught:
        Ec2Observer(PreparedAccounts(ec2=missing), HOME_REGION, SetClock()).region_enabled(ACCOUNT, REGION)

    assert caught.value is missing
