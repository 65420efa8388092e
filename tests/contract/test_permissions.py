"""The roles allow what the code declares that it uses, on what it uses it on: nothing less, nothing more."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from portcullis.adapters import coverage_store, ledger, store
from portcullis.controls import CONTROLS
from portcullis.model import FindingRecord, Kind

from tests.contract import roles, templates, wiring

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {path.name: templates.load(path) for path in templates.ALL}
DOCUMENTS = [(file, name) for file, expected in roles.EXPECTED.items() for name in expected]
ROLES = {name: role for template in FILES.values() for name, role in roles.of_type(template, "AWS::IAM::Role").items()}
POLICIES = roles.of_type(FILES["template.yaml"], "AWS::IAM::ManagedPolicy")
MUTANTS = [(file, change, mutant) for file, template in FILES.items() for change, mutant in roles.mutants(template)]


def _actions(role: str) -> set[str]:
    grants = [grant for expected in roles.EXPECTED.values() for grant in expected.get(role, [])]
    return {action for grant in grants for action in grant.actions}


# ---- The templates are what the table says -------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "name"), DOCUMENTS)
def test_a_role_is_exactly_what_the_table_says(file: str, name: str) -> None:
    """Every action, resource, principal and condition of every statement is there for a reason that is written down."""
    assert roles.faults(file, FILES[file]).get(name, []) == []


def test_nothing_is_in_a_template_that_is_not_in_the_table() -> None:
    """A role or a policy that nobody gave a reason for is a failing build."""
    there = {(file, name) for file, template in FILES.items() for name in roles.documents(template)}
    assert there == set(DOCUMENTS)


@pytest.mark.parametrize(
    ("file", "mutant"),
    [pytest.param(file, mutant, id=f"{file}: {change}") for file, change, mutant in MUTANTS],
)
def test_taking_away_or_widening_anything_is_noticed(file: str, mutant: roles.Template) -> None:
    """The check of the checks: each action, resource, principal and condition, one at a time."""
    assert roles.faults(file, mutant) != roles.faults(file, FILES[file])


def test_every_action_of_every_role_is_among_the_mutations() -> None:
    """None is left out: as many removals as there are actions, in each file."""
    for file, template in FILES.items():
        actions = [
            action
            for statements in roles.documents(template).values()
            for statement in statements
            for action in roles.listed(statement["Action"])
        ]
        removals = [change for of, change, _ in MUTANTS if of == file and " without Action " in change]
        assert len(removals) == len(actions) > 0


def test_every_reason_is_written_down() -> None:
    """A grant without a reason is no grant."""
    assert all(grant.why for expected in roles.EXPECTED.values() for grants in expected.values() for grant in grants)


# ---- The table is what the code needs ------------------------------------------------------------------------------

# With whose credentials an adapter calls: a member's role, or the function's own. Security Hub is a member's where
# the function goes into members at all.
OBSERVING = ("observer", "permissions", "surroundings", "vpcs")
_IN_MEMBERS = {*OBSERVING, "remediator"}
_POLLING = ("approval", "intake", "reconcile")

# What an adapter can do, and this function never asks of it.
NOT_ASKED_FOR: dict[str, dict[str, str]] = {
    "actions": {},
    "approval": {
        "dynamodb:DeleteItem": "it reads the ledger, and writes nothing there",
        "dynamodb:PutItem": "it reads the ledger, and writes nothing there",
        "dynamodb:Query": "a request names its change",
        "dynamodb:UpdateItem": "it reads the ledger, and writes nothing there",
        "sqs:ChangeMessageVisibility": "what it cannot enqueue comes again by itself",
    },
    "intake": {
        "dynamodb:DeleteItem": "it forgets nobody",
        "dynamodb:Query": "it lists nobody: a heartbeat's update answers with what is known",
        "sqs:ChangeMessageVisibility": "what it cannot enqueue comes again by itself",
    },
    "reconcile": {},
    "sweep": {
        "dynamodb:DeleteItem": "it forgets nobody, and no state",
        "iam:PassRole": "what has to wait goes to the work queue, and reconcile schedules it",
        "scheduler:CreateSchedule": "the same",
        "scheduler:DeleteSchedule": "the same",
        "scheduler:UpdateSchedule": "the same",
        "sqs:ChangeMessageVisibility": "it receives no messages",
    },
    "survey": {
        "securityhub:BatchUpdateFindings": "nobody asks for anything about coverage",
        "securityhub:GetFindings": "nothing is changed about coverage, so that none need be suppressed",
        "securityhub:DescribeHub": "where Security Hub of the hub is off, the report fails, and an alarm says so",
    },
}


@pytest.mark.parametrize("function", wiring.FUNCTIONS)
def test_a_function_may_do_what_its_adapters_do(function: str) -> None:
    """What bootstrap wires decides what the role allows; each difference has a reason."""
    adapters = wiring.of(function).adapters
    own = adapters - _IN_MEMBERS - ({"securityhub"} if "accounts" in adapters else set())
    needed = {action for module in own - {"directory"} for action in wiring.permissions(module)}
    if "directory" in own:
        needed |= wiring.permissions("directory", "PERMISSIONS" if function == "survey" else "UNITS_PERMISSIONS")

    assert NOT_ASKED_FOR[function].keys() <= needed
    polled = set(roles.POLLING) if function in _POLLING else set()
    expected = needed - NOT_ASKED_FOR[function].keys() | polled | set(roles.LOGS) | set(roles.TRACING)
    assert _actions(f"{function.capitalize()}Role") == expected


@pytest.mark.parametrize(
    ("role", "modules"),
    [("ObserverRole", [*OBSERVING, "securityhub"]), ("RemediatorRole", ["remediator"])],
)
def test_a_member_role_may_do_what_its_adapters_do(role: str, modules: list[str]) -> None:
    """The declared actions of what calls with its credentials, and no others."""
    assert _actions(role) == {action for module in modules for action in wiring.permissions(module)}


def test_the_controls_name_what_is_observed_and_remediated() -> None:
    """A control that needs something new cannot be added without the permission; the page shows them."""
    for_sweeps = {"ec2:DescribeRegions"}  # not for any control: a sweep asks whether the Region is on
    assert {action for control in CONTROLS for action in control.observes} == roles.OBSERVED - for_sweeps
    assert {action for control in CONTROLS for action in control.remediates} == wiring.permissions("remediator")


# Where in the hub's table what lies, as the adapters put it.
_PARTITIONS = {
    "findings": store._to_item("111122223333", "eu-central-1", FindingRecord("X.1", Kind.VPC, "vpc-1", "", "")),
    "states": ledger._state_key("111122223333", "eu-central-1", Kind.VPC, "vpc-1"),
    "changes": ledger._change_key("20261123T121530Z-0123456789"),
    "limits": ledger._limit_key("account#111122223333"),
    "coverage": coverage_store._key("111122223333", "eu-central-1"),
}
_LOOKS_AT = ["BatchGetItem", "PutItem", "Query"]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("Intake", {"coverage": ["UpdateItem"]}),
        (
            "Reconcile",
            {
                "findings": _LOOKS_AT,
                "states": ["BatchGetItem", "DeleteItem", "PutItem"],
                "changes": ["BatchGetItem", "PutItem", "UpdateItem"],
                "limits": ["BatchGetItem", "PutItem", "UpdateItem"],
            },
        ),
        ("Approval", {name: ["BatchGetItem"] for name in ("findings", "states", "changes")}),
        ("Sweep", {"findings": _LOOKS_AT, "states": ["BatchGetItem"], "coverage": ["UpdateItem"]}),
        ("Survey", {"findings": _LOOKS_AT, "coverage": ["DeleteItem", "Query", "UpdateItem"]}),
        ("Actions", {}),
    ],
)
def test_a_function_reaches_its_own_partitions_of_the_table(role: str, expected: dict[str, list[str]]) -> None:
    """Who parses what members send cannot write the ledger; only reconcile writes states, changes and limits."""
    reached: dict[str, list[str]] = {name: [] for name in _PARTITIONS}
    for statement in templates.statements(ROLES[f"{role}Role"]):
        if roles.at("Table") not in roles.listed(statement["Resource"]):
            continue
        assert statement["Condition"].keys() == {"ForAllValues:StringLike"}
        patterns = roles.listed(statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])
        here = {"${AWS::AccountId}": "111122223333", "${AWS::Region}": "eu-central-1"}
        for name, key in _PARTITIONS.items():
            for pattern in patterns:
                text = pattern["Fn::Sub"] if isinstance(pattern, dict) else pattern
                for variable, value in here.items():
                    text = text.replace(variable, value)
                if fnmatchcase(key["pk"]["S"], text):
                    reached[name] += [action.removeprefix("dynamodb:") for action in statement["Action"]]
    assert {name: sorted(actions) for name, actions in reached.items() if actions} == expected


def test_survey_reaches_no_findings_but_the_hubs_own() -> None:
    """It files about coverage there; a member's findings are not its business."""
    patterns = [
        pattern
        for statement in templates.statements(ROLES["SurveyRole"])
        for keys in statement.get("Condition", {}).values()
        for pattern in roles.listed(keys["dynamodb:LeadingKeys"])
    ]
    assert patterns == ["coverage", {"Fn::Sub": "${AWS::AccountId}#${AWS::Region}"}]


