"""The sample events and their golden answer: every trigger has one, and each gives exactly its targets."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.model import Caller, Kind, Target
from portcullis.triggers import (
    API_CALL,
    CALL_NAMES,
    CUSTOM_ACTION,
    EC2_SOURCE,
    PATTERNS,
    SECURITY_HUB_SOURCE,
    STATE_CHANGE,
    cause_of,
    conflict_of,
    targets_of,
)

from local.fidelity.event_patterns import matches
from tests.functions.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functions.conftest import Hub

EVENTS = ROOT / "events"
GOLDEN: dict[str, list[list[Any]]] = json.loads((EVENTS / "targets.json").read_text(encoding="utf-8"))
NAMES = sorted(path.name for path in EVENTS.glob("*.json") if path.name != "targets.json")
DOCUMENTATION_ACCOUNTS = {"111122223333", "222233334444"}
DOCUMENTATION_NETWORKS = [ipaddress.ip_network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]


def event(name: str) -> dict[str, Any]:
    """Return a sample event."""
    read: dict[str, Any] = json.loads((EVENTS / name).read_text(encoding="utf-8"))
    return read


def golden(name: str) -> list[Target]:
    """Return the right answer for a sample event."""
    return [Target(account, region, Kind(kind), resource_id) for account, region, kind, resource_id in GOLDEN[name]]


def test_every_sample_has_an_answer() -> None:
    """The golden answer names the files that are there, no more and no less."""
    assert sorted(GOLDEN) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_gives_exactly_its_targets(name: str) -> None:
    """Identity only, distinct and in order."""
    assert targets_of(event(name)) == golden(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_intake_function_queues_exactly_the_targets(hub: Hub, intake: Callable[..., Any], name: str) -> None:
    """The deployed handler puts them on the work queue, and nothing into the dead-letter queue."""
    answer = intake(hub.deliver("IntakeQueue", (EVENTS / name).read_text(encoding="utf-8")))

    assert answer == {"batchItemFailures": []}
    assert hub.queued() == set(golden(name))
    assert hub.messages("IntakeDeadLetters") == []


@pytest.mark.parametrize("call", CALL_NAMES)
def test_every_call_has_a_sample_that_succeeded(call: str) -> None:
    """A trigger without a sample would be a trigger without a proof."""
    sample = event(f"{call}.json")

    assert sample["detail"]["eventName"] == call
    assert "errorCode" not in sample["detail"]
    assert golden(f"{call}.json")


def test_a_change_of_state_has_a_sample() -> None:
    """EC2's own event is the third trigger beside calls and conflicts."""
    assert event("InstanceStateChange.json")["detail-type"] == STATE_CHANGE


def test_conflicts_have_samples() -> None:
    """Failed calls that concern Portcullis all the same are among the samples, with targets."""
    failed = [name for name in NAMES if matches(PATTERNS["conflicts"], event(name))]

    assert failed == [
        "AssociateIamInstanceProfile-IncorrectState.json",
        "CreateInstanceConnectEndpoint-ResourceLimitExceeded.json",
        "CreateVpcEndpoint-ConflictingDnsDomain.json",
        "CreateVpcEndpoint-RouteAlreadyExists.json",
        "DeleteSubnet-DependencyViolation.json",
        "DeleteVpc-DependencyViolation.json",
    ]
    assert all(golden(name) and conflict_of(event(name)) for name in failed)


@pytest.mark.parametrize(
    ("name", "caller"),
    [
        ("CreateVpc", Caller.TERRAFORM),
        ("CreateVpc-Cdk", Caller.CDK),
        ("CreateVpc-CloudFormation", Caller.CLOUDFORMATION),
        ("CreateVpc-Console", Caller.CONSOLE),
        ("CreateVpc-Pulumi", Caller.PULUMI),
        ("DeleteVpcEndpoints", Caller.OTHER),
        ("InstanceStateChange", None),
    ],
)
def test_every_kind_of_caller_has_a_sample(name: str, caller: Caller | None) -> None:
    """How long a change waits depends on who is at work."""
    assert cause_of(event(f"{name}.json")).caller is caller


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_a_whole_event(name: str) -> None:
    """It has the envelope that EventBridge gives, and the envelope and the record agree."""
    sample = event(name)
    detail = sample["detail"]

    assert list(sample) == [
        "version",
        "id",
        "detail-type",
        "source",
        "account",
        "time",
        "region",
        "resources",
        "detail",
    ]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sample["id"])
    assert re.fullmatch(r"2026-\d\d-\d\dT\d\d:\d\d:\d\dZ", sample["time"])
    if sample["detail-type"] == API_CALL:
        assert detail["recipientAccountId"] == sample["account"]
        assert detail["awsRegion"] == sample["region"]
        assert detail["eventTime"] == sample["time"]
        assert sample["source"] == "aws." + detail["eventSource"].removesuffix(".amazonaws.com")
        assert ("errorCode" in detail) == (detail["responseElements"] is None)
    else:
        sources = {STATE_CHANGE: EC2_SOURCE, CUSTOM_ACTION: SECURITY_HUB_SOURCE}
        assert sample["source"] == sources[sample["detail-type"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_names_nobody(name: str) -> None:
    """Accounts, keys and public addresses are those that are set aside for documentation."""
    text = (EVENTS / name).read_text(encoding="utf-8")

    assert set(re.findall(r"(?<![0-9a-f])\d{12}(?![0-9a-f])", text)) <= DOCUMENTATION_ACCOUNTS
    assert set(re.findall(r"\bA(?:KIA|SIA)\w+", text)) <= {"ASIAIOSFODNN7EXAMPLE"}
    addresses = {ipaddress.ip_address(each) for each in re.findall(r'"(\d+\.\d+\.\d+\.\d+)"', text)}
    public = {each for each in addresses if not any(each in network for network in DOCUMENTATION_NETWORKS)}
    assert all(each in ipaddress.ip_network("10.0.0.0/8") for each in public)


def test_ids_are_unique() -> None:
    """No two samples are the same event."""
    assert len({event(name)["id"] for name in NAMES}) == len(NAMES)
