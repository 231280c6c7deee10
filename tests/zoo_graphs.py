"""Models of the zoo whose graph or operators are the trouble."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo_parts import BOOL, FLOAT, INT64, ZooModel, make, node, rows, value, weights
from zoo_weights import mlp

__all__ = [
    "branches",
    "doubles",
    "gru_optional",
    "local_function",
    "loop",
    "no_floats",
    "resize",
    "row_transpose",
    "runtime_operators",
    "scaler_and_product",
    "scan",
    "sequences",
    "stateful",
    "strings",
    "top_k",
    "trees",
    "unsorted",
]


def row_transpose() -> ZooModel:
    """Batch and time exchanged before a product: ONNX Runtime crashes on it in float16."""
    nodes = [
        node("Transpose", ["x"], ["t"], "turn", perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "b"], ["h", "", ""], "lstm", hidden_size=16),
        node("Squeeze", ["h", "one"], ["s"], "squeeze"),
        node("Transpose", ["s"], ["back"], "back", perm=[1, 0, 2]),
        node("MatMul", ["back", "v"], ["y"], "product"),
    ]
    constants = {
        "w": weights(1, 64, 8, scale=0.3),
        "r": weights(1, 64, 16, scale=0.3),
        "b": np.zeros((1, 128), np.float32),
        "one": np.array([1], np.int64),
        "v": weights(16, 8),
    }
    model = make(nodes, [value("x", FLOAT, ["n", 10, 8])], [value("y", FLOAT, ["n", 10, 8])], constants)
    return ZooModel(model, rows("x", 3, 10, 8))


def gru_optional() -> ZooModel:
    """A GRU whose first output is left out."""
    nodes = [
        node("GRU", ["x", "w", "r", "", "", "h0"], ["", "last"], "gru", hidden_size=12, linear_before_reset=1),
        node("Clip", ["last", "", "top"], ["y"], "clip"),
    ]
    constants = {
        "w": weights(1, 36, 6, scale=0.3),
        "r": weights(1, 36, 12, scale=0.3),
        "h0": np.zeros((1, 3, 12), np.float32),
        "top": np.array(0.5, np.float32),
    }
    model = make(nodes, [value("x", FLOAT, [9, 3, 6])], [value("y", FLOAT, [1, 3, 12])], constants)
    return ZooModel(model, rows("x", 9, 3, 6))


def branches() -> ZooModel:
    """An If whose branches use weights and a tensor from outside."""
    then = helper.make_graph([node("MatMul", ["x", "wa"], ["a"], "a")], "then", [], [value("a", FLOAT, None)])
    other = helper.make_graph(
        [node("MatMul", ["h", "wb"], ["m"], "m"), node("Neg", ["m"], ["b"], "b")], "else", [], [value("b", FLOAT, None)]
    )
    nodes = [
        node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["positive"], "positive"),
        node("Tanh", ["x"], ["h"], "tanh"),
        node("If", ["positive"], ["y"], "choose", then_branch=then, else_branch=other),
    ]
    constants = {"zero": np.array(0, np.float32), "wa": weights(24, 24), "wb": weights(24, 24)}
    model = make(nodes, [value("x", FLOAT, [4, 24])], [value("y", FLOAT, [4, 24])], constants)
    return ZooModel(model, rows("x", 4, 24))


def loop() -> ZooModel:
    """A Loop that carries a state and captures weights."""
    body = helper.make_graph(
        [
            node("MatMul", ["state", "w"], ["p"], "p"),
            node("Add", ["p", "x"], ["s"], "s"),
            node("Tanh", ["s"], ["next"], "next"),
            node("Identity", ["go"], ["again"], "again"),
        ],
        "body",
        [value("i", INT64, []), value("go", BOOL, []), value("state", FLOAT, [4, 20])],
        [value("again", BOOL, []), value("next", FLOAT, [4, 20])],
    )
    nodes = [node("Loop", ["count", "yes", "x"], ["y"], "loop", body=body)]
    constants = {"count": np.array(5, np.int64), "yes": np.array(True), "w": weights(20, 20)}
    model = make(nodes, [value("x", FLOAT, [4, 20])], [value("y", FLOAT, [4, 20])], constants)
    return ZooModel(model, rows("x", 4, 20))


def scan() -> ZooModel:
    """A Scan over rows, as scikit-learn's distances are exported."""
    body = helper.make_graph(
        [
            node("Identity", ["all_in"], ["all_out"], "keep"),
            node("Sub", ["all_in", "row"], ["d"], "difference"),
            node("Mul", ["d", "d"], ["sq"], "square"),
            node("ReduceSum", ["sq", "last"], ["distance"], "distance", keepdims=0),
        ],
        "body",
        [value("all_in", FLOAT, ["n", 8]), value("row", FLOAT, [8])],
        [value("all_out", FLOAT, ["n", 8]), value("distance", FLOAT, ["n"])],
        [numpy_helper.from_array(np.array([1], np.int64), "last")],
    )
    nodes = [
        node("Scan", ["x", "train"], ["unused", "d"], "scan", body=body, num_scan_inputs=1),
        node("Transpose", ["d"], ["y"], "turn", perm=[1, 0]),
    ]
    model = make(nodes, [value("x", FLOAT, ["n", 8])], [value("y", FLOAT, ["n", 60])], {"train": weights(60, 8)})
    return ZooModel(model, rows("x", 5, 8))


