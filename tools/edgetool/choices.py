"""What a user can choose between. It stands here because the command line must start without onnx."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias, TypeVar

from edge_agent.errors import UsageError

__all__ = [
    "HigherIs",
    "HigherIsName",
    "Io",
    "IoName",
    "LayoutIs",
    "LayoutIsName",
    "Level",
    "LevelName",
    "OutputIs",
    "OutputIsName",
    "Precision",
    "PrecisionName",
    "Target",
    "TargetName",
    "as_member",
]

_Choice = TypeVar("_Choice", bound=StrEnum)


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
        """True if float16 arithmetic is the faster one there. CPUs widen it to float32 and lose time on it."""
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


class LayoutIs(StrEnum):
    """How a window of readings lies in a model's input, and a reconstruction of it in the output."""

    AUTO = "auto"
    """What the shapes say; refused where both fit."""
    ROWS_FIRST = "rows-first"
    CHANNELS_FIRST = "channels-first"


class OutputIs(StrEnum):
    """What a model answers."""

    AUTO = "auto"
    """What its shape says; of one channel and a window of one it says nothing."""
    SCORE = "score"
    RECONSTRUCTION = "reconstruction"


# The text of each member, for whoever does not import the enum; a test compares them.
HigherIsName: TypeAlias = Literal["auto", "anomalous", "normal"]
IoName: TypeAlias = Literal["float32", "float16"]
LayoutIsName: TypeAlias = Literal["auto", "rows-first", "channels-first"]
LevelName: TypeAlias = Literal["basic", "extended", "all"]
OutputIsName: TypeAlias = Literal["auto", "score", "reconstruction"]
PrecisionName: TypeAlias = Literal["float16", "int8", "auto"]
TargetName: TypeAlias = Literal["cpu", "openvino", "gpu", "npu"]


def as_member(kind: type[_Choice], value: str, *, named: str) -> _Choice:
    """The member that a user means.

    Args:
        kind: what there is to choose between.
        value: a member, or its text.
        named: what the error calls it.

    Raises:
        UsageError: it is neither.
    """
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{named} = {value!r}: expected one of {', '.join(kind)}") from None
