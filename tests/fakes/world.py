"""The whole small world, wired as the deployed functions are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from portcullis.batch import Intake, Reconcile
from portcullis.errors import TransientError
from portcullis.loop import Loop
from portcullis.model import Ask, Caller, Cause
from portcullis.policy import Limits, Mode, Policy, parse
from portcullis.ports import Ports, SurveyPorts
from portcullis.survey import Survey, Sweep

from tests.fakes.aws import FakeAws
from tests.fakes.calls import Calls, CrashError, FakeClock
from tests.fakes.hub import FakeSecurityHub
from tests.fakes.memory import FakeCoverageStore, FakeDirectory, FakeLedger, FakeStore
from tests.fakes.names import ACCOUNT, HUB, REGION, REMEDIATOR_ROLE, PlaceKey
from tests.fakes.queue import FakeDeadLetters, FakeJournal, FakeQueue, FakeScheduler, FakeSwitch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from portcullis.coverage import Answer
    from portcullis.model import Target
    from portcullis.policy import Settings, Subject


class _AtOnce(Policy):
    """A policy that no file can hold: changes wait for nothing, so that a test need not, either."""

    def settings(self, subject: Subject, control_id: str) -> Settings:
        """Return what holds, without windows."""
        nothing = timedelta()
        settings = super().settings(subject, control_id)
        return replace(settings, settle=dict.fromkeys(Caller, nothing), longest=nothing)


def policy_of(more: Mapping[str, Any] | None = None, /, **modes: Mode) -> Policy:
    """Return a policy: the first controls in mode remediate, at once, but for what is given (``VPCE_1=Mode.OFF``)."""
    careful = careful_policy(more, **modes)
    held = {item.name: getattr(careful, item.name) for item in fields(Policy)}
    return _AtOnce(**held | {"limits": Limits(*[10**6] * 3)})


def careful_policy(more: Mapping[str, Any] | None = None, /, **modes: Mode) -> Policy:
    """Return a policy as a file gives it: every control in mode remediate, but for those given; and ``more`` of it."""
    given = {name.replace("_", "."): mode for name, mode in modes.items()}
    modes = dict.fromkeys(("VPCE.1", "VPCE.2", "ROLE.1"), Mode.REMEDIATE) | given
    controls = {control_id: {"mode": str(mode)} for control_id, mode in modes.items()}
    return parse({"version": 1, "controls": controls} | dict(more or {}))


class World:
    """All fakes, wired as the four functions are."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.calls = Calls()
        self.clock = FakeClock()
        self.aws = FakeAws(self.calls)
        self.hub = FakeSecurityHub(self.calls)
        self.store = FakeStore(self.calls)
        self.queue = FakeQueue(self.calls, self.clock)
        self.dead_letters = FakeDeadLetters(self.calls)
        self.coverage = FakeCoverageStore(self.calls, self.clock)
        self.directory = FakeDirectory(self.calls)
        self.journal = FakeJournal()
        self.ledger = FakeLedger(self.calls, self.clock)
        self.scheduler = FakeScheduler(self.calls, self.clock, self.queue)
        self.switch = FakeSwitch(self.calls)
        self.ports = Ports(
            observer=self.aws,
            remediator=self.aws,
            sink=self.hub,
            store=self.store,
            ledger=self.ledger,
            queue=self.queue,
            scheduler=self.scheduler,
            switch=self.switch,
            directory=self.directory,
            journal=self.journal,
            clock=self.clock,
        )
        self.intake = Intake(self.queue, self.dead_letters, self.coverage, self.journal, (REMEDIATOR_ROLE,))
        self._sweeps = 0
        self.set_policy(policy or policy_of())

    def set_policy(self, policy: Policy) -> None:
        """Deploy another policy."""
        self.loop = Loop(self.ports, policy)
        self.reconcile = Reconcile(self.loop, self.queue, self.dead_letters, self.journal)
        self.sweeper = Sweep(self.loop, self.aws, self.hub, self.coverage, self.journal)

    def survey(self, *regions: str, more_accounts: Collection[str] = ()) -> Survey:
        """Return the survey of some Regions (one by default)."""
        ports = SurveyPorts(self.directory, self.coverage, self.hub, self.store, self.journal, self.clock)
        return Survey(ports, hub=HUB, regions=regions or (REGION,), more_accounts=more_accounts)

    def sweep(self, *places: PlaceKey) -> list[Answer]:
        """Look at everything in each of some places (one by default), as the state machine does."""
        self._sweeps += 1
        return [self.sweeper.look(*place, f"s-{self._sweeps}") for place in places or ((ACCOUNT, REGION),)]

    def sweep_organisation(self, survey: Survey | None = None) -> dict[str, int]:
        """Run the state machine: list, look, report. Returns how many account-Regions are in which state."""
        survey = survey or self.survey()
        self._sweeps += 1
        after: str | None = None
        while after != "":
            page = survey.list(after or "")
            after = page["after"]
            for item in page["items"]:
                with suppress(TransientError):
                    self.sweeper.look(item["account_id"], item["region"], f"s-{self._sweeps}")
        states: dict[str, int] = survey.report(f"s-{self._sweeps}")["states"]
        return states

    def enqueue(self, *targets: Target, cause: Cause | None = None) -> None:
        """Put targets on the work queue."""
        for target in targets:
            self.queue.send([(target, self._known(target, cause or Cause("test")))])

    def _known(self, target: Target, cause: Cause) -> Cause:
        """Fill in what intake and approval know: when it came about, and the finding's latest change."""
        if cause.conflict or cause.request:
            cause = replace(cause, at=cause.at or self.clock.now())
        request = cause.request
        if request and request.ask is Ask.UNDO and not request.change_id:
            key = (target.account_id, target.region, target.kind, str(target.resource_id))
            state = self.ledger.kept.get(key)
            change_id = (state.latest(request.control_id) if state else None) or ""
            cause = replace(cause, request=replace(request, change_id=change_id))
        return cause

    def process(self, seconds: float) -> None:
        """Let so many seconds pass; whatever becomes visible or is due meanwhile is handled."""
        end = self.clock.now() + timedelta(seconds=seconds)
        while True:
            self.scheduler.fire()
            batch = self.queue.receive()
            if batch:
                self._handle(batch)
                continue
            times = [self.queue.next_at()] if self.queue.waiting else []
            times += [when] if (when := self.scheduler.next_at()) else []
            if not times or min(times) > end:
                break
            self.clock.set(max(min(times), self.clock.now()))
        self.clock.set(end)

    def drain(self, most: int = 1000) -> None:
        """Handle batches, moving the clock on as needed, until the work queue is empty."""
        for _ in range(most):
            batch = self.queue.receive()
            if batch:
                self._handle(batch)
            elif self.queue.waiting:
                self.clock.set(max(self.queue.next_at(), self.clock.now()))
            else:
                return
        raise AssertionError(f"the work queue is not empty after {most} rounds: {self.queue.waiting}")

    def stop_trouble(self) -> None:
        """From now on, everything goes well."""
        self.calls.stop_trouble()
        self.hub.stop_trouble()

    def _handle(self, batch: list[dict[str, Any]]) -> None:
        try:
            response = self.reconcile.handle(batch)
        except (CrashError, TransientError):
            return  # the messages become visible again after the visibility timeout
        self.queue.settle(batch, response)
