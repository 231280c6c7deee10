"""`edgetool calibrate`: a bundle's limit from normal readings, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Bundle, Manifest, Threshold
from edge_agent.errors import DataError, UsageError
from edge_agent.messages.scores import Engine
from edge_agent.stream.threshold import threshold_from
from edgetool.data import DataSource, SensorData, holes, read_sensor_data
from edgetool.detector.allowed import open_allowed
from edgetool.detector.bundling import name_and_version, rewrite_bundle
from edgetool.detector.calibration import calibrate as limits_from
from edgetool.detector.calibration import tie_doubt
from edgetool.detector.interval import time_doubts
from edgetool.detector.misfits import another_pace, another_scale
from edgetool.detector.refusals import check_order
from edgetool.detector.relimited import made_up_for, silenced
from edgetool.detector.rescored import files_for, open_engine, rescore
from edgetool.paths import StrPath, as_path, as_paths
from edgetool.quality.alarm_rate import rate_for
from edgetool.quality.alerts import Scored, alerts_at
from edgetool.quality.dependence import RateInterval, about, effective_rows, interval_of
from edgetool.quality.judge import Labelled
from edgetool.quality.rows import AssetRows

__all__ = ["AssetLimit", "CalibrateReport", "calibrate"]

_FEWEST = 30
"""As `edgetool pack` and commissioning want them."""


@dataclass(frozen=True, slots=True)
class AssetLimit:
    """The limit that one asset would have by itself."""

    asset: str
    rows: int
    """Its normal windows."""
    alarm: float | None
    """None where it can have none."""
    effective_rows: float
    interval: tuple[float, float] | None
    """Of the rate that its own limit has."""
    share_at_bundle_limit: float
    """Of its windows, the share that reaches the limit of all."""
    doubt: str | None = None
    """Why it has no limit of its own, or none of the rate asked for, because many scores are equal."""


@dataclass(frozen=True, slots=True)
class CalibrateReport:
    """A limit, and what is known of it."""

    bundle: Path
    data: str
    """The file that was read, the first of several."""
    output: Path | None
    """The bundle that was written, if one was."""
    rows: int
    """Normal windows that were scored."""
    not_finite: int
    """Windows left out because their score is no number."""
    before: Threshold
    """The bundle's limits so far."""
    threshold: Threshold
    told: RateInterval
    method: str
    alarms_per_day: float | None
    """What was asked for; None if a rate was."""
    days: float | None
    """For how long the readings last, all assets together; None without times."""
    alerts: int
    """What the new limit raises on these readings."""
    alerts_before: int
    """What the limit so far raises on them."""
    share: float
    """Of the windows, the share that reaches the new limit."""
    share_before: float
    """The share that reaches the limit so far."""
    assets: tuple[AssetLimit, ...]
    """Empty unless asked for."""
    loses_signature: bool = False
    """The bundle is signed, and the one that was written is not."""
    misfits: tuple[str, ...] = ()
    """That the readings are of another unit or pace than those that the bundle was packed with."""
    tied: str | None = None
    """That no limit has the rate asked for, because many scores are equal."""
    time_doubts: str = ""
    """What is odd about the times of the rows, in words; empty where nothing is."""
    silenced: str | None = None
    """Why a bundle with this limit is refused, which only a report without one has."""

    @property
    def needed_days(self) -> float | None:
        """For how long such readings would have to last; None without times."""
        return None if self.days is None else self.days * self.told.needed_rows / self.rows

    @property
    def alarms_between(self) -> tuple[float, float] | None:
        """The interval in alerts a day; None if a rate was asked for."""
        if self.alarms_per_day is None:
            return None
        low, high = (self.alarms_per_day * end / self.told.rate for end in (self.told.low, self.told.high))
        return low, high if self.days is None else min(high, self.rows / self.days / 2)

    def warnings(self) -> list[str]:
        """What a user has to know before the limit is used."""
        found = list(self.misfits)
        told, needed = self.told, self.needed_days
        if self.not_finite:
            found.append(f"{self.not_finite} windows have a score that is no number, and are left out")
        if self.tied is not None:
            found.append(self.tied)
        if self.time_doubts:
            found.append(self.time_doubts)
        if not told.is_supported:
            hours = "" if needed is None else f", about {about(needed * 24)} hours"
            here = "" if self.days is None else f" where these are {about(self.days * 24)}"
            found.append(
                f"a rate of {told.rate:.3g} cannot be known from this file: its {self.rows} windows say as much as "
                f"{told.effective_rows:.0f} independent ones. "
                f"It takes {about(told.needed_rows)} such windows{hours}{here}. "
                f"The limit is that of a rate of {told.limit_rate:.2g}, so that {told.rate:.3g} is a bound"
            )
        if self.loses_signature:
            found.append(f"{self.bundle} is signed, and the new one is not yet: edgetool sign {self.output} --key FILE")
        if self.silenced is not None:
            found.append(self.silenced)
        return found

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        told, days = self.told, self.days
        return {
            "bundle": str(self.bundle),
            "data": self.data,
            "output": None if self.output is None else str(self.output),
            "rows": self.rows,
            "not_finite": self.not_finite,
            "hours": None if days is None else days * 24,
            "effective_rows": told.effective_rows,
            "false_alarm_rate": told.rate,
            "alarms_per_day": self.alarms_per_day,
            "interval": [told.low, told.high],
            "alarms_per_day_interval": None if self.alarms_between is None else list(self.alarms_between),
            "is_supported": told.is_supported,
            "limit_rate": told.limit_rate,
            "needed_rows": told.needed_rows,
            "needed_hours": None if self.needed_days is None else self.needed_days * 24,
            "method": self.method,
            "threshold": msgspec.to_builtins(self.threshold),
            "threshold_before": msgspec.to_builtins(self.before),
            "share": self.share,
            "share_before": self.share_before,
            "alerts": self.alerts,
            "alerts_before": self.alerts_before,
            "assets": [asdict(asset) for asset in self.assets],
            "warnings": self.warnings(),
        }


