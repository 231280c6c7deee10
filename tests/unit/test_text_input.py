"""Files and pipes as a source: lines become the messages that they stand for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.agent.routing import Routes
from edge_agent.errors import DataError
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic_names import TopicFilter, input_topic
from edge_agent.sources.decode import Decoder
from edge_agent.sources.text_input import TextInput

ROUTES = Routes([SimpleNamespace(filters=TopicFilter(input_topic("s", "{asset}")))])  # type: ignore[list-item]


def everything(source: TextInput, limit: int = 100) -> list[Delivery]:
    """All that a file has."""
    found: list[Delivery] = []
    while not source.ended:
        found += source.take(limit)
    source.close()
    return found


def of(tmp_path: Path, text: str | bytes, limit: int = 100) -> list[tuple[str, object]]:
    """(asset, payload) pairs of a file with this text."""
    file = tmp_path / "lines"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assets = []
    for delivery in everything(TextInput("s", str(file)), limit):
        assert ROUTES.find(delivery.topic) is not None
        assets.append((delivery.topic.asset, json.loads(delivery.payload)))
    return assets


def routed(file: Path, limit: int = 100) -> list[Delivery]:
    """All that a file has and that has an asset, as the decoder gets it."""
    return [line for line in everything(TextInput("s", str(file)), limit) if ROUTES.find(line.topic) is not None]


def test_rows_become_objects(tmp_path: Path) -> None:
    """Empty cells are missing, the asset becomes the topic's, blank lines and a byte-order mark do not matter."""
    text = "\ufefftime,asset,c1,c2\n1.5,a7,1,\n\n2026-01-01T00:00:00Z,a8,2, 3 \r\n"
    assert of(tmp_path, text) == [
        ("a7", {"time": 1.5, "c1": 1.0}),
        ("a8", {"time": "2026-01-01T00:00:00Z", "c1": 2.0, "c2": 3.0}),
    ]


def test_json_lines_are_what_they_are(tmp_path: Path) -> None:
    """With the asset that they name; the last line needs no end."""
    text = '{"asset": "p1", "c1": 1}\n{"c1": 2}\n[{"c1": 3}]'
    assert of(tmp_path, text) == [("p1", {"asset": "p1", "c1": 1}), ("a1", {"c1": 2}), ("a1", [{"c1": 3}])]


def test_every_reading_goes_to_its_own_asset(tmp_path: Path) -> None:
    """A number is a name, as in a CSV; an array of several assets is taken apart; what is no name names nothing."""
    array = '[{"asset": "b", "c1": 2}, {"asset": "c", "c1": 3}, {"c1": 4}]'
    text = f'{{"asset": 7, "c1": 1}}\n{array}\n{{"asset": null, "c1": 5}}\n'
    assert of(tmp_path, text) == [
        ("7", {"asset": 7, "c1": 1}),
        ("b", {"asset": "b", "c1": 2}),
        ("c", {"asset": "c", "c1": 3}),
        ("a1", {"c1": 4}),
        ("a1", {"asset": None, "c1": 5}),
    ]
    (tmp_path / "lines").write_text('{"asset": [7], "c1": 1}\n{"asset": 1.5, "c1": 1}\n{"asset": true, "c1": 1}\n')
    assert routed(tmp_path / "lines") == []
    (tmp_path / "rows").write_text("time,asset,c1\n1,,1\n2, ,1\n")
    assert routed(tmp_path / "rows") == []


def test_each_writer_of_a_pipe_may_have_its_own_order(tmp_path: Path) -> None:
    """Its header says so."""
    text = "time,asset,c1,c2\n1,a,1,2\ntime,asset,c2,c1\n2,a,4,0\n"
    assert of(tmp_path, text) == [("a", {"time": 1, "c1": 1, "c2": 2}), ("a", {"time": 2, "c1": 0, "c2": 4})]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,2,3", "wrong_length"),
        ("x,y", "unreadable"),
        ('"1,2', "wrong_length"),
        ("\xff\xfe", "not_json"),
        (",", "no_channel"),
        ("5", "wrong_length"),
        ("a,b,c,d", "wrong_length"),
    ],
)
def test_bad_rows_are_rejected_by_the_decoder(tmp_path: Path, row: str, reason: str) -> None:
    """And the good one after it counts."""
    file = tmp_path / "rows.csv"
    file.write_bytes(f"c1,c2\n{row}\n5,6\n".encode("latin-1"))
    readings, rejections = Decoder(["c1", "c2"]).decode(routed(file), 0.0)
    assert readings.values.tolist() == [[5.0, 6.0]]
    assert [rejection.reason for rejection in rejections] == [reason]


@pytest.mark.parametrize("cell", ["x", "nan", "inf", "-Infinity", "1_000", "1e39"])
def test_a_cell_that_is_no_number_is_missing_and_counted(tmp_path: Path, cell: str) -> None:
    """Also NaN, for which JSON would have null, that nobody counts."""
    file = tmp_path / "rows.csv"
    file.write_text(f"c1,c2\n1,{cell}\n5,6\n")
    decoder = Decoder(["c1", "c2"])
    readings, rejections = decoder.decode(routed(file), 0.0)
    assert not rejections
    np.testing.assert_array_equal(readings.values, [[1, np.nan], [5, 6]])
    assert decoder.unreadable.describe() == {"c2": 1}


def test_a_line_with_nan_is_of_its_own_asset(tmp_path: Path) -> None:
    """Though it is no JSON."""
    (tmp_path / "lines").write_text('{"asset": "b", "c1": NaN, "c2": 1}\n[{"asset": "c", "c1": nan}, {"asset": "d"}]\n')
    assert [item.topic.asset for item in routed(tmp_path / "lines")] == ["b", "c", "d"]


