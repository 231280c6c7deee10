"""Models of PyTorch: a saved program, TorchScript, or a module that a function of the user makes."""

from __future__ import annotations

from pathlib import Path

from edgetool.choices import LayoutIs
from edgetool.frameworks.made import Made
from edgetool.frameworks.pytorch.convert import convert
from edgetool.frameworks.pytorch.opening import open_torch
from edgetool.frameworks.sources import FACTORY, Saved

__all__ = ["made_of"]


def made_of(path: Path, saved: Saved) -> Made:
    """Make a model of what is in a file, or what a factory makes.

    Args:
        path: of the file, or `module.py:factory`.
        saved: what is known of it.

    Raises:
        As `open_torch` and `convert` do.
    """
    # A window is (batch, rows, channels) or (batch, channels, rows).
    time_axis = (2 if saved.layout is LayoutIs.CHANNELS_FIRST else 1) if saved.open_time else None
    found = open_torch(path, saved.trust, saved.weights, has_shapes=bool(saved.shapes))
    made = convert(found, path.name, saved.shapes, open_time=time_axis)
    if FACTORY in path.name and saved.weights is None:
        made.notes.append(f"no --weights: the module has those that {path.name} has given it, trained or not")
    return made
