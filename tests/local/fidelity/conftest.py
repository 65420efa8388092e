"""One moto server for all of these tests, patched once and emptied before each of them."""

from __future__ import annotations

import json
import logging
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

# Read when moto builds an account-Region: without it, each takes ten times as long.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

import boto3
from botocore.config import Config
from moto.iam.models import iam_backends
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from local import fidelity
from local.fidelity import ec2_instances, eventbridge

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBER = "111122223333"
OTHER = "222233334444"
HUB = "123456789012"
REGION = "eu-west-1"
ORGANISATION_ID = "o-exampleorgid"
_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, s3={"addressing_style": "path"})


@dataclass
class Aws:
    """Clients for the patched server, and what its hooks were told."""

    url: str
    calls: list[fidelity.ApiCall] = field(default_factory=list)
    failures: list[fidelity.DeliveryFailure] = field(default_factory=list)
    _clients: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def client(self, service: str, account_id: str = MEMBER, region: str = REGION) -> Any:
        """Return a client that acts as an unrestricted user of an account."""
        key = (service, account_id, region)
        if key not in self._clients:
            client = self.client_with_keys(service, {"AccessKeyId": "x", "SecretAccessKey": "x"}, region)

            def name_account(request: Any, **_: Any) -> None:
                request.headers["x-moto-account-id"] = account_id

            client.meta.events.register("before-sign", name_account)
            self._clients[key] = client
        return self._clients[key]

    def client_with_keys(self, service: str, keys: dict[str, str], region: str = REGION) -> Any:
        """Return a client that signs with the keys of a session."""
        connect: Any = boto3.client
        return connect(
            service,
            region_name=region,
            endpoint_url=self.url,
            config=_CONFIG,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys.get("SessionToken"),
        )

    def role(self, name: str, account_id: str = MEMBER, *, trust: Any = None, allow: Any = None) -> str:
        """Create a role that anybody may assume unless `trust` says otherwise; `allow` are statements."""
        backend = iam_backends[account_id]["aws"]
        anybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": trust or anybody})
        role = backend.create_role(name, document, "/", None, "", [], "3600")
        if allow is not None:
            role.policies["inline"] = json.dumps({"Version": "2012-10-17", "Statement": allow})
        return str(role.arn)

    def as_role(self, service: str, role_arn: str, region: str = REGION) -> Any:
        """Return a client with a session of a role, assumed over the API."""
        sts = self.client("sts", role_arn.split(":")[4], region)
        keys = sts.assume_role(RoleArn=role_arn, RoleSessionName="session")["Credentials"]
        return self.client_with_keys(service, keys, region)

    def queue(self, name: str, account_id: str = MEMBER, region: str = REGION, **attributes: str) -> tuple[str, str]:
        """Create a queue that EventBridge may send to; returns its URL and ARN."""
        arn = f"arn:aws:sqs:{region}:{account_id}:{name}"
        service = {"Service": "events.amazonaws.com"}
        statement = {"Effect": "Allow", "Principal": service, "Action": "sqs:SendMessage", "Resource": arn}
        attributes.setdefault("Policy", json.dumps({"Statement": [statement]}))
        sqs = self.client("sqs", account_id, region)
        return sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"], arn

    def received(self, url: str, account_id: str = MEMBER, region: str = REGION) -> list[dict[str, Any]]:
        """Return the parsed bodies of everything in a queue, once all events are delivered."""
        assert eventbridge.settle()
        bodies = []
        sqs = self.client("sqs", account_id, region)
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def watch(self, pattern: Any, account_id: str = MEMBER, region: str = REGION) -> str:
        """Send the default bus's events that match a pattern to a new queue; returns the queue's URL."""
        url, arn = self.queue("watch", account_id, region)
        events = self.client("events", account_id, region)
        events.put_rule(Name="watch", EventPattern=json.dumps(pattern))
        events.put_targets(Rule="watch", Targets=[{"Id": "queue", "Arn": arn}])
        return url


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Start the patched server on a free port; its URL."""
    fidelity.install()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running: Any = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    running.start()
    yield f"http://127.0.0.1:{port}"
    running.stop()


@pytest.fixture(scope="session")
def _shared_aws(server: str) -> Aws:
    return Aws(server)


@pytest.fixture
def aws(_shared_aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Return clients for an empty local AWS with fresh hooks, which are gone afterwards."""
    eventbridge.settle()
    moto_api_backend.reset()
    _shared_aws.calls, _shared_aws.failures = [], []
    # Long enough to be seen in between, short enough to wait for.
    monkeypatch.setattr(ec2_instances, "TRANSITION_SECONDS", 0.15)
    fidelity.install(
        fidelity.Hooks(
            on_api_call=_shared_aws.calls.append,
            on_delivery_failure=_shared_aws.failures.append,
            organisation_id=ORGANISATION_ID,
            is_member={HUB, MEMBER, OTHER}.__contains__,
        )
    )
    yield _shared_aws
    fidelity.install()


@pytest.fixture
def ec2(aws: Aws) -> Any:
    """Return an EC2 client of the member account."""
    return aws.client("ec2")


@pytest.fixture
def vpc_id(ec2: Any) -> str:
    """Create a VPC."""
    return str(ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])


def error_of(action: Any, **parameters: Any) -> tuple[str, str]:
    """Make a call that must fail; its error's code and message."""
    with pytest.raises(Exception, match="An error occurred") as caught:
        action(**parameters)
    error = caught.value.response["Error"]  # type: ignore[attr-defined]
    return error["Code"], error["Message"]
