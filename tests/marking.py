"""Shared libraries, compiled here, that leave a mark as soon as a process loads them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from processes import IN_CI

from edge_agent.files.shared_library import this_architecture

__all__ = ["Marking", "compiler", "entry", "sha256_of"]

_SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((constructor)) static void leave_a_mark(void) {
    const char *path = getenv("LOADED");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fputs(NAME "\\n", file); fclose(file); }
}

/* Ends the agent, and none of the children that it tries a model in. */
__attribute__((constructor)) static void end_the_agent(void) {
    char words[4096];
    size_t place, length = 0;
    FILE *file = ABORTS ? fopen("/proc/self/cmdline", "r") : NULL;
    if (!file) return;
    length = fread(words, 1, sizeof words - 1, file);
    words[length] = 0;
    for (place = 0; place < length; place += strlen(words + place) + 1)
        if (!strcmp(words + place, "run")) abort();
}

/* What ONNX Runtime calls; NULL is success, and no operator is added. */
void *RegisterCustomOps(void *options, const void *api) { return NULL; }
"""


def compiler() -> str:
    """The C compiler; the test is skipped without one, and fails in CI, which has to bring it."""
    found = shutil.which("cc")
    if found is None:
        if IN_CI:
            pytest.fail("no C compiler: tools/ensure.sh compiler")
        pytest.skip("no C compiler")
    return found


class Marking:
    """A library, and the file in which its loads stand, a line each.

    Args:
        folder: for both.
        name: of the library; what a load writes.
        aborts: it ends an `edge-agent run` that loads it.
    """

    def __init__(self, folder: Path, name: str = "good", *, aborts: bool = False) -> None:
        self.name = name
        self.path = folder / f"lib{name}.so"
        self._mark = folder / "loaded"
        source = folder / f"{name}.c"
        source.write_text(_SOURCE, encoding="ascii")
        defines = [f'-DNAME="{name}"', f"-DABORTS={int(aborts)}"]
        subprocess.run([compiler(), "-shared", "-fPIC", *defines, "-o", self.path, source], check=True, timeout=60)
        self.path.chmod(0o755)
        self.sha256 = sha256_of(self.path)

    @property
    def env(self) -> dict[str, str]:
        """The environment in which a load leaves its mark."""
        return {**os.environ, "LOADED": str(self._mark)}

    def loads(self) -> list[str]:
        """The names of the libraries that were loaded since this was asked last, in turn."""
        found = self._mark.read_text(encoding="ascii").splitlines() if self._mark.exists() else []
        self._mark.unlink(missing_ok=True)
        return found


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry(library: Marking, **changes: object) -> dict[str, object]:
    """A library as a manifest names it, for this machine."""
    known = {"file": library.path.name, "sha256": library.sha256, "architecture": this_architecture()}
    return {**known, "domains": ["test.marking"], **changes}
