"""A diagnosis for people and for machines."""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from portcullis.cli.explain.answer import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from portcullis.cli.explain.answer import Answer, Step
    from portcullis.cli.explain.facts import Question

_COLUMN = 31
_NARROWEST, _WIDEST = 60, 120
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
            lines += _row(number, step)
        lines += ["", *_wrapped(answer.verdict, 0)]
    return "\n".join(lines)


def _row(number: int, step: Step) -> Iterator[str]:
    """Write a step: the evidence beside its name, and below them what to do, in one line that can be copied."""
    word, colour = _MARKS[step.status]
    first, *more = _wrapped(step.evidence + (f" [{step.control}]" if step.control else ""), _COLUMN)
    yield f"{number:>3}  {click.style(f'{word:<7}', fg=colour)}  {step.name:<15}  {first}"
    yield from (f"{'':{_COLUMN}}{line}" for line in more)
    if step.remedy:
        yield f"     to do: {step.remedy}"


def _wrapped(text: str, column: int) -> list[str]:
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
    return textwrap.wrap(text, width - column, break_on_hyphens=False, break_long_words=False)


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
