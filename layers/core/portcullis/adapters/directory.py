"""The organisation, as AWS Organizations describes it to a delegated administrator."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from portcullis.adapters.calls import translated
from portcullis.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from portcullis.ports import Clock

PERMISSIONS = (
    "organizations:DescribeOrganization",
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
)
"""The IAM actions that ``active_accounts`` and ``management_account_id`` use, with the survey function's own role."""

UNITS_PERMISSIONS = ("organizations:ListParents",)
"""The IAM actions that ``units_of`` uses, with the role of a function that looks at members."""

_KEPT_FOR = timedelta(minutes=15)


class OrganizationsDirectory:
    """The Directory port over AWS Organizations.

    Args:
        client: An Organizations client of the management account, or of a delegated administrator of any service
            ("ListAccountsForParent" in the Organizations API reference).
        parents: Ids of the root or organisational units to look below.
        clock: The time, by which what is known of who is whose parent grows old.
    """

    def __init__(self, client: Any, parents: Sequence[str], clock: Clock) -> None:
        self._client = client
        self._parents = parents
        self._clock = clock
        self._above: dict[str, tuple[datetime, str]] = {}

    def active_accounts(self) -> frozenset[str]:
        """List accounts. See ports.Directory."""
        with translated("listing the accounts of the organisation", TransientError):
            return frozenset(account_id for parent in self._parents for account_id in self._below(parent))

    def management_account_id(self) -> str:
        """Ask for the management account. See ports.Directory."""
        with translated("describing the organisation", TransientError):
            return str(self._client.describe_organization()["Organization"]["MasterAccountId"])

    def units_of(self, account_id: str) -> tuple[str, ...]:
        """Climb from an account to the root. See ports.Directory."""
        units = [account_id]
        with translated(f"looking up the units above {account_id}", TransientError):
            while not units[-1].startswith("r-"):
                units.append(self._parent(units[-1]))
        return tuple(reversed(units[1:]))

    def _parent(self, child: str) -> str:
        """Return the one parent that an account or unit has ("ListParents" in the Organizations API reference)."""
        now = self._clock.now()
        read_at, parent = self._above.get(child, (None, ""))
        if read_at is None or now - read_at >= _KEPT_FOR:
            [parent] = [each["Id"] for each in self._read("list_parents", "Parents", ChildId=child)]
            self._above[child] = (now, parent)
        return parent

    def _below(self, parent: str) -> Iterator[str]:
        for account in self._read("list_accounts_for_parent", "Accounts", ParentId=parent):
            # State replaces Status, which AWS retired in September 2026; older SDKs know Status only.
            if account.get("State", account.get("Status")) == "ACTIVE":
                yield account["Id"]
        for unit in self._read("list_organizational_units_for_parent", "OrganizationalUnits", ParentId=parent):
            yield from self._below(unit["Id"])

    def _read(self, operation: str, key: str, **of: str) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator(operation).paginate(**of):
            yield from page[key]