def calibrate(
    bundle: StrPath,
    output: StrPath | None = None,
    *,
    data: DataSource,
    false_alarm_rate: float | None = None,
    alarms_per_day: float | None = None,
    per_asset: bool = False,
    custom_ops: StrPath | Sequence[StrPath] = (),
) -> CalibrateReport:
    """Make the limit of a bundle from normal readings, and tell how sure it is.

    Args:
        bundle: what scores.
        output: a bundle `NAME-VERSION.edge` with the new limits; its version must differ. None writes nothing.
        data: normal rows that the model has not seen, as they came; rows with label 1 are left out.
        false_alarm_rate: share of normal windows that may reach the limit; the bundle's own when neither is given.
        alarms_per_day: or the alerts of an asset that is normal all day; needs times.
        per_asset: tell the limit that each asset would have by itself, too.
        custom_ops: libraries that the bundle names, which may be loaded.

    Raises:
        BundleError: the bundle cannot be read.
        DataError: the data cannot be read, are too few, or have no times where these are needed; or no fault would
            reach the limit of the bundle to write, or the data are in other units than it knows.
        EngineError: the runtime failed.
        UsageError: an option cannot be meant, the new bundle has the old one's version, or a library is missing, or not
            needed.
    """
    _check(false_alarm_rate, alarms_per_day)
    opened, output = open_allowed([Path(bundle)], as_paths(custom_ops))[0], as_path(output)
    manifest = opened.manifest
    identity = None if output is None else _new_identity(opened, output)
    files = files_for(data, [opened])
    with ThreadPoolExecutor(max_workers=1) as aside:
        engine = aside.submit(open_engine, opened)
        rows = read_sensor_data(files)
        check_order(rows)
    running = engine.result()
    misfits = _misfits(rows, manifest, is_written=output is not None)
    scored, order, days, not_finite = _normal_scores(opened, rows, running)
    scores = scored.score.astype(np.float64)
    rate = false_alarm_rate or manifest.false_alarm_rate
    if alarms_per_day is not None:
        if days is None:
            raise DataError(f"{files}: has no times, so nobody knows how long a day is; give --false-alarm-rate")
        # Between two alerts of an asset there is at least one window that is in none.
        most = len(scores) / days / 2
        if alarms_per_day > most:
            raise UsageError(f"--alarms-per-day {alarms_per_day:g}: these readings can have at most {most:.4g} a day")
        rate = rate_for(scored, alarms_per_day * days)
    ways, in_time = _ways(scored, order, rows)
    effective = effective_rows(scores, rate, ways, in_time=in_time)
    if alarms_per_day is not None and days is not None:
        # Alerts are fewer than rows in alarm, also where these are independent.
        effective = min(effective, alarms_per_day * days / rate)
    told = interval_of(rate, len(scores), effective)
    threshold, calibration = limits_from(scored.score, rate, told=told)
    if calibration.interval is not None:
        low, high = calibration.interval
        told = replace(told, low=low, high=high)
    silent = None
    if threshold.alarm > manifest.threshold.alarm:

        def limit_of(other: float) -> float:
            known = interval_of(other, len(scores), effective_rows(scores, other, ways, in_time=in_time))
            return threshold_from(scores, known.limit_rate).alarm

        values = order.by_place(rows.select(tuple(channel.name for channel in manifest.channels)).values)
        faults = made_up_for(opened, running, values, scored.place, scored.score)
        silent = silenced(faults, before=manifest.threshold, after=threshold, rate=rate, limit_of=limit_of)
    if silent is not None and output is not None:
        raise DataError(f"{files}: {silent}")
    if output is not None and identity is not None:
        rewrite_bundle(
            output, opened, name=identity[0], version=identity[1], threshold=threshold, calibration=calibration
        )
    return CalibrateReport(
        bundle=Path(bundle),
        data=str(files),
        output=output,
        rows=len(scores),
        not_finite=not_finite,
        before=manifest.threshold,
        threshold=threshold,
        told=told,
        method=calibration.method,
        alarms_per_day=alarms_per_day,
        days=days,
        alerts=len(alerts_at(scored, threshold).raised),
        alerts_before=len(alerts_at(scored, manifest.threshold).raised),
        share=float(np.mean(scores >= threshold.alarm)),
        share_before=float(np.mean(scores >= manifest.threshold.alarm)),
        assets=_by_asset(scored, order, rate, threshold.alarm) if per_asset else (),
        loses_signature=output is not None and opened.is_signed,
        misfits=misfits,
        tied=tie_doubt(calibration),
        time_doubts=time_doubts(rows),
        silenced=silent,
    )


