"""Conditions of endpoint policies of which it is known how they end. Pure.

Sources: "AWS global condition context keys", and "IAM JSON policy elements: Condition operators" (IAM user guide) for
what operators say of a key that a request lacks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from portcullis.endpoint_policies import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPERATORS = {"stringequals": True, "bool": True, "stringnotequals": False}
_IF_EXISTS = "ifexists"
_OF_INSTANCES = {"aws:principalisawsservice": "false"}


def settled(document: str, context: Mapping[str, str]) -> str:
    """Leave out of a policy the conditions that are known to hold, and the statements that are known not to apply.

    Args:
        document: The policy, as EC2 answers it. What is no policy comes back as it is.
        context: Condition keys in lower case with what a request of an instance has there; empty when it has none.
    """
    if isinstance(canonical(document), str):
        return document
    policy, known, kept = json.loads(document), _OF_INSTANCES | dict(context), []
    statements = policy.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        open_ones: dict[str, dict[str, Any]] = {}
        verdicts = set()
        for operator, keys in statement.get("Condition", {}).items():
            for key, values in keys.items():
                verdict = _verdict(operator.lower(), known.get(key.lower()), values)
                verdicts.add(verdict)
                if verdict is None:
                    open_ones.setdefault(operator, {})[key] = values
        if False not in verdicts:
            kept.append({**statement, "Condition": open_ones})
    return json.dumps({**policy, "Statement": kept})


def _verdict(operator: str, value: str | None, values: Any) -> bool | None:
    """Tell whether a condition holds; None when that is not known."""
    base = operator.removesuffix(_IF_EXISTS)
    if value is None or base not in _OPERATORS:
        return None
    if not value and operator != base:
        return True
    wanted = values if isinstance(values, list) else [values]
    texts = {one.lower() if base == "bool" else one for one in map(_text, wanted)}
    return None if any("${" in one for one in texts) else (value in texts) is _OPERATORS[base]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
