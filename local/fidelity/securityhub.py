"""Security Hub's findings: import, search and update.

Source: the botocore Security Hub model (BatchImportFindings, BatchUpdateFindings, GetFindings, StringFilter,
Workflow) and the Security Hub User Guide, "AWS Security Finding Format". moto imports for anybody into a hub
that is off, lets an older import win, ignores filters, and has no BatchUpdateFindings.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.securityhub import urls
from moto.securityhub.exceptions import InvalidInputException, SecurityHubClientError
from moto.securityhub.models import Finding, SecurityHubBackend, securityhub_backends
from moto.securityhub.responses import SecurityHubResponse

from . import hooks

_FINDINGS_A_CALL = 100
_FINDING_BYTES = 240_000
_REQUIRED = (
    "SchemaVersion",
    "Id",
    "ProductArn",
    "GeneratorId",
    "AwsAccountId",
    "CreatedAt",
    "UpdatedAt",
    "Title",
    "Description",
    "Resources",
)
_LONGEST = {"Id": 512, "Title": 256, "Description": 1024, "Resources": 32}
# Analysts own these: an import sets them at most through their defaults.
_ANALYSTS_FIELDS = ("Note", "UserDefinedFields", "VerificationState", "Workflow")
_PROVIDER_FIELDS = ("Confidence", "Criticality", "RelatedFindings", "Severity", "Types")
_UPDATABLE = (*_ANALYSTS_FIELDS, *_PROVIDER_FIELDS)
_WORKFLOW_STATUSES = {"NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"}

_FILTER_PATHS = {
    "Id": ("Id",),
    "ProductArn": ("ProductArn",),
    "AwsAccountId": ("AwsAccountId",),
    "Region": ("Region",),
    "ComplianceStatus": ("Compliance", "Status"),
    "RecordState": ("RecordState",),
    "WorkflowStatus": ("Workflow", "Status"),
    "SeverityLabel": ("Severity", "Label"),
    "ResourceId": ("Resources", "Id"),
    "ResourceType": ("Resources", "Type"),
    "GeneratorId": ("GeneratorId",),
    "Title": ("Title",),
}
_COMPARISONS: dict[str, Callable[[str, str], bool]] = {"EQUALS": str.__eq__, "PREFIX": str.startswith}
_NEGATIVE = {"NOT_EQUALS": "EQUALS", "PREFIX_NOT_EQUALS": "PREFIX"}


def _timestamp(text: str) -> datetime:
    """Read a finding's time.

    Raises:
        ValueError: it is not an ISO 8601 time with an offset.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC")
    return parsed


