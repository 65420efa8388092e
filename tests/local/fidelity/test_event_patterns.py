"""The EventBridge pattern language, operator by operator."""

from __future__ import annotations

from typing import Any

import pytest

from local.fidelity.event_patterns import InvalidPatternError, matches

EVENT: dict[str, Any] = {
    "source": "aws.ec2",
    "account": "111122223333",
    "resources": ["arn:aws:ec2:eu-west-1:111122223333:instance/i-0a", "other"],
    "detail": {
        "eventName": "RunInstances",
        "count": 3,
        "ratio": 3.5,
        "dryRun": True,
        "errorCode": None,
        "empty": [],
        "items": [{"kind": "vpc", "size": 1}, {"kind": "subnet", "size": 2}],
    },
}

MATCHING = [
    ({"source": ["aws.ec2"]}, "a literal"),
    ({"source": ["aws.sqs", "aws.ec2"]}, "any of several literals"),
    ({"detail": {"errorCode": [None]}}, "null is a literal"),
    ({"detail": {"dryRun": [True]}}, "booleans"),
    ({"detail": {"count": [3]}}, "numbers"),
    ({"resources": ["other"]}, "an array in the event: any element"),
    ({"detail": {"items": {"kind": ["subnet"]}}}, "an array of objects: any element"),
    ({"detail": {"items": {"kind": ["subnet"], "size": [2]}}}, "one element must match all of it"),
    ({"source": [{"prefix": "aws."}]}, "prefix"),
    ({"resources": [{"suffix": "/i-0a"}]}, "suffix"),
    ({"detail": {"eventName": [{"equals-ignore-case": "runinstances"}]}}, "equals-ignore-case"),
    ({"source": [{"anything-but": "aws.sqs"}]}, "anything-but one value"),
    ({"source": [{"anything-but": ["aws.sqs", "aws.iam"]}]}, "anything-but several values"),
    ({"detail": {"count": [{"anything-but": [1, 2]}]}}, "anything-but numbers"),
    ({"detail": {"count": [{"anything-but": "3"}]}}, "anything-but compares with types"),
    ({"source": [{"anything-but": {"prefix": "custom."}}]}, "anything-but a prefix"),
    ({"source": [{"anything-but": {"prefix": ["custom.", "my."]}}]}, "anything-but several prefixes"),
    ({"source": [{"anything-but": {"suffix": ".sqs"}}]}, "anything-but a suffix"),
    ({"source": [{"anything-but": {"equals-ignore-case": ["AWS.SQS"]}}]}, "anything-but without case"),
    ({"source": [{"anything-but": {"wildcard": "*.sqs"}}]}, "anything-but a wildcard"),
    ({"detail": {"errorCode": [{"anything-but": "x"}]}}, "null is anything but a string"),
    ({"resources": [{"anything-but": "other"}]}, "an array: any element that is not excluded"),
    ({"detail": {"missing": [{"exists": False}]}}, "an absent field"),
    ({"detail": {"missing": {"deeper": [{"exists": False}]}}}, "an absent field below an absent object"),
    ({"detail": {"empty": [{"exists": False}]}}, "an empty array counts as absent"),
    ({"detail": {"errorCode": [{"exists": True}]}}, "null counts as present"),
    ({"detail": {"items": {"kind": [{"exists": True}]}}}, "presence inside an array of objects"),
    ({"detail": {"missing": [{"exists": False}, "x"]}}, "absent, or a value"),
    ({"detail": {"count": [{"numeric": ["=", 3]}]}}, "numeric equality"),
    ({"detail": {"count": [{"numeric": ["=", 3.0]}]}}, "numeric equality looks at the value"),
    ({"detail": {"count": [{"numeric": [">", 0, "<=", 3]}]}}, "a numeric range"),
    ({"detail": {"ratio": [{"numeric": ["<", 4]}]}}, "fractions"),
    ({"source": [{"wildcard": "aws.*"}]}, "wildcard"),
    ({"resources": [{"wildcard": "arn:*:instance/*"}]}, "several wildcards"),
    ({"$or": [{"source": ["x"]}, {"detail": {"count": [3]}}]}, "$or"),
    ({"source": ["aws.ec2"], "$or": [{"account": ["1"]}, {"account": [{"prefix": "1111"}]}]}, "$or and a field"),
    ({"detail": {"$or": [{"count": [9]}, {"dryRun": [True]}]}}, "$or below an object"),
]

