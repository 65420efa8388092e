"""What people ask for: approve what a finding proposes, or undo what was changed.

They ask with a custom action of Security Hub, whose events come from the hub's default bus by way of a queue, or by
invoking the function (``portcullis approve``, ``portcullis undo``). Either names a finding or a change, and nothing
that comes with the name is believed: what it is about is looked up in what Portcullis itself has stored. A request that
holds is put on the work queue, where the loop looks at everything again before it obeys.

Whoever imports a finding chooses its id, too, and so could have people approve a change in another account, under a
text that says something else. Only its account and its product are Security Hub's word: a finding is taken for ours
when both are those of the resource that its id names.
Sources: "Creating custom actions and sending findings to EventBridge" (Security Hub user guide), for the event;
BatchImportFindings in the API reference (with the account's own product the caller must be the finding's account).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portcullis.batch import bury, failures
from portcullis.controls import CONTROLS
from portcullis.errors import PortcullisError, TransientError
from portcullis.findings import EXEMPT, parse_finding_id
from portcullis.ledger import Progress
from portcullis.model import Ask, Cause, Request, Target, trigger
from portcullis.triggers import CUSTOM_ACTION, SECURITY_HUB_SOURCE, moment_of, shown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from portcullis.batch import Message
    from portcullis.ledger import Change
    from portcullis.model import FindingRecord
    from portcullis.ports import Clock, DeadLetters, FindingStore, Journal, Ledger, WorkQueue

_CHANGE_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{10}")
_TITLES = {control.id: control.title for control in CONTROLS}
_OPEN = ("FAILED", "ACTIVE")


class RefusedError(PortcullisError):
    """A request that cannot be obeyed: why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class RequestPorts:
    """Everything that requests reach the world through."""

    store: FindingStore
    ledger: Ledger
    queue: WorkQueue
    dead_letters: DeadLetters
    journal: Journal
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Click:
    """The event of a custom action: what is asked for, by which event and when, about which findings.

    Of a finding its id, and the account and the product that filed it. The rest is not even read.
    """

    ask: Ask
    event_id: str
    at: datetime
    findings: Sequence[tuple[str, object, object]]


@dataclass(frozen=True, slots=True)
class _Wish:
    """A request that holds: what is asked for, about which resource; for an undo, the change."""

    ask: Ask
    target: Target
    control_id: str
    change: Change | None = None

    def described(self) -> dict[str, Any]:
        """Return it as JSON values, for the one who is to confirm it."""
        about = {
            "ask": self.ask.value,
            "control": f"{self.control_id} {_TITLES.get(self.control_id, '')}".rstrip(),
            "resource": f"{self.target.kind} {self.target.resource_id}",
            "account": self.target.account_id,
            "region": self.target.region,
        }
        if self.change is None:
            return about
        return about | {
            "change": self.change.change_id,
            "what": str(self.change.action),
            "made": self.change.made,
            "when": self.change.begun_at.isoformat(timespec="seconds"),
            "by": self.change.by,
        }


