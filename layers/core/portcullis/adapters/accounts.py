"""Clients for member accounts, through their observer and remediator roles.

One session for all accounts, clients with their own credentials: a second session costs a hundred times
what a second client does. Role chaining allows sessions of one hour at most ("Roles terms and concepts", IAM
user guide); credentials are renewed well before they expire.

CloudTrail shows on whose behalf a call was made: every call carries the session's name, and the AssumeRole event the
session's tags ("Pass session tags in AWS STS", IAM user guide). The observer reads for many targets at once, so its
sessions name an account and Region; each of the remediator's names one target, message and trigger.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import CONFIG, translated
from portcullis.errors import NotAdmittedError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.model import Work

PERMISSIONS = ("sts:AssumeRole", "sts:TagSession")
"""The IAM actions that this module uses, with the function's own role."""

TARGET_TAG = "portcullis:target"
TRIGGER_TAG = "portcullis:trigger"

_RENEW_BEFORE = timedelta(minutes=5)
_OBSERVER_SECONDS = 3600
_REMEDIATOR_SECONDS = 900  # the shortest that STS gives: a session serves one message
_SESSIONS = 32  # held at once, so that a warm function that goes through the organisation does not grow
_REFUSED = ("AccessDenied", "AccessDeniedException")
_UNSAFE = re.compile(r"[^A-Za-z0-9_=,.@-]")
_LONGEST_NAME = 64


class Role(Enum):
    """The two roles that every member account has for Portcullis."""

    OBSERVER = "observer"
    REMEDIATOR = "remediator"


@dataclass(slots=True)
class _Session:
    name: str
    credentials: Mapping[str, Any]
    clients: dict[str, Any] = field(default_factory=dict)

    def lasts(self) -> bool:
        expiry: datetime = self.credentials["Expiration"]
        return expiry - datetime.now(UTC) >= _RENEW_BEFORE


class Accounts:
    """Hands out clients. ``partition`` is the AWS partition of them all.

    Args:
        session: The function's own boto3 session; its role may assume the roles in every account.
        partition: The AWS partition.
        role_names: Name of each role in the member accounts.
    """

    def __init__(self, session: Any, partition: str, role_names: Mapping[Role, str]) -> None:
        self._session = session
        self.partition = partition
        self._role_names = role_names
        self._sts = session.client("sts", config=CONFIG)
        self._sessions: OrderedDict[tuple[str, str, Role], _Session] = OrderedDict()

    def observer(self, service: str, account_id: str, region: str, *, at: str | None = None) -> Any:
        """Return a client that can read in an account and Region, and file findings.

        Args:
            service: As boto3 names it.
            account_id: The account.
            region: The Region that is looked at, for which credentials are cached.
            at: Another Region to call, for what must be asked elsewhere.

        Raises:
            NotAdmittedError: The role cannot be assumed: in a new account it may be on its way.
            TransientError: STS did not answer.
        """
        tags = {TARGET_TAG: f"{account_id}/{region}"}
        session = self._held(account_id, region, Role.OBSERVER, "portcullis-observer", tags)
        return self._client(session, service, at or region)

    def remediator(self, service: str, work: Work) -> Any:
        """Return a client that can make the changes for one message; raises what ``observer`` raises."""
        target = work.target
        name = _UNSAFE.sub("-", f"{target.resource_id}@{work.message_id}")[:_LONGEST_NAME]
        tags = {TARGET_TAG: target.key} | ({TRIGGER_TAG: work.cause.trigger} if work.cause.trigger else {})
        session = self._held(target.account_id, target.region, Role.REMEDIATOR, name, tags)
        return self._client(session, service, target.region)

    def _held(self, account_id: str, region: str, role: Role, name: str, tags: Mapping[str, str]) -> _Session:
        key = (account_id, region, role)
        session = self._sessions.pop(key, None)
        if session is None or session.name != name or not session.lasts():
            session = _Session(name, self._assume(account_id, role, name, tags))
        self._sessions[key] = session  # at the end: the one used last
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def _assume(self, account_id: str, role: Role, name: str, tags: Mapping[str, str]) -> Mapping[str, Any]:
        arn = f"arn:{self.partition}:iam::{account_id}:role/{self._role_names[role]}"
        with translated(f"assuming {arn}", TransientError):
            try:
                answer: dict[str, Any] = self._sts.assume_role(
                    RoleArn=arn,
                    RoleSessionName=name,
                    DurationSeconds=_OBSERVER_SECONDS if role is Role.OBSERVER else _REMEDIATOR_SECONDS,
                    Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in _REFUSED:
                    raise NotAdmittedError(f"{arn} cannot be assumed: it is missing or does not trust us") from error
                raise
        credentials: Mapping[str, Any] = answer["Credentials"]
        return credentials

    def _client(self, session: _Session, service: str, region: str) -> Any:
        key = f"{service}/{region}"
        if key not in session.clients:
            session.clients[key] = self._session.client(
                service,
                region_name=region,
                aws_access_key_id=session.credentials["AccessKeyId"],
                aws_secret_access_key=session.credentials["SecretAccessKey"],
                aws_session_token=session.credentials["SessionToken"],
                config=CONFIG,
            )
        return session.clients[key]
