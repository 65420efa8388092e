"""Interface endpoints and their security group: what is sent, what repeating and refusals come to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.actions import CreateInterfaceEndpoint, DeleteEndpoint, DeleteSecurityGroup
from portcullis.endpoint_policies import digest
from portcullis.model import OWNERSHIP_TAG, Outcome, Result

from tests.adapters.doubles import REGION
from tests.adapters.remediating import CHANGE, Ec2, cidr_rule, tagged

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adapters.doubles import Script

SSM, S3 = (f"com.amazonaws.{REGION}.{name}" for name in ("ssm", "s3"))
CIDRS = ("10.0.0.0/16", "2001:db8::/56")
CREATE = CreateInterfaceEndpoint("VPCE.3", "vpc-1", SSM, ("subnet-1", "subnet-2"), CIDRS)
WITH_GROUP = replace(CREATE, group_id="sg-1")
NAME = "portcullis-VPCE.3"
MADE = {
    "VpcEndpointId": "vpce-9",
    "State": "pending",
    "SubnetIds": ["subnet-2", "subnet-1"],
    "PolicyDocument": '{"Statement": []}',
}
CONFLICT = f"private-dns-enabled cannot be set because there is already a conflicting DNS domain for {SSM} in the VPC"


@pytest.fixture
def ec2(script: Callable[[str], Script]) -> Ec2:
    """Return a scripted EC2."""
    return Ec2(script("ec2"))


def expect_group(ec2: Ec2) -> None:
    """Expect the creation of the security group."""
    ec2.script.expect("create_security_group", {"GroupId": "sg-1"})


def expect_rules(ec2: Ec2, *refusals: str) -> None:
    """Expect a rule for each address block; the first ones may be refused."""
    for number, cidr in enumerate(CIDRS):
        if number < len(refusals) and refusals[number]:
            ec2.script.refuse("authorize_security_group_ingress", refusals[number])
        else:
            request = {"GroupId": "sg-1", "IpPermissions": [cidr_rule(443, cidr)]}
            ec2.script.expect("authorize_security_group_ingress", {"Return": True}, request)


def expect_endpoint(ec2: Ec2, **answer: Any) -> None:
    """Expect the creation of the endpoint."""
    ec2.script.expect("create_vpc_endpoint", {"VpcEndpoint": {**MADE, **answer}})


def found(ec2: Ec2, *groups: dict[str, Any]) -> None:
    """Let the group's name be taken, and expect the question by whom."""
    ec2.script.refuse("create_security_group", "InvalidGroup.Duplicate")
    filters = [{"Name": "vpc-id", "Values": ["vpc-1"]}, {"Name": "group-name", "Values": [NAME]}]
    ec2.script.expect("describe_security_groups", {"SecurityGroups": list(groups)}, {"Filters": filters})


# ---- Creating ------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_created_with_a_group_of_its_own(ec2: Ec2) -> None:
    """The group admits HTTPS from all the VPC's blocks; both carry our tags, and nothing is left to a default."""
    expect_group(ec2)
    expect_rules(ec2)
    expect_endpoint(ec2)

    outcome = ec2.perform(CREATE)

    assert ec2.request("CreateSecurityGroup") == {
        "GroupName": NAME,
        "Description": "Made by Portcullis for VPCE.3: admits HTTPS from this VPC to its interface endpoints",
        "VpcId": "vpc-1",
        "TagSpecifications": tagged("security-group", "VPCE.3"),
    }
    assert ec2.request("CreateVpcEndpoint") == {
        "VpcId": "vpc-1",
        "ServiceName": SSM,
        "VpcEndpointType": "Interface",
        "SubnetIds": ["subnet-1", "subnet-2"],
        "SecurityGroupIds": ["sg-1"],
        "PrivateDnsEnabled": True,
        "ClientToken": CHANGE,
        "TagSpecifications": tagged("vpc-endpoint", "VPCE.3"),
    }
    said = f"Portcullis created vpce-9 ({SSM}) in subnet-1, subnet-2."
    after = {
        "route_table_ids": [],
        "subnet_ids": ["subnet-1", "subnet-2"],
        "policy_digest": digest('{"Statement": []}'),
    }
    assert outcome == Outcome(CREATE, Result.APPLIED, "vpce-9", said, after)


