"""A look at a whole account and Region: what it files, what it leaves to the queue, and when it does neither."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from portcullis import findings
from portcullis.closer import Verdict
from portcullis.coverage import Answer, Problem
from portcullis.errors import NotAdmittedError, ObservationError, SecurityHubOffError, TransientError
from portcullis.model import Kind, Work
from portcullis.policy import Mode

from tests.fakes import (
    ACCOUNT,
    HUB,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    START,
    CrashError,
    Trouble,
    World,
    instance,
    policy_of,
    vpc,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from portcullis.policy import Policy

PLACES = ((ACCOUNT, REGION), (ACCOUNT, OTHER_REGION), (OTHER_ACCOUNT, REGION))
LOOK = ["region_enabled", "is_enabled", "open_records", "observe"]


def detect() -> Policy:
    """Return a policy that changes nothing, with one control per kind of resource."""
    return policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF, ROLE_1=Mode.DETECT)


def told(world: World) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Return compliance and state of every finding."""
    return {key: (f["Compliance"]["Status"], f["RecordState"]) for key, f in world.hub.findings.items()}


class TestLook:
    """What needs no change is filed at once; what needs one goes to the queue, into the group of its resource."""

    def test_what_needs_a_change_is_enqueued_and_neither_filed_nor_changed(self) -> None:
        """Only wrong resources are enqueued, each with the sweep as what set it off."""
        world = World()
        place = world.aws.region()
        bare, covered, lone = place.create_vpc(), place.create_vpc(), place.launch_instance()
        for name in place.gateway_services.values():
            place.create_endpoint(covered, name, [place.main_table(covered)])

        assert world.sweep() == [Answer("s-1")]

        assert world.queue.sent == sorted([vpc(bare), instance(lone)])
        assert world.queue.triggers == ["sweep/s-1"] * 2
        assert world.calls.made == [*LOOK, "states", "surroundings", "position", "send", "answered"]
        world.drain()
        assert [world.hub.state(*key) for key in ((bare, "VPCE.1"), (lone, "ROLE.1"))] == ["PASSED", "PASSED"]
        assert {work.cause.trigger for work, _ in world.aws.performed} == {"sweep/s-1"}

    def test_what_only_a_person_may_mend_is_filed_at_once(self) -> None:
        """Mode detect, and an empty profile: nothing is enqueued, so a large organisation costs no second look."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        place = world.aws.region()
        bare, lone = place.create_vpc(), place.launch_instance(profile=world.aws.add_profile(ACCOUNT, "theirs"))

        world.sweep()

        assert [world.hub.state(*key) for key in ((bare, "VPCE.1"), (lone, "ROLE.1"))] == ["FAILED", "FAILED"]
        assert world.calls.made == [*LOOK, "save", "import", "save", "answered"]

    def test_what_people_mended_without_an_event_is_passed(self) -> None:
        """A lost event is made up for."""
        world = World(detect())
        place = world.aws.region()
        vpc_id = place.create_vpc()
        world.sweep()
        place.create_endpoint(vpc_id, place.gateway_services["s3"], [place.main_table(vpc_id)])

        world.sweep()

        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"

    @pytest.mark.parametrize(
        ("policy", "calls"),
        [
            (policy_of(), ["states", "surroundings", "position", "send"]),
            (
                policy_of(VPCE_1=Mode.APPROVE, VPCE_2=Mode.OFF),
                ["states", "surroundings", "position", "save", "import", "save"],
            ),
            (detect(), ["save", "import", "save"]),
        ],
    )
    def test_a_thousand_vpcs_are_one_look(self, policy: Policy, calls: list[str]) -> None:
        """Calls of the ports do not grow with the number of VPCs, whether they are mended or only reported."""
        world = World(policy)
        place = world.aws.region()
        for _ in range(1000):
            place.create_vpc()

        assert world.loop.sweep(ACCOUNT, REGION, "t") == []

        assert world.calls.made == ["open_records", "observe", *calls]
        assert world.aws.observed[0][0].everything
        vpcs, instances, filed, queued = (int(n) for n in re.findall(r"[0-9]+", world.journal.entries[-1].message))
        assert (vpcs, instances, filed + queued) == (1000, 0, 1000)

    def test_it_says_what_it_came_to(self) -> None:
        """The journal counts what was seen, filed and left to the queue, and names the latter."""
        world = World(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.DETECT))
        place = world.aws.region()
        place.create_vpc()
        lone = place.launch_instance()

        world.sweep()

        (entry,) = (entry for entry in world.journal.entries if entry.step == "swept")
        assert entry.message == "looked at 1 VPCs and 1 instances: 2 findings filed, 1 need a closer look"
        assert (entry.fields["account_id"], entry.fields["resource_ids"]) == (ACCOUNT, [lone])

    def test_it_names_at_most_a_hundred(self) -> None:
        """A log line has a limit, a sweep has none."""
        world = World()
        for _ in range(200):
            world.aws.region().create_vpc()
        world.sweep()
        (entry,) = (entry for entry in world.journal.entries if entry.step == "swept")
        names = entry.fields["resource_ids"]
        assert isinstance(names, list)
        assert len(names) == 100
        assert len(world.queue.sent) == 200

    def test_gone_resources_are_archived_and_only_once(self) -> None:
        """The sweep finds what vanished without an event, and files nothing about it ever after."""
        world = World()
        place = world.aws.region()
        vpc_id, instance_id = place.create_vpc(), place.launch_instance()
        world.enqueue(vpc(vpc_id), instance(instance_id))
        world.drain()
        place.delete_vpc(vpc_id)
        place.set_state(instance_id, "terminated")

        world.sweep()

        assert world.hub.state(vpc_id, "VPCE.1") == world.hub.state(vpc_id, "VPCE.2") == "ARCHIVED"
        assert world.hub.state(instance_id, "ROLE.1") == "ARCHIVED"
        world.calls.made.clear()
        world.sweep()
        assert world.calls.made == [*LOOK, "answered"]

    @pytest.mark.parametrize("looked_at", [False, True])
    def test_a_pending_instance_is_enqueued_even_if_its_finding_is_filed(self, *, looked_at: bool) -> None:
        """Should the message that waits be lost, the sweep takes over: there is still something to do."""
        world = World()
        waiting = world.aws.region().launch_instance("pending")
        if looked_at:
            world.loop.run([Work(instance(waiting), "m-1")])
            world.queue.sent.clear()

        world.sweep()

        assert world.queue.sent == [instance(waiting)]

    def test_an_open_finding_is_refreshed_after_a_week(self) -> None:
        """Security Hub drops findings that are not updated: the sweep files an old one again."""
        world = World(detect())
        world.aws.region().create_vpc()
        world.sweep()

        world.clock.advance(findings.REFRESH_AFTER.total_seconds() + 1)
        world.sweep()
        assert len(world.hub.imported) == 2

        world.sweep()
        assert len(world.hub.imported) == 2

    def test_a_control_that_was_switched_off_is_archived_and_on_again_reopened(self) -> None:
        """Deploying another policy is enough: sweeps bring the findings in line, without any event."""
        world = World(detect())
        vpc_id = world.aws.region().create_vpc()
        states = []
        for policy in (detect(), policy_of(VPCE_1=Mode.OFF, VPCE_2=Mode.OFF), detect()):
            world.set_policy(policy)
            world.sweep()
            world.drain()
            states.append(world.hub.state(vpc_id, "VPCE.1"))

        assert states == ["FAILED", "ARCHIVED", "FAILED"]

    def test_a_shared_vpc_is_left_alone(self) -> None:
        """What another account shares is neither changed nor filed."""
        world = World()
        world.aws.region().create_vpc(owner_id=OTHER_ACCOUNT)

        world.sweep()

        assert (world.hub.findings, world.queue.sent) == ({}, [])

    def test_a_sweep_that_people_named_freely_mends_all_the_same(self) -> None:
        """Step Functions allows signs in the name of an execution that STS refuses in a tag."""
        world = World()
        world.aws.region().create_vpc()

        world.sweeper.look(ACCOUNT, REGION, "after-the-outage!(2)")

        assert world.queue.triggers == ["sweep/after-the-outage--2-"]


class Filed:
    """Three places with an open finding on a VPC and an instance each, of which one each vanishes unnoticed."""

    def __init__(self) -> None:
        self.world = World(detect())
        regions = {place: self.world.aws.region(*place) for place in PLACES}
        vpcs = {place: [region.create_vpc(), region.create_vpc()] for place, region in regions.items()}
        instances = {place: [region.launch_instance(), region.launch_instance()] for place, region in regions.items()}
        self.world.sweep(*PLACES)
        for place, region in regions.items():
            region.delete_vpc(vpcs[place][0])
            region.set_state(instances[place][0], "terminated")
        self.gone = {place: {vpcs[place][0], instances[place][0]} for place in PLACES}
        self.before = (told(self.world), deepcopy(self.world.store.records))
        assert {state for _, state in self.before[0].values()} == {"ACTIVE"}
        assert len(self.before[0]) == 12
        self.world.calls.made.clear()

    def archived(self) -> set[str]:
        """Return what has archived findings."""
        return {key[2].rsplit("/", 1)[-1] for key, (_, state) in told(self.world).items() if state == "ARCHIVED"}

    def assert_untouched(self) -> None:
        """Nothing was filed, remembered or enqueued since."""
        assert (told(self.world), self.world.store.records) == self.before
        assert self.world.queue.sent == []
        assert not {"save", "import", "send", "perform"} & set(self.world.calls.made)


REFUSED = ObservationError("observing: UnauthorizedOperation")
BUSY = TransientError("observing: RequestLimitExceeded")
SHUT = NotAdmittedError("the role is missing")
INCOMPLETE = [
    ("observe", REFUSED, False, Problem.DENIED),
    ("observe", REFUSED, True, Problem.DENIED),
    ("observe", BUSY, False, Problem.FAILED),
    ("observe", BUSY, True, Problem.FAILED),
    ("observe", SHUT, False, Problem.ROLE),
    ("open_records", BUSY, False, Problem.FAILED),
]
ONLY_OF_SWEEPS = [
    ("region_enabled", REFUSED, False, Problem.DENIED),
    ("region_enabled", BUSY, False, Problem.FAILED),
    ("region_enabled", SHUT, False, Problem.ROLE),
    ("is_enabled", REFUSED, False, Problem.DENIED),
    ("is_enabled", BUSY, True, Problem.FAILED),
]


class TestIncompleteLooks:
    """What was not seen is not gone: a look that did not end archives nothing, and files nothing at all.

    A call that fails ``after`` it has read stands for the VPCs that could be read, and the instances that could not.
    """

    @pytest.mark.parametrize(("call", "error", "after", "problem"), INCOMPLETE + ONLY_OF_SWEEPS)
    def test_of_a_sweep(self, call: str, error: Exception, problem: Problem, *, after: bool) -> None:
        """The answer says why; the next look that ends archives exactly what is gone in that place."""
        filed = Filed()
        world = filed.world
        world.calls.plan(call, Trouble(error, after=after))

        if problem is Problem.FAILED:
            with pytest.raises(TransientError, match=str(error)):  # so that the state machine tries again
                world.sweep()
        else:
            assert world.sweep() == [Answer("s-2", problem, str(error))]

        filed.assert_untouched()
        known = world.coverage.known[ACCOUNT, REGION]
        assert known.answer == Answer("s-2", problem, str(error))
        assert known.swept_at == START.isoformat(), "the last time that everything was seen"
        assert world.journal.entries[-1].message == f"not covered: {problem} {error}"
        assert world.journal.entries[-1].is_problem
        assert world.sweep() == [Answer("s-3")]
        assert filed.archived() == filed.gone[ACCOUNT, REGION]
        assert {status for status, state in told(world).values() if state == "ACTIVE"} == {"FAILED"}

    @pytest.mark.parametrize(("call", "error", "after", "problem"), INCOMPLETE)
    def test_of_a_target_of_the_queue(self, call: str, error: Exception, problem: Problem, *, after: bool) -> None:
        """The message comes again, or is buried with the reason; then the same."""
        filed = Filed()
        filed.world.calls.plan(call, Trouble(error, after=after))

        answer = filed.world.loop.run([Work(whole(), "m-1")])[whole()]

        assert answer.verdict is (Verdict.BURY if problem is Problem.DENIED else Verdict.RETRY)
        assert answer.reason == str(error)
        filed.assert_untouched()
        assert filed.world.loop.run([Work(whole(), "m-1")])[whole()].verdict is Verdict.DONE
        assert filed.archived() == filed.gone[ACCOUNT, REGION]

    @pytest.mark.parametrize(
        ("stand", "problem"),
        [
            (lambda world: world.aws.switched_off.add((ACCOUNT, REGION)), Problem.REGION_OFF),
            (lambda world: world.hub.switched_off.add((ACCOUNT, REGION)), Problem.SECURITY_HUB),
            (lambda world: world.aws.shut.add(ACCOUNT), Problem.ROLE),
        ],
    )
    def test_where_there_is_nothing_to_look_for(self, stand: Callable[[World], None], problem: Problem) -> None:
        """A Region that is off, no Security Hub, no role: not even looked at, whatever was filed once."""
        filed = Filed()
        stand(filed.world)

        (answer,) = filed.world.sweep()

        assert answer.problem is problem
        assert "observe" not in filed.world.calls.made
        filed.assert_untouched()
        problems = [entry.step for entry in filed.world.journal.entries if entry.is_problem]
        assert problems == ([] if problem is Problem.REGION_OFF else ["uncovered"])

    def test_security_hub_may_be_switched_off_in_the_middle(self) -> None:
        """On when it was asked for, off when it was needed."""
        world = World(detect())
        world.aws.region().create_vpc()
        world.calls.plan("import", Trouble(SecurityHubOffError("off")))

        (answer,) = world.sweep()

        assert answer.problem is Problem.SECURITY_HUB

    def test_other_places_are_swept_as_if_nothing_were(self) -> None:
        """One account that refuses does not keep the others' findings from being true."""
        filed = Filed()
        filed.world.calls.plan("observe", Trouble(REFUSED))

        filed.world.sweep(*PLACES)

        assert filed.archived() == filed.gone[ACCOUNT, OTHER_REGION] | filed.gone[OTHER_ACCOUNT, REGION]

    def test_a_bug_is_not_swallowed(self) -> None:
        """What nobody foresaw fails the invocation, and leaves no answer: the survey misses it."""
        world = World()
        world.calls.plan("observe", Trouble(CrashError()))

        with pytest.raises(CrashError):
            world.sweep()

        assert world.coverage.known == {}


