"""From snapshots to decisions: what to do now, what later, what a person decides, or why nothing is done. Pure.

Two steps, since what a change would touch is only looked at where one may be made: ``judge`` says what is wrong and
what the policy wants, ``respond`` what is done about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from portcullis.actions import CreateInterfaceEndpoint, described
from portcullis.change_windows import next_opening, open_at
from portcullis.model import Evaluation, Kind, RecordKey, Snapshot, Status
from portcullis.policy import Mode, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portcullis.actions import Action
    from portcullis.controls import Control, Rule
    from portcullis.impact import Impact
    from portcullis.ledger import Hold, ResourceState
    from portcullis.model import Resource
    from portcullis.policy import Exemption, Policy, Settings

DAY = timedelta(days=1)
BY_POLICY = "the policy"
HOW_TO_APPROVE = (
    "To have it done, choose the custom action Remediate, or run 'portcullis approve' with this finding's id."
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided about one control on one resource.

    ``evaluation`` is None when there is nothing to judge any more: the resource is gone, or the control
    is off; ``note`` says which. ``actions`` are to be performed now, on the wish of ``by``. ``wait`` says what has to
    happen first; ``again_at`` is when to look again; ``flapping`` that something keeps taking our changes back;
    ``stopped`` that the kill switch keeps the change from being made; ``needless`` that AWS has shown that it is not
    needed.
    Otherwise ``note`` says, to the reader of the finding, what Portcullis does about it. ``settings`` is what the
    policy says, ``impact`` what a change would touch.
    """

    control: Rule
    kind: Kind
    resource_id: str
    evaluation: Evaluation | None
    actions: tuple[Action, ...] = ()
    wait: str | None = None
    note: str = ""
    by: str = ""
    again_at: datetime | None = None
    settings: Settings | None = None
    exemption: Exemption | None = None
    flapping: bool = False
    stopped: bool = False
    needless: bool = False
    impact: Impact | None = None

    @property
    def record_key(self) -> RecordKey:
        """The key of the record of its finding."""
        return (self.kind, self.resource_id, self.control.id)

    @property
    def resource(self) -> tuple[Kind, str]:
        """Kind and id of the resource."""
        return (self.kind, self.resource_id)

    @property
    def possible(self) -> tuple[Action, ...]:
        """What would make the resource right, if the policy lets a change be made at all."""
        if self.evaluation is None or self.settings is None or self.exemption:
            return ()
        is_allowed = self.settings.mode in (Mode.APPROVE, Mode.REMEDIATE)
        return self.evaluation.actions if is_allowed else ()

    @property
    def is_automatic(self) -> bool:
        """Whether the policy lets Portcullis make the change without asking."""
        return bool(self.possible and self.settings and self.settings.mode is Mode.REMEDIATE)

    def fields(self, account_id: str, region: str) -> dict[str, object]:
        """Return what a log line says about it."""
        return {
            "account_id": account_id,
            "region": region,
            "resource_id": self.resource_id,
            "control": self.control.id,
        }


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What counts for a response, beside what is wrong.

    ``limit`` is how many automatic changes a resource may see in a day; ``approved_by`` is set when a person asked for
    the change; ``switch`` is the kill switch's position when it keeps changes from being made, else empty.
    """

    now: datetime
    state: ResourceState
    limit: int
    impact: Impact | None = None
    approved_by: str = ""
    switch: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the resources of one account and Region by the policy."""

    policy: Policy
    account_id: str
    region: str
    units: tuple[str, ...] = ()
    controls: Sequence[Control] = field(default=())

    def judge(self, snapshot: Snapshot, resources: Iterable[tuple[Kind, str]], now: datetime) -> list[Decision]:
        """Judge resources against every control of their kind.

        Args:
            snapshot: What was observed, of a scope that names all of the resources.
            resources: Kind and id of each; one that the snapshot lacks is gone.
            now: The time, which ends exemptions.
        """
        return [
            self._judge(control, snapshot, kind, resource_id, now)
            for kind, resource_id in resources
            for control in self.controls
            if control.kind is kind
        ]

    def settings(self, resource: Resource | None, key: tuple[Kind, str]) -> list[Settings]:
        """Return what the policy says about a resource (None: it is gone), for each control of its kind."""
        subject = self._subject(key, resource)
        return [self.policy.settings(subject, control.id) for control in self.controls if control.kind is key[0]]

    def _subject(self, key: tuple[Kind, str], resource: Resource | None) -> Subject:
        return Subject(self.account_id, self.units, self.region, *key, resource.tags if resource else {})

    def _judge(self, control: Control, snapshot: Snapshot, kind: Kind, resource_id: str, now: datetime) -> Decision:
        resource = snapshot.get(kind, resource_id)
        if resource is None:
            return Decision(control, kind, resource_id, None, note=f"{resource_id} no longer exists.")
        subject = self._subject((kind, resource_id), resource)
        settings = self.policy.settings(subject, control.id)
        if settings.mode is Mode.OFF:
            note = f"The policy switched {control.id} off."
            return Decision(control, kind, resource_id, None, note=note, settings=settings)
        evaluation = control.evaluate(snapshot, resource, settings)
        if evaluation.status is not Status.FAILED:
            return Decision(control, kind, resource_id, evaluation, settings=settings)
        exemption = self.policy.exemption(subject, control.id, now)
        again_at = exemption.expires_at if exemption else None
        return Decision(
            control, kind, resource_id, evaluation, settings=settings, exemption=exemption, again_at=again_at
        )


