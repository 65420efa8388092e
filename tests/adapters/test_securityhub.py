"""Findings into Security Hub: batches, what is refused and whether trying again may help."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.adapters.accounts import Role
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.securityhub import SecurityHubSink
from portcullis.errors import NotAdmittedError, ObservationError, SecurityHubOffError, TransientError
from portcullis.ports import Rejection

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, PreparedAccounts, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import boto3
    from portcullis.adapters.accounts import Accounts

    from tests.adapters.doubles import Script

Findings = list[dict[str, Any]]


def findings(count: int) -> Findings:
    """Return some findings, as small as the service model allows; their ids are ``f-000`` and so on."""
    return [
        {
            "SchemaVersion": "2018-10-08",
            "Id": f"f-{n:03}",
            "ProductArn": f"arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default",
            "GeneratorId": "portcullis/VPCE.1",
            "AwsAccountId": ACCOUNT,
            "CreatedAt": "2026-03-02T09:14:05.000Z",
            "UpdatedAt": "2026-03-02T09:14:05.000Z",
            "Title": "a title",
            "Description": "a description",
            "Resources": [{"Type": "AwsEc2Vpc", "Id": f"vpc-{n:03}"}],
        }
        for n in range(count)
    ]


def sink(accounts: Accounts) -> SecurityHubSink:
    """Return a sink that files as the observer of each account and Region, as the functions wire it."""
    return SecurityHubSink(partial(accounts.observer, "securityhub"))


class Hub:
    """A scripted Security Hub, and the sink over it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accounts = PreparedAccounts(securityhub=script.client)

    def takes(self, batch: Sequence[dict[str, Any]], **refused: str) -> None:
        """Expect exactly these findings next, and refuse some: ``f_001="InvalidAccess"``."""
        failed = [
            {"Id": name.replace("_", "-"), "ErrorCode": code, "ErrorMessage": f"{code} it is"}
            for name, code in refused.items()
        ]
        counts = {"FailedCount": len(failed), "SuccessCount": len(batch) - len(failed)}
        answer = {**counts, "FailedFindings": failed}
        self.script.expect("batch_import_findings", answer, {"Findings": list(batch)})

    def file(self, batch: Sequence[dict[str, Any]]) -> list[Rejection]:
        """Import findings."""
        return sink(self.accounts).import_findings(ACCOUNT, REGION, batch)


@pytest.fixture
def hub(script: Callable[[str], Script]) -> Hub:
    """Return a scripted Security Hub."""
    return Hub(script("securityhub"))


def rejection(number: int, code: str, *, transient: bool) -> Rejection:
    """Return the rejection of a finding by its number."""
    return Rejection(f"f-{number:03}", code, f"{code} it is", transient)


def test_findings_arrive_in_the_account_that_they_are_about(accounts: Accounts, member: Callable[..., Any]) -> None:
    """What is imported can be read there, and only there."""
    made = findings(3)
    for account_id in (ACCOUNT, OTHER_ACCOUNT):
        member("securityhub", account_id).enable_security_hub()

    assert sink(accounts).import_findings(ACCOUNT, REGION, made) == []

    def listed(account_id: str) -> list[str]:
        return [item["Id"] for item in member("securityhub", account_id).get_findings()["Findings"]]

    assert sorted(listed(ACCOUNT)) == ["f-000", "f-001", "f-002"]
    assert listed(OTHER_ACCOUNT) == []


def test_findings_are_imported_a_hundred_at_a_time(hub: Hub) -> None:
    """250 findings take three calls, in order, each finding once, with the observer role."""
    made = findings(250)
    for batch in (made[:100], made[100:200], made[200:]):
        hub.takes(batch)

    assert hub.file(made) == []
    assert set(hub.accounts.asked) == {("securityhub", ACCOUNT, REGION, Role.OBSERVER)}


def test_nothing_to_file_is_no_call(hub: Hub) -> None:
    """Security Hub refuses an empty list, so none is sent."""
    assert hub.file([]) == []
    assert hub.script.calls == []