# ---- What holds whatever the table says ----------------------------------------------------------------------------


def test_the_observer_can_change_nothing_but_findings_of_its_own_and_notes() -> None:
    """Observation runs with credentials that read, file findings and write notes on them, and nothing else."""
    verbs, services = ("Describe", "Get", "List", "Simulate"), ("ec2", "iam", "route53", "s3", "securityhub", "ssm")
    reading = tuple(f"{service}:{verb}" for service in services for verb in verbs)
    writing = {action for action in templates.actions(ROLES["ObserverRole"]) if not action.startswith(reading)}
    assert writing == {"securityhub:BatchImportFindings", "securityhub:BatchUpdateFindings"}


def test_everything_of_a_finding_but_the_note_belongs_to_the_analyst() -> None:
    """The condition names each field that the call can set, as the model of the call lists them."""
    model = botocore.session.get_session().get_service_model("securityhub")
    shape: Any = model.operation_model("BatchUpdateFindings").input_shape
    fields = shape.members
    assert {name.split(".")[0] for name in roles.NOT_THE_NOTE} == fields.keys() - {"FindingIdentifiers", "Note"}
    for name in ("Severity", "Workflow"):
        named = {text.partition(".")[2] for text in roles.NOT_THE_NOTE if text.startswith(f"{name}.")}
        assert named == fields[name].members.keys()


