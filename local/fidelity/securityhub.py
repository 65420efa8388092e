"""Security Hub's findings: import, search and update; and custom actions.

Source: the botocore Security Hub model (BatchImportFindings, BatchUpdateFindings, GetFindings, Workflow, ActionTarget);
the Security Hub User Guide, "AWS Security Finding Format", "Cross-Region aggregation", "Custom actions"; the event of
a custom action is shaped after a public capture. moto imports for anybody into a hub that is off, lets an older import
win, ignores filters, shows an administrator nothing of its members, and lacks BatchUpdateFindings and custom actions.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from moto.securityhub import urls
from moto.securityhub.exceptions import InvalidInputException, SecurityHubClientError
from moto.securityhub.models import Finding, SecurityHubBackend, securityhub_backends
from moto.securityhub.responses import SecurityHubResponse
from moto.utilities.paginator import paginate

from . import eventbridge, hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_REQUIRED = (
    *("SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId"),
    *("CreatedAt", "UpdatedAt", "Title", "Description", "Resources", "Severity"),
)
_MOST_FINDINGS = 100  # of one call, in the model
_LONGEST_NOTE = 512
_MOST_OF_ACTION = 20
_LONGEST_NAME = 20
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
    return [one.data for one in _visible(backend) if all(_passes(one.data, *filter_) for filter_ in wanted.items())]


def _visible(backend: Any) -> Iterator[Any]:
    """Yield the findings of a hub; the administrator's has its members', in the aggregation Region those of all."""
    yield from backend.findings
    account_id, region = hooks.installed.administrator or ("", "")
    if backend.account_id != account_id:
        return
    for member_id, backends in list(securityhub_backends.items()):
        for other in list(backends.values()) if hooks.installed.is_member(member_id) else ():
            near = backend.region_name in (region, other.region_name)
            yield from other.findings if near and other.enabled and other is not backend else ()


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
    if len(request.get("Note", {}).get("Text", "")) > _LONGEST_NOTE:
        raise InvalidInputException("BatchUpdateFindings", f"Note.Text must have at most {_LONGEST_NOTE} characters")
    if request.get("Workflow", {}).get("Status", "NEW") not in {"NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"}:
        raise InvalidInputException("BatchUpdateFindings", "that is not a workflow status")
    changes = {name: request[name] for name in (*_ANALYSTS_FIELDS, *_PROVIDER_FIELDS) if name in request}
    if "Note" in changes:
        changes["Note"] = {**changes["Note"], "UpdatedAt": hooks.installed.now()}
    known = {(one.data["ProductArn"], one.id): one for one in _visible(http.securityhub_backend)}
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


def _action_targets(backend: Any) -> dict[str, dict[str, str]]:
    """Return the custom actions of a hub by ARN."""
    if not backend.enabled:
        raise SecurityHubClientError("InvalidAccessException", _NOT_SUBSCRIBED)
    targets: dict[str, dict[str, str]] = vars(backend).setdefault("portcullis_action_targets", {})
    return targets


def _target(http: Any) -> tuple[dict[str, dict[str, str]], str]:
    """Return the custom actions, and the ARN of the one that a request is about."""
    targets, arn = _action_targets(http.securityhub_backend), unquote(http.path.partition("/actionTargets/")[2])
    if arn not in targets:
        raise SecurityHubClientError("ResourceNotFoundException", f"Resource {arn} not found")
    return targets, arn


def _create_target(http: Any) -> str:
    request, backend = json.loads(http.body), http.securityhub_backend
    targets = _action_targets(backend)
    if not re.fullmatch("[A-Za-z0-9]{1,20}", request["Id"]) or len(request["Name"]) > _LONGEST_NAME:
        raise InvalidInputException("CreateActionTarget", "Id or Name is too long, or Id is not alphanumeric")
    arn = f"arn:aws:securityhub:{backend.region_name}:{backend.account_id}:action/custom/{request['Id']}"
    if arn in targets:
        raise SecurityHubClientError("ResourceConflictException", f"Resource {arn} already exists")
    targets[arn] = {"ActionTargetArn": arn, "Name": request["Name"], "Description": request["Description"]}
    return json.dumps({"ActionTargetArn": arn})


def _describe_targets(http: Any) -> str:
    targets = _action_targets(http.securityhub_backend)
    wanted = json.loads(http.body or "{}").get("ActionTargetArns") or list(targets)
    if unknown := [arn for arn in wanted if arn not in targets]:
        raise SecurityHubClientError("ResourceNotFoundException", f"Resource {unknown[0]} not found")
    return json.dumps({"ActionTargets": [targets[arn] for arn in wanted]})


def _update_target(http: Any) -> str:
    (targets, arn), request = _target(http), json.loads(http.body or "{}")
    targets[arn] |= {name: request[name] for name in ("Name", "Description") if name in request}
    return "{}"


def _delete_target(http: Any) -> str:
    targets, arn = _target(http)
    return json.dumps({"ActionTargetArn": targets.pop(arn)["ActionTargetArn"]})


def custom_action(account_id: str, region: str, name_or_arn: str, finding_ids: Sequence[str]) -> None:
    """Send findings to a custom action, as the console does: one event each. LookupError for one that is not there."""
    backend = securityhub_backends[account_id][region]
    target = {key: one for one in _action_targets(backend).values() for key in (one["Name"], one["ActionTargetArn"])}
    findings = {one.id: one.data for one in _visible(backend)}
    if name_or_arn not in target or not set(finding_ids) <= set(findings) or len(finding_ids) > _MOST_OF_ACTION:
        raise LookupError(f"no custom action {name_or_arn}, or no such findings, or more than {_MOST_OF_ACTION}")
    action = target[name_or_arn]
    for finding_id in finding_ids:
        detail = {"actionName": action["Name"], "actionDescription": action["Description"]}
        event = eventbridge.envelope(
            *(account_id, region, "aws.securityhub", "Security Hub Findings - Custom Action"),
            {**detail, "findings": [findings[finding_id]]},
            resources=(action["ActionTargetArn"],),
        )
        eventbridge.publish(account_id, region, partial(dict, event))


def install() -> None:
    """Patch moto's Security Hub (once: the caller sees to that, before the server's first request)."""
    _wrap_describe_hub()
    SecurityHubBackend.batch_import_findings = _import_findings
    _get_findings.__name__ = "get_findings"  # as the pagination model has it
    paged: Any = paginate(SecurityHubBackend.PAGINATION_MODEL)
    SecurityHubBackend.get_findings = paged(_get_findings)
    SecurityHubResponse.batch_update_findings = _update_findings
    SecurityHubResponse.create_action_target = _create_target
    SecurityHubResponse.describe_action_targets = _describe_targets
    SecurityHubResponse.update_action_target = _update_target
    SecurityHubResponse.delete_action_target = _delete_target
    for path in ("findings/batchupdate$", "actionTargets$", "actionTargets/(?P<arn>.+)$"):
        urls.url_paths[f"{{0}}/{path}"] = SecurityHubResponse.dispatch
