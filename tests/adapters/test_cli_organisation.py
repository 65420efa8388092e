"""What people ask of a deployed hub by the command line: a sweep, the matrix of coverage, and enrolment by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError
from click.testing import CliRunner, Result
from portcullis.adapters.calls import translated
from portcullis.adapters.clock import SystemClock
from portcullis.adapters.coverage_store import DynamoDbCoverageStore
from portcullis.cli import enrolment, main, organisation
from portcullis.coverage import Answer, Problem
from portcullis.errors import PortcullisError

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, REGION, TABLE, Script

if TYPE_CHECKING:
    from collections.abc import Callable

HUB = "123456789012"
MANAGEMENT = "555566667777"
OUTPUTS = {
    "ReconcileRoleArn": "arn:aws:iam::123456789012:role/portcullis-reconcile",
    "SweepRoleArn": "arn:aws:iam::123456789012:role/portcullis-sweep",
    "HubBusArn": "arn:aws:events:eu-central-1:123456789012:event-bus/portcullis",
    "OrganizationId": "o-a1b2c3d4e5",
    "ObserverRoleName": "portcullis-observer",
    "RemediatorRoleName": "portcullis-remediator",
    "GovernedRegions": "eu-central-1,us-east-1",
}
MACHINE = f"arn:aws-cn:states:{REGION}:{HUB}:stateMachine:portcullis-sweep"


class Session:
    """Gives prepared clients of services, and remembers for which Regions they were asked."""

    region_name = REGION

    def __init__(self, **clients: Any) -> None:
        self.clients = clients
        self.regions: list[str | None] = []

    def client(self, service: str, region_name: str | None = None) -> Any:
        """Return the prepared client."""
        self.regions.append(region_name)
        return self.clients[service]


@pytest.fixture
def store(table: Any) -> DynamoDbCoverageStore:
    """Return the coverage store over a table in moto, at the real time."""
    return DynamoDbCoverageStore(table, TABLE, SystemClock())


@pytest.fixture
def hub(
    store: DynamoDbCoverageStore, table: Any, script: Callable[[str], Script], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Script]:
    """Let the command line reach a hub whose table is in moto and whose other services answer from scripts."""
    scripts = {name: script(name) for name in ("sts", "stepfunctions", "organizations", "cloudformation")}
    session = Session(dynamodb=table, **{name: one.client for name, one in scripts.items()})
    monkeypatch.setattr(boto3, "Session", lambda **_: session)
    monkeypatch.setattr(organisation, "_POLL_SECONDS", 0)
    for region in (REGION, "us-east-1"):
        store.list_place(ACCOUNT, region)
        store.heard(ACCOUNT, region)
        store.answered(ACCOUNT, region, Answer("before"))
    return scripts


def refusal(code: str) -> ClientError:
    """Return an error of AWS."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Call")


def run(*arguments: str) -> Result:
    """Run the command line."""
    return CliRunner().invoke(main, list(arguments))


def describe_organisation(scripts: dict[str, Script], times: int = 1) -> None:
    """Let Organizations name the management account."""
    for _ in range(times):
        scripts["organizations"].expect("describe_organization", {"Organization": {"MasterAccountId": MANAGEMENT}})


