"""A person's view of the local organisation: what the scenes of the demo and the tests act and look with."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner
from portcullis.cli import main
from portcullis.cli.organisation import Hub

from local.clients import HOME_REGION, HUB_ACCOUNT_ID, MEMBER_ROLE_NAME, REGIONS

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

PATIENCE = 60.0
"""Seconds until everything must have settled."""

SERVICES = 2
"""Endpoint services that every VPC needs: S3 and DynamoDB."""

_POLL = 0.2
_GLANCE = 0.4  # seconds in which what is not delayed has usually settled
_DELAY = timedelta(seconds=2)  # what QueueDelaySeconds is here
_IMAGE = "ami-0123456789abcdef0"


@dataclass
class Stage:
    """One account and Region, as a person with administrator rights sees it, and what earlier scenes left."""

    organisation: LocalOrganisation
    account_id: str = "111122223333"
    region: str = "eu-west-1"
    props: dict[str, str] = field(default_factory=dict)
    role_name: str = MEMBER_ROLE_NAME

    def appoint_approvers(self) -> None:
        """Let people work with the command line as somebody who may approve, and no more.

        That policies of a role count here, its name begins with portcullis (see fidelity/authorization.py).
        """
        iam, self.role_name = self.organisation.client("iam"), "portcullis-approvers"
        trust = {"Effect": "Allow", "Principal": {"AWS": HUB_ACCOUNT_ID}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName=self.role_name, AssumeRolePolicyDocument=document)
        policy = f"arn:aws:iam::{HUB_ACCOUNT_ID}:policy/portcullis-approver"
        iam.attach_role_policy(RoleName=self.role_name, PolicyArn=policy)

    def settle(self) -> None:
        """Wait until nothing is underway, and do not sit out the delay of the work queue; TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while not self.organisation.settled(_GLANCE):
            if time.monotonic() > deadline:
                raise TimeoutError(f"something is still underway after {PATIENCE:.0f} s")
            self.organisation.move_time(_DELAY)

    def later(self, **forward: float) -> None:
        """Let everything settle, then time pass (``minutes=30``), and what is due then happen; TimeoutError."""
        self.settle()
        self.until(datetime.now(UTC) + timedelta(**forward))

    def until(self, when: datetime) -> None:
        """Let time pass until then, and what is due happen; TimeoutError, and ValueError when it is over."""
        forward = when - datetime.now(UTC)
        self.organisation.move_time(forward)
        self._note("waited", f"{_said(forward)} later", seconds=forward.total_seconds())
        self.settle()

    def sweep(self) -> None:
        """Start a sweep as `portcullis sweep` does, and wait for its end and for what it set off."""
        self._note("typed", "portcullis sweep", output="")
        arn = self.hub.start_sweep()
        status = list(self.hub.follow(arn, lambda _: time.sleep(_POLL)))[-1][-1]
        if status != "SUCCEEDED":
            raise RuntimeError(f"the sweep {arn} ended as {status}")
        self.settle()

    def portcullis(self, *arguments: str) -> str:
        """Run the command line as a person in the hub's account does, and return what it prints; RuntimeError."""
        printed = self._run(*arguments)
        self._note("typed", f"portcullis {' '.join(arguments)}", output=printed)
        return printed

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Ask the command line as a person in this account does, who may find faults (exit status 1); RuntimeError.

        Returns:
            What ``--output json`` prints. The demo shows the whole of what it prints without.
        """
        printed = self._run(*arguments, account_id=self.account_id, region=self.region, accepted=(0, 1))
        shown = " ".join(Path(word).name if "/" in word else word for word in arguments)
        self._note("typed", f"portcullis {shown}", output=printed, whole=True)
        arguments = (*arguments, "--output", "json")
        printed = self._run(*arguments, account_id=self.account_id, region=self.region, accepted=(0, 1))
        answer: dict[str, Any] = json.loads(printed)
        return answer

    def _run(
        self,
        *arguments: str,
        account_id: str = HUB_ACCOUNT_ID,
        region: str = HOME_REGION,
        accepted: tuple[int, ...] = (0,),
    ) -> str:
        role_name = self.role_name if account_id == HUB_ACCOUNT_ID else MEMBER_ROLE_NAME
        role_arn = f"arn:aws:iam::{account_id}:role/{role_name}"
        issued = self.organisation.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="ana")["Credentials"]
        environment = {
            "AWS_ENDPOINT_URL": self.organisation.clients.endpoint_url,
            "AWS_ACCESS_KEY_ID": issued["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": issued["SecretAccessKey"],
            "AWS_SESSION_TOKEN": issued["SessionToken"],
            "AWS_DEFAULT_REGION": region,
            "AWS_CONFIG_FILE": os.devnull,
            "COLUMNS": "76",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        result = CliRunner().invoke(main, list(arguments), env=environment)
        if result.exit_code not in accepted:
            raise RuntimeError(f"portcullis {arguments[0]} ended with {result.exit_code}: {result.output}")
        return str(result.stdout)

    def press(self, action: str, control_id: str, resource_id: str) -> None:
        """Choose a custom action for a finding in Security Hub's console."""
        self._note("typed", f"in Security Hub: {action} {control_id} on {resource_id}", output="")
        self.organisation.custom_action(action, [self.finding_id(control_id, resource_id)])

    def suppress(self, control_id: str, resource_id: str) -> None:
        """Suppress a finding, as an analyst does."""
        found = self.found(control_id, resource_id) or {}
        self._note("typed", f"in Security Hub: suppress {control_id} on {resource_id}", output="")
        self.organisation.client("securityhub", self.account_id, self.region).batch_update_findings(
            FindingIdentifiers=[{"Id": found["Id"], "ProductArn": found["ProductArn"]}],
            Workflow={"Status": "SUPPRESSED"},
        )

    def turn(self, position: str) -> None:
        """Turn the kill switch."""
        command = "aws ssm put-parameter --overwrite --name /portcullis/changes --value"
        self._note("typed", f"{command} {position}", output="")
        self.organisation.client("ssm").put_parameter(Name="/portcullis/changes", Value=position, Overwrite=True)

    def history(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the changes that `portcullis history` shows, the latest first."""
        self._note("typed", f"portcullis history {' '.join(arguments)}", output="")
        found: list[dict[str, Any]] = json.loads(self._run("history", *arguments, "--output", "json"))
        return found

    def read(self, control_id: str, resource_id: str) -> str:
        """Read a finding as an analyst does: its state and its text. The demo shows what was read."""
        finding = self.found(control_id, resource_id)
        if finding is None:
            return "none"
        note = finding.get("Note", {}).get("Text", "")
        self._note(
            "read",
            finding["Title"],
            control=control_id,
            resource_id=resource_id,
            title=finding["Title"],
            state=_state(finding),
            description=finding["Description"],
            note=note,
        )
        return f"{_state(finding)}: {finding['Description']}"

    def _note(self, step: str, text: str, **data: Any) -> None:
        data = {"step": step, **data}
        self.organisation.journal.record("event", text, account_id=self.account_id, region=self.region, data=data)

    @property
    def hub(self) -> Hub:
        """The deployed hub, as the command line sees it."""
        return Hub(SimpleNamespace(client=self.organisation.client, region_name=HOME_REGION))

    def coverage(self, account_id: str) -> list[str]:
        """Return the words of `portcullis coverage` for one account, by Region."""
        return [state.word for one, state in self.hub.coverage() if one.account_id == account_id]

    def uncovered_vpcs(self, account_id: str) -> list[str]:
        """Return the VPCs of an account without two endpoint routes, in every Region."""
        found = []
        for region in REGIONS:
            place = Stage(self.organisation, account_id, region)
            vpcs = place.ec2.describe_vpcs()["Vpcs"]
            found += [f"{region} {vpc['VpcId']}" for vpc in vpcs if len(place.endpoints(vpc["VpcId"])) != SERVICES]
        return found

    @property
    def ec2(self) -> Any:
        """An EC2 client."""
        return self.organisation.client("ec2", self.account_id, self.region)

    def move(self, account_id: str, region: str) -> None:
        """Go to another account and Region."""
        self.account_id, self.region = account_id, region

    def endpoints(self, vpc_id: str) -> dict[str, str]:
        """Return, per route table and service (``rtb-1 s3``), the endpoint that the table's route leads to."""
        listed = self.ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["VpcEndpoints"]
        services = {e["VpcEndpointId"]: e["ServiceName"].rsplit(".", 1)[-1] for e in listed}
        return {
            f"{table['RouteTableId']} {services[route['GatewayId']]}": route["GatewayId"]
            for table in self.route_tables(vpc_id)
            for route in table["Routes"]
            if route.get("GatewayId") in services
        }

    def route_tables(self, vpc_id: str) -> list[dict[str, Any]]:
        """Return the route tables of a VPC."""
        found: list[dict[str, Any]] = self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])[
            "RouteTables"
        ]
        return found

    def main_table(self, vpc_id: str) -> str:
        """Return the id of a VPC's main route table."""
        tables = self.route_tables(vpc_id)
        return str(next(t["RouteTableId"] for t in tables if any(a.get("Main") for a in t["Associations"])))

    def profile(self, instance_id: str) -> str | None:
        """Return the name of the instance profile that is associated with an instance."""
        found = self.ec2.describe_iam_instance_profile_associations(
            Filters=[{"Name": "instance-id", "Values": [instance_id]}]
        )["IamInstanceProfileAssociations"]
        return found[0]["IamInstanceProfile"]["Arn"].rsplit("/", 1)[-1] if found else None

    def finding(self, control_id: str, resource_id: str) -> str:
        """Return a finding's state: compliance, or ARCHIVED, or "none"."""
        finding = self.found(control_id, resource_id)
        return _state(finding) if finding else "none"

    def found(self, control_id: str, resource_id: str) -> dict[str, Any] | None:
        """Return a finding as Security Hub has it, or None."""
        wanted = [f for f in self.findings() if f["Id"].startswith(f"portcullis/{control_id}/")]
        return next((f for f in wanted if f["Id"].endswith(resource_id)), None)

    def findings(self) -> list[dict[str, Any]]:
        """Return every finding of this account and Region."""
        client = self.organisation.client("securityhub", self.account_id, self.region)
        # The hub sees those of its members, too.
        place = {"AwsAccountId": self.account_id, "Region": self.region}
        only = {name: [{"Comparison": "EQUALS", "Value": value}] for name, value in place.items()}
        pages = client.get_paginator("get_findings").paginate(Filters=only)
        return [finding for page in pages for finding in page["Findings"]]

    def finding_id(self, control_id: str, resource_id: str) -> str:
        """Return a finding's id, or nothing."""
        return str((self.found(control_id, resource_id) or {}).get("Id", ""))

    def description(self, control_id: str, resource_id: str) -> str:
        """Return a finding's text, or nothing."""
        return str((self.found(control_id, resource_id) or {}).get("Description", ""))

    def answer(self, control_id: str, resource_id: str) -> str:
        """Return the note on a finding, or nothing."""
        return str((self.found(control_id, resource_id) or {}).get("Note", {}).get("Text", ""))

    def planned(self, control_id: str, resource_id: str) -> str:
        """Return when a finding says that Portcullis will change something (``2026-11-23 12:15``), or nothing."""
        found = re.search(
            r"Portcullis will .* at (\d{4}-\d\d-\d\d \d\d:\d\d) UTC", self.description(control_id, resource_id)
        )
        return found[1] if found else ""

    def looks(self, start: int, resource_id: str) -> int:
        """Count the looks at a resource since a step of the journal."""
        steps = [step.data for step in self.organisation.journal.since(start) if step.data.get("step") == "evaluated"]
        return len({step["function_request_id"] for step in steps if step["resource_id"] == resource_id})

    def default_vpc(self) -> str:
        """Return the id of the default VPC."""
        return str(next(vpc["VpcId"] for vpc in self.ec2.describe_vpcs()["Vpcs"] if vpc["IsDefault"]))

    def create_vpc(self, cidr: str, tags: dict[str, str] | None = None) -> str:
        """Create a VPC, and return its id."""
        tagging = [{"ResourceType": "vpc", "Tags": _tags(tags)}] if tags else []
        return str(self.ec2.create_vpc(CidrBlock=cidr, TagSpecifications=tagging)["Vpc"]["VpcId"])

    def create_subnet(self, vpc_id: str, cidr: str, zone: str = "") -> str:
        """Create a subnet, in a zone if one is given, and return its id."""
        where = {"AvailabilityZone": zone} if zone else {}
        return str(self.ec2.create_subnet(VpcId=vpc_id, CidrBlock=cidr, **where)["Subnet"]["SubnetId"])

    def create_group(self, vpc_id: str, name: str) -> str:
        """Create a security group, and return its id."""
        return str(self.ec2.create_security_group(VpcId=vpc_id, GroupName=name, Description=name)["GroupId"])

    def groups(self, vpc_id: str, name: str) -> list[str]:
        """Return the ids of the security groups of a name."""
        wanted = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "group-name", "Values": [name]}]
        return [group["GroupId"] for group in self.ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]]

    def default_acl(self, vpc_id: str) -> tuple[str, str]:
        """Return the id of a VPC's default network ACL, and that of its association with the only subnet."""
        wanted = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "default", "Values": ["true"]}]
        (acl,) = self.ec2.describe_network_acls(Filters=wanted)["NetworkAcls"]
        return str(acl["NetworkAclId"]), str(acl["Associations"][0]["NetworkAclAssociationId"])

    def interface_endpoints(self, vpc_id: str) -> dict[str, int]:
        """Return in how many subnets each interface endpoint of a VPC is, by the service's short name."""
        listed = self.ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["VpcEndpoints"]
        alive = [one for one in listed if one["VpcEndpointType"] == "Interface" and one["State"] != "deleted"]
        return {one["ServiceName"].split(f"{self.region}.")[1]: len(one["SubnetIds"]) for one in alive}

    def endpoint_policy(self, vpc_id: str, service: str) -> str:
        """Return the policy of a VPC's gateway endpoint."""
        listed = self.ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["VpcEndpoints"]
        return str(next(one["PolicyDocument"] for one in listed if one["ServiceName"].endswith(f".{service}")))

    def connect_endpoints(self, vpc_id: str) -> int:
        """Count the EC2 Instance Connect Endpoints of a VPC."""
        wanted = [{"Name": "vpc-id", "Values": [vpc_id]}]
        return len(self.ec2.describe_instance_connect_endpoints(Filters=wanted)["InstanceConnectEndpoints"])

    def create_table(self, vpc_id: str, subnet_id: str = "") -> str:
        """Create a route table, for a subnet or for none, and return its id."""
        table = str(self.ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"])
        if subnet_id:
            self.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet_id)
        return table

    def launch(self, tags: dict[str, str], **arguments: Any) -> str:
        """Launch an instance, as people do, and return its id."""
        tagging = [{"ResourceType": "instance", "Tags": _tags(tags)}]
        answer = self.ec2.run_instances(
            ImageId=_IMAGE, InstanceType="t4g.micro", MinCount=1, MaxCount=1, TagSpecifications=tagging, **arguments
        )
        return str(answer["Instances"][0]["InstanceId"])

    def await_running(self, *instance_ids: str) -> None:
        """Wait until instances run."""
        self.ec2.get_waiter("instance_running").wait(
            InstanceIds=list(instance_ids), WaiterConfig={"Delay": _POLL, "MaxAttempts": 50}
        )


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _state(finding: dict[str, Any]) -> str:
    return "ARCHIVED" if finding["RecordState"] == "ARCHIVED" else str(finding["Compliance"]["Status"])


def _said(forward: timedelta) -> str:
    """Say a time for people: `30 minutes`, `6 hours`, `1 day`."""
    seconds = round(forward.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % size == 0 or seconds > 2 * size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "a moment"
