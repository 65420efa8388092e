"""Scenarios of the loop: what is filed, changed, retried and left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from portcullis.errors import ObservationError, TransientError
from portcullis.loop import Verdict
from portcullis.model import Cause, Target, Work
from portcullis.policy import Mode

from tests.fakes import (
    ACCOUNT,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    AwsRefusedError,
    CrashError,
    Trouble,
    World,
    instance,
    policy_of,
    vpc,
    whole,
)

if TYPE_CHECKING:
    from portcullis.loop import Answer


def run(world: World, *targets: Target, message: str = "m-1") -> dict[Target, Answer]:
    """Run the loop on targets, all of one message."""
    return world.loop.run([Work(target, message, Cause("test")) for target in targets])


class TestOneVpc:
    """A VPC without endpoints is reported, mended, and reported mended."""

    def test_both_services_get_an_endpoint_on_the_main_route_table(self) -> None:
        """A bare VPC ends with one endpoint of ours per service, and two findings that say PASSED."""
        world = World()
        place = world.aws.region()
        vpc_id = place.create_vpc()

        answers = run(world, vpc(vpc_id))

        assert answers[vpc(vpc_id)].verdict is Verdict.DONE
        for service in ("s3", "dynamodb"):
            (endpoint,) = place.endpoints_of(vpc_id, service)
            assert endpoint.is_ours
            assert endpoint.route_table_ids == (place.main_table(vpc_id),)
        assert [world.hub.state(vpc_id, control) for control in ("VPCE.1", "VPCE.2")] == ["PASSED", "PASSED"]

    def test_failed_is_filed_before_the_change_and_passed_after(self) -> None:
        """Look, file FAILED, ask what forbids a change, write it down, change, write it down, file PASSED."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()

        run(world, vpc(vpc_id))

        filed, changed = ["save", "import", "save"], ["position", "begin", "perform", "end"]
        look = ["load", "states", "observe", "surroundings"]
        assert world.calls.made == [*look, *filed, "suppressed", *changed, *filed, "keep"]
        assert [finding["Compliance"]["Status"] for finding in world.hub.imported] == ["FAILED", "PASSED"]

    def test_five_calls_to_aws_make_two_endpoints_and_file_them(self) -> None:
        """One look, two changes, one import before and one after: imports are batched over controls."""
        world = World()
        vpc_id = world.aws.region().create_vpc()

        run(world, vpc(vpc_id))

        counts = world.calls.counts()
        assert (counts["observe"], counts["perform"], counts["import"]) == (1, 2, 2)

    def test_a_compliant_vpc_costs_one_look_and_files_nothing(self) -> None:
        """What was never wrong has no finding."""
        world = World()
        place = world.aws.region()
        vpc_id = place.create_vpc()
        for name in place.gateway_services.values():
            place.create_endpoint(vpc_id, name, [place.main_table(vpc_id)])

        run(world, vpc(vpc_id))

        assert world.calls.made == ["load", "states", "observe"]
        assert world.hub.findings == {}

    def test_the_second_run_changes_and_files_nothing(self) -> None:
        """Idempotence: the same target again only looks."""
        world = World()
        vpc_id = world.aws.region().create_vpc()
        run(world, vpc(vpc_id))
        world.calls.made.clear()

        run(world, vpc(vpc_id), message="m-2")

        assert world.calls.made == ["load", "states", "observe"]

    def test_detect_never_performs(self) -> None:
        """In mode detect the finding is filed, says what would be done, and nothing is touched."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.DETECT, ROLE_1=Mode.DETECT))
        place = world.aws.region()
        vpc_id, instance_id = place.create_vpc(), place.launch_instance()

        run(world, vpc(vpc_id), instance(instance_id))

        assert world.calls.counts()["perform"] == 0
        assert world.hub.state(vpc_id, "VPCE.1") == world.hub.state(instance_id, "ROLE.1") == "FAILED"
        finding = world.hub.find(vpc_id, "VPCE.1")
        assert finding
        assert "in mode remediate it would create" in finding["Description"]

    def test_mode_off_archives_what_was_open(self) -> None:
        """Switching a control off closes its findings, and a mended VPC is not undone."""
        world = World(policy_of(VPCE_1=Mode.DETECT))
        vpc_id = world.aws.region().create_vpc()
        run(world, vpc(vpc_id))
        assert world.hub.state(vpc_id, "VPCE.1") == "FAILED"

        world.set_policy(policy_of(VPCE_1=Mode.OFF))
        run(world, vpc(vpc_id))

        assert world.hub.state(vpc_id, "VPCE.1") == "ARCHIVED"
        assert world.hub.state(vpc_id, "VPCE.2") == "PASSED"

    def test_a_gone_vpc_is_archived_and_only_once(self) -> None:
        """A VPC that no longer exists has its findings archived; the next look files nothing."""
        world = World()
        place = world.aws.region()
        vpc_id = place.create_vpc()
        run(world, vpc(vpc_id))
        place.delete_vpc(vpc_id)

        run(world, vpc(vpc_id))
        imported = len(world.hub.imported)
        run(world, vpc(vpc_id))

        assert world.hub.state(vpc_id, "VPCE.1") == world.hub.state(vpc_id, "VPCE.2") == "ARCHIVED"
        assert len(world.hub.imported) == imported

    def test_a_vpc_that_was_never_seen_leaves_no_trace(self) -> None:
        """An event about a VPC that is gone already files nothing."""
        world = World()

        assert run(world, vpc("vpc-gone"))[vpc("vpc-gone")].verdict is Verdict.DONE
        assert world.hub.findings == {}

    def test_a_deleted_endpoint_reopens_the_finding_and_is_made_anew(self) -> None:
        """PASSED goes back to FAILED and to PASSED again; CreatedAt stays."""
        world = World()
        place = world.aws.region()
        vpc_id = place.create_vpc()
        run(world, vpc(vpc_id))
        before = world.hub.find(vpc_id, "VPCE.1")
        place.delete_endpoint(place.endpoints_of(vpc_id, "s3")[0].endpoint_id)
        world.hub.imported.clear()

        run(world, vpc(vpc_id), message="m-2")

        assert [finding["Compliance"]["Status"] for finding in world.hub.imported] == ["FAILED", "PASSED"]
        after = world.hub.find(vpc_id, "VPCE.1")
        assert before
        assert after
        assert before["CreatedAt"] == after["CreatedAt"]
        assert len(place.endpoints_of(vpc_id, "s3")) == 1

    def test_our_own_endpoint_is_extended_for_a_new_table(self) -> None:
        """A route table that got a subnet is added to our endpoint; no second endpoint appears."""
        world = World()
        place = world.aws.region()
        vpc_id = place.create_vpc()
        run(world, vpc(vpc_id))
        table_id = place.add_route_table(vpc_id, subnet=True)

        run(world, vpc(vpc_id), message="m-2")

        (endpoint,) = place.endpoints_of(vpc_id, "s3")
        assert set(endpoint.route_table_ids) == {place.main_table(vpc_id), table_id}

    def test_the_analysts_note_and_workflow_survive(self) -> None:
        """A re-filed finding keeps what a person wrote; a RESOLVED one that fails again is NEW."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        place = world.aws.region()
        vpc_id = place.create_vpc()
        run(world, vpc(vpc_id))
        found = world.hub.find(vpc_id, "VPCE.1")
        assert found
        world.hub.analyst_sets(found["Id"], workflow="RESOLVED", note="seen")
        place.delete_endpoint(place.endpoints_of(vpc_id, "s3")[0].endpoint_id)

        run(world, vpc(vpc_id), message="m-2")

        finding = world.hub.find(vpc_id, "VPCE.1")
        assert finding
        assert (finding["Workflow"], finding["Note"]) == ({"Status": "NEW"}, {"Text": "seen"})


