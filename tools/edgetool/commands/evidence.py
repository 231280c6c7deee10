"""`edgetool evidence`: readings around alerts, with what people said of them, as labelled data."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import DataError, UsageError
from edge_agent.files.plain import replacing
from edge_agent.messages.text import pair_name
from edgetool.monitoring.alerts import ENDED, Alert
from edgetool.monitoring.heard import Mark, Verdict
from edgetool.monitoring.history import reading
from edgetool.monitoring.questions import PARTS, together
from edgetool.monitoring.times import seconds
from edgetool.parquet_file import to_parquet
from edgetool.paths import StrPath

__all__ = ["EvidenceReport", "evidence"]

_VERDICTS = (Verdict.TRUE, Verdict.FALSE)


@dataclass(slots=True)
class EvidenceReport:
    """What was written, and what could not be."""

    output: Path
    channels: list[str] = field(default_factory=list)
    assets: set[str] = field(default_factory=set)
    rows: int = 0
    anomalous: int = 0
    """Rows of label 1."""
    alerts: Counter[str] = field(default_factory=Counter)
    """Alerts that were written, by verdict."""
    without_verdict: int = 0
    """Alerts with readings that nobody judged."""
    without_readings: int = 0
    """Alerts with such a verdict whose readings did not come."""
    missing_parts: int = 0
    """Parts of readings that did not come, of alerts that were written."""
    undecided: int = 0
    """Rows that were left out: they are in an alert of which nobody said, or was asked for, what it is."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "output": str(self.output),
            "channels": self.channels,
            "assets": sorted(self.assets),
            "rows": self.rows,
            "anomalous": self.anomalous,
            "alerts": dict(self.alerts),
            "without_verdict": self.without_verdict,
            "without_readings": self.without_readings,
            "missing_parts": self.missing_parts,
            "undecided": self.undecided,
        }


class _Judged(msgspec.Struct):
    """An alert with its verdict, and with its readings where they came."""

    alert: Alert
    verdict: Verdict
    readings: dict[str, Any] | None

    def spans(self, at: float) -> bool:
        """Whether it was open then, epoch seconds."""
        return at >= self.alert.raised and (at < self.alert.until or self.alert.state != ENDED)


def evidence(
    history: StrPath,
    output: StrPath,
    *,
    stream: str | None = None,
    agent: str | None = None,
    verdicts: Iterable[str] = _VERDICTS,
) -> EvidenceReport:
    """Write the readings around alerts that people judged, as data for `evaluate`, `calibrate` and `pack`.

    A row has label 1 from the raise of an alert that was judged true to its end. What is in another alert that is not
    asked for, as one that nobody has judged, is left out. All other rows have label 0. Each row is written once.

    Args:
        history: of a dashboard, which may be running.
        output: `.csv` or `.parquet`: `time`, `asset`, the channels, `label`.
        stream: a stream's alerts; the only one's if not given.
        agent: an agent's alerts; all agents' if not given, and then an asset is called `AGENT:ASSET` where there are
            several.
        verdicts: which are taken: `true`, `false`, `known`.

    Raises:
        DataError: the history cannot be read, or has no such readings.
        UsageError: the name of the output, a verdict, or which stream is meant.
    """
    source, path = Path(history), Path(output)
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{path}: expected a name that ends in .csv or .parquet")
    wanted = _verdicts(verdicts)
    report = EvidenceReport(path)
    if not source.is_file():
        raise DataError(f"{source}: there is no such history; edgetool dashboard --history FILE makes one")
    alerts = _read(source, wanted, report, stream=stream, agent=agent)
    judged = [each for each in alerts if each.readings is not None and each.verdict in wanted]
    streams = sorted({each.alert.stream for each in judged})
    if len(streams) > 1:
        raise UsageError(f"{source}: has readings of {', '.join(streams)}; choose one with --stream")
    if not judged:
        raise DataError(
            f"{source}: no alert has readings and a verdict of {' or '.join(wanted)} "
            f"({report.without_verdict} have no verdict, {report.without_readings} no readings)"
        )
    rows = _rows(judged, alerts, wanted, report)
    kept = path.with_suffix(".part.csv") if path.suffix == ".parquet" else path
    _write(kept, rows, report)
    if kept != path:
        to_parquet(kept, path)
    return report


