"""What loading a model needed goes, and nothing else."""

from __future__ import annotations

import ctypes
import mmap
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import canonical_model

from edge_agent.engine import footprint
from edge_agent.engine.footprint import _Mapping, _unchanged, give_back_load_memory
from edge_agent.engine.libraries import kept_code

SMAPS = """\
7f0000000000-7f0000002000 {perms} 00000000 fe:01 1234 {name}
Size:                  8 kB
Rss:                 {rss} kB
Pss:                   4 kB
Anonymous:           {anonymous} kB
Swap:                {swap} kB
VmFlags: rd ex mr mw me
"""


@pytest.mark.parametrize(
    ("perms", "name", "rss", "anonymous", "swap", "is_taken"),
    [
        ("r-xp", "/usr/lib/libonnxruntime.so", 8, 0, 0, True),
        ("r--p", "/opt/a folder/lib.so (deleted)", 8, 0, 0, True),
        ("r--p", "/usr/lib/libonnxruntime.so", 8, 4, 0, False),
        ("r--p", "/usr/lib/libonnxruntime.so", 4, 0, 4, False),
        ("rw-p", "/usr/lib/libonnxruntime.so", 8, 0, 0, False),
        ("r--s", "/var/lib/edge-agent/journal.db-shm", 8, 0, 0, False),
        ("r-xp", "[vdso]", 8, 0, 0, False),
        ("r-xp", "", 8, 0, 0, False),
        ("r-xp", "/usr/lib/libonnxruntime.so", 0, 0, 0, False),
    ],
)
def test_only_unchanged_pages_of_files_are_taken(
    perms: str, name: str, rss: int, anonymous: int, swap: int, *, is_taken: bool
) -> None:
    """What was written to, what may be, what others see, and what is no file has no copy to come back from."""
    found = list(_unchanged(SMAPS.format(perms=perms, name=name, rss=rss, anonymous=anonymous, swap=swap)))
    assert found == ([(0x7F0000000000, 0x7F0000002000, 8192)] if is_taken else [])


def test_a_page_that_was_written_before_it_became_read_only_keeps_what_was_written(tmp_path: Path) -> None:
    """As the linker does it with the addresses in every library."""
    file = tmp_path / "library.so"
    file.write_bytes(b"\x01" * 2 * mmap.PAGESIZE)
    with file.open("r+b") as opened:
        pages = mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    pages[0] = 2
    address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(pages)))
    assert ctypes.CDLL(None).mprotect(address, ctypes.c_size_t(len(pages)), mmap.PROT_READ) == 0
    give_back_load_memory()
    assert pages[0] == 2
    assert pages[mmap.PAGESIZE] == 1


SIZE = 1 << 20


class Pages:
    """Addresses that are mapped by hand."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self.libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def map_file(self, file: Path) -> int:
        with file.open("rb") as opened:
            at: int = self.libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_PRIVATE, opened.fileno(), 0)
        ctypes.string_at(at, SIZE)  # its pages are resident
        return at

    def make_heap_of(self, at: int) -> None:
        self.libc.munmap(at, SIZE)
        how = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
        assert self.libc.mmap(at, SIZE, mmap.PROT_READ | mmap.PROT_WRITE, how, -1, 0) == at
        ctypes.memset(at, 0x2A, SIZE)


def test_what_another_thread_maps_meanwhile_keeps_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is closed between the look and the drop, and its place becomes a heap's."""
    file = tmp_path / "compiled.blob"
    file.write_bytes(b"x" * SIZE)
    pages = Pages()
    at = pages.map_file(file)

    def look_then_the_other_thread_goes_on(maps: str) -> Iterator[_Mapping]:
        found = list(_unchanged(maps))
        assert any(mapping.start <= at < mapping.end for mapping in found)
        pages.make_heap_of(at)
        return iter(found)

    monkeypatch.setattr(footprint, "_unchanged", look_then_the_other_thread_goes_on)
    give_back_load_memory()
    assert ctypes.string_at(at, SIZE) == b"\x2a" * SIZE
    pages.libc.munmap(at, SIZE)


def test_a_library_whose_pages_are_given_back_is_never_unloaded() -> None:
    """Whoever closes it: its place would become somebody else's between the look and the drop."""
    file = next((Path(np.__file__).parent / "_core").glob("_struct_ufunc_tests*.so"))
    library = ctypes.CDLL(str(file))
    code = kept_code()
    library_close = ctypes.CDLL(None).dlclose
    library_close.argtypes = [ctypes.c_void_p]
    library_close(library._handle)
    there = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file))]
    starts = {int(line.partition("-")[0], 16) for line in there}
    assert starts & {start for start, _ in code}


def test_a_library_that_is_mapped_as_a_file_is_left_alone() -> None:
    """Only where the loader has put it, it stays."""
    file = next(Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*.so"))
    pages = Pages()
    at = pages.map_file(file)
    assert not any(start <= at < end for start, end in kept_code())
    pages.libc.munmap(at, SIZE)


def test_a_loaded_model_lets_go_of_its_library_and_scores_the_same(tmp_path: Path) -> None:
    """In a process of its own, because the pages of this one are those of all tests before.

    How much scoring brings back is the kernel's business: Linux 6.18 maps up to 2 MB around each page that is touched
    in a file that was just installed.
    """
    (tmp_path / "model.onnx").write_bytes(canonical_model())
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "model.onnx")], check=True, capture_output=True, text=True
    )
    found = re.fullmatch(r"same (\w+) before (\d+) after (\d+)\n", done.stdout)
    assert found is not None, done.stdout
    assert found[1] == "True"
    assert int(found[3]) < int(found[2]) / 10


_SCRIPT = """\
import sys
from pathlib import Path

import numpy as np

from edge_agent.engine.footprint import give_back_load_memory
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import open_engine


def library_kb():
    rss, of_library = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            of_library = len(values) > 4 and "onnxruntime" in values[4]
        elif name == "Rss:" and of_library:
            rss += int(values[0])
    return rss


engine = open_engine(Path(sys.argv[1]).read_bytes(), PROVIDERS["cpu"])
readings = np.ones((3, 1, 2), dtype=np.float32)
score = engine.score(readings).score
before = library_kb()
give_back_load_memory()
after = library_kb()
same = np.array_equal(score, engine.score(readings).score)
print("same", same, "before", before, "after", after)
"""


LOADING = """
import ctypes, shutil, sys, threading
from pathlib import Path
import _posixshmem
from edge_agent.engine.libraries import kept_code

loader = ctypes.PyDLL(None)
loader.dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
copies = [Path(sys.argv[1]) / f"{number}.so" for number in range(1500)]
for copy in copies:
    shutil.copy(_posixshmem.__file__, copy)

def load():
    for copy in copies:
        loader.dlopen(str(copy).encode(), 2)
        for _ in range(2000):
            pass

beside = threading.Thread(target=load)
beside.start()
while beside.is_alive():
    kept_code()
"""
"""A thread loads libraries with the interpreter's lock held, as an import does."""


def test_an_import_on_another_thread_ends(tmp_path: Path) -> None:
    """It waits for the loader's lock, and who has that one must not wait for the interpreter's."""
    subprocess.run([sys.executable, "-c", LOADING, str(tmp_path)], timeout=30, check=True)
