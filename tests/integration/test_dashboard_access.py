"""Who sees the pages of `edgetool dashboard`, and who may mark; asked as a program asks, and not a browser."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import paho.mqtt.client as paho
import pytest
from browser import Dashboard
from fakes import make_alert
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from processes import Broker, Sender, free_port, program, run_tool, wait_until

from edge_agent.messages.text import encode
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.history import History
from edgetool.monitoring.intake import Intake
from edgetool.subscription import Message

TOKEN = "correct horse battery"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:{port}", 200),
        ("127.0.0.1:{port}", 200),
        ("[::1]:1", 200),
        ("LOCALHOST", 200),
        ("rebound.example:{port}", 421),
        ("127.0.0.1.example", 421),
        ("localhost@rebound.example", 421),
        ("[", 421),
    ],
)
def test_only_this_machine_is_answered_by_its_own_names(broker: Broker, host: str, code: int) -> None:
    """A name of somebody else's that leads here (DNS rebinding) would let his page read everything."""
    with Dashboard(broker.port) as running:
        port = str(urlsplit(running.url).port)
        assert running.ask("/", host=host.format(port=port)).code == code
        running.stop()


def test_every_answer_forbids_what_is_not_ours(broker: Broker) -> None:
    """Pages, data, errors: no script or picture of another host, no frame; and data is kept by no cache."""
    with Dashboard(broker.port) as running:
        for path in ("/", "/static/fleet.js", "/api/curve", "/none", "/login"):
            headers = running.ask(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self'; object-src 'none'"), path
            assert headers["x-content-type-options"] == "nosniff"
            assert ("cache-control" in headers) is not path.startswith("/static/")
            assert "server" not in headers
        assert running.ask("/static/../server.py").code == 404
        assert running.ask("/static/%2e%2e/server.py").code == 404
        assert running.ask("/api/mark").code == 405
        running.stop()


MARK = json.dumps({"agent": "g1", "id": "x", "verdict": "true", "by": "Ada"})


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    """A history with that alert."""
    with History(tmp_path / "history.db", days=7, limit_mb=100) as history:
        event = encode(make_alert(agent="g1", id="x"))
        Intake(Fleet(), history).take(Message("edge/g1/alerts/pump/a1", event, is_retained=False))
    return tmp_path / "history.db"


def test_only_our_own_page_marks(broker: Broker, heard: Path) -> None:
    """A page of somebody else's may send a form to any address; its browser says whose page it is."""
    with Dashboard(broker.port, "--history", heard) as running:
        ours = running.url.rstrip("/")
        assert running.ask("/api/mark", body=MARK).code == 403
        assert running.ask("/api/mark", body=MARK, origin="null").code == 403
        assert running.ask("/api/mark", body=MARK, origin="http://other.example").code == 403
        assert running.ask("/api/mark", body=MARK, origin=ours, sec_fetch_site="cross-site").code == 403
        assert running.ask("/api/mark", body=MARK, origin=ours, sec_fetch_site="same-site").code == 403
        answer = running.ask("/api/mark", body=MARK, origin=ours)
        assert (answer.code, json.loads(answer.body)["verdict"]) == (200, "true")
        assert running.ask("/api/mark", body=MARK, sec_fetch_site="same-origin").code == 200
        running.stop()


def test_an_alert_that_nobody_heard_of_is_not_marked(broker: Broker, sender: Sender) -> None:
    """A mark would be retained at the broker, of nothing. One that another dashboard has marked is there, though."""
    with Dashboard(broker.port) as running:
        ours = running.url.rstrip("/")
        answer = running.ask("/api/mark", body=MARK, origin=ours)
        assert answer[:2] == (404, "no such alert was heard here, so nobody can say anything of it")
        assert running.ask("/api/alert?agent=g1&id=x")[:2] == (404, "nothing was heard here of such an alert")
        sender.send("edge/g1/marks/x", {"agent": "g1", "id": "x", "note": "theirs", "by": "Bob"}, retain=True)
        wait_until(lambda: running.ask("/api/alert?agent=g1&id=x").code == 200, what="the mark of somebody else")
        story = json.loads(running.ask("/api/alert?agent=g1&id=x").body)
        assert (story["alert"], story["mark"]["note"]) == (None, "theirs")
        marked = json.loads(running.ask("/api/mark", body=MARK, origin=ours).body)
        assert (marked["by"], marked["note"], marked["verdict"]) == ("Ada", "theirs", "true")
        running.stop()


def test_a_broker_forgets_a_mark_in_time(broker: Broker, heard: Path) -> None:
    """With MQTT 5: retained messages of alerts that are long gone would become ever more."""
    came: list[dict[str, Any]] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda _client, _data, message: came.append(
        {"retain": message.retain, **vars(message.properties)}
    )
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    with Dashboard(broker.port, "--history", heard) as running:
        assert running.ask("/api/mark", body=MARK, origin=running.url.rstrip("/")).code == 200
        client.subscribe("edge/g1/marks/x")
        wait_until(lambda: came, what="the mark that the broker keeps")
        running.stop()
    client.disconnect()
    client.loop_stop()
    assert came[0]["retain"] is True
    assert 89 * 86_400 < came[0]["MessageExpiryInterval"] <= 90 * 86_400


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "agent and id: expected the names of an alert"),
        ({"agent": "g1", "id": "a/b"}, "agent and id: expected the names of an alert"),
        ({"agent": "+", "id": "x"}, "agent and id: expected the names of an alert"),
        ({"agent": "g1", "id": "x", "verdict": "maybe"}, "Invalid enum value 'maybe' - at `$.verdict`"),
        ({"agent": "g1", "id": "x", "note": "n" * 2001}, "Expected `str` of length <= 2000 - at `$.note`"),
        ({"agent": "g1", "id": "x", "by": 7}, "Expected `str`, got `int` - at `$.by`"),
        ([], "Expected `object`, got `array`"),
        ({"note": "n" * 20_000}, "expected at most 16384 bytes"),
    ],
)
def test_what_is_no_mark_is_refused(broker: Broker, document: object, said: str) -> None:
    """With what was expected, and without a word to the broker."""
    with Dashboard(broker.port) as running:
        answer = running.ask("/api/mark", body=json.dumps(document), origin=running.url.rstrip("/"))
        assert (answer.code, answer.body) == (400, said)
        running.stop()


