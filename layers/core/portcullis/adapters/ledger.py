"""The write-ahead ledger of changes, and the state of resources, in the hub's DynamoDB table.

- A change: partition ``changes#2026-11``, the month in which it began; sort key its id. It is never deleted.
- The state of a resource: partition ``state#111122223333#eu-west-1``, apart from what was filed about it: IAM tells
  partitions from each other, and a sweep, which writes findings, may not write states.
- What was counted in the last hour against a limit: partition ``limits``.

What belongs together is written in one transaction. States and counts carry a version, which the transaction
demands to be the one that was read: of two writers one fails, and has written nothing. The version of a new state
follows the time, so that none comes again after a state was deleted: who read the old one cannot overwrite the new.
Source: "Amazon DynamoDB Transactions: How it works" (developer guide).
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from portcullis.actions import decode, encode
from portcullis.adapters.table import ATTEMPTS, FAILED, Item, Table, pause
from portcullis.errors import TransientError
from portcullis.ledger import Breach, Change, Hold, Progress, ResourceState, Window
from portcullis.model import Kind, Made

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from portcullis.policy import Limits

PERMISSIONS = (
    "dynamodb:BatchGetItem",
    "dynamodb:DeleteItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
)
"""The IAM actions that this module uses, with the function's own role; a transaction needs those of its parts."""

_CHANGE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]+")
_HOUR = timedelta(hours=1)
_TEXTS = ("account_id", "region", "resource_id", "trigger", "by", "made", "detail", "undoes", "undone_by")
_NEW = {"ConditionExpression": "attribute_not_exists(pk)"}


