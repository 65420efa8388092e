"""What people ask for from a terminal: shown, confirmed, sent, and answered with an exit status."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.response import StreamingBody
from click.testing import CliRunner, Result
from portcullis.cli import main

from tests.adapters.doubles import ACCOUNT, REGION, Script

if TYPE_CHECKING:
    from collections.abc import Callable

JANE = "arn:aws:sts::123456789012:assumed-role/admin/jane"
FINDING = f"portcullis/VPCE.1/arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/vpc-1"
CHANGE_ID = "20260302T090000Z-0a1b2c3d4e"
ABOUT = {"ask": "remediate", "control": "VPCE.1 S3", "resource": "vpc vpc-1", "account": ACCOUNT, "region": REGION}
UNDO_ABOUT = ABOUT | {
    "ask": "undo",
    "change": CHANGE_ID,
    "what": "create a s3 gateway endpoint on rtb-1",
    "made": "vpce-1",
    "when": "2026-03-02T09:00:00+00:00",
    "by": "the policy",
}
ACCEPTED = {"accepted": True, "message": "Portcullis looks at it again.", "about": ABOUT}
REFUSED = {"accepted": False, "message": "Portcullis has not filed it; look its id up in Security Hub."}


class Terminal:
    """A terminal of somebody who may ask."""

    def __init__(self, function: Script, sts: Script, security_hub: Script) -> None:
        self.function = function
        self.security_hub = security_hub
        sts.expect("get_caller_identity", {"Arn": JANE, "Account": "123456789012", "UserId": "x"}, {})

    def expect(self, answer: Any, request: dict[str, Any] | None = None, **more: str) -> None:
        """Expect the function to be invoked next, and answer."""
        body = json.dumps(answer).encode()
        wanted = {"FunctionName": "portcullis-approval", "Payload": json.dumps(request).encode()} if request else None
        payload = StreamingBody(io.BytesIO(body), len(body))
        self.function.expect("invoke", {"StatusCode": 200, "Payload": payload, **more}, wanted)

    def shows(self, *descriptions: str) -> None:
        """Let Security Hub show findings of this id."""
        names = ("SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId", "CreatedAt", "UpdatedAt", "Title")
        filled = dict.fromkeys(names, "x") | {"Resources": [{"Type": "AwsEc2Vpc", "Id": "x"}]}
        wanted = {"Filters": {"Id": [{"Value": FINDING, "Comparison": "EQUALS"}]}, "MaxResults": 1}
        findings = [filled | {"Description": text} for text in descriptions]
        self.security_hub.expect("get_findings", {"Findings": findings}, wanted)

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run the command line."""
        return CliRunner().invoke(main, list(arguments), input=stdin)


@pytest.fixture
def terminal(script: Callable[[str], Script], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Let the command line reach a scripted function."""
    scripts = {name: script(name) for name in ("lambda", "sts", "securityhub")}

    class Session:
        """Gives the scripted clients."""

        def client(self, service: str, config: Any = None) -> Any:
            """Return a client; the one of the function sends nothing twice."""
            assert service != "lambda" or config.retries["total_max_attempts"] == 1
            return scripts[service].client

    monkeypatch.setattr(boto3, "Session", lambda **_: Session())
    return Terminal(scripts["lambda"], scripts["sts"], scripts["securityhub"])


def asked(*, check: bool) -> dict[str, Any]:
    """Return what an approval sends."""
    return {"ask": "remediate", "finding_id": FINDING, "by": JANE, "check": check}


def test_an_approval_is_shown_confirmed_and_sent(terminal: Terminal) -> None:
    """First the function is only asked what it would be about; then, in the caller's name, for it."""
    terminal.expect(ACCEPTED, asked(check=True))
    terminal.shows("Portcullis proposes to create an endpoint. It touches 3 running instances.")
    terminal.expect(ACCEPTED, asked(check=False))

    result = terminal.run("approve", FINDING, stdin="y\n")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Portcullis would look at this again and make the change that it proposes, if it does:",
        "  control   VPCE.1 S3",
        "  resource  vpc vpc-1",
        f"  account   {ACCOUNT}",
        f"  Region    {REGION}",
        "  Portcullis proposes to create an endpoint. It touches 3 running instances.",
        "Ask for that? [y/N]: y",
        "Portcullis looks at it again.",
    ]


