"""What a service manager does to the agent and sees of it, with a real process and a real socket for its messages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import write_bundle
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, tool, wait_until, write_config
from rig import hooked
from service_manager import ServiceManager


def test_a_service_finds_what_lies_beside_its_configuration(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """systemd starts it in `/`; the bundle, the state folder and the password's file are named without a folder."""
    (tmp_path / "password").write_text("secret")
    config = tmp_path / "agent.toml"
    config.write_text(
        '[agent]\nid = "g1"\nstate_dir = "state"\nhealth_interval_s = 0.2\n'
        f'[mqtt]\nport = {broker.port}\nusername = "g1"\npassword_file = "password"\n[engine]\nprovider = "cpu"\n'
        f'[[stream]]\nname = "pump"\nbundle = "{bundle.name}"\ntopic = "sensors/+/pump"\n'
    )
    options = ["--config", str(config)]
    done = subprocess.run(
        [tool("edge-agent"), "check", *options], cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen([tool("edge-agent"), "run", *options], cwd="/", stdout=log, stderr=log)
        try:
            subscriber.wait_online()
            wait_until(lambda: subscriber.stream("pump"), what="health")
            assert (tmp_path / "state" / "journal.db").exists()
        finally:
            agent.terminate()
            assert agent.wait(timeout=20) == 0


def test_a_reload_takes_the_new_configuration_and_loses_nothing(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Readings come all the time; the process keeps its number; a watcher sees that the agent comes back."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=EVERY_ALERT)
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        assert agent.process is not None
        subscriber.wait_online()
        manager.wait_for("READY=1")
        for number in range(200):
            sender.send("sensors/a1/pump", {"time": number, "c1": 9 * (number % 2), "c2": 0})
        write_config(tmp_path, broker.port, {"pump": bundle, "fan": bundle}, stream=EVERY_ALERT)
        agent.process.send_signal(signal.SIGHUP)
        for number in range(200, 800):
            sender.send("sensors/a1/pump", {"time": number, "c1": 9 * (number % 2), "c2": 0})
        wait_until(lambda: "fan" in subscriber.health.get("streams", {}), 60, "the new stream")
        sender.drain()
        wait_until(lambda: len(subscriber.different) == 799, 60, "every event")
        # The broker answers the subscriptions behind the readings that had waited.
        wait_until(lambda: len(subscriber.statuses) == 3, what="the birth")
        assert [status["reason"] for status in subscriber.statuses] == ["connected", "reloading", "connected"]
        assert len(subscriber.raw_alerts) == 799
        pid = Path("/proc") / str(agent.process.pid)
        assert b"edge-agent" in (pid / "cmdline").read_bytes()
        manager.wait_for("READY=1", times=2)
        assert manager.fields("RELOADING", "READY", "STOPPING") == ["READY=1", "RELOADING=1", "READY=1"]
        told = next(message for message in manager.messages if "RELOADING=1" in message)
        assert 0 < int(told[-1].removeprefix("MONOTONIC_USEC=")) < 1e6 * (manager.now_mono_s() + 1)
        assert agent.stop() == 0
    assert manager.fields("STOPPING") == ["STOPPING=1"]


def _damage(bundle: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 0xFF
    bundle.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda config, _: config.write_text(config.read_text() + "\nqoss = 1\n"), "qoss: unknown key"),
        (lambda config, _: config.write_text("[agent"), "is not TOML"),
        (lambda config, _: config.unlink(), "agent.toml: cannot be read"),
        (lambda _, bundle: bundle.unlink(), "square-1.0.0.edge: "),
        (lambda _, bundle: _damage(bundle), "square-1.0.0.edge: "),
        (lambda _, bundle: write_bundle(bundle, golden_factor=2.0), "golden"),
        (
            lambda config, _: config.write_text(config.read_text().replace('"cpu"', '"cuda"')),
            "cuda",
        ),
    ],
    ids=["key", "toml", "file", "bundle", "damage", "scores", "provider"],
)
def test_a_reload_with_what_could_not_start_changes_nothing(
    tmp_path: Path,
    broker: Broker,
    subscriber: Subscriber,
    sender: Sender,
    bundle: Path,
    spoil: Callable[[Path, Path], object],
    told: str,
) -> None:
    """The agent says what is wrong, goes on as it was, and takes the next good one."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    good, kept = config.read_text(), shutil.copy(bundle, tmp_path / "kept")
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        assert agent.process is not None
        subscriber.wait_online()
        spoil(config, bundle)
        agent.process.send_signal(signal.SIGHUP)
        manager.wait_for("READY=1", times=2, timeout_s=60)
        refused = [line for line in agent.log.read_text().splitlines() if "reload refused" in line]
        assert len(refused) == 1
        assert told in refused[0]
        assert "ERROR" in refused[0]
        manager.wait_until_status("reload refused")
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        wait_until(lambda: len(subscriber.alerts) == 1, what="an alert")
        assert len(subscriber.statuses) == 1
        config.write_text(good)
        shutil.copy(kept, bundle)
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(subscriber.statuses) == 3, 60, "the reload")
        manager.wait_for("READY=1", times=3)


def test_a_stream_with_an_input_is_not_reloaded(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """Nobody keeps what a pipe has for an agent that is not there, nor where it was in a file."""
    os.mkfifo(tmp_path / "pipe")
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    config.write_text(config.read_text().replace('topic = "sensors/+/pump"', 'input = "pipe"'))
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        assert agent.process is not None
        manager.wait_for("READY=1")
        agent.process.send_signal(signal.SIGHUP)
        manager.wait_for("READY=1", times=2)
        assert "a stream with an input has no reload; restart the agent" in agent.log.read_text()


@pytest.mark.parametrize("content", ["c1,c2\n1,2\n", ""])
def test_a_service_whose_input_has_ended_goes_on(tmp_path: Path, broker: Broker, bundle: Path, content: str) -> None:
    """Its manager starts it again however it ends, and then it would read the file again."""
    (tmp_path / "readings.csv").write_text(content)
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    config.write_text(config.read_text().replace('topic = "sensors/+/pump"', 'input = "readings.csv"'))
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        assert agent.process is not None
        wait_until(lambda: "every input has ended" in agent.log.read_text(), what="the end of the input")
        assert agent.process.poll() is None
        assert agent.stop() == 0


def test_a_service_whose_input_is_none_of_ours_ends(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """With 65, after which its manager does not start it again: somebody has to see to the file."""
    (tmp_path / "readings.csv").write_text("c1;c2\n1;2\n3;4,5\n")
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    config.write_text(config.read_text().replace('topic = "sensors/+/pump"', 'input = "readings.csv"'))
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        assert agent.process is not None
        assert agent.process.wait(timeout=60) == 65


_WAITS_FOR_SIGNALS = """
import os, sys
from edge_agent.service.anew import start_anew
from edge_agent.service.signals import Signals
signals = Signals()
with signals.caught():
    if "again" in os.environ:
        print(signals.received, signals.reload_asked)
    else:
        os.environ["again"] = "yes"
        Signals.hold_back()
        os.kill(os.getpid(), int(sys.argv[1]))
        start_anew(signals)
