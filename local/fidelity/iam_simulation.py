"""IAM's policy simulator, which moto does not have, with the evaluation by which permissions are enforced here.

Source: IAM API Reference, SimulatePrincipalPolicy, SimulateCustomPolicy and EvaluationResult; IAM User Guide, "IAM
policy testing with the IAM policy simulator". As there: one result for each action, with one for each resource in it;
no resource control policies, and no service control policies with conditions. Here, only roles can be simulated,
without resource policies, and matched statements have no positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.iam.exceptions import InvalidInput, NoSuchEntity
from moto.iam.models import iam_backends
from moto.iam.responses import IamResponse

from . import authorization, calls, organizations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DECISIONS = {"allowed": "allowed", "denied": "explicitDeny", "not allowed": "implicitDeny"}
_FROM_BEST = ["allowed", "implicitDeny", "explicitDeny"]
_NOT_SIMULATED = {"PolicyExclusionList", "ResourcePolicy", "ResourceOwner", "CallerArn", "ResourceHandlingOption"}
_PAGE = 100


def _context(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the condition keys of a simulation as a request here has them."""
    context: dict[str, str] = {}
    for entry in entries:
        for value in entry["ContextKeyValues"]:
            added = authorization.context_of(entry["ContextKeyName"], value)
            if set(added) & set(context):
                raise authorization.UnsupportedPolicyError(f"several values of {entry['ContextKeyName']}")
            context |= added
    return context


def _decide(documents: Sequence[str], request: authorization.Request) -> str:
    statements = [one for document in documents for one in authorization.statements(document)]
    return _DECISIONS[authorization.decide(statements, request)]


class _Simulation:
    """What is common to all actions and resources of a call."""

    def __init__(
        self, request: Mapping[str, Any], policies: Mapping[str, str], boundary: Sequence[str], account_id: str | None
    ) -> None:
        given = {f"PolicyInputList.{number}": one for number, one in enumerate(request.get("PolicyInputList", ()), 1)}
        self._policies = {**policies, **given}
        self._boundary = request.get("PermissionsBoundaryPolicyInputList") or boundary
        self._levels = organizations.service_control_policies(account_id) if account_id else []
        self._context = _context(request.get("ContextEntries", ()))
        self._resources = request.get("ResourceArns", ["*"])

    def _by_organisation(self, request: authorization.Request) -> str:
        """Return what the service control policies say: every level must allow; those with conditions are left out."""
        decisions = []
        for documents in self._levels:
            plain = [one for text in documents for one in authorization.statements(text) if "Condition" not in one]
            decisions.append(_DECISIONS[authorization.decide(plain, request)])
        return max(decisions, key=_FROM_BEST.index)

    def _on_resource(self, action: str, resource: str) -> dict[str, Any]:
        missing = set[str]()
        request = authorization.Request(action, resource, self._context, missing)
        decision = _decide(list(self._policies.values()), request)
        matched = [
            {"SourcePolicyId": source, "SourcePolicyType": "IAM Policy"}
            for source, document in self._policies.items()
            for statement in authorization.statements(document)
            if authorization.applies(statement, request)
        ]
        result: dict[str, Any] = {"MatchedStatements": matched, "MissingContextValues": sorted(missing)}
        decisions = [decision]
        if self._boundary:
            decisions.append(_decide(self._boundary, request))
            detail = {"AllowedByPermissionsBoundary": decisions[-1] == "allowed"}
            result["PermissionsBoundaryDecisionDetail"] = detail
        if self._levels:
            decisions.append(self._by_organisation(authorization.Request(action, resource, self._context, set())))
            result["OrganizationsDecisionDetail"] = {"AllowedByOrganizations": decisions[-1] == "allowed"}
        return {**result, "EvalDecision": max(decisions, key=_FROM_BEST.index)}

    def result(self, action: str) -> dict[str, Any]:
        """Return the EvaluationResult for an action: the worst over the resources, and one for each of them."""
        results = {resource: self._on_resource(action, resource) for resource in self._resources}
        worst = max(results.values(), key=lambda one: _FROM_BEST.index(one["EvalDecision"]))
        missing = sorted({key for one in results.values() for key in one["MissingContextValues"]})
        answer = {"EvalActionName": action, "EvalResourceName": "*", **worst, "MissingContextValues": missing}
        if list(results) != ["*"]:
            answer["ResourceSpecificResults"] = [
                {
                    "EvalResourceName": resource,
                    "EvalResourceDecision": one["EvalDecision"],
                    **{name: one[name] for name in ("MatchedStatements", "MissingContextValues")},
                    **{name: one[name] for name in ("PermissionsBoundaryDecisionDetail",) if name in one},
                }
                for resource, one in results.items()
            ]
        return answer


def _answer(call: calls.Call, policies: Mapping[str, str], boundary: Sequence[str], account_id: str | None) -> Any:
    request = call.request
    if unknown := _NOT_SIMULATED & set(request):
        raise NotImplementedError(f"a simulation with {', '.join(sorted(unknown))}")
    if wrong := [one for one in request["ActionNames"] if ":" not in one or "*" in one]:
        raise InvalidInput(f"Invalid Action(s): {', '.join(wrong)}")
    start, most = int(request.get("Marker", 0)), request.get("MaxItems", _PAGE)
    actions = request["ActionNames"][start : start + most]
    try:
        simulation = _Simulation(request, policies, boundary, account_id)
        results = [simulation.result(action) for action in actions]
    except authorization.UnsupportedPolicyError as error:
        raise calls.Refusal("UnsupportedPolicy", f"this cannot be simulated here: {error}") from error
    truncated = start + most < len(request["ActionNames"])
    more = {"Marker": str(start + most)} if truncated else {}
    return ActionResult({"EvaluationResults": results, "IsTruncated": truncated, **more})


def _simulate_principal(http: Any) -> Any:
    call = calls.Call(http)
    arn = call.request["PolicySourceArn"]
    role = authorization.role_by_arn(arn)
    if role is None or arn.split(":")[4] != call.account_id:
        raise NoSuchEntity(f"The role {arn} cannot be found.")
    known = iam_backends[call.account_id]["aws"].managed_policies
    policy = known.get(role.permissions_boundary_arn) if role.permissions_boundary_arn else None
    boundary = [one.document for one in policy.versions if one.is_default] if policy else []
    return _answer(call, authorization.policies_of(role), boundary, call.account_id)


def _simulate_custom(http: Any) -> Any:
    return _answer(calls.Call(http), {}, [], None)


def install() -> None:
    """Add the calls to moto's IAM (once: the caller sees to that)."""
    IamResponse.simulate_principal_policy = _simulate_principal
    IamResponse.simulate_custom_policy = _simulate_custom
