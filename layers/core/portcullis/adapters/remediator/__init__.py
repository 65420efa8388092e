"""The only writes to the networks and instances of others, with the remediator role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from portcullis.actions import Action, AssociateInstanceProfile
from portcullis.adapters.calls import AWS_ERRORS, fault_of
from portcullis.adapters.remediator import connect, endpoints, groups, profiles
from portcullis.adapters.remediator.ec2 import code_of
from portcullis.errors import Fault, PortcullisError, TransientError, is_gone, quota_remedy
from portcullis.model import Outcome, Result

if TYPE_CHECKING:
    from portcullis.adapters.accounts import Accounts
    from portcullis.model import Work

PERMISSIONS = tuple(sorted({*connect.PERMISSIONS, *endpoints.PERMISSIONS, *groups.PERMISSIONS, *profiles.PERMISSIONS}))
"""The IAM actions that this package uses, with the remediator role."""

_PERFORMERS = {**connect.PERFORMERS, **endpoints.PERFORMERS, **groups.PERFORMERS, **profiles.PERFORMERS}


class Ec2Remediator:
    """The Remediator port over EC2."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def perform(self, work: Work, action: Action, change_id: str) -> Outcome:
        """Perform one action. See ports.Remediator."""
        try:
            ec2 = self._accounts.remediator("ec2", work)
            return _PERFORMERS[type(action)](ec2, action, change_id)
        except AWS_ERRORS as error:
            return _refused(action, error, change_id)
        except PortcullisError as error:
            result = Result.RETRY if isinstance(error, TransientError) else Result.FAILED
            return Outcome(action, result, detail=f"Portcullis could not {action}: {error}.")


def _refused(action: Action, error: Exception, change_id: str) -> Outcome:
    """Return the outcome of what AWS refused.

    What is to be taken back and is not there any more was taken back: by somebody else, or by the same change before a
    crash.
    """
    code = code_of(error) if isinstance(error, ClientError) else ""
    if is_gone(code) and action.takes_back:
        made = action.made_in(None, change_id)
        return Outcome(action, Result.APPLIED, made, f"{made} was gone already.")
    fault, text = fault_of(error)
    result = Result.FAILED if fault is Fault.TERMINAL else Result.RETRY
    # Somebody else may have associated the very same profile: that association is theirs.
    refuted = fault is Fault.CONFLICT and isinstance(action, AssociateInstanceProfile)
    detail = f"AWS did not let Portcullis {action}: {text.rstrip('.')}.{quota_remedy(code)}"
    return Outcome(action, result, detail=detail, is_refuted=refuted)
