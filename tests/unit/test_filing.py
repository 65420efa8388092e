"""A finding that two looks file at once: one of them wins, the other looks again, and changes nothing meanwhile."""

from __future__ import annotations

import pytest
from portcullis.closer import Verdict
from portcullis.loop import Loop
from portcullis.model import Work
from portcullis.policy import Mode

from tests.fakes import ACCOUNT, REGION, World, policy_of, vpc

LOOK = ["load", "states", "observe", "surroundings", "position"]
FILE = ["save", "import", "save"]
CALLS = [*LOOK, *FILE, "suppressed", "position", "begin", "perform", "end", *FILE, "keep"]
DETECT = policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF)


def raced(before: str, number: int = 1) -> tuple[World, str, Verdict, str]:
    """Let a sweep that only detects file its finding right before the n-th such call of a look that mends."""
    world = World(policy_of(VPCE_2=Mode.OFF))
    vpc_id = world.aws.region().create_vpc()
    other = Loop(world.ports, DETECT)
    index = [place for place, name in enumerate(CALLS) if name == before][number - 1]
    world.calls.meanwhile(index, lambda: other.sweep(ACCOUNT, REGION, "other"))
    answer = world.loop.run([Work(vpc(vpc_id), "m-1")])[vpc(vpc_id)]
    return world, vpc_id, answer.verdict, answer.reason


def test_the_calls_of_a_look_are_these() -> None:
    """What the table below counts on."""
    world = World(policy_of(VPCE_2=Mode.OFF))
    world.loop.run([Work(vpc(world.aws.region().create_vpc()), "m-1")])
    assert world.calls.made == CALLS


@pytest.mark.parametrize(("before", "number"), [("observe", 1), ("save", 1), ("import", 1), ("save", 2)])
def test_one_that_another_look_files_is_tried_again_before_anything_is_changed(before: str, number: int) -> None:
    """Whether the other came before the memory, before Security Hub, or before the memory of what that took."""
    world, vpc_id, verdict, reason = raced(before, number)

    assert verdict is Verdict.RETRY
    assert reason == f"another look is filing the same finding (VPCE.1 {vpc_id})"
    assert world.aws.performed == []
    assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"
    finding, record = world.hub.find(vpc_id, "VPCE.1"), next(iter(world.store.records[ACCOUNT, REGION].values()))
    assert finding
    assert record.status == "FAILED"
    assert finding["UpdatedAt"] == record.updated_at, "the one that won is filed and remembered"

    assert world.loop.run([Work(vpc(vpc_id), "m-1")])[vpc(vpc_id)].verdict is Verdict.DONE
    assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"


def test_one_that_was_filed_before_the_look_began_is_its_own() -> None:
    """It is remembered then: the look goes on from there."""
    world, vpc_id, verdict, _ = raced("load")
    assert (verdict, world.hub.state(vpc_id, "VPCE.1")) == (Verdict.DONE, "PASSED")


@pytest.mark.parametrize("before", ["perform", "save", "import"])
def test_a_look_that_sees_the_change_of_another_agrees_with_it(before: str) -> None:
    """The endpoint is made, its finding not yet closed: whoever closes it first, it is closed, and made once."""
    world, vpc_id, verdict, _ = raced(before, 1 if before == "perform" else 2 if before == "import" else 3)
    if verdict is Verdict.RETRY:
        world.loop.run([Work(vpc(vpc_id), "m-1")])

    assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"
    assert len(world.aws.performed) == 1
