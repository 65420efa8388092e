"""What a sweep consists of: listing what to look at, looking, and reporting what did not take part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis.coverage import COVERAGE_1, Answer, Problem, evaluate, state_of
from portcullis.errors import NotAdmittedError, ObservationError, PortcullisError, SecurityHubOffError, TransientError
from portcullis.filing import Filer
from portcullis.model import Kind, Status, trigger
from portcullis.plan import Decision

if TYPE_CHECKING:
    from collections.abc import Collection

    from portcullis.coverage import Coverage
    from portcullis.findings import Place
    from portcullis.loop import Loop
    from portcullis.ports import CoverageStore, FindingSink, Journal, Observer, SurveyPorts

PAGE = 2000
"""Account-Regions in one list: about 110 KB of the 256 KiB that a state of Step Functions may hold."""


class Sweep:
    """One look of a sweep, at everything in an account and Region. It changes nothing there."""

    def __init__(
        self, loop: Loop, observer: Observer, sink: FindingSink, coverage: CoverageStore, journal: Journal
    ) -> None:
        self._loop = loop
        self._observer = observer
        self._sink = sink
        self._coverage = coverage
        self._journal = journal

    def look(self, account_id: str, region: str, sweep_id: str) -> Answer:
        """Look, file what is new, enqueue what needs a change, and remember how that went.

        Raises:
            TransientError: What may succeed later; the state machine tries again.
        """
        try:
            answer = self._look(account_id, region, sweep_id)
        except SecurityHubOffError:
            answer = Answer(sweep_id, Problem.SECURITY_HUB)
        except NotAdmittedError as error:
            answer = Answer(sweep_id, Problem.ROLE, str(error))
        except ObservationError as error:
            answer = Answer(sweep_id, Problem.DENIED, str(error))
        except TransientError as error:
            self._remember(account_id, region, Answer(sweep_id, Problem.FAILED, str(error)))
            raise
        self._remember(account_id, region, answer)
        return answer

    def _look(self, account_id: str, region: str, sweep_id: str) -> Answer:
        if not self._observer.region_enabled(account_id, region):
            return Answer(sweep_id, Problem.REGION_OFF)
        if not self._sink.is_enabled(account_id, region):
            # Nothing is changed where nothing can be filed, so there is nothing to look for.
            return Answer(sweep_id, Problem.SECURITY_HUB)
        refused = self._loop.sweep(account_id, region, trigger("sweep", sweep_id))
        return Answer(sweep_id, Problem.REFUSED, refused[0]) if refused else Answer(sweep_id)

    def _remember(self, account_id: str, region: str, answer: Answer) -> None:
        self._coverage.answered(account_id, region, answer)
        if answer.problem and answer.problem is not Problem.REGION_OFF:
            text = f"not covered: {answer.problem} {answer.detail}".rstrip()
            self._journal.problem("uncovered", text, account_id=account_id, region=region)


class Survey:
    """The beginning and the end of a sweep, in the hub.

    Args:
        ports: The world; its sink is Security Hub of the hub's own account and Region.
        hub: Where the hub is.
        regions: The governed Regions.
        more_accounts: Accounts outside the target organisational units that must take part all the same.
    """

    def __init__(
        self, ports: SurveyPorts, *, hub: Place, regions: Collection[str], more_accounts: Collection[str] = ()
    ) -> None:
        self._ports = ports
        self._filer = Filer(ports.sink, ports.store, ports.journal, ports.clock)
        self._hub = hub
        self._regions = regions
        self._more_accounts = more_accounts

    def list(self, after: str = "") -> dict[str, Any]:
        """List what a sweep looks at, a page at a time.

        Args:
            after: What the page before gave as ``after``; empty for the first one.

        Raises:
            PortcullisError: There is no account at all, which must not read as if all were well.
            TransientError: The organisation or the table did not answer.

        Returns:
            ``items``, each with ``account_id`` and ``region``; ``after``, empty on the last page.
        """
        known = {(one.account_id, one.region): one for one in self._ports.coverage.all()}
        accounts = self._ports.directory.active_accounts() | set(self._more_accounts)
        if not accounts:
            raise PortcullisError("there is no active account below TargetOrganizationalUnitIds; are these ids right?")
        listed = {(account_id, region) for account_id in accounts for region in self._regions}
        if not after:
            self._remember(listed, known)
        places = sorted(listed)
        page = [place for place in places if "/".join(place) > after][:PAGE]
        more = bool(page) and page[-1] != places[-1]
        return {
            "items": [{"account_id": account_id, "region": region} for account_id, region in page],
            "after": "/".join(page[-1]) if more else "",
        }

    def report(self, sweep_id: str) -> dict[str, Any]:
        """File who does not take part, and close what was filed about those who do again.

        Returns:
            How many account-Regions are in which state.

        Raises:
            TransientError, ObservationError, PortcullisError: Security Hub of the hub did not take the findings.
        """
        hub, now = self._hub, self._ports.clock.now()
        management = self._ports.directory.management_account_id()
        store = self._ports.store
        known = store.open_records(hub.account_id, hub.region)
        records = {record.key: record for record in known if record.kind is Kind.ACCOUNT_REGION}
        listed = [one for one in self._ports.coverage.all() if one.listed]
        states: dict[str, int] = {}
        decisions = []
        for one in listed:
            state = state_of(one, now, is_management=one.account_id == management, sweep_id=sweep_id)
            states[state.word] = states.get(state.word, 0) + 1
            evaluation = evaluate(one, state)
            note = "The next sweep looks again."
            decisions.append(Decision(COVERAGE_1, Kind.ACCOUNT_REGION, one.resource_id, evaluation, note=note))
            if evaluation.status is Status.FAILED:
                self._ports.journal.problem(
                    "uncovered", evaluation.reason, account_id=one.account_id, region=one.region
                )
        judged = {decision.resource_id for decision in decisions}
        decisions += [
            Decision(COVERAGE_1, Kind.ACCOUNT_REGION, resource_id, None, note=f"{resource_id} is no longer governed.")
            for _, resource_id, _ in records
            if resource_id not in judged
        ]
        # Who is wanting without an open finding may have an archived one: an account may come back.
        failed = (d for d in decisions if d.evaluation and d.evaluation.status is Status.FAILED)
        fresh = [decision.record_key for decision in failed if decision.record_key not in records]
        records |= store.load(hub.account_id, hub.region, fresh)
        _, refusals = self._filer.file(hub, [(decision, ()) for decision in decisions], records)
        if refusals:
            raise PortcullisError(next(iter(refusals.values())).reason)
        self._ports.journal.step("surveyed", f"{len(judged)} account-Regions must take part", states=states)
        return {"account_regions": len(judged), "states": states}

    def _remember(self, listed: set[tuple[str, str]], known: dict[tuple[str, str], Coverage]) -> None:
        """Note who must take part, and forget who need not any more."""
        for place in sorted(listed):
            if place not in known or not known[place].listed:
                self._ports.coverage.list_place(*place)
        for place in sorted(known.keys() - listed):
            self._ports.coverage.forget(*place)
