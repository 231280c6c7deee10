"""`edgetool pack`: a model and normal readings become a bundle that proves itself on every device."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import (
    CHANNEL_NAME,
    RESERVED_CHANNELS,
    Calibration,
    ScorePart,
    Threshold,
)
from edge_agent.errors import DataError, UsageError
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.values import FLOAT32_MAX
from edgetool.choices import (
    ErrorIn,
    ErrorInName,
    FeaturesBy,
    FeaturesByName,
    HigherIs,
    HigherIsName,
    LayoutIs,
    LayoutIsName,
    ScoreIs,
    ScoreIsName,
    SmoothIs,
    SmoothIsName,
    as_member,
    parse_head,
)
from edgetool.commands.export import as_onnx
from edgetool.data import (
    DataFiles,
    DataSource,
    SensorData,
    as_files,
    read_sensor_data,
)
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.detector.bundling import describe_channels, name_and_version, write_bundle
from edgetool.detector.calibration import calibrate, given_limit
from edgetool.detector.detector import Detector
from edgetool.detector.expected import read_expected
from edgetool.detector.golden import prove
from edgetool.detector.interval import interval_of, time_doubts
from edgetool.detector.labelled import MAX_AUC_DROP, quality_of
from edgetool.detector.missing import rows_with_missing
from edgetool.detector.numbers import read_limit
from edgetool.detector.options import DetectorOptions
from edgetool.detector.proofs import agree, check_finite, check_missing, put_to_trial, raw_readings, weigh_direction
from edgetool.detector.refusals import check_order, check_reference
from edgetool.detector.report import PackReport
from edgetool.detector.runs import ModelRuns
from edgetool.frameworks.made import DECISION
from edgetool.frameworks.scalers import FittedScaler, check_columns, read_scalers
from edgetool.frameworks.shapes import parse_shapes
from edgetool.frameworks.sources import Saved, Trust
from edgetool.graph.custom_ops import read_custom_ops
from edgetool.graph.integers import batch_scales
from edgetool.graph.onnx_file import load_model
from edgetool.graph.origin import origin_of
from edgetool.graph.runtimes import check_runtimes, parse_runtimes
from edgetool.graph.traps import many_nodes
from edgetool.graph.versions import lower_versions
from edgetool.paths import StrPath, as_path
from edgetool.signing import read_private_key
from edgetool.verify.saturated import looks_scaled
from edgetool.verify.scores import coarse_channels, count_flips, still_channels

__all__ = ["PackReport", "pack", "parse_channels"]


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
                f"--channels: {name!r} cannot be a channel; a name holds no quotes, backslashes or the like, and is at "
                "most 128 characters long"
            )
        if name in RESERVED_CHANNELS:
            raise UsageError(f"--channels: {name!r} cannot be a channel, a reading uses that key for something else")
    return pairs


def pack(
    model: StrPath,
    output: StrPath | None = None,
    *,
    data: DataSource,
    channels: str | None = None,
    window: int | None = None,
    stride: int = 1,
    false_alarm_rate: float = 0.001,
    reference: StrPath | None = None,
    score_output: str | None = None,
    head: str = "auto",
    horizon: int | None = None,
    higher_is: HigherIs | HigherIsName = HigherIs.AUTO,
    layout: LayoutIs | LayoutIsName = LayoutIs.AUTO,
    score: ScoreIs | ScoreIsName = ScoreIs.SCALED,
    smooth: int = 1,
    smooth_by: SmoothIs | SmoothIsName = SmoothIs.MEAN,
    scale: str | None = None,
    unscale: str | None = None,
    error_in: ErrorIn | ErrorInName = ErrorIn.SENSOR,
    features: str | None = None,
    features_by: FeaturesBy | FeaturesByName = FeaturesBy.AUTO,
    state: Sequence[str] = (),
    missing: str | None = None,
    alarm: float | None = None,
    alarm_from: StrPath | None = None,
    expect: str | None = None,
    accept_weak: bool = False,
    runtimes: str | None = None,
    max_auc_drop: float = MAX_AUC_DROP,
    custom_ops: StrPath | Sequence[StrPath] = (),
    tolerance: float = 0.01,
    weights: StrPath | None = None,
    shapes: Sequence[str] = (),
    signature: str | None = None,
    trust_pickle: bool = False,
    trust_types: Sequence[str] = (),
    trust_code: bool = False,
    key: StrPath | None = None,
    passphrase: str | None = None,
    timeout_s: float = DEFAULT_S,
) -> PackReport:
    """Make a bundle.

    Args:
        model: the ONNX file; or what a framework has saved, which is exported first (`export`).
        output: `NAME-VERSION.edge`; after the model's name, version 1.0.0, when not given.
        data: normal rows that the model was not trained on; rows with label 1 are left out.
        channels: names and units, as `parse_channels` reads them; the data's columns when not given.
        window: rows that the model sees; what its input says, or 1, when not given.
        stride: readings from one window to the next.
        false_alarm_rate: share of normal windows that may reach the alarm limit.
        reference: the float32 model that golden scores are made with; `model` when not given, unless that computes in
            int8.
        score_output: the output to take.
        head: what that output is: `score`, `reconstruction`, `forecast`, `class:1`, `residual:CHANNEL`, `distance`,
            `projection`; refused where it is left open and more than one of them fits.
        horizon: rows from the last one that the model sees to the one that a forecast ends with.
        higher_is: which way that output points when it is a score; a guess is refused where outliers contradict it.
        layout: how the model takes a window, where its shape leaves it open, or takes it flat.
        score: how an error becomes one number (docs/scores.md).
        smooth: scores of moments that follow each other, in one; the bundle's window grows by this less one.
        smooth_by: how these become one.
        scale: what the readings are scaled by before the model takes them, and a reconstruction back again: `data`,
            `model`, a file with `mean` and `scale`, or a fitted scaler of scikit-learn, trusted as a model is.
        unscale: the same, of the answer alone, for a model that scales its input itself.
        error_in: units of the error where the answer is scaled back: the channels' (`sensor`) or the model's
            (`scaled`).
        features: what stands for a window in the model's input, such as `mean,std,slope,min,max,energy`.
        features_by: how these are lined up, `feature` by feature or `channel` by channel.
        state: inputs that take what an output gave for the window before of the same asset, each as `IN:OUT`, such as
            `h:h_out`; or `IN:OUT@AXIS`, with the axis of the batch.
        missing: what is done about missing values: `mean` of the channel's data, `zero` or a number takes their place,
            by nodes in the graph; `model` gives them to the model, which must have an answer of its own. When not
            given, the device holds the last values.
        alarm: a limit that the author has validated, in the output's own values; in place of one from the data.
        alarm_from: a `.json` or `.npz` that holds it, as `alarm`, `threshold_` or `offset_`.
        expect: scores of the author's own code for the same rows: a column of the data, or an `.npz` with `score`.
        accept_weak: pack a detector that hardly reacts to made-up faults.
        runtimes: extras whose newest runtime has to run the bundle, such as "cpu,openvino"; all releases of all of
            them when not given.
        max_auc_drop: with labelled rows and a reference, so much may the ROC-AUC be below the reference's.
        tolerance: largest deviation from the golden scores that a provider may have; twice the packed model's own
            deviation from its reference where that is more.
        custom_ops: libraries with operators that no runtime has of its own, for each architecture of the devices; those
            for this machine are loaded with the model. The bundle names all by their hashes, and holds none.
        weights: as for `export`.
        shapes: as for `export`.
        signature: as for `export`.
        trust_pickle: as for `export`.
        trust_types: as for `export`.
        trust_code: as for `export`.
        key: file of a private key to sign the bundle with; None leaves it unsigned.
        passphrase: of that file; None where it has none.
        timeout_s: seconds for all runs of models together.

    Raises:
        ConversionError: the model cannot be made canonical, does not run, or outliers score lower than normal rows;
            it computes in int8 without a reference, or the reference does; it hardly reacts to made-up faults; or a
            runtime that it is for does not run it.
        AccuracyError: the model's scores are further from its reference's than 5 %, or from the expected ones; or it
            ranks labelled rows worse.
        DataError: the data cannot be read or are too few.
        OutOfTimeError: the model takes longer than that, or never ends.
        MissingExtraError: what a signature, or the model's framework, needs is not installed.
        UsageError: the file name, the channels or an option cannot be meant, more than one reading of the model fits,
            a library is none, or is not needed, or the key cannot be read.
    """
    started = time.monotonic()
    _check_shares(tolerance, false_alarm_rate)
    signs_with = None if key is None else read_private_key(Path(key), passphrase)
    scalers = read_scalers((scale, unscale), Trust(trust_pickle, tuple(trust_types)))
    options = DetectorOptions(
        output=score_output,
        head=parse_head(head),
        horizon=horizon,
        higher_is=as_member(HigherIs, higher_is, named="higher_is"),
        layout=as_member(LayoutIs, layout, named="layout"),
        window=window,
        stride=stride,
        score=as_member(ScoreIs, score, named="score"),
        smooth=smooth,
        smooth_by=as_member(SmoothIs, smooth_by, named="smooth_by"),
        scale=scale,
        unscale=unscale,
        fitted={each.path: each.numbers for each in scalers},
        error_in=as_member(ErrorIn, error_in, named="error_in"),
        features=features,
        features_by=as_member(FeaturesBy, features_by, named="features_by"),
        state=tuple(state),
        missing=missing,
    )
    ops, (alarm, limit_name) = read_custom_ops(custom_ops), _limit_given(alarm, as_path(alarm_from))
    source, data, reference = Path(model), as_files(data), as_path(reference)
    output = as_path(output) or source.with_name(f"{source.name.partition('.')[0]}-1.0.0.edge")
    name, version = name_and_version(output)
    pairs = parse_channels(channels) if channels else ()
    if pairs:
        data = replace(data, columns=replace(data.columns, channels=tuple(channel for channel, _ in pairs)))
    saved = Saved(
        trust=Trust(trust_pickle, tuple(trust_types), trust_code),
        weights=as_path(weights),
        shapes=parse_shapes(shapes),
        layout=options.layout,
        signature=signature,
        besides=tuple(name for name in (options.told, expect) if name is not None and not name.endswith(".npz")),
        window=window,
        is_scaled=scale not in (None, "model"),
    )
    with as_onnx(source, data, saved, timeout_s) as (path, exported):
        loaded = load_model(path)
        ops.check((source, loaded))
        origin = origin_of(loaded)
        options = options.with_origin(origin, loaded)
        rows, wanted = _read(data, data.columns.channels or options.channels_of(origin), expect)
        normal = rows if rows.labels is None else rows.where(rows.labels == 0)
        if not len(normal):
            raise DataError(f"{data}: every row is labelled as an anomaly; normal rows are needed")
        _check_rows(rows, scalers)
        lower_versions(loaded)
        check_runtimes(path, loaded, parse_runtimes(runtimes))
        check_reference(path, loaded, reference)
        with ModelRuns(path, Deadline(path, timeout_s), ops.here) as runs:
            detector = Detector(reference or path, rows, options, runs=runs)
            if limit_name.startswith("offset") and (detector.is_decision_function or options.output == DECISION):
                raise UsageError(
                    f"--alarm-from {alarm_from}: {limit_name} is the limit of score_samples, and the model answers "
                    "decision_function (score_samples less that offset), whose limit is 0: give --alarm 0"
                )
            packed = detector.model if reference is None else detector.same_for(path)
            blind = check_missing(detector, packed)
            given = detector.normal_scores(packed)
            scores = detector.scores_of_whole(packed, given)
            check_finite(path, given, scores, detector)
            made_by_given = given if reference is None else detector.normal_scores(detector.model)
            made_by = scores if reference is None else detector.scores_of_whole(detector.model, made_by_given)
            unseen = detector.unseen_scores(path, given)
            threshold, calibration = _limits(detector, unseen, false_alarm_rate, alarm)
            evidence = weigh_direction(detector, made_by, rows)
            agreement = agree(detector, rows, wanted, scores=given, alarm=threshold.alarm, tolerance=tolerance)
            found_weak = {"is_given": alarm is not None, "accept_weak": accept_weak}
            trial = put_to_trial(path, detector, packed, scores=scores, alarm=threshold.alarm, **found_weak)
            golden = prove(detector, packed, made_by, batch_scales=batch_scales(loaded))
            runtime = runs.runtime()
            found = quality_of(
                rows,
                threshold,
                lambda windows: detector.sequence_scores(packed, windows),
                None if reference is None else lambda windows: detector.sequence_scores(detector.model, windows),
                window=detector.window,
                stride=stride,
                policy=detector.normal.policy,
                path=path,
                max_auc_drop=max_auc_drop,
            )
        replaced = output.exists()
        manifest = write_bundle(
            output,
            packed,
            golden,
            # A provider has to meet the float32 scores with the packed model, whose own distance is part of that.
            max(tolerance, 2 * golden.deviation),
            name=name,
            version=version,
            channels=describe_channels(normal, dict(pairs)),
            window=detector.window,
            stride=stride,
            runtime=runtime,
            interval_s=interval_of(rows),
            threshold=threshold,
            calibration=calibration,
            score=ScorePart(in_words=detector.score_from, formula=detector.formula),
            expected=None if agreement is None else agreement.part(),
            quality=None if found is None else found.quality,
            custom_ops=ops.parts(loaded),
            exported=None if origin is None else origin.part(),
            warm_up=0 if detector.warm_up is None else detector.warm_up.windows,
            key=signs_with,
        )
        still, coarse = still_channels(detector.windows), coarse_channels(normal.values)
        return PackReport(
            bundle=output,
            manifest=manifest,
            size_bytes=output.stat().st_size,
            score_from=detector.score_from,
            sign_evidence=evidence,
            sign=detector.sign,
            rows_used=len(normal),
            still_channels=tuple(name for name, is_still in zip(normal.channels, still, strict=True) if is_still),
            coarse_channels=tuple(name for name, is_it in zip(normal.channels, coarse, strict=True) if is_it),
            looks_scaled=looks_scaled(normal.values),
            raw_readings=raw_readings(loaded, detector, options, origin),
            rows_labelled=len(rows) - len(normal),
            time_doubts=time_doubts(rows),
            rows_with_missing=rows_with_missing(normal),
            missing=missing,
            blind_channels=blind,
            verdicts_changed=None if reference is None else count_flips(made_by_given, given, threshold.alarm),
            deviation=None if reference is None else golden.deviation,
            repairs=detector.repairs,
            replaced=replaced,
            signed_by="" if signs_with is None else signs_with.public.id,
            trial=trial,
            expected=agreement,
            formula=detector.formula,
            poor_channels=detector.poor,
            slow=tuple(f"{trap.problem}: {trap.fix}" for trap in many_nodes(loaded)),
            limit_is_given=alarm is not None,
            labelled=found,
            exporter_notes=() if exported is None else exported.notes,
            warm_up=detector.warm_up,
            feeds_each_row=0 if detector.warm_up is None else -(-detector.frame.seen // stride),
            seconds=time.monotonic() - started,
        )


def _check_rows(rows: SensorData, scalers: Sequence[FittedScaler]) -> None:
    check_columns(scalers, rows.channels)
    check_order(rows)


def _limit_given(alarm: float | None, file: Path | None) -> tuple[float | None, str]:
    """The limit that the author has validated, and its name in a file; None and empty where there is none."""
    if alarm is not None and file is not None:
        raise UsageError("--alarm and --alarm-from both give the limit")
    found, name = (alarm, "") if file is None else read_limit(file)
    if found is not None and not abs(found) <= FLOAT32_MAX:
        said = f"--alarm {found:g}" if file is None else f"{file}: {name} is {found:g}"
        raise UsageError(f"{said}: no score reaches that; expected a limit in the values of the model's output")
    return found, name


def _check_shares(tolerance: float, false_alarm_rate: float) -> None:
    if not tolerance <= 1:
        raise UsageError(f"--tolerance {tolerance:g}: expected a share above 0, at most 1")
    if not 0 < false_alarm_rate < 0.5:
        raise UsageError(f"--false-alarm-rate {false_alarm_rate:g}: expected a share above 0 and below 0.5")


def _read(
    data: DataFiles, channels: tuple[str, ...], expect: str | None
) -> tuple[SensorData, NDArray[np.float64] | None]:
    """The rows, and the scores that are expected for them."""
    is_column = expect is not None and not expect.endswith(".npz")
    wanted = (*channels, expect) if channels and is_column and expect is not None else channels
    rows = read_sensor_data(replace(data, columns=replace(data.columns, channels=wanted)))
    return (rows, None) if expect is None else read_expected(expect, rows)


def _limits(detector: Detector, scores: FloatArray, rate: float, alarm: float | None) -> tuple[Threshold, Calibration]:
    """The limits from the data, or the one that the author has validated."""
    # Of several assets, the windows lie one asset behind the other.
    in_time = len(set(detector.normal.rows.assets or ())) <= 1
    if alarm is None:
        return calibrate(scores, rate, in_time=in_time)
    # 0 turned round is 0, and no -0.
    return given_limit(scores, (-alarm if detector.sign.flipped else alarm) + 0.0, in_time=in_time)
