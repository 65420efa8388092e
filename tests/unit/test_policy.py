"""The compiled policy: what it says about a subject, and that anything else is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portcullis.change_windows import ChangeWindow
from portcullis.cli.policy_rulings import explain
from portcullis.errors import PolicyError
from portcullis.model import Caller, Kind
from portcullis.policy import Limits, Mode, Policy, Subject, load, parse

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT, OTHER = "111122223333", "444455556666"
ROOT, PRODUCTION, TEAM = "r-abcd", "ou-abcd-11111111", "ou-abcd-22222222"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WINDOW = {"cron": "0 2 * * SUN", "time_zone": "Europe/Zurich", "length": "4h"}

GOOD: dict[str, Any] = {
    "version": 1,
    "controls": {"VPCE.1": {"mode": "remediate", "services": ["s3"]}, "ROLE.1": {"mode": "off"}},
}


def data_of(*scopes: dict[str, Any], **top: Any) -> dict[str, Any]:
    """Return the data of a policy whose VPCE.1 is in mode remediate but where scopes say otherwise."""
    named = [{"name": f"scope-{number}"} | scope for number, scope in enumerate(scopes)]
    return {"version": 1, "controls": {"VPCE.1": {"mode": "remediate"}}, "scopes": named} | top


def policy(*scopes: dict[str, Any], **top: Any) -> Policy:
    """Return the policy of such data."""
    return parse(data_of(*scopes, **top))


def subject(resource_id: str = "vpc-1", **fields: Any) -> Subject:
    """Return a VPC of the team's account."""
    kind = Kind.VPC if resource_id.startswith("vpc-") else Kind.INSTANCE
    given = {"account_id": ACCOUNT, "units": (ROOT, PRODUCTION, TEAM), "region": "eu-west-1"} | fields
    return Subject(kind=kind, resource_id=resource_id, **given)


def mode(of: Policy, control_id: str = "VPCE.1", **fields: Any) -> Mode:
    """Return the mode of a control on the subject."""
    return of.settings(subject(**fields), control_id).mode


def scope(set_mode: str, **where: Any) -> dict[str, Any]:
    """Return a scope that sets the mode of VPCE.1."""
    return {"where": where, "controls": {"VPCE.1": {"mode": set_mode}}}


class TestSettings:
    """What holds where no scope says anything."""

    def test_modes_and_parameters_are_kept(self) -> None:
        """A parameter that is not given has the caller's default; the mode is no parameter; lists are tuples."""
        found = parse(GOOD).settings(subject(), "VPCE.1")
        assert found.mode is Mode.REMEDIATE
        assert found.parameter("services", ["x"]) == ("s3",)
        assert found.parameter("unassociated_route_tables", "ignore") == "ignore"
        assert found.parameter("mode", None) is None

    def test_a_control_that_is_not_named_is_off(self) -> None:
        """A new control does nothing until somebody wants it."""
        found = parse(GOOD).settings(subject(), "VPCE.2")
        assert (found.mode, found.parameters) == (Mode.OFF, {})
        assert mode(parse(GOOD), "ROLE.1") is Mode.OFF

    def test_what_is_built_in_holds_where_nothing_is_set(self) -> None:
        """Longer for tools that make several calls, and a person's click is sooner over."""
        found = parse(GOOD).settings(subject(), "VPCE.1")
        half_an_hour = timedelta(minutes=30)
        assert found.settle == {
            Caller.TERRAFORM: half_an_hour,
            Caller.CLOUDFORMATION: half_an_hour,
            Caller.CDK: half_an_hour,
            Caller.PULUMI: half_an_hour,
            Caller.CONSOLE: timedelta(minutes=10),
            Caller.OTHER: timedelta(minutes=5),
        }
        assert (found.longest, found.leave_alone) == (timedelta(hours=2), timedelta(days=1))
        assert (found.running_workloads, found.change_windows) == (Mode.APPROVE, ())
        assert parse(GOOD).limits == Limits(20, 100, 6)

    def test_what_the_top_level_sets_holds_everywhere(self) -> None:
        """Also for a control that it does not name, as far as it concerns every change."""
        control = {"mode": "approve", "running_workloads": "remediate", "change_windows": [WINDOW]}
        found = policy(
            controls={"VPCE.1": control},
            settle={"terraform": "90m", "longest": "3h"},
            leave_alone="90s",
            limits={"changes_per_hour": {"organisation": 7}, "changes_per_resource_per_day": 1},
        )
        here, unnamed = (found.settings(subject(), control_id) for control_id in ("VPCE.1", "VPCE.2"))
        assert (here.mode, here.running_workloads) == (Mode.APPROVE, Mode.REMEDIATE)
        assert here.change_windows == (ChangeWindow("0 2 * * SUN", "Europe/Zurich", timedelta(hours=4)),)
        assert here.settle[Caller.TERRAFORM] == unnamed.settle[Caller.TERRAFORM] == timedelta(minutes=90)
        assert here.settle[Caller.OTHER] == timedelta(minutes=5)
        assert (unnamed.longest, unnamed.leave_alone) == (timedelta(hours=3), timedelta(seconds=90))
        assert found.limits == Limits(20, 7, 1)


