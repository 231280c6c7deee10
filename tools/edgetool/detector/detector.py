"""A model made canonical on normal readings: what `pack` scores with, and puts into the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from edge_agent.errors import ConversionError, DataError, UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import HigherIs, LayoutIs, OutputIs
from edgetool.data import SensorData, normal_windows
from edgetool.deadline import Deadline
from edgetool.detector.canonical import feed_readings, finish, is_canonical, note_types
from edgetool.detector.direction import sign_of_score, sklearn_scores
from edgetool.detector.head import Head, choose_head
from edgetool.graph.edits import with_all_outputs
from edgetool.graph.onnx_file import load_model
from edgetool.graph.versions import lower_versions
from edgetool.graph.weights import to_bytes
from edgetool.verify.arrays import Sample
from edgetool.verify.fitting import explain
from edgetool.verify.workbench import run_model

__all__ = ["Detector"]

_BATCH = 1024


class Detector:
    """A model made canonical on normal readings, with the windows it was tried on."""

    def __init__(
        self,
        path: Path,
        rows: SensorData,
        window: int | None,
        stride: int,
        score_output: str | None,
        output_is: OutputIs,
        higher_is: HigherIs,
        *,
        layout: LayoutIs = LayoutIs.AUTO,
        deadline: Deadline | None = None,
    ) -> None:
        self._path = path
        self._deadline = deadline or Deadline(path)
        self._asked_window = window
        self._layout = layout
        channels_first = False
        self._channels = len(rows.channels)
        self._head: Head | None = None
        self.repairs: list[str] = []
        """What was put right in the model that is packed, in words."""
        model = self._load(path)
        labels = sklearn_scores(model)
        if is_canonical(model):
            if higher_is is HigherIs.NORMAL:
                raise UsageError(f"--higher-is normal: {path} is canonical already; turn its score in the model")
            if layout is LayoutIs.CHANNELS_FIRST:
                raise UsageError(f"--layout channels-first: {path} is canonical already, which is rows first")
            self.score_from = "the model is canonical already"
            self.sign = sign_of_score(np.empty(0), None, higher_is)
            self.window = _canonical_window(path, model, self._channels, window)
        else:
            self.window, channels_first = feed_readings(model, channels=self._channels, window=window, layout=layout)
        self.windows = normal_windows(rows, window=self.window, stride=stride)
        if not len(self.windows):
            normal = len(rows) if rows.labels is None else int(np.count_nonzero(rows.labels == 0))
            cut = "" if normal == len(rows) else " without a labelled row in it"
            raise DataError(f"{rows.path}: {normal} normal rows complete no window of {self.window}{cut}")
        if not is_canonical(model):
            answers = self._run(model, self.windows)
            self._head = choose_head(
                answers,
                self.windows,
                output=score_output,
                output_is=output_is,
                higher_is=higher_is,
                labels=labels,
                channels_first=channels_first,
            )
            self.score_from = _in_words(self._head) + (", windows channels first" if channels_first else "")
            self.sign = self._head.sign
            finish(model, self._head, window=self.window, channels=self._channels)
        self._note_types(model)
        self.model = to_bytes(model, path)

    def same_for(self, path: Path) -> bytes:
        """Another form of the same model made canonical in the same way."""
        model = self._load(path)
        if self._head is not None:
            feed_readings(model, channels=self._channels, window=self._asked_window, layout=self._layout)
            finish(model, self._head, window=self.window, channels=self._channels)
        self._note_types(model)
        return to_bytes(model, path)

    def _load(self, path: Path) -> onnx.ModelProto:
        model = load_model(path)
        self.repairs = lower_versions(model)
        return model

    def _note_types(self, model: onnx.ModelProto) -> None:
        note_types(model, self._run(with_all_outputs(model), self.windows[:2]))

    def scores(self, model: bytes, windows: FloatArray) -> FloatArray:
        """The scores of a canonical model, shape (n,)."""
        score = self._run_bytes(model, windows)["score"]
        if score.shape != (len(windows),):
            raise ConversionError(
                f"{self._path}: score has shape {score.shape} for {len(windows)} windows; the model fixes its batch"
            )
        return score.astype(np.float32)

    def _run(self, model: onnx.ModelProto, windows: FloatArray) -> Sample:
        return self._run_bytes(to_bytes(model, self._path), windows)

    def _run_bytes(self, model: bytes, windows: FloatArray) -> Sample:
        """All outputs for all windows, run in batches and put together."""
        samples: list[Sample] = [{"readings": windows[i : i + _BATCH]} for i in range(0, len(windows), _BATCH)]
        try:
            parts = run_model(model, samples, deadline=self._deadline)
        except ConversionError as exc:
            problem = explain(str(exc), onnx.load_from_string(model))
            raise ConversionError(f"{self._path}: does not run on windows of {windows.shape[1:]}: {problem}") from exc
        return {
            name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 and values.ndim else values
            for name, values in parts[0].items()
        }


def _canonical_window(path: Path, model: onnx.ModelProto, channels: int, asked: int | None) -> int:
    dims = next(v for v in model.graph.input if v.name == "readings").type.tensor_type.shape.dim
    if dims[2].dim_value not in (0, channels):
        raise ConversionError(f"{path}: readings has {dims[2].dim_value} channels, the data have {channels}")
    window = dims[1].dim_value or asked
    if not window:
        raise ConversionError(f"{path}: readings leaves the window open; give it with --window")
    if asked and asked != window:
        raise ConversionError(f"{path}: readings has a window of {window}, --window says {asked}")
    return int(window)


def _in_words(head: Head) -> str:
    if head.scale is None:
        turned = ", sign changed so that higher is more anomalous" if head.sign.flipped else ""
        return f"output {head.name!r}{turned}"
    return f"squared error of the reconstruction {head.name!r}, each channel in units of its usual error"
