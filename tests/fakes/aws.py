"""EC2 and IAM of an organisation, with those of AWS's rules that matter."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from portcullis.actions import (
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    CreateInterfaceEndpoint,
    DeleteEndpoint,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
    left_by,
)
from portcullis.errors import Fault, NotAdmittedError, TransientError, classify
from portcullis.model import (
    CHANGE_TAG,
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Instance,
    InstanceProfile,
    Needs,
    Outcome,
    Permissions,
    Result,
    RouteTable,
    Scope,
    Snapshot,
    Vpc,
    VpcEndpoint,
    Work,
)
from portcullis.surroundings import Surroundings

from tests.fakes.calls import AwsRefusedError, Calls
from tests.fakes.names import ACCOUNT, DEFAULT_PROFILE, REGION, REMEDIATOR_ROLE, PlaceKey
from tests.fakes.private_link import DNS_CONFLICT, FakePrivateLink, as_asked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from portcullis.actions import Action

_LIVING = ("pending", "running", "stopping", "stopped")


@dataclass
class FakeRegion:
    """EC2 of one account and Region. Its public methods are what people do; each leaves a CloudTrail event."""

    aws: FakeAws
    account_id: str
    name: str
    vpcs: dict[str, Vpc] = field(default_factory=dict)
    tables: dict[str, tuple[str, RouteTable]] = field(default_factory=dict)
    endpoints: dict[str, VpcEndpoint] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    gateway_services: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    surroundings: dict[str, Surroundings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.link = FakePrivateLink(self.aws.new_id, self.endpoints, tokens=self.tokens)

    def create_vpc(self, *, owner_id: str | None = None, default: bool = False) -> str:
        """Create a VPC with its main route table; ``owner_id`` for one that another account shares."""
        vpc_id = self.aws.new_id("vpc")
        self.vpcs[vpc_id] = Vpc(vpc_id, owner_id or self.account_id, is_default=default)
        table_id = self.aws.new_id("rtb")
        self.tables[table_id] = (vpc_id, RouteTable(table_id, is_main=True))
        self._tell("CreateVpc", {"cidrBlock": "10.0.0.0/16"}, {"vpc": {"vpcId": vpc_id, "state": "pending"}})
        return vpc_id

    def main_table(self, vpc_id: str) -> str:
        """Return the id of a VPC's main route table."""
        return next(table.route_table_id for table in self.tables_of(vpc_id) if table.is_main)

    def add_route_table(self, vpc_id: str, *, subnet: bool = False) -> str:
        """Create a route table; with ``subnet``, also a subnet that uses it."""
        table_id = self.aws.new_id("rtb")
        self.tables[table_id] = (vpc_id, RouteTable(table_id))
        answer = {"routeTable": {"routeTableId": table_id, "vpcId": vpc_id}}
        self._tell("CreateRouteTable", {"vpcId": vpc_id}, answer)
        if subnet:
            self.associate(table_id)
        return table_id

    def associate(self, table_id: str, subnet_id: str | None = None) -> str:
        """Associate a subnet (a new one by default) with a route table."""
        subnet_id = subnet_id or self.aws.new_id("subnet")
        vpc_id, table = self.tables[table_id]
        self.tables[table_id] = (vpc_id, replace(table, subnet_ids=(*table.subnet_ids, subnet_id)))
        self._tell("AssociateRouteTable", {"routeTableId": table_id, "subnetId": subnet_id}, {"associationId": "a"})
        return subnet_id

    def make_edge(self, table_id: str) -> None:
        """Associate an internet gateway with a route table, which makes it an edge table."""
        if any(table_id in endpoint.route_table_ids for endpoint in self.endpoints.values()):
            raise AwsRefusedError("InvalidParameter", f"{table_id} has a route that an edge table cannot hold")
        vpc_id, table = self.tables[table_id]
        self.tables[table_id] = (vpc_id, replace(table, gateway_ids=(self.aws.new_id("igw"),)))
        self._tell("AssociateRouteTable", {"routeTableId": table_id, "gatewayId": "igw-0"}, {"associationId": "a"})

    def disassociate(self, table_id: str) -> None:
        """Remove all subnets from a route table."""
        vpc_id, table = self.tables[table_id]
        self.tables[table_id] = (vpc_id, replace(table, subnet_ids=()))
        self._tell("DisassociateRouteTable", {"associationId": "a"}, {"_return": True})

    def create_endpoint(self, vpc_id: str, service_name: str, table_ids: Sequence[str], *, change_id: str = "") -> str:
        """Create a gateway endpoint; ours when it names a change."""
        self._check_tables(vpc_id, service_name, table_ids)
        endpoint_id = self.aws.new_id("vpce")
        control_id = "VPCE.1" if service_name.endswith("s3") else "VPCE.2"
        tags = {OWNERSHIP_TAG: "true", CONTROL_TAG: control_id, CHANGE_TAG: change_id} if change_id else {}
        self.endpoints[endpoint_id] = VpcEndpoint(
            endpoint_id, vpc_id, "Gateway", service_name, "available", tuple(table_ids), tags=tags
        )
        answer = {"vpcEndpoint": {"vpcEndpointId": endpoint_id, "vpcId": vpc_id, "ownerId": int(self.account_id)}}
        self._tell("CreateVpcEndpoint", {"VpcId": vpc_id}, answer, new_dialect=True)
        return endpoint_id

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Delete an endpoint; its routes go with it."""
        del self.endpoints[endpoint_id]
        request = {"VpcEndpointId": {"tag": 1, "content": endpoint_id}}
        self._tell("DeleteVpcEndpoints", request, {"unsuccessful": ""}, new_dialect=True)

    def delete_vpc(self, vpc_id: str) -> None:
        """Delete a VPC and everything in it."""
        del self.vpcs[vpc_id]
        self.tables = {key: held for key, held in self.tables.items() if held[0] != vpc_id}
        for endpoint in [one for one in self.endpoints.values() if one.vpc_id == vpc_id]:
            del self.endpoints[endpoint.endpoint_id]
        self._tell("DeleteVpc", {"vpcId": vpc_id}, {"_return": True})

    def launch_instance(
        self,
        state: str = "running",
        *,
        profile: InstanceProfile | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """Launch an instance."""
        instance_id = self.aws.new_id("i")
        self.instances[instance_id] = Instance(instance_id, state, profile=profile, tags=tags or {})
        items = {"items": [{"instanceId": instance_id, "instanceState": {"name": "pending"}}]}
        self._tell("RunInstances", {"instancesSet": {"items": [{"minCount": 1}]}}, {"instancesSet": items})
        return instance_id

    def set_state(self, instance_id: str, state: str) -> None:
        """Move an instance to another state; ``terminated`` for one that goes."""
        self.instances[instance_id] = replace(self.instances[instance_id], state=state)
        detail = {"instance-id": instance_id, "state": state}
        self.aws.events.append(self._envelope("EC2 Instance State-change Notification", detail))

    def attach_profile(self, instance_id: str, profile: InstanceProfile) -> None:
        """Associate a profile of somebody's own with an instance that has none."""
        assert self.instances[instance_id].profile is None
        association_id = self.aws.new_id("iip-assoc")
        self.instances[instance_id] = replace(
            self.instances[instance_id], profile=profile, association_id=association_id
        )
        answer = {"iamInstanceProfileAssociation": {"associationId": association_id, "instanceId": instance_id}}
        self._tell("AssociateIamInstanceProfile", {"InstanceId": instance_id}, answer, new_dialect=True)

    def tag_instance(self, instance_id: str, **tags: str) -> None:
        """Tag an instance; Portcullis hears nothing of that."""
        held = self.instances[instance_id]
        self.instances[instance_id] = replace(held, tags=held.tags | tags)

    def disassociate_profile(self, instance_id: str) -> None:
        """Take the instance profile away from an instance."""
        self.instances[instance_id] = replace(self.instances[instance_id], profile=None, association_id="")
        answer = {"iamInstanceProfileAssociation": {"associationId": "iip-assoc-0", "instanceId": instance_id}}
        self._tell("DisassociateIamInstanceProfile", {"AssociationId": "iip-assoc-0"}, answer, new_dialect=True)

    def tables_of(self, vpc_id: str) -> tuple[RouteTable, ...]:
        """Return the route tables of a VPC."""
        return tuple(table for holder, table in self.tables.values() if holder == vpc_id)

    def endpoints_of(self, vpc_id: str, service: str | None = None) -> tuple[VpcEndpoint, ...]:
        """Return the endpoints of a VPC, of one service (by its short name) or of all."""
        name = self.gateway_services[service] if service else None
        return tuple(e for e in self.endpoints.values() if e.vpc_id == vpc_id and name in (None, e.service_name))

    def seen(self, vpc_id: str) -> Vpc:
        """Return a VPC as the observer lists it."""
        vpc = replace(self.vpcs[vpc_id], route_tables=self.tables_of(vpc_id), endpoints=self.endpoints_of(vpc_id))
        return self.link.seen(vpc)

    def perform(self, action: Action, change_id: str) -> str:  # noqa: PLR0911 -- a case for each action
        """Do what the remediator asks for."""
        match action:
            case CreateGatewayEndpoint():
                return self._create_once(action, change_id)
            case AddRouteTables():
                return self._add_tables(action)
            case RemoveFromEndpoint() if action.route_table_ids:
                endpoint = self._endpoint(action.endpoint_id)
                left = tuple(name for name in endpoint.route_table_ids if name not in action.route_table_ids)
                self.endpoints[action.endpoint_id] = replace(endpoint, route_table_ids=left)
                self._tell(
                    "ModifyVpcEndpoint", {"VpcEndpointId": action.endpoint_id}, {"return": True}, new_dialect=True
                )
                return action.endpoint_id
            case DeleteEndpoint():
                if action.endpoint_id in self.endpoints:
                    self.delete_endpoint(action.endpoint_id)
                self.link.drop_group(action.group_id)
                return action.endpoint_id
            case AssociateInstanceProfile():
                return self._associate_profile(action)
            case DisassociateInstanceProfile():
                held = self.instances.get(action.instance_id)
                if held and held.association_id == action.association_id:
                    self.disassociate_profile(action.instance_id)
                return action.association_id
        return self.link.perform(action, change_id)

    def _create_once(self, action: CreateGatewayEndpoint, change_id: str) -> str:
        """Create an endpoint. With the token of an earlier call it is that one, even if it is gone."""
        if change_id not in self.tokens:
            self.tokens[change_id] = self.create_endpoint(
                action.vpc_id, action.service_name, action.route_table_ids, change_id=change_id
            )
        return self.tokens[change_id]

    def _associate_profile(self, action: AssociateInstanceProfile) -> str:
        instance = self.instances.get(action.instance_id)
        if instance is None or instance.state == "terminated":
            raise AwsRefusedError("InvalidInstanceID.NotFound", f"{action.instance_id} does not exist")
        if instance.state not in ("running", "stopped"):
            raise AwsRefusedError("IncorrectInstanceState", f"{action.instance_id} is {instance.state}")
        if instance.profile:
            raise AwsRefusedError("IncorrectState", f"There is an existing association for instance {instance}")
        profile = self.aws.profiles.get((self.account_id, action.profile_name))
        if profile is None:
            raise AwsRefusedError("InvalidParameterValue", "Invalid IAM Instance Profile name")
        association_id = self.aws.new_id("iip-assoc")
        self.instances[action.instance_id] = replace(instance, profile=profile, association_id=association_id)
        answer = {"iamInstanceProfileAssociation": {"associationId": association_id, "instanceId": action.instance_id}}
        self._tell("AssociateIamInstanceProfile", {"InstanceId": action.instance_id}, answer, new_dialect=True)
        return association_id

    def _endpoint(self, endpoint_id: str) -> VpcEndpoint:
        if endpoint_id not in self.endpoints:
            raise AwsRefusedError("InvalidVpcEndpointId.NotFound", f"{endpoint_id} does not exist")
        return self.endpoints[endpoint_id]

    def _add_tables(self, action: AddRouteTables) -> str:
        endpoint = self._endpoint(action.endpoint_id)
        fresh = [table_id for table_id in action.route_table_ids if table_id not in endpoint.route_table_ids]
        self._check_tables(endpoint.vpc_id, endpoint.service_name, fresh)
        self.endpoints[action.endpoint_id] = replace(endpoint, route_table_ids=(*endpoint.route_table_ids, *fresh))
        request = {"VpcEndpointId": action.endpoint_id, "AddRouteTableId": {"tag": 1, "content": "rtb"}}
        self._tell("ModifyVpcEndpoint", request, {"return": True}, new_dialect=True)
        return action.endpoint_id

    def _check_tables(self, vpc_id: str, service_name: str, table_ids: Sequence[str]) -> None:
        """Enforce: the VPC and its tables exist, no edge table, at most one route per service in a table."""
        vpc = self.vpcs.get(vpc_id)
        if vpc is None:
            raise AwsRefusedError("InvalidVpcId.NotFound", f"The vpc ID '{vpc_id}' does not exist")
        if vpc.owner_id != self.account_id:
            raise AwsRefusedError("UnauthorizedOperation", f"{vpc_id} belongs to {vpc.owner_id}")
        for table_id in table_ids:
            if table_id not in self.tables:
                raise AwsRefusedError("InvalidRouteTableId.NotFound", f"{table_id} does not exist")
            if self.tables[table_id][1].gateway_ids:
                raise AwsRefusedError("InvalidParameter", f"{table_id} is an edge table")
            same_service = [e for e in self.endpoints.values() if e.service_name == service_name]
            if any(table_id in endpoint.route_table_ids for endpoint in same_service):
                message = f"route table {table_id} already has a route with destination-prefix-list-id pl-0"
                raise AwsRefusedError("RouteAlreadyExists", message)

    def _tell(self, name: str, request: dict[str, Any], response: dict[str, Any], *, new_dialect: bool = False) -> None:
        issuer = {"type": "Role", "userName": self.aws.caller}
        detail = {
            "userIdentity": {"type": "AssumedRole", "sessionContext": {"sessionIssuer": issuer}},
            "eventSource": "ec2.amazonaws.com",
            "eventName": name,
            "eventID": self.aws.new_id("event"),
            "requestParameters": {f"{name}Request": request} if new_dialect else request,
            "responseElements": {f"{name}Response": response} if new_dialect else response,
        }
        self.aws.events.append(self._envelope("AWS API Call via CloudTrail", detail))

    def _envelope(self, detail_type: str, detail: dict[str, Any]) -> dict[str, Any]:
        return {
            "version": "0",
            "source": "aws.ec2",
            "detail-type": detail_type,
            "account": self.account_id,
            "region": self.name,
            "detail": detail,
        }


