"""Instances: the states on the way, the events about them, and instance profiles.

Source: EC2 User Guide, "Instance state changes" and "EC2 Instance State-change Notification"; EC2 API
Reference for AssociateIamInstanceProfile and its relatives, with error texts from public issue threads.
moto jumps between end states, emits nothing, and shows a replaced profile for ever.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import iam_instance_profile as profile_models
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.responses import instances as instance_responses
from moto.iam.exceptions import NotFoundException

from . import eventbridge

if TYPE_CHECKING:
    from collections.abc import Callable

TRANSITION_SECONDS = 1.0
_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


def _enter(backend: Any, instance: Any, state: str) -> None:
    """Put an instance into a state and emit the event about it."""
    instance._state.name, instance._state.code = state, _CODES[state]
    account_id, region = backend.account_id, backend.region_name
    arn = f"arn:{backend.partition}:ec2:{region}:{account_id}:instance/{instance.id}"
    detail = {"instance-id": instance.id, "state": state}
    eventbridge.publish(
        account_id,
        region,
        lambda: eventbridge.envelope(
            account_id,
            region,
            "aws.ec2",
            "EC2 Instance State-change Notification",
            detail,
            resources=(arn,),
        ),
    )


def _pass_through(backend: Any, instances: list[Any], state: str, end_state: str) -> None:
    """Let instances be in `state` for a while before they reach `end_state`."""
    for instance in instances:
        _enter(backend, instance, state)

    def arrive() -> None:
        for instance in instances:
            # It may be gone with a reset, or something else may have happened to it: a pending one may be terminated.
            if backend.get_instance_by_id(instance.id) is instance and instance._state.name == state:
                _enter(backend, instance, end_state)

    timer = threading.Timer(TRANSITION_SECONDS, arrive)
    timer.daemon = True
    timer.start()


def _wrap_run() -> None:
    original = InstanceBackend.run_instances

    def run_instances(backend: Any, *args: Any, **kwargs: Any) -> Any:
        reservation = original(backend, *args, **kwargs)
        name, arn = kwargs.get("iam_instance_profile_name"), kwargs.get("iam_instance_profile_arn")
        if name or arn:
            # moto's response associates the first instance only, and after this, when it is pending.
            for instance in reservation.instances:
                backend.associate_iam_instance_profile(instance.id, name, arn)
            reservation.instances[0].associated_at_launch = True
        _pass_through(backend, reservation.instances, "pending", "running")
        return reservation

    InstanceBackend.run_instances = run_instances


def _wrap_transition(
    method_name: str, state: str, end_state: str, check: Callable[[Any], str | None] = lambda _: None
) -> None:
    original = getattr(InstanceBackend, method_name)

    def change(backend: Any, instance_ids: list[str]) -> Any:
        for instance in backend.get_multi_instances_by_id(instance_ids):
            if message := check(instance):
                raise EC2ClientError("IncorrectInstanceState", message)
        changed = original(backend, instance_ids)
        moving = [instance for instance, previous in changed if previous.name not in {state, end_state}]
        _pass_through(backend, moving, state, end_state)
        return changed

    setattr(InstanceBackend, method_name, change)


def _check_start(instance: Any) -> str | None:
    if instance._state.name in {"stopped", "running", "pending"}:
        return None
    return f"The instance '{instance.id}' is not in a state from which it can be started."


def _check_stop(instance: Any) -> str | None:
    if instance._state.name != "pending":
        return None
    return f"Instance '{instance.id}' cannot be stopped as it has never reached the 'running' state."


def _wrap_profile_lookup() -> None:
    """Answer for an unknown instance profile as EC2 does; moto lets IAM's error through."""
    original = profile_models.filter_iam_instance_profiles

    def find(
        account_id: str,
        partition: str,
        iam_instance_profile_arn: str | None = None,
        iam_instance_profile_name: str | None = None,
    ) -> Any:
        try:
            return original(account_id, partition, iam_instance_profile_arn, iam_instance_profile_name)
        except NotFoundException:
            key, kind, value = "name", "name", iam_instance_profile_name
            if iam_instance_profile_arn:
                key, kind, value = "arn", "ARN", iam_instance_profile_arn
            message = (
                f"Value ({value}) for parameter iamInstanceProfile.{key} is invalid. "
                f"Invalid IAM Instance Profile {kind}"
            )
            raise EC2ClientError("InvalidParameterValue", message) from None

    profile_models.filter_iam_instance_profiles = find
    instance_responses.filter_iam_instance_profiles = find


def _show_profile(backend: Any, association: Any) -> None:
    """Let DescribeInstances say what the association says."""
    profile = association.iam_instance_profile
    shown = {"Arn": profile.arn, "Id": profile.id}
    backend.modify_instance_attribute(association.instance_id, "iam_instance_profile", shown)


def _wrap_associations() -> None:
    original_associate = IamInstanceProfileAssociationBackend.associate_iam_instance_profile
    original_replace = IamInstanceProfileAssociationBackend.replace_iam_instance_profile_association

    def associate(
        backend: Any,
        instance_id: str,
        iam_instance_profile_name: str | None = None,
        iam_instance_profile_arn: str | None = None,
    ) -> Any:
        instance = backend.get_instance(instance_id)
        existing = backend.iam_instance_profile_associations.get(instance_id)
        if vars(instance).pop("associated_at_launch", False):
            return existing
        if instance._state.name not in {"running", "stopped"}:
            message = f"The instance '{instance_id}' is not in the 'running' or 'stopped' states."
            raise EC2ClientError("IncorrectInstanceState", message)
        if existing is not None:
            raise EC2ClientError("IncorrectState", f"There is an existing association for instance {instance_id}")
        association = original_associate(backend, instance_id, iam_instance_profile_name, iam_instance_profile_arn)
        _show_profile(backend, association)
        return association

    def replace(backend: Any, association_id: str, name: str | None = None, arn: str | None = None) -> Any:
        for association in backend.iam_instance_profile_associations.values():
            if association.association_id == association_id and association.instance._state.name != "running":
                message = f"The association {association_id} is not the active association"
                raise EC2ClientError("IncorrectState", message)
        association = original_replace(backend, association_id, name, arn)
        _show_profile(backend, association)
        return association

    IamInstanceProfileAssociationBackend.associate_iam_instance_profile = associate
    IamInstanceProfileAssociationBackend.replace_iam_instance_profile_association = replace


def install() -> None:
    """Patch moto's instances and instance profiles (once: the caller sees to that)."""
    _wrap_run()
    _wrap_transition("start_instances", "pending", "running", _check_start)
    _wrap_transition("stop_instances", "stopping", "stopped", _check_stop)
    _wrap_transition("terminate_instances", "shutting-down", "terminated")
    _wrap_profile_lookup()
    _wrap_associations()
