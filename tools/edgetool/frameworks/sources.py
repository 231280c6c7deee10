"""What a saved model is, by its name and its first bytes, and opens it only as far as it is trusted."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge_agent.errors import ConversionError, UsageError
from edgetool.choices import LayoutIs
from edgetool.extras import require
from edgetool.frameworks.shapes import Shape
from edgetool.graph.boosters import LIGHTGBM, XGBOOST, booster_of
from edgetool.graph.model_file import SAVED_BY

__all__ = [
    "FACTORY",
    "PICKLES",
    "SAVED_MODEL",
    "Framework",
    "Saved",
    "Source",
    "Trust",
    "framework_of",
    "open_sklearn",
    "source_of",
]

PICKLES = (".pkl", ".pickle", ".joblib")
"""Endings of files that run code when they are read."""
_TORCH_ENDINGS = (".pt2", ".pt", ".pth")
SAVED_MODEL = "saved_model.pb"
"""The file that makes a folder a SavedModel of TensorFlow."""
FACTORY = ".py:"
"""Between the file of a Python module and the name in it that makes a model: `model.py:build`."""
_SHOWN = 8
"""Parts of a file that are named where none of them is the model."""
_SKOPS_SCHEMA = "schema.json"
_HARMLESS = tuple(f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer"))
"""Types that skops does not know, and that hold numbers in plain Python: what a training of a network leaves behind."""


class Framework(StrEnum):
    """What has made a model."""

    ONNX = "onnx"
    SKLEARN = "sklearn"
    LIGHTGBM = "lightgbm"
    XGBOOST = "xgboost"
    TORCH = "torch"
    TENSORFLOW = "tensorflow"

    @property
    def takes_tables(self) -> bool:
        """Its models take rows, and may know the names of their columns."""
        return self in (Framework.SKLEARN, Framework.LIGHTGBM, Framework.XGBOOST)


_BOOSTERS = {LIGHTGBM: Framework.LIGHTGBM, XGBOOST: Framework.XGBOOST}


@dataclass(frozen=True, slots=True)
class Trust:
    """What the user allows a file to do."""

    pickle: bool = False
    """A pickle runs whatever code is in it, as soon as it is read."""
    types: tuple[str, ...] = ()
    """Types of a `.skops` file beside those that skops trusts by itself; each may be several, with commas between."""
    code: bool = False
    """Code of a model's own, such as TorchScript, is run."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What the user says of a saved model."""

    trust: Trust = Trust()
    weights: Path | None = None
    """For the module that a factory makes."""
    shapes: tuple[Shape, ...] = ()
    """Of what it takes, where it does not know that."""
    layout: LayoutIs = LayoutIs.AUTO
    """How it takes a window, where its shape fits both."""
    open_time: bool = False
    """Leave the number of rows in a window open."""
    framework: str | None = None
    """That it is of."""
    besides: tuple[str, ...] = ()
    """Columns of the data that it may not take: one that it tells, or one of expected scores."""
    window: int | None = None
    """Rows in a window, where it leaves that open."""
    is_scaled: bool = False
    """The readings are scaled before it takes them."""
    signature: str | None = None
    """A function of a SavedModel of TensorFlow."""

    def refuse_shapes(self, source: Source) -> None:
        """Refuse what is said of a model that knows all of that.

        Raises:
            UsageError: there is something.
        """
        said = {
            "--weights": self.weights,
            "--shape": self.shapes,
            "--open-time": self.open_time and source.framework is not Framework.TENSORFLOW,
            "--signature": self.signature and not source.path.is_dir(),
        }
        for option, value in said.items():
            if value:
                raise UsageError(f"{option}: {source.path} is of {source.framework.value}, which takes no {option}")


@dataclass(frozen=True, slots=True)
class Source:
    """A saved model."""

    path: Path
    framework: Framework
    is_pickle: bool


def source_of(path: Path, asked: str | None = None) -> Source:
    """What a file is.

    Args:
        path: of it, or `module.py:factory`.
        asked: the framework that it is of, as the user says.

    Raises:
        ConversionError: it is not there, or of no kind that is known.
        UsageError: it is of another framework.
    """
    if asked is not None and asked not in list(Framework):
        raise UsageError(f"--framework {asked}: expected one of {', '.join(list(Framework)[1:])}")
    file = Path(str(path).rpartition(":")[0]) if FACTORY in path.name else path
    if not file.exists():
        raise ConversionError(f"{file}: no such file")
    ending, framework = path.suffix.lower(), framework_of(path)
    if framework is not None and asked not in (None, framework):
        raise UsageError(f"--framework {asked}: {path} is of {framework}")
    if framework is not None:
        return Source(path, framework, is_pickle=ending in PICKLES)
    if path.is_dir():
        raise ConversionError(f"{path}: is a folder without {SAVED_MODEL}, which a SavedModel of TensorFlow has")
    if ending in SAVED_BY:
        raise ConversionError(f"{path}: {SAVED_BY[ending]}")
    raise ConversionError(
        f"{path}: is of no kind that is known; expected .skops, .joblib or .pkl of scikit-learn or PyOD, a booster of "
        "LightGBM in its own .txt or of XGBoost in its own .json or .ubj, .pt2, .pt or module.py:factory of PyTorch, "
        "or .keras or a SavedModel of TensorFlow"
    )


