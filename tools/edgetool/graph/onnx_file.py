"""ONNX files: read with their external data, and written whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from google.protobuf.message import Message
from onnx.defs import SchemaError, get_schema, onnx_opset_version

from edge_agent.errors import ConversionError
from edge_agent.files.plain import write_file
from edgetool.graph.model_file import check_file
from edgetool.graph.walks import bytes_of, graphs_of, is_onnx, nodes_of, tensors_of

__all__ = ["external_error", "load_model", "size_on_disk", "stored_precision", "write_result"]


_PLAIN = frozenset(
    {
        *(onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BOOL),
        *(onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64),
        *(onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64),
    }
)
"""Types of which each value has bytes of its own."""

_MOST_VALUES = 1 << 48


def load_model(path: Path, *, external: bool = True) -> onnx.ModelProto:
    """Read a model.

    Args:
        path: the file.
        external: read its external data too.

    Raises:
        ConversionError: it is missing, damaged, or no ONNX model.
    """
    try:
        check_file(path)
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as exc:
        raise ConversionError(f"{path}: no such file") from exc
    except ConversionError:
        raise
    # A damaged protobuf raises DecodeError, which has no import path that stays between versions.
    except Exception as exc:
        raise ConversionError(f"{path}: is not an ONNX model ({exc})") from exc
    _check_texts(path, model)
    if not model.graph.output:
        raise ConversionError(f"{path}: is not an ONNX model (it has no graph outputs)")
    if external:
        _load_external(path, model)
    _check_sizes(path, model)
    _check_types(path, model)
    _check_nodes(path, model)
    return model


def _check_texts(path: Path, model: onnx.ModelProto) -> None:
    """Refuse names that are not UTF-8: protobuf gives them as bytes, and ONNX Runtime cannot tell outputs by them."""
    messages: list[Message] = [model]
    while messages:
        message = messages.pop()
        for field, value in message.ListFields():
            found = [value] if isinstance(value, Message | str | bytes) else value
            if field.message_type is not None:
                messages.extend(found)
            elif field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in found):
                what = f"{message.DESCRIPTOR.name} {field.name}"
                raise ConversionError(
                    f"{path}: is not an ONNX model ({what} is not UTF-8: {value!r:.80}); export it again"
                )


def _load_external(path: Path, model: onnx.ModelProto) -> None:
    for tensor in tensors_of(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        # A missing file, one outside of the folder and one that is too short raise different classes.
        except Exception as exc:
            raise external_error(path, tensor.name, exc) from exc
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def external_error(path: Path, name: str, exc: Exception) -> ConversionError:
    """The error of a model whose weights are in a file beside it that cannot be read.

    Args:
        path: the model's file.
        name: of the tensor.
        exc: what `onnx` raised, which names the other file.
    """
    step = "copy the model together with the files beside it that hold its weights"
    return ConversionError(f"{path}: tensor {name!r} cannot be read: {exc}; {step}")


def _check_sizes(path: Path, model: onnx.ModelProto) -> None:
    """Constants whose bytes do not fill their shape come from a damaged file, and fail wherever they are read."""
    for tensor in tensors_of(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type == onnx.TensorProto.UNDEFINED:
            continue
        if tensor.data_type not in _PLAIN:
            _check_readable(path, tensor)
            continue
        if tensor.HasField("raw_data"):
            unit, size, found = "bytes", bytes_of(tensor), len(tensor.raw_data)
        else:
            unit, size = "values", math.prod(tensor.dims)
            found = len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type)))
        if found != size or min(tensor.dims, default=0) < 0:
            raise ConversionError(f"{path}: is damaged: {tensor.name!r} has {found} {unit}, expected {size}")
        if math.prod(max(dim, 1) for dim in tensor.dims) > _MOST_VALUES:  # numpy has no such shape, not even if empty
            raise ConversionError(f"{path}: is damaged: {tensor.name!r} has the shape {[*tensor.dims]}")


def _check_types(path: Path, model: onnx.ModelProto) -> None:
    """Refuse types of values that this version of ONNX does not have, and so no code here knows."""
    known = set(onnx.TensorProto.DataType.values())
    for graph in graphs_of(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            found = value.type.tensor_type.elem_type
            if found not in known:
                raise ConversionError(f"{path}: {value.name!r} has type {found}, which onnx {onnx.__version__} has not")


def _check_nodes(path: Path, model: onnx.ModelProto) -> None:
    """Refuse operators that lack inputs or outputs: no runtime takes them, and who walks a graph counts on these."""
    for part in (model, *model.functions):
        versions = {"" if is_onnx(entry.domain) else entry.domain: entry.version for entry in part.opset_import}
        for node in nodes_of(part.graph if isinstance(part, onnx.ModelProto) else part):
            domain = "" if is_onnx(node.domain) else node.domain
            try:
                # Within bounds, because a file may claim a version that is no int of C.
                schema = get_schema(node.op_type, min(max(versions.get(domain, 1), 1), onnx_opset_version()), domain)
            except SchemaError:  # an operator of a runtime's own, or of a later onnx
                continue
            for what, found, least in (
                ("inputs", len(node.input), schema.min_input),
                ("outputs", len(node.output), schema.min_output),
            ):
                if found < least:
                    named = f"{node.op_type} {node.name!r} has {found} {what}, expected at least {least}"
                    raise ConversionError(f"{path}: is damaged: {named}; export it again")


def _check_readable(path: Path, tensor: onnx.TensorProto) -> None:
    try:
        onnx.numpy_helper.to_array(tensor)
    # An unknown type and values that are missing or too many raise different classes.
    except Exception as exc:
        problem = f"{tensor.name!r} of type {tensor.data_type} cannot be read"
        raise ConversionError(f"{path}: is damaged: {problem} ({type(exc).__name__}: {exc})") from exc


def size_on_disk(path: Path, model: onnx.ModelProto) -> int:
    """Bytes of a model's file and of the files that it keeps constants in.

    Args:
        path: the file.
        model: as it was read, without external data.
    """
    beside = {
        entry.value
        for graph in graphs_of(model.graph)
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = [path, *(path.parent / name for name in sorted(beside))]
    return sum(file.stat().st_size for file in files if file.exists())


def stored_precision(model: onnx.ModelProto) -> str:
    """The smallest float or quantized type that weights are stored in: `int8`, `float16` or `float32`."""
    kinds = {tensor.data_type for graph in graphs_of(model.graph) for tensor in graph.initializer}
    kinds |= {
        attribute.t.data_type
        for node in nodes_of(model.graph)
        for attribute in node.attribute
        if attribute.HasField("t")
    }
    if kinds & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}:
        return "int8"
    return "float16" if onnx.TensorProto.FLOAT16 in kinds else "float32"


def write_result(path: Path, data: bytes) -> None:
    """Write a result whole or not at all; see `edge_agent.files.plain.write_file`.

    Raises:
        ConversionError: the folder cannot be written.
    """
    try:
        # For others too, such as the user whom the agent runs as.
        write_file(path, data, mode=0o644)
    except OSError as exc:
        raise ConversionError(f"{path}: cannot be written ({exc.strerror})") from exc
