"""The recipe of docs/scale.md in Spark itself; `make test-spark` runs it, as Spark needs Java and 900 MB."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import write_bundle
from processes import run_tool
from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[2]
ROWS = 4000


def test_spark_gives_the_scores_and_events_of_edge_agent_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each of three assets whose rows are in one table, in no order."""
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    write_bundle(tmp_path / "pump-1.0.0.edge", window=3)
    rng = np.random.default_rng(0)
    names = np.repeat(["a0", "a1", "a2"], ROWS)
    values = rng.normal(0, 1, (3 * ROWS, 2))
    values[rng.random(3 * ROWS) < 0.002] += 7
    times = np.tile(1_700_000_000.0 + np.arange(ROWS), 3)
    table = {"time": times, "asset": names, "c1": values[:, 0], "c2": values[:, 1]}
    mixed = rng.permutation(3 * ROWS)
    (tmp_path / "readings").mkdir()
    pq.write_table(pa.table({name: column[mixed] for name, column in table.items()}), tmp_path / "readings/all.parquet")
    recipe = re.findall(r"```python\n(.*?)```", (ROOT / "docs/scale.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        found: dict[str, Any] = {"spark": spark}
        exec(recipe.replace("/lake/", f"{tmp_path}/"), found)
        rows = found["scored"].collect()
    finally:
        spark.stop()
    for name in ("a0", "a1", "a2"):
        own = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({key: column[names == name] for key, column in table.items()}), own)
        scores, alerts = tmp_path / "scores.csv", tmp_path / "alerts.jsonl"
        done = run_tool(
            "edge-agent", "score", own, "--bundle", tmp_path / "pump-1.0.0.edge", "--scores", scores, "--alerts", alerts
        )
        assert done.returncode == 0, done.stderr
        lines = [line.split(",") for line in scores.read_text().splitlines()[1:]]
        mine = [row for row in rows if row.asset == name]
        assert [(row.time, np.float32(row.score)) for row in mine if row.event is None] == [
            (float(time), np.float32(score)) for time, _, score in lines
        ]
        wanted = [json.loads(line) for line in alerts.read_text().splitlines()]
        assert wanted
        assert [json.loads(row.event) for row in mine if row.event is not None] == wanted
