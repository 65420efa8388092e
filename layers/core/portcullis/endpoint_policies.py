"""Endpoint policies: whether two say the same, what one allows, and how one of the policy file is written out. Pure.

Sources: "Control access to VPC endpoints using endpoint policies" and "AWS PrivateLink quotas" (AWS PrivateLink guide);
"IAM JSON policy elements reference" and "AWS global condition context keys" (IAM user guide).
"""

from __future__ import annotations

import hashlib
import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FULL_ACCESS = '{"Statement":[{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}]}'
"""What AWS gives an endpoint that is created without a policy."""

LONGEST = 20480
"""Characters, spaces too; not adjustable (AWS PrivateLink quotas)."""

_LITERAL_VERSION, _VARIABLES = "2008-10-17", "${"  # the version that a document without one has knows no variables
_ROOT = re.compile(r"arn:[a-z-]+:iam::([0-9]{12}):root")
_ANYBODY = "*"

_ORGANISATION = re.compile(r"o-[a-z0-9]{10,32}")
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9.*?${}-]{2,}")  # begins with a name: "*" would open every bucket
_UNKNOWN = re.compile(r"\$\{[A-Za-z]+\}")  # IAM's own variables have a colon

# The page "SSM Agent communications with AWS managed S3 buckets" of the Systems Manager user guide, which the guide of
# the China Regions has too.
_OF_SYSTEMS_MANAGER = (
    "amazon-ssm-${Region}",
    "amazon-ssm-packages-${Region}",
    "aws-ssm-${Region}",
    "aws-ssm-distributor-file-${Region}",
    "aws-ssm-document-attachments-${Region}",
    "aws-windows-downloads-${Region}",
    "patch-baseline-snapshot-${Region}",
    "${Region}-birdwatcher-prod",
)
# Amazon Linux, EMR, container image layers and agents, as AWS's published data perimeter examples name
# them. No source tells the names of other partitions: there the policy names what it needs in `buckets`.
_OF_THE_AWS_PARTITION = (
    "al2023-repos-${Region}-de612dc2",
    "amazoncloudwatch-agent",
    "amazoncloudwatch-agent-${Region}",
    "amazonlinux-2-repos-${Region}",
    "amazonlinux.${Region}.amazonaws.com",
    "aws-codedeploy-${Region}",
    "packages.${Region}.amazonaws.com",
    "prod-${Region}-starport-layer-bucket",
    "repo.${Region}.amazonaws.com",
    "repo.${Region}.emr.amazonaws.com",
)
# There custom resources and wait conditions answer, by URLs that CloudFormation presigned; else their stacks hang, and
# fail ("Access CloudFormation using an interface endpoint", CloudFormation user guide).
_OF_CLOUDFORMATION = (
    "cloudformation-custom-resource-response-${RegionWithoutDashes}",
    "cloudformation-waitcondition-${Region}",
)
# Their callers need resources of AWS or have no organisation: public documents, images, layers, managed policies,
# federated identities. AWS publishes an example of its own for each, so the general one would cut workloads off.
_NEED_A_DOCUMENT = frozenset(
    ("cloudformation", "ec2", "ecr.api", "ecr.dkr", "iam", "imagebuilder", "lambda", "ssm", "sts")
)


def canonical(document: str) -> Any:
    """Return what a policy document says, whatever its spelling: equal for two that say the same.

    Does not count: spaces, ``Sid`` and ``Id``; the order of statements and of values; a value twice; one value or a
    list of it; the case of action names, condition operators and condition keys; how everybody and an account are
    written as principals; numbers and truth values as text; the version, unless policy variables are used.

    Returns:
        JSON data; the text itself when it is no JSON or no policy.
    """
    try:
        policy = json.loads(document)
        statements = _unique(_statement(statement) for statement in _many(policy.get("Statement", [])))
    except (AttributeError, ValueError):
        return document
    version = policy.get("Version", _LITERAL_VERSION) if _VARIABLES in _text(statements) else None
    return {"Statement": statements, "Version": version}


