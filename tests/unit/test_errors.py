"""Errors are classified once: transient, conflict, or terminal."""

from __future__ import annotations

import pytest
from portcullis.errors import (
    Fault,
    PolicyError,
    classify,
    is_dns_conflict,
    is_gone,
    is_in_use,
    is_quota,
    is_route_conflict,
    is_there,
    quota_remedy,
)

DNS_CONFLICT = (
    "private-dns-enabled cannot be set because there is already a conflicting DNS domain for "
    "ssm.eu-central-1.amazonaws.com in the VPC vpc-0"
)
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
        ("InvalidGroup.NotFound", ""),
        ("InvalidSecurityGroupID.NotFound", ""),
        ("InvalidSubnetID.NotFound", ""),
        ("InvalidSubnetId.NotFound", ""),
        ("InvalidInstanceConnectEndpointId.NotFound", ""),
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
        ("ResourceLimitExceeded", ""),
        ("InvalidParameter", DNS_CONFLICT),
        ("DuplicateSubnetsInSameZone", ""),
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
        ("InvalidInstanceConnectEndpointId.NotFound", True),
        ("InvalidGroup.NotFound", True),
        ("InvalidSecurityGroupID.NotFound", True),
        ("InvalidPermission.NotFound", True),
        ("InvalidRouteTableId.NotFound", False),
        ("InvalidSubnetID.NotFound", False),
        ("InvalidVpcEndpointId.Malformed", False),
        ("UnauthorizedOperation", False),
        ("", False),
    ],
)
def test_what_is_gone_is_told_by_code(code: str, *, expected: bool) -> None:
    """Only what Portcullis takes back: endpoints, groups (both in two spellings), rules and associations."""
    assert is_gone(code) is expected


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("InvalidParameter", DNS_CONFLICT, True),
        ("InvalidParameter", ROUTE_EXISTS, False),
        ("InvalidParameter", "", False),
        ("InvalidParameterValue", DNS_CONFLICT, False),
    ],
)
def test_a_conflict_over_a_private_name_is_told_by_code_and_message(code: str, message: str, *, expected: bool) -> None:
    """The code alone says nothing."""
    assert is_dns_conflict(code, message) is expected


@pytest.mark.parametrize(
    ("code", "there", "in_use"),
    [
        ("InvalidGroup.Duplicate", True, False),
        ("InvalidPermission.Duplicate", True, False),
        ("DependencyViolation", False, True),
        ("InvalidGroup.InUse", False, False),
        ("", False, False),
    ],
)
def test_what_is_there_and_what_is_in_use_is_told_by_code(code: str, *, there: bool, in_use: bool) -> None:
    """A group or a rule that exists already; something that others depend on."""
    assert (is_there(code), is_in_use(code)) == (there, in_use)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("VpcEndpointLimitExceeded", " Delete endpoints, or have AWS raise the quota 'Gateway VPC endpoints per Reg"),
        ("SecurityGroupLimitExceeded", " Delete security groups, or have AWS raise the quota 'VPC security groups p"),
        ("RulesPerSecurityGroupLimitExceeded", " Have AWS raise the quota 'Inbound or outbound rules per security g"),
        ("ResourceLimitExceeded", " A VPC and a subnet can have one EC2 Instance Connect Endpoint each; where it i"),
        ("NewLimitExceeded", " See in Service Quotas which quota it is, and have AWS raise it."),
    ],
)
def test_a_quota_comes_with_a_remedy(code: str, remedy: str) -> None:
    """Which one it is and where it is raised, as a sentence after another."""
    assert is_quota(code)
    assert quota_remedy(code).startswith(remedy)
    assert quota_remedy(code).endswith(".")


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "LimitExceededException", "UnauthorizedOperation", ""])
def test_throttling_is_no_quota(code: str) -> None:
    """It passes by itself."""
    assert not is_quota(code)
    assert quota_remedy(code) == ""


def test_a_policy_error_shows_all_faults() -> None:
    """They are there one by one, and all in the text."""
    error = PolicyError(["first", "second"])
    assert error.faults == ["first", "second"]
    assert str(error) == "first; second"
