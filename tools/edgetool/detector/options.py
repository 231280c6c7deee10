"""What a user may say about a model and its data, all that `pack` leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import UsageError
from edgetool.choices import (
    ANY_HEAD,
    ErrorIn,
    FeaturesBy,
    HeadIs,
    HeadKind,
    HigherIs,
    LayoutIs,
    ScoreIs,
    SmoothIs,
    parse_head,
)
from edgetool.graph.origin import Origin

__all__ = ["DetectorOptions", "missing_beside_state"]


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """The words of the user; each default finds out, or does nothing."""

    output: str | None = None
    """The output to take."""
    head: HeadIs = ANY_HEAD
    """What it is."""
    horizon: int | None = None
    """Rows behind those that the model sees, to the last one that its answer is about."""
    higher_is: HigherIs = HigherIs.AUTO
    """Which way a score of the model's own points."""
    layout: LayoutIs = LayoutIs.AUTO
    """How the model takes a window."""
    window: int | None = None
    """Rows that the model sees."""
    stride: int = 1
    """Readings from one window to the next."""
    score: ScoreIs = ScoreIs.SCALED
    """How an error becomes one number."""
    smooth: int = 1
    """Scores of moments that follow each other, in one."""
    smooth_by: SmoothIs = SmoothIs.MEAN
    """How these become one."""
    scale: str | None = None
    """Of the readings, before the model takes them, and of a reconstruction back again (`read_scaling`)."""
    fitted: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    """By its file, the numbers of a scaler that was saved whole (`read_scaling`)."""
    unscale: str | None = None
    """Of a reconstruction alone."""
    error_in: ErrorIn = ErrorIn.SENSOR
    """Units of an error, where the answer is scaled back."""
    features: str | None = None
    """What stands for a window in the model's input, such as `mean,std`; the readings where not given."""
    features_by: FeaturesBy = FeaturesBy.AUTO
    """How these are lined up."""
    state: tuple[str, ...] = ()
    """Inputs that take what an output gave for the window before, each as IN:OUT (`state.links_of`)."""
    missing: str | None = None
    """What is done about missing values (`missing_policy`)."""

    @property
    def told(self) -> str | None:
        """The channel that a soft sensor tells, and may not take; None of any other."""
        return self.head.which if self.head.kind is HeadKind.RESIDUAL else None

    def channels_of(self, origin: Origin | None) -> tuple[str, ...]:
        """Those that the model was trained on, and the one that it tells; empty where its exporter does not know."""
        if origin is None or not origin.features:
            return ()
        return origin.features if self.told is None else (*origin.features, self.told)

    def with_origin(self, origin: Origin | None, model: onnx.ModelProto) -> DetectorOptions:
        """With what the model's exporter knows of its answer, where the user has said nothing.

        Raises:
            UsageError: it is a regression of one value, and the user has not said what that is.
        """
        if origin is not None and self.head == ANY_HEAD and _tells_a_value(origin, model):
            raise UsageError(
                f"--head: {origin.estimator} tells one value. If that is a channel of the data, as a soft sensor has "
                "it, its error is the score: --head residual:CHANNEL, with the channel in the data beside those of the "
                "training; if the value is itself high for anomalies: --head score"
            )
        if origin is None or self.output not in (None, origin.output):
            return self
        found = self
        if self.head == ANY_HEAD and origin.head:
            found = replace(found, output=origin.output, head=parse_head(origin.head))
        if self.higher_is is HigherIs.AUTO and origin.higher_is:
            found = replace(found, higher_is=HigherIs(origin.higher_is))
        return found

    def check_head(self, kind: HeadKind, *, is_error: bool) -> None:
        """Refuse what has no effect on the score that is made.

        Args:
            kind: of the head.
            is_error: it is made of a difference from readings.

        Raises:
            UsageError: an option would be ignored.
        """
        if is_error:
            return
        for name, given in (("score", self.score is not ScoreIs.SCALED), ("unscale", self.unscale is not None)):
            if given:
                value = getattr(self, name)
                raise UsageError(f"--{name} {value}: is of an error, and the output is taken as a {kind.value}")

    def told_channel(self, channels: tuple[str, ...]) -> int | None:
        """The place of the one that is `told` among these; None of another head.

        Raises:
            UsageError: it is none of the data's.
        """
        if self.told is None:
            return None
        if self.told not in channels:
            raise UsageError(f"--head {self.head}: the channels are {', '.join(channels[:20])}")
        return channels.index(self.told)

    def check(self) -> None:
        """Refuse words that contradict each other.

        Raises:
            UsageError: they do.
        """
        self._check_smooth()
        if self.missing is not None and self.state:
            raise missing_beside_state(self.missing)
        if self.features is not None and self.missing == "model":
            raise UsageError(
                "--missing model: a feature of a window with a missing value is none; give --missing mean, zero or a "
                "number, which take its place before the features are made"
            )
        if self.error_in is ErrorIn.SCALED and self.scale is None and self.unscale is None:
            raise UsageError("--error-in scaled: needs --scale or --unscale, which say the units of the model")
        if self.features is not None and self.layout is not LayoutIs.AUTO:
            raise UsageError(f"--layout {self.layout.value}: of features, --features-by says how they are lined up")
        if self.horizon is not None and self.horizon < 1:
            raise UsageError(f"--horizon {self.horizon}: expected a number of rows, at least 1")
        if self.scale is not None and self.unscale is not None:
            raise UsageError("--scale puts both sides into the model, --unscale only the way back; give one of them")
        if self.features is not None and (
            self.horizon is not None or self.head.kind in (HeadKind.FORECAST, HeadKind.RESIDUAL)
        ):
            raise UsageError(f"--features {self.features}: of features there is no forecast and no residual")
        if self.horizon is not None and self.head.kind not in (HeadKind.AUTO, HeadKind.FORECAST, HeadKind.RESIDUAL):
            raise UsageError(f"--horizon {self.horizon}: is of a forecast, --head says {self.head}")

    def _check_smooth(self) -> None:
        if self.smooth < 1:
            raise UsageError(f"--smooth {self.smooth}: expected a number of scores, at least 1")
        if self.smooth > 1 and self.stride > 1:
            raise UsageError(
                f"--smooth {self.smooth}: takes the mean over rows that follow each other, and --stride {self.stride} "
                "scores one in so many; give one of them"
            )
        if self.smooth > 1 and self.state:
            raise UsageError(
                f"--smooth {self.smooth}: takes several windows at once, and with --state each needs the answer for "
                "the one before; smooth in the model, which may keep its last score in its state"
            )
        if self.smooth == 1 and self.smooth_by is not SmoothIs.MEAN:
            raise UsageError(f"--smooth-by {self.smooth_by.value}: needs --smooth with a number of scores")


def missing_beside_state(missing: str) -> UsageError:
    """That `--missing` is not for a model with state, whose next state would be made of a missing value, too."""
    return UsageError(
        f"--missing {missing}: is not for a model with state, whose later scores would be made of the missing value, "
        "too; leave --missing out, and the device holds the last values"
    )


def _tells_a_value(origin: Origin, model: onnx.ModelProto) -> bool:
    """Whether a model is a regression of one value, of which nothing says whether it is a score."""
    if origin.head or origin.classes or [value.name for value in model.graph.output] != ["prediction"]:
        return False
    dims = model.graph.output[0].type.tensor_type.shape.dim
    return len(dims) < 2 or dims[1].dim_value == 1
