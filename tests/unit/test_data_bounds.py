"""Data files from anybody: what they claim is checked before memory is taken, and all that is wrong is one line."""

from __future__ import annotations

import gzip
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.errors import DataError
from edge_agent.files import csv_rows
from edge_agent.files.archives import ArchiveError, ArrayArchive
from edgetool.data import read_sensor_data
from edgetool.verify.samples import read_samples

MIB = 1 << 20


def npy(shape: str, *, kind: str = "<f8", body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """An array whose header says this, whatever its values are."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version == b"\1\0" else 4, "little") + header + body


def archive(path: Path, /, packed: bool = True, **members: bytes) -> Path:
    """An `.npz` of these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def problem_of(read: Callable[[], object]) -> tuple[str, int]:
    """The text of the error, and the most bytes that were taken until then."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read()
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('a,b\n1,2\n"1,2\n3,4\n', "line 3: a quote is never closed"),
        ('a,asset\n1,x\n2,"y\n3,z\n', "line 3: a quote is never closed"),
        ('"a,b\n1,2\n', "line 1: a quote is never closed"),
        (
            'a,b\n1,2\n"1,2\n' + "1,2\n" * 50_000,
            "line 3: a cell has more than 131072 characters; is a quote never closed?",
        ),
        ('a,asset\n1,"x\ny"\n2,' + "z" * 131_073 + "\n", "line 4: a cell has more than 131072 characters"),
        ("a\n" + "1\n" * 20_000 + '"2', "line 20002: a quote is never closed"),
        ('a,asset\n1,"x\r\ny"\n\nz,\n', "line 5, column 'a': 'z' is not a number"),
        ("a\n" + "z" * 1000 + "\n", f"line 2, column 'a': '{'z' * 80}…' is not a number"),
        ("a" * (1 << 24), "line 1: a cell has more than 131072 characters"),
        (("a" * 100 + ",") * (MIB // 6), "line 1 has more than 16777216 characters"),
        (",".join(f"{n:x}" for n in range(100_001)), "line 1 names 100001 columns, at most 100000 are read"),
    ],
)
def test_what_is_no_csv_is_told_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    """The first two are how a file looks in which somebody typed one quote; the second lost rows without a word."""
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8", newline="")
    found, _ = problem_of(lambda: read_sensor_data(path))
    assert found.startswith(f"{path}: {problem}")
    assert len(found) < 400


@pytest.mark.parametrize("rows", [3, 30_000])
def test_a_byte_that_is_no_text_is_told_with_its_line(tmp_path: Path, rows: int) -> None:
    """Also where the file is decoded a piece at a time."""
    path = tmp_path / "d.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * rows + b"\xff,2\n")
    found, _ = problem_of(lambda: read_sensor_data(path))
    assert found == f"{path}: line {rows + 2} is not text in UTF-8 (invalid start byte)"


def test_a_packed_csv_of_too_many_cells_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    """300 kB on the disk."""
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"a\n1\n") + gzip.compress(b"\n" * 16 * MIB) * 19)
    found, taken = problem_of(lambda: read_sensor_data(path))
    assert found.startswith(f"{path}: unpacks to more than 2147483648 bytes or 300000000 cells; split it")
    assert taken < 8 * MIB


def test_a_packed_csv_of_too_much_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of 8 MB, because unpacking two gigabytes takes seconds."""
    monkeypatch.setattr(csv_rows, "LIMIT_BYTES", 8 * MIB)
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"a\n1\n" + b"1" * 9 * MIB))
    found, _ = problem_of(lambda: read_sensor_data(path))
    assert found.startswith(f"{path}: unpacks to more than 8388608 bytes")


def test_an_honest_packed_csv_of_constant_columns_is_read(tmp_path: Path) -> None:
    """Packed 340 times smaller, as a machine that stands still is."""
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"p,q\n" + b"1.25,-2.5\n" * 400_000))
    data = read_sensor_data(path)
    assert data.values.shape == (400_000, 2)
    assert np.unique(data.values, axis=0).tolist() == [[1.25, -2.5]]


def test_an_honest_packed_array_of_zeros_is_read(tmp_path: Path) -> None:
    """As small as deflate can make anything, in both orders of memory."""
    np.savez_compressed(tmp_path / "c.npz", readings=np.zeros((1_000_000, 4)))
    np.savez(tmp_path / "f.npz", readings=np.asfortranarray([[1, 2, 3], [4, 5, 6]]), asset=np.array(["ä", "b"]))
    assert read_sensor_data(tmp_path / "c.npz").values.shape == (1_000_000, 4)
    data = read_sensor_data(tmp_path / "f.npz")
    assert data.values.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert data.assets == ("ä", "b")


BAD_ARRAYS = [
    (npy("(1099511627776, 4)"), "'readings' is float64 (1099511627776, 4) in 0 bytes, expected 35184372088832"),
    (npy("(2, 2)", body=b"\0" * 40), "'readings' is float64 (2, 2) in 40 bytes, expected 32"),
    (npy("(-1, 4)"), "'readings' has shape (-1, 4)"),
    (npy("(2, 2)", kind="|O", body=b"\0" * 32), "'readings' is object, expected a plain array of numbers or texts"),
    (npy("(1000000000000, 1)", kind="|V0"), "'readings' is |V0, expected a plain array"),
    (npy("(2, 2)", version=b"\3\0"), "'readings' is no array of .npy version 1 or 2"),
    (b"\x93NUMPY\2\0" + b"\xff\xff\xff\x7f" + b" " * 9000, "'readings' has a header of 2147483647 bytes"),
    (b"\x93NUMPY\1\0\4\0((((", "'readings' has a header that is none"),
    (b"PK", "'readings' is no array"),
]


