"""Looks that wait, the kill switch, and what people ask for: how they are deployed."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from custom_actions import CustomActions
from portcullis.adapters import ledger, scheduler
from portcullis.ports import Changes
from portcullis.triggers import ACTION_IDS, CUSTOM_ACTION, SECURITY_HUB_SOURCE

from local.fidelity.event_patterns import matches
from tests.contract import templates

if TYPE_CHECKING:
    from collections.abc import Iterator

RESOURCES = templates.load(templates.HUB)["Resources"]
FUNCTIONS = templates.resources(templates.HUB, "AWS::Serverless::Function")


def _variables(function: str) -> dict[str, Any]:
    variables: dict[str, Any] = FUNCTIONS[f"{function}Function"]["Environment"]["Variables"]
    return variables


def _named(node: Any) -> Iterator[str]:
    """Yield the logical ids that a part of a template refers to, and those that it waits for."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("Ref", "DependsOn"):
                yield from value if isinstance(value, list) else [value]
            elif key == "Fn::GetAtt":
                yield value[0]
            elif key == "Fn::Sub":
                yield from re.findall(r"\$\{(\w+)", value)
            else:
                yield from _named(value)
    elif isinstance(node, list):
        for value in node:
            yield from _named(value)


def _needed(logical_id: str) -> set[str]:
    """Return all that CloudFormation makes before a resource, and deletes only after it."""
    found: set[str] = set()
    waiting = [logical_id]
    while waiting:
        more = {name for name in _named(RESOURCES[waiting.pop()]) if name in RESOURCES} - found
        found |= more
        waiting += more
    return found


# ---- Looks that wait -----------------------------------------------------------------------------------------------


def test_looks_are_scheduled_in_a_group_that_goes_with_the_stack() -> None:
    """The group is the one that the code names; nothing keeps it, and so no schedule outlives the stack."""
    assert RESOURCES["LooksGroup"] == {"Type": "AWS::Scheduler::ScheduleGroup", "Properties": {"Name": scheduler.GROUP}}


@pytest.mark.parametrize("function", ["Reconcile", "Sweep"])
def test_a_function_that_schedules_looks_knows_where_they_go(function: str) -> None:
    """To the work queue, with the role of the group."""
    variables = _variables(function)
    assert variables["LOOKS_ROLE_ARN"] == {"Fn::GetAtt": ["LooksRole", "Arn"]}
    assert variables["WORK_QUEUE_ARN"] == {"Fn::GetAtt": ["WorkQueue", "Arn"]}


# ---- The kill switch -----------------------------------------------------------------------------------------------


def test_the_kill_switch_starts_as_stopped() -> None:
    """CloudFormation puts the value back with any change to the resource: that must never undo a stop.

    And a change to the resource stops everybody's changes: whoever changes this test says so to those who upgrade.
    """
    assert RESOURCES["KillSwitch"] == {
        "Type": "AWS::SSM::Parameter",
        "Properties": {
            "Name": "/portcullis/changes",
            "Type": "String",
            "AllowedPattern": "^(enabled|undo-only|stopped)$",
            "Value": "stopped",
            "Description": (
                "What Portcullis may change - enabled, undo-only or stopped. Whatever else stands here means stopped."
            ),
        },
    }


def test_the_kill_switch_takes_the_positions_that_the_code_knows() -> None:
    """SSM refuses every other value, so that a slip is noticed where it is made."""
    pattern = RESOURCES["KillSwitch"]["Properties"]["AllowedPattern"]
    assert all(re.search(pattern, position) for position in Changes)
    assert sorted(Changes) == sorted(re.findall(r"[a-z-]+", pattern))
    assert not re.search(pattern, "Enabled")
    assert not re.search(pattern, "stopped enabled")


def test_only_those_who_look_ask_the_kill_switch() -> None:
    """Reconcile makes the changes, sweep enqueues what needs one; nothing that is deployed writes there."""
    assert (
        _variables("Reconcile")["KILL_SWITCH_NAME"] == _variables("Sweep")["KILL_SWITCH_NAME"] == {"Ref": "KillSwitch"}
    )
    roles = templates.resources(templates.HUB, "AWS::IAM::Role")
    assert [name for name, role in roles.items() if "KillSwitch" in _named(role)] == ["ReconcileRole", "SweepRole"]


# ---- What people ask for -------------------------------------------------------------------------------------------


