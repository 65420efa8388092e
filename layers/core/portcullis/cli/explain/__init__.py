"""``portcullis explain``: why a service does not answer to an instance, from live state, with the caller's rights."""

from __future__ import annotations

import sys

import click

from portcullis.cli.explain import printing
from portcullis.cli.explain.diagnosis import diagnose_each
from portcullis.cli.explain.reading import Reader
from portcullis.cli.organisation import AWS_FAULTS, Hub, is_access

_BAD_INPUT = 2


@click.command("explain", epilog="Example: portcullis explain i-0123456789abcdef0 --profile dev --region eu-west-1")
@click.argument("resource_id")
@click.option(
    "--service", default="s3", show_default=True, help="Short or full, as endpoints name it: ssm, ecr.api, ..."
)
@click.option("--action", help="What is tried, such as s3:GetObject.  [default: a harmless one of the service]")
@click.option("--resource", metavar="ARN", help="On what it is tried.  [default: anything]")
@click.option("--profile", help="Profile of your AWS configuration, of the account that is looked at.")
@click.option("--region", help="The Region that is looked at.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--json", "output", flag_value="json", help="Short for --output json.")
def command(resource_id: str, service: str, action: str | None, resource: str | None, **how: str | None) -> None:
    """Say why `aws s3 ls` prints nothing on RESOURCE_ID (an instance), step by step, and what to do about it.

    For a VPC, say it of the network only: once for all subnets of which the same is true. What you may not read is
    unknown, and the step names the permission. Nothing is changed.

    Exit status: 0 when it works (privately, or the public way), 1 when a step failed or is unknown, 2 when that
    cannot be told: no such resource, no credentials.
    """
    if not resource_id.startswith(("i-", "vpc-")):
        raise click.UsageError(f"{resource_id!r} is no instance (i-...) and no VPC (vpc-...)")
    try:
        reader = Reader(Hub.of(how["profile"], how["region"]).session, service, action, resource)
        place = reader.instance(resource_id) if resource_id.startswith("i-") else reader.vpc(resource_id)
    except AWS_FAULTS as error:
        click.echo(f"portcullis: {error}", err=True)
        if is_access(error):
            click.echo("Is this a profile of its account (--profile), and its Region (--region)?", err=True)
        sys.exit(_BAD_INPUT)
    answers = diagnose_each(place, reader.question)
    write = printing.as_json if how["output"] == "json" else printing.table
    click.echo(write(resource_id, reader.question, answers))
    sys.exit(0 if all(answer.works for answer in answers) else 1)
