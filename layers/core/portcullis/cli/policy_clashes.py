"""What does not go together in a policy, or cannot work: what a schema cannot say. A function never meets it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import botocore.session

from portcullis import endpoint_policies
from portcullis.cli.policy_places import built_in, scopes_of, top_of
from portcullis.controls import CONTROLS
from portcullis.model import Caller, Kind
from portcullis.policy import parse
from portcullis.policy_parts import LONGEST, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from portcullis.cli.policy_places import Location, Place
    from portcullis.policy import Exemption
    from portcullis.policy_parts import Where

_KINDS = {"vpc": Kind.VPC, "i": Kind.INSTANCE}
_ACCOUNT_ID = "111122223333"  # any: all are of one length


@dataclass(frozen=True, slots=True)
class Clash:
    """Something in a policy that cannot be meant; ``other`` is where that is with which it does not go together."""

    at: Location
    message: str
    other: Location | None = None


def find(data: Mapping[str, Any]) -> list[Clash]:
    """Return what is wrong with the data of a policy that is of the right shape.

    That is: equal names; scopes that tie; settle windows that outlast the longest; exemptions from controls that do
    not judge the exempt resources; endpoint policies that are named and not there, or that AWS would not take.

    Raises:
        PolicyError: When it is not of the right shape.
    """
    policy = parse(data)
    top, scopes = top_of(data, policy), scopes_of(data, policy)
    found = _same_names("scopes", [scope.block.name for scope in scopes])
    found += _same_names("exemptions", [one.name for one in policy.exemptions])
    for first, second in combinations(scopes, 2):
        found += _ties(first, second)
    for place in (top, *scopes):
        found += _outlasting(place, top)
    for index, one in enumerate(policy.exemptions):
        found += _idle(index, one)
    return [*found, *_unusable((top, *scopes), policy.endpoint_policies)]


def may_tie(one: Where, other: Where) -> bool:
    """Tell whether some subject matches both with equal specificity.

    Units of one account are nested, so two of equal depth are one and the same.
    """
    pairs = ((one.accounts, other.accounts), (one.units, other.units), (one.regions, other.regions))
    return (
        len(one.tags) == len(other.tags)
        and all(mine & theirs or not (mine or theirs) for mine, theirs in pairs)
        and all(one.tags[key] & other.tags[key] for key in one.tags.keys() & other.tags.keys())
    )


def _same_names(section: str, names: Sequence[str]) -> list[Clash]:
    first: dict[str, int] = {}
    found = []
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            at, other = (section, index, "name"), (section, first[name], "name")
            found.append(Clash(at, f"{name!r} is given twice", other))
    return found


def _ties(first: Place, second: Place) -> Iterator[Clash]:
    one, other = first.block, second.block
    disputed = [key for key, value in other.values.items() if one.values.get(key, value) != value]
    if disputed and may_tie(one.where, other.where):
        for setting in disputed:
            message = (
                f"{second.written[setting]!r} in the scope {other.name} and {first.written[setting]!r} in {one.name} "
                "may be about the same resource, and neither scope is more specific"
            )
            yield Clash(_at(second, setting), message, _at(first, setting))


def _outlasting(place: Place, top: Place) -> Iterator[Clash]:
    """Find the settle windows, of a place by itself or with what it leaves to the top level, beyond the longest."""
    default = built_in("")
    values = {**default.block.values, **top.block.values, **place.block.values}
    for caller in Caller:
        window = ("settle", caller)
        own = [setting for setting in (window, LONGEST) if setting in place.written]
        if own and values[window] > values[LONGEST]:
            other_setting = LONGEST if own[0] == window else window
            other = next(one for one in (place, top, default) if other_setting in one.written).locate(other_setting)
            message = f"{caller} waits for {values[window]}, and the longest wait is {values[LONGEST]}"
            yield Clash(_at(place, own[0]), message, other)


def _idle(index: int, exemption: Exemption) -> Iterator[Clash]:
    """Find an exemption from controls of which none judges any of the resources that it names."""
    kinds = {_KINDS[resource_id.split("-")[0]] for resource_id in exemption.where.resources}
    judged = {control.kind for control in CONTROLS if control.id in exemption.controls}
    if kinds and judged and not kinds & judged:
        at, other = ("exemptions", index, "controls"), ("exemptions", index, "where", "resources")
        yield Clash(at, f"none of them judges {', '.join(sorted(exemption.where.resources))}", other)


def _unusable(places: Iterable[Place], policies: Mapping[str, Mapping[str, Any]]) -> Iterator[Clash]:
    """Find the endpoint policies that nobody can use as they are, and those that a service cannot use."""
    faulty = {name: fault for name, policy in policies.items() if (fault := _fault(policy, "s3"))}
    yield from (Clash(("endpoint_policies", name), fault) for name, fault in faulty.items())
    setting = ("controls", "VPCE.5", "policies")
    for place in places:
        for service, name in place.written.get(setting, {}).items():
            at = (*_at(place, setting), service)
            if name not in policies:
                yield Clash(at, f"{name!r} is not among endpoint_policies")
            elif name not in faulty and (fault := _fault(policies[name], service)):
                yield Clash(at, fault, ("endpoint_policies", name))


def _fault(policy: Mapping[str, Any], service: str) -> str:
    """Say why an endpoint policy cannot be written out, where the Region's name is the longest of its partition."""
    session = botocore.session.get_session()
    for partition in session.get_available_partitions():
        region = max(session.get_available_regions("ec2", partition), key=len, default="")
        try:
            endpoint_policies.render(policy, partition, region, _ACCOUNT_ID, service)
        except ValueError as error:
            return str(error)
    return ""


def _at(place: Place, setting: Setting) -> Location:
    return place.locate(setting) or ()
