"""The journal is complete, ordered, and safe to follow from any thread; people see sentences of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from local.journal import Journal, Kind, Step, render


def test_since_continues_where_the_last_read_ended() -> None:
    """An index and the length of what it gave are enough to miss nothing."""
    journal = Journal()
    journal.record("event", "one")
    journal.record("log", "two", account_id="111122223333", region="eu-west-1", data={"level": "INFO"})
    assert [step.text for step in journal.since(0)] == ["one", "two"]
    journal.record("error", "three")
    (last,) = journal.since(2)
    assert (last.kind, last.text, last.account_id, last.data) == ("error", "three", None, {})


def test_subscribers_see_every_step_in_order_from_many_threads() -> None:
    """Writers in different threads lose nothing, and followers see the order of the list."""
    journal = Journal()
    seen: list[Step] = []
    journal.subscribe(seen.append)

    def write() -> None:
        for number in range(200):
            journal.record("event", str(number))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(seen) == 800
    assert seen == journal.since(0)


def step(kind: Kind, text: str, **data: Any) -> Step:
    """Return a step of a member account."""
    return Step(0.0, kind, "111122223333", "eu-west-1", text, data)


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("call", {}, "call "),
        ("event", {}, ""),
        ("error", {}, "ERROR "),
        ("log", {"level": "INFO", "step": "act"}, ""),
        ("log", {"level": "INFO"}, None),
        ("log", {"level": "DEBUG"}, None),
        ("log", {"_aws": {}}, None),
        ("log", {"level": "WARNING"}, "WARNING "),
        ("log", {"level": "ERROR", "step": "act"}, "ERROR "),
    ],
)
def test_what_is_shown(kind: Kind, data: dict[str, Any], shown: str | None) -> None:
    """Calls, events and errors always; log records when they are sentences or alarming."""
    line = render(step(kind, "something happened", **data))
    if shown is None:
        assert line is None
    else:
        assert line is not None
        assert line.endswith(f" 111122223333 eu-west-1 {shown}something happened")


def test_long_text_is_wrapped_below_the_text() -> None:
    """A long sentence stays readable, and words stay whole."""
    arn = "arn:aws:ec2:eu-west-1:111122223333:vpc/" + "x" * 100
    lines = (render(step("event", f"{'word ' * 40}{arn}")) or "").splitlines()
    assert len(lines) > 2
    assert all(line.startswith(" " * 9) for line in lines[1:])
    assert all(len(line) <= 100 for line in lines[:-1])
    assert lines[-1].strip() == arn
