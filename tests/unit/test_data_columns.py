"""Which column is the time, the asset and a channel: said by options, never guessed."""

from __future__ import annotations

import datetime as dt
import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.data_files import Columns, DataFiles, SensorData, read_sensor_data
from edge_agent.errors import DataError, MissingExtraError, UsageError


def read(path: Path, columns: Columns | None = None) -> SensorData:
    return read_sensor_data(DataFiles((path,), columns or Columns()))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problem_of(path: Path, columns: Columns | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(path, columns)
    return str(caught.value).removeprefix(f"{path}: ")


HISTORIAN = "timestamp,machine,a,b,ok\n2026-01-01 00:00:00,m1,1,2,0\n2026-01-01 00:00:01,m2,3,4,1\n"


def test_columns_of_other_names_are_read(tmp_path: Path) -> None:
    """As plants and pandas write them."""
    path = write(tmp_path / "d.csv", HISTORIAN)
    data = read(path, Columns(time="timestamp", asset="machine", label="ok"))
    assert data.channels == ("a", "b")
    assert data.times is not None
    assert data.times.tolist() == [1767225600.0, 1767225601.0]
    assert data.assets == ("m1", "m2")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]


TIME = "looks like the time of the rows; did you mean 'time'? Give --time-column"
ASSET = "looks like the asset of the rows; did you mean 'asset'? Give --asset-column"


@pytest.mark.parametrize("columns", [Columns(), Columns(channels=("a", "b"))])
@pytest.mark.parametrize(
    ("head", "cells", "problem"),
    [
        ("timestamp", "2026-01-01 00:00:00", f"column 'timestamp' {TIME} timestamp, or --time-column '' if it is"),
        ("Time Stamp", "now", f"column 'Time Stamp' {TIME} 'Time Stamp', or --time-column '' if it is something else"),
        ("ts", "1767225600", "column 'ts' looks like the time"),
        ("timestamp_ms", "1767225600000", "column 'timestamp_ms' looks like the time"),
        ("date", "2026-01-01", "column 'date' looks like the time"),
        ("Datum", "2026-01-01T10:00:00Z", "column 'Datum' looks like the time"),
        ("eventTime", "x", "column 'eventTime' looks like the time"),
        ("machine", "m1", f"column 'machine' {ASSET} machine, or --asset-column '' if it is something else"),
        ("machine_id", "7", "column 'machine_id' looks like the asset"),
        ("machine", "7", "column 'machine' looks like the asset"),
        ("unit_id", "7", "column 'unit_id' looks like the asset"),
        ("deviceId", "x", "column 'deviceId' looks like the asset"),
        ("Time", "5", "line 1 has a column 'Time'; write it 'time', or give --time-column Time"),
        ("ASSET", "5", "line 1 has a column 'ASSET'; write it 'asset', or give --asset-column ASSET"),
    ],
)  # fmt: skip
def test_what_looks_like_the_time_or_the_asset_is_asked_for(
    tmp_path: Path, head: str, cells: str, problem: str, columns: Columns
) -> None:
    """Without it, windows would join the rows of two machines, whichever channels are named."""
    path = write(tmp_path / "d.csv", f"{head},a,b\n{cells},1,2\n{cells},3,4\n")
    assert problem_of(path, columns).startswith(problem)


@pytest.mark.parametrize(
    ("head", "cell"),
    [
        ("ts", "0.5"),
        ("date", "7"),
        ("operating_time", "3600"),
        ("device", "4.5"),
        ("row_id", "17"),
        ("machine_power", "x1"),
        ("update", "1"),
    ],
)
def test_what_may_be_a_channel_is_one(tmp_path: Path, head: str, cell: str) -> None:
    """A number under such a name may be a reading."""
    path = write(tmp_path / "d.csv", f"{head},a\n{cell},1\n")
    if cell == "x1":
        assert "is not a number; if it is no channel, name those that are: --channels a" in problem_of(path)
    else:
        assert read(path).channels == (head, "a")