class TestCoverage:
    """Who takes part."""

    def test_all_is_well(self, hub: dict[str, Script]) -> None:
        """A matrix of accounts and Regions, an explanation of its word, and exit status 0."""
        describe_organisation(hub)

        result = run("coverage")

        assert (result.exit_code, result.stdout.splitlines()) == (
            0,
            [
                "account       eu-central-1  us-east-1",
                f"{ACCOUNT}  ok            ok",
                "",
                "ok: events arrive, and the last sweep saw everything",
            ],
        )

    def test_who_is_missing_is_named_with_reason_and_remedy(
        self, hub: dict[str, Script], store: DynamoDbCoverageStore
    ) -> None:
        """Exit status 1; who has just sent a first heartbeat is new; "-" is what is not governed."""
        describe_organisation(hub)
        store.list_place(OTHER_ACCOUNT, REGION)
        store.answered(OTHER_ACCOUNT, REGION, Answer("before", Problem.SECURITY_HUB))
        store.heard("999988887777", REGION)

        result = run("coverage")

        assert result.exit_code == 1
        assert result.stdout.splitlines()[2] == f"{OTHER_ACCOUNT}  no hub        -"
        assert f"no hub: {OTHER_ACCOUNT} {REGION}: Security Hub is switched off" in result.stdout
        assert "999988887777  new           -" in result.stdout

    def test_as_json(self, hub: dict[str, Script]) -> None:
        """The same for machines."""
        describe_organisation(hub)

        answer = json.loads(run("coverage", "--output", "json").stdout)

        assert [(one["account_id"], one["region"], one["state"], one["covered"]) for one in answer] == [
            (ACCOUNT, REGION, "ok", True),
            (ACCOUNT, "us-east-1", "ok", True),
        ]

    def test_before_the_first_sweep(self, hub: dict[str, Script], table: Any) -> None:
        """An empty table says what to do; who may not describe the organisation still gets an answer."""
        hub["organizations"].refuse("describe_organization", "AccessDeniedException")
        for region in (REGION, "us-east-1"):
            DynamoDbCoverageStore(table, TABLE, SystemClock()).forget(ACCOUNT, region)

        result = run("coverage")

        assert (result.exit_code, result.stdout) == (
            0,
            "No account is known yet: the first sweep lists them (portcullis sweep).\n",
        )

    def test_a_hub_that_cannot_be_reached(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A profile that does not exist is one sentence and exit status 2, never a traceback."""
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

        result = run("coverage", "--profile", "nobody", "--region", REGION)

        assert result.exit_code == 2
        problem, remedy = result.stderr.splitlines()
        assert problem == "portcullis: The config profile (nobody) could not be found"
        assert "--profile" in remedy

    @pytest.mark.parametrize(
        ("error", "hinted"),
        [
            (NoCredentialsError(), True),
            (NoRegionError(), True),
            (refusal("AccessDeniedException"), True),
            (refusal("ExpiredToken"), True),
            (refusal("ResourceNotFoundException"), True),
            (refusal("ThrottlingException"), False),
            (EndpointConnectionError(endpoint_url="https://x"), False),
            (PortcullisError("no"), False),
        ],
    )
    def test_other_credentials_are_asked_for_where_they_may_help(self, error: Exception, *, hinted: bool) -> None:
        """Those of nobody, of somebody who may not, or of an account without a hub."""
        assert organisation.is_access(error) is hinted

    def test_also_where_the_error_is_one_of_ours(self) -> None:
        """Then its cause counts."""
        with pytest.raises(PortcullisError) as caught, translated("reading"):
            raise refusal("AccessDenied")
        assert organisation.is_access(caught.value)


class TestSweep:
    """A sweep by hand."""

    def _start(self, scripts: dict[str, Script], *statuses: str) -> None:
        scripts["sts"].expect(
            "get_caller_identity", {"Account": HUB, "Arn": f"arn:aws-cn:sts::{HUB}:assumed-role/admin/me"}
        )
        arn = f"arn:aws-cn:states:{REGION}:{HUB}:execution:portcullis-sweep:by-hand"
        started = {"executionArn": arn, "startDate": datetime.now(UTC)}
        scripts["stepfunctions"].expect("start_execution", started)
        for status in statuses:
            described = {
                "executionArn": arn,
                "stateMachineArn": MACHINE,
                "status": status,
                "startDate": datetime.now(UTC),
            }
            scripts["stepfunctions"].expect("describe_execution", described)

    def test_it_is_followed_to_its_end(self, hub: dict[str, Script], store: DynamoDbCoverageStore) -> None:
        """Progress on standard error, the matrix on standard output; the state machine of this partition and Region."""
        self._start(hub, "RUNNING", "RUNNING", "SUCCEEDED")
        describe_organisation(hub)
        store.answered(ACCOUNT, REGION, Answer("by-hand"))

        result = run("sweep")

        assert result.exit_code == 0, result.output
        ((_, request),) = [one for one in hub["stepfunctions"].requests if one[0] == "StartExecution"]
        assert request["stateMachineArn"] == MACHINE
        assert result.stderr.splitlines() == [
            "1 of 2 account-Regions looked at, running",
            "1 of 2 account-Regions looked at, succeeded",
        ]
        assert f"{ACCOUNT}  ok            ok" in result.stdout

    def test_progress_stays_on_one_line_of_a_terminal(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A terminal shows one line that changes."""
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)

        assert organisation.show_progress(iter([(0, 2, "RUNNING"), (2, 2, "SUCCEEDED")])) == "SUCCEEDED"

        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        assert shown.endswith("2 of 2 account-Regions looked at, succeeded\n")

    def test_one_that_fails(self, hub: dict[str, Script]) -> None:
        """Exit status 2, and where to look."""
        self._start(hub, "FAILED")
        describe_organisation(hub)

        result = run("sweep")

        assert result.exit_code == 2
        assert "portcullis: the sweep ended as FAILED; see arn:aws-cn:states:" in result.stderr

    def test_without_waiting(self, hub: dict[str, Script]) -> None:
        """It is started, and nothing else is asked."""
        self._start(hub)

        result = run("sweep", "--no-wait")

        assert (result.exit_code, result.stdout.split()[0]) == (0, "started")


