"""Real processes for tests: a broker, an agent, a sender and a subscriber, each on free ports and in its own folder."""

from __future__ import annotations

import os
import queue
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.messages.event import AlertEvent

__all__ = [
    "EVERY_ALERT",
    "IN_CI",
    "Agent",
    "Broker",
    "Sender",
    "Subscriber",
    "free_port",
    "program",
    "run_tool",
    "tool",
    "wait_until",
    "write_config",
]

IN_CI = os.environ.get("CI") == "true"
BROKER_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous {anonymous}
persistence {persistence}
persistence_location {folder}/
autosave_interval 1
autosave_on_changes false
max_queued_messages {queued}
max_inflight_messages {inflight}
user root
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
"""


EVERY_ALERT = "[stream.alarm]\nflap_raises = 0"
"""For a `[[stream]]` of which one asset is raised more than ten times on purpose."""
PORTS = range(
    20_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    32_768,
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
"""Below those that Linux gives to outgoing connections: one of these, even one that tries to reach a broker that is
stopped, would take the port before the broker starts again. Of tests beside each other, each process has its own.
"""
_ports = iter(random.sample(PORTS, len(PORTS)))


def free_port() -> int:
    """A port that nobody listens on, and that was not given before: one broker may need two."""
    for port in _ports:
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def tool(name: str) -> str:
    """One of our programs, from the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


