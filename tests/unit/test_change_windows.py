"""Change windows: when they are open, and when they open next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from portcullis.change_windows import ChangeWindow, check_cron, check_time_zone, next_opening, open_at

NIGHT = ChangeWindow("0 2 * * SUN", "Europe/Zurich", timedelta(hours=4))
NOON = ChangeWindow("0 12 * * *", "UTC", timedelta(minutes=30))


def at(text: str) -> datetime:
    """Return a time, in UTC unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-11-22T00:59:59", False),
        ("2026-11-22T01:00:00", True),  # Sunday, 02:00 in Zurich in winter
        ("2026-11-22T01:00:00.5", True),
        ("2026-11-22T04:59:59.999", True),
        ("2026-11-22T05:00:00", False),
        ("2026-11-23T01:30:00", False),  # Monday
        ("2026-07-05T00:00:00", True),  # in summer it is an hour earlier
        ("2026-07-05T04:00:00", False),
        ("2026-11-21T20:00:00-05:00", True),  # the same moment, told in New York
    ],
)
def test_a_window_is_open_from_its_time_for_its_length(now: str, is_open: bool) -> None:  # noqa: FBT001 -- a table
    """The first moment belongs to it, the last does not; the zone's clock counts, summer and winter."""
    assert open_at([NIGHT], at(now)) is is_open


def test_any_of_several_windows_will_do() -> None:
    """Each opens by itself; none means never."""
    now = at("2026-11-23T12:15:00")
    assert open_at([NIGHT, NOON], now)
    assert not open_at([NIGHT], now)
    assert not open_at([], now)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-21T12:00:00", "2026-11-22T01:00:00"),
        ("2026-11-22T01:00:00", "2026-11-29T01:00:00"),  # it has just opened
        ("2026-03-28T12:00:00", "2026-03-29T01:00:00"),  # clocks go from 02:00 to 03:00: it opens at 03:00
        ("2026-10-25T00:30:00", "2026-11-01T01:00:00"),  # 02:30 in the first round of a repeated hour: open since 02:00
    ],
)
def test_the_next_opening_is_told_in_utc(now: str, expected: str) -> None:
    """As cron does it when clocks change: a time that is skipped is made up for, one that comes twice counts once."""
    found = next_opening([NIGHT], at(now))
    assert found == at(expected)
    assert found.tzinfo is UTC


def test_the_earliest_of_several_openings_counts() -> None:
    """In whatever order they are written."""
    now = at("2026-11-23T11:00:00")
    assert next_opening([NIGHT, NOON], now) == next_opening([NOON, NIGHT], now) == at("2026-11-23T12:00:00")
    assert next_opening([], now) is None


@pytest.mark.parametrize("minutes", range(0, 180, 15))
def test_the_repeated_hour_never_opens_a_window_twice(minutes: int) -> None:
    """A window of 02:30 opens once in the night in which 02:30 comes twice, and stays open for its length."""
    window = ChangeWindow("30 2 * * *", "Europe/Zurich", timedelta(minutes=45))
    start = at("2026-10-25T00:00:00")  # 02:00, the first round
    now = start + timedelta(minutes=minutes)
    assert open_at([window], now) is (30 <= minutes < 75)


def test_a_window_that_outlasts_its_period_is_always_open() -> None:
    """Each opening is followed by the next before it ends."""
    always = ChangeWindow("0 0 * * *", "UTC", timedelta(days=2))
    assert all(open_at([always], at("2026-11-23T00:00:00") + timedelta(hours=hour)) for hour in range(48))


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "0 2 * *",
        "0 0 2 * * SUN",
        "0 2 * * SUN 2026",
        "61 * * * *",
        "x",
        "cron(0 2 ? * SUN *)",
        "0 2 ? * SUN",
        "@daily",
    ],
)
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    """Five fields: neither seconds nor AWS's years."""
    with pytest.raises(ValueError, match="is not a cron expression"):
        check_cron(cron)


@pytest.mark.parametrize(
    ("cron", "why"), [("0 0 30 2 *", "Bad day-of-month"), ("0 0 */31 * MON#2", "names a time that never comes")]
)
def test_a_time_that_never_comes_is_refused(cron: str, why: str) -> None:
    """A window that never opens is a mistake: a thirtieth of February, or a second Monday that is a first."""
    with pytest.raises(ValueError, match=why):
        check_cron(cron)


@pytest.mark.parametrize("name", ["", "Mars/Base", "../etc/passwd", "/etc/localtime", "Europe", "\0", "CEST+1"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    """Whatever the operating system says about such a file."""
    with pytest.raises(ValueError, match="is not a time zone such as Europe/Zurich"):
        check_time_zone(name)


def test_a_window_that_makes_no_sense_cannot_be_made() -> None:
    """Neither from the policy nor otherwise."""
    with pytest.raises(ValueError, match="time zone"):
        ChangeWindow("0 2 * * SUN", "Mars/Base", timedelta(hours=1))
    with pytest.raises(ValueError, match="cron"):
        ChangeWindow("never", "UTC", timedelta(hours=1))
