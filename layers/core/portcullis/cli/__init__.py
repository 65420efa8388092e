"""The command line. Not part of the layer: it may use libraries that the functions do without."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from portcullis.cli import controls_page, policy_file
from portcullis.controls import CONTROLS
from portcullis.errors import PolicyError, UnreadableEventError
from portcullis.triggers import targets_of

if TYPE_CHECKING:
    from portcullis.model import Target

_BAD_INPUT = 2
_File = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep private AWS connectivity compliant across an organisation."""


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
def targets(files: tuple[Path, ...]) -> None:
    r"""Print what Portcullis would look at because of the events in FILES ("-" reads standard input).

    One JSON object a line, sorted: account_id, region, kind (vpc, instance, account-region), resource_id. Nothing
    for an event that does not concern Portcullis.

    \b
    Example:
        portcullis targets events/CreateVpc.json
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


@policy.command()
@click.argument("file", type=_File)
def check(file: Path) -> None:
    r"""Check a policy FILE and print every fault in it, with its line.

    \b
    Example:
        portcullis policy check layers/policy/policy.yaml
    """
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
