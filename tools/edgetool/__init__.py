"""edgetool: turns a trained model into a small, verified bundle. Every command is also a function here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetool.pack import pack
    from edgetool.precision.quantize import quantize
    from edgetool.replay import replay
    from edgetool.watch import watch

__all__ = ["pack", "quantize", "replay", "watch"]

_HOMES = {
    "pack": "edgetool.pack",
    "quantize": "edgetool.precision.quantize",
    "replay": "edgetool.replay",
    "watch": "edgetool.watch",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing onnx takes longer than most commands.
    if name not in _HOMES:
        raise AttributeError(f"module 'edgetool' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
