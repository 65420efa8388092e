"""From decisions and outcomes to findings in the AWS Security Finding Format. Pure.

A finding's id follows from the control and the resource's ARN, so the same trouble is always the same
finding. Its life: FAILED when something is wrong, PASSED when it was wrong and is now right, ARCHIVED when
the resource is gone, and back. What was never wrong has no finding. Workflow, notes and suppression belong to
the analyst and are never sent.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from portcullis.actions import fingerprint
from portcullis.model import FindingRecord, Kind, Outcome, Result, Status
from portcullis.plan import exempted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portcullis.model import Evaluation, RecordKey
    from portcullis.plan import Decision

_FINDING_ID = re.compile(
    r"portcullis/([A-Z]+\.[0-9]+)/arn:(aws[a-z-]*):ec2:([a-z0-9-]+):([0-9]{12}):(vpc|instance)/([A-Za-z0-9-]{1,64})"
)
# Limits of the format: the AwsSecurityFinding and Recommendation shapes of the Security Hub service model.
_SCHEMA_VERSION = "2018-10-08"
MAX_DESCRIPTION = 1024
MAX_RECOMMENDATION = 512
_LEAST_REASON = 300

_TYPES = ["Software and Configuration Checks/AWS Security Best Practices"]
_RESOURCE_TYPES = {Kind.VPC: "AwsEc2Vpc", Kind.INSTANCE: "AwsEc2Instance", Kind.ACCOUNT_REGION: "AwsAccount"}

EXEMPT = "EXEMPT"
"""How we remember a finding that is wrong and exempt. Security Hub reads PASSED: it is as the policy wants it, and
PASSED to FAILED makes the finding new again when the exemption ends."""

_OPEN = ("FAILED", "WARNING", EXEMPT)

REFRESH_AFTER = timedelta(days=7)
"""Security Hub deletes a finding that is not updated for 90 days; an open one is filed again well before."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a finding is filed: the account and Region of the resource."""

    partition: str
    account_id: str
    region: str

    def resource_arn(self, kind: Kind, resource_id: str) -> str:
        """Return the ARN of a VPC or an instance; for an account-Region, what stands for one in findings."""
        if kind is Kind.ACCOUNT_REGION:
            return f"AWS::::Account:{resource_id}"
        return f"arn:{self.partition}:ec2:{self.region}:{self.account_id}:{kind}/{resource_id}"

    @property
    def product_arn(self) -> str:
        """Return the account's own product ARN, under which it may import findings."""
        return f"arn:{self.partition}:securityhub:{self.region}:{self.account_id}:product/{self.account_id}/default"


@dataclass(frozen=True, slots=True)
class Filing:
    """A finding to import, and what to remember once Security Hub has taken it."""

    decision: Decision
    finding: dict[str, Any]
    record: FindingRecord


def finding_id(place: Place, control_id: str, kind: Kind, resource_id: str) -> str:
    """Return the deterministic id of a finding."""
    return f"portcullis/{control_id}/{place.resource_arn(kind, resource_id)}"


def parse_finding_id(text: str) -> tuple[Place, RecordKey] | None:
    """Read what ``finding_id`` writes for a VPC or an instance; None for anything else."""
    parts = _FINDING_ID.fullmatch(text)
    if parts is None:
        return None
    control_id, partition, region, account_id, kind, resource_id = parts.groups()
    return Place(partition, account_id, region), (Kind(kind), resource_id, control_id)


def file_for(
    place: Place, decision: Decision, outcomes: Sequence[Outcome], record: FindingRecord | None, now: datetime
) -> Filing | None:
    """Build the finding that a decision calls for, or None when nothing is new.

    Args:
        place: Where the resource is.
        decision: What was decided; its evaluation is what was seen.
        outcomes: How the decision's actions ended; empty before they are performed.
        record: What is remembered of this finding, None when it was never filed.
        now: The time of filing; UpdatedAt is this, or a millisecond after the last one if that is later.
    """
    if decision.evaluation and decision.evaluation.status is Status.UNKNOWN:
        return None
    verdict = _verdict(decision, outcomes)
    is_open = record and record.status in ("FAILED", "WARNING") and record.record_state == "ACTIVE"
    if decision.actions and not outcomes and is_open:
        # It is open already. How the change ends is news; that it is about to be tried again is not.
        return None
    if not _is_news(verdict, record, now):
        return None
    stamp = _timestamp(now)
    if record is not None and stamp <= record.updated_at:
        stamp = _timestamp(datetime.fromisoformat(record.updated_at) + timedelta(milliseconds=1))
    created_at = record.created_at if record else stamp
    finding = _finding(place, decision, verdict, (created_at, stamp))
    filed = FindingRecord(
        control_id=decision.control.id,
        kind=decision.kind,
        resource_id=decision.resource_id,
        created_at=created_at,
        updated_at=stamp,
        status=verdict.status,
        record_state=verdict.record_state,
        digest=_digest(verdict.text, verdict.proposed),
        proposed=verdict.proposed or None,
    )
    return Filing(decision, finding, filed)


