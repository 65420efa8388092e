"""Functions run as Lambda runs them: isolated, warm, with their time, and never silently broken."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from local import functions
from local.functions import Function, FunctionSpec
from local.journal import Journal
from local.template import Source, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "ASIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "y"}


def make(checkout: Path, journal: Journal, **changes: object) -> Function:
    """Return the example's function `Perform`, with properties changed as asked."""
    properties = {
        "Runtime": "python3.13",
        "Handler": "handler.handle",
        "Timeout": 5,
        "Environment": {"Variables": {"POLICY_FILE": "/opt/policy.json", "ANSWER": "42"}},
        **changes,
    }
    layers = (
        Source("CoreLayer", checkout / "layers" / "core"),
        Source("PolicyLayer", checkout / "layers" / "policy"),
    )
    arn = "arn:aws:lambda:us-east-1:123456789012:function:perform"
    code = Source("Perform", checkout / "functions" / "perform")
    spec = FunctionSpec("Perform", "perform", arn, properties, code, layers)
    return Function(spec, checkout / "built", journal, "http://localhost:1", lambda _: CREDENTIALS)


@pytest.fixture
def journal() -> Journal:
    """An empty journal."""
    return Journal()


@pytest.fixture
def function(checkout: Path, journal: Journal) -> Iterator[Function]:
    """The function, stopped afterwards."""
    function = make(checkout, journal)
    yield function
    function.stop()


