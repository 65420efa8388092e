"""DynamoDB serves one call at a time, so that a transaction is one.

Source: DynamoDB Developer Guide, "Amazon DynamoDB Transactions: How it works" (isolation). moto copies whole tables
before a transaction and puts the copies back when a condition fails: what others write meanwhile is lost, or breaks the
copying.
"""

from __future__ import annotations

import threading
from typing import Any

from moto.dynamodb.responses import DynamoHandler

_lock = threading.RLock()


def install() -> None:
    """Patch moto's DynamoDB (once: the caller sees to that)."""
    original = DynamoHandler.call_action

    def call_action(http: Any) -> Any:
        with _lock:
            return original(http)

    DynamoHandler.call_action = call_action
