"""`edgetool evidence`: what people said of alerts becomes data that `evaluate` and `calibrate` take."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes import make_alert
from processes import run_tool

from edge_agent.messages.text import encode, iso_time
from edgetool import evidence
from edgetool.data import read_sensor_data
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.history import History
from edgetool.monitoring.intake import Intake
from edgetool.subscription import Message

NOW_S = 1_763_700_000.0


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def tell(history: Path, messages: Callable[[Callable[[str, Any], None]], None]) -> None:
    """What a dashboard with this history hears."""
    with History(history, days=7, limit_mb=100) as opened:
        intake = Intake(Fleet(), opened)

        def send(topic: str, document: Any) -> None:
            intake.take(Message(topic, encode(document), is_retained=False))

        messages(send)
        assert not intake.doubted


def alert(
    send: Callable[[str, Any], None],
    name: str,
    *,
    at: float,
    verdict: str,
    agent: str = "g1",
    stream: str = "pump",
    asset: str = "a1",
    has_readings: bool = True,
) -> None:
    """An alert from ten seconds on, for ten seconds, with the readings of half a minute, in two parts."""
    for event, when in (("raise", at + 10), ("clear", at + 20)):
        made = make_alert(id=name, agent=agent, event=event, time=iso_time(when), since=iso_time(at + 10))
        send(f"edge/{agent}/alerts/{stream}/{asset}", msgspec.structs.replace(made, stream=stream, asset=asset))
    drawn = np.random.default_rng(int(at)).uniform(0, 3, (30, 2)).round(3).tolist()
    for number, row in enumerate(drawn):
        row[0] += 9.0 * (10 <= number < 20)
    drawn[2][1] = None
    rows = [[iso_time(at + number), *row] for number, row in enumerate(drawn)]
    place = {"agent": agent, "stream": stream, "asset": asset, "id": name, "channels": ["c1", "c2"], "parts": 2}
    for part, some in enumerate((rows[:15], rows[15:]), start=1):
        if has_readings:
            send(f"edge/{agent}/evidence/{stream}/{asset}", {**place, "rows": some, "part": part})
    if verdict:
        send(f"edge/{agent}/marks/{name}", {"agent": agent, "id": name, "verdict": verdict})


def test_verdicts_become_labels(history: Path, tmp_path: Path) -> None:
    """1 from the raise to the end of a true alert; a false one is normal; others are left out, and counted."""

    def messages(send: Callable[[str, Any], None]) -> None:
        alert(send, "x1", at=NOW_S, verdict="true")
        alert(send, "x2", at=NOW_S + 15, verdict="false")
        alert(send, "x3", at=NOW_S, verdict="known", asset="a2")
        alert(send, "x4", at=NOW_S, verdict="", asset="a3")
        alert(send, "x5", at=NOW_S, verdict="true", asset="a4", has_readings=False)

    tell(history, messages)
    done = run_tool("edgetool", "evidence", history, "-o", tmp_path / "labelled.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "output": str(tmp_path / "labelled.csv"),
        "channels": ["c1", "c2"],
        "assets": ["a1"],
        "rows": 45,
        "anomalous": 10,
        "alerts": {"true": 1, "false": 1},
        "without_verdict": 1,
        "without_readings": 1,
        "missing_parts": 0,
        "undecided": 0,
    }
    with (tmp_path / "labelled.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [number for number, row in enumerate(rows) if row["label"] == "1"] == list(range(10, 20))
    assert (rows[0]["time"], rows[0]["asset"], float(rows[0]["c1"]) < 3) == (iso_time(NOW_S), "a1", True)
    # Missing in the first alert's readings; the second alert's begin later.
    assert rows[2]["c2"] == ""
    report = evidence(history, tmp_path / "known.parquet", verdicts=["known"])
    assert (report.rows, report.anomalous, report.assets) == (30, 0, {"a2"})
    data = read_sensor_data(tmp_path / "known.parquet")
    assert data.labels is not None
    assert (len(data.values), int(data.labels.sum()), data.channels) == (30, 0, ("c1", "c2"))


def test_what_nobody_judged_is_no_normal_row_beside_a_judged_alert(history: Path, tmp_path: Path) -> None:
    """Its rows are in the readings around its neighbour. What is judged true is true there, too."""

    def messages(send: Callable[[str, Any], None]) -> None:
        alert(send, "x1", at=NOW_S, verdict="false")
        alert(send, "x2", at=NOW_S + 12, verdict="known", has_readings=False)
        alert(send, "y1", at=NOW_S, verdict="false", asset="a2")
        alert(send, "y2", at=NOW_S + 15, verdict="true", asset="a2", has_readings=False)

    tell(history, messages)
    report = evidence(history, tmp_path / "labelled.csv")
    assert report.undecided == 8
    with (tmp_path / "labelled.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows if row["asset"] == "a1"] == ["0"] * 22
    assert [row["label"] for row in rows if row["asset"] == "a2"] == ["0"] * 25 + ["1"] * 5


def test_a_stream_that_there_is_not_is_told_with_those_that_there_are(history: Path, tmp_path: Path) -> None:
    """Not as one whose alerts nobody has judged."""
    tell(history, lambda send: alert(send, "x1", at=NOW_S, verdict="true"))
    done = run_tool("edgetool", "evidence", history, "-o", tmp_path / "labelled.csv", "--stream", "nope")
    assert done.returncode == 65
    assert "has no alert of that agent and stream; it has --agent" in done.stderr


def test_evaluate_and_calibrate_take_it(history: Path, tmp_path: Path, bundle: Path) -> None:
    """As it is."""

    def messages(send: Callable[[str, Any], None]) -> None:
        for number in range(40):
            alert(
                send,
                f"x{number}",
                at=NOW_S + 1000 * number,
                verdict="true" if number % 4 == 0 else "false",
                asset=f"a{number}",
            )

    tell(history, messages)
    labelled = tmp_path / "labelled.csv"
    done = run_tool("edgetool", "evidence", history, "-o", labelled)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "  of alerts judged 30 false, 10 true"
    done = run_tool("edgetool", "evaluate", bundle, "--data", labelled, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["bundles"]
    assert 0.5 < found["roc_auc"] < 1
    done = run_tool("edgetool", "calibrate", bundle, "--data", labelled, "-o", tmp_path / "new-1.0.0.edge", "--json")
    assert done.returncode == 0, done.stderr


def test_an_asset_of_several_agents_is_told_apart(history: Path, tmp_path: Path) -> None:
    """By its agent's name, whatever signs are in the two; one agent's alone has its own name.

    The assets 2.a1 of g1 and a1 of g1.2 were one, and of its readings half were lost.
    """

    def messages(send: Callable[[str, Any], None]) -> None:
        alert(send, "x1", at=NOW_S, verdict="true", asset="2.a1")
        alert(send, "x2", at=NOW_S, verdict="false", agent="g1.2")
        alert(send, "x3", at=NOW_S, verdict="false", agent="g1:2")
        alert(send, "x4", at=NOW_S, verdict="false", asset="2:a1")

    tell(history, messages)
    report = evidence(history, tmp_path / "all.csv")
    assert report.assets == {"g1:2.a1", "g1.2:a1", "g1%3A2:a1", "g1:2:a1"}
    assert (report.rows, report.anomalous) == (4 * 30, 10)
    assert evidence(history, tmp_path / "one.csv", agent="g1.2").assets == {"a1"}


def test_what_is_not_there_is_told(history: Path, tmp_path: Path) -> None:
    """In one line, with the next step."""

    def messages(send: Callable[[str, Any], None]) -> None:
        alert(send, "x1", at=NOW_S, verdict="")

    def others(send: Callable[[str, Any], None]) -> None:
        alert(send, "x2", at=NOW_S, verdict="true")
        alert(send, "x3", at=NOW_S, verdict="true", stream="fan")

    out = tmp_path / "out.csv"
    done = run_tool("edgetool", "evidence", history, "-o", out)
    assert (done.returncode, done.stderr.split(": ", 2)[2]) == (
        65,
        "there is no such history; edgetool dashboard --history FILE makes one\n",
    )
    tell(history, messages)
    done = run_tool("edgetool", "evidence", history, "-o", out)
    said = "no alert has readings and a verdict of true or false (1 have no verdict, 0 no readings)"
    assert (done.returncode, done.stderr) == (65, f"edgetool: {history}: {said}\n")
    tell(history, others)
    done = run_tool("edgetool", "evidence", history, "-o", out)
    assert done.returncode == 2
    assert done.stderr == f"edgetool: {history}: has readings of fan, pump; choose one with --stream\n"
    assert run_tool("edgetool", "evidence", history, "-o", out, "--stream", "fan").returncode == 0
    done = run_tool("edgetool", "evidence", history, "-o", out, "--verdict", "maybe")
    assert done.returncode == 2
    assert done.stderr == "edgetool: 'maybe' is not a valid Verdict; expected true, false or known\n"
    done = run_tool("edgetool", "evidence", history, "-o", tmp_path / "out.txt")
    assert done.returncode == 2