def test_the_asked_can_say_no(tmp_path: Path) -> None:
    """With an empty name it is a column like others."""
    path = write(tmp_path / "d.csv", HISTORIAN)
    columns = Columns(time="", asset="", channels=("a", "b"))
    data = read(path, columns)
    assert (data.times, data.assets, data.ignored) == (None, None, ("timestamp", "machine"))


def test_a_column_of_text_is_left_out_with_a_word_where_channels_are_named(tmp_path: Path) -> None:
    """And may be meant as a channel where none are."""
    path = write(tmp_path / "d.csv", "time,a,state,b\n1,1,RUN,2\n2,3,,4\n")
    data = read(path, Columns(channels=("b", "a")))
    assert data.values.tolist() == [[2, 1], [4, 3]]
    assert data.ignored == ("state",)
    assert problem_of(path) == (
        "line 2, column 'state': 'RUN' is not a number; if it is no channel, name those that are: --channels a,b"
    )
    assert problem_of(path, Columns(channels=("a", "state"))) == "line 2, column 'state': 'RUN' is not a number"
    # Of an estimator that knows no names of columns, the option is the same.
    assert problem_of(path, Columns(channels_from="IsolationForest")).endswith("name those that are: --channels a,b")


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (Columns(time="ts"), "has no column 'ts' for --time-column"),
        (Columns(time="presure"), "has no column 'presure' for --time-column; did you mean 'pressure'?"),
        (Columns(channels=("Flow",)), "has no column 'Flow'; its channels are: pressure, flow; did you mean 'flow'?"),
        (Columns(time="flow", channels=("flow",)), "column 'flow' is the time, so it can be no channel"),
    ],
)
def test_a_name_that_is_not_there_is_told(tmp_path: Path, columns: Columns, problem: str) -> None:
    """With one that is near."""
    path = write(tmp_path / "d.csv", "pressure,flow\n1,2\n")
    assert problem_of(path, columns) == problem


def test_a_column_beside_the_named_time_is_no_channel(tmp_path: Path) -> None:
    """`time` means one thing in a reading."""
    path = write(tmp_path / "d.csv", "time,when,p\n5,2026-01-01T00:00:00Z,1\n")
    data = read(path, Columns(time="when"))
    assert data.channels == ("p",)
    assert data.times is not None
    assert data.times.tolist() == [1767225600.0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("time;p;q\n1;2,5;3\n", "line 1 is separated by ';', expected ',' and decimals with '.', not ','"),
        ("time\tp\n1\t2\n", "line 1 is separated by '\\t', expected ','"),
        ('p,q\n"1,5","2,5"\n', "line 2, column 'p': '1,5' is not a number; write decimals with '.'"),
        (
            ",p,q\n0,1,2\n",
            "line 1 has a column without a name; from pandas, write it with index=False or index_label='time'",
        ),
        ("time,asset\n1,a\n", "line 1 names no channel"),
    ],
)
def test_a_file_of_another_kind_is_told_with_the_remedy(tmp_path: Path, text: str, problem: str) -> None:
    """Such as a spreadsheet writes in half of the world."""
    assert problem_of(write(tmp_path / "d.csv", text)).startswith(problem)


def test_arrays_of_other_names_are_read(tmp_path: Path) -> None:
    """In an .npz, the channels' names are for its columns in order."""
    path = tmp_path / "d.npz"
    np.savez(path, readings=np.array([[1.0, 2], [3, 4]]), when=np.array([1.0, 2.0]), unit=np.array(["a", "b"]))
    data = read(path, Columns(time="when", asset="unit", channels=("p", "q")))
    assert (data.channels, data.assets) == (("p", "q"), ("a", "b"))
    assert data.times is not None
    assert data.times.tolist() == [1.0, 2.0]
    assert problem_of(path, Columns(time="x")) == "has no array 'x' for --time-column"
    assert problem_of(path, Columns(channels=("p",))) == "readings has 2 columns, --channels names 1"


