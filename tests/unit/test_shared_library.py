"""Libraries are known by their hash and their ELF header, and copied to where nobody can change them."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import struct
import sys
from pathlib import Path

import pytest

from edge_agent.files.shared_library import Library, LibraryError, look_anew, look_at, sealed, this_architecture


def elf(machine: int = 62, kind: int = 3, order: str = "<", content: bytes = b"") -> bytes:
    """The beginning of a file of this kind for this machine."""
    return (
        b"\x7fELF\x02"
        + (b"\x01" if order == "<" else b"\x02")
        + bytes(10)
        + struct.pack(f"{order}HH", kind, machine)
        + content
    )


def written(folder: Path, content: bytes, mode: int = 0o644) -> Library:
    """A library of this content, as it is allowed by its hash."""
    path = folder / "lib.so"
    path.write_bytes(content)
    path.chmod(mode)
    return Library(path=str(path), sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("machine", "order", "name"),
    [(62, "<", "x86-64"), (183, "<", "aarch64"), (40, "<", "arm"), (243, "<", "riscv64"), (22, ">", "machine-22")],
)
def test_the_header_tells_the_architecture(tmp_path: Path, machine: int, order: str, name: str) -> None:
    """Whatever runs the test; and the hash is that of the whole file."""
    library = written(tmp_path, elf(machine, order=order, content=b"x" * 3_000_000))
    found = look_at(Path(library.path))
    assert (found.architecture, found.sha256) == (name, library.sha256)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no shared library for Linux"),
        (b"\x7fELF", "no shared library for Linux"),
        (b"MZ" + bytes(100), "no shared library for Linux"),
        (elf(kind=2), "is a program or an object file"),
        (elf(kind=1), "is a program or an object file"),
    ],
)
def test_what_is_no_library_is_told_from_one(tmp_path: Path, content: bytes, problem: str) -> None:
    """Before anybody loads it."""
    with pytest.raises(LibraryError, match=problem):
        look_at(Path(written(tmp_path, content).path))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe has no end, and a device may have one never."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(LibraryError, match="is no regular file"):
            look_at(path)
    for path in (tmp_path, tmp_path / "gone.so"):
        with pytest.raises(LibraryError, match="cannot be read"):
            look_at(path)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="its name is another one here")
def test_this_architecture_is_that_of_the_interpreter() -> None:
    """Of 64 bits, as every Python that the tests run on."""
    assert sys.maxsize > 1 << 32
    assert this_architecture() == {"x86_64": "x86-64", "aarch64": "aarch64"}[platform.machine()]


def test_a_copy_has_the_content_and_can_be_written_by_nobody(tmp_path: Path) -> None:
    """Not even by the process that made it, which may be root's; the file itself may change."""
    library = written(tmp_path, elf(content=b"first"))
    copy = Path(sealed(library))
    assert copy.read_bytes() == elf(content=b"first")
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        with pytest.raises(OSError, match=r"not permitted|denied"):  # noqa: PT012 - opened or written, one has to fail
            file = os.open(copy, flags)
            os.write(file, b"x")
    Path(library.path).write_bytes(elf(content=b"other"))
    assert sealed(library) == str(copy)
    assert copy.read_bytes() == elf(content=b"first")


def test_two_libraries_have_two_copies(tmp_path: Path) -> None:
    """At the same time: the loader would take the second for the first, were their paths the same."""
    copies = [sealed(written(tmp_path, elf(content=content))) for content in (b"one", b"two")]
    assert copies[0] != copies[1]
    assert [Path(copy).read_bytes() for copy in copies] == [elf(content=b"one"), elf(content=b"two")]


def test_a_python_without_files_in_memory_takes_one_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that are built against an old C library."""
    monkeypatch.delattr(os, "memfd_create")
    copy = Path(sealed(written(tmp_path, elf(content=b"no memfd"))))
    assert copy.read_bytes() == elf(content=b"no memfd")
    assert "(deleted)" in str(copy.readlink())


def test_a_system_that_gives_no_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a rule of a container may forbid it."""

    def forbidden(_name: str, _flags: int) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "memfd_create", forbidden)
    with pytest.raises(LibraryError, match=r"cannot be copied into memory \(Operation not permitted\)"):
        sealed(written(tmp_path, elf(content=b"forbidden")))


def test_another_file_is_not_copied(tmp_path: Path) -> None:
    """Both hashes are told, and no file stays open for it."""
    library = written(tmp_path, elf(content=b"expected"))
    other = written(tmp_path, elf(content=b"found"))
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(LibraryError, match=f"is another file .sha256 {other.sha256}, expected {library.sha256}"):
        sealed(library)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o602, 0o777, 0o620])
def test_a_file_that_others_may_write_is_not_copied(tmp_path: Path, mode: int) -> None:
    """Unless a user names it for a command of their own."""
    content = elf(content=f"mode {mode}".encode())
    library = written(tmp_path, content, mode)
    with pytest.raises(LibraryError, match=rf"may be written by others .* run: chmod go-w {library.path}"):
        sealed(library)
    open_to_others = Library(path=library.path, sha256=library.sha256, guarded=False)
    assert Path(sealed(open_to_others)).read_bytes() == content


def test_a_file_that_was_changed_since_it_was_copied_is_found(tmp_path: Path) -> None:
    """A reload that goes by the copy would start a program that refuses the file."""
    library = written(tmp_path, elf(content=b"looked at anew"))
    sealed(library)
    look_anew(library)
    Path(library.path).chmod(0o666)
    with pytest.raises(LibraryError, match="may be written by others"):
        look_anew(library)
    written(tmp_path, elf(content=b"another"))
    with pytest.raises(LibraryError, match="is another file"):
        look_anew(library)
    Path(library.path).unlink()
    with pytest.raises(LibraryError, match="cannot be read"):
        look_anew(library)
    assert sealed(library).startswith("/proc/self/fd/")
