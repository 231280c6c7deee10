"""Log lines as the systemd journal gets them, over a real datagram socket."""

from __future__ import annotations

import array
import ast
import fcntl
import io
import logging
import math
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edge_agent
from edge_agent.cli.log import configure_logging, log_error
from edge_agent.errors import ConfigError
from edge_agent.service import journald
from edge_agent.service.facts import facts_of, json_facts_of
from edge_agent.service.journald import JournalHandler


class Journal:
    """The journal's end of its socket."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(10)
        self.seals = 0

    def entry(self) -> dict[str, str]:
        """The next entry's fields."""
        data, rights, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if rights:
            memory = array.array("i", rights[0][2])[0]
            self.seals = fcntl.fcntl(memory, fcntl.F_GET_SEALS)
            os.lseek(memory, 0, os.SEEK_SET)
            with os.fdopen(memory, "rb") as file:
                data = file.read()
        return parsed(data)

    def close(self) -> None:
        self._socket.close()


def parsed(data: bytes) -> dict[str, str]:
    """By the protocol's description, with nothing of what is tested."""
    fields: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest.startswith(b"\n")
            rest = rest[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
        data = rest
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def log(journal: Journal) -> Iterator[logging.Logger]:
    logger = logging.getLogger("edge_agent.test_journald")
    handler = JournalHandler(io.StringIO(), journal.path)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.removeHandler(handler)
    handler.close()
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_a_line_has_the_priority_of_its_level(journal: Journal, log: logging.Logger, level: str, priority: str) -> None:
    """So that `journalctl -p warning` shows what is wrong, and nothing else."""
    log.log(logging.getLevelNamesMapping()[level.upper()], "told")
    entry = journal.entry()
    assert (entry["PRIORITY"], entry["MESSAGE"]) == (priority, "told")
    assert entry["SYSLOG_IDENTIFIER"] == "edge-agent"
    assert entry["LOGGER"] == "edge_agent.test_journald"
    assert entry["CODE_FILE"] == __file__
    assert int(entry["CODE_LINE"]) > 0
    assert entry["CODE_FUNC"] == "test_a_line_has_the_priority_of_its_level"


def test_facts_of_a_line_are_fields(journal: Journal, log: logging.Logger) -> None:
    """Whole and unquoted, where the line has them quoted and cut short."""
    log.warning(
        "alert %s stream=%s asset=%.2s reason=%r score=%.2f at 100%% %s", "raise", "pump", "a1 b", "x'y", 1.005, 7
    )
    entry = journal.entry()
    assert entry["MESSAGE"] == 'alert raise stream=pump asset=a1 reason="x\'y" score=1.00 at 100% 7'
    facts = {name: entry[name] for name in ("STREAM", "ASSET", "REASON", "SCORE")}
    assert facts == {"STREAM": "pump", "ASSET": "a1 b", "REASON": "x'y", "SCORE": "1.00"}


def test_no_sender_forges_a_field_or_an_entry(journal: Journal, log: logging.Logger) -> None:
    """A line end in a name is part of the value; names that mean something to the journal are left out."""
    log.warning("alert asset=%s priority=%s message=%s code_file=%s", "a\nPRIORITY=0\n\nMESSAGE=forged\n", 0, "m", "f")
    entry = journal.entry()
    assert entry["ASSET"] == "a\nPRIORITY=0\n\nMESSAGE=forged\n"
    assert (entry["PRIORITY"], entry["CODE_FILE"]) == ("4", __file__)
    assert entry["MESSAGE"].startswith("alert asset=a")


@pytest.mark.parametrize("size", [1_000, 300_000, 5_000_000])
def test_a_line_of_any_size_arrives_whole(journal: Journal, log: logging.Logger, size: int) -> None:
    """What no datagram takes comes in sealed memory: without the seals, the journal would refuse it."""
    log.info("%s", "x" * size)
    assert journal.entry()["MESSAGE"] == "x" * size
    assert journal.seals == (0 if size < 100_000 else 0b1111)


def test_a_traceback_is_part_of_its_line(journal: Journal, log: logging.Logger) -> None:
    """As one entry, with all of its lines."""
    try:
        raise ZeroDivisionError("nobody expects it")
    except ZeroDivisionError:
        log.exception("a bug")
    lines = journal.entry()["MESSAGE"].splitlines()
    assert lines[0] == "a bug"
    assert lines[-1] == "ZeroDivisionError: nobody expects it"


def test_without_the_socket_lines_have_a_prefix(tmp_path: Path) -> None:
    """Each line, because each is an entry; and the socket is used as soon as it is there."""
    stream = io.StringIO()
    logger = logging.getLogger("edge_agent.test_journald")
    handler = JournalHandler(stream, str(tmp_path / "socket"))
    logger.addHandler(handler)
    try:
        logger.error("one\ntwo")
        assert stream.getvalue() == "<3>one\n<3>two\n"
        journal = Journal(tmp_path)
        logger.error("three")
        assert journal.entry()["MESSAGE"] == "three"
        journal.close()
        assert stream.getvalue() == "<3>one\n<3>two\n"
    finally:
        logger.removeHandler(handler)
        handler.close()


def test_what_a_command_logs_under_the_journal_goes_to_its_socket(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the error that ends it, with its priority, and a bug with its traceback; nothing is left on stderr."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    root.handlers.clear()
    monkeypatch.setattr(JournalHandler.__init__, "__defaults__", (journal.path,))
    monkeypatch.setattr("threading.excepthook", None)
    try:
        with (tmp_path / "err").open("w+") as stream:
            status = os.fstat(stream.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
            monkeypatch.setattr(sys, "stderr", stream)
            configure_logging("info")
            log_error(ConfigError("agent.toml: one", "agent.toml: two\nforged"))
            entries = [journal.entry() for _ in range(2)]
            assert [(e["PRIORITY"], e["MESSAGE"]) for e in entries] == [
                ("3", "agent.toml: one"),
                ("3", "agent.toml: two\\nforged"),
            ]
            bug = ZeroDivisionError("nobody expects it")
            sys.excepthook(type(bug), bug, None)
            entry = journal.entry()
            assert entry["PRIORITY"] == "2"
            assert entry["MESSAGE"].endswith("ZeroDivisionError: nobody expects it")
        assert (tmp_path / "err").read_text() == ""
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:], sys.excepthook = handlers, hook
        root.setLevel(level)


@pytest.mark.parametrize(
    ("message", "arguments", "facts"),
    [
        ("retry_s=%.1f count=%d", (1.25, 3), {"retry_s": "1.2", "count": "3"}),
        ("width=%*d next=%s", (4, 7, "x"), {"width": "   7", "next": "x"}),
        ("100%% name=%s", ("a",), {"name": "a"}),
        ("too=%s few=%s", ("a",), {"too": "a"}),
        ("wrong=%d", ("a",), {}),
        ("none", (), {}),
        ("mapping=%(a)s", ({"a": 1},), {}),
        ("long=%s", ("x" * 5000,), {"long": "x" * 1024}),
    ],
)
def test_facts_are_the_named_arguments(message: str, arguments: tuple[object, ...], facts: dict[str, str]) -> None:
    """A line whose arguments do not fit is no reason to fail."""
    record = logging.LogRecord("edge_agent", logging.INFO, __file__, 1, message, arguments, None)
    assert facts_of(record) == facts


@pytest.mark.parametrize(
    ("message", "arguments", "facts"),
    [
        ("retry_s=%.1f count=%d", (1.25, 3), {"retry_s": 1.2, "count": 3}),
        ("count=%s share=%s", (3, 0.25), {"count": 3, "share": 0.25}),
        ("value=%.6g places=%d", (np.float32(2.5), np.int64(7)), {"value": 2.5, "places": 7}),
        ("synchronised=%s since=%s", (False, None), {"synchronised": False, "since": None}),
        ("score=%.3g limit=%s", (math.nan, math.inf), {"score": None, "limit": None}),
        ("asset=%r version=%s path=%s", ("7", "1.0", Path("/x")), {"asset": "7", "version": "1.0", "path": "/x"}),
    ],
)
def test_facts_in_json_are_of_their_kind(message: str, arguments: tuple[object, ...], facts: dict[str, object]) -> None:
    """A text of digits stays a text: an asset may have such a name."""
    record = logging.LogRecord("edge_agent", logging.INFO, __file__, 1, message, arguments, None)
    found = json_facts_of(record)
    assert found == facts
    assert [type(value) for value in found.values()] == [type(value) for value in facts.values()]


PLACEHOLDER = re.compile(r"\w+=%[-#0 +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[a-zA-Z](\S*)")


def test_no_line_has_a_fact_that_is_cut() -> None:
    """What stands in one word with a fact, as in `seen=%g..%g`, would be missing in the journal and in JSON."""
    cut = [
        text
        for file in Path(edge_agent.__file__).parent.rglob("*.py")
        for text in (node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant))
        if isinstance(text, str)
        and any(behind.strip(".,:;`") not in ("", "%s") for behind in PLACEHOLDER.findall(text))
    ]
    assert cut == []


def test_a_journal_that_hangs_does_not_hang_the_agent(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full and nobody reads it: the line goes to the stream, after a limited wait."""
    monkeypatch.setattr(journald, "_TIMEOUT_S", 0.05)
    stream = io.StringIO()
    handler = JournalHandler(stream, journal.path)
    other = logging.getLogger("edge_agent.test_journald.hung")
    other.propagate = False
    other.addHandler(handler)
    for number in range(2000):
        other.error("line %d", number)
        if stream.getvalue():
            break
    assert stream.getvalue().startswith("<3>line ")
    other.removeHandler(handler)
    handler.close()
    other.propagate = True
