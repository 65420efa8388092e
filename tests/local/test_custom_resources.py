"""Custom resources: the stack's own function is asked, over the life of the resource, and its answer counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local.clients import HUB_ACCOUNT_ID
from local.organisation import LocalOrganisation
from local.template import TemplateError
from tests.local.example import PARAMETERS

if TYPE_CHECKING:
    from pathlib import Path

ARN = f"arn:aws:securityhub:us-east-1:{HUB_ACCOUNT_ID}:action/custom/mend"


def requests(organisation: LocalOrganisation) -> list[dict[str, Any]]:
    """Return what the function was asked."""
    return [step.data["custom"] for step in organisation.journal.since(0) if "custom" in step.data]


def targets(organisation: LocalOrganisation) -> list[dict[str, str]]:
    """Return the custom actions that there are."""
    found: list[dict[str, str]] = organisation.client("securityhub").describe_action_targets()["ActionTargets"]
    return found


def test_a_custom_resource_lives_and_ends(checkout: Path) -> None:
    """Create while the stack is deployed, with its Data as attributes; Update with both properties; Delete."""
    options: dict[str, Any] = {"checkout": checkout, "parameters": PARAMETERS, "schedules_at_once": False}
    with LocalOrganisation(**options) as organisation:
        (created,) = requests(organisation)
        assert (created["RequestType"], created["ResourceType"]) == ("Create", "Custom::Action")
        assert created["ResourceProperties"]["Number"] == "3"  # as CloudFormation has it: all are texts
        assert "PhysicalResourceId" not in created
        assert targets(organisation) == [{"ActionTargetArn": ARN, "Name": "Mend", "Description": "Mends"}]
        assert organisation._hub.outputs["ActionName"] == "Mend"

        organisation.update_custom_resources(Number="4")
        updated = requests(organisation)[-1]
        assert (updated["RequestType"], updated["PhysicalResourceId"]) == ("Update", ARN)
        numbers = [updated[name]["Number"] for name in ("OldResourceProperties", "ResourceProperties")]
        assert numbers == ["3", "4"]

        organisation.delete_custom_resources()
        assert (requests(organisation)[-1]["RequestType"], targets(organisation)) == ("Delete", [])
        organisation.delete_custom_resources()
        assert len(requests(organisation)) == 3
        # The bucket of the responses is nobody's.
        assert organisation.client("s3").list_buckets()["Buckets"] == []


def test_an_update_with_another_id_deletes_the_old_one(checkout: Path) -> None:
    """As CloudFormation replaces."""
    options: dict[str, Any] = {"checkout": checkout, "parameters": PARAMETERS, "schedules_at_once": False}
    with LocalOrganisation(**options) as organisation:
        organisation.update_custom_resources(Suffix="2")
        _, update, delete = requests(organisation)
        assert [update["RequestType"], delete["RequestType"]] == ["Update", "Delete"]
        assert delete["PhysicalResourceId"] == ARN
        assert "Suffix" not in delete["ResourceProperties"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Number: 3", "Status: FAILED", "Action: .* failed to create: because"),
        ("Number: 3", "Status: MAYBE", "what CloudFormation does not take"),
        ("Name: Mend", "Name: Nothing", "did not respond to Create: nothing readable was sent to the ResponseURL"),
        ("Name: Mend", "Nobody: Mend", "did not respond to Create: 'Name'"),
        ("ServiceToken: !GetAtt Actions.Arn", "ServiceToken: arn:aws:lambda:x", "is no function of this template"),
    ],
)
def test_a_function_that_does_not_do_it_fails_the_deployment(
    checkout: Path, old: str, new: str, complaint: str
) -> None:
    """CloudFormation would wait for an hour, and roll back."""
    file = checkout / "template.yaml"
    file.write_text(file.read_text().replace(old, new))
    with (
        pytest.raises(TemplateError, match=complaint),
        LocalOrganisation(checkout=checkout, parameters=PARAMETERS, schedules_at_once=False),
    ):
        pytest.fail("it was deployed")
