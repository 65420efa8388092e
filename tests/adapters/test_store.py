"""The memory of what was filed: what is written is read back, whatever DynamoDB leaves undone meanwhile."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.store import DynamoDbStore
from portcullis.errors import TransientError
from portcullis.model import FindingRecord, Kind

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, TABLE, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

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
def store(table: Any) -> DynamoDbStore:
    """Return a store over moto's table."""
    return DynamoDbStore(table, TABLE)


DOUBT = record(status=None, record_state=None, digest=None)


def fresh(*records: FindingRecord) -> list[tuple[FindingRecord, FindingRecord | None]]:
    """Return the changes that write records of which nothing was remembered."""
    return [(each, None) for each in records]


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
    assert store.save(ACCOUNT, REGION, fresh(saved)) == set()

    assert store.load(ACCOUNT, REGION, [saved.key]) == {saved.key: saved}


def test_what_was_never_saved_is_not_loaded(store: DynamoDbStore) -> None:
    """Nor is what another account, Region, control or resource has."""
    store.save(ACCOUNT, REGION, fresh(record()))

    others = [record(1).key, record(control_id="VPCE.2").key]
    assert store.load(ACCOUNT, REGION, others) == {}
    assert store.load(OTHER_ACCOUNT, REGION, [record().key]) == {}
    assert store.load(ACCOUNT, OTHER_REGION, [record().key]) == {}
    assert list(store.open_records(OTHER_ACCOUNT, REGION)) == []


def test_a_record_is_replaced_as_a_whole(store: DynamoDbStore) -> None:
    """In doubt means that nothing of the last state is known any more."""
    store.save(ACCOUNT, REGION, fresh(record()))

    assert store.save(ACCOUNT, REGION, [(DOUBT, record())]) == set()

    assert store.load(ACCOUNT, REGION, [DOUBT.key]) == {DOUBT.key: DOUBT}


def test_many_records_go_in_batches(store: DynamoDbStore, table: Any) -> None:
    """250 records: three transactions of at most 100, three reads of 100, all of them back."""
    saved = [record(n) for n in range(250)]

    assert store.save(ACCOUNT, REGION, fresh(*saved)) == set()
    loaded = store.load(ACCOUNT, REGION, [each.key for each in saved])

    assert loaded == {each.key: each for each in saved}
    assert table.calls == ["TransactWriteItems"] * 3 + ["BatchGetItem"] * 3
    assert sorted(store.open_records(ACCOUNT, REGION), key=lambda each: each.key) == saved


def test_a_key_that_is_asked_for_twice_is_read_once(store: DynamoDbStore) -> None:
    """DynamoDB refuses a batch that names a key twice."""
    store.save(ACCOUNT, REGION, fresh(record()))

    assert list(store.load(ACCOUNT, REGION, [record().key, record().key])) == [record().key]


def test_nothing_to_do_is_no_call(store: DynamoDbStore, table: Any) -> None:
    """Empty batches are refused, so none is sent."""
    assert store.save(ACCOUNT, REGION, []) == set()

    assert store.load(ACCOUNT, REGION, []) == {}
    assert table.calls == []


def test_archived_records_expire_and_are_not_open(store: DynamoDbStore, table: Any) -> None:
    """They are kept for a hundred days, longer than Security Hub keeps the finding, and then forgotten."""
    archived = record(1, status="NOT_AVAILABLE", record_state="ARCHIVED")
    doubt = record(2, status=None, record_state=None, digest=None)
    passed = record(3, status="PASSED")

    store.save(ACCOUNT, REGION, fresh(record(0), archived, doubt, passed))

    assert set(store.open_records(ACCOUNT, REGION)) == {record(0), doubt, passed}
    stored = {each["sk"]["S"]: each for each in table.scan(TableName=TABLE)["Items"]}
    expiring = {name: int(each["expires_at"]["N"]) for name, each in stored.items() if "expires_at" in each}
    assert set(expiring) == {key(1)["sk"]["S"]}
    days = (expiring[key(1)["sk"]["S"]] - time.time()) / (24 * 3600)
    assert days == pytest.approx(100, abs=0.01)


