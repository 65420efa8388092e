"""The custom resource of the hub's stack that keeps the custom actions of Security Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from custom_actions import CustomActions
from portcullis import bootstrap
from portcullis.adapters.calls import CONFIG

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@bootstrap.metrics().log_metrics
@bootstrap.logger().inject_lambda_context
def handler(event: dict[str, Any], _: LambdaContext) -> None:
    """Answer a request of CloudFormation."""
    CustomActions(boto3.client("securityhub", config=CONFIG), bootstrap.journal()).handle(event)
