"""``portcullis explain`` against an account in moto: from nothing works to everything does, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from click.testing import CliRunner, Result
from portcullis.cli import main
from portcullis.cli.explain.reading import DEFAULT_ACTIONS, PERMISSIONS
from portcullis.endpoint_policies import render

from tests.adapters.doubles import REGION

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB = "123456789012"  # moto's own account
S3, SSM = f"com.amazonaws.{REGION}.s3", f"com.amazonaws.{REGION}.ssm"
ANYWHERE = "0.0.0.0/0"
RANGES = {
    "PrefixLists": [
        {"PrefixListId": "pl-1", "PrefixListName": S3, "Cidrs": ["192.0.2.0/24", "2001:db8::/32"]},
        {"PrefixListId": "pl-2", "PrefixListName": f"com.amazonaws.{REGION}.dynamodb", "Cidrs": ["198.51.100.0/24"]},
    ]
}
NAMES = (
    *("instance", "profile", "role", "permissions", "dns"),
    *("route", "endpoint", "endpoint-policy", "network-acl", "security-group"),
)
TEXT = {"ResourceRecords": [{"Value": '"text"'}]}
SEVEN = ("profile", "permissions", "dns", "route", "endpoint", "network-acl", "security-group")


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["explain", *arguments])


def explained(*arguments: str) -> dict[str, dict[str, str]]:
    """Run the command; returns the steps of its only answer, by name."""
    result = run(*arguments, "--json")
    (answer,) = json.loads(result.stdout)["answers"]
    return {step["name"]: step for step in answer["steps"]}


def with_status(steps: Mapping[str, Mapping[str, str]], status: str) -> tuple[str, ...]:
    """Return the names of the steps with a status, in order."""
    return tuple(name for name, step in steps.items() if step["status"] == status)


class Account:
    """An account in moto, whose answers can be replaced by operation (``DescribeVpcs``)."""

    def __init__(self) -> None:
        self.session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._answers: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.session.events.register("provide-client-params", self._note)
        self.session.events.register("before-call", self._answer)  # type: ignore[arg-type]
        self.ec2: Any = self.session.client("ec2")
        self.iam: Any = self.session.client("iam")
        self.decides("implicitDeny")
        self.manages_hosts("$None")
        self.answers("DescribePrefixLists", RANGES)

    def answers(self, operation: str, *answers: dict[str, Any]) -> None:
        """Give an operation's answers from now on, one after the other; the last one repeats."""
        self._answers[operation] = [(200, answer) for answer in answers]

    def refuses(self, operation: str, code: str = "UnauthorizedOperation") -> None:
        """Refuse an operation from now on."""
        self._answers[operation] = [(403, {"Error": {"Code": code, "Message": "no"}})]

    def decides(self, decision: str, **more: Any) -> None:
        """Let the simulator decide, about every action that it may be asked about."""
        results = [{"EvalActionName": name, "EvalDecision": decision, **more} for name in DEFAULT_ACTIONS.values()]
        self.answers("SimulatePrincipalPolicy", {"EvaluationResults": results})

    def manages_hosts(self, role_name: str) -> None:
        """Set the role of Default Host Management; ``$None`` switches it off."""
        self.answers("GetServiceSetting", {"ServiceSetting": {"SettingValue": role_name}})

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """Return what an operation was asked with."""
        return [params for name, params in self.requests if name == operation]

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.requests.append((model.name, params))

    def _answer(self, model: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
        answers = self._answers.get(model.name)
        if not answers:
            return None
        status, parsed = answers.pop(0) if len(answers) > 1 else answers[0]
        return AWSResponse("https://example.com", status, HTTPHeaders(), None), {"ResponseMetadata": {}} | parsed


@dataclass
class Office(Account):
    """A VPC with an instance in a private subnet, and nothing else."""

    instance_id: str = field(init=False)
    vpc_id: str = field(init=False)
    subnet_id: str = field(init=False)
    table_id: str = field(init=False)
    acl_id: str = field(init=False)
    group_id: str = field(init=False)

    def __post_init__(self) -> None:
        super().__init__()
        self.vpc_id = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnet_id = self.ec2.create_subnet(VpcId=self.vpc_id, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        self.table_id = self.of_vpc("describe_route_tables", "RouteTables")["RouteTableId"]
        self.acl_id = self.of_vpc("describe_network_acls", "NetworkAcls")["NetworkAclId"]
        self.group_id = self.of_vpc("describe_security_groups", "SecurityGroups")["GroupId"]
        launched = self.ec2.run_instances(
            ImageId="ami-12345678", MinCount=1, MaxCount=1, SubnetId=self.subnet_id, SecurityGroupIds=[self.group_id]
        )
        self.instance_id = launched["Instances"][0]["InstanceId"]

    def of_vpc(self, operation: str, key: str) -> dict[str, Any]:
        """Return the only item of a listing of the VPC."""
        (item,) = getattr(self.ec2, operation)(Filters=[{"Name": "vpc-id", "Values": [self.vpc_id]}])[key]
        found: dict[str, Any] = item
        return found

    def break_all(self) -> None:
        """Switch off and block what is on and open by default."""
        self.ec2.modify_vpc_attribute(VpcId=self.vpc_id, EnableDnsSupport={"Value": False})
        self.ec2.delete_network_acl_entry(NetworkAclId=self.acl_id, RuleNumber=100, Egress=True)
        self.ec2.revoke_security_group_egress(
            GroupId=self.group_id, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": ANYWHERE}]}]
        )

    def give_profile(self, *, with_role: bool = True) -> None:
        """Give the instance a profile, with a role that the simulator has to be asked about."""
        arn = self.iam.create_instance_profile(InstanceProfileName="worker", Path="/of/office/")["InstanceProfile"][
            "Arn"
        ]
        if with_role:
            self.iam.create_role(RoleName="worker-role", AssumeRolePolicyDocument="{}")
            self.iam.add_role_to_instance_profile(InstanceProfileName="worker", RoleName="worker-role")
        self.ec2.associate_iam_instance_profile(InstanceId=self.instance_id, IamInstanceProfile={"Arn": arn})

    def create_gateway(self) -> str:
        """Create the S3 gateway endpoint."""
        made = self.ec2.create_vpc_endpoint(
            VpcId=self.vpc_id, VpcEndpointType="Gateway", ServiceName=S3, RouteTableIds=[self.table_id]
        )
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    def associate_zone(self, name: str, *records: dict[str, Any], owner: str = HUB) -> str:
        """Create a private hosted zone with some records, and associate it with the VPC; returns its id."""
        route53: Any = self.session.client("route53")
        vpc = {"VPCRegion": REGION, "VPCId": self.vpc_id}
        made = route53.create_hosted_zone(Name=name, CallerReference=name, VPC=vpc)["HostedZone"]["Id"]
        for record in records:
            address: dict[str, Any] = {"TTL": 60, "ResourceRecords": [{"Value": "10.9.0.7"}]}
            change = {"Action": "CREATE", "ResourceRecordSet": address | record}
            route53.change_resource_record_sets(HostedZoneId=made, ChangeBatch={"Changes": [change]})
        zone_id = str(made.rsplit("/", 1)[-1])
        summary = {"HostedZoneId": zone_id, "Name": f"{name}.", "Owner": {"OwningAccount": owner}}
        self.answers("ListHostedZonesByVPC", {"HostedZoneSummaries": [summary]})
        return zone_id

    def create_interface(self, service: str = SSM) -> str:
        """Create an interface endpoint with private DNS, in the instance's subnet and group."""
        made = self.ec2.create_vpc_endpoint(
            VpcId=self.vpc_id,
            VpcEndpointType="Interface",
            ServiceName=service,
            SubnetIds=[self.subnet_id],
            SecurityGroupIds=[self.group_id],
            PrivateDnsEnabled=True,
        )
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    def route(self, **target: str) -> None:
        """Add a default route."""
        self.ec2.create_route(RouteTableId=self.table_id, DestinationCidrBlock=ANYWHERE, **target)


@pytest.fixture
def office(aws: None, monkeypatch: pytest.MonkeyPatch) -> Office:  # noqa: ARG001 - it has to run inside moto
    """Return the account that the command line reaches."""
    made = Office()
    monkeypatch.setattr(boto3, "Session", lambda **_: made.session)
    return made


def test_from_seven_failed_steps_to_all_passed(office: Office) -> None:
    """The question behind the project: every remedy takes one cross away, until it works."""
    office.break_all()
    steps = explained(office.instance_id)
    assert tuple(steps) == NAMES
    assert with_status(steps, "failed") == SEVEN

    office.give_profile()
    assert with_status(explained(office.instance_id), "failed") == SEVEN[1:]
    office.decides("allowed")
    assert with_status(explained(office.instance_id), "failed") == SEVEN[2:]
    office.ec2.modify_vpc_attribute(VpcId=office.vpc_id, EnableDnsSupport={"Value": True})
    assert with_status(explained(office.instance_id), "failed") == SEVEN[3:]
    endpoint_id = office.create_gateway()
    assert with_status(explained(office.instance_id), "failed") == SEVEN[5:]
    everything = {"Protocol": "-1", "RuleAction": "allow", "CidrBlock": ANYWHERE}
    office.ec2.create_network_acl_entry(NetworkAclId=office.acl_id, RuleNumber=100, Egress=True, **everything)
    assert with_status(explained(office.instance_id), "failed") == SEVEN[6:]
    https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [{"PrefixListId": "pl-1"}]}
    office.ec2.authorize_security_group_egress(GroupId=office.group_id, IpPermissions=[https])

    result = run(office.instance_id)
    assert result.exit_code == 0, result.output
    assert "Yes, privately: gateway endpoint." in result.stdout
    steps = explained(office.instance_id)
    assert with_status(steps, "passed") == NAMES
    assert endpoint_id in steps["route"]["evidence"]


def test_the_public_way_works_and_is_said_as_such(office: Office) -> None:
    """Exit status 0: a NAT gateway in a public subnet."""
    office.give_profile()
    office.decides("allowed")
    gateway_id = office.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    office.ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=office.vpc_id)
    public = office.ec2.create_subnet(VpcId=office.vpc_id, CidrBlock="10.0.9.0/24")["Subnet"]["SubnetId"]
    table_id = office.ec2.create_route_table(VpcId=office.vpc_id)["RouteTable"]["RouteTableId"]
    office.ec2.associate_route_table(RouteTableId=table_id, SubnetId=public)
    office.ec2.create_route(RouteTableId=table_id, DestinationCidrBlock=ANYWHERE, GatewayId=gateway_id)
    address = office.ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat_id = office.ec2.create_nat_gateway(SubnetId=public, AllocationId=address)["NatGateway"]["NatGatewayId"]
    office.route(NatGatewayId=nat_id)

    result = run(office.instance_id)

    assert result.exit_code == 0, result.output
    assert "Yes, the public way" in result.stdout
    assert with_status(explained(office.instance_id), "not-needed") == ("endpoint", "endpoint-policy")


