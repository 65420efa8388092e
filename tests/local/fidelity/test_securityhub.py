"""Security Hub: importing, finding and updating findings."""

from __future__ import annotations

from typing import Any

import pytest

from local import fidelity
from local.fidelity import securityhub

from .conftest import HUB, MEMBER, OTHER, REGION, Aws, error_of

PRODUCT_ARN = f"arn:aws:securityhub:{REGION}:{MEMBER}:product/{MEMBER}/default"


@pytest.fixture
def hub(aws: Aws) -> Any:
    """Return a client of the member account, where Security Hub is enabled."""
    client = aws.client("securityhub")
    client.enable_security_hub()
    return client


def _finding(finding_id: str = "f", *, at: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "SchemaVersion": "2018-10-08",
        "Id": finding_id,
        "ProductArn": PRODUCT_ARN,
        "GeneratorId": "S3-ENDPOINT",
        "AwsAccountId": MEMBER,
        "CreatedAt": "2026-01-01T00:00:00Z",
        "UpdatedAt": f"2026-01-01T00:00:{at:02}Z",
        "Title": "No S3 endpoint",
        "Description": "Two route tables lack it.",
        "Resources": [{"Type": "AwsEc2Vpc", "Id": f"arn:aws:ec2:{REGION}:{MEMBER}:vpc/{finding_id}"}],
        "FindingProviderFields": {"Severity": {"Label": "MEDIUM"}, "Types": ["Software and Configuration Checks"]},
        "Compliance": {"Status": "FAILED"},
        **fields,
    }


def _one(hub: Any) -> dict[str, Any]:
    (finding,) = hub.get_findings()["Findings"]
    return dict(finding)


def _ids(hub: Any, **filters: list[tuple[str, str]]) -> list[str]:
    wanted = {
        name: [{"Comparison": comparison, "Value": value} for comparison, value in several]
        for name, several in filters.items()
    }
    return [finding["Id"] for finding in hub.get_findings(Filters=wanted)["Findings"]]


def _set_workflow(hub: Any, status: str) -> None:
    identifiers = [{"Id": "f", "ProductArn": PRODUCT_ARN}]
    hub.batch_update_findings(FindingIdentifiers=identifiers, Workflow={"Status": status})


def test_importing_into_a_hub_that_is_off_fails_inside_a_success(aws: Aws) -> None:
    """InvalidAccess for each finding, with HTTP status 200; reading is refused outright."""
    client = aws.client("securityhub")
    answer = client.batch_import_findings(Findings=[_finding()])
    assert (answer["FailedCount"], answer["SuccessCount"]) == (1, 0)
    assert answer["FailedFindings"][0]["ErrorCode"] == "InvalidAccess"
    assert error_of(client.get_findings)[0] == "InvalidAccessException"


def test_a_hub_that_is_off_says_so(aws: Aws) -> None:
    """With the account's number, as AWS does."""
    client = aws.client("securityhub")
    code, message = error_of(client.describe_hub)
    assert (code, message) == ("InvalidAccessException", f"Account {MEMBER} is not subscribed to AWS Security Hub")
    client.enable_security_hub()
    assert client.describe_hub()["HubArn"].endswith(f":{MEMBER}:hub/default")


def test_a_new_finding_has_defaults(hub: Any) -> None:
    """NEW and ACTIVE; severity and types come from FindingProviderFields; the Region is filled in."""
    note = {"Text": "x", "UpdatedBy": "x", "UpdatedAt": "2026-01-01T00:00:00Z"}
    hub.batch_import_findings(Findings=[_finding(Workflow={"Status": "RESOLVED"}, Note=note)])
    finding = _one(hub)
    assert finding["Workflow"] == {"Status": "NEW"}
    assert finding["RecordState"] == "ACTIVE"
    assert finding["Severity"]["Label"] == "MEDIUM"
    assert finding["Types"] == ["Software and Configuration Checks"]
    assert finding["Region"] == REGION
    assert "Note" not in finding


