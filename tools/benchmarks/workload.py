"""What the benchmarks share: a model, a broker, a queue full of readings, and a fair way to read CPU time."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import paho.mqtt.client as paho
from onnx import TensorProto, helper, numpy_helper
from paho.mqtt.enums import CallbackAPIVersion

from edgetool.commands.pack import pack

__all__ = [
    "ANOMALY_EVERY",
    "CHANNELS",
    "HIDDEN",
    "TOPIC",
    "broker",
    "cpu_seconds",
    "fill_queue",
    "free_port",
    "machine",
    "make_bundle",
    "payloads",
    "spread",
    "wait_until",
]

CHANNELS = 8
HIDDEN = 3
ANOMALY_EVERY = 100
_SENT_AHEAD = 20_000
TOPIC = "sensors/a1/bench"


def make_bundle(folder: Path, *, hidden: int = HIDDEN, window: int = 1, channels: int = CHANNELS) -> Path:
    """An autoencoder as a bundle; its canonical model lies beside it as `model.onnx`.

    Args:
        folder: for the bundle, the model and what `payloads` needs.
        hidden: width of its hidden layer; with the default it is tiny.
        window: rows of a window, each of which is reconstructed.
        channels: sensors.
    """
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((channels, channels)))[0][:, :HIDDEN].astype(np.float32)
    encode, decode = basis, np.ascontiguousarray(basis.T)
    if hidden > HIDDEN:
        # A wide layer that reconstructs the same three directions.
        encode = (basis @ rng.standard_normal((HIDDEN, hidden))).astype(np.float32)
        clean = np.abs(rng.standard_normal((4000, HIDDEN))) @ basis.T
        decode = np.linalg.lstsq(np.maximum(clean @ encode, 0), clean)[0].astype(np.float32)
    shape: list[str | int] = ["n", window, channels] if window > 1 else ["n", channels]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "encode"], ["latent"]),
            helper.make_node("Relu", ["latent"], ["active"]),
            helper.make_node("MatMul", ["active", "decode"], ["reconstruction"]),
        ],
        "autoencoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("reconstruction", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(encode, "encode"), numpy_helper.from_array(decode, "decode")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    source = folder / "autoencoder.onnx"
    source.write_bytes(model.SerializeToString())
    rows = np.abs(rng.standard_normal((4000, HIDDEN))) @ basis.T + 0.05 * rng.standard_normal((4000, channels))
    data = folder / "normal.npz"
    np.savez(data, readings=rows)
    names = ",".join(f"s{number}" for number in range(channels))
    bundle = pack(source, folder / "bench-1.0.0.edge", data=data, channels=names, false_alarm_rate=1e-4).bundle
    from edge_agent.bundle import open_bundle

    (folder / "model.onnx").write_bytes(open_bundle(bundle).model)
    np.save(folder / "basis.npy", basis)
    return bundle


def payloads(folder: Path, count: int) -> list[bytes]:
    """Readings as JSON objects; every hundredth is far from normal."""
    basis = np.load(folder / "basis.npy")
    rng = np.random.default_rng(1)
    rows = np.abs(rng.standard_normal((count, HIDDEN))) @ basis.T + 0.05 * rng.standard_normal((count, CHANNELS))
    rows[::ANOMALY_EVERY, 0] += 50
    start_s = 1763700000.0
    return [
        msgspec.json.encode({"time": start_s + i, **{f"s{c}": round(float(v), 4) for c, v in enumerate(row)}})
        for i, row in enumerate(rows)
    ]


@contextmanager
def broker(folder: Path, *, inflight: int) -> Iterator[int]:
    """Mosquitto that sends a client at most `inflight` unacknowledged messages; gives its port."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit("mosquitto is not installed (apt-get install mosquitto)")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages {inflight}\n"
    )
    process = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _is_open(port), 10)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def fill_queue(port: int, messages: list[bytes], qos: int, topics: Sequence[str] = (TOPIC,)) -> None:
    """Publish to the broker, each message to the next of the topics in turn, until it has all of them."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    taken = 0

    def on_publish(*_: object) -> None:
        nonlocal taken
        taken += 1

    client.on_publish = on_publish
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number, (message, topic) in enumerate(zip(messages, itertools.cycle(topics), strict=False)):
        # paho 2.2 gives the same identifier to two messages when more than 65535 wait, and then one never ends.
        if number % _SENT_AHEAD == 0:
            wait_until(lambda sent=number: taken >= sent - _SENT_AHEAD, 120)  # type: ignore[misc]
        client.publish(topic, message, qos=qos)
    wait_until(lambda: taken == len(messages), 120)
    client.disconnect()
    client.loop_stop()


def cpu_seconds(pid: int) -> float:
    """Time that the living threads of a process have been on a core, to the nanosecond; other counts have ticks."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


def wait_until(condition: Callable[[], object], timeout_s: float) -> None:
    """Poll until true, twenty times a second."""
    limit = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {timeout_s:.0f} s")
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def spread(ratios: Sequence[float]) -> str:
    """A column of a table: the median, the lowest and the highest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def machine() -> str:
    """The processor and the number of its cores that we have, for the line above a table."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"


def _is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
