"""An AWS organisation on one machine, with Portcullis deployed in it from the templates of the checkout."""

from __future__ import annotations

import copy
import logging
import os
import socket
import tempfile
import textwrap
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from moto.iam.models import IAMBackend
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from . import fidelity, queues
from .clients import HOME_REGION, HUB_ACCOUNT_ID, Clients
from .deployment import (
    ACCOUNT_IDS,
    MEMBER_ACCOUNT_IDS,
    REGIONS,
    create_accounts,
    deploy_hub,
    deploy_members,
    session_of_role,
)
from .event_sources import Poller
from .fidelity import eventbridge
from .functions import Answer, Function
from .journal import Journal
from .packaging import Packager
from .queues import DeadLetter, QueueDepth
from .stacks import DEFAULT_CONCURRENCY, QueueSpec, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ACCOUNT_IDS",
    "CHECKOUT",
    "HOME_REGION",
    "HUB_ACCOUNT_ID",
    "MEMBER_ACCOUNT_IDS",
    "ORGANISATION_ID",
    "REGIONS",
    "DeadLetter",
    "LocalOrganisation",
    "PortTakenError",
    "QueueDepth",
]

ORGANISATION_ID = "o-a1b2c3d4e5"
CHECKOUT = Path(__file__).resolve().parent.parent

# moto reads these whenever it builds an account.
_MOTO_SETTINGS = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # several megabytes for each account and Region
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",  # roles attach AWS's own policies
    "MOTO_ALLOW_NONEXISTENT_REGION": "false",
}

_load_aws_policies = IAMBackend._init_aws_policies
_loaded_policies: list[Any] = []


class PortTakenError(Exception):
    """Something else listens on the port."""


class _Running:
    """The one organisation of this process: moto keeps its state in module globals."""

    organisation: LocalOrganisation | None = None


