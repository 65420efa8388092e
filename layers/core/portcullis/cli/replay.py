"""``portcullis replay``: what Portcullis makes of a recorded event, by its own decision code, without AWS."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from portcullis import policy
from portcullis.actions import encode
from portcullis.cli import recording, reports
from portcullis.cli.options import BAD_INPUT, Moment, policy_option, read_json, read_policy
from portcullis.cli.rehearsal import Rehearsal, Would
from portcullis.closer import UP_TO_DATE
from portcullis.controls import CONTROLS
from portcullis.errors import PortcullisError
from portcullis.findings import Place
from portcullis.model import Kind, Made, Scope, Vpc
from portcullis.plan import moment
from portcullis.triggers import cause_of, is_own, moment_of, targets_of
from portcullis.yielding import concerns, obstacles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from portcullis.actions import Action
    from portcullis.cli.rehearsal import Finding, ResourceKey
    from portcullis.model import Cause, Conflict, Snapshot
    from portcullis.policy import Policy

    Found = tuple[list["Withdrawal"], list[Finding]]

_OWN_ROLES = ("portcullis-remediator",)  # as template.yaml names it by default
_EXAMPLES = """\b
Examples:
  portcullis replay events/CreateVpc.json
  portcullis plan --profile dev --region eu-west-1 --record seen.json
  portcullis replay event.json seen.json
"""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What makes way for a call that failed over something of ours; until when its resource is then left alone."""

    key: ResourceKey
    action: Action
    until: datetime


@dataclass(frozen=True, slots=True)
class Fixed:
    """A clock that stands."""

    at: datetime

    def now(self) -> datetime:
        """Return the time."""
        return self.at


class Replay:
    """An event, and what was seen where it happened.

    Args:
        event: A whole EventBridge event, as parsed from JSON.
        at: When it is looked at; None for its own time, or else now.

    Raises:
        UnreadableEventError: It is no EventBridge event.
    """

    def __init__(self, event: Any, at: datetime | None) -> None:
        self.targets = targets_of(event, _OWN_ROLES)
        self.is_own = is_own(event, _OWN_ROLES)
        self.cause = cause_of(event)
        happened = moment_of(event["detail"].get("eventTime")) or moment_of(event.get("time"))
        self.at = at or happened or datetime.now(UTC)

    @property
    def conflict(self) -> Conflict | None:
        """What the call failed over, if that is recent enough to be acted on."""
        recent = self.cause.at and self.at - self.cause.at <= UP_TO_DATE
        return self.cause.conflict if recent else None

    def decide(self, seen: recording.Recording, wanted: Policy) -> Found:
        """Decide as the look that the event causes does, and find what makes way for the call if it failed.

        A resource on which something makes way is left alone then, so nothing else is decided about it.

        Raises:
            ObservationError: The recording is of something else, or lacks what the policy looks at.
        """
        account_id, region = self.targets[0].account_id, self.targets[0].region
        rehearsal = Rehearsal(seen, seen, wanted, CONTROLS, Fixed(self.at))
        ids = {kind: frozenset(str(one.resource_id) for one in self.targets if one.kind is kind) for kind in Kind}
        everything = bool(ids[Kind.ACCOUNT_REGION])
        scope = Scope(account_id, region, ids[Kind.VPC], ids[Kind.INSTANCE], everything)
        snapshot = rehearsal.decider.observe(scope, wholly=bool(self.conflict))
        causes = self._causes(snapshot)
        place = Place(snapshot.partition, account_id, region)
        withdrawals = []
        for key, cause in causes.items():
            if cause.conflict:
                settings = rehearsal.decider.judge(place).settings(snapshot.get(*key), key)
                until = self.at + max(one.leave_alone for one in settings)
                found = _in_the_way(cause.conflict, key, snapshot, seen, rehearsal.decider.needs.profiles)
                withdrawals += [Withdrawal(key, action, until) for action in found]
        alone = {one.key for one in withdrawals}
        rest = {key: [cause] for key, cause in causes.items() if key not in alone}
        return withdrawals, [_recorded(one) for one in rehearsal.decide(place, snapshot, rest)]

    def _causes(self, snapshot: Snapshot) -> dict[ResourceKey, Cause]:
        """Return what is looked at, and why: what the event names, else everything, as the loop passes it on."""
        cause = replace(self.cause, conflict=self.conflict)
        if not snapshot.scope.everything:
            return {(one.kind, str(one.resource_id)): cause for one in self.targets}
        keys = [(kind, name) for kind in (Kind.VPC, Kind.INSTANCE) for name in sorted(snapshot.resources(kind))]
        about = {
            (Kind.VPC, vpc.vpc_id) for vpc in snapshot.vpcs.values() if cause.conflict and concerns(cause.conflict, vpc)
        }
        return {key: cause if key in about else replace(cause, conflict=None) for key in keys}


