"""The organisation itself: its first hour, what events miss, and who joins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.clients import ACCOUNT_IDS, HOME_REGION, HUB_ACCOUNT_ID, REGIONS
from local.stage import SERVICES, Stage

from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scene import Check

NEWCOMER = "666677778888"
"""The account that joins during the demo."""


def _deployment(stage: Stage) -> Iterator[Check]:
    stage.settle()
    for account_id in ACCOUNT_IDS:
        yield f"account {account_id} takes part", stage.coverage(account_id), ["ok"] * len(REGIONS)
        yield f"VPCs of {account_id} without endpoints", len(stage.uncovered_vpcs(account_id)), len(REGIONS)
    vpc_id = stage.default_vpc()
    stage.read("VPCE.1", vpc_id)
    yield "the findings say when", bool(stage.planned("VPCE.1", vpc_id)), True
    stage.later(minutes=6)
    for account_id in ACCOUNT_IDS:
        yield f"VPCs of {account_id} without endpoints, later", stage.uncovered_vpcs(account_id), []


def _lost_event(stage: Stage) -> Iterator[Check]:
    stage.move("444455556666", "eu-west-1")
    events = stage.organisation.client("events", stage.account_id, stage.region)
    rules = [rule["Name"] for rule in events.list_rules()["Rules"]]
    for name in rules:
        events.disable_rule(Name=name)
    vpc_id = stage.create_vpc("10.3.0.0/16")
    stage.settle()
    yield "nobody saw the VPC", stage.finding("VPCE.1", vpc_id), "none"
    stage.later(hours=6)
    yield "the sweep did", stage.finding("VPCE.1", vpc_id), "FAILED"
    for name in rules:
        events.enable_rule(Name=name)
    stage.later(minutes=6)
    yield "routes", len(stage.endpoints(vpc_id)), SERVICES
    yield "VPCE.1 finding", stage.finding("VPCE.1", vpc_id), "PASSED"


def _no_security_hub(stage: Stage) -> Iterator[Check]:
    stage.move("222233334444", "eu-west-1")
    place, hub = "222233334444/eu-west-1", Stage(stage.organisation, HUB_ACCOUNT_ID, HOME_REGION)
    client = stage.organisation.client("securityhub", stage.account_id, stage.region)
    client.disable_security_hub()
    stage.sweep()
    hub.read("COVERAGE.1", place)
    yield "COVERAGE.1 finding in the hub's account", hub.finding("COVERAGE.1", place), "FAILED"
    yield "portcullis coverage says so", stage.coverage(stage.account_id).count("no hub"), 1
    client.enable_security_hub()
    stage.sweep()
    yield "COVERAGE.1 finding, later", hub.finding("COVERAGE.1", place), "PASSED"
    yield "all is well again", stage.coverage(stage.account_id), ["ok"] * len(REGIONS)


def _newcomer(stage: Stage) -> Iterator[Check]:
    stage.organisation.join(NEWCOMER, "newcomer")
    stage.settle()
    stage.move(NEWCOMER, "eu-west-1")
    yield "finding on its default VPC, before any sweep", stage.finding("VPCE.1", stage.default_vpc()), "FAILED"
    stage.later(minutes=6)
    yield "its VPCs without endpoints", stage.uncovered_vpcs(NEWCOMER), []
    instance_id = stage.launch({"Name": "first-instance"})
    stage.await_running(instance_id)
    stage.later(minutes=6)
    yield "instance profile of its first instance", stage.profile(instance_id), "portcullis-default"
    stage.sweep()
    yield "it takes part", stage.coverage(NEWCOMER), ["ok"] * len(REGIONS)


BEGINNING = Scene(
    "The organisation",
    "One stack in the hub: its StackSets bring the member stacks to the hub and four members; the management "
    "account has them by hand. Each Region sends its first heartbeat, the hub looks, finds the default VPCs, and mends "
    "them when they have been quiet for five minutes.",
    _deployment,
)
CHANGES_OF_THE_ORGANISATION = (
    Scene(
        "Lost events",
        "Somebody disables the rules in a member's Region. A new VPC goes unseen, until the next sweep.",
        _lost_event,
    ),
    Scene(
        "An account without Security Hub",
        "Security Hub is switched off in a member's Region. The next sweep files that in the hub's account, and closes "
        "it when Security Hub is back.",
        _no_security_hub,
    ),
    Scene(
        "An account joins",
        "A new account joins the organisation during the run. StackSets deploy to it, its first heartbeat makes the "
        "hub look, and nobody has to do anything.",
        _newcomer,
    ),
)
