"""VPCE.3: something answers privately for the services that the policy names.

An interface endpoint in the VPC does, or a private hosted zone for the service's own name that is associated with the
VPC: then an endpoint elsewhere answers for many VPCs. What others made is never changed.
Sources: "Access an AWS service using an interface VPC endpoint" and "Gateway endpoints" (AWS PrivateLink guide), the
former for one subnet per zone and what private DNS needs; "AWS PrivateLink for Amazon S3" (S3 user guide) for private
DNS that only the inbound resolver uses, and that needs a gateway endpoint; ListHostedZonesByVPC (Route 53 API).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portcullis.actions import CreateInterfaceEndpoint, listed
from portcullis.controls.control import OF_VPCS, Control, Parameter, rule_command
from portcullis.model import Evaluation, Kind, Needs, Status, Subnet

if TYPE_CHECKING:
    from portcullis.model import InterfaceService, Snapshot, Vpc, VpcEndpoint
    from portcullis.policy import Policy, Settings

_ID = "VPCE.3"
_HTTPS = 443
_ALIVE = ("available", "pending")
_SHOWN = 10  # short names
_SHOWN_COMMANDS = 2
_CREATE = (
    "Create the interface endpoints, in one subnet of each Availability Zone. They are billed by the hour in each "
    "zone, and by the gigabyte."
)


@dataclass(frozen=True, slots=True)
class _Gap:
    """Why nothing answers for a service, with a place for its name; what a person can do, and what Portcullis can."""

    problem: str
    remedy: str = _CREATE
    action: CreateInterfaceEndpoint | None = None


def _evaluate(snapshot: Snapshot, vpc: Vpc, settings: Settings) -> Evaluation:
    wanted = settings.parameter("services", ())
    named = {found.service_name: name for name in wanted if (found := snapshot.interface_services.get(name))}
    unknown = [name for name in wanted if name not in snapshot.interface_services]
    if vpc.owner_id != snapshot.scope.account_id:
        return _idle(vpc, f"{vpc.vpc_id} is shared by account {vpc.owner_id}; only its owner can create endpoints.")
    if not wanted:
        return _idle(vpc, f"The policy names no service that {vpc.vpc_id} needs.")
    if not named:
        return _idle(vpc, f"{snapshot.scope.region} offers no interface endpoint for {listed(unknown, _SHOWN)}.")
    if not vpc.subnets:
        return _idle(vpc, f"{vpc.vpc_id} has no subnet yet, so nothing in it needs an endpoint.")
    private_dns = settings.parameter("private_dns", default=True)
    gaps: dict[str, _Gap] = {}
    central: list[str] = []
    for service_name, name in named.items():
        service = snapshot.interface_services[service_name]
        gap = _gap(vpc, service, private_dns=private_dns and bool(service.private_dns_names))
        if gap and (zone := _zone(vpc, service)):
            central.append(f"{name} (private hosted zone {zone})")
        elif gap:
            gaps[name] = gap
    notes = f" A centralised endpoint answers for {listed(central)}." if central else ""
    notes += f" {snapshot.scope.region} offers none for {listed(unknown, _SHOWN)}." if unknown else ""
    if not gaps or vpc.hosted_zones is None:
        status, reason = Status.PASSED, f"{vpc.vpc_id} reaches {listed(list(named.values()), _SHOWN)} through"
        reason += f" interface endpoints.{notes}"
        if gaps:
            status, reason = Status.UNKNOWN, f"Route 53 did not tell the hosted zones of {vpc.vpc_id} this time."
        return Evaluation(_ID, Kind.VPC, vpc.vpc_id, status, reason)
    names = {gap.problem: [name for name in gaps if gaps[name].problem == gap.problem] for gap in gaps.values()}
    problems = "; ".join(problem.format(listed(names[problem], _SHOWN)) for problem in names)
    return Evaluation(
        _ID,
        Kind.VPC,
        vpc.vpc_id,
        Status.FAILED,
        reason=f"{vpc.vpc_id}: {problems}.{notes}",
        remedy=" ".join(dict.fromkeys(gap.remedy for gap in gaps.values())),
        actions=tuple(gap.action for gap in gaps.values() if gap.action),
        remains=not all(gap.action for gap in gaps.values()),
    )


def _needs(policy: Policy) -> Needs:
    given = policy.values(_ID, "services", ())
    return Needs(interface_services=frozenset(name for names in given for name in names))


def _idle(vpc: Vpc, reason: str) -> Evaluation:
    return Evaluation(_ID, Kind.VPC, vpc.vpc_id, Status.NOT_APPLICABLE, reason)


def _zone(vpc: Vpc, service: InterfaceService) -> str:
    """Tell which hosted zone of an account answers for the service, and whose; one of a service has an endpoint."""
    private = {_bare(name) for name in service.private_dns_names}
    zones = sorted((vpc.hosted_zones or {}).items())
    found = [f"{zone} of {owner}" for zone, owner in zones if owner.startswith("account ") and _bare(zone) in private]
    return found[0] if found else ""


def _bare(name: str) -> str:
    return name.lower().removeprefix("\\052.").removeprefix("*.").removesuffix(".")


def _gap(vpc: Vpc, service: InterfaceService, *, private_dns: bool) -> _Gap | None:
    """Tell why no endpoint in the VPC answers for a service; None when one does."""
    endpoints = sorted(
        (
            one
            for one in vpc.endpoints
            if one.service_name == service.service_name and one.endpoint_type.lower() == "interface"
        ),
        key=lambda one: one.endpoint_id,
    )
    alive = [one for one in endpoints if one.state in _ALIVE]
    if closed := [_closed(vpc, one) for one in alive if one.private_dns or not private_dns]:
        return None if None in closed else closed[0]
    if waiting := next((one.endpoint_id for one in endpoints if one.state == "pendingacceptance"), ""):
        remedy = f"Ask the owner of the service to accept {waiting}."
        return _Gap(f"{waiting} for {{}} waits until the service's owner accepts it", remedy)
    if ours := next((one.endpoint_id for one in alive if one.is_ours), ""):
        remedy = f"Switch it on: aws ec2 modify-vpc-endpoint --vpc-endpoint-id {ours} --private-dns-enabled"
        return _Gap(f"{ours} for {{}} has no private DNS", remedy)
    problem = "no interface endpoint for {}"
    if alive:
        problem += f" with private DNS ({listed([one.endpoint_id for one in alive])} without)"
    return _creation(vpc, service, problem, private_dns=private_dns)


def _closed(vpc: Vpc, endpoint: VpcEndpoint) -> _Gap | None:
    """Tell why an endpoint does not answer; None when it does. A group of ours has to admit the whole VPC."""
    name, groups = endpoint.endpoint_id, vpc.seen_groups(endpoint.group_ids)
    if not endpoint.subnet_ids:
        remedy = f"Give it subnets: aws ec2 modify-vpc-endpoint --vpc-endpoint-id {name} --add-subnet-ids SUBNET"
        return _Gap(f"{name} for {{}} is in no subnet", remedy)
    if groups is None:
        return None
    rules = [rule for group in groups for rule in group.ingress if rule.spans(_HTTPS)]
    ours = [group.group_id for group in groups if group.is_ours()]
    shut_out = [cidr for cidr in vpc.cidrs if not any(rule.covers(cidr) for rule in rules)]
    if rules and not (ours and shut_out):
        return None
    group_id = (*ours, *endpoint.group_ids)[0]
    commands = [rule_command("ingress", group_id, _HTTPS, cidr) for cidr in shut_out]
    remedy = f"Admit it: {listed(commands, _SHOWN_COMMANDS)}"
    if ours:
        return _Gap(f"{group_id} does not admit TCP {_HTTPS} from {listed(shut_out)} to {{}}", remedy)
    return _Gap(f"no security group of {name} for {{}} ({listed(endpoint.group_ids)}) admits TCP {_HTTPS}", remedy)


def _creation(vpc: Vpc, service: InterfaceService, problem: str, *, private_dns: bool) -> _Gap:
    """Create an endpoint, or say what has to happen first."""
    if private_dns and vpc.dns and not (vpc.dns.support and vpc.dns.hostnames):
        attributes = (("enableDnsSupport", vpc.dns.support), ("enableDnsHostnames", vpc.dns.hostnames))
        off = " and ".join(name for name, is_on in attributes if not is_on)
        options = (("--enable-dns-support", vpc.dns.support), ("--enable-dns-hostnames", vpc.dns.hostnames))
        command = f"aws ec2 modify-vpc-attribute --vpc-id {vpc.vpc_id}"
        remedy = "; ".join(f"{command} {option}" for option, is_on in options if not is_on)
        return _Gap(f"{problem}: private DNS needs {off}, off in this VPC", f"Switch it on: {remedy}")
    resolver_only = private_dns and service.service_name.endswith(".s3")
    if resolver_only and not any(
        one.endpoint_type.lower() == "gateway" and one.service_name == service.service_name and one.state == "available"
        for one in vpc.endpoints
    ):
        remedy = "Create the S3 gateway endpoint, which VPCE.1 does."
        return _Gap(f"{problem} yet: VPCE.1 comes first, since its private DNS needs the gateway endpoint", remedy)
    there = [one for one in vpc.subnets if not service.zones or one.zone in service.zones]
    chosen: dict[str, Subnet] = {}
    for one in sorted(there, key=lambda one: (one.is_public, one.subnet_id)):
        if one.has_room:
            chosen.setdefault(one.zone, one)
    if not there:
        remedy = f"Create a subnet in a zone that has the service: {listed(service.zones)}."
        return _Gap(f"{problem}: the service is in {listed(service.zones)}, and no subnet of the VPC is", remedy)
    if not chosen:
        full = listed(sorted(one.subnet_id for one in there))
        return _Gap(f"{problem}: no room in {full}", f"Free addresses in {full}, or create a larger subnet.")
    action = CreateInterfaceEndpoint(
        _ID,
        vpc.vpc_id,
        service.service_name,
        subnet_ids=tuple(chosen[zone].subnet_id for zone in sorted(chosen)),
        cidrs=vpc.cidrs,
        group_id=vpc.group_of_ours(_ID),
        private_dns=private_dns,
        resolver_only=resolver_only,
    )
    return _Gap(problem, action=action)


VPCE_3 = Control(
    id=_ID,
    title="Interface endpoints should answer for the AWS services that a VPC needs",
    severity="MEDIUM",
    kind=Kind.VPC,
    docs="https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html",
    checks=(
        "Whether something in the VPC answers privately for each service that you name: an interface endpoint with "
        "private DNS, in a subnet, whose security groups admit HTTPS from anybody; or a private hosted zone for the "
        "service's name, as a centralised design has it. Before it proposes one, whether the VPC's DNS attributes "
        "allow private names, and which zones have the service, a subnet and free addresses."
    ),
    why=(
        "Without one, an instance in a private subnet reaches the API of a service through a NAT gateway and public "
        "addresses, or not at all: no Systems Manager session, no secret, no container image."
    ),
    fix=(
        "Creates an interface endpoint for each service that nothing answers for, in one subnet of each Availability "
        "Zone that has the service (private ones with free addresses first), with private DNS, and with a security "
        "group of its own that admits HTTPS from the VPC's address blocks; one group serves all of these endpoints. An "
        "endpoint of others with private DNS, in a subnet and with a group that admits HTTPS from anybody, is "
        "accepted, and so is a private hosted zone for the service's name (a centralised endpoint). Endpoints of "
        "others are never changed. S3 comes after its gateway endpoint, and its private DNS then serves the inbound "
        "resolver only. Undoing deletes the endpoint, and the group with the last one."
    ),
    risk=(
        "Interface endpoints are billed by the hour in each Availability Zone, and by the gigabyte. With private DNS "
        "the service's name leads to the endpoint in the whole VPC, also for networks whose queries go through it: who "
        "is outside of the VPC's address blocks, or behind a network ACL that blocks the way, no longer reaches the "
        "service. The address that the service sees becomes private, so policies built on aws:SourceIp stop matching. "
        "A hosted zone that is associated through a Route 53 profile is not seen; AWS then refuses the conflicting "
        "name. The quota is 50 interface endpoints per VPC."
    ),
    observes=(
        *OF_VPCS,
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcAttribute",
        "ec2:DescribeVpcEndpointServices",
        "route53:ListHostedZonesByVPC",
    ),
    remediates=(
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateSecurityGroup",
        "ec2:CreateTags",
        "ec2:CreateVpcEndpoint",
        "ec2:DeleteSecurityGroup",
        "ec2:DeleteVpcEndpoints",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "ec2:ModifyVpcEndpoint",
        "route53:AssociateVPCWithHostedZone",
    ),
    evaluate=_evaluate,
    parameters=(
        Parameter(
            "services",
            (),
            "What every VPC needs, by short names (`ec2`, `ssm`, `ssmmessages`, `secretsmanager`, `logs`, "
            "`monitoring`, `sts`, `kms`, `ecr.api`, `ecr.dkr`, or any other) or full ones.",
        ),
        Parameter(
            "private_dns",
            True,  # noqa: FBT003 -- the default, where every parameter has its own
            "`false` accepts and creates endpoints to which the service's own name does not lead.",
        ),
    ),
    related=(
        "EC2.10 asks for the same of EC2, EC2.55 of the ECR API, EC2.56 of the Docker registry, EC2.57 of Systems "
        "Manager; EC2.58 and EC2.60 of its Incident Manager."
    ),
    follows=("VPCE.1", _ID),
    needs=_needs,
)
