"""The EventBridge pattern language, as far as a sensible rule goes; everything else is an error.

Source: EventBridge User Guide, "Comparison operators for use in event patterns". moto's own matcher does not
look into arrays of objects and takes `1` for `"1"` or `true` in places.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_ABSENT = object()
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "prefix": str.startswith,
    "suffix": str.endswith,
    "equals-ignore-case": lambda value, wanted: value.lower() == wanted.lower(),
    "wildcard": lambda value, wanted: bool(re.fullmatch(re.escape(wanted).replace(r"\*", ".*"), value, re.DOTALL)),
}
_NUMERIC = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class InvalidPatternError(ValueError):
    """EventBridge would refuse this pattern, or it uses a matcher that is not known here."""


def matches(pattern: Any, event: Any) -> bool:
    """Return whether an event, envelope and detail, matches a pattern; both are parsed JSON.

    Raises:
        InvalidPatternError: the pattern is malformed; the whole of it is read whatever the event.
    """
    if not isinstance(pattern, Mapping) or not pattern:
        raise InvalidPatternError(f"a pattern must be a non-empty object, not {pattern!r}")
    if isinstance(event, list) and event:
        # Of an array of objects, one element must match the whole of the pattern.
        return True in [matches(pattern, element) for element in event]
    fields = event if isinstance(event, Mapping) else {}
    return False not in [_field_matches(name, wanted, fields) for name, wanted in pattern.items()]


def _field_matches(name: str, wanted: Any, fields: Mapping[str, Any]) -> bool:
    if name != "$or" and isinstance(wanted, Mapping):
        return matches(wanted, fields.get(name))
    if not isinstance(wanted, list) or len(wanted) < (2 if name == "$or" else 1):
        raise InvalidPatternError(f"{name} must be matched by an object or a list, $or by two patterns or more")
    if name == "$or":
        return True in [matches(alternative, fields) for alternative in wanted]
    leaves = list(_leaves(fields[name])) if name in fields else []
    return True in [_accepts(matcher, leaf) for matcher in wanted for leaf in leaves or [_ABSENT]]


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values that matchers are compared with; an object or an empty array has none."""
    if isinstance(value, list):
        for element in value:
            yield from _leaves(element)
    elif not isinstance(value, Mapping):
        yield value


def _accepts(matcher: Any, value: Any) -> bool:
    """Return whether one matcher accepts one leaf, which may be absent."""
    if not isinstance(matcher, (Mapping, list)):
        # With JSON's types: 1, 1.0, "1" and true are four different values.
        return type(matcher) is type(value) and bool(matcher == value)
    if not isinstance(matcher, Mapping) or len(matcher) != 1:
        raise InvalidPatternError(f"not a matcher: {matcher!r}")
    ((name, argument),) = matcher.items()
    if name == "exists" and isinstance(argument, bool):
        return argument is (value is not _ABSENT)
    if name == "numeric" and isinstance(argument, list) and len(argument) in {2, 4}:
        pairs = list(zip(argument[::2], argument[1::2], strict=True))
        if all(symbol in _NUMERIC and _is_number(limit) for symbol, limit in pairs):
            return _is_number(value) and all(_NUMERIC[symbol](value, limit) for symbol, limit in pairs)
    if name == "anything-but":
        return not _is_excluded(argument, value) and value is not _ABSENT
    if name not in _TEXT or not isinstance(argument, str) or (name == "wildcard" and re.search(r"\*\*|\\", argument)):
        raise InvalidPatternError(f"{name} does not take {argument!r}, or is not known here")
    return isinstance(value, str) and _TEXT[name](value, argument)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_excluded(argument: Any, value: Any) -> bool:
    """Return whether anything-but excludes a value, by a list of values or by a nested matcher of text."""
    if isinstance(argument, Mapping) and len(argument) == 1 and set(argument) <= set(_TEXT):
        ((name, nested),) = argument.items()
        excluded: list[Any] = [{name: one} for one in (nested if isinstance(nested, list) else [nested])]
    else:
        excluded = argument if isinstance(argument, list) else [argument]
        if not excluded or not all(isinstance(one, str) or _is_number(one) for one in excluded):
            raise InvalidPatternError(f"anything-but does not take {argument!r}")
    return True in [_accepts(one, value) for one in excluded]
