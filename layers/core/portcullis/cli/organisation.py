"""What people ask of a deployed hub: sweep now, and who takes part. With their own credentials, as its readers."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import click
from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from portcullis.adapters.clock import SystemClock
from portcullis.adapters.coverage_store import DynamoDbCoverageStore
from portcullis.adapters.directory import OrganizationsDirectory
from portcullis.coverage import Coverage, State, state_of
from portcullis.errors import PortcullisError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STATE_MACHINE = "portcullis-sweep"
TABLE = "portcullis"
AWS_FAULTS = (BotoCoreError, ClientError, PortcullisError)

_POLL_SECONDS = 2.0
_NO_ACCESS = (
    exceptions.CredentialRetrievalError,
    exceptions.NoCredentialsError,
    exceptions.NoRegionError,
    exceptions.PartialCredentialsError,
    exceptions.ProfileNotFound,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
)
# In the code of a refusal ("Common errors" of the services' references), and of what is in the hub's account alone.
_REFUSED = re.compile(
    "AccessDenied|AuthFailure|DoesNotExist|NotAuthorized|ResourceNotFound|Signature|Token|Unauthorized|UnrecognizedClient"
)
_MEANINGS = {
    "ok": "events arrive, and the last sweep saw everything",
    "new": "has just joined; its member stacks, or the sweep that lists it, are on their way",
    "off": "the account has not enabled the Region",
}
_FINE = tuple(_MEANINGS)


@dataclass(frozen=True, slots=True)
class Hub:
    """A deployed hub, by the session of somebody who may look into its account."""

    session: Any

    @classmethod
    def of(cls, profile: str | None, region: str | None) -> Hub:
        """Take a profile of the AWS configuration and the hub's Region; None for the usual defaults."""
        return cls(boto3.Session(profile_name=profile, region_name=region))

    def coverage(self) -> list[tuple[Coverage, State]]:
        """Return what is known of every account and Region, and how it takes part."""
        management = self._management_account_id()
        now = datetime.now(UTC)
        places = self._store().all()
        return [(one, state_of(one, now, is_management=one.account_id == management)) for one in places]

    def start_sweep(self) -> str:
        """Start a sweep; returns the ARN of the execution."""
        identity = self.session.client("sts").get_caller_identity()
        partition, region = identity["Arn"].split(":")[1], self.session.region_name
        arn = f"arn:{partition}:states:{region}:{identity['Account']}:stateMachine:{STATE_MACHINE}"
        name = f"by-hand-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        answer = self.session.client("stepfunctions").start_execution(stateMachineArn=arn, name=name, input="{}")
        return str(answer["executionArn"])

    def follow(self, execution_arn: str, wait: Callable[[float], None] = time.sleep) -> Iterator[tuple[int, int, str]]:
        """Follow a sweep to its end: how many account-Regions have answered, of how many, and its status."""
        states, store = self.session.client("stepfunctions"), self._store()
        sweep_id = execution_arn.rsplit(":", 1)[-1]
        while True:
            status = states.describe_execution(executionArn=execution_arn)["status"]
            places = store.all()
            answered = sum(1 for one in places if one.answer and one.answer.sweep_id == sweep_id)
            yield answered, max(answered, sum(1 for one in places if one.listed)), status
            if status != "RUNNING":
                return
            wait(_POLL_SECONDS)

    def _store(self) -> DynamoDbCoverageStore:
        return DynamoDbCoverageStore(self.session.client("dynamodb"), TABLE, SystemClock())

    def _management_account_id(self) -> str | None:
        try:
            client = self.session.client("organizations")
            return OrganizationsDirectory(client, [], SystemClock()).management_account_id()
        except PortcullisError:
            return None  # it only words a remedy


def is_access(error: BaseException | None) -> bool:
    """Tell whether one of AWS_FAULTS may come from the credentials: of nobody, or of another account or Region."""
    if isinstance(error, PortcullisError):
        return is_access(error.__cause__)
    if isinstance(error, ClientError):
        return bool(_REFUSED.search(error.response["Error"].get("Code", "")))
    return isinstance(error, _NO_ACCESS)


def matrix(covered: Sequence[tuple[Coverage, State]]) -> str:
    """Draw accounts by Regions, and below it what is wrong and what to do."""
    if not covered:
        return "No account is known yet: the first sweep lists them (portcullis sweep)."
    regions = sorted({one.region for one, _ in covered})
    words = {(one.account_id, one.region): state.word for one, state in covered}
    width = max(len(region) for region in regions) + 2
    lines = [f"{'account':<14}{''.join(f'{region:<{width}}' for region in regions)}".rstrip()]
    for account_id in sorted({one.account_id for one, _ in covered}):
        cells = "".join(f"{words.get((account_id, region), '-'):<{width}}" for region in regions)
        lines.append(f"{account_id:<14}{cells}".rstrip())
    used = {state.word for _, state in covered}
    lines += ["", *(f"{word}: {meaning}" for word, meaning in _MEANINGS.items() if word in used)]
    lines += [
        f"{state.word}: {one.account_id} {one.region}: {state.reason}. {state.remedy}"
        for one, state in covered
        if state.word not in _FINE
    ]
    return "\n".join(lines)


def is_covered(state: State) -> bool:
    """Tell whether nothing needs to be done about an account and Region."""
    return state.word in _FINE


def as_json(covered: Sequence[tuple[Coverage, State]]) -> str:
    """Write the same as JSON: a list of objects."""
    return json.dumps(
        [
            {
                "account_id": one.account_id,
                "region": one.region,
                "state": state.word,
                "covered": is_covered(state),
                "reason": state.reason,
                "remedy": state.remedy,
                "heartbeat_at": one.heartbeat_at,
                "swept_at": one.swept_at,
            }
            for one, state in covered
        ],
        indent=1,
    )


def show_progress(steps: Iterator[tuple[int, int, str]]) -> str:
    """Print how a sweep goes on, one line on a terminal and few in a file; returns its final status."""
    interactive, shown, status = sys.stderr.isatty(), "", ""
    for answered, total, status in steps:
        line = f"{answered} of {total} account-Regions looked at, {status.lower()}"
        if line != shown:
            click.echo(f"\r\x1b[K{line}" if interactive else line, nl=not interactive, err=True)
            shown = line
    if interactive:
        click.echo(err=True)
    return status