@pytest.mark.parametrize("code", ["InternalException", "LimitExceededException", "ThrottlingException"])
def test_what_may_pass_is_tried_once_more(hub: Hub, code: str) -> None:
    """Only the findings that were refused for the moment are sent again."""
    made = findings(4)
    hub.takes(made, f_001=code, f_003=code)
    hub.takes([made[1], made[3]])

    assert hub.file(made) == []


def test_what_does_not_pass_at_once_is_returned_as_transient(hub: Hub) -> None:
    """Two attempts, no third: the queue has more patience."""
    made = findings(2)
    hub.takes(made, f_000="InternalException")
    hub.takes(made[:1], f_000="InternalException")

    assert hub.file(made) == [rejection(0, "InternalException", transient=True)]


def test_security_hub_that_is_off_is_told_as_that(hub: Hub) -> None:
    """Only the failed findings of an HTTP success tell it."""
    made = findings(2)
    hub.takes(made, f_000="InvalidAccess", f_001="InvalidAccess")

    with pytest.raises(SecurityHubOffError, match="Security Hub is switched off in"):
        hub.file(made)


@pytest.mark.parametrize("code", ["InvalidInput", "AccessDeniedException"])
def test_what_is_final_is_returned_without_another_attempt(hub: Hub, code: str) -> None:
    """Trying again would not help."""
    made = findings(2)
    hub.takes(made, f_000=code, f_001=code)

    assert hub.file(made) == [rejection(0, code, transient=False), rejection(1, code, transient=False)]


def test_final_and_passing_refusals_of_one_batch_are_kept_apart(hub: Hub) -> None:
    """The final one is returned at once and only once; of the passing ones, what the second attempt leaves."""
    made = findings(5)
    hub.takes(
        made, f_001="InternalException", f_002="InvalidInput", f_003="InternalException", f_004="ThrottlingException"
    )
    hub.takes([made[1], made[3], made[4]], f_003="InvalidInput", f_004="InternalException")

    assert hub.file(made) == [
        rejection(2, "InvalidInput", transient=False),
        rejection(3, "InvalidInput", transient=False),
        rejection(4, "InternalException", transient=True),
    ]


def test_refusals_of_several_batches_come_in_order(hub: Hub) -> None:
    """Each batch has its own second attempt; a refusal in one does not hold up the next."""
    made = findings(201)
    hub.takes(made[:100], f_007="InvalidInput")
    hub.takes(made[100:200], f_107="InternalException")
    hub.takes([made[107]], f_107="InternalException")
    hub.takes(made[200:], f_200="InvalidInput")

    assert hub.file(made) == [
        rejection(7, "InvalidInput", transient=False),
        rejection(107, "InternalException", transient=True),
        rejection(200, "InvalidInput", transient=False),
    ]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("InvalidAccessException", 401, ObservationError),
        ("AccessDeniedException", 403, ObservationError),
        ("LimitExceededException", 429, TransientError),
        ("InternalException", 500, TransientError),
        ("TooManyRequestsException", 429, TransientError),
    ],
)
def test_a_call_that_fails_as_a_whole_raises(hub: Hub, code: str, status: int, expected: type[Exception]) -> None:
    """Then none of the findings was taken; the place is named."""
    hub.script.refuse("batch_import_findings", code, status=status)

    with pytest.raises(expected, match=f"^filing findings in {ACCOUNT} {REGION}: {code}"):
        hub.file(findings(1))


def test_throttling_is_tried_three_times(session: boto3.Session, naps: list[float]) -> None:
    """Ten calls a second are allowed; what three attempts do not get through is TransientError."""
    client = session.client("securityhub", config=CONFIG)
    wire = Wire(client, (429, '{"__type": "TooManyRequestsException", "message": "Too Many Requests"}'))

    with pytest.raises(TransientError):
        sink(PreparedAccounts(securityhub=client)).import_findings(ACCOUNT, REGION, findings(1))

    assert wire.attempts == 3
    assert len(naps) == 2


