"""How the demo reads: plain text for a terminal of 80 columns, and for a pipe."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

_WIDTH = 80
_INDENT = 13
_SHOWN = 4
_FEW = 2


def opening() -> None:
    """Say what is about to happen."""
    _print(_bold("Portcullis: an organisation on this machine"))
    _wrap(
        "Six accounts, three Regions. The stacks are those of template.yaml and infra/, the functions run as they "
        "are deployed, and AWS is emulated on a local port."
    )


def ready(seconds: float) -> None:
    """Say that the organisation runs."""
    _print(f"Deployed in {seconds:.1f} s.")


def scene(record: dict[str, Any]) -> None:
    """Tell one scene."""
    mark = _colour("32", "ok") if record["ok"] else _colour("31", "NOT AS AWS WOULD SHOW")
    _print("")
    _print(_bold(f"{record['number']}. {record['title']}") + f"  [{mark}, {record['seconds']:.1f} s]")
    _wrap(record["tells"])
    for place, actions in _by_place(record["calls"]).items():
        _row("people", f"{place}: {', '.join(actions)}")
    whole = {(t["account_id"], t["region"]) for t in record["targets"] if not t["resource_id"]}
    if whole:
        names = (
            " and ".join(" ".join(place) for place in sorted(whole))
            if len(whole) <= _FEW
            else f"{len(whole)} account-Regions"
        )
        _row("events say", f"look at everything in {names}")
    for target, count in Counter(_target(t) for t in record["targets"] if t["resource_id"]).items():
        _row("events say", f"look at {target}" + (f" (asked {count} times)" if count > 1 else ""))
    if record["sweeps"]["looks"]:
        _row("sweep", f"looks at {record['sweeps']['looks']} account-Regions")
    _rows("found", _once(record["sweeps"]["uncovered"]))
    _rows("found", _once(e["message"] for e in record["evaluations"] if e["status"] != "PASSED"))
    _rows("", _once(f"it waits: {e['wait']}" for e in record["evaluations"] if e["wait"]))
    _rows("did", [action["message"] for action in record["actions"]] or ["nothing"])
    states = _states(record["findings"]).items()
    _rows("filed", [f"{control} {resource_id}: {' -> '.join(seen)}" for (control, resource_id), seen in states])
    _faults(record)


def _faults(record: dict[str, Any]) -> None:
    for check in record["checks"]:
        if check["found"] != check["expected"]:
            _row(_colour("31", "wrong"), f"{check['what']}: {check['found']!r}, expected {check['expected']!r}")
    for error in record["errors"]:
        _row(_colour("31", "error"), error)


def coverage(matrix: str) -> None:
    """Print what `portcullis coverage` prints."""
    _print("")
    _print(_bold("portcullis coverage"))
    _print(matrix)


def ending(
    findings: list[dict[str, Any]], buried: list[dict[str, Any]], *, ok: bool, seconds: float, output: Path
) -> None:
    """Print the findings as a table, and the result."""
    _print("")
    _print(_bold("Findings in Security Hub (those on default VPCs left out: they are all alike)"))
    _print(f"{'account':<13}{'Region':<15}{'control':<11}{'resource':<23}state")
    for finding in sorted(findings, key=lambda f: (f["account_id"], f["resource_id"], f["control"])):
        state = "ARCHIVED" if finding["record_state"] == "ARCHIVED" else finding["compliance"]
        shown = _colour({"PASSED": "32", "FAILED": "31"}.get(state, "2"), state)
        place = f"{finding['account_id']:<13}{finding['region']:<15}"
        _print(f"{place}{finding['control']:<11}{finding['resource_id']:<23}{shown}")
    for finding in findings:
        if finding["compliance"] == "FAILED" and finding["record_state"] == "ACTIVE":
            _print("")
            _print(_bold(f"{finding['control']} on {finding['resource_id']}, as the analyst reads it"))
            _wrap(finding["description"])
            _wrap(f"Remediation: {finding['remediation']}")
    for letter in buried:
        _print(_colour("31", f"dead letter in {letter['queue']}: {letter['attributes']} {letter['body']}"))
    _print("")
    verdict = "Every outcome is what AWS would show." if ok else "Some outcomes are NOT what AWS would show."
    _wrap(f"{verdict} {seconds:.0f} s in all. The same as data: {_relative(output)}")
    _wrap("To play with it yourself: make local")


def _by_place(calls: list[dict[str, Any]]) -> dict[str, list[str]]:
    places: dict[str, Counter[str]] = {}
    for call in calls:
        failed = f" ({call['error_code']})" if call["error_code"] else ""
        places.setdefault(f"{call['account_id']} {call['region']}", Counter())[f"{call['action']}{failed}"] += 1
    return {
        place: [action if count == 1 else f"{count} x {action}" for action, count in actions.items()]
        for place, actions in places.items()
    }


def _target(target: dict[str, Any]) -> str:
    return f"{target['kind']} {target['resource_id']}"


def _states(findings: list[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    states: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        state = "ARCHIVED" if finding["record_state"] == "ARCHIVED" else finding["compliance"]
        known = states.setdefault((finding["control"], finding["resource_id"]), [])
        if known[-1:] != [state]:
            known.append(state)
    return states


def _once(texts: Any) -> list[str]:
    return list(dict.fromkeys(texts))


def _rows(label: str, texts: list[str]) -> None:
    """Print what is alike; the rest of a long list is in the data."""
    for text in texts[:_SHOWN]:
        _row(label, text)
    if len(texts) > _SHOWN:
        _row("", f"... and {len(texts) - _SHOWN} more")


def _row(label: str, text: str) -> None:
    plain = len(label) if not label.startswith("\x1b") else len(label) - len(_colour("31", ""))
    lines = textwrap.wrap(text, _WIDTH - _INDENT, break_on_hyphens=False) or [""]
    _print(f"  {label}{' ' * (_INDENT - 2 - plain)}{lines[0]}")
    for line in lines[1:]:
        _print(" " * _INDENT + line)


def _wrap(text: str) -> None:
    for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False):
        _print(line)


def _colour(code: str, text: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def _bold(text: str) -> str:
    return _colour("1", text)


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _print(text: str) -> None:
    print(text, flush=True)
