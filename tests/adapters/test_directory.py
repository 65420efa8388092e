"""Which accounts are governed: the active ones below the target units, at any depth, now."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.directory import OrganizationsDirectory
from portcullis.errors import TransientError

from tests.adapters.doubles import SetClock, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

ROOT = "r-ab12"


class Organisation:
    """An organisation in moto, and somebody who runs it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.create_organization(FeatureSet="ALL")
        self.root = str(client.list_roots()["Roots"][0]["Id"])

    def unit(self, name: str, parent: str) -> str:
        """Make an organisational unit."""
        unit = self.client.create_organizational_unit(ParentId=parent, Name=name)["OrganizationalUnit"]
        return str(unit["Id"])

    def account(self, name: str, parent: str) -> str:
        """Make an account in a unit."""
        made = self.client.create_account(AccountName=name, Email=f"{name}@example.com")["CreateAccountStatus"]
        account_id = str(made["AccountId"])
        if parent != self.root:
            self.client.move_account(AccountId=account_id, SourceParentId=self.root, DestinationParentId=parent)
        return account_id

    def below(self, *parents: str) -> frozenset[str]:
        """Ask the directory."""
        return OrganizationsDirectory(self.client, parents, SetClock()).active_accounts()


@pytest.fixture
def organisation(aws: None, session: boto3.Session) -> Organisation:  # noqa: ARG001 - it has to run inside moto
    """Return an organisation."""
    return Organisation(session.client("organizations", config=CONFIG))


@pytest.fixture
def organizations(script: Callable[[str], Script]) -> Script:
    """Return a scripted AWS Organizations."""
    return script("organizations")


# ---- Against moto --------------------------------------------------------------------------------------------------


def test_accounts_are_found_at_any_depth_below_the_targets_and_nowhere_else(organisation: Organisation) -> None:
    """Two targets, one of them three levels deep; the other units and the root's own accounts stay out."""
    shop = organisation.unit("shop", organisation.root)
    stage = organisation.unit("stage", shop)
    team = organisation.unit("team", stage)
    bank = organisation.unit("bank", organisation.root)
    other = organisation.unit("other", organisation.root)
    accounts = {
        unit: [organisation.account(f"{name}-{n}", unit) for n in range(2)]
        for name, unit in {"shop": shop, "team": team, "bank": bank, "other": other}.items()
    }
    top = organisation.account("top", organisation.root)
    management = organisation.client.describe_organization()["Organization"]["MasterAccountId"]

    assert organisation.below(shop, bank) == {*accounts[shop], *accounts[team], *accounts[bank]}
    assert organisation.below(stage) == {*accounts[team]}
    assert organisation.below(shop, team) == {*accounts[shop], *accounts[team]}
    everywhere = {account_id for found in accounts.values() for account_id in found}
    assert organisation.below(organisation.root) == {*everywhere, top, management}


def test_a_closed_account_is_left_out_from_then_on(organisation: Organisation) -> None:
    """One that is closing or suspended runs nothing, and no role in it can be assumed."""
    unit = organisation.unit("shop", organisation.root)
    kept, closed = (organisation.account(name, unit) for name in ("kept", "closed"))
    assert organisation.below(unit) == {kept, closed}

    organisation.client.close_account(AccountId=closed)

    assert organisation.below(unit) == {kept}


def test_an_account_that_joins_or_leaves_is_seen_the_next_time(organisation: Organisation) -> None:
    """Nothing is remembered: who joins is in the next sweep, and who moves out is not."""
    unit, other = (organisation.unit(name, organisation.root) for name in ("shop", "other"))
    directory = OrganizationsDirectory(organisation.client, [unit], SetClock())
    assert directory.active_accounts() == frozenset()

    account_id = organisation.account("new", unit)
    assert directory.active_accounts() == {account_id}

    organisation.client.move_account(AccountId=account_id, SourceParentId=unit, DestinationParentId=other)
    assert directory.active_accounts() == frozenset()


