"""The only writes to the networks and instances of others, with the remediator role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.actions import (
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    DeleteEndpoint,
    DisassociateInstanceProfile,
    RemoveRouteTables,
    takes_back,
)
from portcullis.adapters.calls import AWS_ERRORS, fault_of
from portcullis.adapters.endpoint_policies import digest
from portcullis.errors import Fault, PortcullisError, TransientError, is_gone
from portcullis.model import CHANGE_TAG, CONTROL_TAG, OWNERSHIP_TAG, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.actions import Action
    from portcullis.adapters.accounts import Accounts
    from portcullis.model import Work

PERMISSIONS = (
    "ec2:AssociateIamInstanceProfile",
    "ec2:CreateTags",
    "ec2:CreateVpcEndpoint",
    "ec2:DeleteVpcEndpoints",
    "ec2:DisassociateIamInstanceProfile",
    "ec2:ModifyVpcEndpoint",
    "iam:PassRole",
)
"""The IAM actions that this module uses, with the remediator role."""


class Ec2Remediator:
    """The Remediator port over EC2."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def perform(self, work: Work, action: Action, change_id: str) -> Outcome:
        """Perform one action. See ports.Remediator.

        What is to be taken back and is not there any more was taken back: by somebody else, or by the same change
        before a crash.
        """
        try:
            ec2 = self._accounts.remediator("ec2", work)
            return _PERFORMERS[type(action)](ec2, action, change_id)
        except AWS_ERRORS as error:
            if isinstance(error, ClientError) and is_gone(error.response["Error"]["Code"]) and takes_back(action):
                made = _taken_back(action)
                return Outcome(action, Result.APPLIED, made, f"{made} was gone already.")
            fault, text = fault_of(error)
            result = Result.FAILED if fault is Fault.TERMINAL else Result.RETRY
            # Somebody else may have associated the very same profile: that association is theirs.
            refuted = fault is Fault.CONFLICT and isinstance(action, AssociateInstanceProfile)
            detail = f"AWS did not let Portcullis {action}: {text.rstrip('.')}."
            return Outcome(action, result, detail=detail, is_refuted=refuted)
        except PortcullisError as error:
            result = Result.RETRY if isinstance(error, TransientError) else Result.FAILED
            return Outcome(action, result, detail=f"Portcullis could not {action}: {error}.")


def _taken_back(action: Any) -> str:
    made: str = action.association_id if isinstance(action, DisassociateInstanceProfile) else action.endpoint_id
    return made


def _create(ec2: Any, action: CreateGatewayEndpoint, change_id: str) -> Outcome:
    # botocore does not fill in ClientToken for this call; the type is AWS's default, but not everyone's.
    endpoint = ec2.create_vpc_endpoint(
        VpcId=action.vpc_id,
        ServiceName=action.service_name,
        VpcEndpointType="Gateway",
        RouteTableIds=list(action.route_table_ids),
        ClientToken=change_id,
        TagSpecifications=[
            {
                "ResourceType": "vpc-endpoint",
                "Tags": [
                    {"Key": OWNERSHIP_TAG, "Value": "true"},
                    {"Key": CONTROL_TAG, "Value": action.control_id},
                    {"Key": CHANGE_TAG, "Value": change_id},
                ],
            }
        ],
    )["VpcEndpoint"]
    made, tables = endpoint["VpcEndpointId"], endpoint.get("RouteTableIds", [])
    if (state := endpoint.get("State", "").lower()) not in ("available", "pending"):
        detail = f"{made}, which this change had created, is {state or 'gone'}; Portcullis tries again."
        return Outcome(action, Result.RETRY, made, detail)
    if missing := set(action.route_table_ids) - set(tables):
        raise TransientError(f"AWS created {made} without {sorted(missing)}")
    detail = f"Portcullis created {made} ({action.service_name}) on {', '.join(action.route_table_ids)}."
    after = {"route_table_ids": sorted(tables), "policy_digest": digest(endpoint.get("PolicyDocument"))}
    return Outcome(action, Result.APPLIED, made, detail, after)


def _add(ec2: Any, action: AddRouteTables, _: str) -> Outcome:
    ec2.modify_vpc_endpoint(VpcEndpointId=action.endpoint_id, AddRouteTableIds=list(action.route_table_ids))
    tables = ", ".join(action.route_table_ids)
    detail = f"Portcullis added {tables} to {action.endpoint_id} ({action.service_name})."
    return Outcome(action, Result.APPLIED, action.endpoint_id, detail)


def _remove(ec2: Any, action: RemoveRouteTables, _: str) -> Outcome:
    ec2.modify_vpc_endpoint(VpcEndpointId=action.endpoint_id, RemoveRouteTableIds=list(action.route_table_ids))
    tables = ", ".join(action.route_table_ids)
    detail = f"Portcullis took {tables} off {action.endpoint_id} ({action.service_name})."
    return Outcome(action, Result.APPLIED, action.endpoint_id, detail)


def _delete(ec2: Any, action: DeleteEndpoint, _: str) -> Outcome:
    answer = ec2.delete_vpc_endpoints(VpcEndpointIds=[action.endpoint_id])
    # An HTTP success says nothing yet: the error of each endpoint is only told here.
    for item in answer.get("Unsuccessful", []):
        raise ClientError({"Error": item["Error"]}, "DeleteVpcEndpoints")
    detail = f"Portcullis deleted {action.endpoint_id} ({action.service_name})."
    return Outcome(action, Result.APPLIED, action.endpoint_id, detail)


def _associate(ec2: Any, action: AssociateInstanceProfile, _: str) -> Outcome:
    association = ec2.associate_iam_instance_profile(
        InstanceId=action.instance_id, IamInstanceProfile={"Name": action.profile_name}
    )["IamInstanceProfileAssociation"]
    made = association["AssociationId"]
    detail = f"Portcullis associated {action.profile_name} with {action.instance_id} ({made})."
    return Outcome(action, Result.APPLIED, made, detail, {"profile": action.profile_name})


def _disassociate(ec2: Any, action: DisassociateInstanceProfile, _: str) -> Outcome:
    ec2.disassociate_iam_instance_profile(AssociationId=action.association_id)
    detail = f"Portcullis took {action.profile_name} off {action.instance_id} ({action.association_id})."
    return Outcome(action, Result.APPLIED, action.association_id, detail, {"profile": None})


_PERFORMERS: dict[type, Callable[[Any, Any, str], Outcome]] = {
    CreateGatewayEndpoint: _create,
    AddRouteTables: _add,
    RemoveRouteTables: _remove,
    DeleteEndpoint: _delete,
    AssociateInstanceProfile: _associate,
    DisassociateInstanceProfile: _disassociate,
}
