"""The command line. Not part of the layer: it may use libraries that the functions do without."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from portcullis.cli import approval, controls_page, enrolment, history, organisation, plan, policy_explain, replay
from portcullis.cli.explain import command as explain_command
from portcullis.cli.options import BAD_INPUT, AccountId, Moment, policy_option, read_json, read_policy
from portcullis.controls import CONTROLS
from portcullis.errors import UnreadableEventError
from portcullis.triggers import targets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portcullis.model import Target

_File = click.Path(path_type=Path, dir_okay=False)
_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="portcullis", prog_name="portcullis")
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
            event = read_json(path)
            if _holds_answers(event):
                click.echo(f"portcullis: {path}: skipped; it holds answers for other files, no event", err=True)
                continue
            found.update(targets_of(event))
        except UnreadableEventError as error:
            failed = True
            click.echo(f"portcullis: {path}: {error}", err=True)
    for target in sorted(found, key=lambda t: (t.account_id, t.region, t.kind, t.resource_id or "")):
        fields = ("account_id", "region", "kind", "resource_id")
        click.echo(json.dumps({name: getattr(target, name) for name in fields}))
    if failed:
        sys.exit(BAD_INPUT)


main.add_command(explain_command)
main.add_command(plan.command)
main.add_command(replay.command)


@main.group()
def policy() -> None:
    """Check the policy file, ask it why, or compile it for deployment."""


@policy.command(epilog="Example: portcullis policy check layers/policy/policy.yaml")
@click.argument("file", type=_File)
def check(file: Path) -> None:
    """Check a policy FILE and print every fault in it, with its line.

    What is no fault and probably not meant is told, too: exemptions that have ended, names that no service has.
    """
    checked = read_policy(file)
    modes = ", ".join(f"{control_id} {entry['mode']}" for control_id, entry in checked.data["controls"].items())
    click.echo(f"{file}: valid ({modes})")
    for told in (*checked.doubts(), *checked.ended(datetime.now(UTC))):
        click.echo(f"{file}: {told}")


@policy.command("compile")
@click.argument("file", type=_File)
def compile_(file: Path) -> None:
    """Check a policy FILE and print it as the JSON that the functions load."""
    click.echo(json.dumps(read_policy(file).data, indent=1))


def _tags(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    if faulty := [text for text in given if "=" not in text.lstrip("=")]:
        raise click.BadParameter(f"{faulty[0]!r} is not KEY=VALUE")
    return dict(text.split("=", 1) for text in given)


@policy.command(
    "explain",
    epilog="Example: portcullis policy explain 111122223333 eu-west-1 vpc-0123456789abcdef0 --tag env=dev",
)
@click.argument("account")
@click.argument("region")
@click.argument("resource")
@policy_option("--file")
@click.option("--tag", "tags", multiple=True, callback=_tags, metavar="KEY=VALUE", help="A tag of the resource.")
@click.option("--unit", "units", multiple=True, help="A unit above the account; several from the root down.")
@click.option("--control", "control_id", type=click.Choice([one.id for one in CONTROLS]), help="Only this one.")
@click.option("--live", is_flag=True, help="Look tags and units up in AWS instead, as far as the policy uses them.")
@click.option("--profile", help="With --live: a profile of the resource's account.")
@click.option("--hub-profile", help="With --live: a profile that may read the organisation, such as the hub's.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def explain_(file: Path, profile: str | None, hub_profile: str | None, output: str, **given: Any) -> None:
    """Print what the policy says about RESOURCE (a VPC or an instance), and which line decided each setting.

    Exit status: 0, or 2 when the policy has a fault, or the question makes no sense.
    """
    live = given.pop("live")
    try:
        question = policy_explain.Question(**given)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    checked = read_policy(file)
    if live:
        with _aws_errors():
            question = policy_explain.looked_up(question, checked, profile, hub_profile)
    answer = policy_explain.answer(question, checked, datetime.now(UTC))
    click.echo(json.dumps(answer, indent=1) if output == "json" else policy_explain.table(answer, file))


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
        sys.exit(BAD_INPUT)
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


@main.command("history", epilog="Example: portcullis history --account 111122223333 --since 7d --profile hub")
@_profile
@_region
@click.option("--account", "account_id", type=AccountId(), help="Only changes in this account.")
@click.option("--resource", "resource_id", help="Only changes of this VPC or instance, or of this endpoint on one.")
@click.option("--since", default="7d", show_default=True, type=Moment(), help="From then: 12h, 7d, a date, a time.")
@click.option("--until", type=Moment(), help="Before then; the same forms.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many, the latest ones.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def history_(profile: str | None, region: str | None, output: str, **question: Any) -> None:
    """Show what Portcullis changed, the latest first, and on whose wish. Run it in the hub's account.

    Exit status: 0, or 2 when that cannot be read.
    """
    # Changes may be ahead of this machine's clock, by some seconds, or by days in the local organisation.
    question["until"] = question["until"] or datetime.now(UTC) + timedelta(days=31)
    with _aws_errors():
        changes = history.read(organisation.Hub.of(profile, region).session, history.Question(**question))
    click.echo(history.as_json(changes) if output == "json" else history.table(changes))


_yes = click.option("--yes", is_flag=True, help="Do not ask back.")


@main.command(epilog="Example: portcullis approve portcullis/VPCE.1/arn:... --profile hub --region eu-west-1")
@click.argument("finding_id")
@_yes
@_profile
@_region
def approve(finding_id: str, profile: str | None, region: str | None, *, yes: bool) -> None:
    """Approve the change that the finding FINDING-ID (its Id in Security Hub) proposes. Run it in the hub's account.

    What it is about is shown first. The result becomes a note on the finding, within minutes. Exit status: 0 when the
    request was accepted, 1 when it was refused or not confirmed, 2 when the hub could not be asked.
    """
    _request({"ask": "remediate", "finding_id": finding_id}, profile, region, confirmed=yes)


@main.command(epilog="Example: portcullis undo 20261123T121530Z-0a1b2c3d4e --profile hub --region eu-west-1")
@click.argument("change_id")
@_yes
@_profile
@_region
def undo(change_id: str, profile: str | None, region: str | None, *, yes: bool) -> None:
    """Take back the change CHANGE-ID (see: portcullis history). Run it in the hub's account.

    Only what is Portcullis's and unchanged is taken back, and the resource is then left alone for a while. The result
    becomes a note on the finding. Exit status: as for approve.
    """
    _request({"ask": "undo", "change_id": change_id}, profile, region, confirmed=yes)


def _request(request: dict[str, str], profile: str | None, region: str | None, *, confirmed: bool) -> None:
    with _aws_errors():
        desk = approval.Desk(organisation.Hub.of(profile, region).session)
        accepted = approval.carry_out(desk, request, confirmed=confirmed)
    sys.exit(0 if accepted else 1)


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


@main.command(epilog='Example, for bash: eval "$(portcullis completion bash)"; put that into ~/.bashrc')
@click.argument("shell", type=click.Choice([*_SHELLS]))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands and options with the tabulator key."""
    click.echo(_SHELLS[shell](main, {}, "portcullis", "_PORTCULLIS_COMPLETE").source())


@contextmanager
def _aws_errors() -> Iterator[None]:
    try:
        yield
    except organisation.AWS_FAULTS as error:
        click.echo(f"portcullis: {error}", err=True)
        if organisation.is_access(error):
            click.echo("Is this a profile of the hub's account (--profile), and its Region (--region)?", err=True)
        sys.exit(BAD_INPUT)


def _holds_answers(data: object) -> bool:
    """Tell whether something is like ``events/targets.json``: file names, and what is right for each."""
    return isinstance(data, dict) and bool(data) and all(key.endswith(".json") for key in data)
