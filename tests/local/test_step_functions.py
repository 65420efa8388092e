"""State machines run in moto's engine with the functions of the organisation, and fail as on AWS."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

PERFORM = "arn:aws:lambda:us-east-1:123456789012:function:portcullis-Perform"
ROLE = "arn:aws:iam::123456789012:role/portcullis-MachineRole"
RETRY = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 5, "MaxAttempts": 2, "BackoffRate": 3}]
CATCH = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Caught"}]
CAUGHT = {"Caught": {"Type": "Pass", "End": True}}


def task(**fields: Any) -> dict[str, Any]:
    """Return a state that hands its input to the example's function."""
    parameters = {"FunctionName": PERFORM, "Payload.$": "$"}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": parameters,
        "End": True,
    } | fields


def distributed(**fields: Any) -> dict[str, Any]:
    """Return a map over `items` that hands each to the example's function."""
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, "StartAt": "Do", "States": {"Do": task(OutputPath="$.Payload")}}
    return {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, "End": True} | fields


def create(organisation: LocalOrganisation, state: dict[str, Any], role_arn: str = ROLE) -> str:
    """Create a state machine of one state (and one for what it catches); return its ARN."""
    definition = json.dumps({"StartAt": "It", "States": {"It": state, **(CAUGHT if "Catch" in state else {})}})
    client = organisation.client("stepfunctions")
    name = f"machine-{uuid.uuid4().hex}"
    return str(client.create_state_machine(name=name, definition=definition, roleArn=role_arn)["stateMachineArn"])


def run(organisation: LocalOrganisation, state: dict[str, Any], value: Any, **options: Any) -> dict[str, Any]:
    """Run a state machine of one state and return how its execution ended, its output parsed."""
    client = organisation.client("stepfunctions")
    arn = client.start_execution(stateMachineArn=create(organisation, state, **options), input=json.dumps(value))
    assert organisation.settled(20)
    ended: dict[str, Any] = client.describe_execution(executionArn=arn["executionArn"])
    return {**ended, "output": json.loads(ended.get("output", "null"))}


def role(organisation: LocalOrganisation, *actions: str, account_id: str = "123456789012") -> str:
    """Create a role that Step Functions may assume on behalf of an account, and that may do something."""
    condition = {"StringEquals": {"aws:SourceAccount": account_id}}
    trusted = {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": {**trusted, "Condition": condition}})
    policy = json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["x:Y", *actions], "Resource": "*"}}
    )
    iam, name = organisation.client("iam"), f"role-{uuid.uuid4().hex}"
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
    return str(arn)


# Tasks


def test_a_task_gets_the_functions_answer(organisation: LocalOrganisation) -> None:
    """As Lambda's Invoke answers it; the state machine of the template runs, and the journal tells."""
    before = len(organisation.journal.since(0))
    ended = run(organisation, task(), {"do": "echo", "a": 1})
    assert (ended["status"], ended["output"]["Payload"]) == ("SUCCEEDED", {"do": "echo", "a": 1})
    assert ended["output"]["StatusCode"] == 200
    texts = [step.text for step in organisation.journal.since(before) if step.kind == "event"]
    assert [text.rsplit(" ", 1)[1] for text in texts] == ["started", "succeeded"]
    assert ended["name"] in texts[0]


def test_the_templates_machine_can_be_started_and_followed(organisation: LocalOrganisation) -> None:
    """Over the API, under the name that the template gives, with a name for each execution."""
    client = organisation.client("stepfunctions")
    arn = "arn:aws:states:us-east-1:123456789012:stateMachine:portcullis-Machine"
    started = [client.start_execution(stateMachineArn=arn, input='{"do": "echo"}')["executionArn"] for _ in range(2)]
    assert len(set(started)) == 2
    assert organisation.settled(20)
    listed = client.list_executions(stateMachineArn=arn)["executions"]
    assert {one["executionArn"] for one in listed} == set(started)
    assert {one["status"] for one in listed} == {"SUCCEEDED"}
    kinds = [event["type"] for event in client.get_execution_history(executionArn=started[0])["events"]]
    assert kinds[0] == "ExecutionStarted"
    assert kinds[-1] == "ExecutionSucceeded"


def test_a_functions_error_is_the_tasks(organisation: LocalOrganisation) -> None:
    """The error's name is the exception's, the cause is what Lambda answers, and the journal has it."""
    before = len(organisation.journal.since(0))
    ended = run(organisation, task(), {"do": "raise"})
    assert (ended["status"], ended["error"]) == ("FAILED", "ValueError")
    assert json.loads(ended["cause"])["errorMessage"] == "no such thing"
    failed = [step.text for step in organisation.journal.since(before) if step.kind == "event"][-1]
    assert " failed: ValueError: " in failed


