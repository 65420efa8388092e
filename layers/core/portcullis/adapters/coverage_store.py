"""The memory of which accounts and Regions take part, in the hub's DynamoDB table.

One partition, ``coverage``, with an item per account and Region: a survey reads it in pages of a megabyte, some
thousands of items each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis.adapters.calls import translated
from portcullis.coverage import Answer, Coverage, Problem
from portcullis.errors import TransientError

if TYPE_CHECKING:
    from portcullis.ports import Clock

PERMISSIONS = ("dynamodb:DeleteItem", "dynamodb:Query", "dynamodb:UpdateItem")
"""The IAM actions that this module uses: intake and sweep update, the survey does all."""

PARTITION_KEY = "coverage"
_TEXTS = ("since", "heartbeat_at", "swept_at")


class DynamoDbCoverageStore:
    """The CoverageStore port over DynamoDB.

    Args:
        client: A DynamoDB client of the hub.
        table_name: The table.
        clock: The time.
    """

    def __init__(self, client: Any, table_name: str, clock: Clock) -> None:
        self._client = client
        self._table_name = table_name
        self._clock = clock

    def all(self) -> list[Coverage]:
        """Read everything. See ports.CoverageStore."""
        with translated("reading the coverage table", TransientError):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": PARTITION_KEY}},
                ConsistentRead=True,
            )
            return [_from_item(item) for page in pages for item in page["Items"]]

    def heard(self, account_id: str, region: str) -> Coverage:
        """Note a heartbeat. See ports.CoverageStore."""
        return self._update(account_id, region, {"heartbeat_at": {"S": self._now()}})

    def answered(self, account_id: str, region: str, answer: Answer) -> None:
        """Note how a look ended. See ports.CoverageStore."""
        values = {"sweep_id": answer.sweep_id, "problem": answer.problem or "", "detail": answer.detail}
        if answer.problem in (None, Problem.REFUSED):
            values["swept_at"] = self._now()
        self._update(account_id, region, {name: {"S": str(value)} for name, value in values.items()})

    def list_place(self, account_id: str, region: str) -> None:
        """Note who must take part. See ports.CoverageStore."""
        self._update(account_id, region, {"listed": {"BOOL": True}})

    def forget(self, account_id: str, region: str) -> None:
        """Drop one. See ports.CoverageStore."""
        with translated("writing the coverage table", TransientError):
            self._client.delete_item(TableName=self._table_name, Key=_key(account_id, region))

    def _update(self, account_id: str, region: str, values: dict[str, dict[str, Any]]) -> Coverage:
        names = [f"#{name} = :{name}" for name in values]
        with translated("writing the coverage table", TransientError):
            answer = self._client.update_item(
                TableName=self._table_name,
                Key=_key(account_id, region),
                UpdateExpression=f"SET #since = if_not_exists(#since, :since), {', '.join(names)}",
                ExpressionAttributeNames={f"#{name}": name for name in ("since", *values)},
                ExpressionAttributeValues={
                    ":since": {"S": self._now()},
                    **{f":{name}": value for name, value in values.items()},
                },
                ReturnValues="ALL_NEW",
            )
        return _from_item(answer["Attributes"])

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="seconds")


def _key(account_id: str, region: str) -> dict[str, Any]:
    return {"pk": {"S": PARTITION_KEY}, "sk": {"S": f"{account_id}#{region}"}}


def _from_item(item: dict[str, Any]) -> Coverage:
    account_id, region = item["sk"]["S"].split("#")
    answer = None
    if "sweep_id" in item:
        problem = item["problem"]["S"]
        answer = Answer(item["sweep_id"]["S"], Problem(problem) if problem else None, item["detail"]["S"])
    return Coverage(
        account_id,
        region,
        listed=item.get("listed", {}).get("BOOL", False),
        answer=answer,
        **{name: item[name]["S"] for name in _TEXTS if name in item},
    )
