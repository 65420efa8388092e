"""Clients for member accounts: each with the credentials of its own account, Region, role and, for changes, message."""

from __future__ import annotations

import gc
import re
import weakref
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError
from portcullis.adapters.accounts import TARGET_TAG, TRIGGER_TAG, Accounts, Role
from portcullis.adapters.calls import CONFIG
from portcullis.errors import NotAdmittedError, TransientError
from portcullis.model import trigger

from tests.adapters.doubles import ACCOUNT, HOME_REGION, OTHER_ACCOUNT, OTHER_REGION, REGION, Wire, work

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

ROLES = {Role.OBSERVER: "the-observer", Role.REMEDIATOR: "the-remediator"}
HELD = 32
UUID = "5c5b4b1e-6f0c-4f0e-9a53-0d7a4f1e2b3c"

# "AssumeRole" and "Tag" in the STS API reference.
LEGAL_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
LEGAL_TAG = re.compile(r"[\w\s_.:/=+\-@]{0,256}")


class Client:
    """Any client; it says as whom it calls. It can be watched while it lives."""

    def __init__(self, service: str, key: str, region: str) -> None:
        self.service, self.key, self.region = service, key, region


class FakeSts:
    """Answers AssumeRole with new credentials each time, which name what they are for and expire after a while."""

    def __init__(self) -> None:
        self.lifetime = timedelta(hours=1)
        self.requests: list[dict[str, Any]] = []

    @property
    def assumed(self) -> list[str]:
        """The roles that were assumed, in order."""
        return [request["RoleArn"] for request in self.requests]

    def assume_role(self, **request: Any) -> dict[str, Any]:
        """Note the request, and give credentials."""
        self.requests.append(request)
        return {
            "Credentials": {
                "AccessKeyId": f"{len(self.requests)} {request['RoleArn']} {request['Tags'][0]['Value']}",
                "SecretAccessKey": "secret",
                "SessionToken": "token",
                "Expiration": datetime.now(UTC) + self.lifetime,
            }
        }


class FakeSession:
    """Notes the clients that are made, and which of them still live; each is a new object."""

    def __init__(self) -> None:
        self.sts = FakeSts()
        self.made: list[dict[str, Any]] = []
        self._living: weakref.WeakSet[Client] = weakref.WeakSet()

    @property
    def living(self) -> int:
        """How many clients are held by somebody."""
        gc.collect()
        return len(self._living)

    def client(self, service: str, **arguments: Any) -> Any:
        """Make a client."""
        if service == "sts":
            return self.sts
        self.made.append({"service": service, **arguments})
        made = Client(service, arguments["aws_access_key_id"], arguments["region_name"])
        self._living.add(made)
        return made


@pytest.fixture
def fake() -> FakeSession:
    """Return a session that counts."""
    return FakeSession()


@pytest.fixture
def cached(fake: FakeSession) -> Accounts:
    """Return Accounts over the session that counts."""
    return Accounts(fake, "aws", ROLES)


# ---- Against moto --------------------------------------------------------------------------------------------------


def test_clients_act_in_their_account_as_their_role(accounts: Accounts) -> None:
    """Two accounts, two roles: each client is the role in the account that it was asked for."""
    for account_id in (ACCOUNT, OTHER_ACCOUNT):
        for role, client in {
            "observer/portcullis-observer": accounts.observer("sts", account_id, REGION),
            "remediator/vpc-1@message-1": accounts.remediator("sts", work(account_id=account_id)),
        }.items():
            identity = client.get_caller_identity()
            assert identity["Account"] == account_id
            assert f"assumed-role/portcullis-{role}" in identity["Arn"]


def test_clients_of_two_accounts_see_different_things(accounts: Accounts, member: Callable[..., Any]) -> None:
    """What is made in one account and Region is not seen in another."""
    made = member("ec2", ACCOUNT).create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    def seen(account_id: str, region: str) -> set[str]:
        return {vpc["VpcId"] for vpc in accounts.observer("ec2", account_id, region).describe_vpcs()["Vpcs"]}

    assert made in seen(ACCOUNT, REGION)
    assert made not in seen(OTHER_ACCOUNT, REGION)
    assert made not in seen(ACCOUNT, OTHER_REGION)


# ---- What is asked of STS ------------------------------------------------------------------------------------------


def tags(**values: str) -> list[dict[str, str]]:
    """Return session tags as STS takes them."""
    return [{"Key": f"portcullis:{name}", "Value": value} for name, value in values.items()]


