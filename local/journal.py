"""What happened in the local organisation, in the order in which it became known."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind = Literal["call", "event", "log", "error"]


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
    """An append-only list of steps that any thread may write, read, follow and wait on."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._subscribers: list[Callable[[Step], None]] = []
        # Re-entrant, so that a subscriber may read the journal while it is told about a step.
        self._changed = threading.Condition(threading.RLock())

    def record(
        self,
        kind: Kind,
        text: str,
        *,
        account_id: str | None = None,
        region: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Step:
        """Append one step, tell the subscribers, and return it."""
        with self._changed:
            step = Step(time.time(), kind, account_id, region, text, data or {})
            self._steps.append(step)
            # Told under the lock: every subscriber sees the steps in the order of the list.
            for subscriber in self._subscribers:
                subscriber(step)
            self._changed.notify_all()
        return step

    def subscribe(self, callback: Callable[[Step], None]) -> None:
        """Call `callback` with every later step, in order and in the writing thread: it must be quick."""
        with self._changed:
            self._subscribers.append(callback)

    def since(self, index: int) -> list[Step]:
        """Return the steps from `index` on; `index + len(result)` is where the next read continues."""
        with self._changed:
            return self._steps[index:]

    def wait_for(self, predicate: Callable[[Step], bool], timeout: float) -> Step | None:
        """Return the first step, past or to come, that satisfies `predicate`; None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for step in self._steps[seen:]:
                    if predicate(step):
                        return step
                seen = len(self._steps)
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                self._changed.wait(remaining)
