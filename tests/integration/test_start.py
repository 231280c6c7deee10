"""A start with providers that hang: real agents, which score at once, stop at once, and leave no process behind."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bad_providers import TESTS_DIR
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config
from rig import hooked

HANGS_S = 120


def probes(folder: Path) -> set[int]:
    """Processes in which the agent of this folder tries providers."""
    mark = f"MARK={folder}".encode()
    there: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if b"edge_agent.engine." in command and mark in environment:
            there.add(int(process.name))
    return there


@contextmanager
def agent_with(folder: Path, broker: Broker, bundle: Path, fault: str, engine: str, **env: str) -> Iterator[Agent]:
    """An agent of its own process group, so that a signal to it reaches nobody else."""
    config = write_config(folder, broker.port, {"pump": bundle}, engine=engine)
    environment = {"PYTHONPATH": TESTS_DIR, "MARK": str(folder), **env}
    with Agent(config, command=hooked(fault), env=environment) as agent:
        yield agent


@pytest.mark.alone
@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_end_while_measuring_is_prompt_and_leaves_no_process(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path, how: signal.Signals, code: int
) -> None:
    """The preferred provider hangs for two minutes; the agent has long been at work on the other one."""
    with agent_with(tmp_path, broker, bundle, f"hang={HANGS_S}", 'prefer = ["hanger"]') as agent:
        subscriber.wait_online()
        wait_until(lambda: probes(tmp_path), what="the probe of the provider that hangs")
        wait_until(lambda: subscriber.stream("pump"), what="a health message")
        assert subscriber.stream("pump")["provider"] == "cpu"
        assert subscriber.stream("pump")["engine"]["settled"] is False
        assert agent.process is not None
        asked_mono_s = time.monotonic()
        agent.process.send_signal(how)
        assert agent.process.wait(timeout=20) == code
        assert time.monotonic() - asked_mono_s < 2
    wait_until(lambda: not probes(tmp_path), 2, "the end of the probes")
    assert not list((tmp_path / "state").glob("*.mark")) or how is signal.SIGKILL


def test_what_hung_is_known_to_the_next_start(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """The choice settles beside the loop, and is remembered."""
    with agent_with(tmp_path, broker, bundle, "hang=2", 'prefer = ["hanger"]') as agent:
        wait_until(lambda: subscriber.stream("pump").get("engine", {}).get("settled"), 60, "a settled choice")
        assert "hanger refused (hung: no sign of life in 2 s)" in subscriber.stream("pump")["provider_reason"]
        agent.stop()
        subscriber.health.clear()
        agent.start()
        wait_until(lambda: subscriber.stream("pump"), what="health of the second start")
        assert subscriber.stream("pump")["engine"]["settled"]
        assert subscriber.stream("pump")["engine"]["remembered"]
        assert not probes(tmp_path)


@pytest.mark.alone
def test_a_start_that_has_to_wait_says_so_and_can_be_ended(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """The one provider that may run hangs: the service manager is asked for time, and obeyed."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        notify.settimeout(20)
        fault, engine = f"hang={HANGS_S}", 'require = "hanger"'
        with agent_with(tmp_path, broker, bundle, fault, engine, NOTIFY_SOCKET=str(address)) as agent:
            while (message := notify.recv(4096)).startswith(b"STATUS="):
                pass
            assert message == b"EXTEND_TIMEOUT_USEC=180000000"
            wait_until(lambda: probes(tmp_path), what="the probe")
            asked_mono_s = time.monotonic()
            assert agent.stop() == 0
            assert time.monotonic() - asked_mono_s < 2
            assert "it had not started yet reason='SIGTERM'" in agent.log.read_text()
    assert not probes(tmp_path)


def test_what_was_compiled_for_a_former_bundle_is_gone_with_the_next_start(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """Its evidence stays, for who goes back to it."""
    state = tmp_path / "state"
    former = state / "compiled" / "former" / "openvino"
    former.mkdir(parents=True)
    (former / "1.blob").write_bytes(b"compiled")
    evidence = state / "provider-former.json"
    evidence.write_bytes(b"{}")
    with agent_with(tmp_path, broker, bundle, "hang=0", 'provider = "cpu"'):
        subscriber.wait_online()
        assert not former.exists()
        assert evidence.exists()


@pytest.mark.parametrize(("is_scoring", "provider"), [(True, "cpu"), (False, "crasher")])
def test_a_watchdog_that_ends_the_agent_speaks_against_who_was_at_work(
    tmp_path: Path,
    broker: Broker,
    subscriber: Subscriber,
    sender: Sender,
    bundle: Path,
    *,
    is_scoring: bool,
    provider: str,
) -> None:
    """SIGABRT while a provider does not come back, and while the loop waits for readings."""
    with agent_with(tmp_path, broker, bundle, "crash=sleep:10", 'prefer = ["crasher"]') as agent:
        wait_until(lambda: subscriber.stream("pump").get("provider") == "crasher", 60, "the preferred provider")
        assert agent.process is not None
        if is_scoring:
            for number in range(20):
                sender.send("sensors/a1/pump", b'{"c1": %d, "c2": 0}' % number)
                time.sleep(0.05)
        agent.process.send_signal(signal.SIGABRT)
        assert agent.process.wait(timeout=20) == -signal.SIGABRT
        assert "the last run crashed" not in agent.log.read_text()
        subscriber.health.clear()
        agent.start()
        wait_until(lambda: subscriber.stream("pump"), 60, "health")
        assert subscriber.stream("pump")["provider"] == provider
        assert subscriber.stream("pump")["engine"]["remembered"]
        assert "the last run crashed cause='Aborted'" in agent.log.read_text()
