"""Fixtures of the function tests: the hub as template.yaml describes it, inside moto, and the real handlers."""

from __future__ import annotations

import importlib.util
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.handlers
import botocore.loaders
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.httpsession import URLLib3Session
from moto import mock_aws
from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response
from moto.scheduler.models import scheduler_backends
from portcullis import bootstrap, work
from portcullis.adapters.clock import SystemClock
from portcullis.cli import policy_file
from portcullis.model import Cause, Kind, Target
from samtranslator.yaml_helper import yaml_parse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
_PARTITION = "aws"
_SET_BY_LAMBDA = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
}

Handler = Any
"""A function's handler; Powertools' decorators leave it without a type."""

Function = Callable[[dict[str, Any]], Any]
"""A deployed function: call it with an event."""

Settle = Callable[..., dict[str, Any]]
"""Let targets be changed when they are quiet: call it with their messages."""

HUB_ACCOUNT, ACCOUNT, OTHER_ACCOUNT = "123456789012", "111122223333", "222233334444"
NOTHING_FAILED: dict[str, Any] = {"batchItemFailures": []}
DENIED = (
    "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized.</Message></Error>"
    "</Errors><RequestID>r</RequestID></Response>"
)
ASSUME_DENIED = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>"
    "<RequestId>r</RequestId></ErrorResponse>"
)
THROTTLED = DENIED.replace("UnauthorizedOperation", "RequestLimitExceeded")

PARAMETERS = {"GovernedRegions": REGION, "TargetOrganizationalUnitIds": "r-0000"}
"""What the one who deploys has to choose."""


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function about its invocation."""

    function_name: str
    memory_limit_in_mb: int = 512
    aws_request_id: str = "8e1b2c3d-0000-4000-8000-000000000001"

    @property
    def invoked_function_arn(self) -> str:
        """The function's ARN."""
        return f"arn:aws:lambda:{REGION}:123456789012:function:{self.function_name}"


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test pretend credentials, and no network whatever it forgets to mock."""
    for name, value in _SET_BY_LAMBDA.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    def refuse(_: URLLib3Session, request: Any) -> None:
        raise AssertionError(f"this test would have called {request.url}")

    monkeypatch.setattr(URLLib3Session, "send", refuse)


@pytest.fixture(autouse=True)
def _without_connect_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let moto list EC2 Instance Connect Endpoints, of which it knows nothing: there are none in these tests."""
    none = ActionResult({"InstanceConnectEndpoints": []})
    monkeypatch.setattr(EC2Response, "describe_instance_connect_endpoints", lambda _: none, raising=False)


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    """Begin and end every test as a new Lambda environment does: nothing wired, nothing logged or counted."""
    forget()
    yield
    forget()


def forget() -> None:
    """Let the next invocation be a cold one."""
    bootstrap.metrics().clear_metrics()
    for wired in (
        bootstrap.approval,
        bootstrap.intake,
        bootstrap.reconcile,
        bootstrap.survey,
        bootstrap.sweep,
    ):
        wired.cache_clear()
    for shared in (bootstrap.logger, bootstrap.metrics):
        shared.cache_clear()
    # Powertools marks the logger of a name as set up, with the stdout of that moment.
    known = logging.getLogger("portcullis")
    known.handlers.clear()
    for mark in ("init", "powertools_handler"):
        vars(known).pop(mark, None)


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """Return the hub's template."""
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    return parsed


@pytest.fixture(scope="session")
def service_models() -> botocore.loaders.Loader:
    """Return one cache of service models: reading EC2's takes longer than a test."""
    return botocore.loaders.create_loader()


@pytest.fixture(autouse=True)
def _quick_sessions(monkeypatch: pytest.MonkeyPatch, service_models: botocore.loaders.Loader) -> None:
    """Let every session of a function find the service models that an earlier one has read."""
    monkeypatch.setattr(botocore.session, "create_loader", lambda _: service_models)


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """Return the session of everybody but the functions, which make their own."""
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)