class DynamoDbLedger:
    """The Ledger port over DynamoDB.

    Args:
        client: A DynamoDB client of the hub.
        table_name: The table. Nothing that is written here expires.
    """

    def __init__(self, client: Any, table_name: str) -> None:
        self._table = Table(client, table_name, "the ledger")

    def states(
        self, account_id: str, region: str, resources: Collection[tuple[Kind, str]]
    ) -> Mapping[tuple[Kind, str], ResourceState]:
        """Read states. See ports.Ledger."""
        keys = {_state_key(account_id, region, *resource)["sk"]["S"]: resource for resource in resources}
        found = {resource: ResourceState(*resource) for resource in keys.values()}
        for item in self._table.read([_state_key(account_id, region, *resource) for resource in keys.values()]):
            resource = keys[item["sk"]["S"]]
            found[resource] = _to_state(*resource, item)
        return found

    def keep(self, account_id: str, region: str, state: ResourceState) -> ResourceState:
        """Write or delete a state. See ports.Ledger."""
        if not state.version and _says_nothing(state):
            return state
        kept, write = _state_write(account_id, region, state)
        self._write([write])
        return kept

    def begin(self, change: Change, state: ResourceState, limits: Limits | None) -> ResourceState | Breach:
        """Write an intent. See ports.Ledger."""
        begun, write = _state_write(change.account_id, change.region, replace(state, pending=change.change_id))
        writes = [{"Put": {"Item": _from_change(change), **_NEW}}, write]
        breach = self._write(writes, (lambda: self._counts(change, limits)) if limits else list)
        return breach or begun

    def end(self, change: Change, state: ResourceState) -> ResourceState:
        """Write an outcome. See ports.Ledger."""
        ended, write = _state_write(change.account_id, change.region, replace(state, pending=""))
        writes = [{"Put": {"Item": _from_change(change)}}, write]
        if change.undoes and change.progress is Progress.APPLIED:
            taken_back = {
                "Key": _change_key(change.undoes),
                "UpdateExpression": "SET undone_by = :change",
                "ConditionExpression": "attribute_exists(pk)",  # an update would create what is not there
                "ExpressionAttributeValues": {":change": {"S": change.change_id}},
            }
            writes.append({"Update": taken_back})
        self._write(writes)
        return ended

    def get(self, change_id: str) -> Change | None:
        """Read a change. See ports.Ledger."""
        if not _CHANGE_ID.fullmatch(change_id):
            return None
        return next((_to_change(item) for item in self._table.read([_change_key(change_id)])), None)

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        """Read the changes of a time. See ports.Ledger."""
        first, last = (f"{when.astimezone(UTC):%Y%m%dT%H%M%SZ}" for when in (since, until))
        for partition in _partitions(since, until):
            items = self._table.query(
                KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
                ExpressionAttributeValues={
                    ":pk": {"S": partition},
                    ":first": {"S": first},
                    ":last": {"S": f"{last}~"},  # after every id of that second
                },
                ScanIndexForward=False,
            )
            yield from (change for change in map(_to_change, items) if since <= change.begun_at < until)

    def _counts(self, change: Change, limits: Limits) -> list[dict[str, Item]] | Breach:
        """Count a change against the limits: the writes that do so, or the limit that is reached the longest."""
        account = f"account#{change.account_id}"
        owners = {
            account: (f"account {change.account_id}", limits.per_account),
            "organisation": ("the organisation", limits.per_organisation),
        }
        items = {item["sk"]["S"]: item for item in self._table.read([_limit_key(owner) for owner in owners])}
        writes: list[dict[str, Item]] = []
        breaches: list[Breach] = []
        for owner, (whose, limit) in owners.items():
            version, times = _to_count(items.get(owner))
            times = {name: when for name, when in times.items() if when + _HOUR > change.begun_at}
            if len(times) >= limit:
                # The limit may have been lowered: as many have to leave the hour as are too many.
                until = sorted(times.values())[-limit] if limit else change.begun_at
                breaches.append(Breach(whose, limit, until + _HOUR))
            times[change.change_id] = change.begun_at
            body = {"version": {"N": str(version + 1)}, "times": {"S": _json(times)}}
            writes.append({"Put": {"Item": {**_limit_key(owner), **body}, **_unchanged(version)}})
        return max(breaches, key=lambda breach: breach.until) if breaches else writes

    def _write(
        self, writes: list[dict[str, Item]], counts: Callable[[], list[dict[str, Item]] | Breach] = list
    ) -> Breach | None:
        """Write all or nothing, with the counts read anew for each attempt; nothing when they are a breach.

        Raises:
            TransientError: Somebody else has written meanwhile, or DynamoDB does not take it.
        """
        for attempt in range(ATTEMPTS):
            counted = counts()
            if isinstance(counted, Breach):
                return counted
            reasons = self._table.transact(*writes, *counted)
            if not reasons:
                return None
            if FAILED in reasons[: len(writes)]:
                raise TransientError(f"somebody else has written to {self._table.label} meanwhile: {reasons}")
            pause(attempt)
        raise TransientError(f"{self._table.label} refused a transaction {ATTEMPTS} times: {reasons}")


