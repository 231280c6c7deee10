"""A child process of ours, whatever it does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from processes import wait_until

from edge_agent.child_process import ChildEndedError, ChildProcess

PREAMBLE = """
import os, sys, time
from edge_agent.child_process import child_side
requests, answers = child_side()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a child runs as the module `trial_child`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return tmp_path / "trial_child.py"


def test_lines_are_answers_however_they_arrive(module: Path) -> None:
    """In pieces, several at once, long, and none at the end."""
    module.write_text(
        PREAMBLE
        + """
for piece in (b"on", b"e\\ntwo\\nth", b"ree\\n", b"x" * 5_000_000 + b"\\n"):
    answers.write(piece)
    time.sleep(0.02)  # else the pieces could be read as one
answers.write(next(requests)); answers.write(b"half")
"""
    )
    with ChildProcess("trial_child") as child:
        assert [child.answer(10) for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
        assert len(child.answer(10) or b"") == 5_000_001
        child.ask(b"again")
        assert child.answer(10) == b"again\n"
        with pytest.raises(ChildEndedError, match="exit code 0"):
            child.answer(10)


def test_what_a_library_prints_is_no_answer(module: Path) -> None:
    """Also what it writes past Python."""
    module.write_text(PREAMBLE + 'print("hello", flush=True); os.write(1, b"from C\\n"); answers.write(b"answer\\n")\n')
    with ChildProcess("trial_child") as child:
        assert child.answer(10) == b"answer\n"


def test_what_an_ended_child_has_started_ends_with_it(module: Path) -> None:
    """Asking whether it has ended must not lose its group."""
    module.write_text(
        PREAMBLE
        + """
helper = os.fork()
if helper == 0:
    time.sleep(60)  # it lives until somebody ends it
answers.write(b"%d\\n" % helper)
os._exit(3)
"""
    )
    child = ChildProcess("trial_child")
    helper = int(child.answer(10) or b"")
    wait_until(child.has_ended, 10, "the child's end")
    started = time.monotonic()
    child.close()
    assert time.monotonic() - started < 4
    wait_until(lambda: not is_running(helper), 10, "its helper's end")


def test_one_that_has_left_the_session_with_the_pipe_does_not_hold_up_the_end(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a daemon that a driver starts; it is left to itself."""
    monkeypatch.setattr("edge_agent.child_process._END_S", 0.2)
    module.write_text(
        PREAMBLE
        + """
helper = os.fork()
if helper == 0:
    os.setsid()
    time.sleep(20)  # it lives until the test ends it, or has failed
    os._exit(0)
while os.getsid(helper) != helper:
    pass
answers.write(b"%d\\n" % helper)
next(requests)  # for ever
"""
    )
    child = ChildProcess("trial_child")
    helper = int(child.answer(10) or b"")
    started = time.monotonic()
    child.close()
    assert time.monotonic() - started < 5
    os.kill(helper, 9)
    child._reader.join(10)


def is_running(pid: int) -> bool:
    """Also one that nobody has waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
