"""Scopes, against a slow and plain reading of the rules: who decides, and which policies leave that open."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from portcullis.cli import policy_clashes
from portcullis.cli.policy_rulings import explain
from portcullis.model import Caller, Kind
from portcullis.policy import Subject, parse
from portcullis.policy_parts import duration

ACCOUNTS = ("111122223333", "444455556666")
REGIONS = ("eu-west-1", "us-east-1")
OUTER, INNER = "ou-abcd-11111111", "ou-abcd-22222222"
# Nobody who reads the policy knows which unit is inside which, so both may be.
PATHS = ((), (OUTER,), (INNER,), (OUTER, INNER), (INNER, OUTER))
TAGS = tuple(
    {key: value for key, value in zip(("env", "team"), values, strict=True) if value}
    for values in product(("", "dev", "test"), ("", "web", "db"))
)
SUBJECTS = tuple(
    Subject(account_id, path, region, Kind.VPC, "vpc-1", tags)
    for account_id, path, region, tags in product(ACCOUNTS, PATHS, REGIONS, TAGS)
)
VPCE_1 = "VPCE.1"

some = {"max_size": 2, "unique": True, "min_size": 1}
wheres = st.fixed_dictionaries(
    {},
    optional={
        "accounts": st.lists(st.sampled_from(ACCOUNTS), **some),  # type: ignore[arg-type]  # sizes are in a dictionary
        "units": st.lists(st.sampled_from([OUTER, INNER]), **some),  # type: ignore[arg-type]  # the same
        "regions": st.lists(st.sampled_from(REGIONS), **some),  # type: ignore[arg-type]  # the same
        "tags": st.fixed_dictionaries(
            {},
            optional={
                "env": st.sampled_from(["dev", "test", ["dev", "test"]]),
                "team": st.sampled_from(["web", ["web", "db"]]),
            },
        ).filter(bool),
    },
).filter(bool)
settles = st.fixed_dictionaries(
    {}, optional={"terraform": st.sampled_from(["2m", "50m"]), "longest": st.sampled_from(["40m", "3h"])}
)
controls = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["off", "detect", "approve"]),
        "services": st.sampled_from([["s3"], ["s3express"]]),
        "running_workloads": st.sampled_from(["approve", "remediate"]),
    },
)
blocks = st.fixed_dictionaries({"settle": settles, "controls": st.fixed_dictionaries({VPCE_1: controls})}, optional={
    "leave_alone": st.sampled_from(["1h", "2h"])
})  # fmt: skip
policies = st.tuples(blocks, st.lists(st.tuples(wheres, blocks), max_size=6)).map(
    lambda drawn: (
        {
            "version": 1,
            "scopes": [{"name": f"s{n}", "where": where} | block for n, (where, block) in enumerate(drawn[1])],
        }
        | drawn[0]
        | {"settle": {"terraform": "20m"}}
    )
)
checked = settings(deadline=None, derandomize=True, database=None, max_examples=100)


def entries(block: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return what a block sets, by path."""
    flat: dict[tuple[str, ...], Any] = {("settle", key): value for key, value in block.get("settle", {}).items()}
    flat |= {("controls", VPCE_1, key): value for key, value in block.get("controls", {}).get(VPCE_1, {}).items()}
    return flat | ({("leave_alone",): block["leave_alone"]} if "leave_alone" in block else {})


def matches(where: dict[str, Any], subject: Subject) -> bool:
    """Tell whether a scope is about a subject."""
    tags = where.get("tags", {})
    return (
        subject.account_id in where.get("accounts", [subject.account_id])
        and subject.region in where.get("regions", [subject.region])
        and ("units" not in where or any(unit in where["units"] for unit in subject.units))
        and all(key in subject.tags and subject.tags[key] in value for key, value in tags.items())
    )


def rank(where: dict[str, Any], subject: Subject) -> tuple[int, int, int, int]:
    """Return how specific a scope is about a subject that it matches."""
    depths = [depth + 1 for depth, unit in enumerate(subject.units) if unit in where.get("units", ())]
    return (len(where.get("tags", ())), "accounts" in where, max(depths, default=0), "regions" in where)


def accepted(data: dict[str, Any]) -> dict[str, Any]:
    """Return a policy without those scopes that clash with an earlier one."""
    kept: list[dict[str, Any]] = []
    for scope in data["scopes"]:
        if not policy_clashes.find(data | {"scopes": [*kept, scope]}):
            kept.append(scope)
    return data | {"scopes": kept}


