"""Runs inside a function's process, in the place of Lambda's own runtime. Standard library only.

One JSON line on standard input is one invocation. Standard output carries the function's log lines and, after
`ANSWER`, one JSON line for each answer. Python is isolated and without site: the checkout cannot be imported. The time
of this process follows the organisation's, by the offset that comes with each invocation.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import traceback
from types import SimpleNamespace
from typing import Any

ANSWER = "\x1eanswer\x1e"


def _context(request: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        aws_request_id=request["request_id"],
        invoked_function_arn=request["function_arn"],
        function_name=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        memory_limit_in_mb=os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        get_remaining_time_in_millis=lambda: max(0, int((request["deadline"] - time.time()) * 1000)),
    )


def _follow(offset: float, travellers: list[tuple[float, Any]]) -> None:
    """Let the time of this process be ahead of the machine's by `offset` seconds, as the organisation's is."""
    if not travellers and offset:
        sys.modules.setdefault("pytest", None)  # type: ignore[arg-type]  # time_machine would load it, too
        import time_machine  # noqa: PLC0415 - most processes never need it

        travellers.append((0.0, time_machine.travel(time.time(), tick=True).start()))
        time.time()  # its clock ticks from the first look on
    if travellers:
        moved, traveller = travellers[0]
        traveller.shift(offset - moved)
        travellers[0] = (offset, traveller)


def _answer(**content: Any) -> None:
    print(f"{ANSWER}{json.dumps(content)}", flush=True)


def _fail(error: Exception, error_type: str) -> None:
    stack = traceback.format_tb(error.__traceback__)
    _answer(error={"errorType": error_type, "errorMessage": str(error), "stackTrace": stack})


def _serve() -> None:
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the function must not read its requests
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    try:
        handler = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - an error while importing is the function's own
        _fail(error, "Runtime.ImportModuleError" if isinstance(error, ImportError) else type(error).__name__)
        return
    _answer()
    travellers: list[tuple[float, Any]] = []
    for line in requests:
        request = json.loads(line)
        _follow(request["offset"], travellers)
        try:
            _answer(result=handler(request["event"], _context(request)))
        except Exception as error:  # noqa: BLE001 - whatever the function raises is the answer
            _fail(error, type(error).__name__)


if __name__ == "__main__":
    _site_packages, *_path = sys.argv[1:]
    # Lambda's order: the function, its layers, the standard library, and last what the runtime brings.
    sys.path[:] = [*_path, *sys.path, _site_packages]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # keeps its order with stderr
    logging.basicConfig(stream=sys.stdout, format="[%(levelname)s]\t%(asctime)s\t%(message)s")
    _serve()
