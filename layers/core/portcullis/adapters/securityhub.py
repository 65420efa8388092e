"""Findings into Security Hub of the account and Region where the resource is.

With the account's own product the caller must be that account, so the observer role imports them: it can file
what was seen, and change nothing else. The survey files about the organisation in the hub's own account.
Source: BatchImportFindings in the Security Hub API reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import translated
from portcullis.asff import MAX_BATCH
from portcullis.errors import Fault, SecurityHubOffError, classify
from portcullis.ports import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PERMISSIONS = ("securityhub:BatchImportFindings", "securityhub:DescribeHub")
"""The IAM actions that this module uses, with the observer role."""

_ATTEMPTS = 2
_TRANSIENT_CODES = ("InternalException", "LimitExceededException")


_OFF_CODE = "InvalidAccess"
# What DescribeHub answers where Security Hub is off, in its model.
_OFF = ("InvalidAccessException", "ResourceNotFoundException")


class SecurityHubSink:
    """The FindingSink port over Security Hub.

    Args:
        client_of: Gives a Security Hub client for an account and Region.
    """

    def __init__(self, client_of: Callable[[str, str], Any]) -> None:
        self._client_of = client_of

    def is_enabled(self, account_id: str, region: str) -> bool:
        """Ask whether Security Hub is on. See ports.FindingSink."""
        with translated(f"asking for Security Hub in {account_id} {region}"):
            client = self._client_of(account_id, region)
            try:
                client.describe_hub()
            except ClientError as error:
                if error.response["Error"]["Code"] in _OFF:
                    return False
                raise
        return True

    def import_findings(self, account_id: str, region: str, findings: Sequence[dict[str, Any]]) -> list[Rejection]:
        """Import findings in batches. See ports.FindingSink."""
        rejections: list[Rejection] = []
        for start in range(0, len(findings), MAX_BATCH):
            batch = list(findings[start : start + MAX_BATCH])
            for _ in range(_ATTEMPTS):
                refused = self._import(account_id, region, batch)
                transient = {rejection.finding_id for rejection in refused if rejection.transient}
                rejections += [rejection for rejection in refused if not rejection.transient]
                batch = [finding for finding in batch if finding["Id"] in transient]
                if not batch:
                    break
            rejections += [rejection for rejection in refused if rejection.transient]
        return rejections

    def _import(self, account_id: str, region: str, batch: list[dict[str, Any]]) -> list[Rejection]:
        with translated(f"filing findings in {account_id} {region}"):
            answer = self._client_of(account_id, region).batch_import_findings(Findings=batch)
        # An HTTP success says nothing yet: Security Hub switched off, say, is only told here.
        if any(item["ErrorCode"] == _OFF_CODE for item in answer.get("FailedFindings", [])):
            raise SecurityHubOffError(f"Security Hub is switched off in {account_id} {region}")
        return [
            Rejection(
                finding_id=item["Id"],
                code=item["ErrorCode"],
                message=item["ErrorMessage"],
                transient=item["ErrorCode"] in _TRANSIENT_CODES
                or classify(item["ErrorCode"], item["ErrorMessage"]) is Fault.TRANSIENT,
            )
            for item in answer.get("FailedFindings", [])
        ]
