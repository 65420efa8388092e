"""The sweep's state machine: it fits the functions that it calls, it is bounded, and it ends with a report."""

from __future__ import annotations

import ast
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import survey
from portcullis.findings import Place

from tests.contract import templates

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = templates.MACHINE.read_text(encoding="utf-8")
MACHINE: dict[str, Any] = json.loads(TEXT)
STATES: dict[str, dict[str, Any]] = MACHINE["States"]
CHILD: dict[str, dict[str, Any]] = STATES["Sweep"]["ItemProcessor"]["States"]
TASKS = {"List": STATES["List"], "Look": CHILD["Look"], "Report": STATES["Report"]}
RESOURCE: dict[str, Any]
(RESOURCE,) = templates.resources(templates.HUB, "AWS::Serverless::StateMachine").values()
FUNCTIONS = templates.resources(templates.HUB, "AWS::Serverless::Function")

STATE_LIMIT = 256 * 1024
"""Bytes that a task, state or execution may take or give ("Step Functions service quotas")."""


def _read_by(function: str) -> set[str]:
    """Return the keys of its event that a function's handler reads."""
    handler = (templates.ROOT / "functions" / function / "handler.py").read_text(encoding="utf-8")
    return {
        node.slice.value
        for node in ast.walk(ast.parse(handler))
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "event"
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
    }


def _keys(payload: dict[str, Any]) -> set[str]:
    return {key.removesuffix(".$") for key in payload}


def _next(state: dict[str, Any]) -> Iterator[str]:
    """Yield every state that may follow."""
    for branch in (state, *state.get("Choices", []), *state.get("Catch", [])):
        yield from (branch[key] for key in ("Next", "Default") if key in branch)


def _reached(start: str) -> set[str]:
    """Return every state to which a way leads."""
    reached, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _next(STATES[name])
    return reached


# ---- The template and the machine ----------------------------------------------------------------------------------


def test_every_placeholder_is_filled_in_and_nothing_else_is() -> None:
    """Of the functions and of the partition; a placeholder without a value would be deployed as text."""
    assert set(re.findall(r"\$\{(\w+)\}", TEXT)) == RESOURCE["DefinitionSubstitutions"].keys()
    assert RESOURCE["DefinitionSubstitutions"] == {
        "Partition": {"Ref": "AWS::Partition"},
        "SurveyFunctionArn": {"Fn::GetAtt": ["SurveyFunction", "Arn"]},
        "SweepFunctionArn": {"Fn::GetAtt": ["SweepFunction", "Arn"]},
    }
    assert templates.ROOT / RESOURCE["DefinitionUri"] == templates.MACHINE


def test_the_machine_is_called_as_its_role_calls_it() -> None:
    """The role names its executions by the name of the machine: a reference would be a circle."""
    role = templates.resources(templates.HUB, "AWS::IAM::Role")["SweepMachineRole"]
    named = [text for s in templates.statements(role) for r in s["Resource"] for text in [r.get("Fn::Sub", "")] if text]
    assert [text.rstrip("*").rsplit(":", 1)[-1] for text in named] == [RESOURCE["Name"]] * 2
    assert RESOURCE["Role"] == {"Fn::GetAtt": ["SweepMachineRole", "Arn"]}
    assert RESOURCE["Type"] == "STANDARD"  # a distributed map needs it


def test_the_schedule_starts_it() -> None:
    """As often as the parameter says, with its own role; not before the first member stacks are there."""
    resource = templates.load(templates.HUB)["Resources"]["SweepTimer"]
    schedule = resource["Properties"]
    assert schedule["ScheduleExpression"] == {"Ref": "SweepSchedule"}
    assert schedule["Target"]["Arn"] == {"Ref": "SweepStateMachine"}
    assert schedule["Target"]["RoleArn"] == {"Fn::GetAtt": ["SweepScheduleRole", "Arn"]}
    assert schedule.get("State", "ENABLED") == "ENABLED"
    assert resource["DependsOn"] == "MemberRegionStackSet"


