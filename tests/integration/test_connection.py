"""The connection to the broker: TLS, certificates that change, refusals, silence, and two brokers."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from certificates import Authority
from fakes import write_bundle
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config
from proxy import Proxy
from raw_broker import RawBroker, acknowledge, publish_packet

from edge_agent.mqtt.opening import Opener, PahoClient
from edge_agent.mqtt.settings import BrokerSettings, Transport
from edge_agent.mqtt.trouble import Reason, Trouble


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "authority of the broker")


def tls(authority: Authority, certificate: tuple[Path, Path], *more: str) -> str:
    """Settings of a listener that speaks TLS."""
    file, key = certificate
    return "\n".join([f"cafile {authority.file}", f"certfile {file}", f"keyfile {key}", *more])


def log_of(agent: Agent) -> str:
    return agent.log.read_text(encoding="utf-8")


def raises_an_alert(sender: Sender, subscriber: Subscriber) -> None:
    """A reading goes in, and its alert comes out."""
    before = len(subscriber.alerts)
    sender.send("sensors/a1/pump", {"c1": 0 if before % 2 else 9, "c2": 0})
    wait_until(lambda: len(subscriber.alerts) == before + 1, what="the alert")


WAYS = {
    "tls": ("", ""),
    "mutual tls": ("require_certificate true", 'cert_file = "{cert}"\nkey_file = "{key}"'),
    "websockets": ("protocol websockets", 'transport = "websockets"\npath = "/mqtt"'),
    "websockets with tls": ("protocol websockets", 'transport = "websockets"\npath = "/mqtt"'),
}


@pytest.mark.parametrize("way", WAYS)
def test_readings_and_alerts_get_through(tmp_path: Path, authority: Authority, bundle: Path, way: str) -> None:
    """By every way to the broker: a large message that is no reading, and two hundred readings with an event each."""
    listener, mqtt = WAYS[way]
    cert, key = authority.issue("agent")
    mqtt = mqtt.format(cert=cert, key=key)
    if "tls" in way:
        listener = tls(authority, authority.issue("broker"), listener)
        mqtt += f'\nca_file = "{authority.file}"'
    with Broker(tmp_path / "broker", second=listener) as broker, Subscriber(broker.port) as subscriber:
        config = write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt)
        with Agent(config), Sender(broker.port) as sender:
            subscriber.wait_online()
            # Mosquitto 2.0 writes a large message to a websocket at 40 kB/s.
            sender.send("sensors/a1/pump", bytes(80_000 if "websockets" in way else 3_000_000))
            for number in range(200):
                sender.send("sensors/a1/pump", {"time": 100.0 + number, "c1": 0 if number % 2 else 9, "c2": 0})
            wait_until(lambda: len(subscriber.alerts) == 200, what="the events")
            wait_until(lambda: subscriber.stream("pump").get("scored") == 200)
            wait_until(lambda: subscriber.health.get("queue_depth") == 0)
    assert subscriber.stream("pump")["rejected"] == {"not_json" if "websockets" in way else "too_large": 1}
    assert [event.event for event in subscriber.alerts] == ["raise", "clear"] * 100
    assert subscriber.health["broker"]["address"].startswith("ws" if "websockets" in way else "mqtts:")
    assert subscriber.health["broker"]["problem"] is None


REFUSALS = {
    "broker's certificate has expired": ("broker_certificate", "certificate has expired"),
    "unknown authority": ("broker_certificate", "self-signed certificate in certificate chain"),
    "certificate of another host": ("host_name", "not valid for '127.0.0.1'"),
    "no certificate of ours": ("own_certificate", "wants one"),
    "our certificate has expired": ("own_certificate", "does not take our certificate"),
    "key of another certificate": ("file", "the key is not that of the certificate"),
    "encrypted key": ("file", "the key is encrypted"),
    "wrong password": ("not_authorised", "not authorized"),
    "wrong password in MQTT 3.1.1": ("not_authorised", "not authorized"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_waiting_does_not_heal_is_told_with_what_to_do(
    tmp_path: Path, authority: Authority, bundle: Path, case: str
) -> None:
    """Once in the log, as an error with the kind of refusal; and it is tried again about once a minute."""
    good = authority.issue("broker")
    served, mutual, ca_file, mqtt = good, "", authority.file, ""
    ours = authority.issue("agent", days=-1 if case == "our certificate has expired" else 1)
    if case == "broker's certificate has expired":
        served = authority.issue("old", days=-1)
    elif case == "unknown authority":
        ca_file = Authority(tmp_path / "other").file
    elif case == "certificate of another host":
        served = authority.issue("elsewhere", host="broker.example")
    elif case == "key of another certificate":
        ours = (ours[0], good[1])
    elif case == "encrypted key":
        locked = tmp_path / "locked.key"
        command: list[str | Path] = ["openssl", "pkcs8", "-topk8", "-in", ours[1], "-out", locked, "-passout", "pass:x"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        ours = (ours[0], locked)
    if case.startswith(("no certificate", "our certificate")):
        mutual = "require_certificate true"
    if not case.startswith("no certificate"):
        mqtt = f'cert_file = "{ours[0]}"\nkey_file = "{ours[1]}"'
    rules = ""
    if "password" in case:
        (tmp_path / "password").write_text("wrong\n")
        mqtt += f'\nusername = "agent"\npassword_file = "{tmp_path / "password"}"'
        mqtt += '\nprotocol = "3.1.1"' if "3.1.1" in case else ""
        rules = f"password_file {password_file(tmp_path, 'right')}\n"
    with Broker(tmp_path / "broker", second=tls(authority, served, mutual), rules=rules) as broker:
        mqtt += f'\nca_file = "{ca_file}"'
        with Agent(write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt)) as agent:
            kind, words = REFUSALS[case]
            wait_until(lambda: f"reason={kind} " in log_of(agent), what=f"reason={kind} in {agent.log}")
            time.sleep(2)  # with the ordinary pauses there would be more attempts by now
            assert agent.stop() == 0
    lines = [line for line in log_of(agent).splitlines() if "edge_agent.mqtt" in line and "reason=" in line]
    assert len(lines) == 1, lines
    assert "ERROR" in lines[0]
    assert words in lines[0]
    assert "check " in lines[0] or "give host" in lines[0] or "repair" in lines[0], lines[0]
    assert float(lines[0].partition("retry_s=")[2].split(";")[0]) >= 45
    assert "trying 3.1.1" not in log_of(agent)


def password_file(folder: Path, password: str, user: str = "agent") -> Path:
    """Mosquitto's list of one user."""
    file = folder / "users"
    file.write_text(f"{user}:{password}\n")
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True, capture_output=True, timeout=30)
    return file


