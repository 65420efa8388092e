"""Clients for member accounts, through their observer and remediator roles.

One session for all accounts, clients with their own credentials: a second session costs a hundred times
what a second client does. Role chaining allows sessions of one hour at most ("Roles terms and concepts", IAM
user guide); credentials are renewed well before they expire.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from portcullis.adapters.calls import CONFIG, translated
from portcullis.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

PERMISSIONS = ("sts:AssumeRole",)
"""The IAM actions that this module uses, with the reconcile function's own role."""

_RENEW_BEFORE = timedelta(minutes=5)
_SESSION_SECONDS = 3600


class Role(Enum):
    """The two roles that every member account has for Portcullis."""

    OBSERVER = "observer"
    REMEDIATOR = "remediator"


class Accounts:
    """Hands out clients.

    Args:
        session: The function's own boto3 session; its role may assume the two roles in every account.
        partition: The AWS partition.
        role_names: Name of each role in the member accounts.
    """

    def __init__(self, session: Any, partition: str, role_names: Mapping[Role, str]) -> None:
        self._session = session
        self._partition = partition
        self._role_names = role_names
        self._sts = session.client("sts", config=CONFIG)
        self._credentials: dict[tuple[str, Role], dict[str, Any]] = {}
        self._clients: dict[tuple[str, str, str, Role], tuple[str, Any]] = {}

    def client(self, service: str, account_id: str, region: str, role: Role) -> Any:
        """Return a client of a service in an account and Region, with the credentials of a role there.

        Raises:
            TransientError: STS did not answer, or refused: in a new account the role may be on its way.
        """
        credentials = self._assume(account_id, role)
        key = (service, account_id, region, role)
        access_key, client = self._clients.get(key, (None, None))
        if access_key != credentials["AccessKeyId"]:
            client = self._session.client(
                service,
                region_name=region,
                aws_access_key_id=credentials["AccessKeyId"],
                aws_secret_access_key=credentials["SecretAccessKey"],
                aws_session_token=credentials["SessionToken"],
                config=CONFIG,
            )
            self._clients[key] = (credentials["AccessKeyId"], client)
        return client

    def _assume(self, account_id: str, role: Role) -> Any:
        held: Any = self._credentials.get((account_id, role))
        if held is None or held["Expiration"] - datetime.now(UTC) < _RENEW_BEFORE:
            arn = f"arn:{self._partition}:iam::{account_id}:role/{self._role_names[role]}"
            with translated(f"assuming {arn}", TransientError):
                held = self._sts.assume_role(
                    RoleArn=arn, RoleSessionName=f"portcullis-{role.value}", DurationSeconds=_SESSION_SECONDS
                )["Credentials"]
            self._credentials[account_id, role] = held
        return held
