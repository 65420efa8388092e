"""Security Hub's findings: import, search and update.

Source: the botocore Security Hub model (BatchImportFindings, BatchUpdateFindings, GetFindings, Workflow) and the
Security Hub User Guide, "AWS Security Finding Format". moto imports for anybody into a hub that is off, lets an
older import win, ignores filters, and has no BatchUpdateFindings.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from moto.securityhub import urls
from moto.securityhub.exceptions import InvalidInputException, SecurityHubClientError
from moto.securityhub.models import Finding, SecurityHubBackend
from moto.securityhub.responses import SecurityHubResponse
from moto.utilities.paginator import paginate

from . import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_REQUIRED = (
    *("SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId"),
    *("CreatedAt", "UpdatedAt", "Title", "Description", "Resources", "Severity"),
)
_MOST_FINDINGS = 100  # of one call, in the model
_LONGEST = {"Id": 512, "Title": 256, "Description": 1024, "Resources": 32}
# Analysts own these: an import sets them at most through their defaults.
_ANALYSTS_FIELDS = ("Note", "UserDefinedFields", "VerificationState", "Workflow")
_PROVIDER_FIELDS = ("Confidence", "Criticality", "RelatedFindings", "Severity", "Types")
# What findings can be searched for: fields, and fields of fields.
_PLAIN = ("Id", "ProductArn", "AwsAccountId", "Region", "RecordState", "GeneratorId", "Title")
_NESTED = {
    "ComplianceStatus": ("Compliance", "Status"),
    "WorkflowStatus": ("Workflow", "Status"),
    "SeverityLabel": ("Severity", "Label"),
    "ResourceId": ("Resources", "Id"),
    "ResourceType": ("Resources", "Type"),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)")
_NOT_SUBSCRIBED = "The account is not subscribed to AWS Security Hub"
_COMPARISONS: dict[str, Callable[[str, str], bool]] = {"EQUALS": str.__eq__, "PREFIX": str.startswith}


def _complaints(backend: Any, finding: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a finding cannot be imported; later checks rely on the earlier ones having passed."""
    if not backend.enabled:
        yield _NOT_SUBSCRIBED
    given = {**finding.get("FindingProviderFields", {}), **finding}
    if missing := [name for name in _REQUIRED if not given.get(name)]:
        yield f"Missing: {', '.join(missing)}."
    if finding["SchemaVersion"] != "2018-10-08":
        yield "SchemaVersion must be 2018-10-08."
    if too_long := [name for name, limit in _LONGEST.items() if len(finding[name]) > limit]:
        yield f"Too long: {', '.join(too_long)}."
    if wrong := [name for name in ("CreatedAt", "UpdatedAt") if not _TIME.fullmatch(finding[name])]:
        yield f"Not a time with an offset from UTC: {', '.join(wrong)}."
    account_id, region = backend.account_id, backend.region_name
    product_arn = f"arn:aws:securityhub:{region}:{account_id}:product/{account_id}/default"
    if finding["AwsAccountId"] != account_id or finding["ProductArn"] != product_arn:
        yield f"Account {account_id} may import in {region} only for itself, as {product_arn}."


