"""The loop's promises, for any order of events and any trouble: it converges, and it tells the truth.

Histories are generated: what people do, which of the resulting events arrive (in any order, doubled or not
at all), what fails, and when. The oracle below knows AWS's rules, not the controls' code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portcullis.errors import ObservationError, TransientError
from portcullis.findings import parse_finding_id
from portcullis.model import Ask, Caller, Cause, Conflict, Kind, Request, Target
from portcullis.policy import Mode

from tests.fakes import (
    REGION,
    AwsRefusedError,
    CrashError,
    FakeRegion,
    Trouble,
    World,
    careful_policy,
    instance,
    policy_of,
    vpc,
    whole,
)
from tests.unit.oracle import (
    PLACES,
    assert_all_is_mended,
    assert_findings_are_true,
    assert_truth_is_filed,
    settle,
    truth,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.no_cover
"""Other tests reach every branch, and measuring it for thousands of histories takes long."""

# The same histories on every run: a failure is never a surprise of the day.
SETTINGS = settings(deadline=None, derandomize=True, database=None)

Step = tuple[str, int, int]
Doing = Callable[[World, FakeRegion, int], object]


def pick(items: Sequence[Any], number: int) -> Any:
    """Choose one of several by any number; None when there is none."""
    return items[number % len(items)] if items else None


def on_vpc(do: Callable[[FakeRegion, str], object]) -> Doing:
    """Make a step that needs a VPC of the account's own; it does nothing where there is none."""

    def step(_: World, place: FakeRegion, number: int) -> object:
        owned = [vpc_id for vpc_id, vpc in place.vpcs.items() if vpc.owner_id == place.account_id]
        return do(place, pick(owned, number)) if owned else None

    return step


def on_spare_table(do: Callable[[FakeRegion, str], object]) -> Doing:
    """Make a step that needs a route table that is neither main nor an edge table."""

    def step(_: World, place: FakeRegion, number: int) -> object:
        spare = [table_id for table_id, (_, t) in place.tables.items() if not t.is_main and not t.gateway_ids]
        return do(place, pick(spare, number)) if spare else None

    return step


def on_instance(do: Callable[[FakeRegion, str], object]) -> Doing:
    """Make a step that needs an instance that still lives."""

    def step(_: World, place: FakeRegion, number: int) -> object:
        living = [key for key, instance in place.instances.items() if instance.state != "terminated"]
        return do(place, pick(living, number)) if living else None

    return step


def make_edge(place: FakeRegion, table_id: str) -> None:
    """Turn a table into an edge table, if it holds no endpoint's route."""
    if not any(table_id in endpoint.route_table_ids for endpoint in place.endpoints.values()):
        place.make_edge(table_id)


def add_their_endpoint(place: FakeRegion, vpc_id: str) -> None:
    """Create an endpoint of somebody else on the main table, if its route is free."""
    main = place.main_table(vpc_id)
    if not any(main in endpoint.route_table_ids for endpoint in place.endpoints_of(vpc_id, "s3")):
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [main])


def delete_endpoint(_: World, place: FakeRegion, number: int) -> None:
    """Delete some endpoint, ours or theirs."""
    if place.endpoints:
        place.delete_endpoint(pick(sorted(place.endpoints), number))


def launch(world: World, place: FakeRegion, number: int) -> None:
    """Launch an instance: bare, pending, with a role, with an empty profile, or by Auto Scaling."""
    empty = world.aws.add_profile(place.account_id, "empty")
    full = world.aws.add_profile(place.account_id, "full", "their-role")
    choices: list[Callable[[], str]] = [
        lambda: place.launch_instance("running"),
        lambda: place.launch_instance("pending"),
        lambda: place.launch_instance(profile=full),
        lambda: place.launch_instance(profile=empty),
        lambda: place.launch_instance(tags={"aws:autoscaling:groupName": "web"}),
    ]
    pick(choices, number)()


def deliver(world: World, _: FakeRegion, number: int) -> None:
    """Deliver some event that ever happened: late, doubled, out of order; those never chosen are lost."""
    if world.aws.events:
        event = pick(world.aws.events, number)
        world.intake.handle([{"messageId": "e", "body": json.dumps(event)}])


def sweep(world: World, place: FakeRegion, _: int) -> None:
    """Look at everything in the place."""
    world.sweep((place.account_id, place.name))


