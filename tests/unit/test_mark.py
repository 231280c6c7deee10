"""What a process that is gone has left behind, and whom it speaks against."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fakes import make_candidate

from edge_agent.engine.choice.mark import Marks, drop_old_marks
from edge_agent.engine.crash import Run, this_run
from edge_agent.files.checksum import seal

BOOT = this_run().boot
GONE = Run(boot=BOOT, pid=1 << 23, started="1")
EARLIER_BOOT = Run(boot="another", pid=1 << 23, started="1")
OPENVINO = make_candidate("openvino", us=5, threads=2)
CPU = make_candidate("cpu", us=5)
REPORT = """\
{heading}
Fatal Python error: Segmentation fault

Thread 0x00007f0000000001 (most recent call first):
  File "/x/edge_agent/engine/session.py", line 113 in score
  File "/x/edge_agent/engine/choice/mark.py", line 70 in {other}
  File "/x/edge_agent/engine/upkeep.py", line 200 in _offer

Current thread 0x00007f0000000002 (most recent call first):
  File "/x/edge_agent/engine/session.py", line 113 in score
  File "/x/edge_agent/engine/choice/mark.py", line 70 in {current}
  File "/x/edge_agent/engine/fallback.py", line 105 in score

Extension modules: numpy (total: 1)
"""
NATIVE = REPORT.replace("Current thread 0x00007f0000000002", "Thread 0x00007f0000000002")
NATIVE_LOAD = NATIVE.replace("{other}", "cuda@another:loading")
INSIDE = "openvino-x2@key"


def left_behind(state_dir: Path, *, run: Run = GONE, running: bool = True, report: str = "", inside: str = "") -> Marks:
    """The marks of a state folder after a process with OpenVINO has ended there."""
    mark = Marks(state_dir, "key", run=run).place(OPENVINO)
    if running:
        mark.running()
    if report:
        text = report.format(heading=run.heading, current=inside or "main", other="run" if inside else "main")
        (state_dir / "crash-last.txt").write_text(text)
    return Marks(state_dir, "key")


@pytest.mark.parametrize(
    ("facts", "deed"),
    [
        ({"running": False}, "ended the agent while it was loaded, without a word"),
        ({"report": REPORT, "inside": INSIDE}, "ended the agent while it scored (Segmentation fault)"),
        ({"report": NATIVE, "inside": INSIDE}, "ended the agent while it scored (Segmentation fault)"),
        (
            {"running": False, "report": REPORT, "inside": INSIDE},
            "ended the agent while it was loaded (Segmentation fault)",
        ),
        ({"report": REPORT, "inside": "cpu@key"}, None),
        ({"report": REPORT, "inside": "openvino-x2@another"}, None),
        ({"report": REPORT}, None),
        ({"report": NATIVE_LOAD, "inside": INSIDE}, None),
        ({"running": False, "report": REPORT}, None),
        ({"run": EARLIER_BOOT, "running": False}, None),
        ({"run": EARLIER_BOOT, "report": REPORT, "inside": INSIDE}, None),
        ({}, None),
    ],
)
def test_blame_follows_the_evidence(tmp_path: Path, facts: dict[str, object], deed: str | None) -> None:
    """Who was being loaded, or was at work in the thread that crashed; after a power cut nobody."""
    marks = left_behind(tmp_path, **facts)  # type: ignore[arg-type]
    assert marks.take_blame() == ({"openvino": deed} if deed else {})
    assert marks.take_blame() == {}, "it is told once"


def test_a_thread_of_a_provider_that_crashes_while_nobody_scores_counts_as_silence(tmp_path: Path) -> None:
    """Nobody knows whose it was, until it was so three times."""
    for number in range(3):
        marks = left_behind(tmp_path, run=Run(boot=BOOT, pid=1 << 23, started=str(number)), report=NATIVE)
        assert bool(marks.take_blame()) is (number == 2)


LOADED_BESIDE = """\
{heading}
Fatal Python error: {cause}

Thread 0x00007f0000000001 (most recent call first):
  File "/x/edge_agent/engine/choice/mark.py", line 70 in openvino-x2@key{loading}

{current} 0x00007f0000000002 (most recent call first):
  File "/x/edge_agent/engine/choice/mark.py", line 70 in cpu@key
"""


@pytest.mark.parametrize(
    ("cause", "current", "running", "blamed"),
    [
        ("Segmentation fault", "Thread", False, "openvino"),
        ("Segmentation fault", "Thread", True, "openvino"),
        ("Segmentation fault", "Current thread", False, "cpu"),
        ("Aborted", "Current thread", False, "openvino"),  # the watchdog's, while a load holds the interpreter's lock
        ("Aborted", "Current thread", True, "cpu"),
    ],
)
def test_of_two_at_work_the_one_that_loads_is_suspected_first(
    tmp_path: Path, cause: str, current: str, blamed: str, *, running: bool
) -> None:
    """Then the one that is not the processor's own; where the thread that crashed is known, the one in that."""
    Marks(tmp_path, "key", run=GONE).place(CPU).running()
    left_behind(tmp_path, running=running)
    facts = {"heading": GONE.heading, "cause": cause, "current": current, "loading": "" if running else ":loading"}
    (tmp_path / "crash.txt").write_text(LOADED_BESIDE.format(**facts))
    assert list(Marks(tmp_path, "key").take_blame()) == [blamed]


