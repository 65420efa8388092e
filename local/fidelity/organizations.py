"""AWS Organizations as its accounts see it, and what follows when an account joins, moves or leaves.

Source: Organizations User Guide, "Delegated administrator for AWS services that work with Organizations", and the API
reference. moto answers every account as if it were on its own, makes up all ids, forgets no member, and lists
removed accounts.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from moto.organizations import utils
from moto.organizations.models import FakeDelegatedAdministrator, OrganizationsBackend, organizations_backends
from moto.organizations.responses import OrganizationsResponse

from . import calls, hooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PARTITION = "aws"
# moto does not know that StackSets can be administered by a member.
_STACK_SETS = "member.org.stacksets.cloudformation.amazonaws.com"
_lock = threading.RLock()


def create(organisation_id: str, root_id: str, management_id: str, units: Mapping[str, tuple[str, str]]) -> None:
    """Create the organisation, with units below its root: id, and name with parent's id."""
    organizations_backends.master_accounts.clear()  # a reset of moto leaves them
    backend = organizations_backends[management_id][_PARTITION]
    with (
        patch.object(utils, "make_random_org_id", lambda: organisation_id),
        patch.object(utils, "make_random_root_id", lambda: root_id),
    ):
        backend.create_organization("us-east-1", FeatureSet="ALL")
    for unit_id, (name, parent_id) in units.items():
        with patch.object(utils, "make_random_ou_id", lambda _, made=unit_id: made):
            backend.create_organizational_unit(Name=name, ParentId=parent_id)


def add_account(management_id: str, account_id: str, name: str, parent_id: str) -> None:
    """Let an account join, as a member of the root and then of another unit."""
    backend = organizations_backends[management_id][_PARTITION]
    with _lock, patch.object(utils, "make_random_account_id", lambda: account_id):
        backend.create_account(AccountName=name, Email=f"{account_id}@example.com", ParentId=parent_id)


def delegate(management_id: str, account_id: str) -> None:
    """Make a member a delegated administrator for StackSets."""
    backend = organizations_backends[management_id][_PARTITION]
    administrator = FakeDelegatedAdministrator(backend.get_account_by_id(account_id))
    administrator.services[_STACK_SETS] = {"ServicePrincipal": _STACK_SETS}
    backend.admins.append(administrator)


def is_member(management_id: str, account_id: str) -> bool:
    """Return whether an account belongs to the organisation now, and is not closed."""
    accounts = organizations_backends[management_id][_PARTITION].accounts
    return any(account.id == account_id and account.status == "ACTIVE" for account in accounts)


def is_delegated(management_id: str, account_id: str) -> bool:
    """Return whether an account is a delegated administrator."""
    return any(one.account.id == account_id for one in organizations_backends[management_id][_PARTITION].admins)


def service_control_policies(account_id: str) -> list[list[str]]:
    """Return the policies of an account and of all that is above it; nothing if none restricts it.

    The management account is not restricted, nor is an account that belongs to no organisation.
    """
    management_id, _ = organizations_backends.master_accounts.get(account_id, (account_id, None))
    backend = organizations_backends[management_id][_PARTITION]
    nodes: dict[str, Any] = {one.id: one for one in (*backend.ou, *backend.accounts)}
    levels, node = [], None if management_id == account_id else nodes.get(account_id)
    while node is not None:
        policies = [one.content for one in node.attached_policies if one.type == "SERVICE_CONTROL_POLICY"]
        levels.append(policies)
        node = nodes.get(getattr(node, "parent_id", None) or "")
    return levels


def accounts_below(management_id: str, parent_ids: Iterable[str]) -> list[str]:
    """Return the active accounts in the units and in all that is below them, the management account included."""
    backend = organizations_backends[management_id][_PARTITION]
    units = {backend.validate_parent_id(parent_id) for parent_id in parent_ids}
    while below := {unit.id for unit in backend.ou if unit.parent_id in units} - units:
        units |= below
    return [one.id for one in backend.accounts if one.parent_id in units and one.status == "ACTIVE"]


def _backend_for(http: Any) -> Any:
    """Return the state that answers a caller: its own, or the organisation's if that is the caller's business."""
    account_id, action = http.current_account, http._get_action() or ""
    own = organizations_backends[account_id][http.partition]
    management_id, _ = organizations_backends.master_accounts.get(account_id, (account_id, None))
    if management_id == account_id or action == "DescribeOrganization":
        return own
    if is_delegated(management_id, account_id) and action.startswith(calls.READ_ONLY_VERBS):
        return organizations_backends[management_id][http.partition]
    raise calls.Refusal("AccessDeniedException", "You don't have permissions to access this resource.")


def _wrap_membership() -> None:
    create_account, move = OrganizationsBackend.create_account, OrganizationsBackend.move_account
    close, remove = OrganizationsBackend.close_account, OrganizationsBackend.remove_account_from_organization

    def create_account_(backend: Any, **request: Any) -> Any:
        with _lock:
            status = create_account(backend, **request)
            account = backend.accounts[-1]
            account.parent_id = request.get("ParentId", account.parent_id)
        hooks.installed.on_membership(account.id, "joined")
        return status

    def move_account(backend: Any, **request: Any) -> None:
        account = backend.get_account_by_id(request["AccountId"])
        if account.parent_id != request["SourceParentId"]:
            message = "We can't find the source root or OU that you specified."
            raise calls.Refusal("SourceParentNotFoundException", message)
        move(backend, **request)
        hooks.installed.on_membership(account.id, "moved")

    def close_account(backend: Any, **request: Any) -> None:
        close(backend, **request)
        hooks.installed.on_membership(request["AccountId"], "was closed")

    def remove_account(backend: Any, **request: Any) -> None:
        remove(backend, **request)
        backend.accounts = [account for account in backend.accounts if account.id != request["AccountId"]]
        hooks.installed.on_membership(request["AccountId"], "was removed")

    OrganizationsBackend.create_account = create_account_
    OrganizationsBackend.move_account = move_account
    OrganizationsBackend.close_account = close_account
    OrganizationsBackend.remove_account_from_organization = remove_account


def install() -> None:
    """Patch moto's Organizations (once: the caller sees to that)."""
    _wrap_membership()
    OrganizationsResponse.organizations_backend = property(_backend_for)
