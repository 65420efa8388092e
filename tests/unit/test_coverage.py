"""Who takes part: one table of everything that can be known of an account and Region, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from portcullis.coverage import (
    COVERAGE_1,
    NEW_FOR,
    SEEN_LATELY,
    SILENT_AFTER,
    Answer,
    Coverage,
    Problem,
    State,
    evaluate,
    state_of,
)
from portcullis.model import Kind, Status

from tests.fakes import ACCOUNT, REGION, START

NOW = START + timedelta(days=30)
MOMENT = timedelta(seconds=1)
OLD, FRESH = timedelta(days=20), timedelta(hours=2)
SILENT = SILENT_AFTER + MOMENT


def known(
    *,
    since: timedelta = OLD,
    heard: timedelta | None = FRESH,
    swept: timedelta | None = FRESH,
    answer: Answer | None = None,
) -> Coverage:
    """Return what is known of a place; times as how long ago it was."""
    times = [(NOW - ago).isoformat() if ago is not None else None for ago in (since, heard, swept)]
    return Coverage(
        ACCOUNT, REGION, str(times[0]), listed=True, heartbeat_at=times[1], swept_at=times[2], answer=answer
    )


def answered(problem: Problem | None = None, detail: str = "", sweep_id: str = "s-9") -> Answer:
    """Return the answer to the sweep that has just ended, or to another."""
    return Answer(sweep_id, problem, detail)


FINE, EARLIER = answered(), answered(sweep_id="s-8")
NEVER: dict[str, Any] = {"heard": None, "swept": None}
NEW: dict[str, Any] = {"since": NEW_FOR - MOMENT, **NEVER}
JOINED: dict[str, Any] = {"since": NEW_FOR, **NEVER}
HOUR: dict[str, Any] = {"since": FRESH}

# What is known; which sweep has just ended; the word; what the reason says.
STATES: dict[str, tuple[Coverage, str | None, str, str]] = {
    "heard and swept": (known(answer=FINE), "s-9", "ok", ""),
    "between two sweeps": (known(answer=EARLIER), None, "ok", ""),
    "the next heartbeat is late, not overdue": (known(heard=SILENT_AFTER, answer=FINE), "s-9", "ok", ""),
    "the first heartbeat is not overdue": (known(since=SILENT_AFTER, heard=None, answer=FINE), "s-9", "ok", ""),
    "the heart stopped": (known(heard=SILENT, answer=FINE), "s-9", "silent", "its last heartbeat came at 2026-03-31T"),
    "the heart never beat": (known(since=SILENT, heard=None, answer=FINE), "s-9", "silent", "never sent a heartbeat"),
    "silent between two sweeps": (known(heard=SILENT, answer=EARLIER), None, "silent", "do not reach the hub"),
    "this sweep got no answer": (known(answer=EARLIER), "s-9", "unswept", "sweep s-9 got no answer"),
    "another sweep has just been there": (known(swept=SEEN_LATELY, answer=EARLIER), "s-9", "ok", ""),
    "another sweep was there before": (
        known(swept=SEEN_LATELY + MOMENT, answer=EARLIER), "s-9", "unswept", "sweep s-9 got no answer"),
    "no sweep ever got one": (known(swept=None), "s-9", "unswept", "sweep s-9 got no answer"),
    "no sweep was yet": (known(**HOUR, swept=None), None, "unswept", "no sweep has looked at it yet"),
    "neither answer nor heartbeat": (known(heard=SILENT, answer=EARLIER), "s-9", "unswept", "do not reach the hub"),
    "not listed yet": (replace(known(**HOUR, swept=None), listed=False), None, "new", "the next sweep lists it"),
    "just listed": (known(**NEW), "s-9", "new", "may be on their way"),
    "just listed, no role yet": (known(**NEW, answer=answered(Problem.ROLE)), "s-9", "new", "may be on their way"),
    "just listed, heard, no role yet": (
        known(**NEW | {"heard": MOMENT}, answer=answered(Problem.ROLE)), "s-9", "new", "may be on their way"),
    "just listed, seen": (known(since=MOMENT, heard=None, swept=MOMENT, answer=FINE), "s-9", "ok", ""),
    "just listed, seen, then shut": (
        known(since=NEW_FOR - MOMENT, swept=MOMENT, answer=answered(Problem.ROLE)), "s-9", "role", "cannot be assumed"),
    "just listed, no Security Hub": (
        known(**NEW, answer=answered(Problem.SECURITY_HUB)), "s-9", "no hub", "Security Hub is switched off"),
    "just listed, denied": (known(**NEW, answer=answered(Problem.DENIED)), "s-9", "denied", "refuses what Portcullis"),
    "an hour on, nothing": (known(**JOINED), "s-9", "absent", "not bootstrapped: no role, no heartbeat"),
    "an hour on, no role": (known(**JOINED, answer=answered(Problem.ROLE)), "s-9", "absent", "not bootstrapped"),
    "weeks on, nothing": (known(**NEVER, answer=answered(Problem.ROLE)), None, "absent", "not bootstrapped"),
    "a heartbeat, but no role": (
        known(**HOUR, swept=None, answer=answered(Problem.ROLE)), "s-9", "role", "its observer role cannot be assumed"),
    "the role went": (known(answer=answered(Problem.ROLE, "no trust")), "s-9", "role", "cannot be assumed (no trust)"),
    "everything went": (
        known(heard=SILENT, answer=answered(Problem.ROLE)), "s-9", "role", "assumed; its events do not reach the hub"),
    "no Security Hub": (known(answer=answered(Problem.SECURITY_HUB)), "s-9", "no hub", "nothing is filed or changed"),
    "no Security Hub, ever": (known(**NEVER, answer=answered(Problem.SECURITY_HUB)), "s-9", "no hub", "never sent"),
    "denied": (known(answer=answered(Problem.DENIED, "an SCP")), "s-9", "denied", "read or file (an SCP)"),
    "findings refused": (known(answer=answered(Problem.REFUSED, "too long")), "s-9", "refused", "findings (too long)"),
    "busy": (known(answer=answered(Problem.FAILED, "Throttling")), "s-9", "failed", "did not end (Throttling)"),
    "busy and silent": (known(heard=SILENT, answer=answered(Problem.FAILED)), "s-9", "failed", "; its events do not"),
    "denied earlier, and now no answer": (
        known(answer=answered(Problem.DENIED, sweep_id="s-8")), "s-9", "denied", "refuses what Portcullis must read"),
    "the Region is off": (known(answer=answered(Problem.REGION_OFF)), "s-9", "off", "has not enabled this Region"),
    "the Region is off, of course silent": (
        known(**NEVER, answer=answered(Problem.REGION_OFF)), "s-9", "off", "has not enabled this Region"),
}  # fmt: skip

FINE_WORDS = {"ok": Status.PASSED, "new": Status.NOT_APPLICABLE, "off": Status.NOT_APPLICABLE}


@pytest.mark.parametrize(("coverage", "sweep_id", "word", "reason"), STATES.values(), ids=STATES)
def test_states(coverage: Coverage, sweep_id: str | None, word: str, reason: str) -> None:
    """A word for the matrix, a reason with every fault in it, and a remedy exactly where something is wrong."""
    state = state_of(coverage, NOW, sweep_id=sweep_id)

    assert state.word == word
    assert reason in state.reason
    assert bool(state.remedy) is (word not in FINE_WORDS)
    evaluation = evaluate(coverage, state)
    assert evaluation.status is FINE_WORDS.get(word, Status.FAILED)
    assert (evaluation.control_id, evaluation.kind) == (COVERAGE_1.id, Kind.ACCOUNT_REGION)
    assert evaluation.resource_id == f"{ACCOUNT}/{REGION}"
    assert (state.reason or "covered") in evaluation.reason
    assert evaluation.actions == ()


def test_every_word_and_every_problem_is_in_the_table() -> None:
    """No state goes untested."""
    words = {"ok", "new", "off", "absent", "silent", "unswept", "role", "no hub", "denied", "refused", "failed"}
    assert {word for _, _, word, _ in STATES.values()} == words
    assert {one.answer.problem for one, _, _, _ in STATES.values() if one.answer} == {None, *Problem}


@pytest.mark.parametrize(
    ("is_management", "remedy"), [(True, "StackSets leave the management account out"), (False, "the StackSets portc")]
)
def test_the_management_account_is_bootstrapped_by_hand(remedy: str, *, is_management: bool) -> None:
    """StackSets skip it, so that looking at their operations would not help."""
    state = state_of(known(**JOINED), NOW, is_management=is_management)
    assert state.word == "absent"
    assert remedy in state.remedy


def test_all_remedies_of_several_faults_are_told() -> None:
    """Who mends the first is not sent back for the second."""
    state = state_of(known(heard=SILENT, answer=answered(Problem.DENIED)), NOW)
    assert "service control policy" in state.remedy
    assert "Deploy portcullis-member-region there again" in state.remedy


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State("ok"), f"Account {ACCOUNT} in {REGION}: covered."),
        (State("off", "it is off"), f"Account {ACCOUNT} in {REGION}: it is off."),
        (State("silent", "no events", "Do it."), f"Account {ACCOUNT} in {REGION} is not covered: no events."),
    ],
)
def test_the_verdict_reads_well(state: State, reason: str) -> None:
    """It names the account and Region, since the finding is filed elsewhere."""
    evaluation = evaluate(known(), state)
    assert (evaluation.reason, evaluation.remedy) == (reason, state.remedy)
