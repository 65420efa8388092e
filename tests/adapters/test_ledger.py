"""The ledger: what belongs together is written together or not at all, and what cannot be read stops every change."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError
from portcullis import policy_parts
from portcullis.actions import (
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    DeleteEndpoint,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
)
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.ledger import DynamoDbLedger
from portcullis.errors import TransientError
from portcullis.ledger import Breach, Change, Hold, Progress, ResourceState, Window
from portcullis.model import Kind, Made
from portcullis.policy import Limits

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, TABLE, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3
    from portcullis.actions import Action

    from tests.adapters.doubles import Script

SCHEMA = Path(__file__).parents[2] / "layers" / "policy" / "policy.schema.json"
NOON = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
S3 = "com.amazonaws.eu-central-1.s3"
CREATE = CreateGatewayEndpoint("VPCE.1", "vpc-1", S3, ("rtb-1", "rtb-2"))
ACTIONS: list[Action] = [
    CREATE,
    AddRouteTables("VPCE.1", "vpc-1", "vpce-1", S3, ("rtb-2",)),
    RemoveFromEndpoint("VPCE.1", "vpc-1", "vpce-1", S3, ("rtb-2",)),
    DeleteEndpoint("VPCE.1", "vpc-1", "vpce-1", S3),
    AssociateInstanceProfile("ROLE.1", "i-1", "portcullis-default"),
    DisassociateInstanceProfile("ROLE.1", "i-1", "portcullis-default", "iip-assoc-1"),
]
WIDE = Limits(per_account=100, per_organisation=100, per_resource_per_day=10)
STATE = ResourceState(Kind.VPC, "vpc-1")
FULL_STATE = ResourceState(
    Kind.VPC,
    "vpc-1",
    pending="20261123T120000Z-0000000001",
    window=Window(NOON, NOON + 5 * MINUTE, "terraform", "digest"),
    holds={"": Hold(NOON + HOUR, "somebody's own call failed"), "VPCE.3": Hold(NOON, "a quota")},
    answered={"com.amazonaws.eu-central-1.ssm": Hold(NOON, "a conflict")},
    made={"vpce-1": Made("20261123T110000Z-0000000002", ("rtb-1", "rtb-2"), ("subnet-1",), "abc"), "vpce-2": Made("x")},
    applied={"20261123T110000Z-0000000002": ("VPCE.1", "vpce-1")},
    changed_at=(NOON - HOUR, NOON),
    again_at=NOON + 5 * MINUTE,
)


def change(number: int = 1, begun_at: datetime = NOON, **more: Any) -> Change:
    """Return an intent: the creation of an endpoint in a VPC."""
    known = Change(
        change_id=f"{begun_at:%Y%m%dT%H%M%SZ}-{number:010x}",
        account_id=ACCOUNT,
        region=REGION,
        kind=Kind.VPC,
        resource_id="vpc-1",
        action=CREATE,
        begun_at=begun_at,
        trigger="CreateVpc/1",
        by="the policy",
    )
    return replace(known, **more)


def applied(begun: Change, **more: Any) -> Change:
    """Return the outcome of a change that went well."""
    return replace(begun, progress=Progress.APPLIED, ended_at=NOON + MINUTE, made="vpce-1", detail="Done.", **more)


class World:
    """The hub's table in moto, and ledgers over it."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.ledger = DynamoDbLedger(table, TABLE)

    def items(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return all that is stored, by its key."""
        found = self.table.scan(TableName=TABLE)["Items"]
        return {(item["pk"]["S"], item["sk"]["S"]): item for item in found}

    def state(self, resource_id: str = "vpc-1") -> ResourceState:
        """Read the state of a VPC."""
        (state,) = self.ledger.states(ACCOUNT, REGION, [(Kind.VPC, resource_id)]).values()
        return state

    def begun(self, number: int = 1, limits: Limits | None = WIDE, **more: Any) -> ResourceState:
        """Begin a change of a VPC of its own, and expect that it may begin."""
        one = change(number, **{"resource_id": f"vpc-{number}", **more})
        state = self.ledger.begin(one, self.state(one.resource_id), limits)
        assert isinstance(state, ResourceState)
        return state

    def meanwhile(self, act: Callable[[], object], times: int = 1) -> None:
        """Let somebody else act just before each of the next transactions is sent."""
        left = [act] * times
        busy: list[bool] = []

        def intrude(**_: Any) -> None:
            if left and not busy:  # somebody else's own transaction comes through here, too
                busy.append(True)
                left.pop()()
                busy.clear()

        self.table.meta.events.register("before-parameter-build.dynamodb.TransactWriteItems", intrude)

    def corrupt(self, key: tuple[str, str], **attributes: Any) -> None:
        """Put nonsense into the table; None removes an attribute."""
        item = {**self.items()[key], **attributes}
        self.table.put_item(TableName=TABLE, Item={name: value for name, value in item.items() if value is not None})


@pytest.fixture
def world(table: Any) -> World:
    """Return the hub's table in moto."""
    return World(table)


STATE_KEY = (f"state#{ACCOUNT}#{REGION}", "state#vpc#vpc-1")
CHANGE_KEY = ("changes#2026-11", "20261123T120000Z-0000000001")
ACCOUNT_KEY = ("limits", f"account#{ACCOUNT}")
ORGANISATION_KEY = ("limits", "organisation")


# ---- What is written is read back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_an_intent_is_read_back(world: World, action: Action) -> None:
    """Every kind of action, with what was there before it."""
    intent = change(action=action, before={"route_table_ids": ["rtb-1"], "profile": None})
    world.ledger.begin(intent, STATE, None)

    assert world.ledger.get(intent.change_id) == intent


def test_an_outcome_is_read_back(world: World) -> None:
    """All fields, with times to the microsecond."""
    begun = world.begun()
    outcome = applied(
        change(), after={"route_table_ids": ["rtb-1"], "policy_digest": "abc"}, undoes="", undone_by="later"
    )

    world.ledger.end(outcome, begun)

    assert world.ledger.get(outcome.change_id) == outcome


@pytest.mark.parametrize("state", [FULL_STATE, replace(STATE, again_at=NOON), replace(STATE, pending="x")])
def test_a_state_is_read_back(world: World, state: ResourceState) -> None:
    """Whatever it holds; with a version, which the next write has to name."""
    kept = world.ledger.keep(ACCOUNT, REGION, state)

    assert kept.version > 0
    assert replace(kept, version=0) == state
    assert world.state() == kept


def test_what_is_not_stored_is_an_empty_state(world: World) -> None:
    """For each resource that is asked for, also of another account, Region or kind than one that is stored."""
    world.ledger.keep(ACCOUNT, REGION, FULL_STATE)

    asked = [(Kind.VPC, "vpc-2"), (Kind.INSTANCE, "vpc-1")]
    assert world.ledger.states(ACCOUNT, REGION, asked) == {key: ResourceState(*key) for key in asked}
    for account_id, region in ((OTHER_ACCOUNT, REGION), (ACCOUNT, OTHER_REGION)):
        assert world.ledger.states(account_id, region, [(Kind.VPC, "vpc-1")]) == {(Kind.VPC, "vpc-1"): STATE}


def test_many_states_go_in_batches(world: World, table: Any) -> None:
    """250 VPCs, one of them named twice: three reads; nothing to read is no call."""
    asked = [(Kind.VPC, f"vpc-{n}") for n in range(250)]
    world.ledger.keep(ACCOUNT, REGION, replace(STATE, resource_id="vpc-249", again_at=NOON))
    table.calls.clear()

    found = world.ledger.states(ACCOUNT, REGION, [*asked, asked[0]])

    assert list(found) == asked
    assert [state.resource_id for state in found.values() if state.version] == ["vpc-249"]
    assert table.calls == ["BatchGetItem"] * 3
    assert world.ledger.states(ACCOUNT, REGION, []) == {}
    assert table.calls == ["BatchGetItem"] * 3


@pytest.mark.parametrize(
    "change_id", ["", "nonsense", "20261123T120000Z-0000000001", "20261123T120000Z-", "../20261123T120000Z-1"]
)
def test_a_change_that_is_not_there_is_none(world: World, change_id: str) -> None:
    """A change id comes from people, too."""
    assert world.ledger.get(change_id) is None


def test_everything_is_read_consistently(world: World, table: Any) -> None:
    """What the last invocation wrote a moment ago decides what this one may do."""
    asked: list[bool] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append(
            params["ConsistentRead"] if "ConsistentRead" in params else params["RequestItems"][TABLE]["ConsistentRead"]
        )

    for operation in ("Query", "BatchGetItem"):
        table.meta.events.register(f"before-parameter-build.dynamodb.{operation}", note)

    world.begun()
    world.ledger.get("20261123T120000Z-0000000001")
    list(world.ledger.changes(NOON, NOON + HOUR))

    assert asked == [True] * 4


# ---- Intents -------------------------------------------------------------------------------------------------------


def test_an_intent_is_four_items_at_once(world: World, table: Any) -> None:
    """The change, the state that names it as pending, and what counts for the account and the organisation."""
    begun = world.begun()

    assert begun.pending == change().change_id
    assert world.state() == begun
    assert set(world.items()) == {CHANGE_KEY, STATE_KEY, ACCOUNT_KEY, ORGANISATION_KEY}
    assert table.calls.count("TransactWriteItems") == 1
    filters = ("account_id", "region", "resource_id", "control_id", "progress")
    stored = world.items()[CHANGE_KEY]
    assert [stored[name]["S"] for name in filters] == [ACCOUNT, REGION, "vpc-1", "VPCE.1", "begun"]
    assert "expires_at" not in stored


def test_what_takes_something_back_counts_against_no_limit(world: World) -> None:
    """Making way for others must go on however much was changed."""
    world.begun(limits=None)

    assert set(world.items()) == {CHANGE_KEY, STATE_KEY}


def test_an_intent_keeps_what_else_the_state_holds(world: World) -> None:
    """Only the pending change is new."""
    kept = world.ledger.keep(ACCOUNT, REGION, replace(FULL_STATE, pending=""))

    begun = world.ledger.begin(change(), kept, WIDE)

    assert begun == replace(kept, pending=change().change_id, version=kept.version + 1)
    assert world.state() == begun


@pytest.mark.parametrize("limits", [WIDE, None])
def test_an_intent_on_an_outdated_state_leaves_nothing_behind(world: World, limits: Limits | None) -> None:
    """Another look has written the state meanwhile: neither the change nor a count is written."""
    world.ledger.keep(ACCOUNT, REGION, replace(STATE, again_at=NOON))
    before = world.items()

    with pytest.raises(TransientError, match="somebody else has written to the ledger meanwhile"):
        world.ledger.begin(change(), STATE, limits)

    assert world.items() == before


def test_an_intent_is_never_written_twice(world: World) -> None:
    """The same id again is refused as a whole, also when the state would let it pass."""
    begun = world.begun()
    before = world.items()

    with pytest.raises(TransientError):
        world.ledger.begin(change(), begun, WIDE)

    assert world.items() == before


# ---- Limits --------------------------------------------------------------------------------------------------------


def test_the_largest_limit_fits_into_an_item(world: World) -> None:
    """The policy's schema admits as many changes an hour as DynamoDB can hold in an item of 400 KB, and a good deal."""
    largest = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["count"]["maximum"]
    policy_parts.limits_of({"changes_per_hour": {"account": largest, "organisation": largest}})
    with pytest.raises(ValueError, match="the limits are"):
        policy_parts.limits_of({"changes_per_hour": {"account": largest + 1}})
    world.begun()
    times = {change(number).change_id: (NOON + timedelta(microseconds=1)).isoformat() for number in range(largest - 1)}
    world.corrupt(ORGANISATION_KEY, times={"S": json.dumps(times)})

    world.begun(largest, Limits(largest, largest, 10))

    assert len(json.loads(world.items()[ORGANISATION_KEY]["times"]["S"])) == largest
    assert len(json.dumps(world.items()[ORGANISATION_KEY])) < 0.9 * 400 * 1024
    assert isinstance(world.ledger.begin(change(largest + 1), STATE, Limits(largest, largest, 10)), Breach)


@pytest.mark.parametrize(
    ("limits", "whose"),
    [
        (Limits(2, 100, 10), f"account {ACCOUNT}"),
        (Limits(100, 2, 10), "the organisation"),
    ],
)
def test_a_full_limit_is_a_breach_and_writes_nothing(world: World, limits: Limits, whose: str) -> None:
    """It says whose limit that is, and when the oldest change leaves the hour."""
    world.begun(2, limits, begun_at=NOON - 30 * MINUTE)
    world.begun(3, limits, begun_at=NOON - 10 * MINUTE)
    before = world.items()

    breach = world.ledger.begin(change(), STATE, limits)

    assert breach == Breach(whose, 2, NOON + 30 * MINUTE)
    assert world.items() == before


def test_of_two_full_limits_the_one_that_lasts_longer_is_told(world: World) -> None:
    """Waiting for the other would be in vain."""
    limits = Limits(1, 2, 10)
    world.begun(2, limits, begun_at=NOON - 50 * MINUTE, account_id=OTHER_ACCOUNT)
    world.begun(3, limits, begun_at=NOON - 20 * MINUTE)

    assert world.ledger.begin(change(), STATE, limits) == Breach(f"account {ACCOUNT}", 1, NOON + 40 * MINUTE)
    other = change(account_id=OTHER_ACCOUNT)
    assert world.ledger.begin(other, STATE, Limits(3, 1, 10)) == Breach("the organisation", 1, NOON + 40 * MINUTE)


def test_accounts_have_limits_of_their_own(world: World) -> None:
    """One account's changes hold up no other, but for the organisation's limit."""
    limits = Limits(1, 2, 10)
    world.begun(2, limits)

    world.begun(3, limits, account_id=OTHER_ACCOUNT)

    assert world.ledger.begin(change(), STATE, limits) == Breach(f"account {ACCOUNT}", 1, NOON + HOUR)


def test_the_hour_is_exact_and_rolls(world: World) -> None:
    """A change counts for an hour to the microsecond; then the next may begin, at the time that the breach named."""
    limits = Limits(1, 100, 10)
    world.begun(2, limits)
    just_before = change(3, NOON + HOUR - timedelta(microseconds=1))

    breach = world.ledger.begin(just_before, STATE, limits)
    assert isinstance(breach, Breach)
    world.begun(4, limits, begun_at=breach.until)

    assert breach.until == NOON + HOUR
    counted = json.loads(world.items()[ACCOUNT_KEY]["times"]["S"])
    assert list(counted) == [change(4, NOON + HOUR).change_id]  # what has left the hour is dropped


def test_a_limit_that_was_lowered_waits_until_enough_have_left(world: World) -> None:
    """Three were begun under a higher limit; one is admitted when all but none of them count."""
    for number in (2, 3, 4):
        world.begun(number, WIDE, begun_at=NOON - 10 * number * MINUTE)

    assert world.ledger.begin(change(), STATE, Limits(1, 100, 10)) == Breach(
        f"account {ACCOUNT}", 1, NOON + 40 * MINUTE
    )
    assert world.ledger.begin(change(), STATE, Limits(2, 100, 10)) == Breach(
        f"account {ACCOUNT}", 2, NOON + 30 * MINUTE
    )


def test_a_limit_of_nothing_admits_nothing(world: World) -> None:
    """Then it is asked again an hour later."""
    assert world.ledger.begin(change(), STATE, Limits(0, 100, 10)) == Breach(f"account {ACCOUNT}", 0, NOON + HOUR)
    assert world.items() == {}


def test_of_two_changes_at_once_both_are_counted(world: World, naps: list[float]) -> None:
    """Another account's change is counted between our reading and our writing: ours is counted anew."""
    world.meanwhile(lambda: world.begun(2, account_id=OTHER_ACCOUNT))

    world.begun()

    assert len(json.loads(world.items()[ORGANISATION_KEY]["times"]["S"])) == 2
    assert naps == [0.05]


def test_of_two_changes_at_once_the_last_place_goes_to_one(world: World, naps: list[float]) -> None:
    """The other is a breach, of which nothing is written."""
    limits = Limits(100, 1, 10)
    world.meanwhile(lambda: world.begun(2, limits))

    breach = world.ledger.begin(change(), STATE, limits)

    assert breach == Breach("the organisation", 1, NOON + HOUR)
    assert CHANGE_KEY not in world.items()
    assert STATE_KEY not in world.items()
    assert naps == [0.05]


def test_changes_that_others_keep_overtaking_are_given_up(world: World, naps: list[float]) -> None:
    """Five attempts within two seconds, then the queue has more patience; nothing is written of it."""
    numbers = iter(range(2, 100))
    world.meanwhile(lambda: world.begun(next(numbers)), times=5)

    with pytest.raises(TransientError, match=r"the ledger refused a transaction 5 times: .*ConditionalCheckFailed"):
        world.ledger.begin(change(), STATE, WIDE)

    assert CHANGE_KEY not in world.items()
    assert sum(naps) < 2


# ---- Outcomes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", [Progress.APPLIED, Progress.FAILED, Progress.ABANDONED])
def test_an_outcome_ends_what_is_pending(world: World, progress: Progress) -> None:
    """The change and the state at once; what else the caller noted in the state is kept."""
    begun = world.begun()
    outcome = replace(applied(change()), progress=progress)
    noted = replace(begun, applied={outcome.change_id: ("VPCE.1", "vpce-1")})

    ended = world.ledger.end(outcome, noted)

    assert ended == replace(noted, pending="", version=begun.version + 1)
    assert (world.state(), world.ledger.get(outcome.change_id)) == (ended, outcome)


def test_an_outcome_on_an_outdated_state_leaves_nothing_behind(world: World) -> None:
    """The change stays begun: the next look finds out how it ended."""
    begun = world.begun()
    world.ledger.keep(ACCOUNT, REGION, replace(begun, again_at=NOON))
    before = world.items()

    with pytest.raises(TransientError):
        world.ledger.end(applied(change()), begun)

    assert world.items() == before


def test_an_outcome_is_not_written_twice(world: World) -> None:
    """A second end by somebody who has not read the state since is refused, and nothing changes."""
    begun = world.begun()
    world.ledger.end(applied(change()), begun)
    before = world.items()

    with pytest.raises(TransientError):
        world.ledger.end(replace(applied(change()), progress=Progress.ABANDONED), begun)

    assert world.items() == before


@pytest.mark.parametrize("progress", [Progress.APPLIED, Progress.FAILED, Progress.ABANDONED])
def test_what_is_taken_back_says_by_what(world: World, progress: Progress) -> None:
    """When the change that takes it back was applied, and only then."""
    first = applied(change())
    ended = world.ledger.end(first, replace(world.begun(), applied={first.change_id: ("VPCE.1", "vpce-1")}))
    undo = change(2, NOON + HOUR, action=ACTIONS[3], undoes=first.change_id)
    begun = world.ledger.begin(undo, ended, None)
    assert isinstance(begun, ResourceState)

    world.ledger.end(replace(undo, progress=progress), begun)

    taken_back = progress is Progress.APPLIED
    assert world.ledger.get(first.change_id) == replace(first, undone_by=undo.change_id if taken_back else "")


def test_taking_back_what_the_ledger_does_not_hold_leaves_nothing_behind(world: World) -> None:
    """No entry is made up for it."""
    undo = change(undoes="20261101T120000Z-0000000009")
    begun = world.begun()
    before = world.items()

    with pytest.raises(TransientError):
        world.ledger.end(replace(undo, progress=Progress.APPLIED), begun)

    assert world.items() == before


def test_a_state_that_says_nothing_is_deleted(world: World) -> None:
    """By an outcome as by keeping it; the ledger's entries stay."""
    ended = world.ledger.end(replace(change(), progress=Progress.ABANDONED), world.begun())

    assert ended == STATE
    assert STATE_KEY not in world.items()
    assert CHANGE_KEY in world.items()
    kept = world.ledger.keep(ACCOUNT, REGION, FULL_STATE)
    assert world.ledger.keep(ACCOUNT, REGION, replace(STATE, version=kept.version)) == STATE
    assert STATE_KEY not in world.items()


def test_a_state_that_says_nothing_and_is_not_stored_is_no_call(world: World, table: Any) -> None:
    """Most looks end like that."""
    assert world.ledger.keep(ACCOUNT, REGION, STATE) == STATE
    assert table.calls == []


@pytest.mark.parametrize("state", [FULL_STATE, STATE], ids=["written", "deleted"])
def test_a_state_is_written_only_over_the_one_that_was_read(world: World, state: ResourceState) -> None:
    """Of two looks that read the same one, the second to write is refused."""
    read = world.ledger.keep(ACCOUNT, REGION, replace(STATE, again_at=NOON))
    world.ledger.keep(ACCOUNT, REGION, replace(read, pending="other"))
    before = world.items()

    with pytest.raises(TransientError):
        world.ledger.keep(ACCOUNT, REGION, replace(state, version=read.version))

    assert world.items() == before


def test_a_new_state_is_not_taken_for_one_that_was_deleted(world: World) -> None:
    """A slow look read a state that was deleted and written anew meanwhile: it must not overwrite that."""
    read = world.ledger.keep(ACCOUNT, REGION, replace(STATE, again_at=NOON))
    world.ledger.keep(ACCOUNT, REGION, replace(STATE, version=read.version))
    world.ledger.keep(ACCOUNT, REGION, replace(STATE, pending="new"))

    with pytest.raises(TransientError):
        world.ledger.keep(ACCOUNT, REGION, read)

    assert world.state().pending == "new"


# ---- Crashes -------------------------------------------------------------------------------------------------------


class CrashError(Exception):
    """The process dies here."""


def crash(table: Any, moment: str) -> None:
    """Die at the next transaction, before it is sent or after it took effect."""

    def die(**_: Any) -> None:
        table.meta.events.unregister(f"{moment}.dynamodb.TransactWriteItems", die)
        raise CrashError

    table.meta.events.register(f"{moment}.dynamodb.TransactWriteItems", die)


@pytest.mark.parametrize("step", ["begin", "end", "keep"])
def test_a_crash_leaves_all_or_nothing(world: World, table: Any, step: str) -> None:
    """Before the call nothing is there of it; after the call everything is, and a repetition changes nothing more."""
    first = applied(change())
    state = world.ledger.end(first, replace(world.begun(), applied={first.change_id: ("VPCE.1", "vpce-1")}))
    undo = change(2, NOON + HOUR, undoes=first.change_id)
    if step == "end":
        begun = world.ledger.begin(undo, state, WIDE)
        assert isinstance(begun, ResourceState)
        state = begun
    steps: dict[str, Callable[[], object]] = {
        "begin": lambda: world.ledger.begin(undo, state, WIDE),
        "end": lambda: world.ledger.end(replace(undo, progress=Progress.APPLIED), state),
        "keep": lambda: world.ledger.keep(ACCOUNT, REGION, replace(state, again_at=NOON)),
    }
    before = world.items()

    crash(table, "before-call")
    with pytest.raises(CrashError):
        steps[step]()
    assert world.items() == before

    crash(table, "after-call")
    with pytest.raises(CrashError):
        steps[step]()
    written = world.items()
    changed = {key for key in written if written[key] != before.get(key)}
    touched = {
        "begin": {("changes#2026-11", undo.change_id), STATE_KEY, ACCOUNT_KEY, ORGANISATION_KEY},
        "end": {("changes#2026-11", undo.change_id), STATE_KEY, CHANGE_KEY},
        "keep": {STATE_KEY},
    }
    assert changed == touched[step]

    with pytest.raises(TransientError):
        steps[step]()
    assert world.items() == written


def test_a_lost_answer_is_no_conflict(session: boto3.Session, naps: list[float]) -> None:
    """A timeout may hide a success: botocore's attempts carry one token, so the second is no conflict to the first."""
    client = session.client("dynamodb", config=CONFIG)
    wire = Wire(client, ReadTimeoutError(endpoint_url="https://dynamodb"), (200, "{}"))

    DynamoDbLedger(client, TABLE).keep(ACCOUNT, REGION, FULL_STATE)

    tokens = {json.loads(body)["ClientRequestToken"] for body in wire.bodies}
    assert (wire.attempts, len(tokens), len(naps)) == (2, 1, 1)


# ---- What DynamoDB leaves undone, and what cannot be read ----------------------------------------------------------


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_that_met_another_is_tried_again(dynamodb: Script, naps: list[float], code: str) -> None:
    """It passes by itself: all of it again, after growing pauses."""
    for _ in range(3):
        dynamodb.refuse("transact_write_items", "TransactionCanceledException", CancellationReasons=[{"Code": code}])
    dynamodb.expect("transact_write_items", {})

    DynamoDbLedger(dynamodb.client, TABLE).keep(ACCOUNT, REGION, FULL_STATE)

    assert len({str(request["TransactItems"]) for _, request in dynamodb.requests}) == 1
    assert naps == [0.05, 0.1, 0.2]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "InternalServerError"])
