"""The line that says how far a file is scored: only on a terminal, rewritten, and gone in the end."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent.data_files import DataFiles, open_data
from edge_agent.progress_line import ProgressLine, may_show


class Screen(io.StringIO):
    """What a terminal of one line shows: `\\r` goes back to its begin, and nothing else moves."""

    def shows(self) -> str:
        cells: list[str] = []
        at = 0
        for character in self.getvalue():
            if character == "\r":
                at = 0
                continue
            cells[at : at + 1] = character
            at += 1
        return "".join(cells).rstrip()


def test_it_is_drawn_when_due_and_gone_in_the_end() -> None:
    """Nothing in the first half second, then at most five times a second; a shorter text leaves nothing behind."""
    now, texts = [0.0], iter(["a long text", "short", "third"])
    screen = Screen()
    with ProgressLine(lambda: next(texts), to=screen, clock=lambda: now[0]) as line:
        line.step()
        assert screen.getvalue() == ""
        for now[0], expected in ((0.5, "a long text"), (0.6, "a long text"), (0.7, "short"), (0.89, "short")):
            line.step()
            assert screen.shows() == expected
        line.erase()
        assert screen.shows() == ""
        now[0] = 2.0
        line.step()
        assert screen.shows() == "third"
    assert screen.shows() == ""
    assert "\n" not in screen.getvalue()


def test_a_name_moves_nothing_and_a_line_stays_one() -> None:
    """Control characters are escaped, and the text is cut to the terminal's width."""
    screen = Screen()
    ticks = iter([0.0, 1.0, 1.0])
    line = ProgressLine(lambda: "x\x1b[2J\n" + 200 * "y", to=screen, clock=lambda: next(ticks))
    line.step()
    assert screen.shows().startswith(r"x\x1b[2J\ny")
    assert len(screen.shows()) == 79


def test_it_is_shown_on_a_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where stderr is a file, nor where somebody reads stdout from a pipe, who may write to the same terminal."""
    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    reading, writing = os.pipe()
    with (
        os.fdopen(slave, "w", encoding="utf-8") as terminal,
        os.fdopen(writing, "w", encoding="utf-8") as pipe,
        (tmp_path / "out").open("w", encoding="utf-8") as file,
    ):
        assert may_show(terminal, terminal)
        assert may_show(terminal, file)
        assert not may_show(terminal, pipe)
        assert not may_show(file, terminal)
        assert not may_show(pipe, terminal)
        assert not may_show(terminal, io.StringIO())
        monkeypatch.setenv("TERM", "dumb")
        assert not may_show(terminal, terminal)
    os.close(master)
    os.close(reading)


def csv_file(path: Path) -> Path:
    # More than is read ahead.
    text = "a,b\n" + "1234.5,6789.25\n" * 2_000_000
    path.write_bytes(gzip.compress(text.encode(), 1) if path.suffix == ".gz" else text.encode())
    return path


def parquet_file(path: Path) -> Path:
    arrow = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"a": np.arange(200_000.0), "b": np.arange(200_000.0)})
    arrow.write_table(table, path)
    return path


@pytest.mark.parametrize(("name", "write"), [("d.csv", csv_file), ("d.csv.gz", csv_file), ("d.parquet", parquet_file)])
def test_the_share_that_was_read_grows_to_all(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    """By bytes of the file, also of a packed one, or by rows where the file says how many it has; file by file."""
    first, second = write(tmp_path / name), write(tmp_path / f"e{name}")
    with open_data(DataFiles((first, second))) as data:
        told = [*(data.where() for _ in data.blocks()), data.where()]
    shares = {
        which: [int(text.split()[-1].rstrip("%")) for text in told if text.startswith(which)]
        for which in (name, f"e{name}")
    }
    for which, found in shares.items():
        assert len(found) > 1, which
        assert found == sorted(found)
        assert found[0] < 100 or name.endswith("gz")
        assert found[-1] == 100
    assert told[0].startswith(f"{name} (1 of 2) ")
    assert told[-1] == f"e{name} (2 of 2) 100%"


def test_a_pipe_has_no_share(tmp_path: Path) -> None:
    """Nobody knows how much is to come."""
    pipe = tmp_path / "p.csv"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(max_workers=1) as beside:
        beside.submit(pipe.write_bytes, b"a,b\n1,2\n")
        with open_data(DataFiles((pipe,))) as data:
            assert [data.where() for _ in data.blocks()] == ["p.csv"]
