"""How long `edgetool fleet` takes for a fleet behind one broker: its status, and deployments in waves.

`python tools/benchmarks/fleet.py` prints a table. Some agents are real processes, the first ones by name; the others
are simulated at the MQTT level (`simulated_agents.py`), all in this process, each with a connection of its own.
Seconds are those of the whole command, its start included. The good bundle goes to all in three waves without a soak:
a simulated agent takes a tenth of a second for each step, a real one scores a few readings beside the old model and
after the switch. The bad bundle has a limit that every reading reaches, so that the first agent, a real one, finds it
bad by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from simulated_agents import Behaviour, simulated
from workload import ANOMALY_EVERY, broker, machine, make_bundle, payloads, spread, wait_until

import edgetool
from edge_agent.bundle import Threshold, open_bundle
from edge_agent.trust import load_keys
from edgetool.detector.bundling import rewrite_bundle
from edgetool.fleet.roster import AgentRow

OLD, GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"


def run(port: int, *arguments: str | Path) -> tuple[dict[str, Any], float]:
    """The document of a command, and how long it took, seconds."""
    command = [str(Path(sys.executable).with_name("edgetool")), "fleet", *map(str, arguments), "--port", str(port)]
    started_s = time.perf_counter()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(done.stderr)
    return json.loads(done.stdout), time.perf_counter() - started_s


def versions(folder: Path, keys: edgetool.KeygenReport) -> dict[str, Path]:
    """Bundles of these versions, signed; the bad one has a limit that is always reached."""
    first = open_bundle(make_bundle(folder))
    limits = first.manifest.threshold
    assert first.manifest.calibration is not None
    found: dict[str, Path] = {}
    for version in (OLD, GOOD, BAD):
        path = folder / f"square-{version}.edge"
        threshold = Threshold(alarm=1e-9, clear=1e-10) if version == BAD else limits
        calibration = first.manifest.calibration
        rewrite_bundle(path, first, name="square", version=version, threshold=threshold, calibration=calibration)
        edgetool.sign(path, key=keys.key)
        found[version] = path
    return found


@contextmanager
def real_agents(folder: Path, port: int, bundle: Path, key: Path, names: Sequence[str]) -> Iterator[None]:
    """Agents that are processes, inside the block."""
    processes = []
    try:
        for name in names:
            own = folder / name
            (own / "run").mkdir(parents=True)
            config = own / "agent.toml"
            config.write_text(
                f'[agent]\nid = "{name}"\nstate_dir = "{own / "state"}"\n[mqtt]\nport = {port}\n'
                f'[engine]\nprovider = "cpu"\n[trust]\nkeys = ["{key}"]\n'
                f'[[stream]]\nname = "pump"\nbundle = "{bundle}"\ntopic = "sensors/+/bench"\n'
            )
            command = [str(Path(sys.executable).with_name("edge-agent")), "run", "--config", str(config)]
            environment = {**os.environ, "RUNTIME_DIRECTORY": str(own / "run")}
            with (own / "log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)


@contextmanager
def readings(folder: Path, port: int) -> Iterator[None]:
    """Of ten assets, two a second each, which raise nothing, inside the block. All real agents score them."""
    over = threading.Event()
    messages = [message for number, message in enumerate(payloads(folder, 20_000)) if number % ANOMALY_EVERY]

    def send() -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", port)
        client.loop_start()
        for number, message in enumerate(itertools.cycle(messages)):
            if over.wait(0.05):
                break
            client.publish(f"sensors/a{number % 10}/bench", message, qos=1)
        client.disconnect()
        client.loop_stop()

    thread = threading.Thread(target=send, name="readings")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def known(port: int) -> list[AgentRow]:
    """Agents that tell of their updates."""
    report = edgetool.fleet_status(edgetool.BrokerAddress(port=port))
    return [row for row in report.agents if any(stream.update is not None for stream in row.streams)]


def told_versions(port: int) -> str:
    """What agents run by their health, and how many run it."""
    count = Counter(stream.version for row in known(port) for stream in row.streams)
    return ", ".join(f"{version}: {number}" for version, number in sorted(count.items()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--real", type=int, default=20, help="of them, so many are processes")
    parser.add_argument("--turns", type=int, default=5, help="of the status")
    options = parser.parse_args()
    print(f"{machine()}; {options.agents} agents, {options.real} of them real; {options.turns} turns")
    print("| figure | found | bar |")
    print("| --- | --- | --- |")
    names = [f"press-{number:04}" for number in range(options.agents)]
    real, others = names[: options.real], names[options.real :]
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, broker(Path(name), inflight=20) as port:
        folder = Path(name)
        keys = edgetool.keygen(folder / "plant")
        bundles = versions(folder, keys)
        behaviour = Behaviour(keys=load_keys([keys.public]), step_s=0.1, rolls_back=lambda _, version: version == BAD)
        with (
            real_agents(folder, port, bundles[OLD], keys.public, real),
            readings(folder, port),
            simulated(port, others, behaviour),
        ):
            wait_until(lambda: len(known(port)) == options.agents, 300)
            found = [run(port, "status") for _ in range(options.turns)]
            whole = [len(report["agents"]) for report, _ in found]
            print(f"| agents in `fleet status` | {min(whole)} to {max(whole)} | {options.agents} |")
            print(f"| `fleet status` s | {spread([took_s for _, took_s in found])} | at most 5 |", flush=True)
            trial = ("--shadow", "readings=20,minutes=0.02", "--probation", "readings=20,minutes=0.02")
            to = ("--stream", "pump", "--to", "press-*", "--key", keys.key, "--soak", "0s", *trial)
            report, took_s = run(port, "deploy", bundles[GOOD], *to)
            print(f"| a good bundle for all, waves of {report['waves']}, s | {took_s:.1f} | none |")
            print(f"| why it was halted | {report['halted'] or 'it was not'} | it was not |")
            wait_until(lambda: told_versions(port) == f"{GOOD}: {options.agents}", 60)
            print(f"| agents by what they run then | {told_versions(port)} | {GOOD} |", flush=True)
            report, took_s = run(port, "deploy", bundles[BAD], *to)
            asked = sum(each["standing"] != "to come" for each in report["agents"].values())
            print(f"| a bad bundle is halted after s | {took_s:.1f} | none |")
            print(f"| why | {report['halted']} | by itself |")
            print(f"| agents that were asked to take it | {asked} | {report['waves'][0]}, the first wave |")
            print(f"| agents by what they run then | {told_versions(port)} | {GOOD} |")


if __name__ == "__main__":
    main()