@pytest.mark.parametrize("row", ["1763700000,a7", "1763700000,a7,5", "1763700000,a7,5,6,7"])
def test_a_row_of_another_length_is_never_a_reading(tmp_path: Path, row: str) -> None:
    """Not even one that has as many cells as there are channels, which a torn line may have."""
    file = tmp_path / "rows.csv"
    file.write_text(f"time,asset,c1,c2\n{row}\n")
    readings, rejections = Decoder(["c1", "c2"]).decode(routed(file), 0.0)
    assert len(readings) == 0
    assert [rejection.reason for rejection in rejections] == ["wrong_length"]
    assert row.encode() in rejections[0].payload


def test_a_header_that_comes_again_is_no_row(tmp_path: Path) -> None:
    """As when two files go through one pipe."""
    assert of(tmp_path, "c1,c2\n1,2\nc1,c2\n3,4\n") == [("a1", {"c1": 1.0, "c2": 2.0}), ("a1", {"c1": 3.0, "c2": 4.0})]


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path) -> None:
    """It is rejected once, as too large."""
    file = tmp_path / "long"
    file.write_bytes(b'{"c1": 1}\n{"c1": ' + b"9" * 5_000_000 + b'}\n{"c1": 2}\n')
    lines = everything(TextInput("s", str(file)))
    assert [len(line.payload) > 1 << 20 for line in lines] == [False, True, False]
    assert max(len(line.payload) for line in lines) < 2_000_000


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=20)), st.integers(1, 7))
def test_no_text_stops_it(tmp_path_factory: pytest.TempPathFactory, lines: list[str], limit: int) -> None:
    """Whatever the lines are, in pieces of any size."""
    file = tmp_path_factory.mktemp("lines") / "any"
    file.write_text("\n".join(lines), encoding="utf-8")
    Decoder(["c1"]).decode(routed(file, limit), 0.0)


def test_a_named_pipe_does_not_end(tmp_path: Path) -> None:
    """Writers come and go; a line may come in pieces."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = TextInput("s", str(pipe))
    assert source.take(10) == []
    for piece in (b'{"c1"', b': 1}\n{"c1": 2}\n'):
        with pipe.open("wb") as writer:
            writer.write(piece)
        lines = source.take(10)
    assert [line.payload for line in lines] == [b'{"c1": 1}', b'{"c1": 2}']
    assert not source.ended
    assert source.readers()
    source.close()


def test_what_looks_compressed_in_the_middle_of_a_pipe_is_a_bad_line(tmp_path: Path) -> None:
    """No reading stops the agent; only an input that begins so is a mistake."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = TextInput("s", str(pipe))
    for piece in (b'{"c1": 1}\n', b"\x1f\x8bgarbage\n"):
        with pipe.open("wb") as writer:
            writer.write(piece)
        lines = source.take(10)
    assert [line.payload for line in lines] == [b"\x1f\x8bgarbage"]
    source.close()


def test_a_file_that_is_not_there_is_told() -> None:
    """With its name."""
    with pytest.raises(DataError, match="input /nonexistent/x: cannot be read"):
        TextInput("s", "/nonexistent/x")


def test_a_row_that_was_cut_off_is_no_reading(tmp_path: Path) -> None:
    """Also when it has as many cells as the stream has channels: no value may be made up."""
    file = tmp_path / "rows.csv"
    file.write_bytes(b"time,asset,c1,c2\n1,a1,5,6\n2,a1\n")
    readings, rejections = Decoder(["c1", "c2"]).decode(routed(file), 0.0)
    assert readings.values.tolist() == [[5.0, 6.0]]
    assert [(rejection.reason, b"a1" in rejection.payload) for rejection in rejections] == [("wrong_length", True)]


def test_half_a_surrogate_pair_names_no_asset(tmp_path: Path) -> None:
    """JSON can hold it and UTF-8 cannot: the line is the decoder's to reject, and no name that nobody can write."""
    file = tmp_path / "lines"
    file.write_bytes(b'{"asset": "\\ud800", "p": 1}\n{"asset": "b", "p": 2}\n')
    lines = routed(file)
    assert [line.topic.asset for line in lines] == ["a1", "b"]
    readings, rejections = Decoder(["p"]).decode(lines, 0.0)
    assert (readings.assets, [rejection.payload for rejection in rejections]) == (["b"], [lines[0].payload])


def test_json_lines_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """They are no header of a CSV file for that."""
    assert of(tmp_path, '\ufeff{"c1": 1}\n{"c1": 2}\n') == [("a1", {"c1": 1}), ("a1", {"c1": 2})]


@pytest.mark.parametrize("asset", ["line #3", "pump+1", "#"])
def test_an_asset_that_no_topic_can_name_is_not_taken(tmp_path: Path, asset: str) -> None:
    """Its alerts could not be published; so its readings are rejected, which is told."""
    file = tmp_path / "rows.csv"
    file.write_text(f"asset,c1\n{asset},1\n")
    assert routed(file) == []


def test_a_folder_is_no_input(tmp_path: Path) -> None:
    """It can be opened, but not read."""
    with pytest.raises(DataError, match="it is a folder"):
        TextInput("s", str(tmp_path))


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is that of another file by now, such as one of the agent's own sockets."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="input -: cannot be read"):
        TextInput("s", "-")


def test_an_input_that_breaks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a terminal that was hung up, or a disk with an error."""

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    (tmp_path / "rows.csv").write_text("c1\n1\n")
    source = TextInput("s", str(tmp_path / "rows.csv"))
    monkeypatch.setattr("os.read", broken)
    with pytest.raises(DataError, match=r"rows\.csv: cannot be read \(Input"):
        source.take(10)
    source.close()
