"""Stand-ins for what moto cannot do: prepared clients, and scripted answers of AWS, on two levels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.stub import Stubber
from portcullis.adapters.accounts import Accounts, Role
from portcullis.adapters.calls import CONFIG
from portcullis.model import Cause, Kind, Target, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boto3.session import Session

ACCOUNT = "111122223333"
OTHER_ACCOUNT = "222233334444"
REGION = "eu-central-1"
OTHER_REGION = "us-east-1"
HOME_REGION = "eu-west-1"
TABLE = "portcullis"


def work(message_id: str = "message-1", *, resource_id: str = "vpc-1", trigger: str = "", **place: str) -> Work:
    """Return a message about a VPC: in ``account_id`` and ``region``, or in ACCOUNT and REGION."""
    target = Target(place.get("account_id", ACCOUNT), place.get("region", REGION), Kind.VPC, resource_id)
    return Work(target, message_id, Cause(trigger))


class SetClock:
    """A clock that stands until it is set forward."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time."""
        return self.time


class PreparedAccounts(Accounts):
    """Hands out prepared clients instead of assuming roles, and remembers what was asked for."""

    def __init__(self, **clients: Any) -> None:
        self.partition = "aws"
        self.clients = clients
        self.asked: list[tuple[str, str, str, Role]] = []
        self.works: list[Work] = []

    def observer(self, service: str, account_id: str, region: str, *, at: str | None = None) -> Any:
        """Return the client that was prepared for a service. An exception in its place is raised."""
        return self._give(service, account_id, at or region, Role.OBSERVER)

    def remediator(self, service: str, work: Work) -> Any:
        """Do the same for a change; remembers the message as well."""
        self.works.append(work)
        return self._give(service, work.target.account_id, work.target.region, Role.REMEDIATOR)

    def _give(self, service: str, account_id: str, region: str, role: Role) -> Any:
        self.asked.append((service, account_id, region, role))
        prepared = self.clients[service]
        if isinstance(prepared, Exception):
            raise prepared
        return prepared


class Script:
    """A client of one service that answers from a script: every request is checked against the service model.

    Args:
        session: The boto3 session to make the client from.
        service: The service.
    """

    def __init__(self, session: Session, service: str) -> None:
        self.client: Any = session.client(service, region_name=REGION, config=CONFIG)  # type: ignore[call-overload]
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._stubber = Stubber(self.client)
        self._stubber.activate()
        self.client.meta.events.register("before-parameter-build", self._note)

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.requests.append((model.name, dict(params)))

    def expect(self, operation: str, answer: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> None:
        """Expect a call next, with exactly this request if one is given, and answer it."""
        self._stubber.add_response(operation, dict(answer), None if request is None else dict(request))

    def refuse(
        self, operation: str, code: str, message: str = "refused by the script", status: int = 400, **modelled: Any
    ) -> None:
        """Expect a call next, and refuse it. A stubbed error is final: botocore does not try again."""
        self._stubber.add_client_error(operation, code, message, http_status_code=status, modeled_fields=modelled)

    @property
    def calls(self) -> list[str]:
        """The names of the operations that were called, in order."""
        return [name for name, _ in self.requests]

    def finish(self) -> None:
        """Fail when something expected was not called."""
        self._stubber.assert_no_pending_responses()


class Wire:
    """Stands at the client's socket, below botocore's own retries.

    Args:
        client: The client whose requests it answers.
        answers: One per attempt: an error to raise, or status and body. The last one repeats.
    """

    def __init__(self, client: Any, *answers: Exception | tuple[int, str]) -> None:
        self.bodies: list[Any] = []
        self._answers = answers
        client.meta.events.register("before-send", self._send)

    @property
    def attempts(self) -> int:
        """How many times botocore tried."""
        return len(self.bodies)

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        answer = self._answers[min(self.attempts, len(self._answers) - 1)]
        self.bodies.append(request.body)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return AWSResponse(request.url, status, HTTPHeaders(), _Raw(body))


class _Raw:
    def __init__(self, body: str) -> None:
        self._body = body.encode()

    def stream(self, **_: Any) -> list[bytes]:
        return [self._body]


def ec2_error(code: str, message: str = "no", status: int = 400) -> tuple[int, str]:
    """Return EC2's way of saying no, as status and body."""
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>"
