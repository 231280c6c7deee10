"""`edgetool watch` with any broker: what it believes, and what it shows."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from fakes import make_alert
from paho.mqtt.enums import CallbackAPIVersion
from processes import Agent, Broker, run_tool, tool, wait_until, write_config

from edge_agent.errors import BrokerError
from edge_agent.messages.text import encode
from edgetool.broker import BrokerAddress, connected
from edgetool.commands.watch import open_alerts

REFUSED_IN_3 = b"\x20\x02\x00\x01"
REFUSED_IN_5 = b"\x20\x03\x00\x84\x00"
ACCEPTED = {4: b"\x20\x02\x00\x00", 5: b"\x20\x03\x00\x00\x00"}
NOT_AUTHORISED = b"\x20\x03\x00\x87\x00"


@contextlib.contextmanager
def answering(answers: dict[int, bytes], *, then: bytes = b"") -> Iterator[tuple[int, list[int]]]:
    """What answers a CONNECT by the protocol in it, or else ends the connection: its port, and the protocols asked.

    Args:
        answers: by the number of the protocol.
        then: the answer to what comes after the CONNECT.
    """
    asked: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        asked.append(client.recv(1000)[8])
                        client.sendall(answers.get(asked[-1], b""))
                        if answers.get(asked[-1], b"") in ACCEPTED.values():
                            client.recv(1000)  # a subscription or the goodbye
                            client.sendall(then)
                            client.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], asked
        # Closing alone does not end a wait in another thread.
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize(
    ("answers", "spoken"),
    [
        (ACCEPTED, [5]),
        ({5: REFUSED_IN_3, 4: ACCEPTED[4]}, [5, 4]),
        ({5: REFUSED_IN_5, 4: ACCEPTED[4]}, [5, 4]),
        ({4: ACCEPTED[4]}, [5, 4]),
    ],
)
def test_mqtt_5_is_spoken_where_the_broker_knows_it(answers: dict[int, bytes], spoken: list[int]) -> None:
    """Else 3.1.1, whether the broker refuses MQTT 5 or just hangs up."""
    with answering(answers) as (port, asked), connected(BrokerAddress(port=port), lambda _: None):
        assert asked == spoken


def test_a_refusal_for_another_reason_is_told_at_once() -> None:
    """Another version would not help."""
    with answering({5: NOT_AUTHORISED}) as (port, asked):
        opened = connected(BrokerAddress(port=port), lambda _: None)
        with pytest.raises(BrokerError, match=r"\(Not authorized\); check --username and --password-file$"), opened:
            pass
        assert asked == [5]


def test_what_hangs_up_on_every_version_is_told() -> None:
    """A port for TLS does so."""
    with answering({}) as (port, _):
        opened = connected(BrokerAddress(port=port), lambda _: None)
        with pytest.raises(BrokerError, match="does not answer; is it an MQTT broker, with or without TLS"), opened:
            pass


@pytest.mark.parametrize("version", [5, 4])
def test_a_refused_subscription_is_told(version: int) -> None:
    """In place of watching nothing for ever. mosquitto 2.0 accepts any subscription."""
    refusal = {5: b"\x90\x04\x00\x01\x00\x87", 4: b"\x90\x03\x00\x01\x80"}[version]
    with answering({version: ACCEPTED[version]}, then=refusal) as (port, _):
        done = run_tool("edgetool", "watch", "--port", str(port), "--for", "10")
    assert done.returncode == 69
    assert done.stderr.startswith("edgetool: edge/+/alerts/+/+: the broker refuses the subscription (")
    assert len(done.stderr.splitlines()) == 1


def alert(agent: str, **changes: Any) -> bytes:
    return encode(make_alert(agent=agent, channels=[], **changes))


@contextlib.contextmanager
def publishing(port: int, username: str | None = None) -> Iterator[paho.Client]:
    """A client that publishes, as anybody may."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    if username is not None:
        client.username_pw_set(username, username)
    client.connect("127.0.0.1", port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def publish(client: paho.Client, topic: str, payload: bytes, *, retain: bool = False) -> None:
    client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)


