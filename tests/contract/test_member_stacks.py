"""The member stacks: what CloudFormation and StackSets can deploy, everywhere, with what the hub gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract import templates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUB = templates.load(templates.HUB)
STACK_SETS = templates.resources(templates.HUB, "AWS::CloudFormation::StackSet")
TEMPLATES = {"MemberAccountStackSet": templates.MEMBER_ACCOUNT, "MemberRegionStackSet": templates.MEMBER_REGION}

# "Understand CloudFormation quotas" (CloudFormation user guide).
BODY_IN_A_REQUEST = 51_200
BODY_IN_S3 = 1024 * 1024
DESCRIPTION = 1024
QUOTAS = {"Resources": 500, "Parameters": 200, "Outputs": 200, "Mappings": 200}


def _required(path: Path) -> set[str]:
    return {name for name, entry in templates.load(path)["Parameters"].items() if "Default" not in entry}


def _choices(path: Path) -> dict[str, Any]:
    parameters = templates.load(path)["Parameters"]
    return {name: value for name, value in CHOICES.items() if name in parameters}


def _keys(node: Any) -> Iterator[str]:
    """Yield every key of a template, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _keys(value)
    elif isinstance(node, list):
        for value in node:
            yield from _keys(value)


# ---- What CloudFormation takes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", templates.ALL, ids=lambda path: path.name)
def test_a_template_stays_within_the_quotas_of_cloudformation(path: Path) -> None:
    """A member template fits into a request, as plain stacks send it; the hub's, which is uploaded, into S3."""
    template = templates.load(path)
    assert path.stat().st_size <= (BODY_IN_S3 if path == templates.HUB else BODY_IN_A_REQUEST)
    # SAM turns a function into itself, its version or its sources: three for one is more than it makes.
    factor = 3 if "Transform" in template else 1
    for section, most in QUOTAS.items():
        assert factor * len(template.get(section, {})) <= most
    assert len(template["Description"].encode()) <= DESCRIPTION


@pytest.mark.parametrize("path", templates.MEMBERS, ids=lambda path: path.name)
def test_a_member_template_is_one_that_service_managed_stack_sets_take(path: Path) -> None:
    """They take no nested stacks, no macros and no transforms, SAM's included, at any depth."""
    template = templates.load(path)
    types = {entry["Type"] for entry in template["Resources"].values()}
    assert "AWS::CloudFormation::Stack" not in types
    assert not [kind for kind in types if kind.startswith(("AWS::Serverless::", "Custom::"))]
    assert not {"Transform", "Fn::Transform"} & set(_keys(template))


@pytest.mark.parametrize("path", templates.MEMBERS, ids=lambda path: path.name)
def test_a_member_stack_can_be_deployed_once_more_in_another_place(path: Path) -> None:
    """It exports and imports nothing, and refers to nothing that another stack must have made."""
    template = templates.load(path)
    assert "Fn::ImportValue" not in set(_keys(template))
    assert "Outputs" not in template


# ---- The StackSets -------------------------------------------------------------------------------------------------


def test_there_is_a_stack_set_for_each_member_template() -> None:
    """Each template is deployed by one; what it names is a file here, which `sam package` uploads."""
    assert STACK_SETS.keys() == TEMPLATES.keys()
    for name, path in TEMPLATES.items():
        assert (templates.ROOT / STACK_SETS[name]["TemplateURL"]).resolve() == path.resolve()
        assert STACK_SETS[name]["StackSetName"] == f"portcullis-{path.stem}"


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_stack_set_reaches_accounts_that_join_later(name: str) -> None:
    """Service-managed, from a delegated administrator; whoever joins gets the stacks, whoever leaves loses them."""
    stack_set = STACK_SETS[name]
    assert stack_set["PermissionModel"] == "SERVICE_MANAGED"
    assert stack_set["CallAs"] == "DELEGATED_ADMIN"
    assert stack_set["AutoDeployment"] == {"Enabled": True, "RetainStacksOnAccountRemoval": False}
    assert stack_set["ManagedExecution"] == {"Active": True}
    assert stack_set["Capabilities"] == ["CAPABILITY_NAMED_IAM"]
    named = templates.resources(TEMPLATES[name], "AWS::IAM::Role").values()
    assert all("RoleName" in role for role in named)


@pytest.mark.parametrize(("name", "tolerated"), [("MemberAccountStackSet", 50), ("MemberRegionStackSet", 100)])
def test_one_odd_account_does_not_undo_the_hub(name: str, tolerated: int) -> None:
    """Some accounts may fail without the operation, and with it the hub's stack; coverage findings tell which.

    All may in one Region: an opt-in Region that nobody has must not hold up the others.
    """
    preferences = STACK_SETS[name]["OperationPreferences"]
    assert preferences["FailureTolerancePercentage"] == tolerated
    assert 0 < preferences["MaxConcurrentPercentage"] <= 100
    assert preferences["ConcurrencyMode"] == "SOFT_FAILURE_TOLERANCE"


