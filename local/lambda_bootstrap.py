"""Runs inside a function's process, in the place of Lambda's own runtime. Standard library only.

Started as `python -I -S -B lambda_bootstrap.py <answer fd> <runtime folder> <task root> <layer path> ...`:
isolated and without site, so that neither the checkout nor the virtual environment can be imported. One JSON
line on standard input is one invocation; one JSON line on the answer descriptor is its answer. Whatever the
function writes to standard output and standard error are its log lines.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import traceback
from typing import Any, TextIO


class Context:
    """The context object that a handler gets."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.aws_request_id: str = request["request_id"]
        self.invoked_function_arn: str = request["function_arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.client_context = None
        self.identity = None
        self._deadline: float = request["deadline"]

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the invocation may still run."""
        return max(0, int((self._deadline - time.time()) * 1000))


def _describe(error: BaseException, error_type: str | None = None) -> str:
    """Return the error line that Lambda would answer."""
    described = {
        "errorMessage": str(error),
        "errorType": error_type or type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }
    return json.dumps({"error": described})


def _answer(handler: Any, request: dict[str, Any]) -> str:
    try:
        result = handler(request["event"], Context(request))
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the answer
        return _describe(error)
    try:
        return json.dumps({"result": result})
    except (TypeError, ValueError) as error:
        return _describe(error, "Runtime.MarshalError")


def _serve(requests: TextIO, answers: TextIO) -> None:
    def say(line: str) -> None:
        # The log lines of an invocation are out before its answer is.
        sys.stdout.flush()
        sys.stderr.flush()
        print(line, file=answers, flush=True)

    module, _, function = os.environ["_HANDLER"].rpartition(".")
    try:
        handler = getattr(importlib.import_module(module.replace("/", ".")), function)
    except Exception as error:  # noqa: BLE001 - an error while importing is the function's own
        say(_describe(error, "Runtime.ImportModuleError" if isinstance(error, ImportError) else None))
        return
    say(json.dumps({"ready": True}))
    for line in requests:
        say(_answer(handler, json.loads(line)))


if __name__ == "__main__":
    _descriptor, _runtime, *_path = sys.argv[1:]
    # Lambda's order: the function, its layers, the standard library, and last what the runtime brings.
    sys.path[:] = [*_path, *sys.path, _runtime]
    sys.argv[1:] = []
    _requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the function must not read its requests
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # keeps its order with stderr
    logging.basicConfig(stream=sys.stdout, format="[%(levelname)s]\t%(asctime)s\t%(message)s")
    _serve(_requests, os.fdopen(int(_descriptor), "w", encoding="utf-8"))
