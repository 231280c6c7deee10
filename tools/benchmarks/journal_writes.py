"""What the agent writes to the device for its readings, where none of them raises anything.

`python tools/benchmarks/journal_writes.py [OTHER/.venv/bin/edge-agent]` prints a table; with another build, both run at
the same time. Each has a state folder on an ext4 of its own, made in a file and mounted, for which it wants root. The
sectors that this device has written are counted, after a time to settle and with all that was still to be written.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import paho.mqtt.client as paho
from onnx import TensorProto, helper, numpy_helper
from paho.mqtt.enums import CallbackAPIVersion
from workload import broker, machine

from edgetool.commands.pack import pack

SETTLE_S = 35.0
SECTOR_BYTES = 512
CHANNELS = ("temperature", "humidity")
CONFIG = """\
[agent]
id = "bench"
state_dir = "{state}"
health_interval_s = 10
[mqtt]
port = {port}
[engine]
provider = "cpu"
[[stream]]
name = "climate"
bundle = "{bundle}"
topic = "sensors/+/climate"
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of plant."""

    window: int
    assets: int
    rate_hz: float


CASES = (Case(1, 100, 50.0), Case(12, 100, 50.0), Case(12, 1, 1.0))


def make_bundle(folder: Path, window: int) -> Path:
    """A detector of two channels: the mean square of a window's distances from normal."""
    shape: list[str | int] = ["n", window, len(CHANNELS)] if window > 1 else ["n", len(CHANNELS)]
    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["x", "normal"], ["distance"]),
            helper.make_node("Mul", ["distance", "distance"], ["square"]),
            helper.make_node("ReduceMean", ["square"], ["score"], axes=[*range(1, len(shape))], keepdims=0),
        ],
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.full(len(CHANNELS), 20, np.float32), "normal")],
    )
    source = folder / f"window{window}.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    source.write_bytes(model.SerializeToString())
    data = folder / "normal.npz"
    np.savez(data, readings=np.random.default_rng(0).normal(20, 1, (4000, len(CHANNELS))))
    bundle = folder / f"window{window}-1.0.0.edge"
    return pack(source, bundle, data=data, channels=",".join(CHANNELS), head="score").bundle


@contextmanager
def device(folder: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 in a file; gives where it is mounted, and the file with the device's counts."""
    image, place = folder / "device.img", folder / "device"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop,noatime", str(image), str(place)], check=True)
    try:
        found = subprocess.run(["findmnt", "-no", "SOURCE", str(place)], check=True, capture_output=True, text=True)
        yield place, Path("/sys/block") / Path(found.stdout.strip()).name / "stat"
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()


def written(place: Path, counts: Path) -> int:
    """Bytes that the device has written, with all that waited to be."""
    subprocess.run(["sync", "-f", str(place)], check=True)
    return int(counts.read_text(encoding="ascii").split()[6]) * SECTOR_BYTES


def send(port: int, case: Case, until: threading.Event, sent: list[int]) -> None:
    """Normal readings, evenly."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    chance = np.random.default_rng(1)
    start_s = time.monotonic()
    for number in itertools.count():
        if until.wait(max(0.0, start_s + number / case.rate_hz - time.monotonic())):
            break
        values = np.round(chance.normal(20, 0.5, len(CHANNELS)), 2).tolist()
        reading = {"time": round(time.time(), 2), **dict(zip(CHANNELS, values, strict=True))}
        client.publish(f"sensors/a{number % case.assets}/climate", msgspec.json.encode(reading), qos=1)
        sent[0] += 1
    client.disconnect()
    client.loop_stop()


def measure(program: str, bundle: Path, case: Case, seconds: float) -> float:
    """Bytes written for a reading."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place, counts = stack.enter_context(device(folder))
        port = stack.enter_context(broker(folder, inflight=20))
        config = folder / "agent.toml"
        config.write_text(CONFIG.format(state=place / "state", port=port, bundle=bundle), encoding="utf-8")
        log = stack.enter_context((folder / "log").open("wb"))
        agent = subprocess.Popen([program, "run", "--config", str(config)], stdout=log, stderr=log)
        stack.callback(agent.wait, 30)
        stack.callback(agent.terminate)
        until, sent = threading.Event(), [0]
        sender = threading.Thread(target=send, args=(port, case, until, sent))
        sender.start()
        try:
            time.sleep(SETTLE_S)
            before, count = written(place, counts), sent[0]
            time.sleep(seconds)
            return (written(place, counts) - before) / (sent[0] - count)
        finally:
            until.set()
            sender.join()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", help="the edge-agent program of another build")
    parser.add_argument("--seconds", type=float, default=120.0, help="that are measured, of each row")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("mounting a device wants root")
    programs = {"this build": str(Path(sys.executable).with_name("edge-agent"))}
    if options.other:
        programs["other build"] = options.other
    print(f"{machine()}; no reading raises anything; {options.seconds:.0f} s after {SETTLE_S:.0f} s", flush=True)
    print("| window | assets | readings/s | build | bytes a reading | kB a minute |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            bundle = make_bundle(Path(folder), case.window)
            found: dict[str, float] = {}

            def run(name: str, case: Case = case, bundle: Path = bundle, found: dict[str, float] = found) -> None:
                found[name] = measure(programs[name], bundle, case, options.seconds)

            threads = [threading.Thread(target=run, args=(name,)) for name in programs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for name, size in found.items():
                minute = size * case.rate_hz * 60 / 1000
                row = f"| {case.window} | {case.assets} | {case.rate_hz:g} | {name} | {size:.0f} | {minute:.0f} |"
                print(row, flush=True)


if __name__ == "__main__":
    main()
