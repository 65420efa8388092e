"""A person's view of the local organisation: what the scenes of the demo and the tests act and look with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from portcullis.cli.organisation import Hub

from local.clients import HOME_REGION, REGIONS

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

PATIENCE = 60.0
"""Seconds until everything must have settled."""

SERVICES = 2
"""Endpoint services that every VPC needs: S3 and DynamoDB."""

_POLL = 0.2
_IMAGE = "ami-0123456789abcdef0"


@dataclass
class Stage:
    """One account and Region, as a person with administrator rights sees it, and what earlier scenes left."""

    organisation: LocalOrganisation
    account_id: str = "111122223333"
    region: str = "eu-west-1"
    props: dict[str, str] = field(default_factory=dict)

    def sweep(self) -> None:
        """Start a sweep as `portcullis sweep` does, and wait for its end and for what it set off."""
        arn = self.hub.start_sweep()
        status = list(self.hub.follow(arn, lambda _: time.sleep(_POLL)))[-1][-1]
        if status != "SUCCEEDED" or not self.organisation.settled(PATIENCE):
            raise RuntimeError(f"the sweep {arn} ended as {status}, or what it set off did not")

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
        for finding in self.findings():
            if finding["Id"].startswith(f"portcullis/{control_id}/") and finding["Id"].endswith(resource_id):
                archived = finding["RecordState"] == "ARCHIVED"
                return "ARCHIVED" if archived else str(finding["Compliance"]["Status"])
        return "none"

    def findings(self) -> list[dict[str, Any]]:
        """Return every finding of this account and Region."""
        client = self.organisation.client("securityhub", self.account_id, self.region)
        pages = client.get_paginator("get_findings").paginate()
        return [finding for page in pages for finding in page["Findings"]]

    def launch(self, tags: dict[str, str], **arguments: Any) -> str:
        """Launch an instance, as people do, and return its id."""
        tagging = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]
        answer = self.ec2.run_instances(
            ImageId=_IMAGE, InstanceType="t4g.micro", MinCount=1, MaxCount=1, TagSpecifications=tagging, **arguments
        )
        return str(answer["Instances"][0]["InstanceId"])
