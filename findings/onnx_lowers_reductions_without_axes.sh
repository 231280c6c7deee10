#!/usr/bin/env bash
# Expected: onnx.version_converter.convert_version takes ReduceMean of opset 18, whose axes are an input, down to opset 13,
# where they are an attribute with the same numbers, or refuses.
# Found: onnx 1.19.1 and 1.21.0 write an attribute `axes` without numbers and drop the input. The result is valid, and
# reduces all axes. onnx 1.22.0 is right.
# Versions: onnx 1.19.1, 1.21.0 and 1.22.0, numpy 2.4.6, Python 3.11.7, Linux x86-64.
# Date: 2026-11-30.
# Exits with 1 if an older one is right, or the newer one wrong.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)
graph = helper.make_graph(
    [node],
    "mean_of_rows",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    [numpy_helper.from_array(np.array([1], np.int64), "axes")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
lowered = version_converter.convert_version(model, 13)
onnx.checker.check_model(lowered, full_check=True)
x = np.arange(6, dtype=np.float32).reshape(2, 3)
before, after = (ReferenceEvaluator(each).run(None, {"x": x})[0] for each in (model, lowered))
is_same = before.shape == after.shape and bool((before == after).all())
print(f"onnx {onnx.__version__}, Python {platform.python_version()}: opset 18 {before.tolist()}, opset 13 {after.tolist()}")
sys.exit(0 if is_same == (sys.argv[1] == "right") else 1)
PYTHON
for case in "1.19.1 wrong" "1.21.0 wrong" "1.22.0 right"; do
    read -r version expected <<<"$case"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnx==$version" numpy==2.4.6
    "$folder/venv/bin/python" "$folder/trial.py" "$expected"
done
