"""An AWS organisation on one machine, with Portcullis deployed in it from the templates of the checkout."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from unittest.mock import patch

from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from . import clock, fidelity, queues
from .accounts import ORGANISATION_ID, ROOT_ID, create_organisation, furnish
from .clients import HOME_REGION, HUB_ACCOUNT_ID, MANAGEMENT_ACCOUNT_ID, REGIONS, Clients, DeploymentClients
from .fidelity import authorization, eventbridge, organizations, securityhub, stepfunctions
from .fidelity.scheduler import Scheduler
from .functions import Answer, Function, FunctionSpec
from .journal import Journal
from .resources import Stack, deploy, deploy_member
from .template import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from .stack_sets import Organisation

CHECKOUT = Path(__file__).resolve().parent.parent

# moto reads these whenever it builds an account.
KILL_SWITCH = "/portcullis/changes"
"""The parameter of SSM with which a hub lets changes be made."""

_MOTO_SETTINGS = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # several megabytes for each account and Region
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",  # roles attach AWS's own policies
}


class PortTakenError(Exception):
    """Something else listens on the port."""


class LocalOrganisation:
    """A context manager that starts the organisation, lends clients for it, and stops it.

    Everything that happens is in `journal`, every mutating EC2, IAM, Security Hub and STS call since all was deployed
    in `api_calls`; `functions` has the hub's by logical id; `clients` are people's.
    """

    clients: Clients
    _running: ClassVar[bool] = False  # moto keeps its state in module globals: there can be but one

    def __init__(
        self,
        *,
        port: int = 0,
        parameters: Mapping[str, str] | None = None,
        checkout: Path = CHECKOUT,
        management_stacks: bool = True,
        schedules_at_once: bool = True,
    ) -> None:
        """Prepare one that listens on `port` (0 is any free one), with `parameters` of the hub's template.

        The member templates are deployed as plain stacks in the management account, which no StackSet reaches; not
        so without `management_stacks`. Schedules begin with an invocation, as on AWS; without `schedules_at_once`,
        with a pause.
        """
        self.journal = Journal()
        self.functions: dict[str, Function] = {}
        self.api_calls: list[fidelity.ApiCall] = []
        ours = {"OrganizationId": ORGANISATION_ID, "TargetOrganizationalUnitIds": ROOT_ID}
        self._port = port
        self._parameters = {**ours, "GovernedRegions": ",".join(REGIONS), **(parameters or {})}
        self._checkout = checkout
        self._management_stacks = management_stacks
        self._schedules_at_once = schedules_at_once
        self._cleanup = ExitStack()
        self._disabled: set[tuple[str, str]] = set()
        self._by_arn: dict[str, Function] = {}
        self._deployments: list[Future[None]] = []
        self._ready = False
        self._moving = threading.Lock()

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

    def client(
        self, service: str, account_id: str = HUB_ACCOUNT_ID, region: str = HOME_REGION, *, as_: str | None = None
    ) -> Any:
        """Return a boto3 client for a person who administers `account_id`; `as_` with a tool (see clients.CALLERS)."""
        return self.clients.client(service, account_id, region, as_=as_)

    def dead_letters(self) -> list[queues.DeadLetter]:
        """Return what is in the dead-letter queues, without receiving it."""
        return [letter for q in self._queues(dead=True).items() for letter in queues.dead_letters(*q)]

    def join(self, account_id: str, name: str, unit_id: str = ROOT_ID) -> None:
        """Let a new account join the organisation; its member stacks follow in the background."""
        organizations.add_account(MANAGEMENT_ACCOUNT_ID, account_id, name, unit_id)

    def disable_region(self, account_id: str, region: str) -> None:
        """Switch a Region off for an account: its calls there fail, and DescribeRegions says so."""
        self._disabled.add((account_id, region))

    def run_schedule(self, name: str, account_id: str = HUB_ACCOUNT_ID, region: str = HOME_REGION) -> None:
        """Invoke the target of a schedule now, as if its time had come; KeyError if there is no such schedule."""
        self._scheduler.invoke(name, account_id, region)

    def move_time(self, forward: timedelta) -> None:
        """Move the time of everything forward; what is due then happens at once. ValueError if it is not forward.

        Batches of messages in progress are waited for; their functions work by the time at which they were called.
        """
        if forward <= timedelta():
            raise ValueError(f"time only moves forward, not by {forward}")
        with self._moving, queues.between_batches():
            clock.move(forward.total_seconds())
        self.journal.record("event", f"time moved forward by {forward}")

    def custom_action(
        self,
        name_or_arn: str,
        finding_ids: Sequence[str],
        account_id: str = HUB_ACCOUNT_ID,
        region: str = HOME_REGION,
    ) -> None:
        """Send findings to a custom action of Security Hub, as an analyst does in its console.

        LookupError if there is no such action, or no such finding that this account sees in this Region.
        """
        securityhub.custom_action(account_id, region, name_or_arn, finding_ids)
        self.journal.record("event", f"{name_or_arn}: {', '.join(finding_ids)}", account_id=account_id, region=region)

    def update_custom_resources(self, **properties: Any) -> None:
        """Update the stack's custom resources, with some other properties; TemplateError if a function fails."""
        for resource in self._hub.custom_resources:
            resource.send("Update", properties)

    def delete_custom_resources(self) -> None:
        """Delete the stack's custom resources, as when the stack is deleted; TemplateError if a function fails."""
        while self._hub.custom_resources:
            self._hub.custom_resources.pop().send("Delete")

    def settled(self, timeout: float) -> bool:
        """Wait until nothing is underway: events, schedules, executions, deployments, messages, functions."""
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            before = [function.invocations for function in self.functions.values()]
            # Two looks without an invocation between: what ended during the first may have left an event.
            quiet = [self._is_quiet(remaining) for _ in range(2)]
            if all(quiet) and before == [function.invocations for function in self.functions.values()]:
                return True
            time.sleep(0.02)
        return False

    def _is_quiet(self, remaining: float) -> bool:
        return (
            all(deployment.done() for deployment in self._deployments)
            and self._scheduler.idle()
            and not stepfunctions.running()
            and eventbridge.settle(remaining)
            and not any(map(queues.depth, self._queues(dead=False).values()))
            and not any(function.busy for function in self.functions.values())
        )

    # What StackSets ask and tell (see stack_sets.Organisation).

    def accounts_below(self, unit_ids: Sequence[str]) -> list[str]:
        """Return the active member accounts in organisational units and all that is below them."""
        found = organizations.accounts_below(MANAGEMENT_ACCOUNT_ID, unit_ids)
        return [account_id for account_id in found if account_id != MANAGEMENT_ACCOUNT_ID]

    def is_enabled(self, account_id: str, region: str) -> bool:
        """Return whether an account has enabled a Region."""
        return (account_id, region) not in self._disabled

    def run(self, spec: FunctionSpec, event: Any) -> Answer:
        """Invoke a function of the hub's stack, of which other resources may be missing yet."""
        return self._function(spec).invoke(event)

    def tell(self, text: str, account_id: str, region: str) -> None:
        """Note something that the organisation itself did."""
        self.journal.record("event", text, account_id=account_id, region=region)

    def _queues(self, *, dead: bool) -> dict[str, str]:
        alive = {source.queue_arn for source in self._hub.event_sources}
        return {name: arn for name, arn in self._hub.queues.items() if (arn not in alive) == dead}

    def _start(self, port: int) -> None:
        LocalOrganisation._running = True
        self._cleanup.callback(setattr, LocalOrganisation, "_running", False)  # noqa: FBT003 - it is setattr's
        self._cleanup.callback(clock.reset)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request hides the journal
        logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)  # what fails is in the journal
        self._cleanup.enter_context(patch.dict(os.environ, {**_MOTO_SETTINGS, "MOTO_PORT": str(port)}))
        moto_api_backend.reset()
        queues.install()
        fidelity.install(
            fidelity.Hooks(
                on_api_call=self._on_api_call,
                on_delivery_failure=self._on_delivery_failure,
                on_membership=self._on_membership,
                on_execution=self._on_execution,
                organisation_id=ORGANISATION_ID,
                is_member=lambda account_id: organizations.is_member(MANAGEMENT_ACCOUNT_ID, account_id),
                is_enabled=self.is_enabled,
                invoke=self._invoke,
                administrator=(HUB_ACCOUNT_ID, HOME_REGION),
                by_hand=self._by_hand,
            )
        )
        # Events that are underway arrive here, and not in the next organisation.
        self._cleanup.callback(eventbridge.settle)
        self._folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="portcullis-")))
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        self._cleanup.callback(server.stop)
        self.clients = self._cleanup.enter_context(closing(Clients(f"http://localhost:{port}")))
        deployer = self._cleanup.enter_context(closing(DeploymentClients(f"http://localhost:{port}")))
        self._executor = self._cleanup.enter_context(ThreadPoolExecutor(1, "deployment"))
        create_organisation()
        self._hub = deploy_hub(deployer, self._checkout, self._parameters, organisation=self)
        management = self._deploy_management(deployer) if self._management_stacks else 0
        self._let_changes_begin()
        self._run_functions(self._hub)
        self._ready = True
        count = 1 + management + sum(map(len, self._hub.stack_sets))
        self.journal.record("event", f"{count} stacks are deployed")
        self._scheduler = Scheduler(self._on_schedule_failure, at_once=self._schedules_at_once)
        self._cleanup.callback(self._scheduler.stop)

    def _let_changes_begin(self) -> None:
        """Do what a person does after a deployment: set the kill switch, if there is one, to `enabled`."""
        ssm = self.client("ssm")
        with suppress(ssm.exceptions.ParameterNotFound):
            ssm.get_parameter(Name=KILL_SWITCH)
            ssm.put_parameter(Name=KILL_SWITCH, Value="enabled", Overwrite=True)

    def _deploy_management(self, clients: Clients) -> int:
        """Deploy the member templates as plain stacks; their parameters are the hub's outputs of the same names."""
        governed = self._parameters["GovernedRegions"].split(",")
        places = [("member-account", HOME_REGION), *(("member-region", region) for region in governed)]
        for name, region in places:
            template = load(self._checkout / "infra" / f"{name}.yaml")
            values = {key: value for key, value in self._hub.outputs.items() if key in template.section("Parameters")}
            stack = Stack(f"portcullis-{name}", MANAGEMENT_ACCOUNT_ID, region, template, clients)
            deploy_member(stack, values)
            self.tell(f"{stack.name} deployed in {MANAGEMENT_ACCOUNT_ID} {region}", MANAGEMENT_ACCOUNT_ID, region)
        return len(places)

    def _function(self, spec: FunctionSpec) -> Function:
        if spec.arn not in self._by_arn:
            function = Function(spec, self._folder, self.journal, self.clients.endpoint_url, _session_of_role)
            self._by_arn[spec.arn] = function
            self._cleanup.callback(function.stop)
        return self._by_arn[spec.arn]

    def _run_functions(self, hub: Stack) -> None:
        functions = {spec.name: self._function(spec) for spec in hub.functions}
        self.functions = {function.spec.logical_id: function for function in functions.values()}
        for source in hub.event_sources:
            poller = queues.Poller(source, functions[source.function_name].invoke, self.journal)
            self._cleanup.callback(poller.stop)
        self._cleanup.callback(stepfunctions.stop_all)
        # Last, and so undone first: pollers and executions wait for the invocations that this cuts short.
        for function in functions.values():
            self._cleanup.callback(function.stop)

    def _invoke(self, arn: str, payload: Any) -> Answer | None:
        function = self._by_arn.get(arn)
        return function.invoke(payload) if function else None

    def _by_hand(self, what: str, form: Mapping[str, list[str]]) -> str:
        """Serve `by_hand`: `time` with `forward`, or `custom-action` with `action` and `finding`s."""
        if what == "custom-action":
            self.custom_action(form["action"][0], form["finding"])
            return "sent"
        if what != "time":
            raise LookupError(f"there is time and custom-action, not {what}")
        self.move_time(_duration(form["forward"][0]))
        return f"it is now {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"

    def _on_api_call(self, call: fidelity.ApiCall) -> None:
        """Note what a person changed; calls of Portcullis's own roles, and of stacks, are none."""
        if not self._ready or call.principal_arn.endswith(":user/deployment"):
            return
        self.api_calls.append(call)
        if call.service == "sts" or f":assumed-role/{authorization.ENFORCED_PREFIX}" in call.principal_arn:
            return
        plain = " ".join(f"{name}={value}" for name, value in call.request.items() if isinstance(value, (str, int)))
        text = f"{call.service} {call.action} {textwrap.shorten(plain, 80, placeholder=' ...')}".rstrip()
        failed = f" failed: {call.error_code}" if call.error_code else ""
        data = {"service": call.service, "action": call.action, "error_code": call.error_code}
        self.journal.record("call", text + failed, account_id=call.account_id, region=call.region, data=data)

    def _on_membership(self, account_id: str, change: str) -> None:
        """Furnish an account that joined, and let the StackSets reach for one that joined or moved."""
        if change == "joined":
            furnish(account_id)
        if not self._ready:
            return
        gone = "" if change in ("joined", "moved") else "; its stacks stay, other than on AWS"
        self.journal.record("event", f"account {account_id} {change}{gone}", account_id=account_id)
        if not gone:
            self._deployments.append(self._executor.submit(self._deploy_stack_sets))

    def _deploy_stack_sets(self) -> None:
        for stack_set in self._hub.stack_sets:
            try:
                stack_set.deploy()
            except Exception as error:  # noqa: BLE001 - a thread that ends here would do so silently
                self.journal.record("error", f"{stack_set.name}: {error}")

    def _on_execution(self, arn: str, status: str, cause: str) -> None:
        *_, region, account_id, _, machine, name = arn.split(":")
        text = f"{machine} {name} {status}" + (f": {textwrap.shorten(cause, 300)}" if cause else "")
        data = {"execution_arn": arn, "status": status, "cause": cause}
        self.journal.record("event", text, account_id=account_id, region=region, data=data)

    def _on_schedule_failure(self, account_id: str, region: str, text: str) -> None:
        self.journal.record("error", text, account_id=account_id, region=region)

    def _on_delivery_failure(self, failure: fidelity.DeliveryFailure) -> None:
        text = f"an event was not delivered to {failure.target_arn}: {failure.error_code}: {failure.message}"
        self.journal.record("error", text)