def test_a_vpc_is_answered_once_for_subnets_that_are_alike(office: Office) -> None:
    """Two private subnets share an answer, one with a table of its own has another; exit status 1 as one fails."""
    alike = office.ec2.create_subnet(VpcId=office.vpc_id, CidrBlock="10.0.2.0/24")["Subnet"]["SubnetId"]
    other = office.ec2.create_subnet(VpcId=office.vpc_id, CidrBlock="10.0.3.0/24")["Subnet"]["SubnetId"]
    table_id = office.ec2.create_route_table(VpcId=office.vpc_id)["RouteTable"]["RouteTableId"]
    office.ec2.associate_route_table(RouteTableId=table_id, SubnetId=other)
    office.create_gateway()

    result = run(office.vpc_id, "--output", "json")

    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["resource_id"], told["service"], told["works"]) == (office.vpc_id, "s3", False)
    works = {frozenset(answer["where"].split(", ")): answer["works"] for answer in told["answers"]}
    assert works == {frozenset({office.subnet_id, alike}): True, frozenset({other}): False}
    assert "Only the network is judged" in run(office.vpc_id).stdout


class TestInterfaceServices:
    """The same question for services without gateway endpoints."""

    def test_private_dns_in_the_vpc(self, office: Office) -> None:
        """The endpoint's group admits its own members; the VPC lacks host names, so the name is not private."""
        office.create_interface()
        itself = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": office.group_id}]}
        office.ec2.authorize_security_group_ingress(GroupId=office.group_id, IpPermissions=[itself])

        steps = explained(office.instance_id, "--service", "ssm")
        assert with_status(steps, "failed") == ("profile", "permissions", "dns")

        office.ec2.modify_vpc_attribute(VpcId=office.vpc_id, EnableDnsHostnames={"Value": True})
        assert with_status(explained(office.instance_id, "--service", "ssm"), "failed") == ("profile", "permissions")

    def test_a_private_name_for_on_premises_only(self, office: Office) -> None:
        """S3's interface endpoint may keep its name for inbound resolvers: instances use the gateway."""
        item = {
            "VpcEndpointId": "vpce-1",
            "VpcEndpointType": "Interface",
            "ServiceName": S3,
            "State": "Available",
            "PrivateDnsEnabled": True,
            "DnsOptions": {"PrivateDnsOnlyForInboundResolverEndpoint": True},
            "Groups": [{"GroupId": office.group_id}],
        }
        office.answers("DescribeVpcEndpoints", {"VpcEndpoints": [item]})
        assert explained(office.instance_id)["route"]["status"] == "failed"

        item["DnsOptions"] = {"PrivateDnsOnlyForInboundResolverEndpoint": False}
        assert explained(office.instance_id)["route"]["status"] == "passed"

    def test_a_deleted_endpoint_is_none(self, office: Office) -> None:
        """It may stay listed for a while."""
        item = {"VpcEndpointId": "vpce-1", "ServiceName": SSM, "VpcEndpointType": "Interface", "State": "deleted"}
        office.answers("DescribeVpcEndpoints", {"VpcEndpoints": [item]})
        steps = explained(office.instance_id, "--service", "ssm")
        assert f"{office.vpc_id} does not have an interface endpoint for ssm" in steps["endpoint"]["evidence"]

    def test_a_full_name(self, office: Office) -> None:
        """As the policy file takes it; the permission that is asked for is that of the service."""
        steps = explained(office.instance_id, "--service", SSM)
        assert f"{office.vpc_id} does not have an interface endpoint for ssm" in steps["endpoint"]["evidence"]
        assert "ssm:UpdateInstanceInformation" in steps["permissions"]["remedy"]

    def test_a_zone_of_another_account(self, office: Office) -> None:
        """A private hosted zone for the service's name, on the second page; its records are not to be seen."""
        office.answers(
            "ListHostedZonesByVPC",
            {
                "HostedZoneSummaries": [
                    {"Name": f"ssm.{REGION}.amazonaws.com.", "Owner": {"OwningService": "vpce.amazonaws.com"}},
                    {"Name": "example.com.", "Owner": {"OwningAccount": HUB}},
                ],
                "NextToken": "more",
            },
            {
                "HostedZoneSummaries": [
                    {
                        "HostedZoneId": "Z1",
                        "Name": f"ssm.{REGION}.amazonaws.com.",
                        "Owner": {"OwningAccount": "111122223333"},
                    }
                ]
            },
        )

        steps = explained(office.instance_id, "--service", "ssm")

        assert (steps["endpoint"]["status"], steps["route"]["status"]) == ("unknown", "unknown")
        assert "route53:ListResourceRecordSets in account 111122223333 is missing" in steps["route"]["evidence"]
        assert [one.get("NextToken") for one in office.asked("ListHostedZonesByVPC")] == [None, "more"]
        assert office.asked("ListResourceRecordSets") == []

    @pytest.mark.parametrize(
        ("service", "zone", "record", "status"),
        [
            ("ssm", f"ssm.{REGION}.amazonaws.com", f"ssm.{REGION}.amazonaws.com", "passed"),
            ("ssm", f"{REGION}.amazonaws.com", f"ssm.{REGION}.amazonaws.com", "passed"),
            ("ssm", f"{REGION}.amazonaws.com", f"*.{REGION}.amazonaws.com", "passed"),
            ("ssm", f"{REGION}.amazonaws.com", f"ec2.{REGION}.amazonaws.com", "failed"),
            ("ecr.dkr", f"dkr.ecr.{REGION}.amazonaws.com", f"*.dkr.ecr.{REGION}.amazonaws.com", "passed"),
            ("ecr.dkr", f"dkr.ecr.{REGION}.amazonaws.com", f"dkr.ecr.{REGION}.amazonaws.com", "failed"),
        ],
    )
    def test_a_zone_answers_by_its_records(
        self, office: Office, service: str, zone: str, record: str, status: str
    ) -> None:
        """Also one of a parent domain, or a wildcard; a name that it lacks does not exist. A peering leads there."""
        zone_id = office.associate_zone(zone, {"Name": record, "Type": "A"})
        peer = office.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        peering = office.ec2.create_vpc_peering_connection(VpcId=office.vpc_id, PeerVpcId=peer)
        to_peer = {"VpcPeeringConnectionId": peering["VpcPeeringConnection"]["VpcPeeringConnectionId"]}
        office.ec2.create_route(RouteTableId=office.table_id, DestinationCidrBlock="10.9.0.0/16", **to_peer)

        step = explained(office.instance_id, "--service", service)["route"]

        assert (step["status"], zone_id in step["remedy"]) == (status, status == "failed")
        assert f"the private hosted zone {zone}." in step["evidence"]

    def test_a_zone_without_an_address(self, office: Office) -> None:
        """It hides the public name, and leads nowhere: the NAT gateway does not help."""
        office.associate_zone(f"{REGION}.amazonaws.com", {"Name": f"ssm.{REGION}.amazonaws.com", "Type": "TXT"} | TEXT)
        step = explained(office.instance_id, "--service", "ssm")["route"]
        assert step["status"] == "failed"
        assert "hides the public name" in step["evidence"]

    def test_the_most_specific_zone_counts(self, office: Office) -> None:
        """The parent's may be empty then."""
        zones = [
            {"HostedZoneId": f"Z{n}", "Name": f"{name}.", "Owner": {"OwningAccount": "111122223333"}}
            for n, name in enumerate((f"{REGION}.amazonaws.com", f"ssm.{REGION}.amazonaws.com", "amazonaws.com"))
        ]
        office.answers("ListHostedZonesByVPC", {"HostedZoneSummaries": zones})
        step = explained(office.instance_id, "--service", "ssm")["route"]
        assert f"zone ssm.{REGION}.amazonaws.com." in step["evidence"]


