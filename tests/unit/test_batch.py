"""What the two functions do with a batch: nothing is lost, and one message does not hold up another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import work
from portcullis.batch import ATTEMPTS, backoff_seconds
from portcullis.errors import ObservationError, TransientError
from portcullis.model import Caller, Cause, Conflict, Work
from portcullis.policy import Mode

from tests.fakes import (
    ACCOUNT,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    REMEDIATOR_ROLE,
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
    from portcullis.model import Target


CAUSE = Cause("CreateVpc/e-1", Caller.TERRAFORM)


def message(name: str, body: str, receives: int = 1) -> dict[str, Any]:
    """Return a record of a Lambda event from SQS."""
    attributes = {"ApproximateReceiveCount": str(receives)}
    return {"messageId": name, "receiptHandle": f"handle-{name}", "body": body, "attributes": attributes}


def failures(*names: str) -> dict[str, Any]:
    """Return the partial batch response with these failures."""
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}


def world_with_event() -> tuple[World, str, Target]:
    """Return a world in which somebody made a VPC, the event about it, and its target."""
    world = World()
    vpc_id = world.aws.region().create_vpc()
    return world, json.dumps(world.aws.events[0]), vpc(vpc_id)


class TestIntake:
    """Events become targets on the work queue."""

    def test_equal_targets_of_a_batch_are_enqueued_once(self) -> None:
        """Two events about one VPC are one target."""
        world, event, target = world_with_event()

        response = world.intake.handle([message("a", event), message("b", event)])

        assert response == failures()
        assert (world.queue.sent, world.queue.triggers) == ([target], ["CreateVpc/event-0001"])
        assert world.journal.steps() == ["queued"]
        assert world.journal.entries[0].fields["trigger"] == "CreateVpc/event-0001"
        assert world.journal.entries[0].message == f"look at vpc {target.resource_id}"

    def test_an_account_region_target_reads_well_in_the_journal(self) -> None:
        """There is no id, and no blank at the end."""
        world = World()
        place = world.aws.region()
        place.delete_endpoint(place.create_endpoint(place.create_vpc(), place.gateway_services["s3"], []))
        world.intake.handle([message("a", json.dumps(world.aws.events[-1]))])
        assert world.journal.entries[0].message == "look at account-region"

    @pytest.mark.parametrize("body", ["not JSON", "[]", "{}", '"text"', "", "null", "[" * 100_000], ids=range(7))
    def test_an_unreadable_event_is_buried_at_once_and_the_others_are_enqueued(self, body: str) -> None:
        """One bad event costs nothing: it goes to the dead letters with the reason, the rest goes on."""
        world, event, target = world_with_event()

        response = world.intake.handle([message("bad", body), message("good", event)])

        assert response == failures()
        ((buried, reason),) = world.dead_letters.buried
        assert buried == body
        assert reason
        assert world.queue.sent == [target]
        assert world.journal.entries[0].is_problem

    def test_when_the_work_queue_is_down_the_whole_batch_comes_again(self) -> None:
        """No event is acknowledged whose target was not taken."""
        world, event, target = world_with_event()
        world.calls.plan("send", Trouble(TransientError("down")))
        batch = [message("a", event), message("b", event)]

        assert world.intake.handle(batch) == failures("a", "b")
        assert world.queue.waiting == []
        assert world.intake.handle(batch) == failures()
        assert [work.decode(queued.body, "m").target for queued in world.queue.waiting] == [target]

    def test_an_event_that_was_buried_does_not_come_again(self) -> None:
        """With the work queue down, the readable events come again; the buried one is in the dead letters once."""
        world, event, _ = world_with_event()
        world.calls.plan("send", Trouble(TransientError("down")))

        assert world.intake.handle([message("bad", "{}"), message("good", event)]) == failures("good")

    def test_an_event_that_could_not_be_buried_is_not_acknowledged(self) -> None:
        """It is delivered again, and alone: the other event of the batch is enqueued."""
        world, event, target = world_with_event()
        world.calls.plan("bury", Trouble(TransientError("down")))

        assert world.intake.handle([message("bad", "{}"), message("good", event)]) == failures("bad")
        assert world.queue.sent == [target]

    def test_an_event_that_does_not_concern_us_is_acknowledged(self) -> None:
        """It costs no call at all."""
        world, event, _ = world_with_event()

        assert world.intake.handle([message("a", event.replace("aws.ec2", "aws.s3"))]) == failures()
        assert world.calls.made == []

    def test_our_own_calls_are_no_news(self) -> None:
        """The events of what the remediator did lead nowhere: no loop of reactions."""
        world, event, _ = world_with_event()
        world.intake.handle([message("a", event)])
        world.drain()
        sent = len(world.queue.sent)

        for number, ours in enumerate(world.aws.events[1:]):
            world.intake.handle([message(str(number), json.dumps(ours))])

        assert len(world.aws.events) == 3
        assert len(world.queue.sent) == sent

    @pytest.mark.parametrize("name", ["CreateVpcEndpoint", "ModifyVpcEndpoint", "DeleteVpcEndpoints"])
    @pytest.mark.parametrize("error", [{}, {"errorCode": "Client.RouteAlreadyExists"}])
    def test_our_own_calls_are_counted(self, name: str, error: dict[str, str]) -> None:
        """Whatever the remediator does makes a step that an alarm counts, and nothing else."""
        world, event, _ = world_with_event()
        ours = json.loads(event)
        issuer = {"type": "Role", "userName": REMEDIATOR_ROLE}
        identity = {"type": "AssumedRole", "sessionContext": {"sessionIssuer": issuer}}
        ours["detail"] |= {"eventName": name, "eventID": "e-1", "userIdentity": identity} | error

        assert world.intake.handle([message("a", json.dumps(ours))]) == failures()

        (own,) = world.journal.entries
        assert (own.step, own.is_problem) == ("own", False)
        assert own.fields == {"account_id": ACCOUNT, "region": REGION, "trigger": f"{name}/e-1"}
        assert world.calls.made == []

    def test_one_batch_tells_a_target_each_kind_of_cause_once(self) -> None:
        """Two kinds of callers and a failed call, each several times: three messages about one VPC."""
        world, event, target = world_with_event()
        request = {"ServiceName": "s3", "VpcId": target.resource_id, "RouteTableId": "rtb-0"}
        failed: dict[str, object] = {
            "eventName": "CreateVpcEndpoint",
            "requestParameters": {"CreateVpcEndpointRequest": request},
            "errorCode": "Client.RouteAlreadyExists",
        }
        details = [{"userAgent": "Terraform/1"}, {"userAgent": "console.amazonaws.com"}, failed]
        batch = [
            message(
                f"{repeat}-{number}", json.dumps(json.loads(event) | {"detail": json.loads(event)["detail"] | detail})
            )
            for repeat in range(2)
            for number, detail in enumerate(details)
        ]

        assert world.intake.handle(batch) == failures()

        causes = [work.decode(queued.body, "m").cause for queued in world.queue.waiting]
        assert world.queue.sent == [target] * 3
        assert [cause.caller for cause in causes] == [Caller.TERRAFORM, Caller.CONSOLE, Caller.OTHER]
        conflict = Conflict("CreateVpcEndpoint", service_name="s3", route_table_ids=("rtb-0",))
        assert [cause.conflict for cause in causes] == [None, None, conflict]
        assert [entry.fields["failed"] for entry in world.journal.entries] == [None, None, "CreateVpcEndpoint"]

    def test_what_set_it_off_reaches_the_change(self) -> None:
        """From the event's name and id in CloudTrail to the work in whose name the remediator acts."""
        world, event, target = world_with_event()

        world.intake.handle([message("a", event)])
        world.drain()

        assert {performed for performed, _ in world.aws.performed} == {
            Work(target, "m-1", Cause("CreateVpc/event-0001", Caller.OTHER))
        }


