"""Resolves parameters, conditions and intrinsic functions against the resources that exist already."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .template import PLACEHOLDER, Created, Resource, Template, TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NO_VALUE = object()


class Scope:
    """Resolves the values of one template for one deployment of it."""

    def __init__(self, template: Template, parameters: Mapping[str, str], pseudo_parameters: Mapping[str, str]) -> None:
        """Take the overrides in `parameters`, and values such as AWS::Region in `pseudo_parameters`."""
        self.template = template
        self.created: dict[str, Created] = {}
        self._values: dict[str, Any] = {"AWS::NoValue": _NO_VALUE, **pseudo_parameters}
        self._values.update(self._parameter_values(parameters))
        self._intrinsics: dict[str, Callable[[Any, str], Any]] = {
            "Ref": self._ref,
            "Condition": self._condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Split": self._split,
            "Fn::Select": self._select,
            "Fn::FindInMap": self._find_in_map,
            "Fn::If": self._if,
            "Fn::Equals": lambda argument, place: _equal(*self._list(argument, 2, place)),
            "Fn::Not": lambda argument, place: not self._list(argument, 1, place)[0],
            "Fn::And": lambda argument, place: all(self._list(argument, None, place)),
            "Fn::Or": lambda argument, place: any(self._list(argument, None, place)),
        }

    def resources(self) -> Iterator[tuple[Resource, str]]:
        """Yield the resources whose condition holds, in dependency order, each with its place."""
        for resource in self.template.resources:
            place = f"{self.template.path.name}: {resource.logical_id}"
            if resource.condition is None or self._condition(resource.condition, place):
                yield resource, place

    def outputs(self) -> dict[str, str]:
        """Return the stack's outputs, once every resource is in `created`."""
        outputs = {}
        for name, output in (self.template.body.get("Outputs") or {}).items():
            place = f"{self.template.path.name}: output {name}"
            if "Condition" not in output or self._condition(output["Condition"], place):
                outputs[name] = str(self.resolve(output["Value"], place))
        return outputs

    def resolve(self, value: Any, place: str) -> Any:
        """Return `value` with every intrinsic function replaced.

        Raises:
            TemplateError: an intrinsic that is unknown, malformed, or refers to nothing; it names `place`.
        """
        if isinstance(value, list):
            items = [self.resolve(item, f"{place}[{index}]") for index, item in enumerate(value)]
            return [item for item in items if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        # Condition is left out: it is also an ordinary key, of every IAM policy.
        intrinsic = next((key for key in value if key == "Ref" or str(key).startswith("Fn::")), None)
        if intrinsic is None:
            pairs = {key: self.resolve(item, f"{place}.{key}") for key, item in value.items()}
            return {key: item for key, item in pairs.items() if item is not _NO_VALUE}
        if intrinsic not in self._intrinsics or len(value) > 1:
            raise TemplateError(f"{place}: cannot resolve {sorted(value)}; teach local/template.py")
        return self._intrinsics[intrinsic](value[intrinsic], place)

    def _parameter_values(self, overrides: Mapping[str, str]) -> dict[str, Any]:
        name = self.template.path.name
        declared: Mapping[str, Any] = self.template.body.get("Parameters") or {}
        if unknown := sorted(set(overrides) - set(declared)):
            raise TemplateError(f"{name}: there is no parameter {', '.join(unknown)}")
        values: dict[str, Any] = {}
        for parameter, declaration in declared.items():
            if parameter not in overrides and "Default" not in declaration:
                raise TemplateError(f"{name}: parameter {parameter} has no default: give it a value")
            value = str(overrides.get(parameter, declaration.get("Default")))
            allowed = [_text(item) for item in declaration.get("AllowedValues", [])]
            pattern = declaration.get("AllowedPattern", "")
            if (allowed and value not in allowed) or (pattern and not re.fullmatch(pattern, value)):
                raise TemplateError(f"{name}: {parameter} may not be {value!r}: {allowed or pattern}")
            least, most = declaration.get("MinValue", "-inf"), declaration.get("MaxValue", "inf")
            if declaration["Type"] == "Number" and not float(least) <= float(value) <= float(most):
                raise TemplateError(f"{name}: {parameter} may not be {value}: it goes from {least} to {most}")
            if declaration["Type"] in ("CommaDelimitedList", "List<String>", "List<Number>"):
                values[parameter] = [item.strip() for item in value.split(",")]
            elif declaration["Type"] in ("String", "Number"):
                values[parameter] = value
            else:
                raise TemplateError(f"{name}: {parameter}: type {declaration['Type']} is not known here")
        return values

    def _ref(self, name: str, place: str) -> Any:
        if name in self._values:
            return self._values[name]
        return self._existing(name, place).ref

    def _existing(self, name: str, place: str) -> Created:
        if name not in self.created:
            raise TemplateError(f"{place}: {name} is neither a parameter nor a resource that was created")
        return self.created[name]

    def _get_att(self, argument: Any, place: str) -> str:
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        attributes = self._existing(name, place).attributes
        if attribute not in attributes:
            raise TemplateError(f"{place}: {name} has no attribute {attribute}; teach local/resources.py")
        return attributes[attribute]

    def _sub(self, argument: Any, place: str) -> str:
        text, variables = (argument, {}) if isinstance(argument, str) else argument
        variables = self.resolve(variables, place)

        def value(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            if name in variables:
                return _text(variables[name])
            return _text(self._get_att(name, place) if "." in name else self._ref(name, place))

        return PLACEHOLDER.sub(value, text)

    def _join(self, argument: Any, place: str) -> str:
        delimiter, parts = self._list(argument, 2, place)
        return str(delimiter).join(_text(part) for part in parts)

    def _split(self, argument: Any, place: str) -> list[str]:
        delimiter, text = self._list(argument, 2, place)
        return str(text).split(str(delimiter))

    def _select(self, argument: Any, place: str) -> Any:
        index, items = self._list(argument, 2, place)
        if not 0 <= int(index) < len(items):
            raise TemplateError(f"{place}: Fn::Select wants item {index} of {len(items)}")
        return items[int(index)]

    def _find_in_map(self, argument: Any, place: str) -> Any:
        name, first, second = self._list(argument, 3, place)
        try:
            return self.template.body["Mappings"][name][first][second]
        except KeyError as error:
            raise TemplateError(f"{place}: Mappings has no {name}.{first}.{second}") from error

    def _if(self, argument: Any, place: str) -> Any:
        condition, when_true, when_false = argument
        # Only the chosen branch: the other may refer to a resource that does not exist.
        return self.resolve(when_true if self._condition(condition, place) else when_false, place)

    def _condition(self, name: str, place: str) -> bool:
        conditions = self.template.body.get("Conditions") or {}
        if name not in conditions:
            raise TemplateError(f"{place}: there is no condition {name}")
        return bool(self._operand(conditions[name], f"{self.template.path.name}: condition {name}"))

    def _operand(self, value: Any, place: str) -> Any:
        if isinstance(value, dict) and set(value) == {"Condition"}:
            return self._condition(value["Condition"], place)
        return self.resolve(value, place)

    def _list(self, argument: Any, length: int | None, place: str) -> list[Any]:
        if not isinstance(argument, list) or (length is not None and len(argument) != length):
            raise TemplateError(f"{place}: expected a list of {length or 'some'} items, not {argument!r}")
        return [self._operand(item, place) for item in argument]


def _text(value: Any) -> str:
    """Return `value` as CloudFormation would write it into a string."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _equal(left: Any, right: Any) -> bool:
    return _text(left) == _text(right)