class TestPermissions:
    """What the IAM simulator is asked, and what it says."""

    def test_what_is_asked(self, office: Office) -> None:
        """One action, with the context that is known: the Region, and that the call is encrypted.

        Of an agent, also whether it may register: without, it turns to Default Host Management.
        """
        office.give_profile()

        run(office.instance_id)
        run(office.instance_id, "--action", "s3:GetObject", "--resource", "arn:aws:s3:::bucket/key")

        run(office.instance_id, "--service", "ssmmessages")

        first, second, agent = office.asked("SimulatePrincipalPolicy")
        assert agent["ActionNames"] == ["ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel"]
        assert first == {
            "PolicySourceArn": f"arn:aws:iam::{HUB}:role/worker-role",
            "ActionNames": ["s3:ListAllMyBuckets"],
            "ResourceArns": ["arn:aws:s3:::*"],
            "ContextEntries": [
                {"ContextKeyName": "aws:RequestedRegion", "ContextKeyValues": [REGION], "ContextKeyType": "string"},
                {"ContextKeyName": "aws:SecureTransport", "ContextKeyValues": ["true"], "ContextKeyType": "boolean"},
            ],
            "MaxItems": 1000,
        }
        assert (second["ActionNames"], second["ResourceArns"]) == (["s3:GetObject"], ["arn:aws:s3:::bucket/key"])

    @pytest.mark.parametrize(
        ("result", "status", "evidence"),
        [
            ({"EvalDecision": "allowed"}, "passed", "worker-role may s3:ListAllMyBuckets"),
            ({"EvalDecision": "allowed", "MissingContextValues": ["aws:SourceVpce"]}, "unknown", "aws:SourceVpce"),
            ({"EvalDecision": "implicitDeny"}, "failed", "no policy of the role allows it"),
            ({"EvalDecision": "explicitDeny"}, "failed", "a policy denies it explicitly"),
            (
                {"EvalDecision": "implicitDeny", "OrganizationsDecisionDetail": {"AllowedByOrganizations": False}},
                "failed",
                "a service control policy",
            ),
            (
                {
                    "EvalDecision": "implicitDeny",
                    "PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False},
                },
                "failed",
                "the role's permissions boundary",
            ),
        ],
    )
    def test_what_it_says(self, office: Office, result: dict[str, Any], status: str, evidence: str) -> None:
        """The reason of a denial is told, and conditions that the simulator cannot judge."""
        office.give_profile()
        office.decides(result.pop("EvalDecision"), **result)

        step = explained(office.instance_id)["permissions"]

        assert step["status"] == status
        assert evidence in step["evidence"]

    def test_what_the_simulator_cannot_evaluate(self, office: Office) -> None:
        """It says so as an error of its own: that is unknown, not denied."""
        office.give_profile()
        office.refuses("SimulatePrincipalPolicy", "PolicyEvaluation")
        assert "cannot evaluate the policies: no" in explained(office.instance_id)["permissions"]["evidence"]

    def test_an_unknown_action_is_not_asked(self, office: Office) -> None:
        """A service that has no default: the step asks for one."""
        office.give_profile()

        steps = explained(office.instance_id, "--service", "execute-api")

        assert steps["permissions"]["remedy"] == "name one with --action"
        assert office.asked("SimulatePrincipalPolicy") == []

    def test_a_profile_without_a_role(self, office: Office) -> None:
        """The profile passes, the role does not."""
        office.give_profile(with_role=False)
        assert with_status(explained(office.instance_id), "failed")[:2] == ("role", "permissions")

    def test_a_profile_that_was_deleted(self, office: Office) -> None:
        """The instance still names it."""
        office.give_profile(with_role=False)
        office.iam.delete_instance_profile(InstanceProfileName="worker")
        assert with_status(explained(office.instance_id), "failed")[:2] == ("role", "permissions")

    def test_a_profile_of_which_only_the_instance_knows(self, office: Office) -> None:
        """Where associations may not be read, DescribeInstances says which profile it is."""
        office.give_profile()
        office.refuses("DescribeIamInstanceProfileAssociations")
        assert explained(office.instance_id)["profile"]["status"] == "passed"


