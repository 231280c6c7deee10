"""Boosters at the end of a pipeline see what the steps before them make of a reading, to the last bit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from boosted_data import readings, target, write
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from edge_agent.errors import ConversionError
from edgetool.commands.export import export

S = StandardScaler
LIGHT: dict[str, Any] = {"n_estimators": 30, "verbosity": -1, "random_state": 0, "n_jobs": 1}
EXTREME: dict[str, Any] = {"n_estimators": 30, "max_depth": 4, "random_state": 0, "n_jobs": 1}
PIPELINES: dict[str, tuple[Any, str]] = {
    "scaled, xgboost": (make_pipeline(S(), xgboost.XGBRegressor(**EXTREME)), "value"),
    "scaled far from zero": (make_pipeline(MinMaxScaler(), xgboost.XGBRegressor(**EXTREME)), "pascal"),
    "imputed, classes": (make_pipeline(SimpleImputer(), S(), xgboost.XGBClassifier(**EXTREME)), "three"),
    "forest": (make_pipeline(S(), xgboost.XGBRFRegressor(**EXTREME)), "value"),
    "scaled, lightgbm": (make_pipeline(S(), lightgbm.LGBMRegressor(**LIGHT)), "value"),
    "two classes, lightgbm": (make_pipeline(MinMaxScaler(), lightgbm.LGBMClassifier(**LIGHT)), "two"),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_answers_as_its_framework(name: str, tmp_path: Path) -> None:
    """At the thresholds, with missing values; what stands before the trees is part of their thresholds."""
    estimator, kind = PIPELINES[name]
    rows = readings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joblib.dump(estimator.fit(rows, target(rows, kind)), tmp_path / "m.joblib")
    report = export(tmp_path / "m.joblib", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    assert report.agreed.deviation <= 1e-4
    assert report.agreed.missing >= 64
    assert report.origin.framework.startswith("scikit-learn")
    assert ("XGBoost" if "XGB" in report.origin.estimator else "LightGBM") in report.origin.framework
    operators = [node.op_type for node in onnx.load(report.output).graph.node]
    assert "TreeEnsembleRegressor" in operators
    assert not {"Sub", "Div", "MatMul"} & set(operators)


def test_labels_of_classes_are_those_of_the_training(tmp_path: Path) -> None:
    """LightGBM numbers them; the user knows them by their names."""
    rows = readings()
    labels = np.array(["cold", "good", "worn"])[target(rows, "three").astype(int)]
    joblib.dump(lightgbm.LGBMClassifier(**LIGHT).fit(rows, labels), tmp_path / "m.joblib")
    report = export(tmp_path / "m.joblib", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    assert report.origin.classes == ("cold", "good", "worn")


def test_a_mark_of_missing_values_behind_other_steps_is_refused(tmp_path: Path) -> None:
    """Where 0 means missing, what a scaler makes of 0 is no 0."""
    rows = np.nan_to_num(readings(), nan=0.0)
    data = write(tmp_path / "rows.csv", rows)
    for last, problem in (
        (xgboost.XGBRegressor(**EXTREME, missing=0.0), "missing=0 stands for a missing value, and steps before it"),
        (lightgbm.LGBMRegressor(**LIGHT, zero_as_missing=True), "zero means missing, and steps before it change that"),
    ):
        for first in (S(), PCA(2)):
            estimator = make_pipeline(first, last).fit(rows, target(rows, "value"))
            joblib.dump(estimator, tmp_path / "m.joblib")
            with pytest.raises(ConversionError, match=problem):
                export(tmp_path / "m.joblib", data=data, trust_pickle=True)
