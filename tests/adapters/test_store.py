"""The memory of what was filed: what is written is read back, whatever DynamoDB leaves undone meanwhile."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.store import DynamoDbStore
from portcullis.errors import TransientError
from portcullis.model import FindingRecord, Kind

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

TABLE = "portcullis"
CREATED, UPDATED = "2026-03-02T09:14:05.000Z", "2026-03-03T10:00:00.000Z"


def record(number: int = 0, **more: Any) -> FindingRecord:
    """Return the record of an open finding on a VPC of its own."""
    known = FindingRecord("VPCE.1", Kind.VPC, f"vpc-{number:03}", CREATED, UPDATED, "FAILED", "ACTIVE", "digest")
    return replace(known, **more)


def key(number: int) -> dict[str, Any]:
    """Return the key of a record in the table."""
    return {"pk": {"S": f"{ACCOUNT}#{REGION}"}, "sk": {"S": f"finding#vpc#vpc-{number:03}#VPCE.1"}}


def item(number: int) -> dict[str, Any]:
    """Return a record as it is in the table."""
    texts = {"created_at": CREATED, "updated_at": UPDATED, "status": "FAILED", "record_state": "ACTIVE"}
    return key(number) | {name: {"S": text} for name, text in (texts | {"digest": "digest"}).items()}


@pytest.fixture
def table(aws: None, session: boto3.Session) -> Any:  # noqa: ARG001 - it has to run inside moto
    """Make the table in moto; returns its client, which counts calls in ``calls``."""
    client: Any = session.client("dynamodb", config=CONFIG)
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    client.calls = []
    client.meta.events.register("before-parameter-build", lambda model, **_: client.calls.append(model.name))
    return client


@pytest.fixture
def store(table: Any) -> DynamoDbStore:
    """Return a store over moto's table."""
    return DynamoDbStore(table, TABLE)


@pytest.fixture
def dynamodb(script: Callable[[str], Script]) -> Script:
    """Return a scripted DynamoDB."""
    return script("dynamodb")


# ---- Against moto --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "saved",
    [
        record(),
        record(status=None, record_state=None, digest=None),
        record(status="PASSED", digest=None),
        record(control_id="ROLE.1", kind=Kind.INSTANCE, resource_id="i-0123456789abcdef0"),
        record(status="NOT_AVAILABLE", record_state="ARCHIVED"),
    ],
    ids=["open", "in doubt", "without digest", "instance", "archived"],
)
def test_what_is_saved_is_loaded(store: DynamoDbStore, saved: FindingRecord) -> None:
    """Every field comes back as it was, absent ones as None."""
    store.save(ACCOUNT, REGION, [saved])

    assert store.load(ACCOUNT, REGION, [saved.key]) == {saved.key: saved}


def test_what_was_never_saved_is_not_loaded(store: DynamoDbStore) -> None:
    """Nor is what another account, Region, control or resource has."""
    store.save(ACCOUNT, REGION, [record()])

    others = [record(1).key, record(control_id="VPCE.2").key]
    assert store.load(ACCOUNT, REGION, others) == {}
    assert store.load(OTHER_ACCOUNT, REGION, [record().key]) == {}
    assert store.load(ACCOUNT, OTHER_REGION, [record().key]) == {}
    assert list(store.open_records(OTHER_ACCOUNT, REGION)) == []


def test_a_record_is_replaced_as_a_whole(store: DynamoDbStore) -> None:
    """In doubt means that nothing of the last state is known any more."""
    store.save(ACCOUNT, REGION, [record()])
    doubt = record(status=None, record_state=None, digest=None)

    store.save(ACCOUNT, REGION, [doubt])

    assert store.load(ACCOUNT, REGION, [doubt.key]) == {doubt.key: doubt}


def test_many_records_go_in_batches(store: DynamoDbStore, table: Any) -> None:
    """300 records: twelve writes of 25, three reads of 100, all of them back."""
    saved = [record(n) for n in range(300)]

    store.save(ACCOUNT, REGION, saved)
    loaded = store.load(ACCOUNT, REGION, [each.key for each in saved])

    assert loaded == {each.key: each for each in saved}
    assert table.calls == ["BatchWriteItem"] * 12 + ["BatchGetItem"] * 3
    assert sorted(store.open_records(ACCOUNT, REGION), key=lambda each: each.key) == saved


