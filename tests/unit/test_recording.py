"""Recordings: what was seen goes into a file and comes back as it was, and a file that is none says where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portcullis import model, surroundings
from portcullis.cli import recording
from portcullis.cli.recording import Recorder, Recording, RecordingError, Seen
from portcullis.errors import ObservationError
from portcullis.model import GroupRule, Needs, Scope, Snapshot, Vpc
from portcullis.surroundings import Surroundings

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION, World

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = Scope(ACCOUNT, REGION, everything=True)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {str: st.text(max_size=5), bool: st.booleans(), int: st.integers()}


@cache
def values(kind: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911 -- a kind of type each
    """Return what makes any value of a type, by its hints, and apart from the codec's own reading of them."""
    origin, arguments = get_origin(kind), get_args(kind)
    if type(None) in arguments:
        return st.none() | values(next(one for one in arguments if one is not type(None)))
    if origin in (dict, Mapping):
        return st.dictionaries(st.text(max_size=5), values(arguments[1]), max_size=2)
    if origin is frozenset:
        return st.frozensets(values(arguments[0]), max_size=2)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if is_dataclass(kind):
        hints = get_type_hints(kind, localns={**vars(surroundings), **vars(model), "Mapping": Mapping})
        made: Any = kind
        return st.builds(made, **{one.name: values(hints[one.name]) for one in fields(kind)})
    return _PLAIN[kind]


@settings(max_examples=100, deadline=None)
@given(values(Recording))
def test_what_was_recorded_comes_back(recorded: Recording) -> None:
    """Any values of any fields, also of those that somebody adds later."""
    assert recording.read(recording.write(recorded)) == recorded


def test_what_is_as_by_default_is_left_out() -> None:
    """So a file is short, and stays readable when a field with a default is added."""
    seen = Seen(Snapshot(WHOLE, {"vpc-1": Vpc("vpc-1", ACCOUNT)}))
    assert json.loads(recording.write(Recording("now", (seen,)))) == {
        "version": 1,
        "recorded_at": "now",
        "places": [
            {
                "snapshot": {
                    "scope": {"account_id": ACCOUNT, "region": REGION, "everything": True},
                    "vpcs": {"vpc-1": {"vpc_id": "vpc-1", "owner_id": ACCOUNT}},
                }
            }
        ],
    }


def written(**changes: Any) -> str:
    """Return a recording of one VPC, with other fields of the VPC."""
    vpc = {"vpc_id": "vpc-1", "owner_id": ACCOUNT} | changes
    scope = {"account_id": ACCOUNT, "region": REGION}
    return json.dumps({"version": 1, "recorded_at": "", "places": [{"snapshot": {"scope": scope, "vpcs": {"v": vpc}}}]})


AT = "recording.places[0].snapshot.vpcs.v"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "it is not JSON ("),
        ("[" * 100_000, "it is not JSON ("),
        ("[]", "it is no recording; 'portcullis plan --record FILE' writes one"),
        ("{}", "it is no recording; 'portcullis plan --record FILE' writes one"),
        ('{"version": 2}', "it is a recording of version 2, not of 1; record it anew"),
        ('{"version": 1}', "recording.recorded_at: missing"),
        ('{"version": 1, "recorded_at": "", "places": 1}', "recording.places: expected a list, found 1"),
        (written(is_default=1), f"{AT}.is_default: expected true or false, found 1"),
        (written(owner_id=None), f"{AT}.owner_id: expected a text, found null"),
        (written(tags=["x" * 50]), f'{AT}.tags: expected an object, found ["{"x" * 35}...'),
        (written(dns=1), f"{AT}.dns: expected an object, found 1"),
        (written(colour="red"), f"{AT}.colour: unknown; a newer Portcullis may have written it"),
        (written(endpoints=[{}]), f"{AT}.endpoints[0].endpoint_id: missing"),
        (
            written(groups={"sg": {"group_id": "sg", "egress": [{"protocol": "tcp", "ports": [1]}]}}),
            f"{AT}.groups.sg.egress[0].ports: expected 2 values, found 1",
        ),
        (
            written(groups={"sg": {"group_id": "sg", "egress": [{"protocol": "tcp", "ports": [1, True]}]}}),
            f"{AT}.groups.sg.egress[0].ports[1]: expected a whole number, found true",
        ),
    ],
)
def test_a_fault_names_its_place(text: str, message: str) -> None:
    """What is expected there, and what was found."""
    with pytest.raises(RecordingError) as caught:
        recording.read(text)
    assert str(caught.value).startswith(message)


