#!/usr/bin/env bash
# Expected: where Keras's exporter to ONNX has no operator for something in a model, model.export raises.
# Found: it writes a file that no runtime loads, and returns as if all were well. A Dense layer with activation "gelu"
# becomes a node Erfc of the domain of ONNX, which ONNX does not have; a Conv1D with groups=2 becomes a node
# StatefulPartitionedCall. A line on stderr, of a logger of tf2onnx's that Keras's own users never hear of, is all that
# tells it. The same layer with "tanh" is right.
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0, tf2onnx 1.17.0, onnx 1.23.2, onnxruntime 1.31.1, numpy 2.4.6,
# Python 3.11.7, Linux x86-64.
# Date: 2026-11-29.
# Exits with 1 if one of the two raises, or is a model that runs; with 2 where there is no Python from 3.11 to 3.13
# (PYTHON=… names one). Installs 1.7 GB.
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
    keras==3.15.1 tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys
from importlib.metadata import version

import keras
import numpy as np
import onnx
import onnxruntime
from keras import layers

print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in (
    "keras", "tensorflow-cpu", "tf2onnx", "onnx", "onnxruntime")))
given = np.ones((2, 16, 4), dtype=np.float32)
runs = {}
for name, layer in {
    "tanh": layers.Dense(3, activation="tanh"),
    "gelu": layers.Dense(3, activation="gelu"),
    "two groups": layers.Conv1D(8, 3, groups=2),
}.items():
    model = keras.Sequential([keras.Input((16, 4)), layer])
    expected = np.asarray(model(given))
    path = f"{sys.argv[1]}/{name.replace(' ', '_')}.onnx"
    try:
        model.export(path, format="onnx", verbose=False)
    except Exception as error:
        print(f"{name}: the export raises {type(error).__name__}")
        runs[name] = "raises"
        continue
    unknown = [node.op_type for node in onnx.load(path).graph.node if not onnx.defs.has(node.op_type)]
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: given})[0]
        runs[name] = "runs"
        print(f"{name}: written, runs, off by {np.abs(found - expected).max():.1g}")
    except Exception as error:
        runs[name] = "does not load"
        print(f"{name}: written without an error, with {unknown}; the runtime: {str(error)[:90]}…")
sys.exit(0 if list(runs.values()) == ["runs", "does not load", "does not load"] else 1)
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/trial.py" "$folder" 2>"$folder/log" || { tail -5 "$folder/log"; exit 1; }
