"""Models of every common form become one canonical bundle whose scores mean the same."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import autoencoder, canonical_model
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, ConversionError, DataError, EdgeError, UsageError
from edge_agent.messages.scores import Scores
from edgetool.choices import HigherIs, LayoutIsName
from edgetool.cli import main
from edgetool.commands.compare import compare
from edgetool.commands.doctor import doctor
from edgetool.commands.pack import pack
from edgetool.commands.quantize import quantize
from edgetool.detector.outliers import SignVerdict

CHANNELS = 4


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    """Rows in a plane of two dimensions, in four sensors of different units, with a little noise."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)))[0][:, :2]
    rows = rng.standard_normal((600, 2)) @ basis.T + 0.05 * rng.standard_normal((600, CHANNELS))
    lines = ["c1,c2,c3,c4", *(",".join(f"{value:.6f}" for value in row) for row in rows)]
    path = tmp_path / "normal.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def save(model: onnx.ModelProto | bytes, path: Path) -> Path:
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def score(bundle: Bundle, rows: object) -> Scores:
    windows = np.array(rows, np.float32).reshape(-1, bundle.manifest.window, len(bundle.manifest.channels))
    return OrtEngine(bundle.model, PROVIDERS["cpu"]).score(windows)


def detector(*, fixed_batch: bool = False, labels: bool = False, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """`x -> score` that is the negated sum of squares, as scikit-learn would say it; with labels -1 and 1 on demand."""
    batch = 1 if fixed_batch else "n"
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["xx"]),
        helper.make_node("ReduceSum", ["xx", "axes"], ["sum"], keepdims=1),
        helper.make_node("Neg", ["sum"], ["scores"]),
    ]
    outputs = [helper.make_tensor_value_info("scores", kind, [batch, 1])]
    constants = [numpy_helper.from_array(np.array([1], np.int64), "axes")]
    if labels:
        nodes += [
            helper.make_node("Less", ["scores", "limit"], ["far"]),
            helper.make_node("Where", ["far", "minus", "plus"], ["label"]),
        ]
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        constants += [
            numpy_helper.from_array(np.array(-50, dtype), "limit"),
            numpy_helper.from_array(np.array(-1, np.int64), "minus"),
            numpy_helper.from_array(np.array(1, np.int64), "plus"),
        ]
        outputs.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, [batch, 1]))
    inputs = [helper.make_tensor_value_info("x", kind, [batch, CHANNELS])]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_shapes_that_an_exporter_traced_become_constants_in_the_bundle(tmp_path: Path, normal: Path) -> None:
    """The nodes that look at sizes are gone, and rows alone and in a batch score as the model itself answers."""
    model = detector()
    trace = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "minus_one"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["x_flat"]),
    ]
    model.graph.node[0].input[:] = ["x_flat", "x_flat"]
    for number, each in enumerate(trace):
        model.graph.node.insert(number, each)
    constants = {"zero": [0], "minus_one": [-1]}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items())
    report = pack(save(model, tmp_path / "traced.onnx"), data=normal, higher_is="normal")
    bundle = open_bundle(report.bundle)
    left = [node.op_type for node in onnx.load_from_string(bundle.model).graph.node]
    assert "Reshape" in left
    assert not {"Shape", "Gather", "Concat"}.intersection(left)
    rows = np.random.default_rng(1).standard_normal((5, CHANNELS)).astype(np.float32)
    expected = (rows**2).sum(axis=1)
    assert score(bundle, rows).score == pytest.approx(expected, rel=1e-5)
    assert score(bundle, rows[:1]).score == pytest.approx(expected[:1], rel=1e-5)


def test_a_reconstruction_becomes_a_score_with_contributions(tmp_path: Path, normal: Path) -> None:
    """Normal rows score about 1; the channel that leaves the plane contributes most; the shares are the score."""
    model = save(autoencoder(values=CHANNELS, hidden=2), tmp_path / "m.onnx")
    report = pack(
        model, tmp_path / "pump-2.1.0.edge", data=normal, channels="c1:bar,c2:l/s,c3,c4", false_alarm_rate=0.01
    )
    bundle = open_bundle(report.bundle)
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.window) == ("pump", "2.1.0", 1)
    # What a device compares with its own runtime, if it cannot load the model.
    packed = onnx.load_from_string(bundle.model)
    assert manifest.model.ir_version == packed.ir_version > 0
    assert manifest.model.opsets["ai.onnx"] == next(o.version for o in packed.opset_import if not o.domain)
    assert manifest.model.runtime == import_runtime().__version__
    assert [(c.name, c.unit) for c in manifest.channels] == [("c1", "bar"), ("c2", "l/s"), ("c3", ""), ("c4", "")]
    assert manifest.calibration is not None
    assert manifest.calibration.quantiles["0.5"] == pytest.approx(0.7, abs=0.4)
    found = score(bundle, [[0, 0, 0, 0], [0, 0, 3, 0]])
    assert found.score[0] < manifest.threshold.clear < manifest.threshold.alarm < found.score[1]
    assert found.contributions is not None
    np.testing.assert_allclose(found.contributions.sum(axis=1), found.score, rtol=1e-5)
    assert found.contributions[1].argmax() == 2


