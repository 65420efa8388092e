"""From events to targets: every call, in both of EC2's dialects, whole, truncated, failed and forged."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portcullis.errors import UnreadableEventError
from portcullis.model import Caller, Cause, Conflict, Kind, Target
from portcullis.triggers import (
    CALL_NAMES,
    PATTERNS,
    caller_of,
    cause_of,
    conflict_of,
    heartbeat_of,
    is_own,
    shown_name,
    targets_of,
    trigger_of,
)

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, REMEDIATOR_ROLE

VPC = Target(ACCOUNT, REGION, Kind.VPC, "vpc-0a")
I1, I2 = (Target(ACCOUNT, REGION, Kind.INSTANCE, instance_id) for instance_id in ("i-01", "i-02"))
EVERYTHING = Target(ACCOUNT, REGION, Kind.ACCOUNT_REGION)

Json = Any
ARABIC_ONE = chr(0x661)


def event(detail: Json, detail_type: str = "AWS API Call via CloudTrail", **envelope: Json) -> dict[str, Json]:
    """Return an EventBridge event."""
    return {
        "version": "0",
        "id": "6f3c1a52-0000-4000-8000-000000000000",
        "detail-type": detail_type,
        "source": "aws.ec2",
        "account": ACCOUNT,
        "time": "2026-03-02T09:00:00Z",
        "region": REGION,
        "resources": [],
        "detail": detail,
        **envelope,
    }


def call(name: str, request: Json = None, response: Json = None, **more: Json) -> dict[str, Json]:
    """Return the event of an EC2 call, in the old dialect unless the parts are wrapped already."""
    record = {
        "eventVersion": "1.09",
        "eventSource": "ec2.amazonaws.com",
        "eventName": name,
        "awsRegion": REGION,
        "requestParameters": request,
        "responseElements": response,
        "readOnly": False,
        "eventType": "AwsApiCall",
    }
    return event(record | more)


def new(name: str, request: Json = None, response: Json = None, **more: Json) -> dict[str, Json]:
    """Return the event of an EC2 call in the new dialect: request and response in wrappers."""
    answer = {"xmlns": "http://ec2.amazonaws.com/doc/2016-11-15/", "requestId": "r"} | (response or {})
    return call(name, {f"{name}Request": request}, {f"{name}Response": answer}, **more)


def items(*instance_ids: str) -> dict[str, Json]:
    """Return an instancesSet of the old dialect."""
    return {"instancesSet": {"items": [{"instanceId": instance_id} for instance_id in instance_ids]}}


LAUNCH = {"instancesSet": {"items": [{"minCount": 1, "maxCount": 2}]}, "subnetId": "subnet-0a"}
VPC_0A = {"vpcId": "vpc-0a", "ownerId": 11122223333}
ASSOCIATION = {"iamInstanceProfileAssociation": {"associationId": "iip-assoc-0", "instanceId": "i-01"}}


def fleet(*sets: Json) -> dict[str, Json]:
    """Return the answer of an instant CreateFleet."""
    return {"fleetId": "fleet-0", "fleetInstanceSet": {"item": list(sets)}}


CASES: dict[str, tuple[dict[str, Json], list[Target]]] = {
    "CreateVpc": (call("CreateVpc", {"cidrBlock": "10.0.0.0/16"}, {"requestId": "r", "vpc": VPC_0A}), [VPC]),
    "CreateVpc, new dialect": (new("CreateVpc", {"CidrBlock": "10.0.0.0/16"}, {"vpc": VPC_0A}), [VPC]),
    "CreateVpc, response truncated": (call("CreateVpc", {"cidrBlock": "10.0.0.0/16"}), [EVERYTHING]),
    "CreateVpc, VPC truncated": (call("CreateVpc", {}, {"requestId": "r"}), [EVERYTHING]),
    "CreateDefaultVpc, empty request": (new("CreateDefaultVpc", "", {"vpc": VPC_0A}), [VPC]),
    "CreateDefaultVpc, old dialect": (call("CreateDefaultVpc", None, {"vpc": VPC_0A}), [VPC]),
    "CreateDefaultVpc, empty strings": (
        call("CreateDefaultVpc", {"CreateDefaultVpcRequest": ""}, {"CreateDefaultVpcResponse": ""}),
        [EVERYTHING],
    ),
    "CreateSubnet": (call("CreateSubnet", {"vpcId": "vpc-0a"}, {"subnet": VPC_0A}), [VPC]),
    "CreateSubnet, response truncated": (call("CreateSubnet", {"vpcId": "vpc-0a"}), [VPC]),
    "CreateSubnet, request truncated": (call("CreateSubnet", None, {"subnet": VPC_0A}), [VPC]),
    "CreateSubnet, both truncated": (call("CreateSubnet"), [EVERYTHING]),
    "CreateRouteTable": (call("CreateRouteTable", {"vpcId": "vpc-0a"}, {"routeTable": VPC_0A}), [VPC]),
    "CreateRouteTable, new dialect": (new("CreateRouteTable", {"VpcId": "vpc-0a"}, {}), [VPC]),
    "AssociateRouteTable": (
        call("AssociateRouteTable", {"routeTableId": "rtb-0", "subnetId": "subnet-0"}, {"associationId": "a"}),
        [EVERYTHING],
    ),
    "ReplaceRouteTableAssociation": (
        call("ReplaceRouteTableAssociation", {"associationId": "a", "routeTableId": "rtb-0"}, {"_return": True}),
        [EVERYTHING],
    ),
    "DisassociateRouteTable": (call("DisassociateRouteTable", {"associationId": "a"}, {"_return": True}), [EVERYTHING]),
    "DeleteRouteTable": (call("DeleteRouteTable", {"routeTableId": "rtb-0"}, {"_return": True}), [EVERYTHING]),
    "CreateVpcEndpoint, one table": (
        new("CreateVpcEndpoint", {"VpcId": "vpc-0a", "RouteTableId": {"tag": 1, "content": "rtb-0"}},
            {"vpcEndpoint": VPC_0A | {"routeTableIdSet": {"item": "rtb-0"}}}),
        [VPC],
    ),
    "CreateVpcEndpoint, many tables, empty sets": (
        new("CreateVpcEndpoint", {"VpcId": "vpc-0a", "RouteTableId": [{"tag": 1, "content": "rtb-0"}]},
            {"vpcEndpoint": VPC_0A | {"subnetIdSet": "", "routeTableIdSet": {"item": ["rtb-0", "rtb-1"]}}}),
        [VPC],
    ),
    "CreateVpcEndpoint, response truncated": (
        call("CreateVpcEndpoint", {"CreateVpcEndpointRequest": {"VpcId": "vpc-0a"}}), [VPC]),
    "CreateVpcEndpoint, id tagged": (
        call("CreateVpcEndpoint", {"CreateVpcEndpointRequest": {"VpcId": {"tag": 1, "content": "vpc-0a"}}}), [VPC]),
    "CreateVpcEndpoint, empty response": (new("CreateVpcEndpoint", "", {"vpcEndpoint": ""}), [EVERYTHING]),
    "ModifyVpcEndpoint": (
        new("ModifyVpcEndpoint", {"VpcEndpointId": "vpce-0", "RemoveRouteTableId": {"tag": 1, "content": "rtb-0"}},
            {"return": True}),
        [EVERYTHING],
    ),
    "DeleteVpcEndpoints": (
        new("DeleteVpcEndpoints", {"VpcEndpointId": {"tag": 1, "content": "vpce-0"}}, {"unsuccessful": ""}),
        [EVERYTHING],
    ),
    "CreateInstanceConnectEndpoint": (
        new("CreateInstanceConnectEndpoint", {"SubnetId": "subnet-0a"}, {"instanceConnectEndpoint": VPC_0A}), [VPC]),
    "CreateInstanceConnectEndpoint, response truncated": (
        new("CreateInstanceConnectEndpoint", {"SubnetId": "subnet-0a"}), [EVERYTHING]),
    "DeleteInstanceConnectEndpoint": (
        new("DeleteInstanceConnectEndpoint", {"InstanceConnectEndpointId": "eice-0"},
            {"instanceConnectEndpoint": VPC_0A}),
        [VPC],
    ),
    "DeleteInstanceConnectEndpoint, response truncated": (
        new("DeleteInstanceConnectEndpoint", {"InstanceConnectEndpointId": "eice-0"}), [EVERYTHING]),
    "ModifyInstanceConnectEndpoint": (
        new("ModifyInstanceConnectEndpoint", {"InstanceConnectEndpointId": "eice-0"}, {"return": True}), [EVERYTHING]),
    "ModifyVpcAttribute": (
        call("ModifyVpcAttribute", {"vpcId": "vpc-0a", "enableDnsSupport": {"value": True}}, {"_return": True}), [VPC]),
    "ModifyVpcAttribute, new dialect": (
        new("ModifyVpcAttribute", {"VpcId": "vpc-0a", "EnableDnsSupport": {"Value": True}}, {"return": True}), [VPC]),
    "DeleteSubnet": (call("DeleteSubnet", {"subnetId": "subnet-0a"}, {"_return": True}), [EVERYTHING]),
    "AssociateVpcCidrBlock": (
        new("AssociateVpcCidrBlock", {"VpcId": "vpc-0a", "CidrBlock": "10.1.0.0/16"}, {"vpcId": "vpc-0a"}), [VPC]),
    "AssociateVpcCidrBlock, old dialect": (
        call("AssociateVpcCidrBlock", {"vpcId": "vpc-0a", "cidrBlock": "10.1.0.0/16"}, {"vpcId": "vpc-0a"}), [VPC]),
    "DisassociateVpcCidrBlock": (
        new("DisassociateVpcCidrBlock", {"AssociationId": "vpc-cidr-assoc-0"}, {"vpcId": "vpc-0a"}), [VPC]),
    "DisassociateVpcCidrBlock, response truncated": (
        new("DisassociateVpcCidrBlock", {"AssociationId": "vpc-cidr-assoc-0"}), [EVERYTHING]),
    "DeleteVpc": (call("DeleteVpc", {"vpcId": "vpc-0a"}, {"_return": True}), [VPC]),
    "DeleteVpc, new dialect": (new("DeleteVpc", {"VpcId": "vpc-0a"}, {"return": True}), [VPC]),
    "DeleteVpc, request truncated": (call("DeleteVpc", None, {"_return": True}), [EVERYTHING]),
    "RunInstances, one": (call("RunInstances", LAUNCH, items("i-01")), [I1]),
    "RunInstances, two, sorted, once each": (call("RunInstances", LAUNCH, items("i-02", "i-01", "i-02")), [I1, I2]),
    "RunInstances, new dialect, one item": (
        new("RunInstances", {}, {"instancesSet": {"item": {"instanceId": "i-01"}}}), [I1]),
    "RunInstances, new dialect, items": (
        new("RunInstances", {}, {"instancesSet": {"item": [{"instanceId": "i-01"}, {"instanceId": "i-02"}]}}),
        [I1, I2],
    ),
    "RunInstances, response truncated": (call("RunInstances", LAUNCH), [EVERYTHING]),
    "RunInstances, response an empty string": (call("RunInstances", LAUNCH, ""), [EVERYTHING]),
    "RunInstances, set an empty string": (call("RunInstances", LAUNCH, {"instancesSet": ""}), [EVERYTHING]),
    "RunInstances, set an empty object": (call("RunInstances", LAUNCH, {"instancesSet": {}}), [EVERYTHING]),
    "RunInstances by Auto Scaling": (
        call("RunInstances", LAUNCH, items("i-01"), userAgent="autoscaling.amazonaws.com"), [I1]),
    "StartInstances": (call("StartInstances", items("i-01", "i-02"), items("i-01", "i-02")), [I1, I2]),
    "StartInstances, response truncated": (call("StartInstances", items("i-01", "i-02")), [I1, I2]),
    "TerminateInstances": (call("TerminateInstances", items("i-01"), items("i-01")), [I1]),
    "TerminateInstances, request omitted": (call("TerminateInstances", None, items("i-01")), [I1]),
    "TerminateInstances, both omitted": (call("TerminateInstances"), [EVERYTHING]),
    "CreateFleet, instant, one instance": (
        new("CreateFleet", {"Type": "instant"}, fleet({"instanceIds": {"item": "i-01"}})), [I1]),
    "CreateFleet, instant, several sets": (
        new("CreateFleet", {"Type": "instant"},
            fleet({"instanceIds": {"item": ["i-02"]}}, {"instanceIds": {"item": ["i-01", "i-02"]}})),
        [I1, I2],
    ),
    "CreateFleet, instant, one set": (
        new("CreateFleet", {"Type": "instant"}, {"fleetInstanceSet": {"item": {"instanceIds": {"item": ["i-01"]}}}}),
        [I1],
    ),
    "CreateFleet, maintain": (new("CreateFleet", {"Type": "maintain"}, {"fleetId": "fleet-0"}), [EVERYTHING]),
    "CreateFleet, instant, nothing launched": (
        new("CreateFleet", {"Type": "instant"}, {"fleetInstanceSet": ""}), [EVERYTHING]),
    "AssociateIamInstanceProfile": (new("AssociateIamInstanceProfile", {"InstanceId": "i-01"}, ASSOCIATION), [I1]),
    "AssociateIamInstanceProfile, response truncated": (
        new("AssociateIamInstanceProfile", {"InstanceId": "i-01"}), [I1]),
    "AssociateIamInstanceProfile, old dialect": (call("AssociateIamInstanceProfile", {"instanceId": "i-01"}), [I1]),
    "ReplaceIamInstanceProfileAssociation": (
        new("ReplaceIamInstanceProfileAssociation", {"AssociationId": "iip-assoc-0"}, ASSOCIATION), [I1]),
    "ReplaceIamInstanceProfileAssociation, un-nested": (
        new("ReplaceIamInstanceProfileAssociation", {"AssociationId": "iip-assoc-0"}, {"instanceId": "i-01"}), [I1]),
    "ReplaceIamInstanceProfileAssociation, without a wrapper": (
        call("ReplaceIamInstanceProfileAssociation", {"AssociationId": "iip-assoc-0"}, ASSOCIATION), [I1]),
    "ReplaceIamInstanceProfileAssociation, truncated": (
        new("ReplaceIamInstanceProfileAssociation", {"AssociationId": "iip-assoc-0"}), [EVERYTHING]),
    "DisassociateIamInstanceProfile": (
        new("DisassociateIamInstanceProfile", {"AssociationId": "iip-assoc-0"}, ASSOCIATION), [I1]),
    "DisassociateIamInstanceProfile, truncated": (
        new("DisassociateIamInstanceProfile", {"AssociationId": "iip-assoc-0"}), [EVERYTHING]),
    "state change": (
        event({"instance-id": "i-01", "state": "running"}, "EC2 Instance State-change Notification"), [I1]),
}  # fmt: skip


@pytest.mark.parametrize(("given_event", "expected"), CASES.values(), ids=CASES.keys())
def test_targets(given_event: dict[str, Json], expected: list[Target]) -> None:
    """Each spelling of each call leads to what has to be looked at; what cannot be told, to everything."""
    assert targets_of(json.loads(json.dumps(given_event))) == expected


def test_every_call_of_the_patterns_is_in_the_table() -> None:
    """No call reaches the function untested."""
    assert {name.split(",")[0].split(" by ")[0] for name in CASES} == {*CALL_NAMES, "state change"}
    assert PATTERNS["changes"]["detail"]["eventName"] == list(CALL_NAMES)


@pytest.mark.parametrize("missing", ["requestParameters", "responseElements"])
@pytest.mark.parametrize("given_event", [case[0] for case in CASES.values()], ids=CASES.keys())
def test_an_omitted_half_never_hides_the_event(given_event: dict[str, Json], missing: str) -> None:
    """CloudTrail omits what is too long: there is always something to look at, and it is in the same place."""
    detail = {key: value for key, value in given_event["detail"].items() if key != missing}

    found = targets_of(given_event | {"detail": detail})

    assert found
    assert {(target.account_id, target.region) for target in found} == {(ACCOUNT, REGION)}


class TestFailedCalls:
    """A call that failed changed nothing; some failures concern what may be ours."""

    @pytest.mark.parametrize(
        "code", ["Client.UnauthorizedOperation", "Client.RequestLimitExceeded", "AccessDenied", "X"]
    )
    @pytest.mark.parametrize("name", CALL_NAMES)
    def test_a_failed_call_is_ignored(self, name: str, code: str) -> None:
        """Nothing happened."""
        assert targets_of(call(name, {"vpcId": "vpc-0a"}, None, errorCode=code, errorMessage="no")) == []

    @pytest.mark.parametrize("code", [None, ""])
    def test_an_empty_error_code_is_no_error(self, code: str | None) -> None:
        """Some publishers of records spell success so."""
        given = call("TerminateInstances", items("i-01"), items("i-01"), errorCode=code, errorMessage=code)
        assert targets_of(given) == [I1]

    def test_a_dry_run_is_ignored(self) -> None:
        """It is reported as a failure that is none."""
        message = "Request would have succeeded, but DryRun flag is set."
        given = call("RunInstances", LAUNCH, None, errorCode="Client.DryRunOperation", errorMessage=message)
        assert targets_of(given) == []

    @pytest.mark.parametrize("flag", [True, "true", "True"])
    def test_the_dry_run_flag_alone_is_enough(self, flag: object) -> None:
        """Even a record without an error changed nothing then."""
        assert targets_of(new("CreateVpcEndpoint", {"VpcId": "vpc-0a", "DryRun": flag})) == []
        assert targets_of(call("RunInstances", LAUNCH | {"dryRun": flag}, items("i-01"))) == []

    def test_a_dry_run_flag_that_is_off_changes_nothing(self) -> None:
        """The call was real."""
        assert targets_of(call("RunInstances", LAUNCH | {"dryRun": False}, items("i-01"))) == [I1]

    EXISTS = "route table rtb-0 already has a route with destination-prefix-list-id pl-6da54004"

    @pytest.mark.parametrize("code", ["Client.RouteAlreadyExists", "Client.InvalidParameter"])
    def test_their_endpoint_met_ours(self, code: str) -> None:
        """CreateVpcEndpoint failed over a route that exists: look at the VPC that the request names."""
        request = {"CreateVpcEndpointRequest": {"VpcId": "vpc-0a", "RouteTableId": {"tag": 1, "content": "rtb-0"}}}
        assert targets_of(call("CreateVpcEndpoint", request, errorCode=code, errorMessage=self.EXISTS)) == [VPC]

    @pytest.mark.parametrize("code", ["Client.RouteAlreadyExists", "Client.InvalidParameter"])
    def test_their_extension_met_ours(self, code: str) -> None:
        """ModifyVpcEndpoint names no VPC: look at everything there."""
        request = {"ModifyVpcEndpointRequest": {"VpcEndpointId": "vpce-0"}}
        given = call("ModifyVpcEndpoint", request, errorCode=code, errorMessage=self.EXISTS)
        assert targets_of(given) == [EVERYTHING]

    def test_their_deletion_met_something_inside(self) -> None:
        """DeleteVpc failed over what is in it, which may be ours."""
        message = "The vpc 'vpc-0a' has dependencies and cannot be deleted."
        given = call("DeleteVpc", {"vpcId": "vpc-0a"}, errorCode="Client.DependencyViolation", errorMessage=message)
        assert targets_of(given) == [VPC]

    def test_their_subnet_could_not_be_deleted(self) -> None:
        """DeleteSubnet names no VPC: look at everything there."""
        given = call("DeleteSubnet", {"subnetId": "subnet-0a"}, errorCode="Client.DependencyViolation")
        assert targets_of(given) == [EVERYTHING]

    TAKEN = "private-dns-enabled cannot be set because there is already a conflicting DNS domain for ssm.x in the VPC"

    def test_their_interface_endpoint_met_ours(self) -> None:
        """CreateVpcEndpoint failed over a private name: look at the VPC. ModifyVpcEndpoint names none."""
        failed = {"errorCode": "Client.InvalidParameter", "errorMessage": self.TAKEN}
        created = {"CreateVpcEndpointRequest": {"VpcId": "vpc-0a", "VpcEndpointType": "Interface"}}
        modified = {"ModifyVpcEndpointRequest": {"VpcEndpointId": "vpce-0", "PrivateDnsEnabled": True}}
        assert targets_of(call("CreateVpcEndpoint", created, **failed)) == [VPC]
        assert targets_of(call("ModifyVpcEndpoint", modified, **failed)) == [EVERYTHING]

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("Client.ResourceLimitExceeded", [EVERYTHING]),
            ("Client.OtherLimitExceeded", [EVERYTHING]),
            ("Client.RequestLimitExceeded", []),
            ("Server.ResourceLimitExceeded", []),
            ("ResourceLimitExceeded", []),
            ("Client.DependencyViolation", []),
        ],
    )
    def test_their_instance_connect_endpoint_met_ours(self, code: str, expected: list[Target]) -> None:
        """A VPC has one: whatever AWS calls that, it is a limit, and no throttling."""
        request = {"CreateInstanceConnectEndpointRequest": {"SubnetId": "subnet-0a"}}
        assert targets_of(call("CreateInstanceConnectEndpoint", request, errorCode=code)) == expected

    def test_a_limit_of_another_call_is_ignored(self) -> None:
        """Nothing of ours stands in the way of an endpoint too many in the Region."""
        given = call("CreateVpcEndpoint", {"vpcId": "vpc-0a"}, errorCode="Client.VpcEndpointLimitExceeded")
        assert targets_of(given) == []

    def test_another_invalid_parameter_is_ignored(self) -> None:
        """The code alone says nothing."""
        given = call("CreateVpcEndpoint", {"vpcId": "vpc-0a"}, errorCode="Client.InvalidParameter", errorMessage="x")
        assert targets_of(given) == []
        without_message = call("CreateVpcEndpoint", {"vpcId": "vpc-0a"}, errorCode="Client.InvalidParameter")
        assert targets_of(without_message) == []

    def test_a_conflict_code_of_another_call_is_ignored(self) -> None:
        """Deleting a route table that is in use has nothing to do with us."""
        given = call("DeleteRouteTable", {"routeTableId": "rtb-0"}, errorCode="Client.DependencyViolation")
        assert targets_of(given) == []


class TestOthers:
    """Events of other services, other calls and other shapes."""

    @pytest.mark.parametrize(
        ("source", "event_source", "name"),
        [
            ("aws.apigateway", "apigateway.amazonaws.com", "CreateRoute"),
            ("aws.appstream", "appstream.amazonaws.com", "CreateFleet"),
            ("aws.iam", "iam.amazonaws.com", "AddRoleToInstanceProfile"),
            ("aws.ec2", "appstream.amazonaws.com", "CreateFleet"),
            ("aws.ec2", "ec2messages.amazonaws.com", "RunInstances"),
            ("aws.appstream", "ec2.amazonaws.com", "CreateFleet"),
            ("custom.app", "ec2.amazonaws.com", "CreateVpc"),
        ],
    )
    def test_a_name_that_another_service_shares(self, source: str, event_source: str, name: str) -> None:
        """Both the envelope's source and the record's have to be EC2's."""
        given = call(name, {"vpcId": "vpc-0a"}, items("i-01"), eventSource=event_source) | {"source": source}
        assert targets_of(given) == []

    @pytest.mark.parametrize("name", ["CreateRoute", "DescribeVpcs", "ModifySubnet", "CreateTags", "createvpc"])
    def test_another_call_of_ec2(self, name: str) -> None:
        """What changes nothing that is judged leads nowhere."""
        assert targets_of(call(name, {"vpcId": "vpc-0a"}, {"vpc": VPC_0A})) == []

    @pytest.mark.parametrize("detail_type", ["EC2 Spot Instance Interruption Warning", "AWS Console Sign In"])
    def test_another_kind_of_event(self, detail_type: str) -> None:
        """Only calls and state changes count."""
        assert targets_of(event({"instance-id": "i-01"}, detail_type)) == []


