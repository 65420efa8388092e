"""Findings into Security Hub of the account and Region where the resource is.

With the account's own product the caller must be that account, so the observer role imports them: it can file
what was seen, and change nothing else. The survey files about the organisation in the hub's own account.
Source: BatchImportFindings in the Security Hub API reference.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import translated
from portcullis.errors import Fault, ObservationError, SecurityHubOffError, TransientError, classify
from portcullis.findings import Place
from portcullis.ports import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

PERMISSIONS = (
    "securityhub:BatchImportFindings",
    "securityhub:BatchUpdateFindings",
    "securityhub:DescribeHub",
    "securityhub:GetFindings",
)
"""The IAM actions that this module uses, with the observer role."""

_ATTEMPTS = 2
_MAX_BATCH = 100  # of an import, and of a page: in the model
_TRANSIENT_CODES = ("InternalException", "LimitExceededException")
_FILTER_VALUES = 20
_NOTE = 512
_AUTHOR = "Portcullis"
# What BatchUpdateFindings says of one finding, in its model. A finding shows some time after it was imported.
_NOT_YET = ("ConcurrentUpdateError", "FindingNotFound", "InternalFailure")

_OFF_CODE = "InvalidAccess"
# What the other calls answer where Security Hub is off, in their models.
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
        for start in range(0, len(findings), _MAX_BATCH):
            batch = list(findings[start : start + _MAX_BATCH])
            for _ in range(_ATTEMPTS):
                refused = self._import(account_id, region, batch)
                transient = {rejection.finding_id for rejection in refused if rejection.transient}
                rejections += [rejection for rejection in refused if not rejection.transient]
                batch = [finding for finding in batch if finding["Id"] in transient]
                if not batch:
                    break
            rejections += [rejection for rejection in refused if rejection.transient]
        return rejections

    def suppressed(self, account_id: str, region: str, finding_ids: Collection[str]) -> frozenset[str]:
        """Ask which findings are suppressed. See ports.FindingSink."""
        wanted, found = sorted(set(finding_ids)), set()
        with _switched_on("asking which findings are suppressed", account_id, region):
            for start in range(0, len(wanted), _FILTER_VALUES):
                client = self._client_of(account_id, region)
                # The hub's account also sees the findings of its members, who choose their ids: ask for ours only.
                ours = (account_id, Place(client.meta.partition, account_id, region).product_arn)
                filters = {
                    "Id": _equals(*wanted[start : start + _FILTER_VALUES]),
                    "AwsAccountId": _equals(ours[0]),
                    "ProductArn": _equals(ours[1]),
                }
                pages = client.get_paginator("get_findings")
                for page in pages.paginate(Filters=filters, PaginationConfig={"PageSize": _MAX_BATCH}):
                    found |= {
                        one["Id"]
                        for one in page["Findings"]
                        if _workflow(one) == "SUPPRESSED" and (one["AwsAccountId"], one["ProductArn"]) == ours
                    }
        return frozenset(found).intersection(wanted)

    def note(self, account_id: str, region: str, finding_id: str, text: str) -> None:
        """Write a note. See ports.FindingSink."""
        doing = f"noting on {finding_id}"
        with _switched_on(doing, account_id, region):
            client = self._client_of(account_id, region)
            product_arn = Place(client.meta.partition, account_id, region).product_arn
            answer = client.batch_update_findings(
                FindingIdentifiers=[{"Id": finding_id, "ProductArn": product_arn}],
                Note={"Text": text if len(text) <= _NOTE else f"{text[: _NOTE - 4]} ...", "UpdatedBy": _AUTHOR},
            )
        # An HTTP success says nothing yet here, either.
        for item in answer.get("UnprocessedFindings", []):
            kind = TransientError if item["ErrorCode"] in _NOT_YET else ObservationError
            raise kind(f"{doing}: {item['ErrorCode']}: {item['ErrorMessage']}")

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


def _equals(*values: str) -> list[dict[str, str]]:
    return [{"Value": value, "Comparison": "EQUALS"} for value in values]


def _workflow(finding: dict[str, Any]) -> str | None:
    status: str | None = finding.get("Workflow", {}).get("Status")
    return status


@contextmanager
def _switched_on(doing: str, account_id: str, region: str) -> Iterator[None]:
    """Raise our errors for AWS's, and tell apart that Security Hub is off."""
    with translated(f"{doing} in {account_id} {region}"):
        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] in _OFF:
                raise SecurityHubOffError(f"Security Hub is switched off in {account_id} {region}") from error
            raise
