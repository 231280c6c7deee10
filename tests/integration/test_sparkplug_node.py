"""`[sparkplug]`: the agent as an edge node, heard by an implementation that is not ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from peers import environment, install
from processes import Agent, Broker, Sender, Subscriber, free_port, run_tool, wait_until, write_config

ROOT = Path(__file__).parents[2]
SPARKPLUG = '[publish]\nscores = "0.3s"\n[sparkplug]\ngroup = "plant"\n'


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of pysparkplug and what it needs."""
    return install(tmp_path_factory.mktemp("peers"))


class Host:
    """The other implementation, listening."""

    def __init__(self, packages: Path, port: int, group: str = "plant") -> None:
        script = str(ROOT / "tests" / "peers" / "sparkplug_host.py")
        self.messages: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [sys.executable, script, str(port), group],
            env=environment(packages),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "{}\n"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.messages.append(json.loads(line))

    def ask(self, node: str) -> None:
        """For its births."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{node}\n")
        self._process.stdin.flush()

    def of(self, kind: str, device: str | None = None) -> list[dict[str, Any]]:
        return [each for each in list(self.messages) if each["kind"] == kind and each["device"] == device]

    def told(self, device: str) -> dict[str, Any]:
        """What it knows of a device: its birth, and what was told to have changed since."""
        known: dict[str, Any] = {}
        for each in [*self.messages]:
            if each["device"] == device and each["kind"] == "DBIRTH":
                known = dict(each["metrics"])
            elif each["device"] == device and each["kind"] == "DDATA":
                known.update(each["metrics"])
        return known

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def check_numbers(messages: list[dict[str, Any]]) -> None:
    """See that each birth of the node begins with 0, that no number is missing, and that all else is as it must be.

    Data are changes only: "metric values that have not changed within the same Sparkplug Session MUST not be resent".
    """
    expected: int | None = None
    bd_seq = None
    known: dict[str, dict[str, Any]] = {}
    for each in messages:
        if each["kind"] == "DBIRTH":
            known[each["device"]] = dict(each["metrics"])
        elif each["kind"] == "DDATA":
            assert each["metrics"]
            assert not each["metrics"].items() & known[each["device"]].items()
            known[each["device"]] |= each["metrics"]
        assert each["retain"] is False
        assert each["node"] == "g1"
        if each["kind"] == "NDEATH":
            assert each["metrics"]["bdSeq"] == bd_seq
            expected = None
            continue
        if each["kind"] == "NBIRTH":
            assert each["seq"] == 0
            assert each["metrics"]["Node Control/Rebirth"] is False
            assert each["types"]["bdSeq"] == "INT64"
            bd_seq = each["metrics"]["bdSeq"]
            expected = 0
        assert each["seq"] == expected
        expected = (expected + 1) % 256 if expected is not None else None


def test_a_host_hears_births_data_and_deaths(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path, packages: Path
) -> None:
    """In order, with scores, limits and alarms; a device that is forgotten dies, and so does the node at its stop."""
    options: dict[str, Any] = {"extra": SPARKPLUG, "stream": "idle_s = 4"}
    config = write_config(tmp_path, broker.port, {"pump": bundle}, **options)
    with Host(packages, broker.port) as host:
        with Agent(config):
            subscriber.wait_online()
            sender.send("sensors/a1/pump", {"c1": 1.0, "c2": 0.0})
            wait_until(lambda: host.of("DBIRTH", "pump:a1"))
            (birth,) = host.of("DBIRTH", "pump:a1")
            assert birth["types"] == {"Score": "DOUBLE", "Limit": "DOUBLE", "Alarm": "BOOLEAN"}
            for value in (1.0, 5.0):
                sender.send("sensors/a1/pump", {"c1": value, "c2": 0.0})
            wait_until(lambda: any(each["metrics"].get("Alarm") for each in host.of("DDATA", "pump:a1")))
            wait_until(lambda: host.told("pump:a1")["Score"] == 25.0)
            assert host.told("pump:a1")["Limit"] == 9.0
            sender.send("sensors/a1/pump", {"c1": 0.0, "c2": 0.0})
            wait_until(lambda: host.told("pump:a1")["Alarm"] is False)
            wait_until(lambda: host.of("DDEATH", "pump:a1"))
            assert subscriber.health["sparkplug_node"]["state"] == "connected"
        wait_until(lambda: host.of("NDEATH"))
    assert host.messages[0]["kind"] == "NBIRTH"
    assert host.messages[-1]["kind"] == "NDEATH"
    check_numbers(host.messages)
    assert {each["qos"] for each in host.messages if each["kind"] != "NDEATH"} == {0}


def test_an_asset_that_scores_once_is_told_with_its_score(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path, packages: Path
) -> None:
    """Though it was no device yet when it did."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=SPARKPLUG)
    with Host(packages, broker.port) as host, Agent(config):
        subscriber.wait_online()
        wait_until(lambda: host.of("NBIRTH"))
        for asset in range(5):
            sender.send(f"sensors/a{asset}/pump", {"c1": 2.0, "c2": 0.0})
            time.sleep(0.35)  # over an interval of scores, at different times of the node's own
        expected = {"Score": 4.0, "Limit": 9.0, "Alarm": False}
        wait_until(lambda: all(host.told(f"pump:a{asset}") == expected for asset in range(5)), what="all scores")
    check_numbers(host.messages)


