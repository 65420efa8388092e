"""What is done about a failure: now, later, on somebody's word, or not at all, and what the finding says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from portcullis.actions import AssociateInstanceProfile
from portcullis.change_windows import ChangeWindow
from portcullis.controls import CONTROLS
from portcullis.impact import Impact
from portcullis.ledger import Hold, ResourceState, Window
from portcullis.model import Instance, InstanceProfile, Kind, Scope, Snapshot, Status, Vpc
from portcullis.plan import BY_POLICY, Circumstances, Decision, Judge, exempted, moment, respond
from portcullis.policy import Mode, parse

from tests.fakes import ACCOUNT, DEFAULT_PROFILE, OTHER_ACCOUNT, REGION, START, policy_of

if TYPE_CHECKING:
    from portcullis.actions import Action
    from portcullis.model import Resource
    from portcullis.policy import Policy

ROLE = InstanceProfile(DEFAULT_PROFILE, "arn:aws:iam::111122223333:instance-profile/p", ("role",))
ASSOCIATE = AssociateInstanceProfile("ROLE.1", "i-0", DEFAULT_PROFILE)
WILL = f"associate the instance profile {DEFAULT_PROFILE} with i-0"
BARE = Instance("i-0", "running")
KEY = (Kind.INSTANCE, "i-0")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CALM = ResourceState(*KEY)
BUSY = Impact(instance_ids=("i-0",), subnet_ids=("subnet-0",), effects=("their connections to S3 are dropped",))
HELD = replace(CALM, holds={"": Hold(START + DAY, "It was undone.")})
APPROVAL = "To have it done, choose the custom action Remediate, or run 'portcullis approve' with this finding's id."
MONDAY_NIGHT = ChangeWindow("0 22 * * 1", "UTC", 2 * HOUR)
"""START is a Monday, nine o'clock."""


def judge(policy: Policy, *units: str) -> Judge:
    """Return the judge of the one place of these tests."""
    return Judge(policy, ACCOUNT, REGION, units, CONTROLS)


def judged(instance: Instance | None, policy: Policy | None = None) -> Decision:
    """Judge one instance, None for one that is gone."""
    seen = {"i-0": instance} if instance else {}
    snapshot = Snapshot(Scope(ACCOUNT, REGION), instances=seen, profiles={ROLE.name: ROLE})
    decision, _ = judge(policy or policy_of()).judge(snapshot, [KEY], START)
    assert decision.record_key == (*KEY, "ROLE.1")
    return decision


def decided(
    instance: Instance | None = BARE,
    mode: Mode = Mode.REMEDIATE,
    *,
    state: ResourceState = CALM,
    impact: Impact | None = None,
    now: datetime = START,
    approved_by: str = "",
    windows: tuple[ChangeWindow, ...] = (),
    workloads: Mode = Mode.APPROVE,
) -> Decision:
    """Decide about one instance, by the policy and what counts beside it."""
    decision = judged(instance, policy_of(ROLE_1=mode))
    if decision.settings:
        settings = replace(decision.settings, change_windows=windows, running_workloads=workloads)
        decision = replace(decision, settings=settings)
    return respond(decision, Circumstances(now, state, 3, impact, approved_by))


def waiting(minutes: int) -> ResourceState:
    """Return the state of an instance whose window ends so many minutes after START."""
    return replace(CALM, window=Window(START, START + timedelta(minutes=minutes), "other"))


