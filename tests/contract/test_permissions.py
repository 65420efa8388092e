"""The roles in the templates allow what the code declares that it uses: nothing less, nothing more."""

from __future__ import annotations

import pytest
from portcullis.adapters import accounts, observer, queues, remediator, securityhub, store
from portcullis.controls import CONTROLS
from portcullis.model import OWNERSHIP_TAG

from tests.contract import templates

_LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
_TRACING = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
_POLLER = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}

EXPECTED = {
    "IntakeRole": _LOGS | _TRACING | _POLLER | {"sqs:SendMessage"},
    "ReconcileRole": _LOGS
    | _TRACING
    | _POLLER
    | set(queues.PERMISSIONS)
    | set(store.PERMISSIONS)
    | set(accounts.PERMISSIONS),
    "ObserverRole": set(observer.PERMISSIONS) | set(securityhub.PERMISSIONS),
    "RemediatorRole": set(remediator.PERMISSIONS),
    "ForwarderRole": {"events:PutEvents"},
    "DefaultRole": {"s3:ListAllMyBuckets"},
}

# For these the service allows nothing narrower than "*" (Service Authorization Reference).
_NO_RESOURCE_LEVEL = _TRACING | {action for action in observer.PERMISSIONS if action.startswith("ec2:Describe")}
_NO_RESOURCE_LEVEL |= {"iam:ListInstanceProfiles", "s3:ListAllMyBuckets"}

ROLES = {name: role for path in templates.ALL for name, role in templates.resources(path, "AWS::IAM::Role").items()}


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_role_allows_exactly_what_its_code_uses(name: str) -> None:
    """Taking an action out of a role, or adding one that nothing uses, is a failing build."""
    assert templates.actions(ROLES[name]) == EXPECTED[name]


# Some actions need several statements, as each kind of resource has conditions of its own.
REMEDIATOR_STATEMENTS = {
    "CreateTaggedGatewayEndpoints": ({"ec2:CreateVpcEndpoint"}, {"vpc-endpoint/*"}),
    "CreateEndpointsInAnyVpc": ({"ec2:CreateVpcEndpoint"}, {"vpc/*", "route-table/*"}),
    "TagOnCreation": ({"ec2:CreateTags"}, {"vpc-endpoint/*"}),
    "ModifyOwnEndpoints": ({"ec2:ModifyVpcEndpoint"}, {"vpc-endpoint/*"}),
    "ModifyWithAnyRouteTable": ({"ec2:ModifyVpcEndpoint"}, {"route-table/*"}),
    "AssociateProfiles": ({"ec2:AssociateIamInstanceProfile"}, {"instance/*"}),
}


def test_the_remediator_may_act_on_every_kind_of_resource_that_a_call_touches() -> None:
    """AWS checks CreateVpcEndpoint on the VPC, the tables and the endpoint: one statement less refuses the call."""
    by_sid = {s["Sid"]: s for s in templates.statements(ROLES["RemediatorRole"]) if s["Sid"] != "PassTheDefaultRole"}
    prefix = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:"
    found = {
        sid: (set(statement["Action"]), {arn["Fn::Sub"].removeprefix(prefix) for arn in statement["Resource"]})
        for sid, statement in by_sid.items()
    }
    assert found == REMEDIATOR_STATEMENTS


def test_events_may_enter_the_bus_and_leave_it_for_the_queues() -> None:
    """The two resource policies on the way allow exactly the one action that each needs."""
    (bus,) = templates.resources(templates.HUB, "AWS::Events::EventBusPolicy").values()
    (queues_policy,) = templates.resources(templates.HUB, "AWS::SQS::QueuePolicy").values()
    (statement,) = queues_policy["PolicyDocument"]["Statement"]
    assert (bus["Statement"]["Effect"], bus["Statement"]["Action"]) == ("Allow", "events:PutEvents")
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sqs:SendMessage")


def test_every_expected_role_is_in_a_template() -> None:
    """A role that was removed or renamed does not silently leave the comparison."""
    assert ROLES.keys() == EXPECTED.keys()


def test_the_observer_can_do_what_the_controls_say_they_need_observed() -> None:
    """A control that needs something new observed cannot be added without the permission."""
    assert {action for control in CONTROLS for action in control.observes} == set(observer.PERMISSIONS)


def test_the_remediator_can_do_what_the_controls_say_they_remediate_with() -> None:
    """A control that makes a new kind of change cannot be added without the permission."""
    assert {action for control in CONTROLS for action in control.remediates} == set(remediator.PERMISSIONS)


def test_the_observer_cannot_change_anything() -> None:
    """Observation runs with credentials that read, and file findings, and nothing else."""
    reading = ("ec2:Describe", "iam:Get", "iam:List", "securityhub:BatchImportFindings")
    assert all(action.startswith(reading) for action in templates.actions(ROLES["ObserverRole"]))


@pytest.mark.parametrize("name", sorted(ROLES))
def test_no_action_is_a_wildcard(name: str) -> None:
    """Each action is named."""
    assert not [action for action in templates.actions(ROLES[name]) if "*" in action]


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_wildcard_resource_stands_only_where_the_service_knows_nothing_narrower(name: str) -> None:
    """Least privilege: "*" as a resource needs a reason in the service, not in our convenience."""
    wide = [s for s in templates.statements(ROLES[name]) if "*" in s["Resource"]]
    assert {action for statement in wide for action in statement["Action"]} <= _NO_RESOURCE_LEVEL


def test_the_remediator_changes_only_endpoints_that_carry_our_tag() -> None:
    """Endpoints of others cannot be modified, and none can be created without the tag, even by a bug."""
    by_sid = {s["Sid"]: s for s in templates.statements(ROLES["RemediatorRole"])}
    assert by_sid["ModifyOwnEndpoints"]["Condition"] == {"StringEquals": {f"aws:ResourceTag/{OWNERSHIP_TAG}": "true"}}
    assert by_sid["CreateTaggedGatewayEndpoints"]["Condition"] == {
        "StringEquals": {f"aws:RequestTag/{OWNERSHIP_TAG}": "true"}
    }
    others = [s for s in by_sid.values() if s["Sid"] not in ("ModifyOwnEndpoints", "CreateTaggedGatewayEndpoints")]
    touching = [s for s in others if {"ec2:ModifyVpcEndpoint", "ec2:CreateVpcEndpoint"} & set(s["Action"])]
    assert not [r for s in touching for r in s["Resource"] if "vpc-endpoint/" in str(r)]


def test_only_the_default_role_can_be_passed_and_only_to_ec2() -> None:
    """iam:PassRole cannot hand a stronger role to an instance."""
    (statement,) = [s for s in templates.statements(ROLES["RemediatorRole"]) if "iam:PassRole" in s["Action"]]
    assert statement["Resource"] == [{"Fn::GetAtt": ["DefaultRole", "Arn"]}]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


@pytest.mark.parametrize("name", ["ObserverRole", "RemediatorRole"])
def test_a_member_role_trusts_exactly_the_hub_function_of_this_organisation(name: str) -> None:
    """Nobody else can assume the roles that see and change a member account."""
    assert ROLES[name]["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"AWS": {"Ref": "HubRoleArn"}},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}}},
        }
    ]