def heartbeat(account_id: str = ACCOUNT, detail: dict[str, Any] | None = None) -> str:
    """Return the event that a member's schedule sends."""
    kind = {"source": "portcullis", "detail-type": "Portcullis Heartbeat", "id": "beat-1"}
    return json.dumps(kind | {"account": account_id, "region": REGION, "detail": detail or {}})


FORGED: dict[str, Any] = {
    "account": OTHER_ACCOUNT,
    "region": OTHER_REGION,
    "recipientAccountId": OTHER_ACCOUNT,
    "awsRegion": OTHER_REGION,
    "userIdentity": {
        "type": "AssumedRole",
        "accountId": OTHER_ACCOUNT,
        "arn": f"arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/admin/x",
        "sessionContext": {"sessionIssuer": {"type": "Role", "accountId": OTHER_ACCOUNT, "userName": "admin"}},
    },
    "resources": [{"accountId": OTHER_ACCOUNT, "ARN": f"arn:aws:ec2:{OTHER_REGION}:{OTHER_ACCOUNT}:vpc/vpc-0001"}],
    "sharedEventID": "x",
    "vpcEndpointAccountId": OTHER_ACCOUNT,
}
"""Whatever a record may claim about accounts and Regions."""


class TestHeartbeats:
    """A heartbeat shows that a place's events arrive; the first ones bring its first look."""

    def test_the_first_one_is_noted_and_brings_a_look_at_everything(self) -> None:
        """Who has just joined does not wait for the next sweep: what is there already is mended."""
        world = World()
        vpc_id = world.aws.region().create_vpc()

        assert world.intake.handle([message("a", heartbeat())]) == failures()

        assert (world.queue.sent, world.queue.triggers) == ([whole()], ["Portcullis-Heartbeat/beat-1"])
        assert world.coverage.known[ACCOUNT, REGION].heartbeat_at == START.isoformat()
        assert world.journal.steps() == ["heard", "queued"]
        world.drain()
        assert world.hub.state(vpc_id, "VPCE.1") == "PASSED"
        assert {performed.cause.trigger for performed, _ in world.aws.performed} == {"Portcullis-Heartbeat/beat-1"}

    def test_where_a_sweep_has_looked_it_is_only_noted(self) -> None:
        """Twice a day, everywhere: it costs one write, no look."""
        world = World()
        world.sweep()
        world.clock.advance(3600)

        assert world.intake.handle([message("a", heartbeat())]) == failures()

        assert world.queue.sent == []
        assert world.coverage.known[ACCOUNT, REGION].heartbeat_at == world.clock.now().isoformat()

    def test_a_sweep_that_saw_nothing_is_no_look(self) -> None:
        """The role was missing when the sweep came; the heartbeat says that the stacks are there now."""
        world = World()
        world.aws.shut.add(ACCOUNT)
        world.sweep()

        world.intake.handle([message("a", heartbeat())])

        assert world.queue.sent == [whole()]

    def test_what_it_claims_about_itself_is_ignored(self) -> None:
        """Account and Region are those of the envelope, which EventBridge writes."""
        world = World()
        forged = FORGED | {"eventSource": "ec2.amazonaws.com", "eventName": "DeleteVpc"}
        forged |= {"requestParameters": {"vpcId": "vpc-0001"}, "instance-id": "i-0001", "heartbeat_at": "2099-01-01"}

        assert world.intake.handle([message("a", heartbeat(detail=forged))]) == failures()

        assert list(world.coverage.known) == [(ACCOUNT, REGION)]
        assert world.coverage.known[ACCOUNT, REGION].heartbeat_at == START.isoformat()
        assert world.queue.sent == [whole()]

    def test_what_it_claims_to_have_been_set_off_by_is_ignored(self) -> None:
        """A member may write its own heartbeats: session tags must not blame a call that nobody made."""
        world = World()

        world.intake.handle([message("a", heartbeat(detail={"eventName": "TerminateInstances", "eventID": "e-1"}))])

        assert world.queue.triggers == ["Portcullis-Heartbeat/beat-1"]

    @pytest.mark.parametrize(("source", "kind"), [("aws.ec2", None), ("custom", None), (None, "Portcullis Something")])
    def test_another_event_is_no_heartbeat(self, source: str | None, kind: str | None) -> None:
        """Both the source and the kind have to be ours."""
        world = World()
        event = json.loads(heartbeat())
        event |= {"source": source or event["source"], "detail-type": kind or event["detail-type"]}

        assert world.intake.handle([message("a", json.dumps(event))]) == failures()

        assert world.calls.made == []

    @pytest.mark.parametrize("after", [False, True])
    def test_with_the_table_down_it_comes_again_and_nothing_else_does(self, *, after: bool) -> None:
        """Of two heartbeats and a call, the heartbeat that could not be noted is delivered again, alone."""
        world, event, target = world_with_event()
        world.calls.plan("heard", Trouble(TransientError("the table is down"), after=after))
        batch = [message("a", heartbeat()), message("b", event), message("c", heartbeat(OTHER_ACCOUNT))]

        assert world.intake.handle(batch) == failures("a")

        assert world.queue.sent == [target, whole(OTHER_ACCOUNT)]
        assert world.dead_letters.buried == []
        assert world.journal.entries[0].message == "a heartbeat could not be noted: the table is down"
        assert world.intake.handle(batch[:1]) == failures()
        assert world.queue.sent[2:] == [whole()]

    def test_with_the_queue_down_it_comes_again(self) -> None:
        """Noting it twice is harmless; the look that it should bring is not lost."""
        world = World()
        world.calls.plan("send", Trouble(TransientError("down")))

        assert world.intake.handle([message("a", heartbeat())]) == failures("a")
        assert world.intake.handle([message("a", heartbeat())]) == failures()
        assert world.queue.sent == [whole()]

    def test_one_that_cannot_be_read_is_buried(self) -> None:
        """An account that is none never becomes a place."""
        world = World()

        assert world.intake.handle([message("a", heartbeat("*"))]) == failures()

        assert [body for body, _ in world.dead_letters.buried] == [heartbeat("*")]
        assert world.coverage.known == {}


