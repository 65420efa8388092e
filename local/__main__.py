"""The command line of the local organisation: `python -m local serve` and `python -m local demo`."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from .clients import HOME_REGION, HUB_ACCOUNT_ID, MEMBER_ROLE_NAME
from .console import render
from .deployment import MEMBER_ACCOUNT_IDS, REGIONS
from .organisation import LocalOrganisation, PortTakenError
from .template import TemplateError

if TYPE_CHECKING:
    from .journal import Step

_INSTRUCTIONS = """\
Portcullis runs in a local AWS organisation. In another terminal:

  export AWS_ENDPOINT_URL={url} AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any \\
      AWS_DEFAULT_REGION={region}
  aws ec2 create-vpc --cidr-block 10.0.0.0/16
  aws securityhub get-findings

That is account {hub}. For {members}:

  aws sts assume-role --role-session-name me \\
      --role-arn arn:aws:iam::{member}:role/{role}

Governed Regions: {regions}. Stop with Ctrl-C.
"""


class _Refused(click.ClickException):
    """The command cannot run as asked: one line, and status 2."""

    exit_code = 2


@click.group()
def main() -> None:
    """Run Portcullis, as its templates describe it, in an AWS organisation on this machine."""


@main.command()
@click.option("--port", default=5588, show_default=True, help="Where to listen.")
def serve(port: int) -> None:
    """Keep the organisation running as an endpoint for any AWS client, until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        # QueueDelaySeconds at its least: nobody wants to wait half a minute for the first finding.
        with LocalOrganisation(port=port, parameters={"QueueDelaySeconds": "2"}) as organisation:
            click.echo(
                _INSTRUCTIONS.format(
                    url=organisation.endpoint_url,
                    region=HOME_REGION,
                    hub=HUB_ACCOUNT_ID,
                    members=", ".join(MEMBER_ACCOUNT_IDS),
                    member=MEMBER_ACCOUNT_IDS[0],
                    role=MEMBER_ROLE_NAME,
                    regions=", ".join(REGIONS),
                )
            )
            organisation.journal.subscribe(_show)
            threading.Event().wait()
    except PortTakenError as error:
        raise _Refused(str(error)) from error
    except TemplateError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option(
    "--output",
    default=Path("build/demo.json"),
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write what was found.",
)
def demo(output: Path) -> None:
    """Show what Portcullis does, and write the facts to a file."""
    # Imported here: serving does not need it.
    sys.exit(importlib.import_module("local.demo").run(output))


def _show(step: Step) -> None:
    line = render(step)
    if line is not None:
        click.echo(line)


def _end(*_: object) -> NoReturn:
    """Leave the `with` block once; a second Ctrl-C must not interrupt the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main(prog_name="python -m local")