FULL_DISK = """
import resource, sys
from pathlib import Path
from edgetool.parquet_file import to_parquet
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
to_parquet(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_parquet_file_that_cannot_be_written_leaves_the_old_one_and_the_rows(tmp_path: Path) -> None:
    """What a recording of days has is never in half a file alone."""
    rows, target = tmp_path / "d.part.csv", tmp_path / "d.parquet"
    rows.write_text("time,p\n" + "".join(f"{number},{number * 0.1:.3f}\n" for number in range(500)))
    parquet(target, p=[1.0])
    before = [(file.name, file.read_bytes()) for file in sorted(tmp_path.iterdir())]
    command = [sys.executable, "-c", FULL_DISK, str(rows), str(target)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "d.parquet: cannot be written (File too large)" in done.stderr
    assert [(file.name, file.read_bytes()) for file in sorted(tmp_path.iterdir())] == before


def parquet(path: Path, **columns: object) -> Path:
    arrow = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.parquet").write_table(arrow.table(columns), path)
    return path


def test_a_parquet_file_says_what_its_csv_says(tmp_path: Path) -> None:
    """Whatever the types of its columns."""
    arrow = importlib.import_module("pyarrow")
    utc = [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, 0, 0, 0, 250000, tzinfo=dt.UTC)]
    for unit in ("ms", "us", "ns"):
        path = parquet(
            tmp_path / "d.parquet",
            time=arrow.array(utc, arrow.timestamp(unit, "Europe/Berlin")),
            asset=arrow.array(["a", " b"]).dictionary_encode(),
            p=arrow.array([1, None], arrow.int16()),
            q=arrow.array([0.5, 2.5], arrow.float32()),
            on=[True, False],
            state=["RUN", "STOP"],
            label=[False, True],
        )
        data = read(path, Columns(channels=("q", "p", "on")))
        np.testing.assert_array_equal(data.values, [[0.5, 1, 1], [2.5, np.nan, 0]])
        assert data.times is not None
        assert data.times.tolist() == [1767225600.0, 1767225600.25]
        assert data.assets == ("a", "b")
        assert data.labels is not None
        assert data.labels.tolist() == [0, 1]
        assert data.ignored == ("state",)
        assert problem_of(path) == (
            "column 'state' holds string, which is no number; if it is no channel, name those that are: "
            "--channels p,q,on"
        )


@pytest.mark.parametrize("name", [None, " "])
def test_a_parquet_row_without_its_asset_is_nobodys(tmp_path: Path, name: str | None) -> None:
    """It was a reading of an asset that is called as those of files without such a column; '' says there is none."""
    path = parquet(tmp_path / "d.parquet", asset=["a", "b", name], p=[1.0, 2.0, 3.0])
    assert problem_of(path) == (
        "row 2, column 'asset': is empty, so nobody knows whose reading it is; fill it in, leave the row out, or say "
        "with --asset-column '' that all rows are of one machine"
    )
    assert read(path, Columns(asset="", channels=("p",))).assets is None


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ([dt.date(2026, 1, 1)], 1767225600.0),
        ([dt.datetime(2026, 1, 1, 1)], 1767229200.0),  # noqa: DTZ001 - a file may have times without a zone
        (["2026-01-01T01:00:00+01:00"], 1767225600.0),
        (importlib.import_module("pyarrow").array(["2026-01-01T00:00:00Z"]).dictionary_encode(), 1767225600.0),
        ([5], 5.0),
    ],
)
def test_a_time_in_parquet_may_have_several_types(tmp_path: Path, times: list[object], found: float) -> None:
    """Without a zone it is UTC, as in a text."""
    data = read(parquet(tmp_path / "d.parquet", time=times, p=[1]))
    assert data.times is not None
    assert data.times.tolist() == [found]


def test_a_name_that_is_too_long_is_told_as_that(tmp_path: Path) -> None:
    """As of a historian's path; it is no other problem."""
    assert problem_of(write(tmp_path / "d.csv", f"{'x' * 129},a\n1,2\n")).endswith("is at most 128 characters long")
    assert read(write(tmp_path / "d.csv", f"{'x' * 128},a\n1,2\n")).channels == ("x" * 128, "a")


