"""VPCE.1: S3 gateway endpoints cover the route tables of a VPC."""

from __future__ import annotations

from portcullis.controls.gateway import gateway_control

VPCE_1 = gateway_control(
    "VPCE.1",
    service="S3",
    required=("s3",),
    allowed="`s3`, `s3express`",
    risk="bucket policies built on aws:SourceIp stop matching",
)
