"""The approval function, end to end: custom actions and the command line become targets on the work queue."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.actions import CreateGatewayEndpoint
from portcullis.adapters.ledger import DynamoDbLedger
from portcullis.adapters.store import DynamoDbStore
from portcullis.errors import PortcullisError
from portcullis.ledger import Change, Progress, ResourceState
from portcullis.model import Ask, Cause, FindingRecord, Kind, Request, Target

from tests.functions.conftest import ACCOUNT, HUB_ACCOUNT, NOTHING_FAILED, OTHER_ACCOUNT, REGION, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functions.conftest import Function, Hub, Output

SAMPLE = json.loads((ROOT / "events" / "CustomAction-Remediate.json").read_text(encoding="utf-8"))
VPC_ID = "vpc-0c23ae410c647b896"
FINDING = f"portcullis/VPCE.1/arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/{VPC_ID}"
VPC = Target(ACCOUNT, REGION, Kind.VPC, VPC_ID)
CHANGE_ID = "20260302T090000Z-0a1b2c3d4e"
JANE = "arn:aws:sts::123456789012:assumed-role/admin/jane"
APPROVE: dict[str, Any] = {"ask": "remediate", "finding_id": FINDING, "by": JANE}


def click(name: str = "Remediate", **more: Any) -> str:
    """Return the sample of a custom action, in the hub's account."""
    arn = f"arn:aws:securityhub:{REGION}:{HUB_ACCOUNT}:action/custom/Portcullis{name}"
    return json.dumps(SAMPLE | {"account": HUB_ACCOUNT, "resources": [arn]} | more)


@pytest.fixture
def _open(hub: Hub) -> None:
    """Let the finding of the sample be open."""
    record = FindingRecord("VPCE.1", Kind.VPC, VPC_ID, "2026", "2026", "FAILED", "ACTIVE", "d")
    assert DynamoDbStore(hub.dynamodb, hub.table_name).save(ACCOUNT, REGION, [(record, None)]) == set()


@pytest.fixture
def _changed(hub: Hub) -> None:
    """Let a change be applied for it."""
    action = CreateGatewayEndpoint("VPCE.1", VPC_ID, "com.amazonaws.eu-central-1.s3", ("rtb-1",))
    when = datetime(2026, 3, 2, 9, tzinfo=UTC)
    change = Change(CHANGE_ID, ACCOUNT, REGION, Kind.VPC, VPC_ID, action, when, "CreateVpc/e-1", "the policy")
    ledger = DynamoDbLedger(hub.dynamodb, hub.table_name)
    state = ledger.begin(change, ResourceState(Kind.VPC, VPC_ID, pending=CHANGE_ID), None)
    assert isinstance(state, ResourceState)
    state = replace(state, pending="", applied={CHANGE_ID: ("VPCE.1", "vpce-1")})
    ledger.end(replace(change, progress=Progress.APPLIED, made="vpce-1", ended_at=when), state)


@pytest.mark.usefixtures("_open")
def test_a_click_becomes_a_request(hub: Hub, approval: Function, output: Callable[[], Output]) -> None:
    """About the resource that our own table names, in the name of the event."""
    assert approval(hub.deliver("RequestsQueue", click())) == NOTHING_FAILED

    by = f"a custom action of Security Hub (event {SAMPLE['id']})"
    request, at = Request(Ask.REMEDIATE, "VPCE.1", by), datetime.fromisoformat(SAMPLE["time"])
    assert hub.causes() == {VPC: Cause(f"approval/{SAMPLE['id']}", request=request, at=at)}
    assert output().counts == {"Requests": 1, "Requested": 1}


@pytest.mark.usefixtures("_open", "_changed")
def test_a_click_on_undo_becomes_a_request(hub: Hub, approval: Function) -> None:
    """About the change that the ledger names."""
    assert approval(hub.deliver("RequestsQueue", click("Undo"))) == NOTHING_FAILED

    (cause,) = hub.causes().values()
    assert cause.request is not None
    assert (cause.request.ask, cause.request.change_id) == (Ask.UNDO, CHANGE_ID)


@pytest.mark.usefixtures("_open")
@pytest.mark.parametrize(
    "body",
    ["{not json", json.dumps(SAMPLE), click("Else"), click(source="somebody")],
    ids=["no JSON", "another account's", "another action", "another source"],
)
def test_what_is_not_ours_is_put_aside(hub: Hub, approval: Function, output: Callable[[], Output], body: str) -> None:
    """With the reason, beside a click that is obeyed; nothing of the finding's text is logged."""
    assert approval(hub.deliver("RequestsQueue", body, click())) == NOTHING_FAILED

    assert list(hub.buried("RequestsDeadLetters")) == [body]
    assert hub.queued() == {VPC}
    written = output()
    assert len(written.steps("buried")) == 1
    assert SAMPLE["detail"]["findings"][0]["Description"] not in json.dumps(written.logged)


