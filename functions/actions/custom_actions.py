"""The custom actions of Security Hub, kept by a custom resource of the hub's stack: CloudFormation knows no such type.

CloudFormation waits for an answer until the resource's timeout, so every request is answered, whatever goes wrong.
Sources: "Custom resource request and response reference" (CloudFormation user guide); CreateActionTarget,
UpdateActionTarget and DeleteActionTarget (Security Hub API reference).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from portcullis.adapters.calls import translated
from portcullis.errors import SecurityHubOffError
from portcullis.model import Ask
from portcullis.triggers import ACTION_IDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.ports import Journal

PERMISSIONS = (
    "securityhub:CreateActionTarget",
    "securityhub:DeleteActionTarget",
    "securityhub:UpdateActionTarget",
)
"""The IAM actions that this module uses, with the function's own role."""

PHYSICAL_ID = "portcullis-custom-actions"
"""Always the same, also for a creation that failed: another one would have CloudFormation delete what it replaces."""

_TEXTS = {  # names: at most 20 characters
    Ask.REMEDIATE: ("Remediate", "Let Portcullis make the change that the finding proposes"),
    Ask.UNDO: ("Undo", "Let Portcullis take back the last change that it made for the finding"),
}
_OUTPUTS = {Ask.REMEDIATE: "RemediateArn", Ask.UNDO: "UndoArn"}
_LONGEST_REASON = 1000  # an answer has 4096 bytes at most
_ATTEMPTS = 3
_TIMEOUT = 5


class CustomActions:
    """Answers CloudFormation's requests about the custom actions of this account and Region.

    Args:
        client: A Security Hub client of the hub, in the stack's Region.
        journal: Where it says what it did.
    """

    def __init__(self, client: Any, journal: Journal) -> None:
        self._client = client
        self._journal = journal

    def handle(self, request: Mapping[str, Any]) -> None:
        """Create, rename or remove the custom actions, and tell CloudFormation how that went.

        Raises:
            OSError: The answer could not be delivered; Lambda then invokes the function again.
        """
        data: dict[str, str] = {}
        try:
            if request["RequestType"] == "Delete":
                self._remove(request["StackId"])
            else:
                data = self._keep(request["StackId"])
        # Without an answer, a bug of ours too, CloudFormation waits for an hour, and the deployment with it.
        except Exception as error:  # noqa: BLE001 - every error has to be answered with FAILED
            status, reason = "FAILED", f"{type(error).__name__}: {error}"
            self._journal.problem("kept", reason, request=str(request.get("RequestType")))
        else:
            status, reason = "SUCCESS", ""
            self._journal.step("kept", "the custom actions are as the stack wants them", request=request["RequestType"])
        answer = {name: request[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
        answer |= {"Status": status, "Reason": reason[:_LONGEST_REASON], "PhysicalResourceId": PHYSICAL_ID}
        _put(request["ResponseURL"], json.dumps(answer | {"Data": data}).encode())

    def _keep(self, stack_arn: str) -> dict[str, str]:
        """Have both custom actions as they shall be; returns their ARNs."""
        place = _place(stack_arn)
        for ask, (name, description) in _TEXTS.items():
            texts = {"Name": name, "Description": description}
            with translated(f"creating the custom action {name} in {place}"):
                try:
                    self._client.create_action_target(Id=ACTION_IDS[ask], **texts)
                except self._client.exceptions.ResourceConflictException:
                    self._client.update_action_target(ActionTargetArn=_arn(stack_arn, ask), **texts)
                except self._client.exceptions.InvalidAccessException as error:
                    raise SecurityHubOffError(
                        f"Security Hub is switched off in {place}, where the hub is: switch it on "
                        "(aws securityhub enable-security-hub), then deploy again"
                    ) from error
        return {_OUTPUTS[ask]: _arn(stack_arn, ask) for ask in _TEXTS}

    def _remove(self, stack_arn: str) -> None:
        for ask in _TEXTS:
            with translated(f"deleting the custom action {ACTION_IDS[ask]} in {_place(stack_arn)}"):
                gone = (
                    self._client.exceptions.ResourceNotFoundException,
                    self._client.exceptions.InvalidAccessException,  # where Security Hub is off, there is none either
                )
                try:
                    self._client.delete_action_target(ActionTargetArn=_arn(stack_arn, ask))
                except gone:
                    continue


def _place(stack_arn: str) -> str:
    _, _, _, region, account_id, _ = stack_arn.split(":", 5)
    return f"{account_id} {region}"


def _arn(stack_arn: str, ask: Ask) -> str:
    """Return a custom action's ARN: it is in the account and Region of the stack."""
    _, partition, _, region, account_id, _ = stack_arn.split(":", 5)
    return f"arn:{partition}:securityhub:{region}:{account_id}:action/custom/{ACTION_IDS[ask]}"


def _put(url: str, body: bytes) -> None:
    """Put the answer where CloudFormation reads it: an address of S3, signed for a request without a content type."""
    headers = {"Content-Type": ""}
    request = Request(url, data=body, method="PUT", headers=headers)  # noqa: S310 - CloudFormation's own https address
    attempt = 1
    while True:
        try:
            with urlopen(request, timeout=_TIMEOUT):  # noqa: S310 - CloudFormation's own https address
                return
        except (URLError, TimeoutError):
            if attempt == _ATTEMPTS:
                raise
        time.sleep(attempt)
        attempt += 1
