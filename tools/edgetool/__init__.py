"""edgetool: turns a trained model into a small, verified bundle. Every command is also a function here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetool.benchmarking import bench
    from edgetool.comparing import compare
    from edgetool.diagnosis import doctor
    from edgetool.inspection import inspect
    from edgetool.optimizing import optimize
    from edgetool.pack import pack
    from edgetool.precision.quantize import quantize
    from edgetool.replay import replay
    from edgetool.watch import watch

__all__ = ["bench", "compare", "doctor", "inspect", "optimize", "pack", "quantize", "replay", "watch"]

_HOMES = {
    "bench": "edgetool.benchmarking",
    "compare": "edgetool.comparing",
    "doctor": "edgetool.diagnosis",
    "inspect": "edgetool.inspection",
    "optimize": "edgetool.optimizing",
    "pack": "edgetool.pack",
    "quantize": "edgetool.precision.quantize",
    "replay": "edgetool.replay",
    "watch": "edgetool.watch",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing onnx takes longer than most commands. Kept under the name, because importing a
    # module of the same name would otherwise put the module here.
    if name not in _HOMES:
        raise AttributeError(f"module 'edgetool' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found