def sweep_amid_work(world: World, place: FakeRegion, number: int) -> None:
    """Look at everything, while the work queue goes on before some call of the sweep."""
    world.calls.meanwhile(number % 9, lambda: world.process(60))
    sweep(world, place, number)


PEOPLE: dict[str, Doing] = {
    "create a VPC": lambda _, place, __: place.create_vpc(),
    "be given a share of a VPC": lambda _, place, __: place.create_vpc(owner_id="777788889999"),
    "add a table": on_vpc(lambda place, vpc_id: place.add_route_table(vpc_id)),
    "add a table with a subnet": on_vpc(lambda place, vpc_id: place.add_route_table(vpc_id, subnet=True)),
    "add a subnet": on_spare_table(lambda place, table_id: place.associate(table_id)),
    "remove the subnets": on_spare_table(lambda place, table_id: place.disassociate(table_id)),
    "make an edge table": on_spare_table(make_edge),
    "add their endpoint": on_vpc(add_their_endpoint),
    "delete an endpoint": delete_endpoint,
    "delete a VPC": on_vpc(lambda place, vpc_id: place.delete_vpc(vpc_id)),
    "launch": launch,
    "run": on_instance(lambda place, instance_id: place.set_state(instance_id, "running")),
    "stop": on_instance(lambda place, instance_id: place.set_state(instance_id, "stopped")),
    "terminate": on_instance(lambda place, instance_id: place.set_state(instance_id, "terminated")),
    "take the profile away": on_instance(lambda place, instance_id: place.disassociate_profile(instance_id)),
    "let time pass": lambda world, _, number: world.process(number % 1000),
}


def want_an_endpoint(world: World, place: FakeRegion, number: int) -> None:
    """Let a pipeline create an endpoint on a main table; where ours is in its way, its next attempt succeeds."""
    owned = [vpc_id for vpc_id, vpc in place.vpcs.items() if vpc.owner_id == place.account_id]
    if not owned:
        return
    vpc_id = pick(owned, number)
    main, service_name = place.main_table(vpc_id), place.gateway_services["s3"]
    in_the_way = [one for one in place.endpoints_of(vpc_id, "s3") if main in one.route_table_ids]
    if in_the_way and in_the_way[0].is_ours:
        conflict = Conflict("CreateVpcEndpoint", "pipeline", service_name, (main,))
        target = vpc(vpc_id, place.account_id, place.name)
        world.enqueue(target, cause=Cause(f"CreateVpcEndpoint/{number}", Caller.TERRAFORM, conflict=conflict))
        world.process(60)
    if not in_the_way or in_the_way[0].is_ours:
        place.create_endpoint(vpc_id, service_name, [main])


def undo_something(world: World, _: FakeRegion, number: int) -> None:
    """Let a person ask to undo some change that ever was."""
    if change := pick(sorted(world.ledger.entries.values(), key=lambda one: one.change_id), number):
        target = Target(change.account_id, change.region, change.kind, change.resource_id)
        request = Request(Ask.UNDO, change.action.control_id, "somebody", change.change_id)
        world.enqueue(target, cause=Cause(f"approval/{world.clock.now()}", request=request))


def approve_something(world: World, _: FakeRegion, number: int) -> None:
    """Let a person approve some finding about a VPC, whatever it says."""
    findings = sorted(name for _, _, name in world.hub.findings)
    if found := [parsed for name in findings if (parsed := parse_finding_id(name)) and parsed[1][0] is Kind.VPC]:
        where, (kind, resource_id, control_id) = pick(found, number)
        request = Request(Ask.REMEDIATE, control_id, "somebody")
        target = Target(where.account_id, where.region, kind, resource_id)
        world.enqueue(target, cause=Cause(f"approval/{world.clock.now()}", request=request))


EVENTS: dict[str, Doing] = {
    "deliver an event": deliver,
    "deliver another event": deliver,
    "look at everything": lambda world, place, _: world.enqueue(whole(place.account_id, place.name)),
}
SWEEPS: dict[str, Doing] = {"sweep": sweep, "sweep again": sweep}
OVERLAPS: dict[str, Doing] = {"sweep amid work": sweep_amid_work, "sweep amid more work": sweep_amid_work}
WISHES: dict[str, Doing] = {
    "want an endpoint": want_an_endpoint,
    "undo something": undo_something,
    "approve something": approve_something,
    "let an hour pass": lambda world, _, number: world.process(3600 + number),
}
STEPS = PEOPLE | EVENTS | SWEEPS | OVERLAPS | WISHES


