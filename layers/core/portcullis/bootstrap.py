"""The one place where the ports are wired to AWS, from the function's environment."""

from __future__ import annotations

import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from botocore.config import Config

from portcullis import policy
from portcullis.adapters.accounts import Accounts, Role
from portcullis.adapters.calls import CONFIG
from portcullis.adapters.clock import SystemClock
from portcullis.adapters.coverage_store import DynamoDbCoverageStore
from portcullis.adapters.directory import OrganizationsDirectory
from portcullis.adapters.journal import PowertoolsJournal
from portcullis.adapters.ledger import DynamoDbLedger
from portcullis.adapters.observer import Ec2Observer
from portcullis.adapters.queues import SqsDeadLetters, SqsWorkQueue
from portcullis.adapters.remediator import Ec2Remediator
from portcullis.adapters.scheduler import EventBridgeScheduler
from portcullis.adapters.securityhub import SecurityHubSink
from portcullis.adapters.store import DynamoDbStore
from portcullis.adapters.switch import SsmSwitch
from portcullis.batch import Intake, Reconcile
from portcullis.errors import PortcullisError
from portcullis.findings import Place
from portcullis.loop import Loop
from portcullis.model import Ask
from portcullis.ports import Ports, SurveyPorts
from portcullis.requests import Approval, RequestPorts
from portcullis.survey import Survey, Sweep
from portcullis.work import slack_seconds

