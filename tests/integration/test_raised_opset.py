"""A model of an old opset is packed as what it computes there, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs_by_hand import rows_of, score, windows_of, write
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import open_bundle
from edge_agent.errors import ConversionError
from edgetool.commands.pack import pack

_CENTRED = helper.make_node("Sub", ["x", "mean"], ["c"])


def old_model(path: Path, nodes: list[onnx.NodeProto], opset: int, batch: int | str, constants: dict[str, Any]) -> Path:
    """A score of windows of 8 rows and 3 channels, in an old opset."""
    tail = [
        helper.make_node("Mul", ["u", "u"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["score"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        [_CENTRED, *nodes, *tail],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch])],
        [numpy_helper.from_array(np.asarray(v, dtype=np.float32), k) for k, v in {"mean": 20, **constants}.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6), path)
    return path


def upsampled(operator: str) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """The error of windows that are told from every second row, those between by straight lines."""
    half = np.zeros((4, 8))
    half[np.arange(4), np.arange(0, 8, 2)] = 1
    nodes = [
        helper.make_node("MatMul", ["half", "c"], ["h"]),
        helper.make_node("Unsqueeze", ["h"], ["h4"], axes=[1]),
        helper.make_node(operator, ["h4", "sizes"], ["r4"], mode="linear"),
        helper.make_node("Squeeze", ["r4"], ["r"], axes=[1]),
        helper.make_node("Sub", ["c", "r"], ["u"]),
    ]
    return nodes, {"half": half, "sizes": [1, 1, 2, 1]}


@pytest.mark.parametrize(("operator", "opset", "batch"), [("Upsample", 9, "n"), ("Resize", 10, "n"), ("Resize", 10, 1)])
def test_what_lies_between_rows_is_counted_as_in_the_opset_of_the_model(
    tmp_path: Path, operator: str, opset: int, batch: int | str
) -> None:
    """Before opset 11 Resize counts from the edge; onnx leaves out that this changed."""
    rows = rows_of(3000, 3)
    nodes, constants = upsampled(operator)
    path = old_model(tmp_path / "m.onnx", nodes, opset, batch, constants)
    bundle = open_bundle(pack(path, data=write(tmp_path / "n.csv", rows), accept_weak=True).bundle)
    windows = windows_of(rows, 8)[:400]
    x = windows.astype(np.float64) - 20
    last = x[:, 6:7]
    between = (x[:, 0:6:2] + x[:, 2::2]) / 2
    told = np.stack([x[:, ::2], np.concatenate([between, last], axis=1)], axis=2).reshape(x.shape)
    np.testing.assert_allclose(score(bundle, windows).score, ((x - told) ** 2).mean(axis=(1, 2)), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("opset", [9, 12])
def test_an_operator_that_onnx_raises_to_another_function_is_refused(tmp_path: Path, opset: int) -> None:
    """Hardmax took all axes behind the batch as one before opset 13, and the last one alone since."""
    nodes = [helper.make_node("Hardmax", ["c"], ["h"]), helper.make_node("Mul", ["h", "c"], ["u"])]
    path = old_model(tmp_path / "m.onnx", nodes, opset, "n", {})
    told = rf"output 'score' is another once the model is raised from opset {opset} to 13.*Hardmax.*opset 13 or newer"
    with pytest.raises(ConversionError, match=told):
        pack(path, data=write(tmp_path / "n.csv", rows_of(3000, 3)), accept_weak=True)


def test_what_onnx_raises_right_is_packed(tmp_path: Path) -> None:
    """Softmax of opset 9 takes all axes behind the batch as one, and comes out so."""
    nodes = [helper.make_node("Softmax", ["c"], ["s"]), helper.make_node("Mul", ["s", "c"], ["u"])]
    path = old_model(tmp_path / "m.onnx", nodes, 9, "n", {})
    rows = rows_of(3000, 3)
    bundle = open_bundle(pack(path, data=write(tmp_path / "n.csv", rows), accept_weak=True).bundle)
    windows = windows_of(rows, 8)[:400]
    x = (windows.astype(np.float64) - 20).reshape(400, -1)
    shares = np.exp(x - x.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(score(bundle, windows).score, ((shares * x) ** 2).mean(axis=1), rtol=1e-4)