def _check(false_alarm_rate: float | None, alarms_per_day: float | None) -> None:
    if false_alarm_rate is not None and alarms_per_day is not None:
        raise UsageError("--false-alarm-rate and --alarms-per-day: expected one of them, not both")
    if false_alarm_rate is not None and not 0 < false_alarm_rate < 0.5:
        raise UsageError(f"--false-alarm-rate {false_alarm_rate:g}: expected a share above 0 and below 0.5")
    if alarms_per_day is not None and not 0 < alarms_per_day < math.inf:
        raise UsageError(f"--alarms-per-day {alarms_per_day:g}: expected a number above 0")


def _new_identity(bundle: Bundle, output: Path) -> tuple[str, str]:
    """Name and version of the bundle to write: devices tell one bundle from another by these."""
    name, version = name_and_version(output)
    if (name, version) == (bundle.manifest.name, bundle.manifest.version):
        raise UsageError(
            f"{output}: {bundle.path} is {name} {version} already, and devices tell bundles apart by their version; "
            "give the new one a version of its own, such as 1.0.1"
        )
    return name, version


def _misfits(rows: SensorData, manifest: Manifest, *, is_written: bool) -> tuple[str, ...]:
    """What in the readings is another than in those that the bundle was packed with, in words.

    Raises:
        DataError: the units are, and a bundle is to be written, whose ranges would be those of other readings.
    """
    scales = another_scale(rows, manifest)
    if scales and is_written:
        parts = ", ".join(f"{fit.name} ({fit.in_words()})" for fit in scales)
        raise DataError(
            f"{rows.path}: these are not the readings that the bundle knows: {parts}; give readings in its units, or "
            "pack the model again with these, so that the ranges of the bundle are theirs"
        )
    pace = another_pace(rows, manifest)
    return *(f"channel {fit.name} is not what the bundle knows: {fit.in_words()}" for fit in scales), *filter(
        None, [pace]
    )


