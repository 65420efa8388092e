"""The changes: exactly which requests are sent, that repeating them is harmless, and how they end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from portcullis.adapters.accounts import Role
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.remediator import Ec2Remediator
from portcullis.errors import NotAdmittedError, ObservationError, TransientError
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    Outcome,
    Result,
)

from tests.adapters.doubles import ACCOUNT, REGION, PreparedAccounts, Wire, ec2_error, work

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3
    from portcullis.adapters.accounts import Accounts
    from portcullis.model import Action

    from tests.adapters.doubles import Script

S3 = f"com.amazonaws.{REGION}.s3"
CREATE = CreateGatewayEndpoint("VPCE.1", "vpc-1", S3, ("rtb-1", "rtb-2"))
ADD = AddRouteTables("VPCE.1", "vpc-1", "vpce-1", S3, ("rtb-1", "rtb-2"))
ASSOCIATE = AssociateInstanceProfile("ROLE.1", "i-1", "portcullis-default")
OPERATIONS = {
    CREATE: "create_vpc_endpoint",
    ADD: "modify_vpc_endpoint",
    ASSOCIATE: "associate_iam_instance_profile",
}
MADE = {"VpcEndpointId": "vpce-9", "State": "available", "RouteTableIds": ["rtb-1", "rtb-2"]}


class Ec2:
    """A scripted EC2, and the remediator over it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accounts = PreparedAccounts(ec2=script.client)

    def perform(self, action: Action, cause: str = "message-1") -> Outcome:
        """Perform an action because of a message."""
        return Ec2Remediator(self.accounts).perform(work(cause), action)

    def create(self, answer: dict[str, Any] | None = None, cause: str = "message-1", action: Action = CREATE) -> Any:
        """Perform a creation that AWS answers; returns the outcome and the request."""
        self.script.expect("create_vpc_endpoint", {"VpcEndpoint": answer or MADE})
        outcome = self.perform(action, cause)
        return outcome, self.script.requests[-1][1]


@pytest.fixture
def ec2(script: Callable[[str], Script]) -> Ec2:
    """Return a scripted EC2."""
    return Ec2(script("ec2"))


# ---- Against moto --------------------------------------------------------------------------------------------------


def test_an_endpoint_is_created_with_its_routes_and_tags(accounts: Accounts, member: Callable[..., Any]) -> None:
    """The route table gets the route, and the endpoint says whose it is and for which control."""
    client = member("ec2", ACCOUNT)
    vpc_id = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    here = [{"Name": "vpc-id", "Values": [vpc_id]}]
    table_id = client.describe_route_tables(Filters=here)["RouteTables"][0]["RouteTableId"]
    action = CreateGatewayEndpoint("VPCE.1", vpc_id, S3, (table_id,))

    outcome = Ec2Remediator(accounts).perform(work(), action)

    (made,) = client.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]
    assert outcome == Outcome(
        action,
        Result.APPLIED,
        made["VpcEndpointId"],
        f"Portcullis created {made['VpcEndpointId']} ({S3}) on {table_id}.",
    )
    assert (made["VpcEndpointType"], made["ServiceName"]) == ("Gateway", S3)
    assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE.1"}
    routes = client.describe_route_tables(RouteTableIds=[table_id])["RouteTables"][0]["Routes"]
    assert made["VpcEndpointId"] in {route.get("GatewayId") for route in routes}


def test_a_profile_is_associated(accounts: Accounts, member: Callable[..., Any]) -> None:
    """The instance has the profile afterwards, and the outcome names the association."""
    client = member("ec2", ACCOUNT)
    profile = member("iam", ACCOUNT).create_instance_profile(InstanceProfileName="portcullis-default")
    launched = client.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    action = AssociateInstanceProfile("ROLE.1", launched, "portcullis-default")

    outcome = Ec2Remediator(accounts).perform(work(), action)

    (held,) = client.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    assert held["InstanceId"] == launched
    assert held["IamInstanceProfile"]["Arn"] == profile["InstanceProfile"]["Arn"]
    assert outcome == Outcome(
        action,
        Result.APPLIED,
        held["AssociationId"],
        f"Portcullis associated portcullis-default with {launched} ({held['AssociationId']}).",
    )


# ---- The requests --------------------------------------------------------------------------------------------------


def test_the_request_for_an_endpoint(ec2: Ec2) -> None:
    """Type, service, tables, tags and a token are all sent: none is left to a default of AWS or the SDK."""
    _, request = ec2.create()

    assert re.fullmatch(r"[0-9a-f]{64}", request.pop("ClientToken"))
    assert request == {
        "VpcId": "vpc-1",
        "ServiceName": S3,
        "VpcEndpointType": "Gateway",
        "RouteTableIds": ["rtb-1", "rtb-2"],
        "TagSpecifications": [
            {
                "ResourceType": "vpc-endpoint",
                "Tags": [{"Key": OWNERSHIP_TAG, "Value": "true"}, {"Key": CONTROL_TAG, "Value": "VPCE.1"}],
            }
        ],
    }