def test_a_host_that_asks_gets_all_births_and_a_killed_agent_is_declared_dead(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path, packages: Path
) -> None:
    """By the will of its connection, whose number is that of the birth; and more than 256 messages are numbered.

    Each connection has the number behind the last one's, over a kill and a stop, so that no late death is its own.
    """
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=SPARKPLUG)
    with Agent(config) as agent:
        subscriber.wait_online()
        for number in range(300):
            sender.send(f"sensors/a{number}/pump", {"c1": 0.0, "c2": 0.0})
        wait_until(lambda: subscriber.health.get("sparkplug_node", {}).get("devices") == 300)
        with Host(packages, broker.port) as host:
            host.ask("g2")  # of another node
            host.ask("g1")
            wait_until(lambda: len(host.of("NBIRTH")) == 1)
            wait_until(
                lambda: (
                    {each["device"] for each in host.messages if each["kind"] == "DBIRTH"}
                    == {f"pump:a{number}" for number in range(300)}
                )
            )
            agent.kill()
            wait_until(lambda: host.of("NDEATH"))
            agent.start()
            wait_until(lambda: len(host.of("NBIRTH")) == 2)
            agent.stop()
            agent.start()
            wait_until(lambda: len(host.of("NBIRTH")) == 3)
            numbers = [each["metrics"]["bdSeq"] for each in host.of("NBIRTH")]
            assert numbers[1:] == [(number + 1) % 256 for number in numbers[:-1]]
            first = next(number for number, each in enumerate(host.messages) if each["kind"] == "NBIRTH")
            check_numbers(host.messages[first:])
        assert subscriber.health["sparkplug_node"]["rebirths"] in (0, 1)


