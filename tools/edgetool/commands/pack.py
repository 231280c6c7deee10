"""`edgetool pack`: a model and normal readings become a bundle that proves itself on every device."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from edge_agent.bundle import (
    CHANNEL_NAME,
    RESERVED_CHANNELS,
    Manifest,
    golden_deviation,
)
from edge_agent.errors import ConversionError, DataError, UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import HigherIs, HigherIsName, LayoutIs, LayoutIsName, OutputIs, OutputIsName, as_member
from edgetool.data import SensorData, labelled_windows, read_sensor_data
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.detector.bundling import describe_channels, name_and_version, write_bundle
from edgetool.detector.calibration import calibrate
from edgetool.detector.detector import Detector
from edgetool.detector.direction import Sign, SignFrom
from edgetool.detector.golden import check_scores
from edgetool.detector.outliers import SignEvidence, SignVerdict, weigh_sign
from edgetool.graph.integers import batch_scales, integer_operators
from edgetool.graph.onnx_file import load_model
from edgetool.paths import StrPath, as_path
from edgetool.verify.finite import unanswered
from edgetool.verify.odd import golden_readings
from edgetool.verify.scores import count_flips, still_channels

__all__ = ["PackReport", "pack", "parse_channels"]

_TRIED_ALONE = 4


@dataclass(frozen=True, slots=True)
class PackReport:
    """What `pack` made."""

    bundle: Path
    manifest: Manifest
    size_bytes: int
    score_from: str
    """How the score is made, in words."""
    sign_evidence: SignEvidence | None
    """How outliers score beside normal rows; None for the error of a reconstruction, which can only point up."""
    sign: Sign
    """Which way the model's own score points, and how that was found."""
    rows_used: int
    still_channels: tuple[str, ...]
    """Channels that never moved in the normal rows, so that nobody knows what a movement of theirs means."""
    rows_labelled: int
    """Rows left out because the data call them anomalies."""
    verdicts_changed: int | None
    """Calibration windows that reach the alarm limit with the packed model and not with its reference, or reversed;
    None without a reference."""
    deviation: float | None
    """Of the packed model from its float32 reference on the golden vectors (`golden_deviation`); None without one."""
    repairs: list[str]
    """What was put right in the model, in words."""
    replaced: bool
    """True if the bundle took the place of a file of the same name."""
    seconds: float

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "bundle": str(self.bundle),
            "size_bytes": self.size_bytes,
            "score_from": self.score_from,
            "sign_evidence": None if self.sign_evidence is None else self.sign_evidence.describe(),
            "sign_from": self.sign.found.value,
            "rows_used": self.rows_used,
            "still_channels": list(self.still_channels),
            "rows_labelled": self.rows_labelled,
            "verdicts_changed": self.verdicts_changed,
            "deviation": self.deviation,
            "repairs": self.repairs,
            "replaced": self.replaced,
            "seconds": round(self.seconds, 3),
            "manifest": msgspec.to_builtins(self.manifest),
        }


def parse_channels(text: str) -> tuple[tuple[str, str], ...]:
    """`pressure:bar,flow:l/s` as (name, unit) pairs; the unit may be missing.

    Raises:
        UsageError: a name is empty, used twice, or means something else in a reading.
    """
    pairs = tuple((name.strip(), unit.strip()) for name, _, unit in (part.partition(":") for part in text.split(",")))
    names = [name for name, _ in pairs]
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"--channels {text!r}: expected different names, such as pressure:bar,flow:l/s")
    for name in names:
        if not re.fullmatch(CHANNEL_NAME, name):
            raise UsageError(
                f"--channels: {name!r} cannot be a channel; a name holds no quotes, backslashes or the like"
            )
        if name in RESERVED_CHANNELS:
            raise UsageError(f"--channels: {name!r} cannot be a channel, a reading uses that key for something else")
    return pairs


