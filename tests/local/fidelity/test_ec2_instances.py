"""Instances take time to change their state, say so, and have at most one instance profile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from local.fidelity import ec2_instances

from .conftest import MEMBER, REGION, Aws, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PROFILE = {"Name": "app"}


@pytest.fixture
def profiles(aws: Aws) -> dict[str, str]:
    """Create the instance profiles `app` and `other`; their ARNs by name."""
    iam = aws.client("iam")
    return {
        name: iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]
        for name in ("app", "other")
    }


def _run(ec2: Any, **parameters: Any) -> str:
    wanted = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1, **parameters}
    return str(ec2.run_instances(**wanted)["Instances"][0]["InstanceId"])


def _instance(ec2: Any, instance_id: str) -> dict[str, Any]:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    return dict(reservation["Instances"][0])


def _wait(ec2: Any, instance_id: str, state: str) -> None:
    deadline = time.monotonic() + 5
    while _instance(ec2, instance_id)["State"]["Name"] != state:
        assert time.monotonic() < deadline, f"never {state}"
        time.sleep(0.02)


def _running(ec2: Any, **parameters: Any) -> str:
    instance_id = _run(ec2, **parameters)
    _wait(ec2, instance_id, "running")
    return instance_id


def _associations(ec2: Any, instance_id: str) -> list[dict[str, Any]]:
    by_instance = [{"Name": "instance-id", "Values": [instance_id]}]
    answer = ec2.describe_iam_instance_profile_associations(Filters=by_instance)
    return list(answer["IamInstanceProfileAssociations"])


@pytest.fixture
def endless_transitions(aws: Aws) -> Iterator[pytest.MonkeyPatch]:
    """Let no transition end, so that no timing decides; `undo` lets later ones end soon, as `aws` has it."""
    del aws  # it shortens the transitions, and must have done so before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ec2_instances, "TRANSITION_SECONDS", 3600)
        yield patch


def test_every_state_on_the_way_is_seen_and_announced(aws: Aws, ec2: Any) -> None:
    """pending, running, stopping, stopped, pending, running, shutting-down, terminated."""
    url = aws.watch({"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]})
    instance_id = _run(ec2)
    _wait(ec2, instance_id, "running")
    ec2.stop_instances(InstanceIds=[instance_id])
    _wait(ec2, instance_id, "stopped")
    ec2.start_instances(InstanceIds=[instance_id])
    _wait(ec2, instance_id, "running")
    ec2.terminate_instances(InstanceIds=[instance_id])
    _wait(ec2, instance_id, "terminated")
    events = aws.received(url)
    states = ["pending", "running", "stopping", "stopped", "pending", "running", "shutting-down", "terminated"]
    assert [event["detail"] for event in events] == [{"instance-id": instance_id, "state": state} for state in states]
    assert events[0]["resources"] == [f"arn:aws:ec2:{REGION}:{MEMBER}:instance/{instance_id}"]
    assert events[0]["account"] == MEMBER


@pytest.mark.usefixtures("endless_transitions")
def test_a_state_on_the_way_is_seen(ec2: Any) -> None:
    """DescribeInstances shows it, with its code, until the next one is reached."""
    instance_id = _run(ec2)
    assert _instance(ec2, instance_id)["State"] == {"Code": 0, "Name": "pending"}
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert _instance(ec2, instance_id)["State"] == {"Code": 32, "Name": "shutting-down"}


def test_an_instance_terminated_while_pending_never_runs(
    aws: Aws, ec2: Any, endless_transitions: pytest.MonkeyPatch
) -> None:
    """The transition that was under way is void."""
    url = aws.watch({"detail-type": ["EC2 Instance State-change Notification"]})
    instance_id = _run(ec2)
    endless_transitions.undo()
    ec2.terminate_instances(InstanceIds=[instance_id])
    _wait(ec2, instance_id, "terminated")
    states = [event["detail"]["state"] for event in aws.received(url)]
    assert states == ["pending", "shutting-down", "terminated"]


def test_starting_a_running_instance_changes_nothing(ec2: Any) -> None:
    """It stays running, without passing through pending."""
    instance_id = _running(ec2)
    ec2.start_instances(InstanceIds=[instance_id])
    assert _instance(ec2, instance_id)["State"]["Name"] == "running"


def test_a_dry_run_launches_nothing(ec2: Any) -> None:
    """RunInstances with DryRun."""
    wanted = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1, "DryRun": True}
    assert error_of(ec2.run_instances, **wanted)[0] == "DryRunOperation"
    assert ec2.describe_instances()["Reservations"] == []


@pytest.mark.usefixtures("profiles", "endless_transitions")
def test_a_profile_is_not_associated_with_a_pending_instance(ec2: Any) -> None:
    """Straight after RunInstances the instance is usually pending; moto knows no pending."""
    instance_id = _run(ec2)
    wanted = {"InstanceId": instance_id, "IamInstanceProfile": PROFILE}
    code, message = error_of(ec2.associate_iam_instance_profile, **wanted)
    assert code == "IncorrectInstanceState"
    assert message == f"The instance '{instance_id}' is not in the 'running' or 'stopped' states."


@pytest.mark.usefixtures("profiles")
def test_a_profile_is_associated_with_a_stopped_instance(ec2: Any) -> None:
    """Running or stopped, both will do."""
    instance_id = _running(ec2)
    wanted = {"InstanceId": instance_id, "IamInstanceProfile": PROFILE}
    ec2.stop_instances(InstanceIds=[instance_id])
    _wait(ec2, instance_id, "stopped")
    association = ec2.associate_iam_instance_profile(**wanted)["IamInstanceProfileAssociation"]
    assert association["State"] == "associating"
    assert [one["State"] for one in _associations(ec2, instance_id)] == ["associated"]


@pytest.mark.usefixtures("profiles")
def test_a_second_profile_is_refused(ec2: Any) -> None:
    """One profile for each instance."""
    instance_id = _running(ec2, IamInstanceProfile=PROFILE)
    wanted = {"InstanceId": instance_id, "IamInstanceProfile": {"Name": "other"}}
    code, message = error_of(ec2.associate_iam_instance_profile, **wanted)
    assert (code, message) == ("IncorrectState", f"There is an existing association for instance {instance_id}")


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (
            {"Name": "x"},
            "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        ),
        (
            {"Arn": "arn:x"},
            "Value (arn:x) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN",
        ),
    ],
)
def test_an_unknown_profile_looks_like_a_bad_parameter(ec2: Any, profile: dict[str, str], message: str) -> None:
    """The same error as while IAM's change is under way; moto answers with IAM's own."""
    instance_id = _running(ec2)
    wanted = {"InstanceId": instance_id, "IamInstanceProfile": profile}
    assert error_of(ec2.associate_iam_instance_profile, **wanted) == ("InvalidParameterValue", message)
    launch = {"ImageId": "ami-12345678", "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": profile}
    assert error_of(ec2.run_instances, **launch) == ("InvalidParameterValue", message)


def test_every_instance_launched_with_a_profile_has_an_association(ec2: Any, profiles: dict[str, str]) -> None:
    """Moto associates the first one of a launch only."""
    launched = ec2.run_instances(ImageId="ami-12345678", MinCount=2, MaxCount=2, IamInstanceProfile=PROFILE)
    for instance in launched["Instances"]:
        (association,) = _associations(ec2, instance["InstanceId"])
        assert association["IamInstanceProfile"]["Arn"] == profiles["app"]
        assert _instance(ec2, instance["InstanceId"])["IamInstanceProfile"]["Arn"] == profiles["app"]


def test_describe_instances_follows_the_association(ec2: Any, profiles: dict[str, str]) -> None:
    """After Replace and Disassociate, too; moto shows the replaced profile for ever."""
    instance_id = _running(ec2, IamInstanceProfile=PROFILE)
    (association,) = _associations(ec2, instance_id)
    ec2.replace_iam_instance_profile_association(
        AssociationId=association["AssociationId"], IamInstanceProfile={"Name": "other"}
    )
    (association,) = _associations(ec2, instance_id)
    assert association["IamInstanceProfile"]["Arn"] == profiles["other"]
    assert _instance(ec2, instance_id)["IamInstanceProfile"] == association["IamInstanceProfile"]
    ec2.disassociate_iam_instance_profile(AssociationId=association["AssociationId"])
    assert _associations(ec2, instance_id) == []
    assert "IamInstanceProfile" not in _instance(ec2, instance_id)


@pytest.mark.usefixtures("profiles")
def test_replacing_needs_a_running_instance(ec2: Any) -> None:
    """ReplaceIamInstanceProfileAssociation is for running instances only."""
    instance_id = _running(ec2, IamInstanceProfile=PROFILE)
    (association,) = _associations(ec2, instance_id)
    ec2.stop_instances(InstanceIds=[instance_id])
    wanted = {"AssociationId": association["AssociationId"], "IamInstanceProfile": {"Name": "other"}}
    assert error_of(ec2.replace_iam_instance_profile_association, **wanted)[0] == "IncorrectState"


@pytest.mark.usefixtures("profiles")
def test_a_terminated_instance_loses_its_association(ec2: Any) -> None:
    """And associations can be searched by state."""
    instance_id = _running(ec2, IamInstanceProfile=PROFILE)
    associated = [{"Name": "state", "Values": ["associated"]}]
    found = ec2.describe_iam_instance_profile_associations(Filters=associated)
    assert len(found["IamInstanceProfileAssociations"]) == 1
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert _associations(ec2, instance_id) == []