def test_a_password_that_is_put_right_in_its_file_is_used_at_once(tmp_path: Path, bundle: Path) -> None:
    """Nobody waits for the slow pause, and nobody restarts the agent."""
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    rules = f"password_file {password_file(tmp_path, 'right')}\n"
    mqtt = f'username = "agent"\npassword_file = "{secret}"'
    with (
        Broker(tmp_path / "broker", rules=rules) as broker,
        Subscriber(broker.port) as subscriber,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt)) as agent,
    ):
        wait_until(lambda: "reason=not_authorised" in log_of(agent))
        assert subscriber.statuses == []
        secret.write_text("right\n")
        subscriber.wait_online()


def test_user_name_and_password_may_be_systemd_credentials(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a line about them in agent.toml."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "mqtt-username").write_text("agent\n")
    (folder / "mqtt-password").write_text("right\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    rules = f"password_file {password_file(tmp_path, 'right')}\n"
    with Broker(tmp_path / "broker", rules=rules) as broker, Subscriber(broker.port) as subscriber:
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
            subscriber.wait_online()
        assert "u'agent'" in broker.log.read_text()


def test_a_replaced_certificate_is_used_without_a_restart(tmp_path: Path, authority: Authority, bundle: Path) -> None:
    """The broker sees the new name within a minute, the agent was never offline, and no reading is lost."""
    cert, key = tmp_path / "agent.pem", tmp_path / "agent.key"
    for target, source in zip((cert, key), authority.issue("first"), strict=True):
        target.write_bytes(source.read_bytes())
    second = authority.issue("second")
    listener = tls(authority, authority.issue("broker"), "require_certificate true", "use_identity_as_username true")
    mqtt = f'ca_file = "{authority.file}"\ncert_file = "{cert}"\nkey_file = "{key}"'
    with Broker(tmp_path / "broker", second=listener) as broker, Subscriber(broker.port) as subscriber:
        config = write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt)
        with Agent(config) as agent, Sender(broker.port) as sender:
            subscriber.wait_online()
            assert "u'first'" in broker.log.read_text()
            cert.write_bytes(second[0].read_bytes())
            time.sleep(1)  # whoever replaces two files does not do so at once
            key.write_bytes(second[1].read_bytes())
            sent = 0
            limit = time.monotonic() + 60
            while "u'second'" not in broker.log.read_text():
                assert time.monotonic() < limit, "the new certificate was not used within a minute"
                sender.send("sensors/a1/pump", {"time": 100.0 + sent, "c1": 0 if sent % 2 else 9, "c2": 0})
                sent += 1
                time.sleep(0.01)  # spread over the change of certificates
            wait_until(lambda: len({(e.id, e.event) for e in subscriber.alerts}) == sent, what="every event")
            wait_until(lambda: subscriber.health["connects"] == 2)
            assert "connection lost" not in log_of(agent)
        assert [status["state"] for status in subscriber.statuses[:2]] == ["online", "online"]


def test_files_that_do_not_fit_together_do_not_end_a_good_connection(
    tmp_path: Path, authority: Authority, bundle: Path
) -> None:
    """A certificate without its key: the log says so, and the present connection goes on."""
    cert, key = authority.issue("agent")
    listener = tls(authority, authority.issue("broker"), "require_certificate true")
    mqtt = f'ca_file = "{authority.file}"\ncert_file = "{cert}"\nkey_file = "{key}"'
    with Broker(tmp_path / "broker", second=listener) as broker, Subscriber(broker.port) as subscriber:
        config = write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt)
        with Agent(config) as agent, Sender(broker.port) as sender:
            subscriber.wait_online()
            cert.write_bytes(authority.issue("other")[0].read_bytes())
            wait_until(lambda: "changed files cannot be used yet" in log_of(agent), 60)
            raises_an_alert(sender, subscriber)
            assert subscriber.health["connects"] == 1


