"""Undo: what Portcullis made is taken back on a person's wish, as long as it is ours and as we left it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from portcullis.actions import DeleteEndpoint
from portcullis.errors import TransientError
from portcullis.ledger import Progress
from portcullis.model import OWNERSHIP_TAG, Ask, Cause, Request
from portcullis.policy import Mode
from portcullis.ports import Changes

from tests.fakes import ACCOUNT, DELAY, AwsRefusedError, Trouble, World, careful_policy, instance, vpc
from tests.unit.stories import (
    DAY,
    HOUR,
    MINUTE,
    PAT,
    actions,
    approve,
    changes,
    note_of,
    state_of,
    tables_of,
    tell,
    text_of,
    undo,
)

if TYPE_CHECKING:
    from portcullis.model import Target

ASKED = f"Undo, asked for by {PAT}: "


def covered(*, mode: Mode = Mode.REMEDIATE) -> tuple[World, Target]:
    """Return a world with a VPC for whose S3 traffic we have made an endpoint."""
    world = World(careful_policy(VPCE_1=mode, VPCE_2=Mode.OFF))
    target = vpc(world.aws.region().create_vpc())
    tell(world, target)
    if mode is Mode.APPROVE:
        approve(world, target)
    world.process(HOUR)
    assert len(tables_of(world, target)) == 1
    return world, target


def extended() -> tuple[World, Target, str]:
    """Return the same, with a table that we have added later, and its id."""
    world, target = covered()
    table_id = world.aws.region().add_route_table(str(target.resource_id), subnet=True)
    tell(world, target)
    world.process(HOUR)
    assert actions(world) == ["CreateGatewayEndpoint", "AddRouteTables"]
    return world, target, table_id


class TestUndo:
    """What was made is taken back, and the resource is left alone."""

    def test_an_endpoint_is_deleted_and_stays_away(self) -> None:
        """The finding is open and says why; the note says what was done; no look makes it again for a day."""
        world, target = covered()
        made = changes(world)[0].change_id

        undo(world, target)

        assert tables_of(world, target) == []
        until = "2026-03-03 10:01 UTC"
        reason = f"{made} was undone by {PAT}, and Portcullis leaves vpc-0001 alone until {until}."
        assert reason in text_of(world, target)
        assert note_of(world, target).startswith(ASKED)
        assert note_of(world, target).endswith(reason)
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "FAILED"
        undone = changes(world)[1]
        assert (undone.action, undone.undoes) == (
            DeleteEndpoint("VPCE.1", "vpc-0001", "vpce-0001", "com.amazonaws.eu-west-1.s3"),
            made,
        )
        assert undone.by == f"undone by {PAT}"
        assert world.ledger.entries[made].undone_by == undone.change_id
        tell(world, target)
        world.process(DAY - 2 * HOUR)
        assert tables_of(world, target) == []
        world.process(3 * HOUR)
        assert len(tables_of(world, target)) == 1, "then it is mended again"

    def test_tables_that_were_added_are_taken_off(self) -> None:
        """The finding's latest change was the addition; the endpoint itself stays."""
        world, target, table_id = extended()

        undo(world, target)

        assert tables_of(world, target) == [(world.aws.region().main_table(str(target.resource_id)),)]
        assert [bool(change.undone_by) for change in changes(world)] == [False, True, False]
        assert table_id in text_of(world, target)

    def test_an_earlier_change_can_be_named(self) -> None:
        """The endpoint as a whole, with all that we added to it later."""
        world, target, _ = extended()
        undo(world, target, change_id=changes(world)[0].change_id)
        assert tables_of(world, target) == []
        assert state_of(world, target).made == {}
        assert state_of(world, target).applied == {}

    def test_a_profile_is_taken_off(self) -> None:
        """The association that we made ends."""
        world = World(careful_policy())
        place = world.aws.region()
        target = instance(place.launch_instance())
        tell(world, target)
        world.process(HOUR)

        undo(world, target, "ROLE.1")

        assert place.instances[str(target.resource_id)].profile is None
        assert "Portcullis leaves i-0001 alone until" in text_of(world, target, "ROLE.1")

    def test_what_was_approved_is_undone_as_well_and_proposed_again(self) -> None:
        """The proposal tells that it was taken back once, and for how long nobody else does it."""
        world, target = covered(mode=Mode.APPROVE)

        undo(world, target)

        assert tables_of(world, target) == []
        assert "was undone" in text_of(world, target)
        assert "Portcullis proposes to create" in text_of(world, target)
        approve(world, target)
        assert len(tables_of(world, target)) == 1

    @pytest.mark.parametrize(("position", "goes"), [(Changes.UNDO_ONLY, True), (Changes.STOPPED, False)])
    def test_the_kill_switch_is_obeyed(self, position: Changes, *, goes: bool) -> None:
        """Undo-only is meant for this; stopped is stopped, and the note says so."""
        world, target = covered()
        world.switch.set_to = position

        undo(world, target)

        assert (tables_of(world, target) == []) is goes
        assert ("Changes are stopped (kill switch: stopped)" in note_of(world, target)) is not goes
        assert bool(state_of(world, target).holds) is goes

    def test_limits_do_not_count_what_is_taken_back(self) -> None:
        """Nobody is kept from undoing by what was done."""
        world, target = covered()
        few = {"changes_per_hour": {"account": 1, "organisation": 1}}
        world.set_policy(careful_policy({"limits": few}, VPCE_2=Mode.OFF))
        undo(world, target)
        assert tables_of(world, target) == []

    def test_one_that_could_not_be_done_yet_is_tried_again_and_then_told(self) -> None:
        """No note before there is a result."""
        world, target = covered()
        world.calls.plan("perform", Trouble(TransientError("RequestLimitExceeded")))

        undo(world, target)
        assert (len(tables_of(world, target)), note_of(world, target)) == (1, "")
        world.process(MINUTE)

        assert tables_of(world, target) == []
        assert note_of(world, target).startswith(ASKED)
        assert len(changes(world)) == 2

    def test_one_that_aws_refuses_is_told_and_nothing_is_left_alone_for_it(self) -> None:
        """The endpoint is still there."""
        world, target = covered()
        world.calls.plan("perform", Trouble(AwsRefusedError("UnauthorizedOperation", "an SCP says no")))

        undo(world, target)

        assert note_of(world, target).startswith(f"{ASKED}AWS did not let Portcullis delete vpce-0001")
        assert "was undone" not in note_of(world, target)
        assert not state_of(world, target).holds
        assert state_of(world, target).latest("VPCE.1") == changes(world)[0].change_id


