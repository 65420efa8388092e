"""The limits of the finding format: a valid finding has no fault, and each fault is named."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION
from tests.fakes.asff import faults

MISSING = object()


def finding() -> dict[str, Any]:
    """Return a valid finding."""
    return {
        "SchemaVersion": "2018-10-08",
        "Id": "portcullis/VPCE.1/arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0",
        "ProductArn": f"arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default",
        "GeneratorId": "portcullis/VPCE.1",
        "AwsAccountId": ACCOUNT,
        "CreatedAt": "2026-03-02T09:00:00.000Z",
        "UpdatedAt": "2026-03-02T09:00:00Z",
        "Title": "A title",
        "Description": "A description",
        "Remediation": {"Recommendation": {"Text": "Mend it.", "Url": "https://example.com"}},
        "FindingProviderFields": {"Severity": {"Label": "MEDIUM"}, "Types": ["Software and Configuration Checks"]},
        "ProductFields": {"portcullis/ControlId": "VPCE.1"},
        "Resources": [{"Type": "AwsEc2Vpc", "Id": "arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0"}],
        "Compliance": {"Status": "FAILED"},
        "RecordState": "ACTIVE",
    }


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the finding with one field changed, or without it."""
    result = deepcopy(finding())
    *parents, last = path.split(".")
    holder = result
    for name in parents:
        holder = holder[name]
    if value is MISSING:
        del holder[last]
    else:
        holder[last] = value
    return result


def test_a_valid_finding_has_no_fault() -> None:
    """So that a fault means something."""
    assert faults(finding()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Id", "x" * 512),
        ("Title", "x" * 256),
        ("Description", "x" * 1024),
        ("Remediation.Recommendation.Text", "x" * 512),
        ("Remediation", MISSING),
        ("ProductFields", MISSING),
        ("Resources", [{"Type": "T", "Id": str(number)} for number in range(32)]),
        ("FindingProviderFields.Types", ["t"] * 50),
        ("ProductFields", {str(number): "" for number in range(50)}),
        ("Compliance.Status", "NOT_AVAILABLE"),
        ("RecordState", "ARCHIVED"),
        ("ProductArn", f"arn:aws-us-gov:securityhub:us-gov-west-1:{ACCOUNT}:product/{ACCOUNT}/default"),
    ],
)
def test_the_limits_themselves_are_allowed(path: str, value: object) -> None:
    """Exactly at the limit, or optional and absent."""
    assert faults(changed(path, value)) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("SchemaVersion", "2019-01-01", "SchemaVersion is not 2018-10-08"),
        ("SchemaVersion", MISSING, "SchemaVersion is not 2018-10-08"),
        ("Id", MISSING, "Id is missing or blank"),
        ("Id", "x" * 513, "Id has 513 characters, at most 512 are allowed"),
        ("GeneratorId", " ", "GeneratorId is missing or blank"),
        ("GeneratorId", "x" * 513, "GeneratorId has 513 characters, at most 512 are allowed"),
        ("Title", "x" * 257, "Title has 257 characters, at most 256 are allowed"),
        ("Title", 7, "Title is missing or blank"),
        ("Description", "", "Description is missing or blank"),
        ("Description", "x" * 1025, "Description has 1025 characters, at most 1024 are allowed"),
        ("CreatedAt", "2026-03-02 09:00:00", "CreatedAt is not an ISO 8601 time in UTC"),
        ("CreatedAt", MISSING, "CreatedAt is not an ISO 8601 time in UTC"),
        ("UpdatedAt", "2026-03-02T09:00:00+00:00", "UpdatedAt is not an ISO 8601 time in UTC"),
        ("ProductArn", "arn:aws:securityhub:::product/x/y", "ProductArn is not that of an account's default product"),
        ("ProductArn", MISSING, "ProductArn is not that of an account's default product"),
        ("AwsAccountId", OTHER_ACCOUNT, "AwsAccountId is not the account of ProductArn"),
        ("AwsAccountId", MISSING, "AwsAccountId is not the account of ProductArn"),
        ("RecordState", "active", "RecordState is 'active', not one of ACTIVE, ARCHIVED"),
        ("RecordState", MISSING, "RecordState is None, not one of ACTIVE, ARCHIVED"),
        (
            "Compliance.Status",
            "OK",
            "Compliance.Status is 'OK', not one of PASSED, WARNING, FAILED, NOT_AVAILABLE",
        ),
        (
            "FindingProviderFields.Severity.Label",
            "BAD",
            "FindingProviderFields.Severity.Label is 'BAD', not one of INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL",
        ),
        ("FindingProviderFields.Types", [], "FindingProviderFields.Types has 0 entries, 1 to 50 are allowed"),
        ("FindingProviderFields.Types", ["t"] * 51, "FindingProviderFields.Types has 51 entries, 1 to 50 are allowed"),
        ("Resources", MISSING, "Resources must hold 1 to 32 entries"),
        ("Resources", [], "Resources must hold 1 to 32 entries"),
        ("Resources", {"Type": "T", "Id": "i"}, "Resources must hold 1 to 32 entries"),
        ("Resources", [{"Type": "T", "Id": "i"}] * 33, "Resources must hold 1 to 32 entries"),
        ("Resources", [{"Type": "T", "Id": "i"}, {"Type": "T"}], "Resources[1] lacks Id"),
        ("Resources", [{"Type": "", "Id": "i"}], "Resources[0] lacks Type"),
        ("Remediation.Recommendation.Text", "", "Remediation.Recommendation.Text is missing or blank"),
        (
            "Remediation.Recommendation.Text",
            "x" * 513,
            "Remediation.Recommendation.Text has 513 characters, at most 512 are allowed",
        ),
        ("ProductFields", {str(number): "" for number in range(51)}, "ProductFields has more than 50 entries"),
        ("ProductFields", {"k": "x" * 245_760}, "the finding is larger than 245760 bytes"),
        *(
            (name, {}, f"{name} belongs to the analyst")
            for name in ("Note", "UserDefinedFields", "VerificationState", "Workflow", "WorkflowState")
        ),
    ],
)
def test_each_fault_is_named(path: str, value: object, fault: str) -> None:
    """Exactly that fault, in words that name the field and the limit."""
    assert faults(changed(path, value)) == [fault]


def test_all_faults_are_named_at_once() -> None:
    """An empty finding lacks everything that is required."""
    text = "; ".join(faults({}))
    required = ("SchemaVersion", "Id", "GeneratorId", "Title", "Description", "CreatedAt", "UpdatedAt", "ProductArn")
    for name in (*required, "Severity.Label", "Compliance.Status", "RecordState", "Types", "Resources"):
        assert name in text
