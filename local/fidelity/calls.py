"""The one place where API calls pass: gates may refuse a call, observers learn how it was answered.

Every moto service but S3 answers through `moto.core.responses.BaseResponse.call_action`; that method is
wrapped here once, for `authorization` (a gate) and `cloudtrail` (an observer).
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from botocore.parsers import create_parser
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol
from moto.core.responses import BaseResponse
from moto.core.utils import get_service_model
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from moto.utilities.utils import get_partition

from . import hooks

READ_ONLY_VERBS = ("Describe", "Get", "BatchGet", "List", "Search", "Simulate", "Lookup")
_REPORTED_SERVICES = frozenset({"ec2", "iam", "securityhub"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signs a call. `role_arn` and `session_name` are set for an assumed role, `user_name` otherwise."""

    account_id: str
    arn: str
    access_key_id: str
    role_arn: str | None = None
    session_name: str | None = None
    user_name: str | None = None

    @property
    def role_name(self) -> str | None:
        """The name of the assumed role, without its path."""
        return self.role_arn.rsplit("/", 1)[-1] if self.role_arn else None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that a gate answers instead of the service."""

    code: str
    message: str
    status: int = 403


def identify(access_key_id: str, account_id: str, partition: str = "aws") -> Principal:
    """Return who owns an access key: a role session, an IAM user, or an unnamed user of the account."""
    key = iam_backends[account_id][partition].access_keys.get(access_key_id)
    if key is not None and key.role_arn:
        # Newest first: the session that calls is nearly always a young one.
        for session in reversed(sts_backends[account_id][partition].assumed_roles):
            if session.access_key_id == access_key_id:
                return Principal(account_id, session.arn, access_key_id, session.role_arn, session.session_name)
    user_name = key.user_name if key is not None and key.user_name else "local"
    arn = f"arn:{partition}:iam::{account_id}:user/{user_name}"
    return Principal(account_id, arn, access_key_id, user_name=user_name)


class Call:
    """One API call that has arrived; everything that costs time is worked out when it is first asked for."""

    def __init__(self, http: Any) -> None:
        self.http = http
        self.account_id: str = http.current_account
        self.region: str = http.region
        self.service: str = http.boto3_service_name
        self.action: str = http._get_action() or ""

    @property
    def mutating(self) -> bool:
        """Whether CloudTrail would call it a write event."""
        return bool(self.action) and not self.action.startswith(READ_ONLY_VERBS)

    @functools.cached_property
    def principal(self) -> Principal:
        """Who signed the call."""
        return identify(self.http.get_access_key(), self.account_id, get_partition(self.region))

    @functools.cached_property
    def request(self) -> Mapping[str, Any]:
        """The parameters, under botocore's member names and with botocore's types."""
        http = self.http.normalized_request
        service_model = get_service_model(self.service)
        protocol = determine_request_protocol(service_model, http.content_type)
        parser = PROTOCOL_PARSERS[protocol](service_model.operation_model(self.action), map_type=dict)
        message = {"method": http.method, "values": http.values, "headers": http.headers, "body": http.data}
        parsed = parser.parse({**message, "url_path": http.path, "url_params": self.http.uri_match})
        return parsed or {}

    @property
    def user_agent(self) -> str:
        """What the client says that it is."""
        return str(self.http.headers.get("User-Agent", ""))

    @property
    def source_address(self) -> str:
        """The address from which the client calls."""
        return str(self.http.normalized_request.remote_addr or "127.0.0.1")


class Outcome:
    """How a call was answered."""

    def __init__(self, call: Call, status: int, body: Any) -> None:
        self._call = call
        self.status = status
        self.body: bytes = body.encode() if isinstance(body, str) else (body or b"")
        self.request_id = str(uuid.uuid4())

    @functools.cached_property
    def response(self) -> Mapping[str, Any]:
        """The whole answer as boto3 would return it, `Error` included."""
        service_model = get_service_model(self._call.service)
        shape = service_model.operation_model(self._call.action).output_shape
        message = {"status_code": self.status, "headers": {}, "body": self.body}
        parsed = create_parser(service_model.protocol).parse(message, shape)
        parsed.pop("ResponseMetadata", None)
        return dict(parsed)

    @property
    def error_code(self) -> str | None:
        """The service's error code, or None after a success."""
        return self.response["Error"]["Code"] if self.status >= 400 else None  # noqa: PLR2004 - HTTP's own line


Gate = Callable[[Call], Refusal | None]
Observer = Callable[[Call, Outcome], None]
_gates: list[Gate] = []
_observers: list[Observer] = []


def add_gate(gate: Gate) -> None:
    """Let `gate` see every call before it is served; the first refusal is the answer."""
    _gates.append(gate)


def add_observer(observer: Observer) -> None:
    """Let `observer` see every mutating call after it is served, in the thread that serves it."""
    _observers.append(observer)


def _error_body(call: Call, refusal: Refusal) -> tuple[dict[str, str], str]:
    """Write an error the way the service's protocol does (botocore's parsers are the reference)."""
    model = get_service_model(call.service)
    protocol = determine_request_protocol(model, call.http.normalized_request.content_type)
    code, message = escape(refusal.code), escape(refusal.message)
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    if protocol == "ec2":
        body = f"<Response><Errors>{error}</Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
        return {"content-type": "text/xml"}, body
    if protocol in {"query", "rest-xml"}:
        body = f"<ErrorResponse>{error}<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
        return {"content-type": "text/xml"}, body
    body = json.dumps({"__type": refusal.code, "message": refusal.message})
    return {"content-type": "application/x-amz-json-1.1", "x-amzn-errortype": refusal.code}, body


def _report(call: Call, outcome: Outcome) -> None:
    """Tell the hook about a call, if it is one that the hook is promised."""
    if call.service not in _REPORTED_SERVICES:
        return
    error_code = outcome.error_code
    reported = hooks.ApiCall(
        account_id=call.account_id,
        region=call.region,
        service=call.service,
        action=call.action,
        error_code=error_code,
        principal_arn=call.principal.arn,
        request=call.request,
        response={} if error_code else outcome.response,
    )
    hooks.current().on_api_call(reported)


def install() -> None:
    """Wrap moto's `call_action` (once: the caller sees to that)."""
    original = BaseResponse.call_action

    def call_action(http: Any) -> Any:
        call = Call(http)
        refusal = next((answer for gate in _gates if (answer := gate(call))), None)
        if refusal is None:
            status, headers, body = original(http)
        else:
            headers, body = _error_body(call, refusal)
            status = refusal.status
        if call.mutating:
            outcome = Outcome(call, status, body)
            _report(call, outcome)
            for observer in _observers:
                observer(call, outcome)
        return status, headers, body

    BaseResponse.call_action = call_action