# Slow senders would eat into the work queue's delay (see work.py), so these give up early.
_QUEUE_CONFIG = CONFIG.merge(
    Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
)


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

    Needs WORK_QUEUE_URL, QUEUE_DELAY_SECONDS, DEAD_LETTER_QUEUE_URL, REMEDIATOR_ROLE_NAME and TABLE_NAME.
    """
    session = boto3.Session()
    sqs = session.client("sqs", config=_QUEUE_CONFIG)
    dead_letters = SqsDeadLetters(sqs, _env("DEAD_LETTER_QUEUE_URL"))
    return Intake(_work_queue(sqs), dead_letters, _coverage(session), journal(), [_env("REMEDIATOR_ROLE_NAME")])


@cache
def reconcile() -> Reconcile:
    """Wire the reconcile function.

    Needs what the intake function needs, and PARTITION, OBSERVER_ROLE_NAME, POLICY_PATH, KILL_SWITCH_NAME,
    WORK_QUEUE_ARN and LOOKS_ROLE_ARN. An unusable policy fails here, before anything is read or changed.
    """
    session = boto3.Session()
    ports = _ports(session)
    dead_letters = SqsDeadLetters(session.client("sqs", config=_QUEUE_CONFIG), _env("DEAD_LETTER_QUEUE_URL"))
    return Reconcile(_loop(ports), ports.queue, dead_letters, ports.journal)


@cache
def sweep() -> Sweep:
    """Wire the sweep function. It changes nothing, and its role may not assume the remediator.

    Needs what the reconcile function needs, but for DEAD_LETTER_QUEUE_URL.
    """
    session = boto3.Session()
    ports = _ports(session)
    return Sweep(_loop(ports), ports.observer, ports.sink, _coverage(session), ports.journal)


@cache
def approval() -> Approval:
    """Wire the approval function.

    Needs WORK_QUEUE_URL, QUEUE_DELAY_SECONDS, DEAD_LETTER_QUEUE_URL, TABLE_NAME, HUB_ACCOUNT_ID, REMEDIATE_ACTION_ARN
    and UNDO_ACTION_ARN.
    """
    session = boto3.Session()
    sqs = session.client("sqs", config=_QUEUE_CONFIG)
    ports = RequestPorts(
        store=_store(session),
        ledger=_ledger(session),
        queue=_work_queue(sqs),
        dead_letters=SqsDeadLetters(sqs, _env("DEAD_LETTER_QUEUE_URL")),
        journal=journal(),
        clock=SystemClock(),
    )
    actions = {_env("REMEDIATE_ACTION_ARN"): Ask.REMEDIATE, _env("UNDO_ACTION_ARN"): Ask.UNDO}
    return Approval(ports, _env("HUB_ACCOUNT_ID"), actions)


@cache
def survey() -> Survey:
    """Wire the survey function.

    Needs PARTITION, TABLE_NAME, HUB_ACCOUNT_ID, TARGET_ORGANIZATIONAL_UNIT_IDS, GOVERNED_REGIONS and
    ADDITIONAL_ACCOUNT_IDS, the last three separated by commas.
    """
    session = boto3.Session()
    parents, regions, more_accounts = (
        [part.strip() for part in _env(name).split(",") if part.strip()]
        for name in ("TARGET_ORGANIZATIONAL_UNIT_IDS", "GOVERNED_REGIONS", "ADDITIONAL_ACCOUNT_IDS")
    )
    security_hub = session.client("securityhub", config=CONFIG)
    ports = SurveyPorts(
        directory=OrganizationsDirectory(session.client("organizations", config=CONFIG), parents, SystemClock()),
        coverage=_coverage(session),
        sink=SecurityHubSink(lambda *_: security_hub),
        store=_store(session),
        journal=journal(),
        clock=SystemClock(),
    )
    hub = Place(_env("PARTITION"), _env("HUB_ACCOUNT_ID"), _env("AWS_REGION"))
    return Survey(ports, hub=hub, regions=regions, more_accounts=more_accounts)


def _ports(session: Any) -> Ports:
    roles = {Role.OBSERVER: _env("OBSERVER_ROLE_NAME"), Role.REMEDIATOR: _env("REMEDIATOR_ROLE_NAME")}
    accounts, clock = Accounts(session, _env("PARTITION"), roles), SystemClock()
    scheduler = session.client("scheduler", config=CONFIG)
    return Ports(
        observer=Ec2Observer(accounts, _env("AWS_REGION"), clock),
        remediator=Ec2Remediator(accounts),
        sink=SecurityHubSink(partial(accounts.observer, "securityhub")),
        store=_store(session),
        ledger=_ledger(session),
        queue=_work_queue(session.client("sqs", config=_QUEUE_CONFIG)),
        scheduler=EventBridgeScheduler(scheduler, _env("WORK_QUEUE_ARN"), _env("LOOKS_ROLE_ARN"), clock),
        switch=SsmSwitch(session.client("ssm", config=CONFIG), _env("KILL_SWITCH_NAME"), journal()),
        directory=OrganizationsDirectory(session.client("organizations", config=CONFIG), (), clock),
        journal=journal(),
        clock=clock,
    )


def _loop(ports: Ports) -> Loop:
    wanted, slack = policy.load(Path(_env("POLICY_PATH"))), slack_seconds(float(_env("QUEUE_DELAY_SECONDS")))
    return Loop(ports, wanted, partition=_env("PARTITION"), slack=slack)


def _store(session: Any) -> DynamoDbStore:
    return DynamoDbStore(session.client("dynamodb", config=CONFIG), _env("TABLE_NAME"))


def _ledger(session: Any) -> DynamoDbLedger:
    return DynamoDbLedger(session.client("dynamodb", config=CONFIG), _env("TABLE_NAME"))


def _coverage(session: Any) -> DynamoDbCoverageStore:
    return DynamoDbCoverageStore(session.client("dynamodb", config=CONFIG), _env("TABLE_NAME"), SystemClock())


def _work_queue(sqs: Any) -> SqsWorkQueue:
    return SqsWorkQueue(sqs, _env("WORK_QUEUE_URL"), float(_env("QUEUE_DELAY_SECONDS")), SystemClock())


def journal() -> PowertoolsJournal:
    """Return the journal of this function."""
    return PowertoolsJournal(logger(), metrics())


def _env(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise PortcullisError(f"the environment variable {name} is not set; template.yaml sets it") from None
