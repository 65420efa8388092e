"""Changes for EC2 Instance Connect Endpoints, and to security groups."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from portcullis.actions.action import Action
from portcullis.model import Vpc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portcullis.model import Resource

_ALIVE = ("create-complete", "create-in-progress", "update-complete", "update-in-progress")


@dataclass(frozen=True, slots=True)
class CreateInstanceConnectEndpoint(Action):
    """Create an EC2 Instance Connect Endpoint, tagged as ours.

    Its security group is ours: it is created when ``group_id`` is empty, and lets out to ``ports`` of ``cidrs``.
    """

    vpc_id: str
    subnet_id: str
    cidrs: tuple[str, ...]
    ports: tuple[int, ...]
    group_id: str = field(default="", compare=False)  # it may be there by the second try
    preserve_client_ip: bool = False

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"create an EC2 Instance Connect Endpoint in {self.subnet_id}"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        endpoints = resource.instance_connect if isinstance(resource, Vpc) else ()
        found = [one.endpoint_id for one in endpoints if one.change_id == change_id and one.state in _ALIVE]
        return found[0] if found else None

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        group_id = resource.group_only_of(made) if isinstance(resource, Vpc) else ""
        return DeleteInstanceConnectEndpoint(self.control_id, self.vpc_id, made, group_id)

    def before(self, resource: Resource | None) -> dict[str, Any]:
        """See Action."""
        endpoints = resource.instance_connect if isinstance(resource, Vpc) else ()
        return {"instance_connect_endpoints": {one.endpoint_id: one.state for one in endpoints}}


@dataclass(frozen=True, slots=True)
class DeleteInstanceConnectEndpoint(Action):
    """Delete an EC2 Instance Connect Endpoint that is ours, and its security group: undoes, or makes way."""

    vpc_id: str
    endpoint_id: str
    group_id: str = ""

    takes_back: ClassVar[bool] = True

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        too = f" and its security group {self.group_id}" if self.group_id else ""
        return f"delete the EC2 Instance Connect Endpoint {self.endpoint_id}{too}"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        if not isinstance(resource, Vpc):
            return self.endpoint_id
        is_left = resource.connect_endpoint(self.endpoint_id) is not None or self.group_id in resource.groups
        return None if is_left else self.endpoint_id

    def essence(self) -> Action:
        """See Action."""
        return replace(self, group_id="")


@dataclass(frozen=True, slots=True)
class DeleteSecurityGroup(Action):
    """Delete a security group that is ours and that nothing uses any more: makes way."""

    vpc_id: str
    group_id: str

    takes_back: ClassVar[bool] = True

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"delete the security group {self.group_id}"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        return None if isinstance(resource, Vpc) and self.group_id in resource.groups else self.group_id


@dataclass(frozen=True, slots=True)
class AdmitInstanceConnect(Action):
    """Let a security group of instances admit the Instance Connect Endpoint's: a rule for each port, tagged as ours."""

    vpc_id: str
    group_id: str
    source_group_id: str
    ports: tuple[int, ...]

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        ports = ", ".join(map(str, self.ports))
        return f"let {self.group_id} admit {self.source_group_id} on TCP {ports}"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        is_made = len(self._rules(resource)) == len(self.ports)
        return self.group_id if is_made else None

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        return StopAdmitting(self.control_id, self.vpc_id, self.group_id, self.source_group_id, self.ports)

    def _rules(self, resource: Resource | None) -> set[int]:
        """Return those of the ports that the group admits the source on, by rules as this action makes them."""
        group = resource.groups.get(self.group_id) if isinstance(resource, Vpc) else None
        return {
            port
            for port in self.ports
            for rule in (group.ingress if group else ())
            if rule.protocol == "tcp" and rule.ports == (port, port) and self.source_group_id in rule.group_ids
        }


@dataclass(frozen=True, slots=True)
class StopAdmitting(AdmitInstanceConnect):
    """Take the rules back that AdmitInstanceConnect made."""

    takes_back: ClassVar[bool] = True

    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""
        return f"no longer let {self.group_id} admit {self.source_group_id}"

    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """See Action."""
        return None if self._rules(resource) else self.group_id

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """See Action."""
        return None
