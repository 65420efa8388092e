"""Reads a SAM or CloudFormation template: what to create, in which order, from which folders."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SOURCE_BUCKET = "local-source"
"""The S3 bucket that stands for folders of the checkout while SAM's translator looks at the template."""

# The property of each SAM type that may name a local folder or file.
_LOCAL_PATHS = {
    "AWS::Serverless::Function": ("Function", "CodeUri"),
    "AWS::Serverless::LayerVersion": ("LayerVersion", "ContentUri"),
    "AWS::Serverless::StateMachine": ("StateMachine", "DefinitionUri"),
}
PLACEHOLDER = re.compile(r"\$\{(!?)([^}]*)\}")
"""What Fn::Sub replaces: `${Name}`, but not `${!Literal}`."""


class TemplateError(Exception):
    """The template cannot be deployed; the message names the place and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of the checkout that SAM would package, and the Metadata that says how."""

    logical_id: str
    path: Path
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the translated template; its properties are not resolved yet."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    condition: str | None


@dataclass(frozen=True, slots=True)
class Created:
    """A resource that exists: what Ref gives, and what GetAtt gives."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Template:
    """A translated template. `resources` is in dependency order; `sources` is keyed by S3Key."""

    path: Path
    body: Mapping[str, Any]
    resources: tuple[Resource, ...]
    sources: Mapping[str, Source]

    def source(self, location: Mapping[str, Any], place: str) -> Source:
        """Return the folder behind a Code or Content property.

        Raises:
            TemplateError: it does not come from a local folder.
        """
        source = self.sources.get(str(location.get("S3Key")))
        if source is None or location.get("S3Bucket") != SOURCE_BUCKET:
            raise TemplateError(f"{place}: code must come from a local folder; set CodeUri or ContentUri")
        return source


def load(path: Path, parameters: Mapping[str, str] | None = None) -> Template:
    """Read the template at `path` and translate what is SAM in it.

    Args:
        path: The YAML file; relative CodeUri, ContentUri and DefinitionUri start at its folder.
        parameters: Values that SAM's translator itself may need.

    Raises:
        TemplateError: it is not YAML, not valid SAM, or its resources refer to each other in a circle.
    """
    try:
        body = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        raise TemplateError(f"{path.name}: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("Resources"), dict):
        raise TemplateError(f"{path.name}: a template needs a mapping named Resources")
    sources: dict[str, Source] = {}
    if "Transform" in body:
        sources = _replace_local_paths(body, path)
        body = _translate(body, path, dict(parameters or {}))
    return Template(path, body, _in_dependency_order(body["Resources"], path), sources)


class _Loader(yaml.SafeLoader):
    """Understands the short forms (!Ref, !Sub, ...), keeps dates as text, and refuses a key given twice."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]  # no other node exists
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _short_form)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)


def _replace_local_paths(body: dict[str, Any], path: Path) -> dict[str, Source]:
    """Put s3 uris where SAM names local folders, and return the folders by S3 key."""
    sources = {}
    for logical_id, resource in body["Resources"].items():
        section, key = _LOCAL_PATHS.get(resource.get("Type"), ("", ""))
        properties = resource.setdefault("Properties", {}) if key else {}
        shared = ((body.get("Globals") or {}).get(section) or {}).get(key)
        uri = properties.get(key, shared)
        if not isinstance(uri, str) or uri.startswith("s3://"):
            continue
        target = path.parent / uri
        if not target.exists():
            raise TemplateError(f"{path.name}: {logical_id}.{key}: there is no {target}")
        properties[key] = f"s3://{SOURCE_BUCKET}/{logical_id}"
        sources[logical_id] = Source(logical_id, target.resolve(), resource.get("Metadata") or {})
    return sources


def _translate(body: dict[str, Any], path: Path, parameters: dict[str, str]) -> dict[str, Any]:
    # All that the translator asks of its session is a Region, from which it derives the partition.
    translator = Translator({}, Parser(), boto_session=SimpleNamespace(region_name="us-east-1"))
    try:
        translated: dict[str, Any] = translator.translate(copy.deepcopy(body), parameters)
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes)
        raise TemplateError(f"{path.name}: not valid SAM: {causes}") from error
    finally:
        translator.metrics.publish()  # to nowhere; it complains at exit when nobody has called this
    return translated


def _in_dependency_order(resources: Mapping[str, Any], path: Path) -> tuple[Resource, ...]:
    graph: dict[str, list[str]] = {}
    for logical_id, resource in resources.items():
        depends_on = resource.get("DependsOn", [])
        named = [depends_on] if isinstance(depends_on, str) else list(depends_on)
        named += _references(resource.get("Properties"))
        graph[logical_id] = [name for name in named if name in resources and name != logical_id]
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise TemplateError(f"{path.name}: a circle of references: {' -> '.join(error.args[1])}") from error
    return tuple(
        Resource(name, item["Type"], item.get("Properties") or {}, item.get("Condition"))
        for name, item in ((name, resources[name]) for name in order)
    )


def _references(value: Any) -> Iterator[str]:
    """Yield every name that `value` refers to, whether or not a resource has it."""
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "Ref":
                yield str(item)
            elif key == "Fn::GetAtt":
                yield (item.split(".", 1) if isinstance(item, str) else item)[0]
            elif key == "Fn::Sub":
                text = item if isinstance(item, str) else item[0]
                yield from (name.split(".")[0] for literal, name in PLACEHOLDER.findall(text) if not literal)
            yield from _references(item)
