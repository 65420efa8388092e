"""The beginning and the end of a sweep: what is listed, who is judged, and the findings about those who are missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import survey as survey_module
from portcullis.errors import ObservationError, PortcullisError, TransientError

from tests.fakes import (
    ACCOUNT,
    HUB,
    MANAGEMENT_ACCOUNT,
    OTHER_ACCOUNT,
    OTHER_REGION,
    REGION,
    Trouble,
    World,
    policy_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

THIRD_ACCOUNT = "777788889999"
HOUR = 3600
DAY = 24 * HOUR


def beat(world: World, account_id: str = ACCOUNT, region: str = REGION) -> None:
    """Let a member's schedule send a heartbeat, which Intake gets."""
    kind = {"source": "portcullis", "detail-type": "Portcullis Heartbeat", "id": "beat-1"}
    body = json.dumps(kind | {"account": account_id, "region": region, "detail": {}})
    assert world.intake.handle([{"messageId": "b", "body": body}]) == {"batchItemFailures": []}


def places(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a page lists."""
    return [(item["account_id"], item["region"]) for item in answer["items"]]


def organisation(*accounts: str) -> World:
    """Return a world in which these accounts are governed."""
    world = World(policy_of())
    world.directory.accounts = set(accounts)
    return world


def finding(world: World, account_id: str = ACCOUNT, region: str = REGION) -> dict[str, Any] | None:
    """Return the finding about a place."""
    return world.hub.findings.get(
        (HUB.account_id, HUB.region, f"portcullis/COVERAGE.1/AWS::::Account:{account_id}/{region}")
    )


def state(world: World, account_id: str = ACCOUNT, region: str = REGION) -> str | None:
    """Return FAILED, PASSED or ARCHIVED of the finding about a place; None when there is none."""
    found = finding(world, account_id, region)
    if found is None:
        return None
    return "ARCHIVED" if found["RecordState"] == "ARCHIVED" else str(found["Compliance"]["Status"])


class TestList:
    """What a sweep looks at: all that is governed, and whatever else takes part."""

    def test_every_active_account_in_every_governed_region(self) -> None:
        """All are noted as governed, and listed in order."""
        world = organisation(OTHER_ACCOUNT, ACCOUNT)

        answer = world.survey(OTHER_REGION, REGION).list()

        expected = [
            (account_id, region) for account_id in (ACCOUNT, OTHER_ACCOUNT) for region in (REGION, OTHER_REGION)
        ]
        assert (places(answer), answer["after"]) == (expected, "")
        assert set(world.coverage.known) == set(expected)
        assert all(one.listed for one in world.coverage.known.values())

    def test_an_organisation_without_accounts(self) -> None:
        """Wrong ids must not read as if all were well: the sweep fails, and nothing is forgotten."""
        world = organisation(ACCOUNT)
        world.survey().list()
        world.directory.accounts.clear()

        with pytest.raises(PortcullisError, match="TargetOrganizationalUnitIds"):
            world.survey().list()

        assert list(world.coverage.known) == [(ACCOUNT, REGION)]

    @pytest.mark.parametrize(("accounts", "sizes"), [(1, [1]), (2, [2]), (3, [2, 1]), (4, [2, 2]), (5, [2, 2, 1])])
    def test_a_long_list_comes_in_pages(self, monkeypatch: pytest.MonkeyPatch, accounts: int, sizes: list[int]) -> None:
        """Every place is on exactly one page, no page is empty, and only the first one writes."""
        monkeypatch.setattr(survey_module, "PAGE", 2)
        world = organisation(*(f"{number:012}" for number in range(accounts)))
        survey, after = world.survey(), ""
        pages: list[list[tuple[str, str]]] = []

        while not pages or after:
            answer = survey.list(after)
            pages.append(places(answer))
            after = answer["after"]

        assert [len(page) for page in pages] == sizes
        assert [place for page in pages for place in page] == sorted(world.coverage.known)
        assert world.calls.counts()["list_place"] == accounts

    def test_pages_survive_a_change_in_between(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The account on which a page ended leaves, and one joins: nobody else is skipped, and nothing is noted."""
        monkeypatch.setattr(survey_module, "PAGE", 2)
        world = organisation("000000000001", "000000000003", "000000000005")
        first = world.survey().list()
        world.directory.accounts = {"000000000001", "000000000002", "000000000005"}

        second = world.survey().list(first["after"])

        assert [account_id for account_id, _ in places(first)] == ["000000000001", "000000000003"]
        assert [account_id for account_id, _ in places(second)] == ["000000000005"]
        assert second["after"] == ""
        assert {account_id for account_id, _ in world.coverage.known} == {f"{number:012}" for number in (1, 3, 5)}

    def test_additional_accounts_are_governed_like_all_others(self) -> None:
        """The management account, say: named by hand, listed once even if it is below a target unit, too."""
        world = organisation(ACCOUNT)

        answer = world.survey(more_accounts=[MANAGEMENT_ACCOUNT, ACCOUNT]).list()

        assert places(answer) == [(MANAGEMENT_ACCOUNT, REGION), (ACCOUNT, REGION)]
        assert world.coverage.known[MANAGEMENT_ACCOUNT, REGION].listed

    def test_who_is_not_governed_is_not_swept(self) -> None:
        """Its heart beats, and nobody listed it: each heartbeat is answered with a look, a sweep leaves it alone."""
        world = organisation(ACCOUNT)
        beat(world, OTHER_ACCOUNT)

        assert places(world.survey().list()) == [(ACCOUNT, REGION)]
        assert list(world.coverage.known) == [(ACCOUNT, REGION)]

    @pytest.mark.parametrize("error", [TransientError("busy"), TransientError("AccessDenied")])
    def test_an_organisation_that_does_not_answer_forgets_nobody(self, error: Exception) -> None:
        """The state machine tries again; what is known stays."""
        world = organisation(ACCOUNT)
        world.survey().list()
        before = dict(world.coverage.known)
        world.calls.plan("active_accounts", Trouble(error))

        with pytest.raises(TransientError, match=str(error)):
            world.survey().list()
        assert world.coverage.known == before


class TestLeaving:
    """Accounts that are suspended, closed, or moved out of the target units are no longer listed as active there."""

    def missed(self) -> World:
        """Return a world in which two accounts never took part, and both have a finding."""
        world = organisation(ACCOUNT, OTHER_ACCOUNT)
        world.aws.shut = {ACCOUNT, OTHER_ACCOUNT}
        world.survey().list()
        world.clock.advance(2 * DAY)
        assert world.sweep_organisation() == {"absent": 2}
        assert [state(world, account_id) for account_id in (ACCOUNT, OTHER_ACCOUNT)] == ["FAILED", "FAILED"]
        return world

    def test_one_that_left_is_forgotten_and_its_finding_archived(self) -> None:
        """And only its: the other's stays open."""
        world = self.missed()
        world.directory.accounts.remove(OTHER_ACCOUNT)

        assert world.sweep_organisation() == {"absent": 1}

        assert list(world.coverage.known) == [(ACCOUNT, REGION)]
        assert [state(world, account_id) for account_id in (ACCOUNT, OTHER_ACCOUNT)] == ["FAILED", "ARCHIVED"]
        archived = finding(world, OTHER_ACCOUNT)
        assert archived
        assert archived["Description"] == f"{OTHER_ACCOUNT}/{REGION} is no longer governed."

    def test_a_region_that_is_no_longer_governed_is_forgotten_likewise(self) -> None:
        """Of one account, one Region stays."""
        world = organisation(ACCOUNT)
        world.aws.shut = {ACCOUNT}
        world.survey(REGION, OTHER_REGION).list()
        world.clock.advance(2 * DAY)
        world.sweep_organisation(world.survey(REGION, OTHER_REGION))

        world.sweep_organisation()

        assert [state(world, region=region) for region in (REGION, OTHER_REGION)] == ["FAILED", "ARCHIVED"]
        assert list(world.coverage.known) == [(ACCOUNT, REGION)]

    def test_one_that_left_and_still_beats_is_not_swept(self) -> None:
        """It is closed, or not governed any more, whatever its stacks still send."""
        world = self.missed()
        beat(world, OTHER_ACCOUNT)
        world.directory.accounts.remove(OTHER_ACCOUNT)

        assert world.sweep_organisation() == {"absent": 1}

        assert state(world, OTHER_ACCOUNT) == "ARCHIVED"
        assert list(world.coverage.known) == [(ACCOUNT, REGION)]

    def test_one_that_comes_back_is_new(self) -> None:
        """It has an hour for its stacks again, then it is missed."""
        world = self.missed()
        world.directory.accounts.remove(OTHER_ACCOUNT)
        world.sweep_organisation()
        world.directory.accounts.add(OTHER_ACCOUNT)

        assert world.sweep_organisation() == {"absent": 1, "new": 1}

    def test_one_that_comes_back_and_is_missed_again_has_its_finding_reopened(self) -> None:
        """The archived finding opens again, and the report goes on for everybody else."""
        world = self.missed()
        world.directory.accounts.remove(OTHER_ACCOUNT)
        world.sweep_organisation()
        world.directory.accounts.add(OTHER_ACCOUNT)
        world.sweep_organisation()
        world.clock.advance(2 * DAY)

        assert world.sweep_organisation() == {"absent": 2}
        assert state(world, OTHER_ACCOUNT) == "FAILED"


HERE = (ACCOUNT, REGION)
REFUSED = ObservationError("observing: UnauthorizedOperation")


def refuse_observation(world: World) -> None:
    """Let the account refuse what is read."""
    world.calls.plan("observe", Trouble(REFUSED))


def refuse_findings(world: World) -> None:
    """Let Security Hub of the account refuse its one finding."""
    world.aws.region().launch_instance(profile=world.aws.add_profile(ACCOUNT, "empty"))
    world.hub.refuse("InvalidInput")


# What is wrong while the heart beats; what mends it; the word.
TROUBLES: dict[str, tuple[Callable[[World], object], Callable[[World], object], str]] = {
    "its role is missing": (lambda w: w.aws.shut.add(ACCOUNT), lambda w: w.aws.shut.clear(), "role"),
    "Security Hub is off": (lambda w: w.hub.switched_off.add(HERE), lambda w: w.hub.switched_off.clear(), "no hub"),
    "reading is denied": (refuse_observation, lambda _: None, "denied"),
    "reading fails": (
        lambda w: w.calls.plan("observe", Trouble(TransientError("busy"))),
        lambda _: None,
        "failed",
    ),
    "a finding is refused": (refuse_findings, lambda _: None, "refused"),
    "its answer is lost": (
        lambda w: w.calls.plan("answered", Trouble(TransientError("down"))),
        lambda _: None,
        "unswept",
    ),
}


class TestReport:
    """A place that must take part and does not is a finding, in the hub."""

    @pytest.mark.parametrize(("stand", "mend", "word"), TROUBLES.values(), ids=TROUBLES)
    def test_a_finding_opens_and_closes(
        self, stand: Callable[[World], object], mend: Callable[[World], object], word: str
    ) -> None:
        """Nothing at first; then FAILED, with the state counted and journaled; then PASSED, and nothing more."""
        world = organisation(ACCOUNT, OTHER_ACCOUNT)
        stories = []
        for step in (lambda _: None, stand, mend, lambda _: None):
            world.clock.advance(6 * HOUR)
            beat(world)
            beat(world, OTHER_ACCOUNT)
            step(world)
            stories.append((world.sweep_organisation(), state(world)))

        assert stories == [
            ({"ok": 2}, None),
            ({"ok": 1, word: 1}, "FAILED"),
            ({"ok": 2}, "PASSED"),
            ({"ok": 2}, "PASSED"),
        ]
        assert state(world, OTHER_ACCOUNT) is None
        told = [
            entry for entry in world.journal.entries if entry.step == "uncovered" and "is not covered" in entry.message
        ]
        assert [(entry.fields["account_id"], entry.is_problem) for entry in told] == [(ACCOUNT, True)]
        surveyed = [entry for entry in world.journal.entries if entry.step == "surveyed"]
        assert surveyed[1].fields["states"] == {"ok": 1, word: 1}
        assert surveyed[1].message == "2 account-Regions must take part"

    def test_silence_is_a_finding_until_the_heart_beats_again(self) -> None:
        """Sweeps go on, events do not arrive: the schedule, a rule or the forwarder is gone."""
        world = organisation(ACCOUNT)
        beat(world)
        states = []
        for hours, beats in ((6, False), (19, False), (2, False), (1, True)):
            world.clock.advance(hours * HOUR)
            if beats:
                beat(world)
            states.append((world.sweep_organisation(), state(world)))

        assert states == [({"ok": 1}, None), ({"ok": 1}, None), ({"silent": 1}, "FAILED"), ({"ok": 1}, "PASSED")]

    def test_a_region_that_is_off_is_no_fault_and_closes_one(self) -> None:
        """Somebody chose so; the finding about the silence there is archived."""
        world = organisation(ACCOUNT)
        world.sweep_organisation()
        world.clock.advance(2 * DAY)
        assert (world.sweep_organisation(), state(world)) == ({"silent": 1}, "FAILED")
        world.aws.switched_off.add(HERE)

        assert (world.sweep_organisation(), state(world)) == ({"off": 1}, "ARCHIVED")

    def test_a_new_account_has_an_hour(self) -> None:
        """StackSets need some minutes: no finding before that, one after it, and PASSED when it is there."""
        world = organisation(ACCOUNT)
        world.aws.shut.add(ACCOUNT)
        stories = [(world.sweep_organisation(), state(world))]
        for minutes in (59, 1):
            world.clock.advance(minutes * 60)
            stories.append((world.sweep_organisation(), state(world)))
        world.aws.shut.clear()
        stories.append((world.sweep_organisation(), state(world)))

        assert stories == [({"new": 1}, None), ({"new": 1}, None), ({"absent": 1}, "FAILED"), ({"ok": 1}, "PASSED")]

    def test_the_finding_says_what_to_do_and_where(self) -> None:
        """It is filed in the hub's account and Region, about the account, and differs by Region."""
        world = organisation(MANAGEMENT_ACCOUNT, ACCOUNT)
        world.aws.shut = {MANAGEMENT_ACCOUNT, ACCOUNT}
        survey = world.survey(REGION, OTHER_REGION)
        survey.list()
        world.clock.advance(2 * HOUR)
        assert world.sweep_organisation(survey) == {"absent": 4}

        assert {key[:2] for key in world.hub.findings} == {(HUB.account_id, HUB.region)}
        assert len(world.hub.findings) == 4
        found = finding(world, MANAGEMENT_ACCOUNT, OTHER_REGION)
        assert found
        assert found["AwsAccountId"] == HUB.account_id
        assert found["Resources"] == [
            {
                "Type": "AwsAccount",
                "Id": f"AWS::::Account:{MANAGEMENT_ACCOUNT}",
                "Partition": "aws",
                "Region": OTHER_REGION,
            }
        ]
        assert found["Description"] == (
            f"Account {MANAGEMENT_ACCOUNT} in {OTHER_REGION} is not covered: it is not bootstrapped: no role, no "
            "heartbeat. The next sweep looks again."
        )
        remedies = [
            one["Remediation"]["Recommendation"]["Text"]
            for one in (found, finding(world, ACCOUNT, OTHER_REGION))
            if one
        ]
        assert ["by hand" in remedy for remedy in remedies] == [True, False]

    @pytest.mark.parametrize("code", ["InvalidInput", "InternalException"])
    def test_a_finding_that_the_hub_refuses_fails_the_report(self, code: str) -> None:
        """Nobody else would tell: the state machine tries again, and then fails where the alarm sees it."""
        world = organisation(ACCOUNT, OTHER_ACCOUNT)
        world.aws.shut = {ACCOUNT, OTHER_ACCOUNT}
        world.survey().list()
        world.clock.advance(2 * HOUR)
        world.hub.refuse(code)

        with pytest.raises(PortcullisError, match=f"Security Hub refused portcullis/COVERAGE.1/.*{code}"):
            world.survey().report("s-1")

        assert {state(world, account_id) for account_id in (ACCOUNT, OTHER_ACCOUNT)} == {None, "FAILED"}
        assert "surveyed" not in world.journal.steps()
        world.survey().report("s-1")
        assert [state(world, account_id) for account_id in (ACCOUNT, OTHER_ACCOUNT)] == ["FAILED", "FAILED"]

    @pytest.mark.parametrize("error", [TransientError("down"), ObservationError("InvalidAccessException")])
    @pytest.mark.parametrize("call", ["import", "save", "open_records", "coverage", "management_account_id"])
    def test_a_report_that_could_not_be_made_fails(self, call: str, error: Exception) -> None:
        """Security Hub switched off in the hub, say; the next report files what this one did not."""
        world = organisation(ACCOUNT)
        world.survey().list()
        world.clock.advance(2 * HOUR)
        world.calls.plan(call, Trouble(error))

        with pytest.raises(type(error), match=str(error)):
            world.survey().report("s-1")

        assert state(world) is None
        assert world.survey().report("s-1") == {"account_regions": 1, "states": {"absent": 1}}
        assert state(world) == "FAILED"

    def test_findings_about_resources_of_the_hub_are_not_touched(self) -> None:
        """They share its memory, and are none of the survey's business."""
        world = organisation()
        world.aws.region(HUB.account_id, HUB.region).launch_instance(
            profile=world.aws.add_profile(HUB.account_id, "empty")
        )
        world.sweep((HUB.account_id, HUB.region))
        before = dict(world.hub.findings)

        assert world.survey().report("s-1") == {"account_regions": 0, "states": {}}

        assert world.hub.findings == before