ARN = f"arn:aws:ec2:{OTHER_REGION}:{OTHER_ACCOUNT}:vpc/vpc-0b"
CLAIMS: dict[str, dict[str, Json]] = {
    "recipientAccountId": {"recipientAccountId": OTHER_ACCOUNT},
    "awsRegion": {"awsRegion": OTHER_REGION},
    "userIdentity.accountId": {"userIdentity": {"type": "AssumedRole", "accountId": OTHER_ACCOUNT, "arn": ARN}},
    "account, region": {"account": OTHER_ACCOUNT, "region": OTHER_REGION, "accountId": OTHER_ACCOUNT},
    "resources": {"resources": [{"accountId": OTHER_ACCOUNT, "ARN": ARN, "type": "AWS::EC2::VPC"}]},
    "serviceEventDetails": {"serviceEventDetails": {"accountId": OTHER_ACCOUNT}, "vpcEndpointAccountId": OTHER_ACCOUNT},
    "an envelope within": {"detail": {"account": OTHER_ACCOUNT, "region": OTHER_REGION}, "source": "aws.ec2"},
}
CLAIMS["everything at once"] = {name: value for claim in CLAIMS.values() for name, value in claim.items()}
OWNERS = {"ownerId": OTHER_ACCOUNT, "accountId": OTHER_ACCOUNT, "region": OTHER_REGION, "Region": OTHER_REGION}


