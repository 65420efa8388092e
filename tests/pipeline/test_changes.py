"""What makes it safe to let Portcullis change something, in the deployed thing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from portcullis.plan import BY_POLICY

from local.clients import HOME_REGION, HUB_ACCOUNT_ID
from local.demo import POLICY
from local.stage import SERVICES, Stage

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

_STORM = 8  # calls about each table, at the same time


def _withdrawn(organisation: LocalOrganisation, start: int) -> list[str]:
    """Return what Portcullis says that it took back since a step."""
    return [step.text for step in organisation.journal.since(start) if step.data.get("step") == "yielded"]


def test_a_window_survives_a_deployment(organisation: LocalOrganisation) -> None:
    """The functions' processes end while a change waits: it comes when the finding says, and once."""
    stage = Stage(organisation, "111122223333", "eu-west-1")
    vpc_id = stage.create_vpc("10.0.0.0/16")
    stage.settle()
    planned = stage.planned("VPCE.1", vpc_id)
    assert planned
    stage.later(minutes=3)
    for function in organisation.functions.values():
        function.renew()
    stage.settle()
    assert stage.planned("VPCE.1", vpc_id) == planned
    assert stage.endpoints(vpc_id) == {}
    start = len(organisation.journal.since(0))
    stage.later(minutes=3)
    assert len(stage.endpoints(vpc_id)) == SERVICES
    acted = [step.data["result"] for step in organisation.journal.since(start) if step.data.get("step") == "acted"]
    assert acted == ["applied"] * SERVICES
    names = [one["Name"] for one in organisation.client("scheduler").list_schedules()["Schedules"]]
    assert not [name for name in names if name.startswith(vpc_id)], "its schedule is cleaned up"


def test_a_storm_of_conflicts_is_given_way_to_once_and_nothing_comes_back(organisation: LocalOrganisation) -> None:
    """Pipelines fail over our endpoint again and again, all at once: each table is taken off once, and left alone."""
    stage = Stage(organisation, "222233334444", "eu-west-1")
    vpc_id = stage.create_vpc("10.1.0.0/16")
    tables = [
        stage.create_table(vpc_id, stage.create_subnet(vpc_id, f"10.1.{number}.0/24")) for number in range(SERVICES)
    ]
    stage.later(minutes=6)
    ours = stage.endpoints(vpc_id)
    assert len(ours) == 3 * SERVICES
    terraform = organisation.client("ec2", stage.account_id, stage.region, as_="terraform")

    def apply(table: str) -> str:
        try:
            made = terraform.create_vpc_endpoint(
                VpcId=vpc_id,
                ServiceName="com.amazonaws.eu-west-1.s3",
                VpcEndpointType="Gateway",
                RouteTableIds=[table],
            )
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    start = len(organisation.journal.since(0))
    with ThreadPoolExecutor(4) as pool:
        failed = list(pool.map(apply, tables * _STORM))
    assert failed == ["RouteAlreadyExists"] * len(tables) * _STORM
    stage.settle()
    withdrawn = [table for table in tables for text in _withdrawn(organisation, start) if table in text]
    assert sorted(withdrawn) == sorted(tables)
    contested = {f"{table} s3" for table in tables}
    assert stage.endpoints(vpc_id) == {key: one for key, one in ours.items() if key not in contested}
    assert "leaves" in stage.description("VPCE.1", vpc_id)
    stage.later(minutes=40)
    assert not contested & set(stage.endpoints(vpc_id))
    theirs = {table: apply(table) for table in tables}
    stage.settle()
    assert {table: stage.endpoints(vpc_id)[f"{table} s3"] for table in tables} == theirs
    assert stage.finding("VPCE.1", vpc_id) == "PASSED"
    assert organisation.dead_letters() == []


