"""From people's calls to findings, through the rules, queues and functions of the real templates."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any

from local.clients import HOME_REGION, HUB_ACCOUNT_ID
from local.stage import Stage

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

_PATIENCE = 60


def test_every_governed_region_of_every_account_reacts(organisation: LocalOrganisation) -> None:
    """A VPC made anywhere in the organisation, the hub's account included, is a finding at once, and covered later."""
    made = []
    for account_id, region in itertools.product((HUB_ACCOUNT_ID, "444455556666"), (HOME_REGION, "ap-northeast-1")):
        stage = Stage(organisation, account_id, region)
        made.append((stage, stage.create_vpc("10.0.0.0/16")))
    stage.settle()
    assert all(one.finding("VPCE.1", vpc_id) == "FAILED" for one, vpc_id in made)
    stage.later(minutes=6)
    for stage, vpc_id in made:
        assert sorted(key.split()[1] for key in stage.endpoints(vpc_id)) == ["dynamodb", "s3"]
        assert stage.finding("VPCE.1", vpc_id) == "PASSED"


def test_a_region_without_a_member_stack_is_left_alone(organisation: LocalOrganisation) -> None:
    """Portcullis acts where it is deployed, and nowhere else."""
    stage = Stage(organisation, "111122223333", "eu-central-1")
    vpc_id = stage.create_vpc("10.0.0.0/16")
    stage.later(minutes=6)
    assert stage.endpoints(vpc_id) == {}


def test_a_burst_costs_at_most_two_looks_and_the_last_event_counts(organisation: LocalOrganisation) -> None:
    """Twenty events about one VPC: one or two evaluations, and the table that the last one brought is covered."""
    stage = Stage(organisation, "111122223333", "us-east-1")
    start = len(organisation.journal.since(0))
    vpc_id = stage.create_vpc("10.3.0.0/16")
    for number in range(18):
        stage.ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.3.{number}.0/24")
    subnet = stage.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"][0]["SubnetId"]
    table = stage.create_table(vpc_id, subnet)
    stage.settle()
    # AssociateRouteTable names no VPC: the wide look that it causes may ask for one more look at this one.
    assert 1 <= stage.looks(start, vpc_id) <= 3
    stage.later(minutes=6)
    assert f"{table} s3" in stage.endpoints(vpc_id)

    start = len(organisation.journal.since(0))
    for number in range(20, 40):
        stage.ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.3.{number}.0/24")
    stage.settle()
    assert 1 <= stage.looks(start, vpc_id) <= 2


def test_events_about_one_vpc_are_never_handled_at_the_same_time(organisation: LocalOrganisation) -> None:
    """While one look at a VPC is under way, no other starts, however long events keep coming."""
    stage = Stage(organisation, "222233334444", "eu-west-1")
    start = len(organisation.journal.since(0))
    vpc_id = stage.create_vpc("10.4.0.0/16")
    for number in range(8):
        stage.ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.4.{number}.0/24")
        time.sleep(0.5)
    assert organisation.settled(_PATIENCE)
    order = [
        step.data["function_request_id"]
        for step in organisation.journal.since(start)
        if step.data.get("resource_id") == vpc_id and step.data.get("step") in ("evaluated", "acted", "filed")
    ]
    runs = [request_id for request_id, _ in itertools.groupby(order)]
    assert len(runs) >= 2
    assert len(runs) == len(set(runs)), "steps of two invocations are interleaved"


def test_portcullis_does_not_react_to_its_own_calls(organisation: LocalOrganisation) -> None:
    """Its CreateVpcEndpoint calls come back as events and end at the intake function."""
    stage = Stage(organisation, "222233334444", "ap-northeast-1")
    start = len(organisation.journal.since(0))
    vpc_id = stage.create_vpc("10.5.0.0/16")
    stage.later(minutes=6)
    assert stage.endpoints(vpc_id)
    stage.settle()
    queued = [s for s in organisation.journal.since(start) if s.data.get("step") == "queued"]
    assert [step.data["resource_id"] for step in queued] == [vpc_id]


def test_what_was_filed_survives_and_an_analyst_is_not_overruled(organisation: LocalOrganisation) -> None:
    """A finding that fails again keeps its CreatedAt, note and suppression; and what is suppressed is not mended."""
    stage = Stage(organisation, "333344445555", "us-east-1")
    vpc_id = stage.create_vpc("10.6.0.0/16")
    stage.later(minutes=6)
    before = stage.found("VPCE.1", vpc_id) or {}
    assert before["Compliance"]["Status"] == "PASSED"
    organisation.client("securityhub", stage.account_id, stage.region).batch_update_findings(
        FindingIdentifiers=[{"Id": before["Id"], "ProductArn": before["ProductArn"]}],
        Workflow={"Status": "SUPPRESSED"},
        Note={"Text": "agreed with the network team", "UpdatedBy": "analyst"},
    )
    stage.ec2.delete_vpc_endpoints(VpcEndpointIds=sorted(set(stage.endpoints(vpc_id).values())))
    stage.later(minutes=6)
    after = stage.found("VPCE.1", vpc_id) or {}
    assert after["CreatedAt"] == before["CreatedAt"]
    assert after["UpdatedAt"] > before["UpdatedAt"]
    assert after["Compliance"]["Status"] == "FAILED"
    assert after["Workflow"]["Status"] == "SUPPRESSED"
    assert after["Note"]["Text"] == "agreed with the network team"
    assert [key.split()[1] for key in stage.endpoints(vpc_id)] == ["dynamodb"]


def test_an_instance_is_given_its_profile_once_it_runs_and_is_quiet(organisation: LocalOrganisation) -> None:
    """While it is pending the finding says that Portcullis waits; then the association is made."""
    stage = Stage(organisation, "444455556666", "eu-west-1")
    instance_id = stage.launch({"Name": "web"})
    stage.await_running(instance_id)
    stage.settle()
    assert stage.profile(instance_id) is None
    stage.later(minutes=6)
    assert stage.profile(instance_id) == "portcullis-default"
    assert stage.finding("ROLE.1", instance_id) == "PASSED"
    stage.ec2.terminate_instances(InstanceIds=[instance_id])
    stage.ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 0.2})
    stage.settle()
    assert stage.finding("ROLE.1", instance_id) == "ARCHIVED"


def test_an_event_that_cannot_be_read_is_kept_with_the_reason(organisation: LocalOrganisation) -> None:
    """Nothing is lost: the dead-letter queue holds the event as it came, and why it was put there."""
    sqs = organisation.client("sqs")
    event = {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {}}
    url = sqs.get_queue_url(QueueName="portcullis-intake")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
    assert organisation.settled(_PATIENCE)
    (letter,) = organisation.dead_letters()
    assert json.loads(letter.body) == event
    assert "account is missing" in letter.attributes["reason"]


def test_nothing_failed_unseen(organisation: LocalOrganisation) -> None:
    """In all of this module no function crashed and no delivery failed."""
    errors: list[Any] = [step.text for step in organisation.journal.since(0) if step.kind == "error"]
    assert errors == []