class TestScopes:
    """Which scope decides."""

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"accounts": [ACCOUNT]}, True),
            ({"accounts": [OTHER, ACCOUNT]}, True),
            ({"accounts": [OTHER]}, False),
            ({"regions": ["eu-west-1", "eu-west-2"]}, True),
            ({"regions": ["us-east-1"]}, False),
            ({"units": [ROOT]}, True),
            ({"units": [PRODUCTION, "ou-abcd-33333333"]}, True),
            ({"units": ["ou-abcd-33333333"]}, False),
            ({"tags": {"env": "dev"}}, True),
            ({"tags": {"env": ["test", "dev"]}}, True),
            ({"tags": {"env": "dev", "team": "web"}}, False),
            ({"tags": {"env": ""}}, False),
            ({"tags": {"Env": "dev"}}, False),
            ({"accounts": [ACCOUNT], "regions": ["us-east-1"]}, False),
            ({"accounts": [ACCOUNT], "regions": ["eu-west-1"], "units": [TEAM], "tags": {"env": "dev"}}, True),
        ],
    )
    def test_all_that_is_given_must_match_and_of_a_list_any(self, where: dict[str, Any], *, expected: bool) -> None:
        """Accounts, Regions, units at any depth, and tags, to the letter."""
        found = mode(policy(scope("detect", **where)), tags={"env": "dev"})
        assert found is (Mode.DETECT if expected else Mode.REMEDIATE)

    @pytest.mark.parametrize(
        ("winner", "loser"),
        [
            ({"tags": {"env": "dev"}}, {"accounts": [ACCOUNT], "units": [TEAM], "regions": ["eu-west-1"]}),
            ({"tags": {"env": "dev", "team": "web"}}, {"tags": {"env": "dev"}, "accounts": [ACCOUNT]}),
            ({"accounts": [ACCOUNT]}, {"units": [TEAM], "regions": ["eu-west-1"]}),
            ({"accounts": [ACCOUNT], "units": [ROOT]}, {"accounts": [ACCOUNT], "regions": ["eu-west-1"]}),
            ({"units": [TEAM]}, {"units": [PRODUCTION]}),
            ({"units": [PRODUCTION]}, {"units": [ROOT], "regions": ["eu-west-1"]}),
            ({"units": [ROOT, TEAM]}, {"units": [PRODUCTION]}),
            ({"units": [ROOT]}, {"regions": ["eu-west-1"]}),
            ({"units": [TEAM], "regions": ["eu-west-1"]}, {"units": [TEAM]}),
            ({"accounts": [ACCOUNT], "regions": ["eu-west-1"]}, {"accounts": [ACCOUNT, OTHER]}),
        ],
    )
    def test_the_most_specific_one_wins(self, winner: dict[str, Any], loser: dict[str, Any]) -> None:
        """More tags, then an account, then the deepest unit, then a Region: whatever the order in the file."""
        scopes = (scope("approve", **winner), scope("detect", **loser))
        tags = {"env": "dev", "team": "web"}
        assert mode(policy(*scopes), tags=tags) is mode(policy(*reversed(scopes)), tags=tags) is Mode.APPROVE

    def test_each_setting_is_decided_by_itself(self) -> None:
        """A scope that sets one thing leaves the others to the scopes below it, and to the top level."""
        found = policy(
            {"where": {"regions": ["eu-west-1"]}, "settle": {"other": "2m", "console": "3m"}, "leave_alone": "1h"},
            {"where": {"accounts": [ACCOUNT]}, "settle": {"other": "4m"}, "controls": {"VPCE.1": {"services": ["s3"]}}},
            {"where": {"tags": {"env": "dev"}}, "controls": {"VPCE.1": {"running_workloads": "remediate"}}},
        ).settings(subject(tags={"env": "dev"}), "VPCE.1")
        assert (found.mode, found.running_workloads) == (Mode.REMEDIATE, Mode.REMEDIATE)
        assert found.parameter("services", ()) == ("s3",)
        assert (found.settle[Caller.OTHER], found.settle[Caller.CONSOLE]) == (
            timedelta(minutes=4),
            timedelta(minutes=3),
        )
        assert (found.settle[Caller.CDK], found.leave_alone) == (timedelta(minutes=30), timedelta(hours=1))

    def test_a_scope_may_switch_on_a_control_that_is_off_elsewhere(self) -> None:
        """And says nothing about another one."""
        found = policy({"where": {"accounts": [ACCOUNT]}, "controls": {"ROLE.1": {"mode": "detect"}}})
        assert (mode(found, "ROLE.1"), mode(found, "ROLE.1", account_id=OTHER)) == (Mode.DETECT, Mode.OFF)
        assert (mode(found), mode(found, "VPCE.2")) == (Mode.REMEDIATE, Mode.OFF)

    def test_the_longest_wait_is_never_shorter_than_a_settle_window(self) -> None:
        """Two scopes may say so together; the window counts, and explaining it names where that was set."""
        data = data_of(
            {"where": {"tags": {"env": "dev"}}, "settle": {"longest": "40m"}},
            {"where": {"regions": ["eu-west-1"]}, "settle": {"terraform": "50m"}},
        )
        found, here = parse(data), subject(tags={"env": "dev"})
        assert found.settings(here, "VPCE.1").longest == timedelta(minutes=50)
        explanation = explain(data, found, here, "VPCE.1")
        (ruling,) = (one for one in explanation.rulings if one.setting == ("settle", "longest"))
        assert (ruling.value, ruling.decided_at) == ("50m", ("scopes", 1, "settle", "terraform"))
        assert ruling.overruled == (("scopes", 0, "settle", "longest"),)

    @pytest.mark.parametrize(("with_unit", "without"), [("scopes", "exemptions"), ("exemptions", "scopes")])
    def test_whoever_names_a_unit_needs_the_units(self, with_unit: str, without: str) -> None:
        """The organisation is asked only then; the same holds for tags, for people who ask by hand."""
        entries: dict[str, dict[str, Any]] = {
            "scopes": {"name": "a"},
            "exemptions": {"name": "b", "owner": "o", "reason": "r", "expires": "2030-01-01"},
        }
        units, tags = {"where": {"units": [TEAM]}}, {"where": {"tags": {"env": "dev"}}}
        found = parse(GOOD | {with_unit: [entries[with_unit] | units], without: [entries[without] | tags]})
        assert (found.needs_units, found.needs_tags) == (True, True)
        neither = parse(GOOD | {with_unit: [entries[with_unit] | {"where": {"accounts": [ACCOUNT]}}]})
        assert (neither.needs_units, neither.needs_tags) == (False, False)