def test_the_group_that_is_there_is_used(ec2: Ec2) -> None:
    """What it admits already is fine; a missing rule is added all the same."""
    expect_rules(ec2, "InvalidPermission.Duplicate")
    expect_endpoint(ec2)

    assert ec2.perform(WITH_GROUP).result is Result.APPLIED
    assert "CreateSecurityGroup" not in ec2.script.calls


def test_the_group_of_an_earlier_try_is_found_by_name(ec2: Ec2) -> None:
    """A crash after it was made, or the endpoint of another service in the same look: it is one for all."""
    found(ec2, {"GroupId": "sg-1", "Tags": [{"Key": OWNERSHIP_TAG, "Value": "true"}]})
    expect_rules(ec2, "InvalidPermission.Duplicate", "InvalidPermission.Duplicate")
    expect_endpoint(ec2)

    assert ec2.perform(CREATE).result is Result.APPLIED
    assert ec2.request("CreateVpcEndpoint")["SecurityGroupIds"] == ["sg-1"]


@pytest.mark.parametrize("tags", [{}, {"Tags": [{"Key": OWNERSHIP_TAG, "Value": "false"}]}])
def test_a_group_of_somebody_else_is_never_used(ec2: Ec2, tags: dict[str, Any]) -> None:
    """It happens to have the name: nothing is changed, and a person is told which one it is."""
    found(ec2, {"GroupId": "sg-7", **tags})

    outcome = ec2.perform(CREATE)

    assert outcome.result is Result.FAILED
    assert f"sg-7 in vpc-1 is called {NAME} and is not Portcullis's, by its tags" in outcome.detail


def test_a_group_that_aws_does_not_show_yet_is_looked_for_again(ec2: Ec2) -> None:
    """The answers of EC2 do not agree at once."""
    found(ec2)

    outcome = ec2.perform(CREATE)

    assert (outcome.result, outcome.resource_id) == (Result.RETRY, None)
    assert f"does not show the security group {NAME} of vpc-1 yet" in outcome.detail


def test_private_names_are_as_the_policy_wants_them(ec2: Ec2) -> None:
    """None; or for S3, where a gateway endpoint serves the VPC itself, only for queries from outside."""
    for action in (
        replace(WITH_GROUP, private_dns=False),
        replace(WITH_GROUP, service_name=S3, resolver_only=True),
    ):
        expect_rules(ec2)
        expect_endpoint(ec2)
        assert ec2.perform(action).result is Result.APPLIED
    without, for_resolvers = (request for name, request in ec2.script.requests if name == "CreateVpcEndpoint")
    assert (without["PrivateDnsEnabled"], "DnsOptions" in without) == (False, False)
    assert for_resolvers["PrivateDnsEnabled"] is True
    assert for_resolvers["DnsOptions"] == {"PrivateDnsOnlyForInboundResolverEndpoint": True}


@pytest.mark.parametrize("state", ["pendingAcceptance", "PendingAcceptance"])
def test_one_that_waits_for_its_owner_is_made_and_said_to_wait(ec2: Ec2, state: str) -> None:
    """Nothing is left that Portcullis could do."""
    expect_rules(ec2)
    expect_endpoint(ec2, State=state)

    outcome = ec2.perform(WITH_GROUP)

    assert outcome.result is Result.APPLIED
    assert outcome.detail.endswith("subnet-2. It serves once the owner of the service has accepted it.")


def test_one_without_all_its_subnets_is_looked_at_again(ec2: Ec2) -> None:
    """A success that does not say everything is no success: the same change is gone on with."""
    expect_rules(ec2)
    expect_endpoint(ec2, SubnetIds=["subnet-2"])

    outcome = ec2.perform(WITH_GROUP)

    assert (outcome.result, outcome.resource_id) == (Result.RETRY, None)
    assert "AWS created vpce-9 without ['subnet-1']" in outcome.detail


def test_a_token_that_is_answered_with_what_is_gone_makes_nothing(ec2: Ec2) -> None:
    """The next try is a change of its own."""
    expect_rules(ec2)
    expect_endpoint(ec2, State="rejected")

    outcome = ec2.perform(WITH_GROUP)

    assert (outcome.result, outcome.resource_id) == (Result.RETRY, "vpce-9")


