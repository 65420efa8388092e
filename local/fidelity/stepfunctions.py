"""Step Functions: state machines run in moto's engine, and call the functions of the local organisation.

Source: Step Functions Developer Guide, "Using Map state in Distributed mode" (tolerated failure threshold, child
workflow executions, IAM policies), "Handling errors" and "Invoke Lambda"; API reference, MapRunExecutionCounts (a Map
Run that fails aborts what still runs). In moto's engine no item of a distributed map can fail it, tasks ask nobody for
permission, and an integer for a percentage is no valid definition.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from moto.core.config import default_user_config
from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType, InvalidDefinition
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.error_equals_decl import ErrorEqualsDecl
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import distributed_iteration_component
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import (
    distributed_item_processor_worker as distributed_worker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError
from moto.stepfunctions.parser.asl.eval.states import ItemData, MapData
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.backend import execution as execution_module
from moto.stepfunctions.parser.models import StepFunctionsParserBackend, stepfunctions_parser_backends

from . import calls, hooks
from .authorization import AssumeRoleDeniedError, Request, decide_for_role, role_trusting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RETRY_SCALE = 0.02
"""Retriers wait for this fraction of what AWS would wait: nobody wants to see ten seconds go by."""

_INVOKE = "arn:aws:states:::lambda:invoke"
_COMMON = "Type Comment Next End InputPath OutputPath"
_TASK = "Parameters ResultSelector ResultPath Retry Catch TimeoutSeconds"
_MAP = "Label ItemsPath ItemSelector MaxConcurrency ToleratedFailurePercentage ItemProcessor"
# What is known to happen here as on AWS. moto takes more than it acts on.
_FIELDS = {
    "Pass": f"{_COMMON} Result ResultPath Parameters",
    "Task": f"{_COMMON} {_TASK} Resource",
    "Map": f"{_COMMON} {_MAP} ResultSelector ResultPath Retry Catch",
    "Choice": "Type Comment Choices Default InputPath OutputPath",
    "Succeed": "Type Comment InputPath OutputPath",
    "Fail": "Type Comment Error Cause",
}
_RETRIER = {"ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "Comment"}
_CATCHER = {"ErrorEquals", "ResultPath", "Next", "Comment"}
_TERMINAL_ERRORS = ("States.Runtime", "States.DataLimitExceeded")


class _Failed:
    """Stands for the output of an item that failed."""


def _unknown(machine: Mapping[str, Any], *top: str) -> Iterator[str]:
    """Yield whatever a definition says that does not happen here as on AWS."""
    yield from sorted(set(machine) - {"StartAt", "States", "Comment", *top})
    for name, state in machine["States"].items():
        known = _FIELDS.get(state["Type"], "Type").split()
        yield from (f"{name}.{field}" for field in sorted(set(state) - set(known)))
        for field, fields in (("Retry", _RETRIER), ("Catch", _CATCHER)):
            for one in state.get(field, ()):
                yield from (f"{name}.{field}.{key}" for key in sorted(set(one) - fields))
        if state["Type"] not in _FIELDS:
            yield f"{name}: a {state['Type']} state"
        if state["Type"] == "Task":
            if state["Resource"] != _INVOKE:
                yield f"{name}: {state['Resource']}"
            named = {key.removesuffix(".$") for key in state.get("Parameters", {})}
            yield from (f"{name}.Parameters.{key}" for key in sorted(named - {"FunctionName", "Payload"}))
        if state["Type"] == "Map":
            processor = state["ItemProcessor"]
            if processor.get("ProcessorConfig") != {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}:
                yield f"{name}: a map that is not distributed, with STANDARD children"
            yield from (f"{name}: {one}" for one in _unknown(processor, "ProcessorConfig"))


def _wrap_create() -> None:
    original, parse = StepFunctionsParserBackend.create_state_machine, AmazonStateLanguageParser.parse

    def create_state_machine(backend: Any, name: str, definition: str, **options: Any) -> Any:
        try:
            unknown = list(_unknown(json.loads(definition)))
            role_trusting(options["roleArn"], "states.amazonaws.com", backend.account_id)
        except (ValueError, LookupError, TypeError, AttributeError, AssumeRoleDeniedError) as error:
            raise calls.Refusal("InvalidDefinition", f"{name}: {error!r}") from error
        if unknown:
            message = f"{name}: not known here: {', '.join(unknown)}; teach local/fidelity/stepfunctions.py"
            raise calls.Refusal("InvalidDefinition", message)
        try:
            return original(backend, name=name, definition=definition, **options)
        except InvalidDefinition as error:  # it has no code that would be answered
            raise calls.Refusal("InvalidDefinition", f"{name}: {error!r}") from error

    def parse_definition(definition: str) -> Any:
        return parse(json.dumps(json.loads(definition, object_hook=_with_float)))

    StepFunctionsParserBackend.create_state_machine = create_state_machine
    AmazonStateLanguageParser.parse = staticmethod(parse_definition)


def _with_float(value: dict[str, Any]) -> dict[str, Any]:
    """Write a percentage as moto's grammar wants it."""
    name = "ToleratedFailurePercentage"
    return {**value, name: float(value[name])} if name in value else value


