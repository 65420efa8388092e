"""Renders the journal for people who watch a terminal."""

from __future__ import annotations

import shutil
import textwrap
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .journal import Step

_ALARMING = ("WARNING", "ERROR", "CRITICAL")
_WIDTH_AT_MOST = 100
_CONTINUATION = " " * 9  # below what follows the time


def render(step: Step) -> str | None:
    """Return a step as one line (wrapped when long), or None for one that only the journal keeps.

    Of the functions' log records those are shown that carry a `step` field, whose message is a sentence for
    people, and those of level WARNING and above.
    """
    level = str(step.data.get("level", "")).upper()
    if step.kind == "log" and "step" not in step.data and level not in _ALARMING:
        return None
    mark = {"call": "call ", "error": "ERROR ", "log": f"{level} " if level in _ALARMING else "", "event": ""}
    columns = (time.strftime("%H:%M:%S", time.localtime(step.at)), step.account_id, step.region)
    head = " ".join(column for column in columns if column)
    width = min(shutil.get_terminal_size().columns, _WIDTH_AT_MOST)
    return textwrap.fill(
        f"{head} {mark[step.kind]}{step.text}",
        width=width,
        subsequent_indent=_CONTINUATION,
        break_long_words=False,
        break_on_hyphens=False,
    )
