"""Clients for member accounts: credentials per account and role, renewed in time; clients reused meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.adapters.accounts import Accounts, Role
from portcullis.adapters.calls import CONFIG
from portcullis.errors import TransientError

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

ROLES = {Role.OBSERVER: "the-observer", Role.REMEDIATOR: "the-remediator"}


class FakeSts:
    """Answers AssumeRole with new credentials each time, which expire after ``lifetime``."""

    def __init__(self) -> None:
        self.lifetime = timedelta(hours=1)
        self.assumed: list[str] = []

    def assume_role(self, **request: Any) -> dict[str, Any]:
        """Note the role, and give credentials."""
        self.assumed.append(request["RoleArn"])
        return {
            "Credentials": {
                "AccessKeyId": f"key-{len(self.assumed)}",
                "SecretAccessKey": "secret",
                "SessionToken": "token",
                "Expiration": datetime.now(UTC) + self.lifetime,
            }
        }


class FakeSession:
    """Counts the clients that are made; each is a new object."""

    def __init__(self) -> None:
        self.sts = FakeSts()
        self.made: list[dict[str, Any]] = []

    def client(self, service: str, **arguments: Any) -> Any:
        """Make a client."""
        if service == "sts":
            return self.sts
        self.made.append({"service": service, **arguments})
        return object()


@pytest.fixture
def fake() -> FakeSession:
    """Return a session that counts."""
    return FakeSession()


@pytest.fixture
def cached(fake: FakeSession) -> Accounts:
    """Return Accounts over the session that counts."""
    return Accounts(fake, "aws", ROLES)


def test_clients_act_in_their_account(accounts: Accounts) -> None:
    """Two accounts and their roles: each client is the role in the account that it was asked for."""
    for account_id in (ACCOUNT, OTHER_ACCOUNT):
        for role in Role:
            identity = accounts.client("sts", account_id, REGION, role).get_caller_identity()
            assert identity["Account"] == account_id
            assert f"assumed-role/portcullis-{role.value}/" in identity["Arn"]


def test_clients_of_two_accounts_see_different_things(accounts: Accounts) -> None:
    """What is made in one account and Region is not seen in another."""
    made = accounts.client("ec2", ACCOUNT, REGION, Role.REMEDIATOR).create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    def seen(account_id: str, region: str) -> set[str]:
        vpcs = accounts.client("ec2", account_id, region, Role.OBSERVER).describe_vpcs()["Vpcs"]
        return {vpc["VpcId"] for vpc in vpcs}

    assert made in seen(ACCOUNT, REGION)
    assert made not in seen(OTHER_ACCOUNT, REGION)
    assert made not in seen(ACCOUNT, OTHER_REGION)


def test_the_client_carries_the_role_s_credentials(fake: FakeSession, cached: Accounts) -> None:
    """A client gets the credentials, the Region, and the timeouts and retries of all clients."""
    cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER)

    assert fake.made == [
        {
            "service": "ec2",
            "region_name": REGION,
            "aws_access_key_id": "key-1",
            "aws_secret_access_key": "secret",
            "aws_session_token": "token",
            "config": CONFIG,
        }
    ]


def test_a_role_is_assumed_once_per_account(fake: FakeSession, cached: Accounts) -> None:
    """Services and Regions of one account and role share one AssumeRole; another account or role does not."""
    for account_id in (ACCOUNT, OTHER_ACCOUNT):
        for role in Role:
            for service in ("ec2", "iam"):
                for region in (REGION, OTHER_REGION):
                    cached.client(service, account_id, region, role)

    assert sorted(fake.sts.assumed) == [
        f"arn:aws:iam::{account_id}:role/{name}"
        for account_id in (ACCOUNT, OTHER_ACCOUNT)
        for name in ("the-observer", "the-remediator")
    ]


def test_a_client_is_reused_while_its_credentials_hold(fake: FakeSession, cached: Accounts) -> None:
    """Making a client is expensive: the same service, account, Region and role give the same one."""
    first = cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER)

    assert cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER) is first
    others = [
        cached.client("iam", ACCOUNT, REGION, Role.OBSERVER),
        cached.client("ec2", OTHER_ACCOUNT, REGION, Role.OBSERVER),
        cached.client("ec2", ACCOUNT, OTHER_REGION, Role.OBSERVER),
        cached.client("ec2", ACCOUNT, REGION, Role.REMEDIATOR),
    ]
    assert first not in others
    assert cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER) is first
    assert len(fake.made) == 5


@pytest.mark.parametrize(
    ("left", "renewed"),
    [
        (timedelta(minutes=5, seconds=30), False),
        (timedelta(minutes=4, seconds=30), True),
        (timedelta(minutes=-1), True),
    ],
)
def test_credentials_are_renewed_before_they_expire(
    fake: FakeSession, cached: Accounts, left: timedelta, *, renewed: bool
) -> None:
    """With less than five minutes left they are replaced, and the client with them; with more they are kept."""
    fake.sts.lifetime = left
    first = cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER)
    fake.sts.lifetime = timedelta(hours=1)

    second = cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER)

    assert (second is not first) is renewed
    assert len(fake.sts.assumed) == (2 if renewed else 1)
    assert fake.made[-1]["aws_access_key_id"] == ("key-2" if renewed else "key-1")
    assert cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER) is second


def test_every_client_of_renewed_credentials_is_replaced(fake: FakeSession, cached: Accounts) -> None:
    """No client goes on with credentials that were replaced on behalf of another."""
    fake.sts.lifetime = timedelta(minutes=1)
    cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER)
    fake.sts.lifetime = timedelta(hours=1)

    cached.client("iam", ACCOUNT, REGION, Role.OBSERVER)
    cached.client("ec2", ACCOUNT, REGION, Role.OBSERVER)

    assert [(made["service"], made["aws_access_key_id"]) for made in fake.made] == [
        ("ec2", "key-1"),
        ("iam", "key-2"),
        ("ec2", "key-2"),
    ]


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-eusc"])
def test_the_role_is_in_the_partition(fake: FakeSession, partition: str) -> None:
    """China, GovCloud and the European sovereign cloud have other ARNs."""
    Accounts(fake, partition, ROLES).client("ec2", ACCOUNT, REGION, Role.REMEDIATOR)

    assert fake.sts.assumed == [f"arn:{partition}:iam::{ACCOUNT}:role/the-remediator"]


@pytest.fixture
def sts(script: Callable[[str], Script]) -> Script:
    """Return a scripted STS."""
    return script("sts")


@pytest.fixture
def over_sts(sts: Script) -> Accounts:
    """Return Accounts whose STS is scripted."""

    class Session:
        def client(self, _: str, **__: Any) -> Any:
            return sts.client

    return Accounts(Session(), "aws", ROLES)


def test_the_session_is_named_after_the_role_and_lasts_an_hour(sts: Script, over_sts: Accounts) -> None:
    """The name shows in the member's trail; an hour is the most that role chaining allows."""
    request = {
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/the-observer",
        "RoleSessionName": "portcullis-observer",
        "DurationSeconds": 3600,
    }
    expiration = datetime.now(UTC) + timedelta(hours=1)
    credentials = {
        "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "Expiration": expiration,
    }
    sts.expect("assume_role", {"Credentials": credentials}, request)

    over_sts.client("ec2", ACCOUNT, REGION, Role.OBSERVER)

    assert sts.calls == ["AssumeRole"]


