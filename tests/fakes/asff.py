"""The limits of the AWS Security Finding Format: no finding that a test sees may have a fault.

Source: the BatchImportFindings operation and the AwsSecurityFinding shape of the Security Hub service
model, and "Required top-level ASFF attributes" in the Security Hub user guide.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMA_VERSION = "2018-10-08"
_MAX_BYTES = 240 * 1024
MAX_TITLE = 256
MAX_DESCRIPTION = 1024
MAX_RECOMMENDATION = 512
_MAX_ID = 512
_MAX_RESOURCES = 32
_MAX_TYPES = 50
_MAX_PRODUCT_FIELDS = 50

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_PRODUCT_ARN = re.compile(r"arn:[a-z-]+:securityhub:[a-z0-9-]+:(\d{12}):product/(\d{12})/default")
_LENGTHS = {"Id": _MAX_ID, "GeneratorId": _MAX_ID, "Title": MAX_TITLE, "Description": MAX_DESCRIPTION}
_SEVERITIES = ("INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
_COMPLIANCE = ("PASSED", "WARNING", "FAILED", "NOT_AVAILABLE")
_RECORD_STATES = ("ACTIVE", "ARCHIVED")
# BatchImportFindings leaves these to the analyst (BatchUpdateFindings); sending them is a mistake of ours.
_ANALYST_FIELDS = ("Note", "UserDefinedFields", "VerificationState", "Workflow", "WorkflowState")


def faults(finding: Mapping[str, Any]) -> list[str]:
    """Check one finding as it would be passed to BatchImportFindings.

    Returns:
        A sentence for each fault, naming the field; empty for a valid finding.
    """
    found = [f"{name} belongs to the analyst" for name in _ANALYST_FIELDS if name in finding]
    if finding.get("SchemaVersion") != _SCHEMA_VERSION:
        found.append(f"SchemaVersion is not {_SCHEMA_VERSION}")
    for name, limit in _LENGTHS.items():
        found += _text_faults(name, finding.get(name), limit)
    for name in ("CreatedAt", "UpdatedAt"):
        if not _TIMESTAMP.fullmatch(str(finding.get(name))):
            found.append(f"{name} is not an ISO 8601 time in UTC")
    product = _PRODUCT_ARN.fullmatch(str(finding.get("ProductArn")))
    if not product:
        found.append("ProductArn is not that of an account's default product")
    elif {finding.get("AwsAccountId")} != {product[1], product[2]}:
        found.append("AwsAccountId is not the account of ProductArn")
    found += _choice_faults(finding)
    found += _resource_faults(finding.get("Resources"))
    recommendation = finding.get("Remediation", {}).get("Recommendation", {})
    if "Text" in recommendation:
        found += _text_faults("Remediation.Recommendation.Text", recommendation["Text"], MAX_RECOMMENDATION)
    if len(finding.get("ProductFields", {})) > _MAX_PRODUCT_FIELDS:
        found.append(f"ProductFields has more than {_MAX_PRODUCT_FIELDS} entries")
    if len(json.dumps(finding).encode()) > _MAX_BYTES:
        found.append(f"the finding is larger than {_MAX_BYTES} bytes")
    return found


def _text_faults(name: str, value: object, limit: int) -> list[str]:
    if not isinstance(value, str) or not value.strip():
        return [f"{name} is missing or blank"]
    return [f"{name} has {len(value)} characters, at most {limit} are allowed"] if len(value) > limit else []


def _choice_faults(finding: Mapping[str, Any]) -> list[str]:
    provider = finding.get("FindingProviderFields", {})
    types = provider.get("Types", [])
    choices = (
        ("FindingProviderFields.Severity.Label", provider.get("Severity", {}).get("Label"), _SEVERITIES),
        ("Compliance.Status", finding.get("Compliance", {}).get("Status"), _COMPLIANCE),
        ("RecordState", finding.get("RecordState"), _RECORD_STATES),
    )
    found = [
        f"{name} is {value!r}, not one of {', '.join(known)}" for name, value, known in choices if value not in known
    ]
    if not 1 <= len(types) <= _MAX_TYPES:
        found.append(f"FindingProviderFields.Types has {len(types)} entries, 1 to {_MAX_TYPES} are allowed")
    return found


def _resource_faults(resources: object) -> list[str]:
    if not isinstance(resources, list) or not 1 <= len(resources) <= _MAX_RESOURCES:
        return [f"Resources must hold 1 to {_MAX_RESOURCES} entries"]
    return [
        f"Resources[{i}] lacks {name}" for i, r in enumerate(resources) for name in ("Type", "Id") if not r.get(name)
    ]
