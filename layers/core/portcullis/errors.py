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
        "InvalidGroup.NotFound",
        "InvalidInstanceConnectEndpointId.NotFound",
        "InvalidInstanceID.NotFound",
        "InvalidRouteTableID.NotFound",
        "InvalidRouteTableId.NotFound",
        "InvalidSecurityGroupID.NotFound",
        "InvalidSubnetID.NotFound",
        "InvalidSubnetId.NotFound",
        "InvalidVpcEndpoint.NotFound",
        "InvalidVpcEndpointId.NotFound",
        "InvalidVpcID.NotFound",
        "InvalidVpcId.NotFound",
        "RouteAlreadyExists",
    }
)

# What was to be taken back is not there: that is as good as taking it back. The reference lists both spellings for
# endpoints, and for security groups.
_GONE = frozenset(
    {
        "InvalidAssociationID.NotFound",
        "InvalidGroup.NotFound",
        "InvalidInstanceConnectEndpointId.NotFound",
        "InvalidPermission.NotFound",
        "InvalidSecurityGroupID.NotFound",
        "InvalidVpcEndpoint.NotFound",
        "InvalidVpcEndpointId.NotFound",
    }
)

# The names of quotas are those of Service Quotas. No public source names the code of EC2 Instance Connect Endpoints
# ("Quotas for EC2 Instance Connect Endpoint", EC2 user guide): this one is documented for resources of EC2 in general.
_QUOTAS = {
    "ResourceLimitExceeded": (
        "A VPC and a subnet can have one EC2 Instance Connect Endpoint each; where it is the account that has too many "
        "in the Region, have AWS raise that quota of Amazon EC2 in Service Quotas, or delete one"
    ),
    "RulesPerSecurityGroupLimitExceeded": (
        "Have AWS raise the quota 'Inbound or outbound rules per security group' of Amazon VPC in Service Quotas"
    ),
    "SecurityGroupLimitExceeded": (
        "Delete security groups, or have AWS raise the quota 'VPC security groups per Region' of Amazon VPC in Service "
        "Quotas"
    ),
    "VpcEndpointLimitExceeded": (
        "Delete endpoints, or have AWS raise the quota 'Gateway VPC endpoints per Region' or 'Interface VPC endpoints "
        "per VPC' of Amazon VPC in Service Quotas"
    ),
}
_ANY_QUOTA = "See in Service Quotas which quota it is, and have AWS raise it"
_LIMIT = "LimitExceeded"

_ROUTE_EXISTS_MESSAGE = "already has a route with destination-prefix-list-id"
_DNS_CONFLICT_MESSAGE = "already a conflicting DNS domain"
_IAM_LAG_MESSAGE = "Invalid IAM Instance Profile"


def is_route_conflict(code: str, message: str) -> bool:
    """Tell whether an error says that a route table already has a gateway endpoint's route.

    The code is ``RouteAlreadyExists``, and was once seen as ``InvalidParameter`` with the same message.
    """
    return code == "RouteAlreadyExists" or (code == "InvalidParameter" and _ROUTE_EXISTS_MESSAGE in message)


def is_dns_conflict(code: str, message: str) -> bool:
    """Tell whether an error says that another endpoint, or a private hosted zone, has an endpoint's private name.

    ``InvalidParameter: private-dns-enabled cannot be set because there is already a conflicting DNS domain for ... in
    the VPC ...``, by public reports.
    """
    return code == "InvalidParameter" and _DNS_CONFLICT_MESSAGE in message


def is_gone(code: str) -> bool:
    """Tell whether an error says that an endpoint, a profile's association, a security group or a rule is not there."""
    return code in _GONE


def is_there(code: str) -> bool:
    """Tell whether an error says that a security group of that name, or a rule, exists already."""
    return code in ("InvalidGroup.Duplicate", "InvalidPermission.Duplicate")


def is_in_use(code: str) -> bool:
    """Tell whether an error says that something depends on what was to be deleted."""
    return code == "DependencyViolation"


def is_quota(code: str) -> bool:
    """Tell whether an error says that there are as many of something as there can be; throttling is something else."""
    return code.endswith(_LIMIT) and code not in _TRANSIENT


def quota_remedy(code: str) -> str:
    """Say what to do about a quota that is used up, as a sentence after another; empty for any other error."""
    return f" {_QUOTAS.get(code, _ANY_QUOTA)}." if is_quota(code) else ""


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
