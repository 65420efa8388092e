"""The rule patterns in the templates and the triggers module agree."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from portcullis.errors import UnreadableEventError
from portcullis.triggers import CALL_NAMES, PATTERNS, targets_of

from local.fidelity.event_patterns import matches
from tests.contract import templates

EVENTS = sorted(path for path in (templates.ROOT / "events").glob("*.json") if path.name != "targets.json")
_RULES = {"ChangesRule": "changes", "ConflictsRule": "conflicts", "StatesRule": "states"}


def _event(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((templates.ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    return event


def _passes(event: dict[str, Any]) -> bool:
    return any(matches(pattern, event) for pattern in PATTERNS.values())


@pytest.mark.parametrize("path", [templates.HUB, templates.MEMBER_REGION], ids=lambda path: path.name)
def test_a_template_holds_the_patterns_word_for_word(path: Any) -> None:
    """A letter changed in a rule's pattern, a rule removed, renamed or disabled is a failing build."""
    rules = templates.resources(path, "AWS::Events::Rule")
    assert {name: rule["EventPattern"] for name, rule in rules.items()} == {
        name: PATTERNS[key] for name, key in _RULES.items()
    }
    assert all(rule.get("State", "ENABLED") == "ENABLED" for rule in rules.values())


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_the_rules_let_an_event_through_exactly_when_it_has_targets(path: Any) -> None:
    """No event that concerns us is filtered out, and no function runs for one that does not."""
    event = json.loads(path.read_text(encoding="utf-8"))
    assert _passes(event) == bool(targets_of(event))


def test_every_call_of_the_triggers_has_a_sample_event() -> None:
    """The agreement is shown for every call, not for some."""
    assert set(CALL_NAMES) <= {path.stem for path in EVENTS}


@pytest.mark.parametrize("name", CALL_NAMES)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("source",), "aws.s3"),
        (("detail-type",), "AWS Console Sign In via CloudTrail"),
        (("detail", "eventSource"), "apigateway.amazonaws.com"),
        (("detail", "eventName"), "DescribeVpcs"),
        (("detail", "errorCode"), "Client.UnauthorizedOperation"),
        (("detail", "errorCode"), "Client.DryRunOperation"),
    ],
)
def test_rules_and_triggers_both_ignore_an_event_altered_in_one_place(
    name: str, place: tuple[str, ...], value: str
) -> None:
    """Another source, another service with the same call name, or a failed call: both say no."""
    event = copy.deepcopy(_event(name))
    holder: dict[str, Any] = event
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    assert not _passes(event)
    assert targets_of(event) == []


def test_a_conflict_of_another_kind_passes_the_rule_and_has_no_target() -> None:
    """The one place where the rule is wider: InvalidParameter needs a look at the message, which rules cannot take."""
    event = _event("CreateVpcEndpoint-RouteAlreadyExists")
    event["detail"] |= {"errorCode": "Client.InvalidParameter", "errorMessage": "The policy is malformed."}
    assert _passes(event)
    assert targets_of(event) == []


def test_what_the_rules_let_through_is_readable_or_refused_with_a_reason() -> None:
    """An event without a usable detail that passes a rule ends in the dead-letter queue, not in silence."""
    event = _event("InstanceStateChange")
    event["detail"] = {"state": "running"}
    assert _passes(event)
    with pytest.raises(UnreadableEventError, match="instance-id"):
        targets_of(event)
