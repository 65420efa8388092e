"""What happened, as structured log lines and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import MetricUnit

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger, Metrics


_CALLER = 3  # frames up, past the logger and this class, so that the log names who took the step


class PowertoolsJournal:
    """The Journal port: a log line per step, and a metric that counts the steps of each name.

    Args:
        logger: Receives the sentence as the message, and the step's name and data as fields.
        metrics: Receives a count of 1 per step, named after it (``Filed``, ``ProblemActed``).
    """

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics

    def step(self, step: str, message: str, /, **fields: object) -> None:
        """Record a step. See ports.Journal."""
        self._logger.info(message, extra={"step": step, **fields}, stacklevel=_CALLER)
        self._metrics.add_metric(name=step.capitalize(), unit=MetricUnit.Count, value=1)

    def problem(self, step: str, message: str, /, **fields: object) -> None:
        """Record a problem. See ports.Journal."""
        self._logger.warning(message, extra={"step": step, **fields}, stacklevel=_CALLER)
        self._metrics.add_metric(name=f"Problem{step.capitalize()}", unit=MetricUnit.Count, value=1)
