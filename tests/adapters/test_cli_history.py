"""``portcullis history``: what was changed, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from portcullis.actions import AssociateInstanceProfile, CreateGatewayEndpoint, DeleteEndpoint
from portcullis.adapters.ledger import DynamoDbLedger
from portcullis.cli import main, options
from portcullis.ledger import Change, Progress, ResourceState
from portcullis.model import Kind

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, REGION, TABLE

NOW = datetime.now(UTC).replace(microsecond=0)
S3 = "com.amazonaws.eu-central-1.s3"
HOUR = timedelta(hours=1)


def identity(begun_at: datetime, number: int) -> str:
    """Return a change id."""
    return f"{begun_at:%Y%m%dT%H%M%SZ}-{number:010x}"


CREATED = Change(
    change_id=identity(NOW - 3 * HOUR, 1),
    account_id=ACCOUNT,
    region=REGION,
    kind=Kind.VPC,
    resource_id="vpc-1",
    action=CreateGatewayEndpoint("VPCE.1", "vpc-1", S3, ("rtb-1",)),
    begun_at=NOW - 3 * HOUR,
    trigger="CreateVpc/1",
    by="the policy",
    before={"endpoints": {}},
    progress=Progress.APPLIED,
    ended_at=NOW - 3 * HOUR + timedelta(seconds=2),
    made="vpce-1",
    detail="Portcullis created vpce-1.",
    after={"route_table_ids": ["rtb-1"]},
)
UNDONE = replace(
    CREATED,
    change_id=identity(NOW - 2 * HOUR, 2),
    action=DeleteEndpoint("VPCE.1", "vpc-1", "vpce-1", S3),
    begun_at=NOW - 2 * HOUR,
    trigger="undo",
    by="undone by arn:aws:iam::111122223333:user/ana",
    undoes=CREATED.change_id,
)
ASSOCIATED = replace(
    CREATED,
    change_id=identity(NOW - HOUR, 3),
    account_id=OTHER_ACCOUNT,
    kind=Kind.INSTANCE,
    resource_id="i-1",
    action=AssociateInstanceProfile("ROLE.1", "i-1", "portcullis-default"),
    begun_at=NOW - HOUR,
    trigger="sweep/1",
    progress=Progress.BEGUN,
    ended_at=None,
    made="",
    before={},
    after={},
)


class Session:
    """A session whose DynamoDB is the one in moto."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def client(self, service: str) -> Any:
        """Return the only client that history needs."""
        assert service == "dynamodb"
        return self._table


@pytest.fixture
def hub(table: Any, monkeypatch: pytest.MonkeyPatch) -> DynamoDbLedger:
    """Let the command line reach a hub whose table is in moto; returns its ledger."""
    monkeypatch.setattr(boto3, "Session", lambda **_: Session(table))
    return DynamoDbLedger(table, TABLE)


@pytest.fixture
def ledger(hub: DynamoDbLedger) -> DynamoDbLedger:
    """Return the ledger, with a creation that was undone, and an association that has begun."""
    for change in (CREATED, UNDONE, ASSOCIATED):
        state = hub.begin(change, ResourceState(change.kind, change.resource_id), None)
        assert isinstance(state, ResourceState)
        if change.progress is not Progress.BEGUN:
            hub.end(change, state)
    return hub


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["history", *arguments])


def shown(*arguments: str) -> list[str]:
    """Return the ids of the changes that the command shows."""
    result = run(*arguments, "--output", "json")
    assert result.exit_code == 0, result.output
    return [change["change_id"] for change in json.loads(result.stdout)]


@pytest.mark.usefixtures("ledger")
def test_changes_are_a_table_the_latest_first() -> None:
    """A line each: what was done where, on whose wish, and what became of it."""
    result = run()

    assert result.exit_code == 0
    head, *rows = (line.split("  ") for line in result.stdout.splitlines())
    cells = [[cell.strip() for cell in row if cell.strip()] for row in (head, *rows)]
    assert cells[0] == [
        "change", "when (UTC)", "account", "Region", "resource", "control", "what", "result", "by", "undone by",
    ]  # fmt: skip
    assert cells[1:] == [
        [
            ASSOCIATED.change_id,
            f"{NOW - HOUR:%Y-%m-%d %H:%M:%S}",
            OTHER_ACCOUNT,
            REGION,
            "i-1",
            "ROLE.1",
            "associate the instance profile portcullis-default with i-1",
            "begun",
            "the policy (sweep/1)",
            "-",
        ],
        [
            UNDONE.change_id,
            f"{NOW - 2 * HOUR:%Y-%m-%d %H:%M:%S}",
            ACCOUNT,
            REGION,
            "vpc-1",
            "VPCE.1",
            f"delete vpce-1 ({S3})",
            "applied",
            "undone by arn:aws:iam::111122223333:user/ana (undo)",
            "-",
        ],
        [
            CREATED.change_id,
            f"{NOW - 3 * HOUR:%Y-%m-%d %H:%M:%S}",
            ACCOUNT,
            REGION,
            "vpc-1",
            "VPCE.1",
            f"create a {S3} gateway endpoint on rtb-1",
            "applied",
            "the policy (CreateVpc/1)",
            UNDONE.change_id,
        ],
    ]


