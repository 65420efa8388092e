"""Changes to the instance profile of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis.actions import AssociateInstanceProfile, DisassociateInstanceProfile
from portcullis.model import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable

PERMISSIONS = ("ec2:AssociateIamInstanceProfile", "ec2:DisassociateIamInstanceProfile", "iam:PassRole")
"""The IAM actions that this module uses, with the remediator role."""


def _associate(ec2: Any, action: AssociateInstanceProfile, _: str) -> Outcome:
    association = ec2.associate_iam_instance_profile(
        InstanceId=action.instance_id, IamInstanceProfile={"Name": action.profile_name}
    )["IamInstanceProfileAssociation"]
    made = association["AssociationId"]
    detail = f"Portcullis associated {action.profile_name} with {action.instance_id} ({made})."
    return Outcome(action, Result.APPLIED, made, detail, {"profile": action.profile_name})


def _disassociate(ec2: Any, action: DisassociateInstanceProfile, _: str) -> Outcome:
    ec2.disassociate_iam_instance_profile(AssociationId=action.association_id)
    detail = f"Portcullis took {action.profile_name} off {action.instance_id} ({action.association_id})."
    return Outcome(action, Result.APPLIED, action.association_id, detail, {"profile": None})


PERFORMERS: dict[type, Callable[[Any, Any, str], Outcome]] = {
    AssociateInstanceProfile: _associate,
    DisassociateInstanceProfile: _disassociate,
}
"""What performs each kind of action."""
