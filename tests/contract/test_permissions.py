"""The roles allow what the code declares that it uses, on what it uses it on: nothing less, nothing more."""

from __future__ import annotations

import json

import pytest
from portcullis.controls import CONTROLS

from tests.contract import roles, templates, wiring

FILES = {path.name: templates.load(path) for path in templates.ALL}
DOCUMENTS = [(file, name) for file, expected in roles.EXPECTED.items() for name in expected]
ROLES = {name: role for template in FILES.values() for name, role in roles.of_type(template, "AWS::IAM::Role").items()}
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
_IN_MEMBERS = {"observer", "remediator"}

# What an adapter can do, and this function never asks of it.
NOT_ASKED_FOR = {
    "intake": {
        "dynamodb:DeleteItem": "it forgets nobody",
        "dynamodb:Query": "it lists nobody: a heartbeat's update answers with what is known",
        "sqs:ChangeMessageVisibility": "what it cannot enqueue comes again by itself",
    },
    "reconcile": {},
    "sweep": {
        "dynamodb:BatchGetItem": "it looks at everything, and so lists records",
        "dynamodb:DeleteItem": "it forgets nobody",
        "sqs:ChangeMessageVisibility": "it receives no messages",
    },
    "survey": {
        "securityhub:DescribeHub": "where Security Hub of the hub is off, the report fails, and an alarm says so",
    },
}


@pytest.mark.parametrize("function", wiring.FUNCTIONS)
def test_a_function_may_do_what_its_adapters_do(function: str) -> None:
    """What bootstrap wires decides what the role allows; each difference has a reason."""
    adapters = wiring.of(function).adapters
    own = adapters - _IN_MEMBERS - ({"securityhub"} if "accounts" in adapters else set())
    needed = {action for module in own for action in wiring.permissions(module)}

    assert NOT_ASKED_FOR[function].keys() <= needed
    polled = set(roles.POLLING) if function in ("intake", "reconcile") else set()
    expected = needed - NOT_ASKED_FOR[function].keys() | polled | set(roles.LOGS) | set(roles.TRACING)
    assert _actions(f"{function.capitalize()}Role") == expected


@pytest.mark.parametrize(
    ("role", "modules"), [("ObserverRole", ["observer", "securityhub"]), ("RemediatorRole", ["remediator"])]
)
def test_a_member_role_may_do_what_its_adapters_do(role: str, modules: list[str]) -> None:
    """The declared actions of what calls with its credentials, and no others."""
    assert _actions(role) == {action for module in modules for action in wiring.permissions(module)}


def test_the_controls_name_what_is_observed_and_remediated() -> None:
    """A control that needs something new cannot be added without the permission; the page shows them."""
    for_sweeps = {"ec2:DescribeRegions"}  # not for any control: a sweep asks whether the Region is on
    assert {action for control in CONTROLS for action in control.observes} == (
        wiring.permissions("observer") - for_sweeps
    )
    assert {action for control in CONTROLS for action in control.remediates} == wiring.permissions("remediator")


# ---- What holds whatever the table says ----------------------------------------------------------------------------


def test_the_observer_cannot_change_anything() -> None:
    """Observation runs with credentials that read, and file findings, and nothing else."""
    reading = ("ec2:Describe", "iam:Get", "iam:List", "securityhub:BatchImportFindings", "securityhub:Describe")
    assert all(action.startswith(reading) for action in templates.actions(ROLES["ObserverRole"]))


@pytest.mark.parametrize("name", sorted(ROLES))
def test_no_action_is_a_wildcard(name: str) -> None:
    """Each action is named."""
    assert not [action for action in templates.actions(ROLES[name]) if "*" in action]


# For these the service allows nothing narrower than "*" (Service Authorization Reference), or what is narrower is
# not known to the template.
_NO_RESOURCE_LEVEL = {*roles.TRACING, *wiring.permissions("directory"), "iam:ListInstanceProfiles"}
_NO_RESOURCE_LEVEL |= {action for action in wiring.permissions("observer") if action.startswith("ec2:Describe")}
_NO_RESOURCE_LEVEL |= {"s3:ListAllMyBuckets"}


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
    """10,240 characters of inline policies and 2,048 of trust ("IAM and AWS STS quotas"); references may double it."""
    role = ROLES[name]
    assert 2 * len(json.dumps(role["Policies"], separators=(",", ":"))) <= 10_240
    assert 2 * len(json.dumps(role["AssumeRolePolicyDocument"], separators=(",", ":"))) <= 2_048