"""


@pytest.mark.parametrize(("number", "noted"), [(signal.SIGTERM, "15 False"), (signal.SIGHUP, "None True")])
def test_a_signal_between_two_programs_of_a_process_is_not_lost(number: signal.Signals, noted: str) -> None:
    """By default it would end the process; it waits for the new program's handler."""
    command = [sys.executable, "-c", _WAITS_FOR_SIGNALS, str(int(number))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, noted)


@pytest.mark.parametrize(("asked", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 69)])
def test_a_service_that_lacks_something_waits_and_says_for_what(
    tmp_path: Path, broker: Broker, bundle: Path, asked: signal.Signals, code: int
) -> None:
    """From the second start on, longer each time; whoever stops it, or asks for a reload, need not wait."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, engine='require = "cuda"')
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        assert agent.process is not None
        assert agent.process.wait(timeout=60) == 69
        for pause_s in (10, 20):
            agent.start()
            manager.wait_until_status(f"ends in {pause_s} s to be started again: ", 60)
            assert manager.status.endswith("(exit code 69)")
            assert "cuda" in manager.status
            assert agent.process.poll() is None
            manager.wait_for("EXTEND_TIMEOUT_USEC=180000000")
            agent.process.send_signal(asked)
            assert agent.process.wait(timeout=20) == code
        assert "READY=1" not in manager.fields("READY")
        agent.process = None


def test_by_hand_nobody_waits(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """Without a service manager, the second end is as fast as the first."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, engine='require = "cuda"')
    agent = Agent(config)
    for _ in range(2):
        agent.start()
        assert agent.process is not None
        assert agent.process.wait(timeout=60) == 69
    assert "to be started again" not in agent.log.read_text()


