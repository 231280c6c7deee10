"""The pages that a reader follows, and how a test follows them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from processes import run_tool

__all__ = ["SECTIONS", "TOUR", "first_block", "follow", "run_python"]

_PAGE = Path(__file__).parents[1] / "docs" / "tour.md"
TOUR, _, _FRAMEWORKS = _PAGE.read_text(encoding="utf-8").partition("## From each framework")
SECTIONS: dict[str, str] = dict(re.findall(r"^### (.*?)$(.*?)(?=^### |\Z)", _FRAMEWORKS, re.MULTILINE | re.DOTALL))
"""What the tour has for each framework, by its name."""


def first_block(text: str, language: str) -> str:
    """The first block of code in that language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def run_python(code: str, folder: Path, *options: str) -> str:
    """Run code as a file of its own in a folder; gives what it printed."""
    (folder / "example.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *options, "example.py"], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def follow(section: str, folder: Path) -> None:
    """Run what a part of the tour shows."""
    run_python(first_block(section, "python"), folder)
    (packed, scored) = re.findall(r"^    (edgetool|edge-agent) (.*)$", section, re.MULTILINE)
    for program, rest in (packed, scored):
        done = run_tool(program, *shlex.split(rest))
        assert done.returncode == 0, done.stderr
    raised = re.search(r"raised (\d+)", done.stdout + done.stderr)
    assert raised is not None
    assert int(raised[1]) >= 3
