"""The demo: people work in an organisation on this machine, and Portcullis reacts. Nothing in it is scripted output.

Each scene makes the calls that people make, lets time pass, and asks AWS (the local one) what holds: routes,
associations, findings. What Portcullis saw and did is read from its own log.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from portcullis.cli.organisation import as_json, matrix

from local import story
from local.clients import REGIONS
from local.organisation import LocalOrganisation
from local.scenes import SCENES, Scene
from local.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from local.journal import Step

PARAMETERS = {"QueueDelaySeconds": "2"}
"""The hub's parameters in the demo: a real deployment waits 30 seconds for a burst to end, this one two."""

POLICY = Path(__file__).with_name("policy.yaml")
"""The demo's own policy, all in mode remediate, and not the reader's."""

_OUTCOMES = ("read", "acted", "filed", "yielded", "answered", "swept")

_EXEMPT_FOR = timedelta(hours=2)
_EXEMPT_UNTIL = "2039-01-01T00:00:00Z"


def run(output: Path) -> int:
    """Play every scene, print the story, and write the same as data.

    Returns:
        0 when every outcome is what AWS would show, else 1.
    """
    began = time.monotonic()
    story.opening()
    records = []
    output.parent.mkdir(parents=True, exist_ok=True)
    policy, exempt_until = _policy(output.with_name("demo-policy.yaml"))
    # What building the policy layer is told.
    with patch.dict(os.environ, {"POLICY": str(policy)}), LocalOrganisation(parameters=PARAMETERS) as organisation:
        story.ready(time.monotonic() - began)
        start = datetime.now(UTC)
        stage = Stage(organisation, props={"exempt until": exempt_until, "policy": str(policy)})
        stage.appoint_approvers()
        for number, scene in enumerate(SCENES, start=1):
            record = _play(number, scene, stage)
            story.scene(record)
            records.append(record)
        covered = stage.hub.coverage()
        changes = stage.history("--since", start.isoformat())
        findings = _all_findings(stage, sorted({one.account_id for one, _ in covered}))
        buried = [asdict(letter) for letter in organisation.dead_letters()]
        passed = datetime.now(UTC) - start
    ok = all(record["ok"] for record in records) and not buried
    data = {
        "ok": ok,
        "scenes": records,
        "findings": findings,
        "history": changes,
        "coverage": json.loads(as_json(covered)),
        "dead_letters": buried,
    }
    output.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    story.coverage(matrix(covered))
    story.history(changes)
    story.findings(findings, buried)
    story.ending(ok=ok, seconds=time.monotonic() - began, passed=passed, output=output)
    return 0 if ok else 1


def _policy(path: Path) -> tuple[Path, str]:
    """Write the policy with an exemption that ends during the demo; returns also when it ends."""
    text, until = POLICY.read_text(encoding="utf-8"), f"{datetime.now(UTC) + _EXEMPT_FOR:%Y-%m-%dT%H:%M:%SZ}"
    before, after = text.split(_EXEMPT_UNTIL)
    path.write_text(f"{before}{until}{after}", encoding="utf-8")
    return path.resolve(), until


def _play(number: int, scene: Scene, stage: Stage) -> dict[str, Any]:
    journal = stage.organisation.journal
    start, began = len(journal.since(0)), time.monotonic()
    results, broken = [], []
    try:
        results = [{"what": what, "found": found, "expected": expected} for what, found, expected in scene.act(stage)]
        stage.settle()
    except Exception as error:  # noqa: BLE001 - a scene that breaks is a wrong outcome, and told like one
        broken = [f"the scene broke off: {error!r}"]
    steps = journal.since(start)
    errors = [step.text for step in steps if step.kind == "error"] + broken
    return {
        "number": number,
        "title": scene.title,
        "tells": scene.tells,
        "acts": [_act(act) for act in _acts(steps)],
        "evaluations": _fields(steps, "evaluated", "control", "resource_id", "status", "message", "note", "wait"),
        "seconds": round(time.monotonic() - began, 2),
        "checks": results,
        "errors": errors,
        "ok": not errors and all(result["found"] == result["expected"] for result in results),
    }


