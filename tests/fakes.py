"""A small world for the loop: a stateful fake of every port, with those of AWS's rules that matter.

``World`` wires them together as the deployed functions are wired: events go through Intake to the work queue, and
from there through Reconcile to the loop; Sweep and Survey look at everything. People change networks with the
methods of ``FakeRegion``. What goes wrong, or happens meanwhile, is planned beforehand with ``Calls``.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from portcullis import asff, work
from portcullis.batch import Intake, Reconcile
from portcullis.coverage import Answer, Coverage, Problem
from portcullis.errors import Fault, NotAdmittedError, SecurityHubOffError, TransientError, classify
from portcullis.findings import Place
from portcullis.loop import Loop
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Action,
    AddRouteTables,
    CreateGatewayEndpoint,
    FindingRecord,
    Instance,
    InstanceProfile,
    Kind,
    Outcome,
    Result,
    RouteTable,
    Scope,
    Snapshot,
    Target,
    Vpc,
    VpcEndpoint,
    Work,
)
from portcullis.policy import ControlPolicy, Mode, Policy
from portcullis.ports import Ports, Rejection, SurveyPorts
from portcullis.survey import Survey, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

ACCOUNT = "111122223333"
OTHER_ACCOUNT = "444455556666"
REGION = "eu-west-1"
OTHER_REGION = "us-east-1"
HUB = Place("aws", "999900001111", REGION)
MANAGEMENT_ACCOUNT = "000011112222"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DELAY = 30
DEFAULT_PROFILE = "portcullis-default"
REMEDIATOR_ROLE = "portcullis-remediator"

_DEDUPLICATION = timedelta(minutes=5)
_VISIBILITY = timedelta(seconds=720)
_MAX_RECEIVE_COUNT = 8
_LIVING = ("pending", "running", "stopping", "stopped")
_RecordKey = tuple[Kind, str, str]
_PlaceKey = tuple[str, str]


def vpc(resource_id: str, account_id: str = ACCOUNT, region: str = REGION) -> Target:
    """Return a target that names a VPC."""
    return Target(account_id, region, Kind.VPC, resource_id)


def instance(resource_id: str, account_id: str = ACCOUNT, region: str = REGION) -> Target:
    """Return a target that names an instance."""
    return Target(account_id, region, Kind.INSTANCE, resource_id)


def whole(account_id: str = ACCOUNT, region: str = REGION) -> Target:
    """Return a target that names an account and Region."""
    return Target(account_id, region, Kind.ACCOUNT_REGION)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the time."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Move to a moment; backwards too, as clocks do."""
        self._now = moment

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self._now += timedelta(seconds=seconds)


class CrashError(Exception):
    """The process dies here."""


class AwsRefusedError(Exception):
    """AWS's answer to a call that breaks one of its rules."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with one call: ``error`` is raised before it takes effect, or after."""

    error: Exception
    after: bool = False


