"""The kill switch: what it says is what holds, and whatever is unclear stops everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import NoCredentialsError, ReadTimeoutError
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.switch import SsmSwitch
from portcullis.ports import Changes

from tests.adapters.doubles import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.adapters.doubles import Script

NAME = "/portcullis/changes"


class Told:
    """A journal that keeps what it is told of problems."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def step(self, step: str, message: str, /, **fields: object) -> None:
        """Nothing here is told as a step."""
        raise AssertionError(step, message, fields)

    def problem(self, step: str, message: str, /, **_: object) -> None:
        """Keep a problem."""
        self.problems.append((step, message))


@pytest.fixture
def told() -> Told:
    """Return a journal."""
    return Told()


@pytest.fixture
def ssm(script: Callable[[str], Script]) -> Script:
    """Return a scripted SSM."""
    return script("ssm")


@pytest.mark.usefixtures("aws")
def test_it_is_read_afresh_each_time(session: boto3.Session, told: Told) -> None:
    """Whoever turns it stops the very next change."""
    client: Any = session.client("ssm")
    switch = SsmSwitch(client, NAME, told)
    seen = []
    for value in ("enabled", "undo-only", "stopped", "enabled\n"):
        client.put_parameter(Name=NAME, Value=value, Type="String", Overwrite=True)
        seen.append(switch.position())

    assert seen == [Changes.ENABLED, Changes.UNDO_ONLY, Changes.STOPPED, Changes.ENABLED]
    assert told.problems == []


@pytest.mark.parametrize("value", ["Enabled", "true", "on", "enabled undo-only", "-"])
def test_an_unknown_value_stops_everything(ssm: Script, told: Told, value: str) -> None:
    """And the journal says which it is, and which there are."""
    ssm.expect("get_parameter", {"Parameter": {"Value": value}}, {"Name": NAME})

    assert SsmSwitch(ssm.client, NAME, told).position() is Changes.STOPPED

    ((step, message),) = told.problems
    assert step == "switch"
    assert message.startswith(f"no changes: {NAME} should be one of enabled, undo-only, stopped, but: '{value}'")


@pytest.mark.parametrize("code", ["ParameterNotFound", "AccessDenied", "Throttling"])
def test_a_parameter_that_cannot_be_read_stops_everything(ssm: Script, told: Told, code: str) -> None:
    """Whether it is missing, refused, or not answered."""
    ssm.refuse("get_parameter", code)

    assert SsmSwitch(ssm.client, NAME, told).position() is Changes.STOPPED
    assert code in told.problems[0][1]


@pytest.mark.parametrize("error", [ReadTimeoutError(endpoint_url="https://ssm"), NoCredentialsError()])
@pytest.mark.usefixtures("naps")
def test_no_answer_stops_everything(session: boto3.Session, told: Told, error: Exception) -> None:
    """Also an error that would be a bug elsewhere."""
    client: Any = session.client("ssm", config=CONFIG)
    Wire(client, error)

    assert SsmSwitch(client, NAME, told).position() is Changes.STOPPED
    assert str(error) in told.problems[0][1]
