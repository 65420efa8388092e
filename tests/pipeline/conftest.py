"""One running organisation for the tests of a module."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from local.demo import PARAMETERS, POLICY
from local.organisation import LocalOrganisation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _policy() -> Iterator[None]:
    """Deploy the demo's policy, whatever the checkout's says."""
    with patch.dict(os.environ, {"POLICY": str(POLICY)}):
        yield


@pytest.fixture(scope="module")
def organisation() -> Iterator[LocalOrganisation]:
    """The local organisation, with Portcullis deployed from the real templates; nothing is underway in it."""
    with LocalOrganisation(parameters=PARAMETERS, schedules_at_once=False) as running:
        yield running
