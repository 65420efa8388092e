"""The changes that Portcullis can make, and what undoes each. Pure.

An action is a value: it can be written down, read again, compared with what is there, and turned around.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from portcullis.model import Instance, Vpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portcullis.model import Resource


_SHOWN = 4


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """List names for people, the first few of many."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


@dataclass(frozen=True, slots=True)
class CreateGatewayEndpoint:
    """Create a gateway endpoint, tagged as ours, on the given route tables."""

    control_id: str
    vpc_id: str
    service_name: str
    route_table_ids: tuple[str, ...]

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"create a {self.service_name} gateway endpoint on {listed(self.route_table_ids)}"


@dataclass(frozen=True, slots=True)
class AddRouteTables:
    """Add route tables to a gateway endpoint that is ours."""

    control_id: str
    vpc_id: str
    endpoint_id: str
    service_name: str
    route_table_ids: tuple[str, ...]

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"add {listed(self.route_table_ids)} to {self.endpoint_id} ({self.service_name})"


@dataclass(frozen=True, slots=True)
class RemoveRouteTables:
    """Take route tables off a gateway endpoint that is ours: undoes AddRouteTables, or makes way."""

    control_id: str
    vpc_id: str
    endpoint_id: str
    service_name: str
    route_table_ids: tuple[str, ...]

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"take {listed(self.route_table_ids)} off {self.endpoint_id} ({self.service_name})"


@dataclass(frozen=True, slots=True)
class DeleteEndpoint:
    """Delete an endpoint that is ours: undoes its creation, or makes way."""

    control_id: str
    vpc_id: str
    endpoint_id: str
    service_name: str

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"delete {self.endpoint_id} ({self.service_name})"


@dataclass(frozen=True, slots=True)
class AssociateInstanceProfile:
    """Associate an instance profile with an instance that has none."""

    control_id: str
    instance_id: str
    profile_name: str

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"associate the instance profile {self.profile_name} with {self.instance_id}"


@dataclass(frozen=True, slots=True)
class DisassociateInstanceProfile:
    """End an association of an instance profile that is ours."""

    control_id: str
    instance_id: str
    profile_name: str
    association_id: str

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"take the instance profile {self.profile_name} off {self.instance_id} ({self.association_id})"


Action = (
    CreateGatewayEndpoint
    | AddRouteTables
    | RemoveRouteTables
    | DeleteEndpoint
    | AssociateInstanceProfile
    | DisassociateInstanceProfile
)

_TYPES: dict[str, type[Action]] = {kind.__name__: kind for kind in Action.__args__}

_ALIVE = ("available", "pending")


def encode(action: Action) -> dict[str, Any]:
    """Write an action as JSON values."""
    return {"type": type(action).__name__, **asdict(action)}


def decode(data: Mapping[str, Any]) -> Action:
    """Read what ``encode`` wrote.

    Raises:
        KeyError, TypeError: It is not what ``encode`` writes.
    """
    kind: Any = _TYPES[data["type"]]
    values = {field.name: data[field.name] for field in fields(kind)}
    made: Action = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    return made


def takes_back(action: Action) -> bool:
    """Tell whether an action only removes something of ours."""
    return isinstance(action, RemoveRouteTables | DeleteEndpoint | DisassociateInstanceProfile)


def inverse(action: Action, made: str) -> Action | None:
    """Return the action that undoes one, which made (or changed) ``made``; None for what takes something back."""
    match action:
        case CreateGatewayEndpoint():
            return DeleteEndpoint(action.control_id, action.vpc_id, made, action.service_name)
        case AddRouteTables():
            return RemoveRouteTables(
                action.control_id, action.vpc_id, action.endpoint_id, action.service_name, action.route_table_ids
            )
        case AssociateInstanceProfile():
            return DisassociateInstanceProfile(action.control_id, action.instance_id, action.profile_name, made)
        case _:
            return None


def accomplished(action: Action, resource: Resource | None, change_id: str) -> str | None:
    """Tell from what is there whether an action was performed: what it made or changed, or None.

    ``change_id`` is how an endpoint is known to be the one that this very change created. With a resource that is gone,
    what was to be taken off it is gone, too.
    """
    if resource is None:
        return _taken_off(action)
    if isinstance(resource, Instance):
        return _on_instance(action, resource)
    return _on_vpc(action, resource, change_id)


def _taken_off(action: Action) -> str | None:
    match action:
        case RemoveRouteTables() | DeleteEndpoint():
            return action.endpoint_id
        case DisassociateInstanceProfile():
            return action.association_id
        case _:
            return None


def _on_instance(action: Action, instance: Instance) -> str | None:
    profile = instance.profile.name if instance.profile else None
    match action:
        case AssociateInstanceProfile() if profile == action.profile_name:
            return instance.association_id
        case DisassociateInstanceProfile() if instance.association_id != action.association_id:
            return action.association_id
        case _:
            return None


def _on_vpc(action: Action, vpc: Vpc, change_id: str) -> str | None:
    match action:
        case CreateGatewayEndpoint():
            found = [one for one in vpc.endpoints if one.change_id == change_id and one.state in _ALIVE]
            return found[0].endpoint_id if found else None
        case AddRouteTables() | RemoveRouteTables():
            endpoint = vpc.endpoint(action.endpoint_id)
            on_it = set(endpoint.route_table_ids if endpoint else ()) & set(action.route_table_ids)
            wanted = set(action.route_table_ids) if isinstance(action, AddRouteTables) else set()
            return action.endpoint_id if on_it == wanted else None
        case DeleteEndpoint() if vpc.endpoint(action.endpoint_id) is None:
            return action.endpoint_id
        case _:
            return None


def state_of(action: Action, resource: Resource | None) -> dict[str, Any]:
    """Return, as JSON values for the ledger, what an action is about to change."""
    match action:
        case CreateGatewayEndpoint() if isinstance(resource, Vpc):
            same = [one for one in resource.endpoints if one.service_name == action.service_name]
            return {"endpoints": {one.endpoint_id: list(one.route_table_ids) for one in same}}
        case AddRouteTables() | RemoveRouteTables() | DeleteEndpoint() if isinstance(resource, Vpc):
            endpoint = resource.endpoint(action.endpoint_id)
            return {"route_table_ids": list(endpoint.route_table_ids)} if endpoint else {}
        case AssociateInstanceProfile() | DisassociateInstanceProfile() if isinstance(resource, Instance):
            return {"profile": resource.profile.name if resource.profile else None}
        case _:
            return {}