class TestFiling:
    """Findings that Security Hub did not take, or not yet."""

    def bare(self) -> tuple[World, list[str]]:
        """Return a world that only detects, with two bare VPCs."""
        world = World(detect())
        return world, [world.aws.region().create_vpc() for _ in range(2)]

    def states(self, world: World, vpcs: list[str]) -> list[str | None]:
        """Return the states of the VPCs' findings."""
        return [world.hub.state(vpc_id, "VPCE.1") for vpc_id in vpcs]

    def test_one_that_was_refused_for_now_gets_a_closer_look(self) -> None:
        """The queue tries again; the sweep itself is complete."""
        world, vpcs = self.bare()
        world.hub.refuse("InternalException")

        assert world.sweep() == [Answer("s-1")]

        assert self.states(world, vpcs) == [None, "FAILED"]
        assert (world.queue.sent, world.queue.triggers) == ([vpc(vpcs[0])], ["sweep/s-1"])
        world.drain()
        assert self.states(world, vpcs) == ["FAILED", "FAILED"]

    def test_one_that_was_refused_for_good_is_the_sweeps_answer(self) -> None:
        """Everything was seen, the other finding is filed, and the reason is remembered."""
        world, vpcs = self.bare()
        world.hub.refuse("InvalidInput")

        (answer,) = world.sweep()

        assert answer.problem is Problem.REFUSED
        assert "InvalidInput" in answer.detail
        assert self.states(world, vpcs) == [None, "FAILED"]
        assert world.queue.sent == []
        assert world.coverage.known[ACCOUNT, REGION].swept_at

    def test_one_that_was_refused_for_good_buries_a_target_of_the_queue(self) -> None:
        """The alarm on the dead letters tells of it."""
        world, _ = self.bare()
        world.hub.refuse(None, "InvalidInput")
        answer = world.loop.run([Work(whole(), "m-1")])[whole()]
        assert answer.verdict is Verdict.BURY
        assert "Security Hub refused" in answer.reason

    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("call", ["save", "import", "send"])
    def test_a_look_that_was_cut_off_is_repeated(self, call: str, *, after: bool) -> None:
        """Memory, Security Hub or queue fail half-way: the state machine's next attempt makes it right."""
        world, vpcs = self.bare()
        world.aws.region().launch_instance("running")
        world.set_policy(policy_of(VPCE_1=Mode.DETECT, VPCE_2=Mode.OFF))
        world.calls.plan(call, Trouble(TransientError("down"), after=after))

        with pytest.raises(TransientError, match="down"):
            world.sweep()
        assert world.sweep() == [Answer("s-2")]
        world.drain()

        assert self.states(world, vpcs) == ["FAILED", "FAILED"]
        assert world.hub.state("i-0001", "ROLE.1") == "PASSED"

    @pytest.mark.parametrize(("seconds", "again"), [(0, False), (10, False), (10.001, True)])
    @pytest.mark.parametrize("number", range(1, 5))  # of the calls after the first: while it looks, and while it files
    def test_what_a_slow_look_filed_gets_a_closer_one(self, number: int, seconds: float, *, again: bool) -> None:
        """A look that an event caused meanwhile may be over, and have seen something newer; in a quick one it waits."""
        world, vpcs = self.bare()
        place = world.aws.region()
        right = place.create_vpc()
        place.create_endpoint(right, place.gateway_services["s3"], [place.main_table(right)])
        world.calls.meanwhile(number, lambda: world.clock.advance(seconds))

        world.loop.sweep(ACCOUNT, REGION, "t")

        assert self.states(world, [*vpcs, right]) == ["FAILED", "FAILED", None]
        assert world.queue.sent == (sorted(map(vpc, vpcs)) if again else [])

    def test_without_security_hub_a_target_of_the_queue_is_done(self) -> None:
        """Switched off in the middle: coverage tells it, not a dead letter."""
        world, _ = self.bare()
        world.hub.switched_off.add((ACCOUNT, REGION))
        assert world.loop.run([Work(whole(), "m-1")])[whole()].verdict is Verdict.DONE
        assert world.journal.entries[-1].step == "unfiled"
        assert world.journal.entries[-1].is_problem

    def test_the_answer_that_could_not_be_remembered_fails_the_look(self) -> None:
        """The state machine tries again."""
        world, vpcs = self.bare()
        world.calls.plan("answered", Trouble(TransientError("the table is down")))
        with pytest.raises(TransientError, match="the table is down"):
            world.sweep()
        assert self.states(world, vpcs) == ["FAILED", "FAILED"]

    def test_the_memory_of_coverage_is_none_of_a_sweeps_business(self) -> None:
        """In the hub's own place the findings about coverage stay as they are: only the survey judges them."""
        world = World(detect())
        world.directory.accounts = {ACCOUNT}
        world.survey().list()
        world.clock.advance(30 * 3600)
        world.survey().report("s-0")
        before = told(world)

        assert world.sweep((HUB.account_id, HUB.region)) == [Answer("s-1")]

        assert [record.kind for record in world.store.records[HUB.account_id, HUB.region].values()] == [
            Kind.ACCOUNT_REGION
        ]
        assert told(world) == before
