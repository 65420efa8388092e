"""Trust policies for everybody, identity policies for the project's own roles."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.iam.models import iam_backends

from local.fidelity.authorization import AssumeRoleDeniedError, assume_role_as_service, role_trusting

from .conftest import HUB, MEMBER, ORGANISATION_ID, OTHER, REGION, Aws, error_of

S3 = f"com.amazonaws.{REGION}.s3"
SESSION_ARN = f"arn:aws:sts::{MEMBER}:assumed-role/portcullis-remediator/session"


def _allow(*actions: str, resource: Any = "*", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def _trust(principal: Any, **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {**statement, "Condition": condition} if condition else statement


def _session(aws: Aws, service: str, *allow: dict[str, Any]) -> Any:
    """Return a client in a session of a role of the project's that is allowed just this."""
    role_arn = aws.role("portcullis-remediator", allow=list(allow))
    return aws.as_role(service, role_arn)


def _assume(client: Any, role_arn: str, **parameters: Any) -> Any:
    return client.assume_role(RoleArn=role_arn, RoleSessionName="session", **parameters)


# Trust


def test_a_role_that_does_not_exist_cannot_be_assumed(aws: Aws) -> None:
    """Moto hands out sessions of any ARN."""
    missing = {"RoleArn": f"arn:aws:iam::{MEMBER}:role/missing", "RoleSessionName": "session"}
    code, message = error_of(aws.client("sts").assume_role, **missing)
    assert code == "AccessDenied"
    assert "sts:AssumeRole on resource: arn:aws:iam::111122223333:role/missing" in message


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ({"AWS": f"arn:aws:iam::{HUB}:role/Hub"}, True),
        ({"AWS": f"arn:aws:iam::{HUB}:root"}, True),
        ({"AWS": "*"}, True),
        ({"AWS": [f"arn:aws:iam::{HUB}:role/Other", f"arn:aws:iam::{HUB}:role/Hub"]}, True),
        ({"AWS": [f"arn:aws:iam::{HUB}:role/Other", f"arn:aws:iam::{OTHER}:root"]}, False),
        ({"AWS": f"arn:aws:iam::{HUB}:role/Other"}, False),
        ({"AWS": f"arn:aws:iam::{OTHER}:root"}, False),
        ({"Service": "lambda.amazonaws.com"}, False),
    ],
)
def test_the_trust_policy_must_name_the_caller(aws: Aws, principal: Any, *, allowed: bool) -> None:
    """A role by its ARN, an account by its root, everybody by a star; moto does not look."""
    target = aws.role("target", MEMBER, trust=_trust(principal))
    hub = aws.as_role("sts", aws.role("Hub", HUB))
    if allowed:
        assert _assume(hub, target)["AssumedRoleUser"]["Arn"].endswith(":assumed-role/target/session")
    else:
        assert error_of(_assume, client=hub, role_arn=target)[0] == "AccessDenied"


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"StringEquals": {"aws:PrincipalOrgID": ORGANISATION_ID}}, True),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-another"}}, False),
        ({"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{HUB}:role/Hub"}}, True),
        ({"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{HUB}:role/portcullis-*"}}, False),
        ({"StringLike": {"aws:PrincipalArn": "*:role/H*"}}, True),
        ({"StringEquals": {"sts:RoleSessionName": "session"}}, True),
        ({"StringEquals": {"sts:RoleSessionName": "another"}}, False),
    ],
)
def test_conditions_of_a_trust_policy_are_evaluated(aws: Aws, condition: Any, *, allowed: bool) -> None:
    """Organisation and principal ARN."""
    target = aws.role("target", MEMBER, trust=_trust({"AWS": "*"}, **condition))
    hub = aws.as_role("sts", aws.role("Hub", HUB))
    if allowed:
        _assume(hub, target)
    else:
        denied = error_of(_assume, client=hub, role_arn=target)
        assert denied[0] == "AccessDenied"


TAG = {"Tags": [{"Key": "target", "Value": "vpc-1"}]}
BOTH = ("sts:AssumeRole", "sts:TagSession")


@pytest.mark.parametrize(
    ("trusted", "permitted", "missing"),
    [
        (BOTH, BOTH, None),
        (BOTH[:1], BOTH, "sts:TagSession"),
        (BOTH, BOTH[:1], "sts:TagSession"),
        (BOTH[1:], BOTH, "sts:AssumeRole"),
    ],
)
def test_session_tags_need_tag_session_on_both_sides(
    aws: Aws, trusted: Any, permitted: Any, missing: str | None
) -> None:
    """In the role's trust policy and in the caller's own policies; without tags, neither."""
    condition = {"StringEquals": {"aws:RequestTag/target": "vpc-1"}}
    statement = {**_trust({"AWS": "*"}), "Action": list(trusted)}
    tagged = {**statement, "Condition": condition} if missing is None else statement
    target = aws.role("target", MEMBER, trust=tagged)
    hub = aws.as_role("sts", aws.role("portcullis-hub", HUB, allow=_allow(*permitted, resource=target)))
    if missing is None:
        _assume(hub, target, **TAG)
        (call,) = (call for call in aws.calls if call.request.get("Tags"))
        assert (call.request["RoleSessionName"], call.request["Tags"]) == ("session", TAG["Tags"])
        assert error_of(_assume, client=hub, role_arn=target)[0] == "AccessDenied", "the condition wants the tag"
    else:
        assert (
            f"to perform: {missing} on resource: {target}" in error_of(_assume, client=hub, role_arn=target, **TAG)[1]
        )
        if missing == "sts:TagSession":
            _assume(hub, target)


