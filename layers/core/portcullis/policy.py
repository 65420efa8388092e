"""What the organisation wants: which controls, in which mode, where, and what is exempt. Pure, but for ``load``.

The policy is written in YAML and checked by ``portcullis policy check``, also for what does not go together in it (see
``cli/policy_file.py`` and ``cli/policy_clashes.py``). The build turns it into JSON, which is what the functions load:
they need neither a YAML parser nor a schema. See docs/decisions/0014-policy.md.

Every single setting is decided by itself: by the most specific scope that matches and sets it, else by the top level,
else by what is built in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from portcullis.errors import PolicyError
from portcullis.model import Caller
from portcullis.policy_parts import (
    BUILT_IN,
    BUILT_IN_OF_A_CONTROL,
    LONGEST,
    Block,
    Exemption,
    Limits,
    Mode,
    Setting,
    Subject,
    Where,
    block_of,
    endpoint_policies_of,
    entries_of,
    exemption_of,
    frozen,
    limits_of,
    only,
    prices_of,
    scope_of,
)

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from portcullis.change_windows import ChangeWindow

__all__ = ["Exemption", "Limits", "Mode", "Policy", "Settings", "Subject", "load", "parse"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the policy says about one control on one subject. ``longest`` is at least every settle window.

    ``endpoint_policies`` are those that the policy names, for whichever parameter refers to them by name.
    """

    mode: Mode
    parameters: Mapping[str, Any]
    settle: Mapping[Caller, timedelta]
    longest: timedelta
    leave_alone: timedelta
    running_workloads: Mode
    change_windows: tuple[ChangeWindow, ...]
    endpoint_policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def parameter(self, name: str, default: Any) -> Any:
        """Return a parameter of the control, or the default when the policy does not set it.

        Lists are tuples; mappings are tuples of pairs, of which ``dict`` makes a mapping again.
        """
        return self.parameters.get(name, default)


@dataclass(frozen=True, slots=True)
class _Rules:
    """What concerns one control: the settings where no scope matches, and the scopes, with what they say about it."""

    plain: Mapping[Setting, Any]
    settings: Settings
    scopes: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy. A control that it does not name is off.

    ``prices`` are those that the organisation pays, by Region (or ``default``) and name. ``top`` and ``scopes`` are
    what the file sets where. ``needs_units`` and ``needs_tags`` tell whether any scope or exemption names a unit or a
    tag.
    """

    limits: Limits
    exemptions: tuple[Exemption, ...]
    prices: Mapping[str, Mapping[str, float]]
    endpoint_policies: Mapping[str, Mapping[str, Any]]
    needs_units: bool
    needs_tags: bool
    top: Block
    scopes: tuple[Block, ...]
    _rules: Mapping[str, _Rules]
    _exempt: Mapping[str, tuple[Exemption, ...]]

    def settings(self, subject: Subject, control_id: str) -> Settings:
        """Return what holds for a control on a subject."""
        matching = self.matching(subject, control_id)
        rules = self._of(control_id)
        if not matching:
            return rules.settings
        values = dict(rules.plain)
        for scope in matching:
            values.update(scope.values)
        return _settings(values, self.endpoint_policies)

    def matching(self, subject: Subject, control_id: str) -> list[Block]:
        """Return the scopes that match and say something about a control, the most specific last.

        Equal ones agree, so any order between them will do.
        """
        found = [scope for scope in self._of(control_id).scopes if scope.where.matches(subject)]
        return sorted(found, key=lambda scope: (scope.where.specificity(subject), scope.name))

    def exemption(self, subject: Subject, control_id: str, now: datetime) -> Exemption | None:
        """Return the exemption that holds for a control on a subject, of several the one that ends last."""
        candidates = (*self._exempt.get(subject.resource_id, ()), *self._exempt.get("", ()))
        holding = [one for one in candidates if now < one.expires_at and one.covers(subject, control_id)]
        return max(holding, key=lambda one: (one.expires_at, one.name), default=None)

    def values(self, control_id: str, name: str, default: Any) -> frozenset[Any]:
        """Return every value that a parameter may have anywhere, as ``Settings.parameter`` gives it."""
        setting = ("controls", control_id, name)
        given = {block.values[setting] for block in (self.top, *self.scopes) if setting in block.values}
        return frozenset(given if setting in self.top.values else given | {frozen(default)})

    def enabled(self, control_id: str) -> bool:
        """Tell whether a control is on anywhere."""
        setting = ("controls", control_id, "mode")
        return any(block.values.get(setting, Mode.OFF) is not Mode.OFF for block in (self.top, *self.scopes))

    def enabled_everywhere(self, control_id: str) -> bool:
        """Tell whether a control is on at the top level, and so wherever no scope switches it off."""
        return self.top.values.get(("controls", control_id, "mode"), Mode.OFF) is not Mode.OFF

    def _of(self, control_id: str) -> _Rules:
        return self._rules.get(control_id, self._rules[""])


def load(path: Path) -> Policy:
    """Load a compiled policy (JSON).

    Raises:
        PolicyError: When the file is missing, is not JSON, or is not a policy.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError([f"the policy at {path} cannot be read: {error}; build it with 'make build'"]) from error
    return parse(data)