def test_optional_values_are_read() -> None:
    """Null is None, and anything else of the type."""
    assert recording.decode(GroupRule, {"protocol": "-1", "ports": None}, "x") == GroupRule("-1")
    assert recording.decode(GroupRule, {"protocol": "6", "ports": [1, 2]}, "x") == GroupRule("6", (1, 2))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or not text."""
    with pytest.raises(RecordingError, match="it cannot be read: No such file"):
        recording.load(tmp_path / "none.json")
    path = tmp_path / "binary.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecordingError, match="it is not JSON"):
        recording.load(path)


class TestRecorder:
    """What is seen live is kept, with everything around it."""

    def test_a_replay_sees_what_was_seen(self) -> None:
        """The snapshot, the surroundings of all VPCs, and what was looked for."""
        world = World()
        place = world.aws.region()
        vpc_id, other = place.create_vpc(), place.create_vpc()
        instance_id = place.launch_instance()
        place.surroundings[vpc_id] = Surroundings({"subnet-1": "acl-1"}, buckets=("b",), unread_buckets=1)
        needs = Needs(frozenset({"p"}))
        recorder = Recorder(world.aws, needs, buckets=True)

        snapshot = recorder.observe(WHOLE, Needs())
        again = recorder.observe(Scope(ACCOUNT, REGION, frozenset({vpc_id})), needs)
        assert again.vpcs == {vpc_id: snapshot.vpcs[vpc_id]}

        assert recorder.surroundings(ACCOUNT, REGION, [vpc_id], buckets=False) == {
            vpc_id: Surroundings({"subnet-1": "acl-1"})
        }
        assert world.calls.made == ["observe", "surroundings"]
        (seen,) = recorder.seen
        assert seen == Seen(snapshot, needs, {vpc_id: place.surroundings[vpc_id], other: Surroundings()})
        recorded = Recording("now", (seen,))
        assert recorded.observe(WHOLE, needs) is snapshot
        narrow = recorded.observe(Scope(ACCOUNT, REGION, frozenset({vpc_id}), frozenset({"i-gone"})), Needs())
        assert (narrow.vpcs, narrow.instances) == ({vpc_id: snapshot.vpcs[vpc_id]}, {})
        narrow = recorded.observe(Scope(ACCOUNT, REGION, frozenset(), frozenset({instance_id})), Needs())
        assert (narrow.vpcs, narrow.instances) == ({}, {instance_id: snapshot.instances[instance_id]})

    def test_without_a_vpc_nothing_is_around(self) -> None:
        """And no call is made for it."""
        world = World()
        recorder = Recorder(world.aws, Needs(), buckets=False)
        recorder.observe(WHOLE, Needs())
        assert recorder.seen[0].surroundings == {}
        assert world.calls.made == ["observe"]


class TestRecording:
    """A recording answers for what it holds, and for nothing else."""

    RECORDED = Recording(
        "now",
        (
            Seen(Snapshot(WHOLE), Needs(frozenset({"p"})), {"vpc-1": Surroundings()}, ("r-1", "ou-1")),
            Seen(Snapshot(replace(WHOLE, region="us-east-1"))),
        ),
    )

    def test_units_are_those_of_the_account(self) -> None:
        """None for an account that was not seen."""
        assert self.RECORDED.units_of(ACCOUNT) == ("r-1", "ou-1")
        assert self.RECORDED.units_of(OTHER_ACCOUNT) == ()

    def test_another_account_is_refused(self) -> None:
        """With what it is of."""
        with pytest.raises(ObservationError) as caught:
            self.RECORDED.observe(replace(WHOLE, account_id=OTHER_ACCOUNT), Needs())
        assert str(caught.value) == (
            f"the recording is not of {OTHER_ACCOUNT} {REGION}; it is of {ACCOUNT} {REGION}, {ACCOUNT} us-east-1"
        )
        with pytest.raises(ObservationError, match="it is of nothing"):
            Recording("now").observe(WHOLE, Needs())

    def test_what_was_not_looked_for_is_refused(self) -> None:
        """Otherwise, a service without an endpoint would look like one that nobody needs."""
        with pytest.raises(ObservationError, match=r"lacks what this policy looks at \(profiles, instance_connect\)"):
            self.RECORDED.observe(WHOLE, Needs(frozenset({"p", "q"}), instance_connect=True))
        with pytest.raises(ObservationError, match="lacks the bucket policies"):
            self.RECORDED.surroundings(ACCOUNT, REGION, ["vpc-1"], buckets=True)
