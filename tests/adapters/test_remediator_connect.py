"""EC2 Instance Connect Endpoints, their security group, and the rules on the instances' side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.actions import (
    AdmitInstanceConnect,
    CreateInstanceConnectEndpoint,
    DeleteInstanceConnectEndpoint,
    StopAdmitting,
)
from portcullis.model import CHANGE_TAG, OWNERSHIP_TAG, Outcome, Result

from tests.adapters.remediating import CHANGE, OTHER_CHANGE, Ec2, cidr_rule, tagged

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.actions import Action

    from tests.adapters.doubles import Script

CIDRS = ("10.0.0.0/16", "2001:db8::/56")
CREATE = CreateInstanceConnectEndpoint("VPCE.4", "vpc-1", "subnet-1", CIDRS, (22, 3389))
WITH_GROUP = replace(CREATE, group_id="sg-1")
DELETE = DeleteInstanceConnectEndpoint("VPCE.4", "vpc-1", "eice-1", "sg-1")
ADMIT = AdmitInstanceConnect("VPCE.4", "vpc-1", "sg-7", "sg-1", (22, 3389))
STOP = StopAdmitting("VPCE.4", "vpc-1", "sg-7", "sg-1", (22, 3389))


@pytest.fixture
def ec2(script: Callable[[str], Script]) -> Ec2:
    """Return a scripted EC2."""
    return Ec2(script("ec2"))


def expect_rules(ec2: Ec2, *, again: bool = False, is_new: bool = False) -> None:
    """Expect the ways out to the VPC's blocks; and in a new group the end of the ways to everywhere."""
    for rule in [cidr_rule(port, cidr) for port in (22, 3389) for cidr in CIDRS]:
        if again:
            ec2.script.refuse("authorize_security_group_egress", "InvalidPermission.Duplicate")
        else:
            request = {"GroupId": "sg-1", "IpPermissions": [rule]}
            ec2.script.expect("authorize_security_group_egress", {"Return": True}, request)
    everywhere = ({"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]})
    for where in everywhere if is_new else ():
        if again:
            ec2.script.refuse("revoke_security_group_egress", "InvalidPermission.NotFound")
        else:
            request = {"GroupId": "sg-1", "IpPermissions": [{"IpProtocol": "-1", **where}]}
            ec2.script.expect("revoke_security_group_egress", {"Return": True}, request)


def expect_endpoint(ec2: Ec2, state: str = "create-in-progress", **more: Any) -> None:
    """Expect the creation of the endpoint."""
    made = {"InstanceConnectEndpointId": "eice-9", "State": state, **more}
    ec2.script.expect("create_instance_connect_endpoint", {"InstanceConnectEndpoint": made})


def test_an_endpoint_is_created_with_a_group_that_leads_to_the_vpc_only(ec2: Ec2) -> None:
    """No way in, and out only to the ports of the VPC's blocks; both carry our tags."""
    ec2.script.expect("create_security_group", {"GroupId": "sg-1"})
    expect_rules(ec2, is_new=True)
    expect_endpoint(ec2)

    outcome = ec2.perform(CREATE)

    assert ec2.request("CreateSecurityGroup") == {
        "GroupName": "portcullis-VPCE.4",
        "Description": "Made by Portcullis for VPCE.4: lets the EC2 Instance Connect Endpoint out to this VPC",
        "VpcId": "vpc-1",
        "TagSpecifications": tagged("security-group", "VPCE.4"),
    }
    assert ec2.request("CreateInstanceConnectEndpoint") == {
        "SubnetId": "subnet-1",
        "SecurityGroupIds": ["sg-1"],
        "PreserveClientIp": False,
        "ClientToken": CHANGE,
        "TagSpecifications": tagged("instance-connect-endpoint", "VPCE.4"),
    }
    said = "Portcullis created eice-9 in subnet-1; it takes AWS some minutes to complete it."
    assert outcome == Outcome(CREATE, Result.APPLIED, "eice-9", said)
    assert "AuthorizeSecurityGroupIngress" not in ec2.script.calls


def expect_found(ec2: Ec2, **tags: str) -> None:
    """Expect the group's name to be taken, and who has it to be asked for."""
    ec2.script.refuse("create_security_group", "InvalidGroup.Duplicate")
    listed = [{"Key": key, "Value": value} for key, value in ({OWNERSHIP_TAG: "true"} | tags).items()]
    filters = [{"Name": "vpc-id", "Values": ["vpc-1"]}, {"Name": "group-name", "Values": ["portcullis-VPCE.4"]}]
    found = {"SecurityGroups": [{"GroupId": "sg-1", "Tags": listed}]}
    ec2.script.expect("describe_security_groups", found, {"Filters": filters})


def test_doing_it_again_is_harmless(ec2: Ec2) -> None:
    """The group of the same change has its rules already, and the token is the same."""
    expect_found(ec2, **{CHANGE_TAG: CHANGE})
    expect_rules(ec2, again=True, is_new=True)
    expect_endpoint(ec2, "create-complete")

    assert ec2.perform(CREATE).result is Result.APPLIED


@pytest.mark.parametrize("is_named", [False, True])
def test_a_group_that_was_there_loses_no_way_out(ec2: Ec2, *, is_named: bool) -> None:
    """Something that runs may have it, whoever gave it our tags."""
    if not is_named:
        expect_found(ec2, **{CHANGE_TAG: OTHER_CHANGE})
    expect_rules(ec2)
    expect_endpoint(ec2)

    assert ec2.perform(WITH_GROUP if is_named else CREATE).result is Result.APPLIED
    assert "RevokeSecurityGroupEgress" not in ec2.script.calls


def test_the_address_of_the_client_is_preserved_where_the_policy_wants_that(ec2: Ec2) -> None:
    """Which only an endpoint of IPv4 alone can do."""
    expect_rules(ec2)
    expect_endpoint(ec2)

    ec2.perform(replace(WITH_GROUP, preserve_client_ip=True))

    request = ec2.request("CreateInstanceConnectEndpoint")
    assert (request["PreserveClientIp"], request["IpAddressType"]) == (True, "ipv4")


@pytest.mark.parametrize(
    ("state", "more", "told"),
    [
        ("delete-complete", {}, "is delete-complete; Portcullis tries again."),
        ("create-failed", {"StateMessage": "no free address"}, "is create-failed (no free address); Portcullis"),
        ("", {"StateMessage": ""}, "is gone; Portcullis tries again."),
    ],
)
def test_a_token_that_is_answered_with_what_is_gone_makes_nothing(
    ec2: Ec2, state: str, more: dict[str, str], told: str
) -> None:
    """The outcome names what this change once made, so that the next try is a change of its own."""
    expect_rules(ec2)
    expect_endpoint(ec2, state, **more)

    outcome = ec2.perform(WITH_GROUP)

    assert (outcome.result, outcome.resource_id) == (Result.RETRY, "eice-9")
    assert told in outcome.detail


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("ResourceLimitExceeded", "A VPC and a subnet can have one EC2 Instance Connect Endpoint each; where it is"),
        ("SecurityGroupLimitExceeded", "'VPC security groups per Region'"),
        ("SomethingLimitExceeded", "See in Service Quotas which quota it is, and have AWS raise it."),
    ],
)
def test_a_quota_is_named_with_a_remedy(ec2: Ec2, code: str, told: str) -> None:
    """And the group that was made for it is not left behind."""
    ec2.script.expect("create_security_group", {"GroupId": "sg-1"})
    expect_rules(ec2, is_new=True)
    ec2.script.refuse("create_instance_connect_endpoint", code, "too many")
    ec2.script.expect("delete_security_group", {}, {"GroupId": "sg-1"})

    outcome = ec2.perform(CREATE)

    assert outcome.result is Result.FAILED
    assert outcome.detail.startswith(f"AWS did not let Portcullis {CREATE}: {code}: too many. ")
    assert told in outcome.detail


