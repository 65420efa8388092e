"""``portcullis plan``: what Portcullis would find and do in some accounts, with the caller's rights, reading only."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import click

from portcullis import policy
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.clock import SystemClock
from portcullis.adapters.directory import OrganizationsDirectory
from portcullis.adapters.observer import Ec2Observer
from portcullis.cli import recording, reports
from portcullis.cli.options import BAD_INPUT, AccountId, policy_option, read_policy
from portcullis.cli.organisation import AWS_FAULTS, Hub
from portcullis.cli.rehearsal import Rehearsal, Would
from portcullis.controls import CONTROLS
from portcullis.deciding import OF_OURS, needs_of
from portcullis.findings import Place
from portcullis.model import Cause, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from portcullis.cli.rehearsal import Finding, Knowing, Seeing
    from portcullis.controls import Control
    from portcullis.policy import Policy

_EXAMPLES = """\b
Examples:
  portcullis plan --profile dev --region eu-west-1
  portcullis plan --profile dev --profile test --region eu-west-1 --region us-east-1
  portcullis plan --profile management --role-name OrganizationAccountAccessRole \\
      --account 111122223333 --account 222233334444 --region eu-west-1 --output sarif
  portcullis plan --profile dev --region eu-west-1 --record seen.json
"""


@dataclass(frozen=True, slots=True)
class Access:
    """A way into one account: clients of the caller's session, or of a role that it assumed (``keys``).

    Stands in for adapters.accounts.Accounts.
    """

    session: Any
    partition: str
    account_id: str
    keys: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, session: Any, region: str | None, account_id: str | None, role_name: str | None) -> Access:
        """Find out whose account the session's is, or assume a role in another one.

        Raises:
            BotoCoreError: AWS cannot be reached, or there are no credentials or no Region.
            ClientError: AWS refuses.
        """
        sts = session.client("sts", region_name=region, config=CONFIG)
        identity = sts.get_caller_identity()
        partition = identity["Arn"].split(":")[1]
        if not account_id:
            return cls(session, partition, identity["Account"])
        arn = f"arn:{partition}:iam::{account_id}:role/{role_name}"
        given = sts.assume_role(RoleArn=arn, RoleSessionName="portcullis-plan")["Credentials"]
        keys = {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }
        return cls(session, partition, account_id, keys)

    def observer(self, service: str, _: str, region: str, *, at: str | None = None) -> Any:
        """Return a client. See Accounts.observer."""
        return self.session.client(service, region_name=at or region, config=CONFIG, **self.keys)


@dataclass(frozen=True, slots=True)
class Units:
    """A directory that knows what it was told: the units above every account."""

    units: tuple[str, ...] = ()

    def units_of(self, _: str) -> tuple[str, ...]:
        """See ports.Directory."""
        return self.units


@dataclass(frozen=True, slots=True)
class Where:
    """Where to look: every Region of the account of every profile, or of every account by a role."""

    profiles: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    account_ids: tuple[str, ...] = ()
    role_name: str | None = None


@dataclass(slots=True)
class Planner:
    """Looks at one account and Region after the other, and notes which could not be read.

    ``controls`` are those that judge. With ``is_recording``, what was seen is kept in ``seen``.
    """

    wanted: Policy
    controls: Sequence[Control]
    directory: Knowing
    is_recording: bool = False
    findings: list[Finding] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seen: list[recording.Seen] = field(default_factory=list)

    def go(self, where: Where) -> Iterator[str]:
        """Look everywhere; says of each account and Region that it is about to be looked at."""
        for profile in where.profiles or (None,):
            whose = f"profile {profile}" if profile else "your credentials"
            with self._noting(whose):
                session = boto3.Session(profile_name=profile)
                regions: Sequence[Any] = where.regions or (session.region_name,)
                for account_id in where.account_ids or (None,):
                    with self._noting(f"account {account_id}" if account_id else whose):
                        access = Access.of(session, regions[0], account_id, where.role_name)
                        yield from self._account(access, regions)

    def _account(self, access: Access, regions: Sequence[str]) -> Iterator[str]:
        accounts: Any = access
        observer = Ec2Observer(accounts, regions[0], SystemClock())
        for region in regions:
            key = (access.account_id, region)
            if key in self.places:  # two profiles of one account
                continue
            yield " ".join(key)
            with self._noting(" ".join(key)):
                self._look(observer, Place(access.partition, *key))

    def _look(self, observer: Ec2Observer, place: Place) -> None:
        where = f"{place.account_id} {place.region}"
        seeing: Seeing = observer
        if self.is_recording:
            named = (self.wanted.values(one.id, "check_bucket_policies", default=False) for one in self.controls)
            buckets = any(True in values for values in named)
            needs = needs_of(self.wanted, self.controls) | OF_OURS
            seeing = recorder = recording.Recorder(observer, needs, buckets=buckets)
        rehearsal = Rehearsal(seeing, self.directory, self.wanted, self.controls, SystemClock())
        found = rehearsal.everything(place, Cause("plan"))
        self.findings += found
        told = (one.decision.evaluation for one in found)
        self.problems += [f"{where}: {one.reason}" for one in told if one and one.status is Status.UNKNOWN]
        self.places.append((place.account_id, place.region))
        if self.is_recording:
            units = self.directory.units_of(place.account_id) if self.wanted.needs_units else ()
            self.seen += [replace(one, units=units) for one in recorder.seen]

    @contextmanager
    def _noting(self, where: str) -> Iterator[None]:
        """Note what cannot be read or judged, and go on with what can."""
        try:
            yield
        except AWS_FAULTS as error:
            self.problems.append(f"{where}: {error}")
        except Exception as error:  # noqa: BLE001 -- one place must not lose what was read of the others; it is told
            self.problems.append(f"{where}: {type(error).__name__}: {error}")


@click.command("plan", epilog=_EXAMPLES)
@policy_option("--policy")
@click.option("--profile", "profiles", multiple=True, help="Profile of your AWS configuration; several may be given.")
@click.option("--region", "regions", multiple=True, help="A Region; several may be given.  [default: the profile's]")
@click.option("--account", "account_ids", multiple=True, type=AccountId(), help="An account, for --role-name.")
@click.option("--role-name", help="A role to assume in each --account.")
@click.option("--unit", "units", multiple=True, help="A unit above the accounts; several from the root down.")
@click.option("--hub-profile", help="A profile that may read the organisation: the units are looked up with it.")
@click.option("--control", "only", multiple=True, type=click.Choice([one.id for one in CONTROLS]), help="Only this.")
@click.option("--output", type=click.Choice(["table", "json", "csv", "sarif"]), default="table", show_default=True)
@click.option("--all", "everything", is_flag=True, help="With json or csv: also what is as it should be.")
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="Write what was seen, for replay.")
def command(  # noqa: PLR0913 -- an argument for each option
    *,
    file: Path,
    units: tuple[str, ...],
    hub_profile: str | None,
    only: tuple[str, ...],
    output: str,
    everything: bool,
    record: Path | None,
    **places: Any,
) -> None:
    """Show what Portcullis would find and do in an account and Region, or in several, if it were deployed now.

    That is the first round: after its changes, the controls that follow them look again, and may find more.

    It decides as the deployed Portcullis does, and changes nothing. Your credentials need what its observer role may
    do, but for Security Hub. What is only known where it is deployed counts as nothing: changes that it made and
    people undid, findings that analysts suppressed, limits on the number of changes.

    What is wrong would be changed (once nobody has changed the resource for a while), proposed (for approval), reported
    (a finding only), or is exempt.

    Exit status: 0 when nothing is wrong but what is exempt, 1 when something is, 2 when an account and Region could not
    be read; the others are shown all the same.
    """
    where = Where(**places)
    if bool(where.account_ids) != bool(where.role_name) or (where.role_name and len(where.profiles) > 1):
        raise click.UsageError("--account and --role-name go together, with one --profile at most")
    if units and hub_profile:
        raise click.UsageError("name the units (--unit), or have them looked up (--hub-profile), not both")
    if everything and output not in ("json", "csv"):
        raise click.UsageError("--all is for --output json and --output csv")
    checked = read_policy(file)
    if record:
        _check_writable(record)
    wanted = policy.parse(checked.data)
    if wanted.needs_units and not units and not hub_profile:
        click.echo("The policy depends on units, and none are given: it is assumed that there are none.", err=True)
    controls = [one for one in CONTROLS if not only or one.id in only]
    planner = Planner(wanted, controls, Units(units), is_recording=bool(record))
    for problem in _problems(planner, where, hub_profile, record):
        click.echo(f"portcullis: {problem}", err=True)
    report = reports.Report(
        findings=planner.findings,
        controls=controls,
        policy=file,
        lines=checked.lines,
        at=SystemClock().now(),
        places=planner.places,
        problems=planner.problems,
        everything=everything,
        enabled=[one for one in CONTROLS if wanted.enabled(one.id)],
    )
    click.echo(reports.WRITERS[output](report))
    if planner.problems:
        sys.exit(BAD_INPUT)
    sys.exit(0 if all(one.would is Would.EXEMPT for one in report.open) else 1)


def _check_writable(path: Path) -> None:
    try:
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        click.echo(f"portcullis: {path}: it cannot be written: {error.strerror}", err=True)
        sys.exit(BAD_INPUT)


def _problems(planner: Planner, where: Where, hub_profile: str | None, record: Path | None) -> list[str]:
    """Look everywhere, with progress on standard error, and write the recording; returns what went wrong."""
    is_terminal = sys.stderr.isatty()
    try:
        if hub_profile:
            organizations = Hub.of(hub_profile, next(iter(where.regions), None)).session.client("organizations")
            planner.directory = OrganizationsDirectory(organizations, [], SystemClock())
        for looked_at in planner.go(where):
            text = f"looking at {looked_at}"
            click.echo(f"\r\x1b[K{text}" if is_terminal else text, nl=not is_terminal, err=True)
        if record:
            seen = recording.Recording(SystemClock().now().isoformat(), tuple(planner.seen))
            record.write_text(recording.write(seen), encoding="utf-8")
    except (*AWS_FAULTS, OSError) as error:
        planner.problems.append(str(error))
    if is_terminal:
        click.echo("\r\x1b[K", nl=False, err=True)
    return planner.problems