@pytest.mark.usefixtures("ledger")
def test_json_holds_everything() -> None:
    """All that the ledger knows, with the action in its parts and as a phrase."""
    *_, created = json.loads(run("--output", "json").stdout)

    assert created == {
        "change_id": CREATED.change_id,
        "account_id": ACCOUNT,
        "region": REGION,
        "kind": "vpc",
        "resource_id": "vpc-1",
        "control_id": "VPCE.1",
        "what": f"create a {S3} gateway endpoint on rtb-1",
        "action": {
            "type": "CreateGatewayEndpoint",
            "control_id": "VPCE.1",
            "vpc_id": "vpc-1",
            "service_name": S3,
            "route_table_ids": ["rtb-1"],
        },
        "trigger": "CreateVpc/1",
        "by": "the policy",
        "begun_at": CREATED.begun_at.isoformat(),
        "ended_at": (CREATED.begun_at + timedelta(seconds=2)).isoformat(),
        "progress": "applied",
        "detail": "Portcullis created vpce-1.",
        "made": "vpce-1",
        "before": {"endpoints": {}},
        "after": {"route_table_ids": ["rtb-1"]},
        "undoes": "",
        "undone_by": UNDONE.change_id,
    }


@pytest.mark.usefixtures("ledger")
def test_changes_are_filtered() -> None:
    """By account, by the resource or what was made on it, by time, and by number."""
    created, undone, associated = CREATED.change_id, UNDONE.change_id, ASSOCIATED.change_id
    assert shown() == [associated, undone, created]
    assert shown("--account", OTHER_ACCOUNT) == [associated]
    assert shown("--resource", "vpc-1") == [undone, created]
    assert shown("--resource", "vpce-1") == [undone, created]
    assert shown("--resource", "i-1", "--account", ACCOUNT) == []
    assert shown("--since", "150m") == [associated, undone]
    assert shown("--until", "90m") == [undone, created]
    assert shown("--since", "150m", "--until", "90m") == [undone]
    assert shown("--since", (NOW - HOUR).isoformat(), "--until", "1d") == []
    assert shown("--since", (NOW - HOUR).isoformat()) == [associated]
    assert shown("--limit", "1") == [associated]
    assert shown("--limit", "1", "--resource", "vpc-1") == [undone]


@pytest.mark.usefixtures("hub")
def test_no_changes() -> None:
    """Nothing was changed: a sentence, or an empty list; that is no error."""
    result = run()

    assert (result.exit_code, result.stdout) == (0, "No changes.\n")
    assert shown() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "foo"], "'foo' is no time; write 12h, 7d, 2026-11-01 or 2026-11-01T08:00"),
        (["--until", "7 days"], "'7 days' is no time"),
        (["--since", "2026-13-01"], "'2026-13-01' is no time"),
        (["--limit", "0"], "0 is not in the range"),
        (["--account", "99"], "'99' is not the id of an account, twelve digits"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_cannot_be_understood_is_told(arguments: list[str], message: str) -> None:
    """Exit status 2, which option it is, and what would be right."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[0]}'" in result.stderr
    assert message in result.stderr


def test_a_hub_that_cannot_be_read(hub: DynamoDbLedger, table: Any) -> None:
    """A table that is not there is one sentence and exit status 2, never a traceback."""
    assert list(hub.changes(NOW, NOW)) == []
    table.delete_table(TableName=TABLE)

    result = run()

    assert result.exit_code == 2
    problem, remedy = result.stderr.splitlines()
    assert problem.startswith("portcullis: reading the ledger: ResourceNotFoundException")
    assert "--profile" in remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", datetime(2026, 11, 23, 11, 30, tzinfo=UTC)),
        ("12h", datetime(2026, 11, 23, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 16, 12, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 9, 12, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T08:30", datetime(2026, 11, 1, 8, 30, tzinfo=UTC)),
        ("2026-11-01T08:30:00+05:30", datetime(2026, 11, 1, 3, tzinfo=UTC)),
        ("2026-11-01T08:30:00Z", datetime(2026, 11, 1, 8, 30, tzinfo=UTC)),
    ],
)
def test_times_are_read(text: str, expected: datetime) -> None:
    """Ago, dates and times; in UTC where they name no zone."""
    assert options.moment(text, datetime(2026, 11, 23, 12, tzinfo=UTC)) == expected


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7y", "1000d", "now", "2026-11-31"])
def test_other_times_are_refused(text: str) -> None:
    """With a reason that the command shows."""
    with pytest.raises(ValueError, match=r"."):
        options.moment(text, NOW)
