"""What is read because the policy needs it: subnets, groups, services, names, Instance Connect Endpoints, roles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.adapters.accounts import Role
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.observer import Ec2Observer
from portcullis.endpoint_policies import digest
from portcullis.errors import ObservationError, TransientError
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Denial,
    Dns,
    GroupRule,
    InstanceConnectEndpoint,
    InterfaceService,
    Needs,
    Permissions,
    Scope,
    SecurityGroup,
    Subnet,
    Vpc,
    VpcEndpoint,
)

from tests.adapters.doubles import ACCOUNT, HOME_REGION, OTHER_ACCOUNT, REGION, PreparedAccounts, SetClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import boto3
    from portcullis.adapters.accounts import Accounts
    from portcullis.model import Snapshot

    from tests.adapters.doubles import Script

Item = dict[str, Any]

SSM, ECR = f"com.amazonaws.{REGION}.ssm", f"com.amazonaws.{REGION}.ecr.api"
ZONE = f"{REGION}a"
INTERFACE = Needs(interface_services=frozenset({"ssm"}))
CONNECT = Needs(instance_connect=True)
NOTHING = Needs()
ZONES = {"VPCId": "vpc-1", "VPCRegion": REGION, "MaxItems": "100"}
GATEWAYS = [{"ServiceName": f"com.amazonaws.{REGION}.s3"}]
SERVICE = {"ServiceName": SSM, "AvailabilityZones": [ZONE], "PrivateDnsNames": [{"PrivateDnsName": "ssm.example.com"}]}


def of(*vpc_ids: str, account_id: str = ACCOUNT) -> Scope:
    """Return a scope of some VPCs."""
    return Scope(account_id, REGION, vpc_ids=frozenset(vpc_ids))


def vpc(vpc_id: str = "vpc-1", **more: Any) -> Item:
    """Return a VPC as DescribeVpcs lists it."""
    return {"VpcId": vpc_id, "OwnerId": ACCOUNT, **more}


def subnet(subnet_id: str = "subnet-1", **more: Any) -> Item:
    """Return a subnet with room, as DescribeSubnets lists it."""
    base = {"SubnetId": subnet_id, "VpcId": "vpc-1", "AvailabilityZone": ZONE, "AvailableIpAddressCount": 250}
    return base | more


def answering(service_name: str = SSM, **more: Any) -> Item:
    """Return an interface endpoint to which the service's usual name leads."""
    base = {"VpcEndpointId": "vpce-1", "VpcId": "vpc-1", "ServiceName": service_name, "VpcEndpointType": "Interface"}
    return {**base, "State": "available", "PrivateDnsEnabled": True, **more}


def connect(**more: Any) -> Item:
    """Return an Instance Connect Endpoint as it is listed."""
    base = {"InstanceConnectEndpointId": "eice-1", "VpcId": "vpc-1", "SubnetId": "subnet-1", "State": "create-complete"}
    return base | more


def zone(name: str, **owner: str) -> Item:
    """Return a private hosted zone as ListHostedZonesByVPC lists it."""
    return {"HostedZoneId": "Z1", "Name": name, "Owner": owner}


