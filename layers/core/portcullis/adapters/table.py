"""The hub's DynamoDB table: consistent reads, and transactions that write all or nothing.

Everything is written in transactions, single items too: botocore's attempts share a token, so that an attempt whose
answer was lost is not a conflict to the next one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import translated
from portcullis.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ATTEMPTS = 5
"""How often to try what DynamoDB leaves undone while it is throttled, or while another transaction is under way."""

FAILED = "ConditionalCheckFailed"
"""The reason for cancelling a transaction that does not pass by itself."""

_GET_BATCH = 100

Item = dict[str, Any]
"""An item, or its key, as the client wants it: ``{"pk": {"S": ...}, ...}``."""


class Table:
    """The table.

    Args:
        client: A DynamoDB client of the hub.
        name: The table's name.
        label: What it is, for errors: "the findings table".
    """

    def __init__(self, client: Any, name: str, label: str) -> None:
        self.label = label
        self._client = client
        self._name = name

    def read(self, keys: Sequence[Item]) -> Iterator[Item]:
        """Read the items of some keys, each named once, that exist; in any order.

        Raises:
            TransientError: DynamoDB did not answer, or refused.
        """
        for start in range(0, len(keys), _GET_BATCH):
            yield from self._get({"Keys": list(keys[start : start + _GET_BATCH]), "ConsistentRead": True})

    def query(self, **request: Any) -> Iterator[Item]:
        """Read what a query finds, page by page; raises what ``read`` raises."""
        with translated(f"reading {self.label}", TransientError):
            pages = self._client.get_paginator("query").paginate(TableName=self._name, ConsistentRead=True, **request)
            for page in pages:
                yield from page["Items"]

    def transact(self, *writes: dict[str, Item]) -> list[str]:
        """Write all or nothing.

        Args:
            writes: ``{"Put": {...}}`` and the like, without the table's name.

        Returns:
            Nothing when all is written; else, for each write, the reason why nothing is ("None" where it is another).

        Raises:
            TransientError: DynamoDB did not answer, or refused. Where no attempt was answered, all may be written.
        """
        named = [{kind: {"TableName": self._name, **request} for kind, request in write.items()} for write in writes]
        with translated(f"writing {self.label}", TransientError):
            try:
                self._client.transact_write_items(TransactItems=named)
            except ClientError as error:
                if error.response["Error"]["Code"] != "TransactionCanceledException":
                    raise
                return [str(reason.get("Code")) for reason in error.response["CancellationReasons"]]
        return []

    def _get(self, request: dict[str, Any]) -> Iterator[Item]:
        """Read items, repeating for what DynamoDB left out, which it does when it is throttled."""
        for attempt in range(ATTEMPTS):
            with translated(f"reading {self.label}", TransientError):
                answer = self._client.batch_get_item(RequestItems={self._name: request})
            yield from answer["Responses"].get(self._name, [])
            request = answer.get("UnprocessedKeys", {}).get(self._name, {})
            if not request:
                return
            pause(attempt)
        raise TransientError(f"{self.label} left items out {ATTEMPTS} times")


def pause(attempt: int) -> None:
    """Wait before the attempt after this one: 50 ms, doubling."""
    time.sleep(0.05 * 2**attempt)
