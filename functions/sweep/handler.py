"""One look of a sweep: everything in one account and Region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from portcullis import bootstrap

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@bootstrap.metrics().log_metrics
@bootstrap.logger().inject_lambda_context
def handler(event: dict[str, Any], _: LambdaContext) -> dict[str, Any]:
    """Look at ``account_id`` and ``region`` for the sweep ``sweep_id``; returns what stood in the way."""
    bootstrap.metrics().add_metric(name="Looks", unit=MetricUnit.Count, value=1)
    answer = bootstrap.sweep().look(event["account_id"], event["region"], event["sweep_id"])
    return {"problem": answer.problem}
