"""Makes an ONNX model of what a framework has saved, and holds it against the framework's own answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx

from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edgetool.choices import LayoutIs, LayoutIsName, as_member
from edgetool.data import DataFiles, DataSource, as_files
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.frameworks.check import TOLERANCE, Agreed, check, poor_answers, probes
from edgetool.frameworks.items import made_up, read_example, rows_of, windows_of
from edgetool.frameworks.made import Made
from edgetool.frameworks.shapes import parse_shapes
from edgetool.frameworks.sources import Framework, Saved, Source, Trust, framework_of, open_sklearn, source_of
from edgetool.graph.onnx_file import write_result
from edgetool.graph.opset import write_in
from edgetool.graph.origin import Origin, write_origin
from edgetool.graph.walks import opset_of
from edgetool.paths import StrPath, as_path
from edgetool.verify.arrays import Sample
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
    opset: int
    """Of ONNX's standard operators, in which it is written."""
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
            "opset": self.opset,
            "origin": self.origin.describe(),
            "compared": self.agreed.describe(),
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }


def export(
    source: StrPath,
    output: StrPath | None = None,
    *,
    data: DataSource | None = None,
    example: StrPath | None = None,
    shapes: Sequence[str] = (),
    layout: LayoutIs | LayoutIsName = LayoutIs.AUTO,
    open_time: bool = False,
    weights: StrPath | None = None,
    framework: str | None = None,
    opset: int | None = None,
    signature: str | None = None,
    trust_pickle: bool = False,
    trust_types: Sequence[str] = (),
    trust_code: bool = False,
    tolerance: float = TOLERANCE,
    timeout_s: float = DEFAULT_S,
) -> ExportReport:
    """Make an ONNX model of what a framework has saved.

    Args:
        source: of scikit-learn and PyOD: `.skops`, or `.joblib` and `.pkl` where they are trusted; of LightGBM: its
            `.txt`; of XGBoost: its `.json` or `.ubj`; of PyTorch: a `torch.export` program in `.pt2`, TorchScript in
            `.pt`, or `module.py:factory`; of TensorFlow: `.keras`, or the folder of a SavedModel.
        output: the `.onnx` file; beside the source when not given.
        data: rows to compare on: the columns that the model was trained on, by their names where it knows them.
        example: what to compare on in place of data: an `.npz` with an array for each input.
        shapes: of the inputs of a model that does not know them, each as `60x9`, `h:16` or `h:1x16@1`: sizes of one
            row or window, and the place of the batch among them.
        layout: how the model takes a window of data, where its shape fits both.
        open_time: leave the number of rows in a window open.
        weights: for the module that a factory makes: `.safetensors`, or what `torch.save` wrote of a `state_dict`.
        framework: that the source is of, to be sure; told by the file when not given.
        opset: of ONNX that the model is written in; one that every runtime of the device reads when not given.
        signature: the function of a SavedModel that answers; `serving_default` or the only one when not given.
        trust_pickle: read a pickle, which runs whatever code is in it.
        trust_types: types in a `.skops` file that are read beside those that skops knows.
        trust_code: run code that a model has in it, such as TorchScript or a Lambda layer.
        tolerance: largest difference from the framework's answers, in units of their spread over the rows.
        timeout_s: seconds for all runs of the model together.

    Raises:
        AccuracyError: the model answers otherwise than the framework.
        ConversionError: the file cannot be read, nothing converts what is in it, the opset has no such operators, or
            the model does not run.
        DataError: the data cannot be read, or lack a column.
        MissingExtraError: a package is not installed.
        UsageError: the file is not trusted, is ONNX already or of another framework, or a shape is missing.
    """
    if not 0 < tolerance < 1:
        raise UsageError(f"--tolerance {tolerance:g}: expected a share above 0 and below 1")
    if data is not None and example is not None:
        raise UsageError("--data and --example both give what to compare on")
    path = Path(source)
    made_at = as_path(output) or path.with_name(f"{path.name.partition('.')[0]}.onnx")
    if made_at.suffix != ".onnx":
        raise UsageError(f"{made_at}: expected a name that ends with .onnx")
    saved = Saved(
        trust=Trust(trust_pickle, tuple(trust_types), trust_code),
        weights=as_path(weights),
        shapes=parse_shapes(shapes),
        layout=as_member(LayoutIs, layout, named="layout"),
        open_time=open_time,
        framework=framework,
        signature=signature,
    )
    files = None if data is None else as_files(data)
    return _export(path, made_at, files, saved, tolerance, timeout_s, example=as_path(example), opset=opset)


