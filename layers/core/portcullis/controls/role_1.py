"""ROLE.1: an instance has an instance profile that holds a role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.actions import AssociateInstanceProfile
from portcullis.controls.control import Control, Parameter
from portcullis.model import Evaluation, Instance, Kind, Needs, Snapshot, Status

if TYPE_CHECKING:
    from portcullis.policy import Policy, Settings

_ID = "ROLE.1"
DEFAULT_PROFILE = "portcullis-default"

# Tags by which the creators of instances mark them as theirs: exact names, then prefixes. Published captures
# of launches by Auto Scaling and EKS; those of Karpenter and EMR are believed, and only prevent a change.
_MANAGER_TAGS = {
    "aws:autoscaling:groupName": "Auto Scaling",
    "eks:cluster-name": "EKS",
    "eks:nodegroup-name": "EKS",
    "karpenter.sh/nodepool": "Karpenter",
}
_MANAGER_TAG_PREFIXES = {"kubernetes.io/cluster/": "Kubernetes", "aws:elasticmapreduce:": "EMR"}


def _evaluate(snapshot: Snapshot, instance: Instance, settings: Settings) -> Evaluation:
    if instance.profile and instance.profile.role_names:
        reason = f"{instance.instance_id} has the role {instance.profile.role_names[0]}."
        return Evaluation(_ID, Kind.INSTANCE, instance.instance_id, Status.PASSED, reason)
    if instance.profile:
        return _failed(
            instance,
            f"its instance profile {instance.profile.name} holds no role",
            f"Add a role to the instance profile {instance.profile.name}. Portcullis never replaces a profile.",
        )
    if owner := managed_by(instance):
        return _failed(
            instance,
            f"it has no instance profile; it is managed by {owner}, so Portcullis does not change it",
            "Name an instance profile in the launch template or node group that creates this instance; "
            "instances launched from then on have it.",
        )
    name = settings.parameter("default_profile", DEFAULT_PROFILE)
    default = snapshot.profiles.get(name)
    if default is None or not default.role_names:
        lack = f"has no instance profile named {name}" if default is None else f"has {name}, but it holds no role"
        return _failed(
            instance,
            f"it has no instance profile, and account {snapshot.scope.account_id} {lack}",
            f"Deploy Portcullis's member stack (it creates {name}), or associate a profile yourself.",
        )
    waits = instance.state not in ("running", "stopped")
    return Evaluation(
        _ID,
        Kind.INSTANCE,
        instance.instance_id,
        Status.FAILED,
        reason=_sentence(instance, "it has no instance profile"),
        remedy=f"Associate an instance profile that holds a role; the default one is {name}.",
        actions=(AssociateInstanceProfile(_ID, instance.instance_id, name),),
        wait=f"the instance is {instance.state}" if waits else None,
    )


def _needs(policy: Policy) -> Needs:
    return Needs(profiles=policy.values(_ID, "default_profile", DEFAULT_PROFILE))


def managed_by(instance: Instance) -> str | None:
    """Name the service that manages an instance, or None for one that people launched themselves."""
    if instance.operator:
        return instance.operator
    for tag in sorted(instance.tags):
        for prefix, owner in _MANAGER_TAG_PREFIXES.items():
            if tag.startswith(prefix):
                return owner
        if tag in _MANAGER_TAGS:
            return _MANAGER_TAGS[tag]
    return None


def _failed(instance: Instance, why: str, remedy: str) -> Evaluation:
    reason = _sentence(instance, why)
    return Evaluation(_ID, Kind.INSTANCE, instance.instance_id, Status.FAILED, reason, remedy)


def _sentence(instance: Instance, why: str) -> str:
    return f"{instance.instance_id} gets no AWS credentials: {why}."


ROLE_1 = Control(
    id=_ID,
    title="EC2 instances should have an instance profile that holds a role",
    severity="MEDIUM",
    kind=Kind.INSTANCE,
    docs="https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-roles-for-amazon-ec2.html",
    checks=(
        "Whether an instance has an instance profile, and whether that holds a role: a profile may be empty, and its "
        "name says nothing. Instances that are managed by others (Auto Scaling, EKS, EMR, ...) are only reported."
    ),
    why="Without a role, programs on the instance have no credentials, or people copy long-lived keys onto it.",
    fix="Associates the default instance profile with an instance that has none. Never replaces a profile.",
    risk=(
        "Programs that found no credentials now find the default role's. A stack that associates a profile of "
        "its own later must replace the association."
    ),
    observes=(
        "ec2:DescribeIamInstanceProfileAssociations",
        "ec2:DescribeInstances",
        "iam:GetInstanceProfile",
        "iam:ListInstanceProfiles",
    ),
    remediates=("ec2:AssociateIamInstanceProfile", "ec2:DisassociateIamInstanceProfile", "iam:PassRole"),
    evaluate=_evaluate,
    parameters=(Parameter("default_profile", DEFAULT_PROFILE, "Name of the profile to associate."),),
    needs=_needs,
    related="SSM.1 (instances managed by Systems Manager) fails for many of the same instances.",
)
