"""EC2's listings: all pages of them, asked for by filter.

Names and ids are asked for by filter, never by id parameter: one id that is gone would fail the whole call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_LARGEST = 1000  # that the EC2 service model allows for most listings
_FILTER_VALUES = 200  # in a request, over all its filters ("Filter.N", EC2 API reference)


def read(
    ec2: Any, operation: str, key: str, wanted: Mapping[str, Collection[str]], **arguments: Any
) -> Iterator[dict[str, Any]]:
    """Read all pages: of everything, or of what filters name, in as many calls as their limit needs.

    Args:
        ec2: The client.
        operation: The listing, as boto3 names it.
        key: Where an answer holds the items.
        wanted: Filters by name: the first with any number of values, others with a few. Empty for everything.
        arguments: What else to ask with; ``PaginationConfig`` where a page may not be the largest.
    """
    arguments = {"PaginationConfig": {"PageSize": _LARGEST}} | arguments
    narrowed = _filters(wanted) if wanted else [{}]
    for filters in narrowed:
        for answer in ec2.get_paginator(operation).paginate(**filters, **arguments):
            yield from answer[key]


def _filters(wanted: Mapping[str, Collection[str]]) -> Iterator[dict[str, Any]]:
    (name, values), *others = wanted.items()
    more = [{"Name": other, "Values": list(few)} for other, few in others]
    room = _FILTER_VALUES - sum(len(each["Values"]) for each in more)
    many = sorted(values)
    for start in range(0, len(many), room):
        yield {"Filters": [{"Name": name, "Values": many[start : start + room]}, *more]}


def hidden_too(ec2: Any, operation: str) -> dict[str, bool]:
    """Return the argument that lists what managed services have made as well.

    An account may hide that from its listings; hidden is not gone. The runtime's boto3 may be older than the parameter.
    """
    known = ec2.meta.service_model.operation_model(operation).input_shape.members
    return {"IncludeManagedResources": True} if "IncludeManagedResources" in known else {}
