"""Where log lines go, and so what they begin with."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.cli.log import LogFormat, SenderLimit, configure_logging, goes_to_journal
from edge_agent.service.journald import JournalHandler


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """It is pytest's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    hooks = sys.excepthook, threading.excepthook
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks


@pytest.mark.parametrize(("inherited", "begins"), [(False, "<6>told"), (True, "2")])
def test_lines_for_the_journal_have_no_time_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: bool, begins: str
) -> None:
    """A terminal, or a file, that has inherited the journal's variable is not the journal."""
    with (tmp_path / "log").open("w+") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat((other if inherited else stream).fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        monkeypatch.setattr(sys, "stderr", stream)
        # A machine that runs this may have the journal's socket.
        monkeypatch.setattr(JournalHandler.__init__, "__defaults__", ("/nonexistent",))
        configure_logging("info")
        logging.getLogger("edge_agent").info("told")
    assert (tmp_path / "log").read_text().startswith(begins)


def test_lines_of_json_have_the_facts_of_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, whatever is in them, and each on one line; also a bug that ends the program, with its traceback."""
    with (tmp_path / "log").open("w+") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert configure_logging("info", LogFormat.JSON)
        logging.getLogger("edge_agent.x").warning("silent asset=%.3s for_s=%.1f level=%s", "a1\n\x1b{}", 2.04, "alarm")
        try:
            raise RuntimeError("who\nknows")
        except RuntimeError:
            sys.excepthook(*sys.exc_info())
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert [*first] == ["time", "level", "logger", "message", "facts"]
    assert (first["level"], first["logger"]) == ("warning", "edge_agent.x")
    assert first["message"] == "silent asset=a1\n for_s=2.0 level=alarm"
    assert first["facts"] == {"asset": "a1\n\x1b{}", "for_s": 2.0, "level": "alarm"}
    assert second["level"] == "critical"
    assert "RuntimeError: who" in second["traceback"]


def test_what_is_no_file_is_not_the_journal(tmp_path: Path) -> None:
    """Nor is one that is closed, or a variable that says nothing."""
    closed = (tmp_path / "log").open("w")
    closed.close()
    for stream in (None, io.StringIO(), closed):
        assert not goes_to_journal(stream, {"JOURNAL_STREAM": "1:2"})
    with (tmp_path / "log").open("w") as stream:
        assert not any(goes_to_journal(stream, environ) for environ in ({}, {"JOURNAL_STREAM": ""}))


def test_of_lines_that_senders_cause_ten_pass_in_a_minute_and_the_others_are_counted() -> None:
    """Whoever makes up names must not fill the disk, nor hide what else is told."""
    now_s, told = 5.0, io.StringIO()
    handler = logging.StreamHandler(told)
    handler.addFilter(SenderLimit(lambda: now_s))
    log = logging.getLogger("edge_agent.test")
    log.addHandler(handler)
    try:
        for number in range(60_000):
            log.warning("alert %s stream=%s asset=%s", "raise", "pump", f"a{number}")
        log.warning("message given up topic=%s", "t")
        for number in range(12):
            log.warning("stream stopped name=%s", number)
        now_s = 65.0
        log.warning("alert %s stream=%s asset=%s", "clear", "pump", "100%s")
        now_s = 130.0
        log.warning("alert %s stream=%s asset=%s", "raise", "pump", "b")
    finally:
        log.removeHandler(handler)
    lines = told.getvalue().splitlines()
    assert lines[:9] == [f"alert raise stream=pump asset=a{number}" for number in range(9)]
    assert lines[9] == "alert raise stream=pump asset=a9 (for a minute, more like this are only counted)"
    assert lines[10:] == [
        "message given up topic=t",
        *(f"stream stopped name={number}" for number in range(12)),
        "alert clear stream=pump asset=100%s left_out=59990",
        "alert raise stream=pump asset=b",
    ]
