"""Readings and targets for boosters of all kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["readings", "target", "write"]

Rows = NDArray[np.float64]


def readings(*, seed: int = 0) -> Rows:
    """Four sensors of different units; of some rows a value is missing, and the last is often 0."""
    rng = np.random.default_rng(seed)
    rows = rng.normal([20, 5, 1e7, 0.01], [1, 0.1, 20.0, 0.002], (1200, 4))
    rows[rng.random(1200) < 0.3, 3] = 0
    rows[rng.random(rows.shape) < 0.03] = np.nan
    return rows


def target(rows: Rows, kind: str) -> NDArray[np.float64]:
    filled = np.where(np.isnan(rows), [20, 5, 1e7, 0], rows)
    value = 2 * filled[:, 0] + np.sin(30 * filled[:, 1]) + (filled[:, 2] - 1e7) / 20
    ranks = value.argsort().argsort() / len(value)
    targets: dict[str, NDArray[np.float64]] = {
        "value": value,
        "pascal": value + 101325,
        "positive": value - value.min() + 1,
        "share": 0.1 + 0.8 * ranks,
        "two": (ranks > 0.5).astype(float),
        "three": np.digitize(ranks, [0.3, 0.6]).astype(float),
        "ranks": np.digitize(ranks, [0.3, 0.6]).astype(float),
        "several": np.column_stack([value, -filled[:, 1], 1e3 * filled[:, 3]]),
        "flags": np.column_stack([ranks > 0.5, filled[:, 1] > 5, filled[:, 3] > 0]).astype(float),
    }
    return targets[kind]


def write(path: Path, rows: Rows, columns: str = "temp,flow,depth,current") -> Path:
    lines = [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in rows]
    path.write_text("\n".join([columns, *lines]) + "\n", encoding="utf-8")
    return path
