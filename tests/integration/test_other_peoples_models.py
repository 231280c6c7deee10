"""Models as strangers bring them: with no data, with axes left free that are not, random, damaged, of rare types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from zoo import build
from zoo_parts import FLOAT, make, node, value, weights

from edgetool.choices import Io, Target
from edgetool.cli import main
from edgetool.commands.quantize import Verdict, quantize
from edgetool.graph.walks import nodes_of
from edgetool.graph.weights import WeightStore
from edgetool.precision.float16.masks import shrink_masks
from edgetool.verify.samples import make_batch

MATRIX = {"w": weights(32, 16)}


def product(shape: Sequence[int | str | None] | None) -> onnx.ModelProto:
    return make([node("MatMul", ["x", "w"], ["y"], "m")], [value("x", FLOAT, shape)], [value("y", FLOAT, None)], MATRIX)


def with_fixed_batch() -> onnx.ModelProto:
    """The exporter saw one row and wrote that into a Reshape."""
    nodes = [node("Reshape", ["x", "to"], ["r"], "r"), node("MatMul", ["r", "w"], ["y"], "m")]
    constants = {**MATRIX, "to": np.array([1, 32])}
    return make(nodes, [value("x", FLOAT, ["batch", 32])], [value("y", FLOAT, [1, 16])], constants)


def with_state() -> onnx.ModelProto:
    """The batch is the second axis of the state."""
    nodes = [
        node("MatMul", ["x", "w"], ["m"], "m"),
        node("Add", ["m", "state"], ["new_state"], "add"),
        node("ReduceMean", ["new_state"], ["y"], "mean", axes=[0], keepdims=0),
    ]
    inputs = [value("x", FLOAT, ["batch", 32]), value("state", FLOAT, [1, "batch", 16])]
    outputs = [value("y", FLOAT, ["batch", 16]), value("new_state", FLOAT, [1, "batch", 16])]
    return make(nodes, inputs, outputs, MATRIX)


def with_positions() -> onnx.ModelProto:
    """A table of 12 positions, and a time axis that says nothing of it."""
    nodes = [node("MatMul", ["x", "w"], ["m"], "m"), node("Add", ["m", "positions"], ["y"], "add")]
    constants = {**MATRIX, "positions": weights(12, 16)}
    return make(nodes, [value("x", FLOAT, ["n", "t", 32])], [value("y", FLOAT, None)], constants)


def free_image() -> onnx.ModelProto:
    """Every axis of an image is free, but the convolution has three channels."""
    nodes = [node("Conv", ["x", "k"], ["c"], "c"), node("GlobalAveragePool", ["c"], ["y"], "pool")]
    return make(nodes, [value("x", FLOAT, [None] * 4)], [value("y", FLOAT, None)], {"k": weights(16, 3, 5, 5)})


@pytest.mark.parametrize(
    "model",
    [with_fixed_batch(), with_state(), with_positions(), free_image(), product([None, None]), product(None)],
    ids=["batch of 1", "state", "positions", "image", "free", "no rank"],
)
def test_made_up_inputs_have_shapes_that_the_model_runs_on(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Also where the model does not say them."""
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    report = quantize(path)
    assert report.verdict is Verdict.STORED
    assert report.synthetic


def test_a_benchmark_gives_states_the_same_batch() -> None:
    """On the axis that has the batch's name."""
    sample = make_batch(with_state(), 8)
    assert sample is not None
    assert {name: array.shape for name, array in sample.items()} == {"x": (8, 32), "state": (1, 8, 16)}


@pytest.mark.parametrize("seed", [None, 3.0], ids=["unseeded", "seeded"])
def test_a_model_that_draws_numbers_is_compared_with_the_same_draws(seed: float | None, tmp_path: Path) -> None:
    """And the result draws as the original does: with a seed of its own only if it had one."""
    given: dict[str, Any] = {} if seed is None else {"seed": seed}
    nodes = [
        node("RandomNormalLike", ["x"], ["noise"], "noise", **given),
        node("Add", ["x", "noise"], ["noisy"], "add"),
        node("MatMul", ["noisy", "w"], ["y"], "m"),
    ]
    path, output = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(make(nodes, [value("x", FLOAT, ["n", 32])], [value("y", FLOAT, ["n", 16])], MATRIX), path)
    assert quantize(path, output).verdict is Verdict.STORED
    noise = next(each for each in nodes_of(onnx.load(output).graph) if each.op_type == "RandomNormalLike")
    assert {a.name: a.f for a in noise.attribute} == given