@pytest.mark.parametrize(("content", "problem"), BAD_ARRAYS)
@pytest.mark.parametrize("packed", [True, False])
def test_an_array_that_cannot_be_true_is_refused(tmp_path: Path, content: bytes, problem: str, packed: bool) -> None:
    """In the same words for a table and for samples of a model."""
    path = archive(tmp_path / "d.npz", packed=packed, readings=content)
    for read in (read_sensor_data, lambda path: read_samples(model_of("readings"), path)):
        found, taken = problem_of(lambda read=read: read(path))  # type: ignore[misc]  # bound at once
        assert found.startswith(f"{path}: {problem}")
        assert taken < 8 * MIB


def test_rows_without_columns_are_no_readings(tmp_path: Path) -> None:
    """A million million of them take no memory, and would never end."""
    path = archive(tmp_path / "d.npz", readings=npy("(1000000000000, 0)"))
    found, _ = problem_of(lambda: read_sensor_data(path))
    assert "expected numbers 'readings' of shape (rows, channels), found: readings float64[1000000000000, 0]" in found


def test_an_entry_that_deflate_cannot_reach_is_refused(tmp_path: Path) -> None:
    """The directory says a gigabyte, where some hundred bytes are packed."""
    path = archive(tmp_path / "d.npz", readings=npy("(4, 4)", body=b"\0" * 128))
    content = path.read_bytes()
    size = len(npy("(4, 4)")) + 128
    path.write_bytes(content.replace(size.to_bytes(4, "little"), (1 << 30).to_bytes(4, "little")))
    found, taken = problem_of(lambda: read_sensor_data(path))
    assert "'readings.npy' claims 1073741824 bytes, expected at most" in found
    assert taken < MIB


def test_what_would_unpack_to_more_than_a_year_is_refused(tmp_path: Path) -> None:
    """Counted as float64, which every reading becomes: 2.4 GB of it in 300 kB."""
    rows = 300 * MIB
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as file, file.open("readings.npy", "w") as into:
        into.write(npy(f"({rows}, 1)", kind="|u1"))
        for _ in range(300):
            into.write(b"\0" * MIB)
    found, taken = problem_of(lambda: read_sensor_data(tmp_path / "d.npz"))
    assert found.endswith(
        "d.npz: 'readings' would unpack to more than 2400000000 bytes; store it unpacked, or split it"
    )
    assert taken < 8 * MIB


def test_arrays_are_counted_together(tmp_path: Path) -> None:
    """Each of them is within the limit."""
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros(60), y=np.zeros(60))
    with (tmp_path / "d.npz").open("rb") as file:
        arrays = ArrayArchive(file, limit_bytes=1000)
        assert arrays.read("x").shape == (60,)
        with pytest.raises(ArchiveError, match="'y' would unpack to more than 1000 bytes"):
            arrays.read("y")


def test_other_ways_to_pack_are_refused(tmp_path: Path) -> None:
    """Their ratio has no bound."""
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("readings.npy", npy("(2, 2)", body=b"\0" * 32))
    found, _ = problem_of(lambda: read_sensor_data(tmp_path / "d.npz"))
    assert "'readings.npy' is compressed in a way that is not read here; expected stored or deflated" in found


def test_a_directory_that_is_the_whole_file_is_refused(tmp_path: Path) -> None:
    """Opening it would take ten times its size."""
    path = archive(tmp_path / "d.npz", readings=npy("(2, 2)", body=b"\0" * 32))
    content = path.read_bytes()
    start = content.index(b"PK\1\2")
    entries = content[start : content.index(b"PK\5\6")]
    count = 17 * MIB // len(entries)
    end = b"PK\5\6" + b"\0" * 4 + b"\xff\xff" * 2 + (count * len(entries)).to_bytes(4, "little")
    path.write_bytes(content[:start] + entries * count + end + start.to_bytes(4, "little") + b"\0\0")
    found, taken = problem_of(lambda: read_sensor_data(path))
    assert found.endswith("bytes, at most 16777216 are read")
    assert taken < MIB


@pytest.mark.parametrize(("kind", "code"), [("<U1", b"\xff\xff\xff\x7f"), (">U1", b"\0\0\xd8\0")])
def test_texts_that_are_none_are_told(tmp_path: Path, kind: str, code: bytes) -> None:
    """Four bytes of a numpy text can be a number that is no character, or half of one."""
    asset = npy("(1,)", kind=kind, body=code)
    path = archive(tmp_path / "d.npz", readings=npy("(1, 1)", body=b"\0" * 8), asset=asset)
    found, _ = problem_of(lambda: read_sensor_data(path))
    assert found.startswith(f"{path}: 'asset' holds codes that are no text")


@pytest.mark.parametrize("key", ["a|x", "|x", "1e3|x", "9" * 5000 + "|x", "y"])
def test_keys_of_samples_are_numbers(tmp_path: Path, key: str) -> None:
    """Anything else ended in a traceback."""
    archive(tmp_path / "d.npz", True, **{key: npy("(1, 2)", kind="<f4", body=b"\0" * 8)})
    found, _ = problem_of(lambda: read_samples(model_of("x"), tmp_path / "d.npz"))
    assert "expected the model's inputs: x" in found


def test_a_damaged_file_of_samples_is_told(tmp_path: Path) -> None:
    """As one of readings is."""
    np.savez_compressed(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[200] ^= 255
    (tmp_path / "d.npz").write_bytes(content)
    found, _ = problem_of(lambda: read_samples(model_of("x"), tmp_path / "d.npz"))
    assert found.startswith(f"{tmp_path / 'd.npz'}: is not an .npz of plain arrays (")


def model_of(name: str) -> onnx.ModelProto:
    """A model with one input."""
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    return helper.make_model(helper.make_graph([helper.make_node("Abs", [name], ["y"])], "g", [value], [made]))