@pytest.mark.parametrize(
    "fields",
    [
        {"AwsAccountId": HUB},
        {"ProductArn": PRODUCT_ARN.replace(REGION, "us-east-1")},
        {"ProductArn": PRODUCT_ARN.replace(MEMBER, HUB)},
        {"Title": "x" * 257},
        {"Description": "x" * 1025},
        {"Resources": [{"Type": "AwsEc2Vpc", "Id": "x"}] * 33},
        {"FindingProviderFields": {"Types": ["x"]}},
        {"SchemaVersion": "2020-01-01"},
        {"UpdatedAt": "yesterday"},
        {"UpdatedAt": "2026-01-01T00:00:00"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_bad_finding_fails_alone(hub: Any, fields: dict[str, Any]) -> None:
    """The caller imports for itself, in its Region, within the limits of the format."""
    answer = hub.batch_import_findings(Findings=[_finding("bad", **fields), _finding("good")])
    assert (answer["FailedCount"], answer["SuccessCount"]) == (1, 1)
    (failed,) = answer["FailedFindings"]
    assert (failed["Id"], failed["ErrorCode"]) == ("bad", "InvalidInput")
    assert _ids(hub) == ["good"]


def test_more_than_a_hundred_findings_are_refused(hub: Any) -> None:
    """The call as a whole; moto takes any number."""
    findings = [_finding(str(number)) for number in range(101)]
    assert error_of(hub.batch_import_findings, Findings=findings)[0] == "InvalidInputException"


def test_findings_are_known_by_product_and_id(hub: Any) -> None:
    """A newer import updates the finding with that id, and adds what it names."""
    hub.batch_import_findings(Findings=[_finding(Title="first", Remediation={"Recommendation": {"Text": "x"}})])
    hub.batch_import_findings(Findings=[_finding(Title="second", at=2)])
    finding = _one(hub)
    assert finding["Title"] == "second"
    assert finding["Remediation"] == {"Recommendation": {"Text": "x"}}


@pytest.mark.parametrize("at", [4, 5])
def test_an_import_that_is_not_newer_is_silently_ignored(hub: Any, at: int) -> None:
    """It counts as a success; moto lets it win."""
    hub.batch_import_findings(Findings=[_finding(Title="kept", at=5)])
    answer = hub.batch_import_findings(Findings=[_finding(Title="lost", at=at)])
    assert answer["SuccessCount"] == 1
    assert _one(hub)["Title"] == "kept"


def test_an_import_never_touches_what_analysts_own(hub: Any) -> None:
    """Note, UserDefinedFields, VerificationState and Workflow; severity once an analyst has set it."""
    hub.batch_import_findings(Findings=[_finding()])
    hub.batch_update_findings(
        FindingIdentifiers=[{"Id": "f", "ProductArn": PRODUCT_ARN}],
        Workflow={"Status": "SUPPRESSED"},
        Note={"Text": "accepted", "UpdatedBy": "alice"},
        UserDefinedFields={"ticket": "1"},
        VerificationState="BENIGN_POSITIVE",
        Severity={"Label": "LOW"},
    )
    again = _finding(
        at=2,
        Workflow={"Status": "NEW"},
        Note={"Text": "mine", "UpdatedBy": "portcullis", "UpdatedAt": "2026-01-01T00:00:00Z"},
        UserDefinedFields={},
        VerificationState="UNKNOWN",
    )
    hub.batch_import_findings(Findings=[again])
    finding = _one(hub)
    assert finding["Workflow"]["Status"] == "SUPPRESSED"
    assert finding["Note"]["Text"] == "accepted"
    assert finding["UserDefinedFields"] == {"ticket": "1"}
    assert finding["VerificationState"] == "BENIGN_POSITIVE"
    assert finding["Severity"]["Label"] == "LOW"
    assert finding["UpdatedAt"] == again["UpdatedAt"]


@pytest.mark.parametrize(
    ("status", "before", "after", "expected"),
    [
        ("RESOLVED", {"RecordState": "ARCHIVED"}, {"RecordState": "ACTIVE"}, "NEW"),
        ("NOTIFIED", {"Compliance": {"Status": "PASSED"}}, {"Compliance": {"Status": "FAILED"}}, "NEW"),
        ("RESOLVED", {"Compliance": {"Status": "PASSED"}}, {"Compliance": {"Status": "WARNING"}}, "NEW"),
        ("RESOLVED", {"Compliance": {"Status": "FAILED"}}, {"Compliance": {"Status": "PASSED"}}, "RESOLVED"),
        ("RESOLVED", {}, {}, "RESOLVED"),
        ("SUPPRESSED", {"RecordState": "ARCHIVED"}, {"RecordState": "ACTIVE"}, "SUPPRESSED"),
        ("SUPPRESSED", {"Compliance": {"Status": "PASSED"}}, {"Compliance": {"Status": "FAILED"}}, "SUPPRESSED"),
    ],
)
def test_a_finding_that_comes_back_is_new_again(
    hub: Any, status: str, before: dict[str, Any], after: dict[str, Any], expected: str
) -> None:
    """NOTIFIED and RESOLVED are reset, SUPPRESSED stays."""
    hub.batch_import_findings(Findings=[_finding(**before)])
    _set_workflow(hub, status)
    hub.batch_import_findings(Findings=[_finding(at=2, **after)])
    assert _one(hub)["Workflow"]["Status"] == expected


def test_filters_are_applied(hub: Any) -> None:
    """Filters on one field are joined by or, fields by and; moto ignores them all."""
    hub.batch_import_findings(
        Findings=[
            _finding("a/1", Compliance={"Status": "PASSED"}, GeneratorId="DYNAMODB-ENDPOINT"),
            _finding("a/2", RecordState="ARCHIVED", Resources=[{"Type": "AwsEc2Instance", "Id": "i-0a"}]),
            _finding("b/1", Title="other", FindingProviderFields={"Severity": {"Label": "HIGH"}, "Types": ["x"]}),
        ]
    )
    assert _ids(hub, Id=[("PREFIX", "a/")]) == ["a/1", "a/2"]
    assert _ids(hub, Id=[("EQUALS", "a/1"), ("EQUALS", "b/1")]) == ["a/1", "b/1"]
    assert _ids(hub, ComplianceStatus=[("EQUALS", "PASSED")]) == ["a/1"]
    assert _ids(hub, RecordState=[("EQUALS", "ARCHIVED")]) == ["a/2"]
    assert _ids(hub, SeverityLabel=[("EQUALS", "HIGH")]) == ["b/1"]
    assert _ids(hub, ResourceId=[("EQUALS", "i-0a")]) == ["a/2"]
    assert _ids(hub, ResourceType=[("EQUALS", "AwsEc2Vpc")]) == ["a/1", "b/1"]
    assert _ids(hub, GeneratorId=[("PREFIX", "DYNAMODB")]) == ["a/1"]
    assert _ids(hub, Title=[("EQUALS", "other")]) == ["b/1"]
    assert _ids(hub, WorkflowStatus=[("EQUALS", "NEW")], Region=[("EQUALS", REGION)]) == ["a/1", "a/2", "b/1"]
    assert _ids(hub, AwsAccountId=[("EQUALS", HUB)], ProductArn=[("EQUALS", PRODUCT_ARN)]) == []


def test_filters_that_are_not_known_here_are_an_error(hub: Any) -> None:
    """Ignoring one would find too much, without a word."""
    contains = {"Title": [{"Comparison": "CONTAINS", "Value": "x"}]}
    assert error_of(hub.get_findings, Filters=contains)[0] == "InvalidInputException"
    unknown = {"CompanyName": [{"Comparison": "EQUALS", "Value": "x"}]}
    assert error_of(hub.get_findings, Filters=unknown)[0] == "InvalidInputException"


def test_findings_page(hub: Any) -> None:
    """MaxResults up to 100 and NextToken."""
    for start in (0, 100):
        hub.batch_import_findings(Findings=[_finding(str(number)) for number in range(start, start + 60)])
    pages = list(hub.get_paginator("get_findings").paginate(PaginationConfig={"PageSize": 50}))
    assert [len(page["Findings"]) for page in pages] == [50, 50, 20]


def test_unknown_findings_cannot_be_updated(hub: Any) -> None:
    """They come back as unprocessed, the others are updated."""
    hub.batch_import_findings(Findings=[_finding()])
    identifiers = [{"Id": finding_id, "ProductArn": PRODUCT_ARN} for finding_id in ("f", "g")]
    note = {"Text": "seen", "UpdatedBy": "alice"}
    answer = hub.batch_update_findings(FindingIdentifiers=identifiers, Note=note, Confidence=50)
    assert answer["ProcessedFindings"] == identifiers[:1]
    (failed,) = answer["UnprocessedFindings"]
    assert (failed["FindingIdentifier"], failed["ErrorCode"]) == (identifiers[1], "FindingNotFound")
    finding = _one(hub)
    assert finding["Confidence"] == 50
    assert finding["Note"]["UpdatedAt"]
    # An analyst's update is not the provider's.
    assert finding["UpdatedAt"] == _finding()["UpdatedAt"]


def test_an_unknown_workflow_status_is_refused(hub: Any) -> None:
    """Only NEW, NOTIFIED, RESOLVED and SUPPRESSED."""
    wanted = {"FindingIdentifiers": [{"Id": "f", "ProductArn": PRODUCT_ARN}], "Workflow": {"Status": "DONE"}}
    assert error_of(hub.batch_update_findings, **wanted)[0] == "InvalidInputException"


def test_the_administrator_sees_and_updates_its_members(aws: Aws, hub: Any) -> None:
    """Of all Regions in the aggregation Region, of each Region there; an account outside, or a hub that is off, not."""
    fidelity.install(
        fidelity.Hooks(organisation_id="o", is_member={HUB, MEMBER}.__contains__, administrator=(HUB, "us-east-1"))
    )
    clients = {region: aws.client("securityhub", HUB, region) for region in ("us-east-1", REGION, "ap-northeast-1")}
    outsider = aws.client("securityhub", OTHER)
    for client in (*clients.values(), outsider):
        client.enable_security_hub()
    hub.batch_import_findings(Findings=[_finding()])
    foreign: Any = {"AwsAccountId": OTHER, "ProductArn": PRODUCT_ARN.replace(MEMBER, OTHER)}
    assert outsider.batch_import_findings(Findings=[_finding("theirs", **foreign)])["SuccessCount"] == 1
    assert {region: _ids(client) for region, client in clients.items()} == {
        "us-east-1": ["f"],
        REGION: ["f"],
        "ap-northeast-1": [],
    }
    for name, value in {"ProductArn": PRODUCT_ARN, "AwsAccountId": MEMBER, "WorkflowStatus": "NEW"}.items():
        assert _ids(clients["us-east-1"], **{name: [("EQUALS", value)]}) == ["f"]
    _set_workflow(clients["us-east-1"], "SUPPRESSED")
    assert _one(hub)["Workflow"] == {"Status": "SUPPRESSED"}
    assert _ids(clients["us-east-1"], WorkflowStatus=[("EQUALS", "NEW")]) == []
    hub.disable_security_hub()
    assert _ids(clients["us-east-1"]) == []


def test_custom_actions_live_and_end(hub: Any) -> None:
    """Create, describe, update, delete; and what is refused."""
    wanted = {"Name": "Remediate", "Description": "d", "Id": "remediate"}
    arn = hub.create_action_target(**wanted)["ActionTargetArn"]
    assert arn == f"arn:aws:securityhub:{REGION}:{MEMBER}:action/custom/remediate"
    assert error_of(hub.create_action_target, **wanted)[0] == "ResourceConflictException"
    for bad in ({"Id": "a-b"}, {"Id": "a" * 21}, {"Name": "n" * 21}):
        assert error_of(hub.create_action_target, **{**wanted, **bad})[0] == "InvalidInputException"
    hub.update_action_target(ActionTargetArn=arn, Description="other")
    (target,) = hub.describe_action_targets(ActionTargetArns=[arn])["ActionTargets"]
    assert target == {"ActionTargetArn": arn, "Name": "Remediate", "Description": "other"}
    assert hub.delete_action_target(ActionTargetArn=arn)["ActionTargetArn"] == arn
    assert hub.describe_action_targets()["ActionTargets"] == []
    for call in (hub.delete_action_target, hub.update_action_target):
        assert error_of(call, ActionTargetArn=arn)[0] == "ResourceNotFoundException"
    assert error_of(hub.describe_action_targets, ActionTargetArns=[arn])[0] == "ResourceNotFoundException"
    hub.disable_security_hub()
    assert error_of(hub.describe_action_targets)[0] == "InvalidAccessException"


def test_a_custom_action_is_one_event_for_each_finding(aws: Aws, hub: Any) -> None:
    """In the shape of the public capture: nobody is named, and the whole finding is inside."""
    arn = hub.create_action_target(Name="Remediate", Description="d", Id="remediate")["ActionTargetArn"]
    hub.batch_import_findings(Findings=[_finding("f"), _finding("g")])
    url = aws.watch({"detail-type": ["Security Hub Findings - Custom Action"], "resources": [arn]})
    securityhub.custom_action(MEMBER, REGION, "Remediate", ["f", "g"])
    securityhub.custom_action(MEMBER, REGION, arn, ["f"])
    events = aws.received(url)
    assert [event["detail"]["findings"][0]["Id"] for event in events] == ["f", "g", "f"]
    event = events[0]
    assert (event["source"], event["account"], event["resources"]) == ("aws.securityhub", MEMBER, [arn])
    assert (event["detail"]["actionName"], event["detail"]["actionDescription"]) == ("Remediate", "d")
    assert event["detail"]["findings"] == [hub.get_findings()["Findings"][0]]
    for name, ids in (("Other", ["f"]), ("Remediate", ["none"]), ("Remediate", ["f"] * 21)):
        with pytest.raises(LookupError, match="no custom action"):
            securityhub.custom_action(MEMBER, REGION, name, ids)


def test_a_note_that_is_too_long_is_refused(hub: Any) -> None:
    """512 characters, in the user guide."""
    hub.batch_import_findings(Findings=[_finding()])
    note = {"Text": "x" * 513, "UpdatedBy": "portcullis"}
    identifiers = [{"Id": "f", "ProductArn": PRODUCT_ARN}]
    update = {"FindingIdentifiers": identifiers, "Note": note}
    assert error_of(hub.batch_update_findings, **update)[0] == "InvalidInputException"