@pytest.mark.parametrize("option", ["insecure_skip_host_name_check", "insecure_skip_certificate_check"])
def test_what_weakens_security_is_told(tmp_path: Path, authority: Authority, bundle: Path, option: str) -> None:
    """In the log at every start, and in health; and it does what its name says."""
    certificate = authority.issue("elsewhere", host="broker.example")
    other = Authority(tmp_path / "other").file if "certificate" in option else authority.file
    mqtt = f'ca_file = "{other}"\n{option} = true'
    with (
        Broker(tmp_path / "broker", second=tls(authority, certificate)) as broker,
        Subscriber(broker.port) as subscriber,
        Agent(write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt)) as agent,
    ):
        wait_until(lambda: subscriber.health)
        assert subscriber.health["broker"]["insecure"] == [option]
        warnings = [line for line in log_of(agent).splitlines() if "WARNING" in line and option in line]
        assert len(warnings) == 1


ACCESS = """\
topic readwrite #
user agent
topic read sensors/#
topic write edge/g1/status
topic write edge/g1/health
{more}
"""


def test_an_alert_that_the_broker_refuses_is_kept_and_told(tmp_path: Path, bundle: Path) -> None:
    """MQTT 5: PUBACK may be a refusal. The alert waits in the journal until the access rules are put right.

    It is tried again after a minute, so this takes that long. Mosquitto 2.0.11 ends the connection with the refusal.
    """
    rules = tmp_path / "rules"
    rules.write_text(ACCESS.format(more=""))
    (tmp_path / "password").write_text("right")
    mqtt = f'username = "agent"\npassword_file = "{tmp_path / "password"}"'
    settings = f"password_file {password_file(tmp_path, 'right')}\nacl_file {rules}\n"
    topic = "edge/g1/alerts/pump/a1"
    with (
        Broker(tmp_path / "broker", rules=settings) as broker,
        Subscriber(broker.port) as subscriber,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt)) as agent,
    ):
        with Sender(broker.port) as sender:
            subscriber.wait_online()
            sender.send("sensors/a1/pump", {"c1": 9, "c2": 0})
            wait_until(lambda: f"message refused topic={topic}" in log_of(agent))
            wait_until(lambda: subscriber.health.get("broker", {}).get("refused") == {topic: "not authorized"})
            assert subscriber.health["queue_depth"] == 1
            assert subscriber.alerts == []
            rules.write_text(ACCESS.format(more="topic write edge/g1/alerts/pump/a2"))
            broker.reload()
            sender.send("sensors/a2/pump", {"c1": 9, "c2": 0})
            wait_until(lambda: [event.asset for event in subscriber.alerts] == ["a2"], what="the other asset's alert")
        rules.write_text(ACCESS.format(more="topic write edge/g1/alerts/#"))
        broker.reload()
        wait_until(lambda: [event.asset for event in subscriber.alerts] == ["a2", "a1"], 120, what="the alert")
        wait_until(lambda: subscriber.health["queue_depth"] == 0)
        wait_until(lambda: subscriber.health.get("broker", {}).get("refused") == {})


