"""The loop: observe, evaluate, plan, act, report. Events, retries and sweeps all come through here.

Level-triggered: a target says what to look at. Everything is read afresh, decided without side effects, and
only what differs is done, so any event may be lost, doubled or late. A look at a whole account and Region files
what needs no change, and puts what needs one on the work queue: every change is made under the message group of
its own VPC or instance, one at a time (see ``closer``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from portcullis import findings, yielding
from portcullis.closer import DONE, Answer, CloserLook, Verdict
from portcullis.controls import CONTROLS, Control
from portcullis.deciding import Decider
from portcullis.errors import ObservationError, SecurityHubOffError, TransientError
from portcullis.filing import Filer
from portcullis.model import Cause, Kind, Scope, Target, Work
from portcullis.settling import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from portcullis.ledger import ResourceState
    from portcullis.model import Snapshot
    from portcullis.plan import Decision
    from portcullis.policy import Policy
    from portcullis.ports import Ports


_LOGGED = 100  # ids in one log line, which has a limit


class Loop:
    """The loop over its ports, with one policy.

    Args:
        ports: The world.
        policy: What is wanted.
        partition: The AWS partition of the organisation (``aws``, ``aws-cn``, ...).
        controls: The registry; tests may pass their own.
        slack: Seconds between a change and, at the earliest, the look that its event causes (see ``work``).
    """

    def __init__(
        self,
        ports: Ports,
        policy: Policy,
        *,
        partition: str = "aws",
        controls: Sequence[Control] = CONTROLS,
        slack: float = 10,
    ) -> None:
        self._ports = ports
        self._partition = partition
        self._slack = timedelta(seconds=slack)
        self._decider = Decider(ports, policy, controls)
        self._filer = Filer(ports.sink, ports.store, ports.journal, ports.clock)
        self._closer = CloserLook(ports, policy, self._decider, self._filer)

    def run(self, work: Iterable[Work]) -> dict[Target, Answer]:
        """Bring every target to where the policy wants it, or say why not yet.

        Targets of one account and Region are observed together; equal targets are looked at once. An
        account and Region that cannot be read does not hold up the others.

        Returns:
            An answer for each distinct target; none is ever without one.
        """
        places: dict[tuple[str, str], dict[Target, list[Work]]] = defaultdict(dict)
        for item in work:
            places[item.target.account_id, item.target.region].setdefault(item.target, []).append(item)
        answers: dict[Target, Answer] = {}
        for (account_id, region), group in places.items():
            place = findings.Place(self._partition, account_id, region)
            wide = {target: items for target, items in group.items() if target.kind is Kind.ACCOUNT_REGION}
            narrow = {target: items for target, items in group.items() if target.kind is not Kind.ACCOUNT_REGION}
            for part, look in ((narrow, self._closer.look), (wide, self._expand)):
                try:
                    answers |= look(place, part) if part else {}
                except SecurityHubOffError as error:
                    # Not a dead letter for each event: COVERAGE.1 tells, and a sweep looks once it is on.
                    self._ports.journal.problem("unfiled", str(error), account_id=account_id, region=region)
                    answers |= dict.fromkeys(part, DONE)
                except (TransientError, ObservationError) as error:
                    verdict = Verdict.RETRY if isinstance(error, TransientError) else Verdict.BURY
                    answers |= dict.fromkeys(part, Answer(verdict, str(error)))
        return answers

    def sweep(self, account_id: str, region: str, trigger: str) -> list[str]:
        """Look at everything in an account and Region: file what needs no change, enqueue what needs one.

        A finding is archived only when everything was seen and its resource was not among it: a look that could
        not be completed raises, and files nothing.

        Returns:
            Why findings were refused for good, a sentence each; empty when all went well.

        Raises:
            TransientError, ObservationError: What could not be read or filed, and why.
        """
        return self._look_wide(findings.Place(self._partition, account_id, region), [Cause(trigger)])

    def _look_wide(self, place: findings.Place, causes: Sequence[Cause]) -> list[str]:
        account_id, region, began = place.account_id, place.region, self._ports.clock.now()
        records = {record.key: record for record in self._ports.store.open_records(account_id, region)}
        judge = self._decider.judge(place)
        wholly = any(cause.conflict for cause in causes)
        snapshot = self._decider.observe(Scope(account_id, region, everything=True), wholly=wholly)
        seen = {(kind, resource_id) for kind in (Kind.VPC, Kind.INSTANCE) for resource_id in snapshot.resources(kind)}
        resources = sorted(seen | {(kind, resource_id) for kind, resource_id, _ in records})
        judged = judge.judge(snapshot, resources, began)
        concerned = {decision.resource for decision in judged if decision.possible or decision.exemption}
        states = self._ports.ledger.states(account_id, region, sorted(concerned))
        decisions = self._decider.respond(place, snapshot, judged, states)
        settled = [(decision, ()) for decision in decisions if not (decision.actions or decision.wait)]
        taken, refusals = self._filer.file(place, settled, records)
        # What another look is at, or Security Hub did not take this time, deserves a closer one; what is gone, too:
        # that look forgets what is remembered of it.
        closer = {key for key, why in refusals.items() if why.transient}
        closer |= {key for key in taken if snapshot.get(key[0], key[1]) is None}
        if self._ports.clock.now() - began > self._slack:
            # What was filed may have changed since it was seen, and the look that its event caused be over.
            closer |= taken
        waiting = {(kind, resource_id) for kind, resource_id, _ in closer}
        waiting |= {one.resource for one in decisions if one.actions or one.wait or _is_unscheduled(one, states, began)}
        if any(cause.caller for cause in causes):
            # A call that named no VPC was perhaps about one whose window is open: then the window restarts.
            windows = {key: state.window for key, state in states.items()}
            waiting |= {key for key, one in windows.items() if one and one.seen != digest(snapshot.get(*key))}
        targets = [Target(account_id, region, kind, resource_id) for kind, resource_id in sorted(waiting)]
        self._ports.queue.send(_orders(targets, causes, snapshot))
        self._ports.journal.step(
            "swept",
            f"looked at {len(snapshot.vpcs)} VPCs and {len(snapshot.instances)} instances: "
            f"{len(taken)} findings filed, {len(targets)} need a closer look",
            account_id=account_id,
            region=region,
            resource_ids=[target.resource_id for target in targets][:_LOGGED],
        )
        return sorted(why.reason for why in refusals.values() if not why.transient)

    def _expand(self, place: findings.Place, work: Mapping[Target, Sequence[Work]]) -> dict[Target, Answer]:
        refused = self._look_wide(place, [item.cause for items in work.values() for item in items])
        answer = Answer(Verdict.BURY, refused[0]) if refused else DONE
        return dict.fromkeys(work, answer)


def _is_unscheduled(decision: Decision, states: Mapping[tuple[Kind, str], ResourceState], now: datetime) -> bool:
    """Tell whether a look at the time that a decision names is still to be scheduled, or may have been lost."""
    if decision.again_at is None:
        return False
    scheduled: datetime | None = states[decision.resource].again_at
    return scheduled is None or scheduled > decision.again_at or scheduled <= now


def _orders(targets: Iterable[Target], causes: Iterable[Cause], snapshot: Snapshot) -> list[tuple[Target, Cause]]:
    """Pass on what needs a closer look, and the conflicts to the VPCs that they are about."""
    scope = snapshot.scope
    indirect = {cause.caller: replace(cause, indirect=True, conflict=None) for cause in causes}
    orders = [(target, cause) for target in targets for cause in indirect.values()]
    for cause in causes:
        conflict = cause.conflict
        concerned = [vpc.vpc_id for vpc in snapshot.vpcs.values() if conflict and yielding.concerns(conflict, vpc)]
        orders += [(Target(scope.account_id, scope.region, Kind.VPC, vpc_id), cause) for vpc_id in concerned]
    return orders
