"""What a user writes who has installed the wheel; `mypy --strict` looks at it there, and nobody runs it."""

from pathlib import Path

import edgetool

small = edgetool.quantize("pump.onnx", precision="int8", data=Path("normal.csv"))
print(f"{small.verdict.value}: {small.size_before} -> {small.size_after} bytes, {small.reason}")
try:
    packed = edgetool.pack(small.output, "pump-1.0.0.edge", data="normal.csv", reference="pump.onnx")
except edgetool.EdgeError as exc:
    raise SystemExit(exc.exit_code) from exc
print(packed.manifest.threshold.alarm)
