"""What the organisation wants: which controls, in which mode, with which parameters. Pure, but for ``load``.

The policy is written in YAML and checked by ``portcullis policy check`` (see ``policy_file``). The build
turns it into JSON, which is what the functions load: they need neither a YAML parser nor a schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from portcullis.errors import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1


class Mode(StrEnum):
    """What Portcullis does about a control: nothing, findings only, or findings and changes."""

    OFF = "off"
    DETECT = "detect"
    REMEDIATE = "remediate"


@dataclass(frozen=True, slots=True)
class ControlPolicy:
    """The policy for one control: its mode, and its parameters as the policy file names them."""

    mode: Mode = Mode.OFF
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy. A control that it does not name is off."""

    controls: Mapping[str, ControlPolicy]

    def mode(self, control_id: str) -> Mode:
        """Return the mode of a control."""
        return self._of(control_id).mode

    def parameter(self, control_id: str, name: str, default: Any) -> Any:
        """Return a parameter of a control, or the default when the policy does not set it."""
        return self._of(control_id).parameters.get(name, default)

    def _of(self, control_id: str) -> ControlPolicy:
        return self.controls.get(control_id, ControlPolicy())


def parse(data: object) -> Policy:
    """Turn policy data that passed ``portcullis policy check`` into a Policy.

    Raises:
        PolicyError: When the data is not of this version or not of this shape; no change is then made.
    """
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        raise PolicyError([f"the policy is not of version {VERSION}; run 'portcullis policy check' on its file"])
    try:
        controls = {
            control_id: ControlPolicy(
                mode=Mode(entry["mode"]),
                parameters={name: value for name, value in entry.items() if name != "mode"},
            )
            for control_id, entry in data["controls"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PolicyError([f"the policy is damaged ({error}); run 'portcullis policy check' on its file"]) from error
    return Policy(controls)


def load(path: Path) -> Policy:
    """Load a compiled policy (JSON).

    Raises:
        PolicyError: When the file is missing, is not JSON, or is not a policy.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError([f"the policy at {path} cannot be read: {error}; build it with 'make build'"]) from error
    return parse(data)