def _acts(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Split the steps of a scene: an act begins when time has passed, or when people act after something came of it."""
    act: list[Step] = []
    for step in steps:
        name = step.data.get("step")
        acts = step.kind == "call" or name == "typed"
        if act and (name == "waited" or (acts and any(one.data.get("step") in _OUTCOMES for one in act))):
            yield act
            act = []
        act.append(step)
    if act:
        yield act


def _act(steps: list[Step]) -> dict[str, Any]:
    """Tell what people did, what Portcullis looked at, changed, filed and answered, and what a reader then saw."""
    about = ("account_id", "region", "control", "resource_id")
    return {
        "later": next((step.text for step in steps if step.data.get("step") == "waited"), ""),
        "people": [_did(step) for step in steps if step.kind == "call" or step.data.get("step") == "typed"],
        "targets": _fields(steps, "queued", "account_id", "region", "kind", "resource_id"),
        "sweeps": _sweeps(steps),
        "actions": _fields(steps, "acted", *about, "action", "result", "made", "message"),
        "withdrawals": _fields(steps, "yielded", "resource_id", "result", "message"),
        "answers": _fields(steps, "answered", "resource_id", "message"),
        "findings": _fields(steps, "filed", "finding_id", *about, "compliance", "record_state"),
        "read": [
            _of(step, "control", "resource_id", "title", "state", "description", "note")
            for step in steps
            if step.data.get("step") == "read"
        ],
    }


def _did(step: Step) -> dict[str, Any]:
    """Tell what a person did: typed a command, or made a call."""
    if step.data.get("step") == "typed":
        return {"command": step.text, "output": step.data["output"], "whole": step.data.get("whole", False)}
    return {"account_id": step.account_id, "region": step.region, **_of(step, "service", "action", "error_code")}


def _of(step: Step, *fields: str) -> dict[str, Any]:
    return {field: step.data.get(field) for field in fields}


def _fields(steps: Iterable[Step], name: str, *fields: str) -> list[dict[str, Any]]:
    """Return some fields of every log record of one step of the loop."""
    return [_of(step, *fields) for step in steps if step.kind == "log" and step.data.get("step") == name]


def _sweeps(steps: Iterable[Step]) -> dict[str, Any]:
    """Return how many looks the sweeps took, and what they could not cover."""
    records = [step.data for step in steps if step.kind == "log"]
    looks = [r for r in records if r.get("step") == "swept" and r["function"] == "SweepFunction"]
    wanting = [r for r in records if r.get("step") == "uncovered" and r["function"] == "SurveyFunction"]
    return {"looks": len(looks), "uncovered": [str(r["message"]) for r in wanting]}


def _all_findings(stage: Stage, account_ids: list[str]) -> list[dict[str, Any]]:
    """Return the findings of all accounts and Regions, without those on default VPCs, which are all alike."""
    found = []
    for account_id, region in itertools.product(account_ids, REGIONS):
        stage.move(account_id, region)
        default = stage.default_vpc()
        found += [
            {
                "id": finding["Id"],
                "account_id": account_id,
                "region": region,
                "control": finding["GeneratorId"].split("/")[-1],
                "resource_id": finding["Id"].split(":")[-1].removeprefix("vpc/").removeprefix("instance/"),
                "compliance": finding["Compliance"]["Status"],
                "record_state": finding["RecordState"],
                "workflow": finding["Workflow"]["Status"],
                "title": finding["Title"],
                "description": finding["Description"],
                "remediation": finding["Remediation"]["Recommendation"]["Text"],
                "note": finding.get("Note", {}).get("Text", ""),
            }
            for finding in stage.findings()
            if not finding["Id"].endswith(default)
        ]
    return found
