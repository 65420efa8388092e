"""The function is stopped after every AWS call that changes something, and nothing is made twice or forgotten.

Each story is one remediation, from the message that brings it to its end. It is told once to count its calls; then
again for every one that changes something, on a resource of its own: the process is stopped right after it took effect
(or before the first call), and SQS delivers the same message to a new process. In the end there is exactly one change
in AWS, one entry for it in the ledger, and a finding that is true. See tests/unit/test_crash_points.py for the same at
the ports.
"""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.client import BaseClient
from moto.core import responses
from moto.dynamodb.models.table import Table
from moto.securityhub.models import SecurityHubBackend
from portcullis import work
from portcullis.actions import (
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    DeleteEndpoint,
    DisassociateInstanceProfile,
    RemoveFromEndpoint,
)
from portcullis.adapters.ledger import DynamoDbLedger
from portcullis.ledger import Progress
from portcullis.model import Ask, Caller, Cause, Conflict, Kind, Request, Target

from tests.functions.conftest import NOTHING_FAILED, REGION, Context, Member, forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portcullis.actions import Action
    from portcullis.ledger import ResourceState

    from tests.functions.conftest import Clock, Hub

pytestmark = pytest.mark.no_cover
"""Other tests reach every branch, and measuring it takes nearly half of the time here."""

S3 = f"com.amazonaws.{REGION}.s3"
PAT = "arn:aws:iam::111122223333:user/pat"
DUE = Cause("schedule/2026-11-23T12:00:00Z")
"""What the looks are for that EventBridge Scheduler sends."""

REDELIVERED_AFTER = timedelta(minutes=12)
"""The work queue's visibility timeout."""

QUIET = timedelta(hours=1)
"""Longer than any settle window."""

LASTING = ("AssumeRole", "DescribePrefixLists", "DescribeVpcEndpointServices")

Causes = dict[str, Cause]
"""Why each of some resources is looked at."""

Facts = dict[str, object]


class Stopped(BaseException):
    """The process is stopped here."""


class Calls:
    """Stands before every AWS call of the function, and stops the process at the one that was chosen.

    Where moto differs from AWS, and it would matter here, this answers: a creation with a token that was used before
    makes nothing, and moto has no BatchUpdateFindings. So it does where the answer lasts, which saves time: a role's
    credentials, and what AWS offers in a Region.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self.stop_at: tuple[int, bool] | None = None
        self.notes: dict[str, str] = {}
        self.hides_endpoints = False
        self._tokens: dict[str, dict[str, Any]] = {}
        self._lasting: dict[str, dict[str, Any]] = {}

    def make(self, call: Callable[[], dict[str, Any]], client: Any, operation: str, request: dict[str, Any]) -> Any:
        """Make a call, unless the process is stopped before it."""
        here = len(self.made)
        self.made.append(f"{client.meta.service_model.service_name}.{operation}")
        if self.stop_at == (here, False):
            raise Stopped
        try:
            return self._answer(call, operation, request)
        finally:  # AWS may refuse, too
            if self.stop_at == (here, True):
                raise Stopped

    def _answer(self, call: Callable[[], dict[str, Any]], operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation == "BatchUpdateFindings":
            self.notes |= {one["Id"]: request["Note"]["Text"] for one in request["FindingIdentifiers"]}
            return {"ProcessedFindings": request["FindingIdentifiers"], "UnprocessedFindings": []}
        if operation == "DescribeVpcEndpoints" and self.hides_endpoints:
            return {"VpcEndpoints": []}
        if operation in LASTING:
            asked = f"{operation} {request.get('RoleArn')}"
            self._lasting[asked] = self._lasting.get(asked) or call()
            return self._lasting[asked]
        if operation == "CreateVpcEndpoint":
            token = request["ClientToken"]
            self._tokens[token] = self._tokens.get(token) or call()
            return self._tokens[token]
        return call()


class World:
    """The hub and a member account in moto, and the reconcile function, of which one process after the other works."""

    def __init__(self, hub: Hub, member: Member, clock: Clock, calls: Calls) -> None:
        self.hub = hub
        self.member = member
        self.clock = clock
        self.calls = calls
        self.ledger = DynamoDbLedger(hub.dynamodb, hub.table_name)
        self._handler = hub.load("ReconcileFunction")

    def process(self, *messages: dict[str, Any], stop_at: tuple[int, bool] | None = None) -> Any:
        """Let a new process handle messages; returns its answer."""
        forget()
        self.calls.made.clear()
        self.calls.stop_at = stop_at
        real = BaseClient._make_api_call  # type: ignore[attr-defined]  # botocore-stubs leave it out

        def counted(client: Any, operation: str, request: dict[str, Any]) -> Any:
            return self.calls.make(lambda: real(client, operation, request), client, operation, request)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BaseClient, "_make_api_call", counted)
            return self._handler({"Records": list(messages)}, Context("portcullis-reconcile"))

    def message(self, resource_id: str, cause: Cause) -> dict[str, Any]:
        """Return a message of the work queue, as SQS delivers it for the first time."""
        return {
            "messageId": f"m-{resource_id}-{cause.trigger}",
            "receiptHandle": "a receipt",
            "body": work.encode(self.target(resource_id), replace(cause, at=self.clock.now())),
            "attributes": {"ApproximateReceiveCount": "1"},
        }

    def target(self, resource_id: str) -> Target:
        """Return the target of a resource."""
        kind = Kind.VPC if resource_id.startswith("vpc-") else Kind.INSTANCE
        return Target(self.member.account_id, REGION, kind, resource_id)

    def look(self, causes: Causes) -> None:
        """Let the function look at some resources at once."""
        assert self.process(*(self.message(name, cause) for name, cause in causes.items())) == NOTHING_FAILED

    def settle(self, causes: Causes) -> None:
        """Let the function hear of some resources, and wait until its looks are due."""
        self.look(causes)
        assert len(self.hub.looks()) == len(causes)
        self.clock.ahead += QUIET
        self.hub.fire()

    def states(self, resource_ids: list[str]) -> dict[str, ResourceState]:
        """Return what is remembered of each of some resources."""
        keys = [(self.target(name).kind, name) for name in resource_ids]
        return {name: state for (_, name), state in self.ledger.states(self.member.account_id, REGION, keys).items()}

    def tables(self) -> dict[str, dict[str, str]]:
        """Return every VPC's route tables: ``main`` and ``other``."""
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for item in self.member.ec2.describe_route_tables()["RouteTables"]:
            name = "main" if any(one.get("Main") for one in item["Associations"]) else "other"
            found[item["VpcId"]][name] = item["RouteTableId"]
        return found


