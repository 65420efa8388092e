"""AWS behaviour that moto 5.2.5 lacks or gets wrong, restored by wrapping moto in this process.

Each module covers one service or subject and names the documentation that it follows.
"""

from __future__ import annotations

import threading
from functools import partial

from . import (
    authorization,
    by_hand,
    calls,
    cloudtrail,
    dynamodb,
    ec2_endpoints,
    ec2_instance_connect,
    ec2_instances,
    ec2_interface_endpoints,
    ec2_security_groups,
    eventbridge,
    hooks,
    iam_simulation,
    lambda_functions,
    organizations,
    regions,
    route53,
    s3,
    scheduler,
    securityhub,
    ssm,
    stepfunctions,
)
from .hooks import ApiCall, DeliveryFailure, Hooks

__all__ = ["ApiCall", "DeliveryFailure", "Hooks", "install"]

_MODULES = (
    *(by_hand, dynamodb, eventbridge, ec2_endpoints, ec2_instance_connect, ec2_instances, ec2_interface_endpoints),
    *(ec2_security_groups, iam_simulation, lambda_functions, organizations, regions, route53, s3, scheduler),
    *(securityhub, ssm, stepfunctions),
)
_lock = threading.Lock()
_patches = [
    partial(calls.install, authorization.check, cloudtrail.publish),
    *(module.install for module in _MODULES),
]


def install(new_hooks: Hooks | None = None) -> None:
    """Patch moto in this process; later calls only put other hooks in force (`Hooks()` if there are none)."""
    with _lock:
        hooks.installed = new_hooks or Hooks()
        # Popped, so that nothing is ever wrapped twice.
        while _patches:
            _patches.pop()()
