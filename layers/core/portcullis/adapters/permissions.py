"""Asks IAM what roles allow, and Systems Manager whether it manages hosts without any.

IAM is global and throttled, and knows no call for several roles. So each role is asked about once (with all actions at
once: the service model sets no limit), and the answer is kept for a quarter of an hour: instances of a group share a
role and are looked at one after the other, while a policy that somebody mends is seen by the next sweep at the latest.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from portcullis.adapters.calls import fault_of, translated
from portcullis.errors import Fault
from portcullis.model import Denial, Permissions

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from portcullis.adapters.accounts import Accounts
    from portcullis.model import Needs
    from portcullis.ports import Clock

PERMISSIONS = ("iam:ListAttachedRolePolicies", "iam:SimulatePrincipalPolicy", "ssm:GetServiceSetting")
"""The IAM actions that this module uses, with the observer role."""

_KEPT_FOR = timedelta(minutes=15)
_PAGE = {"PageSize": 1000}
_HOST_MANAGEMENT = "/ssm/managed-instance/default-ec2-instance-management-role"
_OFF = "$None"
NOT_EVALUATED = "PolicyEvaluation"
"""Comes as an error of the server, and does not pass by itself."""


class RolePermissions:
    """What the roles of an account allow.

    Args:
        accounts: The way into the members.
        clock: The time, by which answers grow old.
    """

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._kept: dict[tuple[str, str, Needs], tuple[datetime, Permissions]] = {}

    def read(self, account_id: str, region: str, roles: Mapping[str, str], needs: Needs) -> dict[str, Permissions]:
        """Return what roles allow in a Region, by their names.

        Args:
            account_id: The account.
            region: The Region: policies may depend on it.
            roles: Their ARNs by name.
            needs: ``role_actions`` and ``role_policies`` say what is asked; nothing of both: no calls.

        Returns:
            One for each role. What IAM refuses, or cannot evaluate, is ``unread``: the others are known all the same.

        Raises:
            TransientError: IAM did not answer, or not now. What it said before that is kept.
            NotAdmittedError: The account does not let us in.
        """
        if not roles or not (needs.role_actions or needs.role_policies):
            return {}
        now, found = self._clock.now(), {}
        self._kept = {key: kept for key, kept in self._kept.items() if now - kept[0] < _KEPT_FOR}
        with translated(f"asking what roles of {account_id} allow"):
            iam = self._accounts.observer("iam", account_id, region)
            for name, arn in sorted(roles.items()):
                if (arn, region, needs) not in self._kept:
                    self._kept[arn, region, needs] = (now, _permissions(iam, region, (name, arn), needs))
                found[name] = self._kept[arn, region, needs][1]
        return found

    def host_management(self, account_id: str, region: str) -> bool | None:
        """Tell whether Default Host Management is on ("GetServiceSetting", Systems Manager API reference).

        Returns:
            None when Systems Manager refuses to say. Raises what ``read`` raises.
        """
        with translated(f"asking for Default Host Management of {account_id} {region}"):
            ssm = self._accounts.observer("ssm", account_id, region)
            try:
                return host_management(ssm)
            except ClientError as error:
                if fault_of(error)[0] is Fault.TRANSIENT:
                    raise
                return None


def host_management(ssm: Any) -> bool:
    """Tell whether Default Host Management is on; raises ClientError when Systems Manager does not say."""
    try:
        setting = ssm.get_service_setting(SettingId=_HOST_MANAGEMENT)["ServiceSetting"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ServiceSettingNotFound":
            return False
        raise
    return bool(setting.get("SettingValue", _OFF) != _OFF)


def _permissions(iam: Any, region: str, role: tuple[str, str], needs: Needs) -> Permissions:
    name, arn = role
    try:
        found = simulated(iam, region, arn, needs.role_actions) if needs.role_actions else Permissions()
        return replace(found, policy_names=_attached(iam, name)) if needs.role_policies else found
    except ClientError as error:
        fault, text = fault_of(error)
        if fault is Fault.TRANSIENT and error.response["Error"]["Code"] != NOT_EVALUATED:
            raise
        return Permissions(unread=f"{error.operation_name}: {text}")


def simulated(iam: Any, region: str, arn: str, actions: Collection[str], resource: str = "") -> Permissions:
    """Simulate actions of a role, as a program on an instance calls them: from that Region, through TLS.

    Policies of the organisation often deny all but some Regions, so that without it they would deny everything.

    Args:
        iam: The client.
        region: The Region that is called.
        arn: The role's.
        actions: What is called.
        resource: On what, by its ARN; empty for every resource.

    Raises:
        ClientError: IAM does not say, or cannot evaluate the policies (``NOT_EVALUATED``).
    """
    known = {"aws:RequestedRegion": ("string", region), "aws:SecureTransport": ("boolean", "true")}
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=arn,
        ActionNames=sorted(actions),
        ContextEntries=[
            {"ContextKeyName": key, "ContextKeyType": kind, "ContextKeyValues": [value]}
            for key, (kind, value) in known.items()
        ],
        PaginationConfig=_PAGE,
        **({"ResourceArns": [resource]} if resource else {}),
    )
    results = {result["EvalActionName"].lower(): result for page in pages for result in page["EvaluationResults"]}
    if left_out := sorted(action for action in actions if action.lower() not in results):
        return Permissions(unread=f"the simulator says nothing about {', '.join(left_out)}")
    denials = [
        Denial(action, _denied_by(result))
        for action in sorted(actions)
        if (result := results[action.lower()])["EvalDecision"] != "allowed"
    ]
    missing = {key for result in results.values() for key in result.get("MissingContextValues", [])}
    return Permissions(tuple(denials), tuple(sorted(missing)))


def _attached(iam: Any, role_name: str) -> tuple[str, ...]:
    pages = iam.get_paginator("list_attached_role_policies").paginate(RoleName=role_name, PaginationConfig=_PAGE)
    return tuple(sorted(each["PolicyName"] for page in pages for each in page["AttachedPolicies"]))


def _denied_by(result: Mapping[str, Any]) -> str:
    """Name what denies first: it has to be mended whatever the others say ("EvaluationResult", IAM API reference)."""
    if not result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations", True):
        return "scp"
    if not result.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary", True):
        return "boundary"
    return "explicit" if result["EvalDecision"] == "explicitDeny" else "role"
