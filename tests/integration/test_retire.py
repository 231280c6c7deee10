"""`edge-agent retire`: nothing of the agent stays at its brokers, and nothing of a running one is touched."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from broker import demo_broker
from certificates import Authority
from connecting import log_of, password_file, raises_an_alert, tls
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from processes import Agent, Broker, Sender, Subscriber, free_port, run_tool, wait_until, write_config

STATUS, HEALTH = "edge/g1/status", "edge/g1/health"


def has_session(port: int, client_id: str = "edge-agent-g1", *, speaks_5: bool = True) -> bool:
    """Whether the broker has kept one; it keeps it still."""
    found: list[bool] = []
    options: dict[str, Any] = {"protocol": paho.MQTTv5} if speaks_5 else {"clean_session": False}
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, **options)
    client.on_connect = lambda _client, _data, flags, *_: found.append(flags.session_present)
    wishes: dict[str, Any] = {}
    if speaks_5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 1000
        wishes = {"clean_start": False, "properties": properties}
    client.connect("127.0.0.1", port, **wishes)
    client.loop_start()
    wait_until(lambda: found)
    client.disconnect()
    client.loop_stop()
    return found[0]


def retained(port: int) -> set[str]:
    """Topics of the agent's on which something is retained."""
    found: set[str] = set()
    ended: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="looker")

    def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic == "end":
            ended.append(True)
        elif message.retain:
            found.add(message.topic)

    client.on_message = on_message
    client.on_subscribe = lambda client, *_: client.publish("end", b"", qos=1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe([("edge/#", 1), ("end", 1)])
    wait_until(lambda: ended)
    client.disconnect()
    client.loop_stop()
    return found


def retire(config: Path, *more: str, code: int = 0) -> tuple[str, list[str]]:
    """What it says: on stdout, and the lines on stderr."""
    done = run_tool("edge-agent", "retire", "--config", str(config), *more)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_retired_agent_leaves_nothing_at_its_broker(
    tmp_path: Path, broker: Broker, bundle: Path, protocol: str
) -> None:
    """Before, readings that come for nobody fill its session, for ever with MQTT 3.1.1."""
    speaks_5 = protocol == "5"
    config = write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=f'protocol = "{protocol}"')
    with Subscriber(broker.port) as subscriber, Sender(broker.port) as sender:
        with Agent(config) as agent:
            raises_an_alert_when_online(sender, subscriber)
            wait_until(lambda: subscriber.health)
            assert agent.stop() == 0
        sender.send("sensors/a1/pump", {"c1": 1, "c2": 0})
        sender.drain()
    assert has_session(broker.port, speaks_5=speaks_5)
    assert retained(broker.port) == {STATUS, HEALTH}
    out, err = retire(config)
    assert not has_session(broker.port, speaks_5=speaks_5)
    assert retained(broker.port) == set()
    assert err == []
    assert out.splitlines() == [
        f"mqtt://127.0.0.1:{broker.port}: session edge-agent-g1 ended; cleared: {STATUS}, {HEALTH}",
        f"the state folder stays; when nobody needs it any more: rm -r {tmp_path / 'state'}",
    ]
    assert (tmp_path / "state" / "journal.db").exists()
    # A second time does no harm, and JSON has the same.
    out, _ = retire(config, "--json")
    assert json.loads(out) == {
        "agent": "g1",
        "brokers": [
            {
                "address": f"mqtt://127.0.0.1:{broker.port}",
                "client_id": "edge-agent-g1",
                "session": "ended",
                "cleared": [STATUS, HEALTH],
            }
        ],
        "state_dir": str(tmp_path / "state"),
        "waiting_events": 0,
    }


def raises_an_alert_when_online(sender: Sender, subscriber: Subscriber) -> None:
    subscriber.wait_online()
    wait_until(lambda: subscriber.health)
    raises_an_alert(sender, subscriber)


def test_a_broker_that_knows_only_3_1_1_forgets_a_retired_agent(tmp_path: Path, bundle: Path) -> None:
    """nats-server, with the protocol left to the agent."""
    with demo_broker(tmp_path, "nats") as nats:
        config = write_config(tmp_path, nats.port, {"pump": bundle})
        with Subscriber(nats.port) as subscriber, Agent(config) as agent:
            subscriber.wait_online()
            wait_until(lambda: subscriber.health)
            assert agent.stop() == 0
        assert has_session(nats.port, speaks_5=False)
        assert retained(nats.port) == {STATUS, HEALTH}
        out, _ = retire(config)
        assert "session edge-agent-g1 ended" in out
        assert not has_session(nats.port, speaks_5=False)
        assert retained(nats.port) == set()


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_the_last_will_of_a_device_that_is_gone_does_not_come_back(tmp_path: Path, bundle: Path, kind: str) -> None:
    """The broker still takes it for connected: here a stopped process, retired from another machine's folder."""
    with demo_broker(tmp_path, kind) as broker:
        config = write_config(tmp_path, broker.port, {"pump": bundle})
        with Agent(config) as agent:
            with Subscriber(broker.port) as subscriber:
                subscriber.wait_online()
                wait_until(lambda: subscriber.health)
            assert agent.process is not None
            agent.process.send_signal(signal.SIGSTOP)
            retire(config, "--set", f"agent.state_dir={tmp_path / 'elsewhere'}")
            assert not has_session(broker.port, speaks_5=False)
            assert retained(broker.port) == set()
            agent.kill()
        assert retained(broker.port) == set()


