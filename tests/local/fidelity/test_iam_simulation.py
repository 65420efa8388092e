"""The policy simulator: decisions, what they rest on, and what the caller did not say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.iam.models import IAMBackend

from local.fidelity import organizations

from .conftest import HUB, MEMBER, Aws, error_of

BUCKET = "arn:aws:s3:::data"


def _document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _allow(*actions: str, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


DENY_S3 = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}


def _simulate(aws: Aws, *statements: dict[str, Any], actions: Any = ("s3:GetObject",), **request: Any) -> list[Any]:
    arn = aws.role("app", allow=list(statements))
    answer = aws.client("iam").simulate_principal_policy(PolicySourceArn=arn, ActionNames=list(actions), **request)
    assert answer["IsTruncated"] is False
    return list(answer["EvaluationResults"])


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([_allow("s3:Get*")], "allowed"),
        ([_allow("s3:*"), DENY_S3], "explicitDeny"),
        ([_allow("ec2:*")], "implicitDeny"),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], "allowed"),
        ([_allow("*"), {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:ec2:*"}], "explicitDeny"),
        ([_allow("s3:*", resource=f"{BUCKET}/*")], "implicitDeny"),
    ],
)
def test_policies_decide(aws: Aws, statements: list[Any], decision: str) -> None:
    """By the evaluation that enforces them here."""
    (result,) = _simulate(aws, *statements)
    assert (result["EvalActionName"], result["EvalResourceName"]) == ("s3:GetObject", "*")
    assert result["EvalDecision"] == decision
    assert bool(result["MatchedStatements"]) is (decision != "implicitDeny")


def test_each_action_has_one_result_with_one_for_each_resource(aws: Aws) -> None:
    """The worst of them is that of the action."""
    resources = [f"{BUCKET}/a", "arn:aws:s3:::other/a"]
    statement = _allow("s3:GetObject", "s3:PutObject", resource=f"{BUCKET}/*")
    deny = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"{BUCKET}/*"}
    get, put = _simulate(aws, statement, deny, actions=("s3:GetObject", "s3:PutObject"), ResourceArns=resources)
    assert (get["EvalDecision"], put["EvalDecision"]) == ("implicitDeny", "explicitDeny")
    decisions = {one["EvalResourceName"]: one["EvalResourceDecision"] for one in get["ResourceSpecificResults"]}
    assert decisions == dict(zip(resources, ("allowed", "implicitDeny"), strict=True))


def test_conditions_that_the_caller_says_nothing_about_are_named(aws: Aws) -> None:
    """They do not hold, unless they are negated; with their values, they are evaluated."""
    conditions = {"StringEquals": {"aws:SourceVpce": "vpce-1"}, "StringNotEquals": {"aws:PrincipalTag/Team": "x"}}
    statement = _allow("s3:*", Condition=conditions)
    (result,) = _simulate(aws, statement)
    assert result["EvalDecision"] == "implicitDeny"
    assert result["MissingContextValues"] == ["aws:PrincipalTag/Team", "aws:SourceVpce"]
    entry = {"ContextKeyName": "aws:sourcevpce", "ContextKeyType": "string"}
    for value, decision in (("vpce-1", "allowed"), ("vpce-2", "implicitDeny")):
        entries = [{**entry, "ContextKeyValues": [value]}]
        iam = aws.client("iam")
        answer = iam.simulate_custom_policy(
            PolicyInputList=[_document(statement)], ActionNames=["s3:GetObject"], ContextEntries=entries
        )
        (result,) = answer["EvaluationResults"]
        assert (result["EvalDecision"], result["MissingContextValues"]) == (decision, ["aws:PrincipalTag/Team"])


@pytest.mark.parametrize(
    ("condition", "decision"),
    [
        ({"Bool": {"aws:SecureTransport": "true"}}, "implicitDeny"),
        ({"BoolIfExists": {"aws:MultiFactorAuthPresent": "true"}}, "allowed"),
        ({"Null": {"aws:SourceVpce": "true"}}, "allowed"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, "implicitDeny"),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, "allowed"),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}, "allowed"),
        ({"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["a"]}}, "implicitDeny"),
    ],
)
def test_a_missing_key_counts_as_in_aws(aws: Aws, condition: Any, decision: str) -> None:
    """Whatever the operator."""
    (result,) = _simulate(aws, _allow("s3:*", Condition=condition))
    assert result["EvalDecision"] == decision
    assert result["MissingContextValues"] == [key for block in condition.values() for key in block]


def test_what_cannot_be_evaluated_is_an_error(aws: Aws) -> None:
    """An address that is given, a wildcard for an action, a role that is not there or is another account's."""
    entry = {"ContextKeyName": "aws:SourceIp", "ContextKeyType": "ip", "ContextKeyValues": ["10.0.0.1"]}
    iam, policy = aws.client("iam"), _document(_allow("*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))
    custom = {"PolicyInputList": [policy], "ActionNames": ["s3:GetObject"]}
    assert error_of(iam.simulate_custom_policy, **custom, ContextEntries=[entry])[0] == "UnsupportedPolicy"
    several = {**entry, "ContextKeyName": "aws:SourceVpc", "ContextKeyValues": ["vpc-1", "vpc-2"]}
    assert error_of(iam.simulate_custom_policy, **custom, ContextEntries=[several])[0] == "UnsupportedPolicy"
    assert error_of(iam.simulate_custom_policy, **custom, ResourcePolicy=policy)[0] == "InvalidAction"
    wild = {**custom, "ActionNames": ["s3:*"]}
    assert error_of(iam.simulate_custom_policy, **wild)[0] == "InvalidInput"
    for arn in (f"arn:aws:iam::{MEMBER}:role/nobody", aws.role("theirs", HUB)):
        request = {"PolicySourceArn": arn, "ActionNames": ["s3:GetObject"]}
        assert error_of(iam.simulate_principal_policy, **request)[0] == "NoSuchEntity"


def test_results_come_in_pages(aws: Aws) -> None:
    """MaxItems and Marker, as boto3's paginator uses them."""
    arn, actions = aws.role("app", allow=[_allow("*")]), [f"s3:Get{number}" for number in range(5)]
    pages = (
        aws.client("iam")
        .get_paginator("simulate_principal_policy")
        .paginate(PolicySourceArn=arn, ActionNames=actions, PaginationConfig={"PageSize": 2})
    )
    assert [[one["EvalActionName"] for one in page["EvaluationResults"]] for page in pages] == [
        actions[:2],
        actions[2:4],
        actions[4:],
    ]


def test_attached_policies_of_aws_count(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moto has their documents."""
    monkeypatch.setattr(IAMBackend, "_init_aws_policies", _only_core(IAMBackend._init_aws_policies))
    iam = aws.client("iam")
    arn = aws.role("app")
    iam.attach_role_policy(RoleName="app", PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
    actions = ["ssm:UpdateInstanceInformation", "s3:GetObject"]
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)["EvaluationResults"]
    assert [one["EvalDecision"] for one in answer] == ["allowed", "implicitDeny"]
    (matched,) = answer[0]["MatchedStatements"]
    assert matched["SourcePolicyId"] == "AmazonSSMManagedInstanceCore"


def _only_core(load: Any) -> Any:
    """Load one of AWS's 1,500 policies."""
    from moto.core.config import default_user_config  # noqa: PLC0415 - only here

    def init(backend: Any) -> list[Any]:
        before = default_user_config["iam"]["load_aws_managed_policies"]
        default_user_config["iam"]["load_aws_managed_policies"] = True
        try:
            return [one for one in load(backend) if one.name == "AmazonSSMManagedInstanceCore"]
        finally:
            default_user_config["iam"]["load_aws_managed_policies"] = before

    return init


@pytest.mark.parametrize(("bounded", "decision"), [([_allow("s3:*")], "allowed"), ([_allow("ec2:*")], "implicitDeny")])
def test_a_permissions_boundary_limits(aws: Aws, bounded: list[Any], decision: str) -> None:
    """And says so."""
    iam, arn = aws.client("iam"), aws.role("app", allow=[_allow("*")])
    policy = iam.create_policy(PolicyName="limit", PolicyDocument=_document(*bounded))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName="app", PermissionsBoundary=policy)
    (result,) = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["s3:GetObject"])["EvaluationResults"]
    assert result["EvalDecision"] == decision
    assert result["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": decision == "allowed"}


def test_the_policies_of_the_organisation_limit(aws: Aws) -> None:
    """At any level above the account; those with conditions are left out, as in AWS; nobody restricts the owner."""
    organizations.create("o-exampleorgid", "r-0a1b", HUB, {"ou-0a1b-workload": ("Workloads", "r-0a1b")})
    organizations.add_account(HUB, MEMBER, "workload", "ou-0a1b-workload")
    owner = aws.client("organizations", HUB)
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    conditional = {**deny, "Action": "ec2:*", "Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}}
    policy = owner.create_policy(
        Content=_document(deny, conditional), Description="d", Name="no-s3", Type="SERVICE_CONTROL_POLICY"
    )["Policy"]["PolicySummary"]["Id"]
    statement, actions = _allow("*"), ("s3:GetObject", "ec2:DescribeVpcs")
    free = _simulate(aws, statement, actions=actions)
    assert [one["OrganizationsDecisionDetail"] for one in free] == [{"AllowedByOrganizations": True}] * 2
    owner.attach_policy(PolicyId=policy, TargetId="ou-0a1b-workload")
    answer = aws.client("iam").simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{MEMBER}:role/app", ActionNames=list(actions)
    )["EvaluationResults"]
    assert [one["EvalDecision"] for one in answer] == ["explicitDeny", "allowed"]
    assert answer[0]["OrganizationsDecisionDetail"] == {"AllowedByOrganizations": False}
    owner.attach_policy(PolicyId=policy, TargetId=HUB)
    arn = aws.role("app", HUB, allow=[statement])
    iam = aws.client("iam", HUB)
    (result,) = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["s3:GetObject"])["EvaluationResults"]
    assert result["EvalDecision"] == "allowed"
    assert "OrganizationsDecisionDetail" not in result
