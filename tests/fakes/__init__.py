"""A small world for the loop: a stateful fake of every port, with those of AWS's rules that matter.

``World`` wires them together as the deployed functions are wired: events go through Intake to the work queue, and
from there through Reconcile to the loop; Sweep and Survey look at everything. People change networks with the
methods of ``FakeRegion``. What goes wrong, or happens meanwhile, is planned beforehand with ``Calls``.
"""

from tests.fakes.aws import FakeAws, FakeRegion
from tests.fakes.calls import AwsRefusedError, Calls, CrashError, FakeClock, Trouble
from tests.fakes.hub import FakeSecurityHub
from tests.fakes.memory import FakeCoverageStore, FakeDirectory, FakeLedger, FakeStore
from tests.fakes.names import (
    ACCOUNT,
    DEFAULT_PROFILE,
    DELAY,
    HUB,
    MANAGEMENT_ACCOUNT,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    REMEDIATOR_ROLE,
    START,
    instance,
    vpc,
    whole,
)
from tests.fakes.queue import Entry, FakeDeadLetters, FakeJournal, FakeQueue, FakeScheduler, FakeSwitch
from tests.fakes.world import World, careful_policy, policy_of

__all__ = [
    "ACCOUNT",
    "DEFAULT_PROFILE",
    "DELAY",
    "HUB",
    "MANAGEMENT_ACCOUNT",
    "OTHER_ACCOUNT",
    "OTHER_REGION",
    "REGION",
    "REMEDIATOR_ROLE",
    "START",
    "AwsRefusedError",
    "Calls",
    "CrashError",
    "Entry",
    "FakeAws",
    "FakeClock",
    "FakeCoverageStore",
    "FakeDeadLetters",
    "FakeDirectory",
    "FakeJournal",
    "FakeLedger",
    "FakeQueue",
    "FakeRegion",
    "FakeScheduler",
    "FakeSecurityHub",
    "FakeStore",
    "FakeSwitch",
    "Trouble",
    "World",
    "careful_policy",
    "instance",
    "policy_of",
    "vpc",
    "whole",
]
