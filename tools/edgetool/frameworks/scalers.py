"""A fitted scaler of scikit-learn that lies beside a model without one: the numbers in it, as `--scale` takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError, UsageError
from edgetool.frameworks.sources import PICKLES, Framework, Source, Trust, open_sklearn

__all__ = ["FittedScaler", "check_columns", "read_scaler", "read_scalers"]

_ENDINGS = (".skops", *PICKLES)


@dataclass(frozen=True, slots=True)
class FittedScaler:
    """`(reading - mean) / scale` is what a model was trained on."""

    path: str
    """Of its file, as it was said."""
    numbers: dict[str, NDArray[np.float64]]
    """`mean` and `scale`, shape (features,), in the units of the readings."""
    features: tuple[str, ...]
    """Names of the columns that it was fitted on; empty where it knows none."""


def read_scalers(said: Iterable[str | None], trust: Trust) -> tuple[FittedScaler, ...]:
    """Those of the files of scikit-learn among what `--scale` and `--unscale` say.

    Raises:
        As `read_scaler` does.
    """
    return tuple(read_scaler(text, trust) for text in said if text and Path(text).suffix.lower() in _ENDINGS)


def check_columns(scalers: Iterable[FittedScaler], channels: tuple[str, ...]) -> None:
    """Refuse channels in another order, or others, than a scaler was fitted on.

    Raises:
        UsageError: they are.
    """
    for scaler in scalers:
        names = scaler.features
        if names and names != channels:
            raise UsageError(
                f"{scaler.path}: was fitted on {', '.join(names[:20])}, and the readings are "
                f"{', '.join(channels[:20])}; give them in that order: --channels {','.join(names[:20])}"
            )


def read_scaler(text: str, trust: Trust) -> FittedScaler:
    """The numbers of a scaler.

    Raises:
        ConversionError: it is not there, cannot be read, is not fitted, or is no plain scaling.
        UsageError: nobody has said to trust the file.
    """
    path = Path(text)
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
    scaler = open_sklearn(Source(path, Framework.SKLEARN, is_pickle=path.suffix.lower() in PICKLES), trust)
    name = type(scaler).__name__
    if name not in _SCALERS:
        raise ConversionError(
            f"{path}: holds a {name}; expected a fitted {', '.join(_SCALERS)}. Save other steps in one Pipeline with "
            "the model, or give an .npz with `mean` and `scale`"
        )
    if not hasattr(scaler, "n_features_in_"):
        raise ConversionError(f"{path}: the {name} is not fitted; save it after fit(rows)")
    offset, scale = _SCALERS[name](path, scaler)
    width = int(scaler.n_features_in_)
    return FittedScaler(
        text,
        {"mean": np.broadcast_to(offset, width), "scale": np.broadcast_to(scale, width)},
        tuple(str(each) for each in getattr(scaler, "feature_names_in_", ())),
    )


_Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _or(values: Any, otherwise: float) -> NDArray[np.float64]:
    return np.asarray(otherwise if values is None else values, dtype=np.float64)


def _standard(_: Path, scaler: Any) -> _Pair:
    return _or(scaler.mean_ if scaler.with_mean else None, 0.0), _or(scaler.scale_, 1.0)


def _robust(_: Path, scaler: Any) -> _Pair:
    return _or(scaler.center_, 0.0), _or(scaler.scale_, 1.0)


def _largest(path: Path, scaler: Any) -> _Pair:
    _refuse_clip(path, scaler)
    return _or(None, 0.0), _or(scaler.scale_, 1.0)


def _range(path: Path, scaler: Any) -> _Pair:
    """It answers `reading * scale_ + min_`, whatever its `feature_range` is."""
    _refuse_clip(path, scaler)
    return -scaler.min_ / scaler.scale_, 1 / scaler.scale_


def _refuse_clip(path: Path, scaler: Any) -> None:
    if getattr(scaler, "clip", False):
        raise ConversionError(
            f"{path}: the {type(scaler).__name__} has clip=True, so readings beyond those of the training look like "
            "these; save it in one Pipeline with the model, which keeps that, or fit it with clip=False"
        )


_SCALERS = {"StandardScaler": _standard, "MinMaxScaler": _range, "RobustScaler": _robust, "MaxAbsScaler": _largest}
