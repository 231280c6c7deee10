"""What a user can choose between. Here, and not beside the code, because the command line must start without onnx."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["HigherIs", "OutputIs", "Precision"]


class Precision(StrEnum):
    """What weights can be quantized to."""

    FLOAT16 = "float16"


class HigherIs(StrEnum):
    """Which way a model's own score points."""

    AUTO = "auto"
    """Anomalous, unless the model also answers -1 and 1, as scikit-learn's detectors do."""
    ANOMALOUS = "anomalous"
    NORMAL = "normal"


class OutputIs(StrEnum):
    """What a model answers."""

    AUTO = "auto"
    """What its shape says; of one channel and a window of one it says nothing."""
    SCORE = "score"
    RECONSTRUCTION = "reconstruction"
