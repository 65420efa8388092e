"""ROLE.1: a table of instances and their verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from portcullis.actions import AssociateInstanceProfile
from portcullis.controls.role_1 import ROLE_1, managed_by
from portcullis.model import Evaluation, Instance, InstanceProfile, Kind, Scope, Snapshot, Status
from portcullis.policy import Subject, parse

from tests.fakes import ACCOUNT, DEFAULT_PROFILE, REGION

PASSED, FAILED = Status.PASSED, Status.FAILED
NO_TAGS: dict[str, str] = {}


def profile(name: str, *roles: str) -> InstanceProfile:
    """Return an instance profile."""
    return InstanceProfile(name, f"arn:aws:iam::{ACCOUNT}:instance-profile/{name}", roles)


DEFAULT = profile(DEFAULT_PROFILE, "portcullis-default-role")
CUSTOM = profile("baseline", "baseline-role")


@dataclass(frozen=True)
class Row:
    """One instance, and what the control has to say."""

    name: str
    status: Status
    says: str
    state: str = "running"
    profile: InstanceProfile | None = None
    tags: dict[str, str] = field(default_factory=dict)
    operator: str | None = None
    default: InstanceProfile | None = DEFAULT
    named: str | None = None
    associates: str | None = None
    waits: str | None = None


ASSOCIATES = DEFAULT_PROFILE
BARE = "it has no instance profile."
HANDS_OFF = "so Portcullis does not change it"

ROWS = (
    Row("bare and running", FAILED, BARE, associates=ASSOCIATES),
    Row("bare and stopped", FAILED, BARE, "stopped", associates=ASSOCIATES),
    Row("bare and pending", FAILED, BARE, "pending", associates=ASSOCIATES, waits="the instance is pending"),
    Row("bare and stopping", FAILED, BARE, "stopping", associates=ASSOCIATES, waits="the instance is stopping"),
    Row("has a role", PASSED, "has the role web", profile=profile("p", "web")),
    Row("has a role, pending", PASSED, "has the role web", "pending", profile=profile("p", "web")),
    Row("has a role, no default profile", PASSED, "has the role web", profile=profile("p", "web"), default=None),
    Row("has the default", PASSED, "has the role portcullis-default-role", profile=DEFAULT),
    Row("has a role and is managed", PASSED, "has the role web", profile=profile("p", "web"), operator="eks"),
    Row("profile without a role", FAILED, "its instance profile p holds no role", profile=profile("p")),
    Row("default profile without a role", FAILED, "holds no role", profile=profile(DEFAULT_PROFILE), default=None),
    Row("empty profile, managed", FAILED, "profile p holds no role", profile=profile("p"), operator="eks"),
    Row("empty profile, stopped", FAILED, "profile p holds no role", "stopped", profile=profile("p")),
    Row("operator", FAILED, f"managed by workspaces.amazonaws.com, {HANDS_OFF}", operator="workspaces.amazonaws.com"),
    Row("operator, pending", FAILED, HANDS_OFF, "pending", operator="an AWS service"),
    Row("Auto Scaling", FAILED, "managed by Auto Scaling", tags={"aws:autoscaling:groupName": "web"}),
    Row("EKS cluster", FAILED, "managed by EKS", tags={"eks:cluster-name": "c"}),
    Row("EKS node group", FAILED, "managed by EKS", tags={"eks:nodegroup-name": "n"}),
    Row("Karpenter", FAILED, "managed by Karpenter", tags={"karpenter.sh/nodepool": "default"}),
    Row("Kubernetes", FAILED, "managed by Kubernetes", tags={"kubernetes.io/cluster/c": "owned"}),
    Row("EMR", FAILED, "managed by EMR", tags={"aws:elasticmapreduce:job-flow-id": "j-1"}),
    Row("managed, an empty value", FAILED, "managed by Auto Scaling", tags={"aws:autoscaling:groupName": ""}),
    Row("managed among other tags", FAILED, "managed by EKS", tags={"Name": "n", "eks:cluster-name": "c", "z": ""}),
    Row("managed beats a lacking default", FAILED, "managed by EKS", tags={"eks:cluster-name": "c"}, default=None),
    Row("a tag that only resembles one", FAILED, BARE, tags={"eks:cluster-name-2": "c"}, associates=ASSOCIATES),
    Row("a prefix without its slash", FAILED, BARE, tags={"kubernetes.io/clusters": "c"}, associates=ASSOCIATES),
    Row("other case", FAILED, BARE, tags={"AWS:autoscaling:groupName": "web"}, associates=ASSOCIATES),
    Row("only a Name tag", FAILED, BARE, tags={"Name": "EKS"}, associates=ASSOCIATES),
    Row("no default profile", FAILED, f"account {ACCOUNT} has no instance profile named {ASSOCIATES}", default=None),
    Row("empty default", FAILED, f"has {ASSOCIATES}, but it holds no role", default=profile(DEFAULT_PROFILE)),
    Row("no default profile, pending", FAILED, "has no instance profile named", "pending", default=None),
    Row("another default", FAILED, BARE, default=CUSTOM, named="baseline", associates="baseline"),
    Row("another default, lacking", FAILED, "no instance profile named baseline", default=None, named="baseline"),
    Row("another default, only the usual one there", FAILED, "no instance profile named baseline", named="baseline"),
)


def judge(row: Row) -> Evaluation:
    """Evaluate a row's instance."""
    instance = Instance("i-0", row.state, profile=row.profile, operator=row.operator, tags=row.tags)
    scope = Scope(ACCOUNT, REGION, instance_ids=frozenset({"i-0"}))
    profiles = {row.default.name: row.default} if row.default else {}
    snapshot = Snapshot(scope, instances={"i-0": instance}, profiles=profiles)
    parameters = {"default_profile": row.named} if row.named else {}
    policy = parse({"version": 1, "controls": {"ROLE.1": {"mode": "remediate"} | parameters}})
    settings = policy.settings(Subject(ACCOUNT, (), REGION, Kind.INSTANCE, "i-0"), "ROLE.1")
    return ROLE_1.evaluate(snapshot, instance, settings)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdict_action_and_wait(row: Row) -> None:
    """Each instance gets its verdict, its sentence, and an association only where that is safe."""
    evaluation = judge(row)

    expected = (AssociateInstanceProfile("ROLE.1", "i-0", row.associates),) if row.associates else ()
    assert evaluation.status is row.status
    assert evaluation.actions == expected
    assert evaluation.wait == row.waits
    assert row.says in evaluation.reason
    assert (evaluation.control_id, evaluation.kind, evaluation.resource_id) == ("ROLE.1", Kind.INSTANCE, "i-0")


