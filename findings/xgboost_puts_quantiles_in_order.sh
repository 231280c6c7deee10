#!/usr/bin/env bash
# Expected: a booster that XGBoost has saved answers the same under the next release.
# Found: of a booster of several quantiles (reg:quantileerror, quantile_alpha of more than one) it does not. Up to XGBoost
# 3.3 the answers are the sums of the trees, and where the quantiles of a row cross they stay crossed. XGBoost 3.4 sorts the
# answers of each row, also of a booster from before; output_margin=True still gives the sums. A converter that was right
# for one release is wrong for the other.
# Versions: xgboost-cpu 3.3.0 and 3.4.1, which need Python 3.12; Python 3.12.1, Linux x86-64. Date: 2026-11-29.
# Exits with 1 if both answer the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys

import numpy as np
import xgboost

folder, wanted = sys.argv[1:]
rng = np.random.default_rng(0)
rows = rng.normal(size=(1000, 4))
value = 2 * rows[:, 0] + np.sin(3 * rows[:, 1]) + rng.normal(size=1000)
if wanted == "train":
    options = {"objective": "reg:quantileerror", "quantile_alpha": [0.4, 0.5, 0.9], "max_depth": 5, "seed": 0}
    booster = xgboost.train(options, xgboost.DMatrix(rows, value), 30)
    booster.save_model(f"{folder}/m.json")
booster = xgboost.Booster(model_file=f"{folder}/m.json")
told = booster.predict(xgboost.DMatrix(rows))
sums = booster.predict(xgboost.DMatrix(rows), output_margin=True)
crossed = (np.diff(sums, axis=1) < 0).any(axis=1)
row = int(np.argmax(crossed))
print(
    f"Python {platform.python_version()}, XGBoost {xgboost.__version__}: the sums of {crossed.sum()} of 1000 rows cross; "
    f"of these, answers that cross: {(np.diff(told, axis=1) < 0).any(axis=1).sum()}; row {row}: {told[row]}"
)
if wanted == "train":
    np.save(f"{folder}/told.npy", told)
else:
    off = np.abs(told - np.load(f"{folder}/told.npy")).max()
    print(f"the two releases differ by up to {off:.2g} for one file")
    sys.exit(0 if off > 0.01 else 1)
PYTHON
for version in 3.3.0 3.4.1; do
    python3.12 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "xgboost-cpu==$version"
    "$folder/$version/bin/python" "$folder/trial.py" "$folder" "$([ "$version" = 3.3.0 ] && echo train || echo ask)"
done
