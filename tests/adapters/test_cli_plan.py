"""``portcullis plan`` from a terminal: whose accounts it looks at, with which rights, and how it ends."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from click.testing import CliRunner, Result
from portcullis.cli import main, recording
from portcullis.model import Kind, Needs, Scope

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OWN_ACCOUNT = "123456789012"  # whose moto's credentials are
MODES = {name: {"mode": "remediate"} for name in ("VPCE.1", "VPCE.2", "ROLE.1")}
POLICY: dict[str, Any] = {"version": 1, "controls": MODES}
IN_UNITS = POLICY | {
    "scopes": [{"name": "x", "where": {"units": ["ou-ab12-12345678"]}, "controls": {"VPCE.1": {"mode": "off"}}}]
}
READS = ("Describe", "List", "Get", "AssumeRole", "Simulate")

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return the file of a policy that mends everything."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(POLICY), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be profiles, all with the keys of one account; and a default Region, whatever the profile."""
    keys = "aws_access_key_id = testing\naws_secret_access_key = testing\n"
    path = tmp_path / "credentials"
    path.write_text("".join(f"[{name}]\n{keys}" for name in ("a", "b", "hub")), encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))


@pytest.fixture(autouse=True)
def _reading_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """See to it that every call of the command only reads."""
    operations: list[str] = []

    class Session(boto3.Session):
        """A session that notes the operations of its clients."""

        def client(self, *names: Any, **arguments: Any) -> Any:
            """Return a client."""
            client: Any = super().client(*names, **arguments)
            client.meta.events.register("before-call", lambda model, **_: operations.append(model.name))
            client.meta.events.register("before-call.ec2.DescribeInstanceConnectEndpoints", lambda **_: none)
            return client

    # moto does not know the call.
    none: Any = (SimpleNamespace(status_code=200), {"InstanceConnectEndpoints": []})
    monkeypatch.setattr(boto3, "Session", Session)
    yield
    assert all(name.startswith(READS) for name in operations), operations


@pytest.fixture
def run(policy: Path) -> Callable[..., Result]:
    """Run the command with a policy."""

    def command(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["plan", "--policy", str(policy), *map(str, arguments)])

    return command


def made(ec2: Any) -> str:
    """Create a VPC; moto has default ones, too, which go."""
    for vpc in ec2.describe_vpcs()["Vpcs"]:
        for subnet in ec2.describe_subnets()["Subnets"]:
            ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        ec2.delete_vpc(VpcId=vpc["VpcId"])
    vpc_id: str = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return vpc_id


def findings(result: Result) -> list[tuple[str, str, str, str, str]]:
    """Return where each finding is, what it is about, and what would be done."""
    names = ("account_id", "region", "control_id", "resource_id", "would")
    return [tuple(one[name] for name in names) for one in json.loads(result.stdout)["findings"]]


def test_the_callers_own_account(run: Callable[..., Result], session: boto3.Session) -> None:
    """With the default credentials, in the default Region; progress is on standard error. Wrong is exit status 1."""
    vpc_id = made(session.client("ec2", region_name=REGION))

    result = run("--output", "json")

    assert result.exit_code == 1
    assert findings(result) == [(OWN_ACCOUNT, REGION, name, vpc_id, "change") for name in ("VPCE.1", "VPCE.2")]
    action = json.loads(result.stdout)["findings"][0]["actions"][0]
    assert (action["type"], action["vpc_id"]) == ("CreateGatewayEndpoint", vpc_id)
    assert result.stderr == f"looking at {OWN_ACCOUNT} {REGION}\n"


def test_a_clean_account_is_exit_status_0(run: Callable[..., Result], session: boto3.Session) -> None:
    """Nothing is wrong; with --all, what is right is listed."""
    ec2 = session.client("ec2", region_name=REGION)
    vpc_id = made(ec2)
    (table,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"]
    for service in ("s3", "dynamodb"):
        name = f"com.amazonaws.{REGION}.{service}"
        ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=name, RouteTableIds=[table["RouteTableId"]])

    result = run()

    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "Nothing is to be done.")
    assert "  passed: VPCE.1 1, VPCE.2 1" in result.stdout.splitlines()
    listed = run("--all", "--output", "json")
    assert [one[4] for one in findings(listed)] == ["nothing", "nothing"]


