"""An update under way: processor time of a reading with a shadow, with `[trust]` alone, and without both.

`python tools/benchmarks/update_cost.py` prints a table. The agent drains a full queue: without `[trust]`, with
it and no update, and with a model of the same size in the shadow, whose process is counted too. The three take turns,
and the ratio is taken turn by turn.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from consumers import LAST_TOPIC, Measured, agent_command, drain, running
from paho.mqtt.enums import CallbackAPIVersion
from workload import CHANNELS, TOPIC, broker, cpu_seconds, machine, make_bundle, payloads, spread, wait_until

from edge_agent.update.wishes import CHUNK_BYTES
from edgetool.commands.keygen import keygen
from edgetool.commands.pack import pack
from edgetool.commands.sign import sign
from edgetool.signing import read_private_key, sign_wish

BARS = {"[trust], no update": 1.02, "a shadow": 1.5}
ENDLESS = 1_000_000_000


def family_seconds(pid: int) -> float:
    """Processor time of a process and of those that it has started and that run."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(word) for task in tasks for word in (task / "children").read_text(encoding="ascii").split()]
    return sum(map(cpu_seconds, (pid, *children)))


class Rig:
    """The bundles, the key and the readings of all turns.

    Args:
        folder: for all files.
        readings: in a turn.
    """

    def __init__(self, folder: Path, readings: int) -> None:
        self._folder = folder
        self._bundle = make_bundle(folder)
        made = keygen(folder / "plant")
        self._key, self._public = Path(made.key), Path(made.public)
        channels = ",".join(f"s{number}" for number in range(CHANNELS))
        source, data = folder / "autoencoder.onnx", folder / "normal.npz"
        self._new = pack(
            source, folder / "bench-1.1.0.edge", data=data, channels=channels, false_alarm_rate=1e-4
        ).bundle
        for bundle in (self._bundle, self._new):
            sign(bundle, key=self._key)
        self._messages = payloads(folder, readings)
        self._messages[-1] = self._messages[0]
        self._topics = [TOPIC] * (readings - 1) + [LAST_TOPIC]

    def turn(self, title: str, inflight: int) -> Measured:
        """One agent on a fresh broker."""
        extra = "" if title == "nothing" else f'[trust]\nkeys = ["{self._public}"]'
        with broker(self._folder, inflight=inflight) as port:
            client = paho.Client(CallbackAPIVersion.VERSION2)
            told: list[dict[str, Any]] = []
            client.on_message = lambda _client, _data, message: told.append(msgspec.json.decode(message.payload))
            client.connect("127.0.0.1", port)
            client.subscribe("edge/bench/updates/bench", 1)
            client.loop_start()
            command = agent_command(self._folder, self._bundle, port, extra=extra)
            with running(command, port) as consumer:
                if title == "a shadow":
                    self._begin_shadow(client, told)
                found = drain(consumer, port, self._messages, topics=self._topics, cpu=family_seconds)
                if title == "a shadow" and told[-1]["state"] != "shadow":
                    sys.exit(f"the shadow ended: {told[-1]['reason']}")
            client.disconnect()
            client.loop_stop()
        return found

    def _begin_shadow(self, client: paho.Client, told: list[dict[str, Any]]) -> None:
        content = self._new.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        for number, start in enumerate(range(0, len(content), CHUNK_BYTES)):
            piece = content[start : start + CHUNK_BYTES]
            client.publish(f"edge/bundles/{sha256}/{number}", piece, 1, retain=True).wait_for_publish(10)
        now = datetime.now(UTC)
        wish = {
            "agent": "bench",
            "stream": "bench",
            "kind": "bundle",
            "sequence": int(time.time() * 1000),
            "issued": now.isoformat(),
            "expires": (now + timedelta(hours=1)).isoformat(),
            "bundle": {"sha256": sha256, "size_bytes": len(content), "name": "bench", "version": "1.1.0"},
            "shadow": {"readings": ENDLESS, "minutes": 60},
            "limits": {"alerts": 1000, "latency": 1000},
        }
        message = sign_wish(wish, read_private_key(self._key))
        client.publish("edge/bench/wishes/bench/bundle", message, 1, retain=True).wait_for_publish(10)
        wait_until(lambda: told and told[-1]["state"] == "shadow" and told[-1]["progress"].get("minutes", 0) > 0, 120)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=60_001)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--inflight", type=int, nargs="*", default=[20, 1000])
    options = parser.parse_args()
    print(f"{machine()}; {options.readings} readings of 8 floats, 1 % alerts, QoS 1, medians of {options.turns} turns")
    print("| in flight | what | us per reading | ratio (lowest to highest) | bar |")
    print("| --- | --- | --- | --- | --- |")
    titles = ["nothing", *BARS]
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        rig = Rig(Path(name), options.readings)
        for inflight in options.inflight:
            turns = []
            for number in range(options.turns):
                order = titles if number % 2 else titles[::-1]
                turns.append({title: rig.turn(title, inflight) for title in order})
            for title in titles:
                us = statistics.median(turn[title].us_per_reading for turn in turns)
                ratios = [turn[title].us_per_reading / turn["nothing"].us_per_reading for turn in turns]
                bar = f"at most {BARS[title]}" if title in BARS else ""
                print(f"| {inflight} | {title} | {us:.2f} | {spread(ratios)} | {bar} |", flush=True)


if __name__ == "__main__":
    main()
