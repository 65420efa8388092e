"""People see sentences; the journal keeps the rest."""

from __future__ import annotations

from typing import Any

import pytest

from local.console import render
from local.journal import Kind, Step


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
