"""The organisation's tree, who may see it, and what follows when an account joins, moves or leaves."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from local.clients import DeploymentClients

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

HUB, MANAGEMENT, MEMBER = "123456789012", "555566667777", "111122223333"
ROOT, SECURITY, WORKLOADS = "r-a1b2", "ou-a1b2-security", "ou-a1b2-workload"
MEMBERS = [MEMBER, "222233334444", "333344445555", "444455556666"]


def stacks(organisation: LocalOrganisation, account_id: str) -> list[str]:
    """Return what was deployed in an account, as the journal tells it."""
    texts = [step.text for step in organisation.journal.since(0) if step.account_id == account_id]
    return sorted(text for text in texts if " deployed in " in text)


def code_of(action: Any, **request: Any) -> str:
    """Make a call that must fail, and return the error's code."""
    with pytest.raises(ClientError) as caught:
        action(**request)
    return str(caught.value.response["Error"]["Code"])


def member_id(organisation: LocalOrganisation, unit_id: str | None = None) -> str:
    """Let an account join over the API, perhaps move it, and wait for its stacks."""
    client = organisation.client("organizations", MANAGEMENT)
    answer = client.create_account(AccountName="new", Email=f"{uuid.uuid4().hex}@example.com")
    account_id = str(answer["CreateAccountStatus"]["AccountId"])
    if unit_id:
        client.move_account(AccountId=account_id, SourceParentId=ROOT, DestinationParentId=unit_id)
    assert organisation.settled(30)
    return account_id


@pytest.mark.parametrize("account_id", [HUB, MANAGEMENT])
def test_the_tree_is_shown_to_the_hub_and_to_the_management_account(
    organisation: LocalOrganisation, account_id: str
) -> None:
    """The hub is a delegated administrator."""
    client = organisation.client("organizations", account_id)
    about = client.describe_organization()["Organization"]
    assert (about["Id"], about["MasterAccountId"]) == ("o-a1b2c3d4e5", MANAGEMENT)
    assert [root["Id"] for root in client.list_roots()["Roots"]] == [ROOT]
    units = client.list_organizational_units_for_parent(ParentId=ROOT)["OrganizationalUnits"]
    assert {unit["Id"]: unit["Name"] for unit in units} == {SECURITY: "Security", WORKLOADS: "Workloads"}
    below = {unit: client.list_accounts_for_parent(ParentId=unit)["Accounts"] for unit in (SECURITY, WORKLOADS)}
    assert [account["Id"] for account in below[SECURITY]] == [HUB]
    assert [account["Id"] for account in below[WORKLOADS]][:4] == MEMBERS
    assert {MANAGEMENT, HUB, *MEMBERS} <= {account["Id"] for account in client.list_accounts()["Accounts"]}
    assert client.list_parents(ChildId=MEMBER)["Parents"][0]["Id"] == WORKLOADS


def test_a_member_sees_only_which_organisation_it_belongs_to(organisation: LocalOrganisation) -> None:
    """And the hub may read but not change."""
    client = organisation.client("organizations", MEMBER)
    assert client.describe_organization()["Organization"]["Id"] == "o-a1b2c3d4e5"
    assert code_of(client.list_accounts) == "AccessDeniedException"
    assert code_of(client.list_accounts_for_parent, ParentId=ROOT) == "AccessDeniedException"
    hub = organisation.client("organizations")
    wanted = {"AccountId": MEMBER, "SourceParentId": WORKLOADS, "DestinationParentId": ROOT}
    assert code_of(hub.move_account, **wanted) == "AccessDeniedException"


def test_stack_sets_reach_all_but_the_management_account(organisation: LocalOrganisation) -> None:
    """Which has the same stacks on its own."""
    for account_id in (HUB, *MEMBERS):
        assert stacks(organisation, account_id) == [
            f"example-account deployed in {account_id} us-east-1",
            f"example-region deployed in {account_id} eu-west-1",
            f"example-region deployed in {account_id} us-east-1",
        ]
    assert stacks(organisation, MANAGEMENT) == [
        f"portcullis-member-account deployed in {MANAGEMENT} us-east-1",
        f"portcullis-member-region deployed in {MANAGEMENT} eu-west-1",
        f"portcullis-member-region deployed in {MANAGEMENT} us-east-1",
    ]


def test_an_account_that_joins_is_deployed_to_and_forwards_its_events(organisation: LocalOrganisation) -> None:
    """By itself; people get in, Security Hub is on, and no call of a deployment counts as people's."""
    before = len(organisation.journal.since(0))
    account_id = member_id(organisation)
    assert len(stacks(organisation, account_id)) == 3
    organisation.client("ec2", account_id, "eu-west-1").create_vpc(CidrBlock="10.0.0.0/16")
    assert organisation.settled(20)
    steps = organisation.journal.since(before)
    assert [step.text for step in steps if step.kind == "call"] == ["ec2 CreateVpc CidrBlock=10.0.0.0/16"]
    assert [step.data["performed"]["account"] for step in steps if "performed" in step.data] == [account_id]
    assert organisation.client("securityhub", account_id).describe_hub()["HubArn"]


