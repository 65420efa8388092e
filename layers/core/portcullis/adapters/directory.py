"""The organisation, as AWS Organizations describes it to a delegated administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis.adapters.calls import translated
from portcullis.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PERMISSIONS = (
    "organizations:DescribeOrganization",
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
)
"""The IAM actions that this module uses, with the survey function's own role."""


class OrganizationsDirectory:
    """The Directory port over AWS Organizations.

    Args:
        client: An Organizations client of the management account, or of a delegated administrator of any service
            ("ListAccountsForParent" in the Organizations API reference).
        parents: Ids of the root or organisational units to look below.
    """

    def __init__(self, client: Any, parents: Sequence[str]) -> None:
        self._client = client
        self._parents = parents

    def active_accounts(self) -> frozenset[str]:
        """List accounts. See ports.Directory."""
        with translated("listing the accounts of the organisation", TransientError):
            return frozenset(account_id for parent in self._parents for account_id in self._below(parent))

    def management_account_id(self) -> str:
        """Ask for the management account. See ports.Directory."""
        with translated("describing the organisation", TransientError):
            return str(self._client.describe_organization()["Organization"]["MasterAccountId"])

    def _below(self, parent: str) -> Iterator[str]:
        for account in self._read("list_accounts_for_parent", "Accounts", parent):
            # State replaces Status, which AWS retired in September 2026; older SDKs know Status only.
            if account.get("State", account.get("Status")) == "ACTIVE":
                yield account["Id"]
        for unit in self._read("list_organizational_units_for_parent", "OrganizationalUnits", parent):
            yield from self._below(unit["Id"])

    def _read(self, operation: str, key: str, parent: str) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator(operation).paginate(ParentId=parent):
            yield from page[key]
