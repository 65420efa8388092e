"""What a control is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portcullis.model import Needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.model import Evaluation, Kind, Snapshot
    from portcullis.policy import Policy, Settings


def _nothing(_: Policy) -> Needs:
    return Needs()


OF_VPCS = (
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkAcls",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribePrefixLists",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs",
)
"""The IAM actions with which a VPC is observed, and what a change to it would touch."""


def rule_command(side: str, group_id: str, port: int, cidr: str) -> str:
    """Return the command that lets a security group admit (``ingress``), or let out to (``egress``), some addresses."""
    about = f"--protocol tcp --port {port} --cidr {cidr}"
    if ":" in cidr:
        about = f"--ip-permissions 'IpProtocol=tcp,FromPort={port},ToPort={port},Ipv6Ranges=[{{CidrIpv6={cidr}}}]'"
    return f"aws ec2 authorize-security-group-{side} --group-id {group_id} {about}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding says of the rule that was broken. ``docs`` is a page of AWS about the matter."""

    id: str
    title: str
    severity: str
    kind: Kind
    docs: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """What the policy may set for a control: the name, what holds when it does not, and a sentence about it."""

    name: str
    default: Any
    about: str


@dataclass(frozen=True, slots=True)
class Control(Rule):
    """A rule about resources: its metadata, what it needs to see and do, and its verdict.

    ``observes`` and ``remediates`` are the IAM actions that the observer and the remediator need for it.
    ``evaluate`` takes (snapshot, resource, settings); it is pure. ``parameters`` documents what the policy may set
    for it besides what it may set for every control. ``related`` names controls of AWS that ask for something similar.
    ``follows`` are the controls after whose changes this one is looked at again. ``needs`` tells what a look has to
    observe for it beside the basics, given what the policy says.
    """

    checks: str
    why: str
    fix: str
    risk: str
    observes: tuple[str, ...]
    remediates: tuple[str, ...]
    evaluate: Callable[[Snapshot, Any, Settings], Evaluation]
    parameters: tuple[Parameter, ...] = ()
    related: str = ""
    follows: tuple[str, ...] = ()
    needs: Callable[[Policy], Needs] = _nothing