def test_a_token_is_asked_for(broker: Broker, token_file: Path) -> None:
    """Of everything but the form that asks for it, its style, and the answer to whoever keeps the dashboard running."""
    with Dashboard(broker.port, "--token-file", token_file) as running:
        for path in ("/events", "/api/curve", "/api/alert", "/metrics", "/static/fleet.js", "/static/../"):
            assert running.ask(path).code == 401, path
        for path in ("/login", "/static/style.css", "/static/icon.svg", "/healthz"):
            assert running.ask(path).code == 200, path
        asked = running.ask("/alert?agent=g1&id=x", accept="text/html")
        assert (asked.code, asked.headers["location"]) == (303, "login?next=alert%3Fagent%3Dg1%26id%3Dx")
        deeper = running.ask("/static/fleet.js", accept="text/html").headers["location"]
        assert deeper == "../login?next=static%2Ffleet.js"
        assert running.ask("/metrics", authorization=f"Bearer {TOKEN}").code == 200
        begun = time.monotonic()
        assert running.ask("/metrics", authorization="Bearer wrong").code == 401
        assert time.monotonic() - begun > 0.9  # a guess takes its time
        form = {"origin": running.url.rstrip("/"), "content_type": "application/x-www-form-urlencoded"}
        wrong = running.ask("/login", body=urlencode({"token": "wrong"}), **form)
        assert (wrong.code, "That is not the token." in wrong.body) == (401, True)
        entered = running.ask(f"/{asked.headers['location']}", body=urlencode({"token": TOKEN}), **form)
        assert (entered.code, entered.headers["location"]) == (303, "./alert?agent=g1&id=x")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert TOKEN not in cookie
        assert running.ask("/", cookie=cookie.partition(";")[0]).code == 200
        assert running.ask("/", cookie="edgetool-dashboard=0123").code == 401
        assert running.ask("/", cookie='\x7f=;="').code == 401
        others = (
            "//other.example",
            "/\\other.example",
            "https://other.example",
            "/\t/other.example",
            "/asset",
            "alert?\n",
        )
        for goal in others:
            entered = running.ask(f"/login?{urlencode({'next': goal})}", body=urlencode({"token": TOKEN}), **form)
            assert entered.headers["location"] == "./", goal
        running.stop()


def test_others_are_let_in_by_a_token_or_a_proxy_only(broker: Broker, token_file: Path, tmp_path: Path) -> None:
    """An address that others can reach is refused without one, and a token that is easily guessed is none."""
    short = tmp_path / "short"
    short.write_text("guess")
    listen = f"0.0.0.0:{free_port()}"
    command = ["edgetool", "dashboard", "--port", str(broker.port), "--listen"]
    for arguments, said in (
        ((listen,), "--listen 0.0.0.0: others can reach it; give --token-file FILE, or --behind-proxy if a proxy asks"),
        ((listen, "--token-file", str(short)), f"--token-file '{short}': expected 16 characters or more"),
        ((listen, "--token-file", str(tmp_path / "none")), f"--token-file '{tmp_path / 'none'}': cannot be read"),
        (("8080",), "--listen '8080': expected HOST:PORT"),
        (("::1:8080",), "--listen '::1:8080': expected HOST:PORT"),
        (("127.0.0.1:0", "--days", "3"), "--days and --history-mb: bound the file of --history; give that, too"),
        (("127.0.0.1:0", "--history-mb", "3"), "--days and --history-mb: bound the file of --history; give that, too"),
    ):
        done = run_tool(*command, *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"edgetool: {said}"), done.stderr
    for more in (("--token-file", token_file), ("--behind-proxy",)):
        with Dashboard(broker.port, "--listen", listen, *more) as running:
            port = listen.rpartition(":")[2]
            running.url = f"http://127.0.0.1:{port}/"
            headers = {"host": "plant.example", "authorization": f"Bearer {TOKEN}"}
            assert running.ask("/", **headers).code == 200
            running.stop()


