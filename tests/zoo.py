"""A zoo of small models, one cause of trouble each, built here so that the tests need no file of anyone else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetool.verify.runner import Sample

__all__ = ["ZOO", "ZooModel", "build"]

FLOAT, HALF, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL
Nodes = Sequence[onnx.NodeProto]
node = helper.make_node


@dataclass(frozen=True)
class ZooModel:
    """A model and what it is tried on."""

    model: onnx.ModelProto
    samples: list[Sample]
    weight_bytes: int = field(default=0)


def build(name: str) -> ZooModel:
    """One model of the zoo, the same at every call."""
    made = ZOO[name]()
    size = sum(
        numpy_helper.to_array(tensor).nbytes
        for tensor in made.model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    )
    return ZooModel(made.model, made.samples, size)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def weights(*shape: int, scale: float | None = None) -> NDArray[np.float32]:
    spread = scale if scale is not None else 1 / np.sqrt(shape[0])
    return (rng().standard_normal(shape) * spread).astype(np.float32)


def value(name: str, kind: int, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def make(
    nodes: Nodes,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, Any],
    *,
    opset: int = 17,
    ir: int = 9,
    domains: Sequence[tuple[str, int]] = (),
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), "zoo", list(inputs), list(outputs), tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, number) for name, number in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def rows(name: str, *shape: int, low: float | None = None, high: float = 1.0, count: int = 6) -> list[Sample]:
    made = rng()
    return [
        {name: (made.standard_normal(shape) if low is None else made.uniform(low, high, shape)).astype(np.float32)}
        for _ in range(count)
    ]


def mlp(names: str = "named") -> ZooModel:
    """Two layers of Gemm; nodes with, without, or with one and the same name."""
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    for number, each in enumerate(nodes):
        each.name = {"named": f"layer{number}", "unnamed": "", "doubled": "layer"}[names]
    constants = {"w1": weights(64, 32), "b1": weights(64), "w2": weights(64, 16), "b2": weights(16)}
    return ZooModel(
        make(nodes, [value("x", FLOAT, ["n", 32])], [value("y", FLOAT, ["n", 16])], constants), rows("x", 16, 32)
    )


def with_metadata() -> ZooModel:
    """What a training framework leaves behind, beside what the user wrote."""
    made = mlp()
    for each in made.model.graph.node:
        each.doc_string = "File /home/someone/train.py, line 12, in forward" * 20
        each.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/train.py" * 30)
    made.model.metadata_props.add(key="owner", value="line 4")
    made.model.graph.doc_string = "exported from /home/someone/train.py"
    return made


def described_constants() -> ZooModel:
    """Initializers with value_info, as torch writes them."""
    made = mlp()
    made.model.graph.value_info.extend([value("w1", FLOAT, [64, 32]), value("h", FLOAT, ["n", 64])])
    return made


def listed_constants() -> ZooModel:
    """Initializers listed as inputs, as IR version 3 wants it."""
    made = mlp()
    made.model.ir_version = 3
    made.model.graph.input.extend([value("w1", FLOAT, [64, 32]), value("b1", FLOAT, [64])])
    made.model.graph.input.extend([value("w2", FLOAT, [64, 16]), value("b2", FLOAT, [16])])
    return made


def shared_weight() -> ZooModel:
    """One matrix in two products, once as it is and once transposed."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "encode"),
        node("Tanh", ["h"], ["t"], "tanh"),
        node("Transpose", ["w"], ["wt"], "turn", perm=[1, 0]),
        node("MatMul", ["t", "wt"], ["y"], "decode"),
    ]
    model = make(nodes, [value("x", FLOAT, ["n", 48])], [value("y", FLOAT, ["n", 48])], {"w": weights(48, 24)})
    return ZooModel(model, rows("x", 8, 48))


