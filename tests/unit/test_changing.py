"""Making a change: written down before and after, within the limits, and never past the kill switch."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from portcullis.changing import AGAIN_AFTER, RESUMED_FOR, SPREAD, TRIED_FOR
from portcullis.errors import TransientError
from portcullis.model import CHANGE_TAG, Ask, Caller, Cause, Made, Request, Work
from portcullis.policy import Mode
from portcullis.ports import Changes

from tests.fakes import (
    ACCOUNT,
    DELAY,
    OTHER_ACCOUNT,
    REGION,
    START,
    AwsRefusedError,
    CrashError,
    Trouble,
    World,
    careful_policy,
    instance,
    policy_of,
    vpc,
)
from tests.unit.stories import (
    DAY,
    HOUR,
    MINUTE,
    PAT,
    actions,
    approve,
    changes,
    note_of,
    problems,
    state_of,
    tables_of,
    tell,
    text_of,
)

if TYPE_CHECKING:
    from portcullis.model import Target
    from portcullis.policy import Policy

S3_ONLY = {"VPCE_2": Mode.OFF}


def bare(policy: Policy | None = None) -> tuple[World, Target]:
    """Return a world with a VPC that lacks an S3 endpoint."""
    world = World(policy or policy_of(**S3_ONLY))
    return world, vpc(world.aws.region().create_vpc())


class TestLedger:
    """What is written down about a change."""

    def test_the_intent_is_there_before_the_call_and_the_outcome_after(self) -> None:
        """Who caused what, before and after; the endpoint carries the change's id, which was the call's token."""
        world, target = bare()
        before: list[str] = []
        calls = [
            "send",
            "load",
            "states",
            "observe",
            "surroundings",
            "position",
            "save",
            "import",
            "save",
            "suppressed",
        ]
        number = len([*calls, "position", "begin"])
        world.calls.meanwhile(number, lambda: before.extend(change.progress for change in changes(world)))

        tell(world, target, Caller.TERRAFORM)

        assert before == ["begun"]
        (change,) = changes(world)
        (endpoint,) = world.aws.region().endpoints_of(str(target.resource_id))
        assert endpoint.tags[CHANGE_TAG] == change.change_id
        assert world.aws.region().tokens == {change.change_id: endpoint.endpoint_id}
        assert change.change_id.startswith("20260302T090030Z-")
        assert (change.progress, change.made, change.by) == ("applied", endpoint.endpoint_id, "the policy")
        assert (change.trigger, change.begun_at, change.ended_at) == ("Call/0", world.clock.now(), world.clock.now())
        assert (change.account_id, change.region, change.resource_id) == (ACCOUNT, REGION, target.resource_id)
        assert change.before == {"endpoints": {}}
        assert change.after == {
            "route_table_ids": list(endpoint.route_table_ids),
            "subnet_ids": [],
            "policy_digest": "",
        }
        assert state_of(world, target).made == {endpoint.endpoint_id: Made(change.change_id, endpoint.route_table_ids)}
        assert state_of(world, target).latest("VPCE.1") == change.change_id
        assert state_of(world, target).changed_at == (change.begun_at,)

    def test_tables_that_are_added_become_ours_and_the_endpoint_stays_that_of_its_change(self) -> None:
        """AWS does not tell what a modification left: it follows from what was there."""
        world, target = bare()
        tell(world, target)
        table_id = world.aws.region().add_route_table(str(target.resource_id), subnet=True)
        tell(world, target)

        first, second = changes(world)
        (made,) = state_of(world, target).made.values()
        assert (made.change_id, set(made.route_table_ids)) == (first.change_id, {*tables_of(world, target)[0]})
        assert set(second.after["route_table_ids"]) == set(made.route_table_ids)
        assert second.before == first.after
        assert table_id in made.route_table_ids
        assert state_of(world, target).latest("VPCE.1") == second.change_id

    def test_what_aws_refuses_is_written_down_as_failed(self) -> None:
        """It made nothing, and counts as no change of the resource."""
        world, target = bare()
        world.calls.plan("perform", Trouble(AwsRefusedError("UnauthorizedOperation", "an SCP says no")))
        tell(world, target)
        (change,) = changes(world)
        assert (change.progress, change.made, change.after) == ("failed", "", {})
        assert "an SCP says no" in change.detail
        hold = state_of(world, target).holds.get("VPCE.1")
        assert hold is not None
        assert hold.until == change.begun_at + timedelta(days=1), "it is not tried in vain all day"
        assert "an SCP says no" in hold.reason

    def test_equal_changes_have_ids_of_their_own(self) -> None:
        """A re-creation after a deletion is another change, even for the same message."""
        world, target = bare()
        place = world.aws.region()
        work = Work(target, "m-1", Cause("t"))
        for _ in range(2):
            world.loop.run([work])
            place.delete_endpoint(place.endpoints_of(str(target.resource_id))[0].endpoint_id)
            world.clock.advance(1)
        assert len({change.change_id for change in changes(world)}) == 2

    def test_days_later_an_old_change_counts_no_more(self) -> None:
        """The state of a resource does not grow for ever."""
        world, target = bare()
        place = world.aws.region()
        for _ in range(3):
            tell(world, target)
            place.delete_endpoint(place.endpoints_of(str(target.resource_id))[0].endpoint_id)
            world.process(DAY)
        assert len(state_of(world, target).changed_at) == 1

    @pytest.mark.parametrize(("call", "made"), [("begin", 0), ("end", 1)])
    def test_a_ledger_that_does_not_answer_stops_the_change_or_is_made_up_for(self, call: str, made: int) -> None:
        """Before: nothing is done. After: the next look sees that it was."""
        world, target = bare()
        world.calls.plan(call, Trouble(TransientError("down")))
        tell(world, target)
        assert len(tables_of(world, target)) == made
        world.process(HOUR)
        assert len(tables_of(world, target)) == 1
        assert [change.progress for change in changes(world)] == ["applied"]
        assert world.dead_letters.buried == []


class TestResuming:
    """A change that was begun and not ended."""

    def interrupted(self, call: str) -> tuple[World, Target]:
        """Return a world in which the process died right before a call of its first change."""
        world, target = bare()
        world.calls.plan(call, Trouble(CrashError("here")))
        tell(world, target)
        assert [change.progress for change in changes(world)] == ["begun"]
        return world, target

    def test_one_that_was_made_is_ended_as_it_was(self) -> None:
        """From what is there; with what it left, so that it can be undone."""
        world, target = self.interrupted("end")
        world.process(HOUR)
        (change,) = changes(world)
        assert (change.progress, change.made) == ("applied", "vpce-0001")
        assert change.detail == "It was made; how it ended was seen at a later look."
        assert state_of(world, target).made["vpce-0001"].route_table_ids == tables_of(world, target)[0]
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "PASSED"
        assert "recovered" in world.journal.steps()

    def test_one_that_was_not_made_is_made_under_its_own_token(self) -> None:
        """By the same change."""
        world, target = self.interrupted("perform")
        world.process(RESUMED_FOR.total_seconds() - 2 * MINUTE)
        (change,) = changes(world)
        assert (change.progress, list(world.aws.region().tokens)) == ("applied", [change.change_id])
        assert len(tables_of(world, target)) == 1

    def test_one_that_is_not_needed_any_more_is_given_up(self) -> None:
        """Somebody made the endpoint meanwhile."""
        world, target = self.interrupted("perform")
        place, vpc_id = world.aws.region(), str(target.resource_id)
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
        world.process(HOUR)
        (change,) = changes(world)
        assert (change.progress, change.detail) == ("abandoned", "It was not needed any more.")
        assert world.ledger.kept == {}

    def test_one_that_would_be_another_by_now_is_given_up_for_that(self) -> None:
        """A table has come: what is made is what is needed now."""
        world, target = self.interrupted("perform")
        world.aws.region().add_route_table(str(target.resource_id), subnet=True)
        world.process(HOUR)
        assert [change.progress for change in changes(world)] == ["abandoned", "applied"]
        assert len(tables_of(world, target)[0]) == 2

    def test_one_that_is_given_up_when_a_limit_is_reached_is_not_begun(self) -> None:
        """The state is written as it is: nothing is pending, and nothing fails."""
        world, target = self.interrupted("perform")
        world.aws.region().add_route_table(str(target.resource_id), subnet=True)
        few = {"changes_per_hour": {"account": 1, "organisation": 1}}
        world.set_policy(careful_policy({"limits": few}, **S3_ONLY))
        world.process(HOUR / 2)
        assert [change.progress for change in changes(world)] == ["abandoned"]
        assert state_of(world, target).pending == ""
        world.process(HOUR)
        assert [change.progress for change in changes(world)] == ["abandoned", "applied"]

    def test_one_whose_resource_is_gone_is_given_up(self) -> None:
        """With all that was remembered."""
        world, target = self.interrupted("perform")
        world.aws.region().delete_vpc(str(target.resource_id))
        world.process(HOUR)
        (change,) = changes(world)
        assert (change.progress, change.detail) == ("abandoned", "It was not made.")
        assert world.ledger.kept == {}

    def test_one_that_is_too_old_is_given_up_for_a_new_one(self) -> None:
        """AWS may remember its token for something that was deleted meanwhile."""
        world, target = self.interrupted("perform")
        world.clock.advance(RESUMED_FOR.total_seconds())
        world.process(HOUR)
        assert [change.progress for change in changes(world)] == ["abandoned", "applied"]
        assert len(tables_of(world, target)) == 1

    def test_one_that_the_ledger_has_lost_holds_nothing_up(self) -> None:
        """It cannot happen, as both are written at once; should it, the resource is not stuck for ever."""
        for cover in (False, True):
            world, target = self.interrupted("perform")
            world.ledger.entries.clear()
            place, vpc_id = world.aws.region(), str(target.resource_id)
            if cover:
                place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
            world.process(HOUR)
            assert state_of(world, target).pending == ""
            assert len(tables_of(world, target)) == 1

    def test_one_that_aws_puts_off_for_long_is_told_and_tried_again_later(self) -> None:
        """For some minutes by way of the queue; then the finding says what AWS says, and a schedule tries again."""
        world, target = bare()
        busy = Trouble(AwsRefusedError("IncorrectState", "the world moved"))
        world.calls.plan("perform", *[busy] * 8)

        tell(world, target)
        world.process(TRIED_FOR.total_seconds() + 6 * MINUTE)

        assert [change.progress for change in changes(world)] == ["failed"]
        assert "the world moved" in text_of(world, target)
        assert world.queue.waiting == []
        assert world.dead_letters.buried == []
        (when,) = world.scheduler.looks.values()
        assert when > START + AGAIN_AFTER
        world.calls.stop_trouble()
        world.process(2 * HOUR)
        assert len(tables_of(world, target)) == 1

    @pytest.mark.parametrize("kind", ["vpc", "instance"])
    def test_one_that_was_made_although_the_last_of_many_tries_failed_is_not_told_to_have_failed(
        self, kind: str
    ) -> None:
        """An error may come after the effect: before it is given up, it is looked at once more."""
        world = World(policy_of(**S3_ONLY))
        place = world.aws.region()
        target = vpc(place.create_vpc()) if kind == "vpc" else instance(place.launch_instance())
        busy = TransientError("ReadTimeout")
        world.calls.plan("perform", Trouble(busy), Trouble(busy, after=True))
        world.loop.run([Work(target, "m-1")])
        world.clock.advance(TRIED_FOR.total_seconds())

        answer = world.loop.run([Work(target, "m-1")])[target]

        (change,) = changes(world)
        assert (answer.verdict, change.progress) == ("done", "applied")
        assert state_of(world, target).made.keys() == {change.made}
        assert world.hub.state(str(target.resource_id), change.action.control_id) == "PASSED"

    def test_one_that_was_made_although_its_try_failed_is_not_given_up_for_the_next_control(self) -> None:
        """S3's endpoint was made and the answer lost: DynamoDB's waits until the next look has seen that."""
        world = World(policy_of())
        target = vpc(world.aws.region().create_vpc())
        world.calls.plan("perform", Trouble(TransientError("ReadTimeout"), after=True))
        world.loop.run([Work(target, "m-1")])
        assert [change.progress for change in changes(world)] == ["begun"]
        world.loop.run([Work(target, "m-1")])
        assert [change.progress for change in changes(world)] == ["applied", "applied"]
        assert len(state_of(world, target).made) == 2


class TestKillSwitch:
    """Changes stop within a minute, findings go on."""

    @pytest.mark.parametrize("position", [Changes.UNDO_ONLY, Changes.STOPPED])
    def test_nothing_is_made(self, position: Changes) -> None:
        """The finding is filed and says so; nothing is written to the ledger; somebody may see it in the journal."""
        world, target = bare()
        world.switch.set_to = position

        tell(world, target)

        assert (world.aws.performed, world.ledger.entries) == ([], {})
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "FAILED"
        assert (
            f"Changes are stopped (kill switch: {position}); Portcullis would create a com.amazonaws.eu-west-1.s3 "
            "gateway endpoint on rtb-0001. It looks again with the next sweep."
        ) in text_of(world, target)
        assert problems(world) == ["stopped"]
        world.sweep()
        assert world.queue.waiting == [], "no closer look at what cannot be changed"
        assert world.dead_letters.buried == []

    def test_it_counts_between_two_changes_of_one_look(self) -> None:
        """It is read before each."""
        world = World(policy_of())
        target = vpc(world.aws.region().create_vpc())
        calls = [
            "send",
            "load",
            "states",
            "observe",
            "surroundings",
            "position",
            "save",
            "import",
            "save",
            "suppressed",
        ]

        def stop() -> None:
            world.switch.set_to = Changes.STOPPED

        world.calls.meanwhile(len([*calls, "position", "begin", "perform"]), stop)
        tell(world, target)
        assert actions(world) == ["CreateGatewayEndpoint"]
        assert [world.hub.state(str(target.resource_id), control) for control in ("VPCE.1", "VPCE.2")] == [
            "PASSED",
            "FAILED",
        ]

    def test_an_approval_is_refused_and_told(self) -> None:
        """Nobody is left waiting."""
        world, target = bare(policy_of(VPCE_1=Mode.APPROVE, **S3_ONLY))
        tell(world, target)
        world.switch.set_to = Changes.STOPPED
        approve(world, target)
        assert note_of(world, target).startswith(
            f"Remediate, asked for by {PAT}: Changes are stopped (kill switch: stopped); Portcullis would create"
        )
        assert world.aws.performed == []

    def test_when_it_is_released_the_next_sweep_has_all_of_it_done(self) -> None:
        """What was due waits for no event."""
        world, target = bare(careful_policy(**S3_ONLY))
        world.switch.set_to = Changes.STOPPED
        tell(world, target)
        world.process(HOUR)
        world.switch.set_to = Changes.ENABLED
        world.sweep()
        world.drain()
        assert actions(world) == ["CreateGatewayEndpoint"]
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "PASSED"


def limited(account: int, organisation: int) -> Policy:
    """Return a policy that admits so many changes an hour, after a window of two minutes."""
    quick = dict.fromkeys((str(caller) for caller in Caller), "2m")
    hourly = {"changes_per_hour": {"account": account, "organisation": organisation}}
    return careful_policy({"limits": hourly, "settle": quick}, **S3_ONLY)


class TestLimits:
    """The circuit breaker: beyond so many changes an hour only findings, and an alarm."""

    def test_beyond_an_accounts_limit_is_a_finding_and_a_later_look(self) -> None:
        """The finding says when; the look then makes the change, without an event."""
        world = World(limited(2, 100))
        place = world.aws.region()
        targets = [vpc(place.create_vpc()) for _ in range(3)]
        elsewhere = vpc(world.aws.region(OTHER_ACCOUNT).create_vpc(), OTHER_ACCOUNT)
        world.enqueue(*targets, elsewhere)

        world.process(10 * MINUTE)

        assert actions(world) == ["CreateGatewayEndpoint"] * 3, "another account has its own"
        (late,) = (one for one in targets if not tables_of(world, one))
        first = changes(world)[0].begun_at
        # Those who wait do not all come at once: each has its turn within half an hour.
        assert timedelta(hours=1) <= world.scheduler.looks[late] - first < timedelta(hours=1, seconds=SPREAD)
        assert f"The limit of 2 changes an hour for account {ACCOUNT} is reached until 2026-03-02 10:" in text_of(
            world, late
        )
        assert "Portcullis looks again then. It would create" in text_of(world, late)
        assert problems(world) == ["limited", "acted"]
        world.process(HOUR)
        assert len(tables_of(world, late)) == 1
        assert world.scheduler.looks == {}

    def test_the_organisation_has_one_too(self) -> None:
        """Over all accounts."""
        world = World(limited(100, 1))
        one = vpc(world.aws.region().create_vpc())
        other = vpc(world.aws.region(OTHER_ACCOUNT).create_vpc(), OTHER_ACCOUNT)
        world.enqueue(one, other)
        world.process(10 * MINUTE)
        assert len(changes(world)) == 1
        assert "The limit of 1 changes an hour for the organisation is reached" in text_of(world, other)

    def test_many_catch_up_hour_by_hour(self) -> None:
        """Nothing is forgotten, nothing hurries, and nobody is paged by dead letters."""
        world = World(limited(2, 100))
        place = world.aws.region()
        targets = [vpc(place.create_vpc()) for _ in range(7)]
        world.sweep()
        world.process(4 * HOUR + 10 * MINUTE)
        assert all(tables_of(world, target) for target in targets)
        times = [change.begun_at for change in changes(world)]
        assert all(later - earlier >= timedelta(hours=1) for earlier, later in zip(times, times[2:], strict=False))
        assert world.dead_letters.buried == []

    def test_an_approval_counts_too_and_is_told_to_come_again(self) -> None:
        """A breaker that a person can pass by mistake is none."""
        world = World(replace(limited(1, 100)))
        place = world.aws.region()
        targets = [vpc(place.create_vpc()) for _ in range(2)]
        for target in targets:
            tell(world, target)
            approve(world, target)
        assert "is reached until 2026-03-02 10:01 UTC; ask again then. It would create" in note_of(world, targets[1])
        assert len(changes(world)) == 1


class TestFlapping:
    """Something that takes our changes back is not fought for ever."""

    def test_three_times_a_day_is_enough(self) -> None:
        """Then the finding says so, the journal tells, and the next day it is tried again."""
        world = World(careful_policy({"limits": {"changes_per_resource_per_day": 3}}, **S3_ONLY))
        place = world.aws.region()
        target = vpc(place.create_vpc())
        for _ in range(5):
            tell(world, target)
            world.process(HOUR)
            for endpoint in place.endpoints_of(str(target.resource_id)):
                place.delete_endpoint(endpoint.endpoint_id)

        assert actions(world) == ["CreateGatewayEndpoint"] * 3
        assert "Portcullis changed vpc-0001 3 times within a day" in text_of(world, target)
        assert set(problems(world)) == {"flapping"}
        assert world.scheduler.looks == {target: changes(world)[0].begun_at + timedelta(days=1)}
        world.process(DAY)
        assert actions(world) == ["CreateGatewayEndpoint"] * 4

    def test_what_people_approve_does_not_count(self) -> None:
        """They know what they do."""
        world = World(careful_policy(VPCE_1=Mode.APPROVE, **S3_ONLY))
        target = vpc(world.aws.region().create_vpc())
        tell(world, target)
        approve(world, target)
        assert state_of(world, target).changed_at == ()
        assert changes(world)[0].by == f"approved by {PAT}"


def test_an_approval_is_in_the_name_of_its_own_message() -> None:
    """Among several messages about one resource; the ledger tells the trigger of the one that asked for it."""
    world = World(policy_of(VPCE_1=Mode.APPROVE, VPCE_2=Mode.REMEDIATE, ROLE_1=Mode.OFF))
    target = vpc(world.aws.region().create_vpc())
    request = Request(Ask.REMEDIATE, "VPCE.1", PAT)
    world.switch.set_to = Changes.STOPPED
    world.loop.run([Work(target, "m-0", Cause("CreateVpc/e-0"))])
    world.switch.set_to = Changes.ENABLED
    world.loop.run(
        [
            Work(target, "m-1", Cause("CreateVpc/e-1")),
            Work(target, "m-2", Cause("ask/1", request=request, at=world.clock.now())),
        ]
    )
    told = {change.action.control_id: (change.trigger, change.by) for change in changes(world)}
    assert told == {"VPCE.1": ("ask/1", f"approved by {PAT}"), "VPCE.2": ("CreateVpc/e-0", "the policy")}
    assert [work.message_id for work, _ in world.aws.performed] == ["m-2", "m-1"]


def test_a_profile_is_remembered_by_its_association() -> None:
    """It has no tables and no policy."""
    world = World(policy_of())
    target = instance(world.aws.region().launch_instance())
    world.enqueue(target)
    world.process(DELAY)
    (change,) = changes(world)
    assert state_of(world, target).made == {"iip-assoc-0001": Made(change.change_id)}
    assert change.before == {"profile": None}


def test_a_change_after_a_window_names_what_opened_it() -> None:
    """Not the schedule that ended the wait: people ask what caused a change."""
    world, target = bare(careful_policy(**S3_ONLY))
    world.enqueue(target, cause=Cause("CreateVpc/e-1", Caller.TERRAFORM))
    world.process(HOUR)
    assert [change.trigger for change in changes(world)] == ["CreateVpc/e-1"]
