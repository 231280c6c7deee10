"""`edgetool evaluate` on bundles whose scores are known by heart: c1² + c2², an alert from 9 on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import write_bundle
from onnx import TensorProto, helper, numpy_helper

import edgetool
from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.offline import score_data
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.settings import StreamSettings
from edgetool.cli import main
from edgetool.data import SensorData, read_sensor_data

CALIBRATED = {"calibration": {"rows": 1000, "false_alarm_rate": 0.01, "quantiles": {"0.5": 1.0, "0.9": 4.0}}}
Rows = Callable[[str], Path]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Writes the rows below a header: two assets in turns, a minute apart."""

    def write(name: str) -> Path:
        """An event of `a` that c2 makes, found in its second row; one of `b` that is missed; a false alert of `b`."""
        lines = []
        for minute in range(60):
            for asset in ("a", "b"):
                c1, c2, label = 1.0, 0.5, 0
                if asset == "a" and 20 <= minute < 24:
                    c2, label = (4.0 if minute > 20 else 2.0), 1
                if asset == "b" and minute in (40, 42):
                    label = 1
                if asset == "b" and minute == 50:
                    c1 = 5.0
                lines.append(f"{1_700_000_000 + 60 * minute},{asset},{c1},{c2},{label}\n")
        (tmp_path / name).write_text("time,asset,c1,c2,label\n" + "".join(lines), encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def square(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)


def test_what_is_found_and_what_is_false(square: Path, rows: Rows) -> None:
    """Every figure of it worked out by hand."""
    report = edgetool.evaluate(square, data=rows("labelled.csv"))
    mine, own = report.bundles[0], report.bundles[0].own
    assert [(span.asset, span.first_row, span.last_row) for span in report.spans()] == [
        ("a", 40, 46),
        ("b", 81, 85),
    ]
    assert (own.false_alarm_rate, own.alarm, own.events_found, own.false_alerts) == (0.01, 9.0, 1, 1)
    assert [own.delay_rows_median, own.delay_s_median] == [1.0, 60.0]
    # 114 normal minutes in all; three labelled rows of four in alarm.
    assert own.false_alerts_per_day == pytest.approx(1440 / 114)
    assert [own.precision, own.recall] == pytest.approx([3 / 4, 3 / 6])
    # At ten times the rate the limit is 4.0, which the event's first row reaches.
    assert [mine.limits[0].false_alarm_rate, mine.limits[0].alarm] == pytest.approx([0.1, 4.0])
    assert mine.limits[0].delay_rows_median == 0.0
    first, second = mine.events
    assert (first.found, first.raised_row, first.peak, first.peak_row) == (True, 42, 17.0, 42)
    assert [(name, round(share, 3)) for name, share in first.shares] == [("c2", 0.941), ("c1", 0.059)]
    assert (second.found, second.was_open, second.raised_row, second.peak) == (False, False, None, 1.25)
    assert [baseline.name for baseline in report.baselines] == ["rolling z-score", "random", "always"]
    assert report.baselines[2].own.events_found == 0


def test_scores_and_alerts_are_those_that_edge_agent_score_gives(tmp_path: Path) -> None:
    """Windows of three rows with a stride of two, over two assets and missing values, in several batches."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1.5, (9000, 2))
    values[rng.random(values.shape) < 0.05] = np.nan
    path = tmp_path / "d.npz"
    assets = np.where(rng.random(9000) < 0.3, "a", "b")
    np.savez(path, readings=values, asset=assets, label=(rng.random(9000) < 0.01).astype(int))
    changes = {**CALIBRATED, "stride": 2}
    bundle = open_bundle(write_bundle(tmp_path / "s-1.0.0.edge", window=3, alarm=7, changes=changes))
    report = edgetool.evaluate(bundle.path, data=path)
    data = read_sensor_data(path, ("c1", "c2"))
    told = score_data(
        SensorData(path, data.channels, data.values, None, data.assets, None),
        bundle,
        OrtEngine(bundle.model, PROVIDERS["cpu"]),
        agent="a",
        stream="s",
        provider="cpu",
        settings=StreamSettings(alarm=AlarmSettings(flap_raises=0)),
    )
    mine, rows = report.bundles[0], report.labelled.rows
    by_row = dict(zip(rows.order[mine.scored.place].tolist(), mine.scored.score.tolist(), strict=True))
    numbers = [int(row) for _, batch in told.scored_of for row in batch]
    assert by_row == dict(zip(numbers, told.scores.tolist(), strict=True))
    raised = sum(event.event == "raise" for event in told.events())
    in_events = sum(int(event.found) for event in mine.events)
    assert raised > 100
    assert raised - in_events - 5 <= mine.own.false_alerts <= raised - in_events


def test_several_bundles_stand_in_one_table(
    square: Path, tmp_path: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the same rows, in the order in which they were named; one JSON document with all of it."""
    other = write_bundle(tmp_path / "other-2.0.0.edge", alarm=4.0, clear=3.0)
    data = rows("labelled.csv")
    assert main(["evaluate", str(square), str(other), "--data", str(data), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [quality["name"] for quality in document["bundles"]] == ["square-1.0.0.edge", "other-2.0.0.edge"]
    # Without a calibration a bundle has its own limit only.
    assert [len(quality["limits"]) for quality in document["bundles"]] == [3, 1]
    assert document["bundles"][1]["own_limit"]["delay_rows_median"] == 0.0
    assert document["bundles"][0]["roc_auc"] == document["bundles"][1]["roc_auc"]
    assert main(["evaluate", str(square), str(other), "--data", str(data)]) == 0
    text = capsys.readouterr().out
    assert (
        "square-1.0.0.edge: b, rows 81 to 85, 2023-11-14 22:53:20Z: MISSED; highest score 1.25: c1 80%, c2 20%" in text
    )
    assert "12.6 a day" in text


def test_the_page_needs_no_network_and_hides_nothing(square: Path, tmp_path: Path, rows: Rows) -> None:
    """Curves, histogram, timelines and events of one bundle, in one file."""
    page = tmp_path / "page.html"
    assert main(["evaluate", str(square), "--data", str(rows("labelled.csv")), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    # The two curves, the histogram, and a timeline for each asset with an event.
    assert text.count("<svg") == 5
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text
    assert "1 of 2 events" in text
    assert "c2 94%, c1 6%" in text


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (
            "c1,c2\n1,1\n",
            65,
            "has no column 'label'; mark the rows of known anomalies with 1 and the normal ones with 0",
        ),
        ("c1,label\n1,1\n", 65, "has no column 'c2'; its channels are: c1"),
        ("c1,c2,label\n,1,1\n,1,0\n", 65, "completes no window of 1 rows that square-1.0.0.edge could score"),
    ],
)
def test_what_cannot_be_evaluated_is_told(
    square: Path, capsys: pytest.CaptureFixture[str], content: str, code: int, message: str
) -> None:
    """In one line, with the next step."""
    data = square.parent / "bad.csv"
    data.write_text(content, encoding="utf-8")
    assert main(["evaluate", str(square), "--data", str(data)]) == code
    assert message in capsys.readouterr().err.replace(f"{square.parent}/", "")


def test_a_bundle_that_does_not_give_its_golden_scores_is_not_judged(
    square: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures would be those of another model."""
    wrong = write_bundle(square.with_name("wrong-1.0.0.edge"), golden_factor=2.0)
    assert main(["evaluate", str(wrong), "--data", str(rows("labelled.csv"))]) == 69
    assert "wrong scores" in capsys.readouterr().err


def test_columns_may_have_other_names_and_files_be_several(
    square: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for every command that takes data; a column that no bundle has may hold text."""
    whole = rows("labelled.csv").read_text(encoding="utf-8").splitlines()
    head = whole[0].replace("time", "when").replace("asset", "machine").replace("label", "fault") + ",remark"
    for number, part in enumerate((whole[1:71], whole[71:])):
        lines = [head, *(f"{line},fine" for line in part)]
        square.with_name(f"part-{number}.csv").write_text("\n".join(lines), encoding="utf-8")
    names = ["--time-column", "when", "--asset-column", "machine", "--label-column", "fault"]
    data = str(square.with_name("part-*.csv"))
    assert main(["evaluate", str(square), "--data", data, *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bundles"][0]["own_limit"]
    expected = edgetool.evaluate(square, data=square.with_name("labelled.csv")).bundles[0].own
    assert found == expected.describe()


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_label_still_say_something(square: Path, capsys: pytest.CaptureFixture[str], label: int) -> None:
    """How many false alerts there are among normal rows, or what is found among anomalies."""
    data = square.parent / "one.csv"
    data.write_text(
        "c1,c2,label\n" + "".join(f"{n % 9 == 8 and 5},0,{label}\n" for n in range(90)).replace("False", "0")
    )
    assert main(["evaluate", str(square), "--data", str(data), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bundles"][0]
    assert (found["roc_auc"], found["vus_pr"]) == (None, None)
    assert found["own_limit"]["false_alerts"] == (0 if label else 10)
    assert found["own_limit"]["false_alerts_per_1000_rows"] == (None if label else pytest.approx(111.11, abs=0.01))


def weighted(path: Path, *weights: float) -> Path:
    """A canonical detector: the sum of weighted squares of one row."""
    width = len(weights)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["readings", "readings"], ["squares"]),
            helper.make_node("Mul", ["squares", "weights"], ["parts"]),
            helper.make_node("ReduceSum", ["parts", "axes"], ["score"], keepdims=0),
        ],
        "weighted",
        [helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["n", 1, width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(np.array(weights, np.float32), "weights"),
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def close(tmp_path: Path) -> Path:
    """Normal rows that score 1.00 by c1, and one event of 20 rows that scores 1.02 by c2."""
    rng = np.random.default_rng(0)
    values = np.zeros((2000, 2))
    values[:, 0] = np.sqrt(1 + 0.001 * rng.standard_normal(2000))
    values[1000:1020] = np.column_stack([np.zeros(20), np.sqrt(1.02 + 0.001 * rng.standard_normal(20))])
    values[:, 1] += np.where(values[:, 1] == 0, 1e-3 * rng.standard_normal(2000), 0)
    label = (np.arange(2000) // 20 == 50).astype(int)
    np.savez(tmp_path / "close.npz", readings=values, label=label, time=1.7e9 + 60 * np.arange(2000))
    return tmp_path / "close.npz"


def test_pack_tells_what_is_found_of_labelled_rows(close: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the text, in JSON and in the manifest; event by event."""
    model, bundle = weighted(close.with_name("w.onnx"), 1.0, 1.0), close.with_name("w-1.0.0.edge")
    arguments = ["pack", str(model), "--data", str(close), "-o", str(bundle), "--false-alarm-rate", "0.01"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    quality = open_bundle(bundle).manifest.quality
    assert quality is not None
    assert (quality.rows, quality.events, quality.events_found, quality.roc_auc) == (2000, 1, 1, 1.0)
    assert quality.false_alerts_per_day == pytest.approx(quality.false_alerts * 1440 / 1980)
    assert 5 < quality.false_alerts < 25
    assert found["manifest"]["quality"]["events_found"] == 1
    assert [event["found"] for event in found["labelled"]["events"]] == [True]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "labelled   1 of 1 events found, " in text
    assert "event      a1, rows 1000 to 1019, " in text


def test_a_form_that_ranks_worse_is_refused(close: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """3 % less of one channel is within every tolerance of scores, and no event is found any more."""
    reference, model = (
        weighted(close.with_name(f"{name}.onnx"), 1.0, w) for name, w in (("ref", 1.0), ("small", 0.97))
    )
    arguments = ["pack", str(model), "--reference", str(reference), "--data", str(close), "--accept-weak"]
    arguments += ["-o", str(close.with_name("w-1.0.0.edge"))]
    assert main(arguments) == 65
    told = capsys.readouterr().err
    assert "small.onnx: ranks the labelled rows worse than its reference does: ROC-AUC 0.0000, expected 0.9950" in told
    assert not close.with_name("w-1.0.0.edge").exists()
    assert main([*arguments, "--max-auc-drop", "1"]) == 0
    assert "ROC-AUC 0.000, the reference 1.000" in capsys.readouterr().out


def test_other_limits_end_what_was_said_of_the_old_ones(close: Path) -> None:
    """Events found and false alerts are of a limit."""
    bundle = close.with_name("w-1.0.0.edge")
    edgetool.pack(weighted(close.with_name("w.onnx"), 1.0, 1.0), bundle, data=close)
    assert open_bundle(bundle).manifest.quality is not None
    edgetool.calibrate(bundle, close.with_name("w-1.0.1.edge"), data=close, false_alarm_rate=0.02)
    assert open_bundle(close.with_name("w-1.0.1.edge")).manifest.quality is None


def test_inspect_shows_all_of_a_bundle(close: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it says of itself before what is in its model, in the text as in JSON."""
    bundle = close.with_name("w-1.0.0.edge")
    edgetool.pack(weighted(close.with_name("w.onnx"), 1.0, 1.0), bundle, data=close, channels="flow:l/s,heat")
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    text = capsys.readouterr().out
    for line in (
        "  bundle     w 1.0.0, packed 2",
        "  channel    flow [l/s], 0.99",
        "  window     1 rows, 60 s apart, every 1",
        "  calibrated on 1980 windows, as much as ",
        "  WARNING    a rate of 0.001 cannot be known from 1980 windows",
        "  labelled   1 of 1 events found, ",
        "  ranks      ROC-AUC 1.000, average precision 1.000",
        "  operators  Mul 2, ReduceSum 1",
    ):
        assert f"\n{line}" in f"\n{text}", line
    assert main(["inspect", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == str(bundle)
    assert found["manifest"]["quality"]["events_found"] == 1
    assert main(["inspect", str(close)]) == 65


def test_channels_of_a_peak_are_told_where_values_are_missing(square: Path, rows: Rows) -> None:
    """The window is the one that was scored: of the last values, and without rows that are no reading."""
    path = rows("labelled.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if ",a,1.0,4.0," in line)
    # Its highest rows lack c1, and a row of a sender that has nothing to say stands before them.
    lines = [line.replace(",a,1.0,4.0,", ",a,,4.0,") for line in lines]
    stamp = lines[at].split(",")[0]
    lines.insert(at, f"{int(stamp) - 1},a,,,1")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    wide = write_bundle(square.parent / "wide-1.0.0.edge", changes=CALIBRATED, window=2)
    found = edgetool.evaluate([square, wide], data=path)
    first, second = (quality.events[0] for quality in found.bundles)
    assert first.peak == 17
    assert [(name, round(share, 3)) for name, share in first.shares] == [("c2", 0.941), ("c1", 0.059)]
    assert dict(second.shares)["c2"] > 0.9


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0, "no row is labelled as an anomaly"),
        (10, "all rows are labelled as anomalies"),
        (9, "90% of the rows are labelled as anomalies: 1 is an anomaly and 0 is normal; are they turned round?"),
        (1, ""),
    ],
)
def test_labels_that_leave_figures_open_are_told(square: Path, tmp_path: Path, share: int, told: str) -> None:
    """As dashes in a table they look like a detector that finds nothing."""
    lines = "".join(f"1,0.5,{int(row % 10 < share)}\n" for row in range(200))
    (tmp_path / "d.csv").write_text(f"c1,c2,label\n{lines}", encoding="utf-8")
    assert [text[: len(told)] for text in edgetool.evaluate(square, data=tmp_path / "d.csv").warnings()] == [
        told
    ] * bool(told)
