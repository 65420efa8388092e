"""The memory of what was filed, in the hub's DynamoDB table.

Partition key ``pk`` is the account and Region, sort key ``sk`` the resource and control, so that one query
lists what is open in an account and Region.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from portcullis.adapters.calls import translated
from portcullis.errors import TransientError
from portcullis.model import FindingRecord, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

PERMISSIONS = ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:Query")
"""The IAM actions that this module uses, with the reconcile function's own role."""

_GET_BATCH = 100
_WRITE_BATCH = 25
_ATTEMPTS = 5
_PREFIX = "finding#"
_KEPT_AFTER_ARCHIVAL = 100 * 24 * 3600
_OPTIONAL = ("status", "record_state", "digest")

_Key = tuple[Kind, str, str]


class DynamoDbStore:
    """The FindingStore port over DynamoDB.

    Args:
        client: A DynamoDB client of the hub.
        table_name: The table; its time-to-live attribute is ``expires_at``.
    """

    def __init__(self, client: Any, table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def load(self, account_id: str, region: str, keys: Collection[_Key]) -> Mapping[_Key, FindingRecord]:
        """Read the records of some findings. See ports.FindingStore."""
        wanted = [{"pk": {"S": f"{account_id}#{region}"}, "sk": {"S": _sort_key(key)}} for key in sorted(set(keys))]
        found: dict[_Key, FindingRecord] = {}
        for start in range(0, len(wanted), _GET_BATCH):
            request: dict[str, Any] = {
                self._table_name: {"Keys": wanted[start : start + _GET_BATCH], "ConsistentRead": True}
            }
            for answer in self._until_done("batch_get_item", "UnprocessedKeys", request):
                records = map(_from_item, answer["Responses"].get(self._table_name, []))
                found |= {record.key: record for record in records}
        return found

    def open_records(self, account_id: str, region: str) -> Iterator[FindingRecord]:
        """Read what is not archived. See ports.FindingStore."""
        with translated("reading the findings table", TransientError):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
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

    def save(self, account_id: str, region: str, records: Sequence[FindingRecord]) -> None:
        """Write records. See ports.FindingStore."""
        puts = [{"PutRequest": {"Item": _to_item(account_id, region, record)}} for record in records]
        for start in range(0, len(puts), _WRITE_BATCH):
            request = {self._table_name: puts[start : start + _WRITE_BATCH]}
            for _ in self._until_done("batch_write_item", "UnprocessedItems", request):
                pass

    def _until_done(self, operation: str, leftover: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Repeat a batch call for what DynamoDB left unprocessed, which it does when it is throttled."""
        for attempt in range(_ATTEMPTS):
            with translated("reaching the findings table", TransientError):
                answer = getattr(self._client, operation)(RequestItems=request)
            yield answer
            request = answer.get(leftover) or {}
            if not request:
                return
            if attempt < _ATTEMPTS - 1:
                time.sleep(0.05 * 2**attempt)
        raise TransientError(f"the findings table left items unprocessed after {_ATTEMPTS} attempts")


def _sort_key(key: _Key) -> str:
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