def pack(
    model: StrPath,
    output: StrPath | None = None,
    *,
    data: StrPath,
    channels: str | None = None,
    window: int | None = None,
    stride: int = 1,
    false_alarm_rate: float = 0.001,
    reference: StrPath | None = None,
    score_output: str | None = None,
    output_is: OutputIs | OutputIsName = OutputIs.AUTO,
    higher_is: HigherIs | HigherIsName = HigherIs.AUTO,
    layout: LayoutIs | LayoutIsName = LayoutIs.AUTO,
    tolerance: float = 0.01,
    timeout_s: float = DEFAULT_S,
) -> PackReport:
    """Make a bundle.

    Args:
        model: the ONNX file.
        output: `NAME-VERSION.edge`; after the model's name, version 1.0.0, when not given.
        data: normal rows that the model was not trained on; rows with label 1 are left out.
        channels: names and units, as `parse_channels` reads them; the data's columns when not given.
        window: rows in a window; what the model's input says, or 1, when not given.
        stride: readings from one window to the next.
        false_alarm_rate: share of normal windows that may reach the alarm limit.
        reference: the float32 model that golden scores are made with; `model` when not given, unless that computes in
            int8.
        score_output: the output to take.
        output_is: whether it is a score or a reconstruction, where its shape does not tell.
        higher_is: which way that output points when it is a score; a guess is refused where outliers contradict it.
        layout: how the model takes a window, where its shape leaves it open, or takes it flat.
        tolerance: largest deviation from the golden scores that a provider may have; twice the packed model's own
            deviation from its reference where that is more.
        timeout_s: seconds for all runs of models together.

    Raises:
        ConversionError: the model cannot be made canonical, does not run, or outliers score lower than normal rows;
            it computes in int8 without a reference, or the reference does.
        AccuracyError: the model's scores are further from its reference's than 5 %.
        DataError: the data cannot be read or are too few.
        OutOfTimeError: the model takes longer than that, or never ends.
        UsageError: the file name, the channels or an option cannot be meant.
    """
    started = time.monotonic()
    if not tolerance <= 1:
        raise UsageError(f"--tolerance {tolerance:g}: expected a share above 0, at most 1")
    if not 0 < false_alarm_rate < 0.5:
        raise UsageError(f"--false-alarm-rate {false_alarm_rate:g}: expected a share above 0 and below 0.5")
    output_is = as_member(OutputIs, output_is, named="output_is")
    higher_is = as_member(HigherIs, higher_is, named="higher_is")
    layout = as_member(LayoutIs, layout, named="layout")
    model, data, reference = Path(model), Path(data), as_path(reference)
    output = as_path(output) or model.with_name(f"{model.name.partition('.')[0]}-1.0.0.edge")
    name, version = name_and_version(output)
    pairs = parse_channels(channels) if channels else ()
    rows = read_sensor_data(data, tuple(channel for channel, _ in pairs))
    normal = rows if rows.labels is None else rows.where(rows.labels == 0)
    if not len(normal):
        raise DataError(f"{data}: every row is labelled as an anomaly; normal rows are needed")
    deadline = Deadline(model, timeout_s)
    loaded = load_model(model)
    _check_reference(model, loaded, reference)
    detector = Detector(
        reference or model, rows, window, stride, score_output, output_is, higher_is, layout=layout, deadline=deadline
    )
    packed = detector.model if reference is None else detector.same_for(model)
    scores = detector.scores(packed, detector.windows)
    _check_finite(model, scores, detector.windows)
    threshold, calibration = calibrate(scores, false_alarm_rate)
    expected = scores if reference is None else detector.scores(detector.model, detector.windows)
    evidence = None if detector.sign.found is SignFrom.ERROR else _weigh_sign(detector, expected, rows, stride)
    readings = golden_readings(detector.windows, expected)
    golden = detector.scores(detector.model, readings)
    together = detector.scores(packed, readings)
    alone = np.concatenate([detector.scores(packed, readings[i : i + 1]) for i in range(_TRIED_ALONE)])
    deviation = golden_deviation(together, golden)
    check_scores(
        deviation,
        batch_deviation=golden_deviation(alone, together[:_TRIED_ALONE]),
        batch_scales=batch_scales(loaded),
    )
    # A provider has to meet the float32 scores with the packed model, whose own distance from them is part of that.
    tolerance = max(tolerance, 2 * deviation)
    replaced = output.exists()
    manifest = write_bundle(
        output,
        packed,
        readings,
        golden,
        tolerance,
        name=name,
        version=version,
        channels=describe_channels(normal, dict(pairs)),
        window=detector.window,
        stride=stride,
        threshold=threshold,
        calibration=calibration,
    )
    return PackReport(
        bundle=output,
        manifest=manifest,
        size_bytes=output.stat().st_size,
        score_from=detector.score_from,
        sign_evidence=evidence,
        sign=detector.sign,
        rows_used=len(normal),
        still_channels=tuple(
            name for name, still in zip(normal.channels, still_channels(detector.windows), strict=True) if still
        ),
        rows_labelled=len(rows) - len(normal),
        verdicts_changed=None if reference is None else count_flips(expected, scores, threshold.alarm),
        deviation=None if reference is None else deviation,
        repairs=detector.repairs,
        replaced=replaced,
        seconds=time.monotonic() - started,
    )


def _check_reference(path: Path, model: onnx.ModelProto, reference: Path | None) -> None:
    """Refuse int8 arithmetic that only int8 is compared with: its own scores would prove it, whatever they are."""
    if reference is not None:
        operators = integer_operators(load_model(reference, external=False))
        if operators:
            raise ConversionError(
                f"{reference}: is given as the reference and computes in int8 itself ({', '.join(operators[:3])}), so "
                "its scores prove nothing; give the float32 model that it was made from with --reference"
            )
        return
    operators = integer_operators(model)
    if operators:
        raise ConversionError(
            f"{path}: computes in int8 ({', '.join(operators[:3])}), and nobody has compared its scores with those of "
            "the float32 model that it was made from; give that one with --reference"
        )


def _check_finite(path: Path, scores: FloatArray, windows: FloatArray) -> None:
    for each in unanswered([{"score": scores}], [{"readings": windows}]):
        raise DataError(f"{path}: {each.in_words()}")


def _weigh_sign(detector: Detector, scores: FloatArray, rows: SensorData, stride: int) -> SignEvidence:
    """What outliers say of the sign; refused where they contradict one that nobody has given."""
    labelled = labelled_windows(rows, window=detector.window, stride=stride)
    evidence = weigh_sign(lambda more: detector.scores(detector.model, more), detector.windows, scores, labelled)
    if evidence.verdict is SignVerdict.CONTRADICTED and detector.sign.found is not SignFrom.GIVEN:
        raise ConversionError(
            f"which way does the score point ({detector.score_from})? {evidence.in_words(detector.sign)}. Say what a "
            "high value of the model's own output means: --higher-is normal, or --higher-is anomalous"
        )
    return evidence