def test_a_service_says_on_whose_behalf_it_assumes_a_role(aws: Aws) -> None:
    """aws:SourceAccount, for those that send it."""
    condition = {"StringEquals": {"aws:SourceAccount": MEMBER}}
    role_arn = aws.role("machine", trust=_trust({"Service": "states.amazonaws.com"}, **condition))
    assert role_trusting(role_arn, "states.amazonaws.com", MEMBER).arn == role_arn
    for account_id in (None, OTHER):
        with pytest.raises(AssumeRoleDeniedError):
            role_trusting(role_arn, "states.amazonaws.com", account_id)


def test_an_account_outside_the_organisation_fails_its_condition(aws: Aws) -> None:
    """Its calls carry no organisation id at all."""
    condition = {"StringEquals": {"aws:PrincipalOrgID": ORGANISATION_ID}}
    target = aws.role("target", MEMBER, trust=_trust({"AWS": "*"}, **condition))
    stranger = aws.client("sts", "999999999999")
    assert error_of(_assume, client=stranger, role_arn=target)[0] == "AccessDenied"


def test_an_unknown_condition_in_a_trust_policy_is_an_error(aws: Aws) -> None:
    """A pass would hide a mistake, a denial would blame the wrong thing."""
    condition = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    target = aws.role("target", MEMBER, trust=_trust({"AWS": "*"}, **condition))
    code, message = error_of(_assume, client=aws.client("sts"), role_arn=target)
    assert code == "UnsupportedPolicy"
    assert "aws:MultiFactorAuthPresent" in message


def test_an_enforced_role_needs_assume_role_in_its_own_policies(aws: Aws) -> None:
    """Trust alone does not let the hub into a member; the resource is compared exactly."""
    target, other = (aws.role(name, MEMBER) for name in ("target", "other"))
    hub = aws.as_role("sts", aws.role("portcullis-hub", HUB, allow=_allow("sts:AssumeRole", resource=target)))
    _assume(hub, target)
    assert error_of(_assume, client=hub, role_arn=other)[0] == "AccessDenied"


@pytest.mark.parametrize("tags", [{}, TAG])
def test_roles_of_accounts_outside_the_organisation_are_told_apart(aws: Aws, tags: Any) -> None:
    """aws:ResourceOrgID on AssumeRole and TagSession: of whose organisation the role is, not the caller."""
    ours = {"StringEquals": {"aws:ResourceOrgID": ORGANISATION_ID}}
    trust = {**_trust({"AWS": "*"}), "Action": list(BOTH)}
    target, stranger = (aws.role("target", account_id, trust=trust) for account_id in (MEMBER, "999999999999"))
    allowed = _allow(*BOTH, resource="arn:aws:iam::*:role/target", **ours)
    hub = aws.as_role("sts", aws.role("portcullis-hub", HUB, allow=allowed))
    _assume(hub, target, **tags)
    assert error_of(_assume, client=hub, role_arn=stranger, **tags)[0] == "AccessDenied"


def test_a_trust_policy_may_compare_its_own_organisation(aws: Aws) -> None:
    """aws:ResourceOrgID is that of the role."""
    conditions = [{"StringEquals": {"aws:ResourceOrgID": one}} for one in (ORGANISATION_ID, "o-another")]
    ours, other = (aws.role(f"r{i}", trust=_trust({"AWS": "*"}, **one)) for i, one in enumerate(conditions))
    hub = aws.as_role("sts", aws.role("Hub", HUB))
    _assume(hub, ours)
    assert error_of(_assume, client=hub, role_arn=other)[0] == "AccessDenied"


def test_a_service_assumes_a_role_that_trusts_it(aws: Aws) -> None:
    """How the runtime gets a function's credentials."""
    trust = _trust({"Service": "lambda.amazonaws.com"})
    role_arn = aws.role("portcullis-function", trust=trust, allow=_allow("ec2:DescribeVpcs"))
    keys = assume_role_as_service(role_arn, "function", service="lambda.amazonaws.com", region=REGION)
    aws.client_with_keys("ec2", keys).describe_vpcs()
    identity = aws.client_with_keys("sts", keys).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{MEMBER}:assumed-role/portcullis-function/function"
    for wrong_arn, service in ((role_arn, "states.amazonaws.com"), (role_arn + "x", "lambda.amazonaws.com")):
        with pytest.raises(AssumeRoleDeniedError):
            assume_role_as_service(wrong_arn, "function", service=service, region=REGION)


# Identity policies


def test_other_sessions_may_do_everything(aws: Aws) -> None:
    """People of the local organisation need no policies."""
    made = aws.as_role("ec2", aws.role("OrganizationAccountAccessRole")).create_vpc(CidrBlock="10.0.0.0/16")
    assert made["Vpc"]["VpcId"]


def test_ec2_refuses_with_unauthorized_operation(aws: Aws) -> None:
    """HTTP 403, and the message names principal and action; the call has no effect."""
    ec2 = _session(aws, "ec2", _allow("ec2:Describe*"))
    ec2.describe_vpcs()
    with pytest.raises(ec2.exceptions.ClientError) as caught:
        ec2.create_vpc(CidrBlock="10.0.0.0/16")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert response["Error"]["Code"] == "UnauthorizedOperation"
    assert f"User: {SESSION_ARN} is not authorized to perform: ec2:CreateVpc" in response["Error"]["Message"]
    assert len(ec2.describe_vpcs()["Vpcs"]) == 1


