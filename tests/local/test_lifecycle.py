"""Starting, stopping, starting again; and what is refused."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from local import clock
from local.accounts import SECURITY_ID, WORKLOADS_ID
from local.organisation import LocalOrganisation, PortTakenError
from tests.local.example import PARAMETERS

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_start_finds_an_empty_aws_and_nothing_of_the_first(checkout: Path) -> None:
    """All processes and threads of the first are gone."""
    threads = set(threading.enumerate())
    pids = []
    for _ in range(2):
        with LocalOrganisation(checkout=checkout, parameters=PARAMETERS, schedules_at_once=False) as organisation:
            ec2 = organisation.client("ec2", "111122223333")
            assert [vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]] == [True]
            ec2.create_vpc(CidrBlock="10.0.0.0/16")
            assert organisation.settled(20)
            pids.append(organisation.functions["Perform"].invoke({"do": "look"}).result["pid"])
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    left = {thread for thread in threading.enumerate() if not thread.daemon} - threads
    assert left == set()


def test_schedules_begin_at_once(checkout: Path) -> None:
    """As AWS has it for rates: a heartbeat from everywhere, the management account included, and one execution."""
    with LocalOrganisation(checkout=checkout, parameters=PARAMETERS) as organisation:
        assert organisation.settled(30)
        steps = organisation.journal.since(0)
    places = [
        (step.data["performed"]["account"], step.data["performed"]["region"])
        for step in steps
        if "performed" in step.data
    ]
    assert len(places) == len(set(places)) == 12
    assert ("555566667777", "eu-west-1") in places
    assert [step.text.rsplit(" ", 1)[1] for step in steps if "portcullis-Machine" in step.text] == [
        "started",
        "succeeded",
    ]


def test_stacks_are_where_the_parameters_say(checkout: Path) -> None:
    """Below the targets only, and not in the management account if so wanted; an account that moves in follows."""
    parameters = {"TargetOrganizationalUnitIds": WORKLOADS_ID, "GovernedRegions": "eu-west-1"}
    options: dict[str, Any] = {"management_stacks": False, "schedules_at_once": False}
    with LocalOrganisation(checkout=checkout, parameters=parameters, **options) as organisation:
        assert "9 stacks are deployed" in [step.text for step in organisation.journal.since(0)]
        for account_id in ("555566667777", "123456789012"):
            assert not organisation.client("events", account_id, "eu-west-1").list_rules()["Rules"]
        assert organisation.client("events", "111122223333", "eu-west-1").list_rules()["Rules"]
        organisation.client("organizations", "555566667777").move_account(
            AccountId="123456789012", SourceParentId=SECURITY_ID, DestinationParentId=WORKLOADS_ID
        )
        assert organisation.settled(20)
        assert organisation.client("events", "123456789012", "eu-west-1").list_rules()["Rules"]


def test_a_taken_port_is_refused(checkout: Path, taken_port: int) -> None:
    """With the remedy; and nothing is left running."""
    complaint = rf"port {taken_port} is taken; choose another with PORT="
    with pytest.raises(PortTakenError, match=complaint), LocalOrganisation(checkout=checkout, port=taken_port):
        pytest.fail("it started")


def test_what_is_delayed_or_scheduled_happens_at_once(checkout: Path) -> None:
    """A message with a delay, a one-time schedule, a message that failed; each at its own time."""
    parameters = {**PARAMETERS, "Delay": "900"}
    with LocalOrganisation(checkout=checkout, parameters=parameters, schedules_at_once=False) as organisation:
        sqs, scheduler = organisation.client("sqs"), organisation.client("scheduler")
        url = sqs.get_queue_url(QueueName="portcullis-Work.fifo")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody='{"what": "delayed"}', MessageGroupId="a")
        at = datetime.now(UTC) + timedelta(minutes=30)
        scheduler.create_schedule(
            Name="later",
            ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={
                "Arn": "arn:aws:sqs:us-east-1:123456789012:portcullis-Work.fifo",
                "RoleArn": "arn:aws:iam::123456789012:role/portcullis-TimerRole",
                "Input": '{"what": "scheduled"}',
                "SqsParameters": {"MessageGroupId": "b"},
            },
        )

        def performed() -> list[str]:
            steps = organisation.journal.since(0)
            return [step.data["performed"]["what"] for step in steps if "performed" in step.data]

        for minutes, expected in ((10, []), (10, ["delayed"]), (11, ["delayed"]), (16, ["delayed", "scheduled"])):
            organisation.move_time(timedelta(minutes=minutes))
            while not organisation._scheduler.idle():
                time.sleep(0.01)
            if len(expected) != len(performed()):
                assert organisation.settled(20)
            assert performed() == expected
        assert scheduler.list_schedules(NamePrefix="later")["Schedules"] == []
    assert clock.offset() == 0
    assert time.time() < at.timestamp()
