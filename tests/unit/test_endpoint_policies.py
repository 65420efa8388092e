"""Endpoint policies are compared by what they say, written out from the policy file, and read for `explain`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from portcullis.endpoint_policies import FULL_ACCESS, LONGEST, allows, canonical, digest, render

if TYPE_CHECKING:
    from collections.abc import Callable

ORGANISATION = "o-exampleorgid"
ACCOUNT = "111122223333"
BASE: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": ["s3:GetObject", "s3:PutObject"],
    "Resource": "arn:aws:s3:::a/*",
    "Condition": {"StringEquals": {"aws:PrincipalOrgID": ["o-1", "o-2"]}, "Bool": {"aws:SecureTransport": "true"}},
}
OTHER = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}


def written(*statements: Any, **rest: Any) -> str:
    """Return a document of these statements."""
    return json.dumps({"Version": "2012-10-17", **rest, "Statement": list(statements)})


def but(**changes: Any) -> str:
    """Return the document of the one base statement with changed elements; None leaves an element out."""
    return written({name: value for name, value in {**BASE, **changes}.items() if value is not None})


def conditioned(condition: Any) -> str:
    """Return the base document with this condition."""
    return but(Condition=condition)


USING_A_VARIABLE = {**BASE, "Resource": "arn:aws:s3:::a/${aws:username}/*"}
WITHOUT_VERSION = json.dumps({"Statement": BASE})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(but(), but().replace(" ", "\n "), True, id="spaces"),
        pytest.param(but(), written(dict(reversed(BASE.items()))), True, id="order of elements"),
        pytest.param(but(), but(Sid="Named"), True, id="Sid"),
        pytest.param(but(), written(BASE, Id="Named"), True, id="Id"),
        pytest.param(but(), json.dumps({"Version": "2012-10-17", "Statement": BASE}), True, id="single statement"),
        pytest.param(written(BASE, OTHER), written(OTHER, BASE), True, id="order of statements"),
        pytest.param(but(), written(BASE, {**BASE, "Sid": "Again"}), True, id="a statement twice"),
        pytest.param(but(), written(BASE, OTHER), False, id="one more statement"),
        pytest.param(but(), but(Effect="Deny"), False, id="effect"),
        pytest.param(but(), but(Action=["S3:PUTOBJECT", "s3:getobject"]), True, id="order and case of actions"),
        pytest.param(but(Action="s3:*"), but(Action=["s3:*"]), True, id="one action or a list"),
        pytest.param(but(), but(Action=["s3:GetObject"]), False, id="an action less"),
        pytest.param(but(), but(Action=None, NotAction=BASE["Action"]), False, id="NotAction"),
        pytest.param(
            but(Action=None, NotAction=["s3:A", "s3:B"]),
            but(Action=None, NotAction=["s3:b", "s3:a"]),
            True,
            id="its order",
        ),
        pytest.param(but(), but(Resource=["arn:aws:s3:::a/*"]), True, id="one resource or a list"),
        pytest.param(but(), but(Resource=["arn:aws:s3:::a/*"] * 2), True, id="a resource twice"),
        pytest.param(but(), but(Resource="arn:aws:s3:::A/*"), False, id="case of resources"),
        pytest.param(but(), but(Resource=None, NotResource="arn:aws:s3:::a/*"), False, id="NotResource"),
        pytest.param(but(), but(Principal={"AWS": "*"}), True, id="everybody as a kind"),
        pytest.param(but(), but(Principal={"AWS": ["*"]}), True, id="everybody in a list"),
        pytest.param(but(), but(Principal={"Federated": "*"}), False, id="everybody federated"),
        pytest.param(but(), but(Principal={"AWS": ACCOUNT}), False, id="an account"),
        pytest.param(but(), but(Principal=None, NotPrincipal="*"), False, id="NotPrincipal"),
        pytest.param(
            but(Principal={"AWS": ACCOUNT}),
            but(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}),
            True,
            id="account forms",
        ),
        pytest.param(
            but(Principal={"AWS": ACCOUNT}),
            but(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:role/root"}),
            False,
            id="a role",
        ),
        pytest.param(
            conditioned({"StringEquals": {"aws:A": "1"}}),
            conditioned({"stringequals": {"AWS:a": ["1"]}}),
            True,
            id="names",
        ),
        pytest.param(
            conditioned({"StringEquals": {"aws:A": ["1", "2"]}}),
            conditioned({"StringEquals": {"aws:A": ["2", "1", "2"]}}),
            True,
            id="order of condition values",
        ),
        pytest.param(
            conditioned({"StringEquals": {"aws:A": "v"}}),
            conditioned({"StringEquals": {"aws:A": "V"}}),
            False,
            id="values",
        ),
        pytest.param(
            conditioned({"StringEquals": {"aws:A": "v"}}),
            conditioned({"StringLike": {"aws:A": "v"}}),
            False,
            id="operator",
        ),
        pytest.param(
            conditioned({"Bool": {"aws:A": True}}), conditioned({"Bool": {"aws:A": "true"}}), True, id="truth"
        ),
        pytest.param(
            conditioned({"NumericLessThan": {"aws:A": 10}}),
            conditioned({"NumericLessThan": {"aws:A": "10"}}),
            True,
            id="10",
        ),
        pytest.param(conditioned({}), conditioned(None), True, id="an empty condition"),
        pytest.param(but(), conditioned(None), False, id="no condition"),
        pytest.param(but(), WITHOUT_VERSION, True, id="no version"),
        pytest.param(but(), written(BASE, Version="2008-10-17"), True, id="version"),
        pytest.param(
            written(USING_A_VARIABLE),
            written(USING_A_VARIABLE, Version="2008-10-17"),
            False,
            id="version with a variable",
        ),
        pytest.param(
            json.dumps({"Statement": USING_A_VARIABLE}),
            written(USING_A_VARIABLE, Version="2008-10-17"),
            True,
            id="no version with a variable",
        ),
        pytest.param(written(OTHER), written({**OTHER, "Sid": "${a}"}, Version="2008-10-17"), True, id="no variable"),
        pytest.param(but(), "{}", False, id="says nothing"),
        pytest.param(but(), "no JSON", False, id="no JSON"),
        pytest.param("no JSON", "no  JSON", False, id="texts"),
        pytest.param("[]", "[ ]", False, id="JSON but no policy"),
        pytest.param('{"Statement": ["x"]}', '{"Statement":["x"]}', False, id="statements that are none"),
        pytest.param(conditioned("x"), conditioned("x"), True, id="a condition that is none"),
        pytest.param(but(), None, False, id="absent"),
        pytest.param(FULL_ACCESS, written({**OTHER, "Effect": "Allow", "Action": ["*"]}), True, id="AWS's default"),
    ],
)
def test_two_documents_are_equal_when_they_say_the_same(one: str, other: str | None, *, same: bool) -> None:
    """AWS and people spell one policy in many ways; only a difference of meaning is one."""
    assert (digest(one) == digest(other)) is same


@pytest.mark.parametrize("absent", [None, ""])
def test_no_policy_has_no_digest(absent: str | None) -> None:
    """So it equals what a VpcEndpoint has by default."""
    assert digest(absent) == ""


def test_text_that_is_no_policy_is_its_own_form() -> None:
    """Nothing is known of it but its characters; and a JSON text is not taken for what it quotes."""
    assert canonical("no JSON") == "no JSON"
    assert digest('"no JSON"') != digest("no JSON")


words = st.sampled_from(["s3:GetObject", "s3:PutObject", "kms:*", "x", "${aws:username}"])
lists = st.lists(words, min_size=1, max_size=3, unique=True)
principals = st.one_of(
    st.just("*"),
    st.dictionaries(st.sampled_from(["AWS", "Service"]), st.lists(st.just(ACCOUNT), min_size=1), min_size=1),
)
conditions = st.dictionaries(
    st.sampled_from(["StringEquals", "ArnLike"]),
    st.dictionaries(st.sampled_from(["aws:A", "aws:B"]), lists, min_size=1),
    min_size=1,
)
statements = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Deny"]), "Principal": principals, "Action": lists, "Resource": lists},
    optional={"Condition": conditions},
)
policies = st.lists(statements, min_size=1, max_size=3)


def respelled(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """Return the value with its lists in another order, doubled, or taken off a single entry; and keys shuffled."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: respelled(value[key], draw) for key in keys}
    if not isinstance(value, list):
        return [value] if value not in ("*", "Allow", "Deny") and draw(st.booleans()) else value
    entries = [entry if isinstance(entry, str) else respelled(entry, draw) for entry in draw(st.permutations(value))]
    if len(entries) == 1 and draw(st.booleans()):
        return entries[0]
    return entries + entries[: draw(st.integers(0, 1))]


