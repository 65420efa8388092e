"""The memory of which accounts and Regions take part: what each writer notes leaves what the others noted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.coverage_store import DynamoDbCoverageStore
from portcullis.coverage import Answer, Coverage, Problem
from portcullis.errors import TransientError

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, TABLE, SetClock, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

NINE, TEN, ELEVEN = (f"2026-03-02T{hour:02}:00:00+00:00" for hour in (9, 10, 11))
WELL = Answer("sweep-1")


@pytest.fixture
def store(table: Any, clock: SetClock) -> DynamoDbCoverageStore:
    """Return a store over moto's table. It is nine o'clock."""
    return DynamoDbCoverageStore(table, TABLE, clock)


def note(store: DynamoDbCoverageStore, what: str, account_id: str = ACCOUNT, region: str = REGION) -> None:
    """Let one of the writers note something."""
    writers: dict[str, Callable[[], object]] = {
        "heard": lambda: store.heard(account_id, region),
        "answered": lambda: store.answered(account_id, region, WELL),
        "listed": lambda: store.list_place(account_id, region),
    }
    writers[what]()


def key(account_id: str = ACCOUNT, region: str = REGION) -> dict[str, Any]:
    """Return the key of an account and Region in the table."""
    return {"pk": {"S": "coverage"}, "sk": {"S": f"{account_id}#{region}"}}


# ---- Against moto --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "known"),
    [
        ("heard", Coverage(ACCOUNT, REGION, NINE, heartbeat_at=NINE)),
        ("answered", Coverage(ACCOUNT, REGION, NINE, swept_at=NINE, answer=WELL)),
        ("listed", Coverage(ACCOUNT, REGION, NINE, listed=True)),
    ],
)
def test_whoever_comes_first_makes_it_known(store: DynamoDbCoverageStore, what: str, known: Coverage) -> None:
    """A heartbeat, an answer or the list: since then it is known, and nothing else is."""
    assert store.all() == []

    note(store, what)

    assert store.all() == [known]


@pytest.mark.parametrize(
    "order", [("heard", "answered", "listed"), ("listed", "heard", "answered"), ("answered", "listed", "heard")]
)
def test_nobody_overwrites_what_the_others_noted(
    store: DynamoDbCoverageStore, clock: SetClock, order: tuple[str, ...]
) -> None:
    """Three functions write one item, in any order: each its own attributes; ``since`` stays."""
    times = {}
    for what in order:
        note(store, what)
        times[what] = clock.now().isoformat()
        clock.time += timedelta(hours=1)

    assert store.all() == [
        Coverage(
            ACCOUNT, REGION, NINE, listed=True, heartbeat_at=times["heard"], swept_at=times["answered"], answer=WELL
        )
    ]


def test_a_heartbeat_tells_what_is_known(store: DynamoDbCoverageStore, clock: SetClock) -> None:
    """The intake decides by it whether somebody has just joined; the time is in UTC, to the second."""
    clock.time = clock.time.replace(microsecond=123456)
    assert store.heard(ACCOUNT, REGION) == Coverage(ACCOUNT, REGION, NINE, heartbeat_at=NINE)

    clock.time += timedelta(hours=1)
    store.answered(ACCOUNT, REGION, WELL)
    clock.time += timedelta(hours=1)

    again = store.heard(ACCOUNT, REGION)
    assert again == Coverage(ACCOUNT, REGION, NINE, heartbeat_at=ELEVEN, swept_at=TEN, answer=WELL)


@pytest.mark.parametrize("problem", [None, *Problem])
def test_an_answer_is_read_back_and_counts_as_a_look_only_if_everything_was_seen(
    store: DynamoDbCoverageStore, clock: SetClock, problem: Problem | None
) -> None:
    """Refused findings do not undo the look; whatever kept the sweep from looking does not count as one."""
    store.answered(ACCOUNT, REGION, WELL)
    clock.time += timedelta(hours=1)
    answer = Answer("sweep-2", problem, "why, with an \u00e9" if problem else "")

    store.answered(ACCOUNT, REGION, answer)

    looked = problem in (None, Problem.REFUSED)
    assert store.all() == [Coverage(ACCOUNT, REGION, NINE, swept_at=TEN if looked else NINE, answer=answer)]


def test_a_place_is_put_on_the_list(store: DynamoDbCoverageStore) -> None:
    """Listed or not is the only thing that changes."""
    store.heard(ACCOUNT, REGION)
    assert store.all() == [Coverage(ACCOUNT, REGION, NINE, heartbeat_at=NINE)]

    store.list_place(ACCOUNT, REGION)
    assert store.all() == [Coverage(ACCOUNT, REGION, NINE, listed=True, heartbeat_at=NINE)]


def test_what_is_forgotten_begins_anew(store: DynamoDbCoverageStore, clock: SetClock) -> None:
    """Only the one that is named is dropped; one that was never known is dropped without complaint."""
    for place in ((ACCOUNT, REGION), (ACCOUNT, OTHER_REGION), (OTHER_ACCOUNT, REGION)):
        note(store, "answered", *place)

    store.forget(ACCOUNT, REGION)
    store.forget(ACCOUNT, REGION)
    clock.time += timedelta(hours=1)

    assert {(one.account_id, one.region) for one in store.all()} == {(ACCOUNT, OTHER_REGION), (OTHER_ACCOUNT, REGION)}
    assert store.heard(ACCOUNT, REGION) == Coverage(ACCOUNT, REGION, TEN, heartbeat_at=TEN)


def test_only_coverage_is_read(store: DynamoDbCoverageStore, table: Any) -> None:
    """The findings are in the same table."""
    table.put_item(TableName=TABLE, Item={"pk": {"S": f"{ACCOUNT}#{REGION}"}, "sk": {"S": "finding#vpc#vpc-1#VPCE.1"}})
    note(store, "listed")

    assert store.all() == [Coverage(ACCOUNT, REGION, NINE, listed=True)]


# ---- Word for word -------------------------------------------------------------------------------------------------


def test_the_update_keeps_since_and_sets_what_is_new(dynamodb: Script, clock: SetClock) -> None:
    """One call, atomic in DynamoDB, without any condition that could fail."""
    request = {
        "TableName": TABLE,
        "Key": key(),
        "UpdateExpression": "SET #since = if_not_exists(#since, :since), #heartbeat_at = :heartbeat_at",
        "ExpressionAttributeNames": {"#since": "since", "#heartbeat_at": "heartbeat_at"},
        "ExpressionAttributeValues": {":since": {"S": NINE}, ":heartbeat_at": {"S": NINE}},
        "ReturnValues": "ALL_NEW",
    }
    stored = {"since": {"S": NINE}, "heartbeat_at": {"S": NINE}}
    dynamodb.expect("update_item", {"Attributes": key() | stored}, request)

    known = DynamoDbCoverageStore(dynamodb.client, TABLE, clock).heard(ACCOUNT, REGION)

    assert known == Coverage(ACCOUNT, REGION, NINE, heartbeat_at=NINE)


def test_everything_is_read_page_by_page(dynamodb: Script, clock: SetClock) -> None:
    """A query answers a megabyte at a time; consistently, as the report follows the last answer at once."""
    query = {
        "TableName": TABLE,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "coverage"}},
        "ConsistentRead": True,
    }
    items = [key(region=region) | {"since": {"S": NINE}} for region in (REGION, OTHER_REGION)]
    dynamodb.expect("query", {"Items": items[:1], "LastEvaluatedKey": key()}, query)
    dynamodb.expect(
        "query", {"Items": [], "LastEvaluatedKey": key(OTHER_ACCOUNT)}, {**query, "ExclusiveStartKey": key()}
    )
    dynamodb.expect("query", {"Items": items[1:]}, {**query, "ExclusiveStartKey": key(OTHER_ACCOUNT)})

    found = DynamoDbCoverageStore(dynamodb.client, TABLE, clock).all()

    assert found == [Coverage(ACCOUNT, region, NINE) for region in (REGION, OTHER_REGION)]


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "AccessDeniedException"])
@pytest.mark.parametrize(
    ("operation", "doing"),
    [("query", "reading"), ("update_item", "writing"), ("delete_item", "writing")],
)
def test_whatever_is_wrong_with_the_table_is_worth_a_retry(
    dynamodb: Script, clock: SetClock, operation: str, doing: str, code: str
) -> None:
    """A missing permission is a fault of the deployment, not of the account: it does not read as not covered."""
    dynamodb.refuse(operation, code)
    store = DynamoDbCoverageStore(dynamodb.client, TABLE, clock)
    calls: dict[str, Callable[[], object]] = {
        "query": store.all,
        "update_item": lambda: store.heard(ACCOUNT, REGION),
        "delete_item": lambda: store.forget(ACCOUNT, REGION),
    }

    with pytest.raises(TransientError, match=f"^{doing} the coverage table: {code}"):
        calls[operation]()


def test_an_unreachable_table_is_transient(session: boto3.Session, clock: SetClock, naps: list[float]) -> None:
    """After botocore's three attempts."""
    client = session.client("dynamodb", config=CONFIG)
    wire = Wire(client, ReadTimeoutError(endpoint_url="https://dynamodb"))

    with pytest.raises(TransientError, match="ReadTimeoutError"):
        DynamoDbCoverageStore(client, TABLE, clock).heard(ACCOUNT, REGION)

    assert wire.attempts == 3
    assert len(naps) == 2
