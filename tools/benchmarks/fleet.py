"""How long `edgetool fleet` takes for a fleet behind one broker: its status, and deployments in waves.

`python tools/benchmarks/fleet.py` prints a table. The agents are simulated at the MQTT level (`simulated_agents.py`),
all in this process, each with a connection of its own. Seconds are those of the whole command, its start included. The
good bundle goes to all in three waves without a soak, each step of an update taking a tenth of a second; the bad one is
rolled back by every agent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from simulated_agents import Behaviour, SimulatedFleet, simulated
from workload import broker, machine, make_bundle, spread, wait_until

import edgetool
from edge_agent.bundle import open_bundle
from edge_agent.trust import load_keys
from edgetool.detector.bundling import rewrite_bundle

GOOD, BAD = "1.1.0", "1.2.0"


def run(port: int, *arguments: str | Path) -> tuple[dict[str, Any], float]:
    """The document of a command, and how long it took, seconds."""
    command = [str(Path(sys.executable).with_name("edgetool")), "fleet", *map(str, arguments), "--port", str(port)]
    started_s = time.perf_counter()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(done.stderr)
    return json.loads(done.stdout), time.perf_counter() - started_s


def versions(folder: Path, keys: edgetool.KeygenReport) -> dict[str, Path]:
    """Bundles of these versions, signed."""
    first = open_bundle(make_bundle(folder))
    found: dict[str, Path] = {}
    for version in (GOOD, BAD):
        path = folder / f"square-{version}.edge"
        manifest = first.manifest
        assert manifest.calibration is not None
        limits: dict[str, Any] = {"threshold": manifest.threshold, "calibration": manifest.calibration}
        rewrite_bundle(path, first, name="square", version=version, **limits)
        edgetool.sign(path, key=keys.key)
        found[version] = path
    return found


def running(fleet: SimulatedFleet) -> set[str]:
    """Versions that agents run."""
    return {agent.streams["pump"].running["version"] for agent in fleet.agents.values()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5, help="of the status")
    options = parser.parse_args()
    print(f"{machine()}; {options.agents} agents; {options.turns} turns")
    print("| figure | found | bar |")
    print("| --- | --- | --- |")
    names = [f"press-{number:04}" for number in range(options.agents)]
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, broker(Path(name), inflight=20) as port:
        folder = Path(name)
        keys = edgetool.keygen(folder / "plant")
        bundles = versions(folder, keys)
        behaviour = Behaviour(
            keys=load_keys([keys.public]), step_s=0.1, rolls_back=lambda _agent, version: version == BAD
        )
        with simulated(port, names, behaviour) as fleet:
            wait_until(lambda: all(agent.published for agent in fleet.agents.values()), timeout_s=120)
            found = [run(port, "status") for _ in range(options.turns)]
            whole = [len(report["agents"]) for report, _ in found]
            print(f"| agents in `fleet status` | {min(whole)} to {max(whole)} | {options.agents} |")
            print(f"| `fleet status` s | {spread([took_s for _, took_s in found])} | at most 5 |", flush=True)
            to = ("--stream", "pump", "--to", "press-*", "--key", keys.key, "--soak", "0s")
            report, took_s = run(port, "deploy", bundles[GOOD], *to)
            print(f"| a good bundle for all, waves of {report['waves']}, s | {took_s:.1f} | none |")
            print(f"| what they run then | {', '.join(sorted(running(fleet)))} | {GOOD} |", flush=True)
            report, took_s = run(port, "deploy", bundles[BAD], *to)
            asked = sum(each["standing"] != "to come" for each in report["agents"].values())
            print(f"| a bad bundle is halted after s | {took_s:.1f} | none |")
            print(f"| agents that were asked to take it | {asked} | {report['waves'][0]}, the first wave |")
            print(f"| what they run then | {', '.join(sorted(running(fleet)))} | {GOOD} |")


if __name__ == "__main__":
    main()