def test_a_key_that_is_asked_for_twice_is_read_once(store: DynamoDbStore) -> None:
    """DynamoDB refuses a batch that names a key twice."""
    store.save(ACCOUNT, REGION, [record()])

    assert list(store.load(ACCOUNT, REGION, [record().key, record().key])) == [record().key]


def test_nothing_to_do_is_no_call(store: DynamoDbStore, table: Any) -> None:
    """Empty batches are refused, so none is sent."""
    store.save(ACCOUNT, REGION, [])

    assert store.load(ACCOUNT, REGION, []) == {}
    assert table.calls == []


def test_archived_records_expire_and_are_not_open(store: DynamoDbStore, table: Any) -> None:
    """They are kept for a hundred days, longer than Security Hub keeps the finding, and then forgotten."""
    archived = record(1, status="NOT_AVAILABLE", record_state="ARCHIVED")
    doubt = record(2, status=None, record_state=None, digest=None)
    passed = record(3, status="PASSED")

    store.save(ACCOUNT, REGION, [record(0), archived, doubt, passed])

    assert set(store.open_records(ACCOUNT, REGION)) == {record(0), doubt, passed}
    stored = {each["sk"]["S"]: each for each in table.scan(TableName=TABLE)["Items"]}
    expiring = {name: int(each["expires_at"]["N"]) for name, each in stored.items() if "expires_at" in each}
    assert set(expiring) == {key(1)["sk"]["S"]}
    days = (expiring[key(1)["sk"]["S"]] - time.time()) / (24 * 3600)
    assert days == pytest.approx(100, abs=0.01)


def test_a_reopened_record_does_not_expire(store: DynamoDbStore, table: Any) -> None:
    """What was archived and is wrong again is kept for as long as it is open."""
    store.save(ACCOUNT, REGION, [record(status="NOT_AVAILABLE", record_state="ARCHIVED")])

    store.save(ACCOUNT, REGION, [record()])

    (stored,) = table.scan(TableName=TABLE)["Items"]
    assert "expires_at" not in stored
    assert list(store.open_records(ACCOUNT, REGION)) == [record()]


# ---- Pages, and what DynamoDB leaves undone ------------------------------------------------------------------------


def test_open_records_are_read_page_by_page(dynamodb: Script) -> None:
    """A query answers a megabyte at a time, and a page may be empty once it is filtered."""
    query = {
        "TableName": TABLE,
        "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
        "FilterExpression": "attribute_not_exists(record_state) OR record_state <> :archived",
        "ExpressionAttributeValues": {
            ":pk": {"S": f"{ACCOUNT}#{REGION}"},
            ":prefix": {"S": "finding#"},
            ":archived": {"S": "ARCHIVED"},
        },
    }
    dynamodb.expect("query", {"Items": [item(1)], "LastEvaluatedKey": key(1)}, query)
    dynamodb.expect("query", {"Items": [], "LastEvaluatedKey": key(5)}, {**query, "ExclusiveStartKey": key(1)})
    dynamodb.expect("query", {"Items": [item(7)]}, {**query, "ExclusiveStartKey": key(5)})

    found = list(DynamoDbStore(dynamodb.client, TABLE).open_records(ACCOUNT, REGION))

    assert found == [record(1), record(7)]


def test_records_are_read_consistently(dynamodb: Script) -> None:
    """What the last invocation wrote a moment ago decides what this one files."""
    request = {"RequestItems": {TABLE: {"Keys": [key(0), key(1)], "ConsistentRead": True}}}
    dynamodb.expect("batch_get_item", {"Responses": {TABLE: [item(1)]}}, request)

    found = DynamoDbStore(dynamodb.client, TABLE).load(ACCOUNT, REGION, [record(1).key, record(0).key])

    assert found == {record(1).key: record(1)}


