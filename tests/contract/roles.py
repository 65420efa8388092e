"""Everything that a role may do, whom it trusts, and why: one table, and how a template is compared with it.

A statement is compared as a whole: its actions, resources, principal and condition, nothing more and nothing less.
The actions that our code calls are tied to the code in test_permissions.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portcullis.adapters import accounts, directory, observer, permissions, surroundings, vpcs
from portcullis.model import CHANGE_TAG, CONTROL_TAG, OWNERSHIP_TAG

from tests.contract.templates import condition, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Template = dict[str, Any]

LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
TRACING = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")
POLLING = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
"""What Lambda needs to poll a queue ("Using Lambda with Amazon SQS", Lambda developer guide)."""

ENTERING = accounts.PERMISSIONS
ONE_PROFILE = "iam:GetInstanceProfile"
ONE_BUCKET = "s3:GetBucketPolicy"
ONE_ROLE = ("iam:ListAttachedRolePolicies", "iam:SimulatePrincipalPolicy")
ONE_SETTING = "ssm:GetServiceSetting"
OBSERVED = {action for module in (observer, permissions, surroundings, vpcs) for action in module.PERMISSIONS}
"""What the adapters that observe declare, with the observer role."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A statement, and why it is there; ``when`` names the condition of the template under which it is."""

    why: str
    actions: Sequence[str]
    resources: Sequence[Any] = ()
    principal: Any = None
    condition: Mapping[str, Any] | None = None
    when: str = ""

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


def equals(key: str, value: Any, *more: tuple[str, Any]) -> dict[str, Any]:
    """Return a condition."""
    return {"StringEquals": {key: value, **dict(more)}}


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


GATEWAY_SERVICES = ("dynamodb", "s3", "s3express")
"""The services that have gateway endpoints, as their names end in every partition; a policy may name each."""

UNITS = Grant(
    "scopes and exemptions of the policy may name units: it asks for those above an account of the organisation",
    directory.UNITS_PERMISSIONS,
    [arn(f"organizations::*:{kind}/${{OrganizationId}}/*") for kind in ("account", "ou")],
)

NOT_THE_NOTE = (
    "Confidence",
    "Criticality",
    "RelatedFindings",
    "Severity.Label",
    "Severity.Normalized",
    "Severity.Product",
    "Types",
    "UserDefinedFields.key",
    "UserDefinedFields.value",
    "VerificationState",
    "Workflow.Status",
)
"""What BatchUpdateFindings can set, but for the note: "Configuring access to BatchUpdateFindings" (Security Hub user
guide) tells of the condition keys, AWSSystemsManagerOpsDataSyncServiceRolePolicy shows their spelling; a test compares
them with the model of the call."""

FINDINGS = "????????????#*"
"""The partitions of findings: an account's twelve digits, and a Region."""


def table(why: str, actions: Sequence[str], *partitions: Any) -> Grant:
    """Return what may be done in some partitions of the hub's table; they are checked for each item of a transaction.

    Source: "Using IAM policy conditions for fine-grained access control" (DynamoDB developer guide).
    """
    keys = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(partitions)}}
    return Grant(why, [f"dynamodb:{action}" for action in actions], [at("Table")], condition=keys)


_MEMBERS_ONLY = equals("aws:ResourceOrgID", {"Ref": "OrganizationId"})
_OWN_ACCOUNT = equals("aws:SourceAccount", {"Ref": "AWS::AccountId"})
_MACHINE = "states:${AWS::Region}:${AWS::AccountId}"
_OBSERVER, _REMEDIATOR = (arn(f"iam::*:role/${{{name}RoleName}}") for name in ("Observer", "Remediator"))
_EC2 = {"Fn::If": ["InChina", {"Fn::Sub": "ec2.${AWS::URLSuffix}"}, "ec2.amazonaws.com"]}
_PRODUCT = "${AWS::AccountId}:product/${AWS::AccountId}/default"
_ANY_HUB = arn("securityhub:*:${AWS::AccountId}:hub/default")
_CREATED_AS_OURS = equals(f"aws:RequestTag/{OWNERSHIP_TAG}", "true")
_OURS = equals(f"aws:ResourceTag/{OWNERSHIP_TAG}", "true")
_OPENING = "MayOpenGroups"