@given(policies, st.data())
def test_respelling_keeps_the_digest(policy: list[Any], data: st.DataObject) -> None:
    """Order, nesting, repetition and names of statements are spelling."""
    other = respelled([{**statement, "Sid": f"S{number}"} for number, statement in enumerate(policy)], data.draw)
    assert digest(json.dumps({"Statement": other})) == digest(json.dumps({"Statement": policy}))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the texts of a value are."""
    if isinstance(value, str):
        return [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [place for key, each in inner for place in places(each, (*at, key))]


@given(policies, st.data())
def test_any_changed_value_changes_the_digest(policy: list[Any], data: st.DataObject) -> None:
    """So no change of meaning goes unseen."""
    changed = json.loads(json.dumps(policy))
    *way, last = data.draw(st.sampled_from(places(policy)))
    target = changed
    for key in way:
        target = target[key]
    target[last] = "something:else"
    assert digest(json.dumps({"Statement": changed})) != digest(json.dumps({"Statement": policy}))


def perimeter(partition: str = "aws", service: str = "s3", **entry: Any) -> Any:
    """Return the perimeter as AWS gets it, read back."""
    entry = {"perimeter": {"organisation": ORGANISATION, **entry}}
    return json.loads(render(entry, partition, "eu-west-1", ACCOUNT, service))


def test_a_document_is_written_for_its_place_and_keeps_the_variables_of_iam() -> None:
    """The policy file is one for all partitions, Regions and accounts."""
    entry = {
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "${AccountId}"},
                "Action": "*",
                "Resource": "arn:${Partition}:s3:::logs-${Region}/${aws:username}/*",
            }
        ]
    }
    text = render({"document": entry}, "aws-cn", "cn-north-1", ACCOUNT)
    (statement,) = json.loads(text)["Statement"]
    assert statement["Resource"] == "arn:aws-cn:s3:::logs-cn-north-1/${aws:username}/*"
    assert statement["Principal"] == {"AWS": ACCOUNT}
    assert ": " not in text


def test_the_perimeter_of_s3_has_four_statements() -> None:
    """Ours on ours; services of AWS; and, without conditions, the buckets of AWS to read, and CloudFormation's."""
    ours, services, buckets, answers = perimeter()["Statement"]
    assert ours["Condition"] == {
        "StringEquals": {"aws:PrincipalOrgID": ORGANISATION, "aws:ResourceOrgID": ORGANISATION}
    }
    assert services["Condition"] == {"Bool": {"aws:PrincipalIsAWSService": "true"}}
    assert "Condition" not in buckets
    assert buckets["Action"] == "s3:GetObject"
    assert {
        "arn:aws:s3:::al2023-repos-eu-west-1-de612dc2/*",
        "arn:aws:s3:::prod-eu-west-1-starport-layer-bucket/*",
        "arn:aws:s3:::eu-west-1-birdwatcher-prod/*",
    } <= set(buckets["Resource"])
    assert answers == {
        "Sid": "CloudFormation",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": [
            "arn:aws:s3:::cloudformation-custom-resource-response-euwest1/*",
            "arn:aws:s3:::cloudformation-waitcondition-eu-west-1/*",
        ],
    }
    assert {statement["Principal"] for statement in (ours, services, buckets)} == {"*"}


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov"])
def test_other_partitions_get_only_the_names_that_are_known_there(partition: str) -> None:
    """Whatever else is needed there, the policy names."""
    statements = perimeter(partition, buckets=["repos-${Region}"])["Statement"]
    resources = statements[2]["Resource"]
    assert len(statements) == 3
    assert all(resource.startswith(f"arn:{partition}:s3:::") for resource in resources)
    assert f"arn:{partition}:s3:::amazon-ssm-eu-west-1/*" in resources
    assert f"arn:{partition}:s3:::repos-eu-west-1/*" in resources
    assert not any("al2023" in resource for resource in resources)