def test_one_control(run: Callable[..., Result], session: boto3.Session) -> None:
    """Only what is asked for is judged."""
    vpc_id = made(session.client("ec2", region_name=REGION))
    result = run("--control", "VPCE.2", "--output", "json")
    assert findings(result) == [(OWN_ACCOUNT, REGION, "VPCE.2", vpc_id, "change")]
    assert run("--control", "ROLE.1").exit_code == 0


@pytest.mark.parametrize("output", ["csv", "sarif"])
def test_other_formats(run: Callable[..., Result], session: boto3.Session, output: str) -> None:
    """On standard output, alone."""
    vpc_id = made(session.client("ec2", region_name=REGION))
    result = run("--output", output)
    assert result.exit_code == 1
    assert result.stdout.startswith("account_id,region," if output == "csv" else "{\n")
    assert vpc_id in result.stdout


def test_accounts_by_a_role(run: Callable[..., Result], member: Callable[..., Any]) -> None:
    """Every Region of every account, through the role that is named; the order is that of the options."""
    vpc_ids = {
        (account_id, region): made(member("ec2", account_id, region))
        for account_id in (OTHER_ACCOUNT, ACCOUNT)
        for region in (OTHER_REGION, REGION)
    }
    accounts = ("--role-name", "people", "--account", OTHER_ACCOUNT, "--account", ACCOUNT)

    result = run(*accounts, "--region", OTHER_REGION, "--region", REGION, "--output", "json", "--control", "VPCE.1")

    assert findings(result) == [(*place, "VPCE.1", vpc_id, "change") for place, vpc_id in vpc_ids.items()]
    assert result.stderr.splitlines() == [f"looking at {' '.join(place)}" for place in vpc_ids]


def test_two_profiles_of_one_account_are_one(run: Callable[..., Result], session: boto3.Session) -> None:
    """It is looked at once."""
    made(session.client("ec2", region_name=REGION))
    result = run("--profile", "a", "--profile", "b", "--region", REGION)
    assert result.stderr == f"looking at {OWN_ACCOUNT} {REGION}\n"


def test_what_cannot_be_read_is_named_and_the_rest_shown(run: Callable[..., Result], session: boto3.Session) -> None:
    """A profile that there is not, a Region that there is not: exit status 2, and the findings elsewhere."""
    vpc_id = made(session.client("ec2", region_name=REGION))

    profiles = ("--profile", "none", "--profile", "a")
    result = run(*profiles, "--region", REGION, "--region", "not a Region", "--output", "json")

    assert result.exit_code == 2
    assert [one[3] for one in findings(result)] == [vpc_id] * 2
    assert result.stderr.splitlines()[:2] == [
        f"looking at {OWN_ACCOUNT} {REGION}",
        f"looking at {OWN_ACCOUNT} not a Region",
    ]
    profile, region = result.stderr.splitlines()[2:]
    assert profile == "portcullis: profile none: The config profile (none) could not be found"
    assert region.startswith(f"portcullis: {OWN_ACCOUNT} not a Region: ")
    assert len(json.loads(result.stdout)["problems"]) == 2
    assert len(json.loads(result.stdout)["places"]) == 1