# ---- Whether Security Hub is switched on ---------------------------------------------------------------------------


def test_security_hub_is_asked_for_in_its_account_and_region(accounts: Accounts, member: Callable[..., Any]) -> None:
    """Off, on, and off again; on in one place says nothing about another."""
    hubs = sink(accounts)
    assert not hubs.is_enabled(ACCOUNT, REGION)

    member("securityhub", ACCOUNT).enable_security_hub()

    assert hubs.is_enabled(ACCOUNT, REGION)
    assert not hubs.is_enabled(ACCOUNT, OTHER_REGION)
    assert not hubs.is_enabled(OTHER_ACCOUNT, REGION)
    member("securityhub", ACCOUNT).disable_security_hub()
    assert not hubs.is_enabled(ACCOUNT, REGION)


@pytest.mark.parametrize(
    ("code", "status"), [("InvalidAccessException", 401), ("ResourceNotFoundException", 404)], ids=["off", "no hub"]
)
def test_only_these_answers_mean_off(hub: Hub, code: str, status: int) -> None:
    """What DescribeHub says where Security Hub is not enabled; one call, as the observer."""
    hub.script.refuse("describe_hub", code, status=status)

    assert sink(hub.accounts).is_enabled(ACCOUNT, REGION) is False
    assert hub.accounts.asked == [("securityhub", ACCOUNT, REGION, Role.OBSERVER)]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("AccessDeniedException", 403, ObservationError),
        ("LimitExceededException", 429, TransientError),
        ("InternalException", 500, TransientError),
    ],
)
def test_a_question_that_fails_is_no_answer(hub: Hub, code: str, status: int, expected: type[Exception]) -> None:
    """A denied or throttled DescribeHub does not read as Security Hub switched off."""
    hub.script.refuse("describe_hub", code, status=status)

    with pytest.raises(expected, match=f"^asking for Security Hub in {ACCOUNT} {REGION}: {code}"):
        sink(hub.accounts).is_enabled(ACCOUNT, REGION)


@pytest.mark.parametrize("doing", ["is_enabled", "import_findings", "suppressed", "note"])
def test_an_account_that_does_not_admit_us_is_told_apart(doing: str) -> None:
    """A sweep reports a missing role as such, so the kind of the error survives."""
    missing = NotAdmittedError("the role cannot be assumed")
    hubs = sink(PreparedAccounts(securityhub=missing))
    calls: dict[str, Callable[[], object]] = {
        "is_enabled": lambda: hubs.is_enabled(ACCOUNT, REGION),
        "import_findings": lambda: hubs.import_findings(ACCOUNT, REGION, findings(1)),
        "suppressed": lambda: hubs.suppressed(ACCOUNT, REGION, ["f-000"]),
        "note": lambda: hubs.note(ACCOUNT, REGION, "f-000", "text"),
    }

    with pytest.raises(NotAdmittedError) as caught:
        calls[doing]()

    assert caught.value is missing


def test_the_hub_files_about_the_organisation_without_any_role(hub: Hub) -> None:
    """The survey's sink has one client of its own, whatever the account and Region."""
    made = findings(1)
    hub.takes(made)

    assert SecurityHubSink(lambda *_: hub.script.client).import_findings(ACCOUNT, REGION, made) == []
    assert hub.accounts.asked == []


# ---- What analysts have suppressed ---------------------------------------------------------------------------------


def asked_for(*ids: str) -> dict[str, Any]:
    """Return the request for some findings of the account's own product."""
    filters = {
        "Id": ids,
        "AwsAccountId": [ACCOUNT],
        "ProductArn": [f"arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default"],
    }
    return {
        "Filters": {name: [{"Value": one, "Comparison": "EQUALS"} for one in each] for name, each in filters.items()},
        "MaxResults": 100,
    }