def test_a_broker_that_ends_the_connection_in_place_of_a_refusal_keeps_no_other_alert(
    tmp_path: Path, bundle: Path
) -> None:
    """Mosquitto 2.0.11 does, and of several refusals on their way nothing arrives; readings are scored meanwhile."""
    rules = tmp_path / "rules"
    rules.write_text(ACCESS.format(more="topic write edge/g1/alerts/pump/good"))
    (tmp_path / "password").write_text("right")
    mqtt = f'username = "agent"\npassword_file = "{tmp_path / "password"}"'
    settings = f"password_file {password_file(tmp_path, 'right')}\nacl_file {rules}\n"
    with (
        Broker(tmp_path / "broker", rules=settings) as broker,
        Subscriber(broker.port) as subscriber,
        Sender(broker.port) as sender,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt)) as agent,
    ):
        subscriber.wait_online()
        for asset in ("a1", "a2", "a3", "a4", "good"):
            sender.send(f"sensors/{asset}/pump", {"c1": 9, "c2": 0})
        subscriber.wait_events("raise", timeout_s=60)
        wait_until(lambda: all(f"refused topic=edge/g1/alerts/pump/a{n}" in log_of(agent) for n in (1, 2, 3, 4)), 60)
        sender.send("sensors/good/pump", {"c1": 0, "c2": 0})
        subscriber.wait_events("raise", "clear")
        wait_until(lambda: subscriber.health.get("queue_depth") == 4)
        wait_until(lambda: subscriber.stream("pump")["scored"] == 6)


@pytest.mark.parametrize("code", [0x87, 0x97], ids=["not authorized", "quota exceeded"])
def test_a_broker_that_ends_the_connection_with_a_reason_keeps_no_other_alert(
    tmp_path: Path, bundle: Path, code: int
) -> None:
    """MQTT 5 lets a broker answer a message that it forbids by DISCONNECT: which one it was, it does not say."""

    def answer(topic: bytes, mid: bytes) -> bytes:
        return b"\xe0\x01" + bytes([code]) if topic.endswith(b"/a0") else acknowledge(topic, mid)

    with RawBroker(answer) as broker, Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        assert broker.subscribed.wait(20)
        for number in range(5):
            broker.send(publish_packet(b"sensors/a%d/pump" % number, b'{"time":1,"c1":9,"c2":0}', number + 1))
        wanted = {b"edge/g1/alerts/pump/a%d" % number for number in range(1, 5)}
        wait_until(lambda: {topic for topic, _ in broker.published} >= wanted, 30, what="the other alerts")
        wait_until(lambda: "refused topic=edge/g1/alerts/pump/a0" in log_of(agent))