def owned_by_others(node: Json) -> Json:
    """Return requests or answers whose every object names another account and Region."""
    if isinstance(node, dict) and node.keys() != {"tag", "content"}:
        return {name: owned_by_others(value) for name, value in node.items()} | OWNERS
    return [owned_by_others(each) for each in node] if isinstance(node, list) else node


class TestForged:
    """Account and Region come from the envelope, which EventBridge writes: whatever else claims them is a claim."""

    @pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
    @pytest.mark.parametrize(("given_event", "expected"), CASES.values(), ids=CASES)
    def test_no_claim_of_a_record_moves_a_target(
        self, given_event: dict[str, Json], expected: list[Target], claim: dict[str, Json]
    ) -> None:
        """Every trigger, with every claim: the same targets as without."""
        detail = given_event["detail"]
        assert targets_of(given_event | {"detail": detail | claim}) == expected
        assert targets_of(given_event | {"resources": [ARN], "detail": detail | claim}) == expected

    @pytest.mark.parametrize(("given_event", "expected"), CASES.values(), ids=CASES)
    def test_no_owner_inside_a_request_or_answer_moves_a_target(
        self, given_event: dict[str, Json], expected: list[Target]
    ) -> None:
        """An owner in the answer is the owner of a shared VPC, say: still it is looked at where the event was."""
        halves = ("requestParameters", "responseElements")
        detail = {
            name: {key: owned_by_others(value) for key, value in half.items()}
            if name in halves and isinstance(half, dict)
            else half
            for name, half in given_event["detail"].items()
        }
        found = targets_of(given_event | {"detail": detail})
        assert {(target.account_id, target.region) for target in found} == {(ACCOUNT, REGION)}
        assert found == expected or EVERYTHING in found

    @pytest.mark.parametrize("where", ["request", "response"])
    def test_an_arn_is_no_id(self, where: str) -> None:
        """An ARN of another account where an id should be is refused, never taken apart."""
        half = {"vpcId": ARN}
        with pytest.raises(UnreadableEventError, match="the vpc id is"):
            targets_of(call("DeleteVpc", half) if where == "request" else call("CreateVpc", None, {"vpc": half}))


