"""Errors are classified once: transient, conflict, or terminal."""

from __future__ import annotations

import pytest
from portcullis.errors import Fault, PolicyError, classify, is_gone, is_route_conflict

ROUTE_EXISTS = "route table rtb-0 already has a route with destination-prefix-list-id pl-0"


@pytest.mark.parametrize(
    "code",
    [
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "InternalError",
        "InternalFailure",
        "InternalServerException",
        "ServiceUnavailable",
        "Unavailable",
        "ProvisionedThroughputExceededException",
        "RequestExpired",
    ],
)
def test_what_passes_by_itself_is_transient(code: str) -> None:
    """Throttles and AWS's own trouble."""
    assert classify(code, "") is Fault.TRANSIENT


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RouteAlreadyExists", ""),
        ("RouteAlreadyExists", ROUTE_EXISTS),
        ("InvalidParameter", ROUTE_EXISTS),
        ("IncorrectState", "There is an existing association for instance i-0"),
        ("IncorrectInstanceState", ""),
        ("InvalidVpcID.NotFound", ""),
        ("InvalidVpcId.NotFound", ""),
        ("InvalidInstanceID.NotFound", ""),
        ("InvalidRouteTableID.NotFound", ""),
        ("InvalidRouteTableId.NotFound", ""),
        ("InvalidVpcEndpointId.NotFound", ""),
        ("InvalidVpcEndpoint.NotFound", ""),
        ("InvalidAssociationID.NotFound", ""),
    ],
)
def test_what_the_next_look_decides_is_a_conflict(code: str, message: str) -> None:
    """The world moved between the look and the change."""
    assert classify(code, message) is Fault.CONFLICT


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("UnauthorizedOperation", ""),
        ("AccessDenied", ""),
        ("VpcEndpointLimitExceeded", ""),
        ("IdempotentParameterMismatch", ""),
        ("OperationNotPermitted", ""),
        ("InvalidParameter", "something else"),
        ("InvalidParameter", ""),
        ("InvalidParameterValue", "something else"),
        ("InvalidServiceName", ROUTE_EXISTS),
        ("", ""),
        ("throttling", ""),
        ("SomethingNew", ""),
    ],
)
def test_anything_else_is_terminal(code: str, message: str) -> None:
    """What nobody knows is not tried for ever."""
    assert classify(code, message) is Fault.TERMINAL


def test_a_profile_that_iam_made_a_moment_ago_is_transient() -> None:
    """It reads like a typo, and passes by itself."""
    message = "Value (portcullis-default) for parameter iamInstanceProfile.name is invalid. "
    assert classify("InvalidParameterValue", f"{message}Invalid IAM Instance Profile name") is Fault.TRANSIENT


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("RouteAlreadyExists", "", True),
        ("InvalidParameter", ROUTE_EXISTS, True),
        ("InvalidParameter", "", False),
        ("DependencyViolation", ROUTE_EXISTS, False),
    ],
)
def test_a_route_conflict_is_told_by_code_or_code_and_message(code: str, message: str, *, expected: bool) -> None:
    """Both spellings that were seen, and nothing else."""
    assert is_route_conflict(code, message) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("InvalidVpcEndpoint.NotFound", True),
        ("InvalidVpcEndpointId.NotFound", True),
        ("InvalidAssociationID.NotFound", True),
        ("InvalidRouteTableId.NotFound", False),
        ("InvalidVpcEndpointId.Malformed", False),
        ("UnauthorizedOperation", False),
        ("", False),
    ],
)
def test_what_is_gone_is_told_by_code(code: str, *, expected: bool) -> None:
    """Only what Portcullis takes back: an endpoint, in both spellings, and an association."""
    assert is_gone(code) is expected


def test_a_policy_error_shows_all_faults() -> None:
    """They are there one by one, and all in the text."""
    error = PolicyError(["first", "second"])
    assert error.faults == ["first", "second"]
    assert str(error) == "first; second"