def local_function() -> ZooModel:
    """A function of the model's own."""
    function = helper.make_function(
        "own",
        "Dense",
        ["a", "b", "c"],
        ["d"],
        [node("MatMul", ["a", "b"], ["e"]), node("Add", ["e", "c"], ["f"]), node("Tanh", ["f"], ["d"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Dense", ["x", "w1", "b1"], ["h"], "first", domain="own"),
        node("Dense", ["h", "w2", "b2"], ["y"], "second", domain="own"),
    ]
    constants = {"w1": weights(20, 40), "b1": weights(40), "w2": weights(40, 20), "b2": weights(20)}
    model = make(nodes, [value("x", FLOAT, ["n", 20])], [value("y", FLOAT, ["n", 20])], constants, domains=[("own", 1)])
    model.functions.append(function)
    return ZooModel(model, rows("x", 6, 20))


def sequences() -> ZooModel:
    """A sequence of tensors between nodes and at the output."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("SplitToSequence", ["h"], ["parts"], "split", axis=1),
        node("SequenceAt", ["parts", "first"], ["a"], "at"),
        node("Relu", ["a"], ["y"], "relu"),
    ]
    constants = {"w": weights(16, 20), "first": np.array(0, np.int64)}
    outputs = [value("y", FLOAT, None), helper.make_tensor_sequence_value_info("parts", FLOAT, None)]
    return ZooModel(make(nodes, [value("x", FLOAT, ["n", 16])], outputs, constants), rows("x", 4, 16))


def top_k() -> ZooModel:
    """Discrete outputs, and a float16 boundary in front of them."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("TopK", ["h", "k"], ["best", "where"], "best"),
        node("ArgMax", ["x"], ["arg"], "arg", axis=1, keepdims=0),
    ]
    outputs = [value("best", FLOAT, ["n", 3]), value("where", INT64, ["n", 3]), value("arg", INT64, ["n"])]
    constants = {"w": weights(32, 24), "k": np.array([3], np.int64)}
    return ZooModel(make(nodes, [value("x", FLOAT, ["n", 32])], outputs, constants), rows("x", 16, 32))


def resize(opset: int) -> ZooModel:
    """Upsample of opset 9, or Resize with its scales that are float32 always."""
    constants: dict[str, Any] = {"w": weights(8, 3, 3, 3, scale=0.2), "scales": np.array([1, 1, 2, 2], np.float32)}
    grow = (
        node("Upsample", ["c", "scales"], ["y"], "grow", mode="nearest")
        if opset == 9
        else node("Resize", ["c", "", "scales"], ["y"], "grow", mode="linear")
    )
    nodes = [node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]), grow]
    model = make(
        nodes,
        [value("x", FLOAT, [1, 3, 8, 8])],
        [value("y", FLOAT, [1, 8, 16, 16])],
        constants,
        opset=opset,
        ir=4 if opset == 9 else 8,
    )
    return ZooModel(model, rows("x", 1, 3, 8, 8))


def doubles() -> ZooModel:
    """float64 readings, cast inside."""
    nodes = [node("Cast", ["x"], ["f"], "cast", to=FLOAT), node("MatMul", ["f", "w"], ["y"], "product")]
    model = make(
        nodes, [value("x", TensorProto.DOUBLE, ["n", 24])], [value("y", FLOAT, ["n", 24])], {"w": weights(24, 24)}
    )
    return ZooModel(model, [{"x": sample["x"].astype(np.float64)} for sample in rows("x", 4, 24)])


