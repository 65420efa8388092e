"""What the local organisation may be told about, and what it lends to the restored AWS behaviour."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One mutating EC2, Security Hub or IAM call, as it was answered.

    `request` and `response` use botocore's member names; `response` is empty and `error_code` set (as the
    service says it, without CloudTrail's prefix) when the call failed.
    """

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
    """One event that a rule matched and that did not reach one of the rule's targets.

    `dead_lettered` says whether the target's dead-letter queue has taken it.
    """

    rule_arn: str
    target_arn: str
    error_code: str
    message: str
    event: Mapping[str, Any]
    dead_lettered: bool


def _ignore(_: object) -> None:
    """Do nothing with what is reported."""


def _everyone(_: str) -> bool:
    """Take every local account for a member of the organisation."""
    return True


@dataclass(frozen=True, slots=True)
class Hooks:
    """The callbacks and facts that `install` hands to the patches.

    `on_api_call` and `on_delivery_failure` run on the thread that met the fact, so they must be quick and
    must not call AWS. `organisation_id` is what `aws:PrincipalOrgID` is compared with; `is_member` says which
    accounts belong to it.
    """

    on_api_call: Callable[[ApiCall], None] = _ignore
    on_delivery_failure: Callable[[DeliveryFailure], None] = _ignore
    clock: Callable[[], float] = time.time
    organisation_id: str | None = None
    is_member: Callable[[str], bool] = _everyone

    def organisation_of(self, account_id: str) -> str | None:
        """Return the organisation id that AWS would put into `aws:PrincipalOrgID` for an account."""
        return self.organisation_id if self.is_member(account_id) else None


class _Installed:
    """Holds the hooks in force, so that a second `install` can swap them under running patches."""

    hooks = Hooks()


def current() -> Hooks:
    """Return the hooks of the last `install`."""
    return _Installed.hooks


def use(hooks: Hooks) -> None:
    """Put `hooks` in force for everything that happens from now on."""
    _Installed.hooks = hooks
