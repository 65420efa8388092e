"""The memory of what was filed, in the hub's DynamoDB table.

Partition key ``pk`` is the account and Region, sort key ``sk`` the resource and control, so that one query
lists what is open in an account and Region.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import translated
from portcullis.errors import TransientError
from portcullis.model import FindingRecord, Kind, RecordKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

PERMISSIONS = ("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query")
"""The IAM actions that this module uses, with the function's own role; a transaction of puts needs PutItem."""

_GET_BATCH = 100
_WRITE_BATCH = 100
_ATTEMPTS = 5
_PREFIX = "finding#"
_KEPT_AFTER_ARCHIVAL = 100 * 24 * 3600
_OPTIONAL = ("status", "record_state", "digest")


class DynamoDbStore:
    """The FindingStore port over DynamoDB.

    Args:
        client: A DynamoDB client of the hub.
        table_name: The table; its time-to-live attribute is ``expires_at``.
    """

    def __init__(self, client: Any, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def load(self, account_id: str, region: str, keys: Collection[RecordKey]) -> Mapping[RecordKey, FindingRecord]:
        """Read the records of some findings. See ports.FindingStore."""
        wanted = [{"pk": {"S": f"{account_id}#{region}"}, "sk": {"S": _sort_key(key)}} for key in sorted(set(keys))]
        found: dict[RecordKey, FindingRecord] = {}
        for start in range(0, len(wanted), _GET_BATCH):
            items = self._get({"Keys": wanted[start : start + _GET_BATCH], "ConsistentRead": True})
            found |= {record.key: record for record in map(_from_item, items)}
        return found

    def open_records(self, account_id: str, region: str) -> Iterator[FindingRecord]:
        """Read what is not archived. See ports.FindingStore."""
        with translated("reading the findings table", TransientError):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
                ConsistentRead=True,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
                FilterExpression="attribute_not_exists(record_state) OR record_state <> :archived",
                ExpressionAttributeValues={
                    ":pk": {"S": f"{account_id}#{region}"},
                    ":prefix": {"S": _PREFIX},
                    ":archived": {"S": "ARCHIVED"},
                },
            )
            for page in pages:
                yield from map(_from_item, page["Items"])

    def save(
        self, account_id: str, region: str, changes: Sequence[tuple[FindingRecord, FindingRecord | None]]
    ) -> set[RecordKey]:
        """Write what nobody else has written meanwhile. See ports.FindingStore.

        A transaction writes all or nothing and says which conditions failed: the others are written without those.
        """
        lost: set[RecordKey] = set()
        for start in range(0, len(changes), _WRITE_BATCH):
            pending = list(changes[start : start + _WRITE_BATCH])
            for attempt in range(_ATTEMPTS):
                reasons = self._transact([self._put(account_id, region, *change) for change in pending])
                failed = [reason == "ConditionalCheckFailed" for reason in reasons]
                lost |= {record.key for (record, _), is_lost in zip(pending, failed, strict=False) if is_lost}
                pending = [change for change, is_lost in zip(pending, failed, strict=False) if not is_lost]
                if not reasons or not pending:
                    break
                if not any(failed):
                    time.sleep(0.05 * 2**attempt)
            else:
                raise TransientError(f"the findings table refused a transaction {_ATTEMPTS} times: {set(reasons)}")
        return lost

    def _transact(self, puts: list[dict[str, Any]]) -> list[str]:
        """Write all or nothing. Returns nothing when all is written, else the reason for each put ("None" if fine)."""
        with translated("writing the findings table", TransientError):
            try:
                self._client.transact_write_items(TransactItems=puts)
            except ClientError as error:
                if error.response["Error"]["Code"] != "TransactionCanceledException":
                    raise
                return [str(reason.get("Code")) for reason in error.response["CancellationReasons"]]
        return []

    def _put(self, account_id: str, region: str, record: FindingRecord, before: FindingRecord | None) -> dict[str, Any]:
        """Put a record where ``before`` is stored. A record is known by its time, and by being in doubt or not."""
        put = {"TableName": self._table_name, "Item": _to_item(account_id, region, record)}
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

    def _get(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Read items, repeating for what DynamoDB left out, which it does when it is throttled."""
        for attempt in range(_ATTEMPTS):
            with translated("reading the findings table", TransientError):
                answer = self._client.batch_get_item(RequestItems={self._table_name: request})
            yield from answer["Responses"].get(self._table_name, [])
            request = answer.get("UnprocessedKeys", {}).get(self._table_name, {})
            if not request:
                return
            time.sleep(0.05 * 2**attempt)
        raise TransientError(f"the findings table left items out {_ATTEMPTS} times")


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