class TestHostManagement:
    """Systems Manager serves its agents by itself where it is told to."""

    @pytest.mark.parametrize("service", ["ssm", "ssmmessages"])
    def test_it_serves_an_instance_without_a_role(self, office: Office, service: str) -> None:
        """With what the agent has to be; of other services nothing is asked."""
        office.manages_hosts("AWSSystemsManagerDefaultEC2InstanceManagementRole")

        steps = explained(office.instance_id, "--service", service)

        assert [steps[name]["status"] for name in ("profile", "role", "permissions")] == [
            "not-needed",
            "not-needed",
            "passed",
        ]
        assert "where the agent is 3.2.582.0 or newer and uses IMDSv2" in steps["permissions"]["evidence"]
        asked = len(office.asked("GetServiceSetting"))
        assert explained(office.instance_id, "--service", "ec2")["permissions"]["status"] == "failed"
        assert len(office.asked("GetServiceSetting")) == asked

    @pytest.mark.parametrize("code", ["ServiceSettingNotFound", None])
    def test_it_is_off(self, office: Office, code: str | None) -> None:
        """Then a profile is needed."""
        if code:
            office.refuses("GetServiceSetting", code)
        steps = explained(office.instance_id, "--service", "ssm")
        assert [steps[name]["status"] for name in ("profile", "permissions")] == ["failed", "failed"]