@dataclass(frozen=True, slots=True)
class Story:
    """A remediation.

    ``begin`` prepares so many resources, and says why each is looked at then; ``ends`` is the finding's state and
    ``applied`` what the ledger lists, the first first; ``policy`` is merged into the policy.
    """

    begin: Callable[[World, int], Causes]
    control_id: str
    ends: str
    applied: tuple[type[Action], ...]
    policy: Mapping[str, Any] = field(default_factory=dict)


def bare_vpcs(world: World, count: int) -> Causes:
    """Somebody creates VPCs."""
    return {world.member.make_vpc(): Cause("CreateVpc/e-1", Caller.TERRAFORM) for _ in range(count)}


def quiet_vpcs(world: World, count: int) -> Causes:
    """Nothing has happened to the VPCs for a while."""
    causes = bare_vpcs(world, count)
    world.settle(causes)
    return dict.fromkeys(causes, DUE)


def covered_vpcs(world: World, count: int) -> list[str]:
    """Return VPCs for which we have made an endpoint."""
    causes = quiet_vpcs(world, count)
    world.look(causes)
    return list(causes)


def another_table(world: World, count: int) -> Causes:
    """Somebody has added a route table with a subnet, and nothing has happened for a while."""
    vpc_ids, ec2 = covered_vpcs(world, count), world.member.ec2
    for vpc_id in vpc_ids:
        table_id = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
        subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        ec2.associate_route_table(RouteTableId=table_id, SubnetId=subnet_id)
    world.settle(dict.fromkeys(vpc_ids, Cause("AssociateRouteTable/e-2", Caller.TERRAFORM)))
    return dict.fromkeys(vpc_ids, DUE)


def quiet_instances(world: World, count: int) -> Causes:
    """Somebody has launched instances, and nothing has happened for a while."""
    causes = {world.member.launch(): Cause("RunInstances/e-1", Caller.TERRAFORM) for _ in range(count)}
    world.settle(causes)
    return dict.fromkeys(causes, DUE)


def approved_vpcs(world: World, count: int) -> Causes:
    """A person approves what the finding proposes."""
    causes = bare_vpcs(world, count)
    world.look(causes)
    return dict.fromkeys(causes, Cause("approval/e-2", request=Request(Ask.REMEDIATE, "VPCE.1", PAT)))


