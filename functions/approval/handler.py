"""What people ask for, by custom actions of Security Hub or by the command line, is put on the work queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from portcullis import bootstrap

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@bootstrap.metrics().log_metrics
@bootstrap.logger().inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a batch of the requests queue (returns a partial batch response), or one request of the command line."""
    records = event.get("Records")
    bootstrap.metrics().add_metric(name="Requests", unit=MetricUnit.Count, value=1 if records is None else len(records))
    approval = bootstrap.approval()
    return approval.answer(event, context.aws_request_id) if records is None else approval.handle_events(records)
