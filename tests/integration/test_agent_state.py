"""What the agent keeps, on a disk that is full, broken, deleted or somebody else's."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from fakes import write_bundle
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, run_tool, tool, wait_until, write_config


def test_what_waits_for_the_journal_takes_little_memory(tmp_path: Path, bundle: Path) -> None:
    """60 MB, all of which the broker may have in flight; the connection outlives its keep-alive meanwhile."""
    with (
        Broker(tmp_path / "broker", inflight=1000) as broker,
        Subscriber(broker.port) as subscriber,
        Sender(broker.port) as sender,
        Agent(write_config(tmp_path, broker.port, {"pump": bundle}, mqtt="keepalive_s = 5")) as agent,
    ):
        subscriber.wait_online()
        before_mb = agent.memory_mb()
        agent.limit_files(4096)
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: subscriber.health.get("journal_problem") is not None)
        for _ in range(300):
            sender.send("sensors/a1/pump", {"c1": 0, "c2": 0, "padding": "." * 200_000})
        time.sleep(8)  # the keep-alive, and more
        assert agent.memory_mb() < before_mb + 10
        assert subscriber.health["connects"] == 1
        agent.limit_files(None)
        wait_until(lambda: subscriber.stream("pump").get("scored") == 301)
        # What was left out came again on a new connection, before which the agent was not taken for lost.
        assert subscriber.health["connects"] == 2
        assert {status["reason"] for status in subscriber.statuses} == {"connected"}


def test_a_full_journal_is_emptied_though_more_readings_wait_than_are_held(tmp_path: Path, bundle: Path) -> None:
    """What makes room, the broker's acknowledgements, stands behind the readings on the same connection."""
    config = write_config(tmp_path, 0, {"pump": bundle}, extra="[journal]\nlimit_mb = 0.05", stream=EVERY_ALERT)
    with Broker(tmp_path / "broker", inflight=1000) as broker, Sender(broker.port) as sender:
        config.write_text(config.read_text().replace("port = 0", f"port = {broker.port}"))
        with Subscriber(broker.port) as subscriber:
            with Agent(config):
                subscriber.wait_online()
            for number in range(800):
                reading = {"time": number, "c1": 9 * (number % 2), "c2": 0, "padding": "." * 5000}
                sender.send("sensors/a1/pump", reading)
            sender.drain()
            with Agent(config):
                wait_until(lambda: len(subscriber.different) == 799, 60, "every event")
                wait_until(lambda: subscriber.health.get("queue_depth") == 0)


def test_two_agents_do_not_share_a_state_folder(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """The second says so and exits 78, which systemd does not restart."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    with Agent(config) as first:
        subscriber.wait_online()
        second = Agent(config)
        second.start()
        assert second.process is not None
        assert second.process.wait(timeout=20) == 78
        assert first.process is not None
        assert first.process.poll() is None
    assert b"another edge-agent is using it" in first.log.read_bytes()


def test_windows_survive_a_kill(tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender) -> None:
    """A window of three that spans the kill is scored as if there had been none."""
    bundle = write_bundle(tmp_path / "mean-1.0.0.edge", window=3)
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        subscriber.wait_online()
        for number in range(2):
            sender.send("sensors/a1/pump", {"time": 100.0 + number, "c1": 3.0, "c2": 0.0})
        wait_until(lambda: subscriber.stream("pump").get("readings") == 2)
        agent.kill()
        agent.start()
        sender.send("sensors/a1/pump", {"time": 102.0, "c1": 3.0, "c2": 0.0})
        wait_until(lambda: subscriber.alerts)
    assert subscriber.alerts[0].score == pytest.approx(9.0)


def test_held_values_survive_a_planned_restart(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """The first reading after it may lack a value, as readings before it might have; the start after that one may not
    use what was left, which is of old readings then."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    with Agent(config):
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"time": 100.0, "c1": 3.0, "c2": 0.0})
        wait_until(lambda: len(subscriber.alerts) == 1)
    with Agent(config) as agent:
        wait_until(lambda: [status["state"] for status in subscriber.statuses[-2:]] == ["offline", "online"])
        sender.send("sensors/a1/pump", {"time": 101.0, "c2": 0.5})
        wait_until(lambda: subscriber.stream("pump").get("scored") == 1)
        assert subscriber.stream("pump")["incomplete"] == 0
        agent.kill()
    with closing(sqlite3.connect(tmp_path / "state" / "journal.db")) as journal:
        records = journal.execute("SELECT asset FROM asset").fetchall()
    assert ("#left",) not in records


