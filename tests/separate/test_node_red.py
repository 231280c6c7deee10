"""What becomes of an alert behind Node-RED: a mail, a ticket, a row. All of them real but the tickets' system."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest
from fakes import write_bundle
from peers import environment, install
from processes import Agent, Broker, Sender, Subscriber, free_port, wait_until, write_config

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "docs" / "integrations" / "node-red-alerts.json"
PROGRAM = ROOT / "build" / "node-red" / "node_modules" / "node-red" / "red.js"
SETTINGS = """\
module.exports = {
    httpAdminRoot: false, httpNodeRoot: false, uiPort: 0, uiHost: "127.0.0.1", flowFile: "flows.json",
    credentialSecret: false, telemetry: {enabled: false}, logging: {console: {level: "info"}},
};
"""
HOSTILE = "<b>,a =1"
"""An asset that somebody has named so: markup in a mail, signs of the line protocol in a row."""


class Tickets:
    """A system of tickets as far as a webhook sees it, which refuses at first."""

    def __init__(self) -> None:
        self.found: queue.Queue[dict[str, str]] = queue.Queue()
        self.refusals = 1
        tickets = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if tickets.refusals:
                    tickets.refusals -= 1
                    self.send_response(503)
                else:
                    tickets.found.put(json.loads(body))
                    self.send_response(201)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where they are posted."""
        return f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("peers"))


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, which does not outlive its test."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def mails(peers: Path, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Port of a mail server, and the file of what it was given."""
    port, log = free_port(), tmp_path / "mails.txt"
    command = [sys.executable, "-u", "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}"]
    with (
        log.open("w") as out,
        ended(subprocess.Popen(command, stdout=out, stderr=out, env=environment(peers), text=True)),
    ):
        yield port, log


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[str]:
    """Address of an InfluxDB with the database `edge`."""
    port, other = free_port(), free_port()
    config = tmp_path / "influx.conf"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{other}"\n'
        f'[meta]\ndir = "{tmp_path}/meta"\n[data]\ndir = "{tmp_path}/data"\nwal-dir = "{tmp_path}/wal"\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\nlog-enabled = false\n'
    )
    program = shutil.which("influxd")
    assert program is not None, "InfluxDB is not installed"
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "influx.log").open("w") as log:
        process = subprocess.Popen([program, "-config", str(config)], stdout=log, stderr=log, text=True)
        with ended(process):
            wait_until(lambda: answers(address), 60, "InfluxDB")
            ask(address, "CREATE DATABASE edge", post=True)
            yield address


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5):
            return True
    except OSError:
        return False


def ask(address: str, query: str, *, post: bool = False) -> list[dict[str, object]]:
    """The rows of a query."""
    request = urllib.request.Request(
        f"{address}/query?{urlencode({'q': query, 'db': 'edge'})}", method="POST" if post else "GET"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        series = json.load(answer)["results"][0].get("series", [])
    return [dict(zip(each["columns"], row, strict=True)) for each in series for row in each["values"]]


@contextmanager
def node_red(folder: Path, **variables: str) -> Iterator[Path]:
    """Node-RED with the flow of our documents, as it stands there; gives its log."""
    assert PROGRAM.is_file(), "tools/ensure_node_red.sh installs it"
    folder.mkdir()
    (folder / "settings.js").write_text(SETTINGS)
    shutil.copy(FLOW, folder / "flows.json")
    (folder / "node_modules").symlink_to(PROGRAM.parents[1])
    log, node = folder / "log", shutil.which("node")
    assert node is not None
    command = [node, str(PROGRAM), "--userDir", str(folder), "--settings", str(folder / "settings.js")]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **variables}, text=True)
        with ended(process):
            wait_until(lambda: "Started flows" in log.read_text(), 90, "Node-RED")
            yield log


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


