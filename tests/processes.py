"""Real processes for tests: a broker, an agent, a sender and a subscriber, each on free ports and in its own folder."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.mqtt.payload import AlertEvent

__all__ = [
    "IN_CI",
    "Agent",
    "Broker",
    "Proxy",
    "Sender",
    "Subscriber",
    "free_port",
    "run_tool",
    "tool",
    "wait_until",
    "write_config",
]

IN_CI = os.environ.get("CI") == "true"
BROKER_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence {persistence}
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 0
max_inflight_messages {inflight}
user root
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def tool(name: str) -> str:
    """One of our programs, from the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


def run_tool(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of our programs to its end."""
    command = [tool(str(arguments[0])), *map(str, arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0, what: str = "a condition") -> None:
    """Poll until true."""
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.02)


class Broker:
    """Mosquitto on a loopback port; it can be killed and started again.

    Args:
        folder: for its configuration, its log and what it keeps.
        persistence: whether it keeps sessions and retained messages over a restart.
        inflight: QoS messages that a client need not have acknowledged.
        second: settings of a second listener, such as TLS, on `second_port`.
        rules: settings of the whole broker, such as an `acl_file`.
    """

    def __init__(
        self, folder: Path, *, persistence: bool = True, inflight: int = 20, second: str = "", rules: str = ""
    ) -> None:
        found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None:
            if IN_CI:
                pytest.fail("mosquitto is not installed")
            pytest.skip("mosquitto is not installed")
        self._program = found
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "mosquitto.conf"
        settings = {"persistence": str(persistence).lower(), "folder": folder, "inflight": inflight}
        text = BROKER_CONFIG.format(port=self.port, **settings) + rules
        self.second_port = free_port()
        self._ports = [self.port, self.second_port] if second else [self.port]
        if second:
            text += f"\nlistener {self.second_port} 127.0.0.1\n{second}"
        self._config.write_text(text)
        self.log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)

        def answers(port: int) -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        wait_until(lambda: all(map(answers, self._ports)), what=f"mosquitto; see {self.log}")

    def reload(self) -> None:
        """Read the access rules and users again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=20)
        self._process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)


def write_config(
    folder: Path,
    port: int,
    streams: dict[str, Path],
    *,
    agent: str = "g1",
    mqtt: str = "",
    extra: str = "",
    state: str = "state",
) -> Path:
    """An `agent.toml` with one stream on `sensors/+/NAME` for each name."""
    lines = [f'[agent]\nid = "{agent}"\nstate_dir = "{folder / state}"\nhealth_interval_s = 0.2']
    lines.append(f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n{mqtt}\n[engine]\nprovider = "cpu"\n{extra}')
    for name, bundle in streams.items():
        lines.append(f'[[stream]]\nname = "{name}"\nbundle = "{bundle}"\ntopic = "sensors/+/{name}"')
    config = folder / "agent.toml"
    config.write_text("\n".join(lines), encoding="utf-8")
    return config


class Agent:
    """`edge-agent run` as a process; it can be killed and started again."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self.log = config.with_name("agent.log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [tool("edge-agent"), "run", "--config", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=20)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=20)

    def __enter__(self) -> Agent:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


class Subscriber:
    """Collects what an agent publishes, over outages too."""

    def __init__(self, port: int, agent: str = "g1") -> None:
        self.alerts: list[AlertEvent] = []
        self.raw_alerts: list[bytes] = []
        self.health: dict[str, Any] = {}
        self.statuses: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        self._agent = agent
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"subscriber-{port}", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"edge/{agent}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._port = port

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        document = msgspec.json.decode(message.payload)
        if kind == "alerts":
            self.raw_alerts.append(bytes(message.payload))
            self.alerts.append(msgspec.convert(document, AlertEvent))
        elif kind == "health":
            self.health = document
        elif kind == "status":
            self.statuses.append(document)
        elif kind == "rejected":
            self.rejected.append(document)

    def stream(self, name: str) -> dict[str, Any]:
        """The counters of one stream in the last health message; empty before the first."""
        found: dict[str, Any] = self.health.get("streams", {}).get(name, {})
        return found

    def wait_online(self) -> None:
        wait_until(lambda: self.statuses and self.statuses[-1]["state"] == "online", what="the agent's birth")

    def __enter__(self) -> Subscriber:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Sender:
    """Publishes readings at QoS 1 and knows which the broker has acknowledged."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"sender-{port}", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.max_inflight_messages_set(20)
        self._port = port
        self._acknowledged = 0
        self._sent = 0
        self._client.on_publish = self._on_publish

    def _on_publish(self, *_: Any) -> None:
        self._acknowledged += 1

    def send(self, topic: str, payload: bytes | dict[str, Any], *, qos: int = 1) -> None:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        self._client.publish(topic, body, qos=qos)
        self._sent += 1

    def drain(self, timeout_s: float = 60.0) -> None:
        """Until the broker has everything."""
        wait_until(lambda: self._acknowledged == self._sent, timeout_s, "the broker to take everything")

    def __enter__(self) -> Sender:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        wait_until(self._client.is_connected, what="the sender's connection")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Proxy:
    """Stands between a client and a port, and can stop forwarding without a word, so that nobody sees an end."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._is_silent = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._pairs: dict[socket.socket, socket.socket] = {}

    def go_silent(self) -> None:
        """What is connected now stays connected, and nothing gets through on it any more."""
        self._is_silent = True

    def heal(self) -> None:
        """New connections get through; the old ones stay silent."""
        self._pairs = {}
        self._is_silent = False

    def _run(self) -> None:
        dead: list[socket.socket] = []
        while not self._stop.is_set():
            if self._is_silent:
                dead += self._pairs
                self._stop.wait(0.05)
                continue
            pairs = self._pairs
            ready, _, _ = select.select([self._listener, *pairs], [], [], 0.05)
            for sock in ready:
                if sock is self._listener:
                    ours, _ = self._listener.accept()
                    theirs = socket.create_connection(("127.0.0.1", self._target))
                    pairs[ours], pairs[theirs] = theirs, ours
                elif sock in pairs and not self._forward(sock, pairs[sock]):
                    for end in (sock, pairs.pop(sock)):
                        pairs.pop(end, None)
                        end.close()
        for sock in (*self._pairs, *dead):
            sock.close()

    @staticmethod
    def _forward(source: socket.socket, target: socket.socket) -> bool:
        try:
            data = source.recv(65536)
            target.sendall(data)
        except OSError:
            return False
        return bool(data)

    def __enter__(self) -> Proxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()


@contextmanager
def embedded_broker() -> Iterator[int]:
    """The demo's broker on a free port; gives the port."""
    port = free_port()
    script = Path(__file__).parents[1] / "tools" / "demo" / "broker.py"
    process = subprocess.Popen([sys.executable, str(script), str(port)], stderr=subprocess.DEVNULL)
    try:
        with socket.socket() as probe:
            wait_until(lambda: probe.connect_ex(("127.0.0.1", port)) == 0, what="the embedded broker")
        yield port
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