def test_a_reopened_record_does_not_expire(store: DynamoDbStore, table: Any) -> None:
    """What was archived and is wrong again is kept for as long as it is open."""
    archived = record(status="NOT_AVAILABLE", record_state="ARCHIVED")
    store.save(ACCOUNT, REGION, fresh(archived))

    store.save(ACCOUNT, REGION, [(record(), archived)])

    (stored,) = table.scan(TableName=TABLE)["Items"]
    assert "expires_at" not in stored
    assert list(store.open_records(ACCOUNT, REGION)) == [record()]


def test_coverage_is_not_taken_for_findings(store: DynamoDbStore, table: Any) -> None:
    """Both are in one table, in partitions of their own; and what has another prefix is no finding either."""
    table.put_item(TableName=TABLE, Item={"pk": {"S": "coverage"}, "sk": {"S": f"{ACCOUNT}#{REGION}"}})
    table.put_item(TableName=TABLE, Item={**key(0), "sk": {"S": "other#vpc#vpc-1#VPCE.1"}})

    assert list(store.open_records(ACCOUNT, REGION)) == []


# ---- Optimistic locking, against moto ------------------------------------------------------------------------------

LATER = "2026-03-04T10:00:00.000Z"
ARCHIVED = record(status="NOT_AVAILABLE", record_state="ARCHIVED")
LATER_DOUBT = replace(DOUBT, updated_at=LATER)
MINE = record(updated_at="2026-03-05T10:00:00.000Z", digest="mine")


@pytest.mark.parametrize("stored", [None, DOUBT, record(), ARCHIVED, LATER_DOUBT])
@pytest.mark.parametrize("loaded", [None, DOUBT, record(), ARCHIVED, LATER_DOUBT])
def test_a_record_is_written_only_over_what_was_loaded(
    store: DynamoDbStore, stored: FindingRecord | None, loaded: FindingRecord | None
) -> None:
    """A look that loaded something else was overtaken by another: it must not overwrite what that one filed."""
    store.save(ACCOUNT, REGION, fresh(*([stored] if stored else [])))

    lost = store.save(ACCOUNT, REGION, [(MINE, loaded)])

    overtaken = stored != loaded
    assert lost == ({MINE.key} if overtaken else set())
    kept = stored if overtaken else MINE
    assert store.load(ACCOUNT, REGION, [MINE.key]) == ({kept.key: kept} if kept else {})


def test_of_two_looks_at_once_one_files(store: DynamoDbStore, table: Any) -> None:
    """Both loaded the same; whoever writes its doubt first goes on, and the other learns that it may not."""
    store.save(ACCOUNT, REGION, fresh(record()))
    other = DynamoDbStore(table, TABLE)
    (seen,) = store.load(ACCOUNT, REGION, [record().key]).values()
    (seen_too,) = other.load(ACCOUNT, REGION, [record().key]).values()
    doubts = [replace(DOUBT, updated_at=LATER), replace(DOUBT, updated_at="2026-03-04T10:00:00.001Z")]

    assert other.save(ACCOUNT, REGION, [(doubts[1], seen_too)]) == set()
    assert store.save(ACCOUNT, REGION, [(doubts[0], seen)]) == {record().key}

    assert other.save(ACCOUNT, REGION, [(MINE, doubts[1])]) == set()
    assert store.load(ACCOUNT, REGION, [MINE.key]) == {MINE.key: MINE}


