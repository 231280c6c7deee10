"""How long a service waits that cannot work, before it ends to be started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.service.patience import Patience


def test_the_pause_grows_from_one_end_to_the_next(tmp_path: Path) -> None:
    """Each start is a process of its own; the first end is told at once."""
    pauses = [Patience({"RUNTIME_DIRECTORY": f"{tmp_path}:/other"}, lambda: 0.0).pause_s() for _ in range(9)]
    assert pauses == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]


@pytest.mark.parametrize(("ran_s", "pause_s"), [(599.0, 20.0), (600.0, 0.0)])
def test_after_a_long_run_an_end_is_the_first_one(tmp_path: Path, ran_s: float, pause_s: float) -> None:
    """A rare crash costs no pause."""
    environ = {"RUNTIME_DIRECTORY": str(tmp_path)}
    for _ in range(2):
        Patience(environ, lambda: 0.0).pause_s()
    times = iter([1000.0, 1000.0 + ran_s])
    assert Patience(environ, lambda: next(times)).pause_s() == pause_s


def test_without_a_folder_each_end_waits(tmp_path: Path) -> None:
    """Nor where what stands in it is damaged, or nothing can be written."""
    assert [Patience({}).pause_s() for _ in range(3)] == [10.0, 10.0, 10.0]
    (tmp_path / "ended-in-a-row").write_bytes(b"\xff")
    assert Patience({"RUNTIME_DIRECTORY": str(tmp_path)}).pause_s() == 0.0
    assert Patience({"RUNTIME_DIRECTORY": str(tmp_path / "gone")}).pause_s() == 0.0


def test_the_pause_stays_the_longest_for_years(tmp_path: Path) -> None:
    """No number overflows."""
    (tmp_path / "ended-in-a-row").write_text("1000000")
    assert Patience({"RUNTIME_DIRECTORY": str(tmp_path)}, lambda: 0.0).pause_s() == 300.0
