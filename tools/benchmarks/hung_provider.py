"""A first start with a preferred provider that hangs for two minutes, beside one where that provider is not here.

`python tools/benchmarks/hung_provider.py` prints a table. In turns, an agent that remembers nothing is started, and
timed until it has scored: to the alert of a reading that is sent a hundred times a second until then. The provider that
hangs is a test's (tests/bad_providers.py). Bar: at most 1.2 times as long as without it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from consumers import agent_command
from paho.mqtt.enums import CallbackAPIVersion
from workload import TOPIC, broker, machine, make_bundle, payloads, spread

TESTS = Path(__file__).parents[2] / "tests"
HANGS_S = 120
BAR = 1.2
_LIMIT_S = 300.0


def start_seconds(command: list[str], port: int, reading: bytes) -> float:
    """From the start of the process to the alert of a reading; then the agent is stopped."""
    heard = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda *_: heard.set()
    client.connect("127.0.0.1", port)
    client.subscribe("edge/bench/alerts/#")
    client.loop_start()
    started = time.monotonic()
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(TESTS)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not heard.wait(0.01):
            client.publish(TOPIC, reading, qos=0)
            if time.monotonic() > started + _LIMIT_S or process.poll() is not None:
                raise TimeoutError(f"{' '.join(command)}: no alert")
        return time.monotonic() - started
    finally:
        process.terminate()
        process.wait(timeout=20)
        client.disconnect()
        client.loop_stop()


def main() -> int:
    """Print the table; the exit code is 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"absent": [], "hangs": []}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, broker(Path(name), inflight=20) as port:
        folder = Path(name)
        bundle = make_bundle(folder)
        _, *arguments = agent_command(folder, bundle, port, engine='prefer = ["hanger"]')
        anomaly = payloads(folder, 1)[0]
        for turn in range(options.turns):
            for case in ("absent", "hangs") if turn % 2 else ("hangs", "absent"):
                shutil.rmtree(folder / f"state-{port}", ignore_errors=True)
                fault = f"hang={HANGS_S if case == 'hangs' else 0}"
                command = [sys.executable, str(TESTS / "hooked_agent.py"), fault, "--", *arguments]
                found[case].append(start_seconds(command, port, anomaly))
    ratio = statistics.median(found["hangs"]) / statistics.median(found["absent"])
    print(f"{machine()}; {options.turns} turns of each")
    print("| figure | found | bar |")
    print("| --- | --- | --- |")
    print(f"| start to the first alert, preferred provider not here, s | {spread(found['absent'])} | none |")
    print(f"| the same, and it hangs for {HANGS_S} s | {spread(found['hangs'])} | none |")
    print(f"| ratio of the medians | {ratio:.2f} | at most {BAR} |")
    return int(ratio > BAR)


if __name__ == "__main__":
    sys.exit(main())
