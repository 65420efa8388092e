"""Whose a security group is, and which addresses its rules are about."""

from __future__ import annotations

import pytest
from portcullis.model import CONTROL_TAG, OWNERSHIP_TAG, GroupRule, SecurityGroup, Vpc, VpcEndpoint

OURS = {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE.3"}


@pytest.mark.parametrize(
    ("name", "tags", "is_ours"),
    [
        ("portcullis-VPCE.3", OURS, True),
        ("portcullis-VPCE.3", OURS | {"env": "prod"}, True),
        ("database", OURS, False),
        ("portcullis-VPCE.4", OURS, False),
        ("portcullis-VPCE.3", {OWNERSHIP_TAG: "true"}, False),
        ("portcullis-VPCE.3", OURS | {OWNERSHIP_TAG: "false"}, False),
        ("portcullis-VPCE.3", {}, False),
    ],
)
def test_a_group_is_ours_by_its_tags_and_its_name(name: str, tags: dict[str, str], *, is_ours: bool) -> None:
    """Tags are copied easily, from console to console; only one group in a VPC has a name, and keeps it."""
    assert SecurityGroup("sg-1", name, tags=tags).is_ours() is is_ours


def test_a_copied_tag_gives_us_no_group() -> None:
    """Neither for an endpoint that is to be made, nor to be deleted with one."""
    database = SecurityGroup("sg-1", "database", tags=OURS)
    ours = SecurityGroup("sg-2", "portcullis-VPCE.3", tags=OURS)
    endpoint = VpcEndpoint("vpce-1", "vpc-1", "Interface", "ssm", "available", group_ids=("sg-1",))
    vpc = Vpc("vpc-1", "1", endpoints=(endpoint,), groups={"sg-1": database})
    both = Vpc("vpc-1", "1", endpoints=(endpoint,), groups={"sg-1": database, "sg-2": ours})
    assert (vpc.group_of_ours("VPCE.3"), vpc.group_only_of("vpce-1")) == ("", "")
    assert (both.group_of_ours("VPCE.3"), both.group_of_ours("VPCE.4")) == ("sg-2", "")


@pytest.mark.parametrize(
    ("rule", "covers"),
    [
        (GroupRule("tcp", cidrs=("10.0.0.0/16",)), True),
        (GroupRule("tcp", cidrs=("10.0.1.2/8",)), True),
        (GroupRule("tcp", cidrs=("192.168.0.0/16", "10.0.0.0/15")), True),
        (GroupRule("tcp", cidrs=("10.0.0.0/17",)), False),
        (GroupRule("tcp", cidrs=("10.1.0.0/16",)), False),
        (GroupRule("tcp", cidrs=("::/0",)), False),
        (GroupRule("tcp", group_ids=("sg-1",)), False),
        (GroupRule("tcp", prefix_list_ids=("pl-1",)), True),
    ],
)
def test_a_rule_covers_a_block_when_it_is_about_all_of_it(rule: GroupRule, *, covers: bool) -> None:
    """What a prefix list holds is not known: it is not blamed."""
    assert rule.covers("10.0.0.0/16") is covers


def test_blocks_of_ipv6_are_covered_alike() -> None:
    """And not by those of IPv4."""
    assert GroupRule("tcp", cidrs=("2001:db8::/32",)).covers("2001:db8::/56")
    assert not GroupRule("tcp", cidrs=("0.0.0.0/0",)).covers("2001:db8::/56")
