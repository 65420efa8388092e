"""`python -m local`: what a person types, sees, and gets when something is wrong."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from local.__main__ import main
from local.organisation import PortTakenError

ROOT = Path(__file__).parents[2]


def test_a_taken_port_is_one_clear_line_and_status_2(taken_port: int) -> None:
    """With the remedy."""
    result = CliRunner().invoke(main, ["serve", "--port", str(taken_port)])
    assert result.exit_code == 2
    assert result.output == f"Error: port {taken_port} is taken; choose another with PORT=...\n"


def test_demo_runs_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the output file, and its status is the command's."""
    asked = []

    def run(output: Path) -> int:
        asked.append(output)
        return 3

    monkeypatch.setattr("local.__main__.run", run)
    result = CliRunner().invoke(main, ["demo", "--output", str(tmp_path / "demo.json")])
    assert result.exit_code == 3
    assert asked == [tmp_path / "demo.json"]


def test_serve_says_what_to_type_and_ends_cleanly() -> None:
    """The project's own template is deployed; Ctrl-C, and an impatient SIGTERM after it, end it with status 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "local", "serve", "--port", str(port)]
    with subprocess.Popen(  # noqa: S603 - this very project
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while "Ctrl-C" not in lines[-1] and lines[-1]:
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        watchdog.cancel()
    text = "".join(lines)
    assert f"AWS_ENDPOINT_URL=http://localhost:{port}" in text, text + rest
    assert "arn:aws:iam::111122223333:role/OrganizationAccountAccessRole" in text
    assert "aws organizations create-account --account-name new" in text
    assert "management account, 555566667777" in text
    assert "stateMachine:portcullis-sweep" in text
    assert f"curl -d forward=31m http://localhost:{port}/moto-api/by-hand/time" in text
    # The first heartbeats and the first sweep may have been told of; being cut short is no error.
    assert "ERROR" not in rest
    assert "Traceback" not in rest
    assert process.returncode == 0


def test_sigterm_alone_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both signals have the same handler."""
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr("local.__main__.LocalOrganisation", _Nothing)
    assert CliRunner().invoke(main, ["serve"]).exit_code == 2
    assert set(handlers) == {signal.SIGINT, signal.SIGTERM}
    with pytest.raises(SystemExit) as ending:
        handlers[signal.SIGTERM]()
    assert ending.value.code == 0
    assert set(handlers.values()) == {signal.SIG_IGN}


class _Nothing:
    """An organisation that cannot start."""

    def __init__(self, **_: object) -> None:
        raise PortTakenError("taken")