def seen(workflow: str | None, *numbers: int) -> Findings:
    """Return findings as GetFindings shows them."""
    status = {} if workflow is None else {"Workflow": {"Status": workflow}}
    return [{**one, **status} for one in findings(max(numbers) + 1) if int(one["Id"][-3:]) in numbers]


def test_suppressed_findings_are_told_from_others(hub: Hub) -> None:
    """Whatever else an analyst has set is no suppression; one call, as the observer."""
    shown = [*seen("NEW", 0), *seen("SUPPRESSED", 1, 3), *seen("NOTIFIED", 2), *seen("RESOLVED", 4), *seen(None, 5)]
    ids = [f"f-{n:03}" for n in range(6)]
    hub.script.expect("get_findings", {"Findings": shown}, asked_for(*ids))

    assert sink(hub.accounts).suppressed(ACCOUNT, REGION, [*ids, ids[0]]) == {"f-001", "f-003"}
    assert set(hub.accounts.asked) == {("securityhub", ACCOUNT, REGION, Role.OBSERVER)}


def test_findings_that_were_not_asked_for_do_not_count(hub: Hub) -> None:
    """Whatever comes back besides."""
    hub.script.expect("get_findings", {"Findings": seen("SUPPRESSED", 0, 1)})

    assert sink(hub.accounts).suppressed(ACCOUNT, REGION, ["f-001"]) == {"f-001"}


@pytest.mark.parametrize(
    "foreign",
    [
        {"AwsAccountId": OTHER_ACCOUNT},
        {"ProductArn": f"arn:aws:securityhub:{REGION}:{OTHER_ACCOUNT}:product/{OTHER_ACCOUNT}/default"},
        {"ProductArn": f"arn:aws:securityhub:us-east-1:{ACCOUNT}:product/{ACCOUNT}/default"},
        {"ProductArn": f"arn:aws:securityhub:{REGION}::product/prowler/prowler"},
    ],
)
def test_nobody_suppresses_for_another_account(hub: Hub, foreign: dict[str, str]) -> None:
    """The hub's account also sees its members' findings, who choose their ids: what is not ours does not count."""
    shown = [*({**one, **foreign} for one in seen("SUPPRESSED", 0)), *seen("SUPPRESSED", 1), *seen("NEW", 0)]
    hub.script.expect("get_findings", {"Findings": shown}, asked_for("f-000", "f-001"))

    assert sink(hub.accounts).suppressed(ACCOUNT, REGION, ["f-000", "f-001"]) == {"f-001"}


def test_suppressed_findings_in_another_partition(session: boto3.Session) -> None:
    """The product's ARN follows the Region that is called."""
    client: Any = session.client("securityhub", region_name="cn-north-1", config=CONFIG)
    wire = Wire(client, (200, '{"Findings": []}'))

    sink(PreparedAccounts(securityhub=client)).suppressed(ACCOUNT, "cn-north-1", ["f-000"])

    (body,) = wire.bodies
    assert f"arn:aws-cn:securityhub:cn-north-1:{ACCOUNT}:product/{ACCOUNT}/default" in body.decode()


def test_twenty_findings_are_asked_for_at_a_time_and_page_by_page(hub: Hub) -> None:
    """A filter holds twenty values; a page may be followed by another."""
    ids = [f"f-{n:03}" for n in range(41)]
    first = asked_for(*ids[:20])
    hub.script.expect("get_findings", {"Findings": seen("SUPPRESSED", 7), "NextToken": "more"}, first)
    hub.script.expect("get_findings", {"Findings": seen("SUPPRESSED", 19)}, {**first, "NextToken": "more"})
    hub.script.expect("get_findings", {"Findings": []}, asked_for(*ids[20:40]))
    hub.script.expect("get_findings", {"Findings": seen("SUPPRESSED", 40)}, asked_for(ids[40]))

    assert sink(hub.accounts).suppressed(ACCOUNT, REGION, ids) == {"f-007", "f-019", "f-040"}


