"""What is no ONNX model is told before it is read, however large it is."""

from __future__ import annotations

import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import canonical_model
from onnx import numpy_helper

from edge_agent.errors import ConversionError
from edgetool.graph.onnx_file import load_model
from edgetool.graph.weights import WeightStore, read_light

MIB = 1 << 20


def sparse(path: Path, size: int, begin: bytes = b"") -> Path:
    """A file of this size that takes no room."""
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("size", "begin", "problem"),
    [
        (0, b"", "it has no graph"),
        (3 << 30, b"", "it has 3221225472 bytes, and one ONNX file less than 2147483648"),
        (1 << 30, b"", "what is at byte 0 is no part of a model"),
        (1 << 30, b"\x08\x08\x3a\xff\xff\xff\xff\x0f", "what is at byte 2 is no part of a model"),
        (1 << 30, b"\x08\x08", "what is at byte 2 is no part of a model"),
        (4, b"\x08\x08\x10\x01", "it has no graph"),
        (11, b"\x08" + b"\xff" * 10, "what is at byte 0 is no part of a model"),
        (1000, b"hello, this is a text", "what is at byte 2 is no part of a model"),
    ],
)
def test_garbage_takes_no_memory(tmp_path: Path, size: int, begin: bytes, problem: str) -> None:
    """Three gigabytes took three gigabytes."""
    path = sparse(tmp_path / "m.onnx", size, begin)
    tracemalloc.start()
    try:
        for external in (True, False):
            with pytest.raises(ConversionError) as caught:
                load_model(path, external=external)
            assert f"{path}: is not an ONNX model ({problem}" in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_file_of_small_parts_is_not_gone_through_to_its_end(tmp_path: Path) -> None:
    """A model has some hundreds; what it is made of is inside one of them."""
    with pytest.raises(ConversionError, match="it has more than 100000 parts"):
        load_model(sparse(tmp_path / "m.onnx", 1 << 30, b"\x08\x01" * 100_000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody may ever write into it."""
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(ConversionError, match="it is no regular file"):
        load_model(tmp_path / "m.onnx")


def test_a_large_bundle_is_known_for_an_archive(tmp_path: Path) -> None:
    """By its directory, not by what is in it."""
    with zipfile.ZipFile(tmp_path / "b.edge", "w") as archive:
        archive.writestr("model.onnx", canonical_model())
    with pytest.raises(ConversionError, match=r"is an archive; a bundle has model\.onnx in it"):
        load_model(tmp_path / "b.edge")


def test_a_model_is_read_in_any_format_that_onnx_knows(tmp_path: Path) -> None:
    """The ending says which."""
    model = onnx.load_from_string(canonical_model())
    for name in ("m.onnx", "m", "m.json", "m.textproto"):
        onnx.save(model, tmp_path / name)
        assert load_model(tmp_path / name).graph.output[0].name == model.graph.output[0].name


@pytest.mark.parametrize("location", ["gone.bin", "../m/weights.bin"])
def test_weights_that_are_not_beside_the_model_are_told(tmp_path: Path, location: str) -> None:
    """In the same words by every command, and not as if this were no model."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.bin").write_bytes(b"\0" * 64)
    (tmp_path / "n").mkdir()
    model = onnx.load_from_string(canonical_model())
    tensor = numpy_helper.from_array(np.zeros(16, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, location=location)
    tensor.ClearField("raw_data")
    model.graph.initializer.append(tensor)
    path = tmp_path / "n" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    for read in (load_model, lambda path: read_light(path, WeightStore(tmp_path))):
        with pytest.raises(ConversionError) as caught:
            read(path)
        assert f"{path}: tensor 'w' cannot be read: " in str(caught.value)
        assert str(caught.value).endswith("copy the model together with the files beside it that hold its weights")