def test_an_explicit_deny_wins(aws: Aws) -> None:
    """Whatever else allows the action."""
    deny = {"Effect": "Deny", "Action": "ec2:CreateVpc", "Resource": "*"}
    ec2 = _session(aws, "ec2", _allow("*"), deny)
    code, message = error_of(ec2.create_vpc, CidrBlock="10.0.0.0/16")
    assert (code, "explicit deny" in message) == ("UnauthorizedOperation", True)


def test_a_denied_call_is_recorded_and_reported(aws: Aws) -> None:
    """CloudTrail writes Client.UnauthorizedOperation, and the hook sees the call."""
    url = aws.watch({"source": ["aws.ec2"]})
    ec2 = _session(aws, "ec2")
    error_of(ec2.create_vpc, CidrBlock="10.0.0.0/16")
    assert [event["detail"]["errorCode"] for event in aws.received(url)] == ["Client.UnauthorizedOperation"]
    call = aws.calls[-1]
    assert (call.action, call.error_code, call.principal_arn) == ("CreateVpc", "UnauthorizedOperation", SESSION_ARN)


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "code"),
    [
        ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "x"}}}, "AccessDeniedException"),
        ("lambda", "invoke", {"FunctionName": "f"}, "AccessDeniedException"),
        ("securityhub", "get_findings", {}, "AccessDeniedException"),
        ("events", "put_events", {"Entries": [{"Source": "x"}]}, "AccessDeniedException"),
        ("sqs", "list_queues", {}, "AccessDenied"),
        ("iam", "list_roles", {}, "AccessDenied"),
        ("organizations", "list_accounts", {}, "AccessDeniedException"),
        ("stepfunctions", "list_state_machines", {}, "AccessDeniedException"),
    ],
)
def test_every_service_refuses_in_its_own_way(
    aws: Aws, service: str, operation: str, parameters: dict[str, Any], code: str
) -> None:
    """The code depends on the protocol."""
    client = _session(aws, service, _allow("ec2:*"))
    assert error_of(getattr(client, operation), **parameters)[0] == code


@pytest.mark.parametrize("attached", [False, True])
def test_inline_and_attached_policies_count(aws: Aws, *, attached: bool) -> None:
    """Customer managed policies by their default version."""
    role_arn = aws.role("portcullis-remediator", allow=[])
    document = json.dumps({"Version": "2012-10-17", "Statement": _allow("ec2:CreateVpc")})
    iam = aws.client("iam")
    if attached:
        policy = iam.create_policy(PolicyName="p", PolicyDocument=document)["Policy"]["Arn"]
        iam.attach_role_policy(RoleName="portcullis-remediator", PolicyArn=policy)
    else:
        iam.put_role_policy(RoleName="portcullis-remediator", PolicyName="p", PolicyDocument=document)
    assert aws.as_role("ec2", role_arn).create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]


def test_an_unknown_managed_policy_is_an_error_that_names_it(aws: Aws) -> None:
    """Guessing what AWS's own policies allow would hide what is missing."""
    arn = "arn:aws:iam::aws:policy/NobodyKnowsThis"
    aws.role("portcullis-remediator")
    wanted = {"RoleName": "portcullis-remediator", "PolicyArn": arn}
    code, message = error_of(aws.client("iam").attach_role_policy, **wanted)
    assert (code, arn in message) == ("NoSuchEntity", True)


