"""The time of the local organisation, which can be moved forward: of this process, and so of everything in it.

Functions run in processes of their own, which follow by `offset` (see lambda_bootstrap). Until the time is first moved,
nothing is patched.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

_travels: list[Any] = []  # what has to be stopped, and what moves on: at most one pair
_moved = 0.0


def offset() -> float:
    """Return by how many seconds the time is ahead of the machine's."""
    return _moved


def move(seconds: float) -> None:
    """Move the time forward; it goes on from there. Monotonic clocks, and whoever waits by them, notice nothing."""
    global _moved  # noqa: PLW0603 - there is but one time
    import time_machine  # noqa: PLC0415 - costs nothing until it is used

    if _travels:
        _travels[1].shift(seconds)
    else:
        travel = time_machine.travel(time.time() + seconds, tick=True)
        _travels.extend((travel, travel.start()))
        time.time()  # its clock ticks from the first look on
    _moved += seconds


def reset() -> None:
    """Return to the machine's time."""
    global _moved  # noqa: PLW0603 - there is but one time
    with contextlib.suppress(IndexError):
        _travels[0].stop()
    _travels.clear()
    _moved = 0.0
