"""The command line. Not part of the layer: it may use libraries that the functions do without."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from portcullis.cli import controls_page, enrolment, organisation, policy_file
from portcullis.controls import CONTROLS
from portcullis.errors import PolicyError, UnreadableEventError
from portcullis.triggers import targets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portcullis.model import Target

_BAD_INPUT = 2
_File = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep private AWS connectivity compliant across an organisation."""


@main.command(epilog="Example: portcullis targets events/CreateVpc.json")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
def targets(files: tuple[Path, ...]) -> None:
    """Print what Portcullis would look at because of the events in FILES ("-" reads standard input).

    One JSON object a line, sorted: account_id, region, kind (vpc, instance, account-region), resource_id. Nothing
    for an event that does not concern Portcullis.
    """
    found: set[Target] = set()
    failed = False
    for path in files:
        try:
            found.update(targets_of(_read_json(path)))
        except UnreadableEventError as error:
            failed = True
            click.echo(f"portcullis: {path}: {error}", err=True)
    for target in sorted(found, key=lambda t: (t.account_id, t.region, t.kind, t.resource_id or "")):
        fields = ("account_id", "region", "kind", "resource_id")
        click.echo(json.dumps({name: getattr(target, name) for name in fields}))
    if failed:
        sys.exit(_BAD_INPUT)


@main.group()
def policy() -> None:
    """Check the policy file, or compile it for deployment."""


@policy.command(epilog="Example: portcullis policy check layers/policy/policy.yaml")
@click.argument("file", type=_File)
def check(file: Path) -> None:
    """Check a policy FILE and print every fault in it, with its line."""
    data = _read_policy(file)
    modes = ", ".join(f"{control_id} {entry['mode']}" for control_id, entry in data["controls"].items())
    click.echo(f"{file}: valid ({modes})")


@policy.command("compile")
@click.argument("file", type=_File)
def compile_(file: Path) -> None:
    """Check a policy FILE and print it as the JSON that the functions load."""
    click.echo(json.dumps(_read_policy(file), indent=1))


@main.command()
def docs() -> None:
    """Print the controls page (docs/controls.md), generated from the registry of controls."""
    click.echo(controls_page.render(CONTROLS), nl=False)


_profile = click.option("--profile", help="Profile of your AWS configuration.")
_region = click.option("--region", help="The hub's Region.")


@main.command(epilog="Example: portcullis sweep --profile hub --region eu-west-1")
@_profile
@_region
@click.option("--no-wait", is_flag=True, help="Start it and return at once.")
def sweep(profile: str | None, region: str | None, *, no_wait: bool) -> None:
    """Look at every account and Region now, and show how that goes on. Run it in the hub's account.

    Exit status: 0 when every account and Region is covered, 1 when some are not, 2 when the sweep failed.
    """
    with _aws_errors():
        hub = organisation.Hub.of(profile, region)
        execution_arn = hub.start_sweep()
        click.echo(f"started {execution_arn}")
        if no_wait:
            return
        status = organisation.show_progress(hub.follow(execution_arn))
        covered = hub.coverage()
    click.echo(organisation.matrix(covered))
    if status != "SUCCEEDED":
        click.echo(f"portcullis: the sweep ended as {status}; see {execution_arn} in Step Functions", err=True)
        sys.exit(_BAD_INPUT)
    sys.exit(0 if all(organisation.is_covered(state) for _, state in covered) else 1)


@main.command(epilog="Example: portcullis coverage --profile hub --region eu-west-1")
@_profile
@_region
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def coverage(profile: str | None, region: str | None, output: str) -> None:
    """Show which accounts and Regions take part, and what to do about the others. Run it in the hub's account.

    Exit status: 0 when all do, 1 when some do not, 2 when that cannot be read.
    """
    with _aws_errors():
        covered = organisation.Hub.of(profile, region).coverage()
    click.echo(organisation.as_json(covered) if output == "json" else organisation.matrix(covered))
    sys.exit(0 if all(organisation.is_covered(state) for _, state in covered) else 1)


@main.command(epilog="Example: portcullis enrol --hub-profile hub --profile management --region eu-west-1")
@click.option("--hub-profile", required=True, help="Profile of the hub's account, to read the stack's outputs.")
@click.option("--profile", required=True, help="Profile of an administrator of the account to enrol.")
@click.option("--region", required=True, help="The hub's Region.")
@click.option("--remove", is_flag=True, help="Delete the member stacks instead.")
@click.confirmation_option(prompt="Deploy Portcullis's member stacks in that account, or with --remove delete them?")
def enrol(hub_profile: str, profile: str, region: str, *, remove: bool) -> None:
    """Deploy the member stacks by hand into an account that StackSets leave out, such as the management account.

    Add its id to the hub's parameter AdditionalAccountIds, so that its absence would be noticed.
    """
    with _aws_errors():
        outputs = enrolment.hub_outputs(organisation.Hub.of(hub_profile, region).session)
        act = enrolment.leave if remove else enrolment.enrol
        for line in act(organisation.Hub.of(profile, region).session, outputs):
            click.echo(line)


@contextmanager
def _aws_errors() -> Iterator[None]:
    try:
        yield
    except organisation.AWS_FAULTS as error:
        click.echo(f"portcullis: {error}", err=True)
        click.echo("Is this a profile of the hub's account (--profile), and its Region (--region)?", err=True)
        sys.exit(_BAD_INPUT)


def _read_json(path: Path) -> object:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise UnreadableEventError(f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableEventError(f"it is not JSON ({error}); pass one whole EventBridge event a file") from error


def _read_policy(path: Path) -> dict[str, Any]:
    try:
        return policy_file.read(path)
    except PolicyError as error:
        for fault in error.faults:
            click.echo(f"{path}: {fault}", err=True)
        click.echo(f"portcullis: {len(error.faults)} fault(s) in {path}", err=True)
        sys.exit(_BAD_INPUT)
