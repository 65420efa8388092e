"""The parts of a policy: what each is about, and how it is read from the policy's data. Pure.

Whatever ``portcullis policy check`` would not let pass is a ValueError, a TypeError, a KeyError or an AttributeError,
of which ``portcullis.policy`` makes a PolicyError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from portcullis.change_windows import ChangeWindow
from portcullis.model import Caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portcullis.model import Kind

Setting = tuple[str, ...]
"""What a block sets: ``("settle", "terraform")``, ``("leave_alone",)``, ``("controls", "VPCE.1", "mode")``."""

LONGEST = ("settle", "longest")
BUILT_IN = {
    "settle": {
        Caller.TERRAFORM: "30m",
        Caller.CLOUDFORMATION: "30m",
        Caller.CDK: "30m",
        Caller.PULUMI: "30m",
        Caller.CONSOLE: "10m",
        Caller.OTHER: "5m",
        "longest": "2h",
    },
    "leave_alone": "24h",
}
BUILT_IN_OF_A_CONTROL = {"mode": "off", "running_workloads": "approve", "change_windows": ()}
_HOURLY = {"account": 20, "organisation": 100}
_DAILY = 6
_PRICES = ("interface_endpoint_hour", "interface_endpoint_gigabyte", "nat_gigabyte")
_LARGEST = 4000  # the ledger keeps the times of an hour's changes in one item, which DynamoDB limits to 400 KB

# Tags arrive up to a minute after RunInstances: whoever changes sooner may change what a tag exempts.
_SHORTEST_SETTLE = timedelta(minutes=2)
_DURATION = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_UNITS_OF_TIME = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?")


class Mode(StrEnum):
    """What Portcullis does about a control: nothing, findings, findings that propose a change, or changes."""

    OFF = "off"
    DETECT = "detect"
    APPROVE = "approve"
    REMEDIATE = "remediate"


@dataclass(frozen=True, slots=True)
class Subject:
    """What the policy is asked about. ``units`` are those above the account, the root first; () when none is needed."""

    account_id: str
    units: tuple[str, ...]
    region: str
    kind: Kind
    resource_id: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many changes may be made: in an account and in the organisation an hour, on a resource a day."""

    per_account: int
    per_organisation: int
    per_resource_per_day: int


@dataclass(frozen=True, slots=True)
class Where:
    """What a scope or an exemption is about. Whatever is given must match; of a set, any."""

    accounts: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def matches(self, subject: Subject) -> bool:
        """Tell whether it is about a subject."""
        return (
            (not self.accounts or subject.account_id in self.accounts)
            and (not self.regions or subject.region in self.regions)
            and (not self.resources or subject.resource_id in self.resources)
            and (not self.units or not self.units.isdisjoint(subject.units))
            and all(subject.tags.get(key) in values for key, values in self.tags.items())
        )

    def specificity(self, subject: Subject) -> tuple[int, bool, int, bool]:
        """Rank it among those that match a subject: tags, then an account, then the deepest unit, then a Region."""
        depth = max((depth for depth, unit in enumerate(subject.units, 1) if unit in self.units), default=0)
        return (len(self.tags), bool(self.accounts), depth, bool(self.regions))


@dataclass(frozen=True, slots=True)
class Exemption:
    """What is left as it is, by whose decision, why and until when. ``controls`` is empty for all of them."""

    name: str
    where: Where
    controls: frozenset[str]
    owner: str
    reason: str
    expires_at: datetime

    def covers(self, subject: Subject, control_id: str) -> bool:
        """Tell whether it is about a control on a subject; it may have expired."""
        return (not self.controls or control_id in self.controls) and self.where.matches(subject)


@dataclass(frozen=True, slots=True)
class Block:
    """What the file sets in one place: in a scope, or at its top level, which has no name and is about everything."""

    name: str
    where: Where
    values: Mapping[Setting, Any]


def duration(text: str) -> timedelta:
    """Read a duration such as ``30m``; raises ValueError."""
    if not (match := _DURATION.fullmatch(text)):
        raise ValueError(f"{text!r} is not a duration such as 90s, 30m, 2h or 1d")
    return timedelta(**{_UNITS_OF_TIME[match[2]]: int(match[1])})


def settle_window(text: str) -> timedelta:
    """Read a settle window; raises ValueError."""
    if (window := duration(text)) < _SHORTEST_SETTLE:
        raise ValueError(f"{text} is too short: tags arrive late, so a change waits at least two minutes")
    return window


def expiry(text: str) -> datetime:
    """Read when an exemption ends: an instant, or a date for the end of that day (UTC); raises ValueError."""
    if not (match := _INSTANT.fullmatch(text)):
        raise ValueError(f"{text!r} is not a date (2026-12-31) or an instant (2026-12-31T12:00:00Z)")
    try:
        return datetime.fromisoformat(text if match[1] else f"{text}T23:59:59Z")
    except ValueError as error:
        raise ValueError(f"{text!r} does not exist: {error}") from error


