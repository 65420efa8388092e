"""Findings that Portcullis would have, for people and for machines: a table, JSON, CSV and SARIF."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from portcullis.actions import encode
from portcullis.cli.rehearsal import Would
from portcullis.findings import finding_id
from portcullis.plan import HOW_TO_APPROVE, exempted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from portcullis.cli.rehearsal import Finding
    from portcullis.controls import Control

_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula ("CSV Injection", OWASP)."""

_COLUMNS = (
    "account_id",
    "region",
    "control_id",
    "resource_id",
    "status",
    "would",
    "due_at",
    "reason",
    "note",
    "planned",
    "impact",
    "dollars_a_month",
    "remedy",
    "finding_id",
)
_COUNTED = {"PASSED": "passed", "NOT_APPLICABLE": "not applicable", "UNKNOWN": "could not be told"}
_PLURALS = {Would.CHANGE: "changes", Would.PROPOSE: "proposals", Would.REPORT: "reports", Would.EXEMPT: "exemptions"}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, by which policy, and when.

    ``lines`` are the policy file's. ``places`` are the accounts and Regions that were looked at; ``problems`` says, a
    sentence each, which could not be. ``everything``: also what is as it should be is shown, where it can be.
    ``enabled`` are the controls that the policy switches on anywhere.
    """

    findings: Sequence[Finding]
    controls: Sequence[Control]
    policy: Path
    lines: Mapping[tuple[Any, ...], int]
    at: datetime
    places: Sequence[tuple[str, str]] = ()
    problems: Sequence[str] = ()
    everything: bool = False
    enabled: Sequence[Control] = ()

    @property
    def open(self) -> list[Finding]:
        """Those that something is to be done about, or is exempt."""
        return [one for one in self.findings if one.would is not Would.NOTHING]

    @property
    def shown(self) -> Sequence[Finding]:
        """Those that are shown one by one."""
        return self.findings if self.everything else self.open

    @property
    def following(self) -> list[str]:
        """The controls that look again after the changes, and may find more then."""
        changed = {one.decision.control.id for one in self.findings if one.would in (Would.CHANGE, Would.PROPOSE)}
        return [one.id for one in self.enabled if changed & {*one.follows} - {one.id}]


def entry(finding: Finding) -> dict[str, Any]:
    """Return everything about a finding as JSON values."""
    place, decision, would = finding.place, finding.decision, finding.would
    evaluation, impact = decision.evaluation, decision.impact
    actions = evaluation.actions if evaluation else ()
    return {
        "account_id": place.account_id,
        "region": place.region,
        "control_id": decision.control.id,
        "kind": str(decision.kind),
        "resource_id": decision.resource_id,
        "finding_id": finding_id(place, decision.control.id, decision.kind, decision.resource_id),
        "status": finding.status,
        "would": str(would),
        "due_at": decision.again_at.isoformat() if decision.again_at and would is Would.CHANGE else None,
        "reason": evaluation.reason if evaluation else "",
        "note": exempted(decision.exemption) if decision.exemption else decision.note,
        "planned": [str(action) for action in actions],
        "actions": [encode(action) for action in actions],
        "impact": str(impact) if impact else "",
        "dollars_a_month": impact.dollars_a_month if impact else None,
        "remedy": evaluation.remedy if evaluation else "",
    }


def as_json(report: Report) -> str:
    """Write what is to be shown, and how many there are of which status, as one JSON object."""
    counts = {place: Counter[str]() for place in report.places}
    for one in report.findings:
        counts[one.place.account_id, one.place.region][one.status] += 1
    return json.dumps(
        {
            "at": report.at.isoformat(),
            "policy": str(report.policy),
            "places": [
                {"account_id": account_id, "region": region, "counts": count}
                for (account_id, region), count in counts.items()
            ],
            "problems": list(report.problems),
            "findings": [entry(one) for one in report.shown],
        },
        indent=1,
    )


def table(report: Report) -> str:
    """Write what is open for people, below the account and Region, and count the rest."""
    lines = []
    for account_id, region in report.places:
        here = [one for one in report.findings if (one.place.account_id, one.place.region) == (account_id, region)]
        lines += [f"{account_id} {region}", *_rows(here), f"  {_counted(here)}", ""]
    dollars = sum(one.decision.impact.dollars_a_month for one in report.open if one.decision.impact)
    found = Counter(one.would for one in report.open)
    each = [_number(found[would], would) for would in _PLURALS if found[would]]
    cost = f"; all of it costs about ${dollars:.2f} a month" if dollars else ""
    where = " where it could be read" if report.problems else ""
    nothing = f"Nothing is to be done{where}." if report.places or not where else "Nothing could be read."
    lines.append(f"{', '.join(each)}{cost}." if each else nothing)
    if following := report.following:
        *others, last = following
        names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        lines.append(f"After these changes {names} looked at again, and may find more.")
    return "\n".join(lines)


def rows(findings: Sequence[Finding]) -> list[str]:
    """Write findings for people: what is wrong, what would be done, what that touches, what a person can do.

    Not how to approve it: there is no such finding yet.
    """
    heads = [(one.decision.control.id, one.decision.resource_id, one.status, _mark(one)) for one in findings]
    widths = [max((len(head[column]) for head in heads), default=0) for column in range(4)]
    lines = []
    for one, head in zip(findings, heads, strict=True):
        lines.append("  ".join(("", *(cell.ljust(width) for cell, width in zip(head, widths, strict=True)))).rstrip())
        told = entry(one)
        remedy = f"To do: {told['remedy']}" if told["remedy"] else ""
        note = told["note"].replace(f" {HOW_TO_APPROVE}", "")
        lines += [f"      {text}" for text in (told["reason"], note, told["impact"], remedy) if text]
    return lines


def _mark(finding: Finding) -> str:
    return "" if finding.would is Would.NOTHING else str(finding.would)


def _rows(findings: Sequence[Finding]) -> list[str]:
    return rows([one for one in findings if one.would is not Would.NOTHING])


def _counted(findings: Sequence[Finding]) -> str:
    counts = Counter((one.status, one.decision.control.id) for one in findings if one.would is Would.NOTHING)
    texts = []
    for status, word in _COUNTED.items():
        each = [f"{control_id} {count}" for (given, control_id), count in counts.items() if given == status]
        texts += [f"{word}: {', '.join(each)}"] if each else []
    return "; ".join(texts) or ("nothing else to judge" if findings else "nothing to judge")


def _number(count: int, would: Would) -> str:
    return f"{count} {_PLURALS[would] if count > 1 else _PLURALS[would].removesuffix('s')}"


def as_csv(report: Report) -> str:
    """Write what is to be shown as CSV: a head, then a line each. No cell is a formula to a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in report.shown:
        told = entry(one)
        told["planned"] = "; ".join(told["planned"])
        writer.writerow([_cell(told[name]) for name in _COLUMNS])
    return out.getvalue().rstrip("\n")


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def as_sarif(report: Report) -> str:
    """Write what is open as SARIF 2.1.0: one run, a rule for each control.

    What code scanning shows has to be in a file: that is the policy's line about the control, and the resource's ARN is
    the logical location.
    """
    run = {
        "tool": {
            "driver": {
                "name": "Portcullis",
                "version": version("portcullis"),
                "rules": [_rule(control) for control in report.controls],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not report.problems,
                "endTimeUtc": f"{report.at:%Y-%m-%dT%H:%M:%SZ}",
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": problem}} for problem in report.problems
                ],
            }
        ],
        "results": [_result(one, report) for one in report.open],
    }
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=1)


