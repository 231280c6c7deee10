"""The table of `edgetool watch --live`."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgetool._cli.open_alerts import open_alerts_table
from edgetool.monitoring.alerts import Alert
from edgetool.monitoring.heard import Mark, StreamHealth
from edgetool.monitoring.shown import Agent, Asset, Changes
from edgetool.progress import console


def make_alert(number: int, **more: Any) -> Alert:
    names = {"agent": "press-7", "stream": "pump", "asset": f"a{number}", "id": str(number), "level": "alarm"}
    return Alert(**{**names, "said": "score 7.9 (limit 3.2)", "raised": 900.0 + number, **more})


def make_agent(active: int, *, unheard: int = 0, state: str = "online") -> Agent:
    streams = {"pump": StreamHealth(active_alerts=active)}
    return Agent(agent="press-7", state=state, streams=streams, unheard={"pump": unheard})


def shown(told: Changes, width: int = 120, height: int = 24) -> list[str]:
    """The lines of the table on such a terminal."""
    terminal = console(width=width)
    with terminal.capture() as captured:
        terminal.print(open_alerts_table(told, width=width, height=height))
    return captured.get().splitlines()


def test_one_is_spoken_of_as_one() -> None:
    """And none and two as several."""
    for count, said in ((0, "0 open alerts, 0 assets"), (1, "1 open alert, 1 asset"), (2, "2 open alerts, 2 assets")):
        alerts = [make_alert(number) for number in range(count)]
        assets = [Asset(agent="press-7", stream="pump", asset=alert.asset) for alert in alerts]
        lines = shown(Changes(whole=True, now=1000.0, alerts=alerts, assets=assets, agents=[make_agent(0)]))
        assert lines[0] == f"{said}, 1 of 1 agent online"


@pytest.mark.parametrize(
    ("agents", "heard", "more"),
    [
        (
            [make_agent(3, unheard=2)],
            1,
            "! 2 more are open by the agents' health: begun before this did, muted, or in a storm",
        ),
        (
            [make_agent(2, unheard=1)],
            1,
            "! 1 more is open by the agents' health: begun before this did, muted, or in a storm",
        ),
        ([make_agent(2)], 1, ""),  # one has ended since
        ([make_agent(2, unheard=1)], 2, ""),
        ([make_agent(1)], 2, ""),
        ([make_agent(3, unheard=3, state="offline")], 0, ""),
    ],
)
def test_alerts_that_no_event_told_of_are_counted(agents: list[Agent], heard: int, more: str) -> None:
    """By the health of agents that are online: they began before, are muted, or are in a storm."""
    alerts = [make_alert(number) for number in range(heard)]
    lines = shown(Changes(whole=True, now=1000.0, alerts=alerts, agents=agents))
    assert [line for line in lines if line.startswith("!")] == ([more] if more else [])


@pytest.mark.parametrize(("width", "height"), [(200, 50), (80, 24), (60, 12), (40, 10), (24, 8)])
def test_the_table_is_no_larger_than_the_terminal(width: int, height: int) -> None:
    """What does not fit is counted; of narrow columns the end is missing, and no line wraps."""
    alerts = [make_alert(number, asset=f"a{number}", said="w" * 80, agent="g" * 60) for number in range(60)]
    alerts.append(make_alert(99, asset="mine", mark=Mark(agent="press-7", id="99", acknowledged=True, by="B" * 80)))
    notices = [{"agent": "press-7", "text": "x" * 300}]
    told = Changes(whole=True, now=1000.0, alerts=alerts, agents=[make_agent(99)], notices=notices)
    lines = shown(told, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if re.search(r"\ba\d+", line)]
    (left_out,) = [line for line in lines if line.startswith("… and ")]
    assert len(rows) >= 1
    assert left_out == f"… and {61 - len(rows)} more"
    assert rows[0].startswith("│ alarm")


def test_a_wide_terminal_shows_all_of_an_alert() -> None:
    """With whose it is, the last scores, and who looks."""
    mark = Mark(agent="press-7", id="1", acknowledged=True, by="Ada")
    asset = Asset(agent="press-7", stream="pump", asset="a1", spark=[0.5, 2.0, 8.0], threshold=4.0)
    told = Changes(whole=True, now=1000.0, alerts=[make_alert(1, mark=mark)], assets=[asset])
    (row,) = [line for line in shown(told, 140) if "press-7" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["alarm", "press-7/pump/a1", "▁▃█", "score 7.9 (limit 3.2)", "2 min", "Ada"]


def test_an_ordinary_terminal_shows_the_whole_score() -> None:
    """A column that needs little leaves the rest to those that need more."""
    (row,) = [line for line in shown(Changes(whole=True, now=1000.0, alerts=[make_alert(1)]), 80) if "press-7" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["alarm", "press-7/pump/a1", "score 7.9 (limit 3.2)", "2 min", ""]
