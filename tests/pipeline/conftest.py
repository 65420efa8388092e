"""One running organisation for the tests of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.demo import PARAMETERS
from local.organisation import LocalOrganisation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def organisation() -> Iterator[LocalOrganisation]:
    """The local organisation, with Portcullis deployed from the real templates; nothing is underway in it."""
    with LocalOrganisation(parameters=PARAMETERS, schedules_at_once=False) as running:
        yield running