class TestModes:
    """What the policy's mode makes of a failure."""

    def test_remediate_acts_on_a_failure_and_says_so(self) -> None:
        """The actions are the evaluation's, on the policy's wish, and the note announces them."""
        decision = decided()
        assert (decision.actions, decision.by, decision.wait) == ((ASSOCIATE,), BY_POLICY, None)
        assert decision.note == f"Portcullis will {WILL} now."

    def test_detect_says_what_remediate_would_do(self) -> None:
        """No action, and a note that tells the reader what to expect of another mode."""
        decision = decided(mode=Mode.DETECT)
        assert (decision.actions, decision.wait, decision.again_at) == ((), None, None)
        assert decision.note == f"Portcullis changes nothing in mode detect; in mode remediate it would {WILL}."

    def test_approve_proposes_and_says_how_to_have_it_done(self) -> None:
        """No action without a word; the finding says what, and how to say it."""
        decision = decided(mode=Mode.APPROVE)
        assert (decision.actions, decision.again_at) == ((), None)
        assert decision.note == f"Portcullis proposes to {WILL}; the policy asks for approval. {APPROVAL}"

    def test_off_judges_nothing_and_says_why(self) -> None:
        """A wrong instance has no verdict while the control is off."""
        decision = decided(mode=Mode.OFF)
        assert (decision.evaluation, decision.actions) == (None, ())
        assert decision.note == "The policy switched ROLE.1 off."

    @pytest.mark.parametrize("mode", [Mode.DETECT, Mode.APPROVE])
    def test_what_is_not_done_does_not_wait(self, mode: Mode) -> None:
        """There is nothing to wait for: nothing will be done."""
        assert decided(Instance("i-0", "pending"), mode).wait is None

    def test_what_is_not_possible_yet_waits(self) -> None:
        """No action now; the note says what for."""
        decision = decided(Instance("i-0", "pending"))
        assert (decision.actions, decision.wait) == ((), "the instance is pending")
        assert decision.note == f"Portcullis will {WILL} once that is possible (the instance is pending)."

    def test_what_only_a_person_can_mend_is_said_to_be_so(self) -> None:
        """In every mode, and whoever approves it."""
        empty = Instance("i-0", "running", profile=InstanceProfile("p", "arn"))
        for mode in (Mode.REMEDIATE, Mode.APPROVE, Mode.DETECT):
            decision = decided(empty, mode, approved_by="pat")
            assert (decision.actions, decision.wait) == ((), None)
            assert decision.note == "Portcullis cannot mend this; a person can."

    def test_what_is_right_needs_nothing(self) -> None:
        """No note, no action."""
        decision = decided(Instance("i-0", "running", profile=ROLE))
        assert decision.evaluation
        assert decision.evaluation.status is Status.PASSED
        assert (decision.actions, decision.wait, decision.note) == ((), None, "")

    def test_a_gone_resource_is_not_judged(self) -> None:
        """Neither in mode remediate nor when the control is off as well."""
        for mode in Mode:
            decision = decided(None, mode, approved_by="pat")
            assert (decision.evaluation, decision.actions) == (None, ())
            assert decision.note == "i-0 no longer exists."