# ---- Refusals ------------------------------------------------------------------------------------------------------


def test_a_name_that_somebody_else_answers_for_is_nothing_to_mend(ec2: Ec2) -> None:
    """A centralised endpoint does: neither a failure nor a change, and the group is not left behind."""
    expect_group(ec2)
    expect_rules(ec2)
    ec2.script.refuse("create_vpc_endpoint", "InvalidParameter", CONFLICT)
    ec2.script.expect("delete_security_group", {}, {"GroupId": "sg-1"})

    outcome = ec2.perform(CREATE)

    assert outcome == Outcome(
        CREATE,
        Result.NEEDLESS,
        detail=(
            f"The private name of {SSM} already resolves in vpc-1 to another endpoint, typically a centralised one "
            "whose hosted zone is associated with the VPC: Portcullis has nothing to mend. Exempt the VPC from VPCE.3, "
            "or set private_dns: false for an endpoint of its own."
        ),
    )


@pytest.mark.parametrize(
    ("code", "expected", "is_deleted"),
    [
        ("InvalidParameter", Result.FAILED, True),
        ("VpcEndpointLimitExceeded", Result.FAILED, True),
        ("RequestLimitExceeded", Result.RETRY, False),
        ("InvalidSubnetId.NotFound", Result.RETRY, False),
        ("InvalidGroup.NotFound", Result.RETRY, False),
    ],
)
def test_a_new_group_goes_when_the_endpoint_is_refused_for_good(
    ec2: Ec2, code: str, expected: Result, *, is_deleted: bool
) -> None:
    """Where the next look tries again, it finds the group by its name."""
    expect_group(ec2)
    expect_rules(ec2)
    ec2.script.refuse("create_vpc_endpoint", code, "another reason")
    if is_deleted:
        ec2.script.expect("delete_security_group", {}, {"GroupId": "sg-1"})

    outcome = ec2.perform(CREATE)

    assert outcome.result is expected
    assert outcome.detail.startswith(f"AWS did not let Portcullis {CREATE}: {code}: another reason.")


def test_what_aws_said_first_is_told_even_if_the_group_cannot_go(ec2: Ec2) -> None:
    """It is found by name at the next try."""
    expect_group(ec2)
    expect_rules(ec2)
    ec2.script.refuse("create_vpc_endpoint", "UnauthorizedOperation", "an SCP says no")
    ec2.script.refuse("delete_security_group", "UnauthorizedOperation", "an SCP says no to that, too")

    assert ec2.perform(CREATE).detail == f"AWS did not let Portcullis {CREATE}: UnauthorizedOperation: an SCP says no."


def test_a_group_that_was_there_before_stays_when_the_endpoint_is_refused(ec2: Ec2) -> None:
    """Other endpoints may have it."""
    expect_rules(ec2)
    ec2.script.refuse("create_vpc_endpoint", "UnauthorizedOperation")

    assert ec2.perform(WITH_GROUP).result is Result.FAILED
    assert "DeleteSecurityGroup" not in ec2.script.calls


@pytest.mark.parametrize("operation", ["create_security_group", "authorize_security_group_ingress"])
def test_without_its_group_there_is_no_endpoint(ec2: Ec2, operation: str) -> None:
    """It would get the VPC's default group, which often blocks HTTPS."""
    if operation != "create_security_group":
        expect_group(ec2)
    ec2.script.refuse(operation, "UnauthorizedOperation", "an SCP says no")
    if operation != "create_security_group":
        ec2.script.expect("delete_security_group", {})

    assert ec2.perform(CREATE).result is Result.FAILED
    assert "CreateVpcEndpoint" not in ec2.script.calls


# ---- Taking back ---------------------------------------------------------------------------------------------------

DELETE = DeleteEndpoint("VPCE.3", "vpc-1", "vpce-1", SSM, "sg-1")
GROUP = DeleteSecurityGroup("VPCE.3", "vpc-1", "sg-1")