class FakeAws:
    """EC2 and IAM of an organisation: the Observer and Remediator ports."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.events: list[dict[str, Any]] = []
        self.observed: list[tuple[Scope, Needs]] = []
        self.caller = "developer"
        self.performed: list[tuple[Work, Action]] = []
        self.asked_for_buckets = False
        self.switched_off: set[PlaceKey] = set()
        self.shut: set[str] = set()
        self.profiles: dict[tuple[str, str], InstanceProfile] = {}
        self.permissions: dict[str, Permissions] = {}
        self._regions: dict[PlaceKey, FakeRegion] = {}
        self._ids: Counter[str] = Counter()

    def region(self, account_id: str = ACCOUNT, name: str = REGION) -> FakeRegion:
        """Return an account's Region; a new account has the default profile."""
        if (account_id, name) not in self._regions:
            services = {short: f"com.amazonaws.{name}.{short}" for short in ("s3", "dynamodb")}
            self._regions[account_id, name] = FakeRegion(self, account_id, name, gateway_services=services)
            self.add_profile(account_id, DEFAULT_PROFILE, "portcullis-default-role")
        return self._regions[account_id, name]

    def add_profile(self, account_id: str, name: str, *role_names: str) -> InstanceProfile:
        """Create an instance profile, with a role or without."""
        arn = f"arn:aws:iam::{account_id}:instance-profile/{name}"
        self.profiles[account_id, name] = InstanceProfile(name, arn, role_names)
        return self.profiles[account_id, name]

    def new_id(self, prefix: str) -> str:
        """Return an id that was never used."""
        self._ids[prefix] += 1
        return f"{prefix}-{self._ids[prefix]:04x}"

    def observe(self, scope: Scope, needs: Needs) -> Snapshot:
        """Read what the scope names. See ports.Observer."""
        with self.calls.making("observe"):
            self._admit(scope.account_id)
            place = self.region(scope.account_id, scope.region)
            self.observed.append((scope, needs))
            named = {key for key in place.vpcs if scope.everything or key in scope.vpc_ids}
            vpcs = {key: as_asked(place.seen(key), needs) for key in place.vpcs if key in named}
            instances = {
                key: instance
                for key, instance in place.instances.items()
                if instance.state in _LIVING and (scope.everything or key in scope.instance_ids)
            }
            bare = any(instance.profile is None for instance in instances.values())
            known = {name: self.profiles.get((scope.account_id, name)) for name in needs.profiles} if bare else {}
            found = {name: profile for name, profile in known.items() if profile}
            services = place.link.services if needs.interface_services else {}
            gateways = place.gateway_services if vpcs else {}
            return Snapshot(scope, vpcs, instances, gateways, found, services, self.permissions)

    def surroundings(
        self, account_id: str, region: str, vpc_ids: Collection[str], *, buckets: bool
    ) -> Mapping[str, Surroundings]:
        """Return what runs in some VPCs. See ports.Observer."""
        with self.calls.making("surroundings"):
            self._admit(account_id)
            self.asked_for_buckets = buckets
            known = self.region(account_id, region).surroundings
            return {vpc_id: known.get(vpc_id, Surroundings()) for vpc_id in vpc_ids}

    def region_enabled(self, account_id: str, region: str) -> bool:
        """Tell whether a Region is on. See ports.Observer."""
        with self.calls.making("region_enabled"):
            self._admit(account_id)
            return (account_id, region) not in self.switched_off

    def perform(self, work: Work, action: Action, change_id: str) -> Outcome:
        """Perform an action, and answer errors as the adapter does. See ports.Remediator."""
        self.performed.append((work, action))
        place = self.region(work.target.account_id, work.target.region)
        try:
            with self.calls.making("perform"), self._acting_as(REMEDIATOR_ROLE):
                made = place.perform(action, change_id)
        except AwsRefusedError as error:
            fault = classify(error.code, error.message)
            result = Result.FAILED if fault is Fault.TERMINAL else Result.RETRY
            result = Result.NEEDLESS if DNS_CONFLICT in error.message else result
            refuted = fault is Fault.CONFLICT and isinstance(action, AssociateInstanceProfile)
            detail = f"AWS did not let Portcullis {action}: {error}."
            return Outcome(action, result, detail=detail, is_refuted=refuted)
        except TransientError as error:
            return Outcome(action, Result.RETRY, detail=f"Portcullis could not {action}: {error}.")
        creations = CreateGatewayEndpoint | CreateInterfaceEndpoint
        if isinstance(action, creations) and made not in place.endpoints:
            return Outcome(action, Result.RETRY, made, f"{made} is deleted.")
        # AWS answers a creation with the endpoint, a modification with nothing.
        endpoint = place.endpoints.get(made) if isinstance(action, creations) else None
        after = left_by(place.seen(endpoint.vpc_id), made) if endpoint else {}
        return Outcome(action, Result.APPLIED, made, f"Portcullis did it: {action}.", after)

    def _admit(self, account_id: str) -> None:
        """Let the observer in, but for accounts that are shut."""
        if account_id in self.shut:
            raise NotAdmittedError(f"the observer of {account_id} cannot be assumed")

    @contextmanager
    def _acting_as(self, role_name: str) -> Iterator[None]:
        person, self.caller = self.caller, role_name
        try:
            yield
        finally:
            self.caller = person