def test_hosts_that_ask_without_end_get_all_births(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path, packages: Path
) -> None:
    """Each time to the last device, though they ask anew before that."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=SPARKPLUG)
    devices = {f"pump:a{number}" for number in range(400)}
    with Agent(config):
        subscriber.wait_online()
        for number in range(400):
            sender.send(f"sensors/a{number}/pump", {"c1": 0.0, "c2": 0.0})
        wait_until(lambda: subscriber.health.get("sparkplug_node", {}).get("devices") == 400)
        with Host(packages, broker.port) as host:
            for _ in range(100):
                host.ask("g1")
                time.sleep(0.02)  # less than the births take
            wait_until(lambda: births(host)[-1:] == [devices], what="the births that were asked for last")
            told = births(host)
    # The last ones may have begun just now.
    assert all(each == devices for each in told[:-1])
    assert len(told) < 20


def births(host: Host) -> list[set[str]]:
    """Behind each birth of the node, the devices that were born."""
    found: list[set[str]] = []
    for each in list(host.messages):
        if each["kind"] == "NBIRTH":
            found.append(set())
        elif each["kind"] == "DBIRTH" and found:
            found[-1].add(each["device"])
    return found


def test_the_death_is_that_of_the_birth_where_a_new_connection_could_not_be_made(
    tmp_path: Path, bundle: Path, packages: Path
) -> None:
    """A certificate without its key is tried, and the present connection goes on, with the number of its own will."""
    authority = Authority(tmp_path / "authority")
    own, (cert, key) = authority.issue("broker"), authority.issue("agent")
    listener = f"cafile {authority.file}\ncertfile {own[0]}\nkeyfile {own[1]}\nrequire_certificate true\n"
    mqtt = f'ca_file = "{authority.file}"\ncert_file = "{cert}"\nkey_file = "{key}"'
    with Broker(tmp_path / "broker", second=listener) as broker, Host(packages, broker.port) as host:
        agent = Agent(write_config(tmp_path, broker.second_port, {"pump": bundle}, mqtt=mqtt, extra=SPARKPLUG))
        with agent:
            wait_until(lambda: host.of("NBIRTH"))
            cert.write_bytes(authority.issue("other")[0].read_bytes())
            # Of both connections.
            wait_until(lambda: agent.log.read_text().count("changed files cannot be used yet") == 2, 60)
            host.ask("g1")
            wait_until(lambda: len(host.of("NBIRTH")) == 2)
        wait_until(lambda: host.of("NDEATH"))
    check_numbers(host.messages)
    assert len({each["metrics"]["bdSeq"] for each in host.of("NBIRTH") + host.of("NDEATH")}) == 1


def test_a_broker_that_dies_is_told_everything_again(tmp_path: Path, bundle: Path, packages: Path) -> None:
    """And nothing of it holds up the agent's own connection."""
    with (
        Broker(tmp_path / "broker") as broker,
        Subscriber(broker.port) as subscriber,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=SPARKPLUG)),
    ):
        subscriber.wait_online()
        with Sender(broker.port) as sender:
            sender.send("sensors/a1/pump", {"c1": 0.0, "c2": 0.0})
            sender.drain()
        wait_until(lambda: subscriber.health.get("sparkplug_node", {}).get("devices") == 1)
        broker.stop(signal.SIGKILL)
        broker.start()
        with Host(packages, broker.port) as host:

            def is_told() -> bool:
                # The node may have been born before the host was there to hear it.
                host.ask("g1")
                time.sleep(0.5)  # between two questions
                return bool(host.of("NBIRTH") and host.of("DBIRTH", "pump:a1"))

            wait_until(is_told, 60)
            first = next(number for number, each in enumerate(host.messages) if each["kind"] == "NBIRTH")
            check_numbers(host.messages[first:])


def test_a_broker_that_is_away_keeps_nobody_busy(tmp_path: Path, bundle: Path) -> None:
    """The agent sleeps until the next attempt; one that looked again at once would use a whole core."""
    extra = f"{SPARKPLUG}[homeassistant]\ndiscovery = true\n[evidence]\nbefore_s = 5\n"
    with (
        Broker(tmp_path / "broker") as broker,
        Subscriber(broker.port) as subscriber,
        Sender(broker.port) as sender,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, extra=extra)) as agent,
    ):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 9.0, "c2": 0.0})
        wait_until(lambda: subscriber.health.get("sparkplug_node", {}).get("devices") == 1)
        here = {**os.environ, "RUNTIME_DIRECTORY": str(agent.config.with_name("run"))}

        def shown() -> str:
            return run_tool("edge-agent", "status", "--config", agent.config, env=here).stdout

        assert "sparkplug     connected, 1 device\n" in shown()
        broker.stop(signal.SIGKILL)
        wait_until(lambda: "sparkplug     waiting, 1 device: " in shown(), what="the node's trouble to be shown")
        before_s = cpu_s(agent)
        time.sleep(3)  # what is measured
        assert cpu_s(agent) - before_s < 1.0


def cpu_s(agent: Agent) -> float:
    """What an agent has used of a core, seconds."""
    assert agent.process is not None
    fields = Path(f"/proc/{agent.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_group_needs_scores(tmp_path: Path, bundle: Path) -> None:
    """Which say how often."""
    config = write_config(tmp_path, free_port(), {"pump": bundle}, extra='[sparkplug]\ngroup = "plant"')
    done = run_tool("edge-agent", "check", "--config", config)
    assert done.returncode == 78
    assert "[sparkplug] group = 'plant': needs [publish] scores, which say how often" in done.stderr
