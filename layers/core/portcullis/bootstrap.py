"""The one place where the ports are wired to AWS, from the function's environment."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import boto3
from aws_lambda_powertools import Logger, Metrics
from botocore.config import Config

from portcullis import policy
from portcullis.adapters.accounts import Accounts, Role
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.journal import PowertoolsJournal
from portcullis.adapters.observer import Ec2Observer
from portcullis.adapters.queues import SqsDeadLetters, SqsWorkQueue
from portcullis.adapters.remediator import Ec2Remediator
from portcullis.adapters.securityhub import SecurityHubSink
from portcullis.adapters.store import DynamoDbStore
from portcullis.batch import Intake, Reconcile
from portcullis.errors import PortcullisError
from portcullis.loop import Loop
from portcullis.ports import Ports

# Slow senders would eat into the work queue's delay (see work.py), so these give up early.
_QUEUE_CONFIG = CONFIG.merge(
    Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
)


class SystemClock:
    """The Clock port over the machine's clock."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)


@cache
def logger() -> Logger:
    """Return the logger of this function."""
    return Logger(service="portcullis", use_rfc3339=True, utc=True)


@cache
def metrics() -> Metrics:
    """Return the metrics of this function."""
    return Metrics(namespace="Portcullis", service="portcullis")


@cache
def intake() -> Intake:
    """Wire the intake function.

    Needs WORK_QUEUE_URL, QUEUE_DELAY_SECONDS, DEAD_LETTER_QUEUE_URL and REMEDIATOR_ROLE_NAME.
    """
    sqs = boto3.client("sqs", config=_QUEUE_CONFIG)
    dead_letters = SqsDeadLetters(sqs, _env("DEAD_LETTER_QUEUE_URL"))
    return Intake(_work_queue(sqs), dead_letters, _journal(), [_env("REMEDIATOR_ROLE_NAME")])


@cache
def reconcile() -> Reconcile:
    """Wire the reconcile function.

    Needs what the intake function needs, and PARTITION, OBSERVER_ROLE_NAME, TABLE_NAME and POLICY_PATH.
    An unusable policy fails here, before anything is read or changed.
    """
    session = boto3.Session()
    sqs = session.client("sqs", config=_QUEUE_CONFIG)
    partition = _env("PARTITION")
    roles = {Role.OBSERVER: _env("OBSERVER_ROLE_NAME"), Role.REMEDIATOR: _env("REMEDIATOR_ROLE_NAME")}
    accounts = Accounts(session, partition, roles)
    ports = Ports(
        observer=Ec2Observer(accounts),
        remediator=Ec2Remediator(accounts),
        sink=SecurityHubSink(accounts),
        store=DynamoDbStore(session.client("dynamodb", config=CONFIG), _env("TABLE_NAME")),
        queue=_work_queue(sqs),
        journal=_journal(),
        clock=SystemClock(),
    )
    loop = Loop(ports, policy.load(Path(_env("POLICY_PATH"))), partition=partition)
    return Reconcile(loop, ports.queue, SqsDeadLetters(sqs, _env("DEAD_LETTER_QUEUE_URL")), ports.journal)


def _work_queue(sqs: object) -> SqsWorkQueue:
    return SqsWorkQueue(sqs, _env("WORK_QUEUE_URL"), float(_env("QUEUE_DELAY_SECONDS")), SystemClock())


def _journal() -> PowertoolsJournal:
    return PowertoolsJournal(logger(), metrics())


def _env(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise PortcullisError(f"the environment variable {name} is not set; template.yaml sets it") from None
