"""`edgetool calibrate`: a limit that says how sure it is, and a bundle that differs in its limits only."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fakes import canonical_model, write_bundle
from graphs_by_hand import model, rows_of, write
from onnx import helper

import edgetool
from edge_agent.bundle import open_bundle
from edge_agent.cli import main as agent
from edge_agent.errors import DataError, UsageError
from edgetool.cli import main

ROWS = 6000


@pytest.fixture
def square(tmp_path: Path) -> Path:
    """Scores c1² + c2², an alert from 9 on."""
    calibration = {"rows": 1000, "false_alarm_rate": 0.01, "quantiles": {"0.5": 1.0}}
    return write_bundle(tmp_path / "square-1.0.0.edge", changes={"calibration": calibration, "from_later": [1, 2]})


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    """6,000 independent rows of two assets in turns, a minute apart; c2 is 0, and the first 30 are a fault."""
    path = tmp_path / "normal.csv"
    values = np.random.default_rng(0).standard_normal(ROWS)
    with path.open("w", encoding="utf-8") as file:
        file.write("time,asset,c1,c2,label\n")
        for row, value in enumerate(values):
            file.write(
                f"{1_700_000_000 + 60 * (row // 2)},{'ab'[row % 2]},{value:.6f},{9 * (row < 30)},{row // 30 == 0:d}\n"
            )
    return path


def test_a_limit_says_how_sure_it_is(square: Path, normal: Path) -> None:
    """The 1 % limit of a squared normal is 6.63; the fault at the beginning is no part of it."""
    report = edgetool.calibrate(square, data=normal)
    assert report.rows == ROWS - 30
    assert report.threshold.alarm == pytest.approx(6.63, abs=0.5)
    assert report.told.effective_rows > 3000
    assert report.told.is_supported
    assert report.told.low < 0.01 < report.told.high
    assert report.share == pytest.approx(0.01, abs=0.001)
    assert report.before.alarm == 9.0
    assert report.share_before == pytest.approx(0.0027, abs=0.002)
    assert report.days == pytest.approx(5970 / 1440)
    assert (report.method, report.warnings()) == ("quantile", [])


def test_a_rate_that_the_file_cannot_know_becomes_a_bound(
    square: Path, normal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says how many hours it would take, in text and in JSON alike."""
    arguments = ["calibrate", str(square), "--data", str(normal), "--false-alarm-rate", "0.0002"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["is_supported"]
    assert found["interval"][0] == 0
    assert found["limit_rate"] < 0.0002
    assert found["needed_hours"] == pytest.approx(found["hours"] * found["needed_rows"] / found["rows"])
    assert found["needed_rows"] > 20_000
    assert found["method"] == "generalised Pareto tail, as a bound"
    assert "a rate of 0.0002 cannot be known from this file" in found["warnings"][0]
    assert main(arguments) == 0
    assert f"WARNING    {found['warnings'][0]}" in capsys.readouterr().out


def test_the_new_bundle_differs_in_its_limits_only(square: Path, normal: Path) -> None:
    """Model and golden scores byte for byte; what a later version wrote into the manifest stays."""
    new = square.with_name("square-1.0.1.edge")
    report = edgetool.calibrate(square, new, data=normal, false_alarm_rate=0.02)
    with zipfile.ZipFile(square) as old, zipfile.ZipFile(new) as made:
        assert all(old.read(name) == made.read(name) for name in ("model.onnx", "golden.npz"))
        before, after = (json.loads(archive.read("manifest.json")) for archive in (old, made))
    assert {key for key in before if before[key] != after[key]} == {"version", "created", "threshold", "calibration"}
    manifest = open_bundle(new).manifest
    assert (manifest.version, manifest.false_alarm_rate, manifest.threshold) == ("1.0.1", 0.02, report.threshold)
    assert manifest.calibration is not None
    assert manifest.calibration.interval == (report.told.low, report.told.high)
    assert manifest.calibration.effective_rows == report.told.effective_rows
    assert manifest.scorer == open_bundle(square).manifest.scorer


def test_alarms_per_day_are_alerts_of_one_asset(square: Path, normal: Path) -> None:
    """4.1 days of readings: so many alerts a day were wanted, and so many there are, each asset's day counted."""
    report = edgetool.calibrate(square, data=normal, alarms_per_day=5.0)
    assert report.days is not None
    assert 4.0 <= report.alerts / report.days <= 5.0
    assert report.alarms_between is not None
    assert report.alarms_between[0] < 5 < report.alarms_between[1]
    # Where nearly nothing is known, no more is told than can be: one alert for two windows.
    rare = edgetool.calibrate(square, data=normal, alarms_per_day=0.01)
    assert rare.alarms_between is not None
    assert rare.days is not None
    most = rare.rows / rare.days / 2
    assert rare.alarms_between[1] == most
    with pytest.raises(UsageError, match=r"--alarms-per-day 1e\+06: these readings can have at most 7\d\d\.?\d* a day"):
        edgetool.calibrate(square, data=normal, alarms_per_day=1e6)


def test_each_asset_has_its_own_limit_on_request(
    square: Path, normal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And hears where limits of each asset's own are made."""
    report = edgetool.calibrate(square, data=normal, per_asset=True)
    assert [(asset.asset, asset.rows) for asset in report.assets] == [("a", 2985), ("b", 2985)]
    assert all(asset.alarm is not None and 5 < asset.alarm < 9 for asset in report.assets)
    assert main(["calibrate", str(square), "--data", str(normal), "--per-asset"]) == 0
    assert "made on the device: [stream.commission]" in capsys.readouterr().out


def test_the_order_of_the_assets_in_a_file_changes_nothing(square: Path, tmp_path: Path) -> None:
    """Three machines of several levels, in turns or one behind the other: by their times, no score wanders."""
    rng, rows = np.random.default_rng(0), 6000
    level = np.array([1.0, 1.3, 1.7])
    lines = [f"{60 * row},{'abc'[row % 3]},{rng.normal() * level[row % 3]:.6f},0\n" for row in range(rows)]
    found = []
    for name, ordered in (("turns", lines), ("behind", [line for each in range(3) for line in lines[each::3]])):
        path = tmp_path / f"{name}.csv"
        path.write_text("time,asset,c1,c2\n" + "".join(ordered), encoding="ascii")
        found.append(edgetool.calibrate(square, data=path).told.effective_rows)
    assert found[0] == found[1] > 200


def test_limits_of_assets_of_few_scores_are_those_of_the_rule_for_all(
    square: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of counts, the limit lies between two; an asset of one value, or of few windows, says why it has none."""
    rng, rows = np.random.default_rng(0), 4000
    counts, smooth = np.sqrt(rng.poisson(1, rows)), rng.standard_normal(rows)
    lines = [
        line for pair in zip(counts, smooth, strict=True) for line in (f"counts,{pair[0]},0", f"smooth,{pair[1]},0")
    ]
    data = tmp_path / "few.csv"
    data.write_text("\n".join(["asset,c1,c2", *lines, *["still,1,0"] * 40, *["short,1,1"] * 7, ""]))
    few, good, still, short = edgetool.calibrate(square, data=data, per_asset=True).assets
    # Of counts of mean 1, 1.9 % are 4 or more, and 0.37 % are 5 or more.
    assert few.alarm == pytest.approx(4.5, abs=0.001)
    assert few.interval is not None
    assert few.interval[0] < 0.0037 < few.interval[1] < 0.01
    assert "many normal windows have the same score, so no limit has a rate near 0.01" in (few.doubt or "")
    assert (good.doubt, still.alarm, short.alarm) == (None, None, None)
    assert main(["calibrate", str(square), "--data", str(data), "--per-asset"]) == 0
    shown = capsys.readouterr().out
    assert "still: no limit of its own; 40 windows, as " in shown
    assert "of all: all 40 normal windows score the same (1), so no score can tell an anomaly\n" in shown
    assert "of all: 7 normal windows are too few to calibrate on, at least 30 are needed\n" in shown


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--false-alarm-rate 0.01 --alarms-per-day 1", 2, "expected one of them, not both"),
        ("--false-alarm-rate 0.7", 2, "--false-alarm-rate 0.7: expected a share above 0 and below 0.5"),
        ("--alarms-per-day -1", 2, "--alarms-per-day -1: expected a number above 0"),
        ("-o square-1.0.0.edge", 2, "is square 1.0.0 already, and devices tell bundles apart by their version"),
        ("-o new.edge", 2, "new.edge: expected a name like shuttle-1.0.0.edge"),
    ],
)
def test_what_cannot_be_meant_is_told(
    square: Path, normal: Path, capsys: pytest.CaptureFixture[str], options: str, code: int, message: str
) -> None:
    """Before anything is scored, and the bundle stays as it was."""
    before = square.read_bytes()
    assert main(["calibrate", str(square), "--data", str(normal), *options.split()]) == code
    assert message in capsys.readouterr().err
    assert square.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("c1,c2\n" + "1,2\n3,1\n" * 50, "--alarms-per-day 1", "has no times, so nobody knows how long a day is"),
        ("c1,c2\n" + "1,2\n" * 10, "", "10 normal windows are too few to calibrate on, at least 30 are needed"),
        ("c1,c2\n" + "1,2\n" * 50, "", "all 50 normal windows score the same (5), so no score can tell an anomaly"),
        ("c1,c2,label\n" + "1,2,1\n" * 50, "", "0 normal windows are too few to calibrate on"),
    ],
)
def test_data_that_say_nothing_are_told(
    square: Path, capsys: pytest.CaptureFixture[str], content: str, options: str, message: str
) -> None:
    """In one line."""
    data = square.with_name("bad.csv")
    data.write_text(content, encoding="utf-8")
    assert main(["calibrate", str(square), "--data", str(data), *options.split()]) == 65
    assert message in capsys.readouterr().err


def test_pack_takes_no_rate_for_known_because_windows_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """951 windows of 50 rows over 1,000 rows."""
    model, data = tmp_path / "square.onnx", tmp_path / "normal.npz"
    model.write_bytes(canonical_model(channels=1, window=50))
    np.savez(data, readings=np.random.default_rng(0).standard_normal((1000, 1)))
    packed = ["pack", str(model), "--data", str(data), "--false-alarm-rate", "0.01"]
    assert main([*packed, "-o", str(tmp_path / "square-1.0.0.edge")]) == 0
    assert "WARNING    a rate of 0.01 cannot be known from 951 windows that say as much as" in capsys.readouterr().out
    manifest = open_bundle(tmp_path / "square-1.0.0.edge").manifest
    assert manifest.calibration is not None
    assert manifest.calibration.effective_rows is not None
    assert manifest.calibration.effective_rows < 100


def test_a_limit_beyond_what_the_score_can_reach_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A probability never reaches 1.4: the bundle would be silent for ever. The rate that is named works."""
    nodes = [helper.make_node("Gemm", ["x", "w", "c"], ["z"]), helper.make_node("Softmax", ["z"], ["p"], axis=1)]
    constants = {"w": np.array([[-0.3, 0.3]] * 3, np.float32), "c": np.array([27, -18], np.float32)}
    path = model(tmp_path / "m.onnx", nodes, (3,), {"p": ["n", 2]}, constants)
    packed = edgetool.pack(path, data=write(tmp_path / "n.csv", rows_of(6000, 3)), head="class:1").bundle
    later, new = write(tmp_path / "later.csv", rows_of(6000, 3, seed=11) + 0.8), tmp_path / "m-1.0.1.edge"
    arguments = ["calibrate", str(packed), "--data", str(later)]
    assert main([*arguments, "--false-alarm-rate", "0.001", "-o", str(new)]) == 65
    told = capsys.readouterr().err
    assert "would silence the bundle: made-up faults reach the limit so far" in told
    assert not new.exists()
    assert main([*arguments, "--false-alarm-rate", "0.001"]) == 0
    assert "WARNING    the limit 1." in capsys.readouterr().out
    found = re.search(r"--false-alarm-rate ([\d.]+) gives", told)
    assert found is not None
    assert main([*arguments, "--false-alarm-rate", found[1], "-o", str(new)]) == 0
    assert open_bundle(new).manifest.threshold.alarm < 1


def other_readings(tmp_path: Path, by: float, every_s: int) -> tuple[Path, Path]:
    """A bundle that knows readings of -5 to 5 a minute apart, in windows of two; and others."""
    known = [{"name": name, "unit": "V", "min": -5.0, "max": 5.0} for name in ("c1", "c2")]
    calibration = {"rows": 1000, "false_alarm_rate": 0.01, "quantiles": {"0.5": 1.0}}
    changes = {"channels": known, "interval_s": 60.0, "calibration": calibration}
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", window=2, changes=changes)
    values = by * np.random.default_rng(0).standard_normal((1000, 2))
    labels = np.arange(1000) % 100 < 5
    # What is labelled is no normal reading, and may be anything.
    values[labels] *= 1000
    rows = zip(values.tolist(), labels.tolist(), strict=True)
    lines = (f"{1_700_000_000 + every_s * row},{a},{b},{fault:d}\n" for row, ((a, b), fault) in enumerate(rows))
    data = tmp_path / "d.csv"
    data.write_text("time,c1,c2,label\n" + "".join(lines), encoding="utf-8")
    return bundle, data


def test_readings_in_another_unit_make_no_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ranges of the new bundle would be those of other readings; `evaluate` and `score` say what they see."""
    bundle, data = other_readings(tmp_path, 1000.0, 60)
    told = r"channel c1 is not what the bundle knows: -?\d.*, the model has seen -5 to 5.*of another unit or scaling"
    assert re.match(told, edgetool.calibrate(bundle, data=data).warnings()[0])
    assert re.match(f"square-1.0.0.edge: {told}", edgetool.evaluate(bundle, data=data).warnings()[0])
    with pytest.raises(DataError, match=r"not the readings that the bundle knows: c1 \(.*c2 \(.*pack the model again"):
        edgetool.calibrate(bundle, tmp_path / "square-1.0.1.edge", data=data)
    assert not (tmp_path / "square-1.0.1.edge").exists()
    assert agent(["score", str(data), "--bundle", str(bundle), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    shown = [text.partition(" far outside of what the model has seen, -5 to 5;")[0] for text in document["warnings"]]
    assert shown == [f"most values of channel {name} are" for name in ("c1", "c2")]


def test_readings_at_another_pace_are_told(tmp_path: Path) -> None:
    """A window of two of them is another window; of those as the bundle knows them, nothing is told."""
    bundle, data = other_readings(tmp_path, 1.0, 10)
    told = "the rows are 10 s apart, and the windows of the bundle are made of rows that are 60 s apart"
    assert edgetool.calibrate(bundle, data=data).misfits == (told,)
    assert edgetool.evaluate(bundle, data=data).warnings() == [f"square-1.0.0.edge: {told}"]
    bundle, data = other_readings(tmp_path, 1.0, 60)
    assert edgetool.calibrate(bundle, data=data).misfits == ()
    assert edgetool.evaluate(bundle, data=data).warnings() == []
