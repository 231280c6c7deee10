"""Readings from one broker, alerts to another: each goes on while the other is away, and nothing is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from connecting import log_of, raises_an_alert
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, wait_until, write_config


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


def events_of(state_dir: Path) -> int:
    """Events that the journal has, or gave up; the log tells of ten alerts in a minute only."""
    with closing(sqlite3.connect(state_dir / "journal.db")) as db:
        (waiting,) = db.execute("SELECT count(*) FROM outbox").fetchone()
        (given_up,) = db.execute("SELECT coalesce(sum(events), 0) FROM dropped").fetchone()
    return int(waiting + given_up)


def test_what_does_not_fit_while_the_broker_is_away_is_kept_by_the_other_one(tmp_path: Path, bundle: Path) -> None:
    """With `block`: nothing is lost, and the log says what the matter is and when it is over."""
    plant, room = Broker(tmp_path / "plant"), Broker(tmp_path / "room")
    extra = f'[journal]\nlimit_mb = 0.004\n[mqtt.alerts]\nhost = "127.0.0.1"\nport = {room.port}\nkeepalive_s = 5\n'
    config = write_config(tmp_path, plant.port, {"pump": bundle}, extra=extra, stream=EVERY_ALERT)
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
    config = write_config(tmp_path, plant.port, {"pump": bundle}, extra=extra, stream=EVERY_ALERT)
    with plant, Agent(config) as agent, Sender(plant.port) as sender:
        with room, Subscriber(room.port) as subscriber:
            subscriber.wait_online()
            plant.wait_subscribed()
        for number in range(40):
            value = 0.0 if number % 2 else 9.0
            sender.send("sensors/a1/pump", {"time": 100.0 + number, "c1": value, "c2": 0.0})
            if number % 4 == 3:
                # The events of one batch are taken whole, also where they are more than the limit.
                wait_until(lambda: events_of(tmp_path / "state") == number + 1)  # noqa: B023
        with room, Subscriber(room.port) as subscriber:
            wait_until(lambda: subscriber.dropped, 60, what="the event that tells of the others")
            (told,) = subscriber.dropped
            assert told["count"] + len(subscriber.alerts) == 40
            assert 0 < len(subscriber.alerts) < 20
            assert subscriber.alerts[-1].event == "clear"
            assert all(event.delayed for event in subscriber.alerts)
            wait_until(lambda: subscriber.health.get("dropped") == told["count"])
            assert agent.stop() == 0


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