def test_an_alert_is_a_mail_a_ticket_and_a_row(
    tmp_path: Path, broker: Broker, mails: tuple[int, Path], influx: str
) -> None:
    """Each once, though the ticket's system refuses it first; what comes while Node-RED is away is told afterwards."""
    config = write_config(tmp_path, broker.port, {"pump": write_bundle(tmp_path / "square-1.0.0.edge")})
    tickets = Tickets()
    port, letters = mails
    variables = {
        "EDGE_BROKER": "127.0.0.1",
        "EDGE_BROKER_PORT": str(broker.port),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(port),
        "MAIL_FROM": "edge@plant.example",
        "MAIL_TO": "shift@plant.example",
        "TICKETS_URL": tickets.url,
        "INFLUX_URL": f"{influx}/write?db=edge&precision=ms",
    }
    try:
        with Subscriber(broker.port) as subscriber, Sender(broker.port) as sender, Agent(config):
            subscriber.wait_online()
            with node_red(tmp_path / "red", **variables):
                broker.wait_subscribed("edge/+/alerts/+/+", client_id="node-red-alerts")
                sender.send(f"sensors/{HOSTILE}/pump", {"time": "2025-11-21T04:40:00Z", "c1": 3, "c2": 0})
                opened = tickets.found.get(timeout=60)
                assert (opened["action"], opened["key"]) == ("open", subscriber.alerts[0].id)
                wait_until(lambda: f"Subject: raise: g1 pump {HOSTILE}" in letters.read_text(), 30, "the mail")
                wait_until(lambda: ask(influx, "SELECT * FROM edge_alert"), 30, "the row")
            # Away: the broker keeps what is raised for the session.
            sender.send(f"sensors/{HOSTILE}/pump", {"time": "2025-11-21T04:40:01Z", "c1": 0, "c2": 0})
            subscriber.wait_events("raise", "clear")
            with node_red(tmp_path / "red again", **variables):
                closed = tickets.found.get(timeout=60)
                assert (closed["action"], closed["key"]) == ("close", opened["key"])
                wait_until(lambda: len(ask(influx, "SELECT * FROM edge_alert")) == 2, 30, "the second row")
                wait_until(lambda: f"Subject: clear: g1 pump {HOSTILE}" in letters.read_text(), 30, "the second mail")
        rows = ask(influx, "SELECT * FROM edge_alert")
        assert [(row["asset"], row["event"], row["score"]) for row in rows] == [
            (HOSTILE, "raise", 9),
            (HOSTILE, "clear", 0),
        ]
        text = letters.read_text()
        assert text.count("Subject: ") == 2
        assert "text/html" not in text
        assert "c1 100 %, is 3" in text
        assert tickets.found.empty()
    finally:
        tickets.server.shutdown()
        tickets.server.server_close()


def test_no_ticket_stays_open_and_none_is_missing(tmp_path: Path, broker: Broker) -> None:
    """One whose opening was refused until the alert had ended, and one of an asset that goes on and off."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config = write_config(tmp_path, broker.port, {"pump": bundle}, stream="[stream.alarm]\nflap_raises = 1")
    tickets = Tickets()
    variables = {"EDGE_BROKER": "127.0.0.1", "EDGE_BROKER_PORT": str(broker.port), "TICKETS_URL": tickets.url}

    def next_ticket() -> tuple[str, str]:
        found = tickets.found.get(timeout=60)
        return found["action"], found["key"]

    try:
        with (
            Subscriber(broker.port) as subscriber,
            Sender(broker.port) as sender,
            Agent(config),
            node_red(tmp_path / "red", **variables),
        ):
            subscriber.wait_online()
            broker.wait_subscribed("edge/+/alerts/+/+", client_id="node-red-alerts")
            sender.send("sensors/a1/pump", {"time": "2025-11-21T04:40:00Z", "c1": 3, "c2": 0})
            wait_until(lambda: not tickets.refusals, 30, "the first ticket")
            sender.send("sensors/a1/pump", {"time": "2025-11-21T04:40:01Z", "c1": 0, "c2": 0})
            subscriber.wait_events("raise", "clear")
            key = subscriber.alerts[0].id
            assert [next_ticket() for _ in range(3)] == [("close", key), ("open", key), ("close", key)]
            sender.send("sensors/a1/pump", {"time": "2025-11-21T04:40:02Z", "c1": 3, "c2": 0})
            subscriber.wait_events("raise", "clear", "flapping")
            key = subscriber.alerts[-1].id
            assert next_ticket() == ("open", key)
            sender.send("sensors/a1/pump", {"time": "2025-11-21T04:40:03Z", "c1": 0, "c2": 0})
            sender.send("sensors/a1/pump", {"time": "2025-11-21T06:40:03Z", "c1": 0, "c2": 0})
            assert next_ticket() == ("close", key)
    finally:
        tickets.server.shutdown()
        tickets.server.server_close()