def test_forgeries_are_told_from_alerts(broker: Broker) -> None:
    """Retained ones at the start, retained ones that come later, and those of one agent in the name of another; none
    of them counts."""
    with publishing(broker.port) as client:
        publish(client, "edge/g1/alerts/pump/a1", alert("g1"), retain=True)
        command = [tool("edgetool"), "watch", "--port", str(broker.port), "--count", "2", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watcher:
            assert watcher.stderr is not None
            assert watcher.stderr.readline() == f"watching edge/+/alerts/+/+ at 127.0.0.1:{broker.port}\n"
            publish(client, "edge/g1/alerts/pump/a2", alert("g1", asset="a2"), retain=True)
            publish(client, "edge/g2/alerts/pump/a1", alert("g1"))
            publish(client, "edge/g1/alerts/pump/a1", alert("g1"))
            publish(client, "edge/g2/alerts/pump/a1", alert("g2", event="clear"))
            out, err = watcher.communicate(timeout=20)
    assert watcher.returncode == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    assert [(each["topic"][5:], each["agent"], each["doubts"]) for each in found] == [
        ("g1/alerts/pump/a1", "g1", ["retained"]),
        ("g1/alerts/pump/a2", "g1", ["retained"]),
        ("g2/alerts/pump/a1", "g1", ["agent"]),
        ("g1/alerts/pump/a1", "g1", []),
        ("g2/alerts/pump/a1", "g2", ["shared_id"]),
    ]
    done = run_tool("edgetool", "watch", "--port", str(broker.port), "--for", "1")
    assert [line[:28] for line in sorted(done.stdout.splitlines())] == [
        "DOUBT  g1/pump/a1  retained,",
        "DOUBT  g1/pump/a2  retained,",
    ]


ACL = Path(__file__).parents[2] / "docs" / "mosquitto" / "acl"
USERS = ("press-7", "press-8", "a1", "viewer")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Each user's password is the user's name."""
    file = tmp_path / "users"
    file.write_text("".join(f"{user}:{user}\n" for user in USERS))
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True, capture_output=True, timeout=30)
    return file


FORGERIES = [
    ("a1", "edge/press-7/alerts/pump/a1"),
    ("a1", "edge/a1/alerts/pump/a1"),
    ("viewer", "edge/press-7/alerts/pump/a1"),
    ("viewer", "edge/viewer/alerts/pump/a1"),
    ("press-8", "edge/press-7/alerts/pump/a1"),
]
"""Who tries to publish an alert, and where."""


def test_the_rules_that_we_ship_let_alerts_through_and_no_forgery(tmp_path: Path, users: Path) -> None:
    """Live and retained. What the broker (2.0.11) kept before it had the rules still comes, and is marked."""
    rules = tmp_path / "acl"
    rules.write_text("pattern readwrite #\n")
    settings = f"password_file {users}\nacl_file {rules}\n"
    with Broker(tmp_path / "broker", rules=settings, anonymous=False) as broker:
        for user, topic in FORGERIES:
            with publishing(broker.port, user) as client:
                publish(client, f"{topic}-early", alert("press-7", id="early"), retain=True)
        rules.write_text(ACL.read_text())
        broker.stop()
        broker.start()
        (tmp_path / "p").write_text("viewer")
        command = [tool("edgetool"), "watch", "--port", str(broker.port), "--username", "viewer"]
        command += ["--password-file", str(tmp_path / "p"), "--json"]
        with subprocess.Popen(
            [*command, "--count", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watcher:
            assert watcher.stderr is not None
            assert watcher.stderr.readline().startswith("watching ")
            for user, topic in FORGERIES:
                for retain in (False, True):
                    with publishing(broker.port, user) as client:
                        publish(client, topic, alert("press-7", id=f"{user} {topic}"), retain=retain)
            for agent in ("press-7", "press-8"):
                with publishing(broker.port, agent) as client:
                    publish(client, f"edge/{agent}/alerts/pump/a1", alert(agent, id=agent))
            out, err = watcher.communicate(timeout=60)
        assert watcher.returncode == 0, err
        found = [json.loads(line) for line in out.splitlines()]
        assert [each["id"] for each in found if each["id"] != "early"] == ["press-7", "press-8"]
        assert [each["id"] for each in found if not each["doubts"]] == ["press-7", "press-8"]
        done = run_tool("edgetool", *command[1:], "--for", "1")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert [each for each in found if each["id"] != "early" or "retained" not in each["doubts"]] == []


def test_the_rules_that_we_ship_let_readings_through(tmp_path: Path, users: Path, bundle: Path) -> None:
    """A sensor's own, and not those of another's name; the agent scores them and publishes all that it has to tell."""
    (tmp_path / "p").write_text("press-7")
    mqtt = f'username = "press-7"\npassword_file = "{tmp_path / "p"}"'
    with Broker(tmp_path / "broker", rules=f"password_file {users}\nacl_file {ACL}\n", anonymous=False) as broker:
        seen: dict[str, Any] = {}
        with publishing(broker.port, "viewer") as viewer:
            viewer.on_message = lambda _client, _data, message: seen.update({message.topic: message.payload})
            viewer.subscribe("#", qos=1)
            with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, agent="press-7", mqtt=mqtt)):
                wait_until(lambda: "edge/press-7/health" in seen, what="the agent's health")
                for user, asset in (("a1", "a2"), ("viewer", "viewer"), ("press-8", "press-8"), ("a1", "a1")):
                    with publishing(broker.port, user) as client:
                        publish(client, f"sensors/{asset}/pump", b'{"c1": 9, "c2": 0}')
                with publishing(broker.port, "a1") as client:
                    publish(client, "sensors/a1/pump", b"not a reading")
                wait_until(lambda: "edge/press-7/alerts/pump/a1" in seen, what="the alert")
                wait_until(lambda: "edge/press-7/rejected" in seen, what="the sample")
            wait_until(lambda: b"offline" in seen["edge/press-7/status"], what="the goodbye")
    told = ["alerts/pump/a1", "health", "rejected", "status"]
    assert sorted(seen) == [f"edge/press-7/{each}" for each in told]


class Terminal:
    """A command on a terminal of its own, and what stands on the screen's last picture."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 140, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "20"}
        self.process = subprocess.Popen([tool("edgetool"), *arguments], stdout=theirs, stderr=subprocess.PIPE, env=env)
        os.close(theirs)
        self._told = bytearray()

    def screen(self) -> str:
        """Without colours; each picture begins with the cursor's way home."""
        while select.select([self._ours], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):  # it has ended
                self._told += os.read(self._ours, 65536)
                continue
            break
        last = self._told.decode(errors="replace").rpartition("\x1b[H")[2]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)


