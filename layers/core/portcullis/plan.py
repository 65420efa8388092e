"""From evaluations to decisions: what to do now, what to wait for, or why nothing is done. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portcullis.controls import CONTROLS, Control, Rule
from portcullis.model import Action, Evaluation, Kind, RecordKey, Snapshot, Status
from portcullis.policy import Mode, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided about one control on one resource.

    ``evaluation`` is None when there is nothing to judge any more: the resource is gone, or the control
    is off; ``note`` says which. ``actions`` are to be performed now. ``wait`` says what has to happen
    first. Otherwise ``note`` says, to the reader of the finding, what Portcullis does about it.
    """

    control: Rule
    kind: Kind
    resource_id: str
    evaluation: Evaluation | None
    actions: tuple[Action, ...] = ()
    wait: str | None = None
    note: str = ""

    @property
    def record_key(self) -> RecordKey:
        """The key of the record of its finding."""
        return (self.kind, self.resource_id, self.control.id)

    def fields(self, account_id: str, region: str) -> dict[str, object]:
        """Return what a log line says about it."""
        return {
            "account_id": account_id,
            "region": region,
            "resource_id": self.resource_id,
            "control": self.control.id,
        }


def decide(
    snapshot: Snapshot, resources: Iterable[tuple[Kind, str]], policy: Policy, controls: Sequence[Control] = CONTROLS
) -> list[Decision]:
    """Judge resources against every control of their kind, and decide what to do.

    Args:
        snapshot: What was observed, of a scope that names all of the resources.
        resources: Kind and id of each; one that the snapshot lacks is gone.
        policy: Modes and parameters.
        controls: The registry.
    """
    return [
        _decide(control, snapshot, kind, resource_id, policy)
        for kind, resource_id in resources
        for control in controls
        if control.kind is kind
    ]


def _decide(control: Control, snapshot: Snapshot, kind: Kind, resource_id: str, policy: Policy) -> Decision:
    resource = snapshot.get(kind, resource_id)
    if resource is None:
        return Decision(control, kind, resource_id, None, note=f"{resource_id} no longer exists.")
    mode = policy.mode(control.id)
    if mode is Mode.OFF:
        return Decision(control, kind, resource_id, None, note=f"The policy switched {control.id} off.")
    evaluation = control.evaluate(snapshot, resource, policy)
    if evaluation.status is not Status.FAILED:
        return Decision(control, kind, resource_id, evaluation)
    return _respond(control, evaluation, mode)


def _respond(control: Control, evaluation: Evaluation, mode: Mode) -> Decision:
    """Decide what to do about a failure."""
    planned = " and ".join(str(action) for action in evaluation.actions)
    actions: tuple[Action, ...] = ()
    wait = None
    if not planned:
        note = "Portcullis cannot mend this; a person can."
    elif mode is Mode.DETECT:
        note = f"Portcullis changes nothing in mode detect; in mode remediate it would {planned}."
    elif evaluation.wait:
        note, wait = f"Portcullis will {planned} once that is possible ({evaluation.wait}).", evaluation.wait
    else:
        note, actions = f"Portcullis will {planned} now.", evaluation.actions
    return Decision(control, evaluation.kind, evaluation.resource_id, evaluation, actions, wait, note)
