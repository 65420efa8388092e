"""Installing the patches, and what the hooks are told."""

from __future__ import annotations

from typing import Any

from moto.core.responses import BaseResponse

from local import fidelity

from .conftest import MEMBER, REGION, Aws, error_of


def test_a_second_install_only_swaps_the_hooks(aws: Aws, ec2: Any) -> None:
    """Nothing is wrapped twice, and the new hooks are in force at once."""
    wrapped = BaseResponse.call_action
    told: list[fidelity.ApiCall] = []
    fidelity.install(fidelity.Hooks(on_api_call=told.append))
    assert BaseResponse.call_action is wrapped
    ec2.create_vpc(CidrBlock="10.0.0.0/16")
    assert [call.action for call in told] == ["CreateVpc"]
    assert aws.calls == []


def test_mutating_calls_are_reported_with_request_and_response(aws: Aws, ec2: Any, vpc_id: str) -> None:
    """Typed as boto3 has them; reads and other services are not reported."""
    ec2.describe_vpcs()
    aws.client("sqs").create_queue(QueueName="q")
    aws.client("iam").create_instance_profile(InstanceProfileName="app")
    aws.client("securityhub").enable_security_hub()
    error_of(ec2.delete_vpc, VpcId="vpc-0a")
    assert [(call.service, call.action, call.error_code) for call in aws.calls] == [
        ("ec2", "CreateVpc", None),
        ("iam", "CreateInstanceProfile", None),
        ("securityhub", "EnableSecurityHub", None),
        ("ec2", "DeleteVpc", "InvalidVpcID.NotFound"),
    ]
    created, _, _, deleted = aws.calls
    assert (created.account_id, created.region) == (MEMBER, REGION)
    assert created.principal_arn == f"arn:aws:iam::{MEMBER}:user/local"
    assert created.request == {"CidrBlock": "10.0.0.0/16"}
    assert created.response["Vpc"]["VpcId"] == vpc_id
    assert (deleted.request, deleted.response) == ({"VpcId": "vpc-0a"}, {})


def test_an_iam_user_is_named(aws: Aws) -> None:
    """Calls with the keys of an IAM user are the user's."""
    iam = aws.client("iam")
    iam.create_user(UserName="alice")
    keys = iam.create_access_key(UserName="alice")["AccessKey"]
    aws.client_with_keys("ec2", keys).create_vpc(CidrBlock="10.0.0.0/16")
    assert aws.calls[-1].principal_arn == f"arn:aws:iam::{MEMBER}:user/alice"
    assert aws.calls[-1].account_id == MEMBER


def test_the_clock_of_the_hooks_dates_events(aws: Aws, ec2: Any) -> None:
    """So that a demonstration can run at a time of its own."""
    url = aws.watch({"source": ["aws.ec2"]})
    fidelity.install(fidelity.Hooks(clock=lambda: 1_700_000_000.0))
    ec2.create_vpc(CidrBlock="10.0.0.0/16")
    (event,) = aws.received(url)
    assert event["time"] == event["detail"]["eventTime"] == "2023-11-14T22:13:20Z"
