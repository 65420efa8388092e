"""Why the policy says what it says about one resource: which line decided each setting, and what it overruled."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from portcullis import policy
from portcullis.adapters.clock import SystemClock
from portcullis.adapters.directory import OrganizationsDirectory
from portcullis.cli.controls_page import as_yaml
from portcullis.cli.organisation import Hub
from portcullis.cli.policy_rulings import explain
from portcullis.controls import CONTROLS
from portcullis.errors import ObservationError
from portcullis.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from portcullis.cli.policy_file import PolicyFile
    from portcullis.cli.policy_places import Location
    from portcullis.cli.policy_rulings import Ruling
    from portcullis.controls import Control

_ACCOUNT = re.compile(r"\d{12}")
_KINDS = {"vpc": Kind.VPC, "i": Kind.INSTANCE}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about, with the tags and units that are given or were looked up (``live``).

    Raises:
        ValueError: The resource is no VPC and no instance, is not judged by the control, or the account is none.
    """

    account: str
    region: str
    resource: str
    tags: Mapping[str, str] = field(default_factory=dict)
    units: tuple[str, ...] = ()
    control_id: str | None = None
    live: bool = False

    def __post_init__(self) -> None:
        if not _ACCOUNT.fullmatch(self.account):
            raise ValueError(f"{self.account!r} is not the id of an account, twelve digits")
        if not self.controls():
            what = f"{self.control_id} does not judge" if self.resource.split("-")[0] in _KINDS else "no control judges"
            raise ValueError(f"{what} {self.resource!r}; name a VPC (vpc-...) or an instance (i-...)")

    def controls(self) -> list[Control]:
        """Return the controls that judge the resource, or the one that is asked for."""
        kind = _KINDS.get(self.resource.split("-")[0])
        return [one for one in CONTROLS if one.kind is kind and self.control_id in (None, one.id)]

    def subject(self) -> policy.Subject:
        """Return what the policy is asked about."""
        kind = _KINDS[self.resource.split("-")[0]]
        return policy.Subject(self.account, self.units, self.region, kind, self.resource, self.tags)


def answer(question: Question, file: PolicyFile, now: datetime) -> dict[str, Any]:
    """Answer a question as JSON data; lines are those of the policy file, null for what is built in."""
    parsed, subject = policy.parse(file.data), question.subject()
    assumed = [
        what
        for what, needed, given in (
            ("tags", parsed.needs_tags, question.tags),
            ("units", parsed.needs_units, question.units),
        )
        if needed and not given and not question.live
    ]
    controls = []
    for control in question.controls():
        explanation = explain(file.data, parsed, subject, control.id)
        settings = [_setting(ruling, file) for ruling in explanation.rulings]
        named = {setting["setting"] for setting in settings}
        settings += [
            {"setting": one.name, "value": one.default, "decided_by": None, "overruled": []}
            for one in control.parameters
            if one.name not in named
        ]
        exemptions = [
            {
                "name": one.name,
                "line": file.lines["exemptions", parsed.exemptions.index(one)],
                "owner": one.owner,
                "reason": one.reason,
                "expires_at": f"{one.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                "expired": one.expires_at <= now,
            }
            for one in explanation.exemptions
        ]
        controls.append(
            {
                "control_id": control.id,
                "scopes": list(explanation.scopes),
                "settings": settings,
                "exemptions": exemptions,
            }
        )
    return {
        "account_id": question.account,
        "region": question.region,
        "resource_id": question.resource,
        "tags": dict(question.tags),
        "units": list(question.units),
        "assumed_empty": assumed,
        "controls": controls,
    }


def table(answer: Mapping[str, Any], path: Path) -> str:
    """Write an answer for people."""
    tags = ", ".join(f"{key}={value}" for key, value in answer["tags"].items())
    units = " > ".join(answer["units"])
    lines = [
        f"{answer['resource_id']} in account {answer['account_id']}, {answer['region']}",
        f"tags: {tags or 'none'}; units: {units or 'none'}",
        *(
            f"The policy depends on {what}, and none are given: it is assumed that there are none "
            f"(--{what.removesuffix('s')}, or --live)."
            for what in answer["assumed_empty"]
        ),
    ]
    for control in answer["controls"]:
        scopes = ", ".join(control["scopes"])
        lines += ["", f"{control['control_id']} (scopes that match, most specific first: {scopes or 'none'})"]
        rows = [(one["setting"], as_yaml(one["value"]), _decision(one, path)) for one in control["settings"]]
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines += [f"  {name:<{first}}  {value:<{second}}  {decision}" for name, value, decision in rows]
        for one in control["exemptions"]:
            when = f"{'expired: exempt' if one['expired'] else 'exempt'} until {one['expires_at']}"
            lines.append(f"  {when}, {path}:{one['line']} ({one['name']}, owner {one['owner']}): {one['reason']}")
    return "\n".join(lines)


def looked_up(question: Question, file: PolicyFile, profile: str | None, hub_profile: str | None) -> Question:
    """Look up the resource's tags and the account's units, as far as the policy uses them, with the caller's rights.

    Raises:
        ObservationError: The credentials are those of another account.
        TransientError: The organisation cannot be read.
        BotoCoreError: AWS cannot be reached, or there are no credentials.
        ClientError: AWS refuses.
    """
    parsed = policy.parse(file.data)
    tags, units = dict(question.tags), question.units
    if parsed.needs_tags:
        session = Hub.of(profile, question.region).session
        account_id = session.client("sts").get_caller_identity()["Account"]
        if account_id != question.account:
            raise ObservationError(f"these are credentials of account {account_id}, not of {question.account}")
        pages = session.client("ec2").get_paginator("describe_tags")
        of_it = [{"Name": "resource-id", "Values": [question.resource]}]
        tags |= {tag["Key"]: tag["Value"] for page in pages.paginate(Filters=of_it) for tag in page["Tags"]}
    if parsed.needs_units:
        organizations = Hub.of(hub_profile, question.region).session.client("organizations")
        units = OrganizationsDirectory(organizations, [], SystemClock()).units_of(question.account)
    return replace(question, tags=tags, units=units, live=True)


def _setting(ruling: Ruling, file: PolicyFile) -> dict[str, Any]:
    section, *names = ruling.setting
    return {
        "setting": ruling.setting[2] if section == "controls" else " ".join((section, *names)),
        "value": ruling.value,
        "decided_by": _place(ruling.decided_at, file) if ruling.decided_at else None,
        "overruled": [_place(at, file) for at in ruling.overruled],
    }


def _place(at: Location, file: PolicyFile) -> dict[str, Any]:
    return {"line": file.lines[at], "scope": file.data["scopes"][at[1]]["name"] if at[0] == "scopes" else None}


def _decision(setting: Mapping[str, Any], path: Path) -> str:
    decided = _named(setting["decided_by"], path) if setting["decided_by"] else "default"
    overruled: Iterable[str] = (_named(place, path) for place in setting["overruled"])
    return f"{decided}, not {', '.join(overruled)}" if setting["overruled"] else decided


def _named(place: Mapping[str, Any], path: Path) -> str:
    return f"{path}:{place['line']}" + (f" (scope {place['scope']})" if place["scope"] else "")
