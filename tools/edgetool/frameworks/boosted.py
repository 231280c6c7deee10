"""The estimators that LightGBM and XGBoost have for scikit-learn, alone or at the end of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from edgetool.frameworks import lightgbm, xgboost
from edgetool.frameworks.ensemble import Transform
from edgetool.frameworks.made import Ending
from edgetool.frameworks.parts import Graph

__all__ = ["append", "is_booster"]


def is_booster(estimator: Any) -> bool:
    """Whether it is one of them."""
    return type(estimator).__module__.startswith(("lightgbm.", "xgboost."))


def append(estimator: Any, graph: Graph, source: str, before: Transform | None) -> Ending:
    """Put a fitted one behind a tensor; the classes keep their labels.

    Raises:
        ConversionError: as for a booster of its library.
    """
    if type(estimator).__module__.startswith("xgboost."):
        ending = xgboost.append_estimator(estimator, graph, source, before)
    else:
        ending = lightgbm.append(estimator.booster_, graph, source, before)
    labels = tuple(str(label) for label in getattr(estimator, "classes_", ()))
    if len(labels) != len(ending.origin.classes):
        return ending
    return replace(ending, origin=msgspec.structs.replace(ending.origin, classes=labels))
