"""Models of the zoo whose constants are the trouble: how they are stored, listed, shared and described."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from zoo_parts import FLOAT, HALF, INT64, ZooModel, make, node, rng, rows, value, weights

__all__ = [
    "constant_nodes",
    "constant_of_shape",
    "constant_output",
    "convolutions",
    "described_constants",
    "double_weights",
    "doubled_constant",
    "embedding",
    "half_island",
    "listed_constants",
    "mlp",
    "quantized_already",
    "shared_weight",
    "wide_mlp",
    "with_metadata",
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


def constant_output() -> ZooModel:
    """A weight that is an output too, and an output that is used inside."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "product"), node("Sigmoid", ["h"], ["y"], "sigmoid")]
    outputs = [value("y", FLOAT, ["n", 12]), value("h", FLOAT, ["n", 12]), value("w", FLOAT, [24, 12])]
    model = make(nodes, [value("x", FLOAT, ["n", 24])], outputs, {"w": weights(24, 12)})
    return ZooModel(model, rows("x", 4, 24))


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


def doubled_constant() -> ZooModel:
    """Two constants of one name, of which the runtime takes the first."""
    made = mlp()
    made.model.graph.initializer.append(numpy_helper.from_array(np.zeros((64, 32), np.float32), "w1"))
    return made


def double_weights() -> ZooModel:
    """float64 throughout, as a framework for statistics exports it."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "product"), node("Tanh", ["h"], ["y"], "tanh")]
    double = TensorProto.DOUBLE
    ends = [value("x", double, ["n", 48])], [value("y", double, ["n", 48])]
    model = make(nodes, *ends, {"w": weights(48, 48).astype(np.float64)})
    return ZooModel(model, [{"x": sample["x"].astype(np.float64)} for sample in rows("x", 4, 48)])


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
