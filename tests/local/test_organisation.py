"""The whole organisation, with the example deployed: events, queues, functions and people's clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local.organisation import LocalOrganisation

if TYPE_CHECKING:
    from pathlib import Path

MEMBER = "111122223333"


def put(organisation: LocalOrganisation, **detail: Any) -> None:
    """Put an event of the example's own source on the hub's bus."""
    entry = {"Source": "example", "DetailType": "Test", "Detail": json.dumps(detail), "EventBusName": "example"}
    assert organisation.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0


def test_a_members_call_in_another_region_reaches_the_last_function(organisation: LocalOrganisation) -> None:
    """Member call -> CloudTrail -> member's rule -> hub's bus -> queue -> function -> FIFO queue -> function."""
    before = len(organisation.journal.since(0))
    ec2 = organisation.client("ec2", MEMBER, "eu-west-1")
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    assert organisation.settled(20)
    steps = organisation.journal.since(before)
    assert [step.kind for step in steps] == ["call", "log", "log"]
    call, dispatched, performed = steps
    assert (call.account_id, call.region) == (MEMBER, "eu-west-1")
    assert call.text == "ec2 CreateVpc CidrBlock=10.0.0.0/16"
    assert dispatched.text == "saw AWS API Call via CloudTrail"
    event = performed.data["performed"]
    assert (event["account"], event["region"]) == (MEMBER, "eu-west-1")
    assert event["detail"]["responseElements"]["vpc"]["vpcId"] == vpc_id
    assert organisation.dead_letters() == []


def test_people_are_who_they_are(organisation: LocalOrganisation) -> None:
    """Clients act in the account and Region that they were asked for."""
    identity = organisation.client("sts", MEMBER).get_caller_identity()
    assert identity["Account"] == MEMBER
    assert ":assumed-role/OrganizationAccountAccessRole/" in identity["Arn"]
    assert organisation.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert organisation.client("ec2", MEMBER, "eu-west-1").meta.region_name == "eu-west-1"
    assert organisation.client("ec2") is organisation.client("ec2")


def test_poison_ends_in_the_dead_letters(organisation: LocalOrganisation) -> None:
    """After maxReceiveCount; until then the organisation is not settled."""
    put(organisation, poison=True)
    assert not organisation.settled(0.3)
    assert organisation.settled(10)
    (letter,) = organisation.dead_letters()
    assert letter.queue == "IntakeDeadLetters"
    assert json.loads(letter.body)["detail"] == {"poison": True}


def test_functions_can_be_invoked_by_name(organisation: LocalOrganisation) -> None:
    """With the function's own role, and the template's variables."""
    environment = organisation.functions["Perform"].invoke({"do": "look"}).result["environment"]
    assert environment["GREETING"] == "hello from us-east-1"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "portcullis-Perform"


def test_queues_are_created_as_the_template_says(organisation: LocalOrganisation) -> None:
    """FIFO, redrive, encryption, policy."""
    sqs = organisation.client("sqs")
    urls = {url.rsplit("/", 1)[1]: url for url in sqs.list_queues()["QueueUrls"]}
    work = sqs.get_queue_attributes(QueueUrl=urls["portcullis-Work.fifo"], AttributeNames=["All"])["Attributes"]
    assert work["FifoQueue"] == "true"
    assert json.loads(work["RedrivePolicy"])["maxReceiveCount"] == 2
    intake = sqs.get_queue_attributes(QueueUrl=urls["portcullis-Intake"], AttributeNames=["All"])["Attributes"]
    assert intake["SqsManagedSseEnabled"] == "true"
    assert json.loads(intake["Policy"])["Statement"][0]["Principal"] == {"Service": "events.amazonaws.com"}


def test_another_organisation_in_the_same_process_is_refused(organisation: LocalOrganisation, checkout: Path) -> None:
    """There is but one moto; the running organisation is left alone."""
    with pytest.raises(RuntimeError, match="another local organisation runs"), LocalOrganisation(checkout=checkout):
        pytest.fail("it started")
    assert organisation.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_delivery_failures_are_errors(organisation: LocalOrganisation) -> None:
    """A rule whose queue refuses it: never silent."""
    events, before = organisation.client("events"), len(organisation.journal.since(0))
    events.put_rule(Name="broken", EventBusName="example", EventPattern='{"source": ["broken"]}')
    target = {"Id": "t", "Arn": "arn:aws:sqs:us-east-1:123456789012:portcullis-Work.fifo"}
    target_parameters = {"SqsParameters": {"MessageGroupId": "g"}}
    events.put_targets(Rule="broken", EventBusName="example", Targets=[{**target, **target_parameters}])
    entry = {"Source": "broken", "DetailType": "Test", "Detail": "{}", "EventBusName": "example"}
    events.put_events(Entries=[entry])
    (step,) = (step for step in organisation.journal.since(before) if step.kind == "error")
    assert "was not delivered to arn:aws:sqs:us-east-1:123456789012:portcullis-Work.fifo" in step.text


@pytest.mark.parametrize(
    ("tool", "agent", "address"),
    [
        ("terraform", "HashiCorp/1.0 Terraform/", "127.0.0.1"),
        ("pulumi", "Pulumi/1.0 Pulumi-Aws/", "127.0.0.1"),
        ("cloudformation", "cloudformation.amazonaws.com", "cloudformation.amazonaws.com"),
        ("console", "Mozilla/5.0", "127.0.0.1"),
        (None, "Boto3/", "127.0.0.1"),
    ],
)
def test_people_can_use_tools(organisation: LocalOrganisation, tool: str | None, agent: str, address: str) -> None:
    """CloudTrail shows them as it does on AWS: user agent, address, on whose behalf, and whether from the console."""
    before = len(organisation.journal.since(0))
    organisation.client("ec2", MEMBER, "eu-west-1", as_=tool).create_vpc(CidrBlock="10.0.0.0/16")
    assert organisation.settled(20)
    (detail,) = (s.data["performed"]["detail"] for s in organisation.journal.since(before) if "performed" in s.data)
    assert agent in detail["userAgent"]
    assert detail["sourceIPAddress"] == address
    service = "cloudformation.amazonaws.com" if tool == "cloudformation" else None
    assert detail["userIdentity"].get("invokedBy") == service
    assert detail.get("sessionCredentialFromConsole") == ("true" if tool == "console" else None)


def test_functions_can_be_invoked_over_the_api(organisation: LocalOrganisation) -> None:
    """With their answer or their error; one that is not there says so, and only synchronously."""
    client = organisation.client("lambda")
    name = "portcullis-Perform"
    for named in (name, organisation.functions["Perform"].spec.arn):
        answer = client.invoke(FunctionName=named, Payload=b'{"do": "echo", "x": 1}')
        assert (json.load(answer["Payload"]), answer.get("FunctionError")) == ({"do": "echo", "x": 1}, None)
    failed = client.invoke(FunctionName=name, Payload=b'{"do": "raise"}')
    assert failed["FunctionError"] == "Unhandled"
    assert json.load(failed["Payload"])["errorMessage"] == "no such thing"
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="none")
    with pytest.raises(Exception, match="only as RequestResponse"):
        client.invoke(FunctionName=name, InvocationType="Event")


def test_the_hub_can_list_the_parents_of_an_account(organisation: LocalOrganisation) -> None:
    """Up to the root, as a delegated administrator."""
    client, child, parents = organisation.client("organizations"), MEMBER, []
    while not child.startswith("r-"):
        (parent,) = client.list_parents(ChildId=child)["Parents"]
        parents.append(parent["Type"])
        child = parent["Id"]
    assert parents == ["ORGANIZATIONAL_UNIT", "ROOT"]
