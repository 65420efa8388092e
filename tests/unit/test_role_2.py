"""ROLE.2: a table of roles, what IAM says of them, and the verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from portcullis.controls.role_2 import ROLE_2
from portcullis.model import (
    Denial,
    Evaluation,
    Instance,
    InstanceProfile,
    Kind,
    Needs,
    Permissions,
    Scope,
    Snapshot,
    Status,
)
from portcullis.policy import Policy, Subject, parse

from tests.fakes import ACCOUNT, REGION

PASSED, FAILED, NOT_APPLICABLE = Status.PASSED, Status.FAILED, Status.NOT_APPLICABLE
REGISTER, OPEN = "ssm:UpdateInstanceInformation", "ssmmessages:OpenDataChannel"
GET, LIST = "s3:GetObject", "s3:ListAllMyBuckets"
CORE, DEFAULT = "AmazonSSMManagedInstanceCore", "AmazonSSMManagedEC2InstanceDefaultPolicy"
MANAGED = "Default Host Management of Systems Manager is on"
NEEDS_AGENT = "3.2.582.0 or newer and uses IMDSv2."
WEB = InstanceProfile("web", f"arn:aws:iam::{ACCOUNT}:instance-profile/web", ("web",))
EMPTY = InstanceProfile("empty", f"arn:aws:iam::{ACCOUNT}:instance-profile/empty")

AGENT = {"actions": [REGISTER, OPEN]}
BUCKETS = {"actions": [GET, LIST]}
BY_NAME: dict[str, Any] = {"method": "managed_policies"}
IGNORE = {"default_host_management": "ignore"}


def lacks(by: str = "role", *actions: str) -> Permissions:
    """Return permissions that lack some actions, for one reason."""
    return Permissions(tuple(Denial(action, by) for action in actions))


def has(*names: str) -> Permissions:
    """Return permissions with some managed policies."""
    return Permissions(policy_names=names)


@dataclass(frozen=True)
class Row:
    """One instance, and what the control has to say."""

    name: str
    status: Status
    says: str
    remedy: str = ""
    found: Permissions | None = field(default_factory=Permissions)
    policy: dict[str, Any] = field(default_factory=lambda: BUCKETS)
    managed: bool | None = False
    profile: InstanceProfile | None = WEB


NO_ROLE = "has no role to judge; ROLE.1 is about that."
HELPS_NOT = "No policy of the role helps"
UNTOLD = "The simulator was not told: aws:SourceIp, aws:SourceVpc."
UNSURE = "could not be read (ssm:GetServiceSetting)"

ROWS = (
    # No role.
    Row("no profile", NOT_APPLICABLE, NO_ROLE, profile=None),
    Row("empty profile", NOT_APPLICABLE, NO_ROLE, profile=EMPTY),
    Row("no profile, hosts managed, buckets too", NOT_APPLICABLE, NO_ROLE, profile=None, managed=True),
    Row("no profile, hosts managed", PASSED, f"has no role. {MANAGED}", profile=None, policy=AGENT, managed=True),
    Row("empty profile, hosts managed", PASSED, NEEDS_AGENT, profile=EMPTY, policy=AGENT, managed=True),
    Row("no profile, hosts managed, default actions", PASSED, MANAGED, profile=None, policy={}, managed=True),
    Row("no profile, hosts not managed", NOT_APPLICABLE, NO_ROLE, profile=None, policy=AGENT),
    Row("no profile, perhaps managed", NOT_APPLICABLE, NO_ROLE, profile=None, policy=AGENT, managed=None),
    Row("no profile, managed but ignored", NOT_APPLICABLE, NO_ROLE, profile=None, policy=AGENT | IGNORE, managed=True),
    Row(
        "no profile, managed, a program's parameter",
        NOT_APPLICABLE,
        NO_ROLE,
        profile=None,
        policy={"actions": [REGISTER, "ssm:GetParameter"]},
        managed=True,
    ),
    Row("no profile, managed, by name", PASSED, MANAGED, profile=None, policy=BY_NAME, managed=True),
    Row(
        "no profile, managed, another policy by name",
        NOT_APPLICABLE,
        NO_ROLE,
        profile=None,
        policy=BY_NAME | {"managed_policies": [CORE, "CloudWatchAgentServerPolicy"]},
        managed=True,
    ),
    # The simulator.
    Row("all is allowed", PASSED, f"has the role web, which allows {GET}, {LIST}."),
    Row("all is allowed, hosts managed", PASSED, f"which allows {GET}, {LIST}.", managed=True),
    Row("the defaults are allowed", PASSED, f"which allows {REGISTER}, ssmmessages:CreateControlChannel", policy={}),
    Row("another scope's action lacks", PASSED, "which allows", found=lacks("role", "kms:Decrypt")),
    Row(
        "one lacks",
        FAILED,
        f"has the role web: no policy of it allows {LIST} on every resource.",
        f"Attach a policy to web that allows {LIST}.",
        found=lacks("role", LIST),
    ),
    Row("two lack", FAILED, f"allows {GET}, {LIST} on every", found=lacks("role", GET, LIST)),
    Row("in another letter case", FAILED, "allows S3:getobject on", found=lacks("role", "S3:getobject")),
    Row("the agent's lack", FAILED, REGISTER, f"{CORE} does that.", found=lacks("role", REGISTER), policy=AGENT),
    Row(
        "denied explicitly",
        FAILED,
        f"a policy of it denies {GET}.",
        f"Take the statement that denies {GET} out of the policies of web.",
        found=lacks("explicit", GET),
    ),
    Row(
        "boundary",
        FAILED,
        f"its permissions boundary does not allow {GET}.",
        f"Let the permissions boundary of web allow {GET}.",
        found=lacks("boundary", GET),
    ),
    Row("organisation", FAILED, f"service control policy does not allow {GET}.", HELPS_NOT, found=lacks("scp", GET)),
    Row(
        "for two reasons",
        FAILED,
        f"no policy of it allows {GET} on every resource; a service control policy does not allow {LIST}.",
        HELPS_NOT,
        found=Permissions((Denial(LIST, "scp"), Denial(GET, "role"))),
    ),
    Row(
        "lacks, with conditions",
        FAILED,
        UNTOLD,
        found=Permissions((Denial(GET, "role"),), ("aws:SourceIp", "aws:SourceVpc")),
    ),
    Row("allowed, with conditions", PASSED, UNTOLD, found=Permissions((), ("aws:SourceIp", "aws:SourceVpc"))),
    # Default Host Management beside a role.
    Row(
        "the agent turns to host management",
        PASSED,
        f"which does not allow {REGISTER}, {OPEN}. {MANAGED}",
        found=lacks("role", REGISTER, OPEN),
        policy=AGENT,
        managed=True,
    ),
    Row("so it does behind a boundary", PASSED, MANAGED, found=lacks("boundary", REGISTER), policy=AGENT, managed=True),
    Row(
        "the role registers, so that the agent stays with it",
        FAILED,
        f"no policy of it allows {OPEN}",
        found=lacks("role", OPEN),
        policy=AGENT,
        managed=True,
    ),
    Row(
        "it turns to host management though only its channel is asked for",
        PASSED,
        f"does not allow {OPEN}. {MANAGED}",
        found=lacks("role", REGISTER, OPEN),
        policy={"actions": [OPEN]},
        managed=True,
    ),
    Row("organisation binds both", FAILED, "service control", found=lacks("scp", REGISTER), policy=AGENT, managed=True),
    Row(
        "organisation binds the channel",
        FAILED,
        f"service control policy does not allow {OPEN}",
        found=Permissions((Denial(REGISTER, "role"), Denial(OPEN, "scp"))),
        policy=AGENT,
        managed=True,
    ),
    Row(
        "not for programs",
        FAILED,
        f"allows {REGISTER}, {GET} on",
        found=lacks("role", REGISTER, GET),
        policy={"actions": [REGISTER, GET]},
        managed=True,
    ),
    Row("ignored", FAILED, REGISTER, found=lacks("role", REGISTER), policy=AGENT | IGNORE, managed=True),
    Row("perhaps managed", FAILED, UNSURE, found=lacks("role", REGISTER), policy=AGENT, managed=None),
    Row("not managed", FAILED, REGISTER, found=lacks("role", REGISTER), policy=AGENT),
    # Managed policies by name.
    Row("attached", PASSED, "with the managed policies that are required", found=has(CORE, "x"), policy=BY_NAME),
    Row(
        "not attached",
        FAILED,
        f"has the role web, to which {CORE} is not attached.",
        f"Attach {CORE} to web.",
        found=has(DEFAULT),
        policy=BY_NAME,
    ),
    Row(
        "one of two is not attached",
        FAILED,
        "to which B is not attached.",
        found=has("A"),
        policy=BY_NAME | {"managed_policies": ["A", "B"]},
        managed=True,
    ),
    Row("names tell too little", FAILED, CORE, "method simulate tells.", found=has(), policy=BY_NAME, managed=True),
    Row(
        "the simulator does not count",
        PASSED,
        "with the managed",
        found=Permissions((Denial(GET, "role"),), (), (CORE,)),
        policy=BY_NAME,
    ),
    # What is not known.
    Row(
        "unread",
        FAILED,
        "is not known: AccessDenied: no.",
        "observer role",
        found=Permissions(unread="AccessDenied: no."),
    ),
    Row("unread, by name", FAILED, "is not known", found=Permissions(unread="no"), policy=BY_NAME),
    Row("unread, hosts managed", FAILED, "is not known", found=Permissions(unread="no"), policy=AGENT, managed=True),
    Row("not asked for", FAILED, "is not known: it was not asked for.", found=None),
)


def policy_of(*scopes: dict[str, Any], **parameters: Any) -> Policy:
    """Return a policy with the control on."""
    named = [
        {"name": f"s{number}", "where": {"accounts": [f"{number:012}"]}, "controls": {"ROLE.2": scope}}
        for number, scope in enumerate(scopes)
    ]
    return parse({"version": 1, "controls": {"ROLE.2": {"mode": "detect"} | parameters}, "scopes": named})


def judge(row: Row) -> Evaluation:
    """Evaluate a row's instance."""
    instance = Instance("i-0", "running", profile=row.profile)
    scope = Scope(ACCOUNT, REGION, instance_ids=frozenset({"i-0"}))
    permissions = {"web": row.found} if row.found else {}
    snapshot = Snapshot(scope, {}, {"i-0": instance}, permissions=permissions, host_management=row.managed)
    settings = policy_of(**row.policy).settings(Subject(ACCOUNT, (), REGION, Kind.INSTANCE, "i-0"), "ROLE.2")
    evaluation: Evaluation = ROLE_2.evaluate(snapshot, instance, settings)
    return evaluation


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdict_and_texts(row: Row) -> None:
    """Each instance gets its verdict and its sentences, a failure something to do, and none a change."""
    evaluation = judge(row)

    assert evaluation.status is row.status
    assert row.says in evaluation.reason
    assert row.remedy in evaluation.remedy
    assert (evaluation.control_id, evaluation.kind, evaluation.resource_id) == ("ROLE.2", Kind.INSTANCE, "i-0")
    assert (evaluation.actions, evaluation.wait) == ((), None)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_texts_are_sentences_and_a_failure_has_a_remedy(row: Row) -> None:
    """A reader gets whole sentences that start with the instance."""
    evaluation = judge(row)

    assert evaluation.reason.startswith("i-0 has ")
    assert evaluation.reason.endswith(".")
    assert ".." not in evaluation.reason + evaluation.remedy
    assert bool(evaluation.remedy) is (row.status is FAILED)


