"""The page about the controls, generated from the registry so that it cannot drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis.controls import Parameter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portcullis.controls import Control

OF_EVERY_CONTROL = (
    Parameter("mode", "off", "`off`, `detect`, `approve` or `remediate`."),
    Parameter(
        "running_workloads",
        "approve",
        "With `approve`, a change that touches something running is proposed and waits for a person; with `remediate` "
        "it is made like any other.",
    ),
    Parameter(
        "change_windows",
        (),
        "Times at which such a change is made without asking: `cron` (five fields) opens a window in a `time_zone` for "
        "a `length`, as in `{cron: '0 2 * * SUN', time_zone: Europe/Zurich, length: 4h}`.",
    ),
)

_HEAD = """# Controls

This page is generated from the registry of controls by `make docs`; a test keeps it true.

| id | what it requires | severity | judged per |
| --- | --- | --- | --- |
"""

_COMMON = """
What the policy may set for every control, at its top level or in a scope:

"""

_KINDS = {"vpc": "VPC", "instance": "instance"}


def render(controls: Iterable[Control]) -> str:
    """Return the page as Markdown."""
    listed = list(controls)
    rows = "".join(f"| {c.id} | {c.title} | {c.severity} | {_KINDS[c.kind]} |\n" for c in listed)
    return _HEAD + rows + _COMMON + _parameters(OF_EVERY_CONTROL) + "".join(_section(control) for control in listed)


def _section(control: Control) -> str:
    return (
        f"\n## {control.id}: {control.title}\n\n"
        f"**What it checks.** {control.checks}\n\n"
        f"**Why.** {control.why}\n\n"
        f"**What Portcullis changes** (in mode `remediate`, or when approved). {control.fix}\n\n"
        f"**What can go wrong.** {control.risk}\n\n"
        f"**Parameters**\n\n{_parameters(control.parameters)}\n"
        f"**Permissions.** Observer: {_code(sorted(control.observes))}. Remediator: {_code(control.remediates)}.\n\n"
        f"**Related.** {control.related}\n"
    )


def _parameters(parameters: Iterable[Parameter]) -> str:
    return "".join(f"- `{one.name}` (default `{as_yaml(one.default)}`): {one.about}\n" for one in parameters)


def as_yaml(value: Any) -> str:
    """Write the value of a setting as the policy file would."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(as_yaml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_yaml(item)}' for key, item in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