class Approval:
    """Takes requests of people.

    Args:
        ports: The world.
        hub_account_id: The account of the hub, where the custom actions are.
        actions: What each of our custom actions asks for, by its ARN.
    """

    def __init__(self, ports: RequestPorts, hub_account_id: str, actions: Mapping[str, Ask]) -> None:
        self._ports = ports
        self._hub_account_id = hub_account_id
        self._actions = actions

    def handle_events(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Obey the custom actions in a batch of the requests queue.

        Returns:
            A partial batch response. Somebody clicked: what cannot be obeyed goes to the dead-letter queue, with the
            reason; what may pass by itself comes again, and the queue's redrive ends that.
        """
        again: list[str] = []
        for message in messages:
            try:
                self._obey(message["body"])
            except RefusedError as error:
                again += bury(self._ports.dead_letters, self._ports.journal, message, str(error))
            except TransientError as error:
                self._ports.journal.problem("retry", f"a request could not be taken: {error}")
                again.append(message["messageId"])
        return failures(again)

    def answer(self, payload: object, request_id: str) -> dict[str, Any]:
        """Obey a request of the command line, or with ``check`` only say what it is about.

        Args:
            payload: ``{"ask": "remediate", "finding_id": ..., "by": ...}`` or ``{"ask": "undo", "change_id": ...,
                "by": ...}``, and ``"check": true``.
            request_id: The id of the invocation, by which the request is known in logs and in the ledger.

        Returns:
            ``accepted``; a ``message`` with the reason and the remedy, or with what happens next; when it is accepted,
            ``about``: what it concerns.
        """
        given = payload if isinstance(payload, dict) else {}
        try:
            wish = self._wish(given)
            if not given.get("check"):
                by = shown_name(given.get("by") or "somebody")
                self._send(wish, by, trigger("approval", request_id), self._ports.clock.now())
        except (RefusedError, TransientError) as error:
            why = str(error)
            if isinstance(error, TransientError):
                why = f"{why.rstrip('.')}. Nothing was asked for: try again in a minute."
            self._ports.journal.problem("refused", why, request_id=request_id)
            return {"accepted": False, "message": why}
        said = "Portcullis looks at it again and tells the result in a note on the finding, in a minute or two."
        return {"accepted": True, "message": said, "about": wish.described()}

    def _obey(self, body: str) -> None:
        """Send what the event of a custom action asks for. It has one finding; of several, each gets its chance."""
        click = self._read(body)
        by = f"a custom action of Security Hub (event {click.event_id})"
        refused = []
        for finding_id, account_id, product_arn in click.findings:
            try:
                _demand_own(finding_id, account_id, product_arn)
                wish = self._about_finding(click.ask, finding_id)
                self._send(wish, by, trigger("approval", click.event_id), click.at)
            except RefusedError as error:
                refused.append(str(error))
        if refused:
            raise RefusedError(" ".join(refused))

    def _read(self, body: str) -> _Click:
        try:
            event = json.loads(body)
            kind = (event["source"], event["detail-type"], event["account"])
            asks = [self._actions[arn] for arn in event["resources"] if arn in self._actions]
            findings = [
                (str(finding["Id"]), finding["AwsAccountId"], finding["ProductArn"])
                for finding in event["detail"]["findings"]
            ]
            event_id, at = shown_name(event["id"]), moment_of(event["time"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RefusedError(f"this is not the event of a custom action: {error!r}") from error
        if kind != (SECURITY_HUB_SOURCE, CUSTOM_ACTION, self._hub_account_id) or len(asks) != 1 or not findings:
            raise RefusedError("this is not the event of a custom action of Portcullis in the hub's account")
        if at is None:
            raise RefusedError("this is not the event of a custom action: it does not say when that was")
        return _Click(asks[0], event_id, at, findings)

    def _wish(self, payload: dict[str, Any]) -> _Wish:
        match payload:
            case {"ask": "remediate", "finding_id": str(finding_id)}:
                return self._about_finding(Ask.REMEDIATE, finding_id)
            case {"ask": "undo", "change_id": str(change_id)}:
                return self._undo(change_id)
        raise RefusedError('Ask for {"ask": "remediate", "finding_id": ...} or {"ask": "undo", "change_id": ...}.')

    def _about_finding(self, ask: Ask, finding_id: str) -> _Wish:
        parsed = parse_finding_id(finding_id)
        if parsed is None:
            raise RefusedError(
                "This is not the id of a finding of Portcullis about a VPC or an instance: portcullis/<control>/<ARN>."
            )
        place, key = parsed
        kind, resource_id, control_id = key
        record = self._ports.store.load(place.account_id, place.region, [key]).get(key)
        if record is None or control_id not in _TITLES:
            raise RefusedError(f"Portcullis has not filed {finding_id}; look its id up in Security Hub.")
        target = Target(place.account_id, place.region, kind, resource_id)
        if ask is Ask.REMEDIATE:
            _demand_open(record)
            return _Wish(ask, target, control_id)
        state = self._ports.ledger.states(place.account_id, place.region, [(kind, resource_id)])[kind, resource_id]
        change_id = state.latest(control_id)
        if change_id is None:
            raise RefusedError(f"Portcullis has changed nothing for {finding_id} that is still there to undo.")
        return self._undo(change_id)

    def _undo(self, change_id: str) -> _Wish:
        change = self._ports.ledger.get(change_id) if _CHANGE_ID.fullmatch(change_id) else None
        if change is None:
            raise RefusedError("There is no such change; `portcullis history` lists them with their ids.")
        if change.undone_by:
            raise RefusedError(f"{change_id} has been taken back by {change.undone_by} already.")
        if change.progress is not Progress.APPLIED:
            raise RefusedError(f"{change_id} is {change.progress}, so there is nothing to undo.")
        if change.action.takes_back:
            raise RefusedError(f"{change_id} took something back itself; approve the finding to have it made again.")
        target = Target(change.account_id, change.region, change.kind, change.resource_id)
        return _Wish(Ask.UNDO, target, change.action.control_id, change)

    def _send(self, wish: _Wish, by: str, name: str, at: datetime) -> None:
        request = Request(wish.ask, wish.control_id, by, wish.change.change_id if wish.change else "")
        self._ports.queue.send([(wish.target, Cause(name, request=request, at=at))])
        self._ports.journal.step(
            "requested",
            f"{wish.ask} {wish.control_id} on {wish.target.kind} {wish.target.resource_id}",
            account_id=wish.target.account_id,
            region=wish.target.region,
            resource_id=wish.target.resource_id,
            change_id=request.change_id,
            by=by,
            trigger=name,
        )


def _demand_own(finding_id: str, account_id: object, product_arn: object) -> None:
    """Refuse a finding that another account, Region or product filed about the resource that its id names."""
    parsed = parse_finding_id(finding_id)
    if parsed and (account_id, product_arn) != (parsed[0].account_id, parsed[0].product_arn):
        place = f"account {parsed[0].account_id} in {parsed[0].region}"
        raise RefusedError(f"{finding_id} was not filed by {place}: somebody else imported it.")


def _demand_open(record: FindingRecord) -> None:
    """Refuse what is not wrong any more, or not to be mended. What is being filed just now is known in a moment."""
    if record.status is None:
        raise TransientError("the finding is being filed just now")
    if record.status == EXEMPT:
        raise RefusedError("The policy exempts this resource; end the exemption there first.")
    if (record.status, record.record_state) != _OPEN:
        raise RefusedError(f"The finding is {record.status}, {record.record_state}: there is nothing to remediate.")