class TestForgedEvents:
    """Account and Region are those of the envelope, all the way to what is read, changed and filed."""

    @pytest.mark.parametrize("forged", [{name: value} for name, value in FORGED.items()] + [FORGED])
    @pytest.mark.parametrize("number", range(6))
    def test_nothing_happens_in_a_place_that_only_the_detail_names(self, forged: dict[str, Any], number: int) -> None:
        """An event of one account that names another's resources: only the first account is looked at and changed."""
        world = World()
        place, victim = world.aws.region(), world.aws.region(OTHER_ACCOUNT, OTHER_REGION)
        own, theirs = place.create_vpc(), victim.create_vpc()
        bare = victim.launch_instance()
        endpoint = place.create_endpoint(own, place.gateway_services["s3"], [place.main_table(own)])
        place.delete_endpoint(endpoint)
        owner = {"vpc": {"vpcId": theirs, "ownerId": OTHER_ACCOUNT}}
        events = [
            {"eventName": "CreateVpc", "responseElements": owner},
            {"eventName": "DeleteVpc", "requestParameters": {"vpcId": theirs}},
            {
                "eventName": "TerminateInstances",
                "responseElements": {"instancesSet": {"items": [{"instanceId": bare}]}},
            },
            {"eventName": "DeleteVpcEndpoints", "requestParameters": {"VpcEndpointId": endpoint}},
            {"eventName": "CreateSubnet", "requestParameters": {"vpcId": own}, "responseElements": owner},
            {"eventName": "CreateRouteTable", "requestParameters": {"vpcId": own}},
        ]
        detail = {"eventSource": "ec2.amazonaws.com"} | events[number] | forged
        body = json.dumps(world.aws.events[0] | {"detail": detail})

        assert world.intake.handle([message("a", body)]) == failures()
        world.drain()

        assert world.queue.sent
        assert {(target.account_id, target.region) for target in world.queue.sent} == {(ACCOUNT, REGION)}
        assert {(scope.account_id, scope.region) for scope, _ in world.aws.observed} == {(ACCOUNT, REGION)}
        assert {(w.target.account_id, w.target.region) for w, _ in world.aws.performed} <= {(ACCOUNT, REGION)}
        assert {(account_id, region) for account_id, region, _ in world.hub.findings} <= {(ACCOUNT, REGION)}
        assert victim.endpoints == {}
        assert victim.instances[bare].profile is None
        assert world.dead_letters.buried == []


