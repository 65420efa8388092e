"""What a sweep of an organisation costs: AWS calls per account-Region, CPU seconds and peak memory.

The adapters, the loop and the survey are the real ones, and they log as they do in Lambda. Only the clients differ:
those of ``organisation.py``, moto's, or (for what holding them costs) real ones that are never called. One process
looks at one account-Region after the other, as if one Lambda environment had to sweep the whole organisation; in AWS
twenty share it. Nobody mends anything in between. Every case runs in processes of its own; a timing never decides.
"""

from __future__ import annotations

import gc
import io
import logging
import resource
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from portcullis import policy
from portcullis.adapters.accounts import Accounts, Role
from portcullis.adapters.clock import SystemClock
from portcullis.adapters.coverage_store import DynamoDbCoverageStore
from portcullis.adapters.directory import OrganizationsDirectory
from portcullis.adapters.journal import PowertoolsJournal
from portcullis.adapters.ledger import DynamoDbLedger
from portcullis.adapters.observer import Ec2Observer
from portcullis.adapters.queues import SqsWorkQueue
from portcullis.adapters.remediator import Ec2Remediator
from portcullis.adapters.scheduler import EventBridgeScheduler
from portcullis.adapters.securityhub import SecurityHubSink
from portcullis.adapters.store import DynamoDbStore
from portcullis.adapters.switch import SsmSwitch
from portcullis.findings import Place
from portcullis.loop import Loop
from portcullis.ports import Ports, SurveyPorts
from portcullis.survey import Survey, Sweep

from tests.bench import inside_moto
from tests.bench.organisation import HOME, HUB, Aws, Shape

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

TABLE = "portcullis"
QUEUE = f"https://sqs.{HOME}.amazonaws.com/{HUB}/work.fifo"
LOOKS_ROLE = f"arn:aws:iam::{HUB}:role/portcullis-looks"
ROLES = {Role.OBSERVER: "portcullis-observer", Role.REMEDIATOR: "portcullis-remediator"}
_MEGABYTE = 1024 * 1024


@dataclass
class Cost:
    """What one sweep cost. ``looks``: calls of each look. Peaks: bytes over what there was before, if traced.

    ``held``: how many sessions and clients ``Accounts`` holds at the end.
    """

    shape: Shape
    calls: Counter[str]
    survey_calls: int
    looks: list[int]
    cpu: float
    peak: int
    survey_peak: int
    resident: float
    filed: int
    enqueued: int
    held: tuple[int, int]


class Bench:
    """Portcullis, wired as ``bootstrap`` does, over any session."""

    def __init__(self, session: Any, regions: Sequence[str], mode: str, *, root: str = "r-root") -> None:
        self.accounts = Accounts(session, "aws", ROLES)
        self.metrics = Metrics(namespace="Portcullis", service="bench")
        journal = PowertoolsJournal(Logger(service="bench", stream=_Nowhere()), self.metrics)
        heard = logging.getLogger("bench")
        heard.handlers, heard.propagate = heard.handlers[:1], False  # the others are pytest's, and keep every line
        clock, dynamodb = SystemClock(), session.client("dynamodb", region_name=HOME)
        store, coverage = DynamoDbStore(dynamodb, TABLE), DynamoDbCoverageStore(dynamodb, TABLE, clock)
        sink = SecurityHubSink(partial(self.accounts.observer, "securityhub"))
        directory = OrganizationsDirectory(session.client("organizations", region_name=HOME), [root], clock)
        ports = Ports(
            observer=Ec2Observer(self.accounts, HOME, clock),
            remediator=Ec2Remediator(self.accounts),
            sink=sink,
            store=store,
            ledger=DynamoDbLedger(dynamodb, TABLE),
            queue=SqsWorkQueue(session.client("sqs", region_name=HOME), QUEUE, 30, clock),
            scheduler=EventBridgeScheduler(session.client("scheduler", region_name=HOME), QUEUE, LOOKS_ROLE, clock),
            switch=SsmSwitch(session.client("ssm", region_name=HOME), "/portcullis/changes", journal),
            directory=directory,
            journal=journal,
            clock=clock,
        )
        wanted = policy.parse({"version": 1, "controls": {c: {"mode": mode} for c in ("VPCE.1", "VPCE.2", "ROLE.1")}})
        self.sweep = Sweep(Loop(ports, wanted), ports.observer, sink, coverage, journal)
        hub = session.client("securityhub", region_name=HOME)
        reporting = SurveyPorts(directory, coverage, SecurityHubSink(lambda *_: hub), store, journal, clock)
        self.survey = Survey(reporting, hub=Place("aws", HUB, HOME), regions=regions)

    def look(self, account_id: str, region: str, sweep_id: str) -> None:
        """Look once, as an invocation of the sweep function does."""
        answer = self.sweep.look(account_id, region, sweep_id)
        if answer.problem:
            raise AssertionError(f"{account_id} {region}: {answer}")
        self.metrics.flush_metrics()

    def held(self) -> tuple[int, int]:
        """Count the sessions and the clients that are held."""
        sessions = self.accounts._sessions.values()
        return len(sessions), sum(len(session.clients) for session in sessions)