def beat(detail: Json = None, **envelope: Json) -> dict[str, Json]:
    """Return a heartbeat."""
    return event(detail or {}, "Portcullis Heartbeat", **{"source": "portcullis"} | envelope)


class TestHeartbeats:
    """Where a heartbeat comes from is in the envelope, too."""

    @pytest.mark.parametrize("claim", [{}, *CLAIMS.values()], ids=["nothing", *CLAIMS])
    def test_only_the_envelope_says_where_it_comes_from(self, claim: dict[str, Json]) -> None:
        """Nobody keeps another account's heart beating."""
        assert heartbeat_of(beat(claim)) == (ACCOUNT, REGION)
        assert targets_of(beat(claim)) == []

    @pytest.mark.parametrize(
        "given_event",
        [
            *(case[0] for case in CASES.values()),
            beat(source="aws.ec2"),
            beat(source="custom"),
            beat() | {"detail-type": "Portcullis Heartbeats"},
        ],
    )
    def test_nothing_else_is_one(self, given_event: dict[str, Json]) -> None:
        """Source and kind both have to match; AWS lets nobody send events with a source of its own."""
        assert heartbeat_of(given_event) is None

    @pytest.mark.parametrize("fault", [{"account": "*"}, {"region": "eu-west-1/x"}, {"detail": None}, {"source": ""}])
    def test_one_that_cannot_be_read_is_refused(self, fault: dict[str, Json]) -> None:
        """It would end in the key of a table."""
        with pytest.raises(UnreadableEventError):
            heartbeat_of(beat() | fault)


