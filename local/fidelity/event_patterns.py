"""The EventBridge pattern language.

Source: EventBridge User Guide, "Comparison operators for use in event patterns", and the behaviour of AWS's
published rule engine (aws/event-ruler) for absent fields and arrays. moto's own matcher does not look into
arrays of objects and takes `1` for `"1"` or `true` in places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Path = tuple[str, ...]


class InvalidPatternError(ValueError):
    """EventBridge would refuse this pattern, or it uses a matcher that is not known here."""


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Return whether an event matches a pattern.

    Args:
        pattern: an event pattern as a rule carries it, parsed from JSON.
        event: the whole event (envelope and detail), parsed from JSON.

    Raises:
        InvalidPatternError: a leaf of the pattern is not a non-empty list, or a matcher is unknown. The
            whole pattern is checked first, so the event does not decide whether a mistake is found.
    """
    _check(pattern)
    return _matches_object(pattern, event, (), frozenset(_leaf_paths(event, ())))


def _check(pattern: Any) -> None:
    if not isinstance(pattern, Mapping) or not pattern:
        raise InvalidPatternError(f"a pattern must be a non-empty object, not {pattern!r}")
    for name, wanted in pattern.items():
        if name == "$or":
            if not isinstance(wanted, list) or len(wanted) < 2:  # noqa: PLR2004 - one alternative is no choice
                raise InvalidPatternError("$or needs a list of at least two patterns")
            for alternative in wanted:
                _check(alternative)
        elif isinstance(wanted, Mapping):
            _check(wanted)
        elif isinstance(wanted, list) and wanted:
            for matcher in wanted:
                # Running it once finds unknown and malformed matchers.
                _accepts(matcher, "")
        else:
            raise InvalidPatternError(f"{name} must be matched by an object or a non-empty list")


def _leaf_paths(node: Any, path: Path) -> Iterator[Path]:
    """Yield the path of every leaf; an empty object or array has none, so it counts as absent."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _leaf_paths(child, (*path, name))
    elif isinstance(node, list):
        for child in node:
            yield from _leaf_paths(child, path)
    else:
        yield path


def _matches_object(pattern: Mapping[str, Any], node: Any, path: Path, present: frozenset[Path]) -> bool:
    """Match one object; of an array of objects, one element must match the whole of the pattern."""
    if isinstance(node, list) and node:
        return any(_matches_object(pattern, element, path, present) for element in node)
    fields = node if isinstance(node, Mapping) else {}
    return all(_matches_field(name, wanted, fields, path, present) for name, wanted in pattern.items())


def _matches_field(name: str, wanted: Any, fields: Mapping[str, Any], path: Path, present: frozenset[Path]) -> bool:
    if name == "$or":
        return any(_matches_object(alternative, fields, path, present) for alternative in wanted)
    field_path = (*path, name)
    if isinstance(wanted, Mapping):
        return _matches_object(wanted, fields.get(name), field_path, present)
    leaves = list(_leaves(fields[name])) if name in fields else []
    for matcher in wanted:
        if isinstance(matcher, Mapping) and matcher.get("exists") is False:
            if field_path not in present:
                return True
        elif any(_accepts(matcher, leaf) for leaf in leaves):
            return True
    return False


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values that a list of matchers is compared with; objects are not leaves."""
    if isinstance(value, list):
        for element in value:
            yield from _leaves(element)
    elif not isinstance(value, Mapping):
        yield value


def _same(wanted: Any, value: Any) -> bool:
    """Compare with JSON's types: 1, 1.0, "1" and true are four different values."""
    return type(wanted) is type(value) and bool(wanted == value)


def _accepts(matcher: Any, value: Any) -> bool:
    """Return whether one matcher of a list accepts one leaf."""
    if isinstance(matcher, list):
        raise InvalidPatternError("a list of matchers cannot contain a list")
    if not isinstance(matcher, Mapping):
        return _same(matcher, value)
    if len(matcher) != 1:
        raise InvalidPatternError(f"a matcher has exactly one key: {dict(matcher)!r}")
    ((name, argument),) = matcher.items()
    if name not in _MATCHERS:
        raise InvalidPatternError(f"matcher {name!r} is not known")
    return _MATCHERS[name](argument, value)


def _affix(compare: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    """Build `prefix` or `suffix`, both of which may ignore case."""

    def accepts(argument: Any, value: Any) -> bool:
        ignore_case = isinstance(argument, Mapping) and set(argument) == {"equals-ignore-case"}
        wanted = argument["equals-ignore-case"] if ignore_case else argument
        if not isinstance(wanted, str):
            raise InvalidPatternError(f"prefix and suffix take a string, not {argument!r}")
        if not isinstance(value, str):
            return False
        return compare(value.lower(), wanted.lower()) if ignore_case else compare(value, wanted)

    return accepts


def _equals_ignore_case(argument: Any, value: Any) -> bool:
    if not isinstance(argument, str):
        raise InvalidPatternError("equals-ignore-case takes a string")
    return isinstance(value, str) and value.lower() == argument.lower()


def _wildcard(argument: Any, value: Any) -> bool:
    """`*` is any run of characters; a backslash makes the next `*` or backslash literal."""
    if not isinstance(argument, str) or "**" in argument:
        raise InvalidPatternError(f"not a wildcard that EventBridge accepts: {argument!r}")
    parts = re.findall(r"\\[*\\]|\*|[^*\\]+|\\", argument)
    expression = "".join(".*" if part == "*" else re.escape(re.sub(r"^\\([*\\])$", r"\1", part)) for part in parts)
    return isinstance(value, str) and re.fullmatch(expression, value, re.DOTALL) is not None


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda value, limit: value == limit,
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numeric(argument: Any, value: Any) -> bool:
    if not isinstance(argument, list) or len(argument) not in {2, 4}:
        raise InvalidPatternError("numeric takes one or two pairs of an operator and a number")
    pairs = list(zip(argument[::2], argument[1::2], strict=True))
    for operator, limit in pairs:
        if operator not in _COMPARISONS or not _is_number(limit):
            raise InvalidPatternError(f"not a numeric comparison: {operator!r} {limit!r}")
    return _is_number(value) and all(_COMPARISONS[operator](value, limit) for operator, limit in pairs)


def _exists(argument: Any, _: Any) -> bool:
    """`exists: false` is settled before any leaf is looked at; here there is one."""
    if not isinstance(argument, bool):
        raise InvalidPatternError("exists takes true or false")
    return argument


def _anything_but(argument: Any, value: Any) -> bool:
    """Accept every leaf, null included, that none of the excluded values or nested matchers accepts."""
    if isinstance(argument, Mapping):
        if len(argument) != 1 or not set(argument) <= {"prefix", "suffix", "equals-ignore-case", "wildcard"}:
            raise InvalidPatternError(f"anything-but does not take {dict(argument)!r}")
        ((name, nested),) = argument.items()
        alternatives = nested if isinstance(nested, list) else [nested]
        # Every alternative is tried, so that a malformed one is found whatever the value.
        accepted = [_accepts({name: alternative}, value) for alternative in alternatives]
        return not any(accepted)
    excluded = argument if isinstance(argument, list) else [argument]
    if not excluded or not all(isinstance(item, str) or _is_number(item) for item in excluded):
        raise InvalidPatternError("anything-but takes strings or numbers")
    return not any(_same(item, value) for item in excluded)


_MATCHERS: dict[str, Callable[[Any, Any], bool]] = {
    "prefix": _affix(str.startswith),
    "suffix": _affix(str.endswith),
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
    "numeric": _numeric,
    "exists": _exists,
    "anything-but": _anything_but,
}