# ---- Taking back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_endpoint_goes_with_its_group(ec2: Ec2, *, is_gone: bool) -> None:
    """Also when somebody has deleted the endpoint meanwhile."""
    if is_gone:
        ec2.script.refuse("delete_instance_connect_endpoint", "InvalidInstanceConnectEndpointId.NotFound")
    else:
        ec2.script.expect("delete_instance_connect_endpoint", {}, {"InstanceConnectEndpointId": "eice-1"})
    ec2.script.expect("delete_security_group", {}, {"GroupId": "sg-1"})

    said = "Portcullis deleted eice-1 and its security group sg-1."
    assert ec2.perform(DELETE) == Outcome(DELETE, Result.APPLIED, "eice-1", said)


def test_a_group_that_instances_admit_stays(ec2: Ec2) -> None:
    """People have put it into the rules of theirs, as the finding told them to."""
    ec2.script.expect("delete_instance_connect_endpoint", {})
    ec2.script.refuse("delete_security_group", "DependencyViolation")
    ec2.named_by("sg-1", "sg-7")

    said = "Portcullis deleted eice-1; its security group sg-1 stays, named in rules of sg-7."
    assert ec2.perform(DELETE) == Outcome(DELETE, Result.APPLIED, "eice-1", said)


def test_one_without_a_group_of_ours_goes_alone(ec2: Ec2) -> None:
    """Other endpoints have the group, or it is somebody else's."""
    action = replace(DELETE, group_id="")
    ec2.script.expect("delete_instance_connect_endpoint", {})
    ec2.script.refuse("delete_instance_connect_endpoint", "InvalidInstanceConnectEndpointId.NotFound")

    first, again = ec2.perform(action), ec2.perform(action)

    assert first == Outcome(action, Result.APPLIED, "eice-1", "Portcullis deleted eice-1.")
    assert again == Outcome(action, Result.APPLIED, "eice-1", "eice-1 was gone already.")