class Place:
    """A scripted account and Region; the pages follow the order in which they are read."""

    def __init__(self, script: Callable[[str], Script]) -> None:
        self.ec2, self.route53, self.iam, self.ssm = (script(name) for name in ("ec2", "route53", "iam", "ssm"))
        self.accounts = PreparedAccounts(
            ec2=self.ec2.client, route53=self.route53.client, iam=self.iam.client, ssm=self.ssm.client
        )
        self.observer = Ec2Observer(self.accounts, HOME_REGION, SetClock())

    def holds(
        self,
        vpcs: Sequence[Item],
        endpoints: Sequence[Item] = (),
        *,
        subnets: Sequence[Item] | None = (),
        groups: Sequence[Item] = (),
        connects: Sequence[Item] | None = None,
        gateways: Sequence[Item] | None = GATEWAYS,
        interfaces: Sequence[Item] | None = (SERVICE,),
    ) -> None:
        """Expect one look, one page each; what is None is not asked for, groups as little as subnets."""
        tables = [{"RouteTableId": "rtb-1", "VpcId": one["VpcId"], "Associations": [{"Main": True}]} for one in vpcs]
        self.ec2.expect("describe_route_tables", {"RouteTables": tables})
        self.ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": list(endpoints)})
        if subnets is not None:
            self.ec2.expect("describe_subnets", {"Subnets": list(subnets)})
            self.ec2.expect("describe_security_groups", {"SecurityGroups": list(groups)})
        if connects is not None:
            self.ec2.expect("describe_instance_connect_endpoints", {"InstanceConnectEndpoints": list(connects)})
        self.ec2.expect("describe_vpcs", {"Vpcs": list(vpcs)})
        for kind, services in (("Gateway", gateways), ("Interface", interfaces)):
            if services is not None:
                asked = {"Filters": [{"Name": "service-type", "Values": [kind]}]}
                self.ec2.expect("describe_vpc_endpoint_services", {"ServiceDetails": list(services)}, asked)

    def answers_dns(self, *, support: bool = True, hostnames: bool = True) -> None:
        """Expect the VPC to be asked for its DNS attributes."""
        for name, value in (("DnsSupport", support), ("DnsHostnames", hostnames)):
            asked = {"VpcId": "vpc-1", "Attribute": f"enable{name}"}
            self.ec2.expect("describe_vpc_attribute", {f"Enable{name}": {"Value": value}}, asked)

    def resolves(self, **dns: bool) -> None:
        """Expect a VPC to be asked for its DNS attributes and its hosted zones, of which there are none."""
        self.answers_dns(**dns)
        none: Item = {"HostedZoneSummaries": [], "MaxItems": "100"}
        self.route53.expect(
            "list_hosted_zones_by_vpc", none, {"VPCId": "vpc-1", "VPCRegion": REGION, "MaxItems": "100"}
        )

    def look(self, needs: Needs, scope: Scope | None = None) -> Snapshot:
        """Observe some VPCs."""
        return self.observer.observe(scope or of("vpc-1"), needs)

    def see(self, needs: Needs) -> Vpc:
        """Observe one VPC."""
        return self.look(needs).vpcs["vpc-1"]


@pytest.fixture
def place(script: Callable[[str], Script]) -> Place:
    """Return a scripted account and Region."""
    return Place(script)


# ---- Always --------------------------------------------------------------------------------------------------------


def test_nothing_more_is_read_when_nothing_more_is_needed(place: Place) -> None:
    """As many calls as ever, and empty fields."""
    place.holds([vpc()], subnets=None, interfaces=None)

    seen = place.look(NOTHING)

    found = seen.vpcs["vpc-1"]
    assert (found.subnets, found.groups, found.instance_groups, found.instance_connect) == ((), {}, (), ())
    assert (found.dns, found.hosted_zones) == (None, {})
    assert (seen.interface_services, seen.permissions, seen.host_management) == ({}, {}, None)
    assert seen.partition == "aws"


def test_the_partition_is_that_of_the_accounts(place: Place) -> None:
    """Policies and ARNs need it."""
    place.accounts.partition = "aws-cn"
    place.holds([vpc()], subnets=None, interfaces=None)

    assert place.look(NOTHING).partition == "aws-cn"


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({}, ()),
        ({"CidrBlock": "10.0.0.0/16"}, ("10.0.0.0/16",)),
        (
            {
                "CidrBlock": "10.0.0.0/16",
                "CidrBlockAssociationSet": [
                    {"CidrBlock": "10.0.0.0/16", "CidrBlockState": {"State": "associated"}},
                    {"CidrBlock": "10.1.0.0/16", "CidrBlockState": {"State": "associated"}},
                    {"CidrBlock": "10.2.0.0/16", "CidrBlockState": {"State": "disassociated"}},
                ],
                "Ipv6CidrBlockAssociationSet": [
                    {"Ipv6CidrBlock": "2001:db8::/56", "Ipv6CidrBlockState": {"State": "associated"}},
                    {"Ipv6CidrBlock": "2001:db8:1::/56", "Ipv6CidrBlockState": {"State": "associating"}},
                ],
            },
            ("10.0.0.0/16", "10.1.0.0/16", "2001:db8::/56"),
        ),
    ],
    ids=["none said", "only the first", "all that are associated"],
)
def test_a_vpc_has_all_address_blocks_that_are_associated(
    place: Place, described: Item, expected: tuple[str, ...]
) -> None:
    """Of both families; one that comes or goes has no addresses in use."""
    place.holds([vpc(**described)], subnets=None, interfaces=None)

    assert place.see(NOTHING).cidrs == expected


