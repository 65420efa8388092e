"""Why a request to a service gets through or not, step by step. Pure: facts in, steps out.

Sources: "Gateway endpoints" and "Access an AWS service using an interface VPC endpoint" (AWS PrivateLink guide), "DNS
attributes for your VPC" (VPC user guide), "Instance profiles" (IAM user guide), SimulatePrincipalPolicy
(IAM reference).
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from portcullis.cli.explain import ways
from portcullis.cli.explain.answer import Answer, Status, Step, Via
from portcullis.cli.explain.conditions import settled
from portcullis.cli.explain.facts import Unread
from portcullis.cli.explain.filters import admission, network_acl, security_group
from portcullis.cli.explain.ways import not_read
from portcullis.controls.role_2 import MANAGED, serves
from portcullis.endpoint_policies import allows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portcullis.cli.explain.facts import Endpoint, Machine, Network, Place, Question
    from portcullis.cli.explain.ways import Way
    from portcullis.model import Permissions

DEFAULT_PROFILE = "portcullis-default"
# "No permissions are required to perform this operation" (GetCallerIdentity, STS reference).
_FREE = ("sts:GetCallerIdentity",)
_GATEWAY_CONTROLS = {"s3": "VPCE.1", "dynamodb": "VPCE.2"}
_NO_ACTION = ("no action is known for this service", "name one with --action")
_REASONS = {
    "scp": "a service control policy of the organisation does not allow it",
    "boundary": "the role's permissions boundary does not allow it",
    "explicit": "a policy denies it explicitly",
    "role": "no policy of the role allows it",
}


def diagnose_each(place: Place, question: Question) -> list[Answer]:
    """Answer a question for a place: once for all of its subnets of which the same is true."""
    if place.machine:
        return [diagnose(place, question)]
    alike: dict[tuple[tuple[Status, str], ...], list[tuple[str, str]]] = defaultdict(list)
    for subnet_id, cidr in zip(place.subnet_ids, place.cidrs, strict=True):
        answer = diagnose(replace(place, subnet_ids=(subnet_id,), cidrs=(cidr,)), question)
        alike[tuple((step.status, step.evidence) for step in answer.steps)].append((subnet_id, cidr))
    together = [tuple(zip(*subnets, strict=True)) for subnets in alike.values()]
    return [diagnose(replace(place, subnet_ids=ids, cidrs=cidrs), question) for ids, cidrs in together]


def diagnose(place: Place, question: Question) -> Answer:
    """Answer a question for one place, whose subnets are alike.

    Args:
        place: An instance, or subnets without one: then only the network is judged.
        question: What shall get through.
    """
    way, machine, network = ways.find(place), place.machine, place.network
    steps: list[Step] = []
    if machine:
        steps += [_instance(machine, network), *_credentials(machine, network, question)]
    steps += [
        _dns(network, way, question),
        _route(place, way, question),
        _endpoint(place, way, question),
        _policy(network, way, question),
        network_acl(place, way),
    ]
    if machine:
        steps.append(security_group(place, machine, way))
    subnets = ", ".join(place.subnet_ids)
    return Answer(f"{machine.instance_id} in {subnets}" if machine else subnets, way.via, tuple(steps))


def _instance(machine: Machine, network: Network) -> Step:
    command = f"aws ec2 start-instances --region {network.region} --instance-ids {machine.instance_id}"
    match machine.state:
        case "running":
            return Step("instance", Status.PASSED, f"{machine.instance_id} is running")
        case "pending":
            command = f"aws ec2 wait instance-running --region {network.region} --instance-ids {machine.instance_id}"
            return Step("instance", Status.UNKNOWN, f"{machine.instance_id} is about to start", command)
    return Step("instance", Status.FAILED, f"{machine.instance_id} is {machine.state}", command)


def _credentials(machine: Machine, network: Network, question: Question) -> Iterator[Step]:
    profile = machine.profile
    if profile:
        yield Step("profile", Status.PASSED, f"the instance has the profile {profile.name}", control="ROLE.1")
    else:
        command = (
            f"aws ec2 associate-iam-instance-profile --region {network.region} "
            f"--instance-id {machine.instance_id} --iam-instance-profile Name={DEFAULT_PROFILE}"
        )
        status, instead = _instead(machine)
        evidence = f"the instance has no instance profile, {instead or 'so nothing gives it credentials'}"
        yield Step("profile", status, evidence, "" if status is Status.NOT_NEEDED else command, "ROLE.1")
    yield replace(_role(machine, network), control="ROLE.1")
    yield replace(_permissions(machine, question), control="ROLE.2")


def _instead(machine: Machine) -> tuple[Status, str]:
    """Tell whether it matters that a role does not serve, and what serves instead."""
    managed = machine.is_managed
    if isinstance(managed, Unread):
        return Status.UNKNOWN, f"and whether Default Host Management serves instead is not known: {not_read(managed)}"
    return (Status.NOT_NEEDED, f"but {MANAGED.rstrip('.')}") if managed else (Status.FAILED, "")


def _role(machine: Machine, network: Network) -> Step:
    profile = machine.profile
    if not machine.has_metadata:
        command = (
            f"aws ec2 modify-instance-metadata-options --region {network.region} "
            f"--instance-id {machine.instance_id} --http-endpoint enabled"
        )
        evidence = "the instance's metadata service is off, so it cannot hand out credentials"
        return Step("role", Status.FAILED, evidence, command)
    if profile is None:
        return Step("role", Status.NOT_NEEDED, "a profile comes first; the metadata service is on")
    if isinstance(profile.role, Unread):
        return Step("role", Status.UNKNOWN, not_read(profile.role))
    if profile.role is None:
        command = f"aws iam add-role-to-instance-profile --instance-profile-name {profile.name} --role-name ROLE"
        status, instead = _instead(machine)
        said = ", ".join(filter(None, (f"{profile.name} holds no role, or was deleted", instead)))
        return Step("role", status, said, "" if status is Status.NOT_NEEDED else command)
    return Step("role", Status.PASSED, f"{profile.name} holds {profile.role.name}; the metadata service is on")


def _permissions(machine: Machine, question: Question) -> Step:
    name, action, profile = "permissions", question.action, machine.profile
    role = profile.role if profile else None
    if isinstance(role, Unread):
        return Step(name, Status.UNKNOWN, not_read(role))
    if role is None:
        return _without_role(machine, action)
    if not action:
        return Step(name, Status.UNKNOWN, *_NO_ACTION)
    if action in _FREE:
        return Step(name, Status.PASSED, f"{action} needs no permission")
    if isinstance(role.permissions, Unread):
        return Step(name, Status.UNKNOWN, not_read(role.permissions))
    return _simulated(machine, role.name, role.permissions, question)


def _without_role(machine: Machine, action: str) -> Step:
    name, remedy = "permissions", f"give it a role that allows {action or 'what it calls'}"
    status, instead = _instead(machine)
    if status is Status.NOT_NEEDED:
        return Step(name, Status.PASSED, f"the instance has no role, {instead}")
    return Step(name, status, ", ".join(filter(None, ("without a role nothing is allowed", instead))), remedy)


def _simulated(machine: Machine, role_name: str, found: Permissions, question: Question) -> Step:
    name, action = "permissions", question.action
    if found.unread:
        return Step(name, Status.UNKNOWN, f"the simulator cannot evaluate the policies: {found.unread}")
    denial = next((one for one in found.denials if one.action == action), None)
    said = f"{role_name} may{' not' if denial else ''} {action} on {question.resource}"
    said += f": {_REASONS[denial.by]}" if denial else ""
    if found.missing_context:
        keys = ", ".join(found.missing_context)
        return Step(name, Status.UNKNOWN, f"{said}; but conditions look at what the simulator does not know: {keys}")
    if denial is None:
        return Step(name, Status.PASSED, said)
    status, instead = _instead(machine) if serves(found.denials, [denial]) else (Status.FAILED, "")
    if status is Status.NOT_NEEDED:
        return Step(name, Status.PASSED, f"{said}, {instead}")
    said += f", {instead}" if instead else ""
    remedy = "ask those who wrote that policy"
    if denial.by == "role":
        statement = {"Effect": "Allow", "Action": action, "Resource": question.resource}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        remedy = (
            f"aws iam put-role-policy --role-name {role_name} --policy-name {action.replace(':', '-')} "
            f"--policy-document '{document}'"
        )
    return Step(name, status, said, remedy)


def _dns(network: Network, way: Way, question: Question) -> Step:
    by_name = way.via in (Via.INTERFACE, Via.ZONE) or (way.via is Via.NONE and not network.service.has_gateway)
    control = "VPCE.3" if question.service not in _GATEWAY_CONTROLS else ""
    dns, command = network.dns, f"aws ec2 modify-vpc-attribute --region {network.region} --vpc-id {network.vpc_id}"
    if isinstance(dns, Unread):
        return Step("dns", Status.UNKNOWN, not_read(dns), control=control)
    off, remedies = [], []
    if not dns.support:
        off.append("enableDnsSupport")
        remedies.append(f"{command} --enable-dns-support")
    if by_name and not dns.hostnames:
        off.append("enableDnsHostnames")
        remedies.append(f"{command} --enable-dns-hostnames")
    if off:
        evidence = f"off in {network.vpc_id}: {', '.join(off)}; so the service's name is not resolved, or not privately"
        return Step("dns", Status.FAILED, evidence, " && ".join(remedies), control)
    return Step("dns", Status.PASSED, f"{network.vpc_id} resolves names", control=control)


def _route(place: Place, way: Way, question: Question) -> Step:
    remedy = way.remedy
    if way.via is Via.NONE:
        spare = _spare(place.network)
        joins = spare and spare.is_gateway and spare.is_available
        remedy = _joining(place, way) if joins else "the endpoint of the next step brings a way"
    return Step("route", way.status, way.evidence, remedy, _control(question))


def _endpoint(place: Place, way: Way, question: Question) -> Step:
    network, control = place.network, _control(question)

    def step(status: Status, evidence: str, remedy: str = "") -> Step:
        return Step("endpoint", status, evidence, remedy, control)

    if way.via is Via.INTERFACE and way.endpoint:
        status, evidence, remedy = admission(place, way.endpoint)
        return step(status, f"{way.endpoint.endpoint_id} is available; {evidence}", remedy)
    if way.via is Via.ZONE and way.status is Status.FAILED:
        return step(Status.NOT_NEEDED, "the name has to lead somewhere first")
    if way.via is Via.ZONE:
        return step(way.status, "a centralised one: the private hosted zone says where it is")
    if way.via is Via.PUBLIC:
        evidence = f"the public way needs none; {_kind(network)} endpoint would keep it private"
        return step(Status.NOT_NEEDED, evidence, _joining(place, way))
    if found := _candidate(network, way):
        return step(*_existing(found, network))
    return step(*_absent(place, way, question))


def _absent(place: Place, way: Way, question: Question) -> tuple[Status, str, str]:
    network = place.network
    if isinstance(network.endpoints, Unread):
        return Status.UNKNOWN, not_read(network.endpoints), ""
    if way.via is Via.GATEWAY:
        return Status.UNKNOWN, "the endpoint on the way cannot be seen", ""
    evidence = f"{network.vpc_id} does not have {_kind(network)} endpoint for {question.service}"
    if way.via is Via.NONE:
        return Status.FAILED, evidence, _joining(place, way)
    return Status.UNKNOWN, f"{evidence}; whether it needs one depends on the way", ""


def _existing(endpoint: Endpoint, network: Network) -> tuple[Status, str, str]:
    named, ec2 = endpoint.endpoint_id, f"aws ec2 %s --region {network.region} --vpc-endpoint-id"
    if not endpoint.is_available:
        look = f"{ec2 % 'describe-vpc-endpoints'}s {named}"
        return Status.FAILED, f"{named} is {endpoint.state}", look
    if endpoint.is_gateway:
        return Status.PASSED, f"{named} is available", ""
    remedy = f"{ec2 % 'modify-vpc-endpoint'} {named} --private-dns-enabled"
    return Status.FAILED, f"{named} has no private DNS name: the service's usual name does not lead to it", remedy


def _policy(network: Network, way: Way, question: Question) -> Step:
    endpoint = _candidate(network, way)
    if endpoint:
        status, evidence, remedy = _allowed(endpoint, network, question)
    elif way.via is Via.ZONE:
        status = Status.UNKNOWN if way.status is Status.UNKNOWN else Status.NOT_NEEDED
        evidence, remedy = "that of an endpoint elsewhere is its owner's, and cannot be seen from here", ""
    elif way.via is Via.GATEWAY or (isinstance(network.endpoints, Unread) and way.via is not Via.PUBLIC):
        status, evidence, remedy = Status.UNKNOWN, "the endpoint cannot be seen", ""
    else:
        evidence = "no endpoint is on the way; a new one allows everything until it is given a policy"
        status, remedy = Status.NOT_NEEDED, ""
    return Step("endpoint-policy", status, evidence, remedy, "VPCE.5")


def _allowed(endpoint: Endpoint, network: Network, question: Question) -> tuple[Status, str, str]:
    named, asked = f"the policy of {endpoint.endpoint_id}", f"{question.action} on {question.resource}"
    if not endpoint.policy:
        return Status.PASSED, f"{endpoint.endpoint_id} has no policy of its own: full access", ""
    if not question.action:
        return Status.UNKNOWN, *_NO_ACTION
    more = ""
    if isinstance(network.context, Unread):
        more = f"; {not_read(network.context)}"
    elif "aws:principalorgid" in network.context:
        more = f"; the account is in {network.context['aws:principalorgid'] or 'no organisation'}"
    context = {} if isinstance(network.context, Unread) else network.context
    verdict = allows(settled(endpoint.policy, context), question.action, question.resource)
    if verdict is None:
        return Status.UNKNOWN, f"whether {named} allows {asked} depends on its conditions{more}", ""
    if verdict:
        return Status.PASSED, f"{named} allows {asked}{more}", ""
    command = f"aws ec2 modify-vpc-endpoint --region {network.region} --vpc-endpoint-id {endpoint.endpoint_id}"
    return Status.FAILED, f"{named} does not allow {asked}{more}", f"{command} --policy-document file://policy.json"


def _candidate(network: Network, way: Way) -> Endpoint | None:
    """Return the endpoint on the way; where no way is known, one that could be on it."""
    return _spare(network) if way.via in (Via.NONE, Via.UNKNOWN) else way.endpoint


def _spare(network: Network) -> Endpoint | None:
    """Return an endpoint of the kind that the service is best reached by, which is there but not on the way."""
    endpoints = () if isinstance(network.endpoints, Unread) else network.endpoints
    kept = [one for one in endpoints if one.is_gateway is network.service.has_gateway]
    return next((one for one in kept if one.is_available), next(iter(kept), None))


def _joining(place: Place, way: Way) -> str:
    """Return the command that brings the service's endpoint to the place."""
    network, spare = place.network, _spare(place.network)
    ec2 = f"aws ec2 %s --region {network.region}"
    if spare:
        change = f"--add-route-table-ids {way.table_id}" if spare.is_gateway else "--private-dns-enabled"
        return f"{ec2 % 'modify-vpc-endpoint'} --vpc-endpoint-id {spare.endpoint_id} {change}"
    command = f"{ec2 % 'create-vpc-endpoint'} --vpc-id {network.vpc_id} --service-name {network.service.name}"
    if network.service.has_gateway:
        return f"{command} --vpc-endpoint-type Gateway --route-table-ids {way.table_id}"
    where = f"--subnet-ids {place.subnet_ids[0]} --security-group-ids GROUP"
    return f"{command} --vpc-endpoint-type Interface {where} --private-dns-enabled"


def _kind(network: Network) -> str:
    return "a gateway" if network.service.has_gateway else "an interface"


def _control(question: Question) -> str:
    return _GATEWAY_CONTROLS.get(question.service, "VPCE.3")