class Calls:
    """Counts the calls of all ports of a world, and makes the planned ones go wrong."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._planned: defaultdict[str, deque[Trouble | None]] = defaultdict(deque)
        self._crash: tuple[int, Trouble] | None = None
        self._meanwhile: dict[int, Callable[[], object]] = {}

    def plan(self, name: str, *troubles: Trouble | None) -> None:
        """Plan what happens to the next calls of one name; None for a call that goes well."""
        self._planned[name].extend(troubles)

    def crash_at(self, number: int, *, after: bool = False) -> None:
        """Let the process die at the n-th port call from now (0 is the next one), before or after its effect."""
        self._crash = (len(self.made) + number, Trouble(CrashError(f"at call {number}"), after))

    def meanwhile(self, number: int, do: Callable[[], object]) -> None:
        """Let something else happen right before the n-th port call from now."""
        self._meanwhile[len(self.made) + number] = do

    def stop_trouble(self) -> None:
        """Forget everything that was planned."""
        self._planned.clear()
        self._crash = None
        self._meanwhile.clear()

    def counts(self) -> Counter[str]:
        """Return how often each call was made."""
        return Counter(self.made)

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """Count a call, and raise what is planned for it."""
        if do := self._meanwhile.pop(len(self.made), None):
            do()
        planned = self._planned[name]
        trouble = planned.popleft() if planned else None
        if self._crash and self._crash[0] == len(self.made):
            trouble = self._crash[1]
        self.made.append(name)
        if trouble and not trouble.after:
            raise trouble.error
        yield
        if trouble:
            raise trouble.error


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
    tokens: dict[tuple[str, Action], str] = field(default_factory=dict)

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

    def create_endpoint(self, vpc_id: str, service_name: str, table_ids: Sequence[str], *, ours: bool = False) -> str:
        """Create a gateway endpoint."""
        self._check_tables(vpc_id, service_name, table_ids)
        endpoint_id = self.aws.new_id("vpce")
        tags = {OWNERSHIP_TAG: "true", CONTROL_TAG: "VPCE"} if ours else {}
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
        self.endpoints = {key: endpoint for key, endpoint in self.endpoints.items() if endpoint.vpc_id != vpc_id}
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

    def disassociate_profile(self, instance_id: str) -> None:
        """Take the instance profile away from an instance."""
        self.instances[instance_id] = replace(self.instances[instance_id], profile=None)
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
        return replace(
            self.vpcs[vpc_id], route_tables=self.tables_of(vpc_id), endpoints=tuple(self.endpoints_of(vpc_id))
        )

    def perform(self, action: Action, cause: str) -> str:
        """Do what the remediator asks for. A create with the cause and action of an earlier one is that one."""
        if isinstance(action, CreateGatewayEndpoint):
            made = self.tokens.get((cause, action))
            if made not in self.endpoints:
                made = self.create_endpoint(action.vpc_id, action.service_name, action.route_table_ids, ours=True)
            self.tokens[cause, action] = str(made)
            return str(made)
        if isinstance(action, AddRouteTables):
            return self._add_tables(action)
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
        self.instances[action.instance_id] = replace(instance, profile=profile)
        answer = {"iamInstanceProfileAssociation": {"associationId": "iip-assoc-0", "instanceId": action.instance_id}}
        self._tell("AssociateIamInstanceProfile", {"InstanceId": action.instance_id}, answer, new_dialect=True)
        return "iip-assoc-0"

    def _add_tables(self, action: AddRouteTables) -> str:
        endpoint = self.endpoints.get(action.endpoint_id)
        if endpoint is None:
            raise AwsRefusedError("InvalidVpcEndpointId.NotFound", f"{action.endpoint_id} does not exist")
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
        self.scopes: list[Scope] = []
        self.caller = "developer"
        self.performed: list[tuple[Work, Action]] = []
        self.switched_off: set[_PlaceKey] = set()
        self.shut: set[str] = set()
        self.profiles: dict[tuple[str, str], InstanceProfile] = {}
        self._regions: dict[_PlaceKey, FakeRegion] = {}
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

    def observe(self, scope: Scope, default_profile: str) -> Snapshot:
        """Read what the scope names. See ports.Observer."""
        with self.calls.making("observe"):
            self._admit(scope.account_id)
            place = self.region(scope.account_id, scope.region)
            self.scopes.append(scope)
            vpcs = {key: place.seen(key) for key in place.vpcs if scope.everything or key in scope.vpc_ids}
            instances = {
                key: instance
                for key, instance in place.instances.items()
                if instance.state in _LIVING and (scope.everything or key in scope.instance_ids)
            }
            bare = any(instance.profile is None for instance in instances.values())
            profile = self.profiles.get((scope.account_id, default_profile)) if bare else None
            return Snapshot(scope, vpcs, instances, place.gateway_services if vpcs else {}, profile)

    def region_enabled(self, account_id: str, region: str) -> bool:
        """Tell whether a Region is on. See ports.Observer."""
        with self.calls.making("region_enabled"):
            self._admit(account_id)
            return (account_id, region) not in self.switched_off

    def perform(self, work: Work, action: Action) -> Outcome:
        """Perform an action, and answer errors as the adapter does. See ports.Remediator."""
        self.performed.append((work, action))
        place = self.region(work.target.account_id, work.target.region)
        try:
            with self.calls.making("perform"), self._acting_as(REMEDIATOR_ROLE):
                made = place.perform(action, work.message_id)
        except AwsRefusedError as error:
            result = Result.FAILED if classify(error.code, error.message) is Fault.TERMINAL else Result.RETRY
            return Outcome(action, result, detail=f"AWS did not let Portcullis {action}: {error}.")
        except TransientError as error:
            return Outcome(action, Result.RETRY, detail=f"Portcullis could not {action}: {error}.")
        return Outcome(action, Result.APPLIED, made, f"Portcullis did it: {action}.")

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


class FakeSecurityHub:
    """Security Hub of all accounts and Regions: the FindingSink port."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.findings: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.imported: list[dict[str, Any]] = []
        self.ignored: list[dict[str, Any]] = []
        self.switched_off: set[_PlaceKey] = set()
        self._refusals: deque[str | None] = deque()

    def refuse(self, *codes: str | None) -> None:
        """Plan the error codes for the next findings, one each; None for a finding that is taken."""
        self._refusals.extend(codes)

    def stop_trouble(self) -> None:
        """Forget what was planned."""
        self._refusals.clear()

    def is_enabled(self, account_id: str, region: str) -> bool:
        """Tell whether Security Hub is on. See ports.FindingSink."""
        with self.calls.making("is_enabled"):
            return (account_id, region) not in self.switched_off

    def import_findings(self, account_id: str, region: str, findings: Sequence[dict[str, Any]]) -> list[Rejection]:
        """Import findings; none costs no call. See ports.FindingSink."""
        if not findings:
            return []
        with self.calls.making("import"):
            if (account_id, region) in self.switched_off:
                raise SecurityHubOffError(f"Security Hub is switched off in {account_id} {region}")
            rejections = []
            for finding in findings:
                code = self._refusals.popleft() if self._refusals else None
                if code is None and asff.faults(finding):
                    code = "InvalidInput"
                if code is None:
                    self._take(account_id, region, finding)
                else:
                    transient = code in ("InternalException", "LimitExceededException")
                    rejections.append(Rejection(finding["Id"], code, "as planned", transient))
            return rejections

    def _take(self, account_id: str, region: str, finding: dict[str, Any]) -> None:
        """Keep a finding as Security Hub does: nothing that is not newer, and never the analyst's fields."""
        key = (account_id, region, finding["Id"])
        old = self.findings.get(key)
        if old and finding["UpdatedAt"] <= old["UpdatedAt"]:
            self.ignored.append(finding)
            return
        workflow = old["Workflow"]["Status"] if old else "NEW"
        reopened = old and (
            (old["RecordState"], finding["RecordState"]) == ("ARCHIVED", "ACTIVE")
            or (old["Compliance"]["Status"], finding["Compliance"]["Status"]) == ("PASSED", "FAILED")
        )
        if reopened and workflow in ("NOTIFIED", "RESOLVED"):
            workflow = "NEW"
        kept = {"Workflow": {"Status": workflow}} | ({"Note": old["Note"]} if old and "Note" in old else {})
        self.findings[key] = {**finding, **kept}
        self.imported.append(finding)

    def analyst_sets(self, finding_id: str, *, workflow: str, note: str) -> None:
        """Update a finding as a person does in the console."""
        for key, finding in self.findings.items():
            if key[2] == finding_id:
                finding.update({"Workflow": {"Status": workflow}, "Note": {"Text": note}})

    def find(self, resource_id: str, control_id: str) -> dict[str, Any] | None:
        """Return the finding about a resource, or None. Ids are unique in this world."""
        for (_, _, finding_id), finding in self.findings.items():
            if finding_id.endswith(f"/{resource_id}") and f"/{control_id}/" in finding_id:
                return finding
        return None

    def state(self, resource_id: str, control_id: str) -> str | None:
        """Return FAILED, PASSED or ARCHIVED, or None when there is no finding."""
        finding = self.find(resource_id, control_id)
        if finding is None:
            return None
        return "ARCHIVED" if finding["RecordState"] == "ARCHIVED" else str(finding["Compliance"]["Status"])


