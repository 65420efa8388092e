"""The demo ends as AWS would show, and its data tells what happened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local import demo, story
from local.scenes import NEWCOMER, SCENES, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.scenes import Check
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
    """What people did, what was looked at, what was filed, and the text of a finding or two."""
    for scene in told[1]["scenes"]:
        # What only the deployment or a sweep sets off has no event; what only a person reads is no finding of ours.
        without = {"The organisation": ("people",), "Lost events": ("targets", "read"), "A deleted endpoint": ("read",)}
        without |= {"An endpoint policy": ("targets",)}
        without |= {"An account without Security Hub": ("targets",), "An account joins": ("read",)}
        for part in {"people", "targets", "findings", "read"} - set(without.get(scene["title"], ())):
            assert any(act[part] for act in scene["acts"]), f"{scene['title']} has no {part}"
        assert scene["seconds"] > 0


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("A bare VPC", ("Portcullis will create", "UTC", "more changes to it put that off", "Before:")),
        ("Instances without a role", ("Exempt until", "hands-off")),
        ("An exemption that ends", ("Exempt until", "migration", "Portcullis will create")),
        ("Terraform comes second", ("CreateVpcEndpoint of", "made way", "leaves", "Every route table")),
        ("Terraform destroys", ("DeleteVpc of", "made way")),
        ("An approval", ("Portcullis proposes to", "2 running instances", "this finding is suppressed")),
        ("An undo", ("was undone", "was not undone", "the policy of")),
        ("The kill switch", ("Changes are stopped (kill switch: stopped)",)),
        ("The circuit breaker", ("The limit of 10 changes an hour",)),
    ],
)
def test_the_text_of_a_finding_says_what_happens(
    told: tuple[int, dict[str, Any]], title: str, words: tuple[str, ...]
) -> None:
    """What an analyst reads in each scene: title, state, text, note."""
    (scene,) = [scene for scene in told[1]["scenes"] if scene["title"] == title]
    read = [finding for act in scene["acts"] for finding in act["read"]]
    assert all(finding["title"] and finding["state"] and finding["description"] for finding in read)
    text = " ".join(f"{finding['description']} {finding['note']}" for finding in read)
    assert [word for word in words if word not in text] == []


def test_the_story_fits_a_terminal(told: tuple[int, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """80 columns, but for ids and ARNs, which stay in one piece, and plain characters."""
    for scene in told[1]["scenes"]:
        story.scene(scene)
    story.history(told[1]["history"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80 and " " in line.strip() and "typed" not in line] == []
    assert all(line.isascii() for line in lines)


def test_the_history_tells_who_wished_what(told: tuple[int, dict[str, Any]]) -> None:
    """By the policy, by approval, because of somebody's failed call, and as an undo, which the undone change names."""
    changes = told[1]["history"]
    wishes = " ".join(change["by"] for change in changes)
    assert all(word in wishes for word in ("the policy", "approved by", "CreateVpcEndpoint of", "undone by"))
    undone = {change["undone_by"] for change in changes if change["undone_by"]}
    assert undone <= {change["change_id"] for change in changes}
    assert len(undone) >= 4


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
    acts = [act for scene in told[1]["scenes"] for act in scene["acts"]]
    made = [action["made"] for act in acts for action in act["actions"] if action["result"] == "applied"]
    assert made
    assert all(name.startswith(("vpce-", "eice-", "iip-assoc-")) for name in made)


def test_a_wrong_outcome_makes_the_demo_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo cannot succeed by saying so: an expectation that AWS does not meet gives exit status 1."""

    def disappointing(stage: Stage) -> Iterator[Check]:
        vpc_id = stage.create_vpc("10.9.0.0/16")
        yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "ARCHIVED"

    def breaking(stage: Stage) -> Iterator[Check]:
        yield stage.props["what no scene left here"], 1, 1

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
