"""What the dashboard and its broker have of each other while one of them is away."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from browser import Dashboard
from fakes import make_alert
from paho.mqtt.enums import CallbackAPIVersion
from processes import Broker, Sender, free_port, run_tool, wait_until

from edge_agent.messages.text import encode


def send_alert(sender: Sender, alert_id: str, *events: str) -> None:
    """Tell of an alert, of g1's asset a1."""
    for number, event in enumerate(events):
        time = f"2026-11-21T10:16:{number:02}Z"
        sender.send("edge/g1/alerts/pump/a1", encode(make_alert(agent="g1", id=alert_id, event=event, time=time)))


def events_of(running: Dashboard, alert_id: str) -> list[str]:
    """The events of an alert in the history."""
    answer = running.ask(f"/api/alert?agent=g1&id={alert_id}")
    return [each["event"] for each in json.loads(answer.body)["events"]] if answer.code == 200 else []


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_dashboard_hears_what_was_told_while_it_was_away(
    broker: Broker, sender: Sender, tmp_path: Path, protocol: str, how: signal.Signals
) -> None:
    """With a history: the broker keeps alerts for it. Of health and scores it has the newest, and no others."""
    arguments = ("--history", tmp_path / "history.db", "--protocol", protocol)
    with Dashboard(broker.port, *arguments) as running:
        send_alert(sender, "before", "raise")
        wait_until(lambda: events_of(running, "before") == ["raise"], what="the alert")
        running.stop() if how is signal.SIGTERM else running.kill()
        send_alert(sender, "before", "raise", "clear")
        send_alert(sender, "meanwhile", "raise", "clear")
        for number in range(3):
            sender.send("edge/g1/health", {"agent": "g1", "time": f"{number}"}, retain=True)
        sender.drain()
        running.start()
        wait_until(lambda: events_of(running, "meanwhile") == ["raise", "clear"], what="what was told meanwhile")
        assert events_of(running, "before") == ["raise", "clear"]
        wait_until(lambda: 'messages_total{kind="health"} 1\n' in running.ask("/metrics").body, what="health, once")
        running.stop()


def test_a_copy_of_a_history_has_a_name_of_its_own(broker: Broker, sender: Sender, tmp_path: Path) -> None:
    """Two dashboards with one name would end each other's connections, and each would miss half of the alerts."""
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    with Dashboard(broker.port, "--history", one) as first:
        send_alert(sender, "x1", "raise")
        wait_until(lambda: events_of(first, "x1"), what="the alert")
        first.stop()
        shutil.copy2(one, other)
        first.start()
        with Dashboard(broker.port, "--history", other) as second:
            for number in range(20):
                send_alert(sender, f"y{number}", "raise")
            for each in (first, second):
                wait_until(lambda each=each: events_of(each, "y19"), what="the last alert")  # type: ignore[misc]
                assert events_of(each, "x1") == ["raise"]
                assert each.ask("/healthz").code == 200
            second.stop()
        first.stop()
    # A name that ends another's connection is told by mosquitto.
    assert "already connected" not in broker.log.read_text()