@pytest.mark.parametrize(("times", "status"), [(2, "SUCCEEDED"), (3, "FAILED")])
def test_retries_wait_and_end(organisation: LocalOrganisation, times: int, status: str) -> None:
    """As many as MaxAttempts, after a fraction of 5 and 15 seconds."""
    began = time.monotonic()
    ended = run(organisation, task(Retry=RETRY), {"do": "flake", "key": uuid.uuid4().hex, "times": times})
    assert 0.4 < time.monotonic() - began < 5
    assert (ended["status"], ended.get("error")) == (status, None if status == "SUCCEEDED" else "TimeoutError")


def test_an_error_is_caught_into_the_input(organisation: LocalOrganisation) -> None:
    """With ResultPath; what follows sees both."""
    output = run(organisation, task(Catch=CATCH), {"do": "raise"})["output"]
    assert (output["do"], output["failure"]["Error"]) == ("raise", "ValueError")


def test_a_runtime_error_is_not_caught_by_all(organisation: LocalOrganisation) -> None:
    """States.ALL excepts States.Runtime on AWS; here a path that is missing is one."""
    parameters = {"FunctionName": PERFORM, "Payload.$": "$.missing"}
    ended = run(organisation, task(Parameters=parameters, Catch=CATCH), {})
    assert (ended["status"], ended["error"]) == ("FAILED", "States.Runtime")


def test_a_role_that_may_not_invoke_fails_the_task(organisation: LocalOrganisation) -> None:
    """The cause names role, action and function."""
    nothing = role(organisation)
    ended = run(organisation, task(), {}, role_arn=nothing)
    assert (ended["status"], ended["error"]) == ("FAILED", "Lambda.AWSLambdaException")
    assert f"{nothing} is not authorized to perform: lambda:InvokeFunction on resource: {PERFORM}" in ended["cause"]


def test_a_function_that_does_not_exist_fails_the_task(organisation: LocalOrganisation) -> None:
    """As Lambda answers it."""
    missing = task(Parameters={"FunctionName": PERFORM + "2"})
    ended = run(organisation, missing, {}, role_arn=role(organisation, "lambda:InvokeFunction"))
    assert ended["error"] == "Lambda.ResourceNotFoundException"


def test_a_role_must_trust_step_functions_of_the_account(organisation: LocalOrganisation) -> None:
    """aws:SourceAccount is the state machine's."""
    stranger = role(organisation, "lambda:InvokeFunction", account_id="999988887777")
    with pytest.raises(Exception, match=r"does not trust states\.amazonaws\.com"):
        create(organisation, task(), stranger)


def test_an_execution_can_be_stopped(organisation: LocalOrganisation) -> None:
    """It is aborted once the function that runs has ended, and the organisation is not settled before."""
    client = organisation.client("stepfunctions")
    arn = client.start_execution(
        stateMachineArn=create(organisation, task(Retry=RETRY)), input='{"do": "echo", "seconds": 1}'
    )["executionArn"]
    assert not organisation.settled(0.3)
    client.stop_execution(executionArn=arn)
    assert organisation.settled(20)
    assert client.describe_execution(executionArn=arn)["status"] == "ABORTED"


# Distributed maps


def items(*does: str) -> dict[str, Any]:
    """Return an input whose items do something each."""
    return {"items": [{"do": do, "number": number} for number, do in enumerate(does)]}


def test_a_map_gives_the_results_of_all_items_in_order(organisation: LocalOrganisation) -> None:
    """With ItemSelector, in which the execution is the parent."""
    selector = {"do": "echo", "number.$": "$$.Map.Item.Value.number", "of.$": "$$.Execution.Name"}
    ended = run(organisation, distributed(ItemSelector=selector, MaxConcurrency=2), items(*"abc"))
    assert ended["output"] == [{"do": "echo", "number": number, "of": ended["name"]} for number in range(3)]


def test_children_are_executions_with_names_of_their_own(organisation: LocalOrganisation) -> None:
    """Inside an item, the context is the child's."""
    state = distributed()
    parameters = {"FunctionName": PERFORM, "Payload": {"do": "echo", "name.$": "$$.Execution.Name"}}
    state["ItemProcessor"]["States"]["Do"]["Parameters"] = parameters
    ended = run(organisation, state, items(*"ab"))
    assert len({ended["name"], *(one["name"] for one in ended["output"])}) == 3