class TestOrganisation:
    """A policy that asks for the organisation is judged by the account's own."""

    POLICY = render({"perimeter": {"organisation": "o-exampleorgid"}}, "aws", REGION, HUB)

    def policy(self, office: Office, organisation_id: str, *more: str) -> dict[str, str]:
        """Return the step of the endpoint's policy, in an organisation; the gateway endpoint has the perimeter."""
        item = {
            "VpcEndpointId": "vpce-1",
            "VpcEndpointType": "Gateway",
            "ServiceName": S3,
            "State": "available",
            "PolicyDocument": self.POLICY,
        }
        office.answers("DescribeVpcEndpoints", {"VpcEndpoints": [item]})
        if organisation_id:
            office.answers("DescribeOrganization", {"Organization": {"Id": organisation_id}})
        return explained(office.instance_id, *more)["endpoint-policy"]

    def test_the_own_one(self, office: Office) -> None:
        """It lets the account's instances through, to what is the account's."""
        step = self.policy(office, "o-exampleorgid")
        assert step["status"] == "passed"
        assert step["evidence"].endswith("; the account is in o-exampleorgid")

    def test_another(self, office: Office) -> None:
        """Nobody here is let through."""
        assert self.policy(office, "o-anotherorgid")["status"] == "failed"

    def test_none(self, office: Office) -> None:
        """An account by itself has no organisation."""
        office.refuses("DescribeOrganization", "AWSOrganizationsNotInUseException")
        step = self.policy(office, "")
        assert (step["status"], step["evidence"].rsplit("; ", 1)[-1]) == ("failed", "the account is in no organisation")

    def test_somebody_elses_bucket(self, office: Office) -> None:
        """Whose a bucket is, its ARN does not tell."""
        asked = ("--action", "s3:GetObject", "--resource", "arn:aws:s3:::bucket/key")
        assert self.policy(office, "o-exampleorgid", *asked)["status"] == "unknown"

    def test_another_error(self, office: Office) -> None:
        """Being throttled is no finding."""
        office.refuses("DescribeOrganization", "TooManyRequestsException")
        office.answers(
            "DescribeVpcEndpoints",
            {"VpcEndpoints": [{"VpcEndpointId": "e", "ServiceName": S3, "State": "x", "PolicyDocument": self.POLICY}]},
        )
        assert run(office.instance_id).exit_code == 2