def test_the_management_account_is_named(organisation: Organisation) -> None:
    """StackSets leave it out, so the survey says of it what to do by hand."""
    expected = organisation.client.describe_organization()["Organization"]["MasterAccountId"]

    assert OrganizationsDirectory(organisation.client, [], SetClock()).management_account_id() == expected


# ---- Units ---------------------------------------------------------------------------------------------------------


def test_the_units_of_an_account_go_from_the_root_down(organisation: Organisation) -> None:
    """All of them, whatever the target units are; of an account right below the root only the root."""
    shop = organisation.unit("shop", organisation.root)
    team = organisation.unit("team", shop)
    deep, top = organisation.account("deep", team), organisation.account("top", organisation.root)
    directory = OrganizationsDirectory(organisation.client, [], SetClock())

    assert directory.units_of(deep) == (organisation.root, shop, team)
    assert directory.units_of(top) == (organisation.root,)


def test_who_is_whose_parent_is_remembered_for_a_quarter_of_an_hour(organizations: Script) -> None:
    """Accounts of one unit share what is known above it; an account that moved is seen to have moved after that."""

    def expect(child: str, parent: str) -> None:
        kind = "ROOT" if parent == ROOT else "ORGANIZATIONAL_UNIT"
        organizations.expect("list_parents", {"Parents": [{"Id": parent, "Type": kind}]}, {"ChildId": child})

    clock, unit, other = SetClock(), "ou-ab12-11111111", "ou-ab12-22222222"
    directory = OrganizationsDirectory(organizations.client, [], clock)

    expect("111122223333", unit)
    expect(unit, ROOT)
    assert directory.units_of("111122223333") == (ROOT, unit)
    expect("222233334444", unit)
    assert directory.units_of("222233334444") == (ROOT, unit)
    clock.time += timedelta(minutes=14, seconds=59)
    assert directory.units_of("111122223333") == (ROOT, unit)

    clock.time += timedelta(seconds=1)
    expect("111122223333", other)
    expect(other, ROOT)
    assert directory.units_of("111122223333") == (ROOT, other)


def test_an_empty_page_of_parents_is_not_the_last(organizations: Script) -> None:
    """AWS Organizations may answer one ("ListParents")."""
    parents = {"Parents": [{"Id": ROOT, "Type": "ROOT"}]}
    organizations.expect("list_parents", {"Parents": [], "NextToken": "t1"}, {"ChildId": "111122223333"})
    organizations.expect("list_parents", parents, {"ChildId": "111122223333", "NextToken": "t1"})

    assert OrganizationsDirectory(organizations.client, [], SetClock()).units_of("111122223333") == (ROOT,)


@pytest.mark.parametrize("code", ["TooManyRequestsException", "AccessDeniedException", "ChildNotFoundException"])
def test_units_that_cannot_be_read_are_not_no_units(organizations: Script, code: str) -> None:
    """An exemption or a scope may name one: the look fails, and nothing of it is remembered."""
    unit = "ou-ab12-11111111"
    organizations.expect("list_parents", {"Parents": [{"Id": unit, "Type": "ORGANIZATIONAL_UNIT"}]})
    organizations.refuse("list_parents", code)
    organizations.expect("list_parents", {"Parents": [{"Id": ROOT, "Type": "ROOT"}]}, {"ChildId": unit})
    directory = OrganizationsDirectory(organizations.client, [], SetClock())

    with pytest.raises(TransientError, match=f"^looking up the units above 111122223333: {code}"):
        directory.units_of("111122223333")
    assert directory.units_of("111122223333") == (ROOT, unit)


# ---- Pages, and what older answers look like -----------------------------------------------------------------------


