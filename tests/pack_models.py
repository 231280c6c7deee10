"""Models and normal rows that the tests of `edgetool pack` share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import Bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.messages.scores import Scores

__all__ = ["CHANNELS", "detector", "save", "score", "smoother", "write_normal"]

CHANNELS = 4


def write_normal(path: Path) -> Path:
    """Rows in a plane of two dimensions, in four sensors of different units, with a little noise."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)))[0][:, :2]
    rows = rng.standard_normal((600, 2)) @ basis.T + 0.05 * rng.standard_normal((600, CHANNELS))
    lines = ["c1,c2,c3,c4", *(",".join(f"{value:.6f}" for value in row) for row in rows)]
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