def test_the_token_is_the_same_for_a_redelivered_message(ec2: Ec2) -> None:
    """The same cause and action create one endpoint, however often they are performed."""
    (_, first), (_, second) = ec2.create(), ec2.create()

    assert first["ClientToken"] == second["ClientToken"]


def test_the_token_differs_for_another_cause_or_action(ec2: Ec2) -> None:
    """What is right again later, or for another table, is not answered with what was made before."""
    other_tables = CreateGatewayEndpoint("VPCE.1", "vpc-1", S3, ("rtb-1",))
    answers = [
        ec2.create(),
        ec2.create(cause="message-2"),
        ec2.create(action=other_tables),
        ec2.create(action=CreateGatewayEndpoint("VPCE.2", "vpc-1", "other", ("rtb-1", "rtb-2"))),
    ]

    assert len({request["ClientToken"] for _, request in answers}) == 4


def test_route_tables_are_added_and_nothing_else(ec2: Ec2) -> None:
    """A change of our own endpoint sends only the tables to add."""
    ec2.script.expect(
        "modify_vpc_endpoint",
        {"Return": True},
        {"VpcEndpointId": "vpce-1", "AddRouteTableIds": ["rtb-1", "rtb-2"]},
    )

    outcome = ec2.perform(ADD)

    assert outcome == Outcome(ADD, Result.APPLIED, "vpce-1", f"Portcullis added rtb-1, rtb-2 to vpce-1 ({S3}).")


def test_a_profile_is_associated_by_name_and_never_replaced(ec2: Ec2) -> None:
    """AssociateIamInstanceProfile fails where a profile is; nothing that replaces one is ever called."""
    ec2.script.expect(
        "associate_iam_instance_profile",
        {"IamInstanceProfileAssociation": {"AssociationId": "iip-assoc-1"}},
        {"InstanceId": "i-1", "IamInstanceProfile": {"Name": "portcullis-default"}},
    )

    outcome = ec2.perform(ASSOCIATE)

    assert (outcome.result, outcome.resource_id) == (Result.APPLIED, "iip-assoc-1")
    assert ec2.script.calls == ["AssociateIamInstanceProfile"]


def test_changes_use_the_remediator_role_and_only_when_they_happen(ec2: Ec2) -> None:
    """The role that can write is asked for by the action itself, not before."""
    remediator = Ec2Remediator(ec2.accounts)
    assert ec2.accounts.asked == []
    ec2.script.expect("modify_vpc_endpoint", {})

    remediator.perform(work("message-7", trigger="CreateVpc/1"), ADD)

    assert ec2.accounts.asked == [("ec2", ACCOUNT, REGION, Role.REMEDIATOR)]
    assert ec2.accounts.works == [work("message-7", trigger="CreateVpc/1")]


# ---- Half an answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({**MADE, "RouteTableIds": ["rtb-2"]}, "AWS created vpce-9, state available, without ['rtb-1']"),
        ({"VpcEndpointId": "vpce-9", "State": "pending"}, "without ['rtb-1', 'rtb-2']"),
        ({**MADE, "State": "failed"}, "AWS created vpce-9, state failed"),
        ({"VpcEndpointId": "vpce-9", "RouteTableIds": ["rtb-1", "rtb-2"]}, "state None"),
    ],
    ids=["a table is missing", "no tables", "failed", "no state"],
)
def test_an_endpoint_without_all_its_tables_is_looked_at_again(ec2: Ec2, answer: dict[str, Any], told: str) -> None:
    """A success that does not say everything is no success: another look tells what is left to do."""
    outcome, _ = ec2.create(answer)

    assert outcome.result is Result.RETRY
    assert told in outcome.detail


@pytest.mark.parametrize("state", ["available", "Available", "pending", "Pending"])
def test_the_state_of_a_new_endpoint_is_read_in_any_letter_case(ec2: Ec2, state: str) -> None:
    """The service model writes `Available`, the wire `available`; pending becomes available by itself."""
    outcome, _ = ec2.create({**MADE, "State": state, "RouteTableIds": ["rtb-2", "rtb-1", "rtb-3"]})

    assert outcome.result is Result.APPLIED
    assert outcome.detail == f"Portcullis created vpce-9 ({S3}) on rtb-1, rtb-2."


# ---- Refusals ------------------------------------------------------------------------------------------------------

TAKEN = "route table rtb-1 already has a route with destination-prefix-list-id pl-63a5400a"
UNKNOWN_PROFILE = "Value (portcullis-default) for parameter iamInstanceProfile.name is invalid. "