class TestJudge:
    """Which control says what about which resource."""

    def test_what_does_not_apply_needs_nothing(self) -> None:
        """A shared VPC is not ours to change, in any mode."""
        snapshot = Snapshot(Scope(ACCOUNT, REGION), vpcs={"vpc-0": Vpc("vpc-0", OTHER_ACCOUNT)})
        for decision in judge(policy_of()).judge(snapshot, [(Kind.VPC, "vpc-0")], START)[:2]:
            assert decision.evaluation
            assert decision.evaluation.status is Status.NOT_APPLICABLE
            assert (decision.actions, decision.note, decision.possible) == ((), "", ())

    def test_every_resource_meets_every_control_of_its_kind_in_order(self) -> None:
        """A VPC is judged by the VPC controls, an instance by its own; what the policy does not name is off."""
        resources = [(Kind.VPC, "vpc-0"), (Kind.INSTANCE, "i-0"), (Kind.ACCOUNT_REGION, "x")]
        nothing = parse({"version": 1, "controls": {}})
        decisions = judge(nothing).judge(Snapshot(Scope(ACCOUNT, REGION)), resources, START)
        ids = ["VPCE.1", "VPCE.2", "VPCE.3", "VPCE.4", "VPCE.5", "ROLE.1", "ROLE.2"]
        assert [decision.control.id for decision in decisions] == ids
        assert [control.id for control in CONTROLS] == ids

    @pytest.mark.parametrize(
        ("mode", "possible", "is_automatic"),
        [
            (Mode.DETECT, False, False),
            (Mode.APPROVE, True, False),
            (Mode.REMEDIATE, True, True),
            (Mode.OFF, False, False),
        ],
    )
    def test_the_mode_tells_what_is_possible_and_what_automatic(
        self, mode: Mode, *, possible: bool, is_automatic: bool
    ) -> None:
        """Only where a change may be made, its impact is assessed; only what waits for nobody gets a window."""
        decision = judged(BARE, policy_of(ROLE_1=mode))
        assert decision.possible == ((ASSOCIATE,) if possible else ())
        assert decision.is_automatic is is_automatic

    @pytest.mark.parametrize("resource", [BARE, None])
    def test_settings_are_those_of_each_control_of_the_kind(self, resource: Resource | None) -> None:
        """Also for what is gone, since others may wait for what we do about it."""
        modes = [one.mode for one in judge(policy_of(ROLE_1=Mode.DETECT)).settings(resource, KEY)]
        assert modes == [Mode.DETECT, Mode.OFF]
        assert len(judge(policy_of()).settings(None, (Kind.VPC, "vpc-0"))) == 5

    def test_the_units_and_tags_of_a_resource_count(self) -> None:
        """A scope of a unit, and one of a tag, each decide where they match."""
        scopes = [
            {"name": "unit", "where": {"units": ["ou-1"]}, "controls": {"ROLE.1": {"mode": "approve"}}},
            {"name": "tag", "where": {"tags": {"env": ["lab"]}}, "controls": {"ROLE.1": {"mode": "detect"}}},
        ]
        policy = parse({"version": 1, "controls": {"ROLE.1": {"mode": "remediate"}}, "scopes": scopes})
        lab = replace(BARE, tags={"env": "lab"})
        modes = {
            (units, resource.tags.get("env")): judge(policy, *units).settings(resource, KEY)[0].mode
            for units in ((), ("r-1", "ou-1"))
            for resource in (BARE, lab)
        }
        assert modes == {
            ((), None): Mode.REMEDIATE,
            ((), "lab"): Mode.DETECT,
            (("r-1", "ou-1"), None): Mode.APPROVE,
            (("r-1", "ou-1"), "lab"): Mode.DETECT,
        }


class TestExemptions:
    """What is exempt is judged, and left as it is."""

    policy = parse(
        {
            "version": 1,
            "controls": {"ROLE.1": {"mode": "remediate"}},
            "exemptions": [
                {
                    "name": "lab",
                    "where": {"resources": ["i-0"]},
                    "owner": "team-a",
                    "reason": "It is a lab.",
                    "expires": "2026-03-31",
                }
            ],
        }
    )

    @pytest.mark.parametrize("approved_by", ["", "pat"])
    def test_what_is_exempt_is_left_alone_and_looked_at_when_that_ends(self, approved_by: str) -> None:
        """Whoever asks; nothing is possible, so nothing around it is looked at, either."""
        decision = respond(judged(BARE, self.policy), Circumstances(START, CALM, 3, None, approved_by))
        assert decision.exemption
        assert (decision.actions, decision.possible, decision.is_automatic) == ((), (), False)
        assert decision.again_at == decision.exemption.expires_at
        assert exempted(decision.exemption) == "Exempt until 2026-04-01 00:00 UTC by team-a (lab): It is a lab."

    def test_what_is_right_needs_no_exemption(self) -> None:
        """It reads as any other, and nothing is scheduled."""
        decision = judged(replace(BARE, profile=ROLE), self.policy)
        assert (decision.exemption, decision.again_at) == (None, None)


