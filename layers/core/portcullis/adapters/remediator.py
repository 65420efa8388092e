"""The only writes to the networks and instances of others, with the remediator role."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from portcullis.adapters.calls import AWS_ERRORS, fault_of
from portcullis.errors import Fault, PortcullisError, TransientError
from portcullis.model import (
    CONTROL_TAG,
    OWNERSHIP_TAG,
    Action,
    AddRouteTables,
    AssociateInstanceProfile,
    CreateGatewayEndpoint,
    Outcome,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.adapters.accounts import Accounts
    from portcullis.model import Work

PERMISSIONS = (
    "ec2:AssociateIamInstanceProfile",
    "ec2:CreateTags",
    "ec2:CreateVpcEndpoint",
    "ec2:ModifyVpcEndpoint",
    "iam:PassRole",
)
"""The IAM actions that this module uses, with the remediator role."""


class Ec2Remediator:
    """The Remediator port over EC2."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def perform(self, work: Work, action: Action) -> Outcome:
        """Perform one action. See ports.Remediator."""
        try:
            ec2 = self._accounts.remediator("ec2", work)
            resource_id, detail = _PERFORMERS[type(action)](ec2, action, work.message_id)
        except AWS_ERRORS as error:
            fault, text = fault_of(error)
            result = Result.FAILED if fault is Fault.TERMINAL else Result.RETRY
            return Outcome(action, result, detail=f"AWS did not let Portcullis {action}: {text.rstrip('.')}.")
        except PortcullisError as error:
            result = Result.RETRY if isinstance(error, TransientError) else Result.FAILED
            return Outcome(action, result, detail=f"Portcullis could not {action}: {error}.")
        return Outcome(action, Result.APPLIED, resource_id, detail)


def _token(action: Action, message_id: str) -> str:
    """An idempotency token: the same for a redelivered message, another for another message."""
    return hashlib.sha256(f"{message_id}|{action}".encode()).hexdigest()


def _create(ec2: Any, action: CreateGatewayEndpoint, message_id: str) -> tuple[str, str]:
    # botocore does not fill in ClientToken for this call; the type is AWS's default, but not everyone's.
    endpoint = ec2.create_vpc_endpoint(
        VpcId=action.vpc_id,
        ServiceName=action.service_name,
        VpcEndpointType="Gateway",
        RouteTableIds=list(action.route_table_ids),
        ClientToken=_token(action, message_id),
        TagSpecifications=[
            {
                "ResourceType": "vpc-endpoint",
                "Tags": [
                    {"Key": OWNERSHIP_TAG, "Value": "true"},
                    {"Key": CONTROL_TAG, "Value": action.control_id},
                ],
            }
        ],
    )["VpcEndpoint"]
    made = endpoint["VpcEndpointId"]
    missing = set(action.route_table_ids) - set(endpoint.get("RouteTableIds", []))
    if missing or endpoint.get("State", "").lower() not in ("available", "pending"):
        raise TransientError(f"AWS created {made}, state {endpoint.get('State')}, without {sorted(missing)}")
    return made, f"Portcullis created {made} ({action.service_name}) on {', '.join(action.route_table_ids)}."


def _add(ec2: Any, action: AddRouteTables, _: str) -> tuple[str, str]:
    ec2.modify_vpc_endpoint(VpcEndpointId=action.endpoint_id, AddRouteTableIds=list(action.route_table_ids))
    tables = ", ".join(action.route_table_ids)
    return action.endpoint_id, f"Portcullis added {tables} to {action.endpoint_id} ({action.service_name})."


def _associate(ec2: Any, action: AssociateInstanceProfile, _: str) -> tuple[str, str]:
    association = ec2.associate_iam_instance_profile(
        InstanceId=action.instance_id, IamInstanceProfile={"Name": action.profile_name}
    )["IamInstanceProfileAssociation"]
    made = association["AssociationId"]
    return made, f"Portcullis associated {action.profile_name} with {action.instance_id} ({made})."


_PERFORMERS: dict[type, Callable[[Any, Any, str], tuple[str, str]]] = {
    CreateGatewayEndpoint: _create,
    AddRouteTables: _add,
    AssociateInstanceProfile: _associate,
}