@pytest.mark.parametrize(
    ("service", "call", "action", "resource"),
    [
        (
            "sqs",
            ("send_message", {"QueueUrl": f"http://x/{MEMBER}/q", "MessageBody": "x"}),
            "sqs:SendMessage",
            f"arn:aws:sqs:{REGION}:{MEMBER}:q",
        ),
        (
            "dynamodb",
            ("get_item", {"TableName": "q", "Key": {"k": {"S": "x"}}}),
            "dynamodb:GetItem",
            f"arn:aws:dynamodb:{REGION}:{MEMBER}:table/q",
        ),
        (
            "dynamodb",
            ("batch_get_item", {"RequestItems": {"q": {"Keys": [{"k": {"S": "x"}}]}}}),
            "dynamodb:BatchGetItem",
            f"arn:aws:dynamodb:{REGION}:{MEMBER}:table/q",
        ),
        (
            "iam",
            ("get_instance_profile", {"InstanceProfileName": "q"}),
            "iam:GetInstanceProfile",
            f"arn:aws:iam::{MEMBER}:instance-profile/q",
        ),
        (
            "lambda",
            ("invoke", {"FunctionName": "q"}),
            "lambda:InvokeFunction",
            f"arn:aws:lambda:{REGION}:{MEMBER}:function:q",
        ),
        (
            "stepfunctions",
            ("start_execution", {"stateMachineArn": f"arn:aws:states:{REGION}:{MEMBER}:stateMachine:q"}),
            "states:StartExecution",
            f"arn:aws:states:{REGION}:{MEMBER}:stateMachine:q",
        ),
        (
            "scheduler",
            ("get_schedule", {"Name": "q", "GroupName": "looks"}),
            "scheduler:GetSchedule",
            f"arn:aws:scheduler:{REGION}:{MEMBER}:schedule/looks/q",
        ),
        ("ssm", ("get_parameter", {"Name": "/q"}), "ssm:GetParameter", f"arn:aws:ssm:{REGION}:{MEMBER}:parameter/q"),
        ("s3", ("get_bucket_policy", {"Bucket": "q"}), "s3:GetBucketPolicy", "arn:aws:s3:::q"),
        (
            "securityhub",
            ("describe_hub", {}),
            "securityhub:DescribeHub",
            f"arn:aws:securityhub:{REGION}:{MEMBER}:hub/default",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_resources_are_compared_where_the_request_names_them(
    aws: Aws, service: str, call: tuple[str, dict[str, Any]], action: str, resource: str
) -> None:
    """Allowed on `q`, the call gets through to the service; allowed on another, it is refused."""
    denied = ("AccessDenied", "AccessDeniedException")
    operation, parameters = call
    send = getattr(_session(aws, service, _allow(action, resource=resource)), operation)
    # None of these resources exists, so the service answers with an error of its own.
    assert error_of(send, **parameters)[0] not in denied
    iam_backends[MEMBER]["aws"].get_role("portcullis-remediator").policies["inline"] = json.dumps(
        {"Statement": _allow(action, resource=resource.removesuffix("q") + "other")}
    )
    assert error_of(send, **parameters)[0] in denied


def test_findings_are_imported_for_the_products_that_are_allowed(aws: Aws) -> None:
    """By the ARN in each finding."""
    arn = f"arn:aws:securityhub:{REGION}:{MEMBER}:product/{MEMBER}/default"
    client = _session(aws, "securityhub", _allow("securityhub:BatchImportFindings", resource=arn))
    found: dict[str, Any] = {
        "SchemaVersion": "2018-10-08",
        "Id": "f",
        "GeneratorId": "g",
        "AwsAccountId": MEMBER,
        "Title": "t",
    }
    found |= {"CreatedAt": "2026-01-01T00:00:00Z", "UpdatedAt": "2026-01-01T00:00:00Z", "Description": "d"}
    whole = {**found, "Resources": [{"Type": "Other", "Id": "r"}]}
    assert client.batch_import_findings(Findings=[{**whole, "ProductArn": arn}])["FailedCount"] == 1
    other = {**whole, "ProductArn": f"{arn}2"}
    assert error_of(client.batch_import_findings, Findings=[other])[0] == "AccessDeniedException"


def test_events_are_put_on_the_buses_that_are_allowed(aws: Aws) -> None:
    """By name or ARN; the default bus has both."""
    arn = f"arn:aws:events:{REGION}:{MEMBER}:event-bus/default"
    client = _session(aws, "events", _allow("events:PutEvents", resource=arn))
    entry = {"Source": "s", "DetailType": "t", "Detail": "{}"}
    assert client.put_events(Entries=[entry, {**entry, "EventBusName": arn}])["FailedEntryCount"] == 0
    assert error_of(client.put_events, Entries=[{**entry, "EventBusName": "x"}])[0] == "AccessDeniedException"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_transaction_needs_what_its_parts_need(aws: Aws, *, allowed: bool) -> None:
    """On the table of each part; there is no permission for transactions."""
    dynamodb = aws.client("dynamodb")
    keys = {"AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}], "BillingMode": "PAY_PER_REQUEST"}
    dynamodb.create_table(TableName="t", KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}], **keys)
    table = f"arn:aws:dynamodb:{REGION}:{MEMBER}:table/t"
    actions = ["dynamodb:PutItem", "dynamodb:DeleteItem", *(["dynamodb:ConditionCheckItem"] if allowed else [])]
    client = _session(aws, "dynamodb", _allow(*actions, resource=table))
    missing = {"ConditionExpression": "attribute_not_exists(k)"}
    parts: list[Any] = [
        {"Put": {"TableName": "t", "Item": {"k": {"S": "a"}}}},
        {"Delete": {"TableName": "t", "Key": {"k": {"S": "b"}}}},
        {"ConditionCheck": {"TableName": "t", "Key": {"k": {"S": "c"}}, **missing}},
    ]
    if allowed:
        client.transact_write_items(TransactItems=parts)
        assert dynamodb.scan(TableName="t")["Items"] == [{"k": {"S": "a"}}]
    else:
        message = error_of(client.transact_write_items, TransactItems=parts)[1]
        assert f"dynamodb:ConditionCheckItem on resource: {table}" in message


KEY, ITEM = {"pk": {"S": "coverage"}, "sk": {"S": "x"}}, {"pk": {"S": "coverage"}, "sk": {"S": "y"}}
ELSEWHERE = {"pk": {"S": "limits"}, "sk": {"S": "x"}}
UPDATE = {"UpdateExpression": "SET a = :a", "ExpressionAttributeValues": {":a": {"S": "x"}}}
QUERY = {"KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)"}


def _in(pk: str) -> dict[str, Any]:
    return {**QUERY, "ExpressionAttributeValues": {":pk": {"S": pk}, ":prefix": {"S": "x"}}}


@pytest.mark.parametrize(
    ("operation", "allowed", "refused"),
    [
        ("put_item", {"Item": ITEM}, {"Item": ELSEWHERE}),
        ("update_item", {"Key": KEY, **UPDATE}, {"Key": ELSEWHERE, **UPDATE}),
        ("delete_item", {"Key": KEY}, {"Key": ELSEWHERE}),
        ("query", _in("coverage"), _in("limits")),
        ("batch_get_item", [KEY, ITEM], [KEY, ELSEWHERE]),
        (
            "batch_write_item",
            [{"PutRequest": {"Item": ITEM}}, {"DeleteRequest": {"Key": KEY}}],
            [{"PutRequest": {"Item": ITEM}}, {"DeleteRequest": {"Key": ELSEWHERE}}],
        ),
        (
            "transact_write_items",
            [{"Put": {"Item": ITEM}}, {"Delete": {"Key": KEY}}],
            [{"Put": {"Item": ITEM}}, {"Delete": {"Key": ELSEWHERE}}],
        ),
    ],
)
def test_the_partitions_of_a_call_are_compared(aws: Aws, operation: str, allowed: Any, refused: Any) -> None:
    """dynamodb:LeadingKeys: each item that a call names must lie in a partition that the statement names."""
    names = {"pk": "HASH", "sk": "RANGE"}
    aws.client("dynamodb").create_table(
        TableName="t",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in names.items()],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        BillingMode="PAY_PER_REQUEST",
    )
    actions = ("BatchGetItem", "BatchWriteItem", "DeleteItem", "PutItem", "Query", "UpdateItem")
    keys = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "cov*"}}
    client = _session(aws, "dynamodb", _allow(*(f"dynamodb:{action}" for action in actions), **keys))

    def request(about: Any) -> dict[str, Any]:
        match operation:
            case "batch_get_item":
                return {"RequestItems": {"t": {"Keys": about}}}
            case "batch_write_item":
                return {"RequestItems": {"t": about}}
            case "transact_write_items":
                named = [{kind: {"TableName": "t", **part} for kind, part in one.items()} for one in about]
                return {"TransactItems": named}
        return {"TableName": "t", **about}

    getattr(client, operation)(**request(allowed))
    assert error_of(getattr(client, operation), **request(refused))[0] == "AccessDeniedException"


