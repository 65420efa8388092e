"""What people ask for: what is believed of it, what is refused and why, and that no click is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import work
from portcullis.actions import CreateGatewayEndpoint, DeleteEndpoint
from portcullis.errors import TransientError
from portcullis.findings import EXEMPT, Place, finding_id, parse_finding_id
from portcullis.ledger import Change, Progress, ResourceState
from portcullis.model import Ask, Cause, FindingRecord, Kind, Request
from portcullis.policy import Mode
from portcullis.requests import Approval, RequestPorts
from portcullis.triggers import ACTION_IDS

from tests.fakes import ACCOUNT, HUB, OTHER_ACCOUNT, OTHER_REGION, REGION, START, Trouble, World, policy_of, vpc

if TYPE_CHECKING:
    from portcullis.model import Work

PLACE = Place("aws", ACCOUNT, REGION)
FINDING = finding_id(PLACE, "VPCE.1", Kind.VPC, "vpc-0001")
RECORD = FindingRecord("VPCE.1", Kind.VPC, "vpc-0001", "2026", "2026", "FAILED", "ACTIVE", "d")
CHANGE_ID = "20260302T090000Z-0a1b2c3d4e"
ACTION = CreateGatewayEndpoint("VPCE.1", "vpc-0001", "com.amazonaws.eu-west-1.s3", ("rtb-0001",))
CHANGE = Change(
    CHANGE_ID,
    *(ACCOUNT, REGION, Kind.VPC, "vpc-0001", ACTION, START, "CreateVpc/e-1", "the policy"),
    progress=Progress.APPLIED,
    made="vpce-0001",
)
ARNS = {f"arn:aws:securityhub:{REGION}:{HUB.account_id}:action/custom/{ACTION_IDS[ask]}": ask for ask in Ask}
BY_ACTION = "a custom action of Security Hub (event e-1)"
CLICKED = datetime(2026, 3, 2, 8, 59, 57, tzinfo=UTC)
FOREIGN = Place("aws", OTHER_ACCOUNT, REGION)
SECRET = "<script>what somebody imported</script>"


def approval_of(world: World) -> Approval:
    """Return the approval function's core in a world."""
    ports = RequestPorts(world.store, world.ledger, world.queue, world.dead_letters, world.journal, world.clock)
    return Approval(ports, HUB.account_id, ARNS)


@pytest.fixture
def world() -> World:
    """Return a world in which a finding is open, and a change was made for it."""
    world = World()
    world.store.records[ACCOUNT, REGION][RECORD.key] = RECORD
    world.ledger.entries[CHANGE_ID] = CHANGE
    applied = {CHANGE_ID: ("VPCE.1", "vpce-1")}
    world.ledger.kept[ACCOUNT, REGION, Kind.VPC, "vpc-0001"] = ResourceState(Kind.VPC, "vpc-0001", 1, applied=applied)
    return world


def click(ask: Ask = Ask.REMEDIATE, *finding_ids: Any, **envelope: Any) -> dict[str, Any]:
    """Return the event of a custom action, with findings that lie about everything but their id and who filed them."""
    lies = {"Title": SECRET, "Description": SECRET, "Note": {"Text": SECRET}}
    filed = {"AwsAccountId": PLACE.account_id, "ProductArn": PLACE.product_arn}
    findings = [lies | filed | (each if isinstance(each, dict) else {"Id": each}) for each in finding_ids or (FINDING,)]
    (arn,) = (arn for arn, asks in ARNS.items() if asks is ask)
    return {
        "version": "0",
        "id": "e-1",
        "detail-type": "Security Hub Findings - Custom Action",
        "source": "aws.securityhub",
        "account": HUB.account_id,
        "time": CLICKED.isoformat(),
        "region": REGION,
        "resources": [arn],
        "detail": {"actionName": SECRET, "findings": findings},
        **envelope,
    }


def message(event: Any, name: str = "m") -> dict[str, Any]:
    """Return a record of a Lambda event from SQS."""
    body = event if isinstance(event, str) else json.dumps(event)
    return {"messageId": name, "receiptHandle": name, "body": body, "attributes": {"ApproximateReceiveCount": "1"}}


def failures(*names: str) -> dict[str, Any]:
    """Return the partial batch response with these failures."""
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}


def queued(world: World) -> list[Work]:
    """Return what is on the work queue."""
    return [work.decode(each.body, each.message_id) for each in world.queue.waiting]


