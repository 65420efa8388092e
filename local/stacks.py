"""What a deployed template consists of, and what a handler of one resource type works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .template import Created, Source, Template, TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .clients import Clients

DEFAULT_CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A Lambda function as the template describes it; `layers` holds the sources of its layers."""

    logical_id: str
    name: str
    arn: str
    account_id: str
    region: str
    runtime: str
    handler: str
    role_arn: str
    timeout: int
    memory_size: int
    log_group: str
    variables: Mapping[str, str]
    code: Source
    layers: tuple[Source, ...]
    reserved_concurrency: int | None


@dataclass(frozen=True, slots=True)
class EventSourceSpec:
    """An SQS queue that feeds a function."""

    queue_arn: str
    function_name: str
    batch_size: int
    batching_window: int
    concurrency: int
    reports_item_failures: bool


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """An SQS queue."""

    logical_id: str
    arn: str


@dataclass
class Stack:
    """One deployed template, and what the local runtime must run for it."""

    name: str
    account_id: str
    region: str
    template: Template
    clients: Clients
    functions: list[FunctionSpec] = field(default_factory=list)
    event_sources: list[EventSourceSpec] = field(default_factory=list)
    queues: list[QueueSpec] = field(default_factory=list)
    layers: dict[str, Source] = field(default_factory=dict)
    dead_letter_arns: set[str] = field(default_factory=set)
    role_names: set[str] = field(default_factory=set)
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One resource to create: its resolved properties, and the stack that it is for."""

    logical_id: str
    place: str
    properties: Mapping[str, Any]
    stack: Stack

    def client(self, service: str) -> Any:
        """Return a client of the stack's account and Region."""
        return self.stack.clients.client(service, self.stack.account_id, self.stack.region)

    def name(self, key: str, suffix: str = "") -> str:
        """Return the name that property `key` gives, or the one that CloudFormation would make up."""
        made_up = f"{self.stack.name}-{self.logical_id}"[: 64 - len(suffix)] + suffix
        return str(self.properties.get(key, made_up))

    def pick(self, *keys: str) -> dict[str, Any]:
        """Return the properties of these names that are given."""
        return {key: self.properties[key] for key in keys if key in self.properties}

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in the stack's account and Region."""
        return f"arn:aws:{service}:{self.stack.region}:{self.stack.account_id}:{resource}"

    def refuse(self, reason: str) -> TemplateError:
        """Return the error that says why this resource cannot be created as it is written."""
        return TemplateError(f"{self.place}: {reason}")


@dataclass(frozen=True, slots=True)
class Handler:
    """How a type is created, the properties it uses, and those it ignores, with the reason."""

    create: Callable[[Wanted], Created]
    uses: tuple[str, ...]
    ignores: Mapping[str, str] = field(default_factory=dict)