def test_a_bug_ends_a_service_later_each_time(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Its traceback is in the log before the wait, and once."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    with ServiceManager(tmp_path) as manager:
        agent = Agent(config, command=hooked("harm=error"), env=manager.environ)
        with agent:
            subscriber.wait_online()
            sender.send("sensors/a1/pump", b"harmful")
            assert agent.process is not None
            assert agent.process.wait(timeout=60) == 1
            agent.start()
            manager.wait_until_status("ends in 10 s to be started again: a bug, ZeroDivisionError", 60)
            assert agent.log.read_text().count("Traceback (most recent call last)") == 2
            agent.process.terminate()
            assert agent.process.wait(timeout=20) == 0


@pytest.mark.parametrize("what", ["loop", "scorer", "mqtt"])
def test_the_watchdog_is_not_fed_while_a_part_stands_still(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path, what: str
) -> None:
    """The process lives, and its signs of life cease for longer than any work takes."""
    trigger = tmp_path / "block"
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    command = hooked(f"block={what}:{trigger}")
    with ServiceManager(tmp_path, watchdog_s=0.4) as manager:
        agent = Agent(config, command=command, env=manager.environ)
        agent.start()
        assert agent.process is not None
        subscriber.wait_online()
        manager.wait_for("WATCHDOG=1", times=10)
        trigger.touch()
        # The connection is looked after every second, and may be late by ten.
        sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
        wait_until(lambda: manager.silent_s("WATCHDOG=1") > 4, 40, "the end of the signs of life")
        assert agent.process.poll() is None
        agent.kill()


@pytest.mark.alone
@pytest.mark.parametrize("how", ["away", "silent"])
def test_a_broker_that_is_away_or_silent_is_no_lack_of_progress(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path, how: str
) -> None:
    """The agent is fed on, and the status says within a second what it waits for."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, mqtt="keepalive_s = 5")
    with ServiceManager(tmp_path, watchdog_s=2) as manager, Agent(config, env=manager.environ) as agent:
        subscriber.wait_online()
        manager.wait_until_status(f"connected to mqtt://127.0.0.1:{broker.port}")
        assert broker.process is not None
        broker.process.send_signal(signal.SIGKILL if how == "away" else signal.SIGSTOP)
        manager.wait_until_status(f"not connected to mqtt://127.0.0.1:{broker.port}: ", 60)
        fed = manager.fields("WATCHDOG").count("WATCHDOG=1")
        manager.wait_for("WATCHDOG=1", times=fed + 12)
        assert manager.longest_pause_s("WATCHDOG=1") < 2
        broker.process.send_signal(signal.SIGCONT)
        assert agent.process is not None
        assert agent.process.poll() is None


def test_the_status_tells_what_a_start_waits_for(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """Which stream, which provider, and how many there are."""
    config = write_config(tmp_path, broker.port, {"pump": bundle, "fan": bundle})
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ):
        manager.wait_until_status("connected to mqtt://")
    told = [text.removeprefix("STATUS=") for text in manager.fields("STATUS")]
    starts = ["opening the bundles", "starting pump, 1 of 2", "measuring pump on cpu, 1 of 2", "starting fan, 2 of 2"]
    assert told[:4] == starts
    assert told[4].startswith("connecting to mqtt://")
    before_ready = [line for message in manager.messages for line in message]
    assert before_ready.index("STATUS=starting fan, 2 of 2") < before_ready.index("READY=1")


def test_the_status_tells_what_is_wrong_and_when_it_is_over(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """A full disk, and the same disk with room again."""
    config = write_config(tmp_path, broker.port, {"pump": bundle})
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        subscriber.wait_online()
        agent.limit_files(1)
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 9})
        manager.wait_until_status("; journal: ")
        agent.limit_files(None)
        wait_until(lambda: "journal" not in manager.status, what="a status without a problem")
