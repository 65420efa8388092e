"""What ``portcullis plan`` decides equals what the loop then does; and how that is written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import validate
from portcullis.cli import reports
from portcullis.cli.rehearsal import Rehearsal, Would
from portcullis.cli.reports import Report
from portcullis.controls import CONTROLS
from portcullis.findings import Place
from portcullis.model import Cause, InstanceProfile, InterfaceService

from tests.fakes import ACCOUNT, DELAY, OTHER_ACCOUNT, REGION, World, careful_policy, policy_of
from tests.unit.stories import DAY, WORKLOAD

if TYPE_CHECKING:
    from portcullis.cli.rehearsal import Finding
    from portcullis.policy import Policy

POLICY = careful_policy(
    {
        "scopes": [
            {"name": "asked", "where": {"units": ["ou-asked"]}, "controls": {"VPCE.2": {"mode": "approve"}}},
            {"name": "seen", "where": {"tags": {"env": "seen"}}, "controls": {"ROLE.1": {"mode": "detect"}}},
            {"name": "off", "where": {"tags": {"env": "off"}}, "controls": {"ROLE.1": {"mode": "off"}}},
        ],
        "exemptions": [
            {
                "name": "legacy",
                "where": {"tags": {"env": "legacy"}},
                "owner": "=cmd@example.com",
                "reason": "migrated",
                "expires": "2030-12-31",
            }
        ],
    }
)
HERE = Place("aws", ACCOUNT, REGION)


def rehearsed(world: World, place: Place = HERE, policy: Policy = POLICY) -> list[Finding]:
    """Return what a plan finds."""
    rehearsal = Rehearsal(world.aws, world.directory, policy, CONTROLS, world.clock)
    return rehearsal.everything(place, Cause("plan"))


@pytest.fixture
def world() -> World:
    """A world with something of everything: wrong, right, busy, exempt, detected, off, shared, and nothing's."""
    world = World(POLICY)
    world.directory.units = {ACCOUNT: ("r-1", "ou-asked"), OTHER_ACCOUNT: ("r-1",)}
    place = world.aws.region()
    place.create_vpc()
    busy = place.create_vpc()
    place.surroundings[busy] = WORKLOAD
    right = place.create_vpc()
    for name in place.gateway_services.values():
        place.create_endpoint(right, name, [place.main_table(right)])
    place.create_vpc(owner_id=OTHER_ACCOUNT)
    place.launch_instance("pending")
    for env in ("seen", "off", "legacy"):
        place.launch_instance(tags={"env": env})
    place.launch_instance(profile=InstanceProfile("empty", "arn:aws:iam::1:instance-profile/empty"))
    world.aws.region(OTHER_ACCOUNT).create_vpc()
    return world


