"""Little models made node by node, normal readings for them, and what a bundle scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import Bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.messages.scores import Scores

__all__ = ["ML", "model", "rows_of", "score", "smoother", "square_sum", "windows_of", "write"]

ML = "ai.onnx.ml"


def rows_of(count: int, channels: int, seed: int = 1) -> NDArray[np.float64]:
    """Slow waves with noise, one period for each channel."""
    at = np.arange(count)[:, None]
    noise = 0.05 * np.random.default_rng(seed).normal(size=(count, channels))
    return np.asarray(20 + 5 * np.sin(2 * np.pi * at / (240 + 31 * np.arange(channels)) + np.arange(channels)) + noise)


def write(path: Path, rows: NDArray[Any], **columns: NDArray[Any]) -> Path:
    names = [f"s{i}" for i in range(rows.shape[1])] + list(columns)
    table = np.column_stack([rows, *columns.values()])
    lines = [",".join("" if np.isnan(value) else f"{value:.7g}" for value in row) for row in table]
    path.write_text("\n".join([",".join(names), *lines]) + "\n", encoding="utf-8")
    return path


def model(
    path: Path,
    nodes: list[onnx.NodeProto],
    shape: tuple[int, ...],
    outputs: dict[str, list[int | str]],
    constants: dict[str, Any] | None = None,
) -> Path:
    """A graph of the input `x` of these sizes behind a free batch."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def score(bundle: Bundle, windows: NDArray[Any]) -> Scores:
    return OrtEngine(bundle.model, PROVIDERS["cpu"]).score(windows.astype(np.float32))


def windows_of(rows: NDArray[Any], window: int) -> NDArray[np.float32]:
    view = np.lib.stride_tricks.sliding_window_view(rows.astype(np.float32), window, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def smoother(path: Path, channels: int) -> Path:
    """A reconstruction by readings within limits."""
    constants = {"low": np.float32(16), "high": np.float32(24)}
    return model(
        path, [helper.make_node("Clip", ["x", "low", "high"], ["y"])], (channels,), {"y": ["n", channels]}, constants
    )


def square_sum(path: Path) -> Path:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["score"], axes=[1], keepdims=0),
    ]
    return model(path, nodes, (2,), {"score": ["n"]})
