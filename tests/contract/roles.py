"""Everything that a role may do, whom it trusts, and why: one table, and how a template is compared with it.

A statement is compared as a whole: its actions, resources, principal and condition, nothing more and nothing less.
The actions that our code calls are tied to the code in test_permissions.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portcullis.adapters import accounts, directory, observer
from portcullis.model import OWNERSHIP_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Template = dict[str, Any]

LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
TRACING = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")
POLLING = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
"""What Lambda needs to poll a queue ("Using Lambda with Amazon SQS", Lambda developer guide)."""

ENTERING = accounts.PERMISSIONS
ONE_PROFILE = "iam:GetInstanceProfile"


@dataclass(frozen=True, slots=True)
class Grant:
    """A statement, and why it is there."""

    why: str
    actions: Sequence[str]
    resources: Sequence[Any] = ()
    principal: Any = None
    condition: Mapping[str, Any] | None = None

    def statement(self) -> dict[str, Any]:
        """Return it as a template would hold it."""
        parts = {
            "Action": list(self.actions),
            "Resource": list(self.resources),
            "Principal": self.principal,
            "Condition": self.condition,
        }
        return {"Effect": "Allow"} | {name: part for name, part in parts.items() if part}


def at(logical_id: str) -> dict[str, Any]:
    """Return the ARN of a resource of the same template."""
    return {"Fn::GetAtt": [logical_id, "Arn"]}


def arn(rest: str) -> dict[str, Any]:
    """Return an ARN from its service on, in whatever partition."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:{rest}"}


def ec2(resource: str) -> dict[str, Any]:
    """Return the ARN of a kind of EC2 resource of the account, in every Region."""
    return arn(f"ec2:*:${{AWS::AccountId}}:{resource}/*")


def equals(key: str, value: Any) -> dict[str, Any]:
    """Return a condition."""
    return {"StringEquals": {key: value}}


def service(name: str, why: str, condition: Mapping[str, Any] | None = None) -> list[Grant]:
    """Return the trust in an AWS service."""
    return [Grant(why, ["sts:AssumeRole"], principal={"Service": f"{name}.amazonaws.com"}, condition=condition)]


def hub(why: str, *parameters: str) -> list[Grant]:
    """Return the trust in roles of the hub, as long as they are of the organisation."""
    principal = {"AWS": [{"Ref": parameter} for parameter in parameters]}
    return [
        Grant(why, ENTERING, principal=principal, condition=equals("aws:PrincipalOrgID", {"Ref": "OrganizationId"}))
    ]


def function(name: str, *grants: Grant) -> dict[str, list[Grant]]:
    """Return what a function's role is: its own grants, logs and traces; trusted by Lambda."""
    own = [
        Grant("its log group is made by the template, so that it has a retention", LOGS, [at(f"{name}Logs")]),
        Grant("active tracing; X-Ray knows no resources for these", TRACING, ["*"]),
    ]
    return {f"{name}Role": [*grants, *own], f"{name}Role trusts": service("lambda", "the function runs as it")}


_OWN_ACCOUNT = equals("aws:SourceAccount", {"Ref": "AWS::AccountId"})
_MACHINE = "states:${AWS::Region}:${AWS::AccountId}"
_OBSERVER, _REMEDIATOR = (arn(f"iam::*:role/${{{name}RoleName}}") for name in ("Observer", "Remediator"))
_EC2 = {"Fn::If": ["InChina", {"Fn::Sub": "ec2.${AWS::URLSuffix}"}, "ec2.amazonaws.com"]}
_PRODUCT = "${AWS::AccountId}:product/${AWS::AccountId}/default"

