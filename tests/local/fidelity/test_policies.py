"""IAM's policy language: wildcards, conditions, principals, and what is not understood."""

from __future__ import annotations

from typing import Any

import pytest

from local.fidelity.authorization import Request, UnsupportedPolicyError, decide, names_of

ALLOW = {"Effect": "Allow", "Action": "*", "Resource": "*"}
CONTEXT = {"aws:requesttag/Owner": "portcullis", "dynamodb:leadingkeys/changes#2026-11": ""}
TWO_PARTITIONS = CONTEXT | {"dynamodb:leadingkeys/limits": "", "aws:requesttag/owner": "x"}


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([], "not allowed"),
        ([{"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"}], "not allowed"),
        ([{"Effect": "Allow", "Action": "ec2:createvpc*", "Resource": "*"}], "allowed"),
        ([{"Effect": "Allow", "Action": ["s3:*", "ec2:*"], "Resource": "arn:*:vpc/vpc-??"}], "allowed"),
        ([{"Effect": "Allow", "Action": "ec2:*", "Resource": "arn:aws:ec2:*:*:vpc/vpc-1"}], "not allowed"),
        ([ALLOW, {"Effect": "Deny", "Action": "ec2:Create*", "Resource": "*"}], "denied"),
        ([{"Effect": "Deny", "Action": "ec2:Delete*", "Resource": "*"}, ALLOW], "allowed"),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], "allowed"),
        ([ALLOW, {"Effect": "Deny", "NotAction": ["iam:*", "s3:*"], "Resource": "*"}], "denied"),
        ([ALLOW, {"Effect": "Deny", "NotAction": "ec2:*", "Resource": "*"}], "allowed"),
        ([ALLOW, {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::*"}], "denied"),
        ([ALLOW, {"Effect": "Deny", "Action": "*", "NotResource": "*:vpc/*"}], "allowed"),
    ],
)
def test_statements_are_weighed(statements: list[Any], decision: str) -> None:
    """Nothing is allowed by default, an explicit Deny wins, actions ignore case."""
    request = Request("ec2:CreateVpcEndpoint", "arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0a")
    assert decide(statements, request) == decision


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"StringEquals": {"aws:RequestTag/Owner": "portcullis"}}, True),
        ({"StringEquals": {"AWS:requesttag/Owner": ["x", "portcullis"]}}, True),
        ({"StringEquals": {"aws:RequestTag/owner": "portcullis"}}, False),
        ({"StringEquals": {"aws:RequestTag/Absent": "x"}}, False),
        ({"StringLike": {"aws:RequestTag/Owner": "port*"}}, True),
        ({"StringEquals": {"aws:RequestTag/Owner": "portcullis"}, "StringLike": {"aws:PrincipalArn": "N*"}}, False),
        ({"StringNotEquals": {"aws:RequestTag/Owner": "portcullis"}}, False),
        ({"StringNotLike": {"aws:RequestTag/Owner": "x*"}}, True),
        ({"StringNotEquals": {"aws:RequestTag/Absent": "x"}}, True),
        ({"StringEqualsIfExists": {"aws:RequestTag/Owner": "x"}}, False),
        ({"StringEqualsIfExists": {"aws:RequestTag/Absent": "x"}}, True),
        ({"Null": {"aws:RequestTag/Owner": "true"}}, False),
        ({"Null": {"aws:RequestTag/Owner": "false", "aws:RequestTag/Absent": "true"}}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Owner", "More"]}}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": "More"}}, False),
        ({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "changes#*"}}, True),
        ({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["limits", "state#*"]}}, False),
    ],
)
def test_conditions_are_evaluated(condition: Any, *, holds: bool) -> None:
    """Operators and absent keys."""
    decision = decide([{**ALLOW, "Condition": condition}], Request("ec2:CreateTags", None, CONTEXT))
    assert (decision == "allowed") is holds


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "changes#*"}}, False),
        ({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["limits", "changes#*"]}}, True),
        ({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["LIMITS", "changes#*"]}}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Owner", "owner"]}}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Owner", "o*"]}}, False),
    ],
)
def test_a_set_holds_for_all_values_or_not_at_all(condition: Any, *, holds: bool) -> None:
    """One value that is not among the expected ones is enough; without any value, it holds, as in AWS."""
    statement = {**ALLOW, "Condition": condition}
    assert (decide([statement], Request("dynamodb:PutItem", None, TWO_PARTITIONS)) == "allowed") is holds
    assert decide([statement], Request("dynamodb:PutItem")) == "allowed"


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:SourceVpce": "vpce-0a"}},
        {"IpAddress": {"aws:PrincipalArn": "10.0.0.0/8"}},
        {"ForAnyValue:StringEquals": {"aws:TagKeys": "x"}},
        {"StringEquals": {"aws:TagKeys": "x"}},
        {"ForAllValues:StringEquals": {"aws:RequestTag/Owner": "x"}},
        {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": "x"}},
        {"ForAllValues:StringNotEquals": {"aws:TagKeys": "x"}},
        {"NumericLessThan": {"aws:RequestTag/Owner": "1"}},
        # Unknown even though the other condition already decides.
        {"StringEquals": {"aws:RequestTag/Owner": "x", "aws:MultiFactorAuthPresent": "true"}},
    ],
)
def test_an_unknown_condition_is_an_error_not_a_pass(condition: Any) -> None:
    """Neither for an Allow nor for a Deny may anything be concluded."""
    with pytest.raises(UnsupportedPolicyError):
        decide([{**ALLOW, "Condition": condition}], Request("ec2:CreateTags", None, CONTEXT))


@pytest.mark.parametrize(
    ("principal", "named"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": "111122223333"}, True),
        ({"AWS": "arn:aws:iam::111122223333:root"}, True),
        ({"AWS": ["arn:aws:iam::222233334444:root", "arn:aws:iam::111122223333:role/Hub"]}, True),
        ({"AWS": "arn:aws:iam::111122223333:role/Other"}, False),
        ({"AWS": "arn:aws:iam::222233334444:root"}, False),
        ({"Service": "lambda.amazonaws.com"}, False),
    ],
)
def test_principals_are_compared(principal: Any, *, named: bool) -> None:
    """By role ARN, by account, or everybody; wildcards inside an ARN do not count, as in AWS."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    callers = names_of("111122223333", "arn:aws:iam::111122223333:role/Hub")
    decision = decide([statement], Request("sts:AssumeRole"), callers)
    assert (decision == "allowed") is named


def test_an_unknown_kind_of_principal_is_an_error() -> None:
    """Federated and negated principals are not evaluated here, nor are negated resources where there is no resource."""
    for statement in (
        {"Effect": "Deny", "Principal": "*", "Action": "*", "NotResource": "*"},
        {"Effect": "Allow", "Principal": {"Federated": "x"}, "Action": "*"},
        {"Effect": "Deny", "NotPrincipal": {"AWS": "*"}, "Action": "*"},
    ):
        with pytest.raises(UnsupportedPolicyError):
            decide([statement], Request("sts:AssumeRole"), names_of("111122223333"))
