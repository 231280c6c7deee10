"""A zoo of small models, one cause of trouble each, built here so that the tests need no file of anyone else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, numpy_helper
from zoo_graphs import (
    branches,
    doubles,
    gru_optional,
    local_function,
    loop,
    no_floats,
    resize,
    row_transpose,
    runtime_operators,
    scaler_and_product,
    scan,
    sequences,
    stateful,
    strings,
    top_k,
    trees,
    unsorted,
)
from zoo_parts import ZooModel
from zoo_ranges import (
    cancellation,
    energy_overflow,
    hidden_overflow,
    infinite_answers,
    large_integers,
    layer_norm,
    mask_chosen,
    mask_constant,
    not_a_number,
    raw_units,
    spectrum,
    tiny_epsilon,
)
from zoo_weights import (
    constant_nodes,
    constant_of_shape,
    constant_output,
    convolutions,
    described_constants,
    double_weights,
    doubled_constant,
    embedding,
    half_island,
    listed_constants,
    mlp,
    quantized_already,
    shared_weight,
    wide_mlp,
    with_metadata,
)

__all__ = ["ZOO", "ZooModel", "build"]


def build(name: str) -> ZooModel:
    """One model of the zoo, the same at every call."""
    made = ZOO[name]()
    size = sum(
        numpy_helper.to_array(tensor).nbytes
        for tensor in made.model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    )
    return ZooModel(made.model, made.samples, size)


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
