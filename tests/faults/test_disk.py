"""A disk that is full: the policy of the journal holds, it is told, and the agent goes on when there is room."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from plan import Plan
from processes import wait_until
from rig import Report, Rig, rig

ENDLESS = 10_000_000
KEEPALIVE_S = 5


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of 16 MB; None where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", str(folder)]
    mounted = not os.geteuid() and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Callable[[], None]:
    """Leave no room on a disk; gives what makes room again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 512)
    return ballast.unlink


def limit_files(at: Rig) -> Callable[[], None]:
    """Forbid the agent to write beyond the first page of any file; gives what allows it again."""
    at.agent.limit_files(4096)
    return lambda: at.agent.limit_files(None)


@pytest.mark.timeout(600)
def test_full_disk(tmp_path: Path, full: bool, report: Report) -> None:
    """No room for the journal, then room again: readings stay with the broker meanwhile, nothing is lost, it is told.

    Where mounting is not allowed, a limit on the size of files stands for the small disk.
    """
    options = f"keepalive_s = {KEEPALIVE_S}"
    with small_disk(tmp_path / "state") as disk, rig(tmp_path, Plan(readings=ENDLESS), mqtt=options) as at:
        sending = at.sending(200)
        wait_until(lambda: at.subscriber.alerts, what="alerts before")
        make_room = fill(disk) if disk else limit_files(at)
        wait_until(lambda: at.subscriber.health["journal_problem"], 60, "the problem to be told")
        problem, session = at.subscriber.health["journal_problem"], at.subscriber.health["session"]
        scored = at.scored
        # Longer than the keep-alive allows a connection on which nothing is read.
        time.sleep(60 if full else 1.6 * KEEPALIVE_S)  # no room, for longer than the keep-alive
        assert at.scored - scored <= 512, "readings are taken that cannot be committed"
        make_room()
        wait_until(lambda: at.subscriber.health["journal_problem"] is None, 60, "the problem to be over")
        time.sleep(1.0)  # readings after it
        at.end_of(sending)
        verdict = at.verdict()
        ran = "disk of 16 MB" if disk else "limit on files"
        report(form=ran, told=problem.partition("(")[2].rstrip(")"), **at.facts(verdict))
        assert verdict.problems == []
        assert at.subscriber.health["session"] == session
        assert at.agent.process is not None
        assert at.agent.process.poll() is None