def test_each_reason_has_its_own_remedy() -> None:
    """Attaching a policy does not help against a boundary or the organisation."""
    denials = tuple(Denial(f"a:{by}", by) for by in ("scp", "boundary", "explicit", "role"))
    row = Row("all", FAILED, "", found=Permissions(denials), policy={"actions": [each.action for each in denials]})

    remedy = judge(row).remedy

    assert all(remedy.count(text) == 1 for text in ("Attach", "Take the statement", "permissions boundary", HELPS_NOT))
    assert CORE not in remedy


DEFAULTS = frozenset(
    {REGISTER, OPEN, *(f"ssmmessages:{name}Channel" for name in ("CreateControl", "CreateData", "OpenControl"))}
)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (policy_of(), Needs(role_actions=DEFAULTS, host_management=True)),
        (policy_of(actions=[GET]), Needs(role_actions=frozenset({GET, REGISTER}), host_management=True)),
        (policy_of(actions=[GET], **IGNORE), Needs(role_actions=frozenset({GET}))),
        (
            policy_of({"actions": [LIST]}, IGNORE, actions=[GET]),
            Needs(role_actions=frozenset({GET, LIST, REGISTER}), host_management=True),
        ),
        (policy_of(**BY_NAME), Needs(role_policies=True, host_management=True)),
        (policy_of(**BY_NAME, **IGNORE), Needs(role_policies=True)),
        (
            policy_of(BY_NAME, actions=[GET], **IGNORE),
            Needs(role_actions=frozenset({GET}), role_policies=True),
        ),
    ],
)
def test_what_is_asked_of_iam_follows_from_the_whole_policy(policy: Policy, expected: Needs) -> None:
    """All that any scope may ask; whether the role registers the agent decides what host management means for it."""
    assert ROLE_2.needs(policy) == expected
