"""What the pages ask of a history."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.messages.text import iso_time
from edgetool.monitoring.alerts import OPEN, Alert
from edgetool.monitoring.heard import Mark
from edgetool.monitoring.history import reading
from edgetool.monitoring.shown import SPARK_POINTS, Asset
from edgetool.monitoring.times import AHEAD_S

__all__ = ["PARTS", "alert_story", "curve", "restored", "together"]

_POINTS = 1_500
"""Of one curve, about as many as a screen has columns."""
_SPANS = 500
_EVENTS = 500
PARTS = 200
"""Of the readings of one alert, each of 128 kB at most."""
_RESTORED_ASSETS = 10_000
_RESTORED_ENDED = 100


def curve(file: Path, agent: str, stream: str, asset: str, *, length_s: float, end: float | None) -> dict[str, Any]:
    """The scores of an asset over time, and its alerts.

    Args:
        file: of the history.
        agent: whose asset it is.
        stream: of the agent.
        asset: of the stream.
        length_s: how much time is shown, seconds; 0 is all that there is.
        end: up to when, epoch seconds by the readings; None is the newest reading, or now where there is none.

    Returns:
        Columns of the same length, in order of time: `time`, `score`, `highest`, `threshold`, `clear`, `state`,
        `channels`. Where there are more points than a screen shows, the highest of several neighbours stands for them;
        `thinned` tells that. `alerts` are those that touch this time, `from` and `to` its bounds. A time that is far
        ahead of our clock bounds nothing, or one reading would stretch the axis over decades: `ahead` says how many
        such points there are, and such alerts are among all.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(file) as database:
        where = (agent, stream, asset)
        found = database.execute("SELECT id FROM series WHERE (agent, stream, asset) = (?, ?, ?)", where).fetchone()
        series = -1 if found is None else found[0]
        latest = time.time() + AHEAD_S
        first, last, ahead = database.execute(
            "SELECT min(time) FILTER (WHERE time <= :latest), max(time) FILTER (WHERE time <= :latest),"
            " count(*) FILTER (WHERE time > :latest) FROM points WHERE series = :series",
            {"latest": latest, "series": series},
        ).fetchone()
        first_raise, last_event = database.execute(
            "SELECT min(raised) FILTER (WHERE raised BETWEEN 1 AND :latest), max(until) FILTER (WHERE until <= :latest)"
            " FROM alerts WHERE (agent, stream, asset) = (:agent, :stream, :asset)",
            {"latest": latest, "agent": agent, "stream": stream, "asset": asset},
        ).fetchone()
        to = end if end is not None else max(last or 0.0, last_event or 0.0) or time.time()
        since = min(first or to, first_raise or to, to) if not length_s else to - length_s
        rows, is_thinned = _points(database, series, since, to)
        spans = database.execute(
            "SELECT alerts.body, marks.body FROM alerts LEFT JOIN marks ON marks.agent = alerts.agent AND alert = id"
            " WHERE (alerts.agent, stream, asset) = (?, ?, ?)"
            " AND (raised > ? OR raised <= ? AND (until >= ? OR state = ?)) ORDER BY raised DESC LIMIT ?",
            (*where, latest, to, since, OPEN, _SPANS),
        ).fetchall()
        alerts = [_marked(*row) for row in spans]
    names = ("time", "score", "highest", "threshold", "clear", "state")
    columns: dict[str, Any] = {name: [row[number] for row in rows] for number, name in enumerate(names)}
    columns["channels"] = [msgspec.Raw(row[6] or b"[]") for row in rows]
    bounds = {"from": since, "to": to, "first": first, "thinned": is_thinned, "ahead": ahead}
    return {**columns, "alerts": alerts, **bounds}


def _marked(alert_body: bytes, mark_body: bytes | None) -> Alert:
    """An alert with what people say of it now; what they said at its last event is in its body."""
    alert = msgspec.json.decode(alert_body, type=Alert)
    alert.mark = None if mark_body is None else msgspec.json.decode(mark_body, type=Mark)
    return alert


def _points(database: sqlite3.Connection, series: int, since: float, to: float) -> tuple[list[Any], bool]:
    bounds = (series, since, to)
    count = database.execute(
        "SELECT count(*) FROM points WHERE series = ? AND time BETWEEN ? AND ?", bounds
    ).fetchone()[0]
    columns = "time, score, highest, threshold, clear, state, channels"
    if count <= _POINTS:
        statement = f"SELECT {columns} FROM points WHERE series = ? AND time BETWEEN ? AND ? ORDER BY time"  # noqa: S608
        return database.execute(statement, bounds).fetchall(), False
    # SQLite gives the other columns of the row that has the maximum.
    statement = (
        "SELECT time, score, max(highest), threshold, clear, state, channels FROM points"
        " WHERE series = ? AND time BETWEEN ? AND ? GROUP BY CAST((time - ?) / ? AS INTEGER) ORDER BY time"
    )
    return database.execute(statement, (*bounds, since, (to - since) / _POINTS)).fetchall(), True