def test_what_is_lost_holds_up_nothing_else(store: DynamoDbStore, table: Any) -> None:
    """250 records, ten of which somebody else wrote meanwhile: 240 are written, those ten are named and kept."""
    saved = [record(n) for n in range(250)]
    store.save(ACCOUNT, REGION, fresh(*saved))
    overtaken = {n: record(n, updated_at=LATER, digest="theirs") for n in range(0, 250, 25)}
    store.save(ACCOUNT, REGION, [(each, record(n)) for n, each in overtaken.items()])
    mine = [replace(each, updated_at=LATER, digest="mine") for each in saved]
    table.calls.clear()

    lost = store.save(ACCOUNT, REGION, list(zip(mine, saved, strict=True)))

    assert lost == {each.key for each in overtaken.values()}
    expected = {each.key: each for each in mine} | {each.key: each for each in overtaken.values()}
    assert store.load(ACCOUNT, REGION, list(expected)) == expected
    assert table.calls[:6] == ["TransactWriteItems"] * 6  # each batch once in vain, and once without what is lost


def test_all_may_be_lost(store: DynamoDbStore) -> None:
    """Then nothing is left to write."""
    saved = [record(n) for n in range(3)]
    store.save(ACCOUNT, REGION, fresh(*saved))

    assert store.save(ACCOUNT, REGION, fresh(*saved)) == {each.key for each in saved}


# ---- Pages, and what DynamoDB leaves undone ------------------------------------------------------------------------


def test_open_records_are_read_page_by_page(dynamodb: Script) -> None:
    """A query answers a megabyte at a time, consistently, and a page may be empty once it is filtered."""
    query = {
        "TableName": TABLE,
        "ConsistentRead": True,
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


def test_unprocessed_reads_are_given_up(dynamodb: Script, naps: list[float]) -> None:
    """What could not be read is not taken for never filed."""
    left = {TABLE: {"Keys": [key(0)], "ConsistentRead": True}}
    for _ in range(5):
        dynamodb.expect("batch_get_item", {"Responses": {}, "UnprocessedKeys": left}, {"RequestItems": left})

    with pytest.raises(TransientError, match="left items out 5 times"):
        DynamoDbStore(dynamodb.client, TABLE).load(ACCOUNT, REGION, [record(0).key])

    assert sum(naps) < 2


# ---- Transactions, word for word -----------------------------------------------------------------------------------


def put(number: int, **condition: Any) -> dict[str, Any]:
    """Return a put of a transaction: the open record of that number, on a condition."""
    return {"Put": {"TableName": TABLE, "Item": item(number), **condition}}


NEW = {"ConditionExpression": "attribute_not_exists(pk)"}
CONDITIONS: list[tuple[FindingRecord | None, dict[str, Any]]] = [
    (None, NEW),
    (
        DOUBT,
        {
            "ConditionExpression": "updated_at = :before AND attribute_not_exists(#status)",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":before": {"S": UPDATED}},
        },
    ),
    (
        record(status="PASSED", updated_at=LATER),
        {
            "ConditionExpression": "updated_at = :before AND #status = :status",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":before": {"S": LATER}, ":status": {"S": "PASSED"}},
        },
    ),
]


def cancelled(dynamodb: Script, *codes: str) -> None:
    """Expect a transaction next, and cancel it for these reasons, one for each put."""
    reasons = [{"Code": code, "Message": "why"} for code in codes]
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(codes)}]"
    dynamodb.refuse("transact_write_items", "TransactionCanceledException", message, CancellationReasons=reasons)


def transactions(dynamodb: Script) -> list[list[dict[str, Any]]]:
    """Return what the transactions would have put, in order."""
    return [request["TransactItems"] for _, request in dynamodb.requests]


def test_the_condition_names_what_was_loaded(dynamodb: Script) -> None:
    """Nothing, or a record by its time and by whether it is in doubt: the request, word for word."""
    puts = [put(n, **condition) for n, (_, condition) in enumerate(CONDITIONS)]
    dynamodb.expect("transact_write_items", {}, {"TransactItems": puts})
    changes = [(record(n), before) for n, (before, _) in enumerate(CONDITIONS)]

    assert DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, changes) == set()


