"""What the data say to `edgetool pack`: how windows lie, which rows count, what stands still, and when rows came."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import autoencoder, canonical_model
from onnx import TensorProto, helper, numpy_helper
from pack_models import CHANNELS, detector, save, score, smoother, write_normal

from edge_agent.bundle import open_bundle
from edge_agent.data_files import Columns, DataFiles
from edge_agent.errors import ConversionError, DataError, UsageError
from edgetool.choices import HigherIs, LayoutIsName
from edgetool.cli import main
from edgetool.commands.calibrate import calibrate
from edgetool.commands.doctor import doctor
from edgetool.commands.evaluate import evaluate
from edgetool.commands.pack import pack
from edgetool.commands.quantize import quantize


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    return write_normal(tmp_path / "normal.csv")


def test_one_value_for_one_value_has_to_be_explained(tmp_path: Path) -> None:
    """With one channel and a window of one, a reconstruction looks like a score."""
    data = tmp_path / "normal.csv"
    data.write_text("p\n" + "\n".join(f"{v:.4f}" for v in np.random.default_rng(0).normal(5, 1, 200)))
    graph = helper.make_graph(
        [helper.make_node("Clip", ["x", "low", "high"], ["y"])],
        "clip",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("low", 4), ("high", 6))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"--head score \(normal rows give 5.*; --head reconstruction \(off the rows"):
        pack(path, data=data)
    bundle = open_bundle(pack(path, data=data, head="reconstruction").bundle)
    found = score(bundle, [[5], [20]]).score
    assert found[0] == 0 < bundle.manifest.threshold.alarm < found[1]


WAVES = np.array([40.0, 57.0, 73.0])


UNITS = np.array([1.0, 100.0, 0.01])


def waves(rows: int) -> np.ndarray:
    """Three sensors of very different units."""
    noise = np.random.default_rng(0).normal(size=(rows, 3))
    found: np.ndarray = (np.sin(2 * np.pi * np.arange(rows)[:, None] / WAVES) + 0.02 * noise) * UNITS
    return found


@pytest.mark.parametrize(
    ("window", "shape", "answer", "layout"),
    [
        (16, ["b", 3, 16], ["b", 3, 16], "auto"),
        (16, ["b", 3, 16], ["b", 48], "auto"),
        (16, ["b", 48], ["b", 48], "channels-first"),
        (3, ["b", 3, 3], ["b", 3, 3], "channels-first"),
        (16, ["b", "c", "w"], ["b", 3, 16], "channels-first"),
    ],
)
def test_a_reconstruction_of_channels_first_is_held_against_the_right_values(
    tmp_path: Path, window: int, shape: list[int | str], answer: list[int | str], layout: LayoutIsName
) -> None:
    """The score is the one that numpy gives; a rattle of one sensor stands far out."""
    model = save(smoother(shape, answer, channels=3, window=window), tmp_path / "m.onnx")
    normal = waves(3000)
    np.savetxt(tmp_path / "n.csv", normal, delimiter=",", header="ax,ay,az", comments="")
    dynamic = window if "w" in shape else None
    report = pack(model, tmp_path / "m-1.0.0.edge", data=tmp_path / "n.csv", layout=layout, window=dynamic)
    assert report.score_from.endswith("windows channels first")
    test = waves(400)
    test[200:210, 1] += 0.5 * UNITS[1] * np.where(np.arange(10) % 2, 1, -1)

    def errors(rows: np.ndarray) -> np.ndarray:
        lined_up = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0)
        padded = np.pad(lined_up, ((0, 0), (0, 0), (1, 1)))
        counts = np.where(np.isin(np.arange(window), (0, window - 1)), 2, 3)
        smooth = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / counts
        found: np.ndarray = np.mean((lined_up - smooth) ** 2, axis=2)
        return found

    expected = (errors(test) / errors(normal).mean(axis=0)).mean(axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(test, window, axis=0).transpose(0, 2, 1)
    found = score(open_bundle(report.bundle), windows).score
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert found.max() > 20 * np.quantile(found, 0.9)


@pytest.mark.parametrize(("shape", "window"), [(["b", 3, 3], None), (["b", "w", "c"], 5), (["b", "c", 3], 3)])
def test_a_window_that_may_lie_in_two_ways_has_to_be_explained(
    tmp_path: Path, shape: list[int | str], window: int | None
) -> None:
    """Rows first and channels first are different scores, and neither is an error that anybody would see."""
    rows = window or 3
    model = save(smoother(shape, ["b", 3, rows], channels=3, window=rows), tmp_path / "m.onnx")
    np.savetxt(tmp_path / "n.csv", waves(300), delimiter=",", header="ax,ay,az", comments="")
    with pytest.raises(UsageError, match=f"a window of {rows} rows of 3 channels .* say it with --layout"):
        pack(model, tmp_path / "m-1.0.0.edge", data=tmp_path / "n.csv", window=window)


def test_no_window_runs_across_rows_that_were_left_out(tmp_path: Path) -> None:
    """Rows on both sides of a labelled fault never followed each other; a slow ramp would seem to jump there."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["high"], axes=[1], keepdims=0),
        helper.make_node("ReduceMin", ["x"], ["low"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["high", "low"], ["range"]),
        helper.make_node("ReduceMean", ["range"], ["score"], axes=[1], keepdims=0),
    ]
    shapes: dict[str, list[int | str | None]] = {"x": ["n", 16, 2], "score": ["n"]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(nodes, "range", [values["x"]], [values["score"]])
    model = save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx"
    )
    ramp = 20 + 10 * np.sin(2 * np.pi * np.arange(4000)[:, None] / np.array([900.0, 1300.0]))
    labels = np.zeros(4000)
    for start in range(500, 4000, 700):
        labels[start : start + 200] = 1
    limits = []
    for name, rows in (("all", ramp), ("some", np.column_stack([ramp, labels]))):
        head = "a,b,label" if name == "some" else "a,b"
        np.savetxt(tmp_path / f"{name}.csv", rows, delimiter=",", header=head, comments="")
        report = pack(model, tmp_path / f"{name}-1.0.0.edge", data=tmp_path / f"{name}.csv")
        limits.append(report.manifest.threshold.alarm)
    assert limits[1] == pytest.approx(limits[0], rel=0.02)