class TestRefusals:
    """What is not undone, and what the person is told."""

    @pytest.mark.parametrize(
        ("what", "why"),
        [
            ("given a table", "vpce-0001 was given rtb-9"),
            ("another policy", "the policy of vpce-0001 was changed"),
            ("no tag", "vpce-0001 has lost the tag that marks it as Portcullis's"),
            ("deleted", "vpce-0001 no longer exists"),
        ],
    )
    def test_what_is_not_as_we_left_it_stays(self, what: str, why: str) -> None:
        """Somebody may count on it; the note says what differs."""
        world, target = covered()
        place = world.aws.region()
        (endpoint,) = place.endpoints_of(str(target.resource_id))
        others = {
            "given a table": replace(endpoint, route_table_ids=(*endpoint.route_table_ids, "rtb-9")),
            "another policy": replace(endpoint, policy_digest="other"),
            "no tag": replace(endpoint, tags={OWNERSHIP_TAG: "false"}),
        }
        if what in others:
            place.endpoints[endpoint.endpoint_id] = others[what]
        else:
            place.delete_endpoint(endpoint.endpoint_id)

        undo(world, target)

        assert actions(world) == ["CreateGatewayEndpoint"]
        change_id = changes(world)[0].change_id
        assert note_of(world, target) == (
            f"{ASKED}{change_id} was not undone, since things are not as it left them: {why}."
        )
        assert not state_of(world, target).holds

    def test_added_tables_that_somebody_took_off_are_not_taken_off_again(self) -> None:
        """The rest of the endpoint is as we left it."""
        world, target, table_id = extended()
        place = world.aws.region()
        (endpoint,) = place.endpoints_of(str(target.resource_id))
        left = tuple(one for one in endpoint.route_table_ids if one != table_id)
        place.endpoints[endpoint.endpoint_id] = replace(endpoint, route_table_ids=left)
        place.disassociate(table_id)

        undo(world, target)

        assert f"{table_id} is no longer on it" in note_of(world, target)
        assert actions(world) == ["CreateGatewayEndpoint", "AddRouteTables"]

    def test_a_profile_that_somebody_replaced_stays(self) -> None:
        """Its association is another."""
        world = World(careful_policy())
        place = world.aws.region()
        target = instance(place.launch_instance())
        tell(world, target)
        world.process(HOUR)
        resource_id = str(target.resource_id)
        theirs = world.aws.add_profile(ACCOUNT, "theirs", "their-role")
        held = place.instances[resource_id]
        place.instances[resource_id] = replace(held, profile=theirs, association_id="iip-assoc-9")

        undo(world, target, "ROLE.1")

        assert place.instances[resource_id].profile == theirs
        assert "i-0001 does not have the association iip-assoc-0001 any more" in note_of(world, target, "ROLE.1")

    def test_what_was_taken_back_already_is_not_taken_back_again(self) -> None:
        """Nor is what took it back; the person is told what did."""
        world, target = covered()
        undo(world, target)
        made, taken = (change.change_id for change in changes(world))

        undo(world, target, change_id=made)
        assert note_of(world, target) == f"{ASKED}{made} has been taken back by {taken}."
        undo(world, target, change_id=taken)
        assert note_of(world, target) == f"{ASKED}{taken} cannot be undone: it took something back itself."
        undo(world, target)
        assert note_of(world, target) == f"{ASKED}There is no change of Portcullis to undo on vpc-0001."
        assert len(changes(world)) == 2

    @pytest.mark.parametrize("progress", [Progress.FAILED, Progress.ABANDONED])
    def test_what_was_not_made_is_not_undone(self, progress: Progress) -> None:
        """It came to nothing."""
        world, target = covered()
        made = changes(world)[0]
        world.ledger.entries[made.change_id] = replace(made, progress=progress)
        undo(world, target)
        assert note_of(world, target) == f"{ASKED}{made.change_id} cannot be undone: it is {progress}."

    def test_a_change_of_another_resource_is_none_of_this_one(self) -> None:
        """Whatever a request names: it is looked up, and compared with the target."""
        world, target = covered()
        other = vpc(world.aws.region().create_vpc())
        tell(world, other)

        undo(world, other, change_id=changes(world)[0].change_id)

        assert note_of(world, other) == f"{ASKED}There is no change of Portcullis to undo on vpc-0002."
        assert len(tables_of(world, target)) == 1

    def test_what_is_gone_needs_no_undo(self) -> None:
        """The VPC was deleted before the request was looked at."""
        world, target = covered()
        world.aws.region().delete_vpc(str(target.resource_id))
        undo(world, target)
        assert "vpce-0001 no longer exists" in note_of(world, target)
        assert (world.ledger.kept, world.dead_letters.buried) == ({}, [])

    def test_two_requests_in_one_batch_are_one(self) -> None:
        """What is there is looked at again after the first; the second person is told what took it back."""
        world, target = covered()
        made = changes(world)[0].change_id
        for by in ("pat", "kim"):
            request = Request(Ask.UNDO, "VPCE.1", by, made)
            world.enqueue(target, cause=Cause(f"approval/{by}", request=request))

        world.process(DELAY)

        assert actions(world) == ["CreateGatewayEndpoint", "DeleteEndpoint"]
        assert f"{made} has been taken back by {changes(world)[1].change_id}." in note_of(world, target)
