"""S3 asks for permission like every other service, and says in which Region a bucket is.

Source: S3 API Reference, ListBuckets; Service Authorization Reference, "Actions, resources, and condition keys for
Amazon S3". moto's S3 passes by the gate of all other services (see `calls`).
"""

from __future__ import annotations

from typing import Any

from moto.s3.exceptions import S3ClientError
from moto.s3.responses import S3Response

from . import authorization, calls


def _authorise(http: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
    call = calls.Call(http, http.data["Action"])
    # moto's own names of its parameters would have to be told apart here.
    call.request = {"Bucket": f"{bucket_name}/{key_name}" if key_name else bucket_name} if bucket_name else {}
    try:
        authorization.check(call)
    except calls.Refusal as refusal:
        raise S3ClientError(refusal.code, refusal.message) from refusal


def _wrap_list() -> None:
    original = S3Response.all_buckets

    def all_buckets(http: Any) -> Any:
        status, headers, body = original(http)
        for bucket in http.backend.buckets.values():
            name = f"<Name>{bucket.name}</Name>"
            body = body.replace(name, f"{name}<BucketRegion>{bucket.region_name}</BucketRegion>")
        return status, headers, body

    S3Response.all_buckets = all_buckets


def install() -> None:
    """Patch moto's S3 (once: the caller sees to that)."""
    S3Response._authenticate_and_authorize_s3_action = _authorise
    _wrap_list()