def test_a_channel_of_text_in_parquet_is_told_as_that(tmp_path: Path) -> None:
    """And not as a file that is broken."""
    path = parquet(tmp_path / "d.parquet", p=[1.0, 2.0], state=["1", "RUN"])
    assert problem_of(path, Columns(channels=("p", "state"))).startswith(
        "column 'state' holds string, which is no number (Failed to parse string: 'RUN'"
    )


@pytest.mark.parametrize("cells", ["False,True,,true", "0,1,,1", "0.0,1.0,,1"])
def test_labels_may_be_written_as_pandas_does(tmp_path: Path, cells: str) -> None:
    """With and without Arrow; under another name they are asked for like others."""
    rows = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells.split(",")))
    data = read(write(tmp_path / "d.csv", f"p,label\n{rows}"))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0, 1]
    path = write(tmp_path / "e.csv", f"p,is_anomaly\n{rows}")
    assert "Give --label-column is_anomaly" in problem_of(path)
    named = read(path, Columns(label="is_anomaly"))
    assert named.labels is not None
    assert named.labels.tolist() == [0, 1, 0, 1]
    assert "line 2, column 'label': 'yes' is not a number" in problem_of(write(path, "p,label\n1,yes\n"))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"timestamp": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)], "p": [1]}, "column 'timestamp' looks like the time"),
        ({"time": [None, 5.0], "p": [1, 2]}, "row 0, 'time': is empty"),
        (
            {"time": [-5e12], "p": [1]},
            "row 0, column 'time': -5000000000000 is no time since 1970, in seconds or finer",
        ),
        ({"time": ["noon"], "p": [1]}, "row 0, column 'time': 'noon' is neither seconds nor ISO 8601"),
        ({"p": [1.0, 1e39]}, "row 1, column 'p': 1e+39 is more than float32 holds"),
        ({"p": [[1.0]], "q": [1]}, "column 'p' holds list<"),
        ({"p": [1], "label": [2]}, "column 'label' holds something else than 0 and 1"),
        ({"p": np.empty(0)}, "has no rows"),
        ({"time": [dt.time(1, 2)], "p": [1]}, "column 'time' holds time64[us], which is no time, which is a timestamp"),
        ({"time": [dt.timedelta(seconds=5)], "p": [1]}, "column 'time' holds duration[us], which is no time"),
        ({"Time": [1], "p": [1]}, "its schema has a column 'Time'; write it 'time', or give --time-column Time"),
    ],
)
def test_a_bad_parquet_file_is_told(tmp_path: Path, columns: dict[str, object], problem: str) -> None:
    """With the row, counted from 0."""
    assert problem_of(parquet(tmp_path / "d.parquet", **columns)).startswith(problem)


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path) -> None:
    """Nothing of it, and half of one."""
    path = tmp_path / "d.parquet"
    assert problem_of(path) == "no such data file"
    path.write_bytes(b"PAR1 and something else")
    assert "Parquet" in problem_of(path)
    whole = parquet(tmp_path / "w.parquet", p=np.random.default_rng(0).normal(size=5000)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "Parquet" in problem_of(path)


def test_a_parquet_file_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    """A run of equal values takes a few bytes, whatever its length."""
    arrow = importlib.import_module("pyarrow")
    path = tmp_path / "d.parquet"
    with importlib.import_module("pyarrow.parquet").ParquetWriter(path, arrow.schema([("p", arrow.int32())])) as file:
        table = arrow.table({"p": arrow.array(np.zeros(1 << 20, np.int32))})
        for _ in range(301):
            file.write_table(table)
    assert path.stat().st_size < 2 << 20
    assert "claims 315621376 values in" in problem_of(path)


FILES = {
    "day-1.csv": "time,p\n100,1\n101,2\n102,3\n",
    "day-2.csv": "time,p\n103,4\n104,5\n",
    "day-10.csv": "time,p\n900,6\n901,7\n",
}


def test_several_files_are_one_series_and_break_where_times_do_not_go_on(tmp_path: Path) -> None:
    """Sorted as people count, 2 before 10."""
    for name, text in FILES.items():
        write(tmp_path / name, text)
    files = DataFiles.named([str(tmp_path / "day-*.csv")])
    assert [path.name for path in files.paths] == ["day-1.csv", "day-2.csv", "day-10.csv"]
    assert str(files) == f"{tmp_path / 'day-1.csv'} and 2 more"
    data = read_sensor_data(files)
    assert data.values[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert data.starts == (5,)


@pytest.mark.parametrize(
    ("second", "starts"),
    [("103,4", ()), ("112,4", ()), ("113,4", (3,)), ("102,4", (3,)), ("5,4", (3,))],
)
def test_a_file_goes_on_up_to_ten_usual_steps_later(tmp_path: Path, second: str, starts: tuple[int, ...]) -> None:
    """A missing day is no step, and neither is a clock that was set back."""
    paths = (write(tmp_path / "1.csv", FILES["day-1.csv"]), write(tmp_path / "2.csv", f"time,p\n{second}\n"))
    assert read_sensor_data(DataFiles(paths)).starts == starts


def test_files_without_times_break_and_are_counted_on(tmp_path: Path) -> None:
    """Nobody knows whether their rows followed each other."""
    paths = tuple(write(tmp_path / f"{n}.csv", "p,q\n1,2\n3,4\n") for n in (1, 2))
    data = read_sensor_data(DataFiles(paths))
    assert data.starts == (2,)
    assert [(batch.anew, list(batch.times)) for batch in data.batches(100)] == [(False, [0, 1]), (True, [2, 3])]


def test_a_batch_ends_where_a_file_begins_anew(tmp_path: Path) -> None:
    """And all others have the size that was asked for, however the rows come."""
    paths = tuple(write(tmp_path / f"{n}.csv", "p,q\n" + "1,2\n" * 5) for n in (1, 2))
    data = read_sensor_data(DataFiles(paths))
    assert [(batch.anew, len(batch)) for batch in data.batches(3)] == [(False, 3), (False, 2), (True, 3), (False, 2)]
    kept = data.where(np.array([1, 1, 0, 0, 1, 0, 1, 1, 1, 1], dtype=bool))
    assert kept.starts == (3,)
    assert [(batch.anew, len(batch)) for batch in kept.batches(9)] == [(False, 3), (True, 4)]


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ("p\n1\n", "a column 'time'"),
        ("time,asset,p\n1,a,2\n", "a column 'asset'"),
        ("time,p,q\n1,2,3\n", "a column 'q'; name the channels that both have, or give the files one by one"),
        ("time,q\n1,2\n", "a column 'q'"),
    ],
)
def test_files_with_other_columns_are_refused_before_any_row_is_read(tmp_path: Path, other: str, problem: str) -> None:
    """With which of the two has what."""
    first, second = write(tmp_path / "1.csv", "time,p\n1,x\n2,3\n"), write(tmp_path / "2.csv", other)
    with pytest.raises(DataError) as caught:
        read_sensor_data(DataFiles((first, second)))
    assert str(caught.value).startswith(f"{second}: cannot follow {first}, of the two only ")
    assert problem in str(caught.value)


