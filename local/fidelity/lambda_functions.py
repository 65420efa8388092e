"""Lambda's Invoke: runs the functions that the local organisation knows.

Source: Lambda API Reference, Invoke. moto would need Docker.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda.responses import LambdaResponse

from . import calls, hooks


def _invoke(http: Any) -> Any:
    name = unquote(http.path.rsplit("/", 2)[-2]).rsplit(":", 1)[-1]
    arn = f"arn:aws:lambda:{http.region}:{http.current_account}:function:{name}"
    if http.headers.get("X-Amz-Invocation-Type", "RequestResponse") != "RequestResponse":
        raise calls.Refusal("InvalidAction", "The local AWS can invoke functions only as RequestResponse")
    answer = hooks.installed.invoke(arn, json.loads(http.body or "{}"))
    if answer is None:
        raise UnknownFunctionException(arn)
    failed = {"X-Amz-Function-Error": "Unhandled"} if answer.error else {}
    return 200, {"Content-Type": "application/json", **failed}, json.dumps(answer.error or answer.result)


def install() -> None:
    """Patch moto's Invoke (once: the caller sees to that)."""
    LambdaResponse.invoke = _invoke