class TestTrigger:
    """What set a look off: a name and an id that people find in CloudTrail, fit for a session tag of STS."""

    @pytest.mark.parametrize(
        ("given_event", "expected"),
        [
            (call("CreateVpc", eventID="9a1b-77"), "CreateVpc/9a1b-77"),
            (call("CreateVpc"), "CreateVpc/6f3c1a52-0000-4000-8000-000000000000"),
            (
                event({"instance-id": "i-01"}, "EC2 Instance State-change Notification"),
                "EC2-Instance-State-change-Notification/6f3c1a52-0000-4000-8000-000000000000",
            ),
            (beat(), "Portcullis-Heartbeat/6f3c1a52-0000-4000-8000-000000000000"),
        ],
    )
    def test_it_names_the_call_or_the_kind_of_event(self, given_event: dict[str, Json], expected: str) -> None:
        """With CloudTrail's id where there is one, else EventBridge's."""
        assert trigger_of(given_event) == expected

    # The pattern of a tag's value in the STS service model, without blanks, and less than its 256 characters.
    @settings(deadline=None, derandomize=True, database=None)
    @given(name=st.text() | st.integers() | st.lists(st.text()), event_id=st.text() | st.none())
    def test_it_fits_a_session_tag_whatever_the_record_holds(self, name: Json, event_id: str | None) -> None:
        """A name that STS refuses would keep Portcullis from mending."""
        assert re.fullmatch(r"[A-Za-z0-9_.:/=+@-]{1,128}", trigger_of(call("X", eventID=event_id) | {"id": event_id} | {
            "detail": {"eventName": name, "eventID": event_id}}))  # fmt: skip

    def test_a_long_one_is_cut(self) -> None:
        """From the end: the name stays."""
        assert trigger_of(call("CreateVpc", eventID="x" * 500)) == f"CreateVpc/{'x' * 118}"


def issued_by(name: object, kind: str = "Role") -> dict[str, Json]:
    """Return the identity of a session."""
    issuer = {"type": kind, "userName": name, "arn": f"arn:aws:iam::{ACCOUNT}:role/{name}"}
    return {"type": "AssumedRole", "sessionContext": {"sessionIssuer": issuer}}


TERRAFORM = (
    "APN/1.0 HashiCorp/1.0 Terraform/1.1.2 (+https://www.terraform.io) terraform-provider-aws/3.76.1 "
    "(+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go/1.44.157 (go1.19.3; linux; amd64)"
)
PULUMI = "APN/1.0 Pulumi/1.0 Pulumi-Aws/7.12.0 (+https://www.pulumi.com) aws-sdk-go-v2/1.39.6 os/linux"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
CLI = "aws-cli/2.31.18 md/awscrt#0.28.2 ua/2.1 os/linux#6.8 md/command#ec2.create-vpc"
CLOUDFORMATION = "cloudformation.amazonaws.com"


def by(
    agent: Json = CLI, address: Json = "192.0.2.10", *, role: str = "deployment", invoked_by: Json = None, **more: Json
) -> dict[str, Json]:
    """Return the part of a record that tells of its caller."""
    identity = issued_by(role) | ({"invokedBy": invoked_by} if invoked_by else {})
    return {"userAgent": agent, "sourceIPAddress": address, "userIdentity": identity, **more}


CALLERS: dict[str, tuple[dict[str, Json], Caller]] = {
    "Terraform": (by(TERRAFORM), Caller.TERRAFORM),
    "Terraform, before 0.8": (by("terraform/0.7.9 aws-sdk-go/1.4.17 (go1.7.3; darwin; amd64)"), Caller.TERRAFORM),
    "Terraform, its version lost": (by("aws-sdk-go/1.44 APN/1.0 HashiCorp/1.0 Terraform/ (+https)"), Caller.TERRAFORM),
    "Terraform in the browser's shell": (by(TERRAFORM, sessionCredentialFromConsole="true"), Caller.TERRAFORM),
    "OpenTofu": (by("APN/1.0 OpenTofu/1.10.6 (+https://opentofu.org) aws-sdk-go-v2/1.39.4"), Caller.TERRAFORM),
    "a provider of Terraform's": (by("terraform-provider-awscc/1.2 aws-sdk-go-v2/1.9.1"), Caller.TERRAFORM),
    "Pulumi": (by(PULUMI), Caller.PULUMI),
    "Pulumi over Terraform's provider": (by(f"{PULUMI} terraform-provider-aws/6.18.0"), Caller.PULUMI),
    "Pulumi's own provider": (by("aws-sdk-go-v2/1.9 APN/1.0 Pulumi/3.0 PulumiAwsNative/1.12"), Caller.PULUMI),
    "CloudFormation": (by(CLOUDFORMATION, CLOUDFORMATION, invoked_by=CLOUDFORMATION), Caller.CLOUDFORMATION),
    "CloudFormation by its agent": (by(CLOUDFORMATION), Caller.CLOUDFORMATION),
    "CloudFormation by its address": (by(None, CLOUDFORMATION), Caller.CLOUDFORMATION),
    "CloudFormation by who invoked": (by(None, None, invoked_by=CLOUDFORMATION), Caller.CLOUDFORMATION),
    "CloudFormation in China": (by(f"{CLOUDFORMATION}.cn", f"{CLOUDFORMATION}.cn"), Caller.CLOUDFORMATION),
    "a stack started in the console": (
        by(CLOUDFORMATION, CLOUDFORMATION, sessionCredentialFromConsole="true"), Caller.CLOUDFORMATION),
    "CDK's stacks": (
        by(CLOUDFORMATION, CLOUDFORMATION, role=f"cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}"), Caller.CDK),
    "CDK's stacks, another qualifier": (
        by(CLOUDFORMATION, role=f"cdk-team-a-cfn-exec-role-{ACCOUNT}-{REGION}"), Caller.CDK),
    "CDK's command line": (by("aws-sdk-nodejs/2.1586.0 linux/v20.15.1 aws-cdk/2.135.0 promise"), Caller.CDK),
    "CDK's role in somebody's hands": (by(role=f"cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}"), Caller.OTHER),
    "the console, by its mark": (by("AWS Internal", sessionCredentialFromConsole="true"), Caller.CONSOLE),
    "the console, by its mark as a boolean": (by(CLI, sessionCredentialFromConsole=True), Caller.CONSOLE),
    "the console's agent of EC2": (by("console.ec2.amazonaws.com"), Caller.CONSOLE),
    "the console's agent": (by("console.amazonaws.com"), Caller.CONSOLE),
    "the console, signing in": (by("signin.amazonaws.com", invoked_by="signin.amazonaws.com"), Caller.CONSOLE),
    "a browser": (by(BROWSER), Caller.CONSOLE),
    "the console's proxy": (by("AWS Internal"), Caller.CONSOLE),
    "a service of AWS": (by("AWS Internal", "AWS Internal"), Caller.OTHER),
    "no console": (by(CLI, sessionCredentialFromConsole="false"), Caller.OTHER),
    "the command line": (by(CLI), Caller.OTHER),
    "Auto Scaling": (by(*["autoscaling.amazonaws.com"] * 2, invoked_by="autoscaling.amazonaws.com"), Caller.OTHER),
    "somebody who drops names": (by("my-console.ec2.amazonaws.com myterraform/1"), Caller.OTHER),
    "nobody": ({}, Caller.OTHER),
    "a mess": ({"userAgent": [1], "sourceIPAddress": {}, "userIdentity": "x"}, Caller.OTHER),
}  # fmt: skip


