"""What a bundle says of itself, in words: for `edgetool inspect`."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.bundle import Bundle, Calibration, CustomOpsPart, ExportedPart, Quality
from edgetool.detector.calibration import rate_doubt, tie_doubt

__all__ = ["card_of", "in_words", "library_in_words"]

_SHOWN_CHANNELS = 50


def card_of(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Pairs of what, and what the manifest says of it."""
    manifest = bundle.manifest
    yield "bundle", f"{manifest.name} {manifest.version}, packed {manifest.created}"
    yield "signed", _signed_in_words(bundle)
    model = manifest.model
    runtimes = ", ".join(f"{extra} from {release}" for extra, release in model.runtimes.items()) or "unknown"
    yield "model", f"{model.precision}, {model.size_bytes} bytes, sha256 {model.sha256:.12}; runs with {runtimes}"
    yield from (("library", library_in_words(part)) for part in manifest.custom_ops)
    made_of = manifest.exported
    if made_of is not None:
        yield "exported", in_words(made_of)
    for channel in manifest.channels[:_SHOWN_CHANNELS]:
        unit = f" [{channel.unit}]" if channel.unit else ""
        known = channel.min is not None and channel.max is not None
        yield "channel", f"{channel.name}{unit}{f', {channel.min:g} to {channel.max:g}' if known else ''}"
    if len(manifest.channels) > _SHOWN_CHANNELS:
        yield "channel", f"{len(manifest.channels) - _SHOWN_CHANNELS} more, which --json has"
    apart = "at an unknown pace" if manifest.interval_s is None else f"{manifest.interval_s:g} s apart"
    yield "window", f"{manifest.window} rows, {apart}, every {manifest.stride}"
    if model.state_size:
        filled = f"; the first {model.warm_up} windows only fill it" if model.warm_up else ""
        yield (
            "state",
            f"{model.state_size} values of its last answer for the same asset, which the device keeps{filled}",
        )
    if manifest.score is not None:
        yield "score", manifest.score.in_words
        yield "formula", manifest.score.formula
    if manifest.takes_missing:
        yield "missing", "the model takes readings in which values are missing as they are"
    yield "threshold", f"alarm {manifest.threshold.alarm:.4g}, clear {manifest.threshold.clear:.4g}"
    if manifest.calibration is not None:
        yield from _of_calibration(manifest.calibration)
    yield "golden", f"{len(bundle.golden_scores)} windows, to be met within {manifest.golden.tolerance:.2g}"
    expected = manifest.expected
    if expected is not None:
        yield "expected", f"{expected.windows} scores of the author's own code met within {expected.deviation:.1e}"
    if manifest.quality is not None:
        yield from _of_quality(manifest.quality)


def in_words(made_of: ExportedPart) -> str:
    """What a model was made of, and how it agrees with that."""
    by = "" if made_of.converter == "edgetool" else f", converted by {made_of.converter}"
    return (
        f"from {made_of.estimator} of {made_of.framework}{by}, then with answers for {made_of.rows} rows within "
        f"{made_of.deviation:.1e} of their spread"
    )


def library_in_words(part: CustomOpsPart) -> str:
    """A library that devices of its architecture have to have, and to allow."""
    return f"{part.file} for {part.architecture}, with operators of {', '.join(part.domains)}; sha256 {part.sha256}"


def _signed_in_words(bundle: Bundle) -> str:
    if not bundle.is_signed:
        return "by nobody"
    return f"by {bundle.signed_by}" if bundle.signed_by else "by whom it does not say; ask with --key FILE.pub"


def _of_calibration(calibration: Calibration) -> Iterator[tuple[str, str]]:
    effective, interval = calibration.effective_rows, calibration.interval
    worth = "" if effective is None else f", as much as {effective:.0f} independent ones"
    between = "" if interval is None else f"; nine times in ten from {interval[0]:.2g} to {interval[1]:.2g}"
    how = f", by {calibration.method}" if calibration.method else ""
    yield (
        "calibrated",
        f"on {calibration.rows} windows{worth}; false alarms {calibration.false_alarm_rate:g}{between}{how}",
    )
    yield from (("WARNING", doubt) for doubt in (tie_doubt(calibration), rate_doubt(calibration)) if doubt is not None)


def _of_quality(quality: Quality) -> Iterator[tuple[str, str]]:
    days = quality.false_alerts_per_day
    often = f"{quality.false_alerts} false alerts" + ("" if days is None else f", {days:.3g} a day")
    yield "labelled", f"{quality.events_found} of {quality.events} events found, {often}, in {quality.rows} windows"
    if quality.roc_auc is not None and quality.average_precision is not None:
        yield "ranks", f"ROC-AUC {quality.roc_auc:.3f}, average precision {quality.average_precision:.3f}"
