"""The beginning and the end of a sweep, as infra/sweep.asl.json calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from portcullis import bootstrap

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@bootstrap.metrics().log_metrics
@bootstrap.logger().inject_lambda_context
def handler(event: dict[str, Any], _: LambdaContext) -> dict[str, Any]:
    """List what to look at (``step`` is ``list``), or report who does not take part (``report``)."""
    bootstrap.metrics().add_metric(name="Surveys", unit=MetricUnit.Count, value=1)
    survey = bootstrap.survey()
    return survey.list(event["after"]) if event["step"] == "list" else survey.report(event["sweep_id"])
