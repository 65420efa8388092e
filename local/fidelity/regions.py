"""Regions that an account has not enabled.

Source: Account Management Reference, "Enable or disable Regions in your account"; EC2 API Reference for
DescribeRegions, and its list of error codes. moto knows every Region as enabled, and ignores AllRegions.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend
from moto.ec2.responses.availability_zones_and_regions import AvailabilityZonesAndRegions

from . import calls, hooks

# What services say to credentials that their Region does not know.
_ERRORS = {
    "ec2": ("AuthFailure", "AWS was not able to validate the provided access credentials"),
    "sts": ("InvalidClientTokenId", "The security token included in the request is invalid."),
}
_ERROR = ("UnrecognizedClientException", "The security token included in the request is invalid.")
_GLOBAL = ("iam", "organizations", "route53")
_REGIONS = {one.name: one for one in RegionsAndZonesBackend.regions if not one.name.startswith(("cn-", "us-gov-"))}


def _enabled(account_id: str, region: str) -> bool:
    opt_in = region in _REGIONS and _REGIONS[region].opt_in_status == "not-opted-in"
    return not opt_in and hooks.installed.is_enabled(account_id, region)


def check(call: calls.Call) -> None:
    """Refuse a call to a Region that the caller's account has not enabled."""
    if call.service not in _GLOBAL and not _enabled(call.account_id, call.region):
        raise calls.Refusal(*_ERRORS.get(call.service, _ERROR))


def _describe_regions(http: Any) -> ActionResult:
    wanted, everything = http._get_param("RegionNames", []), http._get_param("AllRegions")
    if http._get_param("Filters", []):
        raise calls.Refusal("InvalidAction", "The local AWS cannot do this: filters of DescribeRegions")
    if unknown := [name for name in wanted if name not in _REGIONS]:
        raise EC2ClientError("InvalidParameterValue", f"Invalid region name: {', '.join(unknown)}")
    answer = []
    for name, region in _REGIONS.items():
        enabled = _enabled(http.current_account, name)
        if name in (wanted or _REGIONS) and (enabled or str(everything).lower() == "true"):
            status = "opt-in-not-required" if enabled else "not-opted-in"
            answer.append({"RegionName": name, "Endpoint": region.endpoint, "OptInStatus": status})
    return ActionResult({"Regions": answer})


def install() -> None:
    """Patch moto's DescribeRegions (once: the caller sees to that)."""
    AvailabilityZonesAndRegions.describe_regions = _describe_regions
