"""Where in a policy file something is, as the check and the explanations name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portcullis.policy_parts import BUILT_IN, BUILT_IN_OF_A_CONTROL, Block, Setting, Where, as_written, block_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.policy import Policy

Location = tuple[str | int, ...]
"""The keys and indices that lead to something, ``()`` for the whole file."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the file sets in one place: at its top level, in a scope, or (``at`` None) what is built in."""

    at: Location | None
    written: Mapping[Setting, Any]
    block: Block

    def locate(self, setting: Setting) -> Location | None:
        """Return where a setting is."""
        return None if self.at is None else (*self.at, *setting)


def top_of(data: Mapping[str, Any], policy: Policy) -> Place:
    """Return the top level of a policy's data, of which the policy was made."""
    return Place((), dict(as_written(data)), policy.top)


def scopes_of(data: Mapping[str, Any], policy: Policy) -> list[Place]:
    """Return the scopes of a policy's data, of which the policy was made."""
    both = zip(data.get("scopes", []), policy.scopes, strict=True)
    return [Place(("scopes", index), dict(as_written(entry)), block) for index, (entry, block) in enumerate(both)]


def built_in(control_id: str) -> Place:
    """Return what holds for a control where the file sets nothing."""
    entries = BUILT_IN | {"controls": {control_id: BUILT_IN_OF_A_CONTROL}}
    return Place(None, dict(as_written(entries)), block_of("", Where(), entries))


def written(at: Location) -> str:
    """Write a location for people: ``scopes[0] > settle > terraform``."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f"{' > ' if text else ''}{part}"
    return text or "the policy"
