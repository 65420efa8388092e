"""A closer look: requests and their answers, suppression, workloads, change windows, and what is remembered after."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.closer import Verdict
from portcullis.errors import ObservationError, TransientError
from portcullis.ledger import ResourceState
from portcullis.model import Ask, Cause, Request, Work
from portcullis.policy import Mode

from tests.fakes import ACCOUNT, DELAY, Trouble, World, careful_policy, instance, policy_of, vpc
from tests.unit.stories import (
    DAY,
    HOUR,
    MINUTE,
    PAT,
    WORKLOAD,
    actions,
    approve,
    ask,
    changes,
    note_of,
    state_of,
    tables_of,
    tell,
    text_of,
)

if TYPE_CHECKING:
    from portcullis.model import Target

S3_ONLY = {"VPCE_2": Mode.OFF}
ASKED = f"Remediate, asked for by {PAT}: "
EXEMPT: dict[str, Any] = {
    "exemptions": [
        {
            "name": "lab",
            "where": {"resources": ["vpc-0001"]},
            "owner": "team-a",
            "reason": "It is a lab.",
            "expires": "2026-03-10",
        }
    ]
}


def proposed(more: dict[str, Any] | None = None, mode: Mode = Mode.APPROVE) -> tuple[World, Target]:
    """Return a world with a VPC that lacks an S3 endpoint, and an open finding."""
    world = World(careful_policy(more, VPCE_1=mode, **S3_ONLY))
    target = vpc(world.aws.region().create_vpc())
    tell(world, target)
    return world, target


def suppress(world: World, target: Target, control_id: str = "VPCE.1") -> None:
    """Let an analyst suppress a finding."""
    finding = world.hub.find(str(target.resource_id), control_id)
    assert finding
    world.hub.analyst_sets(finding["Id"], workflow="SUPPRESSED", note="we know")


class TestApprovals:
    """A person asks for what a finding proposes."""

    def test_what_is_approved_is_made_and_told(self) -> None:
        """In mode approve nothing happens before; then the change, the finding and the note."""
        world, target = proposed()
        world.process(DAY)
        assert (world.aws.performed, world.scheduler.looks) == ([], {})
        assert "Portcullis proposes to create" in text_of(world, target)

        approve(world, target)

        assert actions(world) == ["CreateGatewayEndpoint"]
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "PASSED"
        assert note_of(world, target) == f"{ASKED}{changes(world)[0].detail}"
        assert "answered" in world.journal.steps()

    def test_only_what_is_approved_is_made(self) -> None:
        """One control of a VPC; the other one is still a proposal."""
        world = World(careful_policy(VPCE_1=Mode.APPROVE, VPCE_2=Mode.APPROVE))
        target = vpc(world.aws.region().create_vpc())
        tell(world, target)
        approve(world, target, "VPCE.2")
        assert [change.action.control_id for change in changes(world)] == ["VPCE.2"]
        assert note_of(world, target) == ""

    @pytest.mark.parametrize(
        ("more", "mode", "answer"),
        [
            ({}, Mode.DETECT, "Portcullis changes nothing in mode detect; in mode remediate it would create"),
            (EXEMPT, Mode.APPROVE, "It was not done. Exempt until 2026-03-11 00:00 UTC by team-a (lab): It is a lab."),
            (EXEMPT, Mode.REMEDIATE, "It was not done. Exempt until"),
            ({}, Mode.OFF, "The policy switched VPCE.1 off."),
        ],
    )
    def test_the_policy_has_the_last_word(self, more: dict[str, Any], mode: Mode, answer: str) -> None:
        """It may have been changed since the proposal; who asked is told."""
        world, target = proposed()
        world.set_policy(careful_policy(more, VPCE_1=mode, **S3_ONLY))

        approve(world, target)

        assert world.aws.performed == []
        assert note_of(world, target).startswith(f"{ASKED}{answer}")

    @pytest.mark.parametrize("mode", [Mode.APPROVE, Mode.REMEDIATE])
    def test_a_suppressed_finding_is_refused(self, mode: Mode) -> None:
        """The analyst's word stands against that of whoever clicks; and against the policy's."""
        world, target = proposed(mode=mode)
        suppress(world, target)

        approve(world, target)
        world.process(HOUR)
        world.sweep()
        world.drain()

        assert world.aws.performed == []
        assert note_of(world, target) == f"{ASKED}It was not done: this finding is suppressed."
        assert "suppressed" in world.journal.steps()

    def test_of_two_findings_only_the_suppressed_one_is_left(self) -> None:
        """Each finding for itself."""
        world = World(careful_policy())
        target = vpc(world.aws.region().create_vpc())
        tell(world, target)
        suppress(world, target, "VPCE.2")
        world.process(HOUR)
        assert [change.action.control_id for change in changes(world)] == ["VPCE.1"]

    def test_what_is_right_by_now_is_told(self) -> None:
        """Somebody was quicker; or clicked twice."""
        world, target = proposed()
        approve(world, target)
        approve(world, target)
        assert len(changes(world)) == 1
        assert note_of(world, target).startswith(f"{ASKED}Nothing is left to do. Every route table of vpc-0001")

    def test_what_is_gone_by_now_is_told(self) -> None:
        """On the finding that is archived."""
        world, target = proposed()
        world.aws.region().delete_vpc(str(target.resource_id))
        approve(world, target)
        assert note_of(world, target) == f"{ASKED}vpc-0001 no longer exists."

    def test_what_only_a_person_can_mend_is_told(self) -> None:
        """There is nothing to approve."""
        world = World(careful_policy())
        place = world.aws.region()
        target = instance(place.launch_instance(profile=world.aws.add_profile(ACCOUNT, "theirs")))
        tell(world, target)
        approve(world, target, "ROLE.1")
        assert note_of(world, target, "ROLE.1") == f"{ASKED}Portcullis cannot mend this; a person can."

    def test_a_control_that_is_none_of_this_resource_is_told(self) -> None:
        """It cannot come from a finding of ours; it changes nothing."""
        world, target = proposed()
        name = "portcullis/ROLE.1/arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0001"
        finding = world.hub.find(str(target.resource_id), "VPCE.1")
        assert finding
        world.hub.findings[ACCOUNT, target.region, name] = {**finding, "Id": name}
        approve(world, target, "ROLE.1")
        assert note_of(world, target, "ROLE.1") == f"{ASKED}There is no such control."
        assert world.aws.performed == []

    def test_what_is_not_possible_yet_is_tried_again_until_it_is(self) -> None:
        """The instance is pending: the request is not lost, and answered in the end."""
        world = World(careful_policy(ROLE_1=Mode.APPROVE))
        place = world.aws.region()
        target = instance(place.launch_instance("pending"))
        tell(world, target)
        approve(world, target, "ROLE.1")
        assert (world.aws.performed, note_of(world, target, "ROLE.1")) == ([], "")
        place.set_state(str(target.resource_id), "running")
        world.process(MINUTE)
        assert actions(world) == ["AssociateInstanceProfile"]
        assert note_of(world, target, "ROLE.1").startswith(ASKED)

    def test_a_note_that_cannot_be_written_is_written_when_the_message_comes_again(self) -> None:
        """The change is not made twice; the verdict of other targets is their own."""
        world, target = proposed()
        other = vpc(world.aws.region().create_vpc())
        world.calls.plan("note", Trouble(TransientError("Security Hub is busy")))
        work = Work(target, "m-1", Cause("ask/1", request=Request(Ask.REMEDIATE, "VPCE.1", PAT), at=world.clock.now()))

        answers = world.loop.run([work, Work(other, "m-2")])

        assert (answers[target].verdict, answers[target].reason) == (Verdict.RETRY, "Security Hub is busy")
        assert answers[other].verdict is Verdict.DONE
        assert world.loop.run([work])[target].verdict is Verdict.DONE
        assert note_of(world, target).startswith(ASKED)
        assert len(changes(world)) == 1

    def test_a_note_that_is_refused_buries_only_its_own_message(self) -> None:
        """The change was made; the dead letter tells that nobody was told."""
        world, target = proposed()
        other = vpc(world.aws.region().create_vpc())
        world.calls.plan("note", Trouble(ObservationError("AccessDenied")))
        work = Work(target, "m-1", Cause("ask/1", request=Request(Ask.REMEDIATE, "VPCE.1", PAT), at=world.clock.now()))

        answers = world.loop.run([work, Work(other, "m-2")])

        assert (answers[target].verdict, answers[target].reason) == (Verdict.BURY, "AccessDenied")
        assert answers[other].verdict is Verdict.DONE
        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_everybody_who_asked_is_told(self) -> None:
        """Two people, one batch, one change; a request to undo is answered beside it."""
        world, target = proposed()
        for number, one in enumerate((Ask.REMEDIATE, Ask.REMEDIATE, Ask.UNDO)):
            request = Request(one, "VPCE.1", f"p-{number}")
            world.enqueue(target, cause=Cause(f"approval/{number}", request=request))
        world.process(DELAY)
        told = [entry.message for entry in world.journal.entries if entry.step == "answered"]
        assert [text.partition(":")[0] for text in told] == [
            "Remediate, asked for by p-0",
            "Remediate, asked for by p-1",
            "Undo, asked for by p-2",
        ]
        assert len(changes(world)) == 1

    def test_what_one_asked_to_undo_is_not_answered_to_another_who_approved(self) -> None:
        """Each is told what became of what they asked for."""
        world, target = proposed()
        requests = [Request(Ask.UNDO, "VPCE.1", "kim"), Request(Ask.REMEDIATE, "VPCE.1", "pat")]
        for number, request in enumerate(requests):
            world.enqueue(target, cause=Cause(f"approval/{number}", request=request))
        world.process(DELAY)
        told = [entry.message for entry in world.journal.entries if entry.step == "answered"]
        assert told == [
            "Undo, asked for by kim: There is no change of Portcullis to undo on vpc-0001.",
            f"Remediate, asked for by pat: {changes(world)[0].detail}",
        ]


class TestWorkloads:
    """With something running, a change is proposed, or waits for a change window."""

    def busy(self, more: dict[str, Any] | None = None) -> tuple[World, Target]:
        """Return a world in which an instance runs in the VPC that lacks an endpoint."""
        controls = {"controls": {"VPCE.1": {"mode": "remediate"} | (more or {})}}
        world = World(careful_policy(controls))
        target = vpc(world.aws.region().create_vpc())
        world.aws.region().surroundings[str(target.resource_id)] = WORKLOAD
        tell(world, target)
        return world, target

    def test_remediate_becomes_a_proposal_that_names_what_it_touches(self) -> None:
        """Although the policy says remediate; an approval has it made."""
        world, target = self.busy()
        world.process(DAY)
        assert world.aws.performed == []
        assert "workloads run there" in text_of(world, target)
        assert "It touches 1 running instance (i-busy) in subnet-0" in text_of(world, target)
        approve(world, target)
        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_unless_the_policy_says_otherwise(self) -> None:
        """Then it settles and goes; the finding still names what it touches."""
        world, target = self.busy({"running_workloads": "remediate"})
        assert "It touches 1 running instance" in text_of(world, target)
        world.process(HOUR)
        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_a_change_window_is_waited_for(self) -> None:
        """Twelve at night in Zurich: a schedule looks then, and the change is made."""
        world, target = self.busy(
            {"change_windows": [{"cron": "0 0 * * *", "time_zone": "Europe/Zurich", "length": "1h"}]}
        )
        assert "in the change window that opens at 2026-03-02 23:00 UTC" in text_of(world, target)
        world.process(13 * HOUR)
        assert world.aws.performed == []
        world.process(HOUR)
        assert actions(world) == ["CreateGatewayEndpoint"]
        assert world.scheduler.looks == {}

    @pytest.mark.parametrize("asked", [False, True])
    def test_bucket_policies_are_read_when_the_policy_asks(self, *, asked: bool) -> None:
        """They cost a call each."""
        world, _ = self.busy({"check_bucket_policies": asked})
        assert world.aws.asked_for_buckets is asked

    def test_what_cannot_be_seen_stops_the_change(self) -> None:
        """Fail closed: the message comes again, nothing is filed, nothing is made."""
        world = World(policy_of(**S3_ONLY))
        target = vpc(world.aws.region().create_vpc())
        world.calls.plan("surroundings", Trouble(TransientError("Throttling")))
        answer = world.loop.run([Work(target, "m-1")])[target]
        assert (answer.verdict, answer.reason) == (Verdict.RETRY, "Throttling")
        assert (world.aws.performed, world.hub.findings) == ([], {})

    @pytest.mark.parametrize("mode", [Mode.DETECT, Mode.OFF])
    def test_nobody_looks_around_where_nothing_may_be_changed(self, mode: Mode) -> None:
        """It would cost five calls for nothing."""
        world = World(policy_of(VPCE_1=mode, **S3_ONLY))
        world.loop.run([Work(vpc(world.aws.region().create_vpc()), "m-1")])
        assert world.calls.counts()["surroundings"] == 0


class TestMemory:
    """What is remembered of a resource, and what is not."""

    def test_a_resource_that_is_right_leaves_nothing(self) -> None:
        """No state is kept of what was never changed and needs no look."""
        world = World(careful_policy())
        target = instance(world.aws.region().launch_instance(profile=world.aws.add_profile(ACCOUNT, "p", "r")))
        tell(world, target)
        assert world.ledger.kept == {}

    def test_a_resource_that_is_gone_leaves_nothing(self) -> None:
        """Not what we made on it, either: ids never come again."""
        world = World(policy_of())
        place = world.aws.region()
        targets = [vpc(place.create_vpc()), instance(place.launch_instance())]
        for target in targets:
            tell(world, target)
            assert state_of(world, target).made
        place.delete_vpc(str(targets[0].resource_id))
        place.set_state(str(targets[1].resource_id), "terminated")
        for target in targets:
            tell(world, target)
        assert world.ledger.kept == {}

    def test_a_resource_that_is_gone_without_an_event_leaves_nothing_after_a_sweep(self) -> None:
        """The sweep archives the finding, and has the rest forgotten by a closer look."""
        world, target = proposed(mode=Mode.REMEDIATE)
        world.scheduler.looks.clear()
        world.aws.region().delete_vpc(str(target.resource_id))
        world.sweep()
        world.drain()
        assert world.ledger.kept == {}
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "ARCHIVED"

    @pytest.mark.parametrize("call", ["keep", "look_at", "cancel"])
    @pytest.mark.parametrize("after", [False, True])
    def test_what_could_not_be_remembered_is_when_the_message_comes_again(self, call: str, *, after: bool) -> None:
        """The whole look is repeated; there is one schedule, and none that is left over."""
        world, target = proposed(mode=Mode.REMEDIATE)
        world.calls.plan(call, Trouble(TransientError("down"), after=after))
        tell(world, target)
        place, vpc_id = world.aws.region(), str(target.resource_id)
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
        tell(world, target)
        world.process(HOUR)
        assert (world.ledger.kept, world.scheduler.looks, world.dead_letters.buried) == ({}, {}, [])

    def test_a_state_that_somebody_else_has_written_is_read_again(self) -> None:
        """One writer: what was decided from an old state is not stored; the next look decides anew."""
        world, target = proposed(mode=Mode.REMEDIATE)
        key = (target.account_id, target.region, target.kind, str(target.resource_id))
        world.clock.advance(10 * MINUTE)

        def write() -> None:
            world.ledger.kept[key] = replace(world.ledger.kept[key], version=7)

        world.calls.meanwhile(3, write)
        assert world.loop.run([Work(target, "m-1")])[target].verdict is Verdict.RETRY
        assert world.aws.performed == []
        assert world.loop.run([Work(target, "m-1")])[target].verdict is Verdict.DONE
        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_a_hold_that_is_over_is_forgotten(self) -> None:
        """With the first look after it."""
        world, target = proposed(mode=Mode.REMEDIATE)
        world.process(HOUR)
        ask(world, target, Ask.UNDO, "VPCE.1")
        assert state_of(world, target).holds
        place, vpc_id = world.aws.region(), str(target.resource_id)
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
        world.process(2 * DAY)
        tell(world, target)
        assert not state_of(world, target).holds

    def test_an_unstored_state_says_nothing(self) -> None:
        """Two empty ones are equal, whatever they are of."""
        world, target = proposed()
        assert state_of(world, target) == ResourceState(target.kind, str(target.resource_id))


class TestUnits:
    """The organisational units above an account count only where the policy names one."""

    def test_they_are_asked_for_when_needed(self) -> None:
        """And decide."""
        scopes = [{"name": "u", "where": {"units": ["ou-1"]}, "controls": {"VPCE.1": {"mode": "detect"}}}]
        world = World(careful_policy({"scopes": scopes}, **S3_ONLY))
        world.directory.units[ACCOUNT] = ("r-1", "ou-1")
        target = vpc(world.aws.region().create_vpc())
        tell(world, target)
        world.sweep()
        assert "in mode detect" in text_of(world, target)
        assert world.calls.counts()["units_of"] == 2

    def test_they_are_not_asked_for_otherwise(self) -> None:
        """No call for nothing."""
        world, _ = proposed()
        assert world.calls.counts()["units_of"] == 0

    def test_what_cannot_be_told_stops_the_look(self) -> None:
        """Fail closed: nobody knows which mode holds."""
        scopes = [{"name": "u", "where": {"units": ["ou-1"]}, "controls": {"VPCE.1": {"mode": "detect"}}}]
        world = World(careful_policy({"scopes": scopes}, **S3_ONLY))
        target = vpc(world.aws.region().create_vpc())
        world.calls.plan("units_of", Trouble(TransientError("Organizations is busy")))
        assert world.loop.run([Work(target, "m-1")])[target].verdict is Verdict.RETRY
        assert (world.hub.findings, tables_of(world, target)) == ({}, [])
