"""Detectors that are given back their last answer: a score that decays, and a network that remembers what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.engine.providers import import_runtime

__all__ = [
    "HIDDEN",
    "KEEPS",
    "decaying_score",
    "decaying_scores",
    "drift_of_mean",
    "recurrent_forecaster",
    "waves",
    "write_rows",
]

KEEPS = 0.8
HIDDEN = 24
CHANNELS = 2
FloatRows = NDArray[np.float32]


def _floats(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "stateful", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def decaying_score(channels: int = CHANNELS) -> onnx.ModelProto:
    """`x, last -> score`: 0.8 of its own last score and 0.2 of the sum of squares, which is an exponential mean."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["xx"]),
        helper.make_node("ReduceSum", ["xx", "axes"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "new"], ["part"]),
        helper.make_node("Mul", ["last", "keeps"], ["rest"]),
        helper.make_node("Add", ["part", "rest"], ["score"]),
    ]
    constants = {
        "axes": np.array([1], np.int64),
        "new": np.array(1 - KEEPS, np.float32),
        "keeps": np.array(KEEPS, np.float32),
    }
    inputs = [_floats("x", ["n", channels]), _floats("last", ["n", 1])]
    return _model(nodes, inputs, [_floats("score", ["n", 1])], constants)


def drift_of_mean(keeps: float, channels: int = CHANNELS) -> onnx.ModelProto:
    """`x, mean -> score, mean_out`: the square of an exponential mean of the readings, which finds what lasts."""
    nodes = [
        helper.make_node("Mul", ["x", "new"], ["part"]),
        helper.make_node("Mul", ["mean", "keeps"], ["rest"]),
        helper.make_node("Add", ["part", "rest"], ["mean_out"]),
        helper.make_node("Mul", ["mean_out", "mean_out"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "axes"], ["score"], keepdims=1),
    ]
    constants = {
        "axes": np.array([1], np.int64),
        "new": np.array(1 - keeps, np.float32),
        "keeps": np.array(keeps, np.float32),
    }
    inputs = [_floats("x", ["n", channels]), _floats("mean", ["n", channels])]
    return _model(nodes, inputs, [_floats("score", ["n", 1]), _floats("mean_out", ["n", channels])], constants)


def decaying_scores(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """What `decaying_score` gives the rows of one asset, one after the other."""
    scores, last = np.empty(len(rows)), 0.0
    for number, row in enumerate(rows):
        last = KEEPS * last + (1 - KEEPS) * float((row.astype(np.float64) ** 2).sum())
        scores[number] = last
    return scores


def recurrent_forecaster(rows: FloatRows) -> onnx.ModelProto:
    """`x, h -> forecast, h_out`: a GRU, and what it remembers tells the reading that comes. Fitted on rows.

    x is (n, 1, channels), h (1, n, hidden): the batch is the second axis, as PyTorch and ONNX have it.
    """
    width, rng = rows.shape[1], np.random.default_rng(5)
    constants = {
        "w": (0.6 * rng.standard_normal((1, 3 * HIDDEN, width))).astype(np.float32),
        "r": (0.35 * rng.standard_normal((1, 3 * HIDDEN, HIDDEN))).astype(np.float32),
        "out": np.zeros((HIDDEN, width), np.float32),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "w", "r", "", "", "h"], ["", "h_out"], hidden_size=HIDDEN),
        helper.make_node("Transpose", ["h"], ["remembered"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["remembered", "out"], ["forecast"]),
    ]
    del constants["one"]
    inputs = [_floats("x", ["n", 1, width]), _floats("h", [1, "n", HIDDEN])]
    outputs = [_floats("forecast", ["n", 1, width]), _floats("h_out", [1, "n", HIDDEN])]
    untrained = _model(nodes, inputs, outputs, constants)
    session = import_runtime().InferenceSession(untrained.SerializeToString(), providers=["CPUExecutionProvider"])
    remembered, h = np.empty((len(rows), HIDDEN)), np.zeros((1, 1, HIDDEN), np.float32)
    for number, row in enumerate(rows):
        remembered[number] = h[0, 0]
        (h,) = session.run(["h_out"], {"x": row[np.newaxis, np.newaxis], "h": h})
    ridge = remembered.T @ remembered + 1e-3 * np.eye(HIDDEN)
    constants["out"] = np.linalg.solve(ridge, remembered.T @ rows).astype(np.float32)
    return _model(nodes, inputs, outputs, constants)


def waves(count: int, *, seed: int = 0) -> FloatRows:
    """Two channels that swing against each other, with noise: the next reading follows from those before."""
    rng, at = np.random.default_rng(seed), np.arange(count)
    swing = np.column_stack([np.sin(at / 4.0), np.cos(at / 4.0) + 0.3 * np.sin(at / 11.0)])
    return (swing + 0.05 * rng.standard_normal((count, CHANNELS))).astype(np.float32)


def write_rows(
    path: Path, rows: FloatRows, *, assets: list[str] | None = None, labels: list[int] | None = None
) -> Path:
    """A data file, a row each second."""
    heads = ["time", *(["asset"] if assets else []), "c1", "c2", *(["label"] if labels else [])]
    lines = [",".join(heads)]
    for number, row in enumerate(rows):
        cells = [str(1000 + number), *([assets[number]] if assets else []), *(repr(float(value)) for value in row)]
        lines.append(",".join([*cells, *([str(labels[number])] if labels else [])]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
