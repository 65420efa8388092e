"""VPCE.1 and VPCE.2: a table of VPCs and their verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.actions import Action, AddRouteTables, CreateGatewayEndpoint
from portcullis.controls.vpce_1 import VPCE_1
from portcullis.controls.vpce_2 import VPCE_2
from portcullis.findings import Place, file_for
from portcullis.model import OWNERSHIP_TAG, Evaluation, Kind, RouteTable, Scope, Snapshot, Status, Vpc, VpcEndpoint
from portcullis.plan import Judge
from portcullis.policy import Mode, Subject, parse

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION, START, asff

if TYPE_CHECKING:
    from portcullis.controls import Control

S3, DYNAMODB, EXPRESS = (f"com.amazonaws.{REGION}.{short}" for short in ("s3", "dynamodb", "s3express"))
SERVICES = {"s3": S3, "dynamodb": DYNAMODB, "s3express": EXPRESS}
PASSED, FAILED, NOT_APPLICABLE = Status.PASSED, Status.FAILED, Status.NOT_APPLICABLE

MAIN = RouteTable("rtb-0", is_main=True)
SPARE = RouteTable("rtb-1")
USED = RouteTable("rtb-2", subnet_ids=("subnet-2",))
EDGE = RouteTable("rtb-3", gateway_ids=("igw-3",))
EDGE_WITH_SUBNET = RouteTable("rtb-4", subnet_ids=("subnet-4",), gateway_ids=("vgw-4",))
MAIN_EDGE = RouteTable("rtb-5", is_main=True, gateway_ids=("igw-5",))
REQUIRE = {"unassociated_route_tables": "require"}
IGNORE = {"unassociated_route_tables": "ignore"}


def endpoint(*tables: str, service: str = S3, ours: bool = False, name: str = "vpce-0", **others: Any) -> VpcEndpoint:
    """Return an available gateway endpoint of somebody else on the tables."""
    fields = {"endpoint_type": "Gateway", "state": "available", "tags": {OWNERSHIP_TAG: "true"} if ours else {}}
    return VpcEndpoint(
        endpoint_id=name, vpc_id="vpc-0", service_name=service, route_table_ids=tables, **(fields | others)
    )


def create(*tables: str, service: str = S3) -> CreateGatewayEndpoint:
    """Return the expected creation."""
    return CreateGatewayEndpoint("", "vpc-0", service, tables)


def add(endpoint_id: str, *tables: str, service: str = S3) -> AddRouteTables:
    """Return the expected addition."""
    return AddRouteTables("", "vpc-0", endpoint_id, service, tables)


@dataclass(frozen=True)
class Row:
    """One VPC, and what the control has to say."""

    name: str
    status: Status
    tables: tuple[RouteTable, ...] = (MAIN,)
    endpoints: tuple[VpcEndpoint, ...] = ()
    actions: tuple[Action, ...] = ()
    control: Control = VPCE_1
    parameters: dict[str, Any] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=lambda: dict(SERVICES))
    owner_id: str = ACCOUNT
    is_default: bool = False


CN = {"s3": "com.amazonaws.cn-north-1.s3", "dynamodb": "cn.com.amazonaws.cn-north-1.dynamodb"}
BOTH = {"services": ["s3", "s3express"]}
DDB = endpoint("rtb-0", service=DYNAMODB)

ROWS = (
    Row("bare VPC", FAILED, actions=(create("rtb-0"),)),
    Row("bare default VPC", FAILED, is_default=True, actions=(create("rtb-0"),)),
    Row("main covered", PASSED, endpoints=(endpoint("rtb-0"),)),
    Row("a table without association is ignored", PASSED, (MAIN, SPARE), (endpoint("rtb-0"),), parameters=IGNORE),
    Row("ignored by default too", PASSED, (MAIN, SPARE), (endpoint("rtb-0"),)),
    Row("or required", FAILED, (MAIN, SPARE), (endpoint("rtb-0"),), (create("rtb-1"),), parameters=REQUIRE),
    Row("a bare VPC does not touch a spare table", FAILED, (MAIN, SPARE), actions=(create("rtb-0"),)),
    Row("a table with a subnet", FAILED, (MAIN, USED), (endpoint("rtb-0"),), (create("rtb-2"),)),
    Row("tables in any order", FAILED, (USED, MAIN), (), (create("rtb-0", "rtb-2"),)),
    Row("an edge table never", PASSED, (MAIN, EDGE), (endpoint("rtb-0"),)),
    Row("an edge table not even when required", PASSED, (MAIN, EDGE), (endpoint("rtb-0"),), parameters=REQUIRE),
    Row("an edge table with a subnet never", PASSED, (MAIN, EDGE_WITH_SUBNET), (endpoint("rtb-0"),)),
    Row("main as edge, nothing else", PASSED, (MAIN_EDGE,)),
    Row("main as edge, and a table with a subnet", FAILED, (MAIN_EDGE, USED), (), (create("rtb-2"),)),
    Row("two endpoints share the tables", PASSED, (MAIN, USED), (endpoint("rtb-0"), endpoint("rtb-2", name="vpce-1"))),
    Row("one endpoint on both tables", PASSED, (MAIN, USED), (endpoint("rtb-0", "rtb-2"),)),
    Row("theirs on one table: ours is created", FAILED, (MAIN, USED), (endpoint("rtb-2"),), (create("rtb-0"),)),
    Row(
        "ours on one table: it is extended",
        FAILED,
        (MAIN, USED),
        (endpoint("rtb-0", ours=True),),
        (add("vpce-0", "rtb-2"),),
    ),
    Row(
        "theirs and ours: ours is extended",
        FAILED,
        (MAIN, USED, RouteTable("rtb-9", subnet_ids=("subnet-9",))),
        (endpoint("rtb-2"), endpoint("rtb-0", ours=True, name="vpce-1")),
        (add("vpce-1", "rtb-9"),),
    ),
    Row(
        "two of ours: always the same one",
        FAILED,
        (MAIN, USED),
        (endpoint("rtb-0", ours=True, name="vpce-b"), endpoint(ours=True, name="vpce-a")),
        (add("vpce-a", "rtb-2"),),
    ),
    Row(
        "ours is still pending: not touched",
        FAILED,
        (MAIN, USED),
        (endpoint("rtb-0", ours=True, state="pending"),),
        (create("rtb-2"),),
    ),
    Row(
        "our tag on what a service manages is not ours",
        FAILED,
        (MAIN, USED),
        (endpoint("rtb-0", ours=True, requester_managed=True),),
        (create("rtb-2"),),
    ),
    Row("what a service manages covers", PASSED, endpoints=(endpoint("rtb-0", requester_managed=True),)),
    Row("another value of our tag is not ours", FAILED, (MAIN, USED),
        (endpoint("rtb-0", tags={OWNERSHIP_TAG: "false"}),), (create("rtb-2"),)),
    *(
        Row(f"state {state} covers", PASSED, endpoints=(endpoint("rtb-0", state=state),))
        for state in ("available", "Available", "AVAILABLE", "pending", "Pending")
    ),
    *(
        Row(f"state {state} does not cover", FAILED, endpoints=(endpoint("rtb-0", state=state),),
            actions=(create("rtb-0"),))
        for state in ("deleting", "Deleting", "deleted", "failed", "rejected", "expired", "pendingAcceptance", "")
    ),
    Row("type gateway in lower case covers", PASSED, endpoints=(endpoint("rtb-0", endpoint_type="gateway"),)),
    Row("an S3 interface endpoint is no route", FAILED, (MAIN,), (endpoint(endpoint_type="Interface"),),
        (create("rtb-0"),)),
    Row("an interface endpoint of ours is not extended", FAILED, (MAIN,),
        (endpoint(endpoint_type="Interface", ours=True),), (create("rtb-0"),)),
    Row("a gateway endpoint on no table", FAILED, endpoints=(endpoint(),), actions=(create("rtb-0"),)),
    Row("ours on no table", FAILED, endpoints=(endpoint(ours=True),), actions=(add("vpce-0", "rtb-0"),)),
    Row("s3express is not s3", FAILED, endpoints=(endpoint("rtb-0", service=EXPRESS),), actions=(create("rtb-0"),)),
    Row("DynamoDB's is not S3's", FAILED, endpoints=(DDB,), actions=(create("rtb-0"),)),
    Row("S3's is not DynamoDB's", FAILED, endpoints=(endpoint("rtb-0"),),
        actions=(create("rtb-0", service=DYNAMODB),), control=VPCE_2),
    Row("DynamoDB covered", PASSED, endpoints=(DDB,), control=VPCE_2),
    Row("both services required, both missing", FAILED,
        actions=(create("rtb-0"), create("rtb-0", service=EXPRESS)), parameters=BOTH),
    Row("both required, one missing", FAILED, endpoints=(endpoint("rtb-0"),),
        actions=(create("rtb-0", service=EXPRESS),), parameters=BOTH),
    Row("both required, the Region offers one", PASSED, endpoints=(endpoint("rtb-0"),), parameters=BOTH,
        services={"s3": S3}),
    Row("shared by another account", NOT_APPLICABLE, owner_id=OTHER_ACCOUNT),
    Row("shared, and covered", NOT_APPLICABLE, endpoints=(endpoint("rtb-0"),), owner_id=OTHER_ACCOUNT),
    Row("the Region offers no such service", NOT_APPLICABLE, services={"dynamodb": DYNAMODB}),
    Row("the Region offers none at all", NOT_APPLICABLE, services={}),
    Row("China, S3", FAILED, actions=(create("rtb-0", service=CN["s3"]),), services=CN),
    Row("China, DynamoDB", FAILED, actions=(create("rtb-0", service=CN["dynamodb"]),), control=VPCE_2, services=CN),
    Row("China, covered", PASSED, endpoints=(endpoint("rtb-0", service=CN["dynamodb"]),), control=VPCE_2,
        services=CN),
)  # fmt: skip


def judge(row: Row) -> Evaluation:
    """Evaluate a row's VPC."""
    vpc = Vpc("vpc-0", row.owner_id, row.is_default, route_tables=row.tables, endpoints=row.endpoints)
    scope = Scope(ACCOUNT, REGION, frozenset({"vpc-0"}))
    snapshot = Snapshot(scope, vpcs={"vpc-0": vpc}, gateway_services=row.services)
    policy = parse({"version": 1, "controls": {row.control.id: {"mode": "remediate"} | row.parameters}})
    settings = policy.settings(Subject(ACCOUNT, (), REGION, Kind.VPC, "vpc-0"), row.control.id)
    return row.control.evaluate(snapshot, vpc, settings)


