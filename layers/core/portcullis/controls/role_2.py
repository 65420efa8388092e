"""ROLE.2: the role of an instance allows what the policy requires.

Sources: "Testing IAM policies with the IAM policy simulator" (IAM user guide); "Default Host Management Configuration"
(Systems Manager user guide) for what it needs and that an agent prefers the instance's role once that allows
ssm:UpdateInstanceInformation; AmazonSSMManagedEC2InstanceDefaultPolicy (AWS managed policy reference).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.controls.control import Control, Parameter
from portcullis.model import Evaluation, Kind, Needs, Permissions, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from portcullis.model import Denial, Instance, Snapshot
    from portcullis.policy import Policy, Settings

_ID = "ROLE.2"
_SIMULATE, _BY_NAME = "simulate", "managed_policies"
_ACCEPT = "accept"
REGISTERS = "ssm:UpdateInstanceInformation"
"""What an agent needs to be managed, and by which it tells whether the role serves."""

_ACTIONS = (
    REGISTERS,
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_POLICY = "AmazonSSMManagedInstanceCore"
# What the role of Default Host Management allows, as AWS makes it; it serves the agent, and no other program.
_OF_THE_AGENT = frozenset(
    (
        *(action.lower() for action in _ACTIONS),
        "ssm:describeassociation",
        "ssm:describedocument",
        "ssm:getdeployablepatchsnapshotforinstance",
        "ssm:getdocument",
        "ssm:getmanifest",
        "ssm:listassociations",
        "ssm:listinstanceassociations",
        "ssm:putcomplianceitems",
        "ssm:putconfigurepackageresult",
        "ssm:putinventory",
        "ssm:updateassociationstatus",
        "ssm:updateinstanceassociationstatus",
        "ec2messages:acknowledgemessage",
        "ec2messages:deletemessage",
        "ec2messages:failmessage",
        "ec2messages:getendpoint",
        "ec2messages:getmessages",
        "ec2messages:sendreply",
    )
)
_POLICIES_OF_THE_AGENT = frozenset((_POLICY, "AmazonSSMManagedEC2InstanceDefaultPolicy"))
_WHY = {
    "role": "no policy of it allows {} on every resource",
    "explicit": "a policy of it denies {}",
    "boundary": "its permissions boundary does not allow {}",
    "scp": "a service control policy does not allow {}",
}
_REMEDIES = {
    "role": "Attach a policy to {role} that allows {actions}.",
    "explicit": "Take the statement that denies {actions} out of the policies of {role}.",
    "boundary": "Let the permissions boundary of {role} allow {actions}.",
    "scp": "No policy of the role helps against a service control policy: ask those who keep it about {actions}.",
}
_UNREAD = (
    "Let Portcullis's observer role ask: deploy the current member stack, and look for a service control policy that "
    "denies iam:SimulatePrincipalPolicy or iam:ListAttachedRolePolicies. If IAM names a fault, mend that."
)
MANAGED = (
    "Default Host Management of Systems Manager is on here and serves instead, where the agent is 3.2.582.0 or newer "
    "and uses IMDSv2."
)
"""What Default Host Management does where a role does not serve, and on what condition."""

_UNSURE = " Whether Default Host Management would serve instead could not be read (ssm:GetServiceSetting)."


def _evaluate(snapshot: Snapshot, instance: Instance, settings: Settings) -> Evaluation:
    by_name = settings.parameter("method", _SIMULATE) == _BY_NAME
    required: Sequence[str] = settings.parameter("actions", _ACTIONS)
    if by_name:
        required = settings.parameter("managed_policies", (_POLICY,))
    managed = snapshot.host_management
    if settings.parameter("default_host_management", _ACCEPT) != _ACCEPT:
        managed = False
    if not (instance.profile and instance.profile.role_names):
        if managed and (_POLICIES_OF_THE_AGENT.issuperset(required) if by_name else is_for_the_agent(required)):
            return _said(instance, Status.PASSED, f"has no role. {MANAGED}")
        return _said(instance, Status.NOT_APPLICABLE, "has no role to judge; ROLE.1 is about that.")
    role = instance.profile.role_names[0]
    found = snapshot.permissions.get(role, Permissions(unread="it was not asked for"))
    if found.unread:
        reason = f"has the role {role}, and what that allows is not known: {found.unread.rstrip('.')}."
        return _said(instance, Status.FAILED, reason, _UNREAD)
    judge = _by_name if by_name else _by_simulation
    return judge(instance, role, found, required, managed=managed)


def _by_simulation(
    instance: Instance, role: str, found: Permissions, required: Sequence[str], *, managed: bool | None
) -> Evaluation:
    wanted = {action.lower() for action in required}
    denials = [each for each in found.denials if each.action.lower() in wanted]
    more = f" The simulator was not told: {', '.join(found.missing_context)}." if found.missing_context else ""
    if not denials:
        return _said(instance, Status.PASSED, f"has the role {role}, which allows {', '.join(required)}.{more}")
    if serves(found.denials, denials):
        if managed:
            lacking = ", ".join(each.action for each in denials)
            return _said(instance, Status.PASSED, f"has the role {role}, which does not allow {lacking}. {MANAGED}")
        more += _UNSURE if managed is None else ""
    return _denied(instance, role, denials, more)


def _by_name(
    instance: Instance, role: str, found: Permissions, required: Sequence[str], *, managed: bool | None
) -> Evaluation:
    missing = [name for name in required if name not in found.policy_names]
    if not missing:
        return _said(instance, Status.PASSED, f"has the role {role}, with the managed policies that are required.")
    names = ", ".join(missing)
    remedy = f"Attach {names} to {role}."
    if managed and _POLICIES_OF_THE_AGENT.issuperset(missing):
        remedy += f" Default Host Management serves instead unless the role allows {REGISTERS}: method simulate tells."
    return _said(instance, Status.FAILED, f"has the role {role}, to which {names} is not attached.", remedy)


def _denied(instance: Instance, role: str, denials: Sequence[Denial], more: str) -> Evaluation:
    grouped = {by: [each.action for each in denials if each.by == by] for by in _WHY}
    said = {by: ", ".join(actions) for by, actions in grouped.items() if actions}
    reasons = "; ".join(_WHY[by].format(actions) for by, actions in said.items())
    remedies = [_REMEDIES[by].format(role=role, actions=actions) for by, actions in said.items()]
    if grouped["role"] and is_for_the_agent(grouped["role"]):
        remedies.append(f"The managed policy {_POLICY} does that.")
    return _said(instance, Status.FAILED, f"has the role {role}: {reasons}.{more}", " ".join(remedies))


def is_for_the_agent(actions: Collection[str]) -> bool:
    """Tell whether the role of Default Host Management allows some actions."""
    return all(action.lower() in _OF_THE_AGENT for action in actions)


def serves(known: Collection[Denial], denials: Collection[Denial]) -> bool:
    """Tell whether Default Host Management would stand in: for the agent alone, which turns to it when the role fails.

    A service control policy binds its role as well.
    """
    falls_back = any(each.action == REGISTERS and each.by != "scp" for each in known)
    is_enough = is_for_the_agent([each.action for each in denials])
    return falls_back and is_enough and all(each.by != "scp" for each in denials)


def _said(instance: Instance, status: Status, what: str, remedy: str = "") -> Evaluation:
    name = instance.instance_id
    return Evaluation(_ID, Kind.INSTANCE, name, status, f"{name} {what}", remedy)


def _needs(policy: Policy) -> Needs:
    methods = policy.values(_ID, "method", _SIMULATE)
    accepts = _ACCEPT in policy.values(_ID, "default_host_management", _ACCEPT)
    actions = {action for each in policy.values(_ID, "actions", _ACTIONS) for action in each}
    return Needs(
        role_actions=frozenset(actions | {REGISTERS} if accepts else actions) if _SIMULATE in methods else frozenset(),
        role_policies=_BY_NAME in methods,
        host_management=accepts,
    )


ROLE_2 = Control(
    id=_ID,
    title="The role of an EC2 instance should allow what the organisation requires",
    severity="MEDIUM",
    kind=Kind.INSTANCE,
    docs="https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_testing-policies.html",
    checks=(
        "Whether IAM's simulator allows the role of an instance each of the actions that you name, with its policies, "
        "its permissions boundary and the organisation's service control policies; or, with `managed_policies`, "
        "whether the policies that you name are attached. Where Systems Manager manages hosts by default, a role need "
        "not allow what only its agent needs. Instances without a role are ROLE.1's."
    ),
    why=(
        "A role is there, the network is open, and the call is refused all the same: the agent does not register, or "
        "`aws s3 ls` prints an error. Who looks at the instance sees neither its policies nor the organisation's."
    ),
    fix=(
        "Changes nothing: what a role may do is its owner's decision. The finding names each action that is missing, "
        "and whether the role's policies, its permissions boundary or a service control policy is the reason."
    ),
    risk=(
        "The simulator is asked for every resource, so an action that is allowed on some of them only counts as "
        "missing. It knows no resource control policies, and of conditions only the Region and TLS: the finding names "
        "the keys that it was not told. With `managed_policies` only names are compared. An answer of IAM is kept for "
        "a quarter of an hour; each role costs a call of a throttled API."
    ),
    observes=(
        "ec2:DescribeIamInstanceProfileAssociations",
        "ec2:DescribeInstances",
        "iam:GetInstanceProfile",
        "iam:ListAttachedRolePolicies",
        "iam:ListInstanceProfiles",
        "iam:SimulatePrincipalPolicy",
        "ssm:GetServiceSetting",
    ),
    remediates=(),
    evaluate=_evaluate,
    parameters=(
        Parameter("actions", _ACTIONS, "What the role of every instance has to allow, without wildcards."),
        Parameter(
            "method",
            _SIMULATE,
            "`managed_policies` looks only at which managed policies are attached: cheaper, and knows less.",
        ),
        Parameter("managed_policies", (_POLICY,), "Names of the policies that have to be attached, with that method."),
        Parameter(
            "default_host_management",
            _ACCEPT,
            "`ignore` requires a role also for what Default Host Management does for the Systems Manager agent.",
        ),
    ),
    related="SSM.1 (instances managed by Systems Manager) fails where the agent's actions are missing.",
    follows=("ROLE.1",),
    needs=_needs,
)