def test_an_undo_shows_the_change(terminal: Terminal) -> None:
    """What was changed, when, and on whose wish."""
    terminal.expect(
        ACCEPTED | {"about": UNDO_ABOUT}, {"ask": "undo", "change_id": CHANGE_ID, "by": JANE, "check": True}
    )
    terminal.expect(
        ACCEPTED | {"about": UNDO_ABOUT}, {"ask": "undo", "change_id": CHANGE_ID, "by": JANE, "check": False}
    )

    result = terminal.run("undo", CHANGE_ID, "--yes")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "Portcullis would take this change back, if things are still as it left them:",
        "  control   VPCE.1 S3",
        "  resource  vpc vpc-1",
        f"  account   {ACCOUNT}",
        f"  Region    {REGION}",
        f"  change    {CHANGE_ID}",
        "  what      create a s3 gateway endpoint on rtb-1",
        "  made      vpce-1",
        "  when      2026-03-02T09:00:00+00:00",
        "  by        the policy",
        "Portcullis looks at it again.",
    ]


@pytest.mark.parametrize("reply", ["\n", "n\n", ""])
def test_without_a_clear_yes_nothing_is_asked_for(terminal: Terminal, reply: str) -> None:
    """Return, no, or the end of input: exit status 1, and no second call."""
    terminal.expect(ACCEPTED, asked(check=True))
    terminal.shows("It proposes something.")

    result = terminal.run("approve", FINDING, stdin=reply)

    assert result.exit_code == 1
    assert "Nothing was asked for." in result.stdout or "Aborted!" in result.stderr
    assert terminal.function.calls == ["Invoke"]


def test_yes_does_not_ask_back(terminal: Terminal) -> None:
    """For those who script."""
    terminal.expect(ACCEPTED)
    terminal.shows()
    terminal.expect(ACCEPTED)

    result = terminal.run("approve", FINDING, "--yes")

    assert result.exit_code == 0
    assert "Ask for that?" not in result.stdout
    assert "(Security Hub does not show it here.)" in result.stdout


def test_who_may_not_read_findings_may_approve_all_the_same(terminal: Terminal) -> None:
    """The command says why it shows no text."""
    terminal.expect(ACCEPTED)
    terminal.security_hub.refuse("get_findings", "AccessDeniedException")
    terminal.expect(ACCEPTED)

    result = terminal.run("approve", FINDING, "--yes")

    assert result.exit_code == 0
    assert "(Security Hub does not show you what it says: AccessDeniedException)" in result.stdout


def test_what_is_refused_at_once_is_not_confirmed(terminal: Terminal) -> None:
    """The reason goes to standard error; exit status 1."""
    terminal.expect(REFUSED)

    result = terminal.run("approve", FINDING)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{REFUSED['message']}\n"


def test_what_is_refused_after_the_confirmation_is_told(terminal: Terminal) -> None:
    """Somebody else was quicker."""
    terminal.expect(ACCEPTED)
    terminal.shows()
    terminal.expect(REFUSED)

    result = terminal.run("approve", FINDING, "--yes")

    assert (result.exit_code, result.stderr) == (1, f"{REFUSED['message']}\n")


def test_a_function_that_fails_is_an_error(terminal: Terminal) -> None:
    """Exit status 2, with its words."""
    terminal.expect(
        {"errorMessage": "the environment variable X is not set", "errorType": "E"}, FunctionError="Unhandled"
    )

    result = terminal.run("undo", CHANGE_ID, "--yes")

    assert result.exit_code == 2
    assert "portcullis-approval failed (the environment variable X is not set); its log says more" in result.stderr
    assert "--profile" not in result.stderr


def test_a_hub_that_cannot_be_asked_is_an_error(terminal: Terminal) -> None:
    """No permission, or another account: exit status 2, and a hint."""
    terminal.function.refuse("invoke", "AccessDeniedException")

    result = terminal.run("approve", FINDING, "--yes")

    assert result.exit_code == 2
    assert "Is this a profile of the hub's account (--profile), and its Region (--region)?" in result.stderr
