"""`edge-agent status`: what an operator at the device sees, with a real agent and a real broker."""

from __future__ import annotations

import json
import os
import signal
import time
import tomllib
from pathlib import Path

import pytest
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, run_tool, wait_until, write_config
from service_manager import ServiceManager


@pytest.fixture
def config(tmp_path: Path, broker: Broker, bundle: Path) -> Path:
    return write_config(tmp_path, broker.port, {"pump": bundle}, stream=EVERY_ALERT)


def test_it_tells_what_the_agent_published_last(
    config: Path, broker: Broker, subscriber: Subscriber, sender: Sender
) -> None:
    """Broker, queue, and each stream with its readings, alerts and provider; as JSON the health message itself."""
    here = {**os.environ, "RUNTIME_DIRECTORY": str(config.with_name("run"))}
    before = run_tool("edge-agent", "status", "--config", config, env=here)
    assert before.returncode == 69
    assert "no agent runs with" in before.stderr
    with Agent(config) as agent:
        subscriber.wait_online()
        sender.send("sensors/a1/pump", {"time": 1, "c1": 9, "c2": 0})
        sender.send("sensors/a1/pump", b"no reading")
        wait_until(lambda: subscriber.stream("pump").get("rejected"), what="health")
        done = run_tool("edge-agent", "status", "--config", config, env=here)
        assert (done.returncode, done.stderr) == (0, "")
        assert "g1: edge-agent 0.1.0, up " in done.stdout
        assert f"connected mqtt://127.0.0.1:{broker.port}" in done.stdout
        assert "1 reading, 1 asset, 1 alert open, 1 message rejected; cpu (" in done.stdout
        document = json.loads(run_tool("edge-agent", "status", "--config", config, "--json", env=here).stdout)
        assert document["agent"] == "g1"
        assert document["streams"]["pump"]["active_alerts"] == 1
        assert 0 <= document["age_s"] < 10
        broker.stop()
        wait_until(
            lambda: (
                "not connected" in (said := run_tool("edge-agent", "status", "--config", config, env=here).stdout)
                or "connection refused" in said.lower()
            ),
            what="the broker's trouble",
        )
        assert agent.process is not None
        agent.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        hung = run_tool("edge-agent", "status", "--config", config, env=here)
        agent.process.send_signal(signal.SIGCONT)
        assert hung.returncode == 69
        assert "it hangs, or was stopped" in hung.stderr


def test_nothing_is_told_where_another_user_could_put_a_link(config: Path, subscriber: Subscriber) -> None:
    """In a folder that all may write to, there is no such file, and the command says what to give."""
    shared = config.with_name("shared")
    shared.mkdir()
    shared.chmod(0o1777)
    here = {**os.environ, "RUNTIME_DIRECTORY": str(shared)}
    with Agent(config, env={"RUNTIME_DIRECTORY": str(shared)}):
        subscriber.wait_online()
        wait_until(lambda: subscriber.stream("pump"), what="health")
        done = run_tool("edge-agent", "status", "--config", config, env=here)
    assert done.returncode == 69
    assert "give [agent] runtime_dir" in done.stderr
    assert not list(shared.glob("*.health.json"))


def test_a_configuration_that_was_spoilt_hides_no_agent_that_runs(
    config: Path, subscriber: Subscriber, tmp_path: Path
) -> None:
    """It goes on as it was, and this is when somebody looks: the reload that it refused and the next start are told."""
    good = config.read_text()
    state_dir = tomllib.loads(good)["agent"]["state_dir"]
    with ServiceManager(tmp_path) as manager, Agent(config, env=manager.environ) as agent:
        assert agent.process is not None
        subscriber.wait_online()
        here = {**os.environ, **manager.environ, "STATE_DIRECTORY": state_dir}
        # The connection was made after the first health message was.
        wait_until(
            lambda: "connected mqtt:" in run_tool("edge-agent", "status", "--config", config, env=here).stdout,
            what="the connection to be told",
        )
        config.write_text(good.replace("topic", "topik"))
        agent.process.send_signal(signal.SIGHUP)
        manager.wait_until_status("reload refused")
        verdict = Path(manager.environ["RUNTIME_DIRECTORY"]) / "reload"
        wait_until(verdict.exists, what="the verdict")
        assert "topik: unknown key" in verdict.read_text()
        wait_until(
            lambda: "topik" in run_tool("edge-agent", "status", "--config", config, "--json", env=here).stdout,
            what="the refusal to be told",
        )
        done = run_tool("edge-agent", "status", "--config", config, env=here)
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
        assert done.stdout.startswith("g1: ")
        assert ["reload", "problem", f"{config}: [[stream]] 1 topik: unknown key; did you mean 'topic'?"] in lines
        assert ["next", "start", f"{config}: [[stream]] 1 topik: unknown key; did you mean 'topic'?"] in lines
        document = json.loads(run_tool("edge-agent", "status", "--config", config, "--json", env=here).stdout)
        assert document["agent"] == "g1"
        assert document["config_problems"][0] == document["reload_problem"]

        # A good one: the verdict is there before the new start, and empty.
        verdict.unlink()
        config.write_text(good)
        agent.process.send_signal(signal.SIGHUP)
        wait_until(verdict.exists, what="the verdict")
        assert verdict.read_text() == ""
        manager.wait_for("READY=1", times=3)
    config.write_text(good.replace("topic", "topik"))
    ended = run_tool("edge-agent", "status", "--config", config, env=here)
    assert ended.returncode == 78