# Without these there is nothing to explain, or it is another permission that says more.
NEEDED = ("ec2:DescribeInstances", "ec2:DescribeVpcs")
QUIET = (
    "ec2:DescribeIamInstanceProfileAssociations",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribePrefixLists",
    "ec2:DescribeSubnets",
)


@pytest.mark.parametrize("permission", [name for name in PERMISSIONS if name not in NEEDED + QUIET])
def test_what_may_not_be_read_is_unknown(office: Office, permission: str) -> None:
    """The step names the permission that is missing; nothing fails because of it, and nothing crashes."""
    office.give_profile()
    office.decides("allowed")
    if permission.startswith(("route53", "ssm")) or permission in (
        "ec2:DescribeNatGateways",
        "ec2:DescribeVpcEndpointServices",
    ):
        service = "ssm"
    else:
        service = "s3"
        office.create_gateway()
    if permission == "ssm:GetServiceSetting":
        office.decides("implicitDeny")
    if permission == "route53:ListResourceRecordSets":
        office.associate_zone(f"ssm.{REGION}.amazonaws.com")
    if permission == "organizations:DescribeOrganization":
        item = {"VpcEndpointId": "vpce-1", "ServiceName": S3, "State": "available"}
        office.answers("DescribeVpcEndpoints", {"VpcEndpoints": [item | {"PolicyDocument": TestOrganisation.POLICY}]})
    if permission == "ec2:DescribeNatGateways":
        address = office.ec2.allocate_address(Domain="vpc")["AllocationId"]
        made = office.ec2.create_nat_gateway(SubnetId=office.subnet_id, AllocationId=address)
        office.route(NatGatewayId=made["NatGateway"]["NatGatewayId"])
    code = {"ec2": "UnauthorizedOperation", "iam": "AccessDenied"}.get(
        permission.split(":", maxsplit=1)[0], "AccessDeniedException"
    )
    office.refuses(permission.split(":")[1], code)

    result = run(office.instance_id, "--service", service)

    assert result.exit_code == 1, result.output
    steps = explained(office.instance_id, "--service", service)
    assert permission in " ".join(steps[name]["evidence"] for name in with_status(steps, "unknown"))