@pytest.mark.parametrize("refusal", ["", "InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"])
@pytest.mark.parametrize("is_gone", [False, True])
def test_the_group_goes_after_its_endpoint(ec2: Ec2, refusal: str, *, is_gone: bool) -> None:
    """An endpoint that is gone already, or a group, is as good as deleted."""
    error = {"Code": "InvalidVpcEndpoint.NotFound", "Message": "does not exist"}
    unsuccessful = [{"ResourceId": "vpce-1", "Error": error}] if is_gone else []
    ec2.script.expect("delete_vpc_endpoints", {"Unsuccessful": unsuccessful}, {"VpcEndpointIds": ["vpce-1"]})
    if refusal:
        ec2.script.refuse("delete_security_group", refusal)
    else:
        ec2.script.expect("delete_security_group", {}, {"GroupId": "sg-1"})

    said = f"Portcullis deleted vpce-1 ({SSM}) and its security group sg-1."
    assert ec2.perform(DELETE) == Outcome(DELETE, Result.APPLIED, "vpce-1", said)


def test_while_network_interfaces_go_the_group_is_tried_again(ec2: Ec2) -> None:
    """They take AWS a minute or more; the same change goes on then."""
    ec2.script.expect("delete_vpc_endpoints", {"Unsuccessful": []})
    ec2.script.refuse("delete_security_group", "DependencyViolation")
    ec2.named_by("sg-1")

    outcome = ec2.perform(DELETE)

    said = (
        f"Portcullis deleted vpce-1 ({SSM}), but not yet its security group sg-1: AWS takes a minute or more to remove "
        "the network interfaces."
    )
    assert outcome == Outcome(DELETE, Result.RETRY, detail=said)


def test_a_group_that_others_name_stays(ec2: Ec2) -> None:
    """AWS does not let it go, and nobody else's rule is touched."""
    ec2.script.expect("delete_vpc_endpoints", {"Unsuccessful": []})
    ec2.script.refuse("delete_security_group", "DependencyViolation")
    ec2.named_by("sg-1", "sg-8", "sg-1", egress=("sg-7",))

    outcome = ec2.perform(DELETE)

    said = f"Portcullis deleted vpce-1 ({SSM}); its security group sg-1 stays, named in rules of sg-7, sg-8."
    assert outcome == Outcome(DELETE, Result.APPLIED, "vpce-1", said)


def test_an_endpoint_that_aws_keeps_keeps_its_group(ec2: Ec2) -> None:
    """Refused for good: nothing else is tried."""
    ec2.script.refuse("delete_vpc_endpoints", "UnauthorizedOperation")

    assert ec2.perform(DELETE).result is Result.FAILED


def test_a_group_that_cannot_go_for_another_reason_is_a_failure(ec2: Ec2) -> None:
    """The finding says what AWS said."""
    ec2.script.expect("delete_vpc_endpoints", {"Unsuccessful": []})
    ec2.script.refuse("delete_security_group", "UnauthorizedOperation", "an SCP says no")

    outcome = ec2.perform(DELETE)

    assert outcome.result is Result.FAILED
    assert outcome.detail == f"AWS did not let Portcullis {DELETE}: UnauthorizedOperation: an SCP says no."


def test_a_left_over_group_makes_way(ec2: Ec2) -> None:
    """For a VPC that is to be deleted."""
    ec2.script.expect("delete_security_group", {}, {"GroupId": "sg-1"})

    assert ec2.perform(GROUP) == Outcome(GROUP, Result.APPLIED, "sg-1", "Portcullis deleted sg-1.")


@pytest.mark.parametrize(
    ("naming", "expected", "said"),
    [
        ((), Result.RETRY, "delete the security group sg-1 yet: a network interface still has it."),
        (("sg-8",), Result.FAILED, "delete the security group sg-1: rules of sg-8 name it."),
    ],
)
def test_a_left_over_group_in_use_stays(ec2: Ec2, naming: tuple[str, ...], expected: Result, said: str) -> None:
    """What has it may go by itself; somebody's rule does not."""
    ec2.script.refuse("delete_security_group", "DependencyViolation")
    ec2.named_by("sg-1", *naming)

    assert ec2.perform(GROUP) == Outcome(GROUP, expected, detail=f"Portcullis could not {said}")
