"""A fault in a template or a missing permission shows in what happens: the pipeline runs the deployed thing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from local.demo import PARAMETERS
from local.organisation import CHECKOUT, LocalOrganisation
from local.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path


def _checkout(folder: Path, file: str, old: str, new: str) -> Path:
    """Copy what is deployed, with one text replaced in one template."""
    for name in ("functions", "layers", "infra"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "template.yaml", folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder


def test_a_letter_missing_in_a_rule_means_that_nothing_happens(tmp_path: Path) -> None:
    """The events really pass the rules of the template."""
    checkout = _checkout(tmp_path, "template.yaml", "            - CreateVpc\n", "            - CreateVp\n")
    with LocalOrganisation(parameters=PARAMETERS, checkout=checkout, schedules_at_once=False) as organisation:
        stage = Stage(organisation)
        vpc_id = stage.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        assert organisation.settled(60)
        assert stage.endpoints(vpc_id) == {}


def test_an_action_missing_in_the_remediator_is_a_finding_that_says_so(tmp_path: Path) -> None:
    """The functions really act with the roles of the templates, and a refusal ends in the finding."""
    checkout = _checkout(
        tmp_path, "infra/member-account.yaml", "Action: ec2:CreateVpcEndpoint", "Action: ec2:DescribeVpcs"
    )
    with LocalOrganisation(parameters=PARAMETERS, checkout=checkout, schedules_at_once=False) as organisation:
        stage = Stage(organisation)
        vpc_id = stage.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        assert organisation.settled(60)
        assert stage.endpoints(vpc_id) == {}
        (finding,) = [f for f in stage.findings() if f["Id"].startswith("portcullis/VPCE.1")]
        assert finding["Compliance"]["Status"] == "FAILED"
        assert "UnauthorizedOperation" in finding["Description"]


def test_an_action_missing_in_the_observer_leaves_everything_as_it_is_and_is_reported(tmp_path: Path) -> None:
    """What cannot be seen is not judged: no change, no finding, and the target is a dead letter with the reason."""
    checkout = _checkout(tmp_path, "infra/member-account.yaml", "                  - ec2:DescribeVpcs\n", "")
    with LocalOrganisation(parameters=PARAMETERS, checkout=checkout, schedules_at_once=False) as organisation:
        stage = Stage(organisation)
        vpc_id = stage.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        assert organisation.settled(60)
        assert stage.endpoints(vpc_id) == {}
        assert stage.findings() == []
        (letter,) = organisation.dead_letters()
        assert vpc_id in letter.body
        assert "UnauthorizedOperation" in letter.attributes["reason"]