def test_a_large_fleet_is_heard_whole(tmp_path: Path) -> None:
    """Also behind a broker that passes over a part of what it retains, at QoS 1."""
    with Broker(tmp_path / "large", queued=1000) as broker, publishing(broker.port) as client:
        agents = [f"press-{number}" for number in range(800)]
        status = {
            "state": "online",
            "reason": "connected",
            "session": "s",
            "version": "1",
            "time": "2026-11-30T10:00:00Z",
        }
        said = [(f"edge/{agent}/status", status) for agent in agents]
        said += [(f"edge/{agent}/health", {"agent": agent, "time": "2026-11-30T10:00:00Z"}) for agent in agents]
        sent = [client.publish(topic, json.dumps(document), qos=1, retain=True) for topic, document in said]
        for each in sent:
            each.wait_for_publish(60)
        heard = 0
        for found in open_alerts(BrokerAddress(port=broker.port), seconds=20):
            heard = sum(agent.state == "online" and bool(agent.health_time) for agent in found.agents)
            if heard == len(agents):
                break
        assert heard == len(agents)


def test_open_alerts_are_a_table_on_a_terminal(broker: Broker) -> None:
    """With the last scores and who looks after them; what has ended is gone, and a name is not obeyed."""
    scores = {"agent": "g1", "stream": "pump", "asset": "a1", "time": "2026-11-21T10:15:30Z", "score": 1.0}
    with Terminal("watch", "--port", str(broker.port), "--live") as terminal, publishing(broker.port) as client:
        wait_until(lambda: "0 open alerts" in terminal.screen(), what="the empty table")
        for highest in (0.5, 2.0, 8.0):
            publish(
                client, "edge/g1/scores/pump/a1", json.dumps({**scores, "highest": highest, "threshold": 4}).encode()
            )
        publish(client, "edge/g1/alerts/pump/a1", alert("g1"))
        publish(client, "edge/g1/alerts/pump/a2", alert("g1", id="y", asset="a2", level="\x1b[2J[red]odd", threshold=3))
        publish(client, "edge/g1/marks/x", b'{"agent": "g1", "id": "x", "acknowledged": true, "by": "Ada"}')
        wait_until(lambda: "Ada" in terminal.screen(), what="who looks")
        screen = terminal.screen()
        assert "2 open alerts, 2 assets, 0 of 0 agents online" in screen
        assert screen.index("g1/pump/a2") < screen.index("g1/pump/a1")  # nobody looks after that
        assert "▁▃█" in screen
        assert "score 7.9 (limit 3.2)" in screen
        assert "\\x1b[2J[red]odd" in screen
        publish(client, "edge/g1/alerts/pump/a1", alert("g1", event="clear"))
        wait_until(lambda: "1 open alert," in terminal.screen(), what="the table without it")
        assert "g1/pump/a1" not in terminal.screen()
        terminal.process.send_signal(signal.SIGINT)
        wait_until(lambda: (terminal.screen(), terminal.process.poll())[1] is not None, what="its end")
        assert terminal.process.returncode == 0


def test_live_writes_lines_where_there_is_no_terminal(broker: Broker) -> None:
    """And goes with nothing that needs them."""
    with publishing(broker.port) as client:
        publish(client, "edge/g1/alerts/pump/a1", alert("g1"), retain=True)
    done = run_tool("edgetool", "watch", "--port", str(broker.port), "--live", "--for", "1")
    assert done.stdout.startswith("DOUBT  g1/pump/a1  retained")
    done = run_tool("edgetool", "watch", "--live", "--json")
    assert (done.returncode, done.stderr) == (2, "edgetool: --live: goes with neither --json nor --count\n")