def test_what_the_policy_may_ask_an_endpoint_for_the_remediator_may_create() -> None:
    """Each gateway service that the schema of the policy knows, and no other; VPCE.3 takes any interface service."""
    schema = json.loads((templates.ROOT / "layers" / "policy" / "policy.schema.json").read_text(encoding="utf-8"))
    assert set(_services(schema)) == set(roles.GATEWAY_SERVICES)


def _services(node: Any) -> Iterator[str]:
    """Yield what any `services` in a schema may list, where it says so one by one."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from value["items"].get("enum", ()) if key == "services" else _services(value)
    elif isinstance(node, list):
        for value in node:
            yield from _services(value)


@pytest.mark.parametrize("name", sorted(ROLES))
def test_no_action_is_a_wildcard(name: str) -> None:
    """Each action is named."""
    assert not [action for action in templates.actions(ROLES[name]) if "*" in action]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_policy_is_attached_to_nobody_and_names_what_it_allows(name: str) -> None:
    """Who may approve is the organisation's decision; whoever may, may that and nothing else."""
    assert not {"Groups", "Roles", "Users"} & POLICIES[name].keys()
    for statement in POLICIES[name]["PolicyDocument"]["Statement"]:
        assert "*" not in [*roles.listed(statement["Resource"]), *statement["Action"]]