class FakeStore:
    """The FindingStore port over a dictionary: what was written since it was loaded is not written over."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.records: defaultdict[_PlaceKey, dict[_RecordKey, FindingRecord]] = defaultdict(dict)

    def load(self, account_id: str, region: str, keys: Collection[_RecordKey]) -> Mapping[_RecordKey, FindingRecord]:
        """Return records. See ports.FindingStore."""
        with self.calls.making("load"):
            held = self.records[account_id, region]
            return {key: held[key] for key in keys if key in held}

    def open_records(self, account_id: str, region: str) -> Iterable[FindingRecord]:
        """Return what is not archived. See ports.FindingStore."""
        with self.calls.making("open_records"):
            return [r for r in self.records[account_id, region].values() if r.record_state != "ARCHIVED"]

    def save(
        self, account_id: str, region: str, changes: Sequence[tuple[FindingRecord, FindingRecord | None]]
    ) -> set[_RecordKey]:
        """Write what nobody else has written; nothing to write costs no call. See ports.FindingStore."""
        if not changes:
            return set()
        with self.calls.making("save"):
            held = self.records[account_id, region]
            for record, before in changes:
                # The table's condition looks at two attributes: they must stand for the whole record.
                assert (held.get(record.key) == before) is (_version(held.get(record.key)) == _version(before))
            lost = {record.key for record, before in changes if held.get(record.key) != before}
            held |= {record.key: record for record, _ in changes if record.key not in lost}
            return lost


def _version(record: FindingRecord | None) -> tuple[str, str | None] | None:
    return (record.updated_at, record.status) if record else None


class FakeCoverageStore:
    """The CoverageStore port over a dictionary."""

    def __init__(self, calls: Calls, clock: FakeClock) -> None:
        self.calls = calls
        self.clock = clock
        self.known: dict[_PlaceKey, Coverage] = {}

    def all(self) -> list[Coverage]:
        """Return everything. See ports.CoverageStore."""
        with self.calls.making("coverage"):
            return list(self.known.values())

    def heard(self, account_id: str, region: str) -> Coverage:
        """Note a heartbeat. See ports.CoverageStore."""
        with self.calls.making("heard"):
            return self._update(account_id, region, heartbeat_at=self._now())

    def answered(self, account_id: str, region: str, answer: Answer) -> None:
        """Note how a look ended. See ports.CoverageStore."""
        seen = {"swept_at": self._now()} if answer.problem in (None, Problem.REFUSED) else {}
        with self.calls.making("answered"):
            self._update(account_id, region, answer=answer, **seen)

    def list_place(self, account_id: str, region: str) -> None:
        """Note who must take part. See ports.CoverageStore."""
        with self.calls.making("list_place"):
            self._update(account_id, region, listed=True)

    def forget(self, account_id: str, region: str) -> None:
        """Drop one. See ports.CoverageStore."""
        with self.calls.making("forget"):
            del self.known[account_id, region]

    def _update(self, account_id: str, region: str, **values: Any) -> Coverage:
        known = self.known.get((account_id, region)) or Coverage(account_id, region, self._now())
        self.known[account_id, region] = replace(known, **values)
        return self.known[account_id, region]

    def _now(self) -> str:
        return self.clock.now().isoformat(timespec="seconds")


class FakeDirectory:
    """The Directory port over a set of account ids."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.accounts: set[str] = set()

    def active_accounts(self) -> frozenset[str]:
        """Return the accounts. See ports.Directory."""
        with self.calls.making("active_accounts"):
            return frozenset(self.accounts)

    def management_account_id(self) -> str:
        """Return the management account. See ports.Directory."""
        with self.calls.making("management_account_id"):
            return MANAGEMENT_ACCOUNT