def without_control(action: Action) -> Action:
    """Blank out the control id, which another assertion checks."""
    assert isinstance(action, CreateGatewayEndpoint | AddRouteTables)
    return replace(action, control_id="")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdict_and_actions(row: Row) -> None:
    """Each VPC gets its verdict, and exactly the actions that would make it right."""
    evaluation = judge(row)

    assert evaluation.status is row.status
    assert tuple(map(without_control, evaluation.actions)) == row.actions
    assert {action.control_id for action in evaluation.actions} <= {row.control.id}
    assert (evaluation.control_id, evaluation.kind, evaluation.resource_id) == (row.control.id, Kind.VPC, "vpc-0")
    assert evaluation.reason.endswith(".")
    assert bool(evaluation.remedy) is (row.status is FAILED)
    assert evaluation.wait is None


@pytest.mark.parametrize("row", [row for row in ROWS if row.status is FAILED], ids=lambda row: row.name)
def test_after_the_actions_nothing_is_left_to_do(row: Row) -> None:
    """Carrying the actions out makes the VPC pass: no second round, no route twice in a table."""
    endpoints = {held.endpoint_id: held for held in row.endpoints}
    for number, action in enumerate(judge(row).actions):
        assert isinstance(action, CreateGatewayEndpoint | AddRouteTables)
        if isinstance(action, AddRouteTables):
            tables = (*endpoints[action.endpoint_id].route_table_ids, *action.route_table_ids)
            made = endpoint(*tables, service=action.service_name, ours=True, name=action.endpoint_id)
        else:
            made = endpoint(*action.route_table_ids, service=action.service_name, name=f"vpce-new-{number}")
        endpoints[made.endpoint_id] = made
    done = Row(
        row.name,
        PASSED,
        row.tables,
        tuple(endpoints.values()),
        control=row.control,
        parameters=row.parameters,
        services=row.services,
    )

    assert judge(done).status is PASSED


