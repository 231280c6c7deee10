"""Detectors of the usual forms with normal readings: what `edgetool quantize` writes of these, `pack` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DETECTORS", "energy", "readings_of", "reconstruction", "residual", "write_readings"]


def _model(
    nodes: list[onnx.NodeProto], shape: list[str | int | None], output: onnx.ValueInfoProto, constants: dict[str, Any]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [output],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _turn(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    return np.linalg.qr(rng.standard_normal((size, size)))[0].astype(np.float32)


def energy(size: int = 64, layers: int = 2, shape: tuple[int, ...] = (4, 16)) -> onnx.ModelProto:
    """A score that rounding hardly moves and clipping does: the root mean square behind rotations."""
    rng = np.random.default_rng(4)
    nodes = [helper.make_node("Reshape", ["x", "flat"], ["h0"])]
    for layer in range(layers):
        last = layer == layers - 1
        nodes.append(helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Identity" if last else "Relu", [f"m{layer}"], [f"h{layer + 1}"]))
    nodes += [
        helper.make_node("Mul", [f"h{layers}", f"h{layers}"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["s"], axes=[1], keepdims=0),
        helper.make_node("Sqrt", ["s"], ["score"]),
    ]
    constants = {"flat": np.array([-1, size]), **{f"w{layer}": _turn(rng, size) for layer in range(layers)}}
    return _model(nodes, ["n", *shape], helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]), constants)


def reconstruction(channels: int = 16, hidden: int = 64) -> onnx.ModelProto:
    """A row squeezed into half as many directions, and back; `readings_of` lie near these."""
    rng = np.random.default_rng(5)
    inner = _turn(rng, hidden)[: channels // 2]
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"]),
        helper.make_node("Gemm", ["h", "w1"], ["y"]),
    ]
    constants = {"w0": _plane(channels).T @ inner, "b0": np.zeros(hidden, np.float32), "w1": inner.T @ _plane(channels)}
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", channels])
    return _model(nodes, ["n", channels], output, constants)


def _plane(channels: int) -> NDArray[np.float32]:
    return _turn(np.random.default_rng(7), channels)[: channels // 2]


def residual(channels: int = 16, window: int = 8) -> onnx.ModelProto:
    """A convolution over a window, channels first, whose largest answer is the score."""
    rng = np.random.default_rng(6)
    weights = (rng.standard_normal((32, channels, 3)) / np.sqrt(3 * channels)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("Reshape", ["m", "flat"], ["score"]),
    ]
    constants = {"w": weights, "flat": np.array([-1])}
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])
    return _model(nodes, ["n", channels, window], output, constants)


DETECTORS: dict[str, Callable[[], onnx.ModelProto]] = {
    "energy": energy,
    "wide": lambda: energy(512, 3, (512,)),
    "reconstruction": reconstruction,
    "residual": residual,
}


def readings_of(name: str, rows: int = 1500) -> NDArray[np.float32]:
    """Normal readings of a detector, shape (rows, channels)."""
    rng = np.random.default_rng(2)
    values = rng.standard_normal((rows, 512 if name == "wide" else 16)).astype(np.float32)
    if name == "reconstruction":
        values = 2 * values[:, :8] @ _plane(16) + 0.3 * values
    return values.astype(np.float32)


def write_readings(path: Path, rows: NDArray[np.float32]) -> Path:
    """Readings as `--data`."""
    np.savez(path, readings=rows)
    return path