class TestCaller:
    """What kind of client made a call: by CloudTrail's own fields, since people wait for different times."""

    @pytest.mark.parametrize(("detail", "expected"), CALLERS.values(), ids=CALLERS)
    def test_it_is_told_by_the_records_fields(self, detail: dict[str, Json], expected: Caller) -> None:
        """As public captures and the providers' sources have them."""
        assert caller_of(detail) is expected

    @pytest.mark.parametrize(("detail", "expected"), CALLERS.values(), ids=CALLERS)
    def test_it_is_in_the_cause_of_a_call(self, detail: dict[str, Json], expected: Caller) -> None:
        """Whatever the call was."""
        given = call("CreateVpc", {}, {"vpc": VPC_0A}, eventID="e-1", **detail)
        assert cause_of(given) == Cause("CreateVpc/e-1", expected)


class TestCause:
    """Why targets are looked at."""

    def test_a_call_that_does_not_name_its_vpc_is_indirect(self) -> None:
        """Only a look tells whether it concerned a resource."""
        named = call("DeleteVpc", {"vpcId": "vpc-0a"}, {"_return": True})
        unnamed = call("DisassociateRouteTable", {"associationId": "a"}, {"_return": True})
        assert [cause_of(each).indirect for each in (named, unnamed)] == [False, True]

    @pytest.mark.parametrize(
        "given_event",
        [event({"instance-id": "i-01"}, "EC2 Instance State-change Notification"), beat()],
        ids=["state change", "heartbeat"],
    )
    def test_what_is_no_call_has_no_caller(self, given_event: dict[str, Json]) -> None:
        """A change of state may be anybody's, or nobody's."""
        assert cause_of(given_event) == Cause(trigger_of(given_event))

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ({"eventTime": "2026-03-02T08:59:58Z"}, "2026-03-02T08:59:58+00:00"),
            ({"eventTime": "2026-03-02T09:59:58+01:00"}, "2026-03-02T08:59:58+00:00"),
            ({}, "2026-03-02T09:00:00+00:00"),
            ({"eventTime": "2026-03-02T08:59:58"}, "2026-03-02T09:00:00+00:00"),
            ({"eventTime": "soon"}, "2026-03-02T09:00:00+00:00"),
            ({"eventTime": 1772442000}, "2026-03-02T09:00:00+00:00"),
        ],
    )
    def test_a_conflict_has_the_time_of_its_call(self, written: dict[str, Json], expected: str) -> None:
        """As CloudTrail tells it, else EventBridge."""
        given = call("DeleteVpc", {"vpcId": "vpc-0a"}, errorCode="Client.DependencyViolation", **written)
        assert cause_of(given).at == datetime.fromisoformat(expected)

    @pytest.mark.parametrize("time", [None, "", "soon", "2026-03-02", "2026-03-02T09:00:00", 7, {}])
    def test_a_conflict_without_a_readable_time_has_none(self, time: Json) -> None:
        """It then counts as old, and nothing is made way for; the resource is looked at all the same."""
        given = call("DeleteVpc", {"vpcId": "vpc-0a"}, errorCode="Client.DependencyViolation", eventTime=time)
        cause = cause_of(given | {"time": time})
        assert (cause.at, cause.conflict) == (None, Conflict("DeleteVpc"))
        assert targets_of(given | {"time": time}) == [VPC]

    def test_a_call_that_went_well_has_no_time(self) -> None:
        """However old it is, it only says where to look."""
        given = call("DeleteVpc", {"vpcId": "vpc-0a"}, {"_return": True}, eventTime="2026-03-02T08:59:58Z")
        assert cause_of(given).at is None

    def test_what_others_write_into_a_detail_makes_no_cause(self) -> None:
        """A member may send its own heartbeats: neither a caller nor a conflict comes of that."""
        claims = call("DeleteVpc", {"vpcId": "vpc-0a"}, errorCode="Client.DependencyViolation")["detail"]
        given = beat(claims)
        assert cause_of(given) == Cause(trigger_of(given))
        assert conflict_of(given) is None


EXISTS = "route table rtb-0a already has a route with destination-prefix-list-id pl-6da54004"
SOMEBODY = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployment/run-4711"
IDENTITY = {"userIdentity": {"type": "AssumedRole", "arn": SOMEBODY}}
S3 = "com.amazonaws.eu-west-1.s3"


def failed(code: str, message: str = "") -> dict[str, Json]:
    """Return the part of a record that tells of a failure, and of the caller."""
    return {"errorCode": f"Client.{code}", "errorMessage": message, **IDENTITY}


