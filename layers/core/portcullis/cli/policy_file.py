"""The policy file: YAML in, every fault at once with its line, or policy data out.

The shape is fixed by ``policy.schema.json`` beside the policy, which editors understand too. What a schema cannot
say is asked of the code that the functions use (does a time zone exist?) or of ``policy_clashes`` (do two scopes tie?).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker

from portcullis import change_windows, policy, policy_parts
from portcullis.actions import short_name
from portcullis.cli import policy_clashes, policy_doubts
from portcullis.cli.policy_places import written
from portcullis.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from jsonschema.exceptions import ValidationError

    from portcullis.cli.policy_places import Location

SCHEMA = Path(__file__).resolve().parents[3] / "policy" / "policy.schema.json"

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,9}\.[0-9]{1,9}")


def _short(service: str) -> None:
    if (short := short_name(service)) != service:
        raise ValueError(f"write the short name, {short}")


_FORMATS: dict[str, Callable[[str], object]] = {
    "duration-of-policy": policy_parts.duration,
    "settle-window": policy_parts.settle_window,
    "expiry": policy_parts.expiry,
    "short-service-name": _short,
    "cron": change_windows.check_cron,
    "time-zone": change_windows.check_time_zone,
}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: the line (from 1; 0 for the whole file) and what is wrong there."""

    line: int
    message: str

    def __str__(self) -> str:
        """Read as ``line 7: ...``."""
        return f"line {self.line}: {self.message}" if self.line else self.message


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file without a fault: its data, as ``portcullis.policy.parse`` takes it, and where what is in it."""

    data: dict[str, Any]
    lines: Mapping[Location, int]

    def ended(self, now: datetime) -> list[str]:
        """Name the exemptions that have ended, each with its line: they are no fault, and may go."""
        return [
            f"line {self.lines['exemptions', index]}: the exemption {one.name} of {one.owner} ended at "
            f"{one.expires_at:%Y-%m-%dT%H:%M:%SZ}; it can be removed"
            for index, one in enumerate(policy.parse(self.data).exemptions)
            if one.expires_at <= now
        ]

    def doubts(self) -> list[str]:
        """Name what is no fault and probably not meant, each with its line."""
        found = [
            Fault(self.lines[one.at], f"{written(one.at)}: {one.message}") for one in policy_doubts.find(self.data)
        ]
        return [str(one) for one in sorted(found)]


def read(path: Path) -> dict[str, Any]:
    """Read and check a policy file; returns its data and raises what ``load`` raises."""
    return load(path).data


def load(path: Path) -> PolicyFile:
    """Read and check a policy file.

    Raises:
        PolicyError: With every fault found, in the order of their lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError([f"it cannot be read: {error}"]) from error
    document = _Document()
    try:
        if aliases := _aliases(text):
            raise PolicyError([str(fault) for fault in aliases])
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data: Any = document.value(node, ()) if node else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise PolicyError([str(Fault(mark.line + 1 if mark else 0, f"not YAML: {problem}"))]) from error
    except RecursionError as error:
        raise PolicyError(["it is nested too deeply"]) from error
    if node is None:
        raise PolicyError(["it is empty"])
    checker = FormatChecker(formats=())
    for name, check in _FORMATS.items():
        checker.checks(name, raises=ValueError)(_passes(check))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    errors = list(Draft202012Validator(schema, format_checker=checker).iter_errors(data))
    faults = {*document.faults, *(fault for error in errors for fault in document.explain(error))}
    if isinstance(data, dict):
        for clash in policy_clashes.find(_sound(data, [tuple(error.absolute_path) for error in errors])):
            faults.add(document.describe(clash))
    if faults:
        raise PolicyError([str(fault) for fault in sorted(faults)])
    return PolicyFile(data, document.lines)


