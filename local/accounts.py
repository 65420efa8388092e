"""The accounts of the local organisation: its tree, and what every account has from the start."""

from __future__ import annotations

import copy
import json
from typing import Any

from moto.iam.models import IAMBackend, iam_backends
from moto.securityhub.models import securityhub_backends

from .clients import HUB_ACCOUNT_ID, MANAGEMENT_ACCOUNT_ID, MEMBER_ACCOUNT_IDS, MEMBER_ROLE_NAME, REGIONS
from .fidelity import organizations

ORGANISATION_ID = "o-a1b2c3d4e5"
ROOT_ID = "r-a1b2"
SECURITY_ID, WORKLOADS_ID = "ou-a1b2-security", "ou-a1b2-workload"
_UNITS = {SECURITY_ID: ("Security", ROOT_ID), WORKLOADS_ID: ("Workloads", ROOT_ID)}

_load_aws_policies = IAMBackend._init_aws_policies
_loaded_policies: list[Any] = []


def create_organisation() -> None:
    """Create the organisation and its accounts in an empty moto."""
    IAMBackend._init_aws_policies = _aws_policies
    organizations.create(ORGANISATION_ID, ROOT_ID, MANAGEMENT_ACCOUNT_ID, _UNITS)
    furnish(MANAGEMENT_ACCOUNT_ID)
    # Furnished as they join, as every later account is: the hooks see to that.
    organizations.add_account(MANAGEMENT_ACCOUNT_ID, HUB_ACCOUNT_ID, "portcullis", SECURITY_ID)
    organizations.delegate(MANAGEMENT_ACCOUNT_ID, HUB_ACCOUNT_ID)
    for number, account_id in enumerate(MEMBER_ACCOUNT_IDS, start=1):
        organizations.add_account(MANAGEMENT_ACCOUNT_ID, account_id, f"workload-{number}", WORKLOADS_ID)


def furnish(account_id: str) -> None:
    """Give an account the role by which people get in, and Security Hub in every governed Region.

    On AWS that role trusts the management account, which has none itself; here people start from the hub.
    """
    people = {"AWS": [f"arn:aws:iam::{one}:root" for one in (HUB_ACCOUNT_ID, MANAGEMENT_ACCOUNT_ID)]}
    statement = {"Effect": "Allow", "Principal": people, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    # Inside moto: nobody can sign a call for an account that has no role yet, and it saves a second.
    iam = iam_backends[account_id]["aws"]
    known = [role for role in iam.roles.values() if role.name == MEMBER_ROLE_NAME]
    if known:
        known[0].assume_role_policy_document = trust
    else:
        iam.create_role(MEMBER_ROLE_NAME, trust, "/", None, None, [], "3600")
    for region in REGIONS:
        securityhub_backends[account_id][region].enable_security_hub()


def _aws_policies(backend: Any) -> list[Any]:
    """Load AWS's 1,500 policies once, and for its own partition only: moto builds every account in six."""
    if backend.region_name == "aws" and not _loaded_policies:
        _loaded_policies.extend(_load_aws_policies(backend))
    return [copy.copy(policy) for policy in _loaded_policies] if backend.region_name == "aws" else []
