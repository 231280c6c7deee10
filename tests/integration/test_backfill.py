"""`edgetool backfill`: a fleet's past, held against `edge-agent score` on the files of each asset."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import write_bundle
from numpy.typing import NDArray
from processes import run_tool, tool, wait_until

from edge_agent.data_files import read_sensor_data
from edgetool.backfilling import score_asset, scoring_of
from edgetool.backfilling.lake import Lake

ROWS, DAYS = 6_000, 3
STREAM = """
[agent]
id = "press-7"
[[stream]]
name = "pump"
bundle = "{bundle}"
topic = "sensors/+/pump"
[stream.commission]
readings = 1000
[stream.window]
hold_s = 2
"""
Table = dict[str, NDArray[Any]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Windows of three rows, so that the order of files and the gaps between them matter."""
    return write_bundle(tmp_path / "square-1.0.0.edge", window=3)


def days_of(number: int) -> list[Table]:
    """The rows of one asset, day by day, of which the last does not go on from the one before."""
    rng = np.random.default_rng(number)
    values = rng.normal(0, 1, (ROWS, 2))
    values[rng.random(ROWS) < 0.002] += 7
    values[rng.random(values.shape) < 0.01] = np.nan
    times = 1_700_000_000 + np.arange(ROWS) + np.where(np.arange(ROWS) >= ROWS * (DAYS - 1) // DAYS, 10_000, 0)
    parts = np.array_split(np.arange(ROWS), DAYS)
    return [{"time": times[at], "c1": values[at, 0], "c2": values[at, 1]} for at in parts]


def write_parquet(path: Path, table: Table) -> Path:
    """A data file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def write_lake(root: Path, assets: int) -> None:
    """`root/asset=a1/…`, in files whose names do not tell their order."""
    for number in range(assets):
        for day, table in enumerate(days_of(number)):
            write_parquet(root / f"asset=a{number}" / f"{DAYS - day}.parquet", table)


def backfill(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """Run it with two workers to its end."""
    done = run_tool("edgetool", "backfill", *arguments, "--workers", "2", "--json")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def expected(folder: Path, number: int, *how: str | Path) -> tuple[list[float], list[np.float32], list[Any]]:
    """Times, scores and events that `edge-agent score` gives the files of one asset."""
    names = np.array([f"a{number}"] * ROWS)
    files = [
        write_parquet(folder / f"a{number}-{day}.parquet", {**table, "asset": names[: len(table["time"])]})
        for day, table in enumerate(days_of(number))
    ]
    scores, alerts = folder / "scores.csv", folder / "alerts.jsonl"
    done = run_tool("edge-agent", "score", *files, *how, "--scores", scores, "--alerts", alerts)
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in scores.read_text().splitlines()[1:]]
    events = [json.loads(line) for line in alerts.read_text().splitlines()]
    # Nine digits are all that a float32 has.
    return [float(time) for time, _, _ in rows], [np.float32(score) for _, _, score in rows], events


def written(output: Path, asset: str) -> tuple[list[float], list[np.float32], list[Any]]:
    """The same, as it was written."""
    folder = f"asset={quote(asset, safe=' ')}"
    table = pq.ParquetFile(output / "scores" / folder / "scores.parquet").read()
    lines = (output / "alerts" / folder / "alerts.jsonl").read_text().splitlines()
    return table["time"].to_pylist(), [*table["score"].to_numpy()], [json.loads(line) for line in lines]


def test_it_gives_the_scores_and_events_of_edge_agent_score(tmp_path: Path, bundle: Path) -> None:
    """Bit for bit, with commissioning, from several files of an asset in any order."""
    config = tmp_path / "agent.toml"
    config.write_text(STREAM.format(bundle=bundle))
    write_lake(tmp_path / "lake", 3)
    report = backfill("--config", config, "--data", tmp_path / "lake", "-o", tmp_path / "out")
    assert report["models"][0]["assets"] == 3
    assert report["models"][0]["raised"] > 0
    for number in range(3):
        wanted = expected(tmp_path, number, "--config", config)
        assert wanted[2]
        assert written(tmp_path / "out" / "square-1.0.0", f"a{number}") == wanted


def test_files_of_many_assets_give_the_same(tmp_path: Path, bundle: Path) -> None:
    """Rows of all assets in each file, one file in CSV, and a later day in the file that comes first."""
    for day in range(DAYS):
        tables = [days_of(number)[day] for number in range(3)]
        rows = np.argsort(np.concatenate([table["time"] for table in tables]), kind="stable")
        names = np.repeat(["a0", "a1", "a2"], [len(table["time"]) for table in tables])
        whole = {name: np.concatenate([table[name] for table in tables])[rows] for name in ("time", "c1", "c2")}
        path = write_parquet(tmp_path / "lake" / f"{DAYS - day}.parquet", {**whole, "asset": names[rows]})
        if day == 1:
            columns = [[*map(repr, column.tolist())] for column in whole.values()]
            lines = [",".join(cells).replace("nan", "") for cells in zip(*columns, names[rows].tolist(), strict=True)]
            path.with_suffix(".csv").write_text("time,c1,c2,asset\n" + "\n".join(lines).replace("'", "") + "\n")
            path.unlink()
    backfill(bundle, "--data", tmp_path / "lake" / "*", "-o", tmp_path / "out")
    for number in range(3):
        wanted = expected(tmp_path, number, "--bundle", bundle)
        assert written(tmp_path / "out" / "square-1.0.0", f"a{number}") == wanted
    again = backfill(bundle, "--data", tmp_path / "lake" / "*", "-o", tmp_path / "out")
    assert (again["models"][0]["assets"], again["models"][0]["assets_kept"]) == (0, 3)
    # One asset is to be scored again: the files are read again for it alone.
    (tmp_path / "out/square-1.0.0/_done/asset=a1.json").unlink()
    again = backfill(bundle, "--data", tmp_path / "lake" / "*", "-o", tmp_path / "out")
    assert (again["models"][0]["assets"], again["models"][0]["assets_kept"]) == (1, 2)
    assert written(tmp_path / "out" / "square-1.0.0", "a1") == expected(tmp_path, 1, "--bundle", bundle)
    assert not (tmp_path / "out" / ".split").exists()


def test_a_killed_worker_loses_nothing(tmp_path: Path, bundle: Path) -> None:
    """One process is killed while it scores; all is there, right, and nothing half."""
    count = 16
    write_lake(tmp_path / "lake", count)
    output = tmp_path / "out" / "square-1.0.0"
    command = [tool("edgetool"), "backfill", str(bundle), "--data", str(tmp_path / "lake"), "-o", str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--workers", "2", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: [*output.glob("_done/*")], 60, "the first asset")
        workers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        assert len(workers) == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        done = len([*output.glob("_done/*")])
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert done < count, "it was over before"
    assert json.loads(out)["models"][0]["assets"] == count
    for number in (0, count - 1):
        assert written(output, f"a{number}") == expected(tmp_path, number, "--bundle", bundle)
    lengths = {len(written(output, f"a{number}")[1]) for number in range(count)}
    assert min(lengths) > ROWS - 10
    assert not [*output.rglob(".*")]
    assert not [child for child in workers if child.is_running()]


def test_what_is_done_stays_until_its_files_change(tmp_path: Path, bundle: Path) -> None:
    """A changed file has its asset scored again, other settings all."""
    write_lake(tmp_path / "lake", 3)
    arguments = ("--data", tmp_path / "lake" / "{asset}" / "*", "-o", tmp_path / "out")
    backfill(bundle, *arguments)
    output = tmp_path / "out" / "square-1.0.0"
    before = {path: path.stat().st_mtime_ns for path in output.rglob("scores.parquet")}
    (tmp_path / "lake/asset=a1/1.parquet").unlink()
    report = backfill(bundle, *arguments)
    changed = [path.parent.name for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert changed == ["asset=a1"]
    assert (report["models"][0]["assets"], report["models"][0]["assets_kept"]) == (1, 2)
    # What was written and is damaged since is not whole.
    (output / "alerts/asset=a2/alerts.jsonl").write_text("")
    assert backfill(bundle, *arguments)["models"][0]["assets"] == 1
    other = write_bundle(tmp_path / "other-1.0.0.edge", window=3, alarm=8.0)
    assert backfill(other, *arguments)["models"][0]["assets"] == 3


def test_a_bad_file_hides_nothing_of_the_others(tmp_path: Path, bundle: Path) -> None:
    """It is named, and its asset; the others are scored, and the exit code says that it is not all."""
    write_lake(tmp_path / "lake", 2)
    half = tmp_path / "lake/asset=a1/2.parquet"
    half.write_bytes(half.read_bytes()[:-1000])
    (tmp_path / "lake/shared.csv").write_text("time,asset,c1,c2\n1,b,1,2\n2,b,x,2\n")
    report = backfill(bundle, "--data", tmp_path / "lake", "-o", tmp_path / "out", code=65)
    assert report["models"][0]["assets"] == 1
    problems = {failure["asset"]: failure["problem"] for failure in report["failed"]}
    assert str(half) in problems["a1"]
    assert "shared.csv: line 3, column 'c1': 'x' is not a number" in problems[None]
    wanted = expected(tmp_path, 0, "--bundle", bundle)
    assert written(tmp_path / "out" / "square-1.0.0", "a0") == wanted
    assert not [*(tmp_path / "out").rglob("asset=a1/*")]
    text = run_tool("edgetool", "backfill", bundle, "--data", tmp_path / "lake", "-o", tmp_path / "out")
    assert text.returncode == 65
    assert f"FAILED     asset a1 of square-1.0.0: {half}: is no whole Parquet file" in text.stdout


DYING = """
import os, signal, sys
from edgetool.backfilling.cluster import connected, run_all
from edgetool.backfilling.work import SplitJob
from edge_agent.data_files import Columns

def die(job):
    if job.path == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return job.path

if __name__ == "__main__":
    names = ["a", "b", "bad", "c", "d", "e", "f"]
    jobs = [SplitJob(path=name, columns=Columns(), wanted=None, target="") for name in names]
    with connected(None, 2) as client:
        for job, answer in run_all(client, die, jobs):
            print(job.path, answer)
"""


def test_what_ends_every_worker_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    """After four processes."""
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sorted(line for line in lines if not line.startswith("bad")) == ["a a", "b b", "c c", "d d", "e e", "f f"]
    assert [line for line in lines if line.startswith("bad Failed(problem='bad: four workers in a row ended over it")]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--data", "{lake}", "-o", "{out}"], 2, "expected at least one bundle"),
        (["{bundle}", "--data", "{lake}/none/*", "-o", "{out}"], 65, "no file has such a name"),
        (["{bundle}", "{bundle}", "--data", "{lake}", "-o", "{out}"], 2, "square-1.0.0: two bundles are called so"),
        (["{bundle}", "--data", "{lake}", "-o", "{out}", "--workers", "0"], 2, "expected 1 or more"),
        (["{bundle}", "--data", "{lake}/{asset}/{asset}", "-o", "{out}"], 2, "expected {asset} once"),
        (["{bundle}", "--data", "{lake}", "-o", "{out}", "--scheduler", "tcp://127.0.0.1:1"], 69, "no scheduler"),
        (["{bundle}", "--data", "{lake}", "-o", "{lake}/asset=a0/1.parquet"], 65, "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_told(tmp_path: Path, bundle: Path, arguments: list[str], code: int, text: str) -> None:
    """In one line, before any process is started for it."""
    write_lake(tmp_path / "lake", 1)
    places = {"lake": tmp_path / "lake", "out": tmp_path / "out", "bundle": bundle, "asset": "{asset}"}
    done = run_tool("edgetool", "backfill", *[argument.format(**places) for argument in arguments])
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert text in done.stderr


CLUSTER = """
import distributed, sys

if __name__ == "__main__":
    count = int(sys.argv[1])
    options = {"cls": distributed.Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    worker = {"cls": distributed.Nanny, "options": {"nthreads": 2}}
    with distributed.SpecCluster({number: worker for number in range(count)}, options, silence_logs=50) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextmanager
def scheduler(folder: Path, workers: int) -> Iterator[str]:
    """A scheduler of Dask in a process of its own, with so many workers; gives its address."""
    script = folder / "cluster.py"
    script.write_text(CLUSTER)
    command = [sys.executable, str(script), str(workers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")


def test_a_scheduler_that_is_there_is_used(tmp_path: Path, bundle: Path) -> None:
    """Its workers score, two assets at a time each; they stay."""
    write_lake(tmp_path / "lake", 4)
    with scheduler(tmp_path, 1) as address:
        for turn in ("one", "two"):
            command = ("edgetool", "backfill", bundle, "--data", tmp_path / "lake", "-o", tmp_path / turn)
            done = run_tool(*command, "--scheduler", address)
            assert done.returncode == 0, done.stderr
    for number in (0, 3):
        wanted = expected(tmp_path, number, "--bundle", bundle)
        assert written(tmp_path / "two" / "square-1.0.0", f"a{number}") == wanted


def test_a_scheduler_that_is_lost_is_told_and_the_next_run_goes_on(tmp_path: Path, bundle: Path) -> None:
    """What was whole stays."""
    write_lake(tmp_path / "lake", 12)
    output = tmp_path / "out" / "square-1.0.0"
    command = [tool("edgetool"), "backfill", str(bundle), "--data", str(tmp_path / "lake"), "-o", str(tmp_path / "out")]
    with scheduler(tmp_path, 1) as address:
        process = subprocess.Popen([*command, "--scheduler", address], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: [*output.glob("_done/*")], 60, "the first asset")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 69
    assert "the scheduler of Dask is gone; the same command goes on where it ended" in err
    assert "Traceback" not in err
    again = backfill(bundle, "--data", tmp_path / "lake", "-o", tmp_path / "out")["models"][0]
    assert again["assets_kept"] > 0
    assert again["assets"] + again["assets_kept"] == 12


def test_a_scheduler_without_workers_is_told(tmp_path: Path, bundle: Path) -> None:
    """Nobody waits for what does not come."""
    write_lake(tmp_path / "lake", 1)
    with scheduler(tmp_path, 0) as address:
        command = ("edgetool", "backfill", bundle, "--data", tmp_path / "lake", "-o", tmp_path / "out")
        done = run_tool(*command, "--scheduler", address)
    assert (done.returncode, "has no workers; start some: dask worker tcp://" in done.stderr) == (69, True)


def test_the_function_scores_rows_in_memory(tmp_path: Path, bundle: Path) -> None:
    """In any order, as other engines hand them on, with times as theirs are."""
    days = days_of(1)
    rows = {name: np.concatenate([day[name] for day in days]) for name in days[0]}
    shuffled = np.random.default_rng(0).permutation(ROWS)
    for kind in ("float64", "datetime64[ns]"):
        times = (rows["time"] * 1e9).astype(np.int64).astype(kind) if kind.startswith("date") else rows["time"]
        mixed = {name: column[shuffled] for name, column in {**rows, "time": times}.items()}
        found = score_asset(scoring_of(bundle), "a1", mixed)
        one = write_parquet(tmp_path / "one.parquet", {**rows, "asset": np.array(["a1"] * ROWS)})
        scores, alerts = tmp_path / "scores.csv", tmp_path / "alerts.jsonl"
        done = run_tool("edge-agent", "score", one, "--bundle", bundle, "--scores", scores, "--alerts", alerts)
        assert done.returncode == 0, done.stderr
        wanted = [line.split(",") for line in scores.read_text().splitlines()[1:]]
        assert found.times == [float(time) for time, _, _ in wanted]
        assert [*found.scores] == [np.float32(score) for _, _, score in wanted]
        assert [event.id for event in found.events] == [
            json.loads(line)["id"] for line in alerts.read_text().splitlines()
        ]


def test_files_that_say_no_asset_are_told(tmp_path: Path, bundle: Path) -> None:
    """They are one asset, which may not be meant."""
    for number in range(2):
        write_parquet(tmp_path / "lake" / f"a{number}.parquet", days_of(number)[0])
    report = backfill(bundle, "--data", tmp_path / "lake", "-o", tmp_path / "out")
    assert report["models"][0]["assets"] == 1
    assert "2 files say no asset, and were scored as one that is called 'a1'" in report["warnings"][0]
    report = backfill(bundle, "--data", f"{tmp_path}/lake/{{asset}}.parquet", "-o", tmp_path / "named")
    assert (report["models"][0]["assets"], report["warnings"]) == (2, [])


def test_a_path_says_its_asset(tmp_path: Path) -> None:
    """By a pattern, or by a folder as Hive writes it."""
    for name in ("x/p-1.csv", "x/p-2.csv", "asset=a%2Fb/day=1/1.csv", "y/z/p-3.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("time,c1\n1,2\n")
    found = {Path(path).name: asset for path, asset in Lake.named([f"{tmp_path}/**/p-{{asset}}.csv"]).files}
    assert found == {"p-1.csv": "1", "p-2.csv": "2", "p-3.csv": "3"}
    assert {asset for _, asset in Lake.named([tmp_path]).files} == {"a/b", None}
    assert read_sensor_data(tmp_path / "x/p-1.csv").channels == ("c1",)
