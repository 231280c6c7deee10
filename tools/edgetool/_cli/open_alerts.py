"""The table of `edgetool watch --live`: open alerts, with the last scores of their assets."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from edgetool.monitoring.alerts import OPEN, Alert
from edgetool.monitoring.fleet import Asset, Changes
from edgetool.monitoring.heard import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["open_alerts_table", "sparkline"]

_LEVELS = ("alarm", "stuck", "silent", "warn", "drift")
_BARS = "▁▂▃▄▅▆▇█"
_POINTS = 24
_NAME = 60
_SAID = 80
_OTHER_LINES = 6
"""Of the terminal, beside rows."""


def open_alerts_table(told: Changes, *, height: int) -> RenderableType:
    """What needs a person, first those alerts that nobody looks after.

    Args:
        told: the whole model.
        height: lines of the terminal.
    """
    from rich.console import Group
    from rich.table import Table

    from edgetool.progress import foreign

    assets = {asset.key: asset for asset in told.assets}
    alerts = sorted((alert for alert in told.alerts if alert.state == OPEN), key=_need)
    online = sum(agent.state == "online" for agent in told.agents)
    table = Table(
        title=f"{len(alerts)} open alerts, {len(assets)} assets, {online} of {len(told.agents)} agents online"
    )
    for name in ("level", "asset", "lately", "what", "since", "who looks"):
        table.add_column(name, no_wrap=name in {"level", "lately"}, overflow="fold")
    room = max(1, height - _OTHER_LINES)
    for alert in alerts[:room]:
        asset = assets.get(f"{alert.agent}/{alert.stream}/{alert.asset}")
        table.add_row(
            foreign(_short(alert.level, _NAME), "bold red" if alert.level == "alarm" else "bold yellow"),
            foreign(f"{_short(alert.agent, _NAME)}/{_short(alert.stream, _NAME)}/{_short(alert.asset, _NAME)}", "bold"),
            sparkline(asset),
            foreign(_short(alert.said, _SAID)),
            foreign(_ago(told.now - alert.raised)),
            foreign(_who(alert)),
        )
    more = [foreign(f"… and {len(alerts) - room} more", "dim")] if len(alerts) > room else []
    if unheard := _not_heard(told, alerts):
        words = "more are open by the agents' health: they began before this did, are muted, or are in a storm"
        more.append(foreign(f"! {unheard} {words}", "yellow"))
    last = (
        [foreign(_short(f"{told.notices[-1]['agent']}: {told.notices[-1]['text']}", 2 * _SAID), "dim")]
        if told.notices
        else []
    )
    return Group(table, *more, *last)


def _not_heard(told: Changes, alerts: list[Alert]) -> int:
    """How many alerts agents have that no event told of."""
    heard = Counter((alert.agent, alert.stream) for alert in alerts)
    return sum(
        max(0, stream.active_alerts - heard[agent.agent, name])
        for agent in told.agents
        if agent.state == "online"
        for name, stream in agent.streams.items()
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
