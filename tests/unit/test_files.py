"""Files that are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.files.plain import create_file, read_file, replacing, write_file

KILLED = """
import os, signal, sys
from pathlib import Path
from edge_agent.files.plain import replacing
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
    """One with a name."""
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


def test_an_open_descriptor_is_written_to(tmp_path: Path) -> None:
    """`--scores /dev/stdout | head`, and `> out.csv`, which must not be replaced under the one who writes to it."""
    reader, writer = os.pipe()
    write_file(Path(f"/dev/fd/{writer}"), b"lines")
    os.close(writer)
    assert os.read(reader, 100) == b"lines"
    os.close(reader)
    with (tmp_path / "out.csv").open("wb") as out:
        write_file(Path(f"/dev/fd/{out.fileno()}"), b"lines")
        assert os.fstat(out.fileno()).st_ino == (tmp_path / "out.csv").stat().st_ino
    assert (tmp_path / "out.csv").read_bytes() == b"lines"


def test_links_in_a_circle_are_an_error_of_the_disk(tmp_path: Path) -> None:
    """And stay as they are."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        write_file(tmp_path / "a", b"new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_a_result_may_be_for_others_whatever_the_umask(tmp_path: Path) -> None:
    """The agent runs as a user of its own."""
    before = os.umask(0o077)
    try:
        write_file(tmp_path / "mine", b"new")
        write_file(tmp_path / "ours", b"new", mode=0o644)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("mine", "ours")] == [0o600, 0o644]


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "device"])
def test_only_a_plain_file_of_ours_is_read_and_written(tmp_path: Path, kind: str) -> None:
    """Whatever has its name; a pipe would keep its reader waiting for ever, even in opening it."""
    path, target = tmp_path / "ours", tmp_path / "target"
    target.write_bytes(b"secret")
    makes: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(target),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
    }
    makes[kind]()
    with pytest.raises(OSError):  # noqa: PT011 - a different one for each kind
        read_file(path)
    with pytest.raises(OSError):  # noqa: PT011
        create_file(path)
    assert target.read_bytes() == b"secret"


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    """A larger one is not what we wrote."""
    with create_file(tmp_path / "ours") as file:
        file.write(b"12345")
    assert read_file(tmp_path / "ours", 5) == b"12345"
    with pytest.raises(OSError, match="it has more than 4 bytes"):
        read_file(tmp_path / "ours", 4)
