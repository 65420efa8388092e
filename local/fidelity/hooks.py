"""What the local organisation may be told about, and what it lends to the restored AWS behaviour."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.functions import Answer


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One mutating EC2, Security Hub, IAM or STS call, with botocore's names; `response` is empty after a failure."""

    account_id: str
    region: str
    service: str
    action: str
    error_code: str | None
    principal_arn: str
    request: Mapping[str, Any]
    response: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """One event that a rule matched and that did not reach one of the rule's targets."""

    rule_arn: str
    target_arn: str
    error_code: str
    message: str
    event: Mapping[str, Any]
    dead_lettered: bool


def _no_function(arn: str, _: Any) -> Answer | None:
    """Know no function."""


def _nothing(what: str, _: Any) -> str:
    """Do nothing by hand."""
    raise LookupError(what)


@dataclass(frozen=True, slots=True)
class Hooks:
    """The callbacks and facts that `install` hands to the patches.

    The callbacks run on the thread that met the fact, so they must be quick and must not call AWS.
    `organisation_id` is what `aws:PrincipalOrgID` is compared with, for the accounts that `is_member` names.
    `invoke` runs the function with an ARN, for as long as that takes; None if there is none. `on_membership` is told
    of an account that joined, moved, was closed or was removed; `on_execution` of a state machine's execution, by its
    ARN, that started or ended, with its status and cause. `administrator` is the delegated administrator of Security
    Hub and the Region in which it aggregates findings; `by_hand` does what no API call can (see there), or raises
    ValueError or LookupError.
    """

    on_api_call: Callable[[ApiCall], None] = lambda _: None
    on_delivery_failure: Callable[[DeliveryFailure], None] = lambda _: None
    clock: Callable[[], float] = time.time
    organisation_id: str | None = None
    is_member: Callable[[str], bool] = lambda _: True
    is_enabled: Callable[[str, str], bool] = lambda _account_id, _region: True
    on_membership: Callable[[str, str], None] = lambda _account_id, _change: None
    on_execution: Callable[[str, str, str], None] = lambda _arn, _status, _cause: None
    invoke: Callable[[str, Any], Answer | None] = _no_function
    administrator: tuple[str, str] | None = None
    by_hand: Callable[[str, Mapping[str, list[str]]], str] = _nothing

    def context_of(self, account_id: str) -> dict[str, str]:
        """Return `aws:PrincipalOrgID` as AWS would have it for calls of an account."""
        is_member = self.organisation_id is not None and self.is_member(account_id)
        return {"aws:principalorgid": str(self.organisation_id)} if is_member else {}

    def now(self) -> str:
        """Return the time as AWS writes it: to the second, in UTC."""
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Those in force; `install` swaps them under running patches, so look here each time.
installed = Hooks()
