"""What holds changes back: an exemption, and the circuit breaker."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from local.stage import SERVICES

from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import Stage

    from .scene import Check

_LIMIT = 10  # changes in an account and an hour, by local/policy.yaml
_VPCS = 6  # each needs two changes


def _exemption(stage: Stage) -> Iterator[Check]:
    stage.move("444455556666", "ap-northeast-1")
    vpc_id = stage.create_vpc("10.4.0.0/16", {"migration": "wave-1"})
    stage.settle()
    stage.read("VPCE.1", vpc_id)
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"
    yield "it says why", "Exempt until" in stage.description("VPCE.1", vpc_id), True
    stage.until(datetime.fromisoformat(stage.props["exempt until"]) + timedelta(seconds=1))
    stage.read("VPCE.1", vpc_id)
    yield "VPCE.1 finding after that", stage.finding("VPCE.1", vpc_id), "FAILED"
    yield "routes", stage.endpoints(vpc_id), {}
    stage.later(minutes=6)
    yield "routes, when nobody has touched it", len(stage.endpoints(vpc_id)), SERVICES
    yield "VPCE.1 finding at the end", stage.finding("VPCE.1", vpc_id), "PASSED"


def _breaker(stage: Stage) -> Iterator[Check]:
    stage.move("333344445555", "eu-west-1")
    vpc_ids = [stage.create_vpc(f"10.{number}.0.0/16") for number in range(100, 100 + _VPCS)]
    keys = list(itertools.product(("VPCE.1", "VPCE.2"), vpc_ids))
    stage.later(minutes=6)
    waiting = [key for key in keys if stage.finding(*key) == "FAILED"]
    stage.read(*waiting[0])
    yield "findings that are mended", len(keys) - len(waiting), _LIMIT
    yield "the others say why", all("The limit of" in stage.description(*key) for key in waiting), True
    stage.later(minutes=95)  # an hour, and half an hour in which those who waited have their turn
    yield (
        "findings that are not mended when their turn has come",
        [key for key in keys if stage.finding(*key) != "PASSED"],
        [],
    )


EXEMPTION = Scene(
    "An exemption that ends",
    "The policy exempts what is tagged migration=wave-1, here for two hours. When they are over, nobody calls "
    "anything: the finding reopens by itself.",
    _exemption,
)
BREAKER = Scene(
    "The circuit breaker",
    f"A script creates {_VPCS} VPCs in one account, which need {_VPCS * SERVICES} changes; the policy admits {_LIMIT} "
    "an hour in one account.",
    _breaker,
)
