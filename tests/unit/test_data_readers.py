"""Arrow's reader and our own: the same rows and the same words, whatever the file."""

from __future__ import annotations

import gzip
import importlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.data_files import Columns, DataFiles, SensorData, fast_text, open_data, read_sensor_data
from edge_agent.data_files import text as text_reader
from edge_agent.data_files.fast_text import FastText
from edge_agent.errors import DataError

Found = tuple[object, ...]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of some rows, so that small files have several."""
    importlib.import_module("pyarrow")  # without it, our own reader would be compared with itself
    monkeypatch.setattr(fast_text, "_CHUNK_BYTES", 200)
    monkeypatch.setattr(text_reader, "LOOKED_AT", 5)


def without_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FastText, "of_installed", lambda _path: None)


def read(path: Path, columns: Columns | None = None) -> Found:
    """All of a file, as what can be compared; or the error's text."""
    try:
        data = read_sensor_data(DataFiles((path,), columns or Columns()))
    except DataError as exc:
        return (str(exc),)
    parts = (data.values, data.times, data.labels)
    return (data.channels, data.assets, data.ignored, *(None if part is None else part.tobytes() for part in parts))


def by_both(path: Path, columns: Columns | None = None) -> tuple[Found, Found]:
    with pytest.MonkeyPatch.context() as patch:
        fast = read(path, columns)
        without_arrow(patch)
        return fast, read(path, columns)


def chunks_read_fast(path: Path, columns: Columns | None = None) -> int:
    """How many blocks Arrow has given."""
    count = 0
    with pytest.MonkeyPatch.context() as patch:
        own = FastText._read

        def counted(reader: FastText, chunk: bytes, plan: object) -> SensorData | None:
            nonlocal count
            block = own(reader, chunk, plan)  # type: ignore[arg-type]
            count += block is not None
            return block

        patch.setattr(FastText, "_read", counted)
        read(path, columns)
    return count


PLAIN = "time,asset,p,q,label\n" + "".join(f"{1000 + n},m{n % 3},{n / 7!r},{-n / 3!r},{n % 2}\n" for n in range(200))
ISO = "time,p\n" + "".join(f"2026-11-21T10:{n:02d}:00.{n:03d}Z,{n}\n" for n in range(60))
GAPS = "time,p,q\n" + "".join(f"{n},{'' if n % 3 else n},{'' if n % 5 else n}\n" for n in range(100))


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        ISO,
        ISO.replace("Z,", "+02:00,"),
        ISO.replace("Z,", ","),
        ISO.replace("T", " "),
        GAPS,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("time,asset,p", '"time","asset","p, x"'),
        "\ufeff" + PLAIN,
    ],
    ids=["plain", "utc", "zone", "no zone", "blank", "gaps", "crlf", "quoted names", "marked"],
)
def test_a_tidy_file_is_read_by_arrow_alone_and_the_same_to_the_last_bit(tmp_path: Path, text: str) -> None:
    """Numbers of all digits, times in both forms, assets, missing values."""
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8", newline="")
    fast, own = by_both(path)
    assert fast == own
    assert len(own) > 1
    assert chunks_read_fast(path) >= 3


LONG = "p,q\n" + "1,2\n" * 200
"""Several chunks in front of what is odd."""
ODD = {
    "a quoted cell": '3,4\n"5",6\n7,8\n',
    "a quoted line end": '3,4\n"5\n",6\n7,8\n',
    "a quote that is never closed": '3,4\n"5,6\n7,8\n',
    "a short row": "3,4\n5\n7,8\n",
    "a long row": "3,4\n5,6,7\n7,8\n",
    "empty lines": "3,4\n\n\n5,x\n",
    "an empty line at the end": "3,4\n\n",
    "old line ends": "3,4\r5,6\r7,8",
    "mixed line ends": "3,4\r\n5,6\n\r\n7,8\r9,x\n",
    "no end": "3,4",
    "a text": "3,x\n",
    "a number for Python only": "3,1_0\n",
    "hexadecimal": "3,0x10\n",
    "a plus sign": "+3,4\n",
    "blanks": " 3 , 4\n5 ,\t6\n",
    "blanks alone": "3, \n",
    "an odd blank": "3,4\u00a0\n",
    "too large": "3,1e39\n",
    "far too large": "3,1e400\n",
    "infinite": "3,inf\n",
    "no number": "3,nan\n4,NaN\n5,-nan\n",
    "a payload of no number": "3,nan(1)\n",
    "null": "3,null\n",
    "true": "3,true\n",
    "a suffix": "3,1.5f\n",
    "a decimal comma": '3,"1,5"\n',
    "other digits": "3,\u0661\u0662\n",
    "ends of numbers": "3.,.5\n-0,1e-400\n5e-324,1.7976931348623157e-5\n",
    "a zero byte": "3,4\0\n",
    "a byte order mark in the middle": "\ufeff3,4\n",
    "a broken letter": "3,4\n5,\udcff6\n7,8\n",
}


@pytest.mark.parametrize("name", list(ODD))
@pytest.mark.parametrize("before", [LONG, "p,q\n", "\ufeffp,q\n1,2\n"], ids=["late", "at once", "marked"])
def test_an_odd_file_gives_the_same_with_and_without_arrow(tmp_path: Path, name: str, before: str) -> None:
    """Rows, or the text of the error with its line."""
    path = tmp_path / "d.csv"
    path.write_text(before + ODD[name], encoding="utf-8", errors="surrogateescape", newline="")
    fast, own = by_both(path)
    assert fast == own