def in_doubt(record: FindingRecord) -> FindingRecord:
    """Return the record to keep while an import is under way: it may or may not have been taken."""
    return replace(record, status=None, record_state=None, digest=None)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Compliance status, record state, and the description: what may be cut when that is long, and what may not.

    ``proposed`` is as in FindingRecord.
    """

    status: str
    record_state: str
    reason: str
    rest: str = ""
    proposed: str = ""

    @property
    def text(self) -> str:
        return f"{self.reason} {self.rest}" if self.rest else self.reason

    @property
    def description(self) -> str:
        reason = _cut(self.reason, max(_LEAST_REASON, MAX_DESCRIPTION - len(self.rest) - 1)) if self.rest else self.text
        return _cut(replace(self, reason=reason).text, MAX_DESCRIPTION)


def _verdict(decision: Decision, outcomes: Sequence[Outcome]) -> _Verdict:
    evaluation = decision.evaluation
    if evaluation is None or evaluation.status is Status.NOT_APPLICABLE:
        return _Verdict("NOT_AVAILABLE", "ARCHIVED", evaluation.reason if evaluation else decision.note)
    if evaluation.status is Status.PASSED:
        return _Verdict("PASSED", "ACTIVE", evaluation.reason)
    if decision.exemption:
        return _Verdict(EXEMPT, "ACTIVE", f"{exempted(decision.exemption)} {evaluation.reason}")
    touched = f" {decision.impact}" if decision.impact else ""
    if outcomes:
        return _after(outcomes, evaluation, touched)
    proposed = " ".join(sorted(fingerprint(action) for action in evaluation.actions))
    if decision.needless:
        return _Verdict("WARNING", "ACTIVE", f"{decision.note} {evaluation.reason}", proposed=proposed)
    return _Verdict("FAILED", "ACTIVE", evaluation.reason, f"{decision.note}{touched}", proposed)


def _after(outcomes: Sequence[Outcome], evaluation: Evaluation, touched: str) -> _Verdict:
    done, results = " ".join(outcome.detail for outcome in outcomes), {outcome.result for outcome in outcomes}
    if evaluation.remains or not results <= {Result.APPLIED, Result.NEEDLESS}:
        proposed = " ".join(sorted(fingerprint(outcome.action) for outcome in outcomes))
        return _Verdict("FAILED", "ACTIVE", evaluation.reason, f"{done}{touched}", proposed)
    status = "PASSED" if results == {Result.APPLIED} else "WARNING"
    return _Verdict(status, "ACTIVE", f"{done} Before: {evaluation.reason}")


def _is_news(verdict: _Verdict, record: FindingRecord | None, now: datetime) -> bool:
    status, record_state = verdict.status, verdict.record_state
    if record is None:
        return status in _OPEN
    if record.status is None:
        return True
    if (status, record_state) != (record.status, record.record_state):
        # What is archived and was not found wrong again has nothing to say.
        return record.record_state != "ARCHIVED" or status in _OPEN
    if status not in _OPEN:
        return False
    return (
        record.digest != _digest(verdict.text, verdict.proposed)
        or now - datetime.fromisoformat(record.updated_at) > REFRESH_AFTER
    )


def _finding(place: Place, decision: Decision, verdict: _Verdict, times: tuple[str, str]) -> dict[str, Any]:
    status = verdict.status
    control, evaluation = decision.control, decision.evaluation
    remedy = evaluation.remedy if evaluation and status in _OPEN and evaluation.remedy else "Nothing is left to do."
    return {
        "SchemaVersion": _SCHEMA_VERSION,
        "Id": finding_id(place, control.id, decision.kind, decision.resource_id),
        "ProductArn": place.product_arn,
        "ProductName": "Portcullis",
        "GeneratorId": f"portcullis/{control.id}",
        "AwsAccountId": place.account_id,
        "Region": place.region,
        "CreatedAt": times[0],
        "UpdatedAt": times[1],
        "Title": f"{control.id} {control.title}",
        "Description": verdict.description,
        "Remediation": {
            "Recommendation": {
                "Text": _cut(remedy, MAX_RECOMMENDATION),
                "Url": control.docs,
            }
        },
        "FindingProviderFields": {
            "Severity": {"Label": control.severity if status == "FAILED" else "INFORMATIONAL"},
            "Types": _TYPES,
        },
        "ProductFields": {"portcullis/ControlId": control.id},
        "Resources": [_resource(place, decision.kind, decision.resource_id)],
        "Compliance": {"Status": "PASSED" if status == EXEMPT else status},
        "RecordState": verdict.record_state,
    }


def _resource(place: Place, kind: Kind, resource_id: str) -> dict[str, str]:
    arn, region = place.resource_arn(kind, resource_id), place.region
    if kind is Kind.ACCOUNT_REGION:
        arn, _, region = arn.partition("/")
    return {"Type": _RESOURCE_TYPES[kind], "Id": arn, "Partition": place.partition, "Region": region}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def _digest(*texts: str) -> str:
    return hashlib.sha256("|".join(texts).encode()).hexdigest()[:16]


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