def test_unprocessed_reads_are_repeated(dynamodb: Script, naps: list[float]) -> None:
    """Only what was left over is asked for again, after a pause, and the answers are put together."""
    left = {TABLE: {"Keys": [key(1)], "ConsistentRead": True}}
    dynamodb.expect("batch_get_item", {"Responses": {TABLE: [item(0)]}, "UnprocessedKeys": left})
    dynamodb.expect("batch_get_item", {"Responses": {}, "UnprocessedKeys": left}, {"RequestItems": left})
    dynamodb.expect("batch_get_item", {"Responses": {TABLE: [item(1)]}, "UnprocessedKeys": {}}, {"RequestItems": left})

    found = DynamoDbStore(dynamodb.client, TABLE).load(ACCOUNT, REGION, [record(0).key, record(1).key])

    assert found == {record(n).key: record(n) for n in (0, 1)}
    assert naps == [0.05, 0.1]


def test_unprocessed_writes_are_repeated(dynamodb: Script, naps: list[float]) -> None:
    """Only what was left over is written again, after a pause."""
    puts = [{"PutRequest": {"Item": item(n)}} for n in (0, 1)]
    left = {TABLE: puts[1:]}
    dynamodb.expect("batch_write_item", {"UnprocessedItems": left}, {"RequestItems": {TABLE: puts}})
    dynamodb.expect("batch_write_item", {"UnprocessedItems": {}}, {"RequestItems": left})

    DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, [record(0), record(1)])

    assert naps == [0.05]


def test_unprocessed_writes_are_given_up(dynamodb: Script, naps: list[float]) -> None:
    """Five attempts with growing pauses, then the queue has more patience."""
    left = {TABLE: [{"PutRequest": {"Item": item(0)}}]}
    for _ in range(5):
        dynamodb.expect("batch_write_item", {"UnprocessedItems": left}, {"RequestItems": left})

    with pytest.raises(TransientError, match="unprocessed after 5 attempts"):
        DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, [record(0)])

    assert naps[:4] == [0.05, 0.1, 0.2, 0.4]


def test_unprocessed_reads_are_given_up(dynamodb: Script, naps: list[float]) -> None:
    """What could not be read is not taken for never filed."""
    left = {TABLE: {"Keys": [key(0)], "ConsistentRead": True}}
    for _ in range(5):
        dynamodb.expect("batch_get_item", {"Responses": {}, "UnprocessedKeys": left}, {"RequestItems": left})

    with pytest.raises(TransientError, match="unprocessed after 5 attempts"):
        DynamoDbStore(dynamodb.client, TABLE).load(ACCOUNT, REGION, [record(0).key])

    assert sum(naps) < 2


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "AccessDeniedException",
        "ResourceNotFoundException",
    ],
)
@pytest.mark.parametrize("operation", ["batch_get_item", "batch_write_item", "query"])
def test_whatever_is_wrong_with_the_table_is_worth_a_retry(dynamodb: Script, operation: str, code: str) -> None:
    """A missing table or permission is a fault of the deployment, not of the targets: none is given up for it."""
    dynamodb.refuse(operation, code)
    store = DynamoDbStore(dynamodb.client, TABLE)
    call: dict[str, Callable[[], object]] = {
        "batch_get_item": lambda: store.load(ACCOUNT, REGION, [record().key]),
        "batch_write_item": lambda: store.save(ACCOUNT, REGION, [record()]),
        "query": lambda: list(store.open_records(ACCOUNT, REGION)),
    }

    with pytest.raises(TransientError, match=f"the findings table: {code}"):
        call[operation]()


def test_an_unreachable_table_is_transient(session: boto3.Session, naps: list[float]) -> None:
    """After botocore's three attempts."""
    client = session.client("dynamodb", config=CONFIG)
    wire = Wire(client, ReadTimeoutError(endpoint_url="https://dynamodb"))

    with pytest.raises(TransientError, match="ReadTimeoutError"):
        DynamoDbStore(client, TABLE).load(ACCOUNT, REGION, [record().key])

    assert wire.attempts == 3
    assert len(naps) == 2