def _state_write(account_id: str, region: str, state: ResourceState) -> tuple[ResourceState, dict[str, Item]]:
    """Return a state as it will be stored, and the write that stores it, or deletes it when it says nothing."""
    key, condition = _state_key(account_id, region, state.kind, state.resource_id), _unchanged(state.version)
    if _says_nothing(state):
        return replace(state, version=0), {"Delete": {"Key": key, **condition}}
    stored = replace(state, version=state.version + 1 if state.version else time.time_ns() // 1000)
    values = asdict(stored)
    for name in ("kind", "resource_id", "version"):
        del values[name]
    body = {"version": {"N": str(stored.version)}, "state": {"S": _json(values)}}
    return stored, {"Put": {"Item": {**key, **body}, **condition}}


def _says_nothing(state: ResourceState) -> bool:
    return replace(state, version=0) == ResourceState(state.kind, state.resource_id)


def _unchanged(version: int) -> Item:
    """Return the condition that an item still has a version; 0 that it is not there."""
    if not version:
        return _NEW
    return {
        "ConditionExpression": "version = :version",
        "ExpressionAttributeValues": {":version": {"N": str(version)}},
    }


def _state_key(account_id: str, region: str, kind: Kind, resource_id: str) -> Item:
    return {"pk": {"S": f"state#{account_id}#{region}"}, "sk": {"S": f"state#{kind}#{resource_id}"}}


def _limit_key(owner: str) -> Item:
    return {"pk": {"S": "limits"}, "sk": {"S": owner}}


def _change_key(change_id: str) -> Item:
    return {"pk": {"S": f"changes#{change_id[:4]}-{change_id[4:6]}"}, "sk": {"S": change_id}}


def _partitions(since: datetime, until: datetime) -> Iterator[str]:
    """Return the partitions of the months in [since, until), the latest first."""
    first, last = (when.astimezone(UTC).year * 12 + when.astimezone(UTC).month - 1 for when in (since, until))
    for month in range(last, first - 1, -1):
        yield f"changes#{month // 12:04}-{month % 12 + 1:02}"


def _from_change(change: Change) -> Item:
    texts = {name: getattr(change, name) for name in _TEXTS} | {
        "kind": change.kind.value,
        "control_id": change.action.control_id,
        "progress": change.progress.value,
        "action": _json(encode(change.action)),
        "before": _json(change.before),
        "after": _json(change.after),
        "begun_at": change.begun_at.isoformat(),
    }
    if change.ended_at is not None:
        texts["ended_at"] = change.ended_at.isoformat()
    return _change_key(change.change_id) | {name: {"S": text} for name, text in texts.items()}


def _to_change(item: Item) -> Change:
    with _readable(item):
        texts: dict[str, str] = {name: value["S"] for name, value in item.items()}
        return Change(
            change_id=texts["sk"],
            kind=Kind(texts["kind"]),
            action=decode(json.loads(texts["action"])),
            begun_at=datetime.fromisoformat(texts["begun_at"]),
            before=json.loads(texts["before"]),
            progress=Progress(texts["progress"]),
            ended_at=_time(texts.get("ended_at")),
            after=json.loads(texts["after"]),
            **{name: texts[name] for name in _TEXTS},
        )


def _to_state(kind: Kind, resource_id: str, item: Item) -> ResourceState:
    with _readable(item):
        data = json.loads(item["state"]["S"])
        window = data["window"]
        if window is not None:
            times = {name: datetime.fromisoformat(window[name]) for name in ("opened_at", "due_at")}
            window = Window(**(window | times))
        holds, answered = (
            {name: Hold(datetime.fromisoformat(one["until"]), one["reason"]) for name, one in data[key].items()}
            for key in ("holds", "answered")
        )
        made = {
            name: Made(**(one | {key: tuple(one[key]) for key in ("route_table_ids", "subnet_ids")}))
            for name, one in data["made"].items()
        }
        return ResourceState(
            kind,
            resource_id,
            version=int(item["version"]["N"]),
            pending=data["pending"],
            window=window,
            holds=holds,
            answered=answered,
            made=made,
            applied={name: (control_id, made_by_it) for name, (control_id, made_by_it) in data["applied"].items()},
            changed_at=tuple(datetime.fromisoformat(when) for when in data["changed_at"]),
            again_at=_time(data["again_at"]),
        )


def _to_count(item: Item | None) -> tuple[int, dict[str, datetime]]:
    """Read the version and the times of what was counted; 0 and nothing where nothing is stored."""
    if item is None:
        return 0, {}
    with _readable(item):
        times = json.loads(item["times"]["S"])
        return int(item["version"]["N"]), {name: datetime.fromisoformat(when) for name, when in times.items()}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _json(value: Any) -> str:
    return json.dumps(value, default=datetime.isoformat)


@contextmanager
def _readable(item: Item) -> Iterator[None]:
    """What cannot be read may not be taken for nothing: nothing is changed then."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        where = f"{item['pk']['S']} {item['sk']['S']}"
        raise TransientError(f"the ledger holds something unreadable at {where}: {error!r}") from error
