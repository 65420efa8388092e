"""What Portcullis relies on in moto's DynamoDB, and what is right there without any help."""

from __future__ import annotations

import copy
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest
from moto.dynamodb import models

if TYPE_CHECKING:
    from .conftest import Aws


@pytest.fixture
def table(aws: Aws) -> Any:
    """A client for a table `t` with one item `old`."""
    client = aws.client("dynamodb")
    client.create_table(
        TableName="t",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
    )
    client.put_item(TableName="t", Item={"k": {"S": "old"}, "n": {"N": "1"}})
    return client


def _put(key: str, **condition: Any) -> dict[str, Any]:
    return {"Put": {"TableName": "t", "Item": {"k": {"S": key}}, **condition}}


def test_a_transaction_whose_condition_fails_writes_nothing_and_says_which(table: Any) -> None:
    """One reason for each part, in order, with its code."""
    parts = [_put("new"), _put("old", ConditionExpression="attribute_not_exists(k)"), _put("newer")]
    with pytest.raises(table.exceptions.TransactionCanceledException) as caught:
        table.transact_write_items(TransactItems=parts)
    codes = [reason["Code"] for reason in caught.value.response["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed", "None"]
    assert [item["k"]["S"] for item in table.scan(TableName="t")["Items"]] == ["old"]


def test_a_transaction_whose_conditions_hold_writes_everything(table: Any) -> None:
    """Puts, updates, deletions and checks."""
    key, names, values = {"k": {"S": "old"}}, {"#n": "n"}, {":one": {"N": "1"}}
    update = {"TableName": "t", "Key": key, "UpdateExpression": "SET #n = #n + :one"}
    condition = {"ConditionExpression": "#n = :one", "ExpressionAttributeNames": names}
    table.transact_write_items(
        TransactItems=[{"Update": {**update, **condition, "ExpressionAttributeValues": values}}, _put("new")]
    )
    items = {item["k"]["S"]: item.get("n") for item in table.scan(TableName="t")["Items"]}
    assert items == {"old": {"N": "2"}, "new": None}


def test_a_transaction_that_is_cancelled_undoes_nothing_of_others(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while a transaction runs is there after it has failed."""
    copied = copy.deepcopy
    with ThreadPoolExecutor(1) as other:

        def copy_while_another_writes(value: Any) -> Any:
            monkeypatch.setattr(models.copy, "deepcopy", copied)
            before = copied(value)
            writing.append(other.submit(table.put_item, TableName="t", Item={"k": {"S": "theirs"}}))
            wait(writing, timeout=0.3)  # it has to wait for the end of the transaction
            return before

        writing: list[Future[Any]] = []
        monkeypatch.setattr(models.copy, "deepcopy", copy_while_another_writes)
        with pytest.raises(table.exceptions.TransactionCanceledException):
            table.transact_write_items(TransactItems=[_put("old", ConditionExpression="attribute_not_exists(k)")])
        assert len(writing) == 1
        writing[0].result()
    assert {item["k"]["S"] for item in table.scan(TableName="t")["Items"]} == {"old", "theirs"}
