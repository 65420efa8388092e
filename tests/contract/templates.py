"""The templates as data, for the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
HUB = ROOT / "template.yaml"
MEMBER_ACCOUNT = ROOT / "infra" / "member-account.yaml"
MEMBER_REGION = ROOT / "infra" / "member-region.yaml"
MACHINE = ROOT / "infra" / "sweep.asl.json"
MEMBERS = (MEMBER_ACCOUNT, MEMBER_REGION)
ALL = (HUB, *MEMBERS)


def load(path: Path) -> dict[str, Any]:
    """Return a template with its intrinsics in their long form."""
    template: dict[str, Any] = yaml_parse(path.read_text(encoding="utf-8"))
    return template


def resources(path: Path, resource_type: str) -> dict[str, dict[str, Any]]:
    """Return the properties of all resources of one type, by logical id."""
    found = load(path)["Resources"].items()
    return {name: entry.get("Properties", {}) for name, entry in found if entry["Type"] == resource_type}


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every statement of a role's inline policies, with Action and Resource as lists."""
    return [
        {**statement, "Action": _listed(statement["Action"]), "Resource": _listed(statement["Resource"])}
        for policy in role["Policies"]
        for statement in map(plain, policy["PolicyDocument"]["Statement"])
    ]


def plain(statement: dict[str, Any]) -> dict[str, Any]:
    """Return a statement, also of those that are there only under a condition of the template."""
    if "Fn::If" not in statement:
        return statement
    _, wrapped, nothing = statement["Fn::If"]
    assert nothing == {"Ref": "AWS::NoValue"}
    found: dict[str, Any] = wrapped
    return found


def condition(statement: dict[str, Any]) -> str:
    """Return the condition of the template under which a statement is there; empty for one that always is."""
    return str(statement["Fn::If"][0]) if "Fn::If" in statement else ""


def actions(role: dict[str, Any]) -> set[str]:
    """Return every action that a role's inline policies allow."""
    return {action for statement in statements(role) for action in statement["Action"]}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def policy() -> dict[str, Any]:
    """Return the policy as it is written."""
    data: dict[str, Any] = yaml_parse((ROOT / "layers" / "policy" / "policy.yaml").read_text(encoding="utf-8"))
    return data
