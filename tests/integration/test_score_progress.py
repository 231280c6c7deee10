"""`edge-agent score` on a terminal: how far it is, on one line that is gone in the end; elsewhere nothing."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fakes import write_bundle

ROWS = "1,1\n" * 100_000


@contextmanager
def fed(path: Path, pieces: int | None = None) -> Iterator[threading.Event]:
    """A named pipe with so many times 100,000 rows; with None, rows do not end before the event is set.

    So a file is never done too early to be seen.
    """
    os.mkfifo(path)
    enough = threading.Event()

    def feed() -> None:
        with suppress(BrokenPipeError), path.open("w", encoding="ascii") as pipe:
            pipe.write("c1,c2\n9,9\n")
            for _ in itertools.count() if pieces is None else range(pieces):
                if enough.is_set():
                    return
                pipe.write(ROWS)

    thread = threading.Thread(target=feed, name="feed")
    thread.start()
    try:
        yield enough
    finally:
        enough.set()
        # Nobody may have opened it to read, which the thread waits for.
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        thread.join()


def command(tmp_path: Path, *options: str) -> list[str]:
    (tmp_path / "second.csv").write_text("c1,c2\n1,1\n", encoding="ascii")
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    agent = Path(sys.executable).with_name("edge-agent")
    files = [str(tmp_path / name) for name in ("first.csv", "second.csv")]
    return [str(agent), "score", *files, "--bundle", str(bundle), *options]


def read_terminal(master: int, until: bytes) -> bytes:
    """What was written to a terminal up to some bytes, or to its end."""
    found = b""
    while until not in found:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux: nobody has the other side open any more
            break
        if not piece:
            break
        found += piece
    return found


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_terminal_shows_file_rows_and_pace(tmp_path: Path, options: tuple[str, ...]) -> None:
    """On stderr, while results go to a file; the last thing on the line is that it is empty."""
    master, slave = os.openpty()
    environ = {**os.environ, "TERM": "xterm"}
    with fed(tmp_path / "first.csv") as enough, (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command(tmp_path, *options), stdout=out, stderr=slave, env=environ)
        os.close(slave)
        drawn = read_terminal(master, b"rows/s")
        enough.set()
        drawn += read_terminal(master, b"nothing has this")
        assert process.wait() == 0
    os.close(master)
    text = drawn.decode()
    line = text.split("\r")[1]
    assert line.startswith("first.csv (1 of 2), ")
    assert " rows, " in line
    assert line.rstrip().endswith(" rows/s")
    assert "\n" not in text
    assert text.endswith("\r")
    assert text.split("\r")[-2].strip() == ""
    results = (tmp_path / "out").read_text(encoding="utf-8")
    assert "\r" not in results
    assert "rows_per_s" in results


@pytest.mark.parametrize("piped", ["stdout", "stderr"])
def test_where_one_is_piped_nothing_is_shown(tmp_path: Path, piped: str) -> None:
    """Two million rows, which take well over the time after which a line would be due."""
    master, slave = os.openpty()
    environ = {**os.environ, "TERM": "xterm"}
    streams = {"stdout": slave, "stderr": slave, piped: subprocess.PIPE}
    with (
        fed(tmp_path / "first.csv", pieces=20),
        subprocess.Popen(command(tmp_path, "--json"), env=environ, **streams) as process,  # type: ignore[call-overload]
    ):
        os.close(slave)
        read = (process.stdout or process.stderr).read()
        on_terminal = read_terminal(master, b"nothing has this")
    assert process.returncode == 0
    os.close(master)
    assert b"rows/s" not in read + on_terminal
    assert b'"rows": 2000002' in read + on_terminal