class TestValues:
    """Every value that a parameter may have somewhere."""

    def test_those_of_all_scopes_and_the_top_level(self) -> None:
        """The default counts only where the top level sets nothing."""
        one = {"where": {"accounts": [ACCOUNT]}, "controls": {"ROLE.1": {"default_profile": "one"}}}
        two = {"where": {"accounts": [OTHER]}, "controls": {"ROLE.1": {"default_profile": "two"}}}
        assert policy(one, two).values("ROLE.1", "default_profile", "built-in") == {"one", "two", "built-in"}
        top = {"ROLE.1": {"mode": "detect", "default_profile": "top"}}
        assert policy(one, controls=top).values("ROLE.1", "default_profile", "built-in") == {"one", "top"}
        assert policy().values("ROLE.1", "default_profile", "built-in") == {"built-in"}

    def test_lists_and_mappings_count_too(self) -> None:
        """As the settings give them; the order of a mapping says nothing."""
        one = {"where": {"accounts": [ACCOUNT]}, "controls": {"VPCE.5": {"policies": {"s3": "a", "dynamodb": "b"}}}}
        two = {"where": {"accounts": [OTHER]}, "controls": {"VPCE.5": {"policies": {"dynamodb": "b", "s3": "a"}}}}
        three = {"where": {"regions": ["eu-west-1"]}, "controls": {"VPCE.4": {"ports": [22, 3389]}}}
        found = policy(one, two, three)
        assert found.values("VPCE.5", "policies", {}) == {(), (("dynamodb", "b"), ("s3", "a"))}
        assert found.values("VPCE.4", "ports", (22,)) == {(22,), (22, 3389)}
        here = found.settings(subject(), "VPCE.5")
        assert dict(here.parameter("policies", {})) == {"s3": "a", "dynamodb": "b"}
        assert dict(found.settings(subject(account_id="1"), "VPCE.5").parameter("policies", {})) == {}
        assert found.settings(subject(), "VPCE.4").parameter("ports", ()) == (22, 3389)