def _in_the_way(
    conflict: Conflict, key: ResourceKey, snapshot: Snapshot, seen: recording.Recording, profiles: Collection[str]
) -> list[Action]:
    """Find what makes way for a call.

    The ledger knows what is ours, and how we left it. Without it, what is tagged as ours counts, as it is, and an
    association of a profile that the policy gives.
    """
    resource, scope = snapshot.get(*key), snapshot.scope
    made: dict[str, Made] = {}
    if isinstance(resource, Vpc):
        made |= {one.endpoint_id: Made(one.change_id) for one in resource.instance_connect}
        for one in resource.endpoints:
            made[one.endpoint_id] = Made(one.change_id, one.route_table_ids, one.subnet_ids, one.policy_digest)
    elif resource and resource.profile and resource.profile.name in profiles:
        made[resource.association_id] = Made("")
    around = None
    if conflict.call == "DeleteVpc":
        around = seen.surroundings(scope.account_id, scope.region, [key[1]], buckets=False)[key[1]]
    return [action for action, _, _ in obstacles(conflict, resource, made, around)]


def _recorded(finding: Finding) -> Finding:
    """Say of what the recording lacks that it does: nobody has told that it is gone."""
    one = finding.decision
    if one.evaluation:
        return finding
    note = f"{one.resource_id} is not in the recording: it was not there when that was made."
    return replace(finding, decision=replace(one, note=note))


@click.command("replay", epilog=_EXAMPLES)
@click.argument("event", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.argument("snapshot", required=False, type=click.Path(path_type=Path, dir_okay=False))
@policy_option("--policy")
@click.option("--at", type=Moment(), help="When it is looked at: a date or time.  [default: the event's own]")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(event: Path, snapshot: Path | None, file: Path, at: datetime | None, output: str) -> None:
    """Show what Portcullis makes of a recorded EVENT (a whole EventBridge event as JSON; "-" reads standard input).

    That is what it looks at, and why. With SNAPSHOT, a file that portcullis plan --record has written, also what it
    would find there and do, and when, and what of it would make way for a call that failed. It decides as the deployed
    Portcullis does that remembers nothing, and needs no AWS: what is tagged as Portcullis's counts as what it made.

    Exit status: 0 whatever is found, 2 when the event or the snapshot cannot be used.
    """
    found, at_hand = None, event
    try:
        replay = Replay(read_json(event), at)
        if snapshot and replay.targets:
            at_hand = snapshot
            found = replay.decide(recording.load(snapshot), policy.parse(read_policy(file).data))
    except Exception as error:  # noqa: BLE001 -- a file that somebody wrote may hold any values
        text = str(error)
        if not isinstance(error, PortcullisError):
            text = f"what it says makes no sense ({type(error).__name__}: {text})"
        click.echo(f"portcullis: {at_hand}: {text}", err=True)
        sys.exit(BAD_INPUT)
    click.echo(json.dumps(_object(replay, found), indent=1) if output == "json" else _table(replay, found))


def _object(replay: Replay, found: Found | None) -> dict[str, Any]:
    withdrawals, findings = found or ([], [])
    told: dict[str, Any] = {
        "at": replay.at.isoformat(),
        "cause": asdict(replace(replay.cause, at=None)),
        "own": replay.is_own,
        "targets": [asdict(one) for one in replay.targets],
    }
    if found is not None:
        told["withdrawn"] = [
            {
                "resource_id": one.key[1],
                "what": str(one.action),
                "action": encode(one.action),
                "left_alone_until": one.until.isoformat(),
            }
            for one in withdrawals
        ]
        told["findings"] = [reports.entry(one) for one in findings]
    return told


def _table(replay: Replay, found: Found | None) -> str:
    return "\n".join(_lines(replay, found))


def _lines(replay: Replay, found: Found | None) -> Iterator[str]:
    cause = replay.cause
    yield f"{cause.trigger}{f', by {cause.caller}' if cause.caller else ''}, looked at {moment(replay.at)}"
    if conflict := cause.conflict:
        yield f"{conflict.call} of {conflict.principal or 'somebody'} failed over something that exists."
        if replay.conflict is None:
            yield "That is too long ago to make way for it."
    if not replay.targets:
        yield "Portcullis made this call itself." if replay.is_own else "This event does not concern Portcullis."
        return
    yield "Portcullis looks at:"
    for one in replay.targets:
        what = f"{one.kind} {one.resource_id}" if one.resource_id else "everything"
        yield f"  {one.account_id} {one.region} {what}"
    if found is None:
        return
    yield ""
    withdrawals, findings = found
    for each in withdrawals:
        yield f"  {each.key[1]}  Portcullis makes way: it will {each.action},"
        yield f"      and leave {each.key[1]} alone until {moment(each.until)}."
    missing = dict.fromkeys(one.decision.note for one in findings if one.decision.evaluation is None)
    yield from (f"  {note}" for note in missing)
    is_wide = any(one.kind is Kind.ACCOUNT_REGION for one in replay.targets)
    shown = [one for one in findings if one.decision.evaluation and not (is_wide and one.would is Would.NOTHING)]
    yield from reports.rows(shown)
    if not (shown or withdrawals or missing):
        yield "  Nothing is to be done."