def test_labelled_rows_are_left_out(tmp_path: Path, normal: Path) -> None:
    """An anomaly among the normal rows would raise the limit over its own head."""
    lines = normal.read_text().splitlines()
    labelled = [lines[0] + ",label", *(line + ",0" for line in lines[1:]), *["99,99,99,99,1"] * 50]
    data = tmp_path / "labelled.csv"
    data.write_text("\n".join(labelled))
    report = pack(save(detector(), tmp_path / "m.onnx"), data=data, higher_is=HigherIs.NORMAL)
    assert (report.rows_used, report.rows_labelled) == (600, 50)
    assert report.manifest.threshold.alarm < 100


def valve(*, own_score: bool) -> onnx.ModelProto:
    """Two sensors halfway to 20, and a valve that stands at 4.7 exactly; its error as a score of its own on demand."""
    nodes = [
        helper.make_node("Sub", ["x", "b"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["t"]),
        helper.make_node("Add", ["t", "b"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    if own_score:
        nodes += [
            helper.make_node("Mul", ["a", "a"], ["aa"]),
            helper.make_node("ReduceSum", ["aa", "axes"], ["score"], keepdims=0),
        ]
        outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])]
    constants = {
        "b": np.array([20, 20, 4.7], np.float32),
        "w": np.array([0.5, 0.5, 0], np.float32),
        "axes": np.array([1]),
    }
    graph = helper.make_graph(
        nodes,
        "valve",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        outputs,
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("own_score", [False, True])
def test_a_channel_that_never_moved_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], own_score: bool
) -> None:
    """Its last digit is no alarm where the score is made here; in a score of the model's own, nothing is changed."""
    rows = np.random.default_rng(3).normal(20, 1, (1000, 3))
    rows[:, 2] = 4.7
    lines = ["a,b,valve", *(",".join(f"{value:.5f}" for value in row) for row in rows)]
    (tmp_path / "n.csv").write_text("\n".join(lines), encoding="utf-8")
    model, made = save(valve(own_score=own_score), tmp_path / "m.onnx"), tmp_path / "m-1.0.0.edge"
    assert main(["pack", str(model), "--data", str(tmp_path / "n.csv"), "-o", str(made)]) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if "never moved" in line]
    assert len(warned) == 1
    assert "WARNING    channel valve never moved in the data" in warned[0]
    assert ("nobody has seen" if own_score else "hundredths of its value") in warned[0]
    if own_score:
        return
    bundle = open_bundle(made)
    found = score(bundle, [[20, 20, 4.7], [20, 20, 4.7001], [20, 20, 4.71], [20, 20, 5.2]]).score
    np.testing.assert_allclose(found[1:3], [0, 0.0151], atol=0.001)  # (0.01 / 0.047) ** 2 / 3
    assert found[1] < 0.001
    assert found[3] > 5 * bundle.manifest.threshold.alarm


