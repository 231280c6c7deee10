"""A crash of the agent's process leaves a report that names the work it was in, and the next start tells of it once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.engine.choice.mark import Marks
from edge_agent.engine.crash import Run, crash_report, this_run

DYING = """\
import ctypes, os, subprocess, sys, threading
from pathlib import Path
from fakes import make_candidate
from edge_agent.engine.crash import crash_watch
from edge_agent.engine.choice.mark import Marks

state_dir = Path(sys.argv[1])
with crash_watch(state_dir):
    mark = Marks(state_dir, "key").place(make_candidate("openvino", us=5))
    if sys.argv[2] == "beside":
        # The signal comes when the thread stands still in its library: what faulthandler writes of a thread that runs
        # Python meanwhile is read while it changes, and may end in a second signal.
        killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.5; kill -{sys.argv[3]} {os.getpid()}"])
        def load():  # that holds the interpreter's lock while the watchdog's signal comes, which the main thread gets
            ctypes.PyDLL(None).sleep(60)
        thread = threading.Thread(target=mark.inside(load))
        thread.start()
        thread.join()
    mark.running()
    if sys.argv[2] == "inside":
        mark.inside(lambda windows: os.kill(os.getpid(), int(sys.argv[3])))(None)
    elif sys.argv[2] == "outside":
        os.kill(os.getpid(), int(sys.argv[3]))
    mark.clear()
"""


def run_dying(state_dir: Path, where: str, number: int = signal.SIGSEGV) -> int:
    script = state_dir / "dying.py"
    script.write_text(DYING, encoding="utf-8")
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, str(script), str(state_dir), where, str(int(number))]
    return subprocess.run(command, env={"PYTHONPATH": tests}, capture_output=True, check=False).returncode


def judged(state_dir: Path) -> dict[str, str]:
    """What the next process thinks of it."""
    return Marks(state_dir, "key").take_blame()


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGSEGV, "Segmentation fault"),
        (signal.SIGABRT, "Aborted"),  # the watchdog of the service manager, too
        (signal.SIGFPE, "Floating point exception"),  # Python 3.13 writes it with a hyphen
        (signal.SIGBUS, "Bus error"),
        (signal.SIGILL, "Illegal instruction"),
    ],
)
def test_a_signal_inside_a_provider_is_its_own(tmp_path: Path, number: signal.Signals, cause: str) -> None:
    """A process that dies of it, and the judgement of the next."""
    assert run_dying(tmp_path, "inside", number) == -number
    blamed = {name: how.replace("Floating-point", "Floating point") for name, how in judged(tmp_path).items()}
    assert blamed == {"openvino": f"ended the agent while it scored ({cause})"}


def test_a_load_that_hangs_with_the_interpreters_lock_is_blamed(tmp_path: Path) -> None:
    """The loop cannot feed the watchdog, and it is the loop's thread that the signal meets."""
    assert run_dying(tmp_path, "beside", signal.SIGABRT) == -signal.SIGABRT
    assert judged(tmp_path) == {"openvino": "ended the agent while it was loaded (Aborted)"}


def test_a_signal_elsewhere_is_nobodys(tmp_path: Path) -> None:
    """A library of the system, for one."""
    assert run_dying(tmp_path, "outside") == -signal.SIGSEGV
    assert judged(tmp_path) == {}


def test_an_orderly_end_leaves_nothing(tmp_path: Path) -> None:
    """Neither mark nor report."""
    assert run_dying(tmp_path, "nowhere") == 0
    assert not list(tmp_path.glob("*.mark"))
    assert "Fatal" not in (tmp_path / "crash.txt").read_text()


def test_the_next_start_tells_of_a_crash_once(tmp_path: Path) -> None:
    """At error level, with the place; the report stays for a person, and for who is to blame."""
    run_dying(tmp_path, "inside", signal.SIGABRT)
    assert run_dying(tmp_path, "nowhere") == 0
    assert run_dying(tmp_path, "nowhere") == 0
    assert "Fatal Python error: Aborted" in (tmp_path / "crash-last.txt").read_text()
    run_dying(tmp_path, "inside", signal.SIGABRT)
    script = "import faulthandler; from pathlib import Path; import sys, logging; logging.basicConfig()\n"
    script += "from edge_agent.engine.crash import crash_watch\n"
    script += "for _ in range(2):\n with crash_watch(Path(sys.argv[1])): pass\n"
    told = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = [line for line in told.stderr.splitlines() if "the last run crashed" in line]
    assert len(lines) == 1
    assert "cause='Aborted'" in lines[0]
    assert "openvino@key" in lines[0]


def test_a_full_disk_leaves_no_file_open(tmp_path: Path) -> None:
    """And the report goes to stderr."""
    script = "import os, resource, sys; from pathlib import Path; from edge_agent.engine.crash import crash_watch\n"
    script += "resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))\n"
    script += "with crash_watch(Path(sys.argv[1])): pass\n"
    script += "with crash_watch(Path(sys.argv[1])): os.abort()\n"
    command = [sys.executable, "-B", "-W", "always", "-c", script, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Fatal Python error: Aborted" in told.stderr
    assert "ResourceWarning" not in told.stderr


def test_a_folder_that_takes_nothing_sends_the_report_to_stderr(tmp_path: Path) -> None:
    """The agent runs all the same."""
    script = "import faulthandler, os; from pathlib import Path; import sys\n"
    script += "from edge_agent.engine.crash import crash_watch\n"
    script += "with crash_watch(Path(sys.argv[1]) / 'missing'): os.abort()\n"
    told = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert told.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in told.stderr


def test_a_process_is_told_from_another_one_with_its_number(tmp_path: Path) -> None:
    """Numbers come again; a report is of one process."""
    run = this_run()
    assert run.is_alive
    other = Run(boot=run.boot, pid=run.pid, started=f"{run.started}0")
    assert not other.is_alive
    (tmp_path / "crash.txt").write_text(f"{other.heading}\nFatal Python error: Aborted\n")
    assert crash_report(tmp_path, run) is None
    assert crash_report(tmp_path, other) is not None