@pytest.mark.parametrize(
    ("name", "regions"),
    [("MemberAccountStackSet", [{"Ref": "AWS::Region"}]), ("MemberRegionStackSet", {"Ref": "GovernedRegions"})],
)
def test_a_stack_set_goes_where_the_parameters_say(name: str, regions: Any) -> None:
    """To the target units: roles once per account, as they know no Regions; rules in each governed Region."""
    (group,) = STACK_SETS[name]["StackInstancesGroup"]
    assert group == {
        "DeploymentTargets": {"OrganizationalUnitIds": {"Ref": "TargetOrganizationalUnitIds"}},
        "Regions": regions,
    }
    lists = ("TargetOrganizationalUnitIds", "GovernedRegions")
    assert {HUB["Parameters"][parameter]["Type"] for parameter in lists} == {"CommaDelimitedList"}


def test_the_first_heartbeat_finds_its_way_and_an_answer() -> None:
    """The hub's bus, rule and queue take it, and the account's roles let the hub look."""
    way = ["BusPolicy", "HeartbeatsRule", "IntakeQueuesPolicy"]
    assert HUB["Resources"]["MemberRegionStackSet"]["DependsOn"] == [*way, "MemberAccountStackSet"]


# ---- Parameters ----------------------------------------------------------------------------------------------------

VALUES = {
    "HubBusArn": {"Fn::GetAtt": ["Bus", "Arn"]},
    "ReconcileRoleArn": {"Fn::GetAtt": ["ReconcileRole", "Arn"]},
    "SweepRoleArn": {"Fn::GetAtt": ["SweepRole", "Arn"]},
    "OrganizationId": {"Ref": "OrganizationId"},
    "ObserverRoleName": {"Ref": "ObserverRoleName"},
    "RemediatorRoleName": {"Ref": "RemediatorRoleName"},
}
"""What the parameters of the member templates without a default are, in the hub."""

CHOICES = {"InstanceConnectMayOpenGroups": {"Ref": "InstanceConnectMayOpenGroups"}}
"""What else the deployer of the hub decides for the members: parameters with the same default in both places."""


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_stack_set_gives_each_parameter_without_a_default_and_the_deployers_choices(name: str) -> None:
    """With one missing, StackSets refuse the template; overrides do not reach stacks that are deployed later."""
    given = {pair["ParameterKey"]: pair["ParameterValue"] for pair in STACK_SETS[name]["Parameters"]}
    assert len(given) == len(STACK_SETS[name]["Parameters"])
    assert given == {key: VALUES[key] for key in _required(TEMPLATES[name])} | _choices(TEMPLATES[name])


@pytest.mark.parametrize("path", templates.MEMBERS, ids=lambda path: path.name)
def test_a_stack_by_hand_takes_the_same_from_the_hub_s_outputs(path: Path) -> None:
    """For the management account, which StackSets leave out: outputs of the same names, with the same values."""
    outputs = {name: output["Value"] for name, output in HUB["Outputs"].items()}
    assert {name: outputs[name] for name in _required(path)} == {name: VALUES[name] for name in _required(path)}
    assert {name: outputs[name] for name in _choices(path)} == _choices(path)


def test_groups_of_others_stay_as_they_are_unless_the_deployer_wants_otherwise() -> None:
    """The choice is one word in the hub's stack, and is no by default, there and in a stack by hand."""
    account = templates.load(templates.MEMBER_ACCOUNT)
    for template in (HUB, account):
        parameter = template["Parameters"]["InstanceConnectMayOpenGroups"]
        assert (parameter["Default"], parameter["AllowedValues"]) == ("false", ["true", "false"])
    assert account["Conditions"]["MayOpenGroups"] == {"Fn::Equals": [{"Ref": "InstanceConnectMayOpenGroups"}, "true"]}


def test_the_hub_says_where_stacks_are_needed() -> None:
    """Whoever deploys them by hand reads the Regions from an output."""
    assert HUB["Outputs"]["GovernedRegions"]["Value"] == {"Fn::Join": [",", {"Ref": "GovernedRegions"}]}


def test_the_default_profile_is_the_one_that_the_policy_gives() -> None:
    """The role that may be passed is the one that ROLE.1 associates, as long as nobody changes either."""
    policy = templates.policy()["controls"]["ROLE.1"]
    parameter = templates.load(templates.MEMBER_ACCOUNT)["Parameters"]["DefaultProfileName"]
    assert policy["default_profile"] == parameter["Default"]
    (profile,) = templates.resources(templates.MEMBER_ACCOUNT, "AWS::IAM::InstanceProfile").values()
    assert profile == {"InstanceProfileName": {"Ref": "DefaultProfileName"}, "Roles": [{"Ref": "DefaultRole"}]}


def test_the_first_heartbeat_comes_after_its_rule() -> None:
    """A schedule fires at once: without the rule its first heartbeat would be lost."""
    region = templates.load(templates.ROOT / "infra" / "member-region.yaml")["Resources"]
    assert region["HeartbeatSchedule"]["DependsOn"] == "HeartbeatsRule"


def test_ec2_is_called_by_its_name_in_china() -> None:
    """The only service whose principal differs among those that the member stacks name."""
    account = templates.load(templates.ROOT / "infra" / "member-account.yaml")
    assert account["Conditions"]["InChina"] == {"Fn::Equals": [{"Ref": "AWS::Partition"}, "aws-cn"]}
