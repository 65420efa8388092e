"""VPCE.5: endpoints have the policy that the policy file names for their service.

Policies are compared by what they mean. Source: "Control access to VPC endpoints using endpoint policies" (AWS
PrivateLink guide).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portcullis.actions import SetEndpointPolicy, listed, short_name
from portcullis.controls.control import OF_VPCS, Control, Parameter
from portcullis.endpoint_policies import digest, render
from portcullis.model import Evaluation, Kind, Status

if TYPE_CHECKING:
    from portcullis.model import Snapshot, Vpc, VpcEndpoint
    from portcullis.policy import Settings

_ID = "VPCE.5"
_KINDS = ("gateway", "interface")
_ALIVE = ("available", "pending")


def _evaluate(snapshot: Snapshot, vpc: Vpc, settings: Settings) -> Evaluation:
    if vpc.owner_id != snapshot.scope.account_id:
        reason = f"{vpc.vpc_id} is shared by account {vpc.owner_id}, whose endpoints these are."
        return Evaluation(_ID, Kind.VPC, vpc.vpc_id, Status.NOT_APPLICABLE, reason)
    # A full name is of no other service than its short one: what a policy may not say to that, it says to neither.
    policies = {short_name(service): name for service, name in settings.parameter("policies", ())}
    concerned = {short: found for short in policies if (found := _endpoints(vpc, short))}
    if not concerned:
        services = f" of {listed(list(policies))}" if policies else " whose policy is named"
        reason = f"{vpc.vpc_id} has no endpoint{services}, so none with a wrong policy."
        return Evaluation(_ID, Kind.VPC, vpc.vpc_id, Status.NOT_APPLICABLE, reason)
    wrong: list[tuple[VpcEndpoint, SetEndpointPolicy]] = []
    faults: list[str] = []
    for short, endpoints in concerned.items():
        name = policies[short]
        try:
            document = _document(snapshot, settings, name, short)
        except ValueError as error:
            faults.append(f"The policy {name} cannot be given to {short}: {error}")
            continue
        wrong += [
            (one, SetEndpointPolicy(_ID, vpc.vpc_id, one.endpoint_id, one.service_name, name, document))
            for one in endpoints
            if one.policy_digest != digest(document)
        ]
    if not wrong and not faults:
        checked = listed([one.endpoint_id for endpoints in concerned.values() for one in endpoints])
        reason = f"The endpoints of {vpc.vpc_id} have the policies that are named for them: {checked}."
        return Evaluation(_ID, Kind.VPC, vpc.vpc_id, Status.PASSED, reason)
    reasons = [
        f"Without the policy {name}{whose}: {listed(ids)}."
        for name in dict.fromkeys(action.name for _, action in wrong)
        for whose, is_ours in (("", True), (", and created by others", False))
        if (ids := [one.endpoint_id for one, action in wrong if action.name == name and one.is_ours is is_ours])
    ]
    pending = [one.endpoint_id for one, _ in wrong if one.is_ours and one.state == "pending"]
    return Evaluation(
        _ID,
        Kind.VPC,
        vpc.vpc_id,
        Status.FAILED,
        reason=f"{vpc.vpc_id}: {' '.join([*reasons, *faults])}",
        remedy=_remedy(wrong[0][0].endpoint_id if wrong else ""),
        actions=tuple(action for one, action in wrong if one.is_ours),
        wait=f"{pending[0]} is pending" if pending else None,
        remains=bool(faults) or not all(one.is_ours for one, _ in wrong),
    )


def _endpoints(vpc: Vpc, short: str) -> list[VpcEndpoint]:
    """Return the endpoints of a service; what AWS services manage has the policy that they gave it."""
    return sorted(
        (
            one
            for one in vpc.endpoints
            if one.endpoint_type.lower() in _KINDS
            and one.state in _ALIVE
            and not one.requester_managed
            and short_name(one.service_name) == short
        ),
        key=lambda one: one.endpoint_id,
    )


def _document(snapshot: Snapshot, settings: Settings, name: str, short: str) -> str:
    """Write out a policy of the policy file; raises ValueError."""
    if name not in settings.endpoint_policies:
        raise ValueError("the policy file has no endpoint policy of this name.")
    scope = snapshot.scope
    return render(settings.endpoint_policies[name], snapshot.partition, scope.region, scope.account_id, short)


def _remedy(endpoint_id: str) -> str:
    if not endpoint_id:
        return "Mend endpoint_policies in the policy file."
    return (
        "Check what the policy would cut off, then set it where it lacks, or name another one for the service: aws ec2 "
        f"modify-vpc-endpoint --vpc-endpoint-id {endpoint_id} --policy-document file://policy.json"
    )


VPCE_5 = Control(
    id=_ID,
    title="VPC endpoints should have the endpoint policy that is named for their service",
    severity="MEDIUM",
    kind=Kind.VPC,
    docs="https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html",
    checks=(
        "Whether the endpoints of the services that you name have the policy that you name for them, filled in for "
        "this partition, Region and account. What two policies mean is compared, not how they are written."
    ),
    why=(
        "AWS gives an endpoint a policy that allows everything: whoever is in the VPC can use it with credentials of "
        "another organisation, and carry data to buckets and tables of others. An endpoint policy that names the "
        "organisation is the network's part of a data perimeter."
    ),
    fix=(
        "Sets the named policy on gateway and interface endpoints that Portcullis created, for this Region, partition "
        "and account, after checking its length. Policies that say the same are equal, however they are written. "
        "Endpoints of others are reported, and those that AWS services manage are left out. Undoing puts the policy "
        "back that was there."
    ),
    risk=(
        "A tight policy breaks what nobody thought of: package repositories (Amazon Linux, Windows updates), container "
        "image layers, agents and CloudFormation signals are in buckets of AWS; presigned URLs, anonymous downloads "
        "and buckets of partners have no principal or resource of the organisation. The perimeter names AWS's buckets "
        "as far as they are known, for reading, and CloudFormation's two for putting what signals and custom resources "
        "answer, which lets data out to stacks of others; further buckets to read go into `buckets`. Begin in mode "
        "`detect` and with one account. The policy applies to new requests at once, without interrupting connections."
    ),
    observes=(*OF_VPCS, "ec2:DescribeVpcEndpointServices"),
    remediates=("ec2:ModifyVpcEndpoint",),
    evaluate=_evaluate,
    parameters=(
        Parameter(
            "policies",
            {},
            "Which of the policy file's `endpoint_policies` the endpoints of a service have, by the service's short "
            "name, as in `{s3: perimeter}`. Services that are not named are not judged.",
        ),
    ),
    related="None of AWS's own controls looks at endpoint policies.",
    follows=("VPCE.1", "VPCE.2", "VPCE.3", _ID),
)