@checked
@given(data=policies)
def test_each_setting_is_that_of_the_most_specific_scope_that_sets_it(data: dict[str, Any]) -> None:
    """For every subject: one decider, named by the explanation, and what it says is what holds."""
    data = accepted(data)
    policy = parse(data)
    top = {setting: (value, setting) for setting, value in entries(data).items()}
    scopes = [(number, scope["name"], scope["where"], entries(scope)) for number, scope in enumerate(data["scopes"])]
    for subject in SUBJECTS:
        given_by: dict[tuple[str, ...], tuple[Any, tuple[str | int, ...]]] = dict(top)
        matching = [scope for scope in scopes if matches(scope[2], subject)]
        for setting in {setting for *_, sets in matching for setting in sets}:
            ranked = [
                (rank(where, subject), number, sets[setting]) for number, _, where, sets in matching if setting in sets
            ]
            winners = [(number, value) for place, number, value in ranked if place == max(ranked)[0]]
            assert all(value == winners[0][1] for _, value in winners)
            given_by[setting] = (winners[-1][1], ("scopes", winners[-1][0], *setting))
        explanation = explain(data, policy, subject, VPCE_1)
        rulings = {ruling.setting: ruling for ruling in explanation.rulings}
        found = policy.settings(subject, VPCE_1)

        assert len(rulings) == len(explanation.rulings)
        assert {setting for setting, ruling in rulings.items() if ruling.decided_at is not None} == given_by.keys()
        assert sorted(explanation.scopes) == sorted(name for _, name, _, sets in matching if sets)
        longest = max(
            duration(given_by.get(("settle", "longest"), ("2h",))[0]),
            duration(given_by.get(("settle", "terraform"), ("30m",))[0]),
            duration("30m"),
        )
        assert found.longest == longest == duration(rulings["settle", "longest"].value)
        for setting, (value, place) in given_by.items():
            if setting != ("settle", "longest"):
                assert (rulings[setting].value, rulings[setting].decided_at) == (value, place)
        assert found.mode == given_by.get(("controls", VPCE_1, "mode"), ("off",))[0]
        assert found.running_workloads == given_by.get(("controls", VPCE_1, "running_workloads"), ("approve",))[0]
        assert found.parameter("services", ()) == tuple(given_by.get(("controls", VPCE_1, "services"), ((),))[0])
        assert found.leave_alone == duration(given_by.get(("leave_alone",), ("24h",))[0])
        assert found.settle[Caller.TERRAFORM] == duration(given_by.get(("settle", "terraform"), ("30m",))[0])


@settings(checked, max_examples=30)
@given(data=policies, shuffled=st.randoms(use_true_random=False))
def test_the_order_of_the_scopes_decides_nothing(data: dict[str, Any], shuffled: Any) -> None:
    """Neither what holds nor whether the policy is accepted, nor which scope is named as the one that decides."""
    data = accepted(data)
    scopes = list(data["scopes"])
    shuffled.shuffle(scopes)
    shuffled_data = data | {"scopes": scopes}
    policy, other = parse(data), parse(shuffled_data)
    for subject in SUBJECTS:
        assert policy.settings(subject, VPCE_1) == other.settings(subject, VPCE_1)
        here, there = explain(data, policy, subject, VPCE_1), explain(shuffled_data, other, subject, VPCE_1)
        assert here.scopes == there.scopes


@checked
@given(data=policies)
def test_a_tie_is_told_where_some_resource_could_meet_it_and_nowhere_else(data: dict[str, Any]) -> None:
    """Two scopes clash exactly if a subject matches both, neither is more specific, and they disagree."""
    for first, second in combinations(data["scopes"], 2):
        disputed = {
            setting for setting, value in entries(second).items() if entries(first).get(setting, value) != value
        }
        tied = any(
            matches(first["where"], subject)
            and matches(second["where"], subject)
            and rank(first["where"], subject) == rank(second["where"], subject)
            for subject in SUBJECTS
        )
        both = {"version": 1, "controls": {}, "settle": {"longest": "9h"}, "scopes": [first, second]}
        ties = [clash for clash in policy_clashes.find(both) if "neither scope is more specific" in clash.message]
        assert len(ties) == (len(disputed) if tied else 0)