def constant_nodes() -> ZooModel:
    """Weights and scalars in Constant nodes, in three of their forms."""
    nodes = [
        node("Constant", [], ["w"], "w", value=numpy_helper.from_array(weights(32, 32))),
        node("Constant", [], ["half"], "half", value_float=0.5),
        node("Constant", [], ["bias"], "bias", value_floats=[0.1] * 32),
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("Mul", ["h", "half"], ["m"], "scale"),
        node("Add", ["m", "bias"], ["y"], "shift"),
    ]
    model = make(nodes, [value("x", FLOAT, ["n", 32])], [value("y", FLOAT, ["n", 32])], {})
    return ZooModel(model, rows("x", 4, 32))


def constant_of_shape() -> ZooModel:
    """Generators whose type an attribute decides."""
    nodes = [
        node("Shape", ["x"], ["shape"], "shape"),
        node("ConstantOfShape", ["shape"], ["zeros"], "zeros"),
        node("EyeLike", ["x"], ["eye"], "eye", dtype=FLOAT),
        node("Add", ["x", "zeros"], ["a"], "a"),
        node("Add", ["a", "eye"], ["b"], "b"),
        node("MatMul", ["b", "w"], ["y"], "product"),
    ]
    model = make(nodes, [value("x", FLOAT, [16, 24])], [value("y", FLOAT, [16, 20])], {"w": weights(24, 20)})
    return ZooModel(model, rows("x", 16, 24))


def raw_units() -> ZooModel:
    """Pascals in, standardised inside: float16 ends at 65504."""
    nodes = [
        node("Sub", ["x", "mean"], ["c"], "centre"),
        node("Div", ["c", "std"], ["s"], "scale"),
        node("MatMul", ["s", "w"], ["y"], "product"),
    ]
    constants = {
        "mean": np.full(24, 101325, np.float32),
        "std": np.full(24, 150, np.float32),
        "w": weights(24, 24),
    }
    model = make(nodes, [value("x", FLOAT, ["n", 24])], [value("y", FLOAT, ["n", 24])], constants)
    return ZooModel(model, rows("x", 8, 24, low=100800, high=101900))


def cancellation() -> ZooModel:
    """In range, but the difference that counts is below what float16 keeps of the value."""
    made = raw_units()
    constants = {"mean": np.full(24, 20000, np.float32), "std": np.full(24, 2, np.float32), "w": weights(24, 24)}
    nodes = list(made.model.graph.node)
    model = make(nodes, [value("x", FLOAT, ["n", 24])], [value("y", FLOAT, ["n", 24])], constants)
    return ZooModel(model, rows("x", 8, 24, low=19996, high=20004))


def energy_overflow() -> ZooModel:
    """A sum of squares beyond float16, with sane inputs and outputs."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("Mul", ["h", "h"], ["sq"], "square"),
        node("ReduceSum", ["sq", "axes"], ["energy"], "energy", keepdims=0),
        node("Log", ["energy"], ["y"], "log"),
    ]
    constants = {"w": weights(32, 64, scale=1.0), "axes": np.array([1], np.int64)}
    model = make(nodes, [value("x", FLOAT, ["n", 32])], [value("y", FLOAT, ["n"])], constants)
    return ZooModel(model, rows("x", 16, 32, low=-20, high=20))


def hidden_overflow() -> ZooModel:
    """An operator that squares inside: no tensor shows the overflow."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "product"), node("ReduceL2", ["h"], ["y"], "norm", axes=[1], keepdims=0)]
    model = make(
        nodes, [value("x", FLOAT, ["n", 32])], [value("y", FLOAT, ["n"])], {"w": weights(32, 64)}, opset=13, ir=7
    )
    return ZooModel(model, rows("x", 16, 32, low=-300, high=300))