def test_whatever_comes_is_acknowledged_in_its_order(tmp_path: Path, bundle: Path) -> None:
    """Good readings with all that is none between them: PUBACKs go in the order of the messages [MQTT-4.6.0-2]."""
    good, topic = b'{"time":%d,"c1":9,"c2":0}', b"sensors/a1/pump"
    packets = [
        publish_packet(topic, good % 1, 1),
        publish_packet(topic, good % 2, 2, flags=1),  # a retained copy
        publish_packet(topic, good % 1, 3),  # the sender's repetition
        publish_packet(b"elsewhere", good % 4, 4),
        publish_packet(b"sensors/\xff/pump", good % 5, 5),  # a topic that is no text
        publish_packet(topic, b"junk", 6),
        publish_packet(topic, b"x" * 3_000_000, 7),
        publish_packet(topic, good % 8, 8, flags=8),
        publish_packet(topic, good % 9, 9, flags=9),
        publish_packet(topic, good % 10, 10),
    ]
    with RawBroker() as broker, Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        assert broker.subscribed.wait(20)
        broker.send(b"".join(packets))
        wait_until(lambda: broker.acknowledged == len(packets))
    assert broker.acks == list(range(1, 11))


def test_a_stop_tells_no_drift_whose_readings_come_again(tmp_path: Path) -> None:
    """The journal is full of an alert that the broker does not answer, so the drift stays with its readings."""
    takes_alerts = threading.Event()

    def answer(topic: bytes, mid: bytes) -> bytes:
        return acknowledge(topic, mid) if b"/alerts/" not in topic or takes_alerts.is_set() else b""

    quantiles = {"0.1": 0.1, "0.3": 0.3, "0.5": 0.5, "0.7": 0.7, "0.9": 1.0}
    calibration = {"rows": 1000, "false_alarm_rate": 0.01, "quantiles": quantiles}
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes={"calibration": calibration})
    drift, journal = "[stream.drift]\nblock = 20\nblocks = 1\n", "[journal]\nlimit_mb = 0.0006\n"
    drifted = [
        publish_packet(b"sensors/a2/pump", b'{"time":%d,"c1":2,"c2":0}' % number, number) for number in range(10, 30)
    ]
    with (
        RawBroker(answer) as broker,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, stream=drift, extra=journal)) as agent,
    ):
        assert broker.subscribed.wait(20)
        broker.send(publish_packet(b"sensors/a1/pump", b'{"time":1,"c1":9,"c2":0}', 1))
        wait_until(lambda: broker.acknowledged == 1)
        broker.send(b"".join(drifted))
        wait_until(lambda: "journal takes nothing" in log_of(agent))
        assert agent.stop() == 0
        takes_alerts.set()
        broker.subscribed.clear()
        agent.start()
        assert broker.subscribed.wait(20)
        broker.send(b"".join(drifted))
        wait_until(lambda: any(topic.endswith(b"/stream") for topic, _ in broker.published), what="the drift")


def test_a_listener_that_never_answers_is_told_and_left_for_the_broker_that_comes(tmp_path: Path, bundle: Path) -> None:
    """TCP alone is no connection."""
    with Broker(tmp_path / "late") as broker:
        broker.stop()
        with socket.create_server(("127.0.0.1", broker.port)):
            agent = Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt="keepalive_s = 5"))
            agent.start()
            wait_until(lambda: "reason=no_answer" in log_of(agent), 30)
        broker.start()
        with Subscriber(broker.port) as subscriber:
            wait_until(lambda: subscriber.statuses, 40, what="the agent's birth")
            assert agent.stop() == 0