def test_its_input_is_not_read() -> None:
    """A schedule gives an empty object, and so may a person: the first state makes what the others need."""
    begin = STATES[MACHINE["StartAt"]]
    assert (begin["Type"], begin["Result"]) == ("Pass", {"page": {"after": ""}})
    assert (
        json.loads(templates.resources(templates.HUB, "AWS::Scheduler::Schedule")["SweepTimer"]["Target"]["Input"])
        == {}
    )


# ---- The functions and the machine ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "function"), [("List", "Survey"), ("Look", "Sweep"), ("Report", "Survey")])
def test_a_task_calls_its_function(task: str, function: str) -> None:
    """By Lambda's integration, which gives the answer as the payload; the partition is not written down."""
    assert TASKS[task]["Resource"] == "arn:${Partition}:states:::lambda:invoke"
    assert TASKS[task]["Parameters"]["FunctionName"] == f"${{{function}FunctionArn}}"


def test_the_survey_is_called_with_what_its_handler_reads() -> None:
    """Listing takes the page to go on after, reporting does not; the step says which it is."""
    payloads = {name: STATES[name]["Parameters"]["Payload"] for name in ("List", "Report")}
    assert {name: payload["step"] for name, payload in payloads.items()} == {"List": "list", "Report": "report"}
    assert _keys(payloads["List"]) == _read_by("survey") == {"step", "after", "sweep_id"}
    assert _keys(payloads["Report"]) == {"step", "sweep_id"}
    assert payloads["List"]["after.$"] == "$.page.after"


def test_a_look_is_called_with_what_its_handler_reads() -> None:
    """Account, Region and sweep; the id is the one of the whole sweep, not of the child that looks."""
    chosen = STATES["Sweep"]["ItemSelector"]
    assert _keys(chosen) == _read_by("sweep")
    assert CHILD["Look"]["Parameters"]["Payload.$"] == "$"
    ids = {chosen["sweep_id.$"], *(STATES[name]["Parameters"]["Payload"]["sweep_id.$"] for name in ("List", "Report"))}
    assert ids == {"$$.Execution.Name"}


def _listed(accounts: int, regions: list[str], after: str = "") -> dict[str, Any]:
    directory = SimpleNamespace(active_accounts=lambda: {f"{number:012}" for number in range(accounts)})
    coverage = SimpleNamespace(all=list, list_place=lambda *_, **__: None)
    ports: Any = SimpleNamespace(
        directory=directory, coverage=coverage, sink=None, store=None, journal=None, clock=None
    )
    return survey.Survey(ports, hub=Place("aws", "0" * 12, "us-east-1"), regions=regions).list(after)


def test_the_machine_reads_what_the_survey_answers() -> None:
    """The list is under `items`, each with account and Region; `after` is empty on the last page."""
    answer = _listed(1, ["eu-central-1"])
    assert _keys(STATES["List"]["ResultSelector"]) == answer.keys()
    assert set(STATES["List"]["ResultSelector"].values()) == {f"$.Payload.{key}" for key in answer}
    assert (STATES["List"]["ResultPath"], STATES["Sweep"]["ItemsPath"]) == ("$.page", "$.page.items")
    assert {f"$$.Map.Item.Value.{key}" for key in answer["items"][0]} <= set(STATES["Sweep"]["ItemSelector"].values())
    assert STATES["More"]["Choices"] == [
        {"Variable": "$.page.after", "StringEquals": answer["after"], "Next": "Report"}
    ]
    assert STATES["More"]["Default"] == "List"