class TestInstances:
    """Instance profiles are associated when that is possible, and never replaced."""

    def test_a_running_instance_gets_the_default_profile(self) -> None:
        """A running instance without a profile is mended and filed."""
        world = World()
        place = world.aws.region()
        instance_id = place.launch_instance("running")

        run(world, instance(instance_id))

        profile = place.instances[instance_id].profile
        assert profile
        assert profile.name == "portcullis-default"
        assert world.hub.state(instance_id, "ROLE.1") == "PASSED"

    def test_a_pending_instance_waits_and_is_looked_at_until_it_runs(self) -> None:
        """Pending: FAILED, nothing performed, requeued without a retry; running: mended, the queue empties."""
        world = World()
        place = world.aws.region()
        instance_id = place.launch_instance("pending")
        world.enqueue(instance(instance_id))

        world.process(200)

        assert world.hub.state(instance_id, "ROLE.1") == "FAILED"
        finding = world.hub.find(instance_id, "ROLE.1")
        assert finding
        assert "once that is possible (the instance is pending)" in finding["Description"]
        assert world.calls.counts()["perform"] == 0
        assert world.calls.counts()["import"] == 1
        assert world.queue.postponed == []
        assert len(world.queue.waiting) == 1

        place.set_state(instance_id, "running")
        world.drain()

        assert place.instances[instance_id].profile
        assert world.hub.state(instance_id, "ROLE.1") == "PASSED"
        assert set(world.queue.triggers) == {"test"}, "what set it off is passed on"
        assert [work.cause.trigger for work, _ in world.aws.performed] == ["test"]

    def test_an_instance_that_terminates_while_it_waits_is_archived(self) -> None:
        """Waiting ends when the instance goes."""
        world = World()
        place = world.aws.region()
        instance_id = place.launch_instance("pending")
        world.enqueue(instance(instance_id))
        world.process(60)
        place.set_state(instance_id, "terminated")

        world.drain()

        assert world.hub.state(instance_id, "ROLE.1") == "ARCHIVED"

    def test_a_profile_without_a_role_is_reported_and_kept(self) -> None:
        """An existing profile is never replaced, whatever it holds."""
        world = World()
        place = world.aws.region()
        empty = world.aws.add_profile(ACCOUNT, "theirs")
        instance_id = place.launch_instance(profile=empty)

        run(world, instance(instance_id))

        assert place.instances[instance_id].profile == empty
        assert world.hub.state(instance_id, "ROLE.1") == "FAILED"
        assert world.calls.counts()["perform"] == 0

    def test_a_profile_that_somebody_associates_meanwhile_wins(self) -> None:
        """If AWS answers that there is an association already, the target is looked at again and passes."""
        world = World()
        place = world.aws.region()
        instance_id = place.launch_instance()
        theirs = world.aws.add_profile(ACCOUNT, "theirs", "their-role")
        conflict = AwsRefusedError("IncorrectState", f"There is an existing association for instance {instance_id}")
        world.calls.plan("perform", Trouble(conflict))
        world.enqueue(instance(instance_id))

        world.process(31)
        assert world.hub.state(instance_id, "ROLE.1") == "FAILED"
        place.instances[instance_id] = type(place.instances[instance_id])(instance_id, "running", profile=theirs)
        world.drain()

        assert world.hub.state(instance_id, "ROLE.1") == "PASSED"
        assert place.instances[instance_id].profile == theirs
        assert world.dead_letters.buried == []


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
        assert world.aws.scopes[0].vpc_ids == frozenset(ids)
        assert not world.aws.scopes[0].everything

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

    def test_a_change_that_is_refused_for_good_is_filed_once(self) -> None:
        """Every look tries again, since somebody may have lifted the refusal; the finding is not filed anew."""
        world = World(policy_of(VPCE_2=Mode.OFF))
        vpc_id = world.aws.region().create_vpc()
        denied = Trouble(AwsRefusedError("UnauthorizedOperation", "an SCP says no"))
        world.calls.plan("perform", denied, denied, denied)

        run(world, vpc(vpc_id))
        filed = len(world.hub.imported)
        for number in range(2):
            run(world, vpc(vpc_id), message=f"m-{number + 2}")

        assert world.calls.counts()["perform"] == 3
        assert len(world.hub.imported) == filed
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
