"""A diagnosis for people and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from portcullis.cli.explain.answer import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portcullis.cli.explain.answer import Answer
    from portcullis.cli.explain.facts import Question

_MARKS = {
    Status.PASSED: ("passed", "green"),
    Status.FAILED: ("FAILED", "red"),
    Status.UNKNOWN: ("unknown", "yellow"),
    Status.NOT_NEEDED: ("-", None),
}


def table(resource_id: str, question: Question, answers: Sequence[Answer]) -> str:
    """Write answers as tables, in words and colours (which click leaves out where they do not belong)."""
    asked = f"{question.action} on {question.resource}" if question.action else "any action"
    lines = [f"Does {question.service} answer to {resource_id}? ({asked})"]
    if not resource_id.startswith("i-"):
        lines.append("Only the network is judged; name an instance for its credentials and security groups.")
    for answer in answers:
        lines += ["", answer.where]
        for number, step in enumerate(answer.steps, 1):
            word, colour = _MARKS[step.status]
            control = f" [{step.control}]" if step.control else ""
            lines.append(
                f"{number:>3}  {click.style(f'{word:<7}', fg=colour)}  {step.name:<15}  {step.evidence}{control}"
            )
            if step.remedy:
                lines.append(f"{'':31}to do: {step.remedy}")
        lines += ["", answer.verdict]
    return "\n".join(lines)


def as_json(resource_id: str, question: Question, answers: Sequence[Answer]) -> str:
    """Write answers as one JSON object."""
    return json.dumps(
        {
            "resource_id": resource_id,
            **asdict(question),
            "works": all(answer.works for answer in answers),
            "answers": [
                {
                    "where": answer.where,
                    "works": answer.works,
                    "verdict": answer.verdict,
                    "way": answer.via,
                    "steps": [asdict(step) for step in answer.steps],
                }
                for answer in answers
            ],
        },
        indent=1,
    )