def test_what_is_lost_is_left_out_of_the_next_attempt(dynamodb: Script, naps: list[float]) -> None:
    """A transaction writes all or nothing: the second attempt is without those that failed, at once."""
    cancelled(dynamodb, "ConditionalCheckFailed", "None", "ConditionalCheckFailed")
    dynamodb.expect("transact_write_items", {}, {"TransactItems": [put(1, **NEW)]})

    lost = DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, fresh(*(record(n) for n in range(3))))

    assert lost == {record(0).key, record(2).key}
    assert naps == []


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_that_met_another_is_tried_again(dynamodb: Script, naps: list[float], code: str) -> None:
    """A conflict or throttling passes by itself: all of it again, after growing pauses."""
    for _ in range(3):
        cancelled(dynamodb, "None", code)
    dynamodb.expect("transact_write_items", {})

    assert DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, fresh(record(0), record(1))) == set()

    assert transactions(dynamodb) == [[put(0, **NEW), put(1, **NEW)]] * 4
    assert naps == [0.05, 0.1, 0.2]


def test_a_conflict_and_a_loss_at_once(dynamodb: Script, naps: list[float]) -> None:
    """What is lost is left out and what met another transaction is tried again, in the same attempt."""
    cancelled(dynamodb, "ConditionalCheckFailed", "TransactionConflict", "None")
    cancelled(dynamodb, "TransactionConflict", "None")
    dynamodb.expect("transact_write_items", {})

    lost = DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, fresh(*(record(n) for n in range(3))))

    assert lost == {record(0).key}
    assert [len(puts) for puts in transactions(dynamodb)] == [3, 2, 2]
    assert len(naps) == 1


def test_a_transaction_that_never_goes_through_is_given_up(dynamodb: Script, naps: list[float]) -> None:
    """Five attempts within two seconds, then the queue has more patience; nothing counts as written or lost."""
    for _ in range(5):
        cancelled(dynamodb, "None", "TransactionConflict")

    with pytest.raises(
        TransientError, match=r"the findings table refused a transaction 5 times: .*TransactionConflict"
    ):
        DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, fresh(record(0), record(1)))

    assert naps[:4] == [0.05, 0.1, 0.2, 0.4]
    assert sum(naps) < 2


def test_a_batch_that_fails_stops_those_after_it(dynamodb: Script, naps: list[float]) -> None:
    """The look is repeated as a whole; what was written before then is what that one loads."""
    dynamodb.expect("transact_write_items", {})
    for _ in range(5):
        cancelled(dynamodb, *["TransactionConflict"] * 100)

    with pytest.raises(TransientError):
        DynamoDbStore(dynamodb.client, TABLE).save(ACCOUNT, REGION, fresh(*(record(n) for n in range(250))))

    assert [len(puts) for puts in transactions(dynamodb)] == [100] * 6
    assert len(naps) == 5


def test_attempts_of_one_transaction_share_a_token(session: boto3.Session, naps: list[float]) -> None:
    """A timeout may hide a success: botocore's attempts carry one token, so that the second is no loss to itself."""
    client = session.client("dynamodb", config=CONFIG)
    wire = Wire(client, ReadTimeoutError(endpoint_url="https://dynamodb"), (200, "{}"))

    assert DynamoDbStore(client, TABLE).save(ACCOUNT, REGION, fresh(record())) == set()

    tokens = {json.loads(body)["ClientRequestToken"] for body in wire.bodies}
    assert (wire.attempts, len(tokens), len(naps)) == (2, 1, 1)


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TransactionInProgressException",
        "AccessDeniedException",
        "ResourceNotFoundException",
    ],
)
@pytest.mark.parametrize("operation", ["batch_get_item", "transact_write_items", "query"])
def test_whatever_is_wrong_with_the_table_is_worth_a_retry(dynamodb: Script, operation: str, code: str) -> None:
    """A missing table or permission is a fault of the deployment, not of the targets: none is given up for it."""
    dynamodb.refuse(operation, code)
    store = DynamoDbStore(dynamodb.client, TABLE)
    call: dict[str, Callable[[], object]] = {
        "batch_get_item": lambda: store.load(ACCOUNT, REGION, [record().key]),
        "transact_write_items": lambda: store.save(ACCOUNT, REGION, fresh(record())),
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
