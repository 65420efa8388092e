"""The memory of what was filed, in the hub's DynamoDB table.

Partition key ``pk`` is the account and Region, sort key ``sk`` the resource and control, so that one query
lists what is open in an account and Region.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from portcullis.adapters.table import ATTEMPTS, FAILED, Item, Table, pause
from portcullis.errors import TransientError
from portcullis.model import FindingRecord, Kind, RecordKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

PERMISSIONS = ("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query")
"""The IAM actions that this module uses, with the function's own role; a transaction of puts needs PutItem."""

_WRITE_BATCH = 100
_PREFIX = "finding#"
_KEPT_AFTER_ARCHIVAL = 100 * 24 * 3600
_OPTIONAL = ("status", "record_state", "digest", "proposed")


class DynamoDbStore:
    """The FindingStore port over DynamoDB.

    Args:
        client: A DynamoDB client of the hub.
        table_name: The table; its time-to-live attribute is ``expires_at``.
    """

    def __init__(self, client: Any, table_name: str) -> None:
        self._table = Table(client, table_name, "the findings table")

    def load(self, account_id: str, region: str, keys: Collection[RecordKey]) -> Mapping[RecordKey, FindingRecord]:
        """Read the records of some findings. See ports.FindingStore."""
        wanted = [{"pk": {"S": f"{account_id}#{region}"}, "sk": {"S": _sort_key(key)}} for key in sorted(set(keys))]
        return {record.key: record for record in map(_from_item, self._table.read(wanted))}

    def open_records(self, account_id: str, region: str) -> Iterator[FindingRecord]:
        """Read what is not archived. See ports.FindingStore."""
        items = self._table.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            FilterExpression="attribute_not_exists(record_state) OR record_state <> :archived",
            ExpressionAttributeValues={
                ":pk": {"S": f"{account_id}#{region}"},
                ":prefix": {"S": _PREFIX},
                ":archived": {"S": "ARCHIVED"},
            },
        )
        return map(_from_item, items)

    def save(
        self, account_id: str, region: str, changes: Sequence[tuple[FindingRecord, FindingRecord | None]]
    ) -> set[RecordKey]:
        """Write what nobody else has written meanwhile. See ports.FindingStore.

        A transaction writes all or nothing and says which conditions failed: the others are written without those.
        """
        lost: set[RecordKey] = set()
        for start in range(0, len(changes), _WRITE_BATCH):
            pending = list(changes[start : start + _WRITE_BATCH])
            for attempt in range(ATTEMPTS):
                reasons = self._table.transact(*(_put(account_id, region, *change) for change in pending))
                failed = [reason == FAILED for reason in reasons]
                lost |= {record.key for (record, _), is_lost in zip(pending, failed, strict=False) if is_lost}
                pending = [change for change, is_lost in zip(pending, failed, strict=False) if not is_lost]
                if not reasons or not pending:
                    break
                if not any(failed):
                    pause(attempt)
            else:
                raise TransientError(f"the findings table refused a transaction {ATTEMPTS} times: {set(reasons)}")
        return lost


def _put(account_id: str, region: str, record: FindingRecord, before: FindingRecord | None) -> dict[str, Item]:
    """Put a record where ``before`` is stored. A record is known by its time, and by being in doubt or not."""
    put: Item = {"Item": _to_item(account_id, region, record)}
    if before is None:
        return {"Put": {**put, "ConditionExpression": "attribute_not_exists(pk)"}}
    values = {":before": {"S": before.updated_at}}
    same_status = "attribute_not_exists(#status)"
    if before.status is not None:
        values[":status"] = {"S": before.status}
        same_status = "#status = :status"
    condition = {
        "ConditionExpression": f"updated_at = :before AND {same_status}",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": values,
    }
    return {"Put": {**put, **condition}}


def _sort_key(key: RecordKey) -> str:
    kind, resource_id, control_id = key
    return f"{_PREFIX}{kind}#{resource_id}#{control_id}"


def _to_item(account_id: str, region: str, record: FindingRecord) -> dict[str, Any]:
    item = {
        "pk": {"S": f"{account_id}#{region}"},
        "sk": {"S": _sort_key(record.key)},
        "created_at": {"S": record.created_at},
        "updated_at": {"S": record.updated_at},
    }
    item |= {name: {"S": value} for name in _OPTIONAL if (value := getattr(record, name)) is not None}
    if record.record_state == "ARCHIVED":
        item["expires_at"] = {"N": str(int(time.time()) + _KEPT_AFTER_ARCHIVAL)}
    return item


def _from_item(item: dict[str, Any]) -> FindingRecord:
    _, kind, resource_id, control_id = item["sk"]["S"].split("#")
    return FindingRecord(
        control_id=control_id,
        kind=Kind(kind),
        resource_id=resource_id,
        created_at=item["created_at"]["S"],
        updated_at=item["updated_at"]["S"],
        **{name: item[name]["S"] for name in _OPTIONAL if name in item},
    )
