"""Models of the zoo whose values are the trouble: too large, too small, or cancelling each other."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper
from zoo_parts import BOOL, FLOAT, INT64, ZooModel, make, node, rng, rows, value, weights
from zoo_weights import mlp

__all__ = [
    "cancellation",
    "energy_overflow",
    "hidden_overflow",
    "infinite_answers",
    "large_integers",
    "layer_norm",
    "mask_chosen",
    "mask_constant",
    "not_a_number",
    "raw_units",
    "spectrum",
    "tiny_epsilon",
]


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


def infinite_answers() -> ZooModel:
    """Outputs that are not finite by nature, and must stay the same ones."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "product"), node("Log", ["h"], ["y"], "log")]
    model = make(nodes, [value("x", FLOAT, ["n", 16])], [value("y", FLOAT, ["n", 32])], {"w": np.abs(weights(16, 32))})
    samples = rows("x", 4, 16, low=0.5)
    samples[0]["x"][0] = 0
    return ZooModel(model, samples)


def not_a_number() -> ZooModel:
    """A weight that training broke, and that stays as broken."""
    made = mlp()
    broken = weights(64, 32)
    broken[3, 5] = np.nan
    made.model.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w1"))
    return made


def spectrum() -> ZooModel:
    """A Fourier transform, for which the runtime has no float16 kernel."""
    nodes = [
        node("DFT", ["x"], ["f"], "dft", axis=1, onesided=1),
        node("ReduceL2", ["f"], ["size"], "size", axes=[2], keepdims=0),
        node("MatMul", ["size", "w"], ["y"], "product"),
    ]
    model = make(nodes, [value("x", FLOAT, [2, 64, 1])], [value("y", FLOAT, [2, 16])], {"w": weights(33, 16)})
    return ZooModel(model, rows("x", 2, 64, 1))


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
