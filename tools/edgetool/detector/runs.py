"""Runs the models of one command on windows, each loaded once, in one child process."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.files.shared_library import Library
from edge_agent.messages.reading import FloatArray
from edgetool.deadline import Deadline
from edgetool.verify.arrays import Sample
from edgetool.verify.fitting import explain
from edgetool.verify.workbench import Workbench

__all__ = ["ModelRuns", "are_equal"]

_BATCH = 1024
_SAME = 1e-3
"""Share of an output's peak by which the answers of a window alone and in a batch may differ, from rounding."""


class ModelRuns:
    """A child process that runs models; a context manager that ends it.

    Args:
        path: the model of the command, for the texts of errors.
        deadline: of the command.
        libraries: with operators of the models.
    """

    def __init__(self, path: Path, deadline: Deadline, libraries: Sequence[Library] = ()) -> None:
        self._path = path
        self._folder = tempfile.TemporaryDirectory(prefix="edgetool-")
        self._deadline = deadline
        self._libraries = libraries
        self._bench: Workbench | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._bench is not None:
            self._bench.close()
        self._folder.cleanup()

    def _started(self) -> Workbench:
        """The child, from the first run on: many models are refused before one."""
        if self._bench is None:
            self._bench = Workbench(Path(self._folder.name), deadline=self._deadline, libraries=self._libraries)
            self._bench.keeps_large = True
        return self._bench

    def runtime(self) -> str:
        """The version of ONNX Runtime that they run in.

        Raises:
            ConversionError: it crashes or hangs.
            OutOfTimeError: the deadline has passed.
        """
        return self._started().runtime()

    def outputs(
        self,
        model: bytes,
        windows: FloatArray,
        *,
        states: FloatArray | None = None,
        before: NDArray[np.int64] | None = None,
        with_states: bool = True,
    ) -> Sample:
        """All outputs of a model for windows, run in batches and put together.

        Args:
            model: an ONNX file's bytes, whose input is `readings`; and `state` where that is given.
            windows: shape (n, window, channels).
            states: what the model takes as `state`: shape (n, size), or with `before` (1, size) for those that have
                none before them; None of a model without state.
            before: shape (n,), for each window the number of an earlier one whose `next_state` is its state, or -1;
                None takes all windows at once, each with its own of `states`.
            with_states: give `next_state`, too, where windows are run one by one.

        Raises:
            ConversionError: the runtime refuses the model, fails, crashes or hangs; the text has its reason.
            OutOfTimeError: the deadline has passed.
        """
        file = self._file_of(model)
        whole: Sample = {"readings": windows, **({} if states is None else {"state": states})}
        starts = range(0, len(windows), _BATCH)
        samples = [{name: values[i : i + _BATCH] for name, values in whole.items()} for i in starts]
        bench = self._started()
        given = bench.keep_samples(samples if before is None else [{**whole, "before": before}])
        try:
            parts = (
                bench.run(file, on=given)
                if before is None
                else bench.run_chain(file, on=given, with_states=with_states)
            )
        except ConversionError as exc:
            problem = explain(f"provider cpu: {exc}", onnx.load_from_string(model))
            raise ConversionError(f"{self._path}: does not run on windows of {windows.shape[1:]}: {problem}") from exc
        finally:
            given.unlink()
        return {
            name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 and values.ndim else values
            for name, values in parts[0].items()
        }

    def each(self, model: bytes, samples: Sequence[Sample]) -> list[Sample]:
        """All outputs of a model with inputs of any names, for each of some samples by itself.

        Raises:
            ConversionError: as of `outputs`.
            OutOfTimeError: the deadline has passed.
        """
        bench = self._started()
        given = bench.keep_samples(samples)
        try:
            return bench.run(self._file_of(model), on=given)
        except ConversionError as exc:
            problem = explain(f"provider cpu: {exc}", onnx.load_from_string(model))
            raise ConversionError(f"{self._path}: does not run: {problem}") from exc
        finally:
            given.unlink()

    def _file_of(self, model: bytes) -> Path:
        file = Path(self._folder.name) / f"{hashlib.sha256(model).hexdigest()[:32]}.onnx"
        if not file.exists():
            file.write_bytes(model)
        return file


def are_equal(together: Sample, alone: list[Sample]) -> bool:
    """True if each window's answers in a batch are those that it has alone, within float32's rounding of sums."""
    for name, values in together.items():
        parts = [each[name] for each in alone]
        if values.dtype.kind != "f" or not all(part.size for part in parts):
            continue
        apart = np.concatenate([part.ravel() for part in parts])
        if values.size != apart.size:
            return False
        finite = apart[np.isfinite(apart)]
        peak = float(np.abs(finite).max(initial=0.0))
        if not np.allclose(values.ravel(), apart, rtol=_SAME, atol=_SAME * peak, equal_nan=True):
            return False
    return True