def deploy_hub(
    clients: Clients,
    checkout: Path,
    parameters: Mapping[str, str],
    *,
    name: str = "portcullis",
    organisation: Organisation | None = None,
) -> Stack:
    """Deploy template.yaml to the hub; AssumeRoleDeniedError if Lambda may not assume the role of a function."""
    template = load(checkout / "template.yaml", parameters)
    stack = Stack(name, HUB_ACCOUNT_ID, HOME_REGION, template, clients, organisation)
    deploy(stack, parameters)
    for spec in stack.functions:
        _session_of_role(spec)
    return stack


def _session_of_role(spec: FunctionSpec) -> dict[str, str]:
    """Return the credentials that the Lambda service hands to a function, as environment variables."""
    service = "lambda.amazonaws.com"
    issued = authorization.assume_role_as_service(
        spec.properties["Role"], spec.name, service=service, region=HOME_REGION
    )
    names = {"ACCESS_KEY_ID": "AccessKeyId", "SECRET_ACCESS_KEY": "SecretAccessKey", "SESSION_TOKEN": "SessionToken"}
    return {f"AWS_{name}": issued[key] for name, key in names.items()}


def _duration(text: str) -> timedelta:
    """Return the time that a text such as `90s`, `31m`, `2h` or `1d` says; ValueError."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if not re.fullmatch("[0-9]+[smhd]", text):
        raise ValueError(f"{text} is no time; 31m is one, and 90s, 2h and 1d")
    return timedelta(**{units[text[-1]]: int(text[:-1])})


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
