"""What bootstrap wires for each function: which adapters, and from which variables of the environment."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

from portcullis import bootstrap
from portcullis.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

_OWN = {"actions": "custom_actions"}
"""The functions that bootstrap does not wire, each with the module beside its handler that calls AWS."""

FUNCTIONS = ("actions", "approval", "intake", "reconcile", "survey", "sweep")


@dataclass(frozen=True, slots=True)
class Wiring:
    """The adapter modules (by their last name) and the variables that a function's wiring asked for."""

    adapters: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)


@cache
def of(function: str) -> Wiring:
    """Wire a function as bootstrap does, with nothing behind the adapters; returns what was wired."""
    if function in _OWN:
        return Wiring({_OWN[function]})
    wiring = Wiring()

    def noting(adapter: type) -> Callable[..., Mock]:
        def make(*_: Any, **__: Any) -> Mock:
            wiring.adapters.add(adapter.__module__.rsplit(".", 1)[-1])
            return Mock()

        return make

    def variable(name: str) -> str:
        wiring.variables.add(name)
        return "1"

    doubles: dict[str, Any] = {
        name: noting(value)
        for name, value in vars(bootstrap).items()
        if isinstance(value, type)
        and not issubclass(value, Enum)
        and value.__module__.startswith("portcullis.adapters")
    }
    with (
        patch.multiple(bootstrap, **doubles, _env=variable),
        patch("boto3.Session"),
        patch("portcullis.policy.load", return_value=Mock(Policy, enabled=Mock(return_value=False))),
    ):
        getattr(bootstrap, function).__wrapped__()
    return wiring


def permissions(module: str, name: str = "PERMISSIONS") -> set[str]:
    """Return the IAM actions that an adapter module, or one beside a handler, declares."""
    package = "" if module in _OWN.values() else "portcullis.adapters."
    return set(getattr(importlib.import_module(f"{package}{module}"), name, ()))
