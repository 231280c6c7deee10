#!/usr/bin/env bash
# Expected: a provider that does not take an operator leaves it to another one, and the model runs all the same.
# Found: the OpenVINO provider does not take IsNaN. Where what stands before it is needed behind it, too, the provider
# puts both sides into one piece of the graph, and the runtime refuses the model: "the graph is not acyclic". A
# comparison of each value with itself in place of IsNaN runs, with the same answers, NaN included.
# Versions: onnxruntime-openvino 1.24.1, onnx 1.23.2, numpy 2.4.6, Python 3.11.7, Linux x86-64. Date: 2026-11-29.
# Exits with 1 if the model with IsNaN runs, with 2 where there is no Python from 3.11 to 3.13 (PYTHON=… names one).
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
from onnx import TensorProto, helper, numpy_helper


def run(test, provider):
    """Readings with 5 in place of NaN, less the readings: 0 where a value is there, NaN where it is not."""
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["a"]),
        *test,
        helper.make_node("Where", ["missing", "five", "a"], ["whole"]),
        helper.make_node("Sub", ["whole", "a"], ["y"]),
    ]
    constants = {"one": np.float32(1), "five": np.float32(5)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("whole", "y")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[provider])
    assert session.get_providers()[0] == provider
    return session.run(None, {"x": np.array([[1, np.nan, 3]], np.float32)})[0].tolist()


print(f"onnxruntime-openvino {ort.__version__}, onnx {onnx.__version__}, Python {platform.python_version()}")
is_nan = [helper.make_node("IsNaN", ["a"], ["missing"])]
is_other = [helper.make_node("Equal", ["a", "a"], ["there"]), helper.make_node("Not", ["there"], ["missing"])]
print("CPU, IsNaN:        ", run(is_nan, "CPUExecutionProvider"))
print("OpenVINO, Equal:   ", run(is_other, "OpenVINOExecutionProvider"))
try:
    print("OpenVINO, IsNaN:   ", run(is_nan, "OpenVINOExecutionProvider"))
except Exception as exc:
    print("OpenVINO, IsNaN:   ", str(exc)[:160])
    sys.exit(0 if "acyclic" in str(exc) else 1)
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py"
