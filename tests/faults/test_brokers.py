"""The agent is killed behind brokers that plants run, each of which sends again in a way of its own.

What was taken into the state is noted by a hook in the same transaction of the journal, so it is known exactly which
readings were, how often, and in which order, whatever the broker does with that order.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from brokers import broker_named
from plan import FIRST_TIME_S, Plan, judge
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, wait_until, write_config
from rig import Report, Sending, hooked

ENDLESS = 10_000_000
EXACT = ("mosquitto", "mosquitto2.0.21", "rabbitmq", "rabbitmq4", "rumqttd")
"""Each reading is scored once and in its order."""
UNORDERED = ("activemq", "aedes", "nats")
"""Each reading is taken once; the broker sends some behind newer ones."""
KEEPS_NOTHING = ("amqtt",)
"""The broker keeps no session, so what was on its way is lost."""
LATE_S = 1_000_000
"""Readings of the plan are a second apart, and what NATS sends again comes 30 s later."""
QUIET_S = 45.0
"""Longer than any of them waits before it sends again."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the journal of all processes says."""

    sent: int
    twice: int
    missing: int
    behind: int
    """Readings that came behind a newer one of their asset."""


def taken(journal: Path, plan: Plan) -> Taken:
    """Read the notes of the hook."""
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as db:
        notes = db.execute("SELECT record FROM asset WHERE stream = 'taken'").fetchall()
    lists = sorted((msgspec.json.decode(note) for (note,) in notes), key=lambda each: each["at"])
    order = [(asset, time_s) for each in lists for asset, time_s in each["readings"]]
    counts = Counter(order)
    wanted = {(f"a{number % plan.assets}", FIRST_TIME_S + number) for number in range(plan.readings)}
    newest: dict[str, float] = {}
    behind = 0
    for asset, time_s in order:
        behind += time_s < newest.get(asset, 0.0)
        newest[asset] = max(time_s, newest.get(asset, 0.0))
    return Taken(plan.readings, sum(count - 1 for count in counts.values()), len(wanted - counts.keys()), behind)


@pytest.mark.timeout(1800)
def test_killed_behind_a_broker(tmp_path: Path, full: bool, report: Report, broker_name: str) -> None:
    """Six SIGKILLs under load, with a time in the readings: no reading is scored twice, and none is missing."""
    kills = 4 if full else 1
    plan = Plan(readings=ENDLESS)
    late = f"[stream.window]\nlate_s = {LATE_S}\n" if broker_name in UNORDERED else ""
    with ExitStack() as stack:
        # Alerts go by mosquitto, so that only what happens to readings shows.
        alerts = stack.enter_context(Broker(tmp_path / "alerts"))
        subscriber = stack.enter_context(Subscriber(alerts.port))
        broker = broker_named(broker_name, tmp_path / "broker")
        stack.enter_context(broker)
        mqtt = f'keepalive_s = 10\n[mqtt.alerts]\nhost = "127.0.0.1"\nport = {alerts.port}'
        bundle = plan.bundle(tmp_path / "square-1.0.0.edge")
        config = write_config(tmp_path, broker.port, {plan.stream: bundle}, mqtt=mqtt, stream=f"{late}{EVERY_ALERT}")
        agent = Agent(config, command=hooked("note=taken"))
        sender = stack.enter_context(Sender(broker.port))

        def is_connected() -> bool:
            health = subscriber.health
            # A killed process may have told the same, last.
            return health.get("session") not in sessions and health["broker"]["state"] == "connected"

        sessions: set[str | None] = {None}
        agent.start()
        stack.callback(lambda: agent.kill() if agent.process and agent.process.poll() is None else None)
        wait_until(is_connected, 60, f"the agent; see {agent.log}")
        time.sleep(1.0)  # until the subscription is granted
        chance = plan.chance()
        sending = Sending(sender, plan, rate_hz=200, first=0, last=plan.readings)
        sending.start()
        for number in range(kills):
            time.sleep(chance.uniform(1.0, 3.0))  # the random moment
            agent.kill()
            if number % 2 == 0:
                # Once between a commit and its acknowledgement, so that something comes again that was scored.
                agent.command = hooked("note=taken", f"kill=commit-ack:{chance.randint(2, 8)}")
                agent.start()
                assert agent.process is not None
                assert agent.process.wait(60) == -signal.SIGKILL
                agent.command = hooked("note=taken")
            sessions.add(subscriber.health["session"])
            agent.start()
            wait_until(is_connected, 60, f"the agent; see {agent.log}")
        time.sleep(2.0)  # for what the broker sends again late
        plan = Plan(readings=sending.end())
        sender.drain(90)
        journal = tmp_path / "state" / "journal.db"
        limit = time.monotonic() + (QUIET_S if broker_name not in EXACT else 30.0)
        is_kept = broker_name not in KEEPS_NOTHING
        while time.monotonic() < limit and (
            taken(journal, plan).missing or (is_kept and not subscriber.count(plan.stream, "repeated"))
        ):
            time.sleep(0.5)  # between two looks
        time.sleep(1.0)  # in which a reading would be scored twice
        found = taken(journal, plan)
        version = subscriber.health["broker"]["protocol"]
        repeated = subscriber.count(plan.stream, "repeated")
        facts = {
            "broker": broker_name,
            "mqtt": version,
            "kills": kills + (kills + 1) // 2,
            "repeated": repeated,
            "sent": found.sent,
        }
        if broker_name in EXACT:
            wait_until(lambda: len(subscriber.different) >= len(plan.expected()), 60, "every event")
            verdict = judge(plan, list(subscriber.raw_alerts))
            report(**facts, **verdict.facts(), twice=found.twice, missing=found.missing, behind=found.behind)
            assert verdict.problems == []
            assert found == Taken(plan.readings, 0, 0, 0)
        else:
            late_count = subscriber.count(plan.stream, "late")
            report(**facts, twice=found.twice, missing=found.missing, behind=found.behind, late=late_count)
            assert found.twice == 0
            assert found.missing == 0 or not is_kept
        assert repeated > 0 or not is_kept, "nothing came again, so nothing was shown"
