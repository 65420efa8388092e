"""Fixtures of the adapter tests: pretend credentials, no network, moto, scripted clients."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.httpsession import URLLib3Session
from botocore.loaders import create_loader
from moto import mock_aws
from portcullis.adapters.accounts import Accounts, Role
from portcullis.adapters.calls import CONFIG

from tests.adapters.doubles import REGION, TABLE, Script, SetClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test pretend credentials, and no network whatever it forgets to mock."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_SESSION_TOKEN": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)

    def refuse(_: URLLib3Session, request: Any) -> None:
        raise AssertionError(f"this test would have called {request.url}")

    monkeypatch.setattr(URLLib3Session, "send", refuse)


_LOADER = cache(create_loader)


@pytest.fixture(autouse=True)
def _models_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sessions that a test's subject makes share the service models, which take longest to read."""
    monkeypatch.setattr("botocore.session.create_loader", _LOADER)


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """Return one session for all tests: clients of a session share the service models, which are large."""
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleep in no time; returns the list that collects for how long it would have been."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.fixture
def script(session: boto3.Session) -> Iterator[Callable[[str], Script]]:
    """Make scripted clients; at the end, everything that was expected must have been called."""
    made: list[Script] = []

    def make(service: str) -> Script:
        made.append(Script(session, service))
        return made[-1]

    yield make
    for each in made:
        each.finish()


@pytest.fixture
def aws() -> Iterator[None]:
    """Run the test inside moto's AWS."""
    with mock_aws():
        yield


@pytest.fixture
def accounts(aws: None, session: boto3.Session) -> Accounts:  # noqa: ARG001 - it has to run inside moto
    """Return the real thing: clients for member accounts, through roles, inside moto."""
    return Accounts(session, "aws", {Role.OBSERVER: "portcullis-observer", Role.REMEDIATOR: "portcullis-remediator"})


@pytest.fixture
def member(aws: None, session: boto3.Session) -> Callable[..., Any]:  # noqa: ARG001 - it has to run inside moto
    """Make clients of people in member accounts: ``member("ec2", account_id, region)``."""

    def make(service: str, account_id: str, region: str = REGION) -> Any:
        arn = f"arn:aws:iam::{account_id}:role/people"
        given = session.client("sts").assume_role(RoleArn=arn, RoleSessionName="people")["Credentials"]
        keys = {"aws_access_key_id": given["AccessKeyId"], "aws_secret_access_key": given["SecretAccessKey"]}
        client: Any = session.client(service, region_name=region, **keys, aws_session_token=given["SessionToken"])  # type: ignore[call-overload]
        return client

    return make


@pytest.fixture
def table(aws: None, session: boto3.Session) -> Any:  # noqa: ARG001 - it has to run inside moto
    """Make the hub's table in moto; returns its client, which notes the operations that it called in ``calls``."""
    client: Any = session.client("dynamodb", config=CONFIG)
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    client.calls = []
    client.meta.events.register("before-parameter-build", lambda model, **_: client.calls.append(model.name))
    return client


@pytest.fixture
def dynamodb(script: Callable[[str], Script]) -> Script:
    """Return a scripted DynamoDB."""
    return script("dynamodb")


@pytest.fixture
def clock() -> SetClock:
    """Return a clock that stands."""
    return SetClock()
