"""Service-managed StackSets: member stacks in every account of some organisational units, now and later.

Source: CloudFormation User Guide, "Automatic deployments" and "StackSets concepts". Never in the management account.
Unlike on AWS, stacks stay when an account leaves; the journal says so.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from .template import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .functions import Answer, FunctionSpec

    Places = Sequence[tuple[Sequence[str], Sequence[str]]]


class Organisation(Protocol):
    """What stacks ask about the organisation and of it, and what they tell."""

    def accounts_below(self, unit_ids: Sequence[str]) -> list[str]:
        """Return the active member accounts in organisational units and all that is below them."""

    def is_enabled(self, account_id: str, region: str) -> bool:
        """Return whether an account has enabled a Region."""

    def run(self, spec: FunctionSpec, event: Any) -> Answer:
        """Invoke a function of the hub's stack, of which other resources may be missing yet."""

    def tell(self, text: str, account_id: str, region: str) -> None:
        """Note what was deployed, or left out."""


class StackSet:
    """One template, deployed by `deploy_one` to accounts of organisational units, and Regions, as `places` say."""

    def __init__(
        self, name: str, places: Places, organisation: Organisation, deploy_one: Callable[[str, str], None]
    ) -> None:
        self.name = name
        self._places = places
        self._organisation = organisation
        self._deploy_one = deploy_one
        self._reached: set[tuple[str, str]] = set()
        self._count = 0
        self._lock = threading.Lock()  # one operation at a time, as with StackSets

    def __len__(self) -> int:
        """Return the number of stacks."""
        return self._count

    def deploy(self) -> None:
        """Deploy to every target that was not yet reached; TemplateError about those that failed, at the end.

        As on AWS, one account in which it fails is no obstacle for the others, and is not tried again by itself.
        """
        errors = []
        with self._lock:
            for account_id, region in self._missing():
                self._reached.add((account_id, region))
                place = f"{account_id} {region}"
                if not self._organisation.is_enabled(account_id, region):
                    text = f"{self.name} left out {place}, which is not enabled"
                    self._organisation.tell(text, account_id, region)
                    continue
                try:
                    self._deploy_one(account_id, region)
                except TemplateError as error:
                    errors.append(f"{self.name} was not deployed in {place}: {error}")
                else:
                    self._count += 1
                    self._organisation.tell(f"{self.name} deployed in {place}", account_id, region)
        if errors:
            raise TemplateError("; ".join(errors))

    def _missing(self) -> list[tuple[str, str]]:
        places = [
            (account_id, region)
            for unit_ids, regions in self._places
            for account_id in self._organisation.accounts_below(unit_ids)
            for region in regions
        ]
        return [place for place in places if place not in self._reached]
