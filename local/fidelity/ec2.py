"""EC2 as a whole: see `ec2_endpoints`, `ec2_instances`, `ec2_reads` and `ec2_sharing` for what is restored."""

from __future__ import annotations

from . import ec2_endpoints, ec2_instances, ec2_reads, ec2_sharing
from .ec2_sharing import share_vpc

__all__ = ["install", "share_vpc"]


def install() -> None:
    """Patch all of EC2 (once: the caller sees to that)."""
    ec2_sharing.install()
    ec2_reads.install()
    ec2_endpoints.install()
    ec2_instances.install()
