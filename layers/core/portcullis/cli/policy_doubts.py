"""What is no fault of a policy, and probably not what somebody means by it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session

from portcullis.actions import short_name
from portcullis.cli.policy_clashes import Clash
from portcullis.cli.policy_places import scopes_of, top_of
from portcullis.controls import CONTROLS
from portcullis.policy import Mode, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from portcullis.cli.policy_places import Place

_REGION = re.compile(r"\.([a-z]+(?:-[a-z]+)+-[0-9]+)\.")
_WORDS = re.compile(r"[.-]")
# Of "AWS services that integrate with AWS PrivateLink" (AWS PrivateLink guide) and gateway services, those whose names
# have nothing of the names that AWS's clients know.
_MORE_SERVICES = (
    "console",
    "ec2messages",
    "emrwal",
    "execute-api",
    "experiments",
    "lorawan",
    "mail-manager",
    "networkflowmonitorreports",
    "notebook",
    "partner-app",
    "private-networks",
    "q",
    "refactor-spaces",
    "s3express",
    "service.user-subscriptions",
    "social-messaging",
    "ssmmessages",
    "studio",
)


def find(data: Mapping[str, Any]) -> list[Clash]:
    """Return the doubts about the data of a policy without a fault.

    That is: modes that change nothing; full names of services where a Region is not given; names of no service.
    """
    policy = parse(data)
    found: list[Clash] = []
    for place in (top_of(data, policy), *scopes_of(data, policy)):
        found += [*_idle_modes(place), *_of_one_region(place), *_unknown(place)]
    return found


def _idle_modes(place: Place) -> Iterator[Clash]:
    for control in CONTROLS:
        setting = ("controls", control.id, "mode")
        mode = place.written.get(setting, Mode.OFF)
        if not control.remediates and mode in (Mode.APPROVE, Mode.REMEDIATE):
            message = f"{mode} does what detect does: {control.id} changes nothing"
            yield Clash(place.locate(setting) or (), message)


def _of_one_region(place: Place) -> Iterator[Clash]:
    setting = ("controls", "VPCE.3", "services")
    for index, name in enumerate(place.written.get(setting, ())):
        region = _REGION.search(name)
        if region and place.block.where.regions != {region[1]}:
            short = short_name(name)
            remedy = f"write {short}" if not short.startswith("vpce-svc-") else "name it in a scope of that Region"
            message = f"{name} is of {region[1]}, and in another Region there is no such service; {remedy}"
            yield Clash((*(place.locate(setting) or ()), index), message)


def _unknown(place: Place) -> Iterator[Clash]:
    setting = ("controls", "VPCE.5", "policies")
    for name in place.written.get(setting, {}):
        if not name.startswith("vpce-svc-") and not _is_known(name):
            yield Clash((*(place.locate(setting) or ()), name), "no such service is known here, so it has no endpoint")


def _is_known(name: str) -> bool:
    """Tell whether some words of the name, in any order, are the name of a service.

    ``ecr.api`` is a client's ``api.ecr``, ``kinesis-streams`` has one's ``kinesis``.
    """
    words = _WORDS.split(name)
    ends = range(1, len(words) + 1)
    return any(frozenset(words[start:end]) in _services() for end in ends for start in range(end))


@cache
def _services() -> frozenset[frozenset[str]]:
    session = botocore.session.get_session()
    names = {*_MORE_SERVICES, *session.get_available_services()}
    for partition in session.get_data("endpoints")["partitions"]:
        names |= partition["services"].keys()
    return frozenset(frozenset(_WORDS.split(name)) for name in names)