class Marks:
    """What a broker has on the topics of marks: what it retains when asked anew, and all that comes."""

    def __init__(self, port: int) -> None:
        self.retained: dict[str, dict[str, Any]] = {}
        self.came: list[dict[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("edge/+/marks/+", qos=1)
        self._client.on_message = lambda _client, _data, message: self._take(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, message: paho.MQTTMessage) -> None:
        mark = json.loads(message.payload)
        if message.retain:
            self.retained[mark["id"]] = mark
        else:
            self.came.append(mark)

    def __enter__(self) -> Marks:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # see `Neighbour`


def mark_at(port: int, alert_id: str, within_s: float = 20.0) -> dict[str, Any] | None:
    """The mark that a broker has now; None if it gives none within that time."""
    with Marks(port) as marks:
        with suppress(AssertionError):
            wait_until(lambda: alert_id in marks.retained, within_s)
        return marks.retained.get(alert_id)


def test_marks_survive_a_broker_that_keeps_nothing(tmp_path: Path) -> None:
    """Dashboards publish again what it has lost, the newest of each alert, and then are quiet."""
    status = {"state": "online", "reason": "", "session": "", "time": "", "version": ""}
    with (
        Broker(tmp_path / "broker", persistence=False) as broker,
        Dashboard(broker.port, "--history", tmp_path / "one.db") as one,
        Dashboard(broker.port, "--history", tmp_path / "other.db") as other,
    ):
        for alert_id, said_to in (("x1", [one]), ("x2", [one, other])):
            with Sender(broker.port) as sender:
                sender.send("edge/g1/status", status, retain=True)
                send_alert(sender, alert_id, "raise")
                sender.drain()
            for number, each in enumerate(said_to):
                wait_until(lambda each=each, it=alert_id: events_of(each, it), what="the alert")  # type: ignore[misc]
                body = json.dumps({"agent": "g1", "id": alert_id, "note": f"said {number}", "by": "Ada"})
                assert each.ask("/api/mark", body=body, origin=each.url.rstrip("/")).code == 200
            one.stop()  # it does not hear what is said of x2 at the other one
            if alert_id == "x1":
                one.start()
        broker.stop()
        broker.start()
        wait_until(lambda: other.ask("/healthz").code == 200, what="the connection")
        one.start()
        assert mark_at(broker.port, "x1", 1.0) is None  # the agent is not known yet, and may have been retired
        with Marks(broker.port) as marks, Sender(broker.port) as sender:
            sender.send("edge/g1/status", status, retain=True)
            wait_until(lambda: len({mark["id"] for mark in marks.came}) == 2, what="the marks")
            time.sleep(12)  # longer than a lost mark waits to be published again, twice
            found = [mark_at(broker.port, name) for name in ("x1", "x2")]
            assert [mark and mark["note"] for mark in found] == ["said 0", "said 1"]
            assert len(marks.came) <= 5, marks.came
        for each in (one, other):
            story = json.loads(each.ask("/api/alert?agent=g1&id=x2").body)
            assert story["mark"]["note"] == "said 1"
            each.stop()


def test_a_broker_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """As after a power cut, when the service may start first. Whoever looks is told why there is no connection."""
    with Broker(tmp_path / "broker") as broker:
        broker.stop()
        with Dashboard(broker.port, "--history", tmp_path / "history.db") as running:
            where = f"broker 127.0.0.1:{broker.port}: cannot be reached ([Errno 111] Connection refused)"
            assert running.said == f"waiting for the broker reason={where}; give it with --host and --port\n"
            assert running.ask("/healthz")[:2] == (503, "not well: no connection to the broker\n")
            mark = json.dumps({"agent": "g1", "id": "x", "verdict": "true"})
            refused = running.ask("/api/mark", body=mark, origin=running.url.rstrip("/"))
            assert (refused.code, "there is no connection" in refused.body) == (503, True)
            broker.start()
            wait_until(lambda: running.ask("/healthz")[:2] == (200, "well\n"), what="the connection")
            running.stop()


def test_a_dashboard_that_waits_ends_when_it_is_told(tmp_path: Path) -> None:
    """Within seconds, and with 0."""
    with Dashboard(free_port(), "--history", tmp_path / "history.db") as running:
        running.stop()


def test_what_waiting_does_not_heal_is_told_at_once(tmp_path: Path) -> None:
    """A name that is none, and a password that is wrong; in one line, and with 69."""
    users, password = tmp_path / "users", tmp_path / "password"
    users.write_text("ada:right\n")
    password.write_text("wrong")
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True, capture_output=True, timeout=30)
    command = ("edgetool", "dashboard", "--listen", "127.0.0.1:0")
    with Broker(tmp_path / "broker", rules=f"password_file {users}\n", anonymous=False) as broker:
        arguments = ("--port", str(broker.port), "--username", "ada", "--password-file", password)
        done = run_tool(*command, *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (69, 1)
        assert done.stderr.endswith("(Not authorized); check --username and --password-file\n")
    done = run_tool(*command, "--host", "no-such-host.invalid")
    assert (done.returncode, len(done.stderr.splitlines())) == (69, 1)
    assert done.stderr.startswith("edgetool: broker no-such-host.invalid:1883: cannot be reached (")


def test_a_broker_that_comes_and_refuses_ends_it(tmp_path: Path) -> None:
    """Though its pages were there while it waited: nobody would look for a wrong password there."""
    users, password = tmp_path / "users", tmp_path / "password"
    users.write_text("ada:right\n")
    password.write_text("wrong")
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True, capture_output=True, timeout=30)
    with Broker(tmp_path / "broker", rules=f"password_file {users}\n", anonymous=False) as broker:
        broker.stop()
        with Dashboard(broker.port, "--username", "ada", "--password-file", password) as running:
            assert running.process is not None
            assert running.process.stderr is not None
            broker.start()
            assert running.process.wait(timeout=30) == 69
            assert running.process.stderr.read().endswith("(Not authorized); check --username and --password-file\n")
