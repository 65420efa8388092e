"""VPCE.2: DynamoDB gateway endpoints cover the route tables of a VPC."""

from __future__ import annotations

from portcullis.controls.gateway import gateway_control

VPCE_2 = gateway_control(
    "VPCE.2",
    service="DynamoDB",
    required=("dynamodb",),
    allowed="`dynamodb`",
    risk="IAM policies built on aws:SourceIp stop matching",
)
