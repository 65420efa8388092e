"""Two looks at once: whichever began first and ends last, findings are true when the queue is empty.

Looks at one VPC or instance by way of the queue never overlap: they share a message group. A sweep is not in any
group, so whole looks are let happen in the middle of it, and whole sweeps in the middle of a look: right before each
of its port calls in turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from portcullis.findings import in_doubt
from portcullis.model import Cause, Target, Work
from portcullis.policy import Mode

from tests.fakes import ACCOUNT, DEFAULT_PROFILE, FakeRegion, World, instance, policy_of, vpc
from tests.unit.oracle import assert_all_is_mended, assert_truth_is_filed, settle

if TYPE_CHECKING:
    from portcullis.policy import Policy

MODES = {
    "remediate": policy_of(),
    "detect": policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.DETECT, ROLE_1=Mode.DETECT),
    "both": policy_of(VPCE_1=Mode.DETECT),
}
Scene = Callable[[World, FakeRegion], Target]
Act = Callable[[World, Target], object]


def cover(place: FakeRegion, vpc_id: str) -> None:
    """Create the endpoints that people would."""
    for name in place.gateway_services.values():
        place.create_endpoint(vpc_id, name, [place.main_table(vpc_id)])


def uncover(place: FakeRegion, vpc_id: str) -> None:
    """Delete all endpoints."""
    for endpoint in place.endpoints_of(vpc_id):
        place.delete_endpoint(endpoint.endpoint_id)


def bare_vpc(_: World, place: FakeRegion) -> Target:
    """Nothing was filed about it yet."""
    return vpc(place.create_vpc())


def reported_vpc(world: World, place: FakeRegion) -> Target:
    """Its findings are open."""
    target = bare_vpc(world, place)
    report(world)
    return target


def archived_vpc(world: World, place: FakeRegion) -> Target:
    """Its findings are archived, since the controls were off for a while."""
    target = reported_vpc(world, place)
    world.set_policy(policy_of(VPCE_1=Mode.OFF, VPCE_2=Mode.OFF))
    world.sweep()
    return target


def covered_vpc(world: World, place: FakeRegion) -> Target:
    """It was wrong once, and its findings are passed."""
    target = reported_vpc(world, place)
    cover(place, str(target.resource_id))
    report(world)
    return target


def half_filed_vpc(world: World, place: FakeRegion) -> Target:
    """A look died between filing and remembering."""
    target = reported_vpc(world, place)
    records = world.store.records[ACCOUNT, place.name]
    for key, record in records.items():
        records[key] = in_doubt(record)
    return target


def bare_instance(_: World, place: FakeRegion) -> Target:
    """It runs without a profile."""
    return instance(place.launch_instance())


def pending_instance(_: World, place: FakeRegion) -> Target:
    """It has to wait."""
    return instance(place.launch_instance("pending"))


def reported_instance(world: World, place: FakeRegion) -> Target:
    """Its finding is open."""
    target = bare_instance(world, place)
    report(world)
    return target


def useless_instance(world: World, place: FakeRegion) -> Target:
    """Its profile holds no role, which only people may mend."""
    return instance(place.launch_instance(profile=world.aws.add_profile(ACCOUNT, "empty")))


SCENES: tuple[Scene, ...] = (
    bare_vpc,
    reported_vpc,
    archived_vpc,
    covered_vpc,
    half_filed_vpc,
    bare_instance,
    pending_instance,
    reported_instance,
    useless_instance,
)


def report(world: World) -> None:
    """File what is true, and change nothing."""
    world.set_policy(MODES["detect"])
    world.sweep()
    world.clock.advance(60)


def change_unseen(world: World, target: Target) -> None:
    """Let people turn right into wrong and wrong into right; the events are lost."""
    place = world.aws.region()
    resource_id = str(target.resource_id)
    if resource_id in place.vpcs:
        (uncover if place.endpoints_of(resource_id) else cover)(place, resource_id)
    elif (profile := place.instances[resource_id].profile) and profile.role_names:
        place.disassociate_profile(resource_id)
    else:
        full = world.aws.profiles[ACCOUNT, DEFAULT_PROFILE]
        place.instances[resource_id] = type(place.instances[resource_id])(resource_id, "running", profile=full)
        place.set_state(resource_id, "running")


def change(world: World, target: Target) -> None:
    """Let people do the same; the events arrive."""
    happened = len(world.aws.events)
    change_unseen(world, target)
    deliver(world, happened)


def remove(world: World, target: Target) -> None:
    """Let people delete it; the event arrives."""
    place = world.aws.region()
    resource_id = str(target.resource_id)
    happened = len(world.aws.events)
    if resource_id in place.vpcs:
        place.delete_vpc(resource_id)
    else:
        place.set_state(resource_id, "terminated")
    deliver(world, happened)


def leave_alone(world: World, target: Target) -> None:
    """Let nothing change; but an event about it comes, late."""
    world.enqueue(target)


def deliver(world: World, happened: int) -> None:
    """Deliver the events since then."""
    for event in world.aws.events[happened:]:
        assert world.intake.handle([{"messageId": "e", "body": json.dumps(event)}]) == {"batchItemFailures": []}


def reconcile(world: World, target: Target) -> None:
    """Look at what is on the queue, before or after which other messages wait."""
    world.enqueue(target)
    world.process(60)


def play(
    scene: Scene, policy: Policy, look: Act, between: int | None = None, meanwhile: Act = leave_alone, *, before: bool
) -> tuple[World, int]:
    """Begin a look, let something happen before one of its calls, and come to rest; returns how many calls it made.

    ``before``: people have changed what was filed already when the look begins, and no event tells of it.
    """
    world = World()
    target = scene(world, world.aws.region())
    if before:
        change_unseen(world, target)
    world.set_policy(policy)
    begun = len(world.calls.made)
    if between is not None:
        world.calls.meanwhile(between, lambda: meanwhile(world, target))
    look(world, target)
    made = len(world.calls.made) - begun
    world.calls.stop_trouble()
    happened = len(world.aws.events)
    settle(world)
    deliver(world, happened)
    world.drain()
    assert world.dead_letters.buried == []
    assert world.queue.given_up == []
    return world, made


def sweep(world: World, _: Target) -> None:
    """Look at everything in the place."""
    world.sweep()


def look(world: World, target: Target) -> None:
    """Look at the one resource, as the reconcile function does with a message; a retry is delivered again."""
    (answer,) = world.loop.run([Work(target, "m-0", Cause("test"))]).values()
    if answer.verdict != "done":
        world.enqueue(target)


each_scene = pytest.mark.parametrize("scene", SCENES)
each_mode = pytest.mark.parametrize("policy", MODES.values(), ids=MODES)
each_history = pytest.mark.parametrize("before", [False, True], ids=["as filed", "changed since"])


@each_scene
@each_mode
@each_history
@pytest.mark.parametrize("meanwhile", [reconcile, sweep])
def test_a_sweep_never_overwrites_a_look_in_the_middle_of_it(
    scene: Scene, policy: Policy, meanwhile: Act, *, before: bool
) -> None:
    """Observed before a reconcile's change (or another sweep) and filed after it: what is newer stays."""
    _, calls = play(scene, policy, sweep, before=before)

    for number in range(calls):
        world, _ = play(scene, policy, sweep, number, meanwhile, before=before)

        assert_truth_is_filed(world, "ARCHIVED")
        if policy is MODES["remediate"]:
            assert_all_is_mended(world)


