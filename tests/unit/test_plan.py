"""From verdicts to decisions: act, wait, report, or leave alone."""

from __future__ import annotations

from portcullis.controls import CONTROLS
from portcullis.model import AssociateInstanceProfile, Instance, InstanceProfile, Kind, Scope, Snapshot, Status, Vpc
from portcullis.plan import Decision, decide
from portcullis.policy import Mode, Policy

from tests.fakes import ACCOUNT, DEFAULT_PROFILE, OTHER_ACCOUNT, REGION, policy_of

ROLE = InstanceProfile(DEFAULT_PROFILE, "arn:aws:iam::111122223333:instance-profile/p", ("role",))
ASSOCIATE = AssociateInstanceProfile("ROLE.1", "i-0", DEFAULT_PROFILE)


def decision_about(instance: Instance | None, mode: Mode = Mode.REMEDIATE) -> Decision:
    """Decide about one instance, None for one that is gone."""
    seen = {"i-0": instance} if instance else {}
    snapshot = Snapshot(Scope(ACCOUNT, REGION), instances=seen, default_profile=ROLE)
    (decision,) = decide(snapshot, [(Kind.INSTANCE, "i-0")], policy_of(ROLE_1=mode))
    assert (decision.control.id, decision.kind, decision.resource_id) == ("ROLE.1", Kind.INSTANCE, "i-0")
    return decision


def test_remediate_acts_on_a_failure_and_says_so() -> None:
    """The actions are the evaluation's, and the note announces them."""
    decision = decision_about(Instance("i-0", "running"))
    assert decision.actions == (ASSOCIATE,)
    assert decision.wait is None
    assert decision.note == f"Portcullis will associate the instance profile {DEFAULT_PROFILE} with i-0 now."


def test_detect_says_what_remediate_would_do() -> None:
    """No action, and a note that tells the reader what to expect of another mode."""
    decision = decision_about(Instance("i-0", "running"), Mode.DETECT)
    assert (decision.actions, decision.wait) == ((), None)
    assert decision.note == (
        "Portcullis changes nothing in mode detect; in mode remediate it would associate the instance profile "
        f"{DEFAULT_PROFILE} with i-0."
    )


def test_what_is_not_possible_yet_waits() -> None:
    """No action now; the note says what for."""
    decision = decision_about(Instance("i-0", "pending"))
    assert (decision.actions, decision.wait) == ((), "the instance is pending")
    assert decision.note.endswith("with i-0 once that is possible (the instance is pending).")


def test_detect_does_not_wait() -> None:
    """There is nothing to wait for: nothing will be done."""
    assert decision_about(Instance("i-0", "pending"), Mode.DETECT).wait is None


def test_what_only_a_person_can_mend_is_said_to_be_so() -> None:
    """In both modes."""
    empty = Instance("i-0", "running", profile=InstanceProfile("p", "arn"))
    for mode in (Mode.REMEDIATE, Mode.DETECT):
        decision = decision_about(empty, mode)
        assert (decision.actions, decision.wait) == ((), None)
        assert decision.note == "Portcullis cannot mend this; a person can."


def test_what_is_right_needs_nothing() -> None:
    """No note, no action."""
    decision = decision_about(Instance("i-0", "running", profile=ROLE))
    assert decision.evaluation
    assert decision.evaluation.status is Status.PASSED
    assert (decision.actions, decision.wait, decision.note) == ((), None, "")


def test_what_does_not_apply_needs_nothing() -> None:
    """A shared VPC is not ours to change, in any mode."""
    snapshot = Snapshot(Scope(ACCOUNT, REGION), vpcs={"vpc-0": Vpc("vpc-0", OTHER_ACCOUNT)})
    for decision in decide(snapshot, [(Kind.VPC, "vpc-0")], policy_of()):
        assert decision.evaluation
        assert decision.evaluation.status is Status.NOT_APPLICABLE
        assert (decision.actions, decision.note) == ((), "")


def test_a_gone_resource_is_not_judged() -> None:
    """Neither in mode remediate nor when the control is off as well."""
    for mode in Mode:
        decision = decision_about(None, mode)
        assert (decision.evaluation, decision.actions) == (None, ())
        assert decision.note == "i-0 no longer exists."


def test_off_judges_nothing_and_says_why() -> None:
    """A wrong instance has no verdict while the control is off."""
    decision = decision_about(Instance("i-0", "running"), Mode.OFF)
    assert (decision.evaluation, decision.actions) == (None, ())
    assert decision.note == "The policy switched ROLE.1 off."


def test_every_resource_meets_every_control_of_its_kind_in_order() -> None:
    """A VPC is judged by the VPC controls, an instance by its own; what the policy does not name is off."""
    resources = [(Kind.VPC, "vpc-0"), (Kind.INSTANCE, "i-0"), (Kind.ACCOUNT_REGION, "x")]
    decisions = decide(Snapshot(Scope(ACCOUNT, REGION)), resources, Policy({}))
    assert [decision.control.id for decision in decisions] == ["VPCE.1", "VPCE.2", "ROLE.1"]
    assert [control.id for control in CONTROLS] == ["VPCE.1", "VPCE.2", "ROLE.1"]
