"""The policy file: YAML in, every fault at once with its line, or policy data out.

The shape is fixed by ``policy.schema.json`` beside the policy, which editors understand too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonschema import Draft202012Validator

from portcullis.errors import PolicyError

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SCHEMA = Path(__file__).resolve().parents[3] / "policy" / "policy.schema.json"

_Path = tuple[str | int, ...]

_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: the line (from 1; 0 for the whole file) and what is wrong there."""

    line: int
    message: str

    def __str__(self) -> str:
        """Read as ``line 7: ...``."""
        return f"line {self.line}: {self.message}" if self.line else self.message


def read(path: Path) -> dict[str, Any]:
    """Read and check a policy file.

    Returns:
        The policy data, as ``portcullis.policy.parse`` takes it.

    Raises:
        PolicyError: With every fault found, in the order of their lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError([f"it cannot be read: {error}"]) from error
    document = _Document()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data: Any = document.value(node, ()) if node else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise PolicyError([str(Fault(mark.line + 1 if mark else 0, f"not YAML: {problem}"))]) from error
    except RecursionError as error:
        raise PolicyError(["it contains itself (an alias inside its own anchor) or is nested too deeply"]) from error
    if node is None:
        raise PolicyError(["it is empty"])
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    faults = document.faults + [fault for error in validator.iter_errors(data) for fault in document.explain(error)]
    if faults:
        raise PolicyError([str(fault) for fault in sorted(set(faults))])
    return dict(data)


class _Document:
    """Builds the data of a YAML document, and remembers the line of every key and value.

    Scalars follow YAML 1.2: ``off`` and ``no`` are words, not booleans as in YAML 1.1.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._lines: dict[_Path, int] = {(): 0}

    def value(self, node: yaml.Node, path: _Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return _scalar(str(node.value), plain=isinstance(node, yaml.ScalarNode) and node.style is None)

    def _mapping(self, node: yaml.MappingNode, path: _Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in data:
                self.faults.append(Fault(line, f"{_at((*path, key))} is given twice"))
            self._lines[(*path, key)] = line
            data[key] = self.value(value_node, (*path, key))
        return data

    def explain(self, error: ValidationError) -> list[Fault]:
        """Turn a schema error into faults; each unknown key is one of its own, on its own line."""
        path: _Path = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            schema: Any = error.schema
            instance: Any = error.instance
            known = sorted(schema["properties"])
            unknown = [key for key in instance if key not in known]
            return [
                Fault(self._lines[(*path, key)], f"{_at((*path, key))} is unknown; known here: {', '.join(known)}")
                for key in unknown
            ]
        if error.validator == "const":
            message = f"{error.instance!r} is not {error.validator_value!r}"
        elif error.validator == "pattern":
            message = f"{error.instance!r} does not match {error.validator_value}"
        else:
            message = error.message
        return [Fault(self._lines.get(path, 0), f"{_at(path)}: {message}")]


def _scalar(text: str, *, plain: bool) -> Any:
    if plain and text in ("", "~", "null"):
        return None
    if plain and text in ("true", "false"):
        return text == "true"
    return int(text) if plain and _INTEGER.fullmatch(text) else text


def _at(path: _Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{' > ' if text else ''}{part}"
    return text or "the policy"