def test_a_journal_that_is_deleted_under_the_agent_is_made_anew(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """The alert that was raised before is cleared after the next kill."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as agent:
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: len(subscriber.alerts) == 1)
        for file in (tmp_path / "state").glob("journal*"):
            file.unlink()
        wait_until(lambda: b"journal is on the disk again" in agent.log.read_bytes())
        agent.kill()
        agent.start()
        sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
        subscriber.wait_events("raise", "clear")


@pytest.mark.parametrize("state", ["/proc/nope", "/dev/null/state"])
def test_a_state_folder_that_cannot_be_is_a_mistake_in_the_configuration(
    tmp_path: Path, bundle: Path, state: str
) -> None:
    """Exit code 78 and the key."""
    config = write_config(tmp_path, 1, {"pump": bundle})
    config.write_text(config.read_text().replace(str(tmp_path / "state"), state))
    agent = Agent(config)
    agent.start()
    assert agent.process is not None
    assert agent.process.wait(timeout=20) == 78
    assert f"[agent] state_dir = {state!r}: cannot be written".encode() in agent.log.read_bytes()


def test_without_a_disk_at_the_start_the_agent_works_and_says_so(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """What it did in memory is on the disk as soon as there is one."""
    agent = Agent(
        write_config(tmp_path, broker.port, {"pump": bundle}), command=("prlimit", "--fsize=0:", tool("edge-agent"))
    )
    with agent:
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: len(subscriber.alerts) == 1)
        wait_until(lambda: "journal.db" in (subscriber.health.get("journal_problem") or ""))
        agent.limit_files(None)
        wait_until(lambda: subscriber.health.get("journal_problem") is None)
        agent.kill()
        agent.command = [tool("edge-agent")]
        agent.start()
        sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
        subscriber.wait_events("raise", "clear")


def test_a_full_disk_with_drop_oldest_goes_on_in_memory(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Scoring never stops there, and the journal is back on the disk as soon as it has room."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra='[journal]\nwhen_full = "drop-oldest"')
    with Agent(config) as agent:
        subscriber.wait_online()
        agent.limit_files(4096)
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: len(subscriber.alerts) == 1)
        wait_until(lambda: subscriber.health.get("journal_problem") is not None)
        agent.limit_files(None)
        wait_until(lambda: subscriber.health.get("journal_problem") is None)
        agent.kill()
        agent.start()
        sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
        subscriber.wait_events("raise", "clear")


def test_what_is_asked_for_while_the_journal_is_in_memory_is_done_again_after_a_kill(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """The request is there until the disk has what came of it: what is in memory is gone with the process."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra='[journal]\nwhen_full = "drop-oldest"')

    def requests() -> list[Path]:
        return [*(tmp_path / "state").glob("request-*.json")]

    with Agent(config) as agent:
        subscriber.wait_online()
        agent.limit_files(4096)
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        subscriber.wait_events("raise")  # so it is in memory
        run_tool("edge-agent", "mute", "pump", "a1", "--for", "1h", "--config", config)
        wait_until(lambda: subscriber.muted)
        agent.kill()
        assert len(requests()) == 1
        del subscriber.muted[:]
        agent.start()
        wait_until(lambda: subscriber.muted)
        wait_until(lambda: not requests())
        # The disk comes back while the agent runs.
        agent.limit_files(4096)
        sender.send("sensors/a2/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: any(each.asset == "a2" for each in subscriber.alerts))
        run_tool("edge-agent", "mute", "pump", "a3", "--for", "1h", "--config", config)
        wait_until(lambda: len(subscriber.muted) == 2)
        assert len(requests()) == 1
        agent.limit_files(None)
        wait_until(lambda: not requests())


@pytest.mark.parametrize("is_killed", [False, True])
def test_an_open_interval_survives_the_agent(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, *, is_killed: bool
) -> None:
    """Half of its readings come before, half behind; the mean is that of all, and so is the alert."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", window=2)
    stream = '[stream.window]\nevery_s = 10\nresample = "mean"'
    config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=stream)
    start_s = 1_763_700_000

    def send(*pairs: tuple[float, float]) -> None:
        for after_s, value in pairs:
            sender.send("sensors/a1/pump", {"time": start_s + after_s, "c1": value, "c2": 0.0})

    with Agent(config) as agent:
        subscriber.wait_online()
        send((0, 0.0), (11, 8.0), (12, 8.0))
        wait_until(lambda: subscriber.stream("pump").get("readings") == 3)
        time.sleep(0.5)  # held for commit_s at most
        assert subscriber.alerts == []
        if is_killed:
            agent.kill()
    with Agent(config):
        send((18, 2.0), (19, 2.0), (21, 0.0))
        wait_until(lambda: len(subscriber.alerts) == 1)
    (alert,) = subscriber.alerts
    assert alert.time == "2025-11-21T04:40:19.000Z"
    # c1 is 0, then 5 on the mean; a window's score is the mean of its squares.
    assert (alert.score, alert.channels[0].value) == (12.5, 5.0)
