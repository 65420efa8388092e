"""What the tests of the local organisation share."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from local.organisation import LocalOrganisation
from tests.local.example import PARAMETERS, write_checkout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout of its own for one test, to be changed at will."""
    return write_checkout(tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that something listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalOrganisation]:
    """One running organisation for a module, with the example deployed; its schedules only run when told to."""
    folder = write_checkout(tmp_path_factory.mktemp("checkout"))
    with LocalOrganisation(checkout=folder, parameters=PARAMETERS, schedules_at_once=False) as organisation:
        yield organisation
