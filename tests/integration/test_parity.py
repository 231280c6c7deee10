"""The parity table: from what a framework has saved to a bundle, whose scores and verdicts are the framework's own.

Each model is packed by one call of `pack`, with what its file cannot say; see `parity_models` for the rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from boosted_data import write
from parity_models import CHANNELS, MODELS, Rows, Saved, readings

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edgetool.commands.export import export
from edgetool.commands.pack import pack

MINE = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
"""Of the frameworks, about names of columns and about what they will do next year."""


def data(folder: Path, rows: Rows) -> Path:
    return write(folder / "normal.csv", rows, ",".join(CHANNELS))


def probe() -> Rows:
    """Normal readings, and some that are off by a little or by much, as float32 numbers, which a device has."""
    rng = np.random.default_rng(7)
    rows = readings(300, seed=5)
    rows[::3] += rng.normal(scale=3.0, size=(100, 4)) * rows.std(axis=0)
    return rows.astype(np.float32).astype(np.float64)


@MINE
@pytest.mark.parametrize("name", MODELS)
def test_the_bundle_scores_as_the_framework(name: str, tmp_path: Path) -> None:
    """Within 1e-4 of the spread of the scores, and every verdict at the limit is the same."""
    saved: Saved = MODELS[name](tmp_path, readings())
    made = pack(
        saved.path,
        tmp_path / "m-1.0.0.edge",
        data=data(tmp_path, readings(seed=1)),
        trust_pickle=saved.path.suffix == ".joblib",
        alarm=saved.alarm,
        accept_weak=True,
        **saved.options,
    )
    bundle = open_bundle(made.bundle)
    assert bundle.manifest.exported is not None
    assert bundle.manifest.exported.converter == "edgetool"
    order = [CHANNELS.index(channel.name) for channel in bundle.manifest.channels]
    rows = probe()
    found = OrtEngine(bundle.model, PROVIDERS["cpu"]).score(rows[:, order].astype(np.float32)[:, np.newaxis]).score
    wanted = saved.score(rows)
    assert np.abs(found - wanted).max() <= 1e-4 * wanted.std()
    alarm = bundle.manifest.threshold.alarm
    verdicts = wanted >= alarm if saved.verdict is None else saved.verdict(rows)
    assert 10 <= verdicts.sum() <= 290
    np.testing.assert_array_equal(found >= alarm, verdicts)


@MINE
@pytest.mark.parametrize("name", MODELS)
def test_the_same_file_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Exported twice, under two names."""
    saved: Saved = MODELS[name](tmp_path, readings(300))
    columns = CHANNELS[:3] if "residual" in saved.options.get("head", "") else CHANNELS
    rows = readings(200, seed=1)[:, : len(columns)]
    if "scale" in saved.options:
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    given = write(tmp_path / "rows.csv", rows, ",".join(columns))
    is_pickle = saved.path.suffix == ".joblib"
    made = [export(saved.path, tmp_path / f"{n}.onnx", data=given, trust_pickle=is_pickle) for n in range(2)]
    assert made[0].output.read_bytes() == made[1].output.read_bytes()
