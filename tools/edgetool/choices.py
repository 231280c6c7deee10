"""What a user can choose between. Here, and not beside the code, because the command line must start without onnx."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["HigherIs", "Io", "Level", "OutputIs", "Precision", "Target"]


class Precision(StrEnum):
    """What a model is quantized to."""

    FLOAT16 = "float16"
    INT8 = "int8"
    AUTO = "auto"
    """float32, float16 or int8, by size, measured latency and drift."""


class Target(StrEnum):
    """What kind of device the model is for."""

    CPU = "cpu"
    OPENVINO = "openvino"
    """OpenVINO on an Intel CPU."""
    GPU = "gpu"
    NPU = "npu"

    @property
    def computes_in_float16(self) -> bool:
        """Whether float16 arithmetic is the faster one there. CPUs widen it to float32 and lose time on it."""
        return self in (Target.GPU, Target.NPU)


class Level(StrEnum):
    """How far the runtime optimises a graph."""

    BASIC = "basic"
    """Constants folded, dead and redundant nodes gone: standard operators, right for every provider."""
    EXTENDED = "extended"
    """Fused operators that ONNX Runtime's CPU and CUDA providers know."""
    ALL = "all"
    """Layouts of the machine it was made on, too: for that kind of machine only."""

    @property
    def ort_name(self) -> str:
        """The runtime's name for it."""
        return f"ORT_ENABLE_{self.value.upper()}"


class Io(StrEnum):
    """Type of the float inputs and outputs of the result."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class HigherIs(StrEnum):
    """Which way a model's own score points."""

    AUTO = "auto"
    """Anomalous, unless the model is an outlier detector of scikit-learn as skl2onnx writes it; checked on outliers."""
    ANOMALOUS = "anomalous"
    NORMAL = "normal"


class OutputIs(StrEnum):
    """What a model answers."""

    AUTO = "auto"
    """What its shape says; of one channel and a window of one it says nothing."""
    SCORE = "score"
    RECONSTRUCTION = "reconstruction"
