"""`edgetool fleet status`: every agent that a broker knows of, also behind one that gives nothing kept to a filter."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from brokers import broker_named
from processes import Agent, Broker, Sender, Subscriber, run_tool, tool, wait_until, write_config
from simulated_agents import Behaviour, SimulatedFleet, simulated

import edgetool
from edge_agent.trust import load_keys
from edgetool.broker import BrokerAddress

NAMES = ["press-1", "press-2", "press-3"]


@pytest.fixture
def behaviour(tmp_path: Path) -> Behaviour:
    keys = edgetool.keygen(tmp_path / "plant")
    return Behaviour(keys=load_keys([keys.public]), health_s=2.0, alerts=lambda agent, _: int(agent == "press-3"))


def all_told(fleet: SimulatedFleet) -> bool:
    return all(agent.published for agent in fleet.agents.values())


def status(port: int, *options: str) -> edgetool.FleetReport:
    return edgetool.fleet_status(BrokerAddress(port=port), agents=options)


def by_name(report: edgetool.FleetReport) -> dict[str, str]:
    return {row.agent: row.state for row in report.agents}


def shown(port: int, *options: str) -> str:
    done = run_tool("edgetool", "fleet", "status", "--port", str(port), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_that_the_broker_keeps_is_shown_at_once(broker: Broker, behaviour: Behaviour) -> None:
    """First what needs a person: an agent that is gone, then one with an alert."""
    with simulated(broker.port, NAMES, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        fleet.stop("press-2")
        wait_until(lambda: by_name(status(broker.port)).get("press-2") == "offline", what="the last will")
        report = status(broker.port)
        assert [row.agent for row in report.agents] == ["press-2", "press-3", "press-1"]
        assert report.kept
        text = shown(broker.port)
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("press-")]
    assert [row[:3] for row in rows] == [
        ["press-2", "offline", "0.1.0"],
        ["press-3", "online", "0.1.0"],
        ["press-1", "online", "0.1.0"],
    ]
    assert rows[1][3:7] == ["pump", "square", "1.0.0", "cpu"]
    assert "connection lost; last seen 20" in text
    assert "with what the broker keeps: 2 of 3 agents online, 1 open alerts" in text


def test_a_broker_that_gives_nothing_kept_to_a_filter_is_listened_to(tmp_path: Path, behaviour: Behaviour) -> None:
    """What says its health now is seen; what is off, by its name alone; and it is said for how long."""
    with broker_named("rabbitmq", tmp_path / "rabbitmq") as other, simulated(other.port, NAMES, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), 60, "the agents")
        fleet.stop("press-2")
        wait_until(lambda: by_name(status(other.port, "press-2")) == {"press-2": "offline"}, 60, "the last will")
        report = status(other.port)
        assert by_name(report) == {"press-1": "online", "press-3": "online"}
        assert all(row.streams[0].update is not None for row in report.agents)
        assert not report.kept
        assert report.listened_s >= 12
        text = shown(other.port, "--agents", "press-2,press-9", "--for", "3")
    assert "press-9: nothing was heard of it" in text
    assert "0 of 1 agents online" in text


def test_a_real_agent_is_a_row(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """With its pace and its open alert; it trusts no key, so it tells nothing of updates."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 4.0, "c2": 4.0})
        wait_until(lambda: subscriber.stream("pump").get("active_alerts") == 1, what="the alert in health")
        found = json.loads(shown(broker.port, "--json"))
    (row,) = found["agents"]
    assert (row["agent"], row["state"], row["open_alerts"]) == ("g1", "online", 1)
    (stream,) = row["streams"]
    assert (stream["stream"], stream["bundle"], stream["version"]) == ("pump", "square", "1.0.0")
    assert stream["readings_per_minute"] is not None
    assert stream["update"] is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--agents", "a/b"), "--agents 'a/b': is no agent's id"),
        (("--agents", "@none.txt"), "--agents @none.txt: cannot be read"),
        (("--watch", "--json"), "--watch: goes not with --json"),
    ],
)
def test_what_cannot_be_meant_is_told(broker: Broker, options: Sequence[str], problem: str) -> None:
    """With 2."""
    done = run_tool("edgetool", "fleet", "status", "--port", str(broker.port), *options)
    assert done.returncode == 2
    assert problem in done.stderr


def test_a_terminal_shows_the_fleet_as_it_changes(broker: Broker, behaviour: Behaviour) -> None:
    """The table is drawn anew each second, until the time is over."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "30"}
    command = [tool("edgetool"), "fleet", "status", "--watch", "--for", "60", "--port", str(broker.port)]
    with simulated(broker.port, NAMES, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        shown = b""
        try:
            while b"3 of 3 agents online" not in shown:
                shown += os.read(ours, 10_000)
            fleet.stop("press-2")
            # Not by the last picture: of that, a terminal may lose the rest as the process ends.
            while not (b"2 of 3 agents online" in shown and b"connection lost" in shown):
                shown += os.read(ours, 10_000)
        finally:
            process.send_signal(signal.SIGINT)
            while process.poll() is None:
                with suppress(OSError):  # the end of a terminal, on Linux
                    os.read(ours, 10_000)
            os.close(ours)
    assert process.returncode == 0
