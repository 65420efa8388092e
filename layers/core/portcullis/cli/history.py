"""The ledger of changes, for people: what was changed, why, on whose wish, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from itertools import islice
from typing import TYPE_CHECKING, Any

from portcullis.actions import encode
from portcullis.adapters.ledger import DynamoDbLedger
from portcullis.cli.organisation import TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from portcullis.ledger import Change

_HEAD = ("change", "when (UTC)", "account", "Region", "resource", "control", "what", "result", "by", "undone by")


@dataclass(frozen=True, slots=True)
class Question:
    """Which changes to show: those that began in [since, until), at most ``limit``, the latest ones.

    ``resource_id`` is that of a VPC or an instance, or of what a change made on one. None stands for any.
    """

    since: datetime
    until: datetime
    account_id: str | None = None
    resource_id: str | None = None
    limit: int | None = None

    def fits(self, change: Change) -> bool:
        """Tell whether a change of that time is asked for."""
        return self.account_id in (None, change.account_id) and (
            self.resource_id in (None, change.resource_id, change.made)
        )


def read(session: Any, question: Question) -> list[Change]:
    """Read what is asked for, the latest first, with the credentials of a session of the hub's account and Region.

    Raises:
        TransientError: The table cannot be read.
    """
    changes = DynamoDbLedger(session.client("dynamodb"), TABLE).changes(question.since, question.until)
    return list(islice(filter(question.fits, changes), question.limit))


def table(changes: Sequence[Change]) -> str:
    """Write changes as a table, a line each."""
    if not changes:
        return "No changes."
    rows = [_HEAD, *(_row(change) for change in changes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(changes: Sequence[Change]) -> str:
    """Write all that the ledger holds about changes as JSON: a list of objects."""
    return json.dumps([_object(change) for change in changes], indent=1)


def _row(change: Change) -> tuple[str, ...]:
    return (
        change.change_id,
        f"{change.begun_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        change.account_id,
        change.region,
        change.resource_id,
        change.action.control_id,
        str(change.action),
        change.progress.value,
        f"{change.by} ({change.trigger})",
        change.undone_by or "-",
    )


def _object(change: Change) -> dict[str, Any]:
    return {
        "change_id": change.change_id,
        "account_id": change.account_id,
        "region": change.region,
        "kind": change.kind.value,
        "resource_id": change.resource_id,
        "control_id": change.action.control_id,
        "what": str(change.action),
        "action": encode(change.action),
        "trigger": change.trigger,
        "by": change.by,
        "begun_at": change.begun_at.isoformat(),
        "ended_at": change.ended_at.isoformat() if change.ended_at else None,
        "progress": change.progress.value,
        "detail": change.detail,
        "made": change.made,
        "before": change.before,
        "after": change.after,
        "undoes": change.undoes,
        "undone_by": change.undone_by,
    }
