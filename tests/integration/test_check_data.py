"""`edge-agent check --data` says whether readings are those that a bundle knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import write_bundle
from processes import run_tool, write_config

from edge_agent.cli import main

CHANNELS = [{"name": "c1", "min": -1.0, "max": 1.0}, {"name": "c2", "min": 0.0, "max": 2.0}, {"name": "c3"}]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An alert from 9 on; the third channel has no range."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", channels=3, changes={"channels": CHANNELS})
    return write_config(tmp_path, 1, {"pump": bundle})


def write(path: Path, c1: object, c2: object) -> Path:
    rows = np.column_stack([np.broadcast_to(np.asarray(each, float), 100) for each in (c1, c2, 0.0)])
    path.write_text("c1,c2,c3\n" + "\n".join(",".join(f"{value:.4f}" for value in row) for row in rows))
    return path


def check(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, str, str]:
    code = main(["check", *map(str, options)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_readings_in_range_are_good(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the share of windows in alarm; a channel without a range has no verdict."""
    data = write(tmp_path / "good.csv", np.linspace(-1, 1, 100), [0.0] * 98 + [2.0, 4.5])
    code, text, _ = check(capsys, "--config", config, "--data", data)
    assert code == 0
    assert f"{data}: 100 rows, 100 windows: 1.00% reach the alarm limit" in text
    assert "c1: -1 to 1, the model has seen -1 to 1: in range\n" in text
    assert "c2: 0 to 4.5, the model has seen 0 to 2: 1.0% outside, 1.0% far outside\n" in text
    assert "c3: 0 to 0; the bundle knows no range\n" in text
    code, text, _ = check(capsys, "--config", config, "--data", data, "--json")
    (stream,) = json.loads(text)["streams"]
    found: dict[str, Any] = stream["data"]
    assert (code, found["rows"], found["windows"], found["alarming"]) == (0, 100, 100, 0.01)
    second = {"name": "c2", "low": 0.0, "high": 4.5, "seen_low": 0.0, "seen_high": 2.0, "outside": 0.01, "far": 0.01}
    assert found["channels"][1] == second


def test_readings_of_another_unit_end_with_65(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with channel, values and range; and no JSON."""
    data = write(tmp_path / "bar.csv", 0.0, 2950.0)
    code, text, problem = check(capsys, "--config", config, "--data", data)
    assert code == 65
    assert "100.00% reach the alarm limit" in text
    assert len(problem.splitlines()) == 1
    assert "bar.csv: these are not the readings that the model knows: c2 (2950 to 2950, the model has seen" in problem
    assert check(capsys, "--config", config, "--data", data, "--json")[:2] == (65, "")


def test_readings_that_hardly_move_are_doubted(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within the range everything small is; a value of a large unit looks like a still one."""
    data = write(tmp_path / "small.csv", np.linspace(0, 0.01, 100), 1.0)
    code, text, _ = check(capsys, "--config", config, "--data", data)
    assert code == 0
    assert "c1: 0 to 0.01, the model has seen -1 to 1: in range, and moves by 0.5% of it only: another unit" in text


def test_which_stream_the_data_are_for_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there are several; and a file without the channels is none."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config = write_config(tmp_path, 1, {"pump": bundle, "fan": bundle})
    data = write(tmp_path / "d.csv", 0.1, 0.2)
    code, _, problem = check(capsys, "--config", config, "--data", data)
    assert (code, "check: --data needs --stream, one of: pump, fan" in problem) == (2, True)
    code, text, _ = check(capsys, "--config", config, "--data", data, "--stream", "fan", "--json")
    assert (code, ["data" in stream for stream in json.loads(text)["streams"]]) == (0, [False, True])
    other = tmp_path / "other.csv"
    other.write_text("c1,speed\n1,2\n")
    code, _, problem = check(capsys, "--config", config, "--data", other, "--stream", "fan")
    assert (code, "has no column 'c2'" in problem) == (65, True)


@pytest.mark.parametrize(
    ("step_s", "stream", "found"),
    [
        (10.0, "", {"expected_s": 10.0, "count": 0, "assets": {}}),
        (60.0, "", {"expected_s": 10.0, "count": 1, "assets": {"a1": 60.0}}),
        (5.0, "", {"expected_s": 10.0, "count": 1, "assets": {"a1": 5.0}}),
        (60.0, "[stream.window]\nevery_s = 10", None),
        (None, "", None),
    ],
)
def test_rows_at_another_pace_are_told_as_health_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step_s: float | None, stream: str, found: Any
) -> None:
    """By the same code and the same words; in one line of the report, and once in the log."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", window=3, changes={"interval_s": 10.0})
    config = write_config(tmp_path, 1, {"pump": bundle}, stream=stream)
    data = tmp_path / "d.csv"
    times = [""] * 100 if step_s is None else [f"{1e9 + step_s * number}," for number in range(100)]
    data.write_text(("" if step_s is None else "time,") + "c1,c2\n" + "\n".join(f"{time}0.1,0.2" for time in times))
    # As a process: the log is set up by the program.
    done = run_tool("edge-agent", "check", "--config", config, "--data", data)
    told = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("interval: ")]
    assert done.returncode == 0
    words = "readings come at another pace than the model's windows have"
    if found is None:
        assert told == []
    elif found["count"]:
        assert told == [f"interval: {words}, 10 s apart: a1 {step_s:g} s"]
        (line,) = [line for line in done.stderr.splitlines() if words in line]
        assert line.endswith(f"{words} stream=pump asset='a1' interval_s={step_s:g} expected_s=10")
    else:
        assert told == ["interval: none that is another than that of the model's windows, 10 s apart"]
        assert done.stderr == ""
    code, text, _ = check(capsys, "--config", config, "--data", data, "--json")
    assert (code, json.loads(text)["streams"][0]["data"]["intervals"]) == (0, found)