def test_a_channel_that_moves_is_not_warned_of(tmp_path: Path, normal: Path) -> None:
    """However little it does, next to the others."""
    assert pack(save(autoencoder(values=CHANNELS, hidden=2), tmp_path / "m.onnx"), data=normal).still_channels == ()


def tanh_autoencoder() -> onnx.ModelProto:
    """Of three channels that were scaled to a spread of 1 in training."""
    first, last = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y"))
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Div", ["b", "k"], ["y"]),
    ]
    constants = [numpy_helper.from_array(np.full(3, 0.2, np.float32), "k")]
    graph = helper.make_graph(nodes, "g", [first], [last], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_model_that_is_saturated_on_the_data_is_told_and_not_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was trained on scaled readings, and gets raw ones; the scaled ones themselves are right."""
    path, raw, scaled = save(tanh_autoencoder(), tmp_path / "m.onnx"), tmp_path / "raw.csv", tmp_path / "scaled.csv"
    rows = np.random.default_rng(0).standard_normal((400, 3))
    for file, values in ((scaled, rows), (raw, rows * [40, 0.2, 0.008] + [2950, 7.5, 0.031])):
        file.write_text("\n".join(["speed,pressure,flow", *(",".join(f"{v:.5f}" for v in row) for row in values)]))
    told = r"y has 1 of 3 values that are the same, or nearly so, in all 400 rows.*trained on scaled readings expects"
    (flat,) = quantize(path, tmp_path / "small.onnx", data=raw).saturated
    assert re.match(told, flat.in_words())
    assert main(["quantize", str(path), "--data", str(raw), "-o", str(tmp_path / "small.onnx")]) == 0
    assert re.search(f"WARNING    {told}", capsys.readouterr().out)
    assert any(re.match(told, finding.text) and not finding.good for finding in doctor(path, data=raw).findings)
    with pytest.raises(ConversionError, match=r"the same, or nearly so, .* put the scaling that it was"):
        pack(path, data=raw)
    assert quantize(path, tmp_path / "small.onnx", data=scaled).saturated == []
    assert pack(path, data=scaled).looks_scaled
    assert main(["pack", str(path), "--data", str(scaled)]) == 0
    assert (
        "WARNING    every channel of the data has a mean of about 0 and a spread of about 1, as"
        in capsys.readouterr().out
    )


def test_the_manifest_has_the_interval_of_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is part of what a window means; without times it is unknown, and that is said where it matters."""
    rng = np.random.default_rng(0)
    rows = [",".join(f"{value:.5f}" for value in row) for row in rng.standard_normal((200, 2))]
    timed, plain = tmp_path / "timed.csv", tmp_path / "plain.csv"
    timed.write_text("\n".join(["time,c1,c2", *(f"{1e9 + 5 * place:.0f},{row}" for place, row in enumerate(rows))]))
    plain.write_text("\n".join(["c1,c2", *rows]))
    model = save(canonical_model(channels=2, window=3), tmp_path / "m.onnx")
    assert pack(model, data=timed).manifest.interval_s == 5.0
    assert main(["pack", str(model), "--data", str(timed)]) == 0
    assert "window 3, stride 1, rows 5 s apart\n" in capsys.readouterr().out
    assert main(["pack", str(model), "--data", str(plain)]) == 0
    assert "  interval   unknown: the data have no times" in capsys.readouterr().out
    assert open_bundle(tmp_path / "m-1.0.0.edge").manifest.interval_s is None


def test_rows_that_were_cut_out_leave_a_hole_in_time(tmp_path: Path) -> None:
    """As labelled rows and other files do; without times nobody can tell."""
    rng = np.random.default_rng(0)
    at = np.arange(6000)
    rows = 20 + 10 * np.sin(2 * np.pi * at[:, None] / np.array([900.0, 1300.0])) + 0.05 * rng.normal(size=(6000, 2))
    kept = (at % 1000) < 850
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["high"], axes=[1], keepdims=0),
            helper.make_node("ReduceMin", ["x"], ["low"], axes=[1], keepdims=0),
            helper.make_node("Sub", ["high", "low"], ["range"]),
            helper.make_node("ReduceMean", ["range"], ["score"], axes=[1], keepdims=0),
        ],
        "ranges",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = save(model, tmp_path / "m.onnx")
    limits = []
    for name, mask in (("all", at >= 0), ("cut", kept)):
        lines = [f"{1.76e9 + i:.0f},{a:.5f},{b:.5f}" for i, (a, b) in zip(at[mask], rows[mask], strict=True)]
        data = tmp_path / f"{name}.csv"
        data.write_text("\n".join(["time,a,b", *lines]) + "\n", encoding="utf-8")
        report = pack(path, tmp_path / f"{name}-1.0.0.edge", data=data, false_alarm_rate=0.01)
        limits.append(report.manifest.threshold.alarm)
    assert limits[1] == pytest.approx(limits[0], rel=0.02)


