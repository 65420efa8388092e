"""Targets on the work queue are brought to where the policy wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from portcullis import bootstrap

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@bootstrap.metrics().log_metrics
@bootstrap.logger().inject_lambda_context
def handler(event: dict[str, Any], _: LambdaContext) -> dict[str, Any]:
    """Handle a batch of the work queue; returns a partial batch response."""
    bootstrap.metrics().add_metric(name="Messages", unit=MetricUnit.Count, value=len(event["Records"]))
    return bootstrap.reconcile().handle(event["Records"])
