"""How the demo reads: plain text for a terminal of 80 columns, and for a pipe."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from portcullis.plan import BY_POLICY

_WIDTH = 80
_INDENT = 13
_SHOWN = 4
_FEW = 2


def opening() -> None:
    """Say what is about to happen."""
    _print(_bold("Portcullis: an organisation on this machine"))
    _wrap(
        "Six accounts, three Regions. The stacks are those of template.yaml and infra/, the functions run as they "
        "are deployed, and AWS is emulated on a local port. Where people would wait, its time is moved forward."
    )


def ready(seconds: float) -> None:
    """Say that the organisation runs."""
    _print(f"Deployed in {seconds:.1f} s.")


def scene(record: dict[str, Any]) -> None:
    """Tell one scene, act by act."""
    mark = _colour("32", "ok") if record["ok"] else _colour("31", "NOT AS AWS WOULD SHOW")
    _print("")
    _print(_bold(f"{record['number']}. {record['title']}") + f"  [{mark}, {record['seconds']:.1f} s]")
    _wrap(record["tells"])
    for act in record["acts"]:
        _act(act)
    _faults(record)


def _act(act: dict[str, Any]) -> None:
    if act["later"]:
        came = any(act[part] for part in ("people", "actions", "withdrawals", "findings", "read"))
        _print(f"  -- {act['later']}{'' if came else ': nothing has changed'} --")
    for (what, place), did in itertools.groupby(act["people"], _whose):
        calls = list(did)
        if what == "people":
            _row("people", f"{place}: {', '.join(_counted(calls))}")
        for one in calls if what == "typed" else ():
            _row("typed", one["command"])
            lines = (one["output"] or "").splitlines()
            if one["whole"]:
                _screen(lines)
            else:
                _rows("", lines[-1:])
    _looked(act["targets"])
    if act["sweeps"]["looks"]:
        _row("sweep", f"looks at {act['sweeps']['looks']} account-Regions")
    _rows("found", _once(act["sweeps"]["uncovered"]))
    _rows("made way", _once(withdrawal["message"] for withdrawal in act["withdrawals"]))
    for label, results in (("did", ("applied",)), ("held back", ("refused",)), ("failed", ("failed", "retry"))):
        _rows(label, _once(action["message"] for action in act["actions"] if action["result"] in results))
    # Who reads a finding sees its state: it need not be told twice.
    known = {(finding["control"], finding["resource_id"]) for finding in act["read"]}
    states = {key: seen for key, seen in _states(act["findings"]).items() if key not in known}
    _rows("filed", [f"{control} {resource_id}: {' -> '.join(seen)}" for (control, resource_id), seen in states.items()])
    for finding in act["read"]:
        _finding(finding)


def _looked(targets: list[dict[str, Any]]) -> None:
    whole = {(t["account_id"], t["region"]) for t in targets if not t["resource_id"]}
    if whole:
        names = (
            " and ".join(" ".join(place) for place in sorted(whole))
            if len(whole) <= _FEW
            else f"{len(whole)} account-Regions"
        )
        _row("events say", f"look at everything in {names}")
    counted = Counter(_target(target) for target in targets if target["resource_id"])
    _rows("events say", [f"look at {one}" + (f" (asked {n} times)" if n > 1 else "") for one, n in counted.items()])


def _finding(finding: dict[str, Any]) -> None:
    colour = {"PASSED": "32", "FAILED": "31"}.get(finding["state"], "2")
    _print(f"  finding    {finding['control']} on {finding['resource_id']}: {_colour(colour, finding['state'])}")
    _row("", finding["title"].removeprefix(f"{finding['control']} "))
    _row("", f'"{finding["description"]}"')
    if finding["note"]:
        _row("its note", f'"{finding["note"]}"')


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


def history(changes: list[dict[str, Any]]) -> None:
    """Print what is not everyday in `portcullis history`, whose table needs a wider terminal."""
    shown = [change for change in changes if change["by"] != BY_POLICY or change["undone_by"]]
    _print("")
    _print(_bold("portcullis history"))
    _wrap(f"{len(changes)} changes. These {len(shown)} were made on somebody's wish, or taken back; the latest first:")
    for change in shown:
        undone = f"; undone by {change['undone_by']}" if change["undone_by"] else ""
        _print(f"  {change['change_id']}  {change['account_id']} {change['region']}")
        _row("", f"{change['what']}: {change['progress']} ({change['by']}){undone}")


def findings(found: list[dict[str, Any]], buried: list[dict[str, Any]]) -> None:
    """Print the findings as a table."""
    _print("")
    _print(_bold("Findings in Security Hub (those on default VPCs left out: they are all alike)"))
    _print(f"{'account':<13}{'Region':<15}{'control':<11}{'resource':<23}state")
    for finding in sorted(found, key=lambda f: (f["account_id"], f["resource_id"], f["control"])):
        state = "ARCHIVED" if finding["record_state"] == "ARCHIVED" else finding["compliance"]
        shown = _colour({"PASSED": "32", "FAILED": "31"}.get(state, "2"), state)
        place = f"{finding['account_id']:<13}{finding['region']:<15}"
        _print(f"{place}{finding['control']:<11}{finding['resource_id']:<23}{shown}")
    for letter in buried:
        _print(_colour("31", f"dead letter in {letter['queue']}: {letter['attributes']} {letter['body']}"))


def ending(*, ok: bool, seconds: float, passed: timedelta, output: Path) -> None:
    """Print the result."""
    _print("")
    verdict = "Every outcome is what AWS would show." if ok else "Some outcomes are NOT what AWS would show."
    days = passed / timedelta(days=1)
    _wrap(f"{verdict} {seconds:.0f} s in all, in which {days:.1f} days passed. The same as data: {_relative(output)}")
    _wrap("To play with it yourself: make local")


def _whose(did: dict[str, Any]) -> tuple[str, str]:
    return ("typed", "") if "command" in did else ("people", f"{did['account_id']} {did['region']}")


def _counted(calls: list[dict[str, Any]]) -> list[str]:
    failed = (f" ({call['error_code']})" if call["error_code"] else "" for call in calls)
    counted = Counter(f"{call['action']}{code}" for call, code in zip(calls, failed, strict=True))
    return [action if count == 1 else f"{count} x {action}" for action, count in counted.items()]


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


def _screen(lines: list[str]) -> None:
    """Print what a terminal showed, as it was; what is too long for this one goes on below, further in."""
    for line in lines:
        margin = " " * (len(line) - len(line.lstrip()))
        wrapped = textwrap.wrap(
            line.strip(),
            _WIDTH,
            initial_indent=f"    {margin}",
            subsequent_indent=f"      {margin}",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for part in wrapped or [""]:
            _print(part)


def _row(label: str, text: str) -> None:
    plain = len(label) if not label.startswith("\x1b") else len(label) - len(_colour("31", ""))
    # An id or ARN stays in one piece: who reads may want to copy it.
    lines = textwrap.wrap(text, _WIDTH - _INDENT, break_on_hyphens=False, break_long_words=False) or [""]
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
