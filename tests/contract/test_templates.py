"""What every deployment must be: encrypted, bounded, observable, and without hard-coded places."""

from __future__ import annotations

import ast
import re
from typing import Any, cast
from unittest.mock import Mock

import pytest
from portcullis import bootstrap
from portcullis.adapters.journal import PowertoolsJournal
from portcullis.batch import ATTEMPTS
from portcullis.work import window_seconds

from tests.contract import templates, wiring

QUEUES = templates.resources(templates.HUB, "AWS::SQS::Queue")
FUNCTIONS = templates.resources(templates.HUB, "AWS::Serverless::Function")
POLLING = {name: function for name, function in FUNCTIONS.items() if "Events" in function}
GLOBALS = templates.load(templates.HUB)["Globals"]["Function"]


def _source(function: dict[str, Any]) -> dict[str, Any]:
    (event,) = function["Events"].values()
    properties: dict[str, Any] = event["Properties"]
    return properties


def _queue_of(function: dict[str, Any]) -> dict[str, Any]:
    return QUEUES[_source(function)["Queue"]["Fn::GetAtt"][0]]


def test_functions_run_on_the_fixed_runtime_with_tracing() -> None:
    """python3.13 on arm64, as promised to those who deploy it; Lambda's own active tracing."""
    assert (GLOBALS["Runtime"], GLOBALS["Architectures"], GLOBALS["Tracing"]) == ("python3.13", ["arm64"], "Active")


@pytest.mark.parametrize("name", sorted(QUEUES))
def test_a_queue_is_encrypted_and_loses_nothing(name: str) -> None:
    """Encrypted at rest; a queue that is read has a dead-letter queue, and dead letters stay 14 days."""
    queue = QUEUES[name]
    assert queue["SqsManagedSseEnabled"] is True
    if "DeadLetters" in name:
        assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    else:
        target = queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        assert QUEUES[target].get("FifoQueue") == queue.get("FifoQueue")


def test_three_functions_poll_and_the_state_machine_or_cloudformation_calls_the_others() -> None:
    """No schedule or event starts a sweep's functions past the machine, which bounds how many run at once."""
    assert POLLING.keys() == {"ApprovalFunction", "IntakeFunction", "ReconcileFunction"}
    assert FUNCTIONS.keys() - POLLING.keys() == {"ActionsFunction", "SurveyFunction", "SweepFunction"}
    assert templates.resources(templates.HUB, "AWS::Lambda::Permission") == {}