@pytest.mark.parametrize("permission", QUIET)
def test_some_are_done_without(office: Office, permission: str) -> None:
    """What they would tell is taken from elsewhere, or only makes an answer more exact."""
    office.create_gateway()
    office.give_profile()
    office.decides("allowed")
    office.refuses(permission.split(":")[1])
    assert with_status(explained(office.instance_id), "passed") == NAMES


def test_every_permission_is_named(office: Office) -> None:
    """PERMISSIONS holds all that the command asks for, and nothing else; STS needs none for what it is asked."""
    office.give_profile()
    endpoint_id = office.create_interface()
    office.ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, PolicyDocument=TestOrganisation.POLICY)
    office.answers("DescribeOrganization", {"Organization": {"Id": "o-exampleorgid"}})
    office.associate_zone(f"ssm.{REGION}.amazonaws.com")
    office.requests.clear()

    run(office.instance_id, "--service", "ssm")
    run(office.vpc_id)

    assert {name for name, _ in office.requests} == {name.split(":")[1] for name in PERMISSIONS} | {"GetCallerIdentity"}


class TestNothingToExplain:
    """Exit status 2, and a sentence."""

    @pytest.mark.parametrize("resource_id", ["i-0123456789abcdef0", "vpc-0123456789abcdef0"])
    @pytest.mark.usefixtures("office")
    def test_there_is_no_such_thing(self, resource_id: str) -> None:
        """It says where it looked."""
        result = run(resource_id)

        assert result.exit_code == 2
        assert f"{resource_id} in account {HUB}, {REGION}" in result.stderr

    def test_a_terminated_instance(self, office: Office) -> None:
        """It stays listed for an hour."""
        office.ec2.terminate_instances(InstanceIds=[office.instance_id])
        assert run(office.instance_id).exit_code == 2

    def test_no_such_service(self, office: Office) -> None:
        """A typo in its name."""
        result = run(office.instance_id, "--service", "s4")

        assert result.exit_code == 2
        assert f"{REGION} has no endpoints for a service named s4" in result.stderr
        assert "Is this a profile" not in result.stderr

    def test_a_vpc_without_subnets(self, office: Office) -> None:
        """Nobody asks from there."""
        vpc_id = office.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        assert f"{vpc_id} has no subnets" in run(vpc_id).stderr

    def test_ipv6_only(self, office: Office) -> None:
        """The services' names and lists are judged by IPv4: better no answer than a wrong one."""
        office.answers("DescribeSubnets", {"Subnets": [{"SubnetId": office.subnet_id}]})
        assert f"{office.vpc_id} has no subnets with IPv4" in run(office.vpc_id).stderr
        instance = {"InstanceId": office.instance_id, "State": {"Name": "running"}}
        office.answers("DescribeInstances", {"Reservations": [{"Instances": [instance]}]})
        result = run(office.instance_id)
        assert f"{office.instance_id} has no IPv4 address" in result.stderr
        assert "Is this a profile" not in result.stderr

    def test_neither_an_instance_nor_a_vpc(self) -> None:
        """A subnet, say."""
        result = run("subnet-1")

        assert result.exit_code == 2
        assert "'subnet-1' is no instance (i-...) and no VPC (vpc-...)" in result.stderr

    @pytest.mark.parametrize("operation", ["DescribeInstances", "DescribeVpcs"])
    def test_what_is_asked_about_may_not_be_read(self, office: Office, operation: str) -> None:
        """Then nothing can be told."""
        office.refuses(operation)

        result = run(office.instance_id)

        assert result.exit_code == 2
        assert operation in result.stderr
        assert "Is this a profile" in result.stderr

    @pytest.mark.parametrize("operation", ["DescribeRouteTables", "GetInstanceProfile"])
    def test_another_error_is_not_a_missing_permission(self, office: Office, operation: str) -> None:
        """Being throttled is no finding."""
        office.give_profile()
        office.refuses(operation, "InternalFailure")
        result = run(office.instance_id)
        assert result.exit_code == 2
        assert "Is this a profile" not in result.stderr

    @pytest.mark.parametrize(
        ("error", "said", "of_the_profile"),
        [
            (NoCredentialsError(), "Unable to locate credentials", True),
            (EndpointConnectionError(endpoint_url="https://example.com"), "Could not connect", False),
        ],
    )
    def test_no_credentials(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, *, of_the_profile: bool
    ) -> None:
        """Said as botocore says it; the profile is no remedy for a network that is down."""

        def refuse(**_: Any) -> Any:
            raise error

        monkeypatch.setattr(boto3, "Session", refuse)

        result = run("i-1")

        assert result.exit_code == 2
        assert said in result.stderr
        assert ("Is this a profile" in result.stderr) is of_the_profile
