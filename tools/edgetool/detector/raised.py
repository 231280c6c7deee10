"""Holds a model of an old opset against itself as it was raised: `onnx` makes other functions of some operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError
from edge_agent.messages.reading import FloatArray
from edgetool.detector.head import PREFIX
from edgetool.detector.scorer import Scorer
from edgetool.graph.edits import copy_of
from edgetool.graph.raising import LEAST_OPSET, is_older
from edgetool.graph.walks import is_onnx
from edgetool.verify.odd import odd_windows
from edgetool.verify.samples import model_inputs

__all__ = ["check_raised"]

_WINDOWS = 48
_ODD = 48
_SAME = 1e-3
"""Share of a value's range by which the two may differ."""
_ROUNDING = 1e-5
"""Share of its size, of float32 in another order."""


def check_raised(
    path: Path, model: onnx.ModelProto, probe: onnx.ModelProto, windows: FloatArray, scorer: Scorer
) -> None:
    """Refuse a model that answers something else once its opset is raised; one of a newer opset is not run.

    Args:
        path: of the model.
        model: as its author has it.
        probe: the same fed with readings, in the newer opset.
        windows: shape (n, frame.seen, channels), normal readings.
        scorer: that runs both.

    Raises:
        ConversionError: it does, or one of the two does not run.
    """
    if not is_older(model):
        return
    fed = copy_of(probe)
    inputs = model_inputs(model)
    own = [value.name.removeprefix(PREFIX) for value in probe.graph.output]
    taken = {value.name for value in fed.graph.output}
    fed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(PREFIX + item.name)
        for item in inputs
        if PREFIX + item.name not in taken
    )
    picked = windows[np.unique(np.linspace(0, len(windows) - 1, _WINDOWS).astype(int))]
    tried = np.concatenate([picked, odd_windows(windows)[:_ODD]])
    raised = scorer.one_by_one(fed, [{"readings": window[np.newaxis]} for window in tried])
    given = [{item.name: each[PREFIX + item.name] for item in inputs} for each in raised]
    answered = scorer.one_by_one(model, given)
    for name in own:
        if name not in answered[0] or answered[0][name].dtype.kind != "f":
            continue
        before = np.stack([each[name].ravel() for each in answered]).astype(np.float64)
        after = np.stack([each[PREFIX + name].ravel() for each in raised]).astype(np.float64)
        off = _off(before, after)
        if off:
            raise ConversionError(
                f"{path}: output {name!r} is another once the model is raised from opset {_opset(model)} to "
                f"{LEAST_OPSET}, which onnx {onnx.__version__} gets wrong (off by {off:.2g} of the values' range; the "
                f"operators are {_operators(model)}); export it with opset {LEAST_OPSET} or newer, in PyTorch "
                f"torch.onnx.export(model, (x,), path, opset_version=17)"
            )


def _off(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """The largest difference of a value, as a share of its range over the windows; 0 if all is rounding."""
    if before.shape != after.shape:
        return np.inf
    finite = np.where(np.isfinite(before), before, 0.0)
    reach, size = np.ptp(finite, axis=0), np.abs(finite).max(axis=0, initial=0.0)
    is_same = np.isclose(before, after, rtol=0.0, atol=_SAME * reach + _ROUNDING * size, equal_nan=True)
    if is_same.all():
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.abs(after - before) / np.where(reach > 0, reach, size)
    return float(np.nanmax(np.where(is_same | ~np.isfinite(shares), 0.0, shares), initial=0.0)) or np.inf


def _opset(model: onnx.ModelProto) -> int:
    return int(min(entry.version for entry in model.opset_import if is_onnx(entry.domain)))


def _operators(model: onnx.ModelProto) -> str:
    names = sorted({node.op_type for node in model.graph.node})
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
