"""What happens in the small world, told in one line each: events, requests, conflicts, and what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.ledger import ResourceState
from portcullis.model import Ask, Caller, Cause, Conflict, Request, Work
from portcullis.surroundings import NetworkInterface, Surroundings

from tests.fakes import DELAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portcullis.closer import Answer
    from portcullis.ledger import Change
    from portcullis.model import Target

    from tests.fakes import World

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600
PAT = "arn:aws:iam::111122223333:user/pat"
WORKLOAD = Surroundings(
    {"subnet-0": "acl-0"}, (NetworkInterface("eni-0", "subnet-0", instance_id="i-busy"),), {"acl-0": ()}
)
"""An instance runs in a subnet that uses the main table."""


def run(world: World, *targets: Target, message: str = "m-1") -> dict[Target, Answer]:
    """Run the loop on targets, all of one message."""
    return world.loop.run([Work(target, message, Cause("test")) for target in targets])


def tell(world: World, target: Target, caller: Caller | None = Caller.OTHER, *, indirect: bool = False) -> None:
    """Let somebody's call arrive, and be looked at."""
    world.enqueue(target, cause=Cause(f"Call/{len(world.queue.sent)}", caller, indirect=indirect))
    world.process(DELAY)


def collide(world: World, target: Target, conflict: Conflict, caller: Caller = Caller.TERRAFORM) -> None:
    """Let somebody's failed call arrive, and be looked at."""
    world.enqueue(target, cause=Cause(f"{conflict.call}/{len(world.queue.sent)}", caller, conflict=conflict))
    world.process(DELAY)


def creation(world: World, vpc_id: str, *table_ids: str, service: str = "s3") -> Conflict:
    """Return the failed call that creates an endpoint on some tables (the main one by default)."""
    place = world.aws.region()
    tables = table_ids or (place.main_table(vpc_id),)
    return Conflict("CreateVpcEndpoint", PAT, place.gateway_services[service], tables)


def ask(world: World, target: Target, ask: Ask, control_id: str, *, change_id: str = "", by: str = PAT) -> None:
    """Let a person's request arrive, and be looked at."""
    request = Request(ask, control_id, by, change_id)
    world.enqueue(target, cause=Cause(f"approval/{len(world.queue.sent)}", request=request))
    world.process(DELAY)


def approve(world: World, target: Target, control_id: str = "VPCE.1") -> None:
    """Let a person approve a finding, and that be looked at."""
    ask(world, target, Ask.REMEDIATE, control_id)


def undo(world: World, target: Target, control_id: str = "VPCE.1", *, change_id: str = "") -> None:
    """Let a person ask for an undo, and that be looked at."""
    ask(world, target, Ask.UNDO, control_id, change_id=change_id)


def text_of(world: World, target: Target, control_id: str = "VPCE.1") -> str:
    """Return what the finding says."""
    finding = world.hub.find(str(target.resource_id), control_id)
    assert finding
    return str(finding["Description"])


def note_of(world: World, target: Target, control_id: str = "VPCE.1") -> str:
    """Return the note on the finding; empty when there is none."""
    finding = world.hub.find(str(target.resource_id), control_id)
    assert finding
    return str(finding.get("Note", {}).get("Text", ""))


def state_of(world: World, target: Target) -> ResourceState:
    """Return what is remembered of a resource."""
    key = (target.kind, str(target.resource_id))
    return world.ledger.kept.get((target.account_id, target.region, *key), ResourceState(*key))


def changes(world: World) -> list[Change]:
    """Return the entries of the ledger, the first first."""
    return sorted(world.ledger.entries.values(), key=lambda change: change.begun_at)


def actions(world: World) -> list[str]:
    """Return the kinds of the changes that were applied, the first first."""
    return [type(change.action).__name__ for change in changes(world) if change.progress == "applied"]


def problems(world: World) -> list[str]:
    """Return the steps that somebody should look at."""
    return [entry.step for entry in world.journal.entries if entry.is_problem]


def tables_of(world: World, target: Target) -> Sequence[tuple[str, ...]]:
    """Return the route tables of each endpoint of a VPC."""
    return [one.route_table_ids for one in world.aws.region().endpoints_of(str(target.resource_id))]
