"""How brokers send a reading again that has no acknowledgement, to an agent that was killed behind its commit.

What each of them says of such a reading was seen with real ones (docs/reliability.md); here a stub says the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import write_bundle
from processes import Agent, wait_until, write_config
from raw_broker import RawBroker, publish_packet

_DUP = 8
TOPIC = b"sensors/a1/pump"
TIME_S = 1763700000.0


@dataclass(frozen=True, slots=True)
class Way:
    """What a broker says of a reading that it sends again."""

    mid: int
    """The first time it was 1."""
    flags: int
    has_session: bool
    is_behind: bool = False
    """Newer readings come before it."""


WAYS = {
    "mosquitto": Way(1, _DUP, True),
    "rabbitmq": Way(7, _DUP, True),
    "rumqttd": Way(7, 0, True),
    "aedes": Way(1, 0, True),
    "activemq": Way(1, _DUP, False),
    "nats": Way(7, 0, True, is_behind=True),
}


def reading(second: int, value: float) -> bytes:
    """With a time of its own."""
    return json.dumps({"time": TIME_S + second, "c1": value, "c2": 0}).encode()


def counts_of(broker: RawBroker, since: int) -> dict[str, Any]:
    """The stream's counters in the last health message that came behind the first `since` messages; empty if none."""
    found = [payload for topic, payload in broker.published[since:] if topic.endswith(b"/health")]
    counters: dict[str, Any] = json.loads(found[-1])["streams"]["pump"] if found else {}
    return counters


def killed_behind_its_commit(agent: Agent, broker: RawBroker, packet: bytes) -> int:
    """Run an agent until it has told the alert of a reading, and kill it; gives how many messages it had published."""
    agent.start()
    assert broker.subscribed.wait(20)
    broker.send(packet)
    wait_until(lambda: any(b"/alerts/" in topic for topic, _ in broker.published), what="the alert")
    agent.kill()
    broker.subscribed.clear()
    return len(broker.published)


@pytest.mark.parametrize("mqtt", ["5", "3.1.1"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_reading_with_a_time_is_scored_once(tmp_path: Path, bundle: Path, way: Way, mqtt: str) -> None:
    """However it comes again; another reading under its identifier and flag is another reading."""
    speaks_5 = mqtt == "5"

    def packet(payload: bytes, mid: int, flags: int = 0) -> bytes:
        return publish_packet(TOPIC, payload, mid, flags=flags, speaks_5=speaks_5)

    with RawBroker() as broker:
        agent = Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt=f'protocol = "{mqtt}"'))
        before = killed_behind_its_commit(agent, broker, packet(reading(0, 9), 1))
        broker.has_session = way.has_session

        def counted(counter: str, count: int) -> Callable[[], bool]:
            return lambda: counts_of(broker, before).get(counter) == count

        with agent:
            assert broker.subscribed.wait(20)
            newer = 2 if way.is_behind else 0
            for second in range(1, 1 + newer):
                broker.send(packet(reading(second, 9), 20 + second))
            broker.send(packet(reading(0, 9), way.mid, way.flags))
            wait_until(counted("repeated", 1), what="the repetition to be counted")
            assert counts_of(broker, before)["scored"] == newer
            broker.send(packet(reading(3, 9), way.mid, way.flags))
            wait_until(counted("scored", newer + 1), what="the other reading to be scored")
            assert counts_of(broker, before)["repeated"] == 1
            wait_until(lambda: len(broker.acks) >= newer + 2, what="the acknowledgements")
        assert broker.acks[-1 - newer :].count(way.mid) >= 1
    raised = {json.loads(payload)["id"] for topic, payload in broker.published if b"/alerts/" in topic}
    assert len(raised) == 1


def test_what_was_rejected_may_be_sent_again(tmp_path: Path, bundle: Path) -> None:
    """It was not scored, so it is no repetition, neither in this run nor in one with another configuration."""
    wrong = b'{"time": 5, "other": 1}'
    with RawBroker() as broker:
        config = write_config(tmp_path, broker.port, {"pump": bundle})
        for run in range(2):
            broker.subscribed.clear()
            broker.acks.clear()
            before = len(broker.published)
            with Agent(config):
                assert broker.subscribed.wait(20)
                broker.send(publish_packet(TOPIC, wrong, 1))
                wait_until(lambda: 1 in broker.acks, what="the acknowledgement")
                broker.send(publish_packet(TOPIC, reading(run, 9), 2) + publish_packet(TOPIC, wrong, 3))

                def counted(since: int = before) -> bool:
                    counts = counts_of(broker, since)
                    return (counts.get("rejected"), counts.get("scored")) == ({"no_channel": 2}, 1)

                wait_until(counted, what="both to be rejected, and the good one to be scored")
                assert counts_of(broker, before)["repeated"] == 0


def test_without_a_time_the_flag_and_the_identifier_decide(tmp_path: Path, bundle: Path) -> None:
    """As mosquitto and ejabberd say them. The same value under another identifier is a new reading."""
    high = b'{"c1": 9, "c2": 0}'
    with RawBroker() as broker:
        agent = Agent(write_config(tmp_path, broker.port, {"pump": bundle}))
        before = killed_behind_its_commit(agent, broker, publish_packet(TOPIC, high, 1))
        broker.has_session = True
        with agent:
            assert broker.subscribed.wait(20)
            broker.send(publish_packet(TOPIC, high, 1, flags=_DUP))
            wait_until(lambda: counts_of(broker, before).get("repeated") == 1, what="the repetition")
            assert counts_of(broker, before)["scored"] == 0
            broker.send(publish_packet(TOPIC, high, 7, flags=_DUP))
            wait_until(lambda: counts_of(broker, before).get("scored") == 1, what="the other reading")


def test_what_one_of_two_streams_has_scored_is_known(tmp_path: Path, bundle: Path) -> None:
    """The other one finds no channel of its own in it, on the same topic; that is no reason to score it again."""
    changes = {"channels": [{"name": name} for name in ("x1", "x2")]}
    others = write_bundle(tmp_path / "others-1.0.0.edge", changes=changes)
    with RawBroker() as broker:
        config = write_config(tmp_path, broker.port, {"pump": bundle, "others": others})
        config.write_text(config.read_text().replace("sensors/+/others", "sensors/+/pump"), encoding="utf-8")
        with Agent(config):
            assert broker.subscribed.wait(20)
            for mid in (1, 2):
                broker.send(publish_packet(TOPIC, reading(0, 9), mid))
                wait_until(lambda mid=mid: mid in broker.acks, what="the acknowledgement")  # type: ignore[misc]
            wait_until(lambda: counts_of(broker, 0).get("repeated") == 1, what="the repetition")
            assert counts_of(broker, 0)["scored"] == 1