def test_windows_of_a_flat_model_come_from_its_input(tmp_path: Path, normal: Path) -> None:
    """12 values and 4 channels are windows of three rows, oldest first."""
    model = save(autoencoder(values=12, hidden=12), tmp_path / "m.onnx")
    report = pack(model, data=normal)
    assert report.manifest.window == 3
    assert report.bundle.name == "m-1.0.0.edge"


def test_channels_first_is_turned(tmp_path: Path, normal: Path) -> None:
    """A convolution's (batch, channels, window) is fed from (batch, window, channels)."""
    shape: list[str | int | None] = ["n", CHANNELS, 6]
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("ReduceMax", ["y"], ["score"], axes=[1, 2], keepdims=0),
        ],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    report = pack(save(model, tmp_path / "m.onnx"), data=normal)
    bundle = open_bundle(report.bundle)
    assert bundle.manifest.window == 6
    rows = np.zeros((6, CHANNELS))
    rows[2, 1] = 7
    assert score(bundle, rows).score[0] == 7


@pytest.mark.parametrize(
    ("labels", "higher_is", "flipped"),
    [
        (True, HigherIs.AUTO, True),
        (False, HigherIs.ANOMALOUS, False),
        (False, HigherIs.NORMAL, True),
        (True, HigherIs.ANOMALOUS, False),
    ],
)
def test_a_score_is_turned_the_right_way_up(
    tmp_path: Path, normal: Path, labels: bool, higher_is: HigherIs, flipped: bool
) -> None:
    """scikit-learn's convention is known by its labels; everything else by what the user says."""
    model = save(detector(labels=labels), tmp_path / "m.onnx")
    if not flipped:
        with pytest.raises(ConversionError, match="the bundle would stay silent"):
            pack(model, data=normal, higher_is=higher_is)
    bundle = open_bundle(pack(model, data=normal, higher_is=higher_is, accept_weak=not flipped).bundle)
    found = score(bundle, [[0, 0, 0, 0], [5, 5, 5, 5]])
    assert (found.score[1] > found.score[0]) == flipped
    assert found.contributions is None


