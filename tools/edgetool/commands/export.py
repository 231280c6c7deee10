"""Makes an ONNX model of what a framework has saved, and holds it against the framework's own answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError, DataError, UsageError
from edgetool.data import DataFiles, DataSource, as_files, read_sensor_data
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.frameworks import lightgbm
from edgetool.frameworks.check import TOLERANCE, Agreed, check, probe_rows
from edgetool.frameworks.made import Made
from edgetool.frameworks.sklearn.convert import convert
from edgetool.frameworks.sources import Framework, Source, Trust, framework_of, open_sklearn, source_of
from edgetool.graph.onnx_file import write_result
from edgetool.graph.origin import Origin, write_origin
from edgetool.paths import StrPath, as_path
from edgetool.verify.workbench import Workbench

__all__ = ["ExportReport", "as_onnx", "export"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export` made."""

    source: Path
    output: Path
    origin: Origin
    agreed: Agreed
    columns: tuple[str, ...]
    """The columns of the data that were taken, in the order of the model's input."""
    outputs: tuple[str, ...]
    """Names of the model's outputs."""
    notes: tuple[str, ...]
    """What the user has to know, in words."""
    size_bytes: int
    seconds: float

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "source": str(self.source),
            "output": str(self.output),
            "size_bytes": self.size_bytes,
            "columns": list(self.columns),
            "outputs": list(self.outputs),
            "origin": self.origin.describe(),
            "compared": self.agreed.describe(),
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }


def export(
    source: StrPath,
    output: StrPath | None = None,
    *,
    data: DataSource,
    trust_pickle: bool = False,
    trust_types: Sequence[str] = (),
    tolerance: float = TOLERANCE,
    timeout_s: float = DEFAULT_S,
) -> ExportReport:
    """Make an ONNX model of an estimator of scikit-learn, or of a booster of LightGBM.

    Args:
        source: the saved estimator: `.skops`, or `.joblib` and `.pkl` where they are trusted; or LightGBM's `.txt`.
        output: the `.onnx` file; beside the source when not given.
        data: rows to compare on: the columns that the estimator was trained on, by their names where it knows them.
        trust_pickle: read a pickle, which runs whatever code is in it.
        trust_types: types in a `.skops` file that are read beside those that skops knows.
        tolerance: largest difference from the framework's answers, in units of their spread over the rows.
        timeout_s: seconds for all runs of the model together.

    Raises:
        AccuracyError: the model answers otherwise than the framework.
        ConversionError: the file cannot be read, nothing converts what is in it, or the model does not run.
        DataError: the data cannot be read, or lack a column.
        MissingExtraError: a package is not installed.
        UsageError: the file is not trusted, or is ONNX already.
    """
    if not 0 < tolerance < 1:
        raise UsageError(f"--tolerance {tolerance:g}: expected a share above 0 and below 1")
    path = Path(source)
    made_at = as_path(output) or path.with_suffix(".onnx")
    if made_at.suffix != ".onnx":
        raise UsageError(f"{made_at}: expected a name that ends with .onnx")
    return _export(path, made_at, as_files(data), Trust(trust_pickle, tuple(trust_types)), tolerance, timeout_s)


@contextmanager
def as_onnx(
    path: Path, data: DataFiles, trust: Trust, timeout_s: float, *, told: str | None = None
) -> Iterator[tuple[Path, ExportReport | None]]:
    """A context with the ONNX file of a saved model: itself, or one that is made of it and deleted at the end.

    Args:
        path: of the saved model.
        data: as for `export`.
        trust: what the file is allowed.
        timeout_s: as for `export`.
        told: a channel of the data that the model tells, and may not take.
    """
    if framework_of(path) in (None, Framework.ONNX):
        # The commands for models refuse by themselves what is none.
        yield path, None
        return
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        output = Path(folder) / f"{path.name.partition('.')[0]}.onnx"
        report = _export(path, output, data, trust, TOLERANCE, timeout_s, told)
        try:
            yield output, report
        except (ConversionError, DataError) as exc:
            # Nobody knows the file in between.
            raise type(exc)(str(exc).replace(str(output), str(path))) from exc


def _export(
    path: Path,
    output: Path,
    data: DataFiles,
    trust: Trust,
    tolerance: float,
    timeout_s: float,
    told: str | None = None,
) -> ExportReport:
    started = time.monotonic()
    source = source_of(path)
    if source.framework is Framework.ONNX:
        raise UsageError(f"{path}: is ONNX already; go on with edgetool quantize or edgetool pack")
    made = _made(source, trust)
    rows, columns = _rows(data, made, told)
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        draft = Path(folder) / "model.onnx"
        draft.write_bytes(_bytes_of(made.model))
        with Workbench(Path(folder), deadline=Deadline(path, timeout_s)) as bench:
            agreed = check(made, probe_rows(rows, made), bench, draft, tolerance=tolerance)
    origin = msgspec.structs.replace(made.origin, rows=agreed.rows, deviation=agreed.deviation)
    write_origin(made.model, origin)
    content = _bytes_of(made.model)
    write_result(output, content)
    return ExportReport(
        source=path,
        output=output,
        origin=origin,
        agreed=agreed,
        columns=columns,
        outputs=tuple(value.name for value in made.model.graph.output),
        notes=tuple(made.notes),
        size_bytes=len(content),
        seconds=time.monotonic() - started,
    )


def _made(source: Source, trust: Trust) -> Made:
    """The model of what is in a file."""
    if source.framework is Framework.LIGHTGBM:
        return lightgbm.convert(lightgbm.open_booster(source.path))
    estimator = open_sklearn(source, trust)
    # LightGBM's estimators are pickled as those of scikit-learn are.
    if type(estimator).__module__.startswith("lightgbm.") and hasattr(estimator, "booster_"):
        return lightgbm.convert(estimator.booster_)
    return convert(estimator)


def _bytes_of(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _rows(data: DataFiles, made: Made, told: str | None) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The rows of the data, in the order of the columns that the estimator was trained on, and those columns."""
    wanted = tuple(name for name in data.columns.channels if name != told) or made.origin.features
    trained = made.origin.features
    if wanted != trained and sorted(wanted) == sorted(trained):
        raise UsageError(
            f"--channels {','.join(wanted)}: {made.origin.estimator} was trained on the same columns in another order, "
            f"{','.join(trained)}; give them in that order, or no --channels"
        )
    estimator = made.origin.estimator
    read = read_sensor_data(replace(data, columns=replace(data.columns, channels=wanted, channels_from=estimator)))
    width = int(made.model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
    if told in read.channels and len(read.channels) == width + 1:
        read = read.select(tuple(name for name in read.channels if name != told))
    if len(read.channels) != width:
        raise DataError(
            f"{read.path}: has {len(read.channels)} channels ({', '.join(read.channels[:20])}), {estimator} was "
            f"trained on {width}; name those with --channels, in the order of the training"
        )
    rows = np.asarray(read.values, dtype=np.float64)
    if not np.isfinite(rows).all(axis=1).any():
        raise ConversionError(f"{read.path}: has no row without a missing value to compare on")
    return rows, read.channels
