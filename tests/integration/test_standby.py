"""Several addresses of one broker, with real ones: no alert is lost, and none comes twice with another id."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

from certificates import Authority
from connecting import log_of, tls
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, free_port, wait_until, write_config
from proxy import Proxy
from raw_broker import RawBroker, publish_packet

QUIET, HIGH = {"c1": 0, "c2": 0}, {"c1": 9, "c2": 0}
"""Without a time, so a reading that was scored twice would count twice, and its alert would have another id."""


def test_the_agent_goes_from_broker_to_broker_and_back_and_loses_nothing(tmp_path: Path, bundle: Path) -> None:
    """A pair without common sessions, and an address where nobody ever is."""
    one, two = Broker(tmp_path / "one"), Broker(tmp_path / "two")
    mqtt = f'standby = ["127.0.0.1:{one.port}", "127.0.0.1:{two.port}"]\nkeepalive_s = 5'
    config = write_config(tmp_path, free_port(), {"pump": bundle}, mqtt=mqtt)
    with one, two, Subscriber(two.port) as at_two, Agent(config) as agent:
        with Subscriber(one.port) as at_one, Sender(one.port) as sender:
            one.wait_subscribed()
            sender.send("sensors/a1/pump", HIGH)
            at_one.wait_events("raise")
            wait_until(lambda: at_one.health)
            assert at_one.health["broker"]["address"] == f"mqtt://127.0.0.1:{one.port}"
            first = at_one.alerts[0]
        one.stop(signal.SIGKILL)
        two.wait_subscribed()
        with Sender(two.port) as sender:
            sender.send("sensors/a1/pump", QUIET)
            sender.send("sensors/a1/pump", HIGH)
            at_two.wait_events("clear", "raise")
        one.start()
        two.stop(signal.SIGKILL)
        with Subscriber(one.port) as at_one, Sender(one.port) as sender:
            wait_until(lambda: at_one.health.get("connects") == 3, 30, "the agent to come back")
            sender.send("sensors/a1/pump", QUIET)
            at_one.wait_events("clear")
            assert at_one.stream("pump")["scored"] == 4
            others = at_one.health["broker"]["other_addresses"]
            assert len([problem for problem in others.values() if problem]) == 2
        assert at_two.alerts[0].id == first.id
        assert at_two.alerts[1].id == at_one.alerts[-1].id != first.id
        assert agent.stop() == 0
    assert "next=" in log_of(agent)


def test_what_one_broker_has_no_acknowledgement_of_is_not_scored_again(tmp_path: Path, bundle: Path) -> None:
    """It failed before our acknowledgement came, another one served meanwhile, and now it is back with its session.

    The other one had a new session, in which the first identifiers are those of other messages; the agent was killed.
    """
    high, quiet = (
        [publish_packet(b"sensors/a1/pump", json.dumps(value).encode(), mid, flags=flags) for flags in (0, 8)]
        for mid, value in ((1, HIGH), (2, QUIET))
    )
    with Broker(tmp_path / "two") as two, Subscriber(two.port) as at_two:
        with RawBroker() as one:
            mqtt = f'standby = ["127.0.0.1:{two.port}"]'
            config = write_config(tmp_path, one.port, {"pump": bundle}, mqtt=mqtt)
            agent = Agent(config)
            agent.start()
            assert one.subscribed.wait(20)
            one.send(high[0] + quiet[0])
            wait_until(lambda: len([topic for topic, _ in one.published if b"/alerts/" in topic]) == 2)
            ids = {json.loads(payload)["id"] for topic, payload in one.published if b"/alerts/" in topic}
        at_two.wait_online()
        two.wait_subscribed()
        agent.kill()
        with RawBroker(port=one.port, has_session=True) as back, agent:
            assert back.subscribed.wait(20)
            back.send(high[1] + quiet[1] + publish_packet(b"sensors/a1/pump", b"junk", 3))
            wait_until(lambda: back.acks == [1, 2, 3])
            assert [topic for topic, _ in back.published if b"/alerts/" in topic] == []
    assert len(ids) == 1


def test_connections_that_are_reset_now_here_and_now_there_lose_and_double_nothing(
    tmp_path: Path, bundle: Path
) -> None:
    """Each broker has readings of its own, whose session is left and taken up again; each reading is one event."""
    with (
        Broker(tmp_path / "one") as one,
        Broker(tmp_path / "two") as two,
        Proxy(one.port) as to_one,
        Proxy(two.port) as to_two,
        Subscriber(one.port) as at_one,
        Subscriber(two.port) as at_two,
        Sender(one.port) as sender_one,
        Sender(two.port) as sender_two,
    ):

        def missing(asset: str) -> int:
            return 600 - len({event.key for event in (*at_one.alerts, *at_two.alerts) if event.asset == asset})

        mqtt = f'standby = ["127.0.0.1:{to_two.port}"]\nkeepalive_s = 5'
        agent = Agent(write_config(tmp_path, to_one.port, {"pump": bundle}, mqtt=mqtt, stream=EVERY_ALERT))
        to_one.weather.resets = 1.0
        with agent:
            # No broker keeps readings before the first visit.
            two.wait_subscribed()
            to_one.weather.resets, to_two.weather.resets = 0.0, 1.0
            one.wait_subscribed()
            for part in range(6):
                here, there = (to_one, to_two) if part % 2 else (to_two, to_one)
                subscriber = at_one if part % 2 else at_two
                births = len(subscriber.statuses)
                for number in range(100):
                    if number == 50:
                        here.weather.resets, there.weather.resets = 0.0, 1.0
                    sender_one.send("sensors/a1/pump", QUIET if number % 2 else HIGH)
                    sender_two.send("sensors/a2/pump", QUIET if number % 2 else HIGH)
                    time.sleep(0.005)  # so that the connections end among the readings
                wait_until(lambda: len(subscriber.statuses) > births, 30, what="a birth")  # noqa: B023
            # What two connections ended behind is sent again in a minute.
            wait_until(lambda: not missing("a1"), 90, what="every event of what came from one")
            to_two.weather.resets, to_one.weather.resets = 0.0, 1.0
            wait_until(lambda: not missing("a2"), 90, what="every event of what came from two")
            assert agent.stop() == 0
        came = at_one.different | at_two.different
        assert Counter(event for _, event, _ in came) == {"raise": 600, "clear": 600}
        assert len({id_ for id_, _, _ in came}) == 600


def test_a_certificate_is_held_against_the_address_in_use(tmp_path: Path, bundle: Path) -> None:
    """That of the standby is made for `localhost`: right there, and wrong for an address that is written otherwise."""
    authority = Authority(tmp_path / "ca")
    listener = tls(authority, authority.issue("broker", host="localhost"))
    with Broker(tmp_path / "broker", second=listener) as broker, Subscriber(broker.port) as subscriber:
        mqtt = f'ca_file = "{authority.file}"\nstandby = ["localhost:{broker.second_port}"]'
        config = write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt)
        with Agent(config) as agent:
            subscriber.wait_online()
            wait_until(lambda: subscriber.health)
            assert subscriber.health["broker"]["address"] == f"mqtts://localhost:{broker.second_port}"
            assert "reason=host_name" in log_of(agent)