@dataclass
class _Queued:
    message_id: str
    body: str
    group: str
    visible_at: datetime
    receive_count: int = 0


class FakeQueue:
    """The WorkQueue port with SQS's FIFO semantics: groups, one delay, deduplication for five minutes."""

    def __init__(self, calls: Calls, clock: FakeClock, delay: float = DELAY) -> None:
        self.calls = calls
        self.clock = clock
        self.delay = delay
        self.waiting: list[_Queued] = []
        self.sent: list[Target] = []
        self.triggers: list[str] = []
        self.postponed: list[int] = []
        self.given_up: list[str] = []
        self._ids: dict[tuple[str, str], datetime] = {}
        self._count = 0

    def send(self, triggers: Mapping[Target, str]) -> None:
        """Enqueue targets; none costs no call. See ports.WorkQueue."""
        if not triggers:
            return
        now = self.clock.now()
        with self.calls.making("send"):
            for target, trigger in triggers.items():
                self.sent.append(target)
                self.triggers.append(trigger)
                identity = (target.key, work.deduplication_id(target, now, self.delay))
                if identity in self._ids and now - self._ids[identity] < _DEDUPLICATION:
                    continue
                self._ids[identity] = now
                self._count += 1
                visible_at = now + timedelta(seconds=self.delay)
                body = work.encode(target, trigger)
                self.waiting.append(_Queued(f"m-{self._count}", body, target.key, visible_at))

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Keep a message invisible. See ports.WorkQueue."""
        with self.calls.making("postpone"):
            self.postponed.append(seconds)
            for message in self.waiting:
                if message.message_id == receipt_handle:
                    message.visible_at = self.clock.now() + timedelta(seconds=seconds)

    def receive(self, most: int = 10) -> list[dict[str, Any]]:
        """Hand out a batch as Lambda does: in order within a group, and no group that is under way."""
        batch: list[dict[str, Any]] = []
        blocked: set[str] = set()
        for message in list(self.waiting):
            if message.group in blocked or message.visible_at > self.clock.now():
                blocked.add(message.group)
            elif message.receive_count == _MAX_RECEIVE_COUNT:
                self.waiting.remove(message)
                self.given_up.append(message.body)
            elif len(batch) < most:
                message.receive_count += 1
                message.visible_at = self.clock.now() + _VISIBILITY
                batch.append(
                    {
                        "messageId": message.message_id,
                        "receiptHandle": message.message_id,
                        "body": message.body,
                        "attributes": {"ApproximateReceiveCount": str(message.receive_count)},
                    }
                )
        return batch

    def settle(self, batch: Sequence[dict[str, Any]], response: dict[str, Any]) -> None:
        """Delete what the function did not report as failed."""
        failed = {failure["itemIdentifier"] for failure in response["batchItemFailures"]}
        done = {message["messageId"] for message in batch} - failed
        self.waiting = [message for message in self.waiting if message.message_id not in done]

    def next_at(self) -> datetime:
        """Return when the next message can be received: the first of some group."""
        heads: dict[str, _Queued] = {}
        for message in self.waiting:
            heads.setdefault(message.group, message)
        return min(message.visible_at for message in heads.values())


class FakeDeadLetters:
    """The DeadLetters port over a list of (body, reason)."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.buried: list[tuple[str, str]] = []
        self.groups: list[str] = []

    def bury(self, body: str, reason: str, group: str = "unreadable") -> None:
        """Keep a message. See ports.DeadLetters."""
        with self.calls.making("bury"):
            self.buried.append((body, reason))
            self.groups.append(group)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal."""

    step: str
    message: str
    fields: Mapping[str, object]
    is_problem: bool = False


class FakeJournal:
    """The Journal port over a list."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def step(self, step: str, message: str, /, **fields: object) -> None:
        """Record a step. See ports.Journal."""
        self.entries.append(Entry(step, message, fields))

    def problem(self, step: str, message: str, /, **fields: object) -> None:
        """Record a problem. See ports.Journal."""
        self.entries.append(Entry(step, message, fields, is_problem=True))

    def steps(self) -> list[str]:
        """Return the names of all steps."""
        return [entry.step for entry in self.entries]