class TestFindingId:
    """The id of a finding is read strictly: what it names is looked up."""

    @pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
    @pytest.mark.parametrize(("kind", "resource_id"), [(Kind.VPC, "vpc-0a"), (Kind.INSTANCE, "i-0a")])
    def test_what_is_written_is_read_back(self, partition: str, kind: Kind, resource_id: str) -> None:
        """Its place, and its key in the store."""
        place = Place(partition, ACCOUNT, "cn-north-1")
        given = finding_id(place, "ROLE.1", kind, resource_id)
        assert parse_finding_id(given) == (place, (kind, resource_id, "ROLE.1"))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            FINDING + "\n",
            FINDING + "/x",
            " " + FINDING,
            FINDING.replace("portcullis/", "prowler/"),
            FINDING.replace("VPCE.1", "*"),
            FINDING.replace(ACCOUNT, "1111"),
            FINDING.replace(ACCOUNT, chr(0x661) * 12),
            FINDING.replace("arn:aws:", "arn:evil:"),
            FINDING.replace(":ec2:", ":s3:"),
            FINDING.replace("vpc/", "subnet/"),
            FINDING.replace("vpc-0001", "vpc-*"),
            FINDING.replace("vpc-0001", "x" * 65),
            finding_id(HUB, "COVERAGE.1", Kind.ACCOUNT_REGION, "111122223333"),
            "arn:aws:securityhub:us-east-1:111122223333:subscription/cis/v/1.2.0/1.6/finding/1",
        ],
    )
    def test_nothing_else_is_one(self, text: str) -> None:
        """No wildcard, no other product, no other kind of resource."""
        assert parse_finding_id(text) is None


