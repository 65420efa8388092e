"""The page about the controls, generated from the registry so that it cannot drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portcullis.controls import Control

_HEAD = """# Controls

This page is generated from the registry of controls by `make docs`; a test keeps it true.

| id | what it requires | severity | judged per |
| --- | --- | --- | --- |
"""

_KINDS = {"vpc": "VPC", "instance": "instance"}


def render(controls: Iterable[Control]) -> str:
    """Return the page as Markdown."""
    listed = list(controls)
    rows = "".join(f"| {c.id} | {c.title} | {c.severity} | {_KINDS[c.kind]} |\n" for c in listed)
    return _HEAD + rows + "".join(_section(control) for control in listed)


def _section(control: Control) -> str:
    parameters = "".join(f"- `{name}`: {text}\n" for name, text in control.parameters)
    return (
        f"\n## {control.id}: {control.title}\n\n"
        f"**Why.** {control.why}\n\n"
        f"**What Portcullis changes** (in mode `remediate`). {control.fix}\n\n"
        f"**What can go wrong.** {control.risk}\n\n"
        f"**Parameters**\n\n{parameters}\n"
        f"**Permissions.** Observer: {_code(control.observes)}. Remediator: {_code(control.remediates)}.\n\n"
        f"**Related.** {control.related}\n"
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
