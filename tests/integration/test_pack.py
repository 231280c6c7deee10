"""Models of every common form become one canonical bundle whose scores mean the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import autoencoder, canonical_model
from onnx import TensorProto, helper, numpy_helper
from pack_models import CHANNELS, detector, save, score, write_normal

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import import_runtime
from edge_agent.errors import AccuracyError, ConversionError, DataError, EdgeError, UsageError
from edgetool.choices import HigherIs
from edgetool.commands.compare import compare
from edgetool.commands.pack import pack
from edgetool.commands.quantize import quantize
from edgetool.detector.outliers import SignVerdict


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    return write_normal(tmp_path / "normal.csv")


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


def test_a_bundle_that_works_is_not_replaced_by_one_that_does_not(tmp_path: Path, normal: Path) -> None:
    """Whatever goes wrong, the file that was there is there."""
    good = pack(save(detector(labels=True), tmp_path / "m.onnx"), data=normal).bundle
    before = good.read_bytes()
    with pytest.raises(UsageError, match="--tolerance"):
        pack(tmp_path / "m.onnx", good, data=normal, tolerance=float("inf"))
    assert good.read_bytes() == before


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
