"""The changes that Portcullis can make, and what undoes each. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from portcullis.actions.action import Action, listed, short_name
from portcullis.actions.connect import (
    AdmitInstanceConnect,
    CreateInstanceConnectEndpoint,
    DeleteInstanceConnectEndpoint,
    DeleteSecurityGroup,
    StopAdmitting,
)
from portcullis.actions.endpoints import (
    AddRouteTables,
    CreateGatewayEndpoint,
    CreateInterfaceEndpoint,
    DeleteEndpoint,
    RemoveFromEndpoint,
    RestoreEndpointPolicy,
    SetEndpointPolicy,
    left_by,
)
from portcullis.actions.profiles import AssociateInstanceProfile, DisassociateInstanceProfile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ACTIONS",
    "Action",
    "AddRouteTables",
    "AdmitInstanceConnect",
    "AssociateInstanceProfile",
    "CreateGatewayEndpoint",
    "CreateInstanceConnectEndpoint",
    "CreateInterfaceEndpoint",
    "DeleteEndpoint",
    "DeleteInstanceConnectEndpoint",
    "DeleteSecurityGroup",
    "DisassociateInstanceProfile",
    "RemoveFromEndpoint",
    "RestoreEndpointPolicy",
    "SetEndpointPolicy",
    "StopAdmitting",
    "decode",
    "described",
    "encode",
    "fingerprint",
    "left_by",
    "listed",
    "short_name",
]

ACTIONS: tuple[type[Action], ...] = (
    AddRouteTables,
    AdmitInstanceConnect,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    CreateInstanceConnectEndpoint,
    CreateInterfaceEndpoint,
    DeleteEndpoint,
    DeleteInstanceConnectEndpoint,
    DeleteSecurityGroup,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
    RestoreEndpointPolicy,
    SetEndpointPolicy,
    StopAdmitting,
)

_SHOWN = 10  # short names
_TYPES = {kind.__name__: kind for kind in ACTIONS}


def described(actions: Sequence[Action]) -> str:
    """Say what some actions will do, as a phrase after 'will'; many interface endpoints in a few words."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in actions:
        if isinstance(one, CreateInterfaceEndpoint):
            alike.setdefault(one.subnet_ids, []).append(short_name(one.service_name))
    phrases = [
        f"create interface endpoints for {listed(names, _SHOWN)} in {listed(subnet_ids)}"
        for subnet_ids, names in alike.items()
    ]
    return " and ".join([*phrases, *(str(one) for one in actions if not isinstance(one, CreateInterfaceEndpoint))])


def fingerprint(action: Action) -> str:
    """Return what equal actions have in common and others do not, as a few characters."""
    told = [f"{one.name}={getattr(action, one.name)!r}" for one in fields(action) if one.compare]
    return hashlib.sha256("|".join((type(action).__name__, *told)).encode()).hexdigest()[:12]


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