def statuses(findings: list[Finding]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return status and what would be done, by resource and control, without what is right or off."""
    shown = [one for one in findings if one.would is not Would.NOTHING]
    return {(one.decision.resource_id, one.decision.control.id): (one.status, str(one.would)) for one in shown}


class TestRehearsal:
    """The decisions are those of the deployed loop, and nothing is changed."""

    def test_each_kind_of_decision(self, world: World) -> None:
        """Changed, proposed (by the policy, or since something runs there), reported or exempt."""
        found = rehearsed(world)
        assert statuses(found) == {
            ("vpc-0001", "VPCE.1"): ("FAILED", "change"),
            ("vpc-0001", "VPCE.2"): ("FAILED", "propose"),
            ("vpc-0002", "VPCE.1"): ("FAILED", "propose"),
            ("vpc-0002", "VPCE.2"): ("FAILED", "propose"),
            ("i-0001", "ROLE.1"): ("FAILED", "change"),
            ("i-0002", "ROLE.1"): ("FAILED", "report"),
            ("i-0004", "ROLE.1"): ("EXEMPT", "exempt"),
            ("i-0005", "ROLE.1"): ("FAILED", "report"),
        }
        rest = {(one.decision.resource_id, one.status) for one in found if one.would is Would.NOTHING}
        assert rest == {("vpc-0003", "PASSED"), ("vpc-0004", "NOT_APPLICABLE")}
        assert world.aws.performed == []
        assert set(world.calls.made) <= {"observe", "surroundings", "units_of"}

    def test_the_loop_then_does_exactly_that(self, world: World) -> None:
        """Findings before anything is changed, and the changes once it was quiet."""
        found = [*rehearsed(world), *rehearsed(world, Place("aws", OTHER_ACCOUNT, REGION))]
        planned = {
            (one.place.account_id, one.decision.resource_id, str(action))
            for one in found
            if one.would is Would.CHANGE and one.decision.evaluation
            for action in one.decision.evaluation.actions
        }

        world.sweep((ACCOUNT, REGION), (OTHER_ACCOUNT, REGION))
        world.process(DELAY + 1)

        filed = {
            (one.place.account_id, one.decision.resource_id, one.decision.control.id)
            for one in found
            if one.would is not Would.NOTHING
        }
        assert {
            (finding["AwsAccountId"], finding["Resources"][0]["Id"].rsplit("/", 1)[1], finding["GeneratorId"][11:])
            for finding in world.hub.imported
        } == filed
        assert world.aws.performed == []
        told = {finding["Id"]: finding["Description"] for finding in world.hub.imported}
        for one in found:
            if one.would in (Would.PROPOSE, Would.REPORT, Would.EXEMPT):
                entry = reports.entry(one)
                assert entry["reason"] in told[entry["finding_id"]]
                assert entry["note"] in told[entry["finding_id"]]
                assert entry["impact"] in told[entry["finding_id"]]

        world.aws.region().set_state("i-0001", "running")
        world.process(DAY)

        performed = {
            (work.target.account_id, work.target.resource_id, str(action)) for work, action in world.aws.performed
        }
        assert performed == planned

    def test_a_change_that_waits_for_its_window_is_a_change(self, world: World) -> None:
        """Where something runs, a change window lets it be made without asking; the plan says when."""
        windows = [{"cron": "0 2 * * SUN", "time_zone": "Europe/Zurich", "length": "4h"}]
        controls = {"VPCE.1": {"mode": "remediate", "change_windows": windows}}
        policy = careful_policy({"controls": controls})

        found = [one for one in rehearsed(world, policy=policy) if one.decision.resource_id == "vpc-0002"]

        entry = next(reports.entry(one) for one in found if one.decision.control.id == "VPCE.1")
        assert (entry["would"], entry["due_at"]) == ("change", "2026-03-08T01:00:00+00:00")
        assert "in the change window that opens at 2026-03-08 01:00 UTC" in entry["note"]

    def test_a_change_needs_no_window_where_the_policy_has_none(self) -> None:
        """A policy that waits for nothing (none from a file): the change is due at once."""
        world = World()
        world.aws.region().create_vpc()
        found = rehearsed(world, policy=policy_of())
        assert {(reports.entry(one)["would"], reports.entry(one)["due_at"]) for one in found[:1]} == {("change", None)}


def report(world: World, **more: Any) -> Report:
    """Return a report on both accounts."""
    places = [Place("aws", ACCOUNT, REGION), Place("aws", OTHER_ACCOUNT, REGION)]
    return Report(
        findings=[one for place in places for one in rehearsed(world, place)],
        controls=CONTROLS,
        policy=Path("policies/my policy.yaml"),
        lines={("controls", "VPCE.1"): 7},
        at=world.clock.now(),
        places=[(place.account_id, place.region) for place in places],
        **more,
    )


class TestTable:
    """For people: what is wrong, what would be done, what that touches, and how much is right."""

    def test_a_table(self, world: World) -> None:
        """A block for each account and Region, and a sum."""
        lines = reports.table(report(world)).splitlines()

        heads = [line for line in lines if line and not line.startswith("      ")]
        assert heads == [
            f"{ACCOUNT} {REGION}",
            "  VPCE.1  vpc-0001  FAILED  change",
            "  VPCE.2  vpc-0001  FAILED  propose",
            "  VPCE.1  vpc-0002  FAILED  propose",
            "  VPCE.2  vpc-0002  FAILED  propose",
            "  ROLE.1  i-0001    FAILED  change",
            "  ROLE.1  i-0002    FAILED  report",
            "  ROLE.1  i-0004    EXEMPT  exempt",
            "  ROLE.1  i-0005    FAILED  report",
            "  passed: VPCE.1 1, VPCE.2 1; not applicable: VPCE.1 1, VPCE.2 1",
            f"{OTHER_ACCOUNT} {REGION}",
            "  VPCE.1  vpc-0005  FAILED  change",
            "  VPCE.2  vpc-0005  FAILED  change",
            "  nothing else to judge",
            "4 changes, 3 proposals, 2 reports, 1 exemption.",
        ]
        first = lines[2:6]
        assert first[0] == "      vpc-0001: No com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001 (main)."
        assert first[1].startswith(
            "      Portcullis will create a com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001"
        )
        assert first[2].startswith("      Nothing runs in the affected subnets.")
        assert first[3].startswith("      To do: Add the route tables")

    def test_how_to_approve_is_not_said(self, world: World) -> None:
        """No finding has been filed yet; the JSON has the whole note, as the finding will."""
        proposals = [one for one in rehearsed(world) if one.would is Would.PROPOSE]
        assert all("run 'portcullis approve'" in reports.entry(one)["note"] for one in proposals)
        notes = [line for line in reports.rows(proposals) if "Portcullis proposes" in line]
        assert len(notes) == len(proposals) == 3
        assert notes[0].endswith("; the policy asks for approval.")

    @pytest.mark.parametrize(
        ("enabled", "line"),
        [
            ((), "4 changes, 3 proposals, 2 reports, 1 exemption."),
            (("VPCE.4",), "4 changes, 3 proposals, 2 reports, 1 exemption."),
            (("VPCE.5", "VPCE.4"), "After these changes VPCE.5 is looked at again, and may find more."),
            (("VPCE.3", "VPCE.5"), "After these changes VPCE.3 and VPCE.5 are looked at again, and may find more."),
            (
                ("VPCE.3", "VPCE.5", "ROLE.2"),
                "After these changes VPCE.3, VPCE.5 and ROLE.2 are looked at again, and may find more.",
            ),
        ],
    )
    def test_what_looks_again_after_the_changes_is_named(
        self, world: World, enabled: tuple[str, ...], line: str
    ) -> None:
        """A plan is the first round; controls that are off do not look."""
        on = [one for one in CONTROLS if one.id in enabled]
        assert reports.table(report(world, enabled=on)).splitlines()[-1] == line

    def test_nothing_looks_again_after_nothing(self, world: World) -> None:
        """What is only reported changes nothing, and what a control changes itself is no reason to say so."""
        reported = [one for one in rehearsed(world) if one.would in (Would.REPORT, Would.EXEMPT, Would.NOTHING)]
        at = world.clock.now()
        one = Report(reported, CONTROLS, Path("p"), {}, at, [(ACCOUNT, REGION)], enabled=CONTROLS)
        assert one.following == []

    def test_nothing(self, world: World) -> None:
        """Nothing to judge, nothing found, or nothing found where it could be read."""
        place = ("333344445555", REGION)
        empty = Report([], CONTROLS, Path("p"), {}, world.clock.now(), [place])
        assert reports.table(empty).splitlines() == [
            " ".join(place),
            "  nothing to judge",
            "",
            "Nothing is to be done.",
        ]
        partly = Report([], CONTROLS, Path("p"), {}, world.clock.now(), [], ["account 1: no"])
        assert reports.table(partly) == "Nothing could be read."
        partly = Report([], CONTROLS, Path("p"), {}, world.clock.now(), [place], ["account 1: no"])
        assert reports.table(partly).splitlines()[-1] == "Nothing is to be done where it could be read."
        wrong = [one for one in rehearsed(world) if one.would is Would.CHANGE]
        all_wrong = Report(wrong, CONTROLS, Path("p"), {}, world.clock.now(), [(ACCOUNT, REGION)])
        assert "  nothing else to judge" in reports.table(all_wrong).splitlines()

    def test_what_costs_money_is_summed_up(self) -> None:
        """The proposal names the price of each, the last line that of all."""
        policy = careful_policy({"controls": {"VPCE.3": {"mode": "approve", "services": ["ssm"]}}})
        world = World(policy)
        place = world.aws.region()
        service = InterfaceService("com.amazonaws.eu-west-1.ssm", ("a", "b"), ("ssm.example.com",))
        place.link.services |= {"ssm": service, service.service_name: service}
        vpc_id = place.create_vpc()
        place.link.add_subnet(vpc_id, "a")
        found = rehearsed(world, policy=policy)
        dollars = [one.decision.impact.dollars_a_month for one in found if one.decision.impact]
        assert sum(dollars) > 5
        written = reports.table(Report(found, CONTROLS, Path("p"), {}, world.clock.now(), [(ACCOUNT, REGION)]))
        assert written.endswith(f"1 proposal; all of it costs about ${sum(dollars):.2f} a month.")


class TestJson:
    """For machines: everything."""

    def test_an_entry_has_all_that_is_decided(self, world: World) -> None:
        """With the actions as the ledger has them, and when they are due."""
        written = json.loads(reports.as_json(report(world, problems=["x"])))

        assert (written["at"], written["policy"]) == ("2026-03-02T09:00:00+00:00", "policies/my policy.yaml")
        assert written["problems"] == ["x"]
        here, there = written["places"]
        assert (here["account_id"], here["region"], here["counts"]["FAILED"]) == (ACCOUNT, REGION, 7)
        assert there["counts"]["FAILED"] == 2
        first, *_ = written["findings"]
        assert first.pop("impact").startswith("Nothing runs in the affected subnets.")
        assert first.pop("remedy").startswith("Add the route tables to a gateway endpoint")
        assert first == {
            "account_id": ACCOUNT,
            "region": REGION,
            "control_id": "VPCE.1",
            "kind": "vpc",
            "resource_id": "vpc-0001",
            "finding_id": f"portcullis/VPCE.1/arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/vpc-0001",
            "status": "FAILED",
            "would": "change",
            "due_at": "2026-03-02T09:05:00+00:00",
            "reason": "vpc-0001: No com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001 (main).",
            "note": (
                "Portcullis will create a com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001 at 2026-03-02 09:05 "
                "UTC, unless that is done by then; more changes to it put that off."
            ),
            "planned": ["create a com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001"],
            "actions": [
                {
                    "type": "CreateGatewayEndpoint",
                    "control_id": "VPCE.1",
                    "vpc_id": "vpc-0001",
                    "service_name": "com.amazonaws.eu-west-1.s3",
                    "route_table_ids": ["rtb-0001"],
                }
            ],
            "dollars_a_month": 0,
        }

    def test_what_is_right_is_only_shown_when_asked_for(self, world: World) -> None:
        """Else it is counted only. What is exempt says by whom."""
        some = json.loads(reports.as_json(report(world)))["findings"]
        every = json.loads(reports.as_json(report(world, everything=True)))["findings"]
        assert len(some) == 10
        assert [one for one in every if one["would"] != "nothing"] == some
        assert {one["status"] for one in every} == {"FAILED", "PASSED", "EXEMPT", "NOT_APPLICABLE"}
        (exempt,) = [one for one in some if one["status"] == "EXEMPT"]
        assert exempt["note"] == "Exempt until 2031-01-01 00:00 UTC by =cmd@example.com (legacy): migrated."
        assert (exempt["due_at"], exempt["impact"], exempt["dollars_a_month"]) == (None, "", None)


class TestCsv:
    """For spreadsheets, which would run what looks like a formula."""

    def test_rows(self, world: World) -> None:
        """A head, and a row for each finding."""
        rows = list(csv.DictReader(io.StringIO(reports.as_csv(report(world)))))
        assert len(rows) == 10
        assert rows[0]["planned"] == "create a com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001"
        assert (rows[0]["account_id"], rows[0]["resource_id"], rows[0]["would"]) == (ACCOUNT, "vpc-0001", "change")
        assert len(list(csv.reader(io.StringIO(reports.as_csv(report(world, everything=True)))))) > 11

    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
    def test_no_cell_is_a_formula(self, world: World, start: str) -> None:
        """Whatever begins like one begins with an apostrophe; what is written by people can."""
        first, *_ = rehearsed(world)
        evaluation = first.decision.evaluation
        assert evaluation
        odd = replace(evaluation, reason=f'{start}HYPERLINK("https://example.com")')
        found = replace(first, decision=replace(first.decision, evaluation=odd))
        written = reports.as_csv(Report([found], CONTROLS, Path("p"), {}, world.clock.now()))
        (row,) = csv.DictReader(io.StringIO(written, newline=""))
        assert row["reason"] == f"'{odd.reason}"


# What the schema of SARIF 2.1.0 requires of what is used here, and GitHub's code scanning beside that: a file and line.
_TEXT = {"type": "string", "minLength": 1}
_MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": _TEXT}}
_URI = {"type": "string", "pattern": "^[A-Za-z0-9./_~%:-]+$"}
_LOCATION = {
    "type": "object",
    "required": ["physicalLocation", "logicalLocations"],
    "additionalProperties": False,
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {"type": "object", "required": ["uri"], "properties": {"uri": _URI}},
                "region": {
                    "type": "object",
                    "required": ["startLine"],
                    "properties": {"startLine": {"type": "integer", "minimum": 1}},
                },
            },
        },
        "logicalLocations": {
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "object", "properties": {"fullyQualifiedName": _TEXT, "name": _TEXT, "kind": _TEXT}},
        },
    },
}
_RESULT = {
    "type": "object",
    "required": ["message", "ruleId", "level", "locations", "partialFingerprints"],
    "additionalProperties": False,
    "properties": {
        "message": _MESSAGE,
        "ruleId": _TEXT,
        "level": {"enum": ["none", "note", "warning", "error"]},
        "locations": {"type": "array", "items": _LOCATION},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "object"},
        "suppressions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "kind": {"enum": ["inSource", "external"]},
                    "status": {"enum": ["accepted", "underReview", "rejected"]},
                },
            },
        },
    },
}
_RULE = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {
        "id": _TEXT,
        "shortDescription": _MESSAGE,
        "fullDescription": _MESSAGE,
        "help": _MESSAGE,
        "helpUri": {"type": "string", "pattern": "^https://"},
        "defaultConfiguration": {"type": "object"},
        "properties": {"type": "object"},
    },
}
_DRIVER = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": _TEXT, "version": _TEXT, "rules": {"type": "array", "uniqueItems": True, "items": _RULE}},
}
_INVOCATION = {
    "type": "object",
    "required": ["executionSuccessful"],
    "properties": {
        "executionSuccessful": {"type": "boolean"},
        "endTimeUtc": {"type": "string", "pattern": "^[0-9-]{10}T[0-9:]{8}Z$"},
        "toolExecutionNotifications": {
            "type": "array",
            "items": {"type": "object", "required": ["message"], "properties": {"message": _MESSAGE}},
        },
    },
}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "pattern": "sarif-schema-2.1.0.json$"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {"type": "object", "required": ["driver"], "properties": {"driver": _DRIVER}},
                    "invocations": {"type": "array", "items": _INVOCATION},
                    "results": {"type": "array", "items": _RESULT},
                },
            },
        },
    },
}


class TestSarif:
    """For code scanning."""

    def test_a_run(self, world: World) -> None:
        """Valid; every result is of a rule, in the policy's file and line, and known again by its finding's id."""
        written = json.loads(reports.as_sarif(report(world)))

        validate(written, SARIF)
        (run,) = written["runs"]
        assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [control.id for control in CONTROLS]
        first, *_ = run["results"]
        assert len(run["results"]) == 10
        assert first["message"]["text"].startswith(
            "vpc-0001: No com.amazonaws.eu-west-1.s3 gateway endpoint on rtb-0001"
        )
        assert "Portcullis will create" in first["message"]["text"]
        (location,) = first["locations"]
        assert location["physicalLocation"] == {
            "artifactLocation": {"uri": "policies/my%20policy.yaml"},
            "region": {"startLine": 7},
        }
        arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/vpc-0001"
        assert location["logicalLocations"] == [{"name": "vpc-0001", "fullyQualifiedName": arn, "kind": "resource"}]
        fingerprints = [one["partialFingerprints"]["portcullisFinding/v1"] for one in run["results"]]
        assert fingerprints[0] == f"portcullis/VPCE.1/{arn}"
        assert len(set(fingerprints)) == 10
        assert run["results"][1]["locations"][0]["physicalLocation"]["region"]["startLine"] == 1
        assert run["invocations"][0]["executionSuccessful"] is True

    def test_what_is_exempt_is_a_note_that_is_suppressed(self, world: World) -> None:
        """And says by whom; everything else is an error."""
        (run,) = json.loads(reports.as_sarif(report(world)))["runs"]
        (exempt,) = [one for one in run["results"] if one["level"] == "note"]
        (suppression,) = exempt["suppressions"]
        assert suppression["justification"].startswith("Exempt until 2031-01-01")
        assert {one["level"] for one in run["results"]} == {"note", "error"}

    def test_what_could_not_be_read_is_said(self, world: World) -> None:
        """The run was not successful then. A policy elsewhere on the disk has an address of its own."""
        wrong = rehearsed(world)
        one = Report(wrong, CONTROLS, Path("/etc/policy.yaml"), {}, world.clock.now(), [], ["account 1: no"])
        written = json.loads(reports.as_sarif(one))
        validate(written, SARIF)
        (run,) = written["runs"]
        (invocation,) = run["invocations"]
        assert invocation["executionSuccessful"] is False
        assert [each["message"]["text"] for each in invocation["toolExecutionNotifications"]] == ["account 1: no"]
        uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri == "file:///etc/policy.yaml"