def test_an_endpoint_is_seen_with_its_groups_name_and_policy(place: Place) -> None:
    """What may keep callers out of it, or away from it."""
    policy = '{"Statement": []}'
    groups = [{"GroupId": "sg-2"}, {"GroupId": "sg-1"}]
    place.holds([vpc()], [answering(Groups=groups, PolicyDocument=policy)], subnets=None, interfaces=None)

    assert place.see(NOTHING).endpoints == (
        VpcEndpoint(
            "vpce-1",
            "vpc-1",
            "Interface",
            SSM,
            "available",
            group_ids=("sg-1", "sg-2"),
            private_dns=True,
            policy_document=policy,
            policy_digest=digest(policy),
        ),
    )


# ---- Against moto --------------------------------------------------------------------------------------------------


def test_a_vpc_is_seen_with_all_that_an_interface_endpoint_needs(
    accounts: Accounts, member: Callable[..., Any]
) -> None:
    """Subnets by zone, groups with their rules, DNS attributes, a private zone of the account, the service."""
    ec2, route53 = member("ec2", ACCOUNT), member("route53", ACCOUNT)
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    made = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24", AvailabilityZone=ZONE)["Subnet"]["SubnetId"]
    name, tags = "portcullis-VPCE.3", {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE.3"}
    given = [{"ResourceType": "security-group", "Tags": [{"Key": key, "Value": tags[key]} for key in tags]}]
    group_id = ec2.create_security_group(VpcId=vpc_id, GroupName=name, Description="d", TagSpecifications=given)[
        "GroupId"
    ]
    opened = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[opened])
    route53.create_hosted_zone(
        Name="ssm.example.com",
        CallerReference="r",
        VPC={"VPCRegion": REGION, "VPCId": vpc_id},
        HostedZoneConfig={"PrivateZone": True},
    )

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(of(vpc_id), INTERFACE)

    found = seen.vpcs[vpc_id]
    assert found.subnets == (Subnet(made, ZONE),)
    everything = (GroupRule("-1", None, ("0.0.0.0/0",)),)
    expected = SecurityGroup(group_id, name, (GroupRule("tcp", (443, 443), ("10.0.0.0/16",)),), everything, tags)
    assert found.groups[group_id] == expected
    assert found.group_of_ours("VPCE.3") == group_id
    assert {group.name for group in found.groups.values()} == {"default", name}
    assert found.dns == Dns(support=True, hostnames=False)
    assert found.hosted_zones == {"ssm.example.com": f"account {ACCOUNT}"}
    assert seen.interface_services["ssm"] == seen.interface_services[SSM]
    assert ZONE in seen.interface_services["ssm"].zones


# ---- Subnets and groups --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({}, Subnet("subnet-1", ZONE)),
        ({"MapPublicIpOnLaunch": True}, Subnet("subnet-1", ZONE, is_public=True)),
        ({"AvailableIpAddressCount": 8}, Subnet("subnet-1", ZONE)),
        ({"AvailableIpAddressCount": 7}, Subnet("subnet-1", ZONE, has_room=False)),
        ({"AvailableIpAddressCount": 0, "Ipv6Native": True}, Subnet("subnet-1", ZONE, has_room=False)),
        ({"OutpostArn": f"arn:aws:outposts:{REGION}:{ACCOUNT}:outpost/op-1"}, None),
        ({"AvailabilityZone": f"{REGION}-ham-1a"}, None),
        ({"AvailabilityZone": f"{REGION}-wl1-ber-wlz-1"}, None),
    ],
    ids=["usual", "public", "just room", "no room", "IPv6 alone", "Outpost", "Local Zone", "Wavelength"],
)
def test_subnets_are_those_of_the_regions_own_zones(place: Place, described: Item, expected: Subnet | None) -> None:
    """What lies elsewhere is left out; one that is nearly full keeps its last addresses for those who live there."""
    place.holds([vpc()], [answering()], subnets=[subnet(**described)])

    assert place.see(INTERFACE).subnets == ((expected,) if expected else ())