def test_a_connection_that_goes_silent_is_noticed_within_the_keepalive(tmp_path: Path, bundle: Path) -> None:
    """Half-open TCP: nobody sees an end. What was sent meanwhile is scored afterwards."""
    with Broker(tmp_path / "broker") as broker, Proxy(broker.port) as proxy, Subscriber(broker.port) as subscriber:
        config = write_config(tmp_path, proxy.port, {"pump": bundle}, mqtt="keepalive_s = 5")
        with Agent(config) as agent, Sender(broker.port) as sender:
            subscriber.wait_online()
            raises_an_alert(sender, subscriber)
            began = time.monotonic()
            proxy.weather.cut = True
            sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
            wait_until(lambda: "reason=silent" in log_of(agent), 15, "the loss to be noticed")
            assert time.monotonic() - began > 3  # it is silence that is noticed, and nothing else
            proxy.weather.cut = False
            wait_until(lambda: len(subscriber.alerts) == 2, 15, "the event of the reading sent meanwhile")


def test_a_broker_that_forgot_everything_is_told_everything_again(tmp_path: Path, bundle: Path) -> None:
    """Restarted without persistence: the birth is retained again, and readings come again."""
    with (
        Broker(tmp_path / "broker", persistence=False) as broker,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent,
    ):
        wait_until(lambda: log_of(agent).count("session_present=false") == 1)
        broker.stop()
        broker.start()
        wait_until(lambda: log_of(agent).count("session_present=false") == 2, 60, "the second connection")
        with Subscriber(broker.port) as late, Sender(broker.port) as sender:
            wait_until(lambda: late.statuses and late.health, what="the retained birth and health")
            assert late.statuses[0]["state"] == "online"
            raises_an_alert(sender, late)


def test_alerts_go_to_a_broker_of_their_own_and_wait_for_it(tmp_path: Path, bundle: Path) -> None:
    """Readings are scored and acknowledged while the alerts' broker is away; the events come later, as delayed."""
    plant, room = Broker(tmp_path / "plant"), Broker(tmp_path / "room")
    alerts = f'[mqtt.alerts]\nhost = "127.0.0.1"\nport = {room.port}\nkeepalive_s = 5'
    config = write_config(tmp_path, plant.port, {"pump": bundle}, extra=alerts)
    with plant, room, Subscriber(room.port) as subscriber, Subscriber(plant.port) as nobody, Agent(config) as agent:
        with Sender(plant.port) as sender:
            # Online is what the alerts' broker says; the one that readings come from may still be connecting.
            wait_until(lambda: subscriber.health.get("broker", {}).get("state") == "connected")
            raises_an_alert(sender, subscriber)
            sender.send("sensors/a1/pump", b"garbage")
            wait_until(lambda: subscriber.rejected)
            room.stop()
            wait_until(lambda: f"connection lost host=127.0.0.1 port={room.port}" in log_of(agent))
            sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
            wait_until(lambda: "alert clear" in log_of(agent), what="the reading to be scored")
            room.start()
            wait_until(lambda: len(subscriber.alerts) == 2, 30, "the event that had to wait")
        assert [(event.event, event.delayed) for event in subscriber.alerts] == [("raise", False), ("clear", True)]
        wait_until(lambda: subscriber.health["queue_depth"] == 0)
        assert subscriber.health["broker"]["address"].endswith(str(plant.port))
        wait_until(lambda: subscriber.health["alerts_broker"]["connects"] == 2)
        assert subscriber.health["session"] == subscriber.statuses[-1]["session"]
        assert agent.stop() == 0
        wait_until(lambda: subscriber.statuses[-1]["reason"] == "stopped")
        assert (nobody.alerts, nobody.statuses, nobody.health, nobody.rejected) == ([], [], {}, [])


