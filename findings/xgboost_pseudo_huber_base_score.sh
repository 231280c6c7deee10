#!/usr/bin/env bash
# Expected: XGBoost's reg:pseudohubererror without a base_score learns targets of about 40, as reg:squarederror does: the
# documentation says that a base score is estimated from the data.
# Found: the estimate is one step of Newton's method from 0, where this loss has nearly no curvature: of targets of 40 it
# is about 60,000. From there the gradient is constant and the curvature nearly 0, so that no tree splits, and every row
# gets one value, three orders of magnitude off, without a warning. With base_score near the targets it learns.
# Versions: xgboost-cpu 3.2.0, Python 3.11, Linux x86-64. Date: 2026-11-30.
# Exits with 1 if the predictions vary, or lie near the targets.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check xgboost-cpu==3.2.0 numpy==2.4.0
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys

import numpy as np
import xgboost

random = np.random.default_rng(0)
rows = random.normal(size=(2000, 4))
targets = 40 + 2 * rows[:, 0] + random.normal(0, 0.5, 2000)
data = xgboost.DMatrix(rows, targets)
print(f"xgboost {xgboost.__version__}, Python {platform.python_version()}; targets {targets.mean():.1f} +- {targets.std():.1f}")
found = {}
for name, options in {
    "squarederror": {"objective": "reg:squarederror"},
    "pseudohubererror": {"objective": "reg:pseudohubererror"},
    "pseudohubererror, base_score 40": {"objective": "reg:pseudohubererror", "base_score": 40},
}.items():
    found[name] = xgboost.train({"verbosity": 1, **options}, data, 50).predict(data)
    print(f"{name}: {found[name].mean():.1f} +- {found[name].std():.2f}")
far = found["pseudohubererror"]
sys.exit(0 if np.ptp(far) == 0 and abs(far.mean() - 40) > 1000 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py"