def digest(document: str | None) -> str:
    """Return the digest of what a policy document says.

    Returns:
        SHA-256 in hexadecimal of the canonical form; empty when there is no document.
    """
    return hashlib.sha256(_text(canonical(document)).encode()).hexdigest() if document else ""


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _unique(values: Iterable[Any]) -> list[Any]:
    return [value for _, value in sorted({_text(value): value for value in values}.items())]


def _words(value: Any) -> list[Any]:
    return _unique(word if isinstance(word, str) else _text(word) for word in _many(value))


def _actions(value: Any) -> list[Any]:
    return _unique(word.lower() for word in _words(value))


def _principals(value: Any) -> list[Any]:
    kinds = value if isinstance(value, dict) else {"AWS": value}
    return _unique([kind, _unique(_ROOT.sub(r"\1", word) for word in _words(ids))] for kind, ids in kinds.items())


def _conditions(value: Any) -> list[Any]:
    return _unique(
        [operator.lower(), key.lower(), _words(values)]
        for operator, keys in value.items()
        for key, values in keys.items()
    )


_READ: dict[str, Callable[[Any], list[Any]]] = {
    "Action": _actions,
    "NotAction": _actions,
    "Resource": _words,
    "NotResource": _words,
    "Principal": _principals,
    "NotPrincipal": _principals,
    "Condition": _conditions,
}


def _statement(statement: Any) -> dict[str, Any]:
    """Return a statement in its canonical form; an empty condition is none."""
    read = {name: _READ.get(name, _words)(value) for name, value in statement.items() if name != "Sid"}
    return {name: value for name, value in read.items() if value or name != "Condition"}


def allows(document: str, action: str, resource: str) -> bool | None:
    """Tell whether an endpoint with this policy lets a call through, whoever makes it.

    Args:
        document: The policy, as EC2 answers it.
        action: ``s3:GetObject``.
        resource: Its ARN; a wildcard in it is a character like others. That of all buckets for s3:ListAllMyBuckets.

    Returns:
        True when everybody is allowed to and nothing may deny it. False when nothing allows it, or it is denied to
        everybody. None when that depends on the caller, on conditions or on policy variables, or it is no policy.
    """
    policy = canonical(document)
    if isinstance(policy, str):
        return None
    certain: dict[str, list[bool]] = {"Allow": [], "Deny": []}
    for statement in policy["Statement"]:
        if _covers(statement, "Action", action.lower()) and _covers(statement, "Resource", resource):
            everybody = any(_ANYBODY in ids for _, ids in statement.get("Principal", []))
            depends = not everybody or "Condition" in statement or _VARIABLES in _text(statement)
            certain["Allow" if statement.get("Effect") == ["Allow"] else "Deny"].append(not depends)
    if not certain["Allow"] or any(certain["Deny"]):
        return False
    return True if any(certain["Allow"]) and not certain["Deny"] else None


def _covers(statement: Mapping[str, Any], element: str, value: str) -> bool:
    """Tell whether the statement is about the value, or may be: a policy variable may stand for anything."""
    if element in statement:
        return any(_VARIABLES in pattern or _matches(pattern, value) for pattern in statement[element])
    return not any(_matches(pattern, value) for pattern in statement.get(f"Not{element}", ["*"]))


def _matches(pattern: str, value: str) -> bool:
    return fnmatchcase(value, pattern.replace("[", "[[]"))  # IAM knows no character sets