def test_rules_of_groups_are_kept_for_both_families_and_directions(place: Place) -> None:
    """Ports or all; addresses of IPv4 and IPv6, prefix lists, other groups."""
    inwards = [
        {
            "IpProtocol": "tcp",
            "FromPort": 443,
            "ToPort": 443,
            "IpRanges": [{"CidrIp": "10.0.0.0/16"}],
            "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/56"}],
            "PrefixListIds": [{"PrefixListId": "pl-1"}],
            "UserIdGroupPairs": [{"GroupId": "sg-2", "UserId": ACCOUNT}],
        }
    ]
    outwards = [{"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]
    group = {"GroupId": "sg-1", "VpcId": "vpc-1", "GroupName": "web"}
    rules = {"IpPermissions": inwards, "IpPermissionsEgress": outwards}
    other = {"GroupId": "sg-9", "VpcId": "vpc-9", "GroupName": "bare"}
    place.holds([vpc(), vpc("vpc-9")], [answering(), answering(VpcId="vpc-9")], groups=[group | rules, other])

    seen = place.look(INTERFACE, of("vpc-1", "vpc-9")).vpcs

    admits = GroupRule("tcp", (443, 443), ("10.0.0.0/16", "2001:db8::/56"), ("pl-1",), ("sg-2",))
    assert seen["vpc-1"].groups == {
        "sg-1": SecurityGroup("sg-1", "web", (admits,), (GroupRule("-1", None, ("::/0",)),))
    }
    assert seen["vpc-9"].groups == {"sg-9": SecurityGroup("sg-9", "bare")}


def test_subnets_groups_and_endpoints_are_read_in_the_largest_pages(place: Place) -> None:
    """A thousand at a time, Instance Connect Endpoints fifty; by filter, and to the last page."""
    ec2, filters = place.ec2, {"Filters": [{"Name": "vpc-id", "Values": ["vpc-1"]}]}
    table = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}]}
    ec2.expect("describe_route_tables", {"RouteTables": [table]}, {**filters, "MaxResults": 100})
    page = {**filters, "MaxResults": 1000}
    ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": []}, page)
    ec2.expect("describe_subnets", {"Subnets": [subnet()], "NextToken": "s1"}, page)
    ec2.expect("describe_subnets", {"Subnets": [subnet("subnet-2")]}, {**page, "NextToken": "s1"})
    group = {"VpcId": "vpc-1", "GroupName": "g"}
    first, second = ({"SecurityGroups": [{**group, "GroupId": name}]} for name in ("sg-1", "sg-2"))
    ec2.expect("describe_security_groups", {**first, "NextToken": "g1"}, page)
    ec2.expect("describe_security_groups", second, {**page, "NextToken": "g1"})
    few = {**filters, "MaxResults": 50}
    operation, key = "describe_instance_connect_endpoints", "InstanceConnectEndpoints"
    ec2.expect(operation, {key: [connect()], "NextToken": "c1"}, few)
    ec2.expect(operation, {key: [connect(InstanceConnectEndpointId="eice-2")]}, {**few, "NextToken": "c1"})
    ec2.expect("describe_vpcs", {"Vpcs": [vpc()]}, page)
    ec2.expect("describe_vpc_endpoint_services", {"ServiceDetails": GATEWAYS})
    ec2.expect("describe_instances", {"Reservations": []}, {**page, "IncludeManagedResources": True})

    found = place.see(CONNECT)

    assert [one.subnet_id for one in found.subnets] == ["subnet-1", "subnet-2"]
    assert set(found.groups) == {"sg-1", "sg-2"}
    assert [one.endpoint_id for one in found.instance_connect] == ["eice-1", "eice-2"]


def test_a_hundred_vpcs_cost_as_many_calls_as_one(place: Place) -> None:
    """All but names come in bulk; who answers already is not asked for its names."""
    ids = [f"vpc-{number}" for number in range(100)]
    place.holds(
        [vpc(vpc_id) for vpc_id in ids],
        [answering(VpcId=vpc_id) for vpc_id in ids],
        subnets=[subnet(VpcId=vpc_id) for vpc_id in ids],
        connects=[connect(VpcId=vpc_id) for vpc_id in ids],
    )
    place.ec2.expect("describe_instances", {"Reservations": []})

    seen = place.look(INTERFACE | CONNECT, of(*ids))

    assert all(one.subnets and one.instance_connect for one in seen.vpcs.values())
    assert len(place.ec2.calls) == 9
    assert place.route53.calls == []


# ---- Services ------------------------------------------------------------------------------------------------------


def offered(place: Place, wanted: set[str], *names: str) -> Mapping[str, InterfaceService]:
    """Look for services in a Region that offers these; every VPC lacks them, but none is the account's own."""
    place.holds([vpc(OwnerId=OTHER_ACCOUNT)], interfaces=[{"ServiceName": name} for name in names])
    return place.look(Needs(interface_services=frozenset(wanted))).interface_services


