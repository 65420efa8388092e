"""Runs Lambda functions as warm processes that see what Lambda would let them see, and no more."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .journal import Journal
    from .packaging import Packager
    from .stacks import FunctionSpec

BOOTSTRAP = Path(__file__).with_name("lambda_bootstrap.py")

# Lambda allows ten seconds; a busy laptop that starts several functions at once deserves more.
_INIT_SECONDS = 30.0
# Role sessions last an hour: a process is replaced before its own runs out.
_CREDENTIALS_SECONDS = 50 * 60.0

Credentials = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an invocation returned, or the error (errorMessage, errorType, stackTrace) that it ended with."""

    result: Any = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a function's files are on this machine."""

    task: Path
    opt: Path
    runtime: Path
    home: Path


class Sandbox:
    """One process of a function. It serves one invocation at a time; its output is read only meanwhile."""

    def __init__(
        self,
        spec: FunctionSpec,
        layout: Layout,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> None:
        """Start the process; the handler is imported by the first `invoke`'s wait."""
        self._spec = spec
        self._on_line = on_line
        self._ready = False
        self._broken = False
        self._started = time.monotonic()
        self._answers, child_end = os.pipe()
        path = [str(layout.runtime), str(layout.task), str(layout.opt / "python")]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the project's own interpreter and file
                # -I -S: nothing of the checkout or the environment can be imported by accident.
                [sys.executable, "-I", "-S", "-B", str(BOOTSTRAP), str(child_end), *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(child_end,),
                cwd=layout.task,
                env=dict(environment),
                # Ctrl-C is for the organisation, which ends its functions itself.
                start_new_session=True,
            )
        finally:
            os.close(child_end)
        self._output: dict[int, bytearray] = {self._answers: bytearray(), self._stdout.fileno(): bytearray()}
        for descriptor in self._output:
            os.set_blocking(descriptor, False)

    @property
    def usable(self) -> bool:
        """Whether the process can take another invocation."""
        young = time.monotonic() - self._started < _CREDENTIALS_SECONDS
        return young and not self._broken and self._process.poll() is None

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for as a pipe
        return self._process.stdout

    def invoke(self, event: Any) -> Answer:
        """Run the handler once. After an error the process may no longer be `usable`."""
        if not self._ready:
            first = self._wait(_INIT_SECONDS)
            if first.error:
                self._broken = True
                return first
            self._ready = True
        request = {
            "event": event,
            "request_id": str(uuid.uuid4()),
            "function_arn": self._spec.arn,
            "deadline": time.time() + self._spec.timeout,
        }
        assert self._process.stdin is not None  # noqa: S101 - it was asked for as a pipe
        with contextlib.suppress(BrokenPipeError):  # it has ended; the wait says so
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._wait(self._spec.timeout)

    def kill(self) -> None:
        """End the process; an `invoke` that waits for it returns."""
        self._process.kill()

    def close(self) -> None:
        """End the process and release what it held."""
        self._process.kill()
        self._process.wait()
        self._read_all()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a request that nobody will read
                self._process.stdin.close()
        self._stdout.close()
        os.close(self._answers)

    def _wait(self, seconds: float) -> Answer:
        """Pass on log lines until the process answers, ends, or `seconds` are over."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            for descriptor in self._output:
                selector.register(descriptor, selectors.EVENT_READ)
            while (remaining := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(remaining):
                    if not self._read(key.fd):
                        selector.unregister(key.fd)
                        if key.fd == self._answers:
                            self._broken = True
                            self._read_all()
                            with contextlib.suppress(subprocess.TimeoutExpired):
                                self._process.wait(1)
                            status = self._process.returncode
                            return _failed("Runtime.ExitError", f"Runtime exited with status {status}")
                answer, newline, rest = self._output[self._answers].partition(b"\n")
                if newline:
                    self._output[self._answers] = rest
                    self._read_all()  # it flushed its log lines before it answered
                    return Answer(**{k: v for k, v in json.loads(answer).items() if k != "ready"})
        self._broken = True
        return _failed("Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds")

    def _read(self, descriptor: int) -> bool:
        """Take what is there to read, and say whether more can come."""
        try:
            chunk = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return True
        buffer = self._output[descriptor]
        buffer += chunk
        if descriptor != self._answers:
            *lines, rest = buffer.split(b"\n")
            if not chunk and rest:
                lines.append(rest)
                rest = bytearray()
            self._output[descriptor] = bytearray(rest)
            for line in lines:
                self._on_line(line.decode(errors="replace"))
        return bool(chunk)

    def _read_all(self) -> None:
        descriptor = self._stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while selector.select(0) and self._read(descriptor):
                pass


def _failed(error_type: str, message: str) -> Answer:
    return Answer(error={"errorType": error_type, "errorMessage": message, "stackTrace": []})


class Function:
    """A function and its warm processes: one for each concurrent invocation, up to its concurrency."""

    def __init__(
        self,
        spec: FunctionSpec,
        packager: Packager,
        journal: Journal,
        endpoint_url: str,
        credentials: Callable[[FunctionSpec], Credentials],
        *,
        concurrency: int,
    ) -> None:
        """Lay out the function's files; `credentials` issues a session of its role for each new process."""
        self.spec = spec
        self._journal = journal
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        opt = packager.layers(spec.layers, spec.logical_id)
        self._layout = Layout(packager.code(spec.code), opt, packager.runtime(), opt.parent / "home")
        self._layout.home.mkdir(exist_ok=True)
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._idle: list[Sandbox] = []
        self._busy: set[Sandbox] = set()
        self._stopped = False
        self.invocations = 0

    @property
    def running(self) -> int:
        """How many invocations run now."""
        with self._lock:
            return len(self._busy)

    def invoke(self, event: Any) -> Answer:
        """Run the function with `event` and return its answer; an error also goes to the journal."""
        with self._slots:
            sandbox = self._borrow()
            try:
                answer = sandbox.invoke(event)
            finally:
                self._give_back(sandbox)
        if answer.error and not self._stopped:
            text = f"{self.spec.logical_id}: {answer.error['errorType']}: {answer.error['errorMessage']}"
            self._record("error", text, answer.error)
        return answer

    def stop(self) -> None:
        """End all processes; invocations that run are cut off."""
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
            for sandbox in self._busy:
                sandbox.kill()  # the thread that uses it closes it
        for sandbox in idle:
            sandbox.close()

    def _borrow(self) -> Sandbox:
        with self._lock:
            self.invocations += 1
            while self._idle:
                sandbox = self._idle.pop()
                if sandbox.usable:
                    self._busy.add(sandbox)
                    return sandbox
                sandbox.close()
        environment = self._environment(self._credentials(self.spec))
        with self._lock:
            sandbox = Sandbox(self.spec, self._layout, environment, self._on_line)
            self._busy.add(sandbox)
            if self._stopped:
                sandbox.kill()
        return sandbox

    def _give_back(self, sandbox: Sandbox) -> None:
        with self._lock:
            self._busy.discard(sandbox)
            keep = sandbox.usable and not self._stopped
            if keep:
                self._idle.append(sandbox)
        if not keep:
            sandbox.close()

    def _environment(self, credentials: Credentials) -> dict[str, str]:
        """Return the whole environment of a process: nothing of this one's leaks in."""
        spec = self.spec
        stand_ins = {"/opt/": self._layout.opt, "/var/task/": self._layout.task}
        variables = dict(spec.variables)
        for key, value in variables.items():
            for prefix, folder in stand_ins.items():
                if value.startswith(prefix):
                    variables[key] = str(folder / value.removeprefix(prefix))
        return {
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.runtime}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_size),
            "AWS_LAMBDA_FUNCTION_NAME": spec.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": spec.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": f"{time.strftime('%Y/%m/%d')}/[$LATEST]{uuid.uuid4().hex}",
            "AWS_ENDPOINT_URL": self._endpoint_url,
            "AWS_REGION": spec.region,
            "AWS_DEFAULT_REGION": spec.region,
            "LAMBDA_TASK_ROOT": str(self._layout.task),
            "LANG": "en_US.UTF-8",
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "TZ": ":UTC",
            "_HANDLER": spec.handler,
            # An empty home: the person's own AWS configuration must not reach the function.
            "HOME": str(self._layout.home),
            **credentials,
            **variables,
        }

    def _on_line(self, line: str) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            record = {"message": line}
        self._record("log", str(record.get("message", line)), record)

    def _record(self, kind: Literal["log", "error"], text: str, data: Mapping[str, Any]) -> None:
        # A record that names an account and Region is about them, not about where the function runs.
        place = {name: data.get(name) or getattr(self.spec, name) for name in ("account_id", "region")}
        self._journal.record(kind, text, **place, data={"function": self.spec.logical_id, **data})