def _rule(control: Control) -> dict[str, Any]:
    return {
        "id": control.id,
        "shortDescription": {"text": control.title},
        "fullDescription": {"text": control.why},
        "help": {"text": f"{control.why}\n\n{control.fix}\n\n{control.risk}\n\n{control.docs}"},
        "helpUri": control.docs,
        "defaultConfiguration": {"level": "error"},
        "properties": {"severity": control.severity},
    }


def _result(finding: Finding, report: Report) -> dict[str, Any]:
    told, decision = entry(finding), finding.decision
    arn = finding.place.resource_arn(decision.kind, decision.resource_id)
    texts = (told["reason"], told["note"], told["impact"], told["remedy"])
    result: dict[str, Any] = {
        "ruleId": decision.control.id,
        "level": "note" if decision.exemption else "error",
        "message": {"text": " ".join(filter(None, texts))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(report.policy)},
                    "region": {"startLine": report.lines.get(("controls", decision.control.id), 1)},
                },
                "logicalLocations": [
                    {"name": decision.resource_id, "fullyQualifiedName": arn, "kind": "resource"},
                ],
            }
        ],
        "partialFingerprints": {"portcullisFinding/v1": told["finding_id"]},
        "properties": {"accountId": told["account_id"], "region": told["region"], "would": told["would"]},
    }
    if decision.exemption:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": told["note"]}]
    return result


def _uri(path: Path) -> str:
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


WRITERS = {"table": table, "json": as_json, "csv": as_csv, "sarif": as_sarif}
"""The writers of reports, by the name of their format."""
