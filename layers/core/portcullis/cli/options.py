"""Options and arguments that several commands take, and what is wrong with them in words for people."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from portcullis.cli import policy_file
from portcullis.errors import PolicyError, UnreadableEventError

if TYPE_CHECKING:
    from collections.abc import Callable

BAD_INPUT = 2
"""The exit status for what cannot be done, whatever the reason."""

POLICY = Path("layers/policy/policy.yaml")

_ACCOUNT = re.compile(r"[0-9]{12}")
_AGO = re.compile(r"(\d{1,3})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class AccountId(click.ParamType[str]):
    """An AWS account's id."""

    name = "account"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it."""
        if not _ACCOUNT.fullmatch(value):
            self.fail(f"{value!r} is not the id of an account, twelve digits", param, ctx)
        return value


class Moment(click.ParamType[datetime]):
    """A time: so long ago, a date, or a time."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        try:
            return moment(value, datetime.now(UTC))
        except ValueError:
            self.fail(f"{value!r} is no time; write 12h, 7d, 2026-11-01 or 2026-11-01T08:00", param, ctx)


def moment(text: str, now: datetime) -> datetime:
    """Read a time: so long ago (``30m``, ``12h``, ``7d``, ``2w``), or a date or time (UTC where it names no zone).

    Raises:
        ValueError: It is neither.
    """
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    named = datetime.fromisoformat(text)
    return named if named.tzinfo else named.replace(tzinfo=UTC)


def read_json(path: Path) -> Any:
    """Read a file that should hold an event, or standard input for ``-``.

    Raises:
        UnreadableEventError: It cannot be read, or is not JSON.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise UnreadableEventError(f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableEventError(f"it is not JSON ({error}); pass one whole EventBridge event a file") from error


def policy_option(name: str) -> Callable[[Any], Any]:
    """Return the option that names the policy's file."""
    path = click.Path(path_type=Path, dir_okay=False)
    return click.option(name, "file", type=path, default=POLICY, show_default=True, help="The policy.")


def read_policy(path: Path) -> policy_file.PolicyFile:
    """Read a policy file; ends with exit status 2, every fault on standard error, when it has any."""
    try:
        return policy_file.load(path)
    except PolicyError as error:
        for fault in error.faults:
            click.echo(f"{path}: {fault}", err=True)
        click.echo(f"portcullis: {len(error.faults)} fault(s) in {path}", err=True)
        sys.exit(BAD_INPUT)
