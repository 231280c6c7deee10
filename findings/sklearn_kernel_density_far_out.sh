#!/usr/bin/env bash
# Expected: KernelDensity with its default tolerances, atol=0 and rtol=0, gives the exact logarithm of the density.
# Found: far from all points it does not. With 1,500 normal points of four channels and a bandwidth of 0.3, a point 12
# spreads away gets -474.2 where the sum over all points is -448.0, and one 20 away -1624.6 in place of -1583.6. Near the
# points the two are equal. So how far out a reading is cannot be read from the score, and a score that was made by the
# sum itself, as an exported model makes it, differs.
# Versions: scikit-learn 1.9.1 and 1.6.1, Python 3.11.7, Linux x86-64. Date: 2026-11-29.
# Exits with 1 if the scores are exact everywhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys

import numpy as np
import sklearn
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

WIDTH, POINTS, BANDWIDTH = 4, 1500, 0.3
points = np.random.default_rng(0).normal(size=(POINTS, WIDTH))
model = KernelDensity(bandwidth=BANDWIDTH).fit(points)
constant = np.log(POINTS) + WIDTH * np.log(BANDWIDTH) + WIDTH / 2 * np.log(2 * np.pi)
print(f"Python {platform.python_version()}, scikit-learn {sklearn.__version__}")
worst = 0.0
for away in (0.0, 2.0, 5.0, 8.0, 12.0, 20.0):
    row = np.full((1, WIDTH), away / np.sqrt(WIDTH))
    exact = logsumexp(-0.5 * ((row - points) ** 2).sum(axis=1) / BANDWIDTH**2) - constant
    told = model.score_samples(row)[0]
    worst = max(worst, abs(told - exact))
    print(f"{away:4.0f} spreads away: told {told:10.2f}, exact {exact:10.2f}")
sys.exit(0 if worst > 1 else 1)
PYTHON
for version in 1.9.1 1.6.1; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "scikit-learn==$version"
    "$folder/$version/bin/python" "$folder/trial.py"
done