def test_an_approver_may_approve_undo_and_read_the_history_and_no_more(organisation: LocalOrganisation) -> None:
    """The managed policy of the template is enough for the command line, and for nothing else."""
    stage = Stage(organisation, "333344445555", "us-east-1")
    stage.appoint_approvers()
    vpc_id = stage.create_vpc("10.2.0.0/16")
    stage.settle()
    stage.portcullis("approve", stage.finding_id("VPCE.1", vpc_id), "--yes")
    stage.settle()
    (change,) = stage.history("--resource", vpc_id)
    assert change["by"].startswith("approved by arn:aws:sts::")
    assert change["by"].endswith("/portcullis-approvers/ana")
    stage.portcullis("undo", change["change_id"], "--yes")
    stage.settle()
    assert stage.endpoints(vpc_id) == {}
    assert "Portcullis leaves" in stage.answer("VPCE.1", vpc_id)

    role_arn = f"arn:aws:iam::{HUB_ACCOUNT_ID}:role/{stage.role_name}"
    issued = organisation.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="ana")["Credentials"]
    query = {"TableName": "portcullis", "KeyConditionExpression": "pk = :pk"}
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("lambda", "invoke", {"FunctionName": "portcullis-reconcile", "Payload": b"{}"}),
        ("ssm", "put_parameter", {"Name": "/portcullis/changes", "Value": "enabled", "Overwrite": True}),
        ("dynamodb", "query", {**query, "ExpressionAttributeValues": {":pk": {"S": "limits"}}}),
        ("dynamodb", "scan", {"TableName": "portcullis"}),
    ]
    for service, call, arguments in attempts:
        client = organisation.clients._session.client(
            service,
            region_name=HOME_REGION,
            endpoint_url=organisation.clients.endpoint_url,
            aws_access_key_id=issued["AccessKeyId"],
            aws_secret_access_key=issued["SecretAccessKey"],
            aws_session_token=issued["SessionToken"],
        )
        with pytest.raises(ClientError, match="not authorized"):
            getattr(client, call)(**arguments)


def test_nothing_failed_unseen(organisation: LocalOrganisation) -> None:
    """In all of this module no function crashed, no delivery failed, and nothing is a dead letter."""
    errors: list[Any] = [step.text for step in organisation.journal.since(0) if step.kind == "error"]
    letters = [json.dumps(letter.attributes) for letter in organisation.dead_letters()]
    assert (errors, letters) == ([], [])


def test_the_plan_is_what_is_then_found_and_done(organisation: LocalOrganisation) -> None:
    """`portcullis plan`, by somebody of the account, lists the very changes and findings that the hub then makes."""
    stage = Stage(organisation, "333344445555", "ap-northeast-1")
    bare = stage.create_vpc("10.30.0.0/16")
    stage.create_table(bare, stage.create_subnet(bare, "10.30.1.0/24"))
    theirs = stage.create_vpc("10.31.0.0/16")
    stage.ec2.create_vpc_endpoint(
        VpcEndpointType="Gateway",
        VpcId=theirs,
        ServiceName=f"com.amazonaws.{stage.region}.s3",
        RouteTableIds=[stage.main_table(theirs)],
    )
    busy = stage.create_vpc("10.32.0.0/16", {"connect": "ssh"})
    running = stage.launch({"Name": "web"}, SubnetId=stage.create_subnet(busy, "10.32.1.0/24"))
    private = stage.create_vpc("10.33.0.0/16", {"network": "private"})
    stage.create_subnet(private, "10.33.1.0/24")
    stage.ec2.modify_vpc_attribute(VpcId=private, EnableDnsHostnames={"Value": True})
    node = stage.launch({"eks:nodegroup-name": "workers"})
    exempt = stage.launch({"portcullis": "hands-off"})
    stage.await_running(running, node, exempt)
    stage.settle()

    plan = stage.ask("plan", "--policy", str(POLICY))["findings"]
    began = datetime.now(UTC).isoformat()
    stage.sweep()
    stage.later(minutes=6)

    planned = {
        (one["control_id"], one["resource_id"], what)
        for one in plan
        if one["would"] == "change"
        for what in one["planned"]
    }
    done = {
        (one["control_id"], one["resource_id"], one["what"])
        for one in stage.history("--since", began, "--account", stage.account_id)
        if (one["region"], one["by"], one["progress"]) == (stage.region, BY_POLICY, "applied")
    }
    assert {resource_id for _, resource_id, _ in planned} >= {bare, theirs, busy, running}
    assert done == planned
    waiting = {(one["control_id"], one["resource_id"]): one for one in plan if one["would"] != "change"}
    assert {one["would"] for one in waiting.values()} == {"exempt", "propose", "report"}
    for (control_id, resource_id), one in waiting.items():
        text = " ".join(filter(None, (one["reason"], one["note"], one["impact"])))
        found = stage.description(control_id, resource_id)
        assert found == text or (one["would"] == "exempt" and one["reason"] in found), (control_id, resource_id)
    everything = {(one["control_id"], one["resource_id"]) for one in plan}
    filed = {finding["Id"].split("/")[1] + " " + finding["Id"].split("/")[-1] for finding in stage.findings()}
    # The plan is of the first round: the S3 endpoint that is created then lacks the policy that private networks need.
    assert filed - {f"{control_id} {resource_id}" for control_id, resource_id in everything} == {f"VPCE.5 {private}"}
    assert len(filed) == len(everything) + 1
