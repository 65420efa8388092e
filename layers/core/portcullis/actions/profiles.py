"""Changes to the instance profile of an instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from portcullis.actions.action import Action
from portcullis.model import Instance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.model import Resource


@dataclass(frozen=True, slots=True)
class _OnInstance(Action):
    instance_id: str
    profile_name: str

    def before(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        profile = resource.profile if isinstance(resource, Instance) else None
        return {"profile": profile.name if profile else None}


@dataclass(frozen=True, slots=True)
class AssociateInstanceProfile(_OnInstance):
    """Associate an instance profile with an instance that has none."""

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"associate the instance profile {self.profile_name} with {self.instance_id}"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        if not isinstance(resource, Instance) or resource.profile is None:
            return None
        return resource.association_id if resource.profile.name == self.profile_name else None

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        return DisassociateInstanceProfile(self.control_id, self.instance_id, self.profile_name, made)


@dataclass(frozen=True, slots=True)
class DisassociateInstanceProfile(_OnInstance):
    """End an association of an instance profile that is ours."""

    association_id: str

    takes_back: ClassVar[bool] = True

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"take the instance profile {self.profile_name} off {self.instance_id} ({self.association_id})"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        is_left = isinstance(resource, Instance) and resource.association_id == self.association_id
        return None if is_left else self.association_id