def alert_story(file: Path, agent: str, alert_id: str, mark: Mark | None = None) -> dict[str, Any] | None:
    """An alert with all that is known of it; None for one of which nothing is.

    Args:
        file: of the history.
        agent: whose alert it is.
        alert_id: its id.
        mark: what people say of it, where that is known; what the history has, when not given.

    Returns:
        `alert`, or None where only the rest of it was heard; its `events` as they came (the last ones, where there are
        very many), its `mark` or None, and `evidence`: None, or `channels` and `rows` as the agent sent them, and
        `missing`, the number of parts that did not come.

    Raises:
        DataError: the file cannot be read.
    """
    key = (agent, alert_id)
    with reading(file) as database:
        alert = database.execute("SELECT body FROM alerts WHERE (agent, id) = (?, ?)", key).fetchone()
        events = database.execute(
            "SELECT body FROM events WHERE (agent, alert) = (?, ?) ORDER BY id DESC LIMIT ?", (*key, _EVENTS)
        ).fetchall()
        parts = database.execute(
            "SELECT body, parts FROM evidence WHERE (agent, alert) = (?, ?) ORDER BY part LIMIT ?", (*key, PARTS)
        ).fetchall()
        kept = database.execute("SELECT body FROM marks WHERE (agent, alert) = (?, ?)", key).fetchone()
        if mark is None and kept is not None:
            mark = msgspec.json.decode(kept[0], type=Mark)
        readings = together(parts)
    if alert is None and mark is None and not parts:
        return None
    return {
        "alert": None if alert is None else msgspec.Raw(alert[0]),
        "events": [msgspec.Raw(row[0]) for row in reversed(events)],
        "mark": mark,
        "evidence": readings,
    }


def together(parts: list[tuple[bytes, int]]) -> dict[str, Any] | None:
    """The readings of an alert, of the parts that came, in their order; None where none came.

    Args:
        parts: JSON with `channels` and `rows`, and how many parts there should be.
    """
    if not parts:
        return None
    read = [msgspec.json.decode(body) for body, _ in parts]
    channels = read[0]["channels"]
    rows = [row for each in read if each["channels"] == channels for row in each["rows"]]
    return {"channels": channels, "rows": rows, "missing": max(0, parts[0][1] - len(parts))}


def restored(file: Path) -> tuple[list[tuple[Asset, list[float]]], list[Alert], list[Mark]]:
    """What was shown when the history was written last: assets with their last points, alerts, marks.

    Raises:
        DataError: the file cannot be read.
    """
    assets: list[tuple[Asset, list[float]]] = []
    with reading(file) as database:
        for series, agent, stream, name in database.execute(
            "SELECT * FROM series ORDER BY id DESC LIMIT ?", (_RESTORED_ASSETS,)
        ).fetchall():
            rows = database.execute(
                "SELECT time, received, score, highest, threshold, clear, state FROM points"
                " WHERE series = ? AND time <= ? ORDER BY time DESC LIMIT ?",
                (series, time.time() + AHEAD_S, SPARK_POINTS),
            ).fetchall()
            if rows:
                assets.append((_asset((agent, stream, name), rows), [row[3] for row in reversed(rows)]))
        still_open = database.execute("SELECT body FROM alerts WHERE state = ? ORDER BY received", (OPEN,)).fetchall()
        ended = database.execute(
            "SELECT body FROM alerts WHERE state <> ? ORDER BY received DESC LIMIT ?", (OPEN, _RESTORED_ENDED)
        ).fetchall()
        alerts = [msgspec.json.decode(row[0], type=Alert) for row in [*reversed(ended), *still_open]]
        marked = database.execute("SELECT body FROM marks").fetchall()
        marks = [msgspec.json.decode(row[0], type=Mark) for row in marked]
    assets.sort(key=lambda pair: pair[0].heard)
    return assets, alerts, marks


def _asset(where: tuple[str, str, str], rows: list[Any]) -> Asset:
    """An asset, of its points, the newest first."""
    agent, stream, name = where
    at, heard, score, highest, threshold, clear, state = rows[0]
    return Asset(
        agent=agent,
        stream=stream,
        asset=name,
        time=iso_time(at),
        at=at,
        heard=heard,
        scored=heard,
        pause_s=max(0.0, heard - rows[1][1]) if len(rows) > 1 else 0.0,
        score=score,
        highest=highest,
        threshold=threshold,
        clear=clear,
        state=state,
    )