def histories(*names: str) -> st.SearchStrategy[list[Step]]:
    """Draw histories of some steps: what, in which place, and a number that chooses between things."""
    step = st.tuples(st.sampled_from(sorted(names)), st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 10_000))
    return st.lists(step, min_size=1, max_size=30)


HISTORIES = histories(*PEOPLE, *EVENTS, *SWEEPS)


def play(world: World, history: list[Step], *, lossless: bool = False, lost: bool = False) -> None:
    """Live through a history; whatever is filed as PASSED meanwhile has to be true at that moment.

    Args:
        world: Where it happens.
        history: The steps: what, in which place, and a number that chooses between things.
        lossless: Whether every event arrives. Otherwise those of steps with an odd number are lost.
        lost: Whether all of them are.
    """
    for name, place_number, number in history:
        happened, filed = len(world.aws.events), len(world.hub.imported)
        with suppress(CrashError, TransientError):  # a delivery or a sweep that failed is one that is lost
            STEPS[name](world, world.aws.region(*PLACES[place_number]), number)
        if lossless or (number % 2 == 0 and not lost):
            deliver_surely(world, world.aws.events[happened:])
        world.process(number % 100)
        last = {finding["Id"]: finding for finding in world.hub.imported[filed:]}
        for finding in last.values():
            if finding["Compliance"]["Status"] == "PASSED":
                assert truth(world)[finding["Id"].rsplit("/", 1)[-1], finding["GeneratorId"][-6:]] == "PASSED"


def deliver_surely(world: World, events: Sequence[object]) -> None:
    """Deliver events, each again and again until Intake has taken it, as its queue does."""
    for event in events:
        message = {"messageId": "e", "body": json.dumps(event)}
        taken = False
        while not taken:
            with suppress(CrashError):
                taken = not world.intake.handle([message])["batchItemFailures"]
            world.clock.advance(0 if taken else 60)


def assert_one_more_sweep_does_nothing(world: World) -> None:
    """Idempotence: a sweep of what is settled neither changes nor files nor enqueues."""
    world.calls.made.clear()
    assert {answer.problem for answer in world.sweep(*PLACES)} == {None}
    world.drain()
    assert set(world.calls.made) == {"region_enabled", "is_enabled", "open_records", "observe", "answered"}


@settings(SETTINGS, max_examples=250)
@given(history=HISTORIES)
def test_any_history_and_one_sweep_converge(history: list[Step]) -> None:
    """Events in any order, doubled or lost, then one sweep: all is mended, all findings are true, and it is over."""
    world = World()
    play(world, history)
    settle(world)

    world.sweep(*PLACES)
    world.drain()

    assert_all_is_mended(world)
    assert_findings_are_true(world)
    assert world.dead_letters.buried == []
    assert world.queue.given_up == []
    assert_one_more_sweep_does_nothing(world)


@settings(SETTINGS, max_examples=150)
@given(history=histories(*PEOPLE, *SWEEPS))
def test_sweeps_alone_suffice_when_all_events_are_lost(history: list[Step]) -> None:
    """Without a single event, now and then a sweep, and one at the end: all is mended, and all findings are true."""
    world = World()
    play(world, history, lost=True)
    settle(world)

    world.sweep(*PLACES)
    world.drain()

    assert_all_is_mended(world)
    assert_findings_are_true(world)
    assert_one_more_sweep_does_nothing(world)


@settings(SETTINGS, max_examples=150)
@given(history=histories(*PEOPLE, *EVENTS, *OVERLAPS), lossless=st.booleans())
def test_sweeps_amid_the_work_of_the_queue_converge(history: list[Step], *, lossless: bool) -> None:
    """Looks and changes go on in the middle of sweeps, at any of their calls: the end is the same."""
    world = World()
    play(world, history, lossless=lossless)
    settle(world)

    world.sweep(*PLACES)
    world.drain()

    assert_all_is_mended(world)
    assert_truth_is_filed(world)
    assert world.dead_letters.buried == []
    assert_one_more_sweep_does_nothing(world)