def test_the_processors_own_provider_is_not_blamed_for_silence_while_it_loads(tmp_path: Path) -> None:
    """A person's SIGKILL, for one: it would come last for good."""
    Marks(tmp_path, "key", run=GONE).place(CPU)
    assert Marks(tmp_path, "key").take_blame() == {}


def test_silent_ends_are_counted_also_when_another_one_is_loaded_first(tmp_path: Path) -> None:
    """A start that begins with the processor's provider, and takes the other one beside the loop."""
    for number in range(3):
        marks = Marks(tmp_path, "key", run=Run(boot=BOOT, pid=1 << 23, started=str(number)))
        marks.place(CPU).running()
        marks.place(OPENVINO).running()
    assert list(Marks(tmp_path, "key").take_blame()) == ["openvino"]


def test_blame_that_cannot_be_kept_is_taken_by_the_next_run(tmp_path: Path) -> None:
    """A full disk."""
    marks = left_behind(tmp_path, running=False)
    assert list(marks.take_blame(lambda _: False)) == ["openvino"]
    assert list(marks.take_blame(lambda _: True)) == ["openvino"]
    assert marks.take_blame() == {}


def test_old_marks_of_the_dead_are_dropped(tmp_path: Path) -> None:
    """Those of a process that has been running for long are not."""
    for run in (this_run(), GONE):
        Marks(tmp_path, "key", run=run).place(OPENVINO)
    drop_old_marks(tmp_path, time.time() - 60)
    assert len(list(tmp_path.glob("*.mark"))) == 2
    drop_old_marks(tmp_path, time.time() + 60)
    assert [str(this_run().pid) in file.name for file in tmp_path.glob("*.mark")] == [True]


def test_a_mark_that_is_cleared_while_it_is_written_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's thread ends as planned, and another one has just loaded."""
    mark = Marks(tmp_path, "key").place(OPENVINO)
    replace = Path.replace

    def clear_first(file: Path, target: Path) -> Path:
        mark.clear()
        return replace(file, target)

    monkeypatch.setattr(Path, "replace", clear_first)
    mark.running()
    assert not list(tmp_path.iterdir())


def test_a_report_of_another_process_says_nothing(tmp_path: Path) -> None:
    """It is of an earlier crash; this one ended without a word."""
    left_behind(tmp_path, run=Run(boot=BOOT, pid=1 << 23, started="0"), report=REPORT, inside=INSIDE)
    assert left_behind(tmp_path).take_blame() == {}


@pytest.mark.parametrize(
    ("candidate", "ends", "is_blamed"), [(OPENVINO, 2, False), (OPENVINO, 3, True), (CPU, 5, False)]
)
def test_ending_without_a_word_counts_when_it_goes_on(
    tmp_path: Path, candidate: object, ends: int, *, is_blamed: bool
) -> None:
    """Three times in a row; of the processor's own provider never: there is none to take its place."""
    for number in range(ends):
        marks = Marks(tmp_path, "key", run=Run(boot=BOOT, pid=1 << 23, started=str(number)))
        assert marks.take_blame() == {}
        marks.place(candidate).running()  # type: ignore[arg-type]
    told = "was running when the agent ended without a word 3 times in a row"
    assert Marks(tmp_path, "key").take_blame() == ({"openvino": told} if is_blamed else {})


def test_a_planned_stop_ends_the_row(tmp_path: Path) -> None:
    """Two kills, a stop, two kills: no three in a row."""
    for number in range(5):
        marks = Marks(tmp_path, "key", run=Run(boot=BOOT, pid=1 << 23, started=str(number)))
        assert marks.take_blame() == {}
        mark = marks.place(OPENVINO)
        mark.running()
        if number == 2:
            mark.clear()
    assert Marks(tmp_path, "key").take_blame() == {}


def test_the_marks_of_a_process_that_lives_are_left_alone(tmp_path: Path) -> None:
    """`edge-agent providers` looks, and loads the same, while the service runs."""
    service = Marks(tmp_path, "key").place(OPENVINO)
    beside = Marks(tmp_path, "key", run=GONE)
    assert beside.take_blame() == {}
    beside.place(OPENVINO).clear()
    assert len(list(tmp_path.glob("*.mark"))) == 1
    service.clear()
    assert not list(tmp_path.iterdir())


def test_two_streams_with_one_bundle_have_a_mark_each(tmp_path: Path) -> None:
    """One that gives way takes only its own with it."""
    first, _second = (Marks(tmp_path, "key").place(OPENVINO) for _ in range(2))
    first.clear()
    assert len(list(tmp_path.glob("*.mark"))) == 1


@pytest.mark.parametrize("content", [b"{", seal(b'{"x": ' + b"[" * 5000)])
def test_a_damaged_mark_says_nothing(tmp_path: Path, content: bytes) -> None:
    """And is gone."""
    left_behind(tmp_path, running=False)
    (file,) = tmp_path.glob("*.mark")
    file.write_bytes(content)
    assert Marks(tmp_path, "key").take_blame() == {}
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_nothing_is_no_reason_not_to_load(tmp_path: Path) -> None:
    """There is no mark then."""
    mark = Marks(tmp_path / "missing", "key").place(OPENVINO)
    mark.running()
    mark.clear()
