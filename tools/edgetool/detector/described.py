"""How the score of a bundle is made, in words and as a line of numpy."""

from __future__ import annotations

from edgetool.choices import HeadKind, ScoreIs, SmoothIs
from edgetool.detector.frame import Frame
from edgetool.detector.head import Head
from edgetool.detector.options import DetectorOptions

__all__ = ["formula", "in_words"]

_ERRORS = {
    ScoreIs.SCALED: "squared error of {what}, each channel in units of its usual error",
    ScoreIs.MSE: "mean squared error of {what}",
    ScoreIs.MAE: "mean absolute error of {what}",
    ScoreIs.MAX: "largest error of {what}, each channel in units of its usual error",
    ScoreIs.MAHALANOBIS: "squared Mahalanobis distance of the error of {what}",
}
_FORMULAS = {
    ScoreIs.SCALED: "((error / usual) ** 2).mean(axis=(1, 2))",
    ScoreIs.MSE: "(error ** 2).mean(axis=(1, 2))",
    ScoreIs.MAE: "np.abs(error).mean(axis=(1, 2))",
    ScoreIs.MAX: "np.abs(error / usual).max(axis=(1, 2))",
    ScoreIs.MAHALANOBIS: "np.einsum('nri,ij,nrj->nr', error / usual, precision, error / usual).mean(axis=1)",
}


def in_words(head: Head, frame: Frame, options: DetectorOptions) -> str:
    """How the score is made, for a person.

    Args:
        head: what it is made of.
        frame: of the readings.
        options: what the user has said.
    """
    parts = [_what(head)]
    if head.sign.flipped:
        parts.append("sign changed so that higher is more anomalous")
    if frame.channels_first:
        parts.append("windows channels first")
    if options.features is not None and frame.features is not None:
        order = "channel by channel" if frame.features.by_channel else "feature by feature"
        parts.append(f"of {options.features} of {frame.seen} rows, {order}")
    if options.scale is not None:
        parts.append(f"readings scaled by {options.scale}")
    elif head.unscale is not None:
        parts.append(f"answers scaled back by {head.unscale.origin}")
    if head.in_scaled:
        parts.append("error in the model's scaled units")
    if frame.smoothed > 1:
        how = "mean" if options.smooth_by is SmoothIs.MEAN else "exponential mean"
        parts.append(f"{how} of the last {frame.smoothed}")
    if frame.links:
        pairs = ", ".join(f"{link.given!r} from {link.made!r}" for link in frame.links)
        parts.append(f"given back its answer for the window before: {pairs}")
    return ", ".join(parts)


def _what(head: Head) -> str:
    name = repr(head.name)
    match head.kind:
        case HeadKind.CLASS:
            label = head.which.removesuffix(f":{head.way}") if head.rows > 1 else head.which
            return f"class {label} of output {name}" + (
                f", {head.way} of its {head.rows} rows" if head.rows > 1 else ""
            )
        case HeadKind.DISTANCE if head.which == "nearest":
            return f"smallest of the distances {name}"
        case HeadKind.DISTANCE:
            return f"squared Mahalanobis distance of {name} from its normal mean"
        case HeadKind.SCORE:
            return f"output {name}" + (f", {head.which} of its {head.rows} rows" if head.rows > 1 else "")
        case HeadKind.FORECAST:
            what = f"the forecast {name}"
        case HeadKind.RESIDUAL:
            what = f"{name}, which tells channel {head.which}"
        case HeadKind.PROJECTION:
            what = f"the reconstruction from {name}"
        case _:
            what = f"the reconstruction {name}"
    return _ERRORS[head.score].format(what=what)


def formula(head: Head, frame: Frame, *, masked: bool = False) -> str:
    """The score of one moment as a line of numpy, for whoever computes it beside.

    `x` are the readings (n, rows, channels), or with `--features` these (n, 1, features); `y` is the model's output for
    what it takes of them, scaled where `--scale` says so. docs/scores.md names the constants.

    Args:
        head: what it is made of.
        frame: of the readings.
        masked: the error is 0 where the reading that it is of is missing.
    """
    if not head.is_error:
        return _own_formula(head)
    if head.kind is HeadKind.PROJECTION:
        return _of_error("x", "x - (y @ decoder + offset).reshape(x.shape)", masked=masked) + _FORMULAS[head.score]
    width = 1 if head.usual is None else len(head.usual)
    answer = f"y.reshape(-1, {head.rows}, {width})"
    if head.channels_first:
        answer = f"y.reshape(-1, {width}, {head.rows}).transpose(0, 2, 1)"
    if head.unscale is not None:
        answer = f"({answer} * scale + offset)"
    given = "x"
    if head.kind is HeadKind.RESIDUAL:
        given = f"x[:, -1:, [{head.channel}]]"
    elif head.kind is HeadKind.FORECAST:
        given = f"x[:, {frame.moment - head.rows}:]"
    error = f"({given} - {answer}) / scale" if head.in_scaled else f"{given} - {answer}"
    return _of_error(given, error, masked=masked) + _FORMULAS[head.score]


def _of_error(given: str, error: str, *, masked: bool) -> str:
    return f"error = np.where(np.isnan({given}), 0, {error}); " if masked else f"error = {error}; "


def _own_formula(head: Head) -> str:
    """Of a score, a class or a distance."""
    sign = "-" if head.sign.flipped else ""
    if head.kind is HeadKind.DISTANCE:
        squared = "np.einsum('ni,ij,nj->n', y - centre, precision, y - centre)"
        return "y.min(axis=1)" if head.which == "nearest" else squared
    if head.rows == 1:
        return f"{sign}y.ravel()" if head.column is None else f"{sign}y[:, {head.column}]"
    own = "y"
    if head.column is not None and head.channels_first:
        own = f"y.reshape(-1, {head.columns}, {head.rows})[:, {head.column}]"
    elif head.column is not None:
        own = f"y.reshape(-1, {head.rows}, {head.columns})[:, :, {head.column}]"
    return f"{sign}{own}[:, -1]" if head.way == "last" else f"({sign}{own}).{head.way}(axis=1)"
