"""Files that are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_agent.files import replacing, write_file

KILLED = """
import os, signal, sys
from pathlib import Path
from edge_agent.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """And nothing lies beside it."""
    write_file(tmp_path / "model", b"old")
    write_file(tmp_path / "model", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model", b"new")]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Whatever ends it."""
    write_file(tmp_path / "model", b"old")
    for ending in (OSError, KeyboardInterrupt):
        with pytest.raises(ending):
            _write_half(tmp_path / "model", ending)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model", b"old")]


def _write_half(path: Path, ending: type[BaseException]) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise ending


def test_a_process_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    """Half of the new one may lie beside it."""
    write_file(tmp_path / "model", b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "model")], check=False)
    assert (done.returncode, (tmp_path / "model").read_bytes()) == (-signal.SIGKILL, b"old")


@pytest.mark.parametrize(("durable", "synchronised"), [(True, ["file", "replace", "folder"]), (False, ["replace"])])
def test_the_disk_has_the_file_before_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, synchronised: list[str]
) -> None:
    """After a power cut a name without its content would be an empty file; and without the name, the old file."""
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        done.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        if done[-1] == "file":
            assert Path(f"/proc/self/fd/{descriptor}").stat().st_size == 3
        sync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        done.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_file(tmp_path / "model", b"new", durable=durable)
    assert done == synchronised


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it points to is replaced; that may not be there yet."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "model")
    for content in (b"first", b"second"):
        write_file(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real" / "model").read_bytes() == content


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    """As /dev/stdout does."""
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(name="reader", target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_file(tmp_path / "pipe", b"lines")
    reader.join(10)
    assert (read, [file.name for file in tmp_path.iterdir()]) == ([b"lines"], ["pipe"])


def test_a_name_of_the_longest_length_can_be_written(tmp_path: Path) -> None:
    """The file beside it has a name of its own length."""
    for name in ("n" * 255, "\N{WATER WAVE}" * 63):
        write_file(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


def test_a_folder_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    """As for any file."""
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "model", b"new")
    assert [*tmp_path.iterdir()] == []
