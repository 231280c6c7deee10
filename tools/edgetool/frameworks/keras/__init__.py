"""Models of Keras, layer by layer, and SavedModels of TensorFlow."""

from __future__ import annotations

from pathlib import Path

from edge_agent.errors import UsageError
from edgetool.frameworks.keras.convert import convert, convert_signature
from edgetool.frameworks.keras.opening import open_keras, open_saved_model
from edgetool.frameworks.made import Made
from edgetool.frameworks.sources import Saved

__all__ = ["made_of"]


def made_of(path: Path, saved: Saved) -> Made:
    """Make a model of a `.keras` file, or of a SavedModel.

    Args:
        path: of the file or folder.
        saved: what is known of it.

    Raises:
        ConversionError, MissingExtraError, UsageError: as `open_keras`, `open_saved_model` and `convert` do.
    """
    if path.is_dir():
        signature = open_saved_model(path, signature=saved.signature, trust_code=saved.trust.code)
        made = convert_signature(signature, path.name)
    else:
        made = convert(open_keras(path, trust_code=saved.trust.code), path.name)
    if saved.open_time and made.open_axis is None:
        raise UsageError(f"--open-time: {path} was saved for windows of one length; build it with Input((None, …))")
    return made
