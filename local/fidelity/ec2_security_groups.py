"""Security groups: rules all or none, equal rules whatever their description, and what keeps a group from deletion.

Source: EC2 API Reference, AuthorizeSecurityGroupIngress, RevokeSecurityGroupEgress, DeleteSecurityGroup, and its list
of error codes. moto adds the rules before the one that it refuses, answers with the last permission's rules only, takes
a rule with another description for another rule, and deletes groups in use.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.responses.security_groups import SecurityGroups


def _substance(rule: Any) -> tuple[Any, ...]:
    """Return what makes a rule another one."""
    peer = (rule.ip_range.get("CidrIp"), rule.ip_range.get("CidrIpv6"), rule.source_group.get("GroupId"))
    return (rule.ip_protocol, rule.from_port, rule.to_port, *peer, rule.prefix_list_id)


def _same(rule: Any, other: Any) -> bool:
    return _substance(rule) == _substance(other)


def _wrap_change(verb: str, direction: str) -> None:
    """Serve a call that adds or removes rules, all or none."""

    def change(http: Any) -> ActionResult:
        backend, name = http.ec2_backend, f"{verb}_security_group_{direction}"
        made: list[Any] = []
        groups = [group for of_vpc in backend.groups.values() for group in of_vpc.values()]
        before = [(group, list(getattr(group, f"{direction}_rules"))) for group in groups]
        try:
            for parameters in http._process_rules_from_querystring():
                tags = parameters.pop("sgrule_tags")
                extra = {"sgrule_tags": tags} if verb == "authorize" else {}
                result = getattr(backend, name)(**parameters, **extra)
                made += result[0] if result else []
        except EC2ClientError:
            for group, rules in before:
                setattr(group, f"{direction}_rules", rules)
            raise
        return ActionResult({"Return": True, **({"SecurityGroupRules": made} if verb == "authorize" else {})})

    setattr(SecurityGroups, f"{verb}_security_group_{direction}", change)


def _is_used(backend: Any, group: Any) -> bool:
    """Return whether a network interface is in a group, or a rule of another one names it."""
    others = [one for of_vpc in backend.groups.values() for one in of_vpc.values() if one is not group]
    rules = [rule for one in others for rule in (*one.ingress_rules, *one.egress_rules)]
    interfaces = list(backend.enis.values())
    return any(rule.source_group.get("GroupId") == group.id for rule in rules) or any(
        group.id == one.id for interface in interfaces for one in interface.group_set
    )


def _wrap_delete() -> None:
    original = SecurityGroups.delete_security_group

    def delete_security_group(http: Any) -> Any:
        group = http.ec2_backend.get_security_group_from_id(http._get_param("GroupId") or "")
        if group is not None and group.is_default:
            message = f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
            raise EC2ClientError("CannotDelete", message)
        if group is not None and _is_used(http.ec2_backend, group):
            raise EC2ClientError("DependencyViolation", f"resource {group.id} has a dependent object")
        return original(http)

    SecurityGroups.delete_security_group = delete_security_group


def install() -> None:
    """Patch moto's security groups (once: the caller sees to that)."""
    SecurityGroupRule.__eq__ = _same
    for verb in ("authorize", "revoke"):
        for direction in ("ingress", "egress"):
            _wrap_change(verb, direction)
    _wrap_delete()