EXPECTED: dict[str, dict[str, list[Grant]]] = {
    "template.yaml": {
        **function(
            "Intake",
            Grant("Lambda polls the events for it", POLLING, [at("IntakeQueue")]),
            Grant(
                "targets to the work queue; what cannot be read to its own dead letters",
                ["sqs:SendMessage"],
                [at("WorkQueue"), at("IntakeDeadLetters")],
            ),
            Grant("it notes heartbeats", ["dynamodb:UpdateItem"], [at("Table")]),
        ),
        **function(
            "Reconcile",
            Grant(
                "Lambda polls the targets for it, and it postpones those to retry",
                [*POLLING, "sqs:ChangeMessageVisibility"],
                [at("WorkQueue")],
            ),
            Grant(
                "what waits goes to the work queue again; what is given up to its own dead letters",
                ["sqs:SendMessage"],
                [at("WorkQueue"), at("WorkDeadLetters")],
            ),
            Grant(
                "it loads and lists records, and writes them in transactions, which need PutItem",
                ["dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query"],
                [at("Table")],
            ),
            Grant("it looks into members and changes them, in tagged sessions", ENTERING, [_OBSERVER, _REMEDIATOR]),
        ),
        **function(
            "Sweep",
            Grant("what needs a change goes to the work queue", ["sqs:SendMessage"], [at("WorkQueue")]),
            Grant(
                "it lists records, writes those that it files, and notes how the look ended",
                ["dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"],
                [at("Table")],
            ),
            Grant("it looks into members and changes nothing there", ENTERING, [_OBSERVER]),
        ),
        **function(
            "Survey",
            Grant(
                "it lists the organisation; the units below the targets are not known to the template",
                directory.PERMISSIONS,
                ["*"],
            ),
            Grant(
                "it reads, lists and forgets account-Regions, and files about them",
                [
                    "dynamodb:BatchGetItem",
                    "dynamodb:DeleteItem",
                    "dynamodb:PutItem",
                    "dynamodb:Query",
                    "dynamodb:UpdateItem",
                ],
                [at("Table")],
            ),
            Grant(
                "it files in the hub's own account and Region",
                ["securityhub:BatchImportFindings"],
                [arn(f"securityhub:${{AWS::Region}}:{_PRODUCT}")],
            ),
        ),
        "SweepMachineRole": [
            Grant("its tasks", ["lambda:InvokeFunction"], [at("SurveyFunction"), at("SweepFunction")]),
            Grant(
                "a distributed map runs its children as executions of its own state machine",
                ["states:StartExecution"],
                [arn(f"{_MACHINE}:stateMachine:portcullis-sweep")],
            ),
            Grant(
                "and follows and stops them",
                ["states:DescribeExecution", "states:StopExecution"],
                [arn(f"{_MACHINE}:execution:portcullis-sweep*")],
            ),
        ],
        "SweepMachineRole trusts": service("states", "the state machine runs as it", _OWN_ACCOUNT),
        "SweepScheduleRole": [Grant("the schedule", ["states:StartExecution"], [{"Ref": "SweepStateMachine"}])],
        "SweepScheduleRole trusts": service("scheduler", "the schedule starts sweeps as it", _OWN_ACCOUNT),
        "BusPolicy": [
            Grant(
                "forwarder roles of this organisation's accounts put events, and nobody else",
                ["events:PutEvents"],
                [at("Bus")],
                principal="*",
                condition=equals("aws:PrincipalOrgID", {"Ref": "OrganizationId"}),
            )
        ],
        "IntakeQueuesPolicy": [
            Grant(
                "the rules of the bus deliver, or bury what they cannot deliver",
                ["sqs:SendMessage"],
                [at("IntakeQueue"), at("IntakeDeadLetters")],
                principal={"Service": "events.amazonaws.com"},
                condition={
                    "ArnEquals": {
                        "aws:SourceArn": [
                            at(f"{rule}Rule") for rule in ("Changes", "Conflicts", "States", "Heartbeats")
                        ]
                    }
                },
            )
        ],
    },
    "member-account.yaml": {
        "ObserverRole": [
            Grant(
                "these know no resources, but for ListInstanceProfiles, which needs all paths",
                sorted(set(observer.PERMISSIONS) - {ONE_PROFILE}),
                ["*"],
            ),
            Grant(
                "any profile that an instance names",
                [ONE_PROFILE],
                [arn("iam::${AWS::AccountId}:instance-profile/*")],
            ),
            Grant(
                "findings come from the account itself, under its own product, in each Region",
                ["securityhub:BatchImportFindings"],
                [arn(f"securityhub:*:{_PRODUCT}")],
            ),
            Grant(
                "a sweep asks whether Security Hub is on",
                ["securityhub:DescribeHub"],
                [arn("securityhub:*:${AWS::AccountId}:hub/default")],
            ),
        ],
        "ObserverRole trusts": hub("both functions that look", "ReconcileRoleArn", "SweepRoleArn"),
        "RemediatorRole": [
            Grant(
                "an endpoint is created only with our tag",
                ["ec2:CreateVpcEndpoint"],
                [ec2("vpc-endpoint")],
                condition=equals(f"aws:RequestTag/{OWNERSHIP_TAG}", "true"),
            ),
            Grant(
                "CreateVpcEndpoint is checked on the VPC and the tables, too",
                ["ec2:CreateVpcEndpoint"],
                [ec2("vpc"), ec2("route-table")],
            ),
            Grant(
                "and on the tags that it sets; nothing that exists is tagged",
                ["ec2:CreateTags"],
                [ec2("vpc-endpoint")],
                condition=equals("ec2:CreateAction", "CreateVpcEndpoint"),
            ),
            Grant(
                "only an endpoint with our tag is changed",
                ["ec2:ModifyVpcEndpoint"],
                [ec2("vpc-endpoint")],
                condition=equals(f"aws:ResourceTag/{OWNERSHIP_TAG}", "true"),
            ),
            Grant("ModifyVpcEndpoint is checked on the tables, too", ["ec2:ModifyVpcEndpoint"], [ec2("route-table")]),
            Grant("any instance may lack a profile", ["ec2:AssociateIamInstanceProfile"], [ec2("instance")]),
            Grant(
                "associating passes the role in the profile: this one, to EC2, and no other",
                ["iam:PassRole"],
                [at("DefaultRole")],
                condition=equals("iam:PassedToService", _EC2),
            ),
        ],
        "RemediatorRole trusts": hub("the only function that changes anything", "ReconcileRoleArn"),
        "DefaultRole": [Grant("the need: `aws s3 ls` prints the account's buckets", ["s3:ListAllMyBuckets"], ["*"])],
        "DefaultRole trusts": [Grant("instances run as it", ["sts:AssumeRole"], principal={"Service": [_EC2]})],
    },
    "member-region.yaml": {
        "ForwarderRole": [Grant("events go to the hub's bus", ["events:PutEvents"], [{"Ref": "HubBusArn"}])],
        "ForwarderRole trusts": service("events", "the rules forward as it"),
        "HeartbeatRole": [
            Grant(
                "heartbeats go to the default bus, from where they take the way of every other event",
                ["events:PutEvents"],
                [arn("events:${AWS::Region}:${AWS::AccountId}:event-bus/default")],
            )
        ],
        "HeartbeatRole trusts": service("scheduler", "the schedule puts heartbeats as it", _OWN_ACCOUNT),
    },
}