def test_a_role_that_cannot_be_assumed_is_named(sts: Script, over_sts: Accounts) -> None:
    """A missing role, or one that does not trust the hub, may be on its way; the reader learns which."""
    sts.refuse("assume_role", "AccessDenied", "User is not authorized to perform: sts:AssumeRole", status=403)

    expected = rf"^assuming arn:aws:iam::{ACCOUNT}:role/the-observer: AccessDenied: User is not authorized"
    with pytest.raises(TransientError, match=expected):
        over_sts.client("ec2", ACCOUNT, REGION, Role.OBSERVER)


def test_a_refusal_is_not_remembered(sts: Script, over_sts: Accounts) -> None:
    """A role that is deployed meanwhile works at the next attempt."""
    sts.refuse("assume_role", "AccessDenied", status=403)
    sts.refuse("assume_role", "Throttling")

    with pytest.raises(TransientError):
        over_sts.client("ec2", ACCOUNT, REGION, Role.OBSERVER)
    with pytest.raises(TransientError):
        over_sts.client("ec2", ACCOUNT, REGION, Role.OBSERVER)

    assert sts.calls == ["AssumeRole", "AssumeRole"]


def test_sts_is_tried_three_times(session: boto3.Session, naps: list[float]) -> None:
    """STS has the same retries as every other client."""
    made = Accounts(session, "aws", ROLES)
    wire = Wire(made._sts, (400, _throttled("Throttling")))

    with pytest.raises(TransientError, match="Throttling: Rate exceeded"):
        made.client("ec2", ACCOUNT, REGION, Role.OBSERVER)

    assert wire.attempts == 3
    assert len(naps) == 2


def _throttled(code: str) -> str:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>Rate exceeded</Message></Error>"
    return f"<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>"
