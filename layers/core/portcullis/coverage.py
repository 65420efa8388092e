"""Which accounts and Regions take part, and what is wrong where one does not. Pure.

An account-Region takes part when its events arrive (a heartbeat proves that twice a day) and when a sweep can look
at it and file what it sees. One that must take part and does not is itself a finding, in the hub's account.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portcullis.controls import Rule
from portcullis.model import Evaluation, Kind, Status

COVERAGE_1 = Rule(
    id="COVERAGE.1",
    title="Portcullis should see every governed account and Region",
    severity="HIGH",
    kind=Kind.ACCOUNT_REGION,
    docs="https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs-manage-auto-deployment.html",
)
"""Judged by the survey at the end of each sweep; the policy cannot switch it off."""

SILENT_AFTER = timedelta(hours=26)
"""Two heartbeats (12 hours apart) and the next one's delay: then an account-Region is silent."""

SEEN_LATELY = timedelta(hours=1)
"""Another sweep's look within this time is as good: one that people start may overtake the scheduled one."""

NEW_FOR = timedelta(hours=1)
"""How long the member stacks of an account that has just joined may take."""


class Problem(StrEnum):
    """Why a sweep could not do its work in an account and Region."""

    REGION_OFF = "region-off"
    ROLE = "role"
    SECURITY_HUB = "security-hub"
    DENIED = "denied"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """How one look of a sweep ended; no ``problem`` when it saw everything and filed what was new."""

    sweep_id: str
    problem: Problem | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is known of one account and Region. Times are ISO 8601 in UTC.

    ``listed``: it must take part, since it lies below a target organisational unit (or is added by hand).
    ``swept_at``: when everything there was last seen. ``answer``: of the last sweep that had one.
    """

    account_id: str
    region: str
    since: str
    listed: bool = False
    heartbeat_at: str | None = None
    swept_at: str | None = None
    answer: Answer | None = None

    @property
    def resource_id(self) -> str:
        """How findings call it."""
        return f"{self.account_id}/{self.region}"

    def is_silent(self, now: datetime) -> bool:
        """Tell whether a heartbeat is overdue; the first one from when the account-Region became known."""
        return now - datetime.fromisoformat(self.heartbeat_at or self.since) > SILENT_AFTER

    def was_seen_lately(self, now: datetime) -> bool:
        """Tell whether some sweep has just seen everything there."""
        return self.swept_at is not None and now - datetime.fromisoformat(self.swept_at) <= SEEN_LATELY


@dataclass(frozen=True, slots=True)
class State:
    """What holds of an account and Region: a word for the matrix, why, and what a person can do."""

    word: str
    reason: str = ""
    remedy: str = ""


_REMEDIES = {
    Problem.ROLE: State(
        "role",
        "its observer role cannot be assumed",
        "Deploy portcullis-member-account there again, and see that no policy of the organisation denies sts:AssumeRole"
        " to the hub.",
    ),
    Problem.SECURITY_HUB: State(
        "no hub",
        "Security Hub is switched off, so nothing is filed or changed there",
        "Enable Security Hub there, or by central configuration for the whole organisation.",
    ),
    Problem.DENIED: State(
        "denied",
        "it refuses what Portcullis must read or file",
        "See that no service control policy, permissions boundary or session policy denies it to the observer role.",
    ),
    Problem.REFUSED: State(
        "refused",
        "Security Hub refused findings",
        "Read the reason in the log group /aws/lambda/portcullis-sweep of the hub.",
    ),
    Problem.FAILED: State(
        "failed",
        "the last look did not end",
        "The next sweep tries again. If it stays: the log group /aws/lambda/portcullis-sweep of the hub.",
    ),
}


def state_of(coverage: Coverage, now: datetime, *, is_management: bool = False, sweep_id: str | None = None) -> State:
    """Say how an account and Region takes part.

    Args:
        coverage: What is known of it.
        now: The time, with its zone.
        is_management: Whether it is the management account, which StackSets skip.
        sweep_id: The sweep that has just ended, when there is one: it should have had an answer.
    """
    answer, problem = coverage.answer, coverage.answer.problem if coverage.answer else None
    new = now - datetime.fromisoformat(coverage.since) < NEW_FOR
    if not coverage.listed:
        return State("new", "its events arrive; the next sweep lists it, if it is governed")
    if problem is Problem.REGION_OFF:
        return State("off", "the account has not enabled this Region")
    if problem in (None, Problem.ROLE) and not coverage.swept_at and new:
        return State("new", "its member stacks may be on their way")
    if problem in (None, Problem.ROLE) and not coverage.swept_at and not coverage.heartbeat_at:
        remedy = (
            "Deploy the two member stacks of docs/operations.md by hand: StackSets leave the management account out."
            if is_management
            else "The operations of the StackSets portcullis-member-account and portcullis-member-region, in the hub, "
            "say why there is no stack."
        )
        return State("absent", "it is not bootstrapped: no role, no heartbeat", remedy)
    faults = []
    if answer and problem:
        known = _REMEDIES[problem]
        faults.append(
            State(known.word, f"{known.reason} ({answer.detail})" if answer.detail else known.reason, known.remedy)
        )
    elif not answer or (sweep_id and answer.sweep_id != sweep_id and not coverage.was_seen_lately(now)):
        missed = f"sweep {sweep_id} got no answer from it" if sweep_id else "no sweep has looked at it yet"
        faults.append(State("unswept", missed, _REMEDIES[Problem.FAILED].remedy))
    if coverage.is_silent(now):
        heard = coverage.heartbeat_at
        last = f"its last heartbeat came at {heard}" if heard else "it has never sent a heartbeat"
        remedy = (
            "Deploy portcullis-member-region there again. Its schedule, its rules and its forwarder role lead to the "
            "hub's bus, whose policy must admit the organisation."
        )
        faults.append(State("silent", f"its events do not reach the hub: {last}", remedy))
    return State(
        faults[0].word if faults else "ok",
        "; ".join(fault.reason for fault in faults),
        " ".join(fault.remedy for fault in faults),
    )


def evaluate(coverage: Coverage, state: State) -> Evaluation:
    """Turn a state into the verdict of COVERAGE.1."""
    wanting = state.word not in ("ok", "new", "off")
    where = f"Account {coverage.account_id} in {coverage.region}"
    return Evaluation(
        COVERAGE_1.id,
        Kind.ACCOUNT_REGION,
        coverage.resource_id,
        Status.FAILED if wanting else Status.PASSED if state.word == "ok" else Status.NOT_APPLICABLE,
        reason=f"{where} is not covered: {state.reason}." if wanting else f"{where}: {state.reason or 'covered'}.",
        remedy=state.remedy,
    )
