"""The demo: people work in an organisation on this machine, and Portcullis reacts. Nothing in it is scripted output.

Each scene makes the calls that people make, waits until everything has settled, and then asks AWS (the local one)
what holds: routes, associations, findings. What Portcullis saw and did is read from its own log.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from portcullis.cli.organisation import as_json, matrix

from local import story
from local.clients import REGIONS
from local.organisation import LocalOrganisation
from local.scenes import SCENES, Scene
from local.stage import PATIENCE, Stage

if TYPE_CHECKING:
    from local.journal import Step

PARAMETERS = {"QueueDelaySeconds": "2"}
"""The hub's parameters in the demo: a real deployment waits 30 seconds for a burst to end, this one two."""

ENVIRONMENT = {"POLICY": str(Path(__file__).with_name("policy.yaml"))}
"""What building the policy layer is told: the demo's own policy, all in mode remediate, and not the reader's."""


def run(output: Path) -> int:
    """Play every scene, print the story, and write the same as data.

    Returns:
        0 when every outcome is what AWS would show, else 1.
    """
    began = time.monotonic()
    story.opening()
    records = []
    with patch.dict(os.environ, ENVIRONMENT), LocalOrganisation(parameters=PARAMETERS) as organisation:
        story.ready(time.monotonic() - began)
        stage = Stage(organisation)
        for number, scene in enumerate(SCENES, start=1):
            record = _play(number, scene, stage)
            story.scene(record)
            records.append(record)
        covered = stage.hub.coverage()
        findings = _all_findings(stage, sorted({one.account_id for one, _ in covered}))
        buried = [asdict(letter) for letter in organisation.dead_letters()]
    ok = all(record["ok"] for record in records) and not buried
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        json.dumps(
            {
                "ok": ok,
                "scenes": records,
                "findings": findings,
                "coverage": json.loads(as_json(covered)),
                "dead_letters": buried,
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    story.coverage(matrix(covered))
    story.ending(findings, buried, ok=ok, seconds=time.monotonic() - began, output=output)
    return 0 if ok else 1


def _play(number: int, scene: Scene, stage: Stage) -> dict[str, Any]:
    journal = stage.organisation.journal
    start, began = len(journal.since(0)), time.time()
    results = []
    try:
        checks = scene.act(stage)
        settled = stage.organisation.settled(PATIENCE)
        results = [{"what": what, "found": found, "expected": expected} for what, found, expected in checks()]
        results.append({"what": "everything settled", "found": settled, "expected": True})
        broken = []
    except Exception as error:  # noqa: BLE001 - a scene that breaks is a wrong outcome, and told like one
        broken = [f"the scene broke off: {error!r}"]
    steps = journal.since(start)
    errors = [step.text for step in steps if step.kind == "error"] + broken
    done = [step.at for step in steps if step.data.get("step") in ("acted", "filed")]
    return {
        "number": number,
        "title": scene.title,
        "tells": scene.tells,
        "calls": [_call(step) for step in steps if step.kind == "call"],
        "targets": _fields(steps, "queued", "account_id", "region", "kind", "resource_id"),
        "sweeps": _sweeps(steps),
        "evaluations": _fields(steps, "evaluated", "control", "resource_id", "status", "message", "wait"),
        "actions": _fields(steps, "acted", "control", "resource_id", "action", "result", "made", "message"),
        "findings": _fields(steps, "filed", "finding_id", "control", "resource_id", "compliance", "record_state"),
        "seconds": round((max(done) if done else time.time()) - began, 2),
        "checks": results,
        "errors": errors,
        "ok": not errors and all(result["found"] == result["expected"] for result in results),
    }


def _call(step: Step) -> dict[str, Any]:
    data = step.data
    return {
        "account_id": step.account_id,
        "region": step.region,
        "service": data["service"],
        "action": data["action"],
        "error_code": data["error_code"],
    }


def _fields(steps: list[Step], name: str, *fields: str) -> list[dict[str, Any]]:
    """Return some fields of every log record of one step of the loop."""
    records = [step.data for step in steps if step.kind == "log" and step.data.get("step") == name]
    return [{field: record.get(field) for field in fields} for record in records]


def _sweeps(steps: list[Step]) -> dict[str, Any]:
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
        defaults = {vpc["VpcId"] for vpc in stage.ec2.describe_vpcs()["Vpcs"] if vpc["IsDefault"]}
        found += [
            {
                "id": finding["Id"],
                "account_id": account_id,
                "region": region,
                "control": finding["GeneratorId"].split("/")[-1],
                "resource_id": finding["Id"].split(":")[-1].removeprefix("vpc/").removeprefix("instance/"),
                "compliance": finding["Compliance"]["Status"],
                "record_state": finding["RecordState"],
                "description": finding["Description"],
                "remediation": finding["Remediation"]["Recommendation"]["Text"],
            }
            for finding in stage.findings()
            if finding["Resources"][0]["Id"].rsplit("/", 1)[-1] not in defaults
        ]
    return found