def test_the_observer_s_session_names_the_account_and_region(fake: FakeSession, cached: Accounts) -> None:
    """It reads for many targets at once, for an hour, which is the most that role chaining allows."""
    cached.observer("ec2", ACCOUNT, REGION)

    assert fake.sts.requests == [
        {
            "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/the-observer",
            "RoleSessionName": "portcullis-observer",
            "DurationSeconds": 3600,
            "Tags": tags(target=f"{ACCOUNT}/{REGION}"),
        }
    ]


@pytest.mark.parametrize("trigger", ["CreateVpc/7a1e", "sweep/8b2f", ""])
def test_the_remediator_s_session_names_the_resource_message_and_trigger(
    fake: FakeSession, cached: Accounts, trigger: str
) -> None:
    """CloudTrail shows at each change what it was made for and what set it off; for 15 minutes, the least there is."""
    cached.remediator("ec2", work(UUID, resource_id="vpc-0a1b2c3d4e5f60718", trigger=trigger))

    told = {"target": f"{ACCOUNT}/{REGION}/vpc/vpc-0a1b2c3d4e5f60718", "trigger": trigger}
    assert fake.sts.requests == [
        {
            "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/the-remediator",
            "RoleSessionName": f"vpc-0a1b2c3d4e5f60718@{UUID}",
            "DurationSeconds": 900,
            "Tags": tags(**{name: value for name, value in told.items() if value}),
        }
    ]


def test_the_tags_are_called_as_the_documents_call_them() -> None:
    """People search CloudTrail for these keys."""
    assert (TARGET_TAG, TRIGGER_TAG) == ("portcullis:target", "portcullis:trigger")


@pytest.mark.parametrize(
    ("resource_id", "message_id", "name"),
    [
        ("vpc-1", "a b/c:d*e\u00e9", "vpc-1@a-b-c-d-e-"),
        ("vpc-1", "x" * 100, f"vpc-1@{'x' * 58}"),
        ("v" * 64, UUID, "v" * 64),
        ("vpc-1", "_=,.@-+", "vpc-1@_=,.@--"),
    ],
)
def test_a_session_s_name_is_always_legal(
    fake: FakeSession, cached: Accounts, resource_id: str, message_id: str, name: str
) -> None:
    """STS takes letters, digits and some signs, 64 at most; a refused name would be a change not made."""
    cached.remediator("ec2", work(message_id, resource_id=resource_id))

    asked = fake.sts.requests[0]["RoleSessionName"]
    assert asked == name
    assert LEGAL_NAME.fullmatch(asked)


@pytest.mark.parametrize("name", ["7a1e", "after (the) outage!", "x" * 300])
def test_session_tags_are_always_legal(fake: FakeSession, cached: Accounts, name: str) -> None:
    """An execution that a person starts may have a name that no tag may hold: STS would refuse the session."""
    cached.remediator("ec2", work(trigger=trigger("sweep", name)))

    assert all(LEGAL_TAG.fullmatch(tag["Value"]) for tag in fake.sts.requests[0]["Tags"])


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-eusc"])
def test_the_role_is_in_the_partition(fake: FakeSession, partition: str) -> None:
    """China, GovCloud and the European sovereign cloud have other ARNs."""
    made = Accounts(fake, partition, ROLES)
    made.observer("ec2", ACCOUNT, REGION)
    made.remediator("ec2", work())

    assert fake.sts.assumed == [f"arn:{partition}:iam::{ACCOUNT}:role/{name}" for name in ROLES.values()]


def test_the_client_carries_the_session_s_credentials(fake: FakeSession, cached: Accounts) -> None:
    """A client gets the credentials, the Region, and the timeouts and retries of all clients."""
    cached.observer("ec2", ACCOUNT, REGION)

    assert fake.made == [
        {
            "service": "ec2",
            "region_name": REGION,
            "aws_access_key_id": f"1 arn:aws:iam::{ACCOUNT}:role/the-observer {ACCOUNT}/{REGION}",
            "aws_secret_access_key": "secret",
            "aws_session_token": "token",
            "config": CONFIG,
        }
    ]


# ---- What is held --------------------------------------------------------------------------------------------------


def test_a_session_serves_one_account_region_and_role(fake: FakeSession, cached: Accounts) -> None:
    """Services share a session, and so does a call of another Region about this one; nothing else does."""
    for _ in range(2):
        for account_id in (ACCOUNT, OTHER_ACCOUNT):
            for region in (REGION, OTHER_REGION):
                for service in ("ec2", "iam"):
                    cached.observer(service, account_id, region)
                    cached.remediator(service, work(account_id=account_id, region=region))
                cached.observer("ec2", account_id, region, at=HOME_REGION)

    assert sorted((request["RoleArn"], request["Tags"][0]["Value"]) for request in fake.sts.requests) == [
        (f"arn:aws:iam::{account_id}:role/{name}", f"{account_id}/{region}{more}")
        for account_id in (ACCOUNT, OTHER_ACCOUNT)
        for name, more in (("the-observer", ""), ("the-remediator", "/vpc/vpc-1"))
        for region in (REGION, OTHER_REGION)
    ]