# Conditions of EC2 and dependent permissions

OWNED = {"StringEquals": {"aws:RequestTag/Owner": "portcullis"}}
TAGS = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "Owner", "Value": "portcullis"}]}]
ON_VPC = _allow("ec2:CreateVpcEndpoint", resource=["arn:aws:ec2:*:*:vpc/*", "arn:aws:ec2:*:*:route-table/*"])
ENDPOINTS = "arn:aws:ec2:*:*:vpc-endpoint/*"


@pytest.mark.parametrize(
    ("on_endpoint", "allowed"),
    [
        ({}, True),
        (OWNED, True),
        ({"StringEquals": {"aws:RequestTag/Owner": "somebody"}}, False),
        ({"StringLike": {"ec2:VpceServiceName": "*.s3"}}, True),
        ({"StringLike": {"ec2:VpceServiceName": "*.dynamodb"}}, False),
    ],
)
def test_conditions_on_creating_an_endpoint(aws: Aws, vpc_id: str, on_endpoint: Any, *, allowed: bool) -> None:
    """Every resource must be allowed: VPC and tables, and the endpoint with its tags."""
    tagging = _allow("ec2:CreateTags", resource=ENDPOINTS)
    ec2 = _session(aws, "ec2", ON_VPC, _allow("ec2:CreateVpcEndpoint", resource=ENDPOINTS, **on_endpoint), tagging)
    wanted = {"VpcId": vpc_id, "ServiceName": S3, "TagSpecifications": TAGS}
    if allowed:
        ec2.create_vpc_endpoint(**wanted)
    else:
        assert error_of(ec2.create_vpc_endpoint, **wanted)[0] == "UnauthorizedOperation"


@pytest.mark.parametrize(
    ("tagging", "allowed"),
    [
        ([], False),
        ([_allow("ec2:CreateTags", StringEquals={"ec2:CreateAction": "CreateVpcEndpoint"})], True),
        ([_allow("ec2:CreateTags", StringEquals={"ec2:CreateAction": "RunInstances"})], False),
    ],
)
def test_tagging_on_creation_needs_create_tags(aws: Aws, vpc_id: str, tagging: list[Any], *, allowed: bool) -> None:
    """A dependent permission; without tags it is not needed."""
    ec2 = _session(aws, "ec2", _allow("ec2:CreateVpcEndpoint"), *tagging)
    ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3)
    wanted = {"VpcId": vpc_id, "ServiceName": S3, "TagSpecifications": TAGS}
    if allowed:
        ec2.create_vpc_endpoint(**wanted)
    else:
        assert "ec2:CreateTags" in error_of(ec2.create_vpc_endpoint, **wanted)[1]


def test_only_own_endpoints_may_be_changed(aws: Aws, ec2: Any, vpc_id: str) -> None:
    """aws:ResourceTag on ModifyVpcEndpoint, DeleteVpcEndpoints and CreateTags."""
    own = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3, TagSpecifications=TAGS)["VpcEndpoint"]
    other = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=S3)["VpcEndpoint"]
    table = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    actions = ("ec2:ModifyVpcEndpoint", "ec2:DeleteVpcEndpoints", "ec2:CreateTags")
    is_own = {"StringEquals": {"aws:ResourceTag/Owner": "portcullis"}}
    on_tables = _allow("ec2:ModifyVpcEndpoint", resource="arn:aws:ec2:*:*:route-table/*")
    session = _session(aws, "ec2", _allow(*actions, resource=ENDPOINTS, **is_own), on_tables)
    tags = [{"Key": "Note", "Value": "x"}]
    for endpoint, may in ((other["VpcEndpointId"], False), (own["VpcEndpointId"], True)):
        for operation, parameters in (
            (session.modify_vpc_endpoint, {"VpcEndpointId": endpoint, "AddRouteTableIds": [table]}),
            (session.create_tags, {"Resources": [endpoint], "Tags": tags}),
            (session.delete_vpc_endpoints, {"VpcEndpointIds": [endpoint]}),
        ):
            if may:
                operation(**parameters)
            else:
                assert error_of(operation, **parameters)[0] == "UnauthorizedOperation"


