"""Trouble: what is tried again, what is buried, and what the journal tells of it."""

from __future__ import annotations

import pytest
from portcullis.closer import Verdict
from portcullis.errors import TransientError
from portcullis.policy import Mode

from tests.fakes import ACCOUNT, REGION, AwsRefusedError, CrashError, Trouble, World, instance, policy_of, vpc
from tests.unit.stories import run


class TestRetries:
    """Transient trouble is a retry with a reason; nothing is filed as PASSED that is not."""

    def test_a_throttled_change_is_retried_and_still_failed_meanwhile(self) -> None:
        """RETRY carries the reason; the finding says FAILED until it works."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        world.calls.plan("perform", Trouble(TransientError("RequestLimitExceeded")))

        answer = run(world, vpc(vpc_id))[vpc(vpc_id)]

        assert answer.verdict is Verdict.RETRY
        assert "RequestLimitExceeded" in answer.reason
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"

    def test_a_change_that_took_effect_before_the_error_is_not_doubled(self) -> None:
        """A timeout after the endpoint was made: the redelivery finds it, makes no second one, files PASSED."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        world.calls.plan("perform", Trouble(TransientError("ReadTimeout"), after=True))

        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.RETRY
        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.DONE

        assert len(place.endpoints_of(vpc_id)) == 1
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"

    def test_their_endpoint_came_first(self) -> None:
        """If a pipeline makes the endpoint between look and change, ours yields: retry, then PASSED."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        exists = AwsRefusedError("RouteAlreadyExists", "already has a route with destination-prefix-list-id pl-0")
        world.calls.plan("perform", Trouble(exists))

        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.RETRY
        theirs = place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])
        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.DONE

        assert [endpoint.endpoint_id for endpoint in place.endpoints_of(vpc_id)] == [theirs]
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"

    def test_a_finding_that_was_refused_for_now_is_a_retry(self) -> None:
        """Security Hub's own trouble brings the message back, and then the finding is filed."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        world.hub.refuse("InternalException")

        answer = run(world, vpc(vpc_id))[vpc(vpc_id)]
        assert answer.verdict is Verdict.RETRY
        assert "Security Hub refused" in answer.reason
        assert world.hub.state(vpc_id, "VPCE.1") is None

        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.DONE
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"

    def test_a_finding_that_was_refused_for_good_is_buried(self) -> None:
        """The message goes where the alarm is, with the reason."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        world.hub.refuse("InvalidInput")

        answer = run(world, vpc(vpc_id))[vpc(vpc_id)]

        assert answer.verdict is Verdict.BURY
        assert "InvalidInput" in answer.reason

    def test_without_security_hub_events_make_no_dead_letters(self) -> None:
        """Coverage tells it once; nothing is changed meanwhile, and a sweep files what it finds once it is on."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        world.hub.switched_off.add((ACCOUNT, REGION))

        answer = run(world, vpc(vpc_id))[vpc(vpc_id)]

        assert answer.verdict is Verdict.DONE
        assert [entry.step for entry in world.journal.entries if entry.is_problem] == ["unfiled"]
        world.hub.switched_off.clear()
        world.sweep()
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"

    def test_nothing_is_changed_where_an_open_finding_can_no_longer_be_told_of(self) -> None:
        """Found in mode detect, to be mended in mode remediate, and Security Hub switched off in between."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        run(world, vpc(vpc_id))
        world.set_policy(policy_of(VPCE_2=Mode.OFF))
        world.hub.switched_off.add((ACCOUNT, REGION))

        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.DONE
        assert place.endpoints_of(vpc_id) == ()

        world.hub.switched_off.clear()
        run(world, vpc(vpc_id), message="m-2")
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"

    def test_nothing_is_changed_where_no_finding_could_be_opened(self) -> None:
        """With Security Hub switched off nobody would learn of a change: it is not made."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        world.hub.switched_off.add((ACCOUNT, REGION))

        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.DONE
        assert place.endpoints_of(vpc_id) == ()

        world.hub.switched_off.clear()
        run(world, vpc(vpc_id), message="m-2")
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"

    def test_a_change_that_is_refused_for_good_is_tried_once_a_day(self) -> None:
        """Somebody may have lifted the refusal; until then the finding says what AWS says, and is not filed anew."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        denied = Trouble(AwsRefusedError("UnauthorizedOperation", "an SCP says no"))
        world.calls.plan("perform", denied, denied, denied)

        for number in range(2):
            run(world, vpc(vpc_id), message=f"m-{number}")
        filed = len(world.hub.imported)
        for number in range(2):
            run(world, vpc(vpc_id), message=f"m-{number + 2}")

        assert world.calls.counts()["perform"] == 1
        assert len(world.hub.imported) == filed
        world.process(25 * 3600)
        assert world.calls.counts()["perform"] == 2
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"

    @pytest.mark.parametrize("codes", [("InternalException", "InvalidInput"), ("InvalidInput", "InternalException")])
    def test_one_finding_refused_for_now_outweighs_another_refused_for_good(self, codes: tuple[str, str]) -> None:
        """Two findings of one VPC, one to be retried: burying the message would lose that retry."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.DETECT))
        vpc_id = world.aws.region().create_vpc()
        world.hub.refuse(*codes)

        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.RETRY

    def test_a_later_refusal_for_good_does_not_undo_an_earlier_retry(self) -> None:
        """S3's finding is to be retried, DynamoDB's PASSED is refused for good: still a retry."""
        world = World(policy_of(VPCE_1=Mode.DETECT))
        vpc_id = world.aws.region().create_vpc()
        world.hub.refuse("InternalException", None, "InvalidInput")

        assert run(world, vpc(vpc_id))[vpc(vpc_id)].verdict is Verdict.RETRY
        run(world, vpc(vpc_id))
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"
        assert world.hub.state(vpc_id, "VPCE.2") == "PASSED"

    def test_one_refused_finding_does_not_hold_up_another_vpc(self) -> None:
        """Of two findings in one import the first is refused; the second is filed and remembered."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        place = world.aws.region()
        first, second = place.create_vpc(), place.create_vpc()
        world.hub.refuse("InternalException")

        answers = run(world, vpc(first), vpc(second))

        assert [answers[vpc(v)].verdict for v in (first, second)] == [Verdict.RETRY, Verdict.DONE]
        assert [world.hub.state(v, "VPCE.1") for v in (first, second)] == [None, "FAILED"]

    @pytest.mark.parametrize(
        "call",
        [
            "observe",
            "load",
            "save",
            "import",
            "send",
            "states",
            "surroundings",
            "suppressed",
            "begin",
            "end",
            "keep",
        ],
    )
    def test_a_port_that_is_down_is_a_retry_that_converges(self, call: str) -> None:
        """Whichever port fails transiently, before or after its effect, redelivery ends in the truth."""
        for after in (False, True):
            world = World()
            place = world.aws.region()
            vpc_id, waiting = place.create_vpc(), place.launch_instance("pending")
            world.calls.plan(call, Trouble(TransientError(f"{call} is down"), after=after))

            answers = run(world, vpc(vpc_id), instance(waiting))
            assert {answer.verdict for answer in answers.values()} == {Verdict.RETRY}
            assert {answer.reason for answer in answers.values()} == {f"{call} is down"}
            place.set_state(waiting, "running")
            run(world, vpc(vpc_id), instance(waiting))

            assert len(place.endpoints_of(vpc_id)) == 2
            assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"
            assert world.hub.state(waiting, "ROLE.1") == "PASSED"

    def test_a_finding_whose_import_was_cut_off_is_not_forgotten(self) -> None:
        """Security Hub took the finding, the answer was lost, and then the VPC went: it is archived all the same."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        world.calls.plan("import", Trouble(TransientError("timeout"), after=True))
        run(world, vpc(vpc_id))
        place.delete_vpc(vpc_id)

        run(world, vpc(vpc_id))

        assert world.hub.state(vpc_id, "VPCE.1") == "ARCHIVED"

    def test_a_crash_is_not_swallowed(self) -> None:
        """What nobody foresaw fails loudly: the loop has no catch-all."""
        world = World()
        vpc_id = world.aws.region().create_vpc()
        world.calls.plan("perform", Trouble(CrashError()))

        with pytest.raises(CrashError):
            run(world, vpc(vpc_id))


