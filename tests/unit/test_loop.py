"""One VPC, one instance: what is filed, changed and left alone."""

from __future__ import annotations

from portcullis.closer import Verdict
from portcullis.policy import Mode

from tests.fakes import ACCOUNT, AwsRefusedError, Trouble, World, instance, policy_of, vpc
from tests.unit.stories import run


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
        look = ["load", "states", "observe", "surroundings", "position"]
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
