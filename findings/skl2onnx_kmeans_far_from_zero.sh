#!/usr/bin/env bash
# Expected: a KMeans that skl2onnx converts gives the distances of scikit-learn, up to the rounding of float32.
# Found: for readings that are large beside how they vary (air pressure in pascal: 101325, give or take 5), a fifth of the
# distances is NaN and the others are off by several times their size, while the labels are all right, so that nothing
# shows it. The graph takes |x|^2 - 2xc + |c|^2 apart in float32, where the squares cancel. scikit-learn's own
# transform of the same float32 rows is right to five digits.
# Versions: scikit-learn 1.9.1, skl2onnx 1.20.0, onnx 1.23.2, onnxruntime 1.24.1, numpy 2.4.6, Python 3.11.7, Linux x86-64.
# Date: 2026-11-29.
# Exits with 1 if no distance is NaN any more, with 2 where there is no Python from 3.11 to 3.13 (PYTHON=… names one).
set -euo pipefail
python=${PYTHON:-}
for name in python3.11 python3.12 python3.13 python3; do
    if [ -z "$python" ] && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        python=$name
    fi
done
[ -n "$python" ] || { echo "no Python from 3.11 to 3.13 is here; name one with PYTHON=" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    scikit-learn==1.9.1 skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.24.1 numpy==2.4.6
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys

import numpy as np
import onnxruntime as ort
import skl2onnx
import sklearn
from sklearn.cluster import KMeans

rng = np.random.default_rng(0)
rows = np.column_stack([rng.normal(0, 5, 2000), rng.normal(20, 1, 2000)])
print(f"Python {platform.python_version()}, scikit-learn {sklearn.__version__}, skl2onnx {skl2onnx.__version__},", end=" ")
print(f"onnxruntime {ort.__version__}")
missing = {}
for offset in (0, 101325):
    given = (rows + [offset, 0]).astype(np.float32)
    model = KMeans(8, n_init=3, random_state=0).fit(given)
    exact = np.linalg.norm(given[:, None].astype(np.float64) - model.cluster_centers_.astype(np.float64), axis=2)
    session = ort.InferenceSession(
        skl2onnx.to_onnx(model, given[:1]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    labels, found = session.run(None, {session.get_inputs()[0].name: given})
    missing[offset] = int(np.isnan(found).sum())
    print(
        f"around {offset}: {missing[offset]} of {found.size} distances are NaN, the others off by up to "
        f"{np.nanmax(np.abs(found - exact)):.3g} (mean distance {exact.mean():.3g}, scikit-learn off by "
        f"{np.abs(model.transform(given) - exact).max():.3g}); labels that differ: {(labels != model.predict(given)).sum()}"
    )
sys.exit(0 if missing[101325] and not missing[0] else 1)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py"
