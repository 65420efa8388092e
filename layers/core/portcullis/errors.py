"""Errors, classified once: what passes by itself, what does not, what cannot be read.

The loop asks only for the class; the adapters raise it. AWS error codes appear in no other module.
Sources: "Error codes for the Amazon EC2 API" (EC2 API reference), "Common errors" (IAM, Security Hub,
STS references) and, for the gateway endpoint conflict, public reports of its message.
"""

from __future__ import annotations

from enum import Enum, auto


class PortcullisError(Exception):
    """Base of every error that Portcullis raises on purpose."""


class UnreadableEventError(PortcullisError):
    """An event that is not what CloudTrail or EventBridge would send. It belongs in the DLQ."""


class PolicyError(PortcullisError):
    """The policy cannot be used. ``faults`` holds every fault found, one sentence each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class TransientError(PortcullisError):
    """Something that may pass by itself: the message goes back to the queue, for some minutes."""


class NotAdmittedError(TransientError):
    """A role of a member account cannot be assumed: it is missing, or does not trust the hub.

    In a new account it may be on its way, so a message goes back to the queue; a sweep reports it.
    """


class ObservationError(PortcullisError):
    """A member account refuses what is asked, and waiting will not help: nothing is changed, nothing is filed.

    The message goes to the DLQ with this error as its reason; an alarm watches the DLQ.
    """


class SecurityHubOffError(ObservationError):
    """Security Hub is switched off there. COVERAGE.1 says so, and the sweep looks again once it is on."""


class Fault(Enum):
    """What an AWS error code means to the loop."""

    TRANSIENT = auto()
    CONFLICT = auto()
    TERMINAL = auto()


_TRANSIENT = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "InvalidClientTokenId",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflict",
        "TransactionInProgressException",
        "Unavailable",
    }
)

# The world moved between the look and the change: another look decides what is left to do.
_CONFLICT = frozenset(
    {
        "ConcurrentModification",
        "IncorrectInstanceState",
        "IncorrectState",
        "InvalidAssociationID.NotFound",
        "InvalidInstanceID.NotFound",
        "InvalidRouteTableID.NotFound",
        "InvalidRouteTableId.NotFound",
        "InvalidVpcEndpoint.NotFound",
        "InvalidVpcEndpointId.NotFound",
        "InvalidVpcID.NotFound",
        "InvalidVpcId.NotFound",
        "RouteAlreadyExists",
    }
)

# What was to be taken back (an endpoint, an association) is not there: that is as good as taking it back. The reference
# lists both spellings for endpoints.
_GONE = frozenset({"InvalidAssociationID.NotFound", "InvalidVpcEndpoint.NotFound", "InvalidVpcEndpointId.NotFound"})

_ROUTE_EXISTS_MESSAGE = "already has a route with destination-prefix-list-id"
_IAM_LAG_MESSAGE = "Invalid IAM Instance Profile"


def is_route_conflict(code: str, message: str) -> bool:
    """Tell whether an error says that a route table already has a gateway endpoint's route.

    The code is ``RouteAlreadyExists``, and was once seen as ``InvalidParameter`` with the same message.
    """
    return code == "RouteAlreadyExists" or (code == "InvalidParameter" and _ROUTE_EXISTS_MESSAGE in message)


def is_gone(code: str) -> bool:
    """Tell whether an error says that an endpoint, or the association of an instance profile, does not exist."""
    return code in _GONE


def classify(code: str, message: str) -> Fault:
    """Classify an AWS error by its code (without ``Client.`` or ``Server.``) and its message."""
    if code in _TRANSIENT:
        return Fault.TRANSIENT
    if code in _CONFLICT or is_route_conflict(code, message):
        return Fault.CONFLICT
    # A profile that IAM made a moment ago is unknown to EC2 for some seconds: it reads like a typo.
    if code == "InvalidParameterValue" and _IAM_LAG_MESSAGE in message:
        return Fault.TRANSIENT
    return Fault.TERMINAL
