"""What a user can choose between. It stands here because the command line must start without onnx."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias, TypeVar

from edge_agent.errors import UsageError

__all__ = [
    "ANY_HEAD",
    "ErrorIn",
    "ErrorInName",
    "FeatureIs",
    "FeaturesBy",
    "FeaturesByName",
    "HeadIs",
    "HeadKind",
    "HigherIs",
    "HigherIsName",
    "Io",
    "IoName",
    "LayoutIs",
    "LayoutIsName",
    "Level",
    "LevelName",
    "Precision",
    "PrecisionName",
    "ScoreIs",
    "ScoreIsName",
    "SmoothIs",
    "SmoothIsName",
    "Target",
    "TargetName",
    "as_member",
    "parse_head",
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


class HeadKind(StrEnum):
    """What a model answers, as the first part of `--head` says it."""

    AUTO = "auto"
    """What shapes, names and a trial on the data say; refused where more than one fits."""
    SCORE = "score"
    """One number for each window."""
    RECONSTRUCTION = "reconstruction"
    """The readings that it was given; their error is the score."""
    FORECAST = "forecast"
    """The readings that follow; their error is the score."""
    CLASS = "class"
    """A column for each class: `class:1` takes one."""
    RESIDUAL = "residual"
    """One channel, told from the others or from rows before: `residual:flow`; its error is the score."""
    DISTANCE = "distance"
    """A point, such as an encoder's latent or the components of a PCA; how far it lies from normal points."""
    PROJECTION = "projection"
    """Such a point; the score is what of the readings it does not hold."""


@dataclass(frozen=True, slots=True)
class HeadIs:
    """What an output is, and of what it is that."""

    kind: HeadKind = HeadKind.AUTO
    which: str = ""
    """The class of `class:`, the channel of `residual:`, how a `distance:` is made; empty where not given."""

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.which}" if self.which else self.kind.value


ANY_HEAD = HeadIs()
"""Nothing is said."""


class ScoreIs(StrEnum):
    """How an error becomes one number; the formulas are in docs/scores.md."""

    SCALED = "scaled"
    """Mean square, each channel in units of its usual error on normal readings."""
    MSE = "mse"
    """Mean square, in the channels' own units."""
    MAE = "mae"
    """Mean absolute value, in the channels' own units."""
    MAX = "max"
    """The largest value, each channel in units of its usual error."""
    MAHALANOBIS = "mahalanobis"
    """Squared Mahalanobis distance from the errors of normal readings."""


class FeatureIs(StrEnum):
    """A number that stands for a window of a channel."""

    MEAN = "mean"
    STD = "std"
    """Standard deviation, over n: numpy's, not pandas'."""
    SLOPE = "slope"
    """Of the least-squares line, in units a row."""
    MIN = "min"
    MAX = "max"
    ENERGY = "energy"
    """Mean square, which is the sum of the squared amplitudes of the spectrum (over n squared)."""


class FeaturesBy(StrEnum):
    """How the numbers of a window are lined up."""

    AUTO = "auto"
    """Refused where there is more than one way."""
    FEATURE = "feature"
    CHANNEL = "channel"


class ErrorIn(StrEnum):
    """The units in which an error is taken, where an answer is scaled back."""

    SENSOR = "sensor"
    """Those of the channels."""
    SCALED = "scaled"
    """Those of the model, as an author's own code on scaled rows has it."""


class SmoothIs(StrEnum):
    """How the scores of moments that follow each other become one."""

    MEAN = "mean"
    EXPONENTIAL = "exponential"
    """A moving average that forgets the older ones."""


# The text of each member, for whoever does not import the enum; a test compares them.
ErrorInName: TypeAlias = Literal["sensor", "scaled"]
FeaturesByName: TypeAlias = Literal["auto", "feature", "channel"]
HigherIsName: TypeAlias = Literal["auto", "anomalous", "normal"]
IoName: TypeAlias = Literal["float32", "float16"]
LayoutIsName: TypeAlias = Literal["auto", "rows-first", "channels-first"]
LevelName: TypeAlias = Literal["basic", "extended", "all"]
PrecisionName: TypeAlias = Literal["float16", "int8", "auto"]
ScoreIsName: TypeAlias = Literal["scaled", "mse", "mae", "max", "mahalanobis"]
SmoothIsName: TypeAlias = Literal["mean", "exponential"]
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


_NEEDS_WHICH = {HeadKind.CLASS: "class:1", HeadKind.RESIDUAL: "residual:flow"}
_MAY_HAVE_WHICH = {
    HeadKind.DISTANCE: ("centre", "nearest"),
    HeadKind.SCORE: ("last", "mean", "max"),
}


def parse_head(text: str) -> HeadIs:
    """What `--head` says: a kind, and behind a colon of what.

    Raises:
        UsageError: there is no such kind, or something is missing or too much behind it.
    """
    word, _, which = text.strip().partition(":")
    kind = as_member(HeadKind, word, named="head")
    which = which.strip()
    if kind in _NEEDS_WHICH:
        if not which:
            raise UsageError(f"head = {text!r}: expected a word behind it, such as {_NEEDS_WHICH[kind]}")
    elif which and which not in _MAY_HAVE_WHICH.get(kind, ()):
        known = ", ".join(f"{kind.value}:{each}" for each in _MAY_HAVE_WHICH.get(kind, ())) or "nothing behind it"
        raise UsageError(f"head = {text!r}: expected {kind.value}, or {known}")
    return HeadIs(kind, which)