class TestCustomActions:
    """Somebody clicked in Security Hub."""

    def test_remediate_puts_the_resource_on_the_work_queue(self, world: World) -> None:
        """Only the finding's id is read; who clicked, Security Hub does not tell."""
        assert approval_of(world).handle_events([message(click())]) == failures()

        (sent,) = queued(world)
        request = Request(Ask.REMEDIATE, "VPCE.1", BY_ACTION)
        assert (sent.target, sent.cause) == (vpc("vpc-0001"), Cause("approval/e-1", request=request, at=CLICKED))
        (step,) = world.journal.entries
        assert (step.step, step.message) == ("requested", "remediate VPCE.1 on vpc vpc-0001")
        assert step.fields["trigger"] == "approval/e-1"
        assert world.dead_letters.buried == []

    def test_undo_means_the_findings_last_change(self, world: World) -> None:
        """As it was when somebody clicked, and whether the finding is open or not."""
        world.store.records[ACCOUNT, REGION][RECORD.key] = replace(RECORD, status="PASSED")

        assert approval_of(world).handle_events([message(click(Ask.UNDO))]) == failures()

        (sent,) = queued(world)
        assert (sent.target, sent.cause.request) == (
            vpc("vpc-0001"),
            Request(Ask.UNDO, "VPCE.1", BY_ACTION, CHANGE_ID),
        )

    @pytest.mark.parametrize(
        "event",
        [
            "not JSON",
            "[" * 100_000,
            "7",
            "[]",
            "{}",
            click(account=ACCOUNT),
            click(source="custom.securityhub"),
            click() | {"detail-type": "Security Hub Findings - Imported"},
            click(resources=[]),
            click(resources=[f"arn:aws:securityhub:{REGION}:{HUB.account_id}:action/custom/Else"]),
            click(resources=[f"arn:aws:securityhub:{REGION}:{ACCOUNT}:action/custom/PortcullisRemediate"]),
            click(resources=list(ARNS)),
            click(resources=[{}]),
            click(detail={"findings": []}),
            click(detail={"findings": [{}]}),
            click(detail={"findings": [FINDING]}),
            click(detail=None),
            {name: value for name, value in click().items() if name != "id"},
            {name: value for name, value in click().items() if name != "time"},
            click(time="just now"),
            click(time="2026-03-02T09:00:00"),
            click(time=1772442000),
        ],
        ids=range(22),
    )
    def test_what_is_not_the_event_of_our_action_is_buried(self, world: World, event: Any) -> None:
        """Another account's, another action's, or none at all: nothing is asked for, and nothing is lost."""
        given = message(event)

        assert approval_of(world).handle_events([given]) == failures()

        assert world.queue.sent == []
        ((body, reason),) = world.dead_letters.buried
        assert body == given["body"]
        assert reason.startswith("this is not the event of a custom action")
        assert [(entry.step, entry.is_problem) for entry in world.journal.entries] == [("buried", True)]

    @pytest.mark.parametrize(
        ("finding", "record", "reason"),
        [
            ("portcullis/VPCE.1/everything", RECORD, "This is not the id of a finding of Portcullis"),
            (SECRET, RECORD, "This is not the id of a finding of Portcullis"),
            (FINDING.replace("0001", "0002"), RECORD, "Portcullis has not filed"),
            (FINDING.replace("VPCE.1", "VPCE.9"), replace(RECORD, control_id="VPCE.9"), "Portcullis has not filed"),
            (
                FINDING,
                replace(RECORD, status="PASSED"),
                "The finding is PASSED, ACTIVE: there is nothing to remediate.",
            ),
            (FINDING, replace(RECORD, record_state="ARCHIVED"), "The finding is FAILED, ARCHIVED"),
            (
                FINDING,
                replace(RECORD, status=EXEMPT),
                "The policy exempts this resource; end the exemption there first.",
            ),
        ],
    )
    def test_what_cannot_be_obeyed_is_buried_with_the_reason(
        self, world: World, finding: str, record: FindingRecord, reason: str
    ) -> None:
        """A person clicked: it is kept, an alarm says so, and what somebody imported is told nowhere."""
        world.store.records[ACCOUNT, REGION] = {record.key: record}

        assert approval_of(world).handle_events([message(click(Ask.REMEDIATE, finding))]) == failures()

        ((_, told),) = world.dead_letters.buried
        assert told.startswith(reason)
        assert world.queue.sent == []
        assert SECRET not in repr(world.journal.entries)
        assert SECRET not in told

    @pytest.mark.parametrize("ask", Ask)
    @pytest.mark.parametrize(
        "filed",
        [
            {"AwsAccountId": FOREIGN.account_id, "ProductArn": FOREIGN.product_arn},
            {"AwsAccountId": FOREIGN.account_id},
            {"ProductArn": FOREIGN.product_arn},
            {"ProductArn": Place("aws", ACCOUNT, OTHER_REGION).product_arn},
            {"ProductArn": Place("aws-cn", ACCOUNT, REGION).product_arn},
            {"ProductArn": f"arn:aws:securityhub:{REGION}::product/prowler/prowler"},
            {"AwsAccountId": None},
            {"AwsAccountId": int(ACCOUNT)},
            {"ProductArn": [PLACE.product_arn]},
        ],
    )
    def test_a_finding_about_another_accounts_resource_is_buried(
        self, world: World, ask: Ask, filed: dict[str, Any]
    ) -> None:
        """A member writes what it likes into its findings, our ids too; Security Hub vouches for who filed it."""
        given = message(click(ask, {"Id": FINDING} | filed))

        assert approval_of(world).handle_events([given]) == failures()

        ((body, told),) = world.dead_letters.buried
        assert body == given["body"]
        assert told == f"{FINDING} was not filed by account {ACCOUNT} in {REGION}: somebody else imported it."
        assert world.queue.sent == []
        assert world.ledger.entries == {CHANGE_ID: CHANGE}

    def test_another_partition_is_another_place(self, world: World) -> None:
        """A finding is only taken at the word of the partition that its id names."""
        approval_of(world).handle_events([message(click(Ask.REMEDIATE, FINDING.replace("arn:aws:", "arn:aws-cn:")))])

        assert world.queue.sent == []
        assert len(world.dead_letters.buried) == 1

    @pytest.mark.parametrize("name", ["Id", "AwsAccountId", "ProductArn"])
    def test_a_finding_that_lacks_what_every_finding_has_is_buried(self, world: World, name: str) -> None:
        """Then it is none of Security Hub's."""
        event = click()
        del event["detail"]["findings"][0][name]

        assert approval_of(world).handle_events([message(event)]) == failures()

        assert world.queue.sent == []
        assert len(world.dead_letters.buried) == 1

    def test_two_findings_about_one_vpc_are_two_requests(self, world: World) -> None:
        """The work queue drops neither for the other."""
        second = replace(RECORD, control_id="VPCE.2")
        world.store.records[ACCOUNT, REGION][second.key] = second
        both = (FINDING, FINDING.replace("VPCE.1", "VPCE.2"))

        approval_of(world).handle_events([message(click(Ask.REMEDIATE, *both))])

        asked = [each.cause.request.control_id for each in queued(world) if each.cause.request]
        assert asked == ["VPCE.1", "VPCE.2"]

    def test_an_undo_without_a_change_is_buried(self, world: World) -> None:
        """There is nothing to take back."""
        world.ledger.kept.clear()

        approval_of(world).handle_events([message(click(Ask.UNDO))])

        ((_, told),) = world.dead_letters.buried
        assert told == f"Portcullis has changed nothing for {FINDING} that is still there to undo."

    def test_of_several_findings_each_gets_its_chance(self, world: World) -> None:
        """Security Hub sends one a time; should it ever send more, a bad one does not hold up the others."""
        approval_of(world).handle_events([message(click(Ask.REMEDIATE, "bad", FINDING, "worse"))])

        assert world.queue.sent == [vpc("vpc-0001")]
        ((_, told),) = world.dead_letters.buried
        assert told.count("This is not the id") == 2

    @pytest.mark.parametrize("call", ["load", "send"])
    def test_what_may_pass_by_itself_comes_again_alone(self, world: World, call: str) -> None:
        """The table or the queue is down: the message is delivered again, the others of its batch are not."""
        world.calls.plan(call, Trouble(TransientError("down")))
        batch = [message(click(), "a"), message(click(id="e-2"), "b")]

        assert approval_of(world).handle_events(batch) == failures("a")
        assert len(queued(world)) == 1
        assert approval_of(world).handle_events(batch[:1]) == failures()
        assert [each.cause.trigger for each in queued(world)] == ["approval/e-2", "approval/e-1"]

    def test_a_finding_that_is_being_filed_comes_again(self, world: World) -> None:
        """Whether it is open is known in a moment."""
        world.store.records[ACCOUNT, REGION][RECORD.key] = replace(RECORD, status=None)

        assert approval_of(world).handle_events([message(click())]) == failures("m")

    def test_what_cannot_be_buried_comes_again(self, world: World) -> None:
        """The click is not acknowledged."""
        world.calls.plan("bury", Trouble(TransientError("down")))

        assert approval_of(world).handle_events([message("{}")]) == failures("m")

    def test_an_event_that_is_delivered_twice_is_one_request(self, world: World) -> None:
        """Its id is that of the message on the work queue."""
        approval_of(world).handle_events([message(click()), message(click())])

        assert len(queued(world)) == 1