CONFLICTS: dict[str, tuple[dict[str, Json], Conflict]] = {
    "CreateVpcEndpoint, one table": (
        call("CreateVpcEndpoint", {"CreateVpcEndpointRequest": {
            "VpcId": "vpc-0a", "ServiceName": S3, "RouteTableId": {"tag": 1, "content": "rtb-0a"}}},
            **failed("RouteAlreadyExists", EXISTS)),
        Conflict("CreateVpcEndpoint", SOMEBODY, S3, ("rtb-0a",)),
    ),
    "CreateVpcEndpoint, many tables, told as a parameter": (
        call("CreateVpcEndpoint", {"CreateVpcEndpointRequest": {
            "VpcId": "vpc-0a", "ServiceName": S3,
            "RouteTableId": [{"tag": 1, "content": "rtb-0a"}, {"tag": 2, "content": "rtb-0b"}]}},
            **failed("InvalidParameter", EXISTS)),
        Conflict("CreateVpcEndpoint", SOMEBODY, S3, ("rtb-0a", "rtb-0b")),
    ),
    "CreateVpcEndpoint, old dialect": (
        call("CreateVpcEndpoint", {"vpcId": "vpc-0a", "serviceName": S3, "routeTableId": {"items": ["rtb-0a"]},
                                   "subnetId": "subnet-0a"}, **failed("RouteAlreadyExists")),
        Conflict("CreateVpcEndpoint", SOMEBODY, S3, ("rtb-0a",)),
    ),
    "CreateVpcEndpoint, request truncated": (
        call("CreateVpcEndpoint", **failed("RouteAlreadyExists")), Conflict("CreateVpcEndpoint", SOMEBODY)),
    "CreateVpcEndpoint, nonsense in it": (
        call("CreateVpcEndpoint", {"serviceName": "*", "routeTableId": ["rtb-*", 7, "rtb-0a"]},
            **failed("RouteAlreadyExists")),
        Conflict("CreateVpcEndpoint", SOMEBODY, "", ("rtb-0a",)),
    ),
    "ModifyVpcEndpoint": (
        call("ModifyVpcEndpoint", {"ModifyVpcEndpointRequest": {
            "VpcEndpointId": "vpce-0a", "AddRouteTableId": {"tag": 1, "content": "rtb-0a"},
            "RemoveRouteTableId": {"tag": 1, "content": "rtb-0b"}}}, **failed("RouteAlreadyExists", EXISTS)),
        Conflict("ModifyVpcEndpoint", SOMEBODY, "", ("rtb-0a",), "vpce-0a"),
    ),
    "ModifyVpcEndpoint, old dialect": (
        call("ModifyVpcEndpoint", {"vpcEndpointId": "vpce-0a", "addRouteTableId": {"items": ["rtb-0a", "rtb-0b"]}},
            **failed("InvalidParameter", EXISTS)),
        Conflict("ModifyVpcEndpoint", SOMEBODY, "", ("rtb-0a", "rtb-0b"), "vpce-0a"),
    ),
    "DeleteVpc": (call("DeleteVpc", {"vpcId": "vpc-0a"}, **failed("DependencyViolation")),
                  Conflict("DeleteVpc", SOMEBODY)),
    "DeleteVpc, new dialect": (
        call("DeleteVpc", {"DeleteVpcRequest": {"VpcId": "vpc-0a"}}, **failed("DependencyViolation")),
        Conflict("DeleteVpc", SOMEBODY),
    ),
    "DeleteSubnet": (call("DeleteSubnet", {"subnetId": "subnet-0a"}, **failed("DependencyViolation")),
                     Conflict("DeleteSubnet", SOMEBODY, subnet_id="subnet-0a")),
    "DeleteSubnet, new dialect": (
        call("DeleteSubnet", {"DeleteSubnetRequest": {"SubnetId": "subnet-0a"}}, **failed("DependencyViolation")),
        Conflict("DeleteSubnet", SOMEBODY, subnet_id="subnet-0a"),
    ),
    "CreateInstanceConnectEndpoint": (
        call("CreateInstanceConnectEndpoint", {"CreateInstanceConnectEndpointRequest": {"SubnetId": "subnet-0a"}},
             **failed("ResourceLimitExceeded")),
        Conflict("CreateInstanceConnectEndpoint", SOMEBODY, subnet_id="subnet-0a"),
    ),
    "CreateVpcEndpoint, private name": (
        call("CreateVpcEndpoint",
             {"CreateVpcEndpointRequest": {"VpcId": "vpc-0a", "ServiceName": "com.amazonaws.eu-central-1.ssm",
                                           "SubnetId": {"tag": 1, "content": "subnet-0a"}}},
             **failed("InvalidParameter", "there is already a conflicting DNS domain for ssm.x in the VPC vpc-0a")),
        Conflict("CreateVpcEndpoint", SOMEBODY, "com.amazonaws.eu-central-1.ssm"),
    ),
    "AssociateIamInstanceProfile": (
        call("AssociateIamInstanceProfile", {"AssociateIamInstanceProfileRequest": {"InstanceId": "i-0a"}},
            **failed("IncorrectState", "There is an existing association for instance i-0a")),
        Conflict("AssociateIamInstanceProfile", SOMEBODY),
    ),
}  # fmt: skip


class TestConflict:
    """A call of somebody else that failed over something that may be ours: what it was and what it named."""

    @pytest.mark.parametrize(("given_event", "expected"), CONFLICTS.values(), ids=CONFLICTS)
    def test_it_is_read_from_the_request(self, given_event: dict[str, Json], expected: Conflict) -> None:
        """In either dialect and any spelling of a list; what is no id is left out."""
        assert conflict_of(json.loads(json.dumps(given_event))) == expected
        assert cause_of(given_event).conflict == expected
        assert targets_of(given_event)

    @pytest.mark.parametrize(
        "given_event",
        [
            *(case[0] for case in CASES.values()),
            call("DeleteVpc", {"vpcId": "vpc-0a"}, errorCode="Client.UnauthorizedOperation"),
            call("DeleteRouteTable", {"routeTableId": "rtb-0"}, errorCode="Client.DependencyViolation"),
            call("CreateVpcEndpoint", errorCode="Client.InvalidParameter", errorMessage="The policy is malformed"),
            call("AssociateIamInstanceProfile", {"instanceId": "i-0"}, errorCode="Client.IncorrectState"),
            call("ModifyVpcEndpoint", {"vpcEndpointId": "vpce-0a"}, errorCode="Client.IncorrectState"),
            call("DeleteVpc", {"vpcId": "vpc-0a", "dryRun": True}, errorCode="Client.DependencyViolation"),
            call("DeleteVpc", {"vpcId": "vpc-0a"}, errorCode="Client.DependencyViolation", eventSource="x.aws"),
        ],
    )
    def test_nothing_else_is_one(self, given_event: dict[str, Json]) -> None:
        """A success, a refusal, a dry run, another service."""
        assert conflict_of(given_event) is None

    def test_more_tables_than_a_call_names_are_cut(self) -> None:
        """A message of the work queue has a limit, and one that breaks it would hold up the others for ever."""
        request = {"routeTableId": [f"rtb-{number}" for number in range(5000)]}
        conflict = conflict_of(call("CreateVpcEndpoint", request, **failed("RouteAlreadyExists")))
        assert conflict is not None
        assert len(conflict.route_table_ids) == 300

    @pytest.mark.parametrize(
        ("arn", "shown"),
        [
            (SOMEBODY, SOMEBODY),
            ("user/path/jane+x=y,z@example.com", "user/path/jane+x=y,z@example.com"),
            ("<b>jane</b>\n", "-b-jane-/b--"),
            ("x" * 500, "x" * 128),
            (7, "7"),
        ],
    )
    def test_who_it_was_can_be_shown(self, arn: Json, shown: str) -> None:
        """It is quoted on a finding, so nothing in it is out of place."""
        assert shown_name(arn) == shown


