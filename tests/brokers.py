"""Brokers that plants run, each a real process on free ports of the loopback, with a folder of its own.

`tools/ensure_broker.sh NAME` installs what is missing: programs of Debian, or packages below `build/brokers`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from processes import Broker, free_port, wait_until

__all__ = ["BROKERS", "IN_DEBIAN_13", "OtherBroker", "broker_named"]

_BUILD = Path(__file__).parents[1] / "build" / "brokers"
_DEBIAN_13 = _BUILD / "debian13"
IN_DEBIAN_13 = ("mosquitto2.0.21", "rabbitmq4")
"""Brokers that Debian 12 does not have in this version. They want root, and are not in CI."""
_START_LIMIT_S = 120.0
"""RabbitMQ and ActiveMQ take 20 s on a busy machine."""
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/lib/rabbitmq/bin"

_RABBITMQ = """\
listeners.tcp.1 = 127.0.0.1:{second}
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
"""
_RABBITMQ_4 = """\
anonymous_login_user = guest
anonymous_login_pass = guest
"""
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
max_queued_messages 0
user root
"""
_NATS = """\
server_name: faults
listen: 127.0.0.1:{second}
jetstream {{ store_dir: "{folder}/store" }}
mqtt {{ listen: "127.0.0.1:{port}", max_ack_pending: 1000 }}
"""
_AEDES = """\
const {{ Aedes }} = require("aedes")
const net = require("net")
Aedes.createBroker().then((broker) => net.createServer(broker.handle).listen({port}, "127.0.0.1"))
"""
_RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""
_AMQTT = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


def _program(name: str, *more: Path) -> str:
    found = shutil.which(name, path=os.pathsep.join([*map(str, more), _PATH]))
    # A matrix that skips its rows proves nothing.
    return found or pytest.fail(f"{name} is not here; run tools/ensure_broker.sh, or make faults BROKER=NAME")


class OtherBroker:
    """A broker that is not mosquitto.

    Args:
        name: of `BROKERS`.
        folder: for its configuration, its log and what it keeps.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._root = _DEBIAN_13 if name in IN_DEBIAN_13 else None
        """Another system's folder, in which its programs run; it holds all that they see."""
        if self._root is not None:
            if not (self._root / "usr").is_dir():
                pytest.fail(f"{self._root} is not here; run tools/ensure_broker.sh {name}, as root")
            folder = self._root / "tmp" / f"faults-{os.getpid()}-{time.monotonic_ns()}"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port, self._second = free_port(), free_port()
        self.log = folder / f"{name}.log"
        self._helper: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def _write(self, name: str, text: str) -> Path:
        (self._folder / name).write_text(
            text.format(port=self.port, second=self._second, folder=self._seen), encoding="utf-8"
        )
        return self._seen / name

    @property
    def _seen(self) -> Path:
        """Our folder, as the broker names it."""
        return self._folder if self._root is None else Path("/") / self._folder.relative_to(self._root)

    def _mosquitto(self) -> tuple[list[str], dict[str, str]]:
        return ["/usr/sbin/mosquitto", "-c", str(self._write("mosquitto.conf", _MOSQUITTO))], {}

    def _rabbitmq(self) -> tuple[list[str], dict[str, str]]:
        plugins = self._write("enabled_plugins", "[rabbitmq_mqtt].")
        mapper, distribution = free_port(), free_port()
        program = "rabbitmq-server"
        settings = _RABBITMQ + ("" if self._root is None else _RABBITMQ_4)
        env = {
            "HOME": str(self._seen),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "faults@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self._seen / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._seen / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONFIG_FILE": str(self._write("rabbitmq.conf", settings)),
        }
        # Erlang would start one that outlives it.
        self._helper = subprocess.Popen([_program("epmd"), "-port", str(mapper), "-address", "127.0.0.1"])
        own = Path("/usr/lib/rabbitmq/bin")  # the other one changes to a user of its own
        return [_program(program, own) if self._root is None else str(own / program)], env

    def _activemq(self) -> tuple[list[str], dict[str, str]]:
        options = f"persistent=true&dataDirectory={self._folder}/data&useJmx=false"
        home = Path("/usr/share/activemq")
        jar = home / "bin" / "activemq.jar"
        # Debian has its MQTT in two packages, of which one does not ask for the other.
        codec = Path("/usr/share/java/mqtt-client.jar")
        if not (jar.exists() and codec.exists()):
            pytest.fail(f"{jar} or {codec} is not here; run tools/ensure_broker.sh activemq")
        (self._folder / "lib").mkdir(exist_ok=True)
        (self._folder / "lib" / codec.name).symlink_to(codec)
        paths = [f"-Dactivemq.home={home}", f"-Dactivemq.base={self._folder}"]
        address = f"broker:(mqtt://127.0.0.1:{self.port})?{options}"
        return [_program("java"), "-Xmx256m", *paths, "-jar", str(jar), "start", address], {}

    def _nats(self) -> tuple[list[str], dict[str, str]]:
        return [_program("nats-server", _BUILD / "python" / "bin"), "-c", str(self._write("nats.conf", _NATS))], {}

    def _aedes(self) -> tuple[list[str], dict[str, str]]:
        modules = {"NODE_PATH": str(_BUILD / "node" / "node_modules")}
        return [_program("node"), str(self._write("aedes.js", _AEDES))], modules

    def _rumqttd(self) -> tuple[list[str], dict[str, str]]:
        file = self._write("rumqttd.toml", _RUMQTTD)
        return [_program("iotcore", _BUILD / "python" / "bin"), "--config", str(file)], {}

    def _amqtt(self) -> tuple[list[str], dict[str, str]]:
        return [_program("amqtt", _BUILD / "python" / "bin"), "-c", str(self._write("amqtt.yaml", _AMQTT))], {}

    def __enter__(self) -> Self:
        makers: dict[str, Callable[[], tuple[list[str], dict[str, str]]]] = {
            "mosquitto2.0.21": self._mosquitto,
            "rabbitmq": self._rabbitmq,
            "rabbitmq4": self._rabbitmq,
            "activemq": self._activemq,
            "nats": self._nats,
            "aedes": self._aedes,
            "rumqttd": self._rumqttd,
            "amqtt": self._amqtt,
        }
        command, env = makers[self.name]()
        if self._root is not None:
            command = ["chroot", str(self._root), *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **env}, cwd=self._folder, start_new_session=True
            )
        process = self.process

        def answers() -> bool:
            assert process.poll() is None, f"{self.name} ended: {self.log.read_text(errors='replace')[-1000:]}"
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", self.port)) == 0

        try:
            wait_until(answers, _START_LIMIT_S, f"{self.name}; see {self.log}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            # Wrappers in shell have children; all of them are of the session that we began.
            for how in (signal.SIGTERM, signal.SIGKILL):
                if self.process.poll() is None:
                    os.killpg(self.process.pid, how)
                    try:
                        self.process.wait(timeout=20)
                    except subprocess.TimeoutExpired:
                        continue
                    break
            self.process = None
        if self._helper is not None:
            self._helper.kill()
            self._helper.wait(timeout=20)
            self._helper = None
        if self._root is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


BROKERS = (
    "mosquitto",
    "mosquitto2.0.21",
    "rabbitmq",
    "rabbitmq4",
    "rumqttd",
    "activemq",
    "aedes",
    "nats",
    "amqtt",
)


def broker_named(name: str, folder: Path) -> Broker | OtherBroker:
    """One of `BROKERS`, not started yet."""
    return Broker(folder) if name == "mosquitto" else OtherBroker(name, folder)
