"""The table of `edgetool watch --live`: open alerts, with the last scores of their assets."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from edgetool.monitoring.alerts import OPEN, Alert
from edgetool.monitoring.heard import Verdict
from edgetool.monitoring.shown import Asset, Changes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["open_alerts_table", "sparkline"]

_LEVELS = ("alarm", "stuck", "silent", "warn", "drift")
_BARS = "▁▂▃▄▅▆▇█"
_POINTS = 24
_NAME = 60
_SAID = 80
_FROM_WIDTH = {"level": 0, "asset": 0, "lately": 110, "what": 0, "since": 60, "who looks": 80}
"""The columns in their order, each with the characters that a terminal has to have in a line for it to be shown."""
_WIDTHS = {"level": 8, "lately": _POINTS, "since": 10, "who looks": 18}
"""Characters of a column at most, of which it takes what it needs; the others share the rest."""
_RULES = 3
"""Characters of each column that are blank or a line; one more is at the end."""
_FRAME_LINES = 5
"""The summary, and the table's own lines beside rows."""
_LEAST_ROWS = 2
"""One alert, and how many more there are: of a terminal of few lines, these are worth most."""


def open_alerts_table(told: Changes, *, width: int, height: int) -> RenderableType:
    """What needs a person, first those alerts that nobody looks after; no larger than the terminal.

    Args:
        told: the whole model.
        width: characters in a line of the terminal.
        height: its lines.
    """
    from rich.console import Group

    assets = {asset.key: asset for asset in told.assets}
    alerts = sorted((alert for alert in told.alerts if alert.state == OPEN), key=_need)
    online = sum(agent.state == "online" for agent in told.agents)
    agents = f"{online} of {_many(len(told.agents), 'agent')} online"
    summary = _line(f"{_many(len(alerts), 'open alert')}, {_many(len(assets), 'asset')}, {agents}", "bold")
    below = []
    if unheard := _not_heard(told, alerts):
        verb = "is" if unheard == 1 else "are"
        words = f"more {verb} open by the agents' health: begun before this did, muted, or in a storm"
        below.append(_line(f"! {unheard} {words}", "yellow"))
    if told.notices:
        below.append(_line(f"{told.notices[-1]['agent']}: {told.notices[-1]['text']}", "dim"))
    below = below[: max(0, height - _FRAME_LINES - _LEAST_ROWS)]
    room = height - _FRAME_LINES - len(below)
    if len(alerts) > room:
        room = max(1, room - 1)
        below.insert(0, _line(f"… and {len(alerts) - room} more", "dim"))
    return Group(summary, _table(alerts[:room], assets, told.now, width), *below)


def _table(alerts: list[Alert], assets: dict[str, Asset], now: float, width: int) -> RenderableType:
    from rich.table import Table

    from edgetool.progress import foreign

    names = [name for name, least in _FROM_WIDTH.items() if width >= least]
    rows = [_cells(alert, assets.get(f"{alert.agent}/{alert.stream}/{alert.asset}"), now) for alert in alerts]
    widths = {
        name: min(_WIDTHS[name], max([len(name), *(row[name].cell_len for row in rows)]))
        for name in names
        if name in _WIDTHS
    }
    rest = width - _RULES * len(names) - 1 - sum(widths.values())
    widths |= {"asset": max(1, rest // 2), "what": max(1, rest - rest // 2)}
    table = Table()
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=widths[name])
    for alert, row in zip(alerts, rows, strict=True):
        row["asset"] = foreign(_where(alert, widths["asset"]), "bold")
        table.add_row(*(row[name] for name in names))
    return table


def _cells(alert: Alert, asset: Asset | None, now: float) -> dict[str, Text]:
    """What is told of an alert by column, but for whose it is, which gets the room that the others leave."""
    from edgetool.progress import foreign

    return {
        "level": foreign(_short(alert.level, _NAME), "bold red" if alert.level == "alarm" else "bold yellow"),
        "lately": sparkline(asset),
        "what": foreign(_short(alert.said, _SAID)),
        "since": foreign(_ago(now - alert.raised)),
        "who looks": foreign(_who(alert)),
    }


def _where(alert: Alert, room: int) -> str:
    """Whose alert it is, in full where there is room for it; else the asset, which tells most."""
    names = [_short(name, _NAME) for name in (alert.agent, alert.stream, alert.asset)]
    whole = "/".join(names)
    return whole if len(whole) <= room else names[-1]


def _line(text: str, style: str) -> Text:
    """One line, however narrow the terminal."""
    from edgetool.progress import foreign

    line = foreign(_short(text, 2 * _SAID), style)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _not_heard(told: Changes, alerts: list[Alert]) -> int:
    """How many alerts agents have that no event told of."""
    heard = Counter((alert.agent, alert.stream) for alert in alerts)
    return sum(
        agent.not_heard(name, heard[agent.agent, name])
        for agent in told.agents
        if agent.state == "online"
        for name in agent.streams
    )


def sparkline(asset: Asset | None) -> Text:
    """The last scores against the limit, which is half of the height at least; those above it stand out."""
    from rich.text import Text

    text = Text()
    if asset is None or not asset.spark:
        return text
    limit = asset.threshold
    top = max(*asset.spark, *([] if limit is None else [limit]), 1e-9)
    for score in asset.spark[-_POINTS:]:
        bar = _BARS[min(int(max(score, 0.0) / top * len(_BARS)), len(_BARS) - 1)]
        text.append(bar, style="red" if limit is not None and score >= limit else "cyan")
    return text


def _need(alert: Alert) -> tuple[bool, int, float]:
    level = _LEVELS.index(alert.level) if alert.level in _LEVELS else len(_LEVELS)
    return _is_settled(alert), level, -alert.raised


def _is_settled(alert: Alert) -> bool:
    return alert.mark is not None and (alert.mark.acknowledged or alert.mark.verdict is not Verdict.OPEN)


def _who(alert: Alert) -> str:
    return _short(alert.mark.by or "somebody", _NAME) if alert.mark is not None and _is_settled(alert) else ""


def _ago(seconds: float) -> str:
    if seconds < 0 or seconds > 400 * 86_400:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(max(0.0, time.time() - seconds)))
    for limit, unit, name in ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