@contextmanager
def as_onnx(path: Path, data: DataFiles, saved: Saved, timeout_s: float) -> Iterator[tuple[Path, ExportReport | None]]:
    """A context with the ONNX file of a saved model: itself, or one that is made of it and deleted at the end.

    Args:
        path: of the saved model.
        data: as for `export`.
        saved: what is known of it.
        timeout_s: as for `export`.
    """
    if framework_of(path) in (None, Framework.ONNX):
        # The commands for models refuse by themselves what is none.
        yield path, None
        return
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        output = Path(folder) / f"{path.name.partition('.')[0]}.onnx"
        # `pack` tells by itself which channels a reconstruction does not follow.
        report = _export(path, output, data, saved, TOLERANCE, timeout_s, tell_poor=False)
        try:
            yield output, report
        except (ConversionError, DataError) as exc:
            # Nobody knows the file in between.
            raise type(exc)(str(exc).replace(str(output), str(path))) from exc


def _export(
    path: Path,
    output: Path,
    data: DataFiles | None,
    saved: Saved,
    tolerance: float,
    timeout_s: float,
    *,
    example: Path | None = None,
    opset: int | None = None,
    tell_poor: bool = True,
) -> ExportReport:
    started = time.monotonic()
    source = source_of(path, saved.framework)
    if source.framework is Framework.ONNX:
        raise UsageError(f"{path}: is ONNX already; go on with edgetool quantize or edgetool pack")
    made = _made(source, saved)
    if opset is not None:
        write_in(made.model, opset, made.origin.estimator)
    items, columns = _items_for(made, source, data, saved, example)
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        draft = Path(folder) / "model.onnx"
        draft.write_bytes(_bytes_of(made.model))
        with Workbench(Path(folder), deadline=Deadline(path, timeout_s)) as bench:
            try:
                agreed = check(made, probes(items, made), bench, draft, tolerance=tolerance)
            except (AccuracyError, ConversionError) as exc:
                if opset is None:
                    raise
                raise type(exc)(f"{exc}; this is its form in opset {opset}, try it without --opset") from exc
        if tell_poor:
            made.notes.extend(poor_answers(made, items, columns))
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
        opset=opset_of(made.model),
        notes=tuple(made.notes),
        size_bytes=len(content),
        seconds=time.monotonic() - started,
    )


def _items_for(
    made: Made, source: Source, data: DataFiles | None, saved: Saved, example: Path | None
) -> tuple[Sample, tuple[str, ...]]:
    """What the model is compared on, and the columns of the data that this is from."""
    columns: tuple[str, ...] = ()
    if example is not None:
        items = read_example(example, made)
    elif data is not None and source.framework.takes_tables:
        items, columns = rows_of(data, made, saved)
    elif data is not None:
        items, columns = windows_of(data, made, saved)
    elif source.framework.takes_tables:
        raise UsageError(f"{source.path}: --data FILE is needed, with rows to compare on")
    else:
        items = made_up(made)
        made.notes.append("compared on made-up values; --data FILE compares on your readings")
    if saved.is_scaled:
        # As they are, the readings are far outside what the model has seen.
        items = made_up(made, saved.window)
    return items, columns


# Each converter is imported for its own models alone: `pack` comes here with every ONNX file, too.
def _made(source: Source, saved: Saved) -> Made:
    """The model of what is in a file."""
    if source.framework is Framework.TORCH:
        from edgetool.frameworks import pytorch

        return pytorch.made_of(source.path, saved)
    saved.refuse_shapes(source)
    if source.framework is Framework.TENSORFLOW:
        from edgetool.frameworks import keras

        return keras.made_of(source.path, saved)
    if source.framework is Framework.LIGHTGBM:
        from edgetool.frameworks import lightgbm

        return lightgbm.convert(lightgbm.open_booster(source.path))
    if source.framework is Framework.XGBOOST:
        from edgetool.frameworks import xgboost

        return xgboost.convert(xgboost.open_booster(source.path))
    from edgetool.frameworks.sklearn.convert import convert

    return convert(open_sklearn(source, saved.trust))


def _bytes_of(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))