class _Nowhere(io.StringIO):
    """Takes log lines and metrics, and keeps none."""

    def write(self, text: str, /) -> int:
        return len(text)


def sweeps(shape: Shape, mode: str, states: Sequence[str], *, traced: bool) -> list[Cost]:
    """Sweep an organisation once per state in which it then is, with one table of findings."""
    aws = Aws(shape)
    bench = Bench(aws, shape.regions, mode)
    with redirect_stdout(_Nowhere()):  # Powertools prints metrics
        return [_sweep(aws, bench, state, f"{number}-{state}", traced=traced) for number, state in enumerate(states)]


def sweeps_in_moto(shape: Shape, mode: str, times: int) -> list[Cost]:
    """Sweep an organisation in moto so many times, where AWS changes nothing in between."""
    with inside_moto.organisation(shape) as aws, redirect_stdout(_Nowhere()):
        bench = Bench(aws, shape.regions, mode, root=aws.root)
        return [_sweep(aws, bench, shape.state, f"{number}", traced=False) for number in range(times)]


def _sweep(aws: Aws | inside_moto.MotoAws, bench: Bench, state: Any, sweep_id: str, *, traced: bool) -> Cost:
    aws.shape = replace(aws.shape, state=state)
    aws.calls.clear()
    aws.filed = aws.enqueued = 0
    items = bench.survey.list()["items"]
    survey_calls = aws.calls.total()
    aws.calls.clear()
    looks = [0] * len(items)
    if traced:
        gc.collect()
        gc.freeze()  # so that collecting once more is quick
        tracemalloc.start()
    aws.cpu, started = 0.0, time.process_time()
    for index, item in enumerate(items):
        before = aws.calls.total()
        bench.look(item["account_id"], item["region"], sweep_id)
        looks[index] = aws.calls.total() - before
        if traced:
            gc.collect()  # also empties Python's free lists, which fill up with the looks and count as held
    cpu = time.process_time() - started - aws.cpu
    (_, peak), calls = tracemalloc.get_traced_memory(), aws.calls.copy()
    tracemalloc.reset_peak()
    base, _ = tracemalloc.get_traced_memory()
    bench.survey.report(sweep_id)
    survey_peak = tracemalloc.get_traced_memory()[1] - base
    tracemalloc.stop()
    gc.unfreeze()
    bench.metrics.clear_metrics()  # all of Powertools' metrics objects share them
    survey_calls += aws.calls.total() - calls.total()
    numbers = (cpu, peak, survey_peak, _resident(), aws.filed, aws.enqueued)
    return Cost(aws.shape, calls, survey_calls, looks, *numbers, bench.held())


