"""What the organisation wants: which controls, in which mode, where, and what is exempt. Pure, but for ``load``.

The policy is written in YAML and checked by ``portcullis policy check`` (see ``policy_file``). The build turns it into
JSON, which is what the functions load: they need neither a YAML parser nor a schema. See docs/decisions/0014-policy.md.

Every single setting is decided by itself: by the most specific scope that matches and sets it, else by the top level,
else by what is built in. A location is where in the file something is: its keys and indices, ``()`` for the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
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
    Location,
    Mode,
    Setting,
    Subject,
    Where,
    block_of,
    entries_of,
    exemption_of,
    limits_of,
    only,
    scope_of,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta
    from pathlib import Path

    from portcullis.change_windows import ChangeWindow

__all__ = ["Exemption", "Limits", "Mode", "Policy", "Settings", "Subject", "load", "parse"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the policy says about one control on one subject. ``longest`` is at least every settle window."""

    mode: Mode
    parameters: Mapping[str, Any]
    settle: Mapping[Caller, timedelta]
    longest: timedelta
    leave_alone: timedelta
    running_workloads: Mode
    change_windows: tuple[ChangeWindow, ...]

    def parameter(self, name: str, default: Any) -> Any:
        """Return a parameter of the control, or the default when the policy does not set it; lists as tuples."""
        return self.parameters.get(name, default)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A setting, its value as written, where it was decided (None: built in), and where it was set in vain."""

    setting: Setting
    value: Any
    decided_at: Location | None
    overruled: tuple[Location, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the policy says what it says. ``scopes`` are those that match, the most specific first.

    ``exemptions`` are those that match, also the expired ones.
    """

    rulings: tuple[Ruling, ...]
    scopes: tuple[str, ...]
    exemptions: tuple[Exemption, ...]


@dataclass(frozen=True, slots=True)
class Clash:
    """Two things in a policy that do not go together; ``other`` is where the second one is."""

    at: Location
    message: str
    other: Location | None


@dataclass(frozen=True, slots=True)
class _Rules:
    """What concerns one control: the settings where no scope matches, and the scopes that say something about it."""

    built_in: Block
    plain: Mapping[Setting, Any]
    settings: Settings
    scopes: tuple[tuple[Block, Mapping[Setting, Any]], ...]

    def matching(self, subject: Subject) -> list[tuple[Block, Mapping[Setting, Any]]]:
        """Return the scopes that match, the most specific last; equal ones agree, so any order between them will do."""
        found = [scope for scope in self.scopes if scope[0].where.matches(subject)]
        return sorted(found, key=lambda scope: (scope[0].where.specificity(subject), scope[0].name))


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy. A control that it does not name is off.

    ``needs_units`` and ``needs_tags`` tell whether any scope or exemption names a unit or a tag.
    """

    limits: Limits
    exemptions: tuple[Exemption, ...]
    needs_units: bool
    needs_tags: bool
    _top: Block
    _scopes: tuple[Block, ...]
    _rules: Mapping[str, _Rules]
    _exempt: Mapping[str, tuple[Exemption, ...]]

    def settings(self, subject: Subject, control_id: str) -> Settings:
        """Return what holds for a control on a subject."""
        rules = self._of(control_id)
        matching = rules.matching(subject)
        if not matching:
            return rules.settings
        values = dict(rules.plain)
        for _, scope in matching:
            values.update(scope)
        return _settings(values)

    def exemption(self, subject: Subject, control_id: str, now: datetime) -> Exemption | None:
        """Return the exemption that holds for a control on a subject, of several the one that ends last."""
        candidates = (*self._exempt.get(subject.resource_id, ()), *self._exempt.get("", ()))
        holding = [one for one in candidates if now < one.expires_at and one.covers(subject, control_id)]
        return max(holding, key=lambda one: (one.expires_at, one.name), default=None)

    def values(self, control_id: str, name: str, default: Any) -> frozenset[Any]:
        """Return every value that a parameter may have anywhere."""
        setting = ("controls", control_id, name)
        given = {block.values[setting] for block in (self._top, *self._scopes) if setting in block.values}
        return frozenset(given if setting in self._top.values else given | {default})

    def explain(self, subject: Subject, control_id: str) -> Explanation:
        """Return where the policy decides what about a control on a subject."""
        rules = _rules_of(control_id, self._top, self._scopes)
        scopes = [block for block, _ in reversed(rules.matching(subject))]
        blocks = (*scopes, self._top, rules.built_in)
        # Settings of the control first, then those of every change, each in the order in which they are written.
        concerned = sorted(
            dict.fromkeys(key for block in reversed(blocks) for key in block.written if _concerns(key, control_id)),
            key=lambda key: key[0] != "controls",
        )
        rulings = {setting: _ruling(setting, blocks) for setting in concerned}
        settings = self.settings(subject, control_id)
        if settings.longest > next(block.values[LONGEST] for block in blocks if LONGEST in block.values):
            caller = next(caller for caller, window in settings.settle.items() if window == settings.longest)
            decisive, longest = rulings["settle", caller], rulings[LONGEST]
            overruled = (longest.decided_at or (), *longest.overruled)
            rulings[LONGEST] = Ruling(LONGEST, decisive.value, decisive.decided_at, overruled)
        return Explanation(
            tuple(rulings.values()),
            tuple(block.name for block in scopes),
            tuple(one for one in self.exemptions if one.covers(subject, control_id)),
        )

    def clashes(self) -> list[Clash]:
        """Return what does not go together: equal names, scopes that tie, and windows that outlast the longest."""
        found = _same_names("scopes", [scope.name for scope in self._scopes])
        found += _same_names("exemptions", [one.name for one in self.exemptions])
        for first, second in combinations(self._scopes, 2):
            if disputed := [key for key, value in second.values.items() if first.values.get(key, value) != value]:
                found += _ties(first, second, disputed)
        for block in (self._top, *self._scopes):
            found += _outlasting(block, self._top, self._rules[""].built_in)
        return found

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
        PolicyError: When the data is not of this version or not of this shape, or clashes; no change is then made.
    """
    policy = assemble(data)
    if clashes := policy.clashes():
        raise PolicyError([f"{written(clash.at)}: {clash.message}" for clash in clashes])
    return policy


