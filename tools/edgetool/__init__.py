"""edgetool: turns a trained model into a small, verified bundle. Every command is also a function here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetool.commands.bench import bench
    from edgetool.commands.compare import compare
    from edgetool.commands.doctor import doctor
    from edgetool.commands.inspect import inspect
    from edgetool.commands.optimize import optimize
    from edgetool.commands.pack import pack
    from edgetool.commands.quantize import quantize
    from edgetool.commands.replay import replay
    from edgetool.commands.watch import watch

__all__ = ["bench", "compare", "doctor", "inspect", "optimize", "pack", "quantize", "replay", "watch"]

_HOMES = {
    "bench": "edgetool.commands.bench",
    "compare": "edgetool.commands.compare",
    "doctor": "edgetool.commands.doctor",
    "inspect": "edgetool.commands.inspect",
    "optimize": "edgetool.commands.optimize",
    "pack": "edgetool.commands.pack",
    "quantize": "edgetool.commands.quantize",
    "replay": "edgetool.commands.replay",
    "watch": "edgetool.commands.watch",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing onnx takes longer than most commands. Kept under the name, because importing a
    # module of the same name would otherwise put the module here.
    if name not in _HOMES:
        raise AttributeError(f"module 'edgetool' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found