def _arn(kind: str) -> str:
    return f"arn:aws:ec2:*:*:{kind}/*"


def _tagged(kind: str) -> Any:
    return [{"ResourceType": kind, "Tags": [{"Key": "Owner", "Value": "portcullis"}]}]


INTERFACE = {
    "vpc": _allow("ec2:CreateVpcEndpoint", resource=_arn("vpc")),
    "subnet": _allow("ec2:CreateVpcEndpoint", resource=_arn("subnet")),
    "security-group": _allow("ec2:CreateVpcEndpoint", resource=_arn("security-group")),
    "vpc-endpoint": _allow("ec2:CreateVpcEndpoint", resource=ENDPOINTS),
    "zone": _allow("route53:AssociateVPCWithHostedZone"),
}
CONNECT = {
    "subnet": _allow("ec2:CreateInstanceConnectEndpoint", "ec2:CreateNetworkInterface", resource=_arn("subnet")),
    "group": _allow("ec2:CreateInstanceConnectEndpoint", "ec2:CreateNetworkInterface", resource=_arn("security-group")),
    "endpoint": _allow("ec2:CreateInstanceConnectEndpoint", resource=_arn("instance-connect-endpoint"), **OWNED),
    "interface": _allow("ec2:CreateNetworkInterface", resource=_arn("network-interface")),
    "tags": _allow(
        "ec2:CreateTags",
        resource=_arn("instance-connect-endpoint"),
        StringEquals={"ec2:CreateAction": "CreateInstanceConnectEndpoint"},
    ),
    "role": _allow(
        "iam:CreateServiceLinkedRole", StringEquals={"iam:AWSServiceName": "ec2-instance-connect.amazonaws.com"}
    ),
}


@pytest.mark.parametrize("missing", [*INTERFACE, None])
def test_an_interface_endpoint_needs_every_resource_and_the_zone(
    aws: Aws, ec2: Any, vpc_id: str, missing: str | None
) -> None:
    """VPC, subnets, groups, endpoint; and Route 53 with private DNS only."""
    ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc_id)["GroupId"]
    session = _session(aws, "ec2", *(one for name, one in INTERFACE.items() if name != missing))
    wanted: dict[str, Any] = {"VpcId": vpc_id, "ServiceName": f"com.amazonaws.{REGION}.ssm"}
    wanted |= {"VpcEndpointType": "Interface", "SubnetIds": [subnet], "SecurityGroupIds": [group]}
    if missing:
        assert error_of(session.create_vpc_endpoint, **wanted)[0] == "UnauthorizedOperation"
    if missing in ("zone", None):
        session.create_vpc_endpoint(**wanted, PrivateDnsEnabled=missing is None)


@pytest.mark.parametrize("missing", [*CONNECT, None])
def test_an_instance_connect_endpoint_needs_the_role_of_the_service(
    aws: Aws, ec2: Any, vpc_id: str, missing: str | None
) -> None:
    """The service-linked role only for the first endpoint of an account; and only one's own can be deleted."""
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc_id)["GroupId"]
    wanted = {"SubnetId": subnet, "SecurityGroupIds": [group]}
    own = {"TagSpecifications": _tagged("instance-connect-endpoint")}
    statements = [one for name, one in CONNECT.items() if name != missing]
    is_own = {"StringEquals": {"aws:ResourceTag/Owner": "portcullis"}}
    delete = _allow("ec2:DeleteInstanceConnectEndpoint", resource=_arn("instance-connect-endpoint"), **is_own)
    session = _session(aws, "ec2", *statements, delete)
    if missing:
        assert error_of(session.create_instance_connect_endpoint, **wanted, **own)[0] == "UnauthorizedOperation"
    if missing in ("role", None):
        other = ec2.create_instance_connect_endpoint(**wanted)["InstanceConnectEndpoint"]["InstanceConnectEndpointId"]
        refused = error_of(session.delete_instance_connect_endpoint, InstanceConnectEndpointId=other)
        assert refused[0] == "UnauthorizedOperation"
        ec2.delete_instance_connect_endpoint(InstanceConnectEndpointId=other)
        made = session.create_instance_connect_endpoint(**wanted, **own)["InstanceConnectEndpoint"]
        session.delete_instance_connect_endpoint(InstanceConnectEndpointId=made["InstanceConnectEndpointId"])