def test_a_role_that_cannot_be_assumed(
    run: Callable[..., Result], script: Callable[[str], Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is named by its account, and the next account is tried. The partition is that of the caller."""
    sts = script("sts")
    for _ in range(2):
        sts.expect("get_caller_identity", {"Arn": "arn:aws-cn:iam::1:user/x", "Account": "1", "UserId": "x"})
        sts.refuse("assume_role", "AccessDenied")

    class Session:
        """Gives the scripted client."""

        region_name = REGION

        def client(self, service: str, **_: Any) -> Any:
            """Return a client."""
            assert service == "sts"
            return sts.client

    monkeypatch.setattr(boto3, "Session", lambda **_: Session())

    result = run("--role-name", "people", "--account", ACCOUNT, "--account", OTHER_ACCOUNT)

    assert (result.exit_code, result.stdout) == (2, "Nothing could be read.\n")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"portcullis: account {ACCOUNT}: An error occurred (AccessDenied)")
    assert second.startswith(f"portcullis: account {OTHER_ACCOUNT}: ")
    assert sts.requests[1][1]["RoleArn"] == f"arn:aws-cn:iam::{ACCOUNT}:role/people"


def failing(monkeypatch: pytest.MonkeyPatch, region: str, call: str, error: Exception) -> None:
    """Let a call fail in a Region."""

    def fail(**_: Any) -> None:
        raise error

    class Session(boto3.Session):
        """A session whose clients of that Region cannot make the call."""

        def client(self, *names: Any, **arguments: Any) -> Any:
            """Return a client."""
            client: Any = super().client(*names, **arguments)
            if arguments["region_name"] == region:
                client.meta.events.register(f"before-call.{call}", fail)
            return client

    monkeypatch.setattr(boto3, "Session", Session)


def test_whatever_goes_wrong_in_one_place_the_others_are_shown(
    run: Callable[..., Result], session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what nobody foresaw: one line with its type, not a traceback."""
    vpc_id = made(session.client("ec2", region_name=REGION))
    failing(monkeypatch, OTHER_REGION, "ec2.DescribeVpcs", KeyError("VpcId"))

    result = run("--region", OTHER_REGION, "--region", REGION, "--output", "json", "--control", "VPCE.1")

    assert result.exit_code == 2
    assert findings(result) == [(OWN_ACCOUNT, REGION, "VPCE.1", vpc_id, "change")]
    assert result.stderr.splitlines()[-1] == f"portcullis: {OWN_ACCOUNT} {OTHER_REGION}: KeyError: 'VpcId'"


def test_what_could_not_be_told_is_a_problem(
    run: Callable[..., Result], policy: Path, session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is wrong, as far as was seen, and yet the exit status is not 0."""
    policy.write_text(json.dumps({"version": 1, "controls": {"VPCE.3": {"mode": "detect", "services": ["ssm"]}}}))
    ec2 = session.client("ec2", region_name=REGION)
    vpc_id = made(ec2)
    ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/24")
    failing(monkeypatch, REGION, "route-53.ListHostedZonesByVPC", EndpointConnectionError(endpoint_url="x"))

    result = run()

    assert (result.exit_code, result.stdout.splitlines()[-1]) == (2, "Nothing is to be done where it could be read.")
    problem = f"{OWN_ACCOUNT} {REGION}: Route 53 did not tell the hosted zones of {vpc_id} this time."
    assert result.stderr.splitlines()[-1] == f"portcullis: {problem}"


class TestUnits:
    """The policy may depend on organisational units, which are given or looked up."""

    @pytest.fixture(autouse=True)
    def _vpc(self, aws: None, policy: Path, session: boto3.Session) -> None:  # noqa: ARG002 -- inside moto
        """Have a policy that depends on units, and a VPC."""
        policy.write_text(json.dumps(IN_UNITS), encoding="utf-8")
        made(session.client("ec2", region_name=REGION))

    def test_given(self, run: Callable[..., Result]) -> None:
        """A scope that names one of them matches."""
        result = run("--unit", "r-ab12", "--unit", "ou-ab12-12345678", "--output", "json")
        assert [one[2] for one in findings(result)] == ["VPCE.2"]
        assert "units" not in result.stderr

    def test_not_given(self, run: Callable[..., Result]) -> None:
        """Then there are none, and that is said."""
        result = run("--output", "json")
        assert [one[2] for one in findings(result)] == ["VPCE.1", "VPCE.2"]
        assert result.stderr.startswith("The policy depends on units, and none are given: it is assumed")

    def test_looked_up(self, run: Callable[..., Result], session: boto3.Session) -> None:
        """With another profile, from AWS Organizations; an organisation that cannot be read is a problem."""
        assert run("--hub-profile", "none").exit_code == 2
        failed = run("--hub-profile", "hub")
        assert failed.exit_code == 2
        assert f"portcullis: {OWN_ACCOUNT} {REGION}: looking up the units above {OWN_ACCOUNT}" in failed.stderr
        session.client("organizations").create_organization(FeatureSet="ALL")
        result = run("--hub-profile", "hub", "--output", "json")
        assert [one[2] for one in findings(result)] == ["VPCE.1", "VPCE.2"]

    def test_are_recorded(self, run: Callable[..., Result], tmp_path: Path) -> None:
        """So that a replay knows them."""
        path = tmp_path / "seen.json"
        run("--unit", "r-ab12", "--record", path)
        assert recording.load(path).units_of(OWN_ACCOUNT) == ("r-ab12",)


class TestRecord:
    """What was seen goes into a file."""

    def test_a_recording(self, run: Callable[..., Result], session: boto3.Session, tmp_path: Path) -> None:
        """The plan is the same with and without, and the recording has everything that it rests on."""
        vpc_id = made(session.client("ec2", region_name=REGION))
        path = tmp_path / "seen.json"

        recorded, plain = run("--record", path), run()

        def untimed(text: str) -> list[str]:
            return [line for line in text.splitlines() if "Portcullis will" not in line]

        assert recorded.exit_code == plain.exit_code == 1
        assert untimed(recorded.stdout) == untimed(plain.stdout)
        seen = recording.load(path)
        snapshot = seen.observe(Scope(OWN_ACCOUNT, REGION, everything=True), Needs())
        assert snapshot.get(Kind.VPC, vpc_id)
        assert seen.surroundings(OWN_ACCOUNT, REGION, [vpc_id], buckets=False)[vpc_id].acls
        with pytest.raises(Exception, match="lacks the bucket policies"):
            seen.surroundings(OWN_ACCOUNT, REGION, [vpc_id], buckets=True)

    def test_bucket_policies_are_recorded_where_the_policy_asks_for_them(
        self, run: Callable[..., Result], policy: Path, session: boto3.Session, tmp_path: Path
    ) -> None:
        """Anywhere."""
        controls = MODES | {"VPCE.1": {"mode": "remediate", "check_bucket_policies": True}}
        policy.write_text(json.dumps(POLICY | {"controls": controls}), encoding="utf-8")
        vpc_id = made(session.client("ec2", region_name=REGION))
        path = tmp_path / "seen.json"
        run("--record", path)
        seen = recording.load(path)
        assert seen.surroundings(OWN_ACCOUNT, REGION, [vpc_id], buckets=True)[vpc_id].buckets == ()

    def test_a_file_that_cannot_be_written(self, run: Callable[..., Result], tmp_path: Path) -> None:
        """Is told before anything is read, which may take long."""
        path = tmp_path / "none" / "seen.json"
        result = run("--record", path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"portcullis: {path}: it cannot be written: No such file or directory\n"

    def test_nothing_of_an_older_recording_is_left(self, run: Callable[..., Result], tmp_path: Path) -> None:
        """The file is written anew."""
        path = tmp_path / "seen.json"
        path.write_text("older" * 100_000, encoding="utf-8")
        run("--record", path)
        assert len(recording.load(path).places) == 1


def test_on_a_terminal_there_is_one_line_of_progress(
    policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is gone at the end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    regions = ("--region", REGION, "--region", OTHER_REGION)
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--policy", str(policy), "--control", "ROLE.1", *regions])
    assert ended.value.code == 0
    lines = [f"\r\x1b[Klooking at {OWN_ACCOUNT} {region}" for region in (REGION, OTHER_REGION)]
    assert capsys.readouterr().err == "".join(lines) + "\r\x1b[K"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--account", ACCOUNT], "--account and --role-name go together"),
        (["--role-name", "x"], "--account and --role-name go together"),
        (["--role-name", "x", "--account", ACCOUNT, "--profile", "a", "--profile", "b"], "with one --profile at most"),
        (["--account", "99", "--role-name", "x"], "'99' is not the id of an account"),
        (["--unit", "r-1", "--hub-profile", "x"], "not both"),
        (["--all"], "--all is for --output json and --output csv"),
        (["--control", "VPCE.9"], "'VPCE.9' is not one of"),
    ],
)
def test_what_does_not_go_together(run: Callable[..., Result], arguments: list[str], message: str) -> None:
    """Is a mistake of usage, before anything is asked."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_policy_that_is_missing(tmp_path: Path) -> None:
    """Is named."""
    result = CliRunner().invoke(main, ["plan", "--policy", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml: it cannot be read" in result.stderr


def test_help_has_examples() -> None:
    """One of each way to name accounts."""
    shown = CliRunner().invoke(main, ["plan", "--help"]).stdout
    assert "  portcullis plan --profile dev --region eu-west-1\n" in shown
    assert "--role-name OrganizationAccountAccessRole" in shown