def their_endpoints_failed(world: World, count: int) -> Causes:
    """Their pipeline creates the endpoint that we have."""
    vpc_ids, tables = covered_vpcs(world, count), world.tables()
    conflicts = {name: Conflict("CreateVpcEndpoint", PAT, S3, (tables[name]["main"],)) for name in vpc_ids}
    return {name: Cause("CreateVpcEndpoint/e-2", Caller.TERRAFORM, conflict=one) for name, one in conflicts.items()}


def their_endpoints_failed_on_one_table(world: World, count: int) -> Causes:
    """Their pipeline creates an endpoint on one of the tables that ours has."""
    causes = another_table(world, count)
    world.look(causes)
    tables = world.tables()
    conflicts = {name: Conflict("CreateVpcEndpoint", PAT, S3, (tables[name]["other"],)) for name in causes}
    return {name: Cause("CreateVpcEndpoint/e-3", Caller.TERRAFORM, conflict=one) for name, one in conflicts.items()}


def their_deletions_failed(world: World, count: int) -> Causes:
    """Their pipeline deletes the VPC, in which our endpoint is what is left."""
    cause = Cause("DeleteVpc/e-2", Caller.TERRAFORM, conflict=Conflict("DeleteVpc", PAT))
    return dict.fromkeys(covered_vpcs(world, count), cause)


def covered_instances(world: World, count: int) -> list[str]:
    """Return instances to which we have given a profile."""
    causes = quiet_instances(world, count)
    world.look(causes)
    return list(causes)


def their_association_failed(world: World, count: int) -> Causes:
    """Their pipeline associates a profile of its own."""
    conflict = Conflict("AssociateIamInstanceProfile", PAT)
    cause = Cause("AssociateIamInstanceProfile/e-2", Caller.TERRAFORM, conflict=conflict)
    return dict.fromkeys(covered_instances(world, count), cause)


def undone_endpoints(world: World, count: int) -> Causes:
    """A person takes our endpoint back."""
    return undone(world, covered_vpcs(world, count), "VPCE.1")


def undone_tables(world: World, count: int) -> Causes:
    """A person takes the route tables back that we added."""
    causes = another_table(world, count)
    world.look(causes)
    return undone(world, list(causes), "VPCE.1")


def undone_profiles(world: World, count: int) -> Causes:
    """A person takes the instance profile back."""
    return undone(world, covered_instances(world, count), "ROLE.1")


def undone(world: World, resource_ids: list[str], control_id: str) -> Causes:
    """Ask for what the approval function makes of an undo: of the latest change."""
    changes = {name: str(state.latest(control_id)) for name, state in world.states(resource_ids).items()}
    requests = {name: Request(Ask.UNDO, control_id, PAT, change_id) for name, change_id in changes.items()}
    return {name: Cause("approval/e-3", request=request) for name, request in requests.items()}