def _resident() -> float:
    """Return the most memory that this process ever had, in MB; Linux counts in KB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else _MEGABYTE)


def real_clients(steps: Sequence[int]) -> list[str]:
    """Make the real clients of one account-Region after another, as a look does, and call nothing."""
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=HOME)
    bench = Bench(Aws(Shape()), (), "detect")
    bench.accounts._session = session  # its STS stays the made one
    lines, started = [], 0.0
    for number in range(1, steps[-1] + 1):
        place = (f"{number:012d}", "eu-west-1")
        bench.accounts.observer("ec2", *place, at=HOME)
        for service in ("securityhub", "ec2", "iam"):
            bench.accounts.observer(service, *place)
        if number == 1:
            started = time.process_time()  # the service models are read
        if number in steps:
            each = 1000 * (time.process_time() - started) / max(1, number - 1)
            sessions, clients = bench.held()
            lines.append(f"{number:8} {sessions:10} {clients:8} {each:18.0f} {_resident():12.0f}")
    return lines


_COLUMNS = (
    f"{'':34} {'VPCs':>6} {'inst.':>6} {'calls/look':>10} {'max':>4} {'calls/1000':>10} {'CPU s':>6} {'ms/look':>7}"
    f" {'peak KB':>8} {'RSS MB':>6} {'filed':>6} {'queued':>6}"
)


def _row(name: str, cost: Cost, traced: Cost) -> str:
    shape, total, looks = cost.shape, cost.calls.total(), len(cost.looks)
    if traced.looks != cost.looks[: len(traced.looks)]:
        raise AssertionError(f"{name}: two runs made different calls")
    vpcs, instances = shape.places * shape.vpcs, shape.places * shape.instances
    return (
        f"{name:34} {vpcs:6} {instances:6} {total / looks:10.2f} {max(cost.looks):4}"
        f" {1000 * total / (vpcs + instances):10.1f} {cost.cpu:6.2f} {1000 * cost.cpu / looks:7.1f}"
        f" {traced.peak / 1024:8.0f} {cost.resident:6.0f} {cost.filed:6} {cost.enqueued:6}"
    )


_LARGE = Shape()
_SMALL = Shape(accounts=4, state="clean")
_IN_MOTO = Shape(accounts=3, regions=(HOME, "us-east-1"), vpcs=10, instances=20, sharing=False)
_CASES: dict[str, tuple[Shape, str, tuple[str, ...]]] = {
    "detect": (_LARGE, "detect", ("new", "new")),
    "remediate": (_LARGE, "remediate", ("new", "mended")),
    **{f"{n}x": (replace(_SMALL, vpcs=25 * n, instances=100 * n), "remediate", ("clean",)) for n in (1, 4, 16)},
    **{f"{5 * n}": (replace(_LARGE, accounts=n), "remediate", ("new",)) for n in (10, 20, 40, 80)},
}


def main() -> None:
    """Run all cases, the longest first, and print what they cost."""
    # Tracing takes five times as long, and a fifth of the organisation shows the same: see the last four cases.
    parts = {name: (replace(_LARGE, accounts=8), *_CASES[name][1:]) for name in ("detect", "remediate")}
    with ProcessPoolExecutor(mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        order = sorted(_CASES, key=lambda name: -_CASES[name][0].places * _CASES[name][0].instances)
        memory = {name: pool.submit(sweeps, *(_CASES | parts)[name], traced=True) for name in order}
        plain = {name: pool.submit(sweeps, *_CASES[name], traced=False) for name in order}
        in_moto = pool.submit(sweeps_in_moto, _IN_MOTO, "remediate", 2)
        alike = pool.submit(sweeps, _IN_MOTO, "remediate", ("new", "new"), traced=False)
        clients = pool.submit(real_clients, (1, 8, 32, 64, 128))
        costs = {name: (plain[name].result(), memory[name].result()) for name in _CASES}
        _print(costs, alike.result(), in_moto.result(), clients.result())


def _print(
    costs: dict[str, tuple[list[Cost], list[Cost]]], alike: list[Cost], in_moto: list[Cost], clients: list[str]
) -> None:
    def table(title: str, *rows: tuple[str, str, int]) -> None:
        _say("", title, _COLUMNS, *(_row(name, costs[case][0][n], costs[case][1][n]) for name, case, n in rows))

    _say(
        "A look is at one account-Region. calls/1000: per 1,000 resources. CPU: of Portcullis alone, without boto3.",
        "peak: tracemalloc, over what there was before the first look; it holds one account-Region, as its answers",
        "are read, and is measured in a run of its own, in the first table of 40 account-Regions. RSS: of the whole",
        "process, Python and imports included.",
    )
    table(
        f"200 account-Regions ({_LARGE.accounts} accounts, {len(_LARGE.regions)} Regions)",
        ("mode detect, first sweep", "detect", 0),
        ("mode detect, again: nothing new", "detect", 1),
        ("mode remediate, first sweep", "remediate", 0),
        ("mode remediate, again: mended", "remediate", 1),
    )
    shown = [costs[case][0][n] for case in ("detect", "remediate") for n in (0, 1)]
    _say("", "its calls by operation: detect first, detect again, remediate first, remediate again, ")
    for name in sorted({name for cost in shown for name in cost.calls}):
        _say(f"  {name:48}" + "".join(f"{cost.calls[name]:8}" for cost in shown))
    _say(f"  {'all':48}" + "".join(f"{cost.calls.total():8}" for cost in shown))
    _say(f"  {'besides, the survey before and after':48}" + "".join(f"{cost.survey_calls:8}" for cost in shown))
    names = {1: "as large as above", 4: "4 times the resources", 16: "16 times the resources"}
    table("20 account-Regions, nothing wrong", *((name, f"{n}x", 0) for n, name in names.items()))
    sizes = ("50", "100", "200", "400")
    table("more and more account-Regions of one size", *((f"{n} account-Regions", n, 0) for n in sizes))
    peaks = ", ".join(f"{costs[n][1][0].survey_peak / 1024:.0f}" for n in sizes)
    held = ", ".join("{} and {}".format(*costs[n][0][0].held) for n in sizes)
    _say(f"  the survey's report, peak KB: {peaks}; sessions and clients held at the end: {held}")
    _say("", f"{_IN_MOTO.places} account-Regions with {_IN_MOTO.vpcs} VPCs and {_IN_MOTO.instances} instances each")
    for name, made, real in zip(("first sweep", "again"), alike, in_moto, strict=True):
        same = made.calls == real.calls and made.survey_calls == real.survey_calls
        _say(
            f"  {name}: {made.calls.total()} calls of the made clients, {real.calls.total()} of boto3's to moto, "
            f"{'operation by operation the same' if same else f'NOT the same: {made.calls} {real.calls}'}; "
            f"CPU ms/look {1000 * made.cpu / len(made.looks):.0f} and {1000 * real.cpu / len(real.looks):.0f} "
            "(boto3's, and moto's work)"
        )
    _say(
        "",
        "real clients, held but not called",
        f"{'looks':>8} {'sessions':>10} {'clients':>8} {'CPU ms/look':>18} {'RSS MB':>12}",
    )
    _say(*clients)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines))


if __name__ == "__main__":
    main()