MANAGED_POLICIES = {"DefaultRole": [arn("iam::aws:policy/AmazonSSMManagedInstanceCore")]}
"""The AWS managed policies; instances are to appear in Systems Manager, whatever permissions that takes."""

_ROLE_PROPERTIES = {"RoleName", "Description", "AssumeRolePolicyDocument", "Policies", "ManagedPolicyArns"}
"""Anything else (a permissions boundary, a path) would change what a role may do, or what it is called."""


def of_type(template: Template, resource_type: str) -> dict[str, dict[str, Any]]:
    """Return the properties of all resources of one type, by logical id."""
    found = template["Resources"].items()
    return {name: entry.get("Properties", {}) for name, entry in found if entry["Type"] == resource_type}


def documents(template: Template) -> dict[str, list[dict[str, Any]]]:
    """Return every statement of a template, live: of roles, of their trust, of the bus and of queues."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, role in of_type(template, "AWS::IAM::Role").items():
        policies = role.get("Policies", [])
        found[name] = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
        found[f"{name} trusts"] = role["AssumeRolePolicyDocument"]["Statement"]
    for name, policy in of_type(template, "AWS::Events::EventBusPolicy").items():
        found[name] = [policy["Statement"]]
    for name, policy in of_type(template, "AWS::SQS::QueuePolicy").items():
        found[name] = policy["PolicyDocument"]["Statement"]
    return found


def faults(file: str, template: Template) -> dict[str, list[str]]:
    """Say, by document, how a template differs from the table; no entry where it does not."""
    found, expected = documents(template), EXPECTED[file]
    said: dict[str, list[str]] = {}
    for name in sorted(found.keys() | expected.keys()):
        there = {_canonical(statement) for statement in found.get(name, [])}
        wanted = {_canonical(grant.statement()): grant for grant in expected.get(name, [])}
        said[name] = [f"missing, though {wanted[text].why}: {text}" for text in wanted.keys() - there]
        said[name] += [f"nobody says why: {text}" for text in there - wanted.keys()]
        if (name in found) != (name in expected):
            said[name].append("only in the template" if name in found else "not in the template")
    for name, role in of_type(template, "AWS::IAM::Role").items():
        if role.get("ManagedPolicyArns", []) != MANAGED_POLICIES.get(name, []):
            said[name].append(f"managed policies: {role.get('ManagedPolicyArns')}")
        said[name] += [f"nobody says why: {key}" for key in role.keys() - _ROLE_PROPERTIES]
    return {name: sorted(sentences) for name, sentences in said.items() if sentences}


def mutants(template: Template) -> Iterator[tuple[str, Template]]:
    """Yield the template with each single thing taken away or widened in turn, and what was done to it."""
    for name, statements in documents(template).items():
        for index, statement in enumerate(statements):
            for change, changed in _changes(statement):
                mutant = json.loads(json.dumps(template))
                live = documents(mutant)[name][index]
                live.clear()
                live.update(changed)
                yield f"{name} {statement.get('Sid', index)} {change}", mutant
    for name, role in of_type(template, "AWS::IAM::Role").items():
        for key in ("Policies", "ManagedPolicyArns"):
            if key in role:
                mutant = json.loads(json.dumps(template))
                del mutant["Resources"][name]["Properties"][key]
                yield f"{name} without {key}", mutant
        mutant = json.loads(json.dumps(template))
        mutant["Resources"][name]["Properties"]["PermissionsBoundary"] = "arn"
        yield f"{name} with a boundary", mutant
        del mutant["Resources"][name]
        yield f"without {name}", mutant


def _changes(statement: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in ("Action", "Resource"):
        values = listed(statement.get(key, []))
        for value in values:
            yield f"without {key} {_text(value)}", statement | {key: [other for other in values if other != value]}
        if values and values != ["*"]:
            yield f"any {key}", statement | {key: "*"}
    for kind, principals in _pairs(statement.get("Principal", {})):
        values = listed(principals)
        for value in values:
            others = [other for other in values if other != value]
            yield f"without principal {_text(value)}", statement | {"Principal": {kind: others}}
        yield "any principal", statement | {"Principal": {"AWS": "*"}}
    for operator, tests in _pairs(statement.get("Condition", {})):
        for key in tests:
            yield f"without condition {key}", statement | {"Condition": {operator: {}}}
            yield f"another {key}", statement | {"Condition": {operator: {key: "other"}}}
    yield "denied", statement | {"Effect": "Deny"}
    yield "removed", {}


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _canonical(statement: Mapping[str, Any]) -> str:
    """Write a statement so that equal ones are equal: lists sorted, the Sid left out."""
    parts = {name: _sorted(part) for name, part in statement.items() if name != "Sid"}
    if isinstance(principal := statement.get("Principal"), dict):
        parts["Principal"] = {kind: _sorted(who) for kind, who in principal.items()}
    return _text(parts)


def _sorted(value: Any) -> Any:
    return value if isinstance(value, dict) and not _is_reference(value) else sorted(listed(value), key=_text)


def _is_reference(value: Mapping[str, Any]) -> bool:
    return any(key == "Ref" or key.startswith("Fn::") for key in value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def listed(value: Any) -> list[Any]:
    """Return a list, of one where a template leaves the brackets out."""
    return value if isinstance(value, list) else [value]