def _reopens(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether an import sends the workflow of a finding back to NEW."""
    was, is_now = (finding.get("Compliance", {}).get("Status") for finding in (before, after))
    unarchived = (before["RecordState"], after["RecordState"]) == ("ARCHIVED", "ACTIVE")
    failed = was == "PASSED" and is_now in {"WARNING", "FAILED", "NOT_AVAILABLE"}
    return before["Workflow"]["Status"] in {"NOTIFIED", "RESOLVED"} and (unarchived or failed)


def _imported(backend: Any, finding: Mapping[str, Any], earlier: Any) -> dict[str, Any]:
    """Return a finding as Security Hub keeps it after an import."""
    given = {name: value for name, value in finding.items() if name not in (*_ANALYSTS_FIELDS, "Region")}
    given = {**finding.get("FindingProviderFields", {}), **given}
    if earlier is None:
        return {"RecordState": "ACTIVE", "Region": backend.region_name, "Workflow": {"Status": "NEW"}, **given}
    # What an analyst has changed stays as the analyst wants it.
    kept = {name: value for name, value in given.items() if name not in vars(earlier).get("analysts_choice", ())}
    data = {**earlier.data, **kept}
    return {**data, "Workflow": {"Status": "NEW"}} if _reopens(earlier.data, data) else data


def _import_findings(backend: Any, findings: list[dict[str, Any]]) -> tuple[int, int, list[dict[str, Any]]]:
    """Serve BatchImportFindings; returns failed count, success count, failed findings."""
    if len(findings) > _MOST_FINDINGS:
        raise InvalidInputException("BatchImportFindings", f"Findings must have at most {_MOST_FINDINGS} elements")
    known = {(finding.data["ProductArn"], finding.id): finding for finding in backend.findings}
    failed = []
    for finding in findings:
        complaint = next(_complaints(backend, finding), None)
        if complaint is not None:
            code = "InvalidInput" if backend.enabled else "InvalidAccess"
            failed.append({"Id": finding.get("Id", ""), "ErrorCode": code, "ErrorMessage": complaint})
        elif (earlier := known.get((finding["ProductArn"], finding["Id"]))) is None:
            backend.findings.append(Finding(finding["Id"], _imported(backend, finding, None)))
        elif datetime.fromisoformat(finding["UpdatedAt"]) > datetime.fromisoformat(earlier.data["UpdatedAt"]):
            earlier.data = _imported(backend, finding, earlier)
    return len(failed), len(findings) - len(failed), failed


def _passes(finding: Mapping[str, Any], name: str, alternatives: list[dict[str, str]]) -> bool:
    """Return whether a finding passes one of the filters on a field."""
    outer, inner = _NESTED.get(name, (name, None))
    nodes = finding.get(outer, [])
    values = [node.get(inner, "") if inner else node for node in (nodes if isinstance(nodes, list) else [nodes])]
    return any(_COMPARISONS[one["Comparison"]](value, one["Value"]) for one in alternatives for value in values)


def _get_findings(backend: Any, filters: Any = None, **_: Any) -> list[Any]:
    """Serve GetFindings; a filter that is not known here is an error, since ignoring it would find too much."""
    if not backend.enabled:
        raise SecurityHubClientError("InvalidAccessException", _NOT_SUBSCRIBED)
    wanted: dict[str, list[dict[str, str]]] = filters or {}
    for name, alternatives in wanted.items():
        if name not in {*_PLAIN, *_NESTED} or not all(one["Comparison"] in _COMPARISONS for one in alternatives):
            raise InvalidInputException("GetFindings", f"the filter on {name} is not handled")
    return [one.data for one in backend.findings if all(_passes(one.data, *filter_) for filter_ in wanted.items())]


def _wrap_describe_hub() -> None:
    """Name the account in the refusal, as AWS does."""
    original = SecurityHubBackend.describe_hub

    def describe_hub(backend: Any, hub_arn: str | None = None) -> Any:
        if not backend.enabled:
            message = f"Account {backend.account_id} is not subscribed to AWS Security Hub"
            raise SecurityHubClientError("InvalidAccessException", message)
        return original(backend, hub_arn)

    SecurityHubBackend.describe_hub = describe_hub


def _update_findings(http: Any) -> str:
    """Serve BatchUpdateFindings; `UpdatedAt` of a finding stays as it is."""
    request = json.loads(http.body)
    if request.get("Workflow", {}).get("Status", "NEW") not in {"NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"}:
        raise InvalidInputException("BatchUpdateFindings", "that is not a workflow status")
    changes = {name: request[name] for name in (*_ANALYSTS_FIELDS, *_PROVIDER_FIELDS) if name in request}
    if "Note" in changes:
        changes["Note"] = {**changes["Note"], "UpdatedAt": hooks.installed.now()}
    known = {(one.data["ProductArn"], one.id): one for one in http.securityhub_backend.findings}
    processed, unprocessed = [], []
    for identifier in request["FindingIdentifiers"]:
        finding = known.get((identifier["ProductArn"], identifier["Id"]))
        if finding is None:
            error = {"ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found"}
            unprocessed.append({"FindingIdentifier": identifier, **error})
        else:
            finding.data = {**finding.data, **changes}
            vars(finding).setdefault("analysts_choice", set()).update(set(changes) & set(_PROVIDER_FIELDS))
            processed.append(identifier)
    return json.dumps({"ProcessedFindings": processed, "UnprocessedFindings": unprocessed})


def install() -> None:
    """Patch moto's Security Hub (once: the caller sees to that, before the server's first request)."""
    _wrap_describe_hub()
    SecurityHubBackend.batch_import_findings = _import_findings
    _get_findings.__name__ = "get_findings"  # as the pagination model has it
    paged: Any = paginate(SecurityHubBackend.PAGINATION_MODEL)
    SecurityHubBackend.get_findings = paged(_get_findings)
    SecurityHubResponse.batch_update_findings = _update_findings
    urls.url_paths["{0}/findings/batchupdate$"] = SecurityHubResponse.dispatch
