"""Prices: the table, the default, and the policy's corrections."""

from __future__ import annotations

import pytest
from portcullis.prices import HOURS_A_MONTH, Price, interface_endpoint_month, price

ALL = {"interface_endpoint_hour": 1.0, "interface_endpoint_gigabyte": 2.0, "nat_gigabyte": 3.0}


@pytest.mark.parametrize(
    ("region", "overrides", "expected"),
    [
        ("us-east-1", {}, Price(0.01, 0.01, 0.045)),
        ("eu-west-1", {}, Price(0.011, 0.01, 0.048)),
        ("xx-east-1", {}, Price(0.01, 0.01, 0.045)),
        ("eu-west-1", {"default": ALL}, Price(0.011, 0.01, 0.048)),
        ("us-east-1", {"default": ALL}, Price(0.01, 0.01, 0.045)),
        ("xx-east-1", {"default": ALL}, Price(1, 2, 3)),
        ("xx-east-1", {"default": {"nat_gigabyte": 0.5}}, Price(0.01, 0.01, 0.5)),
        ("eu-west-1", {"eu-west-1": {"nat_gigabyte": 0.5}}, Price(0.011, 0.01, 0.5)),
        ("xx-east-1", {"xx-east-1": {"nat_gigabyte": 0.5}}, Price(0.01, 0.01, 0.5)),
        ("xx-east-1", {"xx-east-1": ALL}, Price(1, 2, 3)),
        ("xx-east-1", {"xx-east-1": {"nat_gigabyte": 0.5}, "default": ALL}, Price(1, 2, 0.5)),
        ("eu-west-1", {"us-east-1": ALL}, Price(0.011, 0.01, 0.048)),
    ],
)
def test_the_nearest_statement_about_a_region_counts(
    region: str, overrides: dict[str, dict[str, float]], expected: Price
) -> None:
    """A Region's override, then the table, then the policy's default, then us-east-1."""
    assert price(region, overrides) == expected


def test_an_interface_endpoint_is_paid_in_every_zone() -> None:
    """A month has 730 hours."""
    assert HOURS_A_MONTH == 730
    assert interface_endpoint_month(price("us-east-1", {}), 3) == pytest.approx(21.9)