def test_a_flat_window_is_tried_both_ways(tmp_path: Path) -> None:
    """Channels of one level: the shape says nothing, and the trial does."""
    rng = np.random.default_rng(0)
    at = np.arange(3000)[:, None]
    rows = 20 + np.sin(2 * np.pi * at / np.array([60.0, 97.0, 41.0])) + 0.02 * rng.normal(size=(3000, 3))
    data = tmp_path / "n.csv"
    data.write_text("a,b,c\n" + "\n".join(",".join(f"{v:.5f}" for v in row) for row in rows) + "\n", encoding="utf-8")
    windows = np.lib.stride_tricks.sliding_window_view(rows, 16, axis=0)  # (n, channels, rows): channels first
    flat = windows.reshape(len(windows), -1)
    mean = flat.mean(axis=0)
    keep = np.linalg.svd(flat - mean, full_matrices=False)[2][:12]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("MatMul", ["c", "encode"], ["t"]),
        helper.make_node("MatMul", ["t", "decode"], ["d"]),
        helper.make_node("Add", ["d", "mean"], ["y"]),
    ]
    constants = {"mean": mean, "encode": keep.T, "decode": keep}
    graph = helper.make_graph(
        nodes,
        "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 48])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 48])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    path = save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx"
    )
    with pytest.raises(
        UsageError, match=r"may lie rows first \(.*\) or channels first \(off the rows that it was given"
    ):
        pack(path, data=data)
    report = pack(path, data=data, layout="channels-first", score="mse")
    found = score(open_bundle(report.bundle), windows[:50].transpose(0, 2, 1))
    want = ((flat - mean - (flat - mean) @ keep.T @ keep) ** 2).mean(axis=1)[:50]
    np.testing.assert_allclose(found.score, want, rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize(("offset", "is_coarse"), [(0, False), (1e4, False), (1e7, True), (1e9, True)])
def test_a_movement_that_float32_does_not_hold_is_told(tmp_path: Path, offset: float, is_coarse: bool) -> None:
    """As of a counter of energy. At 1e9 it seems to stand still, which is not what is told."""
    rows = np.random.default_rng(0).normal((offset, 5, 0), 1, size=(500, 3))
    rows[3, 0] = np.nan
    rows[:, 2] = 0.1
    data = tmp_path / "d.csv"
    lines = (",".join("" if np.isnan(cell) else repr(float(cell)) for cell in row) for row in rows)
    data.write_text("\n".join(["a,b,c", *lines]))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["b"]), helper.make_node("Mul", ["b", "b"], ["score"])]
    graph = helper.make_graph(
        nodes,
        "square of b",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([[0], [1], [0]], np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    made = pack(save(model, tmp_path / "m.onnx"), data=data)
    assert made.coarse_channels == (("a",) if is_coarse else ())
    told = [text for text in made.warnings() if text.startswith("channel a ")]
    assert len(told) == is_coarse
    assert all("let the sender take an offset off" in text for text in told)


def test_rows_newest_first_are_refused(tmp_path: Path, normal: Path) -> None:
    """Their windows would run backwards."""
    lines = normal.read_text(encoding="utf-8").splitlines()
    timed = [f"time,{lines[0]}", *(f"{2000 - number},{line}" for number, line in enumerate(lines[1:]))]
    data = tmp_path / "d.csv"
    data.write_text("\n".join(timed), encoding="utf-8")
    with pytest.raises(DataError, match="the times go backwards; sort the rows, the oldest first"):
        pack(save(detector(), tmp_path / "m.onnx"), data=data)


def test_rows_in_no_order_are_refused(tmp_path: Path, normal: Path) -> None:
    """As a shuffled part of a data set is: no row resembles its neighbours, and a rate would seem to be known."""
    lines = normal.read_text(encoding="utf-8").splitlines()
    timed = [f"{60 * number},{line}" for number, line in enumerate(lines[1:])]
    np.random.default_rng(0).shuffle(timed)
    data = tmp_path / "d.csv"
    data.write_text("\n".join([f"time,{lines[0]}", *timed]), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"in [45]\d% of the rows the time is before .* sort the rows, .*--asset-column"
    ):
        pack(save(detector(), tmp_path / "m.onnx"), data=data, higher_is="normal")
    # A few that came late are no disorder.
    few = sorted(timed, key=lambda line: float(line.split(",")[0]))
    few[100:102] = few[101:99:-1]
    data.write_text("\n".join([f"time,{lines[0]}", *few]), encoding="utf-8")
    assert pack(save(detector(), tmp_path / "m.onnx"), data=data, higher_is="normal").time_doubts == ""


def test_rows_of_several_machines_without_their_names_are_told(tmp_path: Path, normal: Path) -> None:
    """Their windows hold rows of both; `pack`, `calibrate` and `evaluate` say so."""
    lines = normal.read_text(encoding="utf-8").splitlines()
    rows = [f"{60 * (number // 2)},{number % 2},{line}" for number, line in enumerate(lines[1:])]
    data = tmp_path / "d.csv"
    data.write_text("\n".join([f"time,line,{lines[0]}", *rows]), encoding="utf-8")
    told = "in 50% of the rows the time is that of the row before. If they are of several assets"
    made = pack(save(detector(), tmp_path / "m.onnx"), data=data, higher_is="normal", channels=lines[0])
    assert any(each.startswith(told) for each in made.warnings())
    assert calibrate(made.bundle, data=data, false_alarm_rate=0.05).warnings()[0].startswith(told)
    named = DataFiles((data,), Columns(asset="line"))
    assert (
        pack(save(detector(), tmp_path / "m.onnx"), data=named, higher_is="normal", channels=lines[0]).time_doubts == ""
    )
    labelled = [f"{line},{int(number > 1500)}" for number, line in enumerate(rows)]
    data.write_text("\n".join([f"time,line,{lines[0]},label", *labelled]), encoding="utf-8")
    assert evaluate(made.bundle, data=data).warnings()[0].startswith(told)


@pytest.mark.parametrize(("first", "second", "is_told"), [("a", "b", False), ("b", "a", True), ("b", "c", True)])
def test_files_that_overlap_or_are_out_of_order_are_told(
    tmp_path: Path, normal: Path, first: str, second: str, is_told: bool
) -> None:
    """Days named by their weekday, or an export that goes back some rows: windows begin anew, and rows count twice."""
    lines = normal.read_text(encoding="utf-8").splitlines()
    rows = [f"{60 * number},{line}" for number, line in enumerate(lines[1:])]
    half = len(rows) // 2
    for name, part in (("a", rows[:half]), ("b", rows[half:]), ("c", rows[half + 10 :])):
        (tmp_path / f"{name}.csv").write_text("\n".join([f"time,{lines[0]}", *part]), encoding="utf-8")
    files = [tmp_path / f"{name}.csv" for name in (first, second)]
    made = pack(save(detector(), tmp_path / "m.onnx"), data=files, higher_is="normal")
    assert (
        any(text.startswith("the files overlap, or are not in the order of time") for text in made.warnings())
        == is_told
    )


def test_a_file_for_each_machine_is_no_overlap(tmp_path: Path, normal: Path) -> None:
    """Each begins at the same time, and its rows say whose they are."""
    lines = normal.read_text(encoding="utf-8").splitlines()
    for name in ("a", "b"):
        rows = [f"{60 * number},{name},{line}" for number, line in enumerate(lines[1:])]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"time,asset,{lines[0]}", *rows]), encoding="utf-8")
    files = [tmp_path / f"{name}.csv" for name in ("a", "b")]
    assert pack(save(detector(), tmp_path / "m.onnx"), data=files, higher_is="normal").time_doubts == ""
