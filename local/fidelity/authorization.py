"""Who may do what: trust policies for everybody, identity policies for the project's own roles.

Source: IAM User Guide, "Policy evaluation logic" and "Role trust policies"; STS API Reference, AssumeRole.
moto lets anybody assume roles that do not exist, and its own enforcement knows no conditions. Sessions of
roles whose name starts with `portcullis` are held to their policies on every call; all others may do
everything, so that people of the local organisation need no policies.
"""

from __future__ import annotations

import logging
from typing import Any

from moto.s3.exceptions import S3AccessDeniedError
from moto.s3.responses import S3Response
from moto.sts.models import sts_backends
from moto.utilities.utils import get_partition

from . import calls, policies
from .calls import Call, Principal, Refusal
from .permissions import caller_context, permissions
from .roles import RoleNotFoundError, decide_for_role, role_by_arn, trust_statements, trusts_service

__all__ = ["AssumeRoleDeniedError", "assume_role_as_service", "install"]

ENFORCED_PREFIX = "portcullis"
_log = logging.getLogger(__name__)
_JSON_SERVICES_WITH_QUERY_CODES = {"sqs"}
_QUERY_SERVICES = {"iam", "sts", "sns", "cloudformation", "cloudwatch", "autoscaling"}


class AssumeRoleDeniedError(Exception):
    """A service may not assume a role."""


def assume_role_as_service(role_arn: str, session_name: str, *, service: str, region: str) -> dict[str, str]:
    """Return credentials of a role session for an AWS service, as the service gets them behind the scenes.

    Args:
        role_arn: the role, in any account.
        session_name: the session's name; Lambda uses the function's.
        service: the service principal that assumes it, such as `lambda.amazonaws.com`.
        region: where the service runs.

    Returns:
        `AccessKeyId`, `SecretAccessKey` and `SessionToken`.

    Raises:
        AssumeRoleDeniedError: the role does not exist or does not trust the service.
        UnsupportedPolicyError: its trust policy cannot be evaluated.
    """
    try:
        role = role_by_arn(role_arn)
    except RoleNotFoundError as error:
        raise AssumeRoleDeniedError(str(error)) from error
    if not trusts_service(role, service):
        raise AssumeRoleDeniedError(f"{role_arn} does not trust {service}")
    backend = sts_backends[role.account_id][get_partition(region)]
    session = backend.assume_role(
        region_name=region,
        role_session_name=session_name,
        role_arn=role_arn,
        policy=None,
        duration=3600,
        external_id=None,
    )
    return {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "SessionToken": session.session_token,
    }


def _is_enforced(principal: Principal) -> bool:
    return (principal.role_name or "").startswith(ENFORCED_PREFIX)


def _denial(call: Call, request: policies.Request, reason: str) -> Refusal:
    """Word a refusal as the service does; both texts name the principal, the action and the resource."""
    on_resource = f" on resource: {request.resource}" if request.resource else ""
    message = f"User: {call.principal.arn} is not authorized to perform: {request.action}{on_resource} {reason}"
    if call.service == "ec2":
        return Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {message}")
    if call.service in _QUERY_SERVICES | _JSON_SERVICES_WITH_QUERY_CODES:
        return Refusal("AccessDenied", message)
    return Refusal("AccessDeniedException", message)


def _check_identity(call: Call) -> Refusal | None:
    """Refuse a call of an enforced session that the role's own policies do not allow."""
    role = role_by_arn(str(call.principal.role_arn))
    for request in permissions(call):
        decision = decide_for_role(role, request)
        if decision == "denied":
            return _denial(call, request, "with an explicit deny in an identity-based policy")
        if decision == "not allowed":
            return _denial(call, request, f"because no identity-based policy allows the {request.action} action")
    return None


def _check_trust(call: Call) -> Refusal | None:
    """Refuse AssumeRole when the role is missing or its trust policy does not name the caller."""
    principal = call.principal
    role_arn = str(call.request.get("RoleArn"))
    external_id = call.request.get("ExternalId")
    context = caller_context(call) | ({"sts:externalid": [external_id]} if external_id else {})
    request = policies.Request("sts:AssumeRole", role_arn, context)
    try:
        role = role_by_arn(role_arn)
    except (RoleNotFoundError, ValueError):
        return _denial(call, request, "")
    arns = [arn for arn in (principal.arn, principal.role_arn) if arn]
    decision = policies.decide_for_principal(
        trust_statements(role), request, account_id=principal.account_id, arns=arns
    )
    return None if decision == "allowed" else _denial(call, request, "")


def _gate(call: Call) -> Refusal | None:
    """Decide about one call."""
    assumes = (call.service, call.action) == ("sts", "AssumeRole")
    enforced = _is_enforced(call.principal)
    try:
        refusal = _check_identity(call) if enforced else None
        return _check_trust(call) if refusal is None and assumes else refusal
    except RoleNotFoundError as error:
        # AWS, too, refuses sessions whose role is gone.
        return Refusal("AccessDenied", str(error))
    except policies.UnsupportedPolicyError as error:
        _log.exception("%s %s cannot be authorised", call.service, call.action)
        return Refusal("UnsupportedPolicy", f"{call.action} cannot be authorised here: {error}", status=400)


def _guard_s3() -> None:
    """Refuse S3 to enforced sessions: it bypasses `call_action`, so nothing would check its calls."""
    original = S3Response._authenticate_and_authorize_s3_action

    def authorise(http: Any, *args: Any, **kwargs: Any) -> None:
        if _is_enforced(calls.identify(http.get_access_key(), http.current_account, http.partition)):
            _log.error("S3 permissions are not evaluated here; refused")
            raise S3AccessDeniedError
        original(http, *args, **kwargs)

    S3Response._authenticate_and_authorize_s3_action = authorise


def install() -> None:
    """Put authorisation before every API call (once: the caller sees to that)."""
    calls.add_gate(_gate)
    _guard_s3()
