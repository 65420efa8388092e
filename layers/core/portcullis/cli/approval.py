"""What people ask of Portcullis from a terminal: approve what a finding proposes, or undo a change.

The function answers; whoever may invoke it may ask. It does not learn who invokes it, so the command line tells.
"""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import click
from botocore.config import Config
from botocore.exceptions import ClientError

from portcullis.errors import PortcullisError

if TYPE_CHECKING:
    from collections.abc import Mapping

FUNCTION = "portcullis-approval"

# A request that was sent and not answered in time must not be sent twice without anybody's knowing.
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 1})
_WIDTH = 76
_ROWS = ("control", "resource", "account", "region", "change", "what", "made", "when", "by")
_INTRODUCTIONS = {
    "remediate": "Portcullis would look at this again and make the change that it proposes, if it does:",
    "undo": "Portcullis would take this change back, if things are still as it left them:",
}


class Desk:
    """Where requests are made.

    Args:
        session: A session of somebody who may invoke the approval function, in the hub's account and Region.
    """

    def __init__(self, session: Any) -> None:
        self._lambda = session.client("lambda", config=_CONFIG)
        self._security_hub = session.client("securityhub")
        self._by = session.client("sts").get_caller_identity()["Arn"]

    def ask(self, request: Mapping[str, str], *, check: bool) -> dict[str, Any]:
        """Ask for something, or with ``check`` what it would be about. Returns the function's answer.

        Raises:
            PortcullisError: The function failed.
        """
        payload = json.dumps({**request, "by": self._by, "check": check}).encode()
        response = self._lambda.invoke(FunctionName=FUNCTION, Payload=payload)
        answer: dict[str, Any] = json.loads(response["Payload"].read())
        if "FunctionError" in response:
            raise PortcullisError(f"{FUNCTION} failed ({answer.get('errorMessage')}); its log says more")
        return answer

    def finding_text(self, finding_id: str) -> str:
        """Return what a finding says, or why that is not known here."""
        wanted = {"Id": [{"Value": finding_id, "Comparison": "EQUALS"}]}
        try:
            found = self._security_hub.get_findings(Filters=wanted, MaxResults=1)["Findings"]
        except ClientError as error:
            return f"(Security Hub does not show you what it says: {error.response['Error'].get('Code')})"
        return str(found[0]["Description"]) if found else "(Security Hub does not show it here.)"


def carry_out(desk: Desk, request: Mapping[str, str], *, confirmed: bool) -> bool:
    """Show what a request is about, have it confirmed, and make it. Returns whether it was accepted."""
    answer = desk.ask(request, check=True)
    if answer["accepted"]:
        click.echo(_INTRODUCTIONS[request["ask"]])
        for name in _ROWS:
            if name in answer["about"]:
                click.echo(f"  {'Region' if name == 'region' else name:<10}{answer['about'][name]}")
        if finding_id := request.get("finding_id"):
            click.echo(
                textwrap.indent(textwrap.fill(desk.finding_text(finding_id), _WIDTH, break_on_hyphens=False), "  ")
            )
        if not confirmed and not click.confirm("Ask for that?", default=False):
            click.echo("Nothing was asked for.")
            return False
        answer = desk.ask(request, check=False)
    click.echo(answer["message"], err=not answer["accepted"])
    return bool(answer["accepted"])
