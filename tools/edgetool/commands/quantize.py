"""`edgetool quantize`: a smaller model that was compared with its original, or the original and the reason why."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from edge_agent.errors import AccuracyError, ConversionError, UsageError
from edgetool.choices import Io, IoName, LayoutIs, LayoutIsName, Precision, PrecisionName, Target, TargetName, as_member
from edgetool.data import DataSource, as_files
from edgetool.deadline import DEFAULT_S, Deadline
from edgetool.graph.custom_ops import read_custom_ops
from edgetool.graph.onnx_file import stored_precision, write_result
from edgetool.graph.prune import compressed_size, prune_weights
from edgetool.graph.randomness import release_seeds
from edgetool.graph.weights import WeightStore, size_of, whole_model
from edgetool.paths import StrPath, as_path
from edgetool.precision.context import Candidate
from edgetool.precision.float16.retype import has_float32_io, retype_io
from edgetool.precision.ladder import Climb, climb, measure
from edgetool.precision.prepare import Asked, Work, prepare
from edgetool.precision.report import Choice, Pruned, QuantizeReport, Verdict
from edgetool.verify.drift import compare_answers
from edgetool.verify.scores import MAX_SCORE_DEVIATION
from edgetool.verify.verifier import DRIFTS, Limits, Verification
from edgetool.verify.workbench import Workbench

__all__ = ["DEFAULT_MAX_DRIFT", "INT8_MAX_DRIFT", "QuantizeReport", "Verdict", "quantize"]

DEFAULT_MAX_DRIFT = 0.02
"""Largest difference of a float output, as a share of its peak; as much for other outputs, as a share of values."""
INT8_MAX_DRIFT = 0.1
"""Largest difference of a float output of an int8 model."""


def quantize(
    model: StrPath,
    output: StrPath | None = None,
    *,
    precision: Precision | PrecisionName = Precision.FLOAT16,
    target: Target | TargetName = Target.CPU,
    data: DataSource | None = None,
    layout: LayoutIs | LayoutIsName = LayoutIs.AUTO,
    max_drift: float | None = None,
    keep: str | Sequence[str] = (),
    io: Io | IoName = Io.FLOAT32,
    input_range: tuple[float, float] | None = None,
    synthetic: bool = False,
    threshold: float | None = None,
    prune: float | None = None,
    custom_ops: StrPath | Sequence[StrPath] = (),
    timeout_s: float = DEFAULT_S,
) -> QuantizeReport:
    """Make a model smaller, compare it with the original, and write it only when it is right.

    Args:
        model: the ONNX file; it is never changed.
        output: where to write; beside the model with `.float16.onnx` when not given.
        precision: what to compute in, or to store weights as.
        target: what the model is for; CPUs gain from small weights and not from float16 arithmetic.
        data: samples to compare and calibrate on (docs/data.md); made up when not given.
        layout: how the model takes a window of the data, where its shape fits both, or takes it flat.
        max_drift: largest drift of any output, as `edgetool.verify.drift` measures it; 0.02, for int8 0.1, when None.
        keep: nodes, or types of operators, that stay float32.
        io: type of the result's float inputs and outputs.
        input_range: lowest and highest value of made-up inputs.
        synthetic: allow a calibration of int8 on made-up inputs; the report says so.
        threshold: of the model's score; verdicts that change are counted.
        prune: share of each matrix's weights to set to zero.
        custom_ops: libraries with operators that no runtime has of its own, which are loaded with the model;
            their nodes stay as they are.
        timeout_s: seconds for all runs of models together.

    Raises:
        ConversionError: the model cannot be read, or does not run.
        AccuracyError: the outputs of a pruned model are too far off in every form, or no form keeps to a `max_drift`
            that is less than usual.
        DataError: the data do not fit the model.
        OutOfTimeError: the model takes longer than that, or never ends.
        UsageError: the output would overwrite the model, an option matches nothing, the layout of windows is open, or a
            library is none, or is not needed.
    """
    started = time.monotonic()
    precision = as_member(Precision, precision, named="precision")
    model = Path(model)
    output = as_path(output) or model.with_name(f"{model.name.removesuffix('.onnx')}.{precision.value}.onnx")
    if output.resolve() == model.resolve():
        raise UsageError(f"{output}: is the model itself, which is never overwritten; give another -o")
    if prune is not None and not 0 < prune < 1:
        raise UsageError(f"--prune {prune:g}: expected a share above 0 and below 1")
    asked = Asked(
        model=model,
        output=output,
        precision=precision,
        target=as_member(Target, target, named="target"),
        data=as_files(data),
        layout=as_member(LayoutIs, layout, named="layout"),
        limits=_limits(precision, max_drift),
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        io=as_member(Io, io, named="io"),
        input_range=input_range,
        synthetic=synthetic,
        threshold=threshold,
    )
    deadline = Deadline(model, timeout_s)
    ops = read_custom_ops(custom_ops)
    with (
        tempfile.TemporaryDirectory(prefix="edgetool-") as name,
        Workbench(Path(name), deadline=deadline, libraries=ops.here) as bench,
    ):
        work = prepare(asked, Path(name), bench, ops)
        if prune is not None:
            work = _prune(work, prune)
        tried = _try(work, precision)
        chosen, choices = _choose(work, tried, precision)
        return _write(work, tried, chosen, choices, started)


def _limits(precision: Precision, max_drift: float | None) -> Limits:
    usual = INT8_MAX_DRIFT if precision is Precision.INT8 else DEFAULT_MAX_DRIFT
    # Who allows more drift than usual does not get a detector that `pack` refuses.
    if max_drift is not None:
        return Limits(max_drift, max_drift, MAX_SCORE_DEVIATION, demanded=max_drift < usual)
    return Limits(usual, DEFAULT_MAX_DRIFT, MAX_SCORE_DEVIATION)


def _prune(work: Work, share: float) -> Work:
    store = work.context.store
    before = compressed_size(work.context.model, store)
    report = prune_weights(work.context.model, store, share)
    after = compressed_size(work.context.model, store)
    if work.context.widened:
        # What is small already would be no smaller, and what is zero now would not be written.
        work.context = replace(work.context, size_bytes=size_of(work.context.model, store))
    work.pruned = Pruned(share, report.zeroed, report.of, before, after)
    found = work.context.verifier.check(store.save(work.context.model, "pruned.onnx"))
    if not found.is_right:
        raise AccuracyError(
            f"{work.asked.model}: with {share:g} of the weights at zero, {found.problem}; nothing was written. "
            "Prune less, or allow more with --max-drift"
        )
    return work


def _try(work: Work, precision: Precision) -> dict[Precision, Climb]:
    wanted = (Precision.FLOAT16, Precision.INT8) if precision is Precision.AUTO else (precision,)
    tried = {each: climb(work.context, each) for each in wanted}
    for result in tried.values():
        if result.candidate is None:
            continue
        candidate = result.candidate
        if work.context.io is Io.FLOAT16:
            _retype(work, candidate)
        candidate.size_bytes = size_of(candidate.model, work.context.store)
    return tried


def _retype(work: Work, candidate: Candidate) -> None:
    if retype_io(candidate.model, work.context.facts):
        candidate.path = work.context.store.save(candidate.model, f"{candidate.path.stem}-io.onnx")
        candidate.verification = work.context.verifier.check(candidate.path)
    if not candidate.verification.is_right:
        raise ConversionError(
            f"{work.asked.model}: with float16 inputs and outputs {candidate.verification.problem}; nothing was "
            "written. Leave --io at float32"
        )


def _choose(work: Work, tried: dict[Precision, Climb], precision: Precision) -> tuple[Candidate | None, list[Choice]]:
    found = [climbed.candidate for climbed in tried.values() if climbed.candidate is not None]
    if precision is not Precision.AUTO:
        return (found[0] if found else None), []
    latency_s = measure(work.context, found)
    own = size_of(work.stripped, work.context.store)
    # Half the size counts as much as half the time; a form that is both a little smaller and slower is not worth it.
    weights = [own, *((candidate.latency_ratio or 1.0) * candidate.size_bytes for candidate in found)]
    best = min(range(len(weights)), key=weights.__getitem__)
    choices = [
        Choice(
            stored_precision(work.original),
            Verdict.KEPT.value,
            own,
            latency_s,
            1.0 if latency_s else None,
            0.0,
            best == 0,
        )
    ]
    for number, candidate in enumerate(found, start=1):
        choices.append(
            Choice(
                candidate.precision,
                candidate.rung,
                candidate.size_bytes,
                candidate.latency_s,
                candidate.latency_ratio,
                candidate.verification.worst,
                best == number,
            )
        )
    return (found[best - 1] if best else None), choices


def _write(
    work: Work,
    tried: dict[Precision, Climb],
    chosen: Candidate | None,
    choices: list[Choice],
    started: float,
) -> QuantizeReport:
    if chosen is None:
        content, verification, reason = _kept(work, tried, choices)
        weights = stored_precision(work.original)
    else:
        # The whole file in memory, and a child that still holds a model, would be too much for a large one.
        work.context.bench.close()
        content, verification, reason = (
            _whole(chosen.model, work.context.store),
            chosen.verification,
            chosen.reason,
        )
        weights = stored_precision(chosen.model)
    write_result(work.asked.output, content)
    report = _report(work, tried, verification, reason=reason, weights=weights, size_after=len(content))
    report = replace(report, choices=choices, seconds=time.monotonic() - started)
    if chosen is None:
        return report
    return replace(
        report,
        verdict=Verdict(chosen.rung),
        stored_tensors=chosen.stored_tensors,
        kept_tensors=chosen.kept_tensors,
        kept_nodes=chosen.kept_nodes,
        converter=chosen.converter,
        small_weight_bytes=chosen.half_bytes,
        arithmetic=chosen.arithmetic,
        latency_ratio=chosen.latency_ratio,
        latency_s=chosen.latency_s,
        calibrated_on=chosen.calibrated_on,
    )


def _report(
    work: Work,
    tried: dict[Precision, Climb],
    verification: Verification,
    *,
    reason: str,
    weights: str,
    size_after: int,
) -> QuantizeReport:
    """The report of a model that was kept."""
    return QuantizeReport(
        model=work.asked.model,
        output=work.asked.output,
        precision=work.asked.precision,
        target=work.asked.target,
        io=work.asked.io,
        verdict=Verdict.KEPT,
        reason=reason,
        weights=weights,
        size_before=work.size_before,
        size_after=size_after,
        metadata_bytes=work.metadata_bytes,
        rungs=[rung for climbed in tried.values() for rung in climbed.rungs],
        range_problems=[problem for climbed in tried.values() for problem in climbed.problems],
        repairs=work.repairs,
        data=work.samples.origin,
        synthetic=work.samples.synthetic,
        max_drift=work.asked.limits.drift,
        outputs=verification.drifts,
        unanswered=work.context.verifier.unanswered,
        saturated=work.context.verifier.saturated,
        scores=verification.scores,
        ventured=verification.ventured,
        refused=verification.refused,
        providers=verification.providers,
        pruned=work.pruned,
    )


def _whole(model: onnx.ModelProto, store: WeightStore) -> bytes:
    release_seeds(model)
    return whole_model(model, store)


def _kept(work: Work, tried: dict[Precision, Climb], choices: list[Choice]) -> tuple[bytes, Verification, str]:
    """The model as it was, without what its training framework left behind when that changes no answer."""
    store = work.context.store
    if len(choices) > 1 and choices[0].chosen:
        others = " and ".join(choice.precision for choice in choices[1:])
        reason = f"{choices[0].precision} is better here than {others}, by size times latency"
    else:
        reason = next((climbed.reason for climbed in tried.values() if climbed.reason), "nothing would become smaller")
    if work.asked.limits.demanded and DRIFTS in reason:
        raise AccuracyError(
            f"{work.asked.model}: {reason}; nothing was written. Allow more with --max-drift, or keep float32"
        )
    if work.context.io is Io.FLOAT16 and has_float32_io(work.original):
        raise ConversionError(
            f"{work.asked.model}: no form with float16 inputs and outputs: {reason}; nothing was written"
        )
    if work.pruned is None and not work.metadata_bytes:
        same = Verification("", compare_answers(work.context.verifier.expected, work.context.verifier.expected))
        # The very bytes that came in, unless they are in several files, or ask for newer versions than they need.
        alone = work.size_before == work.asked.model.stat().st_size and not work.lowered
        return work.asked.model.read_bytes() if alone else _whole(work.original, store), same, reason
    model = work.context.model if work.pruned is not None else work.stripped
    verification = work.context.verifier.check(store.save(model, "kept.onnx"), everywhere=work.pruned is not None)
    if not verification.is_right:
        return _whole(work.original, store), verification, reason
    share = work.metadata_bytes / max(work.size_before, 1)
    if share > 0.005:
        reason += f"; {share:.0%} of the file was metadata of the training framework and is stripped"
    return _whole(model, store), verification, reason