@pytest.mark.parametrize(
    ("wanted", "names", "expected"),
    [
        ("ssm", [SSM, ECR], SSM),
        ("ecr.api", [SSM, ECR], ECR),
        (ECR, [SSM, ECR], ECR),
        ("ecr.api", [f"cn.com.amazonaws.{REGION}.ecr.api"], f"cn.com.amazonaws.{REGION}.ecr.api"),
        ("studio", [f"aws.sagemaker.{REGION}.studio"], f"aws.sagemaker.{REGION}.studio"),
        ("ssm", [f"aws.other.{REGION}.ssm", SSM, f"cn.com.amazonaws.{REGION}.ssm"], SSM),
        ("com.amazonaws.iam", ["com.amazonaws.iam"], "com.amazonaws.iam"),
        ("iam", ["com.amazonaws.iam"], None),
        (f"com.amazonaws.vpce.{REGION}.vpce-svc-1", [f"com.amazonaws.vpce.{REGION}.vpce-svc-1"], "itself"),
        ("vpce-svc-1", [f"com.amazonaws.vpce.{REGION}.vpce-svc-1"], None),
        ("api", [ECR], None),
        ("kms", [SSM], None),
    ],
)
def test_a_service_is_found_by_its_full_or_short_name(
    place: Place, wanted: str, names: list[str], expected: str | None
) -> None:
    """What follows the Region is the short name; of two the one of com.amazonaws is meant."""
    found = offered(place, {wanted}, *names)

    assert (found[wanted].service_name if wanted in found else None) == (wanted if expected == "itself" else expected)


def test_only_the_services_that_are_needed_are_kept(place: Place) -> None:
    """There are hundreds of them, and zones of other names in every account."""
    assert set(offered(place, {"ssm"}, SSM, ECR, "com.amazonaws.iam")) == {"ssm", SSM}


def test_a_service_has_zones_and_private_names(place: Place) -> None:
    """Several names, or one in the older field."""
    several = {"ServiceName": ECR, "AvailabilityZones": [f"{REGION}b", ZONE], "PrivateDnsName": "api.ecr.example.com"}
    place.holds([vpc(OwnerId=OTHER_ACCOUNT)], interfaces=[SERVICE, several])

    found = place.look(Needs(interface_services=frozenset({"ssm", "ecr.api"}))).interface_services

    assert found["ssm"] == InterfaceService(SSM, (ZONE,), ("ssm.example.com",))
    assert found["ecr.api"] == InterfaceService(ECR, (ZONE, f"{REGION}b"), ("api.ecr.example.com",))


def test_services_are_asked_for_once_per_account_and_region(place: Place) -> None:
    """Zones are named differently in other accounts ("AZ IDs"), so another account asks again."""
    place.holds([vpc()], [answering()])
    place.holds([vpc()], [answering()], gateways=None, interfaces=None)
    elsewhere = {**SERVICE, "AvailabilityZones": [f"{REGION}c"]}
    place.holds([vpc(OwnerId=OTHER_ACCOUNT)], [answering()], gateways=None, interfaces=[elsewhere])

    first, again = place.look(INTERFACE), place.look(INTERFACE)
    other = place.look(INTERFACE, of("vpc-1", account_id=OTHER_ACCOUNT))

    assert first.interface_services == again.interface_services
    assert other.interface_services["ssm"].zones == (f"{REGION}c",)


def test_a_region_without_any_interface_service_is_an_answer_not_to_be_believed(place: Place) -> None:
    """Believing it would archive what is open."""
    place.holds([vpc()], interfaces=[])

    with pytest.raises(TransientError, match="lists no interface endpoint services"):
        place.look(INTERFACE)


# ---- Names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "asks"),
    [
        (answering(), False),
        (answering(State="Pending"), False),
        (answering(State="failed"), True),
        (answering(PrivateDnsEnabled=False), True),
        (answering(VpcEndpointType="Gateway"), True),
        (answering(ECR), True),
        (answering(VpcId="vpc-2"), True),
    ],
    ids=["answers", "soon", "failed", "without the name", "gateway", "other service", "other VPC"],
)
def test_names_are_looked_at_only_where_nothing_answers(place: Place, endpoint: Item, *, asks: bool) -> None:
    """They cost three calls a VPC."""
    place.holds([vpc()], [endpoint])
    if asks:
        place.resolves(hostnames=False)

    assert place.see(INTERFACE).dns == (Dns(support=True, hostnames=False) if asks else None)