@pytest.mark.parametrize("service", ["dynamodb", "kms", "secretsmanager"])
def test_the_perimeter_of_other_services_says_nothing_of_buckets(service: str) -> None:
    """A statement of S3 actions would say nothing there."""
    assert len(perimeter(service=service)["Statement"]) == 2


def valid(**changes: Any) -> dict[str, Any]:
    """Return an entry with one statement of full access, changed."""
    return {"document": {"Statement": {**OTHER, **changes}}}


@pytest.mark.parametrize(
    ("entry", "service", "remedy"),
    [
        ({}, "s3", "give one of the two"),
        ({"document": {}, "perimeter": {}}, "s3", "give one of the two"),
        ({"perimeter": ORGANISATION}, "s3", "give one of the two"),
        ({"document": "text"}, "s3", "give it a `Statement`"),
        ({"document": {"Statement": []}}, "s3", "give it a `Statement`"),
        ({"document": {"Statement": ["Allow"]}}, "s3", "give it a `Statement`"),
        ({"document": {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}}, "s3", "add `Principal"),
        (valid(Resource="arn:aws:s3:::a-${Account}"), "s3", "${Account} is no variable: use"),
        (valid(Resource="x" * LONGEST), "s3", "use patterns or fewer entries"),
        ({"perimeter": {}}, "s3", "give its id"),
        ({"perimeter": {"organisation": "r-1234"}}, "s3", "give its id"),
        ({"perimeter": {"organisation": ORGANISATION, "buckets": "a-bucket"}}, "s3", "is a list"),
        ({"perimeter": {"organisation": ORGANISATION, "buckets": ["*"]}}, "s3", "begin with a letter"),
        ({"perimeter": {"organisation": ORGANISATION, "buckets": [1]}}, "s3", "is a list"),
        ({"perimeter": {"organisation": ORGANISATION, "bucket": []}}, "s3", "has no bucket: give"),
        ({"perimeter": {"organisation": ORGANISATION}}, "ssm", "give a `document` for it"),
    ],
)
def test_an_entry_that_aws_would_not_take_is_refused_with_a_remedy(
    entry: dict[str, Any], service: str, remedy: str
) -> None:
    """Before anything is changed."""
    with pytest.raises(ValueError, match=re.escape(remedy)):
        render(entry, "aws", "eu-west-1", ACCOUNT, service)


