"""What the agent costs while little happens: processor time at 10 readings a second, memory, and start to READY.

`python tools/benchmarks/agent_idle.py` prints a table. Memory is the proportional set size (PSS) of the process, after
every 6,000 readings up to two hours' worth of 10 a second; the slope is that of the second hour. The agent has its
default settings but for `provider = "cpu"`, and at the starts not even that: the provider was chosen by measurement
once, and is remembered. What a processor that sleeps between readings takes for each differs much between machines and
hours, so the obvious script (tools/benchmarks/obvious_script.py) is measured in turns with the agent.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
from as_installed import as_installed
from consumers import Counter, agent_command, running
from paho.mqtt.enums import CallbackAPIVersion
from workload import TOPIC, broker, cpu_seconds, fill_queue, machine, make_bundle, payloads, spread, wait_until

from edge_agent.bundle import open_bundle

RATE_HZ = 10
HOUR = 36_000
CHECKPOINT = 6_000


def idle_share(process: subprocess.Popen[bytes], port: int, messages: list[bytes]) -> float:
    """Percent of a core, all threads, while these readings come at 10 a second."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    time.sleep(1)
    before, start_s = cpu_seconds(process.pid), time.monotonic()
    for number, message in enumerate(messages):
        time.sleep(max(0.0, start_s + number / RATE_HZ - time.monotonic()))
        client.publish(TOPIC, message, qos=1)
    time.sleep(max(0.0, start_s + len(messages) / RATE_HZ - time.monotonic()))
    used, took_s = cpu_seconds(process.pid) - before, time.monotonic() - start_s
    client.disconnect()
    client.loop_stop()
    return 100 * used / took_s


def idle_shares(folder: Path, bundle: Path, messages: list[bytes], turns: int) -> tuple[list[float], list[float]]:
    """The agent's share and the obvious script's, in turns, each at a broker of its own."""
    threshold = str(open_bundle(bundle).manifest.threshold.alarm)
    script = [sys.executable, str(Path(__file__).with_name("obvious_script.py"))]
    places = [folder / "idle-agent", folder / "idle-script"]
    for place in places:
        place.mkdir()
    with broker(places[0], inflight=20) as port, broker(places[1], inflight=20) as other:
        agent = agent_command(places[0], bundle, port, health_interval_s=10)
        with (
            running(agent, port) as (ours, _),
            running([*script, str(other), str(folder / "model.onnx"), threshold, "1"], other) as (theirs, _),
        ):
            parts = np.array_split(np.arange(len(messages)), turns)
            texts = [[messages[number] for number in part] for part in parts]
            found = [(idle_share(ours, port, part), idle_share(theirs, other, part)) for part in texts]
    return [agent for agent, _ in found], [script for _, script in found]


def pss_mb(pid: int) -> float:
    """Proportional set size, 1e6 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def memory(consumer: tuple[subprocess.Popen[bytes], Counter], port: int, messages: list[bytes]) -> list[float]:
    """PSS at the checkpoints, the first before any reading."""
    process, counter = consumer
    found = [pss_mb(process.pid)]
    for start in range(0, len(messages), CHECKPOINT):
        wanted = counter.count + len(messages[start : start + CHECKPOINT])
        fill_queue(port, messages[start : start + CHECKPOINT], 1)
        wait_until(lambda wanted=wanted: counter.count >= wanted, 120)  # type: ignore[misc]
        found.append(pss_mb(process.pid))
    return found


def start_seconds(command: list[str], folder: Path) -> float:
    """From the start of the process to READY=1, as systemd hears it; then the agent is stopped."""
    address = folder / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        notify.settimeout(120)
        started = time.monotonic()
        process = subprocess.Popen(
            command, env={**as_installed(), "NOTIFY_SOCKET": str(address)}, stdout=subprocess.DEVNULL
        )
        try:
            while not notify.recv(4096).startswith(b"READY=1"):
                pass
            return time.monotonic() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="of the agent and of the script, at 10 readings a second")
    parser.add_argument("--seconds", type=float, default=20, help="of a turn")
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine()}; {options.turns} turns of {options.seconds:.0f} s; {options.starts} starts")
    print("| figure | found | bar |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, broker(Path(name), inflight=20) as port:
        folder = Path(name)
        bundle = make_bundle(folder)
        messages = payloads(folder, 2 * HOUR)
        rows = int(options.turns * options.seconds * RATE_HZ)
        agent, script = idle_shares(folder, bundle, messages[:rows], options.turns)
        print(f"| % of a core at {RATE_HZ} readings/s, all threads | {spread(agent)} | at most 1 |")
        print(f"| the same of the obvious script | {spread(script)} | none |", flush=True)
        with running(agent_command(folder, bundle, port), port) as consumer:
            found = memory(consumer, port, messages)
        hour = HOUR // CHECKPOINT
        slope = np.polyfit(range(len(found) - hour), found[hour:], 1)[0] * hour
        print("| PSS MB by checkpoint | " + " ".join(f"{value:.1f}" for value in found) + " | |")
        print(f"| PSS MB after an hour's worth | {found[hour]:.1f} | at most 60 |")
        print(f"| slope in the second hour, MB/h | {slope:+.2f} | none |", flush=True)
        command = agent_command(folder, bundle, port, engine="")
        first = start_seconds(command, folder)
        with running(command, port):
            pass  # until the choice is settled, and remembered
        starts = [start_seconds(command, folder) for _ in range(options.starts)]
        print(f"| start to READY s, provider remembered | {spread(starts)} | at most 1.5 |")
        print(f"| start to READY s, nothing remembered | {first:.2f} | none |")


if __name__ == "__main__":
    main()