def test_security_groups_are_made_with_tags_and_changed_by_them(aws: Aws, ec2: Any, vpc_id: str) -> None:
    """aws:RequestTag and aws:TagKeys on creation, with CreateTags; aws:ResourceTag afterwards."""
    groups, rules = _arn("security-group"), _arn("security-group-rule")
    only = {**OWNED, "ForAllValues:StringEquals": {"aws:TagKeys": ["Owner"]}}
    changes = [f"ec2:{verb}SecurityGroup{way}" for verb in ("Authorize", "Revoke") for way in ("Ingress", "Egress")]
    is_own = {"StringEquals": {"aws:ResourceTag/Owner": "portcullis"}}
    created_by = {"StringEquals": {"ec2:CreateAction": ["CreateSecurityGroup", "AuthorizeSecurityGroupIngress"]}}
    session = _session(
        aws,
        "ec2",
        _allow("ec2:CreateSecurityGroup", resource=_arn("vpc")),
        _allow("ec2:CreateSecurityGroup", resource=groups, **only),
        _allow("ec2:CreateTags", resource=[groups, rules], **created_by),
        _allow(*changes, "ec2:DeleteSecurityGroup", resource=groups, **is_own),
        _allow("ec2:AuthorizeSecurityGroupIngress", resource=rules, **only),
    )
    wanted = {"Description": "g", "VpcId": vpc_id}
    assert error_of(session.create_security_group, GroupName="a", **wanted)[0] == "UnauthorizedOperation"
    tagged = {"TagSpecifications": _tagged("security-group")}
    own = session.create_security_group(GroupName="a", **wanted, **tagged)["GroupId"]
    other = ec2.create_security_group(GroupName="b", **wanted)["GroupId"]
    permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    for group, may in ((other, False), (own, True)):
        about = {"GroupId": group, "IpPermissions": [permission]}
        for operation, request in (
            (session.authorize_security_group_ingress, {**about, "TagSpecifications": _tagged("security-group-rule")}),
            (session.authorize_security_group_egress, about),
            (session.revoke_security_group_ingress, about),
            (session.revoke_security_group_egress, about),
            (session.delete_security_group, {"GroupId": group}),
        ):
            if may:
                operation(**request)
            else:
                assert error_of(operation, **request)[0] == "UnauthorizedOperation"


@pytest.mark.parametrize(
    ("call", "request_", "allowed"),
    [
        ("iam.list_attached_role_policies", {"RoleName": "app"}, "arn:aws:iam::*:role/app"),
        (
            "iam.simulate_principal_policy",
            {"PolicySourceArn": f"arn:aws:iam::{MEMBER}:role/app", "ActionNames": ["s3:GetObject"]},
            "arn:aws:iam::*:role/app",
        ),
        (
            "ssm.get_service_setting",
            {"SettingId": "/ssm/managed-instance/default-ec2-instance-management-role"},
            "arn:aws:ssm:*:*:servicesetting/ssm/managed-instance/default-ec2-*",
        ),
    ],
)
def test_reads_name_their_resource(aws: Aws, call: str, request_: Any, allowed: str) -> None:
    """The role that is asked about, or the setting."""
    aws.role("app")
    service, _, operation = call.partition(".")
    action = f"{service}:{operation.replace('_', '')}"
    may = aws.as_role(service, aws.role("portcullis-may", allow=[_allow(action, resource=allowed)]))
    getattr(may, operation)(**request_)
    may_not = aws.as_role(service, aws.role("portcullis-not", allow=[_allow(action, resource=f"{allowed}x")]))
    assert error_of(getattr(may_not, operation), **request_)[0].startswith("AccessDenied")


def test_zones_of_a_vpc_need_the_vpc_too(aws: Aws, vpc_id: str) -> None:
    """ListHostedZonesByVPC asks EC2 on the caller's behalf."""
    about = {"VPCId": vpc_id, "VPCRegion": REGION}
    zones, vpcs = _allow("route53:ListHostedZonesByVPC"), _allow("ec2:DescribeVpcs")
    may_not = aws.as_role("route53", aws.role("portcullis-not", allow=[zones]))
    refused = error_of(may_not.list_hosted_zones_by_vpc, **about)
    assert refused[0] == "AccessDenied"
    assert "ec2:DescribeVpcs" in refused[1]
    assert _session(aws, "route53", zones, vpcs).list_hosted_zones_by_vpc(**about)["HostedZoneSummaries"] == []


@pytest.mark.parametrize(
    ("pass_role", "allowed"),
    [
        ([], False),
        ([_allow("iam:PassRole", StringEquals={"iam:PassedToService": "ec2.amazonaws.com"})], True),
        ([_allow("iam:PassRole", StringEquals={"iam:PassedToService": "lambda.amazonaws.com"})], False),
        ([_allow("iam:PassRole", resource=f"arn:aws:iam::{MEMBER}:role/other")], False),
    ],
)
def test_associating_a_profile_needs_pass_role(aws: Aws, pass_role: list[Any], *, allowed: bool) -> None:
    """On the role in the profile, not on the profile."""
    aws.role("app")
    iam = aws.client("iam")
    iam.create_instance_profile(InstanceProfileName="profile")
    iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="app")
    ec2 = _session(aws, "ec2", _allow("ec2:AssociateIamInstanceProfile"), *pass_role)
    wanted = {"InstanceId": "i-0a", "IamInstanceProfile": {"Name": "profile"}}
    code, message = error_of(ec2.associate_iam_instance_profile, **wanted)
    # There is no such instance: whoever gets so far was authorised.
    assert code == ("InvalidInstanceID.NotFound" if allowed else "UnauthorizedOperation")
    assert allowed or "iam:PassRole" in message


