"""Large constants, kept in one file beside the models that are tried, so that a hundred candidates cost no memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edgetool.graph.onnx_file import external_error, load_model, size_on_disk
from edgetool.graph.walks import bytes_of, tensors_of

__all__ = ["WeightStore", "load_light", "read_light", "size_of", "tensors_of", "to_bytes", "whole_model"]

_LARGE_BYTES = 128 << 10
_ALIGNMENT = 4096
"""Alignment of a tensor in the file: the runtime maps the file into memory by pages."""
_FILE = "weights.bin"
_PROTOBUF_LIMIT_BYTES = (2 << 30) - (64 << 20)
"""Largest bytes of constants in one file, with room for all else."""


class WeightStore:
    """Puts large tensors into a file, and gets their values back.

    Args:
        folder: where the file is; models that refer to it must be written there too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _FILE
        self._end = 0
        self._saved = 0

    def values(self, tensor: onnx.TensorProto) -> NDArray[Any]:
        """The tensor's values; read-only."""
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return onnx.numpy_helper.to_array(tensor)
        offset = int(next(entry.value for entry in tensor.external_data if entry.key == "offset"))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.memmap(self._path, dtype=dtype, mode="r", offset=offset, shape=tuple(tensor.dims))

    def tensor(self, values: NDArray[Any], name: str = "") -> onnx.TensorProto:
        """A tensor of these values, in the file when it is large."""
        if values.nbytes < _LARGE_BYTES:
            return onnx.numpy_helper.from_array(np.asarray(values), name)
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype),
            dims=values.shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        with self._path.open("ab") as file:
            file.write(b"\0" * (-self._end % _ALIGNMENT))
            offset = self._end + -self._end % _ALIGNMENT
            np.ascontiguousarray(values).tofile(file)
        self._end = offset + values.nbytes
        for key, value in (("location", _FILE), ("offset", str(offset)), ("length", str(values.nbytes))):
            tensor.external_data.add(key=key, value=value)
        return tensor

    def save(self, model: onnx.ModelProto, name: str) -> Path:
        """Write a model that refers to the store, for a child process to run.

        Every call gives a path of its own, because the child keeps what it has open by path.

        Raises:
            ConversionError: what is not in the store is larger than protobuf allows.
        """
        self._saved += 1
        path = self.folder / f"{self._saved}-{name}"
        path.write_bytes(to_bytes(model, path))
        return path


def read_light(path: Path, store: WeightStore) -> tuple[onnx.ModelProto, int]:
    """A model with its large constants in a store, and the bytes of its files.

    Raises:
        ConversionError: it is missing, no ONNX model, or its external data cannot be read.
    """
    loaded = load_model(path, external=False)
    size = size_on_disk(path, loaded)
    return load_light(path, loaded, store), size


def load_light(path: Path, model: onnx.ModelProto, store: WeightStore) -> onnx.ModelProto:
    """A copy of a model whose large constants are in a store.

    Args:
        path: the model's file, beside which its external data are.
        model: as it was read, without external data; it is emptied of its large tensors.
        store: takes them.

    Raises:
        ConversionError: external data are missing, or lie outside of the model's folder.
    """
    for tensor in tensors_of(model):
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and (len(tensor.raw_data) or 8 * math.prod(tensor.dims)) < _LARGE_BYTES:
            continue
        try:
            values = onnx.numpy_helper.to_array(tensor, str(path.parent))
        # A missing file, one outside of the folder and one that is too short raise different classes.
        except Exception as exc:
            if external:
                raise external_error(path, tensor.name, exc) from exc
            raise ConversionError(f"{path}: tensor {tensor.name!r} cannot be read: {exc}") from exc
        if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
            # Text, bfloat16, and types of less than a byte: in the model, as protobuf has them.
            if external:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
                tensor.ClearField("data_location")
                del tensor.external_data[:]
            continue
        tensor.CopyFrom(store.tensor(values, tensor.name))
    # protobuf gives memory back with the whole message only.
    light = onnx.ModelProto()
    light.CopyFrom(model)
    return light


def size_of(model: onnx.ModelProto, store: WeightStore) -> int:
    """Bytes of the self-contained file, without making it."""
    total = int(model.ByteSize())
    for tensor in tensors_of(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            total += store.values(tensor).nbytes
    return total


def whole_model(model: onnx.ModelProto, store: WeightStore) -> bytes:
    """The bytes of one self-contained file.

    Raises:
        ConversionError: it would be larger than protobuf allows.
    """
    size = size_of(model, store)
    if size > _PROTOBUF_LIMIT_BYTES:
        raise ConversionError(f"the result would have about {size >> 20} MB, one ONNX file holds less than 2048")
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for tensor in tensors_of(whole):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raw = store.values(tensor).tobytes()
            tensor.ClearField("data_location")
            del tensor.external_data[:]
            tensor.raw_data = raw
    return bytes(whole.SerializeToString(deterministic=True))


def to_bytes(model: onnx.ModelProto, path: Path) -> bytes:
    """A model as one file; constants that are in other files stay there.

    Args:
        model: any model.
        path: what the error calls it.

    Raises:
        ConversionError: it would be larger than protobuf allows.
    """
    inside = (tensor for tensor in tensors_of(model) if tensor.data_location != onnx.TensorProto.EXTERNAL)
    size = sum(bytes_of(tensor) for tensor in inside)
    problem = f"{path}: has {size >> 20} MB of constants, and one ONNX file holds less than 2048"
    if size > _PROTOBUF_LIMIT_BYTES:
        raise ConversionError(f"{problem}; edgetool quantize makes it smaller")
    try:
        return bytes(model.SerializeToString(deterministic=True))
    # protobuf's error has no import path that stays between versions.
    except Exception as exc:
        raise ConversionError(f"{problem} ({exc})") from exc
