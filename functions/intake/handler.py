"""EventBridge events, by way of the intake queue, become targets on the work queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from portcullis import bootstrap

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@bootstrap.metrics().log_metrics
@bootstrap.logger().inject_lambda_context
def handler(event: dict[str, Any], _: LambdaContext) -> dict[str, Any]:
    """Handle a batch of the intake queue; returns a partial batch response."""
    bootstrap.metrics().add_metric(name="Messages", unit=MetricUnit.Count, value=len(event["Records"]))
    return bootstrap.intake().handle(event["Records"])
