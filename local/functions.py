"""Runs Lambda functions as warm processes that see what Lambda would let them see, and no more."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import clock, lambda_bootstrap
from .fidelity.authorization import SESSION_SECONDS
from .template import Source, TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .journal import Journal, Kind

    Credentials = Callable[["FunctionSpec"], Mapping[str, str]]

# Lambda allows ten seconds; a busy laptop that starts several functions at once deserves more.
_INIT_SECONDS = 30.0
# Lambda starts a process for every concurrent invocation; here more than there are processors would only cost time.
_MOST_PROCESSES = max(4, os.cpu_count() or 4)
_PACKAGE = "portcullis"
_SITE_PACKAGES = sysconfig.get_path("purelib")  # stands for what the runtime and the layers bring along


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A Lambda function as the template describes it, and the folders of its code and layers."""

    logical_id: str
    name: str
    arn: str
    properties: Mapping[str, Any]
    code: Source
    layers: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an invocation returned, or the error (errorMessage, errorType, stackTrace) that it ended with."""

    result: Any = None
    error: Mapping[str, Any] | None = None


class Function:
    """A function and its warm processes: one for each concurrent invocation, up to a few; the others wait."""

    def __init__(
        self, spec: FunctionSpec, folder: Path, journal: Journal, endpoint_url: str, credentials: Credentials
    ) -> None:
        """Lay out layers in `folder`; `credentials` issues a session of the role for each new process."""
        self.spec = spec
        *_, self._region, self._account_id, _, _ = spec.arn.split(":")
        self._journal = journal
        self._credentials = credentials
        self._timeout = int(spec.properties.get("Timeout", 3))
        opt = _lay_out(spec.layers, folder)
        # A host name for each bucket is not to be had on every machine.
        (folder / "aws.ini").write_text("[default]\ns3 =\n  addressing_style = path\n", encoding="utf-8")
        self._path = [_SITE_PACKAGES, str(spec.code.path), str(opt / "python")]
        variables = spec.properties.get("Environment", {}).get("Variables", {})
        self._environment = {  # the whole of it: nothing of this process's environment leaks in
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.properties['Runtime']}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.properties.get("MemorySize", 128)),
            "AWS_LAMBDA_FUNCTION_NAME": spec.name,
            "AWS_CONFIG_FILE": str(folder / "aws.ini"),
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "LAMBDA_TASK_ROOT": str(spec.code.path),
            "LANG": "en_US.UTF-8",
            "PATH": os.defpath,
            "HOME": str(folder),  # the person's own AWS configuration is elsewhere
            "_HANDLER": spec.properties["Handler"],
            **{key: re.sub("^/opt/", f"{opt}/", str(value)) for key, value in variables.items()},
        }
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._busy: list[Any] = []
        self._stopped = False
        self._slots = threading.Semaphore(_MOST_PROCESSES)
        self.invocations = 0

    def invoke(self, event: Any) -> Answer:
        """Run the function with `event` and return its answer; an error also goes to the journal."""
        with self._slots:
            return self._invoke(event)

    def _invoke(self, event: Any) -> Answer:
        with self._lock:
            self.invocations += 1
            # Lambda renews a function's credentials in time; here a process ends with them.
            while self._idle and self._idle[-1].started + SESSION_SECONDS < time.time() + self._timeout:
                _close(self._idle.pop())
            cold = not self._idle
            process = self._start() if cold else self._idle.pop()
            self._busy.append(process)
        try:
            answer = self._wait(process, _INIT_SECONDS) if cold else Answer()
            if answer.error:
                process.kill()
                process.wait()
            else:
                request = {"event": event, "request_id": str(uuid.uuid4()), "function_arn": self.spec.arn}
                with contextlib.suppress(BrokenPipeError):  # it has ended; the wait says so
                    now = {"offset": clock.offset(), "deadline": time.time() + self._timeout}
                    line = json.dumps({**request, **now})
                    print(line, file=process.stdin, flush=True)
                answer = self._wait(process, self._timeout)
        finally:
            with self._lock:
                self._busy.remove(process)
                warm = process.poll() is None and not self._stopped
                if warm:
                    self._idle.append(process)
            if not warm:
                _close(process)
        if answer.error and not self._stopped:
            text = "{errorType}: {errorMessage}".format(**answer.error)
            self._record("error", f"{self.spec.logical_id}: {text}", answer.error)
        return answer

    @property
    def busy(self) -> bool:
        """Whether an invocation runs."""
        return bool(self._busy)

    def renew(self) -> None:
        """End the warm processes, as a deployment does: what they remembered is gone, and the next ones begin cold."""
        with self._lock:
            while self._idle:
                _close(self._idle.pop())

    def stop(self) -> None:
        """End all processes; invocations that run are cut off, and close theirs."""
        with self._lock:
            self._stopped = True
            for process in self._busy:
                process.kill()
            for process in self._idle:
                _close(process)
            self._idle.clear()

    def _start(self) -> Any:
        process: Any = subprocess.Popen(  # noqa: S603 - the project's own interpreter and file
            # -I -S: nothing of the checkout or the environment can be imported by accident.
            [sys.executable, "-I", "-S", "-B", lambda_bootstrap.__file__, *self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            cwd=self.spec.code.path,
            env={**self._environment, **self._credentials(self.spec)},
            start_new_session=True,  # Ctrl-C is for the organisation, which ends its functions itself
        )
        process.started = time.time()
        if self._stopped:
            process.kill()
        return process

    def _wait(self, process: Any, seconds: float) -> Answer:
        """Pass on log lines until a process answers, ends, or is killed because `seconds` are over."""
        deadline = time.monotonic() + seconds
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            for line in process.stdout:
                text, answered, answer = line.rstrip("\n").partition(lambda_bootstrap.ANSWER)
                if text or not answered:
                    self._log(text)
                if answered:
                    return Answer(**json.loads(answer))
        finally:
            timer.cancel()
        status = process.wait()
        kind, text = "Runtime.ExitError", f"Runtime exited with status {status}"
        if time.monotonic() >= deadline:
            kind, text = "Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds"
        return Answer(error={"errorType": kind, "errorMessage": text, "stackTrace": []})

    def _log(self, line: str) -> None:
        record: Any = None
        with contextlib.suppress(ValueError):
            record = json.loads(line)
        if not isinstance(record, dict):
            record = {"message": line}
        self._record("log", str(record.get("message", line)), record)

    def _record(self, kind: Kind, text: str, data: Mapping[str, Any]) -> None:
        # A record that names an account and Region is about them, not about where the function runs.
        account_id, region = data.get("account_id") or self._account_id, data.get("region") or self._region
        data = {"function": self.spec.logical_id, **data}
        self._journal.record(kind, text, account_id=account_id, region=region, data=data)


def _close(process: Any) -> None:
    process.kill()
    process.communicate()


def _lay_out(layers: Iterable[Source], folder: Path) -> Path:
    """Return the folder that stands for /opt with these layers in it; it is made once."""
    opt = folder / "-".join(["opt", *(layer.logical_id for layer in layers)])
    if not opt.exists():
        (opt / "python").mkdir(parents=True)
        for layer in layers:
            # The package is linked, next to this environment's wheels: those of make are for Lambda's processor.
            if (layer.path / _PACKAGE).is_dir():
                (opt / "python" / _PACKAGE).symlink_to(layer.path / _PACKAGE)
            else:
                _make(layer, opt)
    return opt


def _make(layer: Source, target: Path) -> None:
    """Do what `sam build` does."""
    command = ["make", f"build-{layer.logical_id}"]
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": search, "ARTIFACTS_DIR": str(target)}
    done = subprocess.run(  # noqa: S603 - the project's own Makefile
        command, cwd=layer.path, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TemplateError(f"{layer.logical_id}: `{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