TAKEN = [
    row for row in ROWS if row.profile or managed_by(Instance("i-0", row.state, operator=row.operator, tags=row.tags))
]


@pytest.mark.parametrize("row", TAKEN, ids=lambda row: row.name)
def test_what_somebody_else_takes_care_of_is_never_changed(row: Row) -> None:
    """An instance that has a profile, whatever it holds, or that a service manages: no action, no waiting."""
    evaluation = judge(row)

    assert (evaluation.actions, evaluation.wait) == ((), None)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_texts_are_sentences_and_a_failure_has_a_remedy(row: Row) -> None:
    """A reader gets a whole sentence that starts with the instance, and something to do about a failure."""
    evaluation = judge(row)

    assert evaluation.reason.startswith("i-0 ")
    assert evaluation.reason.endswith(".")
    assert ".." not in evaluation.reason
    assert bool(evaluation.remedy) is (row.status is FAILED)


def test_the_remedy_for_a_managed_instance_is_its_launch_template() -> None:
    """Changing the instance itself would be undone by the next launch."""
    row = next(row for row in ROWS if row.name == "Auto Scaling")
    assert "launch template" in judge(row).remedy


def test_nobody_manages_an_instance_without_tags() -> None:
    """An instance that people launched is theirs."""
    assert managed_by(Instance("i-0", "running", tags=NO_TAGS)) is None
