"""Other people's programs that the agent is tested against, and that cannot be installed beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["environment", "install"]

_REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "peers.txt"


def install(folder: Path) -> Path:
    """Install their packages into a folder that no other program looks into.

    Raises:
        AssertionError: pip cannot install them; its words are in the error.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(folder)]
    # One of them has no wheel, and is built with what stands beside the tests.
    pinned = ["--require-hashes", "--no-build-isolation", "-r", str(_REQUIREMENTS)]
    done = subprocess.run([*command, *pinned], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The variables of a program that finds the packages of this folder before all others."""
    return {**os.environ, "PYTHONPATH": str(folder)}