@each_scene
@each_mode
@each_history
@pytest.mark.parametrize("people", [leave_alone, change, remove])
def test_a_look_never_overwrites_a_sweep_in_the_middle_of_it(
    scene: Scene, policy: Policy, people: Act, *, before: bool
) -> None:
    """The other way round, whatever people do in between: their event leads to another look, after this one."""

    def change_and_sweep(world: World, target: Target) -> None:
        people(world, target)
        world.sweep()

    _, calls = play(scene, policy, look, before=before)

    for number in range(calls):
        world, _ = play(scene, policy, look, number, change_and_sweep, before=before)

        assert_truth_is_filed(world, "ARCHIVED")
        if policy is MODES["remediate"]:
            assert_all_is_mended(world)


def change_and_reconcile(world: World, target: Target) -> None:
    """People change something, the event arrives, and the queue is run dry, all within one sweep."""
    change(world, target)
    world.process(60)


def faults(policy: Policy, between: Act) -> list[str]:
    """Return in which scenes, and before which call of a sweep, something in between leaves a wrong finding."""
    found = []
    for scene in SCENES:
        for before in (False, True):
            _, calls = play(scene, policy, sweep, before=before)
            for number in range(calls):
                world, _ = play(scene, policy, sweep, number, between, before=before)
                try:
                    assert_truth_is_filed(world, "ARCHIVED")
                except AssertionError:
                    found.append(f"{scene.__name__}, {'changed' if before else 'as filed'}, call {number}")
    return found


@each_mode
def test_what_is_deleted_in_the_middle_of_a_sweep_is_archived(policy: Policy) -> None:
    """Seen by the sweep, deleted, its event handled, and only then filed: no finding of what is gone stays open."""

    def remove_and_reconcile(world: World, target: Target) -> None:
        remove(world, target)
        world.process(60)

    assert not faults(policy, remove_and_reconcile)


@each_mode
def test_what_people_change_in_the_middle_of_a_sweep_is_told_as_it_is(policy: Policy) -> None:
    """Seen by the sweep, changed, its event handled, and only then filed."""
    assert not faults(policy, change_and_reconcile)