def parse(data: object) -> Policy:
    """Turn policy data that passed ``portcullis policy check`` into a Policy.

    Raises:
        PolicyError: When the data is not of this version or not of this shape; no change is then made.
    """
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        raise PolicyError([f"the policy is not of version {VERSION}; run 'portcullis policy check' on its file"])
    try:
        return _policy(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PolicyError([f"the policy is damaged ({error}); run 'portcullis policy check' on its file"]) from error


def _policy(data: Mapping[str, Any]) -> Policy:
    settable = ("controls", "settle", "leave_alone")
    only(data, "version", *settable, "limits", "prices", "endpoint_policies", "scopes", "exemptions")
    top = block_of("", Where(), {"controls": data["controls"], **{key: data[key] for key in settable if key in data}})
    scopes = tuple(scope_of(entry) for entry in entries_of(data.get("scopes", [])))
    exemptions = tuple(exemption_of(entry) for entry in entries_of(data.get("exemptions", [])))
    endpoint_policies = endpoint_policies_of(data.get("endpoint_policies", {}))
    wheres = [*(scope.where for scope in scopes), *(one.where for one in exemptions)]
    named = {setting[1] for block in (top, *scopes) for setting in block.values if setting[0] == "controls"}
    if "" in named:
        raise ValueError("a control has no id")
    exempt: dict[str, tuple[Exemption, ...]] = {}
    for one in exemptions:
        for resource_id in one.where.resources or ("",):
            exempt[resource_id] = (*exempt.get(resource_id, ()), one)

    def rules(control_id: str) -> _Rules:
        built_in = block_of("", Where(), BUILT_IN | {"controls": {control_id: BUILT_IN_OF_A_CONTROL}})
        plain = {**built_in.values, **_about(control_id, top)}
        concerned = (replace(scope, values=_about(control_id, scope)) for scope in scopes)
        return _Rules(plain, _settings(plain, endpoint_policies), tuple(scope for scope in concerned if scope.values))

    return Policy(
        limits=limits_of(data.get("limits", {})),
        exemptions=exemptions,
        prices=prices_of(data.get("prices", {})),
        endpoint_policies=endpoint_policies,
        needs_units=any(where.units for where in wheres),
        needs_tags=any(where.tags for where in wheres),
        top=top,
        scopes=scopes,
        # Under "" stands what holds for every control that the policy does not name.
        _rules={control_id: rules(control_id) for control_id in (*named, "")},
        _exempt=exempt,
    )


def _about(control_id: str, block: Block) -> dict[Setting, Any]:
    return {key: value for key, value in block.values.items() if key[0] != "controls" or key[1] == control_id}


def _settings(values: Mapping[Setting, Any], endpoint_policies: Mapping[str, Mapping[str, Any]]) -> Settings:
    own = {setting[2]: value for setting, value in values.items() if setting[0] == "controls"}
    settle: dict[Caller, timedelta] = {caller: values["settle", caller] for caller in Caller}
    return Settings(
        mode=own.pop("mode"),
        running_workloads=own.pop("running_workloads"),
        change_windows=own.pop("change_windows"),
        parameters=own,
        settle=settle,
        # One scope may set the longest and another one a window: a window is never cut short.
        longest=max(values[LONGEST], *settle.values()),
        leave_alone=values["leave_alone",],
        endpoint_policies=endpoint_policies,
    )
