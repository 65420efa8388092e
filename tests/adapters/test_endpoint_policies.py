"""Endpoint policies are compared by digest: equal when they say the same, whatever their spelling."""

from __future__ import annotations

import pytest
from portcullis.adapters.endpoint_policies import digest

POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*"}]}'


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (POLICY.replace(" ", ""), True),
        (POLICY.replace(" ", "\n  "), True),
        ('{"Statement": [{"Action": "*", "Effect": "Allow"}], "Version": "2012-10-17"}', True),
        (POLICY.replace("Allow", "Deny"), False),
        (POLICY.replace("2012-10-17", "2008-10-17"), False),
        ("{}", False),
        ("no JSON", False),
        ("", False),
        (None, False),
    ],
)
def test_spaces_and_the_order_of_keys_do_not_count(other: str | None, *, same: bool) -> None:
    """AWS may answer with a document that is written differently from what was given."""
    assert (digest(other) == digest(POLICY)) is same


def test_text_that_is_no_json_is_compared_as_it_is() -> None:
    """Nothing is known of it but its characters."""
    assert digest("no JSON") == digest("no JSON")
    assert digest("no JSON") != digest("no  JSON")


@pytest.mark.parametrize("absent", [None, ""])
def test_no_policy_has_no_digest(absent: str | None) -> None:
    """So it equals what a VpcEndpoint has by default."""
    assert digest(absent) == ""