def test_a_table_that_refuses_is_transient(dynamodb: Script, code: str) -> None:
    """A refusal by the hub's own table is not the target's fault; nothing is changed meanwhile."""
    ledger = DynamoDbLedger(dynamodb.client, TABLE)
    for operation in ("batch_get_item", "batch_get_item", "transact_write_items", "batch_get_item", "query"):
        dynamodb.refuse(operation, code)
    calls: list[Callable[[], object]] = [
        lambda: ledger.states(ACCOUNT, REGION, [(Kind.VPC, "vpc-1")]),
        lambda: ledger.begin(change(), STATE, WIDE),
        lambda: ledger.end(change(), FULL_STATE),
        lambda: ledger.get(change().change_id),
        lambda: list(ledger.changes(NOON, NOON + HOUR)),
    ]

    for call in calls:
        with pytest.raises(TransientError, match=f"ing the ledger: {code}"):
            call()


NONSENSE: list[tuple[tuple[str, str], dict[str, Any]]] = [
    (STATE_KEY, {"state": None}),
    (STATE_KEY, {"state": {"S": "{"}}),
    (STATE_KEY, {"state": {"S": "[]"}}),
    (STATE_KEY, {"state": {"S": '{"window": {}, "hold": null}'}}),
    (STATE_KEY, {"version": {"S": "x"}}),
    (CHANGE_KEY, {"progress": {"S": "perhaps"}}),
    (CHANGE_KEY, {"action": {"S": '{"type": "DeleteEverything"}'}}),
    (CHANGE_KEY, {"begun_at": {"S": "yesterday"}}),
    (CHANGE_KEY, {"by": None}),
    (ACCOUNT_KEY, {"times": {"S": "[]"}}),
    (ORGANISATION_KEY, {"times": {"S": '{"x": 1}'}}),
    (ORGANISATION_KEY, {"version": None}),
]