def reason(*tables: RouteTable, endpoints: tuple[VpcEndpoint, ...] = (), **parameters: str) -> str:
    """Return the sentence about a VPC that fails."""
    return judge(Row("", FAILED, tables, endpoints, parameters=parameters)).reason


class TestReasons:
    """The sentence names what is missing, where, so that a person can find it."""

    def test_the_main_table_is_called_main_and_comes_first(self) -> None:
        """The table that most subnets use leads."""
        assert reason(USED, MAIN) == f"vpc-0: No {S3} gateway endpoint on rtb-0 (main), rtb-2 (subnet-2)."

    def test_many_subnets_are_counted(self) -> None:
        """One subnet is named, the others are a number."""
        table = RouteTable("rtb-7", subnet_ids=("subnet-b", "subnet-a", "subnet-c"))
        assert reason(table) == f"vpc-0: No {S3} gateway endpoint on rtb-7 (subnet-a +2)."

    def test_a_spare_table_says_that_it_has_no_subnet(self) -> None:
        """Its reader wonders why it matters otherwise."""
        text = reason(SPARE, unassociated_route_tables="require")
        assert text == f"vpc-0: No {S3} gateway endpoint on rtb-1 (no subnet yet)."

    def test_one_endpoint_elsewhere_is_named_in_the_singular(self) -> None:
        """There is an endpoint, and it is not on these tables."""
        text = reason(MAIN, USED, endpoints=(endpoint("rtb-0"),))
        assert text == f"vpc-0: No {S3} gateway endpoint on rtb-2 (subnet-2); vpce-0 covers only other tables."

    def test_several_endpoints_elsewhere_are_named_in_the_plural(self) -> None:
        """The sentence stays a sentence."""
        others = (endpoint("rtb-0"), endpoint("rtb-1", name="vpce-1"))
        text = reason(MAIN, USED, endpoints=others)
        assert text == f"vpc-0: No {S3} gateway endpoint on rtb-2 (subnet-2); vpce-0, vpce-1 cover only other tables."

    def test_an_endpoint_on_no_table_is_said_to_cover_none(self) -> None:
        """It does not cover other tables: it covers nothing, which its reader has to know."""
        text = reason(MAIN, endpoints=(endpoint(),))
        assert text == f"vpc-0: No {S3} gateway endpoint on rtb-0 (main); vpce-0 covers no table."

    def test_two_services_are_two_sentences(self) -> None:
        """Both gaps are named."""
        text = judge(Row("", FAILED, parameters=BOTH)).reason
        assert (
            text == f"vpc-0: No {S3} gateway endpoint on rtb-0 (main). No {EXPRESS} gateway endpoint on rtb-0 (main)."
        )

    def test_a_shared_vpc_names_its_owner(self) -> None:
        """The reader learns who can do something."""
        assert OTHER_ACCOUNT in judge(Row("", NOT_APPLICABLE, owner_id=OTHER_ACCOUNT)).reason

    def test_a_region_without_the_service_is_named(self) -> None:
        """The reader learns why nothing is asked for."""
        assert judge(Row("", NOT_APPLICABLE, services={})).reason == f"{REGION} offers no gateway endpoint for s3."

    @pytest.mark.parametrize("mode", [Mode.DETECT, Mode.REMEDIATE])
    def test_hundreds_of_tables_stay_within_the_limits_of_a_finding(self, mode: Mode) -> None:
        """200 tables with ids as long as AWS's: five are named or counted, the finding is valid."""
        tables = tuple(RouteTable(f"rtb-{n:017x}", subnet_ids=(f"subnet-{n:017x}",)) for n in range(200))
        vpc = Vpc("vpc-0", ACCOUNT, route_tables=(MAIN, *tables))
        snapshot = Snapshot(Scope(ACCOUNT, REGION), vpcs={"vpc-0": vpc}, gateway_services=SERVICES)
        policy = parse({"version": 1, "controls": {"VPCE.1": {"mode": mode}}})

        (decision,) = Judge(policy, ACCOUNT, REGION, (), [VPCE_1]).judge(snapshot, [(Kind.VPC, "vpc-0")], START)
        filing = file_for(Place("aws", ACCOUNT, REGION), decision, (), None, START)

        assert filing
        assert asff.faults(filing.finding) == []
        assert filing.finding["Description"].startswith(f"vpc-0: No {S3} gateway endpoint on rtb-0 (main), ")
        assert " and 197 more." in filing.finding["Description"]
