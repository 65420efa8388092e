"""Time can be moved forward: of the local AWS, of the functions, and of who waits for something in it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from local.fidelity import hooks

if TYPE_CHECKING:
    from local.organisation import LocalOrganisation

MEMBER = "111122223333"
HOUR = timedelta(hours=1)


def performed(organisation: LocalOrganisation, start: int) -> list[dict[str, Any]]:
    """Return what the example's last function saw since a step."""
    return [step.data["performed"] for step in organisation.journal.since(start) if "performed" in step.data]


def by_hand(organisation: LocalOrganisation, what: str, **form: str) -> str:
    """Do what the help of `make local` says to do with curl."""
    url = f"{organisation.clients.endpoint_url}/moto-api/by-hand/{what}"
    with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode()) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode())


def test_functions_and_the_trail_go_with_the_time(organisation: LocalOrganisation) -> None:
    """A warm process of a function, time after time; the journal; CloudTrail's times; sessions."""
    function = organisation.functions["Perform"]
    pid = function.invoke({"do": "look"}).result["pid"]
    for _ in range(2):
        before = time.time()
        organisation.move_time(timedelta(minutes=20))
        seen = function.invoke({"do": "look"}).result
        assert seen["pid"] == pid
        assert before + 1200 <= seen["time"] <= time.time()
        assert datetime.fromisoformat(seen["now"]).timestamp() >= seen["time"]
        assert seen["remaining"] > 0
        assert organisation.journal.since(0)[-1].at >= before + 1200
    start = len(organisation.journal.since(0))
    organisation.client("ec2", MEMBER).create_vpc(CidrBlock="10.0.0.0/16")
    assert organisation.settled(20)
    (event,) = performed(organisation, start)
    at = datetime.fromisoformat(event["detail"]["eventTime"])
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=5)
    role = f"arn:aws:iam::{MEMBER}:role/OrganizationAccountAccessRole"
    issued = organisation.client("sts").assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]
    assert issued["Expiration"] > datetime.now(UTC) + timedelta(minutes=50)


def test_a_session_that_has_expired_is_refused(organisation: LocalOrganisation) -> None:
    """So a function's process ends with its session: the next one has new credentials."""
    function = organisation.functions["Dispatch"]
    event = {"source": "x", "detail-type": "x", "account": "1", "id": "1", "seconds": 0}
    for number in range(2):
        records = [{"messageId": "m", "body": json.dumps({**event, "id": str(number)})}]
        assert function.invoke({"Records": records}).error is None
        old = function._idle[-1]
        organisation.move_time(HOUR)
    keys = function._credentials(function.spec)
    organisation.move_time(HOUR + timedelta(seconds=1))
    client = organisation.clients._session.client(
        "sqs",
        endpoint_url=organisation.clients.endpoint_url,
        region_name="us-east-1",
        **{name.lower(): value for name, value in keys.items()},
    )
    with pytest.raises(Exception, match="ExpiredToken"):
        client.send_message(QueueUrl="x", MessageBody="x")
    assert function.invoke({"Records": []}).error is None
    assert old.poll() is not None
    assert organisation.settled(20)


def test_a_batch_in_progress_is_waited_for(organisation: LocalOrganisation) -> None:
    """Its message does not time out under the function's hands, and is not handed out twice."""
    start = len(organisation.journal.since(0))
    sqs = organisation.client("sqs")
    url = sqs.get_queue_url(QueueName="portcullis-Work.fifo")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody='{"seconds": 0.5, "what": "slow"}', MessageGroupId="slow")
    while not performed(organisation, start):
        time.sleep(0.01)
    organisation.move_time(HOUR)
    assert organisation.settled(20)
    assert len(performed(organisation, start)) == 1


def test_time_only_moves_forward(organisation: LocalOrganisation) -> None:
    """The rest of the local AWS relies on it."""
    for wrong in (timedelta(), -HOUR):
        with pytest.raises(ValueError, match="only moves forward"):
            organisation.move_time(wrong)


def test_time_can_be_moved_from_outside(organisation: LocalOrganisation) -> None:
    """With nothing but the URL; what makes no sense is answered with a sentence."""
    before = hooks.installed.clock()
    assert by_hand(organisation, "time", forward="31m").startswith("it is now 20")
    assert hooks.installed.clock() >= before + 1860
    wrong = {"time": {"forward": "soon"}, "custom-action": {"action": "None", "finding": "f"}, "x": {}}
    for what, form in wrong.items():
        with pytest.raises(urllib.error.HTTPError, match="400"):
            by_hand(organisation, what, **form)
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(f"{organisation.clients.endpoint_url}/moto-api/by-hand/time")  # noqa: S310 - our own


def test_an_analyst_can_use_a_custom_action_from_outside(organisation: LocalOrganisation) -> None:
    """A member's finding of another Region, in the hub's home Region; it passes the rule on the hub's default bus."""
    client = organisation.client("securityhub", MEMBER, "eu-west-1")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    finding = {
        "SchemaVersion": "2018-10-08",
        "Id": "f",
        "ProductArn": f"arn:aws:securityhub:eu-west-1:{MEMBER}:product/{MEMBER}/default",
        "GeneratorId": "x",
        "AwsAccountId": MEMBER,
        "CreatedAt": now,
        "UpdatedAt": now,
        "Title": "x",
        "Description": "x",
        "Resources": [{"Type": "AwsEc2Vpc", "Id": "x"}],
        "Severity": {"Label": "LOW"},
    }
    assert client.batch_import_findings(Findings=[finding])["FailedCount"] == 0
    start = len(organisation.journal.since(0))
    assert by_hand(organisation, "custom-action", action="Mend", finding="f") == "sent\n"
    assert organisation.settled(20)
    (event,) = performed(organisation, start)
    assert (event["account"], event["region"]) == ("123456789012", "us-east-1")
    assert [one["Id"] for one in event["detail"]["findings"]] == ["f"]
