"""Whatever `edgetool quantize` writes of a detector, `edgetool pack` takes; it is right where alerts are decided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from detector_models import DETECTORS, energy, readings_of, write_readings
from onnx import TensorProto, helper, numpy_helper

from edge_agent.errors import ConversionError
from edgetool.choices import Precision, Target
from edgetool.commands.pack import pack
from edgetool.commands.quantize import QuantizeReport, Verdict, quantize


def put(folder: Path, name: str) -> tuple[Path, Path]:
    model = folder / f"{name}.onnx"
    onnx.save(DETECTORS[name](), model)
    return model, write_readings(folder / f"{name}.npz", readings_of(name))


def answers(
    model: Path, rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    found: np.ndarray[tuple[int], np.dtype[np.float32]] = ort.InferenceSession(
        model, providers=["CPUExecutionProvider"]
    ).run(["score"], {"x": rows})[0]
    return found


@pytest.mark.parametrize("name", list(DETECTORS))
@pytest.mark.parametrize(
    ("precision", "target", "given", "max_drift"),
    [
        (Precision.INT8, Target.CPU, True, None),
        (Precision.INT8, Target.CPU, False, None),
        (Precision.INT8, Target.NPU, True, None),
        (Precision.INT8, Target.GPU, True, 0.5),
        (Precision.FLOAT16, Target.GPU, True, None),
    ],
)
def test_what_quantize_writes_pack_takes(
    tmp_path: Path, name: str, precision: Precision, target: Target, given: bool, max_drift: float | None
) -> None:
    """With data and without, and where more drift is allowed than usual; in no more than pack's 5 %."""
    model, data = put(tmp_path, name)
    small = tmp_path / "small.onnx"
    report = quantize(
        model, small, precision=precision, target=target, data=data if given else None, max_drift=max_drift
    )
    assert report.size_after <= 0.75 * report.size_before
    packed = pack(small, tmp_path / "m-1.0.0.edge", reference=model, data=data, false_alarm_rate=0.01)
    assert packed.deviation is not None
    assert packed.deviation <= 0.05


def integers(report: QuantizeReport) -> bool:
    return report.verdict in (Verdict.CONVERTED, Verdict.MIXED)


def test_fixed_scales_have_room_for_anomalies(tmp_path: Path) -> None:
    """A channel that is 12 spreads away scores as in float32, on rows that no scale was made from."""
    model, data = put(tmp_path, "energy")
    small = tmp_path / "small.onnx"
    report = quantize(model, small, precision="int8", target="npu", data=data)
    assert integers(report)
    assert report.calibrated_on == "half of the samples, and 32 windows moved by 20 times a channel's spread"
    assert [far.output for far in report.ventured] == ["score"]
    assert report.ventured[0].windows == 48 + 16 + 64
    rows = np.random.default_rng(9).standard_normal((16, 4, 16)).astype(np.float32)
    rows[np.arange(16), :, np.arange(16)] += 12
    expected = answers(model, rows)
    assert expected.min() > 1.5
    np.testing.assert_allclose(answers(small, rows), expected, rtol=0.05)


def test_scales_that_depend_on_the_batch_are_not_for_a_detector(tmp_path: Path) -> None:
    """Neither with data nor without: a wild reading would change the scores of those beside it."""
    model, data = put(tmp_path, "wide")
    for given in (data, None):
        report = quantize(model, tmp_path / "small.onnx", precision="int8", data=given)
        reasons = [rung.reason for rung in report.rungs if rung.reason.startswith("dynamic")]
        assert len(reasons) == 1
        assert "score of a row depends on the rows beside it" in reasons[0]


def dynamic() -> onnx.ModelProto:
    """The energy with int8 scales of the whole batch, as ONNX Runtime's quantize_dynamic writes it."""
    return rotated(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            helper.make_node("MatMulInteger", ["q", "w", "zero"], ["product"]),
            helper.make_node("Cast", ["product"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wide", "scale"], ["h"]),
        ]
    )


def in_float32() -> onnx.ModelProto:
    """The same in float32."""
    wide = helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT)
    return rotated([wide, helper.make_node("MatMul", ["x", "wide"], ["h"])])


def rotated(product: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The mean square `score` of `h`, which a product of `x` with the int8 constant `w` makes."""
    weights = np.random.default_rng(0).integers(-60, 60, (16, 16)).astype(np.int8)
    nodes = [
        *product,
        helper.make_node("Mul", ["h", "h"], ["hh"]),
        helper.make_node("ReduceMean", ["hh"], ["score"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "dynamic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_pack_wants_a_reference_for_what_computes_in_int8(tmp_path: Path) -> None:
    """Its own scores would prove anything; weights that are only stored as int8 are float32 arithmetic."""
    model, data = put(tmp_path, "energy")
    small, bundle = tmp_path / "small.onnx", tmp_path / "m-1.0.0.edge"
    assert integers(quantize(model, small, precision="int8", target="npu", data=data))
    with pytest.raises(ConversionError, match=r"computes in int8 \(QuantizeLinear\).*give that one with --reference"):
        pack(small, bundle, data=data, false_alarm_rate=0.01)
    assert not bundle.exists()
    # Int8 arithmetic moves it by more; without that bound the processor's speed would decide which form is taken.
    stored = quantize(model, small, precision="int8", target="cpu", data=data, max_drift=0.01)
    assert stored.verdict is Verdict.STORED
    assert pack(small, bundle, data=data, false_alarm_rate=0.01).manifest.model.precision == "int8"


def test_pack_names_scales_of_the_whole_batch(tmp_path: Path) -> None:
    """The batch is free; what makes rows depend on each other are the scales."""
    model, data = tmp_path / "d.onnx", write_readings(tmp_path / "d.npz", readings_of("energy"))
    onnx.save(dynamic(), model)
    onnx.save(in_float32(), tmp_path / "f.onnx")
    with pytest.raises(ConversionError, match=r"int8 scales are those of the whole batch \(DynamicQuantizeLinear\)"):
        pack(model, tmp_path / "m-1.0.0.edge", data=data, reference=tmp_path / "f.onnx")


@pytest.mark.parametrize("name", ["d.onnx", "f.onnx"])
def test_a_reference_that_computes_in_int8_proves_nothing(tmp_path: Path, name: str) -> None:
    """Neither the int8 model as its own reference, nor one for a float32 model."""
    data, bundle = write_readings(tmp_path / "d.npz", readings_of("energy")), tmp_path / "m-1.0.0.edge"
    onnx.save(dynamic(), tmp_path / "d.onnx")
    onnx.save(in_float32(), tmp_path / "f.onnx")
    told = r"d\.onnx: is given as the reference and computes in int8 itself \(DynamicQuantizeLinear, MatMulInteger\)"
    with pytest.raises(ConversionError, match=told):
        pack(tmp_path / name, bundle, data=data, reference=tmp_path / "d.onnx")
    assert not bundle.exists()


def test_anomalies_in_the_data_are_no_measure(tmp_path: Path) -> None:
    """Rows with label 1 are left out by quantize as by pack."""
    rows = readings_of("energy", 400)
    rows[100:140] *= 1000
    labels = np.zeros(400, np.int64)
    labels[100:140] = 1
    np.savez(tmp_path / "d.npz", readings=rows, label=labels)
    onnx.save(energy(), tmp_path / "m.onnx")
    report = quantize(tmp_path / "m.onnx", precision="int8", target="npu", data=tmp_path / "d.npz")
    assert report.data.endswith("d.npz (360 rows)")
    assert integers(report)
