"""boto3 clients for any account and Region of the local organisation."""

from __future__ import annotations

import os
import threading
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

HUB_ACCOUNT_ID = "123456789012"
HOME_REGION = "us-east-1"
MEMBER_ROLE_NAME = "OrganizationAccountAccessRole"

# The person's own AWS configuration must not leak in: a profile of theirs may even be missing.
_NO_CONFIGURATION = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


class Clients:
    """Makes clients of one endpoint, caches them, and closes them all at the end."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        # Any: the typed overloads of `client` accept literal service names only.
        self._session: Any = boto3.Session(botocore_session=botocore.session.Session(session_vars=_NO_CONFIGURATION))
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._credentials: dict[str, dict[str, str]] = {
            HUB_ACCOUNT_ID: {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        }
        self._lock = threading.RLock()

    def client(self, service: str, account_id: str = HUB_ACCOUNT_ID, region: str = HOME_REGION) -> Any:
        """Return a client that acts as an administrator of `account_id` in `region`."""
        with self._lock:  # creating clients from one session is not thread-safe
            key = (service, account_id, region)
            if key not in self._clients:
                self._clients[key] = self._session.client(
                    service,
                    region_name=region,
                    endpoint_url=self.endpoint_url,
                    config=Config(retries={"mode": "standard", "total_max_attempts": 2}),
                    **self._administrator_of(account_id),
                )
            return self._clients[key]

    def _administrator_of(self, account_id: str) -> dict[str, str]:
        if account_id not in self._credentials:
            role_arn = f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE_NAME}"
            answer = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="administrator")
            issued = answer["Credentials"]
            self._credentials[account_id] = {
                "aws_access_key_id": issued["AccessKeyId"],
                "aws_secret_access_key": issued["SecretAccessKey"],
                "aws_session_token": issued["SessionToken"],
            }
        return self._credentials[account_id]

    def close(self) -> None:
        """Close the connections of every client."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
