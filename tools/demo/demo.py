"""The main job, end to end, on real sensor data: `make demo`.

Trains two detectors, quantizes and packs them, starts a broker and the agent as processes of their own, replays the
data, shows the alerts as they come, and holds them against what is known about the data. Nothing is simulated but the
sensors, whose recorded readings are replayed. It fails where what was sent and what was scored differ, and says where
the readings were lost. A dashboard shows it meanwhile; in a terminal it stays until Enter is pressed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.bundle import open_bundle
from edge_agent.messages.event import AlertEvent
from edgetool.data import read_sensor_data

sys.path.insert(0, str(Path(__file__).parent))
from broker import BROKERS, RunningBroker, demo_broker, running
from truth import RowsFound, StretchesFound, episodes, judge_rows, judge_stretches

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "demo"
WATCH_LOG = BUILD / "watch.log"
DASHBOARD_LOG = BUILD / "dashboard.log"
SERVING = "dashboard of "
"""What `edgetool dashboard` says once its pages can be opened; the address is the last word."""
WATCHING = "watching edge/"
"""What `edgetool watch` says once it has subscribed."""
SHOWN_ALERTS = 20
SHOWN_INTERVAL_S = 1.0
AGENT = "demo"
MODELS = ("shuttle", "water_flow")
WATER_FLOW_STRETCHES = ((94, 110), (211, 223), (329, 329), (872, 887))
"""Rows of `datasets.WaterFlow` where the flow is broken, seen in the data: its source marks none."""
MAX_FALSE_ALERTS = 2
MIN_FOUND = 0.9
MAX_FALSE_ROWS = 0.01
STALLED_S = 45.0
"""When nothing new has arrived at the agent for so long, what is missing does not come any more: nats-server waits for
30 s before it sends again what was lost on its way."""

CONFIG = """\
[agent]
id = "{agent}"
state_dir = "{state_dir}"
health_interval_s = 0.5

[publish]
scores = "0.5s"

[mqtt]
host = "127.0.0.1"
port = {port}

[engine]
provider = "auto"
threads = 1
{streams}"""
STREAM = """
[[stream]]
name = "{name}"
bundle = "{bundle}"
topic = "sensors/+/{name}"
qos = 1
[stream.alarm]
flap_raises = 0
"""
"""Every alert is sent, however many there are in an hour, because each is held against the data."""


class Listener:
    """The demo's own subscriber: keeps every alert, the latest health and the latest status."""

    def __init__(self, port: int) -> None:
        self.events: list[AlertEvent] = []
        self.health: dict[str, Any] = {}
        self.status: dict[str, Any] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(f"edge/{AGENT}/#", qos=1)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        if kind == "alerts":
            self.events.append(msgspec.json.decode(message.payload, type=AlertEvent))
        elif kind == "health":
            self.health = json.loads(message.payload)
        elif kind == "status":
            self.status = json.loads(message.payload)

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(frozen=True, slots=True)
class Sent:
    """What one sender did."""

    readings: int
    acknowledged: int
    """By the broker, which by that has taken them over."""