@pytest.mark.parametrize(
    "row",
    [
        "noon,a,1,0",
        ",a,1,0",
        "nan,a,1,0",
        "1763700000000,a,1,0",
        "-1,a,1,0",
        "2026-11-21,a,1,0",
        "2026-11-21 10,a,1,0",
        "20261121T100000Z,a,1,0",
        "2026-W47-6,a,1,0",
        "2026-11-21T24:00:00Z,a,1,0",
        "2026-11-21T10:00:60Z,a,1,0",
        "2026-11-21T10:00:00.123456789Z,a,1,0",
        "2026-11-21T10:00:00+25:00,a,1,0",
        "2026-11-21T10:00:00-0130,a,1,0",
        "9999-12-31T23:59:59Z,a,1,0",
        "0001-01-01T00:00:00Z,a,1,0",
        "5,\u00e4 \u00df,1,1",
        "5, a ,1,",
        "5,,1,nan",
        "5,\u2003,1,1.0",
        "5,a,1,2",
        "5,a,1,x",
    ],
)
def test_odd_times_assets_and_labels_are_the_same_with_and_without_arrow(tmp_path: Path, row: str) -> None:
    """Behind rows with numbers for times and behind rows with texts, and in front of them."""
    path = tmp_path / "d.csv"
    for time in ("5", "2026-11-21T10:00:00Z", "2026-11-21 10:00:00.5"):
        rows = [f"{time},b,1.5,0"] * 9
        for lines in ([*rows, row, *rows], [row, *rows], [row]):
            path.write_text("time,asset,p,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
            fast, own = by_both(path)
            assert fast == own


@pytest.mark.parametrize(
    "text", ["p\n1\n\n2\n", "p\n\n1\n" + "2\n" * 50, "p\n" + "1\n" * 50 + "\r\n3\r\n", "p\n \n1\n"]
)
def test_an_empty_line_of_one_column_is_none_of_its_rows(tmp_path: Path, text: str) -> None:
    """For Arrow it would be a missing value."""
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8", newline="")
    fast, own = by_both(path)
    assert fast == own


CELLS = st.one_of(
    st.floats(allow_nan=False, width=64).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.text(alphabet="0123456789+-.eE nai_fx\t\"'", max_size=8),
    st.from_regex(r"[-+]?[0-9]{0,25}\.?[0-9]{0,25}(e[-+]?[0-9]{1,3})?", fullmatch=True),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12))
def test_any_cells_are_the_same_with_and_without_arrow(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    """Made up."""
    path = tmp_path / "d.csv"
    path.write_text("p,q\n" + "".join(f"{p},{q}\n" for p, q in rows), encoding="utf-8", newline="")
    fast, own = by_both(path)
    assert fast == own


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=120).map(lambda tail: b"p,q\n1,2\n3,4\n" + tail))
def test_any_bytes_are_the_same_with_and_without_arrow(tmp_path: Path, content: bytes) -> None:
    """Made up."""
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    fast, own = by_both(path)
    assert fast == own


def test_a_cell_that_is_too_long_is_told_with_arrow_too(tmp_path: Path) -> None:
    """Arrow would take it for the number that it is."""
    path = tmp_path / "d.csv"
    path.write_text("p,q\n1,2\n3,0." + "0" * 131_072 + "1\n4,5\n", encoding="ascii")
    fast, own = by_both(path)
    assert fast == own == (f"{path}: line 3: a cell has more than 131072 characters; is a quote never closed?",)


def test_only_named_columns_are_read(tmp_path: Path) -> None:
    """What is in the others does not matter; in our own reader neither."""
    path = tmp_path / "d.csv"
    path.write_text("p,state,q\n" + "1,RUN,2\n" * 40 + "3,7e999,4\n", encoding="ascii")
    columns = Columns(channels=("q", "p"))
    fast, own = by_both(path, columns)
    assert fast == own
    data = read_sensor_data(DataFiles((path,), columns))
    assert data.values[-1].tolist() == [4, 3]
    assert data.ignored == ("state",)
    assert chunks_read_fast(path, columns) > 1


def test_a_packed_file_is_read_by_arrow(tmp_path: Path) -> None:
    """As a stream, and from the middle on by our own reader."""
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress((LONG + '3,4\n"5",6\n7,8\n').encode()))
    fast, own = by_both(path)
    assert fast == own
    assert chunks_read_fast(path) > 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("tail", ["", '"7",8\n'])
def test_a_pipe_is_read_once(tmp_path: Path, tail: str) -> None:
    """What was looked at cannot be read again."""
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text(LONG + tail, encoding="ascii"))
    writer.start()
    data = read_sensor_data(path)
    writer.join()
    assert len(data) == 200 + bool(tail)


def test_blocks_are_read_as_they_are_used(tmp_path: Path) -> None:
    """Of a long file, only some blocks are in memory."""
    path = tmp_path / "d.csv"
    path.write_text("p,q\n" + "1,2\n" * 5000, encoding="ascii")
    begun = 0
    with pytest.MonkeyPatch.context() as patch:
        own = fast_text.read_chunk

        def counted(content: object) -> bytes:
            nonlocal begun
            begun += 1
            return own(content)  # type: ignore[arg-type]

        patch.setattr(fast_text, "read_chunk", counted)
        with open_data(DataFiles((path,))) as stream:
            next(stream.blocks())
    assert begun < 12


def test_numbers_are_the_nearest_ones(tmp_path: Path) -> None:
    """To the last bit, as Python reads them."""
    values = np.random.default_rng(0).normal(size=(500, 2)) * 10.0 ** np.random.default_rng(1).integers(
        -30, 30, (500, 2)
    )
    path = tmp_path / "d.csv"
    path.write_text("p,q\n" + "".join(f"{p!r},{q!r}\n" for p, q in values.tolist()), encoding="ascii")
    np.testing.assert_array_equal(read_sensor_data(path).values, values)
    assert chunks_read_fast(path) > 10
