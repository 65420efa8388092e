"""The custom resource that keeps Security Hub's custom actions: CloudFormation is always answered."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

import custom_actions
import pytest
from custom_actions import PHYSICAL_ID, CustomActions

from tests.adapters.doubles import ACCOUNT, REGION, Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.request import Request

URL = "https://cloudformation-custom-resource-response-eucentral1.s3.amazonaws.com/arn?signed"
ACTION = f"arn:aws-cn:securityhub:{REGION}:{ACCOUNT}:action/custom/Portcullis"
REMEDIATE = {
    "Id": "PortcullisRemediate",
    "Name": "Remediate",
    "Description": "Let Portcullis make the change that the finding proposes",
}
UNDO = {
    "Id": "PortcullisUndo",
    "Name": "Undo",
    "Description": "Let Portcullis take back the last change that it made for the finding",
}


def request(kind: str, **more: Any) -> dict[str, Any]:
    """Return a request of CloudFormation."""
    stack = f"arn:aws-cn:cloudformation:{REGION}:{ACCOUNT}:stack/portcullis/guid"
    names = {"StackId": stack, "RequestId": "r-1", "LogicalResourceId": "SecurityHubActions"}
    return {"RequestType": kind, "ResponseURL": URL, "ResourceType": "Custom::SecurityHubActions", **names, **more}


class Journal:
    """Remembers which steps were problems."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, bool]] = []

    def step(self, step: str, _: str, /, **__: object) -> None:
        """Record a step."""
        self.steps.append((step, False))

    def problem(self, step: str, _: str, /, **__: object) -> None:
        """Record a problem."""
        self.steps.append((step, True))


class Mailbox:
    """Stands where CloudFormation's answers go."""

    def __init__(self) -> None:
        self.letters: list[Request] = []
        self.troubles: list[Exception] = []

    def open(self, letter: Request, timeout: float) -> Any:
        """Take an answer, or fail."""
        assert 0 < timeout <= 10
        if self.troubles:
            raise self.troubles.pop(0)
        self.letters.append(letter)
        return nullcontext()

    @property
    def answer(self) -> dict[str, Any]:
        """The one answer that came."""
        (letter,) = self.letters
        assert isinstance(letter.data, bytes)
        read: dict[str, Any] = json.loads(letter.data)
        return read


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """Catch what would go to CloudFormation."""
    mailbox = Mailbox()
    monkeypatch.setattr(custom_actions, "urlopen", mailbox.open)
    return mailbox


@pytest.fixture
def hub(script: Callable[[str], Script]) -> Script:
    """Return a scripted Security Hub."""
    return script("securityhub")


def handle(hub: Script, given: dict[str, Any]) -> Journal:
    """Handle a request; returns what was noted."""
    journal = Journal()
    CustomActions(hub.client, journal).handle(given)
    return journal


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_both_actions_are_created_and_their_arns_returned(hub: Script, mailbox: Mailbox, kind: str) -> None:
    """An update mends what somebody deleted. The ARNs are those that the rule waits for."""
    for action in (REMEDIATE, UNDO):
        hub.expect("create_action_target", {"ActionTargetArn": "arn"}, action)

    journal = handle(hub, request(kind))

    assert mailbox.answer == {
        "Status": "SUCCESS",
        "Reason": "",
        "PhysicalResourceId": PHYSICAL_ID,
        "StackId": f"arn:aws-cn:cloudformation:{REGION}:{ACCOUNT}:stack/portcullis/guid",
        "RequestId": "r-1",
        "LogicalResourceId": "SecurityHubActions",
        "Data": {"RemediateArn": f"{ACTION}Remediate", "UndoArn": f"{ACTION}Undo"},
    }
    assert journal.steps == [("kept", False)]


def test_the_answer_is_put_as_it_was_signed(hub: Script, mailbox: Mailbox) -> None:
    """A presigned PUT of S3, without a content type."""
    for action in (REMEDIATE, UNDO):
        hub.expect("create_action_target", {"ActionTargetArn": "arn"}, action)

    handle(hub, request("Create"))

    (letter,) = mailbox.letters
    assert (letter.get_method(), letter.full_url, letter.get_header("Content-type")) == ("PUT", URL, "")


def test_names_and_ids_are_short_enough() -> None:
    """Twenty characters each, and ids of letters and digits."""
    for action in (REMEDIATE, UNDO):
        assert len(action["Id"]) <= 20
        assert action["Id"].isalnum()
        assert len(action["Name"]) <= 20