@pytest.mark.parametrize(("key", "nonsense"), NONSENSE)
def test_what_cannot_be_read_fails_closed(world: World, key: tuple[str, str], nonsense: dict[str, Any]) -> None:
    """It is not taken for nothing: neither for no state, nor for no change, nor for a limit with room."""
    world.begun()
    world.corrupt(key, **nonsense)
    before = world.items()
    reads: dict[tuple[str, str], Callable[[], object]] = {
        STATE_KEY: world.state,
        CHANGE_KEY: lambda: world.ledger.get(change().change_id),
        ACCOUNT_KEY: lambda: world.begun(2),
        ORGANISATION_KEY: lambda: world.begun(2),
    }

    with pytest.raises(TransientError, match=f"the ledger holds something unreadable at {key[0]} {key[1]}: "):
        reads[key]()

    assert world.items() == before


# ---- History -------------------------------------------------------------------------------------------------------


def test_changes_of_a_time_come_the_latest_first(world: World) -> None:
    """From since on, before until, to the microsecond, over the ends of months and years."""
    times = [
        datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
        NOON - timedelta(microseconds=1),
        NOON,
        NOON + timedelta(microseconds=1),
        datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    ]
    for number, time in enumerate(times):
        world.begun(number, None, begun_at=time)

    def between(since: datetime, until: datetime) -> list[datetime]:
        return [found.begun_at for found in world.ledger.changes(since, until)]

    assert between(times[0], times[-1] + MINUTE) == times[::-1]
    assert between(NOON, NOON + timedelta(microseconds=1)) == [NOON]
    assert between(times[1], times[3]) == [times[2], times[1]]
    assert between(NOON + MINUTE, NOON + HOUR) == []


def test_only_the_months_that_are_asked_for_are_read(world: World, table: Any) -> None:
    """A query for each; who has seen enough reads no further."""
    list(world.ledger.changes(datetime(2026, 11, 30, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)))
    assert table.calls == ["Query"] * 3

    world.begun(limits=None)
    table.calls.clear()
    assert next(world.ledger.changes(NOON - 400 * 24 * HOUR, NOON + MINUTE)) == change()
    assert table.calls == ["Query"]


def test_a_state_lies_where_no_finding_does(world: World) -> None:
    """IAM tells partitions apart, not sort keys: who may write findings may not thereby write states."""
    world.begun()

    pages = {pk for pk, _ in world.items()}
    assert pages == {f"state#{ACCOUNT}#{REGION}", "changes#2026-11", "limits"}


def test_findings_and_states_are_not_taken_for_each_other(world: World, table: Any) -> None:
    """They lie in partitions of their own."""
    finding = {"pk": {"S": f"{ACCOUNT}#{REGION}"}, "sk": {"S": "finding#vpc#vpc-1#VPCE.1"}}
    table.put_item(TableName=TABLE, Item=finding)

    assert world.state() == STATE