def test_columns_of_several_files_may_be_in_another_order(tmp_path: Path) -> None:
    """They have names."""
    paths = (write(tmp_path / "1.csv", "p,q\n1,2\n"), write(tmp_path / "2.csv", "q,p\n4,3\n"))
    assert read_sensor_data(DataFiles(paths)).values.tolist() == [[1, 2], [3, 4]]


def test_names_of_files_are_checked(tmp_path: Path) -> None:
    """A pattern that finds nothing, a file that is named twice, and one whose name looks like a pattern."""
    path = write(tmp_path / "a[1].csv", "p\n1\n")
    assert DataFiles.named([path]).paths == (path,)
    with pytest.raises(DataError, match="no file has such a name"):
        DataFiles.named([str(tmp_path / "x*.csv")])
    with pytest.raises(UsageError, match="is named twice"):
        DataFiles.named([path, str(path)])
    with pytest.raises(UsageError, match="name a data file"):
        DataFiles.named([])
    empty = write(tmp_path / "b.csv", "p\n")
    with pytest.raises(DataError, match=r"b\.csv: has no rows"):
        read_sensor_data(DataFiles((path, empty)))


def test_parquet_without_arrow_names_the_extra_and_csv_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device nothing more is installed than before."""
    path = parquet(tmp_path / "d.parquet", p=[1.0])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"needs pyarrow, .* pip install 'edge-agent\[files\]'"):
        read(path)
    assert read(write(tmp_path / "d.csv", "p,q\n1,2\n")).values.tolist() == [[1, 2]]


def test_a_label_in_words_is_asked_for(tmp_path: Path) -> None:
    """Ignored as text, it would make faults normal; with channels that are named, too."""
    path = write(tmp_path / "d.csv", "a,b,fault\n1,2,ok\n3,4,leak\n")
    for channels in ((), ("a", "b")):
        with pytest.raises(DataError, match=r"'fault' holds text that looks like the label of the rows\. Write"):
            read_sensor_data(DataFiles.named([path], Columns(channels=channels)))
    found = read_sensor_data(DataFiles.named([path], Columns(channels=("a", "b"), label="")))
    assert found.labels is None


@pytest.mark.parametrize("name", ["anomaly", "is_anomaly", "Fault", "target"])
def test_a_label_under_another_name_is_asked_for(tmp_path: Path, name: str) -> None:
    """Left out, or taken for a channel, it would make faults normal."""
    path = tmp_path / "d.csv"
    path.write_text(f"a,b,{name}\n" + "1,2,0\n3,4,1\n" * 20, encoding="utf-8")
    for channels in ((), ("a", "b")):
        with pytest.raises(
            DataError, match=f"column '{name}' looks like the label of the rows.* --label-column {name}"
        ):
            read_sensor_data(DataFiles.named([path], Columns(channels=channels)))
    found = read_sensor_data(DataFiles.named([path], Columns(label=name)))
    assert found.labels is not None
    assert (found.channels, int(found.labels.sum())) == (("a", "b"), 20)
    assert read_sensor_data(DataFiles.named([path], Columns(label=""))).channels == ("a", "b", name)


@pytest.mark.parametrize(
    ("name", "cells", "role"),
    [
        ("is_anomaly", [0, 1], "label"),
        ("Machine failure", [False, True], "label"),
        ("anomaly", [-1, 1], "label"),
        ("labels", [None, None, 1], "label"),
        ("timestamp", [1_763_700_000, 1_763_700_001], "time"),
        ("unit_id", [1, 2], "asset"),
    ],
)
def test_a_column_is_asked_for_in_whatever_file_it_stands(
    tmp_path: Path, name: str, cells: list[object], role: str
) -> None:
    """A text, a table with types, and arrays: the same rows are the same question."""
    cells = (cells * 3)[:3]
    lines = "".join(f"1,{'' if cell is None else float(cell)}\n" for cell in cells)  # type: ignore[arg-type]
    paths = [
        write(tmp_path / "d.csv", f"a,{name}\n{lines}"),
        parquet(tmp_path / "d.parquet", **{"a": [1.0] * 3, name: cells}),
    ]
    np.savez(tmp_path / "d.npz", readings=np.ones((3, 1)), **{name: np.zeros(3)})  # type: ignore[arg-type]
    for path in [*paths, tmp_path / "d.npz"]:
        for columns in (Columns(), Columns(channels=("a",))):
            assert f"{name!r} looks like the {role} of the rows" in problem_of(path, columns)
        assert read(path, replace(Columns(), **{role: ""})).values.shape[0] == 3  # type: ignore[arg-type]
