"""Creates the accounts, and deploys the hub's template and the members' to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moto.iam.models import iam_backends
from moto.securityhub.models import securityhub_backends

from .clients import HOME_REGION, HUB_ACCOUNT_ID, MEMBER_ROLE_NAME, Clients
from .fidelity import authorization, policies, roles
from .resources import deploy
from .stacks import FunctionSpec, Stack
from .template import TemplateError, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .functions import Credentials

MEMBER_ACCOUNT_IDS = ("111122223333", "222233334444", "333344445555", "444455556666")
ACCOUNT_IDS = (HUB_ACCOUNT_ID, *MEMBER_ACCOUNT_IDS)
REGIONS = (HOME_REGION, "eu-west-1", "ap-northeast-1")

# What Lambda's poller does to a queue, with the role of the function that it feeds.
_POLLER_ACTIONS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")


def create_accounts() -> None:
    """Give every account the role that AWS gives it, and Security Hub in every governed Region."""
    trusted = {"AWS": f"arn:aws:iam::{HUB_ACCOUNT_ID}:root"}
    trust = _policy({"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole"})
    everything = _policy({"Effect": "Allow", "Action": "*", "Resource": "*"})
    for account_id in ACCOUNT_IDS:
        # Inside moto: nobody can sign a call for an account that has no role yet, and it saves a second.
        iam = iam_backends[account_id]["aws"]
        iam.create_role(MEMBER_ROLE_NAME, trust, "/", None, None, [], "3600")
        iam.put_role_policy(MEMBER_ROLE_NAME, "Administrator", everything)
        for region in REGIONS:
            securityhub_backends[account_id][region].enable_security_hub()


def deploy_hub(clients: Clients, checkout: Path, parameters: Mapping[str, str], *, name: str = "portcullis") -> Stack:
    """Deploy template.yaml to the hub.

    Raises:
        TemplateError: it cannot be deployed, or AWS would refuse the role of one of its functions.
    """
    template = load(checkout / "template.yaml", parameters)
    stack = Stack(name, HUB_ACCOUNT_ID, HOME_REGION, template, clients)
    deploy(stack, parameters)
    for function in stack.functions:
        _check_roles(function, stack)
    return stack


def deploy_members(clients: Clients, checkout: Path, hub_outputs: Mapping[str, str]) -> list[Stack]:
    """Deploy the member templates: one to every account, one to every account and governed Region.

    A parameter of theirs takes the hub stack's output of the same name.

    Raises:
        TemplateError: one cannot be deployed, or has a parameter without default that the hub does not put out.
    """
    stacks = []
    everywhere = [(account_id, region) for account_id in ACCOUNT_IDS for region in REGIONS]
    homes = [(account_id, HOME_REGION) for account_id in ACCOUNT_IDS]
    for name, places in (("member-account", homes), ("member-region", everywhere)):
        template = load(checkout / "infra" / f"{name}.yaml")
        declared = template.body.get("Parameters") or {}
        values = {key: value for key, value in hub_outputs.items() if key in declared}
        for account_id, region in places:
            stack = Stack(f"portcullis-{name}", account_id, region, template, clients)
            deploy(stack, values)
            if stack.functions or stack.queues:
                raise TemplateError(f"infra/{name}.yaml: only the hub's functions and queues are served here")
            stacks.append(stack)
    return stacks


def session_of_role(spec: FunctionSpec) -> Credentials:
    """Return the credentials that the Lambda service hands to a function, as environment variables.

    Raises:
        authorization.AssumeRoleDeniedError: the role does not trust Lambda.
    """
    issued = authorization.assume_role_as_service(
        spec.role_arn, spec.name, service="lambda.amazonaws.com", region=spec.region
    )
    return {
        "AWS_ACCESS_KEY_ID": issued["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": issued["SecretAccessKey"],
        "AWS_SESSION_TOKEN": issued["SessionToken"],
    }


def _check_roles(spec: FunctionSpec, stack: Stack) -> None:
    """Check what AWS checks when it creates a function and its event source mappings."""
    try:
        role = roles.role_by_arn(spec.role_arn)
    except roles.RoleNotFoundError as error:
        raise TemplateError(f"{spec.logical_id}: {error}") from error
    if not roles.trusts_service(role, "lambda.amazonaws.com"):
        raise TemplateError(f"{spec.logical_id}: its role does not trust lambda.amazonaws.com")
    for source in stack.event_sources:
        if source.function_name == spec.name:
            for action in _POLLER_ACTIONS:
                if roles.decide_for_role(role, policies.Request(action, source.queue_arn)) != "allowed":
                    raise TemplateError(f"{spec.logical_id}: its role may not {action} on {source.queue_arn}")


def _policy(statement: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