APPROVE: dict[str, Any] = {"ask": "remediate", "finding_id": FINDING, "by": "arn:aws:sts::1:assumed-role/admin/jane"}
UNDO: dict[str, Any] = {"ask": "undo", "change_id": CHANGE_ID, "by": "arn:aws:sts::1:assumed-role/admin/jane"}


class TestCommandLine:
    """Somebody invoked the function."""

    def test_an_approval_is_accepted(self, world: World) -> None:
        """It is on the work queue in the name of who asked, and the answer says what happens next."""
        answer = approval_of(world).answer(APPROVE, "r-1")

        (sent,) = queued(world)
        request = Request(Ask.REMEDIATE, "VPCE.1", APPROVE["by"])
        assert sent.cause == Cause("approval/r-1", request=request, at=world.clock.now())
        assert answer["accepted"] is True
        assert "the result in a note on the finding" in answer["message"]
        assert answer["about"] == {
            "ask": "remediate",
            "control": "VPCE.1 " + answer["about"]["control"].removeprefix("VPCE.1 "),
            "resource": "vpc vpc-0001",
            "account": ACCOUNT,
            "region": REGION,
        }

    def test_an_undo_is_accepted(self, world: World) -> None:
        """What it is about comes from the ledger."""
        answer = approval_of(world).answer(UNDO, "r-1")

        (sent,) = queued(world)
        assert sent.target == vpc("vpc-0001")
        assert sent.cause.request == Request(Ask.UNDO, "VPCE.1", UNDO["by"], CHANGE_ID)
        assert {name: answer["about"][name] for name in ("ask", "change", "what", "made", "when", "by")} == {
            "ask": "undo",
            "change": CHANGE_ID,
            "what": str(ACTION),
            "made": "vpce-0001",
            "when": START.isoformat(),
            "by": "the policy",
        }

    @pytest.mark.parametrize("payload", [APPROVE, UNDO])
    def test_a_check_only_describes(self, world: World, payload: dict[str, Any]) -> None:
        """The same answer, and nothing happens."""
        described = approval_of(world).answer(payload | {"check": True}, "r-1")

        assert queued(world) == []
        assert described == approval_of(world).answer(payload, "r-2")

    def test_who_asks_is_made_fit_to_be_shown(self, world: World) -> None:
        """It is quoted in findings and in the ledger."""
        approval_of(world).answer(APPROVE | {"by": "<b>" * 100}, "r-1")
        approval_of(world).answer(APPROVE | {"by": None}, "r-2")

        assert [each.cause.request.by for each in queued(world) if each.cause.request] == [
            ("-b-" * 100)[:128],
            "somebody",
        ]

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            [],
            "undo",
            {},
            {"ask": "destroy"},
            {"ask": "undo"},
            {"ask": "undo", "change_id": 7},
            {"ask": "remediate"},
        ],
    )
    def test_what_asks_for_nothing_is_refused(self, world: World, payload: Any) -> None:
        """The message says what to send."""
        answer = approval_of(world).answer(payload, "r-1")
        assert answer == {"accepted": False, "message": answer["message"]}
        assert answer["message"].startswith("Ask for")
        assert [(entry.step, entry.is_problem) for entry in world.journal.entries] == [("refused", True)]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (None, "There is no such change"),
            (replace(CHANGE, undone_by="c-2"), f"{CHANGE_ID} has been taken back by c-2 already."),
            (replace(CHANGE, progress=Progress.BEGUN), f"{CHANGE_ID} is begun, so there is nothing to undo."),
            (replace(CHANGE, progress=Progress.FAILED), f"{CHANGE_ID} is failed, so there is nothing to undo."),
            (
                replace(CHANGE, action=DeleteEndpoint("VPCE.1", "vpc-0001", "vpce-0001", "s3")),
                f"{CHANGE_ID} took something back itself; approve the finding to have it made again.",
            ),
        ],
    )
    def test_a_change_that_cannot_be_undone_is_refused(self, world: World, change: Change | None, reason: str) -> None:
        """With the reason and what to do instead."""
        world.ledger.entries = {CHANGE_ID: change} if change else {}
        answer = approval_of(world).answer(UNDO, "r-1")
        assert answer["accepted"] is False
        assert answer["message"].startswith(reason)
        assert queued(world) == []

    def test_what_is_no_id_of_a_change_is_not_even_looked_up(self, world: World) -> None:
        """It would end in a key of the table."""
        answer = approval_of(world).answer(UNDO | {"change_id": f"{CHANGE_ID}\n"}, "r-1")
        assert answer["message"].startswith("There is no such change")
        assert world.calls.made == []

    @pytest.mark.parametrize("call", ["load", "send"])
    def test_a_table_or_queue_that_is_down_is_told(self, world: World, call: str) -> None:
        """Nothing was asked for; the person tries again."""
        world.calls.plan(call, Trouble(TransientError("the queue is down")))
        answer = approval_of(world).answer(APPROVE, "r-1")
        assert answer == {
            "accepted": False,
            "message": "the queue is down. Nothing was asked for: try again in a minute.",
        }

    def test_a_change_of_a_control_that_is_gone_is_described_without_a_title(self, world: World) -> None:
        """A change outlives the version of Portcullis that made it."""
        world.ledger.entries[CHANGE_ID] = replace(CHANGE, action=replace(ACTION, control_id="VPCE.9"))
        assert approval_of(world).answer(UNDO, "r-1")["about"]["control"] == "VPCE.9"


class TestWithTheLoop:
    """From the click to the change and back."""

    def test_an_approved_change_is_made_and_an_undone_one_taken_back(self) -> None:
        """With a policy that only proposes: nothing, the change, nothing."""
        world = World(policy_of(VPCE_1=Mode.APPROVE, VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        finding = finding_id(PLACE, "VPCE.1", Kind.VPC, vpc_id)
        world.enqueue(vpc(vpc_id))
        world.drain()
        before = len(place.endpoints)

        approval_of(world).handle_events([message(click(Ask.REMEDIATE, finding, time=world.clock.now().isoformat()))])
        world.drain()
        approved = len(place.endpoints)
        undo = click(Ask.UNDO, finding, id="e-2", time=world.clock.now().isoformat())
        approval_of(world).handle_events([message(undo)])
        world.drain()

        assert (before, approved, len(place.endpoints)) == (0, 1, 0)
        assert world.dead_letters.buried == []
