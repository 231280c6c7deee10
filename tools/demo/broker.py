"""The demo's MQTT broker, a real one as a process of its own: mosquitto where it is there, else nats-server.

A broker in Python would need nothing else, but the one that there is (amqtt 0.12.1) loses readings that it has
acknowledged on Python 3.12 and later, so what was sent and what is scored could not be held against each other.
nats-server comes as one program in a wheel for every Python, keeps what it acknowledges on the disk, and speaks MQTT
3.1.1.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BROKERS", "RunningBroker", "demo_broker", "running"]

_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
# By default it keeps 1,000 messages for a client that is busy and drops the rest: docs/mqtt.md.
max_queued_messages 0
"""
_NATS = """\
server_name: demo
# Its own protocol, which the demo does not use, on any free port.
listen: "127.0.0.1:-1"
mqtt {{ listen: "127.0.0.1:{port}" }}
jetstream {{ store_dir: "{folder}/store", max_memory_store: 64MB, max_file_store: 256MB }}
"""
_START_LIMIT_S = 20.0
_STOP_LIMIT_S = 15.0


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that takes connections from this machine."""

    name: str
    """With its version, as it says it itself, such as `mosquitto version 2.0.11`."""
    port: int
    """Of 127.0.0.1."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """One program that can be the broker."""

    find: Callable[[], str | None]
    """Its path; None where it is not installed."""
    version_flag: str
    config: str
    """Of its configuration file, with `{port}` and `{folder}`."""


def _find_mosquitto() -> str | None:
    # Debian keeps it where only root looks.
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _find_nats() -> str | None:
    """The program that the extra `demo` brings into this environment, or one on the path."""
    return shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


BROKERS = {
    "mosquitto": _Kind(_find_mosquitto, "-h", _MOSQUITTO),
    "nats": _Kind(_find_nats, "--version", _NATS),
}
"""By name, in the order of preference."""


@contextmanager
def demo_broker(folder: Path, name: str = "auto") -> Iterator[RunningBroker]:
    """A broker that runs until the block ends.

    Args:
        folder: an existing one, for its configuration, its log and what it stores.
        name: of `BROKERS`; `auto` takes the first that is installed.

    Raises:
        SystemExit: it is not installed, or does not start; the text says what to do.
    """
    kinds = BROKERS if name == "auto" else {name: BROKERS[name]}
    found = [(kind, program) for kind in kinds.values() if (program := kind.find()) is not None]
    if not found:
        sys.exit(f"no broker: {' and '.join(kinds)} not found; pip install 'edge-agent[demo]', or install mosquitto")
    kind, program = found[0]
    port = _free_port()
    config, log_file = folder / "broker.conf", folder / "broker.log"
    config.write_text(kind.config.format(port=port, folder=folder), encoding="utf-8")
    with running([program, "-c", str(config)], log_file) as process:
        _wait_for(port, process, log_file)
        yield RunningBroker(_version(program, kind.version_flag), port)


@contextmanager
def running(command: Sequence[str], log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block; what it prints goes to the file."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log_file: Path) -> None:
    limit = time.monotonic() + _START_LIMIT_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > limit:
            sys.exit(f"the broker {process.args!r} does not start; see {log_file}")
        time.sleep(0.05)


def _version(program: str, flag: str) -> str:
    # mosquitto tells its version at the head of its help, which ends with an exit code of its own.
    told = subprocess.run([program, flag], capture_output=True, text=True, check=False).stdout
    return told.partition("\n")[0].strip() or Path(program).name


def _free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