# ---- The instances' side -------------------------------------------------------------------------------------------


def rule(port: int, **more: str) -> list[dict[str, Any]]:
    """Return the IpPermissions of a port from the endpoint's group."""
    source = {"GroupId": "sg-1", **more}
    return [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "UserIdGroupPairs": [source]}]


ADMITTED = Outcome(ADMIT, Result.APPLIED, "sg-7", "Portcullis lets sg-7 admit sg-1 on TCP 22, 3389.")
OTHERS = rule(22, Description=f"Made by Portcullis for VPCE.4: {OTHER_CHANGE}")


def made(port: int) -> list[dict[str, Any]]:
    """Return the IpPermissions of a rule of this change."""
    return rule(port, Description=f"Made by Portcullis for VPCE.4: {CHANGE}")


def expect_admission(ec2: Ec2, port: int) -> None:
    """Expect a rule to be made."""
    tags = tagged("security-group-rule", "VPCE.4")
    request = {"GroupId": "sg-7", "IpPermissions": made(port), "TagSpecifications": tags}
    ec2.script.expect("authorize_security_group_ingress", {"Return": True}, request)


def expect_duplicate(ec2: Ec2, *there: dict[str, Any]) -> None:
    """Expect a rule that is there already, and the question whose it is."""
    ec2.script.refuse("authorize_security_group_ingress", "InvalidPermission.Duplicate")
    groups = {"SecurityGroups": [{"GroupId": "sg-7", "IpPermissions": list(there)}]}
    ec2.script.expect("describe_security_groups", groups, {"GroupIds": ["sg-7"]})


def expect_revocation(ec2: Ec2, port: int) -> None:
    """Expect a rule to be taken back."""
    request = {"GroupId": "sg-7", "IpPermissions": rule(port)}
    ec2.script.expect("revoke_security_group_ingress", {"Return": True}, request)


