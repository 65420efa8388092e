"""What happened in the local organisation, in the order in which it became known, and how it is told."""

from __future__ import annotations

import shutil
import textwrap
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind = Literal["call", "event", "log", "error"]
_ALARMING = ("WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened.

    Kinds: `call` (a person changed something), `event` (the organisation itself moved on), `log` (one line
    of a function; `data` is the whole record) and `error` (a crash or a failed delivery).
    """

    at: float
    kind: Kind
    account_id: str | None
    region: str | None
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """An append-only list of steps that any thread may write, read and follow."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._subscribers: list[Callable[[Step], None]] = []
        # Re-entrant, so that a subscriber may read the journal while it is told about a step.
        self._lock = threading.RLock()

    def record(
        self, kind: Kind, text: str, *, account_id: str | None = None, region: str | None = None, data: Any = None
    ) -> None:
        """Append one step, and tell the subscribers."""
        with self._lock:
            step = Step(time.time(), kind, account_id, region, text, data or {})
            self._steps.append(step)
            # Told under the lock: every subscriber sees the steps in the order of the list.
            for subscriber in self._subscribers:
                subscriber(step)

    def subscribe(self, callback: Callable[[Step], None]) -> None:
        """Call `callback` with every later step, in order and in the writing thread: it must be quick."""
        with self._lock:
            self._subscribers.append(callback)

    def since(self, index: int) -> list[Step]:
        """Return the steps from `index` on; `index + len(result)` is where the next read continues."""
        with self._lock:
            return self._steps[index:]


def render(step: Step) -> str | None:
    """Return a step as a line (wrapped when long), or None for a log record that is neither a `step` nor alarming."""
    level = str(step.data.get("level", "")).upper()
    if step.kind == "log" and "step" not in step.data and level not in _ALARMING:
        return None
    mark = {"call": "call", "error": "ERROR", "log": level if level in _ALARMING else "", "event": ""}[step.kind]
    at = time.strftime("%H:%M:%S", time.localtime(step.at))
    line = " ".join(part for part in (at, step.account_id, step.region, mark, step.text) if part)
    width, below_text = min(shutil.get_terminal_size().columns, 100), " " * 9
    return textwrap.fill(line, width, subsequent_indent=below_text, break_long_words=False, break_on_hyphens=False)