class TestEnabled:
    """Whether a control is on anywhere."""

    def test_at_the_top_level_or_in_a_scope(self) -> None:
        """Off, or not named, is not; a scope that sets something else does not switch it on."""
        elsewhere = {"where": {"accounts": [OTHER]}, "controls": {"VPCE.3": {"mode": "detect"}}}
        without = {"where": {"accounts": [OTHER]}, "controls": {"VPCE.4": {"ports": [22]}, "ROLE.1": {"mode": "off"}}}
        found = policy(elsewhere, without, controls={"VPCE.1": {"mode": "remediate"}, "VPCE.2": {"mode": "off"}})
        asked = ("VPCE.1", "VPCE.2", "VPCE.3", "VPCE.4", "ROLE.1", "ROLE.9")
        assert [one for one in asked if found.enabled(one)] == ["VPCE.1", "VPCE.3"]


class TestOfTheOrganisation:
    """What holds for the whole policy."""

    def test_prices_are_by_region_and_name(self) -> None:
        """Only those that are given."""
        prices = {"default": {"nat_gigabyte": 0}, "eu-west-1": {"interface_endpoint_hour": 0.011}}
        assert policy(prices=prices).prices == prices
        assert policy().prices == {}

    def test_a_control_knows_the_endpoint_policies_by_name(self) -> None:
        """Also where a scope decides."""
        named = {"ours": {"perimeter": {"organisation": "o-exampleorgid"}}, "all": {"document": {"Statement": []}}}
        found = policy(scope("detect", accounts=[ACCOUNT]), endpoint_policies=named)
        assert found.endpoint_policies == named
        assert found.settings(subject(), "VPCE.1").endpoint_policies == named
        assert found.settings(subject(account_id=OTHER), "VPCE.5").endpoint_policies == named
        assert policy().settings(subject(), "VPCE.5").endpoint_policies == {}


def exemption(expires: str = "2026-12-31", name: str = "one", **fields: Any) -> dict[str, Any]:
    """Return an exemption of vpc-1."""
    return {
        "name": name,
        "where": {"resources": ["vpc-1"]},
        "owner": "network@example.com",
        "reason": "migrated",
        "expires": expires,
    } | fields


