"""The two forms of the fault matrix, and the report that each row makes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import IN_CI
from rig import Report

_FACTS: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
_ROW = "row of the fault matrix"
_ROWS: list[Any] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--full", action="store_true", help="the full form of every row, which takes most of an hour")
    group.addoption(
        "--broker", action="append", help="rows behind this broker; by default mosquitto, in CI RabbitMQ too"
    )
    group.addoption("--record", type=Path, help="add each row's result to this file, one JSON document a line")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "outage_s" in metafunc.fixturenames:
        metafunc.parametrize("outage_s", [1, 30, 300] if metafunc.config.getoption("full", default=False) else [1])
    if "broker_name" in metafunc.fixturenames:
        asked = metafunc.config.getoption("broker", default=None)
        metafunc.parametrize("broker_name", asked or (["mosquitto", "rabbitmq"] if IN_CI else ["mosquitto"]))


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this is the full form."""
    return bool(request.config.getoption("full", default=False))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Keeps what was sent, scored, raised and received, for the summary and the record."""
    facts: dict[str, Any] = request.node.stash.setdefault(_FACTS, {})
    return facts.update


@pytest.fixture(scope="session", autouse=True)
def _broker_is_there() -> None:
    """A matrix that skips its rows proves nothing."""
    if shutil.which("mosquitto", path="/usr/bin:/usr/local/bin:/usr/sbin:/usr/local/sbin") is None:
        pytest.fail("mosquitto is not installed; the fault matrix needs a real broker (apt-get install mosquitto)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    if outcome.when == "call" or outcome.failed:
        function: Any = getattr(item, "function", None)
        row = {
            "test": item.nodeid,
            "fault": (function.__doc__ or "").strip().splitlines()[0],
            "outcome": outcome.outcome,
            "form": "full" if item.config.getoption("full", default=False) else "short",
            "seconds": round(call.duration, 1),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "facts": item.stash.get(_FACTS, {}),
        }
        outcome.user_properties.append((_ROW, row))
        record: Path | None = item.config.getoption("record", default=None)
        if record is not None:
            record.parent.mkdir(parents=True, exist_ok=True)
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    return outcome  # type: ignore[no-any-return]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Rows of tests beside each other come from other processes."""
    _ROWS.extend(row for name, row in report.user_properties if name == _ROW)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _ROWS:
        terminalreporter.section("fault matrix")
    for row in _ROWS:
        facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in row["facts"].items())
        name = row["test"].partition("::")[2]
        terminalreporter.write_line(f"{row['outcome']:7} {row['seconds']:7.1f} s  {name}: {facts}")