def test_every_page_is_read_even_an_empty_one(organizations: Script) -> None:
    """AWS Organizations may answer an empty page that is not the last ("ListAccountsForParent")."""

    def expect(operation: str, key: str, parent: str, *pages: list[dict[str, str]]) -> None:
        for number, page in enumerate(pages):
            before = {"NextToken": f"t{number}"} if number else {}
            after = {"NextToken": f"t{number + 1}"} if number < len(pages) - 1 else {}
            organizations.expect(operation, {key: page, **after}, {"ParentId": parent, **before})

    def accounts(*numbers: int) -> list[dict[str, str]]:
        return [{"Id": f"{number:012}", "State": "ACTIVE"} for number in numbers]

    unit = "ou-ab12-11111111"
    expect("list_accounts_for_parent", "Accounts", ROOT, accounts(1, 2), [], accounts(3))
    expect("list_organizational_units_for_parent", "OrganizationalUnits", ROOT, [], [{"Id": unit}])
    expect("list_accounts_for_parent", "Accounts", unit, [], accounts(4))
    expect("list_organizational_units_for_parent", "OrganizationalUnits", unit, [])

    found = OrganizationsDirectory(organizations.client, [ROOT], SetClock()).active_accounts()

    assert found == {f"{number:012}" for number in range(1, 5)}


@pytest.mark.parametrize(
    ("said", "governed"),
    [
        ({"State": "ACTIVE"}, True),
        ({"Status": "ACTIVE"}, True),
        ({"State": "ACTIVE", "Status": "SUSPENDED"}, True),
        ({"State": "SUSPENDED", "Status": "ACTIVE"}, False),
        ({"State": "CLOSED"}, False),
        ({"State": "PENDING_ACTIVATION", "Status": "ACTIVE"}, False),
        ({"State": "PENDING_CLOSURE"}, False),
        ({"Status": "SUSPENDED"}, False),
        ({"Status": "PENDING_CLOSURE"}, False),
        ({}, False),
    ],
)
def test_active_is_what_state_says_or_status_where_there_is_no_state(
    organizations: Script, said: dict[str, str], *, governed: bool
) -> None:
    """State replaces Status; a Lambda runtime with an older SDK passes on Status only."""
    organizations.expect("list_accounts_for_parent", {"Accounts": [{"Id": "111122223333", **said}]})
    organizations.expect("list_organizational_units_for_parent", {"OrganizationalUnits": []})

    found = OrganizationsDirectory(organizations.client, [ROOT], SetClock()).active_accounts()

    assert found == ({"111122223333"} if governed else frozenset())


def test_without_targets_nothing_is_asked(organizations: Script) -> None:
    """Then only the additional accounts are governed."""
    assert OrganizationsDirectory(organizations.client, [], SetClock()).active_accounts() == frozenset()
    assert organizations.calls == []


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["TooManyRequestsException", "AccessDeniedException", "ParentNotFoundException", "ServiceException"]
)
def test_half_a_list_is_no_list(organizations: Script, code: str) -> None:
    """Whatever fails on whichever page: no account is taken for one that left the organisation."""
    organizations.expect("list_accounts_for_parent", {"Accounts": [{"Id": "111122223333", "State": "ACTIVE"}]})
    organizations.refuse("list_organizational_units_for_parent", code)

    with pytest.raises(TransientError, match=f"^listing the accounts of the organisation: {code}"):
        OrganizationsDirectory(organizations.client, [ROOT], SetClock()).active_accounts()


def test_an_organisation_that_cannot_be_described_is_transient(organizations: Script) -> None:
    """The state machine tries again."""
    organizations.refuse("describe_organization", "AccessDeniedException")

    with pytest.raises(TransientError, match=r"^describing the organisation: AccessDeniedException"):
        OrganizationsDirectory(organizations.client, [], SetClock()).management_account_id()


def test_organizations_is_tried_three_times(session: boto3.Session, naps: list[float]) -> None:
    """As every other service."""
    client = session.client("organizations", config=CONFIG)
    wire = Wire(client, EndpointConnectionError(endpoint_url="https://organizations"))

    with pytest.raises(TransientError, match="EndpointConnectionError"):
        OrganizationsDirectory(client, [ROOT], SetClock()).active_accounts()

    assert wire.attempts == 3
    assert len(naps) == 2
