"""The member stacks by hand, for the accounts that service-managed StackSets leave out: the management account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INFRA = Path(__file__).resolve().parents[4] / "infra"
HUB_STACK = "portcullis"
ACCOUNT, REGION = "portcullis-member-account", "portcullis-member-region"


def hub_outputs(session: Any, stack_name: str = HUB_STACK) -> dict[str, str]:
    """Read the outputs of the hub's stack: parameters of the member templates, by the same names."""
    stacks = session.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


def enrol(session: Any, outputs: Mapping[str, str]) -> Iterator[str]:
    """Deploy both member stacks into the session's account, or bring them up to date; yields what was done.

    Args:
        session: Of an administrator of the account, in the hub's Region, where the account's stack belongs.
        outputs: Those of the hub's stack.
    """
    for name, region in _stacks(session, outputs):
        yield f"{name} in {region}: {_deploy(session.client('cloudformation', region_name=region), name, outputs)}"


def leave(session: Any, outputs: Mapping[str, str]) -> Iterator[str]:
    """Delete both member stacks; yields what was done."""
    for name, region in reversed(_stacks(session, outputs)):
        cloudformation = session.client("cloudformation", region_name=region)
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=name)
        yield f"{name} in {region}: deleted"


def _stacks(session: Any, outputs: Mapping[str, str]) -> list[tuple[str, str]]:
    regions = [(REGION, region) for region in outputs["GovernedRegions"].split(",")]
    return [(ACCOUNT, session.region_name), *regions]


def _deploy(cloudformation: Any, name: str, outputs: Mapping[str, str]) -> str:
    body = (INFRA / f"{name.removeprefix('portcullis-')}.yaml").read_text(encoding="utf-8")
    request = {
        "StackName": name,
        "TemplateBody": body,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": outputs[key]} for key in _parameters(body) if key in outputs
        ],
    }
    try:
        cloudformation.create_stack(**request)
        cloudformation.get_waiter("stack_create_complete").wait(StackName=name)
    except cloudformation.exceptions.AlreadyExistsException:
        try:
            cloudformation.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" in error.response["Error"]["Message"]:
                return "up to date"
            raise
        cloudformation.get_waiter("stack_update_complete").wait(StackName=name)
        return "updated"
    return "created"


def _parameters(body: str) -> list[str]:
    """Return the names of a template's parameters; composed only, since its short forms (!Ref) cannot be built."""
    template: Any = yaml.compose(body, Loader=yaml.SafeLoader)
    sections = {key.value: section for key, section in template.value}
    return [str(key.value) for key, _ in sections["Parameters"].value]
