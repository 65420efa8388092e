"""VPCE.5: a table of VPCs, what the policy wants of them, and their verdicts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from portcullis.actions import SetEndpointPolicy
from portcullis.controls.vpce_5 import VPCE_5
from portcullis.endpoint_policies import FULL_ACCESS, digest, render
from portcullis.model import (
    OWNERSHIP_TAG,
    Evaluation,
    InterfaceService,
    Kind,
    Needs,
    Scope,
    Snapshot,
    Status,
    Vpc,
    VpcEndpoint,
)
from portcullis.policy import Subject, parse

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION

PASSED, FAILED, NOT_APPLICABLE = Status.PASSED, Status.FAILED, Status.NOT_APPLICABLE
S3, EXPRESS, DYNAMODB, ECR, SSM = (
    f"com.amazonaws.{REGION}.{short}" for short in ("s3", "s3express", "dynamodb", "ecr.api", "ssm")
)
ODD = "cn.example.odd"
"""A service name without a Region in it, which has no short form."""
IAM = "com.amazonaws.iam"

STATEMENT = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
PERIMETER = {"perimeter": {"organisation": "o-exampleorgid", "buckets": ["partner-bucket"]}}
POLICIES: dict[str, dict[str, Any]] = {
    "perimeter": PERIMETER,
    "reading": {"document": {"Version": "2012-10-17", "Statement": [STATEMENT]}},
    "region": {
        "document": {"Statement": [{**STATEMENT, "Resource": "arn:${Partition}:s3:::${Region}-${AccountId}/*"}]}
    },
    "long": {"document": {"Statement": [{**STATEMENT, "Sid": "x" * 30000}]}},
    "broken": {"document": {"Statement": []}},
}


def written(name: str, short: str = "s3", partition: str = "aws") -> str:
    """Return the document that a named policy stands for."""
    return render(POLICIES[name], partition, REGION, ACCOUNT, short)


def endpoint(
    document: str = FULL_ACCESS, *, service: str = S3, ours: bool = True, name: str = "vpce-1", **others: Any
) -> VpcEndpoint:
    """Return an available gateway endpoint of ours with a policy."""
    fields: dict[str, Any] = {
        "endpoint_type": "Gateway",
        "state": "available",
        "policy_document": document,
        "policy_digest": digest(document),
        "tags": {OWNERSHIP_TAG: "true"} if ours else {},
    }
    return VpcEndpoint(name, "vpc-0", service_name=service, **(fields | others))


def put(
    name: str = "perimeter", endpoint_id: str = "vpce-1", service: str = S3, short: str = "s3", partition: str = "aws"
) -> SetEndpointPolicy:
    """Return the expected change."""
    return SetEndpointPolicy("VPCE.5", "vpc-0", endpoint_id, service, name, written(name, short, partition))


@dataclass(frozen=True)
class Row:
    """One VPC, what the policy says, and what the control has to say."""

    name: str
    status: Status
    endpoints: tuple[VpcEndpoint, ...] = ()
    actions: tuple[SetEndpointPolicy, ...] = ()
    words: tuple[str, ...] = ()
    policies: dict[str, str] = field(default_factory=lambda: {"s3": "perimeter"})
    owner_id: str = ACCOUNT
    partition: str = "aws"
    remedy: str = ""
    wait: str | None = None


READING = {"s3": "reading"}
REORDERED = json.dumps(
    {"Statement": {**STATEMENT, "Sid": "Mine", "Action": ["S3:ListBucket", "s3:getobject"]}}, indent=2
)
COMMAND = "aws ec2 modify-vpc-endpoint --vpc-endpoint-id"

ROWS = (
    Row("full access is not the perimeter", FAILED, (endpoint(),), (put(),),
        ("vpc-0: Without the policy perimeter: vpce-1.",), remedy=f"{COMMAND} vpce-1 --policy-document"),
    Row("it has the perimeter", PASSED, (endpoint(written("perimeter")),), words=("vpc-0", "vpce-1")),
    Row("the same in other words", PASSED, (endpoint(REORDERED),), policies=READING),
    Row("another policy", FAILED, (endpoint(REORDERED),), (put(),)),
    Row("not even a policy", FAILED, (endpoint("?"),), (put(),)),
    Row("none is seen", FAILED, (endpoint(""),), (put(),)),
    Row("theirs is reported", FAILED, (endpoint(ours=False),), (),
        ("Without the policy perimeter, and created by others: vpce-1.",), remedy=f"{COMMAND} vpce-1"),
    Row("theirs has it", PASSED, (endpoint(written("perimeter"), ours=False),)),
    Row("ours and theirs", FAILED, (endpoint(ours=False, name="vpce-2"), endpoint()), (put(),),
        ("perimeter: vpce-1.", "created by others: vpce-2.")),
    Row("our tag on what a service manages is not ours", NOT_APPLICABLE, (endpoint(requester_managed=True),)),
    Row("one of two of ours", FAILED, (endpoint(written("perimeter")), endpoint(name="vpce-2")),
        (put(endpoint_id="vpce-2"),), ("perimeter: vpce-2.",)),
    Row("both of ours", FAILED, (endpoint(name="vpce-2"), endpoint()), (put(), put(endpoint_id="vpce-2")),
        ("perimeter: vpce-1, vpce-2.",)),
    Row("an interface endpoint", FAILED, (endpoint(endpoint_type="Interface"),), (put(),)),
    Row("the type in lower case", FAILED, (endpoint(endpoint_type="interface"),), (put(),)),
    Row("a load balancer's endpoint has none", NOT_APPLICABLE, (endpoint(endpoint_type="GatewayLoadBalancer"),)),
    Row("ours is pending", FAILED, (endpoint(state="pending"),), (put(),), wait="vpce-1 is pending"),
    Row("theirs is pending", FAILED, (endpoint(state="pending", ours=False),)),
    *(Row(f"state {state} does not count", NOT_APPLICABLE, (endpoint(state=state),))
      for state in ("deleting", "deleted", "failed", "rejected", "expired", "pendingacceptance")),
    Row("s3express is not s3", NOT_APPLICABLE, (endpoint(service=EXPRESS),), words=("no endpoint of s3",)),
    Row("s3 is not s3express", NOT_APPLICABLE, (endpoint(),), policies={"s3express": "reading"}),
    Row("a name of two parts", FAILED, (endpoint(service=ECR),), (put("reading", service=ECR, short="ecr.api"),),
        policies={"ecr.api": "reading"}),
    Row("its last part alone is no service", NOT_APPLICABLE, (endpoint(service=ECR),), policies={"api": "reading"}),
    Row("China puts more in front", FAILED, (endpoint(service=f"cn.{DYNAMODB}"),),
        (put("reading", service=f"cn.{DYNAMODB}", short="dynamodb"),), policies={"dynamodb": "reading"}),
    Row("what other controls need to see does not matter", NOT_APPLICABLE, (endpoint(service=ODD),),
        policies={"odd": "reading"}),
    Row("a name without a Region", FAILED, (endpoint(service=ODD),), (put("reading", service=ODD, short=ODD),),
        policies={ODD: "reading"}),
    Row("a global service", FAILED, (endpoint(service=IAM),), (put("reading", service=IAM, short="iam"),),
        policies={"iam": "reading"}),
    Row("a full name renders what the short one does", FAILED, (endpoint(),), (put(),), policies={S3: "perimeter"}),
    Row("and is refused what the short one is", FAILED, (endpoint(service=SSM),), (),
        ("The policy perimeter cannot be given to ssm", "cut off"), {SSM: "perimeter"}),
    Row("also that of a global service", FAILED, (endpoint(service=IAM),), (),
        ("The policy perimeter cannot be given to iam", "cut off"), {IAM: "perimeter"}),
    Row("a service that is not named is not judged", NOT_APPLICABLE, (endpoint(service=SSM),)),
    Row("each its own", FAILED, (endpoint(), endpoint(service=DYNAMODB, name="vpce-2")),
        (put("reading", "vpce-2", DYNAMODB, "dynamodb"), put("region")),
        ("Without the policy reading: vpce-2. Without the policy region: vpce-1.",),
        {"s3": "region", "dynamodb": "reading"}),
    Row("written out for Region and account", PASSED, (endpoint(written("region")),), policies={"s3": "region"}),
    Row("and for the partition", FAILED, (endpoint(written("region")),), (put("region", partition="aws-cn"),),
        policies={"s3": "region"}, partition="aws-cn"),
    Row("too long for AWS", FAILED, (endpoint(),), (), ("The policy long cannot be given to s3", "20480"),
        {"s3": "long"}, remedy="endpoint_policies"),
    Row("malformed", FAILED, (endpoint(),), (), ("The policy broken cannot be given to s3", "`Statement`"),
        {"s3": "broken"}),
    Row("the perimeter does not fit the service", FAILED, (endpoint(service=SSM),), (),
        ("The policy perimeter cannot be given to ssm", "cut off"), {"ssm": "perimeter"}),
    Row("no such policy", FAILED, (endpoint(),), (), ("has no endpoint policy of this name",), {"s3": "absent"}),
    Row("a fault does not keep the others", FAILED, (endpoint(), endpoint(service=DYNAMODB, name="vpce-2")), (put(),),
        ("Without the policy perimeter: vpce-1. The policy absent",), {"s3": "perimeter", "dynamodb": "absent"}),
    Row("a fault without an endpoint does not matter", PASSED, (endpoint(written("perimeter")),),
        policies={"s3": "perimeter", "dynamodb": "absent"}),
    Row("no endpoint at all", NOT_APPLICABLE, words=("vpc-0 has no endpoint of s3, so none with a wrong policy.",)),
    Row("the policy names nothing", NOT_APPLICABLE, (endpoint(),), policies={}, words=("whose policy is named",)),
    Row("shared by another account", NOT_APPLICABLE, (endpoint(),), words=(OTHER_ACCOUNT,), owner_id=OTHER_ACCOUNT),
)  # fmt: skip


def judge(row: Row) -> Evaluation:
    """Evaluate a row's VPC."""
    vpc = Vpc("vpc-0", row.owner_id, endpoints=row.endpoints)
    snapshot = Snapshot(
        Scope(ACCOUNT, REGION),
        vpcs={"vpc-0": vpc},
        gateway_services={"s3": S3, "odd": ODD},
        interface_services={"odd": InterfaceService(ODD)},
        partition=row.partition,
    )
    entry = {"mode": "remediate", "policies": row.policies}
    policy = parse({"version": 1, "controls": {"VPCE.5": entry}, "endpoint_policies": POLICIES})
    return VPCE_5.evaluate(snapshot, vpc, policy.settings(Subject(ACCOUNT, (), REGION, Kind.VPC, "vpc-0"), "VPCE.5"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdict_and_actions(row: Row) -> None:
    """Each VPC gets its verdict, exactly the actions that would make it right, and a sentence that says why."""
    evaluation = judge(row)

    assert evaluation.status is row.status
    assert evaluation.actions == row.actions
    assert (evaluation.control_id, evaluation.kind, evaluation.resource_id) == ("VPCE.5", Kind.VPC, "vpc-0")
    assert [word for word in row.words if word not in evaluation.reason] == []
    assert evaluation.reason.endswith(".")
    assert row.remedy in evaluation.remedy
    assert bool(evaluation.remedy) is (row.status is FAILED)
    assert evaluation.wait == row.wait


@pytest.mark.parametrize("row", [row for row in ROWS if row.actions], ids=lambda row: row.name)
def test_what_is_set_is_not_set_again(row: Row) -> None:
    """Once its actions are carried out, nothing is left that Portcullis would do."""
    documents = {action.endpoint_id: action.document for action in row.actions}
    done = tuple(
        endpoint(documents.get(one.endpoint_id, one.policy_document), service=one.service_name, name=one.endpoint_id)
        for one in row.endpoints
        if one.is_ours
    )
    assert judge(Row("", PASSED, done, policies=row.policies, partition=row.partition)).actions == ()


def test_it_asks_for_nothing_more_to_be_seen() -> None:
    """Endpoints are observed with their policies anyway."""
    assert VPCE_5.needs(parse({"version": 1, "controls": {"VPCE.5": {"mode": "detect"}}})) == Needs()
