"""A scripted EC2 with the remediator over it, for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis.adapters.remediator import Ec2Remediator
from portcullis.model import CHANGE_TAG, CONTROL_TAG, OWNERSHIP_TAG

from tests.adapters.doubles import PreparedAccounts, work

if TYPE_CHECKING:
    from portcullis.actions import Action
    from portcullis.model import Outcome

    from tests.adapters.doubles import Script

CHANGE = "20261123T121530Z-1a2b3c4d5e"
OTHER_CHANGE = "20261123T121531Z-0000000000"


class Ec2:
    """A scripted EC2, and the remediator over it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accounts = PreparedAccounts(ec2=script.client)

    def perform(self, action: Action, change_id: str = CHANGE) -> Outcome:
        """Perform an action as a change of the ledger."""
        return Ec2Remediator(self.accounts).perform(work(), action, change_id)

    def request(self, operation: str) -> Any:
        """Return the last request of an operation, named as the service model does."""
        return [request for name, request in self.script.requests if name == operation][-1]

    def named_by(self, group_id: str, *ingress: str, egress: tuple[str, ...] = ()) -> None:
        """Expect the question which groups' rules name a group, and answer it."""
        for name, found in (("ip-permission.group-id", ingress), ("egress.ip-permission.group-id", egress)):
            self.script.expect(
                "describe_security_groups",
                {"SecurityGroups": [{"GroupId": one} for one in found]},
                {"Filters": [{"Name": name, "Values": [group_id]}]},
            )


def tagged(resource_type: str, control_id: str, change_id: str = CHANGE) -> list[dict[str, Any]]:
    """Return the TagSpecifications that say whose something is, for which control and by which change."""
    tags = {OWNERSHIP_TAG: "true", CONTROL_TAG: control_id, CHANGE_TAG: change_id}
    return [{"ResourceType": resource_type, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


def cidr_rule(port: int, cidr: str) -> dict[str, Any]:
    """Return an IpPermission for an address block."""
    where = {"Ipv6Ranges": [{"CidrIpv6": cidr}]} if ":" in cidr else {"IpRanges": [{"CidrIp": cidr}]}
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **where}