def policy_of(**modes: Mode) -> Policy:
    """Return a policy: every control in mode remediate, but for those given (``VPCE_1=Mode.OFF``)."""
    given = {name.replace("_", "."): mode for name, mode in modes.items()}
    return Policy({c: ControlPolicy(given.get(c, Mode.REMEDIATE)) for c in ("VPCE.1", "VPCE.2", "ROLE.1")})


class World:
    """All fakes, wired as the four functions are."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.calls = Calls()
        self.clock = FakeClock()
        self.aws = FakeAws(self.calls)
        self.hub = FakeSecurityHub(self.calls)
        self.store = FakeStore(self.calls)
        self.queue = FakeQueue(self.calls, self.clock)
        self.dead_letters = FakeDeadLetters(self.calls)
        self.coverage = FakeCoverageStore(self.calls, self.clock)
        self.directory = FakeDirectory(self.calls)
        self.journal = FakeJournal()
        self.ports = Ports(self.aws, self.aws, self.hub, self.store, self.queue, self.journal, self.clock)
        self.intake = Intake(self.queue, self.dead_letters, self.coverage, self.journal, (REMEDIATOR_ROLE,))
        self._sweeps = 0
        self.set_policy(policy or policy_of())

    def set_policy(self, policy: Policy) -> None:
        """Deploy another policy."""
        self.loop = Loop(self.ports, policy)
        self.reconcile = Reconcile(self.loop, self.queue, self.dead_letters, self.journal)
        self.sweeper = Sweep(self.loop, self.aws, self.hub, self.coverage, self.journal)

    def survey(self, *regions: str, more_accounts: Collection[str] = ()) -> Survey:
        """Return the survey of some Regions (one by default)."""
        ports = SurveyPorts(self.directory, self.coverage, self.hub, self.store, self.journal, self.clock)
        return Survey(ports, hub=HUB, regions=regions or (REGION,), more_accounts=more_accounts)

    def sweep(self, *places: _PlaceKey) -> list[Answer]:
        """Look at everything in each of some places (one by default), as the state machine does."""
        self._sweeps += 1
        return [self.sweeper.look(*place, f"s-{self._sweeps}") for place in places or ((ACCOUNT, REGION),)]

    def sweep_organisation(self, survey: Survey | None = None) -> dict[str, int]:
        """Run the state machine: list, look, report. Returns how many account-Regions are in which state."""
        survey = survey or self.survey()
        self._sweeps += 1
        after: str | None = None
        while after != "":
            page = survey.list(after or "")
            after = page["after"]
            for item in page["items"]:
                with suppress(TransientError):
                    self.sweeper.look(item["account_id"], item["region"], f"s-{self._sweeps}")
        states: dict[str, int] = survey.report(f"s-{self._sweeps}")["states"]
        return states

    def enqueue(self, *targets: Target) -> None:
        """Put targets on the work queue."""
        self.queue.send(dict.fromkeys(targets, "test"))

    def process(self, seconds: float) -> None:
        """Let so many seconds pass; whatever becomes visible meanwhile is handled."""
        end = self.clock.now() + timedelta(seconds=seconds)
        while True:
            batch = self.queue.receive()
            if batch:
                self._handle(batch)
            elif self.queue.waiting and self.queue.next_at() <= end:
                self.clock.set(max(self.queue.next_at(), self.clock.now()))
            else:
                break
        self.clock.set(end)

    def drain(self, most: int = 1000) -> None:
        """Handle batches, moving the clock on as needed, until the work queue is empty."""
        for _ in range(most):
            batch = self.queue.receive()
            if batch:
                self._handle(batch)
            elif self.queue.waiting:
                self.clock.set(max(self.queue.next_at(), self.clock.now()))
            else:
                return
        raise AssertionError(f"the work queue is not empty after {most} rounds: {self.queue.waiting}")

    def stop_trouble(self) -> None:
        """From now on, everything goes well."""
        self.calls.stop_trouble()
        self.hub.stop_trouble()

    def _handle(self, batch: list[dict[str, Any]]) -> None:
        try:
            response = self.reconcile.handle(batch)
        except (CrashError, TransientError):
            return  # the messages become visible again after the visibility timeout
        self.queue.settle(batch, response)