CREATE, ADD, ASSOCIATE = CreateGatewayEndpoint, AddRouteTables, AssociateInstanceProfile
S3_ONLY = {"controls": {"VPCE.1": {"mode": "remediate"}}}
BOTH = {f"VPCE.{n}": {"mode": "remediate", "check_bucket_policies": True} for n in (1, 2)}
# A policy that names a unit has the function look the account's units up.
BOTH_IN_A_UNIT = {"controls": BOTH, "scopes": [{"name": "here", "where": {"units": ["ROOT"]}, "leave_alone": "12h"}]}
STORIES = {
    "hear of a VPC": Story(bare_vpcs, "VPCE.1", "FAILED", (), S3_ONLY),
    "create an endpoint": Story(quiet_vpcs, "VPCE.1", "PASSED", (CREATE,), S3_ONLY),
    "create two endpoints": Story(quiet_vpcs, "VPCE.2", "PASSED", (CREATE, CREATE), BOTH_IN_A_UNIT),
    "add route tables": Story(another_table, "VPCE.1", "PASSED", (CREATE, ADD), S3_ONLY),
    "associate a profile": Story(quiet_instances, "ROLE.1", "PASSED", (ASSOCIATE,)),
    "approve": Story(approved_vpcs, "VPCE.1", "PASSED", (CREATE,), {"controls": {"VPCE.1": {"mode": "approve"}}}),
    "make way": Story(their_endpoints_failed, "VPCE.1", "FAILED", (CREATE, DeleteEndpoint), S3_ONLY),
    "make way on one table": Story(
        their_endpoints_failed_on_one_table, "VPCE.1", "FAILED", (CREATE, ADD, RemoveFromEndpoint), S3_ONLY
    ),
    "make way for a deletion": Story(their_deletions_failed, "VPCE.1", "FAILED", (CREATE, DeleteEndpoint), S3_ONLY),
    "make way for a profile": Story(
        their_association_failed, "ROLE.1", "FAILED", (ASSOCIATE, DisassociateInstanceProfile)
    ),
    "undo an endpoint": Story(undone_endpoints, "VPCE.1", "FAILED", (CREATE, DeleteEndpoint), S3_ONLY),
    "undo route tables": Story(undone_tables, "VPCE.1", "FAILED", (CREATE, ADD, RemoveFromEndpoint), S3_ONLY),
    "undo a profile": Story(undone_profiles, "ROLE.1", "FAILED", (ASSOCIATE, DisassociateInstanceProfile)),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Return what stands before the calls, and let the processes share botocore's clients.

    To make clients anew takes longer than all else, and calls nothing.
    """
    made, real = dict[object, Any](), boto3.Session.client

    def client(session: boto3.Session, service: str, **options: Any) -> Any:
        key = (service, options.get("region_name"), options.get("aws_access_key_id"))
        if key not in made:
            made[key] = real(session, service, **options)  # type: ignore[call-overload]  # any service
        return made[key]

    monkeypatch.setattr(boto3.Session, "client", client)
    return Calls()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare what would take most of the time: moto copies the whole table, deeply, for each write of a transaction."""

    def light(table: Table, _: object) -> Table:
        twin = copy.copy(table)
        twin.items = defaultdict(dict, {key: dict(items) for key, items in table.items.items()})
        return twin

    monkeypatch.setattr(Table, "__deepcopy__", light, raising=False)
    monkeypatch.setattr(responses, "method_names_from_class", cache(responses.method_names_from_class))


@pytest.fixture
def _finding_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let GetFindings find by id, which moto does not; on one page, however many there are."""

    def get_findings(backend: Any, *, filters: dict[str, Any] | None = None, **_: Any) -> tuple[list[Any], None]:
        wanted = {one["Value"] for one in (filters or {}).get("Id", [])}
        return [one.as_dict() for one in backend.findings if not wanted or one.id in wanted], None

    monkeypatch.setattr(SecurityHubBackend, "get_findings", get_findings)


@pytest.fixture
def world(
    hub: Hub,
    member: Callable[..., Any],
    calls: Calls,
    clock: Clock,
    story: Story,
    *,
    session: boto3.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Return a world with the story's policy, in which nothing has happened yet and changes may be made."""
    for name, value in hub.environment("ReconcileFunction").items():
        monkeypatch.setenv(name, value)
    organizations: Any = session.client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    account = organizations.create_account(AccountName="member", Email="member@example.com")
    root = organizations.list_roots()["Roots"][0]["Id"]
    policy = json.loads(hub.policy_path.read_text(encoding="utf-8"))
    limits = {"changes_per_hour": {"account": 4000, "organisation": 4000}}  # the highest
    written = json.dumps(policy | {"limits": policy["limits"] | limits} | dict(story.policy))
    hub.policy_path.write_text(written.replace("ROOT", root), encoding="utf-8")
    hub.turn("enabled")
    account_id = account["CreateAccountStatus"]["AccountId"]
    someone = Member(member, account_id)
    someone.make_default_profile()
    place = {"LocationConstraint": REGION}
    member("s3", account_id).create_bucket(Bucket="example-bucket", CreateBucketConfiguration=place)
    yield World(hub, someone, clock, calls)
    assert hub.messages("WorkDeadLetters") == []
    assert hub.messages("WorkQueue") == []


def all_facts(world: World, resource_ids: list[str], control_id: str) -> dict[str, Facts]:
    """Return, for each resource, what must be the same wherever the process was stopped, without ids and times."""
    ec2, tables = world.member.ec2, world.tables()
    endpoints, ever = defaultdict[str, list[Any]](list), defaultdict[str, int](int)
    for item in ec2.describe_vpc_endpoints()["VpcEndpoints"]:
        ever[item["VpcId"]] += 1  # moto lists what is deleted, too
        if item["State"] != "deleted":
            on_it = [name for name, table_id in tables[item["VpcId"]].items() if table_id in item["RouteTableIds"]]
            endpoints[item["VpcId"]].append((item["ServiceName"], tuple(sorted(on_it))))
    profiles = defaultdict[str, list[str]](list)
    for item in ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]:
        profiles[item["InstanceId"]].append(item["IamInstanceProfile"]["Arn"])
    entries = defaultdict[str, list[Any]](list)
    changes = world.ledger.changes(world.clock.now() - timedelta(days=2), world.clock.now() + timedelta(days=1))
    for change in sorted(changes, key=lambda change: change.begun_at):
        entry = (type(change.action), change.progress, bool(change.undone_by), bool(change.undoes))
        entries[change.resource_id].append(entry)
    states, findings = world.states(resource_ids), world.member.findings()
    looks = [json.loads(body)["resource_id"] for body in world.hub.looks()]

    def facts(name: str) -> Facts:
        finding, state = findings[f"{control_id} {name}"], states[name]
        return {
            "endpoints": tuple(sorted(endpoints[name])),
            "endpoints ever made": ever[name],
            "profiles": tuple(profiles[name]),
            "finding": finding["Compliance"]["Status"],
            "record": finding["RecordState"],
            "announces a change": any(word in finding["Description"] for word in (" will ", " would ")),
            "ledger": tuple(entries[name]),
            "pending": state.pending,
            "ours": len(state.made),
            "held": bool(state.holds),
            "waiting": state.window is not None,
            "looks": looks.count(name),
            "answered": finding["Id"] in world.calls.notes,
        }

    return {name: facts(name) for name in resource_ids}