def main() -> int:
    """Run the demo; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--broker", default="auto", choices=["auto", *BROKERS], help="auto takes the first that is installed"
    )
    chosen = parser.parse_args().broker
    BUILD.mkdir(parents=True, exist_ok=True)
    print("== 1. train ==", flush=True)
    for name in MODELS:
        run(sys.executable, str(ROOT / "models" / name / "train.py"), str(BUILD / name))
    print("\n== 2. quantize and pack ==", flush=True)
    for name in MODELS:
        make_bundle(name)
    with ExitStack() as stack:
        print("\n== 3. broker, agent, replay ==", flush=True)
        broker = stack.enter_context(demo_broker(BUILD, chosen))
        port = broker.port
        listener = Listener(port)
        stack.callback(listener.close)
        config = write_config(port)
        print(f"{broker.name} on 127.0.0.1:{port}; agent with {config.relative_to(ROOT)}", flush=True)
        agent = stack.enter_context(running([tool("edge-agent"), "run", "--config", str(config)], BUILD / "agent.log"))
        wait_until(lambda: listener.status.get("state") == "online" or agent.poll() is not None, "the agent", 60)
        watcher = stack.enter_context(running([tool("edgetool"), "watch", "--port", str(port)], WATCH_LOG))
        shower = threading.Thread(target=show_alerts, args=(watcher,))
        shower.start()
        wait_until(lambda: WATCHING in WATCH_LOG.read_text() or watcher.poll() is not None, "the watcher", 60)
        pages = stack.enter_context(running(dashboard_command(port), DASHBOARD_LOG))
        wait_until(lambda: SERVING in DASHBOARD_LOG.read_text() or pages.poll() is not None, "the dashboard", 60)
        address = DASHBOARD_LOG.read_text().split()[-1]
        print(f"in a browser: {address}", flush=True)
        sent, seconds = replay_all(port)
        wait_until_scored(listener, agent, sent)
        watcher.terminate()
        watcher.wait()
        shower.join()
        code = summarize(listener, sent, seconds, broker)
        show_pages(address)
    return code


def make_bundle(name: str) -> None:
    """Quantize and pack one trained model, with the commands a user would type."""
    folder = BUILD / name
    model, small, normal = folder / f"{name}.onnx", folder / f"{name}.float16.onnx", folder / "normal.csv"
    run(tool("edgetool"), "quantize", str(model), "-o", str(small), "--data", str(normal))
    bundle = folder / f"{name}-1.0.0.edge"
    run(tool("edgetool"), "pack", str(small), "--reference", str(model), "--data", str(normal), "-o", str(bundle))


def write_config(port: int) -> Path:
    """A real `agent.toml` with a fresh state folder, so that an earlier demo has no say in this one."""
    state_dir = BUILD / f"state-{os.getpid()}"
    streams = "".join(STREAM.format(name=name, bundle=BUILD / name / f"{name}-1.0.0.edge") for name in MODELS)
    config = BUILD / "agent.toml"
    config.write_text(CONFIG.format(agent=AGENT, state_dir=state_dir, port=port, streams=streams), encoding="utf-8")
    return config


def dashboard_command(port: int) -> list[str]:
    """What serves the pages, with a history of this demo only."""
    history = BUILD / f"state-{os.getpid()}-dashboard.db"
    return [tool("edgetool"), "dashboard", "--port", str(port), "--listen", "127.0.0.1:0", "--history", str(history)]


def show_pages(address: str) -> None:
    """Say where the pages are, and leave them there for as long as somebody at a terminal wants to look."""
    print(f"\n== 5. dashboard ==\n{address}", flush=True)
    if sys.stdin.isatty() and sys.stdout.isatty():
        input("Enter ends the demo, and these pages with it: ")
    else:
        print("(no terminal: it ends with the demo)")


def replay_all(port: int) -> tuple[dict[str, Sent], float]:
    """Replay every stream at once; gives what was sent for each and the time it took, seconds."""
    started = time.monotonic()
    senders = {
        name: subprocess.Popen(
            [
                *(tool("edgetool"), "replay", str(BUILD / name / "replay.csv"), "--json"),
                *("--topic", f"sensors/{{asset}}/{name}", "--port", str(port), "--rate", "max"),
            ],
            stdout=subprocess.PIPE,
        )
        for name in MODELS
    }
    reports = {name: sender.communicate()[0] for name, sender in senders.items()}
    for name, sender in senders.items():
        if sender.returncode != 0:
            sys.exit(f"replay of {name} failed with exit code {sender.returncode}")
    told = {name: json.loads(report) for name, report in reports.items()}
    seconds = time.monotonic() - started
    return {name: Sent(report["readings"], report["acknowledged"]) for name, report in told.items()}, seconds


def wait_until_scored(listener: Listener, agent: subprocess.Popen[bytes], sent: dict[str, Sent]) -> None:
    """Until the agent has every reading and the broker every event, or nothing has moved for a while."""
    moved: tuple[int, ...] = ()
    moved_mono_s = time.monotonic()
    while time.monotonic() < moved_mono_s + STALLED_S and agent.poll() is None:
        streams = listener.health.get("streams", {})
        arrived = tuple(streams[name]["received"] for name in sent) if streams else ()
        events = sum(streams[name]["raised"] + streams[name]["cleared"] for name in sent) if streams else 0
        if (*arrived, len(listener.events)) != moved:
            moved, moved_mono_s = (*arrived, len(listener.events)), time.monotonic()
        complete = streams and all(streams[name]["readings"] >= sent[name].readings for name in sent)
        if complete and listener.health["queue_depth"] == 0 and len(listener.events) >= events:
            return
        time.sleep(0.1)


def summarize(listener: Listener, sent: dict[str, Sent], seconds: float, broker: RunningBroker) -> int:
    """Print what happened; 0 when everything is as promised."""
    print("\n== 4. summary ==")
    streams = listener.health.get("streams", {})
    failures = [] if streams else ["the agent told nothing of its streams; see build/demo/agent.log"]
    for name in MODELS if streams else ():
        lane = streams[name]
        window = open_bundle(BUILD / name / f"{name}-1.0.0.edge").manifest.window
        print(f"{name}: {sent[name].readings} readings sent, {lane['readings']} taken, {lane['scored']} scored", end="")
        print(f" (a window of {window} starts with the {window}th reading)" if window > 1 else "")
        print(f"  alerts: {lane['raised']} raised, {lane['cleared']} cleared")
        print(f"  provider: {lane['provider']} ({lane['provider_reason']})")
        failures += find_loss(name, sent[name], lane, window, broker)
        found, problems = judge(
            name, [event for event in listener.events if event.stream == name and event.level == "alarm"], window
        )
        print(f"  {found}")
        failures += problems
    total = sum(each.readings for each in sent.values())
    print(f"{total} readings in {seconds:.1f} s: {total / seconds:.0f} per second through {broker.name}")
    for failure in failures:
        print(f"FAILED: {failure}")
    print("demo: failed" if failures else "demo: everything sent was scored, and what was to be found was found")
    return 1 if failures else 0


def find_loss(name: str, sent: Sent, lane: dict[str, Any], window: int, broker: RunningBroker) -> list[str]:
    """Where readings of one stream were lost between the sender and the scores; nothing where none was."""
    lost: list[str] = []
    received = lane["received"]
    if sent.acknowledged < sent.readings:
        lost.append(f"{name}: {sent.readings} readings sent, {sent.acknowledged} acknowledged by {broker.name}")
    if received < sent.acknowledged:
        text = f"{received} of the {sent.acknowledged} readings that {broker.name} has acknowledged came to the agent"
        lost.append(f"{name}: {text}; it has lost the others, or not passed them on in {STALLED_S:.0f} s")
    if lane["readings"] != received:
        text = f"{received} readings came, {lane['readings']} were taken; rejected: {lane['rejected'] or 'none'}"
        lost.append(f"{name}: {text}; repeated: {lane['repeated']}")
    if lane["scored"] != max(0, lane["readings"] - (window - 1)):
        expected = max(0, lane["readings"] - (window - 1))
        lost.append(f"{name}: {lane['scored']} of {expected} windows scored; see build/demo/agent.log")
    return lost


def judge(name: str, events: list[AlertEvent], window: int) -> tuple[str, list[str]]:
    """What was found of the truth about one stream, in words, and what is short of the promise."""
    data = read_sensor_data(BUILD / name / "replay.csv")
    assert data.times is not None
    found: RowsFound | StretchesFound
    if data.labels is not None:
        found = judge_rows(episodes(events), data.times, data.labels)
        return _judge_rows_in_words(found)
    found = judge_stretches(episodes(events), data.times, WATER_FLOW_STRETCHES, window)
    text = f"truth: {found.found} of {found.stretches} broken stretches alerted, {found.false_alerts} false alerts"
    good = found.found == found.stretches and found.false_alerts <= MAX_FALSE_ALERTS
    return text, [] if good else [f"{name}: {text}"]


def _judge_rows_in_words(found: RowsFound) -> tuple[str, list[str]]:
    share, false = found.found / found.anomalous, found.false_alarms / found.normal
    text = (
        f"truth: {found.found} of {found.anomalous} anomalous rows found ({share:.1%}), "
        f"{found.false_alarms} of {found.normal} normal rows alarmed ({false:.2%})"
    )
    return text, [] if share >= MIN_FOUND and false <= MAX_FALSE_ROWS else [text]


def tool(name: str) -> str:
    """One of our programs, from the environment that runs this."""
    return str(Path(sys.executable).with_name(name))


def run(*command: str) -> None:
    """Run a command to its end; its output is the demo's."""
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}")


def show_alerts(watcher: subprocess.Popen[bytes]) -> None:
    """Print the first alerts as they come, then one in a while; a year of readings is replayed in seconds."""
    count, next_s, rest, ended = 0, 0.0, "", False
    with WATCH_LOG.open(encoding="utf-8") as log:
        while not ended:
            ended = watcher.poll() is not None
            *lines, rest = (rest + log.read()).split("\n")
            for line in lines:
                if line.startswith(WATCHING):
                    continue
                count += 1
                if count <= SHOWN_ALERTS or time.monotonic() >= next_s:
                    print(line if count <= SHOWN_ALERTS else f"… {line}", flush=True)
                    next_s = time.monotonic() + SHOWN_INTERVAL_S
            time.sleep(0.1)  # nothing tells that a file has grown
    print(f"{count} events in all, in {WATCH_LOG.relative_to(ROOT)}", flush=True)


def wait_until(condition: Any, what: str, timeout_s: float) -> None:
    """Poll until true; TimeoutError names what was waited for."""
    limit = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}; see {BUILD}")
        threading.Event().wait(0.1)


if __name__ == "__main__":
    sys.exit(main())
