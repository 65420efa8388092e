"""The one place where API calls pass: they may be refused here, and seen together with their answers.

Every moto service but S3 answers through `moto.core.responses.BaseResponse.call_action`.
"""

from __future__ import annotations

import functools
import uuid
from dataclasses import dataclass
from datetime import UTC
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.parsers import create_parser
from moto import backends
from moto.core.errors import COMMON_ERROR_CODES
from moto.core.exceptions import ServiceException
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol
from moto.core.responses import ActionResult, BaseResponse
from moto.core.utils import get_service_model
from moto.ec2.exceptions import DryRunClientError
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from . import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEPLOYMENT_KEY = "AKIALOCALDEPLOYMENT0"
"""The access key by which stacks are deployed: whose calls are those of a user `deployment`, not of people."""

READ_ONLY_VERBS = ("Describe", "Get", "BatchGet", "List", "Search", "Simulate", "Lookup")


class Refusal(ServiceException):
    """An error, with status 403, that is answered instead of what the service would answer."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signs a call: a session of a role, or an IAM user."""

    arn: str
    access_key_id: str
    name: str
    role_arn: str | None = None
    expires_at: float = 0.0

    @property
    def role_name(self) -> str:
        """The name of the assumed role; empty for a user."""
        return (self.role_arn or "").rsplit("/", 1)[-1]


class Call:
    """One API call that has arrived; everything that costs time is worked out when it is first asked for."""

    def __init__(self, http: Any, action: str | None = None) -> None:
        self.http = http
        self.account_id: str = http.current_account
        self.region: str = http.region
        self.service: str = http.boto3_service_name
        self.action: str = action or http._get_action() or ""

    @property
    def mutating(self) -> bool:
        """Whether CloudTrail would call it a write event."""
        return bool(self.action) and not self.action.startswith(READ_ONLY_VERBS)

    @functools.cached_property
    def principal(self) -> Principal:
        """Who signed the call: a role session, an IAM user, or an unnamed user of the account."""
        key_id, account_id = self.http.get_access_key(), self.account_id
        key = iam_backends[account_id]["aws"].access_keys.get(key_id)
        if key is not None and key.role_arn:
            # Newest first: the session that calls is nearly always a young one.
            for session in reversed(sts_backends[account_id]["aws"].assumed_roles):
                if session.access_key_id == key_id:
                    until = session.expiration.replace(tzinfo=UTC).timestamp()
                    return Principal(session.arn, key_id, session.session_name, session.role_arn, until)
        unnamed = "deployment" if key_id == DEPLOYMENT_KEY else "local"
        name = key.user_name if key is not None and key.user_name else unnamed
        return Principal(f"arn:aws:iam::{account_id}:user/{name}", key_id, name)

    @functools.cached_property
    def request(self) -> Mapping[str, Any]:
        """The parameters, under botocore's member names and with botocore's types."""
        http = self.http.normalized_request
        service_model = get_service_model(self.service)
        protocol = determine_request_protocol(service_model, http.content_type)
        parser = PROTOCOL_PARSERS[protocol](service_model.operation_model(self.action), map_type=dict)
        message = {"method": http.method, "values": http.values, "headers": http.headers, "body": http.data}
        return parser.parse({**message, "url_path": http.path, "url_params": self.http.uri_match}) or {}


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
        return {name: value for name, value in parsed.items() if name != "ResponseMetadata"}

    @property
    def error_code(self) -> str | None:
        """The service's error code, or None after a success."""
        return self.response["Error"]["Code"] if self.status >= HTTPStatus.BAD_REQUEST else None


def _report(call: Call, outcome: Outcome) -> None:
    """Tell the hook about a call, if it is one that the hook is promised."""
    if call.service in ("ec2", "iam", "securityhub", "sts"):
        about = (call.account_id, call.region, call.service, call.action)
        code, answer = (outcome.error_code, {}) if outcome.error_code else (None, outcome.response)
        hooks.installed.on_api_call(hooks.ApiCall(*about, code, call.principal.arn, call.request, answer))


def install(gate: Callable[[Call], None], observe: Callable[[Call, Outcome], None]) -> None:
    """Wrap moto's `call_action` (once: the caller sees to that).

    Args:
        gate: sees every call before it is served, and may raise `Refusal`.
        observe: sees every mutating call after it is served, in the thread that serves it.
    """
    original = BaseResponse.call_action
    # For every request moto lists its own folders, which takes longer than most answers.
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    # moto warns of codes that are not in the model of the service.
    COMMON_ERROR_CODES.extend(("AccessDenied", "AccessDeniedException", "InvalidAction", "UnsupportedPolicy"))
    COMMON_ERROR_CODES.extend(("InvalidClientTokenId", "UnrecognizedClientException"))
    COMMON_ERROR_CODES.extend(("ExpiredToken", "ExpiredTokenException", "RequestExpired"))

    def serve(call: Call) -> Any:
        try:
            gate(call)
            if call.service == "ec2" and call.mutating and call.request.get("DryRun"):
                # moto minds the parameter here and there only.
                return call.http.serialized(ActionResult(DryRunClientError()))
            return original(call.http)
        except NotImplementedError as error:  # moto's way, and ours, to say that something was never built
            refusal = Refusal("InvalidAction", f"The local AWS cannot do this: {error}")
        except Refusal as error:
            refusal = error
        _, headers, body = call.http.serialized(ActionResult(refusal))
        return 403, headers, body

    def call_action(http: Any) -> Any:
        call = Call(http)
        status, headers, body = serve(call)
        if call.mutating:
            outcome = Outcome(call, status, body)
            _report(call, outcome)
            observe(call, outcome)
        return status, headers, body

    BaseResponse.call_action = call_action
