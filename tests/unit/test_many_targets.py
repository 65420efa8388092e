"""Many targets at once: what they share, and that trouble with one stays with it."""

from __future__ import annotations

from portcullis.closer import Verdict
from portcullis.errors import ObservationError, TransientError
from portcullis.model import Cause, Work
from portcullis.policy import Mode

from tests.fakes import (
    ACCOUNT,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    AwsRefusedError,
    Trouble,
    World,
    instance,
    policy_of,
    vpc,
    whole,
)
from tests.unit.stories import run


class TestManyTargets:
    """Targets of one account and Region are looked at together; trouble with one stays with it."""

    def test_n_vpcs_of_one_account_region_are_one_look(self) -> None:
        """Observing does not grow with the number of targets."""
        world = World()
        place = world.aws.region()
        ids = [place.create_vpc() for _ in range(50)]

        run(world, *map(vpc, ids))

        counts = world.calls.counts()
        assert counts["observe"] == counts["load"] == 1
        assert counts["import"] == 2
        assert world.aws.observed[0][0].vpc_ids == frozenset(ids)
        assert not world.aws.observed[0][0].everything

    def test_each_account_and_region_is_looked_at_once(self) -> None:
        """Targets in three places are three looks, whatever their order."""
        world = World()
        places = [(ACCOUNT, REGION), (ACCOUNT, OTHER_REGION), (OTHER_ACCOUNT, REGION)]
        targets = [vpc(world.aws.region(*place).create_vpc(), *place) for place in places * 3]

        answers = run(world, *targets)

        assert world.calls.counts()["observe"] == 3
        assert set(answers) == set(targets)
        assert {answer.verdict for answer in answers.values()} == {Verdict.DONE}

    def test_vpcs_and_instances_share_a_look(self) -> None:
        """Both kinds of one place are in one scope."""
        world = World()
        place = world.aws.region()

        run(world, vpc(place.create_vpc()), instance(place.launch_instance()))

        assert world.calls.counts()["observe"] == 1

    def test_equal_targets_are_looked_at_once_for_the_first_message(self) -> None:
        """Two messages about one VPC make one endpoint per service, in the name of one message."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()

        answers = world.loop.run([Work(vpc(vpc_id), "first", Cause("a")), Work(vpc(vpc_id), "second", Cause("b"))])

        assert list(answers) == [vpc(vpc_id)]
        assert [work for work, _ in world.aws.performed] == [Work(vpc(vpc_id), "first", Cause("a"))]

    def test_an_unreadable_account_does_not_hold_up_another(self) -> None:
        """One place refuses, one is busy, the third is mended; each gets its own verdict."""
        world = World()
        refused = vpc(world.aws.region(ACCOUNT, REGION).create_vpc())
        busy = vpc(world.aws.region(ACCOUNT, OTHER_REGION).create_vpc(), ACCOUNT, OTHER_REGION)
        fine = vpc(world.aws.region(OTHER_ACCOUNT, REGION).create_vpc(), OTHER_ACCOUNT)
        denied, throttled = ObservationError("AccessDenied: no"), TransientError("Throttling: later")
        world.calls.plan("observe", Trouble(denied), Trouble(throttled))

        answers = run(world, refused, busy, fine)

        assert (answers[refused].verdict, answers[refused].reason) == (Verdict.BURY, "AccessDenied: no")
        assert (answers[busy].verdict, answers[busy].reason) == (Verdict.RETRY, "Throttling: later")
        assert answers[fine].verdict is Verdict.DONE
        assert world.hub.state(str(fine.resource_id), "VPCE.1") == "PASSED"

    def test_what_cannot_be_read_is_not_changed_and_not_filed(self) -> None:
        """A failed look fails closed, and even an open finding stays as it is."""
        world = World()
        vpc_id = world.aws.region().create_vpc()
        world.calls.plan("observe", Trouble(ObservationError("AccessDenied")))

        run(world, vpc(vpc_id))

        assert world.calls.made == ["load", "states", "observe"]

    def test_a_failed_change_of_one_vpc_does_not_hold_up_the_next(self) -> None:
        """The first VPC's changes are refused; the second is mended all the same."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        first, second = place.create_vpc(), place.create_vpc()
        world.calls.plan("perform", Trouble(AwsRefusedError("UnauthorizedOperation", "denied by SCP")))

        answers = run(world, vpc(first), vpc(second))

        assert {answer.verdict for answer in answers.values()} == {Verdict.DONE}
        assert [world.hub.state(v, "VPCE.1") for v in (first, second)] == ["FAILED", "PASSED"]
        finding = world.hub.find(first, "VPCE.1")
        assert finding
        assert "denied by SCP" in finding["Description"]

    def test_a_failed_change_for_one_service_leaves_the_other_mended(self) -> None:
        """Per control: S3 is refused and FAILED, DynamoDB is created and PASSED."""
        world = World()
        vpc_id = world.aws.region().create_vpc()
        world.calls.plan("perform", Trouble(AwsRefusedError("VpcEndpointLimitExceeded", "20 at most")))

        run(world, vpc(vpc_id))

        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"
        assert world.hub.state(vpc_id, "VPCE.2") == "PASSED"

    def test_a_wide_look_that_fails_does_not_hold_up_a_vpc_of_the_same_place(self) -> None:
        """The VPC is mended; only the wide look comes again."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        world.calls.plan("observe", None, Trouble(TransientError("Throttling")))

        answers = run(world, whole(), vpc(vpc_id))

        assert answers[whole()].verdict is Verdict.RETRY
        assert answers[vpc(vpc_id)].verdict is Verdict.DONE
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"

    def test_a_wide_look_and_a_vpc_of_the_same_place_both_get_an_answer(self) -> None:
        """A wide and a narrow target in one batch are both done; what was mended needs no closer look."""
        world = World()
        vpc_id = world.aws.region().create_vpc()

        answers = run(world, whole(), vpc(vpc_id))

        assert {target: answer.verdict for target, answer in answers.items()} == dict.fromkeys(
            (whole(), vpc(vpc_id)), Verdict.DONE
        )
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"
        assert world.queue.sent == []

    def test_each_change_is_made_in_the_account_and_region_of_its_target(self) -> None:
        """The remediator is told target, message and trigger: the credentials it asks for carry all three."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        places = [(ACCOUNT, REGION), (OTHER_ACCOUNT, OTHER_REGION)]
        work = [
            Work(vpc(world.aws.region(*place).create_vpc(), *place), f"m-{number}", Cause(f"t-{number}"))
            for number, place in enumerate(places)
        ]

        world.loop.run(work)

        assert [performed for performed, _ in world.aws.performed] == work
        for item in work:
            assert world.hub.state(str(item.target.resource_id), "VPCE.1") == "PASSED"

    def test_an_account_that_does_not_let_us_in_is_tried_again(self) -> None:
        """In a new account the role may be on its way: RETRY, not BURY, and nothing is filed."""
        world = World()
        target = vpc(world.aws.region().create_vpc())
        world.aws.shut.add(ACCOUNT)

        assert run(world, target)[target].verdict is Verdict.RETRY
        assert world.hub.findings == {}