# For these the service allows nothing narrower than "*" (Service Authorization Reference), or what is narrower is
# not known to the template.
_NO_RESOURCE_LEVEL = {*roles.TRACING, *wiring.permissions("directory"), "iam:ListInstanceProfiles"}
_NO_RESOURCE_LEVEL |= {
    action
    for module in (*OBSERVING, "remediator")
    for action in wiring.permissions(module)
    if action.startswith("ec2:Describe")
}
_NO_RESOURCE_LEVEL |= {"route53:ListHostedZonesByVPC", "s3:ListAllMyBuckets"}


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_wildcard_resource_stands_only_where_the_service_knows_nothing_narrower(name: str) -> None:
    """Least privilege: "*" as a resource needs a reason in the service, not in our convenience."""
    wide = [s for s in templates.statements(ROLES[name]) if "*" in s["Resource"]]
    assert {action for statement in wide for action in statement["Action"]} <= _NO_RESOURCE_LEVEL


def test_only_reconcile_reaches_the_remediator() -> None:
    """From both sides: no other role of the hub may assume it, and it trusts no other."""
    remediator = roles.arn("iam::*:role/${RemediatorRoleName}")
    entering = {
        name: statement["Resource"]
        for name, role in ROLES.items()
        for statement in templates.statements(role)
        if any(action.startswith("sts:") for action in statement["Action"])
    }
    assert entering.keys() == {"ReconcileRole", "SweepRole"}
    assert [name for name, resources in entering.items() if remediator in resources] == ["ReconcileRole"]
    for name in entering:
        for statement in templates.statements(ROLES[name]):
            if statement["Action"] == list(roles.ENTERING):
                assert statement["Condition"] == roles.equals("aws:ResourceOrgID", {"Ref": "OrganizationId"})
    assert all(resource["Fn::Sub"].endswith("RoleName}") for found in entering.values() for resource in found)
    (trust,) = ROLES["RemediatorRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert roles.listed(trust["Principal"]["AWS"]) == [{"Ref": "ReconcileRoleArn"}]


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_role_is_never_open(name: str) -> None:
    """No role trusts everybody, or a whole account; roles of another account only with the organisation's id."""
    for statement in ROLES[name]["AssumeRolePolicyDocument"]["Statement"]:
        principal = statement["Principal"]
        assert principal.keys() in ({"Service"}, {"AWS"})
        if "AWS" in principal:
            assert all(who["Ref"].endswith("RoleArn") for who in roles.listed(principal["AWS"]))
            assert statement["Condition"] == roles.equals("aws:PrincipalOrgID", {"Ref": "OrganizationId"})


def test_the_names_of_roles_do_not_collide() -> None:
    """Roles are not bound to a Region: what is deployed in each Region of an account has the Region in its name."""
    names = [json.dumps(role["RoleName"]) for role in ROLES.values()]
    assert len(set(names)) == len(names)
    for role in roles.of_type(FILES["member-region.yaml"], "AWS::IAM::Role").values():
        assert "${AWS::Region}" in role["RoleName"]["Fn::Sub"]
        assert len(role["RoleName"]["Fn::Sub"].replace("${AWS::Region}", "r" * 20)) <= 64


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_role_stays_within_the_quotas_of_iam(name: str) -> None:
    """10,240 characters of inline policies and 2,048 of trust ("IAM and AWS STS quotas"); references are not short."""
    role = ROLES[name]
    assert len(json.dumps(_longest(role["Policies"]), separators=(",", ":"))) <= 10_240
    assert 2 * len(json.dumps(role["AssumeRolePolicyDocument"], separators=(",", ":"))) <= 2_048


def _longest(node: Any) -> Any:
    """Return a part of a template with every statement in it, and text of some length for what is filled in."""
    if isinstance(node, list):
        return [_longest(one) for one in node]
    if not isinstance(node, dict):
        return node
    if isinstance(text := node.get("Fn::Sub"), str):
        return re.sub(r"\$\{[^}]+\}", "x" * 24, text)
    if "Fn::If" in node and isinstance(node["Fn::If"][1], dict) and "Effect" in node["Fn::If"][1]:
        return _longest(templates.plain(node))
    return (
        "x" * 120
        if any(key == "Ref" or key.startswith("Fn::") for key in node)
        else {key: _longest(value) for key, value in node.items()}
    )