def _complaints(backend: Any, finding: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a finding cannot be imported; later checks rely on the earlier ones having passed."""
    if missing := [name for name in _REQUIRED if not finding.get(name)]:
        yield f"Missing: {', '.join(missing)}."
    if "Severity" not in finding and "Severity" not in finding.get("FindingProviderFields", {}):
        yield "Missing: Severity."
    if finding["SchemaVersion"] != "2018-10-08":
        yield "SchemaVersion must be 2018-10-08."
    if too_long := [name for name, limit in _LONGEST.items() if len(finding[name]) > limit]:
        yield f"Too long: {', '.join(too_long)}."
    if len(json.dumps(finding).encode()) > _FINDING_BYTES:
        yield "Finding exceeds 240 KB."
    try:
        _timestamp(finding["CreatedAt"])
        _timestamp(finding["UpdatedAt"])
    except ValueError as error:
        yield str(error)
    account_id, region = backend.account_id, backend.region_name
    product_arn = f"arn:{backend.partition}:securityhub:{region}:{account_id}:product/{account_id}/default"
    if finding["AwsAccountId"] != account_id or finding["ProductArn"] != product_arn:
        yield f"Account {account_id} may import in {region} only for itself, as {product_arn}."


def _reopens(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether an import sends the workflow of a finding back to NEW."""
    if before["Workflow"]["Status"] not in {"NOTIFIED", "RESOLVED"}:
        return False
    if (before["RecordState"], after["RecordState"]) == ("ARCHIVED", "ACTIVE"):
        return True
    was, is_now = (finding.get("Compliance", {}).get("Status") for finding in (before, after))
    return was == "PASSED" and is_now in {"WARNING", "FAILED", "NOT_AVAILABLE"}


def _imported(backend: Any, finding: Mapping[str, Any], earlier: Any) -> dict[str, Any]:
    """Return a finding as Security Hub keeps it after an import."""
    given = {name: value for name, value in finding.items() if name not in (*_ANALYSTS_FIELDS, "Region")}
    for name, value in finding.get("FindingProviderFields", {}).items():
        given.setdefault(name, value)
    if earlier is None:
        defaults = {"RecordState": "ACTIVE", "Region": backend.region_name, "Workflow": {"Status": "NEW"}}
        return {**defaults, **given}
    # What an analyst has changed stays as the analyst wants it.
    kept = {name: value for name, value in given.items() if name not in vars(earlier).get("analysts_choice", ())}
    data = {**earlier.data, **kept}
    if _reopens(earlier.data, data):
        data["Workflow"] = {"Status": "NEW"}
    return data


def _import_findings(backend: Any, findings: list[dict[str, Any]]) -> tuple[int, int, list[dict[str, Any]]]:
    """Serve BatchImportFindings; returns failed count, success count, failed findings."""
    if not 1 <= len(findings) <= _FINDINGS_A_CALL:
        raise InvalidInputException("BatchImportFindings", "Findings must have 1 to 100 elements")
    known = {(finding.data["ProductArn"], finding.id): finding for finding in backend.findings}
    failed = []
    for finding in findings:
        code, complaint = "InvalidInput", next(_complaints(backend, finding), None)
        if not backend.enabled:
            code, complaint = "InvalidAccess", f"Account {backend.account_id} is not subscribed to AWS Security Hub"
        if complaint is not None:
            failed.append({"Id": finding.get("Id", ""), "ErrorCode": code, "ErrorMessage": complaint})
            continue
        key = (finding["ProductArn"], finding["Id"])
        earlier = known.get(key)
        if earlier is None:
            known[key] = Finding(finding["Id"], _imported(backend, finding, None))
            backend.findings.append(known[key])
        elif _timestamp(finding["UpdatedAt"]) > _timestamp(earlier.data["UpdatedAt"]):
            earlier.data = _imported(backend, finding, earlier)
    return len(failed), len(findings) - len(failed), failed


def _visible(backend: Any) -> list[Any]:
    """Return the findings of an account and, for an administrator, of its members in the Region."""
    if not backend.enabled:
        message = f"Account {backend.account_id} is not subscribed to AWS Security Hub"
        raise SecurityHubClientError("InvalidAccessException", message)
    members = [securityhub_backends[member][backend.region_name] for member in backend.members]
    return [finding for owner in (backend, *members) for finding in owner.findings]


def _values(node: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the values at a path, through lists."""
    if isinstance(node, list):
        for element in node:
            yield from _values(element, path)
    elif not path:
        yield str(node)
    elif isinstance(node, Mapping) and path[0] in node:
        yield from _values(node[path[0]], path[1:])


def _passes(finding: Any, name: str, filters: list[dict[str, str]]) -> bool:
    """Return whether a finding passes the filters on one field: any positive one, and all negative ones."""
    values = list(_values(finding.data, _FILTER_PATHS[name]))
    positives: list[bool] = []
    negatives: list[bool] = []
    for one in filters:
        comparison = one["Comparison"]
        compare = _COMPARISONS[_NEGATIVE.get(comparison, comparison)]
        hit = any(compare(value, one["Value"]) for value in values)
        (negatives if comparison in _NEGATIVE else positives).append(hit)
    return (not positives or any(positives)) and not any(negatives)


def _check_search(request: Mapping[str, Any]) -> None:
    """Refuse what AWS refuses, and what it understands but this does not."""
    filters = request.get("Filters") or {}
    comparisons = {one.get("Comparison") for several in filters.values() for one in several}
    if unknown := set(filters) - set(_FILTER_PATHS) | comparisons - set(_COMPARISONS) - set(_NEGATIVE):
        raise InvalidInputException("GetFindings", f"filters not handled: {sorted(map(str, unknown))}")
    if request.get("SortCriteria"):
        raise InvalidInputException("GetFindings", "SortCriteria is not handled")


def _get_findings(http: Any) -> str:
    """Serve GetFindings."""
    request = json.loads(http.body or "{}")
    _check_search(request)
    limit = request.get("MaxResults", 100)
    if not 1 <= limit <= 100:  # noqa: PLR2004 - the model's own bounds
        raise InvalidInputException("GetFindings", "MaxResults must be a number between 1 and 100")
    try:
        start = int(base64.urlsafe_b64decode(request.get("NextToken") or "MA==").decode())
    except ValueError:
        raise InvalidInputException("GetFindings", "NextToken is not valid") from None
    filters = (request.get("Filters") or {}).items()
    found = [
        finding.data
        for finding in _visible(http.securityhub_backend)
        if all(_passes(finding, name, several) for name, several in filters)
    ]
    answer: dict[str, Any] = {"Findings": found[start : start + limit]}
    if start + limit < len(found):
        answer["NextToken"] = base64.urlsafe_b64encode(str(start + limit).encode()).decode()
    return json.dumps(answer)


def _update_findings(http: Any) -> str:
    """Serve BatchUpdateFindings; `UpdatedAt` of a finding stays as it is."""
    request = json.loads(http.body)
    if len(request["FindingIdentifiers"]) > _FINDINGS_A_CALL:
        raise InvalidInputException("BatchUpdateFindings", "FindingIdentifiers must have at most 100 elements")
    status = request.get("Workflow", {}).get("Status", "NEW")
    if status not in _WORKFLOW_STATUSES:
        raise InvalidInputException("BatchUpdateFindings", f"{status} is not a workflow status")
    changes = {name: request[name] for name in _UPDATABLE if name in request}
    if "Note" in changes:
        now = datetime.fromtimestamp(hooks.current().clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        changes["Note"] = {**changes["Note"], "UpdatedAt": now}
    known = {(one.data["ProductArn"], one.id): one for one in _visible(http.securityhub_backend)}
    processed, unprocessed = [], []
    for identifier in request["FindingIdentifiers"]:
        finding = known.get((identifier["ProductArn"], identifier["Id"]))
        if finding is None:
            error = {"ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found"}
            unprocessed.append({"FindingIdentifier": identifier, **error})
            continue
        finding.data = {**finding.data, **changes}
        chosen = vars(finding).setdefault("analysts_choice", set())
        chosen.update(set(changes) & set(_PROVIDER_FIELDS))
        processed.append(identifier)
    return json.dumps({"ProcessedFindings": processed, "UnprocessedFindings": unprocessed})


def install() -> None:
    """Patch moto's Security Hub (once: the caller sees to that, before the server's first request)."""
    SecurityHubBackend.batch_import_findings = _import_findings
    SecurityHubResponse.get_findings = _get_findings
    SecurityHubResponse.batch_update_findings = _update_findings
    urls.url_paths["{0}/findings/batchupdate$"] = SecurityHubResponse.dispatch
