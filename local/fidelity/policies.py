"""IAM's policy language, as far as the project's templates use it.

Source: the IAM User Guide, "Policy evaluation logic", "Condition operators" and "Multivalued context keys".
What is not understood here is an error: an unknown key or operator must never read as permission.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

Statement = Mapping[str, Any]
Decision = Literal["allowed", "denied", "not allowed"]

_KNOWN_KEYS = re.compile(
    r"aws:(PrincipalOrgID|PrincipalArn|PrincipalAccount|SourceArn|SourceAccount|TagKeys|RequestedRegion"
    r"|(Request|Resource)Tag/.+)"
    r"|sts:ExternalId|iam:PassedToService|ec2:(CreateAction|VpceServiceName|ResourceTag/.+)"
    r"|events:(detail-type|source|creatorAccount)",
    re.IGNORECASE,
)


class UnsupportedPolicyError(Exception):
    """A policy says something that this evaluation does not know; nothing may be concluded from it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: an action on a resource, and the condition keys that AWS would know about it.

    `resource` is None when the request does not make it evident; then `Resource` is not looked at. Keys of
    `context` are lower case (IAM's are case-insensitive, except for the tag after the slash).
    """

    action: str
    resource: str | None = None
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)


def as_list(value: Any) -> list[Any]:
    """Return what a policy may write either as one value or as a list, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


@functools.lru_cache(maxsize=1024)
def statements(document: str) -> tuple[Statement, ...]:
    """Return the statements of a policy document in JSON."""
    return tuple(as_list(json.loads(document)["Statement"]))


def wildcard_match(pattern: str, value: str) -> bool:
    """Compare as IAM does: `*` is any run of characters, `?` one; there are no character classes."""
    return fnmatchcase(value, pattern.replace("[", "[[]"))


def context_key(name: str) -> str:
    """Return a condition key in the spelling that `Request.context` uses."""
    head, slash, tag = name.partition("/")
    return head.lower() + slash + tag


def _equals(expected: str, actual: str) -> bool:
    return expected == actual


def _equals_ignoring_case(expected: str, actual: str) -> bool:
    return expected.lower() == actual.lower()


_COMPARISONS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    # Each operator has a comparison, and whether it is negated.
    "StringEquals": (_equals, False),
    "StringNotEquals": (_equals, True),
    "StringEqualsIgnoreCase": (_equals_ignoring_case, False),
    "StringLike": (wildcard_match, False),
    "StringNotLike": (wildcard_match, True),
    "ArnEquals": (wildcard_match, False),
    "ArnLike": (wildcard_match, False),
    "ArnNotEquals": (wildcard_match, True),
    "ArnNotLike": (wildcard_match, True),
    "Bool": (_equals_ignoring_case, False),
}


def _condition_holds(operator: str, key: str, expected: list[str], context: Mapping[str, Sequence[str]]) -> bool:
    """Evaluate one line of a Condition block."""
    if not _KNOWN_KEYS.fullmatch(key):
        raise UnsupportedPolicyError(f"condition key {key} is not evaluated here")
    actual = list(context.get(context_key(key), ()))
    if operator == "Null":
        return str(not actual).lower() in {value.lower() for value in expected}
    quantifier, colon, plain = operator.rpartition(":")
    if_exists = plain.endswith("IfExists")
    comparison, negated = _COMPARISONS.get(plain.removesuffix("IfExists"), (None, False))
    if comparison is None or (colon and quantifier not in {"ForAllValues", "ForAnyValue"}):
        raise UnsupportedPolicyError(f"condition operator {operator} is not evaluated here")
    if not actual:
        # An absent key fails a comparison, passes a negated one, and is vacuously true for all its values.
        return if_exists or quantifier == "ForAllValues" or (negated and quantifier != "ForAnyValue")
    verdicts = [any(comparison(value, one) for value in expected) is not negated for one in actual]
    return any(verdicts) if quantifier == "ForAnyValue" else all(verdicts)


def conditions_hold(statement: Statement, context: Mapping[str, Sequence[str]]) -> bool:
    """Return whether every condition of a statement holds.

    Raises:
        UnsupportedPolicyError: an operator or key is unknown, even if another condition already fails.
    """
    verdicts = [
        _condition_holds(operator, key, [str(value) for value in as_list(expected)], context)
        for operator, block in statement.get("Condition", {}).items()
        for key, expected in block.items()
    ]
    return all(verdicts)


def names_action(statement: Statement, action: str) -> bool:
    """Return whether a statement is about an action (compared without regard to case, as IAM does)."""
    if "NotAction" in statement:
        return not any(wildcard_match(p.lower(), action.lower()) for p in as_list(statement["NotAction"]))
    return any(wildcard_match(p.lower(), action.lower()) for p in as_list(statement.get("Action")))


def names_resource(statement: Statement, resource: str | None) -> bool:
    """Return whether a statement is about a resource; an unknown resource counts as named."""
    if resource is None:
        return True
    if "NotResource" in statement:
        return not any(wildcard_match(pattern, resource) for pattern in as_list(statement["NotResource"]))
    # A trust policy has no Resource: it is about the role that carries it.
    return any(wildcard_match(pattern, resource) for pattern in as_list(statement.get("Resource", "*")))


def decide(all_statements: Iterable[Statement], request: Request) -> Decision:
    """Return IAM's verdict of a set of statements: an explicit Deny wins, and nothing is allowed by default."""
    decision: Decision = "not allowed"
    for statement in all_statements:
        if not names_action(statement, request.action) or not names_resource(statement, request.resource):
            continue
        if not conditions_hold(statement, request.context):
            continue
        if statement["Effect"] == "Deny":
            return "denied"
        decision = "allowed"
    return decision


def names_principal(
    statement: Statement, *, account_id: str | None = None, arns: Sequence[str] = (), service: str | None = None
) -> bool:
    """Return whether the Principal of a resource policy names a caller.

    A caller is an AWS service, or an account with the ARNs by which it may be named (role, session, user).

    Raises:
        UnsupportedPolicyError: the statement uses NotPrincipal or a kind of principal other than these.
    """
    principal = statement.get("Principal")
    if principal is None or "NotPrincipal" in statement:
        raise UnsupportedPolicyError("a resource policy statement without Principal is not evaluated here")
    if principal == "*":
        return True
    if unknown := set(principal) - {"AWS", "Service"}:
        raise UnsupportedPolicyError(f"principals of kind {sorted(unknown)} are not evaluated here")
    if service is not None and service in as_list(principal.get("Service")):
        return True
    if account_id is None:
        return False
    named = as_list(principal.get("AWS"))
    root = re.compile(rf"arn:aws[a-z-]*:iam::{account_id}:root")
    return any(name in {"*", account_id, *arns} or root.fullmatch(name) for name in named)


def decide_for_principal(
    all_statements: Iterable[Statement],
    request: Request,
    *,
    account_id: str | None = None,
    arns: Sequence[str] = (),
    service: str | None = None,
) -> Decision:
    """Return the verdict of a resource policy for one caller (see `names_principal`)."""
    about_caller = [
        statement
        for statement in all_statements
        if names_principal(statement, account_id=account_id, arns=arns, service=service)
    ]
    return decide(about_caller, request)
