"""The translation of botocore's errors into ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
)
from portcullis.adapters.calls import CONFIG, fault_of, translated
from portcullis.errors import Fault, ObservationError, TransientError

from tests.adapters.doubles import Wire, ec2_error

if TYPE_CHECKING:
    import boto3

URL = "https://ec2.eu-central-1.amazonaws.com/"


def refusal(code: str, message: str = "no", status: int = 400) -> ClientError:
    """Return AWS's answer to a refused call, as botocore raises it."""
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "DescribeVpcs")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refusal("RequestLimitExceeded", status=503), TransientError),
        (refusal("Throttling"), TransientError),
        (refusal("InternalError", status=500), TransientError),
        (refusal("InvalidVpcID.NotFound"), TransientError),
        (refusal("RouteAlreadyExists"), TransientError),
        (EndpointConnectionError(endpoint_url=URL), TransientError),
        (ReadTimeoutError(endpoint_url=URL), TransientError),
        (ConnectTimeoutError(endpoint_url=URL), TransientError),
        (refusal("AccessDenied", status=403), ObservationError),
        (refusal("UnauthorizedOperation", status=403), ObservationError),
        (refusal("AuthFailure", status=401), TransientError),
        (refusal("OptInRequired", status=403), ObservationError),
        (refusal("InvalidParameterValue"), ObservationError),
    ],
    ids=lambda value: value.response["Error"]["Code"] if isinstance(value, ClientError) else None,
)
def test_an_error_is_transient_or_final(error: Exception, expected: type[Exception]) -> None:
    """What passes by itself raises TransientError; what does not, ObservationError. The cause is kept."""
    with pytest.raises(expected, match=r"^reading VPCs: ") as caught, translated("reading VPCs"):
        raise error

    assert caught.value.__cause__ is error


def test_an_answer_without_error_document_is_transient_when_the_server_failed(session: boto3.Session) -> None:
    """A load balancer's bare 503 has no AWS error code: botocore makes one of the status. It passes by itself."""
    ec2 = session.client("ec2", config=CONFIG.merge(type(CONFIG)(retries={"total_max_attempts": 1})))
    Wire(ec2, (503, "<html><body>Service Unavailable</body></html>"))

    with pytest.raises(TransientError, match="503"), translated("reading VPCs"):
        ec2.describe_vpcs()


def test_other_errors_pass_untouched() -> None:
    """A bug is no error of AWS: it must fail loudly, as what it is."""
    with pytest.raises(KeyError), translated("reading VPCs"):
        raise KeyError("VpcId")


def test_a_request_that_botocore_refuses_to_send_is_a_bug(session: boto3.Session) -> None:
    """A wrong parameter does not become right by waiting: it fails loudly instead of being retried."""
    with pytest.raises(ParamValidationError), translated("reading VPCs"):
        session.client("ec2").describe_vpcs(MaxResults=1)


def test_our_own_errors_pass_untouched() -> None:
    """An error that was classified already keeps its class and its sentence."""
    with pytest.raises(TransientError, match=r"^assuming a role$"), translated("reading VPCs"):
        raise TransientError("assuming a role")


def test_an_encoded_authorization_message_is_cut() -> None:
    """The kilobytes that EC2 appends for decode-authorization-message say nothing to a reader."""
    message = (
        "You are not authorized to perform: ec2:DescribeVpcs. Encoded authorization failure message: " + "x" * 3000
    )

    fault, text = fault_of(refusal("UnauthorizedOperation", message, status=403))

    assert fault is Fault.TERMINAL
    assert text == "UnauthorizedOperation: You are not authorized to perform: ec2:DescribeVpcs."


def test_a_long_message_is_cut() -> None:
    """A finding's description has 1,024 characters for everything: no message may fill them."""
    _, text = fault_of(refusal("InvalidParameterValue", "y" * 5000))

    assert text == "InvalidParameterValue: " + "y" * 240


def test_a_network_error_is_named() -> None:
    """The reader of a log learns what kind of network error it was, and towards where."""
    fault, text = fault_of(ReadTimeoutError(endpoint_url=URL))

    assert fault is Fault.TRANSIENT
    assert text == f'ReadTimeoutError: Read timeout on endpoint URL: "{URL}"'


def test_an_error_without_code_is_final() -> None:
    """An answer that names no code is nothing that waiting is known to mend."""
    answer: Any = {"Error": {}}

    assert fault_of(ClientError(answer, "DescribeVpcs")) == (Fault.TERMINAL, ": ")


def test_throttling_is_tried_three_times(session: boto3.Session, naps: list[float]) -> None:
    """Botocore mends a short throttling by itself; what three attempts do not mend is ours."""
    ec2 = session.client("ec2", config=CONFIG)
    wire = Wire(ec2, ec2_error("RequestLimitExceeded", "Request limit exceeded.", status=503))

    with pytest.raises(TransientError, match="RequestLimitExceeded: Request limit exceeded"), translated("reading"):
        ec2.describe_vpcs()

    assert wire.attempts == 3
    assert len(naps) == 2


def test_requests_say_who_calls(session: boto3.Session) -> None:
    """The user agent names Portcullis, so that others find its calls in their trails."""
    ec2: Any = session.client("ec2", config=CONFIG)

    assert ec2.meta.config.user_agent.endswith(" portcullis")
