"""What the dashboard costs, and how soon it shows an alert: in Debian's Chromium, beside a real broker and agent.

`python tools/benchmarks/dashboard.py` prints a row for each part. All clocks are of one machine. `alert`: from just
before a reading is sent until the frame in which its alert is on the page. `frames`: how long the page's frames take,
by its own clock, with 500 assets. `cpu`: the dashboard's process with 1,000 assets, a score each 5 s, and three pages
open. `growth`: memory of process and page before and after an hour's worth of those messages, as fast as they are
taken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from workload import cpu_seconds, machine

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from browser import Browser, Dashboard
from fakes import write_bundle
from processes import Agent, Broker, wait_until, write_config

from edge_agent.messages.text import iso_time

INTERVAL_S = 5.0
LATE_S = 0.1
_NO_STORM = "[stream.storm]\nraises = 0"
"""So that each of these alerts is told by itself."""
_NOTE_ALERTS = """
window.came = {}
new MutationObserver(() => requestAnimationFrame(() => requestAnimationFrame(() => {
  for (const row of document.querySelectorAll('#alerts tbody th a')) window.came[row.textContent] ??= Date.now()
}))).observe(document.querySelector('#alerts tbody'), { childList: true })
"""
_NOTE_FRAMES = """
window.frames_ms = []
let last = performance.now()
const note = (now) => { window.frames_ms.push(now - last); last = now; requestAnimationFrame(note) }
requestAnimationFrame(note)
"""


class Scores:
    """Publishes scores of many assets, as an agent with `[publish] scores` does.

    Args:
        port: of the broker.
        assets: how many.
    """

    def __init__(self, port: int, assets: int) -> None:
        self._names = [f"pump-{number:04}" for number in range(assets)]
        self._values = np.abs(np.random.default_rng(1).normal(3, 1.5, 10_007))
        self._drawn = count()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, name: str, time_s: float) -> paho.MQTTMessageInfo:
        """One asset's score."""
        highest = float(self._values[next(self._drawn) % len(self._values)])
        document: dict[str, Any] = {"agent": "g1", "stream": "pump", "asset": name, "windows": 50, "state": "normal"}
        document |= {"time": iso_time(time_s), "since": iso_time(time_s - INTERVAL_S), "score": highest / 2}
        document |= {"highest": highest, "threshold": 9.0, "clear": 4.0}
        document["channels"] = [{"name": f"sensor-{n}", "share": 0.2, "value": highest + n} for n in range(5)]
        return self._client.publish(f"edge/g1/scores/pump/{name}", msgspec.json.encode(document))

    def send_at_pace(self, seconds: float) -> int:
        """Each asset once in an interval, evenly; gives how many left later than a tenth of a second."""
        pause_s, late = INTERVAL_S / len(self._names), 0
        start_s = time.monotonic()
        for number in range(int(seconds / pause_s)):
            due_s = start_s + number * pause_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            late += time.monotonic() - due_s > LATE_S
            self.send(self._names[number % len(self._names)], time.time())
        return late

    def send_all(self, rounds: int, start_s: float) -> None:
        """Each asset once a round, as fast as the broker's reader allows."""
        for number in range(rounds):
            sent = [self.send(name, start_s + number * INTERVAL_S) for name in self._names]
            sent[-1].wait_for_publish(60)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


def alert_times(folder: Path, alerts: int) -> list[float]:
    """Seconds from a reading to its alert on the page."""
    bundle = write_bundle(folder / "square-1.0.0.edge")
    with (
        Broker(folder / "broker") as broker,
        Agent(write_config(folder, broker.port, {"pump": bundle}, stream=_NO_STORM)),
        Dashboard(broker.port) as dashboard,
        Browser() as browser,
    ):
        browser.open(dashboard.page())
        browser.wait(lambda: "1 of 1 agent online" in browser.text("#summary"), "the agent")
        browser.run(_NOTE_ALERTS)
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        pauses = np.random.default_rng(2).uniform(0.05, 0.6, alerts)  # so that ticks and readings do not fall together
        sent_s = {}
        for number, pause_s in enumerate(pauses):
            time.sleep(pause_s)
            sent_s[f"a{number}"] = time.time()
            client.publish(f"sensors/a{number}/pump", b'{"c1": 9, "c2": 0}', qos=1)
        browser.wait(lambda: len(browser.run("return window.came")) == alerts, "all alerts", 60)
        came_ms = browser.run("return window.came")
        client.disconnect()
        client.loop_stop()
        dashboard.stop()
    return [came_ms[name] / 1e3 - at_s for name, at_s in sent_s.items()]