class TestReconcile:
    """Targets are brought to where the policy wants them."""

    def test_a_target_that_is_done_is_acknowledged(self) -> None:
        """The VPC is mended, the message is not delivered again."""
        world, _, target = world_with_event()

        assert world.reconcile.handle([message("a", work.encode(target, CAUSE))]) == failures()
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "PASSED"

    def test_a_retry_is_postponed_and_reported(self) -> None:
        """The message stays invisible for its backoff, by its receipt handle, and is in batchItemFailures."""
        world, _, target = world_with_event()
        world.calls.plan("observe", Trouble(TransientError("Throttling")))

        response = world.reconcile.handle([message("a", work.encode(target, CAUSE), receives=3)])

        assert response == failures("a")
        assert world.queue.postponed == [20]
        (told,) = (entry for entry in world.journal.entries if entry.step == "retry")
        assert told.message == "Throttling; again in 20 s"
        assert told.fields["resource_id"] == target.resource_id

    def test_what_waiting_does_not_mend_is_buried_with_the_reason(self) -> None:
        """It goes to the dead letters now, not after eight deliveries, and is acknowledged."""
        world, _, target = world_with_event()
        world.calls.plan("observe", Trouble(ObservationError("AccessDenied: no such role")))

        assert world.reconcile.handle([message("a", work.encode(target, CAUSE))]) == failures()
        assert world.dead_letters.buried == [(work.encode(target, CAUSE), "AccessDenied: no such role")]
        assert world.dead_letters.groups == [target.key], "a redrive must keep the order per target"
        assert world.queue.postponed == []

    def test_the_last_retry_is_a_burial_with_the_reason(self) -> None:
        """Before the queue would give the message up without saying why."""
        world, _, target = world_with_event()
        world.calls.plan("observe", *[Trouble(TransientError("Throttling"))] * 2)
        body = work.encode(target, CAUSE)

        assert world.reconcile.handle([message("a", body, receives=ATTEMPTS - 1)]) == failures("a")
        assert world.reconcile.handle([message("a", body, receives=ATTEMPTS)]) == failures()
        assert world.dead_letters.buried == [(body, "Throttling")]

    def test_a_message_that_could_not_be_postponed_is_delivered_again_all_the_same(self) -> None:
        """It comes back when the queue's own timeout ends; the rest of the batch is answered as if nothing was."""
        world, _, target = world_with_event()
        elsewhere = vpc(world.aws.region(name=OTHER_REGION).create_vpc(), region=OTHER_REGION)
        world.calls.plan("observe", Trouble(TransientError("Throttling")))
        world.calls.plan("postpone", Trouble(TransientError("the queue is down")))

        response = world.reconcile.handle(
            [message("a", work.encode(target, CAUSE)), message("b", work.encode(elsewhere, CAUSE))]
        )

        assert response == failures("a")
        assert world.hub.state(str(elsewhere.resource_id), "VPCE.1") == "PASSED"

    def test_a_message_that_could_not_be_buried_is_delivered_again(self) -> None:
        """Readable or not: while the dead letters do not take it, it is not acknowledged."""
        world, _, target = world_with_event()
        world.calls.plan("observe", Trouble(ObservationError("AccessDenied")))
        world.calls.plan("bury", *[Trouble(TransientError("down"))] * 2)

        response = world.reconcile.handle([message("bad", "{}"), message("a", work.encode(target, CAUSE))])

        assert response == failures("bad", "a")
        assert world.dead_letters.buried == []

    def test_messages_of_one_target_share_its_answer(self) -> None:
        """Both messages about the VPC come again; the one about another Region is done."""
        world, _, target = world_with_event()
        elsewhere = vpc(world.aws.region(name=OTHER_REGION).create_vpc(), region=OTHER_REGION)
        world.calls.plan("observe", Trouble(TransientError("Throttling")))
        batch = [message("a", work.encode(target, CAUSE)), message("b", work.encode(target, CAUSE), receives=2)]

        response = world.reconcile.handle([*batch, message("c", work.encode(elsewhere, CAUSE))])

        assert response == failures("a", "b")
        assert world.queue.postponed == [5, 10]
        assert world.hub.state(str(elsewhere.resource_id), "VPCE.1") == "PASSED"

    def test_an_unreadable_message_does_not_hold_up_the_others(self) -> None:
        """It is buried, the target beside it is mended."""
        world, _, target = world_with_event()

        assert world.reconcile.handle([message("bad", "{}"), message("a", work.encode(target, CAUSE))]) == failures()
        assert [body for body, _ in world.dead_letters.buried] == ["{}"]
        assert world.hub.state(str(target.resource_id), "VPCE.1") == "PASSED"

    def test_message_and_trigger_accompany_the_change(self) -> None:
        """The idempotency of a create hangs on an id that redelivery keeps; people look for the trigger."""
        world, _, target = world_with_event()

        world.reconcile.handle([message("m-77", work.encode(target, CAUSE))])

        assert {performed for performed, _ in world.aws.performed} == {Work(target, "m-77", CAUSE)}

    def test_a_bug_fails_the_whole_batch(self) -> None:
        """What nobody foresaw is not acknowledged."""
        world, _, target = world_with_event()
        world.calls.plan("load", Trouble(CrashError()))

        with pytest.raises(CrashError):
            world.reconcile.handle([message("a", work.encode(target, CAUSE))])

    def test_a_target_that_waits_is_acknowledged_and_sent_anew(self) -> None:
        """Waiting is not failing: it does not count towards the dead letters."""
        world = World(policy_of(VPCE_1=Mode.OFF, VPCE_2=Mode.OFF))
        target = instance(world.aws.region().launch_instance("pending"))

        assert world.reconcile.handle([message("a", work.encode(target, Cause("RunInstances/e-1")))]) == failures()
        assert (world.queue.sent, world.queue.triggers) == ([target], ["RunInstances/e-1"])


@pytest.mark.parametrize(("receives", "seconds"), [(1, 5), (2, 10), (3, 20), (7, 320), (8, 640), (9, 900), (99, 900)])
def test_the_backoff_doubles_up_to_fifteen_minutes(receives: int, seconds: int) -> None:
    """Five seconds first; never more than SQS or patience allow."""
    assert backoff_seconds(receives) == seconds