def tiny_epsilon() -> ZooModel:
    """A division guarded by an epsilon that float16 rounds to zero, on rows that are zero."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("Abs", ["h"], ["size"], "size"),
        node("Add", ["size", "eps"], ["safe"], "guard"),
        node("Div", ["h", "safe"], ["y"], "sign"),
    ]
    constants = {"w": weights(16, 32), "eps": np.array(1e-9, np.float32)}
    model = make(nodes, [value("x", FLOAT, ["n", 16])], [value("y", FLOAT, ["n", 32])], constants)
    samples = rows("x", 8, 16)
    samples[0]["x"][:] = 0
    return ZooModel(model, samples)


def mask_constant(size: float) -> ZooModel:
    """Attention with a mask of large negative numbers, or of minus infinity."""
    mask = np.triu(np.full((12, 12), -size, np.float32), 1) if np.isfinite(size) else None
    if mask is None:
        mask = np.where(np.triu(np.ones((12, 12)), 1) > 0, -np.inf, 0).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "wq"], ["q"], "q"),
        node("MatMul", ["x", "wk"], ["k"], "k"),
        node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["scores"], "scores"),
        node("Add", ["scores", "mask"], ["masked"], "mask"),
        node("Softmax", ["masked"], ["p"], "softmax", axis=-1),
        node("MatMul", ["p", "x"], ["y"], "mix"),
    ]
    constants = {"wq": weights(16, 16), "wk": weights(16, 16), "mask": mask}
    model = make(nodes, [value("x", FLOAT, ["n", 12, 16])], [value("y", FLOAT, ["n", 12, 16])], constants)
    return ZooModel(model, rows("x", 2, 12, 16))


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


def constant_output() -> ZooModel:
    """A weight that is an output too, and an output that is used inside."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "product"), node("Sigmoid", ["h"], ["y"], "sigmoid")]
    outputs = [value("y", FLOAT, ["n", 12]), value("h", FLOAT, ["n", 12]), value("w", FLOAT, [24, 12])]
    model = make(nodes, [value("x", FLOAT, ["n", 24])], outputs, {"w": weights(24, 12)})
    return ZooModel(model, rows("x", 4, 24))


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


def large_integers() -> ZooModel:
    """Integers beyond 2048 become floats, and their differences count."""
    nodes = [
        node("Cast", ["t"], ["f"], "cast", to=FLOAT),
        node("Sub", ["f", "start"], ["age"], "age"),
        node("MatMul", ["age", "w"], ["y"], "product"),
    ]
    constants = {"start": np.array(20000, np.float32), "w": weights(16, 32)}
    made = rng()
    samples = [{"t": made.integers(20000, 20006, (6, 16))} for _ in range(5)]
    return ZooModel(make(nodes, [value("t", INT64, ["n", 16])], [value("y", FLOAT, ["n", 32])], constants), samples)


def embedding() -> ZooModel:
    """A table that is looked up and not multiplied."""
    nodes = [node("Gather", ["table", "i"], ["e"], "look"), node("MatMul", ["e", "w"], ["y"], "product")]
    made = rng()
    samples = [{"i": made.integers(0, 50, (4, 3))} for _ in range(5)]
    constants = {"table": weights(50, 24), "w": weights(24, 16)}
    return ZooModel(make(nodes, [value("i", INT64, ["n", 3])], [value("y", FLOAT, ["n", 3, 16])], constants), samples)


def convolutions() -> ZooModel:
    """Convolution, batch norm, pooling."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1]),
        node("BatchNormalization", ["c1", "s", "b", "m", "v"], ["bn"], "bn"),
        node("Relu", ["bn"], ["r"], "relu"),
        node("Conv", ["r", "w2"], ["c2"], "conv2", pads=[2, 2]),
        node("GlobalAveragePool", ["c2"], ["y"], "pool"),
    ]
    constants = {
        "w1": weights(24, 6, 3, scale=0.2),
        "b1": weights(24),
        "s": np.ones(24, np.float32),
        "b": np.zeros(24, np.float32),
        "m": np.zeros(24, np.float32),
        "v": np.ones(24, np.float32),
        "w2": weights(12, 24, 5, scale=0.1),
    }
    model = make(nodes, [value("x", FLOAT, ["n", 6, 32])], [value("y", FLOAT, ["n", 12, 1])], constants)
    return ZooModel(model, rows("x", 2, 6, 32))


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


def layer_norm() -> ZooModel:
    """A decomposed layer norm, as older exporters write it."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("ReduceMean", ["h"], ["mean"], "mean", axes=[-1]),
        node("Sub", ["h", "mean"], ["c"], "centre"),
        node("Pow", ["c", "two"], ["sq"], "square"),
        node("ReduceMean", ["sq"], ["var"], "variance", axes=[-1]),
        node("Add", ["var", "eps"], ["safe"], "guard"),
        node("Sqrt", ["safe"], ["std"], "root"),
        node("Div", ["c", "std"], ["n"], "divide"),
        node("Mul", ["n", "g"], ["s"], "gain"),
        node("Add", ["s", "b"], ["y"], "shift"),
    ]
    constants = {
        "w": weights(24, 32),
        "two": np.array(2, np.float32),
        "eps": np.array(1e-5, np.float32),
        "g": np.ones(32, np.float32),
        "b": np.zeros(32, np.float32),
    }
    model = make(nodes, [value("x", FLOAT, ["n", 24])], [value("y", FLOAT, ["n", 32])], constants, opset=13, ir=7)
    return ZooModel(model, rows("x", 8, 24))