class Hub:
    """The hub's queues, table, kill switch and schedule group, made in moto as the template describes them."""

    def __init__(self, session: boto3.Session, template: dict[str, Any], policy_path: Path) -> None:
        self.policy_path = policy_path
        self.sqs: Any = session.client("sqs")
        self.dynamodb: Any = session.client("dynamodb")
        self.scheduler: Any = session.client("scheduler")
        self.ssm: Any = session.client("ssm")
        self._template = template
        self.urls = {name: self._make_queue(entry) for name, entry in self._of_type("AWS::SQS::Queue").items()}
        ((_, table),) = self._of_type("AWS::DynamoDB::Table").items()
        self.table_name = str(table["TableName"])
        shape = ("TableName", "BillingMode", "AttributeDefinitions", "KeySchema")
        self.dynamodb.create_table(**{name: table[name] for name in shape})
        for group in self._of_type("AWS::Scheduler::ScheduleGroup").values():
            self.scheduler.create_schedule_group(Name=group["Name"])
        for parameter in self._of_type("AWS::SSM::Parameter").values():
            self.ssm.put_parameter(**{name: parameter[name] for name in ("Name", "Type", "Value")})

    def _of_type(self, resource_type: str) -> dict[str, dict[str, Any]]:
        resources = self._template["Resources"].items()
        return {name: entry["Properties"] for name, entry in resources if entry["Type"] == resource_type}

    def _make_queue(self, properties: dict[str, Any]) -> str:
        # What refers to something else (the delay, the dead-letter queue) is left out: tests do not wait for it.
        attributes = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in properties.items()
            if name != "QueueName" and not isinstance(value, dict)
        }
        return str(self.sqs.create_queue(QueueName=properties["QueueName"], Attributes=attributes)["QueueUrl"])

    def environment(self, logical_id: str) -> dict[str, str]:
        """Return the environment variables that the template gives a function."""
        own = self._template["Resources"][logical_id]["Properties"].get("Environment", {}).get("Variables", {})
        variables = self._template["Globals"]["Function"]["Environment"]["Variables"] | own
        values = {name: self._value(value) for name, value in variables.items()}
        # The one path inside a deployed layer.
        return {name: str(self.policy_path) if value == "/opt/policy.json" else value for name, value in values.items()}

    def _value(self, value: Any) -> str:
        if not isinstance(value, dict):
            return str(value)
        if joined := value.get("Fn::Join"):
            return self._value(joined[1])  # a list of texts, which the tests write as one
        if attribute := value.get("Fn::GetAtt"):
            return self._attribute(*attribute)
        name = value["Ref"]
        if name in self._template["Parameters"]:
            return str(PARAMETERS.get(name, self._template["Parameters"][name].get("Default")))
        own = {"Table": self.table_name, "AWS::Partition": _PARTITION, "AWS::AccountId": HUB_ACCOUNT}
        named = {name: entry["Name"] for name, entry in self._of_type("AWS::SSM::Parameter").items()}
        named |= {name: entry["Name"] for name, entry in self._of_type("AWS::Scheduler::ScheduleGroup").items()}
        return str({**self.urls, **named, **own}[name])

    def _attribute(self, name: str, attribute: str) -> str:
        """Return an ARN: of a queue, of a role, or of one of the custom actions."""
        entry = self._template["Resources"][name]
        arns = {
            "AWS::SQS::Queue": f"sqs:{REGION}:{HUB_ACCOUNT}:{entry['Properties'].get('QueueName')}",
            "AWS::IAM::Role": f"iam::{HUB_ACCOUNT}:role/{entry['Properties'].get('RoleName')}",
            "Custom::SecurityHubActions": f"securityhub:{REGION}:{HUB_ACCOUNT}:action/custom/"
            f"Portcullis{attribute.removesuffix('Arn')}",
        }
        return f"arn:{_PARTITION}:{arns[entry['Type']]}"

    def load(self, logical_id: str) -> Handler:
        """Load a function's handler from its file, as Lambda does."""
        properties = self._template["Resources"][logical_id]["Properties"]
        module_name, function_name = properties["Handler"].split(".")
        path = ROOT / properties["CodeUri"] / f"{module_name}.py"
        spec = importlib.util.spec_from_file_location(f"{logical_id}_{module_name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, function_name)

    def messages(self, logical_id: str) -> list[dict[str, Any]]:
        """Receive everything that is visible in a queue."""
        found: list[dict[str, Any]] = []
        while received := self.sqs.receive_message(
            QueueUrl=self.urls[logical_id],
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages"):
            found += received
        return found

    def queued(self) -> set[Target]:
        """Return the targets on the work queue."""
        return set(self.triggers())

    def triggers(self) -> dict[Target, str]:
        """Return the targets on the work queue, each with what set it off."""
        return {target: cause.trigger for target, cause in self.causes().items()}

    def causes(self) -> dict[Target, Cause]:
        """Return the targets on the work queue, each with its cause."""
        received = [work.decode(message["Body"], message["MessageId"]) for message in self.messages("WorkQueue")]
        return {item.target: item.cause for item in received}

    def buried(self, logical_id: str) -> dict[str, str]:
        """Return what is in a dead-letter queue: bodies and their reasons."""
        return {
            message["Body"]: message["MessageAttributes"]["reason"]["StringValue"]
            for message in self.messages(logical_id)
        }

    def deliver(self, logical_id: str, *bodies: str) -> dict[str, Any]:
        """Put messages into a queue, and receive them as the event that Lambda makes of a batch."""
        fifo = self.urls[logical_id].endswith(".fifo")
        for number, body in enumerate(bodies):
            ordering = {"MessageGroupId": f"group-{number}", "MessageDeduplicationId": f"{time.time_ns()}"}
            self.sqs.send_message(QueueUrl=self.urls[logical_id], MessageBody=body, **(ordering if fifo else {}))
        received = sorted(self.messages(logical_id), key=lambda message: bodies.index(message["Body"]))
        name = self.urls[logical_id].rsplit("/", 1)[-1]
        return {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {},
                    "md5OfBody": message["MD5OfBody"],
                    "eventSource": "aws:sqs",
                    "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:{name}",
                    "awsRegion": REGION,
                }
                for message in received
            ]
        }

    def turn(self, position: str) -> None:
        """Turn the kill switch, which is at ``stopped`` when the stack is deployed."""
        (switch,) = self._of_type("AWS::SSM::Parameter").values()
        self.ssm.put_parameter(Name=switch["Name"], Value=position, Overwrite=True)

    def looks(self) -> dict[str, datetime]:
        """Return the messages of the looks that are scheduled, each with its time."""
        backend = scheduler_backends[HUB_ACCOUNT][REGION]
        scheduled = [one for group in backend.schedule_groups.values() for one in group.schedules.values()]
        form = "at(%Y-%m-%dT%H:%M:%S)"
        times = [datetime.strptime(one.schedule_expression, form).replace(tzinfo=UTC) for one in scheduled]
        return {one.target["Input"]: when for one, when in zip(scheduled, times, strict=True)}

    def fire(self) -> None:
        """Drop the schedules, as Scheduler does with those that have fired."""
        for group in scheduler_backends[HUB_ACCOUNT][REGION].schedule_groups.values():
            group.schedules.clear()

    def acknowledge(self, event: dict[str, Any], answer: dict[str, Any]) -> None:
        """Delete the messages that a function is done with, as Lambda does."""
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        urls = {url.rsplit("/", 1)[-1]: url for url in self.urls.values()}
        for record in event["Records"]:
            if record["messageId"] not in failed:
                url = urls[record["eventSourceARN"].rsplit(":", 1)[-1]]
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=record["receiptHandle"])

    def records(self) -> list[dict[str, str]]:
        """Return what the table holds, as plain texts."""
        items = self.dynamodb.scan(TableName=self.table_name)["Items"]
        return [{name: next(iter(value.values())) for name, value in item.items()} for item in items]


