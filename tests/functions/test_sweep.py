"""The sweep function, end to end: one look at everything in an account and Region."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import bootstrap
from portcullis.errors import PolicyError, PortcullisError, TransientError
from portcullis.model import Kind, Target

from tests.functions.conftest import ACCOUNT, ASSUME_DENIED, DENIED, REGION, THROTTLED, forget

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functions.conftest import Function, Hub, Member, Output

# Where nothing was counted, Powertools warns; see the last test.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

LOOK = {"account_id": ACCOUNT, "region": REGION, "sweep_id": "s-1"}
FINE: dict[str, Any] = {"problem": None}


def detect(hub: Hub) -> None:
    """Deploy a policy that changes nothing."""
    policy = json.loads(hub.policy_path.read_text(encoding="utf-8"))
    for control in policy["controls"].values():
        control["mode"] = "off" if control["mode"] == "off" else "detect"
    hub.policy_path.write_text(json.dumps(policy), encoding="utf-8")


def default_vpc(member: Member) -> str:
    """Return the id of the VPC that every account of moto has."""
    (found,) = member.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    return str(found["VpcId"])


def states(member: Member) -> dict[str, tuple[str, str]]:
    """Return compliance and state of the account's findings."""
    return {name: (item["Compliance"]["Status"], item["RecordState"]) for name, item in member.findings().items()}


def test_what_needs_a_change_is_queued(hub: Hub, first: Member, sweep: Function, output: Callable[[], Output]) -> None:
    """Nothing is changed by the look itself; the queue gets a target each, with the sweep as what set it off."""
    vpcs = {first.make_vpc(), default_vpc(first)}
    hub.turn("enabled")

    assert sweep(LOOK) == FINE

    expected = {Target(ACCOUNT, REGION, Kind.VPC, vpc_id): "sweep/s-1" for vpc_id in vpcs}
    assert hub.triggers() == expected
    assert all(first.endpoints(vpc_id) == {} for vpc_id in vpcs)
    assert first.findings() == {}
    written = output()
    (line,) = written.steps("swept")
    assert line["message"] == "looked at 2 VPCs and 0 instances: 0 findings filed, 2 need a closer look"
    assert line["function_name"] == "SweepFunction"
    assert written.counts == {"Looks": 1, "Swept": 1}


def test_what_needs_none_is_filed_and_the_gone_archived(hub: Hub, first: Member, sweep: Function) -> None:
    """In mode detect the look files everything itself; the second one archives what went, and only that.

    What else is remembered of what went is for a closer look to forget.
    """
    detect(hub)
    gone, stays = first.make_vpc(), default_vpc(first)
    assert sweep(LOOK) == FINE
    assert set(states(first).values()) == {("FAILED", "ACTIVE")}
    assert len(states(first)) == 4
    first.ec2.delete_vpc(VpcId=gone)

    assert sweep(LOOK | {"sweep_id": "s-2"}) == FINE

    assert states(first) == {
        f"{control} {vpc_id}": ("NOT_AVAILABLE", "ARCHIVED") if vpc_id == gone else ("FAILED", "ACTIVE")
        for control in ("VPCE.1", "VPCE.2")
        for vpc_id in (gone, stays)
    }
    assert hub.queued() == {Target(ACCOUNT, REGION, Kind.VPC, gone)}