def test_readings_wait_for_their_broker_while_alerts_go_on(tmp_path: Path, bundle: Path) -> None:
    """The status stays online, and health on the alerts' broker says what is wrong with the other one."""
    plant, room = Broker(tmp_path / "plant"), Broker(tmp_path / "room")
    alerts = f'[mqtt.alerts]\nhost = "127.0.0.1"\nport = {room.port}'
    config = write_config(tmp_path, plant.port, {"pump": bundle}, mqtt="keepalive_s = 5", extra=alerts)
    with room, plant, Subscriber(room.port) as subscriber, Agent(config):
        with Sender(plant.port) as sender:
            subscriber.wait_online()
            plant.wait_subscribed()
            raises_an_alert(sender, subscriber)
            wait_until(lambda: subscriber.health)
        plant.stop()
        wait_until(lambda: (subscriber.health["broker"]["problem"] or {}).get("reason") == "unreachable")
        assert subscriber.statuses[-1]["state"] == "online"
        plant.start()
        wait_until(lambda: subscriber.health["broker"]["connects"] == 2)
        with Sender(plant.port) as sender:
            raises_an_alert(sender, subscriber)


def test_the_same_broker_named_twice_is_one_connection(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """Two would throw nobody out, but readings and alerts need no more than one."""
    alerts = f'[mqtt.alerts]\nhost = "127.0.0.1"\nport = {broker.port}'
    with Subscriber(broker.port) as subscriber:
        with Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=alerts)):
            wait_until(lambda: subscriber.health)
        assert "alerts_broker" not in subscriber.health
        assert "edge-agent-g1-alerts" not in broker.log.read_text()


def test_what_does_not_fit_while_the_broker_is_away_is_kept_by_the_other_one(tmp_path: Path, bundle: Path) -> None:
    """With `block`: nothing is lost, and the log says what the matter is and when it is over."""
    plant, room = Broker(tmp_path / "plant"), Broker(tmp_path / "room")
    extra = f'[journal]\nlimit_mb = 0.004\n[mqtt.alerts]\nhost = "127.0.0.1"\nport = {room.port}\nkeepalive_s = 5\n'
    config = write_config(tmp_path, plant.port, {"pump": bundle}, extra=extra)
    with plant, Agent(config) as agent, Sender(plant.port) as sender:
        plant.wait_subscribed()
        for number in range(40):
            value = 0.0 if number % 2 else 9.0
            sender.send("sensors/a1/pump", {"time": 100.0 + number, "c1": value, "c2": 0.0})
            if number == 20:
                # One batch alone is taken whatever its size is, so that none is too large for ever.
                wait_until(lambda: "alert raise" in log_of(agent))
        wait_until(lambda: "they would exceed [journal] limit_mb = 0.004" in log_of(agent))
        with room, Subscriber(room.port) as subscriber:
            wait_until(lambda: subscriber.health.get("published") == 40, 60, "every event at the broker")
            assert subscriber.health["dropped"] == 0
            assert "journal takes events again" in log_of(agent)
            assert agent.stop() == 0


