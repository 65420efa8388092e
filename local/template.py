"""Reads a SAM or CloudFormation template, and resolves what it says against what exists already.

Only what the project's templates use is understood; anything else is an error that names the place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Create = Callable[[str, Mapping[str, Any], "Scope"], "Created"]

# The property of each SAM type that names a folder or a file of the checkout.
_FOLDERS = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
_FILES = {"AWS::Serverless::StateMachine": "DefinitionUri"}
# SAM's translator wants these to be in S3: this bucket stands for the checkout, and a key for id and path.
_CHECKOUT = "checkout"
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_NO_VALUE = object()


class TemplateError(Exception):
    """The template cannot be deployed; the message names the place and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """The folder of a function or layer, or the file of a definition."""

    logical_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Created:
    """A resource that exists: what Ref gives, and what GetAtt gives."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Template:
    """A translated template."""

    path: Path
    body: Mapping[str, Any]

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a top-level mapping, such as Parameters; an empty one if the template has none."""
        return self.body.get(name) or {}

    def source(self, location: Mapping[str, Any]) -> Source:
        """Return the folder or file behind a Code, Content or DefinitionS3Location property."""
        bucket, key = (location.get(f"S3{name}", location.get(name)) for name in ("Bucket", "Key"))
        if bucket != _CHECKOUT:
            raise TemplateError("code must come from the checkout; set CodeUri, ContentUri or DefinitionUri")
        logical_id, _, path = str(key).partition("/")
        return Source(logical_id, self.file(path))

    def file(self, path: str) -> Path:
        """Return a file or folder that the template names by a path relative to its own."""
        found = (self.path.parent / path).resolve()
        if not found.exists():
            raise TemplateError(f"there is no {path} next to {self.path.name}")
        return found