def render(policy: Mapping[str, Any], partition: str, region: str, account_id: str, service: str = "s3") -> str:
    """Return a policy of the policy file as the text that AWS gets.

    Args:
        policy: ``{"document": {...}}``, or ``{"perimeter": {"organisation": "o-...", "buckets": [...]}}``, whose
            further buckets may be read. In every text ``${Partition}``, ``${Region}``, ``${AccountId}`` are replaced.
        partition: ``aws``, ``aws-cn``, ``aws-us-gov``: that of the endpoint, as are the next two.
        region: The Region.
        account_id: The account.
        service: The endpoint's service, by its short name.

    Raises:
        ValueError: It is malformed or longer than AWS takes, or the perimeter does not fit the service; with a remedy.
    """
    if set(policy) == {"document"}:
        document = _checked(policy["document"])
    elif set(policy) == {"perimeter"} and isinstance(policy["perimeter"], dict):
        document = _perimeter(policy["perimeter"], partition, service)
    else:
        raise ValueError("An endpoint policy is a `document` or a `perimeter`: give one of the two.")
    text = json.dumps(document, separators=(",", ":"))
    values = {"Partition": partition, "Region": region, "RegionWithoutDashes": region.replace("-", "")}
    for name, value in {**values, "AccountId": account_id}.items():
        text = text.replace(f"${{{name}}}", value)
    if unknown := _UNKNOWN.search(text):
        raise ValueError(f"{unknown[0]} is no variable: use ${{Partition}}, ${{Region}}, ${{AccountId}} or IAM's own.")
    if len(text) > LONGEST:
        raise ValueError(f"The policy has {len(text)} characters, AWS takes {LONGEST}: use patterns or fewer entries.")
    return text


def _checked(document: Any) -> Any:
    """Return a document if EC2 would take it, as far as can be told."""
    statements = document.get("Statement") if isinstance(document, dict) else None
    if not statements or isinstance(canonical(json.dumps(document)), str):
        raise ValueError("The document is no IAM policy: give it a `Statement`, a list of statements.")
    if not all("Principal" in statement or "NotPrincipal" in statement for statement in _many(statements)):
        raise ValueError('A statement has no principal, which AWS requires of an endpoint: add `Principal: "*"`.')
    return document


def _perimeter(perimeter: Mapping[str, Any], partition: str, service: str) -> dict[str, Any]:
    """Return the perimeter: the organisation's callers on its resources, AWS services, and some buckets of AWS."""
    organisation, buckets = perimeter.get("organisation"), perimeter.get("buckets", [])
    if not isinstance(organisation, str) or not _ORGANISATION.fullmatch(organisation):
        raise ValueError("The perimeter names no organisation: give its id, as `organisation: o-exampleorgid`.")
    if not isinstance(buckets, list) or not all(isinstance(name, str) and _BUCKET.fullmatch(name) for name in buckets):
        raise ValueError("`buckets` is a list of bucket names, or of patterns that begin with a letter or digit.")
    if unknown := set(perimeter) - {"organisation", "buckets"}:
        raise ValueError(f"A perimeter has no {', '.join(sorted(unknown))}: give `organisation` and `buckets`.")
    if service in _NEED_A_DOCUMENT:
        raise ValueError(f"The perimeter would cut off what {service} needs of AWS: give a `document` for it.")
    everybody = {"Effect": "Allow", "Principal": _ANYBODY}  # a gateway endpoint takes no other principal
    everything = {**everybody, "Action": "*", "Resource": "*"}
    ours = {"aws:PrincipalOrgID": organisation, "aws:ResourceOrgID": organisation}
    statements: list[dict[str, Any]] = [
        {"Sid": "OurOrganisation", **everything, "Condition": {"StringEquals": ours}},
        {"Sid": "AwsServices", **everything, "Condition": {"Bool": {"aws:PrincipalIsAWSService": "true"}}},
    ]
    if service == "s3":
        is_aws = partition == "aws"
        read = (*_OF_SYSTEMS_MANAGER, *(_OF_THE_AWS_PARTITION if is_aws else ()), *buckets)
        # Such calls are often anonymous or presigned by AWS: they have no organisation that a condition could ask for.
        for sid, action, names in (
            ("BucketsOfAws", "s3:GetObject", read),
            ("CloudFormation", "s3:PutObject", _OF_CLOUDFORMATION if is_aws else ()),
        ):
            objects = [f"arn:${{Partition}}:s3:::{name}/*" for name in names]
            statements += [{"Sid": sid, **everybody, "Action": action, "Resource": objects}] if objects else []
    return {"Version": "2012-10-17", "Statement": statements}