def program(name: str) -> str:
    """A program of this machine's; without it, a test is skipped on a laptop and fails in CI."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        if IN_CI:
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


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
        queued: QoS messages that it keeps for a client that is away; 0 is no limit.
        second: settings of a second listener, such as TLS, on `second_port`.
        rules: settings of the whole broker, such as an `acl_file`.
        anonymous: whether clients without a user name may come.
    """

    def __init__(
        self,
        folder: Path,
        *,
        persistence: bool = True,
        inflight: int = 20,
        queued: int = 0,
        second: str = "",
        rules: str = "",
        anonymous: bool = True,
    ) -> None:
        self._program = program("mosquitto")
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "mosquitto.conf"
        settings: dict[str, Any] = {
            "persistence": str(persistence).lower(),
            "folder": folder,
            "inflight": inflight,
            "anonymous": str(anonymous).lower(),
            "queued": queued,
        }
        text = BROKER_CONFIG.format(port=self.port, **settings) + rules
        self.second_port = free_port()
        self._ports = [self.port, self.second_port] if second else [self.port]
        if second:
            text += f"\nlistener {self.second_port} 127.0.0.1\n{second}"
        self._config.write_text(text)
        self.log = folder / "mosquitto.log"
        self.process: subprocess.Popen[bytes] | None = None

    def wait_subscribed(self, topic: str = "sensors/+/pump", *, client_id: str = "edge-agent-g1") -> None:
        """Until it keeps readings for an agent: what is sent between its CONNACK and its SUBSCRIBE goes nowhere."""
        wait_until(lambda: f" {client_id} 1 {topic}" in self.log.read_text(), what=f"the subscription to {topic}")

    def start(self) -> None:
        with self.log.open("ab") as log:
            process = self.process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)

        def answers(port: int) -> bool:
            assert process.poll() is None, f"mosquitto ended: {self.log.read_text()[-500:]}"
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        wait_until(lambda: all(map(answers, self._ports)), what=f"mosquitto; see {self.log}")

    def reload(self) -> None:
        """Read the access rules and users again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(timeout=20)
        self.process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop(signal.SIGKILL)


def write_config(
    folder: Path,
    port: int,
    streams: dict[str, Path],
    *,
    agent: str = "g1",
    extra: str = "",
    state: str = "state",
    host: str = "127.0.0.1",
    mqtt: str = "",
    engine: str = 'provider = "cpu"',
    stream: str = "",
    health_s: float = 0.2,
) -> Path:
    """An `agent.toml` with one stream on `sensors/+/NAME` for each name."""
    lines = [f'[agent]\nid = "{agent}"\nstate_dir = "{folder / state}"\nhealth_interval_s = {health_s}']
    lines.append(f'[mqtt]\nhost = "{host}"\nport = {port}\n{mqtt}\n[engine]\n{engine}\n{extra}')
    for name, bundle in streams.items():
        lines.append(f'[[stream]]\nname = "{name}"\nbundle = "{bundle}"\ntopic = "sensors/+/{name}"\n{stream}')
    config = folder / "agent.toml"
    config.write_text("\n".join(lines), encoding="utf-8")
    return config


class Agent:
    """`edge-agent run` as a process; it can be killed and started again.

    Args:
        config: its `agent.toml`.
        command: what stands before `run`; the program as it is when not given.
        env: more for its environment.
    """

    def __init__(self, config: Path, *, command: Sequence[str] = (), env: dict[str, str] | None = None) -> None:
        self.config = config
        self.command = command or [tool("edge-agent")]
        # Of its own, so that a test that kills it leaves nothing in the machine's.
        runtime_dir = config.with_name("run")
        runtime_dir.mkdir(exist_ok=True)
        self._env = {**os.environ, "RUNTIME_DIRECTORY": str(runtime_dir), **(env or {})}
        self.log = config.with_name("agent.log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*self.command, "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=20)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=20)

    def limit_files(self, limit_bytes: int | None) -> None:
        """Forbid it to write beyond this in any file, as on a full disk; None allows it again."""
        assert self.process is not None
        _, most = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most if limit_bytes is None else limit_bytes, most))

    def memory_mb(self, field: str = "VmRSS") -> float:
        """What its process has in memory, or at most had: `VmHWM`."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        (found_kb,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith(field)]
        return found_kb / 1e3

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
        self.dropped: list[dict[str, Any]] = []
        self.set_aside: list[dict[str, Any]] = []
        self.storms: list[dict[str, Any]] = []
        self.muted: list[dict[str, Any]] = []
        self.different: set[tuple[str, str, str]] = set()
        """The key of every event so far."""
        self.newest: dict[str, str] = {}
        """Time of each asset's last event; ISO 8601, so it sorts."""
        self.health: dict[str, Any] = {}
        self.ended: list[dict[str, Any]] = []
        """The last health message of each earlier process of the agent."""
        self.statuses: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        self._agent = agent
        self._subscribed = 0
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"subscriber-{agent}-{port}", clean_session=False
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"edge/{agent}/#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._port = port

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed += 1

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        kind = message.topic.split("/")[2]
        document = msgspec.json.decode(message.payload)
        reports = {"dropped": self.dropped, "set_aside": self.set_aside, "storm": self.storms, "muted": self.muted}
        if kind == "alerts" and document["event"] in reports:
            reports[document["event"]].append(document)
        elif kind == "alerts":
            self.raw_alerts.append(bytes(message.payload))
            self.alerts.append(msgspec.convert(document, AlertEvent))
            self.different.add(self.alerts[-1].key)
            self.newest[document["asset"]] = document["time"]
        elif kind == "health":
            if document["uptime_s"] < self.health.get("uptime_s", 0.0):
                self.ended.append(self.health)
            self.health = document
        elif kind == "status":
            self.statuses.append(document)
        elif kind == "rejected":
            self.rejected.append(document)

    def stream(self, name: str) -> dict[str, Any]:
        """The counters of one stream in the last health message; empty before the first."""
        found: dict[str, Any] = self.health.get("streams", {}).get(name, {})
        return found

    def count(self, name: str, counter: str) -> int:
        """A counter of one stream over all processes of the agent; short of what each did after its last message."""
        return sum(int(each["streams"][name][counter]) for each in [*self.ended, self.health] if each)

    def wait_online(self) -> None:
        wait_until(lambda: self.statuses and self.statuses[-1]["state"] == "online", what="the agent's birth")

    def wait_events(self, *names: str, timeout_s: float = 20.0) -> None:
        """Until exactly these alert events have come, in this order. One that comes again counts once: that is promised
        where the agent is killed, or its journal is replaced, before it knows that the broker has the event.
        """
        try:
            wait_until(
                lambda: [name for _, name, _ in dict.fromkeys(event.key for event in self.alerts)] == [*names],
                timeout_s,
            )
        except AssertionError:
            came = "\n".join(map(str, [*self.alerts, self.health]))
            raise AssertionError(f"waited {timeout_s:.0f} s for {names}; came:\n{came}") from None

    def wait_subscribed(self, *, connections: int) -> None:
        """Until the subscription of this many connections in turn stands."""
        wait_until(lambda: self._subscribed >= connections, what="the subscriber's subscription")

    def __enter__(self) -> Subscriber:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self.wait_subscribed(connections=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # see `Neighbour`


class Sender:
    """Publishes readings at QoS 1, in their order, and knows which the broker has acknowledged.

    From the moment that a new connection is open until the broker has accepted it, paho-mqtt sends what is published
    ahead of what waits from before. So a thread publishes, and it holds readings back until the first of those that
    waited was acknowledged.
    """

    def __init__(self, port: int, name: str = "sender") -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"{name}-{port}", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.max_inflight_messages_set(100)
        self._port = port
        self._acknowledged = 0
        self._sent = 0
        self._published = 0
        self._in_order = threading.Event()
        self._queue: queue.SimpleQueue[tuple[str, bytes, int, bool] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._publish, name="publishing", daemon=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self._in_order.clear()
        self._client.on_publish = self._on_publish

    def _on_connect(self, *_: Any) -> None:
        if self._published == self._acknowledged:
            self._in_order.set()

    def _on_publish(self, *_: Any) -> None:
        self._acknowledged += 1
        self._in_order.set()

    def _publish(self) -> None:
        while (item := self._queue.get()) is not None:
            topic, payload, qos, retain = item
            self._in_order.wait()
            self._published += 1
            self._client.publish(topic, payload, qos=qos, retain=retain)

    def send(self, topic: str, payload: bytes | dict[str, Any], *, qos: int = 1, retain: bool = False) -> None:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        self._sent += 1
        self._queue.put((topic, body, qos, retain))

    @property
    def waiting(self) -> int:
        """Readings that the broker has not acknowledged."""
        return self._sent - self._acknowledged

    def drain(self, timeout_s: float = 60.0) -> None:
        """Until the broker has everything."""
        wait_until(lambda: not self.waiting, timeout_s, "the broker to take everything")

    def __enter__(self) -> Sender:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        wait_until(self._client.is_connected, what="the sender's connection")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._in_order.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # see `Neighbour`