class _Document:
    """Builds the data of a YAML document, and remembers the line of every key and value.

    Scalars follow YAML 1.2: ``off`` and ``no`` are words, not booleans as in YAML 1.1.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.lines: dict[Location, int] = {(): 0}

    def value(self, node: yaml.Node, at: Location) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*at, index)) for index, child in enumerate(node.value)]
        return _scalar(str(node.value), plain=isinstance(node, yaml.ScalarNode) and node.style is None)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in data:
                self.faults.append(Fault(line, f"{written((*at, key))} is given twice"))
            self.lines[(*at, key)] = line
            data[key] = self.value(value_node, (*at, key))
        return data

    def explain(self, error: ValidationError) -> list[Fault]:
        """Turn a schema error into faults; each unknown key is one of its own, on its own line."""
        at: Location = tuple(error.absolute_path)
        if "propertyNames" in error.absolute_schema_path:
            at = (*at, str(error.instance))
        if error.validator == "additionalProperties":
            schema: Any = error.schema
            instance: Any = error.instance
            known = sorted(schema["properties"])
            unknown: list[Location] = [(*at, key) for key in instance if key not in known]
            hint = f"is unknown; known here: {', '.join(known)}"
            return [Fault(self.lines[place], f"{written(place)} {hint}") for place in unknown]
        if error.validator == "const":
            message = f"{error.instance!r} is not {error.validator_value!r}"
        elif error.validator == "pattern":
            message = f"{error.instance!r} does not match {error.validator_value}"
        elif error.validator == "format":
            message = str(error.cause)
        elif error.validator == "type" and "string" in str(error.validator_value):
            message = f"{error.message}; put it in quotes if it is text"
        else:
            message = error.message
        return [Fault(self.lines.get(at, 0), f"{written(at)}: {message}")]

    def describe(self, clash: policy_clashes.Clash) -> Fault:
        other = f" (line {self.lines[clash.other]})" if clash.other else ""
        return Fault(self.lines[clash.at], f"{written(clash.at)}: {clash.message}{other}")


def _aliases(text: str) -> list[Fault]:
    """Find YAML aliases: a policy is read line by line by people, and some lines of them can grow to gigabytes."""
    return [
        Fault(event.start_mark.line + 1 if event.start_mark else 0, f"*{event.anchor}: write out what it stands for")
        for event in yaml.parse(text, Loader=yaml.SafeLoader)
        if isinstance(event, yaml.AliasEvent)
    ]


def _passes(check: Callable[[str], object]) -> Callable[[object], bool]:
    def passes(value: object) -> bool:
        if isinstance(value, str):
            check(value)
        return True

    return passes


def _sound(data: Mapping[str, Any], faulty: list[Location]) -> dict[str, Any]:
    """Return what of a policy can be compared, where some locations are faulty; indices stay as they are."""
    sound: dict[str, Any] = {"version": policy.VERSION, "controls": {}}
    for section in ("settle", "controls"):
        if section in data and not any(at[:1] == (section,) for at in faulty):
            sound[section] = data[section]
    named = data.get("endpoint_policies")
    sound["endpoint_policies"] = {
        name: _ANY if any(at[:2] == ("endpoint_policies", name) for at in faulty) else entry
        for name, entry in (named.items() if isinstance(named, dict) else ())
    }
    for section in ("scopes", "exemptions"):
        if (section,) in faulty:
            continue
        sound[section] = [
            _stand_in(section, index, entry) if any(at[:2] == (section, index) for at in faulty) else entry
            for index, entry in enumerate(data.get(section, []))
        ]
    return sound


# Stands for an endpoint policy that has a fault.
_ANY = {"document": {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}}


def _stand_in(section: str, index: int, entry: Any) -> dict[str, Any]:
    """Return a scope or exemption that is about nothing, under the name of one that has a fault."""
    name = entry.get("name") if isinstance(entry, dict) else None
    stand_in = {"name": name if isinstance(name, str) and name else f"[{index}]", "where": {"accounts": ["none"]}}
    return stand_in if section == "scopes" else stand_in | {"owner": "-", "reason": "-", "expires": "2000-01-01"}


def _scalar(text: str, *, plain: bool) -> Any:
    if plain and text in ("", "~", "null"):
        return None
    if plain and text in ("true", "false"):
        return text == "true"
    if plain and _DECIMAL.fullmatch(text):
        number = float(text)
        return int(number) if number.is_integer() else number
    return int(text) if plain and _INTEGER.fullmatch(text) else text
