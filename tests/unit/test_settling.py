"""Detect at once, change when quiet: the windows in which a resource has to be left in peace before it is changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from portcullis.ledger import ResourceState, Window
from portcullis.model import Caller, Cause, Target, Vpc
from portcullis.policy import Mode, Settings
from portcullis.settling import STALE, digest, window_of

from tests.fakes import DELAY, START, CrashError, Trouble, World, careful_policy, instance, vpc
from tests.unit.stories import HOUR, MINUTE, WORKLOAD, actions, approve, state_of, tell, text_of

MINUTES = {
    Caller.TERRAFORM: 30,
    Caller.CLOUDFORMATION: 30,
    Caller.CDK: 30,
    Caller.PULUMI: 30,
    Caller.CONSOLE: 10,
    Caller.OTHER: 5,
}
"""What the policy says when it says nothing; at most two hours."""

S3_ONLY = {"VPCE_2": Mode.OFF}


def minutes(number: float) -> timedelta:
    """Return so many minutes."""
    return timedelta(minutes=number)


def bare(policy: dict[str, Any] | None = None, **modes: Mode) -> tuple[World, Target]:
    """Return a world with a VPC that lacks an S3 endpoint, of which no event has told yet."""
    world = World(careful_policy(policy, **S3_ONLY, **modes))
    return world, vpc(world.aws.region().create_vpc())


def due(world: World, target: Target) -> float:
    """Return when the look at a target is scheduled, in minutes after the first event was looked at."""
    return (world.scheduler.looks[target] - START - timedelta(seconds=DELAY)) / minutes(1)


SETTINGS = Settings(
    mode=Mode.REMEDIATE,
    parameters={},
    settle={caller: minutes(number) for caller, number in MINUTES.items()},
    longest=minutes(120),
    leave_alone=timedelta(days=1),
    running_workloads=Mode.APPROVE,
    change_windows=(),
)
OPEN = Window(START, START + minutes(30), Caller.TERRAFORM, "as it was")


class TestWindowOf:
    """When a window opens, restarts, and stays as it is. Pure."""

    @pytest.mark.parametrize("caller", Caller)
    def test_it_opens_for_as_long_as_the_caller_needs(self, caller: Caller) -> None:
        """Pipelines make the next thing minutes later, programs at once."""
        window = window_of(None, [Cause("t", caller)], [SETTINGS], "x", START)
        assert window == Window(START, START + minutes(MINUTES[caller]), caller, "x", "t")

    def test_without_a_caller_it_is_as_for_any_other(self) -> None:
        """A sweep found it, or a schedule: nobody knows who made it."""
        assert window_of(None, [Cause("sweep/s-1")], [SETTINGS], "x", START).due_at == START + minutes(5)

    def test_the_slowest_of_several_callers_counts(self) -> None:
        """Two messages in one batch."""
        causes = [Cause("t", caller) for caller in (Caller.OTHER, Caller.CDK, Caller.CONSOLE)]
        assert window_of(None, causes, [SETTINGS], "x", START).due_at == START + minutes(30)

    def test_the_longest_of_several_controls_counts(self) -> None:
        """S3 and DynamoDB may have windows of their own; a VPC has one."""
        slow = replace(SETTINGS, settle=dict.fromkeys(Caller, minutes(180)), longest=minutes(240))
        assert window_of(None, [Cause("t")], [SETTINGS, slow], "x", START).due_at == START + minutes(180)

    @pytest.mark.parametrize(
        ("cause", "seen", "restarts"),
        [
            (Cause("t", Caller.TERRAFORM), "as it was", True),
            (Cause("t", Caller.TERRAFORM), "changed", True),
            (Cause("t", Caller.TERRAFORM, indirect=True), "changed", True),
            (Cause("t", Caller.TERRAFORM, indirect=True), "as it was", False),
            (Cause("t"), "changed", False),
            (Cause("t"), "as it was", False),
        ],
    )
    def test_a_call_restarts_it_when_it_concerns_the_resource(self, cause: Cause, seen: str, *, restarts: bool) -> None:
        """One that names it does; one that does not, when something is not as it was."""
        window = window_of(OPEN, [cause], [SETTINGS], seen, START + minutes(20))
        assert window.due_at == START + minutes(50 if restarts else 30)
        assert (window.opened_at, window.seen) == (START, seen)

    def test_a_quick_caller_does_not_shorten_the_window_of_a_slow_one(self) -> None:
        """Somebody opens the console while Terraform runs."""
        window = window_of(OPEN, [Cause("t", Caller.CONSOLE)], [SETTINGS], "x", START + minutes(10))
        assert window == replace(OPEN, seen="x")

    def test_it_is_not_put_off_for_ever(self) -> None:
        """Two hours after it opened, it ends."""
        late = replace(OPEN, due_at=START + minutes(110))
        window = window_of(late, [Cause("t", Caller.TERRAFORM)], [SETTINGS], "x", START + minutes(100))
        assert window.due_at == START + minutes(120)

    def test_one_that_is_over_is_restarted_until_the_longest_time(self) -> None:
        """The change was not made in time, and people work there again; but they cannot put it off for ever."""
        event = [Cause("t", Caller.OTHER)]
        restarted = window_of(OPEN, event, [SETTINGS], "x", OPEN.due_at)
        assert (restarted.opened_at, restarted.due_at) == (START, OPEN.due_at + SETTINGS.settle[Caller.OTHER])
        for when in (START + SETTINGS.longest, START + SETTINGS.longest + STALE):
            assert window_of(OPEN, event, [SETTINGS], "x", when).due_at == OPEN.due_at

    def test_long_after_it_was_over_another_call_opens_a_new_one(self) -> None:
        """The change could not be made then, and people work there again."""
        now = START + SETTINGS.longest + STALE + minutes(1)
        assert window_of(OPEN, [Cause("t", Caller.OTHER)], [SETTINGS], "x", now).opened_at == now
        assert window_of(OPEN, [Cause("t")], [SETTINGS], "x", now).opened_at == START

    def test_the_digest_tells_what_is_not_as_it_was(self) -> None:
        """Of a resource that is gone, too."""
        one = Vpc("vpc-0", "1")
        assert digest(one) == digest(Vpc("vpc-0", "1"))
        assert len({digest(one), digest(replace(one, tags={"a": "b"})), digest(None)}) == 3


class TestWindows:
    """The same, end to end: events, the finding, the schedule, the change."""

    @pytest.mark.parametrize("caller", Caller)
    def test_the_finding_comes_at_once_and_the_change_when_it_is_quiet(self, caller: Caller) -> None:
        """FAILED with the time of the change; nothing before that time; then PASSED, and nothing is left over."""
        world, target = bare()

        tell(world, target, caller)

        assert world.hub.state(str(target.resource_id), "VPCE.1") == "FAILED"
        assert due(world, target) == MINUTES[caller]
        when = f"2026-03-02 09:{MINUTES[caller] + 1:02} UTC"
        will = f"create a com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001 at {when}"
        assert will in text_of(world, target)
        world.process(MINUTES[caller] * MINUTE)
        assert actions(world) == []
        world.process(DELAY)
        assert actions(world) == ["CreateGatewayEndpoint"]
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "PASSED"
        assert world.scheduler.looks == {}
        assert (state_of(world, target).window, state_of(world, target).again_at) == (None, None)

    def test_further_calls_put_it_off(self) -> None:
        """As Terraform goes on, the one schedule moves, and the finding says the new time."""
        world, target = bare()
        tell(world, target, Caller.TERRAFORM)
        world.process(20 * MINUTE - DELAY)

        tell(world, target, Caller.TERRAFORM)

        assert due(world, target) == 50
        assert "09:51 UTC" in text_of(world, target)
        world.process(50 * MINUTE)
        assert actions(world) == ["CreateGatewayEndpoint"]
        assert changes_begin(world) >= START + minutes(50)

    def test_but_not_for_ever(self) -> None:
        """A call every ten minutes, all day long: after two hours the change is made all the same."""
        world, target = bare()
        for _ in range(14):
            tell(world, target, Caller.TERRAFORM)
            world.process(10 * MINUTE - DELAY)

        assert changes_begin(world) == START + minutes(120) + timedelta(seconds=DELAY)

    def test_calls_that_do_not_concern_it_do_not_put_it_off(self) -> None:
        """A call that names no VPC leads to a look at all; only at the one that is not as it was it counts."""
        world, target = bare()
        other = vpc(world.aws.region().create_vpc())
        for one in (target, other):
            world.enqueue(one, cause=Cause("t", Caller.OTHER))
        world.process(3 * MINUTE)
        world.aws.region().add_route_table(str(other.resource_id), subnet=True)

        for one in (target, other):
            world.enqueue(one, cause=Cause("t", Caller.OTHER, indirect=True))
        world.process(DELAY)

        assert (due(world, target), due(world, other)) == (5, 8)

    def test_what_a_pipeline_makes_within_the_window_leaves_nothing_to_do(self) -> None:
        """The full look at the end sees their endpoint; no change, no window, no schedule."""
        world, target = bare()
        place = world.aws.region()
        tell(world, target, Caller.TERRAFORM)
        vpc_id = str(target.resource_id)
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])

        world.process(HOUR)

        assert actions(world) == []
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"
        assert state_of(world, target) == ResourceState(target.kind, vpc_id)

    @pytest.mark.parametrize("event", [True, False])
    def test_a_vpc_that_goes_within_the_window_is_forgotten(self, *, event: bool) -> None:
        """Schedule, state and finding: whether an event tells of it, or only the look at the end."""
        world, target = bare()
        tell(world, target)
        world.aws.region().delete_vpc(str(target.resource_id))
        if event:
            tell(world, target)
            assert world.scheduler.looks == {}

        world.process(HOUR)

        assert (world.ledger.kept, world.scheduler.looks) == ({}, {})
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "ARCHIVED"

    def test_it_outlives_a_deployment(self) -> None:
        """A new process, with nothing but what is stored."""
        world, target = bare()
        tell(world, target, Caller.CONSOLE)
        world.process(4 * MINUTE)

        world.set_policy(careful_policy(**S3_ONLY))

        world.process(5 * MINUTE)
        assert actions(world) == []
        world.process(MINUTE + DELAY)
        assert actions(world) == ["CreateGatewayEndpoint"]

    @pytest.mark.parametrize("call", ["save", "import", "look_at", "keep"])
    @pytest.mark.parametrize("after", [False, True])
    def test_it_outlives_a_crash_of_the_look_that_opens_it(self, call: str, *, after: bool) -> None:
        """The message comes again, and the change is made, if a little later."""
        world, target = bare()
        world.calls.plan(call, Trouble(CrashError("here"), after=after))

        tell(world, target)
        world.process(HOUR)

        assert actions(world) == ["CreateGatewayEndpoint"]
        assert world.scheduler.looks == {}

    def test_a_policy_that_only_detects_ends_it(self) -> None:
        """A deployment within the window: the next look drops the schedule, and what was remembered."""
        world, target = bare()
        tell(world, target)
        world.set_policy(careful_policy(VPCE_1=Mode.DETECT, **S3_ONLY))

        tell(world, target)

        assert (world.scheduler.looks, world.ledger.kept) == ({}, {})

    def test_a_look_so_slow_that_the_window_ends_meanwhile_is_followed_by_another(self) -> None:
        """The time that it names has passed when it is scheduled: the look comes at once, not with the next sweep."""
        world, target = bare()
        world.calls.meanwhile(
            len(["send", "load", "states", "observe", "surroundings"]), lambda: world.clock.advance(400)
        )

        tell(world, target)
        world.process(HOUR)

        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_a_schedule_that_was_lost_is_made_up_for_by_a_sweep(self) -> None:
        """What is due is changed by way of the queue; what is not yet is left to its time."""
        world, target = bare()
        tell(world, target)
        world.sweep()
        assert world.queue.sent == [target], "it is scheduled"
        world.scheduler.looks.clear()
        world.process(10 * MINUTE)

        world.sweep()
        world.drain()

        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_a_sweep_opens_a_window_too(self) -> None:
        """A lost event: the closer look schedules the change, and the next sweep leaves it to that."""
        world, target = bare()
        world.sweep()
        world.process(DELAY)
        assert due(world, target) == 5
        world.queue.sent.clear()

        world.sweep()

        assert world.queue.sent == []
        world.process(HOUR)
        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_an_approval_ends_it(self) -> None:
        """Somebody does not want to wait: the change is made, and no look is left over."""
        world, target = bare()
        tell(world, target, Caller.TERRAFORM)

        approve(world, target)

        assert actions(world) == ["CreateGatewayEndpoint"]
        assert (world.scheduler.looks, state_of(world, target).window) == ({}, None)

    def test_workloads_that_stop_make_way_for_the_change(self) -> None:
        """The proposal of a VPC that has long been quiet becomes a change with the next sweep."""
        world, target = bare()
        place = world.aws.region()
        place.surroundings[str(target.resource_id)] = WORKLOAD
        tell(world, target)
        world.process(HOUR)
        assert "workloads run there" in text_of(world, target)
        assert world.scheduler.looks == {}
        place.surroundings.clear()

        world.sweep()
        world.drain()

        assert actions(world) == ["CreateGatewayEndpoint"]

    def test_two_controls_of_a_vpc_share_one(self) -> None:
        """One schedule, one look, two endpoints."""
        world = World(careful_policy())
        target = vpc(world.aws.region().create_vpc())
        tell(world, target)
        assert list(world.scheduler.looks) == [target]
        world.process(6 * MINUTE)
        assert actions(world) == ["CreateGatewayEndpoint"] * 2


EXEMPT_BY_TAG = {
    "exemptions": [
        {
            "name": "lab",
            "where": {"tags": {"portcullis": ["leave"]}},
            "owner": "team-a",
            "reason": "It is a lab.",
            "expires": "2026-03-10",
        }
    ]
}


class TestExemptions:
    """An exemption shows on the finding, and the finding reopens when it ends, without an event."""

    @pytest.mark.parametrize("caller", Caller)
    @pytest.mark.parametrize("seconds", [30, 60, 90])
    def test_a_tag_that_arrives_late_is_in_time(self, caller: Caller, seconds: int) -> None:
        """Tags come up to a minute after RunInstances: the exempt instance is never changed."""
        world = World(careful_policy(EXEMPT_BY_TAG))
        place = world.aws.region()
        launched = instance(place.launch_instance("running"))
        world.enqueue(launched, cause=Cause("RunInstances/e-1", caller))
        world.process(seconds)
        resource_id = str(launched.resource_id)
        place.instances[resource_id] = replace(place.instances[resource_id], tags={"portcullis": "leave"})

        world.process(3 * HOUR)
        world.sweep()
        world.process(HOUR)

        assert world.aws.performed == []
        assert text_of(world, launched, "ROLE.1").startswith(
            "Exempt until 2026-03-11 00:00 UTC by team-a (lab): It is a lab. "
        )
        assert world.hub.state(resource_id, "ROLE.1") == "PASSED"

    def test_it_ends_by_itself(self) -> None:
        """No event: a resolved finding is NEW and FAILED, says when the change comes, and then it comes."""
        world = World(careful_policy(EXEMPT_BY_TAG))
        launched = instance(world.aws.region().launch_instance("running", tags={"portcullis": "leave"}))
        tell(world, launched)
        finding = world.hub.find(str(launched.resource_id), "ROLE.1")
        assert finding
        world.hub.analyst_sets(finding["Id"], workflow="RESOLVED", note="fine until then")

        end = world.scheduler.looks[launched]
        world.process((end - world.clock.now()).total_seconds() + DELAY)

        finding = world.hub.find(str(launched.resource_id), "ROLE.1")
        assert finding
        assert (finding["Compliance"]["Status"], finding["Workflow"]["Status"]) == ("FAILED", "NEW")
        assert "2026-03-11 00:06 UTC" in finding["Description"]
        world.process(10 * MINUTE)
        assert actions(world) == ["AssociateInstanceProfile"]

    def test_one_that_begins_within_the_window_ends_it(self) -> None:
        """The policy is changed in between: its schedule takes the place of the other."""
        world = World(careful_policy())
        launched = instance(world.aws.region().launch_instance("running", tags={"portcullis": "leave"}))
        tell(world, launched)
        world.set_policy(careful_policy(EXEMPT_BY_TAG))

        world.process(HOUR)

        assert world.aws.performed == []
        assert state_of(world, launched).window is None
        assert world.scheduler.looks[launched] == state_of(world, launched).again_at

    def test_a_sweep_has_an_end_scheduled_when_an_earlier_look_was_lost(self) -> None:
        """It was to be changed at nine; the message was lost, and the policy exempts it now until later."""
        world = World(careful_policy())
        launched = instance(world.aws.region().launch_instance("running", tags={"portcullis": "leave"}))
        tell(world, launched)
        world.scheduler.looks.clear()
        world.process(HOUR)
        world.set_policy(careful_policy(EXEMPT_BY_TAG))

        world.sweep()
        world.drain()

        assert list(world.scheduler.looks) == [launched]

    def test_a_sweep_has_what_is_exempt_looked_at_once_so_that_its_end_is_scheduled(self) -> None:
        """Without any event; the next sweep leaves it alone, unless its schedule was lost."""
        world = World(careful_policy(EXEMPT_BY_TAG))
        launched = instance(world.aws.region().launch_instance("running", tags={"portcullis": "leave"}))
        world.sweep()
        world.drain()
        assert list(world.scheduler.looks) == [launched]
        world.queue.sent.clear()
        world.sweep()
        assert world.queue.sent == []

        world.clock.set(world.scheduler.looks.pop(launched) + timedelta(minutes=1))
        world.sweep()
        assert world.queue.sent == [launched]


def changes_begin(world: World) -> Any:
    """Return when the first change began."""
    return min(change.begun_at for change in world.ledger.entries.values())