@pytest.mark.parametrize("name", sorted(POLLING))
def test_a_function_answers_in_parts_and_outlives_its_messages(name: str) -> None:
    """Partial batch responses, bounded concurrency, and a visibility timeout of six times the function's own."""
    function = FUNCTIONS[name]
    assert _source(function)["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert _source(function)["ScalingConfig"]["MaximumConcurrency"] >= 2
    assert _queue_of(function)["VisibilityTimeout"] >= 6 * function["Timeout"]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_has_a_log_group_with_retention(name: str) -> None:
    """Logs are kept for the time that the deployer chose, not for ever."""
    groups = templates.resources(templates.HUB, "AWS::Logs::LogGroup").values()
    (group,) = [g for g in groups if g["LogGroupName"] == f"/aws/lambda/{FUNCTIONS[name]['FunctionName']}"]
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_the_work_queue_is_ordered_and_its_delay_is_the_one_the_code_reckons_with() -> None:
    """Deduplication is safe only while the code's window is shorter than the queue's real delay."""
    work = QUEUES["WorkQueue"]
    assert work["FifoQueue"] is True
    assert work["DelaySeconds"] == GLOBALS["Environment"]["Variables"]["QUEUE_DELAY_SECONDS"]


def test_the_work_queue_takes_messages_of_scheduler() -> None:
    """They have no ids: a FIFO queue needs content-based deduplication (SqsParameters, Scheduler API reference)."""
    assert QUEUES["WorkQueue"]["ContentBasedDeduplication"] is True


def test_the_function_gives_up_with_a_reason_before_the_queue_gives_up_without_one() -> None:
    """A target that cannot be handled is a dead letter with its reason; redrive is left for crashes."""
    assert QUEUES["WorkQueue"]["RedrivePolicy"]["maxReceiveCount"] == ATTEMPTS + 1


def test_messages_are_deduplicated_within_their_group_only() -> None:
    """A message about one resource never counts as the repetition of one about another."""
    assert QUEUES["WorkQueue"]["DeduplicationScope"] == "messageGroup"


def test_the_delay_stays_where_deduplication_is_safe() -> None:
    """The window must end within the five minutes for which SQS remembers an id."""
    delay = templates.load(templates.HUB)["Parameters"]["QueueDelaySeconds"]
    assert window_seconds(delay["MaxValue"]) <= 300
    assert 20 <= delay["Default"] <= delay["MaxValue"]


@pytest.mark.parametrize("name", sorted(templates.resources(templates.HUB, "AWS::Events::Rule")))
def test_what_a_rule_cannot_deliver_is_a_dead_letter(name: str) -> None:
    """An event that passed a rule of the hub is in its queue or in the dead letters of that queue."""
    (target,) = templates.resources(templates.HUB, "AWS::Events::Rule")[name]["Targets"]
    queue = "Requests" if name == "RequestsRule" else "Intake"
    assert target["Arn"] == {"Fn::GetAtt": [f"{queue}Queue", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [f"{queue}DeadLetters", "Arn"]}}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_has_its_own_code_role_and_bounds(name: str) -> None:
    """The folder and the role are those of its name, shared with no other; it ends in time and within its memory."""
    function, short = FUNCTIONS[name], name.removesuffix("Function")
    assert function["FunctionName"] == f"portcullis-{short.lower()}"
    assert function["Role"] == {"Fn::GetAtt": [f"{short}Role", "Arn"]}
    assert (templates.ROOT / function["CodeUri"] / "handler.py").is_file()
    assert function["Handler"] == "handler.handler"
    assert function["Timeout"] <= 300
    assert function.get("MemorySize", GLOBALS["MemorySize"]) <= 1024


@pytest.mark.parametrize("name", wiring.FUNCTIONS)
def test_a_function_has_the_variables_that_its_wiring_asks_for(name: str) -> None:
    """What is missing would fail at the first event; what nothing asks for is not there, but for the shared ones."""
    own = FUNCTIONS[f"{name.capitalize()}Function"].get("Environment", {"Variables": {}})["Variables"].keys()
    shared = GLOBALS["Environment"]["Variables"].keys()
    asked = wiring.of(name).variables
    assert asked <= own | shared | {"AWS_REGION"}  # which Lambda sets
    assert own <= asked
    assert shared - {"POWERTOOLS_LOG_LEVEL", "AWS_STS_REGIONAL_ENDPOINTS"} <= set().union(
        *(wiring.of(other).variables for other in wiring.FUNCTIONS)
    )


def test_the_functions_that_are_wired_are_those_of_the_template() -> None:
    """None is deployed without being wired, or wired without being deployed."""
    assert {f"{name.capitalize()}Function" for name in wiring.FUNCTIONS} == FUNCTIONS.keys()


def test_the_table_forgets_what_the_store_marks_as_expired() -> None:
    """The time-to-live attribute is the one that the store writes."""
    table = templates.load(templates.HUB)["Resources"]["Table"]["Properties"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_nothing_waits_or_fails_unseen() -> None:
    """An alarm for each queue of dead letters, each function that polls, looks, sweeps, and changes that wait.

    The functions of a sweep need none of their own: where they fail, the execution fails, or a finding says who is
    not covered; nor does the one for CloudFormation, whose failure fails a deployment.
    """
    alarms = templates.resources(templates.HUB, "AWS::CloudWatch::Alarm").values()
    watched = sorted((alarm["MetricName"], str(alarm["Dimensions"][0]["Value"])) for alarm in alarms)
    buried = [str({"Fn::GetAtt": [name, "QueueName"]}) for name in QUEUES if "DeadLetters" in name]
    dead = [("ApproximateNumberOfMessagesVisible", queue) for queue in buried]
    errors = [("Errors", str({"Ref": name})) for name in POLLING]
    sweeps = [(f"Executions{how}", str({"Ref": "SweepStateMachine"})) for how in ("Failed", "Succeeded")]
    looks = [(metric, str({"Ref": "LooksGroup"})) for metric in ("InvocationDroppedCount", "TargetErrorCount")]
    changes = [("Own", "portcullis"), *((f"Problem{step.capitalize()}", "portcullis") for step in HELD_BACK)]
    assert watched == sorted([*dead, *errors, *sweeps, *looks, *changes])
    topic = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    assert all(alarm["AlarmActions"] == topic for alarm in alarms)


HELD_BACK = ("flapping", "limited", "stopped")
"""The problems that the journal tells of when Portcullis does not let itself change something."""


def test_an_alarm_watches_what_the_functions_count() -> None:
    """Namespace, dimension and names are those that the journal and the metrics of bootstrap make."""
    metrics = bootstrap.metrics()
    journal = PowertoolsJournal(Mock(), metrics)
    for step in HELD_BACK:
        journal.problem(step, "a sentence")
    journal.step("own", "a sentence")
    counted = cast("dict[str, Any]", metrics.serialize_metric_set())
    metrics.clear_metrics()
    (directive,) = counted["_aws"]["CloudWatchMetrics"]
    made = {
        (directive["Namespace"], metric["Name"], name, counted[name])
        for metric in directive["Metrics"]
        for dimensions in directive["Dimensions"]
        for name in dimensions
    }
    watched = {
        (alarm["Namespace"], alarm["MetricName"], dimension["Name"], dimension["Value"])
        for alarm in templates.resources(templates.HUB, "AWS::CloudWatch::Alarm").values()
        if not alarm["Namespace"].startswith("AWS/")
        for dimension in alarm["Dimensions"]
    }
    assert watched == made


@pytest.mark.parametrize("step", HELD_BACK)
def test_the_code_tells_of_what_an_alarm_watches(step: str) -> None:
    """A metric that nobody counts would be an alarm that never rings."""
    package = templates.ROOT / "layers" / "core" / "portcullis"
    nodes = [node for path in package.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    told = {
        node.args[0].value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "problem"
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    assert step in told


@pytest.mark.parametrize("name", sorted(templates.resources(templates.HUB, "AWS::CloudWatch::Alarm")))
def test_an_alarm_says_where_the_runbook_tells_what_to_do(name: str) -> None:
    """Whoever is woken reads a sentence, and the heading of a section of docs/operations.md that exists."""
    text = templates.resources(templates.HUB, "AWS::CloudWatch::Alarm")[name]["AlarmDescription"]
    named = re.fullmatch(r'.+\. See "([^"]+)" in docs/operations\.md\.', text)
    assert named, text
    page = (templates.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert re.search(rf"^#+ {re.escape(named[1])}$", page, re.MULTILINE)


def test_sweeps_that_stop_are_an_alarm_and_one_that_fails_is_not_yet() -> None:
    """No success in a day breaches, and so does having no data; the schedule sweeps several times in that day."""
    (missing,) = [
        alarm
        for alarm in templates.resources(templates.HUB, "AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "ExecutionsSucceeded"
    ]
    hours = re.fullmatch(
        r"rate\((\d+) hours\)", templates.load(templates.HUB)["Parameters"]["SweepSchedule"]["Default"]
    )
    assert hours
    assert missing["Period"] * missing["EvaluationPeriods"] >= 3 * 3600 * int(hours[1])
    assert (missing["ComparisonOperator"], missing["Threshold"]) == ("LessThanThreshold", 1)
    assert missing["TreatMissingData"] == "breaching"


def test_the_table_can_be_restored_and_outlives_the_stack() -> None:
    """The memory of what was filed has point-in-time recovery and is not deleted with the stack."""
    table = templates.load(templates.HUB)["Resources"]["Table"]
    assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    # But a first deployment that is rolled back leaves no table in the way of the second.
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


@pytest.mark.parametrize("path", [*templates.ALL, templates.MACHINE], ids=lambda path: path.name)
def test_no_account_or_region_is_hard_coded(path: Any) -> None:
    """The templates work in every organisation and Region."""
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"\b\d{12}\b|\b(?:us|eu|ap|ca|sa|me|af|il|mx|cn)-(?:[a-z]+-)+\d\b", text)


_DEPLOYED = [
    *templates.ALL,
    templates.MACHINE,
    *(
        path
        for folder in ("layers/core/portcullis", "layers/policy", "functions")
        for path in sorted((templates.ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".json", ".yaml")
    ),
]
_PARTITION = re.compile(r"arn:aws")
_SERVICE_NAME = re.compile(r"com\.amazonaws\.|\{[^{}]*(?i:region)[^{}]*\}\.(?:amazonaws|\{)|amazonaws\.com\.\w")


@pytest.mark.parametrize("path", _DEPLOYED, ids=lambda path: str(path.relative_to(templates.ROOT)))
def test_no_partition_is_hard_coded(path: Any) -> None:
    """ARNs are built from the partition, service names are asked for: China, GovCloud and others differ.

    Nothing that is deployed is exempt, comments included, but for the names of AWS's own buckets, which are listed by
    partition: they read like host names. Docs, sample events and tests show the commercial
    partition, and are not looked at.
    """
    text = path.read_text(encoding="utf-8")
    for bucket in ("amazonlinux", "packages", "repo"):
        text = text.replace(f'    "{bucket}.${{Region}}.amazonaws.com",', "")
    assert not _PARTITION.findall(text)
    assert not _SERVICE_NAME.findall(text)


@pytest.mark.parametrize(
    "text",
    ["com.amazonaws.us-east-1.s3", 'f"com.amazonaws.{region}.s3"', "s3.{region}.amazonaws.com", "ec2.amazonaws.com.cn"],
)
def test_a_service_name_built_from_a_region_would_be_found(text: str) -> None:
    """The check of the check; a service principal is none."""
    assert _SERVICE_NAME.search(text)
    assert not _SERVICE_NAME.search("Principal: {Service: events.amazonaws.com}")