def test_join_names_account_and_unit(organisation: LocalOrganisation) -> None:
    """For tests and the demo; the organisation is not settled before the stacks are there."""
    organisation.join("666677778888", "newcomer", WORKLOADS)
    assert organisation.settled(30)
    assert len(stacks(organisation, "666677778888")) == 3
    client = organisation.client("organizations")
    account = client.describe_account(AccountId="666677778888")["Account"]
    assert (account["Name"], account["Status"]) == ("newcomer", "ACTIVE")
    assert client.list_parents(ChildId="666677778888")["Parents"][0]["Id"] == WORKLOADS


def test_moving_an_account_needs_its_parent(organisation: LocalOrganisation) -> None:
    """A move from where it is not is refused; a move within the targets, however deep, deploys nothing twice."""
    client = organisation.client("organizations", MANAGEMENT)
    unit = client.create_organizational_unit(ParentId=SECURITY, Name="Nested")["OrganizationalUnit"]
    account_id = member_id(organisation, unit["Id"])
    assert len(stacks(organisation, account_id)) == 3
    wanted = {"AccountId": account_id, "SourceParentId": ROOT, "DestinationParentId": WORKLOADS}
    assert code_of(client.move_account, **wanted) == "SourceParentNotFoundException"


@pytest.mark.parametrize("leave", ["close_account", "remove_account_from_organization"])
def test_an_account_that_leaves_is_no_member(organisation: LocalOrganisation, leave: str) -> None:
    """aws:PrincipalOrgID follows at once: the hub's bus takes no more events; that its stacks stay is said."""
    account_id = member_id(organisation)
    ec2 = organisation.client("ec2", account_id)
    getattr(organisation.client("organizations", MANAGEMENT), leave)(AccountId=account_id)
    before = len(organisation.journal.since(0))
    ec2.create_vpc(CidrBlock="10.0.0.0/16")
    assert organisation.settled(20)
    steps = organisation.journal.since(before)
    assert not [step for step in steps if "performed" in step.data]
    assert "NO_PERMISSIONS" in next(step.text for step in steps if step.kind == "error")
    told = [step.text for step in organisation.journal.since(0) if step.account_id == account_id]
    assert any("its stacks stay, other than on AWS" in text for text in told)


def test_a_region_can_be_switched_off_for_an_account(organisation: LocalOrganisation) -> None:
    """DescribeRegions says so, calls there fail, and StackSets leave it out; elsewhere all goes on."""
    organisation.disable_region("777788889999", "eu-west-1")
    organisation.join("777788889999", "partial")
    assert organisation.settled(30)
    assert len(stacks(organisation, "777788889999")) == 2
    told = [step.text for step in organisation.journal.since(0) if step.account_id == "777788889999"]
    assert "example-region left out 777788889999 eu-west-1, which is not enabled" in told
    ec2 = organisation.client("ec2", "777788889999")
    names = ["us-east-1", "eu-west-1"]
    regions = ec2.describe_regions(RegionNames=names, AllRegions=True)["Regions"]
    found = {region["RegionName"]: region["OptInStatus"] for region in regions}
    assert found == {"us-east-1": "opt-in-not-required", "eu-west-1": "not-opted-in"}
    assert [one["RegionName"] for one in ec2.describe_regions(RegionNames=names)["Regions"]] == ["us-east-1"]
    there = {name: organisation.client(name, "777788889999", "eu-west-1") for name in ("ec2", "securityhub", "sts")}
    assert code_of(there["ec2"].describe_vpcs) == "AuthFailure"
    assert code_of(there["securityhub"].describe_hub) == "UnrecognizedClientException"
    assert code_of(there["sts"].get_caller_identity) == "InvalidClientTokenId"
    assert organisation.client("ec2", MEMBER, "eu-west-1").describe_vpcs()["Vpcs"]


def test_a_deployment_that_fails_is_an_error_and_no_obstacle(organisation: LocalOrganisation) -> None:
    """A role of the account's own is in the way here; its other Region and later accounts are reached."""
    people = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": people})
    with closing(DeploymentClients(organisation.clients.endpoint_url)) as clients:
        iam = clients.client("iam", "888899990000")
        iam.create_role(RoleName="example-beat-eu-west-1", AssumeRolePolicyDocument=trust)
    organisation.join("888899990000", "odd", SECURITY)
    assert organisation.settled(30)
    assert stacks(organisation, "888899990000") == [
        "example-account deployed in 888899990000 us-east-1",
        "example-region deployed in 888899990000 us-east-1",
    ]
    errors = [step.text for step in organisation.journal.since(0) if step.kind == "error"]
    (error,) = (text for text in errors if "888899990000" in text)
    assert "example-region was not deployed in 888899990000 eu-west-1: " in error
    assert "EntityAlreadyExists" in error
    assert len(stacks(organisation, member_id(organisation))) == 3
