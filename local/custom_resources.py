"""Custom resources of a template, kept by one of its own functions.

Source: CloudFormation User Guide, "Custom resource request objects", "... response objects" and "Update requests". The
response goes to a presigned URL of S3, here as there.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Literal

from .template import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .resources import Stack

RequestType = Literal["Create", "Update", "Delete"]
_STATUSES = ("FAILED", "SUCCESS")


class CustomResource:
    """One custom resource; `physical_id` is what its function calls it."""

    def __init__(self, stack: Stack, logical_id: str, properties: Mapping[str, Any]) -> None:
        """Take the properties, resolved; nothing is sent yet."""
        self.physical_id = ""
        self._stack, self._logical_id = stack, logical_id
        # Every value that is no list or object arrives as text.
        self._properties: Any = json.loads(json.dumps(properties), parse_int=str, parse_float=str)

    def send(self, request_type: RequestType, properties: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Invoke the function and return its Data as text; TemplateError unless it answers, and with SUCCESS.

        `properties` replace some for an update; one that answers with another id has the old one deleted.
        """
        old, known = self._properties, self.physical_id
        self._properties = {**old, **(properties or {})}
        answer = self._ask(request_type, {"OldResourceProperties": old} if request_type == "Update" else {})
        self.physical_id = str(answer["PhysicalResourceId"])
        if request_type == "Update" and known != self.physical_id:
            self._ask("Delete", {"PhysicalResourceId": known, "ResourceProperties": old})
        return {name: str(value) for name, value in (answer.get("Data") or {}).items()}

    def _ask(self, request_type: RequestType, more: Mapping[str, Any]) -> dict[str, Any]:
        stack, token, request_id = self._stack, self._properties["ServiceToken"], str(uuid.uuid4())
        functions = {spec.arn: spec for spec in stack.functions}
        if token not in functions or stack.organisation is None:
            raise TemplateError(f"{token} is no function of this template")
        request = {
            "RequestType": request_type,
            "StackId": stack.arn("cloudformation", f"stack/{stack.name}/00000000-0000-0000-0000-000000000000"),
            "RequestId": request_id,
            "ResourceType": stack.template.section("Resources")[self._logical_id]["Type"],
            "LogicalResourceId": self._logical_id,
            **({"PhysicalResourceId": self.physical_id} if self.physical_id else {}),
            "ResourceProperties": self._properties,
            **more,
        }
        s3, bucket = stack.client("s3"), f"cloudformation-custom-resource-response-{stack.region.replace('-', '')}"
        place = {"Bucket": bucket, "Key": request_id}
        s3.create_bucket(Bucket=bucket)
        try:
            request["ResponseURL"] = s3.generate_presigned_url("put_object", Params=place)
            result = stack.organisation.run(functions[token], request)
            answer: dict[str, Any] = json.loads(s3.get_object(**place)["Body"].read())
        except (s3.exceptions.NoSuchKey, ValueError) as error:
            # With a Content-Type, S3 would refuse it: the URL is not signed for one.
            why = result.error["errorMessage"] if result.error else "nothing readable was sent to the ResponseURL"
            raise TemplateError(f"{token} did not respond to {request_type}: {why}") from error
        finally:
            # On AWS the bucket is nobody's here.
            s3.delete_object(**place)
            s3.delete_bucket(Bucket=bucket)
        same = all(answer.get(name) == request[name] for name in ("StackId", "RequestId", "LogicalResourceId"))
        if answer.get("Status") not in _STATUSES or not answer.get("PhysicalResourceId") or not same:
            raise TemplateError(f"{token} responded to {request_type} with what CloudFormation does not take: {answer}")
        if answer["Status"] == "FAILED":
            raise TemplateError(f"{token} failed to {request_type.lower()}: {answer.get('Reason', 'without a reason')}")
        return answer
