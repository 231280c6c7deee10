"""Canonical detectors of the kinds that are met in practice, with made-up weights, for measuring speed."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DETECTORS", "write_bundle"]

Weights = NDArray[np.float32]
_RNG = np.random.default_rng(20261122)


class _Graph:
    """A graph under construction; every method adds nodes and gives the name of what they make."""

    def __init__(self, window: int, channels: int) -> None:
        self.window, self.channels = window, channels
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def weight(self, array: NDArray[np.generic]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def flat(self) -> str:
        return self.add("Reshape", "readings", self.weight(np.array([-1, self.window * self.channels])))

    def dense(self, values: str, inputs: int, outputs: int, *, relu: bool = True) -> str:
        matrix = (_RNG.standard_normal((inputs, outputs)) / np.sqrt(inputs)).astype(np.float32)
        made = self.add("Gemm", values, self.weight(matrix), self.weight(np.zeros(outputs, np.float32)))
        return self.add("Relu", made) if relu else made

    def mean_squared(self, left: str, right: str) -> str:
        difference = self.add("Sub", left, right)
        return self.add("ReduceMean", self.add("Mul", difference, difference), axes=[1], keepdims=0)

    def finish(self, score: str, *, ml: bool = False) -> bytes:
        self.nodes.append(helper.make_node("Identity", [score], ["score"], "score"))
        graph = helper.make_graph(
            self.nodes,
            "detector",
            [helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["batch", self.window, self.channels])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("ai.onnx.ml", 3)] if ml else [])]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _autoencoder(window: int, channels: int, *widths: int) -> bytes:
    graph = _Graph(window, channels)
    size = window * channels
    flat = values = graph.flat()
    for inputs, outputs in zip((size, *widths), (*widths, size), strict=True):
        values = graph.dense(values, inputs, outputs, relu=outputs != size)
    return graph.finish(graph.mean_squared(flat, values))


def _mahalanobis(channels: int) -> bytes:
    graph = _Graph(1, channels)
    flat = graph.flat()
    turned = graph.dense(flat, channels, channels, relu=False)
    return graph.finish(graph.add("ReduceMean", graph.add("Mul", turned, turned), axes=[1], keepdims=0))


def _nearest_neighbours(channels: int, known: int) -> bytes:
    graph = _Graph(1, channels)
    flat = graph.flat()
    points = _RNG.standard_normal((known, channels)).astype(np.float32)
    products = graph.add("MatMul", flat, graph.weight(points.T))
    lengths = graph.weight((points**2).sum(axis=1))
    own = graph.add("ReduceSum", graph.add("Mul", flat, flat), graph.weight(np.array([1])), keepdims=1)
    distance = graph.add("Add", graph.add("Sub", lengths, graph.add("Add", products, products)), own)
    return graph.finish(graph.add("ReduceMin", distance, axes=[1], keepdims=0))


def _convolution(window: int, channels: int, filters: int) -> bytes:
    graph = _Graph(window, channels)
    series = graph.add("Transpose", "readings", perm=[0, 2, 1])
    values = series
    for inputs, outputs in ((channels, filters), (filters, filters), (filters, channels)):
        kernel = (_RNG.standard_normal((outputs, inputs, 5)) / np.sqrt(5 * inputs)).astype(np.float32)
        values = graph.add("Conv", values, graph.weight(kernel), kernel_shape=[5], pads=[2, 2])
        if outputs == filters:
            values = graph.add("Relu", values)
    difference = graph.add("Sub", series, values)
    return graph.finish(graph.add("ReduceMean", graph.add("Mul", difference, difference), axes=[1, 2], keepdims=0))


def _recurrent(kind: str, window: int, channels: int, hidden: int) -> bytes:
    graph = _Graph(window, channels)
    gates = {"LSTM": 4, "GRU": 3}[kind]
    series = graph.add("Transpose", "readings", perm=[1, 0, 2])
    own = (_RNG.standard_normal((1, gates * hidden, channels)) / np.sqrt(channels)).astype(np.float32)
    past = (_RNG.standard_normal((1, gates * hidden, hidden)) / np.sqrt(hidden)).astype(np.float32)
    states = graph.add(kind, series, graph.weight(own), graph.weight(past), hidden_size=hidden)
    last = graph.add("Gather", states, graph.weight(np.array(window - 1)), axis=0)
    state = graph.add("Squeeze", last, graph.weight(np.array([0])))
    predicted = graph.dense(state, hidden, channels, relu=False)
    latest = graph.add("Gather", "readings", graph.weight(np.array(window - 1)), axis=1)
    return graph.finish(graph.mean_squared(latest, predicted))


def _attention(window: int, channels: int) -> bytes:
    graph = _Graph(window, channels)
    parts = []
    for _ in range(3):
        matrix = (_RNG.standard_normal((channels, channels)) / np.sqrt(channels)).astype(np.float32)
        parts.append(graph.add("MatMul", "readings", graph.weight(matrix)))
    keys = graph.add("Transpose", parts[1], perm=[0, 2, 1])
    weights = graph.add("Softmax", graph.add("MatMul", parts[0], keys), axis=-1)
    made = graph.add("MatMul", weights, parts[2])
    difference = graph.add("Sub", "readings", made)
    return graph.finish(graph.add("ReduceMean", graph.add("Mul", difference, difference), axes=[1, 2], keepdims=0))


def _forest(channels: int, trees: int, depth: int) -> bytes:
    """Full binary trees with random splits, as one node."""
    graph = _Graph(1, channels)
    inner, leaves = 2**depth - 1, 2**depth
    count = inner + leaves
    ids = list(range(count))
    modes = ["BRANCH_LEQ"] * inner + ["LEAF"] * leaves
    score = graph.add(
        "TreeEnsembleRegressor",
        graph.flat(),
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[tree for tree in range(trees) for _ in ids],
        nodes_nodeids=ids * trees,
        nodes_featureids=[int(feature) for feature in _RNG.integers(0, channels, count * trees)],
        nodes_values=[float(value) for value in _RNG.standard_normal(count * trees)],
        nodes_modes=modes * trees,
        nodes_truenodeids=[2 * node + 1 if node < inner else 0 for node in ids] * trees,
        nodes_falsenodeids=[2 * node + 2 if node < inner else 0 for node in ids] * trees,
        target_treeids=[tree for tree in range(trees) for _ in range(leaves)],
        target_nodeids=ids[inner:] * trees,
        target_ids=[0] * (leaves * trees),
        target_weights=[float(value) for value in _RNG.uniform(0, 1, leaves * trees)],
    )
    return graph.finish(graph.add("Squeeze", score, graph.weight(np.array([1]))), ml=True)


DETECTORS: dict[str, tuple[int, int, Callable[[], bytes]]] = {
    "autoencoder-8": (1, 8, lambda: _autoencoder(1, 8, 4)),
    "autoencoder-52": (1, 52, lambda: _autoencoder(1, 52, 32, 16, 32)),
    "autoencoder-256": (1, 256, lambda: _autoencoder(1, 256, 128, 32, 128)),
    "autoencoder-640": (1, 640, lambda: _autoencoder(1, 640, 128, 128, 8, 128, 128)),
    "autoencoder-wide": (1, 640, lambda: _autoencoder(1, 640, 512, 512)),
    "window-32x8": (32, 8, lambda: _autoencoder(32, 8, 64, 16, 64)),
    "mahalanobis-52": (1, 52, lambda: _mahalanobis(52)),
    "neighbours-500": (1, 16, lambda: _nearest_neighbours(16, 500)),
    "convolution-64x8": (64, 8, lambda: _convolution(64, 8, 16)),
    "convolution-128x4": (128, 4, lambda: _convolution(128, 4, 32)),
    "lstm-32x8": (32, 8, lambda: _recurrent("LSTM", 32, 8, 32)),
    "gru-24x6": (24, 6, lambda: _recurrent("GRU", 24, 6, 24)),
    "attention-32x16": (32, 16, lambda: _attention(32, 16)),
    "forest-100x6": (1, 12, lambda: _forest(12, 100, 6)),
}
"""Name: window, channels, and what makes the model."""


def write_bundle(folder: Path, name: str) -> Path:
    """One of `DETECTORS` as a bundle with golden scores from ONNX Runtime's CPU provider."""
    window, channels, build = DETECTORS[name]
    model = build()
    readings = _RNG.standard_normal((48, window, channels)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    arrays = io.BytesIO()
    np.savez(arrays, readings=readings, score=session.run(["score"], {"readings": readings})[0])
    manifest = {
        "format": 1,
        "name": name,
        "version": "1.0.0",
        "created": "2026-11-22T00:00:00Z",
        "model": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(model).hexdigest(),
            "precision": "float32",
            "size_bytes": len(model),
        },
        "golden": {
            "file": "golden.npz",
            "sha256": hashlib.sha256(arrays.getvalue()).hexdigest(),
            "tolerance": 0.01,
        },
        "channels": [{"name": f"c{number}"} for number in range(channels)],
        "window": window,
        "threshold": {"alarm": 1.0, "clear": 0.5},
    }
    path = folder / f"{name}-1.0.0.edge"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("model.onnx", model)
        archive.writestr("golden.npz", arrays.getvalue())
    return path