class TestOwnCalls:
    """Portcullis does not react to itself."""

    def test_a_call_of_our_own_role_has_no_targets(self) -> None:
        """What we made is known; a loop of reactions is impossible."""
        given = new("CreateVpcEndpoint", {"VpcId": "vpc-0a"}, userIdentity=issued_by(REMEDIATOR_ROLE))
        assert targets_of(given, (REMEDIATOR_ROLE,)) == []
        assert targets_of(given) == [VPC]

    @pytest.mark.parametrize(
        "given_event",
        [*(case[0] for case in CASES.values()), *(case[0] for case in CONFLICTS.values())],
        ids=[*CASES, *CONFLICTS],
    )
    def test_no_call_of_our_own_role_has_targets(self, given_event: dict[str, Json]) -> None:
        """Whatever was made, changed, deleted, or failed: only changes of state, which name nobody, still count."""
        ours = given_event | {"detail": given_event["detail"] | {"userIdentity": issued_by(REMEDIATOR_ROLE)}}
        is_call = "eventName" in ours["detail"]
        assert is_own(ours, (REMEDIATOR_ROLE,)) is is_call
        assert bool(targets_of(ours, (REMEDIATOR_ROLE,))) is not is_call

    def test_a_claim_to_be_us_counts_for_nothing_elsewhere(self) -> None:
        """Only calls of EC2 are ours."""
        assert not is_own(beat({"userIdentity": issued_by(REMEDIATOR_ROLE)}), (REMEDIATOR_ROLE,))

    @pytest.mark.parametrize(
        "identity",
        [
            issued_by("developer"),
            issued_by(REMEDIATOR_ROLE, kind="User"),
            issued_by(f"{REMEDIATOR_ROLE}-2"),
            issued_by([REMEDIATOR_ROLE]),
            {"type": "IAMUser", "userName": REMEDIATOR_ROLE},
            {"type": "AssumedRole"},
            None,
            "",
        ],
    )
    def test_everybody_elses_call_has(self, identity: Json) -> None:
        """Only a session of a role of exactly that name is ours."""
        given = new("CreateVpcEndpoint", {"VpcId": "vpc-0a"}, userIdentity=identity)
        assert targets_of(given, (REMEDIATOR_ROLE,)) == [VPC]
        assert not is_own(given, (REMEDIATOR_ROLE,))


class TestUnreadable:
    """What EventBridge would never send is refused, and the text says which field and how."""

    @pytest.mark.parametrize("given_event", [None, [], "text", 7, True])
    def test_not_an_object(self, given_event: Json) -> None:
        """The text says what to pass instead."""
        with pytest.raises(UnreadableEventError, match=r"the event is .*; pass a whole EventBridge event"):
            targets_of(given_event)

    @pytest.mark.parametrize("name", ["source", "detail-type", "account", "region", "detail"])
    @pytest.mark.parametrize("value", [None, 12, [], True])
    def test_an_envelope_field_is_missing_or_wrong(self, name: str, value: Json) -> None:
        """The field is named, and shown, or called missing."""
        shown = "missing" if value is None else str(value)
        with pytest.raises(UnreadableEventError, match=f"^{name} is ") as caught:
            targets_of(call("CreateVpc") | {name: value})
        assert str(caught.value).startswith(f"{name} is {shown}, ")

    @pytest.mark.parametrize(
        "account", ["", "1111", "1111222233334", "11112222333x", "*" * 12, f"{ACCOUNT}\n", ARABIC_ONE * 12]
    )
    def test_the_account_is_twelve_digits(self, account: str) -> None:
        """Anything else could end in the ARN of a role."""
        with pytest.raises(UnreadableEventError, match=r"account is .*, expected 12 digits"):
            targets_of(call("CreateVpc") | {"account": account})

    @pytest.mark.parametrize("region", ["", "eu_west_1", "EU-WEST-1", "eu-west-1/x", "*", "eu-west-1\n"])
    def test_the_region_is_a_region(self, region: str) -> None:
        """Anything else could end in the name of a host."""
        with pytest.raises(UnreadableEventError, match=r"region is .*, expected a Region name"):
            targets_of(call("CreateVpc") | {"region": region})

    def test_a_bare_cloudtrail_record_is_told_apart(self) -> None:
        """The commonest mistake at the command line: the record without its envelope."""
        with pytest.raises(UnreadableEventError, match=r"source is missing, .* pass a whole EventBridge event"):
            targets_of(call("CreateVpc")["detail"])

    @pytest.mark.parametrize("name", ["eventSource", "eventName"])
    def test_a_record_without_its_name(self, name: str) -> None:
        """A call without a name is not one of CloudTrail's records."""
        with pytest.raises(UnreadableEventError, match=f"{name} is missing"):
            targets_of(call("CreateVpc", **{name: None}))

    def test_a_state_change_without_an_instance(self) -> None:
        """It names nothing to look at."""
        with pytest.raises(UnreadableEventError, match="instance-id is missing"):
            targets_of(event({"state": "running"}, "EC2 Instance State-change Notification"))

    @pytest.mark.parametrize("bad", ["vpc-*", "*", "vpc-0a/../x", "vpc-0a\n", "vpc 0a", "vpc-0?", ["vpc-0a"], 7, True])
    def test_an_id_that_is_none_is_refused(self, bad: Json) -> None:
        """An id ends in a filter, where a wildcard would match everything."""
        with pytest.raises(UnreadableEventError, match=r"the vpc id is .*, expected letters, digits and hyphens"):
            targets_of(call("DeleteVpc", {"vpcId": bad}))

    @pytest.mark.parametrize("bad", ["i-*", "i-01,i-02"])
    def test_a_bad_instance_id_is_refused_wherever_it_stands(self, bad: str) -> None:
        """One bad id among good ones is enough; a state change is no exception."""
        with pytest.raises(UnreadableEventError, match="the instance id is"):
            targets_of(call("TerminateInstances", None, items("i-01", bad)))
        with pytest.raises(UnreadableEventError, match="the instance id is"):
            targets_of(event({"instance-id": bad}, "EC2 Instance State-change Notification"))

    def test_a_long_value_is_shown_short(self) -> None:
        """A log line stays one line."""
        with pytest.raises(UnreadableEventError) as caught:
            targets_of(call("CreateVpc") | {"account": "9" * 5000})
        assert len(str(caught.value)) < 200

    def test_a_list_nested_without_end_is_not_a_crash(self) -> None:
        """Whatever an event holds, the answer is targets or a refusal."""
        nested: Json = "i-01"
        for _ in range(5000):
            nested = {"items": nested}
        assert targets_of(call("StartInstances", {"instancesSet": nested})) == [EVERYTHING]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["items", "item", "tag", "content", "instanceId", "InstanceId", "vpcId", "instancesSet", "vpc", "subnet"]
    + ["fleetInstanceSet", "instanceIds", "iamInstanceProfileAssociation", "dryRun"]
    + [f"{name}{half}" for name in ("CreateVpc", "CreateFleet", "RunInstances") for half in ("Request", "Response")]
)
PARTS = st.recursive(
    st.sampled_from([None, "", "vpc-0a", "i-01", "*", 7, True]) | JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
NEAR_EVENTS = st.builds(
    lambda name, request, response, more: call(name, request, response, **more),
    st.sampled_from(CALL_NAMES) | st.text(max_size=3),
    PARTS,
    PARTS,
    st.dictionaries(st.sampled_from(["errorCode", "errorMessage", "eventSource", "userIdentity"]), PARTS, max_size=2),
)


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(given_event=JSON | NEAR_EVENTS | st.builds(event, PARTS))
def test_any_json_gives_targets_or_a_refusal(given_event: Json) -> None:
    """Never another exception; and every target is in the envelope's account and Region, with a proper id."""
    try:
        found = targets_of(given_event, (REMEDIATOR_ROLE,))
    except UnreadableEventError:
        return
    assert found == sorted(set(found))
    for target in found:
        assert (target.account_id, target.region) == (ACCOUNT, REGION)
        assert (target.resource_id is None) is (target.kind is Kind.ACCOUNT_REGION)
        assert target.resource_id is None or target.resource_id.replace("-", "").isalnum()
