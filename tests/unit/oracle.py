"""What is true in a world of fakes. It knows AWS's rules, not the code of the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.model import Kind

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, FakeRegion, World

if TYPE_CHECKING:
    from collections.abc import Collection

    from portcullis.model import Instance

PLACES = ((ACCOUNT, REGION), (ACCOUNT, OTHER_REGION), (OTHER_ACCOUNT, REGION))
SERVICES = {"VPCE.1": "s3", "VPCE.2": "dynamodb"}


def truth(world: World) -> dict[tuple[str, str], str]:
    """Judge everything that ever existed: (resource id, control) to PASSED, FAILED or ARCHIVED."""
    verdicts: dict[tuple[str, str], str] = {}
    for account_id, region in PLACES:
        place = world.aws.region(account_id, region)
        for number in range(200):
            for control in SERVICES:
                verdicts.setdefault((f"vpc-{number:04x}", control), "ARCHIVED")
        for vpc_id, vpc in place.vpcs.items():
            for control, service in SERVICES.items():
                covered = vpc.owner_id != account_id or is_covered(place, vpc_id, service)
                verdicts[vpc_id, control] = "PASSED" if covered else "FAILED"
        for instance_id, instance in place.instances.items():
            verdicts[instance_id, "ROLE.1"] = instance_verdict(instance)
    return verdicts


def is_covered(place: FakeRegion, vpc_id: str, service: str) -> bool:
    """Tell whether traffic from every subnet of a VPC, present or future, takes the endpoint's route."""
    routed = {table_id for endpoint in place.endpoints_of(vpc_id, service) for table_id in endpoint.route_table_ids}
    used = [table for table in place.tables_of(vpc_id) if (table.is_main or table.subnet_ids) and not table.gateway_ids]
    return all(table.route_table_id in routed for table in used)


def instance_verdict(instance: Instance) -> str:
    """Judge an instance: gone, with a role, or without."""
    if instance.state == "terminated":
        return "ARCHIVED"
    return "PASSED" if instance.profile and instance.profile.role_names else "FAILED"


def settle(world: World) -> None:
    """Let launches end, so that nothing has to wait for ever."""
    for place in PLACES:
        region = world.aws.region(*place)
        for instance_id, instance in region.instances.items():
            if instance.state == "pending":
                region.set_state(instance_id, "running")


def assert_findings_are_true(world: World) -> None:
    """Every finding says what is true; what is wrong has one; and the memory agrees with Security Hub.

    Nothing was filed in vain, either; unless several looks were under way at once, which may file out of order.
    """
    assert_truth_is_filed(world)
    assert_ledger_is_true(world)
    assert world.hub.ignored == []


def assert_truth_is_filed(world: World, *closed: str) -> None:
    """The same for looks that were under way at once; what was ``closed`` may stay so while nothing is wrong."""
    for (resource_id, control), verdict in truth(world).items():
        filed = world.hub.state(resource_id, control)
        told = filed if filed not in (None, *closed) or verdict == "FAILED" else verdict
        assert told == verdict, (resource_id, control, filed, verdict)
    for (account_id, region), records in world.store.records.items():
        for record in records.values():
            finding = world.hub.find(record.resource_id, record.control_id)
            remembered = (record.status, record.record_state, record.updated_at)
            assert finding, (account_id, region, record)
            assert remembered == (finding["Compliance"]["Status"], finding["RecordState"], finding["UpdatedAt"])


def assert_ledger_is_true(world: World) -> None:
    """Nothing is left half done; what is ours is in the ledger and in the state of its resource, as it is."""
    entries = world.ledger.entries
    assert {change.progress for change in entries.values()} <= {"applied", "failed", "abandoned"}
    assert not any(state.pending for state in world.ledger.kept.values())
    for region in regions(world):
        for endpoint in region.endpoints.values():
            if endpoint.is_ours:
                key = (region.account_id, region.name, Kind.VPC, endpoint.vpc_id)
                made = world.ledger.kept[key].made[endpoint.endpoint_id]
                assert (made.change_id, entries[made.change_id].made) == (endpoint.change_id, endpoint.endpoint_id)
                assert set(endpoint.route_table_ids) <= set(made.route_table_ids)
                assert not entries[made.change_id].undone_by


def assert_all_is_mended(world: World, mending: Collection[str] = ("VPCE.1", "VPCE.2", "ROLE.1")) -> None:
    """What is still wrong is only what no control may mend: empty profiles, and instances of Auto Scaling.

    Args:
        world: Where to look.
        mending: The controls in mode remediate.
    """
    for (resource_id, control), verdict in truth(world).items():
        if verdict == "FAILED" and control in mending:
            instance = next(r.instances[resource_id] for r in regions(world) if resource_id in r.instances)
            assert instance.profile or "aws:autoscaling:groupName" in instance.tags


def regions(world: World) -> list[FakeRegion]:
    """Return the three places of these histories."""
    return [world.aws.region(*place) for place in PLACES]