def test_one_of_several_services_that_lacks_is_enough_to_look(place: Place) -> None:
    """One that the Region does not offer cannot lack."""
    needs = Needs(interface_services=frozenset({"ssm", "kms"}))
    place.holds([vpc()], [answering()], interfaces=[SERVICE, {"ServiceName": f"com.amazonaws.{REGION}.kms"}])
    place.resolves(support=False)
    assert place.see(needs).dns == Dns(support=False, hostnames=True)

    needs = Needs(interface_services=frozenset({"ssm", "nothing"}))
    place.holds([vpc()], [answering()], gateways=None)
    assert place.see(needs).dns is None


def test_a_vpc_of_another_account_is_not_asked_for_its_names(place: Place) -> None:
    """Only its owner can create endpoints."""
    place.holds([vpc(OwnerId=OTHER_ACCOUNT)])

    assert place.see(INTERFACE).dns is None


def test_hosted_zones_say_whose_they_are_on_every_page(place: Place) -> None:
    """An account, or a service of AWS; the name without its dot."""
    place.holds([vpc()])
    place.answers_dns()
    first = [zone("ssm.example.com.", OwningAccount=OTHER_ACCOUNT), zone("efs.example.com.", OwningService="efs")]
    page = {"HostedZoneSummaries": first, "MaxItems": "100", "NextToken": "n"}
    place.route53.expect("list_hosted_zones_by_vpc", page, ZONES)
    rest = {"HostedZoneSummaries": [zone("odd.example.com")], "MaxItems": "100"}
    place.route53.expect("list_hosted_zones_by_vpc", rest, {**ZONES, "NextToken": "n"})

    assert place.see(INTERFACE).hosted_zones == {
        "ssm.example.com": f"account {OTHER_ACCOUNT}",
        "efs.example.com": "efs",
        "odd.example.com": "",
    }


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidInput"])
def test_zones_that_may_not_be_listed_are_not_known(place: Place, code: str) -> None:
    """That is no reason to see nothing at all: EC2 itself refuses a name that answers already."""
    place.holds([vpc()])
    place.answers_dns()
    place.route53.refuse("list_hosted_zones_by_vpc", code, status=403)

    found = place.see(INTERFACE)

    assert (found.dns, found.hosted_zones) == (Dns(support=True, hostnames=True), {})


@pytest.mark.parametrize("pages", [0, 1])
def test_zones_that_are_not_told_this_time_hide_nothing_else(place: Place, pages: int) -> None:
    """Route 53 answers five calls a second for an account; a part of the zones is as good as none."""
    place.holds([vpc()])
    place.answers_dns()
    page = {"HostedZoneSummaries": [zone("a.example.com")], "MaxItems": "100", "NextToken": "n"}
    for _ in range(pages):
        place.route53.expect("list_hosted_zones_by_vpc", page, ZONES)
    place.route53.refuse("list_hosted_zones_by_vpc", "Throttling")

    found = place.see(INTERFACE)

    assert (found.dns, found.hosted_zones) == (Dns(support=True, hostnames=True), None)
    assert found.route_tables


def test_a_vpc_that_goes_while_it_is_asked_for_is_looked_at_again(place: Place) -> None:
    """What was seen before does not hold any more."""
    place.holds([vpc()])
    place.ec2.refuse("describe_vpc_attribute", "InvalidVpcID.NotFound")

    with pytest.raises(TransientError, match=r"InvalidVpcID\.NotFound"):
        place.look(INTERFACE)


@pytest.mark.parametrize(
    ("region", "endpoint", "signed_for"),
    [
        ("eu-central-1", "https://route53.amazonaws.com", "us-east-1"),
        ("cn-north-1", "https://route53.amazonaws.com.cn", "cn-northwest-1"),
        ("us-gov-east-1", "https://route53.us-gov.amazonaws.com", "us-gov-west-1"),
    ],
)
def test_botocore_finds_route_53_of_every_partition(
    session: boto3.Session, region: str, endpoint: str, signed_for: str
) -> None:
    """A global service: a client for the Region that is looked at calls the right place with the right signature."""
    client: Any = session.client("route53", region_name=region, config=CONFIG)

    assert (client.meta.endpoint_url, client._request_signer.region_name) == (endpoint, signed_for)


# ---- Instance Connect ----------------------------------------------------------------------------------------------