def counted() -> onnx.ModelProto:
    """The sum of squares, and beside it a number of samples, which is 1 for each row."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "x"], ["xx"]),
            helper.make_node("ReduceSum", ["xx", "axes"], ["score"], keepdims=0),
            helper.make_node("Sub", ["score", "score"], ["zero"]),
            helper.make_node("Add", ["zero", "one"], ["ones"]),
            helper.make_node("Cast", ["ones"], ["samples"], to=TensorProto.INT64),
        ],
        "counted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", CHANNELS])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("samples", TensorProto.INT64, ["n"]),
        ],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("score_output", [None, "score"])
def test_a_number_beside_a_score_does_not_turn_it(tmp_path: Path, normal: Path, score_output: str | None) -> None:
    """An integer that is 1 on every row is no label."""
    report = pack(save(counted(), tmp_path / "m.onnx"), data=normal, score_output=score_output)
    bundle = open_bundle(report.bundle)
    assert bundle.manifest.threshold.alarm > 0
    assert score(bundle, [[50, 50, 50, 50]]).score[0] == 10_000
    assert report.sign_evidence is not None
    assert report.sign_evidence.verdict is SignVerdict.CONFIRMED


def test_a_score_upside_down_is_refused_until_somebody_says_what_it_means(tmp_path: Path, normal: Path) -> None:
    """Nothing is written; either answer is taken, and the report keeps what speaks against it."""
    model = save(detector(), tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match=r"which way does the score point .* --higher-is normal, or"):
        pack(model, data=normal)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "normal.csv"]
    meant = pack(model, data=normal, higher_is=HigherIs.ANOMALOUS, accept_weak=True).describe()
    assert (meant["sign_from"], meant["sign_evidence"]["verdict"]) == ("given", "contradicted")
    turned = pack(model, data=normal, higher_is=HigherIs.NORMAL).describe()
    assert (turned["sign_from"], turned["sign_evidence"]["verdict"]) == ("given", "confirmed")


def test_a_canonical_model_upside_down_is_refused_too(tmp_path: Path, normal: Path) -> None:
    """Its score is taken as it is, so it has to be turned where it was made."""
    model = save(canonical_model(channels=CHANNELS, factor=-1.0), tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="the model is canonical already"):
        pack(model, data=normal)
    with pytest.raises(UsageError, match="turn its score in the model"):
        pack(model, data=normal, higher_is=HigherIs.NORMAL)


def test_the_error_of_a_reconstruction_has_no_direction_to_give(tmp_path: Path, normal: Path) -> None:
    """An option without an effect would be a promise that is not kept."""
    model = save(autoencoder(values=CHANNELS, hidden=2), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="is a reconstruction, whose error is high for anomalies"):
        pack(model, data=normal, higher_is=HigherIs.NORMAL)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_float_types_are_fed_from_float32(tmp_path: Path, normal: Path, kind: int) -> None:
    """And answer float32."""
    model = save(detector(kind=kind), tmp_path / "m.onnx")
    bundle = open_bundle(pack(model, data=normal, higher_is=HigherIs.NORMAL).bundle)
    assert score(bundle, [[1, 0, 0, 0]]).score.dtype == np.float32


def test_an_exporters_fixed_batch_is_freed(tmp_path: Path, normal: Path) -> None:
    """Exported with one row, the model still scores many."""
    model = save(detector(fixed_batch=True), tmp_path / "m.onnx")
    bundle = open_bundle(pack(model, data=normal, higher_is=HigherIs.NORMAL).bundle)
    assert score(bundle, [[1, 0, 0, 0], [2, 0, 0, 0]]).score.tolist() == [1, 4]


def test_a_canonical_model_is_taken_as_it_is(tmp_path: Path, normal: Path) -> None:
    """Its scores are not touched."""
    report = pack(save(canonical_model(channels=CHANNELS), tmp_path / "m.onnx"), data=normal)
    assert score(open_bundle(report.bundle), [[1, 2, 0, 0]]).score.tolist() == [5]


def test_names_that_we_use_are_freed(tmp_path: Path, normal: Path) -> None:
    """A model whose input is called score and whose output is called readings."""
    model = autoencoder(values=CHANNELS, hidden=2)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = {"x": "score", "reconstruction": "readings"}.get(name, name)
    model.graph.input[0].name, model.graph.output[0].name = "score", "readings"
    assert pack(save(model, tmp_path / "m.onnx"), data=normal).manifest.window == 1


@pytest.mark.parametrize("clash", ["error_raw", "error_scale", "readings_shape", "readings_flat", "contributions"])
def test_no_name_of_a_model_is_in_our_way(tmp_path: Path, normal: Path, clash: str) -> None:
    """Whatever its tensors are called."""
    model = autoencoder(values=CHANNELS, hidden=2)
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = clash
    assert pack(save(model, tmp_path / "m.onnx"), data=normal).manifest.window == 1


def test_an_old_model_that_lists_its_constants_as_inputs_is_taken(tmp_path: Path, normal: Path) -> None:
    """Opset 9 and format 3, as exporters wrote some years ago."""
    model = autoencoder(values=CHANNELS, hidden=2)
    model.opset_import[0].version, model.ir_version = 9, 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims)))
    assert pack(save(model, tmp_path / "m.onnx"), data=normal).manifest.window == 1


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


def test_a_bundle_that_works_is_not_replaced_by_one_that_does_not(tmp_path: Path, normal: Path) -> None:
    """Whatever goes wrong, the file that was there is there."""
    good = pack(save(detector(labels=True), tmp_path / "m.onnx"), data=normal).bundle
    before = good.read_bytes()
    with pytest.raises(UsageError, match="--tolerance"):
        pack(tmp_path / "m.onnx", good, data=normal, tolerance=float("inf"))
    assert good.read_bytes() == before


def smoother(shape: list[int | str], answer: list[int | str], *, channels: int, window: int) -> onnx.ModelProto:
    """A crude autoencoder, channels first: the mean of three rows beside each other. Flat where the shapes are."""
    nodes = [
        helper.make_node("Reshape", ["x", "inner"], ["apart"]),
        helper.make_node("AveragePool", ["apart"], ["smooth"], kernel_shape=[3], pads=[1, 1]),
        helper.make_node("Reshape", ["smooth", "outer"], ["y"]),
    ]
    outer = [-1, *(size for size in answer if isinstance(size, int))]
    constants = {"inner": [-1, channels, window], "outer": outer}
    graph = helper.make_graph(
        nodes,
        "smoother",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, answer)],
        [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


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


def scaled_answer() -> onnx.ModelProto:
    """Answers in other units than it is given."""
    model = autoencoder(values=CHANNELS, hidden=CHANNELS)
    model.graph.node[1].output[0] = "small"
    model.graph.node.append(helper.make_node("Mul", ["small", "factor"], ["reconstruction"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(-50, np.float32), "factor"))
    return model


def two_inputs() -> onnx.ModelProto:
    model = autoencoder(values=CHANNELS, hidden=2)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n"]))
    return model


@pytest.mark.parametrize(
    ("model", "options", "error", "problem"),
    [
        (autoencoder(values=5, hidden=2), {}, ConversionError, "does not fit 4 channels"),
        (autoencoder(values=8, hidden=2), {"window": 3}, ConversionError, "does not fit 4 channels and a window of 3"),
        (scaled_answer(), {}, ConversionError, "puts the scaling into it"),
        (two_inputs(), {}, ConversionError, r"the model has 2 inputs \(x, mask\), a detector takes one"),
        (detector(), {"score_output": "nothing"}, ConversionError, "has no output 'nothing'; it has: scores"),
        (detector(), {"false_alarm_rate": 0.7}, UsageError, "above 0 and below 0.5"),
        (detector(), {"output": Path("model.zip")}, UsageError, "expected a name like shuttle-1.0.0.edge"),
        (detector(), {"channels": "c1,c9"}, DataError, "has no column 'c9'"),
    ],
)
def test_what_cannot_become_a_bundle_is_told(
    tmp_path: Path,
    normal: Path,
    model: onnx.ModelProto,
    options: dict[str, object],
    error: type[EdgeError],
    problem: str,
) -> None:
    """And nothing is written."""
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(error, match=problem):
        pack(path, data=normal, **options)  # type: ignore[arg-type]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "normal.csv"]


def test_nothing_is_told_of_a_reference_that_was_not_given(tmp_path: Path, normal: Path) -> None:
    """Zero verdicts that differ would be a comparison that nobody has made."""
    model = save(autoencoder(values=CHANNELS, hidden=2), tmp_path / "m.onnx")
    alone, compared = pack(model, data=normal), pack(model, data=normal, reference=model)
    assert (alone.verdicts_changed, alone.deviation) == (None, None)
    assert (compared.verdicts_changed, compared.deviation) == (0, 0.0)


def test_a_model_far_from_its_reference_is_refused(tmp_path: Path, normal: Path) -> None:
    """Golden scores come from the reference, and the packed model has to meet them."""
    reference = save(autoencoder(values=CHANNELS, hidden=2), tmp_path / "m.onnx")
    other = save(autoencoder(values=CHANNELS, hidden=2, seed=1), tmp_path / "other.onnx")
    with pytest.raises(AccuracyError, match=r"off by .* of its reference's"):
        pack(other, data=normal, reference=reference)


def test_a_file_of_a_newer_format_is_lowered(tmp_path: Path, normal: Path) -> None:
    """So that a device reads it; a canonical model too, and the report says so."""
    for name, made in (("plain", autoencoder(values=CHANNELS, hidden=2)), ("canonical", canonical_model(channels=4))):
        model = onnx.load_from_string(made) if isinstance(made, bytes) else made
        model.ir_version = 14
        report = pack(save(model, tmp_path / f"{name}.onnx"), data=normal)
        assert report.repairs == ["IR 14 was lowered to 10: nothing in the model needs more"]
        assert onnx.load_from_string(open_bundle(report.bundle).model).ir_version == 10
        assert report.manifest.model.ir_version == 10


def test_an_opset_to_come_is_not_lowered(tmp_path: Path, normal: Path) -> None:
    """Its operators may compute something else; the error of whoever runs it says so."""
    model = autoencoder(values=CHANNELS, hidden=2)
    model.opset_import[0].version = 99
    path = save(model, tmp_path / "m.onnx")
    told = r"opset 99 is later than the installed onnx \S+ knows \(\d+\), so it is not lowered: update onnx, or export"
    for run in (
        lambda: pack(path, data=normal),
        lambda: quantize(path, tmp_path / "small.onnx", data=normal),
        lambda: compare(path, path, data=normal),
    ):
        with pytest.raises(ConversionError, match=rf"m\.onnx: .*{told}"):
            run()


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


def test_rows_newest_first_are_refused(tmp_path: Path, normal: Path) -> None:
    """Their windows would run backwards."""
    lines = normal.read_text(encoding="utf-8").splitlines()
    timed = [f"time,{lines[0]}", *(f"{2000 - number},{line}" for number, line in enumerate(lines[1:]))]
    data = tmp_path / "d.csv"
    data.write_text("\n".join(timed), encoding="utf-8")
    with pytest.raises(DataError, match="the times go backwards; sort the rows, the oldest first"):
        pack(save(counted(), tmp_path / "m.onnx"), data=data)