def test_credentials_of_one_place_are_never_used_for_another(fake: FakeSession, cached: Accounts) -> None:
    """Whatever was asked for before, a client is of the account, Region and role that it is asked for now."""
    places = [(f"{number:012}", region) for number in range(25) for region in (REGION, OTHER_REGION)]
    for account_id, region in places + places[::-1] + places[::7]:
        for at in (None, HOME_REGION):
            observer = cached.observer("ec2", account_id, region, at=at)
            assert observer.key.endswith(f"iam::{account_id}:role/the-observer {account_id}/{region}")
            assert (observer.service, observer.region) == ("ec2", at or region)
        remediator = cached.remediator("ec2", work(account_id=account_id, region=region))
        assert remediator.key.endswith(f"iam::{account_id}:role/the-remediator {account_id}/{region}/vpc/vpc-1")
        assert remediator.region == region
    assert fake.living <= HELD * 2


def test_a_client_is_reused_while_its_credentials_hold(fake: FakeSession, cached: Accounts) -> None:
    """Making a client is expensive: the same service, account, Region and role give the same one."""

    def ask() -> list[Any]:
        return [
            cached.observer("ec2", ACCOUNT, REGION),
            cached.observer("ec2", ACCOUNT, REGION, at=HOME_REGION),
            cached.observer("iam", ACCOUNT, REGION),
            cached.observer("ec2", OTHER_ACCOUNT, REGION),
            cached.observer("ec2", ACCOUNT, OTHER_REGION),
            cached.remediator("ec2", work()),
        ]

    first = ask()

    assert ask() == first
    assert len(set(map(id, first))) == len(fake.made) == len(first)


@pytest.mark.parametrize(
    ("other", "renewed"),
    [
        (work(), False),
        (work(trigger="CreateVpc/1"), False),  # the same message: its trigger is a part of it
        (work("message-2"), True),
        (work(resource_id="vpc-2"), True),
    ],
)
def test_a_new_message_or_resource_gets_a_session_of_its_own(
    fake: FakeSession, cached: Accounts, other: Any, *, renewed: bool
) -> None:
    """What CloudTrail shows of a change is true: no session serves two messages, or two resources."""
    first = cached.remediator("ec2", work())

    second = cached.remediator("ec2", other)

    assert (second is not first) is renewed
    assert len(fake.sts.requests) == 1 + renewed
    assert fake.living == 1 + renewed  # the first is held by this test
    del first
    assert fake.living == 1


@pytest.mark.parametrize(
    ("left", "renewed"),
    [
        (timedelta(minutes=5, seconds=30), False),
        (timedelta(minutes=4, seconds=30), True),
        (timedelta(minutes=-1), True),
    ],
)
@pytest.mark.parametrize("role", list(Role))
def test_credentials_are_renewed_before_they_expire(
    fake: FakeSession, cached: Accounts, role: Role, left: timedelta, *, renewed: bool
) -> None:
    """With less than five minutes left they are replaced, and the client with them; with more they are kept."""

    def ask() -> Any:
        return cached.observer("ec2", ACCOUNT, REGION) if role is Role.OBSERVER else cached.remediator("ec2", work())

    fake.sts.lifetime = left
    first = ask()
    fake.sts.lifetime = timedelta(hours=1)

    second = ask()

    assert (second is not first) is renewed
    assert len(fake.sts.requests) == 1 + renewed
    assert second.key.startswith(str(1 + renewed))
    assert ask() is second


def test_every_client_of_renewed_credentials_is_replaced(fake: FakeSession, cached: Accounts) -> None:
    """No client goes on with credentials that were replaced on behalf of another."""
    fake.sts.lifetime = timedelta(minutes=1)
    cached.observer("ec2", ACCOUNT, REGION)
    fake.sts.lifetime = timedelta(hours=1)

    renewed = [cached.observer(service, ACCOUNT, REGION) for service in ("iam", "ec2")]

    assert [(client.service, client.key[0]) for client in renewed] == [("iam", "2"), ("ec2", "2")]