@pytest.fixture
def policy_path(tmp_path: Path) -> Path:
    """Write a policy as the build does: the demo's, whatever the checkout's says, but for what plain moto lacks."""
    path, policy = tmp_path / "policy.json", policy_file.read(ROOT / "local" / "policy.yaml")
    del policy["scopes"], policy["controls"]["ROLE.2"]
    path.write_text(json.dumps(policy), encoding="utf-8")
    return path


@pytest.fixture
def hub(session: boto3.Session, template: dict[str, Any], policy_path: Path) -> Iterator[Hub]:
    """Return the hub inside moto's AWS."""
    with mock_aws():
        yield Hub(session, template, policy_path)


def _function(hub: Hub, logical_id: str, monkeypatch: pytest.MonkeyPatch) -> Function:
    for name, value in hub.environment(logical_id).items():
        monkeypatch.setenv(name, value)
    loaded: list[Handler] = []

    def call(event: dict[str, Any]) -> Any:
        # Not before the test itself runs: the logger writes to the standard output that it finds when it is made.
        if not loaded:
            loaded.append(hub.load(logical_id))
        answer = loaded[0](event, Context(logical_id))
        if "Records" in event:
            hub.acknowledge(event, answer)
        return answer

    return call


@pytest.fixture
def intake(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return the intake function, in the environment that the template gives it."""
    return _function(hub, "IntakeFunction", monkeypatch)


@pytest.fixture
def approval(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return the approval function, in the environment that the template gives it."""
    return _function(hub, "ApprovalFunction", monkeypatch)


@pytest.fixture
def actions(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return the function that keeps the custom actions, in the environment that the template gives it."""
    return _function(hub, "ActionsFunction", monkeypatch)


@pytest.fixture
def reconcile(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return the reconcile function, in the environment that the template gives it."""
    return _function(hub, "ReconcileFunction", monkeypatch)


class Clock:
    """The time of the functions: the machine's, which can be moved forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the time of the functions."""
    moved = Clock()
    monkeypatch.setattr(SystemClock, "now", lambda _: moved.now())
    return moved


@pytest.fixture
def settle(hub: Hub, reconcile: Function, clock: Clock) -> Settle:
    """Deliver targets, with the kill switch on, and when its time has come what is scheduled then.

    Returns the function's last answer.
    """
    hub.turn("enabled")

    def deliver(*bodies: str) -> dict[str, Any]:
        reconcile(hub.deliver("WorkQueue", *bodies))
        looks = hub.looks()
        clock.ahead += max(looks.values()) - clock.now()
        hub.fire()
        answer: dict[str, Any] = reconcile(hub.deliver("WorkQueue", *looks))
        return answer

    return deliver


@pytest.fixture
def sweep(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return the sweep function, in the environment that the template gives it."""
    return _function(hub, "SweepFunction", monkeypatch)


@pytest.fixture
def survey(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return the survey function, in the environment that the template gives it."""
    return _function(hub, "SurveyFunction", monkeypatch)


@pytest.fixture
def member(hub: Hub, session: boto3.Session) -> Callable[..., Any]:  # noqa: ARG001 - it has to run inside moto
    """Make clients of people in member accounts: ``member("ec2", account_id)``."""

    def make(service: str, account_id: str, region: str = REGION) -> Any:
        arn = f"arn:aws:iam::{account_id}:role/somebody"
        credentials = session.client("sts").assume_role(RoleArn=arn, RoleSessionName="somebody")["Credentials"]
        return session.client(  # type: ignore[call-overload]  # the service is named by the caller
            service,
            region_name=region,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )

    return make


class Member:
    """A member account, as its people see it."""

    def __init__(self, member: Callable[..., Any], account_id: str) -> None:
        self.account_id = account_id
        self.ec2 = member("ec2", account_id)
        self.iam = member("iam", account_id)
        self.securityhub = member("securityhub", account_id)
        self.securityhub.enable_security_hub()

    def make_vpc(self) -> str:
        """Make a VPC; returns its id."""
        return str(self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])

    def launch(self) -> str:
        """Launch an instance without a profile; returns its id."""
        launched = self.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
        return str(launched["Instances"][0]["InstanceId"])

    def make_default_profile(self) -> str:
        """Make the profile of the member stack; returns its ARN."""
        name = {"InstanceProfileName": "portcullis-default"}
        profile = self.iam.create_instance_profile(**name)["InstanceProfile"]
        self.iam.create_role(RoleName="portcullis-default", AssumeRolePolicyDocument="{}")
        self.iam.add_role_to_instance_profile(**name, RoleName="portcullis-default")
        return str(profile["Arn"])

    def target(self, resource_id: str, kind: Kind = Kind.VPC) -> str:
        """Return the message that asks to look at something here."""
        return work.encode(Target(self.account_id, REGION, kind, resource_id), Cause("test"))

    def endpoints(self, vpc_id: str) -> dict[str, dict[str, Any]]:
        """Return the VPC's endpoints by service."""
        here = [{"Name": "vpc-id", "Values": [vpc_id]}]
        return {item["ServiceName"]: item for item in self.ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]}

    def routes(self, vpc_id: str) -> set[str]:
        """Return the gateways to which the VPC's main table has routes."""
        here = [{"Name": "vpc-id", "Values": [vpc_id]}]
        tables = self.ec2.describe_route_tables(Filters=here)["RouteTables"]
        return {str(route.get("GatewayId")) for table in tables for route in table["Routes"]}

    def findings(self) -> dict[str, dict[str, Any]]:
        """Return the findings by control and resource, as ``VPCE.1 vpc-1``."""
        found = self.securityhub.get_findings()["Findings"]
        return {
            f"{item['GeneratorId'].removeprefix('portcullis/')} {item['Resources'][0]['Id'].rsplit('/', 1)[-1]}": item
            for item in found
        }


@pytest.fixture
def first(member: Callable[..., Any]) -> Member:
    """Return a member account."""
    return Member(member, ACCOUNT)


@pytest.fixture
def second(member: Callable[..., Any]) -> Member:
    """Return another member account."""
    return Member(member, OTHER_ACCOUNT)


class _Raw:
    def __init__(self, body: str) -> None:
        self._body = body.encode()

    def stream(self, **_: Any) -> list[bytes]:
        return [self._body]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make AWS refuse a call from now on, instead of moto: ``refuse("sqs.SendMessageBatch", status, body)``.

    ``first`` is what it answers once before that: a page with a token, say. Only clients of sessions that are made
    later are refused: those of a function that was not called yet.
    """
    monkeypatch.setattr(time, "sleep", lambda _: None)  # botocore's pauses between attempts
    (moto,) = (spec[1] for spec in botocore.handlers.BUILTIN_HANDLERS if spec[0] == "before-send")
    refused: dict[str, list[tuple[int, str]]] = {}

    def send(event_name: str, request: Any, **more: Any) -> AWSResponse | None:
        answers = refused.get(event_name.removeprefix("before-send."))
        if answers is None:
            answered: AWSResponse | None = moto(event_name, request, **more)
            return answered
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return AWSResponse(request.url, answer[0], HTTPHeaders(), _Raw(answer[1]))

    others = [spec for spec in botocore.handlers.BUILTIN_HANDLERS if spec[0] != "before-send"]
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", [*others, ("before-send", send)])

    def refuse(operation: str, status: int, body: str, *, first: str | None = None) -> None:
        refused[operation] = ([(200, first)] if first else []) + [(status, body)]

    return refuse


class Output:
    """What a function wrote to its standard output: log lines and metrics, both JSON."""

    def __init__(self, text: str) -> None:
        parsed = [json.loads(line) for line in text.splitlines()]
        self.logged = [line for line in parsed if "_aws" not in line]
        self.emitted = [line for line in parsed if "_aws" in line]

    def steps(self, step: str) -> list[dict[str, Any]]:
        """Return the log lines of one step."""
        return [line for line in self.logged if line.get("step") == step]

    @property
    def counts(self) -> dict[str, float]:
        """The metrics by name, summed up."""
        sums: dict[str, float] = {}
        for line in self.emitted:
            for directive in line["_aws"]["CloudWatchMetrics"]:
                for metric in directive["Metrics"]:
                    sums[metric["Name"]] = sums.get(metric["Name"], 0) + sum(line[metric["Name"]])
        return sums


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[[], Output]:
    """Return what was written since the last time it was asked for."""
    return lambda: Output(capsys.readouterr().out)