@settings(SETTINGS, max_examples=250)
@given(history=histories(*PEOPLE, *EVENTS, *SWEEPS, *WISHES), windows=st.booleans())
def test_wishes_conflicts_and_windows_converge_when_days_have_passed(history: list[Step], *, windows: bool) -> None:
    """With windows or without: every pipeline's second attempt succeeds, and when all holds are over, all is mended."""
    world = World(careful_policy() if windows else policy_of())
    play(world, history)
    settle(world)

    for _ in range(3):
        world.sweep(*PLACES)
        world.process(26 * 3600)

    assert_all_is_mended(world)
    assert_findings_are_true(world)
    assert world.dead_letters.buried == []
    assert world.scheduler.looks == {}
    assert_one_more_sweep_does_nothing(world)


MODES = st.fixed_dictionaries(
    {name: st.sampled_from([Mode.DETECT, Mode.REMEDIATE]) for name in ("VPCE_1", "VPCE_2", "ROLE_1")}
)


@settings(SETTINGS, max_examples=200)
@given(history=HISTORIES, modes=MODES)
def test_each_control_follows_its_own_mode(history: list[Step], modes: dict[str, Mode]) -> None:
    """Some controls mend and others only tell: what is changed is what the policy wants, and findings are true."""
    world = World(policy_of(**modes))
    play(world, history)
    settle(world)

    world.sweep(*PLACES)
    world.drain()

    mending = {name.replace("_", ".") for name, mode in modes.items() if mode is Mode.REMEDIATE}
    assert {action.control_id for _, action in world.aws.performed} <= mending
    assert_all_is_mended(world, mending)
    assert_findings_are_true(world)
    assert_one_more_sweep_does_nothing(world)


@settings(SETTINGS, max_examples=150)
@given(history=histories(*PEOPLE, *EVENTS))
def test_events_alone_suffice_when_none_is_lost(history: list[Step]) -> None:
    """With every event delivered once and no sweep at all, the end is the same."""
    world = World()
    play(world, history, lossless=True)
    launched = len(world.aws.events)
    settle(world)
    deliver_surely(world, world.aws.events[launched:])

    world.drain()

    assert_all_is_mended(world)
    assert_findings_are_true(world)


@settings(SETTINGS, max_examples=150)
@given(history=HISTORIES)
def test_mode_detect_never_touches_anything(history: list[Step]) -> None:
    """Whatever happens, mode detect performs nothing, and its findings are true after a sweep."""
    world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.DETECT, ROLE_1=Mode.DETECT))
    play(world, history)
    settle(world)

    world.sweep(*PLACES)
    world.drain()

    assert world.calls.counts()["perform"] == 0
    assert_findings_are_true(world)


BUSY = TransientError("busy")
TROUBLES: dict[str, list[Trouble]] = {
    "observe": [Trouble(BUSY), Trouble(BUSY, after=True)],
    "perform": [
        Trouble(BUSY),
        Trouble(BUSY, after=True),
        Trouble(AwsRefusedError("UnauthorizedOperation", "denied by SCP")),
        Trouble(AwsRefusedError("IncorrectState", "the world moved")),
    ],
    "import": [Trouble(BUSY), Trouble(BUSY, after=True)],
    "load": [Trouble(BUSY)],
    "open_records": [Trouble(BUSY)],
    "save": [Trouble(BUSY), Trouble(BUSY, after=True)],
    "send": [Trouble(BUSY), Trouble(BUSY, after=True)],
    "postpone": [Trouble(BUSY), Trouble(BUSY, after=True)],
    "answered": [Trouble(BUSY), Trouble(BUSY, after=True)],
    "is_enabled": [Trouble(BUSY)],
    "region_enabled": [Trouble(BUSY)],
}
PLANS = st.lists(
    st.sampled_from([(name, trouble) for name, troubles in sorted(TROUBLES.items()) for trouble in troubles])
    | st.sampled_from([(name, None) for name in sorted(TROUBLES)]),
    max_size=8,
)
REFUSALS = st.lists(st.sampled_from([None, "InternalException", "LimitExceededException"]), max_size=4)
CRASHES = st.none() | st.tuples(st.integers(0, 60), st.booleans())


def plan(world: World, plans: list[tuple[str, Trouble | None]], refusals: list[str | None]) -> None:
    """Plan which calls go wrong, and which findings are refused for now."""
    for name, trouble in plans:
        world.calls.plan(name, trouble)
    world.hub.refuse(*refusals)