@pytest.mark.parametrize(
    ("action", "code", "message", "expected"),
    [
        (CREATE, "RouteAlreadyExists", TAKEN, Result.RETRY),
        (CREATE, "InvalidParameter", TAKEN, Result.RETRY),
        (CREATE, "InvalidParameter", "The policy is not valid", Result.FAILED),
        (CREATE, "InvalidVpcId.NotFound", "The VPC does not exist", Result.RETRY),
        (CREATE, "InvalidRouteTableId.NotFound", "The route table does not exist", Result.RETRY),
        (CREATE, "VpcEndpointLimitExceeded", "20 at most", Result.FAILED),
        (CREATE, "RequestLimitExceeded", "Request limit exceeded.", Result.RETRY),
        (CREATE, "UnauthorizedOperation", "with an explicit deny in a service control policy", Result.FAILED),
        (ADD, "RouteAlreadyExists", TAKEN, Result.RETRY),
        (ADD, "InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id does not exist", Result.RETRY),
        (ADD, "UnauthorizedOperation", "no identity-based policy allows it", Result.FAILED),
        (ASSOCIATE, "InvalidParameterValue", UNKNOWN_PROFILE + "Invalid IAM Instance Profile name", Result.RETRY),
        (ASSOCIATE, "InvalidParameterValue", "Value for parameter instanceId is invalid", Result.FAILED),
        (ASSOCIATE, "IncorrectState", "There is an existing association for instance i-1", Result.RETRY),
        (ASSOCIATE, "IncorrectInstanceState", "The instance is not in a valid state", Result.RETRY),
        (ASSOCIATE, "InvalidInstanceID.NotFound", "The instance ID does not exist", Result.RETRY),
        (ASSOCIATE, "UnauthorizedOperation", "You are not authorized to perform iam:PassRole", Result.FAILED),
    ],
)
def test_a_refusal_is_retried_when_another_look_may_help(
    ec2: Ec2, action: Action, code: str, message: str, expected: Result
) -> None:
    """The world moved, or AWS lags behind itself: RETRY. Anything else: FAILED. Both say what AWS said."""
    ec2.script.refuse(OPERATIONS[action], code, message)

    outcome = ec2.perform(action)

    said = f"AWS did not let Portcullis {action}: {code}: {message.rstrip('.')}."
    assert outcome == Outcome(action, expected, None, said)


def test_an_endpoint_that_describe_does_not_show_yet_is_looked_at_again(ec2: Ec2) -> None:
    """Our own endpoint of a moment ago makes the second creation fail: that is no failure to report."""
    made, _ = ec2.create(cause="message-1")
    ec2.script.refuse("create_vpc_endpoint", "RouteAlreadyExists", TAKEN)

    again = ec2.perform(CREATE, "message-2")

    assert (made.result, again.result) == (Result.APPLIED, Result.RETRY)
    assert TAKEN in again.detail


def test_the_encoded_part_of_a_denial_is_cut(ec2: Ec2) -> None:
    """The finding shows who may not do what, not the kilobytes that EC2 appends."""
    said = "You are not authorized to perform: ec2:CreateVpcEndpoint with an explicit deny"
    message = f"{said}. Encoded authorization failure message: {'x' * 2000}"
    ec2.script.refuse("create_vpc_endpoint", "UnauthorizedOperation", message, status=403)

    outcome = ec2.perform(CREATE)

    assert outcome.detail == f"AWS did not let Portcullis {CREATE}: UnauthorizedOperation: {said}."
    assert outcome.result is Result.FAILED


@pytest.mark.parametrize(
    "answer",
    [
        ec2_error("RequestLimitExceeded", status=503),
        ReadTimeoutError(endpoint_url="https://ec2"),
        ConnectTimeoutError(endpoint_url="https://ec2"),
    ],
    ids=["throttled", "slow", "unreachable"],
)
def test_attempts_share_one_token(
    session: boto3.Session, naps: list[float], answer: Exception | tuple[int, str]
) -> None:
    """A timeout may hide a success: botocore's three attempts carry one token, and then it is RETRY."""
    client = session.client("ec2", config=CONFIG)
    wire = Wire(client, answer)

    outcome = Ec2Remediator(PreparedAccounts(ec2=client)).perform(work(), CREATE)

    sent = [parse_qs(body if isinstance(body, str) else body.decode()) for body in wire.bodies]
    assert outcome.result is Result.RETRY
    assert len(sent) == 3
    assert len({request["ClientToken"][0] for request in sent}) == 1
    assert len(naps) == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransientError("assuming the role: Throttling: Rate exceeded"), Result.RETRY),
        (NotAdmittedError("the role cannot be assumed"), Result.RETRY),
        (ObservationError("the role is refused"), Result.FAILED),
    ],
)
def test_a_role_that_cannot_be_assumed_is_an_outcome(error: Exception, expected: Result) -> None:
    """Without the remediator role nothing is changed; the finding says why, and the loop goes on."""
    outcome = Ec2Remediator(PreparedAccounts(ec2=error)).perform(work(), ASSOCIATE)

    assert outcome == Outcome(ASSOCIATE, expected, None, f"Portcullis could not {ASSOCIATE}: {error}.")


def test_a_bug_is_not_hidden_as_an_outcome() -> None:
    """Anything that is no error of AWS or ours fails loudly."""
    with pytest.raises(ZeroDivisionError):
        Ec2Remediator(PreparedAccounts(ec2=ZeroDivisionError())).perform(work(), CREATE)