def start(state_machine_arn: str, name: str, execution_input: str) -> None:
    """Start an execution on behalf of a service that may."""
    *_, region, account_id, _, _ = state_machine_arn.split(":")
    stepfunctions_parser_backends[account_id][region].start_execution(state_machine_arn, name, execution_input)


def _wrap_executions() -> None:
    start_execution, begin = StepFunctionsParserBackend.start_execution, execution_module.Execution.start
    communication = execution_module.BaseExecutionWorkerCommunication
    end = communication.terminated

    def named(backend: Any, state_machine_arn: str, name: Any = None, *args: Any, **options: Any) -> Any:
        return start_execution(backend, state_machine_arn, name or str(uuid.uuid4()), *args, **options)

    def started(execution: Any) -> None:
        hooks.installed.on_execution(execution.exec_arn, "started", "")
        begin(execution)

    def terminated(worker: Any) -> None:
        # Told before its status says so: who waits for the end finds the report.
        state = worker.execution.exec_worker.env.program_state()
        error = getattr(state, "error", None) or {}
        cause = ": ".join(filter(None, (error.get("error"), error.get("cause")))) if isinstance(error, dict) else ""
        kinds = {ProgramEnded: "succeeded", ProgramError: "failed"}
        hooks.installed.on_execution(worker.execution.exec_arn, kinds.get(type(state), "was stopped"), cause)
        end(worker)

    StepFunctionsParserBackend.start_execution = named
    execution_module.Execution.start = started
    communication.terminated = terminated


def running() -> list[Any]:
    """Return the executions that have not ended."""
    backends = [one for regions in list(stepfunctions_parser_backends.values()) for one in list(regions.values())]
    executions = [one for backend in backends for machine in backend.state_machines for one in machine.executions]
    return [one for one in executions if one.exec_status == ExecutionStatus.RUNNING]


def stop_all(timeout: float = 5.0) -> None:
    """Stop every execution, and wait until the states that run are left."""
    deadline = time.monotonic() + timeout
    for execution in running():
        with contextlib.suppress(AttributeError):  # it has no environment yet
            execution.stop(None, None, "the local organisation ends")
    while running() and time.monotonic() < deadline:
        time.sleep(0.01)


def _may(env: Any, action: str, resource: str) -> str | None:
    """Return why the role of an execution may not do something, or None if it may."""
    details = env.aws_execution_details
    try:
        role = role_trusting(details.role_arn, "states.amazonaws.com", details.account)
    except AssumeRoleDeniedError as error:
        return str(error)
    if decide_for_role(role, Request(action, resource)) == "allowed":
        return None
    return f"{details.role_arn} is not authorized to perform: {action} on resource: {resource}"


def _invoke(env: Any, parameters: Mapping[str, Any], **_: Any) -> None:
    """Serve `lambda:invoke`: leave the answer on the stack, or raise what the engine takes for a failed task."""
    arn = str(parameters["FunctionName"])
    payload = json.loads(parameters.get("Payload") or b"{}")
    if refusal := _may(env, "lambda:InvokeFunction", arn):
        raise _lambda_error("AWSLambdaException", refusal, 403)  # AccessDeniedException, which its SDK does not model
    answer = hooks.installed.invoke(arn, payload)
    if answer is None:
        raise _lambda_error("ResourceNotFoundException", f"Function not found: {arn}", 404)
    if answer.error:
        cause = json.dumps(dict(answer.error), separators=(",", ":"))
        raise lambda_eval_utils.LambdaFunctionErrorException("Unhandled", cause)
    env.stack.append({"ExecutedVersion": "$LATEST", "Payload": answer.result, "StatusCode": 200})


