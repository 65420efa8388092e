"""The places of the small world, and its targets."""

from __future__ import annotations

from datetime import UTC, datetime

from portcullis.findings import Place
from portcullis.model import Kind, Target

ACCOUNT = "111122223333"
OTHER_ACCOUNT = "444455556666"
REGION = "eu-west-1"
OTHER_REGION = "us-east-1"
HUB = Place("aws", "999900001111", REGION)
MANAGEMENT_ACCOUNT = "000011112222"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DELAY = 30
DEFAULT_PROFILE = "portcullis-default"
REMEDIATOR_ROLE = "portcullis-remediator"

PlaceKey = tuple[str, str]


def vpc(resource_id: str, account_id: str = ACCOUNT, region: str = REGION) -> Target:
    """Return a target that names a VPC."""
    return Target(account_id, region, Kind.VPC, resource_id)


def instance(resource_id: str, account_id: str = ACCOUNT, region: str = REGION) -> Target:
    """Return a target that names an instance."""
    return Target(account_id, region, Kind.INSTANCE, resource_id)


def whole(account_id: str = ACCOUNT, region: str = REGION) -> Target:
    """Return a target that names an account and Region."""
    return Target(account_id, region, Kind.ACCOUNT_REGION)