class TestSettling:
    """A change waits for its window."""

    def test_before_the_window_ends_it_says_when(self) -> None:
        """No action; the time on the finding is the time of the next look."""
        decision = decided(state=waiting(5))
        assert (decision.actions, decision.again_at) == ((), START + timedelta(minutes=5))
        assert decision.note == (
            f"Portcullis will {WILL} at 2026-03-02 09:05 UTC, unless that is done by then; "
            "more changes to it put that off."
        )

    def test_when_the_window_ends_it_goes(self) -> None:
        """At that very moment."""
        assert decided(state=waiting(5), now=START + timedelta(minutes=5)).actions == (ASSOCIATE,)

    def test_an_approval_does_not_wait(self) -> None:
        """Somebody has looked at it and said so."""
        decision = decided(state=waiting(5), approved_by="pat")
        assert (decision.actions, decision.by) == ((ASSOCIATE,), "approved by pat")


class TestLeftAlone:
    """What Portcullis made way on, what a person undid, and what never comes to rest."""

    def test_a_hold_is_kept_and_told(self) -> None:
        """Until when it lasts is when it is looked at again."""
        decision = decided(state=HELD)
        assert (decision.actions, decision.again_at) == ((), START + DAY)
        assert decision.note == f"It was undone. It would {WILL}."

    def test_a_proposal_tells_of_a_hold_too(self) -> None:
        """Who is asked to approve has to know that it was taken back once."""
        decision = decided(mode=Mode.APPROVE, state=HELD)
        assert decision.again_at == START + DAY
        assert decision.note.startswith(f"It was undone. Portcullis proposes to {WILL}; ")

    @pytest.mark.parametrize(
        ("control_id", "until", "actions"), [("ROLE.1", START + DAY, ()), ("VPCE.1", None, (ASSOCIATE,))]
    )
    def test_what_aws_refused_one_control_holds_no_other(
        self, control_id: str, until: datetime | None, actions: tuple[Action, ...]
    ) -> None:
        """A quota of interface endpoints says nothing of a gateway endpoint."""
        state = replace(CALM, holds={control_id: Hold(START + DAY, "AWS said no.")})
        decision = decided(state=state)
        assert (decision.again_at, decision.actions) == (until, actions)

    @pytest.mark.parametrize("mode", [Mode.APPROVE, Mode.REMEDIATE])
    def test_an_approval_outweighs_it(self, mode: Mode) -> None:
        """Somebody knows better by now."""
        assert decided(mode=mode, state=HELD, approved_by="pat").actions == (ASSOCIATE,)

    @pytest.mark.parametrize("mode", [Mode.APPROVE, Mode.REMEDIATE])
    def test_one_that_has_ended_counts_no_more(self, mode: Mode) -> None:
        """The end itself is after it."""
        decision = decided(mode=mode, state=HELD, now=START + DAY)
        assert (decision.again_at, "undone" in decision.note) == (None, False)

    def test_what_was_changed_as_often_as_the_policy_admits_is_left_alone(self) -> None:
        """Three times within a day; it is looked at again when the first of them is a day old."""
        times = (START - 3 * HOUR, START - HOUR, START - 2 * HOUR)
        decision = decided(state=replace(CALM, changed_at=times))
        assert (decision.actions, decision.flapping, decision.again_at) == ((), True, START + 21 * HOUR)
        assert decision.note == (
            "Portcullis changed i-0 3 times within a day, as often as the policy admits: something may keep taking "
            f"that back. It leaves it alone until 2026-03-03 06:00 UTC. It would {WILL}."
        )

    @pytest.mark.parametrize("hours", [(1, 2), (1, 2, 24), (25, 26, 27, 28)])
    def test_what_is_older_than_a_day_does_not_count(self, hours: tuple[int, ...]) -> None:
        """Nor does what stays below the limit."""
        decision = decided(state=replace(CALM, changed_at=tuple(START - hour * HOUR for hour in hours)))
        assert (decision.actions, decision.flapping) == ((ASSOCIATE,), False)

    def test_when_the_limit_was_lowered_as_many_have_to_grow_old(self) -> None:
        """Five changes, three are admitted: the third last counts."""
        times = tuple(START - hour * HOUR for hour in (1, 2, 3, 4, 5))
        assert decided(state=replace(CALM, changed_at=times)).again_at == START + 21 * HOUR


