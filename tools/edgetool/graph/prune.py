"""Magnitude pruning: the smallest weights of each matrix become zero. It helps compression and nothing else."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import onnx

from edgetool.graph.walks import graphs_of
from edgetool.graph.weights import WeightStore, tensors_of

__all__ = ["PruneReport", "compressed_size", "prune_weights"]

_MIN_VALUES = 256
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class PruneReport:
    """How many weights became zero."""

    zeroed: int
    of: int


def prune_weights(model: onnx.ModelProto, store: WeightStore, share: float) -> PruneReport:
    """Set the smallest weights of every large matrix to zero.

    Args:
        model: after `repair`; changed in place.
        store: has its large constants, and takes the new ones.
        share: of each matrix, above 0 and below 1.
    """
    zeroed = of = 0
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
                continue
            if int(np.prod(tensor.dims)) < _MIN_VALUES:
                continue
            values = np.array(store.values(tensor))
            size = np.abs(values)
            limit = np.partition(size.ravel(), int(share * size.size))[int(share * size.size)]
            small = size < limit
            values[small] = 0.0
            tensor.CopyFrom(store.tensor(values, tensor.name))
            zeroed, of = zeroed + int(small.sum()), of + values.size
    return PruneReport(zeroed, of)


def compressed_size(model: onnx.ModelProto, store: WeightStore) -> int:
    """Bytes of the model's constants when each is compressed, as a bundle or an update does it."""
    total = 0
    for tensor in tensors_of(model):
        values = store.values(tensor) if tensor.data_type != onnx.TensorProto.STRING else np.empty(0)
        total += len(zlib.compress(np.ascontiguousarray(values).tobytes(), _LEVEL))
    return total
