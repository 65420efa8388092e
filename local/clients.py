"""The accounts and Regions of the local organisation, and boto3 clients for them."""

from __future__ import annotations

import os
import threading
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from .fidelity import cloudtrail
from .fidelity.calls import DEPLOYMENT_KEY

MANAGEMENT_ACCOUNT_ID = "555566667777"
"""Owns the organisation; no StackSet reaches it."""

HUB_ACCOUNT_ID = "123456789012"
MEMBER_ACCOUNT_IDS = ("111122223333", "222233334444", "333344445555", "444455556666")
ACCOUNT_IDS = (MANAGEMENT_ACCOUNT_ID, HUB_ACCOUNT_ID, *MEMBER_ACCOUNT_IDS)
MEMBER_ROLE_NAME = "OrganizationAccountAccessRole"
HOME_REGION = "us-east-1"
REGIONS = (HOME_REGION, "eu-west-1", "ap-northeast-1")

# The person's own AWS configuration must not leak in: a profile of theirs may even be missing.
_NOWHERE = (None, None, os.devnull, None)
_NO_CONFIGURATION = {"profile": (None,) * 4, "config_file": _NOWHERE, "credentials_file": _NOWHERE}
# A host name for each bucket is not to be had on every machine.
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 2}, s3={"addressing_style": "path"})

_GO = "aws-sdk-go-v2/1.32.5 ua/2.1 os/linux lang/go#1.23.3 md/GOOS#linux md/GOARCH#amd64 api/ec2#1.195.0"
_TERRAFORM = "terraform-provider-aws/5.80.0 (+https://registry.terraform.io/providers/hashicorp/aws)"
_CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
CALLERS = {
    "cloudformation": ("cloudformation.amazonaws.com", {cloudtrail.INVOKED_BY: "cloudformation.amazonaws.com"}),
    "console": (_CHROME, {cloudtrail.FROM_CONSOLE: "true"}),
    "pulumi": (f"APN/1.0 Pulumi/1.0 Pulumi-Aws/6.66.2 (+https://www.pulumi.com) {_GO}", {}),
    "terraform": (f"APN/1.0 HashiCorp/1.0 Terraform/1.9.8 (+https://www.terraform.io) {_TERRAFORM} {_GO}", {}),
}
"""The tools as which people can call: the user agent, and the headers that tell the local CloudTrail the rest."""


class Clients:
    """Makes clients of one endpoint, caches them, and closes them all at the end."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        # Any: the typed overloads of `client` accept literal service names only.
        self._session: Any = boto3.Session(botocore_session=botocore.session.Session(session_vars=_NO_CONFIGURATION))
        self._clients: dict[tuple[str | None, ...], Any] = {}
        self._keys: dict[str, tuple[str, ...]] = {HUB_ACCOUNT_ID: ("any", "any")}
        self._lock = threading.RLock()

    def client(
        self, service: str, account_id: str = HUB_ACCOUNT_ID, region: str = HOME_REGION, *, as_: str | None = None
    ) -> Any:
        """Return a client that acts as an administrator of `account_id` in `region`; `as_` is a tool of `CALLERS`."""
        key, names = (service, account_id, region, as_), ("access_key_id", "secret_access_key", "session_token")
        with self._lock:  # creating clients from one session is not thread-safe
            if account_id not in self._keys:
                role_arn = f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE_NAME}"
                answer = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="administrator")
                issued = answer["Credentials"]
                self._keys[account_id] = (issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])
            if key not in self._clients:
                keys = {f"aws_{name}": value for name, value in zip(names, self._keys[account_id], strict=False)}
                self._clients[key] = self._connect(service, region, keys, as_)
            return self._clients[key]

    def _connect(self, service: str, region: str, keys: dict[str, str], as_: str | None = None) -> Any:
        agent, headers = CALLERS[as_] if as_ else (None, {})
        config = _CONFIG.merge(Config(user_agent=agent)) if agent else _CONFIG
        client = self._session.client(
            service, region_name=region, endpoint_url=self.endpoint_url, config=config, **keys
        )

        def tell(request: Any, **_: Any) -> None:
            for name, value in headers.items():
                request.headers[name] = value

        client.meta.events.register("before-sign", tell)
        return client

    def close(self) -> None:
        """Close the connections of every client."""
        for client in self._clients.values():
            client.close()


class DeploymentClients(Clients):
    """Clients by which stacks are deployed: one for each service and Region serves all accounts, as making one is slow.

    moto takes the account from a header. A client is for calls that the same thread makes at once.
    """

    def __init__(self, endpoint_url: str) -> None:
        super().__init__(endpoint_url)
        self._keys[HUB_ACCOUNT_ID] = (DEPLOYMENT_KEY, "any")
        self._calling = threading.local()

    def client(
        self, service: str, account_id: str = HUB_ACCOUNT_ID, region: str = HOME_REGION, *, as_: str | None = None
    ) -> Any:
        """Return a client whose next calls are about `account_id`."""
        client = super().client(service, HUB_ACCOUNT_ID, region, as_=as_)
        self._calling.account_id = account_id
        return client

    def _connect(self, service: str, region: str, keys: dict[str, str], as_: str | None = None) -> Any:
        client = super()._connect(service, region, keys, as_)
        client.meta.events.register("before-sign", self._name_account)
        return client

    def _name_account(self, request: Any, **_: Any) -> None:
        request.headers["x-moto-account-id"] = self._calling.account_id
