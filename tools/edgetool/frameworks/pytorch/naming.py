"""Names of what goes into an exported model and comes out, which the exporter takes from nodes of its own."""

from __future__ import annotations

import onnx

from edge_agent.errors import ConversionError
from edgetool.frameworks.made import BATCH
from edgetool.graph.edits import Names, drop_unused, replace_all

__all__ = ["leave_out_sums", "name_ends"]


def name_ends(
    model: onnx.ModelProto, what: str, inputs: dict[str, int], names: list[str], open_time: int | None
) -> None:
    """Give inputs and outputs the module's own names, and the open sizes those that say what they are.

    Two outputs may be one tensor, or an input, or have the name of a constant, so each gets a node of its own.

    Args:
        model: changed in place.
        what: it is of, for a person.
        inputs: names in their order, each with the axis of its batch.
        names: of the outputs, none of them an input's.
        open_time: the axis of the first input that is left open for the rows of a window.

    Raises:
        ConversionError: the exporter gives another number of outputs than the module.
    """
    graph = model.graph
    if len(graph.output) != len(names):
        raise ConversionError(
            f"{what}: PyTorch's exporter gives {len(graph.output)} outputs, and the module {len(names)} tensors "
            f"({', '.join(names)}); save a form that answers with tensors alone"
        )
    _rename(graph, _freed(model, set(inputs) | set(names), list(inputs)))
    del graph.value_info[:]
    for name, value in zip(names, graph.output, strict=True):
        graph.node.append(onnx.helper.make_node("Identity", [value.name], [name], name=f"output_{name}"))
        value.name = name
    symbols = {_size(graph.input[0], next(iter(inputs.values()))): BATCH}
    if open_time is not None:
        symbols[_size(graph.input[0], open_time)] = "time"
    for value in (*graph.input, *graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param:
                dim.dim_param = symbols.get(dim.dim_param, f"{value.name}_{axis}")


def _freed(model: onnx.ModelProto, wanted: set[str], inputs: list[str]) -> dict[str, str]:
    """New names for inputs, and for what has a name that an input or output is to have."""
    graph, fresh = model.graph, Names(model)
    used = [value.name for value in (*graph.input, *graph.initializer)]
    used += [name for node in graph.node for name in node.output]
    renamed = {name: fresh.fresh(f"{name}_inner") for name in used if name in wanted}
    return renamed | {value.name: name for name, value in zip(inputs, graph.input, strict=True)}


def _size(value: onnx.ValueInfoProto, axis: int) -> str:
    return str(value.type.tensor_type.shape.dim[axis].dim_param)


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = renamed.get(name, name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _rename(inner, renamed)


def leave_out_sums(model: onnx.ModelProto, what: str) -> list[str]:
    """Take out outputs without a size that is open: a constant, or a sum over the batch, is not about an item.

    Raises:
        ConversionError: there is no other output.
    """
    outputs = model.graph.output
    without = [value.name for value in outputs if not any(dim.dim_param for dim in value.type.tensor_type.shape.dim)]
    if len(without) == len(outputs):
        raise ConversionError(
            f"{what}: answers {', '.join(without)} for a whole batch at once, and not for each row or window; save a "
            "form that keeps the batch, such as .mean(dim=1) in place of .mean()"
        )
    replace_all(outputs, [value for value in outputs if value.name not in without])
    drop_unused(model.graph)
    return without