def block_of(name: str, where: Where, entries: Mapping[str, Any]) -> Block:
    """Read what a block sets."""
    return Block(name, where, {setting: _value(setting, value) for setting, value in as_written(entries)})


def as_written(entries: Mapping[str, Any]) -> Iterator[tuple[Setting, Any]]:
    """Yield what a block sets, with the values as they are written."""
    for key, text in entries.get("settle", {}).items():
        yield ("settle", key), text
    if "leave_alone" in entries:
        yield ("leave_alone",), entries["leave_alone"]
    for control_id, entry in entries.get("controls", {}).items():
        for name, value in entry.items():
            yield ("controls", control_id, name), value


def _value(setting: Setting, value: Any) -> Any:
    match setting:
        case ("settle", key):
            if key != "longest":
                Caller(key)
            return settle_window(_text(value))
        case ("leave_alone",):
            return duration(_text(value))
        case (_, _, "mode"):
            return Mode(value)
        case (_, _, "running_workloads") if value not in (Mode.APPROVE, Mode.REMEDIATE):
            raise ValueError(f"running_workloads is {value!r}")
        case (_, _, "running_workloads"):
            return Mode(value)
        case (_, _, "change_windows"):
            return tuple(_change_window(entry) for entry in value)
        case _:
            return frozen(value)


def _change_window(entry: Mapping[str, Any]) -> ChangeWindow:
    only(entry, "cron", "time_zone", "length")
    return ChangeWindow(_text(entry["cron"]), _text(entry["time_zone"]), duration(_text(entry["length"])))


def scope_of(entry: Mapping[str, Any]) -> Block:
    """Read a scope."""
    only(entry, "name", "where", "settle", "leave_alone", "controls")
    where = _where(entry["where"])
    if where.resources:
        raise ValueError("a scope names resources")
    return block_of(_text(entry["name"]), where, entry)


def exemption_of(entry: Mapping[str, Any]) -> Exemption:
    """Read an exemption."""
    only(entry, "name", "where", "controls", "owner", "reason", "expires")
    return Exemption(
        name=_text(entry["name"]),
        where=_where(entry["where"]),
        controls=_words(entry["controls"]) if "controls" in entry else frozenset(),
        owner=_text(entry["owner"]),
        reason=_text(entry["reason"]),
        expires_at=expiry(_text(entry["expires"])),
    )


def _where(entry: Mapping[str, Any]) -> Where:
    # An empty one would be about everything: no scope and no exemption is meant to be.
    only(entry, "accounts", "units", "regions", "resources", "tags")
    tags = {_text(key): _words(value) for key, value in entry.get("tags", {}).items()}
    where = Where(**{key: _words(value) for key, value in entry.items() if key != "tags"}, tags=tags)
    if where == Where():
        raise ValueError("'where' is empty")
    return where


def limits_of(entry: Mapping[str, Any]) -> Limits:
    """Read the limits."""
    only(entry, "changes_per_hour", "changes_per_resource_per_day")
    hourly = entry.get("changes_per_hour", {})
    only(hourly, *_HOURLY)
    limits = (*(_HOURLY | hourly).values(), entry.get("changes_per_resource_per_day", _DAILY))
    if not all(type(limit) is int and 0 < limit <= _LARGEST for limit in limits):
        raise ValueError(f"the limits are {limits}")
    return Limits(*limits)


def prices_of(entry: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Read what the organisation pays, by Region and name."""
    for named in entry.values():
        only(named, *_PRICES)
        if not all(type(price) in (int, float) and price >= 0 for price in named.values()):
            raise ValueError(f"the prices are {named}")
    return {region: dict(named) for region, named in entry.items()}


def endpoint_policies_of(entry: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Read the named endpoint policies: what is in them is read where they are used."""
    if not all(given.keys() in ({"perimeter"}, {"document"}) for given in entry.values()):
        raise ValueError(f"the endpoint policies are {entry}")
    return {name: dict(given) for name, given in entry.items()}


def only(entry: Mapping[str, Any], *known: str) -> None:
    """Refuse keys that nobody would heed."""
    if unknown := entry.keys() - set(known):
        raise ValueError(f"unknown: {', '.join(map(str, unknown))}")


def entries_of(value: Any) -> list[Any]:
    """Return a list, and refuse anything else."""
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is not text")
    return value


def _words(value: Any) -> frozenset[str]:
    words = [value] if isinstance(value, str) else entries_of(value)
    if not words or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{value!r} is not a list of words")
    return frozenset(words)


def frozen(value: Any) -> Any:
    """Return the value of a parameter in a form that can be compared and put into a set; refuse what is none."""
    if isinstance(value, Mapping):
        return tuple(sorted((_text(key), _text(text)) for key, text in value.items()))
    if not all(isinstance(item, str | int) for item in (value if isinstance(value, list | tuple) else [value])):
        raise TypeError(f"{value!r} is not the value of a parameter")
    return tuple(value) if isinstance(value, list) else value
