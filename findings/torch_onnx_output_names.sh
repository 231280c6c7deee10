#!/usr/bin/env bash
# Expected: torch.onnx.export of a torch.export program, with output_names, gives a valid model whose outputs have these
# names, or raises.
# Found: where a buffer of the module has such a name, the model has two tensors of one name: the constant and the
# output. It is written without an error, onnx's checker refuses it, and ONNX Runtime does not load it. Without
# output_names the outputs are called after nodes of the graph, such as add_3.
# Versions: torch 2.13.0 (its build for CPUs), onnxscript 0.7.2, onnx 1.23.2, onnxruntime 1.31.1, Python 3.11.7, Linux x86-64.
# Date: 2026-11-29.
# Exits with 1 if the names no longer clash; with 2 where there is no Python 3.11 (PYTHON=… names one). Where pip has no index with
# PyTorch's build for CPUs, this installs gigabytes.
set -euo pipefail
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || { echo "no Python 3.11 is here; name one with PYTHON=" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
cat >"$folder/trial.py" <<'PYTHON'
import platform
import sys
from importlib.metadata import version

import onnx
import onnxruntime
import torch
from torch import nn

print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in (
    "torch", "onnxscript", "onnx", "onnxruntime")))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("score", torch.ones(4))

    def forward(self, x):
        return x * self.score


batch = torch.export.Dim("batch")
program = torch.export.export(Scaled().eval(), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
model = torch.onnx.export(program, dynamo=True, verbose=False, output_names=["score"]).model_proto
names = [*(tensor.name for tensor in model.graph.initializer), *(name for node in model.graph.node for name in node.output)]
print("constants and results:", names)
try:
    onnx.checker.check_model(model)
    is_refused = False
except onnx.checker.ValidationError as error:
    is_refused = True
    print("onnx.checker:", str(error).splitlines()[0][:110])
try:
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    does_load = True
except Exception as error:
    does_load = False
    print("onnxruntime:", str(error).splitlines()[0][:110])
sys.exit(0 if is_refused and not does_load and names.count("score") == 2 else 1)
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/trial.py" 2>"$folder/log" || { tail -5 "$folder/log"; exit 1; }