def test_an_instance_connect_endpoint_is_seen_whole(place: Place) -> None:
    """State, message, groups, tags; what is left out has defaults."""
    tags = [{"Key": OWNERSHIP_TAG, "Value": "true"}]
    groups = ["sg-2", "sg-1"]
    failed = connect(
        State="create-failed", StateMessage="full", SecurityGroupIds=groups, PreserveClientIp=True, Tags=tags
    )
    place.holds([vpc()], connects=[failed, connect(InstanceConnectEndpointId="eice-2")], interfaces=None)
    place.ec2.expect("describe_instances", {"Reservations": []})

    assert place.see(CONNECT).instance_connect == (
        InstanceConnectEndpoint(
            "eice-1",
            "subnet-1",
            "create-failed",
            message="full",
            group_ids=("sg-1", "sg-2"),
            preserve_client_ip=True,
            tags={OWNERSHIP_TAG: "true"},
        ),
        InstanceConnectEndpoint("eice-2", "subnet-1", "create-complete"),
    )


def instance(instance_id: str, *group_ids: str, state: str = "running", vpc_id: str = "vpc-1") -> Item:
    """Return an instance with groups as DescribeInstances lists it."""
    groups = [{"GroupId": group_id} for group_id in group_ids]
    return {"InstanceId": instance_id, "State": {"Name": state}, "VpcId": vpc_id, "SecurityGroups": groups}


INSTANCES = [
    instance("i-1", "sg-2", "sg-1"),
    instance("i-2", "sg-1", "sg-2"),
    instance("i-3", "sg-3", state="stopped"),
    instance("i-4", "sg-4", state="terminated"),
    instance("i-5", "sg-5", vpc_id="vpc-2"),
]


def test_the_groups_of_living_instances_are_seen_each_set_once(place: Place) -> None:
    """In a look at a VPC its instances are asked for; none that is gone counts."""
    place.holds([vpc()], connects=[], interfaces=None)
    place.ec2.expect("describe_instances", {"Reservations": [{"Instances": INSTANCES}]})

    assert place.see(CONNECT).instance_groups == (("sg-1", "sg-2"), ("sg-3",))


def test_a_sweep_reads_the_instances_once_for_both(place: Place) -> None:
    """They are the largest listing; an instance outside of VPCs has no place in one."""
    place.holds([vpc(), vpc("vpc-2"), vpc("vpc-3")], connects=[], interfaces=None)
    outside = {"InstanceId": "i-6", "State": {"Name": "running"}}
    place.ec2.expect("describe_instances", {"Reservations": [{"Instances": [*INSTANCES, outside]}]})
    place.ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})

    seen = place.look(CONNECT, Scope(ACCOUNT, REGION, everything=True))

    assert [one.instance_groups for one in seen.vpcs.values()] == [(("sg-1", "sg-2"), ("sg-3",)), (("sg-5",),), ()]
    assert set(seen.instances) == {"i-1", "i-2", "i-3", "i-5", "i-6"}


def test_where_there_is_no_vpc_nothing_else_is_asked_for(place: Place) -> None:
    """Neither services nor instances."""
    place.holds([], subnets=[], connects=[], gateways=None, interfaces=None)

    assert place.look(INTERFACE | CONNECT).vpcs == {}


@pytest.mark.parametrize(
    "operation", ["describe_subnets", "describe_security_groups", "describe_instance_connect_endpoints"]
)
def test_a_refused_read_fails_closed(place: Place, operation: str) -> None:
    """Without one of them there is no snapshot: what was not seen is not taken for absent."""
    place.ec2.expect("describe_route_tables", {"RouteTables": []})
    place.ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": []})
    answers: Item = {"describe_subnets": {"Subnets": []}, "describe_security_groups": {"SecurityGroups": []}}
    for name, answer in answers.items():
        if name == operation:
            break
        place.ec2.expect(name, answer)
    place.ec2.refuse(operation, "UnauthorizedOperation", status=403)

    with pytest.raises(ObservationError, match="UnauthorizedOperation"):
        place.look(CONNECT)


# ---- Roles ---------------------------------------------------------------------------------------------------------