def test_nothing_to_ask_is_no_call(hub: Hub) -> None:
    """An empty filter would mean all findings."""
    assert sink(hub.accounts).suppressed(ACCOUNT, REGION, []) == frozenset()
    assert hub.script.calls == []


# ---- Notes ---------------------------------------------------------------------------------------------------------

TEXT = "Portcullis created vpce-1."


def note(hub: Hub, text: str = TEXT) -> None:
    """Write a note on a finding."""
    sink(hub.accounts).note(ACCOUNT, REGION, "f-000", text)


@pytest.mark.parametrize(
    ("text", "written"),
    [(TEXT, TEXT), ("x" * 512, "x" * 512), ("x" * 513, "x" * 508 + " ...")],
    ids=["short", "longest", "too long"],
)
def test_a_note_names_portcullis_and_touches_nothing_else(hub: Hub, text: str, written: str) -> None:
    """The finding by its id and the account's own product; at most as long as Security Hub takes it."""
    product_arn = f"arn:aws:securityhub:{REGION}:{ACCOUNT}:product/{ACCOUNT}/default"
    request = {
        "FindingIdentifiers": [{"Id": "f-000", "ProductArn": product_arn}],
        "Note": {"Text": written, "UpdatedBy": "Portcullis"},
    }
    answer = {"ProcessedFindings": request["FindingIdentifiers"], "UnprocessedFindings": []}
    hub.script.expect("batch_update_findings", answer, request)

    note(hub, text)

    assert hub.accounts.asked == [("securityhub", ACCOUNT, REGION, Role.OBSERVER)]


def test_a_note_in_another_partition(session: boto3.Session) -> None:
    """The product's ARN follows the Region that is called."""
    client: Any = session.client("securityhub", region_name="cn-north-1", config=CONFIG)
    wire = Wire(client, (200, '{"ProcessedFindings": [], "UnprocessedFindings": []}'))

    sink(PreparedAccounts(securityhub=client)).note(ACCOUNT, "cn-north-1", "f-000", TEXT)

    (body,) = wire.bodies
    assert f"arn:aws-cn:securityhub:cn-north-1:{ACCOUNT}:product/{ACCOUNT}/default" in body.decode()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("FindingNotFound", TransientError),
        ("ConcurrentUpdateError", TransientError),
        ("InternalFailure", TransientError),
        ("InvalidInput", ObservationError),
        ("FindingSizeExceeded", ObservationError),
    ],
)
def test_a_note_that_was_not_written_is_told(hub: Hub, code: str, expected: type[Exception]) -> None:
    """Only an item of an HTTP success tells it. A finding that is not there yet may be there soon."""
    identifier = {"Id": "f-000", "ProductArn": "arn"}
    failed = {"FindingIdentifier": identifier, "ErrorCode": code, "ErrorMessage": "it is"}
    hub.script.expect("batch_update_findings", {"ProcessedFindings": [], "UnprocessedFindings": [failed]})

    with pytest.raises(expected, match=f"^noting on f-000: {code}: it is"):
        note(hub)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("InvalidAccessException", 401, SecurityHubOffError),
        ("ResourceNotFoundException", 404, SecurityHubOffError),
        ("AccessDeniedException", 403, ObservationError),
        ("LimitExceededException", 429, TransientError),
        ("InternalException", 500, TransientError),
    ],
)
@pytest.mark.parametrize("operation", ["get_findings", "batch_update_findings"])
def test_a_call_about_findings_that_fails_says_why(
    hub: Hub, operation: str, code: str, status: int, expected: type[Exception]
) -> None:
    """Switched off, refused, or passing; never taken for nothing suppressed."""
    hub.script.refuse(operation, code, status=status)

    calls: dict[str, Callable[[], object]] = {
        "get_findings": lambda: sink(hub.accounts).suppressed(ACCOUNT, REGION, ["f-000"]),
        "batch_update_findings": lambda: note(hub),
    }

    with pytest.raises(expected) as caught:
        calls[operation]()

    assert type(caught.value) is expected
