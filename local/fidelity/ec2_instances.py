"""Instances: the states on the way, the events about them, and instance profiles.

Source: EC2 User Guide, "Instance state changes"; EC2 API Reference for AssociateIamInstanceProfile and its relatives,
with error texts from public issue threads. moto jumps between end states and shows a replaced profile for ever.
"""

from __future__ import annotations

import threading
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import iam_instance_profile as profile_models
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend as Associations
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.responses import instances as instance_responses
from moto.iam.exceptions import NotFoundException

from . import eventbridge

TRANSITION_SECONDS = 1.0
_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


def _enter(backend: Any, instance: Any, state: str) -> None:
    """Put an instance into a state and emit the event about it."""
    instance._state.name, instance._state.code = state, _CODES[state]
    place = backend.account_id, backend.region_name
    arns = (f"arn:aws:ec2:{place[1]}:{place[0]}:instance/{instance.id}",)
    kind, detail = "EC2 Instance State-change Notification", {"instance-id": instance.id, "state": state}
    eventbridge.publish(*place, lambda: eventbridge.envelope(*place, "aws.ec2", kind, detail, resources=arns))


def _pass_through(backend: Any, instances: list[Any], state: str, end_state: str) -> None:
    """Let instances be in `state` for a while before they reach `end_state`."""
    for instance in instances:
        _enter(backend, instance, state)

    def arrive() -> None:
        for instance in instances:
            # It may be gone with a reset, or terminated while it was pending.
            if backend.get_instance_by_id(instance.id) is instance and instance._state.name == state:
                _enter(backend, instance, end_state)

    timer = threading.Timer(TRANSITION_SECONDS, arrive)
    timer.daemon = True
    timer.start()


def _wrap_run() -> None:
    original = InstanceBackend.run_instances

    def run_instances(backend: Any, *args: Any, **kwargs: Any) -> Any:
        reservation = original(backend, *args, **kwargs)
        attached = {one.get("NetworkInterfaceId") for one in kwargs.get("nics") or ()}
        for interface in (one for instance in reservation.instances for one in instance.nics.values()):
            interface.status = "in-use"
            # What comes with an instance goes with it.
            interface.delete_on_termination = interface.id not in attached
        name, arn = kwargs.get("iam_instance_profile_name"), kwargs.get("iam_instance_profile_arn")
        if name or arn:
            # moto's response associates the first instance only, and after this, when it is pending.
            for instance in reservation.instances:
                backend.associate_iam_instance_profile(instance.id, name, arn)
            reservation.instances[0].associated_at_launch = True
        _pass_through(backend, reservation.instances, "pending", "running")
        return reservation

    InstanceBackend.run_instances = run_instances


def _wrap_transition(method_name: str, state: str, end_state: str) -> None:
    original = getattr(InstanceBackend, method_name)

    def change(backend: Any, instance_ids: list[str]) -> Any:
        changed = original(backend, instance_ids)
        moving = [instance for instance, previous in changed if previous.name not in {state, end_state}]
        _pass_through(backend, moving, state, end_state)
        return changed

    setattr(InstanceBackend, method_name, change)


def _wrap_profile_lookup() -> None:
    """Answer for an unknown instance profile as EC2 does; moto lets IAM's error through."""
    original = profile_models.filter_iam_instance_profiles

    def find(account_id: str, **wanted: Any) -> Any:
        try:
            return original(account_id, **wanted)
        except NotFoundException:
            kind = "ARN" if wanted["iam_instance_profile_arn"] else "name"
            value = wanted[f"iam_instance_profile_{kind.lower()}"]
            message = f"Value ({value}) for parameter iamInstanceProfile.{kind.lower()} is invalid. "
            raise EC2ClientError("InvalidParameterValue", f"{message}Invalid IAM Instance Profile {kind}") from None

    profile_models.filter_iam_instance_profiles = find
    instance_responses.filter_iam_instance_profiles = find


def _wrap_associations() -> None:
    original_associate = Associations.associate_iam_instance_profile
    original_replace = Associations.replace_iam_instance_profile_association

    def show(backend: Any, association: Any) -> Any:
        # DescribeInstances says what the association says.
        profile = {"Arn": association.iam_instance_profile.arn, "Id": association.iam_instance_profile.id}
        backend.modify_instance_attribute(association.instance_id, "iam_instance_profile", profile)
        return association

    def associate(backend: Any, instance_id: str, *profile: Any, **named_profile: Any) -> Any:
        instance = backend.get_instance(instance_id)
        existing = backend.iam_instance_profile_associations.get(instance_id)
        if vars(instance).pop("associated_at_launch", False):
            return existing
        if instance._state.name not in {"running", "stopped"}:
            message = f"The instance '{instance_id}' is not in the 'running' or 'stopped' states."
            raise EC2ClientError("IncorrectInstanceState", message)
        if existing is not None:
            raise EC2ClientError("IncorrectState", f"There is an existing association for instance {instance_id}")
        return show(backend, original_associate(backend, instance_id, *profile, **named_profile))

    def replace(backend: Any, association_id: str, *profile: Any) -> Any:
        for one in backend.iam_instance_profile_associations.values():
            if one.association_id == association_id and one.instance._state.name != "running":
                raise EC2ClientError("IncorrectState", f"{association_id} is not the active association")
        return show(backend, original_replace(backend, association_id, *profile))

    Associations.associate_iam_instance_profile = associate
    Associations.replace_iam_instance_profile_association = replace


def install() -> None:
    """Patch moto's instances and instance profiles (once: the caller sees to that)."""
    _wrap_run()
    _wrap_transition("start_instances", "pending", "running")
    _wrap_transition("stop_instances", "stopping", "stopped")
    _wrap_transition("terminate_instances", "shutting-down", "terminated")
    _wrap_profile_lookup()
    _wrap_associations()