def test_a_proxy_may_leave_it_to_the_token(broker: Broker, token_file: Path) -> None:
    """As one that only gives TLS: any name of a host is let through, and the token is asked for."""
    with Dashboard(broker.port, "--behind-proxy", "--token-file", token_file) as running:
        assert running.ask("/metrics", host="plant.example").code == 401
        assert running.ask("/metrics", host="plant.example", authorization=f"Bearer {TOKEN}").code == 200
        running.stop()


def test_an_address_that_is_taken_and_a_file_that_is_none_are_told(broker: Broker, tmp_path: Path) -> None:
    """In one line."""
    command = ["edgetool", "dashboard", "--port", str(broker.port), "--listen"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_tool(*command, listen)
    assert done.returncode == 2
    assert done.stderr == f"edgetool: --listen {listen}: cannot be had (Address already in use)\n"
    other = tmp_path / "other.db"
    other.write_text("no database, but a text that is longer than the head of one, which has a hundred bytes. " * 2)
    done = run_tool(*command, "127.0.0.1:0", "--history", other)
    assert (done.returncode, len(done.stderr.splitlines())) == (65, 1)
    assert done.stderr.startswith(f"edgetool: {other}: cannot be used as a history (file is not a database)")


def test_a_history_has_one_dashboard(broker: Broker, tmp_path: Path) -> None:
    """A second one is told to take another file."""
    file = tmp_path / "history.db"
    command = ("edgetool", "dashboard", "--port", str(broker.port), "--listen", "127.0.0.1:0")
    with Dashboard(broker.port, "--history", file) as running:
        done = run_tool(*command, "--history", file)
        assert done.returncode == 65
        assert done.stderr.startswith(f"edgetool: {file}: another dashboard keeps its history there")
        running.stop()


def test_metrics_and_health_are_told(broker: Broker, tmp_path: Path) -> None:
    """By the rules of Prometheus; while the broker is away, whoever keeps the dashboard running is told."""
    with Dashboard(broker.port, "--history", tmp_path / "history.db") as running:
        assert running.ask("/healthz")[:2] == (200, "well\n")
        answer = running.ask("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = answer.body.splitlines()
        assert "edgetool_dashboard_broker_connected 1" in lines
        assert len({line.split()[2] for line in lines if line.startswith("# TYPE")}) == 10
        command = [program("promtool"), "check", "metrics"]
        done = subprocess.run(command, input=answer.body, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        broker.stop()
        wait_until(
            lambda: running.ask("/healthz")[:2] == (503, "not well: no connection to the broker\n"), what="not well"
        )
        broker.start()
        wait_until(lambda: running.ask("/healthz").code == 200, what="well again")
        running.stop()


def test_a_page_that_reads_nothing_costs_no_memory(broker: Broker) -> None:
    """And the others are told on; as many as a hundred may be open."""
    with Dashboard(broker.port) as running:
        where = urlsplit(running.url)
        open_pages = []
        for _ in range(100):
            sock = socket.create_connection((where.hostname, where.port), timeout=20)
            sock.sendall(f"GET /events HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            open_pages.append(sock)
        wait_until(lambda: "viewers 100" in running.ask("/metrics").body, what="a hundred pages")
        assert running.ask("/events")[:2] == (503, "too many pages are open")
        for sock in open_pages:
            sock.close()
        wait_until(lambda: "viewers 0" in running.ask("/metrics").body, what="that they have gone")
        running.stop()


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    """In one line, and with its own exit code."""
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError(name='uvicorn')")
    done = run_tool("edgetool", "dashboard", env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"})
    assert done.returncode == 69
    assert done.stderr == "edgetool: needs uvicorn, which is not installed; run: pip install 'edge-agent[dashboard]'\n"


ACL = Path(__file__).parents[2] / "docs" / "mosquitto" / "acl"


@pytest.mark.parametrize(("user", "code"), [("dashboard", 200), ("viewer", 503)])
def test_the_rules_that_we_ship_let_the_dashboard_mark(tmp_path: Path, heard: Path, user: str, code: int) -> None:
    """And nobody who only reads: mosquitto 2.0 says nothing of it, but does not give the mark back either."""
    users = tmp_path / "users"
    users.write_text(f"{user}:{user}\n")
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True, capture_output=True, timeout=30)
    password = tmp_path / "password"
    password.write_text(user)
    rules = f"password_file {users}\nacl_file {ACL}\n"
    with (
        Broker(tmp_path / "broker", rules=rules, anonymous=False) as broker,
        Dashboard(broker.port, "--history", heard, "--username", user, "--password-file", password) as running,
    ):
        answer = running.ask("/api/mark", body=MARK, origin=running.url.rstrip("/"))
        assert answer.code == code, answer.body
        running.stop()