class TestExemptions:
    """What is exempt, and until when."""

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"resources": ["vpc-1", "vpc-2"]}, True),
            ({"resources": ["vpc-2"]}, False),
            ({"tags": {"env": "dev"}}, True),
            ({"tags": {"env": "test"}}, False),
            ({"accounts": [ACCOUNT]}, True),
            ({"units": [PRODUCTION]}, True),
            ({"regions": ["us-east-1"]}, False),
            ({"resources": ["vpc-1"], "accounts": [OTHER]}, False),
        ],
    )
    def test_by_resource_tag_account_unit_or_region(self, where: dict[str, Any], *, expected: bool) -> None:
        """All that is given must match."""
        found = policy(exemptions=[exemption(where=where)]).exemption(subject(tags={"env": "dev"}), "VPCE.1", NOW)
        assert (found is not None) is expected

    def test_it_says_who_why_and_until_when(self) -> None:
        """For the finding."""
        found = policy(exemptions=[exemption()]).exemption(subject(), "VPCE.1", NOW)
        assert found
        assert (found.name, found.owner, found.reason) == ("one", "network@example.com", "migrated")

    def test_it_may_be_for_some_controls_only(self) -> None:
        """The others are judged as ever."""
        found = policy(exemptions=[exemption(controls=["VPCE.1"])])
        assert found.exemption(subject(), "VPCE.1", NOW)
        assert found.exemption(subject(), "VPCE.2", NOW) is None

    @pytest.mark.parametrize(
        ("expires", "ends"),
        [
            ("2026-12-31", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
            ("2026-12-31T12:00:00Z", datetime(2026, 12, 31, 12, 0, tzinfo=UTC)),
        ],
    )
    def test_a_date_lasts_to_the_end_of_that_day(self, expires: str, ends: datetime) -> None:
        """UTC; an instant to the moment. At the end it is over."""
        found = policy(exemptions=[exemption(expires)])
        last = found.exemption(subject(), "VPCE.1", ends - timedelta(microseconds=1))
        assert last
        assert last.expires_at == ends
        assert found.exemption(subject(), "VPCE.1", ends) is None

    def test_of_several_the_one_that_ends_last_counts(self) -> None:
        """So that a finding does not reopen in between; one of the resource is no better than one of the account."""
        wide = exemption("2027-06-30", "wide", where={"accounts": [ACCOUNT]})
        for exemptions in ([exemption(), wide, exemption("2027-01-31", "three")], [wide, exemption()]):
            found = policy(exemptions=exemptions).exemption(subject(), "VPCE.1", NOW)
            assert found
            assert found.name == "wide"

    def test_of_two_that_end_together_always_the_same_counts(self) -> None:
        """The order in the file decides nothing."""
        pair = [exemption(name="a"), exemption(name="b")]
        found = {
            one.name
            for exemptions in (pair, pair[::-1])
            if (one := policy(exemptions=exemptions).exemption(subject(), "VPCE.1", NOW))
        }
        assert found == {"b"}

    def test_explaining_names_the_expired_ones_too(self) -> None:
        """Whoever asks why the finding has come back learns it."""
        data = data_of(exemptions=[exemption("2020-01-01")])
        explanation = explain(data, parse(data), subject(), "VPCE.1")
        assert [one.name for one in explanation.exemptions] == ["one"]


NOWHERE: tuple[dict[str, Any], ...] = (
    *({}, {"tags": {}}, {"tags": {"env": []}}, {"tags": {"": "dev"}}),
    *({"accounts": []}, {"accounts": [1]}, {"accounts": None}, {"vpcs": ["vpc-1"]}),
)
DAMAGED: dict[str, tuple[Any, ...]] = {
    "controls": (
        *([], "x", None, {"VPCE.1": None}, {"VPCE.1": "off"}, {"VPCE.1": {"mode": "fix"}}, {"": {"mode": "off"}}),
        *({"VPCE.1": {"mode": mode}} for mode in (["off"], None, True)),
        *({"VPCE.1": {"services": services}} for services in (None, {"s3": True}, {"": "s3"}, [["s3"]], 1.5)),
        *({"VPCE.1": {"running_workloads": "off"}}, {"VPCE.1": {"running_workloads": []}}),
        *(
            {"VPCE.1": {"change_windows": windows}}
            for windows in (
                "x",
                [{"cron": "0 2 * * SUN"}],
                *([WINDOW | {key: "x"}] for key in ("cron", "time_zone", "length", "weekday")),
            )
        ),
    ),
    "owner": ("me",),
    "settle": ([], {"ansible": "5m"}, {"other": "1m"}, {"other": 300}, {"longest": "2"}),
    "leave_alone": ("", "1 h", "0h", "-1h", 24, None, "100000d"),
    "prices": (
        *([], {"default": 1}, {"default": {"nat_hour": 1}}),
        *({"default": {"nat_gigabyte": price}} for price in (-1, True, "1", None, float("nan"))),
    ),
    "endpoint_policies": ([], {"a": None}, {"a": {}}, {"a": {"perimeter": {}, "document": {}}}, {"a": {"policy": {}}}),
    "limits": (
        *([], {"changes": 1}, {"changes_per_resource_per_day": True}, {"changes_per_resource_per_day": "3"}),
        *({"changes_per_hour": hourly} for hourly in (1, {"region": 1}, {"account": 0}, {"organisation": 4001})),
        {"changes_per_resource_per_day": 4001},
    ),
    "scopes": (
        *({}, "x", [None], [{"name": "a"}], [{"where": {"accounts": [ACCOUNT]}}]),
        *([{"name": "a", "where": where}] for where in (*NOWHERE, {"resources": ["vpc-1"]})),
        *(
            [{"name": "a", "where": {"accounts": [ACCOUNT]}} | fields]
            for fields in ({"name": ""}, {"mode": "off"}, {"settle": {"other": "1s"}})
        ),
    ),
    "exemptions": (
        *({}, [None], [exemption() | {"until": "2026-12-31"}]),
        *([exemption(where=where)] for where in NOWHERE),
        *([exemption() | {key: None}] for key in ("name", "where", "controls", "owner", "reason", "expires")),
        *([{k: v for k, v in exemption().items() if k != key}] for key in ("owner", "reason", "expires", "where")),
        *([exemption(expires)] for expires in ("2026-02-30", "2026-12-31T25:00:00Z", "2026-12-31T12:00:00", "soon")),
    ),
}


@pytest.mark.parametrize("data", [None, [], "x", {}, {"version": 2, "controls": {}}, {"controls": {}}])
def test_another_version_is_refused(data: object) -> None:
    """The text says what to do."""
    with pytest.raises(PolicyError, match="not of version 1; run 'portcullis policy check'"):
        parse(data)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in DAMAGED.items() for value in values])