def test_a_click_on_what_was_never_filed_is_put_aside(hub: Hub, approval: Function) -> None:
    """Somebody else's finding with an id like ours changes nothing."""
    approval(hub.deliver("RequestsQueue", click()))

    (reason,) = hub.buried("RequestsDeadLetters").values()
    assert reason == f"Portcullis has not filed {FINDING}; look its id up in Security Hub."
    assert hub.queued() == set()


@pytest.mark.usefixtures("_open")
def test_a_click_on_what_another_account_imported_is_put_aside(hub: Hub, approval: Function) -> None:
    """Its id names somebody else's resource, to bait whoever clicks."""
    (finding,) = SAMPLE["detail"]["findings"]
    product_arn = finding["ProductArn"].replace(ACCOUNT, OTHER_ACCOUNT)
    bait = finding | {"AwsAccountId": OTHER_ACCOUNT, "ProductArn": product_arn}
    approval(hub.deliver("RequestsQueue", click(detail=SAMPLE["detail"] | {"findings": [bait]})))

    (reason,) = hub.buried("RequestsDeadLetters").values()
    assert reason == f"{FINDING} was not filed by account {ACCOUNT} in {REGION}: somebody else imported it."
    assert hub.queued() == set()


@pytest.mark.usefixtures("_open")
def test_a_throttled_work_queue_gives_the_click_back(hub: Hub, approval: Function, refuse: Callable[..., None]) -> None:
    """It is delivered again."""
    refuse("sqs.SendMessageBatch", 400, '{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow down"}')
    event = hub.deliver("RequestsQueue", click())

    assert approval(event) == {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]}
    assert hub.messages("RequestsDeadLetters") == []


@pytest.mark.usefixtures("_open")
def test_the_command_line_is_answered(hub: Hub, approval: Function) -> None:
    """A check describes; the request itself is known by the invocation."""
    before = datetime.now(UTC)
    described = approval(APPROVE | {"check": True})
    assert hub.queued() == set()

    answer = approval(APPROVE)

    assert answer == described
    assert (answer["accepted"], answer["about"]["resource"]) == (True, f"vpc {VPC_ID}")
    name = "approval/8e1b2c3d-0000-4000-8000-000000000001"
    (cause,) = hub.causes().values()
    assert cause == Cause(name, request=Request(Ask.REMEDIATE, "VPCE.1", JANE), at=cause.at)
    assert cause.at is not None
    assert before <= cause.at <= datetime.now(UTC)


@pytest.mark.usefixtures("_changed")
def test_an_undo_of_the_command_line_is_answered(hub: Hub, approval: Function) -> None:
    """With what the ledger says of the change."""
    answer = approval({"ask": "undo", "change_id": CHANGE_ID, "by": JANE})

    assert answer["about"]["what"] == "create a com.amazonaws.eu-central-1.s3 gateway endpoint on rtb-1"
    assert answer["about"]["when"] == "2026-03-02T09:00:00+00:00"
    assert hub.queued() == {VPC}


def test_the_command_line_is_refused_with_a_reason(hub: Hub, approval: Function) -> None:
    """As JSON, for it to print."""
    answer = approval({"ask": "undo", "change_id": CHANGE_ID, "by": JANE})

    assert answer == {
        "accepted": False,
        "message": "There is no such change; `portcullis history` lists them with their ids.",
    }
    assert json.dumps(answer)
    assert hub.messages("RequestsDeadLetters") == []


@pytest.mark.parametrize(
    "name",
    [
        "WORK_QUEUE_URL",
        "QUEUE_DELAY_SECONDS",
        "DEAD_LETTER_QUEUE_URL",
        "TABLE_NAME",
        "HUB_ACCOUNT_ID",
        "REMEDIATE_ACTION_ARN",
        "UNDO_ACTION_ARN",
    ],
)
def test_a_missing_variable_is_named(hub: Hub, approval: Function, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The invocation fails with a sentence that says which, and the click comes again."""
    event = hub.deliver("RequestsQueue", click())
    monkeypatch.delenv(name)

    with pytest.raises(PortcullisError, match=rf"^the environment variable {name} is not set"):
        approval(event)
