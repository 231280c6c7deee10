"""A CSV of readings as Parquet, for the commands that write data files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import UsageError
from edge_agent.files.plain import replacing
from edgetool.data import read_sensor_data

__all__ = ["to_parquet"]


def to_parquet(source: Path, target: Path) -> None:
    """Write the same rows as Parquet, and delete the CSV once the disk has them.

    Args:
        source: a CSV with a header, of readings.
        target: the file to write.

    Raises:
        UsageError: the extra `files` is not installed, or the file cannot be written; the CSV stays, and the old file.
        DataError: the CSV cannot be read.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise UsageError(
            f"{target}: Parquet needs the extra files (pip install 'edge-agent[files]'); {source} has all"
        ) from exc
    data = read_sensor_data(source)
    columns: dict[str, Any] = {} if data.times is None else {"time": np.asarray(data.times)}
    if data.assets is not None:
        columns["asset"] = list(data.assets)
    columns |= {name: data.values[:, number] for number, name in enumerate(data.channels)}
    if data.labels is not None:
        columns["label"] = np.asarray(data.labels, dtype=np.int8)
    try:
        with replacing(target) as file:
            pq.write_table(pa.table(columns), file)
    except OSError as exc:
        reason = exc.strerror or exc
        raise UsageError(f"{target}: cannot be written ({reason}); {source} has all") from exc
    source.unlink()