def _verdicts(given: Iterable[str]) -> list[Verdict]:
    try:
        found = [Verdict(each) for each in given]
    except ValueError as exc:
        raise UsageError(f"{exc}; expected true, false or known") from exc
    if not found or Verdict.OPEN in found:
        raise UsageError("a verdict: expected true, false or known")
    return found


def _read(
    source: Path, wanted: list[Verdict], report: EvidenceReport, *, stream: str | None, agent: str | None
) -> list[_Judged]:
    """All alerts."""
    found = []
    with reading(source) as database:
        alerts = database.execute(
            "SELECT alerts.body, marks.body FROM alerts LEFT JOIN marks ON marks.agent = alerts.agent AND alert = id"
            " WHERE coalesce(?, stream) = stream AND coalesce(?, alerts.agent) = alerts.agent ORDER BY raised",
            (stream, agent),
        ).fetchall()
        for alert_body, mark_body in alerts:
            alert = msgspec.json.decode(alert_body, type=Alert)
            verdict = Verdict.OPEN if mark_body is None else msgspec.json.decode(mark_body, type=Mark).verdict
            parts = database.execute(
                "SELECT body, parts FROM evidence WHERE (agent, alert) = (?, ?) ORDER BY part LIMIT ?",
                (alert.agent, alert.id, PARTS),
            ).fetchall()
            readings = together(parts)
            report.without_verdict += readings is not None and verdict is Verdict.OPEN
            report.without_readings += readings is None and verdict in wanted
            found.append(_Judged(alert, verdict, readings))
            if readings is not None and verdict in wanted:
                report.alerts[verdict] += 1
                report.missing_parts += readings["missing"]
        if not alerts and (stream or agent):
            known = database.execute("SELECT DISTINCT agent, stream FROM alerts ORDER BY agent, stream").fetchall()
            told = ", ".join(f"--agent {one} --stream {two}" for one, two in known) or "none at all"
            raise DataError(f"{source}: has no alert of that agent and stream; it has {told}")
    return found


def _rows(
    judged: list[_Judged], alerts: list[_Judged], wanted: list[Verdict], report: EvidenceReport
) -> dict[tuple[str, float], tuple[str, dict[str, Any], int]]:
    """By asset and time: the time as it was sent, the values by channel, and the label."""
    rows: dict[tuple[str, float], tuple[str, dict[str, Any], int]] = {}
    undecided: set[tuple[str, float]] = set()
    has_several_agents = len({each.alert.agent for each in judged}) > 1
    of_asset: defaultdict[tuple[str, str, str], list[_Judged]] = defaultdict(list)
    for each in alerts:
        of_asset[each.alert.agent, each.alert.stream, each.alert.asset].append(each)
    for each in judged:
        alert, readings = each.alert, each.readings or {}
        beside, channels = of_asset[alert.agent, alert.stream, alert.asset], readings["channels"]
        report.channels += [name for name in channels if name not in report.channels]
        asset = pair_name(alert.agent, alert.asset) if has_several_agents else alert.asset
        report.assets.add(asset)
        for time, *values in readings["rows"]:
            at = seconds(time)
            said = {other.verdict for other in beside if other.spans(at)}
            label = int(Verdict.TRUE in said and Verdict.TRUE in wanted)
            if not label and said - {*wanted}:
                undecided.add((asset, at))
                continue
            known = {name: value for name, value in zip(channels, values, strict=False) if value is not None}
            if (before := rows.get((asset, at))) is not None:
                known = {**before[1], **known}
            rows[asset, at] = time, known, label
    report.undecided = len(undecided)
    return rows


def _write(path: Path, rows: dict[tuple[str, float], tuple[str, dict[str, Any], int]], report: EvidenceReport) -> None:
    lines = []
    for (asset, _), (time, values, label) in sorted(rows.items()):
        report.rows += 1
        report.anomalous += label
        lines.append([time, asset, *(values.get(name, "") for name in report.channels), label])
    try:
        with replacing(path, mode=0o644) as file:
            writer = csv.writer(_Text(file), lineterminator="\n")
            writer.writerow(["time", "asset", *report.channels, "label"])
            writer.writerows(lines)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be written ({exc.strerror})") from exc


class _Text:
    """What `csv` writes to, of a file that takes bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write a line as UTF-8."""
        return int(self._file.write(text.encode()))
