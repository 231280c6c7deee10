"""TLS, certificates that change, and passwords: what is right gets through, and what is wrong is told."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from certificates import Authority
from connecting import log_of, password_file, raises_an_alert, tls
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config

from edge_agent.mqtt.opening import Opener, PahoClient
from edge_agent.mqtt.settings import BrokerSettings, Transport
from edge_agent.mqtt.trouble import Reason, Trouble


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "authority of the broker")


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
        config = write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt, stream=EVERY_ALERT)
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
    assert float(lines[0].partition("retry_s=")[2].replace(";", " ").split()[0]) >= 45
    assert "trying 3.1.1" not in log_of(agent)


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
        config = write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt, stream=EVERY_ALERT)
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
        opener.begin(began, settings.addresses[0], speaks_5=True, will=None)
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
            opener.begin(time.monotonic(), settings.addresses[0], speaks_5=True, will=None)
            connection, _ = server.accept()
            with pytest.raises(OSError), context.wrap_socket(connection, server_side=True) as wrapped:  # noqa: PT011
                wrapped.recv(1)
            found = outcome(opener)
            assert isinstance(found, Trouble)
            assert found.reason is Reason.BROKER_CERTIFICATE
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert counts[-1] <= counts[4] + 2


def test_replay_and_watch_use_the_systems_authorities(tmp_path: Path, authority: Authority) -> None:
    """With --tls, as the agent does with `tls = true`; they do not trust the authority before the system does."""
    (tmp_path / "rows.csv").write_text("p\n1\n")
    listener = tls(authority, authority.issue("broker"))
    with Broker(tmp_path / "broker", second=listener) as broker:
        port = str(broker.second_port)
        for command in (["watch", "--for", "0.1"], ["replay", str(tmp_path / "rows.csv"), "--topic", "t"]):
            asked = ["edgetool", *command, "--tls", "--port", port]
            done = run_tool(*asked)
            assert done.returncode == 69
            assert "certificate verify failed" in done.stderr
            # OpenSSL takes the system's authorities from here.
            done = run_tool(*asked, env={**os.environ, "SSL_CERT_FILE": str(authority.file)})
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_replay_and_watch_go_every_way_that_the_agent_goes(tmp_path: Path, authority: Authority, way: str) -> None:
    """TLS with a certificate of ours, websockets, and both versions of MQTT."""
    (tmp_path / "rows.csv").write_text("p\n1\n")
    listener, _ = WAYS[way]
    cert, key = authority.issue("host")
    options = ["--cert-file", str(cert), "--key-file", str(key)] if "mutual" in way else []
    options += ["--transport", "websockets", "--path", "/mqtt"] if "websockets" in way else []
    if "tls" in way:
        listener = tls(authority, authority.issue("broker"), listener)
        options += ["--ca-file", str(authority.file)]
    with Broker(tmp_path / "broker", second=listener) as broker, Subscriber(broker.port, agent="a") as subscriber:
        options += ["--port", str(broker.second_port)]
        for protocol in ("5", "3.1.1"):
            topic = f"edge/a/rejected/{protocol.replace('.', '-')}"
            sent = ["edgetool", "replay", str(tmp_path / "rows.csv"), "--topic", topic, "--protocol", protocol]
            done = run_tool(*sent, *options)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            done = run_tool("edgetool", "watch", "--for", "0.1", "--protocol", protocol, *options)
            assert done.returncode == 0, done.stderr
        wait_until(lambda: len(subscriber.rejected) == 2, what="the readings")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cert-file", "c.pem", "--key-file", "k.pem"], "c.pem: no such file"),
        (["--key-file", "k.pem"], "--cert-file and --key-file: give both or none"),
        (["--protocol", "4"], "4"),
    ],
)
def test_options_of_the_connection_that_are_wrong_end_with_2(options: list[str], words: str) -> None:
    """Before anything is sent."""
    done = run_tool("edgetool", "watch", "--port", "1", *options)
    assert done.returncode == 2
    assert words in done.stderr


def test_replay_tells_a_reading_that_the_broker_refuses(tmp_path: Path) -> None:
    """In MQTT 3.1.1 it would be gone without a word."""
    (tmp_path / "rows.csv").write_text("p\n1\n2\n")
    (tmp_path / "acl").write_text("topic read #\n")
    with Broker(tmp_path / "broker", rules=f"acl_file {tmp_path / 'acl'}\n") as broker:
        done = run_tool("edgetool", "replay", str(tmp_path / "rows.csv"), "--topic", "t", "--port", str(broker.port))
    assert done.returncode == 69
    assert "the broker refuses the readings (Not authorized); may the user write to this topic?" in done.stderr


def test_a_password_that_goes_out_unencrypted_is_told(tmp_path: Path) -> None:
    """One line, before anything is sent; not with TLS."""
    (tmp_path / "p").write_text("secret")
    asked = ["edgetool", "watch", "--host", "broker.invalid", "--username", "u", "--password-file", str(tmp_path / "p")]
    warning = "edgetool: warning: the password goes to broker.invalid unencrypted; use --tls or --ca-file"
    done = run_tool(*asked)
    assert done.returncode == 69
    assert done.stderr.splitlines()[0] == warning
    assert len(done.stderr.splitlines()) == 2
    assert "unencrypted" not in run_tool(*asked, "--tls").stderr
