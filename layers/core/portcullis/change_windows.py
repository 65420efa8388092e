"""Change windows: times at which a change may be made although something is running. Pure.

A cron expression of five fields opens a window in a time zone, as Debian's cron would start a job then, also when
clocks change. What evaluates it is loaded only when the policy has a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIELDS = 5
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ChangeWindow:
    """A window that ``cron`` opens, in ``time_zone``, for ``length``.

    Raises:
        ValueError: There is no such time zone, or the expression is wrong or never opens the window.
    """

    cron: str
    time_zone: str
    length: timedelta

    def __post_init__(self) -> None:
        check_cron(self.cron)
        check_time_zone(self.time_zone)


def open_at(windows: Iterable[ChangeWindow], now: datetime) -> bool:
    """Tell whether any of the windows is open."""
    return any(_opening(window.cron, window.time_zone, now - window.length) <= now for window in windows)


def next_opening(windows: Iterable[ChangeWindow], now: datetime) -> datetime | None:
    """Return when a window opens next, in UTC, or None when there is no window."""
    return min((_opening(window.cron, window.time_zone, now) for window in windows), default=None)


def check_time_zone(name: str) -> None:
    """Check the name of a time zone (tz database).

    Raises:
        ValueError: There is no such time zone.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415 -- a cold start does without it when the policy has no windows

    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone such as Europe/Zurich") from error


def check_cron(expression: str) -> None:
    """Check a cron expression.

    Raises:
        ValueError: It is none, or there is no time that it names.
    """
    from cronsim import CronSimError  # noqa: PLC0415 -- a cold start does without it when the policy has no windows

    if len(expression.split()) != _FIELDS:
        raise ValueError(f"{expression!r} is not a cron expression of five fields")
    try:
        _opening(expression, "UTC", _SOME_DAY)
    except (CronSimError, ValueError) as error:
        raise ValueError(f"{expression!r} is not a cron expression: {error}") from error


def _opening(expression: str, time_zone: str, after: datetime) -> datetime:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 -- a cold start does without it when the policy has no windows

    from cronsim import CronSim  # noqa: PLC0415 -- a cold start does without it when the policy has no windows

    for local in CronSim(expression, after.astimezone(ZoneInfo(time_zone))):
        # In the hour that clocks repeat, the iterator may begin with a time of its first round, already past.
        if (opening := local.astimezone(UTC)) > after:
            return opening
    raise ValueError("it names a time that never comes")
