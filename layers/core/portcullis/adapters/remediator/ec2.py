"""How the remediator marks what it makes, and makes calls that may turn out to be needless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.model import CHANGE_TAG, CONTROL_TAG, OWNERSHIP_TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.actions import Action


def tagged(resource_type: str, action: Action, change_id: str) -> list[dict[str, Any]]:
    """Return the TagSpecifications that mark something as ours, for this control and by this change."""
    tags = {OWNERSHIP_TAG: "true", CONTROL_TAG: action.control_id, CHANGE_TAG: change_id}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return [{"ResourceType": resource_type, "Tags": listed}]


def unless(is_fine: Callable[[str], bool], call: Callable[..., Any], **request: Any) -> None:
    """Make a call; an error whose code is fine by ``is_fine`` says that nothing was left to do."""
    try:
        call(**request)
    except ClientError as error:
        if not is_fine(code_of(error)):
            raise


def code_of(error: ClientError) -> str:
    """Return the code of an error of AWS."""
    return str(error.response["Error"].get("Code", ""))