def assemble(data: object) -> Policy:
    """Do what ``parse`` does without looking for clashes, for whoever wants to name all of them."""
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        raise PolicyError([f"the policy is not of version {VERSION}; run 'portcullis policy check' on its file"])
    try:
        return _policy(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PolicyError([f"the policy is damaged ({error}); run 'portcullis policy check' on its file"]) from error


def _policy(data: Mapping[str, Any]) -> Policy:
    only(data, "version", "controls", "limits", "settle", "leave_alone", "scopes", "exemptions")
    everywhere = {key: data[key] for key in ("settle", "leave_alone") if key in data}
    top = block_of((), "", Where(), {"controls": data["controls"], **everywhere})
    scopes = tuple(scope_of(index, scope) for index, scope in enumerate(entries_of(data.get("scopes", []))))
    exemptions = tuple(exemption_of(entry) for entry in entries_of(data.get("exemptions", [])))
    wheres = [*(scope.where for scope in scopes), *(one.where for one in exemptions)]
    named = {setting[1] for block in (top, *scopes) for setting in block.values if setting[0] == "controls"}
    if "" in named:
        raise ValueError("a control has no id")
    exempt: dict[str, tuple[Exemption, ...]] = {}
    for one in exemptions:
        for resource_id in one.where.resources or ("",):
            exempt[resource_id] = (*exempt.get(resource_id, ()), one)
    return Policy(
        limits=limits_of(data.get("limits", {})),
        exemptions=exemptions,
        needs_units=any(where.units for where in wheres),
        needs_tags=any(where.tags for where in wheres),
        _top=top,
        _scopes=scopes,
        # Under "" stands what holds for every control that the policy does not name.
        _rules={control_id: _rules_of(control_id, top, scopes) for control_id in (*named, "")},
        _exempt=exempt,
    )


def _rules_of(control_id: str, top: Block, scopes: Iterable[Block]) -> _Rules:
    built_in = block_of(None, "", Where(), BUILT_IN | {"controls": {control_id: BUILT_IN_OF_A_CONTROL}})
    plain = {**built_in.values, **_about(control_id, top)}
    concerned = ((scope, _about(control_id, scope)) for scope in scopes)
    return _Rules(built_in, plain, _settings(plain), tuple((scope, values) for scope, values in concerned if values))


def _about(control_id: str, block: Block) -> dict[Setting, Any]:
    return {setting: value for setting, value in block.values.items() if _concerns(setting, control_id)}


def _concerns(setting: Setting, control_id: str) -> bool:
    return setting[0] != "controls" or setting[1] == control_id


def _settings(values: Mapping[Setting, Any]) -> Settings:
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
    )


def _ruling(setting: Setting, blocks: Iterable[Block]) -> Ruling:
    deciding, *others = [block for block in blocks if setting in block.written]
    overruled = tuple(at for block in others if (at := block.locate(setting)) is not None)
    return Ruling(setting, deciding.written[setting], deciding.locate(setting), overruled)


def _same_names(section: str, names: list[str]) -> list[Clash]:
    first: dict[str, int] = {}
    found = []
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            at, other = (section, index, "name"), (section, first[name], "name")
            found.append(Clash(at, f"{name!r} is given twice", other))
    return found


def _ties(first: Block, second: Block, disputed: list[Setting]) -> list[Clash]:
    if not first.where.may_tie(second.where):
        return []
    return [
        Clash(
            second.locate(setting) or (),
            f"{second.written[setting]!r} in the scope {second.name} and {first.written[setting]!r} in {first.name} "
            "may be about the same resource, and neither scope is more specific",
            first.locate(setting) or (),
        )
        for setting in disputed
    ]


def _outlasting(block: Block, top: Block, built_in: Block) -> list[Clash]:
    """Find the settle windows, of a block by itself or with what it leaves to the top level, beyond the longest."""
    values = {**built_in.values, **top.values, **block.values}
    found = []
    for caller in Caller:
        window = ("settle", caller)
        own = [setting for setting in (window, LONGEST) if setting in block.values]
        if own and values[window] > values[LONGEST]:
            other_setting = LONGEST if own[0] == window else window
            other = next(one for one in (block, top, built_in) if other_setting in one.values).locate(other_setting)
            message = f"{caller} waits for {values[window]}, and the longest wait is {values[LONGEST]}"
            found.append(Clash(block.locate(own[0]) or (), message, other))
    return found
