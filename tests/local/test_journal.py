"""The journal is complete, ordered, and safe to follow from any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from local.journal import Journal

if TYPE_CHECKING:
    from local.journal import Step


def test_since_continues_where_the_last_read_ended() -> None:
    """An index and the length of what it gave are enough to miss nothing."""
    journal = Journal()
    journal.record("event", "one")
    journal.record("log", "two", account_id="111122223333", region="eu-west-1", data={"level": "INFO"})
    assert [step.text for step in journal.since(0)] == ["one", "two"]
    journal.record("error", "three")
    (step,) = journal.since(2)
    assert (step.kind, step.text, step.account_id, step.data) == ("error", "three", None, {})


def test_subscribers_see_every_step_in_order_from_many_threads() -> None:
    """Writers in different threads lose nothing, and followers see the order of the list."""
    journal = Journal()
    seen: list[Step] = []
    journal.subscribe(seen.append)
    writers = [threading.Thread(target=lambda: [journal.record("event", str(n)) for n in range(200)]) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(seen) == 800
    assert seen == journal.since(0)


def test_wait_for_finds_what_was_and_what_will_be() -> None:
    """Waiting works whether the step came before or comes later, and ends when it never comes."""
    journal = Journal()
    journal.record("event", "before")
    assert journal.wait_for(lambda step: step.text == "before", 0) is not None
    timer = threading.Timer(0.05, journal.record, ("event", "after"))
    timer.start()
    found = journal.wait_for(lambda step: step.text == "after", 5)
    timer.join()
    assert found is not None
    assert journal.wait_for(lambda step: step.text == "never", 0.05) is None
