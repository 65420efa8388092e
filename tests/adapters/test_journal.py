"""What happened, as log lines that machines read, and as metrics."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger, Metrics
from portcullis.adapters.journal import PowertoolsJournal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pages:
    """A journal, and what can be read in it."""

    def __init__(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._stream = io.StringIO()
        self.metrics = Metrics(namespace="Portcullis", service="portcullis")
        self.journal = PowertoolsJournal(Logger(service=name, stream=self._stream), self.metrics)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log lines."""
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def counted(self) -> dict[str, float]:
        """The metrics as they are emitted, summed up by name."""
        self.metrics.flush_metrics()
        sums: dict[str, float] = {}
        for line in self._capsys.readouterr().out.splitlines():
            emitted = json.loads(line)
            for metric in emitted["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
                sums[metric["Name"]] = sums.get(metric["Name"], 0) + sum(emitted[metric["Name"]])
        return sums


@pytest.fixture
def pages(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Pages]:
    """Return a journal of its own, as loggers of one name are one logger."""
    made = Pages(request.node.name, capsys)
    made.metrics.clear_metrics()  # all Metrics of a process share one set
    yield made
    made.metrics.clear_metrics()


def test_a_step_is_a_log_line_with_its_data(pages: Pages) -> None:
    """The sentence is the message; the step's name and data are fields beside it."""
    pages.journal.step("filed", "VPCE.1 finding on vpc-1 is now FAILED", account_id="111122223333", made="vpce-1")

    (line,) = pages.lines
    assert line["level"] == "INFO"
    assert line["message"] == "VPCE.1 finding on vpc-1 is now FAILED"
    assert (line["step"], line["account_id"], line["made"]) == ("filed", "111122223333", "vpce-1")


def test_a_problem_is_a_warning(pages: Pages) -> None:
    """Somebody should look at it, so it has a level of its own."""
    pages.journal.problem("retry", "throttled; again in 5 s", resource_id="vpc-1")

    (line,) = pages.lines
    assert (line["level"], line["step"], line["resource_id"]) == ("WARNING", "retry", "vpc-1")


def test_steps_and_problems_are_counted_by_name(pages: Pages) -> None:
    """A metric per name, problems apart, so that an alarm can be set on one of them."""
    for _ in range(3):
        pages.journal.step("acted", "created vpce-1")
    pages.journal.problem("acted", "AWS did not let Portcullis create it")

    assert pages.counted() == {"Acted": 3, "ProblemActed": 1}


def test_more_steps_than_a_metric_holds_are_not_lost(pages: Pages) -> None:
    """A metric of one line takes 100 values; a batch of many resources counts more."""
    for _ in range(250):
        pages.journal.step("evaluated", "VPCE.1 PASSED")

    assert pages.counted() == {"Evaluated": 250}
