"""What every deployment must be: encrypted, bounded, observable, and without hard-coded places."""

from __future__ import annotations

import re
from typing import Any

import pytest
from portcullis.batch import ATTEMPTS
from portcullis.work import window_seconds

from tests.contract import templates

QUEUES = templates.resources(templates.HUB, "AWS::SQS::Queue")
FUNCTIONS = templates.resources(templates.HUB, "AWS::Serverless::Function")
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


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
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
    assert "ContentBasedDeduplication" not in work


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


@pytest.mark.parametrize("name", ["ChangesRule", "ConflictsRule", "StatesRule"])
def test_what_a_rule_cannot_deliver_is_a_dead_letter(name: str) -> None:
    """An event that passed a rule of the hub is in the intake queue or in its dead letters."""
    (target,) = templates.resources(templates.HUB, "AWS::Events::Rule")[name]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["IntakeQueue", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["IntakeDeadLetters", "Arn"]}}


@pytest.mark.parametrize("name", ["Intake", "Reconcile"])
def test_a_function_may_write_its_own_logs(name: str) -> None:
    """Each role names the log group of its own function."""
    role = templates.resources(templates.HUB, "AWS::IAM::Role")[f"{name}Role"]
    (logs,) = [s for s in templates.statements(role) if "logs:PutLogEvents" in s["Action"]]
    assert logs["Resource"] == [{"Fn::GetAtt": [f"{name}Logs", "Arn"]}]


def test_the_table_forgets_what_the_store_marks_as_expired() -> None:
    """The time-to-live attribute is the one that the store writes."""
    table = templates.load(templates.HUB)["Resources"]["Table"]["Properties"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_only_the_organisation_may_send_events() -> None:
    """The hub's bus accepts events of this organisation's accounts and of nobody else."""
    (policy,) = templates.resources(templates.HUB, "AWS::Events::EventBusPolicy").values()
    assert policy["Statement"]["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}}}


def test_every_dead_letter_queue_and_every_function_has_an_alarm() -> None:
    """Nothing waits unseen."""
    alarms = templates.resources(templates.HUB, "AWS::CloudWatch::Alarm").values()
    watched = {str(alarm["Dimensions"][0]["Value"]) for alarm in alarms}
    queues = {str({"Fn::GetAtt": [name, "QueueName"]}) for name in QUEUES if "DeadLetters" in name}
    assert watched == queues | {str({"Ref": name}) for name in FUNCTIONS}


def test_the_table_can_be_restored_and_outlives_the_stack() -> None:
    """The memory of what was filed has point-in-time recovery and is not deleted with the stack."""
    table = templates.load(templates.HUB)["Resources"]["Table"]
    assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert table["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize("path", [templates.MEMBER_ACCOUNT, templates.MEMBER_REGION], ids=lambda path: path.name)
def test_a_member_template_takes_only_what_the_hub_gives(path: Any) -> None:
    """Every parameter without a default is an output of the hub stack, under the same name."""
    required = {name for name, entry in templates.load(path)["Parameters"].items() if "Default" not in entry}
    assert required <= templates.load(templates.HUB)["Outputs"].keys()


@pytest.mark.parametrize("path", templates.ALL, ids=lambda path: path.name)
def test_no_partition_account_or_region_is_hard_coded(path: Any) -> None:
    """The templates work in every partition: ARNs are built from pseudo parameters."""
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"arn:aws|\b\d{12}\b|\b(?:us|eu|ap|cn)-[a-z]+-\d\b", text)