EVENT: dict[str, Any] = json.loads(
    (templates.ROOT / "events" / "CustomAction-Remediate.json").read_text(encoding="utf-8")
)
ANSWER = CustomActions(Mock(), Mock())._keep(
    f"arn:aws:cloudformation:{EVENT['region']}:{EVENT['account']}:stack/portcullis/1"
)
"""The attributes of the custom resource, as its function gives them to CloudFormation."""


def _pattern() -> dict[str, Any]:
    """Return the rule's pattern as it is deployed: with the attributes of the custom resource."""
    pattern = RESOURCES["RequestsRule"]["Properties"]["EventPattern"]
    named = [one["Fn::GetAtt"] for one in pattern["resources"]]
    assert {resource for resource, _ in named} == {"SecurityHubActions"}
    return {**pattern, "resources": [ANSWER[attribute] for _, attribute in named]}


def test_each_custom_action_of_ours_is_a_request() -> None:
    """All that the function makes, the rule lets through; the sample event is one of them."""
    assert set(_pattern()["resources"]) == set(ANSWER.values())
    assert len(ANSWER) == len(ACTION_IDS)
    assert EVENT["resources"] == [ANSWER["RemediateArn"]]
    assert all(matches(_pattern(), {**EVENT, "resources": [arn]}) for arn in ANSWER.values())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resources", ["arn:aws:securityhub:eu-central-1:111122223333:action/custom/Ticket"]),
        ("resources", []),
        ("detail-type", "Security Hub Findings - Imported"),
        ("source", "my.app"),
    ],
)
def test_no_other_event_of_the_default_bus_is_a_request(key: str, value: Any) -> None:
    """Others have custom actions, too; what is filed is no request; nobody else can say that he is Security Hub."""
    assert matches(_pattern(), EVENT)
    assert not matches(_pattern(), {**EVENT, key: value})


def test_requests_come_from_the_default_bus() -> None:
    """There Security Hub puts its events; nobody else can, as the source begins with `aws.`."""
    rule = RESOURCES["RequestsRule"]["Properties"]
    assert "EventBusName" not in rule
    assert rule.get("State", "ENABLED") == "ENABLED"
    assert rule["EventPattern"]["source"] == [SECURITY_HUB_SOURCE]
    assert rule["EventPattern"]["detail-type"] == [CUSTOM_ACTION]


def test_the_function_knows_the_custom_actions_by_the_same_arns_as_the_rule() -> None:
    """Which of the two was chosen is told by the ARN alone."""
    variables = _variables("Approval")
    assert [variables[f"{name}_ACTION_ARN"] for name in ("REMEDIATE", "UNDO")] == (
        RESOURCES["RequestsRule"]["Properties"]["EventPattern"]["resources"]
    )
    assert variables["HUB_ACCOUNT_ID"] == {"Ref": "AWS::AccountId"}


def test_the_custom_actions_are_removed_while_their_function_can_still_do_it_and_say_so() -> None:
    """CloudFormation deletes in the reverse order: function, role and log group outlive the call that deletes."""
    assert {"ActionsFunction", "ActionsRole", "ActionsLogs"} <= _needed("SecurityHubActions")


def test_a_deployment_does_not_wait_an_hour_for_the_custom_actions() -> None:
    """The function has the time that it needs, and once more as Lambda repeats it; then CloudFormation gives up."""
    resource = RESOURCES["SecurityHubActions"]
    assert resource["Type"] == "Custom::SecurityHubActions"
    assert resource["Properties"]["ServiceToken"] == {"Fn::GetAtt": ["ActionsFunction", "Arn"]}
    assert 2 * FUNCTIONS["ActionsFunction"]["Timeout"] + 60 <= resource["Properties"]["ServiceTimeout"] <= 600


def test_whoever_approves_may_read_the_changes_in_the_table_and_nothing_else() -> None:
    """The condition is on the partitions that the ledger gives to changes."""
    (policy,) = templates.resources(templates.HUB, "AWS::IAM::ManagedPolicy").values()
    (keys,) = [s["Condition"] for s in policy["PolicyDocument"]["Statement"] if "Condition" in s]
    pattern = keys["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    partition = ledger._change_key("20261123T121530Z-0123456789")["pk"]["S"]
    assert fnmatchcase(partition, pattern)
    assert not fnmatchcase("111122223333#eu-central-1", pattern)
