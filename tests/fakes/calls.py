"""The clock of the small world, and what goes wrong with its calls."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.fakes.names import START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the time."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Move to a moment; backwards too, as clocks do."""
        self._now = moment

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self._now += timedelta(seconds=seconds)


class CrashError(Exception):
    """The process dies here."""


class AwsRefusedError(Exception):
    """AWS's answer to a call that breaks one of its rules."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with one call: ``error`` is raised before it takes effect, or after."""

    error: Exception
    after: bool = False


class Calls:
    """Counts the calls of all ports of a world, and makes the planned ones go wrong."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._planned: defaultdict[str, deque[Trouble | None]] = defaultdict(deque)
        self._crash: tuple[int, Trouble] | None = None
        self._meanwhile: dict[int, Callable[[], object]] = {}
        self._always: dict[str, Exception] = {}

    def plan(self, name: str, *troubles: Trouble | None) -> None:
        """Plan what happens to the next calls of one name; None for a call that goes well."""
        self._planned[name].extend(troubles)

    def fail_always(self, name: str, error: Exception) -> None:
        """Let every call of one name fail."""
        self._always[name] = error

    def crash_at(self, number: int, *, after: bool = False) -> None:
        """Let the process die at the n-th port call from now (0 is the next one), before or after its effect."""
        self._crash = (len(self.made) + number, Trouble(CrashError(f"at call {number}"), after))

    def meanwhile(self, number: int, do: Callable[[], object]) -> None:
        """Let something else happen right before the n-th port call from now."""
        self._meanwhile[len(self.made) + number] = do

    def stop_trouble(self) -> None:
        """Forget everything that was planned."""
        self._planned.clear()
        self._always.clear()
        self._crash = None
        self._meanwhile.clear()

    def counts(self) -> Counter[str]:
        """Return how often each call was made."""
        return Counter(self.made)

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """Count a call, and raise what is planned for it."""
        if do := self._meanwhile.pop(len(self.made), None):
            do()
        planned = self._planned[name]
        trouble = planned.popleft() if planned else None
        if self._crash and self._crash[0] == len(self.made):
            trouble = self._crash[1]
        self.made.append(name)
        if name in self._always:
            raise self._always[name]
        if trouble and not trouble.after:
            raise trouble.error
        yield
        if trouble:
            raise trouble.error