def no_floats() -> ZooModel:
    """Nothing that could become smaller."""
    nodes = [node("Add", ["x", "one"], ["y"], "add")]
    model = make(nodes, [value("x", INT64, ["n"])], [value("y", INT64, ["n"])], {"one": np.array([1], np.int64)})
    return ZooModel(model, [{"x": np.arange(5)}])


def strings() -> ZooModel:
    """Labels as text, chosen by a product."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("ArgMax", ["h"], ["i"], "best", axis=1, keepdims=0),
        node("Gather", ["labels", "i"], ["label"], "label"),
    ]
    constants = {"w": weights(24, 12), "labels": np.array([f"state {i}" for i in range(12)], dtype=object)}
    outputs = [value("label", TensorProto.STRING, ["n"]), value("h", FLOAT, ["n", 12])]
    return ZooModel(make(nodes, [value("x", FLOAT, ["n", 24])], outputs, constants), rows("x", 6, 24))


def trees() -> ZooModel:
    """A tree ensemble, which has no smaller form."""
    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "nodes_missing_value_tracks_true": [0, 0, 0],
        "nodes_hitrates": [1.0, 1.0, 1.0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, -1.0],
        "n_targets": 1,
    }
    nodes = [node("TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml", **attributes)]
    model = make(nodes, [value("x", FLOAT, ["n", 3])], [value("y", FLOAT, ["n", 1])], {}, domains=[("ai.onnx.ml", 3)])
    return ZooModel(model, rows("x", 8, 3, low=0))


def scaler_and_product() -> ZooModel:
    """An operator of another domain in front, behind which OpenVINO knows no rank."""
    nodes = [
        node("Scaler", ["x"], ["s"], "scaler", domain="ai.onnx.ml", offset=[50000.0] * 12, scale=[0.001] * 12),
        node("MatMul", ["s", "w"], ["y"], "product"),
    ]
    model = make(
        nodes,
        [value("x", FLOAT, ["n", 12])],
        [value("y", FLOAT, ["n", 32])],
        {"w": weights(12, 32)},
        domains=[("ai.onnx.ml", 3)],
    )
    return ZooModel(model, rows("x", 8, 12, low=48000, high=52000))


def stateful() -> ZooModel:
    """State in, state out: a rounding that is harmless in one step must stay so in many."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "in"),
        node("MatMul", ["state", "r"], ["b"], "recur"),
        node("Add", ["a", "b"], ["c"], "sum"),
        node("Tanh", ["c"], ["new_state"], "tanh"),
        node("ReduceMean", ["new_state"], ["score"], "score", axes=[1], keepdims=0),
    ]
    constants = {"w": weights(16, 24), "r": weights(24, 24)}
    model = make(
        nodes,
        [value("x", FLOAT, [4, 16]), value("state", FLOAT, [4, 24])],
        [value("score", FLOAT, [4]), value("new_state", FLOAT, [4, 24])],
        constants,
    )
    samples = rows("x", 4, 16)
    return ZooModel(model, [{**sample, "state": np.zeros((4, 24), np.float32)} for sample in samples])


def unsorted() -> ZooModel:
    """Nodes in the order in which somebody wrote them, which the runtime takes and no converter does."""
    made = mlp()
    nodes = [onnx.NodeProto.FromString(each.SerializeToString()) for each in reversed(made.model.graph.node)]
    del made.model.graph.node[:]
    made.model.graph.node.extend(nodes)
    return made


def runtime_operators() -> ZooModel:
    """Operators of com.microsoft with weights, as an optimised transformer has them."""
    nodes = [
        node("FusedMatMul", ["x", "w1"], ["h"], "fused", domain="com.microsoft", alpha=0.5),
        node("QuickGelu", ["h"], ["g"], "gelu", domain="com.microsoft", alpha=1.7),
        node("MatMul", ["g", "w2"], ["y"], "product"),
    ]
    ends = [value("x", FLOAT, ["n", 32])], [value("y", FLOAT, ["n", 16])]
    constants = {"w1": weights(32, 64), "w2": weights(64, 16)}
    return ZooModel(make(nodes, *ends, constants, domains=[("com.microsoft", 1)]), rows("x", 8, 32))
