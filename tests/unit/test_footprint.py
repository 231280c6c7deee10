"""What loading a model needed goes, and nothing else."""

from __future__ import annotations

import ctypes
import mmap
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import canonical_model

from edge_agent.engine.footprint import _unchanged, give_back_load_memory

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


def test_a_loaded_model_leaves_a_third_of_its_library_and_scores_the_same(tmp_path: Path) -> None:
    """In a process of its own, because the pages of this one are those of all tests before."""
    (tmp_path / "model.onnx").write_bytes(canonical_model())
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "model.onnx")], check=True, capture_output=True, text=True
    )
    found = re.fullmatch(r"same (\w+) before (\d+) after (\d+)\n", done.stdout)
    assert found is not None, done.stdout
    assert found[1] == "True"
    assert int(found[3]) < int(found[2]) / 3


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
before, score = library_kb(), engine.score(readings).score
give_back_load_memory()
same = np.array_equal(score, engine.score(readings).score)
print("same", same, "before", before, "after", library_kb())
"""