NOT_MATCHING = [
    ({"source": ["aws.sqs"]}, "another literal"),
    ({"source": ["aws"]}, "no substrings"),
    ({"detail": {"count": ["3"]}}, "a number is not a string"),
    ({"detail": {"count": [3.0]}}, "3 and 3.0 are written differently"),
    ({"detail": {"dryRun": [1]}}, "true is not 1"),
    ({"detail": {"dryRun": ["true"]}}, "true is not a string"),
    ({"detail": {"missing": [None]}}, "absent is not null"),
    ({"detail": {"items": {"kind": ["subnet"], "size": [1]}}}, "parts of two elements are no match"),
    ({"detail": ["x"]}, "an object is no leaf"),
    ({"detail": {"eventName": {"deeper": ["x"]}}}, "a leaf is no object"),
    ({"detail": {"count": [{"prefix": "3"}]}}, "prefix is for strings"),
    ({"source": [{"anything-but": "aws.ec2"}]}, "anything-but the value"),
    ({"detail": {"missing": [{"anything-but": "x"}]}}, "anything-but needs a value"),
    ({"source": [{"anything-but": {"prefix": ["custom.", "aws."]}}]}, "anything-but one of the prefixes"),
    ({"source": [{"exists": False}]}, "a present field"),
    ({"detail": {"missing": [{"exists": True}]}}, "an absent field"),
    ({"detail": [{"exists": True}]}, "exists is about leaves"),
    ({"detail": {"items": {"kind": [{"exists": False}]}}}, "present in every element"),
    ({"detail": {"count": [{"numeric": [">", 3]}]}}, "outside the range"),
    ({"detail": {"dryRun": [{"numeric": ["=", 1]}]}}, "a boolean is no number"),
    ({"source": [{"wildcard": "aws.*s"}]}, "a wildcard is anchored"),
    ({"source": ["aws.sqs"], "$or": [{"account": ["1"]}, {"detail": {"count": [3]}}]}, "$or does not replace"),
    ({"$or": [{"source": ["x"]}, {"account": ["y"]}]}, "no alternative"),
]

INVALID: list[Any] = [
    {},
    {"source": "aws.ec2"},
    {"source": []},
    {"source": [["aws.ec2"]]},
    {"source": [{"cidr": "10.0.0.0/8"}]},
    {"source": [{"prefix": "a", "suffix": "b"}]},
    {"source": [{"prefix": 1}]},
    {"source": [{"equals-ignore-case": 1}]},
    {"source": [{"anything-but": {"numeric": ["=", 1]}}]},
    {"source": [{"anything-but": []}]},
    {"source": [{"numeric": ["~", 1]}]},
    {"source": [{"numeric": [">"]}]},
    {"source": [{"exists": "yes"}]},
    {"source": [{"wildcard": "a**b"}]},
    {"source": [{"wildcard": "a\\*b"}]},
    {"source": [{"prefix": {"equals-ignore-case": "AWS."}}]},
    {"$or": [{"source": ["x"]}]},
]


@pytest.mark.parametrize(("pattern", "why"), MATCHING, ids=[why for _, why in MATCHING])
def test_a_pattern_matches_as_documented(pattern: dict[str, Any], why: str) -> None:
    """EventBridge would deliver this event."""
    assert matches(pattern, EVENT), why


@pytest.mark.parametrize(("pattern", "why"), NOT_MATCHING, ids=[why for _, why in NOT_MATCHING])
def test_a_pattern_does_not_match_more_than_documented(pattern: dict[str, Any], why: str) -> None:
    """EventBridge would not deliver this event."""
    assert not matches(pattern, EVENT), why


@pytest.mark.parametrize("pattern", INVALID, ids=str)
def test_an_invalid_pattern_is_an_error_whatever_the_event(pattern: Any) -> None:
    """PutRule would refuse it, so a test must not pass because nothing matched."""
    with pytest.raises(InvalidPatternError):
        matches(pattern, {"detail": {}})