def test_a_damaged_policy_is_refused(key: str, value: Any) -> None:
    """Fail closed: no policy is better than half of one."""
    with pytest.raises(PolicyError, match=r"^the policy is damaged \(.*\); run 'portcullis policy check' on its file$"):
        parse(GOOD | {key: value})


def test_a_policy_without_controls_is_refused() -> None:
    """Not even one that has forgotten what it is about."""
    with pytest.raises(PolicyError, match="damaged"):
        parse({"version": 1})


_WORDS = st.sampled_from(["off", "detect", "30m", "2026-12-31", ACCOUNT, "vpc-1"])
_KEYS = st.sampled_from(
    [
        *("version", "controls", "scopes", "exemptions", "settle", "limits", "leave_alone", "where", "name", "owner"),
        *("reason", "expires", "mode", "VPCE.1", "accounts", "tags", "other", "longest", "change_windows", "cron"),
        *("changes_per_hour", "account"),
    ]
)


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
        max_leaves=20,
    )
)
def test_any_data_gives_a_policy_or_a_refusal(data: object) -> None:
    """Never another exception."""
    try:
        found = parse({"version": 1} | (data if isinstance(data, dict) else {"controls": data}))
    except PolicyError:
        return
    assert found.settings(subject(), "VPCE.1").mode in Mode


def test_a_compiled_policy_is_loaded(tmp_path: Path) -> None:
    """From JSON, as the build writes it."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert load(path) == parse(GOOD)


@pytest.mark.parametrize("content", [b"", b"version: 1", b"\xff\xfe", b"[" * 100_000, None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty, YAML, not text, or without end: the error names the file and the way out."""
    path = tmp_path / "policy.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match=r"policy\.json cannot be read: .*; build it with 'make build'"):
        load(path)
