"""AWS behaviour that moto 5.2.5 lacks or gets wrong, restored by wrapping moto in this process.

Each module covers one service or subject and names the documentation that it follows.
"""

from __future__ import annotations

import threading

from . import authorization, calls, cloudtrail, ec2, eventbridge, hooks, securityhub
from .hooks import ApiCall, DeliveryFailure, Hooks

__all__ = ["ApiCall", "DeliveryFailure", "Hooks", "install"]

_lock = threading.Lock()
_patches = [
    calls.install,
    authorization.install,
    eventbridge.install,
    cloudtrail.install,
    ec2.install,
    securityhub.install,
]


def install(new_hooks: Hooks | None = None) -> None:
    """Patch moto in this process; later calls only put other hooks in force.

    Args:
        new_hooks: what to call back and which organisation this is; `Hooks()` when omitted.
    """
    with _lock:
        hooks.use(new_hooks or Hooks())
        # Popped, so that nothing is ever wrapped twice.
        while _patches:
            _patches.pop(0)()