def load(path: Path, parameters: Mapping[str, str] | None = None) -> Template:
    """Read a template and translate what is SAM in it, or raise TemplateError; SAM may need `parameters`."""
    try:
        body = yaml_parse(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise TemplateError(f"{path.name}: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("Resources"), dict):
        raise TemplateError(f"{path.name}: a template needs a mapping named Resources")
    if "Transform" not in body:
        return Template(path, body)
    _replace_paths(body, path)
    # All that the translator asks of its session is a Region, from which it derives the partition.
    translator = Translator({}, Parser(), boto_session=SimpleNamespace(region_name="us-east-1"))
    try:
        return Template(path, translator.translate(body, dict(parameters or {})))
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes)
        raise TemplateError(f"{path.name}: not valid SAM: {causes}") from error
    finally:
        translator.metrics.publish()  # to nowhere; it complains at exit when nobody has called this


def _replace_paths(body: Mapping[str, Any], path: Path) -> None:
    for logical_id, resource in body["Resources"].items():
        if key := {**_FOLDERS, **_FILES}.get(resource["Type"]):
            named = path.parent / str(resource["Properties"].get(key))
            if not (named.is_dir() if key in _FOLDERS.values() else named.is_file()):
                kind = "folder" if key in _FOLDERS.values() else "file"
                raise TemplateError(
                    f"{path.name}: {logical_id}.{key}: there is no {kind} {resource['Properties'].get(key)}"
                )
            resource["Properties"][key] = f"s3://{_CHECKOUT}/{logical_id}/{resource['Properties'][key]}"


class Scope:
    """Resolves the values of one template; a resource is created when something first refers to it."""

    def __init__(self, template: Template, parameters: Mapping[str, str], create: Create, **pseudo: str) -> None:
        """Take overrides of parameters, what creates a resource, and the values of AWS::<name> as `pseudo`."""
        self.template = template
        self._create = create
        self._created: dict[str, Created | None] = {}  # None while a resource is being created
        self._values: dict[str, Any] = {f"AWS::{name}": value for name, value in pseudo.items()}
        self._values |= {"AWS::NoValue": _NO_VALUE, **_parameter_values(template, parameters)}

    def create_all(self) -> dict[str, str]:
        """Create every resource, each after those that it refers to, and return the template's outputs."""
        for logical_id in self.template.section("Resources"):
            self._existing(logical_id, self.template.path.name)
        outputs = self.resolve(self.template.section("Outputs"), f"{self.template.path.name}: outputs")
        return {name: str(output["Value"]) for name, output in outputs.items()}

    def resolve(self, value: Any, place: str) -> Any:
        """Return `value` with every intrinsic replaced, or raise TemplateError with `place`."""
        if isinstance(value, list):
            items = [self.resolve(item, f"{place}[{index}]") for index, item in enumerate(value)]
            return [item for item in items if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        # Condition is no intrinsic here: it is an ordinary key of every IAM policy.
        if any(key == "Ref" or str(key).startswith("Fn::") for key in value):
            return self._intrinsic(value, place)
        pairs = {key: self.resolve(item, f"{place}.{key}") for key, item in value.items()}
        return {key: item for key, item in pairs.items() if item is not _NO_VALUE}

    def _intrinsic(self, value: Mapping[str, Any], place: str) -> Any:
        match next(iter(value.items())) if len(value) == 1 else None:
            case "Ref", str(name):
                result = self._value(name, place)
            case "Fn::GetAtt", [str(name), str(attribute)]:
                result = self._value(f"{name}.{attribute}", place)
            case "Fn::Sub", str(text):
                result = _PLACEHOLDER.sub(lambda found: _text(self._value(found[1], place)), text)
            case "Fn::Join", [str(delimiter), parts] if isinstance(items := self.resolve(parts, place), list):
                result = delimiter.join(_text(item) for item in items)
            case "Fn::Equals", [left, right]:
                result = _text(self.resolve(left, place)) == _text(self.resolve(right, place))
            case "Fn::Not", [operand]:
                result = not self.resolve(operand, place)
            case "Fn::If", [str(name), when_true, when_false]:
                # Only the chosen branch: the other may refer to what does not exist.
                result = self.resolve(when_true if self._condition(name, place) else when_false, place)
            case _:
                raise TemplateError(f"{place}: cannot resolve {sorted(value)}; teach local/template.py")
        return result

    def _value(self, name: str, place: str) -> Any:
        """Return what `${name}` stands for: a parameter, a resource, or a resource's attribute."""
        if name in self._values:
            return self._values[name]
        logical_id, dot, attribute = name.partition(".")
        created = self._existing(logical_id, place)
        if dot and attribute not in created.attributes:
            raise TemplateError(f"{place}: {logical_id} has no attribute {attribute}; teach local/resources.py")
        return created.attributes[attribute] if dot else created.ref

    def _condition(self, name: str, place: str) -> Any:
        conditions = self.template.section("Conditions")
        if name not in conditions:
            raise TemplateError(f"{place}: there is no condition {name}")
        return self.resolve(conditions[name], f"{self.template.path.name}: condition {name}")

    def _existing(self, name: str, place: str) -> Created:
        if name not in self._created:
            resources = self.template.section("Resources")
            if name not in resources:
                raise TemplateError(f"{place}: {name} is neither a parameter nor a resource")
            self._created[name] = None
            needed = resources[name].get("DependsOn", [])
            for other in needed if isinstance(needed, list) else [needed]:
                self._existing(other, f"{place}: {name} depends on it")
            self._created[name] = self._create(name, resources[name], self)
        created = self._created[name]
        if created is None:
            raise TemplateError(f"{place}: a circle of references: {name} needs itself")
        return created


def _parameter_values(template: Template, overrides: Mapping[str, str]) -> dict[str, str | list[str]]:
    name, declared = template.path.name, template.section("Parameters")
    if unknown := sorted(set(overrides) - set(declared)):
        raise TemplateError(f"{name}: there is no parameter {', '.join(unknown)}")
    values: dict[str, str | list[str]] = {}
    for parameter, declaration in declared.items():
        if parameter not in overrides and "Default" not in declaration:
            raise TemplateError(f"{name}: parameter {parameter} has no default: give it a value")
        if declaration["Type"] not in ("String", "Number", "CommaDelimitedList"):
            raise TemplateError(f"{name}: {parameter}: type {declaration['Type']} is not known here")
        text = str(overrides.get(parameter, declaration.get("Default")))
        items = [item.strip() for item in text.split(",")] if declaration["Type"] == "CommaDelimitedList" else [text]
        # Of a list, each item must match.
        if bad := [item for item in items if not re.fullmatch(declaration.get("AllowedPattern", "(?s).*"), item)]:
            raise TemplateError(f"{name}: {parameter}: {', '.join(bad)} does not match its AllowedPattern")
        values[parameter] = items if declaration["Type"] == "CommaDelimitedList" else text
    return values


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise TemplateError(f"{value!r} is no text; join it")
    return str(value).lower() if isinstance(value, bool) else str(value)