def respond(decision: Decision, around: Circumstances) -> Decision:
    """Decide what is done about a failure."""
    evaluation, settings = decision.evaluation, decision.settings
    if evaluation is None or settings is None or evaluation.status is not Status.FAILED or decision.exemption:
        return decision
    decision, evaluation = _unanswered(decision, evaluation, around)
    planned = described(evaluation.actions)
    if decision.needless:
        return decision
    if not planned:
        return replace(decision, note=f"{decision.note} Portcullis cannot mend this; a person can.".lstrip())
    if settings.mode is Mode.DETECT:
        note = f"Portcullis changes nothing in mode detect; in mode remediate it would {planned}."
        return replace(decision, note=f"{note} {around.impact.cost}" if around.impact else note)
    decision = replace(decision, impact=around.impact)
    if not around.approved_by and settings.mode is Mode.APPROVE:
        return _for_approval(decision, planned, around)
    return _stopped(decision, planned, around) or _without_asking(decision, settings, planned, around)


def _without_asking(decision: Decision, settings: Settings, planned: str, around: Circumstances) -> Decision:
    """Make the change now, later or not; what a person has approved waits for nothing."""
    if around.approved_by:
        return _go(decision, planned, f"approved by {around.approved_by}")
    return (
        _left_alone(decision, planned, around)
        or _for_workloads(decision, settings, planned, around)
        or _settling(decision, planned, around)
        or _go(decision, planned, BY_POLICY)
    )


def _stopped(decision: Decision, planned: str, around: Circumstances) -> Decision | None:
    if not around.switch:
        return None
    note = while_stopped(around.switch, planned, asked=bool(around.approved_by))
    return replace(decision, note=note, stopped=True)


def _for_approval(decision: Decision, planned: str, around: Circumstances) -> Decision:
    proposal = _proposal(planned, "the policy asks for approval")
    return _held(decision, proposal, around) or replace(decision, note=proposal)


def _left_alone(decision: Decision, planned: str, around: Circumstances) -> Decision | None:
    """Leave alone what Portcullis made way on, what a person undid, and what never comes to rest."""
    if held := _held(decision, f"It would {planned}.", around):
        return held
    recent = sorted(when for when in around.state.changed_at if when > around.now - DAY)
    if len(recent) < around.limit:
        return None
    until = recent[-around.limit] + DAY
    note = (
        f"Portcullis changed {decision.resource_id} {len(recent)} times within a day, as often as the policy admits: "
        f"something may keep taking that back. It leaves it alone until {moment(until)}. It would {planned}."
    )
    return replace(decision, note=note, again_at=until, flapping=True)