def framework_of(path: Path) -> Framework | None:
    """What has made a file, by its ending and its first bytes; None of no kind that is known."""
    ending = path.suffix.lower()
    if ending == ".onnx":
        return Framework.ONNX
    if ending in _TORCH_ENDINGS or FACTORY in path.name:
        return Framework.TORCH
    if ending == ".keras" or (path / SAVED_MODEL).is_file():
        return Framework.TENSORFLOW
    if ending in (".skops", *PICKLES):
        return Framework.SKLEARN
    return _BOOSTERS.get(booster_of(path) or "")


def open_sklearn(source: Source, trust: Trust) -> Any:
    """The estimator in a file.

    Raises:
        ConversionError: the file is damaged, or holds no estimator.
        MissingExtraError: a package is not installed.
        UsageError: it is a pickle, or holds types, that nobody has said to trust.
    """
    if source.is_pickle and not trust.pickle:
        raise UsageError(
            f"{source.path}: is a pickle, which runs whatever code is in it when it is read. If you know who made it, "
            "allow it with --trust-pickle; better, save it with skops.io.dump(model, 'model.skops')"
        )
    estimator = _unpickled(source.path) if source.is_pickle else _from_skops(source.path, trust.types)
    estimator = _searched(_only_one(source.path, estimator))
    if not hasattr(estimator, "get_params"):
        raise ConversionError(
            f"{source.path}: holds a {type(estimator).__module__}.{type(estimator).__name__}, expected an estimator of "
            "scikit-learn"
        )
    return estimator


def _only_one(path: Path, content: Any) -> Any:
    """What a dictionary holds, where that is one estimator beside words; of anything else, its keys are told.

    Numbers beside it may be the scaling that it was trained with.
    """
    if not isinstance(content, Mapping):
        return content
    named = dict(content)
    found = {name: each for name, each in named.items() if hasattr(each, "get_params")}
    if len(found) == 1 and all(_are_words(each) for name, each in named.items() if name not in found):
        return next(iter(found.values()))
    held = ", ".join(f"{name!r} ({type(each).__name__})" for name, each in list(named.items())[:_SHOWN])
    raise ConversionError(
        f"{path}: is a dictionary, expected an estimator alone, or beside words; it has {held or 'nothing'}. Save the "
        "detector as a file of its own; a scaler goes into one Pipeline with it, or to --scale as another file"
    )


def _are_words(content: Any) -> bool:
    """True of texts, and of lists of them, such as the names of columns or a date."""
    return isinstance(content, str) or (
        isinstance(content, list | tuple) and all(isinstance(each, str) for each in content)
    )


def _searched(estimator: Any) -> Any:
    """What a search over parameters has found: it answers by that."""
    is_search = type(estimator).__module__.startswith("sklearn.model_selection.")
    return getattr(estimator, "best_estimator_", estimator) if is_search else estimator


def _unpickled(path: Path) -> Any:
    joblib = require("joblib", extra="sklearn")
    try:
        return joblib.load(path)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        raise ConversionError(
            f"{path}: needs the Python module {missing!r} that it was saved with; install it"
        ) from exc
    # A pickle may raise anything.
    except Exception as exc:
        raise ConversionError(f"{path}: cannot be read ({type(exc).__name__}: {exc})") from exc


def _from_skops(path: Path, trusted: tuple[str, ...]) -> Any:
    skops = require("skops.io", extra="sklearn")
    try:
        with zipfile.ZipFile(path) as archive:
            archive.getinfo(_SKOPS_SCHEMA)
        trusted = (*(name.strip() for text in trusted for name in text.split(",")), *_HARMLESS)
        unknown = sorted(set(skops.get_untrusted_types(file=path)) - set(trusted))
        if unknown:
            raise UsageError(
                f"{path}: holds types that skops does not know as harmless: {', '.join(unknown)}. If you trust them: "
                f"--trust-type {','.join(unknown)}"
            )
        return skops.load(path, trusted=list(trusted))
    except UsageError:
        raise
    # zipfile, json and skops raise classes of their own for a damaged file.
    except Exception as exc:
        raise ConversionError(f"{path}: is no file of skops that can be read ({type(exc).__name__}: {exc})") from exc
