"""The changes: exactly which requests are sent, that repeating them is harmless, and how they end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from portcullis.actions import (
    ACTIONS,
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    DeleteEndpoint,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
    RestoreEndpointPolicy,
    SetEndpointPolicy,
)
from portcullis.adapters import remediator
from portcullis.adapters.accounts import Role
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.remediator import Ec2Remediator
from portcullis.endpoint_policies import FULL_ACCESS, digest
from portcullis.errors import NotAdmittedError, ObservationError, TransientError
from portcullis.model import CHANGE_TAG, CONTROL_TAG, OWNERSHIP_TAG, Outcome, Result

from tests.adapters.doubles import ACCOUNT, REGION, PreparedAccounts, Wire, ec2_error, work
from tests.adapters.remediating import CHANGE, OTHER_CHANGE, Ec2, tagged

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3
    from portcullis.actions import Action
    from portcullis.adapters.accounts import Accounts

    from tests.adapters.doubles import Script

S3 = f"com.amazonaws.{REGION}.s3"
CREATE = CreateGatewayEndpoint("VPCE.1", "vpc-1", S3, ("rtb-1", "rtb-2"))
ADD = AddRouteTables("VPCE.1", "vpc-1", "vpce-1", S3, ("rtb-1", "rtb-2"))
REMOVE = RemoveFromEndpoint("VPCE.1", "vpc-1", "vpce-1", S3, ("rtb-1", "rtb-2"))
LESS = RemoveFromEndpoint("VPCE.3", "vpc-1", "vpce-1", S3, subnet_ids=("subnet-1",))
DELETE = DeleteEndpoint("VPCE.1", "vpc-1", "vpce-1", S3)
OTHER_POLICY = '{"Statement": []}'
SET = SetEndpointPolicy("VPCE.5", "vpc-1", "vpce-1", S3, "perimeter", OTHER_POLICY)
RESTORE = RestoreEndpointPolicy("VPCE.5", "vpc-1", "vpce-1", S3, "perimeter", OTHER_POLICY)
ASSOCIATE = AssociateInstanceProfile("ROLE.1", "i-1", "portcullis-default")
DISASSOCIATE = DisassociateInstanceProfile("ROLE.1", "i-1", "portcullis-default", "iip-assoc-1")
OPERATIONS: dict[type[Action], str] = {
    AddRouteTables: "modify_vpc_endpoint",
    AssociateInstanceProfile: "associate_iam_instance_profile",
    CreateGatewayEndpoint: "create_vpc_endpoint",
    DeleteEndpoint: "delete_vpc_endpoints",
    DisassociateInstanceProfile: "disassociate_iam_instance_profile",
    RemoveFromEndpoint: "modify_vpc_endpoint",
    RestoreEndpointPolicy: "modify_vpc_endpoint",
    SetEndpointPolicy: "modify_vpc_endpoint",
}
POLICY = '{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}]}'
MADE = {
    "VpcEndpointId": "vpce-9",
    "State": "available",
    "RouteTableIds": ["rtb-2", "rtb-1"],
    "PolicyDocument": POLICY,
}


@pytest.fixture
def ec2(script: Callable[[str], Script]) -> Ec2:
    """Return a scripted EC2."""
    return Ec2(script("ec2"))


def create(ec2: Ec2, answer: dict[str, Any] | None = None, change_id: str = CHANGE) -> Any:
    """Perform a creation that AWS answers; returns the outcome and the request."""
    ec2.script.expect("create_vpc_endpoint", {"VpcEndpoint": answer or MADE})
    outcome = ec2.perform(CREATE, change_id)
    return outcome, ec2.request("CreateVpcEndpoint")


# ---- Against moto --------------------------------------------------------------------------------------------------


class Network:
    """A VPC of a member account in moto, and the remediator."""

    def __init__(self, accounts: Accounts, client: Any) -> None:
        self.client = client
        self.vpc_id = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self._here = [{"Name": "vpc-id", "Values": [self.vpc_id]}]
        self.table_id = client.describe_route_tables(Filters=self._here)["RouteTables"][0]["RouteTableId"]
        self._remediator = Ec2Remediator(accounts)

    def perform(self, action: Action) -> Outcome:
        """Perform an action."""
        return self._remediator.perform(work(), action, CHANGE)

    def endpoints(self) -> list[dict[str, Any]]:
        """Return the endpoints that are there; moto goes on listing what is deleted."""
        found = self.client.describe_vpc_endpoints(Filters=self._here)["VpcEndpoints"]
        return [endpoint for endpoint in found if endpoint["State"] != "deleted"]

    def routes(self) -> set[str]:
        """Return where the routes of the main table lead."""
        (table,) = self.client.describe_route_tables(RouteTableIds=[self.table_id])["RouteTables"]
        return {route.get("GatewayId", "") for route in table["Routes"]}


@pytest.fixture
def network(accounts: Accounts, member: Callable[..., Any]) -> Network:
    """Return a VPC in moto."""
    return Network(accounts, member("ec2", ACCOUNT))


def test_an_endpoint_is_created_with_its_routes_and_tags(network: Network) -> None:
    """The route table gets the route, and the endpoint says whose it is, for which control and by which change."""
    action = CreateGatewayEndpoint("VPCE.1", network.vpc_id, S3, (network.table_id,))

    outcome = network.perform(action)

    (made,) = network.endpoints()
    assert outcome == Outcome(
        action,
        Result.APPLIED,
        made["VpcEndpointId"],
        f"Portcullis created {made['VpcEndpointId']} ({S3}) on {network.table_id}.",
        {"route_table_ids": [network.table_id], "subnet_ids": [], "policy_digest": digest(made["PolicyDocument"])},
    )
    assert (made["VpcEndpointType"], made["ServiceName"]) == ("Gateway", S3)
    assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == {
        OWNERSHIP_TAG: "true",
        CONTROL_TAG: "VPCE.1",
        CHANGE_TAG: CHANGE,
    }
    assert made["VpcEndpointId"] in network.routes()


def test_an_endpoint_is_deleted(network: Network) -> None:
    """It is gone; deleting what is gone is no failure."""
    made = network.perform(CreateGatewayEndpoint("VPCE.1", network.vpc_id, S3, (network.table_id,))).resource_id
    assert made
    action = DeleteEndpoint("VPCE.1", network.vpc_id, made, S3)

    outcome = network.perform(action)

    assert outcome == Outcome(action, Result.APPLIED, made, f"Portcullis deleted {made} ({S3}).")
    assert network.endpoints() == []


def test_a_profile_is_associated_and_taken_off_again(network: Network, member: Callable[..., Any]) -> None:
    """The instance has the profile afterwards, and the outcome names the association, which is then ended."""
    client = network.client
    profile = member("iam", ACCOUNT).create_instance_profile(InstanceProfileName="portcullis-default")
    launched = client.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    action = AssociateInstanceProfile("ROLE.1", launched, "portcullis-default")

    outcome = network.perform(action)

    (held,) = client.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    made = held["AssociationId"]
    assert held["InstanceId"] == launched
    assert held["IamInstanceProfile"]["Arn"] == profile["InstanceProfile"]["Arn"]
    said = f"Portcullis associated portcullis-default with {launched} ({made})."
    assert outcome == Outcome(action, Result.APPLIED, made, said, {"profile": "portcullis-default"})

    undo = DisassociateInstanceProfile("ROLE.1", launched, "portcullis-default", made)
    undone, again = network.perform(undo), network.perform(undo)

    said = f"Portcullis took portcullis-default off {launched} ({made})."
    assert undone == Outcome(undo, Result.APPLIED, made, said, {"profile": None})
    assert again == Outcome(undo, Result.APPLIED, made, f"{made} was gone already.")
    assert client.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"] == []


# ---- The requests --------------------------------------------------------------------------------------------------


def test_the_request_for_an_endpoint(ec2: Ec2) -> None:
    """Type, service, tables, tags and a token are all sent: none is left to a default of AWS or the SDK."""
    outcome, request = create(ec2)

    assert request == {
        "VpcId": "vpc-1",
        "ServiceName": S3,
        "VpcEndpointType": "Gateway",
        "RouteTableIds": ["rtb-1", "rtb-2"],
        "ClientToken": CHANGE,
        "TagSpecifications": tagged("vpc-endpoint", "VPCE.1"),
    }
    assert outcome.after == {"route_table_ids": ["rtb-1", "rtb-2"], "subnet_ids": [], "policy_digest": digest(POLICY)}


def test_the_change_is_the_token(ec2: Ec2) -> None:
    """The same change makes one endpoint, however often it is performed; another change another one."""
    (_, first), (_, second), (_, other) = create(ec2), create(ec2), create(ec2, change_id=OTHER_CHANGE)

    assert first == second
    assert (first["ClientToken"], other["ClientToken"]) == (CHANGE, OTHER_CHANGE)


@pytest.mark.parametrize(
    ("action", "answer", "request_", "said"),
    [
        (
            ADD,
            {"Return": True},
            {"VpcEndpointId": "vpce-1", "AddRouteTableIds": ["rtb-1", "rtb-2"]},
            f"Portcullis added rtb-1, rtb-2 to vpce-1 ({S3}).",
        ),
        (
            REMOVE,
            {"Return": True},
            {"VpcEndpointId": "vpce-1", "RemoveRouteTableIds": ["rtb-1", "rtb-2"]},
            f"Portcullis took rtb-1, rtb-2 off vpce-1 ({S3}).",
        ),
        (
            LESS,
            {"Return": True},
            {"VpcEndpointId": "vpce-1", "RemoveSubnetIds": ["subnet-1"]},
            f"Portcullis took subnet-1 off vpce-1 ({S3}).",
        ),
        (
            SET,
            {"Return": True},
            {"VpcEndpointId": "vpce-1", "PolicyDocument": OTHER_POLICY},
            f"Portcullis set perimeter as the policy of vpce-1 ({S3}).",
        ),
        (
            RESTORE,
            {"Return": True},
            {"VpcEndpointId": "vpce-1", "PolicyDocument": OTHER_POLICY},
            f"Portcullis put back what perimeter replaced as the policy of vpce-1 ({S3}).",
        ),
        (
            replace(RESTORE, document=""),
            {"Return": True},
            {"VpcEndpointId": "vpce-1", "PolicyDocument": FULL_ACCESS},
            f"Portcullis put back what perimeter replaced as the policy of vpce-1 ({S3}).",
        ),
        (
            DELETE,
            {"Unsuccessful": []},
            {"VpcEndpointIds": ["vpce-1"]},
            f"Portcullis deleted vpce-1 ({S3}).",
        ),
    ],
    ids=["add", "remove", "remove a subnet", "set", "restore", "restore AWS's own", "delete"],
)
def test_an_endpoint_of_ours_is_changed_as_told_and_not_otherwise(
    ec2: Ec2, action: Action, answer: dict[str, Any], request_: dict[str, Any], said: str
) -> None:
    """The request names one endpoint and the tables, subnets or policy, and nothing else."""
    ec2.script.expect(OPERATIONS[type(action)], answer, request_)

    assert ec2.perform(action) == Outcome(action, Result.APPLIED, "vpce-1", said)


def test_an_association_is_ended_by_its_id(ec2: Ec2) -> None:
    """What the instance was given since has another id, and is never touched."""
    ec2.script.expect("disassociate_iam_instance_profile", {}, {"AssociationId": "iip-assoc-1"})

    outcome = ec2.perform(DISASSOCIATE)

    assert (outcome.result, outcome.resource_id) == (Result.APPLIED, "iip-assoc-1")
    assert ec2.script.calls == ["DisassociateIamInstanceProfile"]


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

    remediator.perform(work("message-7", trigger="CreateVpc/1"), ADD, CHANGE)

    assert ec2.accounts.asked == [("ec2", ACCOUNT, REGION, Role.REMEDIATOR)]
    assert ec2.accounts.works == [work("message-7", trigger="CreateVpc/1")]


# ---- Half an answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({**MADE, "RouteTableIds": ["rtb-2"]}, "AWS created vpce-9 without ['rtb-1']"),
        ({"VpcEndpointId": "vpce-9", "State": "pending"}, "AWS created vpce-9 without ['rtb-1', 'rtb-2']"),
    ],
    ids=["a table is missing", "no tables"],
)
def test_an_endpoint_without_all_its_tables_is_looked_at_again(ec2: Ec2, answer: dict[str, Any], told: str) -> None:
    """A success that does not say everything is no success: the same change is gone on with."""
    outcome, _ = create(ec2, answer)

    assert (outcome.result, outcome.resource_id) == (Result.RETRY, None)
    assert told in outcome.detail


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({**MADE, "State": "deleted"}, "is deleted"),
        ({**MADE, "State": "Deleting"}, "is deleting"),
        ({**MADE, "State": "failed"}, "is failed"),
        ({"VpcEndpointId": "vpce-9", "RouteTableIds": ["rtb-1", "rtb-2"]}, "is gone"),
    ],
    ids=["deleted", "deleting", "failed", "no state"],
)
def test_a_token_that_is_answered_with_what_is_gone_makes_nothing(ec2: Ec2, answer: dict[str, Any], told: str) -> None:
    """The outcome names what this change once made, so that the next try is a change of its own."""
    outcome, _ = create(ec2, answer)

    said = f"vpce-9, which this change had created, {told}; Portcullis tries again."
    assert outcome == Outcome(CREATE, Result.RETRY, "vpce-9", said)


@pytest.mark.parametrize("state", ["available", "Available", "pending", "Pending"])
def test_the_state_of_a_new_endpoint_is_read_in_any_letter_case(ec2: Ec2, state: str) -> None:
    """The service model writes `Available`, the wire `available`; pending becomes available by itself."""
    outcome, _ = create(ec2, {**MADE, "State": state, "RouteTableIds": ["rtb-2", "rtb-1", "rtb-3"]})

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
        (CREATE, "RequestLimitExceeded", "Request limit exceeded.", Result.RETRY),
        (CREATE, "UnauthorizedOperation", "with an explicit deny in a service control policy", Result.FAILED),
        (ADD, "RouteAlreadyExists", TAKEN, Result.RETRY),
        (ADD, "InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id does not exist", Result.RETRY),
        (CREATE, "IdempotentParameterMismatch", "The client token was used for another request", Result.FAILED),
        (ADD, "InvalidVpcEndpoint.NotFound", "The Vpc Endpoint Id does not exist", Result.RETRY),
        (REMOVE, "InvalidRouteTableId.NotFound", "The route table does not exist", Result.RETRY),
        (REMOVE, "UnauthorizedOperation", "no identity-based policy allows it", Result.FAILED),
        (SET, "InvalidPolicyDocument", "The policy is not valid", Result.FAILED),
        (SET, "InvalidVpcEndpoint.NotFound", "The Vpc Endpoint Id does not exist", Result.RETRY),
        (DELETE, "UnauthorizedOperation", "no identity-based policy allows it", Result.FAILED),
        (DELETE, "RequestLimitExceeded", "Request limit exceeded.", Result.RETRY),
        (DISASSOCIATE, "IncorrectInstanceState", "The instance is not in a valid state", Result.RETRY),
        (DISASSOCIATE, "UnauthorizedOperation", "no identity-based policy allows it", Result.FAILED),
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
    ec2.script.refuse(OPERATIONS[type(action)], code, message)

    outcome = ec2.perform(action)

    said = f"AWS did not let Portcullis {action}: {code}: {message.rstrip('.')}."
    # What somebody else has associated is theirs, even if it is the same profile.
    refuted = action == ASSOCIATE and expected is Result.RETRY and code != "InvalidParameterValue"
    assert outcome == Outcome(action, expected, None, said, is_refuted=refuted)


def test_a_quota_is_named_with_a_remedy(ec2: Ec2) -> None:
    """The finding says what to have raised, and where."""
    ec2.script.refuse("create_vpc_endpoint", "VpcEndpointLimitExceeded", "20 at most.")

    outcome = ec2.perform(CREATE)

    assert outcome.result is Result.FAILED
    assert outcome.detail == (
        f"AWS did not let Portcullis {CREATE}: VpcEndpointLimitExceeded: 20 at most. Delete endpoints, or have AWS "
        "raise the quota 'Gateway VPC endpoints per Region' or 'Interface VPC endpoints per VPC' of Amazon VPC in "
        "Service Quotas."
    )


def test_every_action_has_a_performer() -> None:
    """None can be decided on that nobody can make."""
    assert remediator._PERFORMERS.keys() == set(ACTIONS)


@pytest.mark.parametrize(
    ("action", "code", "made"),
    [
        (REMOVE, "InvalidVpcEndpointId.NotFound", "vpce-1"),
        (REMOVE, "InvalidVpcEndpoint.NotFound", "vpce-1"),
        (RESTORE, "InvalidVpcEndpoint.NotFound", "vpce-1"),
        (DELETE, "InvalidVpcEndpointId.NotFound", "vpce-1"),
        (DISASSOCIATE, "InvalidAssociationID.NotFound", "iip-assoc-1"),
    ],
)
def test_what_is_gone_is_taken_back(ec2: Ec2, action: Action, code: str, made: str) -> None:
    """By somebody else, or by the same change before a crash: either way nothing is left to do."""
    ec2.script.refuse(OPERATIONS[type(action)], code)

    assert ec2.perform(action) == Outcome(action, Result.APPLIED, made, f"{made} was gone already.")


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("InvalidVpcEndpoint.NotFound", "The Vpc Endpoint Id does not exist", Result.APPLIED),
        ("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id does not exist", Result.APPLIED),
        ("OperationNotPermitted", "It is in use", Result.FAILED),
        ("UnauthorizedOperation", "You are not authorized", Result.FAILED),
        ("RequestLimitExceeded", "Request limit exceeded", Result.RETRY),
    ],
)
def test_a_deletion_that_succeeds_may_have_failed(ec2: Ec2, code: str, message: str, expected: Result) -> None:
    """DeleteVpcEndpoints answers with success and names the endpoints that it did not delete."""
    error = {"Code": code, "Message": message}
    ec2.script.expect("delete_vpc_endpoints", {"Unsuccessful": [{"ResourceId": "vpce-1", "Error": error}]})

    outcome = ec2.perform(DELETE)

    assert outcome.result is expected
    if expected is not Result.APPLIED:
        assert outcome.detail == f"AWS did not let Portcullis {DELETE}: {code}: {message}."


def test_an_endpoint_that_describe_does_not_show_yet_is_looked_at_again(ec2: Ec2) -> None:
    """Our own endpoint of a moment ago makes the second creation fail: that is no failure to report."""
    made, _ = create(ec2)
    ec2.script.refuse("create_vpc_endpoint", "RouteAlreadyExists", TAKEN)

    again = ec2.perform(CREATE, OTHER_CHANGE)

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

    outcome = Ec2Remediator(PreparedAccounts(ec2=client)).perform(work(), CREATE, CHANGE)

    sent = [parse_qs(body if isinstance(body, str) else body.decode()) for body in wire.bodies]
    assert outcome.result is Result.RETRY
    assert len(sent) == 3
    assert {request["ClientToken"][0] for request in sent} == {CHANGE}
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
    outcome = Ec2Remediator(PreparedAccounts(ec2=error)).perform(work(), ASSOCIATE, CHANGE)

    assert outcome == Outcome(ASSOCIATE, expected, None, f"Portcullis could not {ASSOCIATE}: {error}.")


def test_a_bug_is_not_hidden_as_an_outcome() -> None:
    """Anything that is no error of AWS or ours fails loudly."""
    with pytest.raises(ZeroDivisionError):
        Ec2Remediator(PreparedAccounts(ec2=ZeroDivisionError())).perform(work(), CREATE, CHANGE)