def test_what_does_not_fit_while_the_broker_is_away_is_dropped_counted_and_told(tmp_path: Path, bundle: Path) -> None:
    """The newest events come, after them one that tells how many did not; nothing is missing from the sum."""
    plant, room = Broker(tmp_path / "plant"), Broker(tmp_path / "room")
    extra = (
        f'[mqtt.alerts]\nhost = "127.0.0.1"\nport = {room.port}\nkeepalive_s = 5\n'
        '[journal]\nlimit_mb = 0.004\nwhen_full = "drop-oldest"'
    )
    config = write_config(tmp_path, plant.port, {"pump": bundle}, extra=extra)
    with plant, Agent(config) as agent, Sender(plant.port) as sender:
        with room, Subscriber(room.port) as subscriber:
            subscriber.wait_online()
            plant.wait_subscribed()
        for number in range(40):
            value = 0.0 if number % 2 else 9.0
            sender.send("sensors/a1/pump", {"time": 100.0 + number, "c1": value, "c2": 0.0})
            if number % 4 == 3:
                # The events of one batch are taken whole, also where they are more than the limit.
                wait_until(lambda: log_of(agent).count("alert clear") == (number + 1) // 2)  # noqa: B023
        with room, Subscriber(room.port) as subscriber:
            wait_until(lambda: subscriber.dropped, 60, what="the event that tells of the others")
            (told,) = subscriber.dropped
            assert told["count"] + len(subscriber.alerts) == 40
            assert 0 < len(subscriber.alerts) < 20
            assert subscriber.alerts[-1].event == "clear"
            assert all(event.delayed for event in subscriber.alerts)
            wait_until(lambda: subscriber.health.get("dropped") == told["count"])
            assert agent.stop() == 0


def outcome(opener: Opener) -> PahoClient | Trouble:
    """What came of an attempt."""
    limit = time.monotonic() + 20
    while (found := opener.result()) is None:
        assert time.monotonic() < limit, "the attempt does not end"
        time.sleep(0.01)  # between two looks
    return found


def test_a_server_that_drips_is_given_up() -> None:
    """paho's timeout is for every byte, so a handshake that goes on for ever needs an end of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = BrokerSettings(port=server.getsockname()[1], transport=Transport.WEBSOCKETS)
        opener = Opener(settings, client_id="g1", wake=lambda: None)
        began = time.monotonic()
        opener.begin(began, speaks_5=True, will=None)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
            opener.tick(began + 29)
            time.sleep(0.2)  # it has to stand a little longer, so that its end has a cause
            assert opener.result() is None
            opener.tick(began + 31)
            found = outcome(opener)
    assert isinstance(found, Trouble)
    assert not found.is_permanent


def test_attempts_that_fail_leave_no_file_open(authority: Authority, tmp_path: Path) -> None:
    """Forty refusals by certificate; a device may be refused for months."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("broker"))
    other = Authority(tmp_path / "other")
    counts = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = BrokerSettings(port=server.getsockname()[1], ca_file=str(other.file))
        opener = Opener(settings, client_id="g1", wake=lambda: None)
        for _ in range(40):
            opener.begin(time.monotonic(), speaks_5=True, will=None)
            connection, _ = server.accept()
            with pytest.raises(OSError), context.wrap_socket(connection, server_side=True) as wrapped:  # noqa: PT011
                wrapped.recv(1)
            found = outcome(opener)
            assert isinstance(found, Trouble)
            assert found.reason is Reason.BROKER_CERTIFICATE
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert counts[-1] <= counts[4] + 2


def test_an_alert_that_found_no_room_is_raised_after_a_kill(tmp_path: Path, bundle: Path) -> None:
    """The journal was deleted and made anew meanwhile: it may not say that it was raised when nobody was told."""
    plant, room = Broker(tmp_path / "plant"), Broker(tmp_path / "room")
    extra = f'[journal]\nlimit_mb = 0.002\n[mqtt.alerts]\nhost = "127.0.0.1"\nport = {room.port}'
    config = write_config(tmp_path, plant.port, {"pump": bundle}, extra=extra)
    full = "would exceed [journal] limit_mb"
    with plant, Sender(plant.port) as sender:
        with Agent(config) as agent:
            plant.wait_subscribed()
            for asset in range(9):
                sender.send(f"sensors/a{asset}/pump", {"c1": 9, "c2": 9})
                wait_until(lambda: log_of(agent).count("alert raise") > asset or full in log_of(agent))  # noqa: B023
            wait_until(lambda: full in log_of(agent))
            for file in (tmp_path / "state").glob("journal*"):
                file.unlink()
            wait_until(lambda: "journal is on the disk again" in log_of(agent))
            agent.kill()
        with room, Subscriber(room.port) as subscriber, Agent(config):
            wait_until(lambda: len({event.asset for event in subscriber.alerts}) == 9, 30, "all alerts")


def test_two_agents_of_one_id_are_told(tmp_path: Path, bundle: Path) -> None:
    """They end each other's connections; mosquitto does not say why."""
    (tmp_path / "other").mkdir()
    with Broker(tmp_path / "broker") as broker:
        one = write_config(tmp_path, broker.port, {"pump": bundle})
        other = write_config(tmp_path / "other", broker.port, {"pump": bundle})
        with Agent(one) as first, Agent(other):
            wait_until(lambda: "again and again: does another agent have our [agent] id?" in log_of(first), 60)
