"""Which place of a policy decides each setting of a control on a subject, and what it overrules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portcullis.cli.policy_places import built_in, scopes_of, top_of
from portcullis.policy_parts import LONGEST, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from portcullis.cli.policy_places import Location, Place
    from portcullis.policy import Exemption, Policy, Subject


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


def explain(data: Mapping[str, Any], policy: Policy, subject: Subject, control_id: str) -> Explanation:
    """Return where a policy, made of this data, decides what about a control on a subject."""
    named = {place.block.name: place for place in scopes_of(data, policy)}
    scopes = [scope.name for scope in reversed(policy.matching(subject, control_id))]
    places = [*(named[name] for name in scopes), top_of(data, policy), built_in(control_id)]
    # Settings of the control first, then those of every change, each in the order in which they are written.
    concerned = sorted(
        dict.fromkeys(
            key for place in reversed(places) for key in place.written if key[0] != "controls" or key[1] == control_id
        ),
        key=lambda key: key[0] != "controls",
    )
    rulings = {setting: _ruling(setting, places) for setting in concerned}
    settings = policy.settings(subject, control_id)
    if settings.longest > next(place.block.values[LONGEST] for place in places if LONGEST in place.written):
        caller = next(caller for caller, window in settings.settle.items() if window == settings.longest)
        decisive, longest = rulings["settle", caller], rulings[LONGEST]
        overruled = (longest.decided_at or (), *longest.overruled)
        rulings[LONGEST] = Ruling(LONGEST, decisive.value, decisive.decided_at, overruled)
    exemptions = tuple(one for one in policy.exemptions if one.covers(subject, control_id))
    return Explanation(tuple(rulings.values()), tuple(scopes), exemptions)


def _ruling(setting: Setting, places: Iterable[Place]) -> Ruling:
    deciding, *others = [place for place in places if setting in place.written]
    overruled = tuple(at for place in others if (at := place.locate(setting)) is not None)
    return Ruling(setting, deciding.written[setting], deciding.locate(setting), overruled)