def test_a_group_of_instances_admits_the_endpoint_by_tagged_rules(ec2: Ec2) -> None:
    """One a port, from the endpoint's group only."""
    expect_admission(ec2, 22)
    expect_admission(ec2, 3389)

    assert ec2.perform(ADMIT) == ADMITTED


def test_the_rule_of_an_earlier_try_is_fine(ec2: Ec2) -> None:
    """The process died after it, or AWS's answer was lost: the rule says which change made it."""
    everything = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}
    expect_duplicate(ec2, everything, *made(22))
    expect_admission(ec2, 3389)

    assert ec2.perform(ADMIT) == ADMITTED


@pytest.mark.parametrize(
    "there",
    [rule(22), rule(22, Description="ssh"), OTHERS, made(3389), []],
    ids=["bare", "theirs", "of another change", "another port", "gone again"],
)
def test_the_same_rule_of_somebody_else_does_not_become_ours(ec2: Ec2, there: list[dict[str, Any]]) -> None:
    """Undoing would revoke it: the change is given up, and the next look sees what is left to do."""
    expect_duplicate(ec2, *there)

    assert ec2.perform(ADMIT) == Outcome(
        ADMIT,
        Result.RETRY,
        detail="Somebody else let sg-7 admit sg-1 on TCP 22 meanwhile. Portcullis looks again.",
        is_refuted=True,
    )


def test_what_was_made_before_is_taken_back_then(ec2: Ec2) -> None:
    """Nobody would undo the rule of a change that was given up."""
    expect_admission(ec2, 22)
    expect_duplicate(ec2, *rule(3389))
    expect_revocation(ec2, 22)

    outcome = ec2.perform(ADMIT)

    assert (outcome.result, outcome.is_refuted) == (Result.RETRY, True)


@pytest.mark.parametrize(
    ("code", "is_final"), [("RulesPerSecurityGroupLimitExceeded", True), ("RequestLimitExceeded", False)]
)
def test_a_half_of_it_stays_only_if_the_rest_is_tried_again(ec2: Ec2, code: str, *, is_final: bool) -> None:
    """What AWS refuses for good leaves nothing behind."""
    expect_admission(ec2, 22)
    ec2.script.refuse("authorize_security_group_ingress", code)
    if is_final:
        expect_revocation(ec2, 22)

    assert ec2.perform(ADMIT).result is (Result.FAILED if is_final else Result.RETRY)


def test_exactly_those_rules_are_taken_back(ec2: Ec2) -> None:
    """What is not there any more is fine."""
    ec2.script.refuse("revoke_security_group_ingress", "InvalidPermission.NotFound")
    request = {"GroupId": "sg-7", "IpPermissions": rule(3389)}
    ec2.script.expect("revoke_security_group_ingress", {"Return": True}, request)

    outcome = ec2.perform(STOP)

    said = "Portcullis no longer lets sg-7 admit sg-1 on TCP 22, 3389."
    assert outcome == Outcome(STOP, Result.APPLIED, "sg-7", said)


@pytest.mark.parametrize(
    ("action", "operation", "code", "expected"),
    [
        (ADMIT, "authorize_security_group_ingress", "UnauthorizedOperation", Result.FAILED),
        (ADMIT, "authorize_security_group_ingress", "InvalidGroup.NotFound", Result.RETRY),
        (ADMIT, "authorize_security_group_ingress", "RulesPerSecurityGroupLimitExceeded", Result.FAILED),
        (STOP, "revoke_security_group_ingress", "UnauthorizedOperation", Result.FAILED),
        (STOP, "revoke_security_group_ingress", "RequestLimitExceeded", Result.RETRY),
    ],
)
def test_a_refusal_ends_it(ec2: Ec2, action: Action, operation: str, code: str, expected: Result) -> None:
    """No further rule is tried."""
    ec2.script.refuse(operation, code)

    outcome = ec2.perform(action)

    assert (outcome.result, outcome.resource_id) == (expected, None)
    assert outcome.detail.startswith(f"AWS did not let Portcullis {action}: {code}: ")