def test_a_look_that_is_slower_than_the_queue_has_what_it_filed_looked_at_again(
    hub: Hub, first: Member, sweep: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a queue that does not delay, every look is slow: events in the middle of it may have been handled."""
    detect(hub)
    monkeypatch.setenv("QUEUE_DELAY_SECONDS", "0")

    assert sweep(LOOK) == FINE

    assert hub.queued() == {Target(ACCOUNT, REGION, Kind.VPC, default_vpc(first))}


def test_how_it_ended_is_remembered(hub: Hub, first: Member, sweep: Function) -> None:  # noqa: ARG001 - has to exist
    """The survey reads it at the end of the sweep."""
    sweep(LOOK)

    (known,) = (record for record in hub.records() if record["pk"] == "coverage")
    assert (known["sk"], known["sweep_id"], known["problem"]) == (f"{ACCOUNT}#{REGION}", "s-1", "")
    assert known["swept_at"] == known["since"]


PAGED = {
    "DescribeRouteTables": "routeTableSet",
    "DescribeVpcEndpoints": "vpcEndpointSet",
    "DescribeVpcs": "vpcSet",
    "DescribeInstances": "reservationSet",
    "DescribeIamInstanceProfileAssociations": "iamInstanceProfileAssociationSet",
}
# Each call, and each call after a page (an empty one, as EC2 may give) that is not the last.
READS = [
    *((f"ec2.{operation}", None) for operation in PAGED),
    *(
        (f"ec2.{name}", f"<{name}Response><{key}/><nextToken>t</nextToken></{name}Response>")
        for name, key in PAGED.items()
    ),
    ("ec2.DescribeVpcEndpointServices", None),
    ("iam.GetInstanceProfile", None),
]


@pytest.mark.parametrize("read", READS, ids=[f"{name}{' 2' * bool(p)}" for name, p in READS])
@pytest.mark.parametrize("refusal", [(DENIED, "denied"), (THROTTLED, "failed")], ids=["denied", "throttled"])
def test_a_look_that_did_not_end_files_nothing(
    hub: Hub,
    first: Member,
    sweep: Function,
    refuse: Callable[..., None],
    *,
    read: tuple[str, str | None],
    refusal: tuple[str, str],
) -> None:
    """Whichever page of whichever call is refused, others being readable: nothing seems gone, right or wrong."""
    (operation, first_page), (body, problem) = read, refusal
    detect(hub)
    gone = first.make_vpc()
    sweep(LOOK)
    first.ec2.delete_vpc(VpcId=gone)
    first.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
    before = (states(first), [record for record in hub.records() if record["pk"] != "coverage"])
    if operation.startswith("iam"):
        body = body.replace("<Response><Errors>", "<ErrorResponse>").replace("</Errors>", "").replace(
            "</Response>", "</ErrorResponse>").replace("UnauthorizedOperation", "AccessDenied").replace(
            "RequestLimitExceeded", "Throttling")  # fmt: skip
    refuse(operation, 403 if problem == "denied" else 503, body, first=first_page)
    forget()

    if problem == "failed":
        with pytest.raises(TransientError, match=f"observing {ACCOUNT} {REGION}: "):
            sweep(LOOK | {"sweep_id": "s-2"})
    else:
        assert sweep(LOOK | {"sweep_id": "s-2"}) == {"problem": problem}

    assert (states(first), [record for record in hub.records() if record["pk"] != "coverage"]) == before
    assert hub.queued() == set()
    (known,) = (record for record in hub.records() if record["pk"] == "coverage")
    assert (known["sweep_id"], known["problem"]) == ("s-2", problem)
    assert known["detail"].startswith(f"observing {ACCOUNT} {REGION}: ")


REGION_OFF = (
    f"<DescribeRegionsResponse><requestId>r</requestId><regionInfo><item><regionName>{REGION}</regionName>"
    "<optInStatus>not-opted-in</optInStatus></item></regionInfo></DescribeRegionsResponse>"
)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (("ec2.DescribeRegions", 200, REGION_OFF), "region-off"),
        (("ec2.DescribeRegions", 403, DENIED), "denied"),
        (("securityhub.DescribeHub", 403, '{"__type": "AccessDeniedException", "Message": "no"}'), "denied"),
        (("sts.AssumeRole", 403, ASSUME_DENIED), "role"),
    ],
    ids=["Region off", "Regions denied", "hub denied", "no role"],
)
def test_what_stands_in_the_way_is_the_answer(
    hub: Hub, first: Member, sweep: Function, refuse: Callable[..., None],
    *, answer: tuple[str, int, str], problem: str,
) -> None:  # fmt: skip
    """Nothing is looked at then, and nothing is filed."""
    first.make_vpc()
    refuse(*answer)

    assert sweep(LOOK) == {"problem": problem}

    assert (hub.queued(), first.findings()) == (set(), {})


def test_without_security_hub_nothing_is_looked_for(
    hub: Hub, first: Member, sweep: Function, output: Callable[[], Output]
) -> None:
    """What cannot be filed is not changed either; that it is so is a problem in the log."""
    first.make_vpc()
    first.securityhub.disable_security_hub()

    assert sweep(LOOK) == {"problem": "security-hub"}

    assert hub.queued() == set()
    (line,) = output().steps("uncovered")
    assert (line["level"], line["message"]) == ("WARNING", "not covered: security-hub")
    assert (line["account_id"], line["region"]) == (ACCOUNT, REGION)


NEEDED = (
    "WORK_QUEUE_URL",
    "QUEUE_DELAY_SECONDS",
    "PARTITION",
    "OBSERVER_ROLE_NAME",
    "REMEDIATOR_ROLE_NAME",
    "TABLE_NAME",
    "POLICY_PATH",
    "KILL_SWITCH_NAME",
    "WORK_QUEUE_ARN",
    "LOOKS_ROLE_ARN",
)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.usefixtures("hub", "first")
def test_a_missing_variable_is_named(sweep: Function, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The invocation fails with a sentence that says which."""
    monkeypatch.delenv(name)

    with pytest.raises(PortcullisError, match=rf"^the environment variable {name} is not set; template\.yaml sets it$"):
        sweep(LOOK)


def test_the_dead_letters_are_none_of_its_business(hub: Hub) -> None:
    """It receives no messages, so it has none to bury."""
    assert set(NEEDED) == set(hub.environment("SweepFunction")) - {"POWERTOOLS_LOG_LEVEL", "AWS_STS_REGIONAL_ENDPOINTS"}


def test_a_policy_that_cannot_be_used_stops_it(hub: Hub, first: Member, sweep: Function) -> None:
    """Without a policy there is no finding: the look fails, and the survey misses its answer."""
    hub.policy_path.write_text("{}", encoding="utf-8")
    first.make_vpc()

    with pytest.raises(PolicyError):
        sweep(LOOK)

    assert (first.findings(), hub.records(), hub.queued()) == ({}, [], set())


@pytest.mark.usefixtures("first")
def test_the_function_is_wired_once(sweep: Function) -> None:
    """A warm invocation reuses clients, credentials and policy: the next account is a matter of milliseconds."""
    sweep(LOOK)
    wired = bootstrap.sweep()

    sweep(LOOK)

    assert bootstrap.sweep() is wired


@pytest.mark.usefixtures("first")
def test_a_look_that_takes_no_step_writes_no_warning(sweep: Function, refuse: Callable[..., None]) -> None:
    """A Region that is off is no event: nothing unstructured in the log."""
    refuse("ec2.DescribeRegions", 200, REGION_OFF)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sweep(LOOK) == {"problem": "region-off"}
