"""The function of the custom resource, end to end: CloudFormation asks, and is always answered."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import custom_actions
import pytest

from tests.functions.conftest import HUB_ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functions.conftest import Function, Output

ACTION = f"arn:aws:securityhub:{REGION}:{HUB_ACCOUNT}:action/custom/Portcullis"
SECRET = "https://cloudformation-custom-resource-response.example/?X-Amz-Signature=secret"


def request(kind: str) -> dict[str, Any]:
    """Return a request of CloudFormation."""
    stack = f"arn:aws:cloudformation:{REGION}:{HUB_ACCOUNT}:stack/portcullis/guid"
    names = {"StackId": stack, "RequestId": "r-1", "LogicalResourceId": "SecurityHubActions"}
    return {"RequestType": kind, "ResponseURL": SECRET, **names}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Catch what would go to CloudFormation."""
    answers: list[dict[str, Any]] = []

    def take(letter: Any, timeout: float) -> Any:  # noqa: ARG001 - as urlopen has it
        answers.append(json.loads(letter.data))
        return nullcontext()

    monkeypatch.setattr(custom_actions, "urlopen", take)
    return answers


def test_the_custom_actions_are_created(
    actions: Function, refuse: Callable[..., None], answers: list[dict[str, Any]], output: Callable[[], Output]
) -> None:
    """Their ARNs go back to the stack. The address of the answer, which is a secret for a while, is not logged."""
    refuse("securityhub.CreateActionTarget", 200, '{"ActionTargetArn": "arn"}')

    actions(request("Create"))

    (answer,) = answers
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"] == {"RemediateArn": f"{ACTION}Remediate", "UndoArn": f"{ACTION}Undo"}
    written = output()
    assert written.counts == {"Kept": 1}
    assert "secret" not in json.dumps(written.logged)


def test_a_refusal_is_answered(
    actions: Function,
    refuse: Callable[..., None],
    answers: list[dict[str, Any]],
    output: Callable[[], Output],
) -> None:
    """The stack fails with AWS's words, and does not wait."""
    refused = '{"__type": "AccessDeniedException", "message": "no"}'
    for operation in ("CreateActionTarget", "DeleteActionTarget"):
        refuse(f"securityhub.{operation}", 403, refused)

    for asked in ("Create", "Delete"):
        actions(request(asked))

    assert [answer["Status"] for answer in answers] == ["FAILED", "FAILED"]
    assert all("AccessDenied" in answer["Reason"] for answer in answers)
    assert output().counts == {"ProblemKept": 2}


def test_without_security_hub_a_rollback_goes_through(
    actions: Function, refuse: Callable[..., None], answers: list[dict[str, Any]]
) -> None:
    """The creation fails with what to do, and the deletion that follows finds nothing to delete."""
    off = '{"Code": "InvalidAccessException", "Message": "Account 1 is not subscribed to AWS Security Hub"}'
    for operation in ("CreateActionTarget", "DeleteActionTarget"):
        refuse(f"securityhub.{operation}", 401, off)

    for asked in ("Create", "Delete"):
        actions(request(asked))

    assert [answer["Status"] for answer in answers] == ["FAILED", "SUCCESS"]
    assert "switch it on" in answers[0]["Reason"]
    assert len({answer["PhysicalResourceId"] for answer in answers}) == 1
