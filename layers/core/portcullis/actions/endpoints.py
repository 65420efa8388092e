"""Changes to the VPC endpoints of a VPC."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from portcullis.actions.action import Action, listed
from portcullis.endpoint_policies import digest
from portcullis.model import Vpc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.model import Made, Resource, VpcEndpoint

_ALIVE = ("available", "pending", "pendingacceptance")


def _endpoint(resource: Resource | None, endpoint_id: str) -> VpcEndpoint | None:
    return resource.endpoint(endpoint_id) if isinstance(resource, Vpc) else None


def left_by(resource: Resource | None, made: str) -> dict[str, Any]:
    """Return what a change left of an endpoint, from what is there; see model.Outcome."""
    endpoint = _endpoint(resource, made)
    if endpoint is None:
        return {}
    return {
        "route_table_ids": list(endpoint.route_table_ids),
        "subnet_ids": list(endpoint.subnet_ids),
        "policy_digest": endpoint.policy_digest,
    }


@dataclass(frozen=True, slots=True)
class _Creation(Action):
    vpc_id: str
    service_name: str

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        endpoints = resource.endpoints if isinstance(resource, Vpc) else ()
        found = [one.endpoint_id for one in endpoints if one.change_id == change_id and one.state in _ALIVE]
        return found[0] if found else None

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        group_id = resource.group_only_of(made) if isinstance(resource, Vpc) else ""
        return DeleteEndpoint(self.control_id, self.vpc_id, made, self.service_name, group_id)

    def before(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        endpoints = resource.endpoints if isinstance(resource, Vpc) else ()
        same = [one for one in endpoints if one.service_name == self.service_name]
        return {"endpoints": {one.endpoint_id: list(one.route_table_ids or one.subnet_ids) for one in same}}


@dataclass(frozen=True, slots=True)
class CreateGatewayEndpoint(_Creation):
    """Create a gateway endpoint, tagged as ours, on the given route tables."""

    route_table_ids: tuple[str, ...]

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"create a {self.service_name} gateway endpoint on {listed(self.route_table_ids)}"


@dataclass(frozen=True, slots=True)
class CreateInterfaceEndpoint(_Creation):
    """Create an interface endpoint, tagged as ours, in the given subnets.

    Its security group is ours, one for all of them in a VPC: it is created when ``group_id`` is empty, and admits HTTPS
    from ``cidrs``. ``resolver_only`` gives private DNS names only to queries from outside of the VPC (of S3).
    """

    subnet_ids: tuple[str, ...]
    cidrs: tuple[str, ...]
    group_id: str = field(default="", compare=False)  # it may be there by the second try
    private_dns: bool = True
    resolver_only: bool = False

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"create a {self.service_name} interface endpoint in {listed(self.subnet_ids)}"


@dataclass(frozen=True, slots=True)
class _Modification(Action):
    vpc_id: str
    endpoint_id: str
    service_name: str

    def before(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        return left_by(resource, self.endpoint_id)


@dataclass(frozen=True, slots=True)
class AddRouteTables(_Modification):
    """Add route tables to a gateway endpoint that is ours."""

    route_table_ids: tuple[str, ...]

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"add {listed(self.route_table_ids)} to {self.endpoint_id} ({self.service_name})"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        endpoint = _endpoint(resource, self.endpoint_id)
        is_made = endpoint and set(self.route_table_ids) <= set(endpoint.route_table_ids)
        return self.endpoint_id if is_made else None

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        return RemoveFromEndpoint(
            self.control_id, self.vpc_id, self.endpoint_id, self.service_name, self.route_table_ids
        )

    def expected(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        left = left_by(resource, self.endpoint_id)
        return left | {"route_table_ids": sorted({*left.get("route_table_ids", ()), *self.route_table_ids})}

    def own(self, known: Made | None, left: Made) -> Made | None:
        """What others gave it does not become ours by this, nor does an endpoint that is not in the ledger."""
        tables = {*(known.route_table_ids if known else ()), *self.route_table_ids}
        return replace(known or left, route_table_ids=tuple(sorted(tables)))


@dataclass(frozen=True, slots=True)
class RemoveFromEndpoint(_Modification):
    """Take route tables or subnets off an endpoint that is ours: undoes AddRouteTables, or makes way."""

    route_table_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()

    takes_back: ClassVar[bool] = True

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"take {listed((*self.route_table_ids, *self.subnet_ids))} off {self.endpoint_id} ({self.service_name})"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        endpoint = _endpoint(resource, self.endpoint_id)
        held = {*endpoint.route_table_ids, *endpoint.subnet_ids} if endpoint else set()
        return None if held & {*self.route_table_ids, *self.subnet_ids} else self.endpoint_id

    def expected(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        left = left_by(resource, self.endpoint_id)
        tables = sorted(set(left.get("route_table_ids", ())) - set(self.route_table_ids))
        subnets = sorted(set(left.get("subnet_ids", ())) - set(self.subnet_ids))
        return left | {"route_table_ids": tables, "subnet_ids": subnets}

    def own(self, known: Made | None, left: Made) -> Made | None:
        """See Action."""
        known = known or left
        tables = tuple(sorted(set(known.route_table_ids) - set(self.route_table_ids)))
        return replace(
            known, route_table_ids=tables, subnet_ids=tuple(sorted(set(known.subnet_ids) - set(self.subnet_ids)))
        )


@dataclass(frozen=True, slots=True)
class DeleteEndpoint(_Modification):
    """Delete an endpoint that is ours, and its security group when no other one has it: undoes, or makes way."""

    group_id: str = ""

    takes_back: ClassVar[bool] = True

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        too = f" and its security group {self.group_id}" if self.group_id else ""
        return f"delete {self.endpoint_id} ({self.service_name}){too}"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        is_left = _endpoint(resource, self.endpoint_id) is not None
        is_left |= isinstance(resource, Vpc) and self.group_id in resource.groups
        return None if is_left else self.endpoint_id

    def essence(self) -> Action:
        """See Action."""
        return replace(self, group_id="")


@dataclass(frozen=True, slots=True)
class SetEndpointPolicy(_Modification):
    """Give an endpoint that is ours the policy that is called ``name``."""

    name: str
    document: str

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"set the policy {self.name} on {self.endpoint_id} ({self.service_name})"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        endpoint = _endpoint(resource, self.endpoint_id)
        is_made = endpoint and endpoint.policy_digest == digest(self.document)
        return self.endpoint_id if is_made else None

    def before(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        endpoint = _endpoint(resource, self.endpoint_id)
        return left_by(resource, self.endpoint_id) | {"policy": endpoint.policy_document if endpoint else ""}

    def expected(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        return left_by(resource, self.endpoint_id) | {"policy_digest": digest(self.document)}

    def own(self, known: Made | None, left: Made) -> Made | None:
        """An endpoint that is not in the ledger does not become ours by its policy: it may not be deleted."""
        known = known or replace(left, route_table_ids=(), subnet_ids=())
        return replace(known, policy_digest=digest(self.document))

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        return RestoreEndpointPolicy(
            self.control_id, self.vpc_id, self.endpoint_id, self.service_name, self.name, before["policy"]
        )


@dataclass(frozen=True, slots=True)
class RestoreEndpointPolicy(SetEndpointPolicy):
    """Give an endpoint that is ours the policy back that it had before: undoes SetEndpointPolicy."""

    takes_back: ClassVar[bool] = True

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"put back what {self.name} replaced as the policy of {self.endpoint_id} ({self.service_name})"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        is_gone = _endpoint(resource, self.endpoint_id) is None
        return self.endpoint_id if is_gone else SetEndpointPolicy.made_in(self, resource, change_id)

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        return None