def redeliver(world: World, message: dict[str, Any]) -> None:
    """Deliver a message again until the function is done with it."""
    world.clock.ahead += REDELIVERED_AFTER
    for count in range(2, 5):
        message["attributes"]["ApproximateReceiveCount"] = str(count)
        if world.process(message) == NOTHING_FAILED:
            break
    else:
        pytest.fail(f"not done with {message['body']}")
    world.clock.ahead -= REDELIVERED_AFTER


_READS = re.compile(r"\.(AssumeRole|BatchGet|Describe|Get|List|Query)")


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
@pytest.mark.usefixtures("_finding_by_id", "_quick")
def test_a_crash_neither_doubles_nor_forgets_a_change(
    world: World, story: Story, record_property: Callable[[str, object], None]
) -> None:
    """Wherever the process is stopped, the next delivery ends where the first would have.

    Right after each call that changes something: what is before a call is what was after the last change before it.
    """
    ((name, cause),) = story.begin(world, 1).items()
    assert world.process(world.message(name, cause)) == NOTHING_FAILED
    made = list(world.calls.made)
    points = [(0, False)] + [(number, True) for number, call in enumerate(made) if not _READS.search(call)]
    expected = all_facts(world, [name], story.control_id)[name]
    entries: Any = expected["ledger"]
    assert (expected["finding"], [entry[:2] for entry in entries]) == (
        story.ends,
        [(kind, Progress.APPLIED) for kind in story.applied],
    )
    assert (expected["pending"], expected["answered"]) == ("", cause.request is not None)
    world.hub.fire()
    causes = story.begin(world, len(points))
    stopped = dict(zip(causes, points, strict=True))
    for name, (number, after) in stopped.items():
        message = world.message(name, causes[name])
        with pytest.raises(Stopped):
            world.process(message, stop_at=(number, after))
        assert world.calls.made == made[: number + 1]
        redeliver(world, message)
    found = all_facts(world, list(causes), story.control_id)
    wrong = {
        f"{'after' if after else 'before'} {number} {made[number]}": found[name].items() - expected.items()
        for name, (number, after) in stopped.items()
        if found[name] != expected
    }
    assert wrong == {}, expected
    record_property("crash_points", len(points))


@pytest.mark.parametrize("story", [STORIES["create an endpoint"]])
def test_an_endpoint_that_does_not_show_yet_is_not_created_again(world: World, story: Story) -> None:
    """The process is stopped when the endpoint is there, and the next one does not see it: the token is the same."""
    calm = story.begin(world, 1)
    assert world.process(*(world.message(*one) for one in calm.items())) == NOTHING_FAILED
    creation = world.calls.made.index("ec2.CreateVpcEndpoint")
    ((name, cause),) = story.begin(world, 1).items()
    message = world.message(name, cause)
    with pytest.raises(Stopped):
        world.process(message, stop_at=(creation, True))

    world.calls.hides_endpoints = True
    redeliver(world, message)

    assert "ec2.CreateVpcEndpoint" in world.calls.made
    facts = all_facts(world, [*calm, name], story.control_id)
    assert facts[name] == next(facts[one] for one in calm)
    assert facts[name]["endpoints ever made"] == 1