@pytest.mark.parametrize("by", ["Name", "Arn"])
def test_the_profile_that_is_associated_is_compared(aws: Aws, by: str) -> None:
    """ec2:NewInstanceProfile, by whatever the request names it; one that does not exist is none."""
    iam = aws.client("iam")
    profiles = [iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"] for name in ("ours", "other")]
    only = {"ArnEquals": {"ec2:NewInstanceProfile": profiles[0]["Arn"]}}
    associating = _allow("ec2:AssociateIamInstanceProfile", resource="arn:aws:ec2:*:*:instance/*", **only)
    associate = _session(aws, "ec2", associating).associate_iam_instance_profile
    value = "InstanceProfileName" if by == "Name" else by
    codes = [
        error_of(associate, InstanceId="i-0a", IamInstanceProfile={by: named})[0]
        for named in (*(one[value] for one in profiles), "arn:aws:iam::111122223333:instance-profile/none")
    ]
    assert codes == ["InvalidInstanceID.NotFound", "UnauthorizedOperation", "UnauthorizedOperation"]


def test_a_session_of_a_deleted_role_may_do_nothing(aws: Aws) -> None:
    """Moto lets it go on."""
    ec2 = _session(aws, "ec2", _allow("*"))
    iam_backends[MEMBER]["aws"].roles.clear()
    assert error_of(ec2.describe_vpcs)[0] == "AccessDenied"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_schedule_needs_pass_role_for_its_target(aws: Aws, *, allowed: bool) -> None:
    """The role that Scheduler shall assume, and for Scheduler only."""
    service = "scheduler" if allowed else "lambda"
    passed = {"iam:PassedToService": f"{service}.amazonaws.com"}
    role_arn = aws.role("sender")
    pass_role = _allow("iam:PassRole", resource=role_arn, StringEquals=passed)
    schedule = {
        "Name": "look",
        "ScheduleExpression": "at(2099-01-01T00:00:00)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": f"arn:aws:sqs:{REGION}:{MEMBER}:q", "RoleArn": role_arn, "Input": "{}"},
    }
    create = _session(aws, "scheduler", _allow("scheduler:CreateSchedule"), pass_role).create_schedule
    if allowed:
        create(**schedule)
    else:
        assert "iam:PassRole" in error_of(create, **schedule)[1]


@pytest.mark.parametrize("owner", ["portcullis", "somebody"])
def test_an_association_is_about_its_instance(aws: Aws, ec2: Any, owner: str) -> None:
    """DisassociateIamInstanceProfile is allowed by the tags of the instance."""
    aws.client("iam").create_instance_profile(InstanceProfileName="app")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "owner", "Value": owner}]}]
    ec2.run_instances(
        ImageId="ami-12345678", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "app"}, TagSpecifications=tags
    )
    (association,) = ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    instances, tagged = f"arn:aws:ec2:{REGION}:{MEMBER}:instance/*", {"aws:ResourceTag/owner": "portcullis"}
    allow = _allow("ec2:DisassociateIamInstanceProfile", resource=instances, StringEquals=tagged)
    disassociate = _session(aws, "ec2", allow).disassociate_iam_instance_profile
    wanted = {"AssociationId": association["AssociationId"]}
    if owner == "portcullis":
        disassociate(**wanted)
        assert ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"] == []
    else:
        assert error_of(disassociate, **wanted)[0] == "UnauthorizedOperation"


def test_listing_buckets_needs_permission(aws: Aws) -> None:
    """By the action's own name, which is not the operation's; each bucket with its Region."""
    aws.client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.client("s3", region="us-east-1").create_bucket(Bucket="other")
    assert error_of(_session(aws, "s3", _allow("s3:ListBucket")).list_buckets)[0] == "AccessDenied"
    policies = iam_backends[MEMBER]["aws"].get_role("portcullis-remediator").policies
    policies["inline"] = json.dumps({"Statement": _allow("s3:ListAllMyBuckets")})
    keys = aws.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{MEMBER}:role/portcullis-remediator", RoleSessionName="session"
    )["Credentials"]
    found = aws.client_with_keys("s3", keys).list_buckets(BucketRegion=REGION)["Buckets"]
    assert [(one["Name"], one["BucketRegion"]) for one in found] == [("bucket", REGION)]


@pytest.mark.parametrize("field", ["Note", "Workflow", "UserDefinedFields"])
def test_what_an_update_of_findings_sets_can_be_limited(aws: Aws, field: str) -> None:
    """By a condition key for each field, which is there when the field is set."""
    absent = {f"securityhub:ASFFSyntaxPath/{path}": "true" for path in ("Workflow.Status", "UserDefinedFields.key")}
    client = _session(aws, "securityhub", _allow("securityhub:BatchUpdateFindings", Null=absent))
    values = {"Note": {"Text": "x", "UpdatedBy": "x"}, "Workflow": {"Status": "NEW"}, "UserDefinedFields": {"a": "b"}}
    update = {"FindingIdentifiers": [{"Id": "f", "ProductArn": "p"}], field: values[field]}
    if field == "Note":
        assert client.batch_update_findings(**update)["UnprocessedFindings"]
    else:
        assert error_of(client.batch_update_findings, **update)[0] == "AccessDeniedException"


@pytest.mark.parametrize("profile", ["app", "other"])
def test_an_instances_profile_can_be_a_condition(aws: Aws, ec2: Any, profile: str) -> None:
    """Of the association that there is."""
    aws.client("iam").create_instance_profile(InstanceProfileName="app")
    ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "app"})
    (association,) = ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    arn = f"arn:aws:iam::{MEMBER}:instance-profile/{profile}"
    allow = _allow("ec2:DisassociateIamInstanceProfile", ArnEquals={"ec2:InstanceProfile": arn})
    disassociate = _session(aws, "ec2", allow).disassociate_iam_instance_profile
    wanted = {"AssociationId": association["AssociationId"]}
    if profile == "app":
        disassociate(**wanted)
    else:
        assert error_of(disassociate, **wanted)[0] == "UnauthorizedOperation"
