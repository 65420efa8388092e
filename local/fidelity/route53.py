"""Private hosted zones as their VPCs see them.

Source: Route 53 API Reference, ListHostedZonesByVPC. moto shows an account only its own zones. The authorisation that
AWS asks for before a VPC of another account is associated is not asked for here.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.route53.models import route53_backends
from moto.route53.responses import Route53

from . import calls

if TYPE_CHECKING:
    from collections.abc import Iterator


def private_zones(vpc_id: str, region: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the private zones of all accounts that are associated with a VPC: name without last dot, and summary."""
    for account_id, backends in list(route53_backends.items()):
        for zone in [zone for backend in list(backends.values()) for zone in list(backend.zones.values())]:
            if {"vpc_id": vpc_id, "vpc_region": region} in zone.vpcs and zone.private_zone:
                owner = {"OwningAccount": account_id}
                yield zone.name.rstrip("."), {"HostedZoneId": zone.resource_id, "Name": zone.name, "Owner": owner}


def _list_by_vpc(http: Any) -> ActionResult:
    request = calls.Call(http).request
    zones = [one for _, one in sorted(private_zones(request["VPCId"], request["VPCRegion"]), key=itemgetter(0))]
    start, most = int(request.get("NextToken", 0)), int(request.get("MaxItems", 100))
    more = {"NextToken": str(start + most)} if start + most < len(zones) else {}
    return ActionResult({"HostedZoneSummaries": zones[start : start + most], "MaxItems": most, **more})


def install() -> None:
    """Patch moto's Route 53 (once: the caller sees to that)."""
    Route53.list_hosted_zones_by_vpc = _list_by_vpc
