"""The scenes of the demo, in the order in which they are played, a room for each kind."""

from __future__ import annotations

from .catalogue import SCENES as CATALOGUE
from .instances import SCENES as INSTANCES
from .limits import BREAKER, EXEMPTION
from .networks import SCENES as NETWORKS
from .organisation import BEGINNING, CHANGES_OF_THE_ORGANISATION, NEWCOMER
from .people import SCENES as PEOPLE
from .scene import Check, Scene
from .terraform import SCENES as TERRAFORM

__all__ = ["NEWCOMER", "SCENES", "Check", "Scene"]

# Where a scene uses what another one made, it comes later; and what is left alone for a day is left alone to the end.
SCENES = (
    BEGINNING,
    *NETWORKS,
    *INSTANCES,
    EXEMPTION,
    *CATALOGUE,
    *TERRAFORM,
    *PEOPLE,
    BREAKER,
    *CHANGES_OF_THE_ORGANISATION,
)