def test_the_function_finds_what_lambda_would_give_it(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code, layers, context and credentials are there; nothing of this process's environment is."""
    monkeypatch.setenv("SECRET_OF_THE_PERSON", "x")
    result = function.invoke({"do": "look"}).result
    environment = result["environment"]
    assert result["cwd"].endswith("/functions/perform")
    assert result["cwd"] == environment["LAMBDA_TASK_ROOT"]
    assert result["policy"] == {"version": 1}, "the policy layer was made, and /opt was rewritten"
    assert 4000 < result["remaining"] <= 5000
    assert result["arn"] == function.spec.arn
    assert environment["ANSWER"] == "42"
    assert environment["AWS_ACCESS_KEY_ID"] == "ASIAEXAMPLE"
    assert environment["AWS_ENDPOINT_URL"] == "http://localhost:1"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "perform"
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert "SECRET_OF_THE_PERSON" not in environment
    assert "PYTHONPATH" not in environment


@pytest.mark.parametrize("module", ["boto3", "aws_lambda_powertools", "portcullis"])
def test_runtime_and_layers_can_be_imported(function: Function, module: str) -> None:
    """boto3 comes with the runtime, the rest with the layer."""
    assert function.invoke({"do": "import", "module": module}).error is None


@pytest.mark.parametrize("module", ["local", "tests"])
def test_nothing_else_of_the_checkout_can_be_imported(function: Function, module: str) -> None:
    """The rest of the checkout would not be there in Lambda."""
    error = function.invoke({"do": "import", "module": module}).error
    assert error is not None
    assert error["errorType"] == "ModuleNotFoundError"


def test_a_process_is_used_again_and_replaced_after_a_crash(function: Function, journal: Journal) -> None:
    """Warm as in Lambda; a process that ended is an error in the journal, and the next call works."""
    first = function.invoke({"do": "look"}).result
    second = function.invoke({"do": "look"}).result
    assert first["pid"] == second["pid"]
    assert first["request_id"] != second["request_id"]
    crash = function.invoke({"do": "exit"})
    assert crash.error is not None
    assert crash.error["errorType"] == "Runtime.ExitError"
    assert function.invoke({"do": "look"}).result["pid"] != first["pid"]
    (error,) = (step for step in journal.since(0) if step.kind == "error")
    assert error.text == "Perform: Runtime.ExitError: Runtime exited with status 3"


def test_an_exception_is_the_answer_and_an_error_in_the_journal(function: Function, journal: Journal) -> None:
    """With type, message and stack; the process lives on."""
    pid = function.invoke({"do": "look"}).result["pid"]
    error = function.invoke({"do": "raise"}).error
    assert error is not None
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no such thing")
    assert any("handler.py" in line for line in error["stackTrace"])
    (step,) = (step for step in journal.since(0) if step.kind == "error")
    assert step.text == "Perform: ValueError: no such thing"
    assert step.account_id == "123456789012"
    assert function.invoke({"do": "look"}).result["pid"] == pid


def test_an_answer_that_is_not_json_is_an_error(function: Function) -> None:
    """And the process lives on."""
    error = function.invoke({"do": "unserialisable"}).error
    assert error is not None
    assert "not JSON serializable" in error["errorMessage"]
    assert function.invoke({}).error is None


def test_the_timeout_is_enforced(checkout: Path, journal: Journal) -> None:
    """A function that takes too long is killed, and the next invocation gets a new process."""
    function = make(checkout, journal, Timeout=1)
    try:
        started = time.monotonic()
        error = function.invoke({"do": "sleep"}).error
        assert time.monotonic() - started < 4
        assert error is not None
        assert error["errorType"] == "Sandbox.Timedout"
        assert error["errorMessage"] == "Task timed out after 1.00 seconds"
        assert function.invoke({}).error is None
    finally:
        function.stop()


def test_log_lines_are_complete_when_the_answer_is_there(function: Function, journal: Journal) -> None:
    """Both streams in order, long lines whole, JSON parsed."""
    function.invoke({"do": "print"})
    lines = [step for step in journal.since(0) if step.kind == "log"]
    assert [step.text for step in lines] == ["plain line", "to standard error", "x" * 200_000, "structured"]
    assert [step.account_id for step in lines] == [*["123456789012"] * 3, "111122223333"], "the record says where"
    assert lines[3].data == {
        "function": "Perform",
        "level": "WARNING",
        "message": "structured",
        "account_id": "111122223333",
    }


def test_a_handler_that_cannot_be_imported_is_an_error(checkout: Path, journal: Journal) -> None:
    """Every time, not only once."""
    function = make(checkout, journal, Handler="missing.handle")
    try:
        for _ in range(2):
            error = function.invoke({}).error
            assert error is not None
            assert error["errorType"] == "Runtime.ImportModuleError"
            assert "missing" in error["errorMessage"]
    finally:
        function.stop()


def test_stop_cuts_off_what_runs(checkout: Path, journal: Journal) -> None:
    """No process survives, nobody waits for a sleeper, and the cut is no error of the function."""
    function = make(checkout, journal, Timeout=60)
    thread = threading.Thread(target=function.invoke, args=({"do": "sleep"},))
    thread.start()
    while not function._busy:
        time.sleep(0.01)
    time.sleep(0.3)
    started = time.monotonic()
    function.stop()
    thread.join(5)
    assert time.monotonic() - started < 3
    assert not thread.is_alive()
    assert function._busy == []
    assert [step for step in journal.since(0) if step.kind == "error"] == []


def test_a_failing_make_target_says_why(checkout: Path, journal: Journal) -> None:
    """With the command and what it printed."""
    (checkout / "layers/policy/policy.json").unlink()
    with pytest.raises(TemplateError, match=r"PolicyLayer: `make build-PolicyLayer` failed:\n(.|\n)*policy.json"):
        make(checkout, journal)


def test_more_invocations_than_processes_wait_their_turn(function: Function) -> None:
    """All are answered; the machine is not asked for more than it has."""
    with ThreadPoolExecutor(functions._MOST_PROCESSES * 3) as pool:
        answers = list(pool.map(function.invoke, [{"do": "look"}] * functions._MOST_PROCESSES * 3))
    pids = {answer.result["pid"] for answer in answers}
    assert 1 < len(pids) <= functions._MOST_PROCESSES
