"""Whether a file has the readings that a bundle was made for: their units, and how far they are apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_agent.bundle import Bundle, Manifest
from edge_agent.stream.intervals import PACE_FACTOR
from edge_agent.stream.ranges import ChannelFit, fit_of
from edgetool.data import SensorData
from edgetool.detector.interval import interval_of, time_doubts

__all__ = ["another_pace", "another_scale", "doubts_about"]

_LOOKED_AT = 1 << 16
"""Rows, from all over a file; looking at a million takes as long as scoring some."""
_MOST_LABELLED = 0.5


def another_scale(rows: SensorData, manifest: Manifest) -> list[ChannelFit]:
    """The channels of which most values are far outside of what the bundle knows.

    Args:
        rows: with the channels of the bundle, in any order; those of label 1 are not looked at.
        manifest: of the bundle.
    """
    step = -(-len(rows) // _LOOKED_AT) or 1
    values = rows.select(tuple(channel.name for channel in manifest.channels)).values[::step]
    if rows.labels is not None:
        values = values[rows.labels[::step] == 0]
    return [fit for fit in fit_of(values, manifest.channels) if fit.is_another_scale]


def another_pace(rows: SensorData, manifest: Manifest) -> str:
    """That the rows are further apart than those of the bundle's windows, or less far, in words; empty if not."""
    expected = manifest.interval_s
    found = interval_of(rows.take(min(len(rows), _LOOKED_AT))[0])
    if manifest.window == 1 or expected is None or found is None:
        return ""
    if expected / PACE_FACTOR < found < expected * PACE_FACTOR:
        return ""
    return (
        f"the rows are {found:g} s apart, and the windows of the bundle are made of rows that are {expected:g} s apart"
    )


def doubts_about(rows: SensorData, bundles: Sequence[Bundle], *, is_resampled: bool) -> Iterator[str]:
    """What in a file is another than some bundles expect, in words.

    Args:
        rows: with the channels of all bundles.
        bundles: that score them.
        is_resampled: their readings are made of several rows, so how far these are apart does not matter.
    """
    yield from filter(None, (time_doubts(rows), _labels_in_words(rows)))
    for bundle in bundles:
        for fit in another_scale(rows, bundle.manifest):
            yield f"{bundle.path.name}: channel {fit.name} is not what the bundle knows: {fit.in_words()}"
        if not is_resampled and (pace := another_pace(rows, bundle.manifest)):
            yield f"{bundle.path.name}: {pace}"


def _labels_in_words(rows: SensorData) -> str:
    """That the labels leave figures open, or may be turned round; empty where they do not."""
    share = 0.0 if rows.labels is None else float(rows.labels.mean())
    if share == 0:
        return "no row is labelled as an anomaly, so the figures show false alerts and nothing of what is found"
    if share == 1:
        return "all rows are labelled as anomalies, so the figures show nothing of false alerts"
    if share > _MOST_LABELLED:
        whose = "1 is an anomaly and 0 is normal; are they turned round?"
        return f"{share:.0%} of the rows are labelled as anomalies: {whose}"
    return ""