class TestEnrolment:
    """The member stacks by hand."""

    @staticmethod
    def _stack(status: str) -> dict[str, Any]:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
        stack = {"StackName": "any", "CreationTime": datetime.now(UTC), "StackStatus": status, "Outputs": outputs}
        return {"Stacks": [stack]}

    def test_both_stacks_are_created_with_the_hubs_outputs(self, hub: dict[str, Script]) -> None:
        """One account stack in the hub's Region and a Region stack in each; exactly the parameters of each template."""
        cloudformation = hub["cloudformation"]
        cloudformation.expect("describe_stacks", self._stack("CREATE_COMPLETE"))
        for _ in range(3):
            cloudformation.expect("create_stack", {})
            cloudformation.expect("describe_stacks", self._stack("CREATE_COMPLETE"))

        result = run("enrol", "--hub-profile", "hub", "--profile", "management", "--region", REGION, "--yes")

        assert result.stdout.splitlines() == [
            f"portcullis-member-account in {REGION}: created",
            f"portcullis-member-region in {REGION}: created",
            "portcullis-member-region in us-east-1: created",
        ]
        created = [request for name, request in cloudformation.requests if name == "CreateStack"]
        assert [sorted(p["ParameterKey"] for p in request["Parameters"]) for request in created] == [
            ["ObserverRoleName", "OrganizationId", "ReconcileRoleArn", "RemediatorRoleName", "SweepRoleArn"],
            ["HubBusArn"],
            ["HubBusArn"],
        ]
        assert all(request["Capabilities"] == ["CAPABILITY_NAMED_IAM"] for request in created)

    def test_stacks_that_exist_are_updated(self, script: Callable[[str], Script]) -> None:
        """Run again, it brings them up to date, and says where nothing had to be done."""
        cloudformation = script("cloudformation")
        for refusal in (None, "No updates are to be performed."):
            cloudformation.refuse("create_stack", "AlreadyExistsException")
            if refusal:
                cloudformation.refuse("update_stack", "ValidationError", refusal)
            else:
                cloudformation.expect("update_stack", {})
                cloudformation.expect("describe_stacks", self._stack("UPDATE_COMPLETE"))
        session = Session(cloudformation=cloudformation.client)

        done = list(enrolment.enrol(session, {**OUTPUTS, "GovernedRegions": REGION}))

        assert [line.rsplit(": ")[-1] for line in done] == ["updated", "up to date"]
        assert session.regions == [REGION, REGION]

    def test_a_refused_update_is_told(self, hub: dict[str, Script]) -> None:
        """An error of CloudFormation is one sentence and exit status 2."""
        hub["cloudformation"].expect("describe_stacks", self._stack("CREATE_COMPLETE"))
        hub["cloudformation"].refuse("create_stack", "AlreadyExistsException")
        hub["cloudformation"].refuse("update_stack", "ValidationError", "the stack is in ROLLBACK_COMPLETE")

        result = run("enrol", "--hub-profile", "hub", "--profile", "management", "--region", REGION, "--yes")

        assert result.exit_code == 2
        assert "ROLLBACK_COMPLETE" in result.stderr
        assert "Is this a profile" not in result.stderr

    def test_removal_deletes_the_region_stacks_first(self, hub: dict[str, Script]) -> None:
        """The account's roles go last."""
        hub["cloudformation"].expect("describe_stacks", self._stack("CREATE_COMPLETE"))
        for _ in range(3):
            hub["cloudformation"].expect("delete_stack", {})
            hub["cloudformation"].expect("describe_stacks", self._stack("DELETE_COMPLETE"))

        arguments = ["--hub-profile", "hub", "--profile", "management", "--region", REGION, "--yes", "--remove"]
        result = run("enrol", *arguments)

        assert [line.split(" in ")[0] for line in result.stdout.splitlines()] == [
            "portcullis-member-region",
            "portcullis-member-region",
            "portcullis-member-account",
        ]


def test_an_account_region_is_silent_after_a_day(hub: dict[str, Script], table: Any) -> None:
    """The matrix judges by the time of asking, not by that of the last sweep."""
    describe_organisation(hub)
    past = SystemClock().now() - timedelta(hours=30)

    class Then:
        def now(self) -> datetime:
            return past

    DynamoDbCoverageStore(table, TABLE, Then()).heard(ACCOUNT, REGION)

    result = run("coverage")

    assert result.exit_code == 1
    assert f"{ACCOUNT}  silent        ok" in result.stdout
