"""An AWS organisation on one machine, with Portcullis deployed in it from the templates of the checkout."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
import socket
import tempfile
import textwrap
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from unittest.mock import patch

from moto.iam.models import IAMBackend, iam_backends
from moto.moto_api._internal.models import moto_api_backend
from moto.securityhub.models import securityhub_backends
from moto.server import ThreadedMotoServer

from . import fidelity, queues
from .clients import ACCOUNT_IDS, HOME_REGION, HUB_ACCOUNT_ID, MEMBER_ROLE_NAME, REGIONS, Clients
from .fidelity import authorization, eventbridge
from .functions import Function, FunctionSpec
from .journal import Journal
from .resources import Stack, deploy
from .template import TemplateError, load

if TYPE_CHECKING:
    from collections.abc import Mapping

ORGANISATION_ID = "o-a1b2c3d4e5"
CHECKOUT = Path(__file__).resolve().parent.parent
_load_aws_policies = IAMBackend._init_aws_policies
_loaded_policies: list[Any] = []

# moto reads these whenever it builds an account.
_MOTO_SETTINGS = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # several megabytes for each account and Region
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",  # roles attach AWS's own policies
}


class PortTakenError(Exception):
    """Something else listens on the port."""


class LocalOrganisation:
    """A context manager that starts the organisation, lends clients for it, and stops it.

    Everything that happens is in `journal`; `functions` has the hub's by logical id; `clients` are people's.
    """

    clients: Clients
    _running: ClassVar[bool] = False  # moto keeps its state in module globals: there can be but one

    def __init__(
        self, *, port: int = 0, parameters: Mapping[str, str] | None = None, checkout: Path = CHECKOUT
    ) -> None:
        """Prepare one that listens on `port` (0 is any free one), with `parameters` of the hub's template."""
        self.journal = Journal()
        self.functions: dict[str, Function] = {}
        self._port = port
        self._parameters = {"OrganizationId": ORGANISATION_ID, **(parameters or {})}
        self._checkout = checkout
        self._cleanup = ExitStack()
        self._stacks: list[Stack] = []

    def __enter__(self) -> Self:
        """Start an empty AWS, create the accounts, and deploy all stacks; PortTakenError, TemplateError."""
        if LocalOrganisation._running:
            raise RuntimeError("another local organisation runs in this process, and moto has but one state")
        try:
            self._start(_free_port(self._port))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End every process and thread; the organisation and all that is in it are gone."""
        self._cleanup.close()

    def client(self, service: str, account_id: str = HUB_ACCOUNT_ID, region: str = HOME_REGION) -> Any:
        """Return a boto3 client for a person who administers `account_id`."""
        return self.clients.client(service, account_id, region)

    def dead_letters(self) -> list[queues.DeadLetter]:
        """Return what is in the dead-letter queues, without receiving it."""
        return [letter for q in self._queues(dead=True).items() for letter in queues.dead_letters(*q)]

    def settled(self, timeout: float) -> bool:
        """Wait until no event is underway, all queues are empty and no function runs; say if that came true."""
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            before = [function.invocations for function in self.functions.values()]
            # Two looks without an invocation between: what ended during the first may have left an event.
            empty = [
                eventbridge.settle(remaining) and not any(map(queues.depth, self._queues(dead=False).values()))
                for _ in range(2)
            ]
            if all(empty) and before == [function.invocations for function in self.functions.values()]:
                return True
            time.sleep(0.02)
        return False

    def _queues(self, *, dead: bool) -> dict[str, str]:
        hub = self._stacks[0]
        alive = {source.queue_arn for source in hub.event_sources}
        return {name: arn for name, arn in hub.queues.items() if (arn not in alive) == dead}

    def _start(self, port: int) -> None:
        LocalOrganisation._running = True
        self._cleanup.callback(setattr, LocalOrganisation, "_running", False)  # noqa: FBT003 - it is setattr's
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request hides the journal
        self._cleanup.enter_context(patch.dict(os.environ, {**_MOTO_SETTINGS, "MOTO_PORT": str(port)}))
        moto_api_backend.reset()
        queues.install()
        hooks = fidelity.Hooks(
            on_delivery_failure=self._on_delivery_failure,
            organisation_id=ORGANISATION_ID,
            is_member=ACCOUNT_IDS.__contains__,
        )
        fidelity.install(hooks)
        # Events that are underway arrive here, and not in the next organisation.
        self._cleanup.callback(eventbridge.settle)
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="portcullis-"))
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        self._cleanup.callback(server.stop)
        self.clients = self._cleanup.enter_context(closing(Clients(f"http://localhost:{port}")))
        _create_accounts()
        hub = deploy_hub(self.clients, self._checkout, self._parameters)
        self._stacks = [hub, *deploy_members(self.clients, self._checkout, hub.outputs)]
        self._run_functions(hub, Path(folder))
        fidelity.install(replace(hooks, on_api_call=self._on_api_call))
        self.journal.record("event", f"{len(self._stacks)} stacks are deployed")

    def _run_functions(self, hub: Stack, folder: Path) -> None:
        endpoint_url = self.clients.endpoint_url
        functions = {s.name: Function(s, folder, self.journal, endpoint_url, _session_of_role) for s in hub.functions}
        self.functions = {function.spec.logical_id: function for function in functions.values()}
        for source in hub.event_sources:
            poller = queues.Poller(source, functions[source.function_name].invoke, self.journal)
            self._cleanup.callback(poller.stop)
        # Last, and so undone first: a poller waits for the invocations that this cuts short.
        for function in functions.values():
            self._cleanup.callback(function.stop)

    def _on_api_call(self, call: fidelity.ApiCall) -> None:
        """Note what a person changed; calls of Portcullis's own roles are none."""
        if f":assumed-role/{authorization.ENFORCED_PREFIX}" in call.principal_arn:
            return
        plain = " ".join(f"{name}={value}" for name, value in call.request.items() if isinstance(value, (str, int)))
        text = f"{call.service} {call.action} {textwrap.shorten(plain, 80, placeholder=' ...')}".rstrip()
        failed = f" failed: {call.error_code}" if call.error_code else ""
        data = {"service": call.service, "action": call.action, "error_code": call.error_code}
        self.journal.record("call", text + failed, account_id=call.account_id, region=call.region, data=data)

    def _on_delivery_failure(self, failure: fidelity.DeliveryFailure) -> None:
        text = f"an event was not delivered to {failure.target_arn}: {failure.error_code}: {failure.message}"
        self.journal.record("error", text)