def _tags_of(calls: str | Sequence[str]) -> dict[str, Any]:
    """Return the condition of tags that come with what calls create: our own, and no others."""
    own = {"ForAllValues:StringEquals": {"aws:TagKeys": sorted((CHANGE_TAG, CONTROL_TAG, OWNERSHIP_TAG))}}
    return {**equals("ec2:CreateAction", calls), **own}


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
            table(
                "it notes heartbeats, and writes nothing else: members have a say in what it parses",
                ["UpdateItem"],
                "coverage",
            ),
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
            table("it loads, lists and writes records", ["BatchGetItem", "PutItem", "Query"], FINDINGS),
            table("it alone writes and deletes states", ["BatchGetItem", "DeleteItem", "PutItem"], "state#*"),
            table(
                "it alone writes changes, marks them as taken back, and counts; a change is never deleted",
                ["BatchGetItem", "PutItem", "UpdateItem"],
                "changes#*",
                "limits",
            ),
            Grant(
                "what has to wait is a one-time schedule in this group, and in no other",
                ["scheduler:CreateSchedule", "scheduler:DeleteSchedule", "scheduler:UpdateSchedule"],
                [arn("scheduler:${AWS::Region}:${AWS::AccountId}:schedule/${LooksGroup}/*")],
            ),
            Grant(
                "a schedule sends as this role; making one passes it, to Scheduler and to nobody else",
                ["iam:PassRole"],
                [at("LooksRole")],
                condition=equals("iam:PassedToService", "scheduler.amazonaws.com"),
            ),
            Grant(
                "it reads the kill switch before each change",
                ["ssm:GetParameter"],
                [arn("ssm:${AWS::Region}:${AWS::AccountId}:parameter${KillSwitch}")],
            ),
            UNITS,
            Grant(
                "it looks into members and changes them, in tagged sessions; roles of other organisations are not ours",
                ENTERING,
                [_OBSERVER, _REMEDIATOR],
                condition=_MEMBERS_ONLY,
            ),
        ),
        **function(
            "Approval",
            Grant("Lambda polls the requests for it", POLLING, [at("RequestsQueue")]),
            Grant(
                "targets to the work queue; what cannot be read to its own dead letters",
                ["sqs:SendMessage"],
                [at("WorkQueue"), at("RequestsDeadLetters")],
            ),
            table(
                "nothing that comes with a request is believed: it looks up findings, states and changes",
                ["BatchGetItem"],
                FINDINGS,
                "changes#*",
                "state#*",
            ),
        ),
        **function(
            "Actions",
            Grant(
                "it makes, renames and removes the custom actions of the hub's own Security Hub",
                [
                    "securityhub:CreateActionTarget",
                    "securityhub:DeleteActionTarget",
                    "securityhub:UpdateActionTarget",
                ],
                [arn("securityhub:${AWS::Region}:${AWS::AccountId}:hub/default")],
            ),
        ),
        "LooksRole": [Grant("a look is a target on the work queue", ["sqs:SendMessage"], [at("WorkQueue")])],
        "LooksRole trusts": service(
            "scheduler",
            "one-time looks are sent as it, and no other schedules",
            equals("aws:SourceAccount", {"Ref": "AWS::AccountId"}, ("aws:SourceArn", at("LooksGroup"))),
        ),
        "ApproverPolicy": [
            Grant("people approve and undo from a terminal", ["lambda:InvokeFunction"], [at("ApprovalFunction")]),
            Grant(
                "having read what the finding says",
                ["securityhub:GetFindings"],
                [arn("securityhub:${AWS::Region}:${AWS::AccountId}:hub/default")],
            ),
            Grant(
                "and read the history of changes, and nothing else in the table",
                ["dynamodb:Query"],
                [at("Table")],
                condition={"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "changes#*"}},
            ),
        ],
        "RequestsQueuesPolicy": [
            Grant(
                "the rule for custom actions delivers, or buries what it cannot deliver",
                ["sqs:SendMessage"],
                [at("RequestsQueue"), at("RequestsDeadLetters")],
                principal={"Service": "events.amazonaws.com"},
                condition={"ArnEquals": {"aws:SourceArn": at("RequestsRule")}},
            )
        ],
        **function(
            "Sweep",
            Grant("what needs a change goes to the work queue", ["sqs:SendMessage"], [at("WorkQueue")]),
            table("it notes how the look ended", ["UpdateItem"], "coverage"),
            table("it lists records, and writes those that it files", ["BatchGetItem", "PutItem", "Query"], FINDINGS),
            table("it reads states, and writes none", ["BatchGetItem"], "state#*"),
            Grant(
                "while changes are stopped, it enqueues none",
                ["ssm:GetParameter"],
                [arn("ssm:${AWS::Region}:${AWS::AccountId}:parameter${KillSwitch}")],
            ),
            UNITS,
            Grant(
                "it looks into members and changes nothing there",
                ENTERING,
                [_OBSERVER],
                condition=_MEMBERS_ONLY,
            ),
        ),
        **function(
            "Survey",
            Grant(
                "it lists the organisation; the units below the targets are not known to the template",
                directory.PERMISSIONS,
                ["*"],
            ),
            table("it reads, lists and forgets account-Regions", ["DeleteItem", "Query", "UpdateItem"], "coverage"),
            table(
                "it files about them under the hub's own account and Region",
                ["BatchGetItem", "PutItem", "Query"],
                {"Fn::Sub": "${AWS::AccountId}#${AWS::Region}"},
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
                sorted(OBSERVED - {ONE_PROFILE, ONE_BUCKET, *ONE_ROLE, ONE_SETTING}),
                ["*"],
            ),
            Grant(
                "the role of any instance, asked what it allows; only where the policy switches ROLE.2 on",
                ONE_ROLE,
                [arn("iam::${AWS::AccountId}:role/*")],
            ),
            Grant(
                "whether Systems Manager manages hosts by default: this one setting, under the same condition",
                [ONE_SETTING],
                [
                    arn(
                        "ssm:*:${AWS::AccountId}:servicesetting/ssm/managed-instance/"
                        "default-ec2-instance-management-role"
                    )
                ],
            ),
            Grant(
                "any profile that an instance names",
                [ONE_PROFILE],
                [arn("iam::${AWS::AccountId}:instance-profile/*")],
            ),
            Grant(
                "any bucket may depend on the source address; asked only where the policy sets check_bucket_policies",
                [ONE_BUCKET],
                [arn("s3:::*")],
            ),
            Grant(
                "findings come from the account itself, under its own product, in each Region",
                ["securityhub:BatchImportFindings"],
                [arn(f"securityhub:*:{_PRODUCT}")],
            ),
            Grant(
                "it asks whether Security Hub is on, and whether an analyst has suppressed a finding",
                ["securityhub:DescribeHub", "securityhub:GetFindings"],
                [_ANY_HUB],
            ),
            Grant(
                "what became of a request is a note on the finding; everything else there belongs to the analyst",
                ["securityhub:BatchUpdateFindings"],
                [_ANY_HUB],
                condition={"Null": {f"securityhub:ASFFSyntaxPath/{field}": "true" for field in NOT_THE_NOTE}},
            ),
        ],
        "ObserverRole trusts": hub("both functions that look", "ReconcileRoleArn", "SweepRoleArn"),
        "RemediatorRole": [
            Grant(
                "a gateway endpoint is created only with our tag, whatever the partition",
                ["ec2:CreateVpcEndpoint"],
                [ec2("vpc-endpoint")],
                condition={
                    **_CREATED_AS_OURS,
                    "StringLike": {"ec2:VpceServiceName": [f"*.{service}" for service in GATEWAY_SERVICES]},
                },
            ),
            Grant(
                "an interface endpoint, too, and for any service of AWS that the policy names, but for nobody else's",
                ["ec2:CreateVpcEndpoint"],
                [ec2("vpc-endpoint")],
                condition=equals(f"aws:RequestTag/{OWNERSHIP_TAG}", "true", ("ec2:VpceServiceOwner", "amazon")),
            ),
            Grant(
                "CreateVpcEndpoint is checked on the VPC, the tables and the subnets, too",
                ["ec2:CreateVpcEndpoint"],
                [ec2("vpc"), ec2("route-table"), ec2("subnet")],
            ),
            Grant(
                "security groups and EC2 Instance Connect Endpoints are created only with our tag",
                ["ec2:CreateInstanceConnectEndpoint", "ec2:CreateSecurityGroup"],
                [ec2("instance-connect-endpoint"), ec2("security-group")],
                condition=_CREATED_AS_OURS,
            ),
            Grant("CreateSecurityGroup is checked on the VPC, too", ["ec2:CreateSecurityGroup"], [ec2("vpc")]),
            Grant(
                "an EC2 Instance Connect Endpoint may be in any subnet; its network interface is made in our name",
                ["ec2:CreateInstanceConnectEndpoint", "ec2:CreateNetworkInterface"],
                [ec2("network-interface"), ec2("subnet")],
            ),
            Grant(
                "endpoints get groups with our tag, and no others",
                ["ec2:CreateInstanceConnectEndpoint", "ec2:CreateNetworkInterface", "ec2:CreateVpcEndpoint"],
                [ec2("security-group")],
                condition=_OURS,
            ),
            Grant(
                "what is created gets tags, our own and no others; nothing that exists is tagged",
                ["ec2:CreateTags"],
                [ec2("instance-connect-endpoint"), ec2("security-group"), ec2("vpc-endpoint")],
                condition=_tags_of(["CreateInstanceConnectEndpoint", "CreateSecurityGroup", "CreateVpcEndpoint"]),
            ),
            Grant(
                "a private name is a hosted zone of AWS's, whose id nobody tells, associated in our name",
                ["route53:AssociateVPCWithHostedZone"],
                [arn("route53:::hostedzone/*")],
            ),
            Grant(
                "creating endpoints looks these up in our name, and a group of ours is found again by its name",
                ["ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"],
                ["*"],
            ),
            Grant(
                "an account's first EC2 Instance Connect Endpoint makes this role; its name is spelt in two ways",
                ["iam:CreateServiceLinkedRole"],
                [arn("iam::${AWS::AccountId}:role/aws-service-role/*")],
                condition=equals("iam:AWSServiceName", "ec2-instance-connect.amazonaws.com"),
            ),
            Grant(
                "only what has our tag is changed, or deleted",
                [
                    "ec2:AuthorizeSecurityGroupEgress",
                    "ec2:AuthorizeSecurityGroupIngress",
                    "ec2:DeleteInstanceConnectEndpoint",
                    "ec2:DeleteSecurityGroup",
                    "ec2:DeleteVpcEndpoints",
                    "ec2:ModifyVpcEndpoint",
                    "ec2:RevokeSecurityGroupEgress",
                ],
                [ec2("instance-connect-endpoint"), ec2("security-group"), ec2("vpc-endpoint")],
                condition=_OURS,
            ),
            Grant(
                "ModifyVpcEndpoint is checked on the tables and the subnets, too",
                ["ec2:ModifyVpcEndpoint"],
                [ec2("route-table"), ec2("subnet")],
            ),
            Grant(
                "the groups of instances are opened, and closed again, only where people want that",
                ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
                [ec2("security-group")],
                when=_OPENING,
            ),
            Grant(
                "the rules for that have our tag",
                ["ec2:AuthorizeSecurityGroupIngress"],
                [ec2("security-group-rule")],
                condition=_CREATED_AS_OURS,
                when=_OPENING,
            ),
            Grant(
                "and get no other tags",
                ["ec2:CreateTags"],
                [ec2("security-group-rule")],
                condition=_tags_of("AuthorizeSecurityGroupIngress"),
                when=_OPENING,
            ),
            Grant(
                "any instance may lack a profile, and gets this one",
                ["ec2:AssociateIamInstanceProfile"],
                [ec2("instance")],
                condition={"ArnEquals": {"ec2:NewInstanceProfile": at("DefaultProfile")}},
            ),
            Grant(
                "only the profile that Portcullis gives is taken away again",
                ["ec2:DisassociateIamInstanceProfile"],
                [ec2("instance")],
                condition={"ArnEquals": {"ec2:InstanceProfile": at("DefaultProfile")}},
            ),
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

_POLICY_PROPERTIES = {"ManagedPolicyName", "Description", "PolicyDocument"}
"""Anything else would attach the policy to somebody: that is for the organisation to decide."""


def of_type(template: Template, resource_type: str) -> dict[str, dict[str, Any]]:
    """Return the properties of all resources of one type, by logical id."""
    found = template["Resources"].items()
    return {name: entry.get("Properties", {}) for name, entry in found if entry["Type"] == resource_type}


def documents(template: Template) -> dict[str, list[dict[str, Any]]]:
    """Return every statement of a template, live: of roles, of their trust, of policies, of the bus and of queues."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, role in of_type(template, "AWS::IAM::Role").items():
        policies = role.get("Policies", [])
        found[name] = [plain(statement) for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
        found[f"{name} trusts"] = role["AssumeRolePolicyDocument"]["Statement"]
    for name, policy in of_type(template, "AWS::Events::EventBusPolicy").items():
        found[name] = [policy["Statement"]]
    for kind in ("AWS::IAM::ManagedPolicy", "AWS::SQS::QueuePolicy"):
        for name, policy in of_type(template, kind).items():
            found[name] = policy["PolicyDocument"]["Statement"]
    return found


def _conditions(template: Template) -> dict[str, list[str]]:
    """Return the condition of the template for each statement of its roles, as ``documents`` lists them."""
    return {
        name: [condition(one) for policy in role.get("Policies", []) for one in policy["PolicyDocument"]["Statement"]]
        for name, role in of_type(template, "AWS::IAM::Role").items()
    }


def faults(file: str, template: Template) -> dict[str, list[str]]:
    """Say, by document, how a template differs from the table; no entry where it does not."""
    found, expected, conditions = documents(template), EXPECTED[file], _conditions(template)
    said: dict[str, list[str]] = {}
    for name in sorted(found.keys() | expected.keys()):
        statements = found.get(name, [])
        whens = conditions.get(name, [""] * len(statements))
        there = {_canonical(statement, when) for statement, when in zip(statements, whens, strict=True)}
        wanted = {_canonical(grant.statement(), grant.when): grant for grant in expected.get(name, [])}
        said[name] = [f"missing, though {wanted[text].why}: {text}" for text in wanted.keys() - there]
        said[name] += [f"nobody says why: {text}" for text in there - wanted.keys()]
        if (name in found) != (name in expected):
            said[name].append("only in the template" if name in found else "not in the template")
    for name, role in of_type(template, "AWS::IAM::Role").items():
        if role.get("ManagedPolicyArns", []) != MANAGED_POLICIES.get(name, []):
            said[name].append(f"managed policies: {role.get('ManagedPolicyArns')}")
        said[name] += [f"nobody says why: {key}" for key in role.keys() - _ROLE_PROPERTIES]
    for name, policy in of_type(template, "AWS::IAM::ManagedPolicy").items():
        said[name] += [f"nobody says why: {key}" for key in policy.keys() - _POLICY_PROPERTIES]
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
    yield from _mutants_of_roles(template)
    for name in of_type(template, "AWS::IAM::ManagedPolicy"):
        for key in ("Groups", "Roles", "Users"):
            mutant = json.loads(json.dumps(template))
            mutant["Resources"][name]["Properties"][key] = ["somebody"]
            yield f"{name} attached to {key}", mutant


def _mutants_of_roles(template: Template) -> Iterator[tuple[str, Template]]:
    for name, role in of_type(template, "AWS::IAM::Role").items():
        for at_policy, policy in enumerate(role.get("Policies", [])):
            for index, statement in enumerate(policy["PolicyDocument"]["Statement"]):
                if condition(statement):
                    mutant = json.loads(json.dumps(template))
                    policies = mutant["Resources"][name]["Properties"]["Policies"]
                    policies[at_policy]["PolicyDocument"]["Statement"][index] = plain(statement)
                    yield f"{name} {plain(statement)['Sid']} without {condition(statement)}", mutant
        for key in ("Policies", "ManagedPolicyArns"):
            if key in role:
                mutant = json.loads(json.dumps(template))
                del mutant["Resources"][name]["Properties"][key]
                yield f"{name} without {key}", mutant
        mutant = json.loads(json.dumps(template))
        mutant["Resources"][name]["Properties"]["PermissionsBoundary"] = "arn"
        yield f"{name} with a boundary", mutant
        mutant = json.loads(json.dumps(template))
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
    conditions = statement.get("Condition", {})
    for operator, tests in _pairs(conditions):
        for key, value in tests.items():
            left = {other: tests[other] for other in tests if other != key}
            yield f"without condition {key}", statement | {"Condition": conditions | {operator: left}}
            for changed in ("other", [*listed(value), "another"]):
                altered = {operator: tests | {key: changed}}
                yield f"{key} {_text(changed)}", statement | {"Condition": conditions | altered}
    yield "denied", statement | {"Effect": "Deny"}
    yield "removed", {}


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _canonical(statement: Mapping[str, Any], when: str) -> str:
    """Write a statement so that equal ones are equal: lists sorted, the Sid left out; with its condition, if any."""
    parts: dict[str, Any] = {
        name: _sorted(part) for name, part in statement.items() if name not in ("Sid", "Condition")
    }
    if isinstance(principal := statement.get("Principal"), dict):
        parts["Principal"] = {kind: _sorted(who) for kind, who in principal.items()}
    if conditions := _pairs(statement.get("Condition", {})):
        parts["Condition"] = {
            operator: {key: _sorted(value) for key, value in tests.items()} for operator, tests in conditions
        }
    return _text(parts) + (f" when {when}" if when else "")


def _sorted(value: Any) -> Any:
    return value if isinstance(value, dict) and not _is_reference(value) else sorted(listed(value), key=_text)


def _is_reference(value: Mapping[str, Any]) -> bool:
    return any(key == "Ref" or key.startswith("Fn::") for key in value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def listed(value: Any) -> list[Any]:
    """Return a list, of one where a template leaves the brackets out."""
    return value if isinstance(value, list) else [value]
