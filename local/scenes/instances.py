"""Instances, and the profiles that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import Stage

    from .scene import Check


def _without_role(stage: Stage) -> Iterator[Check]:
    stage.move("333344445555", "ap-northeast-1")
    instance_id = stage.launch({"Name": "batch-worker"})
    tagged_late = stage.launch({"Name": "appliance"})
    stage.await_running(instance_id, tagged_late)
    stage.settle()
    stage.read("ROLE.1", instance_id)
    # What launches instances and tags them afterwards takes so long at times; the tag is in the demo's policy.
    stage.later(seconds=45)
    stage.ec2.create_tags(Resources=[tagged_late], Tags=[{"Key": "portcullis", "Value": "hands-off"}])
    stage.later(minutes=5)
    stage.read("ROLE.1", tagged_late)
    yield "instance profile", stage.profile(instance_id), "portcullis-default"
    yield "ROLE.1 finding", stage.finding("ROLE.1", instance_id), "PASSED"
    yield "profile of the instance that was tagged late", stage.profile(tagged_late), None
    yield "its finding says why", "Exempt until" in stage.description("ROLE.1", tagged_late), True


def _not_to_be_touched(stage: Stage) -> Iterator[Check]:
    iam = stage.organisation.client("iam", stage.account_id)
    iam.create_instance_profile(InstanceProfileName="empty-profile")
    node = stage.launch({"eks:nodegroup-name": "workers", "kubernetes.io/cluster/shop": "owned"})
    theirs = stage.launch({"Name": "legacy"}, IamInstanceProfile={"Name": "empty-profile"})
    stage.await_running(node, theirs)
    stage.later(minutes=6)
    stage.read("ROLE.1", node)
    yield "the EKS node has no profile", stage.profile(node), None
    yield "ROLE.1 finding on the node", stage.finding("ROLE.1", node), "FAILED"
    yield "the profile without a role was not replaced", stage.profile(theirs), "empty-profile"
    yield "ROLE.1 finding on it", stage.finding("ROLE.1", theirs), "FAILED"


SCENES = (
    Scene(
        "Instances without a role",
        "Somebody launches two instances without an instance profile. One of them gets the tag that exempts it 45 "
        "seconds later: no change is made so early.",
        _without_role,
    ),
    Scene(
        "Instances not to be touched",
        "EKS launches a node; somebody launches an instance whose profile holds no role.",
        _not_to_be_touched,
    ),
)