def _create_accounts() -> None:
    """Give every account the role that AWS gives it, and Security Hub in every governed Region."""
    IAMBackend._init_aws_policies = _aws_policies
    hub = {"AWS": f"arn:aws:iam::{HUB_ACCOUNT_ID}:root"}
    statement = {"Effect": "Allow", "Principal": hub, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for account_id in ACCOUNT_IDS:
        # Inside moto: nobody can sign a call for an account that has no role yet, and it saves a second.
        iam_backends[account_id]["aws"].create_role(MEMBER_ROLE_NAME, trust, "/", None, None, [], "3600")
        for region in REGIONS:
            securityhub_backends[account_id][region].enable_security_hub()


def _aws_policies(backend: Any) -> list[Any]:
    """Load AWS's 1,500 policies once, and for its own partition only: moto builds every account in six."""
    if backend.region_name == "aws" and not _loaded_policies:
        _loaded_policies.extend(_load_aws_policies(backend))
    return [copy.copy(policy) for policy in _loaded_policies] if backend.region_name == "aws" else []


def deploy_hub(clients: Clients, checkout: Path, parameters: Mapping[str, str], *, name: str = "portcullis") -> Stack:
    """Deploy template.yaml to the hub; AssumeRoleDeniedError if Lambda may not assume the role of a function."""
    stack = Stack(name, HUB_ACCOUNT_ID, HOME_REGION, load(checkout / "template.yaml", parameters), clients)
    deploy(stack, parameters)
    for spec in stack.functions:
        _session_of_role(spec)
    return stack


def deploy_members(clients: Clients, checkout: Path, hub_outputs: Mapping[str, str]) -> list[Stack]:
    """Deploy the member templates; a parameter of theirs takes the hub stack's output of the same name."""
    stacks = []
    for name, regions in (("member-account", (HOME_REGION,)), ("member-region", REGIONS)):
        template = load(checkout / "infra" / f"{name}.yaml")
        values = {key: value for key, value in hub_outputs.items() if key in template.section("Parameters")}
        for account_id, region in itertools.product(ACCOUNT_IDS, regions):
            stack = Stack(f"portcullis-{name}", account_id, region, template, clients)
            deploy(stack, values)
            if stack.functions or stack.queues:
                raise TemplateError(f"infra/{name}.yaml: only the hub's functions and queues are served here")
            stacks.append(stack)
    return stacks


def _session_of_role(spec: FunctionSpec) -> dict[str, str]:
    """Return the credentials that the Lambda service hands to a function, as environment variables."""
    service = "lambda.amazonaws.com"
    issued = authorization.assume_role_as_service(
        spec.properties["Role"], spec.name, service=service, region=HOME_REGION
    )
    names = {"ACCESS_KEY_ID": "AccessKeyId", "SECRET_ACCESS_KEY": "SecretAccessKey", "SESSION_TOKEN": "SessionToken"}
    return {f"AWS_{name}": issued[key] for name, key in names.items()}


def _free_port(port: int) -> int:
    """Return a port to listen on: `port`, or any free one for 0."""
    with socket.socket() as probe:
        # As the server does it: connections of an earlier run that linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTakenError(f"port {port} is taken; choose another with PORT=...") from error
        return int(probe.getsockname()[1])