class TestJournal:
    """What happened can be followed."""

    def test_every_step_of_a_mended_vpc_is_told(self) -> None:
        """Evaluated, filed FAILED, acted, filed PASSED, each with its sentence and data."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()

        run(world, vpc(vpc_id))

        told = [entry for entry in world.journal.entries if entry.fields.get("control") == "VPCE.1"]
        assert [entry.step for entry in told] == ["evaluated", "filed", "acted", "filed"]
        assert told[1].message == f"VPCE.1 finding on {vpc_id} is now FAILED"
        assert told[3].message == f"VPCE.1 finding on {vpc_id} is now PASSED"
        assert told[2].fields["action"] == "CreateGatewayEndpoint"
        assert told[2].fields["result"] == "applied"
        assert not any(entry.is_problem for entry in told)

    def test_a_gone_resource_is_told_as_gone_and_archived(self) -> None:
        """The journal says GONE, not a verdict that nobody reached."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        run(world, vpc(vpc_id))
        place.delete_vpc(vpc_id)
        world.journal.entries.clear()

        run(world, vpc(vpc_id))

        evaluated, filed = (entry for entry in world.journal.entries if entry.fields.get("control") == "VPCE.1")
        assert (evaluated.message, evaluated.fields["status"]) == (f"{vpc_id} no longer exists.", "GONE")
        assert filed.message == f"VPCE.1 finding on {vpc_id} is now ARCHIVED"

    def test_a_refused_change_is_a_problem_to_look_at(self) -> None:
        """A change that AWS refused stands out, with the reason."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        world.calls.plan("perform", Trouble(AwsRefusedError("UnauthorizedOperation", "denied by SCP")))

        run(world, vpc(vpc_id))

        (problem,) = (entry for entry in world.journal.entries if entry.is_problem)
        assert (problem.step, problem.fields["result"]) == ("acted", "failed")
        assert "denied by SCP" in problem.message
