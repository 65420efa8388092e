"""Starting, stopping, starting again; and what is refused."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from local.organisation import LocalOrganisation, PortTakenError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_start_finds_an_empty_aws_and_nothing_of_the_first(checkout: Path) -> None:
    """All processes and threads of the first are gone."""
    threads = set(threading.enumerate())
    pids = []
    for _ in range(2):
        with LocalOrganisation(checkout=checkout) as organisation:
            ec2 = organisation.client("ec2", "111122223333")
            assert [vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]] == [True]
            ec2.create_vpc(CidrBlock="10.0.0.0/16")
            assert organisation.settled(20)
            pids.append(organisation.functions["Perform"].invoke({"do": "look"}).result["pid"])
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    left = {thread for thread in threading.enumerate() if not thread.daemon} - threads
    assert left == set()


def test_a_taken_port_is_refused(checkout: Path, taken_port: int) -> None:
    """With the remedy; and nothing is left running."""
    complaint = rf"port {taken_port} is taken; choose another with PORT="
    with pytest.raises(PortTakenError, match=complaint), LocalOrganisation(checkout=checkout, port=taken_port):
        pytest.fail("it started")