def _lambda_error(code: str, message: str, status: int) -> ClientError:
    metadata = {"HTTPStatusCode": status, "RequestId": str(uuid.uuid4())}
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return ClientError(answer, "Invoke")


def _failure(env: Any, name: str, cause: str) -> FailureEventException:
    details = EventDetails(mapRunFailedEventDetails={"error": name, "cause": cause})
    known = name.startswith("States.")
    error = StatesErrorName(StatesErrorNameType.from_name(name)) if known else CustomErrorName(name)
    event = FailureEvent(env, error, HistoryEventType.MapRunFailed, details)
    return FailureEventException(event)


def _wrap_distributed_map() -> None:
    """Let a Map Run fail when too many items did, need a permission, and give the results of those that succeeded."""
    component = distributed_iteration_component.DistributedIterationComponent
    original = component._map_run

    def map_run(iteration: Any, env: Any, eval_input: Any) -> None:
        machine_arn = env.states.context_object.context_object_data["StateMachine"]["Id"]
        if refusal := _may(env, "states:StartExecution", machine_arn):
            # What AWS calls this error is not documented.
            raise _failure(env, "StepFunctions.AWSStepFunctionsException", refusal)
        original(iteration, env, eval_input)
        env.stack.append([output for output in env.stack.pop() if output is not _Failed])

    component._map_run = map_run
    distributed_worker.DistributedItemProcessorWorker._eval_job = _run_item


def _run_item(worker: Any, env: Any, job: Any) -> None:
    """Run the child execution of one item, count it, and fail the Map Run once too many have failed."""
    record, context = worker._map_run_record, env.states.context_object.context_object_data
    counters = (record.item_counter, record.execution_counter)
    for counter in counters:
        counter.total.count()
        counter.running.count()
    context["Map"] = MapData(Item=ItemData(Index=job.job_index, Value=job.job_input))
    env.states.reset(job.job_input)
    env.stack.append(env.states.get_input())
    try:
        worker._eval_input(env_frame=env)
        # From here on it is an execution of its own, with a name of its own.
        name = str(uuid.uuid4())
        machine = record.map_state_machine_arn.replace(":stateMachine:", ":execution:")
        about = {"Id": f"{machine}:{name}", "Name": name, "Input": env.states.get_input()}
        context["Execution"] = {**context["Execution"], **about}
        job.job_program.eval(env)
        succeeded = isinstance(env.program_state(), ProgramEnded)
    except Exception:  # noqa: BLE001 - as in moto: the item has failed, whatever it was
        succeeded = False
    job.job_output = env.states.get_input() if succeeded else _Failed
    for counter in counters:
        counter.running.offset(-1)
        (counter.succeeded if succeeded else counter.failed).count()
    total, failed = worker._job_pool._jobs_number, record.item_counter.failed.get()
    if failed * 100 > record.tolerated_failure_percentage * total:
        # An exception as output ends the Map Run at once. Functions that run go on to their end, as on AWS.
        cause = f"The specified tolerated failure threshold was exceeded: {failed} of {total} items failed"
        job.job_output = _failure(env, "States.ExceedToleratedFailureThreshold", cause)


def _wrap_errors() -> None:
    """States.ALL does not catch what is terminal; retriers wait for a fraction of the time."""
    original = ErrorEqualsDecl._eval_body

    def matches(declaration: Any, env: Any) -> None:
        terminal = getattr(env.stack[-1], "error_name", None) in _TERMINAL_ERRORS
        original(declaration, env)
        if terminal and ErrorEqualsDecl._STATE_ALL_ERROR in declaration.error_names:
            env.stack[-1] = False

    ErrorEqualsDecl._eval_body = matches
    retrier_decl.time = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds * RETRY_SCALE))


def install() -> None:
    """Patch moto's Step Functions, and let it execute (once: the caller sees to that)."""
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    _wrap_create()
    _wrap_executions()
    _wrap_distributed_map()
    _wrap_errors()
    lambda_eval_utils.execute_lambda_function_integration = _invoke
