"""The demo ends as AWS would show, and its data tells what happened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local import demo
from local.scenes import NEWCOMER, SCENES, Scene

if TYPE_CHECKING:
    from pathlib import Path

    from local.stage import Stage


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    """Play the demo once; its exit status and its data."""
    output: Path = tmp_path_factory.mktemp("demo") / "build" / "demo.json"
    status = demo.run(output)
    return status, json.loads(output.read_text(encoding="utf-8"))


def test_every_scene_ends_as_aws_would_show(told: tuple[int, dict[str, Any]]) -> None:
    """Exit status 0, no scene with a wrong outcome, no crash, nothing in a dead-letter queue."""
    status, data = told
    wrong = [check for scene in data["scenes"] for check in scene["checks"] if check["found"] != check["expected"]]
    assert (status, data["ok"], wrong, data["dead_letters"]) == (0, True, [], [])
    assert len(data["scenes"]) == len(SCENES)


def test_every_scene_is_told_as_data(told: tuple[int, dict[str, Any]]) -> None:
    """What people called, what was looked at and found, what was filed, and how long it took."""
    for scene in told[1]["scenes"]:
        # The first scene is the deployment's own; what only a sweep sees has no event.
        parts = {"The organisation": ("targets", "evaluations"), "An account without Security Hub": ("calls",)}
        for part in (*parts.get(scene["title"], ("calls", "evaluations")), "findings"):
            assert scene[part], f"{scene['title']} has no {part}"
        assert scene["seconds"] > 0


def test_the_account_that_joins_late_is_compliant_at_the_end(told: tuple[int, dict[str, Any]]) -> None:
    """At least five accounts and three Regions, all covered, among them the one that joined during the run."""
    covered = told[1]["coverage"]
    accounts = {one["account_id"] for one in covered}
    assert len(accounts) >= 5
    assert NEWCOMER in accounts
    assert len(covered) == len(accounts) * 3
    assert {one["state"] for one in covered} == {"ok"}


def test_actions_carry_the_ids_of_what_they_made(told: tuple[int, dict[str, Any]]) -> None:
    """Every change that was made can be found in the account."""
    made = [action["made"] for scene in told[1]["scenes"] for action in scene["actions"]]
    assert made
    assert all(name.startswith(("vpce-", "iip-assoc-")) for name in made)


def test_a_wrong_outcome_makes_the_demo_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo cannot succeed by saying so: an expectation that AWS does not meet gives exit status 1."""

    def disappointing(stage: Stage) -> Any:
        vpc_id = stage.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        return lambda: iter([("VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "ARCHIVED")])

    def breaking(stage: Stage) -> Any:
        return stage.props["what no scene left here"]

    scenes = (
        Scene("Wrong", "An expectation that does not hold.", disappointing),
        Scene("Broken", "A scene that cannot be played.", breaking),
    )
    monkeypatch.setattr(demo, "SCENES", scenes)
    output = tmp_path / "demo.json"
    assert demo.run(output) == 1
    wrong, broken = json.loads(output.read_text(encoding="utf-8"))["scenes"]
    assert (wrong["ok"], wrong["errors"], broken["ok"]) == (False, [], False)
    assert "what no scene left here" in broken["errors"][0]