class LocalOrganisation:
    """Starts the organisation, lends clients for it, and stops it; also a context manager.

    Everything that happens is in `journal`, which may be subscribed to before `start`.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        parameters: Mapping[str, str] | None = None,
        checkout: Path = CHECKOUT,
        package_from_source: bool | None = None,
    ) -> None:
        """Prepare an organisation; nothing runs before `start`.

        Args:
            port: Where to listen; 0 or None takes a free port.
            parameters: Overrides of the hub template's parameters.
            checkout: The folder that holds template.yaml and infra/.
            package_from_source: Whether the functions run the package of the checkout (the default) or what
                `make` builds for its layer. PORTCULLIS_LAYER_FROM_SOURCE=0 says the latter, too.
        """
        self.journal = Journal()
        self._port = port or 0
        self._parameters = {"OrganizationId": ORGANISATION_ID, **(parameters or {})}
        self._checkout = checkout
        if package_from_source is None:
            package_from_source = os.environ.get("PORTCULLIS_LAYER_FROM_SOURCE", "1") != "0"
        self._package_from_source = package_from_source
        self._cleanup = ExitStack()
        self._clients: Clients | None = None
        self._stacks: list[Stack] = []
        self._functions: dict[str, Function] = {}
        self._deployed = False

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def endpoint_url(self) -> str:
        """The endpoint for any AWS client."""
        return self._running.endpoint_url

    @property
    def _running(self) -> Clients:
        if self._clients is None:
            raise RuntimeError("the local organisation is not running; call start() first")
        return self._clients

    def start(self) -> None:
        """Start an empty AWS, create the accounts, and deploy all stacks.

        Raises:
            PortTakenError: something listens on the port already.
            TemplateError: a template that cannot be deployed.
        """
        if _Running.organisation is not None:
            raise RuntimeError("another local organisation runs in this process, and moto has but one state")
        port = _free_port(self._port)
        _Running.organisation = self
        try:
            self._start(port)
        except BaseException:
            self.stop()
            raise

    def _start(self, port: int) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request hides the journal
        self._cleanup.enter_context(_environment({**_MOTO_SETTINGS, "MOTO_PORT": str(port)}))
        IAMBackend._init_aws_policies = _aws_policies
        moto_api_backend.reset()
        queues.install()
        fidelity.install(
            fidelity.Hooks(
                on_api_call=self._on_api_call,
                on_delivery_failure=self._on_delivery_failure,
                organisation_id=ORGANISATION_ID,
                is_member=ACCOUNT_IDS.__contains__,
            )
        )
        self._cleanup.callback(self._wait_for_events)
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="portcullis-"))
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        self._cleanup.callback(server.stop)
        self._clients = self._cleanup.enter_context(closing(Clients(f"http://localhost:{port}")))
        self._deploy_everything(self._clients, Path(folder))
        self._deployed = True
        self.journal.record("event", f"{len(self._stacks)} stacks are deployed", data={"stacks": len(self._stacks)})

    def stop(self) -> None:
        """End every process and thread; the organisation and all that is in it are gone."""
        self._deployed = False
        self._cleanup.close()
        self._clients, self._stacks, self._functions = None, [], {}
        if _Running.organisation is self:
            _Running.organisation = None

    def client(self, service: str, account_id: str = HUB_ACCOUNT_ID, region: str = HOME_REGION) -> Any:
        """Return a boto3 client for a person who administers `account_id`; it is closed by `stop`."""
        return self._running.client(service, account_id, region)

    def invoke(self, logical_id: str, payload: Any) -> Answer:
        """Invoke a function of the hub stack and return its answer.

        Raises:
            KeyError: the hub stack has no such function.
        """
        return self._functions[logical_id].invoke(payload)

    def queue_depths(self) -> dict[str, QueueDepth]:
        """Return the depth of every queue of the hub stack that is not a dead-letter queue."""
        return {spec.logical_id: queues.depth(spec.arn) for spec in self._queues(dead=False)}

    def dead_letters(self) -> list[DeadLetter]:
        """Return what is in the dead-letter queues, without receiving it."""
        return [letter for q in self._queues(dead=True) for letter in queues.dead_letters(q.logical_id, q.arn)]

    def settled(self, timeout: float) -> bool:
        """Wait until no event is underway, all queues are empty and no function runs; say if that came true.

        Raises:
            fidelity.eventbridge.UnsupportedTargetError: an event met a target that nothing here delivers to.
        """
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            before = self._invocations()
            # Two looks without an invocation between: what ended during the first may have left an event.
            looks = (eventbridge.settle(remaining) and not self._busy() for _ in range(2))
            if all(looks) and self._invocations() == before:
                return True
            time.sleep(0.02)
        return False

    def _wait_for_events(self) -> None:
        """Let events that are underway arrive here, and not in the next organisation."""
        try:
            eventbridge.settle()
        except Exception as error:  # noqa: BLE001 - whatever a delivery raised; nobody asked before
            self.journal.record("error", f"an event could not be delivered: {error}")

    def _busy(self) -> bool:
        waiting = any(depth.total for depth in self.queue_depths().values())
        return waiting or any(function.running for function in self._functions.values())

    def _invocations(self) -> int:
        return sum(function.invocations for function in self._functions.values())

    def _queues(self, *, dead: bool) -> Iterator[QueueSpec]:
        dead_letter_arns = {arn for stack in self._stacks for arn in stack.dead_letter_arns}
        for stack in self._stacks:
            yield from (spec for spec in stack.queues if (spec.arn in dead_letter_arns) == dead)

    def _deploy_everything(self, clients: Clients, folder: Path) -> None:
        create_accounts()
        hub = deploy_hub(clients, self._checkout, self._parameters)
        self._stacks = [hub, *deploy_members(clients, self._checkout, hub.outputs)]
        packager = Packager(folder, package_from_source=self._package_from_source)
        pollers = []
        for spec in hub.functions:
            sources = [source for source in hub.event_sources if source.function_name == spec.name]
            limit = max((source.concurrency for source in sources), default=DEFAULT_CONCURRENCY)
            self._functions[spec.logical_id] = function = Function(
                spec,
                packager,
                self.journal,
                clients.endpoint_url,
                session_of_role,
                concurrency=spec.reserved_concurrency or limit,
            )
            pollers += [Poller(source, function, self.journal) for source in sources]
        for poller in pollers:
            poller.start()
            self._cleanup.callback(poller.stop)
        # Last, and so undone first: a poller waits for the invocations that this cuts short.
        for function in self._functions.values():
            self._cleanup.callback(function.stop)

    def _on_api_call(self, call: fidelity.ApiCall) -> None:
        """Note what a person changed; the calls of the deployment and of the functions are none."""
        *_, resource = call.principal_arn.split(":")
        kind, _, name = resource.partition("/")
        ours = {name for stack in self._stacks for name in stack.role_names}
        if not self._deployed or (kind == "assumed-role" and name.split("/")[0] in ours):
            return
        failed = f" failed: {call.error_code}" if call.error_code else ""
        text = f"{call.service} {call.action} {_summary(call.request)}".rstrip() + failed
        data = {
            "service": call.service,
            "action": call.action,
            "error_code": call.error_code,
            "principal": call.principal_arn,
            "request": call.request,
            "response": call.response,
        }
        self.journal.record("call", text, account_id=call.account_id, region=call.region, data=data)

    def _on_delivery_failure(self, failure: fidelity.DeliveryFailure) -> None:
        _, _, _, region, account_id, _ = failure.rule_arn.split(":", 5)
        text = f"an event was not delivered to {failure.target_arn}: {failure.error_code}: {failure.message}"
        data = {"rule": failure.rule_arn, "event": failure.event, "dead_lettered": failure.dead_lettered}
        self.journal.record("error", text, account_id=account_id, region=region, data=data)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _aws_policies(backend: Any) -> list[Any]:
    """Load AWS's 1,500 policies once, and for its own partition only: moto builds every account in six."""
    if backend.region_name != "aws":
        return []
    if not _loaded_policies:
        _loaded_policies.extend(_load_aws_policies(backend))
    return [copy.copy(policy) for policy in _loaded_policies]


def _summary(request: Mapping[str, Any]) -> str:
    """Return the plain parameters of a call in a few words."""
    plain = [f"{name}={value}" for name, value in request.items() if isinstance(value, (str, int))]
    return textwrap.shorten(" ".join(plain), 80, placeholder=" ...")


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
