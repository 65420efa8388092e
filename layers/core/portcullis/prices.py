"""What interface endpoints and NAT gateways cost, about: for findings and proposals, never for bills. Pure.

Gateway endpoints cost nothing ("Gateway type VPC endpoints", https://aws.amazon.com/vpc/pricing/), nor do EC2 Instance
Connect Endpoints (EC2 user guide, "Connect to your instances using EC2 Instance Connect Endpoint"). AWS bills an
interface endpoint for every Availability Zone and started hour, and a gigabyte alike in all Regions, for less beyond
the first PB a month (https://aws.amazon.com/privatelink/pricing/). A NAT gateway's gigabyte is on the first page, too.

The table is of 2026-10, in US dollars without tax or discount. It was not read from AWS: the figures are those that
public documents quote from the AWS Price List, in the versions named beside it. At least two documents agree on each,
except on interface endpoints in London and Seoul, for which one was found. A Region for which none was found is not in
the table. The policy's `prices` correct what is wrong here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOURS_A_MONTH = 730

# AWS Price List, AmazonVPC of 2026-09-17, usage type VpcEndpoint-Bytes, the first tier.
_GIGABYTE = 0.01
# Region: an interface endpoint an hour in one zone (AmazonVPC of 2026-09-17, some older, usage type VpcEndpoint-Hours),
# a gigabyte through a NAT gateway (AmazonEC2 of 2026-09-25, some older, usage type NatGateway-Bytes).
_TABLE = {
    "ap-northeast-1": (0.014, 0.062),
    "ap-northeast-2": (0.013, 0.059),
    "ap-south-1": (0.013, 0.056),
    "ap-southeast-1": (0.013, 0.059),
    "eu-central-1": (0.012, 0.052),
    "eu-west-1": (0.011, 0.048),
    "eu-west-2": (0.011, 0.05),
    "us-east-1": (0.01, 0.045),
    "us-west-2": (0.01, 0.045),
}


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars."""

    interface_endpoint_hour: float
    interface_endpoint_gigabyte: float
    nat_gigabyte: float


def price(region: str, overrides: Mapping[str, Mapping[str, float]]) -> Price:
    """Return the prices of a Region.

    Args:
        region: The Region.
        overrides: The policy's ``prices``: by Region or ``default``, any of the fields of a Price. A Region's outweigh
            the table; ``default`` outweighs only us-east-1's, which stand for Regions that are not in the table.
    """
    own = {**(_built_in(region) if region in _TABLE else {}), **overrides.get(region, {})}
    return Price(**{**_built_in("us-east-1"), **overrides.get("default", {}), **own})


def _built_in(region: str) -> dict[str, float]:
    hour, nat = _TABLE[region]
    return {"interface_endpoint_hour": hour, "interface_endpoint_gigabyte": _GIGABYTE, "nat_gigabyte": nat}


def interface_endpoint_month(price: Price, zones: int) -> float:
    """Return what an interface endpoint in so many zones costs a month of 730 hours, without traffic."""
    return price.interface_endpoint_hour * zones * HOURS_A_MONTH