def answered(action: Action, state: ResourceState, now: datetime) -> Hold | None:
    """Return why an action is not needed, if AWS has shown that another endpoint answers for its service."""
    hold = state.answered.get(action.service_name) if isinstance(action, CreateInterfaceEndpoint) else None
    return hold if hold and hold.until > now else None


def _unanswered(decision: Decision, evaluation: Evaluation, around: Circumstances) -> tuple[Decision, Evaluation]:
    """Leave out what is answered for; a person may know better."""
    told = {one: hold for one in evaluation.actions if (hold := answered(one, around.state, around.now))}
    if not told or around.approved_by:
        return decision, evaluation
    rest = replace(evaluation, actions=tuple(one for one in evaluation.actions if one not in told))
    note = " ".join(dict.fromkeys(hold.reason for hold in told.values()))
    until = min(hold.until for hold in told.values())
    if not rest.actions and not evaluation.remains:
        return replace(decision, note=note, needless=True, again_at=until), evaluation
    return replace(decision, evaluation=rest, note=note, again_at=until), rest


def _held(decision: Decision, otherwise: str, around: Circumstances) -> Decision | None:
    """Leave alone for a while what Portcullis made way on, what a person undid, and what AWS refused."""
    hold = around.state.hold_on(decision.control.id, around.now)
    if hold is None:
        return None
    return replace(decision, note=f"{hold.reason} {otherwise}", again_at=hold.until)


def _for_workloads(decision: Decision, settings: Settings, planned: str, around: Circumstances) -> Decision | None:
    """Ask, or wait for a change window, where something runs that the change would touch."""
    if around.impact is None or not around.impact.busy or settings.running_workloads is Mode.REMEDIATE:
        return None
    if not settings.change_windows:
        return replace(decision, note=_proposal(planned, "workloads run there"))
    window = around.state.window
    earliest = max(around.now, window.due_at) if window else around.now
    if open_at(settings.change_windows, earliest):
        return None
    opening = next_opening(settings.change_windows, earliest)
    when = f"in the change window that opens at {moment(opening)}" if opening else "once a change window opens"
    return replace(decision, note=f"Workloads run there: Portcullis will {planned} {when}.", again_at=opening)


def _settling(decision: Decision, planned: str, around: Circumstances) -> Decision | None:
    """Wait until the resource has been quiet for a while."""
    window = around.state.window
    if window is None or around.now >= window.due_at:
        return None
    note = (
        f"Portcullis will {planned} at {moment(window.due_at)}, unless that is done by then; "
        "more changes to it put that off."
    )
    return replace(decision, note=note, again_at=window.due_at)


def while_stopped(position: str, planned: str, *, asked: bool) -> str:
    """Say that the kill switch keeps a change from being made, and when it is looked at again.

    Args:
        position: The kill switch's.
        planned: What would be done, as a phrase after 'would'.
        asked: Whether a person asked for it: a request does not wait.
    """
    then = "Ask again when they go on." if asked else "It looks again with the next sweep."
    return f"Changes are stopped (kill switch: {position}); Portcullis would {planned}. {then}"


def exempted(exemption: Exemption) -> str:
    """Say who exempts a resource, until when and why, as a sentence."""
    until = moment(exemption.expires_at)
    return f"Exempt until {until} by {exemption.owner} ({exemption.name}): {exemption.reason.rstrip('.')}."


def moment(when: datetime) -> str:
    """Write a time for people: in UTC, to the minute, never too early."""
    rounded = when.astimezone(UTC) + timedelta(seconds=59, microseconds=999999)
    return f"{rounded:%Y-%m-%d %H:%M} UTC"


def _go(decision: Decision, planned: str, by: str) -> Decision:
    evaluation = decision.evaluation
    if evaluation is None or evaluation.wait:
        wait = evaluation.wait if evaluation else None
        return replace(decision, note=f"Portcullis will {planned} once that is possible ({wait}).", wait=wait, by=by)
    return replace(decision, note=f"Portcullis will {planned} now.", actions=evaluation.actions, by=by)


def _proposal(planned: str, why: str) -> str:
    return f"Portcullis proposes to {planned}; {why}. {HOW_TO_APPROVE}"
