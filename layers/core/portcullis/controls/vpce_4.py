"""VPCE.4: an EC2 Instance Connect Endpoint leads to the instances of a VPC.

Source: "Connect to your instances using EC2 Instance Connect Endpoint" with "Security groups for EC2 Instance Connect
Endpoint" (EC2 user guide): its groups have to let out to the instances, and theirs to admit it: its group, or its
address, or the client's address where that is preserved. One per VPC, five per account and Region.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from portcullis.actions import AdmitInstanceConnect, CreateInstanceConnectEndpoint, listed
from portcullis.controls.control import OF_VPCS, Control, Parameter, rule_command
from portcullis.model import Evaluation, Kind, Needs, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portcullis.model import GroupRule, InstanceConnectEndpoint, Snapshot, Vpc
    from portcullis.policy import Policy, Settings

_ID = "VPCE.4"
_PORTS = (22,)
_SMALLEST_SUBNET = 16  # addresses: a narrower rule is about single hosts
_SHOWN_COMMANDS = 2

_Sets = dict[tuple[str, ...], tuple[int, ...]]
"""Sets of security groups, and the ports that none of a set admits."""


def _evaluate(snapshot: Snapshot, vpc: Vpc, settings: Settings) -> Evaluation:
    if vpc.owner_id != snapshot.scope.account_id:
        return _said(vpc, Status.NOT_APPLICABLE, f"{vpc.vpc_id} is shared by account {vpc.owner_id}, whose it is.")
    if not vpc.subnets:
        return _said(vpc, Status.NOT_APPLICABLE, f"{vpc.vpc_id} has no subnet yet, so no instance either.")
    there = sorted(
        (one for one in vpc.instance_connect if not one.is_gone), key=lambda one: (_has_failed(one), one.endpoint_id)
    )
    if not there:
        return _creation(vpc, settings)
    if _has_failed(there[0]):
        name, message = there[0].endpoint_id, there[0].message.rstrip(".")
        undo = ", or undo its change with portcullis undo" if there[0].is_ours else ""
        return _said(
            vpc,
            Status.FAILED,
            f"{vpc.vpc_id}: the Instance Connect Endpoint {name} is {there[0].state}: {message or 'AWS says no more'}.",
            f"Delete it: aws ec2 delete-instance-connect-endpoint --instance-connect-endpoint-id {name}{undo}",
        )
    return _judged(vpc, there[0], settings)


def _needs(_: Policy) -> Needs:
    return Needs(instance_connect=True)


def _has_failed(endpoint: InstanceConnectEndpoint) -> bool:
    return endpoint.state in ("create-failed", "delete-failed")


def _said(vpc: Vpc, status: Status, reason: str, remedy: str = "") -> Evaluation:
    return Evaluation(_ID, Kind.VPC, vpc.vpc_id, status, reason, remedy)


def _creation(vpc: Vpc, settings: Settings) -> Evaluation:
    lack = f"{vpc.vpc_id} has no EC2 Instance Connect Endpoint"
    with_room = [one for one in vpc.subnets if one.has_room]
    if not with_room:
        full = listed(sorted(one.subnet_id for one in vpc.subnets))
        remedy = f"Free addresses in {full}, or create a larger subnet."
        return _said(vpc, Status.FAILED, f"{lack}, and no room for one in {full}.", remedy)
    subnet = min(with_room, key=lambda one: (one.is_public, one.zone, one.subnet_id))
    going = [one.endpoint_id for one in vpc.instance_connect if one.state == "delete-in-progress"]
    action = CreateInstanceConnectEndpoint(
        _ID,
        vpc.vpc_id,
        subnet.subnet_id,
        cidrs=vpc.cidrs,
        ports=settings.parameter("ports", _PORTS),
        group_id=vpc.group_of_ours(_ID),
        preserve_client_ip=settings.parameter("preserve_client_ip", default=False),
    )
    return Evaluation(
        _ID,
        Kind.VPC,
        vpc.vpc_id,
        Status.FAILED,
        reason=f"{lack}.",
        remedy="Create one: it costs nothing but traffic between Availability Zones, and one serves the whole VPC.",
        actions=(action,),
        wait=f"{going[0]} is being deleted" if going else None,
        remains=bool(vpc.instance_groups),  # whether they admit it is judged once it is there
    )


def _judged(vpc: Vpc, endpoint: InstanceConnectEndpoint, settings: Settings) -> Evaluation:
    """Judge the way from an endpoint to the instances, at both ends."""
    ports = settings.parameter("ports", _PORTS)
    name, problems, commands = endpoint.endpoint_id, [], []
    shut = {port: cidrs for port in ports if (cidrs := _shut(vpc, endpoint, port))}
    if shut:
        blocks = listed([cidr for cidr in vpc.cidrs if any(cidr in cidrs for cidrs in shut.values())])
        own = f"its security groups ({listed(endpoint.group_ids)})"
        problems.append(f"{own} let no TCP {_listed(shut)} out to instances in {blocks}")
        commands += [rule_command("egress", endpoint.group_ids[0], port, cidr) for port in shut for cidr in shut[port]]
    # Who comes with the client's own address is not known; and without a group there is nothing to admit.
    blocked = {} if endpoint.preserve_client_ip or not endpoint.group_ids else _blocked(vpc, endpoint, ports)
    admissions: tuple[AdmitInstanceConnect, ...] = ()
    if blocked:
        admissions = _admissions(vpc, endpoint, blocked)
        sets = listed(["+".join(group_ids) for group_ids in blocked])
        missing = sorted({port for closed in blocked.values() for port in closed})
        problems.append(f"instances with the security groups {sets} do not admit it on TCP {_listed(missing)}")
        commands += [
            f"aws ec2 authorize-security-group-ingress --group-id {one.group_id} --protocol tcp --port {port} "
            f"--source-group {one.source_group_id}"
            for one in admissions
            for port in one.ports
        ]
    if not problems:
        unjudged = " Whether they admit the client's address, which it preserves, is not judged."
        reason = f"{name} leads to the instances of {vpc.vpc_id} on TCP {_listed(ports)}."
        return _said(vpc, Status.PASSED, f"{reason}{unjudged if endpoint.preserve_client_ip else ''}")
    may_open = settings.parameter("open_instances", default=False)
    return Evaluation(
        _ID,
        Kind.VPC,
        vpc.vpc_id,
        Status.FAILED,
        reason=f"{vpc.vpc_id} has the Instance Connect Endpoint {name}, but {', and '.join(problems)}.",
        remedy=f"Open the way: {listed(commands, _SHOWN_COMMANDS)}",
        actions=admissions if may_open else (),
        remains=bool(shut),
    )


def _shut(vpc: Vpc, endpoint: InstanceConnectEndpoint, port: int) -> list[str]:
    """Return the address blocks to which no group lets out. One of ours has to let out to the whole VPC."""
    groups = vpc.seen_groups(endpoint.group_ids) or []
    theirs = {group_id for group_ids in vpc.instance_groups for group_id in group_ids}
    rules = [rule for group in groups for rule in group.egress if rule.spans(port)]
    lets_out = not groups or any(
        rule.prefix_list_ids or _in_vpc(vpc, rule) or theirs & set(rule.group_ids) or (rule.group_ids and not theirs)
        for rule in rules
    )
    is_ours = any(group.is_ours() for group in groups)
    if lets_out and not is_ours:
        return []
    wanted = [cidr for cidr in vpc.cidrs if is_ours or ":" not in cidr]
    return [cidr for cidr in wanted if not any(rule.covers(cidr) for rule in rules)]


def _blocked(vpc: Vpc, endpoint: InstanceConnectEndpoint, ports: Iterable[int]) -> _Sets:
    found: _Sets = {}
    for group_ids in sorted(vpc.instance_groups):
        groups = vpc.seen_groups(group_ids)
        rules = [rule for group in groups or () for rule in group.ingress]
        closed = tuple(port for port in ports if not any(_admits(vpc, endpoint, rule, port) for rule in rules))
        if groups and closed:
            found[group_ids] = closed
    return found


def _admits(vpc: Vpc, endpoint: InstanceConnectEndpoint, rule: GroupRule, port: int) -> bool:
    """Tell whether a rule admits the endpoint, or may do so: whose addresses a prefix list holds is not known."""
    is_named = bool(set(rule.group_ids) & set(endpoint.group_ids))
    return rule.spans(port) and (is_named or bool(rule.prefix_list_ids) or _in_vpc(vpc, rule))


def _in_vpc(vpc: Vpc, rule: GroupRule) -> bool:
    """Tell whether a rule is about addresses of the VPC, at least of a subnet: which one is meant is not known."""
    blocks = [ip_network(cidr) for cidr in vpc.cidrs]
    wide = [one for cidr in rule.cidrs if (one := ip_network(cidr, strict=False)).num_addresses >= _SMALLEST_SUBNET]
    return any(one.overlaps(block) for one in wide for block in blocks)


def _admissions(vpc: Vpc, endpoint: InstanceConnectEndpoint, blocked: _Sets) -> tuple[AdmitInstanceConnect, ...]:
    """Open the first group of each set, small sets first: another one may have the same group."""
    opened: dict[str, set[int]] = {}
    for group_ids in sorted(blocked, key=len):
        for port in blocked[group_ids]:
            if not any(port in opened.get(group_id, ()) for group_id in group_ids):
                opened.setdefault(group_ids[0], set()).add(port)
    return tuple(
        AdmitInstanceConnect(_ID, vpc.vpc_id, group_id, endpoint.group_ids[0], tuple(sorted(opened[group_id])))
        for group_id in sorted(opened)
    )


def _listed(ports: Iterable[int]) -> str:
    return listed([str(port) for port in ports])


VPCE_4 = Control(
    id=_ID,
    title="An EC2 Instance Connect Endpoint should lead to the instances of a VPC",
    severity="LOW",
    kind=Kind.VPC,
    docs="https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/connect-with-ec2-instance-connect-endpoint.html",
    checks=(
        "Whether the VPC has an EC2 Instance Connect Endpoint that works, whether its security groups let out to the "
        "ports that you name, and whether each set of security groups that instances have admits it there."
    ),
    why=(
        "Without a way in, people give instances public addresses, keep bastion hosts or open SSH to the internet. The "
        "endpoint lets in whom IAM allows, and needs none of these."
    ),
    fix=(
        "Creates one endpoint in a VPC that has none, in a private subnet with free addresses if there is one, with a "
        "security group of its own that lets out to the ports, within the VPC's address blocks, and nothing else. "
        "Where the security groups of instances do not admit it, it says so with the command for each; it adds these "
        "rules, tagged as its own, only with `open_instances`. What others created is never changed. A failed endpoint "
        "is reported with what AWS says, and has to be deleted first. Undoing deletes the endpoint with its group, or "
        "the rules."
    ),
    risk=(
        "Who may call ec2-instance-connect:OpenTunnel reaches the ports of every instance that admits the endpoint, "
        "with whatever credentials its SSH server asks for. AWS allows one endpoint per VPC and five per account and "
        "Region by default: one that a stack creates later fails, as does this one where the quota is used up. The "
        "first one in an account creates a service-linked role. The way through network ACLs, and what prefix lists "
        "hold, is not judged."
    ),
    observes=(*OF_VPCS, "ec2:DescribeInstanceConnectEndpoints", "ec2:DescribeSubnets"),
    remediates=(
        "ec2:AuthorizeSecurityGroupEgress",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:CreateInstanceConnectEndpoint",
        "ec2:CreateNetworkInterface",
        "ec2:CreateSecurityGroup",
        "ec2:CreateTags",
        "ec2:DeleteInstanceConnectEndpoint",
        "ec2:DeleteSecurityGroup",
        "ec2:DescribeSecurityGroups",
        "ec2:RevokeSecurityGroupEgress",
        "ec2:RevokeSecurityGroupIngress",
        "iam:CreateServiceLinkedRole",
    ),
    evaluate=_evaluate,
    parameters=(
        Parameter("ports", _PORTS, "TCP ports that people connect to: 22 for SSH, 3389 for Remote Desktop."),
        Parameter(
            "preserve_client_ip",
            False,  # noqa: FBT003 -- the default, where every parameter has its own
            "`true` creates the endpoint so that instances see the client's address, not the endpoint's.",
        ),
        Parameter(
            "open_instances",
            False,  # noqa: FBT003 -- the default, where every parameter has its own
            "`true` lets Portcullis admit the endpoint in the security groups of instances.",
        ),
    ),
    related=(
        "None of AWS's own controls asks for one. It helps to meet EC2.9 (no public address) and EC2.13, EC2.14 (SSH "
        "and Remote Desktop not open to everybody)."
    ),
    follows=(_ID,),
    needs=_needs,
)
