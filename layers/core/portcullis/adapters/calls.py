"""One place where botocore's errors become ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore import exceptions
from botocore.config import Config
from botocore.exceptions import ClientError

from portcullis.errors import Fault, ObservationError, PortcullisError, TransientError, classify

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="portcullis",
)
"""For every client: what three attempts do not mend, the queue does."""

AWS_ERRORS = (ClientError, exceptions.ConnectionError, exceptions.HTTPClientError)
"""What AWS or the way to it may raise. Anything else of botocore's is a bug of ours, and fails loudly."""

_SHOWN = 240
_SERVER = 500


def fault_of(error: Exception) -> tuple[Fault, str]:
    """Classify one of AWS_ERRORS and describe it as ``Code: message``. A network error passes by itself."""
    if isinstance(error, ClientError):
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        fault = classify(code, message)
        # Where a server fails before it can name an error, botocore gives the status as the code ("503").
        if fault is Fault.TERMINAL and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= _SERVER:
            fault = Fault.TRANSIENT
        # An authorization failure carries kilobytes of encoded message that says nothing to a reader.
        return fault, f"{code}: {message.split(' Encoded authorization')[0][:_SHOWN]}"
    return Fault.TRANSIENT, f"{type(error).__name__}: {str(error)[:_SHOWN]}"


@contextmanager
def translated(doing: str, terminal: type[PortcullisError] = ObservationError) -> Iterator[None]:
    """Raise our errors for botocore's.

    Args:
        doing: What is being done and where, as the beginning of a sentence ("reading VPCs of 1111...").
        terminal: What to raise when waiting does not help. TransientError for what is not the message's
            fault: a refusal by the hub's own table, say, must not send every target to the dead letters.
    """
    try:
        yield
    except AWS_ERRORS as error:
        fault, text = fault_of(error)
        kind = terminal if fault is Fault.TERMINAL else TransientError
        raise kind(f"{doing}: {text}") from error
