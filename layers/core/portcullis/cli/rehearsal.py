"""What Portcullis would decide: its own decision code, over ports through which nothing can be changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from portcullis.deciding import Decider
from portcullis.ledger import ResourceState
from portcullis.model import Kind, Scope, Status
from portcullis.policy import Mode
from portcullis.ports import Changes, Ports

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from portcullis.controls import Control
    from portcullis.findings import Place
    from portcullis.model import Cause, Needs, Snapshot
    from portcullis.plan import Decision
    from portcullis.policy import Policy
    from portcullis.ports import Clock
    from portcullis.surroundings import Surroundings

ResourceKey = tuple[Kind, str]


class Seeing(Protocol):
    """What of the Observer port a decision needs."""

    def observe(self, scope: Scope, needs: Needs) -> Snapshot:
        """See ports.Observer."""

    def surroundings(
        self, account_id: str, region: str, vpc_ids: Collection[str], *, buckets: bool
    ) -> Mapping[str, Surroundings]:
        """See ports.Observer."""


class Knowing(Protocol):
    """What of the Directory port a decision needs."""

    def units_of(self, account_id: str) -> tuple[str, ...]:
        """See ports.Directory."""


class Would(StrEnum):
    """What Portcullis would do about what it finds.

    CHANGE: mend it, once nobody has changed the resource for a while, or in a change window. PROPOSE: ask for approval.
    REPORT: file a finding. EXEMPT: file one that says so. NOTHING: it is as it should be, or there is nothing to judge.
    """

    CHANGE = "change"
    PROPOSE = "propose"
    REPORT = "report"
    EXEMPT = "exempt"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """A decision, and where."""

    place: Place
    decision: Decision

    @property
    def status(self) -> str:
        """The verdict, EXEMPT for a failure that is exempt, NOT_RECORDED where a recording lacks the resource."""
        evaluation = self.decision.evaluation
        if evaluation is None:
            return "NOT_RECORDED"
        return "EXEMPT" if self.decision.exemption else str(evaluation.status)

    @property
    def would(self) -> Would:
        """What would be done about it."""
        one = self.decision
        if one.evaluation is None or one.evaluation.status is not Status.FAILED:
            return Would.NOTHING
        if one.exemption:
            return Would.EXEMPT
        if not one.possible:
            return Would.REPORT
        return Would.CHANGE if one.actions or one.wait or one.again_at else Would.PROPOSE


class Rehearsal:
    """Decides as a closer look does that remembers nothing, with the kill switch enabled.

    Args:
        seeing: What is there.
        directory: The units above the accounts.
        policy: What is wanted.
        controls: Those that judge.
        clock: The time.
    """

    def __init__(
        self, seeing: Seeing, directory: Knowing, policy: Policy, controls: Sequence[Control], clock: Clock
    ) -> None:
        self._clock = clock
        world: Any = seeing
        people: Any = directory
        nothing: Any = None  # what a decision has no use for, and could change something
        ports = Ports(
            observer=world,
            directory=people,
            switch=_Enabled(),
            journal=_Silent(),
            clock=clock,
            remediator=nothing,
            sink=nothing,
            store=nothing,
            ledger=nothing,
            queue=nothing,
            scheduler=nothing,
        )
        self.decider = Decider(ports, policy, controls)

    def everything(self, place: Place, cause: Cause) -> list[Finding]:
        """Decide about all VPCs and instances of an account and Region; raises what ``respond`` of Decider raises."""
        snapshot = self.decider.observe(Scope(place.account_id, place.region, everything=True))
        keys = [(kind, name) for kind in (Kind.VPC, Kind.INSTANCE) for name in sorted(snapshot.resources(kind))]
        return self.decide(place, snapshot, {key: [cause] for key in keys})

    def decide(self, place: Place, snapshot: Snapshot, causes: Mapping[ResourceKey, Sequence[Cause]]) -> list[Finding]:
        """Decide about some resources that were observed, each looked at for its causes; not by what is off there."""
        judged = self.decider.judge(place).judge(snapshot, causes, self._clock.now())
        states = self.decider.open_windows(judged, snapshot, {key: ResourceState(*key) for key in causes}, causes)
        decisions = self.decider.respond(place, snapshot, judged, states)
        return [Finding(place, one) for one in decisions if not (one.settings and one.settings.mode is Mode.OFF)]


class _Enabled:
    def position(self) -> Changes:
        return Changes.ENABLED


class _Silent:
    def step(self, step: str, message: str, /, **fields: object) -> None:
        """Say nothing: what there is to say is in the decisions."""

    problem = step
