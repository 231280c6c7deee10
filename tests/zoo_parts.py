"""What the models of the zoo are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetool.verify.arrays import Sample, by_sample

__all__ = [
    "BOOL",
    "FLOAT",
    "HALF",
    "INT64",
    "Nodes",
    "ZooModel",
    "make",
    "node",
    "read_npz",
    "rng",
    "rows",
    "value",
    "weights",
    "write_npz",
]

FLOAT, HALF, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL
Nodes = Sequence[onnx.NodeProto]
node = helper.make_node


@dataclass(frozen=True)
class ZooModel:
    """A model and what it is tried on."""

    model: onnx.ModelProto
    samples: list[Sample]
    weight_bytes: int = field(default=0)


def write_npz(path: Path, samples: Sequence[Sample]) -> None:
    """Samples as a user keeps them, with keys `<i>|<name>`."""
    arrays = {f"{number}|{name}": array for number, sample in enumerate(samples) for name, array in sample.items()}
    np.savez(path, allow_pickle=False, **arrays)


def read_npz(path: Path) -> list[Sample]:
    """What `write_npz` wrote."""
    with np.load(path) as arrays:
        return by_sample((key, arrays[key]) for key in arrays.files)


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
