"""The life of a finding: FAILED, PASSED, ARCHIVED and back, and nothing filed that is not news."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portcullis.actions import CreateGatewayEndpoint
from portcullis.controls import CONTROLS
from portcullis.findings import EXEMPT, REFRESH_AFTER, Filing, Place, file_for, finding_id, in_doubt, parse_finding_id
from portcullis.impact import Impact
from portcullis.model import Evaluation, FindingRecord, Kind, Outcome, Result, Status
from portcullis.plan import Decision
from portcullis.policy import Exemption
from portcullis.policy_parts import Where

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, START, asff

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = Place("aws", ACCOUNT, REGION)
VPCE_1, VPCE_2, ROLE_1 = (one for one in CONTROLS if one.id in ("VPCE.1", "VPCE.2", "ROLE.1"))
ACTION = CreateGatewayEndpoint("VPCE.1", "vpc-0", "com.amazonaws.eu-west-1.s3", ("rtb-0",))
APPLIED = Outcome(ACTION, Result.APPLIED, "vpce-0", "Portcullis created vpce-0.")
REFUSED = Outcome(ACTION, Result.FAILED, detail="AWS did not let Portcullis do it.")
BUSY = Outcome(ACTION, Result.RETRY, detail="AWS was busy.")
NEEDLESS = Outcome(ACTION, Result.NEEDLESS, detail="Another endpoint answers already.")


def decided(
    status: Status | None, reason: str = "It is so.", note: str = "A note.", remedy: str = "Mend it."
) -> Decision:
    """Return a decision about vpc-0; None for one that is gone."""
    evaluation = Evaluation("VPCE.1", Kind.VPC, "vpc-0", status, reason, remedy) if status else None
    return Decision(VPCE_1, Kind.VPC, "vpc-0", evaluation, note=note)


FAILED, PASSED = decided(Status.FAILED), decided(Status.PASSED, note="")
EXEMPTION = Exemption("lab", Where(), frozenset(), "team-a", "It is a lab.", datetime(2026, 12, 31, tzinfo=UTC))
LEFT = replace(FAILED, exemption=EXEMPTION)
NOT_APPLICABLE, GONE = decided(Status.NOT_APPLICABLE, note=""), decided(None, note="vpc-0 no longer exists.")


def file(
    decision: Decision,
    record: FindingRecord | None = None,
    outcomes: Sequence[Outcome] = (),
    now: datetime = START,
) -> Filing | None:
    """File in the one place of these tests."""
    return file_for(PLACE, decision, outcomes, record, now)


def surely(filing: Filing | None) -> Filing:
    """Insist that something was filed, and that it is valid."""
    assert filing
    assert asff.faults(filing.finding) == []
    return filing


def after(*decisions: Decision) -> FindingRecord:
    """Return the record after filing these, a minute apart."""
    record: FindingRecord | None = None
    for number, decision in enumerate(decisions):
        record = surely(file(decision, record, now=START + timedelta(minutes=number))).record
    assert record
    return record


LATER = START + timedelta(hours=1)


class TestLifeCycle:
    """Which decision is news, given what was filed before."""

    @pytest.mark.parametrize("decision", [PASSED, NOT_APPLICABLE, GONE])
    def test_what_was_never_wrong_has_no_finding(self, decision: Decision) -> None:
        """No noise about what is right, not applicable, or gone."""
        assert file(decision) is None

    @pytest.mark.parametrize(
        ("history", "decision", "status", "state"),
        [
            ((), FAILED, "FAILED", "ACTIVE"),
            ((FAILED,), PASSED, "PASSED", "ACTIVE"),
            ((FAILED,), GONE, "NOT_AVAILABLE", "ARCHIVED"),
            ((FAILED,), NOT_APPLICABLE, "NOT_AVAILABLE", "ARCHIVED"),
            ((FAILED, PASSED), FAILED, "FAILED", "ACTIVE"),
            ((FAILED, PASSED), GONE, "NOT_AVAILABLE", "ARCHIVED"),
            ((FAILED, GONE), FAILED, "FAILED", "ACTIVE"),
            ((FAILED, GONE, FAILED), PASSED, "PASSED", "ACTIVE"),
            ((FAILED, NOT_APPLICABLE), FAILED, "FAILED", "ACTIVE"),
            ((LEFT,), FAILED, "FAILED", "ACTIVE"),
            ((LEFT,), GONE, "NOT_AVAILABLE", "ARCHIVED"),
        ],
    )
    def test_a_change_is_filed(
        self, history: tuple[Decision, ...], decision: Decision, status: str, state: str
    ) -> None:
        """Every turn of the life cycle is filed, with CreatedAt as it was and UpdatedAt newer."""
        record = after(*history) if history else None

        filing = surely(file(decision, record, now=LATER))

        assert filing.finding["Compliance"] == {"Status": status}
        assert filing.finding["RecordState"] == state
        assert (filing.record.status, filing.record.record_state) == (status, state)
        assert filing.finding["CreatedAt"] == (record.created_at if record else filing.finding["UpdatedAt"])
        assert filing.record.created_at == filing.finding["CreatedAt"]
        assert filing.record.updated_at == filing.finding["UpdatedAt"]
        assert not record or filing.finding["UpdatedAt"] > record.updated_at

    @pytest.mark.parametrize(
        ("history", "decision"),
        [
            ((FAILED,), FAILED),
            ((FAILED, PASSED), PASSED),
            ((FAILED, PASSED), decided(Status.PASSED, reason="In other words.")),
            ((FAILED, GONE), GONE),
            ((FAILED, GONE), decided(None, note="The policy switched it off.")),
            ((FAILED, GONE), NOT_APPLICABLE),
            ((FAILED, GONE), PASSED),
            ((LEFT,), LEFT),
        ],
    )
    def test_what_is_no_news_is_not_filed(self, history: tuple[Decision, ...], decision: Decision) -> None:
        """The same again, what stays right, what stays archived: not even in other words."""
        assert file(decision, after(*history), now=LATER) is None

    @pytest.mark.parametrize("decision", [decided(Status.FAILED, reason="Worse."), decided(Status.FAILED, note="Now.")])
    def test_an_open_finding_follows_the_facts(self, decision: Decision) -> None:
        """Another gap, or another plan, is told."""
        filing = surely(file(decision, after(FAILED), now=LATER))
        assert filing.finding["Compliance"] == {"Status": "FAILED"}

    def test_an_open_finding_is_refreshed_after_a_week_and_not_before(self) -> None:
        """Security Hub archives what is not updated for 30 days, and drops it after 90."""
        assert timedelta(days=1) <= REFRESH_AFTER <= timedelta(days=14)
        record = after(FAILED)
        assert file(FAILED, record, now=START + REFRESH_AFTER) is None
        filing = surely(file(FAILED, record, now=START + REFRESH_AFTER + timedelta(milliseconds=1)))
        assert filing.finding["CreatedAt"] == record.created_at

    @pytest.mark.parametrize("decision", [PASSED, GONE, NOT_APPLICABLE])
    def test_a_closed_finding_is_not_refreshed(self, decision: Decision) -> None:
        """What is right or gone may expire."""
        assert file(decision, after(FAILED, decision), now=START + 10 * REFRESH_AFTER) is None

    @pytest.mark.parametrize("decision", [FAILED, PASSED, GONE, NOT_APPLICABLE])
    def test_what_is_in_doubt_is_filed_whatever_it_is(self, decision: Decision) -> None:
        """Nobody knows whether Security Hub took the last one: the truth is filed, strictly newer."""
        doubt = in_doubt(after(FAILED))
        filing = surely(file(decision, doubt))
        assert filing.finding["CreatedAt"] == doubt.created_at
        assert filing.finding["UpdatedAt"] > doubt.updated_at
        assert filing.record.status is not None

    def test_doubt_keeps_the_times_and_forgets_the_rest(self) -> None:
        """CreatedAt has to survive a crash."""
        record = after(FAILED)
        assert in_doubt(record) == replace(record, status=None, record_state=None, digest=None)
        assert in_doubt(record).key == (Kind.VPC, "vpc-0", "VPCE.1")


class TestExemptions:
    """What is wrong and exempt is shown, as what it is."""

    @pytest.mark.parametrize("history", [(), (FAILED,), (FAILED, PASSED), (FAILED, GONE)])
    def test_what_is_exempt_is_told_and_reads_as_passed(self, history: tuple[Decision, ...]) -> None:
        """Whether or not it was filed before; who reads it learns until when, by whom and why, and what to mend."""
        filing = surely(file(LEFT, after(*history) if history else None, now=LATER))
        assert (filing.finding["Compliance"], filing.finding["RecordState"]) == ({"Status": "PASSED"}, "ACTIVE")
        assert filing.finding["Description"] == (
            "Exempt until 2026-12-31 00:00 UTC by team-a (lab): It is a lab. It is so."
        )
        assert filing.finding["FindingProviderFields"]["Severity"] == {"Label": "INFORMATIONAL"}
        assert filing.finding["Remediation"]["Recommendation"]["Text"] == "Mend it."
        assert filing.record.status == EXEMPT

    def test_what_becomes_right_while_it_is_exempt_is_told(self) -> None:
        """It reads as passed before and after, but the text is another."""
        filing = surely(file(PASSED, after(LEFT), now=LATER))
        assert filing.finding["Description"] == "It is so."
        assert filing.record.status == "PASSED"

    def test_an_exempt_finding_is_refreshed_after_a_week(self) -> None:
        """It stays open as long as something is wrong."""
        assert file(LEFT, after(LEFT), now=START + REFRESH_AFTER + timedelta(milliseconds=1))


class TestOutcomes:
    """What happened to the actions decides what the finding says."""

    def test_all_applied_is_passed_and_tells_what_was_wrong(self) -> None:
        """The reader learns what was done, and why."""
        filing = surely(file(FAILED, after(FAILED), [APPLIED]))
        assert filing.finding["Compliance"] == {"Status": "PASSED"}
        assert filing.finding["Description"] == "Portcullis created vpce-0. Before: It is so."
        assert filing.finding["FindingProviderFields"]["Severity"] == {"Label": "INFORMATIONAL"}
        assert filing.finding["Remediation"]["Recommendation"]["Text"] == "Nothing is left to do."

    def test_a_change_that_is_about_to_be_made_is_no_news_of_an_open_finding(self) -> None:
        """How it ends is; and where the finding is not open, it is opened before the change."""
        ready = replace(FAILED, actions=(ACTION,), note="Now.")
        assert file(ready, after(FAILED), now=LATER) is None
        assert surely(file(ready, after(FAILED, PASSED), now=LATER)).finding["Compliance"] == {"Status": "FAILED"}
        assert surely(file(ready, after(LEFT), now=LATER)).finding["Compliance"] == {"Status": "FAILED"}

    @pytest.mark.parametrize("outcomes", [[NEEDLESS], [NEEDLESS, APPLIED]])
    def test_what_proves_not_to_be_needed_is_a_warning(self, outcomes: list[Outcome]) -> None:
        """Another endpoint answers already: that is told, and is no failure."""
        filing = surely(file(FAILED, after(FAILED), outcomes))
        assert (filing.record.status, filing.finding["Compliance"]) == ("WARNING", {"Status": "WARNING"})
        assert filing.finding["FindingProviderFields"]["Severity"] == {"Label": "INFORMATIONAL"}
        assert NEEDLESS.detail in filing.finding["Description"]

    def test_it_stays_a_warning_while_that_holds(self) -> None:
        """And is news again once it does not."""
        held = replace(FAILED, note="Another answers.", needless=True)
        filing = surely(file(held, after(FAILED)))
        assert filing.finding["Description"] == "Another answers. It is so."
        assert file(held, filing.record) is None
        assert surely(file(FAILED, filing.record, now=LATER)).record.status == "FAILED"

    @pytest.mark.parametrize("outcomes", [[REFUSED], [BUSY], [APPLIED, REFUSED], [BUSY, APPLIED]])
    def test_anything_less_is_failed_and_tells_what_happened(self, outcomes: list[Outcome]) -> None:
        """One action of several that did not work leaves the finding open, with every outcome told."""
        filing = surely(file(FAILED, after(FAILED), outcomes))
        assert filing.finding["Compliance"] == {"Status": "FAILED"}
        assert filing.finding["Description"] == " ".join(["It is so.", *(outcome.detail for outcome in outcomes)])
        assert filing.finding["Remediation"]["Recommendation"]["Text"] == "Mend it."
        assert filing.finding["FindingProviderFields"]["Severity"] == {"Label": "MEDIUM"}


class TestTimes:
    """CreatedAt never moves; UpdatedAt always does, or Security Hub would ignore the import."""

    @settings(deadline=None, derandomize=True, database=None)
    @given(
        steps=st.lists(
            st.tuples(st.sampled_from([FAILED, PASSED, GONE]), st.integers(-10_000, 10_000)), min_size=2, max_size=12
        )
    )
    def test_updated_at_grows_whatever_the_clock_does(self, steps: list[tuple[Decision, int]]) -> None:
        """The clock may stand still or go back; every filing is strictly newer, and CreatedAt stays."""
        now, record = START, None
        for decision, milliseconds in steps:
            now += timedelta(milliseconds=milliseconds)
            filing = file(decision, record, now=now)
            if filing:
                surely(filing)
                assert record is None or filing.finding["UpdatedAt"] > record.updated_at
                assert record is None or filing.finding["CreatedAt"] == record.created_at
                record = filing.record

    def test_times_are_in_utc_with_milliseconds(self) -> None:
        """Whatever the zone of the clock; and they sort as text."""
        tokyo = datetime(2026, 3, 2, 18, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
        assert surely(file(FAILED, now=tokyo)).finding["UpdatedAt"] == "2026-03-02T09:00:00.123Z"
        assert surely(file(FAILED, now=tokyo.astimezone(UTC))).record.updated_at == "2026-03-02T09:00:00.123Z"


class TestContent:
    """What a finding holds, and what it must not."""

    @pytest.mark.parametrize("decision", [FAILED, PASSED, GONE, NOT_APPLICABLE])
    def test_the_analysts_fields_are_never_sent(self, decision: Decision) -> None:
        """Workflow, notes and the like are theirs."""
        finding = surely(file(decision, in_doubt(after(FAILED)))).finding
        assert not {"Workflow", "WorkflowState", "Note", "UserDefinedFields", "VerificationState"} & set(finding)

    def test_ids_are_deterministic_and_distinct(self) -> None:
        """The same trouble is the same finding; another control, resource, Region, account, or kind is another."""
        places = [
            Place(p, a, r) for p in ("aws", "aws-cn") for a in (ACCOUNT, OTHER_ACCOUNT) for r in (REGION, OTHER_REGION)
        ]
        ids = [
            finding_id(place, control.id, kind, resource_id)
            for place in places
            for control in CONTROLS
            for kind in (Kind.VPC, Kind.INSTANCE)
            for resource_id in ("x-1", "x-2")
        ]
        assert len(set(ids)) == len(ids)
        expected = "portcullis/VPCE.1/arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0"
        assert finding_id(PLACE, "VPCE.1", Kind.VPC, "vpc-0") == expected
        assert surely(file(FAILED)).finding["Id"] == expected

    def test_an_instance_and_a_vpc_are_told_apart(self) -> None:
        """Resource type, ARN and link fit the kind; the partition is kept."""
        evaluation = Evaluation("ROLE.1", Kind.INSTANCE, "i-0", Status.FAILED, "Bad.", "Mend.")
        decision = Decision(ROLE_1, Kind.INSTANCE, "i-0", evaluation)
        place = Place("aws-cn", ACCOUNT, "cn-north-1")
        instance = surely(file_for(place, decision, (), None, START)).finding
        vpc = surely(file(FAILED)).finding
        arn = f"arn:aws-cn:ec2:cn-north-1:{ACCOUNT}:instance/i-0"
        assert instance["Resources"] == [
            {"Type": "AwsEc2Instance", "Id": arn, "Partition": "aws-cn", "Region": "cn-north-1"}
        ]
        assert instance["ProductArn"].startswith("arn:aws-cn:securityhub:cn-north-1:")
        assert vpc["Resources"][0]["Type"] == "AwsEc2Vpc"
        links = [finding["Remediation"]["Recommendation"]["Url"] for finding in (instance, vpc)]
        assert ["iam-roles" in link for link in links] == [True, False]

    @pytest.mark.parametrize("length", [1023, 1024, 1025, 50_000])
    def test_long_texts_are_cut_to_the_limits(self, length: int) -> None:
        """A description and a remedy of any length make a valid finding that shows where it was cut."""
        filing = surely(file(decided(Status.FAILED, "x" * length, "", "y" * length)))
        text = filing.finding["Description"]
        assert len(text) <= asff.MAX_DESCRIPTION
        assert text.endswith(" ...") is (length > asff.MAX_DESCRIPTION)
        remedy = filing.finding["Remediation"]["Recommendation"]["Text"]
        assert len(remedy) == asff.MAX_RECOMMENDATION
        assert remedy.endswith(" ...")

    def test_of_a_long_text_what_will_happen_and_what_it_costs_stays(self) -> None:
        """Ten services and their zones do not push the price out of the finding."""
        note = "Portcullis proposes to create them."
        failed = replace(
            decided(Status.FAILED, "x" * 2000, note), impact=Impact(dollars_a_month=219, per_gigabyte=0.01)
        )
        text = surely(file(failed)).finding["Description"]
        assert len(text) == asff.MAX_DESCRIPTION
        assert text.endswith(f"x ... {note} {failed.impact}")

    def test_what_would_stay_wrong_is_not_passed_when_all_is_done(self) -> None:
        """An endpoint of others still has the wrong policy, though ours has the right one now."""
        assert FAILED.evaluation
        evaluation = replace(FAILED.evaluation, remains=True)
        filing = surely(file(replace(FAILED, evaluation=evaluation), after(FAILED), [APPLIED]))
        assert filing.record.status == "FAILED"
        assert filing.finding["Description"] == f"It is so. {APPLIED.detail}"

    def test_what_differs_only_behind_the_cut_is_news_all_the_same(self) -> None:
        """The digest is of the whole text."""
        record = after(decided(Status.FAILED, "x" * 2000))
        assert file(decided(Status.FAILED, "x" * 2001), record, now=LATER)

    def test_the_impact_of_a_change_is_told_after_what_is_done_about_it(self) -> None:
        """Who decides learns what it costs and touches."""
        finding = surely(file(replace(FAILED, impact=Impact()))).finding
        assert finding["Description"] == f"It is so. A note. {Impact()}"

    def test_an_id_is_read_as_it_was_written(self) -> None:
        """For every kind of resource that can be approved; anything else is none of ours."""
        for kind, resource_id in ((Kind.VPC, "vpc-0"), (Kind.INSTANCE, "i-0")):
            text = finding_id(PLACE, "VPCE.1", kind, resource_id)
            assert parse_finding_id(text) == (PLACE, (kind, resource_id, "VPCE.1"))
            for wrong in (f"{text}\n", f" {text}", text.replace(":ec2:", ":s3:"), text.replace(ACCOUNT, "1")):
                assert parse_finding_id(wrong) is None
        assert parse_finding_id(finding_id(PLACE, "COVERAGE.1", Kind.ACCOUNT_REGION, f"{ACCOUNT}/{REGION}")) is None

    def test_a_finding_without_a_remedy_is_still_valid(self) -> None:
        """A control may have none."""
        assert asff.faults(surely(file(decided(Status.FAILED, remedy=""))).finding) == []

    def test_every_control_of_the_registry_files_a_valid_finding(self) -> None:
        """Titles and severities are within the format's limits."""
        for control in CONTROLS:
            evaluation = Evaluation(control.id, control.kind, "x-0", Status.FAILED, "Bad.", "Mend.")
            filing = surely(file(Decision(control, control.kind, "x-0", evaluation, note="Now.")))
            finding: dict[str, Any] = filing.finding
            assert finding["Title"].startswith(f"{control.id} ")
            assert finding["GeneratorId"] == f"portcullis/{control.id}"
            assert finding["ProductFields"] == {"portcullis/ControlId": control.id}
