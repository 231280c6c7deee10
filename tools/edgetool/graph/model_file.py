"""Tells a file that can be an ONNX model from one that cannot, by the parts that it has, without reading these."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

from onnx import serialization

from edge_agent.errors import ConversionError
from edgetool.graph.boosters import booster_of

__all__ = ["SAVED_BY", "check_file"]

_LIMIT_BYTES = 1 << 31
"""Protobuf reads less."""
_PARTS_LIMIT = 100_000
"""Of a model's own parts: versions, names, the graph, functions, notes. Constants and nodes are inside the graph."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_GRAPH = 7
_EXPORT = "make an ONNX model of it: edgetool export, or a bundle at once: edgetool pack"
_CHECKPOINT = (
    "is a checkpoint, which holds weights without the module that they are for; edgetool export model.py:factory "
    "--weights FILE makes an ONNX model of both"
)
_HDF5 = (
    "was saved by Keras in its former format, or holds weights alone; save the model anew where Keras is: "
    "keras.saving.load_model('model.h5', compile=False).save('model.keras'), which edgetool export takes"
)
SAVED_BY = {
    **dict.fromkeys((".skops", ".pkl", ".pickle", ".joblib"), f"was saved by scikit-learn; {_EXPORT}"),
    **dict.fromkeys((".pt", ".pth", ".pt2"), f"was saved by PyTorch; {_EXPORT}"),
    **dict.fromkeys((".ckpt", ".safetensors"), _CHECKPOINT),
    ".py": "is a Python module; name what makes the model in it, a function or a class: edgetool export model.py:NAME",
    ".keras": f"was saved by Keras; {_EXPORT}",
    **dict.fromkeys((".h5", ".hdf5"), _HDF5),
}
"""By its ending, what a file of another framework is, and the way to ONNX."""


def check_file(path: Path) -> None:
    """Refuse what is no ONNX model before it takes as much memory as it has bytes.

    Args:
        path: the file; one in a text format, which its ending says, is only held against the size.

    Raises:
        ConversionError: it is no ONNX model.
        FileNotFoundError: it is missing.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if whose := booster_of(path):
        raise ConversionError(f"{path}: was saved by {whose}; {_EXPORT}")
    if not path.is_file():
        problem = "it is no regular file"
    elif size >= _LIMIT_BYTES:
        problem = f"it has {size} bytes, and one ONNX file less than {_LIMIT_BYTES}; larger weights lie beside it"
    elif serialization.registry.get_format_from_file_extension(path.suffix) in (None, "protobuf"):
        with path.open("rb") as file:
            problem = _problem(file, size)
    else:
        problem = ""
    if problem and path.suffix.lower() in SAVED_BY:
        raise ConversionError(f"{path}: {SAVED_BY[path.suffix.lower()]}")
    if problem and path.is_file() and zipfile.is_zipfile(path):
        raise ConversionError(f"{path}: is an archive; a bundle has model.onnx in it")
    if problem:
        raise ConversionError(f"{path}: is not an ONNX model ({problem})")


def _problem(file: BinaryIO, size: int) -> str:
    """What is wrong with a file as a sequence of protobuf's fields; empty when nothing is."""
    kinds: set[int] = set()
    for _ in range(_PARTS_LIMIT):
        start = file.tell()
        if start == size:
            return "" if _GRAPH in kinds else "it has no graph"
        tag = _varint(file)
        length = _varint(file) if tag & 7 in (_VARINT, _BYTES) else _SIZES.get(tag & 7, -1)
        end = file.tell() + (0 if tag & 7 == _VARINT else length)
        if tag >> 3 == 0 or length < 0 or end > size:
            return f"what is at byte {start} is no part of a model"
        kinds.add(tag >> 3)
        file.seek(end)
    return f"it has more than {_PARTS_LIMIT} parts"


def _varint(file: BinaryIO) -> int:
    """A number of seven bits a byte, the lowest first; -1 where the file ends in it, or it is too long."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return -1
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return -1
