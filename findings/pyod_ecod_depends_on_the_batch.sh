#!/usr/bin/env bash
# Expected: the score of a fitted detector for a row depends on the row and on what it was fitted on.
# Found: of ECOD and COPOD it depends on all rows of the call. decision_function puts the rows under those of the training,
# ranks all of them together, and gives the last ranks. Of 200 rows of which one of four channels is 3 spreads off, a row
# alone scores up to 4.7 higher (ECOD) than in one call with the others, where the training's scores have a spread of 2.
# So threshold_, which was made of the training, finds 64 % of them row by row, and 8 % in one call. A detector that
# scores a stream gives other scores than the same detector on a file.
# Versions: PyOD 3.6.7 and 2.0.6, scikit-learn 1.9.1, Python 3.11.7, Linux x86-64. Date: 2026-11-29.
# Exits with 1 if rows score alike alone and together.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys
import warnings

import numpy as np
import pyod
import sklearn
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
trained = rng.normal(size=(1000, 4))
rows = rng.normal(size=(200, 4)) + np.array([3.0, 0.0, 0.0, 0.0])
print(f"Python {platform.python_version()}, PyOD {pyod.__version__}, scikit-learn {sklearn.__version__}")
worst = []
for kind in (ECOD, COPOD):
    detector = kind(contamination=0.05).fit(trained)
    together = detector.decision_function(rows)
    alone = np.array([detector.decision_function(row[np.newaxis])[0] for row in rows])
    worst.append(np.abs(together - alone).max())
    found = [(scores > detector.threshold_).mean() for scores in (alone, together)]
    print(
        f"{kind.__name__}: scores of the training {detector.decision_scores_.mean():.2f} +- "
        f"{detector.decision_scores_.std():.2f}; the first row alone {alone[0]:.2f}, with the others {together[0]:.2f}; "
        f"at most {worst[-1]:.2f} apart; "
        f"above threshold_ alone {found[0]:.0%}, together {found[1]:.0%}"
    )
sys.exit(0 if min(worst) > 0.5 else 1)
PYTHON
for version in 3.6.7 2.0.6; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "pyod==$version" scikit-learn==1.9.1
    "$folder/$version/bin/python" "$folder/trial.py"
done