def holding(*roles: str) -> Item:
    """Return the profile ``web`` as IAM answers it."""
    arn, created = f"arn:aws:iam::{ACCOUNT}", "2026-03-02T09:14:05Z"
    held = [
        {"Path": "/", "RoleName": name, "RoleId": "AROAIOSFODNN7EXAMPLE", "Arn": f"{arn}:role/{name}"} for name in roles
    ]
    return {
        "Path": "/",
        "InstanceProfileName": "web",
        "InstanceProfileId": "AIPAIOSFODNN7EXAMPLE",
        "Arn": f"{arn}:instance-profile/web",
        "CreateDate": created,
        "Roles": [{**role, "CreateDate": created} for role in held],
    }


def test_the_roles_of_instances_are_asked_what_they_allow(place: Place) -> None:
    """Each once, however many instances have it; and whether hosts are managed without any."""
    held = {"IamInstanceProfile": {"Arn": holding()["Arn"]}}
    place.ec2.expect(
        "describe_instances", {"Reservations": [{"Instances": [instance(n) | held for n in ("i-1", "i-2")]}]}
    )
    place.ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})
    place.iam.expect("get_instance_profile", {"InstanceProfile": holding("web-role")})
    denied = {"EvalActionName": "s3:GetObject", "EvalDecision": "implicitDeny"}
    place.iam.expect("simulate_principal_policy", {"EvaluationResults": [denied]})
    place.ssm.expect("get_service_setting", {"ServiceSetting": {"SettingValue": "$None"}})
    needs = Needs(role_actions=frozenset({"s3:GetObject"}), host_management=True)

    seen = place.look(needs, Scope(ACCOUNT, REGION, instance_ids=frozenset({"i-1", "i-2"})))

    assert seen.permissions == {"web-role": Permissions((Denial("s3:GetObject", "role"),))}
    assert seen.host_management is False
    assert [request["PolicySourceArn"] for name, request in place.iam.requests if name.startswith("Simulate")] == [
        f"arn:aws:iam::{ACCOUNT}:role/web-role"
    ]
    assert set(place.accounts.asked) == {(name, ACCOUNT, REGION, Role.OBSERVER) for name in ("ec2", "iam", "ssm")}


@pytest.mark.parametrize("roles", [[], ["web-role"]], ids=["no role", "nothing needed"])
def test_nothing_is_asked_of_roles_without_need(place: Place, roles: list[str]) -> None:
    """A profile without role has nothing to ask about, and without the control nobody asks."""
    held = {"IamInstanceProfile": {"Arn": holding()["Arn"]}}
    place.ec2.expect("describe_instances", {"Reservations": [{"Instances": [instance("i-1") | held]}]})
    place.ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})
    place.iam.expect("get_instance_profile", {"InstanceProfile": holding(*roles)})
    needs = NOTHING if roles else Needs(role_actions=frozenset({"s3:GetObject"}), role_policies=True)

    seen = place.look(needs, Scope(ACCOUNT, REGION, instance_ids=frozenset({"i-1"})))

    assert (seen.permissions, seen.host_management) == ({}, None)


def test_host_management_is_not_asked_for_where_no_instance_is(place: Place) -> None:
    """Nobody would need the answer."""
    place.ec2.expect("describe_instances", {"Reservations": []})
    place.ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})

    seen = place.look(Needs(host_management=True), Scope(ACCOUNT, REGION, instance_ids=frozenset({"i-1"})))

    assert seen.host_management is None


def test_attached_policies_are_seen_in_moto(accounts: Accounts, member: Callable[..., Any]) -> None:
    """Through the whole way: instance, profile, role, the names of its managed policies."""
    iam, ec2 = member("iam", ACCOUNT), member("ec2", ACCOUNT)
    iam.create_role(RoleName="web-role", AssumeRolePolicyDocument=json.dumps({"Statement": []}))
    document = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
    policy = iam.create_policy(PolicyName="ours", PolicyDocument=document)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="web-role", PolicyArn=policy)
    profile = iam.create_instance_profile(InstanceProfileName="web")["InstanceProfile"]["Arn"]
    iam.add_role_to_instance_profile(InstanceProfileName="web", RoleName="web-role")
    launch = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": {"Arn": profile}}
    instance_id = ec2.run_instances(**launch)["Instances"][0]["InstanceId"]
    scope = Scope(ACCOUNT, REGION, instance_ids=frozenset({instance_id}))

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(scope, Needs(role_policies=True))

    assert seen.permissions == {"web-role": Permissions(policy_names=("ours",))}
    held = seen.instances[instance_id].profile
    assert held is not None
    assert held.role_arn == f"arn:aws:iam::{ACCOUNT}:role/web-role"
