"""IAM roles as the restored behaviours see them: who may assume one, and what it may do."""

from __future__ import annotations

from typing import Any

from moto.iam.models import iam_backends

from . import policies


class RoleNotFoundError(Exception):
    """The account has no role with that ARN."""


def role_by_arn(role_arn: str) -> Any:
    """Return moto's role with an ARN.

    Raises:
        RoleNotFoundError: there is none in the account that the ARN names.
    """
    _, partition, _, _, account_id, _ = role_arn.split(":", 5)
    for role in list(iam_backends[account_id][partition].roles.values()):
        if role.arn == role_arn:
            return role
    raise RoleNotFoundError(f"there is no role {role_arn}")


def trust_statements(role: Any) -> tuple[policies.Statement, ...]:
    """Return the statements of a role's trust policy."""
    return policies.statements(role.assume_role_policy_document)


def trusts_service(role: Any, service: str) -> bool:
    """Return whether a role's trust policy lets an AWS service (`lambda.amazonaws.com`) assume it."""
    request = policies.Request("sts:AssumeRole")
    return policies.decide_for_principal(trust_statements(role), request, service=service) == "allowed"


def role_statements(role: Any) -> list[policies.Statement]:
    """Return the statements of a role's inline and attached policies.

    Raises:
        UnsupportedPolicyError: an attached policy's document is not known to moto.
    """
    documents = list(role.policies.values())
    for policy in role.managed_policies.values():
        versions = [version for version in policy.versions if version.version_id == policy.default_version_id]
        if not versions or not versions[0].document:
            raise policies.UnsupportedPolicyError(f"the document of {policy.arn} is not known here")
        documents.append(versions[0].document)
    return [statement for document in documents for statement in policies.statements(document)]


def decide_for_role(role: Any, request: policies.Request) -> policies.Decision:
    """Return what a role's own policies say about a request."""
    return policies.decide(role_statements(role), request)
