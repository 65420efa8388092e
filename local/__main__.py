"""The command line of the local organisation: `python -m local serve` and `python -m local demo`."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

import click

from .clients import HOME_REGION, HUB_ACCOUNT_ID, MANAGEMENT_ACCOUNT_ID, MEMBER_ACCOUNT_IDS, MEMBER_ROLE_NAME, REGIONS
from .demo import run
from .journal import Step, render
from .organisation import LocalOrganisation, PortTakenError
from .template import TemplateError

_INSTRUCTIONS = f"""\
Portcullis runs in a local AWS organisation. In another terminal:

  export AWS_ENDPOINT_URL={{url}} AWS_DEFAULT_REGION={HOME_REGION} \\
      AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any
  aws ec2 create-vpc --cidr-block 10.0.0.0/16
  aws securityhub get-findings

That is the hub's account, {HUB_ACCOUNT_ID}. It can start a sweep, which otherwise comes every six hours:

  aws stepfunctions start-execution --state-machine-arn \\
      arn:aws:states:{HOME_REGION}:{HUB_ACCOUNT_ID}:stateMachine:portcullis-sweep

Keys for another account are answered by

  aws sts assume-role --role-session-name me \\
      --role-arn arn:aws:iam::{MEMBER_ACCOUNT_IDS[0]}:role/{MEMBER_ROLE_NAME}

Member accounts: {", ".join(MEMBER_ACCOUNT_IDS)}.
Governed Regions: {", ".join(REGIONS)}.
With keys for the management account, {MANAGEMENT_ACCOUNT_ID}, you can let an account join; Portcullis follows it:

  aws organizations create-account --account-name new --email new@example.com

Nobody has to wait: this moves the time of everything forward (90s, 31m, 2h, 1d), and what is due happens at once.

  curl -d forward=31m {{url}}/moto-api/by-hand/time

Security Hub's console is not here; this sends a finding to one of its custom actions:

  curl -d action=Remediate -d finding=FINDING-ID {{url}}/moto-api/by-hand/custom-action

Stop with Ctrl-C.
"""


@click.group()
def main() -> None:
    """Run Portcullis, as its templates describe it, in an AWS organisation on this machine."""


@main.command()
@click.option("--port", default=5588, show_default=True, help="Where to listen.")
def serve(port: int) -> None:
    """Keep the organisation running as an endpoint for any AWS client, until Ctrl-C.

    It prints what to type in another terminal: how to call it, how to move its time forward, and how to use Security
    Hub's custom actions.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        # QueueDelaySeconds at its least: nobody wants to wait half a minute for the first finding.
        with LocalOrganisation(port=port, parameters={"QueueDelaySeconds": "2"}) as organisation:
            click.echo(_INSTRUCTIONS.format(url=organisation.clients.endpoint_url))
            organisation.journal.subscribe(_show)
            threading.Event().wait()
    except (PortTakenError, TemplateError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


@main.command()
@click.option("--output", default="build/demo.json", show_default=True, help="Where to write what was found.")
def demo(output: str) -> None:
    """Show what Portcullis does, and write the facts to a file."""
    sys.exit(run(Path(output)))


def _show(step: Step) -> None:
    if line := render(step):
        with contextlib.suppress(BrokenPipeError):  # whoever read this has gone; the organisation has not
            click.echo(line)


def _end(*_: object) -> NoReturn:
    """Leave the `with` block once; a second Ctrl-C must not interrupt the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main(prog_name="python -m local")