def test_a_page_fits_into_a_state_with_room_to_spare() -> None:
    """However large the organisation: the fullest page, with the longest Region names, leaves 40 % of 256 KiB free."""
    regions = ["us-northwest-99", "ap-southeast-99"]
    page = _listed(survey.PAGE, regions)
    assert len(page["items"]) == survey.PAGE
    assert page["after"]
    assert len(json.dumps(page)) <= 0.6 * STATE_LIMIT

    pages, after = 0, ""
    seen: list[tuple[str, str]] = []
    while not pages or after:
        page = _listed(survey.PAGE, regions, after)
        seen += [(item["account_id"], item["region"]) for item in page["items"]]
        pages, after = pages + 1, page["after"]
    assert pages == 2
    assert len(seen) == len(set(seen)) == survey.PAGE * len(regions)


def test_what_the_looks_answer_is_not_collected() -> None:
    """Thousands of answers would not fit into a state: they are in the table."""
    assert CHILD["Look"]["OutputPath"] is None
    assert STATES["Sweep"]["ResultPath"] is None


# ---- Bounds, and failures ------------------------------------------------------------------------------------------


def test_the_map_is_distributed_and_bounded() -> None:
    """Children of their own, so many at once that nobody is throttled; some accounts may fail without it."""
    sweep = STATES["Sweep"]
    assert sweep["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert 1 <= sweep["MaxConcurrency"] <= 40
    assert 0 < sweep["ToleratedFailurePercentage"] < 100
    assert len(sweep["Label"]) <= 40


def test_a_page_ends_within_hours() -> None:
    """Were every look of a full page as slow as can be without a retry, it would still end before the next day."""
    slowest = survey.PAGE / STATES["Sweep"]["MaxConcurrency"] * CHILD["Look"]["TimeoutSeconds"]
    assert slowest < 24 * 3600


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_task_is_tried_again(task: str) -> None:
    """Whatever failed, some times, with growing pauses."""
    (retry,) = TASKS[task]["Retry"]
    assert retry["ErrorEquals"] == ["States.ALL"]
    assert 1 <= retry["MaxAttempts"] <= 5
    assert retry["BackoffRate"] > 1
    assert retry["IntervalSeconds"] >= 1


def test_a_look_is_given_more_time_than_its_function_has() -> None:
    """A function that runs out of time says so; the machine does not wait for ever for one that says nothing."""
    assert FUNCTIONS["SweepFunction"]["Timeout"] < CHILD["Look"]["TimeoutSeconds"] <= 900


def test_a_sweep_that_fails_still_reports_and_then_fails() -> None:
    """What did not answer becomes findings; and the execution fails, so that the alarm says so."""
    (caught,) = STATES["Sweep"]["Catch"]
    assert (caught["ErrorEquals"], caught["Next"]) == (["States.ALL"], "More")
    assert STATES["Report"]["ResultPath"] == "$.report"  # what was caught is kept beside it
    assert caught["ResultPath"] == "$.failure"
    assert STATES["Complete"]["Choices"] == [{"Variable": "$.failure", "IsPresent": True, "Next": "Incomplete"}]
    assert (STATES["Incomplete"]["Type"], STATES["Done"]["Type"]) == ("Fail", "Succeed")
    assert STATES["Done"]["OutputPath"] == "$.report.summary"


def test_a_list_that_fails_blames_nobody() -> None:
    """The execution fails, which the alarm tells; no account is called unswept because the hub could not list it."""
    assert "Catch" not in STATES["List"]


def test_a_page_that_fails_does_not_keep_the_sweep_from_the_others() -> None:
    """Accounts of the pages after it are looked at all the same, instead of being reported as not covered."""
    (caught,) = STATES["Sweep"]["Catch"]
    assert "List" in _reached(caught["Next"])


def test_every_path_ends() -> None:
    """Each state that is named exists and is reached; each way leads to Done or to Incomplete."""
    assert _reached(MACHINE["StartAt"]) == STATES.keys()
    ends = {name for name, state in STATES.items() if not list(_next(state))}
    assert ends == {"Done", "Incomplete"}
    assert [name for name, state in CHILD.items() if state.get("End")] == ["Look"]
    assert STATES["Sweep"]["ItemProcessor"]["StartAt"] == "Look"