def test_a_policy_of_the_largest_size_is_written() -> None:
    """The quota itself is not too long; one character more is."""
    spare = LONGEST - len(render(valid(Resource="x"), "aws", "eu-west-1", ACCOUNT)) + 1
    assert len(render(valid(Resource="x" * spare), "aws", "eu-west-1", ACCOUNT)) == LONGEST
    with pytest.raises(ValueError, match="20481 characters"):
        render(valid(Resource="x" * (spare + 1)), "aws", "eu-west-1", ACCOUNT)


ALLOWED = {"Effect": "Allow", "Principal": "*", "Action": "s3:Get*", "Resource": "arn:aws:s3:::a/*"}
DENIED = {**ALLOWED, "Effect": "Deny"}
SOMEBODY = {"AWS": ACCOUNT}


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        (FULL_ACCESS, True),
        (written(ALLOWED), True),
        (written({**ALLOWED, "Action": "S3:getobject"}), True),
        (written({**ALLOWED, "Action": "s3:Put*"}), False),
        (written({**ALLOWED, "Resource": "arn:aws:s3:::b/*"}), False),
        (written({**ALLOWED, "Resource": "arn:aws:s3:::?/ke[y]"}), False),
        (written({**ALLOWED, "Resource": "arn:aws:s3:::?/key"}), True),
        (
            written({"Effect": "Allow", "Principal": "*", "NotAction": "s3:Put*", "NotResource": "arn:aws:s3:::b/*"}),
            True,
        ),
        (written({"Effect": "Allow", "Principal": "*", "NotAction": "s3:Get*", "Resource": "*"}), False),
        (written({"Effect": "Allow", "Principal": "*", "Resource": "*"}), False),
        (written({**ALLOWED, "Principal": SOMEBODY}), None),
        (written({"Effect": "Allow", "NotPrincipal": SOMEBODY, "Action": "*", "Resource": "*"}), None),
        (written({**ALLOWED, "Condition": {"Bool": {"aws:SecureTransport": "true"}}}), None),
        (written({**ALLOWED, "Resource": "arn:aws:s3:::a/${aws:username}"}), None),
        (written(ALLOWED, DENIED), False),
        (written(ALLOWED, {**DENIED, "Principal": SOMEBODY}), None),
        (written(ALLOWED, {**DENIED, "Resource": "arn:aws:s3:::b/*"}), True),
        (written({**ALLOWED, "Principal": SOMEBODY}, DENIED), False),
        (written(), False),
        ("no JSON", None),
    ],
)
def test_what_a_policy_lets_through(document: str, *, answer: bool | None) -> None:
    """Certain answers only where they hold for every caller."""
    assert allows(document, "s3:GetObject", "arn:aws:s3:::a/key") is answer


def test_the_perimeter_lets_everybody_read_packages_and_asks_others_who_they_are() -> None:
    """What explain says of our own perimeter."""
    text = json.dumps(perimeter())
    assert allows(text, "s3:GetObject", "arn:aws:s3:::amazonlinux-2-repos-eu-west-1/x") is True
    assert allows(text, "s3:PutObject", "arn:aws:s3:::amazonlinux-2-repos-eu-west-1/x") is None
    assert allows(text, "s3:ListAllMyBuckets", "arn:aws:s3:::*") is None


@pytest.mark.parametrize(
    "bucket", ["cloudformation-waitcondition-eu-west-1", "cloudformation-custom-resource-response-euwest1"]
)
def test_a_stack_hears_from_behind_the_perimeter(bucket: str) -> None:
    """Wait conditions and custom resources put their answers there, by presigned URLs; nothing else may be done."""
    text = json.dumps(perimeter())
    assert allows(text, "s3:PutObject", f"arn:aws:s3:::{bucket}/x") is True
    assert allows(text, "s3:PutObject", f"arn:aws:s3:::{bucket}-x/x") is None
    assert allows(text, "s3:DeleteObject", f"arn:aws:s3:::{bucket}/x") is None
