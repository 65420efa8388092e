"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_PATCHED = (_HERE / "local", _HERE / "pipeline")
_PLAIN = (_HERE / "adapters", _HERE / "bench", _HERE / "functions")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a run in which one half's lasting changes to moto would decide the other half's results."""
    asked = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]

    def touches(folders: tuple[Path, ...]) -> bool:
        return any(a.is_relative_to(f) or f.is_relative_to(a) for a in asked for f in folders)

    if touches(_PATCHED) and touches(_PLAIN):
        message = "tests/local and tests/pipeline change moto for good: run them apart (make unit, make pipeline)"
        raise pytest.UsageError(message)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at how many points the process was let die: at calls of the ports (tests/unit), of AWS (tests/functions)."""
    points_at = {"before and after each port call": 0, "after each AWS call that changes something": 0}
    of_ports, of_aws = points_at
    for report in terminalreporter.getreports("passed"):
        if report.when == "call" and "a_crash_neither_doubles_nor_forgets_a_change" in report.nodeid:
            points = dict(report.user_properties).get("crash_points")
            points_at[of_aws if points else of_ports] += points or 1
    for where, points in points_at.items():
        if points:
            terminalreporter.write_line(f"crash points survived, {where}: {points}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the marks of pytest-cov where nothing is measured: it stumbles over them then."""
    if config.getoption("no_cov"):
        for node in {node for item in items for node in item.listchain()}:
            node.own_markers[:] = [mark for mark in node.own_markers if mark.name != "no_cover"]