@pytest.mark.parametrize(
    ("percentage", "does", "succeeds"),
    [
        (None, ["echo", "raise"], False),
        (25, ["echo", "raise", "echo", "echo"], True),
        (25, ["echo", "raise", "raise", "echo"], False),
        (100, ["raise", "raise"], True),
    ],
)
def test_too_many_failed_items_fail_the_map(
    organisation: LocalOrganisation, percentage: int | None, does: list[str], *, succeeds: bool
) -> None:
    """As many percent as are tolerated are; the results are those of the others."""
    tolerance = {} if percentage is None else {"ToleratedFailurePercentage": percentage}
    ended = run(organisation, distributed(**tolerance), items(*does))
    assert (ended["status"] == "SUCCEEDED") is succeeds
    if succeeds:
        assert [one["number"] for one in ended["output"]] == [n for n, do in enumerate(does) if do == "echo"]
    else:
        assert ended["error"] == "States.ExceedToleratedFailureThreshold"


def test_a_map_that_failed_can_be_caught_and_looked_at(organisation: LocalOrganisation) -> None:
    """ResultPath null keeps the input; the Map Run tells how many failed."""
    state = distributed(ResultPath=None, Catch=CATCH)
    ended = run(organisation, state, items("raise"))
    assert ended["output"]["items"] == items("raise")["items"]
    assert ended["output"]["failure"]["Error"] == "States.ExceedToleratedFailureThreshold"
    client = organisation.client("stepfunctions")
    (listed,) = client.list_map_runs(executionArn=ended["executionArn"])["mapRuns"]
    map_run = client.describe_map_run(mapRunArn=listed["mapRunArn"])
    assert (map_run["status"], map_run["itemCounts"]["failed"]) == ("FAILED", 1)


def test_items_are_retried_one_by_one(organisation: LocalOrganisation) -> None:
    """A flaky item costs no other anything."""
    state = distributed()
    state["ItemProcessor"]["States"]["Do"]["Retry"] = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 4}]
    flaky = {"do": "flake", "key": uuid.uuid4().hex, "times": 1}
    assert run(organisation, state, {"items": [flaky, {"do": "echo"}]})["status"] == "SUCCEEDED"


def test_no_more_than_max_concurrency_run_at_once(organisation: LocalOrganisation) -> None:
    """Four items of 0.3 seconds, two at a time."""
    waiting = {"items": [{"do": "echo", "seconds": 0.3}] * 4}
    run(organisation, distributed(MaxConcurrency=2), waiting)
    began = time.monotonic()
    run(organisation, distributed(MaxConcurrency=2), waiting)
    assert time.monotonic() - began > 0.6


def test_a_map_needs_permission_to_start_its_children(organisation: LocalOrganisation) -> None:
    """The role must be allowed states:StartExecution on its own state machine."""
    nothing = role(organisation, "lambda:InvokeFunction")
    ended = run(organisation, distributed(), items("echo"), role_arn=nothing)
    assert ended["status"] == "FAILED"
    assert "is not authorized to perform: states:StartExecution" in ended["cause"]


# What does not happen here as on AWS


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        (task(HeartbeatSeconds=5), "It.HeartbeatSeconds"),
        (task(Resource="arn:aws:states:::sqs:sendMessage"), "It: arn:aws:states:::sqs:sendMessage"),
        (task(Parameters={"FunctionName": PERFORM, "Qualifier": "1"}), "It.Parameters.Qualifier"),
        (task(Retry=[{**RETRY[0], "JitterStrategy": "FULL"}]), "It.Retry.JitterStrategy"),
        (distributed(ToleratedFailureCount=1), "It.ToleratedFailureCount"),
        (distributed(ItemBatcher={"MaxItemsPerBatch": 2}), "It.ItemBatcher"),
        (distributed(ItemProcessor={"StartAt": "A", "States": CAUGHT}), "It: a map that is not distributed"),
        ({"Type": "Wait", "Seconds": 1, "End": True}, "It: a Wait state"),
        ({"Type": "Pass", "QueryLanguage": "JSONata", "End": True}, "It.QueryLanguage"),
    ],
)
def test_what_is_not_known_is_refused(organisation: LocalOrganisation, state: dict[str, Any], complaint: str) -> None:
    """By name, when the state machine is created."""
    with pytest.raises(Exception, match="not known here: ") as caught:
        create(organisation, state)
    assert complaint in str(caught.value)


def test_a_definition_that_is_none_is_refused(organisation: LocalOrganisation) -> None:
    """As InvalidDefinition."""
    for definition in ("{", "[]", "{}", '{"StartAt": "A", "States": {"A": {}}}', '{"StartAt": "A", "States": {}}'):
        with pytest.raises(Exception, match="InvalidDefinition"):
            organisation.client("stepfunctions").create_state_machine(name="x", definition=definition, roleArn=ROLE)
