"""The picture of the dashboard that the README shows: `make screenshot`.

Real agents score recorded readings of a space shuttle and of a water meter beside a real broker, and Chromium shows
what the dashboard tells. Times are shifted so that the last reading is of now, and a second of readings passes in a
twentieth; nothing else is made up.
"""

from __future__ import annotations

import base64
import csv
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from selenium.webdriver.common.keys import Keys

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))
from broker import demo_broker
from browser import Browser, Dashboard
from processes import Agent, write_config
from readings import shuttle, water_flow

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "docs" / "dashboard.png"
LIMIT_BYTES = 300_000
WIDTH, HEIGHT = 1120, 640
ROWS = 280
PACE_S = 0.05
UNITS = 9
METERS = ("north", "south")
FAULTY = {"unit-4": slice(262, 280), "unit-7": slice(120, 150)}
"""Which rows of an asset are of a fault."""
FAULT_AT = 32
"""A point of its curve, of about seventy, that lies in the fault."""
PUBLISH = '[publish]\nscores = "0.2s"'
TOGETHER = """<!doctype html><body style="margin:0;width:{width}px"><img src="{first}" style="display:block">
<img src="{second}" style="display:block;border-top:3px solid #566273"></body>"""


_POINTS = "return document.querySelector('#chart').chart.columns[0].length"
_MARK = """
const rows = [...document.querySelectorAll('#alerts tbody tr')]
const asked = new URL(rows.at(-1).querySelector('a').href).searchParams
const said = { acknowledged: true, by: 'Ada', note: 'I am on my way' }
const mark = { agent: asked.get('agent'), id: asked.get('id'), ...said }
return fetch('/api/mark', { method: 'POST', body: JSON.stringify(mark) }).then((answer) => answer.status)
"""
"""Somebody looks after the alert that is open longest."""


def main() -> int:
    """Make the picture; gives the exit code."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="screenshot-")))
        port = stack.enter_context(demo_broker(folder)).port
        for name, model in (("launch-pad", "shuttle"), ("waterworks", "water_flow")):
            (folder / name).mkdir()
            bundle = ROOT / "models" / model / f"{model}-1.0.0.edge"
            config = write_config(folder / name, port, {model: bundle}, agent=name, extra=PUBLISH, health_s=1.0)
            stack.enter_context(Agent(config))
        dashboard = stack.enter_context(Dashboard(port, "--history", folder / "history.db"))
        browser = stack.enter_context(Browser((WIDTH, HEIGHT)))
        browser.open(dashboard.page())
        browser.wait(lambda: "2 of 2 agents online" in browser.text("#summary"), "both agents")
        send(port, [*shuttle_messages(folder), *flow_messages(folder)])
        browser.wait(lambda: "unit-4" in browser.text("#alerts"), "the alert")
        browser.run(_MARK)
        browser.wait(lambda: "Ada" in browser.text("#alerts"), "the mark")
        first = browser.driver.get_screenshot_as_base64()
        browser.open(dashboard.page("asset", agent="launch-pad", stream="shuttle", asset="unit-7", length_s="600"))
        browser.wait(lambda: browser.run(_POINTS) > 60, "its curve")
        browser.element("#chart").send_keys(Keys.HOME + Keys.ARROW_RIGHT * FAULT_AT)
        second = browser.driver.get_screenshot_as_base64()
        picture = pasted(browser, folder, first, second)
        dashboard.stop()
    OUTPUT.write_bytes(picture)
    print(f"{OUTPUT.relative_to(ROOT)}: {len(picture)} bytes")
    return 0 if len(picture) <= LIMIT_BYTES else 1


def pasted(browser: Browser, folder: Path, *pictures: str) -> bytes:
    """Two pictures, one above the other."""
    first, second = (f"data:image/png;base64,{picture}" for picture in pictures)
    page = folder / "together.html"
    page.write_text(TOGETHER.format(width=WIDTH, first=first, second=second))
    browser.open(page.as_uri())
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": 2 * HEIGHT, "scale": 0.9}
    taken = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(taken["data"])


def shuttle_messages(folder: Path) -> list[tuple[int, str, dict[str, Any]]]:
    """Which row it is, topic and reading, of all units; each has rows of its own."""
    shuttle(folder / "shuttle")
    with (folder / "shuttle" / "replay.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    channels = [name for name in rows[0] if name not in ("time", "label")]
    normal = [row for row in rows if row["label"] == "0"]
    faults = [row for row in rows if row["label"] == "1"]
    found = []
    for unit in range(UNITS):
        name = f"unit-{unit + 1}"
        chosen = normal[unit * ROWS : (unit + 1) * ROWS]
        if name in FAULTY:
            at = FAULTY[name]
            chosen[at] = faults[20 * unit : 20 * unit + at.stop - at.start]
        for number, row in enumerate(chosen):
            found.append((number, f"sensors/{name}/shuttle", {channel: float(row[channel]) for channel in channels}))
    return found


def flow_messages(folder: Path) -> list[tuple[int, str, dict[str, Any]]]:
    """The same of the water meters, whose broken stretches are in the data."""
    water_flow(folder / "water_flow")
    with (folder / "water_flow" / "replay.csv").open(encoding="utf-8") as file:
        flow = [float(row["flow"]) for row in csv.DictReader(file)]
    starts = dict(zip(METERS, (0, 610), strict=True))
    return [
        (number, f"sensors/{name}/water_flow", {"flow": flow[start + number]})
        for name, start in starts.items()
        for number in range(ROWS)
    ]


def send(port: int, messages: list[tuple[int, str, dict[str, Any]]]) -> None:
    """Publish all rows of one number at a time, at a pace; the last has the time of now."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    now = time.time() + ROWS * PACE_S
    for number in range(ROWS):
        for row, topic, reading in messages:
            if row == number:
                # A meter tells its flow hour by hour, and a window of it allows no other pace.
                step_s = 3600 if topic.endswith("water_flow") else 2
                at = now - (ROWS - 1 - number) * step_s
                client.publish(topic, msgspec.json.encode({"time": at, **reading}), qos=1)
        time.sleep(PACE_S)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    sys.exit(main())