def _normal_scores(bundle: Bundle, rows: SensorData, engine: Engine) -> tuple[Scored, AssetRows, float | None, int]:
    """Finite scores of windows without a labelled row, the order of rows, days that normal rows last, and how many
    scores are no number.
    """
    order = AssetRows.of(rows.assets, len(rows))
    labels = order.by_place(np.zeros(len(rows), dtype=np.int64) if rows.labels is None else rows.labels)
    made = rescore(bundle, rows, engine)
    places = order.places[made.rows]
    first = np.maximum(places - bundle.manifest.window + 1, order.starts[order.asset_of(places)])
    seen = np.concatenate([[0], np.cumsum(labels)])
    jumped = np.concatenate([[0], np.cumsum(order.by_place(holes(rows)))])
    is_normal = (seen[places + 1] == seen[first]) & (jumped[places + 1] == jumped[first + 1])
    finite = np.isfinite(made.scores)
    kept = is_normal & finite
    if kept.sum() < _FEWEST:
        raise DataError(
            f"{rows.path}: {kept.sum()} normal windows are too few to calibrate on, at least {_FEWEST} are needed"
        )
    labelled = Labelled.of(order, labels, None if rows.times is None else order.by_place(rows.times))
    scored = labelled.scored(places[kept], made.scores[kept], bundle.manifest.window)
    return scored, order, labelled.normal_days, int((is_normal & ~finite).sum())


def _ways(scored: Scored, order: AssetRows, rows: SensorData) -> tuple[list[NDArray[np.int64]], bool]:
    """The orders in which scores may depend on each other, and whether the last one is that of time."""
    came = order.order[scored.place]
    by_asset, as_they_came = np.arange(len(came)), np.argsort(came)
    if len(order.starts) > 1 and rows.times is not None:
        return [by_asset, as_they_came, np.argsort(rows.times[came], kind="stable")], True
    is_in_turns = not np.array_equal(by_asset, as_they_came)
    return [by_asset, as_they_came], len(order.starts) == 1 or is_in_turns


def _by_asset(scored: Scored, order: AssetRows, rate: float, alarm: float) -> tuple[AssetLimit, ...]:
    """What each asset would have by itself, in the order of the file."""
    limits = []
    for start, end in zip(scored.starts, np.append(scored.starts[1:], len(scored.score)), strict=True):
        scores = scored.score[start:end]
        name = order.names[int(order.asset_of(scored.place[start : start + 1])[0])]
        told = interval_of(rate, len(scores), effective_rows(scores, rate))
        found = AssetLimit(
            asset=name,
            rows=len(scores),
            alarm=None,
            effective_rows=told.effective_rows,
            interval=None,
            share_at_bundle_limit=float(np.mean(scores >= alarm)),
        )
        try:
            threshold, calibration = limits_from(scores, rate, told=told)
        except DataError as exc:
            limits.append(replace(found, doubt=exc.lines[0].partition("; ")[0]))
        else:
            limits.append(
                replace(found, alarm=threshold.alarm, interval=calibration.interval, doubt=tie_doubt(calibration))
            )
    return tuple(limits)