def test_only_so_many_sessions_are_held_and_their_clients_with_them(fake: FakeSession, cached: Accounts) -> None:
    """A warm function that goes through an organisation does not grow: what was used longest ago is dropped."""
    for number in range(200):
        for service in ("ec2", "iam", "securityhub"):
            cached.observer(service, f"{number:012}", REGION)
        cached.observer("ec2", f"{number:012}", REGION, at=HOME_REGION)
        cached.remediator("ec2", work(account_id=f"{number:012}"))

    # Half of them are the observer's, with four clients each, half the remediator's, with one.
    assert fake.living == HELD // 2 * (4 + 1)


def test_what_was_used_last_is_kept(fake: FakeSession, cached: Accounts) -> None:
    """An account that is asked for again and again outlasts those that are asked for once."""
    busy = cached.observer("ec2", ACCOUNT, REGION)
    for number in range(HELD * 2):
        cached.observer("ec2", f"{number:012}", REGION)
        assert cached.observer("ec2", ACCOUNT, REGION) is busy

    assumed = len(fake.sts.requests)
    cached.observer("ec2", f"{HELD + 1:012}", REGION)
    assert len(fake.sts.requests) == assumed
    cached.observer("ec2", f"{0:012}", REGION)
    assert len(fake.sts.requests) == assumed + 1


# ---- What goes wrong -----------------------------------------------------------------------------------------------


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


def test_the_request_is_one_that_sts_knows(sts: Script, over_sts: Accounts) -> None:
    """The service model takes it as it is, tags included."""
    credentials = {
        "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "Expiration": datetime.now(UTC) + timedelta(minutes=15),
    }
    request = {
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/the-remediator",
        "RoleSessionName": "vpc-1@message-1",
        "DurationSeconds": 900,
        "Tags": tags(target=f"{ACCOUNT}/{REGION}/vpc/vpc-1", trigger="CreateVpc/1"),
    }
    sts.expect("assume_role", {"Credentials": credentials}, request)

    over_sts.remediator("ec2", work(trigger="CreateVpc/1"))

    assert sts.calls == ["AssumeRole"]


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
def test_a_role_that_does_not_admit_us_is_named(sts: Script, over_sts: Accounts, code: str) -> None:
    """A missing role, or one that does not trust the hub, may be on its way; the reader learns which, for either."""
    sts.refuse("assume_role", code, "User is not authorized to perform: sts:AssumeRole", status=403)
    sts.refuse("assume_role", code, "User is not authorized to perform: sts:TagSession", status=403)

    said = f"^arn:aws:iam::{ACCOUNT}:role/the-%s cannot be assumed: it is missing or does not trust us$"
    with pytest.raises(NotAdmittedError, match=said % "observer"):
        over_sts.observer("ec2", ACCOUNT, REGION)
    with pytest.raises(NotAdmittedError, match=said % "remediator"):
        over_sts.remediator("ec2", work())


@pytest.mark.parametrize("code", ["Throttling", "InternalError", "RegionDisabledException", "ValidationError"])
def test_other_trouble_with_sts_is_no_refusal_of_the_account(sts: Script, over_sts: Accounts, code: str) -> None:
    """It is worth a retry, and it is not taken for a missing role."""
    sts.refuse("assume_role", code)

    with pytest.raises(TransientError, match=f"^assuming arn:aws:iam::{ACCOUNT}:role/the-observer: {code}") as caught:
        over_sts.observer("ec2", ACCOUNT, REGION)

    assert not isinstance(caught.value, NotAdmittedError)


def test_a_refusal_is_not_remembered(sts: Script, over_sts: Accounts) -> None:
    """A role that is deployed meanwhile works at the next attempt."""
    for code in ("AccessDenied", "Throttling"):
        sts.refuse("assume_role", code, status=403)
        with pytest.raises(TransientError):
            over_sts.observer("ec2", ACCOUNT, REGION)

    assert sts.calls == ["AssumeRole", "AssumeRole"]


THROTTLED = "<Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>"


@pytest.mark.parametrize(
    "answer",
    [
        (400, f"<ErrorResponse>{THROTTLED}<RequestId>r</RequestId></ErrorResponse>"),
        EndpointConnectionError(endpoint_url="https://sts"),
    ],
    ids=["throttled", "unreachable"],
)
def test_sts_is_tried_three_times(
    session: boto3.Session, naps: list[float], answer: Exception | tuple[int, str]
) -> None:
    """STS has the same retries as every other client."""
    made = Accounts(session, "aws", ROLES)
    wire = Wire(made._sts, answer)

    with pytest.raises(TransientError, match=r"Throttling: Rate exceeded|EndpointConnectionError"):
        made.observer("ec2", ACCOUNT, REGION)

    assert wire.attempts == 3
    assert len(naps) == 2
