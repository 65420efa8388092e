"""What the benchmark shows of a sweep and no clock decides: how its calls grow, and what it holds."""

from __future__ import annotations

from math import ceil

import pytest

from tests.bench.organisation import HOME, TABLES, Shape
from tests.bench.sweep import Cost, sweeps

_SESSIONS = 32
_ONE_EACH = (
    "sts assume_role",
    "ec2 describe_regions",
    "securityhub describe_hub",
    "dynamodb query",
    "dynamodb update_item",
)


def _cost(shape: Shape, mode: str = "remediate", *, traced: bool = False) -> Cost:
    (cost,) = sweeps(shape, mode, [shape.state], traced=traced)
    return cost


def _pages(items: int, size: int = 1000) -> int:
    """Every listing is asked for once at least."""
    return max(1, ceil(items / size))


@pytest.mark.parametrize("vpcs", [1, 30, 400, 1100])
def test_calls_grow_with_pages_and_not_with_resources(vpcs: int) -> None:
    """A look at what is in order costs five calls, a page of each listing at least, and profiles by name."""
    shape = Shape(accounts=2, regions=(HOME,), vpcs=vpcs, instances=2 * vpcs, state="clean")

    cost = _cost(shape)

    own = len(shape.own_vpcs())
    each = {
        **dict.fromkeys(_ONE_EACH, 1),
        "ec2 describe_vpcs": _pages(vpcs),
        "ec2 describe_route_tables": _pages(TABLES * own, 100),
        "ec2 describe_vpc_endpoints": _pages(2 * own),
        "ec2 describe_instances": _pages(2 * vpcs),
        "ec2 describe_iam_instance_profile_associations": _pages(2 * vpcs),
    }
    reading = {name: count for name, count in cost.calls.items() if not name.startswith("iam ")}
    services = {"ec2 describe_vpc_endpoint_services": len(shape.regions)}  # once per Region, not per account
    assert reading == {name: shape.places * count for name, count in each.items()} | services
    assert cost.calls["iam get_instance_profile"] + cost.calls["iam list_instance_profiles"] <= 2 * shape.places


@pytest.mark.parametrize("vpcs", [40, 200, 800])
def test_what_is_wrong_costs_a_call_per_batch(vpcs: int) -> None:
    """What is filed or enqueued costs calls by the hundred or the ten.

    So does what is looked at because a change may be made there: what is remembered of it, and what runs around it.
    """
    shape = Shape(accounts=1, regions=(HOME,), vpcs=vpcs, instances=vpcs)

    detected = _cost(shape, "detect")
    queued = _cost(shape, "remediate")

    assert detected.calls["securityhub batch_import_findings"] == ceil(detected.filed / 100)
    assert detected.calls["dynamodb transact_write_items"] == 2 * ceil(detected.filed / 100)
    assert detected.enqueued == 0
    assert queued.calls["sqs send_message_batch"] == ceil(queued.enqueued / 10)
    assert queued.enqueued + queued.filed > vpcs / 2
    wrong = {number for number in shape.own_vpcs() if number % 4 in (2, 3)}
    busy = wrong & {shape.home(number) for number in range(vpcs)}
    around = {
        "ec2 describe_network_interfaces": ceil(len(wrong) / 200),
        "ec2 describe_network_acls": ceil(len(wrong) / 200),
        "ec2 describe_instances": _pages(vpcs) + ceil(len(wrong) / 199),
        "ec2 describe_security_groups": ceil(len(busy) / 200),
        "ec2 describe_prefix_lists": 1,
    }
    assert {name: queued.calls[name] for name in around} == around
    nothing = dict.fromkeys(around, 0) | {"ec2 describe_instances": _pages(vpcs)}
    assert {name: detected.calls[name] for name in around} == nothing


def test_a_second_sweep_files_nothing_and_writes_only_that_it_looked() -> None:
    """Nothing new costs the fewest calls."""
    shape = Shape(accounts=4)

    first, second = sweeps(shape, "detect", ["new", "new"], traced=False)

    gone = {"securityhub batch_import_findings", "dynamodb transact_write_items", "ec2 describe_vpc_endpoint_services"}
    assert first.filed > 0
    assert second.filed == second.enqueued == 0
    assert not gone & set(second.calls)
    assert second.calls["dynamodb update_item"] == shape.places


def test_memory_does_not_grow_with_the_organisation() -> None:
    """Four times the account-Regions are swept with the same sessions, clients and peak memory."""
    smaller, larger = (_cost(Shape(accounts=n, vpcs=6, instances=12), traced=True) for n in (8, 32))

    assert smaller.shape.places > _SESSIONS
    assert larger.shape.places == 4 * smaller.shape.places
    assert larger.calls.total() > 3 * smaller.calls.total()
    assert larger.held == smaller.held
    assert larger.held[0] <= _SESSIONS
    assert larger.peak < 1.2 * smaller.peak