@pytest.mark.parametrize("command", ["quantize", "inspect", "doctor"])
def test_a_damaged_constant_is_named(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A constant with fewer bytes than its shape needs, as a copy that was cut short has."""
    model = build("mlp").model
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:100]
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    assert main([command, str(path)]) == 65
    assert "'w1' has 100 bytes, expected 8192" in capsys.readouterr().err


def test_rare_types_may_lie_outside_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bfloat16 weights in external data, as torch exports them."""
    nodes = [node("Cast", ["w"], ["wide"], "cast", to=FLOAT), node("MatMul", ["x", "wide"], ["y"], "m")]
    model = make(nodes, [value("x", FLOAT, ["n", 32])], [value("y", FLOAT, ["n", 64])], {})
    values = weights(32, 64).ravel()
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.BFLOAT16, [32, 64], values))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=16)
    assert main(["quantize", str(path), "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "kept"
    assert main(["inspect", str(path)]) == 0


@pytest.mark.parametrize(("name", "shrunk"), [("mask_1e9", ["mask"]), ("mask_chosen", ["never"]), ("raw_units", [])])
def test_masks_are_told_from_readings(name: str, shrunk: list[str], tmp_path: Path) -> None:
    """A number beyond float16 may become smaller only where a Softmax is all that it reaches."""
    assert shrink_masks(build(name).model, WeightStore(tmp_path)) == shrunk


def test_float16_inputs_are_no_reason_to_refuse(tmp_path: Path) -> None:
    """Asked for on a model that has them already."""
    nodes = [node("MatMul", ["x", "w"], ["y"], "m")]
    half = TensorProto.FLOAT16
    ends = [value("x", half, ["n", 32])], [value("y", half, ["n", 16])]
    path = tmp_path / "half.onnx"
    onnx.save(make(nodes, *ends, {"w": weights(32, 16).astype(np.float16)}), path)
    report = quantize(path, io=Io.FLOAT16, target=Target.NPU)
    assert report.verdict is Verdict.KEPT
    assert report.reason == "the weights are float16 already"


def write_mixed_reconstruction(folder: Path) -> tuple[Path, Path]:
    """Halfway to the mean of every sensor, by way of sums of all: small sensors live in the last bits of large ones."""
    mixing = np.array([[1]], np.float32)
    for _ in range(3):
        mixing = np.block([[mixing, mixing], [mixing, -mixing]])
    means, spreads = np.array([4500, 0.02] * 4, np.float32), np.array([10, 0.02] * 4, np.float32)
    constants = {"mix": mixing, "unmix": mixing / 16, "half": means / 2}
    nodes = [
        node("MatMul", ["x", "mix"], ["sums"], "mix_all"),
        node("MatMul", ["sums", "unmix"], ["halves"], "unmix_all"),
        node("Add", ["halves", "half"], ["y"], "shift"),
    ]
    rows = np.random.default_rng(0).normal(means, spreads, (300, 8)).astype(np.float32)
    onnx.save(make(nodes, [value("x", FLOAT, ["n", 8])], [value("y", FLOAT, ["n", 8])], constants), folder / "m.onnx")
    np.savez(folder / "rows.npz", readings=rows)
    return folder / "m.onnx", folder / "rows.npz"


def test_with_readings_the_error_of_a_reconstruction_decides(tmp_path: Path) -> None:
    """In float16 the values hardly move and small sensors are gone; allowing a large drift does not change that."""
    path, rows = write_mixed_reconstruction(tmp_path)
    seeing = quantize(path, target=Target.NPU, data=rows)
    assert seeing.verdict is Verdict.STORED
    assert seeing.scores[-1].deviation < 0.05
    assert "as the score of a detector, the error of y drifts by" in seeing.rungs[0].reason
    assert quantize(path, target=Target.NPU, data=rows, max_drift=1e6).verdict is Verdict.STORED