def test_a_running_agent_is_not_thrown_out(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """It is told by the lock of its state folder, before anybody connects."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    with Subscriber(broker.port) as subscriber, Agent(config) as agent:
        subscriber.wait_online()
        wait_until(lambda: subscriber.health)
        out, err = retire(config, code=78)
        assert out == ""
        used = f"[agent] state_dir = '{tmp_path / 'state'}': another edge-agent is using it"
        assert err == [f"edge-agent: {used}; stop it, or give each agent a folder of its own"]
        assert retained(broker.port) == {STATUS, HEALTH}
        assert "connection lost" not in log_of(agent)


def test_events_that_wait_are_not_discarded_in_silence(tmp_path: Path, bundle: Path) -> None:
    """They stay in the journal, whatever is said."""
    plant, room = Broker(tmp_path / "plant"), Broker(tmp_path / "room")
    alerts = f'[mqtt.alerts]\nhost = "127.0.0.1"\nport = {room.port}'
    config = write_config(tmp_path, plant.port, {"pump": bundle}, extra=alerts)

    def waiting() -> int:
        with closing(sqlite3.connect(tmp_path / "state" / "journal.db")) as db:
            return int(db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    with plant, Sender(plant.port) as sender, Agent(config) as agent:
        plant.wait_subscribed()
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 0})
        wait_until(lambda: waiting() == 1, what="the event in the journal, which is told before")
        agent.kill()
        _, err = retire(config, code=2)
        waits = f"{tmp_path / 'state'}: events in the journal that nobody would publish any more: 1"
        assert err == [f"edge-agent: {waits}; let the agent run until its queue_depth is 0, or give --discard-waiting"]
        assert has_session(plant.port)
        # One broker after the other, and again once the second is there.
        out, err = retire(config, "--discard-waiting", code=69)
        assert out.splitlines() == [f"mqtt://127.0.0.1:{plant.port}: session edge-agent-g1 ended"]
        failed = f"mqtt://127.0.0.1:{room.port}: session edge-agent-g1-alerts not ended: connection refused"
        assert err == [f"edge-agent: {failed}; run this again when it is mended"]
        assert not has_session(plant.port)
        with room:
            out, _ = retire(config, "--discard-waiting")
            assert f"session edge-agent-g1-alerts ended; cleared: {STATUS}, {HEALTH}" in out
            assert "events that were not published, and are still in the journal: 1" in out
    assert waiting() == 1


def test_every_address_is_visited(tmp_path: Path, bundle: Path) -> None:
    """With TLS, and one that is not there: it is named, and with --json nothing else is said."""
    authority = Authority(tmp_path / "ca")
    listener = tls(authority, authority.issue("broker"))
    gone = free_port()
    with Broker(tmp_path / "one", second=listener) as one, Broker(tmp_path / "two", second=listener) as two:
        mqtt = f'ca_file = "{authority.file}"\nstandby = ["127.0.0.1:{gone}", "127.0.0.1:{two.second_port}"]'
        config = write_config(tmp_path, one.second_port, {"pump": bundle}, mqtt=mqtt)
        with Agent(config):
            one.wait_subscribed()
            one.stop()
            two.wait_subscribed()
        one.start()
        assert has_session(one.port)
        assert has_session(two.port)
        out, err = retire(config, "--json", code=69)
        assert out == ""
        assert len(err) == 1
        assert err[0].startswith(f"edge-agent: mqtts://127.0.0.1:{gone}: session edge-agent-g1 not ended:")
        for broker in (one, two):
            assert not has_session(broker.port)
            assert retained(broker.port) == set()


def test_what_the_broker_does_not_let_us_clear_is_told(tmp_path: Path, bundle: Path) -> None:
    """The session is ended all the same."""
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite #\nuser agent\ntopic read sensors/#\ntopic write edge/g1/status\n")
    (tmp_path / "password").write_text("right")
    mqtt = f'username = "agent"\npassword_file = "{tmp_path / "password"}"'
    settings = f"password_file {password_file(tmp_path, 'right')}\nacl_file {rules}\n"
    with Broker(tmp_path / "broker", rules=settings) as broker:
        config = write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=mqtt)
        out, err = retire(config, code=69)
        assert f"session edge-agent-g1 ended; cleared: {STATUS}" in out
        assert f"not cleared: {HEALTH}: " in err[-1]
        (tmp_path / "password").write_text("wrong")
        _, err = retire(config, code=69)
        assert "session edge-agent-g1 not ended: the broker says: not authorized (check username" in err[-1]


def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """Nobody knows what waits in it, so whoever discards that has to say so."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "journal.db").write_bytes(b"no database" * 500)
    _, err = retire(config, code=70)
    assert len(err) == 1
    assert "journal.db: cannot be read (file is not a database)" in err[0]
    out, _ = retire(config, "--discard-waiting")
    assert "events that were not published, and are still in the journal: unknown" in out


def test_the_folder_of_a_service_is_named_as_it_is(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """systemd makes it a link, and gives it to a user of its own; of what is in it, nothing is believed."""
    (tmp_path / "private").mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(tmp_path / "private", 61_234, 61_234)
    (tmp_path / "state").symlink_to(tmp_path / "private")
    out, err = retire(write_config(tmp_path, broker.port, {"pump": bundle}))
    assert err == []
    assert out.splitlines()[-1].endswith(f": rm -r {tmp_path / 'private'}")