def frame_times(folder: Path, assets: int, seconds: float) -> list[float]:
    """Milliseconds of each frame of the first page."""
    with Broker(folder / "broker") as broker, Dashboard(broker.port) as dashboard, Browser() as browser:
        scores = Scores(broker.port, assets)
        scores.send_all(60, time.time() - 300)
        browser.open(dashboard.page())
        browser.wait(lambda: len(browser.texts("#assets tbody tr")) == assets, "all assets")
        browser.run(_NOTE_FRAMES)
        scores.send_at_pace(seconds)
        found: list[float] = browser.run("return window.frames_ms")
        scores.close()
        dashboard.stop()
    return found[2:]


@dataclass(frozen=True, slots=True)
class State:
    """What the dashboard and its first page have taken so far."""

    pss_mb: float
    page_mb: float
    cpu_s: float
    written_mb: float
    """To the disk."""
    mono_s: float

    @classmethod
    def of(cls, process: int, browser: Browser) -> State:
        """As it is now."""
        memory = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        (pss_kb,) = [int(line.split()[1]) for line in memory.splitlines() if line.startswith("Pss:")]
        browser.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        page = browser.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"]
        counts = dict(line.split(": ") for line in Path(f"/proc/{process}/io").read_text(encoding="ascii").splitlines())
        written_mb = int(counts["write_bytes"]) / 1e6
        return cls(pss_kb / 1e3, page / 1e6, cpu_seconds(process), written_mb, time.monotonic())


@contextmanager
def three_pages(folder: Path, assets: int) -> Iterator[tuple[Scores, Callable[[], State]]]:
    """A dashboard that knows so many assets, with three pages open; what publishes scores, and what measures."""
    with (
        Broker(folder / "broker") as broker,
        Dashboard(broker.port, "--history", folder / "history.db") as dashboard,
        Browser() as browser,
    ):
        scores = Scores(broker.port, assets)
        scores.send_all(60, time.time() - 7200)
        browser.open(dashboard.page())
        for path in ("", "asset?agent=g1&stream=pump&asset=pump-0001"):
            browser.run("window.open(arguments[0])", dashboard.url + path)
        browser.wait(lambda: len(browser.texts("#assets tbody tr")) == assets, "all assets")
        assert dashboard.process is not None
        process = dashboard.process.pid
        yield scores, lambda: State.of(process, browser)
        scores.close()
        dashboard.stop()


def core_share(folder: Path, seconds: float) -> tuple[float, float, int]:
    """The share of a core that the process takes, MB that it writes in a minute, and how many messages left late."""
    with three_pages(folder, 1_000) as (scores, measure):
        before = measure()
        late = scores.send_at_pace(seconds)
        after = measure()
    took_s = after.mono_s - before.mono_s
    return (after.cpu_s - before.cpu_s) / took_s, 60 * (after.written_mb - before.written_mb) / took_s, late


def growth(folder: Path, rounds: int) -> list[State]:
    """The state before, and after each quarter of so many rounds of 1,000 messages."""
    with three_pages(folder, 1_000) as (scores, measure):
        found, start_s = [measure()], time.time() - 6000
        for number in range(4):
            scores.send_all(rounds // 4, start_s + number * (rounds // 4) * INTERVAL_S)
            wait_until(lambda: is_idle(measure), 300, "the dashboard to be idle")
            found.append(measure())
    return found


def is_idle(measure: Callable[[], State]) -> bool:
    """Whether the process has taken all that was sent."""
    before = measure()
    time.sleep(2)
    return measure().cpu_s - before.cpu_s < 0.3


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["alert", "frames", "cpu", "growth"])
    parser.add_argument("--alerts", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=720, help="of 1,000 messages; 720 are an hour")
    options = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        parts: dict[str, Callable[[Path], None]] = {
            "alert": lambda folder: _tell("alert, s", alert_times(folder, options.alerts), "p95 at most 2"),
            "frames": lambda folder: _tell("frames, ms", frame_times(folder, 500, options.seconds), "p95 below 100"),
            "cpu": lambda folder: _tell_share(*core_share(folder, options.seconds)),
            "growth": lambda folder: _tell_growth(growth(folder, options.rounds), options.rounds),
        }
        for part, run in parts.items():
            if options.only in (None, part):
                folder = Path(name) / part
                folder.mkdir()
                run(folder)


def _tell(what: str, values: list[float], bar: str) -> None:
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    figures = f"p50 {p50:.3g}, p95 {p95:.3g}, p99 {p99:.3g}, most {max(values):.3g}"
    print(f"{what}: {len(values)} measured, {figures} ({bar})", flush=True)


def _tell_share(share: float, written_mb: float, late: int) -> None:
    figures = f"{share:.1%} of a core with 1,000 assets and three pages, {written_mb:.0f} MB written in a minute"
    print(f"cpu: {figures} (bar: below 15 %; {late} sent late)", flush=True)


def _tell_growth(states: list[State], rounds: int) -> None:
    for number, state in enumerate(states):
        sent = number * (rounds // 4) * 1_000
        print(f"growth: {state.pss_mb:.1f} MB (page {state.page_mb:.1f}) after {sent:,} messages", flush=True)


if __name__ == "__main__":
    main()
