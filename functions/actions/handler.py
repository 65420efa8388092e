"""The custom resource of the hub's stack that keeps the custom actions of Security Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portcullis import bootstrap

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@bootstrap.metrics().log_metrics
@bootstrap.logger().inject_lambda_context
def handler(event: dict[str, Any], _: LambdaContext) -> None:
    """Answer a request of CloudFormation."""
    bootstrap.custom_actions().handle(event)
