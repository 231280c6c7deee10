"""Appends the score, and the share of each channel in it, to a model that is fed with readings."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgetool.choices import HeadKind, ScoreIs, SmoothIs
from edgetool.detector.frame import Frame
from edgetool.detector.head import Head
from edgetool.detector.state import NEXT_STATE
from edgetool.graph.edits import drop_unused, replace_all
from edgetool.graph.nodes import Nodes

__all__ = ["finish", "smoothing_weights"]


def finish(
    model: onnx.ModelProto, head: Head, frame: Frame, *, moment: str, channels: int, smooth: SmoothIs = SmoothIs.MEAN
) -> None:
    """Make `score`, and `contributions` where it is made of errors, from a fed model's output; everything else goes.

    Args:
        model: changed in place, as `feed_readings` left it.
        head: from `fit_head`.
        frame: of its readings.
        moment: from `feed_readings`.
        channels: number of channels.
        smooth: how the scores of `frame.smoothed` moments become one.
    """
    nodes = Nodes(model)
    # Features are one row of as many channels, until each one's share goes to the channel that it is of.
    features, own = frame.features, channels
    if features is not None:
        channels = features.count(own)
    answer = nodes.add("Cast", [head.output], "answer", to=TensorProto.FLOAT)
    parts = None
    score = "score" if frame.smoothed == 1 else "score_each"
    if head.is_error:
        contributions = "contributions" if frame.smoothed == 1 else "contributions_each"
        error = _error(nodes, head, frame, answer=answer, moment=moment, channels=channels)
        shares = contributions if features is None else "contributions_of_features"
        parts = _formula(nodes, head, error, score=score, contributions=shares, channels=channels)
        if features is not None:
            parts = _of_channels(nodes, head, frame, parts=parts, output=contributions, channels=own)
    elif head.kind is HeadKind.DISTANCE:
        _distance(nodes, head, answer, score)
    else:
        _own_score(nodes, head, answer, score)
    if frame.smoothed > 1:
        weights = smoothing_weights(frame.smoothed, smooth)
        rows = nodes.reshape(score, "score_rows", [-1, frame.smoothed])
        nodes.reduce("ReduceSum", _times(nodes, rows, "score_weighted", weights), "score", axis=1)
        if parts is not None:
            rows = nodes.reshape(parts, "contributions_rows", [-1, frame.smoothed, own])
            weighted = _times(nodes, rows, "contributions_weighted", weights[:, np.newaxis])
            nodes.reduce("ReduceSum", weighted, "contributions", axis=1)
    model.graph.node.extend(nodes.made)
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])]
    if parts is not None:
        outputs.append(helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["batch", own]))
    outputs += [value for value in model.graph.output if value.name == NEXT_STATE]
    replace_all(model.graph.output, outputs)
    drop_unused(model.graph)


def _of_channels(nodes: Nodes, head: Head, frame: Frame, *, parts: str, output: str, channels: int) -> str:
    """The share of each channel from those of its features: their sum, or of a maximum their maximum."""
    features = frame.features
    assert features is not None
    if head.score is not ScoreIs.MAX:
        return nodes.add("MatMul", [parts, nodes.constant("contributions_groups", features.groups(channels))], output)
    count = len(features.kinds)
    shape = [-1, channels, count] if features.by_channel else [-1, count, channels]
    apart = nodes.reshape(parts, "contributions_apart", shape)
    return nodes.reduce("ReduceMax", apart, output, axis=2 if features.by_channel else 1)


def smoothing_weights(count: int, smooth: SmoothIs) -> np.ndarray:
    """The weight of each of the last scores, the oldest first: shape (count,), together 1.

    Of `exponential` they are those of a moving average of this span (alpha = 2 / (count + 1)), cut off behind it.
    """
    if smooth is SmoothIs.MEAN:
        return np.full(count, 1 / count)
    weights = (1 - 2 / (count + 1)) ** np.arange(count)[::-1]
    return np.asarray(weights / weights.sum())


def _times(nodes: Nodes, source: str, output: str, weights: np.ndarray) -> str:
    return nodes.add("Mul", [source, nodes.constant(f"{output}_weights", weights)], output)


def _own_score(nodes: Nodes, head: Head, answer: str, score: str) -> None:
    own = answer
    if head.column is not None and head.rows == 1:
        flat = nodes.reshape(answer, "answer_columns", [0, -1])
        own = nodes.gather(flat, "answer_class", head.column, axis=1)
    elif head.rows > 1:
        if head.column is None:
            rows = nodes.reshape(answer, "answer_rows", [-1, head.rows])
        else:
            shape = [head.columns, head.rows] if head.channels_first else [head.rows, head.columns]
            apart = nodes.reshape(answer, "answer_columns", [-1, *shape])
            rows = nodes.gather(apart, "answer_class", head.column, axis=1 if head.channels_first else 2)
        if head.way == "last":
            own = nodes.gather(rows, "answer_last", head.rows - 1, axis=1)
        else:
            # The most anomalous row: the smallest value where high is normal.
            most = "ReduceMin" if head.sign.flipped else "ReduceMax"
            own = nodes.reduce({"mean": "ReduceMean", "max": most}[head.way], rows, "answer_one", axis=1)
    flat = nodes.reshape(own, "score_flat" if head.sign.flipped else score, [-1])
    if head.sign.flipped:
        nodes.add("Neg", [flat], score)


def _distance(nodes: Nodes, head: Head, answer: str, score: str) -> None:
    """Squared Mahalanobis distance over the number of values, so that a normal one is about 1; or the least value."""
    if head.which == "nearest":
        points = nodes.reshape(answer, "point", [0, -1])
        nodes.reduce("ReduceMin", points, score, axis=1)
        return
    assert head.centre is not None
    point = nodes.reshape(answer, "point", [-1, len(head.centre)])
    off = nodes.add("Sub", [point, nodes.constant("point_centre", head.centre)], "point_off")
    nodes.reduce("ReduceSum", _quadratic(nodes, head, off, "point"), score, axis=1)


def _quadratic(nodes: Nodes, head: Head, values: str, name: str) -> str:
    """`v * (v P)`, whose sum over the last axis is the quadratic form of `v`."""
    assert head.precision is not None
    turned = nodes.add("MatMul", [values, nodes.constant(f"{name}_precision", head.precision)], f"{name}_turned")
    return nodes.add("Mul", [values, turned], f"{name}_form")


def _error(nodes: Nodes, head: Head, frame: Frame, *, answer: str, moment: str, channels: int) -> str:
    """What the readings are off the answer: (n, rows, channels), or (n, 1, 1) of a residual."""
    target, width = moment, channels
    if head.kind is HeadKind.RESIDUAL:
        target, width = nodes.rows(moment, "error_row", frame.moment - 1, frame.moment), 1
        assert head.channel is not None
        target = nodes.gather(target, "error_channel", [head.channel], axis=2)
    elif head.rows != frame.moment and frame.features is None:
        start = frame.moment - head.rows if head.kind is HeadKind.FORECAST else 0
        target = nodes.rows(moment, "error_rows", start, start + head.rows)
    at = answer
    if head.decoder is not None:
        matrix, offset = head.decoder
        at = nodes.reshape(at, "answer_point", [-1, len(matrix)])
        at = nodes.add("MatMul", [at, nodes.constant("answer_decoder", matrix)], "answer_decoded")
        at = nodes.add("Add", [at, nodes.constant("answer_decoder_offset", offset)], "answer_back")
    if head.channels_first:
        at = nodes.reshape(at, "answer_first", [-1, width, head.rows])
        at = nodes.add("Transpose", [at], "answer_windows", perm=[0, 2, 1])
    else:
        at = nodes.reshape(at, "answer_windows", [-1, head.rows, width])
    if head.unscale is not None:
        units = head.unscale.of(head.rows, head.channel)
        at = nodes.add("Mul", [at, nodes.constant("answer_scale", units.scale)], "answer_wide")
        at = nodes.add("Add", [at, nodes.constant("answer_offset", units.offset)], "answer_units")
    if head.unscale is None or not head.in_scaled:
        return _known(nodes, frame, target, nodes.add("Sub", [target, at], "error"))
    units = head.unscale.of(head.rows, head.channel)
    wide = nodes.add("Sub", [target, at], "error_wide")
    scaled = nodes.add("Div", [wide, nodes.constant("error_units", units.scale)], "error")
    return _known(nodes, frame, target, scaled)


def _known(nodes: Nodes, frame: Frame, target: str, error: str) -> str:
    """The error, 0 where the reading that it is of is missing."""
    return error if frame.missing is None else frame.missing.mask(nodes, target, error)


def _formula(nodes: Nodes, head: Head, error: str, *, score: str, contributions: str, channels: int) -> str:
    """The score of an error, and the share of each channel in it, which is 0 for all others of a residual."""
    assert head.usual is not None
    each = contributions if head.channel is None else "contribution_of_one"
    width = len(head.usual)
    match head.score:
        case ScoreIs.SCALED:
            scale = np.sqrt(width, dtype=np.float32) * head.usual
            scaled = nodes.add("Div", [error, nodes.constant("error_scale", scale)], "error_scaled")
            nodes.reduce("ReduceMean", nodes.add("Mul", [scaled, scaled], "error_squared"), each, axis=1)
            nodes.reduce("ReduceSum", each, score, axis=1)
        case ScoreIs.MSE:
            squared = nodes.add("Mul", [error, error], "error_squared")
            part = _times(nodes, squared, "error_part", np.array([1 / width]))
            nodes.reduce("ReduceSum", nodes.reduce("ReduceMean", part, each, axis=1), score, axis=1)
        case ScoreIs.MAE:
            part = _times(nodes, nodes.add("Abs", [error], "error_size"), "error_part", np.array([1 / width]))
            nodes.reduce("ReduceSum", nodes.reduce("ReduceMean", part, each, axis=1), score, axis=1)
        case ScoreIs.MAX:
            scaled = nodes.add("Div", [error, nodes.constant("error_scale", head.usual)], "error_scaled")
            nodes.reduce("ReduceMax", nodes.add("Abs", [scaled], "error_size"), each, axis=1)
            nodes.reduce("ReduceMax", each, score, axis=1)
        case ScoreIs.MAHALANOBIS:
            scaled = nodes.add("Div", [error, nodes.constant("error_scale", head.usual)], "error_scaled")
            form = nodes.reduce("ReduceMean", _quadratic(nodes, head, scaled, "error"), "error_shares", axis=1)
            nodes.reduce("ReduceSum", form, score, axis=1)
            # A channel's part is below 0 where the others make its error less odd, and a share is not.
            nodes.add("Relu", [form], each)
    if head.channel is not None:
        place = np.zeros((1, channels))
        place[0, head.channel] = 1
        nodes.add("MatMul", [each, nodes.constant("contribution_place", place)], contributions)
    return contributions