def spectrum() -> ZooModel:
    """A Fourier transform, for which the runtime has no float16 kernel."""
    nodes = [
        node("DFT", ["x"], ["f"], "dft", axis=1, onesided=1),
        node("ReduceL2", ["f"], ["size"], "size", axes=[2], keepdims=0),
        node("MatMul", ["size", "w"], ["y"], "product"),
    ]
    model = make(nodes, [value("x", FLOAT, [2, 64, 1])], [value("y", FLOAT, [2, 16])], {"w": weights(33, 16)})
    return ZooModel(model, rows("x", 2, 64, 1))


def quantized_already() -> ZooModel:
    """QDQ int8, with scales that must stay as they are."""
    whole = np.clip(rng().integers(-127, 127, (24, 24)), -127, 127).astype(np.int8)
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["q"], "quantize"),
        node("DequantizeLinear", ["q", "sx", "zx"], ["d"], "dequantize"),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], "weight"),
        node("MatMul", ["d", "wd"], ["y"], "product"),
    ]
    constants = {
        "sx": np.array(0.03, np.float32),
        "zx": np.array(128, np.uint8),
        "w": whole,
        "sw": np.array(0.01, np.float32),
        "zw": np.array(0, np.int8),
    }
    model = make(nodes, [value("x", FLOAT, ["n", 24])], [value("y", FLOAT, ["n", 24])], constants)
    return ZooModel(model, rows("x", 4, 24))


def half_island() -> ZooModel:
    """A part that is float16 already."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("Cast", ["h"], ["h16"], "down", to=HALF),
        node("Mul", ["h16", "k"], ["m16"], "scale"),
        node("Cast", ["m16"], ["y"], "up", to=FLOAT),
    ]
    constants = {"w": weights(24, 24), "k": np.array(0.5, np.float16)}
    model = make(nodes, [value("x", FLOAT, ["n", 24])], [value("y", FLOAT, ["n", 24])], constants)
    return ZooModel(model, rows("x", 4, 24))


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


def wide_mlp() -> ZooModel:
    """Large enough that int8 arithmetic pays."""
    size = 512
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {}
    at = "x"
    for layer in range(3):
        constants[f"w{layer}"] = weights(size, size) + np.float32(0)
        nodes += [
            node("MatMul", [at, f"w{layer}"], [f"h{layer}"], f"product{layer}"),
            node("Relu", [f"h{layer}"], [f"r{layer}"], f"relu{layer}"),
        ]
        at = f"r{layer}"
    model = make(nodes, [value("x", FLOAT, ["n", size])], [value(at, FLOAT, ["n", size])], constants)
    return ZooModel(model, rows("x", 4, size))


def infinite_answers() -> ZooModel:
    """Outputs that are not finite by nature, and must stay the same ones."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "product"), node("Log", ["h"], ["y"], "log")]
    model = make(nodes, [value("x", FLOAT, ["n", 16])], [value("y", FLOAT, ["n", 32])], {"w": np.abs(weights(16, 32))})
    samples = rows("x", 4, 16, low=0.5)
    samples[0]["x"][0] = 0
    return ZooModel(model, samples)


