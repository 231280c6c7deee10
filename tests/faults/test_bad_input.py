"""Anything on a topic: counted by its reason, sampled now and then, never echoed as it is, and the stream goes on."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import msgspec
import pytest
from plan import FIRST_TIME_S, SEED, Plan
from processes import Agent, Sender, wait_until, write_config
from raw_broker import RawBroker, publish_packet
from rig import Report, rig
from vitals import Vitals

DEEP = 100_000

HOSTILE: dict[str, list[bytes]] = {
    "not_json": [
        b"",
        b"\x00\x01\x02\xff",
        b'{"other":' * DEEP,
        b'{"other":' + b"[" * DEEP,
        b"\xef\xbb\xbf",
        b'{"c1": 1, "c2": 2',
        b"'; DROP TABLE outbox; --",
    ],
    "unreadable": [
        b'{"c1": NaN, "c2": null}',
        b'{"c1": Infinity}',
        b'{"c1": 1e999, "c2": "1e999"}',
        b'{"c1": 1e300}',
        b'{"values": [-1e39, "off"]}',
    ],
    "wrong_type": [
        b"[" * DEEP,
        b'{"c1":' * DEEP,
        b"null",
        b"true",
        b'"text"',
        b'{"c1": {"c1": 1}, "c2": 1}',
        b'{"c1": [1], "c2": 1}',
        b"[[]]",
    ],
    "bad_time": [
        b'{"time": -1, "c1": 1, "c2": 1}',
        b'{"time": 1763700000000000000000000, "c1": 1, "c2": 1}',
        b'{"time": "0001-01-01T00:00:00", "c1": 1, "c2": 1}',
        b'{"time": "tomorrow", "c1": 1, "c2": 1}',
    ],
    "no_channel": [b"{}", b"[]", b'{"c1": null, "c2": null}', b'{"time": 5}'],
    "wrong_length": [b'{"values": []}', b'{"values": [1, 2, 3]}'],
    "too_large": [b" " * (2 << 20), b"[" + b"{}," * 20_000 + b"{}]"],
}
"""What each is rejected as."""

TAKEN = [
    b'{"c1": 1, "c1": 2, "c2": 0, "c2": 1}',
    b'\xef\xbb\xbf{"c1": 1, "c2": 1}',
    b'{"c1": 123456789012345678901234567890, "c2": 1}',
    b'{"time": 4102444800, "c1": 1, "c2": 1}',
    b'{"time": 0, "c1": 1, "c2": 1}',
    b'{"time": "9999-12-31T23:59:59Z", "c1": 1, "c2": 1}',
]
"""Strange and read: a key twice (the last counts), a mark before JSON, an integer that float32 holds, times far off."""


def is_tame(sample: dict[str, object]) -> bool:
    """Whether a person may look at a sample without danger to the terminal."""
    text = str(sample["sample"])
    return text.isprintable() and len(text) <= 300 and len(str(sample["topic"])) <= 300


@pytest.mark.timeout(600)
def test_garbage_at_full_rate(tmp_path: Path, full: bool, report: Report) -> None:
    """As much garbage as a sender can send, beside good readings: all counted, few sampled, no good one lost."""
    chance = random.Random(SEED)
    pieces = [chance.randbytes(chance.randint(1, 300)) for _ in range(500)]
    with rig(tmp_path, Plan(readings=10_000_000)) as at, Sender(at.broker.port, name="garbage") as garbage:
        started = time.monotonic()
        sending = at.sending(100)
        sent = 0
        while time.monotonic() < started + (60 if full else 2):
            for _ in range(100):
                garbage.send("sensors/bad/pump", pieces[sent % len(pieces)])
                sent += 1
            while garbage.waiting > 2000:
                time.sleep(0.001)  # as fast as the broker takes it
        garbage.drain()
        per_s = sent / (time.monotonic() - started)
        at.end_of(sending)
        verdict = at.verdict()
        wait_until(lambda: sum(at.subscriber.stream("pump")["rejected"].values()) >= sent, 60, "the counters")
        counted = at.subscriber.stream("pump")["rejected"]
        samples = len(at.subscriber.rejected)
        report(garbage=sent, per_s=round(per_s), rejected=sum(counted.values()), samples=samples, **at.facts(verdict))
        assert verdict.problems == []
        assert sum(counted.values()) == sent
        assert samples <= len(counted) * (2 + time.monotonic() - started)
        assert all(is_tame(sample) for sample in at.subscriber.rejected)


@pytest.mark.timeout(600)
def test_hostile_payloads(tmp_path: Path, full: bool, report: Report) -> None:
    """Deep nesting, NaN, infinities, huge integers, times years away, 2 and 100 MB: each counted by its reason."""
    turns = 20 if full else 2
    # Whether times years ahead are taken depends on whether this machine's clock is synchronised; here they all are.
    with rig(tmp_path, Plan(readings=10_000_000), stream="[stream.window]\nahead_s = 0") as at:
        assert at.agent.process is not None
        vitals = Vitals(at.agent.process.pid)
        watching = threading.Thread(target=vitals.watch, args=(0.05,), daemon=True)
        watching.start()
        sending = at.sending(100)
        for turn in range(turns):
            # Under a name of its own in each turn: the same reading twice is one, and counts as repeated.
            for number, payload in enumerate(TAKEN):
                at.sender.send(f"sensors/strange{turn}-{number}/pump", payload)
            for payloads in HOSTILE.values():
                for payload in payloads:
                    at.sender.send(f"sensors/bad{turn}/pump", payload)
            at.sender.send("sensors/bad/pump", b"x" * 100_000_000)
            at.sender.drain(60)
        at.end_of(sending)
        verdict = at.verdict()
        expected = {reason: turns * len(payloads) for reason, payloads in HOSTILE.items()}
        expected["too_large"] += turns
        wait_until(lambda: at.subscriber.stream("pump")["rejected"] == expected, 60, f"{expected}")
        vitals.stopped.set()
        watching.join()
        growth_mib = (max(vitals.own_kib) - vitals.own_kib[0]) / 1024
        report(rejected=sum(expected.values()), growth_mib=round(growth_mib, 1), **at.facts(verdict))
        assert verdict.problems == []
        assert growth_mib < 64
        assert all(is_tame(sample) for sample in at.subscriber.rejected)


def test_topics_that_are_no_text(tmp_path: Path, report: Report) -> None:
    """Topics that are not UTF-8, from a broker that does not check: acknowledged, no alert under a made-up name."""
    bundle = Plan(readings=0).bundle(tmp_path / "square-1.0.0.edge")
    with RawBroker() as broker, Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        assert broker.subscribed.wait(60)
        topics = [
            b"sensors/\xff\xfe/pump",
            b"sensors/\xc0\xaf/pump",
            b"sensors/\xed\xa0\x80/pump",
            b"",
            b"sensors/a\0b/pump",
        ]
        mid = 0
        for topic in [*topics, b"sensors/a1/pump"]:
            for _ in range(3):
                mid += 1
                payload = json.dumps({"time": FIRST_TIME_S + mid, "c1": 9, "c2": 9}).encode()
                broker.send(publish_packet(topic, payload, mid))
        wait_until(lambda: any(b"/alerts/" in topic for topic, _ in broker.published), 20, "the good reading's alert")
        wait_until(lambda: broker.acknowledged == mid, 20, "all to be acknowledged")
        alerts = [topic for topic, _ in broker.published if b"/alerts/" in topic]
        wait_until(lambda: last_health(broker)["unrouted"] == 3 * len(topics), 20, "the counters")
        report(sent=mid, received=len(alerts), unrouted=last_health(broker)["unrouted"])
        assert alerts == [b"edge/g1/alerts/pump/a1"]
        assert broker.connections == 1


def last_health(broker: RawBroker) -> dict[str, object]:
    """What the agent last told of itself."""
    payloads = [payload for topic, payload in broker.published if topic.endswith(b"/health")]
    found: dict[str, object] = msgspec.json.decode(payloads[-1]) if payloads else {"unrouted": None}
    return found
