"""The time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from portcullis.adapters.clock import SystemClock


def test_the_clock_says_what_time_it_is_and_in_which_zone() -> None:
    """In UTC, wherever the machine is: every time that is written down is compared with others."""
    before = datetime.now(UTC)
    told = SystemClock().now()

    assert before <= told <= datetime.now(UTC)
    assert told.utcoffset() == timedelta(0)
