#!/usr/bin/env bash
# Expected: a booster that onnxmltools converts without an error answers in ONNX as it does in LightGBM; what it cannot
# convert, it refuses.
# Found: onnxmltools 1.16.0 converts these without a word, and the answers are others: boosting rf (a random forest
# gives the mean of its trees; the model gives their sum, with 40 trees 40 times the value), reg_sqrt (the square is not
# taken), zero_as_missing (zeros go where numbers near them go), multiclassova (each class is one against all, and the model gives
# other probabilities). Plain regression beside them is right.
# Versions: onnxmltools 1.16.0, lightgbm 4.7.0, onnx 1.19.1, onnxruntime 1.23.2, Python 3.11.7, Linux x86-64.
# Date: 2026-11-29.
# Exits with 1 if one of the four is right, or refused.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxmltools==1.16.0 skl2onnx==1.20.0 lightgbm==4.7.0 \
    onnx==1.19.1 onnxruntime==1.23.2 scikit-learn==1.9.1
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys
import warnings
from importlib.metadata import version

import lightgbm
import numpy as np
import onnxruntime
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
rows = rng.normal(size=(1500, 4)).astype(np.float32)
rows[rng.random(1500) < 0.3, 3] = 0
value = 5 + 2 * rows[:, 0] + np.where(rows[:, 3] == 0, 1.5, 0.0) - rows[:, 3]
value -= value.min() - 1
quiet = {"verbosity": -1, "num_leaves": 15, "seed": 0, "objective": "regression"}
modes = {
    "plain": {},
    "boosting rf": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
    "reg_sqrt": {"reg_sqrt": True},
    "zero_as_missing": {"zero_as_missing": True},
}
value_of_class = np.digitize(value, np.quantile(value, [0.3, 0.6]))
print(
    f"Python {platform.python_version()}, "
    + ", ".join(f"{name} {version(name)}" for name in ("onnxmltools", "lightgbm", "onnx", "onnxruntime"))
)
off = {}
for name, options in modes.items():
    booster = lightgbm.train({**quiet, **options}, lightgbm.Dataset(rows, value), 40)
    model = convert_lightgbm(booster, initial_types=[("x", FloatTensorType([None, 4]))], target_opset=15)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": rows})[0].ravel()
    expected = booster.predict(rows)
    off[name] = float(np.abs(found - expected).max() / expected.std())
    print(f"{name:16} LightGBM {expected[0]:8.4f}, ONNX {found[0]:8.4f}; off by {off[name]:.2g} spreads at most")
ova = {**quiet, "objective": "multiclassova", "num_class": 3}
booster = lightgbm.train(ova, lightgbm.Dataset(rows, value_of_class), 40)
types = [("x", FloatTensorType([None, 4]))]
model = convert_lightgbm(booster, initial_types=types, target_opset=15, zipmap=False)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
found, expected = session.run(None, {"x": rows})[1], booster.predict(rows)
off["multiclassova"] = float(np.abs(found - expected).max() / expected.std())
print(f"{'multiclassova':16} LightGBM {expected[0]}, ONNX {found[0]}; off by {off['multiclassova']:.2g} spreads at most")
sys.exit(0 if off["plain"] < 1e-3 and min(off[name] for name in list(off)[1:]) > 0.1 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py"