def doubled_constant() -> ZooModel:
    """Two constants of one name, of which the runtime takes the first."""
    made = mlp()
    made.model.graph.initializer.append(numpy_helper.from_array(np.zeros((64, 32), np.float32), "w1"))
    return made


def unsorted() -> ZooModel:
    """Nodes in the order in which somebody wrote them, which the runtime takes and no converter does."""
    made = mlp()
    nodes = [onnx.NodeProto.FromString(each.SerializeToString()) for each in reversed(made.model.graph.node)]
    del made.model.graph.node[:]
    made.model.graph.node.extend(nodes)
    return made


def double_weights() -> ZooModel:
    """float64 throughout, as a framework for statistics exports it."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "product"), node("Tanh", ["h"], ["y"], "tanh")]
    double = TensorProto.DOUBLE
    ends = [value("x", double, ["n", 48])], [value("y", double, ["n", 48])]
    model = make(nodes, *ends, {"w": weights(48, 48).astype(np.float64)})
    return ZooModel(model, [{"x": sample["x"].astype(np.float64)} for sample in rows("x", 4, 48)])


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


def mask_chosen() -> ZooModel:
    """The smallest float32 where an input says that a value does not count."""
    nodes = [
        node("Where", ["valid", "x", "never"], ["masked"], "mask"),
        node("Softmax", ["masked"], ["p"], "softmax", axis=-1),
        node("MatMul", ["p", "w"], ["y"], "product"),
    ]
    inputs = [value("x", FLOAT, ["n", 32]), value("valid", BOOL, ["n", 32])]
    constants = {"never": np.float32(np.finfo(np.float32).min), "w": weights(32, 24)}
    samples = [{**sample, "valid": rng().random((4, 32)) > 0.3} for sample in rows("x", 4, 32)]
    return ZooModel(make(nodes, inputs, [value("y", FLOAT, ["n", 24])], constants), samples)


def not_a_number() -> ZooModel:
    """A weight that training broke, and that stays as broken."""
    made = mlp()
    broken = weights(64, 32)
    broken[3, 5] = np.nan
    made.model.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w1"))
    return made


ZOO: dict[str, Callable[[], ZooModel]] = {
    "branches": branches,
    "cancellation": cancellation,
    "constant_nodes": constant_nodes,
    "constant_of_shape": constant_of_shape,
    "constant_output": constant_output,
    "convolutions": convolutions,
    "described_constants": described_constants,
    "double_weights": double_weights,
    "doubled_constant": doubled_constant,
    "doubled_names": lambda: mlp("doubled"),
    "doubles": doubles,
    "embedding": embedding,
    "energy_overflow": energy_overflow,
    "gru_optional": gru_optional,
    "half_island": half_island,
    "hidden_overflow": hidden_overflow,
    "infinite_answers": infinite_answers,
    "large_integers": large_integers,
    "layer_norm": layer_norm,
    "listed_constants": listed_constants,
    "local_function": local_function,
    "loop": loop,
    "mask_1e9": lambda: mask_constant(1e9),
    "mask_chosen": mask_chosen,
    "mask_infinite": lambda: mask_constant(np.inf),
    "mlp": mlp,
    "no_floats": no_floats,
    "not_a_number": not_a_number,
    "quantized_already": quantized_already,
    "raw_units": raw_units,
    "resize": lambda: resize(18),
    "row_transpose": row_transpose,
    "runtime_operators": runtime_operators,
    "scaler_and_product": scaler_and_product,
    "scan": scan,
    "sequences": sequences,
    "shared_weight": shared_weight,
    "spectrum": spectrum,
    "stateful": stateful,
    "strings": strings,
    "tiny_epsilon": tiny_epsilon,
    "top_k": top_k,
    "trees": trees,
    "unnamed_nodes": lambda: mlp("unnamed"),
    "unsorted": unsorted,
    "upsample_9": lambda: resize(9),
    "wide_mlp": wide_mlp,
    "with_metadata": with_metadata,
}
