#!/usr/bin/env bash
# Expected: InferenceSession.run reads the arrays that it is given and never writes into them, least of all into those of
# an earlier call, which may be freed by then.
# Found: with the OpenVINO provider, a graph of Cast (to float16), Cast (to float32) and Scan writes into the input of the
# run before, so that what else is made of that array is silently wrong. With the CPU provider nothing changes.
# Versions: onnxruntime-openvino 1.24.1, onnx 1.23.2, numpy 2.4.6, Python 3.11.7, Linux x86-64. Date: 2026-11-28.
# Exits with 1 if no array changes, with 2 where there is no Python from 3.11 to 3.13 (PYTHON=… names one).
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
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime-openvino==1.24.1 onnx==1.23.2 numpy==2.4.6
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def value(name, shape):
    return helper.make_tensor_value_info(name, FLOAT, shape)


body = helper.make_graph(
    [
        helper.make_node("Identity", ["state"], ["state_out"]),
        helper.make_node("Sub", ["state", "row"], ["away"]),
        helper.make_node("ReduceSumSquare", ["away"], ["distance"], axes=[1], keepdims=0),
    ],
    "body",
    [value("state", ["n", 8]), value("row", [8])],
    [value("state_out", ["n", 8]), value("distance", ["n"])],
)
nodes = [
    helper.make_node("Cast", ["x"], ["half"], to=HALF),
    helper.make_node("Cast", ["half"], ["float"], to=FLOAT),
    helper.make_node("Scan", ["float", "float"], ["last", "y"], num_scan_inputs=1, body=body),
]
graph = helper.make_graph(nodes, "g", [value("x", ["n", 8])], [value("y", None)])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
options = ort.SessionOptions()
options.log_severity_level = 4
print(f"Python {platform.python_version()}, onnxruntime {ort.__version__}, onnx {onnx.__version__}")
changed = 0
for provider in ("CPUExecutionProvider", "OpenVINOExecutionProvider"):
    session = ort.InferenceSession(model, options, providers=[provider])
    arrays = [np.random.default_rng(seed).standard_normal((16, 8)).astype(np.float32) for seed in range(4)]
    kept = [array.copy() for array in arrays]
    for number, array in enumerate(arrays):
        session.run(None, {"x": array})
        moved = [f"{float(np.abs(a - b).max()):.3g}" for a, b in zip(arrays, kept)]
        print(f"{provider}: after run {number} the inputs of runs 0 to 3 have moved by {', '.join(moved)}")
    changed = sum(bool((a != b).any()) for a, b in zip(arrays, kept))
sys.exit(0 if changed else 1)
PYTHON
ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" "$folder/trial.py"
