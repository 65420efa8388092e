"""How VPCE.1 and VPCE.2 judge a VPC: gateway endpoint coverage, per route table.

A gateway endpoint owns its routes: one prefix-list route in each associated table. "An endpoint exists" is
therefore not compliance; the union of the endpoints' tables against the tables that need one is.
Source: "Gateway endpoints" (AWS PrivateLink guide), including that a table holds at most one endpoint
route per service, that a VPC may have several endpoints for one service, and that tables associated
with an internet or virtual private gateway cannot hold one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.actions import AddRouteTables, CreateGatewayEndpoint, listed
from portcullis.controls.control import OF_VPCS, Control, Parameter
from portcullis.model import Evaluation, Kind, RouteTable, Snapshot, Status, Vpc, VpcEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portcullis.actions import Action
    from portcullis.policy import Settings

_OBSERVES = (*OF_VPCS, "ec2:DescribeVpcEndpointServices", "s3:GetBucketPolicy", "s3:ListAllMyBuckets")
_REMEDIATES = ("ec2:CreateTags", "ec2:CreateVpcEndpoint", "ec2:DeleteVpcEndpoints", "ec2:ModifyVpcEndpoint")

_COVERING_STATES = ("available", "pending")


def gateway_control(control_id: str, *, service: str, required: tuple[str, ...], allowed: str, risk: str) -> Control:
    """Build the control that requires gateway endpoints of one service.

    Args:
        control_id: Its id.
        service: The service's name, for people.
        required: Short names of the endpoint services that it requires by default.
        allowed: The short names that the policy may give instead, for the controls page.
        risk: What else may break, as a clause, for the controls page.
    """

    def judge(snapshot: Snapshot, vpc: Vpc, settings: Settings) -> Evaluation:
        return evaluate(control_id, required, snapshot, vpc, settings)

    return Control(
        id=control_id,
        title=f"{service} gateway endpoints should cover the main route table and every table with a subnet",
        severity="MEDIUM",
        kind=Kind.VPC,
        docs="https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html",
        checks=(
            "Whether gateway endpoints of the service cover, all together, the main route table and every table with a "
            "subnet association. That one exists is not enough: it may be on no table. Edge tables (of internet and "
            "virtual private gateways) cannot hold the route and are left out. An interface endpoint does not count."
        ),
        why=(
            f"Without the route, an instance in a private subnet reaches {service} through a NAT gateway that "
            "bills every gigabyte, or not at all."
        ),
        fix=(
            f"Adds the uncovered route tables to a gateway endpoint for {service} that Portcullis created, or "
            "creates one for them. Endpoints of others are never changed."
        ),
        risk=(
            f"Open connections to {service} from the affected subnets are dropped once, the source address that it "
            f"sees becomes private, and {risk}."
        ),
        observes=_OBSERVES,
        remediates=_REMEDIATES,
        evaluate=judge,
        parameters=(
            Parameter("services", required, f"Gateway services to require: {allowed}."),
            Parameter(
                "unassociated_route_tables",
                "ignore",
                "`require` also covers tables without any association, which may become edge tables.",
            ),
            Parameter(
                "check_bucket_policies",
                False,  # noqa: FBT003 -- the default, where every parameter has its own
                "`true` names the account's bucket policies that depend on the source address before a change, at a "
                "call for each bucket.",
            ),
        ),
        related=f"None of AWS's own controls covers {service} gateway endpoints.",
    )


def evaluate(control_id: str, services: Sequence[str], snapshot: Snapshot, vpc: Vpc, settings: Settings) -> Evaluation:
    """Judge one VPC for the gateway services that the policy names (default: ``services``).

    Args:
        control_id: VPCE.1 or VPCE.2.
        services: Short names (``s3``) that the control requires by default.
        snapshot: What was observed; supplies the Region's service names.
        vpc: The VPC to judge.
        settings: Supply ``services`` and ``unassociated_route_tables`` (``ignore`` or ``require``).

    Returns:
        FAILED with one action per service that is not covered everywhere; PASSED; or NOT_APPLICABLE for
        a VPC that another account shares with this one, or a Region without any of the services.
    """
    if vpc.owner_id != snapshot.scope.account_id:
        reason = f"{vpc.vpc_id} is shared by account {vpc.owner_id}; only its owner can create endpoints."
        return Evaluation(control_id, Kind.VPC, vpc.vpc_id, Status.NOT_APPLICABLE, reason)
    wanted = settings.parameter("services", services)
    names = [name for short in wanted if (name := snapshot.gateway_services.get(short))]
    if not names:
        reason = f"{snapshot.scope.region} offers no gateway endpoint for {', '.join(wanted)}."
        return Evaluation(control_id, Kind.VPC, vpc.vpc_id, Status.NOT_APPLICABLE, reason)
    require_all = settings.parameter("unassociated_route_tables", "ignore") == "require"
    needing = [table for table in vpc.route_tables if needs_coverage(table, require_unassociated=require_all)]
    gaps = {name: gap for name in names if (gap := _uncovered(vpc, name, needing))}
    if not gaps:
        reason = f"Every route table of {vpc.vpc_id} that needs one has a route to {' and '.join(names)}."
        return Evaluation(control_id, Kind.VPC, vpc.vpc_id, Status.PASSED, reason)
    return Evaluation(
        control_id,
        Kind.VPC,
        vpc.vpc_id,
        Status.FAILED,
        reason=f"{vpc.vpc_id}: {' '.join(_describe(vpc, name, gap) for name, gap in gaps.items())}",
        remedy=(
            "Add the route tables to a gateway endpoint of the service, or create one for them: there is no "
            "charge. Open connections to the service from these subnets are dropped once."
        ),
        actions=tuple(_close(control_id, vpc, name, gap) for name, gap in gaps.items()),
    )


def needs_coverage(table: RouteTable, *, require_unassociated: bool) -> bool:
    """Tell whether a route table needs the endpoint's route.

    The main table does, and every table with a subnet association. An edge table never does: it cannot
    hold the route. A table without any association may become an edge table, so the policy decides.
    """
    if table.gateway_ids:
        return False
    return table.is_main or bool(table.subnet_ids) or require_unassociated


def _covering(vpc: Vpc, service_name: str) -> list[VpcEndpoint]:
    return [
        endpoint
        for endpoint in vpc.endpoints
        if endpoint.service_name == service_name
        and endpoint.endpoint_type.lower() == "gateway"
        and endpoint.state.lower() in _COVERING_STATES
    ]


def _uncovered(vpc: Vpc, service_name: str, needing: Iterable[RouteTable]) -> list[RouteTable]:
    covered = {table_id for endpoint in _covering(vpc, service_name) for table_id in endpoint.route_table_ids}
    gap = [table for table in needing if table.route_table_id not in covered]
    return sorted(gap, key=lambda table: (not table.is_main, table.route_table_id))


def _close(control_id: str, vpc: Vpc, service_name: str, gap: list[RouteTable]) -> Action:
    """Add to an endpoint of ours if there is one, else create one. Never touch somebody else's."""
    table_ids = tuple(sorted(table.route_table_id for table in gap))
    ours = sorted(
        endpoint.endpoint_id
        for endpoint in _covering(vpc, service_name)
        if endpoint.is_ours and endpoint.state.lower() == "available"
    )
    if ours:
        return AddRouteTables(control_id, vpc.vpc_id, ours[0], service_name, table_ids)
    return CreateGatewayEndpoint(control_id, vpc.vpc_id, service_name, table_ids)


def _describe(vpc: Vpc, service_name: str, gap: list[RouteTable]) -> str:
    covering = sorted(_covering(vpc, service_name), key=lambda endpoint: endpoint.endpoint_id)
    busy = [endpoint.endpoint_id for endpoint in covering if endpoint.route_table_ids]
    idle = [endpoint.endpoint_id for endpoint in covering if not endpoint.route_table_ids]
    elsewhere = "".join(
        f"; {listed(ids)} {'covers' if len(ids) == 1 else 'cover'} {what}"
        for ids, what in ((busy, "only other tables"), (idle, "no table"))
        if ids
    )
    return f"No {service_name} gateway endpoint on {listed([_named(table) for table in gap])}{elsewhere}."


def _named(table: RouteTable) -> str:
    if table.is_main:
        return f"{table.route_table_id} (main)"
    if not table.subnet_ids:
        return f"{table.route_table_id} (no subnet yet)"
    more = f" +{len(table.subnet_ids) - 1}" if len(table.subnet_ids) > 1 else ""
    return f"{table.route_table_id} ({min(table.subnet_ids)}{more})"