@settings(SETTINGS, max_examples=250)
@given(history=histories(*PEOPLE, *EVENTS), plans=PLANS, refusals=REFUSALS, crash=CRASHES)
def test_no_trouble_leaves_a_wrong_finding(
    history: list[Step],
    plans: list[tuple[str, Trouble | None]],
    refusals: list[str | None],
    crash: tuple[int, bool] | None,
) -> None:
    """Any calls may fail and the process may die; once the queue has drained, every finding is true."""
    assert_findings_are_true(trouble(history, plans, refusals, crash))


@settings(SETTINGS, max_examples=200)
@given(history=histories(*PEOPLE, *EVENTS, *SWEEPS, *OVERLAPS), plans=PLANS, refusals=REFUSALS, crash=CRASHES)
def test_no_trouble_with_sweeps_outlasts_the_next_sweep(
    history: list[Step],
    plans: list[tuple[str, Trouble | None]],
    refusals: list[str | None],
    crash: tuple[int, bool] | None,
) -> None:
    """Sweeps that fail or die half-way, too: the next one that ends makes everything right."""
    world = trouble(history, plans, refusals, crash)

    world.process(25 * 3600)  # what AWS has refused for good is tried again a day later
    world.sweep(*PLACES)
    world.drain()

    assert_all_is_mended(world)
    assert_truth_is_filed(world)
    assert_one_more_sweep_does_nothing(world)


def trouble(
    history: list[Step],
    plans: list[tuple[str, Trouble | None]],
    refusals: list[str | None],
    crash: tuple[int, bool] | None,
) -> World:
    """Live through a history in which things go wrong and no event is lost, and drain the queue when all is well."""
    world = World()
    plan(world, plans, refusals)
    if crash:
        world.calls.crash_at(crash[0], after=crash[1])
    play(world, history, lossless=True)
    world.stop_trouble()
    launched = len(world.aws.events)
    settle(world)
    deliver_surely(world, world.aws.events[launched:])
    world.drain()
    assert world.dead_letters.buried == []
    return world


@settings(SETTINGS, max_examples=150)
@given(history=HISTORIES, plans=PLANS, denied=st.sampled_from(["observe", "import", "load", "save"]))
def test_what_was_buried_is_right_after_the_next_sweep(
    history: list[Step], plans: list[tuple[str, Trouble | None]], denied: str
) -> None:
    """A refusal that waiting does not mend buries messages; when it is gone, one sweep makes all of it right."""
    world = World()
    plan(world, plans, [])
    world.calls.plan(denied, *[Trouble(ObservationError("AccessDenied"))] * 3)
    world.hub.refuse("InvalidAccess", None, "InvalidInput")
    play(world, history)
    world.stop_trouble()
    settle(world)

    world.sweep(*PLACES)
    world.drain()

    assert_all_is_mended(world)
    assert_findings_are_true(world)


def crash_scenario(crashes: Sequence[tuple[int, bool]]) -> World:
    """Two gaps in one VPC and an instance, with the process dying at the given calls; then all goes well."""
    world = World()
    place = world.aws.region()
    vpc_id = place.create_vpc()
    place.add_route_table(vpc_id, subnet=True)
    theirs = place.create_endpoint(vpc_id, place.gateway_services["dynamodb"], [place.main_table(vpc_id)])
    place.launch_instance()
    world.enqueue(vpc(vpc_id), instance("i-0001"))
    for number, after in crashes:
        world.calls.crash_at(number, after=after)
        world.process(1000)
    world.calls.stop_trouble()
    world.drain()
    assert theirs in place.endpoints
    return world


def test_a_crash_between_any_two_calls_makes_one_endpoint_per_gap() -> None:
    """Two crashes, each before or after any call: one endpoint of ours per gap, and findings that are true."""
    calls = len(crash_scenario([]).calls.made)
    points = [(number, after) for number in range(calls) for after in (False, True)]

    for first in points:
        for second in points:
            world = crash_scenario([first, second])
            place = world.aws.region()
            ours = sorted(endpoint.service_name for endpoint in place.endpoints.values() if endpoint.is_ours)
            assert ours == [f"com.amazonaws.{REGION}.dynamodb", f"com.amazonaws.{REGION}.s3"]
            assert_all_is_mended(world)
            assert_findings_are_true(world)
            assert world.queue.given_up == []