def test_an_action_that_exists_is_renamed(hub: Script, mailbox: Mailbox) -> None:
    """A stack that was deleted and failed to remove it can be deployed again."""
    hub.refuse("create_action_target", "ResourceConflictException", status=409)
    texts = {name: REMEDIATE[name] for name in ("Name", "Description")}
    hub.expect("update_action_target", {}, {"ActionTargetArn": f"{ACTION}Remediate", **texts})
    hub.expect("create_action_target", {"ActionTargetArn": "arn"}, UNDO)

    handle(hub, request("Create"))

    assert mailbox.answer["Status"] == "SUCCESS"
    assert mailbox.answer["Data"]["RemediateArn"] == f"{ACTION}Remediate"


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_security_hub_switched_off_is_told_in_plain_words(hub: Script, mailbox: Mailbox, kind: str) -> None:
    """The stack fails at once, and says what to do."""
    hub.refuse("create_action_target", "InvalidAccessException", "Account 1 is not subscribed to AWS Security Hub", 401)

    journal = handle(hub, request(kind))

    assert (mailbox.answer["Status"], mailbox.answer["PhysicalResourceId"]) == ("FAILED", PHYSICAL_ID)
    assert f"Security Hub is switched off in {ACCOUNT} {REGION}" in mailbox.answer["Reason"]
    assert "switch it on (aws securityhub enable-security-hub), then deploy again" in mailbox.answer["Reason"]
    assert mailbox.answer["Data"] == {}
    assert journal.steps == [("kept", True)]


@pytest.mark.parametrize("code", ["AccessDeniedException", "LimitExceededException", "InternalException"])
@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_every_other_refusal_is_answered_too(hub: Script, mailbox: Mailbox, kind: str, code: str) -> None:
    """With the code and the message, cut to what an answer may hold."""
    hub.refuse("delete_action_target" if kind == "Delete" else "create_action_target", code, "no " * 5000)

    handle(hub, request(kind))

    assert mailbox.answer["Status"] == "FAILED"
    assert code in mailbox.answer["Reason"]
    (letter,) = mailbox.letters
    assert isinstance(letter.data, bytes)
    assert len(letter.data) < 4096


@pytest.mark.parametrize("fault", [{"StackId": "no ARN"}, {"RequestType": None}])
def test_a_bug_of_ours_is_answered_too(hub: Script, mailbox: Mailbox, fault: dict[str, Any]) -> None:
    """A request that nobody foresaw does not leave CloudFormation waiting."""
    if "RequestType" in fault:
        hub.refuse("create_action_target", "ValidationException")

    handle(hub, request("Create") | fault)

    assert mailbox.answer["Status"] == "FAILED"


def test_deletion_removes_both(hub: Script, mailbox: Mailbox) -> None:
    """Nothing of ours stays in Security Hub's menu."""
    for name in ("Remediate", "Undo"):
        hub.expect("delete_action_target", {"ActionTargetArn": "arn"}, {"ActionTargetArn": f"{ACTION}{name}"})

    handle(hub, request("Delete", PhysicalResourceId=PHYSICAL_ID))

    assert (mailbox.answer["Status"], mailbox.answer["Data"]) == ("SUCCESS", {})


@pytest.mark.parametrize(
    ("code", "status"), [("ResourceNotFoundException", 404), ("InvalidAccessException", 401)], ids=["gone", "off"]
)
def test_deleting_what_is_not_there_is_fine(hub: Script, mailbox: Mailbox, code: str, status: int) -> None:
    """So a creation that failed, with Security Hub off too, can be rolled back."""
    for _ in range(2):
        hub.refuse("delete_action_target", code, status=status)

    handle(hub, request("Delete", PhysicalResourceId=PHYSICAL_ID))

    assert mailbox.answer["Status"] == "SUCCESS"


NOT_NOW = HTTPError(URL, 503, "Slow Down", None, None)  # type: ignore[arg-type]  # a response without headers or body


@pytest.mark.parametrize("trouble", [URLError("no route"), TimeoutError(), NOT_NOW])
def test_an_answer_is_put_again(hub: Script, mailbox: Mailbox, naps: list[float], trouble: Exception) -> None:
    """The way to S3 may be bad for a moment."""
    for _ in range(2):
        hub.refuse("delete_action_target", "ResourceNotFoundException", status=404)
    mailbox.troubles = [trouble, trouble]

    handle(hub, request("Delete"))

    assert mailbox.answer["Status"] == "SUCCESS"
    assert naps == [1, 2]


def test_an_answer_that_cannot_be_put_fails_the_function(hub: Script, mailbox: Mailbox, naps: list[float]) -> None:
    """Lambda invokes it again then, and all that it does may be done twice."""
    for _ in range(2):
        hub.refuse("delete_action_target", "ResourceNotFoundException", status=404)
    mailbox.troubles = [URLError("no route")] * 3

    with pytest.raises(URLError):
        handle(hub, request("Delete"))

    assert len(naps) == 2