class TestWorkloads:
    """Where something runs that a change would touch, somebody is asked, or a change window waited for."""

    def test_a_change_that_touches_what_runs_is_proposed(self) -> None:
        """Although the mode is remediate; the decision carries the impact for the finding."""
        decision = decided(impact=BUSY)
        assert (decision.actions, decision.again_at, decision.impact) == ((), None, BUSY)
        assert decision.note == f"Portcullis proposes to {WILL}; workloads run there. {APPROVAL}"

    @pytest.mark.parametrize("state", [CALM, waiting(5), HELD])
    def test_an_approval_is_enough(self, state: ResourceState) -> None:
        """That is what it is for."""
        assert decided(impact=BUSY, state=state, approved_by="pat").actions == (ASSOCIATE,)

    def test_a_change_that_touches_nothing_is_made(self) -> None:
        """An impact that is known, and none."""
        assert decided(impact=Impact()).actions == (ASSOCIATE,)

    def test_the_policy_may_say_that_it_does_not_matter(self) -> None:
        """Then it is a change like any other: it settles, and goes."""
        assert decided(impact=BUSY, workloads=Mode.REMEDIATE).actions == (ASSOCIATE,)
        assert decided(impact=BUSY, workloads=Mode.REMEDIATE, state=waiting(5)).actions == ()

    def test_it_waits_for_the_next_change_window(self) -> None:
        """And says when that is."""
        decision = decided(impact=BUSY, windows=(MONDAY_NIGHT,))
        assert (decision.actions, decision.again_at) == ((), START + 13 * HOUR)
        assert decision.note == (
            f"Workloads run there: Portcullis will {WILL} in the change window that opens at 2026-03-02 22:00 UTC."
        )

    def test_in_a_change_window_it_goes(self) -> None:
        """When it has settled."""
        night = START + 14 * HOUR
        assert decided(impact=BUSY, windows=(MONDAY_NIGHT,), now=night).actions == (ASSOCIATE,)
        unsettled = decided(impact=BUSY, windows=(MONDAY_NIGHT,), now=night, state=waiting(14 * 60 + 5))
        assert (unsettled.actions, unsettled.again_at) == ((), night + timedelta(minutes=5))

    def test_a_change_window_in_which_it_has_not_settled_is_passed_over(self) -> None:
        """The one after its own window is waited for; one that is still open by then is not."""
        assert (
            decided(impact=BUSY, windows=(MONDAY_NIGHT,), state=waiting(20 * 60)).again_at
            == START + 13 * HOUR + 7 * DAY
        )
        assert decided(impact=BUSY, windows=(MONDAY_NIGHT,), state=waiting(14 * 60)).again_at == START + 14 * HOUR

    def test_nothing_runs_so_no_change_window_is_needed(self) -> None:
        """They are for what is interrupted."""
        assert decided(impact=Impact(), windows=(MONDAY_NIGHT,)).actions == (ASSOCIATE,)


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (START, "2026-03-02 09:00 UTC"),
        (START + timedelta(microseconds=1), "2026-03-02 09:01 UTC"),
        (START + timedelta(seconds=59, microseconds=999_999), "2026-03-02 09:01 UTC"),
        (datetime.fromisoformat("2026-03-02T23:59:30+09:00"), "2026-03-02 15:00 UTC"),
    ],
)
def test_times_for_people_are_never_too_early(when: datetime, text: str) -> None:
    """In UTC, to the minute, rounded up."""
    assert moment(when) == text
